//! Latency of a whole cluster in one process: write, read, mixed 80/20, and writes from 4 threads, without disk and
//! with it.
//!
//! `cargo bench --bench embedded` prints one row for each; `-- --seconds N` sets how long each runs (default 5), `--
//! --rounds N` how often (default 3; the rows are interleaved, and the medians of the rounds are printed), `-- --only
//! WORDS` which rows: those whose name, as it is printed, has the words in it; `-- --spin-us N` for how long threads
//! look for the next event before they sleep, instead of what is measured. A read is given the value in
//! place, and copies nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use raftkv::base::{NodeId, Random};
use raftkv::node::embedded::Storage;
use raftkv::node::settings::Tuning;
use raftkv::node::{EmbeddedClient, EmbeddedCluster, EmbeddedSettings};

const NODES: u32 = 3;
const KEYS: u64 = 10_000;
const KEY_BYTES: usize = 15;
const VALUE_BYTES: usize = 128;

/// As the program has it, and as little of huge pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    threads: u64,
    read_share: f64,
}

const ROWS: [Row; 4] = [
    Row { name: "write", threads: 1, read_share: 0.0 },
    Row { name: "read", threads: 1, read_share: 1.0 },
    Row { name: "mixed 80R/20W", threads: 1, read_share: 0.8 },
    Row { name: "write, 4 threads", threads: 4, read_share: 0.0 },
];

/// What one run of a row gave.
struct Figures {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
}

fn main() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let seconds = option("--seconds").unwrap_or(5);
    let rounds = option("--rounds").unwrap_or(3);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    for (disk, storage) in [("memory", Storage::Volatile), ("disk", Storage::Directory(directory.path().to_path_buf()))]
    {
        let wanted = |row: &Row| words("--only").is_none_or(|words| name_of(disk, row).contains(&words));
        if !ROWS.iter().any(wanted) {
            continue;
        }
        let spin = option("--spin-us").map(Duration::from_micros);
        let settings =
            EmbeddedSettings { nodes: NODES, storage, tuning: Tuning { spin, ..Tuning::default() }, seed: 1 };
        let cluster = EmbeddedCluster::start(settings).expect("the cluster starts");
        let leader = cluster.wait_for_leader(Duration::from_secs(30)).expect("a leader within 30 s");
        fill(&mut cluster.client(leader));
        let mut figures: Vec<Vec<Figures>> = ROWS.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (row, figures) in ROWS.iter().zip(&mut figures).filter(|(row, _)| wanted(row)) {
                figures.push(run(&cluster, leader, *row, Duration::from_secs(seconds)));
            }
        }
        for (row, figures) in ROWS.iter().zip(&figures).filter(|(row, _)| wanted(row)) {
            let median = |value: fn(&Figures) -> f64| {
                let mut values: Vec<f64> = figures.iter().map(value).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            let (rate, p50, p99) = (median(|f| f.rate), median(|f| f.p50_us), median(|f| f.p99_us));
            let name = name_of(disk, row);
            println!("{name:25} {rate:>10.0}/s  p50 {p50:>8.1} us  p99 {p99:>8.1} us");
        }
    }
}

fn name_of(disk: &str, row: &Row) -> String {
    format!("{disk} {}", row.name)
}

fn words(option: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != option).nth(1)
}

fn option(name: &str) -> Option<u64> {
    words(name).and_then(|value| value.parse().ok())
}

fn fill(client: &mut EmbeddedClient) {
    for key in keys() {
        client.put(key.to_vec(), vec![b'v'; VALUE_BYTES]).expect("the cluster takes writes");
    }
}

fn keys() -> Vec<[u8; KEY_BYTES]> {
    let key = |number| format!("key{number:012}").as_bytes().try_into().expect("3 letters and 12 digits");
    (0..KEYS).map(key).collect()
}

fn run(cluster: &EmbeddedCluster, leader: NodeId, row: Row, duration: Duration) -> Figures {
    let began = Instant::now();
    let histograms: Vec<Histogram<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..row.threads)
            .map(|thread| {
                let mut client = cluster.client(leader);
                scope.spawn(move || closed_loop(&mut client, row.read_share, thread, duration))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the loop ends well")).collect()
    });
    let elapsed = began.elapsed();
    let mut all = Histogram::new(3).expect("3 digits are allowed");
    for histogram in histograms {
        all.add(histogram).expect("they have the same bounds");
    }
    let us = |quantile| all.value_at_quantile(quantile) as f64 / 1000.0;
    Figures { rate: all.len() as f64 / elapsed.as_secs_f64(), p50_us: us(0.5), p99_us: us(0.99) }
}

/// The next request leaves when the answer came, and its time runs from then; latencies in nanoseconds.
fn closed_loop(client: &mut EmbeddedClient, read_share: f64, seed: u64, duration: Duration) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("3 digits are allowed");
    let mut random = Random::new(seed);
    // One behind the other in memory, drawn before: to wait for a key is not what is measured.
    let keys = keys();
    let drawn: Vec<_> = (0..4 * KEYS).map(|_| keys[random.below(KEYS) as usize]).collect();
    let mut drawn = drawn.iter().cycle();
    let value = Bytes::from(vec![b'w'; VALUE_BYTES]);
    let reads_of_a_million = (read_share * 1e6) as u64;
    let mut began = Instant::now();
    let end = began + duration;
    loop {
        let key = drawn.next().expect("a cycle has no end");
        if random.below(1_000_000) < reads_of_a_million {
            let length = client.get_with(key, |value| value.map(<[u8]>::len)).expect("a healthy cluster answers");
            assert_eq!(std::hint::black_box(length), Some(VALUE_BYTES));
        } else {
            client.put(key.to_vec(), value.clone()).expect("a healthy cluster answers");
        }
        let answered = Instant::now();
        histogram.record((answered - began).as_nanos() as u64).expect("it grows by itself");
        if answered >= end {
            return histogram;
        }
        began = answered;
    }
}
