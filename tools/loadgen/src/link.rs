//! One non-blocking connection: requests in, what became of them out, over frames or lines.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BufMut, BytesMut};
use clap::ValueEnum;
use mio::net::TcpStream;
use raftkv::api::{Applied, ErrorCode, ReadBy, Request};
use raftkv::base::Operation;
use raftkv::client::Pipeline;

use crate::history::{Asked, Found};
use crate::resp;

/// Read at once; also how much is read before other links have their turn, times `READS_MAX`.
const READ_BYTES: usize = 64 * 1024;
const READS_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Length-prefixed protobuf, as the client library speaks
    Frames,
    /// A command a line, as netcat speaks
    Lines,
    /// What Redis speaks, to compare with it
    Resp,
}

impl Protocol {
    /// Whether a server that speaks it says who leads.
    pub fn has_leader(self) -> bool {
        self != Protocol::Resp
    }
}

/// A request under way.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What latency is counted from: when it was, or should have been, sent.
    pub since: Instant,
    pub is_write: bool,
    /// Of a run that is recorded.
    pub asked: Option<Asked>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    Refused { code: String, applied: Applied },
}

/// An answer that has arrived.
#[derive(Debug)]
pub struct Answered {
    pub sent: Sent,
    pub verdict: Verdict,
    /// What was done or found, of a run that is recorded.
    pub found: Option<Found>,
    /// The leader's address, where the protocol names it.
    pub leader: Option<Arc<str>>,
}

enum Codec {
    Frames(Box<Pipeline>),
    Lines { outgoing: BytesMut, incoming: BytesMut },
    Resp { outgoing: BytesMut, incoming: BytesMut },
}

pub struct Link {
    pub stream: TcpStream,
    codec: Codec,
    waiting: VecDeque<Sent>,
    /// From when the connection stands.
    writable: bool,
    /// An event has told that the other side has ended: no other will.
    is_ended: bool,
}

impl Link {
    /// Begins to connect; the first writable event shows how it went.
    pub fn connect(address: SocketAddr, protocol: Protocol) -> io::Result<Link> {
        let stream = TcpStream::connect(address)?;
        let codec = match protocol {
            Protocol::Frames => Codec::Frames(Box::default()),
            Protocol::Lines => Codec::Lines { outgoing: BytesMut::new(), incoming: BytesMut::new() },
            Protocol::Resp => Codec::Resp { outgoing: BytesMut::new(), incoming: BytesMut::new() },
        };
        Ok(Link { stream, codec, waiting: VecDeque::new(), writable: false, is_ended: false })
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the oldest request waits.
    pub fn oldest(&self) -> Option<Instant> {
        self.waiting.front().map(|sent| sent.since)
    }

    /// Whether anything may have left: nothing does before the connection stands.
    pub fn has_connected(&self) -> bool {
        self.writable
    }

    /// What is under way when the connection is given up: writes among it may have been applied, if it stood.
    pub fn abandon(self) -> VecDeque<Sent> {
        self.waiting
    }

    pub fn queue(&mut self, request: &Request, read_by: ReadBy, since: Instant, asked: Option<Asked>) {
        self.waiting.push_back(Sent { since, is_write: request.is_write(), asked });
        match &mut self.codec {
            Codec::Frames(pipeline) => {
                pipeline.queue(request, read_by.if_not_leading(request));
            }
            Codec::Lines { outgoing, .. } => {
                if let (ReadBy::Any, Request::Get { .. }) = (read_by, request) {
                    outgoing.put_slice(b"ANY ");
                }
                write_line(request, outgoing);
            }
            Codec::Resp { outgoing, .. } => resp::write(request, outgoing),
        }
    }

    /// The other side has ended its output: what is left of it is to be read.
    pub fn note_end(&mut self) {
        self.is_ended = true;
    }

    /// `Err`: the connection failed.
    pub fn on_writable(&mut self) -> io::Result<()> {
        if !self.writable {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
                connected => connected?,
            };
            self.stream.set_nodelay(true)?;
            self.writable = true;
        }
        self.flush()
    }

    /// Writes until all is written or the system takes no more; then a writable event follows.
    pub fn flush(&mut self) -> io::Result<()> {
        let outgoing = match &mut self.codec {
            Codec::Frames(pipeline) => pipeline.outgoing(),
            Codec::Lines { outgoing, .. } | Codec::Resp { outgoing, .. } => outgoing,
        };
        while self.writable && !outgoing.is_empty() {
            match self.stream.write(outgoing) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => outgoing.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there, as long as it is not too much, and takes the answers. True: there may be more.
    pub fn on_readable(&mut self, buffer: &mut Vec<u8>, answers: &mut Vec<Answered>) -> io::Result<bool> {
        buffer.resize(READ_BYTES, 0);
        for _ in 0..READS_MAX {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.take_answers(&buffer[..read], answers)?;
                    // That was all there was, and an event tells of more: epoll(7), on edge-triggered streams. What is
                    // measured is not to wait for a system call that finds nothing.
                    if read < READ_BYTES && !self.is_ended {
                        return Ok(false);
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn take_answers(&mut self, bytes: &[u8], answers: &mut Vec<Answered>) -> io::Result<()> {
        let broken = |why: String| io::Error::new(ErrorKind::InvalidData, why);
        let unasked = || broken("an answer to nothing that was asked".to_string());
        match &mut self.codec {
            Codec::Frames(pipeline) => {
                pipeline.incoming().put_slice(bytes);
                while let Some((_, reply)) = pipeline.take_reply().map_err(broken)? {
                    let sent = self.waiting.pop_front().ok_or_else(unasked)?;
                    let (verdict, found) = match reply.result {
                        Ok(outcome) => (Verdict::Done, sent.asked.as_ref().and_then(|_| Found::in_reply(outcome))),
                        Err(error) => {
                            (Verdict::Refused { code: error.code.to_string(), applied: error.code.applied() }, None)
                        }
                    };
                    let leader = reply.leader.map(|leader| leader.address);
                    let leader = leader.filter(|address| !address.is_empty());
                    answers.push(Answered { sent, verdict, found, leader });
                }
            }
            Codec::Lines { incoming, .. } => {
                incoming.put_slice(bytes);
                while let Some(end) = incoming.iter().position(|byte| *byte == b'\n') {
                    let line = incoming.split_to(end + 1);
                    let sent = self.waiting.pop_front().ok_or_else(unasked)?;
                    let found = sent.asked.as_ref().map(|asked| asked.found_in_line(&line));
                    answers.push(Answered { sent, verdict: line_verdict(&line), found, leader: None });
                }
            }
            Codec::Resp { incoming, .. } => {
                incoming.put_slice(bytes);
                while let Some(verdict) = resp::take(incoming).map_err(broken)? {
                    let sent = self.waiting.pop_front().ok_or_else(unasked)?;
                    answers.push(Answered { sent, verdict, found: None, leader: None });
                }
            }
        }
        Ok(())
    }
}

/// Keys and values are letters, digits, `/` and `-`: nothing needs quotes.
fn write_line(request: &Request, out: &mut BytesMut) {
    let words: &[&[u8]] = match request {
        Request::Write(Operation::Put { key, value }) => &[b"PUT ", key, b" ", value, b"\n"],
        Request::Write(Operation::Delete { key }) => &[b"DELETE ", key, b"\n"],
        Request::Get { key, .. } => &[b"GET ", key, b"\n"],
        Request::List { .. } | Request::Status | Request::Scrub | Request::Latency => &[b"PING\n"],
    };
    words.iter().for_each(|word| out.put_slice(word));
}

fn line_verdict(line: &[u8]) -> Verdict {
    let Some(error) = line.strip_prefix(b"ERR ") else { return Verdict::Done };
    let code = error.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let code = String::from_utf8_lossy(code).into_owned();
    let applied = match code == ErrorCode::OutcomeUnknown.as_str() {
        true => Applied::Maybe,
        false => Applied::No,
    };
    Verdict::Refused { code, applied }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        assert_eq!(line_verdict(b"OK\n"), Verdict::Done);
        assert_eq!(line_verdict(b"(nil)\r\n"), Verdict::Done);
        let busy = Verdict::Refused { code: "busy".into(), applied: Applied::No };
        assert_eq!(line_verdict(b"ERR busy the node has too much to do\n"), busy);
        let unknown = Verdict::Refused { code: "outcome_unknown".into(), applied: Applied::Maybe };
        assert_eq!(line_verdict(b"ERR outcome_unknown\n"), unknown);
    }
}
