//! Real processes over real TCP on a real disk: nothing that was acknowledged is lost, whatever is killed.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{PATIENCE, Processes};
use raftkv::api::{ErrorCode, ReadBy};
use raftkv::client::{Client, Error};
use rustix::process::Signal;

/// What a writer knows of one key: the value is at least the last that was acknowledged, at most the last sent.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    acknowledged: u64,
    sent: u64,
}

/// Writes increasing numbers to its own keys until told to stop.
fn write_on(mut client: Client, writer: usize, stop: &AtomicBool, acknowledged: &AtomicU64) -> BTreeMap<String, Known> {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("writer{writer}/{}", number % 7);
        let entry = known.entry(key.clone()).or_default();
        entry.sent = number;
        match client.put(key, number.to_string()) {
            Ok(_) => {
                entry.acknowledged = number;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::OutcomeUnknown { .. } | Error::Unreachable { .. } | Error::Timeout { .. }) => {}
            Err(Error::Refused(error)) => assert!(error.code.worth_a_retry(), "refused for good: {error}"),
            Err(other) => panic!("unexpected: {other}"),
        }
    }
    known
}

/// Waits until `count` more writes were acknowledged.
fn await_acknowledged(acknowledged: &AtomicU64, count: u64) {
    let goal = acknowledged.load(Ordering::Relaxed) + count;
    let deadline = std::time::Instant::now() + PATIENCE;
    while acknowledged.load(Ordering::Relaxed) < goal {
        assert!(std::time::Instant::now() < deadline, "the writers made no progress");
        thread::yield_now();
    }
}

/// 64 writers throughout, while `disturb` does what it likes; then every key on every node is what it must be.
fn under_load(mut cluster: Processes, disturb: impl FnOnce(&mut Processes, &AtomicU64)) {
    let stop = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    let known: BTreeMap<String, Known> = thread::scope(|scope| {
        let (stop, acknowledged) = (&stop, &acknowledged);
        let clients: Vec<Client> = (0..64).map(|_| cluster.client()).collect();
        let writers: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(writer, client)| scope.spawn(move || write_on(client, writer, stop, acknowledged)))
            .collect();
        // Whatever happens, the writers end: a failure here must not hang.
        let disturbed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disturb(&mut cluster, acknowledged)));
        stop.store(true, Ordering::Relaxed);
        let known = writers.into_iter().flat_map(|writer| writer.join().expect("the writer ends well")).collect();
        if let Err(panic) = disturbed {
            std::panic::resume_unwind(panic);
        }
        known
    });
    println!("acknowledged {}, keys {}", acknowledged.load(Ordering::Relaxed), known.len());
    check_every_node(&mut cluster, &known);
}

/// Reads every key through every node, and compares what each node holds on its own disk.
fn check_every_node(cluster: &mut Processes, known: &BTreeMap<String, Known>) {
    cluster.leader();
    cluster.converge();
    for node in 1..=cluster.len() {
        let mut client = cluster.client_of(&[node], PATIENCE);
        for (key, known) in known {
            let found = client.get(key.clone()).expect("a healed cluster answers");
            let value = found.map_or(0, |found| str::from_utf8(&found.value).unwrap().parse::<u64>().unwrap());
            assert!(
                (known.acknowledged..=known.sent).contains(&value),
                "node {node}: {key} is {value}, acknowledged {}, sent {}",
                known.acknowledged,
                known.sent
            );
        }
    }
    for node in 1..=cluster.len() {
        assert_eq!(cluster.stop(node), Some(0), "node {node} did not stop cleanly:\n{}", cluster.log(node));
    }
    let states: Vec<_> = (1..=cluster.len()).map(|node| common::disk_state(&cluster.data_dir(node))).collect();
    for (node, state) in states.iter().enumerate().skip(1) {
        assert_eq!(state, &states[0], "nodes 1 and {} hold different states", node + 1);
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_each_node_is_killed_in_turn_thirty_times() {
    under_load(Processes::start(3), |cluster, acknowledged| {
        for round in 0..30 {
            let node = round % 3 + 1;
            await_acknowledged(acknowledged, 1000);
            cluster.kill(node);
            if round % 2 == 0 {
                // Down for a while: the others must go on.
                await_acknowledged(acknowledged, 100);
            }
            cluster.spawn(node);
            cluster.leader();
        }
    });
}

#[test]
fn a_cluster_of_five_survives_the_loss_of_two() {
    under_load(Processes::start(5), |cluster, acknowledged| {
        for (first, second) in [(1, 2), (3, 4), (5, 1)] {
            await_acknowledged(acknowledged, 300);
            cluster.kill(first);
            cluster.kill(second);
            await_acknowledged(acknowledged, 300);
            cluster.spawn(first);
            cluster.spawn(second);
        }
    });
}

#[test]
fn a_cluster_of_one_comes_back_with_everything() {
    under_load(Processes::start(1), |cluster, acknowledged| {
        for _ in 0..5 {
            await_acknowledged(acknowledged, 300);
            cluster.kill(1);
            cluster.spawn(1);
        }
    });
}

#[test]
fn all_nodes_killed_at_once_come_back() {
    under_load(Processes::start(3), |cluster, acknowledged| {
        for _ in 0..4 {
            await_acknowledged(acknowledged, 1000);
            for node in 1..=3 {
                cluster.signal(node, Signal::KILL);
            }
            for node in 1..=3 {
                cluster.kill(node);
                cluster.spawn(node);
            }
            cluster.leader();
        }
    });
}

#[test]
fn a_leader_that_is_stopped_and_continued_does_no_harm() {
    under_load(Processes::start(3), |cluster, acknowledged| {
        for _ in 0..5 {
            await_acknowledged(acknowledged, 500);
            let leader = cluster.leader();
            cluster.signal(leader, Signal::STOP);
            let others: Vec<usize> = (1..=3).filter(|node| *node != leader).collect();
            // Another one leads, or this does not return.
            let mut client = cluster.client_of(&others, PATIENCE);
            while let Err(error) = client.put("while/stopped", "1") {
                // A write that a node had passed on to the stopped leader; anything else is wrong.
                assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
            }
            cluster.signal(leader, Signal::CONT);
            await_acknowledged(acknowledged, 100);
        }
    });
}

#[test]
fn a_minority_can_not_write_and_reads_nothing_stale() {
    let mut cluster = Processes::start(3);
    cluster.client().put("k", "before").unwrap();
    let leader = cluster.leader();
    for node in (1..=3).filter(|node| *node != leader) {
        cluster.kill(node);
    }
    let mut minority = cluster.client_of(&[leader], Duration::from_secs(2));
    match minority.put("k", "lost") {
        Err(Error::OutcomeUnknown { .. } | Error::Unreachable { .. } | Error::Timeout { .. }) => {}
        Err(Error::Refused(error)) => {
            assert!([ErrorCode::NoLeader, ErrorCode::OutcomeUnknown].contains(&error.code), "{error}");
        }
        other => panic!("a minority answered a write: {other:?}"),
    }
    assert!(minority.get("k").is_err(), "a minority answered a read");
    for node in (1..=3).filter(|node| *node != leader) {
        cluster.spawn(node);
    }
    let value = cluster.client().get("k").unwrap().expect("it was acknowledged").value;
    assert!(["before", "lost"].contains(&str::from_utf8(&value).unwrap()));
}

#[test]
fn every_node_answers_reads_itself_and_shows_what_was_acknowledged_before() {
    let mut cluster = Processes::start(3);
    cluster.leader();
    let mut readers: Vec<Client> = (1..=3).map(|node| cluster.client_of(&[node], PATIENCE)).collect();
    readers.iter_mut().for_each(|reader| reader.set_read_by(ReadBy::Any));
    for round in 0..100_usize {
        // Through one that mostly does not lead: it passes the write on.
        while let Err(error) = readers[round % 3].put("k", round.to_string()) {
            // A busy machine may elect another leader meanwhile; the same write again is as good.
            assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
        }
        for reader in &mut readers {
            let found = reader.get("k").unwrap().expect("it was put");
            assert_eq!(str::from_utf8(&found.value).unwrap(), round.to_string());
            assert_eq!(reader.list("", None, 0).unwrap().keys, ["k"]);
        }
    }
    // Its leader is gone, and so is the other: it has nobody to ask.
    let leader = cluster.leader();
    let left = leader % 3 + 1;
    cluster.kill(leader);
    cluster.kill(left % 3 + 1);
    let mut minority = cluster.client_of(&[left], Duration::from_secs(2));
    minority.set_read_by(ReadBy::Any);
    assert!(minority.get("k").is_err(), "a minority answered a read");
}

#[test]
fn requests_of_one_connection_keep_their_order_though_any_node_answers_the_reads() {
    let mut cluster = Processes::start(3);
    let lines: String = (0..200)
        .map(|round| format!("PUT k {round}\nANY GET k\nGET k\nANY GET k\nANY LIST\n"))
        .chain(["QUIT\n".to_string()])
        .collect();
    let mut converse = || {
        let leader = cluster.leader();
        let mut stream = TcpStream::connect(cluster.address(leader % 3 + 1)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(lines.as_bytes()).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        heard
    };
    // A busy machine may elect another leader meanwhile.
    let heard = (0..10).map(|_| converse()).find(|heard| !heard.contains("ERR ")).expect("a leader lasts for a second");
    let expected: String = (0..200).map(|round| format!("OK\n{round}\n{round}\n{round}\nk\nEND\n")).collect();
    assert_eq!(heard, expected);
}

#[test]
fn a_wiped_directory_follows_along_but_counts_in_no_quorum() {
    let mut cluster = Processes::start(3);
    cluster.client().put("k", "v").unwrap();
    cluster.converge();
    let leader = cluster.leader();
    let wiped = leader % 3 + 1;
    let third = wiped % 3 + 1;
    cluster.kill(wiped);
    std::fs::remove_dir_all(cluster.data_dir(wiped)).unwrap();
    cluster.spawn(wiped);
    cluster.client().put("k", "after the wipe").expect("two sound nodes are a majority");
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        // It catches up, and says that it counts for nothing.
        let cluster = &cluster;
        scope.spawn(move || {
            loop {
                let status = cluster.client_of(&[wiped], PATIENCE).status(&cluster.address(wiped)).ok();
                if status.is_some_and(|status| status.role == raftkv::base::Role::Uncounted && status.revision.0 >= 2) {
                    return sender.send(()).unwrap();
                }
            }
        });
        receiver.recv_timeout(PATIENCE).expect("the wiped node follows along as uncounted");
    });
    assert!(cluster.log(wiped).contains("counts in no quorum"), "it does not say so:\n{}", cluster.log(wiped));
    // One sound node and the wiped one are no majority.
    cluster.kill(third);
    let result = cluster.client_of(&[leader, wiped], Duration::from_secs(2)).put("k", "by a minority");
    assert!(result.is_err(), "a wiped directory was counted: {result:?}");
    cluster.spawn(third);
    cluster.client().put("k", "by a majority").expect("two sound nodes are a majority again");
}
