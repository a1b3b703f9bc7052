//! The background thread: file work that may be slow. Zeroes segments ahead, reads old entries for followers and for
//! applying after a start, records what a directory learns about its cluster, scrubs the log, and writes back what a
//! damaged disk has lost.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{FETCH_BYTES_MAX, PROBLEMS_REPORT_INTERVAL};
use crate::base::{ClusterId, Entry, LogIndex, Moment, Shortage, counted};
use crate::disk::{DataDir, Disk, LogReader, Offered, OpenError, Pace, Repairer, SegmentJob, is_full};
use crate::raft::Fetch;

use super::clock;
use super::consensus::ConsensusEvent;
use super::end::{End, Ender};
use super::exits::{Channels, Exits};
use super::inbox::Inbox;
use super::replica::FromDisk;
use super::scrubbing::Scrubbing;
use super::wal::WalEvent;

/// The time between two attempts at what a full disk had no room for.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// The inbox of the background thread.
pub enum BackgroundEvent {
    PrepareSegment(SegmentJob),
    Fetch(Fetch),
    /// The log's first entry is committed, and durable here: from now on this directory belongs to that cluster.
    RecordCluster {
        cluster: ClusterId,
    },
    /// Entries that the disk has lost: written back where they were.
    Repair {
        entries: Vec<Entry>,
    },
    /// From the wal: of what was lost some is not needed any more, and the rest of its batch may be at hand.
    MendGivenUp,
    /// Nothing is lost any more.
    ClearMark,
    /// A full pass over the log, as fast as the disk reads.
    Scrub,
    Stop,
}

/// What the thread does with an event, without its inbox and clock.
pub struct Background {
    disk: Arc<dyn Disk>,
    data_dir: DataDir,
    reader: LogReader,
    repairer: Repairer,
    scrubbing: Scrubbing,
    pace: Pace,
    /// A segment that could not be made, and when it is tried again.
    postponed: Option<(SegmentJob, Moment)>,
    /// Why, as consensus was told last.
    shortage: Option<Shortage>,
    /// Until then nothing is said of entries that can't be read.
    silent_until: Moment,
    /// A cluster that could not be recorded for want of room, and when it is tried again.
    unrecorded: Option<(ClusterId, Moment)>,
}

impl Background {
    /// The directory's lock is held as long as this lives.
    pub fn new(
        data_dir: DataDir,
        reader: LogReader,
        repairer: Repairer,
        scrubbing: Scrubbing,
        pace: Pace,
    ) -> Background {
        Background {
            disk: data_dir.disk(),
            data_dir,
            reader,
            repairer,
            scrubbing,
            pace,
            postponed: None,
            shortage: None,
            silent_until: Moment::ZERO,
            unrecorded: None,
        }
    }

    /// `Err`: the node can't go on.
    pub fn on_event(&mut self, now: Moment, event: BackgroundEvent, exits: &mut impl Exits) -> Result<(), End> {
        match event {
            BackgroundEvent::PrepareSegment(job) => self.prepare(now, job, exits),
            BackgroundEvent::Fetch(Fetch { lo, hi }) => self.fetch(now, lo, hi, exits),
            BackgroundEvent::RecordCluster { cluster } => self.record_cluster(now, cluster)?,
            BackgroundEvent::Repair { entries } => self.repair(&entries, exits)?,
            BackgroundEvent::MendGivenUp => self.mend_given_up(exits)?,
            BackgroundEvent::ClearMark => self.maybe_clear_mark()?,
            BackgroundEvent::Scrub => self.scrubbing.begin_now(now),
            BackgroundEvent::Stop => {}
        }
        Ok(())
    }

    /// When [`Background::on_time`] has something to do though no event has come.
    pub fn sleeps_until(&self) -> Option<Moment> {
        let postponed = self.postponed.as_ref().map(|(_, at)| *at);
        let unrecorded = self.unrecorded.map(|(_, at)| at);
        postponed.into_iter().chain(unrecorded).chain(self.scrubbing.due_at()).min()
    }

    /// What is due: what a full disk had no room for before, a step of the scrub.
    pub fn on_time(&mut self, now: Moment, exits: &mut impl Exits) -> Result<(), End> {
        if let Some((job, _)) = self.postponed.take_if(|(_, at)| *at <= now) {
            self.prepare(now, job, exits);
        }
        if let Some((cluster, _)) = self.unrecorded.take_if(|(_, at)| *at <= now) {
            self.record_cluster(now, cluster)?;
        }
        let due = self.scrubbing.due_at().is_some_and(|at| at <= now);
        if due { self.scrubbing.step(now, &self.reader, &mut self.repairer, exits) } else { Ok(()) }
    }

    /// The log names the cluster too: the directory can do without for as long as the disk is full.
    fn record_cluster(&mut self, now: Moment, cluster: ClusterId) -> Result<(), End> {
        match self.data_dir.record_cluster_id(cluster) {
            Ok(()) => {}
            Err(OpenError::Io(error)) if is_full(&error) => self.unrecorded = Some((cluster, now + FULL_RETRY)),
            Err(error) => return Err(End::Io(format!("the cluster's id can't be recorded: {error}"))),
        }
        Ok(())
    }

    fn fetch(&mut self, now: Moment, lo: LogIndex, hi: LogIndex, exits: &mut impl Exits) {
        let entries = self.reader.read(lo, hi, FETCH_BYTES_MAX).unwrap_or_else(|error| {
            // Whoever needs them asks again with each tick.
            if now >= self.silent_until {
                log::warn!("entries {lo} to {hi} can't be read from the log: {error}");
                self.silent_until = now + PROBLEMS_REPORT_INTERVAL;
            }
            if error.kind() == io::ErrorKind::InvalidData {
                self.scrubbing.on_unreadable(now);
            }
            Vec::new()
        });
        exits.to_consensus(ConsensusEvent::FromDisk(FromDisk::Fetched { lo, entries }));
    }

    fn repair(&mut self, entries: &[Entry], exits: &mut impl Exits) -> Result<(), End> {
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for entry in entries {
            let offered = self.repairer.offer(entry);
            match offered.map_err(unrepaired)? {
                // The wal has written it anew since consensus heard that it was lost.
                Offered::NotMissing => done.push(entry.index),
                Offered::Other => refused.push(entry.index),
                Offered::Kept => {}
                Offered::Repaired(repaired) => done.extend(repaired),
            }
        }
        tell_repaired(done, refused, exits);
        Ok(())
    }

    fn mend_given_up(&mut self, exits: &mut impl Exits) -> Result<(), End> {
        let done = self.repairer.mend_given_up().map_err(unrepaired)?;
        if !done.is_empty() {
            tell_repaired(done, Vec::new(), exits);
        }
        Ok(())
    }

    /// Consensus may not have heard yet of what the scrub has found since; then it asks again.
    fn maybe_clear_mark(&mut self) -> Result<(), End> {
        if !self.repairer.missing().is_empty() {
            return Ok(());
        }
        self.repairer.clear_mark().map_err(|error| End::Io(format!("the mark of damage can't be removed: {error}")))
    }

    /// A failure is no end: the disk may be full for a while, and what is prepared has room. It is tried until it
    /// succeeds, or the wal makes the segment itself; meanwhile the wal says what may still be asked for.
    fn prepare(&mut self, now: Moment, job: SegmentJob, exits: &mut impl Exits) {
        match job.run(&*self.disk, self.pace) {
            Ok(segment) => {
                self.tell(None, exits);
                exits.to_wal(WalEvent::SegmentPrepared { segment });
            }
            Err(error) => {
                let shortage = self.shortage(&error);
                // Not with each try: as long as it lasts it is among the node's problems.
                if self.shortage.as_ref().is_none_or(|told| told.is_full != shortage.is_full) {
                    let way_out = if shortage.is_full { "make room" } else { "mend that" };
                    let what = &shortage.what;
                    log::warn!("a log segment can't be prepared, and those that are will be full: {what}; {way_out}");
                }
                self.tell(Some(shortage), exits);
                self.postponed = Some((job, now + FULL_RETRY));
                exits.to_wal(WalEvent::NoRoom);
            }
        }
    }

    /// Room helps against a full disk only; everything else is as the system says.
    fn shortage(&self, error: &io::Error) -> Shortage {
        let is_full = is_full(error);
        let what = match self.data_dir.path().filter(|_| is_full) {
            Some(path) => format!("data directory {}: {error}", path.display()),
            None => error.to_string(),
        };
        Shortage { is_full, what }
    }

    fn tell(&mut self, shortage: Option<Shortage>, exits: &mut impl Exits) {
        if shortage != self.shortage {
            self.shortage = shortage;
            exits.to_consensus(ConsensusEvent::FromDisk(FromDisk::Shortage(self.shortage.clone())));
        }
    }
}

fn unrepaired(error: io::Error) -> End {
    End::Io(format!("a damaged log can't be repaired: {error}"))
}

fn tell_repaired(done: Vec<LogIndex>, refused: Vec<LogIndex>, exits: &mut impl Exits) {
    if !done.is_empty() {
        log::info!("on the disk again: {}", counted(done.len() as u64, "lost log entry", "lost log entries"));
    }
    exits.to_consensus(ConsensusEvent::FromDisk(FromDisk::Repaired { done, refused }));
}

pub struct BackgroundLoop {
    pub background: Background,
    pub inbox: Inbox<BackgroundEvent>,
    pub exits: Channels,
    pub ender: Ender,
}

impl BackgroundLoop {
    /// Runs until told to stop.
    pub fn run(mut self) {
        while let Ok(event) = self.inbox.receive(self.background.sleeps_until()) {
            let now = clock::now();
            let done = match event {
                Some(BackgroundEvent::Stop) => return,
                Some(event) => self.background.on_event(now, event, &mut self.exits),
                // It is time for something.
                None => self.background.on_time(now, &mut self.exits),
            };
            if let Err(end) = done {
                return self.ender.end(end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{InstanceId, NodeId};
    use crate::disk::{DiskOperation, MemoryDisk, Wal, WalSettings, Wanted};
    use crate::net::NetEvent;

    #[derive(Default)]
    struct Told(Vec<Option<Shortage>>);

    impl Exits for Told {
        fn to_consensus(&mut self, event: ConsensusEvent) {
            if let ConsensusEvent::FromDisk(FromDisk::Shortage(shortage)) = event {
                self.0.push(shortage);
            }
        }
        fn to_wal(&mut self, _: WalEvent) {}
        fn to_background(&mut self, _: BackgroundEvent) {}
        fn to_net(&mut self, _: &mut Vec<NetEvent>) {}
    }

    /// What consensus hears when a segment can't be made, twice, and then can.
    fn told(is_full: bool) -> Vec<Option<Shortage>> {
        let memory = MemoryDisk::new();
        let wanted = Wanted { node: NodeId::new(1).unwrap(), cluster_name: "test".to_string() };
        let data_dir = DataDir::on(memory.attach(), &wanted, InstanceId(1)).unwrap();
        let settings = WalSettings { segment_bytes: 32 * 1024, entry_bytes_max: 4096, ..WalSettings::default() };
        let mut opened = Wal::open(data_dir.disk(), settings, None).unwrap();
        let job = opened.wal.wants_segment().expect("none is ready");
        let scrubbing = Scrubbing::new(None, Moment::ZERO);
        let mut background = Background::new(data_dir, opened.reader, opened.repairer, scrubbing, Pace::AtOnce);
        let (mut told, mut now) = (Told::default(), Moment::ZERO);
        let mut event = Some(BackgroundEvent::PrepareSegment(job));
        for fails in [true, true, false] {
            match is_full {
                true => memory.set_capacity(if fails { 0 } else { u64::MAX }),
                false if fails => memory.fail_nth(DiskOperation::Create, 1),
                false => {}
            }
            match event.take() {
                Some(event) => background.on_event(now, event, &mut told).unwrap(),
                None => background.on_time(now, &mut told).unwrap(),
            }
            now = now + FULL_RETRY;
        }
        told.0
    }

    #[test]
    fn a_segment_that_can_not_be_made_is_a_full_disk_only_if_the_disk_is_full() {
        for is_full in [true, false] {
            let told = told(is_full);
            let [Some(shortage), None] = &told[..] else { panic!("{told:?}") };
            assert_eq!(shortage.is_full, is_full, "{shortage:?}");
            assert_eq!(shortage.what.contains("MiB free, and 16"), is_full, "{shortage:?}");
        }
    }
}
