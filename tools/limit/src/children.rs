//! Servers that are measured run as processes of their own, as nodes do: this program again, with another first
//! argument. A child says where it listens, and ends when its standard input does: none outlives who started it.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::leftovers::Process;

/// Starts `command`, which serves and says where. Its standard input is the child's: it ends with that.
pub fn start(mut command: Command) -> io::Result<(Process, SocketAddr)> {
    let process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
    let mut line = String::new();
    let stdout = process.take_stdout().expect("it was piped just above");
    BufReader::new(stdout).read_line(&mut line)?;
    let address =
        line.trim().parse().map_err(|_| io::Error::other(format!("{command:?} did not start: it said {line:?}")))?;
    Ok((process, address))
}

/// A server in another process. Dropped, it ends.
pub struct Server {
    _process: Process,
    pub address: SocketAddr,
}

impl Server {
    /// This program, with the hidden command's arguments.
    pub fn start(role: &str, file: Option<&Path>, followers: &[SocketAddr]) -> io::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg(role);
        command.args(file.map(|file| ["--file".into(), file.as_os_str().to_owned()]).into_iter().flatten());
        command.args(followers.iter().flat_map(|address| ["--follower".to_string(), address.to_string()]));
        let (process, address) = start(command)?;
        Ok(Server { _process: process, address })
    }
}

/// In the child: listens, says where, and sees to it that the process ends with its parent.
pub fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    Ok(listener)
}
