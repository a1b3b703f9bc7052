//! The commands as a script uses them: what they print, and how they end.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use common::{Processes, RAFTKV};
use raftkv::base::limits::VALUE_BYTES_MAX;

fn run(arguments: &[&str]) -> Output {
    run_with_input(arguments, b"")
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(RAFTKV)
        .args(arguments)
        .env_remove("RAFTKV_SERVERS")
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("raftkv starts");
    // A command that reads nothing may be gone already.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("raftkv ends")
}

#[track_caller]
fn expect(output: &Output, status: i32, stdout: &str) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "stdout: {out}\nstderr: {err}");
    assert_eq!(out, stdout, "stderr: {err}");
}

#[test]
fn scripts_put_get_delete_and_list() {
    let cluster = Processes::start(3);
    let servers = cluster.addresses().join(",");
    let at = |arguments: &[&str]| run(&[arguments, &["--server", &servers]].concat());
    expect(&at(&["put", "a", "hello world"]), 0, "OK\n");
    expect(&at(&["get", "a"]), 0, "hello world\n");
    expect(&at(&["get", "nothing"]), 0, "(nil)\n");
    expect(&at(&["put", "b", ""]), 0, "OK\n");
    expect(&at(&["list"]), 0, "a\nb\n");
    expect(&at(&["list", "--limit", "1"]), 0, "a\n");
    expect(&at(&["list", "--limit", "0"]), 2, "");
    expect(&at(&["delete", "a"]), 0, "OK\n");
    expect(&at(&["delete", "a"]), 0, "(nil)\n");
    expect(&run_with_input(&["put", "in", "-", "--server", &servers], b"from\nstdin"), 0, "OK\n");
    let json = at(&["get", "in", "--json"]);
    assert_eq!(json.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&json.stdout).contains(r#"from\nstdin"#), "{json:?}");

    // A value that is too large is refused alike, wherever it comes from.
    let large = run_with_input(&["put", "in", "-", "--server", &servers], &vec![b'v'; VALUE_BYTES_MAX + 1]);
    assert_eq!(large.status.code(), Some(1), "{large:?}");
    assert!(String::from_utf8_lossy(&large.stderr).contains("value_too_large"), "{large:?}");

    // Refused, and says why; the key is too large.
    let refused = at(&["put", &"k".repeat(5000), "v"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("key_too_large"), "{refused:?}");

    // The prompt's commands from a pipe: line by line, no prompt, the worst status.
    let piped = run_with_input(&["client", &servers.replace(',', " ")], b"PUT p 1\nGET p\nNOSUCH\nGET p\n");
    assert_eq!(piped.status.code(), Some(2), "one argument with two addresses is wrong usage: {piped:?}");
    let first = &cluster.addresses()[0];
    let piped = run_with_input(&["client", first], b"PUT p 1\nGET p\nNOSUCH\nGET p\nGET none\nLIST p\n");
    assert_eq!(String::from_utf8_lossy(&piped.stdout).lines().filter(|line| *line == "1").count(), 2, "{piped:?}");
    assert_eq!(piped.status.code(), Some(1), "{piped:?}");

    let status = at(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    assert!(String::from_utf8_lossy(&status.stdout).contains("leader"), "{status:?}");
}

#[test]
fn a_server_that_is_not_there_is_exit_status_3_and_wrong_usage_is_2() {
    let port = common::free_ports(1)[0];
    let nobody = format!("127.0.0.1:{port}");
    let output = run(&["get", "a", "--server", &nobody, "--timeout-ms", "300"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&nobody), "it does not name the address: {output:?}");
    assert_eq!(run(&["status", "--server", &nobody, "--timeout-ms", "300"]).status.code(), Some(3));
    assert_eq!(run(&["get"]).status.code(), Some(2));
    assert_eq!(run(&["nonsense"]).status.code(), Some(2));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    let version = run(&["--version"]);
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")), "{version:?}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).stdout.len() > 1000);
    }
}

#[test]
fn a_start_that_fails_says_in_one_line_what_and_how_to_mend_it() {
    let mut cluster = Processes::start(1);
    let start = |arguments: &[&str], status: i32, says: &[&str]| {
        let output = run(&[&["node"], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
        assert_eq!(stderr.trim().lines().count(), 1, "{arguments:?} says more than a line: {stderr}");
        for word in says {
            assert!(stderr.contains(word), "{arguments:?} does not say {word:?}: {stderr}");
        }
    };
    let free = format!("127.0.0.1:{}", common::free_ports(1)[0]);
    let taken = cluster.address(1);
    let fresh = cluster.directory.path().join("fresh").display().to_string();
    let used = cluster.data_dir(1).display().to_string();
    let pid = cluster.pid(1).as_raw_nonzero().to_string();
    start(&["--id", "1", "--listen", &taken, "--data-dir", &fresh], 10, &["in use", &taken]);
    start(&["--id", "1", "--listen", &free, "--data-dir", &used], 10, &["in use by process", &pid]);
    start(&["--id", "1", "--listen", "no.such.host.invalid:1", "--data-dir", &fresh], 10, &["no.such.host.invalid"]);
    start(&["--id", "1", "--listen", &free, "--data-dir", &fresh, "--peer", "2=10.1.2.3:1"], 10, &["--listen"]);
    // Also where there is something to warn of: the port is reachable from elsewhere, the directory was open to all.
    let everywhere = taken.replace("127.0.0.1", "0.0.0.0");
    start(&["--id", "1", "--listen", &everywhere, "--data-dir", &fresh], 10, &["in use", &everywhere]);
    cluster.kill(1);
    fs::set_permissions(&used, fs::Permissions::from_mode(0o755)).unwrap();
    start(&["--id", "2", "--listen", &free, "--data-dir", &used], 10, &["node 1", "node 2", &used]);
    start(&["--id", "1", "--listen", &free, "--data-dir", &used, "--cluster", "other"], 10, &["other", "raftkv"]);
    let mode = fs::metadata(&used).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "the data directory has mode {mode:o}");

    // In which term it voted is known to nobody else: nothing is changed, and the node does not start.
    let term = cluster.data_dir(1).join("term");
    let mut bytes = fs::read(&term).unwrap();
    (bytes[100], bytes[4096 + 100]) = (!bytes[100], !bytes[4096 + 100]);
    fs::write(&term, &bytes).unwrap();
    let says = ["term", &used, "leave this node down", "never put back an older copy"];
    start(&["--id", "1", "--listen", &free, "--data-dir", &used], 11, &says);
    assert_eq!(fs::read(&term).unwrap(), bytes, "a refused start changed the directory");
}

#[test]
fn a_wrong_option_names_what_it_may_be_and_a_wrong_variable_itself() {
    let says = |mut command: Command| {
        let output = command.output().expect("raftkv starts");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let mut wrong_variable = Command::new(RAFTKV);
    wrong_variable.args(["get", "a"]).env("RAFTKV_SERVERS", "localhost");
    assert!(says(wrong_variable).contains("RAFTKV_SERVERS"));
    let mut wrong_level = Command::new(RAFTKV);
    wrong_level.args(["node", "--id", "1", "--log-level", "loud"]);
    assert!(says(wrong_level).contains("debug"));
}

#[test]
fn an_empty_variable_counts_as_unset_and_addresses_come_before_servers() {
    let cluster = Processes::start(1);
    let (there, nobody) = (cluster.address(1), format!("127.0.0.1:{}", common::free_ports(1)[0]));
    let ping = |arguments: &[&str], variable: &str| {
        let mut command = Command::new(RAFTKV);
        command.args([&["client", "--timeout-ms", "2000"], arguments].concat()).env("RAFTKV_SERVERS", variable);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"PING\n").unwrap();
        child.wait_with_output().unwrap()
    };
    expect(&ping(&[&there], ""), 0, "PONG\n");
    expect(&ping(&["--server", &there], ""), 0, "PONG\n");
    expect(&ping(&[&nobody, "--server", &there], ""), 0, "PONG\n");
    // The variable may name another cluster: who names an address means no other.
    assert_eq!(ping(&[&nobody], &there).status.code(), Some(3));
    expect(&ping(&[], &there), 0, "PONG\n");
}

#[test]
fn netcat_gets_all_its_answers() {
    if !common::has("nc", "-h") {
        return common::skip("netcat_gets_all_its_answers", "nc (netcat-openbsd) is not installed");
    }
    let cluster = Processes::start(3);
    for port in &cluster.ports {
        let line = format!("printf 'PUT a 1\\nGET a\\n' | nc -q1 localhost {port}");
        expect(&Command::new("sh").args(["-c", &line]).output().expect("sh starts"), 0, "OK\n1\n");
    }
}

#[test]
fn a_second_demo_on_a_directory_is_refused() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = directory.path().display().to_string();
    let mut first = Command::new(RAFTKV)
        .args(["demo", "--nodes", "1", "--data-dir", &folder])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    first.stdin.as_mut().unwrap().write_all(b"PUT a 1\n").unwrap();
    first.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).expect("the first demo answers");
    let second = run(&["demo", "--nodes", "1", "--data-dir", &folder]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("another demo runs there"), "{second:?}");
    drop(first.stdin.take());
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

#[test]
fn the_short_form_starts_a_node_in_data_node_1() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let port = common::free_ports(1)[0];
    let mut child = Command::new(RAFTKV)
        .args(["1", &port.to_string()])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = format!("127.0.0.1:{port}");
    expect(&run(&["put", "k", "v", "--server", &server, "--timeout-ms", "60000"]), 0, "OK\n");
    assert!(directory.path().join("data/node1/wal").is_dir());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_demo_answers_piped_input_and_takes_its_nodes_with_it() {
    let output = run_with_input(&["demo"], b"PUT greeting hello\nGET greeting\n");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "stdout: {out}\nstderr: {err}");
    assert!(out.contains("OK\nhello\n"), "stdout: {out}\nstderr: {err}");
    let pids: Vec<u32> = pids_in(&format!("{out}{err}"));
    assert_eq!(pids.len(), 3, "the demo does not name three pids: {out}{err}");
    for pid in pids {
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "node process {pid} outlived the demo");
    }
}

#[test]
fn a_demo_that_is_killed_takes_its_nodes_with_it() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut demo = Command::new(RAFTKV)
        .args(["demo", "--data-dir", &directory.path().display().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    demo.stdin.as_mut().unwrap().write_all(b"PUT a 1\n").unwrap();
    demo.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).expect("the demo answers");
    demo.kill().unwrap();
    demo.wait().unwrap();
    let mut introduction = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut introduction).unwrap();
    let pids = pids_in(&introduction);
    assert_eq!(pids.len(), 3, "{introduction}");
    // A node that has ended lets go of its directory; its number may stay until somebody asks how it ended.
    let deadline = std::time::Instant::now() + common::PATIENCE;
    for node in 1..=3 {
        let lock = fs::File::open(directory.path().join(format!("node{node}/lock"))).unwrap();
        while lock.try_lock().is_err() {
            assert!(std::time::Instant::now() < deadline, "node {node} of {pids:?} outlived the demo");
            std::thread::yield_now();
        }
    }
}

/// The numbers behind the word `pid`, each once.
fn pids_in(text: &str) -> Vec<u32> {
    let mut pids: Vec<u32> = text
        .split("pid ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}
