//! Drills of leases: a leader that holds one, or might believe so, while another is about to lead.
//!
//! Its clock is as slow as it may be, and those of the others are as fast, so that a lease is nowhere longer, and a
//! promise nowhere shorter. Each round is of one kind, as chance has it.
//!
//! | round | its course | who would fall |
//! |---|---|---|
//! | `Stale` | the leader hears late what was promised; then nobody hears it | who counts a lease from another time, or by another clock, and who breaks a promise |
//! | `Forgotten` | nobody hears it, and those who have promised start anew | who forgets that |
//! | `Asked` | the others have started with another setting, and promise less; then nobody hears it | who believes that what is asked for is granted |
//! | `Still` | it stands still until others lead; then it answers what has come for it meanwhile | who looked at the clock before |
//! | `Fresh` | it dies; its successor finds nobody with a disk that works, who could commit something in the new term | who reads before that |
//! | `Helped` | its disk hangs until it steps down; then it votes for one who was not there, and has promised nothing since | who reads on by what was promised, though its own vote was a part of that |
//! | `Late` | a follower stands still, and answers what has come for it meanwhile; another one campaigns | who promised before that was asked |
//! | `Suspect` | a bit of what it wrote last flips on its disk, and it is told to look for damage | who reads by a lease all the same |

use std::time::Duration;

use raftkv::base::limits::{LEASE_DRIFT_PERCENT, PROMISE_MAX};
use raftkv::node::background::BackgroundEvent;
use raftkv::node::exits::Exits;
use raftkv::raft::LeaseConfig;

use super::super::chance::Chance;
use super::super::faults::Fault;
use super::super::nemesis::{DRIFT_PPM, Healing, across};
use super::super::node::Actor;
use super::super::plan::{MILLI, Nemesis, SECOND};
use super::super::trace::Kind;
use super::super::world::{Event, Time, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Stale,
    Forgotten,
    Asked,
    Still,
    Fresh,
    Helped,
    Late,
    Suspect,
}

const ROUNDS: [Round; 8] = [
    Round::Stale,
    Round::Forgotten,
    Round::Asked,
    Round::Still,
    Round::Fresh,
    Round::Helped,
    Round::Late,
    Round::Suspect,
];
/// Little, of which two may elect before what the third has asked for is over.
const PROMISES_LITTLE: Duration = Duration::from_millis(100);

/// From the moment that a disk hangs until a leader with a slow clock has stepped down for it, and its disk works
/// again.
const HANGS: Time = 1700 * MILLI;
/// Before that, the one who is to campaign then falls asleep: for long enough to miss the leader when it wakes up.
const SLEEPS: Time = 1080 * MILLI;

impl World {
    /// The leader, and the two others in an order that chance has chosen.
    fn lease_cast(&self) -> [usize; 3] {
        self.course.cast[..].try_into().expect("a drill of three nodes")
    }

    pub(super) fn begin_with_lease(&mut self) {
        let round = ROUNDS[self.random.index(ROUNDS.len())];
        self.course.lease_round = Some(round);
        self.trace.note(self.now, 0, Kind::Nemesis, round as u64, format_args!("{round:?}"));
        let [leader, first, second] = self.lease_cast();
        for (at, drift) in [(leader, -DRIFT_PPM), (first, DRIFT_PPM), (second, DRIFT_PPM)] {
            self.nodes[at].clock.drift(self.now, drift);
            self.rearm(at);
        }
        self.tally.count(Fault::ClockDrifted);
        match round {
            Round::Stale => {
                self.clog(first, leader);
                self.clog(second, leader);
                let delay = self.random.within(20 * MILLI, 120 * MILLI);
                self.stage_in(1, delay);
            }
            Round::Forgotten => {
                self.cut(across(&[leader], &[first, second]));
                self.kill_for(first, MILLI);
                self.kill_for(second, MILLI);
                self.stage_in(1, SECOND);
            }
            Round::Asked => {
                // Inside the longest promise at first, as whoever starts.
                self.start_with_promise(PROMISES_LITTLE);
                let delay = self.random.within(700 * MILLI, 900 * MILLI);
                self.stage_in(1, delay);
            }
            Round::Still => {
                self.cut(across(&[leader], &[first, second]));
                let lasts = self.random.within(SECOND, 2 * SECOND);
                self.stand_still_in_drill(leader, lasts);
                self.stage_in(1, lasts + SECOND / 5);
            }
            Round::Fresh => {
                let delay = self.random.within(MILLI, 50 * MILLI);
                self.kill_for(leader, delay);
                self.stage_in(1, 4 * self.election());
            }
            Round::Helped => {
                let until = self.now + HANGS;
                self.nodes[leader].stalled_until = until;
                self.stall(leader, until);
                self.stage_in(1, HANGS - SLEEPS - 100 * MILLI);
            }
            Round::Late => {
                self.cut(across(&[leader], &[second]));
                let lasts = self.random.within(550 * MILLI, 800 * MILLI);
                self.stand_still_in_drill(first, lasts);
                let later = self.random.within(8 * MILLI, 20 * MILLI);
                self.stand_still_in_drill(second, lasts + later);
                self.stage_in(1, lasts + 5 * MILLI);
            }
            Round::Suspect => {
                self.damage_and_scrub(leader);
                self.stage_in(1, SECOND / 2);
            }
        }
    }

    pub(super) fn go_on_with_lease(&mut self, stage: u32) {
        match (self.course.lease_round, stage) {
            (Some(Round::Stale), 1) => self.let_nothing_from_leader(),
            (Some(Round::Stale), 2) => self.let_late_promises_through(),
            (Some(Round::Stale), 3) => self.leave_leader_alone(),
            (Some(Round::Helped), 1) => {
                self.course.nobody_writes = true;
                self.stage_in(2, 100 * MILLI);
            }
            (Some(Round::Helped), 2) => self.let_helped_sleep(),
            (Some(Round::Helped), 3) => self.wake_helped(),
            (Some(Round::Late | Round::Asked), 1) => {
                let [leader, first, second] = self.lease_cast();
                self.cut(across(&[leader], &[first, second]));
                self.stage_in(2, 600 * MILLI);
            }
            (Some(Round::Asked), 2) => {
                self.start_with_promise(PROMISE_MAX);
                self.carry_out();
            }
            (Some(Round::Forgotten | Round::Still | Round::Suspect), 1) | (Some(Round::Fresh | Round::Late), 2) => {
                self.carry_out()
            }
            (Some(Round::Stale), 4) | (Some(Round::Helped), 5) => self.carry_out(),
            _ => self.end_round(),
        }
    }

    pub(super) fn on_lease_drill_leader(&mut self, at: usize) {
        let others: Vec<usize> = (0..self.plan.nodes).filter(|other| *other != at).collect();
        match (self.course.lease_round, self.course.stage) {
            (Some(Round::Fresh), 1) => {
                for other in others {
                    let until = self.now + 600 * MILLI;
                    self.nodes[other].stalled_until = until;
                    self.stall(other, until);
                }
                self.stage_in(2, 700 * MILLI);
            }
            (Some(Round::Helped), 4) => {
                // The one that helped does not learn what is written from now on.
                let [leader, first, second] = self.lease_cast();
                self.course.nobody_writes = false;
                self.cut(across(&[leader], &[first, second]));
                self.stage_in(5, 600 * MILLI);
            }
            _ => {}
        }
    }

    fn stand_still_in_drill(&mut self, at: usize, lasts: Time) {
        let stands = self.stand_still(at, lasts);
        self.tally.add(Fault::Paused, u64::from(stands));
    }

    /// The two others start anew, and from now on they promise at most so much.
    fn start_with_promise(&mut self, promise: Duration) {
        let [_, first, second] = self.lease_cast();
        for at in [first, second] {
            self.plan.leases[at] = Some(LeaseConfig { promise, drift_percent: LEASE_DRIFT_PERCENT });
            self.kill_for(at, MILLI);
        }
    }

    /// An operator asks for the scrub.
    fn damage_and_scrub(&mut self, at: usize) {
        if let Some(place) = self.last_written(at) {
            self.damage_if_held(at, Nemesis::BitFlip, &place);
        }
        if let Some((_, mut exits)) = self.turn(at, Actor::Consensus) {
            exits.to_background(BackgroundEvent::Scrub);
        }
        self.arm(at);
    }

    // ---- stale ---------------------------------------------------------------------------------------------

    /// What the others promise from here on, they promise nobody.
    fn let_nothing_from_leader(&mut self) {
        let [leader, first, second] = self.lease_cast();
        self.cut(vec![(leader, first), (leader, second)]);
        let delay = self.random.skewed(MILLI, 300 * MILLI);
        self.stage_in(2, delay);
    }

    fn let_late_promises_through(&mut self) {
        let [leader, first, second] = self.lease_cast();
        for from in [first, second] {
            self.schedule(0, Event::Heal(Box::new(Healing::Unclog { from, to: leader })));
        }
        self.stage_in(3, 5 * MILLI);
    }

    /// Its clients stay, and go on asking it.
    fn leave_leader_alone(&mut self) {
        let [leader, first, second] = self.lease_cast();
        self.cut(across(&[leader], &[first, second]));
        let delay = self.random.within(SECOND, 5 * SECOND / 2);
        self.stage_in(4, delay);
    }

    // ---- helped --------------------------------------------------------------------------------------------

    /// What the leader has logged, all have by now. One of them hears no more of it.
    fn let_helped_sleep(&mut self) {
        let [leader, first, _] = self.lease_cast();
        self.cut(vec![(leader, first)]);
        self.stand_still_in_drill(first, SLEEPS);
        self.stage_in(3, SLEEPS - 5 * MILLI);
    }

    fn wake_helped(&mut self) {
        self.cut(Vec::new());
        self.stage_in(4, SECOND / 2);
    }
}
