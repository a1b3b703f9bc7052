//! A node's clock: it counts on at a rate of its own, jumps forward now and then, and never goes back.

use raftkv::base::Moment;

use super::world::Time;

const MILLION: i128 = 1_000_000;

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
        let elapsed = i128::from(world - self.world) * (MILLION + i128::from(self.drift_ppm)) / MILLION;
        Moment(self.shown + elapsed as u64)
    }

    /// The first time of the world at which it shows `moment` or later.
    pub fn when(&self, moment: Moment) -> Time {
        let wanted = i128::from(moment.0.saturating_sub(self.shown));
        let rate = MILLION + i128::from(self.drift_ppm);
        self.world + ((wanted * MILLION + rate - 1) / rate) as u64
    }

    pub fn jump(&mut self, world: Time, by: Time) {
        *self = Clock { world, shown: self.now(world).0 + by, ..*self };
    }

    pub fn drift(&mut self, world: Time, drift_ppm: i64) {
        *self = Clock { world, shown: self.now(world).0, drift_ppm };
    }
}
