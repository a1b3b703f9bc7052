//! Links between nodes, and connections of clients: bytes that are late, lost, repeated, overtaken, or never come.
//!
//! A link is dialed, greeted and answered by the production handshake, and what goes over it is queued and encoded by
//! the production code: only whole frames exist in between. What is done to a frame depends on what it is. Consensus
//! stands anything, so its messages are lost, repeated and overtaken as the seed likes. Requests that are passed on, and
//! their answers, rely on what TCP gives: they come in order and once, or the link breaks.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use raftkv::api::{ErrorCode, Reply, Request};
use raftkv::base::{ClusterId, InstanceId, NodeId, Operation, Random};
use raftkv::net::{
    Admission, Asked, Backoff, ConnectionId, FromNet, LinkQueue, Me, NetEvent, NetLimits, Origin, PeerCredit, Session,
    Turn, Urgency,
};
use raftkv::node::consensus::ConsensusEvent;
use raftkv::node::exits::Exits;
use raftkv::raft::Body;
use raftkv::wire::{self, PeerFrame};

use super::chance::Chance;
use super::checkers::{Verdict, memory};
use super::faults::Fault;
use super::node::{Actor, CLUSTER_NAME, Life, Running, SimExits};
use super::plan::{MILLI, SECOND};
use super::trace::Kind;
use super::world::{Event, Time, World};

/// Names one dial, from its first packet to its end.
pub type WireId = u32;

/// A connection between two nodes, as the network sees it.
pub struct Wire {
    pub from: usize,
    pub to: usize,
    from_epoch: u32,
    /// Of the process that has taken the hello.
    to_epoch: Option<u32>,
    is_open: bool,
    /// When the last frame that keeps its order arrives.
    last_due: Time,
    /// Frames that TCP repeats until the way is free again.
    held: VecDeque<Bytes>,
}

/// What lies between the nodes.
pub struct Network {
    nodes: usize,
    pub wires: Vec<Wire>,
    /// By from and to: how many partitions are in the way.
    blocked: Vec<u32>,
    /// Nothing leaves the sender's queue.
    clogged: Vec<bool>,
}

impl Network {
    pub fn new(nodes: usize) -> Network {
        Network { nodes, wires: Vec::new(), blocked: vec![0; nodes * nodes], clogged: vec![false; nodes * nodes] }
    }

    fn place(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }

    pub fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked[self.place(from, to)] > 0
    }

    fn is_clogged(&self, from: usize, to: usize) -> bool {
        self.clogged[self.place(from, to)]
    }
}

/// The network thread of a node.
pub struct NodeNet {
    pub me: Me,
    limits: Arc<NetLimits>,
    admission: Admission,
    sessions: BTreeMap<u32, ClientSession>,
    /// By slot: the generation of its next use.
    generations: Vec<u32>,
    links: BTreeMap<NodeId, Link>,
    inbound: BTreeMap<NodeId, Inbound>,
    pub credit: PeerCredit,
    random: Random,
    touched: Vec<ConnectionId>,
}

struct ClientSession {
    generation: u32,
    session: Session,
    conn: u32,
}

struct Link {
    queue: LinkQueue,
    backoff: Backoff,
    wire: Option<WireId>,
    is_up: bool,
    cluster: Option<ClusterId>,
}

struct Inbound {
    wire: WireId,
    instance: InstanceId,
    cluster: Option<ClusterId>,
}

impl NodeNet {
    pub fn new(
        id: NodeId,
        instance: InstanceId,
        cluster: Option<ClusterId>,
        peers: Vec<NodeId>,
        limits: NetLimits,
        random: Random,
    ) -> NodeNet {
        let advertise = format!("sim:{id}").into();
        let me = Me { id, instance, cluster_name: CLUSTER_NAME.to_string(), cluster, advertise };
        let limits = Arc::new(limits);
        let links = peers.into_iter().map(|peer| (peer, Link::new(&limits))).collect();
        NodeNet {
            me,
            admission: Admission::new(limits.requests_max),
            limits,
            sessions: BTreeMap::new(),
            generations: Vec::new(),
            links,
            inbound: BTreeMap::new(),
            credit: PeerCredit::default(),
            random,
            touched: Vec::new(),
        }
    }

    fn free_slot(&mut self) -> u32 {
        let free = (0..).find(|slot| !self.sessions.contains_key(slot)).expect("connections are few");
        if self.generations.len() <= free as usize {
            self.generations.push(0);
        }
        free
    }

    fn session(&mut self, id: ConnectionId) -> Option<&mut ClientSession> {
        self.sessions.get_mut(&id.slot).filter(|session| session.generation == id.generation)
    }
}

impl Link {
    fn new(limits: &NetLimits) -> Link {
        Link {
            queue: LinkQueue::new(limits.link_queue_bytes_max),
            backoff: Backoff::new(limits.dial_backoff_min, limits.dial_backoff_max),
            wire: None,
            is_up: false,
            cluster: None,
        }
    }
}

fn place_of(id: NodeId) -> usize {
    id.get() as usize - 1
}

/// The bytes of whole frames, each without its length.
fn frames_of(mut bytes: BytesMut) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || wire::take_frame(&mut bytes, usize::MAX).expect("they were encoded here"))
}

/// Whether consensus, which needs no order, is what a peer's frame carries: by its first field.
fn is_consensus(frame: &Bytes) -> bool {
    frame.first() == Some(&0x0a)
}

impl World {
    fn deliver(&mut self, at: usize, event: FromNet) {
        let Life::Up(running) = &mut self.nodes[at].life else { return };
        let mut exits = SimExits {
            lanes: &mut running.lanes,
            from: Actor::Net,
            now: self.now,
            wake: &self.plan.delays.wake,
            random: &mut self.random,
            role_changed: false,
        };
        exits.to_consensus(ConsensusEvent::FromNet(event));
    }

    fn net(&mut self, at: usize) -> Option<&mut NodeNet> {
        self.nodes[at].running().map(|running| &mut running.net)
    }

    // ---- links: dialing ------------------------------------------------------------------------------------

    pub fn dial_all(&mut self, at: usize) {
        let Some(net) = self.net(at) else { return };
        for peer in net.links.keys().copied().collect::<Vec<_>>() {
            self.dial(at, peer);
        }
    }

    pub fn on_dial(&mut self, at: usize, epoch: u32, peer: NodeId) {
        if self.nodes[at].epoch == epoch && self.net(at).is_some_and(|net| net.links.contains_key(&peer)) {
            self.dial(at, peer);
        }
    }

    fn dial(&mut self, at: usize, peer: NodeId) {
        let to = place_of(peer);
        let id = self.network.wires.len() as WireId;
        let epoch = self.nodes[at].epoch;
        let Some(net) = self.net(at) else { return };
        let Some(link) = net.links.get_mut(&peer) else { return };
        link.wire = Some(id);
        let mut hello = BytesMut::new();
        wire::encode_hello(&net.me.hello(peer), &mut hello);
        self.network.wires.push(Wire {
            from: at,
            to,
            from_epoch: epoch,
            to_epoch: None,
            is_open: true,
            last_due: 0,
            held: VecDeque::new(),
        });
        let trip = self.plan.network.delay.draw(&mut self.random);
        let delay = trip + 2 * self.plan.network.delay.draw(&mut self.random);
        if self.network.is_blocked(at, to) || self.network.is_blocked(to, at) {
            return self.schedule(SECOND, Event::WireGone { wire: id, why: "no answer to the connection request" });
        }
        self.schedule(delay, Event::Hello { wire: id, bytes: hello.freeze() });
    }

    /// A hello arrives; a production session takes it for what it is.
    pub fn on_hello(&mut self, id: WireId, bytes: Bytes) {
        let wire = &self.network.wires[id as usize];
        let (from, to) = (wire.from, wire.to);
        if !wire.is_open || self.nodes[from].epoch != wire.from_epoch {
            return;
        }
        let (epoch, now) = (self.nodes[to].epoch, self.now);
        if self.nodes[to].paused_until > now {
            let again = self.after_pause(to);
            return self.schedule_at(again, Event::Hello { wire: id, bytes });
        }
        let delay = self.plan.network.delay.draw(&mut self.random);
        let Some(net) = self.net(to) else {
            return self.schedule(delay, Event::WireGone { wire: id, why: "connection refused" });
        };
        let mut session = Session::new(net.me.id, Arc::clone(&net.limits));
        session.on_bytes(&bytes);
        let Ok(Turn::Hello(hello)) = session.advance(&mut net.admission, &mut Vec::new()) else {
            unreachable!("a hello was sent")
        };
        let peers: Vec<NodeId> = net.links.keys().copied().collect();
        let mut answer = BytesMut::new();
        let superseded = match net.me.check_hello(&hello, &peers) {
            Err(why) => {
                wire::encode_hello_reply(&net.me.refusal(why), &mut answer);
                None
            }
            Ok(()) => {
                wire::encode_hello_reply(&net.me.welcome(), &mut answer);
                let inbound = Inbound { wire: id, instance: hello.from.instance, cluster: hello.from.cluster };
                let older = net.inbound.insert(hello.from.id, inbound);
                self.network.wires[id as usize].to_epoch = Some(epoch);
                older.map(|older| older.wire)
            }
        };
        if let Some(older) = superseded {
            self.schedule(delay, Event::WireGone { wire: older, why: "it closed the connection" });
        }
        // The answer may not come through; then the one that dialed waits for it in vain.
        if self.network.is_blocked(to, from) {
            return self.schedule(SECOND, Event::WireGone { wire: id, why: "no answer to the hello" });
        }
        self.schedule(delay, Event::Welcome { wire: id, bytes: answer.freeze() });
    }

    pub fn on_welcome(&mut self, id: WireId, bytes: Bytes) -> Verdict {
        let wire = &self.network.wires[id as usize];
        let (at, to) = (wire.from, wire.to);
        if !wire.is_open || self.nodes[at].epoch != wire.from_epoch {
            return Ok(());
        }
        if self.nodes[at].paused_until > self.now {
            let again = self.after_pause(at);
            self.schedule_at(again, Event::Welcome { wire: id, bytes });
            return Ok(());
        }
        let peer = self.nodes[to].id;
        let Some(net) = self.net(at) else { return Ok(()) };
        let frame = frames_of(BytesMut::from(&bytes[..])).next().expect("an answer was sent");
        let reply = wire::decode_hello_reply(frame).expect("an answer to a hello was sent");
        if let Err(why) = net.me.check_reply(&reply, peer) {
            self.lose_link(at, peer, &why);
            return Ok(());
        }
        let Some(link) = net.links.get_mut(&peer).filter(|link| link.wire == Some(id)) else { return Ok(()) };
        link.is_up = true;
        link.cluster = reply.from.cluster;
        link.backoff.reset();
        self.trace.note(self.now, at + 1, Kind::LinkUp, u64::from(id), format_args!("to n{peer}"));
        self.deliver(at, FromNet::LinkUp { peer });
        self.arm(at);
        Ok(())
    }

    /// The connection is gone, and the one that dialed learns of it.
    pub fn on_wire_gone(&mut self, id: WireId, why: &str) {
        let wire = &mut self.network.wires[id as usize];
        wire.is_open = false;
        wire.held.clear();
        let (at, epoch, to) = (wire.from, wire.from_epoch, wire.to);
        let peer = self.nodes[to].id;
        if self.nodes[at].epoch != epoch {
            return;
        }
        if self.net(at).and_then(|net| net.links.get(&peer)).is_some_and(|link| link.wire == Some(id)) {
            self.lose_link(at, peer, why);
            self.arm(at);
        }
    }

    fn lose_link(&mut self, at: usize, peer: NodeId, why: &str) {
        let epoch = self.nodes[at].epoch;
        let Some(net) = self.net(at) else { return };
        let Some(link) = net.links.get_mut(&peer) else { return };
        let pause = link.backoff.pause(&mut net.random);
        let bytes_max = net.limits.link_queue_bytes_max;
        link.queue = LinkQueue::new(bytes_max);
        link.is_up = false;
        if let Some(id) = link.wire.take() {
            let wire = &mut self.network.wires[id as usize];
            wire.is_open = false;
            wire.held.clear();
        }
        self.trace.note(self.now, at + 1, Kind::LinkDown, u64::from(peer.get()), format_args!("to n{peer}: {why}"));
        self.deliver(at, FromNet::LinkDown { peer, why: why.to_string() });
        self.schedule(pause.as_nanos() as Time, Event::Dial { at: at as u8, epoch, peer });
    }

    /// All links of a process that has ended; the others learn of it when its last packet reaches them.
    pub fn break_all_of(&mut self, at: usize) {
        for id in 0..self.network.wires.len() {
            let wire = &self.network.wires[id];
            if !wire.is_open || (wire.from != at && wire.to != at) {
                continue;
            }
            if wire.from == at {
                self.network.wires[id].is_open = false;
                continue;
            }
            let unseen = self.network.is_blocked(at, wire.from);
            let delay = if unseen { 3 * SECOND } else { self.plan.network.delay.draw(&mut self.random) };
            self.schedule(delay, Event::WireGone { wire: id as WireId, why: "connection reset" });
        }
        for conn in 0..self.conns.len() {
            if self.conns[conn].is_open && self.conns[conn].at == at {
                self.close_to_client(conn as u32);
            }
        }
    }

    pub fn break_link(&mut self, from: usize, to: usize) {
        let peer = self.nodes[to].id;
        if let Some(wire) = self.net(from).and_then(|net| net.links.get(&peer)?.wire) {
            self.tally.count(Fault::LinkBroken);
            self.on_wire_gone(wire, "connection reset");
        }
    }

    // ---- links: what goes over them ------------------------------------------------------------------------

    pub fn on_net_event(&mut self, at: usize, event: NetEvent) {
        match event {
            NetEvent::Reply { origin, reply } => self.on_reply(at, origin, reply),
            NetEvent::Send { message } => {
                let urgency = Urgency::of(&message);
                self.queue_for(at, message.to, urgency, &PeerFrame::Raft(message));
            }
            NetEvent::Forward { to, id, term, request } => {
                let link = self.net(at).and_then(|net| net.links.get(&to));
                if link.is_none_or(|link| !link.is_up) {
                    let reply = Reply::refused(ErrorCode::NoLeader, "the link to the leader is down", None);
                    return self.deliver(at, FromNet::ForwardReply { from: to, id, reply });
                }
                self.queue_for(at, to, Urgency::Data, &PeerFrame::Forward { id, term, request });
            }
            NetEvent::ForwardReply { to, id, reply } => {
                self.queue_for(at, to, Urgency::Data, &PeerFrame::ForwardReply { id, reply });
            }
            NetEvent::SetPeers { .. } | NetEvent::Stop => {}
            NetEvent::SetClusterId { cluster } => self.on_set_cluster_id(at, cluster),
        }
    }

    fn queue_for(&mut self, at: usize, to: NodeId, urgency: Urgency, frame: &PeerFrame) {
        let Some(net) = self.net(at) else { return };
        let Some(link) = net.links.get_mut(&to).filter(|link| link.is_up) else { return };
        if link.queue.push(urgency, |out| wire::encode_peer(frame, out)).is_err() {
            self.lose_link(at, to, "too much waits to be sent to it");
        }
    }

    fn on_set_cluster_id(&mut self, at: usize, cluster: ClusterId) {
        let Some(net) = self.net(at) else { return };
        net.me.cluster = Some(cluster);
        let me = net.me.clone();
        let strangers: Vec<WireId> = net
            .inbound
            .iter()
            .filter(|(id, inbound)| me.another_cluster(**id, inbound.cluster).is_some())
            .map(|(_, inbound)| inbound.wire)
            .collect();
        net.inbound.retain(|_, inbound| !strangers.contains(&inbound.wire));
        let others = net.links.iter().filter_map(|(id, link)| Some((*id, me.another_cluster(*id, link.cluster)?)));
        for (id, why) in others.collect::<Vec<_>>() {
            self.lose_link(at, id, &why);
        }
        for wire in strangers {
            self.schedule(MILLI, Event::WireGone { wire, why: "it closed the connection" });
        }
    }

    /// Writes what is queued, for peers and for clients.
    pub fn finish_net(&mut self, at: usize) -> Verdict {
        let Life::Up(running) = &mut self.nodes[at].life else { return Ok(()) };
        let net = &mut running.net;
        let id = net.me.id;
        let mut out: Vec<(WireId, BytesMut)> = Vec::new();
        for (peer, link) in &mut net.links {
            if link.queue.is_empty() {
                continue;
            }
            memory::on_held(id, "bytes queued for a peer", link.queue.bytes(), net.limits.link_queue_bytes_max)?;
            if self.network.is_clogged(at, place_of(*peer)) {
                continue;
            }
            let Some(wire) = link.wire.filter(|_| link.is_up) else { continue };
            let mut bytes = BytesMut::new();
            let (_, result) = link.queue.write_to(usize::MAX, |slices: &[io::IoSlice<'_>]| {
                let before = bytes.len();
                slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
                Ok(bytes.len() - before)
            });
            result.expect("memory takes everything");
            out.push((wire, bytes));
        }
        memory::on_held(id, "requests under way", net.admission.requests(), 2 * net.limits.requests_max)?;
        let touched = std::mem::take(&mut net.touched);
        for (wire, bytes) in out {
            for frame in frames_of(bytes) {
                self.send_frame(wire, frame);
            }
        }
        for connection in touched {
            self.advance(at, connection)?;
        }
        Ok(())
    }

    /// One frame leaves a node; what becomes of it, chance decides.
    fn send_frame(&mut self, id: WireId, frame: Bytes) {
        let wire = &self.network.wires[id as usize];
        let (from, to, last_due) = (wire.from, wire.to, wire.last_due);
        let is_blocked = self.network.is_blocked(from, to);
        let mut due = self.now + self.plan.network.delay.draw(&mut self.random);
        if !is_consensus(&frame) {
            if is_blocked {
                return self.network.wires[id as usize].held.push_back(frame);
            }
            due = due.max(last_due + 1);
            self.network.wires[id as usize].last_due = due;
            return self.queue.push(due, Event::Frame { wire: id, frame });
        }
        let rates = if self.faults_are_on { self.plan.network } else { self.plan.network.without_faults() };
        if is_blocked || self.random.happens(rates.lose) {
            self.tally.count(Fault::Lost);
            return self.trace.note(
                self.now,
                from + 1,
                Kind::Lose,
                to as u64,
                format_args!("a message to n{}", to + 1),
            );
        }
        if self.random.happens(rates.repeat) {
            self.tally.count(Fault::Repeated);
            let again = due + self.random.within(1, 20 * rates.delay.high);
            self.queue.push(again, Event::Frame { wire: id, frame: frame.clone() });
        }
        if self.random.happens(rates.delay_long) {
            self.tally.count(Fault::Delayed);
            due += self.random.within(rates.delay.high, 2 * self.plan.election_timeout_max.as_nanos() as Time);
        } else if self.random.happens(rates.overtake) {
            self.tally.count(Fault::Reordered);
            due += self.random.within(rates.delay.high, 10 * rates.delay.high);
        } else {
            due = due.max(last_due + 1);
            self.network.wires[id as usize].last_due = due;
        }
        self.queue.push(due, Event::Frame { wire: id, frame });
    }

    pub fn on_frame(&mut self, id: WireId, frame: Bytes) -> Verdict {
        let wire = &self.network.wires[id as usize];
        let (from, to) = (wire.from, wire.to);
        let (from_id, epoch) = (self.nodes[from].id, wire.to_epoch);
        let node = &self.nodes[to];
        if Some(node.epoch) != epoch {
            return Ok(());
        }
        if node.paused_until > self.now {
            let again = self.after_pause(to);
            self.schedule_at(again, Event::Frame { wire: id, frame });
            return Ok(());
        }
        let Some(net) = self.net(to) else { return Ok(()) };
        let Some(inbound) = net.inbound.get(&from_id).filter(|inbound| inbound.wire == id) else { return Ok(()) };
        let instance = inbound.instance;
        let me = net.me.id;
        let length = frame.len();
        let event = match wire::decode_peer(frame, from_id, me, instance) {
            Ok(PeerFrame::Raft(message)) => FromNet::Raft { message },
            Ok(PeerFrame::Forward { id, term, request }) => FromNet::Forwarded { from: from_id, id, term, request },
            Ok(PeerFrame::ForwardReply { id, reply }) => FromNet::ForwardReply { from: from_id, id, reply },
            Err(error) => {
                return Err(super::checkers::Violation {
                    property: "a node understands what its peers say",
                    what: format!("node {me} can't read a frame of node {from_id}: {error}"),
                });
            }
        };
        net.credit.take(event.credit_bytes());
        self.trace.note(
            self.now,
            to + 1,
            Kind::Receive,
            (from << 32 | length) as u64,
            format_args!("from n{from_id}: {}", Shown(&event)),
        );
        self.deliver(to, event);
        self.arm(to);
        Ok(())
    }

    // ---- partitions ----------------------------------------------------------------------------------------

    pub fn block(&mut self, pairs: &[(usize, usize)]) {
        for &(from, to) in pairs {
            let place = self.network.place(from, to);
            self.network.blocked[place] += 1;
            self.doom(from, to);
        }
    }

    /// A link that carries nothing for long enough is given up, unless its way is free by then.
    fn doom(&mut self, from: usize, to: usize) {
        let peer = self.nodes[to].id;
        if let Some(wire) = self.net(from).and_then(|net| net.links.get(&peer)?.wire) {
            let delay = self.random.within(SECOND / 2, 3 * SECOND);
            self.schedule(delay, Event::Doomed { wire });
        }
    }

    pub fn on_doomed(&mut self, id: WireId) {
        let wire = &self.network.wires[id as usize];
        let (from, to) = (wire.from, wire.to);
        let in_the_way = self.network.is_blocked(from, to) || self.network.is_blocked(to, from);
        if wire.is_open && (in_the_way || self.network.is_clogged(from, to)) {
            self.on_wire_gone(id, "it takes nothing of what is sent to it");
        }
    }

    pub fn unblock(&mut self, pairs: &[(usize, usize)]) {
        for &(from, to) in pairs {
            let place = self.network.place(from, to);
            self.network.blocked[place] -= 1;
            if self.network.blocked[place] == 0 {
                self.send_held(from, to);
            }
        }
    }

    fn send_held(&mut self, from: usize, to: usize) {
        let peer = self.nodes[to].id;
        let Some(id) = self.net(from).and_then(|net| net.links.get(&peer)?.wire) else { return };
        for frame in std::mem::take(&mut self.network.wires[id as usize].held) {
            self.send_frame(id, frame);
        }
    }

    pub fn clog(&mut self, from: usize, to: usize) {
        let place = self.network.place(from, to);
        self.network.clogged[place] = true;
        self.doom(from, to);
    }

    pub fn unclog(&mut self, from: usize, to: usize) -> Verdict {
        let place = self.network.place(from, to);
        self.network.clogged[place] = false;
        self.finish_net(from)
    }

    /// All ways are free.
    pub fn heal(&mut self) -> Verdict {
        self.network.blocked.fill(0);
        self.network.clogged.fill(false);
        for from in 0..self.plan.nodes {
            for to in (0..self.plan.nodes).filter(|to| *to != from) {
                self.send_held(from, to);
            }
            self.finish_net(from)?;
        }
        Ok(())
    }

    // ---- clients -------------------------------------------------------------------------------------------

    /// A client's connection reaches the node.
    pub fn on_connect(&mut self, conn: u32) {
        let at = self.conns[conn as usize].at;
        let epoch = self.nodes[at].epoch;
        let Some(net) = self.net(at) else { return self.close_to_client(conn) };
        let slot = net.free_slot();
        let generation = net.generations[slot as usize];
        net.generations[slot as usize] += 1;
        let session = Session::new(net.me.id, Arc::clone(&net.limits));
        net.sessions.insert(slot, ClientSession { generation, session, conn });
        self.conns[conn as usize].server = Some((epoch, ConnectionId { slot, generation }));
    }

    pub fn on_client_bytes(&mut self, conn: u32, bytes: &Bytes) -> Verdict {
        let (at, server) = (self.conns[conn as usize].at, self.conns[conn as usize].server);
        let Some((epoch, connection)) = server.filter(|(epoch, _)| *epoch == self.nodes[at].epoch) else {
            return Ok(());
        };
        debug_assert_eq!(epoch, self.nodes[at].epoch);
        if let Some(session) = self.net(at).and_then(|net| net.session(connection)) {
            session.session.on_bytes(bytes);
            self.advance(at, connection)?;
        }
        self.arm(at);
        Ok(())
    }

    /// The client has closed.
    pub fn on_client_gone(&mut self, conn: u32) {
        let (at, server) = (self.conns[conn as usize].at, self.conns[conn as usize].server);
        let Some((_, connection)) = server.filter(|(epoch, _)| *epoch == self.nodes[at].epoch) else { return };
        let Some(net) = self.net(at) else { return };
        if net.session(connection).is_some() {
            let gone = net.sessions.remove(&connection.slot).expect("it was just found");
            net.admission.give_back(gone.session.undispatched());
        }
    }

    fn on_reply(&mut self, at: usize, origin: Origin, reply: Reply) {
        let Some(net) = self.net(at) else { return };
        net.admission.give_back(1);
        if let Some(session) = net.session(origin.connection) {
            session.session.on_reply(origin.sequence, reply);
            if !net.touched.contains(&origin.connection) {
                net.touched.push(origin.connection);
            }
        }
    }

    /// Lets a session do what it can, and moves what came of it.
    fn advance(&mut self, at: usize, connection: ConnectionId) -> Verdict {
        let Life::Up(running) = &mut self.nodes[at].life else { return Ok(()) };
        let Running { net, lanes, .. } = &mut **running;
        let NodeNet { admission, sessions, limits, me, .. } = net;
        let Some(client) = sessions.get_mut(&connection.slot).filter(|it| it.generation == connection.generation)
        else {
            return Ok(());
        };
        let mut asked: Vec<Asked> = Vec::new();
        let mut exits = SimExits {
            lanes,
            from: Actor::Net,
            now: self.now,
            wake: &self.plan.delays.wake,
            random: &mut self.random,
            role_changed: false,
        };
        let mut output = BytesMut::new();
        loop {
            match client.session.advance(admission, &mut asked) {
                Ok(Turn::Client) => {}
                other => unreachable!("a client says nothing of that kind: {other:?}"),
            }
            let more = client.session.pipeline().output().split();
            if more.is_empty() {
                break;
            }
            output.extend_from_slice(&more);
        }
        for Asked { sequence, request, forward } in asked {
            let origin = Origin { connection, sequence };
            exits.to_consensus(ConsensusEvent::FromNet(FromNet::Request { origin, request, forward }));
        }
        let bound = 2 * limits.connection_buffered_bytes_max;
        memory::on_held(me.id, "bytes of a connection", client.session.buffered_bytes(), bound)?;
        let (conn, ended) = (client.conn, client.session.finished().is_some());
        if !output.is_empty() {
            self.send_to_client(conn, output.freeze());
        }
        if ended {
            self.on_client_gone(conn);
            self.close_to_client(conn);
        }
        Ok(())
    }
}

/// An event on one line.
struct Shown<'a>(&'a FromNet);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FromNet::Raft { message } => match &message.body {
                Body::Append { prev_index, prev_term, entries, commit, .. } => {
                    let (count, term) = (entries.len(), message.term);
                    write!(f, "term {term} Append {count} behind ({prev_index}, {prev_term}), commit {commit}")
                }
                body => write!(f, "term {} {body:?}", message.term),
            },
            FromNet::Forwarded { id, term, request, .. } => {
                write!(f, "forward {id} for term {term}: {}", Brief(request))
            }
            FromNet::ForwardReply { id, reply, .. } => write!(f, "answer to forward {id}: {:?}", reply.result),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A request on one line.
pub struct Brief<'a>(pub &'a Request);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned();
        match self.0 {
            Request::Write(Operation::Put { key, value }) => write!(f, "put {} {}", text(key), text(value)),
            Request::Write(Operation::Delete { key }) => write!(f, "delete {}", text(key)),
            Request::Get { key, .. } => write!(f, "get {}", text(key)),
            Request::List { after, limit, .. } => write!(f, "list {limit} after {:?}", after.as_ref().map(text)),
            Request::Status | Request::Scrub => write!(f, "status"),
        }
    }
}
