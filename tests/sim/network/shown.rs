//! What travels, on one line, for who reads a trace.

use std::fmt;

use bytes::Bytes;
use raftkv::api::Request;
use raftkv::base::Operation;
use raftkv::net::FromNet;
use raftkv::raft::Body;

/// An event on one line.
pub struct Shown<'a>(pub &'a FromNet);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FromNet::Raft { message } => match &message.body {
                Body::Append { prev_index, prev_term, entries, commit, .. } => {
                    let (count, term) = (entries.len(), message.term);
                    write!(f, "term {term} Append {count} behind ({prev_index}, {prev_term}), commit {commit}")
                }
                body => write!(f, "term {} {body:?}", message.term),
            },
            FromNet::Forwarded { id, term, request, .. } => {
                write!(f, "forward {id} for term {term}: {}", Brief(request))
            }
            FromNet::ForwardReply { id, reply, .. } => write!(f, "answer to forward {id}: {:?}", reply.result),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A request on one line.
pub struct Brief<'a>(pub &'a Request);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned();
        match self.0 {
            Request::Write(Operation::Put { key, value }) => write!(f, "put {} {}", text(key), text(value)),
            Request::Write(Operation::Delete { key }) => write!(f, "delete {}", text(key)),
            Request::Get { key, .. } => write!(f, "get {}", text(key)),
            Request::List { after, limit, .. } => write!(f, "list {limit} after {:?}", after.as_ref().map(text)),
            Request::Status | Request::Scrub | Request::Latency => write!(f, "status"),
        }
    }
}
