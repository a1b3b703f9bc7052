//! Starts a real node: directory, log, listener, threads; and stops it.

use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;

use crate::base::limits::{DESCRIPTORS_RESERVED, LISTEN_BACKLOG};
use crate::base::{ClusterId, InstanceId, Member, Members, NodeId, is_same_address};
use crate::disk::{DataDir, OpenError, Wanted, random_u128};
use crate::net::{Mailbox, Net, NetConfig, NetCounters, NetEvent, Outbox, PeerCredit};

use super::consensus::ConsensusEvent;
use super::core::{Core, CoreParts, OpenedCore};
use super::end::{End, spawn};
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
pub struct Stopper(Sender<ConsensusEvent>);

impl Stopper {
    pub fn stop(&self) {
        let _ = self.0.send(ConsensusEvent::Stop);
    }
}

impl Node {
    /// Opens the directory, recovers the log, listens, and starts all threads.
    pub fn start(settings: &Settings) -> Result<Node, NodeError> {
        let mut limits = settings.net.clone();
        let mut warnings = settings.warnings.clone();
        limits.connections_max = effective_connections(limits.connections_max, &mut warnings)?;
        let listener = bind(&settings.listen)?;
        let address = listener.local_addr().map_err(|source| io("the listening address can't be read", source))?;
        let wanted = Wanted { node: settings.id, cluster_name: settings.cluster_name.clone() };
        let data_dir = DataDir::open(&settings.data_dir, &wanted)?;
        warnings.extend(data_dir.warning().map(str::to_string));
        let instance = data_dir.instance();
        let cluster = data_dir.cluster_id();
        let bootstrap = bootstrap(settings)?;
        let peers = bootstrap.voters.iter().filter(|member| member.id != settings.id);
        let peers: Vec<(NodeId, Arc<str>)> = peers.map(|member| (member.id, member.address.clone())).collect();
        let seed = draw("a seed")? as u64;
        let opened = OpenedCore::open(CoreParts {
            raft: settings.tuning.raft_config(settings.id, instance, bootstrap, seed),
            cluster_name: settings.cluster_name.clone(),
            request_timeout: settings.tuning.request_timeout,
            scrub_interval: settings.tuning.scrub_interval,
            wal_settings: settings.tuning.wal_settings(),
            disk: data_dir.disk(),
            data_dir,
            on_role_change: Box::new(|| {}),
        });
        let opened = opened.map_err(|error| error.in_directory(&settings.data_dir))?;
        // Not before: a start that fails says why, in one line, and nothing else.
        announce(settings, &limits, instance);
        for warning in warnings.iter().chain(&opened.report.warnings).chain(&opened.report.damaged) {
            log::warn!("{warning}");
        }
        log::info!("log: {}", opened.report);
        let peers = match opened.members() {
            Some(members) => peers_of_the_log(settings, members, &peers),
            None => peers,
        };
        let peer_credit = PeerCredit::default();
        let to_consensus = opened.inbox.clone();
        let config = NetConfig {
            id: settings.id,
            instance,
            cluster_name: settings.cluster_name.clone(),
            cluster,
            advertise: settings.advertise.as_str().into(),
            peers,
            listener,
            limits,
            seed: seed.rotate_left(32),
        };
        let deliver = Box::new(move |event| {
            // Consensus ends before net; what comes between the two has nobody to answer it.
            let _ = to_consensus.send(ConsensusEvent::FromNet(event));
        });
        let (net, mailbox) = Net::new(config, deliver, peer_credit.clone())
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
        let net = spawn(format!("net-{}", settings.id), core.ender.clone(), run)
            .map_err(|source| io("the network thread can't be started", source))?;
        log::info!("ready on {address}");
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

/// The log's membership wins over the flags, which only bootstrap; where they differ the operator is told.
fn peers_of_the_log(settings: &Settings, members: &Members, flags: &[(NodeId, Arc<str>)]) -> Vec<(NodeId, Arc<str>)> {
    let (own, others): (Vec<&Member>, Vec<&Member>) = members.all().partition(|member| member.id == settings.id);
    let peers: Vec<(NodeId, Arc<str>)> = others.iter().map(|member| (member.id, member.address.clone())).collect();
    let show = |peers: &[(NodeId, Arc<str>)]| {
        peers.iter().map(|(id, address)| format!("{id}={address}")).collect::<Vec<_>>().join(", ")
    };
    let named = |id: NodeId, address: &str| flags.iter().any(|flag| flag.0 == id && is_same_address(&flag.1, address));
    if peers.len() != flags.len() || !peers.iter().all(|(id, address)| named(*id, address)) {
        let (flags, log) = (show(flags), show(&peers));
        log::warn!("the options name the peers {flags}; the log says {log}, and that is what counts");
    }
    if let Some(own) = own.first().filter(|own| !is_same_address(&own.address, &settings.advertise)) {
        let (advertise, address) = (&settings.advertise, &own.address);
        log::warn!("this node is advertised as {advertise}, but its cluster knows it as {address} and dials that");
    }
    peers
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
    // A restarted node takes its port back although old connections linger in TIME_WAIT.
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
            "the limit on open files is {descriptors}, and a node needs more than {DESCRIPTORS_RESERVED}; raise it (ulimit -n)"
        ))),
    }
}

fn announce(settings: &Settings, limits: &crate::net::NetLimits, instance: InstanceId) {
    let Settings { id, cluster_name, listen, advertise, data_dir, tuning, .. } = settings;
    log::info!(
        "raftkv {}, node {id} of cluster '{cluster_name}', listening on {listen}, advertised as {advertise}, data in {} (instance {instance}); \
         at most {} connections, {} requests and {} MiB buffered; elections after {} to {} ms, heartbeat {} ms",
        crate::VERSION,
        data_dir.display(),
        limits.connections_max,
        limits.requests_max,
        limits.buffered_bytes_max >> 20,
        tuning.election_timeout_min.as_millis(),
        tuning.election_timeout_max.as_millis(),
        tuning.heartbeat.as_millis(),
    );
}
