//! Memory stays under its bounds.

use raftkv::base::NodeId;

use super::{Verdict, ensure};

const PROPERTY: &str = "memory is bounded";

/// What a node holds, and what it may: `name` says what of.
pub fn on_held(id: NodeId, name: &str, held: usize, bound: usize) -> Verdict {
    ensure(PROPERTY, held <= bound, || format!("node {id} holds {held} of {name}, and {bound} is the bound"))
}

/// Entries in memory may pass their bound only while none of them may go.
pub fn on_log(id: NodeId, (held, none_may_go): (usize, bool), bound: usize) -> Verdict {
    ensure(PROPERTY, held <= bound || none_may_go, || {
        format!("node {id} holds {held} bytes of entries, {bound} is the bound, and some could go")
    })
}
