//! The time that entries are stamped with. It is told the system's, and is not it.

use std::time::Duration;

use crate::base::Moment;

/// Time as the log tells it: the last stamp in the log plus local elapsed time. Never back, never wall clock.
#[derive(Debug, Default)]
pub(super) struct ClusterClock {
    stamp_ms: u64,
    /// When `stamp_ms` was true here; `None` before the first look at the clock.
    at: Option<Moment>,
}

impl ClusterClock {
    /// A node that slept advances by this much at most, so that it does not expire everyone at once.
    const ADVANCE_MAX: Duration = Duration::from_secs(1);

    pub fn advance(&mut self, now: Moment) {
        let elapsed = self.at.map_or(Duration::ZERO, |at| now.since(at));
        if elapsed > Self::ADVANCE_MAX {
            self.stamp_ms = self.stamp_ms.saturating_add(Self::ADVANCE_MAX.as_millis() as u64);
            self.at = Some(now);
        } else {
            // The part of a millisecond that is left counts next time.
            let whole_ms = elapsed.as_millis() as u64;
            self.stamp_ms = self.stamp_ms.saturating_add(whole_ms);
            self.at = Some(self.at.map_or(now, |at| at + Duration::from_millis(whole_ms)));
        }
    }

    pub fn learn(&mut self, stamp_ms: u64, now: Moment) {
        if stamp_ms > self.stamp_ms {
            self.stamp_ms = stamp_ms;
            self.at = Some(now);
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.stamp_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_time_never_goes_back_and_never_leaps() {
        let mut clock = ClusterClock::default();
        let start = Moment(1_000_000_000_000);
        clock.advance(start);
        clock.learn(500, start);
        clock.advance(start + Duration::from_millis(20));
        assert_eq!(clock.now_ms(), 520);
        clock.learn(510, start + Duration::from_millis(20));
        assert_eq!(clock.now_ms(), 520);
        clock.advance(start + Duration::from_secs(3600));
        assert_eq!(clock.now_ms(), 1520);
    }

    #[test]
    fn parts_of_a_millisecond_add_up() {
        let mut clock = ClusterClock::default();
        let start = Moment(1_000_000);
        for step in 0..=10 {
            clock.advance(start + Duration::from_micros(100 * step));
        }
        assert_eq!(clock.now_ms(), 1);
    }
}
