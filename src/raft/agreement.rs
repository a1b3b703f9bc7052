//! Replicas watch each other: whether all that applied the same log have come to the same state.
//!
//! The driver reports a digest of the state behind each applied entry. With its heartbeats the leader asks for the
//! digest behind one entry; the answers come with the replies. When a quorum has named the same digest, the leader says
//! so, and a node that has another one behind the same entry knows that its state is wrong: a bit of its memory
//! flipped, or two versions apply an entry differently. It stops serving: a leader steps down, and the node does not
//! stand again; as a follower it goes on keeping the log, which is as good as ever. A restart builds its state anew.
//!
//! It costs a few bytes a heartbeat; digests of the last entries are remembered, so that all are asked about the same.

use std::collections::{BTreeMap, VecDeque};

use super::{Outputs, Raft, State, quorum};
use crate::base::limits::DIGESTS_REMEMBERED;
use crate::base::{LogIndex, Moment, NodeId};
use crate::guard::{Guard, asserting, removed};

/// The state behind an entry, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateDigest {
    pub index: LogIndex,
    pub digest: u64,
}

/// What a leader says and asks with a heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// The entry whose digest is asked for; 0: none.
    pub asked: LogIndex,
    /// What a quorum has agreed on last.
    pub agreed: Option<StateDigest>,
}

#[derive(Default)]
pub(super) struct Agreement {
    /// Of the last applied entries, ascending.
    known: VecDeque<StateDigest>,
    /// As leader: what is asked, and the answers so far, this node's own among them.
    asked: LogIndex,
    answers: BTreeMap<NodeId, u64>,
    /// Heartbeats since it was asked first.
    rounds: u32,
    agreed: Option<StateDigest>,
    /// Who answered with another digest than the quorum's, and behind which entry.
    differing: BTreeMap<NodeId, LogIndex>,
    /// This node's own state is wrong, since this entry at the latest.
    diverged: Option<LogIndex>,
}

/// How many heartbeats a slow follower has to apply what is asked about.
const ROUNDS_MAX: u32 = 20;

impl Agreement {
    fn digest_of(&self, index: LogIndex) -> Option<u64> {
        let first = self.known.front()?.index;
        let place = usize::try_from(index.0.checked_sub(first.0)?).ok()?;
        self.known.get(place).map(|known| known.digest)
    }

    pub fn diverged(&self) -> Option<LogIndex> {
        self.diverged
    }

    /// What was seen of the others is the next leader's to say.
    pub fn on_leadership_lost(&mut self) {
        self.differing.clear();
    }

    /// A new leader asks anew.
    pub fn on_leading(&mut self) {
        self.asked = LogIndex::ZERO;
        self.answers.clear();
        self.differing.clear();
        self.agreed = None;
    }
}

impl Raft {
    /// The driver has applied the entry; `digest`: of the state behind it.
    pub fn note_applied(&mut self, digest: StateDigest) {
        let known = &mut self.agreement.known;
        let in_order = known.back().is_none_or(|last| last.index.next() == digest.index);
        debug_assert!(in_order || !asserting(), "each entry, in order");
        known.push_back(digest);
        if known.len() > DIGESTS_REMEMBERED {
            known.pop_front();
        }
    }

    /// Since which entry this node's state is known to be wrong.
    pub fn diverged(&self) -> Option<LogIndex> {
        self.agreement.diverged
    }

    /// As leader: nodes whose state differs from the quorum's, and behind which entry that was seen.
    pub fn differing(&self) -> &BTreeMap<NodeId, LogIndex> {
        &self.agreement.differing
    }

    /// With each due heartbeat: goes on to the latest entry once all have answered, or had the time to.
    pub(super) fn next_check(&mut self) {
        let agreement = &mut self.agreement;
        let voters = self.membership.current().voters.len();
        agreement.rounds += 1;
        if agreement.answers.len() < voters && agreement.rounds < ROUNDS_MAX && agreement.asked > LogIndex::ZERO {
            return;
        }
        let Some(StateDigest { index, digest }) = agreement.known.back().copied() else { return };
        if index == agreement.asked && agreement.answers.len() >= voters {
            return; // nothing was applied since
        }
        agreement.asked = index;
        agreement.rounds = 0;
        agreement.answers = BTreeMap::from([(self.config.id, digest)]);
    }

    pub(super) fn check(&self) -> Check {
        Check { asked: self.agreement.asked, agreed: self.agreement.agreed }
    }

    /// Follower: the answer to what the leader asks; and whether a quorum contradicts this node.
    pub(super) fn on_check(&mut self, check: Check) -> Option<StateDigest> {
        if let Some(agreed) = check.agreed {
            self.compare(agreed);
        }
        let digest = self.agreement.digest_of(check.asked)?;
        Some(StateDigest { index: check.asked, digest })
    }

    fn compare(&mut self, agreed: StateDigest) {
        let own = self.agreement.digest_of(agreed.index);
        let differs = own.is_some_and(|own| own != agreed.digest) && !removed(Guard::DigestNotCompared);
        if differs && self.agreement.diverged.is_none() {
            self.agreement.diverged = Some(agreed.index);
        }
    }

    /// Leader: a member's answer. Once a quorum has the same digest, it counts, and this node compares its own.
    pub(super) fn on_digest(&mut self, now: Moment, from: NodeId, answer: StateDigest, out: &mut Outputs) {
        if !matches!(self.state, State::Leader(_)) || answer.index != self.agreement.asked {
            return;
        }
        self.agreement.answers.insert(from, answer.digest);
        let answers = &self.agreement.answers;
        let agree = |digest: u64| {
            let same = |id: NodeId| answers.get(&id).is_some_and(|answer| *answer == digest);
            quorum::reached(self.membership.current(), |member| same(member.id).then_some(())).is_some()
        };
        let Some(digest) = answers.values().copied().find(|digest| agree(*digest)) else { return };
        let agreed = StateDigest { index: answer.index, digest };
        let differs = |(id, answer): (&NodeId, &u64)| (*answer != digest).then_some((*id, agreed.index));
        self.agreement.differing = answers.iter().filter_map(differs).collect();
        self.agreement.agreed = Some(agreed);
        self.compare(agreed);
        if let Some(index) = self.agreement.diverged {
            let why = format!("its state differs from the majority's behind entry {index}");
            self.become_follower(now, self.hard_state.term, None, why, out);
        }
    }
}
