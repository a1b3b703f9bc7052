//! Who the members are, and whose word counts.
//!
//! Members entries take effect when they are appended, committed or not, and fall back to the ones before when they
//! are truncated (dissertation, section 4.1). Until the log has one, the operator's flags stand in.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Config;
use crate::base::{Entry, EntryKind, InstanceId, LogIndex, Member, Members, NodeId};
use crate::guard::{Guard, removed};

pub(super) struct Membership {
    id: NodeId,
    instance: InstanceId,
    bootstrap: Arc<Members>,
    /// Of the log, ascending.
    history: Vec<(LogIndex, Arc<Members>)>,
}

impl Membership {
    pub fn new(config: &Config, history: Vec<(LogIndex, Arc<Members>)>) -> Membership {
        let bootstrap = Arc::new(config.bootstrap.clone());
        Membership { id: config.id, instance: config.instance, bootstrap, history }
    }

    pub fn current(&self) -> &Arc<Members> {
        self.history.last().map_or(&self.bootstrap, |(_, members)| members)
    }

    pub fn history(&self) -> &[(LogIndex, Arc<Members>)] {
        &self.history
    }

    /// Takes what `entry` says, if it says who the members are.
    pub fn on_appended(&mut self, entry: &Entry) {
        if entry.kind == EntryKind::Members {
            let members = Members::decode(&entry.data).expect("it was made here, or decoded when it was received");
            self.history.push((entry.index, Arc::new(members)));
        }
    }

    /// Takes what an entry says that was missing from the log until now.
    pub fn on_refilled(&mut self, entry: &Entry) {
        let place = self.history.partition_point(|(index, _)| *index < entry.index);
        let members = Members::decode(&entry.data).expect("it was decoded when it was offered");
        self.history.insert(place, (entry.index, Arc::new(members)));
    }

    pub fn on_truncated(&mut self, from: LogIndex) {
        self.history.retain(|(index, _)| *index < from);
    }

    /// Whether the log gives this node's id to another data directory than the one it runs on.
    pub fn is_uncounted(&self) -> bool {
        self.is_stranger(self.id, self.instance)
    }

    /// Whether the log knows `id` by another directory than `instance`.
    pub fn is_stranger(&self, id: NodeId, instance: InstanceId) -> bool {
        let recorded = self.history.last().and_then(|(_, members)| members.get(id));
        recorded.is_some_and(|member| member.instance != Some(instance)) && !removed(Guard::StrangerCounts)
    }

    /// Whether this node's vote can make a leader. Learners and strangers follow; they never campaign.
    pub fn is_voter(&self) -> bool {
        let members = self.current();
        let listed = [&members.voters, &members.outgoing].into_iter().flatten().any(|member| member.id == self.id);
        listed && !self.is_uncounted()
    }

    pub fn is_alone(&self) -> bool {
        self.is_voter() && self.voting_peers().is_empty()
    }

    /// Everyone else whose vote is asked for, ascending.
    pub fn voting_peers(&self) -> BTreeSet<NodeId> {
        let members = self.current();
        self.others([&members.voters, &members.outgoing].into_iter().flatten())
    }

    /// Everyone else who gets the log, ascending.
    pub fn peers(&self) -> BTreeSet<NodeId> {
        let members = self.current();
        self.others(members.all())
    }

    fn others<'a>(&self, members: impl Iterator<Item = &'a Member>) -> BTreeSet<NodeId> {
        members.map(|member| member.id).filter(|id| *id != self.id).collect()
    }

    /// What the operator's flags say, with the directories that took part in the first election filled in.
    pub fn formed(&self, instance_of: impl Fn(NodeId) -> Option<InstanceId>) -> Members {
        let mut members = Members::clone(&self.bootstrap);
        for member in &mut members.voters {
            member.instance = instance_of(member.id);
        }
        members
    }

    /// Why this node counts in no quorum, and the way out.
    pub fn why_uncounted(&self) -> String {
        let recorded = self.current().get(self.id).and_then(|member| member.instance);
        let recorded = recorded.map_or("none".to_string(), |instance| instance.to_string());
        let (id, own) = (self.id, self.instance);
        format!(
            "the cluster knows node {id} by data directory {recorded}, and this is directory {own}: it follows along \
             but counts in no quorum; start it with the directory it had, as it was and no older copy of it \
             (members can't be replaced in this version)"
        )
    }
}
