//! The fields of a protobuf message, written and read one by one, without a struct that holds them all. Pure.
//!
//! A tag is a field's number and wire type, as it stands on the wire. Fields come in the order of their numbers, and
//! those that hold nothing (0, no bytes) are left out, as proto3 has it.

/// What has fields.
pub trait Message {
    fn write(&self, out: &mut impl Fields);
}

/// Takes the fields of a message.
pub trait Fields: Sized {
    fn raw(&mut self, bytes: &[u8]);
    fn varint(&mut self, value: u64);
    /// The fields of a message within, which have `length` bytes.
    fn within(&mut self, length: usize, message: &impl Message);

    /// Nothing, if it is 0.
    fn number(&mut self, tag: &[u8], value: u64) {
        if value != 0 {
            self.raw(tag);
            self.varint(value);
        }
    }

    /// Nothing, if there are none.
    fn bytes(&mut self, tag: &[u8], value: &[u8]) {
        if !value.is_empty() {
            self.raw(tag);
            self.varint(value.len() as u64);
            self.raw(value);
        }
    }

    /// Also if it holds nothing.
    fn message(&mut self, tag: &[u8], message: &impl Message) {
        let length = length_of(message);
        self.raw(tag);
        self.varint(length as u64);
        self.within(length, message);
    }
}

/// How many bytes `message` has.
pub fn length_of(message: &impl Message) -> usize {
    let mut length = Length(0);
    message.write(&mut length);
    length.0
}

/// Writes `message` over `place`, which is as long as it.
pub fn write_over(place: &mut [u8], message: &impl Message) {
    let mut place = Place(place);
    message.write(&mut place);
    debug_assert!(place.0.is_empty(), "the message was measured");
}

struct Length(usize);

impl Fields for Length {
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn varint(&mut self, value: u64) {
        self.0 += prost::encoding::encoded_len_varint(value);
    }

    fn within(&mut self, length: usize, _: &impl Message) {
        self.0 += length;
    }
}

struct Place<'a>(&'a mut [u8]);

impl Fields for Place<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        let place = self.0.split_off_mut(..bytes.len()).expect("the message was measured");
        place.copy_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.raw(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.raw(&[value as u8]);
    }

    fn within(&mut self, _: usize, message: &impl Message) {
        message.write(self);
    }
}

/// Reads the fields of a message. `None`, of each: they are not what is asked for, or end too early.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(message: &'a [u8]) -> Reader<'a> {
        Reader(message)
    }

    /// Whether the next field has this tag, which is passed over then.
    pub fn has(&mut self, tag: &[u8]) -> bool {
        let rest = self.0.strip_prefix(tag);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Of nine bytes at most: numbers from 2^63 on are not read here.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = *self.0.split_off_first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// 0 if it was left out.
    pub fn number(&mut self, tag: &[u8]) -> Option<u64> {
        if self.has(tag) { self.varint() } else { Some(0) }
    }

    /// The same, of a field that holds 32 bits.
    pub fn number_32(&mut self, tag: &[u8]) -> Option<u32> {
        self.number(tag)?.try_into().ok()
    }

    /// None if they were left out.
    pub fn bytes(&mut self, tag: &[u8]) -> Option<&'a [u8]> {
        if self.has(tag) { self.delimited() } else { Some(&[]) }
    }

    /// What stands behind the tag of a message or of bytes.
    pub fn delimited(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.0.split_off(..length)
    }

    /// Every field was read.
    pub fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
