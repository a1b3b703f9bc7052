//! What happens before the log is believed. Runs at start, on the caller's thread.
//!
//! 1. Everything is read and judged (`scan`, `replay`, `slots`). Nothing is changed; damage ends it here.
//! 2. A torn tail is cut, and what was read is made durable again. A process that was killed, or whose fsync failed,
//!    leaves bytes in the page cache that are not on disk, and that a later fsync does not bring there. So nothing
//!    that only the cache may hold is believed: the last batch and the term slots are rewritten in place and fsynced,
//!    and names too. Batches before the last are safe: each was written after the fsync of the one before returned.
//!    The same holds for zeros: the reach of one batch behind the log's end, and at the start of each segment that
//!    waits, is zeroed again even if it reads as zero. Otherwise the rest of a batch that was cut could come back
//!    with the next loss of power, behind newer ones.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use super::disk::Disk;
use super::error::{Damage, OpenError};
use super::map::{BatchPlace, LogMap};
use super::record::extent_max;
use super::replay::Replay;
use super::scan::{Batch, Found, Torn, scan};
use super::sector::{SECTOR_BYTES, Stamp, is_zero};
use super::segment::{
    FIRST_SEQUENCE, Pace, SEGMENT_HEADER_BYTES, Segment, WAL_DIR, Window, prepare_at_once, segment_name, sequence_of,
    write_zeros,
};
use super::slots::{SlotsFound, TERM_FILE, TermSlots};
use super::wal::WalSettings;
use crate::base::{ClusterId, LogIndex, Term};
use crate::raft::{LogTail, Recovered};

/// What recovery found and did, for the operator's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// There was nothing; a log was made.
    pub created: bool,
    pub segments: usize,
    pub batches: u64,
    /// Records, those that were replaced later included.
    pub records: u64,
    pub last_index: LogIndex,
    pub last_term: Term,
    pub cut: Option<Cut>,
    /// What was mended, as sentences.
    pub warnings: Vec<String>,
}

/// A write that never finished, and so was never acknowledged. It is gone now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub file: String,
    pub offset: u64,
    /// In the sectors that had been written.
    pub bytes: u64,
    pub batch: u64,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created {
            return write!(f, "a new log was made");
        }
        let RecoveryReport { segments, batches, records, last_index, last_term, .. } = self;
        write!(
            f,
            "{segments} segments, {batches} batches, {records} records; last entry {last_index}, term {last_term}"
        )
    }
}

/// What the wal goes on with.
pub(super) struct Recovery {
    pub slots: TermSlots,
    pub active: Segment,
    pub offset: u64,
    pub ready: VecDeque<Segment>,
    /// Of the next batch.
    pub stamp: Stamp,
    pub map: LogMap,
    pub recovered: Recovered,
    pub report: RecoveryReport,
}

pub(super) fn recover(
    disk: &dyn Disk,
    settings: &WalSettings,
    cluster: Option<ClusterId>,
) -> Result<Recovery, OpenError> {
    let names = Names::list(disk)?;
    let slots = SlotsFound::read(disk)?;
    match (names.sequences.is_empty(), slots) {
        (false, Some(slots)) => {
            let judged = judge(disk, &names, settings)?;
            judged.check(&slots, cluster)?;
            judged.settle(disk, names, slots, settings)
        }
        (false, None) => {
            let what = "it is missing although there is a log, so it is not known in which term this node voted";
            Err(Damage::new(TERM_FILE, what).into())
        }
        (true, slots) => {
            check_never_used(slots.as_ref(), cluster)?;
            Ok(create(disk, &names, settings)?)
        }
    }
}

/// The names in the log's folder.
struct Names {
    /// Ascending.
    sequences: Vec<u64>,
    /// Segments that were being made when the process ended.
    unfinished: Vec<String>,
}

impl Names {
    fn list(disk: &dyn Disk) -> Result<Names, OpenError> {
        let mut names = Names { sequences: Vec::new(), unfinished: Vec::new() };
        if !disk.list("")?.iter().any(|name| name == WAL_DIR) {
            return Ok(names);
        }
        for name in disk.list(WAL_DIR)? {
            if let Some(sequence) = sequence_of(&name) {
                names.sequences.push(sequence);
            } else if name.ends_with(".new") {
                names.unfinished.push(format!("{WAL_DIR}/{name}"));
            } else {
                return Err(Damage::new(format!("{WAL_DIR}/{name}"), "no file of this name belongs to a log").into());
            }
        }
        for (expected, found) in (FIRST_SEQUENCE..).zip(&names.sequences) {
            if *found != expected {
                let what = format!("the segment is missing, although segment {found:016x} is there");
                return Err(Damage::new(segment_name(expected), what).into());
            }
        }
        Ok(names)
    }

    fn remove_unfinished(&self, disk: &dyn Disk) -> io::Result<()> {
        self.unfinished.iter().try_for_each(|name| disk.remove(name))
    }
}

/// No log where one is expected is damage, never a fresh start (SAFETY: an emptied directory would vote again).
fn check_never_used(slots: Option<&SlotsFound>, cluster: Option<ClusterId>) -> Result<(), OpenError> {
    if let Some(cluster) = cluster {
        let what = format!("the log is gone, although this node belongs to cluster {cluster}");
        return Err(Damage::new(WAL_DIR, what).into());
    }
    match slots.map(|slots| slots.state().term) {
        Some(term) if term > Term::ZERO => {
            let what = format!("the log is gone, although this node took part in term {term}");
            Err(Damage::new(WAL_DIR, what).into())
        }
        _ => Ok(()),
    }
}

/// The term file comes first: segments without it are damage, it without segments is a start that was interrupted.
fn create(disk: &dyn Disk, names: &Names, settings: &WalSettings) -> io::Result<Recovery> {
    names.remove_unfinished(disk)?;
    let slots = TermSlots::create(disk)?;
    disk.create_dir(WAL_DIR)?;
    disk.sync_dir("")?;
    let active = prepare_at_once(disk, FIRST_SEQUENCE, settings.segment_bytes)?;
    Ok(Recovery {
        slots,
        active,
        offset: SEGMENT_HEADER_BYTES,
        ready: VecDeque::new(),
        stamp: Stamp { incarnation: 1, batch: 1 },
        map: LogMap::default(),
        recovered: Recovered::default(),
        report: RecoveryReport { created: true, segments: 1, ..RecoveryReport::default() },
    })
}

// ---- reading and judging ---------------------------------------------------------------------------------------

/// The whole log as it was read; nothing is changed yet.
struct Judged {
    segments: Vec<Segment>,
    /// The last whole batch, and which of `segments` holds it.
    last: Option<(usize, BatchPlace)>,
    replay: Replay,
    /// Of the next batch.
    batch: u64,
    incarnation_max: u32,
    cut: Option<Cut>,
    /// Why nothing may be in the segments that follow.
    ended: Option<String>,
}

fn judge(disk: &dyn Disk, names: &Names, settings: &WalSettings) -> Result<Judged, OpenError> {
    let mut judged = Judged {
        segments: Vec::new(),
        last: None,
        replay: Replay::new(settings.log_memory_bytes_max),
        batch: 1,
        incarnation_max: 0,
        cut: None,
        ended: None,
    };
    for sequence in &names.sequences {
        let segment = Segment::open(disk, *sequence)?;
        judged.read_segment(&segment).map_err(|error| judged.with_index(error))?;
        judged.segments.push(segment);
    }
    Ok(judged)
}

impl Judged {
    fn read_segment(&mut self, segment: &Segment) -> Result<(), OpenError> {
        let mut window = Window::new(segment, segment.bytes);
        if let Some(why) = &self.ended {
            return check_is_empty(&mut window, why);
        }
        let mut offset = SEGMENT_HEADER_BYTES;
        while offset < segment.bytes {
            match scan(&mut window, offset, self.batch)? {
                Found::Whole(batch) => offset += self.on_batch(segment, offset, &batch)?,
                Found::Torn(torn) => return self.on_torn(segment, offset, torn),
                Found::Nothing => break,
            }
        }
        if offset == SEGMENT_HEADER_BYTES {
            self.ended = Some(format!("{} is empty", segment.name()));
        }
        Ok(())
    }

    /// The answer is the batch's extent.
    fn on_batch(&mut self, segment: &Segment, offset: u64, batch: &Batch) -> Result<u64, OpenError> {
        self.check_follows(segment, offset, Some(batch.stamp.incarnation))?;
        let damaged = |what: String, index| Damage { index, ..Damage::at(segment.name(), offset, what) };
        let extent = batch.extent;
        let place = BatchPlace { segment: segment.sequence, offset, batch: batch.stamp.batch, extent };
        self.replay.take(batch, place).map_err(|bad| damaged(bad.what, bad.index))?;
        self.last = Some((self.segments.len(), place));
        self.batch += 1;
        Ok(extent)
    }

    fn on_torn(&mut self, segment: &Segment, offset: u64, torn: Torn) -> Result<(), OpenError> {
        self.check_follows(segment, offset, torn.incarnation)?;
        let file = segment.name();
        self.ended = Some(format!("the batch at byte {offset} of {file} is not whole"));
        self.cut = Some(Cut { file, offset, bytes: torn.bytes, batch: self.batch });
        Ok(())
    }

    /// Starts of the process come in order.
    fn check_follows(&mut self, segment: &Segment, offset: u64, incarnation: Option<u32>) -> Result<(), OpenError> {
        let incarnation = incarnation.unwrap_or(self.incarnation_max);
        if incarnation < self.incarnation_max {
            let what = format!("incarnation {incarnation} follows on {}", self.incarnation_max);
            return Err(Damage::at(segment.name(), offset, what).into());
        }
        self.incarnation_max = incarnation;
        Ok(())
    }

    /// Damage whose index is not known is at or behind the first entry that was not read.
    fn with_index(&self, error: OpenError) -> OpenError {
        match error {
            OpenError::Damaged(damage) => {
                let index = damage.index.unwrap_or(self.replay.map.last().next());
                Damage { index: Some(index), ..damage }.into()
            }
            other => other,
        }
    }

    /// What the log alone can't know.
    fn check(&self, slots: &SlotsFound, cluster: Option<ClusterId>) -> Result<(), OpenError> {
        let (term, last_term) = (slots.state().term, self.replay.map.last_term());
        if term < last_term {
            let what =
                format!("it says term {term}, and the log has entries of term {last_term}: it is not the latest");
            return Err(Damage::new(TERM_FILE, what).into());
        }
        let Some(cluster) = cluster else { return Ok(()) };
        if self.replay.map.last() == LogIndex::ZERO {
            let what = format!("the log is empty, although this node belongs to cluster {cluster}");
            return Err(Damage::new(WAL_DIR, what).into());
        }
        match self.replay.members.iter().find(|(_, members)| members.cluster != cluster) {
            Some((index, members)) => {
                let what = format!("the log is of cluster {}, and the directory of {cluster}", members.cluster);
                Err(Damage { index: Some(*index), ..Damage::new(WAL_DIR, what) }.into())
            }
            None => Ok(()),
        }
    }
}

/// Behind the end of the log nothing was ever written, or something before it was lost.
fn check_is_empty(window: &mut Window<'_>, why: &str) -> Result<(), OpenError> {
    for offset in (SEGMENT_HEADER_BYTES..window.end()).step_by(SECTOR_BYTES) {
        if !is_zero(window.get(offset, SECTOR_BYTES)?) {
            let what = format!("data are here although {why}: a part of the log was lost");
            return Err(Damage::at(window.segment.name(), offset, what).into());
        }
    }
    Ok(())
}

// ---- making it durable -----------------------------------------------------------------------------------------

impl Judged {
    fn settle(
        mut self,
        disk: &dyn Disk,
        names: Names,
        slots: SlotsFound,
        settings: &WalSettings,
    ) -> Result<Recovery, OpenError> {
        names.remove_unfinished(disk)?;
        let segments = self.segments.len();
        let waiting = self.segments.split_off(self.last.map_or(1, |(at, _)| at + 1));
        let mut active = self.segments.pop().expect("there is a segment, and the last batch is in one that was read");
        if self.last.is_none() && active.bytes != settings.segment_bytes {
            // It never held anything. Replaced, not removed: without a segment it would look as if it was lost.
            active = prepare_at_once(disk, FIRST_SEQUENCE, settings.segment_bytes)?;
        }
        let ready = settle_waiting(disk, waiting, settings)?;
        let offset = settle_tail(&active, self.last.map(|(_, place)| place))?;
        // The names above it were durable before the first segment got its own.
        disk.sync_dir(WAL_DIR)?;
        let warnings = self.warnings(&slots);
        let slots = slots.make_durable()?;
        let Replay { map, members, entries, batches, records, .. } = self.replay;
        let report = RecoveryReport {
            created: false,
            segments,
            batches,
            records,
            last_index: map.last(),
            last_term: map.last_term(),
            cut: self.cut,
            warnings,
        };
        let log = LogTail { term_runs: map.term_runs().to_vec(), last_index: map.last(), entries: entries.into() };
        let recovered = Recovered { hard_state: slots.state(), log, members, damage: crate::raft::Damage::default() };
        let incarnation = self.incarnation_max.checked_add(1).ok_or_else(|| {
            Damage::new(WAL_DIR, "its incarnations are used up, after four thousand million starts of the process")
        })?;
        let stamp = Stamp { incarnation, batch: self.batch };
        Ok(Recovery { slots, active, offset, ready, stamp, map, recovered, report })
    }

    fn warnings(&self, slots: &SlotsFound) -> Vec<String> {
        let cut = self.cut.as_ref().map(|Cut { file, offset, bytes, batch }| {
            format!(
                "batch {batch} at byte {offset} of {file} was never written whole, so it was not acknowledged; its \
                 {bytes} bytes were cut"
            )
        });
        cut.into_iter().chain(slots.warning.clone()).collect()
    }
}

/// Rewrites the log's last batch and zeros what a torn write can have left behind it. The answer is where the next
/// batch goes.
fn settle_tail(active: &Segment, last: Option<BatchPlace>) -> io::Result<u64> {
    let mut offset = SEGMENT_HEADER_BYTES;
    if let Some(place) = last {
        let mut blocks = vec![0; usize::try_from(place.extent).expect("a batch is bounded")];
        active.file.read_at(place.offset, &mut blocks)?;
        active.file.write_at(place.offset, &blocks)?;
        offset = place.offset + place.extent;
    }
    write_zeros(&*active.file, offset, active.bytes.min(offset + extent_max()), Pace::AtOnce)?;
    active.file.sync_data()?;
    Ok(offset)
}

/// Segments that were ready and wait for their first batch. Those of another size than is wanted now go, from the
/// last one on, so that no gap is left; the caller syncs the folder.
fn settle_waiting(disk: &dyn Disk, waiting: Vec<Segment>, settings: &WalSettings) -> io::Result<VecDeque<Segment>> {
    if waiting.iter().any(|segment| segment.bytes != settings.segment_bytes) {
        for segment in waiting.iter().rev() {
            disk.remove(&segment.name())?;
        }
        return Ok(VecDeque::new());
    }
    for segment in &waiting {
        let end = segment.bytes.min(SEGMENT_HEADER_BYTES + extent_max());
        write_zeros(&*segment.file, SEGMENT_HEADER_BYTES, end, Pace::AtOnce)?;
        segment.file.sync_data()?;
    }
    Ok(waiting.into())
}
