//! The program `raftkv`; all of it is in the library's `cli`, but for the commit that it was built from.

use std::process::ExitCode;

/// Requests are allocated on one thread and freed on another. It asks for huge pages, and `main` for none.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The first touch of one clears 2 MiB: milliseconds on a virtual machine, in which its thread serves nobody. Where
    // the kernel has none there is nothing to refuse.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    raftkv::cli::main(std::env::args_os(), env!("RAFTKV_COMMIT"))
}
