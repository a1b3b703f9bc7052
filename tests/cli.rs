//! The program's command line from outside: arguments, exit statuses, JSON; against nobody, and against a small
//! server that answers as a node does.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raftkv::api::{Error, ErrorCode, Found, Leader, Outcome, Reply, Request, Status};
use raftkv::base::limits::FRAME_BYTES_MAX;
use raftkv::base::{LogIndex, NodeId, Operation, Revision, Role, Term};
use raftkv::wire;

type Keys = Arc<Mutex<BTreeMap<Bytes, Bytes>>>;

/// A map behind the real codecs, on a port of its own. The key `drop` closes the connection in place of an answer.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (keys, own) = (Keys::default(), address.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (keys, own) = (keys.clone(), own.clone());
            std::thread::spawn(move || serve(stream.unwrap(), &keys, &own));
        }
    });
    address
}

fn serve(mut stream: TcpStream, keys: &Keys, own: &str) -> Option<()> {
    let (mut incoming, mut buffer) = (BytesMut::new(), [0; 4096]);
    let id = NodeId::new(1).unwrap();
    loop {
        while let Some(frame) = wire::take_frame(&mut incoming, FRAME_BYTES_MAX).unwrap() {
            let asked = wire::decode_request(frame).unwrap();
            let leader = Some(Leader { id, address: own.into() });
            let result = match asked.request {
                // As a node does that was built before there were any.
                Ok(Request::Latency) => Err(Error::new(ErrorCode::BadFrame, "no operation that this version knows")),
                Ok(request) => Ok(answer(request, keys, leader.clone())?),
                Err(error) => Err(error),
            };
            let mut out = BytesMut::new();
            wire::encode_reply(asked.id, asked.style, &Reply { result, leader }, id, &mut out);
            stream.write_all(&out).ok()?;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => incoming.extend_from_slice(&buffer[..read]),
        }
    }
}

/// `None`: hang up.
fn answer(request: Request, keys: &Keys, leader: Option<Leader>) -> Option<Outcome> {
    let mut keys = keys.lock().unwrap();
    let revision = Revision(7);
    Some(match request {
        Request::Write(Operation::Put { key, .. }) if key == "drop" => return None,
        Request::Write(Operation::Put { key, value }) => {
            keys.insert(key, value);
            Outcome::Put { revision }
        }
        Request::Write(Operation::Delete { key }) => {
            Outcome::Deleted { revision, existed: keys.remove(&key).is_some() }
        }
        Request::Get { key, .. } => {
            let found = |value: &Bytes| Found {
                value: value.clone().into(),
                create_revision: Revision(1),
                mod_revision: Revision(2),
                version: 3,
            };
            Outcome::Value { revision, found: keys.get(&key).map(found) }
        }
        Request::List { prefix, .. } => {
            let keys = keys.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
            Outcome::Keys { revision, keys, more: false }
        }
        Request::Status | Request::Scrub | Request::Latency => Outcome::Status(Box::new(Status {
            id: NodeId::new(1).unwrap(),
            cluster: "test".into(),
            role: Role::Leader,
            term: Term(2),
            leader,
            commit: LogIndex(5),
            applied: LogIndex(5),
            last: LogIndex(5),
            revision,
            keys: 0,
            digest: 0,
            peers: vec![],
            version: "test".into(),
            problems: Vec::new(),
            scrub: Default::default(),
            uptime: Duration::from_secs(61),
            holds_lease: false,
        })),
    })
}

/// An address at which nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn raftkv(servers: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_raftkv"))
        .args(arguments)
        .env("RAFTKV_SERVERS", servers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that ends without reading its input is fine.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Exit status and standard output.
fn run(servers: &str, arguments: &[&str]) -> (i32, String) {
    piped(servers, arguments, b"")
}

fn piped(servers: &str, arguments: &[&str], input: &[u8]) -> (i32, String) {
    let output = raftkv(servers, arguments, input);
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn done(text: &str) -> (i32, String) {
    (0, text.to_string())
}

#[test]
fn one_command_puts_reads_lists_and_deletes() {
    let server = server();
    assert_eq!(run(&server, &["put", "greeting", "hello world"]), done("OK\n"));
    assert_eq!(run(&server, &["get", "greeting"]), done("hello world\n"));
    assert_eq!(run(&server, &["list"]), done("greeting\n"));
    assert_eq!(run(&server, &["delete", "greeting"]), done("OK\n"));
    assert_eq!(run(&server, &["delete", "greeting"]), done("(nil)\n"));
    assert_eq!(run(&server, &["get", "greeting"]), done("(nil)\n"));
    assert_eq!(run(&server, &["list"]), done("(empty)\n"));
}

#[test]
fn a_value_from_standard_input_survives_as_it_is() {
    let server = server();
    let value: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert_eq!(piped(&server, &["put", "bytes", "-"], &value), done("OK\n"));
    assert_eq!(raftkv(&server, &["get", "--raw", "bytes"], b"").stdout, value);
    let too_large = vec![b'a'; 1024 * 1024 + 1];
    assert_eq!(piped(&server, &["put", "bytes", "-"], &too_large).0, 1);
}

#[test]
fn json_answers_are_objects_also_when_they_are_errors() {
    let server = server();
    assert_eq!(run(&server, &["put", "--json", "a", "1"]), done("{\"ok\":true,\"revision\":7}\n"));
    let (_, found) = run(&server, &["get", "--json", "a"]);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!((&found["value"], &found["version"]), (&"1".into(), &3.into()));
    assert_eq!(run(&server, &["get", "--json", "b"]), done("{\"found\":false,\"revision\":7}\n"));
    let (status, error) = run(&server, &["get", "--json", ""]);
    let error: serde_json::Value = serde_json::from_str(&error).unwrap();
    assert_eq!((status, &error["error"]["code"]), (1, &"bad_arguments".into()));
    let (_, help) = piped(&server, &["client", "--json"], b"HELP\n");
    let help: serde_json::Value = serde_json::from_str(&help).unwrap();
    assert!(help["help"].as_str().unwrap().contains("PUT key value"), "{help}");
    let (status, census) = run(&server, &["status", "--json"]);
    let census: serde_json::Value = serde_json::from_str(&census).unwrap();
    assert_eq!((status, &census["leader"]["id"], &census["nodes"][0]["term"]), (0, &1.into(), &2.into()));
}

#[test]
fn each_kind_of_failure_has_its_exit_status() {
    let server = server();
    assert_eq!(run(&server, &["get", ""]).0, 1, "refused");
    assert_eq!(run(&server, &["frobnicate"]).0, 2, "usage");
    assert_eq!(run(&server, &["get", "--server", "nonsense", "a"]).0, 2, "usage");
    assert_eq!(run(&nobody(), &["get", "--timeout-ms", "50", "a"]).0, 3, "unreachable");
    assert_eq!(run(&nobody(), &["status", "--timeout-ms", "50"]).0, 3, "unreachable");
    assert_eq!(run(&server, &["put", "drop", "1"]).0, 4, "outcome unknown");
    assert_eq!(piped(&nobody(), &["client"], b"scrub\n").0, 3, "unreachable, from the prompt");
    assert_eq!(run(&server, &["node", "--id", "1", "--peer", "1=localhost:5002"]).0, 10, "configuration");
}

#[test]
fn piped_lines_are_answered_in_order_and_the_worst_status_is_given() {
    let server = server();
    let lines = b"PUT a b c\r\nget a\nGET none\n\nLIST\nPING\nDELETE a\nLIST";
    assert_eq!(piped(&server, &["client"], lines), done("OK\nb c\n(nil)\na\nPONG\nOK\n(empty)\n"));
    let (status, answers) = piped(&server, &["client", &server], b"NONSENSE\nPUT a 1\n");
    assert!(answers.starts_with("ERR unknown_command ") && answers.ends_with("\nOK\n"), "{answers}");
    assert_eq!(status, 1);
    let (status, answers) = piped(&server, &["client"], b"PUT drop 1\nNONSENSE\nexit\nPUT never 1\n");
    assert!(answers.starts_with("ERR outcome_unknown ") && answers.lines().count() == 2, "{answers}");
    assert_eq!(status, 4);
    assert_eq!(run(&server, &["get", "never"]), done("(nil)\n"));
}

#[test]
fn status_shows_a_row_for_each_node() {
    let server = server();
    let (status, table) = run(&format!("{server},{}", nobody()), &["status"]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!((status, rows.len()), (0, 3), "{table}");
    assert!(rows[1].contains("leader") && rows[1].contains("1m1s"), "{table}");
    assert!(rows[2].contains("unreachable") && rows[2].contains("connection refused"), "{table}");
}

#[test]
fn a_node_too_old_to_measure_is_told_apart() {
    let server = server();
    let output = raftkv(&server, &["status", "--latency"], b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("node 1 at 127.0.0.1:") && said.contains("runs a version (test) that does not"), "{said}");
    let (status, json) = run(&server, &["status", "--latency", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let node = &json["nodes"][0];
    assert_eq!((status, &node["role"], &node["error"]["code"]), (1, &"leader".into(), &"bad_frame".into()));
    assert!(node["why_silent"].as_str().unwrap().contains("a newer one does"), "{node}");
    let one = ["status", "--latency", "--only", "--timeout-ms", "50", "--server"];
    assert_eq!(run("", &[&one[..], &[&nobody()]].concat()).0, 3, "unreachable");
    assert_eq!(run(&server, &["status", "--only"]).0, 2, "usage");
}

#[test]
fn the_version_names_the_commit_and_the_data_format() {
    let (status, version) = run("", &["--version"]);
    assert_eq!(status, 0);
    assert!(
        version.starts_with("raftkv ") && version.contains("commit ") && version.contains("data format 2"),
        "{version}"
    );
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let (status, script) = run("", &["completions", shell]);
        assert!(status == 0 && script.contains("raftkv"), "{shell}");
    }
}
