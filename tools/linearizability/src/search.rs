//! Looks for an order of one partition's operations that explains their answers: Wing and Gong's search, depth first,
//! with Lowe's memory of what was tried. What comes next must have been invoked before the first answer among those
//! that are left; that one is the *blocker*. What keeps the search small, and why no order is missed:
//!
//! - **A read that fits is placed at once.** It changes nothing, so that any order of the rest still stands behind it.
//! - **Open writes are placed only to make an answer fit**, right before the operation that would not fit without. An
//!   order in which one stands elsewhere can be changed into such a one: it may always move back, past all that fits
//!   without it, and what is overwritten before it is seen may as well never have happened.
//! - **Only what the blocker depends on is tried**: the operations of its key, with the pages that can come next and
//!   cover it, and then all the keys of those. Others commute with these (a persistent set; Godefroid:
//!   "Partial-order methods for the verification of concurrent systems", 1996).
//! - **A configuration is not tried if an easier one was**: with the same writes placed and the same state, but all of
//!   its reads placed too and no other open writes used. The easier one, for which no order was found, could have taken
//!   any order of this one.
//! - **Values that no get left will find are one.** A delete that needs its key to be there takes an open put of such
//!   a value, if there is one: it serves nothing else.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::Limits;
use crate::history::{History, Operation, Record};
use crate::model::{ABSENT, Kind, Page, Partition, UNREAD, Value};
use crate::violation::{Stuck, Violation};
use crate::window::{Packed, Window};

/// Shown of the longest order.
const LAST_SHOWN: usize = 12;

/// Places all operations of the partition, or says why that is not possible. `steps` counts on over partitions.
pub fn run(history: &History, partition: &Partition, limits: Limits, steps: &mut u64) -> Result<(), Violation> {
    let mut search = Search::new(partition, limits);
    let end = search.run(steps);
    let mut stuck = || Box::new(search.stuck(history));
    match end {
        End::Found => Ok(()),
        End::None => Err(Violation::NotLinearizable(stuck())),
        End::Limit(limit) => Err(Violation::Undecided { limit, stuck: stuck() }),
    }
}

enum End {
    Found,
    None,
    Limit(String),
}

/// What is done next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Place(usize),
    /// An open write takes effect so that a step can come next; another may be needed for it.
    Enable {
        open: usize,
        step: usize,
    },
}

/// What a move did, to be taken back.
#[derive(Clone, Copy, Debug)]
enum Change {
    Placed(usize),
    Used(usize),
    Held { key: usize, before: Value },
}

/// A configuration that was entered: what can be done in it, and what of that was.
struct Frame {
    moves: Vec<Move>,
    next: usize,
    /// How long the trail was before.
    trail: usize,
}

/// What was tried with the same writes and state.
struct Tried {
    reads: Packed,
    used: Packed,
}

struct Search<'a> {
    partition: &'a Partition,
    limits: Limits,
    /// The steps not placed, by time of invocation, as a ring; the last place is its head.
    after: Vec<usize>,
    before: Vec<usize>,
    writes: Window,
    reads: Window,
    used: Window,
    state: Vec<Value>,
    gets_left: Vec<u32>,
    placed: usize,
    trail: Vec<Change>,
    frames: Vec<Frame>,
    tried: HashMap<Box<[u64]>, Vec<Tried>>,
    tried_bytes: usize,
    name: Vec<u64>,
    /// The trail on which most operations were placed, and how much of it is that of now.
    longest_trail: Vec<Change>,
    longest: usize,
    longest_shared: usize,
}

impl<'a> Search<'a> {
    fn new(partition: &'a Partition, limits: Limits) -> Search<'a> {
        let head = partition.steps.len();
        Search {
            partition,
            limits,
            after: (1..=head).chain([0]).collect(),
            before: [head].into_iter().chain(0..head).collect(),
            writes: Window::new(partition.writes),
            reads: Window::new(partition.reads),
            used: Window::new(partition.open.len()),
            state: vec![ABSENT; partition.keys.len()],
            gets_left: partition.gets_of_value.clone(),
            placed: 0,
            trail: Vec::new(),
            frames: Vec::new(),
            tried: HashMap::new(),
            tried_bytes: 0,
            name: Vec::new(),
            longest_trail: Vec::new(),
            longest: 0,
            longest_shared: 0,
        }
    }

    fn run(&mut self, steps: &mut u64) -> End {
        self.enter(None, steps);
        while self.placed < self.partition.steps.len() {
            if *steps > self.limits.steps_max {
                return End::Limit(format!("more than {} steps were tried", self.limits.steps_max));
            }
            if self.tried_bytes > self.limits.memory_bytes_max {
                return End::Limit(format!("more than {} bytes are remembered", self.limits.memory_bytes_max));
            }
            let Some(frame) = self.frames.last_mut() else { return End::None };
            let Some(next) = frame.moves.get(frame.next).copied() else {
                let trail = frame.trail;
                self.frames.pop();
                self.keep_longest();
                self.take_back(trail);
                continue;
            };
            frame.next += 1;
            self.enter(Some(next), steps);
        }
        End::Found
    }

    /// Makes a move, places the reads that fit then, and finds what may follow.
    fn enter(&mut self, by: Option<Move>, steps: &mut u64) {
        let trail = self.trail.len();
        let moves = match by {
            Some(Move::Enable { open, step }) => {
                *steps += 1;
                self.make_use(open);
                self.moves_to(step)
            }
            by => {
                if let Some(Move::Place(step)) = by {
                    *steps += 1;
                    self.place(step);
                }
                *steps += self.place_reads();
                if self.was_tried() { Vec::new() } else { self.moves() }
            }
        };
        self.frames.push(Frame { moves, next: 0, trail });
    }

    // ---- the state and its changes -------------------------------------------------------------------------

    fn hold(&mut self, key: usize, value: Value) {
        self.trail.push(Change::Held { key, before: self.state[key] });
        self.state[key] = value;
    }

    fn make_use(&mut self, open: usize) {
        self.used.insert(open);
        self.trail.push(Change::Used(open));
        self.hold(self.partition.open[open].key, self.partition.open[open].value);
    }

    fn place(&mut self, at: usize) {
        let step = &self.partition.steps[at];
        (self.after[self.before[at]], self.before[self.after[at]]) = (self.after[at], self.before[at]);
        self.placed += 1;
        self.trail.push(Change::Placed(at));
        if step.kind.is_write() { &mut self.writes } else { &mut self.reads }.insert(step.ordinal);
        match step.kind {
            Kind::Put { key, value } => self.hold(key, value),
            Kind::Delete { key } => self.hold(key, ABSENT),
            Kind::Get { value, .. } => self.gets_left[value] -= 1,
            Kind::Absent { .. } | Kind::List(_) => {}
        }
    }

    fn keep_longest(&mut self) {
        if self.placed > self.longest {
            self.longest = self.placed;
            self.longest_trail.truncate(self.longest_shared);
            self.longest_trail.extend_from_slice(&self.trail[self.longest_shared..]);
            self.longest_shared = self.trail.len();
        }
    }

    fn take_back(&mut self, trail: usize) {
        self.longest_shared = self.longest_shared.min(trail);
        while self.trail.len() > trail {
            match self.trail.pop() {
                Some(Change::Held { key, before }) => self.state[key] = before,
                Some(Change::Used(open)) => self.used.remove(open),
                Some(Change::Placed(at)) => self.take_back_step(at),
                None => {}
            }
        }
    }

    fn take_back_step(&mut self, at: usize) {
        let step = &self.partition.steps[at];
        // Its neighbours are those it had when it was placed, since what came later was taken back earlier.
        (self.after[self.before[at]], self.before[self.after[at]]) = (at, at);
        self.placed -= 1;
        if step.kind.is_write() { &mut self.writes } else { &mut self.reads }.remove(step.ordinal);
        if let Kind::Get { value, .. } = step.kind {
            self.gets_left[value] += 1;
        }
    }

    // ---- what may come next --------------------------------------------------------------------------------

    /// Gives `visit` the steps that may come next, by time of invocation, and gives the blocker.
    fn candidates(&self, mut visit: impl FnMut(usize)) -> Option<usize> {
        let head = self.partition.steps.len();
        let (mut at, mut blocker) = (self.after[head], None);
        let mut until_ns = u64::MAX;
        // Behind a step that was invoked after an answer, all were, and none has an earlier answer.
        while at != head && self.partition.steps[at].invoked_ns <= until_ns {
            let step = &self.partition.steps[at];
            if step.completed_ns < until_ns {
                (until_ns, blocker) = (step.completed_ns, Some(at));
            }
            at = self.after[at];
        }
        let mut at = self.after[head];
        while at != head && self.partition.steps[at].invoked_ns <= until_ns {
            visit(at);
            at = self.after[at];
        }
        blocker
    }

    /// Places the reads that fit, and gives how many they were.
    fn place_reads(&mut self) -> u64 {
        let (mut count, mut fitting) = (0, Vec::new());
        loop {
            fitting.clear();
            self.candidates(|at| {
                let step = &self.partition.steps[at];
                if !step.kind.is_write() && self.fits(&step.kind) {
                    fitting.push(at);
                }
            });
            if fitting.is_empty() {
                return count;
            }
            count += fitting.len() as u64;
            fitting.iter().for_each(|at| self.place(*at));
        }
    }

    fn fits(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Put { .. } => true,
            Kind::Delete { key } => self.state[*key] != ABSENT,
            Kind::Absent { key } => self.state[*key] == ABSENT,
            Kind::Get { key, value } => self.state[*key] == *value,
            Kind::List(page) => {
                let is_there = |key: usize| self.state[key] != ABSENT;
                page.present.iter().all(|key| is_there(*key))
                    && !page.absent().any(is_there)
                    && page.rest.clone().is_none_or(|mut rest| rest.any(is_there))
            }
        }
    }

    fn moves(&self) -> Vec<Move> {
        let mut candidates = Vec::new();
        let Some(blocker) = self.candidates(|at| candidates.push(at)) else { return Vec::new() };
        self.keep_dependent(blocker, &mut candidates);
        candidates.sort_by_key(|at| (self.partition.steps[*at].rank, *at));
        candidates.iter().flat_map(|at| self.moves_to(*at)).collect()
    }

    /// Drops what commutes with all that the blocker depends on.
    fn keep_dependent(&self, blocker: usize, candidates: &mut Vec<usize>) {
        if self.partition.keys.len() == 1 {
            return;
        }
        let kind = |at: usize| &self.partition.steps[at].kind;
        let mut dependent = vec![false; self.partition.keys.len()];
        kind(blocker).keys().for_each(|key| dependent[key] = true);
        let mut pages: Vec<usize> = candidates.clone();
        pages.retain(|at| matches!(kind(*at), Kind::List(_)));
        loop {
            let count = pages.len();
            pages.retain(|at| {
                let depends = kind(*at).keys().any(|key| dependent[key]);
                if depends {
                    kind(*at).keys().for_each(|key| dependent[key] = true);
                }
                !depends
            });
            if pages.len() == count {
                break;
            }
        }
        candidates.retain(|at| kind(*at).keys().any(|key| dependent[key]));
    }

    /// The step itself if it fits, else the open writes that bring it nearer to that.
    fn moves_to(&self, at: usize) -> Vec<Move> {
        let kind = &self.partition.steps[at].kind;
        if self.fits(kind) {
            return vec![Move::Place(at)];
        }
        let opens = match kind {
            Kind::Put { .. } => Vec::new(),
            Kind::Delete { key } => {
                let mut puts = self.open_puts(*key);
                puts.truncate(if puts.first().is_some_and(|put| self.value_of(*put) == UNREAD) {
                    1
                } else {
                    puts.len()
                });
                puts
            }
            Kind::Absent { key } => self.open_of(*key, ABSENT).into_iter().collect(),
            Kind::Get { key, value } => self.open_of(*key, *value).into_iter().collect(),
            Kind::List(page) => self.open_for_page(page),
        };
        opens.into_iter().map(|open| Move::Enable { open, step: at }).collect()
    }

    /// For the first of the page's keys that is not as it says.
    fn open_for_page(&self, page: &Page) -> Vec<usize> {
        if let Some(key) = page.present.iter().find(|key| self.state[**key] == ABSENT) {
            return self.open_puts(*key);
        }
        if let Some(key) = page.absent().find(|key| self.state[*key] != ABSENT) {
            return self.open_of(key, ABSENT).into_iter().collect();
        }
        page.rest.clone().into_iter().flatten().flat_map(|key| self.open_puts(key)).collect()
    }

    /// What an open write leaves, as far as anything left can tell.
    fn value_of(&self, open: usize) -> Value {
        self.told_apart(self.partition.open[open].value)
    }

    fn told_apart(&self, value: Value) -> Value {
        if value == ABSENT || self.gets_left[value] > 0 { value } else { UNREAD }
    }

    /// The open writes of a key that may take effect now, by time of invocation.
    fn open_now(&self, key: usize) -> impl Iterator<Item = usize> {
        let until_ns = self.candidates(|_| ()).map_or(u64::MAX, |at| self.partition.steps[at].completed_ns);
        let open = &self.partition.open;
        let invoked = self.partition.open_of_key[key].iter().take_while(move |at| open[**at].invoked_ns <= until_ns);
        invoked.copied().filter(|at| !self.used.contains(*at))
    }

    /// The first open write that leaves the value; another would do the same, and is as good later.
    fn open_of(&self, key: usize, value: Value) -> Option<usize> {
        self.open_now(key).find(|at| self.partition.open[*at].value == value)
    }

    /// One open put for each value that can be told apart; the others' first.
    fn open_puts(&self, key: usize) -> Vec<usize> {
        let mut puts: Vec<(Value, usize)> =
            self.open_now(key).map(|at| (self.value_of(at), at)).filter(|(value, _)| *value != ABSENT).collect();
        puts.sort_unstable();
        puts.dedup_by_key(|(value, _)| *value);
        puts.into_iter().map(|(_, at)| at).collect()
    }

    // ---- memory --------------------------------------------------------------------------------------------

    /// Whether this configuration, or an easier one, was entered before. If not, it is remembered.
    fn was_tried(&mut self) -> bool {
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        self.writes.write(&mut name);
        name.extend(self.state.iter().map(|value| self.told_apart(*value) as u64));
        let (reads, used) = (&self.reads, &self.used);
        let known = self.tried.get_mut(&name[..]);
        let is_easier = |tried: &Tried| tried.reads.covers(reads) && tried.used.is_within(used);
        if known.as_ref().is_some_and(|known| known.iter().any(is_easier)) {
            self.name = name;
            return true;
        }
        let tried = Tried { reads: reads.pack(), used: used.pack() };
        self.tried_bytes += tried.reads.bytes() + tried.used.bytes();
        match known {
            Some(known) => known.push(tried),
            None => {
                self.tried_bytes += size_of_val(&name[..]) + 64;
                self.tried.insert(name[..].into(), vec![tried]);
            }
        }
        self.name = name;
        false
    }

    // ---- what is said of a failure -------------------------------------------------------------------------

    /// Goes back to the longest order.
    fn stuck(&mut self, history: &History) -> Stuck {
        self.keep_longest();
        self.take_back(0);
        let mut order = Vec::new();
        for change in std::mem::take(&mut self.longest_trail) {
            match change {
                Change::Placed(at) => {
                    self.place(at);
                    order.push(self.partition.steps[at].record);
                }
                Change::Used(open) => {
                    self.make_use(open);
                    order.push(self.partition.open[open].record);
                }
                Change::Held { .. } => {}
            }
        }
        let records = |at: &[usize]| -> Vec<Record> { at.iter().map(|at| history.records()[*at].clone()).collect() };
        let mut next = Vec::new();
        let blocker = self.candidates(|at| next.push(at));
        next.sort_by_key(|at| self.partition.steps[*at].completed_ns);
        let until_ns = blocker.map_or(0, |at| self.partition.steps[at].completed_ns);
        let open = self.partition.open.iter().enumerate();
        let open: Vec<usize> = open
            .filter(|(at, open)| open.invoked_ns <= until_ns && !self.used.contains(*at))
            .map(|(_, open)| open.record)
            .collect();
        Stuck {
            keys: self.partition.keys.clone(),
            placed: self.placed,
            operations: self.partition.steps.len(),
            state: state(&records(&order)),
            last: records(&order[order.len().saturating_sub(LAST_SHOWN)..]),
            next: records(&next.iter().map(|at| self.partition.steps[*at].record).collect::<Vec<_>>()),
            open: records(&open),
        }
    }
}

/// What writes in this order leave.
fn state(order: &[Record]) -> Vec<(Bytes, Bytes)> {
    let mut state = BTreeMap::new();
    for record in order {
        match &record.operation {
            Operation::Put { key, value } => _ = state.insert(key.clone(), value.clone()),
            Operation::Delete { key } => _ = state.remove(key),
            Operation::Get { .. } | Operation::List { .. } => {}
        }
    }
    state.into_iter().collect()
}
