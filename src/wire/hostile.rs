//! Every decoder against bytes that nobody should send: none panics, and what is accepted all the same encodes back.
//! What decoders may allocate is tested in `tests/decoder_memory.rs`.

use bytes::{Bytes, BytesMut};

use super::testing::{self, FROM, INSTANCE, TO, only_frame};
use super::*;
use crate::base::Random;
use crate::base::limits::FRAME_BYTES_MAX;

/// A valid frame (or the data of an entry, or a line) of a kind chosen by `kind`, without its length.
fn valid(kind: u64, random: &mut Random) -> Bytes {
    let mut out = BytesMut::new();
    let id = random.next();
    match kind {
        0 => encode_request(id, &testing::request(random), testing::flag(random), &mut out),
        1 => encode_reply(id, Style::Typed, &testing::reply(random), FROM, &mut out),
        2 => encode_reply(id, Style::Legacy, &testing::reply(random), FROM, &mut out),
        3 => encode_hello(&testing::hello(random), &mut out),
        4 => encode_hello_reply(&testing::hello_reply(random), &mut out),
        5 => encode_peer(&testing::peer_frame(random), &mut out),
        6 => return encode_envelope(&testing::envelope(random)),
        _ => return line(random),
    }
    only_frame(out)
}

const KINDS: u64 = 8;

fn line(random: &mut Random) -> Bytes {
    const WORDS: [&str; 13] =
        ["PUT", "get", "Delete", "LIST", "LIMIT", "AFTER", "5", "STATUS", "\"", "\"a b\"", "\\x", " ", "HTTP/1.1"];
    let mut line = BytesMut::new();
    for _ in 0..random.below(6) {
        match random.below(3) {
            0 => line.extend_from_slice(&testing::bytes(random, 0)),
            _ => line.extend_from_slice(WORDS[random.below(WORDS.len() as u64) as usize].as_bytes()),
        }
        line.extend_from_slice(&b"  "[..random.below(3) as usize]);
    }
    line.freeze()
}

/// Gives `bytes` to every decoder. What one accepts must come out the same when it is encoded and decoded again.
fn decode_everything(bytes: &Bytes, place: &str) {
    let encoded = |encode: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        encode(&mut out);
        only_frame(out)
    };
    if let Ok(asked) = decode_request(bytes.clone())
        && let (Style::Typed, Ok(request)) = (asked.style, &asked.request)
    {
        let again = encoded(&|out| encode_request(asked.id, request, asked.forward, out));
        assert_eq!(decode_request(again), Ok(asked), "{place}");
    }
    if let Ok((id, reply)) = decode_reply(bytes.clone()) {
        let again = encoded(&|out| encode_reply(id, Style::Typed, &reply, FROM, out));
        assert_eq!(decode_reply(again), Ok((id, reply)), "{place}");
    }
    if let Ok(FirstFrame::Hello(hello)) = decode_first(bytes.clone()) {
        let again = encoded(&|out| encode_hello(&hello, out));
        assert_eq!(decode_first(again), Ok(FirstFrame::Hello(hello)), "{place}");
    }
    if let Ok(reply) = decode_hello_reply(bytes.clone()) {
        let again = encoded(&|out| encode_hello_reply(&reply, out));
        assert_eq!(decode_hello_reply(again), Ok(reply), "{place}");
    }
    if let Ok(frame) = decode_peer(bytes.clone(), FROM, TO, INSTANCE) {
        let again = encoded(&|out| encode_peer(&frame, out));
        assert_eq!(decode_peer(again, FROM, TO, INSTANCE), Ok(frame), "{place}");
    }
    if let Ok(envelope) = decode_envelope(bytes.clone()) {
        assert_eq!(decode_envelope(encode_envelope(&envelope)), Ok(envelope), "{place}");
    }
    if let Err(error) = parse_line(bytes) {
        let mut out = BytesMut::new();
        write_reply(&crate::api::Reply { result: Err(error), leader: None }, &mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1, "{place}: an error takes one line");
    }
    looks_like_http(bytes);
    let mut buffer = BytesMut::from(&bytes[..]);
    while let Ok(Some(_)) = take_frame(&mut buffer, FRAME_BYTES_MAX) {}
}

#[test]
fn every_prefix_of_what_is_valid_is_decoded_or_refused() {
    let mut random = Random::new(1);
    for kind in 0..KINDS {
        for sample in 0..20 {
            let whole = valid(kind, &mut random);
            for length in 0..=whole.len() {
                let place = format!("kind {kind}, sample {sample}, the first {length} bytes of {whole:?}");
                decode_everything(&whole.slice(..length), &place);
            }
        }
    }
}

#[test]
fn damaged_bytes_are_decoded_or_refused() {
    for seed in 0..40_000 {
        let mut random = Random::new(seed);
        let mut bytes = valid(seed % KINDS, &mut random).to_vec();
        testing::mutate(&mut random, &mut bytes);
        decode_everything(&bytes.into(), &format!("seed {seed}"));
    }
}

#[test]
fn noise_is_decoded_or_refused() {
    for seed in 0..10_000 {
        let mut random = Random::new(seed);
        let noise: Vec<u8> = (0..random.below(64)).map(|_| random.next() as u8).collect();
        decode_everything(&noise.into(), &format!("seed {seed}"));
    }
}
