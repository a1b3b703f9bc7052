//! The suspect mark: the file `suspect`, there while a node can't vouch for all of its log.
//!
//! ```text
//! raftkv suspect
//! since: 7            (the start of the process that found the first damage)
//! end: certain        (or uncertain: the log may have gone on behind its last entry, also if it was cut there)
//! damage: wal/0000000000000001.seg 8192 4096      (file, byte, bytes; one line for each place)
//! more: no            (yes: there were more places than are written here)
//! checksum: 5d1e9a07  (crc32 of all before)
//! ```
//!
//! It is durable before anything is repaired or cut, and goes only on request, once consensus knows that nothing is
//! missing. In between any start finds it: a node that repaired half of what it lost and was restarted would otherwise
//! call itself sound. A mark that can't be read still is one, and says the worst.
//!
//! The places are for the operator, and for the next start: what was repaired there may be in the page cache alone.

use std::fmt::Write;
use std::io;

use super::disk::{Disk, read_small, replace_small};
use super::identity::{field, sealed};
use super::map::BatchPlace;
use super::segment::{SEGMENT_HEADER_BYTES, Segment, segment_name, unreadable};
use crate::base::limits::{MARK_PLACES_MAX, SUSPECT_BYTES_MAX};

const SUSPECT_FILE: &str = "suspect";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// An incarnation; 0 if it is not known.
    pub since: u32,
    pub end_uncertain: bool,
    /// In the order found.
    pub places: Vec<MarkedPlace>,
    /// There were more places, or which ones is not known.
    pub more: bool,
}

/// Where damage was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MarkedPlace {
    /// Relative to the data directory.
    pub file: String,
    pub offset: u64,
    pub bytes: u64,
}

impl MarkedPlace {
    pub fn of_header(segment: &Segment) -> MarkedPlace {
        MarkedPlace { file: segment.name(), offset: 0, bytes: SEGMENT_HEADER_BYTES }
    }

    /// From `offset` to the segment's end.
    pub fn of_rest(segment: &Segment, offset: u64) -> MarkedPlace {
        MarkedPlace { file: segment.name(), offset, bytes: segment.bytes - offset }
    }

    pub fn of_batch(place: &BatchPlace) -> MarkedPlace {
        MarkedPlace { file: segment_name(place.segment), offset: place.offset, bytes: place.extent }
    }
}

impl Mark {
    pub fn new(since: u32) -> Mark {
        Mark { since, end_uncertain: false, places: Vec::new(), more: false }
    }

    /// What a mark says that can't be read.
    fn unknown() -> Mark {
        Mark { since: 0, end_uncertain: true, places: Vec::new(), more: true }
    }

    /// `None`: the node is not suspect.
    pub fn read(disk: &dyn Disk) -> io::Result<Option<Mark>> {
        if !disk.list("")?.iter().any(|name| name == SUSPECT_FILE) {
            return Ok(None);
        }
        let bytes = match read_small(disk, SUSPECT_FILE, SUSPECT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => {
                log::warn!("the file {SUSPECT_FILE}: {}", unreadable(error)?);
                return Ok(Some(Mark::unknown()));
            }
        };
        Ok(Some(Mark::decode(&bytes).unwrap_or_else(Mark::unknown)))
    }

    /// Makes one that was read durable: its name may be in the cache alone; its bytes were synced before they got the
    /// name.
    pub fn make_durable(disk: &dyn Disk) -> io::Result<()> {
        disk.sync_dir("")
    }

    /// Durable when it returns.
    pub fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        replace_small(disk, SUSPECT_FILE, self.encode().as_bytes())
    }

    /// Durable when it returns. One that is gone already is no error.
    pub fn remove(disk: &dyn Disk) -> io::Result<()> {
        if disk.list("")?.iter().any(|name| name == SUSPECT_FILE) {
            disk.remove(SUSPECT_FILE)?;
        }
        disk.sync_dir("")
    }

    /// Adds a place that is not there yet.
    pub fn add(&mut self, place: MarkedPlace) {
        if self.places.contains(&place) {
            return;
        }
        if self.places.len() < MARK_PLACES_MAX {
            self.places.push(place);
        } else {
            self.more = true;
        }
    }

    fn encode(&self) -> String {
        let mut body = String::from("raftkv suspect\n");
        let mut line = |name: &str, value: &str| writeln!(body, "{name}: {value}").expect("a String takes everything");
        line("since", &self.since.to_string());
        line("end", if self.end_uncertain { "uncertain" } else { "certain" });
        for MarkedPlace { file, offset, bytes } in &self.places {
            line("damage", &format!("{file} {offset} {bytes}"));
        }
        line("more", if self.more { "yes" } else { "no" });
        sealed(&body)
    }

    /// `None` unless it reads back to exactly the same bytes.
    fn decode(bytes: &[u8]) -> Option<Mark> {
        let text = str::from_utf8(bytes).ok()?;
        let mark = Mark {
            since: field(text, "since")?.parse().ok()?,
            end_uncertain: field(text, "end")? == "uncertain",
            places: text.lines().filter_map(|line| line.strip_prefix("damage: ")).map_while(place).collect(),
            more: field(text, "more")? == "yes",
        };
        (mark.encode() == text).then_some(mark)
    }
}

fn place(line: &str) -> Option<MarkedPlace> {
    let mut words = line.split(' ');
    let file = words.next()?.to_string();
    Some(MarkedPlace { file, offset: words.next()?.parse().ok()?, bytes: words.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn mark() -> Mark {
        let mut mark = Mark::new(7);
        mark.add(MarkedPlace { file: "wal/0000000000000001.seg".into(), offset: 8192, bytes: 4096 });
        mark
    }

    #[test]
    fn a_mark_is_what_was_written_until_it_is_removed() {
        let disk = MemoryDisk::new();
        assert_eq!(Mark::read(&*disk.attach()).unwrap(), None);
        for mark in [mark(), Mark { end_uncertain: true, more: true, ..mark() }] {
            mark.write(&*disk.attach()).unwrap();
            disk.crash();
            assert_eq!(Mark::read(&*disk.attach()).unwrap(), Some(mark));
        }
        Mark::remove(&*disk.attach()).unwrap();
        disk.crash();
        assert_eq!(Mark::read(&*disk.attach()).unwrap(), None);
    }

    #[test]
    fn a_mark_with_any_flipped_bit_says_the_worst() {
        let bytes = mark().encode().into_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&flipped), None, "bit {bit}");
        }
        let disk = MemoryDisk::new();
        disk.attach().create(SUSPECT_FILE).unwrap();
        let found = Mark::read(&*disk.attach()).unwrap().unwrap();
        assert!(found.end_uncertain && found.more, "{found:?}");
    }

    #[test]
    fn places_past_the_limit_are_not_forgotten() {
        let mut mark = mark();
        for offset in 0..2 * MARK_PLACES_MAX as u64 {
            mark.add(MarkedPlace { file: "wal/0000000000000001.seg".into(), offset, bytes: u64::MAX });
        }
        assert!(mark.more && mark.places.len() == MARK_PLACES_MAX);
        assert!(mark.encode().len() as u64 <= SUSPECT_BYTES_MAX);
    }
}
