//! What an operator reads: role changes with term and why, peers up and down, and who is missing while there is no
//! majority. Nothing per request.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{Moment, NodeId};
use crate::net::FromNet;

use super::replica::{Effects, Replica};

const MISSING_EVERY: Duration = Duration::from_secs(5);

pub struct Journal {
    id: NodeId,
    /// Why each peer is down; one line for each new reason, not for each dial.
    down: BTreeMap<NodeId, String>,
    missing_since: Option<Moment>,
}

impl Journal {
    pub fn new(id: NodeId) -> Journal {
        Journal { id, down: BTreeMap::new(), missing_since: None }
    }

    pub fn id(&self) -> NodeId {
        self.id
    }

    pub fn on_net(&mut self, event: &FromNet) {
        let id = self.id;
        match event {
            FromNet::LinkUp { peer } => {
                log::info!("node {id}: connected to node {peer}");
                self.down.remove(peer);
            }
            FromNet::LinkDown { peer, why } if self.down.get(peer) != Some(why) => {
                log::info!("node {id}: no connection to node {peer}: {why}");
                self.down.insert(*peer, why.clone());
            }
            _ => {}
        }
    }

    pub fn on_turn(&mut self, now: Moment, replica: &Replica, effects: &Effects) {
        let id = self.id;
        for change in &effects.role_changes {
            let leader = change.leader.map_or("no leader".to_string(), |leader| format!("leader is node {leader}"));
            log::info!("node {id}: {} in term {}, {leader}: {}", change.role.as_str(), change.term, change.why);
        }
        if let Some(members) = &effects.members {
            let ids: Vec<String> = members.voters.iter().map(|member| member.id.to_string()).collect();
            log::info!("node {id}: cluster {} of nodes {}", members.cluster, ids.join(", "));
        }
        self.maybe_report_missing(now, replica);
    }

    fn maybe_report_missing(&mut self, now: Moment, replica: &Replica) {
        if replica.has_leader() {
            self.missing_since = None;
            return;
        }
        let since = *self.missing_since.get_or_insert(now);
        if now.since(since) < MISSING_EVERY {
            return;
        }
        self.missing_since = Some(now);
        let peers: Vec<String> =
            replica.peers_down().map(|(peer, address, why)| format!("node {peer} at {address}: {why}")).collect();
        let missing = if peers.is_empty() { "all peers are connected".to_string() } else { peers.join("; ") };
        log::warn!("node {}: no leader for 5 s; {}; {missing}", self.id, replica.why_no_leader());
    }
}
