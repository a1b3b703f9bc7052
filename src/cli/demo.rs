//! `raftkv demo`: a whole cluster on this machine, and a prompt on it.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use parking_lot::Mutex;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

use super::common::AnswerArgs;
use super::nodes::{Nodes, Plan, free_ports, plan};
use super::output::complain;
use super::{Exit, repl, status};
use crate::api::ReadBy;
use crate::base::NodeId;
use crate::client::{Client, ClientSettings};
use crate::disk::DataDir;

/// A cluster that has no leader after this long is given up.
const LEADER_WITHIN: Duration = Duration::from_secs(30);
/// In a data directory that is kept: a line `ID PORT` for each node. The log's membership holds the addresses,
/// so the same cluster comes back only at the same ports.
const PORTS_FILE: &str = "demo.ports";

/// Starts a cluster on this machine and opens a prompt on it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  raftkv demo
  raftkv demo --nodes 5 --data-dir ./demo     comes back with its data and ports when it is run again
  printf 'PUT a 1\\nGET a\\n' | raftkv demo

The nodes end with the demo, also when it is killed.")]
pub struct DemoArgs {
    /// How many nodes: 1, 3, 5 or 7
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = node_count)]
    nodes: usize,

    /// Keep data and logs here [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    #[command(flatten)]
    answers: AnswerArgs,

    /// Print values and keys as bytes, unquoted, also to a terminal
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

fn node_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5 | 7)) => Ok(count),
        _ => Err("a demo has 1, 3, 5 or 7 nodes".to_string()),
    }
}

/// What must be undone at the end; shared with the thread that waits for signals.
#[derive(Default)]
struct Stage {
    nodes: Nodes,
    temporary: Option<TempDir>,
    terminal: Option<Termios>,
    /// Locked while the demo runs: a second one on the same folder would take the first one's cluster for its own.
    folder: Option<File>,
}

impl Stage {
    fn strike(&mut self) {
        self.nodes.stop();
        if let Some(temporary) = self.temporary.take() {
            let used = nodes_in(temporary.path());
            match used.is_empty() {
                // It holds nothing of worth; what can't be removed is the system's to clear.
                true => drop(temporary),
                false => keep(temporary, &used),
            }
        }
        if let Some(before) = self.terminal.take() {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
    }
}

/// The nodes below `folder` that run all the same: their person has brought them back by hand.
fn nodes_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut used: Vec<String> = names
        .filter(|name| DataDir::is_in_use(&name.path()))
        .map(|name| name.file_name().to_string_lossy().into_owned())
        .collect();
    used.sort();
    used
}

fn keep(temporary: TempDir, used: &[String]) {
    let folder = temporary.keep();
    complain(&format!(
        "{} runs on, started by hand; {} is kept: end it with Ctrl-C in its terminal, then remove the directory",
        used.join(", "),
        folder.display()
    ));
}

pub fn run(args: DemoArgs) -> Exit {
    let stage = Arc::new(Mutex::new(Stage::default()));
    let at_prompt = Arc::new(AtomicBool::new(false));
    let result = watch_signals(&stage, &at_prompt)
        .map_err(|error| format!("signals can't be handled: {error}"))
        .and_then(|()| set_up(&args, &stage));
    let exit = match result {
        Ok(plans) => {
            at_prompt.store(io::stdin().is_terminal(), Ordering::Relaxed);
            let servers = plans.iter().map(|plan| plan.address.to_string()).collect();
            repl::converse(servers, &args.answers, ReadBy::Leader, args.raw)
        }
        Err(sentence) => {
            complain(&sentence);
            Exit::Refused
        }
    };
    stage.lock().strike();
    exit
}

/// Ends the demo on SIGTERM, SIGHUP and, but for the prompt that has its own use for it, SIGINT.
fn watch_signals(stage: &Arc<Mutex<Stage>>, at_prompt: &Arc<AtomicBool>) -> io::Result<()> {
    stage.lock().terminal = tcgetattr(io::stdin()).ok();
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT])?;
    let (stage, at_prompt) = (stage.clone(), at_prompt.clone());
    std::thread::Builder::new().name("signals".to_string()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGINT && at_prompt.load(Ordering::Relaxed) {
                continue;
            }
            stage.lock().strike();
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// Starts the nodes and waits for their leader. The nodes are on the stage as soon as they run.
fn set_up(args: &DemoArgs, stage: &Mutex<Stage>) -> Result<Vec<Plan>, String> {
    let folder = folder(args, stage)?;
    let remembered = remembered_ports(&folder, args.nodes)?;
    let fresh = || free_ports(args.nodes).map_err(|error| format!("no free port: {error}"));
    let ports = remembered.clone().map_or_else(fresh, Ok)?;
    let plans = match start(&folder, &ports, stage) {
        Err(why) if why.contains("in use") && remembered.is_none() => {
            stage.lock().nodes.stop();
            start(&folder, &fresh()?, stage)?
        }
        Err(why) if why.contains("in use") => {
            let file = folder.join(PORTS_FILE);
            return Err(format!("{why}; the cluster is bound to the ports in {}: free that port", file.display()));
        }
        started => started?,
    };
    if remembered.is_none() && args.data_dir.is_some() {
        let lines: String = plans.iter().map(|plan| format!("{} {}\n", plan.id, plan.address.port())).collect();
        let file = folder.join(PORTS_FILE);
        std::fs::write(&file, lines).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(plans)
}

fn folder(args: &DemoArgs, stage: &Mutex<Stage>) -> Result<PathBuf, String> {
    let Some(folder) = &args.data_dir else {
        let temporary = tempfile::Builder::new().prefix("raftkv-demo-").tempdir();
        let temporary = temporary.map_err(|error| format!("no temporary directory can be made: {error}"))?;
        let folder = temporary.path().to_path_buf();
        stage.lock().temporary = Some(temporary);
        return Ok(folder);
    };
    let wrong = |error: io::Error| format!("--data-dir {}: {error}; give another directory", folder.display());
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(wrong)?;
    stage.lock().folder = Some(lock(folder)?);
    std::path::absolute(folder).map_err(wrong)
}

/// The lock goes with the process, also when it is killed.
fn lock(folder: &Path) -> Result<File, String> {
    if folder.join("identity").exists() {
        return Err(format!("--data-dir {}: one node's own data directory; give the demo another", folder.display()));
    }
    let wrong = |error: io::Error| format!("--data-dir {}: {error}; give another directory", folder.display());
    let opened = File::open(folder).map_err(wrong)?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => {
            Err(format!("--data-dir {}: another demo runs there; end it first, or give another", folder.display()))
        }
        Err(TryLockError::Error(error)) => Err(wrong(error)),
    }
}

/// The ports of the cluster that lives in `folder`, if one does.
fn remembered_ports(folder: &Path, nodes: usize) -> Result<Option<Vec<u16>>, String> {
    let file = folder.join(PORTS_FILE);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    let port = |(at, line): (usize, &str)| {
        let (id, port) = line.split_once(' ')?;
        (id.parse() == Ok(at + 1)).then_some(port.parse().ok().filter(|port| *port != 0)?)
    };
    let ports: Option<Vec<u16>> = text.lines().enumerate().map(port).collect();
    let ports = ports.ok_or_else(|| format!("{}: not lines of ID PORT; mend or remove it", file.display()))?;
    if ports.len() != nodes {
        let kept = ports.len();
        return Err(format!("{} holds a cluster of {kept}; run it with --nodes {kept}", folder.display()));
    }
    Ok(Some(ports))
}

/// An error is a node's own last word, or that no leader came.
fn start(folder: &Path, ports: &[u16], stage: &Mutex<Stage>) -> Result<Vec<Plan>, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let plans = plan(folder, ports);
    stage.lock().nodes = Nodes::start(&program, &plans).map_err(|error| format!("a node can't be started: {error}"))?;
    let settings = ClientSettings { timeout: Duration::from_secs(1), ..ClientSettings::default() };
    let servers = plans.iter().map(|plan| plan.address.to_string()).collect();
    let mut client = Client::new(servers, settings);
    let mut ended = None;
    let census = status::await_leader(&mut client, Instant::now() + LEADER_WITHIN, || {
        ended = stage.lock().nodes.ended();
        ended.is_none()
    });
    // The leader may be a stranger: a node of this cluster that somebody started by hand.
    if let Some((id, last_line)) = ended.or_else(|| stage.lock().nodes.ended()) {
        return Err(format!("node {id} did not start: {}", last_line.trim_start_matches("raftkv: ")));
    }
    let leader = census.leader().and_then(|seen| seen.id).ok_or_else(|| {
        format!("no leader within {} s; the logs are in {}", LEADER_WITHIN.as_secs(), folder.display())
    })?;
    introduce(&program, &plans, leader, &stage.lock().nodes);
    Ok(plans)
}

/// What runs where and what to try. On standard error, so that piped answers stay clean.
fn introduce(program: &Path, plans: &[Plan], leader: NodeId, nodes: &Nodes) {
    eprintln!("{} nodes run on this machine and end with this demo:", plans.len());
    for plan in plans {
        let pid = nodes.pid(plan.id).unwrap_or_default();
        let mark = if plan.id == leader.get() { "   leads" } else { "" };
        eprintln!("  node {}   {}   pid {pid}   log {}{mark}", plan.id, plan.address, plan.log.display());
    }
    let Some(leading) = plans.iter().find(|plan| plan.id == leader.get()) else { return };
    let other = plans.iter().find(|plan| plan.id != leader.get()).unwrap_or(leading);
    eprintln!("Try in another terminal:");
    eprintln!("  printf 'PUT a 1\\nGET a\\n' | nc -q1 127.0.0.1 {}", other.address.port());
    if let Some(pid) = nodes.pid(leading.id) {
        let then = match plans.len() {
            1 => "the only node; nothing acknowledged is lost",
            _ => "the leader; another takes over, nothing acknowledged is lost",
        };
        eprintln!("  kill -9 {pid}        # {then}");
        let command: Vec<String> = leading.options.iter().map(|option| quoted(option)).collect();
        let program = quoted(&program.to_string_lossy());
        eprintln!("  {program} node {}    # brings it back; Ctrl-C there ends it", command.join(" "));
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@%+,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_cluster_comes_back_at_its_ports_or_says_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let remembered = |nodes| remembered_ports(folder.path(), nodes);
        assert_eq!(remembered(3), Ok(None));
        std::fs::write(folder.path().join(PORTS_FILE), "1 7001\n2 7002\n3 7003\n").unwrap();
        assert_eq!(remembered(3), Ok(Some(vec![7001, 7002, 7003])));
        assert!(remembered(5).unwrap_err().contains("--nodes 3"));
        for damaged in ["2 7001\n", "1 0\n", "1 x\n", "1\n"] {
            std::fs::write(folder.path().join(PORTS_FILE), damaged).unwrap();
            assert!(remembered(1).unwrap_err().contains("mend or remove"), "{damaged:?}");
        }
    }

    #[test]
    fn a_folder_that_is_taken_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(lock(folder.path()).unwrap_err().contains("another demo runs there"));
        drop(first);
        assert!(lock(folder.path()).is_ok());
        std::fs::write(folder.path().join("identity"), "").unwrap();
        assert!(lock(folder.path()).unwrap_err().contains("node's own data directory"));
        assert!(lock(&folder.path().join("none")).unwrap_err().contains("none"));
    }

    #[test]
    fn a_directory_in_which_a_node_still_runs_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = crate::disk::Wanted { node: NodeId::new(2).unwrap(), cluster_name: "raftkv".into() };
        let held = DataDir::open(&folder.path().join("node2"), &wanted).unwrap();
        std::fs::create_dir(folder.path().join("node1")).unwrap();
        assert_eq!(nodes_in(folder.path()), ["node2"]);
        let path = folder.path().to_path_buf();
        let mut stage = Stage { temporary: Some(folder), ..Stage::default() };
        stage.strike();
        assert!(path.join("node2/identity").exists(), "the node lost its directory");
        drop(held);
        stage.temporary = Some(TempDir::new_in(&path).unwrap());
        stage.strike();
        assert_eq!(nodes_in(&path), Vec::<String>::new());
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn the_lines_to_try_are_words_to_a_shell() {
        assert_eq!(quoted("2=127.0.0.1:5002"), "2=127.0.0.1:5002");
        assert_eq!(quoted("/my demo/node1"), "'/my demo/node1'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }

    #[test]
    fn a_demo_has_an_odd_number_of_nodes() {
        assert_eq!(node_count("5"), Ok(5));
        assert!(["0", "2", "8", "x"].iter().all(|count| node_count(count).is_err()));
    }
}
