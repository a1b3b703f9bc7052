//! Reads that are answered here while this node holds a lease, in the order of their connection.

use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::smallvec;

use super::*;
use crate::base::Command;
use crate::base::limits::{TURN_CLIENT_BYTES_MAX, TURN_READ_COST_BYTES};

/// A node whose state holds `k = old`, and that holds a lease as long as `clock` shows less than 100.
fn with_lease(clock: fn() -> Moment) -> (Node, Arc<Served>) {
    let served = Arc::new(Served::default());
    let operations = smallvec![Operation::Put { key: "k".into(), value: "old".into() }];
    served.write().store.apply(&Command { operations, ..Command::default() });
    served.publish(Some(Moment(100)));
    let config = config(1, listener(), &[], NetLimits::default());
    (Node::start(NetConfig { served: Arc::clone(&served), clock, ..config }), served)
}

#[test]
fn while_a_lease_is_held_reads_are_answered_without_consensus() {
    let (node, served) = with_lease(|| Moment(99));
    let mut client = node.connect();
    client.write("GET k\nLIST LIMIT 5\nGET none\nGET k\n");
    let answers: Vec<String> = (0..5).map(|_| client.line()).collect();
    assert_eq!(answers, ["old", "k", "END", "(nil)", "old"]);
    assert!(node.from_net.is_empty(), "consensus was asked");
    served.publish(None);
    client.write("GET k\n");
    assert!(matches!(node.request(), (_, Request::Get { .. })));
}

#[test]
fn a_read_by_lease_waits_for_the_writes_before_it_and_a_write_for_no_read() {
    let (node, served) = with_lease(|| Moment(99));
    let mut client = node.connect();
    client.write("GET k\nPUT k new\nGET k\n");
    assert_eq!(client.line(), "old");
    let (origin, request) = node.request();
    assert!(request.is_write());
    node.assert_alive();
    assert!(node.from_net.is_empty(), "the read overtakes the write");
    let operations = smallvec![Operation::Put { key: "k".into(), value: "new".into() }];
    let revision = served.write().store.apply(&Command { operations, ..Command::default() }).revision;
    node.send(NetEvent::Reply {
        origin,
        ready: Moment::ZERO,
        reply: Reply { result: Ok(Outcome::Put { revision }), leader: None },
    });
    assert_eq!((client.line(), client.line()), ("OK".to_string(), "new".to_string()));
}

/// What consensus answers later shows a later state: it must not stand before an earlier one.
#[test]
fn no_read_is_answered_at_once_while_an_earlier_one_is_with_consensus() {
    let (node, served) = with_lease(|| Moment(99));
    served.publish(None);
    let mut client = node.connect();
    client.write("GET k\n");
    let (origin, _) = node.request();
    served.publish(Some(Moment(100)));
    client.write("GET k\n");
    let (second, request) = node.request();
    assert!(matches!(request, Request::Get { .. }) && second.sequence == origin.sequence + 1);
}

/// One connection that asks without end must not keep the others, and the peers, waiting.
#[test]
fn a_flood_of_reads_is_answered_in_many_turns_and_in_order() {
    const READS: usize = 20_000;
    let (node, _) = with_lease(|| Moment(99));
    let mut client = node.connect();
    assert_eq!(client.ask("PING"), "PONG");
    let before = node.counters.turns.load(Ordering::Relaxed);
    let mut writer = Client(client.0.try_clone().unwrap());
    let flood = thread::spawn(move || writer.write("GET k\nGET none\n".repeat(READS / 2)));
    for read in 0..READS {
        assert_eq!(client.line(), ["old", "(nil)"][read % 2], "read {read}");
    }
    flood.join().unwrap();
    let turns = node.counters.turns.load(Ordering::Relaxed) - before;
    assert!(turns as usize >= READS / 2 / (TURN_CLIENT_BYTES_MAX / TURN_READ_COST_BYTES), "{turns} turns");
    assert!(node.from_net.is_empty(), "consensus was asked");
}

static CLOCK: AtomicU64 = AtomicU64::new(0);

#[test]
fn the_clock_is_sampled_anew_for_each_read() {
    let (node, _) = with_lease(|| Moment(CLOCK.fetch_add(60, Ordering::Relaxed)));
    let mut client = node.connect();
    assert_eq!(client.ask("PING"), "PONG");
    CLOCK.store(60, Ordering::Relaxed);
    client.write("GET k\nGET k\n");
    assert_eq!(client.line(), "old");
    assert!(matches!(node.request(), (_, Request::Get { .. })), "the second has come too late for the lease");
}
