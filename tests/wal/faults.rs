//! SAFETY 35, 36: every operation that can fail fails once, at every place; the error latches, and the next start is
//! sound.

use raftkv::base::Random;
use raftkv::disk::{DiskOperation, MemoryDisk, WalError};
use raftkv::raft::MissingEntry;

use crate::support::*;

/// A life with starts, rollovers, replaced entries and new terms, on a disk that already has a log. `false`: nothing
/// failed.
fn live(disk: &MemoryDisk, model: &mut Model, what: &str) -> Option<Vec<Model>> {
    let mut opened = match open(disk) {
        Ok(opened) => opened,
        Err(_) => return Some(vec![model.clone()]),
    };
    let batch = work(&mut opened, model, &mut Random::new(3), 12)?;
    let performed = |operation| disk.performed(operation);
    let before: Vec<_> = DiskOperation::ALL.into_iter().map(performed).collect();
    for _ in 0..3 {
        match opened.wal.persist(&[persist(None, vec![])]) {
            Err(WalError::Stopped(_)) => {}
            other => panic!("{what}: after an error it went on: {other:?}"),
        }
        assert!(opened.wal.wants_segment().is_none());
    }
    let after: Vec<_> = DiskOperation::ALL.into_iter().map(performed).collect();
    assert_eq!(before, after, "{what}: after an error it touched the disk");
    Some(model.outcomes_of(&batch))
}

fn check(disk: &MemoryDisk, possible: &[Model], what: &str) {
    disk.kill();
    let opened = open(disk).unwrap_or_else(|error| panic!("{what}: the next start was refused: {error}"));
    let found = model_of(&opened);
    assert!(possible.contains(&found), "{what}: something acknowledged is gone, or something else is there");
    disk.crash();
    assert_eq!(model_of(&open_sound(disk)), found, "{what}: what the next start reported was not durable");
}

fn fail_everywhere(operation: DiskOperation, fail: impl Fn(&MemoryDisk, u64)) {
    let base = disk_with(2, 700);
    let base_model = model_of(&open_sound(&base.fork()));
    for nth in 1.. {
        assert!(nth < 500, "it never ends");
        let (disk, mut model) = (base.fork(), base_model.clone());
        let before = disk.performed(operation);
        fail(&disk, nth);
        let what = format!("{operation:?} {nth}");
        let Some(possible) = live(&disk, &mut model, &what) else {
            assert!(disk.performed(operation) - before < nth, "{what} failed, and nobody took notice");
            assert!(nth > 1 || operation == DiskOperation::Remove, "{operation:?} never happened");
            return;
        };
        check(&disk, &possible, &what);
    }
}

#[test]
fn every_operation_that_fails_stops_the_wal_and_the_next_start_is_sound() {
    for operation in DiskOperation::ALL.into_iter().filter(|operation| *operation != DiskOperation::Read) {
        fail_everywhere(operation, |disk, nth| disk.fail_nth(operation, nth));
    }
}

/// What can't be read the second time either is damage; once is nothing.
#[test]
fn a_read_that_fails_once_refuses_the_start_or_changes_nothing() {
    let base = disk_with(4, 700);
    let expected = model_of(&open_sound(&base.fork()));
    let mut started = 0;
    for nth in 1..60 {
        let disk = base.fork();
        disk.fail_nth(DiskOperation::Read, nth);
        match open(&disk) {
            Ok(opened) => {
                started += 1;
                assert_eq!(opened.recovered.damage, raftkv::raft::Damage::default(), "read {nth}");
            }
            Err(raftkv::disk::OpenError::Io(_)) => {}
            Err(other) => panic!("read {nth}: {other}"),
        }
        disk.kill();
        assert_eq!(model_of(&open_sound(&disk)), expected, "read {nth}");
    }
    assert!(started > 10, "{started}");
}

/// What a start has read is not overwritten with what stands for damage because it can't be read once more.
#[test]
fn a_sector_that_can_not_be_read_for_a_while_is_never_lost_in_silence() {
    let sound = disk_with(4, 700);
    let damaged = sound.fork();
    damaged.alter("wal/0000000000000001.seg", 2 * 4096 + 512 + 9, &[0xff, 0, 0xff]);
    open_sound(&damaged);
    damaged.kill();
    for (base, what) in [(sound, "sound"), (damaged, "damaged")] {
        let before = open_sound(&base.fork()).recovered.damage;
        for nth in 1..80 {
            let disk = base.fork();
            disk.fail_nth(DiskOperation::Read, nth);
            disk.fail_nth(DiskOperation::Read, nth + 1);
            let said = open(&disk).map_or(before.clone(), |opened| opened.recovered.damage);
            disk.kill();
            let found = open_sound(&disk).recovered.damage;
            let was_said = |lost: &MissingEntry| said.missing.iter().any(|missing| missing.index == lost.index);
            assert!(found.missing.iter().all(was_said), "{what}, read {nth}: {said:?}, and then {found:?}");
            assert!(said.end_uncertain || !found.end_uncertain, "{what}, read {nth}: {said:?}, and then {found:?}");
        }
    }
}

#[test]
fn every_write_that_is_short_stops_the_wal_and_the_next_start_is_sound() {
    for written in [1, 300, 512, 700, 1024, 4095] {
        fail_everywhere(DiskOperation::Write, |disk, nth| disk.shorten_nth_write(nth, written));
    }
}

#[test]
fn a_first_start_that_fails_anywhere_leaves_a_directory_that_starts() {
    for operation in DiskOperation::ALL {
        for nth in 1..20 {
            let disk = MemoryDisk::new();
            disk.fail_nth(operation, nth);
            let _ = open(&disk);
            check(&disk, &[Model::default()], &format!("{operation:?} {nth}"));
        }
    }
}

#[test]
fn a_full_disk_does_not_keep_a_node_from_starting() {
    for entries in [0, 1, 3] {
        let disk = disk_with(entries, 700);
        let expected = model_of(&open_sound(&disk.fork()));
        (1..9).for_each(|nth| disk.fail_nth(DiskOperation::Create, nth));
        assert_eq!(model_of(&open_sound(&disk)), expected);
    }
}

#[test]
fn a_full_disk_does_not_keep_a_node_from_starting_that_has_the_mark_already() {
    let disk = disk_with(2, 700);
    disk.alter("wal/0000000000000001.seg", 4096 + 512 + 9, &[0xff, 0, 0xff]);
    let damage = open_sound(&disk).recovered.damage;
    disk.kill();
    disk.set_capacity(disk.used_bytes());
    assert_eq!(open_sound(&disk).recovered.damage, damage);
}

#[test]
fn with_nothing_to_write_there_is_no_system_call() {
    let disk = disk_with(1, 10);
    let mut opened = open_sound(&disk);
    let calls = || DiskOperation::ALL.into_iter().map(|operation| disk.performed(operation)).sum::<u64>();
    let before = calls();
    opened.wal.persist(&[]).unwrap();
    opened.wal.persist(&[persist(None, vec![]), persist(Some(hard_state(1, 1)), vec![])]).unwrap();
    assert_eq!(calls(), before);
}

#[test]
fn what_is_queued_costs_one_write_and_one_sync() {
    let disk = disk_with(0, 0);
    let mut opened = open_sound(&disk);
    let batch: Vec<_> = (1..=20).map(|index| persist(None, vec![entry(index, 1, 100)])).collect();
    let count = || (disk.performed(DiskOperation::Write), disk.performed(DiskOperation::Sync));
    let before = count();
    opened.wal.persist(&batch).unwrap();
    assert_eq!(count(), (before.0 + 1, before.1 + 1));
}
