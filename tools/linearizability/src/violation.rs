//! What is wrong with a history, to be read by people.

use std::fmt;

use bytes::Bytes;

use crate::format::Quoted;
use crate::history::Record;

/// Why a history does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// These answers can't be, whatever else happened.
    Contradiction { why: String, records: Vec<Record> },
    /// No order of the operations explains their answers.
    NotLinearizable(Box<Stuck>),
    /// A limit was reached before an order was found. It may exist or not: this is a failure.
    Undecided { limit: String, stuck: Box<Stuck> },
}

/// How far the search came in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub keys: Vec<Bytes>,
    /// Operations in the longest order that was found, and in all.
    pub placed: usize,
    pub operations: usize,
    /// The last ones of that order.
    pub last: Vec<Record>,
    /// What the keys hold behind it, those that hold something.
    pub state: Vec<(Bytes, Bytes)>,
    /// Operations that must come next, one of them first, and can't.
    pub next: Vec<Record>,
    /// Writes without an answer that may still take effect then.
    pub open: Vec<Record>,
}

/// Shown of a list that may be long.
const SHOWN_MAX: usize = 16;

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Contradiction { why, records } => {
                writeln!(f, "not linearizable: {why}")?;
                records.iter().try_for_each(|record| writeln!(f, "  {record}"))
            }
            Violation::NotLinearizable(stuck) => write!(f, "not linearizable: no order explains the answers\n{stuck}"),
            Violation::Undecided { limit, stuck } => write!(f, "undecided, which is a failure: {limit}\n{stuck}"),
        }
    }
}

impl std::error::Error for Violation {}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys:")?;
        self.keys.iter().take(SHOWN_MAX).try_for_each(|key| write!(f, " {}", Quoted(key)))?;
        let hidden = self.keys.len().saturating_sub(SHOWN_MAX);
        writeln!(f, "{}", if hidden > 0 { format!(" and {hidden} more") } else { String::new() })?;
        writeln!(f, "the longest order has {} of {} operations and ends in", self.placed, self.operations)?;
        lines(f, &self.last)?;
        writeln!(f, "behind which the store holds")?;
        for (key, value) in self.state.iter().take(SHOWN_MAX) {
            writeln!(f, "  {} = {}", Quoted(key), Quoted(value))?;
        }
        if self.state.is_empty() {
            writeln!(f, "  nothing")?;
        }
        writeln!(f, "and what must come next does not fit, or leads nowhere")?;
        lines(f, &self.next)?;
        if !self.open.is_empty() {
            writeln!(f, "nor with any of the writes without an answer")?;
            lines(f, &self.open)?;
        }
        Ok(())
    }
}

fn lines(f: &mut fmt::Formatter<'_>, records: &[Record]) -> fmt::Result {
    records.iter().take(SHOWN_MAX).try_for_each(|record| writeln!(f, "  {record}"))?;
    match records.len().saturating_sub(SHOWN_MAX) {
        0 => Ok(()),
        hidden => writeln!(f, "  and {hidden} more"),
    }
}
