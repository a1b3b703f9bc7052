//! A whole cluster in one process: the same replica, loops and write-ahead log; only the links, and if wanted the
//! disk, differ.
//!
//! For tests (kill nodes, cut links, lose what was not synced), for benches, and for programs that want a
//! replicated state machine's behaviour without sockets. Each node has its own threads. Messages go from one
//! node's outbox straight into another's inbox, without bytes in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::api::{self, Error, ErrorCode, Found, IfNotLeading, Latency, Outcome, ReadBy, Reply, Request, Status};
use crate::base::limits::SEGMENT_BYTES_MIN;
use crate::base::{ClusterId, InstanceId, Member, Members, Moment, NodeId, Operation, Random, Record, Revision};
use crate::disk::{DataDir, Disk, MemoryDisk, OpenError, Wanted};
use crate::net::{self, ConnectionId, FromNet, NetEvent, Origin, Outbox, PeerCredit, Served, Spin};

use super::clock;
use super::consensus::ConsensusEvent;
use super::core::{Core, CoreParts, OpenedCore};
use super::end::End;
use super::inbox::{Entrance, inbox};
use super::settings::Tuning;
use super::wakes;

/// Where the nodes of an embedded cluster keep their data.
#[derive(Clone)]
pub enum Storage {
    /// Real files, in a directory for each node below this one.
    Directory(PathBuf),
    /// Any disk: called at each start of a node. `disk::MemoryDisk` for tests.
    Disks(Arc<dyn Fn(NodeId) -> Arc<dyn Disk> + Send + Sync>),
    /// Nowhere, for state that need not outlive the process: a write waits for the memory of a majority, and for no
    /// disk. A node that was killed has lost all it held: started again it counts in no majority, as one whose
    /// directory was wiped, so that a cluster of three lives through the loss of one node, once. Its log is in memory
    /// whole.
    Volatile,
}

#[derive(Clone)]
pub struct EmbeddedSettings {
    /// How many nodes, with the ids 1 to `nodes`.
    pub nodes: u32,
    pub storage: Storage,
    pub tuning: Tuning,
    /// Seeds the election timeouts.
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("node {id} can't be opened: {source}")]
    Open { id: NodeId, source: OpenError },
    #[error("a thread can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The cluster. Dropping it ends all nodes at once, as a kill would.
pub struct EmbeddedCluster {
    settings: EmbeddedSettings,
    routes: Arc<Routes>,
    cores: BTreeMap<NodeId, Core>,
    cluster: ClusterId,
    /// How long its threads, and those of its clients, look for the next event before they sleep.
    spin: Spin,
    /// How many nodes were started so far.
    starts: u64,
}

/// Where a node takes what others send it.
struct Inbox {
    entrance: Entrance<ConsensusEvent>,
    credit: PeerCredit,
    /// What its clients may read on their own threads.
    served: Arc<Served>,
}

impl Inbox {
    fn put(&self, event: FromNet) -> bool {
        self.credit.take(event.credit_bytes());
        self.entrance.send(ConsensusEvent::FromNet(event))
    }
}

/// Where answers go, by the slot of the client's connection. A slot is never used again.
#[derive(Default)]
struct Clients {
    made: u32,
    answers: BTreeMap<u32, Entrance<(u64, Reply)>>,
}

/// Who is reachable, and who waits for answers.
#[derive(Default)]
struct Routes {
    inboxes: RwLock<BTreeMap<NodeId, Inbox>>,
    /// Counts the changes of `inboxes`: clients look there again only if there was one.
    inboxes_changed: AtomicU64,
    /// Ordered pairs (from, to) that lose everything.
    cut: RwLock<BTreeSet<(NodeId, NodeId)>>,
    clients: RwLock<Clients>,
    /// Counts the changes of role of all nodes.
    role_changes: Mutex<u64>,
    role_changed: Condvar,
}

impl Routes {
    fn note_role_change(&self) {
        *self.role_changes.lock() += 1;
        self.role_changed.notify_all();
    }

    fn change_inboxes(&self, change: impl FnOnce(&mut BTreeMap<NodeId, Inbox>)) {
        change(&mut self.inboxes.write());
        self.inboxes_changed.fetch_add(1, Ordering::Release);
    }

    fn deliver(&self, from: NodeId, to: NodeId, event: FromNet) {
        if self.cut.read().contains(&(from, to)) {
            return;
        }
        self.deliver_to(to, event);
    }

    /// What a node learns without anybody sending it; no cut stops it.
    fn deliver_to(&self, to: NodeId, event: FromNet) {
        if let Some(inbox) = self.inboxes.read().get(&to) {
            inbox.put(event);
        }
    }
}

/// The outbox of one node: what `net` would write to sockets goes straight to its destination.
struct Router {
    id: NodeId,
    routes: Arc<Routes>,
}

impl Outbox for Router {
    fn send(&self, events: &mut Vec<NetEvent>) {
        for event in events.drain(..) {
            match event {
                NetEvent::Reply { origin, reply, .. } => {
                    if let Some(client) = self.routes.clients.read().answers.get(&origin.connection.slot) {
                        client.send((origin.sequence, reply));
                    }
                }
                NetEvent::Send { message } => self.routes.deliver(self.id, message.to, FromNet::Raft { message }),
                NetEvent::Forward { to, id, term, request } => {
                    self.routes.deliver(self.id, to, FromNet::Forwarded { from: self.id, id, term, request });
                }
                NetEvent::ForwardReply { to, id, reply } => {
                    self.routes.deliver(self.id, to, FromNet::ForwardReply { from: self.id, id, reply });
                }
                NetEvent::SetPeers { .. } | NetEvent::SetClusterId { .. } | NetEvent::Stop => {}
            }
        }
    }
}

impl EmbeddedCluster {
    /// Starts all nodes. [`EmbeddedCluster::wait_for_leader`] tells when they answer.
    pub fn start(settings: EmbeddedSettings) -> Result<EmbeddedCluster, EmbeddedError> {
        let cluster = ClusterId(u128::from(settings.seed) << 64 | u128::from(settings.nodes));
        let spin = wakes::choose(settings.tuning.spin).spin();
        let (routes, cores) = (Arc::default(), BTreeMap::new());
        let mut embedded = EmbeddedCluster { settings, routes, cores, cluster, spin, starts: 0 };
        for id in embedded.ids() {
            embedded.restart(id)?;
        }
        Ok(embedded)
    }

    pub fn ids(&self) -> Vec<NodeId> {
        (1..=self.settings.nodes).filter_map(NodeId::new).collect()
    }

    /// Starts `id` again after [`EmbeddedCluster::kill`], from what its disk holds.
    pub fn restart(&mut self, id: NodeId) -> Result<(), EmbeddedError> {
        self.kill(id);
        self.starts += 1;
        let open = |source| EmbeddedError::Open { id, source };
        let wanted = Wanted { node: id, cluster_name: "embedded".to_string() };
        let mut tuning = Tuning { spin: Some(self.spin.at_most()), ..self.settings.tuning.clone() };
        let is_volatile = matches!(self.settings.storage, Storage::Volatile);
        if is_volatile {
            (tuning.log_memory_bytes_max, tuning.segment_bytes) = (usize::MAX, SEGMENT_BYTES_MIN);
        }
        // Unlike a real directory's, the instance follows from the seed, so that a run can be repeated.
        let fresh =
            InstanceId(u128::from(Random::new(self.settings.seed ^ self.starts).next()) << 64 | u128::from(id.get()));
        let data_dir = match &self.settings.storage {
            Storage::Directory(path) => DataDir::open(&path.join(format!("node{id}")), &wanted).map_err(open)?,
            Storage::Disks(disk) => DataDir::on(disk(id), &wanted, fresh).map_err(open)?,
            // For what names the node, which is all that is ever written.
            Storage::Volatile => DataDir::on(MemoryDisk::new().attach(), &wanted, fresh).map_err(open)?,
        };
        // Another one at each start: what a node numbers by it must not repeat what it numbered before.
        let seed = Random::new(self.settings.seed ^ self.starts.rotate_left(32)).next() ^ u64::from(id.get());
        let routes = self.routes.clone();
        let parts = CoreParts {
            on_role_change: Box::new(move || routes.note_role_change()),
            keeps_nothing: is_volatile,
            ..CoreParts::new(id, "embedded", &tuning, data_dir, self.bootstrap(), seed)
        };
        let opened = OpenedCore::open(parts, &mut |_| {}).map_err(open)?;
        let (entrance, served) = (opened.inbox.clone(), Arc::clone(&opened.served));
        let inbox = Inbox { entrance, credit: PeerCredit::default(), served };
        let credit = inbox.credit.clone();
        self.routes.change_inboxes(|inboxes| {
            inboxes.insert(id, inbox);
        });
        for peer in self.ids().into_iter().filter(|peer| *peer != id) {
            self.routes.deliver_to(id, FromNet::LinkUp { peer });
            self.routes.deliver(id, peer, FromNet::LinkUp { peer: id });
        }
        let router = Router { id, routes: self.routes.clone() };
        let core = opened.start(Arc::new(router), credit)?;
        self.cores.insert(id, core);
        Ok(())
    }

    fn bootstrap(&self) -> Members {
        let member = |id: NodeId| Member { id, instance: None, address: format!("embedded:{id}").into() };
        let voters = self.ids().into_iter().map(member).collect();
        Members { cluster: self.cluster, voters, outgoing: Vec::new(), learners: Vec::new() }
    }

    /// Ends the threads of `id` as a kill would: nothing queued is written any more. Its peers learn that the link
    /// is down.
    pub fn kill(&mut self, id: NodeId) {
        self.routes.change_inboxes(|inboxes| {
            inboxes.remove(&id);
        });
        if let Some(mut core) = self.cores.remove(&id) {
            core.abandon();
            for peer in self.ids().into_iter().filter(|peer| *peer != id) {
                let why = "the node was killed".to_string();
                self.routes.deliver(id, peer, FromNet::LinkDown { peer: id, why });
            }
        }
    }

    /// Why node `id` has ended by itself; told once. `None` while it runs.
    pub fn ended(&self, id: NodeId) -> Option<End> {
        self.cores.get(&id)?.ended.try_recv().ok()
    }

    /// From now on nothing goes from `from` to `to`.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.routes.cut.write().insert((from, to));
        let why = "the link was cut".to_string();
        self.routes.deliver_to(from, FromNet::LinkDown { peer: to, why });
    }

    /// All links carry again.
    pub fn heal(&self) {
        let cut = std::mem::take(&mut *self.routes.cut.write());
        for (from, to) in cut {
            self.routes.deliver_to(from, FromNet::LinkUp { peer: to });
        }
    }

    /// A client of node `id`. It may be moved to another thread.
    pub fn client(&self, id: NodeId) -> EmbeddedClient {
        let (entrance, answers) = inbox(self.spin);
        let mut clients = self.routes.clients.write();
        let slot = clients.made;
        clients.made = slot.checked_add(1).expect("fewer clients than 2^32");
        clients.answers.insert(slot, entrance);
        let connection = ConnectionId { slot, generation: 0 };
        EmbeddedClient {
            node: id,
            routes: self.routes.clone(),
            served: None,
            served_as_of: u64::MAX,
            connection,
            answers,
            sequence: 0,
            timeout: self.settings.tuning.request_timeout * 2,
            read_by: ReadBy::Leader,
        }
    }

    /// What node `id` says of itself; `None` if it is down or does not answer within `timeout`.
    pub fn status(&self, id: NodeId, timeout: Duration) -> Option<Status> {
        self.ask_for_status(id, Request::Status, timeout)
    }

    fn ask_for_status(&self, id: NodeId, request: Request, timeout: Duration) -> Option<Status> {
        let mut client = self.client(id);
        client.timeout = timeout;
        match client.ask(request, false) {
            Ok(Outcome::Status(status)) => Some(*status),
            _ => None,
        }
    }

    /// Has node `id` read its whole log once, for damage; [`EmbeddedCluster::status`] tells how it goes on. Gives what
    /// the node says of itself before.
    pub fn scrub(&self, id: NodeId, timeout: Duration) -> Option<Status> {
        self.ask_for_status(id, Request::Scrub, timeout)
    }

    /// Where the time of requests goes in node `id`; `None` if it is down or does not measure. What its network would
    /// measure, and the way to it, is not there: decode, inbox wait, apply to reply.
    pub fn latency(&self, id: NodeId) -> Option<Latency> {
        self.cores.get(&id)?.stages.as_ref().map(|stages| stages.latency(id))
    }

    /// Waits until some node leads and has committed in its term; `None` after `timeout`.
    pub fn wait_for_leader(&self, timeout: Duration) -> Option<NodeId> {
        let deadline = Instant::now() + timeout;
        loop {
            let seen = *self.routes.role_changes.lock();
            let mut is_confirming = false;
            for id in self.ids() {
                let mut client = self.client(id);
                client.timeout = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
                let read = Request::Get { key: Bytes::from_static(b"\0"), revision: None };
                // A read that is not forwarded is answered only by a leader that has committed in its term.
                match client.ask(read, false) {
                    Ok(_) => return Some(id),
                    Err(error) => is_confirming |= error.code == ErrorCode::Timeout,
                }
            }
            let mut changes = self.routes.role_changes.lock();
            if *changes == seen && !is_confirming {
                self.routes.role_changed.wait_until(&mut changes, deadline);
            }
            if Instant::now() >= deadline {
                return None;
            }
        }
    }
}

impl Drop for EmbeddedCluster {
    fn drop(&mut self) {
        for id in self.ids() {
            self.kill(id);
        }
    }
}

/// A client of one node of an embedded cluster: blocking, one request at a time or pipelined.
///
/// Unlike a network connection it does not hold back a request for the ones before it: whoever pipelines reads
/// behind writes waits for the writes first.
pub struct EmbeddedClient {
    node: NodeId,
    routes: Arc<Routes>,
    /// What may be read of the node on this thread, as of so many changes of the inboxes; `None`: it is down.
    served: Option<Arc<Served>>,
    served_as_of: u64,
    connection: ConnectionId,
    answers: super::inbox::Inbox<(u64, Reply)>,
    sequence: u64,
    timeout: Duration,
    read_by: ReadBy,
}

impl EmbeddedClient {
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Whether this client's reads may be answered by its node though it does not lead.
    pub fn set_read_by(&mut self, read_by: ReadBy) {
        self.read_by = read_by;
    }

    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Revision, Error> {
        let request = Request::Write(Operation::Put { key: key.into(), value: value.into() });
        match self.ask(request, true)? {
            Outcome::Put { revision } => Ok(revision),
            other => Err(unexpected(&other)),
        }
    }

    pub fn delete(&mut self, key: impl Into<Bytes>) -> Result<bool, Error> {
        match self.ask(Request::Write(Operation::Delete { key: key.into() }), true)? {
            Outcome::Deleted { existed, .. } => Ok(existed),
            other => Err(unexpected(&other)),
        }
    }

    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Found>, Error> {
        let key = key.as_ref();
        api::check_key(key)?;
        let here = self.served().and_then(|served| served.read_value(key, clock::now, |record| record.map(net::found)));
        here.map_or_else(|| self.get_elsewhere(key), Ok)
    }

    /// As [`EmbeddedClient::get`], but gives `read` the value in place: nothing is counted or copied. It is called once,
    /// or not at all if there is an error; writes wait meanwhile, so it must be short, and ask the cluster for nothing.
    pub fn get_with<T>(&mut self, key: impl AsRef<[u8]>, mut read: impl FnMut(Option<&[u8]>) -> T) -> Result<T, Error> {
        let key = key.as_ref();
        api::check_key(key)?;
        let here = self
            .served()
            .and_then(|served| served.read_value(key, clock::now, |record| read(record.map(Record::value))));
        match here {
            Some(given) => Ok(given),
            None => self.get_elsewhere(key).map(|found| read(found.as_ref().map(|found| &found.value[..]))),
        }
    }

    fn get_elsewhere(&mut self, key: &[u8]) -> Result<Option<Found>, Error> {
        match self.ask(Request::Get { key: Bytes::copy_from_slice(key), revision: None }, true)? {
            Outcome::Value { found, .. } => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// One page of keys, and whether more lie behind it.
    pub fn list(
        &mut self,
        prefix: impl Into<Bytes>,
        after: Option<Bytes>,
        limit: usize,
    ) -> Result<(Vec<Bytes>, bool), Error> {
        match self.ask(Request::List { prefix: prefix.into(), after, limit, revision: None }, true)? {
            Outcome::Keys { keys, more, .. } => Ok((keys, more)),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks and waits for the answer. A write that is not answered in time is of unknown outcome. While the node holds
    /// a lease, reads are answered on the caller's thread.
    pub fn ask(&mut self, request: Request, forward: bool) -> Result<Outcome, Error> {
        if let Some(reply) = self.read_here(&request)? {
            return reply.result;
        }
        let is_write = request.is_write();
        let sequence = self.send(request, forward)?;
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.receive(deadline.saturating_duration_since(Instant::now())) {
                Some((answered, reply)) if answered == sequence => return reply.result,
                Some(_) => {}
                None if is_write => {
                    let message = "the node did not answer in time; the write may still take effect";
                    return Err(Error::new(ErrorCode::OutcomeUnknown, message));
                }
                None => return Err(Error::new(ErrorCode::Timeout, "the node did not answer in time")),
            }
        }
    }

    fn read_here(&mut self, request: &Request) -> Result<Option<Reply>, Error> {
        request.check()?;
        Ok(self.served().and_then(|served| served.answer(request, clock::now)))
    }

    fn served(&mut self) -> Option<&Served> {
        let changed = self.routes.inboxes_changed.load(Ordering::Acquire);
        if self.served_as_of != changed {
            self.served = self.routes.inboxes.read().get(&self.node).map(|inbox| Arc::clone(&inbox.served));
            self.served_as_of = changed;
        }
        self.served.as_deref()
    }

    /// Sends without waiting; the number comes back with the answer.
    pub fn send(&mut self, request: Request, forward: bool) -> Result<u64, Error> {
        request.check()?;
        self.sequence += 1;
        let origin = Origin { connection: self.connection, sequence: self.sequence };
        let if_not_leading = if forward { self.read_by.if_not_leading(&request) } else { IfNotLeading::Refuse };
        let request = FromNet::Request { origin, request, if_not_leading, handed_on: Moment::ZERO };
        let inboxes = self.routes.inboxes.read();
        match inboxes.get(&self.node).map(|inbox| inbox.put(request)) {
            Some(true) => Ok(self.sequence),
            _ => Err(Error::new(ErrorCode::NoLeader, format!("node {} is down", self.node))),
        }
    }

    /// The next answer, with its request's number.
    pub fn receive(&mut self, timeout: Duration) -> Option<(u64, Reply)> {
        self.answers.receive(Some(clock::now() + timeout)).ok().flatten()
    }
}

impl Drop for EmbeddedClient {
    fn drop(&mut self) {
        self.routes.clients.write().answers.remove(&self.connection.slot);
    }
}

fn unexpected(outcome: &Outcome) -> Error {
    unreachable!("a node answered another kind of request: {outcome:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(nodes: u32, storage: Storage, tuning: Tuning) -> EmbeddedCluster {
        EmbeddedCluster::start(EmbeddedSettings { nodes, storage, tuning, seed: 1 }).unwrap()
    }

    fn disks(nodes: u32) -> Storage {
        let disks: Vec<MemoryDisk> = (0..nodes).map(|_| MemoryDisk::new()).collect();
        Storage::Disks(Arc::new(move |id| disks[id.get() as usize - 1].attach()))
    }

    #[test]
    fn a_client_of_the_leader_reads_on_its_own_thread() {
        let cluster = started(3, disks(3), Tuning::default());
        let deadline = Instant::now() + Duration::from_secs(60);
        let read = Request::Get { key: "k".into(), revision: None };
        loop {
            let leader = cluster.wait_for_leader(Duration::from_secs(60)).unwrap();
            let mut client = cluster.client(leader);
            let is_written = client.put("k", "v").is_ok();
            if let Some(Reply { result: Ok(Outcome::Value { found, .. }), leader: named }) =
                client.read_here(&read).unwrap()
                && is_written
            {
                assert_eq!(found.map(|found| found.value), Some("v".into()));
                assert_eq!(named.map(|named| named.id), Some(leader));
                return;
            }
            assert!(Instant::now() < deadline, "no leader ever holds a lease");
        }
    }

    #[test]
    fn a_value_is_read_in_place_wherever_it_is_read() {
        let cluster = started(3, disks(3), Tuning::default());
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut read_here = BTreeSet::new();
        // On the client's own thread at the leader, by the leader's answer elsewhere, or while it holds no lease.
        while read_here.len() < 2 {
            let leader = cluster.wait_for_leader(Duration::from_secs(60)).unwrap();
            for id in cluster.ids() {
                let mut client = cluster.client(id);
                if client.put("k", "v").is_err() {
                    continue;
                }
                let mut called = 0;
                let mut length_of = |key: &str| {
                    client.get_with(key, |value| {
                        called += 1;
                        value.map(<[u8]>::len)
                    })
                };
                let Ok(found) = length_of("k") else { continue };
                assert_eq!((found, length_of("absent").unwrap_or(None)), (Some(1), None));
                assert_eq!(length_of(""), Err(api::check_key(b"").unwrap_err()));
                assert!(called <= 2, "called {called} times for two reads");
                read_here.insert(id == leader);
            }
            assert!(Instant::now() < deadline, "{read_here:?}");
        }
    }

    /// It may have promised and acknowledged what it does not know any more.
    #[test]
    fn a_volatile_node_that_was_killed_counts_in_no_majority_any_more() {
        let mut cluster = started(3, Storage::Volatile, Tuning::default());
        let minute = Duration::from_secs(60);
        let leader = cluster.wait_for_leader(minute).unwrap();
        cluster.client(leader).put("k", "v").unwrap();
        let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
        cluster.restart(follower).unwrap();
        let leader = cluster.wait_for_leader(minute).unwrap();
        let mut client = cluster.client(leader);
        assert_eq!(client.get("k").unwrap().map(|found| found.value), Some("v".into()), "two of three still hold it");
        client.put("k", "w").unwrap();
        let counts = |cluster: &EmbeddedCluster| {
            let status = cluster.status(leader, minute).unwrap();
            status.peers.iter().filter(|peer| peer.counted).map(|peer| peer.id).collect::<Vec<_>>()
        };
        let deadline = Instant::now() + minute;
        let mut counted = counts(&cluster);
        while counted.contains(&follower) {
            // It has not answered this leader yet.
            assert!(Instant::now() < deadline, "it counts still");
            client.put("k", "w").unwrap();
            counted = counts(&cluster);
        }
        assert_eq!(counted.len(), 1, "{counted:?}");
    }

    #[test]
    fn a_client_of_any_node_reads_what_it_wrote_through_it() {
        let cluster = started(3, disks(3), Tuning::default());
        cluster.wait_for_leader(Duration::from_secs(60)).unwrap();
        for id in cluster.ids() {
            let mut client = cluster.client(id);
            client.set_read_by(ReadBy::Any);
            for round in 0..20 {
                let value = format!("{id} {round}");
                client.put("k", value.clone()).unwrap();
                assert_eq!(client.get("k").unwrap().map(|found| found.value), Some(value.into()));
            }
        }
    }

    #[test]
    fn a_client_that_is_gone_leaves_nothing_behind() {
        let cluster = started(1, disks(1), Tuning::default());
        let leader = cluster.wait_for_leader(Duration::from_secs(60)).unwrap();
        let mut client = cluster.client(leader);
        client.put("k", "v").unwrap();
        assert!(cluster.status(leader, Duration::from_secs(60)).is_some());
        assert_eq!(cluster.routes.clients.read().answers.len(), 1, "the one that still lives");
        drop(client);
        assert!(cluster.routes.clients.read().answers.is_empty());
    }

    /// It is woken where it sleeps, not where it slept first: else each answer would take the whole timeout.
    #[test]
    fn a_client_that_was_moved_to_another_thread_is_woken_there() {
        let tuning = Tuning { spin: Some(Duration::ZERO), ..Tuning::default() };
        let cluster = started(1, Storage::Volatile, tuning);
        let leader = cluster.wait_for_leader(Duration::from_secs(60)).unwrap();
        let mut client = cluster.client(leader);
        assert_eq!(client.receive(Duration::from_millis(1)), None, "nothing was asked: it sleeps here");
        let (to_test, done) = crossbeam_channel::bounded(1);
        client.timeout = Duration::from_secs(3600);
        std::thread::spawn(move || to_test.send((0..100).try_for_each(|_| client.put("k", "v").map(drop))));
        assert_eq!(done.recv_timeout(Duration::from_secs(60)), Ok(Ok(())));
    }
}
