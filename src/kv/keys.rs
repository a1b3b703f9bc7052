//! A node's keys, found by numbers that lie side by side, not by looking behind pointers.
//!
//! A node's keys are neighbours, so they begin alike. How many bytes all of them share is kept, and of what follows in
//! each key up to 8 bytes as one number, its head, the first byte the highest, what lacks as zeros:
//!
//! ```text
//!   key of the node      prefix        head               not in the head
//!   user/0017/name       user/00       17/name, 0x00      -
//!   user/0023/address    user/00       23/addre           ss
//!   user/0023/admin      user/00       23/admin           -
//! ```
//!
//! A greater head means a greater key. Of keys with the same head, one that ends within it is the lesser the shorter
//! it is, for then the zeros of the longer one are its own bytes; keys that go on behind it are compared from there.
//! So a search compares the prefix once, then numbers, and touches keys only where heads are the same.

use std::cmp::Ordering;
use std::ops::Range;
use std::slice;

use triomphe::ThinArc;

use super::lists;
use crate::base::Record;
use crate::base::prefetch::{CACHE_LINE_BYTES, prefetch};

/// Most keys of a node: with more, a write moves and copies more; with fewer, the tree is higher and its nodes' own
/// memory weighs more.
pub const KEYS_MAX: usize = 64;

const HEAD_BYTES: usize = size_of::<u64>();
/// A prefix up to this long is kept beside the heads: looking for it in the first key would be one memory access more.
const PREFIX_NEAR_BYTES: usize = 24;
/// Slots that a search looks at together: what a cache line holds.
const GROUP: usize = CACHE_LINE_BYTES / size_of::<Slot<Record>>();

/// What has a key, under which it is found; the key never changes.
pub trait Keyed {
    fn key(&self) -> &[u8];

    /// Has the processor fetch it, where somebody asks for that.
    fn prefetch(&self) {}
}

impl Keyed for Record {
    fn key(&self) -> &[u8] {
        Record::key(self)
    }

    fn prefetch(&self) {
        Record::prefetch(self);
    }
}

/// A key alone, in one word like a record.
#[derive(Clone, Debug)]
pub struct Separator(ThinArc<(), u8>);

impl Separator {
    pub fn new(key: &[u8]) -> Separator {
        Separator(ThinArc::from_header_and_slice((), key))
    }
}

impl Keyed for Separator {
    fn key(&self) -> &[u8] {
        &self.0.slice
    }
}

/// Keys, or what has keys, sorted.
#[derive(Clone, Debug)]
pub struct Keys<K> {
    /// What the first and the last key share, and so all.
    prefix_bytes: usize,
    /// The prefix, if it is not longer.
    prefix_near: [u8; PREFIX_NEAR_BYTES],
    slots: Vec<Slot<K>>,
}

#[derive(Clone, Debug)]
struct Slot<K> {
    head: u64,
    keyed: K,
}

impl<K: Keyed> Keys<K> {
    /// Of none.
    pub fn new() -> Keys<K> {
        Keys { prefix_bytes: 0, prefix_near: [0; PREFIX_NEAR_BYTES], slots: Vec::new() }
    }

    /// Of one.
    pub fn of(keyed: K) -> Keys<K> {
        Keys::from_slots(vec![Slot { head: 0, keyed }])
    }

    /// Their heads are anything yet.
    fn from_slots(slots: Vec<Slot<K>>) -> Keys<K> {
        let mut keys = Keys { slots, ..Keys::new() };
        keys.renew();
        keys
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn get(&self, at: usize) -> Option<&K> {
        self.slots.get(at).map(|slot| &slot.keyed)
    }

    /// Whoever changes it leaves its key as it is.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut K> {
        self.slots.get_mut(at).map(|slot| &mut slot.keyed)
    }

    pub fn iter_from(&self, at: usize) -> Iter<'_, K> {
        Iter(self.slots[at..].iter())
    }

    /// Where `key` is, or where it would have to be inserted.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        match self.compare_prefix(key) {
            Ordering::Less => Err(0),
            Ordering::Greater => Err(self.len()),
            Ordering::Equal => self.find(self.alike(key), key),
        }
    }

    /// A search for `key`, up to where it compares keys; of a prefix that is not near it has looked at the first.
    pub fn seek<'k>(&self, key: &'k [u8]) -> Sought<'_, 'k, K> {
        let alike = if self.compare_prefix(key).is_eq() { self.alike(key) } else { 0..0 };
        Sought { keys: self, key, alike }
    }

    /// Has the processor fetch what every search looks at, but for a prefix that is not near.
    pub fn prefetch(&self) {
        prefetch(self.slots.as_ptr(), size_of_val(&self.slots[..]));
    }

    /// The start of `key` to the prefix.
    fn compare_prefix(&self, key: &[u8]) -> Ordering {
        let start = &key[..self.prefix_bytes.min(key.len())];
        let prefix = self.prefix_near.get(..self.prefix_bytes);
        start.cmp(prefix.unwrap_or_else(|| &self.slots[0].keyed.key()[..self.prefix_bytes]))
    }

    /// The slots with the head of `key`, which begins with the prefix; where they would be if there is none.
    fn alike(&self, key: &[u8]) -> Range<usize> {
        let head = head_of(key, self.prefix_bytes);
        let from = self.lesser(head);
        from..from + self.slots[from..].iter().take_while(|slot| slot.head == head).count()
    }

    /// [`Keys::search`] among those that are `alike`.
    fn find(&self, alike: Range<usize>, key: &[u8]) -> Result<usize, usize> {
        let (from, behind) = (alike.start, self.prefix_bytes + HEAD_BYTES);
        let found = self.slots[alike].binary_search_by(|slot| compare_behind(slot.keyed.key(), key, behind));
        found.map(|at| from + at).map_err(|at| from + at)
    }

    /// How many heads are less than `head`.
    ///
    /// A binary search would wait for memory at each of its first steps, since where it looks next depends on what it
    /// found. Here nothing depends on anything: the last head of every group is looked at, all at once, and then the one
    /// group that is left, which has come with its last head.
    fn lesser(&self, head: u64) -> usize {
        let (groups, rest) = self.slots.as_chunks::<GROUP>();
        let before = groups.iter().map(|group| usize::from(group[GROUP - 1].head < head)).sum::<usize>();
        let group = groups.get(before).map_or(rest, |group| &group[..]);
        before * GROUP + group.iter().map(|slot| usize::from(slot.head < head)).sum::<usize>()
    }

    /// `at`: where a search for it says.
    pub fn insert(&mut self, at: usize, keyed: K) {
        let is_end = at == 0 || at == self.len();
        lists::insert(&mut self.slots, at, Slot { head: 0, keyed });
        if !(is_end && self.renew_if_stale()) {
            self.slots[at].head = head_of(self.slots[at].keyed.key(), self.prefix_bytes);
        }
    }

    pub fn remove(&mut self, at: usize) -> K {
        let removed = lists::remove(&mut self.slots, at);
        if at == 0 || at == self.len() {
            self.renew_if_stale();
        }
        removed.keyed
    }

    /// Keeps what is before `cut`.
    pub fn split_off(&mut self, cut: usize) -> Keys<K> {
        let behind = Keys::from_slots(lists::split_off(&mut self.slots, cut));
        self.renew();
        behind
    }

    /// Takes in `more`, which lie behind.
    pub fn append(&mut self, more: Keys<K>) {
        lists::append(&mut self.slots, more.slots);
        self.renew();
    }

    /// After a change at an end, which alone decides what the prefix is. True: it is another one, and all heads are new.
    fn renew_if_stale(&mut self) -> bool {
        let is_stale = self.shared_by_ends() != self.prefix_bytes;
        if is_stale {
            self.renew();
        }
        is_stale
    }

    fn renew(&mut self) {
        self.prefix_bytes = self.shared_by_ends();
        self.prefix_near = [0; PREFIX_NEAR_BYTES];
        if let (Some(first), Some(near)) = (self.slots.first(), self.prefix_near.get_mut(..self.prefix_bytes)) {
            near.copy_from_slice(&first.keyed.key()[..self.prefix_bytes]);
        }
        for slot in &mut self.slots {
            slot.head = head_of(slot.keyed.key(), self.prefix_bytes);
        }
    }

    fn shared_by_ends(&self) -> usize {
        match &self.slots[..] {
            [first, .., last] => shared_bytes(first.keyed.key(), last.keyed.key()),
            [only] => only.keyed.key().len(),
            [] => 0,
        }
    }

    /// Panics unless all that is kept of these keys is what it would be if it were made anew.
    #[cfg(test)]
    pub fn check(&self)
    where
        K: Clone,
    {
        let anew = Keys::from_slots(self.slots.clone());
        assert!(self.slots.is_sorted_by(|a, b| a.keyed.key() < b.keyed.key()), "keys out of order");
        assert_eq!((self.prefix_bytes, self.prefix_near), (anew.prefix_bytes, anew.prefix_near), "the prefix");
        assert!(self.slots.iter().map(|slot| slot.head).eq(anew.slots.iter().map(|slot| slot.head)), "the heads");
        assert!(self.slots.capacity() <= self.slots.len() + 2 * lists::ROOM, "memory is kept");
    }
}

/// See [`Keys::seek`].
pub struct Sought<'a, 'k, K> {
    keys: &'a Keys<K>,
    key: &'k [u8],
    alike: Range<usize>,
}

impl<'a, K: Keyed> Sought<'a, '_, K> {
    /// Has the processor fetch what [`Sought::found`] will look at: nearly always one, often none.
    pub fn prefetch(&self) {
        self.keys.slots[self.alike.clone()].iter().for_each(|slot| slot.keyed.prefetch());
    }

    pub fn found(self) -> Option<&'a K> {
        self.keys.find(self.alike, self.key).ok().and_then(|at| self.keys.get(at))
    }
}

/// See [`Keys::iter_from`].
#[derive(Debug)]
pub struct Iter<'a, K>(slice::Iter<'a, Slot<K>>);

impl<'a, K> Iterator for Iter<'a, K> {
    type Item = &'a K;

    fn next(&mut self) -> Option<&'a K> {
        self.0.next().map(|slot| &slot.keyed)
    }
}

/// How many bytes two keys have in common at their start.
pub fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// `key` has at least `prefix_bytes`.
fn head_of(key: &[u8], prefix_bytes: usize) -> u64 {
    let rest = &key[prefix_bytes..];
    if let Some(head) = rest.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    // A shift of the key's last bytes is quicker than a copy of so many bytes as are left.
    if let Some(last) = key.last_chunk() {
        let lacking_bits = 8 * (HEAD_BYTES - rest.len()) as u32;
        return u64::from_be_bytes(*last).checked_shl(lacking_bits).unwrap_or(0);
    }
    let mut head = [0; HEAD_BYTES];
    head[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(head)
}

/// How keys relate that have the same prefix and head, which end `behind` bytes from their start.
fn compare_behind(a: &[u8], b: &[u8], behind: usize) -> Ordering {
    if a.len().min(b.len()) <= behind { a.len().cmp(&b.len()) } else { a[behind..].cmp(&b[behind..]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_the_8_bytes_behind_the_prefix_and_zeros_for_what_lacks() {
        assert_eq!(head_of(b"abcdefghij", 1), u64::from_be_bytes(*b"bcdefghi"));
        assert_eq!(head_of(b"abcdefghij", 7), u64::from_be_bytes(*b"hij\0\0\0\0\0"));
        assert_eq!(head_of(b"abcdefghij", 10), 0);
        assert_eq!(head_of(b"abc", 1), u64::from_be_bytes(*b"bc\0\0\0\0\0\0"));
        assert_eq!(head_of(b"", 0), 0);
    }

    fn keys(of: &[impl AsRef<[u8]>]) -> Keys<Separator> {
        let mut keys = Keys::new();
        of.iter().for_each(|key| keys.insert(keys.len(), Separator::new(key.as_ref())));
        keys.check();
        keys
    }

    #[test]
    fn keys_that_differ_only_in_zeros_at_their_ends_are_told_apart() {
        let all: Vec<Vec<u8>> = (0..20).map(|zeros| [&b"a"[..], &vec![0; zeros]].concat()).collect();
        for present in 0..20 {
            let some: Vec<&Vec<u8>> = all.iter().skip(present % 3).step_by(1 + present % 4).collect();
            let keys = keys(&some);
            for zeros in 0..22 {
                let key = [&b"a"[..], &vec![0; zeros]].concat();
                assert_eq!(keys.search(&key), some.binary_search(&&key), "{zeros} zeros");
            }
        }
    }

    /// The search goes to the ends of groups first: however many there are, and wherever the last one ends.
    #[test]
    fn each_key_is_found_among_any_number() {
        for count in 0..=KEYS_MAX {
            let all: Vec<String> = (0..count).map(|number| format!("key{:03}", 2 * number + 1)).collect();
            let keys = keys(&all);
            for number in 0..2 * count + 1 {
                let key = format!("key{number:03}");
                assert_eq!(keys.search(key.as_bytes()), all.binary_search(&key), "{key} of {count}");
            }
        }
    }

    #[test]
    fn a_key_without_the_prefix_is_before_all_or_behind_all() {
        let keys = keys(&["prefix/a", "prefix/b"]);
        for before in ["", "p", "prefix", "prefix.z", "prefix/"] {
            assert_eq!(keys.search(before.as_bytes()), Err(0), "{before}");
        }
        for behind in ["prefix0", "q", "prefixed/a"] {
            assert_eq!(keys.search(behind.as_bytes()), Err(2), "{behind}");
        }
    }

    #[test]
    fn nothing_is_found_among_no_keys() {
        let keys = Keys::<Separator>::new();
        assert_eq!(keys.search(b""), Err(0));
        assert_eq!(keys.search(b"a"), Err(0));
    }
}
