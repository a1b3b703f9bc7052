//! Clients: they ask several things at once over one connection, give up, and go to another node.
//!
//! Most speak frames through the production codecs, some type lines. A client sends a part of its bytes now and the
//! rest later, as a network cuts them. What it asked and got no answer for stays open for ever: it may have happened.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use linearizability::{self as history, Id};
use raftkv::api::{Applied, ErrorCode, IfNotLeading, Outcome, ReadBy, Request};
use raftkv::base::limits::FRAME_BYTES_MAX;
use raftkv::base::{Operation, Random, Revision, Role};
use raftkv::net::ConnectionId;
use raftkv::wire;

use super::chance::Chance;
use super::checkers::order::Order;
use super::checkers::replies::revision_of;
use super::checkers::{Verdict, Violation};
use super::drills::Drill;
use super::faults::Fault;
use super::network::Brief;
use super::plan::{MILLI, SECOND};
use super::trace::Kind;
use super::world::{Event, Phase, Time, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Frames,
    Lines,
}

/// What a client may ask now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Anything,
    Writes,
    Reads,
}

pub struct Client {
    pub random: Random,
    speech: Speech,
    /// It asks nothing but reads, so that nothing of its own holds them up.
    only_reads: bool,
    /// Its reads may mostly be answered by any node.
    reads_anywhere: bool,
    /// The open connection.
    conn: Option<u32>,
    asked: VecDeque<Asked>,
    /// Numbers its requests, over all connections.
    next: u64,
    input: BytesMut,
    order: Order,
    /// What waits for the connection's answers to a listing on lines.
    listed: Vec<Bytes>,
    /// Its current wake: earlier ones are for nothing.
    wake: u64,
    /// In the liveness phase: it has written what it wanted.
    pub is_content: bool,
}

struct Asked {
    number: u64,
    request: Request,
    if_not_leading: IfNotLeading,
    id: Id,
    floor: Revision,
    at: Time,
}

/// A connection between a client and a node.
pub struct Conn {
    pub client: usize,
    pub at: usize,
    pub is_open: bool,
    /// What the node made of it: in which process, and under which name.
    pub server: Option<(u32, ConnectionId)>,
    to_server_due: Time,
    to_client_due: Time,
}

/// What travels on a client's connection.
#[derive(Debug)]
pub enum Parcel {
    Opened,
    Bytes(Bytes),
    Closed,
}

impl Client {
    /// `readers`: one of so many asks nothing but reads.
    pub fn new(mut random: Random, readers: u64) -> Client {
        let only_reads = random.below(readers) == 0;
        let speech = if random.below(4) == 0 { Speech::Lines } else { Speech::Frames };
        let reads_anywhere = random.below(2) == 0;
        Client {
            random,
            speech,
            only_reads,
            reads_anywhere,
            conn: None,
            asked: VecDeque::new(),
            next: 0,
            input: BytesMut::new(),
            order: Order::default(),
            listed: Vec::new(),
            wake: 0,
            is_content: false,
        }
    }

    /// About a third reads; values are unique.
    fn draw_request(&mut self, who: usize, keys: &[Bytes], value_bytes_max: usize, wants: Wants) -> Request {
        let key = keys[self.random.index(keys.len())].clone();
        let only_reads = self.only_reads || wants == Wants::Reads;
        match self.random.below(100) {
            _ if wants == Wants::Writes => self.draw_put(who, key, value_bytes_max),
            0..64 if !only_reads => self.draw_put(who, key, value_bytes_max),
            64..80 if !only_reads => Request::Write(Operation::Delete { key }),
            0..94 => Request::Get { key, revision: None },
            _ => {
                let after = (self.random.below(2) == 0).then_some(key);
                let limit = self.random.within(1, 3) as usize;
                Request::List { prefix: Bytes::from_static(b"k"), after, limit, revision: None }
            }
        }
    }

    fn draw_put(&mut self, who: usize, key: Bytes, value_bytes_max: usize) -> Request {
        let mut value = format!("c{who}-{}.", self.next).into_bytes();
        let length = self.random.skewed(16, value_bytes_max as u64) as usize;
        value.resize(length.max(value.len()), b'.');
        Request::Write(Operation::Put { key, value: value.into() })
    }

    /// Some of one connection's reads are for any node, and some are not.
    fn draw_if_not_leading(&mut self, request: &Request) -> IfNotLeading {
        match self.random.below(8) {
            0 => IfNotLeading::Refuse,
            1..7 if self.reads_anywhere => ReadBy::Any.if_not_leading(request),
            _ => IfNotLeading::Forward,
        }
    }

    fn encode(&self, number: u64, request: &Request, if_not_leading: IfNotLeading, out: &mut BytesMut) {
        match self.speech {
            Speech::Frames => wire::encode_request(number, request, if_not_leading, out),
            Speech::Lines => {
                if if_not_leading == IfNotLeading::Read {
                    out.extend_from_slice(b"ANY ");
                }
                write_line(request, out);
            }
        }
    }

    /// The next whole answer, if it is there: whose it is, and what.
    fn take_answer(&mut self) -> Option<(Option<u64>, Answer)> {
        match self.speech {
            Speech::Frames => {
                let frame = wire::take_frame(&mut self.input, FRAME_BYTES_MAX).expect("a node sends sound frames")?;
                let (number, reply) = wire::decode_reply(frame).expect("a node sends sound answers");
                Some((Some(number), reply.result.map_err(|error| error.code)))
            }
            Speech::Lines => self.take_line_answer().map(|answer| (None, answer)),
        }
    }

    fn take_line_answer(&mut self) -> Option<Answer> {
        loop {
            let end = self.input.iter().position(|byte| *byte == b'\n')?;
            let line = self.input.split_to(end + 1).freeze();
            let line = line.slice(..end);
            let request = &self.asked.front()?.request;
            if let Some(rest) = line.strip_prefix(b"ERR ") {
                let word = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
                let code = ErrorCode::ALL.iter().find(|code| code.as_str().as_bytes() == word);
                self.listed.clear();
                return Some(Err(*code.expect("a node answers with its codes")));
            }
            let revision = Revision::ZERO;
            return Some(Ok(match request {
                Request::Write(Operation::Put { .. }) => Outcome::Put { revision },
                Request::Write(Operation::Delete { .. }) => Outcome::Deleted { revision, existed: &line[..] == b"OK" },
                Request::Get { .. } => {
                    let value = (&line[..] != b"(nil)").then_some(line);
                    Outcome::Value { revision, found: value.map(found) }
                }
                Request::List { .. } if &line[..] == b"END" => {
                    Outcome::Keys { revision, keys: std::mem::take(&mut self.listed), more: true }
                }
                Request::List { .. } => {
                    self.listed.push(line);
                    continue;
                }
                Request::Status | Request::Scrub | Request::Latency => unreachable!("no client asks for it"),
            }));
        }
    }
}

type Answer = Result<Outcome, ErrorCode>;

fn found(value: Bytes) -> raftkv::api::Found {
    raftkv::api::Found {
        value: value.into(),
        create_revision: Revision::ZERO,
        mod_revision: Revision::ZERO,
        version: 0,
    }
}

/// Keys and values here need no quotes.
fn write_line(request: &Request, out: &mut BytesMut) {
    let mut words: Vec<&[u8]> = Vec::new();
    let limit;
    match request {
        Request::Write(Operation::Put { key, value }) => words.extend([&b"PUT"[..], key, value]),
        Request::Write(Operation::Delete { key }) => words.extend([&b"DELETE"[..], key]),
        Request::Get { key, .. } => words.extend([&b"GET"[..], key]),
        Request::List { prefix, after, limit: most, .. } => {
            limit = most.to_string();
            words.extend([&b"LIST"[..], prefix, b"LIMIT", limit.as_bytes()]);
            if let Some(after) = after {
                words.extend([&b"AFTER"[..], after]);
            }
        }
        Request::Status | Request::Scrub | Request::Latency => words.push(b"STATUS"),
    }
    out.extend_from_slice(&words.join(&b' '));
    out.extend_from_slice(b"\n");
}

fn recorded(request: &Request) -> history::Operation {
    match request {
        Request::Write(Operation::Put { key, value }) => {
            history::Operation::Put { key: key.clone(), value: value.clone() }
        }
        Request::Write(Operation::Delete { key }) => history::Operation::Delete { key: key.clone() },
        Request::Get { key, .. } => history::Operation::Get { key: key.clone() },
        Request::List { prefix, after, limit, .. } => {
            history::Operation::List { prefix: prefix.clone(), after: after.clone(), limit: *limit }
        }
        Request::Status | Request::Scrub | Request::Latency => unreachable!("no client asks for it"),
    }
}

fn recorded_outcome(outcome: Outcome) -> history::Outcome {
    match outcome {
        Outcome::Put { .. } => history::Outcome::Put,
        Outcome::Deleted { existed, .. } => history::Outcome::Deleted { existed },
        Outcome::Value { found, .. } => history::Outcome::Value(found.map(|found| found.value.into())),
        Outcome::Keys { keys, more, .. } => history::Outcome::Keys { keys, more },
        Outcome::Status(_) | Outcome::Latency(_) => unreachable!("no client asks for it"),
    }
}

impl World {
    // ---- the client's side ---------------------------------------------------------------------------------

    fn wake_client(&mut self, who: usize, delay: Time) {
        self.clients[who].wake += 1;
        let wake = self.clients[who].wake;
        self.schedule(delay, Event::ClientWake { client: who as u8, wake });
    }

    /// Connects, asks, or gives up, whatever is due.
    pub fn on_client_wake(&mut self, who: usize, wake: u64) -> Verdict {
        if self.clients[who].wake != wake {
            return Ok(());
        }
        let Some(conn) = self.clients[who].conn else {
            self.connect(who);
            return Ok(());
        };
        let patience = self.plan.client_patience;
        let overdue = self.clients[who].asked.front().is_some_and(|asked| asked.at + patience <= self.now);
        if overdue {
            return self.hang_up(who);
        }
        let is_live = self.phase == Phase::Liveness;
        let pipelined_max = if is_live { 1 } else { self.pipelined_max_of(who) };
        if self.clients[who].asked.len() < pipelined_max && self.phase != Phase::Quiet && !self.clients[who].is_content
        {
            let wants = match self.plan.drill {
                _ if is_live => Wants::Writes,
                Some(Drill::LateForward) => Wants::Writes, // what overtakes there is one write another
                _ if self.course.nobody_writes => Wants::Reads,
                _ => Wants::Anything,
            };
            self.ask(who, conn, wants);
        }
        let think = self.plan.think.draw(&mut self.clients[who].random);
        self.wake_client(who, think);
        Ok(())
    }

    pub fn connect(&mut self, who: usize) {
        let allowed = self.reachable();
        let client = &mut self.clients[who];
        let at = allowed[client.random.index(allowed.len())];
        let conn = self.conns.len() as u32;
        client.conn = Some(conn);
        client.input.clear();
        client.listed.clear();
        client.order = Order::default();
        self.conns.push(Conn { client: who, at, is_open: true, server: None, to_server_due: 0, to_client_due: 0 });
        self.trace.note(self.now, 0, Kind::Connect, who as u64, format_args!("client {who} to n{}", at + 1));
        self.send_to_server(conn, Parcel::Opened);
        let think = self.plan.think.draw(&mut self.clients[who].random);
        self.wake_client(who, think);
    }

    fn pipelined_max_of(&self, who: usize) -> usize {
        let of_readers = self.plan.reads_pipelined_max.filter(|_| self.clients[who].only_reads);
        of_readers.unwrap_or(self.plan.pipelined_max)
    }

    fn ask(&mut self, who: usize, conn: u32, wants: Wants) {
        let now = self.now;
        let (value_bytes_max, pipelined_max) = (self.plan.value_bytes_max, self.pipelined_max_of(who));
        let client = &mut self.clients[who];
        // Several at once, now and then: they share a packet, a turn and an entry.
        let most = pipelined_max - client.asked.len();
        let is_one = wants == Wants::Writes;
        let count = if is_one || most <= 1 || client.random.below(3) > 0 { 1 } else { 1 + client.random.index(most) };
        let mut out = BytesMut::new();
        for _ in 0..count {
            let client = &mut self.clients[who];
            let request = client.draw_request(who, &self.keys, value_bytes_max, wants);
            let number = client.next;
            client.next += 1;
            let if_not_leading = client.draw_if_not_leading(&request);
            client.encode(number, &request, if_not_leading, &mut out);
            let floor = self.checks.linear.floor();
            let id = self.history.invoke(who as u64, now, recorded(&request));
            self.trace.note(
                now,
                0,
                Kind::Ask,
                (who as u64) << 48 | number,
                format_args!("client {who} #{number}: {}", Brief(&request)),
            );
            self.asked += 1;
            self.clients[who].asked.push_back(Asked { number, request, if_not_leading, id, floor, at: now });
        }
        let mut bytes = out.freeze();
        while self.clients[who].random.below(16) == 0 && bytes.len() > 1 {
            let cut = 1 + self.clients[who].random.index(bytes.len() - 1);
            self.send_to_server(conn, Parcel::Bytes(bytes.split_to(cut)));
        }
        self.send_to_server(conn, Parcel::Bytes(bytes));
    }

    /// Nothing comes any more, or not in time: what was asked stays open.
    fn hang_up(&mut self, who: usize) -> Verdict {
        let client = &mut self.clients[who];
        let asked = client.asked.len();
        client.asked.clear();
        if let Some(conn) = client.conn.take() {
            self.trace.note(self.now, 0, Kind::GiveUp, who as u64, format_args!("client {who}, {asked} unanswered"));
            self.tally.count(Fault::ClientLost);
            if self.conns[conn as usize].is_open {
                self.conns[conn as usize].is_open = false;
                self.send_to_server(conn, Parcel::Closed);
            }
        }
        let pause = self.clients[who].random.within(5 * MILLI, SECOND / 5);
        self.wake_client(who, pause);
        Ok(())
    }

    /// For the phase without faults.
    pub fn connect_anew(&mut self, who: usize) -> Verdict {
        self.hang_up(who)
    }

    pub fn on_parcel_for_client(&mut self, conn: u32, parcel: Parcel) -> Verdict {
        let who = self.conns[conn as usize].client;
        if self.clients[who].conn != Some(conn) {
            return Ok(());
        }
        match parcel {
            Parcel::Opened => Ok(()),
            Parcel::Closed => self.hang_up(who),
            Parcel::Bytes(bytes) => {
                self.clients[who].input.extend_from_slice(&bytes);
                while let Some((number, answer)) = self.clients[who].take_answer() {
                    self.on_answer(who, number, answer)?;
                }
                Ok(())
            }
        }
    }

    fn on_answer(&mut self, who: usize, number: Option<u64>, answer: Answer) -> Verdict {
        let client = &mut self.clients[who];
        let wanted = client.asked.front().map(|asked| asked.number);
        client.order.on_answer(wanted, number.or(wanted).unwrap_or_default())?;
        let Some(asked) = client.asked.pop_front() else {
            return Err(Violation {
                property: "order within a connection",
                what: format!("client {who} got an answer, and had asked nothing"),
            });
        };
        self.trace.note(
            self.now,
            0,
            Kind::Answer,
            (who as u64) << 48 | asked.number,
            format_args!("client {who} #{}: {}: {answer:?}", asked.number, Brief(&asked.request)),
        );
        match answer {
            Ok(outcome) => {
                self.answered += 1;
                if asked.if_not_leading == IfNotLeading::Read && !self.leads(who) {
                    self.tally.count(Fault::ReadByFollower);
                }
                let mut outcome = outcome;
                let mut revision = None;
                if self.clients[who].speech == Speech::Frames {
                    let stated = revision_of(&outcome).unwrap_or_default();
                    revision = Some(stated.0);
                    let is_write = asked.request.is_write();
                    self.checks.replies.on_answer(&asked.request, &outcome)?;
                    self.clients[who].order.on_revision(stated, is_write)?;
                    self.checks.linear.on_answer(asked.floor, stated, is_write)?;
                }
                if let Outcome::Keys { keys, more, .. } = &mut outcome
                    && let Request::List { limit, .. } = &asked.request
                    && revision.is_none()
                {
                    // A line does not say whether more keys lie behind; a short page has them all.
                    *more = keys.len() == *limit;
                    if *more {
                        self.history.fail(asked.id, self.now);
                        return Ok(());
                    }
                }
                if self.phase == Phase::Liveness && asked.request.is_write() {
                    self.clients[who].is_content = true;
                }
                self.history.complete(asked.id, self.now, recorded_outcome(outcome), revision);
            }
            Err(code) => match code.applied() {
                Applied::Maybe => {}
                Applied::No => {
                    self.refused += 1;
                    self.history.fail(asked.id, self.now);
                    if let Request::Write(Operation::Put { value, .. }) = asked.request {
                        self.checks.refused.push(value);
                    }
                }
            },
        }
        Ok(())
    }

    /// Whether the node that a client talks to leads by now.
    fn leads(&mut self, who: usize) -> bool {
        let Some(conn) = self.clients[who].conn else { return false };
        let at = self.conns[conn as usize].at;
        self.nodes[at].running().is_some_and(|running| running.replica().view().role == Role::Leader)
    }

    // ---- the way between -----------------------------------------------------------------------------------

    fn client_trip(&mut self) -> Time {
        self.now + self.plan.network.delay.draw(&mut self.random)
    }

    fn send_to_server(&mut self, conn: u32, parcel: Parcel) {
        let due = self.client_trip();
        let way = &mut self.conns[conn as usize].to_server_due;
        *way = due.max(*way + 1);
        self.queue.push(*way, Event::ToServer { conn, parcel });
    }

    pub fn send_to_client(&mut self, conn: u32, bytes: Bytes) {
        self.push_to_client(conn, Parcel::Bytes(bytes));
    }

    fn push_to_client(&mut self, conn: u32, parcel: Parcel) {
        let due = self.client_trip();
        let way = &mut self.conns[conn as usize].to_client_due;
        *way = due.max(*way + 1);
        self.queue.push(*way, Event::ToClient { conn, parcel });
    }

    /// The node's end is closed, or there is no node.
    pub fn close_to_client(&mut self, conn: u32) {
        self.conns[conn as usize].is_open = false;
        self.push_to_client(conn, Parcel::Closed);
    }

    pub fn on_parcel_for_server(&mut self, conn: u32, parcel: Parcel) -> Verdict {
        let at = self.conns[conn as usize].at;
        if self.nodes[at].paused_until > self.now {
            let again = self.after_pause(at);
            self.schedule_at(again, Event::ToServer { conn, parcel });
            return Ok(());
        }
        match parcel {
            Parcel::Opened => self.on_connect(conn),
            Parcel::Bytes(bytes) => return self.on_client_bytes(conn, &bytes),
            Parcel::Closed => self.on_client_gone(conn),
        }
        Ok(())
    }
}
