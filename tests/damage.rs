//! Embedded nodes on disks that lose what they held: everything comes back by itself, from the other nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftkv::api::Status;
use raftkv::base::NodeId;
use raftkv::disk::MemoryDisk;
use raftkv::node::embedded::Storage;
use raftkv::node::settings::Tuning;
use raftkv::node::{EmbeddedCluster, EmbeddedSettings};

const PATIENCE: Duration = Duration::from_secs(60);
const LOG: &str = "wal/0000000000000001.seg";
const BLOCK: usize = 4096;
const KEYS: usize = 40;

struct Rig {
    cluster: EmbeddedCluster,
    disks: BTreeMap<NodeId, MemoryDisk>,
}

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

impl Rig {
    /// Three nodes that all hold `KEYS` acknowledged writes, each in a batch of its own.
    fn start() -> Rig {
        let disks: BTreeMap<NodeId, MemoryDisk> = (1..=3).map(|id| (node(id), MemoryDisk::new())).collect();
        let shared = disks.clone();
        let tuning = Tuning { segment_bytes: 4 * 1024 * 1024, scrub_interval: None, ..Tuning::default() };
        let storage = Storage::Disks(Arc::new(move |id| shared[&id].attach()));
        let cluster = EmbeddedCluster::start(EmbeddedSettings { nodes: 3, storage, tuning, seed: 7 }).unwrap();
        let leader = cluster.wait_for_leader(PATIENCE).expect("a leader");
        let mut client = cluster.client(leader);
        for key in 0..KEYS {
            client.put(format!("k{key}"), format!("v{key}")).unwrap();
        }
        let rig = Rig { cluster, disks };
        let last = rig.status(leader).last;
        for id in rig.cluster.ids() {
            rig.await_status(id, "everything applied", |status| status.applied >= last);
        }
        rig
    }

    fn status(&self, id: NodeId) -> Status {
        self.cluster.status(id, PATIENCE).expect("the node answers")
    }

    fn await_status(&self, id: NodeId, what: &str, reached: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(id);
            if reached(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "node {id} never comes to {what}: {status:?}");
            std::thread::yield_now();
        }
    }

    fn lose_power(&mut self) {
        let all = self.cluster.ids();
        all.iter().for_each(|id| self.disks[id].crash());
        all.iter().for_each(|id| self.cluster.kill(*id));
    }

    /// The sectors of the batch in block `block` of the log read as something else from now on.
    fn damage(&self, id: NodeId, block: usize, byte: u8) {
        let bytes = self.disks[&id].contents(LOG).unwrap();
        let at = block * BLOCK + 100;
        self.disks[&id].alter(LOG, at, &[bytes[at] ^ byte]);
    }

    /// It goes after the node calls itself sound, on another thread.
    fn await_no_mark(&self, id: NodeId) {
        self.await_status(id, "no mark on its disk", |_| !self.disks[&id].files().contains(&"suspect".to_string()));
    }

    fn assert_everything_is_there(&self) {
        let mut client = self.cluster.client(self.cluster.wait_for_leader(PATIENCE).expect("a leader"));
        client.set_timeout(PATIENCE);
        for key in 0..KEYS {
            let found = client.get(format!("k{key}")).unwrap().expect("it was acknowledged");
            assert_eq!(found.value, format!("v{key}"));
        }
    }
}

#[test]
fn every_node_damaged_in_a_different_entry_comes_back_by_itself() {
    let mut rig = Rig::start();
    let before: Vec<Vec<u8>> = rig.disks.values().map(|disk| disk.contents(LOG).unwrap()).collect();
    rig.lose_power();
    for id in 1..=3 {
        rig.damage(node(id), 5 + 7 * id as usize, 0x40);
    }
    for id in rig.cluster.ids() {
        rig.cluster.restart(id).expect("a damaged node starts");
    }
    rig.assert_everything_is_there();
    for (id, before) in (1..).map(node).zip(before) {
        rig.await_status(id, "soundness", |status| status.problems.is_empty());
        let healed = rig.disks[&id].contents(LOG).unwrap();
        let written = 40 * BLOCK;
        assert!(healed[..written] == before[..written], "node {id} holds what it held, to the last bit");
        rig.await_no_mark(id);
    }
}

#[test]
fn a_bit_flipped_under_a_running_node_is_found_and_refilled_without_a_restart() {
    let rig = Rig::start();
    let leader = rig.cluster.wait_for_leader(PATIENCE).expect("a leader");
    // A follower asks the others for what it lost; the leader finds it in its memory.
    for id in [rig.cluster.ids().into_iter().find(|id| *id != leader).unwrap(), leader] {
        let before = rig.disks[&id].contents(LOG).unwrap();
        rig.damage(id, 20, 1);
        let asked = rig.cluster.scrub(id, PATIENCE).expect("the node answers");
        let done = rig.await_status(id, "the end of the pass", |status| status.scrub.passes > asked.scrub.passes);
        assert_eq!(done.scrub.damaged, 1, "{done:?}");
        rig.await_status(id, "soundness", |status| status.problems.is_empty());
        assert!(rig.disks[&id].contents(LOG).unwrap()[..40 * BLOCK] == before[..40 * BLOCK]);
        rig.await_no_mark(id);
        let again = rig.cluster.scrub(id, PATIENCE).expect("the node answers");
        let done = rig.await_status(id, "the second pass", |status| status.scrub.passes > again.scrub.passes);
        assert_eq!(done.scrub.damaged, 1, "nothing is damaged any more");
    }
    rig.assert_everything_is_there();
}

#[test]
fn a_node_whose_log_lost_its_end_is_sound_again_once_it_has_what_the_leader_has() {
    let mut rig = Rig::start();
    let leader = rig.cluster.wait_for_leader(PATIENCE).expect("a leader");
    let follower = rig.cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    rig.cluster.kill(follower);
    // The last batch, first sector and all.
    let bytes = rig.disks[&follower].contents(LOG).unwrap();
    let last = bytes.chunks(BLOCK).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap();
    rig.disks[&follower].alter(LOG, last * BLOCK, &[0x5a; 512]);
    rig.cluster.restart(follower).expect("a damaged node starts");
    let healed =
        rig.await_status(follower, "soundness", |status| status.problems.is_empty() && status.leader.is_some());
    assert!(healed.last >= rig.status(leader).commit);
    rig.assert_everything_is_there();
}

/// The next start refuses such a log; what the node holds in memory is the others' until then.
#[test]
fn a_running_node_whose_log_is_damaged_beyond_repair_says_so_and_goes_on() {
    let rig = Rig::start();
    let leader = rig.cluster.wait_for_leader(PATIENCE).expect("a leader");
    for block in 20..=21 {
        rig.damage(leader, block, 1);
    }
    rig.cluster.scrub(leader, PATIENCE).expect("the node answers");
    let done = rig.await_status(leader, "the end of the pass", |status| status.scrub.passes > 0);
    let says = |status: &Status| status.problems.iter().any(|problem| problem.contains("damaged beyond repair"));
    assert!(says(&done), "{done:?}");
    rig.assert_everything_is_there();
    assert_eq!(rig.cluster.ended(leader), None);
}
