//! The wal thread: drains its inbox, makes what it found durable with one write and one fsync, then sends what had
//! to wait for that, and tells consensus.
//!
//! Group commit without a timer: while one fsync runs, the next batch gathers in the inbox. It decides nothing. A
//! failed write or fsync ends the node; nothing is retried (what a failed fsync left behind is not known). A full disk
//! is none: what does not fit waits, and consensus is told how much room there is before it comes to that.

use std::sync::Arc;

use crate::base::{PersistSeq, Space, Stage, Step};
use crate::disk::{PreparedSegment, SyncTimer, Wal, WalError};
use crate::net::{NetEvent, Stages};
use crate::raft::Persist;

use super::background::BackgroundEvent;
use super::consensus::ConsensusEvent;
use super::end::{End, Ender};
use super::exits::{Channels, Exits};
use super::inbox::Inbox;
use super::replica::FromDisk;

/// The inbox of the wal thread.
pub enum WalEvent {
    /// In order; answered by `FromDisk::Persisted`.
    Persist { persists: Vec<Persist> },
    /// A segment that was zeroed ahead.
    SegmentPrepared { segment: PreparedSegment },
    /// A segment can't be made for now.
    NoRoom,
    /// One of the term slots is damaged on the disk: both are written anew.
    RewriteSlots,
    /// Everything queued before this is made durable, then the thread ends.
    Stop,
    /// End at once, as if killed.
    Abandon,
}

/// What the thread does in a turn, without its inbox.
pub struct WalWork {
    wal: Wal,
    persists: Vec<Persist>,
    net: Vec<NetEvent>,
    /// What consensus was told last.
    space: Space,
    slots_are_damaged: bool,
    stopping: bool,
}

impl WalWork {
    pub fn new(wal: Wal) -> WalWork {
        let (persists, net, space) = (Vec::new(), Vec::new(), Space::Plenty);
        WalWork { wal, persists, net, space, slots_are_damaged: false, stopping: false }
    }

    /// The fsyncs are measured.
    pub fn measured(mut self, stages: Option<Arc<Stages>>) -> WalWork {
        if let Some(stages) = stages {
            let clock = stages.clock();
            let report = Box::new(move |now, took| stages.record(Stage::Fsync, now, took, 1));
            self.wal.time_syncs(SyncTimer { clock, report });
        }
        self
    }

    /// Before the thread sleeps: tells how much room there is, and asks for a segment to be made ready, if there is
    /// none.
    pub fn before_sleep(&mut self, exits: &mut impl Exits) {
        self.report_space(exits);
        if let Some(job) = self.wal.wants_segment() {
            exits.to_background(BackgroundEvent::PrepareSegment(job));
        }
    }

    /// False: the thread ends at once, as if killed.
    #[must_use]
    pub fn take(&mut self, event: WalEvent) -> bool {
        match event {
            WalEvent::Persist { persists } => self.persists.extend(persists),
            WalEvent::SegmentPrepared { segment } => self.wal.add_segment(segment),
            WalEvent::NoRoom => {} // before the next sleep it is told
            WalEvent::RewriteSlots => self.slots_are_damaged = true,
            WalEvent::Stop => self.stopping = true,
            WalEvent::Abandon => return false,
        }
        true
    }

    /// What was taken and is not durable yet.
    pub fn persists(&self) -> &[Persist] {
        &self.persists
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn report_space(&mut self, exits: &mut impl Exits) {
        let space = self.wal.space();
        if space != self.space {
            self.space = space;
            exits.to_consensus(ConsensusEvent::FromDisk(FromDisk::Space(space)));
        }
    }

    /// Makes durable what was taken, as far as there is room; then what had to wait for that leaves, and consensus is
    /// told. Of the room first: what is durable makes place for more to be asked for.
    pub fn persist(&mut self, exits: &mut impl Exits) -> Result<(), WalError> {
        if std::mem::take(&mut self.slots_are_damaged) {
            self.wal.rewrite_slots()?;
        }
        let fitting = self.wal.fitting(&self.persists)?;
        let fitting = &self.persists[..fitting];
        let Some(last) = fitting.last() else { return Ok(()) };
        let seq: PersistSeq = last.seq;
        self.wal.persist(fitting)?;
        // A batch of terms and votes alone is no step of a PUT.
        if let Some(entry) = fitting.iter().rev().find_map(|persist| persist.entries.last()) {
            Step::Persisted.pass(format_args!("up to entry {}", entry.index));
        }
        let count = fitting.len();
        for message in self.persists.drain(..count).flat_map(|persist| persist.messages) {
            self.net.push(NetEvent::Send { message });
        }
        if !self.net.is_empty() {
            exits.to_net(&mut self.net);
        }
        self.report_space(exits);
        exits.to_consensus(ConsensusEvent::FromDisk(FromDisk::Persisted { seq }));
        if self.wal.take_given_up() {
            exits.to_background(BackgroundEvent::MendGivenUp);
        }
        Ok(())
    }
}

pub struct WalLoop {
    pub work: WalWork,
    pub inbox: Inbox<WalEvent>,
    pub exits: Channels,
    pub ender: Ender,
}

impl WalLoop {
    pub fn run(mut self) {
        while !self.work.is_stopping() {
            self.work.before_sleep(&mut self.exits);
            let Ok(first) = self.inbox.receive(None) else { return };
            for event in first.into_iter().chain(self.inbox.drain()) {
                if !self.work.take(event) {
                    return;
                }
            }
            if let Err(error) = self.work.persist(&mut self.exits) {
                return self.ender.end(End::Io(format!("the log can't be written: {error}")));
            }
        }
    }
}
