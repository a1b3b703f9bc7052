//! Nodes that get a part of a core only, and more to do than they can.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use raftkv::base::Term;

use crate::common::{self, PATIENCE, Processes};
use crate::load::{Figures, Load, report_rounds, under_load};

/// Of each node: a tenth of a core, in the slices that containers get. A node that has used it up stands still for up
/// to nine tenths of a period, more than a heartbeat and less than an election timeout.
const QUOTA_US: u64 = 10_000;
const PERIOD_US: u64 = 100_000;
/// How often the nodes must have used it up before the load counts as full.
const TIMES_USED_UP: u64 = 30;

/// A control group whose processes share a quota. It goes with the last use of this, once they have ended.
struct Quota(PathBuf);

impl Quota {
    /// Under whichever version of control groups there is.
    fn make(name: &str) -> Result<Quota, String> {
        let unified = Path::new("/sys/fs/cgroup");
        let root = if unified.join("cgroup.controllers").exists() { unified.into() } else { unified.join("cpu") };
        let quota = Quota(root.join(format!("raftkv-{}-{name}", std::process::id())));
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        fs::create_dir(&quota.0).map_err(|error| failed(&quota.0, error))?;
        let write = |file: &str, text: String| {
            let path = quota.0.join(file);
            fs::write(&path, text).map_err(|error| failed(&path, error))
        };
        if quota.0.join("cpu.max").exists() {
            write("cpu.max", format!("{QUOTA_US} {PERIOD_US}"))?;
        } else {
            write("cpu.cfs_period_us", PERIOD_US.to_string())?;
            write("cpu.cfs_quota_us", QUOTA_US.to_string())?;
        }
        Ok(quota)
    }

    /// In how many periods its processes used it up and had to wait.
    fn times_used_up(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("cpu.stat")).expect("a group has its figures");
        let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).expect("it counts them");
        line.parse().expect("it is a number")
    }

    fn members(&self) -> String {
        self.0.join("cgroup.procs").display().to_string()
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Nothing depends on it; the name is this process's.
        let _ = fs::remove_dir(&self.0);
    }
}

/// As each node knows it.
fn terms(cluster: &Processes) -> Vec<Term> {
    let status = |node| cluster.client_of(&[node], PATIENCE).status(&cluster.address(node)).expect("it answers");
    (1..=cluster.len()).map(|node| status(node).term).collect()
}

/// More clients than the nodes can serve; how often a node had used up its quota.
fn at_full_load(quotas: &[Quota]) -> Figures {
    let mut cluster = Processes::prepare(3);
    for (node, quota) in (1..).zip(quotas) {
        let enter = "echo $$ > \"$0\" && exec \"$@\"";
        cluster.put_before(node, &["sh", "-c", enter, &quota.members()]);
    }
    cluster.start_all();
    cluster.converge();
    let load = Load { clients: 32, timeout: PATIENCE, ..Load::default() };
    let used_up = || quotas.iter().map(Quota::times_used_up).sum::<u64>();
    under_load(load, cluster, |cluster, progress| {
        let (terms_before, used_up_before) = (terms(cluster), used_up());
        let deadline = Instant::now() + PATIENCE;
        while used_up() < used_up_before + TIMES_USED_UP {
            assert!(Instant::now() < deadline, "the nodes don't use up their quota: this is no full load");
            progress.await_acknowledged(100);
        }
        assert_eq!(terms(cluster), terms_before, "a leader was lost to the load");
        used_up() - used_up_before
    })
}

#[test]
fn a_tenth_of_a_core_at_full_load_changes_no_term() {
    const NAME: &str = "quota::a_tenth_of_a_core_at_full_load_changes_no_term";
    let _alone = crate::alone();
    let quotas: Result<Vec<Quota>, String> = (1..=3).map(|node| Quota::make(&format!("node{node}"))).collect();
    let quotas = match quotas {
        Ok(quotas) => quotas,
        Err(why) => return common::skip(NAME, &format!("no control group with a quota can be made here: {why}")),
    };
    report_rounds("quota", "periods used up", || at_full_load(&quotas));
}
