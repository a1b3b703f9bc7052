//! Where the time of requests goes, from real nodes, as an operator and a program ask for it.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Instant;

use common::{PATIENCE, Processes, RAFTKV};
use raftkv::api::{Latency, Percentiles, StageLatency};
use raftkv::base::{NodeId, Stage};

/// Writes before anything is asked.
const WRITES: u64 = 50;

fn status(servers: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(RAFTKV);
    command.args(["status", "--latency", "--timeout-ms", "60000", "--server", servers]).args(arguments);
    command.env_remove("RAFTKV_SERVERS").output().expect("the program runs")
}

/// What `node` says once it knows all that `WRITES` writes through it must have left. The figures come when turns end,
/// which may be after the answers.
fn measured(cluster: &Processes, node: usize, peers: &[usize]) -> Latency {
    let (client, deadline) = (cluster.client(), Instant::now() + PATIENCE);
    loop {
        let latency = client.latency(&cluster.address(node)).expect("it measures");
        let total = |stage| latency.stages.iter().find(|said| said.stage == stage).map_or(0, |said| said.total.count);
        let of_requests = [Stage::Decode, Stage::InboxWait, Stage::CommitToApply, Stage::ApplyToReply];
        let acks = latency.stages.iter().filter(|said| said.stage == Stage::SendToAck && said.total.count > 0);
        let from: Vec<usize> = acks.filter_map(|said| said.peer).map(|peer| peer.get() as usize).collect();
        let batches = [Stage::AppendToDurable, Stage::Fsync].into_iter().all(|stage| total(stage) > 0);
        if of_requests.into_iter().all(|stage| total(stage) >= WRITES) && batches && from == peers {
            return latency;
        }
        assert!(Instant::now() < deadline, "node {node} never measures it all: {latency:#?}");
        std::thread::yield_now();
    }
}

fn check(said: &StageLatency) {
    let Percentiles { count, p50, p90, p99, p999, max } = said.total;
    assert!(p50 <= p90 && p90 <= p99 && p99 <= p999 && p999 <= max, "{said:?}");
    assert!(count == 0 || !max.is_zero() || said.stage == Stage::InboxWait, "{said:?}");
    assert!(said.lately.count <= count && said.lately.max <= max, "{said:?}");
}

#[test]
fn every_stage_of_writes_is_measured_and_shown() {
    let mut cluster = Processes::start(3);
    let leader = cluster.leader();
    let mut client = cluster.client_of(&[leader], PATIENCE);
    for write in 0..WRITES {
        client.put(format!("k{write}"), "v").expect("a majority is up");
    }
    let followers: Vec<usize> = (1..=3).filter(|node| *node != leader).collect();
    let latency = measured(&cluster, leader, &followers);
    assert_eq!(latency.id, NodeId::new(leader as u32).unwrap());
    latency.stages.iter().for_each(check);
    let longest = |stage| latency.stages.iter().find(|said| said.stage == stage).unwrap().total.max;
    assert!(longest(Stage::Fsync) <= longest(Stage::AppendToDurable), "an fsync is within an append: {latency:#?}");

    // The cluster's view, from one of its nodes, the leader first; then that one alone.
    let shown = status(&cluster.address(followers[0]), &[]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.status.code(), Some(0), "{text}");
    assert!(text.starts_with(&format!("node {leader} at ")), "{text}");
    assert_eq!(text.matches(", in the last minute:\nSTAGE ").count(), 3, "{text}");
    assert_eq!(text.matches(", since its start:\nSTAGE ").count(), 3, "{text}");
    assert!(text.contains(&format!("\nsend to ack of node {}  ", followers[1])), "{text}");
    let shown = status(&cluster.address(followers[0]), &["--only", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let nodes = json["nodes"].as_array().unwrap();
    assert_eq!((nodes.len(), &nodes[0]["id"], &nodes[0]["role"]), (1, &followers[0].into(), &"follower".into()));
    let fsync = nodes[0]["stages"].as_array().unwrap().iter().find(|said| said["stage"] == "fsync").unwrap();
    assert!(fsync["total"]["p50_ns"].as_u64().unwrap() <= fsync["total"]["max_ns"].as_u64().unwrap(), "{fsync}");

    let mut stream = TcpStream::connect(cluster.address(leader)).unwrap();
    stream.write_all(b"STATUS LATENCY\n").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let lines: Vec<String> =
        BufReader::new(stream).lines().map(|line| line.unwrap()).take_while(|line| line != "END").collect();
    assert_eq!(lines.len(), 1 + 2 * latency.stages.len(), "{lines:?}");
    assert!(lines[2].starts_with("decode, total: count "), "{lines:?}");
}

#[test]
fn a_node_that_was_started_not_to_measure_says_so() {
    let cluster = Processes::start_with(1, &["--no-stages"]);
    let shown = status(&cluster.address(1), &[]);
    let said = String::from_utf8(shown.stderr).unwrap();
    assert_eq!((shown.status.code(), shown.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("was started not to measure"), "{said}");
}
