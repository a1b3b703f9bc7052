//! What it costs to wake a thread on this machine, and what follows from that: how long threads look for the next event
//! before they sleep ([`Spin`]). Measured at start, in a few milliseconds.
//!
//! Whoever waits, and does not know how long, loses least if he waits awake for about as long as a wake would cost; a
//! request's way leads over several threads and a disk, so it is a few times that here. Where a wake is cheap, or the
//! process has one core or less (affinity and quotas counted), threads sleep at once: nobody is to wait for them.

use std::fmt;
use std::io;
use std::time::Duration;

use super::clock;
use super::inbox::inbox;
use crate::base::limits::{SPIN_MAX, SPIN_WAKES};
use crate::net::Spin;

/// A wake that is cheaper is none to be avoided.
const CHEAP: Duration = Duration::from_micros(10);
const ROUNDS: usize = 32;
/// A machine that is so busy that not even this is enough gets no more of the start's time.
const ROUND_MAX: Duration = Duration::from_millis(10);

/// What was chosen, and why: a sentence for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Set(Duration),
    OneCore,
    /// One way, from the send to the receiver's first look.
    Measured {
        wake: Duration,
    },
    /// The threads to measure with don't get to run: the machine is busy just now, and will not be so for ever. Who
    /// looks for the next event gives way to whoever has something to do, so this is taken for a machine where it
    /// pays.
    Busy,
}

/// `set`: the operator's choice.
pub fn choose(set: Option<Duration>) -> Choice {
    match set {
        Some(set) => Choice::Set(set),
        None if std::thread::available_parallelism().map_or(1, usize::from) == 1 => Choice::OneCore,
        None => measure().map_or(Choice::Busy, |wake| Choice::Measured { wake }),
    }
}

impl Choice {
    pub fn spin(self) -> Spin {
        match self {
            Choice::Set(set) => Spin::new(set),
            Choice::Measured { wake } if wake > CHEAP => Spin::new((wake * SPIN_WAKES).min(SPIN_MAX)),
            Choice::Busy => Spin::new(SPIN_MAX),
            Choice::OneCore | Choice::Measured { .. } => Spin::OFF,
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Set(_) => write!(f, "as --spin-us says")?,
            Choice::OneCore => write!(f, "this process has one core at most")?,
            Choice::Measured { wake } => write!(f, "waking a thread takes {} us here", wake.as_micros())?,
            Choice::Busy => write!(f, "this machine is too busy to measure what a wake costs")?,
        }
        let spin = self.spin();
        match spin.is_off() {
            true => write!(f, ": threads sleep as soon as there is nothing to do"),
            false => write!(f, ": threads stay awake for {} us behind an event", spin.at_most().as_micros()),
        }
    }
}

/// Of some rounds between two threads on two cores one that is longer than most, halved: on a machine that is busy just
/// now many are short, since nobody sleeps deeply.
fn measure() -> Option<Duration> {
    let (to_them, mut their_inbox) = inbox(Spin::OFF);
    let (to_us, mut our_inbox) = inbox(Spin::OFF);
    let [ours, theirs] = two_cores();
    // Threads of their own: where they run is forgotten with them.
    let thread = |name: &str| std::thread::Builder::new().name(name.to_string());
    let them = thread("wakes-there").spawn(move || {
        let _ = stay_on(theirs); // or wherever it runs
        while let Ok(Some(())) = their_inbox.receive(None) {
            to_us.send(());
        }
    });
    let them = them.ok()?;
    let us = thread("wakes-here").spawn(move || {
        let _ = stay_on(ours);
        let mut rounds = Vec::with_capacity(ROUNDS);
        while rounds.len() < ROUNDS {
            let begun = clock::now();
            to_them.send(());
            match our_inbox.receive(Some(begun + ROUND_MAX)) {
                Ok(Some(())) => rounds.push(clock::now().since(begun)),
                Ok(None) | Err(_) => break,
            }
        }
        rounds
    });
    let mut rounds = us.ok()?.join().ok()?;
    them.join().ok()?;
    rounds.sort_unstable();
    rounds.get(ROUNDS * 3 / 4).map(|round| *round / 2)
}

/// Two that this process may run on.
#[cfg(target_os = "linux")]
pub fn two_cores() -> [Option<usize>; 2] {
    let allowed = rustix::thread::sched_getaffinity(None);
    let is_allowed = |core: &usize| allowed.as_ref().is_ok_and(|allowed| allowed.is_set(*core));
    let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(is_allowed);
    [cores.next(), cores.next()]
}

/// This thread runs on `core` alone from now on; without one, wherever the system puts it.
#[cfg(target_os = "linux")]
pub fn stay_on(core: Option<usize>) -> io::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}

#[cfg(not(target_os = "linux"))]
pub fn two_cores() -> [Option<usize>; 2] {
    [None, None]
}

#[cfg(not(target_os = "linux"))]
pub fn stay_on(_: Option<usize>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn threads_stay_awake_only_where_a_wake_is_dear() {
        let spins = |choice: Choice| choice.spin().at_most();
        assert_eq!(spins(Choice::Measured { wake: us(3) }), us(0));
        assert_eq!(spins(Choice::Measured { wake: us(20) }), us(20) * SPIN_WAKES);
        assert_eq!(spins(Choice::Measured { wake: us(40_000) }), SPIN_MAX);
        assert_eq!(spins(Choice::OneCore), us(0));
        assert_eq!(spins(Choice::Busy), SPIN_MAX);
        assert_eq!(spins(choose(Some(us(7)))), us(7));
    }

    #[test]
    fn the_operator_is_told_what_was_measured_and_what_follows() {
        let said = Choice::Measured { wake: us(40) }.to_string();
        assert!(said.contains("40 us here: threads stay awake for 200 us"), "{said}");
        assert!(choose(Some(us(0))).to_string().contains("--spin-us says: threads sleep"));
    }

    #[test]
    fn a_wake_takes_some_time() {
        // On a machine that is too busy it is not known.
        assert_ne!(measure(), Some(Duration::ZERO));
    }
}
