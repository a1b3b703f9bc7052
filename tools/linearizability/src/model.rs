//! The store as the search sees it: a history in partitions, keys and values as numbers, and each operation as what it
//! demands of the state and does to it.
//!
//! | operation | demands | does |
//! |---|---|---|
//! | put | nothing | the key holds the value |
//! | delete, existed | the key is there | the key is absent |
//! | delete, absent; get, nil | the key is absent | nothing |
//! | get | the key holds the value | nothing |
//! | list | these keys are there, those are not, and if there are more, one of the rest is | nothing |
//!
//! A value that no get of its key ever found is [`UNREAD`], whichever it was: nothing can tell such values apart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use bytes::Bytes;

use crate::history::{History, Operation, Outcome, Record};
use crate::rank;
use crate::violation::Violation;

/// What a key holds, as a number that no other key's values have.
pub type Value = usize;
pub const ABSENT: Value = 0;
pub const UNREAD: Value = 1;

/// An operation with an answer. `key`: into the partition's keys.
#[derive(Debug)]
pub enum Kind {
    Put { key: usize, value: Value },
    Delete { key: usize },
    Absent { key: usize },
    Get { key: usize, value: Value },
    List(Page),
}

/// What a page says of its keys: which are there, that no others are up to the last of them, and that there is or is
/// not one behind it.
#[derive(Debug)]
pub struct Page {
    pub present: Vec<usize>,
    /// All keys of this range but the present ones are absent.
    known: Range<usize>,
    /// One of these is there; `None`: the page is the last, and `known` goes to the end.
    pub rest: Option<Range<usize>>,
}

impl Page {
    pub fn absent(&self) -> impl Iterator<Item = usize> {
        self.known.clone().filter(|key| self.present.binary_search(key).is_err())
    }

    /// All keys of which it says something.
    pub fn keys(&self) -> Range<usize> {
        self.known.start..self.rest.as_ref().map_or(self.known.end, |rest| rest.end)
    }
}

impl Kind {
    pub fn is_write(&self) -> bool {
        matches!(self, Kind::Put { .. } | Kind::Delete { .. })
    }

    /// The one key that it reads or writes; `None`: it is a page.
    pub fn key(&self) -> Option<usize> {
        match self {
            Kind::Put { key, .. } | Kind::Delete { key } | Kind::Absent { key } | Kind::Get { key, .. } => Some(*key),
            Kind::List(_) => None,
        }
    }

    /// Of which keys it demands or does something.
    pub fn keys(&self) -> Range<usize> {
        match self {
            Kind::List(page) => page.keys(),
            kind => kind.key().map_or(0..0, |key| key..key + 1),
        }
    }
}

#[derive(Debug)]
pub struct Step {
    /// Into the history.
    pub record: usize,
    pub invoked_ns: u64,
    pub completed_ns: u64,
    pub kind: Kind,
    /// Among the writes, or the reads.
    pub ordinal: usize,
    /// Of several that may come next, the lowest is tried first.
    pub rank: u64,
}

/// A write without an answer.
#[derive(Debug)]
pub struct Open {
    pub record: usize,
    pub invoked_ns: u64,
    pub key: usize,
    /// What the key holds then.
    pub value: Value,
}

/// Keys that must be looked at together, and all that happened to them.
#[derive(Debug)]
pub struct Partition {
    /// Ascending.
    pub keys: Vec<Bytes>,
    /// By time of invocation.
    pub steps: Vec<Step>,
    pub writes: usize,
    pub reads: usize,
    /// By time of invocation.
    pub open: Vec<Open>,
    /// For each key, which of them are its own.
    pub open_of_key: Vec<Vec<usize>>,
    /// For each value, how many gets found it.
    pub gets_of_value: Vec<u32>,
}

/// The partitions of a history, in the order of their first keys; an answer that no order could explain is an error.
pub fn partitions(history: &History) -> Result<Vec<Partition>, Violation> {
    let counted: Vec<usize> = (0..history.records().len())
        .filter(|at| history.records()[*at].answer().is_some() || history.records()[*at].is_open_write())
        .collect();
    let keys = Keys::of(counted.iter().map(|at| &history.records()[*at]));
    let puts = Puts::of(counted.iter().map(|at| &history.records()[*at]));
    for at in &counted {
        glance(&history.records()[*at], &puts)?;
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let groups = keys.groups(counted.iter().map(|at| &history.records()[*at]));
    for at in &counted {
        if let Some(key) = keys.first(&history.records()[*at].operation) {
            members.entry(groups[key]).or_default().push(*at);
        }
    }
    let mut keys_of_group: BTreeMap<usize, Vec<Bytes>> = BTreeMap::new();
    for (key, group) in keys.0.iter().zip(&groups) {
        keys_of_group.entry(*group).or_default().push(key.clone());
    }
    let build = |(group, members)| partition(history, Keys(keys_of_group[&group].clone()), members);
    Ok(members.into_iter().map(build).collect())
}

/// Keys, ascending.
struct Keys(Vec<Bytes>);

impl Keys {
    fn of<'a>(records: impl Iterator<Item = &'a Record>) -> Keys {
        let mut keys = BTreeSet::new();
        for record in records {
            match &record.operation {
                Operation::Put { key, .. } | Operation::Delete { key } | Operation::Get { key } => {
                    keys.insert(key.clone());
                }
                // A page holds only keys that were put, which is checked.
                Operation::List { .. } => {}
            }
        }
        Keys(keys.into_iter().collect())
    }

    fn find(&self, key: &[u8]) -> usize {
        self.0.partition_point(|other| other < key)
    }

    /// The keys that a listing covers.
    fn covered(&self, prefix: &[u8], after: Option<&Bytes>) -> Range<usize> {
        let start = after.map_or(0, |after| self.0.partition_point(|key| key <= after)).max(self.find(prefix));
        let length = self.0[start..].partition_point(|key| key.starts_with(prefix));
        start..start + length
    }

    /// One of its keys; `None`: a listing that covers none.
    fn first(&self, operation: &Operation) -> Option<usize> {
        match operation {
            Operation::Put { key, .. } | Operation::Delete { key } | Operation::Get { key } => Some(self.find(key)),
            Operation::List { prefix, after, .. } => self.covered(prefix, after.as_ref()).next(),
        }
    }

    /// For each key the lowest of those that listings tie to it. What a listing covers is a range, and where ranges
    /// overlap they are one.
    fn groups<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Vec<usize> {
        let mut ranges = BTreeMap::new();
        for record in records {
            if let Operation::List { prefix, after, .. } = &record.operation {
                let covered = self.covered(prefix, after.as_ref());
                let end = ranges.entry(covered.start).or_insert(covered.end);
                *end = covered.end.max(*end);
            }
        }
        let (mut groups, mut joined) = (Vec::with_capacity(self.0.len()), 0..0);
        for key in 0..self.0.len() {
            if key >= joined.end {
                joined = key..key + 1;
            }
            joined.end = joined.end.max(ranges.get(&key).copied().unwrap_or(0));
            groups.push(joined.start);
        }
        groups
    }
}

/// When each value was first asked to be put, and each key.
struct Puts<'a> {
    values: HashMap<(&'a Bytes, &'a Bytes), u64>,
    keys: HashMap<&'a Bytes, u64>,
}

impl<'a> Puts<'a> {
    fn of(records: impl Iterator<Item = &'a Record>) -> Puts<'a> {
        let mut puts = Puts { values: HashMap::new(), keys: HashMap::new() };
        for record in records {
            if let Operation::Put { key, value } = &record.operation {
                let first = puts.values.entry((key, value)).or_insert(u64::MAX);
                *first = record.invoked_ns.min(*first);
                let first = puts.keys.entry(key).or_insert(u64::MAX);
                *first = record.invoked_ns.min(*first);
            }
        }
        puts
    }
}

/// What one answer says by itself: it must be one to its question, and nothing can be found that nobody had put.
fn glance(record: &Record, puts: &Puts<'_>) -> Result<(), Violation> {
    let Some((completed_ns, outcome)) = record.answer() else { return Ok(()) };
    let wrong = |why: &str| Err(Violation::Contradiction { why: why.to_string(), records: vec![record.clone()] });
    let was_put = |key: &Bytes| puts.keys.get(key).is_some_and(|first| *first <= completed_ns);
    match (&record.operation, outcome) {
        (Operation::Put { .. }, Outcome::Put) => Ok(()),
        (Operation::Delete { key }, Outcome::Deleted { existed: true }) if !was_put(key) => {
            wrong("the key that was deleted had not been put")
        }
        (Operation::Delete { .. }, Outcome::Deleted { .. }) | (Operation::Get { .. }, Outcome::Value(None)) => Ok(()),
        (Operation::Get { key }, Outcome::Value(Some(value))) => match puts.values.get(&(key, value)) {
            None => wrong("nobody put this value under this key"),
            Some(first) if *first > completed_ns => wrong("this value was only put later"),
            Some(_) => Ok(()),
        },
        (Operation::List { prefix, after, limit }, Outcome::Keys { keys, more }) => {
            let covered = |key: &Bytes| key.starts_with(prefix) && after.as_ref().is_none_or(|after| key > after);
            match () {
                () if !keys.iter().all(covered) => wrong("the page holds a key that was not asked for"),
                () if !keys.is_sorted_by(|a, b| a < b) => wrong("the page is not in ascending order"),
                () if *limit > 0 && keys.len() > *limit => wrong("the page holds more keys than were asked for"),
                () if *more && keys.is_empty() => wrong("the page is empty and says that there is more"),
                () if !keys.iter().all(was_put) => wrong("the page holds a key that had not been put"),
                () => Ok(()),
            }
        }
        _ => wrong("the answer is one to another question"),
    }
}

/// Builds one partition of `keys` from the records `members`.
fn partition(history: &History, keys: Keys, mut members: Vec<usize>) -> Partition {
    members.sort_by_key(|at| history.records()[*at].invoked_ns);
    let values = Values::of(members.iter().map(|at| &history.records()[*at]));
    let (mut steps, mut open) = (Vec::new(), Vec::new());
    let (mut writes, mut reads) = (0, 0);
    for at in members {
        let record = &history.records()[at];
        let invoked_ns = record.invoked_ns;
        let Some((completed_ns, outcome)) = record.answer() else {
            let (key, value) = match &record.operation {
                Operation::Put { key, value } => (keys.find(key), values.find(key, value)),
                Operation::Delete { key } => (keys.find(key), ABSENT),
                Operation::Get { .. } | Operation::List { .. } => continue,
            };
            open.push(Open { record: at, invoked_ns, key, value });
            continue;
        };
        let kind = kind(&record.operation, outcome, &keys, &values);
        let count = if kind.is_write() { &mut writes } else { &mut reads };
        let ordinal = *count;
        *count += 1;
        steps.push(Step { record: at, invoked_ns, completed_ns, kind, ordinal, rank: 0 });
    }
    rank::set(&mut steps, history);
    let mut open_of_key = vec![Vec::new(); keys.0.len()];
    for (at, open) in open.iter().enumerate() {
        open_of_key[open.key].push(at);
    }
    Partition { keys: keys.0, steps, writes, reads, open, open_of_key, gets_of_value: values.gets }
}

fn kind(operation: &Operation, outcome: &Outcome, keys: &Keys, values: &Values<'_>) -> Kind {
    match (operation, outcome) {
        (Operation::Put { key, value }, _) => Kind::Put { key: keys.find(key), value: values.find(key, value) },
        (Operation::Delete { key }, Outcome::Deleted { existed: true }) => Kind::Delete { key: keys.find(key) },
        (Operation::Get { key }, Outcome::Value(Some(value))) => {
            Kind::Get { key: keys.find(key), value: values.find(key, value) }
        }
        (Operation::Delete { key } | Operation::Get { key }, _) => Kind::Absent { key: keys.find(key) },
        (Operation::List { prefix, after, .. }, outcome) => {
            let covered = keys.covered(prefix, after.as_ref());
            let (listed, more) = match outcome {
                Outcome::Keys { keys, more } => (&keys[..], *more),
                _ => (&[][..], false),
            };
            let present: Vec<usize> = listed.iter().map(|key| keys.find(key)).collect();
            let known = match present.last() {
                Some(last) if more => covered.start..last + 1,
                _ => covered.clone(),
            };
            let rest = more.then_some(known.end..covered.end);
            Kind::List(Page { present, known, rest })
        }
    }
}

/// The numbers of the values that were found.
struct Values<'a> {
    numbers: HashMap<(&'a Bytes, &'a Bytes), Value>,
    gets: Vec<u32>,
}

impl<'a> Values<'a> {
    fn of(records: impl Iterator<Item = &'a Record>) -> Values<'a> {
        let mut values = Values { numbers: HashMap::new(), gets: vec![0; UNREAD + 1] };
        for record in records {
            if let (Operation::Get { key }, Some(Outcome::Value(Some(value)))) = (&record.operation, &record.outcome) {
                let next = values.gets.len();
                let number = *values.numbers.entry((key, value)).or_insert(next);
                values.gets.resize(values.gets.len().max(number + 1), 0);
                values.gets[number] += 1;
            }
        }
        values
    }

    fn find(&self, key: &Bytes, value: &Bytes) -> Value {
        self.numbers.get(&(key, value)).copied().unwrap_or(UNREAD)
    }
}
