//! The short way beside the general one: it writes the same, and reads nothing else.

use prost::Message as _;

use super::*;
use crate::api::ReadBy;
use crate::base::Random;
use crate::wire::generated::{self as proto, raft_message::Type};
use crate::wire::testing::{self, node, only_frame};
use crate::wire::{convert, decode_envelope, decode_envelope_in_general, decode_reply, decode_request};

const ROUNDS: u64 = 3000;

fn frame_of(put: impl FnOnce(&mut BytesMut) -> bool) -> Option<Bytes> {
    let mut out = BytesMut::new();
    let is_here = put(&mut out);
    assert_eq!(is_here, !out.is_empty());
    is_here.then(|| only_frame(out))
}

/// As a decoder may meet them: as they were written, cut off, and with bytes changed, put in and taken out.
fn damaged(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.below(3) {
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(5) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.insert(at, random.next() as u8),
            3 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// Of any kind: three in seven are of those that have a short way.
fn request(random: &mut Random) -> (u64, Request, IfNotLeading) {
    let request = testing::request(random);
    let if_not_leading = testing::if_not_leading(random, &request);
    (testing::number(random), request, if_not_leading)
}

fn to_proto(envelope: &Envelope) -> proto::Envelope {
    use proto::operation::Operation as Op;
    let operation = |operation: &Operation| {
        let operation = match operation.clone() {
            Operation::Put { key, value } => Op::Put(proto::Put { key, value }),
            Operation::Delete { key } => Op::Delete(proto::Delete { key }),
        };
        proto::Operation { operation: Some(operation) }
    };
    let command = |command: &Command| proto::Command {
        group: command.group,
        session: command.session,
        sequence: command.sequence,
        principal: command.principal.clone(),
        auth_revision: command.auth_revision,
        operations: command.operations.iter().map(operation).collect(),
    };
    proto::Envelope {
        version: envelope.version,
        cluster_time_ms: envelope.cluster_time_ms,
        commands: envelope.commands.iter().map(command).collect(),
    }
}

#[test]
fn the_writers_write_what_prost_would() {
    for seed in 0..ROUNDS {
        let random = &mut Random::new(seed);
        let (id, request, if_not_leading) = request(random);
        if let Some(frame) = frame_of(|out| put_request(id, &request, if_not_leading, out)) {
            let message = proto::RaftMessage {
                r#type: Type::ClientRequest.into(),
                client_req: Some(convert::request_to_proto(id, &request, if_not_leading)),
                ..Default::default()
            };
            assert_eq!(frame, message.encode_to_vec(), "seed {seed}: {request:?}");
        }
        let reply = testing::reply(random);
        if let Some(frame) = frame_of(|out| put_reply(id, &reply, node(300), out)) {
            let message = proto::RaftMessage {
                r#type: Type::ClientResponse.into(),
                sender_id: 300,
                client_resp: Some(convert::reply_to_proto(id, &reply)),
                ..Default::default()
            };
            assert_eq!(frame, message.encode_to_vec(), "seed {seed}: {reply:?}");
        }
        let envelope = testing::envelope(random);
        assert_eq!(envelope_bytes(&envelope), to_proto(&envelope).encode_to_vec(), "seed {seed}");
    }
}

#[test]
fn the_readers_read_what_the_writers_write() {
    let mut read = [0; 3];
    for seed in 0..ROUNDS {
        let random = &mut Random::new(seed);
        let (id, request, if_not_leading) = request(random);
        if let Some(frame) = frame_of(|out| put_request(id, &request, if_not_leading, out)) {
            let asked = ClientRequest { id, style: Style::Typed, if_not_leading, request: Ok(request) };
            assert_eq!(read_request(&frame), Some(asked), "seed {seed}");
            read[0] += 1;
        }
        let reply = testing::reply(random);
        if let Some(frame) = frame_of(|out| put_reply(id, &reply, node(3), out)) {
            assert_eq!(read_reply(&frame, &mut None), Some((id, reply)), "seed {seed}");
            read[1] += 1;
        }
        let envelope = testing::envelope(random);
        let is_small = |command: &Command| command.group < 1 << 63;
        if envelope.commands.iter().all(is_small) && envelope.cluster_time_ms < 1 << 63 {
            assert_eq!(read_envelope(&envelope_bytes(&envelope)), Some(envelope), "seed {seed}");
            read[2] += 1;
        }
    }
    assert!(read.iter().all(|count| *count > ROUNDS / 10), "{read:?}");
}

/// Whatever the bytes: what is read here is what the general decoder reads.
#[test]
fn the_readers_read_nothing_that_the_general_decoder_does_not() {
    // Damaged ones, of each kind.
    let mut read = [0; 3];
    for seed in 0..20 * ROUNDS {
        let random = &mut Random::new(seed);
        let (id, request, if_not_leading) = request(random);
        if let Some(frame) = frame_of(|out| put_request(id, &request, if_not_leading, out)) {
            let bytes = damaged(random, &frame);
            if let Some(asked) = read_request(&bytes) {
                assert_eq!(decode_request(bytes.clone().into()), Ok(asked), "seed {seed}: {bytes:?}");
                read[0] += u64::from(bytes != frame);
            }
        }
        let reply = testing::reply(random);
        if let Some(frame) = frame_of(|out| put_reply(id, &reply, node(3), out)) {
            let bytes = damaged(random, &frame);
            if let Some(answer) = read_reply(&bytes, &mut None) {
                assert_eq!(decode_reply(bytes.clone().into()), Ok(answer), "seed {seed}: {bytes:?}");
                read[1] += u64::from(bytes != frame);
            }
        }
        let written = envelope_bytes(&testing::envelope(random));
        let bytes = Bytes::from(damaged(random, &written));
        let (short, general) = (decode_envelope(bytes.clone()), decode_envelope_in_general(bytes.clone()));
        assert_eq!(short.ok(), general.ok(), "seed {seed}: {bytes:?}");
        read[2] += u64::from(bytes != written && read_envelope(&bytes).is_some());
    }
    assert!(read.iter().all(|count| *count > ROUNDS / 10), "{read:?}");
}

#[test]
fn what_is_spelled_otherwise_is_left_to_the_general_decoder() {
    let get = |bytes: &'static [u8]| {
        let asked = decode_request(Bytes::from_static(bytes)).expect("it is understood");
        assert_eq!(asked.request, Ok(Request::Get { key: "k".into(), revision: None }));
        read_request(bytes).is_some()
    };
    assert!(get(b"\x08\x04\x72\x08\x10\x07\x92\x01\x03\x0a\x01k"));
    assert!(!get(b"\x72\x08\x10\x07\x92\x01\x03\x0a\x01k\x08\x04"), "the type stands last");
    assert!(!get(b"\x08\x04\x72\x08\x92\x01\x03\x0a\x01k\x10\x07"), "the id stands last");
    assert!(!get(b"\x08\x04\x10\x01\x72\x08\x10\x07\x92\x01\x03\x0a\x01k"), "a client names itself");
    assert!(!get(b"\x08\x04\x72\x0b\x10\x07\x92\x01\x06\x0a\x01j\x0a\x01k"), "two keys, of which the last counts");
    assert!(!get(b"\x08\x04\x72\x0b\x10\x07\x92\x01\x03\x0a\x01k\xa0\x06\x01"), "field 100 of a later version");
    // Longer than need be, but in order: read here as well.
    assert!(get(b"\x08\x04\x72\x0a\x10\x87\x00\x92\x01\x04\x0a\x81\x00k"));
    assert!(get(b"\x08\x04\x72\x0b\x10\x07\x92\x01\x03\x0a\x01k\xa8\x01\x00"), "a flag that says no");
}

#[test]
fn answers_that_name_one_leader_share_its_address() {
    let leader = |id, address: &str| Some(Leader { id: node(id), address: address.into() });
    let mut named = None;
    let mut read = |leader: Option<Leader>| {
        let reply = Reply { result: Ok(Outcome::Put { revision: Revision(1) }), leader };
        let frame = frame_of(|out| put_reply(1, &reply, node(3), out)).unwrap();
        let (_, read) = read_reply(&frame, &mut named).unwrap();
        assert_eq!(read, reply);
        read.leader
    };
    let first = read(leader(1, "a:1")).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first.address, &read(leader(1, "a:1")).unwrap().address));
    read(leader(2, "a:1"));
    read(leader(2, "a:2"));
    read(None);
    assert!(!std::sync::Arc::ptr_eq(&first.address, &read(leader(1, "a:1")).unwrap().address));
}

#[test]
fn what_is_too_large_for_a_frame_is_not_written() {
    let request = |bytes| Request::Get { key: vec![b'k'; bytes].into(), revision: None };
    let mut out = BytesMut::new();
    let forward = ReadBy::Leader.if_not_leading(&request(1));
    assert!(!put_request(1, &request(FRAME_BYTES_MAX), forward, &mut out));
    assert!(out.is_empty());
}
