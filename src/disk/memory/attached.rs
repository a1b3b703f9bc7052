//! The disk in memory as one process sees it: the traits, counting and failing as it was told. Any thread.

use std::io;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::super::disk::{Disk, DiskFile, file_error};
use super::{DiskOperation, FileState, Shared, State};

pub(super) struct Attached {
    pub shared: Arc<Shared>,
    pub process: u64,
}

struct AttachedFile {
    shared: Arc<Shared>,
    process: u64,
    file: usize,
    name: String,
}

fn named(operation: DiskOperation, name: &str, kind: io::ErrorKind, what: &'static str) -> io::Error {
    let doing = match operation {
        DiskOperation::Read => "read",
        DiskOperation::Write => "write",
        DiskOperation::Sync => "sync",
        DiskOperation::Create => "create",
        DiskOperation::Rename => "rename",
        DiskOperation::Remove => "remove",
        DiskOperation::SyncDir => "sync the directory",
    };
    file_error(doing, name, io::Error::new(kind, what))
}

/// Counts an operation and fails it if a fault says so. The number is how many bytes a failing write still writes.
fn begin<'a>(
    shared: &'a Shared,
    process: u64,
    operation: DiskOperation,
    name: &str,
) -> Result<MutexGuard<'a, State>, (MutexGuard<'a, State>, usize, io::Error)> {
    let mut state = shared.state.lock();
    if operation == DiskOperation::Sync && state.held > 0 {
        state.waiting += 1;
        shared.changed.notify_all();
        while state.held > 0 && state.process == process {
            shared.changed.wait(&mut state);
        }
        state.waiting -= 1;
    }
    let fail = |what| named(operation, name, io::ErrorKind::Other, what);
    if state.process != process {
        return Err((state, 0, fail("the process that opened it has ended")));
    }
    *state.performed.entry(operation).or_default() += 1;
    if operation != DiskOperation::Read && state.power_off_in.is_some() {
        let left = state.power_off_in.map_or(0, |left| left.saturating_sub(1));
        state.power_off_in = Some(left);
        if left == 0 {
            return Err((state, 0, fail("the power is off")));
        }
    }
    for fault in state.faults.iter_mut().filter(|fault| fault.operation == operation) {
        fault.nth = fault.nth.saturating_sub(1);
    }
    match state.faults.iter().position(|fault| fault.nth == 0) {
        Some(at) => {
            let fault = state.faults.swap_remove(at);
            Err((state, fault.written, fail("the disk was told to fail")))
        }
        None => Ok(state),
    }
}

impl Attached {
    fn begin(&self, operation: DiskOperation, name: &str) -> io::Result<MutexGuard<'_, State>> {
        begin(&self.shared, self.process, operation, name).map_err(|(_, _, error)| error)
    }

    fn handle(&self, file: usize, name: &str) -> Arc<dyn DiskFile> {
        Arc::new(AttachedFile { shared: self.shared.clone(), process: self.process, file, name: name.to_string() })
    }
}

/// Why a name can't be opened, changed or listed.
fn refused(operation: DiskOperation, name: &str, kind: io::ErrorKind) -> io::Error {
    let what = match kind {
        io::ErrorKind::AlreadyExists => "there is a file of this name",
        _ => "there is no such file or folder",
    };
    named(operation, name, kind, what)
}

impl Disk for Attached {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.begin(DiskOperation::Read, name)?;
        let file = state.names.file(name).ok_or_else(|| refused(DiskOperation::Read, name, io::ErrorKind::NotFound))?;
        Ok(self.handle(file, name))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.begin(DiskOperation::Create, name)?;
        let file = state.files.len();
        state.names.create(name, file).map_err(|kind| refused(DiskOperation::Create, name, kind))?;
        state.files.push(FileState::default());
        Ok(self.handle(file, name))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        let mut state = self.begin(DiskOperation::Create, name)?;
        state.names.create_folder(name).map_err(|kind| refused(DiskOperation::Create, name, kind))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.begin(DiskOperation::Rename, from)?;
        state.names.rename(from, to).map_err(|kind| refused(DiskOperation::Rename, from, kind))?;
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.begin(DiskOperation::Remove, name)?;
        state.names.remove(name).map_err(|kind| refused(DiskOperation::Remove, name, kind))?;
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.begin(DiskOperation::Read, dir)?;
        state.names.list(dir).map_err(|kind| refused(DiskOperation::Read, dir, kind))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.begin(DiskOperation::SyncDir, dir)?.names.sync(dir);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.begin(DiskOperation::Read, "").map(|state| state.free_bytes())
    }
}

impl AttachedFile {
    fn begin(&self, operation: DiskOperation) -> io::Result<MutexGuard<'_, State>> {
        begin(&self.shared, self.process, operation, &self.name).map_err(|(_, _, error)| error)
    }
}

impl DiskFile for AttachedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.begin(DiskOperation::Read)?;
        if state.files[self.file].is_broken(offset, offset.saturating_add(buffer.len() as u64)) {
            return Err(named(DiskOperation::Read, &self.name, io::ErrorKind::Other, "a sector can't be read"));
        }
        let live = &state.files[self.file].live;
        let found = usize::try_from(offset).ok().and_then(|start| live.get(start..start.checked_add(buffer.len())?));
        match found {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => {
                let kind = io::ErrorKind::UnexpectedEof;
                return Err(named(DiskOperation::Read, &self.name, kind, "the file ends before"));
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match begin(&self.shared, self.process, DiskOperation::Write, &self.name) {
            Ok(mut state) => {
                let growth = (offset + bytes.len() as u64).saturating_sub(state.files[self.file].live.len() as u64);
                if growth > state.free_bytes() {
                    let kind = io::ErrorKind::StorageFull;
                    return Err(named(DiskOperation::Write, &self.name, kind, "the disk is full"));
                }
                state.files[self.file].write(offset, bytes);
                Ok(())
            }
            Err((mut state, written, error)) => {
                state.files[self.file].write(offset, &bytes[..written.min(bytes.len())]);
                Err(error)
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match begin(&self.shared, self.process, DiskOperation::Sync, &self.name) {
            Ok(mut state) => {
                state.files[self.file].sync();
                Ok(())
            }
            Err((mut state, _, error)) => {
                // Not when the power is off or the process gone: then nothing happens to the cache any more.
                if state.process == self.process && state.power_off_in != Some(0) {
                    state.files[self.file].unsynced.clear();
                }
                Err(error)
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.begin(DiskOperation::Read)?.files[self.file].live.len() as u64)
    }
}
