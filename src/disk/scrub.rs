//! Reads all that is durable once more, in small steps, while the node runs: damage that is found while other nodes
//! still have what it took can be repaired. Runs on the background thread; who calls sets the pace.
//!
//! A pass goes over every batch that was durable when it began, and over both term slots. Nothing that the wal may be
//! writing is read but the slots, where it does no harm: a slot that is read while it is written looks damaged, and is
//! written once more.
//!
//! What it finds is handed to the [`Repairer`], mark first, and told to the caller: the node is suspect from then on. A
//! damaged segment header, and what lies behind a segment's last batch without being one, is mended at once.
//!
//! It does not look at free space behind the log's end, nor at segments that wait; the next start does. And what the
//! page cache holds it reads from there: what was read not long ago is not looked for on the disk. (Batches are written
//! around it where the system lets them.)

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, is_full};
use super::error::OpenError;
use super::map::{BatchPlace, DamagedBatch, LogMap};
use super::mark::MarkedPlace;
use super::record::Written;
use super::repair::{Repairer, describe};
use super::salvage::{Lost, Salvaged};
use super::segment::Segment;
use super::slots::TermSlots;
use super::walk::{Step, Walk, WalkedBatch};
use crate::raft::MissingEntry;

/// One pass.
pub struct Scrub {
    disk: Arc<dyn Disk>,
    map: Arc<Mutex<LogMap>>,
    /// `None` once all batches were read.
    walk: Option<Walk>,
    bytes_done: u64,
    bytes_total: u64,
}

/// What a step found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStep {
    /// The pass is over.
    pub is_finished: bool,
    /// Of the log, since the pass began.
    pub bytes_done: u64,
    pub bytes_total: u64,
    /// Entries that are missing now and were not before, ascending.
    pub missing: Vec<MissingEntry>,
    /// Where damage was found, as sentences for the operator. The node is suspect if there are any.
    pub damaged: Vec<String>,
    /// To be mended by [`super::Wal::rewrite_slots`], on the wal's thread.
    pub slots_are_damaged: bool,
    /// The disk is too full for the mark: nothing was done about what was found, and the pass is over.
    pub no_room: Option<String>,
    /// It is not known any more what the log held in some place, and nothing behind that was read: the next start would
    /// refuse this log. The pass is over.
    pub beyond_repair: Option<String>,
}

impl Scrub {
    pub(super) fn new(disk: Arc<dyn Disk>, map: Arc<Mutex<LogMap>>) -> Scrub {
        let (tail, bytes_total) = {
            let map = map.lock();
            (map.tail(), map.bytes())
        };
        let walk = tail.map(|tail: (BatchPlace, Written)| Walk::new(disk.clone(), tail.0.segment, Some(tail)));
        Scrub { disk, map, walk, bytes_done: 0, bytes_total }
    }

    /// Reads about so many bytes, at least one batch. An error is one that was met when something was opened or
    /// written: the process must end.
    pub fn step(&mut self, repairer: &mut Repairer, bytes: u64) -> io::Result<ScrubStep> {
        let until = self.bytes_done.saturating_add(bytes.max(1));
        let mut found = Found::default();
        let mut beyond_repair = None;
        while self.bytes_done < until
            && let Some(walk) = &mut self.walk
        {
            let step = walk.next();
            found.headers.append(&mut walk.headers);
            found.litter.extend(walk.litter.drain(..).map(|(segment, dirt)| (segment, dirt.place.offset)));
            match step {
                Err(OpenError::Damaged(damage)) => {
                    beyond_repair = Some(damage.place_and_what());
                    self.walk = None;
                }
                Err(error) => return Err(error.into()),
                Ok(Step::Batch(batch)) => {
                    self.bytes_done += batch.place.extent;
                    found.batches.extend(damaged(&self.map, batch));
                }
                Ok(Step::End(_)) => self.walk = None,
            }
        }
        let is_finished = self.walk.is_none();
        let slots_are_damaged = is_finished && !TermSlots::are_sound(&*self.disk)?;
        let mut step = ScrubStep { is_finished, slots_are_damaged, beyond_repair, ..ScrubStep::default() };
        (step.bytes_done, step.bytes_total) = (self.bytes_done, self.bytes_total);
        if !found.is_empty() {
            match repairer.mark(found.places()) {
                Ok(()) => {}
                Err(error) if is_full(&error) => {
                    let no_room = Some(error.to_string());
                    return Ok(ScrubStep { is_finished: true, no_room, ..step });
                }
                Err(error) => return Err(error),
            }
            let before = repairer.missing();
            step.damaged = found.describe();
            found.mend(repairer)?;
            step.missing = repairer.missing();
            step.missing.retain(|missing| !before.contains(missing));
        }
        Ok(step)
    }
}

/// A batch of which something is lost that was not known to be.
fn damaged(map: &Mutex<LogMap>, batch: WalkedBatch) -> Option<DamagedBatch> {
    if batch.is_whole {
        return None;
    }
    let WalkedBatch { place, written, previous, records, .. } = batch;
    let lost: Vec<Lost> = records
        .into_iter()
        .filter_map(|record| match record {
            Salvaged::Lost(lost) => Some(lost),
            Salvaged::Sound(_) => None,
        })
        .collect();
    let map = map.lock();
    match map.damaged().get(&place.batch) {
        Some(known) => known.with_lost(lost),
        None => Some(DamagedBatch { place, written, previous, lost, live_until: map.live_until(&written.run) }),
    }
}

#[derive(Default)]
struct Found {
    batches: Vec<DamagedBatch>,
    headers: Vec<Segment>,
    /// From an offset on to the segment's end.
    litter: Vec<(Segment, u64)>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.headers.is_empty() && self.litter.is_empty()
    }

    fn describe(&self) -> Vec<String> {
        let headers = self.headers.iter().map(|segment| {
            format!("{}, byte 0: its header is damaged; it is remade, and no entry is lost by that", segment.name())
        });
        let litter = self.litter.iter().map(|(segment, offset)| {
            format!("{}, byte {offset}: something lies behind the segment's last batch", segment.name())
        });
        headers.chain(litter).chain(self.batches.iter().map(describe)).collect()
    }

    fn places(&self) -> Vec<MarkedPlace> {
        let headers = self.headers.iter().map(MarkedPlace::of_header);
        let litter = self.litter.iter().map(|(segment, offset)| MarkedPlace::of_rest(segment, *offset));
        let batches = self.batches.iter().map(|batch| MarkedPlace::of_batch(&batch.place));
        headers.chain(litter).chain(batches).collect()
    }

    /// What is marked already.
    fn mend(self, repairer: &mut Repairer) -> io::Result<()> {
        repairer.take(self.batches)?;
        self.headers.iter().try_for_each(Segment::remake_header)?;
        self.litter.iter().try_for_each(|(segment, offset)| segment.clear_from(*offset))
    }
}
