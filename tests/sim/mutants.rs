//! Runs seeds without a guard (`raftkv::guard`), until one notices: what the simulator is worth, guard by guard.
//!
//! How many seeds it takes is chance. So each guard is taken away from several starts, and the median counts. Which
//! guards are the simulator's to notice is said in `tests/MUTANTS.md`, whose figures come from here.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use raftkv::guard::{self, Guard};

use super::checkers::Violation;
use super::plan::Load;
use super::runs;
use super::trace::Readers;

const TABLE: &str = include_str!("../MUTANTS.md");
/// From one start to the next.
const SEEDS_APART: u64 = 1_000_000;

pub struct Wanted {
    /// Only this one, the simulator's or not.
    pub only: Option<String>,
    pub starts: u64,
    /// From each start, at most.
    pub seeds: u64,
    pub from: u64,
    /// The nodes' own assertions are checked; else they must be noticed from outside.
    pub asserting: bool,
    pub load: Load,
}

/// What the test command tries: some that are noticed soon, if the checkers are awake.
const SAMPLE: [Guard; 4] =
    [Guard::AckBeforeDurable, Guard::LogNotSynced, Guard::PipelineUnordered, Guard::VoteForShorterLog];
const SAMPLE_SEEDS: u64 = 30;

/// Takes a few guards away, briefly.
pub fn sample() -> ExitCode {
    for guard in SAMPLE {
        let wanted = Wanted {
            only: Some(format!("{guard:?}")),
            starts: 1,
            seeds: SAMPLE_SEEDS,
            from: 0,
            asserting: true,
            load: Load::Light,
        };
        if run(&wanted) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// How soon a guard was missed from one start: after so many seeds. `None`: by none of them.
struct Caught {
    after: Option<u64>,
    /// If the nodes assert nothing.
    after_without: Option<u64>,
    by: String,
}

/// Takes each wanted guard away in turn, and says after how many seeds that was noticed, and by what.
pub fn run(wanted: &Wanted) -> ExitCode {
    runs::keep_panics();
    let guards = wanted.guards();
    if guards.is_empty() {
        println!("there is no such guard; src/guard.rs has them all");
        return ExitCode::FAILURE;
    }
    let starts: Vec<(Guard, u64)> =
        guards.iter().flat_map(|guard| (0..wanted.starts).map(|start| (*guard, start))).collect();
    let (next, missed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done: Mutex<BTreeMap<String, Vec<Caught>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((guard, start)) = starts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let caught = catch(wanted, *guard, wanted.from + start * SEEDS_APART);
                    let mut done = done.lock().expect("no thread has panicked");
                    let of_guard = done.entry(format!("{guard:?}")).or_default();
                    of_guard.push(caught);
                    if of_guard.len() as u64 == wanted.starts && !report(*guard, of_guard, wanted) {
                        missed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner();
    println!("{} of {} caught", guards.len() - missed, guards.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Wanted {
    fn guards(&self) -> Vec<Guard> {
        let is_wanted = |guard: &&Guard| match &self.only {
            Some(only) => format!("{guard:?}") == *only,
            None => is_ours(**guard),
        };
        guard::ALL.iter().filter(is_wanted).copied().collect()
    }
}

/// Whether the table says that the simulator notices.
fn is_ours(guard: Guard) -> bool {
    let name = format!("`{guard:?}`");
    TABLE.lines().any(|line| line.contains(&name) && line.contains("`tools/sim`"))
}

fn catch(wanted: &Wanted, guard: Guard, from: u64) -> Caught {
    let end = from + wanted.seeds;
    let first = |from: u64, asserting: bool| {
        guard::assert_nothing(!asserting);
        let caught = (from..end).find_map(|seed| Some((seed, violation_without(guard, wanted, seed)?)));
        guard::assert_nothing(false);
        caught
    };
    let after = |caught: &Option<(u64, Violation)>| caught.as_ref().map(|(seed, _)| seed - from + 1);
    let caught = first(from, wanted.asserting);
    // What passes while the nodes assert passes without that, too, and so does what is noticed from outside.
    let after_without = match &caught {
        Some((seed, violation)) if wanted.asserting && violation.property == runs::ASSERTIONS => {
            after(&first(*seed, false))
        }
        caught => after(caught),
    };
    let by = caught.as_ref().map_or("nobody".to_string(), |(_, violation)| {
        let what: String = violation.what.lines().next_back().unwrap_or_default().chars().take(150).collect();
        format!("{}: {what}", violation.property)
    });
    Caught { after: after(&caught), after_without, by }
}

/// A seed that fails with the guard, too, has noticed something else.
fn violation_without(guard: Guard, wanted: &Wanted, seed: u64) -> Option<Violation> {
    guard::remove(Some(guard));
    let without = runs::run(seed, wanted.load, Readers::None).verdict.err();
    guard::remove(None);
    without.filter(|_| runs::run(seed, wanted.load, Readers::None).verdict.is_ok())
}

/// One line for a guard; false if more than half of the starts missed it, with the nodes' assertions or without.
fn report(guard: Guard, caught: &mut [Caught], wanted: &Wanted) -> bool {
    let shown = |after: u64| if after > wanted.seeds { format!(">{}", wanted.seeds) } else { after.to_string() };
    let median = caught.len() / 2;
    let mut figures = |after: fn(&Caught) -> Option<u64>| {
        caught.sort_by_key(|caught| after(caught).unwrap_or(u64::MAX));
        let at = |place: usize| after(&caught[place]).unwrap_or(u64::MAX);
        let range = format!("{} ({} to {})", shown(at(median)), shown(at(0)), shown(at(caught.len() - 1)));
        (range, at(median) <= wanted.seeds)
    };
    let (without, is_caught_without) = figures(|caught| caught.after_without);
    let (with, is_caught) = figures(|caught| caught.after);
    println!("{:<28} {with:<18} {without:<18} {}", format!("{guard:?}"), caught[median].by);
    is_caught && is_caught_without
}
