//! A node as an operator meets it: what it logs, and how it ends.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{PATIENCE, Processes, RAFTKV};
use raftkv::base::limits::DESCRIPTORS_RESERVED;
use raftkv::client::{Client, ClientSettings};
use rustix::process::Signal;

#[test]
fn the_first_line_says_who_and_where_and_warnings_come_behind_it() {
    let mut cluster = Processes::start(1);
    assert_eq!(cluster.stop(1), Some(0));
    fs::set_permissions(cluster.data_dir(1), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(cluster.log_path(1)).unwrap();
    cluster.spawn(1);
    cluster.await_log(1, "ready on", 1);
    let log = cluster.log(1);
    let lines: Vec<&str> = log.lines().collect();
    let address = cluster.address(1);
    let (listens, advertised) = (format!("listening on {address}"), format!("advertised as {address}"));
    let data = format!("data in {}", cluster.data_dir(1).display());
    let version = format!("raftkv {}", env!("CARGO_PKG_VERSION"));
    for said in [&version, "node 1 of cluster 'raftkv'", &listens, &advertised, &data, "connections", "MiB buffered"] {
        assert!(lines[0].contains(said), "the first line does not say {said:?}:\n{log}");
    }
    assert!(lines[1].contains("WARN") && lines[1].contains("mode 755"), "{log}");
    assert!(lines[2].contains(" batches") && lines[2].contains("last entry"), "no counts of the recovery:\n{log}");
}

#[test]
fn roles_are_logged_with_term_and_why_and_peers_when_they_come_and_go() {
    let mut cluster = Processes::start(3);
    let leader = cluster.leader();
    let log = cluster.log(leader);
    let line = log.lines().rfind(|line| line.contains(": leader in term ")).expect(&log);
    let (_, why) = line.split_once(&format!("leader is node {leader}: ")).expect(line);
    assert!(!why.is_empty(), "{line}");
    let follower = leader % 3 + 1;
    cluster.await_log(follower, ": follower in term ", 1);
    let (up, down) = (format!("connected to node {follower}\n"), format!("no connection to node {follower} at "));
    cluster.await_log(leader, &up, 1);
    let (ups, downs) = (cluster.log(leader).matches(&up).count(), cluster.log(leader).matches(&down).count());
    cluster.kill(follower);
    cluster.await_log(leader, &down, downs + 1);
    cluster.spawn(follower);
    cluster.await_log(leader, &up, ups + 1);
}

/// The README's commands listen on 127.0.0.1 and call the peers localhost.
#[test]
fn a_cluster_whose_addresses_are_written_in_two_ways_is_one_cluster_of_three() {
    let mut cluster = Processes::start_as("localhost", 3, &[]);
    cluster.converge();
    let servers: Vec<String> = cluster.ports.iter().map(|port| format!("localhost:{port}")).collect();
    let status = |servers: &[String]| {
        Command::new(RAFTKV).args(["status", "--server", &servers.join(",")]).output().expect("raftkv starts")
    };
    for node in 1..=3 {
        cluster.kill(node);
        cluster.leader();
        let shown = status(&servers);
        let table = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert_eq!((shown.status.code(), table.lines().count()), (Some(0), 4), "{table}");
        assert!(!table.contains('?'), "{table}");
        cluster.spawn(node);
        cluster.leader();
        cluster.converge();
    }
    for node in 1..=3 {
        let log = cluster.log(node);
        for wrong in ["the options name", "but its cluster knows it as", "dialed anew"] {
            assert!(!log.contains(wrong), "node {node} says {wrong:?}:\n{log}");
        }
    }
    cluster.kill(1);
    cluster.kill(2);
    let shown = status(&servers);
    let complaint = String::from_utf8_lossy(&shown.stderr).into_owned();
    // While node 3 still takes itself for the leader there is nothing to complain of.
    assert!(shown.status.success() || complaint.contains("1 of 3 known nodes"), "{complaint}");
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    // A leader that waits for its followers long enough for a write to be under way when it is told to stop.
    let patient = ["--election-timeout-min-ms", "3000", "--election-timeout-max-ms", "4000"];
    let mut cluster = Processes::start_with(3, &patient);
    let leader = cluster.leader();
    cluster.converge();
    let address = cluster.address(leader);
    let last = |cluster: &Processes| cluster.client_of(&[leader], PATIENCE).status(&address).unwrap().last;
    let before = last(&cluster);
    for follower in (1..=3).filter(|node| *node != leader) {
        cluster.kill(follower);
    }
    let mut connection = TcpStream::connect(&address).unwrap();
    connection.write_all(b"PUT k v\n").unwrap();
    while last(&cluster) == before {
        std::thread::yield_now();
    }
    // Both are there when it goes on, so that nothing depends on how fast it is.
    cluster.signal(leader, Signal::STOP);
    cluster.signal(leader, Signal::TERM);
    cluster.signal(leader, Signal::INT);
    cluster.signal(leader, Signal::CONT);
    let status = cluster.end(leader);
    assert!([Some(128 + 15), Some(128 + 2)].contains(&status), "{status:?}:\n{}", cluster.log(leader));
    assert!(!cluster.log(leader).contains(": stopped\n"), "it stopped cleanly:\n{}", cluster.log(leader));
}

/// A node of its own behind `first`, which a shell does before it becomes the node. `$0` is the program.
struct Limited {
    directory: tempfile::TempDir,
    address: String,
    child: Child,
}

impl Limited {
    fn start(first: &str) -> Limited {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let address = format!("127.0.0.1:{}", common::free_ports(1)[0]);
        let data = directory.path().join("data").display().to_string();
        let node = ["node", "--id", "1", "--segment-mib", "4", "--listen", &address, "--data-dir", &data];
        let child = Command::new("sh")
            .args(["-c", &format!("{first} && exec \"$0\" \"$@\""), RAFTKV])
            .args(node)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh starts");
        Limited { directory, address, child }
    }

    fn client(&self) -> Client {
        Client::new(vec![self.address.clone()], ClientSettings { timeout: PATIENCE, ..ClientSettings::default() })
    }

    /// Exit status and log, once it has ended.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.child.stderr.take().expect("it is piped").read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }

    fn stop(self) -> (Option<i32>, String) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.end()
    }
}

#[test]
fn a_disk_that_takes_nothing_more_is_exit_status_12_and_one_line() {
    // A file may have 64 KiB; what passes it is an error, not a signal.
    let (status, log) = Limited::start("trap '' XFSZ && ulimit -f 128").end();
    assert_eq!((status, log.lines().count()), (Some(12), 1), "{log}");
    assert!(log.contains("data directory ") && log.contains("wal/"), "it does not say where: {log}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_write_that_fails_is_not_acknowledged_and_ends_the_node_with_exit_status_12() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let node = Limited::start("trap '' XFSZ");
    let mut client = node.client();
    client.put("k", "before").unwrap();
    // What a new cluster writes besides its log is written: only the log is left to fail.
    let data = node.directory.path().join("data");
    let recorded = || fs::read_to_string(data.join("identity")).is_ok_and(|identity| !identity.contains("cluster: -"));
    let deadline = std::time::Instant::now() + PATIENCE;
    while !recorded() {
        assert!(std::time::Instant::now() < deadline, "the cluster's id is not recorded");
        std::thread::yield_now();
    }
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    prlimit(Some(Pid::from_child(&node.child)), Resource::Fsize, nothing).unwrap();
    let settings = ClientSettings { timeout: Duration::from_secs(5), ..ClientSettings::default() };
    let lost = Client::new(vec![node.address.clone()], settings).put("k", "after");
    assert!(lost.is_err(), "what is not on disk was acknowledged: {lost:?}");
    let (status, log) = node.end();
    assert_eq!(status, Some(12), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("write-ahead log failed") && last.contains("what was acknowledged is safe"), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one_which_bounds_connections() {
    let node = Limited::start("ulimit -Sn 100 && ulimit -Hn 500");
    node.client().put("k", "v").expect("it runs");
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect(&limits);
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["500", "500"], "{files}");
    let (status, log) = node.stop();
    assert_eq!(status, Some(0), "{log}");
    let bound = format!("at most {} connections", 500 - DESCRIPTORS_RESERVED);
    assert!(log.lines().next().is_some_and(|line| line.contains(&bound)), "not {bound:?}: {log}");

    let (status, log) = Limited::start(&format!("ulimit -n {DESCRIPTORS_RESERVED}")).end();
    assert_eq!((status, log.lines().count()), (Some(10), 1), "{log}");
    assert!(log.contains("raise it (ulimit -n)"), "{log}");
}
