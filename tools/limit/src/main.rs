//! What this machine allows at best, so that a store's figures can be held against it: a bare relay that replicates
//! without being a store, a bare echo, the disk alone, and a thread that is woken.
//!
//! The relay and the echo are driven by loadgen's own loop, over lines, and each server is a process of its own.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use limit::children::{self, Server};
use limit::leftovers;
use loadgen::descriptors::allow_connections;
use loadgen::driver::{Driver, Settings, Until};
use loadgen::link::Protocol;
use loadgen::plan::{Distribution, Mixer, Plan};
use loadgen::report::Report;
use serde_json::{Map, Value, json};

mod connection;
mod echo;
mod figures;
mod relay;
mod sync;
mod wake;

use sync::Layout;
use wake::{Means, Where};

/// Measures what this machine allows a replicated store at best
#[derive(Parser, Debug)]
#[command(
    name = "limit",
    version,
    max_term_width = 120,
    after_help = "\
Examples:
  limit relay --clients 64            three processes, each write durable on two of them
  limit echo --clients 16 --depth 32  requests and answers alone
  limit sync                          the disk alone: one file, and three at once
  limit wake                          a thread that is woken, on the same core and on another one
  limit all --json -                  all of it

Files are made in --directory, which decides what disk is measured: never a tmpfs."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Three processes: one forwards to two, all write and sync, it answers when two of the three have
    Relay(LoadArguments),
    /// One process: what comes goes back
    Echo(LoadArguments),
    /// Small writes, each synced (fdatasync): one file, three at once, and one that grows
    Sync(MeasureArguments),
    /// A thread that sleeps is woken, and wakes the one that woke it
    Wake(MeasureArguments),
    /// Everything, with 1 and 64 clients
    All(MeasureArguments),
    /// What the others start
    #[command(hide = true)]
    Serve {
        #[arg(value_enum)]
        role: Role,
        #[arg(long)]
        file: Option<PathBuf>,
        #[arg(long)]
        follower: Vec<SocketAddr>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Echo,
    RelayFollower,
    RelayLeader,
}

#[derive(Args, Clone, Debug)]
struct LoadArguments {
    /// Connections
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// Requests under way on one connection
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    depth: u32,
    /// Open loop: requests per second over all connections [default: closed loop]
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Size of a value, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    value_bytes: u32,
    #[command(flatten)]
    measure: MeasureArguments,
}

#[derive(Args, Clone, Debug)]
struct MeasureArguments {
    /// How long to measure each, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    duration_s: f64,
    /// Where the files are made that are written and synced
    #[arg(long, value_name = "PATH", default_value = ".")]
    directory: PathBuf,
    /// Write the figures as JSON to a file, or to standard output for -
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
}

impl MeasureArguments {
    fn duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.duration_s).unwrap_or(Duration::from_secs(5))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limit: {error}");
            ExitCode::from(1)
        }
    }
}

fn run(command: &Command) -> io::Result<()> {
    let mut figures = Figures::default();
    let measure = match command {
        Command::Serve { role, file, follower } => return serve(*role, file.as_deref(), follower),
        Command::Relay(load) => {
            figures.add(&name_of("relay", load), measure_relay(load)?);
            &load.measure
        }
        Command::Echo(load) => {
            figures.add(&name_of("echo", load), measure_echo(load)?);
            &load.measure
        }
        Command::Sync(measure) => {
            measure_sync(measure, &mut figures)?;
            measure
        }
        Command::Wake(measure) => {
            measure_wake(measure, &mut figures)?;
            measure
        }
        Command::All(measure) => {
            measure_all(measure, &mut figures)?;
            measure
        }
    };
    figures.write(measure.json.as_deref())
}

fn measure_all(measure: &MeasureArguments, figures: &mut Figures) -> io::Result<()> {
    measure_wake(measure, figures)?;
    measure_sync(measure, figures)?;
    for (clients, depth) in [(1, 1), (64, 1), (16, 32)] {
        let load = LoadArguments { clients, depth, rate: None, value_bytes: 128, measure: measure.clone() };
        figures.add(&name_of("echo", &load), measure_echo(&load)?);
        figures.add(&name_of("relay", &load), measure_relay(&load)?);
    }
    Ok(())
}

fn serve(role: Role, file: Option<&Path>, followers: &[SocketAddr]) -> io::Result<()> {
    let file = || file.ok_or_else(|| io::Error::other("--file is missing"));
    match role {
        Role::Echo => echo::serve(children::listen()?),
        Role::RelayFollower => relay::follow(&children::listen()?, file()?),
        Role::RelayLeader => relay::lead(children::listen()?, followers, file()?),
    }
}

// ---- measuring -------------------------------------------------------------------------------------------------

fn measure_relay(load: &LoadArguments) -> io::Result<Value> {
    allow_connections(load.clients.into(), "--clients")?;
    let directory = leftovers::directory_in(&load.measure.directory)?;
    let file = |name: &str| directory.path().join(name);
    let followers = ["relay-b", "relay-c"].map(|name| Server::start("relay-follower", Some(&file(name)), &[]));
    let followers = followers.into_iter().collect::<io::Result<Vec<_>>>()?;
    let addresses: Vec<SocketAddr> = followers.iter().map(|follower| follower.address).collect();
    let leader = Server::start("relay-leader", Some(&file("relay-a")), &addresses)?;
    drive(leader.address, load)
}

fn measure_echo(load: &LoadArguments) -> io::Result<Value> {
    allow_connections(load.clients.into(), "--clients")?;
    let server = Server::start("echo", None, &[])?;
    drive(server.address, load)
}

/// loadgen's loop, over lines.
fn drive(address: SocketAddr, load: &LoadArguments) -> io::Result<Value> {
    let plan = Plan {
        keys: 10_000,
        value_bytes: load.value_bytes as usize,
        distribution: Distribution::Uniform,
        read_share: 0.0,
        seed: 1,
        run: None,
    };
    let settings = Settings {
        addresses: vec![address.to_string()],
        leader: None,
        connections: load.clients as usize,
        depth: load.depth as usize,
        rate: load.rate,
        protocol: Protocol::Lines,
        timeout: Duration::from_secs(10),
    };
    let measured = load.measure.duration();
    let until = Until::Time { warmup: measured / 5, measured };
    let (mut mixer, mut report) = (Mixer::new(plan), Report::default());
    let elapsed = Driver::new(settings, &mut mixer, &mut report, until)?.run(|_| ())?;
    if !report.is_clean() {
        return Err(io::Error::other(report.summary(elapsed)));
    }
    Ok(report.json(Value::Null, elapsed)["writes"].clone())
}

fn measure_sync(measure: &MeasureArguments, figures: &mut Figures) -> io::Result<()> {
    let directory = leftovers::directory_in(&measure.directory)?;
    for (name, files, layout) in [
        ("write and fdatasync, one file", 1, Layout::Preallocated),
        ("write and fdatasync, three files at once", 3, Layout::Preallocated),
        ("the same around the page cache, one file", 1, Layout::AroundCache),
        ("the same around the page cache, three files at once", 3, Layout::AroundCache),
        ("write and fdatasync, one file that grows", 1, Layout::Growing),
    ] {
        figures.add(name, sync::measure(directory.path(), files, layout, measure.duration())?.json());
    }
    Ok(())
}

fn measure_wake(measure: &MeasureArguments, figures: &mut Figures) -> io::Result<()> {
    for (name, means, place) in [
        ("poll woken and back, same core", Means::Poll, Where::SameCore),
        ("poll woken and back, other core", Means::Poll, Where::OtherCore),
        ("channel there and back, same core", Means::Channel, Where::SameCore),
        ("channel there and back, other core", Means::Channel, Where::OtherCore),
    ] {
        match wake::measure(means, place, measure.duration())? {
            Some(latencies) => figures.add(name, latencies.json()),
            None => eprintln!("{name}: skipped, this process may run on one core only"),
        }
    }
    Ok(())
}

fn name_of(what: &str, load: &LoadArguments) -> String {
    let rate = load.rate.map_or(String::new(), |rate| format!(", {rate} a second"));
    format!("{what}, {} clients, {} deep{rate}", load.clients, load.depth)
}

/// What was measured, by name, printed as it comes.
#[derive(Default)]
struct Figures(Map<String, Value>);

impl Figures {
    fn add(&mut self, name: &str, latencies: Value) {
        eprintln!("{}", figures::row(name, &latencies));
        self.0.insert(name.to_string(), latencies);
    }

    fn write(self, to: Option<&str>) -> io::Result<()> {
        let text = format!("{:#}\n", json!(self.0));
        match to {
            None => Ok(()),
            Some("-") => io::Write::write_all(&mut io::stdout(), text.as_bytes()),
            Some(file) => std::fs::write(file, text),
        }
    }
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
