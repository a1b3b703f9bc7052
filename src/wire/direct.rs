//! The short way for what nearly all traffic is: GET, PUT and DELETE, the answers to them, and envelopes of them.
//!
//! prost decodes into structs of its own, and encodes from them. What crosses the wire most often goes without. The
//! writers write, byte for byte, what prost would. The readers know little more than how that is spelled: fields in the
//! order of their numbers, none twice, none unknown. All else is `None`, and for the general decoder, which alone says
//! what is accepted, and as what; what is read here it would read in the same way. Pure.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::client::{ClientRequest, Style, checked};
use super::fields::{Fields, Message, Reader, length_of, write_over};
use super::frame::{FRAME_HEADER_BYTES, header};
use crate::api::{Found, IfNotLeading, Leader, Outcome, Reply, Request};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::{Command, Envelope, NodeId, Operation, Revision};

/// Tags of `proto/raftkv.proto`: number and wire type.
mod tag {
    // RaftMessage, and what its type says
    pub const CLIENT_REQUEST: &[u8] = b"\x08\x04";
    pub const CLIENT_RESPONSE: &[u8] = b"\x08\x05";
    pub const SENDER_ID: &[u8] = b"\x10";
    pub const CLIENT_REQ: &[u8] = b"\x72";
    pub const CLIENT_RESP: &[u8] = b"\x7a";
    // ClientRequest
    pub const ASKED_ID: &[u8] = b"\x10";
    pub const ASKED_PUT: &[u8] = b"\x82\x01";
    pub const ASKED_DELETE: &[u8] = b"\x8a\x01";
    pub const ASKED_GET: &[u8] = b"\x92\x01";
    pub const NO_FORWARD: &[u8] = b"\xa8\x01";
    // Put, Delete, Get
    pub const KEY: &[u8] = b"\x0a";
    pub const VALUE: &[u8] = b"\x12";
    pub const AT_REVISION: &[u8] = b"\x10";
    pub const BY: &[u8] = b"\x18";
    // ClientResponse
    pub const SUCCESS: &[u8] = b"\x08";
    pub const LEADER_HINT: &[u8] = b"\x20";
    pub const REQUEST_ID: &[u8] = b"\x80\x01";
    pub const REVISION: &[u8] = b"\x88\x01";
    pub const LEADER_ADDRESS: &[u8] = b"\x9a\x01";
    pub const PUT_DONE: &[u8] = b"\xa2\x01";
    pub const DELETE_DONE: &[u8] = b"\xaa\x01";
    pub const GET_DONE: &[u8] = b"\xb2\x01";
    // DeleteDone, GetDone, Found
    pub const EXISTED: &[u8] = b"\x08";
    pub const FOUND: &[u8] = b"\x0a";
    pub const FOUND_VALUE: &[u8] = b"\x0a";
    pub const CREATE_REVISION: &[u8] = b"\x10";
    pub const MOD_REVISION: &[u8] = b"\x18";
    pub const FOUND_VERSION: &[u8] = b"\x20";
    // Envelope
    pub const VERSION: &[u8] = b"\x08";
    pub const CLUSTER_TIME: &[u8] = b"\x10";
    pub const COMMAND: &[u8] = b"\x1a";
    // Command
    pub const GROUP: &[u8] = b"\x08";
    pub const SESSION: &[u8] = b"\x10";
    pub const SEQUENCE: &[u8] = b"\x18";
    pub const PRINCIPAL: &[u8] = b"\x22";
    pub const AUTH_REVISION: &[u8] = b"\x28";
    pub const OPERATION: &[u8] = b"\x32";
    // Operation
    pub const PUT: &[u8] = b"\x0a";
    pub const DELETE: &[u8] = b"\x12";
}

// ---- requests ----------------------------------------------------------------------------------------------

struct RequestFrame<'a> {
    id: u64,
    asked: Asked<'a>,
    if_not_leading: IfNotLeading,
}

/// What is asked for here.
enum Asked<'a> {
    Write(&'a Operation),
    Get(Get<'a>),
}

struct Get<'a> {
    key: &'a [u8],
    revision: Option<Revision>,
    by_any: bool,
}

/// The message within the message that a frame holds.
struct Inner<'a, T>(&'a T);

/// What stands in the one field of an operation: Put and Delete have the same fields, but for the value.
struct PutOrDelete<'a>(&'a Operation);

impl Message for RequestFrame<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.raw(tag::CLIENT_REQUEST);
        out.message(tag::CLIENT_REQ, &Inner(self));
    }
}

impl Message for Inner<'_, RequestFrame<'_>> {
    fn write(&self, out: &mut impl Fields) {
        let RequestFrame { id, asked, if_not_leading } = self.0;
        out.number(tag::ASKED_ID, *id);
        match asked {
            Asked::Write(operation @ Operation::Put { .. }) => out.message(tag::ASKED_PUT, &PutOrDelete(operation)),
            Asked::Write(operation @ Operation::Delete { .. }) => {
                out.message(tag::ASKED_DELETE, &PutOrDelete(operation))
            }
            Asked::Get(get) => out.message(tag::ASKED_GET, get),
        }
        out.number(tag::NO_FORWARD, u64::from(*if_not_leading == IfNotLeading::Refuse));
    }
}

impl Message for PutOrDelete<'_> {
    fn write(&self, out: &mut impl Fields) {
        match self.0 {
            Operation::Put { key, value } => {
                out.bytes(tag::KEY, key);
                out.bytes(tag::VALUE, value);
            }
            Operation::Delete { key } => out.bytes(tag::KEY, key),
        }
    }
}

impl Message for Get<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.bytes(tag::KEY, self.key);
        if let Some(revision) = self.revision {
            out.raw(tag::AT_REVISION);
            out.varint(revision.0);
        }
        out.number(tag::BY, u64::from(self.by_any));
    }
}

/// Appends a request's frame; false: nothing was done, it is for the general encoder.
#[must_use]
pub fn put_request(id: u64, request: &Request, if_not_leading: IfNotLeading, out: &mut BytesMut) -> bool {
    let by_any = if_not_leading == IfNotLeading::Read;
    let asked = match request {
        Request::Write(operation) => Asked::Write(operation),
        Request::Get { key, revision } => Asked::Get(Get { key, revision: *revision, by_any }),
        Request::List { .. } | Request::Status | Request::Scrub | Request::Latency => return false,
    };
    append_frame(&RequestFrame { id, asked, if_not_leading }, out)
}

/// `None`: it is for the general decoder.
pub fn read_request(frame: &[u8]) -> Option<ClientRequest> {
    let mut message = Reader::new(frame);
    if !message.has(tag::CLIENT_REQUEST) || !message.has(tag::CLIENT_REQ) {
        return None;
    }
    let mut asked = Reader::new(message.delimited()?);
    message.end()?;
    let id = asked.number(tag::ASKED_ID)?;
    let (request, by_any) = if asked.has(tag::ASKED_GET) {
        let Get { key, revision, by_any } = get(asked.delimited()?)?;
        (Request::Get { key: Bytes::copy_from_slice(key), revision }, by_any)
    } else {
        let operation = operation(&mut asked, tag::ASKED_PUT, tag::ASKED_DELETE)?;
        (Request::Write(operation.to_owned(Bytes::copy_from_slice)), false)
    };
    let if_not_leading = match (flag(&mut asked, tag::NO_FORWARD)?, by_any) {
        (_, true) => IfNotLeading::Read,
        (true, false) => IfNotLeading::Refuse,
        (false, false) => IfNotLeading::Forward,
    };
    asked.end()?;
    Some(ClientRequest { id, style: Style::Typed, if_not_leading, request: checked(request) })
}

fn get(message: &[u8]) -> Option<Get<'_>> {
    let mut get = Reader::new(message);
    let key = get.bytes(tag::KEY)?;
    let revision = if get.has(tag::AT_REVISION) { Some(Revision(get.varint()?)) } else { None };
    let by_any = flag(&mut get, tag::BY)?;
    get.end()?;
    Some(Get { key, revision, by_any })
}

fn flag(message: &mut Reader<'_>, tag: &[u8]) -> Option<bool> {
    match message.number(tag)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// An [`Operation`] where it was read.
enum Borrowed<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
}

impl Borrowed<'_> {
    fn to_owned(&self, own: impl Fn(&[u8]) -> Bytes) -> Operation {
        match self {
            Borrowed::Put { key, value } => Operation::Put { key: own(key), value: own(value) },
            Borrowed::Delete { key } => Operation::Delete { key: own(key) },
        }
    }
}

/// The next field of `message`, which is one with either tag.
fn operation<'a>(message: &mut Reader<'a>, put: &[u8], delete: &[u8]) -> Option<Borrowed<'a>> {
    let is_put = message.has(put);
    if !is_put && !message.has(delete) {
        return None;
    }
    let mut fields = Reader::new(message.delimited()?);
    let key = fields.bytes(tag::KEY)?;
    let operation = match is_put {
        true => Borrowed::Put { key, value: fields.bytes(tag::VALUE)? },
        false => Borrowed::Delete { key },
    };
    fields.end()?;
    Some(operation)
}

// ---- answers -----------------------------------------------------------------------------------------------

struct ReplyFrame<'a> {
    id: u64,
    answering: NodeId,
    leader: Option<&'a Leader>,
    done: Done<'a>,
}

/// What is answered here.
enum Done<'a> {
    Put { revision: Revision },
    Deleted { revision: Revision, existed: bool },
    Value { revision: Revision, found: Option<&'a Found> },
}

impl Message for ReplyFrame<'_> {
    fn write(&self, out: &mut impl Fields) {
        out.raw(tag::CLIENT_RESPONSE);
        out.number(tag::SENDER_ID, self.answering.get().into());
        out.message(tag::CLIENT_RESP, &Inner(self));
    }
}

impl Message for Inner<'_, ReplyFrame<'_>> {
    fn write(&self, out: &mut impl Fields) {
        let ReplyFrame { id, leader, done, .. } = self.0;
        let (done_tag, revision) = match done {
            Done::Put { revision } => (tag::PUT_DONE, revision),
            Done::Deleted { revision, .. } => (tag::DELETE_DONE, revision),
            Done::Value { revision, .. } => (tag::GET_DONE, revision),
        };
        out.number(tag::SUCCESS, 1);
        out.number(tag::LEADER_HINT, leader.map_or(0, |leader| leader.id.get().into()));
        out.number(tag::REQUEST_ID, *id);
        out.number(tag::REVISION, revision.0);
        out.bytes(tag::LEADER_ADDRESS, leader.map_or(&[], |leader| leader.address.as_bytes()));
        out.message(done_tag, done);
    }
}

impl Message for Done<'_> {
    fn write(&self, out: &mut impl Fields) {
        match self {
            Done::Put { .. } | Done::Value { found: None, .. } => {}
            Done::Deleted { existed, .. } => out.number(tag::EXISTED, u64::from(*existed)),
            Done::Value { found: Some(found), .. } => out.message(tag::FOUND, *found),
        }
    }
}

impl Message for Found {
    fn write(&self, out: &mut impl Fields) {
        out.bytes(tag::FOUND_VALUE, &self.value);
        out.number(tag::CREATE_REVISION, self.create_revision.0);
        out.number(tag::MOD_REVISION, self.mod_revision.0);
        out.number(tag::FOUND_VERSION, self.version);
    }
}

/// Appends the frame of a typed answer; false: nothing was done, it is for the general encoder.
#[must_use]
pub fn put_reply(id: u64, reply: &Reply, answering: NodeId, out: &mut BytesMut) -> bool {
    let done = match &reply.result {
        Ok(Outcome::Put { revision }) => Done::Put { revision: *revision },
        Ok(Outcome::Deleted { revision, existed }) => Done::Deleted { revision: *revision, existed: *existed },
        Ok(Outcome::Value { revision, found }) => Done::Value { revision: *revision, found: found.as_ref() },
        Ok(Outcome::Keys { .. } | Outcome::Status(_) | Outcome::Latency(_)) | Err(_) => return false,
    };
    append_frame(&ReplyFrame { id, answering, leader: reply.leader.as_ref(), done }, out)
}

/// The request's id and the answer to it. `None`: it is for the general decoder. `named`: the leader that an answer
/// named before; if this one names the same, they share its address.
pub fn read_reply(frame: &[u8], named: &mut Option<Leader>) -> Option<(u64, Reply)> {
    let mut message = Reader::new(frame);
    if !message.has(tag::CLIENT_RESPONSE) {
        return None;
    }
    message.number_32(tag::SENDER_ID)?;
    if !message.has(tag::CLIENT_RESP) {
        return None;
    }
    let mut response = Reader::new(message.delimited()?);
    message.end()?;
    if !flag(&mut response, tag::SUCCESS)? {
        return None;
    }
    let leader = response.number_32(tag::LEADER_HINT)?;
    let id = response.number(tag::REQUEST_ID)?;
    let revision = Revision(response.number(tag::REVISION)?);
    let address = response.bytes(tag::LEADER_ADDRESS)?;
    let outcome = if response.has(tag::GET_DONE) {
        let mut got = Reader::new(response.delimited()?);
        let found = if got.has(tag::FOUND) { Some(found(got.delimited()?)?) } else { None };
        got.end()?;
        Outcome::Value { revision, found }
    } else if response.has(tag::PUT_DONE) {
        Reader::new(response.delimited()?).end()?;
        Outcome::Put { revision }
    } else if response.has(tag::DELETE_DONE) {
        let mut deleted = Reader::new(response.delimited()?);
        let existed = flag(&mut deleted, tag::EXISTED)?;
        deleted.end()?;
        Outcome::Deleted { revision, existed }
    } else {
        return None;
    };
    response.end()?;
    Some((id, Reply { result: Ok(outcome), leader: leader_named(leader, address, named)? }))
}

fn found(message: &[u8]) -> Option<Found> {
    let mut found = Reader::new(message);
    let value = found.bytes(tag::FOUND_VALUE)?.into();
    let create_revision = Revision(found.number(tag::CREATE_REVISION)?);
    let mod_revision = Revision(found.number(tag::MOD_REVISION)?);
    let version = found.number(tag::FOUND_VERSION)?;
    found.end()?;
    Some(Found { value, create_revision, mod_revision, version })
}

fn leader_named(id: u32, address: &[u8], named: &mut Option<Leader>) -> Option<Option<Leader>> {
    let address = std::str::from_utf8(address).ok()?;
    let Some(id) = NodeId::new(id) else { return Some(None) };
    if named.as_ref().is_none_or(|leader| leader.id != id || *leader.address != *address) {
        *named = Some(Leader { id, address: address.into() });
    }
    Some(named.clone())
}

/// Appends `message` as a frame; false: it is too long for one.
fn append_frame(message: &impl Message, out: &mut BytesMut) -> bool {
    let length = length_of(message);
    if length > FRAME_BYTES_MAX {
        return false;
    }
    out.reserve(FRAME_HEADER_BYTES + length);
    out.extend_from_slice(&header(length));
    let begin = out.len();
    out.resize(begin + length, 0);
    write_over(&mut out[begin..], message);
    true
}

// ---- envelopes ---------------------------------------------------------------------------------------------

impl Message for Envelope {
    fn write(&self, out: &mut impl Fields) {
        out.number(tag::VERSION, self.version.into());
        out.number(tag::CLUSTER_TIME, self.cluster_time_ms);
        self.commands.iter().for_each(|command| out.message(tag::COMMAND, command));
    }
}

impl Message for Command {
    fn write(&self, out: &mut impl Fields) {
        out.number(tag::GROUP, self.group);
        out.number(tag::SESSION, self.session);
        out.number(tag::SEQUENCE, self.sequence);
        out.bytes(tag::PRINCIPAL, &self.principal);
        out.number(tag::AUTH_REVISION, self.auth_revision);
        self.operations.iter().for_each(|operation| out.message(tag::OPERATION, operation));
    }
}

impl Message for Operation {
    fn write(&self, out: &mut impl Fields) {
        let tag = match self {
            Operation::Put { .. } => tag::PUT,
            Operation::Delete { .. } => tag::DELETE,
        };
        out.message(tag, &PutOrDelete(self));
    }
}

pub fn envelope_bytes(envelope: &Envelope) -> Bytes {
    let mut bytes = vec![0; length_of(envelope)];
    write_over(&mut bytes, envelope);
    bytes.into()
}

/// Keys and values share the memory of `data`. `None`: it is for the general decoder. Nothing in it is checked but its
/// spelling.
pub fn read_envelope(data: &Bytes) -> Option<Envelope> {
    let mut message = Reader::new(data);
    let version = message.number_32(tag::VERSION)?;
    let cluster_time_ms = message.number(tag::CLUSTER_TIME)?;
    let mut commands = Vec::new();
    while message.has(tag::COMMAND) {
        commands.push(command(data, message.delimited()?)?);
    }
    message.end()?;
    Some(Envelope { version, cluster_time_ms, commands })
}

fn command(data: &Bytes, message: &[u8]) -> Option<Command> {
    let mut message = Reader::new(message);
    let group = message.number(tag::GROUP)?;
    let session = message.number(tag::SESSION)?;
    let sequence = message.number(tag::SEQUENCE)?;
    let principal = data.slice_ref(message.bytes(tag::PRINCIPAL)?);
    let auth_revision = message.number(tag::AUTH_REVISION)?;
    // Nearly always there is one.
    let mut operations = SmallVec::new();
    while message.has(tag::OPERATION) {
        let mut fields = Reader::new(message.delimited()?);
        let operation = operation(&mut fields, tag::PUT, tag::DELETE)?;
        fields.end()?;
        operations.push(operation.to_owned(|bytes| data.slice_ref(bytes)));
    }
    message.end()?;
    Some(Command { group, session, sequence, principal, auth_revision, operations })
}

#[cfg(test)]
mod tests;
