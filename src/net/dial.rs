//! When and where to dial a peer: the back-off, and names resolved off the loop.
//!
//! [`Backoff`] is pure. [`resolve`] runs on its own short-lived thread for each dial: a name server that doesn't
//! answer delays the peer whose name it is, no other peer and never the loop.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::mailbox::{Inbox, Mailbox};
use crate::base::{NodeId, Random};

/// The pause before the next dial: it doubles from `min` to `max`, and each is drawn from half to one and a half
/// of itself, so that nodes that lost each other at one moment don't dial at one moment for ever.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max, next: min }
    }

    /// How long to wait now; the next one is twice as long.
    pub fn pause(&mut self, random: &mut Random) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        random.between(pause / 2, pause * 3 / 2)
    }

    /// A dial got through: the next failure is a new one.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

/// The answer to a look-up. `dial` echoes which dial asked, so that a late answer is known as such.
#[derive(Debug)]
pub struct Resolved {
    pub peer: NodeId,
    pub dial: u64,
    /// At least one address, or why there is none.
    pub addresses: Result<Vec<SocketAddr>, String>,
}

/// Looks `address` (`HOST:PORT`) up; the answer comes back through the mailbox. Exactly one answer for each call.
pub fn resolve(peer: NodeId, dial: u64, address: &Arc<str>, mailbox: &Mailbox) {
    // A literal address needs no thread.
    if let Ok(literal) = address.parse::<SocketAddr>() {
        return mailbox.post(Inbox::Resolved(Resolved { peer, dial, addresses: Ok(vec![literal]) }));
    }
    let (name, to_net) = (Arc::clone(address), mailbox.clone());
    let look_up = move || {
        let addresses = addresses_of(&name);
        to_net.post(Inbox::Resolved(Resolved { peer, dial, addresses }));
    };
    if let Err(error) = thread::Builder::new().name("resolve".into()).spawn(look_up) {
        let addresses = Err(format!("no thread to look up {address}: {error}"));
        mailbox.post(Inbox::Resolved(Resolved { peer, dial, addresses }));
    }
}

fn addresses_of(name: &str) -> Result<Vec<SocketAddr>, String> {
    match name.to_socket_addrs() {
        Ok(found) => {
            let addresses: Vec<_> = found.collect();
            if addresses.is_empty() { Err(format!("the name in {name} has no address")) } else { Ok(addresses) }
        }
        Err(error) => Err(format!("the name in {name} can't be resolved: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_its_bound_with_half_of_jitter_and_starts_over_after_success() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(1));
        for seed in 0..100 {
            let (mut backoff, mut random) = (Backoff::new(min, max), Random::new(seed));
            for expected_ms in [50, 100, 200, 400, 800, 1000, 1000, 1000] {
                let expected = Duration::from_millis(expected_ms);
                let pause = backoff.pause(&mut random);
                assert!((expected / 2..=expected * 3 / 2).contains(&pause), "seed {seed}: {pause:?} for {expected:?}");
            }
            backoff.reset();
            assert!(backoff.pause(&mut random) <= min * 3 / 2, "seed {seed}");
        }
    }

    #[test]
    fn a_name_without_a_port_or_an_address_says_so() {
        let why = addresses_of("localhost").unwrap_err();
        assert!(why.contains("localhost can't be resolved"), "{why}");
        assert!(!addresses_of("127.0.0.1:80").unwrap().is_empty());
    }
}
