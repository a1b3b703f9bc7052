//! The loop of the net thread: what a turn does, in which order, and how long the thread may sleep.
//!
//! ```text
//! a turn:  look for a while longer, if little is asked for (`spin`)
//!          sleep in poll, until the next deadline at most, not at all while anything is left to do
//!          note what became readable and writable
//!          take letters (answers, messages for peers)      bounded
//!          peers: read, deliver, write; dial, give up      bounded, for each peer
//!          accept                                          bounded
//!          clients: read, deliver                          bounded, for all of them together
//!          wake consensus, if anything was delivered
//!          close what is overdue
//!          clients: encode answers, write                  bounded, for all of them together
//!          put back on the ready list whom memory or credit held up, if there is some now
//! ```
//!
//! Peers have a lane of their own, which goes first in every turn: a heartbeat, or the acknowledgement of one, waits
//! for one turn's worth of clients at most, however many of them there are and however much they ask for. What a
//! turn has no budget for stays on its lane's list, before whatever comes later.
//!
//! Events are edge-triggered: a socket that was not emptied will not be reported again, so it stays on a ready list,
//! and while such a list holds anything the thread doesn't sleep. What the lists hold back for want of memory or
//! credit is on the starved lists instead, and comes back when there is some.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::admission::Admission;
use super::connection::{Connection, Role};
use super::handshake::Me;
use super::links::Link;
use super::listener::Listener;
use super::mailbox::{Inbox, Letters, Mailbox, mailbox};
use super::pipeline::Asked;
use super::said::Said;
use super::slots::Slots;
use super::stopwatch::Stopwatch;
use super::{
    CloseReason, ConnectionId, Deliver, NetConfig, NetCounters, NetEvent, NetLimits, PeerCredit, Served, Spin,
};
use crate::base::limits::{SAID_AGAIN_AFTER, SPIN_EVENTS_MAX, SPIN_PEER_BYTES_MAX};
use crate::base::{Moment, NodeId, Random};
use crate::guard::{Guard, removed};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const EVENTS_AT_ONCE: usize = 1024;

const _: () = assert!(usize::BITS >= 64, "a token holds a slot and a generation of 32 bits each");

pub(super) fn token_of(id: ConnectionId) -> Token {
    Token((id.generation as usize) << 32 | id.slot as usize)
}

fn id_of(token: Token) -> ConnectionId {
    ConnectionId { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

/// The connections of one kind that have something to do, in the order in which it came up.
#[derive(Debug, Default)]
struct Lane {
    /// To be served: a socket not read to its end, or answers not yet encoded.
    ready: VecDeque<ConnectionId>,
    /// To be finished: encoded, written, and its deadline set.
    touched: VecDeque<ConnectionId>,
}

impl Lane {
    fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.touched.is_empty()
    }
}

/// The net thread's whole state. Made by [`Net::new`] anywhere, then [`Net::run`] on its thread.
pub struct Net {
    pub(super) me: Me,
    pub(super) limits: Arc<NetLimits>,
    pub(super) poll: Poll,
    events: Events,
    letters: Letters,
    /// In the last turn.
    letters_taken: usize,
    /// What peers sent in the last turn.
    pub(super) from_peers_bytes: usize,
    spin: Spin,
    /// For look-ups, whose answers come back as letters.
    pub(super) mailbox: Mailbox,
    pub(super) listener: Listener,
    pub(super) connections: Slots<Connection>,
    peer_lane: Lane,
    client_lane: Lane,
    /// What clients have taken of the budget of this part of the turn, in bytes.
    pub(super) spent_bytes: usize,
    /// Clients that are not read for want of memory, by [`NetLimits::not_read_from_bytes`].
    pub(super) starved_clients: BTreeMap<usize, BTreeSet<ConnectionId>>,
    /// Peers that are not read for want of credit.
    pub(super) starved_peers: Vec<ConnectionId>,
    deadlines: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
    pub(super) admission: Admission,
    pub(super) buffered_bytes: usize,
    /// Since when that has been so much that not all clients are read.
    jammed_since: Option<Instant>,
    /// Accepted connections that are not known to be peers'.
    pub(super) clients_open: usize,
    pub(super) counters: Arc<NetCounters>,
    pub(super) stopwatch: Stopwatch,
    pub(super) credit: PeerCredit,
    pub(super) inbox: Box<dyn Deliver>,
    /// What one read fills; shared by all connections.
    pub(super) chunk: Vec<u8>,
    pub(super) asked: Vec<Asked>,
    pub(super) links: BTreeMap<NodeId, Link>,
    /// The newest accepted link of each peer.
    pub(super) inbound: BTreeMap<NodeId, ConnectionId>,
    /// Refusals that were logged already.
    pub(super) refusals: BTreeSet<String>,
    pub(super) twins_said: Said,
    pub(super) full_said: Said,
    jam_said: Said,
    pub(super) random: Random,
    pub(super) served: Arc<Served>,
    pub(super) clock: fn() -> Moment,
    /// What it showed when this turn began. Nothing goes by it, but where a test wants to see that noticed.
    pub(super) clock_at_turn: Moment,
    /// When this turn began.
    pub(super) now: Instant,
    /// Since `Stop`: when the loop ends even if not everything was written.
    pub(super) stopping: Option<Instant>,
}

impl Net {
    /// `inbox` is called on the net thread and must not block.
    pub fn new(config: NetConfig, inbox: Box<dyn Deliver>, peer_credit: PeerCredit) -> io::Result<(Net, Mailbox)> {
        let poll = Poll::new()?;
        let (mailbox, letters) = mailbox(poll.registry(), WAKER)?;
        let listener = Listener::new(config.listener, poll.registry(), LISTENER)?;
        let (limits, now) = (Arc::new(config.limits), Instant::now());
        let links = config.peers.into_iter().map(|(id, address)| (id, Link::new(address, &limits, now))).collect();
        let me = Me {
            id: config.id,
            instance: config.instance,
            cluster_name: config.cluster_name,
            cluster: config.cluster,
            advertise: config.advertise,
        };
        let net = Net {
            me,
            poll,
            events: Events::with_capacity(EVENTS_AT_ONCE),
            letters,
            letters_taken: 0,
            from_peers_bytes: 0,
            spin: config.spin,
            mailbox: mailbox.clone(),
            listener,
            connections: Slots::with_capacity(limits.connections_max),
            peer_lane: Lane::default(),
            client_lane: Lane::default(),
            spent_bytes: 0,
            starved_clients: BTreeMap::new(),
            starved_peers: Vec::new(),
            deadlines: BinaryHeap::new(),
            admission: Admission::new(limits.requests_max),
            buffered_bytes: 0,
            jammed_since: None,
            clients_open: 0,
            counters: Arc::default(),
            stopwatch: Stopwatch::new(config.stages),
            credit: peer_credit,
            inbox,
            chunk: vec![0; limits.read_chunk_bytes],
            asked: Vec::new(),
            links,
            inbound: BTreeMap::new(),
            refusals: BTreeSet::new(),
            twins_said: Said::default(),
            full_said: Said::default(),
            jam_said: Said::default(),
            random: Random::new(config.seed),
            served: config.served,
            clock: config.clock,
            clock_at_turn: Moment::ZERO,
            now,
            stopping: None,
            limits,
        };
        Ok((net, mailbox))
    }

    /// To be taken before [`Net::run`], which consumes the rest.
    pub fn counters(&self) -> Arc<NetCounters> {
        Arc::clone(&self.counters)
    }

    /// The loop; returns after [`NetEvent::Stop`], or when the system's poll fails.
    pub fn run(mut self) -> io::Result<()> {
        while !self.is_stopped() {
            self.turn()?;
        }
        for id in self.connections.ids() {
            self.close(id, CloseReason::Stopping);
        }
        Ok(())
    }

    pub(super) fn turn(&mut self) -> io::Result<()> {
        self.sleep()?;
        self.counters.turns.fetch_add(1, Ordering::Relaxed);
        self.now = Instant::now();
        if removed(Guard::ClockBeforeRequest) {
            self.clock_at_turn = (self.clock)();
        }
        self.stopwatch.begin_turn();
        self.note_events();
        self.take_letters();
        self.serve_peers();
        self.tend_links();
        self.finish_peers();
        self.maybe_accept();
        self.serve_clients();
        self.inbox.turn_ends();
        self.close_overdue();
        self.finish_clients();
        // What an answer has set free was delivered just now.
        self.inbox.turn_ends();
        self.stopwatch.end_turn();
        self.maybe_end_jam();
        // Last, since what this turn freed is for them, and nothing else might end the sleep that follows.
        self.feed_the_starved();
        self.counters.set_buffered(self.buffered_bytes);
        Ok(())
    }

    fn sleep(&mut self) -> io::Result<()> {
        if self.spin()? {
            return Ok(());
        }
        let idle = self.is_idle() && !self.listener.may_accept(self.now, self.may_take_another());
        // The flag must be up before the mailbox is looked at: see `sleeper`.
        let timeout = if idle && self.letters.about_to_sleep() { self.until_deadline() } else { Some(Duration::ZERO) };
        let polled = self.poll.poll(&mut self.events, timeout);
        self.letters.awake();
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// Where little is asked for, what comes next is worth waiting for awake: true if it has come. Where much is, it
    /// comes while the thread sleeps, and is done at once then. Behind a mere deadline nothing is near.
    fn spin(&mut self) -> io::Result<bool> {
        let is_light = self.admission.requests() <= SPIN_EVENTS_MAX
            && self.letters_taken <= SPIN_EVENTS_MAX
            && self.from_peers_bytes <= SPIN_PEER_BYTES_MAX;
        let was_mere_time = self.events.is_empty() && self.letters_taken == 0;
        if self.spin.is_off() || !is_light || was_mere_time || !self.is_idle() {
            return Ok(false);
        }
        let Net { spin, letters, poll, events, .. } = self;
        let found = spin.wait(|| {
            if !letters.is_empty() {
                return Some(Ok(()));
            }
            match poll.poll(events, Some(Duration::ZERO)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => Some(Err(error)),
                _ => (!events.is_empty()).then_some(Ok(())),
            }
        });
        found.transpose().map(|found| found.is_some())
    }

    /// How long nothing is due. A little more than that, since a poll counts in milliseconds.
    fn until_deadline(&self) -> Option<Duration> {
        let connections = self.deadlines.peek().map(|Reverse((by, _))| *by);
        let links = self.links.values().filter_map(|link| link.deadline(&self.limits)).min();
        let credit = (!self.starved_peers.is_empty()).then(|| self.now + crate::base::limits::PEER_CREDIT_RETRY);
        let jam = self.jammed_since.map(|since| since + self.limits.jam_deadline);
        let deadlines = [connections, links, credit, jam, self.listener.retry_at(), self.stopping];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn note_events(&mut self) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                LISTENER => self.listener.on_ready(),
                WAKER => {}
                token => self.note_event(id_of(token), event),
            }
        }
        self.events = events;
    }

    /// An event of a connection that is gone, or of its slot's former owner, finds nothing here.
    fn note_event(&mut self, id: ConnectionId, event: &Event) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let has_ended = event.is_read_closed() || event.is_error();
        connection.input_ended |= has_ended;
        connection.readable |= event.is_readable() || has_ended;
        connection.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.make_ready(id);
    }

    fn take_letters(&mut self) {
        (self.letters_taken, self.from_peers_bytes) = (0, 0);
        for _ in 0..self.limits.turn_events_max {
            let Some(inbox) = self.letters.take() else { return };
            self.letters_taken += 1;
            match inbox {
                Inbox::Resolved(resolved) => self.on_resolved(resolved),
                Inbox::Event(NetEvent::Reply { origin, reply, ready }) => self.on_reply(origin, reply, ready),
                Inbox::Event(NetEvent::Send { message }) => self.on_send(message),
                Inbox::Event(NetEvent::Forward { to, id, term, request }) => self.on_forward(to, id, term, request),
                Inbox::Event(NetEvent::ForwardReply { to, id, reply }) => self.on_forward_reply(to, id, reply),
                Inbox::Event(NetEvent::SetPeers { peers }) => self.on_set_peers(peers),
                Inbox::Event(NetEvent::SetClusterId { cluster }) => self.on_set_cluster_id(cluster),
                Inbox::Event(NetEvent::Stop) => self.on_stop(),
            }
        }
    }

    /// While so much is held that not all clients are read, those who hold it must not do so for long.
    fn maybe_end_jam(&mut self) {
        if self.buffered_bytes < self.limits.scarce_from_bytes() {
            self.jammed_since = None;
        } else if *self.jammed_since.get_or_insert(self.now) + self.limits.jam_deadline <= self.now {
            self.jammed_since = None;
            self.drop_the_largest();
        }
    }

    fn drop_the_largest(&mut self) {
        let held_by = |id: &ConnectionId| {
            let client = self.connections.get(*id).filter(|connection| connection.counts_as_client());
            client.map(|connection| (connection.counted_bytes, *id))
        };
        let mut holders: Vec<_> = self.connections.ids().iter().filter_map(held_by).collect();
        holders.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let (held, mut dropped) = (self.buffered_bytes, 0);
        for (_, id) in holders {
            if self.buffered_bytes <= self.limits.scarce_from_bytes() / 4 * 3 {
                break;
            }
            self.close(id, CloseReason::Jam);
            dropped += 1;
        }
        if dropped > 0 && self.jam_said.may_be_said(self.now) {
            log::warn!(
                "net: connections held {} MiB of requests and answers for {} ms, of {} MiB allowed: the {dropped} that \
                 held the most are closed; do they read their answers? (said every {} s at most)",
                held >> 20,
                self.limits.jam_deadline.as_millis(),
                self.limits.buffered_bytes_max >> 20,
                SAID_AGAIN_AFTER.as_secs()
            );
        }
    }

    fn feed_the_starved(&mut self) {
        let clients = self.starved_clients.split_off(&(self.buffered_bytes + 1));
        let mut fed: Vec<ConnectionId> = clients.into_values().flatten().collect();
        if self.credit.taken_bytes() < self.limits.peer_credit_bytes_max {
            fed.append(&mut self.starved_peers);
        }
        for id in fed {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.is_starved = false;
                connection.starved_from = None;
                self.make_ready(id);
            }
        }
    }

    // Each of these takes what is on its list when it begins: what comes on it meanwhile is for the next turn.

    fn serve_peers(&mut self) {
        for _ in 0..self.peer_lane.ready.len() {
            let Some(id) = self.peer_lane.ready.pop_front() else { return };
            self.serve(id);
        }
    }

    fn finish_peers(&mut self) {
        for _ in 0..self.peer_lane.touched.len() {
            let Some(id) = self.peer_lane.touched.pop_front() else { return };
            self.finish(id);
        }
    }

    fn serve_clients(&mut self) {
        self.spent_bytes = 0;
        for _ in 0..self.client_lane.ready.len().min(self.limits.turn_connections_max) {
            if self.spent_bytes >= self.limits.turn_client_bytes_max {
                return;
            }
            let Some(id) = self.client_lane.ready.pop_front() else { return };
            self.serve(id);
        }
    }

    fn finish_clients(&mut self) {
        self.spent_bytes = 0;
        for _ in 0..self.client_lane.touched.len().min(self.limits.turn_connections_max) {
            if self.spent_bytes >= self.limits.turn_client_bytes_max && !removed(Guard::TurnUnbounded) {
                return;
            }
            let Some(id) = self.client_lane.touched.pop_front() else { return };
            self.finish(id);
        }
    }

    fn serve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_ready = false;
        self.touch(id);
        if self.stopping.is_some() {
            return;
        }
        match self.connections.get(id).map(|connection| &connection.role) {
            Some(Role::Client(_)) => self.serve_client(id),
            Some(Role::Lingering { .. }) => self.serve_lingering(id),
            Some(Role::Peer(_)) => self.serve_peer(id),
            Some(&Role::Dialed { peer, .. }) => self.serve_dialed(id, peer),
            None => {}
        }
    }

    fn finish(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_touched = false;
        match connection.role {
            Role::Client(_) => self.finish_client(id),
            Role::Lingering { .. } => self.finish_lingering(id),
            Role::Peer(_) => self.finish_peer(id),
            Role::Dialed { peer, .. } => self.finish_dialed(id, peer),
        }
        self.watch(id);
    }

    fn close_overdue(&mut self) {
        while let Some(&Reverse((by, id))) = self.deadlines.peek()
            && by <= self.now
        {
            self.deadlines.pop();
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.armed == Some(by) {
                connection.armed = None;
            }
            match connection.deadline(&self.limits) {
                Some((due, reason)) if due <= self.now => self.close(id, reason),
                _ => self.arm(id),
            }
        }
    }

    // ---- what every part of the loop uses --------------------------------------------------------------------

    /// It is served in the next turn, or still in this one.
    pub(super) fn make_ready(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !std::mem::replace(&mut connection.is_ready, true)
        {
            let lane = if connection.is_peer() { &mut self.peer_lane } else { &mut self.client_lane };
            lane.ready.push_back(id);
        }
    }

    /// It is finished in this turn, or the next that has budget for it: written once, and its deadline set.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !std::mem::replace(&mut connection.is_touched, true)
        {
            let lane = if connection.is_peer() { &mut self.peer_lane } else { &mut self.client_lane };
            lane.touched.push_back(id);
        }
    }

    fn is_idle(&self) -> bool {
        self.peer_lane.is_idle() && self.client_lane.is_idle()
    }

    /// Brings the sum of all buffered bytes up to date with this connection.
    pub(super) fn account(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            let bytes = connection.buffered_bytes();
            self.buffered_bytes = self.buffered_bytes - connection.counted_bytes + bytes;
            connection.counted_bytes = bytes;
            self.admission.set_memory(self.limits.memory(self.buffered_bytes));
        }
    }

    fn watch(&mut self, id: ConnectionId) {
        self.account(id);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.watch(self.now, &self.limits);
            self.arm(id);
        }
    }

    fn arm(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Some((by, _)) = connection.deadline(&self.limits)
            && connection.armed.is_none_or(|armed| by < armed)
        {
            connection.armed = Some(by);
            self.deadlines.push(Reverse((by, id)));
        }
    }

    /// Ends a connection at once. Of a dialed one the link is told by `lose_link`, which calls this.
    pub(super) fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        let Some(connection) = self.connections.remove(id) else { return };
        log::debug!("net: {} closed: {}", connection.remote, reason.as_str());
        self.counters.count_closed(reason);
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        self.buffered_bytes -= connection.counted_bytes;
        self.admission.set_memory(self.limits.memory(self.buffered_bytes));
        if connection.counts_as_client() {
            self.clients_open -= 1;
        }
        match connection.role {
            Role::Client(session) => self.admission.give_back(session.undispatched()),
            Role::Peer(peer) if self.inbound.get(&peer.from) == Some(&id) => {
                self.inbound.remove(&peer.from);
            }
            Role::Peer(_) | Role::Dialed { .. } | Role::Lingering { .. } => {}
        }
        // Its descriptor is free now, and it may have been the one that accepting waited for.
        self.listener.retry_now();
    }

    fn on_stop(&mut self) {
        log::debug!("net: stopping");
        self.listener.stop(self.poll.registry());
        self.stopping.get_or_insert(self.now + self.limits.linger_deadline);
        for id in self.connections.ids() {
            self.touch(id);
        }
    }

    fn is_stopped(&self) -> bool {
        let Some(by) = self.stopping else { return false };
        let has_output = |id: &ConnectionId| self.connections.get(*id).is_some_and(Connection::has_output);
        let writing = self.connections.ids().iter().any(has_output) || self.links.values().any(Link::has_output);
        by <= self.now || (!writing && self.letters.is_empty() && self.is_idle())
    }
}
