//! An allocator that counts, so that a test can say what a decoder may hold. Whoever takes this file in gets it as its
//! global allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NOW_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

/// Counts what each thread holds, and the most it held.
struct Counting;

fn count(bytes: isize) {
    // A thread that ends frees memory after its counters are gone.
    let _ = NOW_BYTES.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK_BYTES.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` gives, and the most that it held beyond what was held before it.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW_BYTES.get();
    PEAK_BYTES.set(before);
    let done = work();
    (done, (PEAK_BYTES.get() - before) as usize)
}
