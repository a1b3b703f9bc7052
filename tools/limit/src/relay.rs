//! The bare relay: the least that a replicated write can cost on three processes of one machine.
//!
//! A request is a line. The leader forwards what has come to two followers; all three write it to a file that was
//! written and synced before, and sync it; the leader answers `OK` when two of the three have. No consensus, no
//! encoding, no checksum: what is there goes in one write, through the page cache. A follower is one thread; the leader
//! has a second one for its disk.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::connection::Connection;
use crate::sync::Preallocated;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// A follower takes so many bytes into one write.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Writes and syncs whatever has come, and says how many bytes are durable so far: 8 bytes, big-endian.
pub fn follow(listener: &TcpListener, file: &Path) -> io::Result<()> {
    let mut log = Preallocated::create(file)?;
    let (mut leader, _) = listener.accept()?;
    leader.set_nodelay(true)?;
    let mut buffer = vec![0; BATCH_BYTES_MAX];
    let mut durable = 0_u64;
    loop {
        let read = leader.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        log.append(&buffer[..read])?;
        durable += read as u64;
        leader.write_all(&durable.to_be_bytes())?;
    }
}

pub fn lead(listener: TcpListener, followers: &[SocketAddr], file: &Path) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections = Vec::new();
    for address in followers {
        let stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        connections.push(Some(Connection::new(stream, poll.registry(), Token(connections.len()))?));
    }
    let own = Arc::new(AtomicU64::new(0));
    let waker = Waker::new(poll.registry(), WAKER)?;
    let (to_disk, inbox) = crossbeam_channel::unbounded();
    let (log, durable) = (Preallocated::create(file)?, Arc::clone(&own));
    std::thread::spawn(move || persist(&inbox, log, &durable, &waker));
    let leader = Leader {
        followers: followers.len(),
        durable: vec![0; followers.len()],
        own,
        to_disk,
        connections,
        received: 0,
        batch: Vec::new(),
        waiting: VecDeque::new(),
        touched: Vec::new(),
    };
    leader.run(poll, &listener)
}

/// The leader's disk. A failure ends the process: nothing is measured without it.
fn persist(inbox: &Receiver<Arc<[u8]>>, mut log: Preallocated, durable: &AtomicU64, waker: &Waker) {
    while let Ok(first) = inbox.recv() {
        let mut bytes = first.to_vec();
        inbox.try_iter().for_each(|more| bytes.extend_from_slice(&more));
        if let Err(error) = log.append(&bytes).and_then(|()| {
            durable.fetch_add(bytes.len() as u64, Ordering::Release);
            waker.wake()
        }) {
            eprintln!("limit: the relay's disk: {error}");
            std::process::exit(1);
        }
    }
}

struct Leader {
    /// The first so many connections.
    followers: usize,
    /// Bytes that each follower has made durable.
    durable: Vec<u64>,
    own: Arc<AtomicU64>,
    to_disk: Sender<Arc<[u8]>>,
    connections: Vec<Option<Connection>>,
    /// Bytes of whole requests so far.
    received: u64,
    batch: Vec<u8>,
    /// Where each request ends, and whose it is.
    waiting: VecDeque<(u64, usize)>,
    touched: Vec<usize>,
}

impl Leader {
    fn run(mut self, mut poll: Poll, listener: &mio::net::TcpListener) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            poll.poll(&mut events, None)?;
            for event in &events {
                match event.token() {
                    LISTENER => Connection::accept_all(listener, poll.registry(), &mut self.connections)?,
                    WAKER => {}
                    Token(at) => self.on_event(at)?,
                }
            }
            self.forward()?;
            self.answer();
        }
    }

    fn on_event(&mut self, at: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[at] else { return Ok(()) };
        let is_open = connection.read().and_then(|is_open| connection.flush().map(|()| is_open));
        if at < self.followers {
            let acks = connection.incoming.chunks_exact(8);
            if let Some(last) = acks.last() {
                self.durable[at] = u64::from_be_bytes(last.try_into().expect("a chunk of 8 bytes"));
            }
            let whole = connection.incoming.len() / 8 * 8;
            connection.incoming.drain(..whole);
            return is_open.and_then(|is_open| if is_open { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
        }
        let mut start = 0;
        while let Some(length) = connection.incoming[start..].iter().position(|byte| *byte == b'\n') {
            let end = start + length + 1;
            self.batch.extend_from_slice(&connection.incoming[start..end]);
            self.waiting.push_back((self.received + self.batch.len() as u64, at));
            start = end;
        }
        connection.incoming.drain(..start);
        if !is_open.unwrap_or(false) {
            self.connections[at] = None;
        }
        Ok(())
    }

    /// All that this turn brought goes in one write each: to the followers, and to the disk.
    fn forward(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.received += self.batch.len() as u64;
        for follower in self.connections[..self.followers].iter_mut().flatten() {
            follower.outgoing.extend_from_slice(&self.batch);
            follower.flush()?;
        }
        let batch: Arc<[u8]> = self.batch.as_slice().into();
        self.batch.clear();
        self.to_disk.send(batch).map_err(|_| io::Error::other("the disk's thread is gone"))
    }

    /// Durable on most of the three.
    fn answer(&mut self) {
        let mut durable = self.durable.clone();
        durable.push(self.own.load(Ordering::Acquire));
        durable.sort_unstable();
        let by_most = durable[durable.len() - 1 - durable.len() / 2];
        let durable = self.waiting.partition_point(|(end, _)| *end <= by_most);
        for (_, at) in self.waiting.drain(..durable) {
            if let Some(connection) = &mut self.connections[at] {
                if connection.outgoing.is_empty() {
                    self.touched.push(at);
                }
                connection.outgoing.extend_from_slice(b"OK\n");
            }
        }
        for at in self.touched.drain(..) {
            let is_gone = self.connections[at].as_mut().is_some_and(|connection| connection.flush().is_err());
            if is_gone {
                self.connections[at] = None;
            }
        }
    }
}
