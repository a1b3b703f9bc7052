//! What stands at one place of a segment: a whole batch, nothing, the rest of a torn write, or damage.
//!
//! Recovery must tell a torn tail, whose fsync never returned, from damage to what was once durable, and may cut only
//! the former in silence. The segment was zero before; sectors are written whole or not at all; a batch is written
//! only after the fsync of the one before returned. So, at the place where batch *b* would start:
//!
//! | the sectors of *b*'s extent | behind them, to the end of the log | verdict |
//! |---|---|---|
//! | all valid, of *b*, and their records sound | anything | whole |
//! | all zero | all zero | the end |
//! | some valid, of *b* and one incarnation, some zero, in any order | all zero | torn |
//! | the same, and the last that is not zero was half written | all zero | torn |
//! | incomplete | a sector that is not zero | damage: a later write proves that *b* was durable |
//! | one that is invalid or can't be read, or of another batch or incarnation | anything | damage |
//!
//! When the first sector is missing, how long *b* is can't be known; then its extent is the longest there can be.
//! "Behind them" includes later segments. What is to be done about damage is up to `walk`.

use std::collections::BTreeMap;
use std::io;

use super::record::{BatchHeader, Run, extent_max, sectors_of};
use super::salvage::{Payload, Record, SectorState, whole};
use super::sector::{BLOCK_BYTES, Part, Place, SECTOR_BYTES, SECTOR_PAYLOAD_BYTES, Sector, Stamp, inspect, is_zero};
use super::segment::Window;
use crate::guard::{Guard, removed};

/// A batch of which everything is sound.
pub(super) struct Batch {
    pub stamp: Stamp,
    pub header: BatchHeader,
    pub records: Vec<Record>,
}

/// A batch's first sector, which is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub place: Place,
    pub stamp: Stamp,
    pub header: BatchHeader,
}

/// Reads batch `expected` at `offset` if all of it is there and sound. Each sector is looked at once: a start reads the
/// whole log in this way.
pub(super) fn read_batch(window: &mut Window, offset: u64, expected: u64) -> io::Result<Option<Batch>> {
    let head = read_head(window, offset)?;
    let Some(Head { place, stamp, header }) = head.filter(|head| head.stamp.batch == expected) else { return Ok(None) };
    let used = sectors_of(header.run.length) * SECTOR_BYTES;
    let blocks = window.get(offset, usize::try_from(header.run.extent()).expect("a batch is bounded"))?;
    let (sectors, behind) = blocks.split_at(used);
    if !is_zero(behind) {
        return Ok(None);
    }
    let mut payload = Vec::with_capacity(used / SECTOR_BYTES * SECTOR_PAYLOAD_BYTES);
    for (i, sector) in sectors.chunks_exact(SECTOR_BYTES).enumerate() {
        let place = Place { offset: offset + (i * SECTOR_BYTES) as u64, ..place };
        // The first one was looked at for the head; had it changed since, its records would tell.
        if i > 0 && part_of(sector, place, stamp, i).is_none() {
            return Ok(None);
        }
        payload.extend_from_slice(&sector[..SECTOR_PAYLOAD_BYTES]);
    }
    payload.truncate(header.run.length);
    Ok(whole(&payload.into(), &header.run).map(|records| Batch { stamp, header, records }))
}

/// A sector as number `number` of the batch that `stamp` names, if it is sound and just that.
fn part_of(sector: &[u8], place: Place, stamp: Stamp, number: usize) -> Option<Part> {
    match inspect(sector, place) {
        Sector::Valid(found, part) if found == stamp && usize::from(part.number) == number => Some(part),
        _ => None,
    }
}

/// The first sector of the batch at `offset`, if it is sound and the segment has room for what it says.
pub(super) fn read_head(window: &mut Window, offset: u64) -> io::Result<Option<Head>> {
    if offset + SECTOR_BYTES as u64 > window.end() {
        return Ok(None);
    }
    let place = Place { segment: window.segment.sequence, offset };
    let Sector::Valid(stamp, part) = sector_at(window, offset)? else { return Ok(None) };
    if part.number != 0 {
        return Ok(None);
    }
    let room = window.end() - offset;
    let header = BatchHeader::decode(window.get(offset, SECTOR_BYTES)?).ok();
    Ok(header.filter(|header| header.run.extent() <= room).map(|header| Head { place, stamp, header }))
}

/// What is sound of a batch's payload, and whether that is all; `None` if it would pass the segment's end.
pub(super) fn read_payload(
    window: &mut Window,
    offset: u64,
    run: &Run,
    stamp: Stamp,
) -> io::Result<Option<(Payload, bool)>> {
    if run.extent() > window.end().saturating_sub(offset) {
        return Ok(None);
    }
    let segment = window.segment.sequence;
    let sectors = window.get(offset, sectors_of(run.length) * SECTOR_BYTES)?;
    let states: Vec<SectorState> = sectors
        .chunks_exact(SECTOR_BYTES)
        .enumerate()
        .map(|(i, sector)| {
            let place = Place { segment, offset: offset + (i * SECTOR_BYTES) as u64 };
            part_of(sector, place, stamp, i)
                .map_or(SectorState::Lost, |part| SectorState::Sound { first_record: part.first_record })
        })
        .collect();
    let all = states.iter().all(|state| *state != SectorState::Lost);
    Ok(Some((Payload::gather(sectors, states, run.length), all)))
}

/// Whether nothing was written from `offset` on.
pub(super) fn rest_is_zero(window: &mut Window, offset: u64) -> io::Result<bool> {
    let end = window.end();
    for at in (offset..end).step_by(BLOCK_BYTES as usize) {
        if !is_zero(window.get(at, BLOCK_BYTES.min(end - at) as usize)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sector_at(window: &mut Window, offset: u64) -> io::Result<Sector> {
    let segment = window.segment.sequence;
    Ok(inspect(window.get(offset, SECTOR_BYTES)?, Place { segment, offset }))
}

/// What a write left that never finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Torn {
    /// Bytes in the sectors that are not zero.
    pub bytes: u64,
    /// Of its valid sectors; `None` if it has none.
    pub incarnation: Option<u32>,
}

/// Something that no write, finished or not, leaves at this place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dirt {
    pub place: Place,
    pub what: String,
}

/// What the batch expected at a place is, by the table, if no later one is there.
pub(super) enum Verdict {
    Nothing,
    Torn(Torn),
    Damaged(Dirt),
}

/// Looks at every sector from a place on where a batch is expected that is not whole, until a later sound batch.
pub(super) struct Survey {
    origin: Place,
    expected: u64,
    /// No batch from here on was written by an earlier start of the process.
    incarnation_min: u32,
    own: Option<Head>,
    torn: Torn,
    half_written: bool,
    dirt: Option<Dirt>,
}

impl Survey {
    /// `own`: the head of the expected batch, if that is sound.
    pub fn new(origin: Place, expected: u64, incarnation_min: u32, own: Option<Head>) -> Survey {
        Survey { origin, expected, incarnation_min, own, torn: Torn::default(), half_written: false, dirt: None }
    }

    /// Goes on in a segment from `offset` to the window's end, or to the head of another batch, from the expected one
    /// on. What sectors that are wrong claim to be goes into `claims`.
    pub fn go_on(&mut self, window: &mut Window, offset: u64, claims: &mut Claims) -> io::Result<Option<Head>> {
        let segment = window.segment.sequence;
        let (mut next, end) = (offset, window.end());
        while next < end {
            let offset = next;
            let is_block = offset.is_multiple_of(BLOCK_BYTES) && offset + BLOCK_BYTES <= end;
            // Mostly there is nothing, for as long as the segments are that were made ahead.
            if is_block && is_zero(window.get(offset, BLOCK_BYTES as usize)?) {
                next += BLOCK_BYTES;
                continue;
            }
            next += SECTOR_BYTES as u64;
            let place = Place { segment, offset };
            let found = sector_at(window, offset)?;
            if offset.is_multiple_of(BLOCK_BYTES)
                && let Sector::Valid(..) = found
                && let Some(head) = read_head(window, offset)?.filter(|head| self.is_later(head))
            {
                return Ok(Some(head));
            }
            self.take(place, found, claims);
        }
        Ok(None)
    }

    fn is_later(&self, head: &Head) -> bool {
        let own = head.place == self.origin && head.stamp.batch == self.expected;
        !own && head.stamp.batch >= self.expected && head.stamp.incarnation >= self.incarnation_min
    }

    fn take(&mut self, place: Place, found: Sector, claims: &mut Claims) {
        let what = match found {
            Sector::Zero => return,
            Sector::HalfWritten if self.is_within(place) => {
                self.half_written = true;
                self.torn.bytes += SECTOR_BYTES as u64;
                return;
            }
            Sector::HalfWritten => "a sector is half written where nothing should be".into(),
            Sector::Valid(stamp, part) if self.is_within(place) && self.is_expected(place, stamp, part.number) => {
                self.torn.incarnation = Some(stamp.incarnation);
                self.torn.bytes += SECTOR_BYTES as u64;
                return;
            }
            Sector::Valid(stamp, _) => {
                claims.note(Some(stamp));
                format!("a sector belongs to batch {} of incarnation {}", stamp.batch, stamp.incarnation)
            }
            Sector::Invalid { claims: claimed } => {
                claims.note(claimed);
                "a sector fails its checksum or can't be read".into()
            }
        };
        self.dirt.get_or_insert(Dirt { place, what });
    }

    /// Whether an unfinished write of the expected batch can have left something at `place`.
    fn is_within(&self, place: Place) -> bool {
        let sectors_max = match &self.own {
            Some(own) => sectors_of(own.header.run.length) as u64,
            None => extent_max() / SECTOR_BYTES as u64,
        };
        place.segment == self.origin.segment && self.number(place) < sectors_max && !self.half_written
    }

    fn is_expected(&self, place: Place, stamp: Stamp, number: u16) -> bool {
        // A first sector that is valid and no head says what can't be.
        let no_head = number == 0 && self.own.is_none();
        stamp.batch == self.expected
            && u64::from(number) == self.number(place)
            && stamp.incarnation >= self.incarnation_min
            && self.torn.incarnation.is_none_or(|incarnation| incarnation == stamp.incarnation)
            && !no_head
    }

    fn number(&self, place: Place) -> u64 {
        (place.offset - self.origin.offset) / SECTOR_BYTES as u64
    }

    /// Once everything to the end of the log was looked at.
    pub fn verdict(self) -> Verdict {
        let complete = self.own.map(|own| (sectors_of(own.header.run.length) * SECTOR_BYTES) as u64);
        match self.dirt {
            Some(_) if removed(Guard::DamageTakenForTorn) => Verdict::Torn(self.torn),
            Some(dirt) => Verdict::Damaged(dirt),
            None if self.torn.bytes == 0 => Verdict::Nothing,
            None if complete == Some(self.torn.bytes) && !self.half_written => {
                Verdict::Damaged(Dirt { place: self.origin, what: "a record fails its checksum".into() })
            }
            None => Verdict::Torn(self.torn),
        }
    }
}

/// Batches that wrong sectors claim to come from. A write that went to a wrong place leaves its batch missing at the
/// right one, where the log then seems to end; but what lies at the wrong place says which batch it was.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The highest batch of each incarnation, the lowest few of them.
    batches: BTreeMap<u32, u64>,
}

impl Claims {
    const INCARNATIONS_MAX: usize = 1024;

    pub fn note(&mut self, stamp: Option<Stamp>) {
        let Some(Stamp { incarnation, batch }) = stamp else { return };
        let highest = self.batches.entry(incarnation).or_default();
        *highest = batch.max(*highest);
        if self.batches.len() > Claims::INCARNATIONS_MAX {
            self.batches.pop_last();
        }
    }

    /// Notes what the sectors of a block claim that is wrong.
    pub fn note_all(&mut self, sectors: &[u8], place: Place) {
        for sector in sectors.chunks_exact(SECTOR_BYTES) {
            match inspect(sector, place) {
                Sector::Valid(stamp, _) => self.note(Some(stamp)),
                Sector::Invalid { claims } => self.note(claims),
                Sector::Zero | Sector::HalfWritten => {}
            }
        }
    }

    /// Whether a start of the process up to `incarnation_max` may have written batch `batch` or a later one.
    pub fn reach(&self, batch: u64, incarnation_max: u32) -> bool {
        self.batches.range(..=incarnation_max).any(|(_, highest)| *highest >= batch)
    }
}
