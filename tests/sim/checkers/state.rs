//! Equal state at equal applied index: two nodes that applied the same entries hold the same keys, values and
//! revisions.

use raftkv::base::{LogIndex, NodeId};
use raftkv::kv;

use super::{Verdict, ensure};

#[derive(Default)]
pub struct States {
    /// By applied index.
    digests: Vec<Option<(NodeId, u64)>>,
}

impl States {
    pub fn on_applied(&mut self, id: NodeId, applied: LogIndex, digest: u64) -> Verdict {
        let place = applied.0 as usize;
        if self.digests.len() <= place {
            self.digests.resize(place + 1, None);
        }
        let (first, known) = *self.digests[place].get_or_insert((id, digest));
        ensure("equal state at equal applied index", known == digest, || {
            format!("node {id} differs from node {first} after entry {applied}: {digest:016x} and {known:016x}")
        })
    }
}

/// Of all that a client could ever see.
pub fn digest<'a>(view: kv::View<'_>, keys: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut hash = Hash(0xcbf2_9ce4_8422_2325);
    hash.mix(view.revision().0);
    hash.mix(view.len() as u64);
    for key in keys {
        match view.get(key) {
            None => hash.mix(0),
            Some(record) => {
                hash.mix(record.create_revision().0);
                hash.mix(record.mod_revision().0);
                hash.mix(record.version());
                hash.mix(u64::from(crc32fast::hash(record.value())) << 16 | record.value().len() as u64);
            }
        }
    }
    hash.0
}

struct Hash(u64);

impl Hash {
    fn mix(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }
}
