//! Random runs: messages lost, repeated and reordered, disks that answer late, crashes, partitions, a wiped directory.
//! `cluster.rs` asserts what may never happen; here, that everything commits once the faults end.

use std::collections::BTreeSet;
use std::time::Duration;

use raftkv::base::{NodeId, Random};
use raftkv::raft::Input;

use crate::cluster::{Cluster, Settings, id};

const SEEDS: u64 = 400;
const ACTIONS: usize = 1500;

struct Run {
    cluster: Cluster,
    random: Random,
    size: u32,
    calls: u64,
    wiped: bool,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let size = [1, 3, 3, 5, 7][random.below(5) as usize];
        let mut size_of = |low: u64, high: u64| (low + random.below(high - low)) as usize;
        let settings = Settings {
            append_bytes_max: size_of(30, 300),
            window_bytes_max: size_of(100, 600),
            window_messages_max: size_of(1, 6),
            log_memory_bytes_max: size_of(50, 600),
            uncommitted_bytes_max: size_of(200, 2000),
            seed,
        };
        Run { cluster: Cluster::new(size, settings), random, size, calls: 0, wiped: false }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    fn node(&mut self) -> NodeId {
        id(1 + self.random.below(u64::from(self.size)) as u32)
    }

    fn act(&mut self) {
        match self.random.below(100) {
            0..45 => self.move_a_message(),
            45..65 => {
                let node = self.node();
                self.cluster.persist(node);
            }
            65..70 => {
                let (node, count) = (self.node(), self.random.below(4) as usize);
                self.cluster.fetch(node, count);
            }
            70..83 => self.pass_time(),
            83..95 => self.call_leaders(),
            95..97 => {
                let (node, peer) = (self.node(), self.node());
                self.cluster.step(node, Input::LinkDown { peer });
            }
            97 => self.partition(),
            98 => self.restart(),
            _ => self.cluster.blocked.clear(),
        }
    }

    fn move_a_message(&mut self) {
        if self.cluster.network.is_empty() {
            return;
        }
        // Mostly in order, sometimes from anywhere.
        let waiting = self.cluster.network.len() as u64;
        let position = if self.chance(60) { 0 } else { self.random.below(waiting) as usize };
        match self.random.below(20) {
            0 => drop(self.cluster.network.remove(position)),
            1 => {
                let again = self.cluster.network[position].clone();
                self.cluster.network.push(again);
                self.cluster.deliver(position);
            }
            _ => self.cluster.deliver(position),
        }
        if waiting > 300 {
            self.cluster.network.drain(..200);
        }
    }

    fn pass_time(&mut self) {
        self.cluster.now = self.cluster.now + Duration::from_millis(self.random.below(25));
        for node in self.cluster.up() {
            if self.chance(80) {
                self.cluster.tick(node);
            }
        }
    }

    fn call_leaders(&mut self) {
        for leader in self.cluster.leaders() {
            self.calls += 1;
            let call = self.calls;
            if self.chance(70) {
                self.cluster.propose(leader, &format!("c{call}"));
            } else {
                self.cluster.read(leader, call);
            }
        }
    }

    fn partition(&mut self) {
        let cut: BTreeSet<NodeId> = (1..=self.size).map(id).filter(|_| self.random.below(2) == 0).collect();
        let both_ways = self.chance(70);
        let nodes: Vec<NodeId> = (1..=self.size).map(id).collect();
        for from in &nodes {
            for to in &nodes {
                if cut.contains(from) && !cut.contains(to) {
                    self.cluster.blocked.insert((*from, *to));
                    if both_ways {
                        self.cluster.blocked.insert((*to, *from));
                    }
                }
            }
        }
    }

    fn restart(&mut self) {
        let node = self.node();
        if self.size > 1 && !self.wiped && self.chance(3) {
            self.wiped = true;
            self.cluster.wipe(node);
        } else {
            self.cluster.crash(node);
        }
        self.cluster.start(node);
    }

    /// The faults end: there must be a leader, and everything must commit and arrive everywhere.
    fn heal(&mut self) {
        let (cluster, hung) = (&mut self.cluster, BTreeSet::new());
        cluster.blocked.clear();
        cluster.run(Duration::from_secs(4), &hung);
        let leaders = cluster.leaders();
        assert_eq!(leaders.len(), 1, "after the faults there is not one leader");
        cluster.propose(leaders[0], "the end");
        cluster.read(leaders[0], u64::MAX);
        cluster.run(Duration::from_secs(2), &hung);
        assert_eq!(cluster.committed.last().map(|entry| &entry.data[..]), Some(&b"the end"[..]));
        for (id, node) in &cluster.nodes {
            assert_eq!(node.disk.log, cluster.committed, "node {id} has another log");
            assert_eq!(node.applied, cluster.committed, "node {id} has not applied everything");
        }
        assert!(cluster.events.contains(&format!("read {} at", u64::MAX)), "a read is not answered");
    }
}

/// A wiped directory before the cluster formed, or with too few others left, may rightly end everything.
fn may_be_stuck(run: &Run) -> bool {
    run.wiped && run.cluster.nodes.values().any(|node| node.disk.log.is_empty())
}

fn run(seed: u64) -> usize {
    let mut run = Run::new(seed);
    for _ in 0..ACTIONS {
        run.act();
    }
    if !may_be_stuck(&run) {
        run.heal();
    }
    run.cluster.committed.len()
}

#[test]
fn random_faults_never_break_safety_and_everything_commits_once_they_end() {
    // RAFT_SEED=n repeats one run, RAFT_SEEDS=n makes a longer hunt.
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("RAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RAFT_SEEDS").unwrap_or(SEEDS),
    };
    let mut committed = 0;
    for seed in seeds.clone() {
        let result = std::panic::catch_unwind(|| run(seed));
        committed += result.unwrap_or_else(|_| panic!("seed {seed} fails; RAFT_SEED={seed} repeats it"));
    }
    assert!(committed as u64 >= 10 * (seeds.end - seeds.start), "only {committed} entries: the runs test nothing");
}
