//! The way into the net thread: a channel and the wake of its poll as one type, so that neither is forgotten.
//!
//! Any thread sends; the net thread alone receives. A send never blocks and costs a system call only when the
//! thread sleeps ([`super::sleeper`]). The channel has no bound of its own: what can be in it is bounded by the
//! requests admitted, the window of each peer and the peers' credit.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::{Registry, Token, Waker};

use super::dial::Resolved;
use super::sleeper::Sleeper;
use super::{NetEvent, Outbox};

/// All that reaches the net thread from other threads.
#[derive(Debug)]
pub enum Inbox {
    Event(NetEvent),
    /// A name look-up ended.
    Resolved(Resolved),
}

struct Bell {
    sleeper: Sleeper,
    waker: Waker,
}

impl Bell {
    fn ring_if_asleep(&self) {
        if self.sleeper.must_wake()
            && let Err(error) = self.waker.wake()
        {
            // An eventfd's write fails only if the poll is gone, and then nobody reads the channel either.
            log::error!("net: the loop can't be woken: {error}");
        }
    }
}

/// The sending end.
#[derive(Clone)]
pub struct Mailbox {
    to_net: Sender<Inbox>,
    bell: Arc<Bell>,
}

impl Mailbox {
    pub(super) fn post(&self, inbox: Inbox) {
        // The receiver is gone once the loop has ended; what comes later concerns nobody.
        let _ = self.to_net.send(inbox);
        self.bell.ring_if_asleep();
    }
}

impl Outbox for Mailbox {
    fn send(&self, events: &mut Vec<NetEvent>) {
        if events.is_empty() {
            return;
        }
        for event in events.drain(..) {
            let _ = self.to_net.send(Inbox::Event(event));
        }
        self.bell.ring_if_asleep();
    }
}

/// The receiving end, owned by the loop.
pub struct Letters {
    from_all: Receiver<Inbox>,
    bell: Arc<Bell>,
}

impl Letters {
    pub fn take(&self) -> Option<Inbox> {
        self.from_all.try_recv().ok()
    }

    pub fn is_empty(&self) -> bool {
        self.from_all.is_empty()
    }

    /// From here on a send wakes the poll; true: there is nothing to stay awake for.
    pub fn about_to_sleep(&self) -> bool {
        self.bell.sleeper.may_sleep(|| self.from_all.is_empty())
    }

    pub fn awake(&self) {
        self.bell.sleeper.awake();
    }
}

/// Both ends. `token` is what the poll reports for a wake; it needs no answer.
pub fn mailbox(registry: &Registry, token: Token) -> io::Result<(Mailbox, Letters)> {
    let (to_net, from_all) = unbounded();
    let bell = Arc::new(Bell { sleeper: Sleeper::default(), waker: Waker::new(registry, token)? });
    Ok((Mailbox { to_net, bell: Arc::clone(&bell) }, Letters { from_all, bell }))
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn no_wake_is_lost_between_the_flag_and_the_poll() {
        const SENT: usize = 20_000;
        let mut poll = Poll::new().unwrap();
        let (mailbox, letters) = mailbox(poll.registry(), Token(0)).unwrap();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let mailbox = mailbox.clone();
                thread::spawn(move || (0..SENT).for_each(|_| mailbox.send(&mut vec![NetEvent::Stop])))
            })
            .collect();
        let (mut events, mut received) = (Events::with_capacity(4), 0);
        while received < 2 * SENT {
            if letters.about_to_sleep() {
                // A lost wake shows as this deadline, with letters left in the channel.
                poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
                assert!(!events.is_empty(), "slept through {} letters", letters.from_all.len());
            }
            letters.awake();
            while letters.take().is_some() {
                received += 1;
            }
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!(letters.is_empty());
    }
}
