//! What can go wrong for a client, told apart by what the caller may do about it.

use std::time::Duration;

use crate::api;
use crate::api::Applied;

/// Why a call failed. [`Error::applied`] says whether a write may have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The cluster answered, and the answer is no. Certainly not applied.
    #[error("{0}")]
    Refused(#[source] api::Error),
    /// No address could be asked within the time. Certainly not applied.
    #[error("no server can be reached: {}", list(tried))]
    Unreachable { tried: Vec<Tried> },
    /// A write was sent and its answer never came: it may have been applied, now or later. It was not resent.
    #[error(
        "the outcome of the write is unknown, {address}: {why}; it may have been applied: read the key before writing it again"
    )]
    OutcomeUnknown { address: String, why: String },
    /// A read was sent and not answered within the time.
    #[error("no answer from {address} within {} ms; a longer time may help", after.as_millis())]
    Timeout { address: String, after: Duration },
    /// The caller's flag was raised before anything was sent, or while a read waited.
    #[error("interrupted; if it was a write, it was not applied")]
    Interrupted,
    /// The server speaks something else: another program, or another version.
    #[error("{address} does not answer as raftkv does: {why}")]
    BadAnswer { address: String, why: String },
}

/// An address, and why it could not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    pub address: String,
    pub why: String,
}

fn list(tried: &[Tried]) -> String {
    if tried.is_empty() {
        return "none was named".to_string();
    }
    tried.iter().map(|tried| format!("{} ({})", tried.address, tried.why)).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// Whether what was asked may have taken effect although it failed.
    pub fn applied(&self) -> Applied {
        match self {
            Error::OutcomeUnknown { .. } => Applied::Maybe,
            _ => Applied::No,
        }
    }

    /// A stable word for scripts: the cluster's own codes, and beside them `unreachable`, `interrupted` and
    /// `bad_answer`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Refused(error) => error.code.as_str(),
            Error::Unreachable { .. } => "unreachable",
            Error::OutcomeUnknown { .. } => api::ErrorCode::OutcomeUnknown.as_str(),
            Error::Timeout { .. } => api::ErrorCode::Timeout.as_str(),
            Error::Interrupted => "interrupted",
            Error::BadAnswer { .. } => "bad_answer",
        }
    }

    /// Of a call to one address, for whoever names that address: why it failed.
    pub fn why(&self) -> String {
        match self {
            Error::Unreachable { tried } if !tried.is_empty() => {
                tried.iter().map(|tried| tried.why.as_str()).collect::<Vec<_>>().join(", ")
            }
            other => other.message(),
        }
    }

    /// The sentence without its code.
    pub fn message(&self) -> String {
        match self {
            Error::Refused(error) => error.message.clone(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_the_address_gets_a_reason_that_does_not() {
        let unreachable =
            Error::Unreachable { tried: vec![Tried { address: "c:1".into(), why: "connection refused".into() }] };
        assert_eq!(unreachable.why(), "connection refused");
        assert_eq!(unreachable.message(), "no server can be reached: c:1 (connection refused)");
        assert_eq!(Error::Interrupted.why(), Error::Interrupted.message());
    }

    #[test]
    fn each_failure_of_a_write_says_whether_it_may_have_been_applied() {
        let unknown = Error::OutcomeUnknown { address: "c:1".into(), why: "interrupted before its answer came".into() };
        assert!(unknown.message().contains("it may have been applied"), "{unknown}");
        assert!(Error::Interrupted.message().contains("it was not applied"));
    }
}
