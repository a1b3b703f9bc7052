//! Embedded nodes whose disks become full: what grows is refused, deletes go on, no node ends, each starts again, and
//! all goes on by itself once there is room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftkv::api::{Error, ErrorCode, Status};
use raftkv::base::NodeId;
use raftkv::disk::MemoryDisk;
use raftkv::node::embedded::Storage;
use raftkv::node::settings::Tuning;
use raftkv::node::{EmbeddedClient, EmbeddedCluster, EmbeddedSettings};

const PATIENCE: Duration = Duration::from_secs(60);
const VALUE_BYTES: usize = 64 * 1024;
const SECOND_READY: &str = "wal/0000000000000003.seg";

struct Rig {
    cluster: EmbeddedCluster,
    disks: BTreeMap<NodeId, MemoryDisk>,
    /// How many keys were put and acknowledged: `k0`, `k1` and so on.
    keys: usize,
}

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn value(key: usize) -> Vec<u8> {
    vec![key as u8; VALUE_BYTES]
}

impl Rig {
    fn start() -> Rig {
        let disks: BTreeMap<NodeId, MemoryDisk> = (1..=3).map(|id| (node(id), MemoryDisk::new())).collect();
        let shared = disks.clone();
        let tuning = Tuning {
            segment_bytes: 4 * 1024 * 1024,
            scrub_interval: None,
            // A busy machine is no reason for another leader here.
            election_timeout_min: Duration::from_secs(1),
            election_timeout_max: Duration::from_secs(2),
            request_timeout: Duration::from_secs(2),
            ..Tuning::default()
        };
        let storage = Storage::Disks(Arc::new(move |id| shared[&id].attach()));
        let cluster = EmbeddedCluster::start(EmbeddedSettings { nodes: 3, storage, tuning, seed: 7 }).unwrap();
        Rig { cluster, disks, keys: 0 }
    }

    /// No node has ended by itself; to be asked before one is killed, and at the end.
    fn assert_all_run(&self) {
        for id in self.cluster.ids() {
            assert_eq!(self.cluster.ended(id), None, "node {id} has ended");
        }
    }

    fn leader(&self) -> NodeId {
        self.cluster.wait_for_leader(PATIENCE).expect("a leader")
    }

    /// None of these disks grows any more, once two segments are ready: one to go on in, and the reserve.
    fn fill(&self, nodes: &[NodeId]) {
        let deadline = Instant::now() + PATIENCE;
        for id in nodes {
            while !self.disks[id].files().contains(&SECOND_READY.to_string()) {
                assert!(Instant::now() < deadline, "node {id} makes no segments ahead: {:?}", self.disks[id].files());
                std::thread::yield_now();
            }
            self.disks[id].set_capacity(0);
        }
    }

    fn make_room(&self) {
        self.disks.values().for_each(|disk| disk.set_capacity(u64::MAX));
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
            self.assert_all_run();
            assert!(Instant::now() < deadline, "node {id} never comes to {what}: {status:?}");
            std::thread::yield_now();
        }
    }

    /// Asks the leader until it takes what is asked, or has no space for it.
    fn ask<T>(&self, mut what: impl FnMut(&mut EmbeddedClient) -> Result<T, Error>) -> Result<T, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match what(&mut self.cluster.client(self.leader())) {
                Err(error) if error.code != ErrorCode::NoSpace => {
                    assert!(Instant::now() < deadline, "neither taken nor refused for want of space: {error}");
                }
                answer => return answer,
            }
        }
    }

    /// One more key.
    fn put(&mut self) -> Result<(), Error> {
        let key = self.keys;
        self.ask(|client| client.put(format!("k{key}"), value(key)))?;
        self.keys += 1;
        Ok(())
    }

    fn put_until_refused(&mut self) -> Error {
        for _ in 0..1000 {
            if let Err(error) = self.put() {
                return error;
            }
        }
        panic!("{} MiB are acknowledged by full disks", (self.keys * VALUE_BYTES) >> 20);
    }

    fn put_until_taken(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.put() {
            assert!(Instant::now() < deadline, "there is room, and yet: {error}");
            std::thread::yield_now();
        }
    }

    fn delete(&self, key: usize) -> Result<bool, Error> {
        self.ask(|client| client.delete(format!("k{key}")))
    }

    /// All keys that were acknowledged but the first `deleted`, on the node that leads.
    fn assert_everything_is_there(&self, deleted: usize) {
        for key in 0..self.keys {
            let found = self.ask(|client| client.get(format!("k{key}"))).unwrap();
            match key < deleted {
                true => assert!(found.is_none(), "k{key} was deleted"),
                false => assert!(found.expect("it was acknowledged").value == value(key), "k{key}"),
            }
        }
    }

    /// Every node holds what the leader holds, and nothing is wrong with any.
    fn await_soundness(&self) {
        self.assert_all_run();
        let last = self.status(self.leader()).last;
        for id in self.cluster.ids() {
            self.await_status(id, "soundness", |status| status.applied >= last && status.problems.is_empty());
        }
    }
}

fn says(status: &Status, what: &str) -> bool {
    status.problems.iter().any(|problem| problem.contains(what))
}

#[test]
fn full_disks_refuse_puts_take_deletes_start_again_and_go_on_once_there_is_room() {
    let mut rig = Rig::start();
    let all = rig.cluster.ids();
    rig.put().unwrap();
    rig.fill(&all);
    let error = rig.put_until_refused();
    assert!(error.message.contains("nearly full") && error.message.contains("make room"), "{error}");
    assert!(rig.keys > 20, "the segments that were ready hold more than {} keys", rig.keys);
    rig.assert_everything_is_there(0);
    assert!(says(&rig.status(rig.leader()), "make room"), "the leader's status says nothing");

    // Deletes have a reserve, and in the end there is nothing of that either.
    let mut deleted = 0;
    while deleted < 10 {
        assert!(rig.delete(deleted).unwrap(), "it was there");
        deleted += 1;
    }
    let error = (0..20_000).find_map(|_| rig.delete(0).err()).expect("the reserve is used up some time");
    assert!(error.message.contains("no write is taken"), "{error}");
    rig.assert_everything_is_there(deleted);

    rig.assert_all_run();
    for id in &all {
        rig.disks[id].crash();
        rig.cluster.kill(*id);
    }
    for id in &all {
        rig.cluster.restart(*id).unwrap_or_else(|error| panic!("a full disk kept node {id} from starting: {error}"));
    }
    let deadline = Instant::now() + PATIENCE;
    while !all.iter().any(|id| says(&rig.status(*id), "its disk is full")) {
        assert!(Instant::now() < deadline, "no node knows after its start that its disk is full");
        std::thread::yield_now();
    }

    rig.make_room();
    rig.put_until_taken();
    rig.assert_everything_is_there(deleted);
    rig.await_soundness();
}

#[test]
fn one_full_follower_stops_nobody_and_catches_up_once_it_has_room() {
    let mut rig = Rig::start();
    let leader = rig.leader();
    let follower = rig.cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    rig.fill(&[follower]);
    for _ in 0..300 {
        rig.put().unwrap();
    }
    rig.await_status(follower, "a full disk", |status| says(status, "its disk is full"));
    rig.await_status(leader, "knowing it", |status| says(status, &format!("the disk of node {follower} is full")));
    assert!(rig.status(follower).applied < rig.status(leader).applied, "it holds more than its disk has room for");
    rig.assert_all_run();
    rig.disks[&follower].crash();
    rig.cluster.restart(follower).expect("a node with a full disk starts");
    rig.put().unwrap();
    rig.await_status(follower, "a full disk", |status| says(status, "its disk is full"));
    rig.make_room();
    rig.await_soundness();
    rig.assert_everything_is_there(0);
}

#[test]
fn a_leader_whose_disk_is_full_names_it_and_another_one_goes_on_in_its_place() {
    let mut rig = Rig::start();
    let leader = rig.leader();
    rig.fill(&[leader]);
    let error = rig.put_until_refused();
    assert!(error.message.contains(&format!("the disk of node {leader} is nearly full")), "{error}");
    assert!(rig.delete(0).unwrap(), "deletes go on");
    rig.assert_everything_is_there(1);

    rig.assert_all_run();
    rig.disks[&leader].crash();
    rig.cluster.kill(leader);
    rig.put().expect("the others have room");
    rig.cluster.restart(leader).expect("a node with a full disk starts");
    rig.await_status(leader, "a leader", |status| status.leader.as_ref().is_some_and(|other| other.id != leader));
    rig.put().expect("the others have room");
    rig.make_room();
    rig.await_soundness();
    rig.assert_everything_is_there(1);
}

#[test]
fn a_cluster_forms_on_full_disks_and_its_directories_learn_its_id_once_there_is_room() {
    let mut rig = Rig::start();
    let fresh: Vec<Vec<u8>> = rig.disks.values().map(|disk| disk.contents("identity").unwrap()).collect();
    rig.disks.values().for_each(|disk| disk.set_capacity(0));
    let error = rig.put_until_refused();
    assert!(error.message.contains("make room"), "{error}");
    rig.assert_all_run();
    rig.make_room();
    rig.put_until_taken();
    rig.await_soundness();
    let deadline = Instant::now() + PATIENCE;
    for (disk, fresh) in rig.disks.values().zip(&fresh) {
        while disk.contents("identity").as_ref() == Some(fresh) {
            assert!(Instant::now() < deadline, "the cluster's id is never recorded");
            std::thread::yield_now();
        }
    }
}
