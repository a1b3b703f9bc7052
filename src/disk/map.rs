//! Where entries lie: the log's terms, and a sparse index into its segments. Shared by the wal, which extends it once
//! a batch is durable, and by readers on other threads.
//!
//! The log on disk is a sequence of records in the order they were written; one whose index is not behind the last
//! replaces everything from there on. A *point* remembers a batch's place and the lowest index in it. Points of
//! batches whose lowest index is at or above that of a later batch are dropped, so that they ascend in place and in
//! index, and the live entry *x* is never before the last point whose index is at most *x*: anything of index *x*
//! before it was replaced by it. From there a reader goes forward and takes what has the right index and term; by
//! Raft's log matching property those two name one content.
//!
//! The map also knows the batches that are damaged: what was in them, and which of it is lost. A batch that replaces
//! lost records makes them *dead*: nobody has to find their content any more. So what is missing never has to be
//! told to the map, or to who repairs: it follows from what the wal appends.

use std::collections::BTreeMap;

use super::record::{Run, Written};
use super::salvage::Lost;
use crate::base::{LogIndex, Term};
use crate::raft::MissingEntry;

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

/// A batch of which something is lost.
#[derive(Clone, Debug)]
pub(super) struct DamagedBatch {
    pub place: BatchPlace,
    pub written: Written,
    /// The batch before it; its header says so.
    pub previous: Option<Written>,
    /// Ascending.
    pub lost: Vec<Lost>,
    /// From here on its records are dead: a later batch replaced them.
    pub live_until: LogIndex,
}

impl DamagedBatch {
    pub fn live(&self) -> impl Iterator<Item = &Lost> {
        self.lost.iter().filter(|lost| lost.index < self.live_until)
    }

    /// The batch after it was read again, with what is `lost` now; `None` if that is not more than was known.
    pub fn with_lost(&self, lost: Vec<Lost>) -> Option<DamagedBatch> {
        let mut all: BTreeMap<LogIndex, Lost> = lost.into_iter().map(|lost| (lost.index, lost)).collect();
        all.extend(self.lost.iter().map(|lost| (lost.index, *lost)));
        let is_more = all.len() > self.lost.len();
        is_more.then(|| DamagedBatch { lost: all.into_values().collect(), ..self.clone() })
    }
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
    tail: Option<(BatchPlace, Written)>,
    bytes_since_point: u64,
    /// Of all batches.
    bytes: u64,
    /// By number.
    damaged: BTreeMap<u64, DamagedBatch>,
    has_given_up: bool,
}

/// What a reader needs to fetch entries without holding the map.
pub(super) struct ReadPlan {
    pub start: BatchPlace,
    /// The last batch that is durable; nothing behind it may be looked at.
    pub tail: BatchPlace,
    pub lo: LogIndex,
    pub hi: LogIndex,
    term_runs: Vec<(LogIndex, Term)>,
    /// Batches to be read record by record.
    pub damaged: BTreeMap<u64, DamagedBatch>,
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

    /// What all batches take in their segments.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn tail(&self) -> Option<(BatchPlace, Written)> {
        self.tail
    }

    /// Whether entries from `first` on, of `term`, may follow or replace what is there; an error says why not.
    pub fn check(&self, first: LogIndex, term: Term) -> Result<(), String> {
        if first == LogIndex::ZERO || first.prev() > self.last {
            return Err(format!("entry {first} does not follow on entry {}", self.last));
        }
        let before = self.term(first.prev());
        if term < before || term == Term::ZERO {
            return Err(format!("entry {first} has term {term}, the entry before it {before}"));
        }
        Ok(())
    }

    /// Takes checked entries of one term.
    pub fn push(&mut self, run: &Run) {
        let kept = self.term_runs.partition_point(|(first, _)| *first < run.first);
        self.term_runs.truncate(kept);
        if self.term_runs.last().is_none_or(|(_, term)| *term != run.term) {
            self.term_runs.push((run.first, run.term));
        }
        self.last = run.last();
        self.give_up(run.first);
    }

    /// Nobody needs any more what was lost of `from` and behind it.
    pub fn give_up(&mut self, from: LogIndex) {
        for damaged in self.damaged.values_mut() {
            let before = damaged.live().count();
            damaged.live_until = damaged.live_until.min(from);
            self.has_given_up |= damaged.live().count() < before;
        }
    }

    /// Whether, since this was asked last, less is needed of a damaged batch than before.
    pub fn take_given_up(&mut self) -> bool {
        std::mem::take(&mut self.has_given_up)
    }

    /// Whether `run`, which is yet to be pushed, goes back before a missing entry in the term of that entry's batch.
    pub fn is_cut_by(&self, run: &Run) -> bool {
        let lost = |batch: &DamagedBatch| batch.live().any(|lost| lost.index >= run.first);
        self.damaged.values().any(|batch| batch.written.run.term == run.term && lost(batch))
    }

    /// The run pushed last lies at `place`.
    pub fn place(&mut self, place: BatchPlace, written: Written) {
        let lowest = written.run.first;
        let kept = self.points.partition_point(|point| point.lowest < lowest);
        let replaces = kept < self.points.len();
        self.points.truncate(kept);
        let new_segment = self.tail.is_none_or(|(tail, _)| tail.segment != place.segment);
        self.bytes_since_point += place.extent;
        self.bytes += place.extent;
        if replaces || new_segment || self.points.is_empty() || self.bytes_since_point >= POINT_BYTES {
            self.points.push(Point { place, lowest });
            self.bytes_since_point = 0;
        }
        self.tail = Some((place, written));
    }

    /// How to read `lo..=hi`, as far as the log goes and nothing is missing; `None` if that is not as far as `lo`.
    pub fn plan(&self, lo: LogIndex, hi: LogIndex) -> Option<ReadPlan> {
        let lo = lo.max(LogIndex(1));
        let live = self.damaged.values().flat_map(DamagedBatch::live);
        let missing = live.map(|lost| lost.index).filter(|index| *index >= lo).min();
        let hi = hi.min(self.last).min(missing.map_or(LogIndex(u64::MAX), LogIndex::prev));
        if lo > hi {
            return None;
        }
        let point = self.points.partition_point(|point| point.lowest <= lo).checked_sub(1)?;
        let runs = self.term_runs.partition_point(|(first, _)| *first <= lo).saturating_sub(1);
        let term_runs = self.term_runs[runs..].iter().take_while(|(first, _)| *first <= hi).copied().collect();
        let (tail, _) = self.tail?;
        let start = self.points[point].place;
        let damaged = self.damaged.range(start.batch..).map(|(number, batch)| (*number, batch.clone())).collect();
        Some(ReadPlan { start, tail, lo, hi, term_runs, damaged })
    }

    // ---- damage --------------------------------------------------------------------------------------------

    /// The batch pushed last, or an earlier one of which `live_until` is known, has lost something.
    pub fn note_damage(&mut self, batch: DamagedBatch) {
        self.damaged.insert(batch.place.batch, batch);
    }

    pub fn damaged(&self) -> &BTreeMap<u64, DamagedBatch> {
        &self.damaged
    }

    /// Up to which index, without it, a batch that was written some time ago still counts. By Raft's log matching
    /// property an index whose term is that of the batch has the content that the batch gave it.
    pub fn live_until(&self, run: &Run) -> LogIndex {
        let replaced = |index: &LogIndex| *index > self.last || self.term(*index) != run.term;
        (run.first.0..=run.last().0).map(LogIndex).find(replaced).unwrap_or(run.last().next())
    }

    /// It is whole again, or holds only what is dead anyway.
    pub fn forget_damage(&mut self, batch: u64) {
        self.damaged.remove(&batch);
    }

    /// Live entries that are lost, ascending.
    pub fn missing(&self) -> Vec<MissingEntry> {
        let of = |batch: &DamagedBatch| {
            let term = batch.written.run.term;
            let entry =
                |lost: &Lost| MissingEntry { index: lost.index, term, checksum: lost.header.map(|h| h.checksum) };
            batch.live().map(entry).collect::<Vec<_>>()
        };
        let mut missing: Vec<MissingEntry> = self.damaged.values().flat_map(of).collect();
        missing.sort_by_key(|entry| entry.index);
        missing.dedup_by_key(|entry| entry.index);
        missing
    }
}
