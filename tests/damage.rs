//! Embedded nodes on disks that lose what they held: everything comes back by itself, from the other nodes.

mod common;

use common::PATIENCE;
use common::embedded::{Embedded, says};
use raftkv::api::Status;
use raftkv::base::{Entry, EntryKind, LogIndex, NodeId, PersistSeq, Term};
use raftkv::disk::{Wal, WalSettings};
use raftkv::node::settings::Tuning;
use raftkv::raft::Persist;

const LOG: &str = "wal/0000000000000001.seg";
const BLOCK: usize = 4096;
const KEYS: usize = 40;

const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Three nodes that all hold `KEYS` acknowledged writes, each in a batch of its own.
fn start() -> Embedded {
    start_nodes(3)
}

fn start_nodes(count: u32) -> Embedded {
    let tuning = Tuning { segment_bytes: SEGMENT_BYTES, scrub_interval: None, ..Tuning::default() };
    let nodes = Embedded::start_nodes(count, tuning, 7);
    let leader = nodes.leader();
    let mut client = nodes.cluster.client(leader);
    for key in 0..KEYS {
        client.put(format!("k{key}"), value_of(key)).unwrap();
        // In a batch of its own, in the log of each node: what is damaged is known then.
        for id in nodes.cluster.ids() {
            let is_written =
                || log_of(&nodes, id).windows(value_of(key).len()).any(|bytes| bytes == value_of(key).as_bytes());
            nodes.await_status(id, "the put on its disk", |_| is_written());
        }
    }
    let last = nodes.status(leader).last;
    for id in nodes.cluster.ids() {
        nodes.await_status(id, "everything applied", |status| status.applied >= last);
    }
    nodes
}

fn value_of(key: usize) -> String {
    format!("the value of key {key}.")
}

fn assert_everything_is_there(nodes: &Embedded) {
    let mut client = nodes.cluster.client(nodes.leader());
    client.set_timeout(PATIENCE);
    for key in 0..KEYS {
        let found = client.get(format!("k{key}")).unwrap().expect("it was acknowledged");
        assert_eq!(found.value, value_of(key));
    }
}

fn log_of(nodes: &Embedded, id: NodeId) -> Vec<u8> {
    nodes.disks[&id].contents(LOG).unwrap()
}

/// The sectors of the batch in block `block` of the log read as something else from now on.
fn damage(nodes: &Embedded, id: NodeId, block: usize, byte: u8) {
    let at = block * BLOCK + 100;
    nodes.disks[&id].alter(LOG, at, &[log_of(nodes, id)[at] ^ byte]);
}

/// Nothing is wrong with the node, and its log is what it was, to the last bit.
fn await_healed(nodes: &Embedded, id: NodeId, before: &[u8]) {
    nodes.await_status(id, "soundness", |status| status.problems.is_empty());
    let written = 40 * BLOCK;
    assert!(log_of(nodes, id)[..written] == before[..written], "node {id} holds what it held");
    // It goes after the node calls itself sound, on another thread.
    let is_marked = || nodes.disks[&id].files().contains(&"suspect".to_string());
    nodes.await_status(id, "no mark on its disk", |_| !is_marked());
}

#[test]
fn every_node_damaged_in_a_different_entry_comes_back_by_itself() {
    let mut nodes = start();
    let all = nodes.cluster.ids();
    let before: Vec<Vec<u8>> = all.iter().map(|id| log_of(&nodes, *id)).collect();
    nodes.lose_power(&all);
    for id in &all {
        damage(&nodes, *id, 5 + 7 * id.get() as usize, 0x40);
    }
    for id in &all {
        nodes.cluster.restart(*id).expect("a damaged node starts");
        if *id == all[0] {
            // Alone it can't get back what it lost.
            nodes.await_status(*id, "knowing its damage", |status| says(status, "its disk has lost"));
        }
    }
    assert_everything_is_there(&nodes);
    for (id, before) in all.iter().zip(before) {
        await_healed(&nodes, *id, &before);
    }
}

#[test]
fn a_bit_flipped_under_a_running_node_is_found_and_refilled_without_a_restart() {
    let nodes = start();
    let (leader, follower) = nodes.leader_and_follower();
    // A follower asks the others for what it lost; the leader finds it in its memory.
    for id in [follower, leader] {
        let before = log_of(&nodes, id);
        damage(&nodes, id, 20, 1);
        let asked = nodes.cluster.scrub(id, PATIENCE).expect("the node answers");
        let done = nodes.await_status(id, "the end of the pass", |status| status.scrub.passes > asked.scrub.passes);
        assert_eq!(done.scrub.damaged, 1, "{done:?}");
        await_healed(&nodes, id, &before);
        let again = nodes.cluster.scrub(id, PATIENCE).expect("the node answers");
        let done = nodes.await_status(id, "the second pass", |status| status.scrub.passes > again.scrub.passes);
        assert_eq!(done.scrub.damaged, 1, "nothing is damaged any more");
    }
    assert_everything_is_there(&nodes);
}

#[test]
fn a_node_whose_log_lost_its_end_is_sound_again_once_it_has_what_the_leader_has() {
    let mut nodes = start();
    let (leader, follower) = nodes.leader_and_follower();
    nodes.cluster.kill(follower);
    // The last batch, first sector and all.
    let bytes = log_of(&nodes, follower);
    let last = bytes.chunks(BLOCK).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap();
    nodes.disks[&follower].alter(LOG, last * BLOCK, &[0x5a; 512]);
    let others: Vec<NodeId> = nodes.cluster.ids().into_iter().filter(|id| *id != follower).collect();
    others.iter().for_each(|other| nodes.cluster.cut(*other, follower));
    nodes.cluster.restart(follower).expect("a damaged node starts");
    nodes.await_status(follower, "knowing its damage", |status| says(status, "lost the end of its log"));
    nodes.cluster.heal();
    let is_sound = |status: &Status| status.problems.is_empty() && status.leader.is_some();
    let healed = nodes.await_status(follower, "soundness", is_sound);
    assert!(healed.last >= nodes.status(leader).commit);
    assert_everything_is_there(&nodes);
}

/// The next start refuses such a log; what the node holds in memory is the others' until then.
#[test]
fn a_running_node_whose_log_is_damaged_beyond_repair_says_so_and_goes_on() {
    let nodes = start();
    let leader = nodes.leader();
    for block in 20..=21 {
        damage(&nodes, leader, block, 1);
    }
    nodes.cluster.scrub(leader, PATIENCE).expect("the node answers");
    let done = nodes.await_status(leader, "the end of the pass", |status| status.scrub.passes > 0);
    assert!(says(&done, "damaged beyond repair"), "{done:?}");
    assert_everything_is_there(&nodes);
    nodes.assert_all_run();
}

/// What a node that is down has written since `before` its log's end: each of `batches` holds so many entries.
fn append(nodes: &Embedded, id: NodeId, (term, last): (Term, LogIndex), batches: &[u64]) {
    let settings = WalSettings { segment_bytes: SEGMENT_BYTES, ..WalSettings::default() };
    let mut wal = Wal::open(nodes.disks[&id].attach(), settings, None).unwrap().wal;
    let mut index = last;
    for entries in batches {
        let mut entry = || {
            index = index.next();
            Entry { index, term, kind: EntryKind::Noop, data: Default::default() }
        };
        let entries = (0..*entries).map(|_| entry()).collect();
        wal.persist(&[Persist { seq: PersistSeq(0), cut_from: None, hard_state: None, entries, messages: Vec::new() }])
            .unwrap();
    }
}

/// The others have the first entry of it, and nobody has the second. Neither the one that comes back nor the one that
/// never will may keep the node from being sound.
#[test]
fn a_batch_that_others_have_only_a_part_of_comes_back_as_far_as_it_counts() {
    for count in [2, 3] {
        let mut nodes = start_nodes(count);
        let all = nodes.cluster.ids();
        let status = nodes.status(nodes.leader());
        let end = (status.term, status.last);
        all.iter().for_each(|id| nodes.cluster.kill(*id));
        append(&nodes, all[0], end, &[2, 1]);
        append(&nodes, all[1], end, &[1]);
        let written = log_of(&nodes, all[0]);
        let last = written.chunks(BLOCK).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap();
        damage(&nodes, all[0], last - 1, 1);
        for id in &all {
            nodes.cluster.restart(*id).expect("a damaged node starts");
        }
        for id in &all {
            // Of two that are not sure of their ends the one that leads says so for as long as it does.
            let is_history = |problem: &String| problem.contains("by the votes of all");
            let is_sound = |status: &Status| status.problems.iter().all(is_history) && status.leader.is_some();
            nodes.await_status(*id, "soundness", is_sound);
        }
        assert_everything_is_there(&nodes);
    }
}
