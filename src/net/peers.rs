//! The loop's part for peers: dialing, links, and what peers send. Net thread.
//!
//! Each node dials every peer, *sends* on the connection it dialed and *receives* on those it accepted: two simplex
//! connections for a pair. So each direction has one owner who dials again, and both never dial into each other.
//!
//! ```text
//! a link:  Waiting --pause over--> Resolving --addresses--> Connecting --connected, hello sent--> Greeting
//!             ^                                                 |  next address       welcome |
//!             +---- LinkDown ---- any failure ------------------+-----------------------------+--> Up (LinkUp)
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::connection::{Connection, PeerInput, Role};
use super::dial::{Backoff, Resolved, resolve};
use super::event::reply_cost_bytes;
use super::event_loop::{Net, token_of};
use super::link::{LinkQueue, Urgency};
use super::transport::Transport;
use super::{CloseReason, ConnectionId, FromNet, NetLimits, input};
use crate::api::{ErrorCode, Outcome, Reply, Request};
use crate::base::limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX};
use crate::base::{ClusterId, NodeId, Term, is_same_address};
use crate::guard::{Guard, removed};
use crate::raft::Message;
use crate::wire::{self, Hello, PeerFrame};

/// Distinct refusals that are warned about; a stranger could make up more.
const REFUSALS_LOGGED_MAX: usize = 64;

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
    Up { connection: ConnectionId, cluster: Option<ClusterId> },
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
                    self.counters.open.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
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
    fn lose_link(&mut self, peer: NodeId, reason: CloseReason, why: &str) {
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
        (self.deliver)(FromNet::LinkDown { peer, why: why.to_string() });
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
            Ok(()) => self.on_welcome(id, peer, reply.from.cluster),
        }
    }

    fn on_welcome(&mut self, id: ConnectionId, peer: NodeId, cluster: Option<ClusterId>) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.state = LinkState::Up { connection: id, cluster };
        link.backoff.reset();
        log::debug!("net: link to node {peer} at {} is up", link.address);
        (self.deliver)(FromNet::LinkUp { peer });
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
                (self.deliver)(FromNet::ForwardReply { from: to, id, reply });
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

    // ---- what peers send -----------------------------------------------------------------------------------

    /// A connection has turned out to be a peer's, or says that it is.
    pub(super) fn on_hello(&mut self, id: ConnectionId, hello: &Hello) {
        let peers: Vec<NodeId> = self.links.keys().copied().collect();
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut output = BytesMut::new();
        if let Err(why) = self.me.check_hello(hello, &peers) {
            if self.refusals.len() < REFUSALS_LOGGED_MAX && self.refusals.insert(why.clone()) {
                log::warn!("net: a peer's hello from {} is refused: {why}", connection.remote);
            }
            wire::encode_hello_reply(&self.me.refusal(why), &mut output);
            return self.linger(id, output, CloseReason::HelloRefused);
        }
        wire::encode_hello_reply(&self.me.welcome(), &mut output);
        let waiting = Role::Dialed { peer: hello.from.id, input: BytesMut::new() };
        let Role::Client(session) = std::mem::replace(&mut connection.role, waiting) else { return };
        let from = hello.from.id;
        connection.role = Role::Peer(PeerInput {
            from,
            instance: hello.from.instance,
            cluster: hello.from.cluster,
            input: session.into_rest(),
            output,
        });
        connection.must_be_peer_by = None;
        self.clients_open -= 1;
        // The older one first: nothing that it still holds may come behind what the new one brings.
        if let Some(older) = self.inbound.insert(from, id) {
            self.close(older, CloseReason::Superseded);
        }
        self.touch(id);
        self.take_peer_frames(id);
    }

    pub(super) fn serve_peer(&mut self, id: ConnectionId) {
        let mut read_bytes = 0;
        while read_bytes < self.limits.turn_peer_bytes_max {
            let Some(connection) = self.connections.get_mut(id) else { return };
            if !connection.readable {
                return;
            }
            if self.credit.taken_bytes() >= self.limits.peer_credit_bytes_max {
                if !std::mem::replace(&mut connection.is_starved, true) {
                    self.starved_peers.push(id);
                }
                return;
            }
            match connection.read(&mut self.chunk) {
                Ok(None) => return,
                Ok(Some(0)) => return self.close(id, CloseReason::Finished),
                Ok(Some(length)) => {
                    read_bytes += length;
                    let Role::Peer(peer) = &mut connection.role else { return };
                    let announced = input::announced_bytes(&peer.input, FRAME_BYTES_MAX);
                    input::append(&mut peer.input, &self.chunk[..length], announced);
                    self.take_peer_frames(id);
                }
                Err(error) => {
                    log::debug!("net: a peer at {} can't be read: {error}", connection.remote);
                    return self.close(id, CloseReason::Broken);
                }
            }
        }
    }

    /// Delivers every whole frame of its input.
    fn take_peer_frames(&mut self, id: ConnectionId) {
        while let Some(connection) = self.connections.get_mut(id) {
            let Role::Peer(peer) = &mut connection.role else { return };
            let frame = match input::take_frame(&mut peer.input, FRAME_BYTES_MAX) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    wire::decode_peer(frame, peer.from, self.me.id, peer.instance).map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            let from = peer.from;
            match frame {
                Ok(frame) => self.on_peer_frame(from, frame),
                Err(why) => {
                    log::warn!("net: node {from} at {} is cut off: {why}", connection.remote);
                    return self.close(id, CloseReason::BadFrame);
                }
            }
        }
        self.account(id);
    }

    fn on_peer_frame(&mut self, from: NodeId, frame: PeerFrame) {
        let event = match frame {
            PeerFrame::Raft(message) => FromNet::Raft { message },
            PeerFrame::Forward { id, term, request } => FromNet::Forwarded { from, id, term, request },
            PeerFrame::ForwardReply { id, reply } => FromNet::ForwardReply { from, id, reply },
        };
        self.credit.take(event.credit_bytes());
        (self.deliver)(event);
    }

    pub(super) fn finish_peer(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Err(error) = connection.flush(self.limits.turn_peer_bytes_max) {
            log::debug!("net: a peer at {} can't be written: {error}", connection.remote);
            return self.close(id, CloseReason::Broken);
        }
        if (connection.readable && !connection.is_starved) || connection.may_write_more() {
            self.make_ready(id);
        }
    }

    // ---- who is a peer -------------------------------------------------------------------------------------

    pub(super) fn on_set_peers(&mut self, peers: Vec<(NodeId, Arc<str>)>) {
        let strangers = self.links.keys().filter(|id| peers.iter().all(|(peer, _)| peer != *id));
        for id in strangers.copied().collect::<Vec<_>>() {
            self.lose_link(id, CloseReason::NotAPeer, "it is no longer a peer");
            self.links.remove(&id);
            if let Some(&inbound) = self.inbound.get(&id)
                && !removed(Guard::FormerPeerHeard)
            {
                self.close(inbound, CloseReason::NotAPeer);
            }
        }
        for (id, address) in peers {
            if id == self.me.id {
                continue;
            }
            if let Some(link) = self.links.get_mut(&id) {
                if is_same_address(&link.address, &address) {
                    // The next dial goes by what the log says; the connection that there is stays.
                    link.address = address;
                    continue;
                }
                let why = format!("it is dialed anew, its address was {} until now", link.address);
                self.lose_link(id, CloseReason::NotAPeer, &why);
            }
            self.links.insert(id, Link::new(address, &self.limits, self.now));
        }
    }

    /// Links whose hello named no cluster stay: what is in the log decides for them. Those that named another end.
    pub(super) fn on_set_cluster_id(&mut self, cluster: ClusterId) {
        self.me.cluster = Some(cluster);
        for id in self.connections.ids() {
            if let Some(Role::Peer(peer)) = self.connections.get(id).map(|connection| &connection.role)
                && let Some(why) = self.me.another_cluster(peer.from, peer.cluster)
            {
                log::warn!("net: {why}");
                self.close(id, CloseReason::NotAPeer);
            }
        }
        let other = |(id, link): (&NodeId, &Link)| match link.state {
            LinkState::Up { cluster, .. } => Some((*id, self.me.another_cluster(*id, cluster)?)),
            _ => None,
        };
        let others: Vec<(NodeId, String)> = self.links.iter().filter_map(other).collect();
        for (id, why) in others {
            self.lose_link(id, CloseReason::NotAPeer, &why);
        }
    }
}
