//! Requests of one connection are answered, and take effect, in the order sent.

use raftkv::base::Revision;

use super::{Verdict, ensure};

const PROPERTY: &str = "order within a connection";

/// What one connection has seen.
#[derive(Clone, Debug, Default)]
pub struct Order {
    answered: u64,
    revision: Revision,
    last_was_write: bool,
}

impl Order {
    /// `wanted`: the request that is next in line.
    pub fn on_answer(&mut self, wanted: Option<u64>, found: u64) -> Verdict {
        self.answered += 1;
        ensure(PROPERTY, wanted == Some(found), || {
            format!("the answer to request {found} came where that to {wanted:?} was due")
        })
    }

    /// The answer speaks of the state at `revision`. A write's is its own; a read's can't be before an earlier write's.
    pub fn on_revision(&mut self, revision: Revision, is_write: bool) -> Verdict {
        let holds = if is_write { revision > self.revision } else { revision >= self.revision };
        let before = std::mem::replace(&mut self.revision, revision);
        let was_write = std::mem::replace(&mut self.last_was_write, is_write);
        ensure(PROPERTY, holds, || {
            let name = |is_write| if is_write { "write" } else { "read" };
            format!("a {} at revision {revision} follows a {} at {before}", name(is_write), name(was_write))
        })
    }
}
