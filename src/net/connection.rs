//! One socket and what is said on it: state only. What moves it is in [`super::event_loop`], [`super::clients`],
//! [`super::links`] and [`super::peers`]. Net thread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::session::Session;
use super::stopwatch::Unwritten;
use super::transport::Transport;
use super::{CloseReason, NetLimits};
use crate::base::{ClusterId, InstanceId, NodeId, Step};
use crate::guard::{Guard, removed};

#[derive(Debug)]
pub struct Connection {
    pub transport: Transport,
    pub remote: SocketAddr,
    pub role: Role,
    /// Edge-triggered: true from an event until the socket was emptied, or takes no more.
    pub readable: bool,
    pub writable: bool,
    /// An event has told that the other side has ended, or the connection: no other event will.
    pub input_ended: bool,
    /// It is on the ready list, on the list of those touched in this turn, on the list of peers that wait for credit.
    pub is_ready: bool,
    pub is_touched: bool,
    pub is_starved: bool,
    /// Of a client that is not read for want of memory: on which list of those it is.
    pub starved_from: Option<usize>,
    /// What of it is in the sum of all buffered bytes.
    pub counted_bytes: usize,
    /// The earliest of its entries among the loop's deadlines.
    pub armed: Option<Instant>,
    /// Accepted beyond the clients' bound, in the reserve for peers: it must be one, and soon.
    pub must_be_peer_by: Option<Instant>,
    /// The unit that has begun, and when.
    unit: Option<(u64, Instant)>,
    backlog: Backlog,
    pub unwritten: Unwritten,
}

#[derive(Debug)]
pub enum Role {
    /// A client, or not known yet.
    Client(Box<Session>),
    /// A peer that dialed us: what it sends is for consensus.
    Peer(PeerInput),
    /// Our dial to a peer: it carries what we send, and one answer to our hello.
    Dialed { peer: NodeId, input: BytesMut },
    /// Done: the rest of the output, then what still comes is thrown away until the other side ends too.
    Lingering { output: BytesMut, reason: CloseReason, ended_output: bool, ended_input: bool, until: Instant },
}

#[derive(Debug)]
pub struct PeerInput {
    pub from: NodeId,
    pub instance: InstanceId,
    /// As its hello said.
    pub cluster: Option<ClusterId>,
    pub address: Arc<str>,
    pub input: BytesMut,
    /// The answer to its hello.
    pub output: BytesMut,
}

/// Watches that output drains: what was in the buffer at one moment must be gone a deadline later. Progress alone
/// is not enough, or a client that takes a byte a minute could hold its answers for ever.
#[derive(Debug, Default)]
struct Backlog {
    written: u64,
    /// When `written` must have reached this.
    due: Option<(u64, Instant)>,
}

impl Connection {
    pub fn new(transport: Transport, remote: SocketAddr, role: Role) -> Connection {
        Connection {
            transport,
            remote,
            role,
            readable: true,
            writable: true,
            input_ended: false,
            is_ready: false,
            is_touched: false,
            is_starved: false,
            starved_from: None,
            counted_bytes: 0,
            armed: None,
            must_be_peer_by: None,
            unit: None,
            backlog: Backlog::default(),
            unwritten: Unwritten::default(),
        }
    }

    /// Whether it takes one of the clients' connections.
    pub fn counts_as_client(&self) -> bool {
        matches!(self.role, Role::Client(_) | Role::Lingering { .. })
    }

    /// Whether it is served in the peers' lane.
    pub fn is_peer(&self) -> bool {
        matches!(self.role, Role::Peer(_) | Role::Dialed { .. })
    }

    /// Whether output is left that the socket would take.
    pub fn may_write_more(&self) -> bool {
        self.writable && self.has_output()
    }

    pub fn buffered_bytes(&self) -> usize {
        match &self.role {
            Role::Client(session) => session.buffered_bytes(),
            Role::Peer(peer) => peer.input.capacity() + peer.output.capacity(),
            Role::Dialed { input, .. } => input.capacity(),
            Role::Lingering { output, .. } => output.capacity(),
        }
    }

    pub fn has_output(&self) -> bool {
        match &self.role {
            Role::Client(session) => session.has_output(),
            Role::Peer(peer) => !peer.output.is_empty(),
            Role::Dialed { .. } => false,
            Role::Lingering { output, .. } => !output.is_empty(),
        }
    }

    /// Reads once into `chunk`. `Ok(None)`: nothing there, and an event will tell when there is.
    ///
    /// A read that does not fill the chunk has taken all there was (epoll(7), on edge-triggered streams), so most
    /// requests cost one system call here, not two.
    pub fn read(&mut self, chunk: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.transport.read(chunk) {
                Ok(length) => {
                    self.readable = length == chunk.len() || length == 0 || self.input_ended;
                    return Ok(Some(length));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes output until it is gone, the socket is full or `bytes_max` are written; how many were. Not for
    /// `Role::Dialed`, whose queue is its link's.
    pub fn flush(&mut self, bytes_max: usize) -> io::Result<usize> {
        let output = match &mut self.role {
            Role::Client(session) => session.pipeline().output(),
            Role::Peer(peer) => &mut peer.output,
            Role::Lingering { output, .. } => output,
            Role::Dialed { .. } => return Ok(0),
        };
        let mut total = 0;
        while self.writable && !output.is_empty() && total < bytes_max {
            match self.transport.write(&output[..output.len().min(bytes_max - total)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    Step::BytesOut.pass(format_args!("{written} bytes to {}", self.remote));
                    output.advance(written);
                    total += written;
                    self.backlog.written += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Notes what has begun and what waits, so that [`Connection::deadline`] can tell. Once in each turn that
    /// touched the connection, after its input and output were served.
    pub fn watch(&mut self, now: Instant, limits: &NetLimits) {
        let (unit, output_bytes) = match &mut self.role {
            Role::Client(session) => (session.unit_begun(), session.pipeline().output().len()),
            Role::Peer(peer) => (None, peer.output.len()),
            Role::Lingering { output, .. } => (None, output.len()),
            Role::Dialed { .. } => (None, 0),
        };
        self.unit = match (unit, self.unit) {
            (Some(number), Some((begun, since))) if number == begun => Some((begun, since)),
            (Some(number), _) => Some((number, now)),
            (None, _) => None,
        };
        let backlog = &mut self.backlog;
        let drained = backlog.due.is_none_or(|(target, _)| backlog.written >= target);
        if output_bytes == 0 || removed(Guard::SlowReaderKept) {
            backlog.due = None;
        } else if drained {
            backlog.due = Some((backlog.written + output_bytes as u64, now + limits.write_deadline));
        }
    }

    /// When it will be closed, unless something happens before, and for what.
    pub fn deadline(&self, limits: &NetLimits) -> Option<(Instant, CloseReason)> {
        let unit_time = match &self.role {
            Role::Client(session) if session.may_be_hello() => limits.hello_deadline,
            _ => limits.frame_deadline,
        };
        let lingering = match &self.role {
            Role::Lingering { until, reason, .. } => Some((*until, *reason)),
            _ => None,
        };
        let due = |since: Instant, time: Duration, reason| (since + time, reason);
        [
            self.unit
                .filter(|_| !removed(Guard::SlowSenderKept))
                .map(|(_, since)| due(since, unit_time, CloseReason::TooSlow)),
            self.backlog.due.map(|(_, by)| (by, CloseReason::Unread)),
            self.must_be_peer_by.map(|by| (by, CloseReason::TooManyConnections)),
            lingering,
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(by, _)| *by)
    }
}
