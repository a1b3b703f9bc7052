//! The program `raftkv`; all of it is in the library's `cli`, but for the commit that it was built from.

use std::process::ExitCode;

const COMMIT: &str =
    git_version::git_version!(args = ["--always", "--dirty=-modified", "--abbrev=12"], fallback = "unknown");

fn main() -> ExitCode {
    raftkv::cli::main(std::env::args_os(), COMMIT)
}
