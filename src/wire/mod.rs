//! Layer 2: bytes to values and back. Pure functions, called on the net thread (and the envelope's on the consensus
//! thread); no socket, clock or state lives here.
//!
//! ```text
//! connection's first byte   00 or 01: frames                     printable: lines
//!                           frame.rs   length, then protobuf     line.rs   one command a line
//! client's frames           client.rs  typed, legacy.rs text     quote.rs  how a key or value is written
//! peer's frames             peer.rs    hello, consensus, forwarded requests
//! log entry's data          envelope.rs
//!
//! the most frequent of these: direct.rs, field by field (fields.rs). All, by way of prost: convert.rs, peer.rs,
//! envelope.rs, counted before they are decoded (walk.rs)
//! ```
//!
//! Whatever arrives was written by somebody else: a decoder never panics and never takes more memory than a small
//! multiple of the bytes that have arrived. What is not understood is a [`BadFrame`], which closes the connection;
//! a request that is understood but refused is an answer. Keys and values are slices of the frame or the
//! entry, but for those of a client's frame of up to [`SMALL_FRAME_BYTES`], which are copied once.

mod client;
mod convert;
mod direct;
mod envelope;
mod fields;
mod frame;
#[rustfmt::skip]
#[allow(clippy::all)]
mod generated;
mod latency;
mod legacy;
mod line;
mod peer;
mod quote;
#[cfg(test)]
mod testing;
mod walk;

pub use client::{
    ClientRequest, FirstFrame, Style, decode_first, decode_reply, decode_request, encode_reply, encode_request,
    take_short_reply, take_short_request,
};
#[doc(hidden)]
pub use envelope::decode_envelope_in_general;
pub use envelope::{decode_envelope, encode_envelope};
pub use frame::{BadFrame, FRAME_HEADER_BYTES, FrameError, SMALL_FRAME_BYTES, take_frame};
pub use line::{HELP, LineCommand, looks_like_http, parse_line, write_reply};
pub use peer::{
    Hello, HelloReply, Identity, PeerFrame, decode_hello_reply, decode_peer, encode_hello, encode_hello_reply,
    encode_peer,
};
pub use quote::{write_key, write_value};
