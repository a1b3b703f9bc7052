//! A cluster of consensus cores whose every message, fsync and second is in the hands of the test.
//!
//! Each node has a disk that holds only what was persisted, and a queue of what was not. A restart loses the queue.
//! What no run may ever show is asserted here, whoever drives: one leader a term; a new leader holds everything
//! committed; what is handed out as committed is the same on all nodes, in order, and on the disks of a majority; and
//! no message promises what its sender's disk does not hold.
//!
//! A disk may lose entries, or its end, after it held them durably. It then has the mark, and says what it lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftkv::base::limits::PROMISE_MAX;
use raftkv::base::{
    ClusterId, Entry, EntryKind, HardState, InstanceId, LogIndex, Member, Members, Moment, NodeId, Role, Space, Term,
};
use raftkv::raft::{
    Absence, Body, Config, Damage, EntryId, Fetch, Health, Input, LeaseConfig, LogTail, Message, MissingEntry, Outputs,
    Persist, Raft, ReadId, Recovered, StateDigest,
};

pub const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(300);
pub const HEARTBEAT: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub struct Settings {
    pub append_bytes_max: usize,
    pub window_bytes_max: usize,
    pub window_messages_max: usize,
    pub log_memory_bytes_max: usize,
    pub uncommitted_bytes_max: usize,
    /// Of all nodes, until told otherwise; none: no node promises anything, nor waits at its start.
    pub lease: Option<LeaseConfig>,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            append_bytes_max: 1000,
            window_bytes_max: 4000,
            window_messages_max: 16,
            log_memory_bytes_max: 100_000,
            uncommitted_bytes_max: 100_000,
            lease: None,
            seed: 1,
        }
    }
}

pub struct Node {
    /// `None` while it is down.
    pub raft: Option<Raft>,
    pub instance: InstanceId,
    /// How often it was started before.
    pub starts: u64,
    pub disk: Disk,
    /// Handed to the wal, not durable yet.
    pub wal: VecDeque<Persist>,
    pub fetches: VecDeque<Fetch>,
    /// Handed to the disk in place of what it lost.
    pub refills: VecDeque<Entry>,
    /// What the log will be once the wal's queue is empty.
    pub log: Vec<Entry>,
    /// Handed out since the start.
    pub applied: Vec<Entry>,
    /// Of its state machine, in which a bit may flip.
    pub digest: u64,
    /// Its setting from its next start on, where it is not that of all.
    pub own_lease: Option<Option<LeaseConfig>>,
    /// How far its clock is ahead of that of the test, and how much it gains on it, in percent.
    pub ahead: Duration,
    pub gains_percent: u32,
}

#[derive(Clone, Default)]
pub struct Disk {
    pub hard_state: HardState,
    /// With the entries in `lost` as they were, for comparison only.
    pub log: Vec<Entry>,
    pub lost: BTreeSet<LogIndex>,
    /// Of these, what was lost while the node ran: a promise may have been on its way then.
    pub lost_lately: BTreeSet<LogIndex>,
    pub suspect: bool,
    pub end_uncertain: bool,
    /// What it has ever held durably.
    pub ever: BTreeSet<(LogIndex, Term)>,
}

impl Disk {
    fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            let replaced = self.lost.split_off(&first.index);
            // What is missing comes back in its own term: the log was cut before it.
            self.end_uncertain |= replaced.iter().any(|at| self.log[at.0 as usize - 1].term == first.term);
        }
        overwrite(&mut self.log, entries);
        self.ever.extend(entries.iter().map(|entry| (entry.index, entry.term)));
    }

    pub fn holds(&self, entry: &Entry) -> bool {
        self.log.get(entry.index.0 as usize - 1) == Some(entry) && !self.lost.contains(&entry.index)
    }

    /// The last entry before the first that was lost before the node started.
    fn sound_until(&self) -> u64 {
        self.lost.difference(&self.lost_lately).next().map_or(self.log.len() as u64, |first| first.0 - 1)
    }
}

pub struct Cluster {
    pub nodes: BTreeMap<NodeId, Node>,
    pub network: Vec<Message>,
    pub blocked: BTreeSet<(NodeId, NodeId)>,
    pub now: Moment,
    /// What happened, for a reader.
    pub events: String,
    /// Every entry that any node has handed out as committed.
    pub committed: Vec<Entry>,
    /// Reads under way: what was known to be committed when they were asked.
    reads: BTreeMap<(NodeId, ReadId), usize>,
    leaders: BTreeMap<Term, NodeId>,
    settings: Settings,
    directories: u128,
}

pub fn id(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn overwrite(log: &mut Vec<Entry>, entries: &[Entry]) {
    if let Some(first) = entries.first() {
        log.truncate(first.index.0 as usize - 1);
        log.extend_from_slice(entries);
    }
}

impl Cluster {
    /// `size` nodes with empty directories.
    pub fn new(size: u32, settings: Settings) -> Cluster {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            network: Vec::new(),
            blocked: BTreeSet::new(),
            now: Moment(1_000_000_000),
            events: String::new(),
            committed: Vec::new(),
            reads: BTreeMap::new(),
            leaders: BTreeMap::new(),
            settings,
            directories: 0,
        };
        for number in 1..=size {
            let node = cluster.empty_directory(id(number));
            cluster.nodes.insert(id(number), node);
        }
        for number in 1..=size {
            cluster.start(id(number));
        }
        cluster
    }

    /// The first directory of node 2 is 2, its second one 102, and so on.
    fn empty_directory(&mut self, node: NodeId) -> Node {
        let wiped = if self.nodes.contains_key(&node) {
            self.directories += 100;
            self.directories
        } else {
            0
        };
        Node {
            raft: None,
            instance: InstanceId(u128::from(node.get()) + wiped),
            starts: 0,
            disk: Disk::default(),
            wal: VecDeque::new(),
            fetches: VecDeque::new(),
            refills: VecDeque::new(),
            log: Vec::new(),
            applied: Vec::new(),
            digest: 0,
            own_lease: None,
            ahead: Duration::ZERO,
            gains_percent: 0,
        }
    }

    fn bootstrap(&self, known: bool) -> Members {
        let member = |id: &NodeId| Member {
            id: *id,
            instance: known.then_some(InstanceId(u128::from(id.get()))),
            address: format!("node{id}").into(),
        };
        Members {
            cluster: ClusterId(7),
            voters: self.nodes.keys().map(member).collect(),
            outgoing: vec![],
            learners: vec![],
        }
    }

    pub fn start(&mut self, node: NodeId) {
        let bootstrap = self.bootstrap(false);
        let settings = &self.settings;
        let state = self.nodes.get_mut(&node).unwrap();
        let config = Config {
            id: node,
            instance: state.instance,
            bootstrap,
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: ELECTION_TIMEOUT_MAX,
            heartbeat: HEARTBEAT,
            lease: state.own_lease.unwrap_or(settings.lease),
            promise_max: if settings.lease.is_some() { PROMISE_MAX } else { Duration::ZERO },
            persist_stall: Duration::from_secs(2),
            append_bytes_max: settings.append_bytes_max,
            window_bytes_max: settings.window_bytes_max,
            window_messages_max: settings.window_messages_max,
            log_memory_bytes_max: settings.log_memory_bytes_max,
            uncommitted_bytes_max: settings.uncommitted_bytes_max,
            seed: settings.seed + state.starts,
        };
        state.starts += 1;
        let recovered = recover(&state.disk, settings.log_memory_bytes_max);
        state.log = state.disk.log.clone();
        state.raft = Some(Raft::new(config, recovered, self.now + state.ahead));
    }

    /// Time passes: everywhere, and on every clock as that goes.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for node in self.nodes.values_mut() {
            node.ahead += time * node.gains_percent / 100;
        }
    }

    /// What a node's clock shows.
    pub fn clock(&self, node: NodeId) -> Moment {
        self.now + self.nodes[&node].ahead
    }

    /// For how long a node may answer reads without asking, from now on.
    pub fn lease(&self, node: NodeId) -> Option<Duration> {
        let applied = LogIndex(self.nodes[&node].applied.len() as u64);
        let until = self.raft(node)?.lease_until(applied)?;
        let now = self.clock(node);
        (now < until).then(|| until.since(now))
    }

    /// Power is lost: what was not persisted is gone.
    pub fn crash(&mut self, node: NodeId) {
        let state = self.nodes.get_mut(&node).unwrap();
        state.raft = None;
        state.wal.clear();
        state.fetches.clear();
        state.refills.clear();
        state.disk.lost_lately.clear();
        state.applied.clear();
        state.digest = 0;
        self.reads.retain(|(reader, _), _| *reader != node);
    }

    /// It comes back with another, empty directory.
    pub fn wipe(&mut self, node: NodeId) {
        self.crash(node);
        let empty = self.empty_directory(node);
        self.nodes.insert(node, empty);
    }

    /// Gives a node that is down a log of these terms; the first entry names the members.
    pub fn write_disk(&mut self, node: NodeId, hard_state: HardState, terms: &[u64]) {
        let members = self.bootstrap(true).encode();
        let entry = |(position, term): (usize, &u64)| {
            let index = position as u64 + 1;
            let (kind, data) = match position {
                0 => (EntryKind::Members, members.clone()),
                _ => (EntryKind::Commands, Bytes::from(format!("e{index}t{term}"))),
            };
            Entry { index: LogIndex(index), term: Term(*term), kind, data }
        };
        let log: Vec<Entry> = terms.iter().enumerate().map(entry).collect();
        let mut disk = Disk { hard_state, ..Disk::default() };
        disk.append(&log);
        self.nodes.get_mut(&node).unwrap().disk = disk;
    }

    /// The disk loses the content of these entries; it still knows which they were.
    pub fn lose(&mut self, node: NodeId, indexes: &[LogIndex]) {
        let disk = &mut self.nodes.get_mut(&node).unwrap().disk;
        let indexes: Vec<LogIndex> = indexes.iter().copied().filter(|at| at.0 as usize <= disk.log.len()).collect();
        if indexes.is_empty() {
            return;
        }
        disk.suspect = true;
        disk.lost.extend(&indexes);
        disk.lost_lately.extend(&indexes);
        let missing = indexes.iter().map(|index| missing_entry(disk, *index)).collect();
        self.step(node, Input::Damaged { missing });
    }

    /// The disk of a node that is down loses the end of its log, and no longer knows what it was.
    pub fn lose_end(&mut self, node: NodeId, entries: usize) {
        let state = self.nodes.get_mut(&node).unwrap();
        assert!(state.raft.is_none(), "the end of a log in use can't be lost unseen");
        let kept = state.disk.log.len().saturating_sub(entries);
        state.disk.log.truncate(kept);
        state.disk.lost.split_off(&LogIndex(kept as u64 + 1));
        (state.disk.suspect, state.disk.end_uncertain) = (true, true);
    }

    /// The disk takes what it was offered, for the oldest entry that it lost. False: nothing is offered.
    pub fn repair(&mut self, node: NodeId) -> bool {
        let state = self.nodes.get_mut(&node).unwrap();
        let Some(entry) = state.refills.pop_front() else { return false };
        let lost = state.disk.lost.contains(&entry.index);
        let is_it = lost && state.disk.log.get(entry.index.0 as usize - 1) == Some(&entry);
        if is_it {
            state.disk.lost.remove(&entry.index);
        }
        // What it has lost no more it has written anew.
        let is_there = is_it || !lost;
        let (done, refused) = if is_there { (vec![entry.index], vec![]) } else { (vec![], vec![entry.index]) };
        self.step(node, Input::Repaired { done, refused });
        true
    }

    pub fn raft(&self, node: NodeId) -> Option<&Raft> {
        self.nodes.get(&node)?.raft.as_ref()
    }

    pub fn up(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.raft.is_some()).map(|(id, _)| *id).collect()
    }

    pub fn leaders(&self) -> Vec<NodeId> {
        let leads = |id: &NodeId| self.raft(*id).is_some_and(|raft| raft.view().role == Role::Leader);
        self.up().into_iter().filter(leads).collect()
    }

    pub fn step(&mut self, node: NodeId, input: Input) {
        let Some(now) = self.nodes.contains_key(&node).then(|| self.clock(node)) else { return };
        let Some(raft) = self.nodes.get_mut(&node).and_then(|state| state.raft.as_mut()) else { return };
        let mut out = Outputs::default();
        raft.step(now, input, &mut out);
        self.take(node, out);
    }

    pub fn tick(&mut self, node: NodeId) {
        self.step(node, Input::Tick);
    }

    /// Time passes, and `nodes` are told at its end, and before as often as they must be: they don't stand still.
    pub fn pass_awake(&mut self, nodes: &[NodeId], time: Duration) {
        let mut left = time;
        loop {
            let step = if left > HEARTBEAT { HEARTBEAT } else { left };
            self.pass(step);
            nodes.iter().for_each(|node| self.tick(*node));
            left -= step;
            if left.is_zero() {
                return;
            }
        }
    }

    pub fn propose(&mut self, node: NodeId, data: &str) {
        self.step(node, Input::Propose { data: Bytes::from(data.to_string()) });
    }

    pub fn read(&mut self, node: NodeId, read: u64) {
        self.reads.insert((node, ReadId(read)), self.committed.len());
        self.step(node, Input::Read { id: ReadId(read) });
    }

    pub fn read_here(&mut self, node: NodeId, read: u64) {
        self.reads.insert((node, ReadId(read)), self.committed.len());
        self.step(node, Input::ReadHere { id: ReadId(read) });
    }

    /// The message at `position` of the network arrives, or is lost on a blocked link.
    pub fn deliver(&mut self, position: usize) {
        let message = self.network.remove(position);
        if !self.blocked.contains(&(message.from, message.to)) {
            self.step(message.to, Input::Message(message));
        }
    }

    /// A bit flips in the memory of its state machine.
    pub fn flip(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).unwrap().digest ^= 1;
    }

    /// The oldest batch of a node becomes durable. False: it has none.
    pub fn persist(&mut self, node: NodeId) -> bool {
        let state = self.nodes.get_mut(&node).unwrap();
        let Some(batch) = state.wal.pop_front() else { return false };
        state.disk.hard_state = batch.hard_state.unwrap_or(state.disk.hard_state);
        state.disk.append(&batch.entries);
        for message in batch.messages {
            self.send(node, message);
        }
        self.step(node, Input::Persisted { seq: batch.seq });
        true
    }

    /// The oldest fetch of a node is answered, with at most `count` entries; 0: it fails for now.
    pub fn fetch(&mut self, node: NodeId, count: usize) -> bool {
        let state = self.nodes.get_mut(&node).unwrap();
        let Some(Fetch { lo, hi }) = state.fetches.pop_front() else { return false };
        let end = (hi.0 as usize).min(state.disk.log.len());
        let entries = state.disk.log.get(lo.0 as usize - 1..end).unwrap_or_default();
        let lost = &state.disk.lost;
        let entries = entries.iter().take_while(|entry| !lost.contains(&entry.index)).take(count).cloned().collect();
        self.step(node, Input::Fetched { lo, entries });
        true
    }

    fn take(&mut self, node: NodeId, out: Outputs) {
        let state = self.nodes.get_mut(&node).unwrap();
        for persist in &out.persists {
            overwrite(&mut state.log, &persist.entries);
        }
        state.wal.extend(out.persists);
        for fetch in out.fetches {
            assert!(fetch.hi >= fetch.lo && fetch.hi.0 as usize <= state.disk.log.len(), "{node}: {fetch:?}");
            writeln!(self.events, "{node} fetches {}..{}", fetch.lo, fetch.hi).unwrap();
            state.fetches.push_back(fetch);
        }
        if let Some(from) = out.truncated_from {
            self.event(format!("{node} truncates from {from}"));
        }
        for change in out.role_changes {
            let leader = change.leader.map_or("none".to_string(), |leader| leader.to_string());
            let (role, term, why) = (change.role.as_str(), change.term, change.why);
            self.event(format!("{node} {role} term={term} leader={leader}: {why}"));
            if change.role == Role::Leader {
                self.check_leader(node, term);
            }
        }
        if let Some(proposed) = out.proposed {
            self.event(match proposed {
                Ok(proposed) => format!("{node} proposes {}@{}", proposed.index, proposed.term),
                Err(refused) => format!("{node} refuses: {refused:?}"),
            });
        }
        let state = self.nodes.get_mut(&node).unwrap();
        state.refills.extend(out.refilled);
        if out.cleared {
            assert_eq!(state.disk.lost.first(), None, "node {node} calls itself sound, and its disk lacks that entry");
            (state.disk.suspect, state.disk.end_uncertain) = (false, false);
            self.event(format!("{node} is sound again"));
        }
        for message in out.send {
            self.send(node, message);
        }
        for entry in out.committed {
            self.check_committed(node, entry);
        }
        for read in out.reads_failed {
            self.event(format!("{node} read {} failed", read.0));
            self.reads.remove(&(node, read));
        }
        for read in out.reads_ready {
            self.event(format!("{node} read {} at {}", read.id.0, read.index));
            let known = self.reads.remove(&(node, read.id)).expect("a read is answered once");
            assert!(read.index.0 as usize >= known, "{node} reads at {}, {known} was committed before", read.index);
        }
    }

    fn event(&mut self, event: String) {
        writeln!(self.events, "{event}").unwrap();
    }

    fn send(&mut self, node: NodeId, message: Message) {
        let disk = &self.nodes[&node].disk;
        let holds = match message.body {
            Body::Vote { .. } => remembers(disk, message.term, node),
            Body::VoteReply { granted: true, .. } => remembers(disk, message.term, message.to),
            Body::AppendAccepted { matched, .. } => {
                disk.hard_state.term >= message.term && disk.sound_until() >= matched.0
            }
            _ => true,
        };
        assert!(holds, "node {node} promises what its disk does not hold: {}", describe(&message));
        self.network.push(message);
    }

    fn check_leader(&mut self, node: NodeId, term: Term) {
        let leader = *self.leaders.entry(term).or_insert(node);
        assert_eq!(leader, node, "term {term} has two leaders");
        let log = &self.nodes[&node].log;
        let complete = log.len() >= self.committed.len() && log[..self.committed.len()] == self.committed[..];
        assert!(complete, "node {node} leads term {term} without an entry that is committed");
        for other in self.up().into_iter().filter(|other| *other != node) {
            let lease = self.lease(other);
            assert!(lease.is_none(), "node {node} leads term {term}, and node {other} has a lease for {lease:?}");
        }
    }

    fn check_committed(&mut self, node: NodeId, entry: Entry) {
        self.event(format!("{node} applies {}", describe_entry(&entry)));
        let position = entry.index.0 as usize - 1;
        let state = self.nodes.get_mut(&node).unwrap();
        assert_eq!(position, state.applied.len(), "node {node} applies {} out of order", entry.index);
        state.applied.push(entry.clone());
        state.digest = state.digest.wrapping_mul(31).wrapping_add(entry.index.0 + entry.data.len() as u64);
        let digest = StateDigest { index: entry.index, digest: state.digest };
        state.raft.iter_mut().for_each(|raft| raft.note_applied(digest));
        if position == self.committed.len() {
            let first = self.committed.first().unwrap_or(&entry);
            let members = Members::decode(&first.data).expect("the first entry names the members");
            let holds = |member: &&Member| {
                let state = &self.nodes[&member.id];
                // A directory that is gone can't be asked.
                Some(state.instance) != member.instance || state.disk.ever.contains(&(entry.index, entry.term))
            };
            let holders = members.voters.iter().filter(holds).count();
            assert!(holders > members.voters.len() / 2, "{} is committed, and {holders} disks hold it", entry.index);
            self.committed.push(entry);
        } else {
            assert_eq!(self.committed[position], entry, "node {node} applies another entry {}", entry.index);
        }
    }

    /// Completes everything but what happens on `hung` disks, until nothing is left to do.
    pub fn settle(&mut self, hung: &BTreeSet<NodeId>) {
        for _ in 0..10_000 {
            let mut busy = false;
            while !self.network.is_empty() {
                self.deliver(0);
                busy = true;
            }
            for node in self.up() {
                let free = !hung.contains(&node);
                busy |= (free && self.persist(node)) | self.fetch(node, 3) | self.repair(node);
            }
            if !busy {
                return;
            }
        }
        panic!("it does not settle:\n{}", self.network.iter().take(20).map(describe).collect::<Vec<_>>().join("\n"));
    }

    /// Lets `time` pass with ticks every 10 ms, and everything else done in between.
    pub fn run(&mut self, time: Duration, hung: &BTreeSet<NodeId>) {
        let end = self.now + time;
        while self.now < end {
            self.pass(Duration::from_millis(10));
            for node in self.up() {
                self.tick(node);
            }
            self.settle(hung);
        }
    }
}

/// Whether a disk remembers the vote for `candidate` in `term`, or has gone on to a later term.
fn remembers(disk: &Disk, term: Term, candidate: NodeId) -> bool {
    let HardState { term: durable, vote } = disk.hard_state;
    durable > term || (durable == term && vote == Some(candidate))
}

fn recover(disk: &Disk, memory_bytes_max: usize) -> Recovered {
    let missing = disk.lost.iter().map(|index| missing_entry(disk, *index)).collect();
    let damage = Damage { suspect: disk.suspect, end_uncertain: disk.end_uncertain, missing };
    let mut recovered = Recovered { hard_state: disk.hard_state, damage, ..Recovered::default() };
    let mut tail = LogTail { last_index: LogIndex(disk.log.len() as u64), ..LogTail::default() };
    for entry in &disk.log {
        if tail.term_runs.last().is_none_or(|(_, term)| *term != entry.term) {
            tail.term_runs.push((entry.index, entry.term));
        }
        if entry.kind == EntryKind::Members && !disk.lost.contains(&entry.index) {
            recovered.members.push((entry.index, Arc::new(Members::decode(&entry.data).unwrap())));
        }
    }
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.cost_bytes();
        bytes <= memory_bytes_max && !disk.lost.contains(&entry.index)
    };
    tail.entries = disk.log.iter().rev().take_while(fits).cloned().collect();
    tail.entries.reverse();
    recovered.log = tail;
    recovered
}

fn missing_entry(disk: &Disk, index: LogIndex) -> MissingEntry {
    MissingEntry { index, term: disk.log[index.0 as usize - 1].term, checksum: None }
}

pub fn describe_entry(entry: &Entry) -> String {
    let content = match entry.kind {
        EntryKind::Noop => "noop".to_string(),
        EntryKind::Members => "members".to_string(),
        EntryKind::Commands => String::from_utf8_lossy(&entry.data).into_owned(),
    };
    format!("{}@{} {content}", entry.index, entry.term)
}

pub fn describe_log(log: &[Entry]) -> String {
    log.iter().map(describe_entry).collect::<Vec<_>>().join(", ")
}

pub fn describe(message: &Message) -> String {
    let what = match &message.body {
        Body::PreVote { proposed, last_index, last_term } => format!("PreVote for={proposed} {last_index}@{last_term}"),
        Body::PreVoteReply { proposed, granted, log_is_empty, suspect } => {
            format!("PreVoteReply for={proposed} {}{}{}", yes(*granted), empty(*log_is_empty), doubt(*suspect))
        }
        Body::Vote { last_index, last_term, .. } => format!("Vote {last_index}@{last_term}"),
        Body::VoteReply { granted, log_is_empty, suspect } => {
            format!("VoteReply {}{}{}", yes(*granted), empty(*log_is_empty), doubt(*suspect))
        }
        Body::Append { prev_index, prev_term, entries, commit, .. } => {
            format!("Append behind {prev_index}@{prev_term} [{}] commit={commit}", describe_log(entries))
        }
        Body::AppendAccepted { matched, .. } => format!("AppendAccepted matched={matched}"),
        Body::AppendRejected { prev_index, hint_index, hint_term, .. } => {
            format!("AppendRejected prev={prev_index} hint={hint_index}@{hint_term}")
        }
        Body::Heartbeat { commit, round, promise_ms, .. } => {
            format!("Heartbeat commit={commit} round={round}{}", promise(*promise_ms))
        }
        Body::HeartbeatReply { round, space, promise_ms, .. } => {
            let space = if *space == Space::Plenty { String::new() } else { format!(" space={space:?}") };
            format!("HeartbeatReply round={round}{space}{}", promise(*promise_ms))
        }
        Body::ReadIndex { .. } => "ReadIndex".to_string(),
        Body::ReadIndexReply { index, .. } => format!("ReadIndexReply {index}"),
        Body::Refill { wanted, .. } => format!("Refill [{}]", list(wanted, describe_id)),
        Body::Refilled { entries, absent, barrier } => {
            let absent = list(absent, |(id, absence)| match absence {
                Absence::Never => format!("never {}", describe_id(id)),
                Absence::Replaced => format!("replaced {}", describe_id(id)),
                Absence::Lost => format!("lost {}", describe_id(id)),
            });
            let barrier = barrier.map_or(String::new(), |barrier| format!(" barrier={}", barrier.index));
            format!("Refilled [{}] [{absent}]{barrier}", describe_log(entries))
        }
    };
    format!("{}-{} term={} {what}", message.from, message.to, message.term)
}

pub fn describe_health(health: &Health) -> String {
    let Health { suspect, end_uncertain, missing, first_missing, lost, nobody_is_sound } = health;
    if !suspect {
        return "sound".to_string();
    }
    let first =
        first_missing.as_ref().map_or(String::new(), |id| format!(", {missing} missing from {}", describe_id(id)));
    let lost = lost.as_ref().map_or(String::new(), |id| format!(", every copy of {} is bad", describe_id(id)));
    let end = if *end_uncertain { ", end uncertain" } else { "" };
    let nobody = if *nobody_is_sound { ", nobody is sound" } else { "" };
    format!("suspect{end}{first}{lost}{nobody}")
}

fn describe_id(id: &EntryId) -> String {
    format!("{}@{}", id.index, id.term)
}

fn list<T>(items: &[T], describe: impl Fn(&T) -> String) -> String {
    items.iter().map(describe).collect::<Vec<_>>().join(", ")
}

fn promise(milliseconds: u32) -> String {
    if milliseconds == 0 { String::new() } else { format!(" promise={milliseconds}") }
}

fn doubt(suspect: bool) -> &'static str {
    if suspect { " (suspect)" } else { "" }
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

fn empty(log_is_empty: bool) -> &'static str {
    if log_is_empty { " (empty log)" } else { "" }
}
