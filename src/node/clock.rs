//! The one clock: counts suspended time, never goes back. Read by the loops, handed to everything pure.

use rustix::time::{ClockId, clock_gettime};

use crate::base::Moment;

/// CLOCK_BOOTTIME on Linux; elsewhere CLOCK_MONOTONIC, which on macOS counts sleep as well.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

pub fn now() -> Moment {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment(seconds * 1_000_000_000 + nanos)
}
