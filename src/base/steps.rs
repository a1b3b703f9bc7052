//! The nine steps of a PUT, as hooks in production code.
//!
//! `RUST_LOG=raftkv::steps=trace` shows every one as it is passed; a test counts on all nine. Off, a hook costs one
//! load and a compare.

use std::fmt;

/// Where a PUT is on its way from bytes in to bytes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    BytesIn = 1,
    Decoded,
    Admitted,
    Appended,
    Persisted,
    Committed,
    Applied,
    ReplyBuilt,
    BytesOut,
}

impl Step {
    pub const ALL: [Step; 9] = [
        Step::BytesIn,
        Step::Decoded,
        Step::Admitted,
        Step::Appended,
        Step::Persisted,
        Step::Committed,
        Step::Applied,
        Step::ReplyBuilt,
        Step::BytesOut,
    ];

    /// Says that it was passed; `what` is rendered only if somebody listens.
    pub fn pass(self, what: fmt::Arguments<'_>) {
        log::trace!(target: "raftkv::steps", "{} {}: {what}", self as u8, self.name());
    }

    pub fn name(self) -> &'static str {
        match self {
            Step::BytesIn => "bytes in",
            Step::Decoded => "decoded",
            Step::Admitted => "admitted",
            Step::Appended => "appended",
            Step::Persisted => "persisted",
            Step::Committed => "committed",
            Step::Applied => "applied",
            Step::ReplyBuilt => "reply built",
            Step::BytesOut => "bytes out",
        }
    }
}
