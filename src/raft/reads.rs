//! Linearizable reads by ReadIndex (dissertation, section 6.4).
//!
//! A read that arrives at a leader opens a round: a number that the next messages to all peers carry, and that their
//! answers in this term echo. Once a majority has echoed it, this node was leader after the read arrived, so nothing
//! was committed elsewhere by then. What it had committed itself at arrival is then enough to see, provided that an
//! entry of its own term was: before, it may not know of entries that its predecessor committed and answered for. So
//! the index to apply is the commit index at arrival, or the first entry of the own term if that is later.

use std::collections::VecDeque;

use super::{Outputs, Raft, ReadId, ReadReady, State, quorum};
use crate::base::LogIndex;
use crate::guard::{Guard, removed};

/// Reads that wait for their round, oldest first.
pub(super) type Reads = VecDeque<Pending>;

pub(super) struct Pending {
    pub id: ReadId,
    round: u64,
    index: LogIndex,
}

impl Raft {
    pub(super) fn on_read(&mut self, id: ReadId, out: &mut Outputs) {
        let State::Leader(leading) = &mut self.state else {
            out.reads_failed.push(id);
            return;
        };
        leading.round += 1;
        let floor = if removed(Guard::ReadBeforeNoop) { LogIndex::ZERO } else { leading.first_index };
        let index = self.commit.max(floor);
        leading.reads.push_back(Pending { id, round: leading.round, index });
        self.send_heartbeats(out);
        self.maybe_finish_reads(out);
    }

    /// Hands out the reads whose round a majority has echoed, once an own-term entry is committed.
    pub(super) fn maybe_finish_reads(&mut self, out: &mut Outputs) {
        let State::Leader(leading) = &mut self.state else { return };
        let has_committed = self.commit >= leading.first_index || removed(Guard::ReadBeforeNoop);
        if leading.reads.is_empty() || !has_committed {
            return;
        }
        let echoed = quorum::reached(self.membership.current(), |member| {
            if member.id == self.config.id {
                return Some(leading.round);
            }
            leading.peers.get(&member.id).filter(|progress| progress.counts(member)).map(|progress| progress.round)
        });
        let echoed = if removed(Guard::ReadWithoutQuorum) { Some(leading.round) } else { echoed };
        let Some(echoed) = echoed else { return };
        while leading.reads.front().is_some_and(|read| read.round <= echoed) {
            let read = leading.reads.pop_front().expect("there is a first read");
            out.reads_ready.push(ReadReady { id: read.id, index: read.index });
        }
    }
}
