//! Drawn histories: those of a store that is linearizable pass, those with an answer that can't be do not, and on small
//! ones the verdict is that of trying all orders.

use std::collections::BTreeMap;

use bytes::Bytes;
use linearizability::{Checked, History, Id, Limits, Operation, Outcome, check};

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

/// Draws what happens next, again and again: an operation is invoked, takes effect, or is answered; or its answer is lost,
/// before or after it takes effect.
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
