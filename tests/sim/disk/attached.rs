//! The disk as one process sees it: the production traits, failing as the rates say. Handles of an ended process fail.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use raftkv::disk::{Disk, DiskFile};

use super::super::chance::Chance;
use super::file::File;
use super::{SECTOR_BYTES, State};

fn error(kind: io::ErrorKind, what: &str, name: &str) -> io::Error {
    io::Error::new(kind, format!("{what} ({name})"))
}

pub(super) struct Attached {
    pub state: Arc<Mutex<State>>,
    pub process: u64,
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

/// Why a name can't be opened, changed or listed.
fn refused(kind: io::ErrorKind, name: &str) -> io::Error {
    error(kind, "there is no such file or folder, or it is there already", name)
}

impl Disk for Attached {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.state(name)?.names.file(name).ok_or_else(|| refused(io::ErrorKind::NotFound, name))?;
        Ok(self.handle(file, name))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.change(name)?;
        let file = state.files.len();
        let replaced = state.names.create(name, file).map_err(|kind| refused(kind, name))?;
        state.free(replaced);
        state.files.push(File::default());
        Ok(self.handle(file, name))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.change(name)?.names.create_folder(name).map_err(|kind| refused(kind, name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.change(from)?;
        let replaced = state.names.rename(from, to).map_err(|kind| refused(kind, from))?;
        state.free(replaced);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.change(name)?;
        let file = state.names.remove(name).map_err(|kind| refused(kind, name))?;
        state.free(Some(file));
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.state(dir)?.names.list(dir).map_err(|kind| refused(kind, dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.change(dir)?.names.sync(dir);
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
        let (unreadable, outlived) = (file.unreadable(start, buffer.len()), file.take_outlived());
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
            state.faults.refused_small += u64::from(!self.name.starts_with("wal/"));
            return Err(error(io::ErrorKind::StorageFull, "no space is left", &self.name));
        }
        state.bytes += grows;
        state.files[self.file].write(start, bytes);
        state.dirty_files.insert(self.file);
        let rate = state.rates.write_astray;
        if rate > 0 && grows == 0 && start.is_multiple_of(SECTOR_BYTES) && state.random.happens(rate) {
            state.send_astray(self.file, start, bytes);
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
            state.files[self.file].fail_sync();
            return Err(error(io::ErrorKind::Other, "the disk can't write", &self.name));
        }
        state.files[self.file].sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.file].length as u64)
    }
}
