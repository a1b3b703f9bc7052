//! One connection's requests in their order: what may be handed on when, and how the answers leave. Sans-I/O.
//!
//! Each request has a slot, and the slots are a queue. A request is handed on (*dispatched*) in the order of the
//! slots: writes go together, but a read only when every earlier write of this connection is answered, and a write
//! only when every earlier read is. Reads that any node may answer and reads of the leader don't go together either: of
//! two states, that of the earlier could be the later one. So requests of one connection take effect in the order sent,
//! although consensus knows nothing of connections. Answers arrive in any order and leave in slot order.
//!
//! ```text
//! a slot:  Waiting --order allows--> Dispatched --answer--> Answered --first, and room--> written, gone
//!                                        ^                     | a listing with more
//!                                        +---- room ---- NextPage
//! ```
//!
//! Answers wait as values and are encoded only while little is encoded already. Reads are dispatched only while
//! their answers, if they are as large as the recent ones, fit the connection's bound, which is a small one while all
//! connections together hold much.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::admission::Admission;
use super::event::{reply_cost_bytes, request_cost_bytes};
use super::limits::Memory;
use super::{NetLimits, input};
use crate::api::{Error, ErrorCode, IfNotLeading, Outcome, ReadBy, Reply, Request};
use crate::base::limits::{KEY_BYTES_MAX, SMALL_CLIENT_BYTES, VALUE_BYTES_MAX};
use crate::base::{NodeId, Step};
use crate::guard::{Guard, removed};
use crate::wire;

/// Room for more slots than this is given back when all are done.
const KEPT_SLOTS: usize = 32;

/// A request to hand on. Its answer comes back under the same sequence.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub sequence: u64,
    pub request: Request,
    pub if_not_leading: IfNotLeading,
    /// No read of this connection still waits for its answer, but for those that are handed on with this one: so it may
    /// be answered at once, if they are. Else an earlier one would show a later state.
    pub at_once: bool,
}

/// How the answer to a slot is written.
#[derive(Debug)]
pub enum Style {
    Frame {
        id: u64,
        style: wire::Style,
    },
    /// The original's command, refused with `error` if this node leads: one that does not says only so.
    Refusal {
        id: u64,
        error: Error,
    },
    Line,
    Listing(Box<Listing>),
}

/// A LIST on a line: asked for page by page, a key a line, then END. Each page is atomic; the whole is not.
#[derive(Debug)]
pub struct Listing {
    prefix: Bytes,
    after: Option<Bytes>,
    /// Keys still wanted; `None`: all.
    left: Option<usize>,
    /// Its first page was dispatched: it counts as a read in flight until the last.
    in_flight: bool,
    read_by: ReadBy,
}

impl Listing {
    /// `limit`: at most so many keys, all of them if there is none.
    pub fn new(prefix: Bytes, after: Option<Bytes>, limit: Option<usize>, read_by: ReadBy) -> Listing {
        Listing { prefix, after, left: limit, in_flight: false, read_by }
    }

    fn next_page(&self, page_keys: usize) -> (Request, IfNotLeading) {
        let limit = self.left.map_or(page_keys, |left| left.min(page_keys));
        let request = Request::List { prefix: self.prefix.clone(), after: self.after.clone(), limit, revision: None };
        let if_not_leading = self.read_by.if_not_leading(&request);
        (request, if_not_leading)
    }
}

#[derive(Debug)]
enum State {
    Waiting {
        request: Request,
        if_not_leading: IfNotLeading,
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
pub struct Pipeline {
    answering: NodeId,
    limits: Arc<NetLimits>,
    slots: VecDeque<Slot>,
    /// The sequence of the first slot.
    first_sequence: u64,
    /// Slots before this one have been dispatched, or need no dispatch.
    cursor: usize,
    reads_in_flight: usize,
    /// Whether any node may answer the reads in flight, or those before: all of them, or none.
    reads_are_here: bool,
    writes_in_flight: usize,
    /// What requests and answers in slots hold.
    held_bytes: usize,
    /// The size of the next answer, judged by the recent ones: at once up, slowly down.
    answer_bytes: usize,
    output: BytesMut,
}

impl Pipeline {
    pub fn new(answering: NodeId, limits: Arc<NetLimits>) -> Pipeline {
        Pipeline {
            answering,
            limits,
            slots: VecDeque::new(),
            first_sequence: 0,
            cursor: 0,
            reads_in_flight: 0,
            reads_are_here: false,
            writes_in_flight: 0,
            held_bytes: 0,
            answer_bytes: VALUE_BYTES_MAX,
            output: BytesMut::new(),
        }
    }

    /// No more requests fit.
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.limits.connection_requests_max
    }

    /// Everything is answered and written.
    pub fn is_drained(&self) -> bool {
        self.slots.is_empty() && self.output.is_empty()
    }

    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Bytes for the socket; the caller advances past what it wrote.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    pub fn buffered_bytes(&self) -> usize {
        self.output.capacity() + self.held_bytes + self.slots.capacity() * size_of::<Slot>()
    }

    /// An idle connection keeps no room for as many requests as it once had under way.
    pub fn release_drained(&mut self) {
        input::release_drained(&mut self.output);
        if self.slots.is_empty() && self.slots.capacity() > KEPT_SLOTS {
            self.slots = VecDeque::new();
        }
    }

    /// Answers that the other side has not read, as far as this process holds them.
    pub fn unread_bytes(&self) -> usize {
        let held = if self.has_output() { self.held_bytes } else { 0 };
        self.output.len() + held
    }

    /// An answer that needs no consensus, already written.
    pub fn push_text(&mut self, text: Bytes) {
        self.push(Style::Line, State::Text(text));
    }

    pub fn push_error(&mut self, style: Style, error: Error) {
        self.push(style, State::Answered(Reply { result: Err(error), leader: None }));
    }

    /// What is wrong with the original's command counts only where it would be run: who leads is asked first.
    pub fn push_refusal(&mut self, id: u64, error: Error, admission: &mut Admission) {
        self.push_request(Style::Refusal { id, error }, Request::Status, IfNotLeading::Refuse, admission);
    }

    pub fn push_listing(&mut self, listing: Listing, admission: &mut Admission) {
        let (first, if_not_leading) = listing.next_page(self.limits.page_keys);
        self.push_request(Style::Listing(Box::new(listing)), first, if_not_leading, admission);
    }

    fn push(&mut self, style: Style, state: State) {
        if let State::Answered(reply) = &state {
            self.held_bytes += reply_cost_bytes(reply);
        }
        self.slots.push_back(Slot { style, state });
    }

    pub fn push_request(
        &mut self,
        style: Style,
        request: Request,
        if_not_leading: IfNotLeading,
        admission: &mut Admission,
    ) {
        if admission.try_take() {
            Step::Decoded.pass(format_args!("{} bytes", request_cost_bytes(&request)));
            self.held_bytes += request_cost_bytes(&request);
            return self.push(style, State::Waiting { request, if_not_leading });
        }
        let requests = admission.requests_max();
        let message = format!("{requests} requests wait for their answers here, which is the limit; try again");
        self.push(style, State::Answered(Reply::refused(ErrorCode::Busy, message, None)));
    }

    /// The answer to what was `Asked` under `sequence`.
    pub fn on_reply(&mut self, sequence: u64, mut reply: Reply, admission: &Admission) {
        let place = sequence.checked_sub(self.first_sequence).and_then(|place| usize::try_from(place).ok());
        let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) else {
            return log::error!("net: an answer for sequence {sequence}, which waits for none");
        };
        let State::Dispatched { is_write, cost_bytes } = slot.state else {
            return log::error!("net: a second answer for sequence {sequence}");
        };
        let is_listing = matches!(slot.style, Style::Listing(_));
        let others_bytes = self.held_bytes - cost_bytes;
        let mut reply_bytes = reply_cost_bytes(&reply);
        if !is_write {
            self.answer_bytes = reply_bytes.max(self.answer_bytes / 2);
        }
        // A write was done. A listing goes on, in pages that are small meanwhile.
        let may_be_refused = !is_write && !is_listing && admission.memory() == Memory::Short;
        if may_be_refused && others_bytes + reply_bytes > SMALL_CLIENT_BYTES {
            let message = "answers that are not read yet take up all the memory there is for them; try again";
            reply = Reply::refused(ErrorCode::Busy, message, None);
            reply_bytes = reply_cost_bytes(&reply);
        }
        self.held_bytes = others_bytes + reply_bytes;
        slot.state = State::Answered(reply);
        // A listing stays in flight until its last page: no write may pass between its pages.
        if is_write {
            self.writes_in_flight -= 1;
        } else if !is_listing {
            self.reads_in_flight -= 1;
        }
    }

    /// An answer could be encoded or a request dispatched, although nothing new came: output was taken meanwhile.
    pub fn has_work(&self, admission: &Admission) -> bool {
        let ready = |slot: &Slot| matches!(slot.state, State::Answered(_) | State::Text(_) | State::NextPage);
        let answers = self.output.len() < self.limits.encoded_bytes_target && self.slots.front().is_some_and(ready);
        let may_go = |slot: &Slot| match &slot.state {
            State::Waiting { request, if_not_leading } => {
                self.may_dispatch(request.is_write(), *if_not_leading, admission.memory())
            }
            _ => false,
        };
        answers || self.slots.get(self.cursor).is_some_and(may_go)
    }

    /// Requests that were counted and will get no answer from consensus, since they never went there.
    pub fn undispatched(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.state, State::Waiting { .. })).count()
    }

    /// Answers all that has no answer yet with `refusal`; what is to be written then. Nothing of it may be with
    /// consensus, and the pipeline is not used any more.
    pub fn refuse_all(&mut self, refusal: &Reply) -> BytesMut {
        for slot in &mut self.slots {
            if matches!(slot.state, State::Waiting { .. } | State::Dispatched { .. } | State::NextPage) {
                self.held_bytes += reply_cost_bytes(refusal);
                slot.state = State::Answered(refusal.clone());
            }
        }
        let mut written = self.output.split();
        while !self.slots.is_empty() {
            self.write_answers();
            written.unsplit(self.output.split());
        }
        written
    }

    /// Does all that can be done now; appends to `asked`, which holds nothing of another connection, what is asked.
    pub fn answer_and_dispatch(&mut self, admission: &mut Admission, asked: &mut Vec<Asked>) {
        self.write_answers();
        let at_once = self.reads_in_flight == asked.iter().filter(|asked| !asked.request.is_write()).count();
        self.maybe_ask_next_page(admission, asked);
        self.dispatch(at_once, admission.memory(), asked);
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
                        Style::Refusal { id, error } => {
                            let reply = refusal(error, reply, self.answering);
                            wire::encode_reply(*id, wire::Style::Legacy, &reply, self.answering, &mut self.output);
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
            let page_keys = page_keys(self.limits.page_keys, admission.memory());
            let (request, if_not_leading) = listing.next_page(page_keys);
            let cost_bytes = request_cost_bytes(&request);
            self.held_bytes += cost_bytes;
            *state = State::Dispatched { is_write: false, cost_bytes };
            admission.take();
            // What was asked behind the listing may have been read before: no page says that it was not.
            asked.push(Asked { sequence: self.first_sequence, request, if_not_leading, at_once: true });
        }
    }

    /// Hands requests on, as far as the order rule allows.
    fn dispatch(&mut self, at_once: bool, memory: Memory, asked: &mut Vec<Asked>) {
        while let Some(slot) = self.slots.get(self.cursor) {
            if let State::Waiting { request, if_not_leading } = &slot.state {
                let (is_write, cost_bytes) = (request.is_write(), request_cost_bytes(request));
                if !self.may_dispatch(is_write, *if_not_leading, memory) {
                    return;
                }
                if !is_write {
                    self.reads_are_here = *if_not_leading == IfNotLeading::Read;
                }
                let dispatched = State::Dispatched { is_write, cost_bytes };
                let slot = &mut self.slots[self.cursor];
                if let State::Waiting { mut request, if_not_leading } = std::mem::replace(&mut slot.state, dispatched) {
                    if let (Style::Listing(listing), Request::List { limit, .. }) = (&mut slot.style, &mut request) {
                        listing.in_flight = true;
                        *limit = page_keys(*limit, memory);
                    }
                    let sequence = self.first_sequence + self.cursor as u64;
                    asked.push(Asked { sequence, request, if_not_leading, at_once });
                }
                *(if is_write { &mut self.writes_in_flight } else { &mut self.reads_in_flight }) += 1;
            }
            self.cursor += 1;
        }
    }

    fn may_dispatch(&self, is_write: bool, if_not_leading: IfNotLeading, memory: Memory) -> bool {
        if removed(Guard::PipelineUnordered) {
            return true;
        }
        if is_write {
            return self.reads_in_flight == 0;
        }
        let is_here = if_not_leading == IfNotLeading::Read;
        if self.reads_in_flight > 0 && self.reads_are_here != is_here {
            return false;
        }
        let answers = (self.reads_in_flight + 1).saturating_mul(self.answer_bytes);
        let bytes_max = match memory {
            Memory::Free => self.limits.connection_buffered_bytes_max,
            Memory::Scarce | Memory::Short => SMALL_CLIENT_BYTES,
        };
        let fits = self.output.len() + self.held_bytes + answers <= bytes_max;
        // One answer may be larger than the bound; with nothing before it, nothing would ever make room for it.
        let alone = self.cursor == 0 && self.output.is_empty();
        self.writes_in_flight == 0 && (fits || alone)
    }
}

/// Keys of a listing's page of which `wanted` are: as many as are little, whatever their lengths, where memory is scarce.
fn page_keys(wanted: usize, memory: Memory) -> usize {
    match memory {
        Memory::Free => wanted,
        Memory::Scarce | Memory::Short => wanted.min(SMALL_CLIENT_BYTES / KEY_BYTES_MAX),
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

/// The answer to a refused command of the original, now that this node's status is known.
fn refusal(error: &Error, status: &Reply, answering: NodeId) -> Reply {
    let leads = status.leader.as_ref().is_some_and(|leader| leader.id == answering);
    match &status.result {
        Ok(_) if leads => Reply { result: Err(error.clone()), leader: status.leader.clone() },
        Ok(_) => Reply::refused(ErrorCode::NotLeader, "this node does not lead", status.leader.clone()),
        Err(_) => status.clone(),
    }
}
