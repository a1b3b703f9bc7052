//! `raftkv node`: from the options to a running node, and to its end.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;
use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Exit;
use super::node_args::NodeArgs;
use super::output::complain;
use crate::base::NodeId;
use crate::disk::OpenError;
use crate::net::NetLimits;
use crate::node::Settings;
use crate::node::end::End;
use crate::node::settings::Tuning;
use crate::node::start::{Node, NodeError, Stopper};

const MIB: u64 = 1024 * 1024;

/// Checks the options, then runs the node until it is told to stop.
pub fn run_node(args: NodeArgs) -> ExitCode {
    let warnings = match args.check() {
        Ok(warnings) => warnings,
        Err(sentence) => {
            complain(&sentence);
            return Exit::NodeConfiguration.into();
        }
    };
    let filters = std::env::var("RUST_LOG").unwrap_or_default();
    logger(args.id, args.log_level, &filters).init();
    end_on_panic();
    let stop = Stop::default();
    if let Err(error) = stop_on_signals(stop.clone()) {
        complain(&format!("signals can't be caught: {error}"));
        return Exit::NodeIo.into();
    }
    if args.exit_on_stdin_close {
        stop_on_stdin_close(stop.clone());
    }
    let settings = Settings { warnings, ..settings(&args) };
    let node = match Node::start(&settings) {
        Ok(node) => node,
        Err(error) => {
            complain(&error.to_string());
            return exit_of(&error).into();
        }
    };
    stop.started(node.stopper());
    match node.wait() {
        End::Stopped => {
            log::info!("stopped");
            Exit::Done.into()
        }
        End::Io(why) => {
            last_word(&format!("{why}; what was acknowledged is safe, restart the node when the cause is mended"));
            Exit::NodeIo.into()
        }
        End::Damaged(why) => {
            last_word(&why);
            Exit::NodeDamaged.into()
        }
    }
}

/// Why the node ends is said whatever the log leaves out.
fn last_word(why: &str) {
    match log::log_enabled!(log::Level::Error) {
        true => log::error!("ended: {why}"),
        false => complain(&format!("ended: {why}")),
    }
}

/// How the node is stopped from outside. While it starts, which takes long where the log is long, nobody waits for
/// anything: the process ends at once, as a kill would end it, which is safe at any time.
#[derive(Clone, Default)]
struct Stop(Arc<Mutex<Option<Stopper>>>);

impl Stop {
    fn started(&self, stopper: Stopper) {
        *self.0.lock() = Some(stopper);
    }

    fn ask(&self) {
        match &*self.0.lock() {
            Some(stopper) => stopper.stop(),
            None => {
                log::info!("stopped before it had started");
                std::process::exit(Exit::Done as i32);
            }
        }
    }
}

fn settings(args: &NodeArgs) -> Settings {
    let mib = |mib: u64| usize::try_from(mib * MIB).unwrap_or(usize::MAX);
    Settings {
        id: args.id,
        listen: args.listen.to_string(),
        advertise: args.advertised().to_string(),
        peers: args.peers.iter().map(|peer| (peer.id, peer.address.to_string())).collect(),
        cluster_name: args.cluster.clone(),
        data_dir: args.data_dir(),
        tuning: Tuning {
            election_timeout_min: Duration::from_millis(args.election_timeout_min_ms),
            election_timeout_max: Duration::from_millis(args.election_timeout_max_ms),
            heartbeat: Duration::from_millis(args.heartbeat_ms),
            leases: args.leases(),
            request_timeout: Duration::from_millis(args.request_timeout_ms),
            spin: args.spin_us.map(Duration::from_micros),
            scrub_interval: (args.scrub_hours > 0).then(|| Duration::from_secs(args.scrub_hours * 3600)),
            segment_bytes: args.segment_mib * MIB,
            log_memory_bytes_max: mib(args.log_memory_mib),
            measure_stages: !args.no_stages,
            ..Tuning::default()
        },
        net: NetLimits {
            connections_max: args.connections_max,
            requests_max: args.requests_max,
            connection_requests_max: args.connection_requests_max,
            buffered_bytes_max: mib(args.buffered_mib),
            ..NetLimits::default()
        },
        warnings: Vec::new(),
    }
}

fn exit_of(error: &NodeError) -> Exit {
    match error {
        NodeError::Configuration(_) | NodeError::Open(OpenError::Configuration(_)) => Exit::NodeConfiguration,
        NodeError::Open(OpenError::Damaged(_)) => Exit::NodeDamaged,
        NodeError::Open(OpenError::Io(_)) | NodeError::Io { .. } => Exit::NodeIo,
    }
}

/// A line is the time in UTC to the millisecond, the level, the node's id, and what happened. What RUST_LOG says of a
/// part is beside `level`, what it says of all is in its place.
fn logger(id: NodeId, level: Option<LevelFilter>, filters: &str) -> env_logger::Builder {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level.unwrap_or(LevelFilter::Info)).parse_filters(filters);
    builder.parse_write_style(&std::env::var("RUST_LOG_STYLE").unwrap_or_default());
    builder.format(move |line, record| {
        writeln!(line, "{} {:5} node {id}: {}", line.timestamp_millis(), record.level(), record.args())
    });
    builder
}

/// A thread that panicked leaves the others with half a node; the process ends at once, and the log recovers.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

/// The first signal stops the node cleanly, a second one ends the process at once.
fn stop_on_signals(stop: Stop) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let run = move || {
        let mut again = false;
        for signal in signals.forever() {
            if again {
                std::process::exit(128 + signal);
            }
            again = true;
            log::info!("signal {signal}: stopping; a second one ends the process at once");
            stop.ask();
        }
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(run).map(|_| ())
}

fn stop_on_stdin_close(stop: Stop) {
    let run = move || {
        let mut ignored = [0; 64];
        while std::io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
        log::info!("standard input ended: stopping");
        stop.ask();
    };
    if let Err(error) = std::thread::Builder::new().name("stdin".to_string()).spawn(run) {
        log::warn!("standard input is not watched: {error}");
    }
}

#[cfg(test)]
mod tests {
    use log::{Level, Log, Metadata};

    use super::*;

    fn logs(level: Option<LevelFilter>, filters: &str, target: &str, at: Level) -> bool {
        let logger = logger(NodeId::new(1).unwrap(), level, filters).build();
        logger.enabled(&Metadata::builder().target(target).level(at).build())
    }

    #[test]
    fn a_filter_for_a_part_leaves_the_rest_as_it_is_and_one_for_all_replaces_it() {
        let steps = "raftkv::steps=trace";
        assert!(logs(None, steps, "raftkv::steps", Level::Trace));
        assert!(logs(None, steps, "raftkv::node::start", Level::Info));
        assert!(!logs(None, steps, "raftkv::node::start", Level::Debug));
        assert!(!logs(Some(LevelFilter::Warn), steps, "raftkv::node::start", Level::Info));
        assert!(!logs(None, "warn", "raftkv::node::start", Level::Info));
        assert!(logs(None, "warn", "raftkv::node::start", Level::Warn));
        assert!(!logs(None, "off", "raftkv::node::start", Level::Error));
        assert!(logs(None, "", "raftkv::node::start", Level::Info));
    }
}
