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

mod attached;
mod file;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use raftkv::base::Random;
use raftkv::disk::{Disk, NameTable};

use self::attached::Attached;
use self::file::{File, PAGE_BYTES};
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
    /// Of them, what was no segment.
    pub refused_small: u64,
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
    names: NameTable,
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
}

impl SimDisk {
    pub fn new(random: Random, capacity_bytes: u64) -> SimDisk {
        let state = State {
            files: Vec::new(),
            names: NameTable::default(),
            dirty_files: BTreeSet::new(),
            process: 0,
            rates: DiskRates::default(),
            faults: DiskFaults::default(),
            random,
            power_off_in: None,
            bytes: 0,
            capacity_bytes,
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
        state.files.iter_mut().for_each(File::end_process);
    }

    /// The machine loses power. Call [`SimDisk::end_process`] too.
    pub fn lose_power(&self) {
        let mut state = self.state.lock();
        let State { files, random, faults, .. } = &mut *state;
        let mode = random.below(4);
        for file in files.iter_mut() {
            file.lose_power(mode, random, faults);
        }
        let changes = state.names.unsynced();
        let kept = state.random.index(changes + 1);
        state.faults.names_lost += (changes - kept) as u64;
        state.names.lose_power(kept);
        state.drop_unnamed();
    }

    /// Whether anything that was written to the log or the term file is not durable: after an acknowledgement nothing
    /// may be.
    pub fn unsynced_log(&self) -> Option<String> {
        let mut state = self.state.lock();
        let State { files, dirty_files, .. } = &mut *state;
        dirty_files.retain(|file| !files[*file].is_clean());
        if state.dirty_files.is_empty() {
            return None;
        }
        let mut owed = state.log_files().filter(|(_, file)| state.dirty_files.contains(file));
        owed.next().map(|(name, _)| name.to_string())
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
            if state.files[file].holds_durably(byte) {
                return Some(Place { name, byte, bit: random.below(8) as u8 });
            }
        }
        None
    }

    /// A bit of it flips.
    pub fn flip_bit(&self, place: &Place) {
        let mut state = self.state.lock();
        let Some(file) = state.names.file(&place.name) else { return };
        state.files[file].flip_bit(place.byte, place.bit);
        state.faults.bits_flipped += 1;
    }

    /// Its sector becomes unreadable until it is written again.
    pub fn break_sector(&self, place: &Place) {
        let mut state = self.state.lock();
        let Some(file) = state.names.file(&place.name) else { return };
        state.files[file].break_sector(place.byte);
        state.faults.sectors_broken += 1;
    }

    /// Somebody empties the directory.
    pub fn wipe(&self) {
        let mut state = self.state.lock();
        state.names = NameTable::default();
        state.drop_unnamed();
    }
}

impl State {
    /// The files that hold what was acknowledged.
    fn log_files(&self) -> impl Iterator<Item = (&str, usize)> {
        self.names.files().filter(|(name, _)| *name == "term" || name.ends_with(".seg"))
    }

    fn any_log_file(&self, random: &mut Random) -> Option<(String, usize)> {
        let files: Vec<(&str, usize)> = self.log_files().filter(|(_, file)| self.files[*file].length > 0).collect();
        if files.is_empty() {
            return None;
        }
        let (name, file) = files[random.index(files.len())];
        Some((name.to_string(), file))
    }

    /// A file that has lost its name takes no room any more.
    fn free(&mut self, file: Option<usize>) {
        self.bytes -= file.map_or(0, |file| self.files[file].length as u64);
    }

    /// Frees the memory of files that have no name any more.
    fn drop_unnamed(&mut self) {
        let named: BTreeSet<usize> = self.names.all_files().collect();
        for (i, file) in self.files.iter_mut().enumerate() {
            if !named.contains(&i) {
                *file = File::default();
            }
        }
        self.bytes = self.files.iter().map(|file| file.length as u64).sum();
    }

    /// Counts an operation that changes something. `Err`: the machine is off, or goes off in this operation (true).
    fn begin_change(&mut self) -> Result<(), bool> {
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

    /// What was just written is in the cache; at the medium it lies elsewhere in the same file.
    fn send_astray(&mut self, file: usize, start: usize, bytes: &[u8]) {
        let file = &mut self.files[file];
        let target = self.random.index(file.length / PAGE_BYTES);
        self.faults.writes_astray += u64::from(file.go_astray(start, bytes, target));
    }
}
