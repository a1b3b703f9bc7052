//! Where connections live: a slab whose every use of a slot has its own generation.
//!
//! An event or an answer names slot and generation, so that what was meant for a closed connection never reaches
//! its successor in the slot, not even within one batch of events. Plain data; used by the net thread.

use super::ConnectionId;
use crate::guard::{Guard, removed};

/// The generation wraps after 2^32 uses of one slot; nothing that names a connection lives that long.
#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slot<T> {
    fn is_of(&self, id: ConnectionId) -> bool {
        self.generation == id.generation || removed(Guard::GenerationIgnored)
    }
}

#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    /// Room for `usual` is reserved: the system gives memory only where it is used, and nothing is copied when slots
    /// are added, unless there are more.
    pub fn with_capacity(usual: usize) -> Slots<T> {
        Slots { slots: Vec::with_capacity(usual), free: Vec::with_capacity(usual) }
    }

    /// The id that the next `insert` returns; a socket is registered under it before it is stored.
    pub fn next_id(&self) -> ConnectionId {
        match self.free.last() {
            Some(&slot) => ConnectionId { slot, generation: self.slots[slot as usize].generation },
            None => {
                let slot = u32::try_from(self.slots.len()).expect("connections are bounded far below 2^32");
                ConnectionId { slot, generation: 0 }
            }
        }
    }

    pub fn insert(&mut self, value: T) -> ConnectionId {
        let id = self.next_id();
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize].value = Some(value),
            None => self.slots.push(Slot { generation: id.generation, value: Some(value) }),
        }
        id
    }

    pub fn get(&self, id: ConnectionId) -> Option<&T> {
        self.slots.get(id.slot as usize).filter(|slot| slot.is_of(id))?.value.as_ref()
    }

    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.is_of(id))?.value.as_mut()
    }

    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.is_of(id))?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(value)
    }

    /// The ids in use, by slot.
    pub fn ids(&self) -> Vec<ConnectionId> {
        let id = |(slot, entry): (usize, &Slot<T>)| {
            let slot = u32::try_from(slot).expect("connections are bounded far below 2^32");
            entry.value.is_some().then_some(ConnectionId { slot, generation: entry.generation })
        };
        self.slots.iter().enumerate().filter_map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_removed_value_never_finds_its_successor() {
        let mut slots = Slots::with_capacity(0);
        let (a, b) = (slots.insert("a"), slots.insert("b"));
        assert_eq!(slots.remove(a), Some("a"));
        let c = slots.insert("c");
        assert_eq!(c.slot, a.slot, "the slot is used again");
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.get_mut(a), None);
        assert_eq!(slots.remove(a), None);
        assert_eq!((slots.get(b), slots.get(c)), (Some(&"b"), Some(&"c")));
        assert_eq!(slots.ids(), [c, b]);
    }

    #[test]
    fn the_next_id_is_the_one_that_insert_gives() {
        let mut slots = Slots::with_capacity(0);
        for round in 0..20 {
            let next = slots.next_id();
            assert_eq!(slots.insert(round), next);
            if round % 3 == 0 {
                slots.remove(next);
            }
        }
    }
}
