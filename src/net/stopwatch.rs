//! What the net thread measures of the stages of requests ([`Stages`]): decode, and apply to reply.
//!
//! Without stages it does nothing. Its looks at the clock are few: while a turn hands requests on, one for every few
//! connections; and one behind a turn that wrote answers.

use std::sync::Arc;
use std::time::Instant;

use super::Stages;
use crate::api::{Latency, Outcome, Reply};
use crate::base::{Moment, NodeId, Stage};

/// Connections whose requests are handed on between two looks at the clock: the others are said to be handed on some
/// microseconds too early.
const CONNECTIONS_A_LOOK: usize = 8;

#[derive(Debug, Default)]
pub struct Stopwatch {
    stages: Option<Arc<Stages>>,
    /// When this turn began, and the last look since; zero before the first.
    began: Moment,
    looked: Moment,
    /// Connections that handed anything on in this turn.
    connections: usize,
    /// The one that is served now has not yet.
    is_new: bool,
    /// Answers that this turn has written, and when they were ready.
    written: Vec<(Moment, u32)>,
    /// What is told in this turn, however often it is asked.
    told: Option<Latency>,
}

/// The answers that a connection has taken, and that may not be on its socket yet: how many, and since when the first.
#[derive(Debug, Default)]
pub struct Unwritten(Option<(Moment, u32)>);

impl Unwritten {
    /// One more, which was `ready` then; zero: nobody measures.
    pub fn add(&mut self, ready: Moment) {
        if ready > Moment::ZERO {
            let (_, count) = self.0.get_or_insert((ready, 0));
            *count += 1;
        }
    }
}

impl Stopwatch {
    pub fn new(stages: Option<Arc<Stages>>) -> Stopwatch {
        Stopwatch { stages, ..Stopwatch::default() }
    }

    pub fn begin_turn(&mut self) {
        (self.connections, self.told) = (0, None);
    }

    pub fn begin_connection(&mut self) {
        self.is_new = true;
    }

    /// The connection hands on a request, in the turn that began at `turn`. When that is; zero if nobody measures.
    pub fn hand_on(&mut self, turn: Instant) -> Moment {
        let Some(stages) = &self.stages else { return Moment::ZERO };
        if std::mem::take(&mut self.is_new) {
            if self.connections.is_multiple_of(CONNECTIONS_A_LOOK) {
                self.looked = stages.now();
                if self.connections == 0 {
                    self.began = self.looked - turn.elapsed();
                }
            }
            self.connections += 1;
        }
        stages.record(Stage::Decode, self.looked, self.looked.since(self.began), 1);
        self.looked
    }

    /// All that a connection had to write is written.
    pub fn on_written(&mut self, unwritten: &mut Unwritten) {
        self.written.extend(unwritten.0.take());
    }

    pub fn end_turn(&mut self) {
        let Some(stages) = self.stages.as_ref().filter(|_| !self.written.is_empty()) else { return };
        let now = stages.now();
        for (ready, count) in self.written.drain(..) {
            stages.record(Stage::ApplyToReply, now, now.since(ready), count.into());
        }
    }

    /// What node `id`, this one, answers to who asks for it.
    pub fn tell(&mut self, id: NodeId) -> Reply {
        let look = || self.stages.as_ref().map_or(Latency { id, stages: Vec::new() }, |stages| stages.latency(id));
        let latency = self.told.get_or_insert_with(look).clone();
        Reply { result: Ok(Outcome::Latency(Box::new(latency))), leader: None }
    }
}
