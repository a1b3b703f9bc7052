//! How a process begins: recovery by the production code, then the actors around what it found. What it finds is
//! compared with what was durable.

use std::sync::Arc;

use raftkv::base::limits::PROMISE_MAX;
use raftkv::base::{InstanceId, Member, Members, NodeId, Random};
use raftkv::disk::{DataDir, OpenError, Opened, Pace, Wal, WalSettings, Wanted};
use raftkv::net::{NetLimits, Served};
use raftkv::node::background::Background;
use raftkv::node::consensus::Consensus;
use raftkv::node::replica::{Replica, ReplicaConfig};
use raftkv::node::scrubbing::Scrubbing;
use raftkv::node::wal::WalWork;
use raftkv::raft;

use super::super::chance::Chance;
use super::super::checkers::{Verdict, Violation, recovery};
use super::super::faults::Fault;
use super::super::network::NodeNet;
use super::super::plan::SECOND;
use super::super::trace::Kind;
use super::super::world::{Event, World};
use super::{Actors, CLUSTER_NAME, Lanes, Life, Running, Seen, log_terms};

impl World {
    pub fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !matches!(node.life, Life::Down | Life::Refused) {
            return;
        }
        node.life = Life::Starting;
        let delay = self.plan.delays.start.draw(&mut self.random);
        let epoch = node.epoch;
        self.schedule(delay, Event::Started { at, epoch });
    }

    pub(super) fn open(&mut self, at: usize) -> Result<(DataDir, Opened), OpenError> {
        let node = &self.nodes[at];
        let wanted = Wanted { node: node.id, cluster_name: CLUSTER_NAME.to_string() };
        let fresh = InstanceId(u128::from(self.random.next()) << 64 | u128::from(self.random.next()));
        let data_dir = DataDir::on(node.disk.attach(), &wanted, fresh)?;
        let opened = Wal::open(data_dir.disk(), self.wal_settings(), data_dir.cluster_id())?;
        Ok((data_dir, opened))
    }

    pub fn wal_settings(&self) -> WalSettings {
        WalSettings {
            segment_bytes: self.plan.segment_bytes,
            log_memory_bytes_max: self.plan.log_memory_bytes_max,
            entry_bytes_max: 32 * 1024,
        }
    }

    pub fn on_started(&mut self, at: usize) -> Verdict {
        let (data_dir, opened) = match self.open(at) {
            Ok(opened) => opened,
            Err(error) => return self.on_start_failed(at, error),
        };
        let Opened { wal, recovered, reader, repairer, .. } = opened;
        let (id, now) = (self.nodes[at].id, self.nodes[at].clock.now(self.now));
        let log = log_terms(&recovered.log);
        let instance = data_dir.instance();
        let is_damaged = self.nodes[at].is_damaged;
        recovery::on_start(id, is_damaged, recovered.hard_state, &log, &self.checks.shadows[at])?;
        self.checks.shadows[at].restart(instance, recovered.hard_state, log);
        self.checks.queued_seq[at] = None;
        self.trace.note(
            self.now,
            at + 1,
            Kind::Start,
            recovered.log.last_index.0,
            format_args!("with {} entries, {:?}", recovered.log.last_index, recovered.hard_state),
        );
        let seed = self.random.next();
        let bootstrap = self.bootstrap();
        let members =
            recovered.members.last().map_or_else(|| Arc::new(bootstrap.clone()), |(_, members)| members.clone());
        let peers = members.all().filter(|member| member.id != id).map(|member| member.id).collect();
        let served = Arc::<Served>::default();
        let net = NodeNet::new(
            id,
            instance,
            data_dir.cluster_id(),
            peers,
            self.net_limits(),
            self.random.split(),
            served.clone(),
        );
        let config = ReplicaConfig {
            raft: self.raft_config(id, instance, bootstrap, seed),
            cluster_name: CLUSTER_NAME.to_string(),
            request_timeout: self.plan.request_timeout,
            started: now,
            forward_id_first: Random::new(seed).next() >> 1,
            served,
        };
        let replica = Replica::new(config, recovered, now);
        let view = replica.view();
        let seen = Seen { role: view.role, term: view.term, commit: view.commit, applied: replica.applied() };
        let scrubbing = Scrubbing::new(Some(self.plan.scrub_interval), now);
        let actors = Actors {
            consensus: Consensus::new(replica, net.credit.clone(), self.plan.heartbeat / 5, now),
            wal: WalWork::new(wal),
            wal_busy_until: None,
            background: Background::new(data_dir, reader, repairer, scrubbing, Pace::AtOnce),
            background_busy: None,
            net,
            stood_since: None,
        };
        let running = Running { actors, lanes: Lanes::new(), wakes: Default::default(), seen };
        self.nodes[at].life = Life::Up(Box::new(running));
        // The wal looks for a segment before it first sleeps.
        self.run_wal(at)?;
        self.dial_all(at);
        self.arm(at);
        Ok(())
    }

    fn on_start_failed(&mut self, at: usize, error: OpenError) -> Verdict {
        let node = &mut self.nodes[at];
        node.disk.end_process();
        node.epoch += 1;
        self.trace.note(self.now, at + 1, Kind::Refuse, 0, format_args!("{error}"));
        match error {
            // More was lost than can be made out. It stays as it is.
            OpenError::Damaged(_) if node.is_damaged || node.is_wiped => {
                node.life = Life::Refused;
                self.tally.count(Fault::StartRefused);
                Ok(())
            }
            OpenError::Io(_) => {
                node.life = Life::Down;
                let (delay, epoch) = (self.random.within(SECOND / 10, 2 * SECOND), node.epoch);
                self.schedule(delay, Event::Restart { at, epoch });
                Ok(())
            }
            error => Err(Violation {
                property: "a sound directory opens",
                what: format!("node {} refuses to start, though nothing damaged it: {error}", node.id),
            }),
        }
    }

    fn bootstrap(&mut self) -> Members {
        let cluster = raftkv::base::ClusterId(u128::from(self.random.next()));
        let member = |at: usize| Member {
            id: NodeId::new(at as u32 + 1).expect("it is not 0"),
            instance: None,
            address: format!("sim:{}", at + 1).into(),
        };
        let voters = (0..self.plan.nodes).map(member).collect();
        Members { cluster, voters, outgoing: Vec::new(), learners: Vec::new() }
    }

    fn raft_config(&self, id: NodeId, instance: InstanceId, bootstrap: Members, seed: u64) -> raft::Config {
        let plan = &self.plan;
        raft::Config {
            id,
            instance,
            bootstrap,
            election_timeout_min: plan.election_timeout_min,
            election_timeout_max: plan.election_timeout_max,
            heartbeat: plan.heartbeat,
            lease: plan.leases[id.get() as usize - 1],
            promise_max: PROMISE_MAX,
            persist_stall: plan.persist_stall,
            append_bytes_max: plan.append_bytes_max,
            window_bytes_max: plan.window_bytes_max,
            window_messages_max: plan.window_messages_max,
            log_memory_bytes_max: plan.log_memory_bytes_max,
            uncommitted_bytes_max: plan.uncommitted_bytes_max,
            seed,
        }
    }

    fn net_limits(&self) -> NetLimits {
        NetLimits {
            requests_max: self.plan.requests_max,
            connection_requests_max: 16,
            page_keys: 3,
            link_queue_bytes_max: 1024 * 1024,
            ..NetLimits::default()
        }
    }
}
