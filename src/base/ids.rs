//! Newtypes for everything that is counted or named, so that the compiler tells an index from a term.

use std::fmt;
use std::num::NonZeroU32;

/// A member's id, chosen by the operator: 1 to 4,294,967,295. 0 means "none" on the wire and is no `NodeId`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU32);

impl NodeId {
    /// `None` for 0, which the wire uses for "nobody".
    pub const fn new(id: u32) -> Option<NodeId> {
        match NonZeroU32::new(id) {
            Some(id) => Some(NodeId(id)),
            None => None,
        }
    }

    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            pub const ZERO: $name = $name(0);

            /// The following one.
            #[must_use]
            pub const fn next(self) -> $name {
                $name(self.0 + 1)
            }

            /// The one before; 0 stays 0.
            #[must_use]
            pub const fn prev(self) -> $name {
                $name(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

counter!(
    /// A Raft term (Raft paper, section 5.1). 0 is "before any election".
    Term
);
counter!(
    /// A position in the log. The first entry has index 1; 0 is "before the log".
    LogIndex
);
counter!(
    /// The key-value state's version: every atomic list of operations makes the next one. 0 is the empty state.
    Revision
);
counter!(
    /// Numbers what is handed to the write-ahead log. Durability is acknowledged by this number, never by log
    /// index: an index can be overwritten while its old fsync is in flight.
    PersistSeq
);

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:032x})", stringify!($name), self.0)
            }
        }
    };
}

identity!(
    /// Minted at random by a cluster's first leader, in the log's first entry. Nodes of two clusters never talk.
    ClusterId
);
identity!(
    /// Minted at random by each data directory when it is made. A directory that was wiped comes back as another
    /// instance under its old node id, and counts in no quorum.
    InstanceId
);
