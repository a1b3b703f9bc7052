//! Frames: where one ends and the next begins. Owns no buffer; runs on the net thread.
//!
//! ```text
//! +----------------------+----------------------------+
//! | u32 length, big end  | length bytes of protobuf   |   1 <= length <= the limit of the connection
//! +----------------------+----------------------------+
//! ```

use crate::guard::{Guard, removed};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// Bytes of a frame's length.
pub const FRAME_HEADER_BYTES: usize = 4;

/// Frames up to this size are copied out of the buffer, which then need not be shared; a larger one shares its memory.
pub const SMALL_FRAME_BYTES: usize = 4 * 1024;

/// A length that no frame has. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame announces 0 bytes; a frame has at least one")]
    Empty,
    #[error("a frame announces {announced} bytes, the limit is {max}; ask for less at once")]
    TooLong { announced: usize, max: usize },
}

/// Bytes that are no message of ours, and why. The connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad frame: {0}")]
pub struct BadFrame(pub String);

impl BadFrame {
    pub(super) fn new(why: impl Into<String>) -> BadFrame {
        BadFrame(why.into())
    }
}

impl From<prost::DecodeError> for BadFrame {
    fn from(error: prost::DecodeError) -> BadFrame {
        BadFrame(error.to_string())
    }
}

/// How many bytes the frame at the head of `buffer` has without its length, once all of it is there. `max`: the most it
/// may have.
fn complete_frame(buffer: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    let Some((header, arrived)) = buffer.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let announced = u32::from_be_bytes(*header) as usize;
    if announced == 0 {
        return Err(FrameError::Empty);
    }
    if announced > max && !removed(Guard::FrameLengthUnchecked) {
        return Err(FrameError::TooLong { announced, max });
    }
    Ok((arrived.len() >= announced).then_some(announced))
}

/// Takes the next complete frame, without its length, off the front of `buffer`. `None`: more must arrive first;
/// nothing is reserved for it, so that an announcement costs no memory. `max`: bytes without the length.
pub fn take_frame(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(length) = complete_frame(buffer, max)? else { return Ok(None) };
    buffer.advance(FRAME_HEADER_BYTES);
    if length > SMALL_FRAME_BYTES {
        return Ok(Some(buffer.split_to(length).freeze()));
    }
    let frame = Bytes::copy_from_slice(&buffer[..length]);
    buffer.advance(length);
    Ok(Some(frame))
}

/// What `read` makes of the next frame, which is taken off the front of `buffer` then; of a small one alone, if all of it
/// has arrived.
pub(super) fn take_small<T>(buffer: &mut BytesMut, read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    let length = complete_frame(buffer, SMALL_FRAME_BYTES).ok()??;
    let end = FRAME_HEADER_BYTES + length;
    let found = read(&buffer[FRAME_HEADER_BYTES..end])?;
    buffer.advance(end);
    Some(found)
}

/// Appends `message` as a frame.
pub(super) fn put_frame(message: &impl Message, out: &mut BytesMut) {
    put_frame_of(message.encoded_len(), message, out);
}

/// The same, of a message that has `length` bytes.
pub(super) fn put_frame_of(length: usize, message: &impl Message, out: &mut BytesMut) {
    out.reserve(FRAME_HEADER_BYTES + length);
    out.put_slice(&header(length));
    message.encode(out).expect("a BytesMut grows as needed");
}

/// The header of a frame of `length` bytes.
pub(super) fn header(length: usize) -> [u8; FRAME_HEADER_BYTES] {
    u32::try_from(length).expect("callers check FRAME_BYTES_MAX for whatever can be large").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: &[u8]) -> BytesMut {
        BytesMut::from(bytes)
    }

    #[test]
    fn frames_come_off_one_by_one_and_the_rest_stays() {
        let mut buffer = buffer(b"\0\0\0\x02ab\0\0\0\x01c\0\0");
        assert_eq!(take_frame(&mut buffer, 16).unwrap().unwrap(), "ab");
        assert_eq!(take_frame(&mut buffer, 16).unwrap().unwrap(), "c");
        assert_eq!(take_frame(&mut buffer, 16), Ok(None));
        assert_eq!(&buffer[..], b"\0\0");
    }

    #[test]
    fn a_half_frame_waits_whatever_its_half() {
        let whole = b"\0\0\0\x05hello";
        for length in 0..whole.len() {
            let mut half = buffer(&whole[..length]);
            let capacity = half.capacity();
            assert_eq!(take_frame(&mut half, 16), Ok(None), "{length} bytes");
            assert_eq!((&half[..], half.capacity()), (&whole[..length], capacity), "{length} bytes");
        }
    }

    #[test]
    fn an_announcement_reserves_nothing() {
        let mut announced = buffer(b"\x01\0\0\0x");
        assert_eq!(take_frame(&mut announced, 16 * 1024 * 1024), Ok(None));
        assert!(announced.capacity() < 1024);
    }

    #[test]
    fn lengths_that_no_frame_has_are_refused_before_their_bytes_arrive() {
        let max = 16 * 1024 * 1024;
        assert_eq!(take_frame(&mut buffer(&[0; 4]), max), Err(FrameError::Empty));
        for announced in [max + 1, 1 << 31, (1 << 31) - 1, u32::MAX as usize, u32::MAX as usize - 3] {
            let header = (announced as u32).to_be_bytes();
            assert_eq!(take_frame(&mut buffer(&header), max), Err(FrameError::TooLong { announced, max }));
        }
        assert_eq!(take_frame(&mut buffer(&(max as u32).to_be_bytes()), max), Ok(None), "the limit itself is allowed");
    }
}
