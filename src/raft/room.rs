//! Room: what becomes of a node whose disk is nearly full, and of what clients ask of its leader.
//!
//! | a node's own disk | it appends | stands for election |
//! |---|---|---|
//! | plenty, low | yes | yes |
//! | exhausted | nothing new: it follows, confirms reads, votes, and acknowledges what it holds | no |
//!
//! Every node says with its answers to heartbeats how much room it has. What a leader may take from clients is up to
//! the worse of its own disk and of the best majority's that it hears: one full follower of three stops nobody, two do,
//! one does while the other is away, and so does the leader's own. All of it ends by itself, with the first answer that
//! says that there is room again.

use std::cmp::Reverse;

use super::{Outputs, Raft, State, quorum};
use crate::base::{Member, Moment, NodeId, Space};

impl Raft {
    /// How much room there is for what a client asks of this node while it leads: `Low`, nothing that makes the data
    /// grow; `Exhausted`, nothing at all.
    pub fn room(&self, now: Moment) -> Space {
        let State::Leader(leading) = &self.state else { return self.space };
        if self.short_of_room().next().is_none() {
            return Space::Plenty;
        }
        let space = |member: &Member| {
            if member.id == self.config.id {
                return Some(Reverse(self.space));
            }
            let is_heard = now.since(leading.heard_at(member)?) < self.config.election_timeout_max;
            is_heard.then_some(Reverse(leading.peers.get(&member.id)?.space))
        };
        // Without a majority nothing is committed; that is not for want of room.
        let majority = quorum::reached(self.membership.current(), space).map_or(Space::Plenty, |Reverse(space)| space);
        self.space.max(majority)
    }

    /// The nodes that are short of room, as far as this one knows: itself, and the others while it leads.
    pub fn short_of_room(&self) -> impl Iterator<Item = (NodeId, Space)> {
        let peers = if let State::Leader(leading) = &self.state { Some(&leading.peers) } else { None };
        let peers = peers.into_iter().flatten().map(|(id, progress)| (*id, progress.space));
        std::iter::once((self.config.id, self.space)).chain(peers).filter(|(_, space)| *space > Space::Plenty)
    }

    pub(super) fn on_space(&mut self, now: Moment, space: Space, out: &mut Outputs) {
        self.space = space;
        if !self.may_stand() && matches!(self.state, State::PreCandidate(_) | State::Candidate(_)) {
            self.become_follower(now, self.hard_state.term, None, "its disk is full".to_string(), out);
        }
    }
}
