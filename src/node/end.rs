//! Why a node ends, and who says so first. Used by all its threads.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Why a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// Its disk failed; what was acknowledged before is safe.
    Io(String),
    /// Something that was durable can't be understood.
    Damaged(String),
}

/// Takes the first reason why a node ends; every thread has one.
#[derive(Clone, Debug)]
pub struct Ender(Sender<End>);

impl Ender {
    pub fn new() -> (Ender, Receiver<End>) {
        let (sender, receiver) = bounded(1);
        (Ender(sender), receiver)
    }

    /// Only the first one counts.
    pub fn end(&self, end: End) {
        let _ = self.0.try_send(end);
    }
}

/// Ends the node when its thread panics. The program aborts before that (`cli::node`); who embeds a node need not.
struct EndOnPanic {
    thread: String,
    ender: Ender,
}

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.ender.end(End::Io(format!("the thread {} has panicked", self.thread)));
        }
    }
}

/// Starts a thread of a node: if it panics, the node ends.
pub fn spawn<T: Send + 'static>(
    name: String,
    ender: Ender,
    run: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    let guard = EndOnPanic { thread: name.clone(), ender };
    std::thread::Builder::new().name(name).spawn(move || {
        let _guard = guard;
        run()
    })
}
