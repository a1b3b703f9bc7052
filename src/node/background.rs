//! The background thread: file work that may be slow. Zeroes segments ahead, reads old entries for followers and for
//! applying after a start, records what a directory learns about its cluster.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::base::limits::FETCH_BYTES_MAX;
use crate::base::{ClusterId, Entry, Moment};
use crate::disk::{DataDir, Disk, LogReader, Pace, SegmentJob};
use crate::raft::Fetch;

use super::clock;
use super::consensus::ConsensusEvent;
use super::end::{End, Ender};
use super::exits::{Channels, Exits};
use super::wal::WalEvent;

/// The shortest time between two failed attempts at a segment.
const PREPARE_RETRY: Duration = Duration::from_secs(1);

/// The inbox of the background thread.
pub enum BackgroundEvent {
    PrepareSegment(SegmentJob),
    Fetch(Fetch),
    /// The log's first entry is committed, and durable here: from now on this directory belongs to that cluster.
    RecordCluster {
        cluster: ClusterId,
    },
    /// Entries that the disk has lost: written back where they were.
    Repair {
        entries: Vec<Entry>,
    },
    /// Nothing is lost any more.
    ClearMark,
    Stop,
}

/// What the thread does with an event, without its inbox and clock.
pub struct Background {
    disk: Arc<dyn Disk>,
    data_dir: DataDir,
    reader: LogReader,
    pace: Pace,
    /// After a failure: when a segment is tried again.
    prepare_after: Option<Moment>,
}

impl Background {
    /// The directory's lock is held as long as this lives.
    pub fn new(data_dir: DataDir, reader: LogReader, pace: Pace) -> Background {
        Background { disk: data_dir.disk(), data_dir, reader, pace, prepare_after: None }
    }

    /// `Err`: the node can't go on.
    pub fn on_event(&mut self, now: Moment, event: BackgroundEvent, exits: &mut impl Exits) -> Result<(), End> {
        match event {
            BackgroundEvent::PrepareSegment(job) => self.prepare(now, job, exits),
            BackgroundEvent::Fetch(Fetch { lo, hi }) => {
                let entries = self.reader.read(lo, hi, FETCH_BYTES_MAX).unwrap_or_else(|error| {
                    log::warn!("entries {lo} to {hi} can't be read from the log: {error}");
                    Vec::new()
                });
                exits.to_consensus(ConsensusEvent::Fetched { lo, entries });
            }
            BackgroundEvent::RecordCluster { cluster } => {
                let recorded = self.data_dir.record_cluster_id(cluster);
                recorded.map_err(|error| End::Io(format!("the cluster's id can't be recorded: {error}")))?;
            }
            // Nothing is lost as long as a start on a damaged disk is refused.
            BackgroundEvent::Repair { .. } | BackgroundEvent::ClearMark => {}
            BackgroundEvent::Stop => {}
        }
        Ok(())
    }

    /// A failure is no end: the disk may be full for a while, and the segment in use has room. The wal asks again; in
    /// vain it asks once a while at most. When it can go on no longer, it makes the segment itself or ends the node.
    fn prepare(&mut self, now: Moment, job: SegmentJob, exits: &mut impl Exits) {
        if self.prepare_after.is_some_and(|after| now < after) {
            return;
        }
        match job.run(&*self.disk, self.pace) {
            Ok(segment) => exits.to_wal(WalEvent::SegmentPrepared { segment }),
            Err(error) => {
                self.prepare_after = Some(now + PREPARE_RETRY);
                log::warn!("a log segment can't be prepared, and the one in use will be full: {error}; make room");
            }
        }
    }
}

pub struct BackgroundLoop {
    pub background: Background,
    pub inbox: Receiver<BackgroundEvent>,
    pub exits: Channels,
    pub ender: Ender,
}

impl BackgroundLoop {
    /// Runs until told to stop.
    pub fn run(mut self) {
        while let Ok(event) = self.inbox.recv() {
            if matches!(event, BackgroundEvent::Stop) {
                return;
            }
            if let Err(end) = self.background.on_event(clock::now(), event, &mut self.exits) {
                return self.ender.end(end);
            }
        }
    }
}
