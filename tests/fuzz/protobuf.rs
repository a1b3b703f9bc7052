//! Protobuf as a tree, so that what is changed inside a message leaves the lengths around it right: a flipped byte in
//! the middle of a frame mostly breaks the frame, and nothing behind the first length is ever reached.

use raftkv::base::Random;

/// A field of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub number: u32,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(u64),
    /// A number in more bytes than it needs.
    LongNumber(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    /// Or bytes that look like one.
    Message(Vec<Field>),
}

/// `None` if it is no whole message.
pub fn parse(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = u32::try_from(take_number(&mut bytes)?).ok()?;
        let value = match tag & 7 {
            0 => Value::Number(take_number(&mut bytes)?),
            1 => Value::Fixed64(*bytes.split_off(..8)?.first_chunk()?),
            2 => {
                let length = usize::try_from(take_number(&mut bytes)?).ok()?;
                let inner = bytes.split_off(..length)?;
                match parse(inner) {
                    Some(fields) if !fields.is_empty() => Value::Message(fields),
                    _ => Value::Bytes(inner.to_vec()),
                }
            }
            5 => Value::Fixed32(*bytes.split_off(..4)?.first_chunk()?),
            _ => return None,
        };
        fields.push(Field { number: tag >> 3, value });
    }
    Some(fields)
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

pub fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, value } in fields {
        let mut tag = |wire_type: u64| put_number(&mut out, u64::from(*number) << 3 | wire_type);
        match value {
            Value::Number(value) => {
                tag(0);
                put_number(&mut out, *value);
            }
            Value::LongNumber(value) => {
                tag(0);
                put_long_number(&mut out, *value);
            }
            Value::Fixed64(bytes) => {
                tag(1);
                out.extend_from_slice(bytes);
            }
            Value::Fixed32(bytes) => {
                tag(5);
                out.extend_from_slice(bytes);
            }
            Value::Bytes(bytes) => put_bytes(&mut out, *number, bytes),
            Value::Message(fields) => put_bytes(&mut out, *number, &encode(fields)),
        }
    }
    out
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_number(out, u64::from(number) << 3 | 2);
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Ten bytes, whatever it needs.
fn put_long_number(out: &mut Vec<u8>, value: u64) {
    out.extend((0..9).map(|group| (value >> (7 * group)) as u8 | 0x80));
    out.push((value >> 63) as u8);
}

/// Changes something somewhere in the message.
pub fn mutate(fields: &mut Vec<Field>, random: &mut Random) {
    if fields.is_empty() {
        fields.push(Field { number: small_number(random), value: value(random) });
        return;
    }
    let at = random.below(fields.len() as u64) as usize;
    if let Value::Message(inner) = &mut fields[at].value
        && random.below(4) > 0
    {
        return mutate(inner, random);
    }
    match random.below(8) {
        0 => drop(fields.remove(at)),
        1 => fields.insert(at, fields[at].clone()),
        2 => fields.swap(at, 0),
        3 => repeat(fields, at, random),
        4 => fields[at].number = small_number(random),
        5 => fields.insert(at, Field { number: small_number(random), value: value(random) }),
        _ => change(&mut fields[at].value, random),
    }
}

/// Mostly a few times; now and then more often than any limit allows.
fn repeat(fields: &mut Vec<Field>, at: usize, random: &mut Random) {
    let times = match random.below(64) {
        0 => 17_000,
        1..8 => 1100,
        _ => 1 + random.below(5) as usize,
    };
    let mut element = fields[at].clone();
    if times > 100 {
        element.value = Value::Bytes(Vec::new());
    }
    fields.splice(at..at, std::iter::repeat_n(element, times));
}

fn change(old: &mut Value, random: &mut Random) {
    match old {
        Value::Number(number) => {
            *old = match random.below(4) {
                0 => Value::LongNumber(*number),
                1 => Value::Number(number.wrapping_add(1)),
                2 => Value::Number(number.wrapping_sub(1)),
                _ => Value::Number(edge(random)),
            }
        }
        Value::Bytes(bytes) if random.below(3) > 0 => super::mutator::mutate_bytes(random, bytes, b""),
        _ => *old = value(random),
    }
}

fn value(random: &mut Random) -> Value {
    match random.below(8) {
        0..4 => Value::Number(edge(random)),
        4 => Value::Bytes(Vec::new()),
        5 => Value::Bytes((0..random.below(40)).map(|_| random.next() as u8).collect()),
        6 => Value::Fixed32((random.next() as u32).to_le_bytes()),
        _ => Value::Fixed64(random.next().to_le_bytes()),
    }
}

/// Numbers at the ends of ranges.
pub fn edge(random: &mut Random) -> u64 {
    const EDGES: [u64; 14] = [
        0,
        1,
        2,
        127,
        128,
        (1 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        u64::MAX / 2,
        u64::MAX / 2 + 1,
        u64::MAX - 1,
        u64::MAX,
        16 * 1024 * 1024 + 1,
    ];
    EDGES[random.below(EDGES.len() as u64) as usize]
}

fn small_number(random: &mut Random) -> u32 {
    1 + random.below(30) as u32
}
