//! The client's end of one connection without the connection: frames out, frames in, answers matched to requests.
//!
//! It does no input or output, so that the blocking [`super::Connection`] and a load generator with thousands of
//! non-blocking sockets share it. Answers come in the order of the requests; an id out of order means that the
//! two ends disagree about what was answered, and the connection is of no more use.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::api::{IfNotLeading, Leader, Reply, Request};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::wire;

/// What was asked on one connection and is not answered yet.
#[derive(Debug, Default)]
pub struct Pipeline {
    last_id: u64,
    waiting: VecDeque<u64>,
    outgoing: BytesMut,
    incoming: BytesMut,
    /// Named by the last answers.
    leader: Option<Leader>,
}

impl Pipeline {
    /// Encodes `request` behind what is still to be sent, and gives its id: 1 for the first, one more for each.
    pub fn queue(&mut self, request: &Request, if_not_leading: IfNotLeading) -> u64 {
        self.last_id += 1;
        self.waiting.push_back(self.last_id);
        wire::encode_request(self.last_id, request, if_not_leading, &mut self.outgoing);
        self.last_id
    }

    /// What is to be written to the socket; take off what was.
    pub fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// What was read from the socket goes to its end.
    pub fn incoming(&mut self) -> &mut BytesMut {
        &mut self.incoming
    }

    /// The next answer, if all of it has arrived; an error says why the connection is of no more use.
    pub fn take_reply(&mut self) -> Result<Option<(u64, Reply)>, String> {
        let (id, reply) = match wire::take_short_reply(&mut self.incoming, &mut self.leader) {
            Some(answer) => answer,
            None => match wire::take_frame(&mut self.incoming, FRAME_BYTES_MAX) {
                Ok(Some(frame)) => wire::decode_reply(frame).map_err(|error| error.to_string())?,
                Ok(None) => return Ok(None),
                Err(error) => return Err(error.to_string()),
            },
        };
        match self.waiting.pop_front() {
            Some(expected) if expected == id => Ok(Some((id, reply))),
            Some(expected) => Err(format!("it answered request {id}, and request {expected} was next")),
            None => Err(format!("it answered request {id}, and nothing was asked")),
        }
    }

    /// Requests without an answer.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
