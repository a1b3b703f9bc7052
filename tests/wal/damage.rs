//! SAFETY 32, 33, 38: damage to what was durable is found, named, and never mended by forgetting; and nothing on disk is
//! changed by a start that is refused.

use raftkv::base::{ClusterId, LogIndex};
use raftkv::disk::{MemoryDisk, OpenError, Wal};

use crate::support::*;

const FIRST: &str = "wal/0000000000000001.seg";
const SECOND: &str = "wal/0000000000000002.seg";

fn damage_of(disk: &MemoryDisk) -> raftkv::disk::Damage {
    let before: Vec<_> = disk.files().iter().map(|name| (name.clone(), disk.contents(name))).collect();
    match open(disk) {
        Err(OpenError::Damaged(damage)) => {
            let after: Vec<_> = disk.files().iter().map(|name| (name.clone(), disk.contents(name))).collect();
            assert!(before == after, "a start that was refused changed the disk");
            damage
        }
        Err(other) => panic!("another error: {other}"),
        Ok(opened) => panic!("it started, with the last entry {}", opened.recovered.log.last_index),
    }
}

/// Sectors that hold something, of a segment.
fn used_sectors(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() / 512).filter(|i| bytes[i * 512..(i + 1) * 512].iter().any(|byte| *byte != 0)).collect()
}

#[test]
fn every_flipped_bit_of_a_segment_in_use_refuses_the_start() {
    let disk = disk_with(2, 600);
    let bytes = disk.contents(FIRST).unwrap();
    for at in used_sectors(&bytes).into_iter().flat_map(|sector| sector * 512..(sector + 1) * 512) {
        for bit in 0..8 {
            disk.alter(FIRST, at, &[bytes[at] ^ 1 << bit]);
            match open(&disk) {
                Err(OpenError::Damaged(damage)) => assert_eq!(damage.file, FIRST),
                Err(other) => panic!("byte {at}, bit {bit}: {other}"),
                Ok(_) => panic!("byte {at}, bit {bit}: it started"),
            }
        }
        disk.alter(FIRST, at, &bytes[at..=at]);
    }
    open_sound(&disk);
}

#[test]
fn a_flipped_bit_in_free_space_is_refused_or_loses_nothing() {
    let disk = disk_with(2, 600);
    let acknowledged = model_of(&open_sound(&disk.fork()));
    for at in 3 * 4096..3 * 4096 + 1024 {
        for bit in 0..8 {
            let disk = disk.fork();
            disk.alter(FIRST, at, &[1 << bit]);
            if let Ok(opened) = open(&disk) {
                assert_eq!(model_of(&opened), acknowledged, "byte {at}, bit {bit}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_the_term_slots_leaves_the_acknowledged_term_and_vote() {
    let disk = disk_with(1, 10);
    open_sound(&disk).wal.persist(&[persist(Some(hard_state(9, 3)), vec![])]).unwrap();
    disk.kill();
    let bytes = disk.contents("term").unwrap();
    for at in (0..512).chain(4096..4608) {
        for bit in 0..8 {
            let disk = disk.fork();
            disk.alter("term", at, &[bytes[at] ^ 1 << bit]);
            let opened = open_sound(&disk);
            assert_eq!(opened.recovered.hard_state, hard_state(9, 3), "byte {at}, bit {bit}");
            assert_eq!(opened.report.warnings.len(), 1, "byte {at}, bit {bit}");
            assert!(disk.contents("term").unwrap() == bytes, "byte {at}, bit {bit}: it was not rewritten");
        }
    }
}

#[test]
fn two_bad_slots_a_missing_term_file_and_a_term_below_the_logs_refuse_the_start() {
    let disk = disk_with(1, 10);
    let old = disk.contents("term").unwrap();
    let mut opened = open_sound(&disk);
    opened.wal.persist(&[persist(Some(hard_state(2, 1)), vec![entry(2, 2, 10)])]).unwrap();
    disk.kill();

    let both = disk.fork();
    both.alter("term", 25, &[9]);
    both.alter("term", 4096 + 25, &[9]);
    assert!(damage_of(&both).what.contains("neither slot is sound"));

    let missing = disk.fork();
    missing.lose("term");
    assert!(damage_of(&missing).what.contains("missing although there is a log"));

    let older = disk.fork();
    older.alter("term", 0, &old);
    let damage = damage_of(&older);
    assert!(damage.what.contains("says term 1, and the log has entries of term 2"), "{damage}");
}

#[test]
fn slots_that_contradict_each_other_refuse_the_start() {
    let (one, other) = (disk_with(0, 0), disk_with(0, 0));
    open_sound(&one).wal.persist(&[persist(Some(hard_state(5, 1)), vec![])]).unwrap();
    open_sound(&other).wal.persist(&[persist(Some(hard_state(5, 2)), vec![])]).unwrap();
    one.alter("term", 0, &other.contents("term").unwrap()[..512]);
    assert!(damage_of(&one).what.contains("contradict"));
}

#[test]
fn a_batch_that_lost_sectors_before_a_later_batch_is_damage_and_not_a_torn_tail() {
    let disk = disk_with(3, 600);
    for sectors in [vec![0], vec![1], vec![0, 1]] {
        let disk = disk.fork();
        for sector in &sectors {
            disk.alter(FIRST, 2 * 4096 + sector * 512, &[0; 512]);
        }
        let damage = damage_of(&disk);
        assert_eq!(damage.index, Some(LogIndex(2)), "{damage}");
    }
}

#[test]
fn a_batch_that_lost_sectors_before_a_batch_in_the_next_segment_is_damage() {
    let disk = disk_with(5, 600);
    assert_eq!(disk.contents(SECOND).map(|bytes| used_sectors(&bytes).len()), Some(1 + 2 + 2));
    disk.alter(FIRST, 3 * 4096 + 512, &[0; 512]);
    let damage = damage_of(&disk);
    assert_eq!((damage.file.as_str(), damage.offset), (SECOND, Some(4096)), "{damage}");
    assert!(damage.what.contains("a part of the log was lost"), "{damage}");
}

#[test]
fn a_sector_or_a_batch_at_another_place_is_damage() {
    let disk = disk_with(3, 600);
    let bytes = disk.contents(FIRST).unwrap();
    let batch = |n: usize| &bytes[n * 4096..n * 4096 + 1024];
    let swapped = disk.fork();
    swapped.alter(FIRST, 4096, batch(2));
    swapped.alter(FIRST, 2 * 4096, batch(1));
    assert_eq!(damage_of(&swapped).offset, Some(4096));
    let stale = disk.fork();
    stale.alter(FIRST, 2 * 4096, batch(1));
    assert_eq!(damage_of(&stale).offset, Some(2 * 4096));
}

/// SAFETY 38: what another use of the same segment left is never read as new.
#[test]
fn a_sector_of_another_segment_or_of_an_earlier_start_is_damage() {
    let disk = disk_with(5, 600);
    let first = disk.contents(FIRST).unwrap();
    let other_segment = disk.fork();
    other_segment.alter(SECOND, 2 * 4096, &first[2 * 4096..2 * 4096 + 1024]);
    assert_eq!(damage_of(&other_segment).offset, Some(2 * 4096));

    // The same batch at the same place, written by two starts of the process: a mixture is no batch.
    let disk = disk_with(1, 600);
    let next = [persist(None, vec![entry(2, 1, 600)])];
    open_sound(&disk).wal.persist(&next).unwrap();
    let old = disk.contents(FIRST).unwrap();
    disk.kill();
    disk.alter(FIRST, 2 * 4096, &[0; 512]);
    let mut opened = open_sound(&disk);
    assert!(opened.report.cut.is_some());
    opened.wal.persist(&next).unwrap();
    assert_ne!(disk.contents(FIRST), Some(old.clone()), "the incarnation is another");
    disk.kill();
    disk.alter(FIRST, 2 * 4096 + 512, &old[2 * 4096 + 512..2 * 4096 + 1024]);
    assert!(damage_of(&disk).what.contains("two incarnations"));
}

#[test]
fn a_missing_segment_refuses_the_start_wherever_it_was() {
    let disk = disk_with(9, 600);
    for name in [FIRST, SECOND] {
        let disk = disk.fork();
        disk.lose(name);
        let damage = damage_of(&disk);
        assert_eq!(damage.file, name);
        assert!(damage.what.contains("missing"), "{damage}");
    }
}

#[test]
fn a_segment_that_is_short_or_of_another_number_refuses_the_start() {
    let disk = disk_with(5, 600);
    let first = disk.contents(FIRST).unwrap();
    disk.alter(SECOND, 0, &first[..4096]);
    assert!(damage_of(&disk).what.contains("says it is segment 0000000000000001"));

    let long = disk_with(1, 10);
    long.alter(FIRST, first.len(), &[0]);
    assert!(damage_of(&long).what.contains("the file has 16385"));
}

#[test]
fn a_log_that_is_gone_refuses_the_start() {
    let disk = disk_with(1, 10);
    disk.lose(FIRST);
    assert!(damage_of(&disk).what.contains("this node took part in term 1"));

    let empty = MemoryDisk::new();
    drop(open_sound(&empty));
    for disk in [empty, MemoryDisk::new()] {
        match Wal::open(disk.attach(), settings(), Some(CLUSTER)) {
            Err(OpenError::Damaged(damage)) => assert!(damage.what.contains("belongs to cluster"), "{damage}"),
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn a_log_of_another_cluster_refuses_the_start() {
    let disk = MemoryDisk::new();
    let (first, _) = members_entry(1, 1, "a:1");
    open_sound(&disk).wal.persist(&[persist(Some(hard_state(1, 1)), vec![first])]).unwrap();
    assert!(Wal::open(disk.attach(), settings(), Some(CLUSTER)).is_ok());
    let other = Wal::open(disk.attach(), settings(), Some(ClusterId(78))).map(|_| ()).unwrap_err();
    assert!(other.to_string().contains("the log is of cluster"), "{other}");
}

#[test]
fn a_refusal_names_file_offset_index_and_the_way_out() {
    let disk = disk_with(3, 600);
    disk.alter(FIRST, 2 * 4096 + 100, &[0xff, 0, 0xff]);
    let message = damage_of(&disk).to_string();
    for part in [FIRST, "byte 8192", "log index 2", "checksum", "nothing was changed", "never put back"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}
