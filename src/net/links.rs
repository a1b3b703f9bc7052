//! The loop's part for our way to each peer: dialing, and what is sent. Net thread.
//!
//! Each node dials every peer, *sends* on the connection it dialed and *receives* on those it accepted: two simplex
//! connections for a pair. So each direction has one owner who dials again, and both never dial into each other. What
//! is received is in [`super::peers`].
//!
//! ```text
//! a link:  Waiting --pause over--> Resolving --addresses--> Connecting --connected, hello sent--> Greeting
//!             ^                                                 |  next address       welcome |
//!             +---- LinkDown ---- any failure ------------------+-----------------------------+--> Up (LinkUp)
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::BytesMut;

use super::connection::{Connection, Role};
use super::dial::{Backoff, Resolved, resolve};
use super::event::reply_cost_bytes;
use super::event_loop::{Net, token_of};
use super::link_queue::{LinkQueue, Urgency};
use super::transport::Transport;
use super::{CloseReason, ConnectionId, FromNet, NetLimits, input};
use crate::api::{ErrorCode, Outcome, Reply, Request};
use crate::base::limits::{HELLO_BYTES_MAX, READ_QUESTIONS_LEVEL};
use crate::base::{ClusterId, NodeId, Term, is_same_address};
use crate::guard::{Guard, removed};
use crate::raft::{Body, Message};
use crate::wire::{self, PeerFrame};

/// Our way to one peer.
pub struct Link {
    address: Arc<str>,
    state: LinkState,
    queue: LinkQueue,
    backoff: Backoff,
    /// Counts the dials, so that a late look-up is known as such.
    dial: u64,
    /// Since when the socket takes nothing of what is queued.
    stalled_since: Option<Instant>,
}

enum LinkState {
    Waiting { until: Instant },
    Resolving,
    Connecting { connection: ConnectionId, rest: VecDeque<SocketAddr>, until: Instant },
    Greeting { connection: ConnectionId, until: Instant },
    Up { connection: ConnectionId, cluster: Option<ClusterId>, level: u32 },
}

impl Link {
    pub fn new(address: Arc<str>, limits: &NetLimits, now: Instant) -> Link {
        Link {
            address,
            state: LinkState::Waiting { until: now },
            queue: LinkQueue::new(limits.link_queue_bytes_max),
            backoff: Backoff::new(limits.dial_backoff_min, limits.dial_backoff_max),
            dial: 0,
            stalled_since: None,
        }
    }

    fn connection(&self) -> Option<ConnectionId> {
        match self.state {
            LinkState::Waiting { .. } | LinkState::Resolving => None,
            LinkState::Connecting { connection, .. }
            | LinkState::Greeting { connection, .. }
            | LinkState::Up { connection, .. } => Some(connection),
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up { .. })
    }

    /// The cluster that the peer named; `None` if it named none, or is not there.
    pub fn cluster(&self) -> Option<ClusterId> {
        match self.state {
            LinkState::Up { cluster, .. } => cluster,
            _ => None,
        }
    }

    /// Whether the peer's version knows what is to be sent.
    fn knows(&self, message: &Message) -> bool {
        match (&message.body, &self.state) {
            (Body::ReadIndex { .. } | Body::ReadIndexReply { .. }, LinkState::Up { level, .. }) => {
                *level >= READ_QUESTIONS_LEVEL
            }
            _ => true,
        }
    }

    /// Something waits to be written to a peer that takes it.
    pub fn has_output(&self) -> bool {
        self.is_up() && !self.queue.is_empty()
    }

    /// When it must be looked at, unless something happens before.
    pub fn deadline(&self, limits: &NetLimits) -> Option<Instant> {
        match self.state {
            LinkState::Waiting { until } | LinkState::Connecting { until, .. } | LinkState::Greeting { until, .. } => {
                Some(until)
            }
            LinkState::Resolving => None,
            LinkState::Up { .. } if removed(Guard::StalledLinkKept) => None,
            LinkState::Up { .. } => self.stalled_since.map(|since| since + limits.link_write_deadline),
        }
    }
}

impl Net {
    // ---- dialing -------------------------------------------------------------------------------------------

    /// Dials `peer` at `address` from now on.
    pub(super) fn set_link(&mut self, peer: NodeId, address: Arc<str>) {
        if let Some(link) = self.links.get_mut(&peer) {
            if is_same_address(&link.address, &address) {
                // The next dial goes by what the log says; the connection that there is stays.
                link.address = address;
                return;
            }
            let why = format!("it is dialed anew, its address was {} until now", link.address);
            self.lose_link(peer, CloseReason::NotAPeer, &why);
        }
        self.links.insert(peer, Link::new(address, &self.limits, self.now));
    }

    /// Does what is due for each link.
    pub(super) fn tend_links(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let due = |(id, link): (&NodeId, &Link)| (link.deadline(&self.limits)? <= self.now).then_some(*id);
        let due: Vec<NodeId> = self.links.iter().filter_map(due).collect();
        for peer in due {
            let Some(link) = self.links.get_mut(&peer) else { continue };
            match link.state {
                LinkState::Waiting { .. } => self.dial(peer),
                LinkState::Resolving => {}
                LinkState::Connecting { .. } => self.on_connect_failed(peer, "no answer to the connection request"),
                LinkState::Greeting { .. } => self.lose_link(peer, CloseReason::TooSlow, "no answer to the hello"),
                LinkState::Up { .. } => {
                    self.lose_link(peer, CloseReason::Unread, "it takes nothing of what is sent to it");
                }
            }
        }
    }

    fn dial(&mut self, peer: NodeId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.dial += 1;
        link.state = LinkState::Resolving;
        resolve(peer, link.dial, &link.address, &self.mailbox);
    }

    pub(super) fn on_resolved(&mut self, resolved: Resolved) {
        let Some(link) = self.links.get(&resolved.peer) else { return };
        if link.dial != resolved.dial || !matches!(link.state, LinkState::Resolving) || self.stopping.is_some() {
            return;
        }
        match resolved.addresses {
            Ok(addresses) => self.connect_next(resolved.peer, addresses.into(), "its name has no address"),
            Err(why) => self.lose_link(resolved.peer, CloseReason::Broken, &why),
        }
    }

    /// Tries the first of `addresses` that can be tried; `why`: how the one before it failed.
    fn connect_next(&mut self, peer: NodeId, mut addresses: VecDeque<SocketAddr>, why: &str) {
        let mut why = why.to_string();
        while let Some(address) = addresses.pop_front() {
            let id = self.connections.next_id();
            let connecting = Transport::connect(address).and_then(|mut transport| {
                transport.register(self.poll.registry(), token_of(id))?;
                Ok(transport)
            });
            match connecting {
                Ok(transport) => {
                    let role = Role::Dialed { peer, input: BytesMut::new() };
                    let mut connection = Connection::new(transport, address, role);
                    (connection.readable, connection.writable) = (false, false);
                    let connection = self.connections.insert(connection);
                    self.counters.open.fetch_add(1, Ordering::Relaxed);
                    let until = self.now + self.limits.dial_deadline;
                    if let Some(link) = self.links.get_mut(&peer) {
                        link.state = LinkState::Connecting { connection, rest: addresses, until };
                    }
                    return;
                }
                Err(error) => why = error.to_string(),
            }
        }
        self.lose_link(peer, CloseReason::Broken, &why);
    }

    /// One address failed; there may be others.
    fn on_connect_failed(&mut self, peer: NodeId, why: &str) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if let LinkState::Connecting { connection, rest, .. } = &mut link.state {
            let (connection, rest) = (*connection, std::mem::take(rest));
            self.close(connection, CloseReason::Broken);
            self.connect_next(peer, rest, why);
        }
    }

    /// The link is gone, or never came up: consensus is told, and it is dialed again after a pause.
    pub(super) fn lose_link(&mut self, peer: NodeId, reason: CloseReason, why: &str) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let connection = link.connection();
        let pause = link.backoff.pause(&mut self.random);
        link.state = LinkState::Waiting { until: self.now + pause };
        link.queue = LinkQueue::new(self.limits.link_queue_bytes_max);
        link.stalled_since = None;
        log::debug!("net: no link to node {peer} at {}: {why}", link.address);
        if let Some(connection) = connection {
            self.close(connection, reason);
        }
        self.inbox.deliver(FromNet::LinkDown { peer, why: why.to_string() });
    }

    // ---- our side of a link --------------------------------------------------------------------------------

    /// The dialed socket became readable or writable.
    pub(super) fn serve_dialed(&mut self, id: ConnectionId, peer: NodeId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if let LinkState::Connecting { .. } = link.state {
            self.maybe_greet(id, peer);
        }
        // One read a turn is enough for a connection that carries one answer; the rest keeps it on the list.
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.readable {
            return;
        }
        match connection.read(&mut self.chunk) {
            Ok(None) => {}
            Ok(Some(0)) => self.lose_link(peer, CloseReason::Broken, "it closed the connection"),
            Ok(Some(length)) => {
                self.on_dialed_input(id, peer, length);
                self.make_ready(id);
            }
            Err(error) => self.lose_link(peer, CloseReason::Broken, &error.to_string()),
        }
    }

    fn maybe_greet(&mut self, id: ConnectionId, peer: NodeId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.transport.connected(self.limits.link_write_deadline) {
            Ok(false) => (connection.readable, connection.writable) = (false, false),
            Ok(true) => {
                connection.writable = true;
                let hello = self.me.hello(peer);
                let Some(link) = self.links.get_mut(&peer) else { return };
                let until = self.now + self.limits.hello_deadline;
                link.state = LinkState::Greeting { connection: id, until };
                let queued = link.queue.push(Urgency::Control, |out| wire::encode_hello(&hello, out));
                queued.expect("a hello fits an empty queue");
            }
            Err(error) => self.on_connect_failed(peer, &error.to_string()),
        }
    }

    /// The one answer to our hello; anything more breaks the link.
    fn on_dialed_input(&mut self, id: ConnectionId, peer: NodeId, length: usize) {
        let Some(link) = self.links.get(&peer) else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Role::Dialed { input, .. } = &mut connection.role else { return };
        if !matches!(link.state, LinkState::Greeting { .. }) || input.len() + length > 2 * HELLO_BYTES_MAX {
            return self.lose_link(peer, CloseReason::BadFrame, "it sent what it should not");
        }
        input::append(input, &self.chunk[..length], 0);
        let reply = match input::take_frame(input, HELLO_BYTES_MAX) {
            Ok(None) => return,
            Ok(Some(frame)) => wire::decode_hello_reply(frame).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) => {
                let why = format!("its answer to the hello is none ({why}): is it a raftkv node?");
                return self.lose_link(peer, CloseReason::BadFrame, &why);
            }
        };
        match self.me.check_reply(&reply, peer) {
            Err(why) => self.lose_link(peer, CloseReason::HelloRefused, &why),
            Ok(()) => self.on_welcome(id, peer, &reply.from),
        }
    }

    fn on_welcome(&mut self, id: ConnectionId, peer: NodeId, from: &wire::Identity) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.state = LinkState::Up { connection: id, cluster: from.cluster, level: from.level };
        link.backoff.reset();
        log::debug!("net: link to node {peer} at {} is up", link.address);
        self.inbox.deliver(FromNet::LinkUp { peer });
    }

    /// Writes what is queued for the peer, once a turn; what a turn has no budget for goes on in the next.
    pub(super) fn finish_dialed(&mut self, id: ConnectionId, peer: NodeId) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.connection() == Some(id)) else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.writable || matches!(link.state, LinkState::Connecting { .. }) {
            return;
        }
        let bytes_max = self.limits.turn_peer_bytes_max;
        let (written, result) = link.queue.write_to(bytes_max, |slices| connection.transport.write_vectored(slices));
        if written > 0 || link.queue.is_empty() {
            link.stalled_since = None;
        }
        match result {
            Ok(()) if link.queue.is_empty() => {}
            Ok(()) => self.touch(id),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                connection.writable = false;
                link.stalled_since.get_or_insert(self.now);
            }
            Err(error) => self.lose_link(peer, CloseReason::Broken, &error.to_string()),
        }
    }

    // ---- sending -------------------------------------------------------------------------------------------

    pub(super) fn on_send(&mut self, message: Message) {
        let (to, urgency) = (message.to, Urgency::of(&message));
        if !self.links.get(&to).is_some_and(|link| link.knows(&message)) {
            return;
        }
        self.queue_for(to, urgency, &PeerFrame::Raft(message));
    }

    /// A request that certainly can't go is answered here: nobody has it, so it can be refused for certain.
    pub(super) fn on_forward(&mut self, to: NodeId, id: u64, term: Term, request: Request) {
        let up = self.links.get(&to).filter(|link| link.is_up());
        let refusal = match up {
            None => Some((ErrorCode::NoLeader, format!("the link to node {to}, which leads, is down; try again"))),
            Some(link) if link.queue.bytes() > self.limits.link_queue_bytes_max / 2 => {
                let queued = link.queue.bytes();
                Some((ErrorCode::Busy, format!("{queued} bytes wait to be sent to node {to}, which leads; try again")))
            }
            Some(_) => None,
        };
        match refusal {
            Some((code, message)) => {
                let reply = Reply::refused(code, message, None);
                self.inbox.deliver(FromNet::ForwardReply { from: to, id, reply });
            }
            None => self.queue_for(to, Urgency::Data, &PeerFrame::Forward { id, term, request }),
        }
    }

    /// What a read found may be refused still, and is, rather than crowd the link that heartbeats go by.
    pub(super) fn on_forward_reply(&mut self, to: NodeId, id: u64, mut reply: Reply) {
        let queued = self.links.get(&to).map_or(0, |link| link.queue.bytes());
        let is_read = matches!(reply.result, Ok(Outcome::Value { .. } | Outcome::Keys { .. }));
        if is_read && queued > 0 && queued + reply_cost_bytes(&reply) > self.limits.link_queue_bytes_max / 2 {
            let message =
                format!("{queued} bytes wait to be sent from the leader to node {to}; try again, or ask the leader");
            reply = Reply::refused(ErrorCode::Busy, message, reply.leader);
        }
        self.queue_for(to, Urgency::Data, &PeerFrame::ForwardReply { id, reply });
    }

    /// Dropped if the link is down: consensus was told then.
    fn queue_for(&mut self, to: NodeId, urgency: Urgency, frame: &PeerFrame) {
        let Some(link) = self.links.get_mut(&to) else { return };
        let LinkState::Up { connection, .. } = link.state else { return };
        match link.queue.push(urgency, |out| wire::encode_peer(frame, out)) {
            Ok(()) => self.touch(connection),
            Err(_) => {
                let why = format!("more than {} bytes wait to be sent to it", self.limits.link_queue_bytes_max);
                self.lose_link(to, CloseReason::QueueFull, &why);
            }
        }
    }
}
