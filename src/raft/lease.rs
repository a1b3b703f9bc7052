//! Leader leases: reads that ask nobody (dissertation, section 6.4.1).
//!
//! With each heartbeat the leader asks for a *promise*: not to help anybody to lead for so long. While a majority is
//! inside its promise nobody else can be elected, so nothing is committed elsewhere, and what the leader has applied is
//! all that anybody was answered for. That is its *lease*. Two clocks measure one time, and each errs to its own side:
//!
//! | | begins | lasts | on whose clock |
//! |---|---|---|---|
//! | promise | when the follower has taken the heartbeat | what the follower granted | the follower's |
//! | lease | before the leader sent that heartbeat | what the follower granted, less the drift bound | the leader's |
//!
//! Both clocks count the time that a machine is suspended. The driver samples `now` after it has taken what it hands
//! in, or a promise would begin before the heartbeat was sent; and before it passes on what comes out, or a lease would
//! begin after.
//!
//! **The follower** grants what it is asked for, up to its own setting, and says how much: only that counts, so nodes
//! of different settings, and versions that know no promise, are safe together. Inside a promise it neither votes, nor
//! says that it would, nor stands, whatever the term; but it does for a transfer, which the leader asked for and holds
//! no lease beside. A promise is not written down. Who starts may have made one, so it is inside the longest promise
//! possible; but for a new directory, of no term and no entry: a promise is given only once the term is durable. The
//! only voter of a cluster has promised nobody anything.
//!
//! **The leader** holds a lease for as long as the quorum function says that a majority has promised; itself it counts
//! as promised, since it votes for nobody while it leads. It has none before the first entry of its term is applied,
//! nor while more is committed than a turn could apply: a follower that has learnt of that may have answered by it.
//! Nor while its disk has lost something, or once its state differs. There is none for the rest of a term in which
//! leadership is to be handed over: this version can't do that, and whoever adds it adds that here.
//!
//! What no node can see: a clock that stops with everything that could tell, as a virtual machine's that is frozen and
//! goes on as if nothing had been. The drift bound is a promise of the operator's.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Raft, State, quorum};
use crate::base::limits::LEASE_ROUNDS_MAX;
use crate::base::{LogIndex, Member, Moment, NodeId};
use crate::guard::{Guard, removed};

/// What a node that uses leases is told. A setting, which may differ between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// What it asks for as a leader, and grants at most as a follower.
    pub promise: Duration,
    /// While the fastest clock of the cluster counts 100, the slowest counts at most this much less.
    pub drift_percent: u32,
}

impl LeaseConfig {
    pub(super) fn promise_ms(&self) -> u32 {
        u32::try_from(self.promise.as_millis()).unwrap_or(u32::MAX)
    }

    /// What is left of a promise on a clock that is slower than the one it is kept by.
    fn less_drift(&self, promise: Duration) -> Duration {
        let counted = if removed(Guard::LeaseWithoutDrift) { 100 } else { 100_u32.saturating_sub(self.drift_percent) };
        promise * counted / 100
    }
}

/// When the leader opened its latest rounds. What carries a round, or a later one, was sent then or after.
#[derive(Default)]
pub(super) struct Rounds(VecDeque<(u64, Moment)>);

impl Rounds {
    fn note(&mut self, round: u64, now: Moment) {
        self.0.push_back((round, now));
        if self.0.len() > LEASE_ROUNDS_MAX {
            self.0.pop_front(); // an answer that takes so long makes no lease
        }
    }

    /// Before anything that carries `round` was sent.
    fn opened_at(&self, round: u64) -> Option<Moment> {
        self.0.iter().rev().find(|(opened, _)| *opened <= round).map(|(_, at)| *at)
    }
}

impl Raft {
    // ---- the follower's promise ------------------------------------------------------------------------------

    /// A node starts: it may have promised something before.
    pub(super) fn remember_promise(&mut self, now: Moment) {
        let is_new = self.hard_state.term.0 == 0 && self.log.is_empty() && !self.repair.is_suspect();
        let owes_nothing = is_new || self.membership.is_alone() || removed(Guard::PromiseForgotten);
        if !owes_nothing {
            self.promised_until = now + self.config.promise_max;
        }
    }

    /// The leader asks for `asked_ms`: what it is granted from `now` on.
    pub(super) fn promise(&mut self, now: Moment, asked_ms: u32) -> u32 {
        let Some(lease) = self.config.lease else { return 0 };
        if !self.durability.covers(LogIndex::ZERO, self.hard_state) {
            return 0; // after a crash nothing might tell that it ever was in this term
        }
        let longest_ms = u32::try_from(self.config.promise_max.as_millis()).unwrap_or(u32::MAX);
        let granted_ms = asked_ms.min(lease.promise_ms()).min(longest_ms);
        self.promised_until = self.promised_until.max(now + Duration::from_millis(granted_ms.into()));
        granted_ms
    }

    /// Whether this node has promised to help nobody to lead.
    pub(super) fn has_promised(&self, now: Moment) -> bool {
        now < self.promised_until && !removed(Guard::VoteInsidePromise)
    }

    // ---- the leader's lease ----------------------------------------------------------------------------------

    /// Heartbeats are about to leave: what they are answered with counts from now on.
    pub(super) fn open_lease_round(&mut self, now: Moment) {
        let State::Leader(leading) = &mut self.state else { return };
        if self.config.lease.is_some() {
            leading.round += 1;
            leading.lease_rounds.note(leading.round, now);
        }
    }

    /// A peer has granted `granted_ms` to the heartbeat of `round`.
    pub(super) fn on_promised(&mut self, now: Moment, from: NodeId, round: u64, granted_ms: u32) {
        let (State::Leader(leading), Some(lease)) = (&mut self.state, self.config.lease) else { return };
        let granted_ms = if removed(Guard::AskedPromiseBelieved) { lease.promise_ms() } else { granted_ms };
        let sent_at = match leading.lease_rounds.opened_at(round) {
            Some(_) if removed(Guard::LeaseFromReceipt) => now,
            Some(opened_at) if round <= leading.round && granted_ms > 0 => opened_at,
            _ => return,
        };
        let granted = Duration::from_millis(granted_ms.into()).min(self.config.promise_max);
        if let Some(progress) = leading.peers.get_mut(&from) {
            let until = sent_at + lease.less_drift(granted);
            progress.promised_until = progress.promised_until.max(Some(until));
        }
    }

    /// Until when this node may answer for the log up to `known` without asking anybody: before that, on its own clock,
    /// nobody else was elected. `None`: it may not. A read answered here knows what is applied, the answer to another
    /// node's question what is committed.
    pub fn lease_until(&self, known: LogIndex) -> Option<Moment> {
        let State::Leader(leading) = &self.state else { return None };
        self.config.lease?;
        let knows_earlier = known >= leading.first_index || removed(Guard::LeaseBeforeNoop);
        let is_current = knows_earlier && (known >= self.commit || removed(Guard::LeaseBehindCommit));
        let is_sound = !self.repair.is_suspect() && self.agreement.diverged().is_none();
        if !is_current || !(is_sound || removed(Guard::LeaseWhileSuspect)) {
            return None;
        }
        quorum::reached(self.membership.current(), |member: &Member| {
            if member.id == self.config.id {
                return Some(Moment(u64::MAX));
            }
            leading.peers.get(&member.id).filter(|progress| progress.counts(member))?.promised_until
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_from_the_round_that_was_open_when_its_heartbeat_left() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.opened_at(9), None);
        for (round, at) in [(1, 100), (4, 200), (5, 300)] {
            rounds.note(round, Moment(at));
        }
        let opened: Vec<_> = (0..7).map(|round| rounds.opened_at(round).map(|at| at.0)).collect();
        assert_eq!(opened, [None, Some(100), Some(100), Some(100), Some(200), Some(300), Some(300)]);
    }

    #[test]
    fn rounds_are_forgotten_from_the_oldest_on() {
        let mut rounds = Rounds::default();
        for round in 1..=LEASE_ROUNDS_MAX as u64 + 1 {
            rounds.note(round, Moment(round));
        }
        assert_eq!((rounds.opened_at(1), rounds.opened_at(2)), (None, Some(Moment(2))));
    }

    #[test]
    fn the_drift_bound_shortens_what_was_promised() {
        let lease = LeaseConfig { promise: Duration::from_millis(120), drift_percent: 10 };
        assert_eq!(lease.less_drift(Duration::from_millis(120)), Duration::from_millis(108));
        let senseless = LeaseConfig { drift_percent: 120, ..lease };
        assert_eq!(senseless.less_drift(Duration::from_millis(120)), Duration::ZERO);
    }
}
