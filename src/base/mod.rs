//! Layer 0: the vocabulary that every other layer shares.
//!
//! Ids are newtypes, so that a term is never passed for an index; the shapes of what the log holds; every bound
//! and format constant in one place; a seeded generator; and time as a number that is handed in. Nothing here
//! touches a clock, a thread, a socket or a file.

pub mod address;
pub mod chunked;
pub mod entry;
pub mod ids;
pub mod limits;
pub mod members;
pub mod moment;
pub(crate) mod prefetch;
pub mod random;
pub mod record;
pub mod role;
pub mod space;
pub mod stage;
pub mod steps;
pub mod words;

pub use address::is_same_address;
pub use chunked::ChunkedQueue;
pub use entry::{Command, Entry, EntryKind, Envelope, HardState, Operation};
pub use ids::{ClusterId, InstanceId, LogIndex, NodeId, PersistSeq, Revision, Term};
pub use members::{Member, Members};
pub use moment::Moment;
pub use random::Random;
pub use record::{Record, RecordMaker, Value};
pub use role::Role;
pub use space::{Shortage, Space};
pub use stage::Stage;
pub use steps::Step;
pub use words::{brief, counted, mebibytes};
