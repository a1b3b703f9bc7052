//! What revisions say by themselves, where a history has them: each write makes one of its own, their order agrees with
//! real time over all keys, and a read finds what the latest write up to its revision left.
//!
//! It is quick, and its messages are short. A write whose revision is not known (its answer was lost, say) may stand
//! anywhere: what such a write could explain is left to the search.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::history::{History, Operation, Outcome, Record};
use crate::violation::Violation;

pub fn check(history: &History) -> Result<(), Violation> {
    let mut known: Vec<(u64, &Record)> = history
        .records()
        .iter()
        .filter(|record| record.answer().is_some())
        .filter_map(|record| record.revision.map(|revision| (revision, record)))
        .collect();
    agrees_with_time(&known)?;
    // The write that made a revision comes before those that read it.
    known.sort_by_key(|(revision, record)| (*revision, !record.operation.is_write()));
    are_unique(&known)?;
    explains_answers(history, &known)
}

fn contradiction(why: &str, records: [&Record; 2]) -> Violation {
    Violation::Contradiction { why: why.to_string(), records: records.map(Record::clone).to_vec() }
}

fn are_unique(known: &[(u64, &Record)]) -> Result<(), Violation> {
    for pair in known.windows(2) {
        let [(a_revision, a), (b_revision, b)] = pair else { continue };
        if a_revision == b_revision && b.operation.is_write() {
            return Err(contradiction("two writes made the same revision", [a, b]));
        }
    }
    Ok(())
}

fn agrees_with_time(known: &[(u64, &Record)]) -> Result<(), Violation> {
    let completed_ns = |record: &Record| record.completed_ns.unwrap_or(u64::MAX);
    let (mut by_invocation, mut by_answer) = (known.to_vec(), known.to_vec());
    by_invocation.sort_by_key(|(_, record)| record.invoked_ns);
    by_answer.sort_by_key(|(_, record)| completed_ns(record));
    let mut answered = by_answer.iter().peekable();
    let mut latest: Option<(u64, &Record)> = None;
    for (revision, record) in by_invocation {
        while let Some(earlier) = answered.next_if(|(_, earlier)| completed_ns(earlier) < record.invoked_ns) {
            latest = latest.filter(|latest| latest.0 >= earlier.0).or(Some(*earlier));
        }
        let Some((seen, earlier)) = latest else { continue };
        if revision < seen || (revision == seen && record.operation.is_write()) {
            return Err(contradiction(
                "an operation has no later revision than one that ended before it",
                [earlier, record],
            ));
        }
    }
    Ok(())
}

/// What writes of unknown revision could have done to a key.
#[derive(Default)]
struct Unplaced<'a> {
    values: BTreeSet<&'a Bytes>,
    delete: bool,
}

/// The store at one revision, as far as it is known.
struct Replay<'a> {
    /// The value and the write that left it there or took it away.
    keys: BTreeMap<&'a Bytes, (Option<&'a Bytes>, &'a Record)>,
    unplaced: BTreeMap<&'a Bytes, Unplaced<'a>>,
}

fn explains_answers(history: &History, known: &[(u64, &Record)]) -> Result<(), Violation> {
    let mut replay = Replay { keys: BTreeMap::new(), unplaced: BTreeMap::new() };
    for record in history.records() {
        let counts = record.is_open_write() || (record.answer().is_some() && record.revision.is_none());
        match &record.operation {
            Operation::Put { key, value } if counts => {
                replay.unplaced.entry(key).or_default().values.insert(value);
            }
            Operation::Delete { key } if counts => replay.unplaced.entry(key).or_default().delete = true,
            _ => {}
        }
    }
    for (_, record) in known {
        replay.step(record)?;
    }
    Ok(())
}

impl<'a> Replay<'a> {
    fn step(&mut self, record: &'a Record) -> Result<(), Violation> {
        let fits = match (&record.operation, &record.outcome) {
            (Operation::Delete { key }, Some(Outcome::Deleted { existed: true })) => self.may_exist(key),
            (Operation::Delete { key }, _) | (Operation::Get { key }, Some(Outcome::Value(None))) => {
                self.may_be_absent(key)
            }
            (Operation::Get { key }, Some(Outcome::Value(Some(value)))) => self.may_hold(key, value),
            (Operation::List { prefix, after, .. }, Some(Outcome::Keys { keys, more })) => {
                return self.page(record, prefix, after.as_ref(), keys, *more);
            }
            _ => true,
        };
        let (Operation::Put { key, .. } | Operation::Delete { key } | Operation::Get { key }) = &record.operation
        else {
            return Ok(());
        };
        if !fits {
            return Err(self.wrong(key, record));
        }
        match &record.operation {
            Operation::Put { key, value } => _ = self.keys.insert(key, (Some(value), record)),
            Operation::Delete { key } => _ = self.keys.insert(key, (None, record)),
            Operation::Get { .. } | Operation::List { .. } => {}
        }
        Ok(())
    }

    fn value(&self, key: &Bytes) -> Option<&Bytes> {
        self.keys.get(key).and_then(|(value, _)| *value)
    }

    fn may_exist(&self, key: &Bytes) -> bool {
        self.value(key).is_some() || self.unplaced.get(key).is_some_and(|unplaced| !unplaced.values.is_empty())
    }

    fn may_be_absent(&self, key: &Bytes) -> bool {
        self.value(key).is_none() || self.unplaced.get(key).is_some_and(|unplaced| unplaced.delete)
    }

    fn may_hold(&self, key: &Bytes, value: &Bytes) -> bool {
        self.value(key) == Some(value) || self.unplaced.get(key).is_some_and(|unplaced| unplaced.values.contains(value))
    }

    /// The keys listed must be there, and no others up to the last of them, or to the end.
    fn page(
        &self,
        record: &Record,
        prefix: &[u8],
        after: Option<&'a Bytes>,
        listed: &'a [Bytes],
        more: bool,
    ) -> Result<(), Violation> {
        if let Some(key) = listed.iter().find(|key| !self.may_exist(key)) {
            return Err(self.wrong(key, record));
        }
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let last = listed.last();
        let covered = self.keys.range::<Bytes, _>((start, Bound::Unbounded)).map(|(key, _)| *key);
        for key in covered.filter(|key| key.starts_with(prefix)) {
            if more && last.is_some_and(|last| key > last) {
                break;
            }
            if listed.binary_search(key).is_err() && !self.may_be_absent(key) {
                return Err(self.wrong(key, record));
            }
        }
        Ok(())
    }

    fn wrong(&self, key: &Bytes, record: &Record) -> Violation {
        let why = "the answer is not what the store held at its revision";
        match self.keys.get(key) {
            Some((_, writer)) => contradiction(why, [writer, record]),
            None => Violation::Contradiction { why: why.to_string(), records: vec![record.clone()] },
        }
    }
}
