//! The simulator: whole clusters of production code in a made-up world, thousands of hours a day, each run repeatable
//! from one number.
//!
//! It runs the production turns of consensus, wal and background thread, the production sessions, handshakes, queues
//! and codecs, and the production log with its recovery, on a simulated network, disk, clock and process table. Nothing
//! in it takes real time, and every order of completion is drawn from the seed. What no test of a part can find is
//! looked for here: what happens when faults meet.
//!
//! | file | owns |
//! |---|---|
//! | `plan`, `nemesis`, `drills`, `faults` | what a seed has in store; what happens to the world, by chance and on purpose; how often it did |
//! | `world` | time, the order of events, the phases |
//! | `node` | a node's actors around the production code |
//! | `network`, `client` | links and connections as bytes; those who ask |
//! | `disk`, `clock` | what fails below a node |
//! | `damage` | what a disk may lose for good |
//! | `checks`, `checkers` | what must be true, one property a file |
//! | `trace` | what happened, as a hash and as text |
//! | `runs`, `shrink`, `mutants` | one seed, or many; less of one that fails; seeds without a guard, to see who notices |
//!
//! As a test it runs a set number of seeds, each twice, and fails if one breaks a property, if two runs of one seed
//! differ, or if a fault never fired. `tools/sim` runs one seed, or any number. What it does not do: sockets, threads
//! and the system's own calls are not in it; real processes are tested for those.

mod chance;
mod checkers;
mod checks;
mod client;
mod clock;
mod damage;
mod disk;
mod drills;
mod faults;
mod mutants;
mod nemesis;
mod network;
mod node;
mod plan;
mod runs;
mod shrink;
mod trace;
mod world;

use std::process::ExitCode;

use plan::Load;
use shrink::Cuts;

const USAGE: &str = "\
usage: sim [--seed S [--without FAULT,...] [--clients N] | --seeds N [--from S]] [--busy]
       sim --mutants [--guard NAME] [--starts K] [--seeds N] [--from S] [--without-assertions]";

/// Options, and whether something stands behind them.
const OPTIONS: [(&str, bool); 10] = [
    ("--seed", true),
    ("--without", true),
    ("--clients", true),
    ("--seeds", true),
    ("--from", true),
    ("--guard", true),
    ("--starts", true),
    ("--busy", false),
    ("--mutants", false),
    ("--without-assertions", false),
];

/// What cargo and tools that run tests give every test program.
const OF_ANY_TEST: [&str; 9] = [
    "--list",
    "--quiet",
    "-q",
    "--nocapture",
    "--no-capture",
    "--show-output",
    "--ignored",
    "--include-ignored",
    "--exact",
];

/// Seeds of the test command. The same every time: a new one is for the long runs to find.
const TEST_SEEDS: u64 = 200;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = unknown_option(&arguments) {
        eprintln!("{unknown} is no option of the simulator\n{USAGE}");
        return ExitCode::from(2);
    }
    let load = if arguments.iter().any(|argument| argument == "--busy") { Load::Busy } else { Load::Light };
    match Wanted::read(&arguments) {
        Ok(Wanted::One(seed, cuts)) => runs::one(seed, load, &cuts),
        Ok(Wanted::Many { seeds, from, twice: false }) => runs::many(seeds, from, load, false),
        Ok(Wanted::Many { seeds, from, twice: true }) => match runs::many(seeds, from, load, true) {
            ExitCode::SUCCESS => mutants::sample(),
            failed => failed,
        },
        Ok(Wanted::Mutants { seeds, from, starts }) => {
            let only = arguments.iter().position(|argument| argument == "--guard").map(|at| at + 1);
            let only = only.and_then(|at| arguments.get(at)).cloned();
            let asserting = !arguments.iter().any(|argument| argument == "--without-assertions");
            mutants::run(&mutants::Wanted { only, starts, seeds, from, asserting, load })
        }
        Ok(Wanted::List) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// A mistyped option must not run something else than was meant. Words without a dash are names of tests, which cargo
/// passes to every test program.
fn unknown_option(arguments: &[String]) -> Option<&str> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next().map(String::as_str) {
        match OPTIONS.iter().find(|(name, _)| *name == argument) {
            Some((_, has_value)) if *has_value => drop(rest.next()),
            Some(_) => {}
            None if OF_ANY_TEST.contains(&argument) || argument.starts_with("--test-threads") => {}
            None if argument.starts_with('-') => return Some(argument),
            None => {}
        }
    }
    None
}

enum Wanted {
    One(u64, Cuts),
    Many {
        seeds: u64,
        from: u64,
        twice: bool,
    },
    /// Each guard is taken away in turn, and at most so many seeds are asked to notice, from each of so many starts.
    Mutants {
        seeds: u64,
        from: u64,
        starts: u64,
    },
    /// What tools that list tests ask of every test program.
    List,
}

impl Wanted {
    fn read(arguments: &[String]) -> Result<Wanted, String> {
        let number = |name: &str| -> Result<Option<u64>, String> {
            let Some(at) = arguments.iter().position(|argument| argument == name) else { return Ok(None) };
            let text = arguments.get(at + 1).ok_or(format!("{name} needs a number behind it"))?;
            text.parse().map(Some).map_err(|_| format!("{name} needs a number, and {text:?} is none"))
        };
        if arguments.iter().any(|argument| argument == "--list") {
            return Ok(Wanted::List);
        }
        if let Some(seed) = number("--seed")? {
            let without = arguments.iter().position(|argument| argument == "--without").map(|at| at + 1);
            let without = without.and_then(|at| arguments.get(at)).map(String::as_str);
            return Ok(Wanted::One(seed, Cuts::read(without, number("--clients")?.map(|clients| clients as usize))?));
        }
        let from = number("--from")?.unwrap_or(0);
        if arguments.iter().any(|argument| argument == "--mutants") {
            let (seeds, starts) = (number("--seeds")?.unwrap_or(400), number("--starts")?.unwrap_or(5).max(1));
            return Ok(Wanted::Mutants { seeds, from, starts });
        }
        Ok(match number("--seeds")? {
            Some(seeds) => Wanted::Many { seeds, from, twice: false },
            None => Wanted::Many { seeds: TEST_SEEDS, from, twice: true },
        })
    }
}
