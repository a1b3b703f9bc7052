//! One client's conversation, without its socket: bytes in, requests out; answers in, bytes out, in request order.
//!
//! Sans-I/O and deterministic, so that the simulator runs it too: no clock, no socket, no poll.
//!
//! ```text
//! Undecided --0x00 0x01--> Frames --first frame is a hello--> not a session any more (see Turn::Hello)
//!           --printable--> Lines
//!           --0x16, *, anything else--> closed
//! ```
//!
//! **Order.** Each request has a slot, and the slots are a queue. A request is handed on (*dispatched*) in the
//! order of the slots: writes go together, but a read only when every earlier write of this connection is
//! answered, and a write only when every earlier read is. So requests of one connection take effect in the order
//! sent although consensus knows nothing of connections. Answers arrive in any order and leave in slot order.
//!
//! **Bounds.** A connection has a bounded number of slots; when they are full its input is left undecoded, and the
//! caller stops reading (`wants_input`). Answers wait as values and are encoded only while little is encoded
//! already. Reads are dispatched only while their answers, if they are as large as the recent ones, fit the bound.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::admission::Admission;
use super::event::request_cost_bytes;
use super::{CloseReason, NetLimits, input};
use crate::api::{Error, ErrorCode, Outcome, Reply, Request};
use crate::base::limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX, LINE_BYTES_MAX, VALUE_BYTES_MAX};
use crate::base::{NodeId, Step};
use crate::wire;

/// A drained buffer above this size is given back.
const KEPT_BUFFER_BYTES: usize = 4 * 1024;
const RESP_ANSWER: &[u8] = b"-ERR this port does not speak RESP; it takes lines (try HELP) and frames\r\n";

/// A request to hand on. Its answer comes back under the same sequence.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub sequence: u64,
    pub request: Request,
    pub forward: bool,
}

/// What the input was found to be.
#[derive(Debug)]
pub enum Turn {
    /// A client's, or not known yet.
    Client,
    /// A peer's hello. The session is over; [`Session::into_rest`] has the bytes behind the hello.
    Hello(Box<wire::Hello>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Undecided,
    FirstFrame,
    Frames,
    Lines,
}

/// How the answer to a slot is written.
#[derive(Debug)]
enum Style {
    Frame { id: u64, style: wire::Style },
    Line,
    Listing(Listing),
}

/// A LIST on a line: asked for page by page, a key a line, then END. Each page is atomic; the whole is not.
#[derive(Debug)]
struct Listing {
    prefix: Bytes,
    after: Option<Bytes>,
    /// Keys still wanted; `None`: all.
    left: Option<usize>,
    /// Its first page was dispatched: it counts as a read in flight until the last.
    in_flight: bool,
}

impl Listing {
    fn next_page(&self, page_keys: usize) -> Request {
        let limit = self.left.map_or(page_keys, |left| left.min(page_keys));
        Request::List { prefix: self.prefix.clone(), after: self.after.clone(), limit, revision: None }
    }
}

#[derive(Debug)]
enum State {
    Waiting {
        request: Request,
        forward: bool,
    },
    /// With consensus. `cost_bytes`: what the request holds meanwhile.
    Dispatched {
        is_write: bool,
        cost_bytes: usize,
    },
    Answered(Reply),
    /// Answered here, without consensus.
    Text(Bytes),
    /// A listing that goes on once there is room for another page.
    NextPage,
}

#[derive(Debug)]
struct Slot {
    style: Style,
    state: State,
}

#[derive(Debug)]
pub struct Session {
    answering: NodeId,
    limits: NetLimits,
    mode: Mode,
    input: BytesMut,
    /// In line mode: no LF before this place of the input.
    scanned: usize,
    /// Frames and lines that were complete.
    units: u64,
    slots: VecDeque<Slot>,
    /// The sequence of the first slot.
    first_sequence: u64,
    /// Slots before this one have been dispatched, or need no dispatch.
    cursor: usize,
    reads_in_flight: usize,
    writes_in_flight: usize,
    /// What requests and answers in slots hold.
    held_bytes: usize,
    /// The size of the next answer, judged by the recent ones: at once up, slowly down.
    answer_bytes: usize,
    output: BytesMut,
    /// The other side has ended its output.
    input_ended: bool,
    /// No input is taken any more; once everything is answered, the connection closes for this reason.
    ending: Option<CloseReason>,
}

impl Session {
    pub fn new(answering: NodeId, limits: NetLimits) -> Session {
        Session {
            answering,
            limits,
            mode: Mode::Undecided,
            input: BytesMut::new(),
            scanned: 0,
            units: 0,
            slots: VecDeque::new(),
            first_sequence: 0,
            cursor: 0,
            reads_in_flight: 0,
            writes_in_flight: 0,
            held_bytes: 0,
            answer_bytes: VALUE_BYTES_MAX,
            output: BytesMut::new(),
            input_ended: false,
            ending: None,
        }
    }

    /// Takes what was read. [`Session::advance`] makes something of it.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        if self.ending.is_none() {
            let announced = self.announced_bytes();
            input::append(&mut self.input, bytes, announced);
        }
    }

    /// The other side has ended its output: what it asked is still answered, and a last line needs no LF.
    pub fn on_end(&mut self) {
        self.input_ended = true;
    }

    /// The answer to what was `Asked` under `sequence`.
    pub fn on_reply(&mut self, sequence: u64, reply: Reply) {
        let place = sequence.checked_sub(self.first_sequence).and_then(|place| usize::try_from(place).ok());
        let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) else {
            return log::error!("net: an answer for sequence {sequence}, which waits for none");
        };
        let State::Dispatched { is_write, cost_bytes } = slot.state else {
            return log::error!("net: a second answer for sequence {sequence}");
        };
        let reply_bytes = reply_cost_bytes(&reply);
        self.held_bytes = self.held_bytes - cost_bytes + reply_bytes;
        self.answer_bytes = reply_bytes.max(self.answer_bytes / 2);
        slot.state = State::Answered(reply);
        // A listing stays in flight until its last page: no write may pass between its pages.
        if is_write {
            self.writes_in_flight -= 1;
        } else if !matches!(slot.style, Style::Listing(_)) {
            self.reads_in_flight -= 1;
        }
    }

    /// Does all that can be done now: decodes, answers, and appends to `asked` what is for consensus. To be called
    /// after every other `on_`, and when output was taken. `Err`: close at once; nothing more of this input runs.
    pub fn advance(&mut self, admission: &mut Admission, asked: &mut Vec<Asked>) -> Result<Turn, CloseReason> {
        loop {
            let turn = self.decode(admission)?;
            if let Turn::Hello(_) = turn {
                return Ok(turn);
            }
            let room = self.slots.len();
            self.answer_and_dispatch(admission, asked);
            // Answers made room for more slots, and there may be input for them.
            let decode_again = room >= self.limits.connection_requests_max && self.slots.len() < room;
            if !decode_again {
                break;
            }
        }
        self.release_drained();
        Ok(Turn::Client)
    }

    /// Whether more input should be read now.
    pub fn wants_input(&self) -> bool {
        let drained = self.slots.is_empty() && self.output.is_empty();
        !self.input_ended
            && self.ending.is_none()
            && self.slots.len() < self.limits.connection_requests_max
            // One frame may be larger than the bound; nothing would ever drain to let it in.
            && (drained || self.buffered_bytes() <= self.limits.connection_buffered_bytes_max)
    }

    /// Whether a frame or line has begun whose rest the other side owes. The number changes with each.
    pub fn unit_begun(&self) -> Option<u64> {
        (self.wants_input() && !self.input.is_empty()).then_some(self.units)
    }

    /// Whether the frame that has begun may be a peer's hello, which has less time than others.
    pub fn may_be_hello(&self) -> bool {
        self.mode == Mode::FirstFrame && self.announced_bytes() <= input::FRAME_PREFIX_BYTES + HELLO_BYTES_MAX
    }

    /// Whether the first byte has told that this is a client's line, or a whole frame has.
    pub fn is_client(&self) -> bool {
        matches!(self.mode, Mode::Lines | Mode::Frames)
    }

    /// Bytes for the socket; the caller advances past what it wrote.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// What this connection holds, as the bounds count it.
    pub fn buffered_bytes(&self) -> usize {
        self.input.capacity() + self.output.capacity() + self.held_bytes
    }

    /// Answers that the other side has not read, as far as this process holds them.
    pub fn unread_bytes(&self) -> usize {
        let held = if self.has_output() { self.held_bytes } else { 0 };
        self.output.len() + held
    }

    /// Everything that was asked is answered and written, and no more comes.
    pub fn finished(&self) -> Option<CloseReason> {
        self.ending.filter(|_| self.slots.is_empty() && self.output.is_empty())
    }

    /// Requests that were counted and will get no answer from consensus, since they never went there.
    pub fn undispatched(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.state, State::Waiting { .. })).count()
    }

    /// What to tell this client, for whom there is no connection left: a line if it speaks lines.
    pub fn refusal(&self) -> BytesMut {
        let mut out = BytesMut::new();
        if self.mode == Mode::Lines {
            let connections = self.limits.connections_max;
            let message = format!("all {connections} connections for clients are taken; try again later, or elsewhere");
            wire::write_reply(&Reply::refused(ErrorCode::Busy, message, None), &mut out);
        }
        out
    }

    /// Answers wait that could be encoded now: `advance` has work although nothing new came.
    pub fn has_answers(&self) -> bool {
        self.output.len() < self.limits.encoded_bytes_target
            && self
                .slots
                .front()
                .is_some_and(|slot| matches!(slot.state, State::Answered(_) | State::Text(_) | State::NextPage))
    }

    pub fn input_ended(&self) -> bool {
        self.input_ended
    }

    /// The bytes behind a peer's hello.
    pub fn into_rest(self) -> BytesMut {
        self.input
    }

    // ---- decoding ------------------------------------------------------------------------------------------

    fn decode(&mut self, admission: &mut Admission) -> Result<Turn, CloseReason> {
        while self.ending.is_none() && self.slots.len() < self.limits.connection_requests_max {
            let complete = match self.mode {
                Mode::Undecided => self.decide()?,
                Mode::FirstFrame => match self.first_frame(admission)? {
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
                self.push(Style::Line, State::Text(Bytes::from_static(RESP_ANSWER)));
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
                log::debug!("net: {error}");
                self.end(CloseReason::BadFrame);
                None
            }
        }
    }

    /// A client's request or a peer's hello: what is in it decides, never who sent it.
    fn first_frame(&mut self, admission: &mut Admission) -> Result<Option<Box<wire::Hello>>, CloseReason> {
        let Some(frame) = self.take_frame() else { return Ok(None) };
        let length = frame.len();
        match wire::decode_first(frame) {
            Ok(wire::FirstFrame::Client(asked)) => {
                self.mode = Mode::Frames;
                self.on_client_frame(asked, admission);
                Ok(None)
            }
            Ok(wire::FirstFrame::Hello(hello)) if length <= HELLO_BYTES_MAX => Ok(Some(Box::new(hello))),
            Ok(wire::FirstFrame::Hello(_)) => Err(CloseReason::BadFrame),
            Err(error) => {
                log::debug!("net: {error}");
                Err(CloseReason::BadFrame)
            }
        }
    }

    /// False: no frame is complete. A bad one ends the input, and what was asked before it is still answered.
    fn next_frame(&mut self, admission: &mut Admission) -> bool {
        let Some(frame) = self.take_frame() else { return false };
        match wire::decode_request(frame) {
            Ok(asked) => self.on_client_frame(asked, admission),
            Err(error) => {
                log::debug!("net: {error}");
                self.end(CloseReason::BadFrame);
            }
        }
        true
    }

    fn on_client_frame(&mut self, asked: wire::ClientRequest, admission: &mut Admission) {
        let style = Style::Frame { id: asked.id, style: asked.style };
        match asked.request {
            Ok(request) => self.push_request(style, request, asked.forward, admission),
            Err(error) => self.push(style, State::Answered(Reply { result: Err(error), leader: None })),
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
        } else if wire::looks_like_http(line) {
            // A web page can send these bytes to a port on loopback; what follows them is its own text.
            return Err(CloseReason::Http);
        } else {
            self.on_line(line, admission);
        }
        Ok(true)
    }

    fn on_line_too_long(&mut self, bytes: usize) {
        let message = format!(
            "the line has {bytes} bytes or more, the limit is {LINE_BYTES_MAX}; a shorter key or value, or frames, will do"
        );
        let error = Error::new(ErrorCode::LineTooLong, message);
        self.push(Style::Line, State::Answered(Reply { result: Err(error), leader: None }));
        self.end(CloseReason::LineTooLong);
    }

    fn on_line(&mut self, line: &[u8], admission: &mut Admission) {
        match wire::parse_line(line) {
            Ok(wire::LineCommand::Request(request)) => self.push_request(Style::Line, request, true, admission),
            Ok(wire::LineCommand::ListAll { prefix, after, limit }) => {
                let listing = Listing { prefix, after, left: limit, in_flight: false };
                let first = listing.next_page(self.limits.page_keys);
                self.push_request(Style::Listing(listing), first, true, admission);
            }
            Ok(wire::LineCommand::Ping) => self.push(Style::Line, State::Text(Bytes::from_static(b"PONG\n"))),
            Ok(wire::LineCommand::Help) => self.push(Style::Line, State::Text(wire::HELP.into())),
            Ok(wire::LineCommand::Quit) => self.end(CloseReason::Finished),
            Ok(wire::LineCommand::Empty) => {}
            Err(error) => self.push(Style::Line, State::Answered(Reply { result: Err(error), leader: None })),
        }
    }

    fn push(&mut self, style: Style, state: State) {
        if let State::Answered(reply) = &state {
            self.held_bytes += reply_cost_bytes(reply);
        }
        self.slots.push_back(Slot { style, state });
    }

    fn push_request(&mut self, style: Style, request: Request, forward: bool, admission: &mut Admission) {
        Step::Decoded.pass(format_args!("a request"));
        if admission.try_take() {
            self.held_bytes += request_cost_bytes(&request);
            return self.push(style, State::Waiting { request, forward });
        }
        let requests = admission.requests_max();
        let message = format!("{requests} requests wait for their answers here, which is the limit; try again");
        self.push(style, State::Answered(Reply::refused(ErrorCode::Busy, message, None)));
    }

    fn end(&mut self, reason: CloseReason) {
        self.ending.get_or_insert(reason);
        self.input = BytesMut::new();
        self.scanned = 0;
    }

    // ---- dispatching and answering -------------------------------------------------------------------------

    fn answer_and_dispatch(&mut self, admission: &mut Admission, asked: &mut Vec<Asked>) {
        self.write_answers();
        self.maybe_ask_next_page(admission, asked);
        self.dispatch(asked);
    }

    /// Encodes answers from the front, while little is encoded already.
    fn write_answers(&mut self) {
        while self.output.len() < self.limits.encoded_bytes_target
            && let Some(slot) = self.slots.front_mut()
        {
            match &slot.state {
                State::Waiting { .. } | State::Dispatched { .. } | State::NextPage => break,
                State::Text(text) => self.output.extend_from_slice(text),
                State::Answered(reply) => {
                    self.held_bytes -= reply_cost_bytes(reply);
                    match &mut slot.style {
                        Style::Frame { id, style } => {
                            wire::encode_reply(*id, *style, reply, self.answering, &mut self.output);
                        }
                        Style::Line => wire::write_reply(reply, &mut self.output),
                        Style::Listing(listing) => {
                            if write_page(listing, reply, &mut self.output) == Page::More {
                                slot.state = State::NextPage;
                                break;
                            }
                            // One that was refused as busy never was.
                            self.reads_in_flight -= usize::from(listing.in_flight);
                        }
                    }
                }
            }
            self.slots.pop_front();
            self.first_sequence += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
    }

    fn maybe_ask_next_page(&mut self, admission: &mut Admission, asked: &mut Vec<Asked>) {
        let room = self.output.len() < self.limits.encoded_bytes_target;
        let Some(Slot { style: Style::Listing(listing), state }) = self.slots.front_mut() else { return };
        if room && matches!(state, State::NextPage) {
            let request = listing.next_page(self.limits.page_keys);
            let cost_bytes = request_cost_bytes(&request);
            self.held_bytes += cost_bytes;
            *state = State::Dispatched { is_write: false, cost_bytes };
            admission.take();
            asked.push(Asked { sequence: self.first_sequence, request, forward: true });
        }
    }

    /// Hands requests on, as far as the order rule allows.
    fn dispatch(&mut self, asked: &mut Vec<Asked>) {
        while let Some(slot) = self.slots.get(self.cursor) {
            if let State::Waiting { request, .. } = &slot.state {
                let (is_write, cost_bytes) = (request.is_write(), request_cost_bytes(request));
                if !self.may_dispatch(is_write) {
                    return;
                }
                let dispatched = State::Dispatched { is_write, cost_bytes };
                let slot = &mut self.slots[self.cursor];
                if let Style::Listing(listing) = &mut slot.style {
                    listing.in_flight = true;
                }
                if let State::Waiting { request, forward } = std::mem::replace(&mut slot.state, dispatched) {
                    let sequence = self.first_sequence + self.cursor as u64;
                    asked.push(Asked { sequence, request, forward });
                }
                *(if is_write { &mut self.writes_in_flight } else { &mut self.reads_in_flight }) += 1;
            }
            self.cursor += 1;
        }
    }

    fn may_dispatch(&self, is_write: bool) -> bool {
        if is_write {
            return self.reads_in_flight == 0;
        }
        let answers = (self.reads_in_flight + 1).saturating_mul(self.answer_bytes);
        let fits = self.output.len() + self.held_bytes + answers <= self.limits.connection_buffered_bytes_max;
        self.writes_in_flight == 0 && (fits || self.reads_in_flight == 0)
    }

    /// An idle connection keeps no more than a small buffer.
    fn release_drained(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.is_empty() && buffer.capacity() > KEPT_BUFFER_BYTES {
                *buffer = BytesMut::new();
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Page {
    Last,
    More,
}

/// Writes one page of a listing, and END or the error if it is the last.
fn write_page(listing: &mut Listing, reply: &Reply, out: &mut BytesMut) -> Page {
    let Ok(Outcome::Keys { keys, more, .. }) = &reply.result else {
        wire::write_reply(reply, out);
        return Page::Last;
    };
    for key in keys {
        wire::write_key(key, out);
        out.extend_from_slice(b"\n");
    }
    if let Some(left) = &mut listing.left {
        *left = left.saturating_sub(keys.len());
    }
    match keys.last() {
        Some(last) if *more && listing.left != Some(0) => {
            listing.after = Some(last.clone());
            Page::More
        }
        _ => {
            out.extend_from_slice(b"END\n");
            Page::Last
        }
    }
}

fn reply_cost_bytes(reply: &Reply) -> usize {
    let held = match &reply.result {
        Ok(Outcome::Value { found: Some(found), .. }) => found.value.len(),
        Ok(Outcome::Keys { keys, .. }) => keys.iter().map(|key| key.len() + size_of::<Bytes>()).sum(),
        _ => 0,
    };
    held + 128
}
