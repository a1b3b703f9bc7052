//! Who the others are, where they are reached, and whether they are.

use std::sync::Arc;
use std::time::Duration;

use super::Replica;
use crate::api::Leader;
use crate::base::limits::SILENCE_REPORT_AFTER;
use crate::base::{Members, Moment, NodeId, Role};
use crate::raft;

#[derive(Debug)]
pub(super) struct PeerLink {
    pub address: Arc<str>,
    /// Empty while the link is up.
    pub down_because: String,
    /// Since when the link is up, if it is.
    pub up_since: Moment,
}

impl Replica {
    /// Where a peer is reached, as the configuration has it.
    pub fn peer_address(&self, peer: NodeId) -> Option<&str> {
        self.peers.get(&peer).map(|peer| &*peer.address)
    }

    /// Peers that are not heard from, and why: for the operator's log.
    pub fn peers_down(&self) -> impl Iterator<Item = (NodeId, &str, &str)> {
        self.peers
            .iter()
            .filter(|(_, peer)| !peer.down_because.is_empty())
            .map(|(id, peer)| (*id, &*peer.address, peer.down_because.as_str()))
    }

    pub(super) fn is_down(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| !peer.down_because.is_empty())
    }

    /// For how long `peer`, whose link is up, has answered this leader nothing, if that is longer than it should be: a
    /// process that was stopped keeps its connections.
    pub(super) fn silence_of(&self, peer: NodeId, now: Moment) -> Option<Duration> {
        let link = self.peers.get(&peer).filter(|link| link.down_because.is_empty())?;
        // What it did not say while there was no link is no silence of its own.
        let silence = self.raft.silence_of(peer, now)?.min(now.since(link.up_since));
        self.raft.is_silence(silence).then_some(silence)
    }

    /// Whether this node leads and `peer` answers it.
    pub fn hears(&self, peer: NodeId) -> bool {
        self.raft.view().role == Role::Leader && !self.is_down(peer)
    }

    /// Peers that have been silent for long, and where they are: for the operator.
    pub fn silent_peers(&self, now: Moment) -> impl Iterator<Item = (NodeId, &str)> {
        let is_silent =
            move |id: &NodeId| self.silence_of(*id, now).is_some_and(|silence| silence >= SILENCE_REPORT_AFTER);
        self.peers.iter().filter(move |(id, _)| is_silent(id)).map(|(id, peer)| (*id, &*peer.address))
    }

    /// The peers that are not heard from, and why, in one line.
    pub fn who_is_missing(&self) -> String {
        let peers: Vec<String> =
            self.peers_down().map(|(peer, address, why)| format!("node {peer} at {address}: {why}")).collect();
        if peers.is_empty() { "all peers are connected".to_string() } else { peers.join("; ") }
    }

    pub(super) fn leader(&self) -> Option<Leader> {
        self.leader_in(&self.raft.view())
    }

    /// This node, as the answers of a leader name it.
    pub(super) fn me(&self) -> Leader {
        Leader { id: self.id, address: self.own_address.clone() }
    }

    pub(super) fn leader_in(&self, view: &raft::View) -> Option<Leader> {
        let id = view.leader?;
        if id == self.id {
            return Some(self.me());
        }
        Some(Leader { id, address: self.peers.get(&id)?.address.clone() })
    }

    pub(super) fn take_addresses(&mut self, members: &Members) {
        let mut known = std::mem::take(&mut self.peers);
        for member in members.all() {
            if member.id == self.id {
                self.own_address = member.address.clone();
                continue;
            }
            let new = || PeerLink {
                address: member.address.clone(),
                down_because: "not connected yet".to_string(),
                up_since: Moment::ZERO,
            };
            let known = known.remove(&member.id).unwrap_or_else(new);
            self.peers.insert(member.id, PeerLink { address: member.address.clone(), ..known });
        }
    }
}
