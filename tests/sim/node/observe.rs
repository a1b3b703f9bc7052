//! After each turn of consensus the checkers see what became of it.

use raftkv::base::{LogIndex, Role};
use raftkv::node::wal::WalEvent;

use super::super::checkers::lease::Lease;
use super::super::checkers::{Verdict, completeness, memory, state};
use super::super::trace::Kind;
use super::super::world::World;
use super::{Life, Seen};

impl World {
    /// What consensus has just handed to the wal.
    pub(super) fn observe_queued(&mut self, at: usize) -> Verdict {
        let Life::Up(running) = &self.nodes[at].life else { return Ok(()) };
        let Some(WalEvent::Persist { persists }) = running.lanes.wal[0].newest() else { return Ok(()) };
        let last = persists.last().map(|persist| persist.seq);
        if last <= self.checks.queued_seq[at] {
            return Ok(());
        }
        self.checks.queued_seq[at] = last;
        for entry in persists.iter().flat_map(|persist| &persist.entries) {
            let before = self.checks.shadows[at].term_before(entry.index);
            self.checks.matching.on_entry(entry, before.unwrap_or_default())?;
            self.checks.shadows[at].on_queued(entry.index, entry.term);
        }
        Ok(())
    }

    /// Compares the node with all that is known.
    pub(super) fn observe(&mut self, at: usize) -> Verdict {
        let Life::Up(running) = &mut self.nodes[at].life else { return Ok(()) };
        let replica = running.actors.consensus.replica();
        let view = replica.view();
        let (id, seen) = (replica.id(), running.seen);
        let applied = replica.applied();
        running.seen = Seen { role: view.role, term: view.term, commit: view.commit, applied };
        let is_elected = view.role == Role::Leader && (seen.role, seen.term) != (Role::Leader, view.term);
        if is_elected {
            self.trace.note(self.now, at + 1, Kind::Lead, view.term.0, format_args!("term {}", view.term));
            self.checks.leaders.on_leader(id, view.term)?;
            let term_at = |index| replica.term_at(index);
            completeness::on_leader(id, view.term, &self.checks.commit, term_at)?;
        }
        if view.commit != seen.commit {
            let moved = (seen.commit, view.commit);
            let new = self.checks.commit.on_commit(id, view.term, moved, |index| replica.term_at(index))?;
            self.trace.note(self.now, at + 1, Kind::Commit, view.commit.0, format_args!("up to {}", view.commit));
            for index in (view.commit.0 + 1 - new..=view.commit.0).map(LogIndex) {
                self.checks.on_committed(index)?;
            }
        }
        if applied != seen.applied {
            let keys = self.keys.iter().map(|key| &key[..]);
            self.checks.states.on_applied(id, applied, state::digest(replica.store().view(), keys))?;
        }
        memory::on_log(id, replica.log_bytes(), self.plan.log_memory_bytes_max)?;
        self.check_lease(at)?;
        if is_elected {
            (0..self.plan.nodes).try_for_each(|other| self.check_lease(other))?;
            self.on_drill_leader(at);
        }
        Ok(())
    }

    fn check_lease(&self, at: usize) -> Verdict {
        let node = &self.nodes[at];
        let Life::Up(running) = &node.life else { return Ok(()) };
        let until = running.actors.net.served.until();
        let Some(lease) = Lease::of(running.replica(), until, node.clock.now(self.now)) else { return Ok(()) };
        lease.check_sound()?;
        lease.check_alone(self.checks.leaders.latest())?;
        lease.check_current(self.checks.linear.floor())
    }
}
