//! What is compared: each with its processes, up at the same time, on loopback, with data on the same disk.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use limit::leftovers::Process;

use crate::machine;
use crate::programs::Programs;

/// For a system to serve.
const PATIENCE: Duration = Duration::from_secs(30);
const LOG_LINES_SHOWN: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    Echo,
    Relay,
    Raftkv,
    Etcd,
    Redis,
}

impl System {
    pub const ALL: [System; 5] = [System::Echo, System::Relay, System::Raftkv, System::Etcd, System::Redis];

    pub fn name(self) -> &'static str {
        match self {
            System::Echo => "bare echo",
            System::Relay => "bare relay",
            System::Raftkv => "raftkv",
            System::Etcd => "etcd",
            System::Redis => "Redis",
        }
    }
}

/// A system that is up. Dropped, its processes end.
pub struct Running {
    pub system: System,
    /// Where clients go.
    pub addresses: Vec<String>,
    members: Vec<Member>,
}

struct Member {
    process: Process,
    /// Of one whose data outlives it: what starts it again.
    command: Option<Command>,
}

impl Running {
    /// Starts it and waits until it serves. Its data and its logs go to `directory`.
    pub fn start(system: System, programs: &Programs, directory: &Path) -> io::Result<Running> {
        let directory = directory.join(system.name().replace(' ', "-"));
        std::fs::create_dir_all(&directory)?;
        let mut running = Running { system, addresses: Vec::new(), members: Vec::new() };
        match system {
            System::Echo => running.start_echo(programs, &directory)?,
            System::Relay => running.start_relay(programs, &directory)?,
            System::Raftkv => running.start_raftkv(programs, &directory, 3, &[])?,
            System::Etcd => running.start_etcd(programs, &directory)?,
            System::Redis => running.start_redis(programs, &directory)?,
        }
        Ok(running)
    }

    /// A cluster of raftkv, of any number of nodes, each with further `arguments`. Its data goes to `directory` itself.
    pub fn cluster(programs: &Programs, directory: &Path, nodes: usize, arguments: &[String]) -> io::Result<Running> {
        std::fs::create_dir_all(directory)?;
        let mut running = Running { system: System::Raftkv, addresses: Vec::new(), members: Vec::new() };
        running.start_raftkv(programs, directory, nodes, arguments)?;
        Ok(running)
    }

    fn spawn(&mut self, mut command: Command, log: PathBuf) -> io::Result<()> {
        let log = File::create(log)?;
        let process = Process::start(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        self.members.push(Member { process, command: Some(command) });
        Ok(())
    }

    pub fn processes(&self) -> usize {
        self.members.len()
    }

    /// Ends process `at` as a crash would: kill -9.
    pub fn kill(&mut self, at: usize) {
        self.members[at].process.kill();
    }

    /// Starts a process that was killed, with its data and at its address.
    pub fn start_again(&mut self, at: usize) -> io::Result<()> {
        let Member { process, command } = &mut self.members[at];
        let command =
            command.as_mut().ok_or_else(|| io::Error::other("it can't be started again: it keeps no data"))?;
        *process = Process::start(command)?;
        Ok(())
    }

    /// Resident memory of each process, in bytes; empty where the system does not tell.
    pub fn resident_bytes(&self) -> Vec<f64> {
        self.members.iter().filter_map(|member| machine::resident_bytes(member.process.id())).collect()
    }

    /// `limit` says where it serves.
    fn serve(&mut self, programs: &Programs, arguments: &[&str], followers: &[String]) -> io::Result<String> {
        let mut command = Command::new(&programs.limit);
        command.arg("serve").args(arguments);
        command.args(followers.iter().flat_map(|address| ["--follower", address]));
        let (process, address) = limit::children::start(command)?;
        self.members.push(Member { process, command: None });
        Ok(address.to_string())
    }

    fn start_echo(&mut self, programs: &Programs, _: &Path) -> io::Result<()> {
        self.addresses = vec![self.serve(programs, &["echo"], &[])?];
        Ok(())
    }

    fn start_relay(&mut self, programs: &Programs, directory: &Path) -> io::Result<()> {
        let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let mut followers = Vec::new();
        for name in ["b", "c"] {
            followers.push(self.serve(programs, &["relay-follower", "--file", &file(name)], &[])?);
        }
        self.addresses = vec![self.serve(programs, &["relay-leader", "--file", &file("a")], &followers)?];
        Ok(())
    }

    fn start_raftkv(
        &mut self,
        programs: &Programs,
        directory: &Path,
        nodes: usize,
        arguments: &[String],
    ) -> io::Result<()> {
        let ports = free_ports(nodes)?;
        for (at, port) in ports.iter().enumerate() {
            let mut command = Command::new(&programs.raftkv);
            command.args(["node", "--id", &(at + 1).to_string(), "--listen", &format!("127.0.0.1:{port}")]);
            for (peer, port) in ports.iter().enumerate().filter(|(peer, _)| *peer != at) {
                command.args(["--peer", &format!("{}=127.0.0.1:{port}", peer + 1)]);
            }
            command.arg("--data-dir").arg(directory.join((at + 1).to_string()));
            command.args(arguments).args(&programs.raftkv_arguments);
            self.spawn(command, directory.join(format!("{}.log", at + 1)))?;
        }
        self.addresses = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let begun = Instant::now();
        let status = ["status", "--server", &self.addresses[0], "--wait", "--timeout-ms", "1000"];
        while !Command::new(&programs.raftkv).args(status).output()?.status.success() {
            if begun.elapsed() > PATIENCE || self.members.iter().any(|member| member.process.ended().is_some()) {
                return Err(io::Error::other(format!("the nodes of raftkv elect no leader; {}", self.logs(directory))));
            }
        }
        Ok(())
    }

    /// How the nodes' logs end, and how those did that have: their directory will be gone.
    fn logs(&self, directory: &Path) -> String {
        let log = |(at, member): (usize, &Member)| {
            let ended = member.process.ended().map_or("runs".to_string(), |status| format!("ended, {status}"));
            let log = std::fs::read_to_string(directory.join(format!("{}.log", at + 1))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
            let lines = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            format!("node {} {ended}; its log:\n  {}", at + 1, lines.join("\n  "))
        };
        self.members.iter().enumerate().map(log).collect::<Vec<_>>().join("\n")
    }

    /// Members as etcd's own documentation starts them; every write is synced by default.
    fn start_etcd(&mut self, programs: &Programs, directory: &Path) -> io::Result<()> {
        let Some(etcd) = &programs.etcd else { return Err(io::Error::other("etcd is not installed")) };
        let ports = free_ports(6)?;
        let (client_ports, peer_ports) = ports.split_at(3);
        let members: Vec<String> =
            peer_ports.iter().enumerate().map(|(at, port)| format!("m{at}=http://127.0.0.1:{port}")).collect();
        for at in 0..3 {
            let client = format!("http://127.0.0.1:{}", client_ports[at]);
            let peer = format!("http://127.0.0.1:{}", peer_ports[at]);
            let mut command = Command::new(etcd);
            command.args(["--name", &format!("m{at}"), "--initial-cluster-state", "new"]);
            command.args(["--initial-cluster", &members.join(","), "--data-dir"]).arg(directory.join(at.to_string()));
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            self.spawn(command, directory.join(format!("{at}.log")))?;
        }
        self.addresses = client_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        self.wait_until_all_accept()
    }

    fn start_redis(&mut self, programs: &Programs, directory: &Path) -> io::Result<()> {
        let Some(redis) = &programs.redis else { return Err(io::Error::other("redis-server is not installed")) };
        let port = free_ports(1)?[0];
        let mut command = Command::new(redis);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(directory);
        self.spawn(command, directory.join("redis.log"))?;
        self.addresses = vec![format!("127.0.0.1:{port}")];
        self.wait_until_all_accept()
    }

    /// A server that does not listen yet has no event to wait for: it is dialed until it does.
    fn wait_until_all_accept(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        for address in &self.addresses {
            while let Err(error) = TcpStream::connect(address) {
                if begun.elapsed() > PATIENCE {
                    return Err(io::Error::new(error.kind(), format!("{} at {address}: {error}", self.system.name())));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The last one first: a relay's leader is not to see its followers go.
        while self.members.pop().is_some() {}
    }
}

/// Free a moment ago: the servers take their ports by number.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
