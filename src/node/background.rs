//! The background thread: file work that may be slow. Zeroes segments ahead, reads old entries for followers and for
//! applying after a start, records what a directory learns about its cluster.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::base::limits::FETCH_BYTES_MAX;
use crate::base::{ClusterId, NodeId};
use crate::disk::{DataDir, Disk, LogReader, SegmentJob};
use crate::raft::Fetch;

use super::consensus::ConsensusEvent;
use super::core::{End, Ender};
use super::wal::WalEvent;

/// The inbox of the background thread.
#[derive(Debug)]
pub enum BackgroundEvent {
    PrepareSegment(SegmentJob),
    Fetch(Fetch),
    /// The log's first entry is committed: from now on this directory belongs to that cluster.
    RecordCluster { cluster: ClusterId },
    Stop,
}

pub struct BackgroundLoop {
    pub id: NodeId,
    pub disk: Arc<dyn Disk>,
    pub data_dir: DataDir,
    pub reader: LogReader,
    pub inbox: Receiver<BackgroundEvent>,
    pub to_wal: Sender<WalEvent>,
    pub to_consensus: Sender<ConsensusEvent>,
    pub ender: Ender,
}

impl BackgroundLoop {
    /// Runs until told to stop; the directory's lock is held as long.
    pub fn run(mut self) {
        while let Ok(event) = self.inbox.recv() {
            match event {
                BackgroundEvent::PrepareSegment(job) => match job.run(&*self.disk) {
                    Ok(segment) => {
                        let _ = self.to_wal.send(WalEvent::SegmentPrepared { segment });
                    }
                    Err(error) => {
                        return self.ender.end(End::Io(format!("a log segment can't be prepared: {error}")));
                    }
                },
                BackgroundEvent::Fetch(fetch) => {
                    let entries = self.reader.read(fetch.lo, fetch.hi, FETCH_BYTES_MAX).unwrap_or_else(|error| {
                        let (lo, hi) = (fetch.lo, fetch.hi);
                        log::warn!("node {}: entries {lo} to {hi} can't be read from the log: {error}", self.id);
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
}
