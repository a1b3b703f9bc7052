//! Reads the log's batches in the order they were written, and keeps what a start needs of them. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use super::map::{BatchPlace, LogMap};
use super::record::{BadRecord, decode_records};
use super::scan::Batch;
use crate::base::{Entry, EntryKind, LogIndex, Members};

/// The log so far. Memory: its terms, its membership entries, a sparse index, and entries up to a bound.
pub(super) struct Replay {
    pub map: LogMap,
    /// Ascending.
    pub members: Vec<(LogIndex, Arc<Members>)>,
    /// The last ones, consecutive.
    pub entries: VecDeque<Entry>,
    pub batches: u64,
    pub records: u64,
    entries_bytes: usize,
    entries_bytes_max: usize,
}

impl Replay {
    pub fn new(entries_bytes_max: usize) -> Replay {
        Replay {
            map: LogMap::default(),
            members: Vec::new(),
            entries: VecDeque::new(),
            batches: 0,
            records: 0,
            entries_bytes: 0,
            entries_bytes_max,
        }
    }

    /// The next batch. After an error nothing more may be read.
    pub fn take(&mut self, batch: &Batch, place: BatchPlace) -> Result<(), BadRecord> {
        let entries = decode_records(&batch.payload, batch.header)?;
        let lowest = entries.iter().map(|entry| entry.index).min().expect("a batch has records");
        self.batches += 1;
        self.records += entries.len() as u64;
        for entry in entries {
            self.push(entry)?;
        }
        self.map.place(place, lowest);
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), BadRecord> {
        let index = entry.index;
        let bad = |what| BadRecord { index: Some(index), what };
        self.map.check(&entry).map_err(bad)?;
        if index <= self.map.last() {
            self.drop_from(index);
        }
        self.map.push(&entry);
        if entry.kind == EntryKind::Members {
            self.members.push((index, Arc::new(Members::decode(&entry.data).map_err(bad)?)));
        }
        self.entries_bytes += entry.cost_bytes();
        self.entries.push_back(entry);
        while self.entries_bytes > self.entries_bytes_max {
            let first = self.entries.pop_front().expect("bytes are those of entries");
            self.entries_bytes -= first.cost_bytes();
        }
        Ok(())
    }

    fn drop_from(&mut self, index: LogIndex) {
        let kept = self.entries.partition_point(|entry| entry.index < index);
        for dropped in self.entries.drain(kept..) {
            self.entries_bytes -= dropped.cost_bytes();
        }
        self.members.truncate(self.members.partition_point(|(at, _)| *at < index));
    }
}
