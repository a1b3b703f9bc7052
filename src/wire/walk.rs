//! A look at a protobuf message before it is decoded: which fields are there, how often.
//!
//! A decoder allocates for every element of a repeated field, and an empty element costs two bytes on the wire and
//! up to a hundred in memory: 16 MiB of them would take gigabytes. So elements are counted first. Fields are
//! stepped over, not read, so that this costs little. It sees at least what the decoder would.

use crate::guard::{Guard, removed};

/// One field of a message. `payload` is there for what has a length: messages, bytes, strings.
pub struct Field<'a> {
    pub number: u32,
    pub payload: Option<&'a [u8]>,
}

/// The fields of a message, in order, up to the first that is malformed (which the decoder will refuse).
pub fn fields(message: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = message;
    std::iter::from_fn(move || next_field(&mut rest))
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let tag = u32::try_from(varint(rest)?).ok()?;
    let payload = match tag & 7 {
        0 => varint(rest).map(|_| None)?,
        1 => rest.split_off(..8).map(|_| None)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Some(rest.split_off(..length)?)
        }
        // The ends of a group (long deprecated, and unknown to us): what is inside is looked at as if it stood here.
        3 | 4 => None,
        5 => rest.split_off(..4).map(|_| None)?,
        _ => return None,
    };
    Some(Field { number: tag >> 3, payload })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Whether `message` is long enough for more than `count` elements: each has a tag, and a length or a value. What is not
/// needs no walk.
pub fn may_hold_more(message: &[u8], count: usize) -> bool {
    message.len() / 2 > count
}

/// How often the field at each of `paths` occurs, all its parents together, in one walk. A path is field numbers from
/// the outermost message inwards; `parents` stand before each of them.
pub fn counts<const N: usize>(message: &[u8], parents: &[u32], paths: [&[u32]; N]) -> [usize; N] {
    let mut counts = [0; N];
    if removed(Guard::NestedCountsUnchecked) {
        return counts;
    }
    count_behind(message, parents, paths, &mut counts);
    counts
}

fn count_behind<const N: usize>(message: &[u8], parents: &[u32], paths: [&[u32]; N], counts: &mut [usize; N]) {
    let Some((number, inner)) = parents.split_first() else { return count(message, paths, counts) };
    let found = fields(message).filter(|field| field.number == *number).filter_map(|field| field.payload);
    found.for_each(|payload| count_behind(payload, inner, paths, counts));
}

/// Paths that are empty lead nowhere.
fn count<const N: usize>(message: &[u8], paths: [&[u32]; N], counts: &mut [usize; N]) {
    for field in fields(message) {
        let mut inner: [&[u32]; N] = [&[]; N];
        for ((path, inner), count) in paths.iter().zip(&mut inner).zip(&mut *counts) {
            if let Some((number, rest)) = path.split_first()
                && *number == field.number
            {
                *count += usize::from(rest.is_empty());
                *inner = rest;
            }
        }
        if let Some(payload) = field.payload
            && inner.iter().any(|path| !path.is_empty())
        {
            count(payload, inner, counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted_over_all_parents() {
        // 1 { 2: "", 2: "x" } 3: 300 (varint) 1 { 2: "" } 4: fixed64 5: fixed32
        let message = b"\x0a\x05\x12\x00\x12\x01x\x18\xac\x02\x0a\x02\x12\x00\x2112345678\x2d1234";
        assert_eq!(counts(message, &[], [&[1, 2], &[1], &[3], &[2], &[3, 2], &[]]), [3, 2, 1, 0, 0, 0]);
        assert_eq!(counts(message, &[1], [&[2], &[2, 1], &[1]]), [3, 0, 0]);
        assert_eq!(counts(message, &[3], [&[2]]), [0]);
        assert_eq!(fields(message).map(|field| field.number).collect::<Vec<_>>(), [1, 3, 1, 4, 5]);
    }

    #[test]
    fn what_is_not_walked_is_too_short_for_more_than_so_many_of_the_shortest_elements() {
        for count in 0..10 {
            let message = b"\x1a\x00".repeat(count);
            assert_eq!(counts(&message, &[], [&[3]]), [count]);
            assert!((0..count).all(|fewer| may_hold_more(&message, fewer)), "{count}");
            assert!(!may_hold_more(&[&message[..], b"\x1a"].concat(), count), "{count}");
        }
    }

    #[test]
    fn a_malformed_field_ends_the_walk() {
        for message in
            [&b"\x0a\x05ab"[..], b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0f", b"\x08", b"\x09123", b"\xff"]
        {
            assert_eq!(fields(message).count(), 0, "{message:?}");
        }
    }
}
