//! The way into a thread that sleeps while nothing has come: a channel and the wake of the thread as one type, so that
//! neither is forgotten.
//!
//! The channel's own receive looks again a dozen times before it sleeps, however cheap or dear a wake is on this
//! machine. Here a setting says for how long ([`crate::net::Spin`]); and a send costs a system call only if the thread
//! sleeps ([`crate::net::Sleeper`]).

use std::sync::Arc;
use std::thread::{self, Thread};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use parking_lot::Mutex;

use super::clock;
use crate::base::Moment;
use crate::net::{Sleeper, Spin};

/// Both ends. `spin`: for how long the thread looks for the next event before it sleeps.
pub fn inbox<T>(spin: Spin) -> (Entrance<T>, Inbox<T>) {
    let (to_thread, from_all) = unbounded();
    let bell = Arc::new(Bell::default());
    let inbox = Inbox { from_all, bell: Arc::clone(&bell), spin, spins: false };
    (Entrance { to_thread: Some(to_thread), bell }, inbox)
}

#[derive(Debug, Default)]
struct Bell {
    sleeper: Sleeper,
    /// Who sleeps, or slept last: a client of an embedded cluster may move to another thread.
    thread: Mutex<Option<Thread>>,
}

impl Bell {
    fn ring_if_asleep(&self) {
        if self.sleeper.must_wake()
            && let Some(thread) = &*self.thread.lock()
        {
            thread.unpark();
        }
    }
}

/// The sending end. Any thread has one.
#[derive(Debug)]
pub struct Entrance<T> {
    /// `None` while it is dropped.
    to_thread: Option<Sender<T>>,
    bell: Arc<Bell>,
}

impl<T> Entrance<T> {
    /// Never blocks. False: the receiver is gone.
    pub fn send(&self, event: T) -> bool {
        let is_there = self.put(event);
        self.ring();
        is_there
    }

    /// Sends without a wake: [`Entrance::ring`] comes behind the last of several. A thread that is woken for the first
    /// of them would find that one alone, and do each by itself what it could do for all at once.
    pub fn put(&self, event: T) -> bool {
        self.to_thread.as_ref().is_some_and(|to_thread| to_thread.send(event).is_ok())
    }

    /// Wakes the thread if it sleeps.
    pub fn ring(&self) {
        self.bell.ring_if_asleep();
    }
}

impl<T> Clone for Entrance<T> {
    fn clone(&self) -> Entrance<T> {
        Entrance { to_thread: self.to_thread.clone(), bell: Arc::clone(&self.bell) }
    }
}

impl<T> Drop for Entrance<T> {
    /// Whoever sleeps is to see that nobody is left who could send.
    fn drop(&mut self) {
        self.to_thread = None;
        self.bell.ring_if_asleep();
    }
}

/// The receiving end, owned by one thread.
pub struct Inbox<T> {
    from_all: Receiver<T>,
    bell: Arc<Bell>,
    spin: Spin,
    /// The last time it was woken by an event: another one may be near. Behind a mere tick it sleeps at once.
    spins: bool,
}

/// Nobody is left who could send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl<T> Inbox<T> {
    /// The next event; `None` if it is `until` and none has come.
    pub fn receive(&mut self, until: Option<Moment>) -> Result<Option<T>, Gone> {
        let spins = std::mem::replace(&mut self.spins, true);
        let found = if spins { self.spin.wait(|| self.look()) } else { None };
        if let Some(received) = found {
            return received.map(Some);
        }
        loop {
            if let Some(received) = self.look() {
                return received.map(Some);
            }
            let left = until.map(|until| until.since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                self.spins = false;
                return Ok(None);
            }
            *self.bell.thread.lock() = Some(thread::current());
            let mut seen = None;
            let may_sleep = self.bell.sleeper.may_sleep(|| {
                seen = self.look();
                seen.is_none()
            });
            if may_sleep {
                left.map_or_else(thread::park, thread::park_timeout);
            }
            self.bell.sleeper.awake();
            if let Some(received) = seen {
                return received.map(Some);
            }
        }
    }

    /// What is there now.
    pub fn drain(&self) -> impl Iterator<Item = T> {
        self.from_all.try_iter()
    }

    fn look(&self) -> Option<Result<T, Gone>> {
        match self.from_all.try_recv() {
            Ok(event) => Some(Ok(event)),
            Err(TryRecvError::Disconnected) => Some(Err(Gone)),
            Err(TryRecvError::Empty) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_that_was_sent_is_slept_through() {
        const SENT: u64 = 20_000;
        let (entrance, mut inbox) = inbox(Spin::OFF);
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let entrance = entrance.clone();
                thread::spawn(move || (0..SENT).for_each(|event| assert!(entrance.send(event))))
            })
            .collect();
        drop(entrance);
        let mut received = 0;
        // A lost wake shows as this deadline.
        while let Ok(event) = inbox.receive(Some(clock::now() + Duration::from_secs(20))) {
            assert!(event.is_some(), "slept behind {received} events");
            received += 1;
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(received, 2 * SENT);
    }

    #[test]
    fn a_receiver_that_sleeps_sees_the_last_sender_go() {
        let (entrance, mut inbox) = inbox::<u64>(Spin::OFF);
        let receiver = thread::spawn(move || inbox.receive(None));
        drop(entrance);
        assert_eq!(receiver.join().unwrap(), Err(Gone));
    }

    #[test]
    fn a_time_that_has_come_ends_the_wait() {
        let (entrance, mut inbox) = inbox::<u64>(Spin::OFF);
        assert_eq!(inbox.receive(Some(clock::now())), Ok(None));
        assert!(entrance.send(7));
        assert_eq!(inbox.receive(Some(clock::now())), Ok(Some(7)));
    }
}
