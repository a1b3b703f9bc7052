//! Starts a real node: directory, log, listener, threads; and stops it.

use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::limits::{DESCRIPTORS_RESERVED, LISTEN_BACKLOG};
use crate::base::{ClusterId, InstanceId, Member, Members, NodeId, is_same_address};
use crate::disk::{DataDir, OpenError, ReadSoFar, Wanted, random_u128};
use crate::net::{Deliver, FromNet, Mailbox, Net, NetConfig, NetCounters, NetEvent, Outbox, PeerCredit};

use super::clock;
use super::consensus::ConsensusEvent;
use super::core::{Core, CoreParts, OpenedCore};
use super::end::{End, spawn};
use super::inbox::Entrance;
use super::settings::Settings;

/// A start that failed, in one line that says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{0}")]
    Configuration(String),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

/// A running node. Dropping it does not stop it: [`Stopper::stop`] asks it to, [`Node::wait`] sees it end.
pub struct Node {
    core: Core,
    mailbox: Mailbox,
    net: JoinHandle<std::io::Result<()>>,
    counters: Arc<NetCounters>,
    address: std::net::SocketAddr,
}

/// Asks a running node to stop; may be used from any thread, and more than once.
#[derive(Clone)]
pub struct Stopper(Entrance<ConsensusEvent>);

/// What the net thread delivers.
struct ToConsensus {
    entrance: Entrance<ConsensusEvent>,
    /// Something of this turn is in there: what net answers by itself wakes nobody.
    delivered: bool,
}

impl Deliver for ToConsensus {
    /// Consensus ends before net; what comes between the two has nobody to answer it.
    fn deliver(&mut self, event: FromNet) {
        self.entrance.put(ConsensusEvent::FromNet(event));
        self.delivered = true;
    }

    fn turn_ends(&mut self) {
        if std::mem::take(&mut self.delivered) {
            self.entrance.ring();
        }
    }
}

impl Stopper {
    pub fn stop(&self) {
        self.0.send(ConsensusEvent::Stop);
    }
}

impl Node {
    /// Opens the directory, recovers the log, listens, and starts all threads.
    pub fn start(settings: &Settings) -> Result<Node, NodeError> {
        let (mut limits, mut warnings) = (settings.net.clone(), settings.warnings.clone());
        limits.connections_max = effective_connections(limits.connections_max, &mut warnings)?;
        let listener = bind(&settings.listen)?;
        let address = listener.local_addr().map_err(|source| io("the listening address can't be read", source))?;
        let wanted = Wanted { node: settings.id, cluster_name: settings.cluster_name.clone() };
        let data_dir = DataDir::open(&settings.data_dir, &wanted)?;
        warnings.extend(data_dir.warning().map(str::to_string));
        let (instance, cluster) = (data_dir.instance(), data_dir.cluster_id());
        let (bootstrap, seed) = (bootstrap(settings)?, draw("a seed")? as u64);
        let flags = peers_of(settings, &bootstrap);
        let mut opening = Opening::new(name(settings, &limits, instance));
        let Settings { id, cluster_name, tuning, .. } = settings;
        let parts = CoreParts::new(*id, cluster_name, tuning, data_dir, bootstrap, seed);
        let wakes = parts.wakes;
        let opened = OpenedCore::open(parts, &mut |read| opening.on_read(read));
        let opened = opened.map_err(|error| error.in_directory(&settings.data_dir))?;
        opening.announce();
        warnings.extend(about_the_log(settings, &opened, cluster, &flags));
        for warning in warnings {
            log::warn!("{warning}");
        }
        log::info!("log: {}", opened.report);
        log::info!("{wakes}");
        let peers = opened.members().map_or(flags, |members| peers_of(settings, members));
        let config = NetConfig {
            id: settings.id,
            instance,
            cluster_name: settings.cluster_name.clone(),
            cluster,
            advertise: settings.advertise.as_str().into(),
            peers,
            listener,
            limits,
            spin: wakes.spin(),
            seed: seed.rotate_left(32),
            served: Arc::clone(&opened.served),
            clock: clock::now,
            stages: opened.stages(),
        };
        let node = Node::start_threads(opened, config, address)?;
        log::info!("ready on {address}");
        Ok(node)
    }

    fn start_threads(opened: OpenedCore, config: NetConfig, address: std::net::SocketAddr) -> Result<Node, NodeError> {
        let (id, peer_credit) = (config.id, PeerCredit::default());
        let inbox = Box::new(ToConsensus { entrance: opened.inbox.clone(), delivered: false });
        let (net, mailbox) = Net::new(config, inbox, peer_credit.clone())
            .map_err(|source| io("the network loop can't be set up", source))?;
        let counters = net.counters();
        let core = opened
            .start(Arc::new(mailbox.clone()), peer_credit)
            .map_err(|source| io("a thread can't be started", source))?;
        let ender = core.ender.clone();
        let run = move || {
            // A node that nobody can reach is no node: its end is told like that of the others.
            net.run().inspect_err(|error| ender.end(End::Io(format!("the network loop failed: {error}"))))
        };
        let net = spawn(format!("net-{id}"), core.ender.clone(), run)
            .map_err(|source| io("the network thread can't be started", source))?;
        Ok(Node { core, mailbox, net, counters, address })
    }

    pub fn stopper(&self) -> Stopper {
        Stopper(self.core.inbox.clone())
    }

    /// Where it listens; useful when the port was 0.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    pub fn counters(&self) -> &NetCounters {
        &self.counters
    }

    /// Waits until it was stopped or had to end, and for what is queued to be durable and answered.
    pub fn wait(mut self) -> End {
        let end = self.core.wait();
        self.mailbox.send(&mut vec![NetEvent::Stop]);
        match self.net.join() {
            Ok(Ok(())) => end,
            Ok(Err(error)) => End::Io(format!("the network loop failed: {error}")),
            Err(_) => End::Io("the network thread has panicked".to_string()),
        }
    }
}

/// What the log says while the node's own log is read: nothing, unless that takes long. A start that fails says why in
/// one line, and nothing else.
struct Opening {
    /// The first line, until it is written.
    name: Option<String>,
    said: Instant,
}

impl Opening {
    const REPORT_INTERVAL: Duration = Duration::from_secs(3);

    fn new(name: String) -> Opening {
        Opening { name: Some(name), said: Instant::now() }
    }

    fn announce(&mut self) {
        if let Some(name) = self.name.take() {
            log::info!("{name}");
        }
    }

    fn on_read(&mut self, read: ReadSoFar) {
        if self.said.elapsed() >= Opening::REPORT_INTERVAL {
            self.said = Instant::now();
            self.announce();
            let ReadSoFar { segment, segments, index } = read;
            log::info!("reading the log: segment {segment} of {segments}, up to entry {index}");
        }
    }
}

fn io(what: &str, source: std::io::Error) -> NodeError {
    NodeError::Io { what: what.to_string(), source }
}

fn draw(what: &str) -> Result<u128, NodeError> {
    random_u128().map_err(|source| io(&format!("{what} can't be drawn from the system"), source))
}

/// All members by the operator's flags; the cluster id is the one that this node mints if it leads first.
fn bootstrap(settings: &Settings) -> Result<Members, NodeError> {
    let member = |id: NodeId, address: &str| Member { id, instance: None, address: address.into() };
    let mut voters: Vec<Member> = settings.peers.iter().map(|(id, address)| member(*id, address)).collect();
    voters.push(member(settings.id, &settings.advertise));
    voters.sort_by_key(|member| member.id);
    let cluster = ClusterId(draw("a cluster id")?);
    Ok(Members { cluster, voters, outgoing: Vec::new(), learners: Vec::new() })
}

/// The other members as the log has them: it wins over the flags, which only bootstrap.
fn peers_of(settings: &Settings, members: &Members) -> Vec<(NodeId, Arc<str>)> {
    let others = members.all().filter(|member| member.id != settings.id);
    others.map(|member| (member.id, member.address.clone())).collect()
}

/// What the operator should know of the log that was opened, as sentences.
fn about_the_log(
    settings: &Settings,
    opened: &OpenedCore,
    cluster: Option<ClusterId>,
    flags: &[(NodeId, Arc<str>)],
) -> Vec<String> {
    let found = opened.report.warnings.iter().chain(&opened.report.damaged).cloned();
    let of_members = match opened.members() {
        Some(members) => about_members(settings, members, flags),
        None if cluster.is_none() => about_a_new_cluster(settings).into_iter().collect(),
        None => Vec::new(),
    };
    found.chain(of_members).collect()
}

/// Where the flags differ from the log's membership, as sentences for the operator.
fn about_members(settings: &Settings, members: &Members, flags: &[(NodeId, Arc<str>)]) -> Vec<String> {
    let peers = peers_of(settings, members);
    let show = |peers: &[(NodeId, Arc<str>)]| {
        peers.iter().map(|(id, address)| format!("{id}={address}")).collect::<Vec<_>>().join(", ")
    };
    let named = |id: NodeId, address: &str| flags.iter().any(|flag| flag.0 == id && is_same_address(&flag.1, address));
    let is_same = peers.len() == flags.len() && peers.iter().all(|(id, address)| named(*id, address));
    let options = match flags {
        [] => "no peers".to_string(),
        flags => format!("the peers {}", show(flags)),
    };
    let cluster = members.cluster;
    let differ = match &peers[..] {
        _ if is_same => None,
        [] => Some(format!(
            "the options name {options}; the log knows none: this directory is a cluster of its own ({cluster}, formed \
             alone), and joins no other. If it holds nothing that you need, start the node with an empty directory and \
             the same options; else start it without --peer"
        )),
        peers => Some(format!(
            "the options name {options}; the log of cluster {cluster} says {}, and that is what counts; name these, or \
             start the node with an empty directory if it is to be in another cluster",
            show(peers)
        )),
    };
    let own = members.get(settings.id).filter(|own| !is_same_address(&own.address, &settings.advertise));
    let elsewhere = own.map(|own| {
        let (advertise, address) = (&settings.advertise, &own.address);
        format!("this node is advertised as {advertise}, but its cluster knows it as {address} and dials that")
    });
    differ.into_iter().chain(elsewhere).collect()
}

/// A cluster of one forms at once, and can't be joined to another one later: whoever forgot --peer should know.
fn about_a_new_cluster(settings: &Settings) -> Option<String> {
    settings.peers.is_empty().then(|| {
        format!(
            "no --peer was given, and {} is new: this node forms a cluster of its own, of one member, for good. If \
             that is a mistake, stop it, remove the directory, and name the other members with --peer",
            settings.data_dir.display()
        )
    })
}

fn bind(listen: &str) -> Result<TcpListener, NodeError> {
    let mut last = None;
    let addresses = listen.to_socket_addrs().map_err(|error| {
        NodeError::Configuration(format!(
            "--listen {listen} can't be resolved: {error}; use an address of this machine"
        ))
    })?;
    for address in addresses {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    let why = match last {
        Some(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            "the address is in use; stop what listens there or choose another port".to_string()
        }
        Some(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has the address; choose one that has".to_string()
        }
        Some(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 need a privilege, choose a higher one".to_string()
        }
        Some(error) => error.to_string(),
        None => "the name has no address".to_string(),
    };
    Err(NodeError::Configuration(format!("can't listen on {listen}: {why}")))
}

fn listen_on(address: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A restarted node takes its port back although old connections spin in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Raises the soft descriptor limit to the hard one; connections beyond it would fail anyway.
fn effective_connections(wanted: usize, warnings: &mut Vec<String>) -> Result<usize, NodeError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warnings.push(format!("the limit on open files stays at {:?}: {error}", limit.current));
        }
    }
    let Some(descriptors) = getrlimit(Resource::Nofile).current else { return Ok(wanted) };
    match descriptors.checked_sub(DESCRIPTORS_RESERVED) {
        Some(room) if room > 0 => Ok(wanted.min(usize::try_from(room).unwrap_or(usize::MAX))),
        _ => Err(NodeError::Configuration(format!(
            "the limit on open files is {descriptors}, and a node needs more than {DESCRIPTORS_RESERVED}; raise it \
             (ulimit -n)"
        ))),
    }
}

/// The first line of the log.
fn name(settings: &Settings, limits: &crate::net::NetLimits, instance: InstanceId) -> String {
    let leases = match &settings.tuning.leases {
        Some(leases) => {
            let promise = leases.promise(settings.tuning.election_timeout_min);
            format!("reads by a lease of {} ms less {} %", promise.as_millis(), leases.drift_percent)
        }
        None => "every read asks a majority".to_string(),
    };
    let Settings { id, cluster_name, listen, advertise, data_dir, tuning, .. } = settings;
    format!(
        "raftkv {}, node {id} of cluster '{cluster_name}', listening on {listen}, advertised as {advertise}, data in \
         {} (instance {instance}); at most {} connections, {} requests and {} MiB buffered; elections after {} to {} ms, \
         heartbeat {} ms; {leases}",
        crate::VERSION,
        data_dir.display(),
        limits.connections_max,
        limits.requests_max,
        limits.buffered_bytes_max >> 20,
        tuning.election_timeout_min.as_millis(),
        tuning.election_timeout_max.as_millis(),
        tuning.heartbeat.as_millis(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(peers: &[(u32, &str)]) -> Settings {
        let id = |id| NodeId::new(id).unwrap();
        let peers = peers.iter().map(|(peer, address)| (id(*peer), address.to_string())).collect();
        Settings::new(id(1), "127.0.0.1:5001".to_string(), peers, "d1".into())
    }

    fn flags(settings: &Settings) -> Vec<(NodeId, Arc<str>)> {
        settings.peers.iter().map(|(id, address)| (*id, address.as_str().into())).collect()
    }

    #[test]
    fn who_forgot_the_peers_is_told_at_once_and_at_the_next_start() {
        let alone = settings(&[]);
        assert!(about_a_new_cluster(&alone).unwrap().contains("a cluster of its own"));
        let members = bootstrap(&alone).unwrap();
        assert_eq!(about_members(&alone, &members, &[]), Vec::<String>::new());
        let joining = settings(&[(2, "two:5001")]);
        assert_eq!(about_a_new_cluster(&joining), None);
        let [warning] = &about_members(&joining, &members, &flags(&joining))[..] else { panic!("not one warning") };
        let id = members.cluster.to_string();
        for said in ["the peers 2=two:5001; the log knows none", &id, "formed alone", "empty directory"] {
            assert!(warning.contains(said), "{said:?} is missing: {warning}");
        }
    }

    #[test]
    fn options_that_name_no_peers_or_others_are_told_what_the_log_says() {
        let three = settings(&[(2, "two:5001"), (3, "three:5001")]);
        let members = bootstrap(&three).unwrap();
        assert_eq!(about_members(&three, &members, &flags(&three)), Vec::<String>::new());
        let said = about_members(&settings(&[]), &members, &[]);
        assert!(said[0].starts_with("the options name no peers; the log of cluster"), "{said:?}");
        assert!(said[0].contains("2=two:5001, 3=three:5001, and that is what counts"), "{said:?}");
    }
}
