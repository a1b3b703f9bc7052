//! Linearizable reads by ReadIndex (dissertation, section 6.4).
//!
//! A read that arrives at a leader opens a round: a number that the next messages to all peers carry, and that their
//! answers in this term echo. Once a majority has echoed it, this node was leader after the read arrived, so nothing
//! was committed elsewhere by then. What it had committed itself at arrival is then enough to see, provided that an
//! entry of its own term was: before, it may not know of entries that its predecessor committed and answered for. So
//! the index to apply is the commit index at arrival, or the first entry of the own term if that is later.
//!
//! Another node's question for that index (`questions`) is such a read, whose answer is a message. While there is a
//! lease (`lease`) it needs no round: `now` was sampled after the question was taken, so a lease that holds `now` says
//! that nobody else was elected by then, however long the answer takes from here on.

use std::collections::VecDeque;

use super::{Body, Outputs, Raft, ReadId, ReadReady, Stamp, State, quorum};
use crate::base::{LogIndex, Moment, NodeId};
use crate::guard::{Guard, removed};

/// Reads that wait for their round, oldest first.
pub(super) type Reads = VecDeque<Pending>;

pub(super) struct Pending {
    reader: Reader,
    round: u64,
    index: LogIndex,
}

/// Who is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// The driver.
    Own(ReadId),
    /// A node that asked, and with which token.
    Peer(NodeId, u64),
}

impl Reader {
    fn is_of(self, peer: NodeId) -> bool {
        matches!(self, Reader::Peer(asker, _) if asker == peer)
    }

    fn tell(self, stamp: Stamp, index: LogIndex, out: &mut Outputs) {
        match self {
            Reader::Own(id) => out.reads_ready.push(ReadReady { id, index }),
            Reader::Peer(peer, token) => out.send.push(stamp.message(peer, Body::ReadIndexReply { token, index })),
        }
    }
}

impl Pending {
    pub fn own(&self) -> Option<ReadId> {
        match self.reader {
            Reader::Own(id) => Some(id),
            Reader::Peer(..) => None,
        }
    }
}

impl Raft {
    pub(super) fn on_read(&mut self, id: ReadId, out: &mut Outputs) {
        match self.state {
            State::Leader(_) => self.open_round([Reader::Own(id)], out),
            _ => out.reads_failed.push(id),
        }
    }

    /// A member asks how far it must apply. One question of each is remembered: who asks another one has no more use
    /// for the one before. The same one again is a repetition, and waits for the round of the first.
    pub(super) fn on_read_index(&mut self, now: Moment, from: NodeId, token: u64, out: &mut Outputs) {
        let holds_lease = self.lease_until(self.commit).is_some_and(|until| now < until);
        let (reader, stamp) = (Reader::Peer(from, token), self.stamp());
        let State::Leader(leading) = &mut self.state else { return };
        if !leading.peers.contains_key(&from) || leading.reads.iter().any(|read| read.reader == reader) {
            return;
        }
        leading.reads.retain(|read| !read.reader.is_of(from));
        if holds_lease || removed(Guard::ReadIndexUnproven) {
            return reader.tell(stamp, self.commit, out);
        }
        self.open_round([reader], out);
    }

    /// As leader: what `readers` ask is answered once a majority has answered what leaves from now on.
    pub(super) fn open_round(&mut self, readers: impl IntoIterator<Item = Reader>, out: &mut Outputs) {
        let State::Leader(leading) = &mut self.state else { return };
        leading.round += 1;
        let floor = if removed(Guard::ReadBeforeNoop) { LogIndex::ZERO } else { leading.first_index };
        let (round, index) = (leading.round, self.commit.max(floor));
        leading.reads.extend(readers.into_iter().map(|reader| Pending { reader, round, index }));
        self.send_heartbeats(out);
        self.maybe_finish_reads(out);
    }

    /// Hands out the reads whose round a majority has echoed, once an own-term entry is committed.
    pub(super) fn maybe_finish_reads(&mut self, out: &mut Outputs) {
        let stamp = self.stamp();
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
            read.reader.tell(stamp, read.index, out);
        }
    }
}
