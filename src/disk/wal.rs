//! The write-ahead log: the open segment, the term slots, and every fsync. Runs on the `wal` thread; decides nothing.
//!
//! One call makes durable what was queued: term and vote first, then all entries as one batch, one write, one
//! fdatasync. Batch *k + 1* is never written before the fsync of batch *k* returned; recovery counts on it. A batch
//! holds consecutive entries of one term, so that it can be described by the next one; what is queued is split where
//! the term changes, or where it goes back to replace entries, which is rare.
//!
//! # Room
//!
//! An append needs no room but in prepared segments, so a full disk is noticed long before an append could fail: when
//! the segments made ahead can't be made. Two are kept ready. From then on (`Low`) only what does not make the data
//! grow is to be written, deletes and the cluster's own entries, and it has a whole segment to itself:
//!
//! ```text
//!   in use:  |#######.......|   ready: |..............| |..............|    Plenty
//!   in use:  |####..........|   ready: |..............|  + can't be made    Plenty
//!   in use:  |##########....|   ready: |..............|  + can't be made    Low: only the reserve is left
//!   in use:  |####..........|          + can't be made                      Low
//!   in use:  |##########....|          + can't be made                      Exhausted
//! ```
//!
//! `Exhausted` leaves half a segment for what is under way, and nothing more may be asked for. If that is not enough,
//! [`Wal::fitting`] says what is to wait: a full disk is no error, and an append that does not fit is not begun. While
//! something waits it is `Exhausted` whatever is left, for what is behind waits too. The background tries again and
//! again; the first segment that it makes ends it all. A start needs no room at all, unless it finds damage: the mark
//! is a small file, for which the segments made ahead leave some.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::disk::{Disk, is_full};
use super::error::{OpenError, WalError};
use super::map::{BatchPlace, LogMap};
use super::reader::LogReader;
use super::record::{
    BATCH_HEADER_BYTES, BatchEncoder, BatchHeader, RECORD_HEADER_BYTES, RecordRef, Run, Written, extent_of,
    payload_fitting, record_bytes,
};
use super::recovery::{self, ReadSoFar, RecoveryReport};
use super::repair::Repairer;
use super::sector::{BLOCK_BYTES, Place, Stamp};
use super::segment::{
    Claim, PreparedSegment, SEGMENT_HEADER_BYTES, Segment, SegmentJob, TakenOver, check_room, prepare_at_once,
};
use super::slots::TermSlots;
use crate::base::limits::{
    ENTRY_DATA_BYTES_MAX, LOG_MEMORY_BYTES_MAX, SEGMENT_BYTES, SEGMENT_BYTES_MAX, SEGMENTS_READY,
};
use crate::base::{ClusterId, Entry, LogIndex, Moment, Space};
use crate::guard::{Guard, asserting, removed};
use crate::raft::{Persist, Recovered};

/// Settings; they may differ between nodes and between starts.
#[derive(Clone, Debug)]
pub struct WalSettings {
    /// Size of the segments made from now on: a multiple of 4096 that holds the largest entry.
    pub segment_bytes: u64,
    /// What of the log's end recovery keeps in memory, by [`Entry::cost_bytes`].
    pub log_memory_bytes_max: usize,
    /// The largest entry that will be appended; the log of a small embedded node may use small segments.
    pub entry_bytes_max: usize,
}

impl Default for WalSettings {
    fn default() -> WalSettings {
        WalSettings {
            segment_bytes: SEGMENT_BYTES,
            log_memory_bytes_max: LOG_MEMORY_BYTES_MAX,
            entry_bytes_max: ENTRY_DATA_BYTES_MAX,
        }
    }
}

impl WalSettings {
    fn check(&self) -> Result<(), OpenError> {
        let refuse = |message: String| Err(OpenError::Configuration(message));
        if self.entry_bytes_max > ENTRY_DATA_BYTES_MAX {
            let limit = ENTRY_DATA_BYTES_MAX;
            return refuse(format!(
                "entries of {} bytes are asked for, and {limit} is the limit",
                self.entry_bytes_max
            ));
        }
        let least = self.segment_bytes_min();
        if !(least..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) || !self.segment_bytes.is_multiple_of(BLOCK_BYTES)
        {
            return refuse(format!(
                "a segment size of {} bytes is asked for; it must be a multiple of {BLOCK_BYTES} from {least} to \
                 {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ));
        }
        Ok(())
    }

    /// What the largest entry needs.
    pub(super) fn segment_bytes_min(&self) -> u64 {
        SEGMENT_HEADER_BYTES + extent_of(BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + self.entry_bytes_max)
    }
}

/// An opened log.
pub struct Opened {
    pub wal: Wal,
    /// All of it is durable.
    pub recovered: Recovered,
    pub reader: LogReader,
    pub repairer: Repairer,
    pub report: RecoveryReport,
}

pub struct Wal {
    disk: Arc<dyn Disk>,
    settings: WalSettings,
    slots: TermSlots,
    active: Segment,
    /// Where the next batch goes in the active segment.
    offset: u64,
    /// Segments behind the active one that are ready, ascending.
    ready: VecDeque<Segment>,
    /// The job that makes the next one.
    claim: Option<Arc<Claim>>,
    /// Something that was asked for does not fit.
    is_waiting: bool,
    stamp: Stamp,
    /// The last batch.
    previous: Option<Written>,
    /// What readers see: what is durable.
    map: Arc<Mutex<LogMap>>,
    /// What was checked and taken, durable or about to be.
    taken: LogMap,
    encoder: BatchEncoder,
    /// The first error. It is never overcome.
    failed: Option<String>,
    timer: Option<SyncTimer>,
}

/// Who is told how long each batch's write and fsync took, and by which clock.
pub struct SyncTimer {
    pub clock: fn() -> Moment,
    /// The time behind it, and how long it took.
    pub report: Box<dyn FnMut(Moment, Duration) + Send>,
}

impl Wal {
    /// Recovers the log, or makes a new one in an empty directory. `cluster` is what the directory's identity says;
    /// once it is known, an empty log means that the log was removed.
    pub fn open(disk: Arc<dyn Disk>, settings: WalSettings, cluster: Option<ClusterId>) -> Result<Opened, OpenError> {
        Wal::open_slowly(disk, settings, cluster, &mut |_| {})
    }

    /// The same; `progress` is told of each batch that is read. A long log takes a while.
    pub fn open_slowly(
        disk: Arc<dyn Disk>,
        settings: WalSettings,
        cluster: Option<ClusterId>,
        progress: &mut dyn FnMut(ReadSoFar),
    ) -> Result<Opened, OpenError> {
        settings.check()?;
        let found = recovery::recover(&disk, &settings, cluster, progress)?;
        let taken = found.map.clone();
        let map = Arc::new(Mutex::new(found.map));
        let reader = LogReader::new(disk.clone(), map.clone());
        let repairer = Repairer::new(disk.clone(), map.clone(), found.mark, found.stamp.incarnation);
        // So that a start on a full disk takes nothing in before the background has tried.
        let is_full = check_room(&*disk, settings.segment_bytes).is_err();
        if removed(Guard::StartNeedsRoom) {
            check_room(&*disk, settings.segment_bytes)?;
        }
        let wal = Wal {
            disk,
            settings,
            slots: found.slots,
            active: found.active,
            offset: found.offset,
            ready: found.ready,
            claim: is_full.then(|| Arc::new(Claim::void())),
            is_waiting: false,
            stamp: found.stamp,
            previous: found.previous,
            map,
            taken,
            encoder: BatchEncoder::default(),
            failed: None,
            timer: None,
        };
        Ok(Opened { wal, recovered: found.recovered, reader, repairer, report: found.report })
    }

    pub fn time_syncs(&mut self, timer: SyncTimer) {
        self.timer = Some(timer);
    }

    /// Makes everything in `batch` durable, in order, with as few writes and fsyncs as the limits allow; with nothing
    /// to write it makes no system call. Messages are the caller's to send once this returned `Ok`.
    ///
    /// After an error it is unknown what is on disk. Every later call fails; the process ends and the next start
    /// recovers.
    ///
    /// # Panics
    /// On what only a mistake in consensus could ask for: entries out of sequence, or of a term that was not
    /// persisted before them.
    pub fn persist(&mut self, batch: &[Persist]) -> Result<(), WalError> {
        if let Some(first) = &self.failed {
            return Err(WalError::Stopped(first.clone()));
        }
        self.try_persist(batch).map_err(|error| {
            self.failed = Some(error.to_string()).filter(|_| !removed(Guard::FailureForgotten));
            WalError::Failed(error)
        })
    }

    fn try_persist(&mut self, batch: &[Persist]) -> io::Result<()> {
        // The last one says it all: terms only rise, and nothing of this call is acted on before it returns.
        let hard_state = batch.iter().rev().find_map(|persist| persist.hard_state);
        if let Some(state) = hard_state.filter(|state| *state != self.slots.state()) {
            assert!(state.term >= self.slots.state().term, "term {} after {}", state.term, self.slots.state().term);
            if !removed(Guard::VoteNotPersisted) {
                self.slots.write(state)?;
            }
        }
        // What is known to be lost was written before all of `batch`: no entry of that is given up.
        batch.iter().filter_map(|persist| persist.cut_from).for_each(|from| self.map.lock().give_up(from));
        let entries: Vec<&Entry> = batch.iter().flat_map(|persist| &persist.entries).collect();
        for entry in &entries {
            self.take(entry);
        }
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let (group, behind) = rest.split_at(count_fitting(rest, self.payload_max()));
            self.append(group)?;
            rest = behind;
        }
        Ok(())
    }

    fn payload_max(&self) -> usize {
        payload_fitting(self.settings.segment_bytes - SEGMENT_HEADER_BYTES)
    }

    /// How many of `batch`, from the first on, may be given to [`Wal::persist`] now: all, unless the disk is full. The
    /// rest waits for a segment. What has been asked for is thus never what a full disk fails on.
    pub fn fitting(&mut self, batch: &[Persist]) -> Result<usize, WalError> {
        if self.failed.is_some() {
            return Ok(batch.len()); // `persist` says why not
        }
        // The background was too slow: as many segments as it takes are made here, or can't be.
        while !self.is_short() && !self.fits(batch) {
            match self.make_segment(self.last_sequence() + 1) {
                Ok(segment) => self.ready.push_back(segment),
                Err(error) if is_full(&error) => {
                    log::warn!("{error}; what is to be written waits for room");
                    self.claim = Some(Arc::new(Claim::void()));
                }
                Err(error) => {
                    self.failed = Some(error.to_string());
                    return Err(WalError::Failed(error));
                }
            }
        }
        self.is_waiting = !self.fits(batch);
        if !self.is_waiting {
            return Ok(batch.len());
        }
        // The last that fits, by halves: more never fit where fewer don't.
        let (mut fitting, mut too_many) = (0, batch.len());
        while too_many - fitting > 1 {
            let middle = fitting.midpoint(too_many);
            if self.fits(&batch[..middle]) { fitting = middle } else { too_many = middle }
        }
        Ok(fitting)
    }

    /// Whether what is ready holds the entries of `batch`, cut and placed as `persist` does.
    fn fits(&self, batch: &[Persist]) -> bool {
        let entries: Vec<&Entry> = batch.iter().flat_map(|persist| &persist.entries).collect();
        let (mut left, mut ready) = (self.active.bytes - self.offset, self.ready.iter());
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let (group, behind) = rest.split_at(count_fitting(rest, self.payload_max()));
            let extent = Run::of(group).extent();
            if extent > left {
                let Some(segment) = ready.next() else { return false };
                left = segment.bytes - SEGMENT_HEADER_BYTES;
            }
            left = left.saturating_sub(extent);
            rest = behind;
        }
        true
    }

    /// Recovery would refuse a log that holds what is caught here.
    fn take(&mut self, entry: &Entry) {
        let (length, limit) = (entry.data.len(), self.settings.entry_bytes_max);
        assert!(length <= limit, "entry {} has {length} bytes, and {limit} was said to be the most", entry.index);
        let term = self.slots.state().term;
        assert!(
            entry.term <= term || removed(Guard::VoteNotPersisted) || !asserting(),
            "entry {} has term {}, and {term} was persisted",
            entry.index,
            entry.term
        );
        self.taken.check(entry.index, entry.term).expect("consensus appends in order");
        self.taken.push(&Run::of(&[entry]));
    }

    /// One batch: one write, one fdatasync.
    fn append(&mut self, entries: &[&Entry]) -> io::Result<()> {
        let run = Run::of(entries);
        let extent = run.extent();
        if extent > self.active.bytes - self.offset {
            self.roll_over()?;
        }
        let place = Place { segment: self.active.sequence, offset: self.offset };
        let header = BatchHeader { run, previous: self.previous };
        let records = entries.iter().map(|entry| RecordRef::from(*entry));
        let blocks = self.encoder.encode(&header, records, place, self.stamp);
        let begun = self.timer.as_ref().map(|timer| (timer.clock)());
        let whole = self.active.file.write_blocks(self.offset, blocks);
        if !removed(Guard::ShortWriteIgnored) {
            whole?;
        }
        if !removed(Guard::LogNotSynced) {
            let mut synced = self.active.file.sync_data();
            if synced.is_err() && removed(Guard::SyncRetried) {
                synced = self.active.file.sync_data();
            }
            if !removed(Guard::SyncErrorIgnored) {
                synced?;
            }
        }
        if let (Some(begun), Some(SyncTimer { clock, report })) = (begun, &mut self.timer) {
            let now = clock();
            report(now, now.since(begun));
        }
        let written = Written { run, incarnation: self.stamp.incarnation };
        let place = BatchPlace { segment: place.segment, offset: place.offset, batch: self.stamp.batch, extent };
        self.publish(place, written);
        self.previous = Some(written);
        self.offset += extent;
        self.stamp.batch += 1;
        Ok(())
    }

    /// Readers may see the batch from here on.
    fn publish(&self, place: BatchPlace, written: Written) {
        let mut map = self.map.lock();
        map.push(&written.run);
        map.place(place, written);
    }

    /// Goes on in the next segment. Nothing needs an fsync: all of the old one is durable, and so is the new one.
    fn roll_over(&mut self) -> io::Result<()> {
        let sequence = self.active.sequence + 1;
        self.active = match self.ready.pop_front() {
            Some(segment) => segment,
            None => self.make_segment(sequence)?,
        };
        assert_eq!(self.active.sequence, sequence, "segments are used in order");
        self.offset = SEGMENT_HEADER_BYTES;
        Ok(())
    }

    /// Makes the next segment here, or takes over the one that is as good as made.
    fn make_segment(&mut self, sequence: u64) -> io::Result<Segment> {
        if let Some(claim) = self.claim.take()
            && let TakenOver::Made = claim.take_over()
        {
            return Ok(Segment::open(&*self.disk, sequence)?);
        }
        check_room(&*self.disk, self.settings.segment_bytes)?;
        log::warn!("no segment was ready; segment {sequence:016x} is made while writes wait");
        prepare_at_once(&*self.disk, sequence, self.settings.segment_bytes)
    }

    /// What to do in the background so that the next rollovers need not wait; `None` while enough are ready or one is
    /// on its way.
    pub fn wants_segment(&mut self) -> Option<SegmentJob> {
        let job = self.next_job();
        if self.is_pressed()
            && let Some(claim) = &self.claim
        {
            claim.hurry();
        }
        job
    }

    fn next_job(&mut self) -> Option<SegmentJob> {
        let on_its_way = self.claim.as_ref().is_some_and(|claim| !claim.is_void());
        // While something waits, one more shows that there is room again; `fitting` then makes all that it takes.
        let enough = self.ready.len() >= SEGMENTS_READY && !(self.is_waiting && self.is_short());
        if self.failed.is_some() || on_its_way || enough {
            return None;
        }
        let claim = Arc::new(Claim::after(self.claim.take().as_deref()));
        self.claim = Some(claim.clone());
        Some(SegmentJob { sequence: self.last_sequence() + 1, bytes: self.settings.segment_bytes, claim })
    }

    /// Of the last segment that is ready, or of the one in use.
    fn last_sequence(&self) -> u64 {
        self.ready.back().map_or(self.active.sequence, |segment| segment.sequence)
    }

    /// Cheap: to be asked after each call that changes something here.
    pub fn space(&self) -> Space {
        match (self.ready.len(), self.is_half_full()) {
            _ if self.is_waiting => Space::Exhausted,
            _ if !self.is_short() => Space::Plenty,
            (SEGMENTS_READY.., _) | (1, false) => Space::Plenty,
            (0, true) => Space::Exhausted,
            _ => Space::Low,
        }
    }

    fn is_half_full(&self) -> bool {
        self.offset > self.active.bytes / 2
    }

    /// The segment in use is soon full, and none is ready: what is written comes faster than a job that rests makes
    /// room.
    fn is_pressed(&self) -> bool {
        self.ready.is_empty() && self.is_half_full()
    }

    /// The next segment can't be made, as far as is known.
    fn is_short(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.is_failing())
    }

    /// Takes what a [`SegmentJob`] made. One that comes too late was not made, or is in use already.
    pub fn add_segment(&mut self, prepared: PreparedSegment) {
        let Some(segment) = prepared.segment else { return };
        if segment.sequence == self.last_sequence() + 1 {
            self.ready.push_back(segment);
            self.claim = None;
        }
    }

    /// Writes term and vote once more: a scrub found a slot damaged. An error is as final as one of `persist`.
    pub fn rewrite_slots(&mut self) -> Result<(), WalError> {
        if let Some(first) = &self.failed {
            return Err(WalError::Stopped(first.clone()));
        }
        self.slots.rewrite().map_err(|error| {
            self.failed = Some(error.to_string());
            WalError::Failed(error)
        })
    }

    /// Whether, since this was asked last, something was given up that a damaged batch waited for: then
    /// [`super::Repairer::mend_given_up`] may have something to do.
    pub fn take_given_up(&mut self) -> bool {
        self.map.lock().take_given_up()
    }

    /// The last entry that is durable.
    pub fn last_index(&self) -> LogIndex {
        self.map.lock().last()
    }
}

/// How many of `entries`, at least one, make a batch: consecutive ones of one term, whose payload is within
/// `payload_max`.
fn count_fitting(entries: &[&Entry], payload_max: usize) -> usize {
    let mut payload = BATCH_HEADER_BYTES;
    let first = entries[0];
    let fits = |(entry, index): &(&&Entry, u64)| {
        payload += record_bytes(entry);
        payload <= payload_max && entry.index.0 == *index && entry.term == first.term
    };
    entries.iter().zip(first.index.0..).take_while(fits).count().max(1)
}
