//! Layer 1: consensus, sans-I/O. `Raft::step(now, Input, &mut Outputs)` and nothing else moves it.
//! (contract: io.rs; implementation to be written)

pub mod io;
pub mod message;

pub use io::{
    Config, Fetch, Input, LogTail, Outputs, Persist, ProposeRefused, Proposed, ReadId, ReadReady, Recovered,
    RoleChange, View,
};
pub use message::{Body, Message};
