//! Accepting, and when not to. Net thread.
//!
//! Without a free descriptor accept fails at once and the waiting connection stays: a loop that tries again at
//! once spins. So accepting pauses until a connection closes here, or a short while (the descriptor may have been
//! another thread's), and the edge that announced the connection is remembered meanwhile.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::guard::{Guard, removed};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

#[derive(Debug)]
pub struct Listener {
    /// `None` once stopped.
    socket: Option<TcpListener>,
    /// Connections may wait: true from an event until accept said `WouldBlock`.
    ready: bool,
    /// Out of descriptors until then.
    paused_until: Option<Instant>,
    /// The lack was logged; said once until it is over.
    lack_logged: bool,
}

/// What one accept gave.
pub enum Accepted {
    Connection(TcpStream, SocketAddr),
    /// Nobody waits, or nothing can be accepted now.
    Nothing,
    /// Descriptors or memory ran out; accepting pauses.
    OutOfDescriptors,
}

impl Listener {
    pub fn new(listener: std::net::TcpListener, registry: &Registry, token: Token) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        let mut socket = TcpListener::from_std(listener);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Listener { socket: Some(socket), ready: true, paused_until: None, lack_logged: false })
    }

    pub fn on_ready(&mut self) {
        self.ready = true;
    }

    /// A descriptor became free.
    pub fn retry_now(&mut self) {
        self.paused_until = None;
    }

    /// When accepting goes on by itself, if it is paused.
    pub fn retry_at(&self) -> Option<Instant> {
        self.paused_until.filter(|_| self.ready && self.socket.is_some())
    }

    /// Whether there is work: somebody may wait, and `room` says that another connection fits the bound.
    pub fn may_accept(&self, now: Instant, room: bool) -> bool {
        room && self.ready && self.socket.is_some() && self.paused_until.is_none_or(|until| until <= now)
    }

    pub fn accept(&mut self, now: Instant, retry: Duration) -> Accepted {
        let Some(socket) = &self.socket else { return Accepted::Nothing };
        loop {
            match socket.accept() {
                Ok((stream, remote)) => {
                    self.lack_logged = false;
                    self.paused_until = None;
                    return Accepted::Connection(stream, remote);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.ready = false;
                        return Accepted::Nothing;
                    }
                    // The connection was gone before it was accepted; the next one may be fine.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {}
                    // EMFILE, ENFILE, ENOBUFS, ENOMEM; and whatever else: a pause can't make it worse.
                    _ => return self.on_lack(&error, now, retry),
                },
            }
        }
    }

    fn on_lack(&mut self, error: &io::Error, now: Instant, retry: Duration) -> Accepted {
        self.paused_until = (!removed(Guard::AcceptSpins)).then_some(now + retry);
        if !std::mem::replace(&mut self.lack_logged, true) {
            log::warn!(
                "net: accepting pauses until a connection closes: {error}; raise the descriptor limit (ulimit -n)"
            );
        }
        Accepted::OutOfDescriptors
    }

    /// The port is free from here on.
    pub fn stop(&mut self, registry: &Registry) {
        if let Some(mut socket) = self.socket.take()
            && let Err(error) = registry.deregister(&mut socket)
        {
            log::debug!("net: the listener can't be deregistered: {error}");
        }
    }
}
