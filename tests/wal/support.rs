//! What the tests share: entries, a log kept beside the real one, and how the two are compared.

use std::sync::Arc;

use bytes::Bytes;
use raftkv::base::{
    ClusterId, Entry, EntryKind, HardState, LogIndex, Member, Members, NodeId, PersistSeq, Random, Term,
};
use raftkv::disk::{MemoryDisk, OpenError, Opened, Wal, WalError, WalSettings};
use raftkv::raft::Persist;

pub const SEGMENT_BYTES: u64 = 16 * 1024;
pub const CLUSTER: ClusterId = ClusterId(77);

pub fn settings() -> WalSettings {
    WalSettings { segment_bytes: SEGMENT_BYTES, log_memory_bytes_max: 1 << 20, entry_bytes_max: 8 * 1024 }
}

pub fn open(disk: &MemoryDisk) -> Result<Opened, OpenError> {
    Wal::open(disk.attach(), settings(), None)
}

pub fn open_sound(disk: &MemoryDisk) -> Opened {
    open(disk).unwrap_or_else(|error| panic!("the start was refused: {error}"))
}

pub fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let data: Bytes = (0..bytes).map(|i| (i as u64 * 7 + index * 31 + term * 101) as u8 | 1).collect();
    Entry { index: LogIndex(index), term: Term(term), kind: EntryKind::Commands, data }
}

pub fn members_entry(index: u64, term: u64, address: &str) -> (Entry, Arc<Members>) {
    let member = Member { id: NodeId::new(1).unwrap(), instance: None, address: address.into() };
    let members = Members { cluster: CLUSTER, voters: vec![member], outgoing: vec![], learners: vec![] };
    let entry = Entry { kind: EntryKind::Members, data: members.encode(), ..entry(index, term, 0) };
    (entry, Arc::new(members))
}

pub fn hard_state(term: u64, vote: u32) -> HardState {
    HardState { term: Term(term), vote: NodeId::new(vote) }
}

pub fn persist(hard_state: Option<HardState>, entries: Vec<Entry>) -> Persist {
    Persist { seq: PersistSeq(0), cut_from: None, hard_state, entries, messages: vec![] }
}

/// A log of the first `count` entries, of term 1, each in a batch of its own.
pub fn disk_with(count: u64, bytes: usize) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut wal = open_sound(&disk).wal;
    wal.persist(&[persist(Some(hard_state(1, 1)), vec![])]).unwrap();
    for index in 1..=count {
        wal.persist(&[persist(None, vec![entry(index, 1, bytes)])]).unwrap();
    }
    disk.kill();
    disk
}

/// What a log should hold, kept the simplest way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub hard_state: HardState,
    pub log: Vec<Entry>,
}

impl Model {
    pub fn push(&mut self, entry: &Entry) {
        self.log.truncate(entry.index.0 as usize - 1);
        self.log.push(entry.clone());
    }

    pub fn apply(&mut self, batch: &[Persist]) {
        for persist in batch {
            self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
            persist.entries.iter().for_each(|entry| self.push(entry));
        }
    }

    /// What may be found when the process ended during `batch`: nothing of it, its term and vote, and then its
    /// entries up to any.
    pub fn outcomes_of(&self, batch: &[Persist]) -> Vec<Model> {
        let mut model = self.clone();
        let mut outcomes = vec![model.clone()];
        model.hard_state = batch.iter().rev().find_map(|persist| persist.hard_state).unwrap_or(model.hard_state);
        outcomes.push(model.clone());
        for entry in batch.iter().flat_map(|persist| &persist.entries) {
            model.push(entry);
            outcomes.push(model.clone());
        }
        outcomes
    }

    /// A batch of one to three persists as consensus could ask for: a new term, a vote, entries, replaced entries.
    pub fn next_batch(&self, random: &mut Random) -> Vec<Persist> {
        let mut ahead = self.clone();
        (0..=random.below(3))
            .map(|_| {
                let persist = ahead.next_persist(random);
                ahead.apply(std::slice::from_ref(&persist));
                persist
            })
            .collect()
    }

    fn next_persist(&self, random: &mut Random) -> Persist {
        let Term(mut term) = self.hard_state.term;
        let mut state = None;
        if term == 0 || random.below(4) == 0 {
            term += 1;
            state = Some(hard_state(term, random.below(3) as u32));
        }
        let last = self.log.len() as u64;
        let replaced = if state.is_some() { random.below(4.min(last + 1)) } else { 0 };
        let count = random.below(4);
        let bytes = [0, 40, 700, 3000][random.below(4) as usize];
        persist(state, (1..=count).map(|i| entry(last - replaced + i, term, bytes)).collect())
    }
}

/// What was recovered, read back whole through the reader, and compared to what the start kept in memory.
pub fn model_of(opened: &Opened) -> Model {
    let log = &opened.recovered.log;
    let entries = opened.reader.read(LogIndex(1), LogIndex(u64::MAX), usize::MAX).expect("what was recovered is read");
    assert_eq!(entries.len() as u64, log.last_index.0);
    assert!(entries.iter().zip(1..).all(|(entry, index)| entry.index == LogIndex(index)));
    assert!(entries.ends_with(&log.entries), "memory and disk hold different entries");
    for entry in &entries {
        let run = log.term_runs.iter().rfind(|(first, _)| *first <= entry.index);
        assert_eq!(run.map(|(_, term)| *term), Some(entry.term), "the term of entry {}", entry.index);
    }
    Model { hard_state: opened.recovered.hard_state, log: entries }
}

/// Hands out batches until one fails; what was acknowledged is in the model, and what failed is the answer.
pub fn work(opened: &mut Opened, model: &mut Model, random: &mut Random, batches: usize) -> Option<Vec<Persist>> {
    for _ in 0..batches {
        let batch = model.next_batch(random);
        match opened.wal.persist(&batch) {
            Ok(()) => model.apply(&batch),
            Err(WalError::Failed(_)) => return Some(batch),
            Err(WalError::Stopped(first)) => panic!("the wal stopped before it failed: {first}"),
        }
    }
    None
}
