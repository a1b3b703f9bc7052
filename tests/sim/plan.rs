//! What a seed decides before anything runs: the cluster, its settings, which faults there will be and how many.
//!
//! Faults are drawn like a swarm (Groce and others, "Swarm testing", 2012): each seed enables a part of them, so that
//! no fault always hides behind another; some seeds have all of them, a few none.

use std::collections::BTreeSet;
use std::time::Duration;

use raftkv::base::Random;
use raftkv::base::limits::{LEASE_DRIFT_PERCENT, PROMISE_MAX};
use raftkv::raft::LeaseConfig;

use super::chance::{Chance, Delay, PerMillion};
use super::drills::Drill;
use super::world::Time;

pub const MICRO: Time = 1_000;
pub const MILLI: Time = 1_000_000;
pub const SECOND: Time = 1_000_000_000;

/// How long faults last, by the world's time.
pub const SAFETY_PHASE: Time = 60 * SECOND;

/// What happens to the world from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nemesis {
    Split,
    OneWay,
    Bridge,
    Rolling,
    Clog,
    BreakLink,
    Kill,
    Pause,
    Drift,
    Jump,
    PowerSome,
    PowerAll,
    SyncErrors,
    Stall,
    Full,
    BitFlip,
    BadSector,
    Astray,
    ReadErrors,
    Wipe,
}

impl Nemesis {
    pub const ALL: [Nemesis; 20] = [
        Nemesis::Split,
        Nemesis::OneWay,
        Nemesis::Bridge,
        Nemesis::Rolling,
        Nemesis::Clog,
        Nemesis::BreakLink,
        Nemesis::Kill,
        Nemesis::Pause,
        Nemesis::Drift,
        Nemesis::Jump,
        Nemesis::PowerSome,
        Nemesis::PowerAll,
        Nemesis::SyncErrors,
        Nemesis::Stall,
        Nemesis::Full,
        Nemesis::BitFlip,
        Nemesis::BadSector,
        Nemesis::Astray,
        Nemesis::ReadErrors,
        Nemesis::Wipe,
    ];

    /// Whether it may take from a directory what was acknowledged.
    pub fn damages(self) -> bool {
        matches!(self, Nemesis::BitFlip | Nemesis::BadSector | Nemesis::Astray | Nemesis::Wipe)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct NetworkPlan {
    pub delay: Delay,
    pub lose: PerMillion,
    pub overtake: PerMillion,
    pub repeat: PerMillion,
    /// Delayed by up to an election timeout and more.
    pub delay_long: PerMillion,
}

impl NetworkPlan {
    pub fn without_faults(&self) -> NetworkPlan {
        NetworkPlan { delay: self.delay, lose: 0, overtake: 0, repeat: 0, delay_long: 0 }
    }
}

#[derive(Clone, Debug)]
pub struct Delays {
    /// From the moment that something is in an inbox until its thread has woken up.
    pub wake: Delay,
    /// A write with its fsync.
    pub persist: Delay,
    /// Work of the background thread.
    pub background: Delay,
    /// A start, from the process's first instruction to its last read of the disk.
    pub start: Delay,
}

/// Whose disks lose what they held durably. In each case an intact copy of everything that may have been acknowledged
/// is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damages {
    None,
    /// Anything may happen to the disk of one node, also what nobody can foresee: reads that fail, writes that go
    /// astray.
    One(usize),
    /// Bits flip and sectors become unreadable on all, wherever another disk holds what is lost.
    Many,
    /// The directories of a minority are emptied.
    Wipes(BTreeSet<usize>),
}

/// How much is asked: some 25 or some 60 requests a simulated second, by all clients together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Light,
    Busy,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: usize,
    pub clients: usize,
    /// One client of so many only reads.
    pub readers: u64,
    pub keys: usize,
    /// Requests that a client has under way at most, and how long it thinks before the next.
    pub pipelined_max: usize,
    /// The same of one that only reads, if that is another: reads that are never answered cost the search for an order
    /// nothing.
    pub reads_pipelined_max: Option<usize>,
    pub think: Delay,
    pub value_bytes_max: usize,
    pub client_patience: Time,
    pub heartbeat: Duration,
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    pub persist_stall: Duration,
    pub request_timeout: Duration,
    pub segment_bytes: u64,
    pub log_memory_bytes_max: usize,
    pub uncommitted_bytes_max: usize,
    pub append_bytes_max: usize,
    pub window_bytes_max: usize,
    pub window_messages_max: usize,
    pub requests_max: usize,
    pub network: NetworkPlan,
    pub delays: Delays,
    /// Which of them this seed has, and the mean time between two.
    pub nemeses: Vec<Nemesis>,
    pub nemesis_every: Time,
    /// How long a partition, or the time until a restart, lasts at most.
    pub lasts_max: Time,
    /// How often a node is killed while it makes a vote durable.
    pub dies_voting: PerMillion,
    pub damages: Damages,
    pub scrub_interval: Duration,
    /// By node. No clock drifts by more than the bound.
    pub leases: Vec<Option<LeaseConfig>>,
    /// Between a read's look at the value, its look at the clock, and its answer: the thread may stand still.
    pub read_stands: Delay,
    /// What is done on purpose, in place of what happens by chance.
    pub drill: Option<Drill>,
}

impl Plan {
    /// One seed of four is a drill, and a third of these are about leases.
    pub fn draw(seed: u64, random: &mut Random, load: Load) -> Plan {
        let plan = Plan::draw_swarm(random, load);
        let mut random = Random::new(seed ^ 0x6472_696c_6c73);
        let plan = match random.below(20) {
            0..4 => plan.for_drill(Drill::ALL[random.index(Drill::ALL.len())]),
            4 => plan.for_drill(Drill::Lease),
            _ => plan,
        };
        let leases = draw_leases(&plan, &mut random);
        Plan { leases, ..plan }
    }

    /// Whether some node reads by lease. Then no clock may show more than has passed.
    pub fn has_leases(&self) -> bool {
        self.leases.iter().any(Option::is_some)
    }

    /// Nothing stands in the way of the drill, and clients never give it a rest.
    fn for_drill(self, drill: Drill) -> Plan {
        let ms = Duration::from_millis;
        Plan {
            nodes: drill.nodes(),
            clients: 8,
            // Where writes wait long, fewer: what all have under way at once, the search for an order has to try.
            pipelined_max: if drill == Drill::LateForward { 12 } else { 4 },
            think: Delay { low: 40 * MILLI, high: 160 * MILLI, tail_rate: 0, tail_high: 0 },
            client_patience: 4 * SECOND,
            heartbeat: ms(50),
            election_timeout_min: ms(200),
            election_timeout_max: ms(300),
            persist_stall: ms(1500),
            request_timeout: ms(3000),
            requests_max: 1024,
            network: NetworkPlan {
                delay: Delay { low: 50 * MICRO, high: 500 * MICRO, tail_rate: 0, tail_high: 0 },
                ..self.network.without_faults()
            },
            delays: Delays {
                wake: Delay { low: 10 * MICRO, high: 100 * MICRO, tail_rate: 0, tail_high: 0 },
                persist: Delay { low: MILLI, high: 4 * MILLI, tail_rate: 0, tail_high: 0 },
                background: Delay { low: MILLI, high: 20 * MILLI, tail_rate: 0, tail_high: 0 },
                start: Delay { low: MILLI, high: 2 * MILLI, tail_rate: 0, tail_high: 0 },
            },
            nemeses: Vec::new(),
            dies_voting: 0,
            damages: if matches!(drill, Drill::BlindPair | Drill::Lease) { Damages::Many } else { Damages::None },
            drill: Some(drill),
            ..self
        }
        .for_leases(drill)
    }

    /// Where leases are at stake, the leader does not step down before they have run out, and others wait for nothing
    /// but their promise. There is always somebody who goes on reading from whoever holds one, or did.
    fn for_leases(self, drill: Drill) -> Plan {
        if drill != Drill::Lease {
            return self;
        }
        let ms = Duration::from_millis;
        Plan {
            election_timeout_min: ms(150),
            election_timeout_max: ms(1000),
            think: Delay { low: 80 * MILLI, high: 320 * MILLI, tail_rate: 0, tail_high: 0 },
            reads_pipelined_max: Some(14),
            readers: 2,
            ..self
        }
    }

    fn draw_swarm(random: &mut Random, load: Load) -> Plan {
        let nodes = [1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7][random.index(13)];
        let heartbeat_ms = [50, 100, 150, 200][random.index(4)];
        let election_ms = heartbeat_ms * random.within(3, 5);
        // Close together, elections are split often.
        let election_max_ms = if random.below(4) == 0 { election_ms * 11 / 10 } else { 2 * election_ms };
        let clients = random.within(5, 8) as usize;
        let think_mean = clients as u64 * SECOND / random.within(20, 30);
        let think_mean = if load == Load::Busy { think_mean * 2 / 5 } else { think_mean };
        let nemeses = draw_nemeses(random);
        let damages = nemeses.iter().any(|nemesis| nemesis.damages());
        Plan {
            nodes,
            clients,
            readers: 4,
            keys: random.within(2, 5) as usize,
            pipelined_max: random.skewed(1, 8) as usize,
            reads_pipelined_max: None,
            think: Delay { low: think_mean / 2, high: think_mean * 3 / 2, tail_rate: 0, tail_high: 0 },
            value_bytes_max: [40, 200, 2000][random.index(3)],
            client_patience: random.within(500, 4000) * MILLI,
            heartbeat: Duration::from_millis(heartbeat_ms),
            election_timeout_min: Duration::from_millis(election_ms),
            election_timeout_max: Duration::from_millis(election_max_ms),
            persist_stall: Duration::from_millis(random.within(800, 2000)),
            request_timeout: Duration::from_millis(random.within(400, 3000)),
            segment_bytes: [64, 64, 128][random.index(3)] * 1024,
            log_memory_bytes_max: random.skewed(16 * 1024, 512 * 1024) as usize,
            uncommitted_bytes_max: random.skewed(4 * 1024, 1024 * 1024) as usize,
            append_bytes_max: random.skewed(1024, 128 * 1024) as usize,
            window_bytes_max: random.skewed(4 * 1024, 1024 * 1024) as usize,
            window_messages_max: random.skewed(2, 64) as usize,
            requests_max: random.skewed(8, 1024) as usize,
            network: draw_network(random, !nemeses.is_empty()),
            delays: draw_delays(random),
            // Some worlds never come to rest.
            nemesis_every: random.skewed(SECOND / 4, 6 * SECOND),
            lasts_max: random.skewed(SECOND / 4, 8 * SECOND),
            dies_voting: if nemeses.is_empty() { 0 } else { [0, 0, 50_000, 300_000][random.index(4)] },
            damages: if damages { draw_damages(random, nodes) } else { Damages::None },
            scrub_interval: Duration::from_millis(random.skewed(2000, 60_000)),
            leases: Vec::new(),
            read_stands: Delay { low: 0, high: 20 * MICRO, tail_rate: 20_000, tail_high: SECOND },
            drill: None,
            nemeses,
        }
    }
}

/// Mostly all nodes have the same; now and then some promise less, or nothing, and in some seeds nobody does.
fn draw_leases(plan: &Plan, random: &mut Random) -> Vec<Option<LeaseConfig>> {
    let lease = |promise_ms: u64| {
        let promise = Duration::from_millis(promise_ms).min(PROMISE_MAX);
        Some(LeaseConfig { promise, drift_percent: LEASE_DRIFT_PERCENT })
    };
    let longest_ms = PROMISE_MAX.as_millis() as u64;
    let election_ms = plan.election_timeout_min.as_millis() as u64;
    match plan.drill {
        // A clock that jumps has shown more than has passed.
        Some(Drill::LateForward) => return vec![None; plan.nodes],
        Some(Drill::Lease) => return vec![lease(longest_ms); plan.nodes],
        _ => {}
    }
    let most = match random.below(8) {
        0 => return vec![None; plan.nodes],
        1 | 2 => longest_ms, // an election waits for it alone
        _ => election_ms * random.within(50, 95) / 100,
    };
    let of_one = |_| match random.below(8) {
        0 => None,
        1 => lease(random.within(10, longest_ms)),
        _ => lease(most),
    };
    (0..plan.nodes).map(of_one).collect()
}

fn draw_nemeses(random: &mut Random) -> Vec<Nemesis> {
    match random.below(16) {
        0 => Vec::new(),
        1..=4 => Nemesis::ALL.to_vec(),
        // Only what makes leaders come and go.
        5..=7 => vec![Nemesis::Split, Nemesis::OneWay, Nemesis::Bridge, Nemesis::Clog, Nemesis::Kill, Nemesis::Pause],
        _ => Nemesis::ALL.into_iter().filter(|_| random.below(5) < 2).collect(),
    }
}

fn draw_network(random: &mut Random, faults: bool) -> NetworkPlan {
    let low = random.skewed(50 * MICRO, 5 * MILLI);
    let mut rate = |max: u64| -> PerMillion {
        match random.below(3) {
            _ if !faults => 0,
            0 => 0,
            _ => random.skewed(100, max) as PerMillion,
        }
    };
    let (lose, overtake, repeat, delay_long) = (rate(100_000), rate(100_000), rate(50_000), rate(50_000));
    let high = low * random.within(2, 4);
    let delay = Delay { low, high, tail_rate: 5_000, tail_high: high * 10 };
    NetworkPlan { delay, lose, overtake, repeat, delay_long }
}

fn draw_delays(random: &mut Random) -> Delays {
    let persist = random.skewed(200 * MICRO, 8 * MILLI);
    let tail_rate = random.skewed(10, 10_000) as PerMillion;
    Delays {
        wake: Delay { low: 10 * MICRO, high: 200 * MICRO, tail_rate, tail_high: 20 * MILLI },
        persist: Delay { low: persist, high: 4 * persist, tail_rate, tail_high: 100 * MILLI },
        background: Delay { low: persist, high: 20 * persist, tail_rate, tail_high: 500 * MILLI },
        start: Delay { low: MILLI, high: random.skewed(2 * MILLI, 200 * MILLI), tail_rate: 0, tail_high: 0 },
    }
}

fn draw_damages(random: &mut Random, nodes: usize) -> Damages {
    match random.below(10) {
        0..=6 if nodes >= 2 => Damages::Many,
        7 | 8 if nodes >= 3 => Damages::One(random.index(nodes)),
        _ if nodes >= 3 => Damages::Wipes((0..(nodes - 1) / 2).map(|_| random.index(nodes)).collect()),
        _ => Damages::None,
    }
}
