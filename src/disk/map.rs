//! Where entries lie: the log's terms, and a sparse index into its segments. Shared by the wal, which extends it once
//! a batch is durable, and by readers on other threads.
//!
//! The log on disk is a sequence of records in the order they were written; one whose index is not behind the last
//! replaces everything from there on. A *point* remembers a batch's place and the lowest index in it. Points of
//! batches whose lowest index is at or above that of a later batch are dropped, so that they ascend in place and in
//! index, and the live entry *x* is never before the last point whose index is at most *x*: anything of index *x*
//! before it was replaced by it. From there a reader goes forward and takes what has the right index and term; by
//! Raft's log matching property those two name one content.

use crate::base::{Entry, LogIndex, Term};

/// A new point at least every so many bytes: 40 bytes of memory for each.
const POINT_BYTES: u64 = 256 * 1024;

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchPlace {
    pub segment: u64,
    pub offset: u64,
    pub batch: u64,
    /// In bytes.
    pub extent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    place: BatchPlace,
    lowest: LogIndex,
}

#[derive(Clone, Debug, Default)]
pub(super) struct LogMap {
    points: Vec<Point>,
    /// (first index, term), ascending in both.
    term_runs: Vec<(LogIndex, Term)>,
    last: LogIndex,
    /// The last batch.
    tail: Option<BatchPlace>,
    bytes_since_point: u64,
}

/// What a reader needs to fetch entries without holding the map.
pub(super) struct ReadPlan {
    pub start: BatchPlace,
    /// The last batch that is durable; nothing behind it may be looked at.
    pub tail: BatchPlace,
    pub lo: LogIndex,
    pub hi: LogIndex,
    term_runs: Vec<(LogIndex, Term)>,
}

impl ReadPlan {
    /// The term of the entry at `index`, which must be within `lo..=hi`.
    pub fn term(&self, index: LogIndex) -> Term {
        term_in(&self.term_runs, index)
    }
}

/// 0 before the first run.
fn term_in(runs: &[(LogIndex, Term)], index: LogIndex) -> Term {
    match runs.partition_point(|(first, _)| *first <= index) {
        0 => Term::ZERO,
        n => runs[n - 1].1,
    }
}

impl LogMap {
    pub fn last(&self) -> LogIndex {
        self.last
    }

    pub fn last_term(&self) -> Term {
        self.term(self.last)
    }

    pub fn term_runs(&self) -> &[(LogIndex, Term)] {
        &self.term_runs
    }

    fn term(&self, index: LogIndex) -> Term {
        term_in(&self.term_runs, index)
    }

    /// Whether `entry` may follow or replace what is there; an error says why not.
    pub fn check(&self, entry: &Entry) -> Result<(), String> {
        if entry.index == LogIndex::ZERO || entry.index.prev() > self.last {
            return Err(format!("entry {} does not follow on entry {}", entry.index, self.last));
        }
        let before = self.term(entry.index.prev());
        if entry.term < before || entry.term == Term::ZERO {
            return Err(format!("entry {} has term {}, the entry before it {before}", entry.index, entry.term));
        }
        Ok(())
    }

    /// Takes a checked entry of the batch whose place follows.
    pub fn push(&mut self, entry: &Entry) {
        let kept = self.term_runs.partition_point(|(first, _)| *first < entry.index);
        self.term_runs.truncate(kept);
        if self.term_runs.last().is_none_or(|(_, term)| *term != entry.term) {
            self.term_runs.push((entry.index, entry.term));
        }
        self.last = entry.index;
    }

    /// The entries pushed since the last call lie at `place`; `lowest` is their lowest index.
    pub fn place(&mut self, place: BatchPlace, lowest: LogIndex) {
        let kept = self.points.partition_point(|point| point.lowest < lowest);
        let replaces = kept < self.points.len();
        self.points.truncate(kept);
        let new_segment = self.tail.is_none_or(|tail| tail.segment != place.segment);
        self.bytes_since_point += place.extent;
        if replaces || new_segment || self.points.is_empty() || self.bytes_since_point >= POINT_BYTES {
            self.points.push(Point { place, lowest });
            self.bytes_since_point = 0;
        }
        self.tail = Some(place);
    }

    /// How to read `lo..=hi`, as far as the log goes; `None` if it does not reach `lo`.
    pub fn plan(&self, lo: LogIndex, hi: LogIndex) -> Option<ReadPlan> {
        let (lo, hi) = (lo.max(LogIndex(1)), hi.min(self.last));
        if lo > hi {
            return None;
        }
        let point = self.points.partition_point(|point| point.lowest <= lo).checked_sub(1)?;
        let runs = self.term_runs.partition_point(|(first, _)| *first <= lo).saturating_sub(1);
        let term_runs = self.term_runs[runs..].iter().take_while(|(first, _)| *first <= hi).copied().collect();
        Some(ReadPlan { start: self.points[point].place, tail: self.tail?, lo, hi, term_runs })
    }
}
