//! What an operator reads: role changes with term and why, peers up and down, and who is missing while there is no
//! majority. Nothing per request.

use std::collections::BTreeMap;

use crate::base::limits::NO_LEADER_REPORT_INTERVAL;
use crate::base::{Moment, NodeId};
use crate::net::FromNet;

use super::replica::{Effects, Replica};

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
        match event {
            FromNet::LinkUp { peer } => {
                log::info!("connected to node {peer}");
                self.down.remove(peer);
            }
            FromNet::LinkDown { peer, why } if self.down.get(peer) != Some(why) => {
                log::info!("no connection: {why}");
                self.down.insert(*peer, why.clone());
            }
            _ => {}
        }
    }

    pub fn on_turn(&mut self, now: Moment, replica: &Replica, effects: &Effects) {
        for change in &effects.role_changes {
            let leader = change.leader.map_or("no leader".to_string(), |leader| format!("leader is node {leader}"));
            log::info!("{} in term {}, {leader}: {}", change.role.as_str(), change.term, change.why);
        }
        if let Some(members) = &effects.members {
            let ids: Vec<String> = members.voters.iter().map(|member| member.id.to_string()).collect();
            log::info!("cluster {} of nodes {}", members.cluster, ids.join(", "));
        }
        self.maybe_report_missing(now, replica);
    }

    fn maybe_report_missing(&mut self, now: Moment, replica: &Replica) {
        if replica.has_leader() {
            self.missing_since = None;
            return;
        }
        let since = *self.missing_since.get_or_insert(now);
        if now.since(since) < NO_LEADER_REPORT_INTERVAL {
            return;
        }
        self.missing_since = Some(now);
        let peers: Vec<String> =
            replica.peers_down().map(|(peer, address, why)| format!("node {peer} at {address}: {why}")).collect();
        let missing = if peers.is_empty() { "all peers are connected".to_string() } else { peers.join("; ") };
        let seconds = NO_LEADER_REPORT_INTERVAL.as_secs();
        log::warn!("no leader for {seconds} s; {}; {missing}", replica.why_no_leader());
    }
}
