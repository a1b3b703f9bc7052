//! What is stored under a key, and a value as it is handed out.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use triomphe::{Arc, ThinArc};

use super::Revision;
use super::prefetch::{CACHE_LINE_BYTES, prefetch};

/// A key, its value and where they come from. Cloning shares it; what is shared never changes.
///
/// It is one piece of memory behind one word, counts and lengths included: whoever finds the word beside the key's
/// neighbours is one access away from everything, and many of them lie in a cache line.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(ThinArc<About, u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct About {
    create_revision: Revision,
    mod_revision: Revision,
    version: u64,
    /// The key is so many of the bytes, the value the rest.
    key_bytes: usize,
}

/// Puts the parts of records together, in memory that it keeps for the next, if it is not much.
#[derive(Debug, Default)]
pub struct RecordMaker(Vec<u8>);

const KEPT_BYTES: usize = 64 * 1024;
/// Its counts and numbers, 48 bytes, and a key and a value of usual sizes.
const PREFETCHED_BYTES: usize = 3 * CACHE_LINE_BYTES;

impl RecordMaker {
    /// What `key` holds when it is created with `value` at `revision`.
    pub fn create(&mut self, key: &[u8], value: &[u8], revision: Revision) -> Record {
        let about = About { create_revision: revision, mod_revision: revision, version: 1, key_bytes: key.len() };
        self.make(about, key, value)
    }

    /// Makes of `record` what its key holds when `value` is put at `revision`. If nobody shares it and `value` is as long
    /// as the old one it stays where it is: no memory is asked for or given back.
    pub fn change(&mut self, record: &mut Record, value: &[u8], revision: Revision) {
        let about = record.about();
        let about = About { mod_revision: revision, version: about.version + 1, ..*about };
        if !record.overwrite(about, value) {
            *record = self.make(about, record.key(), value);
        }
    }

    fn make(&mut self, about: About, key: &[u8], value: &[u8]) -> Record {
        self.0.clear();
        self.0.extend_from_slice(key);
        self.0.extend_from_slice(value);
        let record = Record(ThinArc::from_header_and_slice(about, &self.0));
        if self.0.capacity() > KEPT_BYTES {
            self.0 = Vec::new();
        }
        record
    }
}

impl Record {
    /// Has the processor fetch it, as far as most records go; how large this one is would have to be fetched too.
    pub(crate) fn prefetch(&self) {
        prefetch(self.0.as_ptr(), PREFETCHED_BYTES);
    }

    pub fn key(&self) -> &[u8] {
        &self.0.slice[..self.about().key_bytes]
    }

    pub fn value(&self) -> &[u8] {
        &self.0.slice[self.about().key_bytes..]
    }

    /// When the key was last created.
    pub fn create_revision(&self) -> Revision {
        self.about().create_revision
    }

    /// When the value was last put.
    pub fn mod_revision(&self) -> Revision {
        self.about().mod_revision
    }

    /// 1 when the key was created, one more for each put since.
    pub fn version(&self) -> u64 {
        self.about().version
    }

    fn about(&self) -> &About {
        &self.0.header.header
    }

    /// False: it is shared, or its value has another length.
    fn overwrite(&mut self, about: About, value: &[u8]) -> bool {
        self.0.with_arc_mut(|record| {
            let Some(record) = Arc::get_mut(record) else { return false };
            let old = &mut record.slice_mut()[about.key_bytes..];
            let fits = old.len() == value.len();
            if fits {
                old.copy_from_slice(value);
                *record.header_mut() = about;
            }
            fits
        })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\": b\"{}\", {:?}", self.key().escape_ascii(), self.value().escape_ascii(), self.about())
    }
}

/// A value. It shares the memory of the record that it is in, or of the message that it came in, if that is large.
#[derive(Clone)]
pub struct Value(Source);

#[derive(Clone)]
enum Source {
    Message(Bytes),
    Record(Record),
}

impl Value {
    /// What stays in memory as long as this does, beside what this is itself: of a record all of it.
    pub fn held_bytes(&self) -> usize {
        match &self.0 {
            Source::Message(bytes) => bytes.len(),
            Source::Record(record) => record.key().len() + record.value().len() + size_of::<About>(),
        }
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Message(bytes) => bytes,
            Source::Record(record) => record.value(),
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Record> for Value {
    fn from(record: Record) -> Value {
        Value(Source::Record(record))
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Value {
        Value(Source::Message(bytes))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value(Source::Message(bytes.into()))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value(Source::Message(Bytes::copy_from_slice(bytes)))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::from(text.as_bytes())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::from(text.into_bytes())
    }
}

impl From<Value> for Bytes {
    fn from(value: Value) -> Bytes {
        match value.0 {
            Source::Message(bytes) => bytes,
            Source::Record(_) => Bytes::from_owner(value),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl Eq for Value {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        self[..] == *other.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(record: &Record) -> (u64, u64, u64) {
        (record.create_revision().0, record.mod_revision().0, record.version())
    }

    #[test]
    fn a_record_tells_what_it_was_made_of() {
        let mut maker = RecordMaker::default();
        let mut record = maker.create(b"key", b"value", Revision(3));
        assert_eq!((record.key(), record.value(), about(&record)), (&b"key"[..], &b"value"[..], (3, 3, 1)));
        for (revision, value) in [(7, &b"other"[..]), (8, b""), (9, b"longer than all"), (12, b"as long as that")] {
            let version = record.version();
            maker.change(&mut record, value, Revision(revision));
            assert_eq!((record.key(), record.value()), (&b"key"[..], value));
            assert_eq!(about(&record), (3, revision, version + 1));
        }
        assert_eq!(record, record.clone());
        assert_ne!(maker.create(b"a", b"bc", Revision(1)), maker.create(b"ab", b"c", Revision(1)));
    }

    #[test]
    fn a_record_changes_where_it_is_unless_somebody_else_has_it() {
        let mut maker = RecordMaker::default();
        let mut record = maker.create(b"key", b"value", Revision(1));
        let place = record.value().as_ptr();
        maker.change(&mut record, b"other", Revision(2));
        assert_eq!((record.value(), record.value().as_ptr(), about(&record)), (&b"other"[..], place, (1, 2, 2)));
        let answered = Value::from(record.clone());
        maker.change(&mut record, b"third", Revision(3));
        assert_eq!((&answered[..], answered.as_ptr()), (&b"other"[..], place), "what was read stays");
        assert_eq!((record.value(), about(&record)), (&b"third"[..], (1, 3, 3)));
        assert_ne!(record.value().as_ptr(), place);
    }

    #[test]
    fn a_value_is_the_memory_that_it_came_in() {
        let record = RecordMaker::default().create(b"key", b"value", Revision(1));
        let value = Value::from(record.clone());
        assert_eq!((&value[..], value.as_ptr()), (record.value(), record.value().as_ptr()));
        let bytes = Bytes::from(value.clone());
        assert_eq!((&bytes[..], bytes.as_ptr()), (&value[..], value.as_ptr()));
        drop((record, value));
        assert_eq!(bytes, "value", "it lives as long as who has it");
        let message = Bytes::copy_from_slice(b"value");
        assert_eq!(Bytes::from(Value::from(message.clone())).as_ptr(), message.as_ptr());
    }

    #[test]
    fn a_value_counts_the_key_that_stays_with_it() {
        let record = RecordMaker::default().create(&[b'k'; 4096], b"", Revision(1));
        let value = Value::from(record);
        assert!(value.is_empty());
        assert!((4096..4200).contains(&value.held_bytes()), "{}", value.held_bytes());
        assert_eq!(Value::from("value").held_bytes(), 5);
    }

    #[test]
    fn what_a_large_record_was_made_in_is_given_back() {
        let mut maker = RecordMaker::default();
        maker.create(b"key", &[0; 2 * KEPT_BYTES], Revision(1));
        assert_eq!(maker.0.capacity(), 0);
        maker.create(b"key", b"value", Revision(2));
        assert!(maker.0.capacity() >= 8, "the next needs no memory");
    }
}
