//! The network thread of a node, as far as it is simulated: the production code for each of its connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use raftkv::base::{ClusterId, InstanceId, NodeId, Random};
use raftkv::net::{Admission, Backoff, ConnectionId, LinkQueue, Me, NetLimits, PeerCredit, Served, Session};

use super::super::node::CLUSTER_NAME;
use super::WireId;

/// The network thread of a node.
pub struct NodeNet {
    pub me: Me,
    pub limits: Arc<NetLimits>,
    pub admission: Admission,
    pub sessions: BTreeMap<u32, ClientSession>,
    /// By slot: the generation of its next use.
    pub generations: Vec<u32>,
    pub links: BTreeMap<NodeId, Link>,
    pub inbound: BTreeMap<NodeId, Inbound>,
    pub credit: PeerCredit,
    pub random: Random,
    pub touched: Vec<ConnectionId>,
    pub served: Arc<Served>,
}

pub struct ClientSession {
    pub generation: u32,
    pub session: Session,
    pub conn: u32,
    /// How many times the thread has looked at values that it has not answered yet; what comes meanwhile waits.
    pub reading: usize,
    pub held: BytesMut,
}

pub struct Link {
    pub queue: LinkQueue,
    pub backoff: Backoff,
    pub wire: Option<WireId>,
    pub is_up: bool,
    pub cluster: Option<ClusterId>,
}

pub struct Inbound {
    pub wire: WireId,
    pub instance: InstanceId,
    pub cluster: Option<ClusterId>,
}

impl NodeNet {
    pub fn new(
        id: NodeId,
        instance: InstanceId,
        cluster: Option<ClusterId>,
        peers: Vec<NodeId>,
        limits: NetLimits,
        random: Random,
        served: Arc<Served>,
    ) -> NodeNet {
        let advertise = format!("sim:{id}").into();
        let me = Me { id, instance, cluster_name: CLUSTER_NAME.to_string(), cluster, advertise };
        let limits = Arc::new(limits);
        let links = peers.into_iter().map(|peer| (peer, Link::new(&limits))).collect();
        NodeNet {
            me,
            admission: Admission::new(limits.requests_max),
            limits,
            sessions: BTreeMap::new(),
            generations: Vec::new(),
            links,
            inbound: BTreeMap::new(),
            credit: PeerCredit::default(),
            random,
            touched: Vec::new(),
            served,
        }
    }

    pub fn free_slot(&mut self) -> u32 {
        let free = (0..).find(|slot| !self.sessions.contains_key(slot)).expect("connections are few");
        if self.generations.len() <= free as usize {
            self.generations.push(0);
        }
        free
    }

    /// With what all sessions of the node may still take.
    pub fn session(&mut self, id: ConnectionId) -> Option<(&mut ClientSession, &mut Admission)> {
        let session = self.sessions.get_mut(&id.slot).filter(|session| session.generation == id.generation)?;
        Some((session, &mut self.admission))
    }
}

impl Link {
    fn new(limits: &NetLimits) -> Link {
        Link {
            queue: LinkQueue::new(limits.link_queue_bytes_max),
            backoff: Backoff::new(limits.dial_backoff_min, limits.dial_backoff_max),
            wire: None,
            is_up: false,
            cluster: None,
        }
    }
}
