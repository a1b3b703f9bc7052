//! The tree beside `BTreeMap` and beside lists, with its rules checked after every change.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::base::Random;

type Model = BTreeMap<Vec<u8>, u64>;

/// What the trees here hold: a key and a number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    key: Vec<u8>,
    value: u64,
}

thread_local! {
    static PREFETCHED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Keyed for Row {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn prefetch(&self) {
        PREFETCHED.with_borrow_mut(|keys| keys.push(self.key.clone()));
    }
}

fn put(tree: &mut Tree<Row>, key: &[u8], value: u64) -> Option<u64> {
    let mut seen = None;
    tree.upsert(key, |stored| {
        let Some(row) = stored else { return Some(Row { key: key.to_vec(), value }) };
        seen = Some(std::mem::replace(&mut row.value, value));
        None
    });
    seen
}

fn remove(tree: &mut Tree<Row>, key: &[u8]) -> Option<u64> {
    tree.remove(key).map(|row| row.value)
}

/// Panics unless all that the module promises of the tree holds.
fn check(tree: &Tree<Row>) {
    let mut depths = Vec::new();
    let keys = check_node(&tree.root, None, None, 0, &mut depths);
    assert_eq!(keys, tree.len, "the count");
    assert_eq!(tree.is_empty(), keys == 0);
    assert!(depths.windows(2).all(|pair| pair[0] == pair[1]), "leaves at different depths: {depths:?}");
    let inner_without_keys = matches!(&*tree.root, Node::Inner(inner) if inner.separators.len() == 0);
    assert!(!inner_without_keys, "the root has one child");
}

/// How many keys are below `node`, which has to lie in `from..to`.
fn check_node(
    node: &Node<Row>,
    from: Option<&[u8]>,
    to: Option<&[u8]>,
    depth: usize,
    depths: &mut Vec<usize>,
) -> usize {
    assert!(node.keys() <= KEYS_MAX, "too many keys: {}", node.keys());
    assert!(depth == 0 || node.keys() >= KEYS_MIN, "too few keys: {}", node.keys());
    let lies_within = |key: &[u8]| from.is_none_or(|from| from <= key) && to.is_none_or(|to| key < to);
    match node {
        Node::Leaf(leaf) => {
            depths.push(depth);
            leaf.check();
            assert!(leaf.iter_from(0).all(|row| lies_within(&row.key)), "a key lies elsewhere");
            leaf.len()
        }
        Node::Inner(inner) => {
            inner.separators.check();
            assert!(
                inner.separators.iter_from(0).all(|separator| lies_within(separator.key())),
                "a separator lies elsewhere"
            );
            assert_eq!(inner.children.len(), inner.separators.len() + 1);
            let ends = |at: usize| inner.separators.get(at).map(Keyed::key);
            let child = |(at, child): (usize, &Arc<Node<Row>>)| {
                let from = at.checked_sub(1).and_then(ends).or(from);
                check_node(child, from, ends(at).or(to), depth + 1, depths)
            };
            inner.children.iter().enumerate().map(child).sum()
        }
    }
}

fn entries(tree: &Tree<Row>, start: Bound<&[u8]>) -> Vec<(Vec<u8>, u64)> {
    tree.iter_from(start).map(|row| (row.key.clone(), row.value)).collect()
}

/// That it holds the same, asked in every way, about `key` above all.
fn compare(tree: &Tree<Row>, model: &Model, key: &[u8], place: &str) {
    assert_eq!(tree.len(), model.len(), "{place}");
    assert_eq!(tree.get(key).map(|row| &row.value), model.get(key), "{place}, key {key:?}");
    for start in [Bound::Included(key), Bound::Excluded(key)] {
        let found: Vec<_> = tree.iter_from(start).take(3).map(|row| (&row.key[..], row.value)).collect();
        let expected = model.range::<[u8], _>((start, Bound::Unbounded)).take(3);
        assert_eq!(found, expected.map(|(key, value)| (&key[..], *value)).collect::<Vec<_>>(), "{place}, {start:?}");
    }
}

fn all_of(model: &Model) -> Vec<(Vec<u8>, u64)> {
    model.iter().map(|(key, value)| (key.clone(), *value)).collect()
}

/// How keys look: each finds other faults.
const SHAPES: [fn(&mut Random) -> Vec<u8>; 4] = [
    // Prefixes of one another, and zeros that look like the padding of a head.
    |random| (0..random.below(14)).map(|_| [0, 0, 0, b'a', 0xff][random.below(5) as usize]).collect(),
    // A long prefix that most share, and some do not.
    |random| {
        let prefix = ["", "user/", "user/long/prefix/", "user/long/prefix/of/many"][random.below(4) as usize];
        format!("{prefix}{}", random.below(300)).into_bytes()
    },
    // Numbers of one width.
    |random| format!("key{:012}", random.below(2000)).into_bytes(),
    // Nothing in common, and often longer than a head.
    |random| (0..random.below(12)).map(|_| random.below(256) as u8).collect(),
];

#[test]
fn it_does_what_a_map_of_the_standard_library_does() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let key_of = SHAPES[seed as usize % SHAPES.len()];
        let (mut tree, mut model) = (Tree::default(), Model::new());
        for step in 0..1500 {
            let place = format!("seed {seed}, step {step}");
            let mut key = key_of(&mut random);
            // Grows for a while, then shrinks, again and again.
            let removals = if step % 600 < 400 { 1 } else { 6 };
            if random.below(8) < removals {
                // One that is there, mostly.
                key = model.range(key.clone()..).next().map_or_else(|| key.clone(), |(key, _)| key.clone());
                assert_eq!(remove(&mut tree, &key), model.remove(&key), "{place}, key {key:?}");
            } else {
                assert_eq!(put(&mut tree, &key, step), model.insert(key.clone(), step), "{place}, key {key:?}");
            }
            check(&tree);
            compare(&tree, &model, &key, &place);
            compare(&tree, &model, &key_of(&mut random), &place);
        }
        assert_eq!(entries(&tree, Bound::Unbounded), all_of(&model), "seed {seed}");
    }
}

#[test]
fn a_clone_stays_as_it_was_while_the_other_changes() {
    for seed in 0..12 {
        let mut random = Random::new(seed);
        let key_of = SHAPES[seed as usize % SHAPES.len()];
        let (mut tree, mut model) = (Tree::default(), Model::new());
        let mut frozen = Vec::new();
        for step in 0..3000 {
            if step % 500 == 0 {
                frozen.push((tree.clone(), model.clone()));
            }
            let key = key_of(&mut random);
            if random.below(3) == 0 {
                assert_eq!(remove(&mut tree, &key), model.remove(&key), "seed {seed}, step {step}");
            } else {
                put(&mut tree, &key, step);
                model.insert(key, step);
            }
        }
        frozen.push((tree, model));
        for (at, (tree, model)) in frozen.iter().enumerate() {
            check(tree);
            assert_eq!(entries(tree, Bound::Unbounded), all_of(model), "seed {seed}, clone {at}");
        }
    }
}

#[test]
fn a_write_below_a_clone_copies_one_node_on_each_level_and_a_removal_of_nothing_copies_none() {
    let mut tree = numbered((0..20_000).collect());
    let frozen = tree.clone();
    assert_eq!(remove(&mut tree, b"absent"), None);
    assert!(Arc::ptr_eq(&tree.root, &frozen.root), "copied for nothing");
    put(&mut tree, &number(7_000), 1);
    assert_eq!(unshared(&tree.root, &frozen.root), (3, 3), "nodes copied, levels");
    put(&mut tree, &number(7_000), 2);
    assert_eq!(unshared(&tree.root, &frozen.root), (3, 3), "what is its own is changed in place");
}

/// How many nodes the trees do not share, and how many levels they have.
fn unshared(a: &Arc<Node<Row>>, b: &Arc<Node<Row>>) -> (usize, usize) {
    match (&**a, &**b) {
        (Node::Inner(a_inner), Node::Inner(b_inner)) => {
            let below: Vec<_> = a_inner.children.iter().zip(&b_inner.children).map(|(a, b)| unshared(a, b)).collect();
            let nodes: usize = below.iter().map(|below| below.0).sum();
            (nodes + usize::from(!Arc::ptr_eq(a, b)), below[0].1 + 1)
        }
        _ => (usize::from(!Arc::ptr_eq(a, b)), 1),
    }
}

fn number(number: u64) -> Vec<u8> {
    format!("key{number:012}").into_bytes()
}

fn numbered(numbers: Vec<u64>) -> Tree<Row> {
    let mut tree = Tree::default();
    for at in numbers {
        assert_eq!(put(&mut tree, &number(at), at), None);
    }
    tree
}

fn shuffled(count: u64) -> Vec<u64> {
    let mut random = Random::new(count);
    let mut numbers: Vec<u64> = (0..count).collect();
    for at in (1..numbers.len()).rev() {
        numbers.swap(at, random.below(at as u64 + 1) as usize);
    }
    numbers
}

#[test]
fn keys_may_come_and_go_in_any_order() {
    const COUNT: u64 = 5_000;
    let orders = || [(0..COUNT).collect(), (0..COUNT).rev().collect(), shuffled(COUNT)];
    for (at, coming) in orders().into_iter().enumerate() {
        let full = numbered(coming);
        check(&full);
        assert!(full.iter_from(Bound::Unbounded).map(|row| row.value).eq(0..COUNT), "order {at}");
        for going in orders() {
            let mut tree = full.clone();
            for (step, at) in going.into_iter().enumerate() {
                assert_eq!(remove(&mut tree, &number(at)), Some(at));
                assert_eq!(tree.get(&number(at)), None);
                if step % 97 == 0 {
                    check(&tree);
                }
            }
            check(&tree);
            assert_eq!(nodes(&tree.root), 1, "what was deleted keeps nodes");
        }
    }
}

fn nodes(node: &Node<Row>) -> usize {
    match node {
        Node::Leaf(_) => 1,
        Node::Inner(inner) => 1 + inner.children.iter().map(|child| nodes(child)).sum::<usize>(),
    }
}

#[test]
fn nodes_are_at_least_two_thirds_full_however_keys_come() {
    const COUNT: u64 = 20_000;
    for (at, coming) in [(0..COUNT).collect(), (0..COUNT).rev().collect(), shuffled(COUNT)].into_iter().enumerate() {
        let tree = numbered(coming);
        let leaves = COUNT / (KEYS_MAX as u64 * 2 / 3);
        assert!(nodes(&tree.root) as u64 <= leaves + leaves / 20, "order {at}: {} nodes", nodes(&tree.root));
    }
}

#[test]
fn separators_are_no_longer_than_they_have_to_be() {
    let mut tree = Tree::default();
    for at in 0..1000_u64 {
        let key = format!("{at:03}/and/what/tells/nothing/apart");
        put(&mut tree, key.as_bytes(), at);
    }
    let Node::Inner(root) = &*tree.root else { panic!("1000 keys fit into no leaf") };
    assert!(root.separators.iter_from(0).all(|separator| separator.key().len() <= 3), "{:?}", root.separators);
}

#[test]
fn what_is_prefetched_for_a_key_is_what_a_search_finds() {
    let key = |number: u64| format!("key{number:06}").into_bytes();
    let mut tree = Tree::default();
    for rows in [0, 1, 20, 500, 20_000] {
        for number in tree.len() as u64..rows {
            put(&mut tree, &key(number), number);
        }
        let mut random = Random::new(rows);
        let asked: Vec<Vec<u8>> = (0..PREFETCHED_MAX + 4).map(|_| key(random.below(rows.max(1)))).collect();
        tree.prefetch(asked.iter().map(|key| &key[..]));
        let prefetched = PREFETCHED.take();
        assert_eq!(prefetched, if rows == 0 { &[][..] } else { &asked[..PREFETCHED_MAX] }, "{rows} rows");
        tree.prefetch([&b""[..], b"k", b"kez", b"zzz", b"key", b"key00000x", b"\xff"].into_iter());
        assert!(PREFETCHED.take().is_empty(), "of what is not there");
    }
}

#[test]
fn of_keys_that_look_alike_all_are_prefetched() {
    let alike = |last: u8| [&b"begins as eight others"[..], &[last]].concat();
    let mut tree = Tree::default();
    put(&mut tree, b"b", 0);
    for last in b'a'..b'i' {
        put(&mut tree, &alike(last), 0);
    }
    tree.prefetch([&alike(b'c')[..]].into_iter());
    assert_eq!(PREFETCHED.take(), (b'a'..b'i').map(alike).collect::<Vec<_>>());
}
