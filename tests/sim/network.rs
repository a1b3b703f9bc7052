//! Links between nodes, and connections of clients: bytes that are late, lost, repeated, overtaken, or never come.
//!
//! A link is dialed, greeted and answered by the production handshake, and what goes over it is queued and encoded by
//! the production code: only whole frames exist in between. What is done to a frame depends on what it is. Consensus
//! stands anything, so its messages are lost, repeated and overtaken as the seed likes. Requests that are passed on,
//! and their answers, rely on what TCP gives: they come in order and once, or the link breaks.

mod links;
mod serving;
mod shown;
mod thread;
mod traffic;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use raftkv::base::NodeId;
use raftkv::net::FromNet;
use raftkv::node::consensus::ConsensusEvent;
use raftkv::node::exits::Exits;
use raftkv::wire;

pub use self::serving::Stage;
pub use self::shown::Brief;
pub use self::thread::NodeNet;
use super::chance::Chance;
use super::checkers::Verdict;
use super::node::Actor;
use super::plan::SECOND;
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
        if let Some((_, mut exits)) = self.turn(at, Actor::Net) {
            exits.to_consensus(ConsensusEvent::FromNet(event));
        }
    }

    fn net(&mut self, at: usize) -> Option<&mut NodeNet> {
        self.nodes[at].running().map(|running| &mut running.actors.net)
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

    pub fn send_held(&mut self, from: usize, to: usize) {
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
}
