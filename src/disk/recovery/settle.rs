//! Makes durable what was read and judged, and only then lets it be believed. In this order:
//!
//! 1. If anything durable is damaged, the suspect mark is made durable (`mark`), before anything else is changed.
//! 2. Damaged batches get a first sector that says what they held, if theirs is lost, and their lost sectors are filled
//!    with what no write leaves: so that they stay what they are, whatever happens to their neighbours.
//! 3. What an earlier start repaired is written once more.
//! 4. The last batch is rewritten; what may have been a part of the log behind it is zeroed, or a torn tail cut.
//! 5. Damaged batches of which nothing is missing that anybody needs are remade whole.
//! 6. The segments that wait are zeroed where a torn write may have reached, and the term slots are rewritten.
//!
//! A process that was killed, or whose fsync failed, leaves bytes in the page cache that are not on disk, and that a
//! later fsync does not bring there. So nothing that only the cache may hold is believed: it is rewritten in place and
//! fsynced, names too. Batches before the last are safe: each was written after the fsync of the one before returned.
//! The same holds for zeros: the reach of one batch behind the log's end, and at the start of each segment that waits,
//! is zeroed again even if it reads as zero. Otherwise the rest of a batch that was cut could come back with the next
//! loss of power, behind newer ones.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::super::disk::Disk;
use super::super::error::{Damage, OpenError};
use super::super::map::DamagedBatch;
use super::super::mark::{Mark, MarkedPlace};
use super::super::record::extent_max;
use super::super::repair;
use super::super::replay::Replay;
use super::super::scan::Dirt;
use super::super::sector::Stamp;
use super::super::segment::{
    FIRST_SEQUENCE, SEGMENT_HEADER_BYTES, Segment, WAL_DIR, prepare_at_once, rewrite, segment_name, write_zeros,
};
use super::super::slots::SlotsFound;
use super::super::wal::WalSettings;
use super::{Cut, Judged, Names, Recovery, RecoveryReport};
use crate::guard::{Guard, removed};
use crate::raft::{self, LogTail, Recovered};

impl Judged {
    pub(super) fn settle(
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
                "batch {batch} at byte {offset} of {file} looks as if it was never written whole, and then it was not \
                 acknowledged; its {bytes} bytes were cut (a disk that lost sectors of the last write leaves the same)"
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
                .map(|what| format!("{}, byte 0: {what}; it was remade, and no entry was lost by that", segment.name()))
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
        let headers = self.walk.headers.iter().map(MarkedPlace::of_header);
        let litter = self.walk.litter.iter().map(|(segment, dirt)| MarkedPlace::of_rest(segment, dirt.place.offset));
        let batches = self.replay.map.damaged().values().map(|batch| MarkedPlace::of_batch(&batch.place));
        let end = self.uncertain.iter().map(|_| MarkedPlace::of_rest(&self.active, self.walk.at().offset));
        let places: Vec<MarkedPlace> = headers.chain(litter).chain(batches).chain(end).collect();
        if places.is_empty() && self.mark.is_none() {
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
        self.walk.litter.iter().try_for_each(|(segment, dirt)| segment.clear_from(dirt.place.offset))?;
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

    /// Rewrites the log's last batch, and zeros what a torn write can have left behind it, or all that is left behind
    /// an end that is uncertain.
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
            write_zeros(&**file, offset, end)?;
        }
        file.sync_data()
    }

    /// Remakes damaged batches of which nothing is missing that anybody needs. From the last on, and not before the
    /// tail is durable: what replaced their records is then sure to stay.
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
        write_zeros(&*segment.file, SEGMENT_HEADER_BYTES, segment.bytes.min(reach))?;
        segment.file.sync_data()?;
    }
    Ok(waiting.into())
}
