//! The 512-byte sector, the unit that a disk writes whole or not at all, and the stamp that tells which write it
//! comes from. Pure.
//!
//! ```text
//!   0                    492            494            496           500     504            511  512
//!   | payload (492)      | sector number | first record | incarnation | crc32 | batch number | mark |
//!                         u16, in its     u16, in the    u32, not 0    u32     u56            0xA5
//!                         batch, from 0   payload; 0xffff: none begins here
//! ```
//!
//! All numbers are big-endian. The checksum covers the payload, the rest of the stamp, and, as a seed that is not
//! stored, the segment's sequence number and the sector's offset in it: a sector that was written to a wrong place,
//! or that is left from another use of the place, is invalid.
//!
//! The sector number tells a batch's first sector from any other, whatever a client put into its values. Where the
//! first record begins is what finds the records behind a lost sector again: they are looked for nowhere else, since
//! a client's value may hold what looks like one.
//!
//! Segments are zeroed before use, so a sector reads as one of four things:
//!
//! | found | means |
//! |---|---|
//! | all zero | never written |
//! | valid | written, whole |
//! | not zero, but its last byte is | a write stopped inside it: the process was killed while it copied in order |
//! | anything else | damage |
//!
//! The stamp stands at the *end*, and its last byte is a constant of several bits, for the third line's sake: what is
//! written in order and stops early leaves a zero there, while no single flipped bit of a whole sector can.

use crate::guard::{Guard, removed};
use crc32fast::Hasher;

pub(super) const SECTOR_BYTES: usize = 512;
const STAMP_BYTES: usize = 20;
pub(super) const SECTOR_PAYLOAD_BYTES: usize = SECTOR_BYTES - STAMP_BYTES;
/// Batches start on a fresh block, so that an append never rewrites a block that holds durable data.
pub(super) const BLOCK_BYTES: u64 = 4096;

const MARK: u8 = 0xA5;
const NUMBER: usize = SECTOR_PAYLOAD_BYTES;
const FIRST_RECORD: usize = NUMBER + 2;
const INCARNATION: usize = FIRST_RECORD + 2;
const CHECKSUM: usize = INCARNATION + 4;
const BATCH: usize = CHECKSUM + 4;
const NO_RECORD: u16 = u16::MAX;

/// Which write a sector belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Which start of the process wrote it; never 0.
    pub incarnation: u32,
    /// Consecutive over the whole log; fits 56 bits.
    pub batch: u64,
}

/// Where a sector lies: what its checksum is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u64,
    /// In bytes from the segment's start.
    pub offset: u64,
}

/// What a sector is within its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Counted from 0.
    pub number: u16,
    /// Where the first record that begins in this sector does, in its payload.
    pub first_record: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sector {
    Zero,
    Valid(Stamp, Part),
    HalfWritten,
    /// `claims`: which write it seems to come from, where its stamp looks like one. Proves nothing.
    Invalid {
        claims: Option<Stamp>,
    },
}

/// Stamps a sector whose payload is in place.
pub(super) fn seal(sector: &mut [u8], place: Place, stamp: Stamp, part: Part) {
    debug_assert!(stamp.incarnation != 0 && stamp.batch < 1 << 56);
    sector[NUMBER..FIRST_RECORD].copy_from_slice(&part.number.to_be_bytes());
    sector[FIRST_RECORD..INCARNATION].copy_from_slice(&part.first_record.unwrap_or(NO_RECORD).to_be_bytes());
    sector[INCARNATION..CHECKSUM].copy_from_slice(&stamp.incarnation.to_be_bytes());
    sector[BATCH..].copy_from_slice(&(stamp.batch << 8 | u64::from(MARK)).to_be_bytes());
    let checksum = checksum(sector, place);
    sector[CHECKSUM..BATCH].copy_from_slice(&checksum.to_be_bytes());
}

/// What a sector of a segment is. `sector` has 512 bytes.
pub(super) fn inspect(sector: &[u8], place: Place) -> Sector {
    if is_zero(sector) {
        return Sector::Zero;
    }
    if sector[SECTOR_BYTES - 1] == 0 {
        return Sector::HalfWritten;
    }
    let stamp = Stamp { incarnation: be_u32(sector, INCARNATION), batch: be_u64(sector, BATCH) >> 8 };
    let claims = (sector[SECTOR_BYTES - 1] == MARK && stamp.incarnation != 0).then_some(stamp);
    let is_sound = be_u32(sector, CHECKSUM) == checksum(sector, place) || removed(Guard::SectorUnchecked);
    if claims.is_none() || !is_sound {
        return Sector::Invalid { claims };
    }
    let first_record = be_u16(sector, FIRST_RECORD);
    let first_record = (first_record != NO_RECORD).then_some(first_record);
    Sector::Valid(stamp, Part { number: be_u16(sector, NUMBER), first_record })
}

fn checksum(sector: &[u8], place: Place) -> u32 {
    let mut hasher = Hasher::new();
    if !removed(Guard::PlaceNotSealed) {
        let place = u128::from(place.segment) << 64 | u128::from(place.offset);
        hasher.update(&place.to_be_bytes());
    }
    hasher.update(&sector[..CHECKSUM]);
    hasher.update(&sector[BATCH..]);
    hasher.finalize()
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Many words at a time: recovery looks at every free byte of the open segments.
    let (words, rest) = bytes.as_chunks::<16>();
    let (groups, words) = words.as_chunks::<8>();
    let are_zero = |words: &[[u8; 16]]| words.iter().fold(0, |all, word| all | u128::from_ne_bytes(*word)) == 0;
    groups.iter().all(|group| are_zero(group)) && are_zero(words) && rest.iter().all(|byte| *byte == 0)
}

fn be_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("a range of 2 bytes"))
}

pub(super) fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("a range of 4 bytes"))
}

pub(super) fn be_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("a range of 8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { segment: 3, offset: 8192 };
    const STAMP: Stamp = Stamp { incarnation: 7, batch: 41 };
    const PART: Part = Part { number: 3, first_record: Some(17) };

    fn sealed() -> Vec<u8> {
        let mut sector: Vec<u8> = (0..SECTOR_BYTES).map(|i| i as u8).collect();
        seal(&mut sector, PLACE, STAMP, PART);
        sector
    }

    #[test]
    fn a_sealed_sector_tells_its_write_and_its_part_of_it() {
        assert_eq!(inspect(&sealed(), PLACE), Sector::Valid(STAMP, PART));
        assert_eq!(inspect(&[0; SECTOR_BYTES], PLACE), Sector::Zero);
    }

    #[test]
    fn every_flipped_bit_is_seen_and_none_passes_for_a_write_that_stopped() {
        for bit in 0..SECTOR_BYTES * 8 {
            let mut sector = sealed();
            sector[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(inspect(&sector, PLACE), Sector::Invalid { .. }), "bit {bit}");
        }
    }

    #[test]
    fn every_prefix_is_known_for_a_write_that_stopped() {
        for length in 1..SECTOR_BYTES {
            let mut sector = sealed();
            sector[0] = 1; // a first byte of zero would make the prefix of one byte an unwritten sector
            seal(&mut sector, PLACE, STAMP, PART);
            sector[length..].fill(0);
            assert_eq!(inspect(&sector, PLACE), Sector::HalfWritten, "{length} bytes");
        }
    }

    #[test]
    fn a_sector_at_another_place_or_in_another_segment_is_invalid() {
        let elsewhere = Sector::Invalid { claims: Some(STAMP) };
        assert_eq!(inspect(&sealed(), Place { offset: 8704, ..PLACE }), elsewhere);
        assert_eq!(inspect(&sealed(), Place { segment: 4, ..PLACE }), elsewhere);
    }
}
