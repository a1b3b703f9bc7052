//! Memory with many keys, and how long a start takes with them: raftkv beside Redis with the same keys.
//!
//! Everything is killed (kill -9), so that the log is all that a start has. A cluster's first answer is that to a
//! linearizable read: all that is committed is applied then.

use std::io;
use std::time::{Duration, Instant};

use loadgen::driver::{Driver, Settings, Until};
use loadgen::link::Protocol;
use loadgen::plan::{Distribution, Mixer, Plan};
use loadgen::report::Report;
use raftkv::api::Status;
use raftkv::client::{Client, ClientSettings};
use serde_json::Value;
use tempfile::TempDir;

use super::Setup;
use super::results::{Compared, Results};
use super::stages::{counted, fill};
use crate::systems::{Running, System};

/// As --only knows it, and above its table.
pub const NAME: &str = "memory and restart";

/// Between two tries to get an answer: what it is measured to.
const TRY_AGAIN: Duration = Duration::from_millis(2);
/// For a start.
const PATIENCE: Duration = Duration::from_secs(600);

const RESIDENT: &str = "resident memory (of raftkv, the largest node), MB";
const RESIDENT_AGAIN: &str = "the same after a restart, MB";
const FIRST_ANSWER: &str = "kill -9 of all, start: first answer to a read, ms";
const ONE_SPEAKS: &str = "kill -9 of one node, start: it says its status, ms";
const ONE_CAUGHT_UP: &str = "kill -9 of one node, start: it has applied all, ms";

pub struct Restart {
    keys: u64,
    raftkv: Running,
    redis: Option<Running>,
    was_measured: bool,
    /// Goes last.
    _directory: TempDir,
}

impl Restart {
    pub fn prepare(setup: &Setup<'_>) -> io::Result<Restart> {
        let directory = tempfile::Builder::new().prefix("restart").tempdir_in(setup.directory)?;
        let keys = setup.arguments.stored_keys;
        let raftkv = Running::start(System::Raftkv, setup.programs, directory.path())?;
        fill(&raftkv, keys)?;
        let redis = match &setup.programs.redis {
            Some(_) => Some(Running::start(System::Redis, setup.programs, directory.path())?),
            None => {
                eprintln!("compare: Redis is left out: it is not installed");
                None
            }
        };
        redis.as_ref().map_or(Ok(()), |redis| fill(redis, keys))?;
        Ok(Restart { keys, raftkv, redis, was_measured: false, _directory: directory })
    }

    pub fn run(&mut self, results: &mut Results) -> io::Result<()> {
        if !std::mem::replace(&mut self.was_measured, true) {
            self.weigh(RESIDENT, results);
        }
        let redis = self.redis.as_mut().map(|redis| first_answer(redis, Protocol::Resp, self.keys)).transpose()?;
        let raftkv = first_answer(&mut self.raftkv, Protocol::Frames, self.keys)?;
        self.add(FIRST_ANSWER, Some(raftkv), redis, Some(1.0), results);
        self.weigh(RESIDENT_AGAIN, results);
        let (speaks, caught_up) = self.restart_a_follower()?;
        self.add(ONE_SPEAKS, Some(speaks), None, None, results);
        self.add(ONE_CAUGHT_UP, Some(caught_up), None, None, results);
        eprintln!("{}: {FIRST_ANSWER}: {raftkv:.0}", NAME);
        Ok(())
    }

    fn weigh(&self, what: &'static str, results: &mut Results) {
        let megabytes = |running: &Running| running.resident_bytes().into_iter().reduce(f64::max).map(|it| it / 1e6);
        let at_most = (what == RESIDENT).then_some(1.0);
        self.add(what, megabytes(&self.raftkv), self.redis.as_ref().and_then(megabytes), at_most, results);
    }

    fn add(&self, what: &str, raftkv: Option<f64>, redis: Option<f64>, at_most: Option<f64>, results: &mut Results) {
        results.compare(Compared {
            what: format!("{}: {what}", counted(self.keys, "keys")),
            raftkv: raftkv.into_iter().collect(),
            redis: redis.into_iter().collect(),
            at_most,
        });
    }

    /// A node that does not lead, while the others go on. Milliseconds until it answers, and until it has all.
    fn restart_a_follower(&mut self) -> io::Result<(f64, f64)> {
        let census = Client::new(self.raftkv.addresses.clone(), ClientSettings::default()).census();
        let leader = census.leader().ok_or_else(|| io::Error::other("the cluster has no leader"))?;
        let commit = leader.status.as_ref().map(|status| status.commit).unwrap_or_default();
        let at = self.raftkv.addresses.iter().position(|address| *address != leader.address).unwrap_or(0);
        self.raftkv.kill(at);
        let begun = Instant::now();
        self.raftkv.start_again(at)?;
        let address = &self.raftkv.addresses[at];
        let speaks = until(begun, || status(address).is_some())?;
        let caught_up = until(begun, || status(address).is_some_and(|status| status.applied >= commit))?;
        Ok((speaks, caught_up))
    }
}

/// Kills all processes, starts them again, and asks until a read is answered: milliseconds since the start.
fn first_answer(running: &mut Running, protocol: Protocol, keys: u64) -> io::Result<f64> {
    (0..running.processes()).for_each(|at| running.kill(at));
    let begun = Instant::now();
    (0..running.processes()).try_for_each(|at| running.start_again(at))?;
    until(begun, || is_read(&running.addresses[0], protocol, keys).unwrap_or(false))
}

/// Milliseconds since `begun` until `is_so`.
fn until(begun: Instant, is_so: impl Fn() -> bool) -> io::Result<f64> {
    while !is_so() {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("no answer {} s after a restart", PATIENCE.as_secs())));
        }
        std::thread::sleep(TRY_AGAIN);
    }
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

/// Whether one read, asked now, is answered.
fn is_read(address: &str, protocol: Protocol, keys: u64) -> io::Result<bool> {
    let plan = Plan { keys, value_bytes: 1, distribution: Distribution::Uniform, read_share: 1.0, seed: 1, run: None };
    let (addresses, timeout) = (vec![address.to_string()], Duration::from_secs(10));
    let settings = Settings { addresses, leader: None, connections: 1, depth: 1, rate: None, protocol, timeout };
    let (mut mixer, mut report) = (Mixer::new(plan), Report::default());
    let elapsed = Driver::new(settings, &mut mixer, &mut report, Until::Count(1))?.run(|_| ())?;
    Ok(report.json(Value::Null, elapsed)["reads"]["count"] == 1)
}

fn status(address: &str) -> Option<Status> {
    let timeout = Duration::from_secs(1);
    let settings = ClientSettings { timeout, dial_timeout: timeout, ..ClientSettings::default() };
    Client::new(vec![address.to_string()], settings).status(address).ok()
}
