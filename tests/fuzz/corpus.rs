//! Valid inputs of every target, made by the real encoders from a seed.

use bytes::BytesMut;
use raftkv::base::{ClusterId, InstanceId, Member, Members, Random};
use raftkv::disk::{DataDir, MemoryDisk, Wanted};
use raftkv::wire::*;

use super::mutator::{self, Shape};
use super::protobuf::{self, Field, Value};
use super::targets::{self, EDIT_BYTES, MAGIC};

/// The values that the codecs' own tests are made of: a new kind of message is an input here as soon as it is one
/// there.
#[path = "../../src/wire/testing.rs"]
#[allow(dead_code, reason = "it serves the codecs' own tests too")]
mod testing;

// The frames are for the link that the target decodes them for.
const _: () = assert!(testing::FROM.get() == targets::FROM.get() && testing::TO.get() == targets::TO.get());
const _: () = assert!(testing::INSTANCE.0 == targets::INSTANCE.0);

fn frame(encode: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&mut out);
    testing::only_frame(out).to_vec()
}

/// A typed request, or a command of the original's, which no encoder writes.
pub fn client_frame(random: &mut Random) -> Vec<u8> {
    let id = random.next();
    if random.below(4) > 0 {
        let request = testing::request(random);
        let if_not_leading = testing::if_not_leading(random, &request);
        return frame(|out| encode_request(id, &request, if_not_leading, out));
    }
    let key = String::from_utf8_lossy(&testing::bytes(random, 1)).replace(char::is_whitespace, "_");
    let command = match random.below(4) {
        0 => format!("PUT {key} value {key}"),
        1 => format!("GET \t{key}"),
        2 => format!("DELETE {key} more"),
        _ => "LIST".to_string(),
    };
    let field = |number, value| Field { number, value };
    let request = vec![field(1, Value::Bytes(command.into())), field(2, Value::Number(id))];
    protobuf::encode(&[field(1, Value::Number(4)), field(14, Value::Message(request))])
}

pub fn first_frame(random: &mut Random) -> Vec<u8> {
    match random.below(2) {
        0 => client_frame(random),
        _ => frame(|out| encode_hello(&testing::hello(random), out)),
    }
}

pub fn client_reply(random: &mut Random) -> Vec<u8> {
    frame(|out| encode_reply(random.next(), Style::Typed, &testing::reply(random), testing::FROM, out))
}

pub fn hello(random: &mut Random) -> Vec<u8> {
    frame(|out| encode_hello(&testing::hello(random), out)).split_off(MAGIC.len())
}

pub fn hello_reply(random: &mut Random) -> Vec<u8> {
    frame(|out| encode_hello_reply(&testing::hello_reply(random), out)).split_off(MAGIC.len())
}

pub fn peer_frame(random: &mut Random) -> Vec<u8> {
    frame(|out| encode_peer(&testing::peer_frame(random), out))
}

pub fn envelope(random: &mut Random) -> Vec<u8> {
    encode_envelope(&testing::envelope(random)).to_vec()
}

pub fn members(random: &mut Random) -> Vec<u8> {
    let set = |random: &mut Random| {
        let member = |id| Member {
            id: testing::node(id),
            instance: testing::flag(random).then(|| InstanceId(u128::from(random.next()))),
            address: String::from_utf8_lossy(&testing::bytes(random, 0)).into(),
        };
        (1..=2).map(member).collect::<Vec<_>>()
    };
    let (voters, outgoing, learners) = (set(random), set(random), set(random));
    Members { cluster: ClusterId(u128::from(random.next())), voters, outgoing, learners }.encode().to_vec()
}

pub fn line(random: &mut Random) -> Vec<u8> {
    let mut key = || {
        let mut out = BytesMut::new();
        write_key(&testing::bytes(random, 1), &mut out);
        out
    };
    let (a, b) = (key(), key());
    let words: &[&[u8]] = match random.below(12) {
        0..3 => &[b"PUT", &a, &b],
        3 | 4 => &[b"get", &a],
        5 | 6 => &[b"Delete", &a],
        7 => &[b"LIST", b"LIMIT", b"3"],
        8 => &[b"list", b"\"\"", b"after", &b],
        9 => &[b"LIST", b"\"a\"", b"LIMIT", b"1", b"AFTER", &b],
        10 => &[b"STATUS"],
        _ => &[b"PING"],
    };
    words.join(&b' ')
}

fn with_length(frame: Vec<u8>) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
}

pub fn frames(random: &mut Random) -> Vec<u8> {
    let mut input = vec![random.below(40) as u8];
    for _ in 0..=random.below(5) {
        input.extend(with_length(testing::bytes(random, 1).to_vec()));
    }
    input
}

/// Lines, frames of a client, or a peer's.
pub fn session(random: &mut Random) -> Vec<u8> {
    let mut input = vec![random.next() as u8];
    let units = 1 + random.below(12);
    match random.below(5) {
        0 | 1 => {
            for _ in 0..units {
                input.extend(line(random));
                input.extend_from_slice(if testing::flag(random) { b"\n" } else { b"\r\n" });
            }
        }
        2 | 3 => {
            input.extend(with_length(client_frame(random)));
            for _ in 1..units {
                input.extend(with_length(maybe_damaged(client_frame(random), random)));
            }
        }
        _ => {
            input.extend(with_length([MAGIC, &hello(random)].concat()));
            input.extend(with_length(peer_frame(random)));
        }
    }
    input
}

/// A few frames of a conversation are damaged inside, so that it goes on up to them.
fn maybe_damaged(mut frame: Vec<u8>, random: &mut Random) -> Vec<u8> {
    if random.below(8) == 0 {
        mutator::mutate(random, Shape::Protobuf, &mut frame, b"");
    }
    frame
}

pub fn identity(random: &mut Random) -> Vec<u8> {
    let disk = MemoryDisk::new();
    let wanted = Wanted { node: testing::node(7), cluster_name: "demo".into() };
    let fresh = InstanceId(u128::from(random.next()) << 64 | u128::from(random.next()));
    let mut dir = DataDir::on(disk.attach(), &wanted, fresh).unwrap();
    if testing::flag(random) {
        dir.record_cluster_id(ClusterId(u128::from(random.next()))).unwrap();
    }
    [vec![random.next() as u8], disk.contents("identity").unwrap()].concat()
}

/// Written out; its checksum is put right by the target.
pub fn suspect_mark(random: &mut Random) -> Vec<u8> {
    let place = |random: &mut Random| {
        let (segment, block, blocks) = (1 + random.below(4), random.below(5), random.below(4));
        format!("damage: wal/{segment:016x}.seg {} {}\n", block * 4096, blocks * 4096)
    };
    let places: String = (0..random.below(4)).map(|_| place(random)).collect();
    let more = if testing::flag(random) { "yes" } else { "no" };
    let text = format!("\x01raftkv suspect\nsince: {}\nend: certain\n{places}more: {more}\n", random.below(9));
    text.into()
}

/// Two sound slots that hold the same, or of which one is a write older.
pub fn term_slots(random: &mut Random) -> Vec<u8> {
    let (counter, term) = (4 + random.below(9), 4 + random.below(9));
    let says = |counter: u64, term: u64, vote: u32| {
        let version = raftkv::base::limits::DATA_FORMAT_VERSION.to_be_bytes();
        [&version[..], &counter.to_be_bytes(), &term.to_be_bytes(), &vote.to_be_bytes()].concat()
    };
    let (newer, older) = (says(counter, term, 1), says(counter - 1, term - random.below(2), 0));
    let slots = match random.below(3) {
        0 => [newer.clone(), newer],
        1 => [newer, older],
        _ => [older, newer],
    };
    [&[random.next() as u8 | 3][..], &slots.concat()].concat()
}

/// A place of which something depends: fields of headers, stamps and records, in any of the first sectors.
fn telling_place(random: &mut Random) -> u16 {
    const IN_SECTOR: [u64; 16] = [0, 4, 8, 12, 16, 20, 24, 28, 32, 48, 52, 56, 60, 64, 492, 494];
    const IN_STAMP: [u64; 4] = [496, 500, 504, 511];
    let sector = random.below(4) * 4096 + [0, 0, 512, 1024, 3584][random.below(5) as usize];
    let within = match random.below(4) {
        0 => IN_STAMP[random.below(4) as usize],
        1 => random.below(512),
        _ => IN_SECTOR[random.below(16) as usize],
    };
    (sector + within) as u16
}

/// One to four edits; any bytes would do.
pub fn edits(random: &mut Random) -> Vec<u8> {
    let mut program = Vec::new();
    for _ in 0..=random.below(4) {
        let mut edit = random.next().to_be_bytes();
        // What changes a file's length or name mostly ends in a refusal: not every time.
        let kinds = if random.below(4) == 0 { 8 } else { 7 };
        edit[0] = random.below(kinds) as u8;
        edit[2..4].copy_from_slice(&telling_place(random).to_be_bytes());
        if edit[0] < 5 {
            edit[6..8].copy_from_slice(&telling_place(random).to_be_bytes());
        }
        program.extend_from_slice(&edit);
    }
    assert!(program.len().is_multiple_of(EDIT_BYTES));
    program
}
