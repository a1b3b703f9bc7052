//! How a node of the tree finds a key among its own: by numbers that lie side by side, not by keys behind pointers.
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

/// Most keys of a node: with more, a write moves and copies more; with fewer, the tree is higher and its nodes' own
/// memory weighs more. From 32 to 96 no difference was measured (`bench/README.md`).
pub const KEYS_MAX: usize = 64;

const HEAD_BYTES: usize = size_of::<u64>();
/// A prefix up to this long is kept beside the heads: looking for it in the first key would be one memory access more.
const PREFIX_NEAR_BYTES: usize = 24;

/// What is known of a node's keys, which are kept elsewhere, sorted: the same ones are handed to every call.
#[derive(Clone, Debug)]
pub struct Heads {
    /// What the first and the last key share, and so all.
    prefix_bytes: usize,
    /// The prefix, if it is not longer.
    prefix_near: [u8; PREFIX_NEAR_BYTES],
    /// One for each key. Behind them: anything.
    heads: [u64; KEYS_MAX],
}

impl Heads {
    pub fn new<K: AsRef<[u8]>>(keys: &[K]) -> Heads {
        let prefix_bytes = prefix_of(keys);
        let mut prefix_near = [0; PREFIX_NEAR_BYTES];
        if let (Some(first), Some(near)) = (keys.first(), prefix_near.get_mut(..prefix_bytes)) {
            near.copy_from_slice(&first.as_ref()[..prefix_bytes]);
        }
        let mut heads = Heads { prefix_bytes, prefix_near, heads: [0; KEYS_MAX] };
        for (head, key) in heads.heads[..keys.len()].iter_mut().zip(keys) {
            *head = head_of(key.as_ref(), heads.prefix_bytes);
        }
        heads
    }

    /// Where `key` is, or where it would have to be inserted.
    pub fn search<K: AsRef<[u8]>>(&self, keys: &[K], key: &[u8]) -> Result<usize, usize> {
        let Some(first) = keys.first() else { return Err(0) };
        let start = &key[..self.prefix_bytes.min(key.len())];
        let prefix = self.prefix_near.get(..self.prefix_bytes);
        match start.cmp(prefix.unwrap_or_else(|| &first.as_ref()[..self.prefix_bytes])) {
            Ordering::Less => Err(0),
            Ordering::Greater => Err(keys.len()),
            Ordering::Equal => self.search_by_head(keys, key),
        }
    }

    /// As [`Heads::search`], for a key that begins with the prefix.
    fn search_by_head<K: AsRef<[u8]>>(&self, keys: &[K], key: &[u8]) -> Result<usize, usize> {
        let head = head_of(key, self.prefix_bytes);
        let heads = &self.heads[..keys.len()];
        let from = heads.partition_point(|other| *other < head);
        let to = from + heads[from..].iter().take_while(|other| **other == head).count();
        let behind = self.prefix_bytes + HEAD_BYTES;
        let found = keys[from..to].binary_search_by(|other| compare_behind(other.as_ref(), key, behind));
        found.map(|at| from + at).map_err(|at| from + at)
    }

    /// `keys` has got a new one at `at`.
    pub fn inserted<K: AsRef<[u8]>>(&mut self, keys: &[K], at: usize) {
        if self.is_stale(keys, at, keys.len() - 1) {
            *self = Heads::new(keys);
        } else {
            self.heads.copy_within(at..keys.len() - 1, at + 1);
            self.heads[at] = head_of(keys[at].as_ref(), self.prefix_bytes);
        }
    }

    /// `keys` has lost the one that was at `at`.
    pub fn removed<K: AsRef<[u8]>>(&mut self, keys: &[K], at: usize) {
        if self.is_stale(keys, at, keys.len()) {
            *self = Heads::new(keys);
        } else {
            self.heads.copy_within(at + 1..keys.len() + 1, at);
        }
    }

    /// Whether a change at `at` has changed the prefix, which only the ends decide.
    fn is_stale<K: AsRef<[u8]>>(&self, keys: &[K], at: usize, last: usize) -> bool {
        (at == 0 || at == last) && prefix_of(keys) != self.prefix_bytes
    }

    /// Panics unless this is what [`Heads::new`] makes of these keys.
    #[cfg(test)]
    pub fn check<K: AsRef<[u8]>>(&self, keys: &[K]) {
        let anew = Heads::new(keys);
        assert!(keys.is_sorted_by(|a, b| a.as_ref() < b.as_ref()), "keys out of order");
        assert_eq!((self.prefix_bytes, self.prefix_near), (anew.prefix_bytes, anew.prefix_near), "the prefix");
        assert_eq!(self.heads[..keys.len()], anew.heads[..keys.len()], "the heads");
    }
}

/// How many bytes two keys have in common at their start.
pub fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn prefix_of<K: AsRef<[u8]>>(keys: &[K]) -> usize {
    match keys {
        [first, .., last] => shared_bytes(first.as_ref(), last.as_ref()),
        [only] => only.as_ref().len(),
        [] => 0,
    }
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

    #[test]
    fn keys_that_differ_only_in_zeros_at_their_ends_are_told_apart() {
        let keys: Vec<Vec<u8>> = (0..20).map(|zeros| [&b"a"[..], &vec![0; zeros]].concat()).collect();
        for present in 0..20 {
            let keys: Vec<&Vec<u8>> = keys.iter().skip(present % 3).step_by(1 + present % 4).collect();
            let heads = Heads::new(&keys);
            for zeros in 0..22 {
                let key = [&b"a"[..], &vec![0; zeros]].concat();
                assert_eq!(heads.search(&keys, &key), keys.binary_search(&&key), "{zeros} zeros");
            }
        }
    }

    #[test]
    fn a_key_without_the_prefix_is_before_all_or_behind_all() {
        let keys = ["prefix/a", "prefix/b"];
        let heads = Heads::new(&keys);
        for before in ["", "p", "prefix", "prefix.z", "prefix/"] {
            assert_eq!(heads.search(&keys, before.as_bytes()), Err(0), "{before}");
        }
        for behind in ["prefix0", "q", "prefixed/a"] {
            assert_eq!(heads.search(&keys, behind.as_bytes()), Err(2), "{behind}");
        }
    }

    #[test]
    fn nothing_is_found_among_no_keys() {
        let keys: [&[u8]; 0] = [];
        assert_eq!(Heads::new(&keys).search(&keys, b""), Err(0));
        assert_eq!(Heads::new(&keys).search(&keys, b"a"), Err(0));
    }
}
