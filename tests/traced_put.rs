//! The system calls of one PUT, traced on three real nodes: no OK leaves before a majority's fdatasync returned.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{PATIENCE, Processes, has, skip};

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

/// Waits until strace says that it is attached; false if it may not.
fn attached(child: &mut Child) -> bool {
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
