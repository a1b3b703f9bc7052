//! Three real node processes under hardship: a network that is cut, processes that stand still or are killed, disks
//! that fill, fail and rot, a processor that is taken away. Five kinds of operation go on meanwhile on five keys, and
//! what the clients saw is checked: nothing acknowledged is lost, nothing is applied twice, and the whole is
//! linearizable.
//!
//! | module | what is done to the nodes | needs |
//! |---|---|---|
//! | `network` | cut off, one way too, one node between two, slow links; each node in a network namespace of its own | root, `unshare`, `ip`, `tc` |
//! | `signals` | stopped longer than an election timeout; `kill -9` of all in every order | |
//! | `disks` | a small file system that fills up | root, `unshare` |
//! | | a write or an fdatasync that fails, at the start and later | `strace` |
//! | | bytes flipped in the segments of all nodes | |
//! | `quota` | a tenth of a core at full load | root, a cgroup with a quota |
//!
//! A test that can't run says why and is counted. `tools/long` runs each many times over; here each runs once.
//!
//! What this does not do: `kill -9` keeps the page cache, so that power loss is the simulator's and `crash.rs`'s. Cuts
//! fall between whole packets, where the kernel retransmits: messages lost one by one are the simulator's.

#[path = "../common/mod.rs"]
mod common;
mod disks;
mod load;
mod network;
mod quota;
mod secluded;
mod signals;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: each is for a machine that has nothing else to do, and takes it to its limit.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // One that failed leaves nothing behind that another could trip over.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often each test does what it does: once, unless a long run asks for more.
fn rounds() -> usize {
    let asked = std::env::var("RAFTKV_HARDSHIP_ROUNDS").ok();
    asked.map_or(1, |rounds| rounds.parse().expect("RAFTKV_HARDSHIP_ROUNDS is a number of rounds"))
}
