//! All nodes asked at once what they are: for `status`, for whoever waits for a leader, and for tests.

use std::collections::BTreeMap;

use super::{Client, Error};
use crate::api::Status;
use crate::base::{NodeId, is_same_address};

/// What was found at one address.
#[derive(Clone, Debug)]
pub struct Seen {
    pub address: String,
    /// Who it is; of one that did not answer, who its peers say it is.
    pub id: Option<NodeId>,
    pub status: Result<Status, Error>,
}

/// All nodes that are known, ordered by id; each once, though it may have several addresses.
#[derive(Clone, Debug)]
pub struct Census {
    pub nodes: Vec<Seen>,
}

impl Census {
    /// The node that says that it leads, in the highest term that any node is in: one that was deposed and has
    /// not heard of it does not count, nor one that others name but that does not answer.
    pub fn leader(&self) -> Option<&Seen> {
        let statuses = || self.nodes.iter().filter_map(|seen| Some((seen, seen.status.as_ref().ok()?)));
        let newest = statuses().map(|(_, status)| status.term).max()?;
        statuses()
            .find(|(_, status)| status.role == crate::base::Role::Leader && status.term == newest)
            .map(|(seen, _)| seen)
    }
}

impl Client {
    /// Asks every known address for its status, and the addresses that the answers bring, all in parallel.
    pub fn census(&mut self) -> Census {
        let mut answers: Vec<Seen> = Vec::new();
        loop {
            let new: Vec<String> = self
                .addresses()
                .iter()
                .filter(|address| !answers.iter().any(|seen| seen.address == **address))
                .cloned()
                .collect();
            if new.is_empty() {
                return Census { nodes: each_node_once(answers) };
            }
            let found = self.ask_all(&new);
            for status in found.iter().filter_map(|seen| seen.status.as_ref().ok()) {
                self.learn(status);
            }
            answers.extend(found);
        }
    }

    fn ask_all(&self, addresses: &[String]) -> Vec<Seen> {
        std::thread::scope(|scope| {
            let asked: Vec<_> =
                addresses.iter().map(|address| scope.spawn(move || (address, self.status(address)))).collect();
            let answered = asked.into_iter().map(|thread| thread.join().expect("asking for a status does not panic"));
            answered
                .map(|(address, status)| {
                    let id = status.as_ref().ok().map(|status| status.id);
                    Seen { address: address.clone(), id, status }
                })
                .collect()
        })
    }
}

/// Names the silent ones by what their peers say, and drops further addresses of a node that was reached.
fn each_node_once(answers: Vec<Seen>) -> Vec<Seen> {
    let mut named: BTreeMap<String, NodeId> = BTreeMap::new();
    for status in answers.iter().filter_map(|seen| seen.status.as_ref().ok()) {
        named.extend(status.peers.iter().map(|peer| (peer.address.to_string(), peer.id)));
    }
    let (reached, silent): (Vec<Seen>, Vec<Seen>) = answers.into_iter().partition(|seen| seen.status.is_ok());
    let mut nodes: Vec<Seen> = Vec::new();
    for mut seen in reached.into_iter().chain(silent) {
        // Its peers may know it as 127.0.0.1 where the person wrote localhost.
        let name = || named.iter().find(|(address, _)| is_same_address(address, &seen.address)).map(|(_, id)| *id);
        seen.id = seen.id.or_else(name);
        if seen.id.is_none() || !nodes.iter().any(|node| node.id == seen.id) {
            nodes.push(seen);
        }
    }
    nodes.sort_by_key(|seen| (seen.id.is_none(), seen.id));
    nodes
}
