//! Acknowledged is durable on a majority of disks; and nothing leaves a wal as durable that the disk may still lose.
//!
//! Each node's log is followed as its disk would give it back: what a persist returned for. Whether that was true the
//! disk is asked itself.

use std::collections::BTreeMap;

use raftkv::base::{HardState, InstanceId, LogIndex, Members, NodeId, Term};

use super::{Verdict, ensure};

const PROPERTY: &str = "acknowledged is durable on a majority";

/// What a node's disk holds for certain.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    pub instance: Option<InstanceId>,
    /// The log as it was handed to the wal, and as far as the wal said it was durable: the term of each index from 1.
    pub queued: Vec<Term>,
    pub durable: Vec<Term>,
    /// What makes one of the other, in order.
    pub pending: Vec<(LogIndex, Term)>,
    pub hard_state: HardState,
    /// What the node had durable in directories that were wiped since: it kept its word while it could.
    former: Vec<(InstanceId, Vec<Term>)>,
}

impl Shadow {
    /// The log was recovered: all of it is durable.
    pub fn restart(&mut self, instance: InstanceId, hard_state: HardState, log: Vec<Term>) {
        let (pending, mut former) = (Vec::new(), std::mem::take(&mut self.former));
        // A damaged disk has lost the end: it kept its word while it could, too.
        if !log.starts_with(&self.durable) {
            former.push((instance, std::mem::take(&mut self.durable)));
        }
        *self = Shadow { instance: Some(instance), queued: log.clone(), durable: log, pending, hard_state, former };
    }

    pub fn on_wiped(&mut self) {
        let mut former = std::mem::take(&mut self.former);
        former.extend(self.instance.map(|instance| (instance, std::mem::take(&mut self.durable))));
        *self = Shadow { former, ..Shadow::default() };
    }

    /// The term of the entry before `index`, as handed to the wal.
    pub fn term_before(&self, index: LogIndex) -> Option<Term> {
        match index.0 as usize {
            0 => None,
            1 => Some(Term::ZERO),
            index => self.queued.get(index - 2).copied(),
        }
    }

    pub fn on_queued(&mut self, index: LogIndex, term: Term) {
        replace_from(&mut self.queued, index, term);
        self.pending.push((index, term));
    }

    /// The first `entries` of what is pending are durable, and the term and vote.
    pub fn on_persisted(&mut self, entries: usize, hard_state: Option<HardState>) {
        for (index, term) in self.pending.drain(..entries) {
            replace_from(&mut self.durable, index, term);
        }
        self.hard_state = hard_state.unwrap_or(self.hard_state);
    }

    /// Whether the entry is, or was, durable in the directory `instance`.
    fn holds(&self, instance: InstanceId, index: LogIndex, term: Term) -> bool {
        let current = self.instance.map(|instance| (instance, &self.durable));
        let former = self.former.iter().map(|(instance, durable)| (*instance, durable));
        let mut of_it = current.into_iter().chain(former).filter(|(known, _)| *known == instance);
        of_it.any(|(_, durable)| durable.get(index.0 as usize - 1) == Some(&term))
    }
}

pub fn replace_from(log: &mut Vec<Term>, index: LogIndex, term: Term) {
    log.truncate(index.0 as usize - 1);
    log.push(term);
}

/// A wal has said that all it was given is durable; `unsynced`: a file of the log that is not.
pub fn on_persisted(id: NodeId, unsynced: Option<String>) -> Verdict {
    ensure(PROPERTY, unsynced.is_none(), || {
        format!("node {id} calls durable what its disk may still lose, in {}", unsynced.unwrap_or_default())
    })
}

/// The directories that count, as the cluster's log says.
#[derive(Default)]
pub struct Electorate {
    recorded: BTreeMap<NodeId, Option<InstanceId>>,
}

impl Electorate {
    pub fn on_members(&mut self, members: &Members) {
        self.recorded = members.voters.iter().map(|member| (member.id, member.instance)).collect();
    }

    /// The entry is acknowledged from now on.
    pub fn on_committed(&self, index: LogIndex, term: Term, shadows: &[Shadow]) -> Verdict {
        let counts = |(at, shadow): &(usize, &Shadow)| {
            let id = NodeId::new(*at as u32 + 1).expect("it is not 0");
            let recorded = self.recorded.get(&id).copied().flatten();
            recorded.is_some_and(|instance| shadow.holds(instance, index, term))
        };
        let holders = shadows.iter().enumerate().filter(counts).count();
        ensure(PROPERTY, 2 * holders > shadows.len(), || {
            format!("entry {index} of term {term} is committed, and {holders} of {} disks hold it", shadows.len())
        })
    }
}
