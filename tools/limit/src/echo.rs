//! A bare echo: what comes goes back. A request and its answer over TCP cost at least this.

use std::io;
use std::net::TcpListener;

use mio::{Events, Interest, Poll, Token};

use crate::connection::Connection;

const LISTENER: Token = Token(usize::MAX);

pub fn serve(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                Connection::accept_all(&listener, poll.registry(), &mut connections)?;
                continue;
            }
            let slot = &mut connections[event.token().0];
            let Some(connection) = slot else { continue };
            let is_open = connection.read().and_then(|is_open| {
                let incoming = std::mem::take(&mut connection.incoming);
                connection.outgoing.extend_from_slice(&incoming);
                connection.flush().map(|()| is_open)
            });
            if !is_open.unwrap_or(false) {
                *slot = None;
            }
        }
    }
}
