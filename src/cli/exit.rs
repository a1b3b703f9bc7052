//! What the process says when it ends.

use std::process::ExitCode;

use crate::client;

/// Ordered: of several, the worst is the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Refused = 1,
    Usage = 2,
    Unreachable = 3,
    OutcomeUnknown = 4,
    /// The node's options don't fit together, or not to what it found.
    NodeConfiguration = 10,
    /// The node's data directory is damaged.
    NodeDamaged = 11,
    /// The node's files or sockets failed.
    NodeIo = 12,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<&client::Error> for Exit {
    fn from(error: &client::Error) -> Exit {
        match error {
            client::Error::Refused(_) => Exit::Refused,
            client::Error::OutcomeUnknown { .. } => Exit::OutcomeUnknown,
            client::Error::Unreachable { .. }
            | client::Error::Timeout { .. }
            | client::Error::BadAnswer { .. }
            | client::Error::Interrupted => Exit::Unreachable,
        }
    }
}
