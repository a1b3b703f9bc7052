//! The small files of a data directory.

use raftkv::base::limits::DATA_FORMAT_VERSION;
use raftkv::base::{HardState, InstanceId, LogIndex, NodeId, Term};
use raftkv::disk::{DataDir, MemoryDisk, Opened, Wanted};

use super::wal::{Truth, open, truth};
use super::within_memory;

/// What counts goes no further than this, and what says more is not sound.
pub const COUNTER_MAX: u64 = u64::MAX / 2;
/// What a slot says, behind its magic: version, counter, term and vote.
const SLOT_BYTES: usize = 24;

/// A text file's last line is the checksum of all before it.
fn sealed(text: &[u8]) -> Vec<u8> {
    const LINE: &[u8] = b"checksum: ";
    let end = text.windows(LINE.len()).rposition(|window| window == LINE).unwrap_or(text.len());
    let body = &text[..end];
    [body, format!("checksum: {:08x}\n", crc32fast::hash(body)).as_bytes()].concat()
}

/// The first byte, if odd, has the checksum put right.
fn text_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let (seal, text) = bytes.split_first()?;
    Some(if seal % 2 == 1 { sealed(text) } else { text.to_vec() })
}

/// Only what reads back to exactly the same bytes is an identity.
pub fn identity(bytes: &[u8]) -> bool {
    let Some(text) = text_of(bytes) else { return false };
    let disk = MemoryDisk::new();
    let file = disk.attach().create("identity").expect("the disk does not fail");
    file.write_at(0, &text).expect("the disk does not fail");
    let wanted = Wanted { node: NodeId::new(7).unwrap(), cluster_name: "demo".into() };
    let attached = disk.attach();
    let Ok(dir) = within_memory(&text, || DataDir::on(attached, &wanted, InstanceId(1))) else { return false };
    let cluster = dir.cluster_id().map_or("-".to_string(), |cluster| cluster.to_string());
    let instance = dir.instance();
    let body = format!(
        "raftkv data directory\nformat: {DATA_FORMAT_VERSION}\nnode: 7\ninstance: {instance}\ncluster name: demo\n\
         cluster: {cluster}\n"
    );
    assert!(sealed(body.as_bytes()) == text, "what is accepted is not what is written: {}", text.escape_ascii());
    true
}

/// Whatever the mark says, the start is not refused, the log is what it was, and the node is suspect until it is told
/// that it is not.
pub fn suspect_mark(bytes: &[u8]) -> bool {
    let Some(text) = text_of(bytes) else { return false };
    let truth = truth();
    let mut files = truth.files.clone();
    files.insert("suspect".into(), text);
    let disk = truth.disk_with(&files);
    let mut opened = open(&disk).unwrap_or_else(|error| panic!("the mark refuses the start: {error}"));
    check_log(truth, &opened);
    assert!(opened.recovered.damage.suspect, "a mark was overlooked");
    let is_certain = !opened.recovered.damage.end_uncertain;
    opened.repairer.clear_mark().expect("the disk does not fail");
    disk.crash();
    let again = open(&disk).unwrap_or_else(|error| panic!("the next start is refused: {error}"));
    check_log(truth, &again);
    assert!(!again.recovered.damage.suspect, "the mark came back");
    is_certain
}

fn check_log(truth: &Truth, opened: &Opened) {
    assert_eq!(opened.recovered.hard_state, truth.hard_state);
    let last = opened.recovered.log.last_index;
    let log = opened.reader.read(LogIndex(1), last, usize::MAX).expect("what was recovered can be read");
    assert!(log == truth.log, "the log is not what it was");
}

/// The first byte's lowest bits: whether the checksums of slot A and B are put right. Then what A says, what B says,
/// and any number of `| place u16 | xor u8 |` in the whole file.
pub fn term_slots(bytes: &[u8]) -> bool {
    let Some((flags, rest)) = bytes.split_first() else { return false };
    let Some((says, flips)) = rest.split_at_checked(2 * SLOT_BYTES) else { return false };
    let truth = truth();
    let mut files = truth.files.clone();
    let file = files.get_mut("term").expect("the truth has one");
    for (slot, says) in says.chunks_exact(SLOT_BYTES).enumerate() {
        file[slot * 4096 + 8..][..SLOT_BYTES].copy_from_slice(says);
    }
    for flip in flips.as_chunks::<3>().0 {
        let place = usize::from(u16::from_be_bytes([flip[0], flip[1]])) % file.len();
        file[place] ^= flip[2];
    }
    for slot in (0..2).filter(|slot| flags >> slot & 1 == 1) {
        let slot = &mut file[slot * 4096..][..512];
        let checksum = crc32fast::hash(&slot[..508]);
        slot[508..].copy_from_slice(&checksum.to_be_bytes());
    }
    let slots = [Slot::read(&file[..512]), Slot::read(&file[4096..][..512])];
    let disk = truth.disk_with(&files);
    let Ok(mut opened) = open(&disk) else { return false };
    let found = opened.recovered.hard_state;
    let newest = slots.iter().flatten().max_by_key(|slot| slot.counter).expect("with no sound slot it is refused");
    assert_eq!(found, newest.state, "the sound slot with the higher counter counts");
    for slot in slots.iter().flatten() {
        assert!(slot.state == found || slot.counter < newest.counter, "two states are as new");
        assert!(slot.state.term <= found.term, "the term went back");
    }
    assert!(found.term >= truth.log.last().expect("it has entries").term, "the term is below the log's");
    if newest.counter >= COUNTER_MAX || found.term.0 >= COUNTER_MAX {
        return true;
    }
    let next = HardState { term: found.term.next(), vote: None };
    let persist = raftkv::raft::Persist {
        seq: raftkv::base::PersistSeq(0),
        cut_from: None,
        hard_state: Some(next),
        entries: vec![],
        messages: vec![],
    };
    opened.wal.persist(&[persist]).expect("the disk does not fail");
    disk.crash();
    let again = open(&disk).unwrap_or_else(|error| panic!("the next start is refused: {error}"));
    assert_eq!(again.recovered.hard_state, next, "what was acknowledged is gone");
    true
}

/// As `src/disk/slots.rs` describes it.
struct Slot {
    counter: u64,
    state: HardState,
}

impl Slot {
    /// `None` if it is not sound.
    fn read(slot: &[u8]) -> Option<Slot> {
        let u32_at = |at: usize| u32::from_be_bytes(slot[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_be_bytes(slot[at..at + 8].try_into().unwrap());
        let is_sound = slot.starts_with(b"raftkvTV")
            && u32_at(8) == DATA_FORMAT_VERSION
            && slot[32..508].iter().all(|byte| *byte == 0)
            && u32_at(508) == crc32fast::hash(&slot[..508])
            && u64_at(12) <= COUNTER_MAX;
        let state = HardState { term: Term(u64_at(20)), vote: NodeId::new(u32_at(28)) };
        is_sound.then(|| Slot { counter: u64_at(12), state })
    }
}
