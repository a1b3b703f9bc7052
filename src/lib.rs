//! A replicated key-value store on Raft: durable before acknowledged, linearizable, and quick about it.
//!
//! One node is four threads around a pure core. To follow one PUT from bytes in to bytes out, read the folders in
//! this order; each step is also a hook ([`base::Step`]) that one test counts on, and how long it is from one to
//! another is measured ([`base::Stage`]):
//!
//! | # | step of a PUT | where | thread |
//! |---|---|---|---|
//! | 1 | bytes in | [`net`] | net |
//! | 2 | request decoded and checked | [`wire`] | net |
//! | 3 | admitted: a proposal, a read, a forward or a refusal | [`node`] | consensus |
//! | 4 | part of a log entry, encoded once | [`raft`] | consensus |
//! | 5 | persisted and replicated, at the same time | [`disk`], [`net`] | wal, net |
//! | 6 | committed by any durable majority | [`raft`] | consensus |
//! | 7 | applied | [`kv`] | consensus |
//! | 8 | reply built | [`node`] | consensus |
//! | 9 | bytes out, in request order per connection | [`net`] | net |
//!
//! A GET goes 1, 2, 3, waits until a majority has confirmed that this node still leads, and goes on with 8 and 9. While
//! the leader holds a lease it goes 1, 2, is read on the net thread ([`net::Served`]), and goes on with 9. One that any
//! node may answer waits, where it was asked, for the leader to say how far that node must have applied.
//!
//! A file imports only from lower layers, and a test holds it to that: [`base`] 0; [`api`], [`raft`], [`kv`] 1;
//! [`wire`], [`disk`] 2; [`net`] 3; [`node`], [`client`] 4; [`cli`] 5. [`base`], [`api`], [`raft`], [`kv`] and [`wire`]
//! are pure, and so are the parts of [`net`] and [`node`] that say so: time and chance are handed in, nothing is read
//! from the outside.
//!
//! To use it from a program: [`client::Client`] talks to a cluster, [`node::EmbeddedCluster`] is one.

#![deny(unsafe_code)]

pub mod api;
pub mod base;
pub mod cli;
pub mod client;
pub mod disk;
pub mod guard;
pub mod kv;
pub mod net;
pub mod node;
pub mod raft;
pub mod wire;

/// The version of this program, as cargo knows it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
