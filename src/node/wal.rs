//! The wal thread: drains its inbox, makes what it found durable with one write and one fsync, then sends what had
//! to wait for that, and tells consensus.
//!
//! Group commit without a timer: while one fsync runs, the next batch gathers in the inbox. It decides nothing. A
//! failed write or fsync ends the node; nothing is retried (what a failed fsync left behind is not known).

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::base::{PersistSeq, Step};
use crate::disk::{PreparedSegment, Wal, WalError};
use crate::net::{NetEvent, Outbox};
use crate::raft::Persist;

use super::background::BackgroundEvent;
use super::consensus::ConsensusEvent;
use super::end::{End, Ender};

/// The inbox of the wal thread.
pub enum WalEvent {
    /// In order; answered by `ConsensusEvent::Persisted`.
    Persist { persists: Vec<Persist> },
    /// A segment that was zeroed ahead.
    SegmentPrepared { segment: PreparedSegment },
    /// Everything queued before this is made durable, then the thread ends.
    Stop,
    /// End at once, as if killed.
    Abandon,
}

pub struct WalLoop {
    pub wal: Wal,
    pub inbox: Receiver<WalEvent>,
    pub to_net: Arc<dyn Outbox>,
    pub to_consensus: Sender<ConsensusEvent>,
    pub to_background: Sender<BackgroundEvent>,
    pub ender: Ender,
}

impl WalLoop {
    pub fn run(mut self) {
        let mut persists = Vec::new();
        let mut net = Vec::new();
        let mut stopping = false;
        while !stopping {
            if let Some(job) = self.wal.wants_segment() {
                let _ = self.to_background.send(BackgroundEvent::PrepareSegment(job));
            }
            let Ok(first) = self.inbox.recv() else { return };
            for event in std::iter::once(first).chain(self.inbox.try_iter()) {
                match event {
                    WalEvent::Persist { persists: more } => persists.extend(more),
                    WalEvent::SegmentPrepared { segment } => self.wal.add_segment(segment),
                    WalEvent::Stop => stopping = true,
                    WalEvent::Abandon => return,
                }
            }
            if let Err(error) = self.persist(&mut persists, &mut net) {
                return self.ender.end(End::Io(format!("the log can't be written: {error}")));
            }
        }
    }

    fn persist(&mut self, persists: &mut Vec<Persist>, net: &mut Vec<NetEvent>) -> Result<(), WalError> {
        let Some(last) = persists.last() else { return Ok(()) };
        let seq: PersistSeq = last.seq;
        self.wal.persist(persists)?;
        // A batch of terms and votes alone is no step of a PUT.
        if let Some(entry) = persists.iter().rev().find_map(|persist| persist.entries.last()) {
            Step::Persisted.pass(format_args!("up to entry {}", entry.index));
        }
        for message in persists.drain(..).flat_map(|persist| persist.messages) {
            net.push(NetEvent::Send { message });
        }
        if !net.is_empty() {
            self.to_net.send(net);
        }
        let _ = self.to_consensus.send(ConsensusEvent::Persisted { seq });
        Ok(())
    }
}
