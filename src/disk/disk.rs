//! What storage asks of an operating system: a handful of named files below one directory.
//!
//! Everything durable goes through these two traits, so that the write-ahead log and its recovery run unchanged on
//! a disk that forgets, tears and fails ([`super::MemoryDisk`]). Any thread may call; nothing here decides anything.

use std::io;
use std::sync::Arc;

use super::sector::BLOCK_BYTES;

/// A directory and its files. Names are relative to it, with `/` between a folder and a file; `""` is the directory
/// itself. A change of a name (create, rename, remove) is durable only once `sync_dir` of its folder returned.
pub trait Disk: Send + Sync {
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes an empty file; one that exists is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a folder, mode 0700; one that exists is left as it is.
    fn create_dir(&self, name: &str) -> io::Result<()>;
    /// Replaces `to` if it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names in a folder, ascending, without the folder's own.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// What a file could still grow by, as far as the file system tells.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Several threads may use it at once, at offsets that don't overlap.
pub trait DiskFile: Send + Sync {
    /// Fills `buffer` or fails; a file that ends before is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` or fails; after a failure any part of them may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// The same for whole blocks (4 KiB) that are synced next and not read soon: around the page cache, where there is
    /// one and it can be passed by. The next `sync_data` is quicker for it. The file may grow by them. Bytes that begin
    /// at a multiple of a block in memory are written as they lie: without a copy, and without waiting for another
    /// thread's write.
    ///
    /// # Panics
    /// If `offset` or the length is no multiple of a block.
    fn write_blocks(&self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        check_blocks(offset, blocks);
        self.write_at(offset, blocks)
    }
    /// Makes what was written, and the length, durable. After a failure nothing is known of what was written since
    /// the last success, and asking again proves nothing: never retry.
    fn sync_data(&self) -> io::Result<()>;
    /// In bytes.
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|length| length == 0)
    }
}

pub(super) fn check_blocks(offset: u64, blocks: &[u8]) {
    let (block, length) = (BLOCK_BYTES, blocks.len() as u64);
    assert!(offset.is_multiple_of(block) && length.is_multiple_of(block), "whole blocks: {length} bytes at {offset}");
}

/// An operating error together with what was tried on which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {name}: {source}")]
struct FileError {
    doing: &'static str,
    name: String,
    source: io::Error,
}

/// Names the file in an error; the kind stays, the original is its source.
pub(super) fn file_error(doing: &'static str, name: impl Into<String>, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), FileError { doing, name: name.into(), source })
}

/// Whether what failed may succeed once there is room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Reads a small file whole. `bytes_max` is checked before anything is allocated.
pub(super) fn read_small(disk: &dyn Disk, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let length = file.len()?;
    if length > bytes_max {
        let message = format!("{name} has {length} bytes, and {bytes_max} is the most it can have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut bytes = vec![0; usize::try_from(length).expect("bounded just above")];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Replaces a small file so that at any moment either the old or the new one is there: write beside it, fsync,
/// rename over it, fsync the folder.
pub(super) fn replace_small(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = format!("{name}.new");
    let file = disk.create(&beside)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&beside, name)?;
    disk.sync_dir(folder_of(name))
}

/// The folder that holds `name`.
pub(super) fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}
