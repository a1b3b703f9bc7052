//! Layer 3: every socket, every connection limit, on one thread.
//!
//! (contract; the essay comes with the implementation)

pub mod event;

mod limits;
pub use event::{ConnectionId, FromNet, NetEvent, Origin, Outbox, PeerCredit};
pub use limits::NetLimits;
