//! One client's conversation, without its socket: bytes in, requests out; answers in, bytes out, in request order.
//!
//! Sans-I/O and deterministic, so that a simulator can run it too: no clock, no socket, no poll.
//!
//! ```text
//! Undecided --0x00 0x01--> Frames --first frame is a hello--> not a session any more (see Turn::Hello)
//!           --printable--> Lines
//!           --0x16, *, anything else--> closed
//! ```
//!
//! What is decoded here becomes a slot of the [`Pipeline`], which keeps the order. When its slots are full the input
//! is left undecoded, and the caller stops reading (`wants_input`).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::admission::Admission;
use super::pipeline::{Asked, Listing, Pipeline, Style};
use super::{CloseReason, NetLimits, input};
use crate::api::{Error, ErrorCode, Reply};
use crate::base::NodeId;
use crate::base::limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX, LINE_BYTES_MAX};
use crate::guard::{Guard, removed};
use crate::wire;

const RESP_ANSWER: &[u8] = b"-ERR this port does not speak RESP; it takes lines (try HELP) and frames\r\n";

/// What the input was found to be.
#[derive(Debug)]
pub enum Turn {
    /// A client's, or not known yet.
    Client,
    /// A peer's hello. The session is over; [`Session::take_rest`] has the bytes behind the hello.
    Hello(Box<wire::Hello>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Undecided,
    FirstFrame,
    Frames,
    Lines,
}

#[derive(Debug)]
pub struct Session {
    limits: Arc<NetLimits>,
    mode: Mode,
    input: BytesMut,
    /// In line mode: no LF before this place of the input.
    scanned: usize,
    /// Frames and lines that were complete.
    units: u64,
    pipeline: Pipeline,
    /// The other side has ended its output.
    input_ended: bool,
    /// No input is taken any more; once everything is answered, the connection closes for this reason.
    ending: Option<CloseReason>,
}

impl Session {
    /// `answering`: this node, as the original's answers name it.
    pub fn new(answering: NodeId, limits: Arc<NetLimits>) -> Session {
        Session {
            mode: Mode::Undecided,
            input: BytesMut::new(),
            scanned: 0,
            units: 0,
            pipeline: Pipeline::new(answering, Arc::clone(&limits)),
            input_ended: false,
            ending: None,
            limits,
        }
    }

    /// Takes what was read. [`Session::advance`] makes something of it.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        if self.ending.is_none() {
            let announced = self.announced_bytes();
            input::append(&mut self.input, bytes, announced);
        }
    }

    /// The other side has ended its output: what it asked is still answered, and a last line that only reads
    /// needs no LF.
    pub fn on_end(&mut self) {
        self.input_ended = true;
    }

    /// The answer to what was `Asked` under `sequence`.
    pub fn on_reply(&mut self, sequence: u64, reply: Reply, admission: &Admission) {
        self.pipeline.on_reply(sequence, reply, admission);
    }

    /// Does all that can be done now: decodes, answers, and appends to `asked` what is for consensus. To be called
    /// after input, and after an answer or when output was taken if the pipeline has work then. `Err`: close at once;
    /// nothing more of this input runs.
    pub fn advance(&mut self, admission: &mut Admission, asked: &mut Vec<Asked>) -> Result<Turn, CloseReason> {
        loop {
            let turn = self.decode(admission)?;
            if let Turn::Hello(_) = turn {
                return Ok(turn);
            }
            // Answers may make room for more slots, and there may be input for them.
            let was_full = self.pipeline.is_full();
            self.pipeline.answer_and_dispatch(admission, asked);
            if !was_full || self.pipeline.is_full() {
                break;
            }
        }
        Ok(Turn::Client)
    }

    /// Whether more input should be read now.
    pub fn wants_input(&self) -> bool {
        let drained = self.pipeline.is_drained();
        !self.input_ended
            && self.ending.is_none()
            && !self.pipeline.is_full()
            // One frame may be larger than the bound; nothing would ever drain to let it in.
            && (drained || self.buffered_bytes() <= self.limits.connection_buffered_bytes_max)
    }

    /// Whether a frame or line has begun whose rest the other side owes. The number changes with each.
    pub fn unit_begun(&self) -> Option<u64> {
        (self.wants_input() && !self.input.is_empty()).then_some(self.units)
    }

    /// Whether the frame that has begun may be a peer's hello, which has less time than others.
    pub fn may_be_hello(&self) -> bool {
        self.mode == Mode::FirstFrame && self.announced_bytes() <= wire::FRAME_HEADER_BYTES + HELLO_BYTES_MAX
    }

    /// Whether the first byte has told that this is a client's line, or a whole frame has.
    pub fn is_client(&self) -> bool {
        matches!(self.mode, Mode::Lines | Mode::Frames)
    }

    /// What is to be written, and what became of it.
    pub fn pipeline(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }

    pub fn has_output(&self) -> bool {
        self.pipeline.has_output()
    }

    /// What this connection holds, as the bounds count it.
    pub fn buffered_bytes(&self) -> usize {
        self.input.capacity() + self.pipeline.buffered_bytes()
    }

    /// Everything that was asked is answered and written, and no more comes.
    pub fn finished(&self) -> Option<CloseReason> {
        self.ending.filter(|_| self.pipeline.is_drained())
    }

    /// Requests that were counted and will get no answer from consensus, since they never went there.
    pub fn undispatched(&self) -> usize {
        self.pipeline.undispatched()
    }

    /// What to tell this client, for whom there is no connection left and of whose requests none was delivered. One
    /// line, whatever its lines asked; in frames, where each answer names its request, an answer to each.
    pub fn refuse(&mut self) -> BytesMut {
        let connections = self.limits.connections_max;
        let message = format!("all {connections} connections for clients are taken; try again later, or elsewhere");
        let refusal = Reply::refused(ErrorCode::Busy, message, None);
        if self.mode != Mode::Lines {
            return self.pipeline.refuse_all(&refusal);
        }
        let mut out = BytesMut::new();
        wire::write_reply(&refusal, &mut out);
        out
    }

    pub fn input_ended(&self) -> bool {
        self.input_ended
    }

    /// The bytes behind a peer's hello.
    pub fn take_rest(&mut self) -> BytesMut {
        std::mem::take(&mut self.input)
    }

    // ---- decoding ------------------------------------------------------------------------------------------

    fn decode(&mut self, admission: &mut Admission) -> Result<Turn, CloseReason> {
        while self.ending.is_none() && !self.pipeline.is_full() {
            let complete = match self.mode {
                Mode::Undecided => self.decide()?,
                Mode::FirstFrame => match self.first_frame(admission) {
                    Some(hello) => return Ok(Turn::Hello(hello)),
                    None => self.mode == Mode::Frames || self.ending.is_some(),
                },
                Mode::Frames => self.next_frame(admission),
                Mode::Lines => self.next_line(admission)?,
            };
            if !complete {
                if self.input_ended {
                    self.end(CloseReason::Finished);
                }
                break;
            }
        }
        Ok(Turn::Client)
    }

    /// The first byte decides the protocol; it stays in the input.
    fn decide(&mut self) -> Result<bool, CloseReason> {
        let Some(&first) = self.input.first() else { return Ok(false) };
        match first {
            0x00 | 0x01 => self.mode = Mode::FirstFrame,
            b'*' => {
                self.pipeline.push_text(Bytes::from_static(RESP_ANSWER));
                self.end(CloseReason::ReservedProtocol);
            }
            0x16 => return Err(CloseReason::ReservedProtocol),
            b' '..=b'~' | b'\r' | b'\n' => self.mode = Mode::Lines,
            _ => return Err(CloseReason::UnknownProtocol),
        }
        Ok(true)
    }

    fn announced_bytes(&self) -> usize {
        if self.mode == Mode::Lines { 0 } else { input::announced_bytes(&self.input, FRAME_BYTES_MAX) }
    }

    fn take_frame(&mut self) -> Option<Bytes> {
        match input::take_frame(&mut self.input, FRAME_BYTES_MAX) {
            Ok(frame) => {
                self.units += u64::from(frame.is_some());
                frame
            }
            Err(error) => {
                self.on_bad_frame(error.to_string());
                None
            }
        }
    }

    /// Where the next frame begins is not known any more, and what this one asked was not found out: the answer has the id
    /// 0.
    fn on_bad_frame(&mut self, why: String) {
        log::debug!("net: {why}");
        let style = Style::Frame { id: 0, style: wire::Style::Typed };
        self.pipeline.push_error(style, Error::new(ErrorCode::BadFrame, why));
        self.end(CloseReason::BadFrame);
    }

    /// A client's request or a peer's hello: what is in it decides, never who sent it.
    fn first_frame(&mut self, admission: &mut Admission) -> Option<Box<wire::Hello>> {
        let frame = self.take_frame()?;
        match wire::decode_first(frame) {
            Ok(wire::FirstFrame::Client(asked)) => {
                self.mode = Mode::Frames;
                self.on_client_frame(asked, admission);
            }
            Ok(wire::FirstFrame::Hello(hello)) => return Some(Box::new(hello)),
            Err(error) => self.on_bad_frame(error.0),
        }
        None
    }

    /// False: no frame is complete. A bad one ends the input, and what was asked before it is still answered.
    fn next_frame(&mut self, admission: &mut Admission) -> bool {
        // Mostly all that came is decoded by now: there is nothing to try twice.
        if self.input.len() < wire::FRAME_HEADER_BYTES {
            return false;
        }
        if let Some(asked) = wire::take_short_request(&mut self.input) {
            self.units += 1;
            self.on_client_frame(asked, admission);
            return true;
        }
        let Some(frame) = self.take_frame() else { return false };
        match wire::decode_request(frame) {
            Ok(asked) => self.on_client_frame(asked, admission),
            Err(error) => self.on_bad_frame(error.0),
        }
        true
    }

    fn on_client_frame(&mut self, asked: wire::ClientRequest, admission: &mut Admission) {
        let style = Style::Frame { id: asked.id, style: asked.style };
        match asked.request {
            Ok(request) => self.pipeline.push_request(style, request, asked.if_not_leading, admission),
            Err(error) if asked.style == wire::Style::Legacy => {
                self.pipeline.push_refusal(asked.id, error, admission);
            }
            Err(error) => self.pipeline.push_error(style, error),
        }
    }

    /// False: no line is complete.
    fn next_line(&mut self, admission: &mut Admission) -> Result<bool, CloseReason> {
        let found = self.input[self.scanned..].iter().position(|&byte| byte == b'\n').map(|place| self.scanned + place);
        let length = found.unwrap_or(self.input.len());
        let (line_bytes, consumed) = match found {
            Some(length) => (length, length + 1),
            None if self.input_ended && length > 0 => (length, length),
            None => (length, 0),
        };
        if line_bytes > LINE_BYTES_MAX + 1 {
            self.on_line_too_long(line_bytes);
            return Ok(true);
        }
        if consumed == 0 {
            self.scanned = length;
            return Ok(false);
        }
        let line = self.input.split_to(consumed);
        self.scanned = 0;
        self.units += 1;
        let line = &line[..line_bytes];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > LINE_BYTES_MAX {
            self.on_line_too_long(line.len());
        } else if wire::looks_like_http(line) && !removed(Guard::HttpRuns) {
            // A web page can send these bytes to a port on loopback; what follows them is its own text.
            return Err(CloseReason::Http);
        } else {
            self.on_line(line, found.is_some(), admission);
        }
        Ok(true)
    }

    fn on_line_too_long(&mut self, bytes: usize) {
        let message = format!(
            "the line has {bytes} bytes or more, the limit is {LINE_BYTES_MAX}; a shorter key or value, or frames, \
             will do"
        );
        self.pipeline.push_error(Style::Line, Error::new(ErrorCode::LineTooLong, message));
        self.end(CloseReason::LineTooLong);
    }

    /// `is_whole`: its end has come. Else the client may have died while it wrote, and have meant more.
    fn on_line(&mut self, line: &[u8], is_whole: bool, admission: &mut Admission) {
        match wire::parse_line(line) {
            Ok(wire::LineCommand::Request { request, .. }) if request.is_write() && !is_whole => {
                let message = "the connection ended within this line, which may be a part of what was meant; nothing was \
                               done: end a line with LF";
                self.pipeline.push_error(Style::Line, Error::new(ErrorCode::BadArguments, message));
            }
            Ok(wire::LineCommand::Request { request, read_by }) => {
                let if_not_leading = read_by.if_not_leading(&request);
                self.pipeline.push_request(Style::Line, request, if_not_leading, admission);
            }
            Ok(wire::LineCommand::ListAll { prefix, after, limit, read_by }) => {
                self.pipeline.push_listing(Listing::new(prefix, after, limit, read_by), admission);
            }
            Ok(wire::LineCommand::Ping) => self.pipeline.push_text(Bytes::from_static(b"PONG\n")),
            Ok(wire::LineCommand::Help) => self.pipeline.push_text(wire::HELP.into()),
            Ok(wire::LineCommand::Quit) => self.end(CloseReason::Finished),
            Ok(wire::LineCommand::Empty) => {}
            Err(error) => self.pipeline.push_error(Style::Line, error),
        }
    }

    fn end(&mut self, reason: CloseReason) {
        self.ending.get_or_insert(reason);
        self.input = BytesMut::new();
        self.scanned = 0;
    }

    /// An idle connection keeps no more than small buffers. To be called when output was taken.
    pub fn release_drained(&mut self) {
        input::release_drained(&mut self.input);
        self.pipeline.release_drained();
    }
}
