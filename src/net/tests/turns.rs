//! One turn of the loop at a time, run by the test itself: what a turn may cost, and who goes first in it.

use bytes::BytesMut;

use super::links::{heartbeat, identity};
use super::*;
use crate::wire::{self, Hello, HelloReply, PeerFrame};

const CLIENTS: usize = 20;

/// A net thread without its thread. Node 2 is its peer, played by the test.
struct Stepped {
    net: Net,
    mailbox: Mailbox,
    from_net: Receiver<FromNet>,
    address: SocketAddr,
    /// What the node sends to node 2 comes in here.
    to_peer: Client,
}

impl Stepped {
    fn start(limits: NetLimits) -> Stepped {
        let (own, peers) = (listener(), listener());
        let address = own.local_addr().unwrap();
        let config = config(1, own, &[(2, peers.local_addr().unwrap())], limits);
        let mut welcome = BytesMut::new();
        wire::encode_hello_reply(&HelloReply { from: identity(2), refusal: None }, &mut welcome);
        let (to_test, from_net) = unbounded();
        let deliver = Box::new(move |event: FromNet| drop(to_test.send(event)));
        let (mut net, mailbox) = Net::new(config, deliver, PeerCredit::default()).unwrap();
        let peer = thread::spawn(move || {
            let mut socket = Client(peers.accept().unwrap().0);
            socket.0.set_read_timeout(Some(DEADLINE)).unwrap();
            socket.frame();
            socket.write(&welcome);
            socket
        });
        while !from_net.try_iter().any(|event| matches!(event, FromNet::LinkUp { .. })) {
            net.turn().unwrap();
        }
        Stepped { net, mailbox, from_net, address, to_peer: peer.join().unwrap() }
    }

    /// Clients that have asked for something, and where the answers must go.
    fn asking(&mut self) -> Vec<(Client, Origin)> {
        let mut asking = Vec::new();
        while asking.len() < CLIENTS {
            let mut client = Client::connect(self.address);
            client.write("GET a\n");
            asking.push((client, self.next_request()));
        }
        asking
    }

    fn next_request(&mut self) -> Origin {
        loop {
            self.net.turn().unwrap();
            let events: Vec<FromNet> = self.from_net.try_iter().collect();
            if let [FromNet::Request { origin, .. }] = events[..] {
                return origin;
            }
            assert!(events.is_empty(), "{events:?}");
        }
    }

    /// Turns until a client's end, which is no good one, is seen.
    fn reset(&mut self, client: Client) {
        socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
        let broken = self.net.counters().closed(CloseReason::Broken);
        drop(client);
        while self.net.counters().closed(CloseReason::Broken) == broken {
            self.net.turn().unwrap();
        }
    }

    /// One turn with a heartbeat among its letters: it has left when the turn is over.
    fn turn_with_heartbeat(&mut self, round: u64) {
        self.mailbox.send(&mut vec![NetEvent::Send { message: heartbeat(1, 2, round) }]);
        self.net.turn().unwrap();
        let mut sent = BytesMut::new();
        wire::encode_peer(&PeerFrame::Raft(heartbeat(1, 2, round)), &mut sent);
        assert_eq!(self.to_peer.exactly(sent.len()), sent, "the heartbeat of round {round}");
    }
}

impl Client {
    /// What has arrived, without waiting.
    fn arrived(&mut self) -> usize {
        self.0.set_nonblocking(true).unwrap();
        let (mut bytes, mut total) = ([0; 64 * 1024], 0);
        while let Ok(length) = self.0.read(&mut bytes) {
            total += length;
        }
        total
    }
}

#[test]
fn a_heartbeat_leaves_in_its_turn_however_much_waits_for_clients_who_are_written_in_turns() {
    let (turn, connection, answer) = (64 * 1024, 16 * 1024, 200_000);
    let limits =
        NetLimits { turn_client_bytes_max: turn, turn_connection_bytes_max: connection, ..NetLimits::default() };
    let mut node = Stepped::start(limits);
    let mut asking = node.asking();
    let reply = value(&vec![b'v'; answer].into());
    let reply_to =
        |(_, origin): &(Client, Origin)| NetEvent::Reply { origin: *origin, ready: Moment::ZERO, reply: reply.clone() };
    node.mailbox.send(&mut asking.iter().map(reply_to).collect());
    let mut arrived = vec![0; CLIENTS];
    for round in 0.. {
        node.turn_with_heartbeat(round);
        let before: usize = arrived.iter().sum();
        asking.iter_mut().zip(&mut arrived).for_each(|((client, _), total)| *total += client.arrived());
        let written = arrived.iter().sum::<usize>() - before;
        assert!(written <= turn + connection, "{written} bytes to clients in one turn");
        let (least, most) = (*arrived.iter().min().unwrap(), *arrived.iter().max().unwrap());
        assert!(most - least <= 2 * connection, "one client has {most} bytes, another {least}");
        if least == answer + 1 {
            break;
        }
        // Each byte is encoded and written, and a turn may end with little done of its budget.
        assert!(round <= 3 * (CLIENTS * answer / turn) as u64, "no end after {round} turns: {arrived:?}");
    }
}

/// A slot has three owners in one turn's time: a client whose answer is still under way, a peer that breaks off, and
/// the client that is accepted in the turn in which the poll reports both.
#[test]
fn a_token_that_is_used_again_within_one_batch_of_events_belongs_to_its_new_owner_alone() {
    let mut node = Stepped::start(NetLimits::default());
    let mut first = Client::connect(node.address);
    first.write("GET first\n");
    let first_asked = node.next_request();
    node.reset(first);
    let mut peer = Client::connect(node.address);
    let mut bytes = BytesMut::new();
    wire::encode_hello(&Hello { from: identity(2), to: node_id(1) }, &mut bytes);
    peer.write(&bytes);
    while peer.arrived() == 0 {
        node.net.turn().unwrap();
    }
    // Nothing is left to be said of the peer when it breaks off in the middle of a frame while somebody waits at the
    // door.
    bytes.clear();
    wire::encode_peer(&PeerFrame::Raft(heartbeat(2, 1, 1)), &mut bytes);
    peer.write(&bytes[..bytes.len() / 2]);
    socket2::SockRef::from(&peer.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let mut next = Client::connect(node.address);
    next.write("GET next\n");
    let answer_to =
        |origin, text: &'static [u8]| NetEvent::Reply { origin, ready: Moment::ZERO, reply: value(&text.into()) };
    node.net.turn().unwrap();
    let events: Vec<FromNet> = node.from_net.try_iter().collect();
    let [FromNet::Request { origin, .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!(origin.connection.slot, first_asked.connection.slot, "the slot is used again in this very turn");
    assert_eq!(origin.sequence, first_asked.sequence, "only the generation tells the two answers apart");
    node.mailbox.send(&mut vec![answer_to(first_asked, b"first"), answer_to(origin, b"next")]);
    node.net.turn().unwrap();
    assert_eq!(next.line(), "next");
    next.write("PING\n");
    node.net.turn().unwrap();
    assert_eq!(next.line(), "PONG");
}

/// Its input has ended, so nothing is read that would tell; the answer is written to nobody.
#[test]
fn an_answer_to_a_client_that_is_gone_ends_its_connection_and_nothing_else() {
    let mut node = Stepped::start(NetLimits::default());
    let mut client = Client::connect(node.address);
    client.write("GET a\n");
    client.end();
    let origin = node.next_request();
    let has_ended = |node: &Stepped| {
        let connection = node.net.connections.get(origin.connection).expect("it waits for its answer");
        matches!(&connection.role, connection::Role::Client(session) if session.input_ended())
    };
    while !has_ended(&node) {
        node.net.turn().unwrap();
    }
    socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    node.mailbox.send(&mut vec![NetEvent::Reply { origin, ready: Moment::ZERO, reply: value(&"to nobody".into()) }]);
    node.net.turn().unwrap();
    assert_eq!(node.net.counters().closed(CloseReason::Broken), 1);
    node.turn_with_heartbeat(1);
}

#[test]
fn what_a_peer_sent_is_read_before_clients_who_are_read_in_turns() {
    let turn = 4 * 1024;
    let limits = NetLimits { turn_client_bytes_max: turn, turn_reads_max: 1, ..NetLimits::default() };
    let mut node = Stepped::start(limits);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(node.address)).collect();
    let mut peer = Client::connect(node.address);
    let (mut hello, mut beat) = (BytesMut::new(), BytesMut::new());
    wire::encode_hello(&Hello { from: identity(2), to: node_id(1) }, &mut hello);
    peer.write(&hello);
    while peer.arrived() == 0 {
        node.net.turn().unwrap();
    }
    let line = format!("PUT a {}\n", "v".repeat(turn));
    clients.iter_mut().for_each(|client| client.write(&line));
    let mut requests = 0;
    for round in 0..CLIENTS as u64 {
        beat.clear();
        wire::encode_peer(&PeerFrame::Raft(heartbeat(2, 1, round)), &mut beat);
        peer.write(&beat);
        node.net.turn().unwrap();
        let events: Vec<FromNet> = node.from_net.try_iter().collect();
        assert!(matches!(&events[0], FromNet::Raft { message } if *message == heartbeat(2, 1, round)), "{events:?}");
        assert!(events.len() <= 2, "more than one client was read in one turn: {}", events.len() - 1);
        requests += events.len() - 1;
    }
    assert_eq!(requests, CLIENTS, "each client was read once");
}

/// Else consensus would sleep on with an event in its inbox: what waited for an answer is handed on when that is written.
#[test]
fn what_an_answer_sets_free_is_followed_by_the_end_of_a_turn() {
    enum Heard {
        Event(FromNet),
        TurnEnds,
    }
    struct Ear(crossbeam_channel::Sender<Heard>);
    impl Deliver for Ear {
        fn deliver(&mut self, event: FromNet) {
            drop(self.0.send(Heard::Event(event)));
        }
        fn turn_ends(&mut self) {
            drop(self.0.send(Heard::TurnEnds));
        }
    }
    let (to_test, from_net) = unbounded();
    let config = config(1, listener(), &[], NetLimits::default());
    let address = config.listener.local_addr().unwrap();
    let (mut net, mailbox) = Net::new(config, Box::new(Ear(to_test)), PeerCredit::default()).unwrap();
    let mut client = Client::connect(address);
    client.write("PUT a 1\nGET a\n");
    let put = loop {
        net.turn().unwrap();
        let asked = from_net.try_iter().find_map(|heard| match heard {
            Heard::Event(FromNet::Request { origin, .. }) => Some(origin),
            _ => None,
        });
        if let Some(origin) = asked {
            break origin;
        }
    };
    mailbox.send(&mut vec![NetEvent::Reply { origin: put, ready: Moment::ZERO, reply: put_done() }]);
    net.turn().unwrap();
    let heard: Vec<Heard> = from_net.try_iter().collect();
    let get = heard.iter().position(|heard| matches!(heard, Heard::Event(FromNet::Request { .. })));
    assert!(get.is_some(), "the GET was not handed on");
    assert!(heard[get.unwrap()..].iter().any(|heard| matches!(heard, Heard::TurnEnds)));
}
