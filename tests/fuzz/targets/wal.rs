//! Recovery, on a data directory that was edited.

use std::sync::OnceLock;

use raftkv::base::limits::DATA_FORMAT_VERSION;
use raftkv::base::{ClusterId, Entry, EntryKind, HardState, LogIndex, Member, Members, NodeId, PersistSeq, Term};
use raftkv::disk::{MemoryDisk, OpenError, Opened, Wal, WalSettings};
use raftkv::raft::Persist;

use super::edits::{self, Files};
use super::peak_bytes;
use super::storage::COUNTER_MAX;

/// What recovery may hold for these small logs: windows, a batch, and what the disk in memory keeps itself.
const OPEN_BYTES_MAX: usize = 4 * 1024 * 1024;

// The edits seal what they change as this version does.
const _: () = assert!(DATA_FORMAT_VERSION == 2);

/// A directory in which everything was acknowledged: two terms' worth of entries that were replaced, members, several
/// batches in each of three segments.
pub struct Truth {
    disk: MemoryDisk,
    pub files: Files,
    /// Everything that was ever written, also what was replaced later.
    written: Vec<Entry>,
    /// At the end.
    pub log: Vec<Entry>,
    pub hard_state: HardState,
}

pub fn truth() -> &'static Truth {
    static TRUTH: OnceLock<Truth> = OnceLock::new();
    TRUTH.get_or_init(Truth::make)
}

fn settings() -> WalSettings {
    WalSettings { segment_bytes: 16 * 1024, log_memory_bytes_max: 2048, entry_bytes_max: 3 * 1024 }
}

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let seed = index.wrapping_mul(31).wrapping_add(term.wrapping_mul(101));
    let data = (0..bytes as u64).map(|i| seed.wrapping_add(i * 7) as u8 | 1).collect();
    Entry { index: LogIndex(index), term: Term(term), kind: EntryKind::Commands, data }
}

fn members(index: u64, term: u64) -> Entry {
    let member = Member { id: NodeId::new(1).unwrap(), instance: None, address: "a:1".into() };
    let members = Members { cluster: ClusterId(77), voters: vec![member], outgoing: vec![], learners: vec![] };
    Entry { kind: EntryKind::Members, data: members.encode(), ..entry(index, term, 0) }
}

fn persist(hard_state: HardState, entries: Vec<Entry>) -> Persist {
    Persist { seq: PersistSeq(0), cut_from: None, hard_state: Some(hard_state), entries, messages: vec![] }
}

fn voted(term: Term) -> HardState {
    HardState { term, vote: NodeId::new(1) }
}

/// Refused, or opened within bounds.
pub fn open(disk: &MemoryDisk) -> Result<Opened, OpenError> {
    let (opened, peak) = peak_bytes(|| Wal::open(disk.attach(), settings(), None));
    assert!(peak <= OPEN_BYTES_MAX, "recovery held {peak} bytes, and {OPEN_BYTES_MAX} is the most");
    opened
}

pub fn files_of(disk: &MemoryDisk) -> Files {
    disk.files().into_iter().filter_map(|name| Some((name.clone(), disk.contents(&name)?))).collect()
}

impl Truth {
    fn make() -> Truth {
        let disk = MemoryDisk::new();
        let mut wal = open(&disk).expect("an empty directory gets a log").wal;
        let (mut written, mut log) = (Vec::new(), Vec::<Entry>::new());
        let noop = |index, term| Entry { kind: EntryKind::Noop, ..entry(index, term, 0) };
        for (term, entries) in [
            (1, vec![members(1, 1), noop(2, 1), entry(3, 1, 700)]),
            (1, vec![entry(4, 1, 40), entry(5, 1, 300)]),
            (2, vec![entry(4, 2, 60), members(5, 2), entry(6, 2, 1200)]),
            (2, vec![entry(7, 2, 90)]),
            (4, vec![noop(7, 4), entry(8, 4, 2000)]),
            (4, vec![entry(9, 4, 33), entry(10, 4, 0), entry(11, 4, 500)]),
            (4, vec![entry(12, 4, 1000)]),
        ] {
            written.extend_from_slice(&entries);
            log.truncate(entries[0].index.0 as usize - 1);
            log.extend_from_slice(&entries);
            wal.persist(&[persist(voted(Term(term)), entries)]).expect("the disk does not fail");
        }
        disk.kill();
        assert!(files_of(&disk).len() == 4, "a term file and three segments");
        Truth { files: files_of(&disk), disk, written, log, hard_state: voted(Term(4)) }
    }

    /// A disk with these files instead, all of them durable.
    pub fn disk_with(&self, files: &Files) -> MemoryDisk {
        let disk = self.disk.fork();
        let attached = disk.attach();
        for (name, bytes) in files.iter().filter(|(name, bytes)| self.files.get(*name) != Some(bytes)) {
            let file = attached.create(name).expect("it is a file's name");
            file.write_at(0, bytes).expect("the disk does not fail");
            file.sync_data().expect("the disk does not fail");
        }
        for folder in ["", "wal"] {
            attached.sync_dir(folder).expect("the disk does not fail");
        }
        self.files.keys().filter(|name| !files.contains_key(*name)).for_each(|name| disk.lose(name));
        disk
    }

    /// Whatever can be read was written, and what is said to be missing too.
    fn check_nothing_is_invented(&self, opened: &Opened) {
        let (log, damage) = (&opened.recovered.log, &opened.recovered.damage);
        assert_eq!(opened.recovered.hard_state, self.hard_state);
        for entry in &log.entries {
            assert!(self.written.contains(entry), "entry {} of memory was never written", entry.index);
        }
        for index in (1..=log.last_index.0).map(LogIndex) {
            let read = opened.reader.read(index, index, 0).expect("what was recovered can be read");
            let Some(missing) = damage.missing.iter().find(|missing| missing.index == index) else {
                assert!(self.written.contains(&read[0]), "entry {index} was never written");
                continue;
            };
            let is_it = |entry: &&Entry| (entry.index, entry.term) == (missing.index, missing.term);
            let lost = self.written.iter().find(is_it).expect("what is missing was written");
            assert_eq!(missing.checksum.unwrap_or(crc32fast::hash(&lost.data)), crc32fast::hash(&lost.data));
            assert_eq!(read, [], "entry {index} is missing, and read all the same");
        }
    }
}

/// Whoever edited could not make a checksum right: what is read was written, or the start is refused and changes
/// nothing.
pub fn wal_damaged(program: &[u8]) -> bool {
    let truth = truth();
    let mut files = truth.files.clone();
    edits::apply(&mut files, program);
    let disk = truth.disk_with(&files);
    let Some(opened) = accepted(&disk, &files) else { return false };
    truth.check_nothing_is_invented(&opened);
    go_on(opened, &disk).unwrap_or_else(|error| panic!("the next start is refused: {error}"));
    true
}

/// Whoever edited knows the format: anything may be read, but nothing panics, and what is acknowledged afterwards
/// stays.
pub fn wal_forged(program: &[u8]) -> bool {
    let truth = truth();
    let mut files = truth.files.clone();
    let touched = edits::apply(&mut files, program);
    edits::seal(&mut files, &touched);
    let disk = truth.disk_with(&files);
    let Some(mut opened) = accepted(&disk, &files) else { return false };
    for missing in opened.repairer.missing() {
        for entry in truth.written.iter().filter(|entry| entry.index == missing.index) {
            let _ = opened.repairer.offer(entry);
        }
    }
    let mut scrub = opened.reader.scrub();
    while scrub.step(&mut opened.repairer, 4096).is_ok_and(|step| !step.is_finished) {}
    let _ = opened.reader.read(LogIndex(1), opened.recovered.log.last_index, usize::MAX);
    // Sectors that contradict each other, each with a right checksum, may be noticed only here.
    let _ = go_on(opened, &disk);
    true
}

/// `None`: refused, and nothing was changed; or there is nothing left that it could have been.
fn accepted(disk: &MemoryDisk, files: &Files) -> Option<Opened> {
    match open(disk) {
        Ok(opened) if opened.report.created => {
            let is_left = |name: &String| name == "term" || name.ends_with(".seg");
            assert!(!files.keys().any(is_left), "a log that is there was taken for none");
            None
        }
        Ok(opened) => Some(opened),
        Err(OpenError::Io(_)) => None,
        Err(OpenError::Damaged(_) | OpenError::Configuration(_)) => {
            assert!(files_of(disk) == *files, "a start that was refused changed the disk");
            None
        }
    }
}

/// How often term and vote were written, as the first slot says.
fn term_writes(disk: &MemoryDisk) -> u64 {
    let slot = disk.contents("term").expect("an accepted log has one");
    u64::from_be_bytes(slot[12..20].try_into().expect("eight bytes"))
}

/// An accepted log takes the next entry, and a start after the power was lost gives it back, or is refused.
fn go_on(mut opened: Opened, disk: &MemoryDisk) -> Result<(), OpenError> {
    let recovered = &opened.recovered;
    if recovered.hard_state.term.0 >= COUNTER_MAX || term_writes(disk) >= COUNTER_MAX {
        return Ok(());
    }
    let state = voted(recovered.hard_state.term.next());
    let next = entry(recovered.log.last_index.0 + 1, state.term.0, 100);
    opened.wal.persist(&[persist(state, vec![next.clone()])]).expect("the disk does not fail");
    drop(opened);
    disk.crash();
    let again = open(disk)?;
    assert_eq!(again.recovered.hard_state, state);
    assert_eq!(again.recovered.log.last_index, next.index, "what was acknowledged is gone");
    assert_eq!(again.reader.read(next.index, next.index, 0).expect("it can be read"), [next]);
    Ok(())
}
