//! Which addresses there are, and which to try first. Pure.

use std::time::{Duration, Instant};

use crate::api::{Leader, ReadBy, Status};
use crate::base::NodeId;

/// A leader's address that could not be dialed is left alone for this long: nodes forward meanwhile.
const AVOID: Duration = Duration::from_secs(5);
/// Most addresses that are remembered, given and learned together.
const ADDRESSES_MAX: usize = 64;

/// The addresses given by the caller, those learned from the nodes, and who leads as far as is known.
#[derive(Debug)]
pub struct Addresses {
    known: Vec<String>,
    leader: Option<Leader>,
    /// Tried last: it failed or could not help.
    poor: Option<String>,
    avoided: Option<(String, Instant)>,
}

impl Addresses {
    pub fn new(given: Vec<String>) -> Addresses {
        let mut addresses = Addresses { known: Vec::new(), leader: None, poor: None, avoided: None };
        given.into_iter().for_each(|address| addresses.learn(&address));
        addresses
    }

    pub fn known(&self) -> &[String] {
        &self.known
    }

    pub fn leader(&self) -> Option<&Leader> {
        self.leader.as_ref()
    }

    fn learn(&mut self, address: &str) {
        let new = !address.is_empty() && !self.known.iter().any(|known| known == address);
        if new && self.known.len() < ADDRESSES_MAX {
            self.known.push(address.to_string());
        }
    }

    /// What a node says of its peers and its leader.
    pub fn on_status(&mut self, status: &Status) {
        for peer in &status.peers {
            self.learn(&peer.address);
        }
        self.on_leader(status.leader.as_ref());
    }

    /// What an answer says of the leader. One that names none leaves what is known: it may still be right.
    pub fn on_leader(&mut self, leader: Option<&Leader>) {
        if let Some(leader) = leader.filter(|leader| Some(*leader) != self.leader.as_ref()) {
            self.learn(&leader.address);
            self.leader = Some(leader.clone());
        }
    }

    /// `address` failed: it goes to the end of the line, and whom it called leader is in doubt if it was that.
    pub fn on_failure(&mut self, address: &str) {
        self.poor = Some(address.to_string());
        self.leader.take_if(|leader| &*leader.address == address);
    }

    /// Where to go from the node `at` (reached by `address`): the leader's address, if it is another and may be
    /// dialed. `None`: stay.
    pub fn better_than(&self, address: &str, at: Option<NodeId>, now: Instant) -> Option<String> {
        let leader = self.leader.as_ref()?;
        let elsewhere = at != Some(leader.id) && !leader.address.is_empty() && &*leader.address != address;
        let avoided =
            self.avoided.as_ref().is_some_and(|(avoided, until)| **avoided == *leader.address && now < *until);
        (elsewhere && !avoided).then(|| leader.address.to_string())
    }

    /// The leader's `address` could not be dialed from here.
    pub fn avoid(&mut self, address: &str, now: Instant) {
        self.avoided = Some((address.to_string(), now + AVOID));
    }

    /// All addresses in the order to try: the leader's, unless any node will do, then as given and learned, the one
    /// that failed last.
    pub fn candidates(&self, read_by: ReadBy) -> Vec<String> {
        let leader = self.leader.iter().filter(|leader| read_by == ReadBy::Leader && !leader.address.is_empty());
        let leader = leader.map(|leader| leader.address.to_string());
        let mut candidates: Vec<String> = Vec::with_capacity(self.known.len() + 1);
        for address in leader.chain(self.known.iter().cloned()) {
            if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
        if let Some(at) = candidates.iter().position(|address| Some(address) == self.poor.as_ref()) {
            // Those behind it come first, so that repeated failures go round instead of back and forth.
            let poor = candidates.remove(at);
            candidates.rotate_left(at);
            candidates.push(poor);
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(id: u32, address: &str) -> Leader {
        Leader { id: NodeId::new(id).unwrap(), address: address.into() }
    }

    fn abc() -> Addresses {
        Addresses::new(["a:1", "b:1", "c:1", "a:1"].map(String::from).to_vec())
    }

    #[test]
    fn the_leader_comes_first_and_the_failed_one_last() {
        let mut addresses = abc();
        assert_eq!(addresses.candidates(ReadBy::Leader), ["a:1", "b:1", "c:1"]);
        addresses.on_leader(Some(&leader(3, "c:1")));
        assert_eq!(addresses.candidates(ReadBy::Leader), ["c:1", "a:1", "b:1"]);
        assert_eq!(addresses.candidates(ReadBy::Any), ["a:1", "b:1", "c:1"]);
        addresses.on_failure("c:1");
        assert_eq!(addresses.candidates(ReadBy::Leader), ["a:1", "b:1", "c:1"]);
    }

    #[test]
    fn failures_go_round_all_addresses() {
        let mut addresses = abc();
        let mut asked = Vec::new();
        for _ in 0..6 {
            let next = addresses.candidates(ReadBy::Leader).remove(0);
            addresses.on_failure(&next);
            asked.push(next);
        }
        assert_eq!(asked, ["a:1", "b:1", "c:1", "a:1", "b:1", "c:1"]);
    }

    #[test]
    fn a_leader_that_cannot_be_dialed_is_left_alone_until_it_changes_or_time_passes() {
        let (mut addresses, now) = (abc(), Instant::now());
        addresses.on_leader(Some(&leader(2, "inside:1")));
        assert_eq!(addresses.better_than("a:1", NodeId::new(1), now).as_deref(), Some("inside:1"));
        assert_eq!(addresses.better_than("tunnel:1", NodeId::new(2), now), None, "already there, by another name");
        addresses.avoid("inside:1", now);
        assert_eq!(addresses.better_than("a:1", NodeId::new(1), now), None);
        assert!(addresses.better_than("a:1", NodeId::new(1), now + AVOID).is_some());
        addresses.on_leader(Some(&leader(3, "c:1")));
        assert!(addresses.better_than("a:1", NodeId::new(1), now).is_some());
    }
}
