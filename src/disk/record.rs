//! Batches and records: how entries become the bytes of a segment, and back. Pure.
//!
//! A batch is what one write and one fsync make durable. Its payload is spread over stamped sectors (see `sector`),
//! 496 bytes in each; it starts on a fresh 4 KiB block, and the sectors of its last block behind its end stay zero.
//!
//! ```text
//! payload of a batch, big-endian:
//!   | length u32 | records u32 | crc32 of these 8 bytes u32 | record | record | ...
//!     of the whole payload, these 12 bytes included
//!
//! record:
//!   0        1          4        8       16      24            28           32
//!   | kind u8 | zero u24 | length u32 | index u64 | term u64 | payload crc | header crc | data ...
//! ```
//!
//! A record's header has its own checksum, so that a record with a bad payload keeps its identity (index, term and
//! checksum), by which it can one day be fetched from a peer.

use bytes::Bytes;

use super::sector::{BLOCK_BYTES, Place, SECTOR_BYTES, SECTOR_PAYLOAD_BYTES, Stamp, be_u32, be_u64, seal};
use crate::base::limits::{ENTRY_DATA_BYTES_MAX, WAL_BATCH_BYTES_MAX};
use crate::base::{Entry, EntryKind, LogIndex, Term};

pub(super) const BATCH_HEADER_BYTES: usize = 12;
pub(super) const RECORD_HEADER_BYTES: usize = 32;

/// What an entry takes in a batch's payload.
pub(super) fn record_bytes(entry: &Entry) -> usize {
    RECORD_HEADER_BYTES + entry.data.len()
}

/// Sectors that a payload takes.
pub(super) fn sectors_of(payload_bytes: usize) -> usize {
    payload_bytes.div_ceil(SECTOR_PAYLOAD_BYTES)
}

/// Bytes of the segment that a payload takes: whole blocks.
pub(super) fn extent_of(payload_bytes: usize) -> u64 {
    ((sectors_of(payload_bytes) * SECTOR_BYTES) as u64).next_multiple_of(BLOCK_BYTES)
}

/// How far a batch can reach from its start: beyond it a torn write left nothing.
pub(super) fn extent_max() -> u64 {
    extent_of(WAL_BATCH_BYTES_MAX)
}

/// The largest payload whose extent fits `bytes` of a segment.
pub(super) fn payload_fitting(bytes: u64) -> usize {
    let sectors = usize::try_from(bytes / BLOCK_BYTES * BLOCK_BYTES).unwrap_or(usize::MAX) / SECTOR_BYTES;
    sectors.saturating_mul(SECTOR_PAYLOAD_BYTES).min(WAL_BATCH_BYTES_MAX)
}

/// Turns entries into the blocks of one batch. Its buffers are kept from batch to batch.
#[derive(Default)]
pub(super) struct BatchEncoder {
    payload: Vec<u8>,
    blocks: Vec<u8>,
}

impl BatchEncoder {
    /// Whole blocks, ready to be written at `place`. The entries' records must fit a batch.
    pub fn encode(&mut self, entries: &[&Entry], place: Place, stamp: Stamp) -> &[u8] {
        self.put_payload(entries);
        let extent = usize::try_from(extent_of(self.payload.len())).expect("a batch is bounded");
        self.blocks.clear();
        self.blocks.resize(extent, 0);
        let sectors = self.blocks.chunks_exact_mut(SECTOR_BYTES);
        for (i, (sector, part)) in sectors.zip(self.payload.chunks(SECTOR_PAYLOAD_BYTES)).enumerate() {
            sector[..part.len()].copy_from_slice(part);
            seal(sector, Place { offset: place.offset + (i * SECTOR_BYTES) as u64, ..place }, stamp);
        }
        &self.blocks
    }

    fn put_payload(&mut self, entries: &[&Entry]) {
        let length = BATCH_HEADER_BYTES + entries.iter().map(|entry| record_bytes(entry)).sum::<usize>();
        assert!(length <= WAL_BATCH_BYTES_MAX, "a batch of {length} bytes passes its limit of {WAL_BATCH_BYTES_MAX}");
        self.payload.clear();
        self.payload.extend_from_slice(&(length as u32).to_be_bytes());
        self.payload.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        let checksum = crc32fast::hash(&self.payload);
        self.payload.extend_from_slice(&checksum.to_be_bytes());
        for entry in entries {
            put_record(&mut self.payload, entry);
        }
    }
}

fn put_record(out: &mut Vec<u8>, entry: &Entry) {
    let start = out.len();
    out.extend_from_slice(&[entry.kind as u8, 0, 0, 0]);
    out.extend_from_slice(&(entry.data.len() as u32).to_be_bytes());
    out.extend_from_slice(&entry.index.0.to_be_bytes());
    out.extend_from_slice(&entry.term.0.to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&entry.data).to_be_bytes());
    let checksum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&checksum.to_be_bytes());
    out.extend_from_slice(&entry.data);
}

/// What a batch's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Of the whole payload; within the limit.
    pub length: usize,
    pub records: usize,
}

impl BatchHeader {
    /// From the start of the payload. What it says is checked against the limits: it decides an allocation.
    pub fn decode(payload: &[u8]) -> Result<BatchHeader, String> {
        if be_u32(payload, 8) != crc32fast::hash(&payload[..8]) {
            return Err("the batch's header fails its checksum".into());
        }
        let (length, records) = (be_u32(payload, 0) as usize, be_u32(payload, 4) as usize);
        if length > WAL_BATCH_BYTES_MAX {
            return Err(format!("the batch says it has {length} bytes, and {WAL_BATCH_BYTES_MAX} is the limit"));
        }
        if records == 0 || records > length.saturating_sub(BATCH_HEADER_BYTES) / RECORD_HEADER_BYTES {
            return Err(format!("the batch says it has {records} records in {length} bytes"));
        }
        Ok(BatchHeader { length, records })
    }
}

/// A record that can't be believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadRecord {
    /// Where its header is sound.
    pub index: Option<LogIndex>,
    pub what: String,
}

impl BadRecord {
    fn new(index: Option<LogIndex>, what: impl Into<String>) -> BadRecord {
        BadRecord { index, what: what.into() }
    }
}

/// The entries of a batch whose sectors are sound. Their data share `payload`.
pub(super) fn decode_records(payload: &Bytes, header: BatchHeader) -> Result<Vec<Entry>, BadRecord> {
    let mut entries = Vec::with_capacity(header.records);
    let mut at = BATCH_HEADER_BYTES;
    for _ in 0..header.records {
        let entry = decode_record(payload, at)?;
        at += record_bytes(&entry);
        entries.push(entry);
    }
    if at != payload.len() {
        return Err(BadRecord::new(None, format!("{} bytes lie behind the batch's last record", payload.len() - at)));
    }
    Ok(entries)
}

fn decode_record(payload: &Bytes, at: usize) -> Result<Entry, BadRecord> {
    let Some(header) = payload.get(at..at + RECORD_HEADER_BYTES) else {
        return Err(BadRecord::new(None, "the batch ends inside a record's header"));
    };
    if be_u32(header, 28) != crc32fast::hash(&header[..28]) {
        return Err(BadRecord::new(None, "a record's header fails its checksum"));
    }
    let index = LogIndex(be_u64(header, 8));
    let bad = |what: String| BadRecord::new(Some(index), what);
    let number = be_u32(header, 0);
    // The kind fills the first of four bytes; the others are zero.
    let kind = (number & 0x00ff_ffff == 0).then(|| EntryKind::from_number(number >> 24)).flatten();
    let kind = kind.ok_or_else(|| bad(format!("the entry is of an unknown kind ({number:#010x})")))?;
    let length = be_u32(header, 4) as usize;
    if length > ENTRY_DATA_BYTES_MAX {
        return Err(bad(format!("the entry says it has {length} bytes, and {ENTRY_DATA_BYTES_MAX} is the limit")));
    }
    let start = at + RECORD_HEADER_BYTES;
    if payload.len() - start < length {
        return Err(bad(format!("the batch ends inside the entry's {length} bytes")));
    }
    let data = payload.slice(start..start + length);
    if be_u32(header, 24) != crc32fast::hash(&data) {
        return Err(bad("the entry's data fail their checksum".into()));
    }
    Ok(Entry { index, term: Term(be_u64(header, 16)), kind, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, bytes: usize) -> Entry {
        let data = (0..bytes).map(|i| (i as u64 * 31 + index) as u8).collect();
        Entry { index: LogIndex(index), term: Term(2), kind: EntryKind::Commands, data }
    }

    fn payload(entries: &[&Entry]) -> (Bytes, BatchHeader) {
        let mut encoder = BatchEncoder::default();
        encoder.put_payload(entries);
        let payload = Bytes::from(encoder.payload);
        let header = BatchHeader::decode(&payload).unwrap();
        (payload, header)
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let entries = [entry(1, 0), entry(2, 1), entry(3, 5000)];
        let (payload, header) = payload(&entries.iter().collect::<Vec<_>>());
        assert_eq!(decode_records(&payload, header).unwrap(), entries);
    }

    #[test]
    fn every_flipped_bit_of_a_payload_is_found_and_a_bad_payload_keeps_its_identity() {
        let (first, second) = (entry(1, 20), entry(2, 9));
        let (payload, header) = payload(&[&first, &second]);
        for bit in 0..payload.len() * 8 {
            let mut flipped = payload.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if bit / 8 < BATCH_HEADER_BYTES {
                assert!(BatchHeader::decode(&flipped).is_err(), "bit {bit}");
                continue;
            }
            let bad = decode_records(&flipped.into(), header).unwrap_err();
            let in_first_data = BATCH_HEADER_BYTES + RECORD_HEADER_BYTES..BATCH_HEADER_BYTES + record_bytes(&first);
            if in_first_data.contains(&(bit / 8)) {
                assert_eq!(bad.index, Some(LogIndex(1)), "bit {bit}");
            }
        }
    }

    #[test]
    fn lengths_past_a_limit_are_refused_before_they_are_believed() {
        for (length, records) in
            [(u32::MAX, 1_u32), (WAL_BATCH_BYTES_MAX as u32 + 1, 1), (44, 0), (44, 2), (0, 1), (12, 1)]
        {
            let mut header = [length.to_be_bytes(), records.to_be_bytes()].concat();
            let checksum = crc32fast::hash(&header);
            header.extend_from_slice(&checksum.to_be_bytes());
            assert!(BatchHeader::decode(&header).is_err(), "{length} bytes, {records} records");
        }
    }

    #[test]
    fn the_payload_that_fits_some_bytes_takes_no_more_than_them() {
        for blocks in 1..20 {
            let payload = payload_fitting(blocks * BLOCK_BYTES + 17);
            assert_eq!(extent_of(payload), blocks * BLOCK_BYTES);
            assert_eq!(extent_of(payload + 1), (blocks + 1) * BLOCK_BYTES);
        }
        assert_eq!(payload_fitting(u64::MAX), WAL_BATCH_BYTES_MAX);
    }
}
