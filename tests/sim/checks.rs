//! All checkers of one run, and what they share.

use bytes::Bytes;
use raftkv::base::{EntryKind, LogIndex, Members, PersistSeq};

use super::checkers::commit::Commit;
use super::checkers::durable::{Electorate, Shadow};
use super::checkers::leaders::Leaders;
use super::checkers::linear::Linear;
use super::checkers::matching::Matching;
use super::checkers::replies::Replies;
use super::checkers::state::States;
use super::checkers::{Verdict, Violation};

#[derive(Default)]
pub struct Checks {
    pub leaders: Leaders,
    pub matching: Matching,
    pub commit: Commit,
    pub electorate: Electorate,
    /// By node.
    pub shadows: Vec<Shadow>,
    /// By node: what it handed to its wal last.
    pub queued_seq: Vec<Option<PersistSeq>>,
    pub states: States,
    pub replies: Replies,
    pub linear: Linear,
    /// Values of puts that were refused for certain.
    pub refused: Vec<Bytes>,
}

impl Checks {
    pub fn new(nodes: usize) -> Checks {
        Checks { shadows: vec![Shadow::default(); nodes], queued_seq: vec![None; nodes], ..Checks::default() }
    }

    /// The entry at `index` has just become known to be committed.
    pub fn on_committed(&mut self, index: LogIndex) -> Verdict {
        let term = self.commit.term(index).expect("it was just committed");
        let Some(entry) = self.matching.entry(index, term) else {
            return Err(Violation {
                property: "log matching",
                what: format!("entry {index} of term {term} is committed, and no node ever persisted it"),
            });
        };
        if entry.kind == EntryKind::Members {
            let wrong = |what| Violation { property: "log matching", what };
            self.electorate.on_members(&Members::decode(&entry.data).map_err(wrong)?);
        }
        self.electorate.on_committed(index, term, &self.shadows)?;
        self.replies.on_committed(entry)
    }

    /// When the run is over.
    pub fn finish(&self) -> Verdict {
        self.refused.iter().try_for_each(|value| self.replies.check_refused(value))
    }
}
