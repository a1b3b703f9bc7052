//! Real node processes for tests: their own directories on a real disk, ports chosen by the system. Nodes within the
//! test's own process: `embedded`.
#![allow(dead_code)] // each test file uses its own part of this

pub mod embedded;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use raftkv::base::{NodeId, Role};
use raftkv::client::{Client, ClientSettings};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub const RAFTKV: &str = env!("CARGO_BIN_EXE_raftkv");

/// How long anything that must happen may take before a test calls it a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn id(number: u32) -> NodeId {
    NodeId::new(number).expect("test ids start at 1")
}

/// A cluster of processes. Dropping it kills them.
pub struct Processes {
    pub directory: TempDir,
    pub ports: Vec<u16>,
    children: Vec<Option<Child>>,
    /// Further options of each node.
    options: Vec<Vec<String>>,
    /// Of each node: a command that becomes the node, which is its last arguments; empty for none.
    before: Vec<Vec<String>>,
    /// Where each listens.
    hosts: Vec<String>,
    /// How the options name the host of a peer, where that is another name.
    peer_host: Option<&'static str>,
}

impl Processes {
    /// Starts `nodes` nodes and waits for a leader.
    pub fn start(nodes: usize) -> Processes {
        Processes::start_with(nodes, &[])
    }

    /// The same, with more options for each node.
    pub fn start_with(nodes: usize, extra: &[&str]) -> Processes {
        Processes::start_as("127.0.0.1", nodes, extra)
    }

    /// The same, with the peers' host as given: the README calls it localhost.
    pub fn start_as(peer_host: &'static str, nodes: usize, extra: &[&str]) -> Processes {
        let mut cluster = Processes::prepare(nodes);
        cluster.peer_host = Some(peer_host);
        (1..=nodes).for_each(|node| cluster.add_options(node, extra));
        cluster.start_all();
        cluster
    }

    /// A cluster of which nothing runs yet, so that what is special about a node can be said.
    pub fn prepare(nodes: usize) -> Processes {
        Processes {
            directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory"),
            ports: free_ports(nodes),
            children: (0..nodes).map(|_| None).collect(),
            options: vec![Vec::new(); nodes],
            before: vec![Vec::new(); nodes],
            hosts: vec!["127.0.0.1".to_string(); nodes],
            peer_host: None,
        }
    }

    pub fn add_options(&mut self, node: usize, options: &[&str]) {
        self.options[node - 1].extend(options.iter().map(|option| option.to_string()));
    }

    /// From its next start on the node is started by `command`, which must become it (exec).
    pub fn put_before(&mut self, node: usize, command: &[&str]) {
        self.before[node - 1] = command.iter().map(|argument| argument.to_string()).collect();
    }

    pub fn set_host(&mut self, node: usize, host: &str) {
        self.hosts[node - 1] = host.to_string();
    }

    /// Starts those that don't run and waits for a leader.
    pub fn start_all(&mut self) {
        for node in 1..=self.len() {
            if self.children[node - 1].is_none() {
                self.spawn(node);
            }
        }
        self.leader();
    }

    pub fn len(&self) -> usize {
        self.ports.len()
    }

    pub fn address(&self, node: usize) -> String {
        format!("{}:{}", self.hosts[node - 1], self.ports[node - 1])
    }

    pub fn addresses(&self) -> Vec<String> {
        (1..=self.len()).map(|node| self.address(node)).collect()
    }

    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("node{node}"))
    }

    pub fn log_path(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("node{node}.log"))
    }

    pub fn log(&self, node: usize) -> String {
        fs::read_to_string(self.log_path(node)).unwrap_or_default()
    }

    /// Waits until node `node` has logged `what` `times` times since its first start.
    pub fn await_log(&self, node: usize, what: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.log(node).matches(what).count() < times {
            assert!(Instant::now() < deadline, "node {node} does not log {what:?} {times} times:\n{}", self.log(node));
            std::thread::yield_now();
        }
    }

    /// The command line of a node, without what redirects it.
    pub fn command(&self, node: usize) -> Command {
        let mut words = self.before[node - 1].clone();
        words.push(RAFTKV.to_string());
        words.extend(self.arguments(node));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    pub fn arguments(&self, node: usize) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["node", "--segment-mib", "4", "--id"].iter().map(|argument| argument.to_string()).collect();
        arguments.push(node.to_string());
        arguments.extend(["--listen".to_string(), self.address(node)]);
        arguments.extend(["--data-dir".to_string(), self.data_dir(node).display().to_string()]);
        for peer in (1..=self.len()).filter(|peer| *peer != node) {
            let host = self.peer_host.unwrap_or(&self.hosts[peer - 1]);
            arguments.extend(["--peer".to_string(), format!("{peer}={host}:{}", self.ports[peer - 1])]);
        }
        arguments.extend(self.options[node - 1].clone());
        arguments
    }

    /// Starts a node that is not running.
    pub fn spawn(&mut self, node: usize) {
        assert!(self.children[node - 1].is_none(), "node {node} runs already");
        let log = File::options().create(true).append(true).open(self.log_path(node)).expect("the log file");
        let child = self.command(node).stdout(Stdio::null()).stderr(log).spawn().expect("the node starts");
        self.children[node - 1] = Some(child);
    }

    pub fn pid(&self, node: usize) -> Pid {
        let child = self.children[node - 1].as_ref().expect("the node runs");
        Pid::from_raw(child.id() as i32).expect("a pid is not 0")
    }

    pub fn signal(&self, node: usize, signal: Signal) {
        kill_process(self.pid(node), signal).expect("the node can be signalled");
    }

    /// kill -9, and waits for its end.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node - 1].take() {
            child.kill().expect("the node can be killed");
            child.wait().expect("the node ends");
        }
    }

    /// SIGTERM; the exit status.
    pub fn stop(&mut self, node: usize) -> Option<i32> {
        self.signal(node, Signal::TERM);
        self.end(node)
    }

    /// Waits for its end; the exit status.
    pub fn end(&mut self, node: usize) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while self.is_running(node) {
            assert!(Instant::now() < deadline, "node {node} does not end:\n{}", self.log(node));
            std::thread::yield_now();
        }
        let mut child = self.children[node - 1].take().expect("the node was started");
        child.wait().expect("it has ended").code()
    }

    pub fn is_running(&mut self, node: usize) -> bool {
        self.children[node - 1].as_mut().is_some_and(|child| child.try_wait().expect("it is ours").is_none())
    }

    /// A client that knows all nodes.
    pub fn client(&self) -> Client {
        self.client_of(&(1..=self.len()).collect::<Vec<_>>(), PATIENCE)
    }

    pub fn client_of(&self, nodes: &[usize], timeout: Duration) -> Client {
        let addresses = nodes.iter().map(|node| self.address(*node)).collect();
        Client::new(addresses, ClientSettings { timeout, ..ClientSettings::default() })
    }

    /// Waits until a node leads and answers; which one.
    pub fn leader(&mut self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for node in 1..=self.len() {
                assert!(
                    self.children[node - 1].is_none() || self.is_running(node),
                    "node {node} ended by itself:\n{}",
                    self.log(node)
                );
            }
            if let Some(leader) = self.client().census().leader().and_then(|seen| seen.id) {
                return leader.get() as usize;
            }
        }
        let logs: Vec<String> = (1..=self.len()).map(|node| format!("node {node}:\n{}", self.log(node))).collect();
        panic!("no leader after {PATIENCE:?}\n{}", logs.join("\n"));
    }

    /// Waits until all nodes have applied the same index as their leader committed.
    pub fn converge(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let statuses: Vec<_> =
                self.client().census().nodes.into_iter().filter_map(|seen| seen.status.ok()).collect();
            let first = statuses.first().map(|status| status.last);
            let equal = |status: &raftkv::api::Status| Some(status.applied) == first && Some(status.last) == first;
            let led = statuses.iter().any(|status| status.role == Role::Leader);
            if statuses.len() == self.len() && led && statuses.iter().all(equal) {
                return;
            }
            assert!(Instant::now() < deadline, "the nodes don't converge: {statuses:#?}");
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for node in 1..=self.len() {
            self.kill(node);
            if std::thread::panicking() {
                eprintln!("---- log of node {node}\n{}", self.log(node));
            }
        }
    }
}

/// Ports that were free a moment ago. Another process may take one before the node does; the node then says so.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}

/// Says that a test can't run here and why; `tools/check` counts these at the end.
pub fn skip(test: &str, why: &str) {
    println!("SKIPPED {test}: {why}");
    note("skipped", &format!("{test}: {why}"));
}

/// Says what a test did, in figures; `tools/check` shows these at the end.
pub fn report(line: &str) {
    println!("{line}");
    note("figures", line);
}

fn note(list: &str, line: &str) {
    use std::io::Write;
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(list);
    let mut file = File::options().create(true).append(true).open(path).expect("the list can be written");
    writeln!(file, "{line}").expect("the list can be written");
}

/// Whether a program can be started.
pub fn has(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Waits until strace says that it is attached; false if it may not.
pub fn attached(child: &mut Child) -> bool {
    use std::io::Read;
    let stderr = child.stderr.as_mut().expect("it is piped");
    let mut said = Vec::new();
    let mut byte = [0];
    while stderr.read(&mut byte).is_ok_and(|count| count == 1) {
        said.push(byte[0]);
        let text = String::from_utf8_lossy(&said);
        if text.contains("attached") {
            return true;
        }
        if text.contains("not permitted") {
            return false;
        }
    }
    false
}

/// The entries of a stopped node's log that are commands, decoded. All of it is committed where the nodes have
/// converged.
pub fn disk_commands(data_dir: &std::path::Path) -> Vec<raftkv::base::Command> {
    use raftkv::base::EntryKind;
    use raftkv::base::LogIndex;
    use raftkv::disk::{RealDisk, Wal, WalSettings};
    let disk = std::sync::Arc::new(RealDisk::open(data_dir).expect("the directory opens"));
    let opened = Wal::open(disk, WalSettings::default(), None).expect("the log opens");
    let last = opened.recovered.log.last_index;
    let mut commands = Vec::new();
    let mut next = LogIndex(1);
    while next <= last {
        let entries = opened.reader.read(next, last, 1024 * 1024).expect("the log is readable");
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Commands) {
            let envelope = raftkv::wire::decode_envelope(entry.data.clone()).expect("it was applied");
            commands.extend(envelope.commands);
        }
        next = entries.last().expect("a read gives an entry at least").index.next();
    }
    commands
}

/// What they come to: every key with its value.
pub fn disk_state(data_dir: &std::path::Path) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    let mut store = raftkv::kv::Store::new();
    for command in disk_commands(data_dir) {
        store.apply(&command);
    }
    let view = store.view();
    let keys = view.list(b"", None, 0, usize::MAX).keys;
    keys.into_iter().map(|key| (key.to_vec(), view.get(&key).expect("it was listed").value().to_vec())).collect()
}
