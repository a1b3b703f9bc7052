//! Edits of a data directory, as bytes: any bytes are a program, and a changed byte is another one.
//!
//! ```text
//! an edit:  | kind u8 | file u8 | place u16 | length u8 | value u8 | from u16 |      big-endian
//! ```
//!
//! | kind modulo 8 | does, from `place` on (modulo the file's length) |
//! |---|---|
//! | 0 | flips the bits of `value` in a byte |
//! | 1 | fills `length` bytes with `value` |
//! | 2 | fills one to eight sectors with `value`, or with zeros if that is even |
//! | 3, 4 | copies one to eight sectors from `from`: of the same file, of the file `value` |
//! | 5, 6 | writes a number of 4 or 8 bytes: from the ends of its range, or `from` itself |
//! | 7 | cuts the file at `place`, lengthens it, removes it, or gives it another's content |
//!
//! [`seal`] then puts right the checksums of what was changed, as who knows the format could. It is the format of
//! `src/disk`, written down again.

use std::collections::{BTreeMap, BTreeSet};

pub const EDIT_BYTES: usize = 8;
/// By name, relative to the directory.
pub type Files = BTreeMap<String, Vec<u8>>;
/// By file and number.
pub type Sectors = BTreeSet<(String, usize)>;

const SECTOR_BYTES: usize = 512;
const SEGMENT_HEADER_BYTES: usize = 4096;
/// Edits beyond so many add nothing but time.
const EDITS_MAX: usize = 16;
/// A file never grows beyond this.
const FILE_BYTES_MAX: usize = 128 * 1024;

/// Does what `program` says. The answer is what was changed in place.
pub fn apply(files: &mut Files, program: &[u8]) -> Sectors {
    let mut names: Vec<String> = files.keys().cloned().collect();
    names.push("suspect".into());
    let mut touched = Sectors::new();
    for edit in program.as_chunks::<EDIT_BYTES>().0.iter().take(EDITS_MAX) {
        let name = &names[usize::from(edit[1]) % names.len()];
        let other = files.get(&names[usize::from(edit[5]) % names.len()]).cloned().unwrap_or_default();
        let file = files.entry(name.clone()).or_default();
        if edit[0] % 8 == 7 {
            if !reshape(file, edit, other) {
                files.remove(name);
            }
            continue;
        }
        let at = usize::from(u16::from_be_bytes([edit[2], edit[3]])) % file.len().max(1);
        let (at, bytes) = replacement(file, edit, at, &other);
        let end = file.len().min(at + bytes.len());
        if at < end {
            file[at..end].copy_from_slice(&bytes[..end - at]);
            touched.extend((at / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES).map(|sector| (name.clone(), sector)));
        }
    }
    touched
}

/// What stands from where on after an edit in place.
fn replacement(file: &[u8], edit: &[u8; EDIT_BYTES], at: usize, other: &[u8]) -> (usize, Vec<u8>) {
    let (length, value) = (usize::from(edit[4]), edit[5]);
    let sector = at / SECTOR_BYTES * SECTOR_BYTES;
    let sectors = (1 + length % 8) * SECTOR_BYTES;
    let copied = |of: &[u8]| {
        let from = usize::from(u16::from_be_bytes([edit[6], edit[7]])) % of.len().max(1) / SECTOR_BYTES * SECTOR_BYTES;
        of[from..of.len().min(from + sectors)].to_vec()
    };
    let number = u64::from(u16::from_be_bytes([edit[6], edit[7]]));
    let numbers = [0, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX, number & 0xff, number, number << 8];
    let number = numbers[length % numbers.len()];
    match edit[0] % 8 {
        0 => (at, vec![file.get(at).copied().unwrap_or_default() ^ value.max(1)]),
        1 => (at, vec![value; length]),
        2 => (sector, vec![if value.is_multiple_of(2) { 0 } else { value }; sectors]),
        3 => (sector, copied(file)),
        4 => (sector, copied(other)),
        5 => (at, (number as u32).to_be_bytes().to_vec()),
        _ => (at, number.to_be_bytes().to_vec()),
    }
}

/// False: the file is to go.
fn reshape(file: &mut Vec<u8>, edit: &[u8; EDIT_BYTES], other: Vec<u8>) -> bool {
    let place = usize::from(u16::from_be_bytes([edit[2], edit[3]]));
    match edit[4] % 8 {
        0 | 1 => file.truncate(place),
        2 => file.truncate(place / SEGMENT_HEADER_BYTES * SEGMENT_HEADER_BYTES),
        3 => file.resize(FILE_BYTES_MAX.min(file.len() + place), edit[5]),
        4 => file.resize(FILE_BYTES_MAX.min(file.len() + SEGMENT_HEADER_BYTES), 0),
        5 => *file = other,
        6 => file.clear(),
        _ => return false,
    }
    true
}

/// Puts right the checksums in `touched`.
pub fn seal(files: &mut Files, touched: &Sectors) {
    for (name, number) in touched {
        let Some(file) = files.get_mut(name) else { continue };
        let at = number * SECTOR_BYTES;
        let Some(sector) = file.get_mut(at..at + SECTOR_BYTES) else { continue };
        match sequence_of(name) {
            Some(_) if at == 0 => put_checksum(sector, 28),
            Some(sequence) if at >= SEGMENT_HEADER_BYTES => seal_sector(sector, sequence, at as u64),
            None if name == "term" => put_checksum(sector, SECTOR_BYTES - 4),
            _ => {}
        }
    }
}

fn sequence_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("wal/")?.strip_suffix(".seg")?, 16).ok()
}

/// The checksum at `at` is that of all before it.
fn put_checksum(bytes: &mut [u8], at: usize) {
    let checksum = crc32fast::hash(&bytes[..at]);
    bytes[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
}

/// Of a batch: its header, its records as far as they lie in this sector, and the sector.
fn seal_sector(sector: &mut [u8], sequence: u64, offset: u64) {
    const PAYLOAD_BYTES: usize = 492;
    const RECORD_HEADER_BYTES: usize = 32;
    if sector.iter().all(|byte| *byte == 0) {
        return;
    }
    if sector[PAYLOAD_BYTES..PAYLOAD_BYTES + 2] == [0, 0] {
        put_checksum(sector, 52);
    }
    let first_record = u16::from_be_bytes([sector[PAYLOAD_BYTES + 2], sector[PAYLOAD_BYTES + 3]]);
    let mut at = usize::from(first_record);
    while at + RECORD_HEADER_BYTES <= PAYLOAD_BYTES {
        let length = u32::from_be_bytes([sector[at + 4], sector[at + 5], sector[at + 6], sector[at + 7]]) as usize;
        let data = at + RECORD_HEADER_BYTES;
        if length <= PAYLOAD_BYTES - data {
            let checksum = crc32fast::hash(&sector[data..data + length]);
            sector[at + 24..at + 28].copy_from_slice(&checksum.to_be_bytes());
        }
        put_checksum(&mut sector[at..data], 28);
        at = data.saturating_add(length);
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_be_bytes());
    hasher.update(&offset.to_be_bytes());
    hasher.update(&sector[..500]);
    hasher.update(&sector[504..]);
    sector[500..504].copy_from_slice(&hasher.finalize().to_be_bytes());
}
