//! The net thread as others see it: real sockets on loopback at ports of the system's choice, a scripted upstream
//! in place of consensus. Every wait is for an event, with a deadline that fails the test.

mod clients;
mod conversation;
mod hostile;
mod leases;
mod links;
mod stages;
mod turns;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::api::{Error, ErrorCode, Found, Outcome, Reply, Request};
use crate::base::{Moment, Operation, Revision};

/// Longer than anything takes; a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

fn node_id(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn value(value: &Bytes) -> Reply {
    let found =
        Found { value: value.clone().into(), create_revision: Revision(1), mod_revision: Revision(1), version: 1 };
    Reply { result: Ok(Outcome::Value { revision: Revision(1), found: Some(found) }), leader: None }
}

fn put_done() -> Reply {
    Reply { result: Ok(Outcome::Put { revision: Revision(1) }), leader: None }
}

/// A map that answers as a node would: the smallest upstream that tells orders apart.
#[derive(Default)]
struct Store(BTreeMap<Bytes, Bytes>);

impl Store {
    fn answer(&mut self, request: Request) -> Reply {
        let revision = Revision(1);
        let outcome = match request {
            Request::Write(Operation::Put { key, value }) => {
                self.0.insert(key, value);
                Outcome::Put { revision }
            }
            Request::Write(Operation::Delete { key }) => {
                Outcome::Deleted { revision, existed: self.0.remove(&key).is_some() }
            }
            Request::Get { key, .. } => match self.0.get(&key) {
                Some(found) => return value(found),
                None => Outcome::Value { revision, found: None },
            },
            Request::List { prefix, after, limit, .. } => {
                let behind = |key: &Bytes| after.as_ref().is_none_or(|after| key > after);
                let mut keys = self.0.keys().filter(|key| key.starts_with(&prefix) && behind(key)).cloned();
                let page: Vec<Bytes> = keys.by_ref().take(if limit == 0 { usize::MAX } else { limit }).collect();
                Outcome::Keys { revision, keys: page, more: keys.next().is_some() }
            }
            Request::Status | Request::Scrub | Request::Latency => {
                let result = Err(Error::new(ErrorCode::ShuttingDown, "no status in this test"));
                return Reply { result, leader: None };
            }
        };
        Reply { result: Ok(outcome), leader: None }
    }
}

/// A running net thread.
struct Node {
    id: u32,
    address: SocketAddr,
    mailbox: Mailbox,
    counters: Arc<NetCounters>,
    credit: PeerCredit,
    from_net: Receiver<FromNet>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn config(id: u32, listener: TcpListener, peers: &[(u32, SocketAddr)], limits: NetLimits) -> NetConfig {
    NetConfig {
        id: node_id(id),
        instance: InstanceId(u128::from(id)),
        cluster_name: "test".into(),
        cluster: None,
        advertise: listener.local_addr().unwrap().to_string().into(),
        peers: peers.iter().map(|(id, address)| (node_id(*id), address.to_string().into())).collect(),
        listener,
        limits,
        // In the tests of the real loop a part of it runs in each turn.
        spin: Spin::new(Duration::from_micros(100)),
        seed: u64::from(id),
        served: Arc::default(),
        clock: || Moment::ZERO,
        stages: None,
    }
}

impl Node {
    /// What it delivers waits in `from_net`.
    fn start(config: NetConfig) -> Node {
        let (id, address) = (config.id.get(), config.listener.local_addr().unwrap());
        let (to_test, from_net) = unbounded();
        let credit = PeerCredit::default();
        let deliver = Box::new(move |event: FromNet| drop(to_test.send(event)));
        let (net, mailbox) = Net::new(config, deliver, credit.clone()).unwrap();
        let counters = net.counters();
        let thread = Some(thread::spawn(move || net.run()));
        Node { id, address, mailbox, counters, credit, from_net, thread }
    }

    fn alone(limits: NetLimits) -> Node {
        Node::start(config(1, listener(), &[], limits))
    }

    /// Answers everything from a [`Store`] until the node stops.
    fn with_store(limits: NetLimits) -> Node {
        Node::alone(limits).with_answers()
    }

    fn with_answers(self) -> Node {
        let (from_net, mailbox) = (self.from_net.clone(), self.mailbox.clone());
        thread::spawn(move || {
            let mut store = Store::default();
            while let Ok(event) = from_net.recv() {
                let FromNet::Request { origin, request, .. } = event else { continue };
                mailbox.send(&mut vec![NetEvent::Reply { origin, ready: Moment::ZERO, reply: store.answer(request) }]);
            }
        });
        self
    }

    fn send(&self, event: NetEvent) {
        self.mailbox.send(&mut vec![event]);
    }

    /// The next event that `pick` takes; others are passed over.
    fn expect<T>(&self, what: &str, mut pick: impl FnMut(FromNet) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let event = self.from_net.recv_deadline(deadline);
            let event = event.unwrap_or_else(|error| panic!("node {} waits for {what}: {error}", self.id));
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    }

    fn request(&self) -> (Origin, Request) {
        self.expect("a request", |event| match event {
            FromNet::Request { origin, request, .. } => Some((origin, request)),
            _ => None,
        })
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// A round trip through the loop: what was sent to it before has been seen.
    fn assert_alive(&self) {
        assert_eq!(self.connect().ask("PING"), "PONG");
    }

    /// Turns the loop until `reached`; each turn is a round trip on `probe`.
    fn await_count(&self, probe: &mut Client, what: &str, mut reached: impl FnMut(&NetCounters) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !reached(&self.counters) {
            assert!(Instant::now() < deadline, "node {} never came to {what}: {:?}", self.id, self.counters);
            assert_eq!(probe.ask("PING"), "PONG");
        }
    }

    fn stop(&mut self) {
        self.send(NetEvent::Stop);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the net thread panicked").expect("the net thread failed");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// A plain blocking socket; every read has the deadline.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Client(socket)
    }

    fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    fn end(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            match self.exactly(1)[0] {
                b'\n' => return String::from_utf8(line).unwrap(),
                byte => line.push(byte),
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.write(format!("{line}\n"));
        self.line()
    }

    fn frame(&mut self) -> Bytes {
        let length = u32::from_be_bytes(self.exactly(4).try_into().unwrap());
        self.exactly(length as usize).into()
    }

    /// Everything until the other side ends; a reset counts as an end, a deadline does not.
    fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it was not closed");
        }
        bytes
    }

    fn rest_text(&mut self) -> String {
        String::from_utf8(self.rest()).unwrap()
    }
}
