//! Runs seeds: one with everything shown, or many on all cores, and says what came of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::checkers::{Verdict, Violation};
use super::faults::Tally;
use super::plan::Load;
use super::shrink::{Cuts, shrink};
use super::trace::Readers;
use super::world::World;

/// So many failing seeds of a run are shrunk: each costs some thirty runs, and more are not read.
const SHRUNK_MAX: usize = 3;

/// What one run came to.
pub struct Ran {
    pub world: World,
    pub verdict: Verdict,
}

/// The property that production code sees to itself.
pub const ASSERTIONS: &str = "no assertion fails";

thread_local! {
    /// What the last panic of this thread said.
    static PANIC: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// Assertions of production code are caught: they fail the seed, not the simulator.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANIC.with(|kept| *kept.borrow_mut() = panic.to_string());
    }));
}

pub fn run(seed: u64, load: Load, readers: Readers) -> Ran {
    run_with_less(seed, load, readers, &Cuts::default())
}

fn run_with_less(seed: u64, load: Load, readers: Readers, cuts: &Cuts) -> Ran {
    let mut world = World::new(seed, load, readers, cuts);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    let verdict = ran.unwrap_or_else(|_| {
        let what = PANIC.with(|kept| kept.borrow().clone());
        Err(Violation { property: ASSERTIONS, what })
    });
    Ran { world, verdict }
}

/// Shows every event of `seed`; the last line is the hash of the trace.
pub fn one(seed: u64, load: Load, cuts: &Cuts) -> ExitCode {
    keep_panics();
    let Ran { world, verdict } = run_with_less(seed, load, Readers::Console, cuts);
    println!("{:#?}", world.plan);
    print!("{}", world.tally);
    println!("asked {}, answered {}, refused {}", world.asked, world.answered, world.refused);
    if let Err(violation) = &verdict {
        println!("seed {seed} FAILED: {violation}");
    }
    println!("{:016x}", world.trace.hash());
    if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Total {
    seeds: u64,
    failed: Vec<u64>,
    simulated: Duration,
    asked: u64,
    answered: u64,
    events: u64,
    elections: u64,
    tally: Tally,
    hash: u64,
}

/// Runs `seeds` seeds from `from` on. `twice`: each is run again, and must do the same.
pub fn many(seeds: u64, from: u64, load: Load, twice: bool) -> ExitCode {
    keep_panics();
    let begun = Instant::now();
    let next = AtomicU64::new(from);
    let total = Mutex::new(Total::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    run_seed(seed, load, twice, &total);
                }
            });
        }
    });
    let total = total.into_inner().expect("no thread has panicked");
    report(&total, begun.elapsed(), cores, twice)
}

fn run_seed(seed: u64, load: Load, twice: bool, total: &Mutex<Total>) {
    let ran = run(seed, load, Readers::None);
    let mut verdict = ran.verdict;
    if twice && verdict.is_ok() {
        let again = run(seed, load, Readers::None).world.trace.hash();
        if again != ran.world.trace.hash() {
            let what = format!("its trace was {:016x}, and then {again:016x}", ran.world.trace.hash());
            verdict = Err(Violation { property: "one seed is one run", what });
        }
    }
    if let Err(violation) = &verdict {
        let is_shrunk = total.lock().expect("no thread has panicked").failed.len() < SHRUNK_MAX;
        show_failure(seed, load, violation, is_shrunk);
    }
    let mut total = total.lock().expect("no thread has panicked");
    total.seeds += 1;
    total.simulated += Duration::from_nanos(ran.world.now);
    total.asked += ran.world.asked;
    total.answered += ran.world.answered;
    total.events += ran.world.trace.events();
    total.elections += ran.world.checks.leaders.count() as u64;
    total.tally.merge(&ran.world.tally);
    // In whatever order the seeds are done.
    total.hash ^= ran.world.trace.hash().rotate_left((seed % 64) as u32);
    if verdict.is_err() {
        total.failed.push(seed);
    }
}

fn show_failure(seed: u64, load: Load, violation: &Violation, is_shrunk: bool) {
    let busy = if load == Load::Busy { " --busy" } else { "" };
    let mut text = format!("\nseed {seed} FAILED: {violation}\nto repeat it: tools/sim --seed {seed}{busy}\n");
    let mut again = run(seed, load, Readers::OfAFailure);
    let is_it = |ran: &Ran| ran.verdict.as_ref().is_err_and(|other| other.property == violation.property);
    if is_shrunk && is_it(&again) {
        let fails = |cuts: &Cuts| is_it(&run_with_less(seed, load, Readers::None, cuts));
        let cuts = shrink(&again.world.plan, fails);
        again = run_with_less(seed, load, Readers::OfAFailure, &cuts);
        let plan = &again.world.plan;
        text += &format!("with less in it: tools/sim --seed {seed}{busy}{cuts}\n");
        text += &format!(
            "what is left: {} nodes, {} clients, {:?}, {:?}\n",
            plan.nodes, plan.clients, plan.nemeses, plan.network
        );
        text +=
            &again.verdict.as_ref().map_or_else(|violation| format!("it breaks so: {violation}\n"), |_| String::new());
    }
    text += "the last events:\n";
    for line in again.world.trace.lines() {
        text.push_str(line);
        text.push('\n');
    }
    print!("{text}");
}

fn report(total: &Total, elapsed: Duration, cores: usize, twice: bool) -> ExitCode {
    let runs = if twice { 2 } else { 1 };
    let simulated = total.simulated * runs;
    let ratio = simulated.as_secs_f64() / elapsed.as_secs_f64();
    println!("faults:\n{}", total.tally);
    println!(
        "{} seeds, {:.1} simulated hours, {} of {} operations answered ({:.1} a simulated second), {} elections, {} events",
        total.seeds,
        total.simulated.as_secs_f64() / 3600.0,
        total.answered,
        total.asked,
        total.answered as f64 / total.simulated.as_secs_f64(),
        total.elections,
        total.events
    );
    // Of the processor's time, so that the figure is the same on a machine that has something else to do.
    let spent = processor_seconds();
    println!(
        "{:.1} s on {cores} cores{}: {ratio:.0} times real time; {spent:.1} s of a processor: {:.0} times real time a core",
        elapsed.as_secs_f64(),
        if twice { ", each seed twice" } else { "" },
        simulated.as_secs_f64() / spent
    );
    let never = total.tally.never();
    let complete = !twice || never.is_empty();
    if !complete {
        let names: Vec<&str> = never.iter().map(|fault| fault.name()).collect();
        println!("FAILED: never happened: {}", names.join(", "));
    }
    let failed = total.failed.len() as u64;
    if failed > 0 {
        println!("FAILED seeds: {:?}", total.failed);
    }
    println!("{} passed, {failed} failed, trace {:016x}", total.seeds - failed, total.hash);
    if failed == 0 && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What this process has used so far, all its threads together.
fn processor_seconds() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}
