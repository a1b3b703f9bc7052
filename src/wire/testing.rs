//! Seeded values of every kind that crosses the wire. Tests only: those here, and those in `tests/fuzz`, which take
//! this file in by its path.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Hello, HelloReply, Identity, PeerFrame};
use crate::api::{
    Error, ErrorCode, Found, IfNotLeading, Latency, Leader, Outcome, PeerStatus, Percentiles, ReadBy, Reply, Request,
    ScrubStatus, StageLatency, Status,
};
use crate::base::{
    ClusterId, Command, Entry, EntryKind, Envelope, InstanceId, LogIndex, NodeId, Operation, Random, Revision, Role,
    Space, Stage, Term,
};
use crate::raft::{Absence, Barrier, Body, Check, EntryId, Message, StateDigest};

pub const FROM: NodeId = node(2);
pub const TO: NodeId = node(300);
pub const INSTANCE: InstanceId = InstanceId(7 << 90);

pub const fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

/// The one frame in `out`, without its length.
pub fn only_frame(mut out: BytesMut) -> Bytes {
    let frame = super::take_frame(&mut out, usize::MAX).unwrap().expect("one whole frame");
    assert!(out.is_empty(), "more than one frame");
    frame
}

/// Small numbers, and those at the ends of ranges; never beyond what a counter may be.
pub fn number(random: &mut Random) -> u64 {
    let edges = [0, 1, 127, 128, u64::from(u32::MAX), 1 << 32, u64::MAX / 2];
    match random.below(2) {
        0 => random.below(1000),
        _ => edges[random.below(edges.len() as u64) as usize],
    }
}

/// Of bytes that mean something to some decoder, and any others.
pub fn bytes(random: &mut Random, length_min: u64) -> Bytes {
    const TELLING: &[u8] = b"\0\x01 \"\\(\n\r\t\x1b\x7f\x80\xc2\x85\xffENDERROKx";
    let length = length_min + random.below(12);
    let byte = |random: &mut Random| match random.below(2) {
        0 => TELLING[random.below(TELLING.len() as u64) as usize],
        _ => random.next() as u8,
    };
    (0..length).map(|_| byte(random)).collect()
}

pub fn flag(random: &mut Random) -> bool {
    random.below(2) == 0
}

fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    flag(random).then(|| make(random))
}

fn several<T>(random: &mut Random, make: impl FnMut(&mut Random) -> T) -> Vec<T> {
    let mut make = make;
    (0..random.below(4)).map(|_| make(random)).collect()
}

fn text(random: &mut Random) -> String {
    String::from_utf8_lossy(&bytes(random, 0)).into_owned()
}

fn any_node(random: &mut Random) -> NodeId {
    NodeId::new(1 + random.below(u64::from(u32::MAX)) as u32).unwrap()
}

fn revision(random: &mut Random) -> Revision {
    Revision(number(random))
}

pub fn operation(random: &mut Random) -> Operation {
    let key = bytes(random, 1);
    match random.below(2) {
        0 => Operation::Put { key, value: bytes(random, 0) },
        _ => Operation::Delete { key },
    }
}

pub fn request(random: &mut Random) -> Request {
    match random.below(7) {
        0 | 1 => Request::Write(operation(random)),
        2 => Request::Get { key: bytes(random, 1), revision: maybe(random, revision) },
        3 => Request::List {
            prefix: bytes(random, 0),
            after: maybe(random, |random| bytes(random, 0)),
            limit: number(random) as usize,
            revision: maybe(random, revision),
        },
        4 => Request::Scrub,
        5 => Request::Latency,
        _ => Request::Status,
    }
}

/// What can be asked for with `request`.
pub fn if_not_leading(random: &mut Random, request: &Request) -> IfNotLeading {
    match random.below(3) {
        0 => IfNotLeading::Refuse,
        1 => IfNotLeading::Forward,
        _ => ReadBy::Any.if_not_leading(request),
    }
}

fn leader(random: &mut Random) -> Leader {
    Leader { id: any_node(random), address: text(random).into() }
}

pub fn reply(random: &mut Random) -> Reply {
    let result = match random.below(4) {
        0 => {
            let code = ErrorCode::ALL[random.below(ErrorCode::ALL.len() as u64) as usize];
            Err(Error::new(code, text(random)))
        }
        _ => Ok(outcome(random)),
    };
    Reply { result, leader: maybe(random, leader) }
}

fn outcome(random: &mut Random) -> Outcome {
    let at = revision(random);
    match random.below(6) {
        0 => Outcome::Put { revision: at },
        1 => Outcome::Deleted { revision: at, existed: flag(random) },
        2 => Outcome::Value {
            revision: at,
            found: maybe(random, |random| Found {
                value: bytes(random, 0).into(),
                create_revision: revision(random),
                mod_revision: revision(random),
                version: number(random),
            }),
        },
        3 => Outcome::Keys { revision: at, keys: several(random, |random| bytes(random, 1)), more: flag(random) },
        4 => Outcome::Latency(Box::new(latency(random))),
        _ => Outcome::Status(Box::new(status(random))),
    }
}

fn latency(random: &mut Random) -> Latency {
    let percentiles = |random: &mut Random| {
        let lengths: [Duration; 5] = std::array::from_fn(|_| Duration::from_nanos(number(random)));
        let [p50, p90, p99, p999, max] = lengths;
        Percentiles { count: number(random), p50, p90, p99, p999, max }
    };
    let stage = |random: &mut Random| StageLatency {
        stage: Stage::ALL[random.below(Stage::ALL.len() as u64) as usize],
        peer: maybe(random, any_node),
        lately: percentiles(random),
        total: percentiles(random),
    };
    Latency { id: any_node(random), stages: several(random, stage) }
}

pub fn status(random: &mut Random) -> Status {
    let roles = [Role::Follower, Role::PreCandidate, Role::Candidate, Role::Leader, Role::Uncounted];
    let peer = |random: &mut Random| PeerStatus {
        id: any_node(random),
        address: text(random).into(),
        down_because: text(random),
        matched: maybe(random, |random| LogIndex(number(random))),
        counted: flag(random),
    };
    Status {
        id: any_node(random),
        cluster: text(random),
        role: roles[random.below(5) as usize],
        term: Term(number(random)),
        leader: maybe(random, leader),
        commit: LogIndex(number(random)),
        applied: LogIndex(number(random)),
        last: LogIndex(number(random)),
        revision: revision(random),
        keys: number(random),
        digest: number(random),
        peers: several(random, peer),
        problems: several(random, text),
        scrub: ScrubStatus {
            passes: number(random),
            bytes_done: number(random),
            bytes_total: number(random),
            damaged: number(random),
        },
        version: text(random),
        uptime: Duration::from_millis(number(random)),
        holds_lease: flag(random),
    }
}

fn identity(random: &mut Random) -> Identity {
    Identity {
        id: any_node(random),
        level: random.next() as u32,
        level_min: random.next() as u32,
        cluster_name: text(random),
        cluster: maybe(random, |random| ClusterId(u128::from(random.next()) << 64 | u128::from(random.next()))),
        instance: InstanceId(u128::from(random.next()) << 64 | u128::from(random.next())),
        address: text(random).into(),
    }
}

pub fn hello(random: &mut Random) -> Hello {
    Hello { from: identity(random), to: any_node(random) }
}

pub fn hello_reply(random: &mut Random) -> HelloReply {
    HelloReply { from: identity(random), refusal: maybe(random, text) }
}

/// On the link from [`FROM`] to [`TO`].
pub fn peer_frame(random: &mut Random) -> PeerFrame {
    match random.below(4) {
        0 => PeerFrame::Forward { id: random.next(), term: Term(number(random)), request: request(random) },
        1 => PeerFrame::ForwardReply { id: random.next(), reply: reply(random) },
        _ => PeerFrame::Raft(message(random)),
    }
}

pub fn message(random: &mut Random) -> Message {
    Message { from: FROM, to: TO, instance: INSTANCE, term: Term(number(random)), body: body(random) }
}

fn body(random: &mut Random) -> Body {
    let term = |random: &mut Random| Term(number(random));
    let index = |random: &mut Random| LogIndex(number(random));
    match random.below(13) {
        0 => Body::PreVote { proposed: term(random), last_index: index(random), last_term: term(random) },
        1 => Body::PreVoteReply {
            proposed: term(random),
            granted: flag(random),
            log_is_empty: flag(random),
            suspect: flag(random),
        },
        2 => Body::Vote { last_index: index(random), last_term: term(random), transfer: flag(random) },
        3 => Body::VoteReply { granted: flag(random), log_is_empty: flag(random), suspect: flag(random) },
        4 => append(random),
        5 => Body::AppendAccepted { matched: index(random), round: number(random) },
        6 => Body::AppendRejected {
            prev_index: index(random),
            hint_index: index(random),
            hint_term: term(random),
            round: number(random),
            suspect: flag(random),
        },
        7 => Body::Heartbeat {
            commit: index(random),
            round: number(random),
            check: check(random),
            promise_ms: random.below(501) as u32,
        },
        8 => Body::HeartbeatReply {
            round: number(random),
            digest: maybe(random, digest),
            space: [Space::Plenty, Space::Low, Space::Exhausted][random.below(3) as usize],
            promise_ms: random.below(501) as u32,
        },
        9 => Body::Refill { wanted: several(random, entry_id), nonce: random.next() },
        10 => Body::ReadIndex { token: random.next() },
        11 => Body::ReadIndexReply { token: random.next(), index: index(random) },
        _ => Body::Refilled {
            entries: several(random, entry),
            absent: several(random, |random| {
                let absences = [Absence::Never, Absence::Replaced, Absence::Lost];
                (entry_id(random), absences[random.below(3) as usize])
            }),
            barrier: maybe(random, |random| Barrier { nonce: random.next(), index: index(random) }),
        },
    }
}

fn check(random: &mut Random) -> Check {
    Check { asked: LogIndex(number(random)), agreed: maybe(random, digest) }
}

fn digest(random: &mut Random) -> StateDigest {
    StateDigest { index: LogIndex(number(random)), digest: random.next() }
}

fn entry_id(random: &mut Random) -> EntryId {
    EntryId { index: LogIndex(number(random)), term: Term(number(random)) }
}

fn append(random: &mut Random) -> Body {
    let prev_index = LogIndex(random.below(1 << 40));
    let mut index = prev_index;
    let entries = several(random, |random| {
        index = index.next();
        Entry { index, ..entry(random) }
    });
    let (prev_term, commit) = (Term(number(random)), LogIndex(number(random)));
    Body::Append { prev_index, prev_term, entries, commit, round: number(random) }
}

fn entry(random: &mut Random) -> Entry {
    let kind = [EntryKind::Noop, EntryKind::Members, EntryKind::Commands][random.below(3) as usize];
    Entry { index: LogIndex(number(random)), term: Term(number(random)), kind, data: bytes(random, 0) }
}

pub fn envelope(random: &mut Random) -> Envelope {
    let command = |random: &mut Random| Command {
        group: random.next(),
        session: number(random),
        sequence: number(random),
        principal: bytes(random, 0),
        auth_revision: number(random),
        operations: (0..1 + random.below(3)).map(|_| operation(random)).collect(),
    };
    let cluster_time_ms = random.next();
    Envelope { version: crate::base::limits::ENVELOPE_VERSION, cluster_time_ms, commands: several(random, command) }
}
