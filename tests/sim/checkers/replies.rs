//! Every client gets its own answer: what it is told happened to its request is what the log says happened at that
//! revision. And what was refused for certain never happens, nor anything twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use raftkv::base::{Entry, EntryKind, Operation, Revision};
use raftkv::{api, wire};

use super::{Verdict, Violation, ensure};

const PROPERTY: &str = "no reply to the wrong client";
const ONCE: &str = "each write happens once, and none that was refused";

/// The committed log as a history of values.
#[derive(Default)]
pub struct Replies {
    /// By revision, which begins at 1; and whether a deleted key was there.
    writes: Vec<(Operation, bool)>,
    /// Each key's values, ascending by revision; `None`: absent.
    keys: BTreeMap<Bytes, Vec<(Revision, Option<Bytes>)>>,
    /// Values are unique over a run.
    put_at: BTreeMap<Bytes, Revision>,
}

impl Replies {
    pub fn on_committed(&mut self, entry: &Entry) -> Verdict {
        if entry.kind != EntryKind::Commands {
            return Ok(());
        }
        let wrong = |what| Violation { property: ONCE, what };
        let envelope = wire::decode_envelope(entry.data.clone()).map_err(wrong)?;
        for operation in envelope.commands.into_iter().flat_map(|command| command.operations) {
            self.on_write(operation)?;
        }
        Ok(())
    }

    fn on_write(&mut self, operation: Operation) -> Verdict {
        let revision = Revision(self.writes.len() as u64 + 1);
        let (key, value) = match &operation {
            Operation::Put { key, value } => (key, Some(value.clone())),
            Operation::Delete { key } => (key, None),
        };
        let values = self.keys.entry(key.clone()).or_default();
        let existed = values.last().is_some_and(|(_, value)| value.is_some());
        values.push((revision, value.clone()));
        self.writes.push((operation, existed));
        let Some(value) = value else { return Ok(()) };
        let before = self.put_at.insert(value.clone(), revision);
        ensure(ONCE, before.is_none(), || {
            format!("{} was put at revision {} and again at {revision}", shown(&value), before.unwrap_or_default())
        })
    }

    pub fn revision(&self) -> Revision {
        Revision(self.writes.len() as u64)
    }

    /// The client was told that this was certainly not applied.
    pub fn check_refused(&self, value: &Bytes) -> Verdict {
        ensure(ONCE, !self.put_at.contains_key(value), || {
            format!("the put of {} was refused for certain, and happened", shown(value))
        })
    }

    fn value_at(&self, key: &Bytes, revision: Revision) -> Option<&Bytes> {
        let values = self.keys.get(key)?;
        let behind = values.partition_point(|(at, _)| *at <= revision);
        values[behind.checked_sub(1)?].1.as_ref()
    }

    /// What `asked` was answered, with the revision of the state it speaks of.
    pub fn on_answer(&self, asked: &api::Request, outcome: &api::Outcome) -> Verdict {
        let revision = revision_of(outcome).unwrap_or_default();
        ensure(PROPERTY, revision <= self.revision(), || {
            format!("{outcome:?} is of a revision that is not committed")
        })?;
        let holds = match (asked, outcome) {
            (api::Request::Write(operation), api::Outcome::Put { .. }) => {
                self.write_at(revision).is_some_and(|(found, _)| found == operation)
            }
            (api::Request::Write(operation), api::Outcome::Deleted { existed, .. }) => {
                self.write_at(revision).is_some_and(|found| *found == (operation.clone(), *existed))
            }
            (api::Request::Get { key, .. }, api::Outcome::Value { found, .. }) => {
                found.as_ref().map(|found| &found.value[..]) == self.value_at(key, revision).map(|value| &value[..])
            }
            (api::Request::List { prefix, after, limit, .. }, api::Outcome::Keys { keys, more, .. }) => {
                let behind = |key: &&Bytes| key.starts_with(prefix) && after.as_ref().is_none_or(|after| *key > after);
                let present = self.keys.keys().filter(behind).filter(|key| self.value_at(key, revision).is_some());
                let present: Vec<&Bytes> = present.collect();
                let page = if *limit == 0 { present.len() } else { present.len().min(*limit) };
                keys.iter().eq(present[..page].iter().copied()) && *more == (page < present.len())
            }
            _ => false,
        };
        ensure(PROPERTY, holds, || {
            format!("{asked:?} was answered {outcome:?}; at that revision the log has {:?}", self.write_at(revision))
        })
    }

    fn write_at(&self, revision: Revision) -> Option<&(Operation, bool)> {
        self.writes.get((revision.0 as usize).checked_sub(1)?)
    }
}

pub fn revision_of(outcome: &api::Outcome) -> Option<Revision> {
    match outcome {
        api::Outcome::Put { revision }
        | api::Outcome::Deleted { revision, .. }
        | api::Outcome::Value { revision, .. }
        | api::Outcome::Keys { revision, .. } => Some(*revision),
        api::Outcome::Status(_) | api::Outcome::Latency(_) => None,
    }
}

fn shown(value: &Bytes) -> String {
    let end = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len()).min(40);
    String::from_utf8_lossy(&value[..end]).into_owned()
}
