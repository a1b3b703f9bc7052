//! Layer 4: the client library. Blocking, on the caller's thread, with no thread of its own but while
//! [`Client::census`] asks all nodes at once.
//!
//! A [`Client`] is given some addresses and finds the rest: each new connection begins with a question for the
//! node's status, which shows that the node lives before anything is entrusted to it, and names its peers and its
//! leader. Any node answers, since one that does not lead forwards; the client moves to the leader where it can,
//! to save the hop, and stays where it can't (an address that only the nodes can reach). One whose reads any node may
//! answer ([`crate::api::ReadBy`]) stays where it is, too: so the reads of many clients are spread over all nodes.
//!
//! | what happened | a read | a write |
//! |---|---|---|
//! | no connection, greeting unanswered | tried elsewhere, with back-off | the same: nothing was sent |
//! | refused, worth a retry (`busy`, `no_leader`, ...) | tried again | the same: certainly not applied |
//! | refused otherwise | [`Error::Refused`] | [`Error::Refused`] |
//! | connection broke or silent after a byte was sent | asked elsewhere | [`Error::OutcomeUnknown`], never resent |
//!
//! What it does not do: keep several connections, cache, or make a resent write apply once (a write is not resent).

mod addresses;
mod call;
mod census;
mod connection;
mod error;
mod pages;
mod pipeline;

pub use call::{Client, ClientSettings};
pub use census::{Census, Seen};
pub use connection::{Connection, Patience};
pub use error::{Error, Tried};
pub use pages::{Page, Pages};
pub use pipeline::Pipeline;

#[cfg(test)]
mod tests;
