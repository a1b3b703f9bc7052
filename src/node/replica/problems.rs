//! What is wrong, and what is done about it, in sentences: for a status, for the operator's log, and for a client who
//! finds no leader. Pure, like all of the replica; nothing here changes it.

use std::time::Duration;

use super::Replica;
use crate::api::Reply;
use crate::base::limits::ELECTION_TAKES_MAX;
use crate::base::{LogIndex, Moment, NodeId, Role, Shortage, Space, counted};
use crate::node::reply;
use crate::raft::{EntryId, Health};

const NOBODY_IS_SOUND: &str = "every voter has lost the end of its log, and what was acknowledged last may be gone: \
                               nothing goes on without a node whose disk is sound";

impl Replica {
    /// Whether there is nothing wrong with this node's disk and state, nor, as far as it knows, with the others' room
    /// and state, nor with how it came to lead.
    pub fn is_sound(&self) -> bool {
        self.is_intact() && self.short_of_room().next().is_none() && self.raft.elected_past().is_empty()
    }

    /// Whether this node lacks nothing that it had, and knows of no state that is another one.
    pub fn is_intact(&self) -> bool {
        self.raft.diverged().is_none() && self.raft.differing().is_empty() && !self.raft.is_suspect()
    }

    /// Nothing goes on without a disk that is not here: waiting does not help.
    pub fn is_stuck(&self) -> bool {
        let Health { lost, nobody_is_sound, .. } = self.raft.health();
        lost.is_some() || nobody_is_sound
    }

    /// What is wrong with this node's disk, state and place in the cluster, and what is done about it, as sentences.
    pub fn problems(&self, now: Moment) -> Vec<String> {
        let mut problems = self.log_problems();
        problems.extend(self.loss());
        problems.extend(self.beyond_repair.iter().map(|what| {
            format!(
                "its log is damaged beyond repair, {what}: it goes on as long as it runs and will not start again, so \
                 keep it running until all others are up"
            )
        }));
        problems.extend(self.raft.why_uncounted());
        problems.extend(self.raft.short_of_room().map(|(node, space)| self.room_problem(node, space)));
        problems.extend(self.why_unopened(now));
        if let Some(index) = self.raft.diverged() {
            problems.push(format!(
                "its state differs from the majority's behind log entry {index}: it does not lead any more; restart \
                 it, and it builds its state anew (run the same version on all nodes, and test this machine's memory)"
            ));
        }
        for (node, index) in self.raft.differing().iter().filter(|(node, _)| **node != self.id) {
            problems.push(format!("the state of node {node} differs from the majority's behind log entry {index}"));
        }
        problems
    }

    /// As long as it leads: whoever reads what it says of itself may not have seen the line about its election.
    fn loss(&self) -> Option<String> {
        let nodes = nodes(self.raft.elected_past())?;
        let term = self.raft.view().term;
        Some(format!(
            "it leads term {term} by the votes of all, since no majority was sure of the end of its log: what was \
             acknowledged last, and only {nodes} held, may be lost; look for your last writes"
        ))
    }

    /// Why the entry that opened its term is not committed, and reads wait, if that is for want of room.
    pub(super) fn why_unopened(&self, now: Moment) -> Option<String> {
        if !self.raft.is_unopened() || self.raft.room(now) < Space::Exhausted {
            return None;
        }
        let full = self.raft.short_of_room().filter(|(_, space)| *space == Space::Exhausted);
        let nodes = nodes(&full.map(|(node, _)| node).collect::<Vec<NodeId>>())?;
        Some(format!(
            "the first log entry of node {}'s term {} is on no majority's disks for want of room on {nodes}, and reads \
             wait for it as writes do: make room there",
            self.id,
            self.raft.view().term
        ))
    }

    /// The peers that hold their connections and say nothing.
    pub(super) fn silences(&self, now: Moment) -> impl Iterator<Item = String> {
        self.silent_peers(now).map(|(peer, address)| silence(peer, address))
    }

    fn room_problem(&self, node: NodeId, space: Space) -> String {
        if node != self.id {
            let how = if space == Space::Low { "nearly full" } else { "full" };
            return match self.is_down(node) {
                true => format!("the disk of node {node} was {how} when it was heard last"),
                false => format!("the disk of node {node} is {how} (its own status says why)"),
            };
        }
        let (how, what) = match space {
            Space::Low => {
                ("nearly full", "while it leads, or a majority is like it, nothing that makes the data grow is taken")
            }
            _ => ("full", "it takes no new log entries and does not stand for election"),
        };
        match &self.shortage {
            Some(Shortage { is_full: false, what: why }) => {
                format!("it can't make what its log needs next ({why}): {what}; mend that, and it goes on by itself")
            }
            shortage => {
                let why = shortage.as_ref().map_or(String::new(), |shortage| format!(" ({})", shortage.what));
                format!(
                    "its disk is {how}{why}: {what}; make room in the file system of its data directory, and it goes \
                     on by itself"
                )
            }
        }
    }

    /// Why this node can't stand for election though its log is sound: it could not write the first entry of its term.
    fn why_it_does_not_stand(&self) -> Option<String> {
        let is_own = |(node, space): &(NodeId, Space)| (*node, *space) == (self.id, Space::Exhausted);
        self.raft.short_of_room().find(is_own)?;
        let id = self.id;
        Some(match &self.shortage {
            Some(Shortage { is_full: false, what }) => {
                format!("node {id} does not stand, since it can't make what its log needs next ({what}); mend that")
            }
            shortage => {
                let why = shortage.as_ref().map_or(String::new(), |shortage| format!(" ({})", shortage.what));
                format!(
                    "node {id} does not stand, since its disk is full{why}; make room in the file system of its data \
                     directory"
                )
            }
        })
    }

    fn log_problems(&self) -> Vec<String> {
        let Health { suspect, end_uncertain, missing, first_missing, lost, nobody_is_sound } = self.raft.health();
        let mut problems = Vec::new();
        if !suspect {
            return problems;
        }
        problems.extend(lost.map(every_copy_is_bad));
        if let Some(EntryId { index, .. }) = first_missing {
            let entries = counted(missing as u64, "log entry", "log entries");
            let what = match lost {
                Some(_) => "until all are there again its vote does not count",
                None => "what is lost is fetched from the other nodes, and until then its vote does not count",
            };
            problems.push(format!("its disk has lost {entries}, the first is {index}: {what}"));
        } else if nobody_is_sound {
            problems.push(NOBODY_IS_SOUND.to_string());
        } else if end_uncertain {
            problems.push(
                "its disk has lost the end of its log: its vote counts only with all others, until it has what the \
                 leader has"
                    .to_string(),
            );
        } else {
            problems.push("a part of its log was damaged; no log entry is missing (any more)".to_string());
        }
        problems
    }

    /// Why there may be no leader, as part of a sentence for the operator.
    pub fn why_no_leader(&self) -> String {
        let view = self.raft.view();
        let Health { lost, nobody_is_sound, missing, end_uncertain, suspect, .. } = self.raft.health();
        let needed = "an election needs a majority of the members";
        let id = self.id;
        match lost {
            Some(lost) => every_copy_is_bad(lost),
            None if nobody_is_sound => NOBODY_IS_SOUND.to_string(),
            _ if view.role == Role::Uncounted => {
                format!("the directory of node {id} is not the one that the cluster knows, so it counts in no quorum")
            }
            _ if missing > 0 => {
                let entries = counted(missing as u64, "log entry", "log entries");
                format!("{needed}, and node {id}, whose disk has lost {entries}, has no vote until all are there again")
            }
            _ if end_uncertain => {
                format!(
                    "{needed}, and node {id}, whose disk has lost the end of its log, votes only together with all \
                     others"
                )
            }
            _ if view.last == LogIndex::ZERO && !suspect => {
                "a new cluster forms once all its members have answered".to_string()
            }
            _ => match self.why_it_does_not_stand() {
                Some(why) => format!("{needed}, and {why}"),
                None => needed.to_string(),
            },
        }
    }

    /// To a client: what this node knows of why nobody leads, and whether it helps to send it again.
    pub(super) fn no_leader(&self, now: Moment) -> Reply {
        let view = self.raft.view();
        let why = self.why_no_leader();
        if self.is_stuck() {
            return reply::no_leader(self.id, &why);
        }
        let (members, missing) = (self.peers.len() + 1, self.peers_down().count());
        let needed = if view.last == LogIndex::ZERO { members } else { members / 2 + 1 };
        // A vote that does not count, or only with all others', makes none of the rest dispensable.
        let is_short_of_votes = members - missing < needed || (self.raft.is_suspect() && missing > 0);
        let leaderless = self.leaderless_since.map_or(Duration::ZERO, |since| now.since(since));
        let way_out = match view.role {
            Role::Uncounted => "ask another node".to_string(),
            _ if is_short_of_votes => "start what is missing, and try again".to_string(),
            _ if self.why_it_does_not_stand().is_some() => {
                "if the others' disks are full too, nobody leads before there is room".to_string()
            }
            _ if leaderless >= ELECTION_TAKES_MAX => format!(
                "there has been none for {} s, which is longer than an election takes: raftkv status shows what keeps \
                 the nodes from it (a disk that is full or damaged)",
                leaderless.as_secs()
            ),
            _ => "an election takes part of a second, try again".to_string(),
        };
        reply::no_leader(self.id, &format!("{why}; {}; {way_out}", self.who_is_missing()))
    }
}

/// `node 1`, `nodes 1 and 2`; `None` if there are none.
fn nodes(ids: &[NodeId]) -> Option<String> {
    let (last, others) = ids.split_last()?;
    if others.is_empty() {
        return Some(format!("node {last}"));
    }
    let others: Vec<String> = others.iter().map(NodeId::to_string).collect();
    Some(format!("nodes {} and {last}", others.join(", ")))
}

/// What is said of a peer whose process may be stopped.
pub fn silence(peer: NodeId, address: &str) -> String {
    format!(
        "node {peer} at {address} answers nothing though its connection is up: its process is stopped or its machine \
         hangs, or what it sends does not arrive"
    )
}

fn every_copy_is_bad(EntryId { index, term }: EntryId) -> String {
    format!(
        "every copy of log entry {index} of term {term} is bad, and it may have been acknowledged: nothing goes on \
         without it; bring back the disks of nodes that are down, or one that held it"
    )
}
