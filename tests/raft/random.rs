//! Random runs: messages lost, repeated and reordered, disks that answer late, crashes, partitions, a wiped directory.
//! `cluster.rs` asserts what may never happen; here, that everything commits once the faults end.
//!
//! With damage, disks also lose entries, or the end of their log, as long as a copy of every entry that may have been
//! committed is left. Then everything must come back by itself; unless what is known leaves open whether an entry was
//! committed whose every known copy is bad: then some node must name it.

use std::collections::BTreeSet;
use std::time::Duration;

use raftkv::base::limits::LEASE_DRIFT_PERCENT;
use raftkv::base::{Entry, LogIndex, NodeId, Random};
use raftkv::raft::{Input, LeaseConfig};

use crate::cluster::{Cluster, Disk, Settings, describe_health, describe_log, id};

const SEEDS: u64 = 400;
const ACTIONS: usize = 1500;

struct Run {
    cluster: Cluster,
    random: Random,
    size: u32,
    calls: u64,
    wiped: bool,
    damage: Damage,
    /// Entries and ends of logs that were lost.
    damaged: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    None,
    Some,
}

impl Run {
    fn new(seed: u64, damage: Damage) -> Run {
        let mut random = Random::new(seed);
        let size = [1, 3, 3, 5, 7][random.below(5) as usize];
        let mut leases = Random::new(!seed);
        let mut size_of = |low: u64, high: u64| (low + random.below(high - low)) as usize;
        let settings = Settings {
            lease: lease(&mut leases),
            append_bytes_max: size_of(30, 300),
            window_bytes_max: size_of(100, 600),
            window_messages_max: size_of(1, 6),
            log_memory_bytes_max: size_of(50, 600),
            uncommitted_bytes_max: size_of(200, 2000),
            seed,
        };
        let mut cluster = Cluster::new(size, settings);
        for node in cluster.nodes.values_mut() {
            // No two clocks differ by more than the bound.
            node.gains_percent = leases.below(u64::from(LEASE_DRIFT_PERCENT) + 1) as u32;
            node.own_lease = (leases.below(3) == 0).then(|| lease(&mut leases));
        }
        Run { cluster, random, size, calls: 0, wiped: damage == Damage::Some, damage, damaged: 0 }
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
            83..93 => self.call_leaders(),
            93..95 => self.read_anywhere(),
            95..97 => {
                let (node, peer) = (self.node(), self.node());
                self.cluster.step(node, Input::LinkDown { peer });
            }
            97 => self.partition(),
            98 if self.damage == Damage::Some && self.chance(70) => self.lose(),
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
        let time = Duration::from_millis(self.random.below(25));
        self.cluster.pass(time);
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

    fn read_anywhere(&mut self) {
        for node in self.cluster.up() {
            if self.chance(40) {
                self.calls += 1;
                self.cluster.read_here(node, self.calls);
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

    /// A disk loses some entries, while its node runs or not; or it loses power and the end of its log.
    fn lose(&mut self) {
        let node = self.node();
        let log = &self.cluster.nodes[&node].disk.log;
        let length = log.len() as u64;
        if length == 0 {
            return;
        }
        if self.random.below(3) == 0 {
            let entries = 1 + self.random.below(3.min(length)) as usize;
            let end = log[log.len() - entries..].to_vec();
            if end.iter().all(|entry| self.may_lose(node, entry)) {
                self.cluster.crash(node);
                self.cluster.lose_end(node, entries);
                self.cluster.start(node);
                self.damaged += 1;
            }
            return;
        }
        let entry = log[self.random.below(length) as usize].clone();
        if self.may_lose(node, &entry) {
            let running = self.chance(50);
            if !running {
                self.cluster.crash(node);
            }
            self.cluster.lose(node, &[entry.index]);
            if !running {
                self.cluster.start(node);
            }
            self.damaged += 1;
        }
    }

    /// Another disk holds it, or so few ever did that nobody was told of it.
    fn may_lose(&self, node: NodeId, entry: &Entry) -> bool {
        let disks = || self.cluster.nodes.iter().map(|(id, node)| (*id, &node.disk));
        let elsewhere = disks().any(|(id, disk)| id != node && disk.holds(entry));
        let ever = disks().filter(|(_, disk)| disk.ever.contains(&(entry.index, entry.term))).count();
        elsewhere || ever <= self.size as usize / 2
    }

    /// Whether a node says that every end is lost, or names an entry whose every copy is bad. Then no disk has it, and
    /// some have lost it or their end.
    fn names_a_lost_entry(&self) -> bool {
        let nodes = &self.cluster.nodes;
        let nobody = |id: &NodeId| self.cluster.raft(*id).is_some_and(|raft| raft.health().nobody_is_sound);
        if nodes.keys().any(nobody) {
            assert!(nodes.values().all(|node| node.disk.suspect), "a node is sound:\n{}", describe(&self.cluster));
            return true;
        }
        let lost = |id: &NodeId| self.cluster.raft(*id)?.health().lost;
        let Some(lost) = nodes.keys().find_map(lost) else { return false };
        let holds = |disk: &Disk| {
            let entry = disk.log.get(lost.index.0 as usize - 1);
            entry.is_some_and(|entry| entry.term == lost.term && disk.holds(entry))
        };
        assert!(
            !nodes.values().any(|node| holds(&node.disk)),
            "a copy of {lost:?} is left:\n{}",
            describe(&self.cluster)
        );
        let may_have = nodes.values().filter(|node| node.disk.end_uncertain || !node.disk.lost.is_empty()).count();
        // Without the entry that names the members nobody's word counts.
        let known = lost.index > LogIndex(1);
        assert!(
            !known || may_have > nodes.len() / 2,
            "{lost:?} can't have been committed:\n{}",
            describe(&self.cluster)
        );
        true
    }

    /// The faults end: there must be a leader, and everything must commit and arrive everywhere.
    fn heal(&mut self) -> bool {
        let hung = BTreeSet::new();
        self.cluster.blocked.clear();
        self.cluster.run(Duration::from_secs(4), &hung);
        if self.names_a_lost_entry() {
            return false;
        }
        let cluster = &mut self.cluster;
        let leaders = cluster.leaders();
        assert_eq!(leaders.len(), 1, "after the faults there is not one leader:\n{}", describe(cluster));
        cluster.propose(leaders[0], "the end");
        cluster.read(leaders[0], u64::MAX);
        for node in cluster.up() {
            cluster.read_here(node, u64::MAX - 1);
        }
        cluster.run(Duration::from_secs(2), &hung);
        assert_eq!(cluster.committed.last().map(|entry| &entry.data[..]), Some(&b"the end"[..]));
        for (id, node) in &cluster.nodes {
            assert_eq!(node.disk.log, cluster.committed, "node {id} has another log");
            assert_eq!(node.applied, cluster.committed, "node {id} has not applied everything");
            assert!(!node.disk.suspect, "node {id} is still suspect:\n{}", describe(cluster));
        }
        assert!(cluster.events.contains(&format!("read {} at", u64::MAX)), "a read is not answered");
        let answered = cluster.events.matches(&format!("read {} at", u64::MAX - 1)).count();
        assert_eq!(answered, cluster.nodes.len(), "a read is not answered by all nodes");
        true
    }
}

/// The setting of one node, or of most.
fn lease(random: &mut Random) -> Option<LeaseConfig> {
    let promise = Duration::from_millis(20 + random.below(481));
    (random.below(4) > 0).then_some(LeaseConfig { promise, drift_percent: LEASE_DRIFT_PERCENT })
}

/// A wiped directory before the cluster formed, or with too few others left, may rightly end everything.
fn may_be_stuck(run: &Run) -> bool {
    run.damage == Damage::None && run.wiped && run.cluster.nodes.values().any(|node| node.disk.log.is_empty())
}

fn describe(cluster: &Cluster) -> String {
    let node = |id: NodeId| {
        let raft = cluster.raft(id).expect("all nodes are up");
        let (view, log) = (raft.view(), describe_log(&cluster.nodes[&id].log));
        let (role, health) = (view.role.as_str(), describe_health(&raft.health()));
        format!("{id} {role} term={} commit={} {health}: {log}", view.term, view.commit)
    };
    cluster.up().into_iter().map(node).collect::<Vec<_>>().join("\n")
}

/// What came of a run.
#[derive(Default)]
struct Tally {
    committed: usize,
    damaged: usize,
    /// It went no further, and named the entry.
    ended: usize,
}

fn run(seed: u64, damage: Damage) -> Tally {
    let mut run = Run::new(seed, damage);
    for _ in 0..ACTIONS {
        run.act();
    }
    let healed = may_be_stuck(&run) || run.heal();
    Tally { committed: run.cluster.committed.len(), damaged: run.damaged, ended: usize::from(!healed) }
}

/// RAFT_SEED=n repeats one run, RAFT_SEEDS=n makes a longer hunt.
fn run_seeds(damage: Damage) -> (u64, Tally) {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("RAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RAFT_SEEDS").unwrap_or(SEEDS),
    };
    let mut all = Tally::default();
    for seed in seeds.clone() {
        let result = std::panic::catch_unwind(|| run(seed, damage));
        let tally = result.unwrap_or_else(|_| panic!("seed {seed} fails; RAFT_SEED={seed} repeats it"));
        all.committed += tally.committed;
        all.damaged += tally.damaged;
        all.ended += tally.ended;
    }
    (seeds.end - seeds.start, all)
}

#[test]
fn random_faults_never_break_safety_and_everything_commits_once_they_end() {
    let (seeds, tally) = run_seeds(Damage::None);
    assert!(tally.committed as u64 >= 10 * seeds, "only {} entries: the runs test nothing", tally.committed);
    assert_eq!(tally.ended, 0);
}

#[test]
fn what_disks_lose_comes_back_from_the_others_and_nothing_that_was_committed_is_lost() {
    let (seeds, Tally { committed, damaged, ended }) = run_seeds(Damage::Some);
    println!("{damaged} losses over {seeds} runs; {committed} entries committed; {ended} runs named a lost entry");
    assert!(committed as u64 >= 10 * seeds && damaged as u64 >= 2 * seeds, "the runs test nothing");
    assert!(ended as u64 <= seeds / 8, "{ended} of {seeds} runs went no further");
}
