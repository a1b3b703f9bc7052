//! The loop's part for clients: accepting, reading requests, writing answers. Net thread.
//!
//! What a client's bytes mean is [`super::session`]'s; here they come from a socket, under the bounds of all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;

use super::connection::{Connection, Role};
use super::event::reply_cost_bytes;
use super::event_loop::{Net, token_of};
use super::listener::Accepted;
use super::pipeline::Asked;
use super::session::{Session, Turn};
use super::transport::Transport;
use super::{CloseReason, ConnectionId, FromNet, Origin};
use crate::api::{Reply, Request};
use crate::base::limits::{COUNTED_AT_ONCE_BYTES, TURN_READ_COST_BYTES};
use crate::base::{Moment, Step};
use crate::guard::{Guard, removed};

impl Net {
    // ---- accepting -----------------------------------------------------------------------------------------

    /// Whether another connection may be accepted. Beyond the clients' bound there is room for peers alone, so that
    /// clients never keep a cluster from forming; one that turns out to be a client there is refused. Each peer may
    /// have two: the one that it left behind, and the one that it dialed since.
    pub(super) fn may_take_another(&self) -> bool {
        let reserve = 2 * self.links.len();
        self.clients_open < self.limits.connections_max + reserve
    }

    pub(super) fn maybe_accept(&mut self) {
        for _ in 0..self.limits.turn_accepts_max {
            if !self.listener.may_accept(self.now, self.may_take_another()) {
                break;
            }
            match self.listener.accept(self.now, self.limits.accept_retry) {
                Accepted::Connection(stream, remote) => {
                    if let Err(error) = self.on_accepted(stream, remote) {
                        log::debug!("net: {remote} was accepted and lost: {error}");
                    }
                }
                Accepted::Nothing => return,
                Accepted::OutOfDescriptors => {
                    self.counters.accept_pauses.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    fn on_accepted(&mut self, stream: mio::net::TcpStream, remote: std::net::SocketAddr) -> std::io::Result<()> {
        let mut transport = Transport::accepted(stream)?;
        transport.register(self.poll.registry(), token_of(self.connections.next_id()))?;
        let session = Box::new(Session::new(self.me.id, Arc::clone(&self.limits)));
        let mut connection = Connection::new(transport, remote, Role::Client(session));
        if self.clients_open >= self.limits.connections_max {
            connection.must_be_peer_by = Some(self.now + self.limits.reserve_hello_deadline);
            self.report_full();
        }
        let id = self.connections.insert(connection);
        self.clients_open += 1;
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        if !self.may_take_another() {
            self.counters.accept_pauses.fetch_add(1, Ordering::Relaxed);
        }
        // What it sent already would come as an event too; this saves a turn.
        self.make_ready(id);
        Ok(())
    }

    fn report_full(&mut self) {
        if self.full_said.may_be_said(self.now) {
            log::warn!(
                "net: all {} connections for clients are taken, more are refused; raise --connections-max, or look for \
                 who holds them",
                self.limits.connections_max
            );
        }
    }

    // ---- reading -------------------------------------------------------------------------------------------

    pub(super) fn serve_client(&mut self, id: ConnectionId) {
        for _ in 0..self.limits.turn_reads_max {
            let Some(connection) = self.connections.get_mut(id) else { return };
            let Role::Client(session) = &connection.role else { return };
            if !connection.readable || !session.wants_input() {
                return;
            }
            if self.is_starved(id) {
                return;
            }
            let Some(connection) = self.connections.get_mut(id) else { return };
            match connection.read(&mut self.chunk) {
                Ok(None) => return,
                Ok(Some(length)) => self.on_input(id, length),
                Err(error) => {
                    log::debug!("net: {} can't be read: {error}", connection.remote);
                    return self.close(id, CloseReason::Broken);
                }
            }
            if self.spent_bytes >= self.limits.turn_client_bytes_max {
                return; // what is left is read in the next turn
            }
        }
    }

    /// Whether a client is not to be read for want of memory; it is on the list of those that wait then, and else on none.
    /// One that must be a peer holds next to nothing, and has little time.
    fn is_starved(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let from = self.limits.not_read_from_bytes(connection.counted_bytes);
        let is_over = self.buffered_bytes >= from && connection.must_be_peer_by.is_none();
        let starved_from = (is_over && !removed(Guard::BufferUnbounded)).then_some(from);
        let before = std::mem::replace(&mut connection.starved_from, starved_from);
        if before != starved_from {
            if let Some(waiting) = before.and_then(|from| self.starved_clients.get_mut(&from)) {
                waiting.remove(&id);
            }
            if let Some(from) = starved_from {
                self.starved_clients.entry(from).or_default().insert(id);
            }
        }
        starved_from.is_some()
    }

    /// `length` bytes are in the chunk; none: the other side has ended its output.
    fn on_input(&mut self, id: ConnectionId, length: usize) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Role::Client(session) = &mut connection.role else { return };
        self.spent_bytes += length;
        if length == 0 {
            connection.readable = false;
            session.on_end();
        } else {
            Step::BytesIn.pass(format_args!("{length} bytes from {}", connection.remote));
            session.on_bytes(&self.chunk[..length]);
        }
        // What is answered at once is written when the connection is finished.
        self.advance(id);
        self.account(id);
    }

    /// Lets the session do what it can, answers the reads that can be answered here, and delivers what else it asks.
    /// What that turns into output costs the turn what it copies. True: something was answered, which may have made
    /// room for more.
    fn advance(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let Role::Client(session) = &mut connection.role else { return false };
        let before = session.pipeline().output().len();
        let turn = session.advance(&mut self.admission, &mut self.asked);
        self.spent_bytes += session.pipeline().output().len().saturating_sub(before);
        if connection.must_be_peer_by.is_some() && session.is_client() {
            if self.clients_open > self.limits.connections_max {
                self.refuse(id);
                return false;
            }
            connection.must_be_peer_by = None;
        }
        let answered = self.answer_or_deliver(id);
        match turn {
            Ok(Turn::Client) => return answered,
            Ok(Turn::Hello(hello)) => self.on_hello(id, &hello),
            Err(reason) => self.close(id, reason),
        }
        false
    }

    /// Whether something was answered at once. What goes to consensus is not overtaken by what was asked behind it.
    fn answer_or_deliver(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let Role::Client(session) = &mut connection.role else { return false };
        let (mut answered, mut may_answer) = (false, true);
        self.stopwatch.begin_connection();
        for Asked { sequence, request, if_not_leading, at_once } in self.asked.drain(..) {
            if let Request::Latency = request {
                // Of no state: answered here, and so even where consensus hangs.
                let reply = self.stopwatch.tell(self.me.id);
                self.admission.give_back(1);
                self.spent_bytes += reply_cost_bytes(&reply);
                session.on_reply(sequence, reply, &self.admission);
                answered = true;
                continue;
            }
            may_answer &= at_once;
            if may_answer && let Some(value) = self.served.look_up(&request) {
                let now = if removed(Guard::ClockBeforeRequest) { self.clock_at_turn } else { (self.clock)() };
                if let Some(reply) = self.served.confirm(value, now) {
                    self.admission.give_back(1);
                    self.spent_bytes += TURN_READ_COST_BYTES;
                    session.on_reply(sequence, reply, &self.admission);
                    answered = true;
                    continue;
                }
            }
            may_answer = false;
            let (origin, handed_on) = (Origin { connection: id, sequence }, self.stopwatch.hand_on(self.now));
            self.inbox.deliver(FromNet::Request { origin, request, if_not_leading, handed_on });
        }
        answered
    }

    /// No connection is left for this client; none of what it asked was delivered.
    fn refuse(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Role::Client(session) = &mut connection.role else { return };
        self.admission.give_back(self.asked.len() + session.undispatched());
        self.asked.clear();
        let output = session.refuse();
        self.linger(id, output, CloseReason::TooManyConnections);
    }

    // ---- answering -----------------------------------------------------------------------------------------

    pub(super) fn on_reply(&mut self, origin: Origin, reply: Reply, ready: Moment) {
        // Also for a connection that is gone: its request is no longer with consensus.
        self.admission.give_back(1);
        let Some(connection) = self.connections.get_mut(origin.connection) else { return };
        let Role::Client(session) = &mut connection.role else { return };
        let is_counted_at_once = reply_cost_bytes(&reply) >= COUNTED_AT_ONCE_BYTES;
        session.on_reply(origin.sequence, reply, &self.admission);
        connection.unwritten.add(ready);
        if is_counted_at_once {
            self.account(origin.connection);
        }
        self.touch(origin.connection);
    }

    pub(super) fn finish_client(&mut self, id: ConnectionId) {
        let Some(Role::Client(session)) = self.connections.get_mut(id).map(|connection| &mut connection.role) else {
            return;
        };
        if session.pipeline().has_work(&self.admission) {
            while self.advance(id) && self.spent_bytes < self.limits.turn_client_bytes_max {}
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.flush(self.limits.turn_connection_bytes_max) {
            Ok(written) => self.spent_bytes += written,
            Err(error) => {
                log::debug!("net: {} can't be written: {error}", connection.remote);
                assert!(!removed(Guard::BrokenWriteEnds), "{error}");
                return self.close(id, CloseReason::Broken);
            }
        }
        if !connection.has_output() {
            self.stopwatch.on_written(&mut connection.unwritten);
        }
        let may_write_more = connection.may_write_more();
        let Role::Client(session) = &mut connection.role else { return };
        session.release_drained();
        if let Some(reason) = session.finished() {
            if session.input_ended() {
                return self.close(id, reason);
            }
            return self.linger(id, BytesMut::new(), reason);
        }
        if session.pipeline().unread_bytes() > 2 * self.limits.connection_buffered_bytes_max {
            return self.close(id, CloseReason::TooMuchUnread);
        }
        let has_work = session.pipeline().has_work(&self.admission) || may_write_more;
        let has_unread_input = connection.readable && session.wants_input() && !removed(Guard::UnreadForgotten);
        if has_work {
            self.make_ready(id);
        } else if has_unread_input {
            // What it holds now decides, and what it held when it was last looked at does not.
            self.account(id);
            if !self.is_starved(id) {
                self.make_ready(id);
            }
        }
    }

    // ---- lingering -----------------------------------------------------------------------------------------

    /// Writes `output`, then waits for the other side to end too: a close with unread input would be a reset, and
    /// a reset may take the last answer with it.
    pub(super) fn linger(&mut self, id: ConnectionId, output: BytesMut, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let is_in_reserve = connection.must_be_peer_by.take().is_some();
        let limits = &self.limits;
        let until = self.now + if is_in_reserve { limits.reserve_hello_deadline } else { limits.linger_deadline };
        connection.role = Role::Lingering { output, reason, ended_output: false, ended_input: false, until };
        self.touch(id);
        self.make_ready(id);
    }

    pub(super) fn serve_lingering(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        for _ in 0..self.limits.turn_reads_max {
            if !connection.readable {
                return;
            }
            match connection.read(&mut self.chunk) {
                Ok(Some(0)) | Err(_) => {
                    connection.readable = false;
                    if let Role::Lingering { ended_input, .. } = &mut connection.role {
                        *ended_input = true;
                    }
                }
                Ok(read) => self.spent_bytes += read.unwrap_or(0),
            }
        }
        // More may come; the deadline ends it.
        self.make_ready(id);
    }

    pub(super) fn finish_lingering(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut result = connection.flush(self.limits.turn_connection_bytes_max).map(|bytes| self.spent_bytes += bytes);
        let may_write_more = connection.may_write_more();
        let Role::Lingering { output, reason, ended_output, ended_input, .. } = &mut connection.role else { return };
        let written = output.is_empty();
        if result.is_ok() && written && !std::mem::replace(ended_output, true) {
            result = connection.transport.end_output();
        }
        if result.is_err() || (written && *ended_input) {
            let reason = *reason;
            self.close(id, reason);
        } else if may_write_more {
            self.make_ready(id);
        }
    }
}
