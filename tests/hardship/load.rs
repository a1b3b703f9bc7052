//! The clients that go on asking while something is done to the nodes, and the judgement of what they saw.
//!
//! Each client asks the next when it has the answer, so that there are never more operations under way than clients.
//! Each value is put once. Of each acknowledged put the log of every node holds exactly one copy at the end, and no log
//! holds any value twice: that is counted, beside the check of the history.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use linearizability::{History, Id, Limits, Operation, Outcome};
use raftkv::api::{self, Applied, Request};
use raftkv::base::{self, Random};
use raftkv::client::{Client, ClientSettings, Error};

use crate::common::{self, PATIENCE, Processes};

const KEYS: u64 = 5;

/// What kind of load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub clients: u64,
    /// Of a value; those that are shorter than their number are as long as that.
    pub value_bytes: usize,
    /// For one call. Short, so that a client that was cut off soon asks elsewhere.
    pub timeout: Duration,
}

impl Default for Load {
    fn default() -> Load {
        Load { clients: 8, value_bytes: 16, timeout: Duration::from_secs(2) }
    }
}

/// What the clients did so far; shared by them and by whoever disturbs.
pub struct Progress {
    stop: AtomicBool,
    /// Writes.
    acknowledged: AtomicU64,
    start: Instant,
    history: Mutex<History>,
}

impl Progress {
    /// Waits until `count` more writes were acknowledged.
    pub fn await_acknowledged(&self, count: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + count;
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < deadline, "the clients made no progress");
            thread::yield_now();
        }
    }

    /// The time is taken under the lock, so that what is recorded in order happened in order.
    fn invoke(&self, client: u64, operation: Operation) -> Id {
        let mut history = self.history.lock().unwrap();
        history.invoke(client, self.now_ns(), operation)
    }

    fn end(&self, id: Id, client: u64, result: Result<api::Outcome, Error>) {
        let mut history = self.history.lock().unwrap();
        let now = self.now_ns();
        match result {
            Ok(outcome) => {
                let (outcome, revision) = answer(outcome);
                history.complete(id, now, outcome, Some(revision));
            }
            Err(Error::OutcomeUnknown { .. }) => {}
            Err(Error::Unreachable { .. } | Error::Timeout { .. }) => history.fail(id, now),
            Err(Error::Refused(error)) if error.code.worth_a_retry() && error.code.applied() == Applied::No => {
                history.fail(id, now);
            }
            Err(other) => panic!("client {client} was told: {other}"),
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a test is shorter than 500 years")
    }
}

fn answer(outcome: api::Outcome) -> (Outcome, u64) {
    match outcome {
        api::Outcome::Put { revision } => (Outcome::Put, revision.0),
        api::Outcome::Deleted { revision, existed } => (Outcome::Deleted { existed }, revision.0),
        api::Outcome::Value { revision, found } => (Outcome::Value(found.map(|found| found.value.into())), revision.0),
        api::Outcome::Keys { revision, keys, more } => (Outcome::Keys { keys, more }, revision.0),
        other @ (api::Outcome::Status(_) | api::Outcome::Latency(_)) => {
            panic!("no answer to an operation: {other:?}")
        }
    }
}

/// What a client is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Steady,
    /// Gives up soon, and asks elsewhere: it is the first to find a new leader.
    Hurried,
    /// No write holds it at an old leader that can't commit: it would be the last to see a stale answer there.
    Reading,
}

impl Manner {
    fn of(client: u64) -> Manner {
        [Manner::Steady, Manner::Reading, Manner::Steady, Manner::Hurried][client as usize % 4]
    }
}

/// The nth operation of a client: half of those of a writing one are writes, and one in eight lists.
fn next(random: &mut Random, client: u64, number: u64, value_bytes: usize) -> Operation {
    let key = |random: &mut Random| Bytes::from(format!("k{}", random.below(KEYS)));
    let first = if Manner::of(client) == Manner::Reading { 8 } else { 0 };
    match first + random.below(16 - first) {
        0..7 => {
            let value = format!("{client}-{number}-");
            let padded = format!("{value}{}", "x".repeat(value_bytes.saturating_sub(value.len())));
            Operation::Put { key: key(random), value: padded.into() }
        }
        7 => Operation::Delete { key: key(random) },
        8..14 => Operation::Get { key: key(random) },
        14 => Operation::List { prefix: "k".into(), after: None, limit: 0 },
        _ => Operation::List { prefix: "k".into(), after: Some(key(random)), limit: 2 },
    }
}

fn request(operation: &Operation) -> Request {
    match operation.clone() {
        Operation::Put { key, value } => Request::Write(base::Operation::Put { key, value }),
        Operation::Delete { key } => Request::Write(base::Operation::Delete { key }),
        Operation::Get { key } => Request::Get { key, revision: None },
        Operation::List { prefix, after, limit } => Request::List { prefix, after, limit, revision: None },
    }
}

fn ask_on(mut client: Client, number: u64, load: Load, progress: &Progress) {
    let mut random = Random::new(number);
    for asked in 0.. {
        if progress.stop.load(Ordering::Relaxed) {
            return;
        }
        let operation = next(&mut random, number, asked, load.value_bytes);
        let id = progress.invoke(number, operation.clone());
        let result = client.call(&request(&operation));
        let acknowledged = result.is_ok() && operation.is_write();
        progress.end(id, number, result);
        progress.acknowledged.fetch_add(u64::from(acknowledged), Ordering::Relaxed);
    }
}

/// What came of one test, in all of its rounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// What was done to the nodes.
    disturbances: u64,
    operations: usize,
    open: usize,
    acknowledged: usize,
    lost: usize,
    duplicated: usize,
}

/// Plays each round and reports their sum under `name`; `what` was done to the nodes.
pub fn report_rounds(name: &str, what: &str, mut round: impl FnMut() -> Figures) {
    let mut sum = Figures::default();
    for _ in 0..crate::rounds() {
        let figures = round();
        sum.disturbances += figures.disturbances;
        sum.operations += figures.operations;
        sum.open += figures.open;
        sum.acknowledged += figures.acknowledged;
        sum.lost += figures.lost;
        sum.duplicated += figures.duplicated;
    }
    let Figures { disturbances, operations, open, acknowledged, lost, duplicated } = sum;
    common::report(&format!(
        "hardship {name}: {disturbances} {what}; {operations} operations and {open} open writes linearizable; \
         {acknowledged} puts acknowledged, {lost} lost, {duplicated} duplicated"
    ));
}

/// Runs the clients while `disturb` does what it likes, heals nothing by itself, and judges. `disturb` gives the number
/// of what it did.
pub fn under_load(
    load: Load,
    mut cluster: Processes,
    disturb: impl FnOnce(&mut Processes, &Progress) -> u64,
) -> Figures {
    let progress = Progress {
        stop: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
        start: Instant::now(),
        history: Mutex::new(History::new()),
    };
    let disturbances = thread::scope(|scope| {
        let progress = &progress;
        let clients: Vec<_> = (0..load.clients)
            .map(|number| {
                let hurry = if Manner::of(number) == Manner::Hurried { 20 } else { 1 };
                let timeout = load.timeout / hurry;
                let settings = ClientSettings { timeout, seed: number, ..ClientSettings::default() };
                let client = Client::new(cluster.addresses(), settings);
                scope.spawn(move || ask_on(client, number, load, progress))
            })
            .collect();
        // Whatever happens, the clients end: a failure here must not hang.
        let disturbed = catch_unwind(AssertUnwindSafe(|| disturb(&mut cluster, progress)));
        progress.stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("the client ends well"));
        disturbed.unwrap_or_else(|panic| resume_unwind(panic))
    });
    let history = progress.history.into_inner().unwrap();
    Figures { disturbances, ..judge(&mut cluster, &history) }
}

/// The history, and what the nodes hold at the end, which must be the same on each of them.
fn judge(cluster: &mut Processes, history: &History) -> Figures {
    cluster.leader();
    cluster.converge();
    for node in 1..=cluster.len() {
        assert_eq!(cluster.stop(node), Some(0), "node {node} did not stop cleanly:\n{}", cluster.log(node));
    }
    let logs: Vec<_> = (1..=cluster.len()).map(|node| common::disk_commands(&cluster.data_dir(node))).collect();
    for (node, log) in (1..).zip(&logs) {
        assert!(log == &logs[0], "nodes 1 and {node} hold different logs");
    }
    let mut puts: BTreeMap<&Bytes, usize> = BTreeMap::new();
    for operation in logs[0].iter().flat_map(|command| &command.operations) {
        if let base::Operation::Put { value, .. } = operation {
            *puts.entry(value).or_default() += 1;
        }
    }
    let acknowledged: Vec<&Bytes> = history.records().iter().filter_map(acknowledged_value).collect();
    let lost = acknowledged.iter().filter(|value| !puts.contains_key(*value)).count();
    let duplicated = puts.values().filter(|count| **count > 1).count();
    assert_eq!((lost, duplicated), (0, 0), "lost and duplicated of {} acknowledged puts", acknowledged.len());
    let checked = linearizability::check(history, Limits::default())
        .unwrap_or_else(|violation| panic!("the clients saw what no store does:\n{violation}"));
    let (operations, open) = (checked.operations, checked.open);
    Figures { disturbances: 0, operations, open, acknowledged: acknowledged.len(), lost, duplicated }
}

fn acknowledged_value(record: &linearizability::Record) -> Option<&Bytes> {
    match (&record.operation, &record.outcome) {
        (Operation::Put { value, .. }, Some(Outcome::Put)) => Some(value),
        _ => None,
    }
}
