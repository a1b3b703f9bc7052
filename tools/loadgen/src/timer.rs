//! An alarm in the poll that is exact: a poll's own timeout counts in whole milliseconds, too coarse for a rate.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

/// Rings in the poll it is registered with, as an event of its token.
#[cfg(target_os = "linux")]
pub struct Timer {
    descriptor: std::os::fd::OwnedFd,
    set_for: std::cell::Cell<Option<Instant>>,
}

#[cfg(target_os = "linux")]
impl Timer {
    pub fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        use std::os::fd::AsRawFd;

        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut mio::unix::SourceFd(&timer.as_raw_fd()), token, mio::Interest::READABLE)?;
        Ok(Timer { descriptor: timer, set_for: std::cell::Cell::new(None) })
    }

    /// Setting it again forgets the earlier time. The timeout to poll with: none, since the timer will ring.
    pub fn set(&self, at: Instant) -> io::Result<Option<Duration>> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        // Zero would disarm it. One that is to ring at the same time still costs no system call, if it has not yet.
        if self.set_for.replace(Some(at)) == Some(at) && Instant::now() < at {
            return Ok(None);
        }
        let wait = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: wait.as_secs().try_into().map_err(io::Error::other)?,
            tv_nsec: wait.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        Ok(None)
    }
}

/// Elsewhere the poll's timeout has to do.
#[cfg(not(target_os = "linux"))]
pub struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub fn new(_: &Registry, _: Token) -> io::Result<Timer> {
        Ok(Timer)
    }

    pub fn set(&self, at: Instant) -> io::Result<Option<Duration>> {
        Ok(Some(at.saturating_duration_since(Instant::now())))
    }
}
