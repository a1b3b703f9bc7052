//! Disks that are full, that fail, and that rot.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::common::{self, PATIENCE, Processes, RAFTKV};
use crate::load::{Figures, Load, Progress, report_rounds, under_load};
use crate::secluded::{self, shell};

/// What a node says when it ends for its disk.
const INPUT_OR_OUTPUT_FAILED: Option<i32> = Some(12);

fn last_line(cluster: &Processes, node: usize) -> String {
    cluster.log(node).lines().last().unwrap_or_default().to_string()
}

// ---- full ------------------------------------------------------------------------------------------------------

/// Room for a few segments of 4 MiB and what is left free for small files.
const SMALL_MIB: usize = 28;
const SMALL: usize = 1;

/// Waits until the small disk is full: the node says so, or it has ended as it should.
fn await_full(cluster: &mut Processes, progress: &Progress) {
    let deadline = Instant::now() + PATIENCE;
    let client = cluster.client_of(&[SMALL], PATIENCE);
    let complains =
        |cluster: &Processes| client.status(&cluster.address(SMALL)).is_ok_and(|status| !status.problems.is_empty());
    while cluster.is_running(SMALL) && !complains(cluster) {
        assert!(Instant::now() < deadline, "the disk of node {SMALL} does not fill");
        progress.await_acknowledged(10);
    }
}

/// Ends well, or as one ends whose append had no room.
fn reap_full(cluster: &mut Processes) {
    if !cluster.is_running(SMALL) {
        assert_eq!(cluster.end(SMALL), INPUT_OR_OUTPUT_FAILED, "{}", cluster.log(SMALL));
        let last = last_line(cluster, SMALL);
        assert!(last.contains("No space left"), "it does not say what failed: {last}");
    }
}

/// Node 1 gets a small disk, which fills up and then becomes larger.
fn fill() -> Figures {
    let mut cluster = Processes::prepare(3);
    let directory = cluster.data_dir(SMALL);
    fs::create_dir(&directory).unwrap();
    shell(&format!("mount -t tmpfs -o size={SMALL_MIB}m,mode=700 none {}", directory.display()));
    // It never leads while the others live: a leader that has no room may refuse writes for all.
    let patient = ["--election-timeout-min-ms", "20000", "--election-timeout-max-ms", "30000"];
    cluster.add_options(SMALL, &patient);
    cluster.start_all();
    let load = Load { value_bytes: 32 * 1024, ..Load::default() };
    let figures = under_load(load, cluster, |cluster, progress| {
        await_full(cluster, progress);
        progress.await_acknowledged(300);
        reap_full(cluster);
        shell(&format!("mount -o remount,size={}m {}", 4 * SMALL_MIB, directory.display()));
        cluster.start_all();
        progress.await_acknowledged(100);
        1
    });
    shell(&format!("umount {}", directory.display()));
    figures
}

#[test]
fn a_full_disk_of_one_node_holds_up_nobody_and_with_room_it_comes_back() {
    const NAME: &str = "disks::a_full_disk_of_one_node_holds_up_nobody_and_with_room_it_comes_back";
    let _alone = crate::alone();
    secluded::run(NAME, secluded::MOUNTS, || report_rounds("full disk", "times full", fill));
}

// ---- failing ---------------------------------------------------------------------------------------------------

/// The nth such system call of each thread says that it failed.
fn injection(call: &str, nth: usize) -> String {
    format!("inject={call}:error=EIO:when={nth}")
}

/// Under strace from now on; the node's end is its end too.
fn fail_call_of(cluster: &mut Processes, node: usize, call: &str, nth: usize) {
    let pid = cluster.pid(node).as_raw_nonzero().to_string();
    let mut tracer = Command::new("strace")
        .args(["-f", "-e", &format!("trace={call}"), "-e", &injection(call, nth), "-p", &pid, "-o", "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace starts");
    assert!(common::attached(&mut tracer), "strace can't attach to node {node}");
    ended_by_its_disk(cluster, node, if call == "fdatasync" { "sync" } else { "write" });
    tracer.wait().expect("strace ends");
}

fn ended_by_its_disk(cluster: &mut Processes, node: usize, doing: &str) {
    assert_eq!(cluster.end(node), INPUT_OR_OUTPUT_FAILED, "node {node}:\n{}", cluster.log(node));
    let last = last_line(cluster, node);
    assert!(last.contains(doing) && last.contains("Input/output error"), "it does not say what failed: {last}");
}

/// Each node has an fdatasync or a batch's write fail while it runs, the leader first, and the first fdatasyncs of a
/// start.
fn failures(cluster: &mut Processes, progress: &Progress) -> u64 {
    let leader = cluster.leader();
    let [second, third] = [leader % 3 + 1, (leader + 1) % 3 + 1];
    for (node, call, nth) in [(leader, "fdatasync", 20), (second, "pwrite64", 7), (third, "fdatasync", 1)] {
        progress.await_acknowledged(100);
        fail_call_of(cluster, node, call, nth);
        progress.await_acknowledged(100);
        cluster.spawn(node);
        cluster.leader();
    }
    for nth in 1..=4 {
        let node = nth % 3 + 1;
        progress.await_acknowledged(100);
        cluster.kill(node);
        // As a grandchild, so that the node itself is ours to wait for.
        let strace = [
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync",
            "-e",
            &injection("fdatasync", nth),
        ];
        cluster.put_before(node, &strace);
        cluster.spawn(node);
        ended_by_its_disk(cluster, node, "sync");
        cluster.put_before(node, &[]);
        cluster.spawn(node);
        cluster.leader();
    }
    7
}

#[test]
fn a_node_whose_write_or_fdatasync_fails_ends_and_what_was_acknowledged_is_there_after_its_restart() {
    const NAME: &str =
        "disks::a_node_whose_write_or_fdatasync_fails_ends_and_what_was_acknowledged_is_there_after_its_restart";
    let _alone = crate::alone();
    if !common::has("strace", "-V") {
        return common::skip(NAME, "there is no strace (apt-get install strace)");
    }
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|output| output.status.success()) {
        return common::skip(NAME, "strace may not trace here (ptrace is not permitted)");
    }
    report_rounds("fdatasync", "failures", || under_load(Load::default(), Processes::start(3), failures));
}

// ---- rotten ----------------------------------------------------------------------------------------------------

const BLOCK: u64 = 4096;
const WRITTEN_BEFORE: usize = 40;

/// Flips a bit of the batch in `block` of the first segment.
fn flip(data_dir: &Path, block: usize) {
    let segment = data_dir.join("wal/0000000000000001.seg");
    let file = OpenOptions::new().read(true).write(true).open(segment).expect("a node has a first segment");
    let (at, mut byte) = (block as u64 * BLOCK + 100, [0]);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

fn await_health(cluster: &Processes) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let census = cluster.client().census();
        let sound = census.nodes.iter().filter(|seen| {
            let status = seen.status.as_ref();
            status.is_ok_and(|status| status.problems.is_empty() && status.leader.is_some())
        });
        if sound.count() == cluster.len() {
            return;
        }
        assert!(Instant::now() < deadline, "not all nodes become sound: {census:#?}");
    }
}

/// Exit status and output of a command on all nodes.
fn command(cluster: &Processes, name: &str) -> (Option<i32>, String) {
    let output = Command::new(RAFTKV).args([name, "--server", &cluster.addresses().join(",")]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

/// Three places of each node, no two nodes in the same entry; how many bits that were.
fn rot() -> Figures {
    let mut cluster = Processes::start(3);
    // One after another, each in a batch of its own on every node.
    let mut client = cluster.client();
    for number in 0..WRITTEN_BEFORE {
        client.put(format!("before/{number}"), format!("value {number}")).unwrap();
    }
    cluster.converge();
    under_load(Load::default(), cluster, |cluster, progress| {
        progress.await_acknowledged(300);
        (1..=3).for_each(|node| cluster.kill(node));
        for node in 1..=3 {
            [4, 14, 24].into_iter().for_each(|block| flip(&cluster.data_dir(node), block + node));
        }
        cluster.start_all();
        progress.await_acknowledged(100);
        await_health(cluster);
        for number in 0..WRITTEN_BEFORE {
            let found = client.get(format!("before/{number}")).unwrap().expect("it was acknowledged");
            assert_eq!(found.value, format!("value {number}"));
        }
        for node in 1..=3 {
            assert!(cluster.log(node).contains("damage"), "node {node} found nothing:\n{}", cluster.log(node));
        }
        let (status, table) = command(cluster, "status");
        assert!(status == Some(0) && !table.contains("suspect") && !table.contains("damage"), "{table}");
        let (status, text) = command(cluster, "scrub");
        assert_eq!((status, text.matches("no damage").count()), (Some(0), 3), "{text}");
        9
    })
}

#[test]
fn bits_that_rot_in_other_places_of_every_stopped_node_are_all_repaired() {
    let _alone = crate::alone();
    report_rounds("rot", "bits flipped", rot);
}
