//! Making leaders: who campaigns, who votes for whom, and what a vote is worth.
//!
//! An election runs in two rounds. *PreVote* asks who would vote, and changes nothing anywhere; so a node that can't
//! win raises no term. *Vote* binds: the voter's term and vote are durable before its answer leaves, and the
//! candidate's own before its request does: otherwise it could crash, forget, and lead the same term twice.

use std::collections::BTreeMap;
use std::fmt;

use super::{Body, COUNTER_MAX, Outputs, Raft, State, quorum};
use crate::base::{HardState, InstanceId, LogIndex, Member, Moment, NodeId, Term};
use crate::guard::{Guard, removed};

/// Who said yes, and from which directory.
#[derive(Default)]
pub(super) struct Ballot {
    granted: BTreeMap<NodeId, Grant>,
}

struct Grant {
    instance: InstanceId,
    log_is_empty: bool,
    suspect: bool,
}

impl Ballot {
    pub fn instance_of(&self, id: NodeId) -> Option<InstanceId> {
        self.granted.get(&id).map(|grant| grant.instance)
    }
}

/// What an election was won by.
pub(super) enum Won {
    /// A majority that is sure of what it holds; where a cluster forms, all.
    BySoundVotes,
    /// Needed only if what the suspect nodes lost leaves no sound majority: then what was acknowledged by those alone
    /// who lost it is gone, and nobody can tell.
    ByEveryVote { suspect: Vec<NodeId> },
}

/// What follows "it was elected".
impl fmt::Display for Won {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Won::ByEveryVote { suspect } = self else { return Ok(()) };
        let suspect: Vec<String> = suspect.iter().map(NodeId::to_string).collect();
        write!(
            f,
            " by every vote, since no majority is sure of the end of its log: what only nodes {} held there may be lost",
            suspect.join(" and ")
        )
    }
}

/// A vote request.
pub(super) struct Asked {
    pub from: NodeId,
    pub instance: InstanceId,
    pub term: Term,
    pub last_index: LogIndex,
    pub last_term: Term,
    pub transfer: bool,
}

/// The answer to a request for a vote or a pre-vote.
pub(super) struct Reply {
    pub granted: bool,
    pub instance: InstanceId,
    pub log_is_empty: bool,
    pub suspect: bool,
}

impl Raft {
    pub(super) fn reset_election_deadline(&mut self, now: Moment) {
        let timeout = self.random.between(self.config.election_timeout_min, self.config.election_timeout_max);
        self.election_deadline = now + timeout;
        self.has_caught_up = false;
    }

    /// Goes on as a follower: of `leader`, or of nobody known.
    pub(super) fn become_follower(
        &mut self,
        now: Moment,
        term: Term,
        leader: Option<NodeId>,
        why: String,
        out: &mut Outputs,
    ) {
        if term > self.hard_state.term {
            self.hard_state = HardState { term, vote: None };
            self.verified = LogIndex::ZERO;
        }
        if let State::Leader(leading) = &mut self.state {
            out.reads_failed.extend(leading.reads.drain(..).filter_map(|read| read.own()));
            self.agreement.on_leadership_lost();
            self.reset_election_deadline(now);
        }
        self.state = State::Follower;
        self.leader = leader;
        self.announce(why, out);
    }

    /// Campaigns when the election timeout has passed without a leader or a result. A node that stood still (it is
    /// given less processor than it asks for, or was stopped) accuses nobody before it has had the time to read what
    /// it was sent meanwhile.
    pub(super) fn maybe_campaign(&mut self, now: Moment, stood_still: bool, out: &mut Outputs) {
        let caught_up_at = now + self.config.heartbeat / 2;
        let is_short = stood_still && self.election_deadline < caught_up_at && !self.membership.is_alone();
        if is_short && !std::mem::replace(&mut self.has_caught_up, true) {
            self.election_deadline = caught_up_at;
        }
        if now < self.election_deadline || self.has_promised(now) {
            return;
        }
        if matches!(self.state, State::Candidate(_)) && !self.durability.covers(LogIndex::ZERO, self.hard_state) {
            return; // its requests still wait for its own disk; another term would not make that faster
        }
        self.reset_election_deadline(now);
        let silence = self.describe_silence(now);
        if !self.may_campaign(now) {
            self.become_follower(now, self.hard_state.term, None, silence, out);
        } else if removed(Guard::CampaignWithoutPreVote) {
            self.leader = None;
            self.start_vote(now, out);
        } else {
            self.start_pre_vote(now, silence, out);
        }
    }

    fn may_campaign(&self, now: Moment) -> bool {
        let disk_hangs = self.durability.oldest_in_flight(now) >= self.config.persist_stall;
        self.membership.is_voter() && self.may_stand() && !disk_hangs && self.hard_state.term.0 < COUNTER_MAX
    }

    fn describe_silence(&self, now: Moment) -> String {
        let silence = now.since(self.leader_heard_at).as_millis();
        match self.leader {
            Some(leader) => format!("no heartbeat from node {leader} for {silence} ms"),
            None if self.membership.is_alone() => "it is the only voter".to_string(),
            None => format!("no leader for {silence} ms"),
        }
    }

    fn start_pre_vote(&mut self, now: Moment, why: String, out: &mut Outputs) {
        self.state = State::PreCandidate(Ballot::default());
        self.leader = None;
        self.announce(why, out);
        let body = Body::PreVote {
            proposed: self.hard_state.term.next(),
            last_index: self.log.last_index(),
            last_term: self.log.last_term(),
        };
        let stamp = self.stamp();
        out.send.extend(self.membership.voting_peers().into_iter().map(|peer| stamp.message(peer, body.clone())));
        self.count_own_vote(now, out);
    }

    fn start_vote(&mut self, now: Moment, out: &mut Outputs) {
        self.hard_state = HardState { term: self.hard_state.term.next(), vote: Some(self.config.id) };
        self.verified = LogIndex::ZERO;
        self.state = State::Candidate(Ballot::default());
        self.reset_election_deadline(now);
        self.announce("a majority would vote for it".to_string(), out);
        let body = Body::Vote { last_index: self.log.last_index(), last_term: self.log.last_term(), transfer: false };
        let stamp = self.stamp();
        for peer in self.membership.voting_peers() {
            self.send_when_durable(now, LogIndex::ZERO, stamp.message(peer, body.clone()), out);
        }
        if removed(Guard::VoteRequestBeforeDurable) {
            self.count_own_vote(now, out);
        }
    }

    /// The wal has persisted something: perhaps the vote of this candidate for itself, which then counts.
    pub(super) fn on_own_vote_durable(&mut self, now: Moment, out: &mut Outputs) {
        let counted = matches!(&self.state, State::Candidate(ballot) if ballot.instance_of(self.config.id).is_some());
        if !counted && self.durability.covers(LogIndex::ZERO, self.hard_state) {
            self.reset_election_deadline(now); // the requests leave only now
            self.count_own_vote(now, out);
        }
    }

    fn count_own_vote(&mut self, now: Moment, out: &mut Outputs) {
        let (instance, log_is_empty) = (self.config.instance, self.log.is_empty());
        let reply = Reply { granted: true, instance, log_is_empty, suspect: self.repair.is_suspect() };
        self.count_vote(now, self.config.id, reply, out);
    }

    fn count_vote(&mut self, now: Moment, from: NodeId, reply: Reply, out: &mut Outputs) {
        let (State::PreCandidate(ballot) | State::Candidate(ballot)) = &mut self.state else { return };
        if !reply.granted {
            return;
        }
        let Reply { instance, log_is_empty, suspect, .. } = reply;
        ballot.granted.insert(from, Grant { instance, log_is_empty, suspect });
        match &self.state {
            State::PreCandidate(ballot) if self.won(ballot).is_some() => self.start_vote(now, out),
            // Nobody is left who is certain what there was.
            State::PreCandidate(ballot) if self.has_every_vote(ballot) => self.repair.note_nobody_is_sound(),
            State::Candidate(ballot) => {
                let Some(won) = self.won(ballot) else { return };
                let State::Candidate(ballot) = std::mem::replace(&mut self.state, State::Follower) else { return };
                self.become_leader(now, &ballot, &won, out);
            }
            _ => {}
        }
    }

    /// A majority of the members the log knows, each from the directory it is known by. With an empty log nothing is
    /// known, and an election forms a new cluster: that takes everyone, and everyone's log must be empty. A suspect
    /// member's vote counts only where every member's does (see `repair`). `None`: not won so far.
    fn won(&self, ballot: &Ballot) -> Option<Won> {
        let members = self.membership.current();
        if self.log.is_empty() && !removed(Guard::FormationByMajority) {
            let all = |id| ballot.granted.get(&id).is_some_and(|grant| grant.log_is_empty && !grant.suspect);
            return members.voters.iter().all(|member| all(member.id)).then_some(Won::BySoundVotes);
        }
        let granted = |member: &Member| {
            let counts =
                |grant: &&Grant| member.instance == Some(grant.instance) || removed(Guard::FormationByMajority);
            ballot.granted.get(&member.id).filter(counts)
        };
        let is_sound = |grant: &&Grant| !grant.suspect || removed(Guard::SuspectVoteCounts);
        let sound = |member: &Member| granted(member).filter(is_sound).map(|_| ());
        if quorum::reached(members, sound).is_some() {
            return Some(Won::BySoundVotes);
        }
        let suspect = members.voters.iter().filter(|member| sound(member).is_none()).map(|member| member.id);
        let suspect: Vec<NodeId> = suspect.collect();
        let one_is_sound = suspect.len() < members.voters.len() || removed(Guard::NobodySoundElects);
        let by_every_vote = self.has_every_vote(ballot) && one_is_sound && !removed(Guard::EveryVoteIgnored);
        by_every_vote.then_some(Won::ByEveryVote { suspect })
    }

    /// Whether every voter has voted for this node, suspect or not.
    fn has_every_vote(&self, ballot: &Ballot) -> bool {
        let members = self.membership.current();
        let mut voters = members.voters.iter().chain(&members.outgoing);
        voters.all(|member| {
            let instance = ballot.instance_of(member.id);
            instance.is_some() && instance == member.instance
        })
    }

    /// Whether there is a leader that works, as far as this node can tell: then it helps nobody to replace it.
    fn hears_leader(&self, now: Moment) -> bool {
        if removed(Guard::LeaderHeardIgnored) {
            return false;
        }
        match self.state {
            State::Leader(_) => true, // as long as it hears a majority, else it steps down
            _ => self.leader.is_some() && now.since(self.leader_heard_at) < self.config.election_timeout_min,
        }
    }

    pub(super) fn on_pre_vote(
        &mut self,
        now: Moment,
        from: NodeId,
        instance: InstanceId,
        proposed: Term,
        (last_index, last_term): (LogIndex, Term),
        out: &mut Outputs,
    ) {
        if self.membership.is_stranger(from, instance) {
            return;
        }
        let granted = proposed > self.hard_state.term
            && !self.membership.is_uncounted()
            && self.may_vote()
            && !self.hears_leader(now)
            && !self.has_promised(now)
            && (self.log.is_covered_by(last_index, last_term) || removed(Guard::VoteForShorterLog));
        let (log_is_empty, suspect) = (self.log.is_empty(), self.repair.is_suspect());
        let body = Body::PreVoteReply { proposed, granted, log_is_empty, suspect };
        let mut stamp = self.stamp();
        if removed(Guard::PreVoteTermHidden) {
            stamp.term = stamp.term.min(Term(proposed.0.saturating_sub(1)));
        }
        out.send.push(stamp.message(from, body));
    }

    pub(super) fn on_pre_vote_reply(
        &mut self,
        now: Moment,
        from: NodeId,
        proposed: Term,
        reply: Reply,
        out: &mut Outputs,
    ) {
        if matches!(self.state, State::PreCandidate(_)) && proposed == self.hard_state.term.next() {
            self.count_vote(now, from, reply, out);
        }
    }

    pub(super) fn on_vote(&mut self, now: Moment, asked: Asked, out: &mut Outputs) {
        let Asked { from, term, .. } = asked;
        if self.membership.is_stranger(from, asked.instance) {
            return;
        }
        if term > self.hard_state.term {
            if (self.hears_leader(now) || self.has_promised(now)) && !asked.transfer {
                return; // not even the term is taken: it would depose the leader
            }
            self.become_follower(now, term, None, format!("node {from} campaigns in term {term}"), out);
        }
        let (log_is_empty, suspect) = (self.log.is_empty(), self.repair.is_suspect());
        let stamp = self.stamp();
        if !self.grants(now, &asked) {
            return out.send.push(stamp.message(from, Body::VoteReply { granted: false, log_is_empty, suspect }));
        }
        self.hard_state.vote = Some(from);
        self.become_follower(now, term, None, format!("it votes for node {from} in term {term}"), out);
        self.reset_election_deadline(now);
        let reply = stamp.message(from, Body::VoteReply { granted: true, log_is_empty, suspect });
        self.send_when_durable(now, LogIndex::ZERO, reply, out);
    }

    fn grants(&self, now: Moment, asked: &Asked) -> bool {
        asked.term == self.hard_state.term
            && (!self.has_promised(now) || asked.transfer)
            && !self.membership.is_uncounted()
            && self.may_vote()
            && self.leader.is_none()
            && (self.hard_state.vote.is_none_or(|vote| vote == asked.from) || removed(Guard::VoteTwice))
            && (self.log.is_covered_by(asked.last_index, asked.last_term) || removed(Guard::VoteForShorterLog))
    }

    pub(super) fn on_vote_reply(&mut self, now: Moment, from: NodeId, reply: Reply, out: &mut Outputs) {
        if matches!(self.state, State::Candidate(_)) {
            self.count_vote(now, from, reply, out);
        }
    }
}
