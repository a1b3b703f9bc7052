//! The commit index never moves back, and what is committed once is committed for ever, as the same entry everywhere.

use raftkv::base::{LogIndex, NodeId, Term};

use super::{Violation, ensure};

const PROPERTY: &str = "what is committed stays";

#[derive(Clone, Copy)]
struct Committed {
    term: Term,
    /// Of the node that was first seen to know it.
    in_term: Term,
}

#[derive(Default)]
pub struct Commit {
    /// By index, which begins at 1.
    entries: Vec<Committed>,
}

impl Commit {
    pub fn last(&self) -> LogIndex {
        LogIndex(self.entries.len() as u64)
    }

    pub fn term(&self, index: LogIndex) -> Option<Term> {
        Some(self.entries.get((index.0 as usize).checked_sub(1)?)?.term)
    }

    /// The last entry that was committed in a term before `term`, and the entry's own.
    pub fn last_before(&self, term: Term) -> Option<(LogIndex, Term)> {
        let count = self.entries.partition_point(|entry| entry.in_term < term);
        Some((LogIndex(count as u64), self.entries.get(count.checked_sub(1)?)?.term))
    }

    /// A node's commit index went from `before` to `now`. The answer: how many entries nobody knew to be committed.
    pub fn on_commit(
        &mut self,
        id: NodeId,
        in_term: Term,
        (before, now): (LogIndex, LogIndex),
        term_at: impl Fn(LogIndex) -> Option<Term>,
    ) -> Result<u64, Violation> {
        ensure(PROPERTY, now >= before, || format!("the commit index of node {id} went from {before} to {now}"))?;
        let known = self.last();
        for index in (before.0 + 1..=now.0).map(LogIndex) {
            let found = term_at(index);
            match (self.term(index), found) {
                (Some(committed), _) => ensure(PROPERTY, found == Some(committed), || {
                    format!("entry {index} of term {committed} was committed; node {id} says so of term {found:?}")
                })?,
                (None, Some(term)) => self.entries.push(Committed { term, in_term }),
                (None, None) => ensure(PROPERTY, false, || format!("node {id} commits entry {index}, and has none"))?,
            }
        }
        Ok(self.last().0 - known.0)
    }
}
