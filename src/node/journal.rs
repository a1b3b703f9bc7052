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
            log::info!("{} in term {}, {leader}: {}", change.role.as_str(), change.term, change.why);
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
        let is_counted = replica.view().role != Role::Uncounted;
        if replica.is_sound() && is_counted && said.is_empty() {
            return;
        }
        let problems = replica.problems();
        let is_new = problems.is_empty() || problems.len() > said.len();
        if problems == *said || !(is_new || now.since(*at) >= PROBLEMS_REPORT_INTERVAL) {
            return;
        }
        match problems.is_empty() {
            true => log::info!("nothing is wrong with this node's disk and state any more"),
            false => problems.iter().for_each(|problem| log::log!(level(replica), "{problem}")),
        }
        self.problems = (problems, now);
    }

    fn maybe_report_missing(&mut self, now: Moment, replica: &Replica) {
        if let Some(report) = self.missing(now, replica) {
            log::log!(level(replica), "{report}");
        }
    }

    /// Who is missing and why, each time that there was no leader for another interval.
    fn missing(&mut self, now: Moment, replica: &Replica) -> Option<String> {
        if replica.has_leader() {
            self.leaderless = None;
            return None;
        }
        let leaderless = self.leaderless.get_or_insert(Leaderless { since: now, reported: now });
        if now.since(leaderless.reported) < NO_LEADER_REPORT_INTERVAL {
            return None;
        }
        leaderless.reported = now;
        let seconds = now.since(leaderless.since).as_secs();
        Some(format!("no leader for {seconds} s; {}; {}", replica.why_no_leader(), replica.who_is_missing()))
    }
}

/// Most of what is wrong ends by itself; this does not.
fn level(replica: &Replica) -> Level {
    if replica.is_stuck() { Level::Error } else { Level::Warn }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::replica::ReplicaEvent;
    use crate::node::testing::{Rig, node};
    use crate::raft::Recovered;

    #[test]
    fn every_five_seconds_without_a_leader_the_missing_peers_are_named_with_their_reasons() {
        let (mut journal, mut rig) = (Journal::new(node(1)), Rig::recovered(Recovered::default(), 0));
        let at_ms = |ms| Moment::ZERO + Duration::from_millis(ms);
        let hear = |rig: &mut Rig, event| drop(rig.turn(ReplicaEvent::FromNet(event)));
        hear(&mut rig, FromNet::LinkDown { peer: node(2), why: "connection refused".to_string() });
        (3..=5).for_each(|peer| hear(&mut rig, FromNet::LinkUp { peer: node(peer) }));
        assert_eq!(journal.missing(at_ms(1000), &rig.replica), None);
        assert_eq!(journal.missing(at_ms(5999), &rig.replica), None);
        let report = journal.missing(at_ms(6000), &rig.replica).expect("it is time");
        assert!(report.starts_with("no leader for 5 s; a new cluster forms once all"), "{report}");
        assert!(report.ends_with("; node 2 at h:2: connection refused"), "{report}");
        assert_eq!(journal.missing(at_ms(10_999), &rig.replica), None);
        hear(&mut rig, FromNet::LinkUp { peer: node(2) });
        let report = journal.missing(at_ms(11_000), &rig.replica).expect("it is time again");
        assert!(
            report.starts_with("no leader for 10 s; ") && report.ends_with("; all peers are connected"),
            "{report}"
        );

        // A leader ends the count, and the next loss begins at zero.
        rig.follow();
        assert_eq!(journal.missing(at_ms(30_000), &rig.replica), None);
        assert!(journal.leaderless.is_none());
    }
}
