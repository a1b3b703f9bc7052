//! The nodes' ends of clients' connections: the production sessions, between the clients' bytes and consensus.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use raftkv::api::Reply;
use raftkv::base::Moment;
use raftkv::guard::{Guard, removed};
use raftkv::net::{Asked, ConnectionId, FromNet, Origin, Served, Session, Turn, Unconfirmed};
use raftkv::node::consensus::ConsensusEvent;
use raftkv::node::exits::Exits;

use super::super::checkers::{Verdict, memory};
use super::super::faults::Fault;
use super::super::node::Actor;
use super::super::world::{Event, World};
use super::thread::ClientSession;

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
        let client = ClientSession { generation, session, conn, reading: 0, held: BytesMut::new() };
        net.sessions.insert(slot, client);
        self.conns[conn as usize].server = Some((epoch, ConnectionId { slot, generation }));
    }

    pub fn on_client_bytes(&mut self, conn: u32, bytes: &Bytes) -> Verdict {
        let (at, server) = (self.conns[conn as usize].at, self.conns[conn as usize].server);
        let Some((epoch, connection)) = server.filter(|(epoch, _)| *epoch == self.nodes[at].epoch) else {
            return Ok(());
        };
        debug_assert_eq!(epoch, self.nodes[at].epoch);
        if let Some((session, _)) = self.net(at).and_then(|net| net.session(connection)) {
            if session.reading > 0 {
                session.held.extend_from_slice(bytes);
                return Ok(());
            }
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
        if let Some((session, admission)) = net.session(origin.connection) {
            session.session.on_reply(origin.sequence, reply, admission);
            if !net.touched.contains(&origin.connection) {
                net.touched.push(origin.connection);
            }
        }
    }

    /// Lets a session do what it can, and moves what came of it.
    pub(super) fn advance(&mut self, at: usize, connection: ConnectionId) -> Verdict {
        let (epoch, stands, mut pending) = (self.nodes[at].epoch, self.plan.read_stands, None);
        let Some((actors, mut exits)) = self.turn(at, Actor::Net) else { return Ok(()) };
        let Some((client, admission)) = actors.net.session(connection) else { return Ok(()) };
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
        let looked_up = look_up(&actors.net.served, asked);
        let client = actors.net.sessions.get_mut(&connection.slot).expect("it was just found");
        let is_reading = looked_up.iter().any(|read| read.value.is_some());
        client.reading += usize::from(is_reading);
        if !is_reading {
            looked_up.into_iter().for_each(|read| exits.to_consensus(read.into_request(connection)));
        } else {
            let (delay, epoch) = (stands.draw(exits.random), epoch);
            let event = Event::Reading { at, epoch, connection, stage: Stage::LookedUp(looked_up) };
            pending = Some((delay, event));
        }
        let limits = &actors.net.limits;
        let (me, client) = (actors.net.me.id, &actors.net.sessions[&connection.slot]);
        let bound = 2 * limits.connection_buffered_bytes_max;
        memory::on_held(me, "bytes of a connection", client.session.buffered_bytes(), bound)?;
        let (conn, ended) = (client.conn, client.session.finished().is_some());
        if let Some((delay, event)) = pending {
            self.schedule(delay, event);
        }
        if !output.is_empty() {
            self.send_to_client(conn, output.freeze());
        }
        if ended {
            self.on_client_gone(conn);
            self.close_to_client(conn);
        }
        Ok(())
    }

    /// The thread goes on with reads of a connection: it samples the clock, or it answers.
    pub fn on_reading(&mut self, at: usize, connection: ConnectionId, stage: Stage) -> Verdict {
        let epoch = self.nodes[at].epoch;
        if self.nodes[at].paused_until > self.now {
            let again = self.after_pause(at);
            self.schedule_at(again, Event::Reading { at, epoch, connection, stage });
            return Ok(());
        }
        match stage {
            Stage::LookedUp(reads) => self.confirm(at, connection, reads),
            Stage::Confirmed(replies) => self.answer(at, connection, replies)?,
        }
        self.arm(at);
        Ok(())
    }

    /// What can't be answered goes to consensus, and all that was asked behind it.
    fn confirm(&mut self, at: usize, connection: ConnectionId, reads: Vec<LookedUp>) {
        let (epoch, stands, now) = (self.nodes[at].epoch, self.plan.read_stands, self.nodes[at].clock.now(self.now));
        let Some((actors, mut exits)) = self.turn(at, Actor::Net) else { return };
        let early = actors.stood_since.filter(|_| removed(Guard::ClockBeforeRequest));
        let net = &mut actors.net;
        let (mut replies, mut refused, mut ran_out) = (Vec::new(), false, 0);
        for mut read in reads {
            let value = read.value.take();
            let confirmed =
                value.filter(|_| !refused).and_then(|value| net.served.confirm(value, early.unwrap_or(now)));
            match confirmed {
                Some(reply) => replies.push((read.asked.sequence, reply)),
                None => {
                    ran_out += u64::from(!refused);
                    refused = true;
                    exits.to_consensus(read.into_request(connection));
                }
            }
        }
        let delay = stands.draw(exits.random);
        self.tally.add(Fault::LeaseRanOut, ran_out);
        self.tally.add(Fault::LeaseRead, replies.len() as u64);
        self.schedule(delay, Event::Reading { at, epoch, connection, stage: Stage::Confirmed(replies) });
    }

    fn answer(&mut self, at: usize, connection: ConnectionId, replies: Vec<(u64, Reply)>) -> Verdict {
        let Some(net) = self.net(at) else { return Ok(()) };
        net.admission.give_back(replies.len());
        let Some((client, admission)) = net.session(connection) else { return Ok(()) };
        client.reading -= 1;
        replies.into_iter().for_each(|(sequence, reply)| client.session.on_reply(sequence, reply, admission));
        let held = std::mem::take(&mut client.held);
        client.session.on_bytes(&held);
        self.advance(at, connection)
    }
}

/// A request of a connection, and its value if it was looked up.
pub struct LookedUp {
    asked: Asked,
    value: Option<Unconfirmed<Reply>>,
}

impl LookedUp {
    fn into_request(self, connection: ConnectionId) -> ConsensusEvent {
        let Asked { sequence, request, if_not_leading, .. } = self.asked;
        let origin = Origin { connection, sequence };
        ConsensusEvent::FromNet(FromNet::Request { origin, request, if_not_leading, handed_on: Moment::ZERO })
    }
}

/// How far the thread is with reads that it answers itself.
pub enum Stage {
    LookedUp(Vec<LookedUp>),
    Confirmed(Vec<(u64, Reply)>),
}

/// Looks at the values of those that may be answered at once.
fn look_up(served: &Served, asked: Vec<Asked>) -> Vec<LookedUp> {
    let mut may_answer = true;
    let look_up = |asked: Asked| {
        may_answer &= asked.at_once;
        let value = served.look_up(&asked.request).filter(|_| may_answer);
        may_answer &= value.is_some();
        LookedUp { asked, value }
    };
    asked.into_iter().map(look_up).collect()
}
