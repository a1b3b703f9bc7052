//! Connections on which nothing more is said. A process of its own holds those to one node, so that neither the limit
//! on open files of one process nor its load is what is measured.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use limit::leftovers::Process;
use loadgen::descriptors::allow_connections;
use raftkv::api::{IfNotLeading, Request};
use raftkv::client::{Connection, Patience};

/// For one connection to be made, and answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections to one node, held by another process. Dropped, they end.
pub struct Idle(#[expect(dead_code, reason = "it ends with this")] Process);

impl Idle {
    /// Returns once all are there.
    pub fn connect(address: &str, count: u64) -> io::Result<Idle> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["hold", address, &count.to_string()]);
        limit::children::start(command).map(|(process, _)| Idle(process))
    }
}

/// In the child: connects, says so once all connections are there, and holds them until its parent ends. Each has
/// asked something, as clients do that find out whom they talk to: a connection that never said anything costs less.
pub fn hold(address: SocketAddr, count: usize) -> io::Result<()> {
    allow_connections(count as u64, "--connections")?;
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let patience = Patience::until(Instant::now() + PATIENCE);
        let mut connection = Connection::dial(&address.to_string(), patience)?;
        connection.queue(&Request::Status, IfNotLeading::Forward);
        connection.flush(patience)?;
        connection.receive(patience)?;
        held.push(connection);
    }
    println!("{address}");
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
