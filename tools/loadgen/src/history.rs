//! Records what was asked and answered, a line an operation, for `check-history`. Lines are written as answers come, by
//! the driver's thread: memory stays bounded, and a disk that stalls shows in the latencies.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::Instant;

use linearizability::{Operation, Outcome, Record};
use raftkv::api;
use raftkv::base;

/// A request whose answer will be recorded.
#[derive(Clone, Debug)]
pub struct Asked {
    at: Instant,
    operation: Operation,
}

/// What an answer says, and the revision of which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    outcome: Outcome,
    revision: Option<u64>,
}

/// How an operation ended.
#[derive(Debug)]
pub enum End {
    Answered(Found),
    /// It had no effect, and will have none.
    Failed,
    /// A write may have an effect, later too.
    Unknown,
}

pub struct Recorder {
    out: BufWriter<File>,
    start: Instant,
    /// The first, which `finish` gives.
    error: Option<io::Error>,
}

impl Recorder {
    pub fn create(file: &str) -> io::Result<Recorder> {
        Ok(Recorder { out: BufWriter::new(File::create(file)?), start: Instant::now(), error: None })
    }

    pub fn record(&mut self, client: usize, asked: &Asked, end: End, now: Instant) {
        let since_start = |at: Instant| u64::try_from((at - self.start).as_nanos()).unwrap_or(u64::MAX);
        let completed_ns = Some(since_start(now));
        let (completed_ns, found) = match end {
            End::Answered(found) => (completed_ns, Some(found)),
            End::Unknown if asked.operation.is_write() => (None, None),
            End::Failed | End::Unknown => (completed_ns, None),
        };
        let record = Record {
            client: client as u64,
            invoked_ns: since_start(asked.at),
            completed_ns,
            operation: asked.operation.clone(),
            revision: found.as_ref().and_then(|found| found.revision),
            outcome: found.map(|found| found.outcome),
        };
        if self.error.is_none() {
            self.error = writeln!(self.out, "{record}").err();
        }
    }

    /// An error: the file is not complete.
    pub fn finish(mut self) -> io::Result<()> {
        self.error.take().map_or_else(|| self.out.flush(), Err)
    }
}

impl Asked {
    /// `None`: it is no operation on keys.
    pub fn now(request: &api::Request) -> Option<Asked> {
        let operation = match request.clone() {
            api::Request::Write(base::Operation::Put { key, value }) => Operation::Put { key, value },
            api::Request::Write(base::Operation::Delete { key }) => Operation::Delete { key },
            api::Request::Get { key, .. } => Operation::Get { key },
            api::Request::List { prefix, after, limit, .. } => Operation::List { prefix, after, limit },
            api::Request::Status | api::Request::Scrub | api::Request::Latency => return None,
        };
        Some(Asked { at: Instant::now(), operation })
    }

    /// What a line answers. Keys and values of a recorded run need no quotes.
    pub fn found_in_line(&self, line: &[u8]) -> Found {
        let line = line.trim_ascii_end();
        let outcome = match (&self.operation, line) {
            (Operation::Put { .. }, b"OK") => Outcome::Put,
            (Operation::Delete { .. }, b"OK") => Outcome::Deleted { existed: true },
            (Operation::Delete { .. }, b"(nil)") => Outcome::Deleted { existed: false },
            (Operation::Get { .. }, b"(nil)") => Outcome::Value(None),
            // An answer that is none to the question is recorded too: the checker says so.
            (_, value) => Outcome::Value(Some(value.to_vec().into())),
        };
        Found { outcome, revision: None }
    }
}

impl Found {
    /// `None`: it is no answer to an operation on keys.
    pub fn in_reply(outcome: api::Outcome) -> Option<Found> {
        let (outcome, revision) = match outcome {
            api::Outcome::Put { revision } => (Outcome::Put, revision),
            api::Outcome::Deleted { revision, existed } => (Outcome::Deleted { existed }, revision),
            api::Outcome::Value { revision, found } => {
                (Outcome::Value(found.map(|found| found.value.into())), revision)
            }
            api::Outcome::Keys { revision, keys, more } => (Outcome::Keys { keys, more }, revision),
            api::Outcome::Status(_) | api::Outcome::Latency(_) => return None,
        };
        Some(Found { outcome, revision: Some(revision.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_the_answer_to_what_was_asked() {
        let found = |operation, line: &[u8]| Asked { at: Instant::now(), operation }.found_in_line(line).outcome;
        let get = || Operation::Get { key: "k".into() };
        assert_eq!(found(get(), b"(nil)\r\n"), Outcome::Value(None));
        assert_eq!(found(get(), b"OK\n"), Outcome::Value(Some("OK".into())));
        let put = || Operation::Put { key: "k".into(), value: "v".into() };
        assert_eq!(found(put(), b"OK\n"), Outcome::Put);
        assert_eq!(found(put(), b"(nil)\n"), Outcome::Value(Some("(nil)".into())));
        assert_eq!(found(Operation::Delete { key: "k".into() }, b"OK\n"), Outcome::Deleted { existed: true });
    }
}
