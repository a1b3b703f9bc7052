//! Real node processes on this machine, for the demo: started, watched, and stopped again.
//!
//! Each node is in a process group of its own, so that a Ctrl-C at the prompt is not theirs. Each holds the read
//! end of a pipe as standard input and stops when it ends: that happens when this process ends in any way, also
//! when it is killed. (PR_SET_PDEATHSIG would do it too, in unsafe code and on Linux alone.)

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::peers::Address;

/// A node that does not stop within this time of SIGTERM is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Where a node is and what it is made of; enough to start it again.
#[derive(Clone, Debug)]
pub struct Plan {
    pub id: u32,
    pub address: Address,
    /// Options of `raftkv node`, but for the one that ties it to this process.
    pub options: Vec<String>,
    pub log: PathBuf,
}

/// The plans of nodes 1, 2, ... at `ports`, with their data and logs under `folder`.
pub fn plan(folder: &Path, ports: &[u16]) -> Vec<Plan> {
    let numbered = || (1_u32..).zip(ports).map(|(id, port)| (id, Address::loopback(*port)));
    numbered()
        .map(|(id, address)| {
            let mut options = vec!["--id".to_string(), id.to_string(), "--listen".to_string(), address.to_string()];
            for (peer, address) in numbered().filter(|(peer, _)| *peer != id) {
                options.extend(["--peer".to_string(), format!("{peer}={address}")]);
            }
            let data = folder.join(format!("node{id}"));
            options.extend(["--data-dir".to_string(), data.to_string_lossy().into_owned()]);
            Plan { id, address, options, log: folder.join(format!("node{id}.log")) }
        })
        .collect()
}

/// Loopback ports that are free now. They are let go before the nodes bind them, so another process may take one
/// in between: a start that fails for that is tried once more with other ports.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// One running process.
#[derive(Debug)]
struct Running {
    plan: Plan,
    child: Child,
}

/// Running nodes. Dropping it stops them, as `stop` does.
#[derive(Debug, Default)]
pub struct Nodes(Vec<Running>);

impl Nodes {
    /// Starts `program node ...` for each plan.
    pub fn start(program: &Path, plans: &[Plan]) -> io::Result<Nodes> {
        let mut nodes = Nodes::default();
        for plan in plans {
            let named =
                |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&plan.log);
            let log = opened.map_err(|error| named(&plan.log, error))?;
            let child = Command::new(program)
                .arg("node")
                .args(&plan.options)
                .arg("--exit-on-stdin-close")
                .stdin(Stdio::piped())
                .stdout(log.try_clone()?)
                .stderr(log)
                .process_group(0)
                .spawn()
                .map_err(|error| named(program, error))?;
            nodes.0.push(Running { plan: plan.clone(), child });
        }
        Ok(nodes)
    }

    /// The process id of node `id`.
    pub fn pid(&self, id: u32) -> Option<u32> {
        self.0.iter().find(|node| node.plan.id == id).map(|node| node.child.id())
    }

    /// The first node that has ended, and the last line of its log.
    pub fn ended(&mut self) -> Option<(u32, String)> {
        let ended = self.0.iter_mut().find_map(|node| {
            let status = node.child.try_wait().ok().flatten()?;
            Some((node.plan.id, status, node.plan.log.clone()))
        });
        ended.map(|(id, status, log)| (id, last_line(&log).unwrap_or_else(|| format!("it ended with {status}"))))
    }

    /// SIGTERM and the end of their standard input for all, then waits, then SIGKILL for what is left.
    pub fn stop(&mut self) {
        for node in &mut self.0 {
            drop(node.child.stdin.take());
            signal(&node.child, Signal::TERM);
        }
        let until = Instant::now() + STOP_WITHIN;
        for node in &mut self.0 {
            while matches!(node.child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            // Both do nothing to one that has ended.
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
        self.0.clear();
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One that has ended already needs none.
fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn last_line(log: &Path) -> Option<String> {
    BufReader::new(File::open(log).ok()?).lines().map_while(Result::ok).filter(|line| !line.is_empty()).last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_all_others_as_peers() {
        let plans = plan(Path::new("/d"), &[7001, 7002, 7003]);
        let expected = "--id 2 --listen 127.0.0.1:7002 --peer 1=127.0.0.1:7001 --peer 3=127.0.0.1:7003 \
                        --data-dir /d/node2";
        assert_eq!(plans[1].options.join(" "), expected);
        assert_eq!(plans[1].log, Path::new("/d/node2.log"));
    }

    #[test]
    fn a_log_that_can_not_be_opened_is_named() {
        let error = Nodes::start(Path::new("/bin/true"), &plan(Path::new("/no/such"), &[1])).unwrap_err();
        assert!(error.to_string().contains("/no/such/node1.log"), "{error}");
    }

    #[test]
    fn free_ports_are_distinct() {
        let mut ports = free_ports(7).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 7);
    }

    /// Stands in for a node: says that it is there, then waits for its standard input to end.
    #[test]
    fn nodes_that_are_stopped_are_gone_and_one_that_ended_shows_its_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("node.sh");
        std::fs::write(&program, "#!/bin/sh\n[ \"$3\" = 2 ] && echo broken && exit 3\nexec cat\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let mut nodes = Nodes::start(&program, &plan(folder.path(), &[1, 2])).unwrap();
        let pid = nodes.pid(1).unwrap();
        let ended = loop {
            match nodes.ended() {
                Some(ended) => break ended,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(ended, (2, "broken".to_string()));
        nodes.stop();
        let gone = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::TERM);
        assert_eq!(gone, Err(rustix::io::Errno::SRCH));
    }
}
