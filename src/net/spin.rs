//! Staying awake for a while behind the last event. Used by every thread that waits for others.
//!
//! Waking a thread on a core that has halted costs as much as the rest of a request's way through it, on virtual
//! machines above all. So a thread goes on looking for a while before it sleeps: behind most events the next one is
//! near. Between two looks it yields the core to whoever has something to do; if somebody had, it gives up: no core is
//! to spare.

use std::thread;
use std::time::{Duration, Instant};

/// A yield that took so long has let somebody else work, and not only look.
const CORE_IS_WANTED: Duration = Duration::from_micros(30);

/// How long a thread looks for the next event before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spin(Duration);

impl Spin {
    /// A thread without an event sleeps at once.
    pub const OFF: Spin = Spin(Duration::ZERO);

    pub fn new(at_most: Duration) -> Spin {
        Spin(at_most)
    }

    pub fn is_off(self) -> bool {
        self.0.is_zero()
    }

    pub fn at_most(self) -> Duration {
        self.0
    }

    /// What `look` finds in that time.
    pub fn wait<T>(self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if self.is_off() {
            return None;
        }
        let begun = Instant::now();
        let mut last = begun;
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            thread::yield_now();
            let now = Instant::now();
            if now - last > CORE_IS_WANTED || now - begun > self.0 {
                return None;
            }
            last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_until_something_is_there() {
        let mut looks = 0;
        let spin = Spin::new(Duration::from_secs(3600));
        let mut look = || {
            looks += 1;
            (looks == 2).then_some("it")
        };
        // A yield during which somebody works ends it early, on a machine that has something else to do.
        let found = (0..2).find_map(|_| spin.wait(&mut look));
        assert_eq!(found, Some("it"));
    }

    #[test]
    fn it_ends() {
        let mut looks = 0_u64;
        let look = || {
            looks += 1;
            None::<()>
        };
        assert_eq!(Spin::new(Duration::from_micros(100)).wait(look), None);
        assert!(looks > 0);
        assert_eq!(Spin::OFF.wait(|| -> Option<()> { panic!("it looks though it is off") }), None);
    }
}
