//! Step 7: a committed entry changes the state.
//!
//! Total and deterministic: every node that applies the same log has the same state. What can't be understood stops
//! the node; skipping it would make two states out of one log.

use std::sync::Arc;

use crate::api::Outcome;
use crate::base::{Entry, EntryKind, LogIndex, Members, Step};
use crate::kv::{OperationResult, Store};
use crate::wire;

/// What an entry did.
#[derive(Debug, Default)]
pub struct Applied {
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
    pub members: Option<Arc<Members>>,
    pub cluster_time_ms: Option<u64>,
}

/// A committed entry that this version can't apply.
#[derive(Debug, thiserror::Error)]
#[error("the committed entry {index} can't be applied: {why}; run the version that wrote it, or a later one")]
pub struct ApplyError {
    pub index: LogIndex,
    pub why: String,
}

pub fn apply(store: &mut Store, entry: &Entry) -> Result<Applied, ApplyError> {
    let fail = |why| ApplyError { index: entry.index, why };
    match entry.kind {
        EntryKind::Noop => Ok(Applied::default()),
        EntryKind::Members => {
            let members = Members::decode(&entry.data).map_err(fail)?;
            Ok(Applied { members: Some(Arc::new(members)), ..Applied::default() })
        }
        EntryKind::Commands => {
            let envelope = wire::decode_envelope(entry.data.clone()).map_err(fail)?;
            let mut outcomes = Vec::with_capacity(envelope.commands.len());
            store.apply_all(&envelope.commands, |applied| outcomes.push(outcome(&applied)));
            Step::Applied.pass(format_args!("entry {}", entry.index));
            Ok(Applied { outcomes, members: None, cluster_time_ms: Some(envelope.cluster_time_ms) })
        }
    }
}

/// The answer to a command: that of its last operation.
fn outcome(applied: &crate::kv::Applied) -> Outcome {
    let revision = applied.revision;
    match applied.results.last() {
        Some(OperationResult::Deleted { existed }) => Outcome::Deleted { revision, existed: *existed },
        Some(OperationResult::Put) | None => Outcome::Put { revision },
    }
}
