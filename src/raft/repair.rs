//! A node whose disk has lost something: what it may still promise, how it gets back what is missing, and when it is
//! whole again.
//!
//! Recovery, or the scrub of a running node, finds batches that are no longer what was written. Mostly it still knows
//! *which* entries they held (index and term), so the log's terms stay complete and only contents are *missing*. When
//! the last batch is damaged beyond that, the *end is uncertain*: behind the log's last entry there may have been
//! more. Either makes the node *suspect*, and the disk has a mark that says so until it is cleared here.
//!
//! | the node | acknowledges | votes and campaigns |
//! |---|---|---|
//! | sound | what is durable | yes |
//! | suspect, entries missing | what is durable before the first of them | no |
//! | suspect, none missing, end uncertain | what is durable | yes, but it counts only where every voter's vote does |
//!
//! **Refill.** An (index, term) names one content for ever (Log Matching, paper, section 5.3), so a missing entry may
//! come from anyone who has it: peers are asked in turn, whatever their role and term. What comes is written back where
//! it was; then it is no longer missing. The leader's appends bring it too.
//!
//! **Never acknowledged.** A peer that certainly lacks an entry has not acknowledged it, or it was never committed:
//! committed entries are not replaced. When those that may have held it are less than a majority, it was never
//! committed; the log is cut before it, and its end is uncertain until a leader has spoken: who lacked it when asked
//! may have got it since, and this node's own copy may have counted. A restart finds the missing entry again, or, once
//! the same one begins to come back, that the log was cut. When they are a majority, and nobody has it, it may have
//! been acknowledged, and every copy is bad: the node says which, and goes no further.
//!
//! **Elections.** A suspect node's log may have been longer, so its "your log is as complete as mine" is worth
//! nothing in a majority. Among *all* voters it is: whoever holds the furthest position of all holds everything that
//! any of them still holds. That is how a cluster elects when less than a majority is sound.
//!
//! One voter must be sound: where all have lost the end of their logs, a cluster of one above all, what was
//! acknowledged last may be gone everywhere, and nobody could tell. Then the node says so, and goes no further.
//!
//! **Cleared** when nothing is missing and the end is certain. Where it is not, a leader settles it: it says, when
//! asked, where its log ends (the *barrier*). Once this log is the leader's up to there, durably, and an entry of the
//! leader's own term is committed in it, it holds whatever it can have acknowledged: to this leader nothing behind the
//! barrier, and of earlier terms what was committed is in the leader's log. A committed entry of the leader's term
//! alone would not do: what was lost may have been acknowledged to the same leader, and be counted by it still.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::log::cut;
use super::{Body, Damage, MissingEntry, Outputs, Raft, State, quorum};
use crate::base::limits::{REFILL_ENTRIES_MAX, REFILL_WAITING_MAX};
use crate::base::{Entry, EntryKind, InstanceId, LogIndex, Members, Moment, NodeId, Space, Term};
use crate::guard::{Guard, removed};

/// Names one entry for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    pub index: LogIndex,
    pub term: Term,
}

/// Why a peer can't send an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It certainly does not hold it: its log is sound there and says otherwise.
    Never = 1,
    /// Another entry is committed in its place.
    Replaced,
    /// It may have held it: its copy is bad as well, or its log was cut.
    Lost,
}

/// What is wrong with this node's log, and what was found out about it.
#[derive(Default)]
pub(super) struct Repair {
    suspect: bool,
    end_uncertain: bool,
    missing: BTreeMap<LogIndex, Missing>,
    /// Missing entries from here on were replaced; the disk lacks them until what replaces them is durable.
    replaced_from: Option<LogIndex>,
    ask_at: Moment,
    asked_last: Option<NodeId>,
    /// Tells the answers to what was asked since the last damage from late ones.
    nonce: u64,
    /// Every voter would vote for this node, and none of them is sure of its own log's end.
    nobody_is_sound: bool,
    /// Where the leader of this term had its log's end, after the damage.
    barrier: Option<(Term, LogIndex)>,
    /// Peers that wait for an entry which is being read from the segments: its answer takes them from here.
    waiting: BTreeMap<EntryId, BTreeSet<NodeId>>,
}

struct Missing {
    term: Term,
    /// Handed to the disk, not yet durable there.
    offered: Option<Entry>,
    /// What the peers said last, and from which directory.
    answers: BTreeMap<NodeId, (InstanceId, Absence)>,
}

impl Missing {
    fn new(term: Term) -> Missing {
        Missing { term, offered: None, answers: BTreeMap::new() }
    }
}

impl Repair {
    pub fn new(damage: Damage, nonce: u64) -> Repair {
        let missing = damage.missing.into_iter().map(|entry| (entry.index, Missing::new(entry.term))).collect();
        let Damage { suspect, end_uncertain, .. } = damage;
        Repair { suspect, end_uncertain, missing, nonce, ..Repair::default() }
    }

    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    pub fn is_missing(&self, index: LogIndex) -> bool {
        self.missing.contains_key(&index)
    }

    /// What peers wait for.
    pub fn waited_for(&self) -> impl Iterator<Item = LogIndex> {
        self.waiting.keys().map(|id| id.index)
    }

    pub fn note_nobody_is_sound(&mut self) {
        self.nobody_is_sound = true;
    }

    /// The last entry before what is missing, if something is.
    pub fn sound_until(&self) -> Option<LogIndex> {
        self.missing.first_key_value().map(|(first, _)| first.prev())
    }

    pub fn on_truncated(&mut self, from: LogIndex) {
        let replaced = !self.missing.split_off(&from).is_empty();
        if replaced || self.replaced_from.is_some() {
            self.replaced_from = Some(self.replaced_from.map_or(from, |lowest| lowest.min(from)));
        }
    }

    /// More was lost: where the leader's log ended before says nothing of that.
    fn forget_barrier(&mut self) {
        self.barrier = None;
        self.nonce = self.nonce.wrapping_add(1);
    }

    /// The next missing entries to ask for, lowest first.
    fn wanted(&self) -> Vec<EntryId> {
        let open = self.missing.iter().filter(|(_, missing)| missing.offered.is_none());
        open.map(|(index, missing)| EntryId { index: *index, term: missing.term }).take(REFILL_ENTRIES_MAX).collect()
    }
}

/// What a peer gives of what was asked for.
pub(super) struct Refilled {
    pub entries: Vec<Entry>,
    pub absent: Vec<(EntryId, Absence)>,
    pub barrier: Option<Barrier>,
}

/// Where the log of the leader ends that was asked by `nonce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    pub nonce: u64,
    pub index: LogIndex,
}

/// For the operator: what is wrong with this node's log. Empty when all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub suspect: bool,
    pub end_uncertain: bool,
    /// How many entries are missing.
    pub missing: usize,
    pub first_missing: Option<EntryId>,
    /// Missing, and no voter has it: every copy is bad.
    pub lost: Option<EntryId>,
    /// Every voter has lost the end of its log: what was acknowledged last can't be known.
    pub nobody_is_sound: bool,
}

impl Raft {
    pub fn is_suspect(&self) -> bool {
        self.repair.suspect
    }

    pub fn health(&self) -> Health {
        let named = |(index, missing): (&LogIndex, &Missing)| EntryId { index: *index, term: missing.term };
        let repair = &self.repair;
        Health {
            suspect: repair.suspect,
            end_uncertain: repair.end_uncertain,
            missing: repair.missing.len(),
            first_missing: repair.missing.first_key_value().map(named),
            nobody_is_sound: repair.nobody_is_sound,
            lost: repair.missing.iter().find(|(_, missing)| self.is_lost(missing)).map(named),
        }
    }

    /// Everything up to here is on this node's disk, and can be read back from it.
    pub(super) fn held_index(&self) -> LogIndex {
        let durable = self.durability.durable_index();
        self.repair.sound_until().map_or(durable, |sound| durable.min(sound))
    }

    /// Whether this node's vote can count at all: with entries missing it can't say how far its log goes.
    pub(super) fn may_vote(&self) -> bool {
        self.repair.missing.is_empty() || removed(Guard::VoteWithMissing)
    }

    /// Whether this node may ask for votes. An empty log that is suspect is not that of a new node, and forms no
    /// cluster; who has another state than the majority must not serve it; and a leader writes an entry first of all,
    /// for which a full disk has no room.
    pub(super) fn may_stand(&self) -> bool {
        let sound = self.may_vote() && !(self.repair.suspect && self.log.is_empty());
        sound && self.agreement.diverged().is_none() && self.space < Space::Exhausted
    }

    /// The scrub has found damage on the disk of this running node.
    pub(super) fn on_damaged(&mut self, now: Moment, found: Vec<MissingEntry>, out: &mut Outputs) {
        self.repair.suspect = true;
        self.repair.forget_barrier();
        if found.iter().any(|missing| missing.index > self.log.last_index()) {
            self.queue_cut(now, out); // the disk had no part of it that was lost when the log was cut
        }
        for MissingEntry { index, term, .. } in found {
            if !self.log.matches(index, term) {
                // It was replaced, and that may still be on its way to the disk.
                let from = index.min(self.log.last_index().next());
                self.repair.replaced_from = Some(self.repair.replaced_from.map_or(from, |lowest| lowest.min(from)));
                continue;
            }
            if self.repair.is_missing(index) {
                continue;
            }
            let mut missing = Missing::new(term);
            if let Some(entry) = self.log.get(index) {
                missing.offered = Some(entry.clone());
                out.refilled.push(entry.clone());
            }
            self.repair.missing.insert(index, missing);
        }
        if !self.may_stand() && matches!(self.state, State::PreCandidate(_) | State::Candidate(_)) {
            let why = "its disk has lost entries of the log".to_string();
            self.become_follower(now, self.hard_state.term, None, why, out);
        }
    }

    /// The disk has taken, or refused, what was offered to it.
    pub(super) fn on_repaired(&mut self, now: Moment, done: Vec<LogIndex>, refused: Vec<LogIndex>, out: &mut Outputs) {
        for index in refused {
            if let Some(missing) = self.repair.missing.get_mut(&index) {
                missing.offered = None;
            }
        }
        for index in done {
            let Some(missing) = self.repair.missing.remove(&index) else { continue };
            if let Some(entry) = missing.offered.filter(|entry| entry.kind == EntryKind::Members) {
                self.membership.on_refilled(&entry);
            }
        }
        self.repair.ask_at = Moment::ZERO;
        self.maybe_advance_commit(out);
        if let Some(leader) = self.leader.filter(|leader| *leader != self.config.id) {
            let matched = self.verified.min(self.held_index());
            let accepted = self.stamp().message(leader, Body::AppendAccepted { matched, round: 0 });
            self.send_when_durable(now, matched, accepted, out);
        }
    }

    /// Takes `entry` if it is missing: it goes to the disk, which checks it against what it still knows of it.
    pub(super) fn offer(&mut self, entry: &Entry, out: &mut Outputs) {
        let Some(missing) = self.repair.missing.get_mut(&entry.index) else { return };
        if missing.term != entry.term || missing.offered.is_some() {
            return;
        }
        if entry.kind == EntryKind::Members && Members::decode(&entry.data).is_err() {
            return;
        }
        missing.offered = Some(entry.clone());
        out.refilled.push(entry.clone());
    }

    /// Asks for what this node needs to be sound again: the next peer for what is missing, the leader for its log's
    /// end.
    pub(super) fn maybe_ask_for_repair(&mut self, now: Moment, out: &mut Outputs) {
        if !self.repair.suspect || now < self.repair.ask_at || removed(Guard::MissingNotAskedFor) {
            return;
        }
        let wanted = self.repair.wanted();
        let asked = if !wanted.is_empty() { self.next_to_ask() } else { self.leader_to_ask() };
        let Some(peer) = asked else { return };
        self.repair.ask_at = now + self.config.heartbeat;
        out.send.push(self.stamp().message(peer, Body::Refill { wanted, nonce: self.repair.nonce }));
    }

    fn next_to_ask(&mut self) -> Option<NodeId> {
        let peers = self.membership.peers();
        let after = |last: NodeId| peers.range((Bound::Excluded(last), Bound::Unbounded)).next();
        let next = self.repair.asked_last.and_then(after).or_else(|| peers.first()).copied();
        self.repair.asked_last = next;
        next
    }

    fn leader_to_ask(&self) -> Option<NodeId> {
        let known = self.repair.barrier.is_some_and(|(term, _)| term == self.hard_state.term);
        self.leader.filter(|leader| self.repair.end_uncertain && !known && *leader != self.config.id)
    }

    /// A peer asks for entries that it has lost. Answered whatever its term: nothing is promised by it.
    pub(super) fn on_refill(&mut self, from: NodeId, wanted: Vec<EntryId>, nonce: u64, out: &mut Outputs) {
        let (mut entries, mut absent) = (Vec::new(), Vec::new());
        for id in wanted.into_iter().take(REFILL_ENTRIES_MAX) {
            match self.absence(id) {
                Some(absence) => absent.push((id, absence)),
                None => match self.log.get(id.index) {
                    Some(entry) => entries.push(entry.clone()),
                    None if self.repair.waiting.len() >= REFILL_WAITING_MAX => {}
                    None if self.delivery.fetch(id.index, id.index, out) => {
                        self.repair.waiting.entry(id).or_default().insert(from);
                    }
                    None => {} // it could not be read just now: it is asked for again
                },
            }
        }
        let entries: Vec<Entry> = cut(entries.iter(), self.config.append_bytes_max).cloned().collect();
        let leads = matches!(self.state, State::Leader(_));
        let barrier = leads.then(|| Barrier { nonce, index: self.log.last_index() });
        if !entries.is_empty() || !absent.is_empty() || leads {
            out.send.push(self.stamp().message(from, Body::Refilled { entries, absent, barrier }));
        }
    }

    /// `None`: the entry is here. Whoever's end is uncertain may have held anything, also in place of older entries.
    fn absence(&self, id: EntryId) -> Option<Absence> {
        match (self.log.matches(id.index, id.term), self.repair.missing.get(&id.index)) {
            (true, None) => None,
            (true, Some(missing)) if missing.offered.is_some() && self.log.get(id.index).is_some() => None,
            (true, Some(_)) => Some(Absence::Lost),
            (false, _) if id.index <= self.commit => Some(Absence::Replaced),
            (false, _) if self.repair.end_uncertain => Some(Absence::Lost),
            (false, _) => Some(Absence::Never),
        }
    }

    /// Entries were read from the segments: peers may wait for one of them.
    pub(super) fn send_refilled(&mut self, lo: LogIndex, entries: &[Entry], out: &mut Outputs) {
        let here = |id: &EntryId| id.index == lo;
        let waiting: Vec<(EntryId, BTreeSet<NodeId>)> = self.repair.waiting.extract_if(.., |id, _| here(id)).collect();
        let stamp = self.stamp();
        for (id, peers) in waiting {
            let Some(entry) = entries.first().filter(|entry| (entry.index, entry.term) == (id.index, id.term)) else {
                continue; // it can't be read for now; whoever needs it asks again
            };
            for peer in peers {
                let body = Body::Refilled { entries: vec![entry.clone()], absent: Vec::new(), barrier: None };
                out.send.push(stamp.message(peer, body));
            }
        }
    }

    pub(super) fn on_refilled(
        &mut self,
        now: Moment,
        (from, instance, term): (NodeId, InstanceId, Term),
        refilled: Refilled,
        out: &mut Outputs,
    ) {
        let Refilled { entries, absent, barrier } = refilled;
        if let Some(Barrier { nonce, index }) = barrier
            && nonce == self.repair.nonce
        {
            self.repair.barrier = Some((term, index));
        }
        let took = out.refilled.len();
        for entry in &entries {
            self.offer(entry, out);
        }
        for (id, absence) in absent {
            if let Some(missing) = self.repair.missing.get_mut(&id.index)
                && missing.term == id.term
            {
                missing.answers.insert(from, (instance, absence));
            }
        }
        self.maybe_cut_uncommitted(now, out);
        if out.refilled.len() > took {
            self.repair.ask_at = now; // there may be more where that came from
        }
    }

    /// Cuts the log before the first missing entry that can't have been committed. The disk is told at once: what it
    /// lost of the same batch before that can't be put back for as long as it waits for what nobody has.
    fn maybe_cut_uncommitted(&mut self, now: Moment, out: &mut Outputs) {
        if matches!(self.state, State::Leader(_)) {
            return; // its own entries are committed or on their way; others hold them
        }
        let never = |(index, missing): &(&LogIndex, &Missing)| {
            let cut = !self.may_be_committed(missing) || removed(Guard::LostEntryCut) && self.is_lost(missing);
            **index > self.commit && missing.offered.is_none() && cut
        };
        let Some(from) = self.repair.missing.iter().find(never).map(|(index, _)| *index) else { return };
        self.repair.end_uncertain = true;
        self.repair.forget_barrier();
        self.truncate(from, out);
        self.queue_cut(now, out);
    }

    /// Whether a quorum may have held it. This node has, and so has everyone who does not deny it for certain.
    fn may_be_committed(&self, missing: &Missing) -> bool {
        if missing.answers.values().any(|(_, absence)| *absence == Absence::Replaced) {
            return false;
        }
        let held = quorum::reached(self.membership.current(), |member| {
            let denied = missing
                .answers
                .get(&member.id)
                .is_some_and(|(instance, absence)| *absence == Absence::Never && member.instance == Some(*instance));
            (member.id == self.config.id || !denied).then_some(())
        });
        held.is_some()
    }

    /// Every other voter has answered, none with the entry, and it may have been committed.
    fn is_lost(&self, missing: &Missing) -> bool {
        // Asked of each missing entry, in each turn that looks at this node's health.
        let members = self.membership.current();
        let mut voters = members.voters.iter().chain(&members.outgoing);
        let has_answered = |id: NodeId| id == self.config.id || missing.answers.contains_key(&id);
        missing.offered.is_none() && voters.all(|member| has_answered(member.id)) && self.may_be_committed(missing)
    }

    /// Once nothing is missing, and the end is certain or a leader's own-term entry settles it, the node is sound.
    pub(super) fn maybe_clear(&mut self, out: &mut Outputs) {
        if !self.repair.suspect || !self.repair.missing.is_empty() {
            return;
        }
        if self.repair.end_uncertain && !self.is_end_settled() {
            return;
        }
        if self.repair.replaced_from.is_some_and(|from| self.durability.durable_index() < from) {
            return;
        }
        self.repair.replaced_from = None;
        self.repair.suspect = false;
        self.repair.end_uncertain = false;
        self.repair.nobody_is_sound = false;
        out.cleared = true;
    }

    /// Whether this log has become that of the current leader, up to where that one's ended after the damage. A
    /// leader's own is, once it has committed in its term: every voter has voted for it.
    fn is_end_settled(&self) -> bool {
        let settled = self.settled();
        let term = self.hard_state.term;
        if settled == LogIndex::ZERO || !self.log.matches(settled, term) {
            return false;
        }
        let beyond = |(of, barrier): (Term, LogIndex)| of == term && barrier <= self.verified.min(self.held_index());
        removed(Guard::EndSettledEarly)
            || matches!(self.state, State::Leader(_))
            || self.repair.barrier.is_some_and(beyond)
    }
}
