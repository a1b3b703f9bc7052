//! Three embedded nodes on disks that drop what was not synced at each crash, under load: what was acknowledged stays,
//! in every order of crashes, and when all lose power at once.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::embedded::Embedded;
use common::{PATIENCE, id};
use raftkv::api::{Applied, Error};
use raftkv::base::{NodeId, Random};
use raftkv::node::EmbeddedClient;
use raftkv::node::settings::Tuning;

const WRITERS: u64 = 8;
const KEYS: u64 = 5;

struct Rig {
    nodes: Embedded,
    random: Random,
}

/// What a writer knows of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    acknowledged: u64,
    sent: u64,
}

impl Rig {
    fn start(seed: u64) -> Rig {
        let tuning =
            Tuning { segment_bytes: 2 * 1024 * 1024, request_timeout: Duration::from_secs(1), ..Tuning::default() };
        let nodes = Embedded::start(tuning, seed);
        nodes.leader();
        Rig { nodes, random: Random::new(seed) }
    }

    /// The power of these nodes goes at once; each disk keeps a random part of what it had not synced. Then they
    /// start again.
    fn lose_power(&mut self, ids: &[NodeId]) {
        for id in ids {
            self.nodes.disks[id].crash_by_chance(&mut self.random);
        }
        for id in ids {
            self.nodes.cluster.kill(*id);
        }
        for id in ids {
            self.nodes.cluster.restart(*id).expect("a crash never makes a node unbootable");
        }
        self.nodes.leader();
    }
}

fn write_on(
    mut clients: Vec<EmbeddedClient>,
    writer: u64,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> BTreeMap<String, Known> {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("{writer}/{}", number % KEYS);
        let entry = known.entry(key.clone()).or_default();
        entry.sent = number;
        let at = (number % clients.len() as u64) as usize;
        match clients[at].put(key, number.to_string()) {
            Ok(_) => {
                entry.acknowledged = number;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error { code, .. }) if code.applied() == Applied::Maybe || code.worth_a_retry() => {}
            Err(error) => panic!("unexpected: {error}"),
        }
    }
    known
}

fn await_writes(done: &AtomicU64, count: u64) {
    let goal = done.load(Ordering::Relaxed) + count;
    let deadline = Instant::now() + PATIENCE;
    while done.load(Ordering::Relaxed) < goal {
        assert!(Instant::now() < deadline, "the writers made no progress");
        thread::yield_now();
    }
}

fn under_load(seed: u64, disturb: impl FnOnce(&mut Rig, &AtomicU64)) {
    let mut rig = Rig::start(seed);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let known: BTreeMap<String, Known> = thread::scope(|scope| {
        let (stop, done) = (&stop, &done);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let clients = rig.nodes.cluster.ids().into_iter().map(|id| rig.nodes.cluster.client(id)).collect();
                scope.spawn(move || write_on(clients, writer, stop, done))
            })
            .collect();
        let disturbed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disturb(&mut rig, done)));
        stop.store(true, Ordering::Relaxed);
        let known = writers.into_iter().flat_map(|writer| writer.join().expect("the writer ends well")).collect();
        if let Err(panic) = disturbed {
            std::panic::resume_unwind(panic);
        }
        known
    });
    // One last loss of power of everything: what was acknowledged must come from the disks.
    let all = rig.nodes.cluster.ids();
    rig.lose_power(&all);
    let mut client = rig.nodes.cluster.client(rig.nodes.leader());
    client.set_timeout(PATIENCE);
    for (key, known) in &known {
        let found = client.get(key.clone()).expect("a healed cluster answers");
        let value = found.map_or(0, |found| str::from_utf8(&found.value).unwrap().parse::<u64>().unwrap());
        assert!((known.acknowledged..=known.sent).contains(&value), "{key} is {value}, and {known:?}");
    }
    println!("{} writes acknowledged", done.load(Ordering::Relaxed));
}

#[test]
fn acknowledged_writes_survive_crashes_in_every_order() {
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    under_load(1, |rig, done| {
        for order in orders {
            for number in order {
                await_writes(done, 100);
                rig.lose_power(&[id(number)]);
            }
        }
    });
}

#[test]
fn acknowledged_writes_survive_when_two_lose_power_together() {
    under_load(2, |rig, done| {
        for pair in [[1, 2], [2, 3], [3, 1], [1, 2], [2, 3], [3, 1]] {
            await_writes(done, 100);
            rig.lose_power(&pair.map(id));
        }
    });
}

#[test]
fn acknowledged_writes_survive_when_all_lose_power_at_once() {
    under_load(3, |rig, done| {
        let all = rig.nodes.cluster.ids();
        for _ in 0..10 {
            await_writes(done, 200);
            rig.lose_power(&all);
        }
    });
}
