//! A look at a protobuf message before it is decoded: which fields are there, how often.
//!
//! A decoder allocates for every element of a repeated field, and an empty element costs two bytes on the wire and
//! up to a hundred in memory: 16 MiB of them would take gigabytes. So elements are counted first. Fields are
//! stepped over, not read, so that this costs little. It sees at least what the decoder would.

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

/// How often the field at `path` (field numbers from the outermost message inwards) occurs, all parents together.
pub fn count<'a>(message: &[u8], path: impl IntoIterator<Item = &'a u32, IntoIter: Clone>) -> usize {
    count_along(message, path.into_iter())
}

fn count_along<'a>(message: &[u8], mut path: impl Iterator<Item = &'a u32> + Clone) -> usize {
    let Some(number) = path.next() else {
        return 1;
    };
    let is_last = path.clone().next().is_none();
    let found = fields(message).filter(|field| field.number == *number);
    found.map(|field| field.payload.map_or(usize::from(is_last), |payload| count_along(payload, path.clone()))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted_over_all_parents() {
        // 1 { 2: "", 2: "x" } 3: 300 (varint) 1 { 2: "" } 4: fixed64 5: fixed32
        let message = b"\x0a\x05\x12\x00\x12\x01x\x18\xac\x02\x0a\x02\x12\x00\x2112345678\x2d1234";
        assert_eq!(count(message, &[1, 2]), 3);
        assert_eq!(count(message, &[1]), 2);
        assert_eq!(count(message, &[3]), 1);
        assert_eq!(count(message, &[2]), 0);
        assert_eq!(fields(message).map(|field| field.number).collect::<Vec<_>>(), [1, 3, 1, 4, 5]);
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
