//! What is true of a node at all times, and between any two moments. Checked after every step in debug builds.
//!
//! A violation is a programmer's error: the node stops, since going on could make two histories out of one.

use super::{Body, Input, Message, Raft, State};
use crate::base::{HardState, LogIndex, Moment, NodeId, Role, Term};
use crate::guard::asserting;

/// What a step is compared with.
pub(super) struct Witness {
    hard_state: HardState,
    leader: Option<NodeId>,
    is_leader: bool,
    commit: LogIndex,
    commit_term: Option<Term>,
    delivered: LogIndex,
    last_index: LogIndex,
    role: Role,
    promised_until: Moment,
    /// The step is a vote request that the leader itself is behind.
    is_transfer: bool,
}

impl Witness {
    pub fn of(raft: &Raft, input: &Input) -> Witness {
        Witness {
            hard_state: raft.hard_state,
            leader: raft.leader,
            is_leader: matches!(raft.state, State::Leader(_)),
            commit: raft.commit,
            commit_term: raft.log.term(raft.commit),
            delivered: raft.delivery.delivered,
            last_index: raft.log.last_index(),
            role: raft.role(),
            promised_until: raft.promised_until,
            is_transfer: matches!(input, Input::Message(Message { body: Body::Vote { transfer: true, .. }, .. })),
        }
    }
}

/// On one state.
pub(super) fn check(raft: &Raft) {
    if !cfg!(debug_assertions) || !asserting() {
        return;
    }
    check_log(raft);
    match &raft.state {
        State::Leader(leading) => {
            assert_eq!(raft.hard_state.vote, Some(raft.config.id), "a leader has not voted for itself");
            assert_eq!(raft.leader, Some(raft.config.id), "a leader does not know itself");
            assert_eq!(raft.log.last_term(), raft.hard_state.term, "a leader's log does not end in its own term");
            assert!(raft.log.matches(leading.first_index, raft.hard_state.term), "a leader's term has no first entry");
            for (peer, progress) in &leading.peers {
                let (matched, next) = (progress.matched, progress.next);
                let last = raft.log.last_index();
                assert!(matched < next && next <= last.next(), "{peer}: matched {matched} next {next} last {last}");
            }
        }
        State::Candidate(_) => {
            assert_eq!(raft.hard_state.vote, Some(raft.config.id), "a candidate has not voted for itself");
            assert_eq!(raft.leader, None, "a candidate knows a leader");
        }
        State::PreCandidate(_) => assert_eq!(raft.leader, None, "a pre-candidate knows a leader"),
        State::Follower => assert_ne!(raft.leader, Some(raft.config.id), "a follower believes that it leads"),
    }
    let asks = raft.questions.asks();
    let asks_its_leader = asks.is_none_or(|(term, leader)| (term, Some(leader)) == (raft.hard_state.term, raft.leader));
    assert!(
        asks_its_leader && asks.is_none_or(|(_, leader)| leader != raft.config.id),
        "it asks {asks:?} how far to read"
    );
    assert!(!raft.questions.waits_in_vain(), "reads wait for a question that nobody asks");
    let campaigns = matches!(raft.role(), Role::PreCandidate | Role::Candidate | Role::Leader);
    assert!(!campaigns || raft.membership.is_voter(), "a node campaigns whose vote does not count");
}

fn check_log(raft: &Raft) {
    let log = &raft.log;
    let (last, durable) = (log.last_index(), raft.durability.durable_index());
    assert!(raft.delivery.delivered <= raft.commit, "an entry was handed out before it was committed");
    assert!(raft.commit <= last, "commit {} is behind the end of the log, {last}", raft.commit);
    assert!(durable <= last, "durable {durable} is behind the end of the log, {last}");
    assert!(raft.verified <= last, "verified {} is behind the end of the log, {last}", raft.verified);
    assert!(raft.hard_state.term >= log.last_term(), "the log has a later term than the node");
    assert!(log.first_held() <= durable.next(), "an entry that is not durable is not held in memory");
    let bounded = log.entries_bytes() <= raft.config.log_memory_bytes_max || log.first_held() > raft.settled();
    assert!(bounded, "{} bytes of entries are held, some of them for no reason", log.entries_bytes());
    let ascending = log.term_runs().windows(2).all(|runs| runs[0].0 < runs[1].0 && runs[0].1 < runs[1].1);
    assert!(ascending, "the terms of the log are out of order");
    for index in [log.first_held(), last] {
        let sound = log.get(index).is_none_or(|entry| entry.index == index && log.matches(index, entry.term));
        assert!(sound, "entry {index} is not the one that the terms tell of");
    }
    let waits_in_vain = raft.repair.waited_for().find(|index| !raft.delivery.is_asked(*index));
    assert_eq!(waits_in_vain, None, "a peer waits for an entry that nobody reads");
    let members_in_log = raft.membership.history().iter().all(|(index, _)| *index <= last);
    assert!(members_in_log, "the members are those of an entry that is not in the log");
}

/// Between two states, one step apart.
pub(super) fn check_step(now: Moment, before: &Witness, raft: &Raft) {
    check_promise(now, before, raft);
    let after = raft.hard_state;
    assert_eq!(raft.durability.queued_hard_state(), after, "a term or vote is not on its way to the disk");
    assert!(after.term >= before.hard_state.term, "the term went back");
    if after.term == before.hard_state.term {
        let kept = before.hard_state.vote.is_none() || after.vote == before.hard_state.vote;
        assert!(kept, "the vote of term {} changed", after.term);
        let replaced = before.leader.is_some() && raft.leader.is_some() && before.leader != raft.leader;
        assert!(!replaced, "term {} has two leaders: {:?} and {:?}", after.term, before.leader, raft.leader);
        let shortened = before.is_leader && raft.log.last_index() < before.last_index;
        assert!(!shortened, "a leader's log became shorter");
    }
    assert!(raft.commit >= before.commit, "the commit index went back");
    assert!(raft.delivery.delivered >= before.delivered, "entries are handed out twice");
    assert_eq!(raft.log.term(before.commit), before.commit_term, "committed entry {} changed", before.commit);
    if let State::Leader(_) = raft.state
        && before.is_leader
        && raft.commit > before.commit
    {
        let own = raft.log.matches(raft.commit, after.term);
        assert!(own, "a leader committed entry {} of an earlier term by counting", raft.commit);
    }
}

/// Who has promised to help nobody to lead does not, and a lease is no longer than what a promise can be.
fn check_promise(now: Moment, before: &Witness, raft: &Raft) {
    assert!(raft.promised_until >= before.promised_until, "a promise was taken back");
    if now < before.promised_until && !before.is_transfer {
        let (voted, had_voted) = (raft.hard_state.vote, before.hard_state.vote);
        let same_vote = voted == had_voted && raft.hard_state.term == before.hard_state.term;
        assert!(voted.is_none() || same_vote, "it voted for {voted:?} inside its promise");
        let campaigns = matches!(raft.role(), Role::PreCandidate) && raft.role() != before.role;
        assert!(!campaigns, "it stood for election inside its promise");
    }
    if !raft.membership.is_alone()
        && let Some(until) = raft.lease_until(LogIndex(u64::MAX))
    {
        assert!(until <= now + raft.config.promise_max, "a lease until {until:?} is longer than any promise");
    }
}
