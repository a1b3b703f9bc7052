//! SAFETY 32, 33, 38: damage to what was durable is found, said, and never mended by forgetting. Exhaustive over small
//! logs: every bit, every sector, every block at every other place.

use raftkv::base::{ClusterId, LogIndex};
use raftkv::disk::{MemoryDisk, OpenError, Wal};

use crate::support::*;
use crate::truth::*;

const FIRST: &str = "wal/0000000000000001.seg";
const SECOND: &str = "wal/0000000000000002.seg";
const SECTOR: usize = 512;
const BLOCK: usize = 4096;

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

/// Sectors that hold something.
fn used_sectors(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() / SECTOR).filter(|i| bytes[i * SECTOR..(i + 1) * SECTOR].iter().any(|byte| *byte != 0)).collect()
}

// ---- everything, everywhere ------------------------------------------------------------------------------------

fn flip_every_bit(truth: &Truth, files: &[&str]) -> Tally {
    let mut tally = Tally::default();
    for file in files {
        let bytes = truth.bytes(file);
        for at in used_sectors(bytes).into_iter().flat_map(|sector| sector * SECTOR..(sector + 1) * SECTOR) {
            for bit in 0..8 {
                let disk = truth.disk.fork();
                disk.alter(file, at, &[bytes[at] ^ 1 << bit]);
                truth.check(&disk, &format!("{file}, byte {at}, bit {bit}"), &mut tally);
            }
        }
    }
    println!("flipped bits: {} of {tally:?}", tally.total());
    tally
}

/// Every bit of what was written, header and all, in two segments.
#[test]
fn every_flipped_bit_is_repaired_or_leaves_the_end_uncertain() {
    let tally = flip_every_bit(&Truth::of_two_segments(), &[FIRST, SECOND]);
    assert_eq!((tally.sound, tally.refused), (0, 0), "{tally:?}");
    assert!(tally.repaired > 5 * tally.uncertain, "{tally:?}");
}

/// The same over 64 KiB that hold records without a gap; minutes, by command.
#[test]
#[ignore = "takes minutes"]
fn every_flipped_bit_of_64_kib_is_repaired_or_leaves_the_end_uncertain() {
    let disk = disk_with(0, 0);
    let mut wal = open_sound(&disk).wal;
    for index in 1..=9 {
        // Two blocks but for a few bytes, in records of all sizes; one batch to a segment.
        let lengths = [100, 7000, 0, 500].map(|length| length + index as usize % 7);
        let entries = (4 * index - 3..).zip(lengths).map(|(index, bytes)| entry(index, 1, bytes)).collect();
        wal.persist(&[persist(Some(hard_state(1, 1)), entries)]).unwrap();
    }
    disk.kill();
    let truth = Truth::of(disk);
    let files = truth.disk.files();
    let files: Vec<&str> = files.iter().map(String::as_str).filter(|name| name.starts_with("wal/")).take(9).collect();
    let tally = flip_every_bit(&truth, &files);
    assert!(tally.total() >= 8 * 64 * 1024, "{tally:?}");
    assert_eq!((tally.sound, tally.refused), (0, 0), "{tally:?}");
}

#[test]
fn every_flipped_bit_in_free_space_leaves_everything_that_was_acknowledged() {
    let truth = Truth::of(disk_with(2, 600));
    let mut tally = Tally::default();
    for at in (BLOCK + 2 * SECTOR..BLOCK + 3 * SECTOR).chain(3 * BLOCK..3 * BLOCK + 2 * SECTOR) {
        for bit in 0..8 {
            let disk = truth.disk.fork();
            disk.alter(FIRST, at, &[1 << bit]);
            truth.check(&disk, &format!("byte {at}, bit {bit}"), &mut tally);
        }
    }
    println!("flipped bits in free space: {tally:?}");
    assert_eq!(tally.refused, 0, "{tally:?}");
}

/// A lost write. Of the last batch it can't be told from one that never finished.
#[test]
fn every_sector_that_reads_as_zero_is_put_back() {
    let truth = Truth::of_two_segments();
    let mut tally = Tally::default();
    for (file, last_batch) in [(FIRST, usize::MAX), (SECOND, 2 * BLOCK)] {
        for sector in used_sectors(truth.bytes(file)).into_iter().filter(|sector| sector * SECTOR < last_batch) {
            let disk = truth.disk.fork();
            disk.alter(file, sector * SECTOR, &[0; SECTOR]);
            truth.check(&disk, &format!("{file}, sector {sector}"), &mut tally);
        }
    }
    println!("zeroed sectors: {tally:?}");
    assert_eq!(tally.repaired, tally.total(), "{tally:?}");
}

#[test]
fn every_sector_that_is_garbage_or_can_not_be_read_is_put_back() {
    let truth = Truth::of_two_segments();
    let mut tally = Tally::default();
    for file in [FIRST, SECOND] {
        for sector in 0..truth.bytes(file).len() / SECTOR {
            let what = format!("{file}, sector {sector}");
            let garbage = truth.disk.fork();
            garbage.alter(file, sector * SECTOR, &[0x77; SECTOR]);
            truth.check(&garbage, &format!("{what}: garbage"), &mut tally);
            let broken = truth.disk.fork();
            broken.break_sector(file, sector as u64);
            truth.check(&broken, &format!("{what}: unreadable"), &mut tally);
        }
    }
    println!("garbage and unreadable sectors: {tally:?}");
    assert_eq!((tally.sound, tally.refused), (0, 0), "{tally:?}");
}

/// Blocks of a batch that were written where another batch, a header or nothing is, also to the term slots; and also
/// when they are then missing at their own place, as those of a write that went astray.
#[test]
fn every_block_at_every_other_place_loses_nothing_in_silence() {
    let truth = Truth::of_two_segments();
    let (mut copied, mut astray) = (Tally::default(), Tally::default());
    let blocks = |file: &'static str| (0..truth.bytes(file).len() / BLOCK).map(move |block| (file, block * BLOCK));
    let places: Vec<_> = [FIRST, SECOND, "term"].into_iter().flat_map(blocks).collect();
    let is_batch = |(file, at): &&(&str, usize)| *file != "term" && *at != 0 && truth.bytes(file)[at + 3] != 0;
    for (from, from_at) in places.iter().filter(is_batch) {
        let block = &truth.bytes(from)[*from_at..from_at + BLOCK];
        for (to, to_at) in places.iter().filter(|place| **place != (*from, *from_at)) {
            let what = format!("{from}, byte {from_at}, at {to}, byte {to_at}");
            let disk = truth.disk.fork();
            disk.alter(to, *to_at, block);
            truth.check(&disk, &what, &mut copied);
            disk.crash();
            let disk = truth.disk.fork();
            disk.alter(from, *from_at, &[0; BLOCK]);
            disk.alter(to, *to_at, block);
            truth.check(&disk, &format!("{what}, and missing where it was"), &mut astray);
        }
    }
    println!("blocks copied to another place: {copied:?}; gone astray: {astray:?}");
    assert_eq!(copied.refused, 0, "{copied:?}");
}

#[test]
fn any_two_damaged_sectors_are_put_back_or_refused() {
    let truth = Truth::of_two_segments();
    let mut tally = Tally::default();
    let used = |file: &'static str| used_sectors(truth.bytes(file)).into_iter().map(move |sector| (file, sector));
    let sectors: Vec<_> = used(FIRST).chain(used(SECOND)).collect();
    for (i, (one, one_at)) in sectors.iter().enumerate() {
        for (other, other_at) in &sectors[i + 1..] {
            let disk = truth.disk.fork();
            disk.alter(one, one_at * SECTOR + 99, &[0xff, 0, 0xff]);
            disk.alter(other, other_at * SECTOR + 99, &[0xff, 0, 0xff]);
            truth.check(&disk, &format!("{one}, sector {one_at}; {other}, sector {other_at}"), &mut tally);
        }
    }
    println!("two damaged sectors: {tally:?}");
    // Only the first sectors of two batches in a row leave one of them unknown.
    assert_eq!(tally.refused, 3, "{tally:?}");
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
fn a_slot_that_can_not_be_read_is_rewritten_from_the_other() {
    for sector in [0, 8] {
        let disk = disk_with(1, 10);
        disk.break_sector("term", sector);
        let opened = open_sound(&disk);
        assert_eq!(opened.recovered.hard_state, hard_state(1, 1));
        assert_eq!(opened.report.warnings.len(), 1);
        assert_eq!(open_sound(&disk).report.warnings, [""; 0]);
    }
}

// ---- single cases ----------------------------------------------------------------------------------------------

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
    let damage = damage_of(&both);
    assert!(damage.what.contains("neither slot is sound"));
    assert!(damage.to_string().contains("members can't be replaced in this version"), "{damage}");

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

/// Mutant: a slot is believed whatever it says. The next write would count past the end of the range.
#[test]
fn a_slot_that_says_it_is_a_write_that_nobody_can_have_reached_is_not_sound() {
    for place in [0, BLOCK] {
        let disk = disk_with(1, 10);
        let mut slot = disk.contents("term").unwrap()[..SECTOR - 4].to_vec();
        slot[12..20].copy_from_slice(&u64::MAX.to_be_bytes());
        slot.extend_from_slice(&crc32fast::hash(&slot).to_be_bytes());
        disk.alter("term", place, &slot);
        let mut opened = open_sound(&disk);
        assert_eq!(opened.recovered.hard_state, hard_state(1, 1));
        assert!(opened.report.warnings[0].contains("beyond anything that can be reached"), "{:?}", opened.report);
        opened.wal.persist(&[persist(Some(hard_state(2, 1)), vec![])]).unwrap();
        disk.crash();
        assert_eq!(open_sound(&disk).recovered.hard_state, hard_state(2, 1));
    }
}

fn missing_of(disk: &MemoryDisk) -> (Vec<u64>, bool) {
    let damage = open_sound(disk).recovered.damage;
    assert!(damage.suspect);
    (damage.missing.iter().map(|missing| missing.index.0).collect(), damage.end_uncertain)
}

#[test]
fn a_batch_that_lost_sectors_before_a_later_batch_is_damage_and_not_a_torn_tail() {
    let disk = disk_with(3, 600);
    for sectors in [vec![0], vec![1], vec![0, 1]] {
        let disk = disk.fork();
        for sector in &sectors {
            disk.alter(FIRST, 2 * BLOCK + sector * SECTOR, &[0; SECTOR]);
        }
        assert_eq!(missing_of(&disk), (vec![2], false), "{sectors:?}");
    }
}

#[test]
fn a_batch_that_lost_sectors_before_a_batch_in_the_next_segment_is_damage() {
    let disk = disk_with(5, 600);
    assert_eq!(disk.contents(SECOND).map(|bytes| used_sectors(&bytes).len()), Some(1 + 2 + 2));
    disk.alter(FIRST, 3 * BLOCK, &[0; BLOCK]);
    assert_eq!(missing_of(&disk), (vec![3], false));
}

#[test]
fn a_last_batch_that_lost_its_first_sector_leaves_the_end_uncertain_and_its_rest_never_comes_back() {
    let truth = Truth::of(disk_with(3, 600));
    let disk = truth.disk.fork();
    disk.alter(FIRST, 3 * BLOCK + 9, &[0xff]);
    let mut opened = open_sound(&disk);
    assert_eq!(opened.recovered.log.last_index, LogIndex(2));
    assert!(opened.recovered.damage.end_uncertain && opened.recovered.damage.missing.is_empty());
    opened.wal.persist(&[persist(None, vec![entry(3, 1, 10)])]).unwrap();
    disk.crash();
    let opened = open_sound(&disk);
    assert!(opened.recovered.damage.end_uncertain, "the mark says so");
    assert_eq!(model_of(&opened).log.last(), Some(&entry(3, 1, 10)));
}

/// The batch that identified a damaged one is torn, and is cut: what was known must not go with it.
#[test]
fn a_damaged_batch_before_a_torn_one_is_still_known_after_the_cut() {
    for damaged in [vec![0], vec![1], vec![0, 1]] {
        let truth = Truth::of(disk_with(2, 600));
        let disk = truth.disk.fork();
        open_sound(&disk).wal.persist(&[persist(None, vec![entry(3, 1, 600)])]).unwrap();
        disk.kill();
        disk.alter(FIRST, 3 * BLOCK + SECTOR, &[0; SECTOR]);
        for sector in &damaged {
            disk.alter(FIRST, 2 * BLOCK + sector * SECTOR, &[0; SECTOR]);
        }
        for start in 0..3 {
            let opened = open_sound(&disk);
            truth.check_log(&opened, &format!("sectors {damaged:?}, start {start}"));
            assert_eq!(opened.repairer.missing().len(), 1);
            assert_eq!(opened.report.cut.is_some(), start == 0);
            disk.crash();
        }
    }
}

#[test]
fn damage_to_entries_that_were_replaced_is_mended_without_anybodys_help() {
    let disk = disk_with(1, 600);
    let mut wal = open_sound(&disk).wal;
    wal.persist(&[persist(None, vec![entry(2, 1, 600), entry(3, 1, 600), entry(4, 1, 20)])]).unwrap();
    wal.persist(&[persist(Some(hard_state(2, 1)), vec![entry(3, 2, 10)])]).unwrap();
    disk.kill();
    let truth = Truth::of(disk);
    // Entry 3 lies in the batch's second and third sector, and 2 in the first and second.
    for (sector, missing) in [(0, vec![2]), (1, vec![2]), (2, vec![])] {
        let disk = truth.disk.fork();
        disk.alter(FIRST, 2 * BLOCK + sector * SECTOR + 9, &[0xff, 0, 0xff]);
        let opened = open_sound(&disk);
        truth.check_log(&opened, &format!("sector {sector}"));
        assert_eq!(opened.repairer.missing().iter().map(|missing| missing.index.0).collect::<Vec<_>>(), missing);
        truth.refill(opened, &disk, &format!("sector {sector}"));
        assert_eq!(model_of(&open_sound(&disk)), truth.model);
    }
}

/// A void is dead only as long as what replaced it is there.
#[test]
fn a_void_whose_replacement_is_lost_is_missing_again() {
    let disk = disk_with(1, 600);
    let mut wal = open_sound(&disk).wal;
    wal.persist(&[persist(None, vec![entry(2, 1, 600), entry(3, 1, 600)])]).unwrap();
    let model = Model { hard_state: hard_state(2, 1), log: (1..=3).map(|index| entry(index, 1, 600)).collect() };
    wal.persist(&[persist(Some(hard_state(2, 1)), vec![entry(3, 2, 10)])]).unwrap();
    disk.kill();
    disk.alter(FIRST, 2 * BLOCK + 2 * SECTOR + 9, &[0xff, 0, 0xff]);
    let mut opened = open_sound(&disk);
    opened.repairer.clear_mark().unwrap();
    disk.crash();
    disk.alter(FIRST, 3 * BLOCK + 9, &[0xff, 0, 0xff]);
    let mut opened = open_sound(&disk);
    assert!(opened.recovered.damage.end_uncertain);
    assert_eq!(opened.recovered.damage.missing.iter().map(|missing| missing.index.0).collect::<Vec<_>>(), [3]);
    opened.repairer.offer(&entry(3, 1, 600)).unwrap();
    opened.repairer.clear_mark().unwrap();
    disk.crash();
    assert_eq!(model_of(&open_sound(&disk)), model);
}

#[test]
fn what_the_wal_replaces_is_no_longer_missing() {
    let truth = Truth::of(disk_with(3, 600));
    let disk = truth.disk.fork();
    disk.alter(FIRST, 2 * BLOCK + SECTOR + 9, &[0xff, 0, 0xff]);
    disk.alter(FIRST, 3 * BLOCK + SECTOR + 9, &[0xff, 0, 0xff]);
    let mut opened = open_sound(&disk);
    assert_eq!(opened.repairer.missing().len(), 2);
    opened.wal.persist(&[persist(Some(hard_state(2, 1)), vec![entry(3, 2, 10)])]).unwrap();
    assert_eq!(opened.repairer.missing().len(), 1);
    opened.repairer.offer(&entry(2, 1, 600)).unwrap();
    opened.repairer.clear_mark().unwrap();
    disk.crash();
    let opened = open_sound(&disk);
    assert!(!opened.recovered.damage.suspect);
    assert_eq!(model_of(&opened).log, [entry(1, 1, 600), entry(2, 1, 600), entry(3, 2, 10)]);
}

#[test]
fn a_damaged_mark_says_that_the_end_is_uncertain() {
    let disk = disk_with(3, 600);
    disk.alter(FIRST, 2 * BLOCK + SECTOR + 9, &[0xff, 0, 0xff]);
    assert!(!open_sound(&disk).recovered.damage.end_uncertain);
    let bytes = disk.contents("suspect").unwrap();
    for (at, byte) in bytes.iter().enumerate() {
        let disk = disk.fork();
        disk.alter("suspect", at, &[byte ^ 1]);
        let opened = open_sound(&disk);
        assert!(opened.recovered.damage.suspect && opened.recovered.damage.end_uncertain, "byte {at}");
        assert_eq!(opened.repairer.missing().len(), 1, "byte {at}");
    }
}

/// SAFETY 38: what another use of the same segment left is never read as new.
#[test]
fn a_sector_of_another_segment_or_of_an_earlier_start_is_damage() {
    let truth = Truth::of(disk_with(5, 600));
    let disk = truth.disk.fork();
    disk.alter(SECOND, 2 * BLOCK, &truth.bytes(FIRST)[2 * BLOCK..2 * BLOCK + 1024]);
    let mut tally = Tally::default();
    truth.check(&disk, "a sector of another segment", &mut tally);
    assert_eq!(tally.uncertain, 1, "{tally:?}");

    // The same batch at the same place, written by two starts of the process: a mixture is no batch.
    let disk = disk_with(1, 600);
    let next = [persist(None, vec![entry(2, 1, 600)])];
    open_sound(&disk).wal.persist(&next).unwrap();
    let old = disk.contents(FIRST).unwrap();
    disk.kill();
    disk.alter(FIRST, 2 * BLOCK, &[0; SECTOR]);
    let mut opened = open_sound(&disk);
    assert!(opened.report.cut.is_some());
    opened.wal.persist(&next).unwrap();
    assert_ne!(disk.contents(FIRST), Some(old.clone()), "the incarnation is another");
    disk.kill();
    disk.alter(FIRST, 2 * BLOCK + SECTOR, &old[2 * BLOCK + SECTOR..2 * BLOCK + 1024]);
    assert_eq!(missing_of(&disk), (vec![2], false));
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
    disk.alter(SECOND, 0, &first[..BLOCK]);
    assert!(damage_of(&disk).what.contains("says it is segment 0000000000000001"));

    let long = disk_with(1, 10);
    long.alter(FIRST, first.len(), &[0]);
    assert!(damage_of(&long).what.contains("the file has 16385"));
}

/// Mutant: where a damaged batch is follows from the segments' sizes alone. The first start would accept what the next
/// one, with an entry more, refuses.
#[test]
fn a_damaged_batch_is_where_its_own_first_sector_is_also_behind_a_segment_that_grew() {
    let disk = disk_with(4, 600);
    let end = disk.contents(FIRST).unwrap().len();
    disk.alter(FIRST, end, &[0; BLOCK]);
    disk.alter(FIRST, 0, &[0xff]);
    disk.alter(SECOND, BLOCK + SECTOR + 9, &[0xff, 0, 0xff]);
    let mut opened = open_sound(&disk);
    assert_eq!(opened.recovered.damage.missing.len(), 1);
    opened.wal.persist(&[persist(None, vec![entry(5, 1, 10)])]).unwrap();
    disk.crash();
    assert_eq!(missing_of(&disk), (vec![4], false));
    assert_eq!(open_sound(&disk).recovered.log.last_index, LogIndex(5));
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
fn two_batches_in_a_row_without_first_sectors_are_refused_with_place_batches_index_and_the_way_out() {
    let disk = disk_with(4, 600);
    disk.alter(FIRST, 2 * BLOCK + 100, &[0xff, 0, 0xff]);
    disk.alter(FIRST, 3 * BLOCK + 100, &[0xff, 0, 0xff]);
    let message = damage_of(&disk).to_string();
    for part in [FIRST, "byte 8192", "log index 2", "batches 2 to 3", "nothing was changed", "never put back"] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn a_suspect_node_tells_where_it_is_damaged_and_what_is_missing() {
    let disk = disk_with(3, 600);
    disk.alter(FIRST, 2 * BLOCK + SECTOR + 9, &[0xff, 0, 0xff]);
    let report = open_sound(&disk).report;
    let expected =
        format!("{FIRST}, byte 8192: batch 2, with entries 2 to 2 of term 1, is damaged; entry 2 is missing");
    assert_eq!(report.damaged, [expected]);
    let mark = String::from_utf8(disk.contents("suspect").unwrap()).unwrap();
    assert!(mark.contains(&format!("damage: {FIRST} 8192 4096\n")) && mark.contains("end: certain\n"), "{mark}");
}
