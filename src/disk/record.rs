//! Batches and records: how entries become the bytes of a segment. Pure. The way back is in `salvage`.
//!
//! A batch is what one write and one fsync make durable. It holds one *run*: consecutive indexes of one term. Its
//! payload is spread over stamped sectors (see `sector`), 492 bytes in each; it starts on a fresh 4 KiB block, and the
//! sectors of its last block behind its end stay zero.
//!
//! ```text
//! payload of a batch, big-endian:
//!   | header (56) | record | record | ...
//!
//! header, in the batch's first sector:
//!   0            4             8                 16         24                                       52          56
//!   | length u32 | records u32 | first index u64 | term u64 | the batch before: the same 24 bytes,   | crc32 u32 |
//!     of the whole payload,                                   its incarnation u32; zeros if none       of all before
//!     this header included
//!
//! record:
//!   0        1          4        8       16      24            28           32
//!   | kind u8 | zero u24 | length u32 | index u64 | term u64 | payload crc | header crc | data ...
//! ```
//!
//! A batch says what the one before it held: of a damaged batch with a sound successor it is known which entries were
//! in it, where it ends, and which start of the process wrote it, whatever is left of it.
//!
//! A record's header has its own checksum, so that a record with a bad payload keeps its identity (index, term and
//! checksum), by which it is fetched from a peer.
//!
//! A record of kind *void* is never an entry. It stands for one whose content was lost, and that a later batch had
//! replaced by then: nobody has to have the content any more. Its data are zeros.

use super::sector::{BLOCK_BYTES, Part, Place, SECTOR_BYTES, SECTOR_PAYLOAD_BYTES, Stamp, be_u32, be_u64, seal};
use crate::base::limits::{ENTRY_DATA_BYTES_MAX, WAL_BATCH_BYTES_MAX};
use crate::base::{Entry, EntryKind, LogIndex, Term};

pub(super) const BATCH_HEADER_BYTES: usize = 56;
pub(super) const RECORD_HEADER_BYTES: usize = 32;

const RUN_BYTES: usize = 24;
const HEADER_CHECKSUM: usize = BATCH_HEADER_BYTES - 4;
const VOID: u8 = 0xff;

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

// ---- what a batch holds ------------------------------------------------------------------------------------

/// What a batch holds: entries with consecutive indexes and one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub first: LogIndex,
    pub term: Term,
    /// At least one.
    pub records: usize,
    /// Of the whole payload; within the limit.
    pub length: usize,
}

impl Run {
    /// The run that `entries` make; there is at least one, and they are consecutive and of one term.
    pub fn of(entries: &[&Entry]) -> Run {
        let length = BATCH_HEADER_BYTES + entries.iter().map(|entry| record_bytes(entry)).sum::<usize>();
        Run { first: entries[0].index, term: entries[0].term, records: entries.len(), length }
    }

    pub fn last(&self) -> LogIndex {
        LogIndex(self.first.0 + self.records as u64 - 1)
    }

    pub fn extent(&self) -> u64 {
        extent_of(self.length)
    }

    pub fn contains(&self, index: LogIndex) -> bool {
        (self.first..=self.last()).contains(&index)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.length as u32).to_be_bytes());
        out.extend_from_slice(&(self.records as u32).to_be_bytes());
        out.extend_from_slice(&self.first.0.to_be_bytes());
        out.extend_from_slice(&self.term.0.to_be_bytes());
    }

    /// What it says is checked against the limits: it decides an allocation.
    fn decode(bytes: &[u8]) -> Result<Run, String> {
        let (length, records) = (be_u32(bytes, 0) as usize, be_u32(bytes, 4) as usize);
        let (first, term) = (LogIndex(be_u64(bytes, 8)), Term(be_u64(bytes, 16)));
        if length > WAL_BATCH_BYTES_MAX {
            return Err(format!("the batch says it has {length} bytes, and {WAL_BATCH_BYTES_MAX} is the limit"));
        }
        if records == 0 || records > length.saturating_sub(BATCH_HEADER_BYTES) / RECORD_HEADER_BYTES {
            return Err(format!("the batch says it has {records} records in {length} bytes"));
        }
        if first == LogIndex::ZERO || term == Term::ZERO || first.0.checked_add(records as u64).is_none() {
            return Err(format!("the batch says it begins with entry {first} of term {term}"));
        }
        Ok(Run { first, term, records, length })
    }
}

/// A batch as its successor remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub run: Run,
    pub incarnation: u32,
}

/// What a batch's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub run: Run,
    /// `None` in the very first batch.
    pub previous: Option<Written>,
}

impl BatchHeader {
    pub fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.run.put(out);
        match &self.previous {
            Some(previous) => {
                previous.run.put(out);
                out.extend_from_slice(&previous.incarnation.to_be_bytes());
            }
            None => out.resize(start + HEADER_CHECKSUM, 0),
        }
        let checksum = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&checksum.to_be_bytes());
    }

    /// From the start of the payload.
    pub fn decode(payload: &[u8]) -> Result<BatchHeader, String> {
        if be_u32(payload, HEADER_CHECKSUM) != crc32fast::hash(&payload[..HEADER_CHECKSUM]) {
            return Err("the batch's header fails its checksum".into());
        }
        let run = Run::decode(payload)?;
        let previous = &payload[RUN_BYTES..HEADER_CHECKSUM];
        if previous.iter().all(|byte| *byte == 0) {
            return Ok(BatchHeader { run, previous: None });
        }
        let incarnation = be_u32(previous, RUN_BYTES);
        if incarnation == 0 {
            return Err("the batch says that the one before it was written by no start of the process".into());
        }
        Ok(BatchHeader { run, previous: Some(Written { run: Run::decode(previous)?, incarnation }) })
    }
}

// ---- records -----------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Entry(EntryKind),
    Void,
}

impl RecordKind {
    fn number(self) -> u8 {
        match self {
            RecordKind::Entry(kind) => kind as u8,
            RecordKind::Void => VOID,
        }
    }

    fn from_number(number: u8) -> Option<RecordKind> {
        if number == VOID {
            Some(RecordKind::Void)
        } else {
            EntryKind::from_number(number.into()).map(RecordKind::Entry)
        }
    }

    /// A void fills what the lost records left, however many of them it stands for.
    fn bytes_max(self) -> usize {
        if self == RecordKind::Void { WAL_BATCH_BYTES_MAX } else { ENTRY_DATA_BYTES_MAX }
    }
}

/// A record's header: what its data must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub index: LogIndex,
    pub kind: RecordKind,
    /// Of the data.
    pub length: usize,
    /// Of the data.
    pub checksum: u32,
}

impl RecordHeader {
    /// `None` if it is not sound, or can't be of a batch that holds `run`.
    pub fn decode(bytes: &[u8], run: &Run) -> Option<RecordHeader> {
        if be_u32(bytes, 28) != crc32fast::hash(&bytes[..28]) || bytes[1..4] != [0; 3] {
            return None;
        }
        let kind = RecordKind::from_number(bytes[0])?;
        let (length, index) = (be_u32(bytes, 4) as usize, LogIndex(be_u64(bytes, 8)));
        let belongs = run.contains(index) && Term(be_u64(bytes, 16)) == run.term && length <= kind.bytes_max();
        belongs.then_some(RecordHeader { index, kind, length, checksum: be_u32(bytes, 24) })
    }
}

/// A record to be written; its term is the batch's.
#[derive(Clone, Copy)]
pub(super) struct RecordRef<'a> {
    pub index: LogIndex,
    pub kind: RecordKind,
    pub data: &'a [u8],
}

impl<'a> From<&'a Entry> for RecordRef<'a> {
    fn from(entry: &'a Entry) -> RecordRef<'a> {
        RecordRef { index: entry.index, kind: RecordKind::Entry(entry.kind), data: &entry.data }
    }
}

/// Turns records into the blocks of one batch. Its buffers are kept from batch to batch.
#[derive(Default)]
pub(super) struct BatchEncoder {
    payload: Vec<u8>,
    /// Where each record begins in the payload, ascending.
    starts: Vec<usize>,
    blocks: Vec<u8>,
}

impl BatchEncoder {
    /// Whole blocks, ready to be written at `place`.
    ///
    /// # Panics
    /// If the records are not what the header says, or pass the limit of a batch.
    pub fn encode<'a>(
        &mut self,
        header: &BatchHeader,
        records: impl Iterator<Item = RecordRef<'a>>,
        place: Place,
        stamp: Stamp,
    ) -> &[u8] {
        self.put_payload(header, records);
        let (length, limit) = (self.payload.len(), WAL_BATCH_BYTES_MAX);
        assert!(length <= limit, "a batch of {length} bytes passes its limit of {limit}");
        assert_eq!((length, self.starts.len()), (header.run.length, header.run.records), "{header:?}");
        self.blocks.clear();
        self.blocks.resize(usize::try_from(header.run.extent()).expect("a batch is bounded"), 0);
        let sectors = self.blocks.chunks_exact_mut(SECTOR_BYTES);
        let mut starts = self.starts.iter().copied().peekable();
        for (i, (sector, bytes)) in sectors.zip(self.payload.chunks(SECTOR_PAYLOAD_BYTES)).enumerate() {
            sector[..bytes.len()].copy_from_slice(bytes);
            let begin = i * SECTOR_PAYLOAD_BYTES;
            let end = begin + SECTOR_PAYLOAD_BYTES;
            let first_record = starts.peek().filter(|start| **start < end).map(|start| (start - begin) as u16);
            while starts.next_if(|start| *start < end).is_some() {}
            let place = Place { offset: place.offset + (i * SECTOR_BYTES) as u64, ..place };
            seal(sector, place, stamp, Part { number: i as u16, first_record });
        }
        &self.blocks
    }

    fn put_payload<'a>(&mut self, header: &BatchHeader, records: impl Iterator<Item = RecordRef<'a>>) {
        self.payload.clear();
        self.starts.clear();
        header.put(&mut self.payload);
        for record in records {
            self.starts.push(self.payload.len());
            put_record(&mut self.payload, &record, header.run.term);
        }
    }
}

fn put_record(out: &mut Vec<u8>, record: &RecordRef<'_>, term: Term) {
    let start = out.len();
    out.extend_from_slice(&[record.kind.number(), 0, 0, 0]);
    out.extend_from_slice(&(record.data.len() as u32).to_be_bytes());
    out.extend_from_slice(&record.index.0.to_be_bytes());
    out.extend_from_slice(&term.0.to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(record.data).to_be_bytes());
    let checksum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&checksum.to_be_bytes());
    out.extend_from_slice(record.data);
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Run = Run { first: LogIndex(7), term: Term(2), records: 3, length: 500 };

    fn encoded(header: &BatchHeader) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.put(&mut bytes);
        bytes
    }

    #[test]
    fn a_header_says_what_its_batch_and_the_one_before_hold() {
        let before =
            Written { run: Run { first: LogIndex(4), term: Term(1), records: 5, length: 216 }, incarnation: 3 };
        for previous in [None, Some(before)] {
            let header = BatchHeader { run: RUN, previous };
            let bytes = encoded(&header);
            assert_eq!(bytes.len(), BATCH_HEADER_BYTES);
            assert_eq!(BatchHeader::decode(&bytes), Ok(header));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(BatchHeader::decode(&flipped).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn lengths_past_a_limit_are_refused_before_they_are_believed() {
        let cases = [
            Run { length: u32::MAX as usize, ..RUN },
            Run { length: WAL_BATCH_BYTES_MAX + 1, ..RUN },
            Run { records: 0, ..RUN },
            Run { records: 2, length: 56 + 63, ..RUN },
            Run { records: 1, length: 0, ..RUN },
            Run { first: LogIndex(u64::MAX), ..RUN },
            Run { first: LogIndex::ZERO, ..RUN },
            Run { term: Term::ZERO, ..RUN },
        ];
        for run in cases {
            let own = BatchHeader { run, previous: None };
            let before = BatchHeader { run: RUN, previous: Some(Written { run, incarnation: 1 }) };
            for header in [own, before] {
                assert!(BatchHeader::decode(&encoded(&header)).is_err(), "{header:?}");
            }
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
