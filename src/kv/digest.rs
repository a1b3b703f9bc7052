//! A number that tells whether two states are equal, kept up to date change by change. Pure.
//!
//! It is the sum, modulo 2^64, of one hash (XXH3, 64 bits) for each record, so that it depends on what is stored and
//! not on the way there: a record that is replaced is taken out of the sum as it stands in memory, and the new one
//! put in. Two states that differ by chance or by a mistake have different digests, but for one chance in 2^64; it is
//! no protection against malice. The hash is a format constant: nodes of different versions compare theirs.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::base::{Record, Revision};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    pub fn add(&mut self, record: &Record) {
        self.0 = self.0.wrapping_add(hash(record));
    }

    pub fn remove(&mut self, record: &Record) {
        self.0 = self.0.wrapping_sub(hash(record));
    }

    /// As nodes compare it: with the revision, since a delete of an absent key changes nothing else.
    pub fn at(self, revision: Revision) -> u64 {
        self.0 ^ xxh3_64(&revision.0.to_be_bytes())
    }
}

/// Three hashes in a chain, each the seed of the next: what is short is hashed in one go, where a hash that takes its
/// input in parts would first set up half a kilobyte. The numbers hold both lengths, so no byte can change its part.
fn hash(record: &Record) -> u64 {
    let (key, value) = (record.key(), record.value());
    let mut numbers = [0; 40];
    let parts =
        [key.len() as u64, value.len() as u64, record.create_revision().0, record.mod_revision().0, record.version()];
    for (number, bytes) in parts.iter().zip(numbers.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&number.to_be_bytes());
    }
    let numbers = xxh3_64(&numbers);
    xxh3_64_with_seed(value, xxh3_64_with_seed(key, numbers))
}
