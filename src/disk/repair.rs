//! Puts back what a damaged batch lost. Runs on the background thread, beside the wal: it writes only in place, inside
//! batches that the wal is done with.
//!
//! A damaged batch keeps its place, its number and its extent for ever; recovery depends on them. It is *remade* once
//! every record that it lost is either found again (offered here, from a peer) or dead (replaced by a later batch, so
//! that nobody needs its content): the bytes are then those that were written first, except for dead records, which
//! become voids. Only blocks that differ are written. A repair that stops half way is damage again, of the same
//! kind: the checksums of the records guard the mixture, and a live record that was sound is never moved.
//!
//! A batch that has to stay damaged for a while is *branded*: its first sector, if lost, is made anew, so that the
//! batch says itself what it held; and sectors that read as never written get a pattern that no write leaves, so that
//! the batch never passes for torn.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::disk::Disk;
use super::map::{DamagedBatch, LogMap};
use super::mark::{Mark, MarkedPlace};
use super::record::{BATCH_HEADER_BYTES, BatchEncoder, BatchHeader, RECORD_HEADER_BYTES, RecordKind, sectors_of};
use super::salvage::{Lost, Record, Salvaged};
use super::scan::{Head, read_head, read_payload};
use super::sector::{BLOCK_BYTES, Part, Place, SECTOR_BYTES, Sector, Stamp, inspect, seal};
use super::segment::{Segment, UNREADABLE, Window, segment_name};
use crate::base::{Entry, LogIndex};
use crate::guard::{Guard, removed};
use crate::raft::MissingEntry;

/// What became of an entry that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Nothing is missing there, or not any more.
    NotMissing,
    /// Another one is missing there.
    Other,
    /// Kept in memory until the rest of its batch is there.
    Kept,
    /// Its batch is whole and durable again; with it these entries, ascending.
    Repaired(Vec<LogIndex>),
}

/// How far the repair is, for status and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairProgress {
    /// The mark is on disk.
    pub suspect: bool,
    pub end_uncertain: bool,
    /// Batches that are still damaged.
    pub batches: usize,
    /// Live entries that are still missing.
    pub missing: usize,
    /// Entries that were put back since the start.
    pub repaired: u64,
}

/// Knows what is missing, takes it back entry by entry, and clears the mark. There is one beside each wal.
pub struct Repairer {
    disk: Arc<dyn Disk>,
    map: Arc<Mutex<LogMap>>,
    mark: Option<Mark>,
    incarnation: u32,
    /// By batch and index; of batches that are not complete yet.
    kept: BTreeMap<u64, BTreeMap<LogIndex, Entry>>,
    repaired: u64,
}

impl Repairer {
    pub(super) fn new(disk: Arc<dyn Disk>, map: Arc<Mutex<LogMap>>, mark: Option<Mark>, incarnation: u32) -> Repairer {
        Repairer { disk, map, mark, incarnation, kept: BTreeMap::new(), repaired: 0 }
    }

    /// Live entries whose content is lost, ascending. Shrinks by itself when the wal replaces some.
    pub fn missing(&self) -> Vec<MissingEntry> {
        self.map.lock().missing()
    }

    pub fn progress(&self) -> RepairProgress {
        let map = self.map.lock();
        RepairProgress {
            suspect: self.mark.is_some(),
            end_uncertain: self.mark.as_ref().is_some_and(|mark| mark.end_uncertain),
            batches: map.damaged().len(),
            missing: map.missing().len(),
            repaired: self.repaired,
        }
    }

    /// Takes an entry that may be missing, best in ascending order: memory holds at most what one batch lost, then.
    /// After an error it is unknown what is on disk, and the process must end.
    pub fn offer(&mut self, entry: &Entry) -> io::Result<Offered> {
        let wanting: Vec<u64> = {
            let map = self.map.lock();
            map.damaged().iter().filter(|(_, batch)| is_lost_in(entry, batch)).map(|(number, _)| *number).collect()
        };
        if wanting.is_empty() {
            let is_missing = self.missing().iter().any(|missing| missing.index == entry.index);
            return Ok(if is_missing { Offered::Other } else { Offered::NotMissing });
        }
        for number in &wanting {
            self.kept.entry(*number).or_default().insert(entry.index, entry.clone());
        }
        let mut repaired = Vec::new();
        for number in wanting {
            repaired.extend(self.maybe_remake(number)?);
        }
        Ok(if repaired.is_empty() { Offered::Kept } else { Offered::Repaired(repaired) })
    }

    /// Remakes batches whose lost records the wal has replaced meanwhile.
    fn mend_replaced(&mut self) -> io::Result<()> {
        let complete: Vec<u64> = {
            let map = self.map.lock();
            map.damaged()
                .values()
                .filter(|batch| batch.live().next().is_none())
                .map(|batch| batch.place.batch)
                .collect()
        };
        for number in complete {
            self.maybe_remake(number)?;
        }
        Ok(())
    }

    /// Less is needed of some damaged batches than before: what is kept may be all that they lack now. The answer is
    /// what is durable again.
    pub fn mend_given_up(&mut self) -> io::Result<Vec<LogIndex>> {
        let mut repaired = Vec::new();
        for number in self.kept.keys().copied().collect::<Vec<_>>() {
            repaired.extend(self.maybe_remake(number)?);
        }
        Ok(repaired)
    }

    /// Removes the mark, durably. The caller knows that the log's end is certain again.
    ///
    /// # Panics
    /// If something is still missing.
    pub fn clear_mark(&mut self) -> io::Result<()> {
        let missing = self.missing();
        assert!(missing.is_empty(), "the mark is cleared, and {missing:?} are missing");
        self.mend_replaced()?;
        Mark::remove(&*self.disk)?;
        self.mark = None;
        Ok(())
    }

    /// Damage was found while the node runs: the mark is durable when it returns, before anything else happens.
    pub(super) fn mark(&mut self, places: Vec<MarkedPlace>) -> io::Result<()> {
        let mut mark = self.mark.clone().unwrap_or_else(|| Mark::new(self.incarnation));
        places.into_iter().for_each(|place| mark.add(place));
        if self.mark.as_ref() != Some(&mark) {
            mark.write(&*self.disk)?;
            self.mark = Some(mark);
        }
        Ok(())
    }

    /// Damaged batches that were found while the node runs, and are marked.
    pub(super) fn take(&mut self, batches: Vec<DamagedBatch>) -> io::Result<()> {
        for mut batch in batches {
            brand(&*self.disk, &batch)?;
            let mut map = self.map.lock();
            // The wal has gone on since the batch was read, and may have replaced some of it.
            batch.live_until = batch.live_until.min(map.live_until(&batch.written.run));
            map.note_damage(batch);
        }
        self.mend_replaced()
    }

    /// The answer is what is durable again.
    fn maybe_remake(&mut self, number: u64) -> io::Result<Vec<LogIndex>> {
        let Some(batch) = self.map.lock().damaged().get(&number).cloned() else { return Ok(Vec::new()) };
        let kept = self.kept.entry(number).or_default();
        if !batch.live().all(|lost| kept.contains_key(&lost.index)) {
            return Ok(Vec::new());
        }
        remake(&*self.disk, &batch, kept)?;
        let kept = self.kept.remove(&number).unwrap_or_default();
        self.map.lock().forget_damage(number);
        self.repaired += batch.live().count() as u64;
        // What the wal has written anew meanwhile is durable too; unless that is damaged by now.
        let missing = self.missing();
        let is_missing = |index: &LogIndex| missing.iter().any(|missing| missing.index == *index);
        Ok(kept.into_keys().filter(|index| !is_missing(index)).collect())
    }
}

/// Whether `entry` is what this batch lost, as far as that is known.
fn is_lost_in(entry: &Entry, batch: &DamagedBatch) -> bool {
    let is_it = |lost: &Lost| match lost.header {
        Some(header) => header.kind == RecordKind::Entry(entry.kind) && header.checksum == crc32fast::hash(&entry.data),
        None => true,
    };
    if removed(Guard::RefillUnchecked) {
        return batch.live().any(|lost| lost.index == entry.index);
    }
    entry.term == batch.written.run.term && batch.live().any(|lost| lost.index == entry.index && is_it(lost))
}

/// For the operator.
pub(super) fn describe(batch: &DamagedBatch) -> String {
    let (place, run) = (&batch.place, &batch.written.run);
    let missing = match (batch.live().count(), batch.live().next(), batch.live().last()) {
        (1, Some(only), _) => format!("entry {} is missing", only.index),
        (count, Some(first), Some(last)) => {
            format!("{count} entries are missing, from {} to {}", first.index, last.index)
        }
        _ => "every entry that counts is sound, and it is made whole again".into(),
    };
    format!(
        "{}, byte {}: batch {}, with entries {} to {} of term {}, is damaged; {missing}",
        segment_name(place.segment),
        place.offset,
        place.batch,
        run.first,
        run.last(),
        run.term
    )
}

// ---- one batch -------------------------------------------------------------------------------------------------

fn stamp_of(batch: &DamagedBatch) -> Stamp {
    Stamp { incarnation: batch.written.incarnation, batch: batch.place.batch }
}

fn header_of(batch: &DamagedBatch) -> BatchHeader {
    BatchHeader { run: batch.written.run, previous: batch.previous }
}

/// The segment a batch lies in, and the batch's bytes as they are, from one read: what can't be read now and could be
/// before must not be taken for both.
fn read_blocks(disk: &dyn Disk, batch: &DamagedBatch) -> io::Result<(Window, Vec<u8>)> {
    let mut window = Window::new(Segment::open(disk, batch.place.segment)?, u64::MAX);
    let extent = usize::try_from(batch.place.extent).expect("a batch is bounded");
    let blocks = window.get(batch.place.offset, extent)?.to_vec();
    Ok((window, blocks))
}

/// Makes sure that the batch says itself what it held, and never passes for one that was not written whole. Durable
/// when it returns. If more of it is lost than was said, nothing is written: it would be lost for good.
pub(super) fn brand(disk: &dyn Disk, batch: &DamagedBatch) -> io::Result<()> {
    let (mut window, mut blocks) = read_blocks(disk, batch)?;
    let head = read_head(&mut window, batch.place.offset)?;
    let payload = read_payload(&mut window, batch.place.offset, &batch.written.run, stamp_of(batch))?;
    let is_known = |salvaged: &Salvaged| match salvaged {
        Salvaged::Sound(_) => true,
        Salvaged::Lost(lost) => batch.lost.iter().any(|known| known.index == lost.index),
    };
    if !payload.is_some_and(|(payload, _)| payload.salvage(&batch.written.run).iter().all(is_known)) {
        return Err(invalid(batch, "more of it is lost than when it was read first"));
    }
    let is_sound = |head: &Head| head.stamp == stamp_of(batch) && head.header == header_of(batch);
    let place =
        |i: usize| Place { segment: batch.place.segment, offset: batch.place.offset + (i * SECTOR_BYTES) as u64 };
    for (i, sector) in blocks.chunks_exact_mut(SECTOR_BYTES).take(sectors_of(batch.written.run.length)).enumerate() {
        if i == 0 && !head.as_ref().is_some_and(is_sound) {
            let mut header = Vec::with_capacity(BATCH_HEADER_BYTES);
            header_of(batch).put(&mut header);
            sector.fill(0);
            sector[..BATCH_HEADER_BYTES].copy_from_slice(&header);
            let part = Part { number: 0, first_record: Some(BATCH_HEADER_BYTES as u16) };
            seal(sector, place(0), stamp_of(batch), part);
        } else if matches!(inspect(sector, place(i)), Sector::Zero | Sector::HalfWritten) {
            sector.fill(UNREADABLE);
        }
    }
    window.segment.file.write_at(batch.place.offset, &blocks)?;
    window.segment.file.sync_data()
}

/// Writes the batch as it was, with `found` for what is lost and voids for what is dead, and proves that it is there.
/// All that is lost and live must be among `found`.
pub(super) fn remake(disk: &dyn Disk, batch: &DamagedBatch, found: &BTreeMap<LogIndex, Entry>) -> io::Result<()> {
    let (mut window, before) = read_blocks(disk, batch)?;
    let place = Place { segment: batch.place.segment, offset: batch.place.offset };
    let (payload, _) = read_payload(&mut window, place.offset, &batch.written.run, stamp_of(batch))?
        .ok_or_else(|| invalid(batch, "it passes its segment's end"))?;
    let records = complete(batch, payload.salvage(&batch.written.run), found)?;
    let mut encoder = BatchEncoder::default();
    let after = encoder.encode(&header_of(batch), records.iter().map(Record::as_ref), place, stamp_of(batch));
    let file = &window.segment.file;
    let block = BLOCK_BYTES as usize;
    for (i, (old, new)) in before.chunks(block).zip(after.chunks(block)).enumerate() {
        if old != new {
            file.write_at(place.offset + (i * block) as u64, new)?;
        }
    }
    file.sync_data()?;
    let mut written = vec![0; after.len()];
    file.read_at(place.offset, &mut written)?;
    if written != after { Err(invalid(batch, "it does not read as it was written")) } else { Ok(()) }
}

/// One record for each that the batch had, each where it was.
fn complete(
    batch: &DamagedBatch,
    salvaged: Vec<Salvaged>,
    found: &BTreeMap<LogIndex, Entry>,
) -> io::Result<Vec<Record>> {
    let run = &batch.written.run;
    let had_voids = salvaged.iter().any(|salvaged| matches!(salvaged, Salvaged::Lost(lost) if lost.is_void));
    let mut records = Vec::with_capacity(salvaged.len());
    // Which of them is the void that takes what no other record is known to have taken.
    let mut filler = None;
    for salvaged in salvaged {
        records.push(match salvaged {
            Salvaged::Sound(record) => record,
            Salvaged::Lost(lost) => match found.get(&lost.index) {
                Some(entry) => record(lost.index, RecordKind::Entry(entry.kind), entry.data.clone()),
                None if lost.index < batch.live_until => return Err(invalid(batch, "an entry is still missing")),
                None => {
                    if lost.header.is_none() {
                        filler.get_or_insert(records.len());
                    }
                    let length = lost.header.map_or(0, |header| header.length);
                    record(lost.index, RecordKind::Void, Bytes::from(vec![0; length]))
                }
            },
        });
    }
    let misfit = || invalid(batch, "what is put back is not what was lost: it has another length");
    let taken: usize = records.iter().map(|record| RECORD_HEADER_BYTES + record.data.len()).sum();
    let rest = run.length.checked_sub(BATCH_HEADER_BYTES + taken).ok_or_else(misfit)?;
    match filler {
        Some(at) => records[at].data = Bytes::from(vec![0; rest]),
        None if rest > 0 => return Err(misfit()),
        None => {}
    }
    let mut at = BATCH_HEADER_BYTES;
    for record in &mut records {
        let moved = record.at != 0 && record.at != at && record.index < batch.live_until;
        if moved && !had_voids {
            return Err(misfit());
        }
        record.at = at;
        at += RECORD_HEADER_BYTES + record.data.len();
    }
    Ok(records)
}

/// Its place is given once all lengths are known.
fn record(index: LogIndex, kind: RecordKind, data: Bytes) -> Record {
    Record { at: 0, index, kind, data }
}

fn invalid(batch: &DamagedBatch, what: &str) -> io::Error {
    let place = &batch.place;
    let file = segment_name(place.segment);
    let message = format!("{file}, byte {}: batch {} can't be remade: {what}", place.offset, place.batch);
    io::Error::new(io::ErrorKind::InvalidData, message)
}
