//! What net measures, and how it tells all that is measured.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;

use super::*;
use crate::api::{IfNotLeading, Latency};
use crate::base::Stage;
use crate::net::Stages;
use crate::wire;

/// A clock that a look moves on by a millisecond: it tells how often it was looked at. A macro, since a clock is a
/// plain function, and each test has one of its own.
macro_rules! clock {
    ($looks:ident) => {{
        fn clock() -> Moment {
            Moment(1_000_000 * (1 + $looks.fetch_add(1, Ordering::Relaxed)))
        }
        clock
    }};
}

fn measuring(clock: fn() -> Moment, limits: NetLimits) -> (Node, Arc<Stages>) {
    let stages = Arc::new(Stages::new(clock));
    let config = NetConfig { stages: Some(stages.clone()), ..config(1, listener(), &[], limits) };
    (Node::start(config), stages)
}

fn count(stages: &Stages, stage: Stage) -> u64 {
    let latency = stages.latency(node_id(1));
    latency.stages.iter().find(|said| said.stage == stage).map_or(0, |said| said.total.count)
}

#[test]
fn each_request_is_measured_to_where_it_is_handed_on_and_each_answer_to_its_socket() {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    let (node, stages) = measuring(clock!(LOOKS), NetLimits::default());
    let mut client = node.connect();
    client.write("PUT a 1\nPUT b 2\nPING\n");
    let requests = [(); 2].map(|()| {
        node.expect("a request", |event| match event {
            FromNet::Request { origin, handed_on, .. } => Some((origin, handed_on)),
            _ => None,
        })
    });
    assert!(requests.iter().all(|(_, handed_on)| *handed_on > Moment::ZERO), "{requests:?}");
    let ready = stages.now();
    let reply = |(origin, _): (Origin, Moment)| NetEvent::Reply { origin, ready, reply: put_done() };
    node.mailbox.send(&mut requests.map(reply).into());
    assert_eq!([(); 3].map(|()| client.line()), ["OK", "OK", "PONG"]);
    // The turn that wrote them has ended.
    node.assert_alive();
    assert_eq!((count(&stages, Stage::Decode), count(&stages, Stage::ApplyToReply)), (2, 2));
    let said = stages.latency(node_id(1)).stages;
    let replied = said.iter().find(|said| said.stage == Stage::ApplyToReply).unwrap();
    assert!(replied.total.p50 >= Duration::from_millis(1), "the clock was looked at in between: {replied:?}");
}

#[test]
fn however_often_latencies_are_asked_for_they_are_put_together_once_a_turn() {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    let (node, stages) = measuring(clock!(LOOKS), NetLimits { requests_max: 50, ..NetLimits::default() });
    stages.record(Stage::Fsync, stages.now(), Duration::from_millis(3), 7);
    let (asked, mut bytes) = (1000, BytesMut::new());
    (0..asked).for_each(|id| wire::encode_request(id, &Request::Latency, IfNotLeading::Forward, &mut bytes));
    let before = (LOOKS.load(Ordering::Relaxed), node.counters.turns.load(Ordering::Relaxed));
    let mut client = node.connect();
    client.write(&bytes);
    for id in 0..asked {
        let (answered, reply) = wire::decode_reply(client.frame()).unwrap();
        assert_eq!(answered, id);
        match reply.result {
            Ok(Outcome::Latency(latency)) => {
                let said = latency.stages.iter().find(|said| said.stage == Stage::Fsync).unwrap();
                assert_eq!((latency.id, said.total.count), (node_id(1), 7));
            }
            // They count among the requests like any others.
            Err(error) => assert_eq!(error.code, ErrorCode::Busy),
            other => panic!("{other:?}"),
        }
    }
    node.assert_alive();
    let looks = LOOKS.load(Ordering::Relaxed) - before.0;
    let turns = node.counters.turns.load(Ordering::Relaxed) - before.1;
    // One to hand on what is asked, and one to tell.
    assert!(looks <= 2 * turns, "{looks} looks in {turns} turns");
    let mut lines = node.connect();
    assert_eq!(lines.ask("STATUS LATENCY"), "id: 1");
    assert!((0..).map(|_| lines.line()).any(|line| line.starts_with("fsync, total: count 7, p50 3.0 ms, ")));
    assert!(node.from_net.is_empty(), "consensus is not asked");
}

#[test]
fn a_node_that_does_not_measure_says_so_and_marks_no_request() {
    let node = Node::alone(NetLimits::default());
    let (mut client, mut bytes) = (node.connect(), BytesMut::new());
    wire::encode_request(3, &Request::Latency, IfNotLeading::Forward, &mut bytes);
    wire::encode_request(4, &Request::Get { key: "a".into(), revision: None }, IfNotLeading::Forward, &mut bytes);
    client.write(&bytes);
    let none = Outcome::Latency(Box::new(Latency { id: node_id(1), stages: Vec::new() }));
    assert_eq!(wire::decode_reply(client.frame()).unwrap(), (3, Reply { result: Ok(none), leader: None }));
    let handed_on = node.expect("a request", |event| match event {
        FromNet::Request { handed_on, .. } => Some(handed_on),
        _ => None,
    });
    assert_eq!(handed_on, Moment::ZERO);
}
