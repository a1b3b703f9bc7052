//! What a log was before it was damaged, and the one question of the tests on damage: does what a start makes of it
//! ever differ from that without saying so?

use std::collections::BTreeMap;

use raftkv::base::{Entry, LogIndex};
use raftkv::disk::{MemoryDisk, Offered, OpenError, Opened};

use crate::support::*;

/// A directory in which everything was acknowledged.
pub struct Truth {
    pub disk: MemoryDisk,
    pub model: Model,
    files: BTreeMap<String, Vec<u8>>,
}

/// How often a start did what.
#[derive(Debug, Default)]
pub struct Tally {
    /// All of it is there, and it knows.
    pub sound: usize,
    /// Entries are missing, or bytes were wrong; all was put back, to the last bit.
    pub repaired: usize,
    /// The same, but it can't rule out that the log went on.
    pub uncertain: usize,
    pub refused: usize,
}

impl Tally {
    pub fn total(&self) -> usize {
        self.sound + self.repaired + self.uncertain + self.refused
    }
}

fn files(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    disk.files().into_iter().filter_map(|name| Some((name.clone(), disk.contents(&name)?))).collect()
}

impl Truth {
    /// Takes what is on `disk` for the truth.
    pub fn of(disk: MemoryDisk) -> Truth {
        let model = model_of(&open_sound(&disk));
        disk.kill();
        Truth { model, files: files(&disk), disk }
    }

    /// A log with runs of several records and terms, over two segments: three batches of a block each in the first.
    pub fn of_two_segments() -> Truth {
        let disk = disk_with(0, 0);
        let mut wal = open_sound(&disk).wal;
        for (term, entries) in [
            (1, vec![(1, 40), (2, 700), (3, 30)]),
            (2, vec![(4, 600)]),
            (2, vec![(5, 0), (6, 450)]),
            (2, vec![(7, 300)]),
            (3, vec![(8, 900), (9, 20)]),
        ] {
            let entries = entries.into_iter().map(|(index, bytes)| entry(index, term, bytes)).collect();
            wal.persist(&[persist(Some(hard_state(term, 1)), entries)]).unwrap();
        }
        disk.kill();
        Truth::of(disk)
    }

    pub fn bytes(&self, file: &str) -> &[u8] {
        &self.files[file]
    }

    pub fn entry(&self, index: LogIndex) -> &Entry {
        &self.model.log[index.0 as usize - 1]
    }

    /// Starts on what became of the directory. Whatever the verdict, nothing wrong is read, and nothing is gone
    /// without a word; a suspect node gets back what it misses, and is then as if nothing had happened.
    pub fn check(&self, disk: &MemoryDisk, what: &str, tally: &mut Tally) {
        let before = files(disk);
        let opened = match open(disk) {
            Err(OpenError::Damaged(_)) => {
                assert!(files(disk) == before, "{what}: a start that was refused changed the disk");
                tally.refused += 1;
                return;
            }
            Err(other) => panic!("{what}: {other}"),
            Ok(opened) => opened,
        };
        self.check_log(&opened, what);
        let damage = opened.recovered.damage.clone();
        assert_eq!(disk.contents("suspect").is_some(), damage.suspect, "{what}: the mark");
        if !damage.suspect {
            assert!(files(disk) == self.files, "{what}: it says that it is sound");
            tally.sound += 1;
            return;
        }
        self.refill(opened, disk, what);
        if damage.end_uncertain {
            tally.uncertain += 1;
        } else {
            assert!(files(disk) == self.files, "{what}: it was repaired, and is not as it was");
            tally.repaired += 1;
        }
    }

    /// What was recovered is the truth, as far as it goes and but for what it says is missing.
    pub fn check_log(&self, opened: &Opened, what: &str) {
        let (log, damage) = (&opened.recovered.log, &opened.recovered.damage);
        assert_eq!(opened.recovered.hard_state, self.model.hard_state, "{what}");
        let last = self.model.log.len() as u64;
        assert!(damage.end_uncertain || log.last_index.0 == last, "{what}: it ends at {}, in silence", log.last_index);
        assert!(log.last_index.0 <= last, "{what}: something was invented");
        assert!(damage.suspect || damage.missing.is_empty() && !damage.end_uncertain, "{what}: {damage:?}");
        assert!(damage.missing.is_sorted_by(|a, b| a.index < b.index), "{what}: {damage:?}");
        for index in (1..=log.last_index.0).map(LogIndex) {
            let truth = self.entry(index);
            let run = log.term_runs.iter().rfind(|(first, _)| *first <= index);
            assert_eq!(run.map(|(_, term)| *term), Some(truth.term), "{what}: the term of entry {index}");
            let read = opened.reader.read(index, index, 0).unwrap_or_else(|error| panic!("{what}: {error}"));
            match damage.missing.iter().find(|missing| missing.index == index) {
                Some(missing) => {
                    assert_eq!(missing.term, truth.term, "{what}");
                    let checksum = missing.checksum.unwrap_or(crc32fast::hash(&truth.data));
                    assert_eq!(checksum, crc32fast::hash(&truth.data), "{what}");
                    assert_eq!(read, [], "{what}: entry {index} is missing");
                }
                None => assert_eq!(read, std::slice::from_ref(truth), "{what}"),
            }
        }
        let held = log.last_index.0 - log.entries.len() as u64;
        let missing = damage.missing.last().map_or(0, |missing| missing.index.0);
        assert!(log.entries[..] == self.model.log[held as usize..log.last_index.0 as usize], "{what}: in memory");
        assert!(held >= missing, "{what}: what is in memory is not behind entry {missing}, which is missing");
    }

    /// Gives a suspect node what it misses, restarting it before the mark goes and after.
    pub fn refill(&self, mut opened: Opened, disk: &MemoryDisk, what: &str) {
        for missing in opened.repairer.missing() {
            let mut wrong = self.entry(missing.index).clone();
            wrong.term = wrong.term.next();
            assert_eq!(opened.repairer.offer(&wrong).unwrap(), Offered::Other, "{what}");
            let offered =
                opened.repairer.offer(self.entry(missing.index)).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(matches!(offered, Offered::Kept | Offered::Repaired(_)), "{what}");
        }
        assert_eq!(opened.repairer.missing(), [], "{what}");
        disk.crash();
        let mut again = open(disk).unwrap_or_else(|error| panic!("{what}: refused after the repair: {error}"));
        self.check_log(&again, what);
        let damage = &again.recovered.damage;
        assert!(damage.suspect && damage.missing.is_empty(), "{what}: before the mark is cleared: {damage:?}");
        again.repairer.clear_mark().unwrap();
        disk.crash();
        let sound = open(disk).unwrap_or_else(|error| panic!("{what}: refused when all was done: {error}"));
        assert_eq!(sound.recovered.damage, raftkv::raft::Damage::default(), "{what}");
        let found = model_of(&sound);
        assert!(self.model.log.starts_with(&found.log), "{what}");
    }
}
