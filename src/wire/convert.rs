//! Requests and replies between the client's vocabulary and the generated messages. Client frames and the frames in
//! which peers pass requests on share it.

use std::time::Duration;

use bytes::Bytes;

use super::frame::BadFrame;
use super::generated as proto;
use super::latency;
use crate::api::{
    Error, ErrorCode, Found, IfNotLeading, Leader, Outcome, PeerStatus, Reply, Request, ScrubStatus, Status,
};
use crate::base::limits::{FRAME_BYTES_MAX, RESULT_KEYS_MAX};
use crate::base::{LogIndex, NodeId, Operation, Revision, Role, Term};

/// A number from outside that will be counted on from: half the range is left, so that no sum overflows.
pub fn counter(what: &str, number: u64) -> Result<u64, BadFrame> {
    if number > u64::MAX / 2 {
        return Err(BadFrame::new(format!("{what} {number} is beyond anything that can be reached")));
    }
    Ok(number)
}

pub fn node_id(what: &str, number: u32) -> Result<NodeId, BadFrame> {
    NodeId::new(number).ok_or_else(|| BadFrame::new(format!("{what} is 0; a node's id is 1 or more")))
}

pub fn request_to_proto(id: u64, request: &Request, if_not_leading: IfNotLeading) -> proto::ClientRequest {
    use proto::client_request::Operation as Op;
    let by = match if_not_leading {
        IfNotLeading::Read => proto::ReadBy::Any.into(),
        IfNotLeading::Forward | IfNotLeading::Refuse => proto::ReadBy::Leader.into(),
    };
    let revision_number = |revision: &Option<Revision>| revision.map(|revision| revision.0);
    let operation = match request {
        Request::Write(Operation::Put { key, value }) => Op::Put(proto::Put { key: key.clone(), value: value.clone() }),
        Request::Write(Operation::Delete { key }) => Op::Delete(proto::Delete { key: key.clone() }),
        Request::Get { key, revision } => {
            Op::Get(proto::Get { key: key.clone(), revision: revision_number(revision), by })
        }
        Request::List { prefix, after, limit, revision } => Op::List(proto::List {
            prefix: prefix.clone(),
            after: after.clone(),
            limit: *limit as u64,
            revision: revision_number(revision),
            by,
        }),
        Request::Status => Op::Status(proto::AskStatus {}),
        Request::Scrub => Op::Scrub(proto::AskScrub {}),
        Request::Latency => Op::Latency(proto::AskLatency {}),
    };
    let no_forward = if_not_leading == IfNotLeading::Refuse;
    proto::ClientRequest { command: Bytes::new(), request_id: id, no_forward, operation: Some(operation) }
}

/// Who may answer a read stands with the read, and counts more than whether it may be passed on.
pub fn if_not_leading(request: &proto::ClientRequest) -> IfNotLeading {
    use proto::client_request::Operation as Op;
    match request.operation {
        Some(Op::Get(proto::Get { by, .. }) | Op::List(proto::List { by, .. })) if by == proto::ReadBy::Any as i32 => {
            IfNotLeading::Read
        }
        _ if request.no_forward => IfNotLeading::Refuse,
        _ => IfNotLeading::Forward,
    }
}

/// Not yet checked.
pub fn request_from_proto(operation: proto::client_request::Operation) -> Request {
    use proto::client_request::Operation as Op;
    match operation {
        Op::Put(proto::Put { key, value }) => Request::Write(Operation::Put { key, value }),
        Op::Delete(proto::Delete { key }) => Request::Write(Operation::Delete { key }),
        Op::Get(proto::Get { key, revision, .. }) => Request::Get { key, revision: revision.map(Revision) },
        Op::List(proto::List { prefix, after, limit, revision, .. }) => Request::List {
            prefix,
            after,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            revision: revision.map(Revision),
        },
        Op::Status(proto::AskStatus {}) => Request::Status,
        Op::Scrub(proto::AskScrub {}) => Request::Scrub,
        Op::Latency(proto::AskLatency {}) => Request::Latency,
    }
}

/// The answer in place of one that has more keys or bytes than an answer may.
pub fn result_too_large(reply: &Reply) -> Reply {
    let message = format!(
        "the answer would pass {FRAME_BYTES_MAX} bytes or {RESULT_KEYS_MAX} keys; ask for pages, with a limit and \
         the last key of the page before"
    );
    Reply::refused(ErrorCode::ResultTooLarge, message, reply.leader.clone())
}

pub fn has_too_many_keys(reply: &Reply) -> bool {
    matches!(&reply.result, Ok(Outcome::Keys { keys, .. }) if keys.len() > RESULT_KEYS_MAX)
}

pub fn reply_to_proto(id: u64, reply: &Reply) -> proto::ClientResponse {
    let mut response = proto::ClientResponse { request_id: id, ..proto::ClientResponse::default() };
    if let Some(leader) = &reply.leader {
        response.leader_hint = leader.id.get();
        response.leader_address = leader.address.to_string();
    }
    match &reply.result {
        Ok(outcome) => {
            response.success = true;
            response.revision = revision_of(outcome).0;
            response.outcome = Some(outcome_to_proto(outcome));
        }
        Err(error) => {
            response.error = Bytes::copy_from_slice(error.message.as_bytes());
            response.error_code = error.code as u32;
        }
    }
    response
}

fn revision_of(outcome: &Outcome) -> Revision {
    match outcome {
        Outcome::Put { revision }
        | Outcome::Deleted { revision, .. }
        | Outcome::Value { revision, .. }
        | Outcome::Keys { revision, .. } => *revision,
        Outcome::Status(status) => status.revision,
        // It speaks of no state.
        Outcome::Latency(_) => Revision(0),
    }
}

fn outcome_to_proto(outcome: &Outcome) -> proto::client_response::Outcome {
    use proto::client_response::Outcome as Out;
    match outcome {
        Outcome::Put { .. } => Out::Put(proto::PutDone {}),
        Outcome::Deleted { existed, .. } => Out::Deleted(proto::DeleteDone { existed: *existed }),
        Outcome::Value { found, .. } => Out::Got(proto::GetDone {
            found: found.as_ref().map(|found| proto::Found {
                value: found.value.clone().into(),
                create_revision: found.create_revision.0,
                mod_revision: found.mod_revision.0,
                version: found.version,
            }),
        }),
        Outcome::Keys { keys, more, .. } => Out::Listed(proto::ListDone { keys: keys.clone(), more: *more }),
        Outcome::Status(status) => Out::Status(Box::new(status_to_proto(status))),
        Outcome::Latency(said) => Out::Latency(latency::to_proto(said)),
    }
}

/// The request's id and the reply.
pub fn reply_from_proto(response: proto::ClientResponse) -> Result<(u64, Reply), BadFrame> {
    let leader =
        NodeId::new(response.leader_hint).map(|id| Leader { id, address: response.leader_address.as_str().into() });
    let result = match response.error_code {
        0 => {
            let outcome = response.outcome.ok_or_else(|| BadFrame::new("an answer with neither outcome nor error"))?;
            Ok(outcome_from_proto(Revision(response.revision), outcome)?)
        }
        number => Err(error_from_proto(number, &response.error)?),
    };
    Ok((response.request_id, Reply { result, leader }))
}

/// A code that this version does not know is read as the one that promises least.
fn error_from_proto(number: u32, message: &[u8]) -> Result<Error, BadFrame> {
    let message = std::str::from_utf8(message).map_err(|_| BadFrame::new("an error's sentence is not UTF-8"))?;
    Ok(match ErrorCode::from_number(number) {
        Some(code) => Error::new(code, message),
        None => Error::new(ErrorCode::OutcomeUnknown, format!("error {number}, unknown to this version: {message}")),
    })
}

fn outcome_from_proto(revision: Revision, outcome: proto::client_response::Outcome) -> Result<Outcome, BadFrame> {
    use proto::client_response::Outcome as Out;
    Ok(match outcome {
        Out::Put(proto::PutDone {}) => Outcome::Put { revision },
        Out::Deleted(proto::DeleteDone { existed }) => Outcome::Deleted { revision, existed },
        Out::Got(proto::GetDone { found }) => Outcome::Value {
            revision,
            found: found.map(|found| Found {
                value: found.value.into(),
                create_revision: Revision(found.create_revision),
                mod_revision: Revision(found.mod_revision),
                version: found.version,
            }),
        },
        Out::Listed(proto::ListDone { keys, more }) => Outcome::Keys { revision, keys, more },
        Out::Status(status) => Outcome::Status(Box::new(status_from_proto(*status)?)),
        Out::Latency(said) => Outcome::Latency(Box::new(latency::from_proto(said)?)),
    })
}

fn status_to_proto(status: &Status) -> proto::Status {
    let peers = status.peers.iter().map(|peer| proto::PeerStatus {
        id: peer.id.get(),
        address: peer.address.to_string(),
        down_because: peer.down_because.clone(),
        matched: peer.matched.map(|index| index.0),
        counted: peer.counted,
    });
    proto::Status {
        id: status.id.get(),
        cluster: status.cluster.clone(),
        role: role_to_proto(status.role).into(),
        term: status.term.0,
        leader: status.leader.as_ref().map_or(0, |leader| leader.id.get()),
        leader_address: status.leader.as_ref().map_or_else(String::new, |leader| leader.address.to_string()),
        commit: status.commit.0,
        applied: status.applied.0,
        last: status.last.0,
        revision: status.revision.0,
        keys: status.keys,
        peers: peers.collect(),
        version: status.version.clone(),
        problems: status.problems.clone(),
        scrub: Some(scrub_to_proto(status.scrub)),
        digest: status.digest,
        holds_lease: status.holds_lease,
        uptime_ms: u64::try_from(status.uptime.as_millis()).unwrap_or(u64::MAX),
    }
}

fn status_from_proto(status: proto::Status) -> Result<Status, BadFrame> {
    let peers = status.peers.into_iter().map(|peer| {
        Ok(PeerStatus {
            id: node_id("a peer's id", peer.id)?,
            address: peer.address.into(),
            down_because: peer.down_because,
            matched: peer.matched.map(LogIndex),
            counted: peer.counted,
        })
    });
    Ok(Status {
        id: node_id("the id in a status", status.id)?,
        cluster: status.cluster,
        role: role_from_proto(status.role)?,
        term: Term(status.term),
        leader: NodeId::new(status.leader).map(|id| Leader { id, address: status.leader_address.into() }),
        commit: LogIndex(status.commit),
        applied: LogIndex(status.applied),
        last: LogIndex(status.last),
        revision: Revision(status.revision),
        keys: status.keys,
        digest: status.digest,
        peers: peers.collect::<Result<_, BadFrame>>()?,
        problems: status.problems,
        scrub: status.scrub.map_or(ScrubStatus::default(), scrub_from_proto),
        version: status.version,
        uptime: Duration::from_millis(status.uptime_ms),
        holds_lease: status.holds_lease,
    })
}

fn scrub_to_proto(ScrubStatus { passes, bytes_done, bytes_total, damaged }: ScrubStatus) -> proto::ScrubStatus {
    proto::ScrubStatus { passes, bytes_done, bytes_total, damaged }
}

fn scrub_from_proto(
    proto::ScrubStatus { passes, bytes_done, bytes_total, damaged }: proto::ScrubStatus,
) -> ScrubStatus {
    ScrubStatus { passes, bytes_done, bytes_total, damaged }
}

fn role_to_proto(role: Role) -> proto::Role {
    match role {
        Role::Follower => proto::Role::Follower,
        Role::PreCandidate => proto::Role::PreCandidate,
        Role::Candidate => proto::Role::Candidate,
        Role::Leader => proto::Role::Leader,
        Role::Uncounted => proto::Role::Uncounted,
    }
}

fn role_from_proto(number: i32) -> Result<Role, BadFrame> {
    match proto::Role::try_from(number) {
        Ok(proto::Role::Follower) => Ok(Role::Follower),
        Ok(proto::Role::PreCandidate) => Ok(Role::PreCandidate),
        Ok(proto::Role::Candidate) => Ok(Role::Candidate),
        Ok(proto::Role::Leader) => Ok(Role::Leader),
        Ok(proto::Role::Uncounted) => Ok(Role::Uncounted),
        Ok(proto::Role::Unspecified) | Err(_) => Err(BadFrame::new(format!("role {number} is not one we know"))),
    }
}
