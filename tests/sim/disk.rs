//! A disk in memory that forgets, lies, fails and rots as a real one does, quickly and by chance.
//!
//! It keeps each file once, as a process reads it (the page cache), and beside it how to undo what has not reached the
//! medium yet. A sync throws the undo away, a loss of power uses it. So a write costs a copy of its bytes, none if they
//! are zeros, a sync next to nothing, and only the rare loss of power looks at sectors.
//!
//! | what | how |
//! |---|---|
//! | a process is killed | nothing here changes: the cache lives on, synced or not |
//! | loss of power | each sector that was not synced is kept or lost for itself; names from the latest change back |
//! | an fsync fails | the cache keeps the bytes and calls them clean: a later fsync that succeeds does not write them |
//! | a write is cut | `power_off_in`: the operation that was under way is done in part, and none after it |
//! | a bit flips, a read fails, a write goes astray | at the medium; only what was synced is hit |
//! | it is full | what would grow it fails |
//!
//! All handles of an ended process fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use raftkv::base::Random;
use raftkv::disk::{Disk, DiskFile};

use super::chance::{Chance, PerMillion};

pub const SECTOR_BYTES: usize = 512;

/// How often an operation fails by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskRates {
    pub sync_error: PerMillion,
    /// A read that fails once.
    pub read_error: PerMillion,
    pub write_astray: PerMillion,
}

/// What went wrong so far, for the tally.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    pub sync_errors: u64,
    pub read_errors: u64,
    pub writes_astray: u64,
    pub bits_flipped: u64,
    pub sectors_broken: u64,
    pub refused_full: u64,
    pub cut_operations: u64,
    /// By loss of power: sectors of a write that vanished, of them those in a write of which others survived.
    pub sectors_lost: u64,
    pub writes_torn: u64,
    pub names_lost: u64,
    /// A process read bytes that only the cache held, left by the one before.
    pub cache_outlived: u64,
}

/// A bit of a file.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: String,
    pub byte: usize,
    pub bit: u8,
}

#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    files: Vec<File>,
    live: Names,
    durable: Names,
    /// Changes of `live` that are not in `durable`, each with its folder.
    unsynced_names: Vec<(String, NameChange)>,
    /// Files that may have something to sync.
    dirty_files: BTreeSet<usize>,
    process: u64,
    rates: DiskRates,
    faults: DiskFaults,
    random: Random,
    /// So many operations that change something are done; the next one in part, then none.
    power_off_in: Option<u64>,
    bytes: u64,
    capacity_bytes: u64,
    /// Operations so far, for tests of the simulator itself and the trace.
    operations: u64,
}

type Names = BTreeMap<String, Node>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, Node),
    Rename(String, String),
    Remove(String),
}

/// Bytes as a process reads them, by page; a page of zeros is none.
#[derive(Clone, Default)]
struct File {
    length: usize,
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

const PAGE_BYTES: usize = 4096;
const PAGE_SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

type Page = Box<[u8; PAGE_BYTES]>;

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

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
        let start = sector % PAGE_SECTORS * SECTOR_BYTES;
        &self.bytes.as_ref().map_or(&ZEROS, |page| &**page)[start..start + SECTOR_BYTES]
    }
}

fn error(kind: io::ErrorKind, what: &str, name: &str) -> io::Error {
    io::Error::new(kind, format!("{what} ({name})"))
}

impl SimDisk {
    pub fn new(random: Random, capacity_bytes: u64) -> SimDisk {
        let state = State {
            files: Vec::new(),
            live: Names::new(),
            durable: Names::new(),
            unsynced_names: Vec::new(),
            dirty_files: BTreeSet::new(),
            process: 0,
            rates: DiskRates::default(),
            faults: DiskFaults::default(),
            random,
            power_off_in: None,
            bytes: 0,
            capacity_bytes,
            operations: 0,
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as the current process sees it.
    pub fn attach(&self) -> Arc<dyn Disk> {
        let process = self.state.lock().process;
        Arc::new(Attached { state: Arc::clone(&self.state), process })
    }

    pub fn set_rates(&self, rates: DiskRates) {
        self.state.lock().rates = rates;
    }

    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    pub fn faults(&self) -> DiskFaults {
        self.state.lock().faults
    }

    /// From now on `operations` changes are done, the following one in part, and then none: what the machine was doing
    /// when it went down. To be followed by [`SimDisk::end_process`].
    pub fn power_off_in(&self, operations: u64) {
        self.state.lock().power_off_in = Some(operations);
    }

    /// The process is gone; the cache stays.
    pub fn end_process(&self) {
        let mut state = self.state.lock();
        state.process += 1;
        state.power_off_in = None;
        for file in &mut state.files {
            file.outlived = !file.dirty.is_empty() || !file.forgotten.is_empty();
        }
    }

    /// The machine loses power. Call [`SimDisk::end_process`] too.
    pub fn lose_power(&self) {
        let mut state = self.state.lock();
        let State { files, random, faults, .. } = &mut *state;
        let mode = random.below(4);
        for file in files.iter_mut() {
            file.lose_power(mode, random, faults);
        }
        let changes = std::mem::take(&mut state.unsynced_names);
        let kept = state.random.below(changes.len() as u64 + 1) as usize;
        state.faults.names_lost += (changes.len() - kept) as u64;
        for (_, change) in &changes[..kept] {
            apply(&mut state.durable, change);
        }
        state.live = state.durable.clone();
        state.drop_unnamed();
    }

    /// Whether anything that was written to the log or the term file is not durable: after an acknowledgement nothing
    /// may be.
    pub fn unsynced_log(&self) -> Option<String> {
        let mut state = self.state.lock();
        let State { files, dirty_files, .. } = &mut *state;
        dirty_files.retain(|file| !files[*file].dirty.is_empty());
        if state.dirty_files.is_empty() {
            return None;
        }
        let owed = |name: &str| name == "term" || name.ends_with(".seg");
        let is_owed = |(name, node): &(&String, &Node)| {
            owed(name) && as_file(node).is_some_and(|file| state.dirty_files.contains(&file))
        };
        state.live.iter().find(is_owed).map(|(name, _)| name.clone())
    }

    /// A copy as the next process would find it, which can be looked at without consequences.
    pub fn fork(&self) -> SimDisk {
        let state = self.state.lock().clone();
        let state = State { rates: DiskRates::default(), power_off_in: None, capacity_bytes: u64::MAX, ..state };
        let fork = SimDisk { state: Arc::new(Mutex::new(state)) };
        fork.end_process();
        fork
    }

    /// Somewhere in a file that holds what was acknowledged, where something was written and is durable.
    pub fn draw_place(&self, random: &mut Random) -> Option<Place> {
        let state = self.state.lock();
        for _ in 0..20 {
            let (name, file) = state.any_log_file(random)?;
            let byte = random.index(state.files[file].length);
            let target = &state.files[file];
            let is_written = target.pages.get(byte / PAGE_BYTES).is_some_and(Option::is_some);
            if is_written && !target.is_unsynced(byte / SECTOR_BYTES) {
                return Some(Place { name, byte, bit: random.below(8) as u8 });
            }
        }
        None
    }

    /// A bit of it flips.
    pub fn flip_bit(&self, place: &Place) {
        let mut state = self.state.lock();
        let Some(file) = state.file_named(&place.name) else { return };
        state.files[file].page_mut(place.byte / PAGE_BYTES)[place.byte % PAGE_BYTES] ^= 1 << place.bit;
        state.faults.bits_flipped += 1;
    }

    /// Its sector becomes unreadable until it is written again.
    pub fn break_sector(&self, place: &Place) {
        let mut state = self.state.lock();
        let Some(file) = state.file_named(&place.name) else { return };
        state.files[file].bad.insert(place.byte / SECTOR_BYTES);
        state.faults.sectors_broken += 1;
    }

    /// Somebody empties the directory.
    pub fn wipe(&self) {
        let mut state = self.state.lock();
        state.live.clear();
        state.durable.clear();
        state.unsynced_names.clear();
        state.drop_unnamed();
    }
}

impl State {
    fn file_named(&self, name: &str) -> Option<usize> {
        match self.live.get(name) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    /// Of the files that hold what was acknowledged, chosen by their size.
    fn any_log_file(&self, random: &mut Random) -> Option<(String, usize)> {
        let files = self.live.iter().filter_map(|(name, node)| match node {
            Node::File(file) if name == "term" || name.ends_with(".seg") => Some((name, *file)),
            _ => None,
        });
        let files: Vec<(&String, usize)> = files.filter(|(_, file)| self.files[*file].length > 0).collect();
        if files.is_empty() {
            return None;
        }
        let (name, file) = files[random.index(files.len())];
        Some((name.clone(), file))
    }

    /// Frees the memory of files that have no name any more.
    fn drop_unnamed(&mut self) {
        let named: BTreeSet<usize> = self.live.values().chain(self.durable.values()).filter_map(as_file).collect();
        for (i, file) in self.files.iter_mut().enumerate() {
            if !named.contains(&i) {
                *file = File::default();
            }
        }
        self.bytes = self.files.iter().map(|file| file.length as u64).sum();
    }

    fn change_name(&mut self, change: NameChange) {
        apply(&mut self.live, &change);
        let (NameChange::Set(name, _) | NameChange::Rename(_, name) | NameChange::Remove(name)) = &change;
        self.unsynced_names.push((folder_of(name).to_string(), change));
    }

    /// Counts an operation that changes something. `Err`: the machine is off, or goes off in this operation (true).
    fn begin_change(&mut self) -> Result<(), bool> {
        self.operations += 1;
        match &mut self.power_off_in {
            None => Ok(()),
            Some(0) => Err(false),
            Some(left) => {
                *left -= 1;
                let goes_off = *left == 0;
                self.faults.cut_operations += u64::from(goes_off);
                if goes_off { Err(true) } else { Ok(()) }
            }
        }
    }
}

fn as_file(node: &Node) -> Option<usize> {
    match node {
        Node::File(file) => Some(*file),
        Node::Folder => None,
    }
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn apply(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::Set(name, node) => {
            names.insert(name.clone(), *node);
        }
        NameChange::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

impl File {
    fn is_unsynced(&self, sector: usize) -> bool {
        let all = [&self.dirty, &self.forgotten, &self.astray];
        all.into_iter().flatten().any(|undo| undo.sectors().any(|written| written == sector))
    }

    fn page(&self, page: usize) -> &[u8; PAGE_BYTES] {
        self.pages.get(page).and_then(Option::as_ref).map_or(&ZEROS, |page| page)
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8; PAGE_BYTES] {
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        self.pages[page].get_or_insert_with(|| Box::new(ZEROS))
    }

    fn set_sector(&mut self, sector: usize, bytes: &[u8]) {
        let start = sector % PAGE_SECTORS * SECTOR_BYTES;
        self.page_mut(sector / PAGE_SECTORS)[start..start + SECTOR_BYTES].copy_from_slice(bytes);
    }

    /// False: the file ends before.
    fn read(&self, offset: usize, buffer: &mut [u8]) -> bool {
        if offset + buffer.len() > self.length {
            return false;
        }
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (page, start) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let length = rest.len().min(PAGE_BYTES - start);
            let (part, behind) = rest.split_at_mut(length);
            part.copy_from_slice(&self.page(page)[start..start + length]);
            (at, rest) = (at + length, behind);
        }
        true
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
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
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let is_whole = part.len() == PAGE_BYTES;
        let zeros = is_whole && part == ZEROS;
        let fresh = match (zeros, is_whole) {
            (true, _) => None,
            (false, true) => Some(Box::new(<[u8; PAGE_BYTES]>::try_from(part).expect("it is whole"))),
            (false, false) => {
                let mut copy = self.pages[page].clone().unwrap_or_else(|| Box::new(ZEROS));
                copy[start..start + part.len()].copy_from_slice(part);
                Some(copy)
            }
        };
        let bytes = std::mem::replace(&mut self.pages[page], fresh);
        let sectors = start / SECTOR_BYTES..=(start + part.len() - 1) / SECTOR_BYTES;
        let undo = Undo { page, bytes, sectors: sectors.map(|sector| 1 << sector).sum() };
        if !self.bad.is_empty() {
            let written: BTreeSet<usize> = undo.sectors().collect();
            self.bad.retain(|sector| !written.contains(sector));
        }
        self.dirty.push(undo);
    }

    fn sync(&mut self) {
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

    /// `mode`: mostly chance is asked for each sector; else all or nothing is the rule.
    fn lose_power(&mut self, mode: u64, random: &mut Random, faults: &mut DiskFaults) {
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
            let start = sector % PAGE_SECTORS * SECTOR_BYTES;
            match keep {
                true => kept.push((*sector, self.page(sector / PAGE_SECTORS)[start..start + SECTOR_BYTES].to_vec())),
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
                self.page_mut(length / PAGE_BYTES)[length % PAGE_BYTES..].fill(0);
            }
        }
    }
}

struct Attached {
    state: Arc<Mutex<State>>,
    process: u64,
}

struct AttachedFile {
    state: Arc<Mutex<State>>,
    process: u64,
    file: usize,
    name: String,
}

const OFF: &str = "the power is off";
const ENDED: &str = "the process that opened it has ended";

impl Attached {
    fn state(&self, name: &str) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.process != self.process {
            return Err(error(io::ErrorKind::Other, ENDED, name));
        }
        Ok(state)
    }

    /// Names are changed whole or not at all.
    fn change(&self, name: &str) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let mut state = self.state(name)?;
        match state.begin_change() {
            Ok(()) => Ok(state),
            Err(_) => Err(error(io::ErrorKind::Other, OFF, name)),
        }
    }

    fn handle(&self, file: usize, name: &str) -> Arc<dyn DiskFile> {
        let state = Arc::clone(&self.state);
        Arc::new(AttachedFile { state, process: self.process, file, name: name.to_string() })
    }
}

fn not_found(name: &str) -> io::Error {
    error(io::ErrorKind::NotFound, "there is no such file", name)
}

impl Disk for Attached {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.state(name)?.file_named(name).ok_or_else(|| not_found(name))?;
        Ok(self.handle(file, name))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.change(name)?;
        let folder = folder_of(name);
        if !folder.is_empty() && state.live.get(folder) != Some(&Node::Folder) {
            return Err(not_found(folder));
        }
        let file = state.files.len();
        state.files.push(File::default());
        state.change_name(NameChange::Set(name.to_string(), Node::File(file)));
        Ok(self.handle(file, name))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        let mut state = self.change(name)?;
        match state.live.get(name) {
            Some(Node::Folder) => {}
            Some(Node::File(_)) => return Err(error(io::ErrorKind::AlreadyExists, "there is a file", name)),
            None => state.change_name(NameChange::Set(name.to_string(), Node::Folder)),
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.change(from)?;
        state.file_named(from).ok_or_else(|| not_found(from))?;
        state.change_name(NameChange::Rename(from.to_string(), to.to_string()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.change(name)?;
        let file = state.file_named(name).ok_or_else(|| not_found(name))?;
        state.bytes -= state.files[file].length as u64;
        state.change_name(NameChange::Remove(name.to_string()));
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state(dir)?;
        if !dir.is_empty() && state.live.get(dir) != Some(&Node::Folder) {
            return Err(not_found(dir));
        }
        let inside = state.live.keys().filter(|name| folder_of(name) == dir);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_string()).collect())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.change(dir)?;
        let changes = std::mem::take(&mut state.unsynced_names);
        let (here, elsewhere): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(folder, _)| folder == dir);
        for (_, change) in &here {
            apply(&mut state.durable, change);
        }
        state.unsynced_names = elsewhere;
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.state("")?;
        // Whoever asks is told of it, and need not be refused.
        state.faults.refused_full += u64::from(state.capacity_bytes < u64::MAX);
        Ok(state.capacity_bytes.saturating_sub(state.bytes))
    }
}

impl AttachedFile {
    fn state(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.process != self.process {
            return Err(error(io::ErrorKind::Other, ENDED, &self.name));
        }
        Ok(state)
    }
}

impl DiskFile for AttachedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let rate = state.rates.read_error;
        if rate > 0 && state.random.happens(rate) {
            state.faults.read_errors += 1;
            return Err(error(io::ErrorKind::Other, "the disk can't read", &self.name));
        }
        let file = &mut state.files[self.file];
        let start = usize::try_from(offset).expect("files are small here");
        if !file.read(start, buffer) {
            return Err(error(io::ErrorKind::UnexpectedEof, "the file ends before", &self.name));
        }
        let sectors = start / SECTOR_BYTES..=(start + buffer.len().max(1) - 1) / SECTOR_BYTES;
        let unreadable = file.bad.range(sectors).next().copied();
        let outlived = std::mem::take(&mut file.outlived);
        state.faults.cache_outlived += u64::from(outlived);
        match unreadable {
            Some(sector) => {
                state.faults.read_errors += 1;
                Err(error(io::ErrorKind::Other, &format!("sector {sector} can't be read"), &self.name))
            }
            None => Ok(()),
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let start = usize::try_from(offset).expect("files are small here");
        match state.begin_change() {
            Ok(()) => {}
            Err(false) => return Err(error(io::ErrorKind::Other, OFF, &self.name)),
            Err(true) => {
                // The kernel copies in order: some of the beginning is in the cache.
                let written = state.random.index(bytes.len() + 1);
                let before = state.files[self.file].length as u64;
                state.files[self.file].write(start, &bytes[..written]);
                state.bytes += state.files[self.file].length as u64 - before;
                return Err(error(io::ErrorKind::Other, OFF, &self.name));
            }
        }
        let length = state.files[self.file].length;
        let grows = (start + bytes.len()).saturating_sub(length) as u64;
        if grows > 0 && state.bytes + grows > state.capacity_bytes {
            state.faults.refused_full += 1;
            return Err(error(io::ErrorKind::StorageFull, "no space is left", &self.name));
        }
        state.bytes += grows;
        state.files[self.file].write(start, bytes);
        state.dirty_files.insert(self.file);
        let rate = state.rates.write_astray;
        if rate > 0 && grows == 0 && start.is_multiple_of(SECTOR_BYTES) && state.random.happens(rate) {
            state.go_astray(self.file, start, bytes);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        match state.begin_change() {
            Ok(()) => {}
            // Whether it was done just before the end, nobody knows; if not, chance decides for each sector.
            Err(true) if state.random.below(2) == 0 => {
                state.files[self.file].sync();
                return Err(error(io::ErrorKind::Other, OFF, &self.name));
            }
            Err(_) => return Err(error(io::ErrorKind::Other, OFF, &self.name)),
        }
        let rate = state.rates.sync_error;
        if rate > 0 && state.random.happens(rate) {
            state.faults.sync_errors += 1;
            let file = &mut state.files[self.file];
            let dirty = std::mem::take(&mut file.dirty);
            file.forgotten.extend(dirty);
            return Err(error(io::ErrorKind::Other, "the disk can't write", &self.name));
        }
        state.files[self.file].sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.file].length as u64)
    }
}

impl State {
    /// What was just written is in the cache; at the medium it lies elsewhere in the same file.
    fn go_astray(&mut self, file: usize, start: usize, bytes: &[u8]) {
        let target_file = &mut self.files[file];
        let pages = bytes.len() / PAGE_BYTES;
        let target = self.random.index(target_file.length / PAGE_BYTES);
        if target == start / PAGE_BYTES || pages == 0 || !start.is_multiple_of(PAGE_BYTES) {
            return;
        }
        let written = target_file.dirty.split_off(target_file.dirty.len() - pages);
        target_file.forgotten.extend(written);
        for (i, part) in bytes.chunks_exact(PAGE_BYTES).enumerate() {
            if (target + i + 1) * PAGE_BYTES <= target_file.length {
                let bytes = Some(Box::new(<[u8; PAGE_BYTES]>::try_from(part).expect("it is whole")));
                target_file.astray.push(Undo { page: target + i, bytes, sectors: u8::MAX });
            }
        }
        self.faults.writes_astray += 1;
    }
}
