//! A test in a world of its own: it runs once more, as the only one, in namespaces that nothing outside sees.
//!
//! Network, mounts and processes are its own there, so that it may lay cables, mount and kill as it likes. The kernel
//! takes all of it away with the last process, whatever became of the test, a kill included. That takes root.

use std::process::{Command, Stdio};

use crate::common;

const INSIDE: &str = "RAFTKV_TEST_SECLUDED";

/// Mounts and processes of one's own; the processes end with the first of them.
pub const MOUNTS: &[&str] = &["--mount", "--pid", "--mount-proc", "--kill-child"];

/// A network too, in which not even loopback is up.
pub const NETWORK: &[&str] = &["--net", "--mount", "--pid", "--mount-proc", "--kill-child"];

/// Runs `inside` in a `world` of its own; `name` is the test's, with its module.
pub fn run(name: &str, world: &[&str], inside: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    if let Err(why) = possible(world) {
        return common::skip(name, &why);
    }
    let test = std::env::current_exe().expect("a test knows its program");
    let output = Command::new("unshare")
        .args(world)
        .arg(test)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success() && out.contains("1 passed"), "{name} failed in its own world:\n{out}\n{err}");
}

fn possible(world: &[&str]) -> Result<(), String> {
    let tried = Command::new("unshare").args(world).arg("true").output();
    let tried = tried.map_err(|_| "there is no unshare (apt-get install util-linux)".to_string())?;
    let said = String::from_utf8_lossy(&tried.stderr);
    match tried.status.success() {
        true => Ok(()),
        false => Err(format!("it needs namespaces of its own, for which it must be root: {}", said.trim())),
    }
}

/// Runs a command that must succeed.
pub fn shell(line: &str) {
    if let Err(why) = try_shell(line) {
        panic!("{why}");
    }
}

/// Runs a command, given as words with a space between; what it says if it fails.
pub fn try_shell(line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command has a first word");
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{line}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
