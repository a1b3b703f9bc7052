//! Links between nodes: dialed, greeted, answered and lost.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use raftkv::base::{ClusterId, NodeId};
use raftkv::net::{FromNet, LinkQueue, Session, Turn};
use raftkv::wire;

use super::super::checkers::Verdict;
use super::super::faults::Fault;
use super::super::plan::{MILLI, SECOND};
use super::super::trace::Kind;
use super::super::world::{Event, Time, World};
use super::thread::Inbound;
use super::{Wire, WireId, frames_of, place_of};

impl World {
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

    pub(super) fn lose_link(&mut self, at: usize, peer: NodeId, why: &str) {
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

    pub(super) fn on_set_cluster_id(&mut self, at: usize, cluster: ClusterId) {
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
}
