//! What the clients saw, to be judged when the run is over: who asked what, when, and what came of it.

use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Put { key: Bytes, value: Bytes },
    Delete { key: Bytes },
    Get { key: Bytes },
    List { prefix: Bytes, after: Option<Bytes>, limit: usize },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Put,
    Deleted { existed: bool },
    Value(Option<Bytes>),
    Keys { keys: Vec<Bytes>, more: bool },
}

pub struct Record {
    pub client: u64,
    pub invoked_ns: u64,
    /// `None`: open; the outcome is missing too if it has certainly failed.
    pub completed_ns: Option<u64>,
    pub operation: Operation,
    pub outcome: Option<Outcome>,
    pub revision: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

#[derive(Default)]
pub struct History {
    records: Vec<Record>,
}

impl History {
    pub fn invoke(&mut self, client: u64, invoked_ns: u64, operation: Operation) -> Id {
        self.records.push(Record { client, invoked_ns, completed_ns: None, operation, outcome: None, revision: None });
        Id(self.records.len() - 1)
    }

    pub fn complete(&mut self, id: Id, at_ns: u64, outcome: Outcome, revision: Option<u64>) {
        let record = &mut self.records[id.0];
        record.completed_ns = Some(at_ns);
        record.outcome = Some(outcome);
        record.revision = revision;
    }

    pub fn fail(&mut self, id: Id, at_ns: u64) {
        self.records[id.0].completed_ns = Some(at_ns);
    }

    pub fn records(&self) -> &[Record] {
        &self.records
    }
}
