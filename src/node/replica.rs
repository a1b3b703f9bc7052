//! The node without its threads: an event goes in, effects come out.
//!
//! Owns the Raft state and everything that waits, and is the only writer of the key-value state, which others may read
//! (`net::Served`). Runs on the consensus thread, of a real node and of an embedded one alike. It touches no clock,
//! socket, file or thread, so that a simulator can run it too.
//!
//! A turn: any number of [`Replica::on_event`], then one [`Replica::end_turn`], which proposes what was collected,
//! applies what is committed and answers what can be answered.
//!
//! `peers` knows where the others are, `problems` says what is wrong, `status` what a node says when it is asked, and
//! `cluster_clock` is the time that entries are stamped with.

mod cluster_clock;
mod peers;
pub(super) mod problems;
mod status;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{IfNotLeading, Reply, Request, ScrubStatus};
use crate::base::limits::APPLY_SLICE_BYTES;
use crate::base::{
    ClusterId, Entry, Envelope, LogIndex, Members, Moment, NodeId, PersistSeq, Role, Shortage, Space, Step, Term,
};
use crate::guard::{Guard, removed};
use crate::kv::Store;
use crate::net::{self, FromNet, NetEvent, Origin, Served};
use crate::raft::{
    self, Acked, Fetch, Health, Input, MissingEntry, Outputs, Persist, ProposeRefused, Proposed, Raft, RoleChange,
    StateDigest,
};
use crate::wire;

use super::admit::{self, Batch, Verdict};
use super::apply::{self, ApplyError};
use super::reply;
use super::waiting::{ConfirmedBy, Expired, PendingForward, PendingReads, PendingWrite, Waiter, Waiting};
use cluster_clock::ClusterClock;
use peers::PeerLink;

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
    /// Where others read what it applies.
    pub served: Arc<Served>,
}

/// What happens to a replica.
#[derive(Debug)]
pub enum ReplicaEvent {
    FromNet(FromNet),
    FromDisk(FromDisk),
    Tick,
    /// Take no more requests: the node is about to stop.
    Drain,
}

/// What the wal and the background thread report.
#[derive(Debug)]
pub enum FromDisk {
    /// From the wal: `seq`, and all before it, is durable.
    Persisted { seq: PersistSeq },
    /// From the wal: how much room there is, since it changed.
    Space(Space),
    /// From the background thread: why what the log needs next can't be made, since it changed; `None`: it can.
    Shortage(Option<Shortage>),
    /// From the background thread: entries from `lo`; none if they can't be read now.
    Fetched { lo: LogIndex, entries: Vec<Entry> },
    /// From the background thread: how the reading of the log for damage goes on, and what damage it has found that
    /// nothing helps against.
    Scrubbed { status: ScrubStatus, beyond_repair: Option<String> },
    /// From the background thread: the disk has lost these entries; it has the mark already.
    Damaged { missing: Vec<MissingEntry> },
    /// From the background thread: entries that are durable again, and some that were not those that were lost.
    Repaired { done: Vec<LogIndex>, refused: Vec<LogIndex> },
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
    /// Appends that followers have acknowledged, for who measures.
    pub acked: Vec<Acked>,
    /// Something that no node may survive: what was committed can't be applied.
    pub fatal: Option<ApplyError>,
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
    served: Arc<Served>,
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
    /// Since when it has known no leader, as its ticks have seen it.
    leaderless_since: Option<Moment>,
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
            served: config.served,
            applied: LogIndex::ZERO,
            clock: ClusterClock::default(),
            batch: Batch::default(),
            waiting: Waiting::new(config.forward_id_first),
            peers: BTreeMap::new(),
            own_address: "".into(),
            scrub: ScrubStatus::default(),
            beyond_repair: None,
            shortage: None,
            leaderless_since: None,
            draining: false,
        };
        let members = replica.raft.view().members;
        replica.take_addresses(&members);
        replica.served.write().me = Some(replica.me());
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
            ReplicaEvent::FromDisk(event) => self.on_disk(now, event),
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
                    reply::answer(waiter, reply::write_replaced(self.id, self.leader()), &mut effects.net);
                }
            }
        }
        self.propose_writes(now, effects);
        self.confirm_reads(now, effects);
        self.ask_for_reads(now);
        let out = std::mem::take(&mut self.out);
        effects.persists.extend(out.persists);
        effects.net.extend(out.send.into_iter().map(|message| NetEvent::Send { message }));
        effects.fetches.extend(out.fetches);
        effects.refilled.extend(out.refilled);
        effects.cleared |= out.cleared;
        self.apply_committed(now, &out.committed, effects);
        for ready in out.reads_ready {
            self.waiting.confirm_reads(ready.id, ready.index);
        }
        for id in out.reads_failed {
            let Some(PendingReads { reads, confirmed_by, .. }) = self.waiting.take_reads(id) else { continue };
            for (waiter, _) in reads {
                reply::answer(waiter, reply::read_failed(self.id, confirmed_by, self.leader()), &mut effects.net);
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
        effects.acked.extend(out.acked);
        self.publish_lease(effects);
    }

    /// Says until when reads may be answered beside this thread: last of all in a turn, when what the turn committed is
    /// applied, and before anything of it leaves, a vote for another node above all.
    fn publish_lease(&self, effects: &Effects) {
        let goes_on = !self.draining && effects.fatal.is_none();
        let until = self.raft.lease_until(self.applied).filter(|_| goes_on);
        if until.is_some() || !removed(Guard::LeaseKept) {
            self.served.publish(until);
        }
    }

    /// Whether nobody waits for an answer any more.
    pub fn is_idle(&self) -> bool {
        let Batch { writes, reads, reads_here } = &self.batch;
        self.waiting.is_empty() && writes.is_empty() && reads.is_empty() && reads_here.is_empty()
    }

    /// Whether committed entries are at hand that a turn had no room for: the next tick goes on with them.
    pub fn has_more_to_apply(&self) -> bool {
        self.raft.has_undelivered()
    }

    /// Answers everything that still waits; the node stops.
    pub fn give_up(&mut self, now: Moment, effects: &mut Effects) {
        self.served.publish(None);
        let expired = self.waiting.take_all();
        self.answer_expired(now, expired, &format!("node {} is stopping", self.id), effects);
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
    pub fn store(&self) -> impl Deref<Target = Store> {
        self.served.store()
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

    /// See [`Raft::elected_past`].
    pub fn elected_past(&self) -> &[NodeId] {
        self.raft.elected_past()
    }

    pub fn health(&self) -> Health {
        self.raft.health()
    }

    /// The nodes that are short of room, as far as this one knows: what a node that is gone said last, too.
    pub fn short_of_room(&self) -> impl Iterator<Item = (NodeId, Space)> {
        self.raft.short_of_room()
    }

    fn on_disk(&mut self, now: Moment, event: FromDisk) {
        let input = match event {
            FromDisk::Persisted { seq } => Input::Persisted { seq },
            FromDisk::Space(space) => Input::Space(space),
            FromDisk::Fetched { lo, entries } => Input::Fetched { lo, entries },
            FromDisk::Damaged { missing } => Input::Damaged { missing },
            FromDisk::Repaired { done, refused } => Input::Repaired { done, refused },
            FromDisk::Shortage(shortage) => return self.shortage = shortage,
            FromDisk::Scrubbed { status, beyond_repair } => {
                (self.scrub, self.beyond_repair) = (status, beyond_repair);
                return;
            }
        };
        self.raft.step(now, input, &mut self.out);
    }

    fn on_net(&mut self, now: Moment, event: FromNet, effects: &mut Effects) {
        match event {
            FromNet::Request { origin, request, if_not_leading, .. } => {
                self.on_request(now, origin, request, if_not_leading, effects)
            }
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
                    link.up_since = now;
                }
            }
            FromNet::LinkDown { peer, why } => self.on_link_down(now, peer, why, effects),
        }
    }

    fn on_request(
        &mut self,
        now: Moment,
        origin: Origin,
        request: Request,
        if_not_leading: IfNotLeading,
        effects: &mut Effects,
    ) {
        let waiter = Waiter::Client(origin);
        if let Request::Status | Request::Scrub | Request::Latency = request {
            effects.scrub |= request == Request::Scrub;
            return self.answer_itself(now, waiter, &request, effects);
        }
        if self.draining {
            return reply::answer(waiter, reply::shutting_down(self.id, self.leader()), &mut effects.net);
        }
        let view = self.raft.view();
        // A state that is known to be wrong is not read.
        let may_read = !request.is_write() && self.raft.diverged().is_none();
        let if_not_leading = match if_not_leading {
            IfNotLeading::Read if !may_read => IfNotLeading::Forward,
            otherwise => otherwise,
        };
        match admit::judge(view.role, self.leader_in(&view), if_not_leading) {
            Verdict::Take => {
                Step::Admitted.pass(format_args!("{waiter:?}"));
                self.batch.add(view.term, waiter, request);
            }
            Verdict::ReadHere => {
                Step::Admitted.pass(format_args!("{waiter:?}"));
                self.batch.reads_here.push((waiter, request));
            }
            Verdict::Forward(leader) => {
                let is_write = request.is_write();
                let deadline = now + self.request_timeout;
                let id = self.waiting.add_forward(PendingForward { waiter, to: leader.id, is_write, deadline });
                effects.net.push(NetEvent::Forward { to: leader.id, id, term: view.term, request });
            }
            Verdict::Refuse(reply) => reply::answer(waiter, reply, &mut effects.net),
            Verdict::NoLeader => reply::answer(waiter, self.no_leader(now), &mut effects.net),
        }
    }

    /// What is asked of this node and not of the cluster. What it measures is not known here.
    fn answer_itself(&self, now: Moment, waiter: Waiter, request: &Request, effects: &mut Effects) {
        let reply = match request {
            Request::Latency => reply::not_measured_here(self.leader()),
            _ => {
                let result = Ok(crate::api::Outcome::Status(Box::new(self.status(now))));
                Reply { result, leader: self.leader() }
            }
        };
        reply::answer(waiter, reply, &mut effects.net);
    }

    /// A request that another node passes on is taken only by the leader it was meant for, in that term: one that
    /// arrives later could overtake what its client sent after it.
    fn on_forwarded(&mut self, now: Moment, waiter: Waiter, term: Term, request: Request, effects: &mut Effects) {
        let view = self.raft.view();
        if let Request::Status | Request::Scrub | Request::Latency = request {
            // No node passes it on, but the bytes allow it, and it is no read of the state.
            self.answer_itself(now, waiter, &request, effects);
        } else if self.draining {
            reply::answer(waiter, reply::shutting_down(self.id, self.leader()), &mut effects.net);
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
        self.leaderless_since = (!self.has_leader()).then(|| self.leaderless_since.unwrap_or(now));
        let expired = self.waiting.take_expired(now);
        self.answer_expired(now, expired, "it did not answer in time", effects);
    }

    fn answer_expired(&mut self, now: Moment, expired: Expired, why: &str, effects: &mut Effects) {
        let (leader, unopened) = (self.leader(), self.why_unopened(now));
        for waiter in expired.writes {
            reply::answer(waiter, reply::write_expired(leader.clone()), &mut effects.net);
        }
        for (waiter, _) in expired.reads.into_iter().flat_map(|reads| reads.reads) {
            reply::answer(waiter, reply::read_expired(unopened.as_deref(), leader.clone()), &mut effects.net);
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
            reply::answer(waiter, reply::write_replaced(self.id, self.leader()), &mut effects.net);
        }
        if self.raft.room(now) > Space::Plenty {
            for waiter in self.batch.take_growing() {
                reply::answer(waiter, self.no_space(now), &mut effects.net);
            }
        }
        self.clock.advance(now);
        let deadline = now + self.request_timeout;
        for (waiters, envelope) in self.batch.take_entries(self.clock.now_ms()) {
            match self.propose(now, &envelope) {
                Ok(Proposed { index, term }) => {
                    for (place, waiter) in waiters.into_iter().enumerate() {
                        self.waiting.add_write(PendingWrite { index, term, place, waiter: Some(waiter), deadline });
                    }
                }
                Err(refused) => {
                    for waiter in waiters {
                        let reply = match refused {
                            ProposeRefused::NotLeader => reply::write_replaced(self.id, self.leader()),
                            ProposeRefused::NoSpace => self.no_space(now),
                            ProposeRefused::Busy => reply::busy("too many bytes wait to be committed", self.leader()),
                        };
                        reply::answer(waiter, reply, &mut effects.net);
                    }
                }
            }
        }
    }

    fn propose(&mut self, now: Moment, envelope: &Envelope) -> Result<Proposed, ProposeRefused> {
        self.raft.may_propose(now)?;
        let data = wire::encode_envelope(envelope);
        self.raft.step(now, Input::Propose { data }, &mut self.out);
        self.out.proposed.take().expect("a proposal is answered in its own step")
    }

    fn no_space(&self, now: Moment) -> Reply {
        let room = self.raft.room(now);
        let short = self.raft.short_of_room().filter(|(_, space)| *space >= room);
        let short: Vec<NodeId> = short.map(|(node, _)| node).collect();
        let own = self.shortage.as_ref().filter(|_| short.contains(&self.id));
        reply::no_space(room, short, own, self.leader())
    }

    fn confirm_reads(&mut self, now: Moment, effects: &mut Effects) {
        if self.batch.reads.is_empty() {
            return;
        }
        let reads = std::mem::take(&mut self.batch.reads);
        if let Some(why) = self.why_unopened(now) {
            for (waiter, _) in reads {
                reply::answer(waiter, reply::read_without_room(&why, self.leader()), &mut effects.net);
            }
            return;
        }
        self.wait_for_reads(now, reads, ConfirmedBy::Majority);
    }

    /// Those that this node answers itself though it does not lead; it may lead by now.
    fn ask_for_reads(&mut self, now: Moment) {
        if self.batch.reads_here.is_empty() {
            return;
        }
        let reads = std::mem::take(&mut self.batch.reads_here);
        self.wait_for_reads(now, reads, ConfirmedBy::Leader);
    }

    fn wait_for_reads(&mut self, now: Moment, reads: Vec<(Waiter, Request)>, confirmed_by: ConfirmedBy) {
        let deadline = now + self.request_timeout;
        let id = self.waiting.add_reads(PendingReads { reads, confirmed_by, deadline });
        let input = match confirmed_by {
            ConfirmedBy::Majority => Input::Read { id },
            ConfirmedBy::Leader => Input::ReadHere { id },
        };
        self.raft.step(now, input, &mut self.out);
    }

    /// Readers wait for one slice of it at most.
    fn apply_committed(&mut self, now: Moment, committed: &[Entry], effects: &mut Effects) {
        if committed.is_empty() {
            return;
        }
        let served = Arc::clone(&self.served);
        let mut state = served.write();
        let mut bytes = 0;
        for entry in committed {
            if effects.fatal.is_some() {
                return;
            }
            self.apply(now, &mut state, entry, effects);
            bytes += entry.cost_bytes();
            if bytes >= APPLY_SLICE_BYTES {
                bytes = 0;
                Served::let_readers_in(&mut state);
            }
        }
    }

    /// Step 7, and the answers to those who waited for it.
    fn apply(&mut self, now: Moment, state: &mut net::State, entry: &Entry, effects: &mut Effects) {
        assert_eq!(entry.index, self.applied.next(), "entries are applied in order, each once");
        match apply::apply(&mut state.store, entry) {
            Ok(applied) => {
                self.applied = entry.index;
                self.raft.note_applied(StateDigest { index: entry.index, digest: state.store.view().digest() });
                if let Some(stamp_ms) = applied.cluster_time_ms {
                    self.clock.learn(stamp_ms, now);
                }
                if let Some(members) = applied.members {
                    self.cluster = Some(members.cluster);
                    self.unrecorded = Some((entry.index, members.cluster));
                    self.take_addresses(&members);
                    state.me = Some(self.me());
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
                    reply::answer(waiter, reply::write_replaced(self.id, leader.clone()), &mut effects.net);
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
        let is_wrong = self.raft.diverged().is_some();
        let store = self.served.store();
        for (waiter, request) in readable.into_iter().flat_map(|reads| reads.reads) {
            let reply = if is_wrong {
                reply::read_of_wrong_state(self.id, leader.clone())
            } else {
                net::answer_read(store.view(), &request, leader.clone())
            };
            reply::answer(waiter, reply, &mut effects.net);
        }
    }
}
