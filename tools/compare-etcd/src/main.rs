//! The loops of raftkv's loadgen on etcd: as many clients, each with one connection and one request under way, the same
//! keys, sizes and share of reads, and a report of the same shape. On one thread, as loadgen is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

mod etcd;
mod report;

use etcd::Etcd;
use report::Report;

/// Puts the load of raftkv's loadgen on etcd's gRPC
#[derive(Parser, Debug)]
#[command(
    name = "compare-etcd",
    version,
    max_term_width = 120,
    after_help = "\
Example:
  compare-etcd --endpoints 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379 --clients 64 --json etcd.json

Exit status: 0 all was done, 1 errors, 2 usage, 3 no endpoint can be reached."
)]
struct Arguments {
    /// etcd's client endpoints, separated by commas: name all, so that the leader is among them
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoints: Vec<String>,
    /// Connections, each with one request under way
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// Open loop: operations per second over all clients [default: closed loop]
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Size of a value, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_bytes: usize,
    /// How many keys there are, each as often as any other
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Share of reads, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    read_share: f64,
    /// Reads may be stale: a member answers from what it has, without asking a majority [default: linearizable]
    #[arg(long)]
    serializable: bool,
    /// How long to measure, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    duration_s: u64,
    /// How long to run before that, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    warmup_s: u64,
    /// Write each key once first, so that reads find something
    #[arg(long)]
    preload: bool,
    /// Write the report as JSON to a file, or to standard output for -
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
    /// What keys and the mix are drawn from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Rc::new(Arguments::parse());
    let endpoint = match leader(&arguments.endpoints).await {
        Ok(endpoint) => endpoint,
        Err(why) => {
            eprintln!("compare-etcd: {why}");
            return ExitCode::from(3);
        }
    };
    // Members forward writes to their leader; loadgen goes to raftkv's, so this goes to etcd's.
    eprintln!("compare-etcd: all clients connect to the leader at {endpoint}");
    match run(&arguments, &endpoint).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("compare-etcd: {why}");
            ExitCode::from(1)
        }
    }
}

async fn leader(endpoints: &[String]) -> Result<String, String> {
    let mut failures = Vec::new();
    for endpoint in endpoints {
        match Etcd::connect(endpoint).await {
            Ok(mut member) => match member.leads().await {
                Ok(true) => return Ok(endpoint.clone()),
                Ok(false) => {}
                Err(status) => failures.push(format!("{endpoint}: {status}")),
            },
            Err(why) => failures.push(why),
        }
    }
    Err(format!("none of --endpoints leads {}", failures.join("; ")))
}

async fn run(arguments: &Rc<Arguments>, endpoint: &str) -> Result<bool, String> {
    let mut clients = Vec::new();
    for _ in 0..arguments.clients {
        clients.push(Etcd::connect(endpoint).await?);
    }
    if arguments.preload {
        preload(arguments, &clients).await?;
    }
    let report = Rc::new(RefCell::new(Report::default()));
    let pace = Rc::new(Pace { begun: Instant::now(), rate: arguments.rate, issued: Cell::new(0) });
    let from = Instant::now() + Duration::from_secs(arguments.warmup_s);
    let until = from + Duration::from_secs(arguments.duration_s);
    let tasks = tokio::task::LocalSet::new();
    for (number, client) in (0_u64..).zip(clients) {
        tasks.spawn_local(ask(client, arguments.clone(), number, pace.clone(), (from, until), report.clone()));
    }
    let to_stderr = arguments.json.as_deref() == Some("-");
    let say = move |line: &str| if to_stderr { eprintln!("{line}") } else { println!("{line}") };
    let each_second = report.clone();
    tasks.spawn_local(async move {
        let second = Duration::from_secs(1);
        let mut ends = from + second;
        while ends <= until {
            tokio::time::sleep_until(ends.into()).await;
            say(&each_second.borrow_mut().second(second));
            ends += second;
        }
    });
    tasks.await;
    let elapsed = Duration::from_secs(arguments.duration_s);
    let report = report.borrow();
    say(report.summary(elapsed).trim_end());
    if let Some(file) = &arguments.json {
        let text = format!("{:#}\n", report.json(plan_json(arguments), elapsed));
        let written = match file.as_str() {
            "-" => std::io::stdout().write_all(text.as_bytes()),
            file => std::fs::write(file, text),
        };
        written.map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(report.is_clean())
}

/// When operations are due, over all clients.
struct Pace {
    begun: Instant,
    rate: Option<f64>,
    issued: Cell<u64>,
}

impl Pace {
    /// Waits until the next operation is due. Its latency counts from what this gives: from when it was due if the
    /// client was late for it, else from when the timer rang, which counts in whole milliseconds.
    async fn next(&self) -> Instant {
        let Some(rate) = self.rate else { return Instant::now() };
        let number = self.issued.replace(self.issued.get() + 1);
        let due = self.begun + Duration::from_secs_f64(number as f64 / rate);
        if due <= Instant::now() {
            return due;
        }
        tokio::time::sleep_until(due.into()).await;
        Instant::now()
    }
}

async fn ask(
    mut client: Etcd,
    arguments: Rc<Arguments>,
    number: u64,
    pace: Rc<Pace>,
    (from, until): (Instant, Instant),
    report: Rc<RefCell<Report>>,
) {
    let mut random = Random(arguments.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let value: Vec<u8> = (0..arguments.value_bytes).map(|_| b'a' + (random.next() % 26) as u8).collect();
    loop {
        let sent = pace.next().await;
        if sent >= until {
            return;
        }
        let key = key(random.next() % arguments.keys);
        let is_write = (random.next() >> 11) as f64 / (1_u64 << 53) as f64 >= arguments.read_share;
        let done = match is_write {
            true => client.put(key, value.clone()).await,
            false => client.get(key, arguments.serializable).await.map(|_| ()),
        };
        match done {
            Ok(()) if sent >= from => report.borrow_mut().on_done(is_write, sent.elapsed()),
            Ok(()) => {}
            Err(status) => {
                report.borrow_mut().on_failed(&format!("{:?}", status.code()));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn preload(arguments: &Rc<Arguments>, clients: &[Etcd]) -> Result<(), String> {
    let tasks = tokio::task::LocalSet::new();
    let step = clients.len();
    let mut loaders = Vec::new();
    for (at, client) in clients.iter().enumerate() {
        let (mut client, arguments) = (client.clone(), arguments.clone());
        loaders.push(tasks.spawn_local(async move {
            for number in (at as u64..arguments.keys).step_by(step) {
                client
                    .put(key(number), vec![b'a'; arguments.value_bytes])
                    .await
                    .map_err(|status| status.to_string())?;
            }
            Ok::<(), String>(())
        }));
    }
    tasks.await;
    for loader in loaders {
        loader.await.map_err(|error| error.to_string())??;
    }
    Ok(())
}

fn key(number: u64) -> Vec<u8> {
    format!("load/{number:011}").into_bytes()
}

fn plan_json(arguments: &Arguments) -> serde_json::Value {
    let plan: BTreeMap<&str, serde_json::Value> = BTreeMap::from([
        ("connections", json!(arguments.clients)),
        ("depth", json!(1)),
        ("rate", json!(arguments.rate)),
        ("value_bytes", json!(arguments.value_bytes)),
        ("keys", json!(arguments.keys)),
        ("distribution", json!("uniform")),
        ("read_share", json!(arguments.read_share)),
        ("protocol", json!("etcd")),
        ("serializable", json!(arguments.serializable)),
        ("seed", json!(arguments.seed)),
    ]);
    json!(plan)
}

/// SplitMix64, as raftkv's own generator; this project shares no code with it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
