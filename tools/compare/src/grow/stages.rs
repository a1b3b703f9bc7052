//! What is up while one thing grows, and the loads that take turns on it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loadgen::descriptors::allow_connections;
use loadgen::link::Protocol;
use loadgen::report::Report;
use raftkv::client::{Client, ClientSettings};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::idle::Idle;
use super::results::{Results, Row};
use super::{Growth, Setup};
use crate::systems::{Running, System};
use crate::workload::{self, Workload, closed};

/// Keys that are few.
const FEW_KEYS: u64 = 10_000;
/// Requests under way on each of 16 connections while keys are written for the first time.
const FILL_DEPTH: usize = 128;
const SMALL_VALUE_BYTES: usize = 128;
const BIG_VALUE_BYTES: usize = 64 * 1024;
/// Few enough that their values are no growth of memory.
const BIG_KEYS: u64 = 1000;
/// Connections beside the idle ones, to each node: a node takes more than its default of these together.
const BUSY_CONNECTIONS: u64 = 1000;

const RAFTKV: &[System] = &[System::Raftkv];
const WRITE_1: Workload = closed("write, 1 client", 1, 1, 0.0, RAFTKV);
const WRITE_4: Workload = closed("write, 4 clients", 4, 1, 0.0, RAFTKV);
const WRITE_16: Workload = closed("write, 16 clients", 16, 1, 0.0, RAFTKV);
const WRITE_64: Workload = closed("write, 64 clients", 64, 1, 0.0, RAFTKV);
const WRITE_PACED: Workload =
    Workload { rate: Some(4000.0), ..closed("write, 64 clients, 4000/s (open loop)", 64, 1, 0.0, RAFTKV) };
const READ_64: Workload = closed("read, 64 clients", 64, 1, 1.0, RAFTKV);

/// What goes on beside the load that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// One connection asks for all keys, page by page, over and over.
    Listing,
    /// Four connections put big values.
    BigValues,
}

/// One of those that take turns; the first is what the others are held against.
struct Variant {
    name: String,
    /// Its place among the clusters.
    cluster: usize,
    keys: u64,
    value_bytes: usize,
    beside: Beside,
}

impl Variant {
    fn new(name: impl Into<String>, cluster: usize, keys: u64) -> Variant {
        Variant { name: name.into(), cluster, keys, value_bytes: SMALL_VALUE_BYTES, beside: Beside::Nothing }
    }
}

/// The clusters for one growth, up.
pub struct Stage {
    growth: Growth,
    loads: &'static [Workload],
    variants: Vec<Variant>,
    clusters: Vec<Running>,
    /// What one idle connection costs a node, in bytes; `None`: there are none, or the system does not tell.
    idle_bytes: Option<f64>,
    idle: Vec<Idle>,
    /// Goes last.
    directory: TempDir,
}

impl Stage {
    pub fn prepare(growth: Growth, setup: &Setup<'_>) -> io::Result<Stage> {
        let directory = tempfile::Builder::new().prefix(growth.name()).tempdir_in(setup.directory)?;
        let (loads, variants): (&[Workload], Vec<Variant>) = variants(growth, setup);
        let mut stage =
            Stage { growth, loads, variants, clusters: Vec::new(), idle_bytes: None, idle: Vec::new(), directory };
        match growth {
            Growth::Nodes => [3, 5, 7].into_iter().try_for_each(|nodes| stage.add_cluster(setup, nodes, &[]))?,
            Growth::Connections => {
                let most = setup.arguments.connections + BUSY_CONNECTIONS;
                allow_connections(most, "--connections")?;
                let options = ["--connections-max".to_string(), most.to_string()];
                (0..2).try_for_each(|_| stage.add_cluster(setup, 3, &options))?;
            }
            Growth::Keys => (0..2).try_for_each(|_| stage.add_cluster(setup, 3, &[]))?,
            Growth::Values | Growth::Listing => stage.add_cluster(setup, 3, &[])?,
        }
        stage.fill()?;
        if growth == Growth::Connections {
            stage.connect(setup.arguments.connections)?;
        }
        Ok(stage)
    }

    fn add_cluster(&mut self, setup: &Setup<'_>, nodes: usize, options: &[String]) -> io::Result<()> {
        let directory = self.directory.path().join(self.clusters.len().to_string());
        self.clusters.push(Running::cluster(setup.programs, &directory, nodes, options)?);
        Ok(())
    }

    /// Each key of each variant is there once.
    fn fill(&self) -> io::Result<()> {
        for (at, cluster) in self.clusters.iter().enumerate() {
            let keys = self.variants.iter().filter(|variant| variant.cluster == at).map(|variant| variant.keys).max();
            fill(cluster, keys.unwrap_or_default())?;
        }
        Ok(())
    }

    /// The second cluster gets its idle connections.
    fn connect(&mut self, count: u64) -> io::Result<()> {
        let cluster = &self.clusters[1];
        let before = cluster.resident_bytes();
        for address in &cluster.addresses {
            self.idle.push(Idle::connect(address, count)?);
        }
        let grown = cluster.resident_bytes().iter().zip(&before).map(|(after, before)| after - before).reduce(f64::max);
        self.idle_bytes = grown.map(|bytes| bytes / count as f64);
        Ok(())
    }

    /// All loads once on each variant, another one first in each round.
    pub fn run(&self, round: u32, setup: &Setup<'_>, results: &mut Results) -> io::Result<()> {
        let rounds = setup.arguments.common.rounds;
        for load in self.loads {
            let mut turns: Vec<usize> = (0..self.variants.len()).collect();
            turns.rotate_left(round as usize % self.variants.len());
            for variant in turns {
                let figures = self.measure(load, &self.variants[variant], setup.arguments.common.duration())?;
                let (name, part) = (&self.variants[variant].name, crate::table::part(load));
                let rate = figures[part]["per_second"].as_f64().unwrap_or(0.0);
                let (growth, round) = (self.growth.name(), round + 1);
                eprintln!("round {round} of {rounds}: {growth}: {}: {name}: {rate:.0}/s", load.name);
                let row = Row { growth: self.growth, load: load.name, variant, name: name.clone(), part };
                results.add(row, figures);
            }
        }
        Ok(())
    }

    fn measure(&self, load: &Workload, variant: &Variant, duration: Duration) -> io::Result<Value> {
        let cluster = &self.clusters[variant.cluster];
        let load = Workload { keys: variant.keys, value_bytes: variant.value_bytes, ..*load };
        let term_before = term(cluster);
        let (report, elapsed, mut also) = match variant.beside {
            Beside::Nothing => with_nothing(&load, cluster, duration)?,
            Beside::Listing => beside_a_listing(&load, cluster, duration)?,
            Beside::BigValues => beside_big_values(&load, cluster, duration)?,
        };
        let mut figures = report.json(Value::Null, elapsed);
        let mut add = |what: &str, value: Option<f64>| also[what] = json!(value);
        let megabytes = figures["writes"]["per_second"].as_f64().map(|rate| rate * variant.value_bytes as f64 / 1e6);
        add("MB/s of values", megabytes.filter(|_| variant.value_bytes == BIG_VALUE_BYTES));
        let largest = cluster.resident_bytes().into_iter().reduce(f64::max);
        add("MB resident, largest node", largest.map(|bytes| bytes / 1e6));
        add("bytes of a node for each idle connection", self.idle_bytes.filter(|_| variant.cluster == 1));
        let failed = [&figures["errors"], &figures["unknown"]].map(total).into_iter().sum();
        add("requests failed", (failed > 0.0).then_some(failed));
        let terms = term(cluster).zip(term_before).map(|(after, before)| after.saturating_sub(before) as f64);
        add("terms begun", terms.filter(|terms| *terms > 0.0));
        figures["also"] = also;
        Ok(figures)
    }
}

fn variants(growth: Growth, setup: &Setup<'_>) -> (&'static [Workload], Vec<Variant>) {
    let arguments = setup.arguments;
    match growth {
        Growth::Keys => {
            let many = arguments.many_keys;
            (
                &[WRITE_1, WRITE_64],
                vec![Variant::new("10,000 keys", 0, FEW_KEYS), Variant::new(counted(many, "keys"), 1, many)],
            )
        }
        Growth::Connections => {
            let idle = counted(arguments.connections, "idle connections to each node");
            (
                &[WRITE_1, WRITE_64, READ_64],
                vec![Variant::new("no idle connection", 0, FEW_KEYS), Variant::new(idle, 1, FEW_KEYS)],
            )
        }
        Growth::Nodes => {
            let nodes = |(at, nodes): (usize, &str)| Variant::new(nodes, at, FEW_KEYS);
            (&[WRITE_1, WRITE_64], ["3 nodes", "5 nodes", "7 nodes"].into_iter().enumerate().map(nodes).collect())
        }
        Growth::Values => {
            let small = Variant::new("128 B", 0, FEW_KEYS);
            let big = Variant { value_bytes: BIG_VALUE_BYTES, ..Variant::new("64 KiB", 0, BIG_KEYS) };
            let name = "128 B beside 4 clients that write 64 KiB";
            let mixed = Variant { beside: Beside::BigValues, ..Variant::new(name, 0, FEW_KEYS) };
            (&[WRITE_1, WRITE_16], vec![small, big, mixed])
        }
        Growth::Listing => {
            let keys = arguments.stored_keys;
            let name = format!("beside a connection that lists {}", counted(keys, "keys"));
            let listed = Variant { beside: Beside::Listing, ..Variant::new(name, 0, keys) };
            (&[WRITE_1, WRITE_64, WRITE_PACED], vec![Variant::new("alone", 0, keys), listed])
        }
    }
}

pub fn counted(count: u64, what: &str) -> String {
    format!("{} {what}", crate::table::number(count as f64))
}

/// Many nodes on few cores may elect another leader meanwhile, which refuses some writes: then all are written again.
pub fn fill(cluster: &Running, keys: u64) -> io::Result<()> {
    let begun = Instant::now();
    let protocol = if cluster.system == System::Redis { Protocol::Resp } else { Protocol::Frames };
    let write = || workload::write_each_key(cluster, protocol, keys, SMALL_VALUE_BYTES, FILL_DEPTH);
    write().or_else(|error| {
        eprintln!("{}: {error}: once more", cluster.system.name());
        write()
    })?;
    eprintln!("{}: {} written in {:.0} s", cluster.system.name(), counted(keys, "keys"), begun.elapsed().as_secs_f64());
    Ok(())
}

/// Of an object of counts.
fn total(counts: &Value) -> f64 {
    counts.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_f64()).sum()
}

/// The newest that any node is in; `None`: none answers.
fn term(cluster: &Running) -> Option<u64> {
    let census = Client::new(cluster.addresses.clone(), ClientSettings::default()).census();
    census.nodes.iter().filter_map(|seen| Some(seen.status.as_ref().ok()?.term.0)).max()
}

/// What was measured of a load, for how long, and what else is to be said.
type Measured = (Report, Duration, Value);

fn with_nothing(load: &Workload, cluster: &Running, duration: Duration) -> io::Result<Measured> {
    let (report, elapsed) = workload::load(load, cluster, Protocol::Frames, duration)?;
    Ok((report, elapsed, json!({})))
}

fn beside_big_values(load: &Workload, cluster: &Running, duration: Duration) -> io::Result<Measured> {
    let big = Workload { keys: BIG_KEYS, value_bytes: BIG_VALUE_BYTES, ..WRITE_4 };
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| workload::load(&big, cluster, Protocol::Frames, duration));
        let (report, elapsed) = workload::load(load, cluster, Protocol::Frames, duration)?;
        let (big, took) = beside.join().map_err(|_| io::Error::other("the load beside it panicked"))??;
        let big = big.json(Value::Null, took);
        let megabytes = big["writes"]["per_second"].as_f64().unwrap_or(0.0) * BIG_VALUE_BYTES as f64 / 1e6;
        let failed = total(&big["errors"]) + total(&big["unknown"]);
        let failed = (failed > 0.0).then_some(failed);
        Ok((report, elapsed, json!({"MB/s of values beside it": megabytes, "requests failed beside it": failed})))
    })
}

fn beside_a_listing(load: &Workload, cluster: &Running, duration: Duration) -> io::Result<Measured> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| list_over_and_over(cluster, &is_over));
        let measured = workload::load(load, cluster, Protocol::Frames, duration);
        is_over.store(true, Ordering::Relaxed);
        let listed = beside.join().map_err(|_| io::Error::other("the listing panicked"))?;
        let (report, elapsed) = measured?;
        Ok((report, elapsed, listed))
    })
}

/// Begins before what is measured, and ends behind it.
fn list_over_and_over(cluster: &Running, is_over: &AtomicBool) -> Value {
    let mut client = Client::new(cluster.addresses.clone(), ClientSettings::default());
    let (begun, mut pages, mut keys, mut failed) = (Instant::now(), 0.0, 0.0, 0.0);
    while !is_over.load(Ordering::Relaxed) {
        for page in client.list_all("", None, None) {
            match page {
                Ok(page) => (pages, keys) = (pages + 1.0, keys + page.keys.len() as f64),
                Err(_) => failed += 1.0,
            }
            if is_over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let failed = (failed > 0.0).then_some(failed);
    json!({"pages/s": pages / seconds, "keys listed/s": keys / seconds, "listings failed": failed})
}
