//! What must be true whatever happens: one property a file. They see everything, all nodes at once, which no node can.
//!
//! Each is told what happened and answers with a sentence if that breaks its property. The first such sentence ends the
//! run.

pub mod commit;
pub mod completeness;
pub mod durable;
pub mod leaders;
pub mod lease;
pub mod linear;
pub mod matching;
pub mod memory;
pub mod order;
pub mod recovery;
pub mod replies;
pub mod state;

use std::fmt;

/// What was broken, and how.
#[derive(Clone, Debug)]
pub struct Violation {
    pub property: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

/// What a check answers.
pub type Verdict = Result<(), Violation>;

pub(crate) fn ensure(property: &'static str, holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { property, what: what() }) }
}
