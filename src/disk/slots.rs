//! Term and vote: two slots in the file `term`, overwritten in place.
//!
//! ```text
//! slot A at 0, slot B at 4096, each 512 bytes in a block of its own, big-endian; the rest is zero:
//!   0                    8            12            20         28         32            508
//!   | magic "raftkvTV"    | version u32 | counter u64 | term u64 | vote u32 | zero ...    | crc32 u32 |
//!                                        of writes                 0: nobody               of all before
//! ```
//!
//! A write puts the same content into A, fsync, then into B, fsync, and only then is it acted on: at every moment one
//! slot is whole, and once it is acted on both hold it, so that damage to either loses nothing. Recovery takes the
//! sound slot with the higher counter. With neither sound the node refuses to start: term 0 would vote twice.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, replace_small};
use super::error::{Damage, OpenError};
use super::scan::Claims;
use super::sector::{BLOCK_BYTES, Place, SECTOR_BYTES, be_u32, be_u64, is_zero};
use super::segment::read_around_damage;
use crate::base::limits::DATA_FORMAT_VERSION;
use crate::base::{HardState, NodeId, Term};
use crate::guard::{Guard, removed};

pub(super) const TERM_FILE: &str = "term";

const MAGIC: &[u8; 8] = b"raftkvTV";
const USED_BYTES: usize = 32;
const CHECKSUM: usize = SECTOR_BYTES - 4;
const FILE_BYTES: u64 = 2 * BLOCK_BYTES;
/// Where no sector of a segment lies.
const NO_PLACE: Place = Place { segment: 0, offset: 0 };
const SLOT_OFFSETS: [u64; 2] = [0, BLOCK_BYTES];
/// Counting on from what a slot says never overflows.
const COUNTER_MAX: u64 = u64::MAX / 2;

/// The open term file.
pub(super) struct TermSlots {
    file: Arc<dyn DiskFile>,
    content: Content,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    counter: u64,
    state: HardState,
}

/// What recovery read; nothing is changed yet.
pub(super) struct SlotsFound {
    file: Arc<dyn DiskFile>,
    content: Content,
    /// Which slot to rewrite first: the one that does not hold the content.
    first: usize,
    pub warning: Option<String>,
    /// The blocks of slots that are not sound.
    bad: Vec<Vec<u8>>,
}

impl TermSlots {
    /// Makes the file for a node that never voted.
    pub fn create(disk: &dyn Disk) -> io::Result<TermSlots> {
        let content = Content { counter: 1, state: HardState::default() };
        let slot = encode(content);
        replace_small(disk, TERM_FILE, &[&slot[..], &slot[..]].concat())?;
        Ok(TermSlots { file: disk.open(TERM_FILE)?, content })
    }

    pub fn state(&self) -> HardState {
        self.content.state
    }

    /// Durable in both slots when it returns.
    pub fn write(&mut self, state: HardState) -> io::Result<()> {
        self.content = Content { counter: self.content.counter + 1, state };
        write_both(&*self.file, self.content, 0)
    }

    /// Writes what both slots should hold once more: one of them was found damaged. That one comes first, so that the
    /// only sound copy is never being overwritten.
    pub fn rewrite(&self) -> io::Result<()> {
        let is_sound = decode(&read_block(&*self.file, 0)?).is_ok_and(|slot| slot == Ok(self.content));
        write_both(&*self.file, self.content, usize::from(is_sound))
    }

    /// Whether both slots are sound and equal, as far as another thread can tell: the wal may be writing them.
    pub fn are_sound(disk: &dyn Disk) -> Result<bool, OpenError> {
        let file = disk.open(TERM_FILE)?;
        let [a, b] = [decode(&read_block(&*file, 0)?)?, decode(&read_block(&*file, 1)?)?];
        Ok(a.is_ok() && a == b)
    }
}

impl SlotsFound {
    /// Reads the slots; `None` if there is no term file.
    pub fn read(disk: &dyn Disk) -> Result<Option<SlotsFound>, OpenError> {
        if !disk.list("")?.iter().any(|name| name == TERM_FILE) {
            return Ok(None);
        }
        let file = disk.open(TERM_FILE)?;
        let length = file.len()?;
        if length != FILE_BYTES {
            return Err(Damage::new(TERM_FILE, format!("it has {length} bytes instead of {FILE_BYTES}")).into());
        }
        let blocks = [read_block(&*file, 0)?, read_block(&*file, 1)?];
        let [a, b] = [decode(&blocks[0])?, decode(&blocks[1])?];
        let sound = [a.is_ok(), b.is_ok()];
        let (content, first, warning) = choose(a, b)?;
        let bad = blocks.into_iter().zip(sound).filter_map(|(block, sound)| (!sound).then_some(block)).collect();
        Ok(Some(SlotsFound { file, content, first, warning, bad }))
    }

    /// A batch of the log may have been written here by mistake.
    pub fn note_claims(&self, claims: &mut Claims) {
        self.bad.iter().for_each(|block| claims.note_all(block, NO_PLACE));
    }

    pub fn state(&self) -> HardState {
        self.content.state
    }

    /// Makes sure that what was read is on disk, and not only in the page cache, in both slots. The slot that does
    /// not hold the content comes first, so that the only sound copy is never being overwritten.
    pub fn make_durable(self) -> io::Result<TermSlots> {
        write_both(&*self.file, self.content, self.first)?;
        Ok(TermSlots { file: self.file, content: self.content })
    }
}

fn write_both(file: &dyn DiskFile, content: Content, first: usize) -> io::Result<()> {
    let slot = encode(content);
    for which in [first, 1 - first] {
        file.write_at(SLOT_OFFSETS[which], &slot)?;
        file.sync_data()?;
    }
    Ok(())
}

/// A whole block: writing less would make the kernel read the rest first.
fn encode(content: Content) -> Vec<u8> {
    let mut slot = Vec::with_capacity(BLOCK_BYTES as usize);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&DATA_FORMAT_VERSION.to_be_bytes());
    slot.extend_from_slice(&content.counter.to_be_bytes());
    slot.extend_from_slice(&content.state.term.0.to_be_bytes());
    slot.extend_from_slice(&content.state.vote.map_or(0, NodeId::get).to_be_bytes());
    slot.resize(CHECKSUM, 0);
    let checksum = crc32fast::hash(&slot);
    slot.extend_from_slice(&checksum.to_be_bytes());
    slot.resize(BLOCK_BYTES as usize, 0);
    slot
}

fn read_block(file: &dyn DiskFile, which: usize) -> io::Result<Vec<u8>> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    read_around_damage(file, SLOT_OFFSETS[which], &mut block)?;
    Ok(block)
}

/// `Err` holds what is wrong with a slot that is not sound.
fn decode(block: &[u8]) -> Result<Result<Content, String>, OpenError> {
    let slot = &block[..SECTOR_BYTES];
    let is_whole = be_u32(slot, CHECKSUM) == crc32fast::hash(&slot[..CHECKSUM]) || removed(Guard::SlotUnchecked);
    if &slot[..8] != MAGIC || !is_whole {
        return Ok(Err("it fails its checksum or can't be read".into()));
    }
    let version = be_u32(slot, 8);
    if version != DATA_FORMAT_VERSION {
        return Err(OpenError::Configuration(format!(
            "the term file has format version {version}, and this program knows {DATA_FORMAT_VERSION}; start the \
             version of raftkv that wrote it"
        )));
    }
    if !is_zero(&slot[USED_BYTES..CHECKSUM]) {
        return Ok(Err("it has bytes that are not zero where nothing should be".into()));
    }
    let counter = be_u64(slot, 12);
    if counter > COUNTER_MAX {
        return Ok(Err(format!("it says that it is write {counter}, which is beyond anything that can be reached")));
    }
    let state = HardState { term: Term(be_u64(slot, 20)), vote: NodeId::new(be_u32(slot, 28)) };
    Ok(Ok(Content { counter, state }))
}

/// The content that counts, the slot to rewrite first, and what the operator should know.
fn choose(
    a: Result<Content, String>,
    b: Result<Content, String>,
) -> Result<(Content, usize, Option<String>), OpenError> {
    let warn = |slot: &str, what: &str| Some(format!("slot {slot} of the term file was rewritten: {what}"));
    match (a, b) {
        (Ok(a), Ok(b)) if a == b => Ok((a, 0, None)),
        (Ok(a), Ok(b)) => {
            let (newer, older, first) = if a.counter > b.counter { (a, b, 1) } else { (b, a, 0) };
            if newer.counter == older.counter || newer.state.term < older.state.term {
                let what = format!(
                    "its slots contradict each other (write {} says term {}, write {} says term {})",
                    a.counter, a.state.term, b.counter, b.state.term
                );
                return Err(Damage::at(TERM_FILE, 0, what).into());
            }
            Ok((newer, first, None))
        }
        (Ok(a), Err(what)) => Ok((a, 1, warn("B", &what))),
        (Err(what), Ok(b)) => Ok((b, 0, warn("A", &what))),
        (Err(_), Err(_)) if removed(Guard::BadSlotsAreTermZero) => {
            Ok((Content { counter: 1, state: HardState::default() }, 0, None))
        }
        (Err(a), Err(_)) => {
            let what = format!("neither slot is sound ({a}), so it is not known in which term this node voted");
            Err(Damage::at(TERM_FILE, 0, what).into())
        }
    }
}
