//! An ordered set of what has keys that is quick to search, cheap to freeze, and never does much at once.
//!
//! A B+ tree: what is stored is in the leaves, all at the same depth; an inner node has one child more than separators,
//! and separator n is greater than every key of child n and at most the least of child n + 1. How a node finds a key among
//! its own is told in `keys`.
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

use super::keys::{self, KEYS_MAX, Keyed, Keys, Separator, Sought, shared_bytes};
use super::lists;
use crate::base::prefetch::prefetch;

/// Most keys that are prefetched at once: what comes for the last must not drive out what came for the first.
pub const PREFETCHED_MAX: usize = 16;
/// Fewest keys of a node.
const KEYS_MIN: usize = KEYS_MAX / 4;
/// What two neighbours may have together to be merged: room is left, lest the next write split them again.
const MERGED_KEYS_MAX: usize = KEYS_MAX * 3 / 4;

/// Cloning freezes it, at no cost (see the module). Nothing but tests clones one yet.
#[derive(Clone, Debug)]
pub struct Tree<R> {
    root: Arc<Node<R>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node<R> {
    Leaf(Keys<R>),
    Inner(Inner<R>),
}

#[derive(Clone, Debug)]
struct Inner<R> {
    separators: Keys<Separator>,
    children: Vec<Arc<Node<R>>>,
}

/// What a node gives up to its parent when it has become too large.
struct Split<R> {
    separator: Separator,
    right: Arc<Node<R>>,
}

impl<R: Keyed> Default for Tree<R> {
    fn default() -> Tree<R> {
        Tree { root: Arc::new(Node::Leaf(Keys::new())), len: 0 }
    }
}

impl<R: Keyed> Tree<R> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, key: &[u8]) -> Option<&R> {
        self.seek(key).found()
    }

    /// The search for `key`, up to where it compares keys.
    pub fn seek<'k>(&self, key: &'k [u8]) -> Sought<'_, 'k, R> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)],
                Node::Leaf(leaf) => return leaf.seek(key),
            }
        }
    }

    /// Has the processor fetch what a search for each of `keys` will look at, of [`PREFETCHED_MAX`] of them at most. All
    /// go down together, level by level, so that their memory comes at the same time, where each alone would wait for
    /// its own at every level.
    pub fn prefetch<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let mut ways = [(&b""[..], &*self.root); PREFETCHED_MAX];
        let count = ways.iter_mut().zip(keys).map(|(way, key)| way.0 = key).count();
        let ways = &mut ways[..count];
        loop {
            let at_leaves = ways.first().is_none_or(|(_, first)| matches!(first, Node::Leaf(_)));
            for (key, node) in &mut *ways {
                match node {
                    Node::Leaf(leaf) => leaf.seek(key).prefetch(),
                    Node::Inner(inner) => {
                        *node = &inner.children[inner.child_of(key)];
                        prefetch(*node, size_of::<Node<R>>());
                    }
                }
            }
            if at_leaves {
                return;
            }
            ways.iter().for_each(|(_, node)| node.prefetch_keys());
        }
    }

    /// What is stored from `start` on, ascending.
    pub fn iter_from(&self, start: Bound<&[u8]>) -> Iter<'_, R> {
        let (Bound::Included(key) | Bound::Excluded(key)) = start else {
            return Iter { behind: vec![slice::from_ref(&self.root).iter()], leaf: None };
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
                    return Iter { behind, leaf: Some(leaf.iter_from(from)) };
                }
            }
        }
    }
}

impl<R: Keyed + Clone> Tree<R> {
    /// `write` changes what is stored under `key`, or makes it where nothing is. The key stays; and a change must not
    /// show in clones of what is changed, for a frozen tree may hold one.
    pub fn upsert(&mut self, key: &[u8], write: impl FnOnce(Option<&mut R>) -> Option<R>) {
        let mut is_new = false;
        let write = |stored: Option<&mut R>| {
            let made = write(stored);
            is_new = made.is_some();
            made
        };
        if let Some(Split { separator, right }) = Node::upsert(&mut self.root, key, write) {
            let children = vec![Arc::clone(&self.root), right];
            self.root = Arc::new(Node::Inner(Inner { separators: Keys::of(separator), children }));
        }
        self.len += usize::from(is_new);
    }

    /// What was stored under `key`. Of an absent key nothing is copied.
    pub fn remove(&mut self, key: &[u8]) -> Option<R> {
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

impl<R: Keyed + Clone> Node<R> {
    fn upsert(
        node: &mut Arc<Node<R>>,
        key: &[u8],
        write: impl FnOnce(Option<&mut R>) -> Option<R>,
    ) -> Option<Split<R>> {
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => upsert_in_leaf(leaf, key, write),
            Node::Inner(inner) => {
                let at = inner.child_of(key);
                let split = Node::upsert(&mut inner.children[at], key, write)?;
                inner.insert(at, split)
            }
        }
    }

    fn remove(node: &mut Arc<Node<R>>, key: &[u8]) -> Option<R> {
        match Arc::make_mut(node) {
            Node::Leaf(leaf) => leaf.search(key).ok().map(|at| leaf.remove(at)),
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

impl<R: Keyed> Node<R> {
    fn prefetch_keys(&self) {
        match self {
            Node::Leaf(leaf) => leaf.prefetch(),
            Node::Inner(inner) => inner.separators.prefetch(),
        }
    }

    /// How many keys it finds its way by.
    fn keys(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len(),
            Node::Inner(inner) => inner.separators.len(),
        }
    }

    /// Becomes both nodes in one, or, where that would be too large, the first of two that are alike in size.
    fn merge(&mut self, separator: Separator, right: Node<R>) -> Option<Split<R>> {
        let keys = self.keys() + right.keys();
        let cut = (keys > MERGED_KEYS_MAX).then_some(keys / 2);
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.append(right);
                cut.map(|cut| split_leaf(left, cut))
            }
            (Node::Inner(left), Node::Inner(right)) => {
                left.separators.insert(left.separators.len(), separator);
                left.separators.append(right.separators);
                lists::append(&mut left.children, right.children);
                cut.map(|cut| left.split(cut))
            }
            _ => unreachable!("neighbours have the same depth"),
        }
    }
}

fn upsert_in_leaf<R: Keyed>(
    leaf: &mut Keys<R>,
    key: &[u8],
    write: impl FnOnce(Option<&mut R>) -> Option<R>,
) -> Option<Split<R>> {
    let at = match leaf.search(key) {
        Ok(at) => {
            let made = write(leaf.get_mut(at));
            debug_assert!(made.is_none(), "what is there is changed, and not made");
            debug_assert!(leaf.get(at).is_some_and(|changed| changed.key() == key), "a change has changed the key");
            return None;
        }
        Err(at) => at,
    };
    leaf.insert(at, write(None)?);
    (leaf.len() > KEYS_MAX).then(|| split_leaf(leaf, cut(at)))
}

/// Keeps what is before `cut`.
fn split_leaf<R: Keyed>(leaf: &mut Keys<R>, cut: usize) -> Split<R> {
    let right = leaf.split_off(cut);
    // No longer than it takes to tell one from the other.
    let separator = match (leaf.get(cut - 1), right.get(0)) {
        (Some(last), Some(first)) => Separator::new(&first.key()[..=shared_bytes(last.key(), first.key())]),
        _ => unreachable!("a leaf is split between two keys"),
    };
    Split { separator, right: Arc::new(Node::Leaf(right)) }
}

impl<R: Keyed> Inner<R> {
    fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// Takes in what the child at `at` gave up.
    fn insert(&mut self, at: usize, split: Split<R>) -> Option<Split<R>> {
        self.separators.insert(at, split.separator);
        lists::insert(&mut self.children, at + 1, split.right);
        (self.separators.len() > KEYS_MAX).then(|| self.split(cut(at)))
    }

    /// Keeps the separators before `cut` and the children between them.
    fn split(&mut self, cut: usize) -> Split<R> {
        let children = lists::split_off(&mut self.children, cut + 1);
        let mut separators = self.separators.split_off(cut);
        let separator = separators.remove(0);
        Split { separator, right: Arc::new(Node::Inner(Inner { separators, children })) }
    }
}

impl<R: Keyed + Clone> Inner<R> {
    /// Merges the child at `at`, which has too few keys, with a neighbour, or takes of the neighbour's.
    fn level(&mut self, at: usize) {
        let left = at.saturating_sub(1);
        let separator = self.separators.remove(left);
        let right = Arc::unwrap_or_clone(lists::remove(&mut self.children, left + 1));
        if let Some(split) = Arc::make_mut(&mut self.children[left]).merge(separator, right) {
            self.separators.insert(left, split.separator);
            lists::insert(&mut self.children, left + 1, split.right);
        }
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

/// See [`Tree::iter_from`].
#[derive(Debug)]
pub struct Iter<'a, R> {
    /// For each level what lies behind the way to the leaf, the root's first.
    behind: Vec<slice::Iter<'a, Arc<Node<R>>>>,
    /// What is left of the leaf.
    leaf: Option<keys::Iter<'a, R>>,
}

impl<'a, R: Keyed> Iterator for Iter<'a, R> {
    type Item = &'a R;

    fn next(&mut self) -> Option<&'a R> {
        loop {
            if let Some(found) = self.leaf.as_mut().and_then(Iterator::next) {
                return Some(found);
            }
            match self.behind.last_mut()?.next().map(|node| &**node) {
                Some(Node::Leaf(leaf)) => self.leaf = Some(leaf.iter_from(0)),
                Some(Node::Inner(inner)) => self.behind.push(inner.children.iter()),
                None => drop(self.behind.pop()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
