//! What must hold for any bytes from outside, one function for each decoder. Pure functions of their input, so that the
//! seeded mutator (`../main.rs`, in the test command) and libFuzzer (`../fuzz_targets`) run the same.
//!
//! | target | input |
//! |---|---|
//! | `client_frame`, `first_frame`, `client_reply`, `peer_frame` | a frame without its length |
//! | `hello`, `hello_reply` | the same, behind the magic that all of them begin with |
//! | `envelope`, `members` | the data of a log entry |
//! | `line` | a line without its end |
//! | `frames` | what a connection sends; see there |
//! | `session` | one byte that says how the rest arrives; the rest is what a connection sends |
//! | `identity`, `suspect_mark` | one byte that says whether the checksum is put right; the rest is the file |
//! | `term_slots` | flags, then both slots; see there |
//! | `wal_damaged`, `wal_forged` | edits of a data directory; see `edits` |
//!
//! Each panics where a promise is broken: never a panic of the code under test, no more memory than a multiple of the
//! bytes that arrived, what is accepted encodes to something that decodes to the same, and of storage: nothing that was
//! not written is ever read. The answer is whether the input was accepted, so that a run can say that it did not only
//! look at noise.

mod edits;
mod lines;
mod memory;
mod session;
mod storage;
mod wal;
mod wire;

pub use edits::EDIT_BYTES;
pub use lines::line;
pub use memory::peak_bytes;
pub use session::session;
pub use storage::{identity, suspect_mark, term_slots};
pub use wal::{wal_damaged, wal_forged};
pub use wire::{
    FROM, INSTANCE, MAGIC, TO, client_frame, client_reply, envelope, first_frame, frames, hello, hello_reply, members,
    peer_frame,
};

/// Runs `decode` on `bytes`, which is to hold no more than a multiple of what has arrived.
///
/// The multiple is that of the costliest element: two bytes on the wire, about a hundred in memory, there twice while
/// it is made into a value of ours, in a vector that doubles. How many there may be is bounded besides.
fn within_memory<T>(bytes: &[u8], decode: impl FnOnce() -> T) -> T {
    const EACH_BYTE: usize = 256;
    const ANYWAY: usize = 16 * 1024;
    let (decoded, peak) = peak_bytes(decode);
    let most = ANYWAY + EACH_BYTE * bytes.len();
    assert!(peak <= most, "{} bytes made the decoder hold {peak}, and {most} is the most", bytes.len());
    decoded
}
