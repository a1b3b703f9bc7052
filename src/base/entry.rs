//! What the log holds, and what an entry says once it is opened.
//!
//! Consensus, the write-ahead log and the peers' wire treat an entry's data as opaque bytes, encoded once. They
//! are opened at apply: `Commands` hold an [`Envelope`], `Members` a [`crate::base::Members`], `Noop` nothing.

use bytes::Bytes;
use smallvec::SmallVec;

use super::limits::ENTRY_OVERHEAD_BYTES;
use super::{LogIndex, NodeId, Term};

/// One entry of the replicated log. Cloning shares `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index: LogIndex,
    pub term: Term,
    pub kind: EntryKind,
    pub data: Bytes,
}

impl Entry {
    /// What this entry costs in memory and on the wire, in bytes; an upper bound that every budget uses.
    pub fn cost_bytes(&self) -> usize {
        self.data.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// What an entry's data is. The numbers are part of the disk and wire formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// The entry with which a leader starts its term (Raft dissertation, section 6.4). No data.
    Noop = 1,
    /// Who is in the cluster. The first entry of every log is one; it mints the cluster id.
    Members = 2,
    /// An [`Envelope`] of client commands.
    Commands = 3,
}

impl EntryKind {
    /// `None` for a number that this version does not know.
    pub fn from_number(number: u32) -> Option<EntryKind> {
        match number {
            1 => Some(EntryKind::Noop),
            2 => Some(EntryKind::Members),
            3 => Some(EntryKind::Commands),
            _ => None,
        }
    }
}

/// What a node must remember of elections over a restart (Raft paper, figure 2: currentTerm and votedFor).
/// Ordered by term; within a term a vote never changes once it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: Term,
    pub vote: Option<NodeId>,
}

/// The content of a `Commands` entry: commands of several clients, batched, in the order they take effect.
///
/// The fields that are empty today (group, session, sequence, principal, auth revision) are there so that
/// sessions, access control and more Raft groups need no new format. They sit in each [`Command`], since one
/// entry carries the commands of many clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Which operations a reader must know: [`crate::base::limits::ENVELOPE_VERSION`].
    pub version: u32,
    /// Cluster time in milliseconds: never back, never wall clock. Leases of keys will run on it.
    pub cluster_time_ms: u64,
    pub commands: Vec<Command>,
}

/// One client's atomic list of operations: all take effect at one revision, or none does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    pub group: u64,
    pub session: u64,
    pub sequence: u64,
    pub principal: Bytes,
    pub auth_revision: u64,
    /// Nearly always one, which then needs no memory of its own.
    pub operations: SmallVec<[Operation; 1]>,
}

/// One change of the key-value state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put { key: Bytes, value: Bytes },
    Delete { key: Bytes },
}

impl Operation {
    pub fn key(&self) -> &[u8] {
        let (Operation::Put { key, .. } | Operation::Delete { key }) = self;
        key
    }
}
