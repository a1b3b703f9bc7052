//! Leader completeness (Raft paper, figure 3): what was committed in a term is in the log of every later term's leader.

use raftkv::base::{LogIndex, NodeId, Term};

use super::commit::Commit;
use super::{Verdict, ensure};

pub fn on_leader(id: NodeId, term: Term, commit: &Commit, term_at: impl Fn(LogIndex) -> Option<Term>) -> Verdict {
    // One entry stands for all before it, by log matching. A leader that learns late that it was elected long ago
    // need not have what its successors committed.
    let Some((index, committed)) = commit.last_before(term) else { return Ok(()) };
    let found = term_at(index);
    ensure("leader completeness", found == Some(committed), || {
        format!("node {id} leads term {term} without entry {index} of term {committed}: it has {found:?} there")
    })
}
