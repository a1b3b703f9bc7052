//! Reads on a node that does not lead: it asks its leader how far to apply (dissertation, section 6.4).
//!
//! What the client gets does not go through the leader, one number does. A node that has such reads sends its leader a
//! *question*. The leader answers as it confirms a read of its own (`reads`): once it has proven that it led after the
//! question came, and an entry of its own term is committed. Its answer names an index: all that anybody was answered
//! for before the question left stands at or below it, so the reads are linearizable once that much is applied here.
//!
//! ```text
//! waiting --no question is under way--> asked --its answer--> ready, once the index of the answer is applied
//!    ^                                  |   | no answer for a while: the same question again
//!    +-------- another term ------------+   +-- nobody leads, asked too often, or the state here is wrong: failed
//! ```
//!
//! If this node leads by the time they would be asked for, they open a round of its own.
//!
//! One question is under way at most, for all reads that waited when it left. Those that come later wait for the next:
//! what the leader says of this one may be from before they came. Three things tell the answer to a question from any
//! other. Its token, which begins anywhere at each start: what answers a question from before a restart answers no read
//! from behind it. Its term: in a new term the question is asked again for what came meanwhile, too, so what the old
//! leader says is from before that. And who leads that term.
//!
//! It does not matter who asks. A learner may, and a node that counts in no quorum, since a question changes nothing at
//! the leader. So may one whose disk has lost something: what it has applied was committed, in order and without a gap,
//! and behind a hole it applies nothing until that is filled; its reads wait or fail. Only one whose state is known to
//! be wrong ([`Raft::diverged`]) asks for nothing.
//!
//! The index of an answer is committed, and the leader of this term says so: that counts here as a heartbeat's commit
//! index does, as far as this log is known to be equal, so that a read right behind a write need not wait for the next
//! heartbeat. What is not here yet is committed as soon as it comes.

use super::reads::Reader;
use super::{Body, Outputs, Raft, ReadId, ReadReady};
use crate::base::limits::READ_QUESTION_ASKS_MAX;
use crate::base::{LogIndex, Moment, NodeId, Term};
use crate::guard::{Guard, removed};

/// The reads of a node that does not lead, oldest first.
pub(super) struct Questions {
    /// Of the question that is under way, or of the next one.
    token: u64,
    asked: Option<Question>,
    /// They came behind the question that is under way.
    waiting: Vec<ReadId>,
    /// The last index that an answer has named, and its term.
    named: (Term, LogIndex),
}

struct Question {
    term: Term,
    leader: NodeId,
    reads: Vec<ReadId>,
    asked_at: Moment,
    /// How often it was asked, all in one term.
    asks: u32,
}

impl Questions {
    pub fn new(first_token: u64) -> Questions {
        let token = if removed(Guard::QuestionsNumberedAnew) { 0 } else { first_token };
        Questions { token, asked: None, waiting: Vec::new(), named: (Term::ZERO, LogIndex::ZERO) }
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none() && self.waiting.is_empty()
    }

    /// Whom it asks, and in which term.
    pub fn asks(&self) -> Option<(Term, NodeId)> {
        self.asked.as_ref().map(|question| (question.term, question.leader))
    }

    /// Up to where the leader of `term` has called its log committed.
    pub fn named_in(&self, term: Term) -> LogIndex {
        if self.named.0 == term { self.named.1 } else { LogIndex::ZERO }
    }

    /// Whether reads wait for a question that nobody asks.
    pub fn waits_in_vain(&self) -> bool {
        self.asked.is_none() && !self.waiting.is_empty()
    }

    /// What is under way is of no more use: its reads stand before those that came behind it.
    fn take_back(&mut self) {
        if let Some(question) = self.asked.take() {
            self.waiting.splice(..0, question.reads);
        }
    }

    fn close(&mut self) -> Option<Question> {
        self.token = self.token.wrapping_add(1);
        self.asked.take()
    }
}

impl Raft {
    /// Reads that this node is to answer, whether it leads or not.
    pub(super) fn on_read_here(&mut self, id: ReadId) {
        match &mut self.questions.asked {
            Some(question) if removed(Guard::ReadJoinsQuestion) => question.reads.push(id),
            _ => self.questions.waiting.push(id),
        }
    }

    /// After each step, which may have changed term or leader: asks what is to be asked, and of whom.
    pub(super) fn tend_questions(&mut self, now: Moment, out: &mut Outputs) {
        if self.questions.is_idle() {
            return;
        }
        let leader = self.leader.filter(|_| self.diverged().is_none());
        let (term, questions) = (self.hard_state.term, &mut self.questions);
        if questions.asks().is_some_and(|(asked_in, asked)| (asked_in, Some(asked)) != (term, leader)) {
            questions.take_back();
        }
        if !questions.waits_in_vain() {
            return;
        }
        let reads = std::mem::take(&mut questions.waiting);
        match leader {
            None => {
                questions.close();
                out.reads_failed.extend(reads);
            }
            Some(leader) if leader == self.config.id => {
                questions.close();
                self.open_round(reads.into_iter().map(Reader::Own), out);
            }
            Some(leader) => {
                questions.asked = Some(Question { term, leader, reads, asked_at: now, asks: 1 });
                self.send_question(leader, out);
            }
        }
    }

    fn send_question(&self, leader: NodeId, out: &mut Outputs) {
        out.send.push(self.stamp().message(leader, Body::ReadIndex { token: self.questions.token }));
    }

    /// With each tick: the question, or its answer, may have been lost. The same question again is no other one: the
    /// leader answers what came first of the two, and that came after the reads did.
    pub(super) fn maybe_ask_again(&mut self, now: Moment, out: &mut Outputs) {
        let Some(question) = &mut self.questions.asked else { return };
        if now.since(question.asked_at) < self.config.heartbeat {
            return;
        }
        if question.asks >= READ_QUESTION_ASKS_MAX {
            let question = self.questions.close();
            out.reads_failed.extend(question.into_iter().flat_map(|question| question.reads));
            return;
        }
        (question.asked_at, question.asks) = (now, question.asks + 1);
        let leader = question.leader;
        self.send_question(leader, out);
    }

    /// A leader's answer: what waits for it is ready at `index`.
    pub(super) fn on_read_index_reply(
        &mut self,
        (from, term): (NodeId, Term),
        (token, index): (u64, LogIndex),
        out: &mut Outputs,
    ) {
        let questions = &mut self.questions;
        let is_of_now = questions.asks() == Some((term, from)) || removed(Guard::OldReadIndexTaken);
        if token != questions.token || !is_of_now {
            return;
        }
        let Some(question) = questions.close() else { return };
        questions.named = (term, index);
        self.commit = self.commit.max(index.min(self.verified));
        let index = if removed(Guard::FollowerReadsEarly) { LogIndex::ZERO } else { index };
        out.reads_ready.extend(question.reads.into_iter().map(|id| ReadReady { id, index }));
    }
}
