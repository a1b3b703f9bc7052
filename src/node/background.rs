//! The background thread: file work that may be slow. Zeroes segments ahead, reads old entries for followers and for
//! applying after a start, records what a directory learns about its cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::base::ClusterId;
use crate::base::limits::FETCH_BYTES_MAX;
use crate::disk::{DataDir, Disk, LogReader, SegmentJob};
use crate::raft::Fetch;

use super::consensus::ConsensusEvent;
use super::end::{End, Ender};
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
    Stop,
}

pub struct BackgroundLoop {
    pub disk: Arc<dyn Disk>,
    pub data_dir: DataDir,
    pub reader: LogReader,
    pub inbox: Receiver<BackgroundEvent>,
    pub to_wal: Sender<WalEvent>,
    pub to_consensus: Sender<ConsensusEvent>,
    pub ender: Ender,
    /// After a failure: when a segment is tried again.
    pub prepare_after: Option<Instant>,
}

impl BackgroundLoop {
    /// Runs until told to stop; the directory's lock is held as long.
    pub fn run(mut self) {
        while let Ok(event) = self.inbox.recv() {
            match event {
                BackgroundEvent::PrepareSegment(job) => self.prepare(job),
                BackgroundEvent::Fetch(fetch) => {
                    let entries = self.reader.read(fetch.lo, fetch.hi, FETCH_BYTES_MAX).unwrap_or_else(|error| {
                        let (lo, hi) = (fetch.lo, fetch.hi);
                        log::warn!("entries {lo} to {hi} can't be read from the log: {error}");
                        Vec::new()
                    });
                    let _ = self.to_consensus.send(ConsensusEvent::Fetched { lo: fetch.lo, entries });
                }
                BackgroundEvent::RecordCluster { cluster } => {
                    if let Err(error) = self.data_dir.record_cluster_id(cluster) {
                        let message = format!("the cluster's id can't be recorded: {error}");
                        return self.ender.end(End::Io(message));
                    }
                }
                BackgroundEvent::Stop => return,
            }
        }
    }

    /// A failure is no end: the disk may be full for a while, and the segment in use has room. The wal asks again; in
    /// vain it asks once a while at most. When it can go on no longer, it makes the segment itself or ends the node.
    fn prepare(&mut self, job: SegmentJob) {
        if self.prepare_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        match job.run(&*self.disk) {
            Ok(segment) => {
                let _ = self.to_wal.send(WalEvent::SegmentPrepared { segment });
            }
            Err(error) => {
                self.prepare_after = Some(Instant::now() + PREPARE_RETRY);
                log::warn!("a log segment can't be prepared, and the one in use will be full: {error}; make room");
            }
        }
    }
}
