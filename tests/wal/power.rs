//! SAFETY 30, 39, 39a: what was acknowledged is there after any loss of power, and what a start reported too.
//!
//! Each fsync in the code is here for one of these tests.

use raftkv::base::Random;
use raftkv::disk::{Crash, Fate, MemoryDisk, Opened, Pace};

use crate::support::*;

#[derive(Clone, Copy, Debug)]
enum End {
    /// Everything that was not synced is lost.
    Crash,
    /// Chance decides, sector by sector.
    Chance,
    /// All that was written is kept.
    Kept,
    /// The sectors of the term file that were being written hold neither the old nor the new.
    GarbledTerm,
}

fn end(disk: &MemoryDisk, how: End, random: &mut Random) {
    match how {
        End::Crash => disk.crash(),
        End::Chance => disk.crash_by_chance(random),
        End::Kept => disk.crash_with(Crash { sector: &mut |_, _| Fate::Written, names: &mut |n| n }),
        End::GarbledTerm => disk.crash_with(Crash {
            sector: &mut |name, _| if name.starts_with("term") { Fate::Garbled } else { Fate::Lost },
            names: &mut |n| n,
        }),
    }
}

/// A job in the background that is done now and then.
fn maybe_prepare(disk: &MemoryDisk, opened: &mut Opened, random: &mut Random) {
    if random.below(2) == 0
        && let Some(job) = opened.wal.wants_segment()
        && let Ok(prepared) = job.run(&*disk.attach(), Pace::HalfTheTime)
    {
        opened.wal.add_segment(prepared);
    }
}

/// One start and some work, the power going at operation `off_at`. The answer is every state the disk may be left in.
fn live(disk: &MemoryDisk, model: &mut Model, random: &mut Random, off_at: u64) -> Vec<Model> {
    disk.power_off_at(off_at);
    let Ok(mut opened) = open(disk) else { return vec![model.clone()] };
    assert_eq!(model_of(&opened), *model);
    for _ in 0..8 {
        maybe_prepare(disk, &mut opened, random);
        if let Some(batch) = work(&mut opened, model, random, 1) {
            return model.outcomes_of(&batch);
        }
    }
    vec![model.clone()]
}

/// Starts, finds one of the possible states, and still finds it after the power went right behind the start.
fn settle(disk: &MemoryDisk, possible: &[Model], what: &str) -> Model {
    let opened = open(disk).unwrap_or_else(|error| panic!("{what}: the start was refused: {error}"));
    let found = model_of(&opened);
    assert!(possible.contains(&found), "{what}: something acknowledged is gone, or something else is there");
    disk.crash();
    let opened = open(disk).unwrap_or_else(|error| panic!("{what}: the second start was refused: {error}"));
    assert_eq!(model_of(&opened), found, "{what}: what a start reported was not durable");
    disk.kill();
    found
}

#[test]
fn what_was_acknowledged_is_there_whenever_the_power_goes() {
    for how in [End::Crash, End::Chance, End::Kept, End::GarbledTerm] {
        for off_at in 1..90 {
            let mut random = Random::new(off_at);
            let (disk, mut model) = (MemoryDisk::new(), Model::default());
            let possible = live(&disk, &mut model, &mut random, off_at);
            end(&disk, how, &mut random);
            settle(&disk, &possible, &format!("{how:?}, power off at operation {off_at}"));
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_after_many_lives() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let (disk, mut model) = (MemoryDisk::new(), Model::default());
        for life in 0..12 {
            let off_at = 1 + random.below(60);
            let possible = live(&disk, &mut model, &mut random, off_at);
            let how = [End::Crash, End::Chance, End::Kept, End::GarbledTerm][random.below(4) as usize];
            if random.below(3) == 0 {
                disk.kill();
            } else {
                end(&disk, how, &mut random);
            }
            let what = format!("seed {seed}, life {life}, {how:?}, power off at operation {off_at}");
            model = settle(&disk, &possible, &what);
        }
    }
}

/// Mutants: slot A or slot B is not synced.
#[test]
fn either_slot_alone_holds_an_acknowledged_term() {
    for slot in [0, 4096] {
        let disk = disk_with(1, 10);
        open_sound(&disk).wal.persist(&[persist(Some(hard_state(7, 2)), vec![])]).unwrap();
        disk.crash();
        disk.alter("term", slot + 20, &[0xff]);
        assert_eq!(open_sound(&disk).recovered.hard_state, hard_state(7, 2), "the slot at {slot} is bad");
    }
}

/// Mutant: recovery trusts the page cache (SAFETY 39a).
#[test]
fn what_a_failed_fsync_left_in_the_cache_is_made_durable_before_it_is_believed() {
    use raftkv::disk::DiskOperation::Sync;
    let disk = disk_with(1, 10);
    let mut opened = open_sound(&disk);
    disk.fail_nth(Sync, 1);
    opened.wal.persist(&[persist(None, vec![entry(2, 1, 900)])]).unwrap_err();
    disk.kill();
    let mut expected = model_of(&open_sound(&disk));
    assert_eq!(expected.log.len(), 2, "the cache holds the batch");
    disk.crash();
    assert_eq!(model_of(&open_sound(&disk)), expected);

    for nth in 1..=2 {
        let mut opened = open_sound(&disk);
        let state = hard_state(expected.hard_state.term.0 + 1, 3);
        disk.fail_nth(Sync, nth);
        opened.wal.persist(&[persist(Some(state), vec![])]).unwrap_err();
        disk.kill();
        expected.hard_state = open_sound(&disk).recovered.hard_state;
        disk.crash();
        disk.alter("term", if nth == 1 { 20 } else { 4116 }, &[0xff]);
        assert_eq!(model_of(&open_sound(&disk)), expected, "the fsync of slot {nth} failed");
        disk.kill();
    }
}

/// Mutant: recovery does not sync the log's folder.
#[test]
fn a_name_that_a_killed_process_left_is_made_durable_before_it_is_used() {
    use raftkv::disk::DiskOperation::SyncDir;
    let disk = disk_with(3, 600);
    let job = open_sound(&disk).wal.wants_segment().unwrap();
    disk.fail_nth(SyncDir, 1);
    assert!(job.run(&*disk.attach(), Pace::AtOnce).is_err());
    drop(job);
    disk.kill();
    let mut opened = open_sound(&disk);
    assert!(disk.files().contains(&"wal/0000000000000002.seg".to_string()));
    opened.wal.persist(&[persist(None, vec![entry(4, 1, 600)])]).unwrap();
    disk.crash();
    assert_eq!(model_of(&open_sound(&disk)).log.len(), 4);
}
