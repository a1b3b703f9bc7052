//! Linearizability, as far as revisions tell: what is answered at a revision took effect there, so nothing that began
//! after it was answered may take effect before.
//!
//! Together with `replies`, which proves that the answers are true of their revisions, this is the whole property for
//! clients that learn revisions; it costs one comparison an answer. What clients saw without believing any revision is
//! checked at the end of the run as well, by searching an order for the recorded history.

use raftkv::base::Revision;

use super::{Verdict, ensure};

#[derive(Default)]
pub struct Linear {
    /// The highest revision that any client was answered with.
    answered: Revision,
}

impl Linear {
    /// To be remembered with a request that begins now.
    pub fn floor(&self) -> Revision {
        self.answered
    }

    pub fn on_answer(&mut self, floor: Revision, revision: Revision, is_write: bool) -> Verdict {
        self.answered = self.answered.max(revision);
        let holds = if is_write { revision > floor } else { revision >= floor };
        ensure("linearizability", holds, || {
            let what = if is_write { "a write" } else { "a read" };
            format!("{what} took effect at revision {revision}; when it was asked, {floor} was answered already")
        })
    }
}
