//! What goes into the `net` thread and what comes out of it. The embedded cluster speaks the same without sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::api::{IfNotLeading, Outcome, Reply, Request};
use crate::base::{ClusterId, Moment, NodeId, Operation, Term};
use crate::raft::Message;

/// Names one connection for its lifetime: a slot that is used again gets another generation, so that an answer to
/// a closed connection never reaches its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub slot: u32,
    pub generation: u32,
}

/// Where a request came from and its place among the requests of that connection: where its answer must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub connection: ConnectionId,
    pub sequence: u64,
}

/// The inbox of the `net` thread.
#[derive(Debug)]
pub enum NetEvent {
    /// Exactly one for each `FromNet::Request`; dropped if the connection is gone. `ready`: when it was; zero in a node
    /// that does not measure.
    Reply {
        origin: Origin,
        reply: Reply,
        ready: Moment,
    },
    /// To `message.to`; dropped if its link is down or its queue is full (consensus is told by `LinkDown`).
    Send {
        message: Message,
    },
    /// A client's request for the leader of `term`; never sent twice. If it can't be sent at all, `net` answers
    /// `FromNet::ForwardReply` in the name of `to` with `no_leader` or `busy`: it was certainly not applied.
    Forward {
        to: NodeId,
        id: u64,
        term: Term,
        request: Request,
    },
    ForwardReply {
        to: NodeId,
        id: u64,
        reply: Reply,
    },
    /// Dial these from now on, and nobody else. This node itself is not among them.
    SetPeers {
        peers: Vec<(NodeId, Arc<str>)>,
    },
    /// The log's first entry was learned: hellos name it from now on.
    SetClusterId {
        cluster: ClusterId,
    },
    /// Stop accepting and reading, write what is answered already, then end the loop.
    Stop,
}

/// What the `net` thread tells consensus.
#[derive(Debug)]
pub enum FromNet {
    /// Checked (`Request::check`) and within the limits. `handed_on`: when that was; zero in a node that does not
    /// measure.
    Request {
        origin: Origin,
        request: Request,
        if_not_leading: IfNotLeading,
        handed_on: Moment,
    },
    Raft {
        message: Message,
    },
    /// A request that `from` passes on: to be taken only while this node leads in `term`.
    Forwarded {
        from: NodeId,
        id: u64,
        term: Term,
        request: Request,
    },
    ForwardReply {
        from: NodeId,
        id: u64,
        reply: Reply,
    },
    /// Our own dial to `peer` got through: what is sent now arrives.
    LinkUp {
        peer: NodeId,
    },
    /// What was sent to `peer` may be lost: the link broke, was never there, or its queue overflowed. Also for each
    /// failed dial.
    LinkDown {
        peer: NodeId,
        /// Names neither the node nor its address: whoever shows it does.
        why: String,
    },
}

impl FromNet {
    /// What this event took of [`PeerCredit`] before it was delivered: exactly this is to be given back once it is
    /// out of the inbox.
    pub fn credit_bytes(&self) -> usize {
        match self {
            FromNet::Raft { message } => message.cost_bytes(),
            FromNet::Forwarded { request, .. } => request_cost_bytes(request),
            _ => 0,
        }
    }
}

/// What a request holds while it waits somewhere, in bytes.
pub(super) fn request_cost_bytes(request: &Request) -> usize {
    let held = match request {
        Request::Write(Operation::Put { key, value }) => key.len() + value.len(),
        Request::Write(Operation::Delete { key }) | Request::Get { key, .. } => key.len(),
        Request::List { prefix, after, .. } => prefix.len() + after.as_ref().map_or(0, Bytes::len),
        Request::Status | Request::Scrub | Request::Latency => 0,
    };
    held + 128
}

/// What a reply holds while it waits somewhere, in bytes.
pub(super) fn reply_cost_bytes(reply: &Reply) -> usize {
    let held = match &reply.result {
        Ok(Outcome::Value { found: Some(found), .. }) => found.value.held_bytes(),
        Ok(Outcome::Keys { keys, .. }) => keys.iter().map(|key| key.len() + size_of::<Bytes>()).sum(),
        Ok(Outcome::Latency(latency)) => size_of_val(&latency.stages[..]),
        _ => 0,
    };
    held + 128
}

/// Where what arrives goes: into the inbox of consensus. Must not block.
pub trait Deliver: Send {
    fn deliver(&mut self, event: FromNet);
    /// Everything of this turn was delivered.
    fn turn_ends(&mut self) {}
}

impl<F: FnMut(FromNet) + Send> Deliver for F {
    fn deliver(&mut self, event: FromNet) {
        self(event);
    }
}

/// Where consensus and the wal put what `net` must do. One call is one wake at most, and none while `net` is awake.
pub trait Outbox: Send + Sync {
    /// Takes all of `events`, in order; never blocks.
    fn send(&self, events: &mut Vec<NetEvent>);
}

/// Bytes of peers' messages that wait in the consensus inbox. `net` adds, consensus gives back, and `net` reads
/// no peer while it is above its bound: a bound without a sender that blocks.
#[derive(Clone, Debug, Default)]
pub struct PeerCredit(Arc<AtomicUsize>);

impl PeerCredit {
    pub fn take(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn give_back(&self, bytes: usize) {
        let before = self.0.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{bytes} bytes were given back of {before} taken");
    }

    pub fn taken_bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Found;
    use crate::base::{RecordMaker, Revision};

    /// Else a client that reads nothing could hold far more than its bound, by long keys with short values.
    #[test]
    fn an_answer_costs_what_it_keeps_in_memory_the_key_included() {
        let revision = Revision(1);
        let value = RecordMaker::default().create(&[b'k'; 4096], b"v", revision).into();
        let found = Some(Found { value, create_revision: revision, mod_revision: revision, version: 1 });
        let reply = Reply { result: Ok(Outcome::Value { revision, found }), leader: None };
        assert!(reply_cost_bytes(&reply) > 4096, "{}", reply_cost_bytes(&reply));
    }
}
