//! What a signal leaves behind: nothing.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything takes; a test that waits this long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// There is no event for what another process does to files and processes.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

fn children(process: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    children.split_whitespace().map(String::from).collect()
}

#[test]
fn a_signal_ends_the_servers_and_removes_their_files() {
    for signal in [Signal::INT, Signal::TERM] {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let limit = Command::new(env!("CARGO_BIN_EXE_limit"))
            .args(["relay", "--clients", "1", "--duration-s", "60", "--directory"])
            .arg(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let id = limit.id();
        wait_until("three servers, with files", || children(id).len() == 3 && !is_empty(directory.path()));
        let servers = children(id);
        kill_process(Pid::from_child(&limit), signal).unwrap();
        let output = limit.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(128 + signal.as_raw()), "{said}");
        assert!(said.contains(&format!("ended by signal {}", signal.as_raw())), "{said}");
        assert!(servers.iter().all(|server| !Path::new("/proc").join(server).exists()), "{servers:?} are still there");
        assert!(is_empty(directory.path()), "its files are still there");
    }
}
