//! What consensus lets others read: the state as it is applied, and until when reads may be answered from it.
//!
//! Consensus is the only writer. It takes the lock to apply what a turn has committed, in bounded slices; a reader
//! takes it for one value, or one bounded page. Neither waits for the other for longer than that. When the turn's
//! entries are applied, and before anything else of the turn leaves the thread, consensus publishes one number: until
//! when, on the node's clock, nobody else can have been elected. It says all: that the lease is held, that the first
//! entry of the term is applied, that the node is sound and not about to stop.
//!
//! A read by lease, on the net thread, or on that of an embedded client:
//!
//! ```text
//! the request is taken  ->  the published number is looked at  ->  the lock is taken
//!     ->  the clock is sampled  ->  the published number is looked at again
//! ```
//!
//! What is read is the state of the moment at which the lock was taken, since nothing changes under it: whether it is
//! looked at before the clock is sampled or while. It was the cluster's then if the clock shows a later time that is
//! still before the number, and before both that were seen. The first, since this node may have lost the lead and won it
//! again meanwhile: the second would be of another lease, under which what was read is old. And the second, since a node
//! that stops leading takes the number back before its vote can help another one. How long the answer takes from there
//! on changes nothing. A sample from before the request was taken would be worth nothing: between the two the process
//! may have stood still for longer than any lease.
//!
//! Nothing here is ordered more strongly than by the lock: whoever has got it sees what the writer did before, and what
//! a reader does next comes after it got it. So its value is at least as old as its sample, and as its second
//! look at the number.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::reads;
use crate::api::{Leader, Reply, Request};
use crate::base::{Moment, Record};
use crate::kv::Store;

/// Shared by consensus and whoever reads.
#[derive(Debug, Default)]
pub struct Served {
    state: RwLock<State>,
    /// Nanoseconds; 0: no read may be answered here.
    until: AtomicU64,
}

#[derive(Debug, Default)]
pub struct State {
    pub store: Store,
    /// This node, as an answer names it: who reads by lease leads.
    pub me: Option<Leader>,
}

/// What was read, and may not be told yet.
#[derive(Debug)]
#[must_use]
pub struct Unconfirmed<T> {
    read: T,
    /// What was published before it was read.
    until: Moment,
}

impl Served {
    // ---- consensus -------------------------------------------------------------------------------------------

    /// For consensus alone. Readers wait meanwhile: see [`Served::let_readers_in`].
    pub fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// Between two slices of a long turn.
    pub fn let_readers_in(guard: &mut RwLockWriteGuard<'_, State>) {
        RwLockWriteGuard::bump(guard);
    }

    /// Reads may be answered from here until then; `None`: not any more.
    pub fn publish(&self, until: Option<Moment>) {
        let until = until.unwrap_or(Moment::ZERO).0;
        if self.until.load(Ordering::Relaxed) != until {
            self.until.store(until, Ordering::Release);
        }
    }

    // ---- whoever reads ---------------------------------------------------------------------------------------

    pub fn store(&self) -> MappedRwLockReadGuard<'_, Store> {
        RwLockReadGuard::map(self.state.read(), |state| &state.store)
    }

    /// Until when reads may be answered, as it is published now.
    pub fn until(&self) -> Moment {
        Moment(self.until.load(Ordering::Acquire))
    }

    /// Reads what `request` asks for; `None`: it is none that is answered here, or none is at present.
    pub fn look_up(&self, request: &Request) -> Option<Unconfirmed<Reply>> {
        if !reads::is_short(request) {
            return None;
        }
        self.read(|State { store, me }| reads::answer(store.view(), request, me.clone()))
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Option<Unconfirmed<T>> {
        let until = self.published()?;
        Some(Unconfirmed { read: read(&self.state.read()), until })
    }

    /// [`Served::until`], if any read may be answered here.
    fn published(&self) -> Option<Moment> {
        Some(self.until()).filter(|until| *until != Moment::ZERO)
    }

    /// What was read, if it was the cluster's then. `now`: sampled since the lock was taken.
    pub fn confirm<T>(&self, read: Unconfirmed<T>, now: Moment) -> Option<T> {
        (now < read.until.min(self.until())).then_some(read.read)
    }

    /// [`Served::look_up`] and [`Served::confirm`] in one.
    pub fn answer(&self, request: &Request, clock: fn() -> Moment) -> Option<Reply> {
        let value = self.look_up(request)?;
        self.confirm(value, clock())
    }

    /// Gives `read` what `key` holds, in place; `None`: it can't be read here at present, and `read` was not called. It
    /// keeps consensus waiting, and must not wait for this node.
    ///
    /// The clock is sampled under the lock, while the record comes from memory (see the module).
    pub fn read_value<T>(
        &self,
        key: &[u8],
        clock: fn() -> Moment,
        read: impl FnOnce(Option<&Record>) -> T,
    ) -> Option<T> {
        let until = self.published()?;
        let state = self.state.read();
        let sought = state.store.view().seek(key);
        sought.prefetch();
        let confirmed = self.confirm(Unconfirmed { read: sought, until }, clock());
        confirmed.map(|sought| read(sought.found()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use smallvec::smallvec;

    use super::*;
    use crate::api::Outcome;
    use crate::base::{Command, Operation};

    fn get() -> Request {
        Request::Get { key: "k".into(), revision: None }
    }

    fn served() -> Served {
        let served = Served::default();
        let operations = smallvec![Operation::Put { key: "k".into(), value: "v".into() }];
        served.write().store.apply(&Command { operations, ..Command::default() });
        served
    }

    fn value(reply: &Reply) -> &[u8] {
        let Ok(Outcome::Value { found: Some(found), .. }) = &reply.result else { panic!("{reply:?}") };
        &found.value
    }

    #[test]
    fn a_read_is_answered_only_before_the_published_time() {
        let served = served();
        assert!(served.look_up(&get()).is_none(), "nothing was published");
        served.publish(Some(Moment(100)));
        let reply = served.confirm(served.look_up(&get()).unwrap(), Moment(99));
        assert_eq!(value(&reply.unwrap()), b"v");
        assert_eq!(served.confirm(served.look_up(&get()).unwrap(), Moment(100)), None);
    }

    #[test]
    fn what_was_read_before_the_lease_was_taken_back_is_not_answered() {
        let served = served();
        served.publish(Some(Moment(100)));
        let value = served.look_up(&get()).unwrap();
        served.publish(None);
        assert_eq!(served.confirm(value, Moment(50)), None);
    }

    #[test]
    fn what_was_read_under_a_lease_that_is_over_is_not_answered_under_the_next() {
        let served = served();
        served.publish(Some(Moment(100)));
        let old = [served.look_up(&get()).unwrap(), served.look_up(&get()).unwrap()];
        served.publish(None);
        served.publish(Some(Moment(200)));
        let [told, not_told] = old;
        assert!(served.confirm(told, Moment(99)).is_some(), "the first lease covers it");
        assert_eq!(served.confirm(not_told, Moment(100)), None);
    }

    #[test]
    fn a_value_is_told_only_before_the_published_time_and_while_that_stands() {
        thread_local! {
            static TAKEN_BACK: Arc<Served> = Arc::new(served());
        }
        let value =
            |served: &Served, clock| served.read_value(b"k", clock, |found| found.map(|found| found.value().to_vec()));
        let served = TAKEN_BACK.with(Arc::clone);
        assert_eq!(value(&served, || Moment(1)), None, "nothing was published");
        served.publish(Some(Moment(100)));
        assert_eq!(value(&served, || Moment(99)), Some(Some(b"v".to_vec())));
        assert_eq!(served.read_value(b"absent", || Moment(99), |found| found.is_some()), Some(false));
        assert_eq!(value(&served, || Moment(100)), None);
        let taken_back_meanwhile = || {
            TAKEN_BACK.with(|served| served.publish(None));
            Moment(99)
        };
        assert_eq!(value(&served, taken_back_meanwhile), None);
    }

    #[test]
    fn only_what_is_soon_read_is_read_here() {
        let served = served();
        served.publish(Some(Moment(100)));
        let list = |limit| Request::List { prefix: "".into(), after: None, limit, revision: None };
        assert!(served.look_up(&list(10)).is_some());
        for request in [list(0), list(1 << 20), Request::Status, Request::Scrub, Request::Latency] {
            assert!(served.look_up(&request).is_none(), "{request:?}");
        }
    }
}
