//! A node: the production code of its three threads and its network, each an actor with an inbox of its own.
//!
//! ```text
//! actor       inbox (lanes)                  runs                              then
//! net         from consensus, from wal       Session, Admission, LinkQueue     bytes to clients and peers
//! consensus   from net, wal, background      node::consensus::Consensus::turn  lanes to all others
//! wal         from consensus, background     node::wal::WalWork                its time is drawn; then lanes
//! background  from consensus, from wal       node::background::Background      its time is drawn; then lanes
//! ```
//!
//! What goes down one lane arrives in order; between lanes, and between actors, chance decides. A wal that works on a
//! batch does it at the end of its time. When its node is killed in the meantime, it does a part of it, up to some
//! operation of the disk, and nothing that follows from it leaves.

use std::collections::VecDeque;
use std::sync::Arc;

use raftkv::base::{InstanceId, LogIndex, Member, Members, Moment, NodeId, Random, Role, Term};
use raftkv::disk::{DataDir, OpenError, Opened, Pace, Wal, WalSettings, Wanted};
use raftkv::net::{NetEvent, NetLimits};
use raftkv::node::background::{Background, BackgroundEvent};
use raftkv::node::consensus::{AfterTurn, Consensus, ConsensusEvent};
use raftkv::node::exits::Exits;
use raftkv::node::replica::{Replica, ReplicaConfig};
use raftkv::node::scrubbing::Scrubbing;
use raftkv::node::wal::{WalEvent, WalWork};
use raftkv::raft::{self, Persist};

use super::chance::{Chance, Delay};
use super::checkers::{Verdict, durable, memory, recovery, state};
use super::clock::Clock;
use super::disk::SimDisk;
use super::faults::Fault;
use super::network::NodeNet;
use super::plan::SECOND;
use super::trace::Kind;
use super::world::{Event, Time, World};

pub const CLUSTER_NAME: &str = "sim";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    Net,
    Consensus,
    Wal,
    Background,
}

impl Actor {
    const ALL: [Actor; 4] = [Actor::Net, Actor::Consensus, Actor::Wal, Actor::Background];
}

pub struct Node {
    pub id: NodeId,
    pub disk: SimDisk,
    pub clock: Clock,
    /// Counts its processes: what was meant for an earlier one finds nobody.
    pub epoch: u32,
    pub life: Life,
    pub paused_until: Time,
    /// Orders what has to wait for the end of a pause.
    pub pause_backlog: u64,
    /// Its disk lost something: it may find less at a start than it had, or refuse to start.
    pub is_damaged: bool,
    /// Its directory was emptied: it counts no more.
    pub is_wiped: bool,
    /// Until then its disk takes no operation to its end.
    pub stalled_until: Time,
}

pub enum Life {
    /// Nobody starts it for now.
    Down,
    Starting,
    Up(Box<Running>),
    /// It refused to start.
    Refused,
}

/// A process.
pub struct Running {
    pub consensus: Consensus,
    wal: WalWork,
    background: Background,
    pub net: NodeNet,
    pub lanes: Lanes,
    wakes: [Option<Time>; 4],
    wal_busy_until: Option<Time>,
    /// `None` in it: what is due by the clock.
    background_busy: Option<(Time, Option<BackgroundEvent>)>,
    seen: Seen,
}

/// What the checks saw of it last.
#[derive(Clone, Copy)]
struct Seen {
    role: Role,
    term: Term,
    commit: LogIndex,
    applied: LogIndex,
}

/// What waits for one actor from another.
pub struct Lane<T> {
    queue: VecDeque<(Time, T)>,
    last_due: Time,
}

impl<T> Lane<T> {
    fn new() -> Lane<T> {
        Lane { queue: VecDeque::new(), last_due: 0 }
    }

    fn push(&mut self, due: Time, item: T) {
        self.last_due = self.last_due.max(due);
        self.queue.push_back((self.last_due, item));
    }

    fn due(&self) -> Option<Time> {
        self.queue.front().map(|(due, _)| *due)
    }

    fn is_due(&self, now: Time) -> bool {
        self.due().is_some_and(|due| due <= now)
    }
}

pub struct Lanes {
    consensus: [Lane<ConsensusEvent>; 3],
    wal: [Lane<WalEvent>; 2],
    background: [Lane<BackgroundEvent>; 2],
    net: [Lane<NetEvent>; 2],
}

impl Lanes {
    fn new() -> Lanes {
        Lanes {
            consensus: std::array::from_fn(|_| Lane::new()),
            wal: std::array::from_fn(|_| Lane::new()),
            background: std::array::from_fn(|_| Lane::new()),
            net: std::array::from_fn(|_| Lane::new()),
        }
    }

    fn due(&self, actor: Actor) -> Option<Time> {
        fn first<T>(lanes: &[Lane<T>]) -> Option<Time> {
            lanes.iter().filter_map(Lane::due).min()
        }
        match actor {
            Actor::Net => first(&self.net),
            Actor::Consensus => first(&self.consensus),
            Actor::Wal => first(&self.wal),
            Actor::Background => first(&self.background),
        }
    }
}

/// Takes what is due from all `lanes`, each in its order, mixed by chance.
fn take_due<T>(lanes: &mut [Lane<T>], now: Time, random: &mut Random, into: &mut Vec<T>, most: usize) {
    while into.len() < most {
        let ready = lanes.iter().filter(|lane| lane.is_due(now)).count();
        let chosen = match ready {
            0 => return,
            1 => 0,
            _ => random.index(ready),
        };
        let lane = lanes.iter_mut().filter(|lane| lane.is_due(now)).nth(chosen).expect("so many are ready");
        if ready == 1 {
            while into.len() < most && lane.is_due(now) {
                into.extend(lane.queue.pop_front().map(|(_, item)| item));
            }
        } else {
            into.extend(lane.queue.pop_front().map(|(_, item)| item));
        }
    }
}

/// The exits of one turn of one actor.
pub struct SimExits<'a> {
    pub lanes: &'a mut Lanes,
    pub from: Actor,
    pub now: Time,
    pub wake: &'a Delay,
    pub random: &'a mut Random,
    pub role_changed: bool,
}

impl SimExits<'_> {
    fn due(&mut self) -> Time {
        self.now + self.wake.draw(self.random)
    }
}

impl Exits for SimExits<'_> {
    fn to_consensus(&mut self, event: ConsensusEvent) {
        let due = self.due();
        let lane = match self.from {
            Actor::Net => 0,
            Actor::Wal => 1,
            _ => 2,
        };
        self.lanes.consensus[lane].push(due, event);
    }

    fn to_wal(&mut self, event: WalEvent) {
        let due = self.due();
        self.lanes.wal[usize::from(self.from == Actor::Background)].push(due, event);
    }

    fn to_background(&mut self, event: BackgroundEvent) {
        let due = self.due();
        self.lanes.background[usize::from(self.from == Actor::Wal)].push(due, event);
    }

    fn to_net(&mut self, events: &mut Vec<NetEvent>) {
        let due = self.due();
        let lane = &mut self.lanes.net[usize::from(self.from == Actor::Wal)];
        events.drain(..).for_each(|event| lane.push(due, event));
    }

    fn role_changed(&mut self) {
        self.role_changed = true;
    }
}

impl Node {
    pub fn new(at: usize, random: &mut Random) -> Node {
        Node {
            id: NodeId::new(at as u32 + 1).expect("it is not 0"),
            disk: SimDisk::new(random.split(), u64::MAX),
            clock: Clock::new(random.below(1000 * SECOND)),
            epoch: 0,
            life: Life::Down,
            paused_until: 0,
            pause_backlog: 0,
            is_damaged: false,
            is_wiped: false,
            stalled_until: 0,
        }
    }

    pub fn running(&mut self) -> Option<&mut Running> {
        match &mut self.life {
            Life::Up(running) => Some(running),
            _ => None,
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.life, Life::Up(_))
    }
}

pub fn log_terms(log: &raft::LogTail) -> Vec<Term> {
    let mut terms = Vec::with_capacity(log.last_index.0 as usize);
    for (at, (first, term)) in log.term_runs.iter().enumerate() {
        let end = log.term_runs.get(at + 1).map_or(log.last_index.next(), |(next, _)| *next);
        terms.resize(terms.len() + (end.0 - first.0) as usize, *term);
    }
    terms
}

impl World {
    // ---- starting ------------------------------------------------------------------------------------------

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

    fn open(&mut self, at: usize) -> Result<(DataDir, Opened), OpenError> {
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
        let net = NodeNet::new(id, instance, data_dir.cluster_id(), peers, self.net_limits(), self.random.split());
        let config = ReplicaConfig {
            raft: self.raft_config(id, instance, bootstrap, seed),
            cluster_name: CLUSTER_NAME.to_string(),
            request_timeout: self.plan.request_timeout,
            started: now,
            forward_id_first: Random::new(seed).next() >> 1,
        };
        let replica = Replica::new(config, recovered, now);
        let view = replica.view();
        let seen = Seen { role: view.role, term: view.term, commit: view.commit, applied: replica.applied() };
        let scrubbing = Scrubbing::new(Some(self.plan.scrub_interval), now);
        let running = Running {
            consensus: Consensus::new(replica, net.credit.clone(), self.plan.heartbeat / 5, now),
            wal: WalWork::new(wal),
            background: Background::new(data_dir, reader, repairer, scrubbing, Pace::AtOnce),
            net,
            lanes: Lanes::new(),
            wakes: [None; 4],
            wal_busy_until: None,
            background_busy: None,
            seen,
        };
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
            error => Err(super::checkers::Violation {
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

    // ---- ending --------------------------------------------------------------------------------------------

    /// The process is gone, in the middle of what it was doing.
    pub fn kill(&mut self, at: usize) {
        let operations = 1 + self.random.below(8);
        match std::mem::replace(&mut self.nodes[at].life, Life::Down) {
            Life::Up(running) => self.cut_short(at, *running, operations),
            Life::Starting => {
                self.nodes[at].disk.power_off_in(operations);
                let _ = self.open(at);
            }
            other => self.nodes[at].life = other,
        }
        let node = &mut self.nodes[at];
        node.disk.end_process();
        node.epoch += 1;
        node.paused_until = 0;
        self.break_all_of(at);
    }

    /// What the threads that use the disk were doing is done in part, up to one of its operations.
    fn cut_short(&mut self, at: usize, running: Running, operations: u64) {
        let Running { mut wal, mut background, mut lanes, wal_busy_until, background_busy, .. } = running;
        let disk = &self.nodes[at].disk;
        let now = self.nodes[at].clock.now(self.now);
        let wake = self.plan.delays.wake;
        let mut exits = SimExits {
            lanes: &mut lanes,
            from: Actor::Wal,
            now: self.now,
            wake: &wake,
            random: &mut self.random,
            role_changed: false,
        };
        if wal_busy_until.is_some() {
            disk.power_off_in(operations);
            let _ = wal.persist(&mut exits);
        }
        if let Some((_, event)) = background_busy {
            disk.power_off_in(operations);
            let _ = match event {
                Some(event) => background.on_event(now, event, &mut exits),
                None => background.on_time(now, &mut exits),
            };
        }
    }

    /// The node has ended by itself.
    fn end(&mut self, at: usize, why: &str) {
        self.trace.note(self.now, at + 1, Kind::End, 0, format_args!("{why}"));
        let node = &mut self.nodes[at];
        node.life = Life::Down;
        node.disk.end_process();
        node.epoch += 1;
        let epoch = node.epoch;
        self.break_all_of(at);
        let delay = self.random.within(SECOND / 20, 2 * SECOND);
        self.schedule(delay, Event::Restart { at, epoch });
    }

    /// The disk takes no operation to its end before `until`.
    pub fn stall(&mut self, at: usize, until: Time) {
        let Life::Up(running) = &mut self.nodes[at].life else { return };
        self.tally.count(Fault::Stalled);
        if let Some(busy) = &mut running.wal_busy_until {
            *busy = until.max(*busy);
        }
        if let Some((busy, _)) = &mut running.background_busy {
            *busy = until.max(*busy);
        }
    }

    // ---- running -------------------------------------------------------------------------------------------

    /// The clock has changed: what was to happen when it shows a certain time happens at another.
    pub fn rearm(&mut self, at: usize) {
        if let Life::Up(running) = &mut self.nodes[at].life {
            running.wakes = [None; 4];
            self.arm(at);
        }
    }

    /// Sees to it that each actor wakes up when something is due for it.
    pub fn arm(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let (epoch, paused_until) = (node.epoch, node.paused_until);
        let Life::Up(running) = &mut node.life else { return };
        let tick = running.consensus.sleeps_until().map_or(self.now, |moment| node.clock.when(moment));
        for actor in Actor::ALL {
            let lanes = running.lanes.due(actor);
            let due = match actor {
                Actor::Consensus => Some(lanes.map_or(tick, |due| due.min(tick))),
                Actor::Wal => running.wal_busy_until.or(lanes),
                Actor::Background => {
                    let by_clock = running.background.sleeps_until().map(|moment| node.clock.when(moment));
                    let busy = running.background_busy.as_ref().map(|(until, _)| *until);
                    busy.or_else(|| lanes.into_iter().chain(by_clock).min())
                }
                Actor::Net => lanes,
            };
            let Some(due) = due else { continue };
            let due = due.max(self.now).max(paused_until);
            let wake = &mut running.wakes[actor as usize];
            if wake.is_none_or(|at| due < at) {
                *wake = Some(due);
                self.queue.push(due, Event::Wake { at: at as u8, epoch, actor });
            }
        }
    }

    pub fn on_wake(&mut self, at: usize, epoch: u32, actor: Actor) -> Verdict {
        let node = &mut self.nodes[at];
        if node.epoch != epoch {
            return Ok(());
        }
        let paused_until = node.paused_until;
        let Life::Up(running) = &mut node.life else { return Ok(()) };
        if running.wakes[actor as usize] != Some(self.now) {
            return Ok(()); // another wake came first, and this one is for nothing
        }
        running.wakes[actor as usize] = None;
        if paused_until <= self.now {
            match actor {
                Actor::Net => self.run_net(at)?,
                Actor::Consensus => self.run_consensus(at)?,
                Actor::Wal => self.run_wal(at)?,
                Actor::Background => self.run_background(at)?,
            }
        }
        self.arm(at);
        Ok(())
    }

    fn run_consensus(&mut self, at: usize) -> Verdict {
        let node = &mut self.nodes[at];
        let now = node.clock.now(self.now);
        let Life::Up(running) = &mut node.life else { return Ok(()) };
        let mut events = std::mem::take(&mut self.scratch_consensus);
        // Sometimes the inbox is looked at while it fills.
        let most = if self.random.below(16) == 0 { 1 + self.random.index(4) } else { 4096 };
        take_due(&mut running.lanes.consensus, self.now, &mut self.random, &mut events, most);
        let mut exits = SimExits {
            lanes: &mut running.lanes,
            from: Actor::Consensus,
            now: self.now,
            wake: &self.plan.delays.wake,
            random: &mut self.random,
            role_changed: false,
        };
        let count = events.len();
        let after = running.consensus.turn(now, events.drain(..), &mut exits);
        self.scratch_consensus = events;
        self.trace.note(self.now, at + 1, Kind::Turn, count as u64, format_args!("of {count} events"));
        self.observe_queued(at)?;
        self.observe(at)?;
        match after {
            AfterTurn::Another => Ok(()),
            AfterTurn::Abandoned => unreachable!("nobody abandons a simulated thread"),
            AfterTurn::End(end) => Err(super::checkers::Violation {
                property: "what is committed can be applied",
                what: format!("node {} ends: {end:?}", at + 1),
            }),
        }
    }

    /// What consensus has just handed to the wal.
    fn observe_queued(&mut self, at: usize) -> Verdict {
        let Life::Up(running) = &self.nodes[at].life else { return Ok(()) };
        let Some((_, WalEvent::Persist { persists })) = running.lanes.wal[0].queue.back() else { return Ok(()) };
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
    fn observe(&mut self, at: usize) -> Verdict {
        let Life::Up(running) = &mut self.nodes[at].life else { return Ok(()) };
        let replica = running.consensus.replica();
        let view = replica.view();
        let (id, seen) = (replica.id(), running.seen);
        let applied = replica.applied();
        running.seen = Seen { role: view.role, term: view.term, commit: view.commit, applied };
        if view.role == Role::Leader && (seen.role, seen.term) != (Role::Leader, view.term) {
            self.trace.note(self.now, at + 1, Kind::Lead, view.term.0, format_args!("term {}", view.term));
            self.checks.leaders.on_leader(id, view.term)?;
            let term_at = |index| replica.term_at(index);
            super::checkers::completeness::on_leader(id, view.term, &self.checks.commit, term_at)?;
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
            self.checks.states.on_applied(id, applied, state::digest(replica.store(), keys))?;
        }
        memory::on_log(id, replica.log_bytes(), self.plan.log_memory_bytes_max)
    }

    pub fn run_wal(&mut self, at: usize) -> Verdict {
        let disk_due = self.nodes[at].stalled_until.max(self.now);
        let Life::Up(running) = &mut self.nodes[at].life else { return Ok(()) };
        match running.wal_busy_until {
            Some(until) if until > self.now => return Ok(()),
            Some(_) => {
                running.wal_busy_until = None;
                if !self.finish_persist(at)? {
                    return Ok(());
                }
            }
            None => {}
        }
        let Life::Up(running) = &mut self.nodes[at].life else { return Ok(()) };
        let Running { wal, lanes, .. } = &mut **running;
        let mut events = Vec::new();
        take_due(&mut lanes.wal, self.now, &mut self.random, &mut events, usize::MAX);
        for event in events {
            assert!(wal.take(event), "nobody abandons a simulated wal");
        }
        let mut exits = SimExits {
            lanes,
            from: Actor::Wal,
            now: self.now,
            wake: &self.plan.delays.wake,
            random: &mut self.random,
            role_changed: false,
        };
        if wal.persists().is_empty() {
            wal.before_sleep(&mut exits);
        } else {
            let until = disk_due + self.plan.delays.persist.draw(&mut self.random);
            let votes = |persist: &Persist| persist.hard_state.is_some_and(|state| state.vote.is_some());
            let is_target = self.plan.dies_voting > 0 && wal.persists().iter().any(votes);
            running.wal_busy_until = Some(until);
            if is_target && self.faults_are_on && self.random.happens(self.plan.dies_voting) {
                let (due, epoch) = (self.random.within(self.now, until), self.nodes[at].epoch);
                self.schedule_at(due, Event::Shot { at, epoch });
            }
        }
        Ok(())
    }

    /// False: the node has ended.
    fn finish_persist(&mut self, at: usize) -> Result<bool, super::checkers::Violation> {
        let node = &mut self.nodes[at];
        let Life::Up(running) = &mut node.life else { return Ok(false) };
        let Running { wal, lanes, .. } = &mut **running;
        let mut exits = SimExits {
            lanes,
            from: Actor::Wal,
            now: self.now,
            wake: &self.plan.delays.wake,
            random: &mut self.random,
            role_changed: false,
        };
        let mut persists = wal.persists().to_vec();
        match wal.persist(&mut exits) {
            Ok(()) => {
                wal.before_sleep(&mut exits);
                // On a full disk the rest waits.
                persists.truncate(persists.len() - wal.persists().len());
                let seq = persists.last().map_or(0, |persist| persist.seq.0);
                let hard_state = persists.iter().rev().find_map(|persist| persist.hard_state);
                let entries = persists.iter().map(|persist| persist.entries.len()).sum();
                durable::on_persisted(node.id, node.disk.unsynced_log())?;
                self.checks.shadows[at].on_persisted(entries, hard_state);
                self.trace.note(self.now, at + 1, Kind::Persist, seq, format_args!("{seq}, {entries} entries"));
                Ok(true)
            }
            Err(error) => {
                let why = error.to_string();
                self.end(at, &why);
                Ok(false)
            }
        }
    }

    fn run_background(&mut self, at: usize) -> Verdict {
        let node = &mut self.nodes[at];
        let moment: Moment = node.clock.now(self.now);
        let disk_due = node.stalled_until.max(self.now);
        let Life::Up(running) = &mut node.life else { return Ok(()) };
        let Running { background, lanes, background_busy, .. } = &mut **running;
        match background_busy.take() {
            Some((until, event)) if until > self.now => {
                *background_busy = Some((until, event));
                return Ok(());
            }
            Some((_, event)) => {
                let mut exits = SimExits {
                    lanes,
                    from: Actor::Background,
                    now: self.now,
                    wake: &self.plan.delays.wake,
                    random: &mut self.random,
                    role_changed: false,
                };
                let done = match event {
                    Some(event) => background.on_event(moment, event, &mut exits),
                    None => background.on_time(moment, &mut exits),
                };
                if let Err(end) = done {
                    self.end(at, &format!("{end:?}"));
                    return Ok(());
                }
            }
            None => {}
        }
        let mut events = Vec::new();
        take_due(&mut lanes.background, self.now, &mut self.random, &mut events, 1);
        let is_time = background.sleeps_until().is_some_and(|at| at <= moment);
        if !events.is_empty() || is_time {
            let until = disk_due + self.plan.delays.background.draw(&mut self.random);
            *background_busy = Some((until, events.pop()));
        }
        Ok(())
    }

    fn run_net(&mut self, at: usize) -> Verdict {
        let Life::Up(running) = &mut self.nodes[at].life else { return Ok(()) };
        let mut events = std::mem::take(&mut self.scratch_net);
        take_due(&mut running.lanes.net, self.now, &mut self.random, &mut events, 4096);
        for event in events.drain(..) {
            self.on_net_event(at, event);
        }
        self.scratch_net = events;
        self.finish_net(at)
    }
}
