//! What it costs to wake a thread that sleeps, and to be woken by it: on the same core, and on another one. On a
//! virtual machine whose idle cores halt this is the unit of everything else.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token, Waker};
use raftkv::node::wakes::{stay_on, two_cores};

use crate::figures::Latencies;

/// How one thread tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// A poll with a waker, as the net thread sleeps.
    Poll,
    /// A channel, as consensus and wal sleep.
    Channel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    SameCore,
    OtherCore,
}

/// One round: to the other thread and back. `None`: there is no other core.
pub fn measure(means: Means, place: Where, duration: Duration) -> io::Result<Option<Latencies>> {
    let [here, other] = two_cores();
    let there = match place {
        Where::SameCore => here,
        Where::OtherCore if other.is_none() => return Ok(None),
        Where::OtherCore => other,
    };
    let (ours, theirs) = match means {
        Means::Channel => {
            let ((to_them, from_us), (to_us, from_them)) =
                (crossbeam_channel::bounded(1), crossbeam_channel::bounded(1));
            (End::Channel(to_them, from_them), End::Channel(to_us, from_us))
        }
        Means::Poll => {
            let (our_poll, their_poll) = (Poll::new()?, Poll::new()?);
            let our_waker = Waker::new(our_poll.registry(), Token(0))?;
            let their_waker = Waker::new(their_poll.registry(), Token(0))?;
            (
                End::Poll(their_waker, our_poll, Events::with_capacity(4)),
                End::Poll(our_waker, their_poll, Events::with_capacity(4)),
            )
        }
    };
    // Threads of its own: where they run is forgotten with them.
    let measured = std::thread::scope(|scope| {
        scope.spawn(move || serve(theirs, there));
        scope.spawn(move || ask(ours, here, duration)).join().expect("it does not panic")
    })?;
    Ok(Some(measured))
}

enum End {
    Channel(Sender<bool>, Receiver<bool>),
    Poll(Waker, Poll, Events),
}

impl End {
    fn send(&self) -> io::Result<()> {
        match self {
            End::Channel(sender, _) => sender.send(true).map_err(io::Error::other),
            End::Poll(waker, ..) => waker.wake(),
        }
    }

    /// False: the other end is gone.
    fn receive(&mut self) -> io::Result<bool> {
        match self {
            End::Channel(_, receiver) => Ok(receiver.recv().is_ok()),
            End::Poll(_, poll, events) => {
                // A poll is not told that nobody is left who could wake it.
                poll.poll(events, Some(Duration::from_millis(200)))?;
                Ok(!events.is_empty())
            }
        }
    }
}

fn serve(mut end: End, core: Option<usize>) -> io::Result<()> {
    stay_on(core)?;
    while end.receive()? {
        if end.send().is_err() {
            break;
        }
    }
    Ok(())
}

fn ask(mut end: End, core: Option<usize>, duration: Duration) -> io::Result<Latencies> {
    stay_on(core)?;
    let mut latencies = Latencies::default();
    let begun = Instant::now();
    while begun.elapsed() < duration {
        let since = Instant::now();
        end.send()?;
        if !end.receive()? {
            return Err(io::Error::other("the other thread does not answer"));
        }
        latencies.record(since.elapsed());
    }
    latencies.took(begun.elapsed());
    Ok(latencies)
}
