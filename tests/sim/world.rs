//! The world of one seed: its time, what is about to happen, and everybody in it.
//!
//! Nothing here runs in real time. Time is the moment of the next event; of events at one moment the seed decides which
//! is first. A run has a phase of faults, in which nothing may go wrong for good, and one in which the faults are over
//! for a majority, which then has to serve everybody within a stated number of ticks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use linearizability::{History, Limits};
use raftkv::base::{Moment, NodeId, Random};
use raftkv::net::{ConnectionId, NetEvent};
use raftkv::node::consensus::ConsensusEvent;

use super::chance::Chance;
use super::checkers::{Verdict, Violation, state};
use super::checks::Checks;
use super::client::{Client, Conn, Parcel};
use super::drills::Course;
use super::faults::{Fault, Tally};
use super::nemesis::Healing;
use super::network::{Network, Stage, WireId};
use super::node::{Actor, Life, Node};
use super::plan::{Damages, Load, MILLI, Plan, SAFETY_PHASE, SECOND};
use super::shrink::Cuts;
use super::trace::{Kind, Readers, Trace};

/// Nanoseconds since the world began.
pub type Time = u64;

/// A majority without faults elects, commits a write of each client and converges within so many ticks of consensus.
const LIVENESS_TICKS: u64 = 1500;

/// Something that is about to happen. Nodes are counted from 0.
pub enum Event {
    Wake {
        at: u8,
        epoch: u32,
        actor: Actor,
    },
    Started {
        at: usize,
        epoch: u32,
    },
    Restart {
        at: usize,
        epoch: u32,
    },
    Resume {
        at: usize,
        epoch: u32,
    },
    /// The node is killed, for what it is doing.
    Shot {
        at: usize,
        epoch: u32,
    },
    Dial {
        at: u8,
        epoch: u32,
        peer: NodeId,
    },
    Hello {
        wire: WireId,
        bytes: Bytes,
    },
    Welcome {
        wire: WireId,
        bytes: Bytes,
    },
    WireGone {
        wire: WireId,
        why: &'static str,
    },
    /// The wire is given up if its way is still blocked.
    Doomed {
        wire: WireId,
    },
    Frame {
        wire: WireId,
        frame: Bytes,
    },
    /// The network thread of a node goes on with reads of a connection.
    Reading {
        at: usize,
        epoch: u32,
        connection: ConnectionId,
        stage: Stage,
    },
    ToServer {
        conn: u32,
        parcel: Parcel,
    },
    ToClient {
        conn: u32,
        parcel: Parcel,
    },
    ClientWake {
        client: u8,
        wake: u64,
    },
    Nemesis,
    /// The next stage of the drill.
    Drill {
        turn: u64,
    },
    /// The node's clock jumps.
    Hurry {
        at: usize,
        by: Time,
    },
    Heal(Box<Healing>),
    FaultsEnd,
    Converged,
}

struct Scheduled {
    due: Time,
    tie: u32,
    number: u32,
    event: Event,
}

impl Scheduled {
    fn key(&self) -> (Time, u32, u32) {
        (self.due, self.tie, self.number)
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What is about to happen, in order.
pub struct Queue {
    heap: BinaryHeap<Reverse<Scheduled>>,
    random: Random,
    number: u32,
}

impl Queue {
    pub fn push(&mut self, due: Time, event: Event) {
        self.number = self.number.wrapping_add(1);
        let tie = self.random.next() as u32;
        self.heap.push(Reverse(Scheduled { due, tie, number: self.number, event }));
    }

    fn pop(&mut self) -> Option<(Time, Event)> {
        self.heap.pop().map(|Reverse(scheduled)| (scheduled.due, scheduled.event))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Safety,
    /// Each client writes until it has succeeded once.
    Liveness,
    /// Nobody asks anything; the nodes become equal.
    Quiet,
    Over,
}

pub struct World {
    pub plan: Plan,
    pub now: Time,
    pub queue: Queue,
    pub random: Random,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub clients: Vec<Client>,
    pub conns: Vec<Conn>,
    pub keys: Vec<Bytes>,
    pub checks: Checks,
    pub history: History,
    pub trace: Trace,
    pub tally: Tally,
    pub phase: Phase,
    pub course: Course,
    pub faults_are_on: bool,
    /// In the liveness phase: the nodes without faults.
    pub majority: Vec<usize>,
    /// Noted once in a seed.
    pub majority_was_damaged: bool,
    pub asked: u64,
    pub answered: u64,
    pub refused: u64,
    pub scratch_consensus: Vec<ConsensusEvent>,
    pub scratch_net: Vec<NetEvent>,
}

impl World {
    /// What the seed has in store, but for what is cut.
    pub fn new(seed: u64, load: Load, readers: Readers, cuts: &Cuts) -> World {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
        let mut plan = Plan::draw(seed, &mut random.split(), load);
        cuts.apply(&mut plan);
        let queue = Queue { heap: BinaryHeap::new(), random: random.split(), number: 0 };
        let nodes: Vec<Node> = (0..plan.nodes).map(|at| Node::new(at, &mut random)).collect();
        let clients = (0..plan.clients).map(|_| Client::new(random.split(), plan.readers)).collect();
        World {
            now: 0,
            queue,
            nodes,
            network: Network::new(plan.nodes),
            clients,
            conns: Vec::new(),
            keys: (0..plan.keys).map(|key| format!("k{key}").into()).collect(),
            checks: Checks::new(plan.nodes),
            history: History::default(),
            trace: Trace::new(readers),
            tally: Tally::default(),
            phase: Phase::Safety,
            course: Course::default(),
            faults_are_on: true,
            majority: Vec::new(),
            majority_was_damaged: false,
            asked: 0,
            answered: 0,
            refused: 0,
            scratch_consensus: Vec::new(),
            scratch_net: Vec::new(),
            random,
            plan,
        }
    }

    pub fn schedule(&mut self, delay: Time, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    pub fn schedule_at(&mut self, due: Time, event: Event) {
        self.queue.push(due, event);
    }

    /// When what has come for a paused node is looked at: in the order in which it came.
    pub fn after_pause(&mut self, at: usize) -> Time {
        let node = &mut self.nodes[at];
        node.pause_backlog += 1;
        node.paused_until + node.pause_backlog
    }

    /// The nodes that a client may try.
    pub fn reachable(&self) -> Vec<usize> {
        if self.majority.is_empty() { (0..self.plan.nodes).collect() } else { self.majority.clone() }
    }

    /// Runs to the end, or to the first violation.
    pub fn run(&mut self) -> Verdict {
        for at in 0..self.plan.nodes {
            self.start(at);
        }
        for who in 0..self.plan.clients {
            self.connect(who);
        }
        if !self.plan.nemeses.is_empty() {
            self.schedule(self.plan.nemesis_every, Event::Nemesis);
        }
        if self.plan.drill.is_some() {
            self.schedule(SECOND, Event::Drill { turn: 0 });
        }
        self.schedule(SAFETY_PHASE, Event::FaultsEnd);
        while self.phase != Phase::Over {
            let (due, event) = self.queue.pop().expect("nodes tick for ever");
            assert!(due >= self.now, "time goes back");
            self.now = due;
            self.on_event(event)?;
        }
        self.finish()
    }

    fn on_event(&mut self, event: Event) -> Verdict {
        match event {
            Event::Wake { at, epoch, actor } => self.on_wake(usize::from(at), epoch, actor),
            Event::Frame { wire, frame } => self.on_frame(wire, frame),
            Event::Reading { at, epoch, connection, stage } if self.nodes[at].epoch == epoch => {
                self.on_reading(at, connection, stage)
            }
            Event::Reading { .. } => Ok(()),
            Event::ToServer { conn, parcel } => self.on_parcel_for_server(conn, parcel),
            Event::ToClient { conn, parcel } => self.on_parcel_for_client(conn, parcel),
            Event::ClientWake { client, wake } => self.on_client_wake(usize::from(client), wake),
            Event::Started { at, epoch } if self.nodes[at].epoch == epoch => self.on_started(at),
            Event::Restart { at, epoch } if self.nodes[at].epoch == epoch => {
                self.tally.count(Fault::Restarted);
                self.start(at);
                Ok(())
            }
            Event::Resume { at, epoch } if self.nodes[at].epoch == epoch => {
                self.go_on(at);
                Ok(())
            }
            Event::Shot { at, epoch } => {
                if self.nodes[at].epoch == epoch && self.faults_are_on {
                    self.on_shot(at);
                }
                Ok(())
            }
            Event::Started { .. } | Event::Restart { .. } | Event::Resume { .. } => Ok(()),
            Event::Dial { at, epoch, peer } => {
                self.on_dial(usize::from(at), epoch, peer);
                Ok(())
            }
            Event::Hello { wire, bytes } => {
                self.on_hello(wire, bytes);
                Ok(())
            }
            Event::Welcome { wire, bytes } => self.on_welcome(wire, bytes),
            Event::WireGone { wire, why } => {
                self.on_wire_gone(wire, why);
                Ok(())
            }
            Event::Doomed { wire } => {
                self.on_doomed(wire);
                Ok(())
            }
            Event::Nemesis => self.on_nemesis(),
            Event::Drill { turn } => {
                self.on_drill(turn);
                Ok(())
            }
            Event::Hurry { at, by } => {
                self.on_hurry(at, by);
                Ok(())
            }
            Event::Heal(healing) => self.on_heal(*healing),
            Event::FaultsEnd => self.end_faults(),
            Event::Converged => self.check_converged(),
        }
    }

    // ---- the phase without faults ----------------------------------------------------------------------------

    /// Faults end for a majority of sound nodes; the others are gone.
    fn end_faults(&mut self) -> Verdict {
        self.faults_are_on = false;
        self.course = Course::default();
        self.phase = Phase::Liveness;
        // The one that anything may happen to may rightly refuse to start, later too.
        let is_given_up = |at: usize| self.plan.damages == Damages::One(at) && self.nodes[at].is_damaged;
        let is_gone = |at: &usize| {
            let node = &self.nodes[*at];
            node.is_wiped || is_given_up(*at) || matches!(node.life, Life::Refused)
        };
        let sound: Vec<usize> = (0..self.plan.nodes).filter(|at| !is_gone(at)).collect();
        let is_damaged = self.nodes.iter().any(|node| node.is_damaged);
        let most = self.plan.nodes / 2 + 1;
        // A cluster that never formed needs all its members to begin.
        let wanted = if self.checks.commit.last().0 == 0 { self.plan.nodes } else { most };
        if sound.len() < wanted {
            self.trace.note(
                self.now,
                0,
                Kind::Phase,
                0,
                format_args!("no majority is sound before the cluster formed"),
            );
            self.phase = Phase::Over;
            return Ok(());
        }
        // What one disk has lost may be on one other alone.
        let wanted = if is_damaged { sound.len() } else { wanted };
        let mut majority = sound;
        while majority.len() > wanted && self.random.below(2) == 0 {
            let gone = self.random.index(majority.len());
            majority.remove(gone);
        }
        self.trace.note(self.now, 0, Kind::Phase, majority.len() as u64, format_args!("faults end for {majority:?}"));
        for at in 0..self.plan.nodes {
            self.end_faults_of(at, majority.contains(&at));
        }
        self.majority = majority;
        self.heal()?;
        for who in 0..self.plan.clients {
            self.connect_anew(who)?;
        }
        self.schedule(100 * MILLI, Event::Converged);
        Ok(())
    }

    fn end_faults_of(&mut self, at: usize, is_in: bool) {
        let now = self.now;
        let node = &mut self.nodes[at];
        node.disk.set_rates(super::disk::DiskRates::default());
        node.disk.set_capacity(u64::MAX);
        node.stalled_until = 0;
        node.clock.drift(now, 0);
        if !is_in {
            return self.kill(at);
        }
        node.end_pause();
        if node.is_up() { self.arm(at) } else { self.start(at) }
    }

    fn check_converged(&mut self) -> Verdict {
        let tick = self.plan.heartbeat.as_nanos() as Time / 5;
        let late = self.now >= SAFETY_PHASE + LIVENESS_TICKS * tick;
        let unanswered = self.clients.iter().filter(|client| !client.is_content).count();
        if self.phase == Phase::Liveness && unanswered == 0 {
            self.phase = Phase::Quiet;
            self.trace.note(self.now, 0, Kind::Phase, 1, format_args!("every client was served"));
        }
        if self.phase == Phase::Quiet && self.are_equal() {
            self.phase = Phase::Over;
            return Ok(());
        }
        if late && self.names_a_lost_entry() {
            self.tally.count(Fault::EntryNamedLost);
            self.phase = Phase::Over;
            return Ok(());
        }
        if late {
            return Err(Violation {
                property: "a majority without faults serves and converges",
                what: format!(
                    "{LIVENESS_TICKS} ticks after the faults, {unanswered} clients have written nothing; {}",
                    self.describe_nodes()
                ),
            });
        }
        self.schedule(100 * MILLI, Event::Converged);
        Ok(())
    }

    fn are_equal(&mut self) -> bool {
        let last = self.checks.commit.last();
        let mut digests = Vec::new();
        for at in self.majority.clone() {
            let keys = self.keys.iter().map(|key| &key[..]);
            let Some(running) = self.nodes[at].running() else { return false };
            let replica = running.replica();
            // Of a node that is gone the leader may go on saying that its disk is full.
            let is_in = |id: NodeId| self.majority.iter().any(|at| *at as u32 + 1 == id.get());
            let has_room = !replica.short_of_room().any(|(id, _)| is_in(id));
            if replica.applied() != last || replica.view().commit != last || !replica.is_intact() || !has_room {
                return false;
            }
            digests.push(state::digest(replica.store().view(), keys));
        }
        digests.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Whether a node names an entry of which no copy is left. Then no node has it.
    fn names_a_lost_entry(&mut self) -> bool {
        let health = |node: &mut Node| Some(node.running()?.replica().health());
        if self.nodes.iter_mut().filter_map(health).any(|health| health.nobody_is_sound) {
            return true;
        }
        let lost = |node: &mut Node| health(node)?.lost;
        let Some(lost) = self.nodes.iter_mut().find_map(lost) else { return false };
        let disks: Vec<_> = self.nodes.iter().map(|node| node.disk.fork()).collect();
        !disks.iter().any(|disk| self.held_by(disk).is_some_and(|held| held.has(lost.index, lost.term)))
    }

    fn describe_nodes(&mut self) -> String {
        let mut words = Vec::new();
        for at in 0..self.plan.nodes {
            let is_in = self.majority.contains(&at);
            let word = match self.nodes[at].running() {
                None => "down".to_string(),
                Some(running) => {
                    let (view, applied) = (running.replica().view(), running.replica().applied());
                    format!(
                        "{} term {} commit {} last {} durable {} applied {applied} {:?}",
                        view.role.as_str(),
                        view.term,
                        view.commit,
                        view.last,
                        view.durable,
                        running.replica().problems(Moment(self.now))
                    )
                }
            };
            words.push(format!("n{}{}: {word}", at + 1, if is_in { "" } else { " (out)" }));
        }
        words.join("; ")
    }

    // ---- the end -------------------------------------------------------------------------------------------

    fn finish(&mut self) -> Verdict {
        self.checks.finish()?;
        let digest = self.checks.replies.revision().0;
        self.trace.mix(digest);
        for record in self.history.records() {
            self.trace.mix(record.completed_ns.unwrap_or(0));
        }
        let wrong = |violation: linearizability::Violation| Violation {
            property: "linearizability of what clients saw",
            what: violation.to_string(),
        };
        linearizability::check(&self.history, Limits::default()).map_err(wrong)?;
        self.count_disk_faults();
        Ok(())
    }

    fn count_disk_faults(&mut self) {
        for node in &self.nodes {
            let faults = node.disk.faults();
            self.tally.add(Fault::CacheOutlived, faults.cache_outlived);
            self.tally.add(Fault::Vanished, faults.sectors_lost);
            self.tally.add(Fault::Torn, faults.writes_torn);
            self.tally.add(Fault::NameLost, faults.names_lost);
            self.tally.add(Fault::CutShort, faults.cut_operations);
            self.tally.add(Fault::SyncFailed, faults.sync_errors);
            self.tally.add(Fault::Full, faults.refused_full);
            self.tally.add(Fault::FullForSmall, faults.refused_small);
            self.tally.add(Fault::BitFlipped, faults.bits_flipped);
            self.tally.add(Fault::SectorBroken, faults.sectors_broken);
            self.tally.add(Fault::WentAstray, faults.writes_astray);
            self.tally.add(Fault::ReadFailed, faults.read_errors);
        }
    }
}
