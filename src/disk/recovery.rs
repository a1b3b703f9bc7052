//! What happens before the log is believed. Runs at start, on the caller's thread.
//!
//! Everything is read and judged (`walk`, `replay`, `slots`), and what can't be lived with ends it there, with nothing
//! changed. Then what was judged is made durable (`settle`), in place: a full disk does not keep a node from starting.

mod settle;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::disk::{Disk, is_full};
use super::error::{Damage, OpenError};
use super::map::LogMap;
use super::mark::Mark;
use super::record::Written;
use super::replay::Replay;
use super::scan::Dirt;
use super::sector::Stamp;
use super::segment::{
    FIRST_SEQUENCE, SEGMENT_HEADER_BYTES, Segment, WAL_DIR, prepare_at_once, segment_name, sequence_of,
};
use super::slots::{SlotsFound, TERM_FILE, TermSlots};
use super::wal::WalSettings;
use super::walk::{LogEnd, Step, Walk};
use crate::base::limits::DISK_LOW_WATER_BYTES;
use crate::base::{ClusterId, LogIndex, Term, mebibytes};
use crate::guard::{Guard, removed};
use crate::raft::Recovered;

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
                    "{WAL_DIR}/{name} is no file of a log: remove it if you put it there; if you did not, it may be a \
                     part of the log that has lost its name: then leave the directory as it is"
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
        "{error}; a new log begins with a segment of {first}, and needs {further} free for each one after it: make \
         room, give the node a directory on a larger file system, or choose smaller segments (--segment-mib)"
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
    /// missed. Without a mark, or before the mark, that was settled.
    fn end_uncertain(&self) -> bool {
        let is_cut = |mark: &Mark| self.replay.cut_in >= mark.since.max(1);
        let marked = |mark: &Mark| mark.end_uncertain || is_cut(mark);
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
            let persist = Persist {
                seq: PersistSeq(index),
                cut_from: None,
                hard_state,
                entries: vec![entry],
                messages: Vec::new(),
            };
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
        assert!(
            damaged.contains("header") && damaged.contains("it was remade, and no entry was lost by that"),
            "{damaged}"
        );
        assert!(opened.recovered.damage.suspect && opened.recovered.damage.missing.is_empty());
    }
}
