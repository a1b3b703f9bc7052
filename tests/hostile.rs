//! Hostile bytes against a real node: closed, counted, the node alive, its memory under the cap.

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use common::{PATIENCE, Processes, skip};
use raftkv::base::Random;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn connect(cluster: &Processes) -> TcpStream {
    let stream = TcpStream::connect(cluster.address(1)).expect("the node accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends what it can, then reads to the end: `Ok` with what came when the node closed, or an error on silence.
fn exchange(cluster: &Processes, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(cluster);
    // The node may close while this is still being sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("the node neither answers nor closes: {error}"),
    }
}

fn is_alive(cluster: &Processes) {
    assert_eq!(exchange(cluster, b"PING\n"), b"PONG\n");
}

/// Resident memory of node 1, in MiB.
fn resident_mib(cluster: &Processes) -> u64 {
    let path = format!("/proc/{}/status", cluster.pid(1).as_raw_nonzero());
    let status = fs::read_to_string(path).expect("Linux tells a process's memory");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it names the resident set");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("in KiB") / 1024
}

#[test]
fn every_length_that_can_not_be_is_closed() {
    let mut cluster = Processes::start(1);
    for length in [0u32, 16 * 1024 * 1024 + 1, 0x0100_0001, 0x01ff_ffff, 1 << 31, u32::MAX - 3, u32::MAX] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[8, 4, 0x72, 0]);
        exchange(&cluster, &bytes);
        is_alive(&cluster);
    }
    assert!(cluster.is_running(1));
}

#[test]
fn half_frames_and_noise_are_closed() {
    let mut cluster = Processes::start(1);
    let mut random = Random::new(47);
    for round in 0..500 {
        let length = random.below(200) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        if round % 2 == 0 {
            // A frame of the announced length, full of noise.
            bytes.splice(0..0, (length as u32).to_be_bytes());
        } else if round % 3 == 0 {
            // A frame that is announced and never ends.
            bytes.splice(0..0, (length as u32 + 100).to_be_bytes());
        }
        exchange(&cluster, &bytes);
    }
    is_alive(&cluster);
    assert!(cluster.is_running(1));
}

#[test]
fn a_web_page_runs_no_commands() {
    let mut cluster = Processes::start(1);
    for head in ["POST / HTTP/1.1\r\n", "GET / HTTP/1.0\r\n", "POST \r\n", "Host: localhost\r\n", "PUT /x HTTP/1.1\r\n"]
    {
        let request = format!("{head}Host: localhost\r\n\r\nPUT smuggled yes\r\nGET smuggled\r\n");
        let answer = exchange(&cluster, request.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("OK") && !answer.contains("yes"), "{head:?} was answered: {answer}");
    }
    assert_eq!(cluster.client().get("smuggled").unwrap(), None);
    assert!(cluster.is_running(1));
}

/// Descriptors that the tests of this process, which run side by side, need for other things.
const DESCRIPTORS_RESERVED: u64 = 256;
/// Fewer connections than this prove nothing about ten thousand.
const CROWD_MIN: usize = 2_000;
const CROWD_MAX: usize = 10_000;

/// Raises this process's descriptor limit as far as it may; how many connections it allows.
fn crowd_size() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // A limit that can't be raised stays what it is, and is counted with.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let free = descriptors.saturating_sub(DESCRIPTORS_RESERVED);
    usize::try_from(free).map_or(CROWD_MAX, |free| free.min(CROWD_MAX))
}

#[test]
fn an_endless_line_is_cut_off() {
    let mut cluster = Processes::start(1);
    // An endless line: the node answers line_too_long and closes; it never holds more than the limit.
    let answer = exchange(&cluster, &vec![b'a'; 6 * 1024 * 1024]);
    assert!(answer.is_empty() || answer.starts_with(b"ERR line_too_long"), "{:?}", String::from_utf8_lossy(&answer));
    is_alive(&cluster);
    assert!(cluster.is_running(1));
}

#[test]
fn ten_thousand_announced_frames_take_no_memory() {
    const NAME: &str = "ten_thousand_announced_frames_take_no_memory";
    let crowd = crowd_size();
    if crowd < CROWD_MIN {
        return skip(
            NAME,
            &format!("the descriptor limit allows {crowd} connections (raise the hard one: ulimit -Hn)"),
        );
    }
    let mut cluster = Processes::start(1);
    let before_mib = resident_mib(&cluster);
    // Each announces 16 MiB and sends a little of it. The node has the same descriptor limit as this process, and
    // needs some of them itself.
    let mut connections = Vec::new();
    for number in 0..crowd {
        let mut stream = TcpStream::connect(cluster.address(1))
            .unwrap_or_else(|error| panic!("connection {number} of {crowd}: {error}"));
        let mut bytes = (16u32 * 1024 * 1024).to_be_bytes().to_vec();
        bytes.extend_from_slice(&[8; 100]);
        stream.write_all(&bytes).expect("the node takes it, or its socket does");
        connections.push(stream);
    }
    println!("{} connections that each announce 16 MiB", connections.len());
    // Some are let go, so that there is room for a question.
    connections.truncate(connections.len() - 20);
    is_alive(&cluster);
    let grown_mib = resident_mib(&cluster).saturating_sub(before_mib);
    assert!(grown_mib < 256, "memory grew by {grown_mib} MiB");
    drop(connections);
    is_alive(&cluster);
    assert!(cluster.is_running(1));
}

#[test]
fn a_client_that_never_reads_its_answers_takes_bounded_memory() {
    let mut cluster = Processes::start(1);
    let value = "v".repeat(1024 * 1024);
    cluster.client().put("large", value).unwrap();
    let before_mib = resident_mib(&cluster);
    let mut streams: Vec<TcpStream> = (0..8).map(|_| connect(&cluster)).collect();
    for stream in &mut streams {
        stream.set_nonblocking(true).unwrap();
        // 100 MiB of answers asked for on each, none of them read.
        let _ = stream.write(&b"GET large\n".repeat(100));
    }
    is_alive(&cluster);
    let grown_mib = resident_mib(&cluster).saturating_sub(before_mib);
    assert!(grown_mib < 300, "memory grew by {grown_mib} MiB");
    assert!(cluster.is_running(1));
}

#[test]
fn pipelined_lines_are_answered_in_order_also_after_the_end_of_input() {
    let cluster = Processes::start(3);
    for node in 1..=3 {
        let mut stream = TcpStream::connect(cluster.address(node)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = format!(
            "PUT k{node} 1\nGET k{node}\nput k{node} \"two words \"\nGET k{node}\r\nDELETE k{node}\nGET k{node}\nPING"
        );
        stream.write_all(lines.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the node answers and closes");
        assert_eq!(answer, "OK\n1\nOK\n\"two words \"\nOK\n(nil)\nPONG\n", "node {node}");
    }
}
