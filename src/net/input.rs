//! How bytes that came in are kept until they are a whole frame. Pure.
//!
//! Two dangers: a length that is only announced must cost nothing, and a small message that lives long (an entry in
//! the log) must not keep a large read buffer alive.

use bytes::{Bytes, BytesMut};

use crate::wire::{self, FRAME_HEADER_BYTES, SMALL_FRAME_BYTES};

/// A drained buffer above this size is given back, so that an idle connection keeps next to nothing.
const KEPT_BUFFER_BYTES: usize = 4 * 1024;

/// How many bytes the frame at the head of `input` will have with its header; 0 if that is not known.
pub fn announced_bytes(input: &BytesMut, frame_bytes_max: usize) -> usize {
    match input.first_chunk::<FRAME_HEADER_BYTES>() {
        Some(&prefix) => (u32::from_be_bytes(prefix) as usize).min(frame_bytes_max) + FRAME_HEADER_BYTES,
        None => 0,
    }
}

/// Appends `bytes`. The memory doubles as they come, but not past what the frame announced (0: unknown).
pub fn append(input: &mut BytesMut, bytes: &[u8], announced: usize) {
    let needed = input.len() + bytes.len();
    if needed > input.capacity() && !input.is_empty() {
        let doubled = input.len() * 2;
        let capacity = if announced > 0 { doubled.min(announced) } else { doubled };
        let mut larger = BytesMut::with_capacity(capacity.max(needed));
        larger.extend_from_slice(input);
        *input = larger;
    }
    input.extend_from_slice(bytes);
}

/// The first frame, if it is complete, in memory of its own.
pub fn take_frame(input: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<Bytes>, wire::FrameError> {
    let frame = wire::take_frame(input, frame_bytes_max)?;
    // A large one takes the input's memory with it.
    if frame.as_ref().is_some_and(|frame| frame.len() > SMALL_FRAME_BYTES) {
        *input = BytesMut::from(&input[..]);
    }
    Ok(frame)
}

/// A buffer's capacity says nothing of what was taken off its front; what it could have again does.
pub fn release_drained(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.try_reclaim(KEPT_BUFFER_BYTES + 1) {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    #[test]
    fn memory_follows_what_arrives_and_never_what_is_announced() {
        let max = 16 * 1024 * 1024;
        let mut input = BytesMut::new();
        append(&mut input, &u32::to_be_bytes(16 * 1024 * 1024), 0);
        let mut peak_of_first = 0;
        while input.len() < max {
            let announced = announced_bytes(&input, max);
            append(&mut input, &[7; 64 * 1024], announced);
            let bound = (2 * input.len()).max(128 * 1024).min(max + 128 * 1024);
            assert!(input.capacity() <= bound, "{} bytes hold {}", input.len(), input.capacity());
            peak_of_first = peak_of_first.max(input.capacity());
        }
        assert!(peak_of_first <= max + 128 * 1024);
    }

    #[test]
    fn a_frame_is_taken_whole_and_what_follows_stays() {
        for length in [1, SMALL_FRAME_BYTES, SMALL_FRAME_BYTES + 1, 100_000] {
            let mut input = BytesMut::new();
            let content = vec![9; length];
            let bytes = [&u32::try_from(length).unwrap().to_be_bytes()[..], &content, b"rest"].concat();
            for chunk in bytes[..length + 3].chunks(1000) {
                let announced = announced_bytes(&input, 1 << 20);
                append(&mut input, chunk, announced);
            }
            assert!(take_frame(&mut input, 1 << 20).unwrap().is_none());
            append(&mut input, &bytes[length + 3..], 0);
            assert_eq!(take_frame(&mut input, 1 << 20).unwrap().unwrap(), content);
            assert_eq!(input, b"rest"[..]);
        }
    }

    #[test]
    fn what_was_drained_bit_by_bit_is_given_back_too() {
        for (length, is_kept) in [(KEPT_BUFFER_BYTES, true), (KEPT_BUFFER_BYTES + 1, false), (1 << 20, false)] {
            let mut buffer = BytesMut::with_capacity(length);
            buffer.extend_from_slice(&vec![7; length]);
            while !buffer.is_empty() {
                buffer.advance(buffer.len().min(1000));
            }
            release_drained(&mut buffer);
            assert_eq!(buffer.try_reclaim(length), is_kept, "{length} bytes");
        }
    }
}
