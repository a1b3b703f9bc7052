//! The store: an ordered map from key to its current record.
//!
//! Written by the consensus thread alone, read by others under the lock of `net::Served`. Keys and values are copied
//! into memory of their exact size: a slice of a network buffer would keep the whole buffer alive for as long as one
//! small value is stored.

use std::ops::Bound;

use bytes::Bytes;
use smallvec::SmallVec;

use super::digest::Digest;
use super::keys::Sought;
use super::tree::{PREFETCHED_MAX, Tree};
use crate::base::{Command, Operation, Record, RecordMaker, Revision, prefetch};

/// What a key of a page counts beside its own bytes: what an answer needs to tell one key from the next.
const KEY_OVERHEAD_BYTES: usize = 4;

/// The current state. Starts empty, at revision 0.
#[derive(Debug, Default)]
pub struct Store {
    records: Tree<Record>,
    revision: Revision,
    digest: Digest,
    maker: RecordMaker,
}

/// What one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The state's revision behind the command.
    pub revision: Revision,
    /// One for each operation, in their order.
    pub results: SmallVec<[OperationResult; 1]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationResult {
    Put,
    Deleted { existed: bool },
}

/// A page of a listing, atomic at `revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Ascending.
    pub keys: Vec<Bytes>,
    /// Whether keys of the listing lie behind the last one.
    pub more: bool,
    pub revision: Revision,
}

/// Why a read as of a revision can't be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    #[error("revision {asked} does not exist yet; ask later, or without a revision")]
    Future { asked: Revision },
    #[error("what revision {asked} held is no longer known; ask without a revision")]
    Compacted { asked: Revision },
}

impl Store {
    pub fn new() -> Store {
        Store::default()
    }

    /// Does all of the command's operations, in order, at one new revision.
    pub fn apply(&mut self, command: &Command) -> Applied {
        self.revision = self.revision.next();
        let results = command.operations.iter().map(|operation| match operation {
            Operation::Put { key, value } => self.put(key, value),
            Operation::Delete { key } => self.delete(key),
        });
        let results = results.collect();
        Applied { revision: self.revision, results }
    }

    /// [`Store::apply`] for each of `commands`, in order. What many of them look at is fetched from memory at once.
    pub fn apply_all(&mut self, commands: &[Command], mut on_applied: impl FnMut(Applied)) {
        for chunk in commands.chunks(PREFETCHED_MAX) {
            if chunk.len() > 1 && prefetch::IS_KNOWN {
                self.records.prefetch(chunk.iter().flat_map(|command| &command.operations).map(Operation::key));
            }
            chunk.iter().for_each(|command| on_applied(self.apply(command)));
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> OperationResult {
        let Store { records, revision, digest, maker } = self;
        records.upsert(key, |record| match record {
            Some(record) => {
                digest.remove(record);
                maker.change(record, value, *revision);
                digest.add(record);
                None
            }
            None => {
                let record = maker.create(key, value, *revision);
                digest.add(&record);
                Some(record)
            }
        });
        OperationResult::Put
    }

    fn delete(&mut self, key: &[u8]) -> OperationResult {
        let removed = self.records.remove(key);
        if let Some(record) = &removed {
            self.digest.remove(record);
        }
        OperationResult::Deleted { existed: removed.is_some() }
    }

    /// The current state, to read.
    pub fn view(&self) -> View<'_> {
        View { store: self }
    }
}

/// The state at one revision.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    store: &'a Store,
}

impl<'a> View<'a> {
    pub fn revision(self) -> Revision {
        self.store.revision
    }

    /// Equal for equal states (see `digest`).
    pub fn digest(self) -> u64 {
        self.store.digest.at(self.store.revision)
    }

    /// How many keys there are.
    pub fn len(self) -> usize {
        self.store.records.len()
    }

    pub fn is_empty(self) -> bool {
        self.store.records.is_empty()
    }

    pub fn get(self, key: &[u8]) -> Option<&'a Record> {
        self.store.records.get(key)
    }

    /// [`View::get`], up to where it compares keys.
    pub(crate) fn seek<'k>(self, key: &'k [u8]) -> Sought<'a, 'k, Record> {
        self.store.records.seek(key)
    }

    /// What `key` held as of `at`; `None`: now. Only what can be told from the current state is answered: a record
    /// that has not changed since, or anything at the current revision.
    pub fn get_at(self, key: &[u8], at: Option<Revision>) -> Result<Option<&'a Record>, RevisionError> {
        let current = self.revision();
        let asked = at.unwrap_or(current);
        if asked > current {
            return Err(RevisionError::Future { asked });
        }
        match self.get(key) {
            Some(record) if record.mod_revision() <= asked => Ok(Some(record)),
            None if asked == current => Ok(None),
            _ => Err(RevisionError::Compacted { asked }),
        }
    }

    /// The keys that start with `prefix` and lie behind `after`: at most `limit` (0: no limit), and not more than
    /// `bytes_max` together, each with 4 bytes for what tells it from the next, but always the first.
    pub fn list(self, prefix: &[u8], after: Option<&[u8]>, limit: usize, bytes_max: usize) -> Page {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut page = Page { keys: Vec::new(), more: false, revision: self.revision() };
        let mut bytes = 0;
        for key in self.store.records.iter_from(start).map(Record::key).take_while(|key| key.starts_with(prefix)) {
            bytes += key.len() + KEY_OVERHEAD_BYTES;
            if page.keys.len() == limit || (bytes > bytes_max && !page.keys.is_empty()) {
                page.more = true;
                break;
            }
            page.keys.push(Bytes::copy_from_slice(key));
        }
        page
    }

    /// As [`View::list`], as of `at`; `None`: now. Without history only the current revision can be listed.
    pub fn list_at(
        self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        bytes_max: usize,
        at: Option<Revision>,
    ) -> Result<Page, RevisionError> {
        let current = self.revision();
        match at {
            Some(asked) if asked > current => Err(RevisionError::Future { asked }),
            Some(asked) if asked < current => Err(RevisionError::Compacted { asked }),
            _ => Ok(self.list(prefix, after, limit, bytes_max)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn put(key: &str, value: &str) -> Operation {
        Operation::Put { key: bytes(key), value: bytes(value) }
    }

    fn delete(key: &str) -> Operation {
        Operation::Delete { key: bytes(key) }
    }

    fn command(operations: Vec<Operation>) -> Command {
        Command { operations: operations.into(), ..Command::default() }
    }

    fn store(commands: impl IntoIterator<Item = Operation>) -> Store {
        let mut store = Store::new();
        for operation in commands {
            store.apply(&command(vec![operation]));
        }
        store
    }

    #[test]
    fn every_command_makes_one_revision_also_a_delete_of_nothing() {
        let mut store = Store::new();
        assert_eq!(store.apply(&command(vec![put("a", "1"), put("b", "2")])).revision, Revision(1));
        let applied = store.apply(&command(vec![delete("absent")]));
        assert_eq!(applied.revision, Revision(2));
        assert_eq!(applied.results[..], [OperationResult::Deleted { existed: false }]);
        assert_eq!(store.view().revision(), Revision(2));
    }

    #[test]
    fn the_digest_depends_on_what_is_stored_and_on_every_part_of_it() {
        let digest = |store: &Store| store.view().digest();
        let one = store([put("a", "1"), put("b", "2")]);
        assert_ne!(digest(&one), digest(&store([put("a", "1"), put("b", "3")])));
        assert_ne!(digest(&one), digest(&store([put("a", "1"), put("c", "2")])));
        assert_ne!(digest(&one), digest(&store([put("b", "2"), put("a", "1")])), "the revisions differ");
        assert_ne!(digest(&one), digest(&store([put("a", "1"), put("b", "2"), delete("absent")])));
        assert_ne!(digest(&store([put("ab", "c")])), digest(&store([put("a", "bc")])));
    }

    #[test]
    fn the_digest_that_is_kept_is_that_of_the_state_made_anew() {
        let mut random = Random::new(5);
        let mut store = Store::new();
        for step in 0..500 {
            let key = format!("k{}", random.below(8));
            let operation =
                if random.below(3) == 0 { delete(&key) } else { put(&key, &format!("v{}", random.below(3))) };
            store.apply(&command(vec![operation]));
            let mut anew = Digest::default();
            store.records.iter_from(Bound::Unbounded).for_each(|record| anew.add(record));
            assert_eq!(store.digest, anew, "step {step}");
        }
    }

    #[test]
    fn a_key_knows_when_it_was_created_when_it_changed_and_how_often() {
        let mut store = store([put("a", "1"), put("b", "x"), put("a", "2")]);
        let record = store.view().get(b"a").unwrap().clone();
        assert_eq!((record.create_revision(), record.mod_revision(), record.version()), (Revision(1), Revision(3), 2));
        let again = store.apply(&command(vec![delete("a"), put("a", "3"), put("a", "4")]));
        let record = store.view().get(b"a").unwrap();
        assert_eq!((record.create_revision(), record.mod_revision(), record.version()), (Revision(4), Revision(4), 2));
        assert_eq!(
            again.results[..],
            [OperationResult::Deleted { existed: true }, OperationResult::Put, OperationResult::Put]
        );
    }

    #[test]
    fn what_is_stored_shares_no_memory_with_what_was_given() {
        let frame = Bytes::from(vec![b'x'; 4096]);
        let mut store = Store::new();
        for _ in 0..2 {
            store.apply(&command(vec![Operation::Put { key: frame.slice(10..12), value: frame.slice(20..23) }]));
        }
        drop(store.apply(&command(vec![Operation::Delete { key: frame.slice(0..1) }])));
        assert!(frame.is_unique(), "the store keeps the buffer alive");
        assert_eq!(store.view().get(b"xx").unwrap().value(), b"xxx");
    }

    #[test]
    fn many_commands_at_once_do_what_they_do_one_by_one() {
        let mut random = Random::new(3);
        let (mut one_by_one, mut at_once) = (Store::new(), Store::new());
        for _ in 0..50 {
            let operation = |random: &mut Random| match random.below(4) {
                0 => delete(&format!("k{}", random.below(3000))),
                kind => put(&format!("k{}", random.below(3000)), &format!("{kind}")),
            };
            let command = |random: &mut Random| command((0..random.below(4)).map(|_| operation(random)).collect());
            let commands: Vec<Command> = (0..random.below(80)).map(|_| command(&mut random)).collect();
            let mut applied = Vec::new();
            at_once.apply_all(&commands, |what| applied.push(what));
            assert_eq!(applied, commands.iter().map(|command| one_by_one.apply(command)).collect::<Vec<_>>());
            assert_eq!(at_once.view().digest(), one_by_one.view().digest());
        }
    }

    #[test]
    fn what_is_frozen_stays_as_it_is_when_its_keys_are_put_again() {
        let mut store = store([put("a", "1"), put("b", "1")]);
        let (frozen, a) = (store.records.clone(), store.view().get(b"a").unwrap().clone());
        store.apply(&command(vec![put("a", "2")]));
        assert_eq!(frozen.get(b"a"), Some(&a));
        assert_eq!((a.value(), store.view().get(b"a").unwrap().value()), (&b"1"[..], &b"2"[..]));
    }

    #[test]
    fn a_read_as_of_a_revision_is_answered_only_if_it_can_be_known() {
        let store = store([put("old", "1"), put("new", "2"), put("gone", "3"), delete("gone")]);
        let view = store.view();
        let (asked, current) = (Revision(1), Revision(4));
        assert_eq!(view.get_at(b"old", Some(asked)).unwrap().unwrap().value(), b"1");
        assert_eq!(view.get_at(b"new", Some(asked)), Err(RevisionError::Compacted { asked }));
        let asked_then = Revision(3);
        assert_eq!(view.get_at(b"gone", Some(asked_then)), Err(RevisionError::Compacted { asked: asked_then }));
        assert_eq!(view.get_at(b"gone", Some(current)), Ok(None));
        assert_eq!(view.get_at(b"gone", None), Ok(None));
        let asked = Revision(5);
        assert_eq!(view.get_at(b"old", Some(asked)), Err(RevisionError::Future { asked }));
        assert_eq!(view.list_at(b"", None, 0, 99, Some(asked)), Err(RevisionError::Future { asked }));
        let asked = Revision(3);
        assert_eq!(view.list_at(b"", None, 0, 99, Some(asked)), Err(RevisionError::Compacted { asked }));
        assert_eq!(view.list_at(b"", None, 0, 99, Some(current)), view.list_at(b"", None, 0, 99, None));
    }

    #[test]
    fn a_page_stops_at_its_byte_limit_but_holds_at_least_one_key() {
        let store = store([put("aaaa", ""), put("aabb", ""), put("aacc", "")]);
        let page = store.view().list(b"aa", None, 0, 2 * (4 + KEY_OVERHEAD_BYTES));
        assert_eq!((page.keys.len(), page.more), (2, true));
        let page = store.view().list(b"aa", None, 0, 1);
        assert_eq!((page.keys.len(), page.more), (1, true));
        let page = store.view().list(b"aa", None, 0, 3 * (4 + KEY_OVERHEAD_BYTES));
        assert_eq!((page.keys.len(), page.more), (3, false));
    }

    /// A model so naive that it can't be wrong: a list of (key, value, created, changed, version), searched and
    /// sorted when asked.
    #[derive(Default)]
    struct Model {
        rows: Vec<(Bytes, Row)>,
        revision: Revision,
    }

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Row {
        value: Bytes,
        create_revision: Revision,
        mod_revision: Revision,
        version: u64,
    }

    impl Model {
        fn apply(&mut self, command: &Command) -> Vec<OperationResult> {
            self.revision = self.revision.next();
            command.operations.iter().map(|operation| self.operate(operation)).collect()
        }

        fn operate(&mut self, operation: &Operation) -> OperationResult {
            let revision = self.revision;
            let key_of = |key: &Bytes| key.clone();
            match operation {
                Operation::Put { key, value } => {
                    let old = self.rows.iter().find(|row| row.0 == key).map(|row| row.1.clone());
                    self.rows.retain(|row| row.0 != key);
                    let row = Row {
                        value: value.clone(),
                        create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                        mod_revision: revision,
                        version: old.map_or(1, |old| old.version + 1),
                    };
                    self.rows.push((key_of(key), row));
                    OperationResult::Put
                }
                Operation::Delete { key } => {
                    let before = self.rows.len();
                    self.rows.retain(|row| row.0 != key);
                    OperationResult::Deleted { existed: self.rows.len() < before }
                }
            }
        }

        fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Page {
            let mut keys: Vec<Bytes> = self.rows.iter().map(|row| row.0.clone()).collect();
            keys.sort();
            keys.retain(|key| key.starts_with(prefix) && after.is_none_or(|after| &key[..] > after));
            let more = limit != 0 && keys.len() > limit;
            keys.truncate(if limit == 0 { usize::MAX } else { limit });
            Page { keys, more, revision: self.revision }
        }
    }

    /// Few keys, with shared prefixes and bytes at both ends of their range, so that operations meet.
    fn random_key(random: &mut Random, length_min: u64) -> Bytes {
        let length = length_min + random.below(4 - length_min);
        (0..length).map(|_| [0, b'a', b'b', 0xff][random.below(4) as usize]).collect()
    }

    fn random_operation(random: &mut Random) -> Operation {
        let key = random_key(random, 1);
        match random.below(3) {
            0 => Operation::Delete { key },
            _ => Operation::Put { key, value: Bytes::from(random.next().to_string()) },
        }
    }

    #[test]
    fn the_store_does_what_a_naive_model_does() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (mut store, mut model) = (Store::new(), Model::default());
            for step in 0..100 {
                let operations = (0..random.below(4)).map(|_| random_operation(&mut random)).collect();
                let command = command(operations);
                let applied = store.apply(&command);
                assert_eq!(applied.results[..], model.apply(&command), "seed {seed}, step {step}");
                assert_eq!(applied.revision, model.revision, "seed {seed}, step {step}");
                compare(&store, &model, &mut random, &format!("seed {seed}, step {step}"));
            }
        }
    }

    fn compare(store: &Store, model: &Model, random: &mut Random, place: &str) {
        let view = store.view();
        assert_eq!(view.len(), model.rows.len(), "{place}");
        assert_eq!(view.is_empty(), model.rows.is_empty(), "{place}");
        let key = random_key(random, 1);
        let expected = model.rows.iter().find(|row| row.0 == key).map(|row| row.1.clone());
        let found = view.get(&key).map(|record| Row {
            value: Bytes::copy_from_slice(record.value()),
            create_revision: record.create_revision(),
            mod_revision: record.mod_revision(),
            version: record.version(),
        });
        assert_eq!(found, expected, "{place}, key {key:?}");
        let prefix = random_key(random, 0);
        let after = (random.below(2) == 0).then(|| random_key(random, 0));
        let limit = random.below(5) as usize;
        let page = view.list(&prefix, after.as_deref(), limit, usize::MAX);
        let expected = model.list(&prefix, after.as_deref(), limit);
        assert_eq!(page, expected, "{place}, prefix {prefix:?}, after {after:?}, limit {limit}");
    }
}
