//! What must not outlive this process: servers that would go on without it, and the directory of their data. Guards
//! remove them; and since no guard is dropped when a signal ends a process, a thread waits for signals and does it then.

use std::ffi::c_int;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

/// What is there now. Who holds it keeps signals waiting; a signal never gives it back.
static LEFT: Mutex<Left> = Mutex::new(Left { is_watched: false, processes: Vec::new(), directories: Vec::new() });

struct Left {
    is_watched: bool,
    processes: Vec<Weak<Mutex<Child>>>,
    directories: Vec<PathBuf>,
}

impl Left {
    /// From the first time on, SIGINT and SIGTERM remove what is left before they end this process.
    fn watched() -> io::Result<MutexGuard<'static, Left>> {
        let mut left = lock(&LEFT);
        if !left.is_watched {
            let mut signals = Signals::new([SIGINT, SIGTERM])?;
            std::thread::Builder::new()
                .name("signals".to_string())
                .spawn(move || signals.forever().next().map(end_by))?;
            left.is_watched = true;
        }
        Ok(left)
    }
}

fn end_by(signal: c_int) {
    // Held to the end: nothing is started any more, and nobody says what fails because of this.
    let left = lock(&LEFT);
    let processes: Vec<_> = left.processes.iter().filter_map(Weak::upgrade).collect();
    // All at once: none is to say that another one has gone.
    processes.iter().for_each(|process| drop(lock(process).kill()));
    processes.iter().for_each(|process| end(process));
    // One that is gone already needs no removal.
    left.directories.iter().for_each(|directory| drop(std::fs::remove_dir_all(directory)));
    eprintln!("ended by signal {signal}: all that was started is stopped, and its data removed");
    std::process::exit(128 + signal);
}

/// A directory of its own in `directory`.
pub fn directory_in(directory: &Path) -> io::Result<TempDir> {
    let mut left = Left::watched()?;
    let made = tempfile::Builder::new().prefix("raftkv-").tempdir_in(directory)?;
    left.directories.push(made.path().to_path_buf());
    Ok(made)
}

/// A server's. Dropped, it ends.
pub struct Process(Arc<Mutex<Child>>);

impl Process {
    pub fn start(command: &mut Command) -> io::Result<Process> {
        let mut left = Left::watched()?;
        let child = Arc::new(Mutex::new(command.spawn()?));
        left.processes.retain(|process| process.strong_count() > 0);
        left.processes.push(Arc::downgrade(&child));
        Ok(Process(child))
    }

    /// What it says, if that was piped; to whoever asks first.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        lock(&self.0).stdout.take()
    }

    pub fn id(&self) -> u32 {
        lock(&self.0).id()
    }

    /// Ends it as a crash would: kill -9.
    pub fn kill(&self) {
        end(&self.0);
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        lock(&self.0).try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _left = lock(&LEFT);
        self.kill();
    }
}

fn end(process: &Mutex<Child>) {
    let mut child = lock(process);
    // One that is gone already needs no end.
    let _ = child.kill();
    let _ = child.wait();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
