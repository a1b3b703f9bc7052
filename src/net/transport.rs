//! How a connection's bytes travel: plain TCP today; TLS becomes a second kind here, and nothing above changes.
//!
//! Writing to a closed socket is a plain error, never a signal: Rust's runtime ignores SIGPIPE at start, and
//! raftkv leaves it so.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};

/// A client or peer that vanished without a word is noticed by the kernel after about two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Bytes that the kernel may hold unsent for a peer: what is in there no control message can overtake.
const PEER_UNSENT_BYTES: u32 = 128 * 1024;

#[derive(Debug)]
pub enum Transport {
    Plain(TcpStream),
}

impl Transport {
    /// A connection that was accepted, ready to be polled.
    pub fn accepted(stream: TcpStream) -> io::Result<Transport> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE))?;
        Ok(Transport::Plain(stream))
    }

    /// Begins to connect to a peer; the end shows as writable, then [`Transport::connected`] tells.
    pub fn connect(address: SocketAddr) -> io::Result<Transport> {
        Ok(Transport::Plain(TcpStream::connect(address)?))
    }

    /// `Ok(false)`: not yet. What a peer doesn't acknowledge within `silence` breaks the connection: otherwise,
    /// after a partition, TCP could wait a minute to retransmit while a new connection would work at once.
    pub fn connected(&self, silence: Duration) -> io::Result<bool> {
        let Transport::Plain(stream) = self;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(peer) if stream.local_addr()? == peer => {
                // On a loopback port that nobody listens on, TCP can connect a socket to itself. Held open, it
                // would keep the node that belongs there from starting.
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"))
            }
            Ok(_) => {
                stream.set_nodelay(true)?;
                let socket = SockRef::from(stream);
                socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE))?;
                #[cfg(target_os = "linux")]
                {
                    socket.set_tcp_user_timeout(Some(silence))?;
                    socket.set_tcp_notsent_lowat(PEER_UNSENT_BYTES)?;
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let Transport::Plain(stream) = self;
        registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Transport::Plain(stream) = self;
        stream.read(into)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Transport::Plain(stream) = self;
        stream.write(bytes)
    }

    pub fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Transport::Plain(stream) = self;
        stream.write_vectored(slices)
    }

    /// No more will be written; the other side sees the end once it has read everything.
    pub fn end_output(&mut self) -> io::Result<()> {
        let Transport::Plain(stream) = self;
        stream.shutdown(Shutdown::Write)
    }
}
