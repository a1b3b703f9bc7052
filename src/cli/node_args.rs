//! The options of `raftkv node`, and what they must fulfil together before anything is opened or dialed.
//!
//! Also the original's form, `raftkv 1 5001 2:localhost:5002`, rewritten to the options before they are parsed.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::peers::{Address, Peer, parse_id};
use crate::base::limits;
use crate::base::{NodeId, Random, is_same_address};
use crate::node::settings::Leases;

const MIB: u64 = 1024 * 1024;

// What the numbers may be, as far as that does not depend on the others.
const TIMEOUT_MS: RangeInclusive<u64> = 1..=60_000;
const HEARTBEAT_MS: RangeInclusive<u64> = 1..=30_000;
const LEASE_PROMISE_MS: RangeInclusive<u64> = 1..=limits::PROMISE_MAX.as_millis() as u64;
const LEASE_DRIFT_PERCENT: RangeInclusive<u64> = 0..=90;
const REQUEST_TIMEOUT_MS: RangeInclusive<u64> = 1..=600_000;
const SPIN_US: RangeInclusive<u64> = 0..=100_000;
const SCRUB_HOURS: RangeInclusive<u64> = 0..=24 * 365;
const SEGMENT_MIB: RangeInclusive<u64> = limits::SEGMENT_BYTES_MIN / MIB..=1024;
const LOG_MEMORY_MIB: RangeInclusive<u64> = 1..=1024 * 1024;
const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
const REQUESTS: RangeInclusive<u64> = 1..=10_000_000;
/// One connection must be able to hold the largest frame and its answer.
const BUFFERED_MIB: RangeInclusive<u64> = limits::CONNECTION_BUFFERED_BYTES_MAX as u64 * 2 / MIB..=1024 * 1024;

/// Runs one node of a cluster until it is told to stop.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  raftkv node --id 1 --listen 127.0.0.1:5001 --peer 2=localhost:5002 --peer 3=localhost:5003
  raftkv 1 5001 2:localhost:5002 3:localhost:5003      the same, in the short form
  raftkv node --id 1 --listen 0.0.0.0:5001 --advertise 10.0.0.1:5001 --peer 2=10.0.0.2:5001 --peer 3=10.0.0.3:5001

SIGTERM and SIGINT stop the node cleanly; a second one stops it at once.
Exit status: 0 after a clean stop, 10 configuration, 11 damaged data, 12 input or output failed.")]
pub struct NodeArgs {
    /// This node's id, unique in the cluster: 1 to 4294967295
    #[arg(long, value_parser = parse_id)]
    pub id: NodeId,

    /// Where clients and peers reach this node
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5001")]
    pub listen: Address,

    /// Another member; once for each. It only bootstraps: later the log's membership wins
    #[arg(long = "peer", value_name = "ID=HOST:PORT")]
    pub peers: Vec<Peer>,

    /// What the log, the term and the vote are kept in [default: ./data/nodeID]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The address that this node tells clients and peers [default: what --listen says]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<Address>,

    /// The cluster's name: nodes of another name are refused
    #[arg(long, value_name = "NAME", default_value = "raftkv")]
    pub cluster: String,

    /// Shortest election timeout, in milliseconds
    #[arg(long, value_name = "MS", value_parser = number::<u64>(TIMEOUT_MS))]
    #[arg(default_value_t = milliseconds(limits::ELECTION_TIMEOUT_MIN))]
    pub election_timeout_min_ms: u64,

    /// Longest election timeout, in milliseconds
    #[arg(long, value_name = "MS", value_parser = number::<u64>(TIMEOUT_MS))]
    #[arg(default_value_t = milliseconds(limits::ELECTION_TIMEOUT_MAX))]
    pub election_timeout_max_ms: u64,

    /// Time between a leader's heartbeats, in milliseconds; at most half of the shortest election timeout
    #[arg(long, value_name = "MS", value_parser = number::<u64>(HEARTBEAT_MS))]
    #[arg(default_value_t = milliseconds(limits::HEARTBEAT_INTERVAL))]
    pub heartbeat_ms: u64,

    /// Whether a leader may answer reads without asking the others, while enough of them have promised to help nobody
    /// else to lead. Turn it off where a clock may be further off than --lease-drift-percent says
    #[arg(long, value_name = "on|off", value_parser = on_or_off, default_value = "on", action = clap::ArgAction::Set)]
    pub lease_reads: bool,

    /// For how long it asks for that promise, and gives it at most, in milliseconds; less than the shortest election
    /// timeout [default: 80 % of that, 500 at most]
    #[arg(long, value_name = "MS", value_parser = number::<u64>(LEASE_PROMISE_MS))]
    pub lease_promise_ms: Option<u64>,

    /// By how much the clocks of any two nodes may differ in rate, in percent
    #[arg(long, value_name = "PERCENT", value_parser = number::<u32>(LEASE_DRIFT_PERCENT))]
    #[arg(default_value_t = limits::LEASE_DRIFT_PERCENT)]
    pub lease_drift_percent: u32,

    /// A request that is not answered after this long is answered `timeout` or `outcome_unknown`, in milliseconds
    #[arg(long, value_name = "MS", value_parser = number::<u64>(REQUEST_TIMEOUT_MS))]
    #[arg(default_value_t = milliseconds(limits::REQUEST_TIMEOUT))]
    pub request_timeout_ms: u64,

    /// The whole log is read once in this time, for damage, in hours; 0: only when raftkv scrub asks
    #[arg(long, value_name = "HOURS", value_parser = number::<u64>(SCRUB_HOURS))]
    #[arg(default_value_t = limits::SCRUB_INTERVAL.as_secs() / 3600)]
    pub scrub_hours: u64,

    /// How long a thread looks for the next event before it sleeps, in microseconds; 0: not at all [default: where
    /// waking a thread is dear, which is measured at start, some times as long as that takes]
    #[arg(long, value_name = "US", value_parser = number::<u64>(SPIN_US))]
    pub spin_us: Option<u64>,

    /// Size of a new log segment, in MiB
    #[arg(long, value_name = "MIB", value_parser = number::<u64>(SEGMENT_MIB))]
    #[arg(default_value_t = limits::SEGMENT_BYTES / MIB)]
    pub segment_mib: u64,

    /// Log entries kept in memory for slow followers, in MiB; older ones are read from the segments
    #[arg(long, value_name = "MIB", value_parser = number::<u64>(LOG_MEMORY_MIB))]
    #[arg(default_value_t = limits::LOG_MEMORY_BYTES_MAX as u64 / MIB)]
    pub log_memory_mib: u64,

    /// Most client connections; one beyond them is answered `busy` and closed, or waits to be accepted
    #[arg(long, value_name = "COUNT", value_parser = number::<usize>(CONNECTIONS))]
    #[arg(default_value_t = limits::CONNECTIONS_MAX)]
    pub connections_max: usize,

    /// Most requests in progress, of all connections together; above it they are answered `busy`
    #[arg(long, value_name = "COUNT", value_parser = number::<usize>(REQUESTS))]
    #[arg(default_value_t = limits::REQUESTS_MAX)]
    pub requests_max: usize,

    /// Most requests in progress on one connection; at the limit it is not read
    #[arg(long, value_name = "COUNT", value_parser = number::<usize>(REQUESTS))]
    #[arg(default_value_t = limits::CONNECTION_REQUESTS_MAX)]
    pub connection_requests_max: usize,

    /// Bytes buffered for all connections together, in MiB; at the limit clients are not read
    #[arg(long, value_name = "MIB", value_parser = number::<u64>(BUFFERED_MIB))]
    #[arg(default_value_t = limits::BUFFERED_BYTES_MAX as u64 / MIB)]
    pub buffered_mib: u64,

    /// What is logged: error, warn, info, debug or trace. RUST_LOG, if set, says more and wins [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    pub log_level: Option<log::LevelFilter>,

    /// Measure no stages of requests: to find out what measuring them costs
    #[arg(long, hide = true)]
    pub no_stages: bool,

    /// Stop cleanly when standard input ends: how `raftkv demo` takes its nodes with it
    #[arg(long, hide = true)]
    pub exit_on_stdin_close: bool,
}

fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "a level is error, warn, info, debug, trace or off".to_string())
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("use on or off".to_string()),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a default is a few seconds")
}

impl NodeArgs {
    /// Refuses what can't work or is surely a mistake. The sentence names the option and the way out.
    /// `Ok` holds warnings for the log.
    pub fn check(&self) -> Result<Vec<String>, String> {
        self.check_members()?;
        self.check_addresses()?;
        self.check_timings()?;
        self.check_sizes()?;
        Ok(self.warnings())
    }

    /// The address by which others know this node.
    pub fn advertised(&self) -> &Address {
        self.advertise.as_ref().unwrap_or(&self.listen)
    }

    /// This node and its peers, ordered by id.
    pub fn members(&self) -> Vec<(NodeId, Arc<str>)> {
        let own = (self.id, self.advertised());
        let peers = self.peers.iter().map(|peer| (peer.id, &peer.address));
        let mut members: Vec<(NodeId, Arc<str>)> =
            std::iter::once(own).chain(peers).map(|(id, address)| (id, address.to_string().into())).collect();
        members.sort();
        members
    }

    pub fn leases(&self) -> Option<Leases> {
        let promise = self.lease_promise_ms.map(Duration::from_millis);
        self.lease_reads.then_some(Leases { promise, drift_percent: self.lease_drift_percent })
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("./data/node{}", self.id)))
    }

    fn check_members(&self) -> Result<(), String> {
        let count = self.peers.len() + 1;
        if count > limits::CLUSTER_MEMBERS_MAX {
            let limit = limits::CLUSTER_MEMBERS_MAX;
            return Err(format!("{count} members, the limit is {limit}; name fewer with --peer"));
        }
        for (at, peer) in self.peers.iter().enumerate() {
            if peer.id == self.id {
                return Err(format!("--peer {peer} has this node's own id (--id {}); name only the others", self.id));
            }
            if is_same(&peer.address, self.advertised()) {
                return Err(format!("--peer {peer} has this node's own address; each member needs its own"));
            }
            for earlier in &self.peers[..at] {
                if earlier.id == peer.id {
                    return Err(format!("--peer {earlier} and --peer {peer} have the same id; ids are unique"));
                }
                if is_same(&earlier.address, &peer.address) {
                    return Err(format!("--peer {earlier} and --peer {peer} have the same address; one is wrong"));
                }
            }
        }
        let cluster = self.cluster.len();
        if cluster == 0 || cluster > 64 || !self.cluster.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!(
                "--cluster {:?} is not a name; use 1 to 64 letters, digits or signs without spaces",
                self.cluster
            ));
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), String> {
        let elsewhere = self.peers.iter().find(|peer| !peer.address.is_loopback());
        if let Some(peer) = elsewhere.filter(|_| self.listen.is_loopback()) {
            return Err(format!(
                "--peer {peer} is on another machine, but --listen {} can only be reached from this one; \
                 listen on an address that the peer can reach, as in --listen 0.0.0.0:{} with --advertise HOST:{}",
                self.listen,
                self.listen.port(),
                self.listen.port(),
            ));
        }
        if self.advertised().is_unspecified() && !self.peers.is_empty() {
            return Err(format!(
                "peers and clients can't dial {}; name this node's address with --advertise HOST:{}",
                self.advertised(),
                self.advertised().port(),
            ));
        }
        if let Some(peer) = self.peers.iter().find(|peer| peer.address.is_unspecified()) {
            return Err(format!("--peer {peer} names every interface, which can't be dialed; name the peer's host"));
        }
        Ok(())
    }

    fn check_timings(&self) -> Result<(), String> {
        let (min, max) = (self.election_timeout_min_ms, self.election_timeout_max_ms);
        if min >= max {
            return Err(format!(
                "--election-timeout-min-ms {min} must be less than --election-timeout-max-ms {max}: \
                 the nodes draw from between, and equal ones tie for ever"
            ));
        }
        if self.heartbeat_ms == 0 || self.heartbeat_ms.saturating_mul(2) > min {
            return Err(format!(
                "--heartbeat-ms {} must be 1 to {} (half of --election-timeout-min-ms {min}), \
                 so that one lost heartbeat starts no election",
                self.heartbeat_ms,
                min / 2,
            ));
        }
        within("--election-timeout-max-ms", max, TIMEOUT_MS)?;
        within("--lease-drift-percent", self.lease_drift_percent.into(), LEASE_DRIFT_PERCENT)?;
        if let Some(promise) = self.lease_promise_ms {
            within("--lease-promise-ms", promise, LEASE_PROMISE_MS)?;
            if promise >= min || promise <= self.heartbeat_ms {
                return Err(format!(
                    "--lease-promise-ms {promise} must be more than --heartbeat-ms {}, which renews it, and less than \
                     --election-timeout-min-ms {min}, so that it keeps nobody from replacing a leader that is gone",
                    self.heartbeat_ms
                ));
            }
        }
        within("--scrub-hours", self.scrub_hours, SCRUB_HOURS)?;
        within("--spin-us", self.spin_us.unwrap_or(0), SPIN_US)?;
        within("--request-timeout-ms", self.request_timeout_ms, REQUEST_TIMEOUT_MS)
    }

    fn check_sizes(&self) -> Result<(), String> {
        within("--segment-mib", self.segment_mib, SEGMENT_MIB)?;
        within("--log-memory-mib", self.log_memory_mib, LOG_MEMORY_MIB)?;
        within("--connections-max", self.connections_max as u64, CONNECTIONS)?;
        within("--requests-max", self.requests_max as u64, REQUESTS)?;
        within("--connection-requests-max", self.connection_requests_max as u64, 1..=self.requests_max as u64)?;
        within("--buffered-mib", self.buffered_mib, BUFFERED_MIB)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.listen.is_loopback() {
            warnings.push(format!(
                "--listen {} is reachable from other machines, and nothing authenticates yet: \
                 whoever reaches the port can read and write everything",
                self.listen
            ));
        }
        let lease = self.leases().map(|leases| {
            let promise = leases.promise(Duration::from_millis(self.election_timeout_min_ms));
            promise * (100 - leases.drift_percent) / 100
        });
        if let Some(lease) = lease.filter(|lease| lease.as_millis() <= u128::from(self.heartbeat_ms)) {
            warnings.push(format!(
                "a lease of {} ms runs out before the next heartbeat (--heartbeat-ms {}): most reads will ask a majority",
                lease.as_millis(),
                self.heartbeat_ms
            ));
        }
        let count = self.peers.len() + 1;
        if count.is_multiple_of(2) {
            warnings.push(format!("{count} members survive no more failures than {} do", count - 1));
        }
        warnings
    }
}

fn is_same(one: &Address, other: &Address) -> bool {
    is_same_address(&one.to_string(), &other.to_string())
}

/// Takes any whole number; what is none is told the range. Whether one lies in it is [`NodeArgs::check`]'s to say.
pub fn number<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("use a whole number from {} to {}", range.start(), range.end()))
    }
}

/// The same, and it must lie in the range.
pub fn number_within(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> + Clone {
    move |text| {
        let known = text.parse::<u64>().ok().filter(|number| range.contains(number));
        known.ok_or_else(|| format!("use a whole number from {} to {}", range.start(), range.end()))
    }
}

fn within(option: &str, value: u64, range: RangeInclusive<u64>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{option} {value} is out of range; use {} to {}", range.start(), range.end()))
}

/// A seed that differs between processes, for what must not happen in step on several machines (back-off,
/// election timeouts). Not for secrets.
pub fn process_seed() -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mixed = u64::try_from(clock.as_nanos()).unwrap_or(u64::MAX) ^ (u64::from(std::process::id()) << 32);
    Random::new(mixed).next()
}

/// Rewrites `raftkv ID PORT [PEER...]`, the original's form, to the options of `node`; everything else stays.
/// It is recognised by a first argument of digits only. What follows the peers from the first `-` on is kept.
pub fn rewrite_original(arguments: Vec<OsString>) -> Vec<OsString> {
    let digits = |argument: &OsString| {
        argument.to_str().is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if !arguments.get(1).is_some_and(digits) {
        return arguments;
    }
    let mut rewritten: Vec<OsString> = vec![arguments[0].clone(), "node".into(), "--id".into(), arguments[1].clone()];
    let mut rest = arguments.into_iter().skip(2).peekable();
    if let Some(port) = rest.next_if(digits) {
        let listen = format!("127.0.0.1:{}", port.display());
        rewritten.extend(["--listen".into(), listen.into()]);
    }
    while let Some(peer) = rest.next_if(|argument| !argument.as_encoded_bytes().starts_with(b"-")) {
        rewritten.extend(["--peer".into(), peer]);
    }
    rewritten.extend(rest);
    rewritten
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Wrapped {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn parse(options: &str) -> NodeArgs {
        Wrapped::try_parse_from(std::iter::once("node").chain(options.split_whitespace())).unwrap().node
    }

    fn refusal(options: &str) -> String {
        parse(options).check().expect_err("it should be refused")
    }

    fn rewritten(line: &str) -> String {
        let arguments = line.split_whitespace().map(OsString::from).collect();
        rewrite_original(arguments).join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn the_defaults_pass_their_own_check() {
        assert_eq!(parse("--id 1").check(), Ok(vec![]));
        let node = parse("--id 2 --peer 3=localhost:5003 --peer 1=localhost:5001 --listen 127.0.0.1:5002");
        assert_eq!(node.check(), Ok(vec![]));
        let members: Vec<String> = node.members().iter().map(|(id, address)| format!("{id}={address}")).collect();
        assert_eq!(members, ["1=localhost:5001", "2=127.0.0.1:5002", "3=localhost:5003"]);
        assert_eq!(node.data_dir(), PathBuf::from("./data/node2"));
    }

    #[test]
    fn members_must_be_distinct_and_few() {
        assert!(refusal("--id 1 --peer 1=localhost:5002").contains("own id"));
        assert!(refusal("--id 1 --peer 2=127.0.0.1:5001").contains("own address"));
        assert!(refusal("--id 1 --peer 2=localhost:5001").contains("own address"));
        assert!(refusal("--id 1 --peer 2=localhost:2 --peer 2=localhost:3").contains("same id"));
        assert!(refusal("--id 1 --peer 2=localhost:2 --peer 3=localhost:2").contains("same address"));
        let seven: String = (2..=8).map(|id| format!(" --peer {id}=localhost:{id}")).collect();
        assert!(refusal(&format!("--id 1 {seven}")).contains("8 members, the limit is 7"));
        assert!(refusal("--id 1 --cluster=").contains("--cluster"));
    }

    #[test]
    fn a_loopback_listen_with_peers_elsewhere_is_refused_by_the_options_name() {
        let refused = refusal("--id 1 --peer 2=10.0.0.2:5001");
        assert!(refused.contains("--listen 127.0.0.1:5001") && refused.contains("--advertise"), "{refused}");
        assert!(refusal("--id 1 --listen 0.0.0.0:5001 --peer 2=10.0.0.2:5001").contains("--advertise HOST:5001"));
        let open = parse("--id 1 --listen 0.0.0.0:1 --advertise a:1 --peer 2=b:1 --peer 3=c:1").check().unwrap();
        assert!(open[0].contains("nothing authenticates yet"), "{open:?}");
    }

    #[test]
    fn timings_and_sizes_must_fit_together() {
        assert!(refusal("--id 1 --election-timeout-min-ms 300").contains("must be less than"));
        assert!(refusal("--id 1 --heartbeat-ms 76").contains("1 to 75"));
        assert!(refusal("--id 1 --heartbeat-ms 0").contains("--heartbeat-ms 0"));
        assert!(refusal("--id 1 --lease-promise-ms 150").contains("less than --election-timeout-min-ms 150"));
        assert!(refusal("--id 1 --lease-promise-ms 50").contains("more than --heartbeat-ms 50"));
        assert!(refusal("--id 1 --lease-promise-ms 501").contains("use 1 to 500"));
        assert!(refusal("--id 1 --lease-drift-percent 91").contains("use 0 to 90"));
        assert!(refusal("--id 1 --segment-mib 3").contains("use 4 to"));
        assert!(refusal("--id 1 --buffered-mib 47").contains("use 48 to"));
        assert!(refusal("--id 1 --requests-max 10").contains("--connection-requests-max 1024"));
    }

    #[test]
    fn leases_follow_the_election_timeout_and_can_be_turned_off() {
        let promise = |options: &str| {
            let node = parse(options);
            let min = Duration::from_millis(node.election_timeout_min_ms);
            node.leases().map(|leases| leases.promise(min).as_millis())
        };
        assert_eq!(promise("--id 1"), Some(120));
        let slow = "--id 1 --election-timeout-max-ms 9000 --election-timeout-min-ms";
        assert_eq!(promise(&format!("{slow} 600")), Some(480));
        assert_eq!(promise(&format!("{slow} 3000")), Some(500));
        assert_eq!(promise("--id 1 --lease-promise-ms 90"), Some(90));
        assert_eq!(promise("--id 1 --lease-reads off"), None);
        let rare = parse(&format!("{slow} 3000 --heartbeat-ms 1000")).check().unwrap();
        assert!(rare.iter().any(|warning| warning.contains("a lease of 450 ms runs out")), "{rare:?}");
    }

    #[test]
    fn what_is_no_number_is_told_the_range() {
        let numbers = ["segment-mib", "heartbeat-ms", "connections-max", "scrub-hours", "buffered-mib"];
        for (option, range) in numbers.iter().zip(["4 to 1024", "1 to 30000", "1 to 1000000", "0 to 8760", "48 to "]) {
            for wrong in ["x", "1.5", "99999999999999999999", ""] {
                let arguments = ["node", "--id", "1", &format!("--{option}={wrong}")];
                let error = Wrapped::try_parse_from(arguments).map(|_| ()).unwrap_err().to_string();
                assert!(error.contains(option) && error.contains(&format!("from {range}")), "{error}");
            }
        }
        assert!(number_within(1..=9)("0").unwrap_err().contains("from 1 to 9"));
    }

    #[test]
    fn the_originals_form_is_rewritten_and_nothing_else_is() {
        assert_eq!(
            rewritten("raftkv 1 5001 2:localhost:5002 3:localhost:5003 --log-level debug"),
            "raftkv node --id 1 --listen 127.0.0.1:5001 --peer 2:localhost:5002 --peer 3:localhost:5003 \
             --log-level debug"
        );
        assert_eq!(rewritten("raftkv 1 5001"), "raftkv node --id 1 --listen 127.0.0.1:5001");
        assert_eq!(rewritten("raftkv node --id 1"), "raftkv node --id 1");
        assert_eq!(rewritten("raftkv"), "raftkv");
    }
}
