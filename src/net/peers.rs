//! The loop's part for what peers send, and for who is one. Net thread.
//!
//! A peer sends on a connection that it dialed and this node accepted: a client's until its first frame turns out to be
//! a hello. Our own way to it is in [`super::links`].

use std::sync::Arc;

use bytes::BytesMut;

use super::connection::{PeerInput, Role};
use super::event_loop::Net;
use super::handshake::{Introduced, twins};
use super::links::Link;
use super::{CloseReason, ConnectionId, FromNet, input};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::{ClusterId, NodeId};
use crate::guard::{Guard, removed};
use crate::wire::{self, Hello, PeerFrame};

/// Distinct refusals that are warned about; a stranger could make up more.
const REFUSALS_LOGGED_MAX: usize = 64;

impl Net {
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
        let Role::Client(session) = &mut connection.role else { return };
        let (input, from) = (session.take_rest(), hello.from.id);
        let (instance, cluster, address) = (hello.from.instance, hello.from.cluster, hello.from.address.clone());
        connection.role = Role::Peer(PeerInput { from, instance, cluster, address, input, output });
        connection.must_be_peer_by = None;
        self.clients_open -= 1;
        // The older one first: nothing that it still holds may come behind what the new one brings.
        if let Some(older) = self.inbound.insert(from, id) {
            self.maybe_warn_of_twins(from, older, id);
            self.close(older, CloseReason::Superseded);
        }
        self.touch(id);
        self.take_peer_frames(id);
    }

    /// Two processes with one id take the link from each other with each dial. Nobody but their peers can see that.
    fn maybe_warn_of_twins(&mut self, peer: NodeId, older: ConnectionId, newer: ConnectionId) {
        let introduced = |id| {
            let connection = self.connections.get(id)?;
            let Role::Peer(peer) = &connection.role else { return None };
            let (instance, address) = (peer.instance, peer.address.clone());
            Some(Introduced { instance, address, host: connection.remote.ip().to_canonical().to_string() })
        };
        let (Some(older), Some(newer)) = (introduced(older), introduced(newer)) else { return };
        if let Some(why) = twins(peer, &older, &newer).filter(|_| self.twins_said.may_be_said(self.now)) {
            log::warn!("net: {why}");
        }
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
        let bytes = event.credit_bytes();
        self.from_peers_bytes += bytes;
        self.credit.take(bytes);
        self.inbox.deliver(event);
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
            if id != self.me.id {
                self.set_link(id, address);
            }
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
        let other = |(id, link): (&NodeId, &Link)| Some((*id, self.me.another_cluster(*id, link.cluster())?));
        let others: Vec<(NodeId, String)> = self.links.iter().filter_map(other).collect();
        for (id, why) in others {
            self.lose_link(id, CloseReason::NotAPeer, &why);
        }
    }
}
