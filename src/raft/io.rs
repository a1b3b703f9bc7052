//! The contract between consensus and its driver, on one page.
//!
//! ```text
//! loop {
//!     let event = inbox.receive_until(next_tick);          // peers, clients, completions, the clock
//!     raft.step(clock.now(), input_of(event), &mut out);   // any number of steps, then:
//!     for p in out.persists  { wal.queue(p) }              // 1. in order, none left out
//!     for m in out.send      { net.send(m) }               // 2. at once, in parallel with the disk
//!     for e in out.committed { kv.apply(e) }               // 3. in order, each exactly once since start
//!     for f in out.fetches   { background.read(f) }        // 4. answered by Input::Fetched, in any order
//!     for e in out.refilled  { background.repair(e) }      // 5. answered by Input::Repaired once durable
//!     if out.cleared         { background.clear_mark() }   // 6. the directory is sound again
//!     answer(out.proposed, out.reads_ready, out.reads_failed, out.truncated_from);
//! }
//! the wal, first in, first out:   write, fdatasync, THEN send p.messages, THEN Input::Persisted { p.seq }
//! ```
//!
//! The driver's duties:
//! 1. Persists are made durable in the order given. `messages` of one leave only when it, and all before it, are
//!    durable: they are what promises durability (append acknowledgements, votes, vote *requests*).
//!    A persist may have no entries and no hard state: it only holds its messages back.
//! 2. `Persisted { seq }` acknowledges `seq` and all before it. It names no log index: an index can be
//!    overwritten while its old fsync is in flight.
//! 3. A persist's first entry may have an index at or below what was persisted before: it then replaces
//!    everything from there on. `cut_from` comes before the entries: what is there and behind it is not asked for any
//!    more.
//! 4. `committed` is in order and without gaps. It may run ahead of the local fsync: a majority holds it.
//! 5. Lost or repeated messages are allowed; `LinkDown` after a loss makes recovery quick, but is not needed.
//! 6. `now` never goes back. It is sampled after an input has been taken from where it was, and before what comes of it
//!    leaves: promises and leases count from it (`lease`). `Tick` comes at least every `Config::heartbeat / 2` or so;
//!    nothing is timed otherwise. One that is late by more than that says that the node stood still, and has not read
//!    what came meanwhile. While [`super::Raft::has_undelivered`], it comes at once: a step hands out a bounded
//!    number of bytes.
//! 7. `Damaged` comes once the mark of a suspect directory is durable; only `cleared` removes that. `Space` comes with
//!    each change of the room that the disk has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{LeaseConfig, Message};
use crate::base::{Entry, HardState, InstanceId, LogIndex, Members, NodeId, PersistSeq, Role, Space, Term};

/// What a node is told at start. Durations and bounds are settings; they may differ between nodes.
#[derive(Clone, Debug)]
pub struct Config {
    pub id: NodeId,
    pub instance: InstanceId,
    /// All members by the operator's flags, this node among them, ordered by id. It only bootstraps: once the
    /// log has a Members entry, that wins. `cluster` is the id this node would mint if it led first.
    pub bootstrap: Members,
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    pub heartbeat: Duration,
    /// Leader leases; `None`: it neither asks for promises nor gives any.
    pub lease: Option<LeaseConfig>,
    /// The longest promise that any node of the cluster may ever have given: `limits::PROMISE_MAX`, and less in tests
    /// alone. No setting: a start must know it, whatever the settings were before.
    pub promise_max: Duration,
    /// Steps down when its own disk has not acknowledged the oldest persist for this long.
    pub persist_stall: Duration,
    pub append_bytes_max: usize,
    pub window_bytes_max: usize,
    pub window_messages_max: usize,
    pub log_memory_bytes_max: usize,
    pub uncommitted_bytes_max: usize,
    /// Seeds the choice of election timeouts.
    pub seed: u64,
}

/// What recovery found on disk, already durable again.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    pub hard_state: HardState,
    pub log: LogTail,
    /// Every Members entry in the log, ascending, so that a truncation can fall back to the one before. Those whose
    /// content is lost are not here.
    pub members: Vec<(LogIndex, Arc<Members>)>,
    pub damage: Damage,
}

/// What the disk has lost of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The directory carries the mark: something was lost, and not everything about it is settled.
    pub suspect: bool,
    /// The log may have gone on behind its last entry.
    pub end_uncertain: bool,
    /// Entries of the log, ascending, whose content is lost.
    pub missing: Vec<MissingEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingEntry {
    pub index: LogIndex,
    pub term: Term,
    /// CRC-32 of its data, where that is still known.
    pub checksum: Option<u32>,
}

/// A log as it stands on disk: its terms in full, its entries only at the end.
#[derive(Clone, Debug, Default)]
pub struct LogTail {
    /// (first index of the run, term), ascending in both: the term of every index, since terms rarely change.
    pub term_runs: Vec<(LogIndex, Term)>,
    pub last_index: LogIndex,
    /// The last entries, consecutive, ending at `last_index`; at most `log_memory_bytes_max` of them, and none before
    /// a missing one.
    pub entries: Vec<Entry>,
}

/// Names a batch of reads; chosen by the driver, echoed in `reads_ready` or `reads_failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// Everything that can happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// From a peer. `message.instance` is what the link's hello said.
    Message(Message),
    /// One `Commands` entry, encoded. Answered in the same step by `Outputs::proposed`.
    Propose { data: Bytes },
    /// A batch of linearizable reads (ReadIndex, Raft dissertation, section 6.4). Ready when this node is known
    /// to have led after the read arrived, at an index that must be applied first.
    Read { id: ReadId },
    /// The same, of reads that this node is to answer whether it leads or not: it asks its leader, if it does not.
    ReadHere { id: ReadId },
    /// The wal has made `seq`, and all before it, durable.
    Persisted { seq: PersistSeq },
    /// Messages to `peer` may have been lost.
    LinkDown { peer: NodeId },
    /// The answer to a `Fetch`: consecutive entries from `lo`, at least one unless the read failed for now.
    Fetched { lo: LogIndex, entries: Vec<Entry> },
    /// The disk has lost these entries, which are not written anew by anything queued.
    Damaged { missing: Vec<MissingEntry> },
    /// The answer to `Outputs::refilled`: what is durable again, and what was not the entry that was lost.
    Repaired { done: Vec<LogIndex>, refused: Vec<LogIndex> },
    /// How much room this node's disk has, since it changed; a start begins with plenty.
    Space(Space),
}

/// What a step asks of the driver. Steps append; the driver empties it.
#[derive(Debug, Default)]
pub struct Outputs {
    pub persists: Vec<Persist>,
    pub send: Vec<Message>,
    pub committed: Vec<Entry>,
    pub proposed: Option<Result<Proposed, ProposeRefused>>,
    pub reads_ready: Vec<ReadReady>,
    /// Leadership was lost before they could be confirmed, or nobody is known to lead who could. Nothing was read: they
    /// can be asked again.
    pub reads_failed: Vec<ReadId>,
    pub fetches: Vec<Fetch>,
    /// Missing entries, to be written back where they were.
    pub refilled: Vec<Entry>,
    /// Nothing is missing any more and the end of the log is certain: the mark may go.
    pub cleared: bool,
    /// Entries from here on were replaced in this log. Their proposals may still take effect, from another node's log,
    /// until an entry is committed that rules them out. The lowest of the steps.
    pub truncated_from: Option<LogIndex>,
    pub role_changes: Vec<RoleChange>,
    /// For who measures; nothing is to be done about them.
    pub acked: Vec<Acked>,
}

/// A peer has acknowledged one append message of this leader, and how long after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    pub peer: NodeId,
    pub after: Duration,
}

/// For the wal: make this durable, then send `messages`, then acknowledge `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    pub seq: PersistSeq,
    /// From here on nothing of what the disk has lost is needed: it was cut off, and nothing has replaced it yet.
    pub cut_from: Option<LogIndex>,
    /// Durable before `entries` are.
    pub hard_state: Option<HardState>,
    /// Consecutive.
    pub entries: Vec<Entry>,
    pub messages: Vec<Message>,
}

/// Where a proposal stands in the log. A waiting client is found by both, and its place in the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    pub index: LogIndex,
    pub term: Term,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeRefused {
    NotLeader,
    /// `uncommitted_bytes_max` is reached.
    Busy,
    /// [`super::Raft::room`] is exhausted.
    NoSpace,
}

/// Answer the reads of `id` once `index` is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    pub id: ReadId,
    pub index: LogIndex,
}

/// Read entries `lo..=hi` from the segments: as many as fit `FETCH_BYTES_MAX`, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub lo: LogIndex,
    pub hi: LogIndex,
}

/// For the log of an operator, and for whoever must know who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleChange {
    pub role: Role,
    pub term: Term,
    pub leader: Option<NodeId>,
    /// Why, as the rest of a sentence: "no heartbeat from node 2 for 212 ms".
    pub why: String,
}

/// What the rest of the node may know of consensus; cheap to take after every batch of steps.
#[derive(Clone, Debug)]
pub struct View {
    pub role: Role,
    pub term: Term,
    pub leader: Option<NodeId>,
    pub commit: LogIndex,
    pub last: LogIndex,
    pub durable: LogIndex,
    pub members: Arc<Members>,
}
