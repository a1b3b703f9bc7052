//! What is on its way between the actors of a process. What goes down one lane arrives in order; between lanes chance
//! decides.

use std::collections::VecDeque;

use raftkv::base::Random;
use raftkv::net::NetEvent;
use raftkv::node::background::BackgroundEvent;
use raftkv::node::consensus::ConsensusEvent;
use raftkv::node::exits::Exits;
use raftkv::node::wal::WalEvent;

use super::super::chance::{Chance, Delay};
use super::super::world::Time;
use super::Actor;

/// What waits for one actor from another.
pub struct Lane<T> {
    queue: VecDeque<(Time, T)>,
    last_due: Time,
}

impl<T> Lane<T> {
    fn new() -> Lane<T> {
        Lane { queue: VecDeque::new(), last_due: 0 }
    }

    fn push(&mut self, due: Time, item: T) {
        self.last_due = self.last_due.max(due);
        self.queue.push_back((self.last_due, item));
    }

    /// The item that was put in last.
    pub fn newest(&self) -> Option<&T> {
        self.queue.back().map(|(_, item)| item)
    }

    fn due(&self) -> Option<Time> {
        self.queue.front().map(|(due, _)| *due)
    }

    fn is_due(&self, now: Time) -> bool {
        self.due().is_some_and(|due| due <= now)
    }
}

pub struct Lanes {
    pub consensus: [Lane<ConsensusEvent>; 3],
    pub wal: [Lane<WalEvent>; 2],
    pub background: [Lane<BackgroundEvent>; 2],
    pub net: [Lane<NetEvent>; 2],
}

impl Lanes {
    pub fn new() -> Lanes {
        Lanes {
            consensus: std::array::from_fn(|_| Lane::new()),
            wal: std::array::from_fn(|_| Lane::new()),
            background: std::array::from_fn(|_| Lane::new()),
            net: std::array::from_fn(|_| Lane::new()),
        }
    }

    pub fn due(&self, actor: Actor) -> Option<Time> {
        fn first<T>(lanes: &[Lane<T>]) -> Option<Time> {
            lanes.iter().filter_map(Lane::due).min()
        }
        match actor {
            Actor::Net => first(&self.net),
            Actor::Consensus => first(&self.consensus),
            Actor::Wal => first(&self.wal),
            Actor::Background => first(&self.background),
        }
    }
}

/// Takes what is due from all `lanes`, each in its order, mixed by chance.
pub fn take_due<T>(lanes: &mut [Lane<T>], now: Time, random: &mut Random, into: &mut Vec<T>, most: usize) {
    while into.len() < most {
        let ready = lanes.iter().filter(|lane| lane.is_due(now)).count();
        let chosen = match ready {
            0 => return,
            1 => 0,
            _ => random.index(ready),
        };
        let lane = lanes.iter_mut().filter(|lane| lane.is_due(now)).nth(chosen).expect("so many are ready");
        if ready == 1 {
            while into.len() < most && lane.is_due(now) {
                into.extend(lane.queue.pop_front().map(|(_, item)| item));
            }
        } else {
            into.extend(lane.queue.pop_front().map(|(_, item)| item));
        }
    }
}

/// The exits of one turn of one actor; and its inbox, since both are lanes.
pub struct SimExits<'a> {
    pub lanes: &'a mut Lanes,
    pub from: Actor,
    pub now: Time,
    /// From the moment that something is in an inbox until its actor has woken up.
    pub wake: Delay,
    pub random: &'a mut Random,
}

impl SimExits<'_> {
    fn due(&mut self) -> Time {
        self.now + self.wake.draw(self.random)
    }
}

impl Exits for SimExits<'_> {
    fn to_consensus(&mut self, event: ConsensusEvent) {
        let due = self.due();
        let lane = match self.from {
            Actor::Net => 0,
            Actor::Wal => 1,
            _ => 2,
        };
        self.lanes.consensus[lane].push(due, event);
    }

    fn to_wal(&mut self, event: WalEvent) {
        let due = self.due();
        self.lanes.wal[usize::from(self.from == Actor::Background)].push(due, event);
    }

    fn to_background(&mut self, event: BackgroundEvent) {
        let due = self.due();
        self.lanes.background[usize::from(self.from == Actor::Wal)].push(due, event);
    }

    fn to_net(&mut self, events: &mut Vec<NetEvent>) {
        let due = self.due();
        let lane = &mut self.lanes.net[usize::from(self.from == Actor::Wal)];
        events.drain(..).for_each(|event| lane.push(due, event));
    }
}
