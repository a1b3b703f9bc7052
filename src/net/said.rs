//! What others can cause again and again is said once in a while. Net thread.

use std::time::Instant;

use crate::base::limits::SAID_AGAIN_AFTER;

/// Of one thing: when it was said last.
#[derive(Debug, Default)]
pub struct Said(Option<Instant>);

impl Said {
    /// If so, it was said now.
    pub fn may_be_said(&mut self, now: Instant) -> bool {
        let may = self.0.is_none_or(|last| now >= last + SAID_AGAIN_AFTER);
        if may {
            self.0 = Some(now);
        }
        may
    }
}
