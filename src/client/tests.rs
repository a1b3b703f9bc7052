//! The client against small scripted servers: real sockets, the real codecs, answers that a test chooses.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::api;
use crate::api::{Applied, ErrorCode, IfNotLeading, Leader, Outcome, PeerStatus, ReadBy, Reply, Request, Status};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::{LogIndex, NodeId, Operation, Revision, Role, Term};
use crate::wire;

fn id(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

/// What a scripted server does with one request.
enum Act {
    Answer(Result<Outcome, api::Error>),
    /// Answers under another id than it was asked with.
    AnswerAs(u64, Outcome),
    Close,
    /// Never answers; the connection stays.
    Silence,
    Bytes(&'static [u8]),
}

fn put_done() -> Act {
    Act::Answer(Ok(Outcome::Put { revision: Revision(1) }))
}

fn absent() -> Act {
    Act::Answer(Ok(Outcome::Value { revision: Revision(1), found: None }))
}

fn refused(code: ErrorCode) -> Act {
    Act::Answer(Err(api::Error::new(code, "as the script says")))
}

/// A node that answers greetings by itself and everything else as its script says.
#[derive(Clone)]
struct Server {
    id: NodeId,
    address: String,
    state: Arc<Mutex<State>>,
}

struct State {
    leader: Option<Leader>,
    peers: Vec<PeerStatus>,
    asked: Vec<Request>,
    /// Of what was asked.
    if_not_leading: Vec<IfNotLeading>,
    connections: Vec<TcpStream>,
}

impl Server {
    fn start(number: u32, script: impl FnMut(usize, &Request) -> Act + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State { leader: None, peers: vec![], asked: vec![], if_not_leading: vec![], connections: vec![] };
        let server = Server { id: id(number), address, state: Arc::new(Mutex::new(state)) };
        let (shared, script) = (server.clone(), Arc::new(Mutex::new(script)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, server, script) = (stream.unwrap(), shared.clone(), script.clone());
                server.state.lock().unwrap().connections.push(stream.try_clone().unwrap());
                std::thread::spawn(move || {
                    server.serve(stream, &mut |at, request| script.lock().unwrap()(at, request))
                });
            }
        });
        server
    }

    fn led_by(self, leader: &Server) -> Server {
        self.set_leader(leader.as_leader());
        self
    }

    fn set_leader(&self, leader: Leader) {
        self.state.lock().unwrap().leader = Some(leader);
    }

    fn as_leader(&self) -> Leader {
        Leader { id: self.id, address: self.address.as_str().into() }
    }

    fn knows(self, peer: &Server) -> Server {
        let address = peer.address.as_str().into();
        let peer = PeerStatus { id: peer.id, address, down_because: String::new(), matched: None, counted: true };
        self.state.lock().unwrap().peers.push(peer);
        self
    }

    /// Everything asked but greetings, in order.
    fn asked(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }

    fn hang_up(&self) {
        for connection in self.state.lock().unwrap().connections.drain(..) {
            connection.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    fn status(&self) -> Status {
        let state = self.state.lock().unwrap();
        let leads = state.leader.as_ref().is_some_and(|leader| leader.id == self.id);
        Status {
            id: self.id,
            cluster: "test".into(),
            role: if leads { Role::Leader } else { Role::Follower },
            term: Term(3),
            leader: state.leader.clone(),
            commit: LogIndex(1),
            applied: LogIndex(1),
            last: LogIndex(1),
            revision: Revision(1),
            keys: 0,
            digest: 0,
            peers: state.peers.clone(),
            version: "test".into(),
            problems: Vec::new(),
            scrub: Default::default(),
            uptime: Duration::from_secs(1),
            holds_lease: false,
        }
    }

    /// Until the client goes, or the script says so.
    fn serve(&self, mut stream: TcpStream, script: &mut dyn FnMut(usize, &Request) -> Act) -> Option<()> {
        let mut incoming = BytesMut::new();
        loop {
            let frame = next_frame(&mut stream, &mut incoming)?;
            let asked = wire::decode_request(frame).unwrap();
            let request = asked.request.unwrap();
            let act = match request {
                Request::Status => Act::Answer(Ok(Outcome::Status(Box::new(self.status())))),
                request => {
                    let at = self.asked();
                    let mut state = self.state.lock().unwrap();
                    state.asked.push(request.clone());
                    state.if_not_leading.push(asked.if_not_leading);
                    drop(state);
                    script(at, &request)
                }
            };
            let (answer_id, result) = match act {
                Act::Answer(result) => (asked.id, result),
                Act::AnswerAs(id, outcome) => (id, Ok(outcome)),
                Act::Close => return stream.shutdown(std::net::Shutdown::Both).ok(),
                Act::Silence => continue,
                Act::Bytes(bytes) => {
                    stream.write_all(bytes).ok()?;
                    continue;
                }
            };
            let reply = Reply { result, leader: self.state.lock().unwrap().leader.clone() };
            let mut out = BytesMut::new();
            wire::encode_reply(answer_id, asked.style, &reply, self.id, &mut out);
            stream.write_all(&out).ok()?;
        }
    }
}

fn next_frame(stream: &mut TcpStream, incoming: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(frame) = wire::take_frame(incoming, FRAME_BYTES_MAX).unwrap() {
            return Some(frame);
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => incoming.extend_from_slice(&buffer[..read]),
        }
    }
}

/// An address at which nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn client(addresses: &[&str], timeout_ms: u64) -> Client {
    let settings = ClientSettings {
        timeout: Duration::from_millis(timeout_ms),
        dial_timeout: Duration::from_millis(timeout_ms.min(1000)),
        ..ClientSettings::default()
    };
    Client::new(addresses.iter().map(ToString::to_string).collect(), settings)
}

#[test]
fn the_client_moves_to_the_leader_that_an_answer_names() {
    let leader = Server::start(2, |_, _| put_done());
    let leader = leader.clone().led_by(&leader);
    let follower = Server::start(1, |_, _| put_done()).led_by(&leader);
    let mut client = client(&[&follower.address], 5000);
    for _ in 0..3 {
        client.put("k", "v").unwrap();
    }
    assert_eq!((follower.asked(), leader.asked()), (1, 2));
    assert_eq!(client.server(), Some((leader.address.as_str(), Some(id(2)))));
}

#[test]
fn a_client_whose_reads_any_node_may_answer_stays_where_it_is() {
    let leader = Server::start(1, |_, _| put_done());
    let follower = Server::start(2, |_, request| if request.is_write() { put_done() } else { absent() });
    let follower = follower.led_by(&leader).knows(&leader);
    let mut client = client(&[&follower.address], 5000);
    client.set_read_by(ReadBy::Any);
    assert_eq!(client.get("k").unwrap(), None);
    client.put("k", "v").unwrap();
    assert_eq!(client.get("k").unwrap(), None);
    assert_eq!((follower.asked(), leader.asked()), (3, 0));
    let if_not_leading = follower.state.lock().unwrap().if_not_leading.clone();
    assert_eq!(if_not_leading, [IfNotLeading::Read, IfNotLeading::Forward, IfNotLeading::Read]);
}

#[test]
fn a_leader_that_cannot_be_dialed_leaves_the_client_where_it_is() {
    let follower = Server::start(1, |_, _| put_done());
    follower.set_leader(Leader { id: id(2), address: nobody().into() });
    let mut client = client(&[&follower.address], 5000);
    for _ in 0..3 {
        client.put("k", "v").unwrap();
    }
    assert_eq!(follower.asked(), 3);
}

#[test]
fn a_leader_known_by_another_address_is_not_dialed_again() {
    let server = Server::start(1, |_, _| put_done());
    server.set_leader(Leader { id: id(1), address: nobody().into() });
    let mut client = client(&[&server.address], 5000);
    client.put("k", "v").unwrap();
    client.put("k", "v").unwrap();
    assert_eq!(server.state.lock().unwrap().connections.len(), 1);
}

#[test]
fn a_write_whose_connection_broke_is_unknown_and_not_resent() {
    let other = Server::start(2, |_, _| put_done());
    let server = Server::start(1, |_, _| Act::Close).knows(&other);
    let error = client(&[&server.address], 5000).put("k", "v").unwrap_err();
    assert!(matches!(&error, Error::OutcomeUnknown { address, .. } if *address == server.address), "{error}");
    assert_eq!(error.applied(), Applied::Maybe);
    assert_eq!((server.asked(), other.asked()), (1, 0));
}

#[test]
fn a_write_that_is_not_answered_in_time_is_unknown_and_not_resent() {
    let other = Server::start(2, |_, _| put_done());
    let server = Server::start(1, |_, _| Act::Silence).knows(&other);
    let error = client(&[&server.address], 200).put("k", "v").unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert_eq!((server.asked(), other.asked()), (1, 0));
}

#[test]
fn an_answer_of_unknown_outcome_is_not_resent() {
    let server = Server::start(1, |_, _| refused(ErrorCode::OutcomeUnknown));
    let error = client(&[&server.address], 5000).delete("k").unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert_eq!(server.asked(), 1);
}

#[test]
fn a_write_on_a_connection_that_the_server_has_closed_goes_elsewhere_before_it_is_sent() {
    let other = Server::start(2, |_, _| put_done());
    let server = Server::start(1, |_, _| put_done()).knows(&other);
    let mut client = client(&[&server.address], 5000);
    client.put("k", "1").unwrap();
    server.hang_up();
    client.put("k", "2").unwrap();
    assert_eq!(server.asked() + other.asked(), 2);
}

#[test]
fn a_read_whose_connection_broke_is_asked_elsewhere_at_an_address_that_was_learned() {
    let other = Server::start(2, |_, _| absent());
    let server = Server::start(1, |_, _| Act::Close).knows(&other);
    let mut client = client(&[&server.address], 5000);
    assert_eq!(client.get("k"), Ok(None));
    assert_eq!((server.asked(), other.asked()), (1, 1));
}

#[test]
fn a_node_that_hangs_does_not_cost_a_read_its_whole_time() {
    let other = Server::start(2, |_, _| absent());
    let server = Server::start(1, |_, _| Act::Silence).knows(&other);
    assert_eq!(client(&[&server.address], 2000).get("k"), Ok(None));
    assert_eq!((server.asked(), other.asked()), (1, 1));
}

#[test]
fn what_is_certainly_not_applied_and_worth_it_is_tried_again() {
    for code in [ErrorCode::Busy, ErrorCode::NoLeader, ErrorCode::ShuttingDown] {
        let server = Server::start(1, move |at, _| if at < 3 { refused(code) } else { put_done() });
        client(&[&server.address], 5000).put("k", "v").unwrap();
        assert_eq!(server.asked(), 4, "{code}");
    }
}

#[test]
fn what_is_not_worth_it_is_not_tried_again() {
    let server = Server::start(1, |_, _| refused(ErrorCode::BadArguments));
    let error = client(&[&server.address], 5000).put("k", "v").unwrap_err();
    assert!(matches!(&error, Error::Refused(error) if error.code == ErrorCode::BadArguments), "{error}");
    assert_eq!(server.asked(), 1);
}

#[test]
fn a_request_that_no_node_would_take_is_not_sent() {
    let mut client = client(&[&nobody()], 5000);
    let error = client.put("", "v").unwrap_err();
    assert_eq!(error.code(), "bad_arguments");
}

#[test]
fn retries_end_with_the_time_and_say_what_went_wrong_last() {
    let server = Server::start(1, |_, _| refused(ErrorCode::NoLeader));
    let error = client(&[&server.address], 100).put("k", "v").unwrap_err();
    assert_eq!(error.code(), "no_leader");
    let (a, b) = (nobody(), nobody());
    match client(&[&a, &b], 100).put("k", "v").unwrap_err() {
        Error::Unreachable { tried } => {
            assert_eq!(tried.iter().map(|tried| &tried.address).collect::<Vec<_>>(), [&a, &b]);
            assert!(tried.iter().all(|tried| tried.why == "connection refused"), "{tried:?}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_write_waits_until_a_server_is_there() {
    let address = nobody();
    let (to_test, done) = mpsc::channel();
    let asked = address.clone();
    std::thread::spawn(move || to_test.send(client(&[&asked], 10_000).put("k", "v")));
    assert!(done.recv_timeout(Duration::from_millis(50)).is_err(), "it must not give up yet");
    let listener = TcpListener::bind(&address).unwrap();
    let state = State { leader: None, peers: vec![], asked: vec![], if_not_leading: vec![], connections: vec![] };
    let server = Server { id: id(1), address, state: Arc::new(Mutex::new(state)) };
    let (stream, _) = listener.accept().unwrap();
    std::thread::spawn(move || server.serve(stream, &mut |_, _| put_done()));
    done.recv().unwrap().unwrap();
}

#[test]
fn an_answer_to_another_request_ends_the_connection() {
    let wrong = || Act::AnswerAs(77, Outcome::Put { revision: Revision(1) });
    let server = Server::start(1, move |at, _| if at == 0 { wrong() } else { put_done() });
    let mut client = client(&[&server.address], 5000);
    assert!(matches!(client.put("k", "v"), Err(Error::OutcomeUnknown { .. })));
    client.put("k", "v").unwrap();
    assert_eq!(server.state.lock().unwrap().connections.len(), 2);
}

#[test]
fn what_does_not_speak_as_raftkv_does_is_said() {
    let server = Server::start(1, |_, _| Act::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let error = client(&[&server.address], 5000).get("k").unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
}

#[test]
fn a_raised_flag_ends_a_wait() {
    let flag = Arc::new(AtomicBool::new(false));
    let raise = flag.clone();
    let server = Server::start(1, move |_, _| {
        raise.store(true, Ordering::Relaxed);
        Act::Silence
    });
    let settings = ClientSettings {
        timeout: Duration::from_secs(600),
        interrupt: Some(flag.clone()),
        ..ClientSettings::default()
    };
    let mut client = Client::new(vec![server.address.clone()], settings);
    assert_eq!(client.get("k"), Err(Error::Interrupted));
    flag.store(false, Ordering::Relaxed);
    assert!(matches!(client.put("k", "v"), Err(Error::OutcomeUnknown { .. })));
}

#[test]
fn a_listing_is_asked_page_by_page_to_its_limit() {
    let server = Server::start(1, |_, request| {
        let Request::List { after, limit, .. } = request else { return Act::Close };
        let first = after.as_ref().map_or(0, |after| str::from_utf8(after).unwrap().parse::<u32>().unwrap() + 1);
        let keys: Vec<Bytes> = (first..2500).take(*limit).map(|key| Bytes::from(format!("{key:04}"))).collect();
        let more = keys.last().is_some_and(|key| key != "2499");
        Act::Answer(Ok(Outcome::Keys { revision: Revision(1), keys, more }))
    });
    let mut client = client(&[&server.address], 5000);
    let mut pages =
        |limit| -> Vec<usize> { client.list_all("", None, limit).map(|page| page.unwrap().keys.len()).collect() };
    assert_eq!(pages(None), [1000, 1000, 500]);
    assert_eq!(pages(Some(1001)), [1000, 1]);
}

#[test]
fn a_census_finds_all_nodes_from_one_each_once_and_says_who_is_silent() {
    let leader = Server::start(2, |_, _| Act::Close);
    let leader = leader.clone().led_by(&leader);
    let follower = Server::start(1, |_, _| Act::Close).led_by(&leader).knows(&leader);
    let silent = Server { id: id(3), address: nobody(), state: follower.state.clone() };
    let follower = follower.knows(&silent);
    let by_name = follower.address.replace("127.0.0.1", "localhost");
    let mut client = client(&[&follower.address, &by_name], 5000);
    let census = client.census();
    let seen: Vec<_> = census.nodes.iter().map(|seen| (seen.id, seen.status.is_ok())).collect();
    assert_eq!(seen, [(Some(id(1)), true), (Some(id(2)), true), (Some(id(3)), false)]);
    assert_eq!(census.leader().unwrap().address, leader.address);
}

#[test]
fn many_requests_may_be_under_way_on_one_connection() {
    let server = Server::start(1, |at, _| Act::Answer(Ok(Outcome::Put { revision: Revision(at as u64) })));
    let patience = Patience::until(Instant::now() + Duration::from_secs(60));
    let mut connection = Connection::dial(&server.address, patience).unwrap();
    let put = Request::Write(Operation::Put { key: "k".into(), value: "v".into() });
    let ids: Vec<u64> = (0..100).map(|_| connection.queue(&put, IfNotLeading::Forward)).collect();
    connection.flush(patience).unwrap();
    for (at, id) in ids.into_iter().enumerate() {
        let (answered, reply) = connection.receive(patience).unwrap();
        assert_eq!(answered, id);
        assert_eq!(reply.result, Ok(Outcome::Put { revision: Revision(at as u64) }));
    }
    assert_eq!(connection.waiting(), 0);
}

#[test]
fn a_wait_for_an_answer_ends_at_its_deadline_although_bytes_trickle_in() {
    let server = Server::start(1, |_, _| Act::Bytes(b"\x00\x00\x00\x7f"));
    let start = Instant::now();
    let patience = Patience::until(start + Duration::from_millis(100));
    let mut connection = Connection::dial(&server.address, patience).unwrap();
    connection.queue(&Request::Get { key: "k".into(), revision: None }, IfNotLeading::Forward);
    connection.flush(patience).unwrap();
    assert_eq!(connection.receive(patience).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(100));
}
