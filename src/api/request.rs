//! Requests and replies.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Error, ErrorCode, Latency};
use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::base::{LogIndex, NodeId, Operation, Revision, Role, Term, Value};

/// What a client asks of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Takes effect at one new revision.
    Write(Operation),
    /// `revision`: read as of then, if it is still held; `None`: now (linearizable).
    Get { key: Bytes, revision: Option<Revision> },
    /// The keys that start with `prefix` and lie behind `after`, ascending; at most `limit` (0: all of them).
    List { prefix: Bytes, after: Option<Bytes>, limit: usize, revision: Option<Revision> },
    /// What the asked node knows of itself; never forwarded.
    Status,
    /// The asked node reads its whole log once, for damage; answered at once, as [`Request::Status`] is, which tells
    /// how it goes on.
    Scrub,
    /// Where the time of requests goes in the asked node: answered by its net thread, and never forwarded.
    Latency,
}

impl Request {
    /// Whether it changes the state. Reads may be resent; writes of unknown outcome never are.
    pub fn is_write(&self) -> bool {
        matches!(self, Request::Write(_))
    }

    /// Refuses what no node would take: an empty or too large key, a too large value.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Request::Write(Operation::Put { key, value }) => {
                check_key(key)?;
                check_value(value)
            }
            Request::Write(Operation::Delete { key }) | Request::Get { key, .. } => check_key(key),
            Request::List { prefix, after, .. } => {
                check_length("prefix", prefix)?;
                after.as_ref().map_or(Ok(()), |after| check_length("key after AFTER", after))
            }
            Request::Status | Request::Scrub | Request::Latency => Ok(()),
        }
    }
}

/// Of a key that is to be written, read or deleted.
pub fn check_key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::new(ErrorCode::BadArguments, "the key is empty; a key has at least one byte"));
    }
    check_length("key", key)
}

fn check_length(what: &str, key: &[u8]) -> Result<(), Error> {
    if key.len() > KEY_BYTES_MAX {
        let length = key.len();
        let message = format!("the {what} has {length} bytes, the limit is {KEY_BYTES_MAX}; use a shorter one");
        return Err(Error::new(ErrorCode::KeyTooLarge, message));
    }
    Ok(())
}

fn check_value(value: &Bytes) -> Result<(), Error> {
    if value.len() > VALUE_BYTES_MAX {
        let length = value.len();
        let message = format!("the value has {length} bytes, the limit is {VALUE_BYTES_MAX}; store it in parts");
        return Err(Error::new(ErrorCode::ValueTooLarge, message));
    }
    Ok(())
}

/// What a node that does not lead does with a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfNotLeading {
    /// Passes it on to the leader.
    Forward,
    /// Answers [`ErrorCode::NotLeader`].
    Refuse,
    /// Answers a read itself, once the leader has told it how far it must have applied; passes on all else.
    Read,
}

/// Who may answer a read, which is linearizable either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadBy {
    #[default]
    Leader,
    /// Whichever node is asked.
    Any,
}

impl FromStr for ReadBy {
    type Err = String;

    fn from_str(text: &str) -> Result<ReadBy, String> {
        match text {
            "leader" => Ok(ReadBy::Leader),
            "any" => Ok(ReadBy::Any),
            _ => Err("leader or any".to_string()),
        }
    }
}

impl ReadBy {
    /// For requests that need not be refused.
    pub fn if_not_leading(self, request: &Request) -> IfNotLeading {
        match (self, request) {
            (ReadBy::Any, Request::Get { .. } | Request::List { .. }) => IfNotLeading::Read,
            _ => IfNotLeading::Forward,
        }
    }
}

/// The answer to one request: exactly one for each, in the order of the requests of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub result: Result<Outcome, Error>,
    /// The leader as the answering node knows it, so that a program can go there itself.
    pub leader: Option<Leader>,
}

impl Reply {
    pub fn refused(code: ErrorCode, message: impl Into<String>, leader: Option<Leader>) -> Reply {
        Reply { result: Err(Error::new(code, message)), leader }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub id: NodeId,
    /// `HOST:PORT` for clients and peers alike; empty if it is not known.
    pub address: Arc<str>,
}

/// What was done or found. Every answer states the revision of the state it speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The key now has the value.
    Put {
        revision: Revision,
    },
    /// The key is absent now; `existed`: it was there before. A delete of an absent key makes a revision too.
    Deleted {
        revision: Revision,
        existed: bool,
    },
    /// `None`: the key is absent.
    Value {
        revision: Revision,
        found: Option<Found>,
    },
    /// One page, atomic at `revision`; `more`: keys lie behind the last one.
    Keys {
        revision: Revision,
        keys: Vec<Bytes>,
        more: bool,
    },
    Status(Box<Status>),
    Latency(Box<Latency>),
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub value: Value,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// 1 when the key was created, one more for each put since.
    pub version: u64,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub id: NodeId,
    pub cluster: String,
    pub role: Role,
    pub term: Term,
    pub leader: Option<Leader>,
    pub commit: LogIndex,
    pub applied: LogIndex,
    pub last: LogIndex,
    pub revision: Revision,
    pub keys: u64,
    /// Of the state at `applied`; nodes that applied the same have the same.
    pub digest: u64,
    pub peers: Vec<PeerStatus>,
    /// What is wrong with this node and what it does about it, a sentence each; empty when all is well.
    pub problems: Vec<String>,
    pub scrub: ScrubStatus,
    pub version: String,
    pub uptime: Duration,
    /// Whether it leads and answers reads without asking the others.
    pub holds_lease: bool,
}

/// How the reading of the log for damage goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    /// Full passes since the node started.
    pub passes: u64,
    /// Of the pass under way; equal when there is none.
    pub bytes_done: u64,
    pub bytes_total: u64,
    /// Places that were found damaged since the node started, by the start itself too.
    pub damaged: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub id: NodeId,
    pub address: Arc<str>,
    /// Empty when the peer is heard; otherwise why it is not. Silence on a link that is up is the leader's to notice.
    pub down_because: String,
    /// What the leader knows to be durable there; `None` when the answering node does not lead.
    pub matched: Option<LogIndex>,
    /// False when its directory is not the one that the cluster knows.
    pub counted: bool,
}
