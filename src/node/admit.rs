//! Step 3: what becomes of a request. A proposal, a read, a forward or a refusal.
//!
//! Consensus thread; pure. Requests of one turn of the loop are collected here, so that all writes of a turn share
//! log entries and all its reads share one confirmation.

use smallvec::smallvec;

use crate::api::{ErrorCode, IfNotLeading, Leader, Reply, Request};
use crate::base::limits::{BATCH_BYTES_MAX, ENVELOPE_OPERATIONS_MAX, ENVELOPE_VERSION};
use crate::base::{Command, Envelope, Operation, Role, Term};
use crate::guard::{Guard, removed};

use super::waiting::Waiter;

/// What one turn of the loop collected for the log and for the next read confirmation.
#[derive(Debug, Default)]
pub struct Batch {
    /// Each with the term in which this node took it as the leader.
    pub writes: Vec<(Term, Waiter, Operation)>,
    pub reads: Vec<(Waiter, Request)>,
    /// Those that this node answers though it does not lead.
    pub reads_here: Vec<(Waiter, Request)>,
}

impl Batch {
    pub fn add(&mut self, term: Term, waiter: Waiter, request: Request) {
        match request {
            Request::Write(operation) => self.writes.push((term, waiter, operation)),
            read => self.reads.push((waiter, read)),
        }
    }

    /// Those whose writes were taken in another term than `term`: what was taken, or passed on, for one term must not
    /// take effect in another, where it could overtake what its client sent after it.
    pub fn take_stale(&mut self, term: Term) -> Vec<Waiter> {
        let is_stale = |taken: Term| taken != term && !removed(Guard::StaleWriteProposed);
        self.writes.extract_if(.., |(taken, ..)| is_stale(*taken)).map(|(_, waiter, _)| waiter).collect()
    }

    /// Those whose writes make the data grow.
    pub fn take_growing(&mut self) -> Vec<Waiter> {
        let grows = |operation: &Operation| matches!(operation, Operation::Put { .. });
        self.writes.extract_if(.., |(.., operation)| grows(operation)).map(|(_, waiter, _)| waiter).collect()
    }

    /// The writes as entries: each takes commands up to `BATCH_BYTES_MAX`, a larger command goes alone.
    pub fn take_entries(&mut self, cluster_time_ms: u64) -> Vec<(Vec<Waiter>, Envelope)> {
        let mut entries: Vec<(Vec<Waiter>, Envelope)> = Vec::new();
        let (mut room_bytes, mut room_operations) = (0, 0);
        for (_, waiter, operation) in self.writes.drain(..) {
            let bytes = operation_bytes(&operation);
            if entries.is_empty() || bytes > room_bytes || room_operations == 0 {
                let envelope = Envelope { version: ENVELOPE_VERSION, cluster_time_ms, commands: Vec::new() };
                entries.push((Vec::new(), envelope));
                (room_bytes, room_operations) = (BATCH_BYTES_MAX, ENVELOPE_OPERATIONS_MAX);
            }
            room_bytes = room_bytes.saturating_sub(bytes);
            room_operations -= 1;
            let (waiters, envelope) = entries.last_mut().expect("one was pushed if there was none");
            waiters.push(waiter);
            envelope.commands.push(Command { operations: smallvec![operation], ..Command::default() });
        }
        entries
    }
}

/// What the envelope adds to a command of one operation, in bytes, at most while its empty fields are empty.
const COMMAND_OVERHEAD_BYTES: usize = 32;

/// What an operation weighs in an entry: its bytes and what the envelope adds.
fn operation_bytes(operation: &Operation) -> usize {
    let bytes = match operation {
        Operation::Put { key, value } => key.len() + value.len(),
        Operation::Delete { key } => key.len(),
    };
    bytes + COMMAND_OVERHEAD_BYTES
}

/// What a node does with a request, by its place in the cluster.
pub enum Verdict {
    /// It leads: take it.
    Take,
    /// Pass it on to the leader.
    Forward(Leader),
    /// It is a read, and the leader need only say how far it must be applied.
    ReadHere,
    Refuse(Reply),
    /// Nobody is known to lead: refuse it, and say what is known of why.
    NoLeader,
}

/// Decides for a request of a client of this node.
pub fn judge(role: Role, leader: Option<Leader>, if_not_leading: IfNotLeading) -> Verdict {
    match (role, leader, if_not_leading) {
        (Role::Leader, ..) => Verdict::Take,
        (_, Some(leader), IfNotLeading::Forward) => Verdict::Forward(leader),
        (_, Some(_), IfNotLeading::Read) => Verdict::ReadHere,
        (_, Some(leader), IfNotLeading::Refuse) => {
            let message = format!(
                "the node that was asked does not lead, node {} at {} does; ask there",
                leader.id, leader.address
            );
            Verdict::Refuse(Reply::refused(ErrorCode::NotLeader, message, Some(leader)))
        }
        (_, None, _) => Verdict::NoLeader,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeId;
    use crate::net::{ConnectionId, Origin};

    fn put(bytes: usize) -> Request {
        Request::Write(Operation::Put { key: "k".into(), value: vec![0; bytes].into() })
    }

    fn client(sequence: u64) -> Waiter {
        Waiter::Client(Origin { connection: ConnectionId { slot: 0, generation: 0 }, sequence })
    }

    #[test]
    fn writes_of_one_turn_share_entries_up_to_the_bound_and_keep_their_order() {
        let mut batch = Batch::default();
        for (sequence, bytes) in [100, 100, BATCH_BYTES_MAX - 200, 100, 2 * BATCH_BYTES_MAX, 1].into_iter().enumerate()
        {
            batch.add(Term(1), client(sequence as u64), put(bytes));
        }
        let entries = batch.take_entries(7);
        let waiters: Vec<Vec<Waiter>> = entries.iter().map(|(waiters, _)| waiters.clone()).collect();
        assert_eq!(waiters, [vec![client(0), client(1)], vec![client(2), client(3)], vec![client(4)], vec![client(5)]]);
        assert!(entries.iter().all(|(waiters, envelope)| waiters.len() == envelope.commands.len()));
        assert!(batch.writes.is_empty());
    }

    #[test]
    fn a_write_taken_in_one_term_is_not_proposed_in_another() {
        let mut batch = Batch::default();
        batch.add(Term(1), client(1), put(1));
        batch.add(Term(3), client(2), put(1));
        assert_eq!(batch.take_stale(Term(3)), [client(1)]);
        assert_eq!(batch.take_entries(0)[0].0, [client(2)]);
    }

    #[test]
    fn a_node_that_does_not_lead_forwards_unless_told_otherwise() {
        let leader = Leader { id: NodeId::new(2).unwrap(), address: "h:1".into() };
        let follower = |asked| judge(Role::Follower, Some(leader.clone()), asked);
        assert!(matches!(judge(Role::Leader, None, IfNotLeading::Refuse), Verdict::Take));
        assert!(matches!(judge(Role::Leader, Some(leader.clone()), IfNotLeading::Read), Verdict::Take));
        assert!(matches!(follower(IfNotLeading::Forward), Verdict::Forward(to) if to == leader));
        assert!(matches!(follower(IfNotLeading::Read), Verdict::ReadHere));
        let Verdict::Refuse(reply) = follower(IfNotLeading::Refuse) else { panic!("not refused") };
        assert_eq!((reply.result.unwrap_err().code, reply.leader), (ErrorCode::NotLeader, Some(leader)));
        assert!(matches!(judge(Role::Candidate, None, IfNotLeading::Read), Verdict::NoLeader));
    }
}
