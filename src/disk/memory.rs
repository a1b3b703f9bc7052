//! A disk in memory that keeps apart what is written and what is durable, and fails on demand. For tests, benches and
//! embedded clusters. Any thread.
//!
//! Bytes become durable by `sync_data` of their file, names by `sync_dir` of their folder. Two things can end a
//! process: [`MemoryDisk::kill`] keeps what was written (the page cache survives), [`MemoryDisk::crash`] loses what
//! was not synced, or any part of it that the caller chooses: each 512-byte sector for itself, and names from the
//! latest change back. A sync that fails leaves its bytes in the cache and *clean*: a later sync that succeeds does
//! not bring them to disk, as on Linux.

mod attached;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use self::attached::Attached;
pub use self::names::NameTable;
use super::disk::Disk;
use crate::base::Random;

const SECTOR_BYTES: usize = super::sector::SECTOR_BYTES;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskOperation {
    Read,
    Write,
    Sync,
    Create,
    Rename,
    Remove,
    SyncDir,
}

impl DiskOperation {
    pub const ALL: [DiskOperation; 7] = [
        DiskOperation::Read,
        DiskOperation::Write,
        DiskOperation::Sync,
        DiskOperation::Create,
        DiskOperation::Rename,
        DiskOperation::Remove,
        DiskOperation::SyncDir,
    ];
}

/// What becomes of a sector that was written but not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Written,
    /// The disk was writing it at that moment, and does not keep a sector whole.
    Garbled,
}

/// What survives a loss of power of what was not synced.
pub struct Crash<'a> {
    /// By file and sector number.
    pub sector: &'a mut dyn FnMut(&str, u64) -> Fate,
    /// Of so many changes of names that were not synced, how many, from the first on, are kept.
    pub names: &'a mut dyn FnMut(usize) -> usize,
}

/// The disk as it outlives processes. A clone is the same disk; [`MemoryDisk::fork`] makes another.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Default)]
struct State {
    files: Vec<FileState>,
    names: NameTable,
    /// Handles of an earlier process fail.
    process: u64,
    /// Of the current process, by kind.
    performed: BTreeMap<DiskOperation, u64>,
    faults: Vec<Fault>,
    power_off_in: Option<u64>,
    held: u64,
    waiting: u64,
    /// Of all files together, in bytes; `None`: there is always room.
    capacity: Option<u64>,
}

#[derive(Clone, Debug)]
struct Fault {
    operation: DiskOperation,
    /// 1: the next one.
    nth: u64,
    /// Bytes of a write that are written before it fails.
    written: usize,
}

#[derive(Clone, Default)]
struct FileState {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that the next sync writes. Those of a sync that failed are no longer among them.
    unsynced: BTreeSet<u64>,
    /// Sectors that can't be read until they are written.
    broken: BTreeSet<u64>,
}

impl MemoryDisk {
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// The disk as one process sees it; `kill` and `crash` end it.
    pub fn attach(&self) -> Arc<dyn Disk> {
        let process = self.shared.state.lock().process;
        Arc::new(Attached { shared: self.shared.clone(), process })
    }

    /// A copy with a life of its own.
    pub fn fork(&self) -> MemoryDisk {
        let state = State { held: 0, waiting: 0, ..self.shared.state.lock().clone() };
        MemoryDisk { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Ends the process. What it wrote stays, durable or not.
    pub fn kill(&self) {
        self.shared.state.lock().end_process();
        self.shared.changed.notify_all();
    }

    /// The power goes: all that was not synced is lost.
    pub fn crash(&self) {
        self.crash_with(Crash { sector: &mut |_, _| Fate::Lost, names: &mut |_| 0 });
    }

    /// The power goes, and chance decides what survives.
    pub fn crash_by_chance(&self, random: &mut Random) {
        let mut names = random.clone();
        let names = &mut |unsynced: usize| names.below(unsynced as u64 + 1) as usize;
        let sector = &mut |_: &str, _| if random.below(2) == 0 { Fate::Lost } else { Fate::Written };
        self.crash_with(Crash { sector, names });
    }

    /// The power goes, and the caller decides what survives.
    pub fn crash_with(&self, crash: Crash<'_>) {
        let mut state = self.shared.state.lock();
        state.lose_sectors(crash.sector);
        let kept = (crash.names)(state.names.unsynced());
        state.names.lose_power(kept);
        state.end_process();
        self.shared.changed.notify_all();
    }

    /// Makes the nth operation of a kind from now on fail (1: the next), once.
    pub fn fail_nth(&self, operation: DiskOperation, nth: u64) {
        self.shared.state.lock().faults.push(Fault { operation, nth, written: 0 });
    }

    /// Makes the nth write from now on fail after `written` bytes.
    pub fn shorten_nth_write(&self, nth: u64, written: usize) {
        self.shared.state.lock().faults.push(Fault { operation: DiskOperation::Write, nth, written });
    }

    /// Everything fails from the nth operation on that changes something (1: the next): the machine is off, and waits
    /// for [`MemoryDisk::crash`].
    pub fn power_off_at(&self, nth: u64) {
        self.shared.state.lock().power_off_in = Some(nth);
    }

    /// All files together may grow up to so many bytes; less than they have now means that none grows.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.state.lock().capacity = Some(bytes);
    }

    /// What all files take.
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().used_bytes()
    }

    /// Operations of a kind since the process began.
    pub fn performed(&self, operation: DiskOperation) -> u64 {
        self.shared.state.lock().performed.get(&operation).copied().unwrap_or(0)
    }

    /// Every sync of a file waits until the answer is dropped.
    pub fn hold_syncs(&self) -> HeldSyncs {
        self.shared.state.lock().held += 1;
        HeldSyncs { shared: self.shared.clone() }
    }

    /// The names of files as a process would see them, ascending.
    pub fn files(&self) -> Vec<String> {
        let state = self.shared.state.lock();
        state.names.files().map(|(name, _)| name.to_string()).collect()
    }

    /// A file's bytes as a process would read them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.shared.state.lock();
        state.names.file(name).map(|file| state.files[file].live.clone())
    }

    /// The sectors of a file that were written but not synced.
    pub fn unsynced(&self, name: &str) -> Vec<u64> {
        let state = self.shared.state.lock();
        state.names.file(name).map_or(Vec::new(), |file| state.files[file].unsynced.iter().copied().collect())
    }

    /// Damages a file: these bytes are now on disk and in the cache. Without such a file it does nothing.
    pub fn alter(&self, name: &str, offset: usize, bytes: &[u8]) {
        let mut state = self.shared.state.lock();
        let Some(file) = state.names.file(name) else { return };
        let file = &mut state.files[file];
        put(&mut file.live, offset, bytes);
        put(&mut file.durable, offset, bytes);
    }

    /// Makes a sector of a file unreadable until it is written as a whole.
    pub fn break_sector(&self, name: &str, sector: u64) {
        let mut state = self.shared.state.lock();
        let Some(file) = state.names.file(name) else { return };
        state.files[file].broken.insert(sector);
    }

    /// Removes a file, durably, as an operator would by mistake.
    pub fn lose(&self, name: &str) {
        self.shared.state.lock().names.forget(name);
    }
}

/// Keeps syncs waiting until it is dropped.
pub struct HeldSyncs {
    shared: Arc<Shared>,
}

impl HeldSyncs {
    /// Returns once a sync waits.
    pub fn wait_for_one(&self) {
        let mut state = self.shared.state.lock();
        while state.waiting == 0 {
            self.shared.changed.wait(&mut state);
        }
    }
}

impl Drop for HeldSyncs {
    fn drop(&mut self) {
        self.shared.state.lock().held -= 1;
        self.shared.changed.notify_all();
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.names.files().map(|(_, file)| self.files[file].live.len() as u64).sum()
    }

    fn free_bytes(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    fn end_process(&mut self) {
        self.process += 1;
        self.performed.clear();
        self.faults.clear();
        self.power_off_in = None;
    }

    /// What is not durable is lost unless `fate` says otherwise; then the cache is empty.
    fn lose_sectors(&mut self, fate: &mut dyn FnMut(&str, u64) -> Fate) {
        let named: BTreeMap<usize, &str> = self.names.files().map(|(name, file)| (file, name)).collect();
        for (i, file) in self.files.iter_mut().enumerate() {
            let name = named.get(&i).copied().unwrap_or_default();
            for sector in std::mem::take(&mut file.unsynced) {
                match fate(name, sector) {
                    Fate::Lost => {}
                    Fate::Written => file.bring_to_disk(sector),
                    Fate::Garbled => {
                        file.bring_to_disk(sector);
                        let start = sector as usize * SECTOR_BYTES;
                        let end = file.durable.len().min(start + SECTOR_BYTES);
                        file.durable[start..end].iter_mut().for_each(|byte| *byte = !*byte);
                    }
                }
            }
            file.live = file.durable.clone();
        }
    }
}

impl FileState {
    fn bring_to_disk(&mut self, sector: u64) {
        let start = sector as usize * SECTOR_BYTES;
        let end = self.live.len().min(start + SECTOR_BYTES);
        put(&mut self.durable, start, &self.live[start..end]);
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        put(&mut self.live, offset as usize, bytes);
        let (sector_bytes, end) = (SECTOR_BYTES as u64, offset + bytes.len() as u64);
        self.broken.retain(|sector| sector * sector_bytes < offset || (sector + 1) * sector_bytes > end);
        for sector in offset / SECTOR_BYTES as u64..=(offset + bytes.len() as u64 - 1) / SECTOR_BYTES as u64 {
            self.unsynced.insert(sector);
        }
    }

    /// Whether a sector can't be read between two offsets.
    fn is_broken(&self, start: u64, end: u64) -> bool {
        let sector_bytes = SECTOR_BYTES as u64;
        start < end && self.broken.range(start / sector_bytes..end.div_ceil(sector_bytes)).next().is_some()
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.unsynced) {
            self.bring_to_disk(sector);
        }
        let length = self.live.len();
        if self.durable.len() < length {
            self.durable.resize(length, 0);
        }
    }
}

fn put(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if target.len() < offset + bytes.len() {
        target.resize(offset + bytes.len(), 0);
    }
    target[offset..offset + bytes.len()].copy_from_slice(bytes);
}
