//! One log gives one state, whatever the settings of the node that replays it: they decide when things happen and how
//! much is in memory, never what an entry means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftkv::api::Status;
use raftkv::base::{LogIndex, NodeId, Random};
use raftkv::disk::MemoryDisk;
use raftkv::node::embedded::Storage;
use raftkv::node::settings::Tuning;
use raftkv::node::{EmbeddedCluster, EmbeddedSettings};

const PATIENCE: Duration = Duration::from_secs(60);

fn start(disk: &MemoryDisk, tuning: Tuning) -> EmbeddedCluster {
    let disk = disk.clone();
    let storage = Storage::Disks(Arc::new(move |_| disk.attach()));
    let cluster = EmbeddedCluster::start(EmbeddedSettings { nodes: 1, storage, tuning, seed: 11 }).unwrap();
    cluster.wait_for_leader(PATIENCE).expect("a leader");
    cluster
}

/// Once everything up to `index` is applied.
fn replayed(cluster: &EmbeddedCluster, index: LogIndex) -> Status {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = cluster.status(NodeId::new(1).unwrap(), PATIENCE).expect("the node answers");
        if status.applied >= index {
            return status;
        }
        assert!(Instant::now() < deadline, "{index} is never applied: {status:?}");
        std::thread::yield_now();
    }
}

/// Puts and deletes, of absent keys too, of values from nothing to more than a block.
fn write_a_log(disk: &MemoryDisk, tuning: Tuning) -> Status {
    let cluster = start(disk, tuning);
    let mut client = cluster.client(NodeId::new(1).unwrap());
    let mut random = Random::new(5);
    for _ in 0..2000 {
        let key = format!("k{}", random.below(40));
        match random.below(4) {
            0 => drop(client.delete(key).unwrap()),
            _ => drop(client.put(key, vec![random.next() as u8; random.below(6000) as usize]).unwrap()),
        }
    }
    replayed(&cluster, LogIndex::ZERO)
}

#[test]
fn a_log_that_is_replayed_under_other_settings_gives_the_same_digest() {
    let disk = MemoryDisk::new();
    let small = 300 * 4096;
    let written = write_a_log(&disk, Tuning { segment_bytes: small, scrub_interval: None, ..Tuning::default() });
    assert!(written.keys > 0 && written.revision.0 > 0, "{written:?}");
    for tuning in [
        Tuning::default(),
        // Almost everything is read back from the segments.
        Tuning { log_memory_bytes_max: 8 * 1024, segment_bytes: small, ..Tuning::default() },
        Tuning { uncommitted_bytes_max: 16 * 1024, segment_bytes: 2 * small, ..Tuning::default() },
        Tuning { heartbeat: Duration::from_millis(5), scrub_interval: Some(Duration::ZERO), ..Tuning::default() },
    ] {
        let replayed = replayed(&start(&disk.fork(), tuning.clone()), written.applied);
        let state = |status: &Status| (status.revision, status.keys, status.digest);
        assert_eq!(state(&replayed), state(&written), "under {tuning:?}");
    }
}
