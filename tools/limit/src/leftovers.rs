//! What must not outlive this process: servers that would go on without it, and the directory of their data. Guards
//! remove them; and since no guard is dropped when a signal ends a process, a thread waits for signals and does it then.

use std::ffi::c_int;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
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
    eprintln!("ended by signal {signal}: the servers that were started are stopped");
    for directory in &left.directories {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("{} is left: {error}", directory.display());
            }
            _ => {}
        }
    }
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

    /// Waits for its end, and gives all that it says.
    pub fn output(command: &mut Command) -> io::Result<Output> {
        let process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let (stdout, stderr) = {
            let mut child = lock(&process.0);
            (child.stdout.take(), child.stderr.take())
        };
        let (stdout, stderr) = std::thread::scope(|scope| {
            let stderr = scope.spawn(|| read(stderr));
            (read(stdout), stderr.join().unwrap_or_else(|_| Ok(Vec::new())))
        });
        let status = lock(&process.0).wait()?;
        Ok(Output { status, stdout: stdout?, stderr: stderr? })
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

fn read(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes))?;
    Ok(bytes)
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
