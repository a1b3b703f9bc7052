//! What was durable is there after every start, and nothing else than was asked for.

use raftkv::base::{HardState, NodeId, Term};

use super::durable::{Shadow, replace_from};
use super::{Verdict, ensure};

const PROPERTY: &str = "a start finds what was durable";

/// `log`: the term of each index from 1, as the start has found it. On a damaged disk the end of the log may be gone.
pub fn on_start(id: NodeId, is_damaged: bool, hard_state: HardState, log: &[Term], shadow: &Shadow) -> Verdict {
    let before = shadow.hard_state;
    let vote_kept = hard_state.term > before.term || before.vote.is_none() || hard_state.vote == before.vote;
    ensure(PROPERTY, hard_state.term >= before.term && vote_kept, || {
        format!("node {id} had {before:?}, durable, and finds {hard_state:?}")
    })?;
    // What was under way when it ended may be there as well, as far as it came.
    let is_it = |state: &[Term]| state == log || (is_damaged && state.starts_with(log));
    let mut state = shadow.durable.clone();
    let mut found = is_it(&state) || is_damaged;
    for (index, term) in &shadow.pending {
        if found {
            break;
        }
        replace_from(&mut state, *index, *term);
        found = is_it(&state);
    }
    ensure(PROPERTY, found, || {
        let common = log.iter().zip(&shadow.durable).take_while(|(a, b)| a == b).count();
        format!(
            "node {id} had {} entries, durable, and {} under way; it finds {}, of them {common} as they were",
            shadow.durable.len(),
            shadow.pending.len(),
            log.len()
        )
    })
}
