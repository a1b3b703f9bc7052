//! The net thread's sleeping flag under loom: every interleaving of its steps, and every stale value that the memory
//! model lets a thread read. The file under test is the one that production runs, compiled against loom's atomics.
//!
//! The channel is a counter that orders nothing by itself, which is less than the real one does: what is shown here
//! rests on the flag and its fences alone. A wake is sticky, as an eventfd's is. A lost one is a deadlock, which loom
//! reports.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use loom::sync::Notify;
use loom::sync::atomic::{self, AtomicUsize};
use loom::thread;
use raftkv::guard;

#[path = "../src/net/sleeper.rs"]
mod sleeper;

use sleeper::Sleeper;

struct Shared {
    sleeper: Sleeper,
    pushed: AtomicUsize,
    poll: Notify,
}

/// As `mailbox::Mailbox` sends.
fn send(shared: &Shared) {
    shared.pushed.fetch_add(1, Relaxed);
    if shared.sleeper.must_wake() {
        shared.poll.notify();
    }
}

/// `senders` threads send `letters` each; the net thread receives all of them, deciding by `may_sleep` whether to wait.
/// `preemptions`: how often a thread that could go on has to wait for another, at most; `None` for no bound.
fn model(senders: usize, letters: usize, preemptions: Option<usize>, may_sleep: fn(&Shared, usize) -> bool) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        let shared = Arc::new(Shared { sleeper: Sleeper::default(), pushed: AtomicUsize::new(0), poll: Notify::new() });
        for _ in 0..senders {
            let shared = shared.clone();
            thread::spawn(move || (0..letters).for_each(|_| send(&shared)));
        }
        let mut taken = 0;
        while taken < senders * letters {
            if may_sleep(&shared, taken) {
                shared.poll.wait();
            }
            shared.sleeper.awake();
            taken = shared.pushed.load(Relaxed);
        }
    });
}

fn as_the_loop_does(shared: &Shared, taken: usize) -> bool {
    shared.sleeper.may_sleep(|| shared.pushed.load(Relaxed) == taken)
}

#[test]
fn no_wake_of_one_sender_is_lost() {
    model(1, 2, None, as_the_loop_does);
}

/// Without the bound too, but that takes minutes.
#[test]
fn no_wake_of_two_senders_is_lost() {
    model(2, 1, Some(2), as_the_loop_does);
}

/// What the model is worth: the order that the flag is there to prevent is found out.
#[test]
#[should_panic(expected = "deadlock")]
fn a_look_at_the_channel_before_the_flag_is_up_sleeps_through_a_letter() {
    model(1, 1, None, |shared, taken| {
        let is_empty = shared.pushed.load(Relaxed) == taken;
        shared.sleeper.may_sleep(|| is_empty)
    });
}

#[test]
fn only_a_sleeper_is_woken_and_only_once() {
    loom::model(|| {
        let sleeper = Sleeper::default();
        assert!(!sleeper.must_wake(), "awake");
        assert!(sleeper.may_sleep(|| true));
        assert!(sleeper.must_wake());
        assert!(!sleeper.must_wake(), "somebody woke it already");
        assert!(!sleeper.may_sleep(|| false), "there is something to do");
        sleeper.awake();
        assert!(!sleeper.must_wake());
    });
}
