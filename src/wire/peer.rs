//! What nodes say to each other: a hello both ways, then consensus messages and forwarded requests. Net thread.
//!
//! The hello establishes who is at the other end; every later message is held to it, so that nothing meant for
//! another node, or sent by one, is taken in. Whether a hello is acceptable is not decided here.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::frame::{BadFrame, put_frame};
use super::generated::{self as proto, consensus::Body as ProtoBody, peer_frame::Frame};
use super::{client, convert, walk};
use crate::api::{IfNotLeading, Reply, Request};
use crate::base::limits::{
    APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, ENTRY_OVERHEAD_BYTES, FRAME_BYTES_MAX, HELLO_BYTES_MAX, PROMISE_MAX,
    REFILL_ENTRIES_MAX,
};
use crate::base::{ClusterId, Entry, EntryKind, InstanceId, LogIndex, NodeId, Space, Term};
use crate::guard::{Guard, removed};
use crate::raft::{Absence, Barrier, Body, Check, EntryId, Message, StateDigest};

/// The first field of a hello: tag 1, fixed64, then eight bytes that no client's frame begins with.
const MAGIC: u64 = u64::from_le_bytes(*b"raftkv\0P");
const MAGIC_TAG: u8 = 0x09;

// Every entry costs this much: whoever cuts appends at their bytes never passes the limit on their number.
const _: () = assert!(APPEND_BYTES_MAX / ENTRY_OVERHEAD_BYTES < APPEND_ENTRIES_MAX);

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
    pub address: Arc<str>,
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
        address: identity.address.to_string(),
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
        address: identity.address.into(),
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
            request: Some(convert::request_to_proto(0, request, IfNotLeading::Refuse)),
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
            let is_theirs = (message.from, message.to) == (from.get(), to.get());
            if !is_theirs && !removed(Guard::PeerMessageOfAnother) {
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
    // Field numbers of `proto/raftkv.proto`.
    const CONSENSUS: &[u32] = &[1];
    const FORWARDED_REPLY: &[u32] = &[3, 2];
    const APPENDED: &[u32] = &[8, 3];
    const WANTED: &[u32] = &[13, 1];
    const REFILLED: &[u32] = &[14, 1];
    const ABSENT: &[u32] = &[14, 2];
    let [appended, refill @ ..] = walk::counts(frame, CONSENSUS, [APPENDED, WANTED, REFILLED, ABSENT]);
    if appended > APPEND_ENTRIES_MAX {
        return Err(BadFrame::new(format!("a message of {appended} entries, the limit is {APPEND_ENTRIES_MAX}")));
    }
    if let Some(count) = refill.into_iter().find(|count| *count > REFILL_ENTRIES_MAX) {
        return Err(BadFrame::new(format!("a refill of {count} entries, the limit is {REFILL_ENTRIES_MAX}")));
    }
    client::check_response_counts(frame, FORWARDED_REPLY)
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
        Body::PreVoteReply { proposed, granted, log_is_empty, suspect } => {
            ProtoBody::PreVoteReply(proto::PreVoteReply { proposed: proposed.0, granted, log_is_empty, suspect })
        }
        Body::Vote { last_index, last_term, transfer } => {
            ProtoBody::Vote(proto::Vote { last_index: last_index.0, last_term: last_term.0, transfer })
        }
        Body::VoteReply { granted, log_is_empty, suspect } => {
            ProtoBody::VoteReply(proto::VoteReply { granted, log_is_empty, suspect })
        }
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
        Body::AppendRejected { prev_index, hint_index, hint_term, round, suspect } => {
            ProtoBody::AppendRejected(proto::AppendRejected {
                prev_index: prev_index.0,
                hint_index: hint_index.0,
                hint_term: hint_term.0,
                round,
                suspect,
            })
        }
        Body::Heartbeat { commit, round, check, promise_ms } => ProtoBody::Heartbeat(proto::Heartbeat {
            commit: commit.0,
            round,
            asked_index: check.asked.0,
            agreed: check.agreed.map(digest_to_proto),
            promise_ms,
        }),
        Body::HeartbeatReply { round, digest, space, promise_ms } => {
            let (digest, space) = (digest.map(digest_to_proto), space as u32);
            ProtoBody::HeartbeatReply(proto::HeartbeatReply { round, digest, space, promise_ms })
        }
        Body::ReadIndex { token } => ProtoBody::ReadIndex(proto::ReadIndex { token }),
        Body::ReadIndexReply { token, index } => {
            ProtoBody::ReadIndexReply(proto::ReadIndexReply { token, index: index.0 })
        }
        Body::Refill { ref wanted, nonce } => {
            let wanted = wanted.iter().map(|id| proto::EntryId { index: id.index.0, term: id.term.0 });
            ProtoBody::Refill(proto::Refill { wanted: wanted.collect(), nonce })
        }
        Body::Refilled { ref entries, ref absent, barrier } => ProtoBody::Refilled(proto::Refilled {
            entries: entries.iter().map(entry_to_proto).collect(),
            absent: absent.iter().map(absent_to_proto).collect(),
            barrier: barrier.map(|Barrier { nonce, index }| proto::Barrier { nonce, index: index.0 }),
        }),
    }
}

fn absent_to_proto((id, absence): &(EntryId, Absence)) -> proto::Absent {
    proto::Absent { index: id.index.0, term: id.term.0, absence: *absence as u32 }
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

/// No node asks for a longer one, or grants it.
fn promise(milliseconds: u32) -> Result<u32, BadFrame> {
    let longest = PROMISE_MAX.as_millis();
    if u128::from(milliseconds) > longest {
        return Err(BadFrame::new(format!("a promise of {milliseconds} ms, the limit is {longest}")));
    }
    Ok(milliseconds)
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
            let proto::PreVoteReply { granted, log_is_empty, suspect, .. } = m;
            Body::PreVoteReply { proposed: term(m.proposed)?, granted, log_is_empty, suspect }
        }
        ProtoBody::Vote(m) => {
            Body::Vote { last_index: index(m.last_index)?, last_term: term(m.last_term)?, transfer: m.transfer }
        }
        ProtoBody::VoteReply(proto::VoteReply { granted, log_is_empty, suspect }) => {
            Body::VoteReply { granted, log_is_empty, suspect }
        }
        ProtoBody::Append(m) => append_from_proto(m)?,
        ProtoBody::AppendAccepted(m) => Body::AppendAccepted { matched: index(m.matched)?, round: round(m.round)? },
        ProtoBody::AppendRejected(m) => Body::AppendRejected {
            prev_index: index(m.prev_index)?,
            hint_index: index(m.hint_index)?,
            hint_term: term(m.hint_term)?,
            round: round(m.round)?,
            suspect: m.suspect,
        },
        ProtoBody::Heartbeat(m) => Body::Heartbeat {
            commit: index(m.commit)?,
            round: round(m.round)?,
            check: Check { asked: index(m.asked_index)?, agreed: m.agreed.map(digest_from_proto).transpose()? },
            promise_ms: promise(m.promise_ms)?,
        },
        ProtoBody::HeartbeatReply(m) => Body::HeartbeatReply {
            round: round(m.round)?,
            digest: m.digest.map(digest_from_proto).transpose()?,
            space: space_from_proto(m.space)?,
            promise_ms: promise(m.promise_ms)?,
        },
        ProtoBody::ReadIndex(proto::ReadIndex { token }) => Body::ReadIndex { token },
        ProtoBody::ReadIndexReply(m) => Body::ReadIndexReply { token: m.token, index: index(m.index)? },
        ProtoBody::Refill(m) => Body::Refill {
            wanted: m.wanted.into_iter().map(|id| entry_id(id.index, id.term)).collect::<Result<_, _>>()?,
            nonce: m.nonce,
        },
        ProtoBody::Refilled(m) => Body::Refilled {
            entries: m.entries.into_iter().map(entry_from_proto).collect::<Result<_, _>>()?,
            absent: m.absent.into_iter().map(absent_from_proto).collect::<Result<_, _>>()?,
            barrier: m.barrier.map(barrier_from_proto).transpose()?,
        },
    })
}

fn entry_id(index_number: u64, term_number: u64) -> Result<EntryId, BadFrame> {
    Ok(EntryId { index: index(index_number)?, term: term(term_number)? })
}

fn absent_from_proto(absent: proto::Absent) -> Result<(EntryId, Absence), BadFrame> {
    let absence = match absent.absence {
        number if number == Absence::Never as u32 => Absence::Never,
        number if number == Absence::Replaced as u32 => Absence::Replaced,
        number if number == Absence::Lost as u32 => Absence::Lost,
        number => return Err(BadFrame::new(format!("an absence of kind {number}, which this version does not know"))),
    };
    Ok((entry_id(absent.index, absent.term)?, absence))
}

fn digest_to_proto(StateDigest { index, digest }: StateDigest) -> proto::StateDigest {
    proto::StateDigest { index: index.0, digest }
}

fn digest_from_proto(digest: proto::StateDigest) -> Result<StateDigest, BadFrame> {
    Ok(StateDigest { index: index(digest.index)?, digest: digest.digest })
}

fn space_from_proto(number: u32) -> Result<Space, BadFrame> {
    let unknown = || BadFrame::new(format!("room of kind {number}, which this version does not know"));
    Space::from_number(number).ok_or_else(unknown)
}

fn barrier_from_proto(barrier: proto::Barrier) -> Result<Barrier, BadFrame> {
    Ok(Barrier { nonce: barrier.nonce, index: index(barrier.index)? })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ErrorCode, Outcome};
    use crate::base::limits::{ENTRY_DATA_BYTES_MAX, KEY_BYTES_MAX};
    use crate::base::{Random, Revision};
    use crate::wire::testing::{self, FROM, INSTANCE, TO, only_frame};
    use crate::wire::{FirstFrame, decode_first};

    fn encoded(frame: &PeerFrame) -> Bytes {
        let mut out = BytesMut::new();
        encode_peer(frame, &mut out);
        only_frame(out)
    }

    fn decoded(frame: Bytes) -> Result<PeerFrame, BadFrame> {
        decode_peer(frame, FROM, TO, INSTANCE)
    }

    fn message(body: Body) -> PeerFrame {
        PeerFrame::Raft(Message { from: FROM, to: TO, instance: INSTANCE, term: Term(1), body })
    }

    fn append(prev_index: u64, indexes: &[u64]) -> PeerFrame {
        let entry = |index: &u64| Entry {
            index: LogIndex(*index),
            term: Term(1),
            kind: EntryKind::Commands,
            data: Bytes::from_static(b"data"),
        };
        message(Body::Append {
            prev_index: LogIndex(prev_index),
            prev_term: Term(1),
            entries: indexes.iter().map(entry).collect(),
            commit: LogIndex(1),
            round: 1,
        })
    }

    #[test]
    fn hellos_and_peer_frames_arrive_as_they_were_sent() {
        for seed in 0..2000 {
            let random = &mut Random::new(seed);
            let (hello, reply) = (testing::hello(random), testing::hello_reply(random));
            let mut out = BytesMut::new();
            encode_hello(&hello, &mut out);
            assert_eq!(decode_first(only_frame(out)), Ok(FirstFrame::Hello(hello)), "seed {seed}");
            let mut out = BytesMut::new();
            encode_hello_reply(&reply, &mut out);
            assert_eq!(decode_hello_reply(only_frame(out)), Ok(reply), "seed {seed}");
            let frame = testing::peer_frame(random);
            assert_eq!(decoded(encoded(&frame)), Ok(frame), "seed {seed}");
        }
    }

    #[test]
    fn a_message_for_another_node_or_from_another_is_refused() {
        let frame =
            encoded(&message(Body::HeartbeatReply { round: 1, digest: None, space: Space::Plenty, promise_ms: 0 }));
        assert!(decode_peer(frame.clone(), FROM, TO, INSTANCE).is_ok());
        let other = testing::node(9);
        assert!(decode_peer(frame.clone(), other, TO, INSTANCE).is_err());
        assert!(decode_peer(frame.clone(), FROM, other, INSTANCE).is_err());
        let error = decode_peer(frame, TO, FROM, INSTANCE).unwrap_err().to_string();
        assert!(error.contains("from node 2 to node 300 on the link from node 300 to node 2"), "{error}");
    }

    #[test]
    fn entries_that_are_not_consecutive_are_refused() {
        assert!(decoded(encoded(&append(4, &[5, 6]))).is_ok());
        for indexes in [&[5, 7][..], &[6], &[4], &[5, 5], &[5, 4]] {
            assert!(decoded(encoded(&append(4, indexes))).is_err(), "{indexes:?}");
        }
    }

    #[test]
    fn numbers_from_which_counting_on_would_overflow_are_refused() {
        let too_high = u64::MAX / 2 + 1;
        for frame in [
            append(too_high, &[]),
            append(u64::MAX, &[0]),
            message(Body::Heartbeat { commit: LogIndex(u64::MAX), round: 1, check: Check::default(), promise_ms: 0 }),
            message(Body::HeartbeatReply { round: too_high, digest: None, space: Space::Plenty, promise_ms: 0 }),
            message(Body::Vote { last_index: LogIndex(1), last_term: Term(too_high), transfer: false }),
            PeerFrame::Forward { id: 1, term: Term(too_high), request: Request::Status },
        ] {
            assert!(decoded(encoded(&frame)).is_err(), "{frame:?}");
        }
    }

    #[test]
    fn a_promise_that_is_longer_than_any_is_refused() {
        let (commit, check, space) = (LogIndex(1), Check::default(), Space::Plenty);
        let longest = PROMISE_MAX.as_millis() as u32;
        for (promise_ms, taken) in [(longest, true), (longest + 1, false), (u32::MAX, false)] {
            let asked = message(Body::Heartbeat { commit, round: 1, check, promise_ms });
            let granted = message(Body::HeartbeatReply { round: 1, digest: None, space, promise_ms });
            assert_eq!(decoded(encoded(&asked)).is_ok(), taken, "{promise_ms}");
            assert_eq!(decoded(encoded(&granted)).is_ok(), taken, "{promise_ms}");
        }
    }

    #[test]
    fn more_entries_than_an_append_may_hold_are_refused() {
        let indexes: Vec<u64> = (1..=APPEND_ENTRIES_MAX as u64 + 1).collect();
        assert!(decoded(encoded(&append(0, &indexes[..APPEND_ENTRIES_MAX]))).is_ok());
        let error = decoded(encoded(&append(0, &indexes))).unwrap_err().to_string();
        assert!(error.contains("65537 entries, the limit is 65536"), "{error}");
    }

    #[test]
    fn the_largest_entry_fits_a_frame_and_shares_its_memory() {
        let entry = Entry {
            index: LogIndex(1),
            term: Term(1),
            kind: EntryKind::Commands,
            data: Bytes::from(vec![7; ENTRY_DATA_BYTES_MAX]),
        };
        let (prev_index, prev_term, commit) = (LogIndex(0), Term(0), LogIndex(0));
        let frame = encoded(&message(Body::Append { prev_index, prev_term, entries: vec![entry], commit, round: 0 }));
        assert!(frame.len() <= FRAME_BYTES_MAX);
        let memory = frame.as_ptr_range();
        let Ok(PeerFrame::Raft(Message { body: Body::Append { entries, .. }, .. })) = decoded(frame.clone()) else {
            panic!("an append");
        };
        assert!(memory.contains(&entries[0].data.as_ptr()));
    }

    #[test]
    fn a_forwarded_request_is_checked_as_a_clients_is() {
        let request = Request::Get { key: Bytes::from(vec![0; KEY_BYTES_MAX + 1]), revision: None };
        let error = decoded(encoded(&PeerFrame::Forward { id: 1, term: Term(1), request })).unwrap_err().to_string();
        assert!(error.contains("key_too_large"), "{error}");
    }

    #[test]
    fn a_forwarded_answer_that_passes_the_frame_says_so_instead() {
        let keys = vec![Bytes::from(vec![b'k'; KEY_BYTES_MAX]); FRAME_BYTES_MAX / KEY_BYTES_MAX];
        let result = Ok(Outcome::Keys { revision: Revision(1), keys, more: false });
        let frame = PeerFrame::ForwardReply { id: 1, reply: Reply { result, leader: None } };
        let Ok(PeerFrame::ForwardReply { id: 1, reply }) = decoded(encoded(&frame)) else { panic!("an answer") };
        assert_eq!(reply.result.unwrap_err().code, ErrorCode::ResultTooLarge);
    }

    #[test]
    fn a_hello_is_refused_without_its_magic_or_when_it_is_too_long() {
        let mut hello = testing::hello(&mut Random::new(1));
        let mut out = BytesMut::new();
        encode_hello(&hello, &mut out);
        let mut frame = only_frame(out).to_vec();
        frame[3] ^= 1;
        assert!(decode_first(frame.into()).is_err());
        hello.from.cluster_name = "x".repeat(HELLO_BYTES_MAX);
        let mut out = BytesMut::new();
        encode_hello(&hello, &mut out);
        assert!(decode_first(only_frame(out)).unwrap_err().to_string().contains("the limit is 4096"));
    }

    #[test]
    fn ids_of_another_length_are_refused() {
        let identity = testing::hello(&mut Random::new(1)).from;
        for (cluster_bytes, instance_bytes) in [(15, 16), (0, 16), (16, 17), (16, 0)] {
            let mut from = identity_to_proto(&identity);
            from.cluster_id = Some(vec![0; cluster_bytes].into());
            from.instance = vec![0; instance_bytes].into();
            let frame = proto::PeerHello { magic: MAGIC, from: Some(from), to: 1 }.encode_to_vec();
            assert!(decode_first(frame.into()).is_err(), "{cluster_bytes} and {instance_bytes} bytes");
        }
    }
}
