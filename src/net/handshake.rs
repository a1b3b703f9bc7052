//! Whether two nodes may talk: the same rules for the one that dials and the one that accepts. Pure.
//!
//! A link carries consensus only between two nodes of one cluster that each mean the other. Everything that could
//! mix two clusters, two nodes or two versions is checked before the first message, and a refusal says what is
//! wrong on which side, since it ends up in the log of the node that was refused.

use std::sync::Arc;

use crate::base::limits::{PEER_PROTOCOL_LEVEL, PEER_PROTOCOL_LEVEL_MIN};
use crate::base::{ClusterId, InstanceId, NodeId};
use crate::guard::{Guard, removed};
use crate::wire::{Hello, HelloReply, Identity};

/// What this node says of itself, and holds others to.
#[derive(Clone, Debug)]
pub struct Me {
    pub id: NodeId,
    pub instance: InstanceId,
    pub cluster_name: String,
    /// `None` until the log's first entry is known; then it never changes.
    pub cluster: Option<ClusterId>,
    pub advertise: Arc<str>,
}

impl Me {
    pub fn hello(&self, to: NodeId) -> Hello {
        Hello { from: self.identity(), to }
    }

    pub fn welcome(&self) -> HelloReply {
        HelloReply { from: self.identity(), refusal: None }
    }

    pub fn refusal(&self, why: String) -> HelloReply {
        HelloReply { from: self.identity(), refusal: Some(why) }
    }

    fn identity(&self) -> Identity {
        Identity {
            id: self.id,
            level: PEER_PROTOCOL_LEVEL,
            level_min: PEER_PROTOCOL_LEVEL_MIN,
            cluster_name: self.cluster_name.clone(),
            cluster: self.cluster,
            instance: self.instance,
            address: self.advertise.clone(),
        }
    }

    /// For the node that accepts. The error is a sentence about the node that dials.
    pub fn check_hello(&self, hello: &Hello, peers: &[NodeId]) -> Result<(), String> {
        let (me, from) = (self.id, hello.from.id);
        if removed(Guard::HelloUnchecked) {
            return Ok(());
        }
        if hello.to != me {
            return Err(format!(
                "this is node {me}, and node {from} dialed it as node {}: one address is wrong",
                hello.to
            ));
        }
        if from == me {
            return Err(format!("node {from} says that it is node {me}, which is this one: two nodes share an id"));
        }
        if !peers.contains(&from) {
            let known: Vec<String> = peers.iter().map(NodeId::to_string).collect();
            let known = if known.is_empty() {
                "it has none".to_string()
            } else {
                format!("its peers are {}", known.join(", "))
            };
            return Err(format!("node {me} has no peer {from}; {known}"));
        }
        self.check_common(&hello.from)
    }

    /// For the node that dials `peer`.
    pub fn check_reply(&self, reply: &HelloReply, peer: NodeId) -> Result<(), String> {
        if let Some(why) = &reply.refusal {
            // It is printed in our log: one line, of bounded length, whoever wrote it.
            let why: String = why.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
            return Err(format!("it refuses: {why}"));
        }
        if reply.from.id != peer {
            return Err(format!("node {} answers there instead of node {peer}: one address is wrong", reply.from.id));
        }
        self.check_common(&reply.from)
    }

    fn check_common(&self, other: &Identity) -> Result<(), String> {
        let (me, id) = (self.id, other.id);
        if other.level < PEER_PROTOCOL_LEVEL_MIN || other.level_min > PEER_PROTOCOL_LEVEL {
            let theirs = format!("node {id} speaks peer protocol {} to {}", other.level_min, other.level);
            let ours = format!("node {me} speaks {PEER_PROTOCOL_LEVEL_MIN} to {PEER_PROTOCOL_LEVEL}");
            return Err(format!("{theirs}, and {ours}: upgrade the older one"));
        }
        if other.cluster_name != self.cluster_name {
            let names = (printable(&other.cluster_name), printable(&self.cluster_name));
            return Err(format!("node {id} is in cluster {:?}, and node {me} in {:?} (--cluster)", names.0, names.1));
        }
        if let Some(why) = self.another_cluster(id, other.cluster) {
            return Err(why);
        }
        if other.instance == self.instance {
            return Err(format!("node {id} runs on a copy of the data directory of node {me}: remove the copy"));
        }
        Ok(())
    }

    /// Why a node of `theirs` can't be in this node's cluster. An unknown id refuses nobody: it is learned later.
    pub fn another_cluster(&self, id: NodeId, theirs: Option<ClusterId>) -> Option<String> {
        let (ours, theirs) = (self.cluster?, theirs?);
        let sentence = || {
            let me = self.id;
            format!(
                "node {id} belongs to cluster id {theirs}, and node {me} to {ours}: their data have nothing in common"
            )
        };
        (ours != theirs).then(sentence)
    }
}

/// Who says that it is some node: from which directory, where it is to be reached, and from which host it dialed.
pub struct Introduced {
    pub instance: InstanceId,
    pub address: Arc<str>,
    pub host: String,
}

/// Why two that are linked at once under one id are two processes, and not one that dialed again; `None` if nothing
/// says so. Whose directories are copies of each other have one instance, but not one place.
pub fn twins(id: NodeId, older: &Introduced, newer: &Introduced) -> Option<String> {
    let is_one = older.instance == newer.instance && older.address == newer.address && older.host == newer.host;
    let place = |at: &Introduced| format!("{:?} (dialing from {})", printable(&at.address), at.host);
    let sentence = || {
        let of_what = if older.instance == newer.instance { "copies of one directory" } else { "two directories" };
        format!(
            "two processes say that they are node {id}: one at {}, one at {}, from {of_what}; both count as one node, \
             and what one of them acknowledges the other may not have: stop the one that was started by mistake, and \
             remove its directory",
            place(older),
            place(newer)
        )
    };
    (!is_one).then(sentence)
}

fn printable(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn me(id: u32) -> Me {
        let (instance, cluster) = (InstanceId(u128::from(id)), Some(ClusterId(7)));
        Me { id: node(id), instance, cluster_name: "test".into(), cluster, advertise: "h:1".into() }
    }

    fn refused(change: impl FnOnce(&mut Hello)) -> String {
        let mut hello = me(2).hello(node(1));
        change(&mut hello);
        me(1).check_hello(&hello, &[node(2), node(3)]).expect_err("it was accepted")
    }

    #[test]
    fn a_peer_that_means_this_node_is_welcome_also_while_a_cluster_id_is_unknown() {
        let peers = [node(2), node(3)];
        assert_eq!(me(1).check_hello(&me(2).hello(node(1)), &peers), Ok(()));
        assert_eq!(me(2).check_reply(&me(1).welcome(), node(1)), Ok(()));
        for (ours, theirs) in [(None, Some(ClusterId(7))), (Some(ClusterId(7)), None), (None, None)] {
            let (mut one, mut two) = (me(1), me(2));
            (one.cluster, two.cluster) = (ours, theirs);
            assert_eq!(one.check_hello(&two.hello(node(1)), &peers), Ok(()));
            assert_eq!(two.check_reply(&one.welcome(), node(1)), Ok(()));
        }
    }

    #[test]
    fn every_other_hello_is_refused_with_what_is_wrong() {
        assert!(refused(|hello| hello.to = node(3)).contains("dialed it as node 3"));
        assert!(refused(|hello| hello.from.id = node(1)).contains("two nodes share an id"));
        assert!(refused(|hello| hello.from.id = node(9)).contains("no peer 9; its peers are 2, 3"));
        assert!(refused(|hello| hello.from.level = 0).contains("peer protocol"));
        assert!(refused(|hello| (hello.from.level, hello.from.level_min) = (99, 99)).contains("peer protocol"));
        assert!(refused(|hello| hello.from.cluster_name = "prod".into()).contains("in cluster \"prod\""));
        assert!(refused(|hello| hello.from.cluster = Some(ClusterId(8))).contains("cluster id"));
        assert!(refused(|hello| hello.from.instance = InstanceId(1)).contains("copy of the data directory"));
    }

    #[test]
    fn two_links_under_one_id_are_two_processes_if_anything_tells_them_apart() {
        let from = |instance: u128, address: &str, host: &str| Introduced {
            instance: InstanceId(instance),
            address: address.into(),
            host: host.into(),
        };
        let first = from(2, "h:2", "10.0.0.2");
        assert_eq!(twins(node(2), &first, &from(2, "h:2", "10.0.0.2")), None, "it dialed again");
        for (other, told) in [
            (from(2, "h:9", "10.0.0.2"), "copies of one directory"),
            (from(2, "h:2", "10.0.0.9"), "copies of one directory"),
            (from(9, "h:2", "10.0.0.2"), "two directories"),
        ] {
            let why = twins(node(2), &first, &other).expect("they are two");
            let places = [format!("{:?}", first.address), format!("{:?}", other.address), other.host.clone()];
            assert!(why.starts_with("two processes say that they are node 2: ") && why.contains(told), "{why}");
            assert!(places.iter().all(|place| why.contains(place)), "{why}");
        }
    }

    #[test]
    fn the_dialer_holds_the_answer_to_the_same_rules() {
        let refused = |change: &dyn Fn(&mut HelloReply)| {
            let mut reply = me(1).welcome();
            change(&mut reply);
            me(2).check_reply(&reply, node(1)).expect_err("it was accepted")
        };
        assert!(refused(&|reply| reply.from.id = node(3)).contains("node 3 answers there instead of node 1"));
        assert!(refused(&|reply| reply.from.cluster = Some(ClusterId(8))).contains("cluster id"));
        assert!(refused(&|reply| reply.from.cluster_name = "prod".into()).contains("in cluster \"prod\""));
        assert_eq!(refused(&|reply| reply.refusal = Some("not\ntoday".into())), "it refuses: not today");
    }
}
