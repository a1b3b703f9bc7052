//! The real disk: files below one directory of the operating system. Any thread.
//!
//! Syncing is `File::sync_data`: fdatasync on Linux, F_FULLFSYNC on macOS (the standard library asks for the full
//! flush there, since a plain fsync leaves data in the drive's cache).
//!
//! What goes around the page cache on Linux (`O_DIRECT`) is on its way to the device when the write returns; an fsync
//! has a flush left to do, and no pages to look for. Reads of the same file see it: the system drops the pages that it
//! replaces.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::disk::{Disk, DiskFile, check_blocks, file_error};
use super::sector::BLOCK_BYTES;

/// An existing directory. [`super::DataDir`] makes and locks it.
pub struct RealDisk {
    root: PathBuf,
    around_cache: Arc<AroundCache>,
}

impl RealDisk {
    pub fn open(root: impl Into<PathBuf>) -> io::Result<RealDisk> {
        let root = root.into();
        if !root.metadata().map_err(|error| shown("open", &root, error))?.is_dir() {
            let error = io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory");
            return Err(shown("open", &root, error));
        }
        Ok(RealDisk { root, around_cache: Arc::default() })
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn open_with(&self, doing: &'static str, name: &str, options: &mut OpenOptions) -> io::Result<RealFile> {
        let path = self.path(name);
        let file =
            options.read(true).write(true).mode(0o600).open(&path).map_err(|error| shown(doing, &path, error))?;
        Ok(RealFile { file, path, direct: OnceLock::new(), around_cache: Arc::clone(&self.around_cache) })
    }
}

fn shown(doing: &'static str, path: &Path, error: io::Error) -> io::Error {
    file_error(doing, path.display().to_string(), error)
}

/// Makes a directory's entries durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| shown("sync the directory", path, error))
}

impl Disk for RealDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.open_with("open", name, &mut OpenOptions::new())?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.open_with("create", name, OpenOptions::new().create(true).truncate(true))?))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => {
                Err(shown("create the directory", &path, error))
            }
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let path = self.path(from);
        std::fs::rename(&path, self.path(to)).map_err(|error| shown("rename", &path, error))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        std::fs::remove_file(&path).map_err(|error| shown("remove", &path, error))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let path = self.path(dir);
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&path)? {
                // A name that is not UTF-8 is none of ours; shown as well as it can be.
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        };
        read().map_err(|error| shown("list", &path, error))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_directory(&self.path(dir))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.root)
            .map_err(|error| shown("ask for the free space of", &self.root, error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

struct RealFile {
    file: File,
    path: PathBuf,
    /// The same file, written to around the page cache; `None`: the system does not let it.
    direct: OnceLock<Option<File>>,
    around_cache: Arc<AroundCache>,
}

/// What the files of a disk share that are written to around the page cache.
#[derive(Default)]
struct AroundCache {
    /// The system has refused once: it is not asked again.
    is_refused: AtomicBool,
    copy: Mutex<Copy>,
}

/// Bytes where the system wants them to lie that it takes from memory by itself.
#[derive(Default)]
struct Copy(Vec<u8>);

impl Copy {
    /// Starts at a multiple of [`BLOCK_BYTES`].
    fn of(&mut self, bytes: &[u8]) -> &[u8] {
        let block = BLOCK_BYTES as usize;
        let needed = bytes.len() + block;
        if self.0.len() < needed {
            self.0.resize(needed, 0);
        }
        let start = self.0.as_ptr().align_offset(block);
        let copy = &mut self.0[start..start + bytes.len()];
        copy.copy_from_slice(bytes);
        copy
    }
}

impl AroundCache {
    /// Nobody who needs no copy waits for who does: the wal not for the background thread's zeros.
    fn write(&self, file: &File, offset: u64, blocks: &[u8]) -> io::Result<()> {
        if blocks.as_ptr().align_offset(BLOCK_BYTES as usize) == 0 {
            return file.write_all_at(blocks, offset);
        }
        file.write_all_at(self.copy.lock().of(blocks), offset)
    }

    fn note_refusal(&self, path: &Path) {
        if self.is_refused.swap(true, Ordering::Relaxed) {
            return;
        }
        let path = path.display();
        log::info!("log: {path} can't be written around the page cache here (O_DIRECT): fsyncs take a little longer");
    }
}

impl RealFile {
    /// False: the system does not take it this way, and nothing is known to be written.
    fn write_around_cache(&self, offset: u64, blocks: &[u8]) -> io::Result<bool> {
        if self.around_cache.is_refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let direct = self.direct.get_or_init(|| open_around_cache(&self.file));
        match direct.as_ref().map(|direct| self.around_cache.write(direct, offset, blocks)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
            Some(Ok(())) => Ok(true),
            None | Some(Err(_)) => {
                self.around_cache.note_refusal(&self.path);
                Ok(false)
            }
        }
    }
}

/// By its descriptor: its name may be another one by now.
#[cfg(target_os = "linux")]
fn open_around_cache(file: &File) -> Option<File> {
    use std::os::fd::AsRawFd;
    let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
    let same = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(flags).open(same).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_around_cache(_: &File) -> Option<File> {
    None
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| shown("read", &self.path, error))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| shown("write", &self.path, error))
    }

    fn write_blocks(&self, offset: u64, blocks: &[u8]) -> io::Result<()> {
        check_blocks(offset, blocks);
        match self.write_around_cache(offset, blocks) {
            Ok(true) => Ok(()),
            Ok(false) => self.write_at(offset, blocks),
            Err(error) => Err(shown("write", &self.path, error)),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|error| shown("sync", &self.path, error))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(|error| shown("ask for the length of", &self.path, error))?.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const BLOCK: usize = BLOCK_BYTES as usize;

    fn file_of_zeros(folder: &tempfile::TempDir, bytes: usize) -> RealFile {
        let disk = RealDisk::open(folder.path()).unwrap();
        let file = disk.open_with("create", "file", OpenOptions::new().create(true)).unwrap();
        file.write_at(0, &vec![0; bytes]).unwrap();
        file.sync_data().unwrap();
        file
    }

    fn went_around(file: &RealFile) -> bool {
        file.direct.get().is_some_and(Option::is_some) && !file.around_cache.is_refused.load(Ordering::Relaxed)
    }

    #[test]
    fn what_was_written_around_the_page_cache_is_read_through_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = vec![0; 64 * BLOCK];
        let file = file_of_zeros(&folder, expected.len());
        for (i, blocks) in [1..2, 0..3, 7..57, 0..64].into_iter().enumerate() {
            let place = blocks.start * BLOCK..blocks.end * BLOCK;
            expected[place.clone()].fill(i as u8 + 1);
            file.write_blocks(place.start as u64, &expected[place]).unwrap();
            let mut read = vec![0; expected.len()];
            file.read_at(0, &mut read).unwrap();
            assert!(read == expected, "write {i}");
        }
        assert_eq!(went_around(&file), open_around_cache(&file.file).is_some());
    }

    #[test]
    fn what_lies_at_a_block_in_memory_is_written_while_another_thread_has_the_copy() {
        #[repr(align(4096))]
        struct Blocks([u8; 3 * BLOCK]);
        static SEVENS: Blocks = Blocks([7; 3 * BLOCK]);
        let folder = tempfile::tempdir().unwrap();
        let file = file_of_zeros(&folder, BLOCK);
        let behind_the_end = BLOCK as u64;
        let held = file.around_cache.copy.lock();
        std::thread::scope(|scope| {
            let written = scope.spawn(|| file.write_blocks(behind_the_end, &SEVENS.0));
            let deadline = Instant::now() + Duration::from_secs(20);
            while !written.is_finished() && Instant::now() < deadline {
                std::thread::yield_now();
            }
            assert!(written.is_finished(), "it waits for the copy");
            drop(held);
            written.join().unwrap().unwrap();
        });
        assert_eq!(went_around(&file), open_around_cache(&file.file).is_some());
        let mut read = [1; 4 * BLOCK];
        file.read_at(0, &mut read).unwrap();
        assert!(read[..BLOCK] == [0; BLOCK] && read[BLOCK..] == SEVENS.0);
        assert_eq!(file.len().unwrap(), read.len() as u64);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_refused_around_the_page_cache_goes_through_it_and_is_not_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_of_zeros(&folder, 2 * BLOCK);
        // A file that says EINVAL to what is no number.
        let refusing = OpenOptions::new().write(true).open("/proc/self/oom_score_adj").unwrap();
        file.direct.set(Some(refusing)).unwrap();
        for at in [0, 1] {
            let blocks = vec![7 + at as u8; BLOCK];
            file.write_blocks((at * BLOCK) as u64, &blocks).unwrap();
            let mut read = vec![0; BLOCK];
            file.read_at((at * BLOCK) as u64, &mut read).unwrap();
            assert!(read == blocks && file.around_cache.is_refused.load(Ordering::Relaxed), "block {at}");
        }
    }

    #[test]
    #[should_panic(expected = "whole blocks")]
    fn what_is_no_whole_block_is_a_mistake_and_never_goes_another_way() {
        let folder = tempfile::tempdir().unwrap();
        let _ = file_of_zeros(&folder, 2 * BLOCK).write_blocks(512, &[7; BLOCK]);
    }
}
