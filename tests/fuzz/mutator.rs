//! Damage to valid inputs, from a seed.

use raftkv::base::Random;

use super::protobuf::{self, edge};

/// What an input is made of; decides what damage gets deepest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Bytes,
    /// A message.
    Protobuf,
    /// A message behind the beginning of another, which is the same for all.
    ProtobufRest,
}

/// Does one to four kinds of damage; now and then it is noise instead, or `other`, which is a valid input of this
/// decoder or of another.
pub fn mutate(random: &mut Random, shape: Shape, bytes: &mut Vec<u8>, other: &[u8]) {
    match random.below(32) {
        0 | 1 => return *bytes = (0..random.below(200)).map(|_| random.next() as u8).collect(),
        2 => return *bytes = other.to_vec(),
        _ => {}
    }
    if shape != Shape::Bytes
        && random.below(4) > 0
        && let Some(mut fields) = protobuf::parse(bytes)
    {
        for _ in 0..=random.below(3) {
            protobuf::mutate(&mut fields, random);
        }
        *bytes = protobuf::encode(&fields);
        return;
    }
    mutate_bytes(random, bytes, other);
}

/// Flipped bits, other bytes, bytes more or fewer, stretches cut out, repeated or taken from another input, and what
/// lengths, counts and numbers look like.
pub fn mutate_bytes(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let end = at + random.below((bytes.len() - at).min(64) as u64 + 1) as usize;
        match random.below(12) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = random.next() as u8,
            3 => bytes.insert(at, random.next() as u8),
            4 => drop(bytes.drain(at..end)),
            5 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            6 => drop(bytes.splice(at..end, other[other.len().min(at)..other.len().min(end)].to_vec())),
            7 => bytes.truncate(at),
            8 => overwrite(bytes, at, &(edge(random) as u32).to_be_bytes()),
            9 => overwrite(bytes, at, &edge(random).to_be_bytes()),
            10 => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
            _ => replace_digits(random, bytes, at),
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let length = with.len().min(bytes.len() - at);
    bytes[at..at + length].copy_from_slice(&with[..length]);
}

/// The first number from `at` on that is written out.
fn replace_digits(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|start| at + start) else { return };
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.splice(start..start + length, edge(random).to_string().into_bytes());
}
