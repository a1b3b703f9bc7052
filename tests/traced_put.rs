//! The system calls of real nodes, traced. Of one PUT on three: no OK leaves before a majority's fdatasync returned.
//! Of a start on a fresh directory and of a change of segments: a name is durable before anything counts on it.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{PATIENCE, Processes, RAFTKV, attached, free_ports, has, skip};
use raftkv::client::{Client, ClientSettings};

const MARK: &str = "a-key-that-is-easily-found";

/// One finished system call, times in microseconds since the epoch.
#[derive(Debug)]
struct Call {
    thread: u32,
    name: String,
    text: String,
    began_us: u64,
    ended_us: u64,
}

/// Reads what `strace -f -ttt -T` wrote; calls that were interrupted by another thread's line are put together.
fn calls(path: &Path) -> Vec<Call> {
    let text = fs::read_to_string(path).expect("strace wrote its file");
    let mut open: Vec<(u32, String, u64)> = Vec::new();
    let mut done = Vec::new();
    for line in text.lines() {
        let Some((thread, line)) = line.split_once(' ') else { continue };
        let Some((time, rest)) = line.trim_start().split_once(' ') else { continue };
        let (Ok(thread), Ok(seconds)) = (thread.parse(), time.parse::<f64>()) else { continue };
        let (rest, began_us) = (rest.to_string(), (seconds * 1e6) as u64);
        if rest.ends_with("<unfinished ...>") {
            open.push((thread, rest, began_us));
            continue;
        }
        let (rest, began_us) = match rest.strip_prefix("<... ") {
            Some(resumed) => match open.iter().position(|(of, ..)| *of == thread) {
                Some(at) => {
                    let (_, first, began_us) = open.remove(at);
                    (first + resumed, began_us)
                }
                None => continue,
            },
            None => (rest, began_us),
        };
        let Some(duration) = rest.rsplit_once('<').and_then(|(_, time)| time.strip_suffix('>')?.parse::<f64>().ok())
        else {
            continue;
        };
        let name = rest.split('(').next().unwrap_or("").to_string();
        done.push(Call { thread, name, text: rest, began_us, ended_us: began_us + (duration * 1e6) as u64 });
    }
    done
}

/// When the entry with the mark was durable on a node: the end of the first fdatasync of the thread that wrote it.
fn durable_us(calls: &[Call]) -> Option<u64> {
    let write = calls.iter().find(|call| call.name.starts_with("pwrite") && call.text.contains(MARK))?;
    calls
        .iter()
        .filter(|call| call.thread == write.thread && call.name == "fdatasync" && call.began_us >= write.ended_us)
        .map(|call| call.ended_us)
        .min()
}

fn trace(pid: i32, output: &Path) -> Child {
    let calls = "trace=pwrite64,pwritev,pwritev2,fdatasync,fsync,write,writev,sendto,sendmsg";
    Command::new("strace")
        .args(["-f", "-ttt", "-T", "-s", "4096", "-e", calls, "-p", &pid.to_string(), "-o"])
        .arg(output)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace starts")
}

#[test]
fn no_ok_leaves_before_a_majority_has_synced() {
    const NAME: &str = "no_ok_leaves_before_a_majority_has_synced";
    if !has("strace", "-V") {
        return skip(NAME, "strace is not installed (apt-get install strace)");
    }
    let mut cluster = Processes::start(3);
    let leader = cluster.leader();
    cluster.converge();
    let outputs: Vec<_> = (1..=3).map(|node| cluster.directory.path().join(format!("trace{node}"))).collect();
    let mut tracers: Vec<Child> =
        (1..=3).map(|node| trace(cluster.pid(node).as_raw_nonzero().get(), &outputs[node - 1])).collect();
    let all_attached = tracers.iter_mut().all(attached);
    if all_attached {
        let mut stream = TcpStream::connect(cluster.address(leader)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("PUT {MARK} v\n").as_bytes()).unwrap();
        let mut answer = [0; 3];
        stream.read_exact(&mut answer).expect("the leader answers");
        assert_eq!(&answer, b"OK\n");
        // Its thread may still be in the call that sent this; with the next answer that call has returned.
        stream.write_all(b"PING\n").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("the leader answers");
        assert_eq!(&answer, b"PONG\n");
    }
    for node in 1..=3 {
        // Ending the node ends its tracer, with everything written.
        cluster.kill(node);
    }
    for tracer in &mut tracers {
        tracer.wait().unwrap();
    }
    if !all_attached {
        return skip(NAME, "strace may not attach to a process here (ptrace is not permitted)");
    }
    let traces: Vec<Vec<Call>> = outputs.iter().map(|path| calls(path)).collect();
    let answered = traces[leader - 1]
        .iter()
        .find(|call| call.text.contains("\"OK\\n\""))
        .unwrap_or_else(|| panic!("the answer is not in the trace: {:#?}", traces[leader - 1]));
    let durable: Vec<Option<u64>> = traces.iter().map(|calls| durable_us(calls)).collect();
    let before = durable.iter().flatten().filter(|at| **at <= answered.began_us).count();
    assert!(before >= 2, "OK left at {}, fdatasync returned at {durable:?}", answered.began_us);
}

impl Call {
    fn succeeded(&self) -> bool {
        !self.text.contains(") = -1 ")
    }

    /// The paths among its arguments.
    fn paths(&self) -> Vec<&str> {
        self.text.split('"').skip(1).step_by(2).collect()
    }

    /// The path that it gave a name to, and that must outlive a loss of power. A `.new` name need not, nor the lock's.
    fn made(&self) -> Option<&Path> {
        let path = match self.name.as_str() {
            "mkdir" | "mkdirat" => self.paths()[0],
            "open" | "openat" if self.text.contains("O_CREAT") => self.paths()[0],
            "rename" | "renameat" | "renameat2" => self.paths()[1],
            _ => return None,
        };
        let lasts = !path.ends_with(".new") && !path.ends_with("/lock");
        (lasts && self.succeeded()).then_some(Path::new(path))
    }

    /// Whether its first argument is a descriptor of `path`.
    fn is_on(&self, path: &Path) -> bool {
        let descriptor = self.text.split(['<', '>']).nth(1);
        descriptor == path.to_str()
    }
}

/// A node alone, on a directory whose parents are missing too, traced from its first call to its last; it answers a
/// write and fills a segment.
fn trace_start(data_dir: &Path, output: &Path) -> Vec<Call> {
    let names = "trace=open,openat,mkdir,mkdirat,rename,renameat,renameat2,fsync,pwrite64,write,sendto";
    let address = format!("127.0.0.1:{}", free_ports(1)[0]);
    let mut tracer = Command::new("strace")
        .args(["-f", "-y", "-ttt", "-T", "-s", "256", "-e", names, "-o"])
        .arg(output)
        .args([RAFTKV, "node", "--id", "1", "--segment-mib", "4", "--exit-on-stdin-close", "--listen", &address])
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace starts");
    let mut client = Client::new(vec![address], ClientSettings { timeout: PATIENCE, ..ClientSettings::default() });
    let deadline = Instant::now() + PATIENCE;
    while client.census().leader().is_none() {
        assert!(tracer.try_wait().unwrap().is_none(), "the node ended by itself");
        assert!(Instant::now() < deadline, "no leader after {PATIENCE:?}");
    }
    for number in 0..6 {
        client.put(format!("{MARK}{number}"), vec![b'v'; 1024 * 1024]).expect("the node writes");
    }
    drop(tracer.stdin.take());
    assert!(tracer.wait().unwrap().success(), "the node stops cleanly");
    calls(output)
}

/// Mutants: any sync of a directory is left out, of the real disk's or of the parents'.
#[test]
fn a_name_is_durable_before_anything_counts_on_it() {
    const NAME: &str = "a_name_is_durable_before_anything_counts_on_it";
    if !has("strace", "-V") {
        return skip(NAME, "strace is not installed (apt-get install strace)");
    }
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return skip(NAME, "strace may not trace a process here (ptrace is not permitted)");
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = directory.path().canonicalize().unwrap();
    let calls = trace_start(&root.join("made/for/node1"), &root.join("trace"));
    let is_write = |call: &&Call| call.name == "pwrite64";
    let first_write = calls.iter().filter(is_write).find(|call| call.text.contains(MARK)).expect("it wrote the entry");
    let (mut segments_written, mut seen) = (0, BTreeSet::new());
    for made in &calls {
        let Some(path) = made.made().filter(|path| path.starts_with(&root)) else { continue };
        let mut later_writes = calls.iter().filter(is_write).filter(|call| call.began_us >= made.ended_us);
        let counted_on_us = if path.extension().is_some_and(|extension| extension == "seg") {
            // One that was made ahead may not have been needed.
            let Some(write) = later_writes.find(|call| call.is_on(path)) else { continue };
            segments_written += 1;
            write.began_us
        } else if seen.insert(path) {
            first_write.began_us
        } else {
            // It replaces one that would do: the cluster is recorded in the identity when it has formed.
            u64::MAX
        };
        let folder = path.parent().unwrap();
        let syncs = calls.iter().filter(|call| call.name == "fsync" && call.is_on(folder) && call.succeeded());
        let synced_us = syncs.filter(|sync| sync.began_us >= made.ended_us).map(|sync| sync.ended_us).min();
        assert!(
            synced_us.is_some_and(|at| at <= counted_on_us),
            "{} had its name at {}, its folder was synced at {synced_us:?}, and it was counted on at {counted_on_us}",
            path.display(),
            made.ended_us
        );
    }
    let made: Vec<_> = calls.iter().filter_map(Call::made).filter_map(|path| path.strip_prefix(&root).ok()).collect();
    for name in ["made", "made/for", "made/for/node1", "made/for/node1/identity", "made/for/node1/term"] {
        assert!(made.contains(&Path::new(name)), "{name} is not among what was made: {made:?}");
    }
    assert!(segments_written >= 2, "{segments_written} segments were used: {made:?}");
}
