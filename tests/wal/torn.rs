//! SAFETY 31: a write that did not finish never keeps a node from starting, and never leaves a part of itself.

use raftkv::base::LogIndex;
use raftkv::disk::{Crash, DiskOperation, Fate, MemoryDisk, Pace, Wal, WalSettings};
use raftkv::raft::Persist;

use crate::support::*;

const SECTOR: usize = 512;

/// Two disks, before and after a batch, and where it lies.
struct Written {
    before: MemoryDisk,
    file: String,
    offset: usize,
    bytes: Vec<u8>,
    acknowledged: Model,
    with_batch: Model,
}

fn written(before: MemoryDisk, batch: &[Persist]) -> Written {
    let after = before.fork();
    let mut opened = open_sound(&after);
    let acknowledged = model_of(&opened);
    let settled = after.fork();
    opened.wal.persist(batch).unwrap();
    let mut with_batch = acknowledged.clone();
    with_batch.apply(batch);
    let changed = |file: &&String| file.starts_with("wal/") && after.contents(file) != settled.contents(file);
    let file = after.files().iter().find(changed).expect("the batch is in a segment").clone();
    let new = after.contents(&file).unwrap();
    let old = settled.contents(&file).unwrap_or(vec![0; new.len()]);
    let first = old.iter().zip(&new).position(|(old, new)| old != new).unwrap() / SECTOR * SECTOR;
    let end = (old.iter().zip(&new).rposition(|(old, new)| old != new).unwrap() / SECTOR + 1) * SECTOR;
    settled.kill();
    Written { before: settled, file, offset: first, bytes: new[first..end].to_vec(), acknowledged, with_batch }
}

/// One entry whose batch takes exactly `sectors` sectors.
fn batch_of(index: u64, sectors: usize) -> Vec<Persist> {
    vec![persist(None, vec![entry(index, 1, sectors * 492 - 88)])]
}

/// Starts on what is there, checks what it finds, goes on writing, loses the power, and starts again.
fn check_start(disk: &MemoryDisk, expected: &Model, what: &str) {
    let mut opened = open(disk).unwrap_or_else(|error| panic!("{what}: the start was refused: {error}"));
    assert_eq!(model_of(&opened), *expected, "{what}");
    let mut expected = expected.clone();
    let next = [persist(None, vec![entry(expected.log.len() as u64 + 1, 1, 30)])];
    opened.wal.persist(&next).unwrap();
    expected.apply(&next);
    disk.crash();
    let opened = open(disk).unwrap_or_else(|error| panic!("{what}: the second start was refused: {error}"));
    assert_eq!(model_of(&opened), expected, "{what}, the second start");
    assert_eq!(opened.report.cut, None, "{what}: the second start found something to cut");
}

#[test]
fn every_byte_prefix_of_a_batch_is_cut_or_is_the_whole_batch() {
    let written = written(disk_with(2, 100), &batch_of(3, 3));
    assert_eq!(written.bytes.len(), 3 * SECTOR);
    for length in 0..=written.bytes.len() {
        let disk = written.before.fork();
        disk.alter(&written.file, written.offset, &written.bytes[..length]);
        let whole = length == written.bytes.len();
        let expected = if whole { &written.with_batch } else { &written.acknowledged };
        check_start(&disk, expected, &format!("a prefix of {length} bytes"));
    }
}

fn check_every_subset(written: &Written) {
    let sectors = written.bytes.len() / SECTOR;
    for subset in 0..1_u32 << sectors {
        let disk = written.before.fork();
        for sector in (0..sectors).filter(|sector| subset & (1 << sector) != 0) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            disk.alter(&written.file, written.offset + range.start, &written.bytes[range]);
        }
        let whole = subset + 1 == 1 << sectors;
        let expected = if whole { &written.with_batch } else { &written.acknowledged };
        check_start(&disk, expected, &format!("sectors {subset:08b}"));
    }
}

#[test]
fn every_subset_of_a_batchs_sectors_is_cut_or_is_the_whole_batch() {
    check_every_subset(&written(disk_with(2, 100), &batch_of(3, 8)));
}

#[test]
fn every_subset_of_the_very_first_batch_is_cut_or_is_the_whole_batch() {
    check_every_subset(&written(disk_with(0, 0), &batch_of(1, 8)));
}

#[test]
fn every_subset_of_a_batch_at_the_start_of_a_prepared_segment_is_cut_or_is_the_whole_batch() {
    let before = disk_with(2, 100);
    let mut opened = open_sound(&before);
    let job = opened.wal.wants_segment().unwrap();
    opened.wal.add_segment(job.run(&*before.attach(), Pace::HalfTheTime).unwrap());
    before.kill();
    let written = written(before, &batch_of(3, 16));
    assert_eq!((written.file.as_str(), written.offset), ("wal/0000000000000002.seg", 4096));
    // The subsets of 8 of its 16 sectors, with the others there or not.
    for others in [0_u32, 0xff] {
        for subset in 0..256 {
            let disk = written.before.fork();
            let there = subset << 8 | others;
            for sector in (0..16).filter(|sector| there & (1 << sector) != 0) {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                disk.alter(&written.file, written.offset + range.start, &written.bytes[range]);
            }
            let expected = if there == 0xffff { &written.with_batch } else { &written.acknowledged };
            check_start(&disk, expected, &format!("sectors {there:016b}"));
        }
    }
}

#[test]
fn a_half_written_sector_may_lose_any_of_those_before_it() {
    let written = written(disk_with(1, 100), &batch_of(2, 5));
    for subset in 0..16_u32 {
        let disk = written.before.fork();
        for sector in (0..4).filter(|sector| subset & (1 << sector) != 0) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            disk.alter(&written.file, written.offset + range.start, &written.bytes[range]);
        }
        disk.alter(&written.file, written.offset + 4 * SECTOR, &written.bytes[4 * SECTOR..4 * SECTOR + 300]);
        check_start(&disk, &written.acknowledged, &format!("sectors {subset:04b} and a half"));
    }
}

#[test]
fn a_cut_is_reported_with_its_place_batch_and_size() {
    let written = written(disk_with(2, 100), &batch_of(3, 3));
    written.before.alter(&written.file, written.offset, &written.bytes[..SECTOR]);
    let report = open_sound(&written.before).report;
    let cut = report.cut.expect("a part of the batch was there");
    assert_eq!((cut.file, cut.offset, cut.bytes, cut.batch), (written.file, written.offset as u64, 512, 3));
    assert!(report.warnings[0].contains("batch 3 at byte 12288 of wal/0000000000000001.seg"), "{:?}", report.warnings);
    assert_eq!(report.last_index, LogIndex(2));
}

/// Mutant: the zeros behind a cut are not synced, or only where something was read.
#[test]
fn the_rest_of_a_cut_batch_never_comes_back_behind_a_newer_one() {
    let written = written(disk_with(1, 100), &batch_of(2, 8));
    let torn = written.before.fork();
    torn.alter(&written.file, written.offset + SECTOR, &written.bytes[SECTOR..]);
    let mut expected = written.acknowledged.clone();
    let next = [persist(None, vec![entry(2, 1, 3 * 492 - 88)])];
    expected.apply(&next);
    // Which of the new batch's sectors, and of the zeros if they were not synced, reach the disk at the loss of power.
    for subset in 0..256_u32 {
        let disk = torn.fork();
        let mut opened = open_sound(&disk);
        disk.power_off_at(2);
        opened.wal.persist(&next).unwrap_err();
        disk.crash_with(Crash {
            sector: &mut |_, sector| {
                let at = sector as usize - written.offset / SECTOR;
                if subset & (1 << at) != 0 { Fate::Written } else { Fate::Lost }
            },
            names: &mut |_| 0,
        });
        let whole = subset & 0b111 == 0b111;
        check_start(&disk, if whole { &expected } else { &written.acknowledged }, &format!("sectors {subset:08b}"));
    }
}

/// SAFETY 39b with a cache that lies: the start that cut the batch failed at its fsync, and the next one reads zeros.
#[test]
fn a_cut_whose_fsync_failed_is_made_again() {
    for prepared in [false, true] {
        let before = disk_with(2, 100);
        if prepared {
            let mut opened = open_sound(&before);
            opened.wal.wants_segment().unwrap().run(&*before.attach(), Pace::HalfTheTime).unwrap();
            before.kill();
        }
        let written = written(before, &batch_of(3, if prepared { 16 } else { 6 }));
        let disk = written.before.fork();
        disk.alter(&written.file, written.offset + SECTOR, &written.bytes[SECTOR..]);
        for nth in 1..=2 {
            disk.fail_nth(DiskOperation::Sync, nth);
            let error = open(&disk).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains("sync"), "{error}");
            disk.kill();
        }
        // The cache reads zeros, the disk holds the torn batch.
        check_start(&disk, &written.acknowledged, "after failed starts");
    }
}

/// Mutant: recovery does not sync the log's folder.
#[test]
fn a_torn_segment_that_was_removed_never_comes_back_behind_newer_batches() {
    let before = disk_with(2, 100);
    open_sound(&before).wal.wants_segment().unwrap().run(&*before.attach(), Pace::HalfTheTime).unwrap();
    before.kill();
    let written = written(before, &batch_of(3, 16));
    let disk = written.before.fork();
    disk.alter(&written.file, written.offset + SECTOR, &written.bytes[SECTOR..]);
    let larger = WalSettings { segment_bytes: 32 * 1024, ..settings() };
    let mut opened = Wal::open(disk.attach(), larger, None).unwrap();
    assert!(opened.report.cut.is_some());
    opened.wal.persist(&batch_of(3, 1)).unwrap();
    disk.crash();
    let mut expected = written.acknowledged;
    expected.apply(&batch_of(3, 1));
    check_start(&disk, &expected, "after the removal");
}
