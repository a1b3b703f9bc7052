//! What all connections together may still take: requests that wait for their answers, and memory. Plain data; used by the
//! net thread.

use super::limits::Memory;

/// A request is counted from the moment it is decoded until its answer comes from consensus, even if its
/// connection is gone by then: otherwise a client could have any number of them by connecting again.
#[derive(Debug)]
pub struct Admission {
    requests: usize,
    requests_max: usize,
    memory: Memory,
}

impl Admission {
    pub fn new(requests_max: usize) -> Admission {
        Admission { requests: 0, requests_max, memory: Memory::Free }
    }

    pub fn requests(&self) -> usize {
        self.requests
    }

    pub fn requests_max(&self) -> usize {
        self.requests_max
    }

    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// What the buffers of all connections hold has changed.
    pub fn set_memory(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// False: the bound is reached, and nothing is taken.
    #[must_use]
    pub fn try_take(&mut self) -> bool {
        let free = self.requests < self.requests_max;
        self.requests += usize::from(free);
        free
    }

    /// For the next page of a listing that was let in already: it can't be refused in the middle.
    pub fn take(&mut self) {
        self.requests += 1;
    }

    pub fn give_back(&mut self, requests: usize) {
        self.requests = self.requests.checked_sub(requests).expect("no more is given back than was taken");
    }
}
