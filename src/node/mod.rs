//! Layer 4: a node. The replica (pure), the threads that move events around it, and how it starts and stops.
//!
//! [`replica`] is the node without its threads: an event goes in, effects come out. The loops ([`consensus`],
//! [`wal`], [`background`]) are dumb: they take from an inbox, call, and pass on. [`start`] wires them to the real
//! network and disk, [`embedded`] to a whole cluster in one process.
//!
//! | thread | inbox | calls | passes on to |
//! |---|---|---|---|
//! | consensus | [`consensus::ConsensusEvent`] | `Replica` | wal, net, background |
//! | wal | [`wal::WalEvent`] | `disk::Wal` | net (what had to wait for the disk), consensus, background |
//! | background | [`background::BackgroundEvent`] | `disk::LogReader`, `disk::SegmentJob` | consensus, wal |
//!
//! What they measure of requests is [`crate::net::Stages`]; consensus' part of it is `meter`.
//!
//! What it does not do: no snapshots, no change of members, no transfer of leadership yet; the log grows and is
//! replayed at start.

pub mod background;
pub mod clock;
pub mod consensus;
pub mod core;
pub mod embedded;
pub mod end;
pub mod exits;
pub mod inbox;
pub mod replica;
pub mod scrubbing;
pub mod settings;
pub mod start;
pub mod wakes;
pub mod wal;

mod admit;
mod apply;
mod journal;
mod meter;
mod reply;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod waiting;

pub use embedded::{EmbeddedClient, EmbeddedCluster, EmbeddedSettings};
pub use settings::Settings;
pub use start::{Node, NodeError};
