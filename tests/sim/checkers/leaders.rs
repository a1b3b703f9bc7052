//! One leader a term (Raft paper, figure 3: election safety).

use std::collections::BTreeMap;

use raftkv::base::{NodeId, Term};

use super::{Verdict, ensure};

#[derive(Default)]
pub struct Leaders {
    elected: BTreeMap<Term, NodeId>,
}

impl Leaders {
    pub fn on_leader(&mut self, id: NodeId, term: Term) -> Verdict {
        let first = *self.elected.entry(term).or_insert(id);
        ensure("one leader a term", first == id, || format!("term {term} has two: node {first} and node {id}"))
    }

    /// Who was elected in the latest term.
    pub fn latest(&self) -> Option<(Term, NodeId)> {
        self.elected.last_key_value().map(|(term, id)| (*term, *id))
    }

    pub fn count(&self) -> usize {
        self.elected.len()
    }
}
