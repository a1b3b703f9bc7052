//! The original's text commands in frames, byte by byte, against real nodes: only the leader answers them.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{PATIENCE, Processes};

/// `RaftMessage { type: 4, client_req: { command } }` with its length in front; commands here are short.
fn frame(command: &str) -> Vec<u8> {
    let command = command.as_bytes();
    let length = u8::try_from(command.len()).unwrap();
    let mut message = vec![0x08, 4, 0x72, length + 2, 0x0a, length];
    message.extend_from_slice(command);
    let mut frame = u32::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&message);
    frame
}

fn ask(stream: &mut TcpStream, command: &str) -> Vec<u8> {
    stream.write_all(&frame(command)).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("the node answers");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("the node answers in full");
    answer
}

/// `client_resp` (field 15) of the answer: success (1), value (2), error (3), leader_hint (4).
fn response(success: bool, value: &str, error: &str, leader_hint: u8) -> Vec<u8> {
    let mut response = Vec::new();
    if success {
        response.extend([0x08, 1]);
    }
    for (tag, text) in [(0x12, value), (0x1a, error)] {
        if !text.is_empty() {
            response.extend([tag, u8::try_from(text.len()).unwrap()]);
            response.extend_from_slice(text.as_bytes());
        }
    }
    if leader_hint > 0 {
        response.extend([0x20, leader_hint]);
    }
    response
}

#[track_caller]
fn expect(answer: &[u8], response: &[u8]) {
    assert!(answer.ends_with(response), "{:?} is not in {:?}", response.escape_ascii(), answer.escape_ascii());
}

#[test]
fn the_leader_answers_the_originals_commands_and_the_others_name_it() {
    let mut cluster = Processes::start(3);
    let leader = cluster.leader();
    let mut stream = TcpStream::connect(cluster.address(leader)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for (command, value) in [
        ("LIST", "(empty)"),
        ("PUT k v with spaces", "OK"),
        ("GET k", "v with spaces"),
        ("GET none", "(nil)"),
        ("LIST", "k"),
        ("DELETE k", "OK"),
        ("DELETE k", "(nil)"),
        ("PUT", "ERR PUT requires key and value"),
        ("PUT k", "ERR PUT requires a value"),
        ("GET", "ERR GET requires a key"),
        ("X", "ERR unknown command 'X'"),
    ] {
        expect(&ask(&mut stream, command), &response(true, value, "", 0));
    }

    let follower = leader % 3 + 1;
    let mut stream = TcpStream::connect(cluster.address(follower)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for command in ["PUT k v", "GET k", "LIST", "PUT", "GET", "X"] {
        expect(&ask(&mut stream, command), &response(false, "", "Not leader", leader as u8));
    }
}
