//! Whether a history of a key-value store is linearizable: whether each operation can be given one instant between its
//! invocation and its answer so that, one after the other, they are answered as an ordered map would answer them
//! (Herlihy, Wing: "Linearizability: a correctness condition for concurrent objects", TOPLAS 1990).
//!
//! ```
//! use linearizability::{History, Limits, Operation, Outcome, check};
//!
//! let mut history = History::new();
//! let put = history.invoke(1, 100, Operation::Put { key: "k".into(), value: "v".into() });
//! let get = history.invoke(2, 150, Operation::Get { key: "k".into() });
//! history.complete(put, 200, Outcome::Put, None);
//! history.complete(get, 220, Outcome::Value(None), None);
//! assert!(check(&history, Limits::default()).is_ok(), "the read may come first");
//! ```
//!
//! An operation that was invoked and never completed is *open*: it may take effect at any time behind its
//! invocation, or never. One that certainly had no effect is left out ([`History::fail`]). The store is empty at first.
//!
//! # How
//!
//! The history falls into *partitions*, the sets of keys that some listing ties together (most often one key each): a
//! history is linearizable if each partition is (Herlihy and Wing's locality; Horn, Kroening: "Faster linearizability
//! checking via P-compositionality", FORTE 2015). In each, `search` looks for an order, depth first, and remembers what
//! it has tried (Wing, Gong: "Testing and verifying concurrent objects", 1993; Lowe: "Testing for linearizability",
//! 2017). Revisions, where a history has them, guide it, and are also checked by themselves, by `revisions`.
//!
//! A search that reaches a limit is a violation of its own kind, [`Violation::Undecided`]: it is never a pass.
//!
//! # The file
//!
//! A history as text is a line an operation, in any order; empty lines and lines that begin with `#` mean nothing:
//!
//! ```text
//! line       client invoked completed operation -> outcome [@revision]
//! client     a number; what one client does may overlap
//! invoked    nanoseconds from any one start
//! completed  nanoseconds, or - when no answer came
//! operation  put KEY VALUE | delete KEY | get KEY | list PREFIX AFTER LIMIT      AFTER may be -; LIMIT 0 is none
//! outcome    ok                    of a put
//!            existed | absent      of a delete: whether the key was there
//!            VALUE | nil           of a get
//!            keys KEY... end       of a list, all that there are; or: keys KEY... more
//!            failed                certainly without effect
//!            unknown               open; completed is then -
//! revision   the store's, behind a write or as read
//! KEY, VALUE, PREFIX, AFTER        "bytes": printable ASCII as it is, but \" and \\; anything else is \xHH
//! ```
//!
//! ```text
//! 3 1200 3400 put "k1" "c3-17" -> ok @12
//! 4 1300 - delete "k1" -> unknown
//! 5 1350 3500 list "k" - 10 -> keys "k1" "k2" end @12
//! ```
//!
//! One operation precedes another if it completed at an earlier nanosecond than the other was invoked; at the same one,
//! nothing is ordered.
//!
//! # What it does not do
//!
//! It does not check that the operations of one connection take effect in the order in which they were sent, which is
//! more than linearizability says, and it does not believe revisions: without them it comes to the same verdict on the
//! values, but later. Without revisions, some dozens of operations at once on keys that pages tie together can be too
//! many to decide.

mod format;
mod history;
mod model;
mod rank;
mod revisions;
mod search;
mod violation;
mod window;

pub use format::{FormatError, LINE_BYTES_MAX, read};
pub use history::{History, Id, Operation, Outcome, Record};
pub use violation::{Stuck, Violation};

/// What a check may take before it gives up, as [`Violation::Undecided`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Operations placed, over all partitions, those that were taken back too.
    pub steps_max: u64,
    /// Bytes remembered of what was tried, in one partition; roughly.
    pub memory_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { steps_max: 20_000_000, memory_bytes_max: 1 << 30 }
    }
}

/// What was found linearizable, and what that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// With an answer.
    pub operations: usize,
    /// Writes without.
    pub open: usize,
    pub partitions: usize,
    /// Operations placed; as many as there are, when none was taken back.
    pub steps: u64,
}

/// Checks the whole history: first what can be told at a glance, then its revisions, then the order.
pub fn check(history: &History, limits: Limits) -> Result<Checked, Violation> {
    let partitions = model::partitions(history)?;
    revisions::check(history)?;
    let mut checked = Checked { partitions: partitions.len(), ..Checked::default() };
    for partition in &partitions {
        checked.operations += partition.steps.len();
        checked.open += partition.open.len();
        search::run(history, partition, limits, &mut checked.steps)?;
    }
    Ok(checked)
}
