//! From the bytes of a batch back to its records, also where some of the bytes are lost. Pure.
//!
//! A record is believed if its header and its data lie in sound sectors and pass their checksums. Behind one whose
//! header is lost it is not known where the next one begins; the next sound sector in which a record begins says it.
//! What merely looks like a record inside another's data is never taken for one.

use bytes::Bytes;

use super::record::{BATCH_HEADER_BYTES, RECORD_HEADER_BYTES, RecordHeader, RecordKind, RecordRef, Run};
use super::sector::{SECTOR_BYTES, SECTOR_PAYLOAD_BYTES};
use crate::base::{Entry, LogIndex};

/// A batch's payload, as far as its sectors are sound.
pub(super) struct Payload {
    bytes: Bytes,
    sectors: Vec<SectorState>,
}

/// What is known of one sector of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectorState {
    Sound { first_record: Option<u16> },
    Lost,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Salvaged {
    Sound(Record),
    Lost(Lost),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Where it begins in the payload.
    pub at: usize,
    pub index: LogIndex,
    pub kind: RecordKind,
    pub data: Bytes,
}

/// A record whose content is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub index: LogIndex,
    /// Of an entry, where it is sound: what its content must be.
    pub header: Option<RecordHeader>,
    /// It was lost before, and dead, and a void was put in its place.
    pub is_void: bool,
}

impl Lost {
    fn unknown(index: LogIndex) -> Lost {
        Lost { index, header: None, is_void: false }
    }

    pub fn void(index: LogIndex) -> Lost {
        Lost { is_void: true, ..Lost::unknown(index) }
    }
}

impl Record {
    /// `None` of a void.
    pub fn entry(self, run: &Run) -> Option<Entry> {
        match self.kind {
            RecordKind::Entry(kind) => Some(Entry { index: self.index, term: run.term, kind, data: self.data }),
            RecordKind::Void => None,
        }
    }

    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef { index: self.index, kind: self.kind, data: &self.data }
    }
}

impl Payload {
    /// `sectors` are those that the payload takes, whole; `states` has one for each. What is behind the payload's end
    /// in the last one is dropped.
    pub fn gather(sectors: &[u8], states: Vec<SectorState>, length: usize) -> Payload {
        let mut bytes = Vec::with_capacity(states.len() * SECTOR_PAYLOAD_BYTES);
        for sector in sectors.chunks_exact(SECTOR_BYTES) {
            bytes.extend_from_slice(&sector[..SECTOR_PAYLOAD_BYTES]);
        }
        bytes.truncate(length);
        Payload { bytes: bytes.into(), sectors: states }
    }

    /// Whether these bytes exist and lie in sound sectors.
    fn is_sound(&self, start: usize, length: usize) -> bool {
        let Some(end) = start.checked_add(length).filter(|end| *end <= self.bytes.len()) else { return false };
        let sectors = start / SECTOR_PAYLOAD_BYTES..end.div_ceil(SECTOR_PAYLOAD_BYTES);
        self.sectors[sectors].iter().all(|state| *state != SectorState::Lost)
    }

    /// One for each record of the batch, in order. A void is lost: whether the batch that replaced it still stands is
    /// not known here.
    pub fn salvage(&self, run: &Run) -> Vec<Salvaged> {
        let mut salvaged = Vec::with_capacity(run.records);
        let mut at = BATCH_HEADER_BYTES;
        while salvaged.len() < run.records {
            let next = LogIndex(run.first.0 + salvaged.len() as u64);
            let here = self.header_at(at, run).filter(|header| header.index == next);
            let found = here.map(|header| (at, header)).or_else(|| self.find_behind(at, next, run));
            let Some((start, header)) = found else {
                let lost = (next.0..=run.last().0).map(LogIndex);
                salvaged.extend(lost.map(|index| Salvaged::Lost(Lost::unknown(index))));
                break;
            };
            let skipped = (next.0..header.index.0).map(LogIndex);
            salvaged.extend(skipped.map(|index| Salvaged::Lost(Lost::unknown(index))));
            salvaged.push(self.judge(start, &header));
            at = start + RECORD_HEADER_BYTES + header.length;
        }
        salvaged
    }

    fn judge(&self, at: usize, header: &RecordHeader) -> Salvaged {
        let index = header.index;
        match self.record_at(at, header) {
            _ if header.kind == RecordKind::Void => Salvaged::Lost(Lost::void(index)),
            Some(record) => Salvaged::Sound(record),
            None => Salvaged::Lost(Lost { header: Some(*header), ..Lost::unknown(index) }),
        }
    }

    /// The first record from index `next` on that a sound sector says begins in it, behind `at`.
    fn find_behind(&self, at: usize, next: LogIndex, run: &Run) -> Option<(usize, RecordHeader)> {
        let starts = self.sectors.iter().enumerate().filter_map(|(i, state)| match state {
            SectorState::Sound { first_record: Some(first) } => Some(i * SECTOR_PAYLOAD_BYTES + usize::from(*first)),
            _ => None,
        });
        let mut behind = starts.filter(|start| *start > at);
        behind.find_map(|start| Some((start, self.header_at(start, run).filter(|header| header.index >= next)?)))
    }

    fn header_at(&self, at: usize, run: &Run) -> Option<RecordHeader> {
        if !self.is_sound(at, RECORD_HEADER_BYTES) {
            return None;
        }
        RecordHeader::decode(&self.bytes[at..at + RECORD_HEADER_BYTES], run)
    }

    fn record_at(&self, at: usize, header: &RecordHeader) -> Option<Record> {
        let is_sound = self.is_sound(at + RECORD_HEADER_BYTES, header.length);
        if is_sound { record_at(&self.bytes, at, header) } else { None }
    }
}

/// Every record of a payload whose sectors are all sound, if the records are sound too and fill it exactly. Their data
/// share it.
pub(super) fn whole(payload: &Bytes, run: &Run) -> Option<Vec<Record>> {
    let mut at = BATCH_HEADER_BYTES;
    let mut records = Vec::with_capacity(run.records);
    for index in (run.first.0..).take(run.records).map(LogIndex) {
        let header = payload.get(at..at + RECORD_HEADER_BYTES)?;
        let header = RecordHeader::decode(header, run).filter(|header| header.index == index)?;
        records.push(record_at(payload, at, &header)?);
        at += RECORD_HEADER_BYTES + header.length;
    }
    (at == run.length).then_some(records)
}

/// The record at `at`, if the payload has all of it and its data pass their checksum.
fn record_at(payload: &Bytes, at: usize, header: &RecordHeader) -> Option<Record> {
    let start = at + RECORD_HEADER_BYTES;
    let data = payload.get(start..start.checked_add(header.length)?)?;
    let sound = crc32fast::hash(data) == header.checksum;
    sound.then(|| Record { at, index: header.index, kind: header.kind, data: payload.slice_ref(data) })
}

#[cfg(test)]
mod tests {
    use super::super::record::{BatchEncoder, BatchHeader, sectors_of};
    use super::super::sector::{Place, Sector, Stamp, inspect};
    use super::*;
    use crate::base::{EntryKind, Term};

    const PLACE: Place = Place { segment: 1, offset: 4096 };
    const STAMP: Stamp = Stamp { incarnation: 1, batch: 1 };

    fn entry(index: u64, bytes: usize) -> Entry {
        let data = (0..bytes).map(|i| (i as u64 * 31 + index) as u8).collect();
        Entry { index: LogIndex(index), term: Term(2), kind: EntryKind::Commands, data }
    }

    fn encode(entries: &[Entry]) -> (Run, Vec<u8>) {
        let run = Run::of(&entries.iter().collect::<Vec<_>>());
        let header = BatchHeader { run, previous: None };
        let blocks =
            BatchEncoder::default().encode(&header, entries.iter().map(RecordRef::from), PLACE, STAMP).to_vec();
        (run, blocks[..sectors_of(run.length) * SECTOR_BYTES].to_vec())
    }

    fn payload(run: &Run, sectors: &[u8]) -> Payload {
        let states = sectors.chunks_exact(SECTOR_BYTES).enumerate().map(|(i, sector)| {
            let place = Place { offset: PLACE.offset + (i * SECTOR_BYTES) as u64, ..PLACE };
            match inspect(sector, place) {
                Sector::Valid(_, part) => SectorState::Sound { first_record: part.first_record },
                _ => SectorState::Lost,
            }
        });
        Payload::gather(sectors, states.collect(), run.length)
    }

    /// Whether it is `entry`, at its place among `entries`.
    fn is_sound(salvaged: &Salvaged, entries: &[Entry], i: usize) -> bool {
        let before: usize = entries[..i].iter().map(|entry| RECORD_HEADER_BYTES + entry.data.len()).sum();
        let Entry { index, kind, data, .. } = entries[i].clone();
        *salvaged
            == Salvaged::Sound(Record { at: BATCH_HEADER_BYTES + before, index, kind: RecordKind::Entry(kind), data })
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let entries = [entry(1, 0), entry(2, 1), entry(3, 5000)];
        let (run, sectors) = encode(&entries);
        let records = whole(&payload(&run, &sectors).bytes, &run).unwrap();
        let decoded: Vec<_> = records.into_iter().map(|record| record.entry(&run).unwrap()).collect();
        assert_eq!(decoded, entries);
        let salvaged = payload(&run, &sectors).salvage(&run);
        assert!((0..3).all(|i| is_sound(&salvaged[i], &entries, i)));
    }

    #[test]
    fn of_a_batch_with_any_lost_sectors_the_rest_is_found_and_nothing_else() {
        let lengths = [0, 3, 700, 40, 900, 9, 480, 0, 600];
        let entries: Vec<Entry> = (5..).zip(lengths).map(|(index, bytes)| entry(index, bytes)).collect();
        let (run, sectors) = encode(&entries);
        let count = sectors.len() / SECTOR_BYTES;
        let mut places = Vec::new();
        let mut at = BATCH_HEADER_BYTES;
        for bytes in lengths {
            places.push((at, at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + bytes));
            at += RECORD_HEADER_BYTES + bytes;
        }
        for lost in 0..1_u32 << count {
            let mut sectors = sectors.clone();
            for sector in (0..count).filter(|sector| lost & (1 << sector) != 0) {
                sectors[sector * SECTOR_BYTES + 7] ^= 1;
            }
            let touches = |from: usize, to: usize| {
                (from / SECTOR_PAYLOAD_BYTES..to.div_ceil(SECTOR_PAYLOAD_BYTES)).any(|i| lost & (1 << i) != 0)
            };
            for (i, salvaged) in payload(&run, &sectors).salvage(&run).into_iter().enumerate() {
                let (start, data, end) = places[i];
                match salvaged {
                    Salvaged::Sound(_) => {
                        assert!(is_sound(&salvaged, &entries, i), "lost {lost:b}, record {i}");
                        assert!(!touches(start, end), "lost {lost:b}, record {i}");
                    }
                    Salvaged::Lost(lost_record) => {
                        assert_eq!(lost_record.index, entries[i].index);
                        let first = data - RECORD_HEADER_BYTES;
                        let reached = i == 0 || !touches(places[i - 1].0, first);
                        assert!(touches(start, end) || !reached, "lost {lost:b}, record {i}");
                        if let Some(header) = lost_record.header {
                            assert_eq!(header.checksum, crc32fast::hash(&entries[i].data));
                        }
                    }
                }
            }
        }
    }

    /// A client can put into a value what looks like a record of this very batch.
    #[test]
    fn what_looks_like_a_record_inside_a_value_is_never_taken_for_one() {
        let forged = encode(&[entry(1, 30)]);
        let forged = &forged.1[BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + 30];
        let real = Entry { data: [&[0; 900], forged].concat().into(), ..entry(1, 0) };
        let entries = [real, entry(2, 9)];
        let (run, mut sectors) = encode(&entries);
        sectors[60] ^= 1;
        let salvaged = payload(&run, &sectors).salvage(&run);
        assert!(matches!(salvaged[0], Salvaged::Lost(_)), "a forged record was believed");
        assert!(is_sound(&salvaged[1], &entries, 1));
    }

    #[test]
    fn every_flipped_bit_of_a_record_in_sound_sectors_is_found_and_keeps_its_neighbours() {
        let entries = [entry(1, 20), entry(2, 9), entry(3, 5)];
        let (run, sectors) = encode(&entries);
        for bit in BATCH_HEADER_BYTES * 8..run.length * 8 {
            let mut flipped = sectors.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let all = vec![SectorState::Sound { first_record: Some(BATCH_HEADER_BYTES as u16) }];
            let payload = Payload::gather(&flipped, all, run.length);
            assert_eq!(whole(&payload.bytes, &run), None, "bit {bit}");
            let salvaged = payload.salvage(&run);
            for (i, salvaged) in salvaged.iter().enumerate() {
                assert!(is_sound(salvaged, &entries, i) || matches!(salvaged, Salvaged::Lost(_)), "bit {bit}");
            }
            assert!(salvaged.iter().any(|salvaged| matches!(salvaged, Salvaged::Lost(_))), "bit {bit}");
        }
    }
}
