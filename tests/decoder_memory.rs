//! What decoders of outside bytes may allocate: a small multiple of what has arrived, whatever the bytes announce.

#[path = "fuzz/targets/memory.rs"]
mod memory;

use bytes::{BufMut, Bytes, BytesMut};
use raftkv::base::limits::FRAME_BYTES_MAX;
use raftkv::base::{InstanceId, NodeId};
use raftkv::wire;

/// The most that `work` held beyond what was held before it.
fn peak_bytes(work: impl FnOnce()) -> usize {
    memory::peak_bytes(work).1
}

fn tagged(field: u32, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    put_varint(&mut message, u64::from(field << 3 | 2));
    put_varint(&mut message, payload.len() as u64);
    message.put_slice(payload);
    message
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// As many empty elements of `field` as fit a frame, inside messages of `parents`, the outermost first.
fn elements(parents: &[u32], field: u32, head: &[u8]) -> Bytes {
    let element = tagged(field, b"");
    let mut message = element.repeat((FRAME_BYTES_MAX - 100) / element.len());
    for parent in parents.iter().rev() {
        message = tagged(*parent, &message);
    }
    [head, &message].concat().into()
}

fn decode_all(frame: &Bytes) {
    let id = |id| NodeId::new(id).unwrap();
    assert!(wire::decode_first(frame.clone()).is_err());
    assert!(wire::decode_request(frame.clone()).is_err());
    assert!(wire::decode_reply(frame.clone()).is_err());
    assert!(wire::decode_hello_reply(frame.clone()).is_err());
    assert!(wire::decode_peer(frame.clone(), id(1), id(2), InstanceId(3)).is_err());
    assert!(wire::decode_envelope(frame.clone()).is_err());
}

#[test]
fn a_frame_full_of_empty_elements_is_refused_before_they_are_made() {
    let request_head = b"\x08\x04";
    let reply_head = b"\x08\x05";
    for (what, frame) in [
        ("keys in an answer", elements(&[15, 23], 1, reply_head)),
        ("keys in many answers", elements(&[], 15, reply_head)),
        ("keys in a request's answer", elements(&[15, 23], 1, request_head)),
        ("peers in a status", elements(&[15, 24], 12, reply_head)),
        ("entries in an append", elements(&[1, 8], 3, b"")),
        ("entries that a peer wants", elements(&[1, 13], 1, b"")),
        ("entries that a peer gives", elements(&[1, 14], 1, b"")),
        ("entries that a peer lacks", elements(&[1, 14], 2, b"")),
        ("keys in a forwarded answer", elements(&[3, 2, 23], 1, b"")),
        ("peers in a forwarded status", elements(&[3, 2, 24], 12, b"")),
        ("problems in a forwarded status", elements(&[3, 2, 24], 15, b"")),
        ("commands in an envelope", elements(&[], 3, b"\x08\x01")),
        ("operations in an envelope", elements(&[3], 6, b"\x08\x01")),
    ] {
        let peak = peak_bytes(|| decode_all(&frame));
        assert!(peak < 64 * 1024, "{what}: {peak} bytes were allocated");
    }
}

#[test]
fn an_announced_frame_costs_nothing_until_it_arrives() {
    let mut buffer = BytesMut::with_capacity(64);
    buffer.put_u32(FRAME_BYTES_MAX as u32);
    buffer.put_slice(b"half");
    let peak = peak_bytes(|| assert_eq!(wire::take_frame(&mut buffer, FRAME_BYTES_MAX), Ok(None)));
    assert_eq!(peak, 0);
}

#[test]
fn a_length_inside_a_frame_that_is_not_there_costs_nothing() {
    let mut frame = b"\x08\x04".to_vec();
    put_varint(&mut frame, 14 << 3 | 2);
    put_varint(&mut frame, 1 << 40);
    let frame = Bytes::from(frame);
    let peak = peak_bytes(|| decode_all(&frame));
    assert!(peak < 4096, "{peak} bytes were allocated");
}

#[test]
fn a_line_costs_no_more_than_a_few_times_its_length() {
    for unit in ["\\xff", "\"", "a", " ", "\\"] {
        let line = format!("PUT \"{}", unit.repeat(1024 * 1024 / unit.len()));
        let peak = peak_bytes(|| drop(wire::parse_line(line.as_bytes())));
        assert!(peak < 4 * 1024 * 1024, "{unit}: {peak} bytes were allocated");
    }
}
