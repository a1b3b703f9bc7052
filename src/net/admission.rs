//! Counts the requests of all connections that wait for their answer. Plain data; used by the net thread.

/// A request is counted from the moment it is decoded until its answer comes from consensus, even if its
/// connection is gone by then: otherwise a client could have any number of them by connecting again.
#[derive(Debug)]
pub struct Admission {
    requests: usize,
    requests_max: usize,
}

impl Admission {
    pub fn new(requests_max: usize) -> Admission {
        Admission { requests: 0, requests_max }
    }

    pub fn requests(&self) -> usize {
        self.requests
    }

    pub fn requests_max(&self) -> usize {
        self.requests_max
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
