//! A file as its disk has it: the bytes that a process reads, and how to undo what has not reached the medium.
//!
//! Bytes lie in pages that are never changed once they are there: a write puts a new page in the place of the old one,
//! and the old one becomes the undo. So an undo costs nothing, and a copy of a whole disk next to nothing, since it
//! shares its pages with the first. Of a page only what comes before its last sectors of zeros is kept: a log is mostly
//! batches of one sector in a block of eight, and what is not in memory need not be brought to the processor.

use std::collections::BTreeSet;
use std::sync::Arc;

use raftkv::base::Random;

use super::{DiskFaults, SECTOR_BYTES};

pub const PAGE_BYTES: usize = 4096;
const PAGE_SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// A page up to its last sector that is not zero.
#[derive(Clone)]
struct Page(Arc<[u8]>);

impl Page {
    fn new(bytes: &[u8]) -> Page {
        let is_zero = |sector: &[u8]| sector == &ZEROS[..SECTOR_BYTES];
        let used = bytes.chunks_exact(SECTOR_BYTES).rposition(|sector| !is_zero(sector)).map_or(0, |last| last + 1);
        Page(bytes[..used * SECTOR_BYTES].into())
    }

    /// The bytes from `start` on.
    fn copy_to(&self, start: usize, buffer: &mut [u8]) {
        let kept = self.0.get(start..).unwrap_or_default();
        let (copied, zeros) = buffer.split_at_mut(kept.len().min(buffer.len()));
        copied.copy_from_slice(&kept[..copied.len()]);
        zeros.fill(0);
    }
}

/// Of a page, or of one that nothing was written to.
fn sector_of(page: Option<&Page>, sector: usize) -> &[u8] {
    let start = sector % PAGE_SECTORS * SECTOR_BYTES;
    page.and_then(|page| page.0.get(start..start + SECTOR_BYTES)).unwrap_or(&ZEROS[..SECTOR_BYTES])
}

/// Some sectors of a page as they were before, or, of what went astray, as they are at the medium.
#[derive(Clone)]
struct Undo {
    page: usize,
    bytes: Option<Page>,
    /// Bit *i*: sector *i* of the page.
    sectors: u8,
}

impl Undo {
    /// Numbered within the file.
    fn sectors(&self) -> impl Iterator<Item = usize> {
        let (first, sectors) = (self.page * PAGE_SECTORS, self.sectors);
        (0..PAGE_SECTORS).filter(move |sector| sectors & 1 << sector != 0).map(move |sector| first + sector)
    }

    fn sector(&self, sector: usize) -> &[u8] {
        sector_of(self.bytes.as_ref(), sector)
    }
}

/// Bytes as a process reads them, by page; one that nothing was written to is none.
#[derive(Clone, Default)]
pub struct File {
    pub length: usize,
    pages: Vec<Option<Page>>,
    durable_length: usize,
    /// What the next sync makes durable.
    dirty: Vec<Undo>,
    /// Older than all of `dirty`: what a failed sync has left in the cache as if it was clean.
    forgotten: Vec<Undo>,
    /// What a write that went astray has put here, at the medium only.
    astray: Vec<Undo>,
    /// Sectors that can't be read.
    bad: BTreeSet<usize>,
    /// The process before the current one wrote to it and never synced.
    outlived: bool,
}

impl File {
    /// Whether something was written at `byte`, and is at the medium.
    pub fn holds_durably(&self, byte: usize) -> bool {
        let sector = byte / SECTOR_BYTES;
        let all = [&self.dirty, &self.forgotten, &self.astray];
        let is_unsynced = all.into_iter().flatten().any(|undo| undo.sectors().any(|written| written == sector));
        self.pages.get(byte / PAGE_BYTES).is_some_and(Option::is_some) && !is_unsynced
    }

    /// Whether a sync would change nothing.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// A process ends: the next one reads what is in the cache, synced or not.
    pub fn end_process(&mut self) {
        self.outlived = !self.dirty.is_empty() || !self.forgotten.is_empty();
    }

    /// Whether a process reads for the first time what the one before it never synced.
    pub fn take_outlived(&mut self) -> bool {
        std::mem::take(&mut self.outlived)
    }

    pub fn flip_bit(&mut self, byte: usize, bit: u8) {
        self.change_page(byte / PAGE_BYTES, |page| page[byte % PAGE_BYTES] ^= 1 << bit);
    }

    /// The sector of `byte` can't be read until it is written.
    pub fn break_sector(&mut self, byte: usize) {
        self.bad.insert(byte / SECTOR_BYTES);
    }

    /// The first sector of these bytes that can't be read.
    pub fn unreadable(&self, start: usize, length: usize) -> Option<usize> {
        self.bad.range(start / SECTOR_BYTES..=(start + length.max(1) - 1) / SECTOR_BYTES).next().copied()
    }

    fn page(&self, page: usize) -> Option<&Page> {
        self.pages.get(page)?.as_ref()
    }

    fn read_page(&self, page: usize, start: usize, buffer: &mut [u8]) {
        match self.page(page) {
            Some(page) => page.copy_to(start, buffer),
            None => buffer.fill(0),
        }
    }

    /// What the page is after `change`.
    fn changed_page(&self, page: usize, change: impl FnOnce(&mut [u8])) -> Page {
        let mut bytes = ZEROS;
        self.read_page(page, 0, &mut bytes);
        change(&mut bytes);
        Page::new(&bytes)
    }

    fn put_page(&mut self, page: usize, bytes: Option<Page>) -> Option<Page> {
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        std::mem::replace(&mut self.pages[page], bytes)
    }

    /// At the medium and in the cache at once.
    fn change_page(&mut self, page: usize, change: impl FnOnce(&mut [u8])) {
        let changed = self.changed_page(page, change);
        self.put_page(page, Some(changed));
    }

    fn set_sector(&mut self, sector: usize, bytes: &[u8]) {
        let start = sector % PAGE_SECTORS * SECTOR_BYTES;
        self.change_page(sector / PAGE_SECTORS, |page| page[start..start + SECTOR_BYTES].copy_from_slice(bytes));
    }

    /// False: the file ends before.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> bool {
        if offset + buffer.len() > self.length {
            return false;
        }
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (page, start) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let length = rest.len().min(PAGE_BYTES - start);
            let (part, behind) = rest.split_at_mut(length);
            self.read_page(page, start, part);
            (at, rest) = (at + length, behind);
        }
        true
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        self.length = self.length.max(offset + bytes.len());
        while !rest.is_empty() {
            let (page, start) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let (part, behind) = rest.split_at(rest.len().min(PAGE_BYTES - start));
            self.write_page(page, start, part);
            (at, rest) = (at + part.len(), behind);
        }
    }

    fn write_page(&mut self, page: usize, start: usize, part: &[u8]) {
        let fresh = match part.len() == PAGE_BYTES {
            true if part == ZEROS => None,
            true => Some(Page::new(part)),
            false => Some(self.changed_page(page, |page| page[start..start + part.len()].copy_from_slice(part))),
        };
        let bytes = self.put_page(page, fresh);
        let sectors = start / SECTOR_BYTES..=(start + part.len() - 1) / SECTOR_BYTES;
        let undo = Undo { page, bytes, sectors: sectors.map(|sector| 1 << sector).sum() };
        if !self.bad.is_empty() {
            let written: BTreeSet<usize> = undo.sectors().collect();
            self.bad.retain(|sector| !written.contains(sector));
        }
        self.dirty.push(undo);
    }

    /// What was written reaches the medium, but for what an earlier failure made the cache forget.
    pub fn sync(&mut self) {
        if !self.forgotten.is_empty() || !self.astray.is_empty() {
            let written: BTreeSet<usize> = self.dirty.iter().flat_map(Undo::sectors).collect();
            for undo in self.forgotten.iter_mut().chain(&mut self.astray) {
                for sector in undo.sectors().filter(|sector| written.contains(sector)).collect::<Vec<_>>() {
                    undo.sectors &= !(1 << (sector % PAGE_SECTORS));
                }
            }
        }
        self.dirty.clear();
        self.durable_length = self.length;
    }

    /// The cache keeps what was written, and calls it clean.
    pub fn fail_sync(&mut self) {
        self.forgotten.append(&mut self.dirty);
    }

    /// What was just written at `start`, whole pages, is in the cache; at the medium it lies from page `target` on, as
    /// far as the file goes. False: it can't be.
    pub fn go_astray(&mut self, start: usize, bytes: &[u8], target: usize) -> bool {
        let pages = bytes.len() / PAGE_BYTES;
        if target == start / PAGE_BYTES || pages == 0 || !start.is_multiple_of(PAGE_BYTES) {
            return false;
        }
        let written = self.dirty.split_off(self.dirty.len() - pages);
        self.forgotten.extend(written);
        for (page, part) in (target..self.length / PAGE_BYTES).zip(bytes.chunks_exact(PAGE_BYTES)) {
            self.astray.push(Undo { page, bytes: Some(Page::new(part)), sectors: u8::MAX });
        }
        true
    }

    /// `mode`: mostly chance is asked for each sector; else all or nothing is the rule.
    pub fn lose_power(&mut self, mode: u64, random: &mut Random, faults: &mut DiskFaults) {
        self.outlived = false;
        if self.dirty.is_empty() && self.forgotten.is_empty() && self.astray.is_empty() {
            return;
        }
        let astray = std::mem::take(&mut self.astray);
        // What a failed sync left, or what went astray, does not reach the medium now either.
        let lying: BTreeSet<usize> = self.forgotten.iter().chain(&astray).flat_map(Undo::sectors).collect();
        let mut kept: Vec<(usize, Vec<u8>)> = Vec::new();
        let written: BTreeSet<usize> = self.dirty.iter().flat_map(Undo::sectors).collect();
        let mut lost = lying.len() as u64;
        for sector in written.difference(&lying) {
            let keep = match mode {
                0 => false,
                1 => true,
                _ => random.below(2) == 0,
            };
            match keep {
                true => kept.push((*sector, sector_of(self.page(sector / PAGE_SECTORS), *sector).to_vec())),
                false => lost += 1,
            }
        }
        let undone: Vec<Undo> = self.forgotten.drain(..).chain(self.dirty.drain(..)).rev().collect();
        for undo in undone.iter().chain(&astray) {
            undo.sectors().for_each(|sector| self.set_sector(sector, undo.sector(sector)));
        }
        kept.iter().for_each(|(sector, bytes)| self.set_sector(*sector, bytes));
        // A length that was not synced may be there, with zeros where nothing was kept.
        if mode == 0 || random.below(2) == 0 {
            self.truncate(self.durable_length);
        }
        self.durable_length = self.length;
        faults.sectors_lost += lost;
        faults.writes_torn += u64::from(!kept.is_empty() && lost > 0);
    }

    fn truncate(&mut self, length: usize) {
        if length < self.length {
            self.length = length;
            self.pages.truncate(length.div_ceil(PAGE_BYTES));
            if !length.is_multiple_of(PAGE_BYTES) {
                self.change_page(length / PAGE_BYTES, |page| page[length % PAGE_BYTES..].fill(0));
            }
        }
    }
}
