//! Embedded nodes whose disks become full: what grows is refused, deletes go on, no node ends, each starts again, and
//! all goes on by itself once there is room.

mod common;

use std::time::{Duration, Instant};

use common::PATIENCE;
use common::embedded::{Embedded, says};
use raftkv::api::{Error, ErrorCode};
use raftkv::base::NodeId;
use raftkv::node::EmbeddedClient;
use raftkv::node::settings::Tuning;

const VALUE_BYTES: usize = 64 * 1024;
const SECOND_READY: &str = "wal/0000000000000003.seg";

struct Rig {
    nodes: Embedded,
    /// How many keys were put and acknowledged: `k0`, `k1` and so on.
    keys: usize,
}

fn value(key: usize) -> Vec<u8> {
    vec![key as u8; VALUE_BYTES]
}

impl Rig {
    fn start() -> Rig {
        let tuning = Tuning {
            segment_bytes: 4 * 1024 * 1024,
            scrub_interval: None,
            // A busy machine is no reason for another leader here.
            election_timeout_min: Duration::from_secs(1),
            election_timeout_max: Duration::from_secs(2),
            request_timeout: Duration::from_secs(2),
            ..Tuning::default()
        };
        Rig { nodes: Embedded::start(tuning, 7), keys: 0 }
    }

    /// None of these disks grows any more, once two segments are ready: one to go on in, and the reserve.
    fn fill(&self, nodes: &[NodeId]) {
        let deadline = Instant::now() + PATIENCE;
        for id in nodes {
            while !self.nodes.disks[id].files().contains(&SECOND_READY.to_string()) {
                assert!(
                    Instant::now() < deadline,
                    "node {id} makes no segments ahead: {:?}",
                    self.nodes.disks[id].files()
                );
                std::thread::yield_now();
            }
            self.nodes.disks[id].set_capacity(0);
        }
    }

    fn make_room(&self) {
        self.nodes.disks.values().for_each(|disk| disk.set_capacity(u64::MAX));
    }

    /// Asks the leader until it takes what is asked, or has no space for it.
    fn ask<T>(&self, mut what: impl FnMut(&mut EmbeddedClient) -> Result<T, Error>) -> Result<T, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match what(&mut self.nodes.cluster.client(self.nodes.leader())) {
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
        self.nodes.assert_all_run();
        let last = self.nodes.status(self.nodes.leader()).last;
        for id in self.nodes.cluster.ids() {
            self.nodes.await_status(id, "soundness", |status| status.applied >= last && status.problems.is_empty());
        }
    }
}

#[test]
fn full_disks_refuse_puts_take_deletes_start_again_and_go_on_once_there_is_room() {
    let mut rig = Rig::start();
    let all = rig.nodes.cluster.ids();
    rig.put().unwrap();
    rig.fill(&all);
    let error = rig.put_until_refused();
    assert!(error.message.contains("nearly full") && error.message.contains("make room"), "{error}");
    assert!(rig.keys > 20, "the segments that were ready hold more than {} keys", rig.keys);
    rig.assert_everything_is_there(0);
    assert!(says(&rig.nodes.status(rig.nodes.leader()), "make room"), "the leader's status says nothing");

    // Deletes have a reserve, and in the end there is nothing of that either.
    let mut deleted = 0;
    while deleted < 10 {
        assert!(rig.delete(deleted).unwrap(), "it was there");
        deleted += 1;
    }
    let error = (0..20_000).find_map(|_| rig.delete(0).err()).expect("the reserve is used up some time");
    assert!(error.message.contains("no write is taken"), "{error}");
    rig.assert_everything_is_there(deleted);

    rig.nodes.assert_all_run();
    rig.nodes.lose_power(&all);
    for id in &all {
        rig.nodes
            .cluster
            .restart(*id)
            .unwrap_or_else(|error| panic!("a full disk kept node {id} from starting: {error}"));
    }
    let deadline = Instant::now() + PATIENCE;
    while !all.iter().any(|id| says(&rig.nodes.status(*id), "its disk is full")) {
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
    let (leader, follower) = rig.nodes.leader_and_follower();
    rig.fill(&[follower]);
    for _ in 0..300 {
        rig.put().unwrap();
    }
    rig.nodes.await_status(follower, "a full disk", |status| says(status, "its disk is full"));
    rig.nodes
        .await_status(leader, "knowing it", |status| says(status, &format!("the disk of node {follower} is full")));
    assert!(
        rig.nodes.status(follower).applied < rig.nodes.status(leader).applied,
        "it holds more than its disk has room for"
    );
    rig.nodes.assert_all_run();
    rig.nodes.lose_power(&[follower]);
    rig.nodes.cluster.restart(follower).expect("a node with a full disk starts");
    rig.put().unwrap();
    rig.nodes.await_status(follower, "a full disk", |status| says(status, "its disk is full"));
    rig.make_room();
    rig.await_soundness();
    rig.assert_everything_is_there(0);
}

#[test]
fn a_leader_whose_disk_is_full_names_it_and_another_one_goes_on_in_its_place() {
    let mut rig = Rig::start();
    let leader = rig.nodes.leader();
    rig.fill(&[leader]);
    let error = rig.put_until_refused();
    assert!(error.message.contains(&format!("the disk of node {leader} is nearly full")), "{error}");
    assert!(rig.delete(0).unwrap(), "deletes go on");
    rig.assert_everything_is_there(1);

    rig.nodes.assert_all_run();
    rig.nodes.lose_power(&[leader]);
    rig.put().expect("the others have room");
    rig.nodes.cluster.restart(leader).expect("a node with a full disk starts");
    rig.nodes.await_status(leader, "a leader", |status| status.leader.as_ref().is_some_and(|other| other.id != leader));
    rig.put().expect("the others have room");
    rig.make_room();
    rig.await_soundness();
    rig.assert_everything_is_there(1);
}

#[test]
fn a_cluster_forms_on_full_disks_and_its_directories_learn_its_id_once_there_is_room() {
    let mut rig = Rig::start();
    let fresh: Vec<Vec<u8>> = rig.nodes.disks.values().map(|disk| disk.contents("identity").unwrap()).collect();
    rig.nodes.disks.values().for_each(|disk| disk.set_capacity(0));
    let error = rig.put_until_refused();
    assert!(error.message.contains("make room"), "{error}");
    rig.nodes.assert_all_run();
    rig.make_room();
    rig.put_until_taken();
    rig.await_soundness();
    let deadline = Instant::now() + PATIENCE;
    for (disk, fresh) in rig.nodes.disks.values().zip(&fresh) {
        while disk.contents("identity").as_ref() == Some(fresh) {
            assert!(Instant::now() < deadline, "the cluster's id is never recorded");
            std::thread::yield_now();
        }
    }
}
