//! What waits to be sent to one peer. Plain data; used by the net thread.
//!
//! Control messages (votes, heartbeats, acknowledgements) go before data (entries, forwarded requests), so that a
//! heartbeat waits behind two chunks at most, never behind a window of entries. Within each of the two the order
//! is kept. What one kind may overtake is known to Raft: any message may be lost or late.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, BytesMut};

use crate::guard::{Guard, removed};
use crate::raft::{Body, Message};

/// Frames are gathered into chunks of about this size; one chunk is what control messages can't overtake.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks handed to the socket at once.
const CHUNKS_AT_ONCE: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    Control,
    Data,
}

impl Urgency {
    pub fn of(message: &Message) -> Urgency {
        match message.body {
            Body::Append { .. } | Body::Refilled { .. } => Urgency::Data,
            _ => Urgency::Control,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct QueueFull;

/// The queue: encoded frames, in bytes. It bounds what it holds, and what was written of it is gone.
#[derive(Debug)]
pub struct LinkQueue {
    /// Being written; the first may be written in part. Nothing overtakes these.
    sending: VecDeque<BytesMut>,
    control: BytesMut,
    data: VecDeque<BytesMut>,
    bytes: usize,
    bytes_max: usize,
}

impl LinkQueue {
    pub fn new(bytes_max: usize) -> LinkQueue {
        let (sending, data) = (VecDeque::new(), VecDeque::new());
        LinkQueue { sending, control: BytesMut::new(), data, bytes: 0, bytes_max }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Queues what `encode` appends: whole frames. `QueueFull`: the bound is passed, and the link must be closed,
    /// since its order can't be kept.
    pub fn push(&mut self, urgency: Urgency, encode: impl FnOnce(&mut BytesMut)) -> Result<(), QueueFull> {
        let chunk = match urgency {
            Urgency::Control if !removed(Guard::HeartbeatBehindData) => &mut self.control,
            Urgency::Control | Urgency::Data => {
                if self.data.back().is_none_or(|chunk| chunk.len() >= CHUNK_BYTES) {
                    self.data.push_back(BytesMut::new());
                }
                self.data.back_mut().expect("pushed above if there was none")
            }
        };
        let before = chunk.len();
        encode(chunk);
        self.bytes += chunk.len() - before;
        if self.bytes > self.bytes_max { Err(QueueFull) } else { Ok(()) }
    }

    /// Hands the queue to `write` until it is empty, `write` fails or has taken `bytes_max` or a little more;
    /// `WouldBlock` is an error like any other. Returns the bytes written before that, and the error.
    pub fn write_to(
        &mut self,
        bytes_max: usize,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> (usize, io::Result<()>) {
        let mut total = 0;
        while self.bytes > 0 && total < bytes_max {
            self.refill();
            let slices: Vec<IoSlice<'_>> = self.sending.iter().map(|chunk| IoSlice::new(chunk)).collect();
            match write(&slices) {
                Ok(0) => return (total, Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    total += written;
                    self.forget(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (total, Err(error)),
            }
        }
        (total, Ok(()))
    }

    /// Decides what goes next: only once all that was decided before is gone, or little of it is left to go.
    fn refill(&mut self) {
        if self.sending.len() >= CHUNKS_AT_ONCE {
            return;
        }
        if !self.control.is_empty() {
            self.sending.push_back(self.control.split());
        }
        while self.sending.len() < CHUNKS_AT_ONCE
            && let Some(chunk) = self.data.pop_front()
        {
            self.sending.push_back(chunk);
        }
    }

    fn forget(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(chunk) = self.sending.front_mut() {
            if chunk.len() > written {
                return chunk.advance(written);
            }
            written -= chunk.len();
            self.sending.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn push(queue: &mut LinkQueue, urgency: Urgency, byte: u8, length: usize) -> Result<(), QueueFull> {
        queue.push(urgency, |out| out.put_bytes(byte, length))
    }

    /// Takes up to `step` bytes a write, as a slow socket would, and everything in the end.
    fn drain(queue: &mut LinkQueue, step: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        let (written, result) = queue.write_to(usize::MAX, |slices| {
            let first = slices.iter().find(|slice| !slice.is_empty()).expect("never asked to write nothing");
            let length = first.len().min(step);
            taken.extend_from_slice(&first[..length]);
            Ok(length)
        });
        assert!(result.is_ok());
        assert_eq!(written, taken.len());
        taken
    }

    #[test]
    fn control_messages_overtake_queued_data_but_never_a_frame_that_is_half_written() {
        let mut queue = LinkQueue::new(usize::MAX);
        for byte in 0..10 {
            push(&mut queue, Urgency::Data, byte, CHUNK_BYTES).unwrap();
        }
        let mut blocked = false;
        let (written, result) = queue.write_to(usize::MAX, |_| {
            if std::mem::replace(&mut blocked, true) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(100) }
        });
        assert_eq!((written, result.unwrap_err().kind()), (100, io::ErrorKind::WouldBlock));
        push(&mut queue, Urgency::Control, 99, 7).unwrap();
        let taken = drain(&mut queue, 1000);
        let place = taken.iter().position(|&byte| byte == 99).unwrap();
        assert!(place <= CHUNKS_AT_ONCE * CHUNK_BYTES, "the heartbeat waited behind {place} bytes");
        assert_eq!(place % CHUNK_BYTES, CHUNK_BYTES - 100, "it went between two frames");
        let data: Vec<u8> = taken.into_iter().filter(|&byte| byte != 99).collect();
        assert!(data.is_sorted(), "the order of the data is kept");
        assert_eq!(data.len(), 10 * CHUNK_BYTES - 100);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_turn_writes_its_budget_and_what_came_meanwhile_goes_first_in_the_next() {
        let mut queue = LinkQueue::new(usize::MAX);
        for byte in 0..10 {
            push(&mut queue, Urgency::Data, byte, CHUNK_BYTES).unwrap();
        }
        let (written, result) = queue.write_to(2 * CHUNK_BYTES, |slices| Ok(slices[0].len()));
        assert!(result.is_ok());
        assert_eq!(written, 2 * CHUNK_BYTES);
        push(&mut queue, Urgency::Control, 99, 7).unwrap();
        let place = drain(&mut queue, usize::MAX).iter().position(|&byte| byte == 99).unwrap();
        assert!(place <= CHUNK_BYTES, "the heartbeat waited behind {place} bytes");
    }

    #[test]
    fn the_bound_is_in_bytes_and_what_was_written_no_longer_counts() {
        let mut queue = LinkQueue::new(1000);
        push(&mut queue, Urgency::Data, 1, 600).unwrap();
        push(&mut queue, Urgency::Control, 1, 400).unwrap();
        assert_eq!(queue.bytes(), 1000);
        drain(&mut queue, 7);
        push(&mut queue, Urgency::Data, 1, 1000).unwrap();
        assert_eq!(push(&mut queue, Urgency::Control, 1, 1), Err(QueueFull));
    }
}
