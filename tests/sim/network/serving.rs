//! The nodes' ends of clients' connections: the production sessions, between the clients' bytes and consensus.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use raftkv::api::Reply;
use raftkv::net::{Asked, ConnectionId, FromNet, Origin, Session, Turn};
use raftkv::node::consensus::ConsensusEvent;
use raftkv::node::exits::Exits;

use super::super::checkers::{Verdict, memory};
use super::super::node::Actor;
use super::super::world::World;
use super::thread::{ClientSession, NodeNet};

impl World {
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

    pub(super) fn on_reply(&mut self, at: usize, origin: Origin, reply: Reply) {
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
    pub(super) fn advance(&mut self, at: usize, connection: ConnectionId) -> Verdict {
        let Some((actors, mut exits)) = self.turn(at, Actor::Net) else { return Ok(()) };
        let NodeNet { admission, sessions, limits, me, .. } = &mut actors.net;
        let Some(client) = sessions.get_mut(&connection.slot).filter(|it| it.generation == connection.generation)
        else {
            return Ok(());
        };
        let mut asked: Vec<Asked> = Vec::new();
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
