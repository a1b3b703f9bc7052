//! The real disk: files below one directory of the operating system. Any thread.
//!
//! Syncing is `File::sync_data`: fdatasync on Linux, F_FULLFSYNC on macOS (the standard library asks for the full
//! flush there, since a plain fsync leaves data in the drive's cache).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile, file_error};

/// An existing directory. [`super::DataDir`] makes and locks it.
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    pub fn open(root: impl Into<PathBuf>) -> io::Result<RealDisk> {
        let root = root.into();
        if !root.metadata().map_err(|error| shown("open", &root, error))?.is_dir() {
            let error = io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory");
            return Err(shown("open", &root, error));
        }
        Ok(RealDisk { root })
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn open_with(&self, doing: &'static str, name: &str, options: &mut OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(name);
        let file =
            options.read(true).write(true).mode(0o600).open(&path).map_err(|error| shown(doing, &path, error))?;
        Ok(Arc::new(RealFile { file, path }))
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
        self.open_with("open", name, &mut OpenOptions::new())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with("create", name, OpenOptions::new().create(true).truncate(true))
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
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| shown("read", &self.path, error))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| shown("write", &self.path, error))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|error| shown("sync", &self.path, error))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(|error| shown("ask for the length of", &self.path, error))?.len())
    }
}
