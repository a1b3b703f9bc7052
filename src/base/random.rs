//! The one source of chance in pure code: seeded, so that a run can be repeated.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    #[expect(clippy::should_implement_trait, reason = "it is no iterator: it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound` (the bias of the multiply-shift is below 2^-32 for the bounds used here).
    /// `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "below(0) has no answer");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        assert!(low <= high, "between({low:?}, {high:?}) is empty");
        let span = u64::try_from((high - low).as_nanos()).unwrap_or(u64::MAX - 1);
        low + Duration::from_nanos(self.below(span + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        assert!((0..100).all(|_| a.next() == b.next()));
        assert_ne!(Random::new(7).next(), Random::new(8).next());
    }

    #[test]
    fn what_is_drawn_stays_within_its_bounds() {
        let mut random = Random::new(1);
        let (low, high) = (Duration::from_millis(150), Duration::from_millis(300));
        let drawn: Vec<_> = (0..1000).map(|_| random.between(low, high)).collect();
        assert!(drawn.iter().all(|d| (low..=high).contains(d)));
        assert!(drawn.iter().any(|d| *d < low + Duration::from_millis(20)));
        assert!(drawn.iter().any(|d| *d > high - Duration::from_millis(20)));
    }
}
