//! Servers that are measured run as processes of their own, as nodes do: this program again, with another first
//! argument. A child says where it listens, and ends when its standard input does: none outlives who started it.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts `command`, which serves and says where. Its standard input is the child's: it ends with that.
pub fn start(mut command: Command) -> io::Result<(Child, SocketAddr)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it was piped just above");
    BufReader::new(stdout).read_line(&mut line)?;
    match line.trim().parse() {
        Ok(address) => Ok((child, address)),
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(io::Error::other(format!("{command:?} did not start: it said {line:?}")))
        }
    }
}

/// A server in another process. Dropped, it ends.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// This program, with the hidden command's arguments.
    pub fn start(role: &str, file: Option<&Path>, followers: &[SocketAddr]) -> io::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg(role);
        command.args(file.map(|file| ["--file".into(), file.as_os_str().to_owned()]).into_iter().flatten());
        command.args(followers.iter().flat_map(|address| ["--follower".to_string(), address.to_string()]));
        let (child, address) = start(command)?;
        Ok(Server { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A child that is gone already needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
