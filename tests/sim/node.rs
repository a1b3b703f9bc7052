//! A node: the production code of its three threads and its network, each an actor with an inbox of its own.
//!
//! ```text
//! actor       inbox (lanes)                  runs                              then
//! net         from consensus, from wal       Session, Admission, LinkQueue     bytes to clients and peers
//! consensus   from net, wal, background      node::consensus::Consensus::turn  lanes to all others
//! wal         from consensus, background     node::wal::WalWork                its time is drawn; then lanes
//! background  from consensus, from wal       node::background::Background      its time is drawn; then lanes
//! ```
//!
//! What goes down one lane arrives in order; between lanes, and between actors, chance decides. A wal that works on a
//! batch does it at the end of its time. When its node is killed in the meantime, it does a part of it, up to some
//! operation of the disk, and nothing that follows from it leaves.

mod end;
mod lanes;
mod observe;
mod start;
mod turns;

use std::collections::BTreeSet;

use raftkv::base::{LogIndex, Moment, NodeId, Random, Role, Term};
use raftkv::node::background::{Background, BackgroundEvent};
use raftkv::node::consensus::Consensus;
use raftkv::node::replica::Replica;
use raftkv::node::wal::WalWork;
use raftkv::raft;

pub use self::lanes::{Lanes, SimExits};
use super::chance::Chance;
use super::clock::Clock;
use super::disk::SimDisk;
use super::network::NodeNet;
use super::plan::SECOND;
use super::world::{Time, World};

pub const CLUSTER_NAME: &str = "sim";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    Net,
    Consensus,
    Wal,
    Background,
}

impl Actor {
    const ALL: [Actor; 4] = [Actor::Net, Actor::Consensus, Actor::Wal, Actor::Background];
}

pub struct Node {
    pub id: NodeId,
    pub disk: SimDisk,
    pub clock: Clock,
    /// Counts its processes: what was meant for an earlier one finds nobody.
    pub epoch: u32,
    pub life: Life,
    pub paused_until: Time,
    /// When consensus goes on behind that: the net thread may have been first, or last.
    pub consensus_paused_until: Time,
    /// Orders what has to wait for the end of a pause.
    pub pause_backlog: u64,
    /// Its disk lost something: it may find less at a start than it had, or refuse to start.
    pub is_damaged: bool,
    /// Entries that damage took from its disk. They may be there again.
    pub lost: BTreeSet<(LogIndex, Term)>,
    /// Its directory was emptied: it counts no more.
    pub is_wiped: bool,
    /// Until then its disk takes no operation to its end.
    pub stalled_until: Time,
}

pub enum Life {
    /// Nobody starts it for now.
    Down,
    Starting,
    Up(Box<Running>),
    /// It refused to start.
    Refused,
}

/// A process.
pub struct Running {
    pub actors: Actors,
    pub lanes: Lanes,
    wakes: [Wakes; 4],
    seen: Seen,
}

/// When an actor wakes up.
#[derive(Default)]
struct Wakes {
    /// What is due for it next; of the wakes before and behind it nothing comes.
    next: Option<Time>,
    /// All that are on their way. An actor that goes back to sleep until the time that it was woken up before has its
    /// wake there already.
    scheduled: Vec<Time>,
}

/// The production code of a process.
pub struct Actors {
    consensus: Consensus,
    wal: WalWork,
    wal_busy_until: Option<Time>,
    background: Background,
    /// `None` in it: what is due by the clock.
    background_busy: Option<(Time, Option<BackgroundEvent>)>,
    pub net: NodeNet,
    /// Each thread stood still in the middle of a turn: what the clock showed when that began.
    pub stood_since: Option<Moment>,
}

impl Running {
    pub fn replica(&self) -> &Replica {
        self.actors.consensus.replica()
    }
}

/// What the checks saw of it last.
#[derive(Clone, Copy)]
struct Seen {
    role: Role,
    term: Term,
    commit: LogIndex,
    applied: LogIndex,
}

impl Node {
    pub fn new(at: usize, random: &mut Random) -> Node {
        Node {
            id: NodeId::new(at as u32 + 1).expect("it is not 0"),
            disk: SimDisk::new(random.split(), u64::MAX),
            clock: Clock::new(random.below(1000 * SECOND)),
            epoch: 0,
            life: Life::Down,
            paused_until: 0,
            consensus_paused_until: 0,
            pause_backlog: 0,
            is_damaged: false,
            lost: BTreeSet::new(),
            is_wiped: false,
            stalled_until: 0,
        }
    }

    pub fn running(&mut self) -> Option<&mut Running> {
        match &mut self.life {
            Life::Up(running) => Some(running),
            _ => None,
        }
    }

    /// Until when it does nothing, if it stands still.
    fn stands_until(&self, actor: Actor) -> Time {
        if actor == Actor::Consensus { self.consensus_paused_until } else { self.paused_until }
    }

    /// Goes on at once, should it stand still.
    pub fn end_pause(&mut self) {
        self.paused_until = 0;
        self.consensus_paused_until = 0;
        self.pause_backlog = 0;
    }

    pub fn is_up(&self) -> bool {
        matches!(self.life, Life::Up(_))
    }
}

pub fn log_terms(log: &raft::LogTail) -> Vec<Term> {
    let mut terms = Vec::with_capacity(log.last_index.0 as usize);
    for (at, (first, term)) in log.term_runs.iter().enumerate() {
        let end = log.term_runs.get(at + 1).map_or(log.last_index.next(), |(next, _)| *next);
        terms.resize(terms.len() + (end.0 - first.0) as usize, *term);
    }
    terms
}

impl World {
    /// The process of a node, if it runs, and the exits of its actor `from` for a turn of it.
    pub fn turn(&mut self, at: usize, from: Actor) -> Option<(&mut Actors, SimExits<'_>)> {
        let Life::Up(running) = &mut self.nodes[at].life else { return None };
        let Running { actors, lanes, .. } = &mut **running;
        let (now, wake) = (self.now, self.plan.delays.wake);
        Some((actors, SimExits { lanes, from, now, wake, random: &mut self.random }))
    }
}
