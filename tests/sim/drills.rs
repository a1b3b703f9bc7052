//! Drills: known ways to disaster, walked on purpose, again and again, in a share of the seeds.
//!
//! What it takes for some bugs to show is four or five faults in one order, within a few milliseconds of each other;
//! chance finds that once in thousands of seeds. A drill brings the world to the edge: it says who sees whom, who dies
//! when, and leaves the rest to chance. Sound nodes stand all of them, for a drill is made of nothing but the faults
//! that there are. When one was carried to its end it is counted.
//!
//! | drill | the course of a round | who would fall |
//! |---|---|---|
//! | `Rivals` | a node votes in the sight of one half, dies before that is durable, and comes back in the sight of the other | whoever promises before the disk has it |
//! | `FigureEight` | a leader's entries reach one node; another leader replaces them on the first alone; the one node leads | who calls replaced what may come back, or commits by counting |
//! | `LateForward` | writes that are passed on wait on their way while the leader is replaced, and leads again | who takes what was meant for an earlier term |
//! | `HastyForwarder` | nothing commits for a while, in which a node passes writes on, dies, and passes others on | who takes an answer for that of another request |
//! | `Lease` | a leader that holds a lease is lost, stands still or steps down, and another leads as soon as it can: see `leases` | who reads by a lease that there is not, or keeps no promise |
//! | `BlindPair` | a follower's log loses its end while it is down, it starts twice, and meets one who lags, alone | who forgets that it may have promised more |

mod leases;

use raftkv::base::{Role, Term};

use super::chance::Chance;
use super::disk::Place;
use super::faults::Fault;
use super::nemesis::{Pairs, across};
use super::plan::{MILLI, Nemesis, SECOND};
use super::trace::Kind;
use super::world::{Event, Time, World};

/// Of a forwarder, in a round.
const LIVES: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    Rivals,
    FigureEight,
    LateForward,
    HastyForwarder,
    BlindPair,
    Lease,
}

impl Drill {
    pub const ALL: [Drill; 6] =
        [Drill::Rivals, Drill::FigureEight, Drill::LateForward, Drill::HastyForwarder, Drill::BlindPair, Drill::Lease];

    /// How many nodes it is about.
    pub fn nodes(self) -> usize {
        if self == Drill::FigureEight { 5 } else { 3 }
    }
}

/// How far the drill of a world is. A round has a cast of its own.
#[derive(Default)]
pub struct Course {
    stage: u32,
    /// What was put off until a stage that is over by now does nothing.
    turn: u64,
    /// Whom chance chose, or the votes: what each is for depends on the drill.
    cast: Vec<usize>,
    cut: Pairs,
    /// Requests and answers wait on this way.
    held: Option<(usize, usize)>,
    /// Clients only read.
    pub nobody_writes: bool,
    /// What the round is, in a drill of leases.
    lease_round: Option<leases::Round>,
}

impl Course {
    pub fn holds(&self, from: usize, to: usize) -> bool {
        self.held == Some((from, to))
    }
}

impl World {
    /// One election timeout, the longest.
    fn election(&self) -> Time {
        self.plan.election_timeout_max.as_nanos() as Time
    }

    /// The node that leads the latest term.
    fn leading(&mut self) -> Option<usize> {
        let mut latest: Option<(Term, usize)> = None;
        for at in 0..self.plan.nodes {
            let Some(running) = self.nodes[at].running() else { continue };
            let view = running.replica().view();
            if view.role == Role::Leader && latest.is_none_or(|(term, _)| view.term > term) {
                latest = Some((view.term, at));
            }
        }
        latest.map(|(_, at)| at)
    }

    pub fn on_drill(&mut self, turn: u64) {
        let Some(drill) = self.plan.drill.filter(|_| self.faults_are_on && turn == self.course.turn) else { return };
        self.trace.note(self.now, 0, Kind::Nemesis, u64::from(self.course.stage), format_args!("{drill:?}"));
        match (drill, self.course.stage) {
            (_, 0) => self.begin_round(drill),
            (Drill::HastyForwarder, 1..LIVES) => self.restart_forwarder(),
            (Drill::HastyForwarder, LIVES) => self.carry_out(),
            (Drill::LateForward, 1) => self.depose_first_leader(),
            (Drill::LateForward, 3) => self.depose_second_leader(),
            (Drill::LateForward, 5) => self.carry_out(),
            (Drill::FigureEight, 1) => self.cut_off_first_leader(),
            (Drill::FigureEight, 3) => self.let_third_lead(),
            (Drill::FigureEight, 4) => self.carry_out(),
            (Drill::BlindPair, 1) => self.lose_end_of_log(),
            (Drill::BlindPair, 2) => self.leave_alone_with_laggard(),
            (Drill::BlindPair, 3) => self.carry_out(),
            (Drill::Lease, stage) => self.go_on_with_lease(stage),
            _ => self.end_round(),
        }
    }

    /// The next stage begins in `delay`, unless something leads to another one before.
    fn stage_in(&mut self, stage: u32, delay: Time) {
        self.course.stage = stage;
        self.course.turn += 1;
        let turn = self.course.turn;
        self.schedule(delay, Event::Drill { turn });
    }

    /// From now on these ways, and no others of the drill's, are closed.
    fn cut(&mut self, pairs: Pairs) {
        let before = std::mem::replace(&mut self.course.cut, pairs.clone());
        self.block(&pairs);
        self.unblock(&before);
    }

    fn carry_out(&mut self) {
        self.tally.count(Fault::Drilled);
        self.end_round();
    }

    /// Everybody sees everybody; after a while there is a leader again, and another round begins.
    fn end_round(&mut self) {
        self.cut(Vec::new());
        if let Some((from, to)) = self.course.held.take() {
            self.send_held(from, to);
        }
        self.course.nobody_writes = false;
        let rest = self.random.within(self.election(), 3 * self.election());
        self.stage_in(0, rest);
    }

    fn begin_round(&mut self, drill: Drill) {
        let Some(leader) = self.leading() else { return self.end_round() };
        let mut others: Vec<usize> = (0..self.plan.nodes).filter(|at| *at != leader).collect();
        for at in (1..others.len()).rev() {
            others.swap(at, self.random.index(at + 1));
        }
        let short = self.random.within(20 * MILLI, 300 * MILLI);
        match drill {
            Drill::Rivals => {
                self.course.cast = others;
                self.course.cast.insert(self.random.index(self.plan.nodes), leader);
                let (between, seen, unseen) = self.rivals();
                self.cut(across(&[between, seen], &[unseen]));
                self.kill_for(leader, MILLI);
                self.stage_in(1, 4 * self.election());
            }
            Drill::FigureEight => {
                self.course.cast = [&[leader][..], &others].concat();
                let (helper, rest) = (others[0], &others[1..]);
                let mut cut = across(&[leader, helper], rest);
                cut.push((helper, leader));
                self.cut(cut);
                self.stage_in(1, short);
            }
            Drill::LateForward => {
                self.course.cast = vec![leader, others[0]];
                self.course.held = Some((others[0], leader));
                self.stage_in(1, short);
            }
            Drill::HastyForwarder => {
                self.course.cast = vec![leader, others[0]];
                let stalled = self.stall_in_drill();
                for at in (0..self.plan.nodes).filter(|at| *at != others[0]) {
                    let until = self.now + stalled;
                    self.nodes[at].stalled_until = until;
                    self.stall(at, until);
                }
                self.kill_for(others[0], MILLI);
                self.stage_in(1, stalled / u64::from(LIVES));
            }
            Drill::BlindPair => {
                self.course.cast = vec![leader, others[0], others[1]];
                self.cut(across(&[others[1]], &[leader, others[0]]));
                self.stage_in(1, 100 * MILLI + short);
            }
            Drill::Lease => {
                self.course.cast = [&[leader][..], &others].concat();
                self.begin_with_lease();
            }
        }
    }

    fn kill_for(&mut self, at: usize, delay: Time) {
        self.tally.count(Fault::Killed);
        self.kill(at);
        let epoch = self.nodes[at].epoch;
        self.schedule(delay, Event::Restart { at, epoch });
    }

    /// Something was elected. Some stages wait for it.
    pub fn on_drill_leader(&mut self, at: usize) {
        let Some(drill) = self.plan.drill.filter(|_| self.faults_are_on) else { return };
        if drill == Drill::Lease {
            return self.on_lease_drill_leader(at);
        }
        let cast = &self.course.cast;
        match (drill, self.course.stage) {
            // Before anything of its term leaves: it reaches the first leader alone.
            (Drill::FigureEight, 2) if !cast[..2].contains(&at) => {
                let others: Vec<usize> =
                    (0..self.plan.nodes).filter(|other| *other != at && *other != cast[0]).collect();
                let helper = cast[1];
                let rest: Vec<usize> = others.iter().copied().filter(|other| *other != helper).collect();
                let mut cut = across(&[at, self.course.cast[0]], &others);
                cut.extend(across(&[helper], &rest));
                self.course.cast.push(at);
                self.cut(cut);
                let delay = self.random.within(100 * MILLI, SECOND);
                self.stage_in(3, delay);
            }
            (Drill::LateForward, 2) if !cast.contains(&at) => {
                self.course.cast.push(at);
                self.cut(Vec::new());
                let delay = self.random.within(20 * MILLI, SECOND / 2);
                self.stage_in(3, delay);
            }
            (Drill::LateForward, 4) if cast[0] == at => {
                // What waited arrives once it leads, and finds it unknowing.
                let (from, to) = self.course.held.take().expect("it is held since the beginning");
                self.cut(Vec::new());
                self.send_held(from, to);
                self.stage_in(5, SECOND / 4);
            }
            _ => {}
        }
    }

    // ---- rivals --------------------------------------------------------------------------------------------

    /// The one between, whom it sees at first, and whom then.
    fn rivals(&self) -> (usize, usize, usize) {
        let [between, seen, unseen] = self.course.cast[..] else { unreachable!("a drill of three nodes") };
        (between, seen, unseen)
    }

    /// Whether the vote that node `at` makes durable now is its last act, and if so, what it lasts.
    pub fn dies_voting_in_drill(&self, at: usize) -> Option<Time> {
        let is_due = self.plan.drill == Some(Drill::Rivals) && self.course.stage == 1 && self.faults_are_on;
        (is_due && self.course.cast[0] == at).then_some(60 * MILLI)
    }

    /// The one between is about to die: it will see only whom it did not see before, and forget what the disk lacks.
    pub fn on_drill_shot(&mut self, at: usize) -> bool {
        if self.dies_voting_in_drill(at).is_none() {
            return false;
        }
        let (between, seen, unseen) = self.rivals();
        self.cut(across(&[seen], &[between, unseen]));
        self.tally.count(Fault::Drilled);
        self.stage_in(2, 4 * self.election());
        true
    }

    // ---- figure 8 ------------------------------------------------------------------------------------------

    fn cut_off_first_leader(&mut self) {
        let (leader, helper) = (self.course.cast[0], self.course.cast[1]);
        let rest = self.course.cast[2..].to_vec();
        let mut cut = across(&[leader, helper], &rest);
        cut.extend(across(&[leader], &[helper]));
        self.cut(cut);
        self.stage_in(2, 4 * self.election());
    }

    fn let_third_lead(&mut self) {
        let (first, second) = (self.course.cast[0], *self.course.cast.last().expect("it has just led"));
        let rest: Vec<usize> = (0..self.plan.nodes).filter(|at| *at != first && *at != second).collect();
        let mut cut = across(&[first, second], &rest);
        cut.extend(across(&[first], &[second]));
        self.cut(cut);
        self.stage_in(4, 5 * self.election());
    }

    // ---- a forward that is late ----------------------------------------------------------------------------

    fn depose_first_leader(&mut self) {
        let leader = self.course.cast[0];
        let others: Vec<usize> = (0..self.plan.nodes).filter(|at| *at != leader).collect();
        self.cut(across(&[leader], &others));
        self.hurry(others.into_iter().find(|at| *at != self.course.cast[1]));
        self.stage_in(2, 4 * self.election());
    }

    fn depose_second_leader(&mut self) {
        let second = *self.course.cast.last().expect("it has just led");
        let others: Vec<usize> = (0..self.plan.nodes).filter(|at| *at != second).collect();
        self.cut(across(&[second], &others));
        self.hurry(Some(self.course.cast[0]));
        self.stage_in(4, 4 * self.election());
    }

    /// This one is the first to miss the leader that was cut off just now: its clock jumps once the others would vote.
    fn hurry(&mut self, at: Option<usize>) {
        let Some(at) = at else { return };
        let patience = self.plan.election_timeout_min.as_nanos() as Time;
        self.schedule(patience, Event::Hurry { at, by: patience });
    }

    pub fn on_hurry(&mut self, at: usize, by: Time) {
        if self.faults_are_on {
            self.nodes[at].clock.jump(self.now, by);
            self.tally.count(Fault::ClockJumped);
            self.rearm(at);
        }
    }

    // ---- a forwarder in haste ------------------------------------------------------------------------------

    /// It lives a few times, each time briefly, so that the numbers of its requests stay small. The last life outlasts
    /// the stall.
    fn restart_forwarder(&mut self) {
        self.kill_for(self.course.cast[1], MILLI);
        let (stage, stalled) = (self.course.stage + 1, self.stall_in_drill());
        self.stage_in(stage, if stage < LIVES { stalled / u64::from(LIVES) } else { stalled });
    }

    fn stall_in_drill(&self) -> Time {
        self.plan.persist_stall.as_nanos() as Time * 3 / 4
    }

    // ---- a pair that knows too little ----------------------------------------------------------------------

    fn lose_end_of_log(&mut self) {
        let at = self.course.cast[1];
        self.kill(at);
        if let Some(place) = self.last_written(at) {
            self.damage_if_held(at, Nemesis::BitFlip, &place);
        }
        // Nobody helps it while it starts twice.
        let others: Vec<usize> = (0..self.plan.nodes).filter(|other| *other != at).collect();
        let mut cut = across(&[at], &others);
        cut.extend(across(&[self.course.cast[0]], &[self.course.cast[2]]));
        self.cut(cut);
        let epoch = self.nodes[at].epoch;
        self.schedule(MILLI, Event::Restart { at, epoch });
        let delay = self.random.within(SECOND / 4, SECOND / 2);
        self.stage_in(2, delay);
    }

    fn leave_alone_with_laggard(&mut self) {
        let [leader, at, laggard] = self.course.cast[..] else { unreachable!("a drill of three nodes") };
        self.kill_for(at, MILLI);
        self.cut(across(&[leader], &[at, laggard]));
        self.stage_in(3, 6 * self.election());
    }

    /// The last byte that stands in a node's log, if it is durable.
    fn last_written(&self, at: usize) -> Option<Place> {
        let disk = self.nodes[at].disk.fork().attach();
        for name in disk.list("wal").ok()?.into_iter().rev() {
            let name = format!("wal/{name}");
            let file = disk.open(&name).ok()?;
            let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
            file.read_at(0, &mut bytes).ok()?;
            let last = bytes.iter().rposition(|byte| *byte != 0)?;
            if name.ends_with(".seg") && last >= 4096 {
                return Some(Place { name, byte: last - 20, bit: 3 });
            }
        }
        None
    }
}
