//! What happens to the nodes, the ways between them, their clocks and their disks, and how it ends again.

use raftkv::base::Random;
use raftkv::base::limits::LEASE_DRIFT_PERCENT;

use super::chance::Chance;
use super::checkers::Verdict;
use super::disk::DiskRates;
use super::faults::Fault;
use super::plan::{Damages, MILLI, Nemesis, SECOND};
use super::trace::Kind;
use super::world::{Event, Time, World};

/// Of any clock: so that no two differ by more than the drift bound of leases, 95 being less than a tenth below 105.
pub const DRIFT_PPM: i64 = 50_000;
const _: () = assert!((1_000_000 - DRIFT_PPM) * 100 >= (1_000_000 + DRIFT_PPM) * (100 - LEASE_DRIFT_PERCENT as i64));

/// What an identity or a mark of damage takes.
const SMALL_FILE_BYTES: u64 = 256;

/// The end of something.
pub enum Healing {
    Unblock(Vec<(usize, usize)>),
    /// The next node of a partition that rolls through all.
    Roll {
        next: usize,
    },
    Unclog {
        from: usize,
        to: usize,
    },
    DiskIsFine {
        at: usize,
    },
}

pub type Pairs = Vec<(usize, usize)>;

/// Both ways between the nodes of `left` and of `right`.
pub fn across(left: &[usize], right: &[usize]) -> Pairs {
    left.iter().flat_map(|l| right.iter().flat_map(|r| [(*l, *r), (*r, *l)])).collect()
}

/// Two parts of `nodes`, none of them empty.
fn halves(mut nodes: Vec<usize>, random: &mut Random) -> (Vec<usize>, Vec<usize>) {
    for at in (1..nodes.len()).rev() {
        nodes.swap(at, random.index(at + 1));
    }
    let cut = 1 + random.index(nodes.len() - 1);
    let right = nodes.split_off(cut);
    (nodes, right)
}

impl World {
    pub fn on_nemesis(&mut self) -> Verdict {
        if !self.faults_are_on {
            return Ok(());
        }
        let next = self.random.within(self.plan.nemesis_every / 4, 2 * self.plan.nemesis_every);
        self.schedule(next, Event::Nemesis);
        let nemesis = self.plan.nemeses[self.random.index(self.plan.nemeses.len())];
        let number = nemesis as u64;
        self.trace.note(self.now, 0, Kind::Nemesis, number, format_args!("{nemesis:?}"));
        let at = self.random.index(self.plan.nodes);
        match nemesis {
            Nemesis::Split | Nemesis::OneWay | Nemesis::Bridge | Nemesis::Rolling => self.partition(nemesis),
            Nemesis::Clog => self.clog_some(),
            Nemesis::BreakLink => {
                let to = self.random.index(self.plan.nodes);
                if to != at {
                    self.break_link(at, to);
                }
            }
            Nemesis::Kill => self.kill_for_a_while(at),
            Nemesis::Pause => self.pause(at),
            Nemesis::Drift => {
                let drift = self.random.below(2 * DRIFT_PPM as u64 + 1) as i64 - DRIFT_PPM;
                self.nodes[at].clock.drift(self.now, drift);
                self.tally.count(Fault::ClockDrifted);
                self.rearm(at);
            }
            Nemesis::Jump => {
                let by = self.random.skewed(10 * MILLI, 5 * SECOND);
                if self.plan.has_leases() {
                    // The bound is the operator's word for it that no clock does so by itself. One that goes on while
                    // its node stands still seems to have jumped to it.
                    self.suspend(at, by);
                    return Ok(());
                }
                self.nodes[at].clock.jump(self.now, by);
                self.tally.count(Fault::ClockJumped);
                self.rearm(at);
            }
            Nemesis::PowerSome => {
                let some: Vec<usize> = (0..self.plan.nodes).filter(|_| self.random.below(2) == 0).collect();
                self.tally.add(Fault::PowerSome, u64::from(!some.is_empty()));
                self.lose_power(&some);
            }
            Nemesis::PowerAll => {
                self.tally.count(Fault::PowerAll);
                self.lose_power(&(0..self.plan.nodes).collect::<Vec<_>>());
            }
            Nemesis::SyncErrors => {
                let rate = self.random.skewed(20_000, 500_000) as u32;
                self.disk_fails(at, DiskRates { sync_error: rate, ..DiskRates::default() });
            }
            Nemesis::Stall => {
                let until = self.now + self.random.skewed(50 * MILLI, 4 * SECOND);
                self.nodes[at].stalled_until = until;
                self.stall(at, until);
            }
            Nemesis::Full => {
                // Now and then not even a small file has room: an identity, a mark.
                let most = if self.random.below(2) == 0 { SMALL_FILE_BYTES } else { 2 * self.plan.segment_bytes };
                let disk = &self.nodes[at].disk;
                disk.set_capacity(disk.bytes() + self.random.below(most));
                let lasts = self.random.skewed(SECOND, 10 * SECOND);
                self.heal_after(lasts, Healing::DiskIsFine { at });
            }
            Nemesis::BitFlip | Nemesis::BadSector | Nemesis::Astray | Nemesis::ReadErrors | Nemesis::Wipe => {
                self.damage(nemesis);
            }
        }
        Ok(())
    }

    fn heal_after(&mut self, delay: Time, healing: Healing) {
        self.schedule(delay, Event::Heal(Box::new(healing)));
    }

    pub fn on_heal(&mut self, healing: Healing) -> Verdict {
        if !self.faults_are_on {
            return Ok(());
        }
        match healing {
            Healing::Unblock(pairs) => self.unblock(&pairs),
            Healing::Roll { next } => self.roll(next),
            Healing::Unclog { from, to } => return self.unclog(from, to),
            Healing::DiskIsFine { at } => {
                self.nodes[at].disk.set_rates(DiskRates::default());
                self.nodes[at].disk.set_capacity(u64::MAX);
            }
        }
        Ok(())
    }

    // ---- ways ----------------------------------------------------------------------------------------------

    fn partition(&mut self, nemesis: Nemesis) {
        let mut all: Vec<usize> = (0..self.plan.nodes).collect();
        if all.len() < 2 {
            return;
        }
        let lasts = self.random.skewed(50 * MILLI, self.plan.lasts_max);
        let pairs = match nemesis {
            Nemesis::Split => {
                self.tally.count(Fault::PartitionSymmetric);
                let (left, right) = halves(all, &mut self.random);
                across(&left, &right)
            }
            Nemesis::OneWay => {
                self.tally.count(Fault::PartitionOneWay);
                let (left, right) = halves(all, &mut self.random);
                across(&left, &right).into_iter().filter(|(from, _)| left.contains(from)).collect()
            }
            Nemesis::Bridge if all.len() >= 3 => {
                self.tally.count(Fault::PartitionBridge);
                all.remove(self.random.index(self.plan.nodes));
                let (left, right) = halves(all, &mut self.random);
                across(&left, &right)
            }
            Nemesis::Rolling => {
                self.tally.count(Fault::PartitionRolling);
                return self.roll(0);
            }
            _ => return,
        };
        self.block(&pairs);
        self.heal_after(lasts, Healing::Unblock(pairs));
    }

    /// Cuts one node off, then the next, until all had their turn.
    fn roll(&mut self, at: usize) {
        let others: Vec<usize> = (0..self.plan.nodes).filter(|other| *other != at).collect();
        let lasts = self.random.skewed(100 * MILLI, self.plan.lasts_max.min(2 * SECOND));
        let pairs = across(&[at], &others);
        self.block(&pairs);
        self.heal_after(lasts, Healing::Unblock(pairs));
        if at + 1 < self.plan.nodes {
            self.heal_after(lasts, Healing::Roll { next: at + 1 });
        }
    }

    /// Some links carry nothing for a while; each opens again in its own time.
    fn clog_some(&mut self) {
        for from in 0..self.plan.nodes {
            for to in (0..self.plan.nodes).filter(|to| *to != from) {
                if self.random.below(3) > 0 {
                    continue;
                }
                self.tally.count(Fault::Clogged);
                self.clog(from, to);
                let lasts = self.random.skewed(50 * MILLI, self.plan.lasts_max);
                self.heal_after(lasts, Healing::Unclog { from, to });
            }
        }
    }

    // ---- processes -----------------------------------------------------------------------------------------

    fn restart_after(&mut self, at: usize, low: Time, high: Time) {
        let (delay, epoch) = (self.random.skewed(low, high), self.nodes[at].epoch);
        self.schedule(delay, Event::Restart { at, epoch });
    }

    /// Somewhere between the beginning of a write and its end, or of a start.
    pub fn on_shot(&mut self, at: usize) {
        let in_drill = self.on_drill_shot(at);
        self.tally.count(Fault::KilledVoting);
        self.trace.note(self.now, at + 1, Kind::Kill, 1, format_args!("killed while it makes its vote durable"));
        self.kill(at);
        if in_drill || self.random.below(2) == 0 {
            self.nodes[at].disk.lose_power();
        }
        self.restart_after(at, MILLI / 10, 20 * MILLI);
    }

    fn kill_for_a_while(&mut self, at: usize) {
        self.tally.count(Fault::Killed);
        self.trace.note(self.now, at + 1, Kind::Kill, 0, format_args!("killed"));
        self.kill(at);
        self.restart_after(at, MILLI, self.plan.lasts_max);
    }

    fn pause(&mut self, at: usize) {
        let election = self.plan.election_timeout_max.as_nanos() as Time;
        let lasts = self.random.within(election + election / 4, 4 * election + SECOND);
        if self.stand_still(at, lasts) {
            self.tally.count(Fault::Paused);
        }
    }

    fn suspend(&mut self, at: usize, lasts: Time) {
        if self.stand_still(at, lasts) {
            self.tally.count(Fault::Suspended);
        }
    }

    /// False: it does already, or is not there.
    pub fn stand_still(&mut self, at: usize, lasts: Time) -> bool {
        let node = &mut self.nodes[at];
        if !node.is_up() || node.paused_until > self.now {
            return false;
        }
        node.paused_until = self.now + lasts;
        node.consensus_paused_until = node.paused_until + self.random.below(MILLI);
        node.pause_backlog = 0;
        let (epoch, shown) = (node.epoch, node.clock.now(self.now));
        if let Some(running) = node.running() {
            running.actors.stood_since = Some(shown);
        }
        self.trace.note(self.now, at + 1, Kind::Pause, lasts, format_args!("for {} ms", lasts / MILLI));
        // Behind all that has come meanwhile.
        self.schedule(lasts + MILLI, Event::Resume { at, epoch });
        true
    }

    /// What waited for the end of a pause has been looked at.
    pub fn go_on(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.paused_until > self.now {
            return; // it stands still again
        }
        node.pause_backlog = 0;
        if let Some(running) = node.running() {
            running.actors.stood_since = None;
        }
        self.arm(at);
    }

    fn lose_power(&mut self, some: &[usize]) {
        for &at in some {
            self.trace.note(self.now, at + 1, Kind::Power, 0, format_args!("lost"));
            self.kill(at);
            self.nodes[at].disk.lose_power();
        }
        for &at in some {
            self.restart_after(at, 50 * MILLI, 3 * SECOND);
        }
    }

    // ---- disks ---------------------------------------------------------------------------------------------

    fn disk_fails(&mut self, at: usize, rates: DiskRates) {
        self.nodes[at].disk.set_rates(rates);
        let lasts = self.random.skewed(200 * MILLI, 5 * SECOND);
        self.heal_after(lasts, Healing::DiskIsFine { at });
    }

    fn damage(&mut self, nemesis: Nemesis) {
        let at = match &self.plan.damages {
            Damages::None => return,
            Damages::One(at) => *at,
            Damages::Many => self.random.index(self.plan.nodes),
            Damages::Wipes(some) => match some.iter().nth(self.random.index(some.len())) {
                Some(at) => *at,
                None => return,
            },
        };
        let can_be_foreseen = matches!(nemesis, Nemesis::BitFlip | Nemesis::BadSector);
        match (&self.plan.damages, nemesis) {
            (Damages::Wipes(_), Nemesis::Wipe) => self.wipe(at),
            (Damages::Wipes(_), _) | (_, Nemesis::Wipe) => {}
            (Damages::One(_) | Damages::Many, _) if can_be_foreseen => self.damage_place(at, nemesis),
            (Damages::One(_), Nemesis::Astray) => {
                self.note_damage(at, "writes go astray");
                self.disk_fails(at, DiskRates { write_astray: 200_000, ..DiskRates::default() });
            }
            (Damages::One(_), Nemesis::ReadErrors) => {
                self.note_damage(at, "reads fail");
                let read_error = self.random.skewed(20_000, 500_000) as u32;
                self.disk_fails(at, DiskRates { read_error, ..DiskRates::default() });
            }
            _ => {}
        }
    }

    pub fn note_damage(&mut self, at: usize, what: &str) {
        self.nodes[at].is_damaged = true;
        self.trace.note(self.now, at + 1, Kind::Nemesis, 0, format_args!("{what}"));
        let damaged = self.nodes.iter().filter(|node| node.is_damaged).count();
        if 2 * damaged > self.plan.nodes && !self.majority_was_damaged {
            self.majority_was_damaged = true;
            self.tally.count(Fault::MajorityDamaged);
        }
    }

    fn wipe(&mut self, at: usize) {
        self.tally.count(Fault::Wiped);
        self.nodes[at].is_wiped = true;
        self.kill(at);
        self.nodes[at].disk.wipe();
        if matches!(self.nodes[at].life, super::node::Life::Refused) {
            self.nodes[at].life = super::node::Life::Down;
        }
        self.checks.shadows[at].on_wiped();
        self.restart_after(at, 50 * MILLI, 3 * SECOND);
    }
}
