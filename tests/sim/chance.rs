//! How the simulator draws: everything from one seed, in whole numbers, so that no machine rounds differently.

use raftkv::base::Random;

use super::world::Time;

/// So many in a million.
pub type PerMillion = u32;

pub trait Chance {
    fn happens(&mut self, rate: PerMillion) -> bool;
    /// Uniform in `low..=high`.
    fn within(&mut self, low: u64, high: u64) -> u64;
    /// In `low..=high`, mostly near `low`: each doubling is as likely as the next.
    fn skewed(&mut self, low: u64, high: u64) -> u64;
    fn index(&mut self, length: usize) -> usize;
    /// A generator of its own for a part of the world: what one part draws does not move what another does.
    fn split(&mut self) -> Random;
}

impl Chance for Random {
    fn happens(&mut self, rate: PerMillion) -> bool {
        rate > 0 && self.below(1_000_000) < u64::from(rate)
    }

    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn skewed(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        let doublings = u64::from((high / low.max(1)).max(1).ilog2());
        let ceiling = low.max(1) << self.below(doublings + 1);
        self.within(low, (ceiling * 2).min(high))
    }

    fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    fn split(&mut self) -> Random {
        Random::new(self.next())
    }
}

/// How long something takes: mostly within a range, now and then much longer.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    pub low: Time,
    pub high: Time,
    pub tail_rate: PerMillion,
    pub tail_high: Time,
}

impl Delay {
    pub fn draw(&self, random: &mut Random) -> Time {
        // One number serves both questions: this is drawn more often than anything else.
        let drawn = random.next();
        if self.tail_rate > 0 && drawn % 1_000_000 < u64::from(self.tail_rate) {
            return random.within(self.high, self.tail_high.max(self.high));
        }
        self.low + ((u128::from(drawn) * u128::from(self.high - self.low + 1)) >> 64) as u64
    }
}
