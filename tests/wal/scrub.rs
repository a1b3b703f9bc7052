//! Damage under a running node: found, said, and put back without a restart.

use std::io;
use std::sync::{Arc, Mutex};

use raftkv::base::LogIndex;
use raftkv::disk::{Crash, Disk, DiskFile, Fate, MemoryDisk, Offered, Opened, ScrubStep, Wal};

use crate::support::*;
use crate::truth::*;

const FIRST: &str = "wal/0000000000000001.seg";
const SECOND: &str = "wal/0000000000000002.seg";
const SECTOR: usize = 512;
const BLOCK: usize = 4096;

/// A whole pass in small steps; everything it found.
fn scrub(opened: &mut Opened) -> ScrubStep {
    let mut pass = opened.reader.scrub();
    let mut all = ScrubStep::default();
    loop {
        let step = pass.step(&mut opened.repairer, 1).unwrap();
        assert!(step.bytes_done <= step.bytes_total && (!step.is_finished || step.bytes_done == step.bytes_total));
        all.missing.extend(step.missing);
        all.damaged.extend(step.damaged);
        all.slots_are_damaged |= step.slots_are_damaged;
        if step.is_finished {
            return ScrubStep { is_finished: true, bytes_done: step.bytes_done, bytes_total: step.bytes_total, ..all };
        }
    }
}

fn refill(truth: &Truth, opened: &mut Opened, step: &ScrubStep) {
    assert_eq!(step.missing, opened.repairer.missing());
    for missing in &step.missing {
        let offered = opened.repairer.offer(truth.entry(missing.index)).unwrap();
        assert!(matches!(offered, Offered::Kept | Offered::Repaired(_)), "{offered:?}");
    }
    opened.repairer.clear_mark().unwrap();
}

fn assert_sound_after_a_crash(truth: &Truth, disk: &MemoryDisk, what: &str) {
    disk.crash();
    let mut tally = Tally::default();
    truth.check(disk, what, &mut tally);
    assert_eq!(tally.sound, 1, "{what}");
}

#[test]
fn every_damaged_sector_under_a_running_node_is_found_and_put_back() {
    let truth = Truth::of_two_segments();
    let mut found = 0;
    for file in [FIRST, SECOND] {
        for sector in (0..4 * 8).filter(|sector| truth.bytes(file)[sector * SECTOR..][..SECTOR] != [0; SECTOR]) {
            for how in ["flipped", "zeroed", "unreadable"] {
                let what = format!("{file}, sector {sector}, {how}");
                let disk = truth.disk.fork();
                let mut opened = open_sound(&disk);
                assert_eq!(scrub(&mut opened).damaged, [""; 0], "{what}");
                match how {
                    "flipped" => disk.alter(file, sector * SECTOR + 99, &[truth.bytes(file)[sector * SECTOR + 99] ^ 4]),
                    "zeroed" => disk.alter(file, sector * SECTOR, &[0; SECTOR]),
                    _ => disk.break_sector(file, sector as u64),
                }
                let step = scrub(&mut opened);
                assert_eq!(step.damaged.len(), 1, "{what}: {step:?}");
                assert!(disk.contents("suspect").is_some(), "{what}");
                let others = (1..=truth.model.log.len() as u64).map(LogIndex);
                for index in others.filter(|index| step.missing.iter().all(|missing| missing.index != *index)) {
                    assert_eq!(opened.reader.read(index, index, 0).unwrap(), [truth.entry(index).clone()], "{what}");
                }
                // The power may go now: the next start knows as much.
                let restarted = disk.fork();
                restarted.crash();
                let again = open_sound(&restarted);
                truth.check_log(&again, &what);
                assert!(again.recovered.damage.suspect && !again.recovered.damage.end_uncertain, "{what}");
                assert_eq!(again.recovered.damage.missing, step.missing, "{what}");
                refill(&truth, &mut opened, &step);
                assert_eq!(scrub(&mut opened).damaged, [""; 0], "{what}");
                assert_sound_after_a_crash(&truth, &disk, &what);
                found += 1;
            }
        }
    }
    println!("{found} damaged sectors found under a running node");
}

/// Mutant: the whole segment is read, the part that the wal is writing too.
#[test]
fn a_pass_looks_at_what_was_durable_when_it_began_and_the_node_writes_on() {
    let disk = disk_with(3, 600);
    let mut opened = open_sound(&disk);
    let mut pass = opened.reader.scrub();
    let held = disk.hold_syncs();
    let mut wal = opened.wal;
    let writing = std::thread::spawn(move || wal.persist(&[persist(None, vec![entry(4, 1, 5000)])]).map(|()| wal));
    held.wait_for_one();
    while !pass.step(&mut opened.repairer, 1).unwrap().is_finished {}
    assert_eq!(opened.repairer.progress(), raftkv::disk::RepairProgress::default());
    drop(held);
    assert!(writing.join().unwrap().is_ok());
}

#[test]
fn a_damaged_slot_is_found_and_written_once_more() {
    for at in [9, 4096 + 9] {
        let disk = disk_with(1, 10);
        let slots = disk.contents("term").unwrap();
        let mut opened = open_sound(&disk);
        assert!(!scrub(&mut opened).slots_are_damaged);
        disk.alter("term", at, &[0xff]);
        assert!(scrub(&mut opened).slots_are_damaged);
        opened.wal.rewrite_slots().unwrap();
        disk.crash();
        assert_eq!(disk.contents("term"), Some(slots));
        assert_eq!(open_sound(&disk).report.warnings, [""; 0]);
    }
}

#[test]
fn a_damaged_header_and_litter_behind_the_last_batch_are_mended_at_once() {
    let truth = Truth::of(disk_with(5, 600));
    let disk = truth.disk.fork();
    let mut opened = open_sound(&disk);
    disk.alter(FIRST, 9, &[0xff]);
    disk.alter(SECOND, 30, &[0xff]);
    let step = scrub(&mut opened);
    assert_eq!((step.damaged.len(), step.missing.len()), (2, 0), "{step:?}");
    opened.repairer.clear_mark().unwrap();
    assert_sound_after_a_crash(&truth, &disk, "after the pass");
}

#[test]
fn damage_to_what_was_replaced_needs_nobody_while_the_node_runs() {
    let disk = disk_with(1, 600);
    let mut opened = open_sound(&disk);
    opened.wal.persist(&[persist(None, vec![entry(2, 1, 600), entry(3, 1, 600)])]).unwrap();
    opened.wal.persist(&[persist(Some(hard_state(2, 1)), vec![entry(3, 2, 10)])]).unwrap();
    disk.alter(FIRST, 2 * BLOCK + 2 * SECTOR + 9, &[0xff, 0, 0xff]);
    let step = scrub(&mut opened);
    assert_eq!((step.damaged.len(), step.missing.len()), (1, 0), "{step:?}");
    assert_eq!(scrub(&mut opened).damaged, [""; 0]);
    opened.repairer.clear_mark().unwrap();
    disk.crash();
    let opened = open_sound(&disk);
    assert!(!opened.recovered.damage.suspect);
    assert_eq!(model_of(&opened).log, [entry(1, 1, 600), entry(2, 1, 600), entry(3, 2, 10)]);
}

#[test]
fn a_pass_over_an_empty_log_is_over_at_once() {
    let mut opened = Wal::open(MemoryDisk::new().attach(), settings(), None).unwrap();
    let step = scrub(&mut opened);
    assert_eq!((step.bytes_total, step.slots_are_damaged), (0, false));
}

#[test]
fn a_damaged_header_is_found_by_the_step_that_ends_the_pass_too() {
    let disk = disk_with(5, 600);
    let mut opened = open_sound(&disk);
    disk.alter(FIRST, 9, &[0xff]);
    let step = opened.reader.scrub().step(&mut opened.repairer, u64::MAX).unwrap();
    assert!(step.is_finished);
    assert_eq!(step.damaged.len(), 1, "{step:?}");
    assert_eq!(scrub(&mut opened).damaged, [""; 0]);
}

/// Without the mark nothing is done about damage, and the disk is as it was: it can be found again.
#[test]
fn what_is_found_on_a_full_disk_is_found_again_once_there_is_room_for_the_mark() {
    let disk = disk_with(2, 600);
    let mut opened = open_sound(&disk);
    disk.alter(FIRST, 2 * BLOCK + SECTOR + 9, &[0xff, 0, 0xff]);
    disk.set_capacity(disk.used_bytes());
    for _ in 0..2 {
        let step = opened.reader.scrub().step(&mut opened.repairer, u64::MAX).unwrap();
        assert!(step.no_room.is_some_and(|why| why.contains("suspect")));
        assert_eq!((step.missing, opened.repairer.progress().suspect), (vec![], false));
    }
    disk.set_capacity(u64::MAX);
    let step = scrub(&mut opened);
    assert_eq!((step.damaged.len(), step.missing.len()), (1, 1));
    assert!(disk.contents("suspect").is_some());
}

/// Batch 2 has entry 2 in its sectors 0 and 1, and entry 3 in 1 and 2.
#[test]
fn what_a_damaged_batch_loses_later_is_found_too() {
    let disk = disk_with(1, 600);
    let mut opened = open_sound(&disk);
    opened.wal.persist(&[persist(None, vec![entry(2, 1, 600), entry(3, 1, 600)])]).unwrap();
    for (sector, index) in [(0, 2), (2, 3)] {
        disk.alter(FIRST, 2 * BLOCK + sector * SECTOR + 200, &[0xff, 0, 0xff]);
        let step = scrub(&mut opened);
        let missing: Vec<LogIndex> = step.missing.iter().map(|missing| missing.index).collect();
        assert_eq!((step.damaged.len(), missing), (1, vec![LogIndex(index)]));
        assert_eq!(scrub(&mut opened).damaged, [""; 0]);
    }
    assert_eq!(opened.repairer.offer(&entry(2, 1, 600)).unwrap(), Offered::Kept);
    let repaired = Offered::Repaired(vec![LogIndex(2), LogIndex(3)]);
    assert_eq!(opened.repairer.offer(&entry(3, 1, 600)).unwrap(), repaired);
    opened.repairer.clear_mark().unwrap();
    disk.crash();
    assert_eq!(model_of(&open_sound(&disk)).log, [entry(1, 1, 600), entry(2, 1, 600), entry(3, 1, 600)]);
}

/// The power goes while the first of the slots is written, and garbles it.
#[test]
fn the_only_sound_slot_is_not_the_one_that_is_written_first() {
    for at in [9, 4096 + 9] {
        let disk = disk_with(1, 10);
        let mut opened = open_sound(&disk);
        disk.alter("term", at, &[0xff]);
        assert!(scrub(&mut opened).slots_are_damaged);
        disk.power_off_at(2);
        opened.wal.rewrite_slots().unwrap_err();
        disk.crash_with(Crash { sector: &mut |_, _| Fate::Garbled, names: &mut |_| 0 });
        assert_eq!(open_sound(&disk).recovered.hard_state, hard_state(1, 1), "byte {at}");
    }
}

/// A disk on which something else happens while the mark is written.
struct Meanwhile {
    disk: Arc<dyn Disk>,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Disk for Meanwhile {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name)
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.disk.create_dir(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let then = self.then.lock().unwrap().take_if(|_| to == "suspect");
        then.into_iter().for_each(|then| then());
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

/// The wal and the scrub run on two threads.
#[test]
fn what_is_replaced_while_the_mark_is_written_is_not_missing() {
    let disk = disk_with(3, 600);
    let meanwhile = Arc::new(Meanwhile { disk: disk.attach(), then: Mutex::default() });
    let mut opened = Wal::open(meanwhile.clone(), settings(), None).unwrap();
    disk.alter(FIRST, 3 * BLOCK + SECTOR + 9, &[0xff, 0, 0xff]);
    let mut wal = opened.wal;
    *meanwhile.then.lock().unwrap() = Some(Box::new(move || {
        wal.persist(&[persist(Some(hard_state(2, 1)), vec![entry(3, 2, 10)])]).unwrap();
    }));
    let step = opened.reader.scrub().step(&mut opened.repairer, u64::MAX).unwrap();
    assert_eq!((step.damaged.len(), step.missing), (1, vec![]));
    assert_eq!(opened.reader.read(LogIndex(3), LogIndex(3), 0).unwrap(), [entry(3, 2, 10)]);
    opened.repairer.clear_mark().unwrap();
}

#[test]
fn what_nobody_can_name_any_more_is_said_with_what_was_found_before_it_and_ends_nothing() {
    let disk = disk_with(6, 600);
    let mut opened = open_sound(&disk);
    // A record of batch 2; the first sectors of batches 4 and 5.
    for (file, at) in [(FIRST, 2 * BLOCK + SECTOR + 9), (SECOND, BLOCK + 100), (SECOND, 2 * BLOCK + 100)] {
        disk.alter(file, at, &[0xff, 0, 0xff]);
    }
    let step = opened.reader.scrub().step(&mut opened.repairer, u64::MAX).unwrap();
    let what = step.beyond_repair.expect("two batches can't be named");
    assert!(what.contains("batches 4 to 5") && !what.contains("leave this node down"), "{what}");
    assert!(step.is_finished);
    assert_eq!(step.missing.iter().map(|missing| missing.index).collect::<Vec<_>>(), [LogIndex(2)]);
}
