//! Rolling over, reading old entries, and what a start keeps in memory.

use std::sync::mpsc;

use raftkv::base::{Entry, LogIndex, Random};
use raftkv::disk::{DiskOperation, MemoryDisk, Pace, Wal, WalSettings};

use crate::support::*;

#[test]
fn the_log_goes_on_in_the_next_segment_and_over_starts() {
    let disk = MemoryDisk::new();
    let mut model = Model::default();
    for life in 0..6 {
        let mut opened = open_sound(&disk);
        assert_eq!(model_of(&opened), model, "life {life}");
        work(&mut opened, &mut model, &mut Random::new(life), 20);
        disk.kill();
    }
    assert_eq!(model_of(&open_sound(&disk)), model);
    assert!(disk.files().len() > 10, "{:?}", disk.files());
}

#[test]
fn a_segment_that_is_ready_makes_rolling_over_free() {
    let disk = disk_with(3, 600);
    let mut opened = open_sound(&disk);
    let job = opened.wal.wants_segment().expect("none is ready");
    assert!(opened.wal.wants_segment().is_none(), "one is on its way");
    opened.wal.add_segment(job.run(&*disk.attach(), Pace::AtOnce).unwrap());
    let job = opened.wal.wants_segment().expect("one is ready, and two are wanted");
    opened.wal.add_segment(job.run(&*disk.attach(), Pace::AtOnce).unwrap());
    assert!(opened.wal.wants_segment().is_none(), "two are ready");
    let count = |operation| disk.performed(operation);
    let before = [DiskOperation::Create, DiskOperation::Write, DiskOperation::Sync].map(count);
    opened.wal.persist(&[persist(None, vec![entry(4, 1, 600)])]).unwrap();
    let after = [DiskOperation::Create, DiskOperation::Write, DiskOperation::Sync].map(count);
    assert_eq!(after, [before[0], before[1] + 1, before[2] + 1]);
    assert!(opened.wal.wants_segment().is_some(), "it is in use");
    disk.crash();
    assert_eq!(model_of(&open_sound(&disk)).log.len(), 4);
}

#[test]
fn a_job_hurries_once_none_is_ready_and_the_segment_in_use_is_half_full() {
    let disk = MemoryDisk::new();
    let mut opened = open_sound(&disk);
    let job = opened.wal.wants_segment().expect("none is ready");
    opened.wal.persist(&[persist(Some(hard_state(1, 1)), vec![entry(1, 1, 10)])]).unwrap();
    assert!(opened.wal.wants_segment().is_none(), "one is on its way");
    assert!(!job.is_hurried(), "there is time");
    opened.wal.persist(&[persist(None, vec![entry(2, 1, 600)])]).unwrap();
    assert!(opened.wal.wants_segment().is_none(), "it is still on its way");
    assert!(job.is_hurried());
    opened.wal.add_segment(job.run(&*disk.attach(), Pace::AtOnce).unwrap());
    assert!(!opened.wal.wants_segment().expect("two are wanted").is_hurried(), "one is ready");
}

/// Mutant: the claim is not asked. The late job then renames its zeros over entries that were acknowledged.
#[test]
fn a_job_that_is_late_never_replaces_a_segment_in_use() {
    let disk = disk_with(3, 600);
    let mut opened = open_sound(&disk);
    let job = opened.wal.wants_segment().unwrap();
    opened.wal.persist(&[persist(None, vec![entry(4, 1, 600)])]).unwrap();
    opened.wal.add_segment(job.run(&*disk.attach(), Pace::HalfTheTime).unwrap());
    opened.wal.persist(&[persist(None, vec![entry(5, 1, 600)])]).unwrap();
    disk.crash();
    assert_eq!(model_of(&open_sound(&disk)).log.len(), 5);
}

#[test]
fn a_job_that_is_done_but_not_handed_over_is_used() {
    let disk = disk_with(3, 600);
    let mut opened = open_sound(&disk);
    let prepared = opened.wal.wants_segment().unwrap().run(&*disk.attach(), Pace::HalfTheTime).unwrap();
    let created = disk.performed(DiskOperation::Create);
    opened.wal.persist(&[persist(None, vec![entry(4, 1, 600)])]).unwrap();
    assert_eq!(disk.performed(DiskOperation::Create), created);
    opened.wal.add_segment(prepared);
    opened.wal.persist(&[persist(None, (5..9).map(|index| entry(index, 1, 3000)).collect())]).unwrap();
    disk.crash();
    assert_eq!(model_of(&open_sound(&disk)).log.len(), 8);
}

#[test]
fn a_job_that_failed_is_offered_again() {
    let disk = disk_with(1, 600);
    let mut opened = open_sound(&disk);
    let job = opened.wal.wants_segment().unwrap();
    disk.fail_nth(DiskOperation::Sync, 1);
    assert!(job.run(&*disk.attach(), Pace::AtOnce).is_err());
    assert!(opened.wal.wants_segment().is_none(), "it may be tried again");
    drop(job);
    let job = opened.wal.wants_segment().expect("it was given up");
    assert!(job.run(&*disk.attach(), Pace::AtOnce).is_ok());
}

#[test]
fn segments_that_wait_are_made_again_in_another_size() {
    let disk = disk_with(1, 600);
    let mut opened = open_sound(&disk);
    opened.wal.wants_segment().unwrap().run(&*disk.attach(), Pace::HalfTheTime).unwrap();
    disk.kill();
    let larger = WalSettings { segment_bytes: 64 * 1024, entry_bytes_max: 40_000, ..settings() };
    let mut opened = Wal::open(disk.attach(), larger.clone(), None).unwrap();
    opened.wal.persist(&[persist(None, vec![entry(2, 1, 40_000)])]).unwrap();
    disk.crash();
    assert_eq!(model_of(&open_sound(&disk)).log.len(), 2);

    let unused = MemoryDisk::new();
    drop(open_sound(&unused));
    let mut opened = Wal::open(unused.attach(), larger, None).unwrap();
    opened.wal.persist(&[persist(Some(hard_state(1, 1)), vec![entry(1, 1, 40_000)])]).unwrap();
    unused.crash();
    assert_eq!(model_of(&open_sound(&unused)).log.len(), 1);
}

#[test]
fn a_segment_size_that_can_not_hold_an_entry_is_refused() {
    for segment_bytes in [0, 4096, 8192, 16 * 1024 + 1] {
        let error = Wal::open(MemoryDisk::new().attach(), WalSettings { segment_bytes, ..settings() }, None);
        let message = error.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("multiple of 4096 from 16384"), "{message}");
    }
}

#[test]
fn every_range_reads_what_the_log_holds_also_where_entries_were_replaced() {
    for seed in 0..10 {
        let (disk, mut model) = (MemoryDisk::new(), Model::default());
        let mut opened = open_sound(&disk);
        work(&mut opened, &mut model, &mut Random::new(seed), 40);
        let last = model.log.len() as u64;
        for reader in [opened.reader.clone(), open_sound(&disk).reader] {
            for lo in 1..=last {
                let entries = reader.read(LogIndex(lo), LogIndex(lo + 6), usize::MAX).unwrap();
                let expected = &model.log[lo as usize - 1..(lo as usize + 6).min(model.log.len())];
                assert_eq!(entries, expected, "seed {seed}, from {lo}");
            }
            assert_eq!(reader.read(LogIndex(last + 1), LogIndex(last + 9), 100).unwrap(), []);
        }
    }
}

#[test]
fn a_read_stops_at_its_bytes_but_gives_one_entry() {
    let reader = open_sound(&disk_with(9, 600)).reader;
    let read = |bytes_max| reader.read(LogIndex(2), LogIndex(8), bytes_max).unwrap().len();
    assert_eq!([read(0), read(1), read(632), read(2 * 632), read(3 * 632 - 1), read(99_999)], [1, 1, 1, 2, 2, 7]);
}

#[test]
fn a_read_finds_damage() {
    let disk = disk_with(5, 600);
    let opened = open_sound(&disk);
    disk.alter("wal/0000000000000001.seg", 2 * 4096 + 9, &[0xff, 0, 0xff]);
    let error = opened.reader.read(LogIndex(1), LogIndex(5), usize::MAX).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("byte 8192"), "{error}");
}

#[test]
fn a_reader_on_another_thread_sees_only_what_is_durable_and_all_of_that() {
    let disk = MemoryDisk::new();
    let opened = open_sound(&disk);
    let (mut wal, reader) = (opened.wal, opened.reader);
    let (to_reader, acknowledged) = mpsc::channel::<u64>();
    let reading = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while let Ok(last) = acknowledged.recv() {
            seen = reader.read(LogIndex(1), LogIndex(u64::MAX), usize::MAX).unwrap();
            assert!(seen.len() as u64 >= last, "entry {last} was acknowledged");
        }
        seen
    });
    wal.persist(&[persist(Some(hard_state(1, 1)), vec![])]).unwrap();
    let entries: Vec<Entry> = (1..=200).map(|index| entry(index, 1, 300)).collect();
    for entry in &entries {
        wal.persist(&[persist(None, vec![entry.clone()])]).unwrap();
        to_reader.send(entry.index.0).unwrap();
    }
    drop(to_reader);
    assert_eq!(reading.join().unwrap(), entries);
}

#[test]
fn a_write_whose_sync_hangs_is_not_yet_there_for_readers() {
    let disk = disk_with(1, 10);
    let mut opened = open_sound(&disk);
    let held = disk.hold_syncs();
    let writing = std::thread::spawn(move || opened.wal.persist(&[persist(None, vec![entry(2, 1, 10)])]).is_ok());
    held.wait_for_one();
    assert_eq!(opened.reader.read(LogIndex(2), LogIndex(2), 100).unwrap(), []);
    drop(held);
    assert!(writing.join().unwrap());
    assert_eq!(opened.reader.read(LogIndex(2), LogIndex(2), 100).unwrap(), [entry(2, 1, 10)]);
}

#[test]
fn a_start_keeps_only_the_end_of_a_long_log_in_memory() {
    let disk = disk_with(100, 600);
    for kept in [0, 3, 50] {
        let settings = WalSettings { log_memory_bytes_max: kept * 632 + 631, ..settings() };
        let opened = Wal::open(disk.attach(), settings, None).unwrap();
        let log = &opened.recovered.log;
        assert_eq!((log.last_index, log.entries.len()), (LogIndex(100), kept));
        assert!(model_of(&opened).log.ends_with(&log.entries));
    }
}

#[test]
fn membership_is_collected_and_falls_back_when_it_is_replaced() {
    let disk = MemoryDisk::new();
    let mut opened = open_sound(&disk);
    let (one, members_one) = members_entry(1, 1, "a:1");
    let (three, _) = members_entry(3, 1, "b:1");
    let (four, members_four) = members_entry(4, 2, "c:1");
    opened.wal.persist(&[persist(Some(hard_state(2, 1)), vec![one, entry(2, 1, 5), three])]).unwrap();
    opened.wal.persist(&[persist(None, vec![entry(3, 2, 5), four])]).unwrap();
    let opened = open_sound(&disk);
    assert_eq!(opened.recovered.members, [(LogIndex(1), members_one), (LogIndex(4), members_four)]);
}

#[test]
fn a_batch_larger_than_a_segment_is_split() {
    let disk = disk_with(0, 0);
    let mut opened = open_sound(&disk);
    let entries: Vec<Entry> = (1..=12).map(|index| entry(index, 1, 5000)).collect();
    opened.wal.persist(&[persist(None, entries.clone())]).unwrap();
    disk.crash();
    assert_eq!(model_of(&open_sound(&disk)).log, entries);
}
