//! The flag that makes a wake cost nothing while the net thread is awake. Nothing else lives here, so that it can
//! be checked alone over every interleaving.
//!
//! ```text
//! net thread                          a sender
//!   1. flag = true                      a. push
//!   2. fence                            b. fence
//!   3. look at the channel              c. if flag was true, make it false and wake
//!   4. poll (not at all if 3 found something)
//!   5. flag = false
//! ```
//! The two fences are sequentially consistent, so either 3 sees a's push or c sees 1's flag: never neither
//! (Dekker's argument). A wake is sticky in the poll, so one between 3 and 4 ends 4 at once.

use std::sync::atomic::{AtomicBool, Ordering, fence};

#[derive(Debug, Default)]
pub struct Sleeper(AtomicBool);

impl Sleeper {
    /// Step 1 and 2. The caller must look at its channel between this and the poll.
    pub fn about_to_sleep(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Step 5.
    pub fn awake(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Steps b and c, after a push: whether this caller, and nobody else, must wake the thread.
    #[must_use]
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let sleeper = Sleeper::default();
        assert!(!sleeper.must_wake(), "awake");
        sleeper.about_to_sleep();
        assert!(sleeper.must_wake());
        assert!(!sleeper.must_wake(), "somebody woke it already");
        sleeper.about_to_sleep();
        sleeper.awake();
        assert!(!sleeper.must_wake());
    }
}
