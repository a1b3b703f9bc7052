//! The program `raftkv`; all of it is in the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    raftkv::cli::main(std::env::args_os())
}
