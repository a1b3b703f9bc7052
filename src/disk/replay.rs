//! Reads the log's batches in the order they were written, and keeps what a start needs of them. Pure.
//!
//! Lost records are entries all the same: their index and term are known. Those that a later batch replaced are of no
//! interest to anybody. Mostly that batch is of a later term: then what was replaced was never committed. One of the
//! same term shows that consensus had *cut* the log before what was missing, and began to get it back; what was cut may
//! have been acknowledged to a leader that counted on it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::map::{DamagedBatch, LogMap};
use super::salvage::{Lost, Salvaged};
use super::walk::WalkedBatch;
use crate::base::{Entry, EntryKind, LogIndex, Members};

/// The log so far. Memory: its terms, its membership entries, a sparse index, and entries up to a bound.
pub(super) struct Replay {
    pub map: LogMap,
    /// Ascending; without those that are lost.
    pub members: Vec<(LogIndex, Arc<Members>)>,
    /// The last ones, consecutive, behind the last one that is lost.
    pub entries: VecDeque<Entry>,
    pub batches: u64,
    pub records: u64,
    /// The log was cut before a missing entry, and goes on in the same term: the start of the process that wrote that
    /// last; 0 if none did.
    pub cut_in: u32,
    /// Batches that are whole, and hold voids.
    voided: Vec<u64>,
    entries_bytes: usize,
    entries_bytes_max: usize,
}

/// An entry that can't stand where it does, and why.
pub(super) struct BadEntry {
    pub index: LogIndex,
    pub what: String,
}

impl Replay {
    pub fn new(entries_bytes_max: usize) -> Replay {
        Replay {
            map: LogMap::default(),
            members: Vec::new(),
            entries: VecDeque::new(),
            batches: 0,
            records: 0,
            cut_in: 0,
            voided: Vec::new(),
            entries_bytes: 0,
            entries_bytes_max,
        }
    }

    /// The next batch. After an error nothing more may be read.
    pub fn take(&mut self, batch: WalkedBatch) -> Result<(), BadEntry> {
        let WalkedBatch { place, written, previous, records, is_whole } = batch;
        let run = &written.run;
        self.map.check(run.first, run.term).map_err(|what| BadEntry { index: run.first, what })?;
        self.drop_from(run.first);
        if self.map.is_cut_by(run) {
            self.cut_in = written.incarnation;
        }
        self.map.push(run);
        self.map.place(place, written);
        self.batches += 1;
        self.records += records.len() as u64;
        let mut lost = Vec::new();
        for record in records {
            match record {
                Salvaged::Sound(record) => match (record.index, record.entry(run)) {
                    (_, Some(entry)) => self.push(entry)?,
                    (index, None) => lost.push(self.gap(Lost::void(index))),
                },
                Salvaged::Lost(record) => lost.push(self.gap(record)),
            }
        }
        if !is_whole || !lost.is_empty() {
            self.voided.extend(is_whole.then_some(place.batch));
            self.map.note_damage(DamagedBatch { place, written, previous, lost, live_until: run.last().next() });
        }
        Ok(())
    }

    /// Behind the last batch: voids that stand for what was replaced are as they should be.
    pub fn end(&mut self) {
        for batch in self.voided.drain(..) {
            if self.map.damaged().get(&batch).is_some_and(|batch| batch.live().next().is_none()) {
                self.map.forget_damage(batch);
            }
        }
    }

    fn push(&mut self, entry: Entry) -> Result<(), BadEntry> {
        if entry.kind == EntryKind::Members {
            let members = Members::decode(&entry.data).map_err(|what| BadEntry { index: entry.index, what })?;
            self.members.push((entry.index, Arc::new(members)));
        }
        self.entries_bytes += entry.cost_bytes();
        self.entries.push_back(entry);
        while self.entries_bytes > self.entries_bytes_max {
            let first = self.entries.pop_front().expect("bytes are those of entries");
            self.entries_bytes -= first.cost_bytes();
        }
        Ok(())
    }

    /// What is held in memory begins behind it.
    fn gap(&mut self, lost: Lost) -> Lost {
        self.entries.clear();
        self.entries_bytes = 0;
        lost
    }

    fn drop_from(&mut self, index: LogIndex) {
        let kept = self.entries.partition_point(|entry| entry.index < index);
        for dropped in self.entries.drain(kept..) {
            self.entries_bytes -= dropped.cost_bytes();
        }
        self.members.truncate(self.members.partition_point(|(at, _)| *at < index));
    }
}
