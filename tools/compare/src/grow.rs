//! What raftkv costs when one thing grows: clusters that differ in that thing alone, or one cluster with and without
//! something beside its load, take turns under the same load. What grew is held against what did not, within one run.
//!
//! What fails under a load is counted and shown, not an end: a load that causes an election is a result.
//!
//! `stages` says what is up for each thing that grows, and what is asked of it; `idle` holds the connections; `restart`
//! compares memory and restarts with Redis; `results` makes the tables.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::Common;
use crate::programs::Programs;

mod idle;
mod restart;
mod results;
mod stages;

pub use idle::hold;
use restart::Restart;
use results::Results;
use stages::Stage;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  compare grow --out results                              all, 5 rounds of 30 s each: an hour and a half, 15 GB of
                                                          memory and 30 GB of disk with 10 million keys
  compare grow --only nodes --rounds 3 --seconds 3        a first look at one thing
  compare grow --many-keys 100000 --stored-keys 100000 --connections 500 --seconds 2
                                                          small

What can grow: keys, connections, nodes, values, listing, and memory and restart, which is beside Redis.")]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Keys that are many, beside 10,000
    #[arg(long, value_name = "COUNT", default_value_t = 10_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(10_000..=1_000_000_000))]
    many_keys: u64,
    /// Keys that are listed, and that are in memory and recovered beside Redis
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    stored_keys: u64,
    /// Idle connections to each node
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=25_000))]
    connections: u64,
}

/// One thing that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    Keys,
    Connections,
    Nodes,
    Values,
    Listing,
}

impl Growth {
    const ALL: [Growth; 5] = [Growth::Keys, Growth::Connections, Growth::Nodes, Growth::Values, Growth::Listing];

    pub fn name(self) -> &'static str {
        match self {
            Growth::Keys => "keys",
            Growth::Connections => "connections",
            Growth::Nodes => "nodes",
            Growth::Values => "values",
            Growth::Listing => "listing",
        }
    }

    /// Whether each round begins with new clusters: what these rounds write would not fit a disk otherwise, since a
    /// log keeps all there ever was.
    fn is_renewed(self) -> bool {
        matches!(self, Growth::Nodes | Growth::Values)
    }
}

/// What everything is measured with.
pub struct Setup<'a> {
    arguments: &'a Arguments,
    programs: &'a Programs,
    /// Of all data.
    directory: &'a Path,
}

pub fn run(arguments: &Arguments) -> io::Result<()> {
    let common = &arguments.common;
    common.check(&Growth::ALL.map(Growth::name).into_iter().chain([restart::NAME]).collect::<Vec<_>>())?;
    let programs = Programs::find(common.raftkv.clone())?;
    let directory = common.data_directory()?;
    let setup = Setup { arguments, programs: &programs, directory: directory.path() };
    let mut results = Results::default();
    for growth in Growth::ALL.into_iter().filter(|growth| common.wants(growth.name())) {
        measure(growth, &setup, &mut results)?;
    }
    if common.wants(restart::NAME) {
        measure_restarts(&setup, &mut results)?;
    }
    let versions = [Some(&programs.raftkv), programs.redis.as_ref()];
    let versions: Vec<&Path> = versions.into_iter().flatten().map(PathBuf::as_path).collect();
    let settings = "3 nodes of raftkv if nothing else is said, defaults; loopback; keys of 16 bytes, values of 128; one \
                    thread drives a load; goal: what the project asks of itself, of these medians";
    let text = format!("{}{}", crate::heading(common, &versions, directory.path(), settings), results.markdown());
    println!("{text}");
    common.out.as_ref().map_or(Ok(()), |out| write(out, &text, &results))
}

fn measure(growth: Growth, setup: &Setup<'_>, results: &mut Results) -> io::Result<()> {
    let mut stage = None;
    for round in 0..setup.arguments.common.rounds {
        let stage = match stage.take().filter(|_| !growth.is_renewed()) {
            Some(ready) => stage.insert(ready),
            None => stage.insert(Stage::prepare(growth, setup)?),
        };
        stage.run(round, setup, results)?;
    }
    Ok(())
}

fn measure_restarts(setup: &Setup<'_>, results: &mut Results) -> io::Result<()> {
    let mut restart = Restart::prepare(setup)?;
    (0..setup.arguments.common.rounds).try_for_each(|_| restart.run(results))
}

fn write(out: &Path, text: &str, results: &Results) -> io::Result<()> {
    crate::write_file(&out.join("growth.md"), text)?;
    crate::write_file(&out.join("growth.json"), &format!("{:#}\n", results.json()))
}
