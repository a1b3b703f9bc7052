//! What happens before the log is believed. Runs at start, on the caller's thread.
//!
//! 1. Everything is read and judged (`walk`, `replay`, `slots`). Nothing is changed; what can't be lived with ends it
//!    here.
//! 2. If anything durable is damaged, the suspect mark is made durable (`mark`), before anything else is changed.
//! 3. Damaged batches get a first sector that says what they held, if theirs is lost, and their lost sectors are filled
//!    with what no write leaves: so that they stay what they are, whatever happens to their neighbours. Those of which
//!    nothing is missing that anybody needs are remade whole.
//! 4. What may have been a part of the log behind its last known batch is zeroed, or a torn tail cut, and what was read
//!    is made durable again. A process that was killed, or whose fsync failed,
//!    leaves bytes in the page cache that are not on disk, and that a later fsync does not bring there. So nothing
//!    that only the cache may hold is believed: the last batch and the term slots are rewritten in place and fsynced,
//!    names too, and what an earlier start repaired. Batches before the last are safe: each was written after the fsync
//!    of the one before returned.
//!    The same holds for zeros: the reach of one batch behind the log's end, and at the start of each segment that
//!    waits, is zeroed again even if it reads as zero. Otherwise the rest of a batch that was cut could come back
//!    with the next loss of power, behind newer ones.
//!
//! All of it is written in place: a full disk does not keep a node from starting.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;

use super::disk::{Disk, is_full};
use super::error::{Damage, OpenError};
use super::map::{DamagedBatch, LogMap};
use super::mark::{Mark, MarkedPlace};
use super::record::{Written, extent_max};
use super::repair;
use super::replay::Replay;
use super::scan::Dirt;
use super::sector::Stamp;
use super::segment::{
    FIRST_SEQUENCE, Pace, SEGMENT_HEADER_BYTES, Segment, WAL_DIR, prepare_at_once, rewrite, segment_name, sequence_of,
    write_zeros,
};
use super::slots::{SlotsFound, TERM_FILE, TermSlots};
use super::wal::WalSettings;
use super::walk::{LogEnd, Step, Walk};
use crate::base::limits::DISK_LOW_WATER_BYTES;
use crate::base::{ClusterId, LogIndex, Term, mebibytes};
use crate::guard::{Guard, removed};
use crate::raft::{self, LogTail, Recovered};

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
    /// Where damage was found, as sentences. The suspect mark is on disk, unless there is none.
    pub damaged: Vec<String>,
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
    /// The last batch.
    pub previous: Option<Written>,
    pub map: LogMap,
    pub mark: Option<Mark>,
    pub recovered: Recovered,
    pub report: RecoveryReport,
}

/// How far the reading of a log is, at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadSoFar {
    /// Segments that were begun, and how many there are.
    pub segment: u64,
    pub segments: u64,
    /// The last entry that was read.
    pub index: LogIndex,
}

pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    settings: &WalSettings,
    cluster: Option<ClusterId>,
    progress: &mut dyn FnMut(ReadSoFar),
) -> Result<Recovery, OpenError> {
    let names = Names::list(&**disk)?;
    let slots = SlotsFound::read(&**disk)?;
    let mark = Mark::read(&**disk)?;
    match (names.sequences.last(), slots) {
        (Some(last), Some(slots)) => {
            let judged = Judged::read(disk, *last, &slots, mark, settings, progress)?;
            judged.check(&slots, cluster)?;
            judged.settle(&**disk, names, slots, settings)
        }
        (Some(_), None) => {
            let what = "it is missing although there is a log, so it is not known in which term this node voted";
            Err(Damage::new(TERM_FILE, what).into())
        }
        (None, slots) => {
            check_never_used(slots.as_ref(), cluster, mark.as_ref())?;
            Ok(create(&**disk, &names, settings)?)
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
                return Err(OpenError::Configuration(format!(
                    "{WAL_DIR}/{name} is no file of a log: remove it if you put it there; if you did not, it may be a part \
                     of the log that has lost its name: then leave the directory as it is"
                )));
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
fn check_never_used(
    slots: Option<&SlotsFound>,
    cluster: Option<ClusterId>,
    mark: Option<&Mark>,
) -> Result<(), OpenError> {
    if removed(Guard::LostLogIsNew) {
        return Ok(());
    }
    let gone = |what: String| Err(Damage::new(WAL_DIR, format!("the log is gone, although {what}")).into());
    if let Some(cluster) = cluster {
        return gone(format!("this node belongs to cluster {cluster}"));
    }
    if mark.is_some() {
        return gone("it was marked as damaged".into());
    }
    match slots.map(|slots| slots.state().term) {
        Some(term) if term > Term::ZERO => gone(format!("this node took part in term {term}")),
        _ => Ok(()),
    }
}

/// The term file comes first: segments without it are damage, it without segments is a start that was interrupted.
fn create(disk: &dyn Disk, names: &Names, settings: &WalSettings) -> io::Result<Recovery> {
    names.remove_unfinished(disk)?;
    let slots = TermSlots::create(disk)?;
    disk.create_dir(WAL_DIR)?;
    disk.sync_dir("")?;
    let active = prepare_at_once(disk, FIRST_SEQUENCE, settings.segment_bytes);
    let active = active.map_err(|error| if is_full(&error) { too_small(&error, settings) } else { error })?;
    Ok(Recovery {
        slots,
        active,
        offset: SEGMENT_HEADER_BYTES,
        ready: VecDeque::new(),
        stamp: Stamp { incarnation: 1, batch: 1 },
        previous: None,
        map: LogMap::default(),
        mark: None,
        recovered: Recovered::default(),
        report: RecoveryReport { created: true, segments: 1, ..RecoveryReport::default() },
    })
}

/// What a new log needs: nothing in it can be written without a first segment.
fn too_small(error: &io::Error, settings: &WalSettings) -> io::Error {
    let (segment, spare) = (settings.segment_bytes, DISK_LOW_WATER_BYTES);
    let (first, further) = (mebibytes(segment), mebibytes(segment + spare));
    let message = format!(
        "{error}; a new log begins with a segment of {first}, and needs {further} free for each one after it: make room, \
         give the node a directory on a larger file system, or choose smaller segments (--segment-mib)"
    );
    io::Error::new(error.kind(), message)
}

// ---- reading and judging ---------------------------------------------------------------------------------------

/// The whole log as it was read; nothing is changed yet.
struct Judged {
    walk: Walk,
    replay: Replay,
    cut: Option<Cut>,
    /// Why the log may have gone on behind its end.
    uncertain: Option<Dirt>,
    /// The one that holds the log's end.
    active: Segment,
    /// Those behind it.
    waiting: Vec<Segment>,
    /// From an earlier start.
    mark: Option<Mark>,
}

impl Judged {
    fn read(
        disk: &Arc<dyn Disk>,
        last: u64,
        slots: &SlotsFound,
        mark: Option<Mark>,
        settings: &WalSettings,
        progress: &mut dyn FnMut(ReadSoFar),
    ) -> Result<Judged, OpenError> {
        let mut walk = Walk::new(disk.clone(), last, None);
        let mut replay = Replay::new(settings.log_memory_bytes_max);
        let mut report = |segment, index| progress(ReadSoFar { segment, segments: last, index });
        let end = read_log(&mut walk, &mut replay, &mut report).map_err(|error| with_index(error, &replay))?;
        let at = walk.at();
        let active = Segment::open(&**disk, at.segment)?;
        let mut waiting = Vec::new();
        for sequence in at.segment + 1..=last {
            let segment = Segment::open(&**disk, sequence)?;
            walk.note_header(&segment)?;
            waiting.push(segment);
        }
        let (cut, torn, dirt) = match end {
            LogEnd::Clean => (None, None, None),
            LogEnd::Torn { place, torn } => {
                let file = segment_name(place.segment);
                (Some(Cut { file, offset: place.offset, bytes: torn.bytes, batch: walk.batch }), torn.incarnation, None)
            }
            LogEnd::Uncertain(dirt) => (None, None, Some(dirt)),
        };
        walk.incarnation = walk.incarnation.max(torn.unwrap_or(0));
        slots.note_claims(&mut walk.claims);
        let misdirected = walk.claims.reach(walk.batch, walk.incarnation.saturating_add(1)).then(|| Dirt {
            place: at,
            what: "a batch of the log's end lies at a wrong place, and is missing here".into(),
        });
        Ok(Judged { uncertain: dirt.or(misdirected), walk, replay, cut, active, waiting, mark })
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
        if self.replay.map.last() == LogIndex::ZERO && !self.end_uncertain() {
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

    /// What was cut in memory, and why, is forgotten: a start finds only that the log goes on in place of what it
    /// missed. Without a mark that was settled.
    fn end_uncertain(&self) -> bool {
        let marked = |mark: &Mark| mark.end_uncertain || self.replay.is_cut;
        self.uncertain.is_some() || self.mark.as_ref().is_some_and(marked)
    }
}

fn read_log(walk: &mut Walk, replay: &mut Replay, report: &mut dyn FnMut(u64, LogIndex)) -> Result<LogEnd, OpenError> {
    loop {
        let at = walk.at();
        report(at.segment, replay.map.last());
        match walk.next()? {
            Step::Batch(batch) => replay.take(batch).map_err(|bad| Damage {
                index: Some(bad.index),
                ..Damage::at(segment_name(at.segment), at.offset, bad.what)
            })?,
            Step::End(end) => {
                replay.end();
                return Ok(end);
            }
        }
    }
}

/// Damage whose index is not known is at or behind the first entry that was not read.
fn with_index(error: OpenError, replay: &Replay) -> OpenError {
    match error {
        OpenError::Damaged(damage) => {
            let index = damage.index.unwrap_or(replay.map.last().next());
            Damage { index: Some(index), ..damage }.into()
        }
        other => other,
    }
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
        let step = u32::from(!removed(Guard::IncarnationKept));
        let incarnation = self.walk.incarnation.checked_add(step).ok_or_else(|| {
            Damage::new(WAL_DIR, "its incarnations are used up, after four thousand million starts of the process")
        })?;
        let warnings = self.warnings(&slots);
        let damaged = self.damaged();
        let mark = self.mark(disk, incarnation)?;
        self.mend(disk)?;
        let offset = self.walk.at().offset;
        self.settle_tail(offset)?;
        self.mend_dead(disk)?;
        if self.walk.batch == 1 && self.active.bytes != settings.segment_bytes {
            // It never held anything. Replaced, not removed: without a segment it would look as if it was lost.
            match prepare_at_once(disk, FIRST_SEQUENCE, settings.segment_bytes) {
                Ok(active) => self.active = active,
                Err(error) if self.is_kept(&error, settings) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let ready = settle_waiting(disk, std::mem::take(&mut self.waiting), settings, self.uncertain.is_some())?;
        // The names above it were durable before the first segment got its own.
        disk.sync_dir(WAL_DIR)?;
        let slots = slots.make_durable()?;
        let Replay { map, members, entries, batches, records, .. } = self.replay;
        let report = RecoveryReport {
            created: false,
            segments: names.sequences.len(),
            batches,
            records,
            last_index: map.last(),
            last_term: map.last_term(),
            cut: self.cut,
            damaged,
            warnings,
        };
        let log = LogTail { term_runs: map.term_runs().to_vec(), last_index: map.last(), entries: entries.into() };
        let damage = raft::Damage {
            suspect: mark.is_some(),
            end_uncertain: mark.as_ref().is_some_and(|mark| mark.end_uncertain),
            missing: map.missing(),
        };
        let recovered = Recovered { hard_state: slots.state(), log, members, damage };
        let stamp = Stamp { incarnation, batch: self.walk.batch };
        let previous = self.walk.previous;
        Ok(Recovery { slots, active: self.active, offset, ready, stamp, previous, map, mark, recovered, report })
    }

    /// Without room for another first segment, one that can hold any entry is as good.
    fn is_kept(&self, error: &io::Error, settings: &WalSettings) -> bool {
        error.kind() == io::ErrorKind::StorageFull && self.active.bytes >= settings.segment_bytes_min()
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

    /// For the operator.
    fn damaged(&self) -> Vec<String> {
        let at =
            |dirt: &Dirt| format!("{}, byte {}: {}", segment_name(dirt.place.segment), dirt.place.offset, dirt.what);
        let headers = self.walk.headers.iter().filter_map(|segment| {
            segment
                .header_damage
                .as_ref()
                .map(|what| format!("{}, byte 0: {what}; it was remade, and no entry was in it", segment.name()))
        });
        let litter = self.walk.litter.iter().map(|(_, dirt)| format!("{}; it was zeroed", at(dirt)));
        let batches = self.replay.map.damaged().values().map(repair::describe);
        let end = self.uncertain.iter().map(|dirt| {
            let last = self.replay.map.last();
            format!("{}; the log may have gone on behind entry {last}, and what was left of that was zeroed", at(dirt))
        });
        headers.chain(litter).chain(batches).chain(end).collect()
    }

    /// The mark that holds from now on; durable.
    fn mark(&self, disk: &dyn Disk, incarnation: u32) -> io::Result<Option<Mark>> {
        let mut places = Vec::new();
        let mut place = |file: String, offset: u64, bytes: u64| places.push(MarkedPlace { file, offset, bytes });
        for segment in &self.walk.headers {
            place(segment.name(), 0, SEGMENT_HEADER_BYTES);
        }
        for (segment, dirt) in &self.walk.litter {
            place(segment.name(), dirt.place.offset, segment.bytes - dirt.place.offset);
        }
        for batch in self.replay.map.damaged().values() {
            place(segment_name(batch.place.segment), batch.place.offset, batch.place.extent);
        }
        if self.uncertain.is_some() {
            let offset = self.walk.at().offset;
            place(self.active.name(), offset, self.active.bytes - offset);
        }
        if places.is_empty() && self.uncertain.is_none() && self.mark.is_none() {
            return Ok(None);
        }
        let mut mark = self.mark.clone().unwrap_or_else(|| Mark::new(incarnation));
        mark.end_uncertain = self.end_uncertain();
        places.into_iter().for_each(|place| mark.add(place));
        // One that could not be read is made anew.
        let is_new = self.mark.as_ref() != Some(&mark) || mark.since == 0;
        if is_new && !removed(Guard::MarkForgotten) {
            mark.write(disk)?;
        } else {
            Mark::make_durable(disk)?; // it needs no room
        }
        Ok(Some(mark))
    }

    /// What is damaged now, then what earlier starts repaired: all of that can be read, then.
    fn mend(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        self.walk.headers.iter().try_for_each(Segment::remake_header)?;
        for batch in self.replay.map.damaged().values() {
            repair::brand(disk, batch)?;
        }
        for (segment, dirt) in &self.walk.litter {
            write_zeros(&*segment.file, dirt.place.offset, segment.bytes, Pace::AtOnce)?;
            segment.file.sync_data()?;
        }
        self.mark.iter().try_for_each(|earlier| self.rewrite_marked(disk, earlier))
    }

    fn rewrite_marked(&self, disk: &dyn Disk, mark: &Mark) -> Result<(), OpenError> {
        let (end, last) = (self.walk.at(), self.active.sequence);
        for sequence in FIRST_SEQUENCE..=last {
            let segment = Segment::open(disk, sequence)?;
            let end = if sequence == last { end.offset } else { segment.bytes };
            let name = segment.name();
            let all = mark.more.then_some((0, end));
            let marked = mark.places.iter().filter(|place| place.file == name);
            let marked = marked.map(|place| (place.offset, place.offset.saturating_add(place.bytes)));
            for (from, to) in all.into_iter().chain(marked) {
                rewrite(&*segment.file, from, to.min(end))?;
            }
        }
        Ok(())
    }

    /// Rewrites the log's last batch, and zeros what a torn write can have left behind it, or all that is left behind an
    /// end that is uncertain.
    fn settle_tail(&self, offset: u64) -> io::Result<()> {
        if removed(Guard::RecoveryBelievesCache) {
            return Ok(());
        }
        let Segment { file, bytes, .. } = &self.active;
        if let Some((place, _)) = self.replay.map.tail() {
            // A damaged one too: what is sound of it counts as durable from here on.
            rewrite(&**file, place.offset, place.offset + place.extent)?;
        }
        let end = if self.uncertain.is_some() { *bytes } else { (*bytes).min(offset + extent_max()) };
        if !removed(Guard::CutNotZeroed) {
            write_zeros(&**file, offset, end, Pace::AtOnce)?;
        }
        file.sync_data()
    }

    /// Remakes damaged batches of which nothing is missing that anybody needs. From the last on, and not before the tail
    /// is durable: what replaced their records is then sure to stay.
    fn mend_dead(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let complete = |batch: &&DamagedBatch| batch.live().next().is_none();
        let dead: Vec<_> = self.replay.map.damaged().values().rev().filter(complete).cloned().collect();
        for batch in dead {
            repair::remake(disk, &batch, &BTreeMap::new())?;
            self.replay.map.forget_damage(batch.place.batch);
        }
        Ok(())
    }
}

/// Segments that were ready and wait for their first batch. Those of another size than is wanted now go, from the
/// last one on, so that no gap is left; the caller syncs the folder.
fn settle_waiting(
    disk: &dyn Disk,
    waiting: Vec<Segment>,
    settings: &WalSettings,
    end_uncertain: bool,
) -> io::Result<VecDeque<Segment>> {
    if waiting.iter().any(|segment| segment.bytes != settings.segment_bytes) {
        for segment in waiting.iter().rev() {
            disk.remove(&segment.name())?;
        }
        return Ok(VecDeque::new());
    }
    for segment in &waiting {
        let reach = if end_uncertain { segment.bytes } else { SEGMENT_HEADER_BYTES + extent_max() };
        write_zeros(&*segment.file, SEGMENT_HEADER_BYTES, segment.bytes.min(reach), Pace::AtOnce)?;
        segment.file.sync_data()?;
    }
    Ok(waiting.into())
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryDisk, Wal};
    use super::*;
    use crate::base::{Entry, EntryKind, HardState, PersistSeq};
    use crate::raft::Persist;

    fn settings() -> WalSettings {
        WalSettings { segment_bytes: 32 * 1024, entry_bytes_max: 4096, ..WalSettings::default() }
    }

    fn refusal(disk: &MemoryDisk) -> OpenError {
        Wal::open(disk.attach(), settings(), None).map(|_| ()).unwrap_err()
    }

    #[test]
    fn a_new_log_on_a_disk_that_is_too_small_says_how_much_it_needs() {
        let disk = MemoryDisk::new();
        disk.set_capacity(20 * 1024);
        let error = refusal(&disk);
        assert!(matches!(&error, OpenError::Io(error) if is_full(error)), "{error}");
        for said in ["begins with a segment of less than 0.1 MiB", "16 MiB free", "--segment-mib"] {
            assert!(error.to_string().contains(said), "{said:?} is missing: {error}");
        }
        disk.set_capacity(u64::MAX);
        assert!(Wal::open(disk.attach(), settings(), None).is_ok(), "what the first try left is in the way");
    }

    #[test]
    fn a_stray_file_beside_the_log_is_to_be_removed_and_no_damage() {
        let disk = MemoryDisk::new();
        Wal::open(disk.attach(), settings(), None).unwrap();
        disk.attach().create("wal/notes.txt").unwrap();
        let OpenError::Configuration(sentence) = refusal(&disk) else { panic!("it is taken for damage") };
        assert!(sentence.contains("wal/notes.txt") && sentence.contains("remove it if you put it there"), "{sentence}");
        disk.attach().remove("wal/notes.txt").unwrap();
        assert!(Wal::open(disk.attach(), settings(), None).is_ok());
    }

    #[test]
    fn whoever_opens_a_log_is_told_how_far_it_was_read() {
        let disk = MemoryDisk::new();
        let mut opened = Wal::open(disk.attach(), settings(), None).unwrap();
        for index in 1..=12 {
            let data = vec![7; 4000].into();
            let entry = Entry { index: LogIndex(index), term: Term(1), kind: EntryKind::Commands, data };
            let hard_state = Some(HardState { term: Term(1), vote: None });
            let persist = Persist { seq: PersistSeq(index), hard_state, entries: vec![entry], messages: Vec::new() };
            opened.wal.persist(&[persist]).unwrap();
        }
        let mut read = Vec::new();
        Wal::open_slowly(disk.attach(), settings(), None, &mut |so_far| read.push(so_far)).unwrap();
        assert_eq!(read.len(), 13, "once for each batch, and at the end");
        let segments = read[0].segments;
        assert!(segments > 1);
        let last = ReadSoFar { segment: segments, segments, index: LogIndex(12) };
        assert_eq!((read[0].segment, read[0].index, read[12]), (1, LogIndex::ZERO, last));
    }

    /// So that the log does not say that entries are lost where none are.
    #[test]
    fn a_damaged_header_of_a_segment_loses_no_entry_and_is_told_as_that() {
        let disk = MemoryDisk::new();
        Wal::open(disk.attach(), settings(), None).unwrap();
        disk.alter(&segment_name(FIRST_SEQUENCE), 3, b"X");
        let opened = Wal::open(disk.attach(), settings(), None).unwrap();
        let [damaged] = &opened.report.damaged[..] else { panic!("{:?}", opened.report) };
        assert!(damaged.contains("header") && damaged.contains("it was remade, and no entry was in it"), "{damaged}");
        assert!(opened.recovered.damage.suspect && opened.recovered.damage.missing.is_empty());
    }
}
