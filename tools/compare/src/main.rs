//! raftkv beside the machine's limit, etcd and Redis: all of them up at the same time, the same load on each in turns,
//! round after round, so that what the machine does meanwhile happens to all. Figures are medians and ranges of rounds,
//! and ratios within one run: those of two runs say nothing.
//!
//! `grow` measures raftkv beside itself: what it costs when one thing grows.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use limit::leftovers;
use serde_json::json;

mod grow;
mod machine;
mod plot;
mod programs;
mod systems;
mod table;
mod workload;

use programs::Programs;
use systems::{Running, System};
use table::Rounds;
use workload::WORKLOADS;

/// Compares raftkv with the machine's limit, etcd and Redis, as far as these are installed
#[derive(Parser, Debug)]
#[command(
    name = "compare",
    version,
    max_term_width = 120,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  compare --out results                    all loads, 5 rounds of 30 s each: about two hours
  compare --rounds 3 --seconds 3           a first look
  compare --only write --without redis     loads whose name has the word; systems left out
  compare grow --out results               what raftkv costs when keys, connections, nodes, values grow

Data goes to a new directory under --directory: choose a real disk, never a tmpfs. The table goes to standard output, and
with --out to results.md in that directory, with the plots and all figures as JSON."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
    /// Leave a system out
    #[arg(long, value_enum, value_name = "SYSTEM")]
    without: Vec<Without>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// What raftkv costs when one thing grows: keys, idle connections, nodes, values, a listing beside the writes
    Grow(grow::Arguments),
    /// What `grow` starts: connections that stay idle
    #[command(hide = true)]
    Hold { address: std::net::SocketAddr, count: usize },
}

/// How long, where, and on what.
#[derive(Args, Debug)]
struct Common {
    /// Rounds: each runs everything once
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long one load runs at a time
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Only loads, or things that grow, whose name contains one of these
    #[arg(long, value_name = "WORDS")]
    only: Vec<String>,
    /// A further argument of each node of raftkv, such as --raftkv=--spin-us=0
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    raftkv: Vec<String>,
    /// Where the data goes, which decides what disk is compared
    #[arg(long, value_name = "PATH", default_value = ".")]
    directory: PathBuf,
    /// Where the results go
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

impl Common {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|words| name.contains(&**words))
    }

    /// Before hours are spent: something is measured, and the results have a place. `names`: of all there is.
    fn check(&self, names: &[&str]) -> io::Result<()> {
        if let Some(words) = self.only.iter().find(|words| !names.iter().any(|name| name.contains(&***words))) {
            let all = names.join("; ");
            let message = format!("--only {words:?}: no name contains that; there are: {all}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.out.as_ref().map_or(Ok(()), |out| {
            let failed = |error| io::Error::other(format!("--out {}: it can't be made: {error}", out.display()));
            std::fs::create_dir_all(out).map_err(failed)
        })
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn data_directory(&self) -> io::Result<tempfile::TempDir> {
        leftovers::directory_in(&self.directory)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Without {
    Limit,
    Etcd,
    Redis,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        None => run(&arguments),
        Some(Command::Grow(grow)) => grow::run(grow),
        Some(Command::Hold { address, count }) => grow::hold(*address, *count),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(1)
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let common = &arguments.common;
    common.check(&WORKLOADS.iter().map(|workload| workload.name).collect::<Vec<_>>())?;
    let programs = Programs::find(common.raftkv.clone())?.with_etcd()?;
    let directory = common.data_directory()?;
    let mut running = Vec::new();
    for system in System::ALL.into_iter().filter(|system| is_wanted(*system, arguments, &programs)) {
        let started = Running::start(system, &programs, directory.path())?;
        workload::fill(&started, &programs)?;
        running.push(started);
    }
    let rounds = measure(common, &programs, &running)?;
    let versions = [Some(&programs.raftkv), programs.etcd.as_ref(), programs.redis.as_ref()];
    let versions: Vec<&Path> = versions.into_iter().flatten().map(PathBuf::as_path).collect();
    let settings = "3 nodes each of raftkv and etcd, defaults; one Redis with appendfsync always; loopback; 10,000 keys, \
                    128-byte values; one thread drives the load";
    let heading = heading(common, &versions, directory.path(), settings);
    let text = format!("{heading}{}", table::markdown(&rounds));
    println!("{text}");
    common.out.as_ref().map_or(Ok(()), |out| write(out, &text, &rounds))
}

fn is_wanted(system: System, arguments: &Arguments, programs: &Programs) -> bool {
    let (without, is_there) = match system {
        System::Raftkv => return true,
        System::Echo | System::Relay => (Without::Limit, true),
        System::Etcd => (Without::Etcd, programs.etcd.is_some()),
        System::Redis => (Without::Redis, programs.redis.is_some()),
    };
    let is_wanted = !arguments.without.contains(&without);
    if is_wanted && !is_there {
        eprintln!("compare: {} is left out: it is not installed", system.name());
    }
    is_wanted && is_there
}

/// Load by load, and each on all systems in turns, from another one on in each round.
fn measure(common: &Common, programs: &Programs, running: &[Running]) -> io::Result<Rounds> {
    let mut rounds = Rounds::new();
    for round in 0..common.rounds {
        for (at, workload) in WORKLOADS.iter().enumerate() {
            let mut systems: Vec<&Running> =
                running.iter().filter(|it| workload.systems.contains(&it.system)).collect();
            if !common.wants(workload.name) || systems.is_empty() {
                continue;
            }
            let first = round as usize % systems.len();
            systems.rotate_left(first);
            for on in systems {
                let figures = workload::run(workload, on, programs, common.duration())?;
                let rate = figures[table::part(workload)]["per_second"].as_f64().unwrap_or(0.0);
                eprintln!(
                    "round {} of {}: {}: {}: {rate:.0}/s",
                    round + 1,
                    common.rounds,
                    workload.name,
                    on.system.name()
                );
                rounds.entry((at, on.system)).or_default().push(figures);
            }
        }
    }
    Ok(rounds)
}

/// `versions`: programs that tell theirs.
fn heading(common: &Common, versions: &[&Path], directory: &Path, settings: &str) -> String {
    let mut lines = machine::describe(directory);
    let versions: Vec<String> = versions.iter().filter_map(|program| machine::version(program)).collect();
    lines.push(format!("- versions: {}", versions.join("; ")));
    lines.push(format!("- settings: {settings}"));
    let (rounds, seconds) = (common.rounds, common.seconds);
    lines.push(format!(
        "- {rounds} rounds of {seconds} s for each load on each system, interleaved; median (lowest-highest)"
    ));
    let quoted = |argument: String| if argument.contains(' ') { format!("\"{argument}\"") } else { argument };
    let given: Vec<String> = std::env::args().skip(1).map(quoted).collect();
    lines.push(format!("- command: `cargo run --release -p compare -- {}`", given.join(" ")));
    lines.join("\n") + "\n"
}

fn write(out: &Path, text: &str, rounds: &Rounds) -> io::Result<()> {
    write_file(&out.join("results.md"), text)?;
    let all: Vec<_> = rounds
        .iter()
        .map(|((at, system), rounds)| json!({"load": WORKLOADS[*at].name, "system": system.name(), "rounds": rounds}))
        .collect();
    write_file(&out.join("results.json"), &format!("{:#}\n", json!(all)))?;
    let drawn =
        |drawn: Result<(), Box<dyn std::error::Error>>| drawn.map_err(|error| io::Error::other(error.to_string()));
    for (at, file) in [(2, "write-64.svg"), (7, "read-64.svg")] {
        drawn(plot::by_percentile(rounds, at, &out.join(file)))?;
    }
    drawn(plot::by_clients(rounds, &out.join("write-rate.svg")))
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn words_that_no_name_contains_are_refused_with_the_names_there_are() {
        let names = ["write, 1 client", "read, 64 clients"];
        let check = |only: &[&str]| {
            let only = only.iter().flat_map(|words| ["--only", words]);
            Arguments::try_parse_from(["compare"].into_iter().chain(only)).unwrap().common.check(&names)
        };
        assert!(check(&[]).is_ok() && check(&["write", "64"]).is_ok());
        let error = check(&["write", "wirte"]).unwrap_err().to_string();
        assert!(error.contains("\"wirte\"") && error.contains("write, 1 client; read, 64 clients"), "{error}");
    }
}
