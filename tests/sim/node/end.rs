//! How a process ends, by itself or not, and what its disk was doing at that moment.

use super::super::chance::Chance;
use super::super::faults::Fault;
use super::super::plan::SECOND;
use super::super::trace::Kind;
use super::super::world::{Event, Time, World};
use super::{Actor, Life};

impl World {
    /// The process is gone, in the middle of what it was doing.
    pub fn kill(&mut self, at: usize) {
        let operations = 1 + self.random.below(8);
        match self.nodes[at].life {
            Life::Up(_) => self.cut_short(at, operations),
            Life::Starting => {
                self.nodes[at].disk.power_off_in(operations);
                let _ = self.open(at);
            }
            Life::Down | Life::Refused => {}
        }
        let node = &mut self.nodes[at];
        node.disk.end_process();
        node.epoch += 1;
        node.end_pause();
        if !matches!(node.life, Life::Refused) {
            node.life = Life::Down;
        }
        self.break_all_of(at);
    }

    /// What the threads that use the disk were doing is done in part, up to one of its operations.
    fn cut_short(&mut self, at: usize, operations: u64) {
        let disk = self.nodes[at].disk.clone();
        let now = self.nodes[at].clock.now(self.now);
        let Some((actors, mut exits)) = self.turn(at, Actor::Wal) else { return };
        if actors.wal_busy_until.is_some() {
            disk.power_off_in(operations);
            let _ = actors.wal.persist(&mut exits);
        }
        if let Some((_, event)) = actors.background_busy.take() {
            disk.power_off_in(operations);
            let _ = match event {
                Some(event) => actors.background.on_event(now, event, &mut exits),
                None => actors.background.on_time(now, &mut exits),
            };
        }
    }

    /// The node has ended by itself.
    pub(super) fn end(&mut self, at: usize, why: &str) {
        self.trace.note(self.now, at + 1, Kind::End, 0, format_args!("{why}"));
        let node = &mut self.nodes[at];
        node.life = Life::Down;
        node.disk.end_process();
        node.epoch += 1;
        let epoch = node.epoch;
        self.break_all_of(at);
        let delay = self.random.within(SECOND / 20, 2 * SECOND);
        self.schedule(delay, Event::Restart { at, epoch });
    }

    /// The disk takes no operation to its end before `until`.
    pub fn stall(&mut self, at: usize, until: Time) {
        let Life::Up(running) = &mut self.nodes[at].life else { return };
        self.tally.count(Fault::Stalled);
        if let Some(busy) = &mut running.actors.wal_busy_until {
            *busy = until.max(*busy);
        }
        if let Some((busy, _)) = &mut running.actors.background_busy {
            *busy = until.max(*busy);
        }
    }
}
