//! What stands at one place of a segment: a whole batch, nothing, the rest of a torn write, or damage.
//!
//! Recovery must tell a torn tail, whose fsync never returned, from damage to what was once durable, and may cut only
//! the former. The segment was zero before; sectors are written whole or not at all; a batch is written only after
//! the fsync of the one before returned. So, at the place where batch *b* would start:
//!
//! | the sectors of *b*'s extent | behind them, to the end of the log | verdict |
//! |---|---|---|
//! | all valid, of *b* | anything | whole |
//! | all zero | all zero | the end |
//! | some valid, of *b* and one incarnation, some zero, in any order | all zero | torn |
//! | the same, and the last that is not zero was half written | all zero | torn |
//! | incomplete | a sector that is not zero | damage: a later write proves that *b* was durable |
//! | one that is invalid, or of another batch or incarnation | anything | damage |
//!
//! When the first sector is missing, how long *b* is can't be known; then its extent is the longest there can be.
//! "Behind them" includes later segments; the caller looks there.

use std::io;

use bytes::Bytes;

use super::error::{Damage, OpenError};
use super::record::{BatchHeader, extent_max, extent_of, sectors_of};
use super::sector::{Place, SECTOR_BYTES, SECTOR_PAYLOAD_BYTES, Sector, Stamp, inspect};
use super::segment::Window;

/// What stands at a place.
pub(super) enum Found {
    Whole(Batch),
    /// Zeros to the segment's end.
    Nothing,
    Torn(Torn),
}

/// A batch with all of its sectors sound.
pub(super) struct Batch {
    pub stamp: Stamp,
    pub header: BatchHeader,
    pub payload: Bytes,
    /// In whole blocks.
    pub extent: u64,
}

/// What a write left that never finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn {
    /// Bytes in the sectors that are not zero.
    pub bytes: u64,
    /// Of its valid sectors; `None` if it has none.
    pub incarnation: Option<u32>,
}

/// Why a place can't be read.
#[derive(Debug)]
pub(super) enum ScanError {
    Io(io::Error),
    Damaged(Damage),
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> ScanError {
        ScanError::Io(error)
    }
}

impl From<ScanError> for OpenError {
    fn from(error: ScanError) -> OpenError {
        match error {
            ScanError::Io(error) => OpenError::Io(error),
            ScanError::Damaged(damage) => OpenError::Damaged(damage),
        }
    }
}

/// What is at `offset`, where batch `expected` would start. Looks at every byte up to the window's end unless the
/// batch is whole.
pub(super) fn scan(window: &mut Window<'_>, offset: u64, expected: u64) -> Result<Found, ScanError> {
    match read_batch(window, offset, expected)? {
        Read::Whole(batch) => Ok(Found::Whole(batch)),
        Read::Incomplete { sectors_max } => scan_incomplete(window, offset, expected, sectors_max),
    }
}

pub(super) enum Read {
    Whole(Batch),
    /// `sectors_max`: how many sectors a write of it can have touched.
    Incomplete {
        sectors_max: u64,
    },
}

/// Reads batch `expected` at `offset` if all of it is there.
pub(super) fn read_batch(window: &mut Window<'_>, offset: u64, expected: u64) -> Result<Read, ScanError> {
    let unknown = Read::Incomplete { sectors_max: extent_max() / SECTOR_BYTES as u64 };
    let room = window.end() - offset;
    if room < SECTOR_BYTES as u64 {
        return Ok(unknown);
    }
    let stamp = match sector_at(window, offset)? {
        Sector::Valid(stamp) if stamp.batch == expected => stamp,
        Sector::Valid(stamp) => return Err(wrong_batch(window, offset, stamp, expected)),
        Sector::Zero | Sector::HalfWritten => return Ok(unknown),
        Sector::Invalid => return Err(invalid(window, offset)),
    };
    let header =
        BatchHeader::decode(window.get(offset, SECTOR_BYTES)?).map_err(|what| damaged(window, offset, what))?;
    let extent = extent_of(header.length);
    if extent > room {
        let what = format!("batch {expected} says it has {} bytes, which pass the segment's end", header.length);
        return Err(damaged(window, offset, what));
    }
    let Some(payload) = gather(window, offset, header, stamp)? else {
        return Ok(Read::Incomplete { sectors_max: sectors_of(header.length) as u64 });
    };
    let used = (sectors_of(header.length) * SECTOR_BYTES) as u64;
    for behind in (used..extent).step_by(SECTOR_BYTES) {
        if sector_at(window, offset + behind)? != Sector::Zero {
            return Err(damaged(
                window,
                offset + behind,
                format!("a sector behind the end of batch {expected} is not zero"),
            ));
        }
    }
    Ok(Read::Whole(Batch { stamp, header, payload, extent }))
}

/// The payload, if every sector is there and carries `stamp`. What is there instead, if not, is for the caller to
/// find out.
fn gather(window: &mut Window<'_>, offset: u64, header: BatchHeader, stamp: Stamp) -> Result<Option<Bytes>, ScanError> {
    let sectors = sectors_of(header.length);
    let segment = window.segment.sequence;
    let bytes = window.get(offset, sectors * SECTOR_BYTES)?;
    let mut payload = Vec::with_capacity(sectors * SECTOR_PAYLOAD_BYTES);
    for (i, sector) in bytes.chunks_exact(SECTOR_BYTES).enumerate() {
        let place = Place { segment, offset: offset + (i * SECTOR_BYTES) as u64 };
        if inspect(sector, place) != Sector::Valid(stamp) {
            return Ok(None);
        }
        payload.extend_from_slice(&sector[..SECTOR_PAYLOAD_BYTES]);
    }
    if payload[header.length..].iter().any(|byte| *byte != 0) {
        let what = format!("batch {} has bytes behind its end that are not zero", stamp.batch);
        return Err(damaged(window, offset, what));
    }
    payload.truncate(header.length);
    Ok(Some(payload.into()))
}

/// The table above, for a batch that is not whole: nothing, torn, or damage.
fn scan_incomplete(window: &mut Window<'_>, offset: u64, expected: u64, sectors_max: u64) -> Result<Found, ScanError> {
    let mut torn = Torn { bytes: 0, incarnation: None };
    let mut half_written = false;
    for at in (offset..window.end()).step_by(SECTOR_BYTES) {
        let found = sector_at(window, at)?;
        if found == Sector::Zero {
            continue;
        }
        if half_written || (at - offset) / SECTOR_BYTES as u64 >= sectors_max {
            let what = format!("data lie behind batch {expected}, which is not whole: a part of it was lost");
            return Err(damaged(window, at, what));
        }
        match found {
            Sector::HalfWritten => half_written = true,
            Sector::Valid(stamp) if stamp.batch != expected => return Err(wrong_batch(window, at, stamp, expected)),
            Sector::Valid(stamp) if *torn.incarnation.get_or_insert(stamp.incarnation) != stamp.incarnation => {
                let what = format!("batch {expected} has sectors of two incarnations: a part of it was lost");
                return Err(damaged(window, at, what));
            }
            Sector::Valid(_) => {}
            Sector::Invalid | Sector::Zero => return Err(invalid(window, at)),
        }
        torn.bytes += SECTOR_BYTES as u64;
    }
    Ok(if torn.bytes == 0 { Found::Nothing } else { Found::Torn(torn) })
}

fn sector_at(window: &mut Window<'_>, offset: u64) -> io::Result<Sector> {
    let segment = window.segment.sequence;
    Ok(inspect(window.get(offset, SECTOR_BYTES)?, Place { segment, offset }))
}

fn damaged(window: &Window<'_>, offset: u64, what: impl Into<String>) -> ScanError {
    ScanError::Damaged(Damage::at(window.segment.name(), offset, what))
}

fn invalid(window: &Window<'_>, offset: u64) -> ScanError {
    damaged(window, offset, "a sector fails its checksum")
}

fn wrong_batch(window: &Window<'_>, offset: u64, stamp: Stamp, expected: u64) -> ScanError {
    damaged(window, offset, format!("a sector belongs to batch {}, where batch {expected} should be", stamp.batch))
}
