//! What nodes say to each other.

use super::agreement::{Check, StateDigest};
use super::repair::{Absence, Barrier, EntryId};
use crate::base::{Entry, InstanceId, LogIndex, NodeId, Space, Term};

/// A message between two nodes. `term` is always the sender's current term, also in PreVote, so that no two
/// readings of it exist (a rejection that carried another term is how PreVote gets stuck).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub from: NodeId,
    pub to: NodeId,
    /// The sender's data directory. The link's hello establishes it; `net` fills it in for what arrives.
    /// What comes from another directory than the cluster knows under `from` counts in no quorum.
    pub instance: InstanceId,
    pub term: Term,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// "Would you vote for me in `proposed`?" (Raft dissertation, section 9.6). Changes nothing at the receiver.
    PreVote {
        proposed: Term,
        last_index: LogIndex,
        last_term: Term,
    },
    /// `log_is_empty`: the voter's own log is; a new cluster forms only when every member's is.
    /// `suspect`: its disk has lost something, so this vote counts only where every voter's does.
    PreVoteReply {
        proposed: Term,
        granted: bool,
        log_is_empty: bool,
        suspect: bool,
    },
    /// Leaves only when the candidate's own term and vote are durable. `transfer`: the leader asked for it.
    Vote {
        last_index: LogIndex,
        last_term: Term,
        transfer: bool,
    },
    VoteReply {
        granted: bool,
        log_is_empty: bool,
        suspect: bool,
    },
    /// Entries behind (`prev_index`, `prev_term`), consecutive. `round` names the leader's latest read round.
    Append {
        prev_index: LogIndex,
        prev_term: Term,
        entries: Vec<Entry>,
        commit: LogIndex,
        round: u64,
    },
    /// Leaves only when everything up to `matched`, and the term, is durable here: the prefix that this message
    /// verified, never the end of the log.
    AppendAccepted {
        matched: LogIndex,
        round: u64,
    },
    /// The entry at `prev_index` is missing or of another term. `hint_index`, `hint_term`: the follower's last
    /// entry at or below `prev_index` whose term is not above the leader's `prev_term`; the leader goes back to it.
    /// `suspect`: its disk has lost something, perhaps what it acknowledged before.
    AppendRejected {
        prev_index: LogIndex,
        hint_index: LogIndex,
        hint_term: Term,
        round: u64,
        suspect: bool,
    },
    /// Goes ahead of queued data. `commit` is at most what the leader knows to match at the receiver.
    /// `check` compares the states of the nodes. `promise_ms`: for so long nobody is to be helped to lead; 0: as
    /// before.
    Heartbeat {
        commit: LogIndex,
        round: u64,
        check: Check,
        promise_ms: u32,
    },
    /// `digest`: of the state behind the entry that was asked about, if it is known here. `space`: of the sender's
    /// disk.
    /// `promise_ms`: what was granted of the promise that the heartbeat of `round` asked for.
    HeartbeatReply {
        round: u64,
        digest: Option<StateDigest>,
        space: Space,
        promise_ms: u32,
    },
    /// "How far must I apply, to answer reads that came to me before this left?" From a node that takes the receiver
    /// for the leader of its term. Changes nothing there. `token`: echoed in the answer.
    ReadIndex {
        token: u64,
    },
    /// Up to `index`, which is committed. The sender has proven that it led after the question came.
    ReadIndexReply {
        token: u64,
        index: LogIndex,
    },
    /// "My disk has lost these; do you have them?" Changes nothing at the receiver.
    Refill {
        wanted: Vec<EntryId>,
        nonce: u64,
    },
    /// As many of them as fit a message, and which the sender can't give. A leader also says where its log ends.
    Refilled {
        entries: Vec<Entry>,
        absent: Vec<(EntryId, Absence)>,
        barrier: Option<Barrier>,
    },
}

impl Message {
    /// What it costs while it waits in a queue, in bytes; every budget of messages uses this.
    pub fn cost_bytes(&self) -> usize {
        let entries = match &self.body {
            Body::Append { entries, .. } => entries.iter().map(Entry::cost_bytes).sum(),
            Body::Refilled { entries, absent, .. } => {
                entries.iter().map(Entry::cost_bytes).sum::<usize>() + size_of_val(&absent[..])
            }
            Body::Refill { wanted, .. } => size_of_val(&wanted[..]),
            _ => 0,
        };
        entries + 128
    }
}
