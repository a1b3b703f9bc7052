//! The rows of the table: one load, the same for every system that can take it.

use std::io;
use std::process::Command;
use std::time::Duration;

use limit::leftovers::Process;
use loadgen::driver::{Driver, Settings, Until};
use loadgen::link::Protocol;
use loadgen::plan::{Distribution, Mixer, Plan};
use loadgen::report::Report;
use serde_json::Value;

use crate::programs::Programs;
use crate::systems::{Running, System};

const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    pub name: &'static str,
    pub clients: usize,
    pub depth: usize,
    pub read_share: f64,
    pub keys: u64,
    pub value_bytes: usize,
    /// Operations a second; `None`: closed loop.
    pub rate: Option<f64>,
    pub systems: &'static [System],
}

const WRITERS: &[System] = &[System::Relay, System::Raftkv, System::Etcd, System::Redis];
const READERS: &[System] = &[System::Echo, System::Raftkv, System::Etcd, System::Redis];
/// etcd's clients multiplex over HTTP/2; a connection with requests behind one another is not how they ask.
const DEEP_WRITERS: &[System] = &[System::Relay, System::Raftkv, System::Redis];
const DEEP_READERS: &[System] = &[System::Echo, System::Raftkv, System::Redis];

/// A closed loop on 10,000 keys of 128 bytes.
pub const fn closed(
    name: &'static str,
    clients: usize,
    depth: usize,
    read_share: f64,
    systems: &'static [System],
) -> Workload {
    Workload { name, clients, depth, read_share, keys: KEYS, value_bytes: VALUE_BYTES, rate: None, systems }
}

pub const WORKLOADS: [Workload; 10] = [
    closed("write, 1 client", 1, 1, 0.0, WRITERS),
    closed("write, 16 clients", 16, 1, 0.0, WRITERS),
    closed("write, 64 clients", 64, 1, 0.0, WRITERS),
    closed("write, 256 clients", 256, 1, 0.0, WRITERS),
    closed("write, 16 clients, 32 deep", 16, 32, 0.0, DEEP_WRITERS),
    Workload { rate: Some(4000.0), ..closed("write, 64 clients, 4000/s (open loop)", 64, 1, 0.0, WRITERS) },
    closed("read, 1 client", 1, 1, 1.0, READERS),
    closed("read, 64 clients", 64, 1, 1.0, READERS),
    closed("read, 16 clients, 32 deep", 16, 32, 1.0, DEEP_READERS),
    closed("mixed 80R/20W, 64 clients", 64, 1, 0.8, &[System::Raftkv, System::Etcd, System::Redis]),
];

/// What one run of a load on one system came to: as loadgen's report has it, "writes" and "reads".
pub fn run(workload: &Workload, on: &Running, programs: &Programs, duration: Duration) -> io::Result<Value> {
    match on.system {
        System::Etcd => run_etcd(workload, on, programs, duration),
        System::Echo | System::Relay => drive(workload, on, Protocol::Lines, duration),
        System::Raftkv => drive(workload, on, Protocol::Frames, duration),
        System::Redis => drive(workload, on, Protocol::Resp, duration),
    }
}

fn settings(on: &Running, protocol: Protocol, clients: usize, depth: usize, rate: Option<f64>) -> Settings {
    // raftkv's answers name the leader, and connections go there.
    let leader = (on.system == System::Raftkv).then(|| on.addresses[0].clone());
    let (addresses, timeout) = (on.addresses.clone(), Duration::from_secs(10));
    Settings { addresses, leader, connections: clients, depth, rate, protocol, timeout }
}

/// loadgen's loop, whatever comes of it, and for how long it measured.
pub fn load(
    workload: &Workload,
    on: &Running,
    protocol: Protocol,
    duration: Duration,
) -> io::Result<(Report, Duration)> {
    let Workload { clients, depth, read_share, keys, value_bytes, rate, .. } = *workload;
    let settings = settings(on, protocol, clients, depth, rate);
    let until = Until::Time { warmup: duration / 10, measured: duration };
    let plan = Plan { keys, value_bytes, distribution: Distribution::Uniform, read_share, seed: 1, run: None };
    let (mut mixer, mut report) = (Mixer::new(plan), Report::default());
    let elapsed = Driver::new(settings, &mut mixer, &mut report, until)?.run(|_| ())?;
    Ok((report, elapsed))
}

fn drive(workload: &Workload, on: &Running, protocol: Protocol, duration: Duration) -> io::Result<Value> {
    let (report, elapsed) = load(workload, on, protocol, duration)?;
    if !report.is_clean() {
        return Err(io::Error::other(format!("{}: {}", on.system.name(), report.summary(elapsed).trim_end())));
    }
    Ok(report.json(Value::Null, elapsed))
}

fn run_etcd(workload: &Workload, on: &Running, programs: &Programs, duration: Duration) -> io::Result<Value> {
    let mut command = Command::new(&programs.compare_etcd);
    command.args(["--endpoints", &on.addresses.join(","), "--clients", &workload.clients.to_string(), "--json", "-"]);
    command.args(["--keys", &KEYS.to_string(), "--value-bytes", &VALUE_BYTES.to_string()]);
    command.args(["--read-share", &workload.read_share.to_string()]);
    command.args(workload.rate.iter().flat_map(|rate| ["--rate".to_string(), rate.to_string()]));
    command.args(["--duration-s", &duration.as_secs().max(1).to_string(), "--warmup-s", "1"]);
    let output = Process::output(&mut command)?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Every key is there once, so that reads find something.
pub fn fill(on: &Running, programs: &Programs) -> io::Result<()> {
    let protocol = match on.system {
        System::Echo | System::Relay => return Ok(()),
        System::Raftkv => Protocol::Frames,
        System::Redis => Protocol::Resp,
        System::Etcd => {
            let preload = ["--preload", "--duration-s", "1", "--warmup-s", "0", "--clients", "16", "--value-bytes"];
            let mut command = Command::new(&programs.compare_etcd);
            command.args(["--endpoints", &on.addresses.join(",")]).args(preload).arg(VALUE_BYTES.to_string());
            return if Process::output(&mut command)?.status.success() {
                Ok(())
            } else {
                Err(io::Error::other("etcd takes no writes"))
            };
        }
    };
    write_each_key(on, protocol, KEYS, VALUE_BYTES, 4)
}

/// By 16 connections, each with `depth` requests under way.
pub fn write_each_key(on: &Running, protocol: Protocol, keys: u64, value_bytes: usize, depth: usize) -> io::Result<()> {
    let distribution = Distribution::Sequential;
    let plan = Plan { keys, value_bytes, distribution, read_share: 0.0, seed: 1, run: None };
    let (mut mixer, mut report) = (Mixer::new(plan), Report::default());
    let settings = settings(on, protocol, 16, depth, None);
    let elapsed = Driver::new(settings, &mut mixer, &mut report, Until::Count(keys))?.run(|_| ())?;
    if report.is_clean() { Ok(()) } else { Err(io::Error::other(report.summary(elapsed))) }
}
