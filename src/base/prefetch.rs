//! A hint to the processor: what will be looked at soon.
//!
//! The one place with `unsafe` in this crate, until the standard library's own hint (`std::hint::prefetch_read`) is
//! stable. No program can tell whether it was given, but by the time that it takes.

/// What comes into a processor's cache at once, on most of them.
pub const CACHE_LINE_BYTES: usize = 64;

/// Whether [`prefetch`] does anything here.
pub const IS_KNOWN: bool = cfg!(target_arch = "x86_64");

/// Has the processor fetch the `bytes` from `place` on, without waiting for them; the last line may be left out if
/// `place` is in the middle of one. Any address will do. Nothing is done where no such instruction is known here.
#[inline]
pub fn prefetch<T>(place: *const T, bytes: usize) {
    for offset in (0..bytes).step_by(CACHE_LINE_BYTES) {
        prefetch_line(place.cast::<u8>().wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(unsafe_code)]
fn prefetch_line(place: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint faults at no address and changes nothing that a program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_: *const u8) {}
