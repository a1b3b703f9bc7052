//! Layer 1: the key-value state machine. [`Store::apply`] and [`Store::apply_all`] change it, [`Store::view`] reads it,
//! nothing else does.
//!
//! The consensus thread is its sole writer. It is total and deterministic: the same commands in the same
//! order give the same state on every node, whatever their settings. It knows no entry, no client and no answer
//! format, and it must not touch a clock, a file or anything that iterates in no order.
//!
//! Every command makes exactly one new revision, also one that deletes a key that was not there: a client counts
//! on the revision that its write was given. A digest of the state, kept with every change, lets nodes compare theirs.
//! No history is kept: only what is current can be read.

mod digest;
mod keys;
mod lists;
mod store;
mod tree;

pub use store::{Applied, OperationResult, Page, RevisionError, Store, View};
