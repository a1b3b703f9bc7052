//! The log as consensus sees it: the term of every index, and the last entries themselves.
//!
//! The term of every index stays known by runs (terms rarely change), so that matching and backing off never need
//! the disk. Entries are held from some index to the end; older ones are forgotten once they are both durable and
//! committed, and are then read back from the segments. What is durable is not known here but in `durability.rs`.

use super::LogTail;
use crate::base::{ChunkedQueue, Entry, LogIndex, Term};
use crate::guard::asserting;

pub(super) struct Log {
    /// (first index of the run, term), ascending in both.
    term_runs: Vec<(LogIndex, Term)>,
    last_index: LogIndex,
    /// Consecutive, ending at `last_index`.
    entries: ChunkedQueue<Entry>,
    entries_bytes: usize,
}

impl Log {
    pub fn new(tail: LogTail) -> Log {
        let entries_bytes = tail.entries.iter().map(Entry::cost_bytes).sum();
        Log {
            term_runs: tail.term_runs,
            last_index: tail.last_index,
            entries: tail.entries.into_iter().collect(),
            entries_bytes,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.last_index == LogIndex::ZERO
    }

    pub fn last_index(&self) -> LogIndex {
        self.last_index
    }

    pub fn last_term(&self) -> Term {
        self.term_runs.last().map_or(Term::ZERO, |(_, term)| *term)
    }

    pub fn term_runs(&self) -> &[(LogIndex, Term)] {
        &self.term_runs
    }

    pub fn entries_bytes(&self) -> usize {
        self.entries_bytes
    }

    /// `None` behind the end; term 0 stands before the log.
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        if index > self.last_index {
            return None;
        }
        let runs = self.term_runs.partition_point(|(first, _)| *first <= index);
        Some(runs.checked_sub(1).map_or(Term::ZERO, |run| self.term_runs[run].1))
    }

    /// Whether this log holds an entry of `term` at `index`: then all before it is equal too (Log Matching,
    /// Raft paper, section 5.3).
    pub fn matches(&self, index: LogIndex, term: Term) -> bool {
        self.term(index) == Some(term)
    }

    /// The last position at or below `index` whose term is not above `term`.
    pub fn last_at_or_below(&self, index: LogIndex, term: Term) -> (LogIndex, Term) {
        let index = index.min(self.last_index);
        let runs = self.term_runs.partition_point(|(first, run)| *first <= index && *run <= term);
        let Some(run) = runs.checked_sub(1) else { return (LogIndex::ZERO, Term::ZERO) };
        let run_end = self.term_runs.get(runs).map_or(self.last_index, |(next_first, _)| next_first.prev());
        (index.min(run_end), self.term_runs[run].1)
    }

    /// Whether a log that ends in (`last_term`, `last_index`) is at least as complete as this one (section 5.4.1).
    pub fn is_covered_by(&self, last_index: LogIndex, last_term: Term) -> bool {
        (last_term, last_index) >= (self.last_term(), self.last_index)
    }

    /// The first entry that is held in memory; behind the end if there is none.
    pub fn first_held(&self) -> LogIndex {
        LogIndex(self.last_index.0 + 1 - self.entries.len() as u64)
    }

    /// `None`: not in memory.
    pub fn get(&self, index: LogIndex) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.first_held().0)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Held entries from `lo` on, cut before `bytes_max`; one larger entry comes alone.
    pub fn slice(&self, lo: LogIndex, bytes_max: usize) -> Vec<Entry> {
        let Some(offset) = lo.0.checked_sub(self.first_held().0) else { return Vec::new() };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        cut(self.entries.iter_from(offset), bytes_max).cloned().collect()
    }

    /// The sum of the costs of entries `lo..=hi`, as far as they are held.
    pub fn cost_bytes(&self, lo: LogIndex, hi: LogIndex) -> usize {
        (lo.0..=hi.0).filter_map(|index| self.get(LogIndex(index))).map(Entry::cost_bytes).sum()
    }

    pub fn append(&mut self, entry: Entry) {
        let in_order = entry.index == self.last_index.next();
        assert!(in_order || !asserting(), "entry {} was appended behind entry {}", entry.index, self.last_index);
        let rises = entry.term >= self.last_term();
        assert!(rises || !asserting(), "an entry was appended with an earlier term than the last one's");
        if entry.term > self.last_term() {
            self.term_runs.push((entry.index, entry.term));
        }
        self.last_index = entry.index;
        self.entries_bytes += entry.cost_bytes();
        self.entries.push_back(entry);
    }

    /// Drops the entries from `from` on. The caller has made sure that none of them is committed.
    pub fn truncate(&mut self, from: LogIndex) {
        while self.entries.back().is_some_and(|last| last.index >= from) {
            let dropped = self.entries.pop_back().expect("there is a last entry");
            self.entries_bytes -= dropped.cost_bytes();
        }
        self.term_runs.truncate(self.term_runs.partition_point(|(first, _)| *first < from));
        self.last_index = from.prev();
    }

    /// Lets go of the oldest entries, at most up to `up_to`, until no more than `bytes_max` are held.
    pub fn forget(&mut self, up_to: LogIndex, bytes_max: usize) {
        while self.entries_bytes > bytes_max && self.entries.front().is_some_and(|first| first.index <= up_to) {
            let dropped = self.entries.pop_front().expect("there is a first entry");
            self.entries_bytes -= dropped.cost_bytes();
        }
    }
}

/// The first entries that together stay within `bytes_max`; one larger entry comes alone.
pub(super) fn cut<'a>(entries: impl Iterator<Item = &'a Entry>, bytes_max: usize) -> impl Iterator<Item = &'a Entry> {
    let mut bytes = 0;
    entries.enumerate().map_while(move |(position, entry)| {
        bytes += entry.cost_bytes();
        (position == 0 || bytes <= bytes_max).then_some(entry)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::EntryKind;

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::new(LogTail::default());
        for (position, term) in terms.iter().enumerate() {
            log.append(entry(position as u64 + 1, *term));
        }
        log
    }

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index: LogIndex(index), term: Term(term), kind: EntryKind::Noop, data: Bytes::new() }
    }

    #[test]
    fn every_index_has_its_term_and_none_lies_behind_the_end() {
        let log = log(&[1, 1, 3, 3, 4]);
        let terms: Vec<_> = (0..=6).map(|index| log.term(LogIndex(index)).map(|term| term.0)).collect();
        assert_eq!(terms, [Some(0), Some(1), Some(1), Some(3), Some(3), Some(4), None]);
        assert_eq!(log.term(LogIndex(u64::MAX)), None);
    }

    #[test]
    fn the_last_position_of_a_term_not_above_is_the_one_a_scan_would_find() {
        let log = log(&[1, 1, 3, 3, 6, 8, 8]);
        for index in 0..10 {
            for term in 0..10 {
                let scanned = (0..=index.min(7)).rev().find(|i| log.term(LogIndex(*i)).unwrap().0 <= term).unwrap();
                let (found, found_term) = log.last_at_or_below(LogIndex(index), Term(term));
                assert_eq!((found, Some(found_term)), (LogIndex(scanned), log.term(LogIndex(scanned))));
            }
        }
    }

    #[test]
    fn a_truncation_below_what_is_held_leaves_a_log_that_can_be_appended_to() {
        let mut log = log(&[1, 1, 2, 3]);
        log.forget(LogIndex(3), 0);
        assert_eq!(log.first_held(), LogIndex(4));
        log.truncate(LogIndex(2));
        assert_eq!((log.last_index(), log.last_term(), log.entries_bytes()), (LogIndex(1), Term(1), 0));
        log.append(entry(2, 5));
        assert_eq!((log.get(LogIndex(1)), log.term(LogIndex(2))), (None, Some(Term(5))));
    }

    #[test]
    fn a_slice_is_cut_at_its_bytes_and_one_larger_entry_comes_alone() {
        let log = log(&[1, 1, 1, 1]);
        assert_eq!(log.slice(LogIndex(2), 64), [entry(2, 1), entry(3, 1)]);
        assert_eq!(log.slice(LogIndex(2), 1), [entry(2, 1)]);
        assert_eq!(log.slice(LogIndex(5), 64), []);
    }
}
