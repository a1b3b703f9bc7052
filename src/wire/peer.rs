//! What nodes say to each other: a hello both ways, then consensus messages and forwarded requests. Net thread.
//!
//! The hello establishes who is at the other end; every later message is held to it, so that nothing meant for
//! another node, or sent by one, is taken in. Whether a hello is acceptable is not decided here.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::frame::{BadFrame, put_frame};
use super::generated::{self as proto, consensus::Body as ProtoBody, peer_frame::Frame};
use super::{client, convert, walk};
use crate::api::{Reply, Request};
use crate::base::limits::{APPEND_ENTRIES_MAX, FRAME_BYTES_MAX, HELLO_BYTES_MAX};
use crate::base::{ClusterId, Entry, EntryKind, InstanceId, LogIndex, NodeId, Term};
use crate::raft::{Body, Message};

/// The first field of a hello: tag 1, fixed64, then eight bytes that no client's frame begins with.
const MAGIC: u64 = u64::from_le_bytes(*b"raftkv\0P");
const MAGIC_TAG: u8 = 0x09;

/// A node, as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: NodeId,
    /// The feature levels it speaks, from `level_min` to `level`.
    pub level: u32,
    pub level_min: u32,
    pub cluster_name: String,
    /// `None` while its log has none.
    pub cluster: Option<ClusterId>,
    pub instance: InstanceId,
    /// `HOST:PORT` where it can be reached.
    pub address: String,
}

/// What the node that dials says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub from: Identity,
    /// The node that it means to reach.
    pub to: NodeId,
}

/// The answer to a hello. After a refusal the connection closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloReply {
    pub from: Identity,
    /// Why not, as one sentence. `None`: welcome.
    pub refusal: Option<String>,
}

/// What comes after the hello, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerFrame {
    Raft(Message),
    /// A client's request for the leader of `term`; refused in any other.
    Forward {
        id: u64,
        term: Term,
        request: Request,
    },
    ForwardReply {
        id: u64,
        reply: Reply,
    },
}

pub(super) fn is_hello(frame: &[u8]) -> bool {
    frame.split_first().is_some_and(|(tag, rest)| *tag == MAGIC_TAG && rest.starts_with(&MAGIC.to_le_bytes()))
}

pub fn encode_hello(hello: &Hello, out: &mut BytesMut) {
    let from = Some(identity_to_proto(&hello.from));
    put_frame(&proto::PeerHello { magic: MAGIC, from, to: hello.to.get() }, out);
}

pub(super) fn decode_hello(frame: Bytes) -> Result<Hello, BadFrame> {
    check_hello(&frame)?;
    let hello = proto::PeerHello::decode(frame)?;
    Ok(Hello { from: identity_from_proto(hello.from)?, to: convert::node_id("the id that a hello is for", hello.to)? })
}

pub fn encode_hello_reply(reply: &HelloReply, out: &mut BytesMut) {
    let from = Some(identity_to_proto(&reply.from));
    put_frame(&proto::PeerHelloReply { magic: MAGIC, from, refusal: reply.refusal.clone() }, out);
}

pub fn decode_hello_reply(frame: Bytes) -> Result<HelloReply, BadFrame> {
    check_hello(&frame)?;
    let reply = proto::PeerHelloReply::decode(frame)?;
    Ok(HelloReply { from: identity_from_proto(reply.from)?, refusal: reply.refusal })
}

fn check_hello(frame: &[u8]) -> Result<(), BadFrame> {
    if !is_hello(frame) {
        return Err(BadFrame::new("not the hello of a raftkv node"));
    }
    if frame.len() > HELLO_BYTES_MAX {
        return Err(BadFrame::new(format!("a hello of {} bytes, the limit is {HELLO_BYTES_MAX}", frame.len())));
    }
    Ok(())
}

fn identity_to_proto(identity: &Identity) -> proto::PeerIdentity {
    proto::PeerIdentity {
        id: identity.id.get(),
        level: identity.level,
        level_min: identity.level_min,
        cluster_name: identity.cluster_name.clone(),
        cluster_id: identity.cluster.map(|cluster| Bytes::copy_from_slice(&cluster.0.to_be_bytes())),
        instance: Bytes::copy_from_slice(&identity.instance.0.to_be_bytes()),
        address: identity.address.clone(),
    }
}

fn identity_from_proto(identity: Option<proto::PeerIdentity>) -> Result<Identity, BadFrame> {
    let identity = identity.ok_or_else(|| BadFrame::new("a hello that does not say who it is from"))?;
    let cluster = identity.cluster_id.map(|bytes| sixteen_bytes("cluster id", &bytes)).transpose()?;
    Ok(Identity {
        id: convert::node_id("the id in a hello", identity.id)?,
        level: identity.level,
        level_min: identity.level_min,
        cluster_name: identity.cluster_name,
        cluster: cluster.map(ClusterId),
        instance: InstanceId(sixteen_bytes("instance id", &identity.instance)?),
        address: identity.address,
    })
}

fn sixteen_bytes(what: &str, bytes: &[u8]) -> Result<u128, BadFrame> {
    let array = bytes.try_into().map_err(|_| BadFrame::new(format!("a {what} of {} bytes; it has 16", bytes.len())))?;
    Ok(u128::from_be_bytes(array))
}

/// Appends a frame. A forwarded answer that would pass a limit says `result_too_large` instead.
pub fn encode_peer(frame: &PeerFrame, out: &mut BytesMut) {
    let message = match frame {
        PeerFrame::Raft(message) => Frame::Consensus(consensus_to_proto(message)),
        PeerFrame::Forward { id, term, request } => Frame::Forward(proto::Forward {
            id: *id,
            term: term.0,
            request: Some(convert::request_to_proto(0, request, false)),
        }),
        PeerFrame::ForwardReply { id, reply } => return encode_forward_reply(*id, reply, out),
    };
    put_frame(&proto::PeerFrame { frame: Some(message) }, out);
}

fn encode_forward_reply(id: u64, reply: &Reply, out: &mut BytesMut) {
    let message = (!convert::has_too_many_keys(reply)).then(|| {
        let reply = proto::ForwardReply { id, reply: Some(convert::reply_to_proto(0, reply)) };
        proto::PeerFrame { frame: Some(Frame::ForwardReply(reply)) }
    });
    match message.filter(|message| message.encoded_len() <= FRAME_BYTES_MAX) {
        Some(message) => put_frame(&message, out),
        None => encode_forward_reply(id, &convert::result_too_large(reply), out),
    }
}

/// `from`, `to` and `instance` are what the link's hello said; a message that names others is refused.
pub fn decode_peer(frame: Bytes, from: NodeId, to: NodeId, instance: InstanceId) -> Result<PeerFrame, BadFrame> {
    check_counts(&frame)?;
    let message = proto::PeerFrame::decode(frame)?;
    match message.frame.ok_or_else(|| BadFrame::new("a peer's frame of a kind that this version does not know"))? {
        Frame::Consensus(message) => {
            if (message.from, message.to) != (from.get(), to.get()) {
                let (sender, receiver) = (message.from, message.to);
                return Err(BadFrame::new(format!(
                    "a message from node {sender} to node {receiver} on the link from node {from} to node {to}"
                )));
            }
            let term = Term(convert::counter("term", message.term)?);
            Ok(PeerFrame::Raft(Message { from, to, instance, term, body: body_from_proto(message.body)? }))
        }
        Frame::Forward(proto::Forward { id, term, request }) => {
            let request = request.ok_or_else(|| BadFrame::new("a forwarded request that is empty"))?;
            let request = client::typed_request(request).and_then(client::checked);
            let request = request.map_err(|error| BadFrame::new(format!("a forwarded request: {error}")))?;
            Ok(PeerFrame::Forward { id, term: Term(convert::counter("term", term)?), request })
        }
        Frame::ForwardReply(proto::ForwardReply { id, reply }) => {
            let reply = reply.ok_or_else(|| BadFrame::new("a forwarded answer that is empty"))?;
            Ok(PeerFrame::ForwardReply { id, reply: convert::reply_from_proto(reply)?.1 })
        }
    }
}

fn check_counts(frame: &[u8]) -> Result<(), BadFrame> {
    // Field numbers of `proto/raftkv.proto`: consensus, append, entries; forward_reply, reply.
    const ENTRIES: [u32; 3] = [1, 8, 3];
    const REPLY: [u32; 2] = [3, 2];
    let entries = walk::count(frame, &ENTRIES);
    if entries > APPEND_ENTRIES_MAX {
        return Err(BadFrame::new(format!("a message of {entries} entries, the limit is {APPEND_ENTRIES_MAX}")));
    }
    client::check_response_counts(frame, &REPLY)
}

fn consensus_to_proto(message: &Message) -> proto::Consensus {
    proto::Consensus {
        from: message.from.get(),
        to: message.to.get(),
        term: message.term.0,
        body: Some(body_to_proto(&message.body)),
    }
}

fn body_to_proto(body: &Body) -> ProtoBody {
    match *body {
        Body::PreVote { proposed, last_index, last_term } => ProtoBody::PreVote(proto::PreVote {
            proposed: proposed.0,
            last_index: last_index.0,
            last_term: last_term.0,
        }),
        Body::PreVoteReply { proposed, granted, log_is_empty } => {
            ProtoBody::PreVoteReply(proto::PreVoteReply { proposed: proposed.0, granted, log_is_empty })
        }
        Body::Vote { last_index, last_term, transfer } => {
            ProtoBody::Vote(proto::Vote { last_index: last_index.0, last_term: last_term.0, transfer })
        }
        Body::VoteReply { granted, log_is_empty } => ProtoBody::VoteReply(proto::VoteReply { granted, log_is_empty }),
        Body::Append { prev_index, prev_term, ref entries, commit, round } => ProtoBody::Append(proto::Append {
            prev_index: prev_index.0,
            prev_term: prev_term.0,
            entries: entries.iter().map(entry_to_proto).collect(),
            commit: commit.0,
            round,
        }),
        Body::AppendAccepted { matched, round } => {
            ProtoBody::AppendAccepted(proto::AppendAccepted { matched: matched.0, round })
        }
        Body::AppendRejected { prev_index, hint_index, hint_term, round } => {
            ProtoBody::AppendRejected(proto::AppendRejected {
                prev_index: prev_index.0,
                hint_index: hint_index.0,
                hint_term: hint_term.0,
                round,
            })
        }
        Body::Heartbeat { commit, round } => ProtoBody::Heartbeat(proto::Heartbeat { commit: commit.0, round }),
        Body::HeartbeatReply { round } => ProtoBody::HeartbeatReply(proto::HeartbeatReply { round }),
    }
}

fn entry_to_proto(entry: &Entry) -> proto::Entry {
    proto::Entry { index: entry.index.0, term: entry.term.0, kind: entry.kind as u32, data: entry.data.clone() }
}

fn index(number: u64) -> Result<LogIndex, BadFrame> {
    convert::counter("log index", number).map(LogIndex)
}

fn term(number: u64) -> Result<Term, BadFrame> {
    convert::counter("term", number).map(Term)
}

fn round(number: u64) -> Result<u64, BadFrame> {
    convert::counter("round", number)
}

fn body_from_proto(body: Option<ProtoBody>) -> Result<Body, BadFrame> {
    let body = body.ok_or_else(|| BadFrame::new("a consensus message of a kind that this version does not know"))?;
    Ok(match body {
        ProtoBody::PreVote(m) => Body::PreVote {
            proposed: term(m.proposed)?,
            last_index: index(m.last_index)?,
            last_term: term(m.last_term)?,
        },
        ProtoBody::PreVoteReply(m) => {
            Body::PreVoteReply { proposed: term(m.proposed)?, granted: m.granted, log_is_empty: m.log_is_empty }
        }
        ProtoBody::Vote(m) => {
            Body::Vote { last_index: index(m.last_index)?, last_term: term(m.last_term)?, transfer: m.transfer }
        }
        ProtoBody::VoteReply(m) => Body::VoteReply { granted: m.granted, log_is_empty: m.log_is_empty },
        ProtoBody::Append(m) => append_from_proto(m)?,
        ProtoBody::AppendAccepted(m) => Body::AppendAccepted { matched: index(m.matched)?, round: round(m.round)? },
        ProtoBody::AppendRejected(m) => Body::AppendRejected {
            prev_index: index(m.prev_index)?,
            hint_index: index(m.hint_index)?,
            hint_term: term(m.hint_term)?,
            round: round(m.round)?,
        },
        ProtoBody::Heartbeat(m) => Body::Heartbeat { commit: index(m.commit)?, round: round(m.round)? },
        ProtoBody::HeartbeatReply(m) => Body::HeartbeatReply { round: round(m.round)? },
    })
}

fn append_from_proto(append: proto::Append) -> Result<Body, BadFrame> {
    let prev_index = index(append.prev_index)?;
    let mut expected = prev_index;
    let entries = append.entries.into_iter().map(|entry| {
        expected = expected.next();
        if entry.index != expected.0 {
            return Err(BadFrame::new(format!("entry {} where entry {expected} follows", entry.index)));
        }
        entry_from_proto(entry)
    });
    Ok(Body::Append {
        prev_index,
        prev_term: term(append.prev_term)?,
        entries: entries.collect::<Result<_, _>>()?,
        commit: index(append.commit)?,
        round: round(append.round)?,
    })
}

fn entry_from_proto(entry: proto::Entry) -> Result<Entry, BadFrame> {
    let kind = EntryKind::from_number(entry.kind)
        .ok_or_else(|| BadFrame::new(format!("an entry of kind {}, which this version does not know", entry.kind)))?;
    Ok(Entry { index: index(entry.index)?, term: term(entry.term)?, kind, data: entry.data })
}
