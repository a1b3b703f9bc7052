//! What clients and nodes say to each other in frames, from both sides. Runs on the net thread, and in the client
//! library.
//!
//! A client that says text (`command`) is one written for the original program: see `legacy.rs`. All others send
//! typed operations, and get the request's id back.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::frame::{BadFrame, put_frame};
use super::generated::{self as proto, raft_message::Type};
use super::peer::{self, Hello};
use super::{convert, legacy, walk};
use crate::api::{Error, ErrorCode, Reply, Request};
use crate::base::NodeId;
use crate::base::limits::{FRAME_BYTES_MAX, MEMBERS_MAX, RESULT_KEYS_MAX};

// Field numbers of `proto/raftkv.proto`, for what is looked at before it is decoded.
const CLIENT_REQ: u32 = 14;
const CLIENT_RESP: u32 = 15;
/// In ClientRequest: typed fields begin here.
const TYPED_FIELDS: u32 = 16;

/// What the first frame of a connection makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstFrame {
    Client(ClientRequest),
    Hello(Hello),
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    /// Chosen by the client.
    pub id: u64,
    pub style: Style,
    /// Whether a node that does not lead may pass it on.
    pub forward: bool,
    /// Checked. `Err`: to be answered as it is; the connection stays.
    pub request: Result<Request, Error>,
}

/// How the answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Typed,
    /// As the original program does.
    Legacy,
}

/// Tells a client from a peer by what the frame says; a client's frame can't pass for a hello.
pub fn decode_first(frame: Bytes) -> Result<FirstFrame, BadFrame> {
    if peer::is_hello(&frame) {
        return peer::decode_hello(frame).map(FirstFrame::Hello);
    }
    decode_request(frame).map(FirstFrame::Client)
}

pub fn decode_request(frame: Bytes) -> Result<ClientRequest, BadFrame> {
    if walk::count(&frame, &[CLIENT_RESP]) > 0 {
        return Err(BadFrame::new("a client's request that carries an answer"));
    }
    let message = proto::RaftMessage::decode(frame.clone())?;
    if message.r#type != i32::from(Type::ClientRequest) {
        return Err(BadFrame::new(format!("message type {}, where clients send 4", message.r#type)));
    }
    let request = message.client_req.ok_or_else(|| BadFrame::new("a client's message without a request"))?;
    if request.operation.is_none() && !says_something_typed(&frame) {
        let parsed = legacy::parse(&request.command).and_then(checked);
        return Ok(ClientRequest { id: request.request_id, style: Style::Legacy, forward: false, request: parsed });
    }
    let forward = !request.no_forward;
    let id = request.request_id;
    Ok(ClientRequest { id, style: Style::Typed, forward, request: typed_request(request).and_then(checked) })
}

fn says_something_typed(frame: &[u8]) -> bool {
    let requests = walk::fields(frame).filter(|field| field.number == CLIENT_REQ).filter_map(|field| field.payload);
    requests.flat_map(walk::fields).any(|field| field.number >= TYPED_FIELDS)
}

/// The operation of a request that is not a text command; not yet checked.
pub(super) fn typed_request(request: proto::ClientRequest) -> Result<Request, Error> {
    let Some(operation) = request.operation else {
        let message = "the request carries no operation that this version knows; ask a newer node";
        return Err(Error::new(ErrorCode::BadFrame, message));
    };
    if !request.command.is_empty() {
        let message = "the request carries a text command and a typed operation; send one of them";
        return Err(Error::new(ErrorCode::BadArguments, message));
    }
    Ok(convert::request_from_proto(operation))
}

pub(super) fn checked(request: Request) -> Result<Request, Error> {
    request.check().map(|()| request)
}

/// Appends a typed request.
pub fn encode_request(id: u64, request: &Request, forward: bool, out: &mut BytesMut) {
    let message = proto::RaftMessage {
        r#type: Type::ClientRequest.into(),
        sender_id: 0,
        client_req: Some(convert::request_to_proto(id, request, forward)),
        client_resp: None,
    };
    put_frame(&message, out);
}

/// Appends the answer of node `answering`. One that would pass a limit says `result_too_large` instead.
pub fn encode_reply(id: u64, style: Style, reply: &Reply, answering: NodeId, out: &mut BytesMut) {
    let message = reply_message(id, style, reply, answering);
    match message.filter(|message| message.encoded_len() <= FRAME_BYTES_MAX) {
        Some(message) => put_frame(&message, out),
        None => encode_reply(id, style, &convert::result_too_large(reply), answering, out),
    }
}

/// `None` if it is certainly too large.
fn reply_message(id: u64, style: Style, reply: &Reply, answering: NodeId) -> Option<proto::RaftMessage> {
    let response = match style {
        Style::Typed if convert::has_too_many_keys(reply) => return None,
        Style::Typed => convert::reply_to_proto(id, reply),
        Style::Legacy => legacy::answer(reply)?,
    };
    Some(proto::RaftMessage {
        r#type: Type::ClientResponse.into(),
        sender_id: answering.get(),
        client_req: None,
        client_resp: Some(response),
    })
}

/// The request's id and the answer to it.
pub fn decode_reply(frame: Bytes) -> Result<(u64, Reply), BadFrame> {
    check_response_counts(&frame, &[CLIENT_RESP])?;
    let message = proto::RaftMessage::decode(frame)?;
    if message.r#type != i32::from(Type::ClientResponse) {
        return Err(BadFrame::new(format!("message type {}, where nodes answer 5", message.r#type)));
    }
    let response = message.client_resp.ok_or_else(|| BadFrame::new("a node's message without an answer"))?;
    convert::reply_from_proto(response)
}

/// Bounds what the ClientResponse at `path` in `frame` makes a decoder allocate.
pub(super) fn check_response_counts(frame: &[u8], path: &[u32]) -> Result<(), BadFrame> {
    const LISTED_KEYS: [u32; 2] = [23, 1];
    const STATUS_PEERS: [u32; 2] = [24, 12];
    for (what, field, max) in [("keys", LISTED_KEYS, RESULT_KEYS_MAX), ("peers", STATUS_PEERS, MEMBERS_MAX)] {
        let count = walk::count(frame, &[path, &field].concat());
        if count > max {
            return Err(BadFrame::new(format!("an answer of {count} {what}, the limit is {max}")));
        }
    }
    Ok(())
}
