//! The data directory: made, locked, and known to be the right one, before anything in it is touched. Runs at start.
//!
//! ```text
//! DIR/            mode 0700
//!   lock          locked (flock) while a node runs; holds its pid
//!   identity      whose data these are (see `identity`)
//!   term          term and vote (see `slots`)
//!   wal/          the log's segments (see `segment`)
//! ```

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, file_error};
use super::error::OpenError;
pub use super::identity::Wanted;
use super::identity::{IDENTITY_FILE, Identity};
use super::real::{RealDisk, sync_directory};
use super::segment::WAL_DIR;
use super::slots::TERM_FILE;
use crate::base::{ClusterId, InstanceId};

const LOCK_FILE: &str = "lock";
const MODE: u32 = 0o700;

/// An opened data directory. The lock is held until it is dropped.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    identity: Identity,
    _lock: Option<File>,
}

impl DataDir {
    /// Opens the directory at `path`, or makes it, parents too.
    pub fn open(path: &Path, wanted: &Wanted) -> Result<DataDir, OpenError> {
        DataDir::open_path(path, wanted).map_err(|error| match error {
            OpenError::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => OpenError::Configuration(
                format!("{error}; run the node as the directory's owner, or give it another data directory"),
            ),
            other => other,
        })
    }

    fn open_path(path: &Path, wanted: &Wanted) -> Result<DataDir, OpenError> {
        create_directory(path)?;
        check_is_ours(path)?;
        let lock = lock(path)?;
        let disk = RealDisk::open(path)?;
        let identity = Identity::open(&disk, wanted, mint_instance()?)?;
        Ok(DataDir { disk: Arc::new(disk), identity, _lock: Some(lock) })
    }

    /// The same on any disk, without a lock. `fresh` becomes the instance id if there is none yet.
    pub fn on(disk: Arc<dyn Disk>, wanted: &Wanted, fresh: InstanceId) -> Result<DataDir, OpenError> {
        let identity = Identity::open(&*disk, wanted, fresh)?;
        Ok(DataDir { disk, identity, _lock: None })
    }

    pub fn instance(&self) -> InstanceId {
        self.identity.instance
    }

    /// `None` until [`DataDir::record_cluster_id`].
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.identity.cluster
    }

    /// Durable when it returns. To be called only once the log durably holds the Members entry that names the id: from
    /// then on an empty log is taken for a lost one.
    ///
    /// # Panics
    /// If another id is recorded already: a directory never changes its cluster.
    pub fn record_cluster_id(&mut self, cluster: ClusterId) -> Result<(), OpenError> {
        if let Some(recorded) = self.identity.cluster {
            assert_eq!(recorded, cluster, "a data directory never changes its cluster");
            return Ok(());
        }
        let identity = Identity { cluster: Some(cluster), ..self.identity.clone() };
        identity.write(&*self.disk)?;
        self.identity = identity;
        Ok(())
    }

    pub fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }
}

fn shown(doing: &'static str, path: &Path, error: io::Error) -> OpenError {
    file_error(doing, path.display().to_string(), error).into()
}

/// Makes the directory and what is missing above it; each new name is made durable.
fn create_directory(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Ok(());
    }
    if path.exists() {
        let message = format!("the data directory {} is a file; give another path", path.display());
        return Err(OpenError::Configuration(message));
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    create_directory(parent)?;
    match DirBuilder::new().mode(MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(shown("create the directory", path, error));
        }
        _ => {}
    }
    Ok(sync_directory(parent)?)
}

/// Refuses a directory that holds something else (`--data-dir /tmp` by mistake), and closes ours to other users.
fn check_is_ours(path: &Path) -> Result<(), OpenError> {
    let names = RealDisk::open(path)?.list("")?;
    let ours = |name: &String| [IDENTITY_FILE, TERM_FILE, WAL_DIR].contains(&name.as_str());
    let harmless = |name: &String| name == LOCK_FILE || name == "lost+found" || name.ends_with(".new");
    if !names.iter().any(ours)
        && let Some(other) = names.iter().find(|name| !harmless(name))
    {
        return Err(OpenError::Configuration(format!(
            "{} is no raftkv data directory and not empty (it holds {other:?}); give a new or an empty one",
            path.display()
        )));
    }
    let mode = path.metadata().map_err(|error| shown("open", path, error))?.mode() & 0o777;
    if mode != MODE {
        let permissions = Permissions::from_mode(MODE);
        std::fs::set_permissions(path, permissions).map_err(|error| shown("set the mode of", path, error))?;
        log::warn!("{} had mode {mode:03o}; it has {MODE:03o} now", path.display());
    }
    Ok(())
}

/// One node a directory. The kernel drops the lock with the process, however it ends.
fn lock(path: &Path) -> Result<File, OpenError> {
    let path = path.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(|error| shown("open", &path, error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(locked_by(&mut file, &path)),
        Err(error) => return Err(shown("lock", &path, error.into())),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| shown("write", &path, error))?;
    Ok(file)
}

fn locked_by(file: &mut File, path: &Path) -> OpenError {
    let mut pid = String::new();
    // What can't be read is only missing from the message.
    let _ = file.take(32).read_to_string(&mut pid);
    let holder = if pid.trim().is_empty() { "another process".into() } else { format!("process {}", pid.trim()) };
    OpenError::Configuration(format!(
        "the data directory {} is in use by {holder}; stop it first, or give this node a directory of its own",
        path.parent().unwrap_or(path).display()
    ))
}

fn mint_instance() -> Result<InstanceId, OpenError> {
    let mut bytes = [0; 16];
    // The same file on every system that has rustix's other calls; getrandom is Linux's alone.
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(|error| shown("read", Path::new("/dev/urandom"), error))?;
    Ok(InstanceId(u128::from_be_bytes(bytes)))
}
