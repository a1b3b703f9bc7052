//! Damage to what a disk holds durably: only where another disk has an intact copy of all that is lost by it. With
//! that, no damage may cost anything.
//!
//! What a disk holds for certain, only a start of the production code can tell; that of a running node is known: what
//! its wal said was durable, but for what damage took since. So each new damage is tried on a copy of its disk, which
//! is started, and the disks of the others are only where a node is down, or has lost something before.

use raftkv::base::{LogIndex, Term};
use raftkv::disk::Wal;

use super::disk::{Place, SimDisk};
use super::node::log_terms;
use super::plan::{Damages, Nemesis};
use super::world::World;

/// The entries that a start on a disk would find: the term of each index, from 1 on.
pub struct Held(Vec<Option<Term>>);

impl Held {
    pub fn has(&self, index: LogIndex, term: Term) -> bool {
        self.0.get(index.0 as usize - 1) == Some(&Some(term))
    }

    fn entries(&self) -> impl Iterator<Item = (LogIndex, Term)> {
        (1..).map(LogIndex).zip(&self.0).filter_map(|(index, term)| Some((index, (*term)?)))
    }
}

impl World {
    /// One place of a disk, if what is lost by that is held by another.
    pub fn damage_place(&mut self, at: usize, nemesis: Nemesis) {
        let Some(place) = self.nodes[at].disk.draw_place(&mut self.random) else { return };
        self.damage_if_held(at, nemesis, &place);
    }

    /// Whether it was done: not if it took the last copy of something.
    pub fn damage_if_held(&mut self, at: usize, nemesis: Nemesis, place: &Place) -> bool {
        let apply = |disk: &SimDisk| match nemesis {
            Nemesis::BitFlip => disk.flip_bit(place),
            _ => disk.break_sector(place),
        };
        // The disk of a node that is given up for it may lose anything.
        if !matches!(self.plan.damages, Damages::One(_)) {
            let damaged = self.nodes[at].disk.fork();
            apply(&damaged);
            let (Some(before), Some(after)) = (self.held_before(at), self.held_by(&damaged)) else { return false };
            let lost: Vec<_> = before.entries().filter(|(index, term)| !after.has(*index, *term)).collect();
            if !self.are_held_by_others(at, &lost) {
                return false;
            }
            self.nodes[at].lost.extend(lost);
        }
        apply(&self.nodes[at].disk);
        self.note_damage(at, &format!("{nemesis:?} in {}, byte {}", place.name, place.byte));
        true
    }

    /// What the node's disk holds, or more.
    fn held_before(&self, at: usize) -> Option<Held> {
        if self.nodes[at].is_up() {
            let durable = &self.checks.shadows[at].durable;
            return Some(Held(durable.iter().copied().map(Some).collect()));
        }
        self.held_by(&self.nodes[at].disk.fork())
    }

    fn are_held_by_others(&self, at: usize, entries: &[(LogIndex, Term)]) -> bool {
        let others = || (0..self.plan.nodes).filter(|other| *other != at);
        let is_known = |entry: &&(LogIndex, Term)| others().any(|other| self.holds_for_certain(other, **entry));
        let unknown: Vec<_> = entries.iter().filter(|entry| !is_known(entry)).collect();
        if unknown.is_empty() {
            return true;
        }
        let others: Vec<Held> = others().filter_map(|other| self.held_by(&self.nodes[other].disk.fork())).collect();
        unknown.into_iter().all(|(index, term)| others.iter().any(|held| held.has(*index, *term)))
    }

    /// Whether a running node's disk has the entry, as far as that is known without a look at it.
    fn holds_for_certain(&self, at: usize, (index, term): (LogIndex, Term)) -> bool {
        let node = &self.nodes[at];
        let is_durable = self.checks.shadows[at].durable.get(index.0 as usize - 1) == Some(&term);
        node.is_up() && is_durable && !node.lost.contains(&(index, term))
    }

    /// The entries that a start on this disk would find; `None`: it would be refused.
    pub fn held_by(&self, disk: &SimDisk) -> Option<Held> {
        let opened = Wal::open(disk.attach(), self.wal_settings(), None).ok()?;
        let mut held: Vec<_> = log_terms(&opened.recovered.log).into_iter().map(Some).collect();
        for missing in &opened.recovered.damage.missing {
            held[missing.index.0 as usize - 1] = None;
        }
        Some(Held(held))
    }
}
