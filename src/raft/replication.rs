//! The leader's side of the log: proposals, appends, heartbeats, and what the answers tell.
//!
//! Appends leave at once, in parallel with the leader's own disk. A peer is probed until it is known where its log
//! agrees; from then on appends are pipelined, within a window. Heartbeats are messages of their own that carry no
//! entries, so that they can go ahead of queued data.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::election::{Ballot, Won};
use super::lease::Rounds;
use super::log::{Log, cut};
use super::progress::{Mode, Progress};
use super::reads::Reads;
use super::{Acked, Body, Outputs, ProposeRefused, Proposed, Raft, State, StateDigest, quorum};
use crate::base::{Entry, EntryKind, InstanceId, LogIndex, Member, Moment, NodeId, Space, Step, Term};
use crate::guard::{Guard, removed};

/// What only a leader has.
pub(super) struct Leading {
    pub since: Moment,
    /// The entry that opened this term. Once it is committed, everything before it is known to be.
    pub first_index: LogIndex,
    /// The voters that were not sure of the end of their logs, if it took their votes to elect it.
    pub elected_past: Vec<NodeId>,
    pub peers: BTreeMap<NodeId, Progress>,
    pub heartbeat_due: Moment,
    /// The latest read round.
    pub round: u64,
    pub reads: Reads,
    pub lease_rounds: Rounds,
    /// Entries of this term up to here are committed and durable; `unsettled_bytes` is the cost of those behind it.
    settled: LogIndex,
    unsettled_bytes: usize,
}

impl Leading {
    /// When another member was last heard; `None`: it does not count. A new leader gives everyone the time to answer.
    pub fn heard_at(&self, member: &Member) -> Option<Moment> {
        let progress = self.peers.get(&member.id)?;
        match progress.heard_at {
            Some(heard_at) => progress.counts(member).then_some(heard_at),
            None => Some(self.since),
        }
    }
}

/// What brings `entries`, the first of which is `from`, to a peer.
fn append(log: &Log, from: LogIndex, entries: Vec<Entry>, commit: LogIndex, round: u64) -> Body {
    let prev_index = from.prev();
    let prev_term = log.term(prev_index).expect("what is before the next entry is in the log");
    Body::Append { prev_index, prev_term, entries, commit, round }
}

/// How far a peer is, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Durable there.
    pub matched: LogIndex,
    /// False when its directory is not the one that the cluster knows.
    pub counted: bool,
}

/// The body of a rejected append.
pub(super) struct Rejected {
    pub prev_index: LogIndex,
    pub hint_index: LogIndex,
    pub hint_term: Term,
    pub suspect: bool,
}

/// The body of an answer to a heartbeat.
pub(super) struct HeartbeatReply {
    pub round: u64,
    pub digest: Option<StateDigest>,
    pub space: Space,
    pub promise_ms: u32,
}

impl Raft {
    /// Per peer, if this node leads.
    pub fn progress(&self) -> BTreeMap<NodeId, PeerProgress> {
        let State::Leader(leading) = &self.state else { return BTreeMap::new() };
        let members = self.membership.current();
        let describe = |(id, progress): (&NodeId, &Progress)| {
            let known = members.get(*id).is_some_and(|member| progress.counts(member));
            (*id, PeerProgress { matched: progress.matched, counted: known || progress.instance.is_none() })
        };
        leading.peers.iter().map(describe).collect()
    }

    /// For how long `peer` has answered this leader nothing, if that is longer than any election timeout.
    pub fn silence_of(&self, peer: NodeId, now: Moment) -> Option<Duration> {
        let State::Leader(leading) = &self.state else { return None };
        let silence = now.since(leading.peers.get(&peer)?.heard_at.unwrap_or(leading.since));
        self.is_silence(silence).then_some(silence)
    }

    /// Whether nothing for so long is longer than any election timeout.
    pub fn is_silence(&self, silence: Duration) -> bool {
        silence > self.config.election_timeout_max
    }

    /// If this node leads by the votes of all, since no majority was sure of the end of its log: those who were not.
    /// What was acknowledged by them alone is gone.
    pub fn elected_past(&self) -> &[NodeId] {
        if let State::Leader(leading) = &self.state { &leading.elected_past } else { &[] }
    }

    /// Whether this node leads, and the entry that opened its term is not committed: reads wait for it.
    pub fn is_unopened(&self) -> bool {
        matches!(&self.state, State::Leader(leading) if self.commit < leading.first_index)
    }

    pub(super) fn become_leader(&mut self, now: Moment, ballot: &Ballot, won: &Won, out: &mut Outputs) {
        let term = self.hard_state.term;
        let (kind, data) = if self.log.is_empty() {
            (EntryKind::Members, self.membership.formed(|id| ballot.instance_of(id)).encode())
        } else {
            (EntryKind::Noop, Bytes::new())
        };
        let first_index = self.log.last_index().next();
        let progress = |peer| (peer, Progress::new(first_index, now));
        self.state = State::Leader(Leading {
            since: now,
            first_index,
            elected_past: if let Won::ByEveryVote { suspect } = won { suspect.clone() } else { Vec::new() },
            peers: self.membership.peers().into_iter().map(progress).collect(),
            heartbeat_due: now + self.config.heartbeat,
            round: 0,
            reads: Reads::new(),
            lease_rounds: Rounds::default(),
            settled: first_index.prev(),
            unsettled_bytes: 0,
        });
        self.leader = Some(self.config.id);
        self.agreement.on_leading();
        self.announce(format!("it was elected in term {term}{won}"), out);
        self.append_own(now, kind, data, out);
    }

    /// Whether a proposal would be taken now, whatever is in it: so that none is encoded in vain.
    pub fn may_propose(&self, now: Moment) -> Result<(), ProposeRefused> {
        match &self.state {
            State::Leader(leading) if leading.unsettled_bytes >= self.config.uncommitted_bytes_max => {
                Err(ProposeRefused::Busy)
            }
            State::Leader(_) if self.room(now) == Space::Exhausted => Err(ProposeRefused::NoSpace),
            State::Leader(_) => Ok(()),
            _ => Err(ProposeRefused::NotLeader),
        }
    }

    pub(super) fn on_propose(&mut self, now: Moment, data: Bytes, out: &mut Outputs) {
        let proposed = self.may_propose(now).map(|()| {
            let index = self.append_own(now, EntryKind::Commands, data, out);
            Proposed { index, term: self.hard_state.term }
        });
        out.proposed = Some(proposed);
    }

    /// Appends an entry of the own term; it goes to the disk and to the peers at the same time.
    fn append_own(&mut self, now: Moment, kind: EntryKind, data: Bytes, out: &mut Outputs) -> LogIndex {
        let entry = Entry { index: self.log.last_index().next(), term: self.hard_state.term, kind, data };
        let index = entry.index;
        if let State::Leader(leading) = &mut self.state {
            leading.unsettled_bytes += entry.cost_bytes();
        }
        Step::Appended.pass(format_args!("entry {index}"));
        self.log.append(entry.clone());
        self.membership.on_appended(&entry);
        self.queue_persist(now, vec![entry], None, out);
        for peer in self.membership.peers() {
            self.send_appends(now, peer, out);
        }
        index
    }

    /// Entries that became both committed and durable no longer weigh on the bound of what is under way. A slow own
    /// disk is thus felt by clients, even while the others commit without it.
    pub(super) fn maybe_settle(&mut self) {
        let settled = self.settled();
        let State::Leader(leading) = &mut self.state else { return };
        if settled > leading.settled {
            leading.unsettled_bytes -= self.log.cost_bytes(leading.settled.next(), settled);
            leading.settled = settled;
        }
    }

    pub(super) fn on_leader_tick(&mut self, now: Moment, out: &mut Outputs) {
        if let Some(why) = self.why_step_down(now) {
            return self.become_follower(now, self.hard_state.term, None, why, out);
        }
        let patience = self.config.election_timeout_max;
        let State::Leader(leading) = &mut self.state else { return };
        for progress in leading.peers.values_mut() {
            if progress.is_unanswered(now, patience) {
                progress.probe_from(progress.matched.next());
            }
        }
        let heartbeat_is_due = now >= leading.heartbeat_due;
        if heartbeat_is_due {
            leading.heartbeat_due = now + self.config.heartbeat;
            self.next_check();
            self.open_lease_round(now);
            self.send_heartbeats(out);
        }
        for peer in self.membership.peers() {
            self.send_appends(now, peer, out);
            if heartbeat_is_due {
                self.maybe_verify_idle(now, peer, out);
            }
        }
    }

    /// A leader that no majority hears could go on for ever beside its successor; one whose disk hangs keeps the
    /// others from electing one that works.
    fn why_step_down(&self, now: Moment) -> Option<String> {
        let State::Leader(leading) = &self.state else { return None };
        let stall = self.durability.oldest_in_flight(now);
        if stall >= self.config.persist_stall && !removed(Guard::HungDiskLeads) {
            return Some(format!("its own disk has not answered for {} ms", stall.as_millis()));
        }
        let heard = |member: &Member| if member.id == self.config.id { Some(now) } else { leading.heard_at(member) };
        let heard = quorum::reached(self.membership.current(), heard);
        let silence = heard.map(|heard_at| now.since(heard_at));
        match silence {
            _ if removed(Guard::MinorityLeads) => None,
            Some(silence) if silence < self.config.election_timeout_max => None,
            Some(silence) => Some(format!("no majority was heard for {} ms", silence.as_millis())),
            None => Some("less than a majority is the directories that the cluster knows".to_string()),
        }
    }

    pub(super) fn send_heartbeats(&mut self, out: &mut Outputs) {
        let (stamp, check) = (self.stamp(), self.check());
        let promise_ms = self.config.lease.map_or(0, |lease| lease.promise_ms());
        let State::Leader(leading) = &self.state else { return };
        for (peer, progress) in &leading.peers {
            let (commit, round) = (self.commit.min(progress.matched), leading.round);
            let body = Body::Heartbeat { commit, round, check, promise_ms };
            out.send.push(stamp.message(*peer, body));
        }
    }

    /// Sends `peer` what it lacks, as far as its state and its window allow.
    fn send_appends(&mut self, now: Moment, peer: NodeId, out: &mut Outputs) {
        let stamp = self.stamp();
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.peers.get_mut(&peer) else { return };
        loop {
            let probing = progress.mode == Mode::Probe { sent: false };
            let replicating = progress.mode == Mode::Replicate
                && progress.next <= self.log.last_index()
                && progress.window_is_open(&self.config);
            if progress.mode == Mode::Fetching {
                // Asks again when a read has failed; else that is under way.
                let hi = self.log.first_held().prev();
                if !self.repair.is_missing(progress.next) {
                    self.delivery.fetch(progress.next, hi, out);
                }
                return;
            }
            if !probing && !replicating {
                return;
            }
            if replicating && progress.next < self.log.first_held() {
                progress.mode = Mode::Fetching;
                continue;
            }
            // A probe needs no entries: where they are not in memory, it goes without.
            let from = progress.next;
            let entries = self.log.slice(from, self.config.append_bytes_max);
            if probing {
                progress.mode = Mode::Probe { sent: true };
                progress.appended_at = now;
            } else {
                progress.on_sent(&entries, now);
            }
            let body = append(&self.log, from, entries, self.commit, leading.round);
            out.send.push(stamp.message(peer, body));
        }
    }

    /// Entries that memory no longer held have been read: they go to the peers that wait for them.
    pub(super) fn send_fetched(&mut self, now: Moment, entries: &[Entry], out: &mut Outputs) {
        let Some(lo) = entries.first().map(|entry| entry.index) else { return };
        let stamp = self.stamp();
        let State::Leader(leading) = &mut self.state else { return };
        let mut served = Vec::new();
        for (peer, progress) in &mut leading.peers {
            if progress.mode != Mode::Fetching || progress.next != lo {
                continue;
            }
            progress.mode = Mode::Replicate;
            let mut rest = entries;
            while !rest.is_empty() && progress.window_is_open(&self.config) {
                let count = cut(rest.iter(), self.config.append_bytes_max).count();
                let (chunk, behind) = rest.split_at(count);
                rest = behind;
                let body = append(&self.log, progress.next, chunk.to_vec(), self.commit, leading.round);
                progress.on_sent(chunk, now);
                out.send.push(stamp.message(*peer, body));
            }
            served.push(*peer);
        }
        for peer in served {
            self.send_appends(now, peer, out);
        }
    }

    /// A peer that has everything gets an empty append now and then: it may have restarted without this leader's
    /// notice, and then knows nothing to be committed until an append of this term verifies its log.
    fn maybe_verify_idle(&mut self, now: Moment, peer: NodeId, out: &mut Outputs) {
        let stamp = self.stamp();
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.peers.get_mut(&peer) else { return };
        let is_quiet = now.since(progress.appended_at) >= self.config.election_timeout_max;
        if progress.mode == Mode::Replicate && progress.nothing_in_flight() && is_quiet {
            progress.appended_at = now;
            let body = append(&self.log, progress.next, Vec::new(), self.commit, leading.round);
            out.send.push(stamp.message(peer, body));
        }
    }

    /// Whatever a peer answers in this term shows that it is there. Another directory under its id starts anew: what
    /// the one before had is not here.
    fn note_heard(&mut self, now: Moment, (from, instance): (NodeId, InstanceId), round: u64) -> Option<&mut Progress> {
        let next = self.log.last_index().next();
        let State::Leader(leading) = &mut self.state else { return None };
        let progress = leading.peers.get_mut(&from)?;
        if progress.instance.is_some_and(|known| known != instance) {
            *progress = Progress::new(next, now);
        }
        progress.instance = Some(instance);
        progress.heard_at = Some(now);
        if round <= leading.round {
            progress.round = progress.round.max(round);
        }
        Some(progress)
    }

    pub(super) fn on_append_accepted(
        &mut self,
        now: Moment,
        peer: (NodeId, InstanceId),
        matched: LogIndex,
        round: u64,
        out: &mut Outputs,
    ) {
        let last = self.log.last_index();
        let Some(progress) = self.note_heard(now, peer, round) else { return };
        if matched <= last {
            let acked = |sent_at| out.acked.push(Acked { peer: peer.0, after: now.since(sent_at) });
            progress.on_accepted(matched, acked);
        }
        self.maybe_advance_commit(out);
        self.send_appends(now, peer.0, out);
    }

    pub(super) fn on_append_rejected(
        &mut self,
        now: Moment,
        peer: (NodeId, InstanceId),
        rejected: Rejected,
        round: u64,
        out: &mut Outputs,
    ) {
        let Rejected { prev_index, hint_index, hint_term, suspect } = rejected;
        // The last own entry that can be the follower's: not behind its hint, and of no later term.
        let (agreed, _) = self.log.last_at_or_below(hint_index.min(prev_index.prev()), hint_term);
        let Some(progress) = self.note_heard(now, peer, round) else { return };
        if suspect && agreed < progress.matched {
            // It no longer holds what it acknowledged. An old answer may say so too: that costs a probe, no more.
            progress.matched = agreed;
            progress.probe_from(agreed.next());
        }
        let answers_the_probe = prev_index == progress.next.prev();
        let is_stale = match progress.mode {
            Mode::Probe { .. } => !answers_the_probe,
            Mode::Replicate | Mode::Fetching => prev_index >= progress.next,
        };
        if prev_index > progress.matched && !is_stale {
            progress.probe_from(agreed.next());
        }
        self.maybe_finish_reads(out);
        self.send_appends(now, peer.0, out);
    }

    pub(super) fn on_heartbeat_reply(
        &mut self,
        now: Moment,
        peer: (NodeId, InstanceId),
        reply: HeartbeatReply,
        out: &mut Outputs,
    ) {
        let HeartbeatReply { round, digest, space, promise_ms } = reply;
        let Some(progress) = self.note_heard(now, peer, round) else { return };
        progress.space = space;
        if let Mode::Probe { sent } = &mut progress.mode {
            *sent = false; // the probe, or its answer, may have been lost
        }
        self.on_promised(now, peer.0, round, promise_ms);
        if let Some(digest) = digest
            && !self.membership.is_stranger(peer.0, peer.1)
        {
            self.on_digest(now, peer.0, digest, out);
        }
        self.maybe_finish_reads(out);
        self.send_appends(now, peer.0, out);
    }

    pub(super) fn on_link_down(&mut self, peer: NodeId) {
        let State::Leader(leading) = &mut self.state else { return };
        if let Some(progress) = leading.peers.get_mut(&peer) {
            progress.probe_from(progress.matched.next());
        }
    }
}
