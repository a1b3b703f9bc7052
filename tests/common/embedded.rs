//! Embedded nodes for tests, each on a disk of its own that forgets, fails and fills up on demand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use raftkv::api::Status;
use raftkv::base::NodeId;
use raftkv::disk::MemoryDisk;
use raftkv::node::embedded::Storage;
use raftkv::node::settings::Tuning;
use raftkv::node::{EmbeddedCluster, EmbeddedSettings};

use super::{PATIENCE, id};

pub struct Embedded {
    pub cluster: EmbeddedCluster,
    pub disks: BTreeMap<NodeId, MemoryDisk>,
}

impl Embedded {
    /// Three nodes that are about to elect.
    pub fn start(tuning: Tuning, seed: u64) -> Embedded {
        Embedded::start_nodes(3, tuning, seed)
    }

    pub fn start_nodes(nodes: u32, tuning: Tuning, seed: u64) -> Embedded {
        let disks: BTreeMap<NodeId, MemoryDisk> = (1..=nodes).map(|number| (id(number), MemoryDisk::new())).collect();
        let shared = disks.clone();
        let storage = Storage::Disks(Arc::new(move |id| shared[&id].attach()));
        let cluster = EmbeddedCluster::start(EmbeddedSettings { nodes, storage, tuning, seed }).unwrap();
        Embedded { cluster, disks }
    }

    pub fn leader(&self) -> NodeId {
        self.cluster.wait_for_leader(PATIENCE).expect("a leader")
    }

    /// The leader, and a node that does not lead.
    pub fn leader_and_follower(&self) -> (NodeId, NodeId) {
        let leader = self.leader();
        let follower = self.cluster.ids().into_iter().find(|id| *id != leader);
        (leader, follower.expect("one of three leads"))
    }

    pub fn status(&self, id: NodeId) -> Status {
        self.cluster.status(id, PATIENCE).expect("the node answers")
    }

    /// The first status of node `id` of which `reached` is true; `what` that means, as a noun.
    pub fn await_status(&self, id: NodeId, what: &str, reached: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(id);
            if reached(&status) {
                return status;
            }
            self.assert_all_run();
            assert!(Instant::now() < deadline, "node {id} never comes to {what}: {status:?}");
            std::thread::yield_now();
        }
    }

    /// No node has ended by itself; to be asked before one is killed, and at the end.
    pub fn assert_all_run(&self) {
        for id in self.cluster.ids() {
            assert_eq!(self.cluster.ended(id), None, "node {id} has ended");
        }
    }

    /// The power of these nodes goes at one moment: their disks keep what was synced.
    pub fn lose_power(&mut self, nodes: &[NodeId]) {
        nodes.iter().for_each(|id| self.disks[id].crash());
        nodes.iter().for_each(|id| self.cluster.kill(*id));
    }
}

/// Whether one of the node's problems is about `what`.
pub fn says(status: &Status, what: &str) -> bool {
    status.problems.iter().any(|problem| problem.contains(what))
}
