//! The limit on open files: each connection is one.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process may have open beside its connections, and what it needs at least.
const OTHER_FILES: u64 = 1000;
const OTHER_FILES_MIN: u64 = 32;

/// Sees to it that this process, and those it starts, may open so many connections, as far as the system lets it.
/// `option` is what asks for fewer.
pub fn allow_connections(count: u64, option: &str) -> io::Result<()> {
    let (wanted, needed) = (count + OTHER_FILES, count + OTHER_FILES_MIN);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        return Err(io::Error::other(format!(
            "{count} connections need a limit on open files of {needed}, and the hard limit is {maximum}; raise it as \
             root (ulimit -Hn {wanted}), or ask for fewer with {option}"
        )));
    }
    let current = Some(maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
    Ok(())
}
