//! Layer 3: every socket, every connection limit, on one thread.
//!
//! (contract; the essay comes with the implementation)

pub mod event;

pub use event::{ConnectionId, FromNet, NetEvent, Origin, Outbox, PeerCredit};
