//! Frames, and the data of log entries.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use raftkv::api::{Reply, Request};
use raftkv::base::{Entry, InstanceId, LogIndex, Members, NodeId, Operation};
use raftkv::raft::Body;
use raftkv::wire::{self, ClientRequest, FirstFrame, PeerFrame, Style};

use super::within_memory;

/// The link that peers' frames come over.
pub const FROM: NodeId = NodeId::new(2).unwrap();
pub const TO: NodeId = NodeId::new(300).unwrap();
pub const INSTANCE: InstanceId = InstanceId(7 << 90);
/// What a hello and its answer begin with.
pub const MAGIC: &[u8] = b"\x09raftkv\0P";

/// Small, so that damaged lengths lie on both sides of it.
const FRAMES_BYTES_MAX: usize = 16;

fn frame(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    let frame = wire::take_frame(&mut out, usize::MAX).unwrap().expect("an encoder writes a whole frame");
    assert!(out.is_empty(), "an encoder writes one frame");
    frame
}

/// Decodes `bytes`; what is accepted must come out the same when it is encoded and decoded again.
fn decode<T: Debug + PartialEq, E: Debug + PartialEq>(
    bytes: &[u8],
    decode: impl Fn(Bytes) -> Result<T, E>,
    encode: impl FnOnce(&T) -> Option<Bytes>,
) -> Option<T> {
    let input = Bytes::copy_from_slice(bytes);
    let value = within_memory(bytes, || decode(input)).ok()?;
    if let Some(again) = encode(&value) {
        assert_eq!(decode(again).as_ref(), Ok(&value), "it changed when it was encoded and decoded again");
    }
    Some(value)
}

fn encode_client_request(asked: &ClientRequest) -> Option<Bytes> {
    match (asked.style, &asked.request) {
        (Style::Typed, Ok(request)) => {
            Some(frame(|out| wire::encode_request(asked.id, request, asked.if_not_leading, out)))
        }
        // No encoder writes the original's commands, nor requests that are refused.
        _ => None,
    }
}

fn check_client_request(asked: &ClientRequest) {
    match &asked.request {
        Ok(request) => assert_eq!(request.check(), Ok(()), "what is passed on was checked"),
        Err(error) => {
            let reply = Reply { result: Err(error.clone()), leader: None };
            let answer = frame(|out| wire::encode_reply(asked.id, asked.style, &reply, TO, out));
            assert!(asked.style == Style::Legacy || wire::decode_reply(answer) == Ok((asked.id, reply)));
        }
    }
}

/// `bytes` as they stand in a connection's buffer.
fn framed(bytes: &[u8]) -> BytesMut {
    let length = u32::try_from(bytes.len()).expect("inputs are short");
    BytesMut::from(&[&length.to_be_bytes()[..], bytes].concat()[..])
}

pub fn client_frame(bytes: &[u8]) -> bool {
    let mut buffer = framed(bytes);
    if let Some(asked) = within_memory(bytes, || wire::take_short_request(&mut buffer)) {
        let general = wire::decode_request(Bytes::copy_from_slice(bytes));
        assert_eq!(general, Ok(asked), "the short way reads something else");
    }
    let asked = decode(bytes, wire::decode_request, encode_client_request);
    asked.inspect(check_client_request).is_some_and(|asked| asked.request.is_ok())
}

pub fn first_frame(bytes: &[u8]) -> bool {
    let encode = |first: &FirstFrame| match first {
        FirstFrame::Client(asked) => encode_client_request(asked),
        FirstFrame::Hello(hello) => Some(frame(|out| wire::encode_hello(hello, out))),
    };
    match decode(bytes, wire::decode_first, encode) {
        Some(FirstFrame::Client(asked)) => {
            check_client_request(&asked);
            asked.request.is_ok()
        }
        other => other.is_some(),
    }
}

pub fn client_reply(bytes: &[u8]) -> bool {
    let mut buffer = framed(bytes);
    if let Some(answer) = within_memory(bytes, || wire::take_short_reply(&mut buffer, &mut None)) {
        let general = wire::decode_reply(Bytes::copy_from_slice(bytes));
        assert_eq!(general, Ok(answer), "the short way reads something else");
    }
    decode(bytes, wire::decode_reply, |(id, reply)| {
        Some(frame(|out| wire::encode_reply(*id, Style::Typed, reply, FROM, out)))
    })
    .is_some()
}

pub fn hello(bytes: &[u8]) -> bool {
    let bytes = [MAGIC, bytes].concat();
    let hello = decode(&bytes, wire::decode_first, |first| match first {
        FirstFrame::Hello(hello) => Some(frame(|out| wire::encode_hello(hello, out))),
        FirstFrame::Client(_) => panic!("what begins as a hello is one or nothing"),
    });
    hello.is_some()
}

pub fn hello_reply(bytes: &[u8]) -> bool {
    let bytes = [MAGIC, bytes].concat();
    decode(&bytes, wire::decode_hello_reply, |reply| Some(frame(|out| wire::encode_hello_reply(reply, out)))).is_some()
}

pub fn peer_frame(bytes: &[u8]) -> bool {
    let decoder = |bytes| wire::decode_peer(bytes, FROM, TO, INSTANCE);
    match decode(bytes, decoder, |peer| Some(frame(|out| wire::encode_peer(peer, out)))) {
        Some(PeerFrame::Raft(message)) => {
            assert_eq!((message.from, message.to, message.instance), (FROM, TO, INSTANCE));
            if let Body::Append { prev_index, entries, .. } = &message.body {
                assert!(are_consecutive(*prev_index, entries), "entries do not follow on each other");
            }
            true
        }
        Some(PeerFrame::Forward { request, .. }) => {
            assert_eq!(request.check(), Ok(()), "what is passed on was checked");
            true
        }
        other => other.is_some(),
    }
}

fn are_consecutive(before: LogIndex, entries: &[Entry]) -> bool {
    entries.iter().zip(before.0 + 1..).all(|(entry, index)| entry.index.0 == index)
}

pub fn envelope(bytes: &[u8]) -> bool {
    let envelope = decode(bytes, wire::decode_envelope, |envelope| Some(wire::encode_envelope(envelope)));
    let general = wire::decode_envelope_in_general(Bytes::copy_from_slice(bytes)).ok();
    assert_eq!(envelope, general, "the short way reads something else");
    for operation in envelope.iter().flat_map(|envelope| &envelope.commands).flat_map(|command| &command.operations) {
        let key_or_value_is_too_large = Request::Write(operation.clone()).check().is_err();
        assert!(!key_or_value_is_too_large, "an operation that no client could ask for: {:?}", kind(operation));
    }
    envelope.is_some()
}

fn kind(operation: &Operation) -> &'static str {
    match operation {
        Operation::Put { .. } => "put",
        Operation::Delete { .. } => "delete",
    }
}

pub fn members(bytes: &[u8]) -> bool {
    decode(bytes, |data| Members::decode(&data), |members| Some(members.encode())).is_some()
}

/// The first byte says how many bytes arrive at once; frames have at most 16 bytes. Nothing may be lost, invented or
/// reordered, whatever the pieces.
pub fn frames(bytes: &[u8]) -> bool {
    let Some((piece_bytes, said)) = bytes.split_first() else { return false };
    let (mut buffer, mut seen, mut whole) = (BytesMut::new(), Vec::new(), 0);
    for piece in said.chunks(usize::from(*piece_bytes).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match wire::take_frame(&mut buffer, FRAMES_BYTES_MAX) {
                Ok(Some(frame)) => {
                    assert!((1..=FRAMES_BYTES_MAX).contains(&frame.len()));
                    seen.extend_from_slice(&(frame.len() as u32).to_be_bytes());
                    seen.extend_from_slice(&frame);
                    whole += 1;
                }
                Ok(None) => break,
                Err(_) => {
                    assert!(said.starts_with(&[&seen[..], &buffer[..]].concat()), "bytes were lost or invented");
                    return false;
                }
            }
        }
    }
    assert_eq!([&seen[..], &buffer[..]].concat(), said, "bytes were lost or invented");
    whole > 0
}
