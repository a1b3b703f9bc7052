//! What an operator reads: role changes with term and why, peers up and down, and who is missing while there is no
//! majority. Nothing per request.

use std::collections::{BTreeMap, BTreeSet};

use log::Level;

use crate::base::limits::{NO_LEADER_REPORT_INTERVAL, PROBLEMS_REPORT_INTERVAL};
use crate::base::{Moment, NodeId, Role};
use crate::net::FromNet;
use crate::raft::RoleChange;

use super::replica::{Effects, Replica, problems};

pub struct Journal {
    id: NodeId,
    /// Why each peer is down; one line for each new reason, not for each dial.
    down: BTreeMap<NodeId, String>,
    leaderless: Option<Leaderless>,
    /// Peers that were reported to be silent.
    silent: BTreeSet<NodeId>,
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
        Journal {
            id,
            down: BTreeMap::new(),
            leaderless: None,
            silent: BTreeSet::new(),
            problems: (Vec::new(), Moment::ZERO),
        }
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
            log::log!(
                level_of(change, replica),
                "{} in term {}, {leader}: {}",
                change.role.as_str(),
                change.term,
                change.why
            );
        }
        if let Some(members) = &effects.members {
            let ids: Vec<String> = members.voters.iter().map(|member| member.id.to_string()).collect();
            log::info!("cluster {} of nodes {}", members.cluster, ids.join(", "));
        }
        self.maybe_report_missing(now, replica);
        self.report_silences(now, replica);
        self.maybe_report_problems(now, replica);
    }

    /// Each new problem at once, then how it goes on, now and then; and its end.
    fn maybe_report_problems(&mut self, now: Moment, replica: &Replica) {
        let (said, at) = &self.problems;
        let is_counted = replica.view().role != Role::Uncounted;
        if replica.is_sound() && is_counted && said.is_empty() {
            return;
        }
        let problems = replica.problems(now);
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

    fn report_silences(&mut self, now: Moment, replica: &Replica) {
        for (level, line) in self.silences(now, replica) {
            log::log!(level, "{line}");
        }
    }

    /// Each silence that lasts, and its end, once. What ends it otherwise (the link breaks, another node leads) has a
    /// line of its own.
    fn silences(&mut self, now: Moment, replica: &Replica) -> Vec<(Level, String)> {
        let mut lines = Vec::new();
        let mut silent = BTreeSet::new();
        for (peer, address) in replica.silent_peers(now) {
            silent.insert(peer);
            if !self.silent.contains(&peer) {
                lines.push((Level::Warn, problems::silence(peer, address)));
            }
        }
        if self.silent != silent {
            for peer in self.silent.difference(&silent).filter(|peer| replica.hears(**peer)) {
                lines.push((Level::Info, format!("node {peer} answers again")));
            }
            self.silent = silent;
        }
        lines
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

/// A leader that was elected though what was acknowledged may be lost is no role change like any other.
fn level_of(change: &RoleChange, replica: &Replica) -> Level {
    let is_past_a_loss = change.role == Role::Leader && !replica.elected_past().is_empty();
    if is_past_a_loss { Level::Warn } else { Level::Info }
}

/// Most of what is wrong ends by itself; this does not.
fn level(replica: &Replica) -> Level {
    if replica.is_stuck() { Level::Error } else { Level::Warn }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::Space;
    use crate::node::replica::ReplicaEvent;
    use crate::node::testing::{Rig, node};
    use crate::raft::{Body, Recovered};

    #[test]
    fn an_election_past_a_loss_is_a_warning() {
        for (suspect, expected) in [(true, Level::Warn), (false, Level::Info)] {
            let mut rig = Rig::start(0);
            let effects = rig.win([(2, suspect), (3, suspect), (4, suspect), (5, false)]);
            let levels: Vec<Level> = effects.role_changes.iter().map(|change| level_of(change, &rig.replica)).collect();
            assert_eq!(levels, [expected], "{:?}", effects.role_changes);
        }
    }

    #[test]
    fn a_peer_that_falls_silent_and_one_that_answers_again_are_reported_once() {
        let (mut journal, mut rig) = (Journal::new(node(1)), Rig::start(0));
        rig.lead();
        (2..=5).for_each(|peer| drop(rig.turn(ReplicaEvent::FromNet(FromNet::LinkUp { peer: node(peer) }))));
        let mut answering = |rig: &mut Rig, peers: &[u32]| {
            rig.now = rig.now + Duration::from_secs(1);
            for peer in peers {
                rig.receive(
                    *peer,
                    2,
                    Body::HeartbeatReply { round: 0, digest: None, space: Space::Plenty, promise_ms: 0 },
                );
            }
            rig.turn(ReplicaEvent::Tick);
            journal.silences(rig.now, &rig.replica)
        };
        assert_eq!(answering(&mut rig, &[2, 3, 4]), []);
        let lines = answering(&mut rig, &[2, 3, 4]);
        assert!(matches!(&lines[..], [(Level::Warn, line)] if line.starts_with("node 5 at h:5 answers nothing")));
        assert_eq!(answering(&mut rig, &[2, 3, 4]), []);
        assert_eq!(answering(&mut rig, &[2, 3, 4, 5]), [(Level::Info, "node 5 answers again".to_string())]);
        assert_eq!(answering(&mut rig, &[2, 3, 4, 5]), []);
    }

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
