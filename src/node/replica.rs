//! The node without its threads: an event goes in, effects come out.
//!
//! Owns the Raft state, the key-value state and everything that waits. Runs on the consensus thread, of a real node
//! and of an embedded one alike. It touches no clock, socket, file or thread, so that a simulator can run it too.
//!
//! A turn: any number of [`Replica::on_event`], then one [`Replica::end_turn`], which proposes what was collected,
//! applies what is committed and answers what can be answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::api::{Leader, PeerStatus, Reply, Request, ScrubStatus, Status};
use crate::base::{
    ClusterId, Entry, LogIndex, Members, Moment, NodeId, PersistSeq, Role, Shortage, Space, Step, Term, counted,
};
use crate::guard::{Guard, removed};
use crate::kv::{self, Store};
use crate::net::{FromNet, NetEvent, Origin};
use crate::raft::{
    self, EntryId, Fetch, Health, Input, MissingEntry, Outputs, Persist, ProposeRefused, Raft, RoleChange, StateDigest,
};
use crate::wire;

use super::admit::{self, Batch, Verdict};
use super::apply::{self, ApplyError};
use super::reply;
use super::waiting::{Expired, PendingForward, PendingReads, PendingWrite, Waiter, Waiting};

/// What a replica is told at start.
#[derive(Debug)]
pub struct ReplicaConfig {
    pub raft: raft::Config,
    pub cluster_name: String,
    pub request_timeout: Duration,
    pub started: Moment,
    /// The number of the first request that this start passes on. Another one at each start: the leader may answer
    /// what was passed on before, and the answer must not find a request of this start.
    pub forward_id_first: u64,
}

/// What happens to a replica.
#[derive(Debug)]
pub enum ReplicaEvent {
    FromNet(FromNet),
    Persisted {
        seq: PersistSeq,
    },
    /// How much room this node's disk has, since it changed.
    Space(Space),
    /// Why this node can't make what its log needs next, since it changed.
    Shortage(Option<Shortage>),
    Fetched {
        lo: LogIndex,
        entries: Vec<Entry>,
    },
    /// How the reading of the log for damage goes on.
    Scrubbed {
        status: ScrubStatus,
        beyond_repair: Option<String>,
    },
    /// The disk has lost these entries.
    Damaged {
        missing: Vec<MissingEntry>,
    },
    /// What became of entries that were to be written back.
    Repaired {
        done: Vec<LogIndex>,
        refused: Vec<LogIndex>,
    },
    Tick,
    /// Take no more requests: the node is about to stop.
    Drain,
}

/// What a turn asks of the threads around.
#[derive(Debug, Default)]
pub struct Effects {
    pub persists: Vec<Persist>,
    pub net: Vec<NetEvent>,
    pub fetches: Vec<Fetch>,
    /// Entries that the disk has lost, to be written back.
    pub refilled: Vec<Entry>,
    /// The disk lacks nothing any more: its mark may go.
    pub cleared: bool,
    /// Somebody asked for the log to be read for damage.
    pub scrub: bool,
    /// The log's membership as it is applied: to be dialed.
    pub members: Option<Arc<Members>>,
    /// The entry that names the cluster is committed, and durable here: the directory may be stamped with it. Not
    /// before: a directory that knows its cluster and has an empty log has lost it.
    pub record_cluster: Option<ClusterId>,
    pub role_changes: Vec<RoleChange>,
    /// Something that no node may survive: what was committed can't be applied.
    pub fatal: Option<ApplyError>,
}

#[derive(Debug)]
struct PeerLink {
    address: Arc<str>,
    /// Empty while the link is up.
    down_because: String,
}

pub struct Replica {
    id: NodeId,
    cluster_name: String,
    cluster: Option<ClusterId>,
    /// The cluster and the entry that named it, until both are durable.
    unrecorded: Option<(LogIndex, ClusterId)>,
    request_timeout: Duration,
    started: Moment,
    raft: Raft,
    out: Outputs,
    store: Store,
    applied: LogIndex,
    clock: ClusterClock,
    batch: Batch,
    waiting: Waiting,
    peers: BTreeMap<NodeId, PeerLink>,
    own_address: Arc<str>,
    scrub: ScrubStatus,
    /// Damage of its log that nothing helps against.
    beyond_repair: Option<String>,
    shortage: Option<Shortage>,
    draining: bool,
}

impl Replica {
    pub fn new(config: ReplicaConfig, recovered: raft::Recovered, now: Moment) -> Replica {
        let id = config.raft.id;
        let cluster = recovered.members.last().map(|(_, members)| members.cluster);
        let raft = Raft::new(config.raft, recovered, now);
        let mut replica = Replica {
            id,
            cluster_name: config.cluster_name,
            cluster,
            unrecorded: None,
            request_timeout: config.request_timeout,
            started: config.started,
            raft,
            out: Outputs::default(),
            store: Store::new(),
            applied: LogIndex::ZERO,
            clock: ClusterClock::default(),
            batch: Batch::default(),
            waiting: Waiting::new(config.forward_id_first),
            peers: BTreeMap::new(),
            own_address: "".into(),
            scrub: ScrubStatus::default(),
            beyond_repair: None,
            shortage: None,
            draining: false,
        };
        let members = replica.raft.view().members;
        replica.take_addresses(&members);
        replica
    }

    /// Its directory belongs to `cluster`, if it knows one; the log says so too, unless it has lost that.
    pub fn in_cluster(mut self, cluster: Option<ClusterId>) -> Replica {
        self.cluster = self.cluster.or(cluster);
        self
    }

    pub fn on_event(&mut self, now: Moment, event: ReplicaEvent, effects: &mut Effects) {
        match event {
            ReplicaEvent::FromNet(event) => self.on_net(now, event, effects),
            ReplicaEvent::Persisted { seq } => self.raft.step(now, Input::Persisted { seq }, &mut self.out),
            ReplicaEvent::Space(space) => self.raft.step(now, Input::Space(space), &mut self.out),
            ReplicaEvent::Shortage(shortage) => self.shortage = shortage,
            ReplicaEvent::Fetched { lo, entries } => {
                self.raft.step(now, Input::Fetched { lo, entries }, &mut self.out);
            }
            ReplicaEvent::Scrubbed { status, beyond_repair } => {
                (self.scrub, self.beyond_repair) = (status, beyond_repair)
            }
            ReplicaEvent::Damaged { missing } => self.raft.step(now, Input::Damaged { missing }, &mut self.out),
            ReplicaEvent::Repaired { done, refused } => {
                self.raft.step(now, Input::Repaired { done, refused }, &mut self.out);
            }
            ReplicaEvent::Tick => self.on_tick(now, effects),
            ReplicaEvent::Drain => self.draining = true,
        }
    }

    /// Ends a turn: proposes and confirms what was collected, applies what is committed, answers what can be.
    pub fn end_turn(&mut self, now: Moment, effects: &mut Effects) {
        // Before anything is proposed: the same turn may have replaced entries and then won an election.
        if let Some(from) = self.out.truncated_from.take() {
            if !removed(Guard::ReplyByIndex) {
                self.waiting.on_truncated(from);
            }
            if removed(Guard::ReplacedIsFailed) {
                for waiter in self.waiting.take_superseded(LogIndex::ZERO, Term(u64::MAX)) {
                    reply::answer(waiter, reply::write_replaced(self.leader()), &mut effects.net);
                }
            }
        }
        self.propose_writes(now, effects);
        self.confirm_reads(now);
        let out = std::mem::take(&mut self.out);
        effects.persists.extend(out.persists);
        effects.net.extend(out.send.into_iter().map(|message| NetEvent::Send { message }));
        effects.fetches.extend(out.fetches);
        effects.refilled.extend(out.refilled);
        effects.cleared |= out.cleared;
        for entry in &out.committed {
            if effects.fatal.is_none() {
                self.apply(now, entry, effects);
            }
        }
        for ready in out.reads_ready {
            self.waiting.confirm_reads(ready.id, ready.index);
        }
        for id in out.reads_failed {
            let failed = self.waiting.take_reads(id);
            for (waiter, _) in failed.into_iter().flat_map(|reads| reads.reads) {
                reply::answer(waiter, reply::read_failed(self.leader()), &mut effects.net);
            }
        }
        self.answer_reads(effects);
        let durable = self.raft.view().durable;
        if let Some((_, cluster)) = self.unrecorded.take_if(|(index, _)| *index <= durable) {
            effects.record_cluster = Some(cluster);
        }
        if let Some(leader) = out.role_changes.iter().rev().find_map(|change| change.leader) {
            for forward in self.waiting.take_reads_not_to(leader) {
                let reply = reply::forward_failed(forward.is_write, "another node leads now", self.leader());
                reply::answer(forward.waiter, reply, &mut effects.net);
            }
        }
        effects.role_changes.extend(out.role_changes);
    }

    /// Whether nobody waits for an answer any more.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.batch.writes.is_empty() && self.batch.reads.is_empty()
    }

    /// Whether committed entries are at hand that a turn had no room for: the next tick goes on with them.
    pub fn has_more_to_apply(&self) -> bool {
        self.raft.has_undelivered()
    }

    /// Answers everything that still waits; the node stops.
    pub fn give_up(&mut self, effects: &mut Effects) {
        let expired = self.waiting.take_all();
        self.answer_expired(expired, "this node is stopping", effects);
    }

    pub fn id(&self) -> NodeId {
        self.id
    }

    pub fn view(&self) -> raft::View {
        self.raft.view()
    }

    /// The last entry that changed the state.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// The key-value state as of [`Replica::applied`].
    pub fn store(&self) -> kv::View<'_> {
        self.store.view()
    }

    /// The term of the entry at `index` of its log; `None` behind the end. For checks from outside.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.raft.term_at(index)
    }

    /// Bytes of entries that it holds in memory, and whether more than the setting allows because they may not go yet.
    pub fn log_bytes(&self) -> (usize, bool) {
        self.raft.log_bytes()
    }

    pub fn has_leader(&self) -> bool {
        self.raft.view().leader.is_some()
    }

    pub fn health(&self) -> Health {
        self.raft.health()
    }

    /// Whether there is nothing wrong with this node's disk and state, nor, as far as it knows, with the others' room and
    /// state.
    pub fn is_sound(&self) -> bool {
        self.is_intact() && self.short_of_room().next().is_none()
    }

    /// Whether this node lacks nothing that it had, and knows of no state that is another one.
    pub fn is_intact(&self) -> bool {
        self.raft.diverged().is_none() && self.raft.differing().is_empty() && !self.raft.is_suspect()
    }

    /// The nodes that are short of room, as far as this one knows: what a node that is gone said last, too.
    pub fn short_of_room(&self) -> impl Iterator<Item = (NodeId, Space)> {
        self.raft.short_of_room()
    }

    /// Nothing goes on without a disk that is not here: waiting does not help.
    pub fn is_stuck(&self) -> bool {
        let Health { lost, nobody_is_sound, .. } = self.raft.health();
        lost.is_some() || nobody_is_sound
    }

    /// What is wrong with this node's disk, state and place in the cluster, and what is done about it, as sentences.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.log_problems();
        problems.extend(self.beyond_repair.iter().map(|what| {
            format!(
                "its log is damaged beyond repair, {what}: it goes on as long as it runs and will not start again, so \
                 keep it running until all others are up"
            )
        }));
        problems.extend(self.raft.why_uncounted());
        problems.extend(self.raft.short_of_room().map(|(node, space)| self.room_problem(node, space)));
        if let Some(index) = self.raft.diverged() {
            problems.push(format!(
                "its state differs from the majority's behind log entry {index}: it does not lead any more; restart it, and \
                 it builds its state anew (run the same version on all nodes, and test this machine's memory)"
            ));
        }
        for (node, index) in self.raft.differing().iter().filter(|(node, _)| **node != self.id) {
            problems.push(format!("the state of node {node} differs from the majority's behind log entry {index}"));
        }
        problems
    }

    fn room_problem(&self, node: NodeId, space: Space) -> String {
        if node != self.id {
            let how = if space == Space::Low { "nearly full" } else { "full" };
            return format!("the disk of node {node} is {how} (its own status says why)");
        }
        let (how, what) = match space {
            Space::Low => {
                ("nearly full", "while it leads, or a majority is like it, nothing that makes the data grow is taken")
            }
            _ => ("full", "it takes no new log entries and does not stand for election"),
        };
        match &self.shortage {
            Some(Shortage { is_full: false, what: why }) => {
                format!("it can't make what its log needs next ({why}): {what}; mend that, and it goes on by itself")
            }
            shortage => {
                let why = shortage.as_ref().map_or(String::new(), |shortage| format!(" ({})", shortage.what));
                format!(
                    "its disk is {how}{why}: {what}; make room in the file system of its data directory, and it goes on by \
                     itself"
                )
            }
        }
    }

    fn log_problems(&self) -> Vec<String> {
        let Health { suspect, end_uncertain, missing, first_missing, lost, nobody_is_sound } = self.raft.health();
        let mut problems = Vec::new();
        if !suspect {
            return problems;
        }
        problems.extend(lost.map(every_copy_is_bad));
        if let Some(EntryId { index, .. }) = first_missing {
            let entries = counted(missing as u64, "log entry", "log entries");
            let what = match lost {
                Some(_) => "until all are there again its vote does not count",
                None => "what is lost is fetched from the other nodes, and until then its vote does not count",
            };
            problems.push(format!("its disk has lost {entries}, the first is {index}: {what}"));
        } else if nobody_is_sound {
            problems.push(NOBODY_IS_SOUND.to_string());
        } else if end_uncertain {
            problems.push(
                "its disk has lost the end of its log: its vote counts only with all others, until it has what the \
                 leader has"
                    .to_string(),
            );
        } else {
            problems.push("a part of its log was damaged; no log entry is missing (any more)".to_string());
        }
        problems
    }

    /// Why there may be no leader, as part of a sentence for the operator.
    pub fn why_no_leader(&self) -> String {
        let view = self.raft.view();
        let Health { lost, nobody_is_sound, missing, end_uncertain, suspect, .. } = self.raft.health();
        let needed = "an election needs a majority of the members";
        match lost {
            Some(lost) => every_copy_is_bad(lost),
            None if nobody_is_sound => NOBODY_IS_SOUND.to_string(),
            _ if view.role == Role::Uncounted => {
                "this directory is not the one that the cluster knows, so it counts in no quorum".to_string()
            }
            _ if missing > 0 => {
                let entries = counted(missing as u64, "log entry", "log entries");
                format!("{needed}, and this node, whose disk has lost {entries}, has no vote until all are there again")
            }
            _ if end_uncertain => {
                format!(
                    "{needed}, and this node, whose disk has lost the end of its log, votes only together with all others"
                )
            }
            _ if view.last == LogIndex::ZERO && !suspect => {
                "a new cluster forms once all its members have answered".to_string()
            }
            _ => needed.to_string(),
        }
    }

    /// The peers that are not heard from, and why, in one line.
    pub fn who_is_missing(&self) -> String {
        let peers: Vec<String> =
            self.peers_down().map(|(peer, address, why)| format!("node {peer} at {address}: {why}")).collect();
        if peers.is_empty() { "all peers are connected".to_string() } else { peers.join("; ") }
    }

    /// To a client: what this node knows of why nobody leads, and whether it helps to send it again.
    fn no_leader(&self) -> Reply {
        let view = self.raft.view();
        let why = self.why_no_leader();
        if self.is_stuck() {
            return reply::no_leader(&why);
        }
        let (members, missing) = (self.peers.len() + 1, self.peers_down().count());
        let needed = if view.last == LogIndex::ZERO { members } else { members / 2 + 1 };
        let way_out = match view.role {
            Role::Uncounted => "ask another node",
            _ if members - missing < needed => "start what is missing, and try again",
            _ => "an election takes part of a second, try again",
        };
        reply::no_leader(&format!("{why}; {}; {way_out}", self.who_is_missing()))
    }

    /// Where a peer is reached, as the configuration has it.
    pub fn peer_address(&self, peer: NodeId) -> Option<&str> {
        self.peers.get(&peer).map(|peer| &*peer.address)
    }

    /// Peers that are not heard from, and why: for the operator's log.
    pub fn peers_down(&self) -> impl Iterator<Item = (NodeId, &str, &str)> {
        self.peers
            .iter()
            .filter(|(_, peer)| !peer.down_because.is_empty())
            .map(|(id, peer)| (*id, &*peer.address, peer.down_because.as_str()))
    }

    fn on_net(&mut self, now: Moment, event: FromNet, effects: &mut Effects) {
        match event {
            FromNet::Request { origin, request, forward } => self.on_request(now, origin, request, forward, effects),
            FromNet::Raft { message } => self.raft.step(now, Input::Message(message), &mut self.out),
            FromNet::Forwarded { from, id, term, request } => {
                self.on_forwarded(now, Waiter::Peer { from, id }, term, request, effects);
            }
            FromNet::ForwardReply { from, id, reply } => {
                if let Some(forward) = self.waiting.take_forward(from, id) {
                    // What the link itself refused names no leader; this node knows whom it was for.
                    let reply = Reply { leader: reply.leader.or_else(|| self.leader()), ..reply };
                    reply::answer(forward.waiter, reply, &mut effects.net);
                }
            }
            FromNet::LinkUp { peer } => {
                if let Some(link) = self.peers.get_mut(&peer) {
                    link.down_because.clear();
                }
            }
            FromNet::LinkDown { peer, why } => self.on_link_down(now, peer, why, effects),
        }
    }

    fn on_request(&mut self, now: Moment, origin: Origin, request: Request, forward: bool, effects: &mut Effects) {
        let waiter = Waiter::Client(origin);
        if let Request::Status | Request::Scrub = request {
            effects.scrub |= request == Request::Scrub;
            return self.answer_status(now, waiter, effects);
        }
        if self.draining {
            return reply::answer(waiter, reply::shutting_down(self.leader()), &mut effects.net);
        }
        let view = self.raft.view();
        match admit::judge(view.role, self.leader_in(&view), forward) {
            Verdict::Take => {
                Step::Admitted.pass(format_args!("{waiter:?}"));
                self.batch.add(view.term, waiter, request);
            }
            Verdict::Forward(leader) => {
                let is_write = request.is_write();
                let deadline = now + self.request_timeout;
                let id = self.waiting.add_forward(PendingForward { waiter, to: leader.id, is_write, deadline });
                effects.net.push(NetEvent::Forward { to: leader.id, id, term: view.term, request });
            }
            Verdict::Refuse(reply) => reply::answer(waiter, reply, &mut effects.net),
            Verdict::NoLeader => reply::answer(waiter, self.no_leader(), &mut effects.net),
        }
    }

    fn answer_status(&self, now: Moment, waiter: Waiter, effects: &mut Effects) {
        let result = Ok(crate::api::Outcome::Status(Box::new(self.status(now))));
        reply::answer(waiter, Reply { result, leader: self.leader() }, &mut effects.net);
    }

    /// A request that another node passes on is taken only by the leader it was meant for, in that term: one that
    /// arrives later could overtake what its client sent after it.
    fn on_forwarded(&mut self, now: Moment, waiter: Waiter, term: Term, request: Request, effects: &mut Effects) {
        let view = self.raft.view();
        if let Request::Status | Request::Scrub = request {
            // No node passes it on, but the bytes allow it, and it is no read of the state.
            self.answer_status(now, waiter, effects);
        } else if self.draining {
            reply::answer(waiter, reply::shutting_down(self.leader()), &mut effects.net);
        } else if view.role == Role::Leader && (view.term == term || removed(Guard::ForwardInAnyTerm)) {
            Step::Admitted.pass(format_args!("{waiter:?}"));
            self.batch.add(view.term, waiter, request);
        } else {
            reply::answer(waiter, reply::forwarded_too_late(self.leader()), &mut effects.net);
        }
    }

    fn on_link_down(&mut self, now: Moment, peer: NodeId, why: String, effects: &mut Effects) {
        for forward in self.waiting.take_forwards_to(peer) {
            let reply = reply::forward_failed(forward.is_write, "the connection to it broke", self.leader());
            reply::answer(forward.waiter, reply, &mut effects.net);
        }
        if let Some(link) = self.peers.get_mut(&peer) {
            link.down_because = why;
        }
        self.raft.step(now, Input::LinkDown { peer }, &mut self.out);
    }

    fn on_tick(&mut self, now: Moment, effects: &mut Effects) {
        self.clock.advance(now);
        self.raft.step(now, Input::Tick, &mut self.out);
        let expired = self.waiting.take_expired(now);
        self.answer_expired(expired, "it did not answer in time", effects);
    }

    fn answer_expired(&mut self, expired: Expired, why: &str, effects: &mut Effects) {
        let leader = self.leader();
        for waiter in expired.writes {
            reply::answer(waiter, reply::write_expired(leader.clone()), &mut effects.net);
        }
        for (waiter, _) in expired.reads.into_iter().flat_map(|reads| reads.reads) {
            reply::answer(waiter, reply::read_expired(leader.clone()), &mut effects.net);
        }
        for forward in expired.forwards {
            let reply = reply::forward_failed(forward.is_write, why, leader.clone());
            reply::answer(forward.waiter, reply, &mut effects.net);
        }
    }

    /// Step 4: the turn's writes become log entries, encoded once.
    fn propose_writes(&mut self, now: Moment, effects: &mut Effects) {
        if self.batch.writes.is_empty() {
            return;
        }
        for waiter in self.batch.take_stale(self.raft.view().term) {
            reply::answer(waiter, reply::write_replaced(self.leader()), &mut effects.net);
        }
        if self.raft.room(now) > Space::Plenty {
            for waiter in self.batch.take_growing() {
                reply::answer(waiter, self.no_space(now), &mut effects.net);
            }
        }
        self.clock.advance(now);
        let deadline = now + self.request_timeout;
        for (waiters, envelope) in self.batch.take_entries(self.clock.now_ms()) {
            let data: Bytes = wire::encode_envelope(&envelope);
            self.raft.step(now, Input::Propose { data }, &mut self.out);
            match self.out.proposed.take().expect("a proposal is answered in its own step") {
                Ok(raft::Proposed { index, term }) => {
                    for (place, waiter) in waiters.into_iter().enumerate() {
                        self.waiting.add_write(PendingWrite { index, term, place, waiter: Some(waiter), deadline });
                    }
                }
                Err(refused) => {
                    for waiter in waiters {
                        let reply = match refused {
                            ProposeRefused::NotLeader => reply::write_replaced(self.leader()),
                            ProposeRefused::NoSpace => self.no_space(now),
                            ProposeRefused::Busy => reply::busy("too many bytes wait to be committed", self.leader()),
                        };
                        reply::answer(waiter, reply, &mut effects.net);
                    }
                }
            }
        }
    }

    fn no_space(&self, now: Moment) -> Reply {
        let room = self.raft.room(now);
        let short = self.raft.short_of_room().filter(|(_, space)| *space >= room);
        let short: Vec<NodeId> = short.map(|(node, _)| node).collect();
        let own = self.shortage.as_ref().filter(|_| short.contains(&self.id));
        reply::no_space(room, short, own, self.leader())
    }

    fn confirm_reads(&mut self, now: Moment) {
        if self.batch.reads.is_empty() {
            return;
        }
        let reads = std::mem::take(&mut self.batch.reads);
        let id = self.waiting.add_reads(PendingReads { reads, deadline: now + self.request_timeout });
        self.raft.step(now, Input::Read { id }, &mut self.out);
    }

    /// Step 7, and the answers to those who waited for it.
    fn apply(&mut self, now: Moment, entry: &Entry, effects: &mut Effects) {
        assert_eq!(entry.index, self.applied.next(), "entries are applied in order, each once");
        match apply::apply(&mut self.store, entry) {
            Ok(applied) => {
                self.applied = entry.index;
                self.raft.note_applied(StateDigest { index: entry.index, digest: self.store.view().digest() });
                if let Some(stamp_ms) = applied.cluster_time_ms {
                    self.clock.learn(stamp_ms, now);
                }
                if let Some(members) = applied.members {
                    self.cluster = Some(members.cluster);
                    self.unrecorded = Some((entry.index, members.cluster));
                    self.take_addresses(&members);
                    effects.members = Some(members);
                }
                let leader = self.leader();
                for (place, outcome) in applied.outcomes.into_iter().enumerate() {
                    if let Some(waiter) = self.waiting.take_write(entry.index, entry.term, place) {
                        let reply = Reply { result: Ok(outcome), leader: leader.clone() };
                        reply::answer(waiter, reply, &mut effects.net);
                    }
                }
                for waiter in self.waiting.take_superseded(entry.index, entry.term) {
                    reply::answer(waiter, reply::write_replaced(leader.clone()), &mut effects.net);
                }
            }
            Err(error) => effects.fatal = Some(error),
        }
    }

    fn answer_reads(&mut self, effects: &mut Effects) {
        let readable_to = if removed(Guard::ReadBeforeApplied) { self.raft.view().commit } else { self.applied };
        let readable = self.waiting.take_readable(readable_to);
        if readable.is_empty() {
            return;
        }
        let leader = self.leader();
        let view = self.store.view();
        for (waiter, request) in readable.into_iter().flat_map(|reads| reads.reads) {
            reply::answer(waiter, reply::read(view, &request, leader.clone()), &mut effects.net);
        }
    }

    fn leader(&self) -> Option<Leader> {
        self.leader_in(&self.raft.view())
    }

    fn leader_in(&self, view: &raft::View) -> Option<Leader> {
        let id = view.leader?;
        let address = if id == self.id { self.own_address.clone() } else { self.peers.get(&id)?.address.clone() };
        Some(Leader { id, address })
    }

    fn take_addresses(&mut self, members: &Members) {
        let mut known = std::mem::take(&mut self.peers);
        for member in members.all() {
            if member.id == self.id {
                self.own_address = member.address.clone();
                continue;
            }
            let down_because =
                known.remove(&member.id).map_or_else(|| "not connected yet".to_string(), |peer| peer.down_because);
            self.peers.insert(member.id, PeerLink { address: member.address.clone(), down_because });
        }
    }

    fn status(&self, now: Moment) -> Status {
        let view = self.raft.view();
        let progress = self.raft.progress();
        let peers = self.peers.iter().map(|(id, peer)| {
            let progress = progress.get(id);
            // A process that was stopped keeps its connections.
            let silence = self.raft.silence_of(*id, now).filter(|_| peer.down_because.is_empty());
            let silent = silence.map(|silence| format!("silent for {:.1} s", silence.as_secs_f64()));
            PeerStatus {
                id: *id,
                address: peer.address.clone(),
                down_because: silent.unwrap_or_else(|| peer.down_because.clone()),
                matched: progress.map(|progress| progress.matched),
                counted: progress.is_none_or(|progress| progress.counted),
            }
        });
        Status {
            id: self.id,
            cluster: match self.cluster {
                Some(cluster) => format!("{} {cluster}", self.cluster_name),
                None => format!("{} (not formed yet)", self.cluster_name),
            },
            role: view.role,
            term: view.term,
            leader: self.leader(),
            commit: view.commit,
            applied: self.applied,
            last: view.last,
            revision: self.store.view().revision(),
            keys: self.store.view().len() as u64,
            digest: self.store.view().digest(),
            peers: peers.collect(),
            problems: self.problems(),
            scrub: self.scrub,
            version: crate::VERSION.to_string(),
            uptime: now.since(self.started),
        }
    }
}

const NOBODY_IS_SOUND: &str = "every voter has lost the end of its log, and what was acknowledged last may be gone: \
                               nothing goes on without a node whose disk is sound";

fn every_copy_is_bad(EntryId { index, term }: EntryId) -> String {
    format!(
        "every copy of log entry {index} of term {term} is bad, and it may have been acknowledged: nothing goes on without \
         it; bring back the disks of nodes that are down, or one that held it"
    )
}

/// Time as the log tells it: the last stamp in the log plus local elapsed time. Never back, never wall clock.
#[derive(Debug, Default)]
struct ClusterClock {
    stamp_ms: u64,
    /// When `stamp_ms` was true here; `None` before the first look at the clock.
    at: Option<Moment>,
}

impl ClusterClock {
    /// A node that slept advances by this much at most, so that it does not expire everyone at once.
    const ADVANCE_MAX: Duration = Duration::from_secs(1);

    fn advance(&mut self, now: Moment) {
        let elapsed = self.at.map_or(Duration::ZERO, |at| now.since(at));
        if elapsed > Self::ADVANCE_MAX {
            self.stamp_ms = self.stamp_ms.saturating_add(Self::ADVANCE_MAX.as_millis() as u64);
            self.at = Some(now);
        } else {
            // The part of a millisecond that is left counts next time.
            let whole_ms = elapsed.as_millis() as u64;
            self.stamp_ms = self.stamp_ms.saturating_add(whole_ms);
            self.at = Some(self.at.map_or(now, |at| at + Duration::from_millis(whole_ms)));
        }
    }

    fn learn(&mut self, stamp_ms: u64, now: Moment) {
        if stamp_ms > self.stamp_ms {
            self.stamp_ms = stamp_ms;
            self.at = Some(now);
        }
    }

    fn now_ms(&self) -> u64 {
        self.stamp_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode;
    use crate::base::{InstanceId, Member, Operation};
    use crate::node::settings::Tuning;

    #[test]
    fn cluster_time_never_goes_back_and_never_leaps() {
        let mut clock = ClusterClock::default();
        let start = Moment(1_000_000_000_000);
        clock.advance(start);
        clock.learn(500, start);
        clock.advance(start + Duration::from_millis(20));
        assert_eq!(clock.now_ms(), 520);
        clock.learn(510, start + Duration::from_millis(20));
        assert_eq!(clock.now_ms(), 520);
        clock.advance(start + Duration::from_secs(3600));
        assert_eq!(clock.now_ms(), 1520);
    }

    #[test]
    fn parts_of_a_millisecond_add_up() {
        let mut clock = ClusterClock::default();
        let start = Moment(1_000_000);
        for step in 0..=10 {
            clock.advance(start + Duration::from_micros(100 * step));
        }
        assert_eq!(clock.now_ms(), 1);
    }

    fn follower() -> Replica {
        let id = |id| NodeId::new(id).unwrap();
        let member = |number| Member { id: id(number), instance: None, address: "h:1".into() };
        let voters = vec![member(1), member(2), member(3)];
        replica_of(Members { cluster: ClusterId(1), voters, outgoing: vec![], learners: vec![] })
    }

    /// Node 1 of them.
    fn replica_of(bootstrap: Members) -> Replica {
        let config = ReplicaConfig {
            raft: Tuning::default().raft_config(NodeId::new(1).unwrap(), InstanceId(1), bootstrap, 1),
            cluster_name: "test".to_string(),
            request_timeout: Duration::from_secs(5),
            forward_id_first: 1,
            started: Moment::ZERO,
        };
        Replica::new(config, raft::Recovered::default(), Moment::ZERO)
    }

    /// A follower of node 2, which it has just heard.
    fn follower_of_2() -> Replica {
        let (mut replica, mut effects, two) = (follower(), Effects::default(), NodeId::new(2).unwrap());
        let body = raft::Body::Heartbeat { commit: LogIndex::ZERO, round: 1, check: raft::Check::default() };
        let message = raft::Message { from: two, to: replica.id, instance: InstanceId(2), term: Term(1), body };
        replica.on_event(Moment::ZERO, ReplicaEvent::FromNet(FromNet::Raft { message }), &mut effects);
        replica.end_turn(Moment::ZERO, &mut effects);
        assert_eq!(replica.leader().map(|leader| leader.id), Some(two));
        replica
    }

    /// So the README says: a program can go there itself.
    #[test]
    fn a_refusal_names_the_leader_also_what_the_link_to_it_refused() {
        let (mut replica, mut effects) = (follower_of_2(), Effects::default());
        let request = Request::Get { key: "k".into(), revision: None };
        let two = NodeId::new(2).unwrap();
        for (sequence, forward) in [(0, false), (1, true)] {
            let connection = crate::net::ConnectionId { slot: 0, generation: 0 };
            let origin = Origin { connection, sequence };
            let event = FromNet::Request { origin, request: request.clone(), forward };
            replica.on_event(Moment::ZERO, ReplicaEvent::FromNet(event), &mut effects);
        }
        let Some(NetEvent::Forward { to, id, .. }) = effects.net.pop() else { panic!("{:?}", effects.net) };
        let reply = Reply::refused(ErrorCode::Busy, "the link is full", None);
        let refused = FromNet::ForwardReply { from: to, id, reply };
        replica.on_event(Moment::ZERO, ReplicaEvent::FromNet(refused), &mut effects);
        let named = |event: &NetEvent| match event {
            NetEvent::Reply { reply: Reply { result: Err(error), leader: Some(leader) }, .. } => {
                (error.code, leader.id)
            }
            other => panic!("{other:?}"),
        };
        let leaders: Vec<_> = effects.net.iter().map(named).collect();
        assert_eq!(leaders, [(ErrorCode::NotLeader, two), (ErrorCode::Busy, two)]);
    }

    /// The only member of its cluster, elected.
    fn leader_of_itself() -> Replica {
        let id = NodeId::new(1).unwrap();
        let voters = vec![Member { id, instance: None, address: "h:1".into() }];
        let bootstrap = Members { cluster: ClusterId(1), voters, outgoing: vec![], learners: vec![] };
        let (mut replica, mut effects) = (replica_of(bootstrap), Effects::default());
        replica.on_event(Moment::ZERO, ReplicaEvent::Tick, &mut effects);
        replica.end_turn(Moment::ZERO, &mut effects);
        while !effects.persists.is_empty() {
            for persist in std::mem::take(&mut effects.persists) {
                let seq = persist.seq;
                replica.on_event(Moment::ZERO, ReplicaEvent::Persisted { seq }, &mut effects);
            }
            replica.end_turn(Moment::ZERO, &mut effects);
        }
        assert_eq!(replica.view().role, Role::Leader);
        replica
    }

    /// It may have waited on its way while others led, and its client has gone on since.
    #[test]
    fn what_was_passed_on_for_another_term_is_refused_though_this_node_leads_again() {
        let from = NodeId::new(2).unwrap();
        for (term, taken) in [(Term(0), false), (Term(1), true), (Term(2), false)] {
            let (mut replica, mut effects) = (leader_of_itself(), Effects::default());
            assert_eq!(replica.view().term, Term(1));
            let request = Request::Write(Operation::Delete { key: "k".into() });
            let event = FromNet::Forwarded { from, id: 7, term, request };
            replica.on_event(Moment::ZERO, ReplicaEvent::FromNet(event), &mut effects);
            replica.end_turn(Moment::ZERO, &mut effects);
            let refused =
                matches!(&effects.net[..], [NetEvent::ForwardReply { id: 7, reply, .. }] if reply.result.is_err());
            assert_eq!((effects.persists.len(), refused), (usize::from(taken), !taken), "for {term}");
        }
    }

    #[test]
    fn what_is_passed_on_to_a_node_that_does_not_lead_is_refused_for_certain() {
        let from = NodeId::new(2).unwrap();
        let write = Request::Write(Operation::Delete { key: "k".into() });
        let read = Request::Get { key: "k".into(), revision: None };
        for request in [write, read] {
            let (mut replica, mut effects) = (follower(), Effects::default());
            let event = FromNet::Forwarded { from, id: 7, term: Term(1), request };
            replica.on_event(Moment::ZERO, ReplicaEvent::FromNet(event), &mut effects);
            replica.end_turn(Moment::ZERO, &mut effects);
            let [NetEvent::ForwardReply { to, id: 7, reply }] = &effects.net[..] else { panic!("{:?}", effects.net) };
            let error = reply.result.as_ref().unwrap_err();
            assert_eq!((*to, error.code), (from, ErrorCode::NoLeader));
            assert!(error.message.contains("nothing was done"), "{}", error.message);
        }
    }
}
