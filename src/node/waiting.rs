//! Who waits for what: writes for their entry, reads for their confirmation, forwarded requests for their answer.
//!
//! Consensus thread; pure. A write is found by index, term and its place in the entry, never by index alone: an
//! index can be overwritten, and the answer would go to the wrong client.

use std::collections::{BTreeMap, VecDeque};

use crate::api::Request;
use crate::base::{LogIndex, Moment, NodeId, Term};
use crate::guard::{Guard, removed};
use crate::net::Origin;
use crate::raft::ReadId;

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// A client of this node.
    Client(Origin),
    /// Another node that passed its client's request on.
    Peer { from: NodeId, id: u64 },
}

/// A write that stands in the log.
#[derive(Debug)]
pub struct PendingWrite {
    pub index: LogIndex,
    pub term: Term,
    /// Its place among the commands of the entry.
    pub place: usize,
    /// `None` once it was answered `outcome_unknown`: the entry may still be applied.
    pub waiter: Option<Waiter>,
    pub deadline: Moment,
}

/// A batch of reads that wait together.
#[derive(Debug)]
pub struct PendingReads {
    pub reads: Vec<(Waiter, Request)>,
    pub confirmed_by: ConfirmedBy,
    pub deadline: Moment,
}

/// Who says that a read is linearizable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmedBy {
    /// A majority.
    Majority,
    /// The leader, which this node was not.
    Leader,
}

/// A request that was passed on to the leader.
#[derive(Debug)]
pub struct PendingForward {
    pub waiter: Waiter,
    pub to: NodeId,
    pub is_write: bool,
    pub deadline: Moment,
}

/// Everything that waits. Each list is bounded by the requests that `net` admits.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Ascending by index and place, since truncation takes from the back before anything new comes.
    writes: VecDeque<PendingWrite>,
    /// Writes whose entries this node's log no longer holds. Another log may, so they can still take effect.
    replaced: BTreeMap<(LogIndex, Term, usize), PendingWrite>,
    /// By the confirmation they wait for.
    unconfirmed: BTreeMap<ReadId, PendingReads>,
    /// Confirmed, by the index that must be applied first.
    confirmed: BTreeMap<LogIndex, Vec<PendingReads>>,
    forwards: BTreeMap<u64, PendingForward>,
    read_id_next: u64,
    forward_id_next: u64,
}

impl Waiting {
    /// `forward_id_first`: the number of the first request that is passed on.
    pub fn new(forward_id_first: u64) -> Waiting {
        let forward_id_next = if removed(Guard::ForwardsNumberedAnew) { 0 } else { forward_id_first };
        Waiting { forward_id_next, ..Waiting::default() }
    }

    pub fn is_empty(&self) -> bool {
        let writes = self.writes.is_empty() && self.replaced.is_empty();
        writes && self.unconfirmed.is_empty() && self.confirmed.is_empty() && self.forwards.is_empty()
    }

    pub fn add_write(&mut self, write: PendingWrite) {
        if let Some(last) = self.writes.back() {
            assert!((last.index, last.place) < (write.index, write.place), "writes wait in log order");
        }
        self.writes.push_back(write);
    }

    /// The waiter of command `place` of the applied entry (`index`, `term`), if it came from here.
    pub fn take_write(&mut self, index: LogIndex, term: Term, place: usize) -> Option<Waiter> {
        let write = match self.writes.front() {
            Some(front) if (front.index, front.place) == (index, place) => self.writes.pop_front()?,
            _ => self.replaced.remove(&(index, term, place))?,
        };
        (write.term == term || removed(Guard::ReplyByIndex)).then_some(write.waiter).flatten()
    }

    /// The entries from `index` on were replaced in this node's log. That alone is no proof that they never take
    /// effect: a node that still holds them may be elected before their replacement is committed, and then commits
    /// them (figure 8 of the Raft paper). So their writes go on waiting.
    pub fn on_truncated(&mut self, index: LogIndex) {
        let keep = self.writes.partition_point(|write| write.index < index);
        let replaced = self.writes.drain(keep..).filter(|write| write.waiter.is_some());
        self.replaced.extend(replaced.map(|write| ((write.index, write.term, write.place), write)));
    }

    /// Replaced writes that certainly never take effect, now that the entry (`index`, `term`) is applied: another
    /// one has their place, or the terms behind it, which only rise, have passed theirs.
    pub fn take_superseded(&mut self, index: LogIndex, term: Term) -> Vec<Waiter> {
        let superseded =
            |at: &(LogIndex, Term, usize)| if at.0 > index { at.1 < term } else { (at.0, at.1) != (index, term) };
        self.replaced.extract_if(.., |at, _| superseded(at)).filter_map(|(_, write)| write.waiter).collect()
    }

    pub fn add_reads(&mut self, reads: PendingReads) -> ReadId {
        self.read_id_next += 1;
        let id = ReadId(self.read_id_next);
        self.unconfirmed.insert(id, reads);
        id
    }

    /// The reads of `id` are linearizable once `index` is applied.
    pub fn confirm_reads(&mut self, id: ReadId, index: LogIndex) {
        if let Some(reads) = self.unconfirmed.remove(&id) {
            self.confirmed.entry(index).or_default().push(reads);
        }
    }

    pub fn take_reads(&mut self, id: ReadId) -> Option<PendingReads> {
        self.unconfirmed.remove(&id)
    }

    /// Confirmed reads whose index is applied.
    pub fn take_readable(&mut self, applied: LogIndex) -> Vec<PendingReads> {
        let mut readable = Vec::new();
        while let Some(entry) = self.confirmed.first_entry() {
            if *entry.key() > applied {
                break;
            }
            readable.extend(entry.remove());
        }
        readable
    }

    pub fn add_forward(&mut self, forward: PendingForward) -> u64 {
        let id = self.forward_id_next;
        self.forward_id_next += 1;
        self.forwards.insert(id, forward);
        id
    }

    /// The forward `id`, if it is `from` who was asked.
    pub fn take_forward(&mut self, from: NodeId, id: u64) -> Option<PendingForward> {
        match self.forwards.get(&id) {
            Some(forward) if forward.to == from => self.forwards.remove(&id),
            _ => None,
        }
    }

    /// What was passed on to `to`, whose link broke.
    pub fn take_forwards_to(&mut self, to: NodeId) -> Vec<PendingForward> {
        self.take_forwards_if(|forward| forward.to == to)
    }

    /// Reads that were passed on to anyone but `leader`: they can be asked again. Writes wait: their answer may come.
    pub fn take_reads_not_to(&mut self, leader: NodeId) -> Vec<PendingForward> {
        self.take_forwards_if(|forward| !forward.is_write && forward.to != leader)
    }

    fn take_forwards_if(&mut self, condition: impl Fn(&PendingForward) -> bool) -> Vec<PendingForward> {
        self.forwards.extract_if(.., |_, forward| condition(forward)).map(|(_, forward)| forward).collect()
    }

    /// Whatever waits past its deadline.
    pub fn take_expired(&mut self, now: Moment) -> Expired {
        let mut expired = Expired::default();
        for write in self.writes.iter_mut().take_while(|write| write.deadline <= now) {
            expired.writes.extend(write.waiter.take());
        }
        let replaced = self.replaced.extract_if(.., |_, write| write.deadline <= now);
        expired.writes.extend(replaced.filter_map(|(_, write)| write.waiter));
        let late = |reads: &PendingReads| reads.deadline <= now;
        expired.reads.extend(self.unconfirmed.extract_if(.., |_, reads| late(reads)).map(|(_, reads)| reads));
        for batches in self.confirmed.values_mut() {
            expired.reads.extend(batches.extract_if(.., |reads| late(reads)));
        }
        self.confirmed.retain(|_, batches| !batches.is_empty());
        expired.forwards = self.take_forwards_if(|forward| forward.deadline <= now);
        expired
    }

    /// Everything, for a node that stops.
    pub fn take_all(&mut self) -> Expired {
        self.take_expired(Moment(u64::MAX))
    }
}

/// What waited in vain.
#[derive(Debug, Default)]
pub struct Expired {
    pub writes: Vec<Waiter>,
    pub reads: Vec<PendingReads>,
    pub forwards: Vec<PendingForward>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ConnectionId;

    fn client(sequence: u64) -> Waiter {
        Waiter::Client(Origin { connection: ConnectionId { slot: 1, generation: 1 }, sequence })
    }

    fn write(index: u64, term: u64, place: usize, sequence: u64) -> PendingWrite {
        let waiter = Some(client(sequence));
        PendingWrite { index: LogIndex(index), term: Term(term), place, waiter, deadline: Moment(index) }
    }

    #[test]
    fn an_overwritten_index_never_answers_the_client_of_the_old_entry() {
        let mut waiting = Waiting::default();
        waiting.add_write(write(5, 1, 0, 50));
        assert_eq!(waiting.take_write(LogIndex(5), Term(2), 0), None);
        assert!(waiting.is_empty());
    }

    #[test]
    fn commands_of_one_entry_answer_their_own_clients() {
        let mut waiting = Waiting::default();
        waiting.add_write(write(5, 1, 0, 50));
        waiting.add_write(write(5, 1, 1, 51));
        assert_eq!(waiting.take_write(LogIndex(4), Term(1), 0), None);
        assert_eq!(waiting.take_write(LogIndex(5), Term(1), 0), Some(client(50)));
        assert_eq!(waiting.take_write(LogIndex(5), Term(1), 1), Some(client(51)));
    }

    #[test]
    fn a_replaced_write_waits_until_a_later_term_is_committed_at_or_before_its_place() {
        let mut waiting = Waiting::default();
        for index in 3..7 {
            waiting.add_write(write(index, 2, 0, index));
        }
        waiting.on_truncated(LogIndex(5));
        waiting.add_write(write(5, 4, 0, 99));
        assert_eq!(waiting.take_write(LogIndex(3), Term(2), 0), Some(client(3)));
        assert_eq!(waiting.take_superseded(LogIndex(3), Term(2)), []);
        assert_eq!(waiting.take_write(LogIndex(4), Term(2), 0), Some(client(4)));
        assert_eq!(waiting.take_superseded(LogIndex(4), Term(2)), []);
        assert_eq!(waiting.take_write(LogIndex(5), Term(4), 0), Some(client(99)));
        assert_eq!(waiting.take_superseded(LogIndex(5), Term(4)), [client(5), client(6)]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn an_entry_of_an_earlier_term_supersedes_only_its_own_place() {
        let mut waiting = Waiting::default();
        waiting.add_write(write(5, 3, 0, 50));
        waiting.add_write(write(6, 3, 0, 60));
        waiting.on_truncated(LogIndex(5));
        assert_eq!(waiting.take_superseded(LogIndex(5), Term(2)), [client(50)]);
        assert_eq!(waiting.take_superseded(LogIndex(6), Term(4)), [client(60)]);
    }

    #[test]
    fn a_replaced_write_that_comes_back_and_is_committed_answers_its_client() {
        let mut waiting = Waiting::default();
        waiting.add_write(write(5, 2, 0, 50));
        waiting.add_write(write(5, 2, 1, 51));
        waiting.on_truncated(LogIndex(4));
        assert_eq!(waiting.take_superseded(LogIndex(4), Term(1)), []);
        assert_eq!(waiting.take_write(LogIndex(5), Term(2), 0), Some(client(50)));
        assert_eq!(waiting.take_write(LogIndex(5), Term(2), 1), Some(client(51)));
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_replaced_write_expires_like_any_other() {
        let mut waiting = Waiting::default();
        waiting.add_write(write(5, 2, 0, 50));
        waiting.on_truncated(LogIndex(5));
        assert_eq!(waiting.take_expired(Moment(4)).writes, []);
        assert_eq!(waiting.take_expired(Moment(5)).writes, [client(50)]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn an_expired_write_keeps_its_place_but_is_answered_once() {
        let mut waiting = Waiting::default();
        waiting.add_write(write(5, 1, 0, 50));
        waiting.add_write(write(6, 1, 0, 60));
        assert_eq!(waiting.take_expired(Moment(5)).writes, [client(50)]);
        assert_eq!(waiting.take_expired(Moment(5)).writes, []);
        assert_eq!(waiting.take_write(LogIndex(5), Term(1), 0), None);
        assert_eq!(waiting.take_write(LogIndex(6), Term(1), 0), Some(client(60)));
    }

    #[test]
    fn reads_wait_for_their_confirmation_and_then_for_their_index() {
        let mut waiting = Waiting::default();
        let reads = vec![(client(1), Request::Status)];
        let id = waiting.add_reads(PendingReads { reads, confirmed_by: ConfirmedBy::Majority, deadline: Moment(9) });
        assert!(waiting.take_readable(LogIndex(100)).is_empty());
        waiting.confirm_reads(id, LogIndex(7));
        assert!(waiting.take_readable(LogIndex(6)).is_empty());
        assert_eq!(waiting.take_readable(LogIndex(7)).len(), 1);
    }

    #[test]
    fn only_the_node_that_was_asked_can_answer_a_forward() {
        let mut waiting = Waiting::default();
        let (two, three) = (NodeId::new(2).unwrap(), NodeId::new(3).unwrap());
        let id =
            waiting.add_forward(PendingForward { waiter: client(1), to: two, is_write: true, deadline: Moment(9) });
        assert!(waiting.take_forward(three, id).is_none());
        assert!(waiting.take_forward(two, id).is_some());
        assert!(waiting.take_forward(two, id).is_none());
    }
}
