//! One blocking connection to one node. Used by one thread; several requests may be under way.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use rustix::net::RecvFlags;

use super::Pipeline;
use crate::api::{IfNotLeading, Reply, Request};

/// How often a wait looks whether it was interrupted.
const INTERRUPT_SLICE: Duration = Duration::from_millis(50);
/// Read from the socket at once.
const READ_BYTES: usize = 16 * 1024;

/// When a wait ends, answered or not.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'a> {
    pub until: Instant,
    /// Raised by someone else, such as a signal handler: the wait ends within 50 ms.
    pub interrupt: Option<&'a AtomicBool>,
}

impl Patience<'_> {
    pub fn until(until: Instant) -> Patience<'static> {
        Patience { until, interrupt: None }
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// How long the next system call may block. `Interrupted` or `TimedOut` when it may not.
    fn slice(&self) -> io::Result<Duration> {
        if self.is_interrupted() {
            return Err(io::Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "no answer in time"));
        }
        Ok(if self.interrupt.is_some() { left.min(INTERRUPT_SLICE) } else { left })
    }

    /// Sleeps for `pause` or until the wait ends.
    pub fn pause(&self, pause: Duration) {
        let end = self.until.min(Instant::now() + pause);
        let within = Patience { until: end, interrupt: self.interrupt };
        while let Ok(slice) = within.slice() {
            std::thread::sleep(slice);
        }
    }
}

/// A connection over which requests go out and answers come back, in the same order.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    pipeline: Pipeline,
    sent_any: bool,
}

impl Connection {
    /// Connects to `HOST:PORT`, trying each address that the name has. Resolving the name is the system's and
    /// knows no deadline; connecting does.
    pub fn dial(address: &str, patience: Patience<'_>) -> io::Result<Connection> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for resolved in address.to_socket_addrs()? {
            // A connect can't be taken up again after a slice of its time, so here an interrupt waits for the end.
            patience.slice()?;
            match TcpStream::connect_timeout(&resolved, patience.until.saturating_duration_since(Instant::now())) {
                Ok(stream) => return Connection::over(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn over(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        Ok(Connection { stream, pipeline: Pipeline::default(), sent_any: false })
    }

    /// Encodes a request; [`Connection::flush`] sends it. Gives its id.
    pub fn queue(&mut self, request: &Request, if_not_leading: IfNotLeading) -> u64 {
        self.pipeline.queue(request, if_not_leading)
    }

    /// Sends what is queued. `sent_any` tells afterwards whether a byte of it may have left.
    pub fn flush(&mut self, patience: Patience<'_>) -> io::Result<()> {
        self.sent_any = false;
        while !self.pipeline.outgoing().is_empty() {
            self.stream.set_write_timeout(Some(patience.slice()?))?;
            match self.stream.write(self.pipeline.outgoing()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.sent_any = true;
                    self.pipeline.outgoing().advance(written);
                }
                Err(error) if is_a_slice_over(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the last [`Connection::flush`] handed a byte to the system.
    pub fn sent_any(&self) -> bool {
        self.sent_any
    }

    /// The answer to the oldest request that waits. `InvalidData`: the server does not speak as raftkv does.
    pub fn receive(&mut self, patience: Patience<'_>) -> io::Result<(u64, Reply)> {
        loop {
            let taken = self.pipeline.take_reply();
            if let Some(answer) = taken.map_err(|why| io::Error::new(ErrorKind::InvalidData, why))? {
                return Ok(answer);
            }
            self.stream.set_read_timeout(Some(patience.slice()?))?;
            let incoming = self.pipeline.incoming();
            match read_into(&mut self.stream, incoming) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
                Ok(_) => {}
                Err(error) if is_a_slice_over(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Requests without an answer.
    pub fn waiting(&self) -> usize {
        self.pipeline.waiting()
    }

    /// Whether a connection that nothing waits on can still be used: the server has neither closed it nor said
    /// anything unasked. Asked before a write is sent, since behind its first byte the outcome is unknown.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let peeked = rustix::net::recv(&self.stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR))
    }
}

/// A wait that ended because its slice did; whether the whole time is over is for [`Patience`] to say.
fn is_a_slice_over(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn read_into(stream: &mut TcpStream, incoming: &mut bytes::BytesMut) -> io::Result<usize> {
    let mut buffer = [0_u8; READ_BYTES];
    let read = stream.read(&mut buffer)?;
    incoming.put_slice(&buffer[..read]);
    Ok(read)
}
