//! Leases: while a node holds one, nobody else leads a later term, nobody was answered with what its state lacks, and
//! it is sound (dissertation, section 6.4.1; `raft::lease`).
//!
//! Looked at behind each turn of consensus, and of all nodes whenever one is elected: a lease that is wrong is found
//! when it is, be there a client that reads by it or not. What is wrong in how a read is answered beside consensus,
//! only the clients tell.

use raftkv::base::{Moment, NodeId, Revision, Term};
use raftkv::node::replica::Replica;

use super::{Verdict, ensure};

/// A node that would answer reads by its lease now.
pub struct Lease {
    id: NodeId,
    term: Term,
    revision: Revision,
    is_suspect: bool,
}

impl Lease {
    /// `until`: as the node has published it. `now`: on its own clock.
    pub fn of(replica: &Replica, until: Moment, now: Moment) -> Option<Lease> {
        let held = || Lease {
            id: replica.id(),
            term: replica.view().term,
            revision: replica.store().view().revision(),
            is_suspect: replica.health().suspect,
        };
        (now < until).then(held)
    }

    /// `latest`: the latest term that has a leader, and that one.
    pub fn check_alone(&self, latest: Option<(Term, NodeId)>) -> Verdict {
        let later = latest.filter(|(term, _)| *term > self.term);
        ensure("nobody else leads while a lease is held", later.is_none(), || {
            let (term, other) = later.unwrap_or((Term::ZERO, self.id));
            format!("node {} holds a lease in term {}, and node {other} leads term {term}", self.id, self.term)
        })
    }

    /// `answered`: the highest revision that any client was answered with.
    pub fn check_current(&self, answered: Revision) -> Verdict {
        ensure("who holds a lease lacks nothing that anybody was answered with", self.revision >= answered, || {
            let Lease { id, term, revision, .. } = self;
            format!(
                "node {id} holds a lease in term {term} at revision {revision}, and {answered} was answered already"
            )
        })
    }

    /// What is read from a node whose disk has lost something is true, too, as long as it loses nothing more: so here
    /// the rule itself is looked at, and not what comes of breaking it.
    pub fn check_sound(&self) -> Verdict {
        ensure("who is suspect holds no lease", !self.is_suspect, || {
            format!("node {} holds a lease in term {}, and its disk has lost something", self.id, self.term)
        })
    }
}
