//! What clients and nodes say to each other in frames, from both sides. Runs on the net thread, and in the client
//! library.
//!
//! A client that says text (`command`) is one written for the original program: see `legacy.rs`. All others send
//! typed operations, and get the request's id back.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::frame::{BadFrame, put_frame, put_frame_of, take_small};
use super::generated::{self as proto, raft_message::Type};
use super::peer::{self, Hello};
use super::{convert, direct, legacy, walk};
use crate::api::{Error, ErrorCode, IfNotLeading, Leader, Reply, Request};
use crate::base::NodeId;
use crate::base::limits::{FRAME_BYTES_MAX, LATENCY_STAGES_MAX, RESULT_KEYS_MAX, STATUS_PEERS_MAX};

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
    pub if_not_leading: IfNotLeading,
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

/// Takes the next request off the front of `buffer`, if it is small, complete and of those that are asked most. Else
/// nothing is taken, and [`super::take_frame`] and [`decode_request`] tell what is there.
pub fn take_short_request(buffer: &mut BytesMut) -> Option<ClientRequest> {
    take_small(buffer, direct::read_request)
}

pub fn decode_request(frame: Bytes) -> Result<ClientRequest, BadFrame> {
    if walk::fields(&frame).any(|field| field.number == CLIENT_RESP) {
        return Err(BadFrame::new("a client's request that carries an answer"));
    }
    let message = proto::RaftMessage::decode(frame.clone())?;
    if message.r#type != i32::from(Type::ClientRequest) {
        return Err(BadFrame::new(format!("message type {}, where clients send 4", message.r#type)));
    }
    let request = message.client_req.ok_or_else(|| BadFrame::new("a client's message without a request"))?;
    if request.operation.is_none() && !says_something_typed(&frame) {
        let parsed = legacy::parse(&request.command).and_then(checked);
        let (id, if_not_leading) = (request.request_id, IfNotLeading::Refuse);
        return Ok(ClientRequest { id, style: Style::Legacy, if_not_leading, request: parsed });
    }
    let (id, if_not_leading) = (request.request_id, convert::if_not_leading(&request));
    Ok(ClientRequest { id, style: Style::Typed, if_not_leading, request: typed_request(request).and_then(checked) })
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
pub fn encode_request(id: u64, request: &Request, if_not_leading: IfNotLeading, out: &mut BytesMut) {
    if direct::put_request(id, request, if_not_leading, out) {
        return;
    }
    let message = proto::RaftMessage {
        r#type: Type::ClientRequest.into(),
        sender_id: 0,
        client_req: Some(convert::request_to_proto(id, request, if_not_leading)),
        client_resp: None,
    };
    put_frame(&message, out);
}

/// Appends the answer of node `answering`. One that would pass a limit says `result_too_large` instead.
pub fn encode_reply(id: u64, style: Style, reply: &Reply, answering: NodeId, out: &mut BytesMut) {
    if style == Style::Typed && direct::put_reply(id, reply, answering, out) {
        return;
    }
    let message = reply_message(id, style, reply, answering);
    let sized = message.map(|message| (message.encoded_len(), message));
    match sized.filter(|(length, _)| *length <= FRAME_BYTES_MAX) {
        Some((length, message)) => put_frame_of(length, &message, out),
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

/// Takes the next answer and its request's id off the front of `buffer`, if it is small, complete and of those that are
/// given most. Else nothing is taken, and [`super::take_frame`] and [`decode_reply`] tell what is there. `named`: the leader
/// that was named last; answers that name the same share its address.
pub fn take_short_reply(buffer: &mut BytesMut, named: &mut Option<Leader>) -> Option<(u64, Reply)> {
    take_small(buffer, |frame| direct::read_reply(frame, named))
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

/// Bounds what the ClientResponse behind `parents` in `frame` makes a decoder allocate.
pub(super) fn check_response_counts(frame: &[u8], parents: &[u32]) -> Result<(), BadFrame> {
    if !walk::may_hold_more(frame, RESULT_KEYS_MAX.min(STATUS_PEERS_MAX).min(LATENCY_STAGES_MAX)) {
        return Ok(());
    }
    const LISTED_KEYS: &[u32] = &[23, 1];
    const STATUS_PEERS: &[u32] = &[24, 12];
    const STATUS_PROBLEMS: &[u32] = &[24, 15];
    const LATENCY_STAGES: &[u32] = &[25, 2];
    let paths = [LISTED_KEYS, STATUS_PEERS, STATUS_PROBLEMS, LATENCY_STAGES];
    let [keys, peers, problems, stages] = walk::counts(frame, parents, paths);
    for (what, count, max) in [
        ("keys", keys, RESULT_KEYS_MAX),
        ("peers", peers, STATUS_PEERS_MAX),
        ("problems", problems, STATUS_PEERS_MAX),
        ("stages", stages, LATENCY_STAGES_MAX),
    ] {
        if count > max {
            return Err(BadFrame::new(format!("an answer of {count} {what}, the limit is {max}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Found, Outcome};
    use crate::base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
    use crate::base::{Operation, Random, Revision};
    use crate::wire::testing::{self, node, only_frame};

    fn request_frame(id: u64, request: &Request, if_not_leading: IfNotLeading) -> Bytes {
        let mut out = BytesMut::new();
        encode_request(id, request, if_not_leading, &mut out);
        only_frame(out)
    }

    fn reply_frame(id: u64, style: Style, reply: &Reply) -> Bytes {
        let mut out = BytesMut::new();
        encode_reply(id, style, reply, node(3), &mut out);
        only_frame(out)
    }

    fn put(key: Bytes, value: Bytes) -> Request {
        Request::Write(Operation::Put { key, value })
    }

    fn value_reply(value: Bytes) -> Reply {
        let revision = Revision(9);
        let found = Found { value: value.into(), create_revision: revision, mod_revision: revision, version: 1 };
        Reply { result: Ok(Outcome::Value { revision, found: Some(found) }), leader: None }
    }

    #[test]
    fn who_may_answer_stands_with_a_read_and_is_the_leader_unless_it_is_known_to_be_any() {
        let key = || Bytes::from_static(b"k");
        for (by, no_forward, meant) in [
            (0, false, IfNotLeading::Forward),
            (0, true, IfNotLeading::Refuse),
            (1, false, IfNotLeading::Read),
            (1, true, IfNotLeading::Read),
            (2, false, IfNotLeading::Forward),
        ] {
            let get = proto::Get { key: key(), revision: None, by };
            let list = proto::List { prefix: key(), after: None, limit: 1, revision: None, by };
            for operation in [proto::client_request::Operation::Get(get), proto::client_request::Operation::List(list)]
            {
                let request = proto::ClientRequest { no_forward, operation: Some(operation), ..Default::default() };
                let message = proto::RaftMessage {
                    r#type: Type::ClientRequest.into(),
                    client_req: Some(request),
                    ..Default::default()
                };
                assert_eq!(
                    decode_request(message.encode_to_vec().into()).unwrap().if_not_leading,
                    meant,
                    "{message:?}"
                );
            }
        }
    }

    #[test]
    fn requests_and_replies_arrive_as_they_were_sent() {
        for seed in 0..2000 {
            let random = &mut Random::new(seed);
            let (id, request) = (random.next(), testing::request(random));
            let if_not_leading = testing::if_not_leading(random, &request);
            let sent = ClientRequest { id, style: Style::Typed, if_not_leading, request: Ok(request.clone()) };
            assert_eq!(decode_request(request_frame(id, &request, if_not_leading)), Ok(sent), "seed {seed}");
            let reply = testing::reply(random);
            assert_eq!(decode_reply(reply_frame(id, Style::Typed, &reply)), Ok((id, reply)), "seed {seed}");
        }
    }

    /// Written by hand, from the numbers and wire types that the original's clients use.
    #[test]
    fn the_original_programs_bytes_stay_what_they_are() {
        let request = b"\x08\x04\x72\x09\x0a\x05GET k\x10\x07";
        let expected = ClientRequest {
            id: 7,
            style: Style::Legacy,
            if_not_leading: IfNotLeading::Refuse,
            request: Ok(Request::Get { key: "k".into(), revision: None }),
        };
        assert_eq!(decode_request(Bytes::from_static(request)), Ok(expected));

        let frame = reply_frame(7, Style::Legacy, &value_reply("v w".into()));
        assert_eq!(&frame[..], b"\x08\x05\x10\x03\x7a\x07\x08\x01\x12\x03v w");

        let leader = crate::api::Leader { id: node(300), address: "host:1".into() };
        let refused = Reply::refused(ErrorCode::NotLeader, "node 300 leads", Some(leader));
        let frame = reply_frame(7, Style::Legacy, &refused);
        assert_eq!(&frame[..], b"\x08\x05\x10\x03\x7a\x0f\x1a\x0aNot leader\x20\xac\x02");

        let list = Request::List { prefix: Bytes::new(), after: None, limit: 0, revision: None };
        let asked = decode_request(Bytes::from_static(b"\x08\x04\x72\x06\x0a\x04LIST")).unwrap();
        assert_eq!((asked.id, asked.style, asked.request), (0, Style::Legacy, Ok(list)));
    }

    #[test]
    fn typed_fields_stand_beside_the_originals() {
        let frame = request_frame(5, &put("k".into(), "".into()), IfNotLeading::Refuse);
        assert_eq!(&frame[..], b"\x08\x04\x72\x0b\x10\x05\x82\x01\x03\x0a\x01k\xa8\x01\x01");
        let frame = reply_frame(5, Style::Typed, &value_reply("".into()));
        let found = b"\xb2\x01\x08\x0a\x06\x10\x09\x18\x09\x20\x01";
        let head = b"\x08\x05\x10\x03\x7a\x13\x08\x01\x80\x01\x05\x88\x01\x09";
        assert_eq!(frame, [&head[..], found].concat());
    }

    #[test]
    fn an_empty_value_is_told_from_an_absent_key() {
        let empty = value_reply("".into());
        let absent = Outcome::Value { revision: Revision(9), found: None };
        let absent = Reply { result: Ok(absent), leader: None };
        assert_eq!(decode_reply(reply_frame(1, Style::Typed, &empty)), Ok((1, empty)));
        assert_eq!(decode_reply(reply_frame(1, Style::Typed, &absent)), Ok((1, absent)));
    }

    #[test]
    fn what_can_be_read_but_not_done_is_answered_and_not_cut_off() {
        let code = |frame: Bytes| {
            let asked = decode_request(frame).unwrap();
            (asked.style, asked.request.unwrap_err().code)
        };
        let long = |bytes| Bytes::from(vec![b'x'; bytes]);
        let frame = request_frame(1, &put(long(KEY_BYTES_MAX + 1), long(1)), IfNotLeading::Forward);
        assert_eq!(code(frame), (Style::Typed, ErrorCode::KeyTooLarge));
        let frame = request_frame(1, &put(long(KEY_BYTES_MAX), long(VALUE_BYTES_MAX + 1)), IfNotLeading::Forward);
        assert_eq!(code(frame), (Style::Typed, ErrorCode::ValueTooLarge));
        assert!(
            decode_request(request_frame(1, &put(long(KEY_BYTES_MAX), long(VALUE_BYTES_MAX)), IfNotLeading::Forward))
                .is_ok()
        );
        // Operation 40 of a later version; then `GET k` and a typed put at once.
        let frame = Bytes::from_static(b"\x08\x04\x72\x03\xc2\x02\x00");
        assert_eq!(code(frame), (Style::Typed, ErrorCode::BadFrame));
        let frame = Bytes::from_static(b"\x08\x04\x72\x0d\x0a\x05GET k\x82\x01\x03\x0a\x01k");
        assert_eq!(code(frame), (Style::Typed, ErrorCode::BadArguments));
        let frame = Bytes::from_static(b"\x08\x04\x72\x00");
        assert_eq!(code(frame), (Style::Legacy, ErrorCode::UnknownCommand));
    }

    #[test]
    fn what_no_client_sends_is_a_bad_frame() {
        for frame in
            [&b""[..], b"\x72\x00", b"\x08\x05\x72\x00", b"\x08\x04", b"\x08\x04\x72\x00\x7a\x00", b"GET / HTTP"]
        {
            assert!(decode_request(Bytes::copy_from_slice(frame)).is_err(), "{frame:?}");
        }
    }

    #[test]
    fn an_answer_that_passes_a_limit_says_so_instead() {
        let keys = |keys: Vec<Bytes>| Reply {
            result: Ok(Outcome::Keys { revision: Revision(1), keys, more: false }),
            leader: None,
        };
        let many = keys(vec![Bytes::from_static(b"k"); RESULT_KEYS_MAX + 1]);
        let long = keys(vec![Bytes::from(vec![b'k'; KEY_BYTES_MAX]); FRAME_BYTES_MAX / KEY_BYTES_MAX]);
        for reply in [&many, &long] {
            let (id, answered) = decode_reply(reply_frame(8, Style::Typed, reply)).unwrap();
            assert_eq!((id, answered.result.unwrap_err().code), (8, ErrorCode::ResultTooLarge));
        }
        let legacy = reply_frame(8, Style::Legacy, &long);
        assert!(legacy.windows(16).any(|window| window == b"result_too_large"));
        let fits = keys(vec![Bytes::from_static(b"k"); RESULT_KEYS_MAX]);
        assert_eq!(decode_reply(reply_frame(8, Style::Typed, &fits)), Ok((8, fits)));
    }

    /// Two bytes each make the decoder hold a hundred.
    #[test]
    fn an_answer_of_more_stages_than_a_node_can_have_is_a_bad_frame() {
        let reply = |stages| {
            let said = proto::Latency { id: 7, stages: vec![proto::StageLatency::default(); stages] };
            let outcome = Some(proto::client_response::Outcome::Latency(said));
            let response = proto::ClientResponse { success: true, outcome, ..proto::ClientResponse::default() };
            let (r#type, client_resp) = (Type::ClientResponse.into(), Some(response));
            decode_reply(
                proto::RaftMessage { r#type, client_resp, ..proto::RaftMessage::default() }.encode_to_vec().into(),
            )
        };
        assert!(reply(LATENCY_STAGES_MAX).is_ok());
        let error = reply(LATENCY_STAGES_MAX + 1).unwrap_err();
        assert!(error.to_string().contains("257 stages, the limit is 256"), "{error}");
    }

    #[test]
    fn a_code_that_is_not_known_here_promises_nothing() {
        let frame = Bytes::from_static(b"\x08\x05\x7a\x0a\x1a\x04oops\x90\x01\xe7\x07");
        let error = decode_reply(frame).unwrap().1.result.unwrap_err();
        assert_eq!(error.code, ErrorCode::OutcomeUnknown);
        assert_eq!(error.message, "error 999, unknown to this version: oops");
    }

    #[test]
    fn keys_and_values_are_slices_of_the_frame() {
        let frame = request_frame(1, &put("key".into(), "value".into()), IfNotLeading::Forward);
        let memory = frame.as_ptr_range();
        let Ok(Request::Write(Operation::Put { key, value })) = decode_request(frame.clone()).unwrap().request else {
            panic!("a put");
        };
        assert!(memory.contains(&key.as_ptr()) && memory.contains(&value.as_ptr()));
    }

    #[test]
    fn the_first_frame_tells_clients_from_peers() {
        let request = put("k".into(), "v".into());
        let asked = decode_request(request_frame(1, &request, IfNotLeading::Forward)).unwrap();
        assert_eq!(decode_first(request_frame(1, &request, IfNotLeading::Forward)), Ok(FirstFrame::Client(asked)));
        let hello = testing::hello(&mut Random::new(1));
        let mut out = BytesMut::new();
        peer::encode_hello(&hello, &mut out);
        let frame = only_frame(out);
        assert!(decode_request(frame.clone()).is_err());
        assert_eq!(decode_first(frame), Ok(FirstFrame::Hello(hello)));
    }
}
