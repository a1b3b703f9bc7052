//! The data directory: made, locked, and known to be the right one, before anything in it is touched. Runs at start.
//!
//! ```text
//! DIR/            mode 0700
//!   lock          locked (flock) while a node runs; holds its pid
//!   identity      whose data these are (see `identity`)
//!   term          term and vote (see `slots`)
//!   wal/          the log's segments (see `segment`)
//!   suspect       there while the node can't vouch for all of its log (see `mark`)
//! ```

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
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
    warning: Option<String>,
    /// Where it is, if that is a place in a file system.
    path: Option<PathBuf>,
    _lock: Option<File>,
}

impl DataDir {
    /// Opens the directory at `path`, or makes it, parents too.
    pub fn open(path: &Path, wanted: &Wanted) -> Result<DataDir, OpenError> {
        DataDir::open_path(path, wanted).map_err(|error| match error {
            OpenError::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // Where there is one, another would be another instance, whose vote never counts.
                let way_out = match path.is_dir() {
                    true => "run the node as the directory's owner",
                    false => "run the node as a user who may make it, or name a directory elsewhere",
                };
                OpenError::Configuration(format!("{error}; {way_out}"))
            }
            other => other,
        })
    }

    /// Whether a node runs on the directory at `path`.
    pub fn is_in_use(path: &Path) -> bool {
        let Ok(file) = File::open(path.join(LOCK_FILE)) else { return false };
        let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
        locked == Err(rustix::io::Errno::WOULDBLOCK)
    }

    fn open_path(path: &Path, wanted: &Wanted) -> Result<DataDir, OpenError> {
        create_directory(path)?;
        let warning = check_is_ours(path)?;
        let lock = lock(path)?;
        let disk = RealDisk::open(path)?;
        let identity = Identity::open(&disk, wanted, InstanceId(random_u128()?));
        let identity = identity.map_err(|error| error.in_directory(path))?;
        Ok(DataDir { disk: Arc::new(disk), identity, warning, path: Some(path.to_path_buf()), _lock: Some(lock) })
    }

    /// The same on any disk, without a lock. `fresh` becomes the instance id if there is none yet.
    pub fn on(disk: Arc<dyn Disk>, wanted: &Wanted, fresh: InstanceId) -> Result<DataDir, OpenError> {
        let identity = Identity::open(&*disk, wanted, fresh)?;
        Ok(DataDir { disk, identity, warning: None, path: None, _lock: None })
    }

    /// What the operator should know about it, once the node has said who it is.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// `None`: on a disk that is in no file system.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
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

/// Refuses a directory that holds something else (`--data-dir /tmp` by mistake), and closes ours to other users; then
/// it gives a warning.
fn check_is_ours(path: &Path) -> Result<Option<String>, OpenError> {
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
        return Ok(Some(format!("{} had mode {mode:03o}; it has {MODE:03o} now", path.display())));
    }
    Ok(None)
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

/// 128 bits of the system's randomness: for ids that must never meet.
pub fn random_u128() -> io::Result<u128> {
    let mut bytes = [0; 16];
    // The same file on every system that has rustix's other calls; getrandom is Linux's alone.
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(|error| file_error("read", "/dev/urandom", error))?;
    Ok(u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeId;
    use crate::disk::{DiskOperation, MemoryDisk};

    fn wanted(node: u32, cluster_name: &str) -> Wanted {
        Wanted { node: NodeId::new(node).unwrap(), cluster_name: cluster_name.into() }
    }

    fn configuration(result: Result<DataDir, OpenError>) -> String {
        match result {
            Err(OpenError::Configuration(message)) => message,
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("it opened"),
        }
    }

    fn damaged(result: Result<DataDir, OpenError>) -> String {
        match result {
            Err(OpenError::Damaged(damage)) => damage.to_string(),
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("it opened"),
        }
    }

    fn on(disk: &MemoryDisk, wanted: &Wanted) -> Result<DataDir, OpenError> {
        DataDir::on(disk.attach(), wanted, InstanceId(5))
    }

    #[test]
    fn a_new_directory_is_closed_to_others_and_keeps_its_identity() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b/node1");
        let mut first = DataDir::open(&path, &wanted(1, "demo")).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(first.cluster_id(), None);
        first.record_cluster_id(ClusterId(9)).unwrap();
        let instance = first.instance();
        drop(first);
        let again = DataDir::open(&path, &wanted(1, "demo")).unwrap();
        assert_eq!((again.instance(), again.cluster_id()), (instance, Some(ClusterId(9))));
        let other = DataDir::open(&parent.path().join("other"), &wanted(1, "demo")).unwrap();
        assert_ne!(other.instance(), instance, "each directory mints its own");
    }

    #[test]
    fn an_open_directory_is_locked_and_the_message_names_the_holder() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("node1");
        let held = DataDir::open(&path, &wanted(1, "demo")).unwrap();
        let message = configuration(DataDir::open(&path, &wanted(1, "demo")));
        assert!(message.contains(&format!("in use by process {}", std::process::id())), "{message}");
        drop(held);
        assert!(DataDir::open(&path, &wanted(1, "demo")).is_ok());
    }

    #[test]
    fn a_file_and_a_directory_of_other_things_are_refused_and_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("letter"), "dear").unwrap();
        let mode = parent.path().metadata().unwrap().mode();
        let message = configuration(DataDir::open(parent.path(), &wanted(1, "demo")));
        assert!(message.contains("letter"), "{message}");
        assert_eq!(parent.path().metadata().unwrap().mode(), mode);
        let message = configuration(DataDir::open(&parent.path().join("letter"), &wanted(1, "demo")));
        assert!(message.contains("is a file"), "{message}");
    }

    #[test]
    fn the_wal_works_on_the_real_disk() {
        use crate::base::{Entry, EntryKind, HardState, LogIndex, PersistSeq, Term};
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("node1");
        let settings = crate::disk::WalSettings {
            segment_bytes: 32 * 1024,
            entry_bytes_max: 4096,
            ..crate::disk::WalSettings::default()
        };
        let entry = |index| Entry {
            index: LogIndex(index),
            term: Term(1),
            kind: EntryKind::Commands,
            data: vec![index as u8; 3000].into(),
        };
        for life in 0..3 {
            let data_dir = DataDir::open(&path, &wanted(1, "demo")).unwrap();
            assert!(data_dir.disk().free_bytes().unwrap() > 0);
            let mut opened = crate::disk::Wal::open(data_dir.disk(), settings.clone(), None).unwrap();
            assert_eq!(opened.recovered.log.last_index, LogIndex(life * 10));
            let hard_state = Some(HardState { term: Term(1), vote: NodeId::new(1) });
            for index in life * 10 + 1..=life * 10 + 10 {
                let entries = vec![entry(index)];
                let persist = crate::raft::Persist {
                    seq: PersistSeq(index),
                    cut_from: None,
                    hard_state,
                    entries,
                    messages: vec![],
                };
                opened.wal.persist(&[persist]).unwrap();
                if let Some(job) = opened.wal.wants_segment() {
                    opened.wal.add_segment(job.run(&*data_dir.disk(), crate::disk::Pace::HalfTheTime).unwrap());
                }
            }
            let read = opened.reader.read(LogIndex(1), LogIndex(u64::MAX), usize::MAX).unwrap();
            assert_eq!(read, (1..=life * 10 + 10).map(entry).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_wrong_id_cluster_or_version_says_which_and_why() {
        let disk = MemoryDisk::new();
        on(&disk, &wanted(2, "demo")).unwrap();
        let message = configuration(on(&disk, &wanted(3, "demo")));
        assert!(message.contains("belongs to node 2") && message.contains("told to be node 3"), "{message}");
        let message = configuration(on(&disk, &wanted(2, "prod")));
        assert!(message.contains("cluster 'demo'") && message.contains("join 'prod'"), "{message}");
        let text = String::from_utf8(disk.contents(IDENTITY_FILE).unwrap()).unwrap();
        let body = text[..text.find("checksum").unwrap()].replace("format: 2", "format: 3");
        let newer = format!("{body}checksum: {:08x}\n", crc32fast::hash(body.as_bytes()));
        disk.alter(IDENTITY_FILE, 0, newer.as_bytes());
        let message = configuration(on(&disk, &wanted(2, "demo")));
        assert!(message.contains("format version 3") && message.contains("knows 2"), "{message}");
    }

    #[test]
    fn every_flipped_bit_of_the_identity_refuses_the_start() {
        let disk = MemoryDisk::new();
        on(&disk, &wanted(2, "demo")).unwrap().record_cluster_id(ClusterId(0xabc)).unwrap();
        let bytes = disk.contents(IDENTITY_FILE).unwrap();
        for bit in 0..bytes.len() * 8 {
            disk.alter(IDENTITY_FILE, bit / 8, &[bytes[bit / 8] ^ 1 << (bit % 8)]);
            damaged(on(&disk, &wanted(2, "demo")));
            disk.alter(IDENTITY_FILE, bit / 8, &bytes[bit / 8..=bit / 8]);
        }
        assert!(on(&disk, &wanted(2, "demo")).is_ok());
    }

    #[test]
    fn a_log_without_an_identity_refuses_the_start() {
        let disk = MemoryDisk::new();
        let data_dir = on(&disk, &wanted(2, "demo")).unwrap();
        crate::disk::Wal::open(data_dir.disk(), crate::disk::WalSettings::default(), None).unwrap();
        disk.lose(IDENTITY_FILE);
        assert!(damaged(on(&disk, &wanted(2, "demo"))).contains("whose data these are"));
    }

    /// Mutants: the identity's file or its folder is not synced.
    #[test]
    fn the_identity_is_there_whenever_the_power_goes() {
        for off_at in 1..12 {
            let disk = MemoryDisk::new();
            disk.power_off_at(off_at);
            let mut data_dir = on(&disk, &wanted(2, "demo"));
            let made = data_dir.is_ok();
            let recorded = data_dir.as_mut().is_ok_and(|dir| dir.record_cluster_id(ClusterId(7)).is_ok());
            for names_kept in [0, usize::MAX] {
                let disk = disk.fork();
                disk.crash_with(crate::disk::Crash {
                    sector: &mut |_, _| crate::disk::Fate::Lost,
                    names: &mut |unsynced| unsynced.min(names_kept),
                });
                let found = DataDir::on(disk.attach(), &wanted(2, "demo"), InstanceId(6)).unwrap();
                assert!(!made || found.instance() == InstanceId(5), "off at {off_at}");
                assert!(!recorded || found.cluster_id() == Some(ClusterId(7)), "off at {off_at}");
            }
        }
    }

    /// Mutant: an identity that is read is believed although its name may be in the cache alone.
    #[test]
    fn an_identity_that_was_read_is_durable() {
        let disk = MemoryDisk::new();
        let mut data_dir = on(&disk, &wanted(2, "demo")).unwrap();
        disk.fail_nth(DiskOperation::SyncDir, 1);
        data_dir.record_cluster_id(ClusterId(7)).unwrap_err();
        disk.kill();
        let found = on(&disk, &wanted(2, "demo")).unwrap().cluster_id();
        disk.crash();
        assert_eq!(on(&disk, &wanted(2, "demo")).unwrap().cluster_id(), found);
    }

    #[test]
    fn an_identity_that_can_not_be_written_leaves_the_old_one() {
        for operation in DiskOperation::ALL {
            let disk = MemoryDisk::new();
            let mut data_dir = on(&disk, &wanted(2, "demo")).unwrap();
            disk.fail_nth(operation, 1);
            let _ = data_dir.record_cluster_id(ClusterId(7));
            disk.kill();
            assert_eq!(on(&disk, &wanted(2, "demo")).unwrap().instance(), InstanceId(5), "{operation:?}");
        }
    }
}
