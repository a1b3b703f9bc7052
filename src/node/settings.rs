//! What an operator can set, with defaults from `base::limits`.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::limits as bounds;
use crate::base::{InstanceId, Members, NodeId};
use crate::net::NetLimits;
use crate::raft;

/// Everything a node is started with. The command line makes one; programs that embed a node do, too.
#[derive(Clone, Debug)]
pub struct Settings {
    pub id: NodeId,
    /// `HOST:PORT` to listen on.
    pub listen: String,
    /// `HOST:PORT` under which others reach this node.
    pub advertise: String,
    /// The other members at the first start; afterwards the log's membership wins.
    pub peers: Vec<(NodeId, String)>,
    /// Two clusters with different names never talk, even before either has formed.
    pub cluster_name: String,
    pub data_dir: PathBuf,
    pub tuning: Tuning,
    pub net: NetLimits,
    /// What the operator should know about these settings: logged once the node has said who it is.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Defaults for everything that has one; advertised as it listens.
    pub fn new(id: NodeId, listen: String, peers: Vec<(NodeId, String)>, data_dir: PathBuf) -> Settings {
        Settings {
            id,
            advertise: listen.clone(),
            listen,
            peers,
            cluster_name: "raftkv".to_string(),
            data_dir,
            tuning: Tuning::default(),
            net: NetLimits::default(),
            warnings: Vec::new(),
        }
    }
}

/// Timings and bounds; shared by real nodes and the embedded cluster.
#[derive(Clone, Debug)]
pub struct Tuning {
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    pub heartbeat: Duration,
    /// Reads by leader lease; `None`: this node neither asks for promises nor gives any, and every read asks a
    /// majority.
    pub leases: Option<Leases>,
    pub request_timeout: Duration,
    pub persist_stall: Duration,
    /// How long a pass of the scrub over the whole log takes; `None`: only urgent ones (`scrubbing`).
    pub scrub_interval: Option<Duration>,
    /// How long a thread looks for the next event before it sleeps; `None`: as this machine makes it worth (`wakes`).
    pub spin: Option<Duration>,
    pub segment_bytes: u64,
    pub log_memory_bytes_max: usize,
    pub uncommitted_bytes_max: usize,
    /// Measures the stages of requests, for `raftkv status --latency`. It costs next to nothing; off, what it costs can
    /// be measured (`raftkv node --no-stages`, an option that its help does not show).
    pub measure_stages: bool,
}

/// How leader leases are made. They are safe whatever the nodes' settings are, as long as the drift bound is true.
#[derive(Clone, Copy, Debug)]
pub struct Leases {
    /// What is asked for and granted; `None`: what suits the election timeout.
    pub promise: Option<Duration>,
    /// By how much the rates of the cluster's clocks may differ.
    pub drift_percent: u32,
}

impl Default for Leases {
    fn default() -> Leases {
        Leases { promise: None, drift_percent: bounds::LEASE_DRIFT_PERCENT }
    }
}

impl Leases {
    /// The promise for nodes that miss their leader after `election_timeout_min` at the earliest.
    pub fn promise(&self, election_timeout_min: Duration) -> Duration {
        let suits = election_timeout_min * bounds::LEASE_PROMISE_PERCENT / 100;
        self.promise.unwrap_or(suits).min(bounds::PROMISE_MAX)
    }
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            election_timeout_min: bounds::ELECTION_TIMEOUT_MIN,
            election_timeout_max: bounds::ELECTION_TIMEOUT_MAX,
            heartbeat: bounds::HEARTBEAT_INTERVAL,
            leases: Some(Leases::default()),
            request_timeout: bounds::REQUEST_TIMEOUT,
            persist_stall: bounds::PERSIST_STALL,
            scrub_interval: Some(bounds::SCRUB_INTERVAL),
            spin: None,
            segment_bytes: bounds::SEGMENT_BYTES,
            log_memory_bytes_max: bounds::LOG_MEMORY_BYTES_MAX,
            uncommitted_bytes_max: bounds::UNCOMMITTED_BYTES_MAX,
            measure_stages: true,
        }
    }
}

impl Tuning {
    /// The part that the log is told.
    pub(crate) fn wal_settings(&self) -> crate::disk::WalSettings {
        crate::disk::WalSettings {
            segment_bytes: self.segment_bytes,
            log_memory_bytes_max: self.log_memory_bytes_max,
            ..crate::disk::WalSettings::default()
        }
    }

    /// The part that consensus is told.
    pub(super) fn raft_config(&self, id: NodeId, instance: InstanceId, bootstrap: Members, seed: u64) -> raft::Config {
        raft::Config {
            id,
            instance,
            bootstrap,
            election_timeout_min: self.election_timeout_min,
            election_timeout_max: self.election_timeout_max,
            heartbeat: self.heartbeat,
            lease: self.leases.map(|leases| raft::LeaseConfig {
                promise: leases.promise(self.election_timeout_min),
                drift_percent: leases.drift_percent,
            }),
            promise_max: bounds::PROMISE_MAX,
            persist_stall: self.persist_stall,
            append_bytes_max: bounds::APPEND_BYTES_MAX,
            window_bytes_max: bounds::WINDOW_BYTES_MAX,
            window_messages_max: bounds::WINDOW_MESSAGES_MAX,
            log_memory_bytes_max: self.log_memory_bytes_max,
            uncommitted_bytes_max: self.uncommitted_bytes_max,
            seed,
        }
    }
}
