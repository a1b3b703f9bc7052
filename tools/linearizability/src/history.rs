//! What is recorded of a run: who asked what, when, and what came of it.

use bytes::Bytes;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put {
        key: Bytes,
        value: Bytes,
    },
    Delete {
        key: Bytes,
    },
    Get {
        key: Bytes,
    },
    /// The keys that start with `prefix` and lie behind `after`, ascending; at most `limit` (0: all of them).
    List {
        prefix: Bytes,
        after: Option<Bytes>,
        limit: usize,
    },
}

impl Operation {
    pub fn is_write(&self) -> bool {
        matches!(self, Operation::Put { .. } | Operation::Delete { .. })
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Put,
    Deleted {
        existed: bool,
    },
    Value(Option<Bytes>),
    /// `more`: keys lie behind the last one. A page may be shorter than its limit allows and still say so, since a
    /// store may bound its pages in other ways too.
    Keys {
        keys: Vec<Bytes>,
        more: bool,
    },
}

/// One operation, as one line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub client: u64,
    pub invoked_ns: u64,
    /// `None`: no answer came.
    pub completed_ns: Option<u64>,
    pub operation: Operation,
    /// `None`: open, or failed if `completed_ns` is there.
    pub outcome: Option<Outcome>,
    /// Of the store, behind a write or as read; where it is known.
    pub revision: Option<u64>,
}

impl Record {
    /// The time of the answer and the answer.
    pub(crate) fn answer(&self) -> Option<(u64, &Outcome)> {
        self.completed_ns.zip(self.outcome.as_ref())
    }

    /// A write that may have taken effect, or will.
    pub(crate) fn is_open_write(&self) -> bool {
        self.completed_ns.is_none() && self.operation.is_write()
    }
}

/// Names an operation of one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

/// The operations of a run. The calls come in the order of the events.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
    last_ns: u64,
}

impl History {
    pub fn new() -> History {
        History::default()
    }

    /// An operation begins. It is open until it completes or fails.
    pub fn invoke(&mut self, client: u64, at_ns: u64, operation: Operation) -> Id {
        let invoked_ns = self.moment(at_ns);
        let record = Record { client, invoked_ns, completed_ns: None, operation, outcome: None, revision: None };
        self.records.push(record);
        Id(self.records.len() - 1)
    }

    /// Its answer came. An operation ends once; that is asserted.
    pub fn complete(&mut self, id: Id, at_ns: u64, outcome: Outcome, revision: Option<u64>) {
        let completed_ns = self.moment(at_ns);
        let record = &mut self.records[id.0];
        assert!(record.completed_ns.is_none(), "answered twice: {record}");
        record.completed_ns = Some(completed_ns);
        record.outcome = Some(outcome);
        record.revision = revision;
    }

    /// It certainly had no effect, and will have none.
    pub fn fail(&mut self, id: Id, at_ns: u64) {
        let completed_ns = self.moment(at_ns);
        let record = &mut self.records[id.0];
        assert!(record.completed_ns.is_none(), "answered twice: {record}");
        record.completed_ns = Some(completed_ns);
    }

    /// Adds an operation of another history, with its own times.
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Events at one instant, as a simulation has them, are told apart by a nanosecond each: their order is known, and
    /// a client that asks again in the instant of its answer asks after it.
    fn moment(&mut self, at_ns: u64) -> u64 {
        self.last_ns = at_ns.max(self.last_ns + 1);
        self.last_ns
    }
}
