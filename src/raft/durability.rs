//! What the wal has been given, and how much of it is durable.
//!
//! The wal acknowledges batches by number, first in, first out, and never names a log index: entries of a batch may
//! have been overwritten, in a later batch, while its fsync was in flight. So each batch in flight remembers how far
//! the log is durable once it is done, and a truncation lowers that for every batch queued before it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{HardState, LogIndex, Moment, PersistSeq};
use crate::guard::{Guard, removed};

pub(super) struct Durability {
    durable_index: LogIndex,
    durable_hard_state: HardState,
    last_seq: PersistSeq,
    in_flight: VecDeque<Batch>,
}

struct Batch {
    seq: PersistSeq,
    /// The log is durable up to here once this batch is: its end, or what a truncation queued since has left of it.
    end: LogIndex,
    hard_state: HardState,
    queued_at: Moment,
}

impl Durability {
    pub fn new(durable_index: LogIndex, durable_hard_state: HardState) -> Durability {
        Durability { durable_index, durable_hard_state, last_seq: PersistSeq::ZERO, in_flight: VecDeque::new() }
    }

    /// Every entry up to here, as the log has it now, survives a crash.
    pub fn durable_index(&self) -> LogIndex {
        self.durable_index
    }

    pub fn covers(&self, index: LogIndex, hard_state: HardState) -> bool {
        index <= self.durable_index && hard_state == self.durable_hard_state
    }

    /// The term and vote that will be durable once the queue is empty.
    pub fn queued_hard_state(&self) -> HardState {
        self.in_flight.back().map_or(self.durable_hard_state, |batch| batch.hard_state)
    }

    pub fn last_seq(&self) -> PersistSeq {
        self.last_seq
    }

    /// A new batch goes to the wal; after it the log is durable up to `end`.
    pub fn queue(&mut self, end: LogIndex, hard_state: HardState, now: Moment) -> PersistSeq {
        self.last_seq = self.last_seq.next();
        self.in_flight.push_back(Batch { seq: self.last_seq, end, hard_state, queued_at: now });
        self.last_seq
    }

    /// The newest batch has not left yet and takes more.
    pub fn extend(&mut self, end: LogIndex, hard_state: HardState) {
        let batch = self.in_flight.back_mut().expect("a batch that has not left is in flight");
        batch.end = end;
        batch.hard_state = hard_state;
    }

    /// Entries from `from` on are about to be replaced: no batch queued so far makes them durable any more.
    pub fn on_truncated(&mut self, from: LogIndex) {
        let kept = from.prev();
        self.durable_index = self.durable_index.min(kept);
        for batch in self.in_flight.iter_mut().filter(|_| !removed(Guard::OldCompletionCounts)) {
            batch.end = batch.end.min(kept);
        }
    }

    pub fn on_persisted(&mut self, seq: PersistSeq) {
        let seq = if removed(Guard::CompletionCoversAll) { self.last_seq } else { seq };
        while self.in_flight.front().is_some_and(|batch| batch.seq <= seq) {
            let batch = self.in_flight.pop_front().expect("there is a first batch");
            self.durable_index = self.durable_index.max(batch.end);
            self.durable_hard_state = batch.hard_state;
        }
    }

    /// How long the oldest batch has been with the wal.
    pub fn oldest_in_flight(&self, now: Moment) -> Duration {
        self.in_flight.front().map_or(Duration::ZERO, |batch| now.since(batch.queued_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(durability: &mut Durability, end: u64) -> PersistSeq {
        durability.queue(LogIndex(end), HardState::default(), Moment::ZERO)
    }

    #[test]
    fn the_late_fsync_of_overwritten_entries_does_not_make_their_successors_durable() {
        let mut durability = Durability::new(LogIndex(2), HardState::default());
        let old = queue(&mut durability, 6);
        durability.on_truncated(LogIndex(4));
        let new = queue(&mut durability, 5);
        durability.on_persisted(old);
        assert_eq!(durability.durable_index(), LogIndex(3));
        durability.on_persisted(new);
        assert_eq!(durability.durable_index(), LogIndex(5));
    }

    #[test]
    fn a_truncation_of_what_is_durable_takes_it_back() {
        let mut durability = Durability::new(LogIndex(9), HardState::default());
        durability.on_truncated(LogIndex(5));
        assert_eq!(durability.durable_index(), LogIndex(4));
    }

    #[test]
    fn an_acknowledgement_covers_all_batches_before_it_and_none_behind() {
        let mut durability = Durability::new(LogIndex::ZERO, HardState::default());
        queue(&mut durability, 1);
        let second = queue(&mut durability, 2);
        queue(&mut durability, 3);
        durability.on_persisted(second);
        assert_eq!(durability.durable_index(), LogIndex(2));
    }
}
