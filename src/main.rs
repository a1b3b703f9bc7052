//! The program `raftkv`; all of it is in the library's `cli`, but for the commit that it was built from.

use std::process::ExitCode;

/// Requests are allocated on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    raftkv::cli::main(std::env::args_os(), env!("RAFTKV_COMMIT"))
}
