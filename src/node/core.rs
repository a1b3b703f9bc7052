//! A node without its network: the consensus, background and wal threads, wired; one that keeps nothing has no wal.
//!
//! `start` puts the real network beside it, `embedded` a router in memory.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::base::{Members, Moment, NodeId, Random};
use crate::disk::{DataDir, Disk, OpenError, Pace, ReadSoFar, RecoveryReport, Repairer, Wal, WalSettings};
use crate::net::{Outbox, PeerCredit, Served, Spin, Stages};
use crate::raft;

use super::background::{Background, BackgroundEvent, BackgroundLoop};
use super::clock;
use super::consensus::{Consensus, ConsensusEvent, ConsensusLoop};
use super::end::{End, Ender, spawn};
use super::exits::Channels;
use super::inbox::{Entrance, Inbox, inbox};
use super::replica::{FromDisk, Replica, ReplicaConfig};
use super::scrubbing::Scrubbing;
use super::settings::Tuning;
use super::wakes;
use super::wal::{WalEvent, WalLoop, WalWork};

/// What a core is made of.
pub struct CoreParts {
    pub raft: raft::Config,
    pub cluster_name: String,
    pub request_timeout: Duration,
    /// How long a pass of the scrub takes; `None`: only urgent ones.
    pub scrub_interval: Option<Duration>,
    /// How long each thread looks for the next event before it sleeps.
    pub wakes: wakes::Choice,
    pub wal_settings: WalSettings,
    /// Nothing that this node is told outlives it: there is no wal thread.
    pub keeps_nothing: bool,
    pub disk: Arc<dyn Disk>,
    pub data_dir: DataDir,
    /// Called on the consensus thread after each change of role; it must not block.
    pub on_role_change: Box<dyn Fn() + Send>,
    /// Where the stages of requests are measured; `None`: they are not.
    pub stages: Option<Arc<Stages>>,
}

impl CoreParts {
    /// `seed`: another one at each start. Nobody hears of a change of role.
    pub fn new(
        id: NodeId,
        cluster_name: &str,
        tuning: &Tuning,
        data_dir: DataDir,
        bootstrap: Members,
        seed: u64,
    ) -> CoreParts {
        CoreParts {
            raft: tuning.raft_config(id, data_dir.instance(), bootstrap, seed),
            cluster_name: cluster_name.to_string(),
            request_timeout: tuning.request_timeout,
            scrub_interval: tuning.scrub_interval,
            wakes: wakes::choose(tuning.spin),
            wal_settings: tuning.wal_settings(),
            keeps_nothing: false,
            disk: data_dir.disk(),
            data_dir,
            on_role_change: Box::new(|| {}),
            stages: tuning.measure_stages.then(|| Arc::new(Stages::new(clock::now))),
        }
    }
}

/// An opened log, before any thread runs: so that a start that fails says so at once.
pub struct OpenedCore {
    parts: CoreParts,
    wal: Wal,
    recovered: raft::Recovered,
    reader: crate::disk::LogReader,
    repairer: Repairer,
    pub report: RecoveryReport,
    pub inbox: Entrance<ConsensusEvent>,
    receiver: Inbox<ConsensusEvent>,
    /// For whoever is to read what is applied.
    pub served: Arc<Served>,
}

impl OpenedCore {
    /// Recovers the log. Everything that it returns is durable again. `progress` is told of each batch that is read.
    pub fn open(parts: CoreParts, progress: &mut dyn FnMut(ReadSoFar)) -> Result<OpenedCore, OpenError> {
        let (disk, settings) = (parts.disk.clone(), parts.wal_settings.clone());
        let opened = Wal::open_slowly(disk, settings, parts.data_dir.cluster_id(), progress)?;
        let (inbox, receiver) = inbox(parts.wakes.spin());
        let crate::disk::Opened { wal, recovered, reader, repairer, report } = opened;
        let served = Arc::default();
        Ok(OpenedCore { parts, wal, recovered, reader, repairer, report, inbox, receiver, served })
    }

    /// The membership that the log holds; `None` before the cluster has formed.
    pub fn members(&self) -> Option<&Members> {
        self.recovered.members.last().map(|(_, members)| &**members)
    }

    pub fn stages(&self) -> Option<Arc<Stages>> {
        self.parts.stages.clone()
    }

    /// Starts its threads.
    pub fn start(self, to_net: Arc<dyn Outbox>, peer_credit: PeerCredit) -> std::io::Result<Core> {
        let (to_wal, wal_inbox) = inbox(self.parts.wakes.spin());
        let (to_background, background_inbox) = inbox(Spin::OFF);
        let OpenedCore { parts, wal, recovered, reader, repairer, inbox, receiver, report, served } = self;
        let (id, seed) = (parts.raft.id, parts.raft.seed);
        let (ender, ended) = Ender::new();
        let now: Moment = clock::now();
        let tick = parts.raft.heartbeat / 5;
        let config = ReplicaConfig {
            raft: parts.raft,
            cluster_name: parts.cluster_name,
            request_timeout: parts.request_timeout,
            started: now,
            // Half of the numbers are left to count on.
            forward_id_first: Random::new(seed).next() >> 1,
            served,
        };
        let scrubbing = Scrubbing::new(parts.scrub_interval, now).after(report.damaged.len());
        if !report.damaged.is_empty() {
            let found = FromDisk::Scrubbed { status: scrubbing.status(), beyond_repair: None };
            inbox.send(ConsensusEvent::FromDisk(found));
        }
        let exits = |on_role_change| Channels {
            to_consensus: inbox.clone(),
            to_wal: to_wal.clone(),
            to_background: to_background.clone(),
            to_net: to_net.clone(),
            on_role_change,
        };
        let replica = Replica::new(config, recovered, now).in_cluster(parts.data_dir.cluster_id());
        let consensus = Consensus::new(replica, peer_credit, tick, now).keeping_nothing(parts.keeps_nothing);
        let consensus = ConsensusLoop {
            consensus: consensus.measured(parts.stages.clone()),
            inbox: receiver,
            exits: exits(parts.on_role_change),
            ender: ender.clone(),
        };
        let background = BackgroundLoop {
            background: Background::new(parts.data_dir, reader, repairer, scrubbing, Pace::HalfTheTime),
            inbox: background_inbox,
            exits: exits(Box::new(|| {})),
            ender: ender.clone(),
        };
        let mut threads = vec![
            spawn(format!("background-{id}"), ender.clone(), move || background.run())?,
            spawn(format!("consensus-{id}"), ender.clone(), move || consensus.run())?,
        ];
        if !parts.keeps_nothing {
            let wal = WalLoop {
                work: WalWork::new(wal).measured(parts.stages.clone()),
                inbox: wal_inbox,
                exits: exits(Box::new(|| {})),
                ender: ender.clone(),
            };
            threads.push(spawn(format!("wal-{id}"), ender.clone(), move || wal.run())?);
        }
        Ok(Core { inbox, to_wal, to_background, ender, ended, threads, stages: parts.stages })
    }
}

/// The running threads.
pub struct Core {
    pub inbox: Entrance<ConsensusEvent>,
    to_wal: Entrance<WalEvent>,
    to_background: Entrance<BackgroundEvent>,
    /// For threads beside these that may have to end the node.
    pub ender: Ender,
    pub ended: Receiver<End>,
    threads: Vec<JoinHandle<()>>,
    pub stages: Option<Arc<Stages>>,
}

impl Core {
    /// Waits for the end, which somebody asked for or something caused, then for the wal to finish its queue.
    pub fn wait(&mut self) -> End {
        let end = self.ended.recv().unwrap_or(End::Stopped);
        self.join(WalEvent::Stop);
        end
    }

    /// Ends all threads as a kill would: nothing queued is written any more.
    pub fn abandon(&mut self) {
        self.join(WalEvent::Abandon);
    }

    fn join(&mut self, last: WalEvent) {
        self.inbox.send(ConsensusEvent::Abandon);
        self.to_wal.send(last);
        self.to_background.send(BackgroundEvent::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of this node has panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_ends_the_node() {
        let (ender, ended) = Ender::new();
        let thread = spawn("wal-7".to_string(), ender, || panic!("as a test")).unwrap();
        assert!(thread.join().is_err());
        assert_eq!(ended.try_recv(), Ok(End::Io("the thread wal-7 has panicked".to_string())));
    }
}
