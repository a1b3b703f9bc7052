//! Segment files: their names, their header, how one is made ready, and how one is read.
//!
//! A segment is `wal/<sequence, 16 hex digits>.seg`. It has its full length from the start, in real zeros that are
//! durable before its first use, its name too: an append then changes no metadata, and rolling over is a switch of
//! descriptors. It is made under a `.new` name, so that a `.seg` is always whole.
//!
//! ```text
//! the first 4 KiB block, big-endian; the rest of it is zero:
//!   0                    8            12             20          28        32
//!   | magic "raftkvSG"    | version u32 | sequence u64 | bytes u64 | crc32 u32 | zero ...
//! batches follow, each on a fresh block (see `record`); behind the last one all is zero.
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::disk::{Disk, DiskFile, folder_of};
use super::error::{Damage, OpenError};
use super::sector::{BLOCK_BYTES, SECTOR_BYTES, be_u32, be_u64, is_zero};
use crate::base::limits::{DATA_FORMAT_VERSION, DISK_LOW_WATER_BYTES, SEGMENT_BYTES_MAX};
use crate::base::mebibytes;
use crate::guard::{Guard, removed};

pub(super) const WAL_DIR: &str = "wal";
/// Batches start here.
pub(super) const SEGMENT_HEADER_BYTES: u64 = BLOCK_BYTES;
pub(super) const FIRST_SEQUENCE: u64 = 1;

const MAGIC: &[u8; 8] = b"raftkvSG";
/// Zeros are written and made durable in pieces of this size, so that a wal's fsync never waits behind a whole
/// segment's worth of them: where they go through the page cache that would be its pages, else the device's queue.
const ZERO_CHUNK_BYTES: usize = 256 * 1024;
/// How much a reader of batches asks the disk for at once.
const WINDOW_BYTES: usize = 256 * 1024;

pub(super) fn segment_name(sequence: u64) -> String {
    format!("{WAL_DIR}/{sequence:016x}.seg")
}

/// The sequence number in a name as `list` gives it; `None` if it is not exactly what `segment_name` makes.
pub(super) fn sequence_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".seg")?;
    let sequence = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(sequence).strip_prefix(WAL_DIR)?.strip_prefix('/')? == file_name).then_some(sequence)
}

fn encode_header(sequence: u64, bytes: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(BLOCK_BYTES as usize);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&DATA_FORMAT_VERSION.to_be_bytes());
    header.extend_from_slice(&sequence.to_be_bytes());
    header.extend_from_slice(&bytes.to_be_bytes());
    let checksum = crc32fast::hash(&header);
    header.extend_from_slice(&checksum.to_be_bytes());
    header.resize(BLOCK_BYTES as usize, 0);
    header
}

// ---- making one ready ------------------------------------------------------------------------------------------

/// A segment that is durable, name and all, and waits for its first batch.
pub struct PreparedSegment {
    /// `None` if the wal made the segment itself meanwhile.
    pub(super) segment: Option<Segment>,
}

/// An open segment that batches can be appended to.
#[derive(Clone)]
pub(super) struct Segment {
    pub file: Arc<dyn DiskFile>,
    pub sequence: u64,
    pub bytes: u64,
    /// What is wrong with its header, which then is as its name and length say.
    pub header_damage: Option<String>,
}

/// Whether making a segment ready may take the disk for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// In the background: it rests after each piece for as long as the piece took, until it is in a hurry.
    HalfTheTime,
    /// Something waits for it.
    AtOnce,
}

/// Who may give the next segment its name: the job in the background or the wal, whoever comes first. Without it a
/// late job would rename its zeros over a segment that already holds entries.
///
/// Who writes faster than a job that rests makes segments ready catches up with it. Then the job is told to hurry, and
/// the wal waits for what is left of it: if it began anew itself, at every segment, writes would wait for a whole one.
#[derive(Debug, Default)]
pub(super) struct Claim {
    standing: Mutex<Standing>,
    /// The job is not under way any more.
    ended: Condvar,
    is_hurried: AtomicBool,
}

#[derive(Debug, Default)]
struct Standing {
    state: ClaimState,
    is_under_way: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ClaimState {
    #[default]
    Open,
    /// The job failed, and may be tried again.
    Failing,
    /// By the job: the segment is there.
    Made,
    /// By the wal, which makes its own; or the job was given up.
    Void,
}

impl Claim {
    /// Of the next job; what failed before has not yet been seen to succeed.
    pub fn after(earlier: Option<&Claim>) -> Claim {
        let failing = earlier.is_some_and(Claim::is_failing);
        Claim::at(if failing { ClaimState::Failing } else { ClaimState::Open })
    }

    /// Of a job that is yet to be offered, after a first look at the disk: it has no room.
    pub fn void() -> Claim {
        Claim::at(ClaimState::Void)
    }

    fn at(state: ClaimState) -> Claim {
        Claim { standing: Mutex::new(Standing { state, is_under_way: false }), ..Claim::default() }
    }

    /// The job does not rest any more.
    pub fn hurry(&self) {
        self.is_hurried.store(true, Ordering::Relaxed);
    }

    fn is_hurried(&self) -> bool {
        self.is_hurried.load(Ordering::Relaxed)
    }

    /// The wal needs the segment now. A job that is under way is waited for: it is nearer to its end than another one
    /// would be. If it gives the segment its name, or has done so, that is to be used.
    pub fn take_over(&self) -> TakenOver {
        let mut standing = self.standing.lock();
        self.hurry();
        while standing.is_under_way {
            self.ended.wait(&mut standing);
        }
        if standing.state == ClaimState::Made {
            return TakenOver::Made;
        }
        standing.state = ClaimState::Void;
        TakenOver::Nothing
    }

    pub fn is_void(&self) -> bool {
        self.standing.lock().state == ClaimState::Void
    }

    /// The job was tried, in vain so far.
    pub fn is_failing(&self) -> bool {
        matches!(self.standing.lock().state, ClaimState::Failing | ClaimState::Void)
    }

    fn begin(&self) {
        self.standing.lock().is_under_way = true;
    }

    fn end(&self, has_failed: bool) {
        let mut standing = self.standing.lock();
        standing.is_under_way = false;
        if has_failed && standing.state == ClaimState::Open {
            standing.state = ClaimState::Failing;
        }
        self.ended.notify_all();
    }

    /// Also behind a panic of the job: whoever waits for it waits no longer.
    fn give_up(&self) {
        let mut standing = self.standing.lock();
        standing.is_under_way = false;
        if standing.state != ClaimState::Made {
            standing.state = ClaimState::Void;
        }
        self.ended.notify_all();
    }
}

pub(super) enum TakenOver {
    Made,
    Nothing,
}

/// Makes the next segment ready, on a background thread. The result goes to [`super::Wal::add_segment`]. A job that
/// failed, for want of room, is to be tried again after a while; if it is dropped, [`super::Wal::wants_segment`] offers
/// another one.
pub struct SegmentJob {
    pub(super) sequence: u64,
    pub(super) bytes: u64,
    pub(super) claim: Arc<Claim>,
}

impl SegmentJob {
    /// Takes as long as the disk needs for a whole segment, twice over where `pace` leaves it free half of the time.
    pub fn run(&self, disk: &dyn Disk, pace: Pace) -> io::Result<PreparedSegment> {
        self.claim.begin();
        let prepared = self.prepare(disk, pace);
        self.claim.end(prepared.is_err());
        prepared
    }

    /// Whether it does not rest, whatever its pace: nothing is ready behind the segment in use.
    pub fn is_hurried(&self) -> bool {
        self.claim.is_hurried()
    }

    fn prepare(&self, disk: &dyn Disk, pace: Pace) -> io::Result<PreparedSegment> {
        if self.claim.is_void() {
            return Ok(PreparedSegment { segment: None });
        }
        check_room(disk, self.bytes)?;
        let name = format!("{WAL_DIR}/{:016x}.background.new", self.sequence);
        let written = write_segment(disk, &name, self.sequence, self.bytes, &|file, took| self.rest(file, took, pace));
        let file = written.inspect_err(|_| {
            // What was written of it is in the way of others now. If that fails too, the next start removes it.
            let _ = disk.remove(&name);
        })?;
        let mut standing = self.claim.standing.lock();
        if standing.state == ClaimState::Void {
            disk.remove(&name)?;
            return Ok(PreparedSegment { segment: None });
        }
        publish(disk, &name, self.sequence)?;
        standing.state = ClaimState::Made;
        Ok(PreparedSegment { segment: Some(Segment::made(file, self.sequence, self.bytes)) })
    }

    /// Between two pieces. In a hurry too each is durable before the next, for the wal's fsyncs go on meanwhile.
    fn rest(&self, file: &dyn DiskFile, took: Duration, pace: Pace) -> io::Result<()> {
        if pace == Pace::AtOnce {
            return Ok(());
        }
        let begun = Instant::now();
        file.sync_data()?;
        if !self.is_hurried() {
            std::thread::sleep(took + begun.elapsed());
        }
        Ok(())
    }
}

impl Drop for SegmentJob {
    fn drop(&mut self) {
        self.claim.give_up();
    }
}

/// What is made ahead leaves room for others.
pub(super) fn check_room(disk: &dyn Disk, bytes: u64) -> io::Result<()> {
    let (free, needed) = (disk.free_bytes()?, bytes.saturating_add(DISK_LOW_WATER_BYTES));
    if free >= needed {
        return Ok(());
    }
    let (free, needed) = (mebibytes(free), mebibytes(needed));
    let message =
        format!("the file system has {free} free, and {needed} are needed before another log segment is made");
    Err(io::Error::new(io::ErrorKind::StorageFull, message))
}

/// Makes a segment ready while the caller waits.
pub(super) fn prepare_at_once(disk: &dyn Disk, sequence: u64, bytes: u64) -> io::Result<Segment> {
    let name = format!("{WAL_DIR}/{sequence:016x}.new");
    let file = write_segment(disk, &name, sequence, bytes, &at_once)?;
    publish(disk, &name, sequence)?;
    Ok(Segment::made(file, sequence, bytes))
}

/// Begins at a multiple of a block in memory, so that no copy is made ([`DiskFile::write_blocks`]).
#[repr(align(4096))]
struct Zeros([u8; ZERO_CHUNK_BYTES]);

static ZEROS: Zeros = Zeros([0; ZERO_CHUNK_BYTES]);

/// What is done between two pieces of zeros, the last of which took so long.
type Between<'a> = &'a dyn Fn(&dyn DiskFile, Duration) -> io::Result<()>;

fn at_once(_: &dyn DiskFile, _: Duration) -> io::Result<()> {
    Ok(())
}

/// The file under its first name, whole and durable. Its zeros go around the page cache: they would take the place of
/// what is read, and each batch that is written there later would have to drop some of them.
fn write_segment(
    disk: &dyn Disk,
    name: &str,
    sequence: u64,
    bytes: u64,
    between: Between<'_>,
) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(name)?;
    file.write_at(0, &encode_header(sequence, bytes))?;
    let mut took = None;
    for (at, piece) in zero_pieces(SEGMENT_HEADER_BYTES, bytes) {
        if let Some(took) = took {
            between(&*file, took)?;
        }
        let begun = Instant::now();
        file.write_blocks(at, piece)?;
        took = Some(begun.elapsed());
    }
    file.sync_data()?;
    Ok(file)
}

/// Writes zeros from `start`, which may lie within a block, up to `end`; the caller makes them durable.
pub(super) fn write_zeros(file: &dyn DiskFile, start: u64, end: u64) -> io::Result<()> {
    zero_pieces(start, end).try_for_each(|(at, piece)| file.write_at(at, piece))
}

/// The pieces of zeros from `start` up to `end`, and where each begins.
fn zero_pieces(start: u64, end: u64) -> impl Iterator<Item = (u64, &'static [u8])> {
    let piece = move |at: u64| (at, &ZEROS.0[..(end - at).min(ZERO_CHUNK_BYTES as u64) as usize]);
    (start..end).step_by(ZERO_CHUNK_BYTES).map(piece)
}

fn publish(disk: &dyn Disk, name: &str, sequence: u64) -> io::Result<()> {
    let published = segment_name(sequence);
    disk.rename(name, &published)?;
    if removed(Guard::NameNotSynced) {
        return Ok(());
    }
    disk.sync_dir(folder_of(&published))
}

// ---- reading one -----------------------------------------------------------------------------------------------

impl Segment {
    fn made(file: Arc<dyn DiskFile>, sequence: u64, bytes: u64) -> Segment {
        Segment { file, sequence, bytes, header_damage: None }
    }

    /// Opens a segment. A header that is damaged says nothing that the file's name and length don't; one that is sound
    /// and says something else is refused.
    pub fn open(disk: &dyn Disk, sequence: u64) -> Result<Segment, OpenError> {
        let name = segment_name(sequence);
        let file = disk.open(&name)?;
        let length = file.len()?;
        let possible = (2 * BLOCK_BYTES..=SEGMENT_BYTES_MAX).contains(&length) && length.is_multiple_of(BLOCK_BYTES);
        if length < SEGMENT_HEADER_BYTES {
            return Err(Damage::new(&name, format!("it has {length} bytes, which is no segment")).into());
        }
        let mut header = vec![0; SEGMENT_HEADER_BYTES as usize];
        read_around_damage(&*file, 0, &mut header)?;
        let sound = &header[..8] == MAGIC && be_u32(&header, 28) == crc32fast::hash(&header[..28]);
        let header_damage = if sound && is_zero(&header[32..]) {
            check_header(&header, &name, sequence, length)?;
            None
        } else {
            Some("the segment's header fails its checksum or can't be read".to_string())
        };
        if !possible {
            return Err(Damage::at(&name, 0, format!("it has {length} bytes, which no segment has")).into());
        }
        Ok(Segment { file, sequence, bytes: length, header_damage })
    }

    pub fn name(&self) -> String {
        segment_name(self.sequence)
    }

    /// Durable when it returns.
    pub fn remake_header(&self) -> io::Result<()> {
        self.file.write_at(0, &encode_header(self.sequence, self.bytes))?;
        self.file.sync_data()
    }

    /// Zeros from `start` to its end. Durable when it returns.
    pub fn clear_from(&self, start: u64) -> io::Result<()> {
        write_zeros(&*self.file, start, self.bytes)?;
        self.file.sync_data()
    }
}

fn check_header(header: &[u8], name: &str, sequence: u64, length: u64) -> Result<(), OpenError> {
    let version = be_u32(header, 8);
    if version != DATA_FORMAT_VERSION {
        return Err(OpenError::Configuration(format!(
            "{name} has format version {version}, and this program knows {DATA_FORMAT_VERSION}; start the version of \
             raftkv that wrote it"
        )));
    }
    let (found, bytes) = (be_u64(header, 12), be_u64(header, 20));
    if found != sequence {
        return Err(Damage::at(name, 12, format!("its header says it is segment {found:016x}")).into());
    }
    if bytes != length {
        return Err(Damage::at(name, 20, format!("its header says {bytes} bytes, the file has {length}")).into());
    }
    Ok(())
}

/// What a sector that can't be read counts as: no write leaves it, and it claims to come from none.
pub(super) const UNREADABLE: u8 = 0x5a;

/// A read error is damage to what should have been read, unless the disk has no part in it.
pub(super) fn unreadable(error: io::Error) -> io::Result<String> {
    use io::ErrorKind::{InvalidInput, NotFound, OutOfMemory, PermissionDenied, UnexpectedEof, Unsupported};
    match error.kind() {
        InvalidInput | NotFound | OutOfMemory | PermissionDenied | UnexpectedEof | Unsupported => Err(error),
        _ => Ok(format!("it can't be read ({error})")),
    }
}

/// Fills `buffer`, sector by sector where that is the only way; sectors that can't be read come as a pattern that is
/// never sound. `buffer` is whole sectors.
pub(super) fn read_around_damage(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let Err(error) = file.read_at(offset, buffer) else { return Ok(()) };
    unreadable(error)?;
    for (i, sector) in buffer.chunks_mut(SECTOR_BYTES).enumerate() {
        if let Err(error) = file.read_at(offset + (i * SECTOR_BYTES) as u64, sector) {
            unreadable(error)?;
            sector.fill(UNREADABLE);
        }
    }
    Ok(())
}

/// Writes what is read between two offsets once more, whole sectors, and makes it durable: the page cache may hold what
/// the disk does not. What can't be read was read before, and is not to be replaced by anything: that is an error.
pub(super) fn rewrite(file: &dyn DiskFile, start: u64, end: u64) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let mut bytes = vec![0; (end - at).min(ZERO_CHUNK_BYTES as u64) as usize];
        file.read_at(at, &mut bytes)?;
        file.write_at(at, &bytes)?;
        at += bytes.len() as u64;
    }
    if start < end { file.sync_data() } else { Ok(()) }
}

/// Reads a segment through a window, front to back, so that thousands of small batches don't cost a call each.
pub(super) struct Window {
    pub segment: Segment,
    start: u64,
    bytes: Vec<u8>,
    /// Nothing at or behind this offset is asked of the disk.
    end: u64,
}

impl Window {
    /// `end`: where reading must stop, since another thread may be writing behind it.
    pub fn new(segment: Segment, end: u64) -> Window {
        let end = end.min(segment.bytes);
        Window { segment, start: 0, bytes: Vec::new(), end }
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// `length` bytes at `offset`, whole sectors; both must lie before `end`. What can't be read is never sound.
    pub fn get(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        assert!(offset + length as u64 <= self.end, "{length} bytes at {offset} pass the end at {}", self.end);
        if offset < self.start || offset + length as u64 > self.start + self.bytes.len() as u64 {
            let wanted = (length.max(WINDOW_BYTES) as u64).min(self.end - offset);
            // What was there is overwritten, and not zeroed first.
            self.bytes.resize(usize::try_from(wanted).expect("a window is bounded"), 0);
            self.start = offset;
            if let Err(error) = read_around_damage(&*self.segment.file, offset, &mut self.bytes) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let at = (offset - self.start) as usize;
        Ok(&self.bytes[at..at + length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wal_waits_for_a_job_that_is_under_way_and_hurries_it() {
        let claim = Arc::new(Claim::default());
        claim.begin();
        let wal = std::thread::spawn({
            let claim = claim.clone();
            move || claim.take_over()
        });
        while !claim.is_hurried() {
            std::thread::yield_now();
        }
        {
            let mut standing = claim.standing.lock();
            assert_eq!(standing.state, ClaimState::Open, "it was not taken from the job");
            standing.state = ClaimState::Made;
        }
        claim.end(false);
        assert!(matches!(wal.join().unwrap(), TakenOver::Made));
    }

    /// As behind a panic: the wal would wait for it, and the end of the node for the wal.
    #[test]
    fn a_job_that_is_dropped_in_the_middle_is_waited_for_no_longer() {
        let claim = Arc::new(Claim::default());
        let job = SegmentJob { sequence: 1, bytes: 1 << 20, claim: Arc::clone(&claim) };
        claim.begin();
        drop(job);
        assert!(!claim.standing.lock().is_under_way);
        assert!(matches!(claim.take_over(), TakenOver::Nothing));
    }

    #[test]
    fn what_a_job_leaves_undone_is_taken_over() {
        let claim = Claim::default();
        claim.begin();
        claim.end(true);
        assert!(claim.is_failing());
        assert!(matches!(claim.take_over(), TakenOver::Nothing));
        assert!(claim.is_void(), "a late job makes nothing");
    }

    #[test]
    fn a_name_leads_back_to_its_sequence_number_and_nothing_else_does() {
        assert_eq!(sequence_of("00000000000000ff.seg"), Some(255));
        for name in ["00000000000000FF.seg", "ff.seg", "+0000000000000ff.seg", "00000000000000ff.seg.new", "x.seg", ""]
        {
            assert_eq!(sequence_of(name), None, "{name}");
        }
    }
}
