//! Clients over real sockets: every protocol, half-closed ends, one turn at a time, the end of the node.

use bytes::BytesMut;

use super::*;
use crate::api::{IfNotLeading, Leader};
use crate::base::limits::VALUE_BYTES_MAX;
use crate::wire;

/// Every budget at its least: each turn does one thing, and whatever is left must come back by itself.
fn least() -> NetLimits {
    NetLimits {
        read_chunk_bytes: 1,
        turn_reads_max: 1,
        turn_connections_max: 1,
        turn_client_bytes_max: 1,
        turn_connection_bytes_max: 1,
        turn_peer_bytes_max: 1,
        turn_accepts_max: 1,
        turn_events_max: 1,
        encoded_bytes_target: 1,
        page_keys: 1,
        ..NetLimits::default()
    }
}

#[test]
fn lines_and_frames_are_served_on_one_port() {
    let node = Node::with_store(NetLimits { page_keys: 2, ..NetLimits::default() });
    let mut lines = node.connect();
    assert_eq!(lines.ask("PUT a 1 2"), "OK");
    assert_eq!(lines.ask("get a"), "1 2");
    let mut frames = node.connect();
    let mut bytes = BytesMut::new();
    for key in ["b", "c", "d", "e"] {
        let put = Operation::Put { key: key.into(), value: key.into() };
        wire::encode_request(1, &Request::Write(put), IfNotLeading::Forward, &mut bytes);
    }
    wire::encode_request(5, &Request::Get { key: "a".into(), revision: None }, IfNotLeading::Forward, &mut bytes);
    frames.write(&bytes);
    for _ in 0..4 {
        assert_eq!(wire::decode_reply(frames.frame()).unwrap(), (1, put_done()));
    }
    assert_eq!(wire::decode_reply(frames.frame()).unwrap(), (5, value(&"1 2".into())));
    lines.write("LIST\nHELP\nQUIT\n");
    assert_eq!([(); 6].map(|()| lines.line()), ["a", "b", "c", "d", "e", "END"]);
    assert_eq!(lines.rest_text(), wire::HELP);
}

/// So the README says; what consensus answers, `replica` tests.
#[test]
fn what_is_refused_at_the_door_names_no_leader() {
    let node = Node::alone(NetLimits { requests_max: 1, ..NetLimits::default() });
    let (mut client, mut bytes) = (node.connect(), BytesMut::new());
    let large = Operation::Put { key: "a".into(), value: vec![0; VALUE_BYTES_MAX + 1].into() };
    let get = Request::Get { key: "a".into(), revision: None };
    for (id, request) in [(1, &Request::Write(large)), (2, &get), (3, &get)] {
        wire::encode_request(id, request, IfNotLeading::Forward, &mut bytes);
    }
    client.write(&bytes);
    let (origin, _) = node.request();
    let leader = Leader { id: node_id(2), address: "somewhere:1".into() };
    let done = Reply { leader: Some(leader), ..value(&"1".into()) };
    node.send(NetEvent::Reply { origin, ready: Moment::ZERO, reply: done.clone() });
    for (id, code) in [(1, Some(ErrorCode::ValueTooLarge)), (2, None), (3, Some(ErrorCode::Busy))] {
        let (answered, reply) = wire::decode_reply(client.frame()).unwrap();
        assert_eq!((answered, reply.result.err().map(|error| error.code)), (id, code));
        assert_eq!(reply.leader, done.leader.clone().filter(|_| code.is_none()));
    }
    let readme = include_str!("../../../README.md");
    assert!(
        readme
            .contains("(malformed, too large, `busy` for want of a connection or of room for a request) names neither")
    );
}

#[test]
fn a_client_that_ends_its_input_gets_every_answer_and_then_the_end() {
    let node = Node::with_store(NetLimits::default());
    let mut client = node.connect();
    client.write("PUT a 1\nGET a\nDELETE a\nGET a");
    client.end();
    assert_eq!(client.rest_text(), "OK\n1\nOK\n(nil)\n");
}

#[test]
fn a_client_that_says_nothing_and_ends_is_forgotten() {
    let node = Node::with_store(NetLimits::default());
    let mut client = node.connect();
    client.end();
    assert_eq!(client.rest_text(), "");
    assert_eq!(node.counters.closed(CloseReason::Finished), 1);
}

#[test]
fn no_input_is_forgotten_when_each_turn_does_one_thing() {
    let node = Node::with_store(least());
    let mut clients: Vec<Client> = (0..8).map(|_| node.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let script: String = (0..20).map(|i| format!("PUT {n}.{i} {i}\nGET {n}.{i}\n")).collect();
        client.write(script + &format!("LIST {n}.1\n"));
        client.end();
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let answers: String = (0..20).map(|i| format!("OK\n{i}\n")).collect();
        let listed: String = [1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19].map(|i| format!("{n}.{i}\n")).concat();
        assert_eq!(client.rest_text(), answers + &listed + "END\n", "client {n}");
    }
}

#[test]
fn a_value_passes_through_socket_buffers_that_are_much_smaller() {
    let node = Node::with_store(NetLimits { read_chunk_bytes: 777, ..NetLimits::default() });
    let mut client = node.connect();
    socket2::SockRef::from(&client.0).set_recv_buffer_size(1).unwrap();
    socket2::SockRef::from(&client.0).set_send_buffer_size(1).unwrap();
    let large = "x".repeat(20_000);
    assert_eq!(client.ask(&format!("PUT a {large}")), "OK");
    client.write("GET a\nGET a\nQUIT\n");
    assert!(client.rest_text() == format!("{large}\n{large}\n"));
}

/// Each turn reads or writes a byte, and neither side's system takes more than a few at once.
#[test]
fn nothing_is_lost_with_a_budget_of_one_and_buffers_that_hold_little_when_the_client_ends_its_input() {
    let (clients, rounds) = (3, 4);
    let port = listener();
    // What it accepts takes these over.
    socket2::SockRef::from(&port).set_recv_buffer_size(1).unwrap();
    socket2::SockRef::from(&port).set_send_buffer_size(1).unwrap();
    let node = Node::start(config(1, port, &[], least())).with_answers();
    let asking: Vec<_> = (0..clients)
        .map(|n: usize| {
            let mut client = node.connect();
            socket2::SockRef::from(&client.0).set_recv_buffer_size(1).unwrap();
            socket2::SockRef::from(&client.0).set_send_buffer_size(1).unwrap();
            let mut writer = Client(client.0.try_clone().unwrap());
            let large = n.to_string().repeat(6_000);
            let script = format!("PUT {n} {large}\nGET {n}\n").repeat(rounds);
            let writing = thread::spawn(move || {
                writer.write(script);
                writer.end();
            });
            thread::spawn(move || {
                let answers = client.rest_text();
                writing.join().unwrap();
                assert!(answers == format!("OK\n{large}\n").repeat(rounds), "client {n}: {} bytes", answers.len());
            })
        })
        .collect();
    asking.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn an_answer_that_comes_long_after_the_client_ended_its_input_still_reaches_it() {
    let node = Node::alone(NetLimits::default());
    let (mut client, mut probe) = (node.connect(), node.connect());
    client.write("GET a\nGET b\n");
    client.end();
    let [a, b] = [node.request().0, node.request().0];
    // The end of its input has been seen, and is no reason to close.
    for _ in 0..10 {
        assert_eq!(probe.ask("PING"), "PONG");
    }
    assert_eq!(node.counters.open.load(std::sync::atomic::Ordering::Relaxed), 2);
    node.send(NetEvent::Reply { origin: b, ready: Moment::ZERO, reply: value(&"second".into()) });
    node.send(NetEvent::Reply { origin: a, ready: Moment::ZERO, reply: value(&"first".into()) });
    assert_eq!(client.rest_text(), "first\nsecond\n");
    node.await_count(&mut probe, "its end", |counters| counters.closed(CloseReason::Finished) == 1);
}

#[test]
fn an_answer_for_a_closed_connection_never_reaches_the_next_one_in_its_slot() {
    let node = Node::alone(NetLimits::default());
    let (mut gone, mut probe) = (node.connect(), node.connect());
    gone.write("GET old\n");
    let (old, _) = node.request();
    assert_eq!(probe.ask("PING"), "PONG");
    socket2::SockRef::from(&gone.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(gone);
    node.await_count(&mut probe, "a reset", |counters| counters.closed(CloseReason::Broken) == 1);
    let mut next = node.connect();
    next.write("GET new\n");
    let (new, _) = node.request();
    assert_eq!((old.connection.slot, old.sequence), (new.connection.slot, new.sequence));
    node.send(NetEvent::Reply { origin: old, ready: Moment::ZERO, reply: value(&"old".into()) });
    node.send(NetEvent::Reply { origin: new, ready: Moment::ZERO, reply: value(&"new".into()) });
    next.end();
    assert_eq!(next.rest_text(), "new\n");
}

#[test]
fn a_request_counts_until_it_is_answered_even_if_its_connection_is_gone() {
    let node = Node::alone(NetLimits { requests_max: 1, ..NetLimits::default() });
    let (mut gone, mut next) = (node.connect(), node.connect());
    gone.write("GET a\n");
    let (origin, _) = node.request();
    socket2::SockRef::from(&gone.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(gone);
    node.await_count(&mut next, "a reset", |counters| counters.closed(CloseReason::Broken) == 1);
    assert!(next.ask("GET b").starts_with("ERR busy "));
    node.send(NetEvent::Reply { origin, ready: Moment::ZERO, reply: value(&"1".into()) });
    next.write("PING\nGET c\n");
    assert_eq!(next.line(), "PONG");
    assert_eq!(node.request().1, Request::Get { key: "c".into(), revision: None });
}

#[test]
fn at_the_bound_of_connections_accepting_pauses_until_one_closes() {
    let node = Node::with_store(NetLimits { connections_max: 2, ..NetLimits::default() });
    let (mut first, mut second) = (node.connect(), node.connect());
    assert_eq!((first.ask("PING"), second.ask("PING")), ("PONG".into(), "PONG".into()));
    let mut third = node.connect();
    third.write("PING\n");
    let turns = node.counters.turns.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..50 {
        assert_eq!(second.ask("PING"), "PONG");
    }
    let spent = node.counters.turns.load(std::sync::atomic::Ordering::Relaxed) - turns;
    assert!(spent < 500, "{spent} turns for 50 requests: it spins");
    assert_eq!(node.counters.accepted.load(std::sync::atomic::Ordering::Relaxed), 2);
    drop(first);
    assert_eq!(third.line(), "PONG");
}

#[test]
fn the_end_of_the_node_writes_what_is_answered_and_closes_the_rest() {
    let mut node = Node::alone(NetLimits::default());
    let (mut answered, mut waiting) = (node.connect(), node.connect());
    answered.write("GET a\n");
    let (origin, _) = node.request();
    waiting.write("GET b\n");
    node.request();
    let large = Bytes::from(vec![b'x'; 1_000_000]);
    let reply = NetEvent::Reply { origin, ready: Moment::ZERO, reply: value(&large) };
    node.mailbox.send(&mut vec![reply, NetEvent::Stop]);
    assert_eq!(answered.rest().len(), large.len() + 1);
    assert_eq!(waiting.rest(), b"");
    node.stop();
    assert!(TcpStream::connect(node.address).is_err(), "the port is free");
}
