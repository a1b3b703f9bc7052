//! The errors that a client can get: a stable code, and a sentence that names the value, the limit and the way out.

use std::fmt;

/// Whether what was asked may have taken effect although the answer is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    No,
    Maybe,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retry:literal;)*) => {
        /// A stable error code. The number stands in frames, the word on lines and in JSON; neither ever changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name = $number,)*
        }

        impl ErrorCode {
            /// All codes, in the order of their numbers.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name),*];

            /// The word that lines and JSON use.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }

            pub fn from_number(number: u32) -> Option<ErrorCode> {
                match number { $($number => Some(ErrorCode::$name),)* _ => None }
            }

            /// Whether the same request may succeed when it is sent again unchanged.
            pub fn worth_a_retry(self) -> bool {
                match self { $(ErrorCode::$name => $retry,)* }
            }
        }
    };
}

codes! {
    /// The verb is not one of ours.
    UnknownCommand = 1, "unknown_command", false;
    /// The arguments don't fit the verb.
    BadArguments = 2, "bad_arguments", false;
    KeyTooLarge = 3, "key_too_large", false;
    ValueTooLarge = 4, "value_too_large", false;
    /// The line passed its limit; the connection closes behind this answer.
    LineTooLong = 5, "line_too_long", false;
    /// The answer would pass the frame limit; ask for pages.
    ResultTooLarge = 6, "result_too_large", false;
    /// A bound on work in progress is reached.
    Busy = 7, "busy", true;
    /// No leader is known to this node, or the one that was asked lost its leadership before it took the request.
    NoLeader = 8, "no_leader", true;
    /// This node does not lead and the request said not to forward it.
    NotLeader = 9, "not_leader", true;
    /// A read was not answered in time.
    Timeout = 10, "timeout", true;
    /// A write was passed on and its answer never came. The only code with which a write may have been applied.
    OutcomeUnknown = 11, "outcome_unknown", false;
    /// The revision that was asked for is no longer held.
    RevisionCompacted = 12, "revision_compacted", false;
    /// The revision that was asked for does not exist yet.
    RevisionFuture = 13, "revision_future", true;
    /// The node is stopping.
    ShuttingDown = 14, "shutting_down", true;
    /// A disk is short of space, the leader's or those of a majority: what grows is refused, deletes go on.
    NoSpace = 15, "no_space", true;
    /// The frame is not one that this version understands. Under the request's own id the connection goes on; under the
    /// id 0 the frame could not even be read, and the connection is closed.
    BadFrame = 16, "bad_frame", false;
}

impl ErrorCode {
    /// Whether the request may have taken effect.
    pub fn applied(self) -> Applied {
        match self {
            ErrorCode::OutcomeUnknown => Applied::Maybe,
            _ => Applied::No,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An answer that refuses. `Display` gives `code sentence`, as it stands behind `ERR ` on a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {message}")]
pub struct Error {
    pub code: ErrorCode,
    /// One sentence, no line breaks.
    pub message: String,
}

impl Error {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error { code, message: message.into() }
    }
}
