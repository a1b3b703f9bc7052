//! What is committed, and how it reaches the state machine: in order, without gaps, each entry once.
//!
//! Mostly the entries are in memory. After a restart, or when the state machine fell far behind, they are fetched
//! from the segments, one chunk at a time. What is fetched is believed only as far as its terms are the log's.

use std::collections::BTreeSet;

use super::{Fetch, Outputs, Raft, State, quorum};
use crate::base::limits::FETCH_BYTES_MAX;
use crate::base::{Entry, LogIndex, Moment, Step};
use crate::guard::{Guard, removed};

/// Bytes of entries that one step hands out at most, so that the consensus thread comes back to its inbox; the
/// following steps go on.
const DELIVER_BYTES_MAX: usize = 4 * FETCH_BYTES_MAX;

/// How far entries were handed out, and which reads of the segments are under way.
#[derive(Default)]
pub(super) struct Delivery {
    pub delivered: LogIndex,
    /// First indexes of the fetches that are not answered yet: whoever needs the same entries waits for the same one.
    asked: BTreeSet<LogIndex>,
    /// Those that could not be read for now; a tick allows them again.
    failed: BTreeSet<LogIndex>,
}

impl Delivery {
    pub fn retry_failed(&mut self) {
        self.failed.clear();
    }

    /// Asks for entries `lo..=hi` unless that was done or has just failed. Whether an answer is under way.
    pub fn fetch(&mut self, lo: LogIndex, hi: LogIndex, out: &mut Outputs) -> bool {
        if self.failed.contains(&lo) {
            return false;
        }
        if self.asked.insert(lo) {
            out.fetches.push(Fetch { lo, hi });
        }
        true
    }

    /// Whether entries from `lo` on were asked for, and the answer is still to come.
    pub fn is_asked(&self, lo: LogIndex) -> bool {
        self.asked.contains(&lo)
    }
}

impl Raft {
    /// Leader: an entry of the own term that a majority holds durably is committed, and with it all before it. An
    /// earlier term's entry is never committed by counting (paper, section 5.4.2 and figure 8).
    pub(super) fn maybe_advance_commit(&mut self, out: &mut Outputs) {
        let State::Leader(leading) = &self.state else { return };
        let durable = quorum::reached(self.membership.current(), |member| {
            if member.id == self.config.id {
                return Some(if removed(Guard::LeaderCountsUnsynced) {
                    self.log.last_index()
                } else {
                    self.held_index()
                });
            }
            leading.peers.get(&member.id).filter(|progress| progress.counts(member)).map(|progress| progress.matched)
        });
        if let Some(durable) = durable
            && durable > self.commit
            && (self.log.matches(durable, self.hard_state.term) || removed(Guard::CommitEarlierTerm))
        {
            self.commit = durable;
            Step::Committed.pass(format_args!("up to entry {durable}"));
        }
        self.maybe_settle();
        self.maybe_finish_reads(out);
    }

    /// Entries up to here are committed and durable here: they may be forgotten, and read back from the segments.
    pub(super) fn settled(&self) -> LogIndex {
        self.commit.min(self.durability.durable_index())
    }

    /// Committed entries are in memory that no step has handed out yet: the next one, a tick too, goes on.
    pub fn has_undelivered(&self) -> bool {
        self.delivery.delivered < self.commit && self.log.get(self.delivery.delivered.next()).is_some()
    }

    /// Hands out what is committed, from memory as far as it goes.
    pub(super) fn deliver_committed(&mut self, out: &mut Outputs) {
        let mut bytes = 0;
        while self.delivery.delivered < self.commit && bytes < DELIVER_BYTES_MAX {
            let next = self.delivery.delivered.next();
            let Some(entry) = self.log.get(next) else {
                if !self.repair.is_missing(next) {
                    let hi = self.commit.min(self.log.first_held().prev());
                    self.delivery.fetch(next, hi, out);
                }
                return;
            };
            bytes += entry.cost_bytes();
            out.committed.push(entry.clone());
            self.delivery.delivered = next;
        }
    }

    /// The segments answer. Who waits for these entries takes them: the state machine, and any peers.
    pub(super) fn on_fetched(&mut self, now: Moment, lo: LogIndex, mut entries: Vec<Entry>, out: &mut Outputs) {
        if !self.delivery.asked.remove(&lo) {
            return;
        }
        let is_ours = |(index, entry): &(u64, &Entry)| {
            entry.index == LogIndex(*index) && self.log.matches(entry.index, entry.term)
        };
        let sound = (lo.0..).zip(&entries).take_while(is_ours).count();
        entries.truncate(sound);
        self.send_refilled(lo, &entries, out);
        if entries.is_empty() {
            self.delivery.failed.insert(lo);
            return;
        }
        for entry in &entries {
            if entry.index == self.delivery.delivered.next() && entry.index <= self.commit {
                out.committed.push(entry.clone());
                self.delivery.delivered = entry.index;
            }
        }
        self.send_fetched(now, &entries, out);
    }
}
