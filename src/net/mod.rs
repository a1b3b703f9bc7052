//! Layer 3: every socket, every connection limit, on one thread.
//!
//! One port serves everybody. The first byte that a connection sends decides: a frame's (a client's, or a peer's,
//! whose hello says so) or a line's. Clients' requests go to consensus through one callback, and answers come back
//! through the [`Mailbox`]; but while this node holds a lease, reads are answered here, from what consensus has applied
//! (`served`). Consensus and wal never see a socket, and this thread never sees a disk, a name server or the state of
//! consensus.
//!
//! | file | owns |
//! |---|---|
//! | `event` | what goes in and out: the contract with consensus |
//! | `event_loop` | the order of a turn, deadlines, what is ready |
//! | `listener`, `clients` | accepting; reading and answering clients |
//! | `session`, `pipeline` | one client's protocol; its order and bounds; both without a socket |
//! | `links`, `dial`, `link_queue` | our way to each peer; back-off and look-ups; what waits to be sent |
//! | `peers`, `handshake` | what peers send; who is one |
//! | `connection`, `transport`, `input` | one socket, its deadlines, its bytes |
//! | `mailbox`, `sleeper` | the way in, and the wake that costs nothing while the thread is awake |
//! | `served`, `reads` | what of the state may be read here, and until when; what a read is answered with |
//! | `slots` | where connections live, so that nothing meant for one reaches its successor |
//! | `admission`, `limits`, `counters`, `said` | what is bounded, what is counted, what is not said too often |
//! | `stages`, `histogram`, `stopwatch` | what all threads of the node measure, and how; net's part of it |
//!
//! **Bounds.** Nothing here waits for anybody. A turn does a bounded amount of each kind of work, peers' first, and
//! leaves the rest on lists: bytes of clients delay a heartbeat by one turn's budget of them at most. A client that has
//! too much in progress, or more unread answers than its bound, is not read, then dropped; when all buffers together
//! come near theirs only clients that hold little are read and given answers, and those that hold the most are dropped
//! if that lasts. Peers have their own bounds (a byte-bounded queue out, credit in) and don't wait for
//! clients. A connection that owes the rest of a frame, or doesn't read its answers, has a deadline.
//!
//! **What it does not do.** It retries nothing and remembers no request: a request whose connection is gone is
//! answered into the void. It does not authenticate: whoever reaches the port is a client, and a peer is whoever
//! knows the cluster's name and the ids. Links to peers are not encrypted. A listing on a line is atomic by page.

mod admission;
mod clients;
mod connection;
mod counters;
mod dial;
pub mod event;
mod event_loop;
mod handshake;
mod histogram;
mod input;
mod limits;
mod link_queue;
mod links;
mod listener;
mod mailbox;
mod peers;
mod pipeline;
mod reads;
mod said;
mod served;
mod session;
mod sleeper;
mod slots;
mod spin;
mod stages;
mod stopwatch;
#[cfg(test)]
mod tests;
mod transport;

use std::net::TcpListener;
use std::sync::{Arc, atomic};

pub use admission::Admission;
pub use counters::{CloseReason, NetCounters};
pub use dial::Backoff;
pub use event::{ConnectionId, Deliver, FromNet, NetEvent, Origin, Outbox, PeerCredit};
pub use event_loop::Net;
pub use handshake::Me;
pub use limits::NetLimits;
pub use link_queue::{LinkQueue, QueueFull, Urgency};
pub use mailbox::Mailbox;
pub use pipeline::{Asked, Pipeline};
pub use reads::{answer as answer_read, found};
pub use served::{Served, State, Unconfirmed};
pub use session::{Session, Turn};
pub use sleeper::Sleeper;
pub use spin::Spin;
pub use stages::Stages;

use crate::base::{ClusterId, InstanceId, Moment, NodeId};
use crate::guard;

/// What [`Net::new`] is told.
#[derive(Debug)]
pub struct NetConfig {
    pub id: NodeId,
    /// This node's data directory, as its hellos name it.
    pub instance: InstanceId,
    /// As the operator named it; nodes of differently named clusters refuse each other.
    pub cluster_name: String,
    /// `None` until the log's first entry is known; see [`NetEvent::SetClusterId`].
    pub cluster: Option<ClusterId>,
    /// `HOST:PORT` at which others reach this node.
    pub advertise: Arc<str>,
    /// Every other node, and where to dial it.
    pub peers: Vec<(NodeId, Arc<str>)>,
    /// Bound already, so that a port in use is an error of the start and not of the loop.
    pub listener: TcpListener,
    pub limits: NetLimits,
    /// How long the thread looks for the next event before it sleeps.
    pub spin: Spin,
    /// Seeds the jitter of the dial back-off.
    pub seed: u64,
    /// What reads may be answered from without consensus.
    pub served: Arc<Served>,
    /// The node's clock, which counts suspended time.
    pub clock: fn() -> Moment,
    /// Where the stages of requests are measured; `None`: they are not.
    pub stages: Option<Arc<Stages>>,
}
