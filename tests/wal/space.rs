//! SAFETY 36: a full disk is noticed before an append fails, ends nothing, and goes by itself once there is room.

use raftkv::base::limits::DISK_LOW_WATER_BYTES;
use raftkv::disk::{MemoryDisk, Opened, Pace, SegmentJob, Space, Wal, WalSettings};
use raftkv::raft::Persist;

use crate::support::*;

const SEGMENT: u64 = 64 * 1024;

fn settings() -> WalSettings {
    WalSettings { segment_bytes: SEGMENT, ..crate::support::settings() }
}

fn open(disk: &MemoryDisk) -> Opened {
    Wal::open(disk.attach(), settings(), None)
        .unwrap_or_else(|error| panic!("a full disk kept it from starting: {error}"))
}

/// A node's background, which tries again what failed.
#[derive(Default)]
struct Background(Option<SegmentJob>);

impl Background {
    fn run(&mut self, opened: &mut Opened, disk: &MemoryDisk) {
        while let Some(job) = self.0.take().or_else(|| opened.wal.wants_segment()) {
            match job.run(&*disk.attach(), Pace::AtOnce) {
                Ok(prepared) => opened.wal.add_segment(prepared),
                Err(_) => return self.0 = Some(job),
            }
        }
    }
}

/// The entries behind `last` of one more life, each as long as `Space` allows; how many there are then.
fn write(
    opened: &mut Opened,
    background: &mut Background,
    disk: &MemoryDisk,
    last: u64,
    most: u64,
    until: Space,
) -> u64 {
    let mut last = last;
    for _ in 0..most {
        background.run(opened, disk);
        if opened.wal.space() >= until {
            return last;
        }
        last += 1;
        opened.wal.persist(&[persist(Some(hard_state(1, 1)), vec![entry(last, 1, 5000)])]).unwrap();
    }
    last
}

/// The disk is full from the nth entry on, whatever was prepared by then; later there is room again.
#[test]
fn from_whichever_entry_on_the_disk_is_full_no_append_fails_and_all_goes_on_when_there_is_room() {
    let (mut low, mut exhausted) = (0, 0);
    for full_from in 0..40 {
        let disk = MemoryDisk::new();
        let mut opened = open(&disk);
        let mut background = Background::default();
        let last = write(&mut opened, &mut background, &disk, 0, full_from, Space::Low);
        assert_eq!(last, full_from, "there is plenty");
        disk.set_capacity(0);
        let grown = write(&mut opened, &mut background, &disk, last, 1000, Space::Low);
        low += grown - last;
        // Deletes, and the cluster's own: a whole segment is theirs.
        let deleted = write(&mut opened, &mut background, &disk, grown, 1000, Space::Exhausted);
        exhausted += deleted - grown;
        assert!(
            full_from == 0 || (deleted - grown) * 8192 >= SEGMENT / 2,
            "full from {full_from}: {grown} to {deleted}"
        );
        // What was under way: half a segment.
        for index in deleted + 1..=deleted + 3 {
            opened.wal.persist(&[persist(Some(hard_state(1, 1)), vec![entry(index, 1, 5000)])]).unwrap();
        }
        drop(background);
        disk.crash();

        let mut opened = open(&disk);
        assert_eq!(model_of(&opened).log.len() as u64, deleted + 3, "full from {full_from}");
        let mut background = Background::default();
        background.run(&mut opened, &disk);
        assert_eq!(opened.wal.space(), Space::Exhausted);
        disk.set_capacity(u64::MAX);
        background.run(&mut opened, &disk);
        assert_eq!(opened.wal.space(), Space::Plenty);
        assert_eq!(write(&mut opened, &mut background, &disk, deleted + 3, 40, Space::Low), deleted + 43);
        disk.crash();
        assert_eq!(model_of(&open(&disk)).log.len() as u64, deleted + 43);
    }
    println!("entries written on a full disk: {low} growing, {exhausted} from the reserve");
}

/// Every number of free bytes, by blocks, around what a few segments need.
#[test]
fn however_much_room_there_is_nothing_fails_before_it_is_said_to_be_exhausted() {
    for blocks in 0..4 * SEGMENT / 4096 {
        let disk = MemoryDisk::new();
        let mut opened = open(&disk);
        disk.set_capacity(disk.used_bytes() + DISK_LOW_WATER_BYTES + blocks * 4096);
        let mut background = Background::default();
        let last = write(&mut opened, &mut background, &disk, 0, 1000, Space::Exhausted);
        assert!(last < 1000, "{blocks} blocks: it was never exhausted");
        let free = disk.attach().free_bytes().unwrap();
        assert!((DISK_LOW_WATER_BYTES..DISK_LOW_WATER_BYTES + SEGMENT).contains(&free), "{blocks} blocks: {free}");
        drop(background);
        disk.crash();
        assert_eq!(model_of(&open(&disk)).log.len() as u64, last, "{blocks} blocks");
    }
}

#[test]
fn a_segment_that_has_no_room_leaves_nothing_behind() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    let files = disk.files();
    let job = opened.wal.wants_segment().unwrap();
    disk.set_capacity(disk.used_bytes() + DISK_LOW_WATER_BYTES + SEGMENT - 1);
    assert_eq!(job.run(&*disk.attach(), Pace::AtOnce).map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(disk.files(), files);
    disk.set_capacity(disk.used_bytes() + DISK_LOW_WATER_BYTES + SEGMENT);
    opened.wal.add_segment(job.run(&*disk.attach(), Pace::AtOnce).unwrap());
}

#[test]
fn a_log_that_was_never_used_is_kept_if_there_is_no_room_for_one_of_another_size() {
    let disk = MemoryDisk::new();
    drop(open(&disk));
    disk.set_capacity(0);
    let larger = WalSettings { segment_bytes: 2 * SEGMENT, ..settings() };
    let mut opened = Wal::open(disk.attach(), larger, None).unwrap();
    opened.wal.persist(&[persist(Some(hard_state(1, 1)), vec![entry(1, 1, 5000)])]).unwrap();
    disk.crash();
    assert_eq!(model_of(&open(&disk)).log.len(), 1);
}

/// What was asked for before anybody knew is larger than what is ready.
#[test]
fn of_what_does_not_fit_a_full_disk_nothing_is_begun_and_it_fits_once_there_is_room() {
    for full_from in 0..12 {
        let disk = MemoryDisk::new();
        let mut opened = open(&disk);
        let mut background = Background::default();
        let last = write(&mut opened, &mut background, &disk, 0, full_from, Space::Low);
        disk.set_capacity(0);
        let under_way: Vec<Persist> =
            (last + 1..=last + 60).map(|index| persist(Some(hard_state(1, 1)), vec![entry(index, 1, 5000)])).collect();
        let (mut rest, mut written) = (&under_way[..], last);
        while let fitting @ 1.. = opened.wal.fitting(rest).unwrap() {
            opened.wal.persist(&rest[..fitting]).unwrap();
            written += fitting as u64;
            rest = &rest[fitting..];
        }
        assert!(!rest.is_empty() && (full_from > 0 || written >= 7), "full from {full_from}: {written} are written");
        assert_eq!(opened.wal.last_index().0, written);
        assert_eq!(opened.wal.space(), Space::Exhausted);
        // Term and vote need no room.
        let vote = [persist(Some(hard_state(2, 1)), vec![])];
        assert_eq!(opened.wal.fitting(&vote).unwrap(), 1);
        opened.wal.persist(&vote).unwrap();
        disk.set_capacity(u64::MAX);
        background.run(&mut opened, &disk);
        while !rest.is_empty() {
            let fitting = opened.wal.fitting(rest).unwrap();
            assert!(fitting > 0, "there is room");
            let entries = rest[..fitting].iter().flat_map(|persist| persist.entries.clone()).collect();
            opened.wal.persist(&[persist(None, entries)]).unwrap();
            rest = &rest[fitting..];
            background.run(&mut opened, &disk);
        }
        drop(background);
        disk.crash();
        assert_eq!(model_of(&open(&disk)).log.len() as u64, last + 60, "full from {full_from}");
    }
}

/// As from a leader's turn, or a follower's: its entries are one persist, larger than all that is ready.
#[test]
fn while_one_large_persist_waits_for_room_there_is_said_to_be_none() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    let mut background = Background::default();
    assert_eq!(write(&mut opened, &mut background, &disk, 0, 3, Space::Low), 3);
    disk.set_capacity(0);
    let large = [persist(None, (4..64).map(|index| entry(index, 1, 5000)).collect())];
    assert_eq!(opened.wal.fitting(&large).unwrap(), 0);
    assert_eq!(opened.wal.space(), Space::Exhausted);
    disk.set_capacity(u64::MAX);
    background.run(&mut opened, &disk);
    assert_eq!(opened.wal.fitting(&large).unwrap(), 1, "segments are made until it fits");
    assert_eq!(opened.wal.space(), Space::Plenty);
    opened.wal.persist(&large).unwrap();
    drop(background);
    disk.crash();
    assert_eq!(model_of(&open(&disk)).log.len(), 63);
}

#[test]
fn a_start_on_a_full_disk_knows_at_once_how_much_room_there_is() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    let mut background = Background::default();
    disk.set_capacity(0);
    assert!(write(&mut opened, &mut background, &disk, 0, 1000, Space::Exhausted) > 0);
    drop(background);
    disk.crash();
    assert_eq!(open(&disk).wal.space(), Space::Exhausted);
}
