//! Two nodes and their links, and strangers that pose as one of them.

use bytes::BytesMut;

use super::*;
use crate::api::IfNotLeading;
use crate::base::limits::{PEER_PROTOCOL_LEVEL, READ_QUESTIONS_LEVEL};
use crate::base::{Entry, EntryKind, LogIndex, Term};
use crate::raft::{Body, Check, Message};
use crate::wire::{self, Hello, HelloReply, Identity, PeerFrame};

fn quick() -> NetLimits {
    let (min, max) = (Duration::from_millis(5), Duration::from_millis(20));
    NetLimits { dial_backoff_min: min, dial_backoff_max: max, ..NetLimits::default() }
}

pub(super) fn heartbeat(from: u32, to: u32, round: u64) -> Message {
    let body = Body::Heartbeat { commit: LogIndex(1), round, check: Check::default(), promise_ms: 0 };
    Message { from: node_id(from), to: node_id(to), instance: InstanceId(u128::from(from)), term: Term(1), body }
}

pub(super) fn identity(id: u32) -> Identity {
    Identity {
        id: node_id(id),
        level: 1,
        level_min: 1,
        cluster_name: "test".into(),
        cluster: None,
        instance: InstanceId(u128::from(id)),
        address: "somewhere:1".into(),
    }
}

fn append(from: u32, to: u32, bytes: usize) -> Message {
    let data = vec![7; bytes].into();
    let entries = vec![Entry { index: LogIndex(1), term: Term(1), kind: EntryKind::Commands, data }];
    let body = Body::Append { prev_index: LogIndex(0), prev_term: Term(0), entries, commit: LogIndex(0), round: 0 };
    Message { body, ..heartbeat(from, to, 0) }
}

fn get() -> Request {
    Request::Get { key: "a".into(), revision: None }
}

impl Node {
    fn link_up(&self) -> NodeId {
        self.expect("a link", |event| match event {
            FromNet::LinkUp { peer } => Some(peer),
            _ => None,
        })
    }

    /// Why a link went down, as soon as the reason contains `part`.
    fn link_down(&self, part: &str) -> String {
        self.expect(part, |event| match event {
            FromNet::LinkDown { why, .. } if why.contains(part) => Some(why),
            _ => None,
        })
    }

    fn message(&self) -> Message {
        self.expect("a message", |event| match event {
            FromNet::Raft { message } => Some(message),
            _ => None,
        })
    }

    fn hello_from(&self, from: u32) -> Hello {
        Hello { from: identity(from), to: node_id(self.id) }
    }

    /// A stranger that dials and says `hello`; the answer it gets.
    fn greet(&self, hello: &Hello) -> (Client, HelloReply) {
        let (mut client, mut bytes) = (self.connect(), BytesMut::new());
        wire::encode_hello(hello, &mut bytes);
        client.write(&bytes);
        let reply = wire::decode_hello_reply(client.frame()).unwrap();
        (client, reply)
    }
}

impl Client {
    fn says(&mut self, frame: &PeerFrame) {
        let mut bytes = BytesMut::new();
        wire::encode_peer(frame, &mut bytes);
        self.write(&bytes);
    }
}

/// Nodes 1 and 2, each the other's peer.
fn pair(limits: [NetLimits; 2], change: impl FnOnce(&mut NetConfig)) -> [Node; 2] {
    let listeners = [listener(), listener()];
    let addresses = [1, 2].map(|id| (id, listeners[id as usize - 1].local_addr().unwrap()));
    let [first, second] = listeners;
    let [first_limits, second_limits] = limits;
    let mut second = config(2, second, &addresses[..1], second_limits);
    change(&mut second);
    [Node::start(config(1, first, &addresses[1..], first_limits)), Node::start(second)]
}

fn alone_with_peers(limits: NetLimits) -> Node {
    // Nobody listens there; only what dials in matters.
    let nowhere = listener().local_addr().unwrap();
    Node::start(config(1, listener(), &[(2, nowhere), (3, nowhere)], limits))
}

#[test]
fn two_nodes_link_both_ways_and_say_everything_there_is_to_say() {
    let [one, two] = pair([quick(), quick()], |_| {});
    assert_eq!((one.link_up(), two.link_up()), (node_id(2), node_id(1)));
    one.send(NetEvent::Send { message: heartbeat(1, 2, 7) });
    assert_eq!(two.message(), heartbeat(1, 2, 7));
    two.send(NetEvent::Send { message: append(2, 1, 300_000) });
    assert_eq!(one.message(), append(2, 1, 300_000));
    assert_eq!(one.credit.taken_bytes(), append(2, 1, 300_000).cost_bytes());

    one.send(NetEvent::Forward { to: node_id(2), id: 5, term: Term(3), request: get() });
    let forwarded = two.expect("a forwarded request", |event| match event {
        FromNet::Forwarded { from, id, term, request } => Some((from, id, term, request)),
        _ => None,
    });
    assert_eq!(forwarded, (node_id(1), 5, Term(3), get()));
    two.send(NetEvent::ForwardReply { to: node_id(1), id: 5, reply: value(&"1".into()) });
    let (from, id, reply) = one.forward_reply();
    assert_eq!((from, id, reply.result), (node_id(2), 5, value(&"1".into()).result));
}

impl Node {
    fn forward_reply(&self) -> (NodeId, u64, Reply) {
        self.expect("the answer to a forwarded request", |event| match event {
            FromNet::ForwardReply { from, id, reply } => Some((from, id, reply)),
            _ => None,
        })
    }
}

#[test]
fn a_peer_that_ends_and_comes_back_is_linked_again() {
    let [one, mut two] = pair([quick(), quick()], |_| {});
    one.link_up();
    let (address, peer) = (two.address, (1, one.address));
    two.stop();
    let why = one.link_down("refused");
    assert!(!why.contains("node 2") && !why.contains(&address.to_string()), "whoever shows it names the node: {why}");
    let two = Node::start(config(2, TcpListener::bind(address).unwrap(), &[peer], quick()));
    assert_eq!((one.link_up(), two.link_up()), (node_id(2), node_id(1)));
    one.send(NetEvent::Send { message: heartbeat(1, 2, 8) });
    assert_eq!(two.message(), heartbeat(1, 2, 8));
}

#[test]
fn nodes_of_two_clusters_refuse_each_other_and_say_why() {
    let [one, two] = pair([quick(), quick()], |second| second.cluster_name = "other".into());
    let why = one.link_down("it refuses: ");
    assert!(why.contains("node 1 is in cluster \"test\", and node 2 in \"other\""), "{why}");
    two.link_down("node 2 is in cluster \"other\", and node 1 in \"test\"");
}

#[test]
fn links_end_when_it_turns_out_that_the_clusters_differ() {
    let [one, two] = pair([quick(), quick()], |second| second.cluster = Some(ClusterId(2)));
    assert_eq!((one.link_up(), two.link_up()), (node_id(2), node_id(1)));
    one.send(NetEvent::SetClusterId { cluster: ClusterId(1) });
    one.link_down("cluster id");
    two.link_down("");
    two.link_down("cluster id");
}

#[test]
fn links_stay_when_the_cluster_id_becomes_known() {
    let [one, two] = pair([quick(), quick()], |_| {});
    assert_eq!((one.link_up(), two.link_up()), (node_id(2), node_id(1)));
    one.send(NetEvent::SetClusterId { cluster: ClusterId(1) });
    one.send(NetEvent::Send { message: heartbeat(1, 2, 1) });
    two.message();
    two.send(NetEvent::SetClusterId { cluster: ClusterId(1) });
    two.send(NetEvent::Send { message: heartbeat(2, 1, 2) });
    assert_eq!(one.message(), heartbeat(2, 1, 2));
    assert_eq!(one.counters.closed(CloseReason::NotAPeer) + two.counters.closed(CloseReason::NotAPeer), 0);
}

#[test]
fn a_hello_that_is_not_from_a_peer_to_this_node_is_refused_and_nothing_behind_it_is_heard() {
    let node = alone_with_peers(quick());
    type Change = fn(&mut Hello);
    let changes: [(&str, Change); 6] = [
        ("dialed it as node 3", |hello| hello.to = node_id(3)),
        ("two nodes share an id", |hello| hello.from.id = node_id(1)),
        ("no peer 9", |hello| hello.from.id = node_id(9)),
        ("in cluster", |hello| hello.from.cluster_name = "other".into()),
        ("peer protocol", |hello| hello.from.level_min = PEER_PROTOCOL_LEVEL + 1),
        ("copy of the data directory", |hello| hello.from.instance = InstanceId(1)),
    ];
    for (part, change) in changes {
        let mut hello = node.hello_from(2);
        change(&mut hello);
        let (mut stranger, reply) = node.greet(&hello);
        let why = reply.refusal.expect("it was accepted");
        assert!(why.contains(part), "{why}");
        stranger.says(&PeerFrame::Raft(heartbeat(2, 1, 1)));
        stranger.end();
        assert_eq!(stranger.rest(), b"");
    }
    let mut probe = node.connect();
    node.await_count(&mut probe, "six refusals", |counters| counters.closed(CloseReason::HelloRefused) == 6);
    assert!(node.from_net.try_iter().all(|event| matches!(event, FromNet::LinkDown { .. })), "a message got through");
}

/// One segment brings both, and a part of a message whose rest comes in another.
#[test]
fn what_comes_right_behind_a_hello_is_heard_if_the_hello_is_welcome() {
    let node = alone_with_peers(quick());
    let hello_and_more = |from| {
        let (mut client, mut bytes) = (node.connect(), BytesMut::new());
        wire::encode_hello(&node.hello_from(from), &mut bytes);
        for round in [1, 2] {
            wire::encode_peer(&PeerFrame::Raft(heartbeat(from, 1, round)), &mut bytes);
        }
        let rest = bytes.split_off(bytes.len() - 5);
        client.write(&bytes);
        (wire::decode_hello_reply(client.frame()).unwrap().refusal, client, rest)
    };
    let (refusal, mut stranger, _) = hello_and_more(9);
    assert!(refusal.is_some());
    stranger.end();
    assert_eq!(stranger.rest(), b"");
    let (refusal, mut peer, rest) = hello_and_more(2);
    assert_eq!(refusal, None);
    assert_eq!(node.message(), heartbeat(2, 1, 1));
    peer.write(&rest);
    assert_eq!(node.message(), heartbeat(2, 1, 2));
}

#[test]
fn a_client_can_not_pass_as_a_peer_nor_a_peer_send_what_is_anothers() {
    let node = alone_with_peers(quick());
    // A peer's message without a hello, and one behind a client's request.
    let mut first = node.connect();
    first.says(&PeerFrame::Raft(heartbeat(2, 1, 1)));
    let refused = |client: &mut Client| {
        let (id, reply) = wire::decode_reply(client.frame()).unwrap();
        assert_eq!((id, reply.result.unwrap_err().code), (0, ErrorCode::BadFrame));
        assert_eq!(client.rest(), b"");
    };
    refused(&mut first);
    let (mut second, mut bytes) = (node.connect(), BytesMut::new());
    wire::encode_request(1, &get(), IfNotLeading::Forward, &mut bytes);
    wire::encode_hello(&node.hello_from(2), &mut bytes);
    second.write(&bytes);
    let (origin, _) = node.request();
    node.send(NetEvent::Reply { origin, ready: Moment::ZERO, reply: value(&"1".into()) });
    assert_eq!(wire::decode_reply(second.frame()).unwrap().0, 1);
    refused(&mut second);
    // Node 2's link with a message from node 3, and one for node 3.
    for message in [heartbeat(3, 1, 1), heartbeat(2, 3, 1)] {
        let (mut peer, reply) = node.greet(&node.hello_from(2));
        assert_eq!(reply.refusal, None);
        peer.says(&PeerFrame::Raft(message));
        assert_eq!(peer.rest(), b"");
    }
    node.assert_alive();
    assert!(node.from_net.try_iter().all(|event| matches!(event, FromNet::LinkDown { .. })), "a message got through");
}

#[test]
fn a_peer_that_dials_again_supersedes_its_older_link() {
    let node = alone_with_peers(quick());
    let (mut older, _) = node.greet(&node.hello_from(2));
    older.says(&PeerFrame::Raft(heartbeat(2, 1, 1)));
    assert_eq!(node.message(), heartbeat(2, 1, 1));
    let (mut other, _) = node.greet(&node.hello_from(3));
    let (mut newer, _) = node.greet(&node.hello_from(2));
    assert_eq!(older.rest(), b"");
    newer.says(&PeerFrame::Raft(heartbeat(2, 1, 2)));
    assert_eq!(node.message(), heartbeat(2, 1, 2));
    other.says(&PeerFrame::Raft(heartbeat(3, 1, 3)));
    assert_eq!(node.message(), heartbeat(3, 1, 3));
    assert_eq!(node.counters.closed(CloseReason::Superseded), 1);
}

#[test]
fn a_removed_peer_is_cut_off_and_not_let_in_again() {
    let node = alone_with_peers(quick());
    let (mut peer, _) = node.greet(&node.hello_from(2));
    node.send(NetEvent::SetPeers { peers: vec![] });
    assert_eq!(peer.rest(), b"");
    node.link_down("no longer a peer");
    let (_, reply) = node.greet(&node.hello_from(2));
    assert!(reply.refusal.unwrap().contains("it has none"));
}

#[test]
fn a_peer_that_is_called_by_another_name_keeps_its_link_and_one_that_moves_does_not() {
    let [one, two] = pair([quick(), quick()], |_| {});
    one.link_up();
    let set_peers = |address: String| one.send(NetEvent::SetPeers { peers: vec![(node_id(2), address.into())] });
    set_peers(format!("localhost:{}", two.address.port()));
    one.send(NetEvent::Send { message: heartbeat(1, 2, 7) });
    assert_eq!(two.message(), heartbeat(1, 2, 7), "what was sent on the link is not there");
    set_peers(listener().local_addr().unwrap().to_string());
    let why = one.link_down("dialed anew");
    assert!(why.contains(&format!("localhost:{}", two.address.port())), "it does not name the old address: {why}");
}

#[test]
fn without_credit_no_peer_is_read_until_there_is_some() {
    let node = alone_with_peers(quick());
    let (mut peer, _) = node.greet(&node.hello_from(2));
    node.credit.take(NetLimits::default().peer_credit_bytes_max);
    for round in 0..100 {
        peer.says(&PeerFrame::Raft(heartbeat(2, 1, round)));
        node.assert_alive();
    }
    assert!(node.from_net.try_iter().all(|event| matches!(event, FromNet::LinkDown { .. })), "it was read");
    node.credit.give_back(NetLimits::default().peer_credit_bytes_max);
    for round in 0..100 {
        assert_eq!(node.message(), heartbeat(2, 1, round));
    }
}

#[test]
fn what_can_not_be_forwarded_is_refused_for_certain() {
    let node = alone_with_peers(quick());
    node.send(NetEvent::Forward { to: node_id(2), id: 1, term: Term(1), request: get() });
    let (from, id, reply) = node.forward_reply();
    assert_eq!((from, id, reply.result.unwrap_err().code), (node_id(2), 1, ErrorCode::NoLeader));
}

#[test]
fn a_peer_that_reads_nothing_loses_the_link_and_delays_nobody() {
    let limits = NetLimits { link_queue_bytes_max: 1_000_000, ..quick() };
    let [one, two] = pair([limits, NetLimits { peer_credit_bytes_max: 0, ..quick() }], |_| {});
    one.link_up();
    two.link_up();
    let mut events: Vec<NetEvent> = (0..200).map(|_| NetEvent::Send { message: append(1, 2, 200_000) }).collect();
    one.mailbox.send(&mut events);
    one.link_down("bytes wait to be sent to it");
    one.assert_alive();
    one.link_up();
}

/// Its queue has room for much more.
#[test]
fn a_peer_that_takes_nothing_for_too_long_loses_the_link() {
    let limits =
        NetLimits { link_queue_bytes_max: 1_000_000_000, link_write_deadline: Duration::from_millis(300), ..quick() };
    let [one, two] = pair([limits, NetLimits { peer_credit_bytes_max: 0, ..quick() }], |_| {});
    one.link_up();
    two.link_up();
    let mut events: Vec<NetEvent> = (0..200).map(|_| NetEvent::Send { message: append(1, 2, 200_000) }).collect();
    one.mailbox.send(&mut events);
    one.link_down("it takes nothing of what is sent to it");
    one.assert_alive();
    one.link_up();
}

#[test]
fn clients_never_keep_a_peer_out_and_are_refused_in_the_room_for_peers() {
    let node = alone_with_peers(NetLimits { connections_max: 2, ..quick() });
    let (mut first, mut second) = (node.connect(), node.connect());
    assert_eq!((first.ask("PING"), second.ask("PING")), ("PONG".into(), "PONG".into()));
    let mut third = node.connect();
    assert!(third.ask("PUT a 1").starts_with("ERR busy all 2 connections"), "a client in the room for peers");
    third.end();
    third.rest();
    let (mut peer, reply) = node.greet(&node.hello_from(2));
    assert_eq!(reply.refusal, None);
    peer.says(&PeerFrame::Raft(heartbeat(2, 1, 1)));
    assert_eq!(node.message(), heartbeat(2, 1, 1));
    drop(first);
    node.await_count(&mut second, "an end", |counters| counters.closed(CloseReason::Finished) == 1);
    assert_eq!(node.connect().ask("PING"), "PONG", "a peer takes no client's place");
}

#[test]
fn who_says_nothing_keeps_no_peer_out() {
    let node = alone_with_peers(NetLimits { connections_max: 2, hello_deadline: DEADLINE, ..quick() });
    let silent: Vec<_> = (0..20).map(|_| node.connect()).collect();
    let (mut peer, reply) = node.greet(&node.hello_from(2));
    assert_eq!(reply.refusal, None);
    peer.says(&PeerFrame::Raft(heartbeat(2, 1, 1)));
    assert_eq!(node.message(), heartbeat(2, 1, 1));
    drop(silent);
}

#[test]
fn in_the_room_for_peers_every_request_in_frames_is_answered_busy_under_its_id() {
    let node = alone_with_peers(NetLimits { connections_max: 1, requests_max: 2, ..quick() });
    let mut first = node.connect();
    assert_eq!(first.ask("PING"), "PONG");
    let (mut second, mut bytes) = (node.connect(), BytesMut::new());
    for id in 1..=3 {
        wire::encode_request(id, &get(), IfNotLeading::Forward, &mut bytes);
    }
    second.write(&bytes);
    second.end();
    for id in 1..=3 {
        let (answered, reply) = wire::decode_reply(second.frame()).unwrap();
        assert_eq!((answered, reply.result.unwrap_err().code, reply.leader), (id, ErrorCode::Busy, None));
    }
    assert_eq!(second.rest(), b"");
    node.await_count(&mut first, "its end", |counters| counters.closed(CloseReason::TooManyConnections) == 1);
    // Nothing of it was delivered, and nothing of it counts any more.
    assert!(node.from_net.try_iter().all(|event| matches!(event, FromNet::LinkDown { .. })), "a request got through");
    first.write("GET a\nGET a\n");
    node.request();
    node.request();
}

#[test]
fn a_peer_of_an_older_level_is_not_sent_what_it_does_not_know() {
    for (level, knows) in [(1, false), (READ_QUESTIONS_LEVEL, true)] {
        let older = listener();
        let node = Node::start(config(1, listener(), &[(2, older.local_addr().unwrap())], quick()));
        let mut peer = Client(older.accept().unwrap().0);
        peer.frame();
        let (from, mut welcome) = (Identity { level, ..identity(2) }, BytesMut::new());
        wire::encode_hello_reply(&HelloReply { from, refusal: None }, &mut welcome);
        peer.write(&welcome);
        node.link_up();
        let question = Message { body: Body::ReadIndex { token: 7 }, ..heartbeat(1, 2, 1) };
        let messages = [question.clone(), heartbeat(1, 2, 1)];
        node.mailbox.send(&mut messages.map(|message| NetEvent::Send { message }).into());
        let mut heard = || wire::decode_peer(peer.frame(), node_id(1), node_id(2), InstanceId(1)).unwrap();
        if knows {
            assert_eq!(heard(), PeerFrame::Raft(question));
        }
        assert_eq!(heard(), PeerFrame::Raft(heartbeat(1, 2, 1)), "level {level}");
    }
}

#[test]
fn whoever_answers_a_hello_with_something_else_is_no_peer() {
    let stranger = listener();
    let node = Node::start(config(1, listener(), &[(2, stranger.local_addr().unwrap())], quick()));
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"\0\0\0\x03abc", b"\0\0\0\0", &[0xff; 100]] {
        let (mut socket, _) = stranger.accept().unwrap();
        socket.write_all(answer).unwrap();
        node.link_down("its answer to the hello is none");
    }
    let (socket, _) = stranger.accept().unwrap();
    drop(socket);
    node.link_down("");
}
