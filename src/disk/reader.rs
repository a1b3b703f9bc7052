//! Reads entries that memory no longer holds, on a background thread, while the wal goes on writing.
//!
//! A reader looks only at what was durable when it was asked, and proves every checksum on the way. Of a batch that is
//! known to be damaged it takes the records that are sound; before one that is lost it stops. Entries that are
//! replaced meanwhile are still those of the log as it was; whoever asked compares terms.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::Disk;
use super::map::{LogMap, ReadPlan};
use super::salvage::Salvaged;
use super::scan::{read_batch, read_payload, rest_is_zero};
use super::scrub::Scrub;
use super::sector::Stamp;
use super::segment::{SEGMENT_HEADER_BYTES, Segment, Window};
use crate::base::{Entry, LogIndex};

/// Cheap to clone; each clone may read on its own thread.
#[derive(Clone)]
pub struct LogReader {
    disk: Arc<dyn Disk>,
    map: Arc<Mutex<LogMap>>,
}

impl LogReader {
    pub(super) fn new(disk: Arc<dyn Disk>, map: Arc<Mutex<LogMap>>) -> LogReader {
        LogReader { disk, map }
    }

    /// A pass over all that is durable now.
    pub fn scrub(&self) -> Scrub {
        Scrub::new(self.disk.clone(), self.map.clone())
    }

    /// Durable entries from `lo` to at most `hi`: as many as fit `bytes_max` (by [`Entry::cost_bytes`]), but at least
    /// one. None behind an entry that is missing; empty if that is `lo`, or if the durable log does not reach `lo`.
    /// Damage that was not known is `io::ErrorKind::InvalidData`; a scrub finds out what it did.
    pub fn read(&self, lo: LogIndex, hi: LogIndex, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let Some(plan) = self.map.lock().plan(lo, hi) else {
            return Ok(Vec::new());
        };
        let mut taken = Taken { next: plan.lo, entries: Vec::new(), bytes: 0, bytes_max };
        let mut batch = plan.start.batch;
        for sequence in plan.start.segment..=plan.tail.segment {
            let segment = Segment::open(&*self.disk, sequence)?;
            batch = read_segment(segment, batch, &plan, &mut taken)?;
            if taken.is_complete(&plan) {
                return Ok(taken.entries);
            }
        }
        Err(invalid(format!("entry {} is not in the segments from {} on", taken.next, plan.start.segment)))
    }
}

/// What a read has collected.
struct Taken {
    next: LogIndex,
    entries: Vec<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Taken {
    fn is_complete(&self, plan: &ReadPlan) -> bool {
        self.next > plan.hi || self.bytes >= self.bytes_max && !self.entries.is_empty()
    }

    /// Takes what is wanted of a batch; the rest are other entries, and older ones that were replaced.
    fn take(&mut self, entries: impl Iterator<Item = Entry>, plan: &ReadPlan) {
        for entry in entries {
            if self.is_complete(plan) {
                return;
            }
            if entry.index != self.next || entry.term != plan.term(self.next) {
                continue;
            }
            if !self.entries.is_empty() && self.bytes + entry.cost_bytes() > self.bytes_max {
                self.bytes = self.bytes_max;
                return;
            }
            self.bytes += entry.cost_bytes();
            self.next = self.next.next();
            self.entries.push(entry);
        }
    }
}

/// Reads one segment's part of the plan. `batch` is the next one's number; the answer is the one after the last.
fn read_segment(segment: Segment, mut batch: u64, plan: &ReadPlan, taken: &mut Taken) -> io::Result<u64> {
    let is_last = segment.sequence == plan.tail.segment;
    let end = if is_last { plan.tail.offset + plan.tail.extent } else { segment.bytes };
    let is_first = segment.sequence == plan.start.segment;
    let mut offset = if is_first { plan.start.offset } else { SEGMENT_HEADER_BYTES };
    let name = segment.name();
    let mut window = Window::new(segment, end);
    while offset < window.end() && !taken.is_complete(plan) {
        if let Some(damaged) =
            plan.damaged.get(&batch).filter(|damaged| damaged.place.segment == window.segment.sequence)
        {
            let stamp = Stamp { incarnation: damaged.written.incarnation, batch };
            let run = &damaged.written.run;
            let payload = read_payload(&mut window, offset, run, stamp)?;
            let salvaged = payload.map_or(Vec::new(), |(payload, _)| payload.salvage(run));
            let sound = salvaged.into_iter().filter_map(|salvaged| match salvaged {
                Salvaged::Sound(record) => record.entry(run),
                Salvaged::Lost(_) => None,
            });
            taken.take(sound, plan);
            offset += damaged.place.extent;
        } else if let Some(found) = read_batch(&mut window, offset, batch)? {
            let run = &found.header.run;
            taken.take(found.records.into_iter().filter_map(|record| record.entry(run)), plan);
            offset += run.extent();
        } else if is_last || !rest_is_zero(&mut window, offset)? {
            return Err(invalid(format!("{name}, byte {offset}: batch {batch} is damaged")));
        } else {
            // The rest of a segment into which the next batch did not fit.
            break;
        }
        batch += 1;
    }
    Ok(batch)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
