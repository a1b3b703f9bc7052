//! What is wrong, and what is done about it, in sentences: for a status, for the operator's log, and for a client who
//! finds no leader. Pure, like all of the replica; nothing here changes it.

use super::Replica;
use crate::api::Reply;
use crate::base::{LogIndex, NodeId, Role, Shortage, Space, counted};
use crate::node::reply;
use crate::raft::{EntryId, Health};

const NOBODY_IS_SOUND: &str = "every voter has lost the end of its log, and what was acknowledged last may be gone: \
                               nothing goes on without a node whose disk is sound";

impl Replica {
    /// Whether there is nothing wrong with this node's disk and state, nor, as far as it knows, with the others' room
    /// and state.
    pub fn is_sound(&self) -> bool {
        self.is_intact() && self.short_of_room().next().is_none()
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
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.log_problems();
        problems.extend(self.beyond_repair.iter().map(|what| {
            format!(
                "its log is damaged beyond repair, {what}: it goes on as long as it runs and will not start again, so \
                 keep it running until all others are up"
            )
        }));
        problems.extend(self.raft.why_uncounted());
        problems.extend(self.raft.short_of_room().map(|(node, space)| self.room_problem(node, space)));
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
        match lost {
            Some(lost) => every_copy_is_bad(lost),
            None if nobody_is_sound => NOBODY_IS_SOUND.to_string(),
            _ if view.role == Role::Uncounted => {
                "this directory is not the one that the cluster knows, so it counts in no quorum".to_string()
            }
            _ if missing > 0 => {
                let entries = counted(missing as u64, "log entry", "log entries");
                format!("{needed}, and this node, whose disk has lost {entries}, has no vote until all are there again")
            }
            _ if end_uncertain => {
                format!(
                    "{needed}, and this node, whose disk has lost the end of its log, votes only together with all \
                     others"
                )
            }
            _ if view.last == LogIndex::ZERO && !suspect => {
                "a new cluster forms once all its members have answered".to_string()
            }
            _ => needed.to_string(),
        }
    }

    /// To a client: what this node knows of why nobody leads, and whether it helps to send it again.
    pub(super) fn no_leader(&self) -> Reply {
        let view = self.raft.view();
        let why = self.why_no_leader();
        if self.is_stuck() {
            return reply::no_leader(&why);
        }
        let (members, missing) = (self.peers.len() + 1, self.peers_down().count());
        let needed = if view.last == LogIndex::ZERO { members } else { members / 2 + 1 };
        let way_out = match view.role {
            Role::Uncounted => "ask another node",
            _ if members - missing < needed => "start what is missing, and try again",
            _ => "an election takes part of a second, try again",
        };
        reply::no_leader(&format!("{why}; {}; {way_out}", self.who_is_missing()))
    }
}

fn every_copy_is_bad(EntryId { index, term }: EntryId) -> String {
    format!(
        "every copy of log entry {index} of term {term} is bad, and it may have been acknowledged: nothing goes on \
         without it; bring back the disks of nodes that are down, or one that held it"
    )
}
