//! The nine steps of one PUT, seen from hooks in production code: three nodes, real sockets, real disks.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use raftkv::base::{NodeId, Role, Step};
use raftkv::client::{Client, ClientSettings};
use raftkv::node::{Node, Settings};

/// Collects what the hooks say: which thread passed which step, in order.
struct Collector(Mutex<Vec<(String, String)>>);

impl log::Log for Collector {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "raftkv::steps"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let thread = std::thread::current().name().unwrap_or("?").to_string();
            self.0.lock().unwrap().push((thread, record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

fn collector() -> &'static Collector {
    static COLLECTOR: OnceLock<&'static Collector> = OnceLock::new();
    COLLECTOR.get_or_init(|| {
        let collector = Box::leak(Box::new(Collector(Mutex::new(Vec::new()))));
        log::set_logger(collector).expect("no other logger in this test");
        log::set_max_level(log::LevelFilter::Trace);
        collector
    })
}

/// Where each step of the PUT was first passed. Any node's disk makes its entry durable; all else is the leader's
/// doing. What another node still does for an entry before it does not count.
fn first_passed(seen: &[(String, String)], leader: NodeId) -> BTreeMap<Step, usize> {
    let own = format!("-{leader}");
    let entry_of = |text: &str| text.rsplit_once("entry ").and_then(|(_, index)| index.parse::<u64>().ok());
    let says = |text: &str, step: Step| text.starts_with(&format!("{} {}", step as u8, step.name()));
    let appended = seen.iter().find(|(thread, text)| thread.ends_with(&own) && says(text, Step::Appended));
    let Some(entry) = appended.and_then(|(_, text)| entry_of(text)) else { return BTreeMap::new() };
    let place = |step: Step| {
        seen.iter().position(|(thread, text)| {
            let by_whom = thread.ends_with(&own) || step == Step::Persisted;
            by_whom && says(text, step) && entry_of(text).is_none_or(|reached| reached >= entry)
        })
    };
    Step::ALL.into_iter().filter_map(|step| Some((step, place(step)?))).collect()
}

#[test]
fn one_put_passes_all_nine_steps_in_order() {
    let collector = collector();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ports = common::free_ports(3);
    let address = |node: u32| format!("127.0.0.1:{}", ports[node as usize - 1]);
    let nodes: Vec<Node> = (1..=3)
        .map(|node| {
            let peers = (1..=3).filter(|peer| *peer != node).map(|peer| (common::id(peer), address(peer))).collect();
            let data_dir = directory.path().join(format!("node{node}"));
            let mut settings = Settings::new(common::id(node), address(node), peers, data_dir);
            settings.tuning.segment_bytes = 4 * 1024 * 1024;
            Node::start(&settings).expect("the node starts")
        })
        .collect();

    let settings = ClientSettings { timeout: common::PATIENCE, ..ClientSettings::default() };
    let mut client = Client::new((1..=3).map(address).collect(), settings);
    client.put("before", "the one that counts").unwrap();
    let census = client.census();
    let leader = census.leader().expect("a put was acknowledged").status.as_ref().unwrap();
    assert_eq!(leader.role, Role::Leader);
    let (leader_id, leader_address) = (leader.id, address(leader.id.get()));
    let mut stream = TcpStream::connect(leader_address).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();

    collector.0.lock().unwrap().clear();
    stream.write_all(b"PUT k v\n").unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"OK\n");
    // The leader's own disk may be the slowest of three: its step then comes after the answer.
    let deadline = Instant::now() + common::PATIENCE;
    let first = loop {
        let seen = collector.0.lock().unwrap().clone();
        let first = first_passed(&seen, leader_id);
        if first.len() == Step::ALL.len() || Instant::now() > deadline {
            for (thread, text) in &seen {
                println!("{thread:15} {text}");
            }
            break first;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    };
    let missing: Vec<&str> =
        Step::ALL.iter().filter(|step| !first.contains_key(step)).map(|step| step.name()).collect();
    assert!(missing.is_empty(), "steps that were not passed: {missing:?}");
    let order: Vec<usize> = first.values().copied().collect();
    assert!(order.is_sorted(), "steps out of order: {first:?}");

    for node in nodes {
        node.stopper().stop();
        node.wait();
    }
}
