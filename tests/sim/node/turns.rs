//! When an actor wakes up, and what it does then: the production turn, between its lanes.

use std::cell::Cell;

use raftkv::node::consensus::AfterTurn;
use raftkv::raft::Persist;

use super::super::chance::Chance;
use super::super::checkers::{Verdict, Violation, durable};
use super::super::trace::Kind;
use super::super::world::{Event, World};
use super::lanes::take_due;
use super::{Actor, Life};

impl World {
    /// The clock has changed: what was to happen when it shows a certain time happens at another.
    pub fn rearm(&mut self, at: usize) {
        if let Life::Up(running) = &mut self.nodes[at].life {
            running.wakes.iter_mut().for_each(|wakes| wakes.next = None);
            self.arm(at);
        }
    }

    /// Sees to it that each actor wakes up when something is due for it.
    pub fn arm(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let (epoch, stands_until) = (node.epoch, Actor::ALL.map(|actor| node.stands_until(actor)));
        let Life::Up(running) = &mut node.life else { return };
        let actors = &running.actors;
        let tick = actors.consensus.sleeps_until().map_or(self.now, |moment| node.clock.when(moment));
        for actor in Actor::ALL {
            let lanes = running.lanes.due(actor);
            let due = match actor {
                Actor::Consensus => Some(lanes.map_or(tick, |due| due.min(tick))),
                Actor::Wal => actors.wal_busy_until.or(lanes),
                Actor::Background => {
                    let by_clock = actors.background.sleeps_until().map(|moment| node.clock.when(moment));
                    let busy = actors.background_busy.as_ref().map(|(until, _)| *until);
                    busy.or_else(|| lanes.into_iter().chain(by_clock).min())
                }
                Actor::Net => lanes,
            };
            let Some(due) = due else { continue };
            let due = due.max(self.now).max(stands_until[actor as usize]);
            let wakes = &mut running.wakes[actor as usize];
            if wakes.next.is_none_or(|at| due < at) {
                wakes.next = Some(due);
                if !wakes.scheduled.contains(&due) {
                    wakes.scheduled.push(due);
                    self.queue.push(due, Event::Wake { at: at as u8, epoch, actor });
                }
            }
        }
    }

    pub fn on_wake(&mut self, at: usize, epoch: u32, actor: Actor) -> Verdict {
        let node = &mut self.nodes[at];
        if node.epoch != epoch {
            return Ok(());
        }
        let stands_until = node.stands_until(actor);
        let Life::Up(running) = &mut node.life else { return Ok(()) };
        let wakes = &mut running.wakes[actor as usize];
        wakes.scheduled.retain(|due| *due != self.now);
        if wakes.next != Some(self.now) {
            return Ok(()); // another wake came first, and this one is for nothing
        }
        wakes.next = None;
        if stands_until <= self.now {
            match actor {
                Actor::Net => self.run_net(at)?,
                Actor::Consensus => self.run_consensus(at)?,
                Actor::Wal => self.run_wal(at)?,
                Actor::Background => self.run_background(at)?,
            }
        }
        self.arm(at);
        Ok(())
    }

    fn run_consensus(&mut self, at: usize) -> Verdict {
        let now = self.nodes[at].clock.now(self.now);
        let mut events = std::mem::take(&mut self.scratch_consensus);
        let Some((actors, mut exits)) = self.turn(at, Actor::Consensus) else { return Ok(()) };
        // Sometimes the inbox is looked at while it fills.
        let most = if exits.random.below(16) == 0 { 1 + exits.random.index(4) } else { 4096 };
        take_due(&mut exits.lanes.consensus, exits.now, exits.random, &mut events, most);
        let count = events.len();
        // Who stands still before it takes its events has looked at the clock too early, if it already has.
        let before = actors.stood_since.filter(|_| count > 0).unwrap_or(now);
        let has_taken = Cell::new(false);
        let clock = || if has_taken.get() { now } else { before };
        let taken = events.drain(..).inspect(|_| has_taken.set(true));
        let after = actors.consensus.turn(clock, taken, &mut exits);
        self.scratch_consensus = events;
        self.trace.note(self.now, at + 1, Kind::Turn, count as u64, format_args!("of {count} events"));
        self.observe_queued(at)?;
        self.observe(at)?;
        match after {
            AfterTurn::Another => Ok(()),
            AfterTurn::Abandoned => unreachable!("nobody abandons a simulated thread"),
            AfterTurn::End(end) => Err(Violation {
                property: "what is committed can be applied",
                what: format!("node {} ends: {end:?}", at + 1),
            }),
        }
    }

    pub(super) fn run_wal(&mut self, at: usize) -> Verdict {
        let (now, disk_due) = (self.now, self.nodes[at].stalled_until.max(self.now));
        let last_act = self.dies_voting_in_drill(at);
        let Some((actors, _)) = self.turn(at, Actor::Wal) else { return Ok(()) };
        match actors.wal_busy_until {
            Some(until) if until > now => return Ok(()),
            Some(_) => {
                actors.wal_busy_until = None;
                if !self.finish_persist(at)? {
                    return Ok(());
                }
            }
            None => {}
        }
        let (persist, dies_voting) = (self.plan.delays.persist, self.plan.dies_voting);
        let Some((actors, mut exits)) = self.turn(at, Actor::Wal) else { return Ok(()) };
        let mut events = Vec::new();
        take_due(&mut exits.lanes.wal, now, exits.random, &mut events, usize::MAX);
        for event in events {
            assert!(actors.wal.take(event), "nobody abandons a simulated wal");
        }
        if actors.wal.persists().is_empty() {
            actors.wal.before_sleep(&mut exits);
            return Ok(());
        }
        let votes = |persist: &Persist| persist.hard_state.is_some_and(|state| state.vote.is_some());
        let is_vote = actors.wal.persists().iter().any(votes);
        let last_act = last_act.filter(|_| is_vote);
        let until = disk_due + persist.draw(exits.random) + last_act.unwrap_or_default();
        actors.wal_busy_until = Some(until);
        let is_shot = is_vote && dies_voting > 0 && self.faults_are_on && self.random.happens(dies_voting);
        if is_shot || last_act.is_some() {
            let (due, epoch) = (self.random.within(now, until), self.nodes[at].epoch);
            self.schedule_at(due, Event::Shot { at, epoch });
        }
        Ok(())
    }

    /// False: the node has ended.
    fn finish_persist(&mut self, at: usize) -> Result<bool, Violation> {
        let Some((actors, mut exits)) = self.turn(at, Actor::Wal) else { return Ok(false) };
        let of = |persist: &Persist| (persist.seq.0, persist.entries.len(), persist.hard_state);
        let mut persists: Vec<_> = actors.wal.persists().iter().map(of).collect();
        match actors.wal.persist(&mut exits) {
            Ok(()) => {
                actors.wal.before_sleep(&mut exits);
                // On a full disk the rest waits.
                persists.truncate(persists.len() - actors.wal.persists().len());
                let seq = persists.last().map_or(0, |(seq, ..)| *seq);
                let hard_state = persists.iter().rev().find_map(|(.., hard_state)| *hard_state);
                let entries = persists.iter().map(|(_, entries, _)| entries).sum();
                let node = &self.nodes[at];
                durable::on_persisted(node.id, node.disk.unsynced_log())?;
                self.checks.shadows[at].on_persisted(entries, hard_state);
                self.trace.note(self.now, at + 1, Kind::Persist, seq, format_args!("{seq}, {entries} entries"));
                Ok(true)
            }
            Err(error) => {
                let why = error.to_string();
                self.end(at, &why);
                Ok(false)
            }
        }
    }

    fn run_background(&mut self, at: usize) -> Verdict {
        let node = &self.nodes[at];
        let (now, moment) = (self.now, node.clock.now(self.now));
        let disk_due = node.stalled_until.max(now);
        let work = self.plan.delays.background;
        let Some((actors, mut exits)) = self.turn(at, Actor::Background) else { return Ok(()) };
        match actors.background_busy.take() {
            Some((until, event)) if until > now => {
                actors.background_busy = Some((until, event));
                return Ok(());
            }
            Some((_, event)) => {
                let done = match event {
                    Some(event) => actors.background.on_event(moment, event, &mut exits),
                    None => actors.background.on_time(moment, &mut exits),
                };
                if let Err(end) = done {
                    self.end(at, &format!("{end:?}"));
                    return Ok(());
                }
            }
            None => {}
        }
        let mut events = Vec::new();
        take_due(&mut exits.lanes.background, now, exits.random, &mut events, 1);
        let is_time = actors.background.sleeps_until().is_some_and(|at| at <= moment);
        if !events.is_empty() || is_time {
            let until = disk_due + work.draw(exits.random);
            actors.background_busy = Some((until, events.pop()));
        }
        Ok(())
    }

    fn run_net(&mut self, at: usize) -> Verdict {
        let mut events = std::mem::take(&mut self.scratch_net);
        let Some((_, exits)) = self.turn(at, Actor::Net) else { return Ok(()) };
        take_due(&mut exits.lanes.net, exits.now, exits.random, &mut events, 4096);
        for event in events.drain(..) {
            self.on_net_event(at, event);
        }
        self.scratch_net = events;
        self.finish_net(at)
    }
}
