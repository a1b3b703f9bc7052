//! Load on a raftkv cluster, and what it took: closed loop (each connection keeps `--depth` requests under way) or
//! open loop (`--rate` operations a second, whatever the answers do). One thread drives all connections.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use raftkv::api::ReadBy;
use raftkv::cli::peers::Address;
use raftkv::client::{Client, ClientSettings};
use serde_json::{Value, json};

use loadgen::descriptors::allow_connections;
use loadgen::driver::{Driver, Settings, Until};
use loadgen::history::Recorder;
use loadgen::link::Protocol;
use loadgen::plan::{Distribution, Mixer, Plan};
use loadgen::report::Report;

/// Puts load on a raftkv cluster and reports rates and latencies
#[derive(Parser, Debug)]
#[command(
    name = "loadgen",
    version,
    max_term_width = 120,
    after_help = "\
Examples:
  loadgen --connections 64 --duration-s 10
  loadgen --connections 64 --rate 20000 --read-share 0.5 --preload --json report.json
  loadgen --protocol lines --depth 16 --spread all
  loadgen --preload --read-share 1 --read any
  loadgen --protocol resp --servers localhost:6379      the same load on Redis
  loadgen --connections 10 --keys 5 --read-share 0.3 --history h.txt && tools/check-history h.txt

Open loop (--rate): latency counts from when an operation was due, so that a server that stalls does not hide it.
Exit status: 0 all was done, 1 errors or unknown outcomes, 2 usage, 3 no node can be reached."
)]
struct Arguments {
    /// Nodes, separated by commas; one is enough, it names the others
    #[arg(long, value_name = "HOST:PORT,...", env = "RAFTKV_SERVERS", value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:5001")]
    servers: Vec<Address>,

    /// Connections, all together
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = positive())]
    connections: u64,

    /// Requests under way on one connection; in the open loop, at most
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = positive())]
    depth: u64,

    /// Open loop: operations per second over all connections [default: closed loop]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,

    /// Size of a value, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    value_bytes: u64,

    /// How many keys there are
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    keys: u64,

    /// Which keys come how often
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    distribution: Distribution,

    /// Share of reads, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    read_share: f64,

    /// Who may answer reads: the leader, or any node that is asked; then connections are spread as by --spread all
    #[arg(long, value_name = "leader|any", default_value = "leader")]
    read: ReadBy,

    /// How long to measure, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    duration_s: f64,

    /// How long to run before that, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    warmup_s: f64,

    /// Write each key once first, so that reads find something
    #[arg(long)]
    preload: bool,

    /// What to speak
    #[arg(long, value_enum, default_value_t = Protocol::Frames)]
    protocol: Protocol,

    /// Where to connect
    #[arg(long, value_enum, default_value_t = Spread::Leader)]
    spread: Spread,

    /// A request that waits for longer closes its connection, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = positive())]
    timeout_ms: u64,

    /// Write the report as JSON to a file, or to standard output for -: an object a line for each second, then the
    /// whole
    #[arg(long, value_name = "FILE")]
    json: Option<String>,

    /// Record every operation in a file, for tools/check-history; the run then has keys of its own
    #[arg(long, value_name = "FILE", conflicts_with = "preload")]
    history: Option<String>,

    /// What keys and the mix are drawn from: the same seed asks the same
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Spread {
    /// All connections to the leader, also to a new one (lines don't name it: they stay)
    Leader,
    /// Connection by connection over all nodes
    All,
}

fn positive() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=1_000_000)
}

fn number(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.1..=10_000_000.0)
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.0..=86_400.0)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.read == ReadBy::Any && arguments.protocol != Protocol::Frames {
        eprintln!("loadgen: --read any is asked for in frames alone; leave --protocol out, or --read any");
        return ExitCode::from(2);
    }
    let Some(settings) = settings(&arguments) else { return ExitCode::from(3) };
    match run(&arguments, settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::from(1)
        }
    }
}

/// Finds the nodes and the leader. `None`: nobody is there, and it was said.
fn settings(arguments: &Arguments) -> Option<Settings> {
    let given: Vec<String> = arguments.servers.iter().map(ToString::to_string).collect();
    if !arguments.protocol.has_leader() {
        return Some(settings_for(arguments, given, None));
    }
    let mut client = Client::new(given, ClientSettings::default());
    let census = client.census();
    let reached: Vec<String> =
        census.nodes.iter().filter(|seen| seen.status.is_ok()).map(|seen| seen.address.clone()).collect();
    if reached.is_empty() {
        let why: Vec<String> =
            census.nodes.iter().filter_map(|seen| seen.status.as_ref().err()).map(ToString::to_string).collect();
        eprintln!("loadgen: {}", why.join("; "));
        return None;
    }
    let leader = census.leader().map(|seen| seen.address.clone());
    if leader.is_none() {
        eprintln!("loadgen: there is no leader now; the load begins at {}", reached[0]);
    }
    let to_leader = arguments.spread == Spread::Leader && arguments.read == ReadBy::Leader;
    let leader = to_leader.then(|| leader.unwrap_or_else(|| reached[0].clone()));
    Some(settings_for(arguments, census.nodes.into_iter().map(|seen| seen.address).collect(), leader))
}

fn settings_for(arguments: &Arguments, addresses: Vec<String>, leader: Option<String>) -> Settings {
    Settings {
        addresses,
        leader,
        connections: usize::try_from(arguments.connections).expect("at most a million"),
        depth: usize::try_from(arguments.depth).expect("at most a million"),
        rate: arguments.rate,
        protocol: arguments.protocol,
        timeout: Duration::from_millis(arguments.timeout_ms),
    }
}

/// Whether all was done.
fn run(arguments: &Arguments, settings: Settings) -> io::Result<bool> {
    let plan = Plan {
        keys: arguments.keys,
        value_bytes: usize::try_from(arguments.value_bytes).expect("at most 1 MiB"),
        distribution: arguments.distribution,
        read_share: arguments.read_share,
        seed: arguments.seed,
        run: arguments.history.as_ref().map(|_| run_name()),
    };
    allow_connections(arguments.connections, "--connections")?;
    if arguments.preload && !preload(&settings, &plan)? {
        return Ok(false);
    }
    let (mut mixer, mut report) = (Mixer::new(plan), Report::default());
    let until = Until::Time {
        warmup: Duration::from_secs_f64(arguments.warmup_s),
        measured: Duration::from_secs_f64(arguments.duration_s),
    };
    // With the JSON on standard output, the lines for people go elsewhere.
    let to_stderr = arguments.json.as_deref() == Some("-");
    // Whether anybody reads on changes nothing: behind `head` nobody does.
    let say = |line: &str| {
        drop(if to_stderr { writeln!(io::stderr(), "{line}") } else { writeln!(io::stdout(), "{line}") });
    };
    let mut json: Box<dyn Write> = match arguments.json.as_deref() {
        None => Box::new(io::sink()),
        Some("-") => Box::new(io::stdout()),
        Some(file) => Box::new(File::create(file).map_err(|error| at("--json", file, &error))?),
    };
    let mut written = Ok(());
    let mut recorder = arguments.history.as_deref().map(recorder).transpose()?;
    let driver = Driver::new(settings, &mut mixer, &mut report, until)?;
    let mut driver = driver.reading_by(arguments.read).recorded(recorder.as_mut());
    let elapsed = driver.run(|second| {
        say(&second.text);
        if written.is_ok() {
            written = writeln!(json, "{}", second.json);
        }
    })?;
    recorder.map_or(Ok(()), Recorder::finish)?;
    say(report.summary(elapsed).trim_end());
    written.and_then(|()| writeln!(json, "{}", report.json(plan_json(arguments), elapsed)))?;
    Ok(report.is_clean())
}

fn recorder(file: &str) -> io::Result<Recorder> {
    Recorder::create(file).map_err(|error| at("--history", file, &error))
}

fn at(option: &str, file: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{option} {file}: {error}"))
}

/// One that no other run has.
fn run_name() -> String {
    let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{:x}-{:x}", since_epoch.as_nanos(), std::process::id())
}

/// Writes every key once, in a closed loop of some depth.
fn preload(settings: &Settings, plan: &Plan) -> io::Result<bool> {
    let settings = Settings { rate: None, depth: settings.depth.max(16), ..settings.clone() };
    let plan = Plan { distribution: Distribution::Sequential, read_share: 0.0, ..plan.clone() };
    let (keys, mut report) = (plan.keys, Report::default());
    let elapsed = Driver::new(settings, &mut Mixer::new(plan), &mut report, Until::Count(keys))?.run(|_| ())?;
    eprintln!("preload: {}", report.summary(elapsed).trim_end().replace('\n', "; "));
    Ok(report.is_clean())
}

fn plan_json(arguments: &Arguments) -> Value {
    let name = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_string());
    json!({
        "connections": arguments.connections,
        "depth": arguments.depth,
        "rate": arguments.rate,
        "value_bytes": arguments.value_bytes,
        "keys": arguments.keys,
        "distribution": name(arguments.distribution.to_possible_value()),
        "read_share": arguments.read_share,
        "read": if arguments.read == ReadBy::Any { "any" } else { "leader" },
        "protocol": name(arguments.protocol.to_possible_value()),
        "spread": name(arguments.spread.to_possible_value()),
        "seed": arguments.seed,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
