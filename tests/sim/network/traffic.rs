//! What goes over the links: whole frames, and what chance does to each on its way.

use std::io;

use bytes::{Bytes, BytesMut};
use raftkv::api::{ErrorCode, Reply};
use raftkv::base::NodeId;
use raftkv::net::{FromNet, NetEvent, Urgency};
use raftkv::wire::{self, PeerFrame};

use super::super::chance::Chance;
use super::super::checkers::{Verdict, Violation, memory};
use super::super::faults::Fault;
use super::super::node::Life;
use super::super::trace::Kind;
use super::super::world::{Event, Time, World};
use super::shown::Shown;
use super::{WireId, frames_of, is_consensus, place_of};

impl World {
    pub fn on_net_event(&mut self, at: usize, event: NetEvent) {
        match event {
            NetEvent::Reply { origin, reply, .. } => self.on_reply(at, origin, reply),
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

    /// Writes what is queued, for peers and for clients.
    pub fn finish_net(&mut self, at: usize) -> Verdict {
        let Life::Up(running) = &mut self.nodes[at].life else { return Ok(()) };
        let net = &mut running.actors.net;
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
    pub(super) fn send_frame(&mut self, id: WireId, frame: Bytes) {
        let wire = &self.network.wires[id as usize];
        let (from, to, last_due) = (wire.from, wire.to, wire.last_due);
        let is_blocked = self.network.is_blocked(from, to);
        let mut due = self.now + self.plan.network.delay.draw(&mut self.random);
        if !is_consensus(&frame) {
            if is_blocked || self.course.holds(from, to) {
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
                return Err(Violation {
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
}
