//! Who the others are, where they are reached, and whether they are.

use std::sync::Arc;

use super::Replica;
use crate::api::Leader;
use crate::base::{Members, NodeId};
use crate::raft;

#[derive(Debug)]
pub(super) struct PeerLink {
    pub address: Arc<str>,
    /// Empty while the link is up.
    pub down_because: String,
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

    /// The peers that are not heard from, and why, in one line.
    pub fn who_is_missing(&self) -> String {
        let peers: Vec<String> =
            self.peers_down().map(|(peer, address, why)| format!("node {peer} at {address}: {why}")).collect();
        if peers.is_empty() { "all peers are connected".to_string() } else { peers.join("; ") }
    }

    pub(super) fn leader(&self) -> Option<Leader> {
        self.leader_in(&self.raft.view())
    }

    pub(super) fn leader_in(&self, view: &raft::View) -> Option<Leader> {
        let id = view.leader?;
        let address = if id == self.id { self.own_address.clone() } else { self.peers.get(&id)?.address.clone() };
        Some(Leader { id, address })
    }

    pub(super) fn take_addresses(&mut self, members: &Members) {
        let mut known = std::mem::take(&mut self.peers);
        for member in members.all() {
            if member.id == self.id {
                self.own_address = member.address.clone();
                continue;
            }
            let down_because =
                known.remove(&member.id).map_or_else(|| "not connected yet".to_string(), |peer| peer.down_because);
            self.peers.insert(member.id, PeerLink { address: member.address.clone(), down_because });
        }
    }
}
