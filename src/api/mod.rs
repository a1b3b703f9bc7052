//! Layer 1: the client's vocabulary, whatever protocol carries it.
//!
//! A [`Request`] is what a client asks, a [`Reply`] what it gets. Frames, lines, the client library and the
//! embedded cluster all speak these; `wire` turns them into bytes. Pure: no clock, thread or socket.

mod error;
mod latency;
mod request;

pub use error::{Applied, Error, ErrorCode};
pub use latency::{Latency, Percentiles, StageLatency};
pub use request::{
    Found, IfNotLeading, Leader, Outcome, PeerStatus, ReadBy, Reply, Request, ScrubStatus, Status, check_key,
};
