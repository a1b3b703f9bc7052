//! One connection of a server that is as simple as it can be: what has come, and what is to go.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

const READ_BYTES: usize = 64 * 1024;

pub struct Connection {
    stream: TcpStream,
    pub incoming: Vec<u8>,
    pub outgoing: Vec<u8>,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn new(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Connection { stream, incoming: Vec::new(), outgoing: Vec::new(), buffer: vec![0; READ_BYTES] })
    }

    /// Each gets its place in `connections` as its token.
    pub fn accept_all(
        listener: &TcpListener,
        registry: &Registry,
        connections: &mut Vec<Option<Connection>>,
    ) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let token = Token(connections.len());
                    connections.push(Some(Connection::new(stream, registry, token)?));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads all that is there. False: the other end has closed.
    pub fn read(&mut self) -> io::Result<bool> {
        loop {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.incoming.extend_from_slice(&self.buffer[..read]);
                    // Less than there was room for: the rest, if any, brings an event of its own.
                    if read < READ_BYTES {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what the system takes; for the rest an event comes.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
