//! A node's clock: it counts on at a rate of its own, jumps forward now and then, and never goes back.

use raftkv::base::Moment;

use super::world::Time;

const MILLION: i64 = 1_000_000;

#[derive(Clone, Debug)]
pub struct Clock {
    /// At this time of the world ...
    world: Time,
    /// ... the clock showed this.
    shown: Time,
    /// How much it gains on the world in a million; negative: loses.
    drift_ppm: i64,
}

impl Clock {
    pub fn new(shown: Time) -> Clock {
        Clock { world: 0, shown, drift_ppm: 0 }
    }

    pub fn now(&self, world: Time) -> Moment {
        let elapsed = (world - self.world) * self.rate() / MILLION as u64;
        Moment(self.shown + elapsed)
    }

    /// The first time of the world at which it shows `moment` or later.
    pub fn when(&self, moment: Moment) -> Time {
        let wanted = moment.0.saturating_sub(self.shown);
        self.world + (wanted * MILLION as u64).div_ceil(self.rate())
    }

    /// How much it counts while the world counts a million. Times a million, what a run counts fits 64 bits.
    fn rate(&self) -> u64 {
        (MILLION + self.drift_ppm) as u64
    }

    pub fn jump(&mut self, world: Time, by: Time) {
        *self = Clock { world, shown: self.now(world).0 + by, ..*self };
    }

    pub fn drift(&mut self, world: Time, drift_ppm: i64) {
        *self = Clock { world, shown: self.now(world).0, drift_ppm };
    }
}
