//! An ordered map from keys to values that is quick to search, cheap to freeze, and never does much at once.
//!
//! A B+ tree: values are in the leaves, all at the same depth; an inner node has one child more than separators, and
//! separator n is greater than every key of child n and at most the least of child n + 1. How a node finds a key among
//! its own is told in `heads`.
//!
//! A clone shares all nodes, costs nothing, and stays as it is: a node that somebody else holds too is copied before
//! it is changed, on the way down to the key. So a write changes or copies one node on each level, and what a split
//! or a merge adds to that; no table grows or is freed in one step, except by dropping a tree's last clone. What a
//! write costs at most goes with the tree's height, and with [`KEYS_MAX`].
//!
//! Nodes have from a quarter of that to all of it; the root alone may have less. Below, a node is merged with a
//! neighbour, or levelled with it, so that deletes give memory back. A node that is appended to, or prepended to, is
//! not split in the middle: keys in order would leave all nodes half empty.

use std::ops::Bound;
use std::slice;
use std::sync::Arc;

use super::heads::{Heads, KEYS_MAX, shared_bytes};

/// Fewest entries of a leaf, fewest separators of an inner node.
const KEYS_MIN: usize = KEYS_MAX / 4;
/// What two neighbours may have together to be merged: room is left, lest the next write split them again.
const MERGED_KEYS_MAX: usize = KEYS_MAX * 3 / 4;
/// A full list gets room for so many more: few, since most keys of a store lie in lists that rarely change.
const ROOM: usize = 4;

/// Cloning freezes it, at no cost (see the module). Nothing but tests clones one yet.
#[derive(Clone, Debug)]
pub struct Tree<V> {
    root: Arc<Node<V>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node<V> {
    Leaf(Leaf<V>),
    Inner(Inner<V>),
}

#[derive(Clone, Debug)]
struct Leaf<V> {
    heads: Heads,
    entries: Vec<Entry<V>>,
}

#[derive(Clone, Debug)]
struct Inner<V> {
    heads: Heads,
    separators: Vec<Arc<[u8]>>,
    children: Vec<Arc<Node<V>>>,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    /// Of its exact size. Shared it would cost a count beside every key for the rare copy of a leaf.
    key: Box<[u8]>,
    value: V,
}

/// What a node gives up to its parent when it has become too large.
struct Split<V> {
    separator: Arc<[u8]>,
    right: Arc<Node<V>>,
}

impl<V> Default for Tree<V> {
    fn default() -> Tree<V> {
        Tree { root: Arc::new(Node::Leaf(Leaf::new(Vec::new()))), len: 0 }
    }
}

impl<V> Tree<V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)],
                Node::Leaf(leaf) => return leaf.search(key).ok().map(|at| &leaf.entries[at].value),
            }
        }
    }

    /// The entries from `start` on, ascending.
    pub fn iter_from(&self, start: Bound<&[u8]>) -> Iter<'_, V> {
        let (Bound::Included(key) | Bound::Excluded(key)) = start else {
            return Iter { behind: vec![slice::from_ref(&self.root).iter()], entries: [].iter() };
        };
        let mut behind = Vec::new();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.child_of(key);
                    behind.push(inner.children[at + 1..].iter());
                    node = &inner.children[at];
                }
                Node::Leaf(leaf) => {
                    let from = match leaf.search(key) {
                        Ok(at) => at + usize::from(start == Bound::Excluded(key)),
                        Err(at) => at,
                    };
                    return Iter { behind, entries: leaf.entries[from..].iter() };
                }
            }
        }
    }
}

impl<V: Clone> Tree<V> {
    /// Stores under `key` what `value` makes of what is stored there now.
    pub fn upsert(&mut self, key: &[u8], value: impl FnOnce(Option<&V>) -> V) {
        let mut is_new = false;
        let value = |old: Option<&V>| {
            is_new = old.is_none();
            value(old)
        };
        if let Some(Split { separator, right }) = Node::upsert(&mut self.root, key, value) {
            let children = vec![Arc::clone(&self.root), right];
            self.root = Arc::new(Node::Inner(Inner::new(vec![separator], children)));
        }
        self.len += usize::from(is_new);
    }

    /// What was stored under `key`. Of an absent key nothing is copied.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.get(key)?;
        let removed = Node::remove(&mut self.root, key)?;
        while let Node::Inner(Inner { children, .. }) = &*self.root
            && let [only] = &children[..]
        {
            self.root = Arc::clone(only);
        }
        self.len -= 1;
        Some(removed)
    }
}

impl<V: Clone> Node<V> {
    fn upsert(node: &mut Arc<Node<V>>, key: &[u8], value: impl FnOnce(Option<&V>) -> V) -> Option<Split<V>> {
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => leaf.upsert(key, value),
            Node::Inner(inner) => {
                let at = inner.child_of(key);
                let split = Node::upsert(&mut inner.children[at], key, value)?;
                inner.insert(at, split)
            }
        }
    }

    fn remove(node: &mut Arc<Node<V>>, key: &[u8]) -> Option<V> {
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => leaf.remove(key),
            Node::Inner(inner) => {
                let at = inner.child_of(key);
                let removed = Node::remove(&mut inner.children[at], key);
                if inner.children[at].keys() < KEYS_MIN {
                    inner.level(at);
                }
                removed
            }
        }
    }
}

impl<V> Node<V> {
    /// How many keys it finds its way by.
    fn keys(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.entries.len(),
            Node::Inner(inner) => inner.separators.len(),
        }
    }

    /// Becomes both nodes in one, or, where that would be too large, the first of two that are alike in size.
    fn merge(&mut self, separator: Arc<[u8]>, right: Node<V>) -> Option<Split<V>> {
        let keys = self.keys() + right.keys();
        let cut = (keys > MERGED_KEYS_MAX).then_some(keys / 2);
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => left.merge(right, cut),
            (Node::Inner(left), Node::Inner(right)) => left.merge(separator, right, cut),
            _ => unreachable!("neighbours have the same depth"),
        }
    }
}

impl<V> Leaf<V> {
    fn new(entries: Vec<Entry<V>>) -> Leaf<V> {
        Leaf { heads: Heads::new(&entries), entries }
    }

    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.heads.search(&self.entries, key)
    }

    fn upsert(&mut self, key: &[u8], value: impl FnOnce(Option<&V>) -> V) -> Option<Split<V>> {
        let at = match self.search(key) {
            Ok(at) => {
                let old = &mut self.entries[at].value;
                *old = value(Some(old));
                return None;
            }
            Err(at) => at,
        };
        insert(&mut self.entries, at, Entry { key: key.into(), value: value(None) });
        if self.entries.len() > KEYS_MAX {
            return Some(self.split(cut(at)));
        }
        self.heads.inserted(&self.entries, at);
        None
    }

    /// Keeps what is before `cut`.
    fn split(&mut self, cut: usize) -> Split<V> {
        let right = split_off(&mut self.entries, cut);
        self.heads = Heads::new(&self.entries);
        let (last, first) = (&self.entries[cut - 1].key, &right[0].key);
        // No longer than it takes to tell one from the other.
        let separator = Arc::from(&first[..=shared_bytes(last, first)]);
        Split { separator, right: Arc::new(Node::Leaf(Leaf::new(right))) }
    }

    fn remove(&mut self, key: &[u8]) -> Option<V> {
        let at = self.search(key).ok()?;
        let entry = remove(&mut self.entries, at);
        self.heads.removed(&self.entries, at);
        Some(entry.value)
    }

    fn merge(&mut self, right: Leaf<V>, cut: Option<usize>) -> Option<Split<V>> {
        append(&mut self.entries, right.entries);
        match cut {
            Some(cut) => Some(self.split(cut)),
            None => {
                self.heads = Heads::new(&self.entries);
                None
            }
        }
    }
}

impl<V> Inner<V> {
    fn new(separators: Vec<Arc<[u8]>>, children: Vec<Arc<Node<V>>>) -> Inner<V> {
        Inner { heads: Heads::new(&separators), separators, children }
    }

    fn child_of(&self, key: &[u8]) -> usize {
        match self.heads.search(&self.separators, key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// Takes in what the child at `at` gave up.
    fn insert(&mut self, at: usize, split: Split<V>) -> Option<Split<V>> {
        insert(&mut self.separators, at, split.separator);
        insert(&mut self.children, at + 1, split.right);
        if self.separators.len() > KEYS_MAX {
            return Some(self.split(cut(at)));
        }
        self.heads.inserted(&self.separators, at);
        None
    }

    /// Keeps the separators before `cut` and the children between them.
    fn split(&mut self, cut: usize) -> Split<V> {
        let children = split_off(&mut self.children, cut + 1);
        let mut separators = split_off(&mut self.separators, cut);
        let separator = separators.remove(0);
        self.heads = Heads::new(&self.separators);
        Split { separator, right: Arc::new(Node::Inner(Inner::new(separators, children))) }
    }

    fn merge(&mut self, separator: Arc<[u8]>, right: Inner<V>, cut: Option<usize>) -> Option<Split<V>> {
        append(&mut self.separators, vec![separator]);
        append(&mut self.separators, right.separators);
        append(&mut self.children, right.children);
        match cut {
            Some(cut) => Some(self.split(cut)),
            None => {
                self.heads = Heads::new(&self.separators);
                None
            }
        }
    }
}

impl<V: Clone> Inner<V> {
    /// Merges the child at `at`, which has too few keys, with a neighbour, or takes of the neighbour's.
    fn level(&mut self, at: usize) {
        let left = at.saturating_sub(1);
        let separator = remove(&mut self.separators, left);
        let right = Arc::unwrap_or_clone(remove(&mut self.children, left + 1));
        if let Some(split) = Arc::make_mut(&mut self.children[left]).merge(separator, right) {
            insert(&mut self.separators, left, split.separator);
            insert(&mut self.children, left + 1, split.right);
        }
        self.heads = Heads::new(&self.separators);
    }
}

impl<V> AsRef<[u8]> for Entry<V> {
    fn as_ref(&self) -> &[u8] {
        &self.key
    }
}

/// Where a node with one key too many, the newest at `at`, is split.
fn cut(at: usize) -> usize {
    match at {
        0 => KEYS_MIN,
        KEYS_MAX => KEYS_MAX - KEYS_MIN,
        _ => KEYS_MAX / 2,
    }
}

fn insert<T>(list: &mut Vec<T>, at: usize, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(ROOM);
    }
    list.insert(at, item);
}

fn remove<T>(list: &mut Vec<T>, at: usize) -> T {
    let item = list.remove(at);
    if list.capacity() - list.len() > 2 * ROOM {
        list.shrink_to(list.len() + ROOM);
    }
    item
}

fn split_off<T>(list: &mut Vec<T>, cut: usize) -> Vec<T> {
    let behind = list.split_off(cut);
    list.shrink_to_fit();
    behind
}

fn append<T>(list: &mut Vec<T>, more: Vec<T>) {
    list.reserve_exact(more.len());
    list.extend(more);
}

/// See [`Tree::iter_from`].
#[derive(Debug)]
pub struct Iter<'a, V> {
    /// For each level what lies behind the way to the leaf, the root's first.
    behind: Vec<slice::Iter<'a, Arc<Node<V>>>>,
    /// What is left of the leaf.
    entries: slice::Iter<'a, Entry<V>>,
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (&'a [u8], &'a V);

    fn next(&mut self) -> Option<(&'a [u8], &'a V)> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some((&entry.key, &entry.value));
            }
            match self.behind.last_mut()?.next().map(|node| &**node) {
                Some(Node::Leaf(leaf)) => self.entries = leaf.entries.iter(),
                Some(Node::Inner(inner)) => self.behind.push(inner.children.iter()),
                None => drop(self.behind.pop()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
