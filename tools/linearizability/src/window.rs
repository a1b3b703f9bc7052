//! A set of numbers of which most are low: all below some number are in it, few above. Only the part between is ever
//! copied or compared, so that it costs what is concurrent in a history, and not how long the history is.

/// Bits of a set, from the first word that is not full to the last that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    base: usize,
    words: Box<[u64]>,
}

#[derive(Clone, Debug)]
pub struct Window {
    words: Vec<u64>,
    /// The first word that is not full.
    base: usize,
    /// Behind the last word that is not empty.
    top: usize,
}

impl Window {
    /// For the numbers below `count`.
    pub fn new(count: usize) -> Window {
        Window { words: vec![0; count / 64 + 1], base: 0, top: 0 }
    }

    pub fn contains(&self, number: usize) -> bool {
        self.words[number / 64] >> (number % 64) & 1 == 1
    }

    pub fn insert(&mut self, number: usize) {
        self.words[number / 64] |= 1 << (number % 64);
        self.top = self.top.max(number / 64 + 1);
        while self.words.get(self.base) == Some(&u64::MAX) {
            self.base += 1;
        }
    }

    pub fn remove(&mut self, number: usize) {
        self.words[number / 64] &= !(1 << (number % 64));
        self.base = self.base.min(number / 64);
        while self.top > 0 && self.words[self.top - 1] == 0 {
            self.top -= 1;
        }
    }

    fn between(&self) -> &[u64] {
        &self.words[self.base.min(self.top)..self.top]
    }

    /// Appends what tells this set from others.
    pub fn write(&self, out: &mut Vec<u64>) {
        let words = self.between();
        out.extend([self.base as u64, words.len() as u64]);
        out.extend_from_slice(words);
    }

    pub fn pack(&self) -> Packed {
        Packed { base: self.base, words: self.between().into() }
    }
}

impl Packed {
    /// The word at a place of the whole set.
    fn word(&self, at: usize) -> u64 {
        at.checked_sub(self.base).map_or(u64::MAX, |at| self.words.get(at).copied().unwrap_or(0))
    }

    /// Whether all of the window is in this set.
    pub fn covers(&self, window: &Window) -> bool {
        // Where one set is full and the other is not, one comparison of their bases tells.
        window.base <= self.base && (window.base..window.top).all(|at| window.words[at] & !self.word(at) == 0)
    }

    /// Whether all of this set is in the window.
    pub fn is_within(&self, window: &Window) -> bool {
        self.base <= window.base
            && (self.base..self.base + self.words.len()).all(|at| self.word(at) & !window.words[at] == 0)
    }

    pub fn bytes(&self) -> usize {
        size_of::<Packed>() + self.words.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn windows_compare_as_sets_do() {
        let mut seed = 1_u64;
        let mut below = |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % bound
        };
        for _ in 0..2000 {
            let count = 1 + below(300);
            let mut both = Vec::new();
            for _ in 0..2 {
                let (mut window, mut set) = (Window::new(count), BTreeSet::new());
                for number in 0..below(count + 1) {
                    window.insert(number);
                    set.insert(number);
                }
                for _ in 0..below(8) {
                    let number = below(count);
                    window.insert(number);
                    set.insert(number);
                    let number = below(count);
                    window.remove(number);
                    set.remove(&number);
                }
                assert!((0..count).all(|number| window.contains(number) == set.contains(&number)));
                both.push((window, set));
            }
            let [(a, a_set), (b, b_set)] = &both[..] else { unreachable!() };
            assert_eq!(a.pack().covers(b), a_set.is_superset(b_set));
            assert_eq!(a.pack().is_within(b), a_set.is_subset(b_set));
            assert_eq!(a.pack() == b.pack(), a_set == b_set);
        }
    }
}
