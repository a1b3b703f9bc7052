//! Log matching (Raft paper, figure 3): an entry of one index and term is the same everywhere, and so is the one before
//! it; by induction so are all before it.
//!
//! It looks at what each node hands to its disk, whichever way it came there, and keeps every entry that ever was.

use raftkv::base::{Entry, LogIndex, Term};

use super::{Verdict, ensure};

struct Known {
    before: Term,
    entry: Entry,
}

#[derive(Default)]
pub struct Matching {
    /// By index, which begins at 1; a few terms each.
    entries: Vec<Vec<Known>>,
}

impl Matching {
    /// `before`: the term of the entry before it in that node's log.
    pub fn on_entry(&mut self, entry: &Entry, before: Term) -> Verdict {
        let place = entry.index.0 as usize - 1;
        if self.entries.len() <= place {
            self.entries.resize_with(place + 1, Vec::new);
        }
        match self.entries[place].iter().find(|known| known.entry.term == entry.term) {
            Some(known) => ensure("log matching", known.before == before && known.entry == *entry, || {
                format!(
                    "entry {} of term {} is two: behind term {} with {} bytes, and behind term {before} with {} bytes",
                    entry.index,
                    entry.term,
                    known.before,
                    known.entry.data.len(),
                    entry.data.len()
                )
            }),
            None => {
                self.entries[place].push(Known { before, entry: entry.clone() });
                Ok(())
            }
        }
    }

    pub fn entry(&self, index: LogIndex, term: Term) -> Option<&Entry> {
        let known = self.entries.get((index.0 as usize).checked_sub(1)?)?;
        known.iter().map(|known| &known.entry).find(|entry| entry.term == term)
    }
}
