//! What an operator reads: role changes with term and why, peers up and down, and who is missing while there is no
//! majority. Nothing per request.

use std::collections::BTreeMap;

use log::Level;

use crate::base::limits::{NO_LEADER_REPORT_INTERVAL, PROBLEMS_REPORT_INTERVAL};
use crate::base::{Moment, NodeId, Role};
use crate::net::FromNet;

use super::replica::{Effects, Replica};

pub struct Journal {
    id: NodeId,
    /// Why each peer is down; one line for each new reason, not for each dial.
    down: BTreeMap<NodeId, String>,
    leaderless: Option<Leaderless>,
    /// What was said last of the node's problems, and when.
    problems: (Vec<String>, Moment),
}

/// A time without a leader, as seen from here.
struct Leaderless {
    since: Moment,
    reported: Moment,
}

impl Journal {
    pub fn new(id: NodeId) -> Journal {
        Journal { id, down: BTreeMap::new(), leaderless: None, problems: (Vec::new(), Moment::ZERO) }
    }

    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Before `replica` takes the event.
    pub fn on_net(&mut self, event: &FromNet, replica: &Replica) {
        match event {
            FromNet::LinkUp { peer } => {
                log::info!("connected to node {peer}");
                self.down.remove(peer);
            }
            FromNet::LinkDown { peer, why } if self.down.get(peer) != Some(why) => {
                let address = replica.peer_address(*peer).unwrap_or("an unknown address");
                log::info!("no connection to node {peer} at {address}: {why}");
                self.down.insert(*peer, why.clone());
            }
            _ => {}
        }
    }

    pub fn on_turn(&mut self, now: Moment, replica: &Replica, effects: &Effects) {
        for change in &effects.role_changes {
            let leader = change.leader.map_or("no leader".to_string(), |leader| format!("leader is node {leader}"));
            // A copy that counts in no quorum needs the operator; all else passes.
            let level = if change.role == Role::Uncounted { Level::Warn } else { Level::Info };
            log::log!(level, "{} in term {}, {leader}: {}", change.role.as_str(), change.term, change.why);
        }
        if let Some(members) = &effects.members {
            let ids: Vec<String> = members.voters.iter().map(|member| member.id.to_string()).collect();
            log::info!("cluster {} of nodes {}", members.cluster, ids.join(", "));
        }
        self.maybe_report_missing(now, replica);
        self.maybe_report_problems(now, replica);
    }

    /// Each new problem at once, then how it goes on, now and then; and its end.
    fn maybe_report_problems(&mut self, now: Moment, replica: &Replica) {
        let (said, at) = &self.problems;
        if replica.is_sound() && said.is_empty() {
            return;
        }
        let problems = replica.problems();
        let is_new = problems.is_empty() || problems.len() > said.len();
        if problems == *said || !(is_new || now.since(*at) >= PROBLEMS_REPORT_INTERVAL) {
            return;
        }
        match problems.is_empty() {
            true => log::info!("the disk holds everything again, and this node's vote counts again"),
            false => problems.iter().for_each(|problem| log::warn!("{problem}")),
        }
        self.problems = (problems, now);
    }

    fn maybe_report_missing(&mut self, now: Moment, replica: &Replica) {
        if replica.has_leader() {
            self.leaderless = None;
            return;
        }
        let leaderless = self.leaderless.get_or_insert(Leaderless { since: now, reported: now });
        if now.since(leaderless.reported) < NO_LEADER_REPORT_INTERVAL {
            return;
        }
        leaderless.reported = now;
        let seconds = now.since(leaderless.since).as_secs();
        let peers: Vec<String> =
            replica.peers_down().map(|(peer, address, why)| format!("node {peer} at {address}: {why}")).collect();
        let missing = if peers.is_empty() { "all peers are connected".to_string() } else { peers.join("; ") };
        log::warn!("no leader for {seconds} s; {}; {missing}", replica.why_no_leader());
    }
}
