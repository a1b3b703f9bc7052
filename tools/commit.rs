//! The build script: the commit for `--version`. It runs again when HEAD moves, and at nothing else: a macro that reads
//! git's index had the program compiled anew after each `git status` that found a file touched.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=tools/commit.rs");
    let described = git(&["describe", "--always", "--abbrev=12"]);
    println!("cargo::rustc-env=RAFTKV_COMMIT={}", described.as_deref().unwrap_or("unknown"));
    // The log of HEAD has a line for each commit and checkout; without one, HEAD names the branch at least. A path that
    // is not there would have this run each time.
    let paths = ["logs/HEAD", "HEAD"].into_iter().filter_map(|name| git(&["rev-parse", "--git-path", name]));
    if let Some(path) = paths.into_iter().find(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// What git prints; `None` without git, or outside of a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_string())
}
