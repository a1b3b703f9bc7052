//! SAFETY 39b: a repair that stops anywhere leaves a node that still knows that it is damaged, or one that is whole.

use raftkv::base::{LogIndex, Random};
use raftkv::disk::{DiskOperation, MemoryDisk, Offered};
use raftkv::raft::Persist;

use crate::support::*;
use crate::truth::*;

const FIRST: &str = "wal/0000000000000001.seg";
const SECOND: &str = "wal/0000000000000002.seg";

/// Starts on a damaged directory and repairs it, until something fails. Whether nothing did.
fn repair(disk: &MemoryDisk, truth: &Truth) -> bool {
    let Ok(mut opened) = open(disk) else { return false };
    for missing in opened.repairer.missing() {
        if opened.repairer.offer(truth.entry(missing.index)).is_err() {
            return false;
        }
    }
    // Who cuts what may have been acknowledged needs a leader's word that it was not, or is there again.
    opened.recovered.damage.end_uncertain || opened.repairer.clear_mark().is_ok()
}

fn damaged(truth: &Truth, random: &mut Random) -> MemoryDisk {
    let disk = truth.disk.fork();
    for _ in 0..=random.below(2) {
        let file = [FIRST, SECOND][random.below(2) as usize];
        let blocks = if file == FIRST { 4 } else { 3 };
        let at = (random.below(blocks) * 4096 + random.below(3) * 512 + random.below(512)) as usize;
        let byte = truth.bytes(file)[at];
        match random.below(3) {
            0 => disk.break_sector(file, at as u64 / 512),
            1 if file == FIRST => disk.alter(file, at / 512 * 512, &[0; 512]),
            _ => disk.alter(file, at, &[byte ^ 0x41]),
        }
    }
    disk
}

#[test]
fn a_repair_that_the_power_interrupts_anywhere_is_finished_by_the_next_start() {
    let truth = Truth::of_two_segments();
    let (mut interrupted, mut tally) = (0, Tally::default());
    for seed in 0..60 {
        let damaged = damaged(&truth, &mut Random::new(seed));
        let mut uncertain = match open(&damaged.fork()) {
            Ok(opened) => opened.recovered.damage.end_uncertain,
            // More than one batch in a row is not known.
            Err(_) => continue,
        };
        for off_at in 1.. {
            let disk = damaged.fork();
            disk.power_off_at(off_at);
            if repair(&disk, &truth) {
                break;
            }
            interrupted += 1;
            match off_at % 3 {
                0 => disk.kill(),
                1 => disk.crash(),
                _ => disk.crash_by_chance(&mut Random::new(off_at)),
            }
            let what = format!("seed {seed}, power off at operation {off_at}");
            // What was uncertain may have been cut by now; the mark knows.
            let opened = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            uncertain |= opened.recovered.damage.end_uncertain;
            drop(opened);
            disk.kill();
            let before = tally.uncertain;
            truth.check(&disk, &what, &mut tally);
            assert!(uncertain || tally.uncertain == before, "{what}: the end became uncertain");
        }
    }
    println!("{interrupted} interrupted repairs: {tally:?}");
    assert_eq!(tally.refused, 0, "{tally:?}");
    assert!(interrupted > 1000, "{interrupted}");
}

/// Mutant: what a start reads where an earlier one repaired is believed, though the page cache alone may hold it.
#[test]
fn a_repair_whose_fsync_failed_is_made_durable_before_it_is_believed() {
    let truth = Truth::of_two_segments();
    for nth in 1..20 {
        let disk = truth.disk.fork();
        disk.alter(FIRST, 2 * 4096 + 512 + 9, &[0xff, 0, 0xff]);
        let mut opened = open_sound(&disk);
        disk.fail_nth(DiskOperation::Sync, nth);
        let offered = opened.repairer.offer(truth.entry(opened.repairer.missing()[0].index));
        if offered.is_ok() {
            return;
        }
        disk.kill();
        let mut opened = open_sound(&disk);
        assert_eq!(opened.repairer.missing(), [], "the cache holds the repair");
        opened.repairer.clear_mark().unwrap();
        disk.crash();
        assert!(!open_sound(&disk).recovered.damage.suspect, "what was believed was not durable");
    }
    panic!("it never ends");
}

#[test]
fn an_entry_that_is_not_the_one_that_is_missing_is_refused() {
    let truth = Truth::of_two_segments();
    let disk = truth.disk.fork();
    // The data of entry 2: its header is sound, and says its checksum.
    disk.alter(FIRST, 4096 + 512 + 9, &[0xff, 0, 0xff]);
    let mut opened = open_sound(&disk);
    let missing = opened.repairer.missing();
    assert!(missing[0].checksum.is_some(), "{missing:?}");
    let mut other = truth.entry(missing[0].index).clone();
    other.data = vec![7; other.data.len()].into();
    assert_eq!(opened.repairer.offer(&other).unwrap(), Offered::Other);
    assert_eq!(opened.repairer.missing(), missing);
    truth.refill(opened, &disk, "after a wrong offer");
}

/// What was cut before a missing entry may have been acknowledged together with it: who is given back a part of it, and
/// restarts, must not take that for all there was. A leader that has another entry in its place settles it.
#[test]
fn a_log_that_was_cut_before_what_is_missing_ends_uncertain_unless_another_term_replaced_it() {
    for (term, uncertain) in [(1, true), (2, false)] {
        let disk = disk_with(1, 600);
        let batch = (2..=4).map(|index| entry(index, 1, 600)).collect();
        open_sound(&disk).wal.persist(&[persist(None, batch)]).unwrap();
        disk.kill();
        disk.alter(FIRST, 2 * 4096 + 512 + 9, &[0xff, 0, 0xff]);
        let mut opened = open_sound(&disk);
        assert_eq!(opened.repairer.missing()[0].index, LogIndex(2));
        opened.wal.persist(&[persist(Some(hard_state(term, 0)), vec![entry(2, term, 600)])]).unwrap();
        for start in ["the first start", "the second start"] {
            disk.crash();
            let damage = open_sound(&disk).recovered.damage;
            assert!(damage.suspect && damage.missing.is_empty(), "{start}, term {term}: {damage:?}");
            assert_eq!(damage.end_uncertain, uncertain, "{start}, term {term}");
        }
    }
}

/// Entries 1 to 4, of which 2 and 3, one batch, are lost.
fn disk_with_two_lost() -> MemoryDisk {
    let disk = disk_with(1, 600);
    let mut opened = open_sound(&disk);
    opened.wal.persist(&[persist(None, vec![entry(2, 1, 9), entry(3, 1, 9)])]).unwrap();
    opened.wal.persist(&[persist(None, vec![entry(4, 1, 9)])]).unwrap();
    disk.kill();
    disk.alter(FIRST, 2 * 4096 + 9, &[0xff, 0, 0xff]);
    disk
}

/// What is kept of a batch waits for the rest of it. Once that is cut off, or replaced, nobody brings it any more.
#[test]
fn what_is_kept_of_a_batch_is_put_back_once_nothing_else_of_it_is_needed() {
    for is_cut in [true, false] {
        let disk = disk_with_two_lost();
        let mut opened = open_sound(&disk);
        assert_eq!(opened.repairer.offer(&entry(2, 1, 9)).unwrap(), Offered::Kept);
        assert!(!opened.wal.take_given_up());
        let (cut_from, entries) = if is_cut { (Some(LogIndex(3)), vec![]) } else { (None, vec![entry(3, 2, 9)]) };
        opened.wal.persist(&[Persist { cut_from, ..persist(Some(hard_state(2, 0)), entries) }]).unwrap();
        assert!(opened.wal.take_given_up(), "nobody is told that entry 3 is not needed any more");
        assert_eq!(opened.repairer.mend_given_up().unwrap(), [LogIndex(2)]);
        assert_eq!(opened.repairer.missing(), []);
        disk.crash();
        let opened = open_sound(&disk);
        let missing: Vec<LogIndex> = opened.repairer.missing().iter().map(|missing| missing.index).collect();
        assert_eq!(missing, if is_cut { vec![LogIndex(3)] } else { vec![] }, "a cut is not on the disk");
        let sound = opened.reader.read(LogIndex(1), LogIndex(2), usize::MAX).unwrap();
        assert_eq!(sound, [entry(1, 1, 600), entry(2, 1, 9)]);
    }
}

/// Consensus hears that an entry is lost while the wal has yet to write it anew, and offers it.
#[test]
fn what_was_written_anew_since_it_was_lost_is_said_to_be_there() {
    let disk = disk_with_two_lost();
    let mut opened = open_sound(&disk);
    assert_eq!(opened.repairer.offer(&entry(3, 1, 9)).unwrap(), Offered::Kept);
    opened.wal.persist(&[persist(None, vec![entry(3, 1, 9)])]).unwrap();
    assert_eq!(opened.repairer.offer(&entry(3, 1, 9)).unwrap(), Offered::NotMissing);
    let there = Offered::Repaired(vec![LogIndex(2), LogIndex(3)]);
    assert_eq!(opened.repairer.offer(&entry(2, 1, 9)).unwrap(), there);
}

/// A cut that a leader has settled says nothing of what is damaged later.
#[test]
fn a_cut_that_was_settled_makes_no_end_uncertain_any_more() {
    let disk = disk_with(3, 600);
    disk.alter(FIRST, 2 * 4096 + 9, &[0xff, 0, 0xff]);
    let mut opened = open_sound(&disk);
    opened.wal.persist(&[persist(None, vec![entry(2, 1, 600), entry(3, 1, 600)])]).unwrap();
    disk.crash();
    let mut opened = open_sound(&disk);
    assert!(opened.recovered.damage.end_uncertain);
    opened.repairer.clear_mark().unwrap();
    disk.crash();
    assert!(!open_sound(&disk).recovered.damage.suspect);
    disk.alter(FIRST, 4096 + 9, &[0xff, 0, 0xff]);
    for start in ["the first start", "the second start"] {
        let damage = open_sound(&disk).recovered.damage;
        assert!(damage.suspect && !damage.end_uncertain, "{start}: {damage:?}");
        disk.crash();
    }
}
