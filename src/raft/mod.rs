//! Layer 1: consensus, sans-I/O.
//!
//! A [`Raft`] is one node's share in agreeing on a log (Ongaro and Ousterhout, "In search of an understandable
//! consensus algorithm", 2014, "the paper"; Ongaro, "Consensus: bridging theory and practice", 2014, "the
//! dissertation"). [`Raft::step`] takes one [`Input`] and appends to [`Outputs`] what is to be done about it; nothing
//! else moves it. The contract with whoever drives it, with the driver's loop, is one page: `io.rs`. It runs on the
//! consensus thread, and touches no clock, thread, socket, file or global randomness: the same inputs give the same
//! outputs.
//!
//! # Roles
//!
//! | role | becomes | when |
//! |---|---|---|
//! | Follower | PreCandidate | no leader was heard for an election timeout, and this node may campaign |
//! | PreCandidate | Candidate | a majority would vote for it |
//! | PreCandidate | Follower | a leader of this term is heard, or a later term |
//! | Candidate | Leader | a majority voted for it, its own durable vote included |
//! | Candidate | PreCandidate | an election timeout passed without a majority |
//! | Candidate | Follower | the leader of this term is heard, or a later term |
//! | Leader | Follower | a later term is heard, no majority is heard (CheckQuorum), or its own disk hangs |
//! | any | Uncounted | the log says that this node's id belongs to another data directory |
//!
//! *Uncounted* is a follower that keeps the log but neither votes nor stands, until the membership says otherwise.
//!
//! # Which file does what
//!
//! `election.rs` makes leaders, and says who may; `replication.rs` is the leader's side of the log, `follow.rs` the
//! follower's, `reads.rs` the linearizable reads, `questions.rs` those of a node that does not lead, `lease.rs` those
//! that ask nobody, `commit.rs` what is committed and how it is handed out, `repair.rs` what becomes of a node whose
//! disk has lost something, `room.rs` of one whose disk is full, `agreement.rs` whether all nodes have the same state.
//! They work on `log.rs` (terms and entries), `durability.rs` (what the disk holds), `progress.rs` (what a leader knows
//! of a peer), `membership.rs` (whose word counts) and `quorum.rs` (what a majority is). `invariants.rs` watches all of
//! it after every step in debug builds.
//!
//! # Where it departs from the paper
//!
//! - The leader's disk is one of several: an entry is committed by any durable majority, and leader and followers
//!   write at the same time (dissertation, section 10.2.1). What promises durability leaves with the persist that
//!   makes it true, so an answer may belong to a state that has moved on; it is still true of the disk.
//! - PreVote (section 9.6), CheckQuorum (section 6.2), and a node that heard a leader within the shortest election
//!   timeout neither votes nor learns a term from a candidate (section 4.2.3): a node that returns disturbs nobody.
//! - A cluster *forms*: a node with an empty log can only be elected by all bootstrap members, each with an empty log.
//!   A majority would not do: one node that missed the beginning and one whose directory was wiped could elect a
//!   leader over committed entries. The first leader writes down which directory is whose, and from then on only
//!   those count.
//!
//! # What it does not do
//!
//! It does not know what the entries mean, except those that name members. It does not order the reads of one client
//! behind its writes, resend proposals, or tell a client anything: the node does. There are no snapshots,
//! transfer of leadership or changes of membership yet; their places are the quorum function, `term_runs` and the
//! `outgoing` and `learners` sets.

mod agreement;
mod commit;
mod durability;
mod election;
mod follow;
mod invariants;
pub mod io;
mod lease;
mod log;
mod membership;
pub mod message;
mod progress;
mod questions;
mod quorum;
mod reads;
mod repair;
mod replication;
mod room;

use std::sync::Arc;

use crate::base::{Entry, HardState, InstanceId, LogIndex, Moment, NodeId, PersistSeq, Random, Role, Space, Term};
use crate::guard::{Guard, asserting, removed};

use agreement::Agreement;
pub use agreement::{Check, StateDigest};
use commit::Delivery;
use durability::Durability;
use election::Ballot;
pub use io::{
    Acked, Config, Damage, Fetch, Input, LogTail, MissingEntry, Outputs, Persist, ProposeRefused, Proposed, ReadId,
    ReadReady, Recovered, RoleChange, View,
};
pub use lease::LeaseConfig;
use log::Log;
use membership::Membership;
pub use message::{Body, Message};
use questions::Questions;
use repair::Repair;
pub use repair::{Absence, Barrier, EntryId, Health};
use replication::Leading;
pub use replication::PeerProgress;

/// Terms and indexes from outside that lie above this are refused, so that counting on never overflows. A node that
/// counted up a million times a second would come here after 290,000 years.
const COUNTER_MAX: u64 = u64::MAX / 2;

/// One node's state in the agreement on the log.
pub struct Raft {
    config: Config,
    random: Random,
    /// The current term, and who got this node's vote in it. Durable once `durability` says so.
    hard_state: HardState,
    log: Log,
    durability: Durability,
    membership: Membership,
    state: State,
    /// Who leads the current term, if that is known and it was heard lately.
    leader: Option<NodeId>,
    leader_heard_at: Moment,
    /// How far the current term's leader has shown this log to be equal to its own.
    verified: LogIndex,
    election_deadline: Moment,
    ticked_at: Moment,
    /// It stood still until shortly before the deadline or past it, and was given the time to read what came meanwhile.
    has_caught_up: bool,
    /// Until then it helps nobody to lead: see `lease`.
    promised_until: Moment,
    commit: LogIndex,
    delivery: Delivery,
    questions: Questions,
    repair: Repair,
    agreement: Agreement,
    /// Of this node's disk.
    space: Space,
    announced: (Role, Term, Option<NodeId>),
}

/// What only some roles have.
enum State {
    Follower,
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Leading),
}

/// The sender's part of a message, fixed when a step begins to write one.
#[derive(Clone, Copy)]
struct Stamp {
    from: NodeId,
    instance: InstanceId,
    term: Term,
}

impl Stamp {
    fn message(self, to: NodeId, body: Body) -> Message {
        Message { from: self.from, to, instance: self.instance, term: self.term, body }
    }
}

impl Raft {
    /// A node as it comes out of recovery: a follower that knows no leader and nothing to be committed.
    pub fn new(config: Config, recovered: Recovered, now: Moment) -> Raft {
        let log = Log::new(recovered.log);
        let mut hard_state = recovered.hard_state;
        if hard_state.term < log.last_term() {
            hard_state = HardState { term: log.last_term(), vote: None };
        }
        let membership = Membership::new(&config, recovered.members);
        let role = if membership.is_uncounted() { Role::Uncounted } else { Role::Follower };
        let random = Random::new(config.seed ^ (u64::from(config.id.get()) << 32));
        // From a copy: what is drawn for elections does not depend on what others need.
        let mut numbers = random.clone();
        let repair = Repair::new(recovered.damage, numbers.next());
        let questions = Questions::new(numbers.next());
        let mut raft = Raft {
            random,
            durability: Durability::new(log.last_index(), recovered.hard_state),
            announced: (role, hard_state.term, None),
            config,
            hard_state,
            log,
            membership,
            state: State::Follower,
            leader: None,
            leader_heard_at: now,
            verified: LogIndex::ZERO,
            election_deadline: now,
            ticked_at: now,
            has_caught_up: false,
            promised_until: Moment::ZERO,
            commit: LogIndex::ZERO,
            delivery: Delivery::default(),
            questions,
            repair,
            agreement: Agreement::default(),
            space: Space::Plenty,
        };
        if removed(Guard::RestartCommitsAll) {
            raft.commit = raft.log.last_index();
        }
        raft.remember_promise(now);
        if !raft.membership.is_alone() {
            raft.reset_election_deadline(now);
        }
        invariants::check(&raft);
        raft
    }

    /// Takes one input at `now`, and appends to `out` what is to be done about it.
    pub fn step(&mut self, now: Moment, input: Input, out: &mut Outputs) {
        let before = (cfg!(debug_assertions) && asserting()).then(|| invariants::Witness::of(self, &input));
        match input {
            Input::Tick => self.on_tick(now, out),
            Input::Message(message) => self.on_message(now, message, out),
            Input::Propose { data } => self.on_propose(now, data, out),
            Input::Read { id } => self.on_read(id, out),
            Input::ReadHere { id } => self.on_read_here(id),
            Input::Persisted { seq } => self.on_persisted(now, seq, out),
            Input::LinkDown { peer } => self.on_link_down(peer),
            Input::Fetched { lo, entries } => self.on_fetched(now, lo, entries, out),
            Input::Damaged { missing } => self.on_damaged(now, missing, out),
            Input::Repaired { done, refused } => self.on_repaired(now, done, refused, out),
            Input::Space(space) => self.on_space(now, space, out),
        }
        self.tend_questions(now, out);
        if self.durability.queued_hard_state() != self.hard_state {
            self.queue_persist(now, Vec::new(), None, out);
        }
        self.maybe_clear(out);
        self.deliver_committed(out);
        self.log.forget(self.settled(), self.config.log_memory_bytes_max);
        if let Some(before) = before {
            invariants::check(self);
            invariants::check_step(now, &before, self);
        }
    }

    pub fn view(&self) -> View {
        View {
            role: self.role(),
            term: self.hard_state.term,
            leader: self.leader,
            commit: self.commit,
            last: self.log.last_index(),
            durable: self.durability.durable_index(),
            members: Arc::clone(self.membership.current()),
        }
    }

    /// Why this node counts in no quorum, if that is so.
    pub fn why_uncounted(&self) -> Option<String> {
        self.membership.is_uncounted().then(|| self.membership.why_uncounted())
    }

    /// The term of the entry at `index`; `None` behind the end.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term(index)
    }

    /// Bytes of entries held in memory, and whether none of them may be forgotten yet.
    pub fn log_bytes(&self) -> (usize, bool) {
        (self.log.entries_bytes(), self.log.first_held() > self.settled())
    }

    fn role(&self) -> Role {
        match self.state {
            State::Follower if self.membership.is_uncounted() => Role::Uncounted,
            State::Follower => Role::Follower,
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp { from: self.config.id, instance: self.config.instance, term: self.hard_state.term }
    }

    fn on_tick(&mut self, now: Moment, out: &mut Outputs) {
        let stood_still = now.since(self.ticked_at) > self.config.heartbeat;
        self.ticked_at = now;
        self.delivery.retry_failed();
        self.maybe_ask_for_repair(now, out);
        self.maybe_ask_again(now, out);
        match self.state {
            State::Leader(_) => self.on_leader_tick(now, out),
            _ => self.maybe_campaign(now, stood_still, out),
        }
    }

    fn on_message(&mut self, now: Moment, message: Message, out: &mut Outputs) {
        let Message { from, to, instance, term, body } = message;
        if to != self.config.id || from == self.config.id || term.0 > COUNTER_MAX {
            return;
        }
        // What candidates ask changes the term only if the answer may be yes.
        match body {
            Body::PreVote { proposed, last_index, last_term } => {
                return self.on_pre_vote(now, from, instance, proposed, (last_index, last_term), out);
            }
            Body::Vote { last_index, last_term, transfer } => {
                let asked = election::Asked { from, instance, term, last_index, last_term, transfer };
                return self.on_vote(now, asked, out);
            }
            // What is lost is asked for and given across all terms.
            Body::Refill { wanted, nonce } => return self.on_refill(from, wanted, nonce, out),
            Body::Refilled { entries, absent, barrier } => {
                let refilled = repair::Refilled { entries, absent, barrier };
                return self.on_refilled(now, (from, instance, term), refilled, out);
            }
            _ => {}
        }
        if term > self.hard_state.term {
            self.become_follower(now, term, None, format!("node {from} is in term {term}"), out);
        }
        match body {
            Body::PreVoteReply { proposed, granted, log_is_empty, suspect } => {
                // A voter's own term may be an earlier one than the asker's.
                let reply = election::Reply { granted, instance, log_is_empty, suspect };
                self.on_pre_vote_reply(now, from, proposed, reply, out)
            }
            Body::Append { .. } | Body::Heartbeat { .. } if term < self.hard_state.term => {
                // The term in it makes the sender step down, however this node came to be ahead.
                let body = Body::HeartbeatReply { round: 0, digest: None, space: self.space, promise_ms: 0 };
                out.send.push(self.stamp().message(from, body));
            }
            // It tells by itself which terms' answers it takes.
            Body::ReadIndexReply { token, index } => self.on_read_index_reply((from, term), (token, index), out),
            _ if term < self.hard_state.term => {}
            Body::ReadIndex { token } => self.on_read_index(now, from, token, out),
            Body::VoteReply { granted, log_is_empty, suspect } => {
                self.on_vote_reply(now, from, election::Reply { granted, instance, log_is_empty, suspect }, out)
            }
            Body::Append { prev_index, prev_term, entries, commit, round } => {
                let append = follow::Append { prev_index, prev_term, entries, commit, round };
                self.on_append(now, from, append, out)
            }
            Body::Heartbeat { commit, round, check, promise_ms } => {
                self.on_heartbeat(now, from, (commit, round), check, promise_ms, out)
            }
            Body::AppendAccepted { matched, round } => {
                self.on_append_accepted(now, (from, instance), matched, round, out)
            }
            Body::AppendRejected { prev_index, hint_index, hint_term, round, suspect } => {
                let rejected = replication::Rejected { prev_index, hint_index, hint_term, suspect };
                self.on_append_rejected(now, (from, instance), rejected, round, out)
            }
            Body::HeartbeatReply { round, digest, space, promise_ms } => {
                let reply = replication::HeartbeatReply { round, digest, space, promise_ms };
                self.on_heartbeat_reply(now, (from, instance), reply, out)
            }
            Body::PreVote { .. } | Body::Vote { .. } | Body::Refill { .. } | Body::Refilled { .. } => {}
        }
    }

    fn on_persisted(&mut self, now: Moment, seq: PersistSeq, out: &mut Outputs) {
        self.durability.on_persisted(seq);
        match self.state {
            State::Candidate(_) => self.on_own_vote_durable(now, out),
            State::Leader(_) => self.maybe_advance_commit(out),
            State::Follower | State::PreCandidate(_) => {}
        }
    }

    /// Hands `entries` (already in the log), the current term and vote if they changed, and `message` to the wal: as
    /// part of the persist that this batch of steps has queued last, where that comes to the same.
    fn queue_persist(&mut self, now: Moment, entries: Vec<Entry>, message: Option<Message>, out: &mut Outputs) {
        let end = self.log.last_index();
        let changed = self.durability.queued_hard_state() != self.hard_state;
        let hard_state = changed.then_some(self.hard_state);
        if let Some(last) = out.persists.last_mut().filter(|last| last.seq == self.durability.last_seq())
            && continues(&last.entries, &entries)
        {
            self.durability.extend(end, self.hard_state);
            last.hard_state = hard_state.or(last.hard_state);
            last.entries.extend(entries);
            if let Some(message) = message {
                add_promise(&mut last.messages, message);
            }
            return;
        }
        let seq = self.durability.queue(end, self.hard_state, now);
        out.persists.push(Persist {
            seq,
            cut_from: None,
            hard_state,
            entries,
            messages: message.into_iter().collect(),
        });
    }

    /// Tells the wal that the log ends here now, in its place among what it is given.
    fn queue_cut(&mut self, now: Moment, out: &mut Outputs) {
        let (end, hard_state) = (self.log.last_index(), self.hard_state);
        let changed = self.durability.queued_hard_state() != hard_state;
        let seq = self.durability.queue(end, hard_state, now);
        let hard_state = changed.then_some(hard_state);
        let (cut_from, entries, messages) = (Some(end.next()), Vec::new(), Vec::new());
        out.persists.push(Persist { seq, cut_from, hard_state, entries, messages });
    }

    /// Sends what promises that the log up to `up_to`, the current term and the vote are durable: now if they are,
    /// else with the persist that makes them so.
    fn send_when_durable(&mut self, now: Moment, up_to: LogIndex, message: Message, out: &mut Outputs) {
        let waits_in_vain = match message.body {
            Body::Vote { .. } => removed(Guard::VoteRequestBeforeDurable),
            Body::VoteReply { .. } => removed(Guard::VoteBeforeDurable),
            _ => removed(Guard::AckBeforeDurable),
        };
        if waits_in_vain || self.durability.covers(up_to, self.hard_state) {
            out.send.push(message);
        } else {
            self.queue_persist(now, Vec::new(), Some(message), out);
        }
    }

    /// Reports role, leader, and the term of a known leader, if any of them changed.
    fn announce(&mut self, why: String, out: &mut Outputs) {
        let current = (self.role(), self.hard_state.term, self.leader);
        let (role, term, leader) = self.announced;
        if (role, leader) == (current.0, current.2) && (term == current.1 || leader.is_none()) {
            return;
        }
        self.announced = current;
        out.role_changes.push(RoleChange { role: current.0, term: current.1, leader: current.2, why });
    }
}

/// Whether `more` can follow `entries` in one persist: entries that replace others need one of their own.
fn continues(entries: &[Entry], more: &[Entry]) -> bool {
    match (entries.last(), more.first()) {
        (Some(last), Some(first)) => first.index == last.index.next(),
        _ => true,
    }
}

/// Adds `message` to those that leave together. Of several acknowledgements to one leader the furthest says it all.
fn add_promise(messages: &mut Vec<Message>, message: Message) {
    if let Body::AppendAccepted { matched, round } = message.body
        && let Some(last) = messages.last_mut()
        && (last.to, last.term) == (message.to, message.term)
        && let Body::AppendAccepted { matched: last_matched, round: last_round } = &mut last.body
    {
        *last_matched = matched.max(*last_matched);
        *last_round = round.max(*last_round);
        return;
    }
    messages.push(message);
}
