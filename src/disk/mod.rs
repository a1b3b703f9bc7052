//! Layer 2: what is durable: the log in its segments, term and vote in their slots, and whose data they are.
//!
//! A node's promises are as good as its disk, and a disk fails in more ways than it admits: it loses what was not
//! synced, in any order and down to the sector; a process that is killed leaves bytes in the page cache that look
//! durable and are not; an fsync that failed once succeeds the next time, having written nothing; a bit flips. The
//! code here keeps two promises through all of that:
//!
//! 1. What [`Wal::persist`] returned `Ok` for is there after every later start; or it is said to be missing, by index
//!    and term, and that the log may have gone on, if its end is damaged; or the start is refused.
//! 2. Nothing that was not asked for is ever there.
//!
//! How it goes, from the bottom up:
//!
//! | file | owns |
//! |---|---|
//! | `disk`, `real`, `memory` | the two traits, the operating system's files, and a disk that forgets and fails on demand |
//! | `sector` | the 512-byte sector and its stamp: written whole, never written, half written, or damaged |
//! | `record` | a batch of records: what one write and one fsync make durable; it also describes the batch before it |
//! | `salvage` | from a batch's bytes back to its records, also if some are lost |
//! | `segment` | a file of batches, zeroed and made durable ahead of its use |
//! | `scan` | what stands at a place of a segment; the table that tells a torn write from damage |
//! | `walk` | the log batch by batch; which damaged batch was what, and when nobody can know |
//! | `replay`, `map` | batches in the order of writing become a log; where its entries lie, and which are missing |
//! | `slots` | term and vote |
//! | `mark` | that a node is suspect, durably |
//! | `recovery` | reads and judges everything, then makes it durable again, and only then lets it be believed |
//! | `wal` | group commit: term and vote first, then all queued entries as one batch; rolling over; room |
//! | `repair` | damaged batches are remade from entries that peers still have |
//! | `scrub` | reads everything once more while the node runs |
//! | `reader` | entries that memory no longer holds, read on another thread |
//! | `identity`, `data_dir` | whose data these are; the directory, its lock and its mode |
//!
//! The wal runs on the `wal` thread. [`SegmentJob`], [`LogReader`], [`Repairer`] and [`Scrub`] run on a background
//! thread, beside it.
//!
//! What is not here: it decides nothing (consensus says what to persist, when a message may leave, what a suspect node
//! may do, and when the mark goes); it does not ask peers for what is missing, drop the log's beginning, or keep
//! snapshots; it does not watch for a disk that hangs. It can't see a disk that reports a sync as done and loses it,
//! nor a whole last batch, or a whole last segment, that was replaced by what stood there before.

mod data_dir;
#[allow(clippy::module_inception)]
mod disk;
mod error;
mod identity;
mod map;
mod mark;
mod memory;
mod reader;
mod real;
mod record;
mod recovery;
mod repair;
mod replay;
mod salvage;
mod scan;
mod scrub;
mod sector;
mod segment;
mod slots;
mod wal;
mod walk;

pub use crate::base::Space;
pub use data_dir::{DataDir, Wanted, random_u128};
pub use disk::{Disk, DiskFile, is_full};
pub use error::{Damage, OpenError, WalError};
pub use memory::{Crash, DiskOperation, Fate, HeldSyncs, MemoryDisk, NameTable};
pub use reader::LogReader;
pub use real::RealDisk;
pub use recovery::{Cut, ReadSoFar, RecoveryReport};
pub use repair::{Offered, RepairProgress, Repairer};
pub use scrub::{Scrub, ScrubStep};
pub use segment::{Pace, PreparedSegment, SegmentJob};
pub use wal::{Opened, SyncTimer, Wal, WalSettings};
