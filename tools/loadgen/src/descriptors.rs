//! The limit on open files: each connection is one.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process has open beside its connections.
const OTHER_FILES: u64 = 1000;

/// Sees to it that this process, and those it starts, may open so many connections.
pub fn allow_connections(count: u64) -> io::Result<()> {
    let wanted = count + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(io::Error::other(format!(
            "{count} connections need a limit on open files of {wanted}, and the hard limit is {}; raise it as root \
             (ulimit -Hn {wanted}), or ask for fewer with --connections",
            maximum.unwrap_or_default()
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    Ok(())
}
