//! The flag that makes a wake cost nothing while the net thread is awake. Nothing else lives here, so that it can
//! be checked alone: `tests/sleeping_flag.rs` takes this very file and goes through every interleaving of it.
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

use super::atomic::{AtomicBool, Ordering, fence};
use super::guard::{Guard, removed};

#[derive(Debug, Default)]
pub struct Sleeper(AtomicBool);

impl Sleeper {
    /// Steps 1 to 3: `is_empty` looks at the channel. Whether the poll may wait.
    pub fn may_sleep(&self, is_empty: impl FnOnce() -> bool) -> bool {
        if removed(Guard::LookBeforeFlag) {
            let is_empty = is_empty();
            self.0.swap(true, Ordering::AcqRel);
            return is_empty;
        }
        // A store would do, since a sender's swap comes directly behind the value that it read. Loom does not know
        // that, and takes a swap's place behind this one for possible; a swap here costs nothing beside the fence.
        self.0.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        is_empty()
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
