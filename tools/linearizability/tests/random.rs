//! Drawn histories: those of a store that is linearizable pass, those with an answer that can't be do not, and on small
//! ones the verdict is that of trying all orders.

use std::collections::BTreeMap;

use bytes::Bytes;
use linearizability::{Checked, History, Id, Limits, Operation, Outcome, Record, Violation, check, read};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

type Store = BTreeMap<Bytes, Bytes>;

fn apply(store: &mut Store, operation: &Operation) -> Outcome {
    match operation {
        Operation::Put { key, value } => {
            store.insert(key.clone(), value.clone());
            Outcome::Put
        }
        Operation::Delete { key } => Outcome::Deleted { existed: store.remove(key).is_some() },
        Operation::Get { key } => Outcome::Value(store.get(key).cloned()),
        Operation::List { prefix, after, limit } => {
            let covered = |key: &&Bytes| key.starts_with(prefix) && after.as_ref().is_none_or(|after| *key > after);
            let mut keys: Vec<Bytes> = store.keys().filter(covered).cloned().collect();
            let more = *limit > 0 && keys.len() > *limit;
            keys.truncate(if *limit > 0 { *limit } else { keys.len() });
            Outcome::Keys { keys, more }
        }
    }
}

// ---- histories of a store that is linearizable -------------------------------------------------------------

#[derive(Clone, Copy)]
struct Shape {
    clients: usize,
    /// Requests under way for each.
    depth: usize,
    keys: u64,
    operations: usize,
    /// In percent.
    lists: u64,
    open: u64,
    revisions: bool,
    /// Values that can be written; 0: each is written once.
    values: u64,
}

struct Pending {
    client: usize,
    id: Id,
    operation: Operation,
    done: Option<(Outcome, u64)>,
}

fn key(number: u64) -> Bytes {
    format!("k{number}").into()
}

fn draw(random: &mut Random, shape: Shape, number: usize) -> Operation {
    let key = key(random.below(shape.keys));
    match random.below(100) {
        percent if percent < shape.lists => Operation::List {
            prefix: if random.percent(80) { "k".into() } else { key },
            after: random.percent(30).then(|| self::key(random.below(shape.keys))),
            limit: random.below(4) as usize,
        },
        percent if percent < 33 + shape.lists => Operation::Get { key },
        percent if percent < 50 + shape.lists => Operation::Delete { key },
        _ => {
            let number = if shape.values == 0 { number as u64 } else { random.below(shape.values) };
            Operation::Put { key, value: format!("v{number}").into() }
        }
    }
}

/// Draws what happens next, again and again: an operation is invoked, takes effect, or is answered; or its answer is
/// lost, before or after it takes effect.
fn run(seed: u64, shape: Shape) -> History {
    let mut random = Random(seed);
    let (mut history, mut store, mut revision) = (History::new(), Store::new(), 0);
    let mut pending: Vec<Pending> = Vec::new();
    let mut lost: Vec<Operation> = Vec::new();
    let (mut invoked, mut now) = (0, 0);
    while invoked < shape.operations || !pending.is_empty() {
        now += random.below(1000);
        if !lost.is_empty() && random.percent(2) {
            let at = random.below(lost.len() as u64) as usize;
            apply(&mut store, &lost.swap_remove(at));
            revision += 1;
        }
        let client = random.below(shape.clients as u64) as usize;
        let own: Vec<usize> = (0..pending.len()).filter(|at| pending[*at].client == client).collect();
        if invoked < shape.operations && own.len() < shape.depth && (own.is_empty() || random.percent(50)) {
            let operation = draw(&mut random, shape, invoked);
            let id = history.invoke(client as u64, now, operation.clone());
            pending.push(Pending { client, id, operation, done: None });
            invoked += 1;
        } else if let Some(at) = own.get(random.below(own.len().max(1) as u64) as usize) {
            if random.percent(shape.open) {
                let dropped = pending.swap_remove(*at);
                if dropped.done.is_none() && dropped.operation.is_write() {
                    lost.push(dropped.operation);
                }
                continue;
            }
            let next = &mut pending[*at];
            match next.done.take() {
                None => {
                    let outcome = apply(&mut store, &next.operation);
                    revision += u64::from(next.operation.is_write());
                    next.done = Some((outcome, revision));
                }
                Some((outcome, revision)) => {
                    history.complete(next.id, now, outcome, shape.revisions.then_some(revision));
                    pending.swap_remove(*at);
                }
            }
        }
    }
    history
}

const SHAPE: Shape =
    Shape { clients: 8, depth: 1, keys: 5, operations: 500, lists: 6, open: 4, revisions: true, values: 0 };

fn checked(seed: u64, shape: Shape) -> Checked {
    let history = run(seed, shape);
    check(&history, Limits::default()).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"))
}

#[test]
fn what_a_linearizable_store_answers_passes() {
    for seed in 0..100 {
        checked(seed, SHAPE);
        checked(seed, Shape { revisions: false, ..SHAPE });
        checked(seed, Shape { revisions: false, lists: 0, ..SHAPE });
        checked(seed, Shape { revisions: false, values: 3, clients: 4, ..SHAPE });
        checked(seed, Shape { keys: 1, lists: 0, clients: 20, ..SHAPE });
    }
}

#[test]
fn revisions_guide_the_search_straight_to_an_order() {
    for seed in 0..100 {
        let checked = checked(seed, Shape { clients: 10, depth: 4, open: 0, ..SHAPE });
        assert_eq!(checked.steps, checked.operations as u64, "seed {seed}");
    }
}

// ---- all orders --------------------------------------------------------------------------------------------

/// Whether some order explains the answers, found by trying all.
fn brute(records: &[Record], store: &Store, placed: &mut Vec<bool>) -> bool {
    let is_left = |at: &usize| !placed[*at] && records[*at].outcome.is_some();
    let left: Vec<usize> = (0..records.len()).filter(is_left).collect();
    let Some(until) = left.iter().filter_map(|at| records[*at].completed_ns).min() else { return true };
    for at in 0..records.len() {
        let record = &records[at];
        let failed = record.outcome.is_none() && record.completed_ns.is_some();
        if placed[at] || failed || record.invoked_ns > until {
            continue;
        }
        let mut store = store.clone();
        let answer = apply(&mut store, &record.operation);
        if record.outcome.as_ref().is_none_or(|outcome| *outcome == answer) {
            placed[at] = true;
            let found = brute(records, &store, placed);
            placed[at] = false;
            if found {
                return true;
            }
        }
    }
    false
}

fn draw_outcome(random: &mut Random, operation: &Operation, keys: u64) -> Outcome {
    match operation {
        Operation::Put { .. } => Outcome::Put,
        Operation::Delete { .. } => Outcome::Deleted { existed: random.percent(50) },
        Operation::Get { .. } => {
            let value = format!("v{}", random.below(2));
            Outcome::Value(random.percent(70).then(|| value.into()))
        }
        Operation::List { .. } => {
            let mut store: Store = (0..keys).filter(|_| random.percent(50)).map(|at| (key(at), Bytes::new())).collect();
            apply(&mut store, operation)
        }
    }
}

/// Up to six operations at drawn times, with the answers of a store that does them one by one at drawn moments, of
/// which one may be replaced.
fn tiny(seed: u64) -> Vec<Record> {
    let mut random = Random(seed);
    let shape = Shape { keys: 1 + random.below(3), lists: 25, values: 2, ..SHAPE };
    let mut timed = Vec::new();
    for number in 0..2 + random.below(5) as usize {
        let invoked_ns = random.below(10);
        let (takes_effect_ns, completed_ns) = (invoked_ns + random.below(4), invoked_ns + random.below(6));
        let record = Record {
            client: number as u64,
            invoked_ns,
            completed_ns: random.percent(75).then_some(completed_ns.max(takes_effect_ns)),
            operation: draw(&mut random, shape, number),
            outcome: None,
            revision: None,
        };
        timed.push((takes_effect_ns, record));
    }
    timed.sort_by_key(|(takes_effect_ns, _)| *takes_effect_ns);
    let mut store = Store::new();
    for (_, record) in &mut timed {
        if record.completed_ns.is_none() && random.percent(50) {
            continue;
        }
        let outcome = apply(&mut store, &record.operation);
        record.outcome = record.completed_ns.map(|_| outcome);
    }
    let at = random.below(2 * timed.len() as u64) as usize;
    if let Some((_, record)) = timed.get_mut(at)
        && record.completed_ns.is_some()
    {
        record.outcome = random.percent(90).then(|| draw_outcome(&mut random, &record.operation, shape.keys));
    }
    timed.into_iter().map(|(_, record)| record).collect()
}

#[test]
fn on_small_histories_the_verdict_is_that_of_trying_all_orders() {
    let (mut passed, mut failed) = (0, 0);
    for seed in 0..40_000 {
        let mut history = History::new();
        tiny(seed).into_iter().for_each(|record| history.push(record));
        let expected = brute(history.records(), &Store::new(), &mut vec![false; history.records().len()]);
        let verdict = check(&history, Limits::default());
        let shown = || history.records().iter().map(|record| format!("{record}\n")).collect::<String>();
        assert_eq!(verdict.is_ok(), expected, "seed {seed}: {verdict:?}\n{}", shown());
        *if expected { &mut passed } else { &mut failed } += 1;
    }
    assert!(passed > 5000 && failed > 5000, "{passed} passed, {failed} failed: both should be many");
}

// ---- answers that can't be ---------------------------------------------------------------------------------

/// Replaces one answer by one that no order explains; `None`: it is of no use for that.
fn spoil(random: &mut Random, history: &History, revisions: bool) -> Option<History> {
    let records = history.records();
    let at = random.below(records.len() as u64) as usize;
    let mut spoiled = records[at].clone();
    let completed_ns = spoiled.completed_ns?;
    if !revisions {
        spoiled.revision = None;
    }
    let puts_of = |key: &Bytes| {
        let key = key.clone();
        records.iter().filter_map(move |other| match &other.operation {
            Operation::Put { key: put, value } if *put == key => Some((other, value.clone())),
            _ => None,
        })
    };
    spoiled.outcome = Some(match (&spoiled.operation, spoiled.outcome.as_ref()?) {
        // A value that was written later, that was overwritten long before, or that another key holds.
        (Operation::Get { key }, Outcome::Value(_)) => {
            let later = puts_of(key).find(|(put, _)| put.invoked_ns > completed_ns);
            let overwritten = puts_of(key).find(|(put, _)| {
                let after = put.completed_ns.unwrap_or(u64::MAX);
                puts_of(key).any(|(other, _)| {
                    other.invoked_ns > after && other.completed_ns.is_some_and(|by| by < spoiled.invoked_ns)
                })
            });
            let chosen = if random.percent(50) { later } else { overwritten };
            Outcome::Value(Some(chosen?.1))
        }
        (Operation::Delete { .. }, Outcome::Deleted { .. }) => Outcome::Value(None),
        (Operation::List { .. }, Outcome::Keys { keys, more: false }) if keys.len() > 1 => {
            Outcome::Keys { keys: keys.iter().rev().cloned().collect(), more: false }
        }
        _ => return None,
    });
    let mut history = History::new();
    for (other, record) in records.iter().enumerate() {
        let mut record = if other == at { spoiled.clone() } else { record.clone() };
        record.revision = record.revision.filter(|_| revisions);
        history.push(record);
    }
    Some(history)
}

#[test]
fn an_answer_that_can_not_be_is_found() {
    let (mut random, mut found) = (Random(1), 0);
    for seed in 0..600 {
        let history = run(seed, Shape { operations: 150, clients: 5, ..SHAPE });
        let Some(spoiled) = spoil(&mut random, &history, seed % 2 == 0) else { continue };
        let verdict = check(&spoiled, Limits::default());
        assert!(verdict.is_err(), "seed {seed}: {verdict:?}");
        assert!(!matches!(verdict, Err(Violation::Undecided { .. })), "seed {seed}: {verdict:?}");
        found += 1;
    }
    assert!(found > 150, "{found}");
}

#[test]
fn a_history_survives_its_text() {
    for seed in 0..20 {
        let history = run(seed, SHAPE);
        let text: String = history.records().iter().map(|record| format!("{record}\n")).collect();
        assert_eq!(read(text.as_bytes()).unwrap().records(), history.records());
    }
}

#[test]
fn no_text_ends_the_reader_or_the_checker() {
    let history = run(1, Shape { operations: 12, ..SHAPE });
    let text: String = history.records().iter().map(|record| format!("{record}\n")).collect();
    let (mut random, mut read_well) = (Random(9), 0);
    for _ in 0..20_000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(3) {
                0 => bytes[at] = random.below(256) as u8,
                1 => _ = bytes.remove(at),
                _ => bytes.insert(at, b"0123456789\"\\x@- \n"[random.below(17) as usize]),
            }
        }
        if let Ok(history) = read(&bytes[..]) {
            _ = check(&history, Limits { steps_max: 10_000, ..Limits::default() });
            read_well += 1;
        }
    }
    assert!(read_well > 1000, "{read_well} were histories still");
}
