//! The follower's side of the log: what a leader's appends and heartbeats change here.
//!
//! Appends may come late, twice and in any order. What they repeat is compared and left alone; only a real conflict
//! truncates, and never a committed entry. An answer, and the commit index, speak of the prefix that the message
//! verified, never of the end of the log: behind it may stand what another leader wrote.

use super::{Body, COUNTER_MAX, Check, Outputs, Raft, State};
use crate::base::{Entry, EntryKind, LogIndex, Members, Moment, NodeId, Role, Space, Term};
use crate::guard::{Guard, asserting, removed};

/// The body of an append.
pub(super) struct Append {
    pub prev_index: LogIndex,
    pub prev_term: Term,
    pub entries: Vec<Entry>,
    pub commit: LogIndex,
    pub round: u64,
}

impl Append {
    /// Whether a leader in `term` could have sent this. The bytes come from outside: everything here relies on it.
    fn is_sound(&self, term: Term) -> bool {
        if removed(Guard::AppendUnchecked) {
            return true;
        }
        let (mut index, mut last_term) = (self.prev_index, self.prev_term);
        for entry in &self.entries {
            if index.0 >= COUNTER_MAX || entry.index != index.next() || entry.term < last_term {
                return false;
            }
            if entry.kind == EntryKind::Members && Members::decode(&entry.data).is_err() {
                return false;
            }
            (index, last_term) = (entry.index, entry.term);
        }
        index.0 <= COUNTER_MAX && last_term <= term && (self.entries.is_empty() || last_term > Term::ZERO)
    }
}

impl Raft {
    /// A message of this term's leader: whoever campaigns has lost. False: there is another leader already, which no
    /// honest node can cause; the message is not to be believed.
    fn follow_leader(&mut self, now: Moment, from: NodeId, out: &mut Outputs) -> bool {
        if matches!(self.state, State::Leader(_)) || self.leader.is_some_and(|leader| leader != from) {
            return false;
        }
        self.leader_heard_at = now;
        self.reset_election_deadline(now);
        if self.leader.is_none() {
            let term = self.hard_state.term;
            self.become_follower(now, term, Some(from), format!("node {from} leads term {term}"), out);
        }
        true
    }

    pub(super) fn on_heartbeat(
        &mut self,
        now: Moment,
        from: NodeId,
        (commit, round): (LogIndex, u64),
        check: Check,
        promise_ms: u32,
        out: &mut Outputs,
    ) {
        if !self.follow_leader(now, from, out) {
            return;
        }
        // The leader thinks of the directory that it heard last under this id, which may be another one: only what
        // this leader's appends have shown to be equal here is committed here.
        let shown = if removed(Guard::HeartbeatCommitUnverified) { self.log.last_index() } else { self.verified };
        self.commit = self.commit.max(commit.min(shown));
        let digest = self.on_check(check);
        let promise_ms = self.promise(now, promise_ms);
        let body = Body::HeartbeatReply { round, digest, space: self.space, promise_ms };
        out.send.push(self.stamp().message(from, body));
    }

    pub(super) fn on_append(&mut self, now: Moment, from: NodeId, append: Append, out: &mut Outputs) {
        if !append.is_sound(self.hard_state.term) || !self.follow_leader(now, from, out) {
            return;
        }
        let Append { prev_index, prev_term, entries, commit, round } = append;
        let stamp = self.stamp();
        if !self.log.matches(prev_index, prev_term) {
            let (hint_index, hint_term) = self.log.last_at_or_below(prev_index, prev_term);
            let suspect = self.repair.is_suspect();
            let body = Body::AppendRejected { prev_index, hint_index, hint_term, round, suspect };
            return out.send.push(stamp.message(from, body));
        }
        let sent = entries.len();
        let taken = self.append_unknown(now, entries, out);
        let mut matched = LogIndex(prev_index.0 + taken as u64);
        self.verified = self.verified.max(matched);
        let shown = if removed(Guard::CommitPastVerified) { self.log.last_index() } else { matched };
        let commit = commit.max(self.questions.named_in(self.hard_state.term));
        self.commit = self.commit.max(commit.min(shown));
        if taken < sent {
            return; // the disk is full: the leader sends the rest again
        }
        if removed(Guard::MatchIsLastIndex) {
            matched = self.log.last_index();
        }
        // What the disk has lost is known to be equal, and yet is not held here.
        let sound = self.repair.sound_until().filter(|_| !removed(Guard::AckPastMissing));
        let matched = sound.map_or(matched, |sound| matched.min(sound));
        let accepted = stamp.message(from, Body::AppendAccepted { matched, round });
        self.send_when_durable(now, matched, accepted, out);
    }

    /// Appends what is not here yet, in place of what contradicts it. How many of `entries`, from the first on, are
    /// here then: all, unless the disk is full.
    fn append_unknown(&mut self, now: Moment, mut entries: Vec<Entry>, out: &mut Outputs) -> usize {
        let sent = entries.len();
        let mut known = entries.iter().take_while(|entry| self.log.matches(entry.index, entry.term)).count();
        if removed(Guard::LateAppendTruncates) {
            known = 0;
        }
        let unknown = entries.split_off(known);
        entries.iter().for_each(|entry| self.offer(entry, out));
        let entries = unknown;
        let Some(first) = entries.first() else { return sent };
        if self.space == Space::Exhausted {
            return known;
        }
        if first.index <= self.log.last_index() {
            self.truncate(first.index, out);
        }
        for entry in &entries {
            self.log.append(entry.clone());
            self.membership.on_appended(entry);
        }
        self.queue_persist(now, entries, None, out);
        self.announce_standing(out);
        sent
    }

    pub(super) fn truncate(&mut self, from: LogIndex, out: &mut Outputs) {
        assert!(
            from > self.commit || removed(Guard::CommittedTruncated) || !asserting(),
            "the leader of term {} contradicts entry {from}, but {} is committed: two histories exist",
            self.hard_state.term,
            self.commit
        );
        self.log.truncate(from);
        self.durability.on_truncated(from);
        self.membership.on_truncated(from);
        self.repair.on_truncated(from);
        self.verified = self.verified.min(from.prev());
        out.truncated_from = Some(out.truncated_from.map_or(from, |lowest| lowest.min(from)));
    }

    /// The members may have changed: does this node still count?
    fn announce_standing(&mut self, out: &mut Outputs) {
        let why = match self.role() {
            Role::Uncounted => self.membership.why_uncounted(),
            _ => "the cluster counts it again".to_string(),
        };
        self.announce(why, out);
    }
}
