//! How much room a node's disk has left, as its log sees it.

/// Whether there is room for more, on the disk and in what is prepared. What each step leaves: `disk::wal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    #[default]
    Plenty = 0,
    /// Only the reserve is left: deletes and the cluster's own entries may go on.
    Low,
    /// The reserve is used up too: nothing new may be asked for.
    Exhausted,
}

/// Why a node can't make what its log needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// There is no room; otherwise something else is wrong, and room would not help.
    pub is_full: bool,
    /// As a part of a sentence.
    pub what: String,
}

impl Space {
    pub fn from_number(number: u32) -> Option<Space> {
        [Space::Plenty, Space::Low, Space::Exhausted].into_iter().find(|space| *space as u32 == number)
    }
}
