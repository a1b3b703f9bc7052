//! When the log is scrubbed, and what becomes of what that finds. Background thread; knows no clock.
//!
//! A pass reads everything that is durable once, in steps that are spread over the time that a pass may take, so that it
//! costs a node next to nothing; one that was asked for goes on step after step, other work between them.

use std::time::Duration;

use crate::api::ScrubStatus;
use crate::base::Moment;
use crate::base::limits::{SCRUB_PAUSE_MAX, SCRUB_STEP_BYTES};
use crate::disk::{LogReader, Repairer, Scrub, ScrubStep};

use super::consensus::ConsensusEvent;
use super::end::End;
use super::exits::Exits;
use super::wal::WalEvent;

pub struct Scrubbing {
    /// How long a pass takes; `None`: only what is asked for.
    interval: Option<Duration>,
    pass: Option<Pass>,
    status: ScrubStatus,
    /// The next pass is one that was asked for.
    is_asked_for: bool,
    due_at: Option<Moment>,
}

struct Pass {
    scrub: Scrub,
    begun: Moment,
    is_asked_for: bool,
    found: usize,
}

impl Scrubbing {
    /// `interval`: a pass that nobody asked for is spread over so long.
    pub fn new(interval: Option<Duration>, now: Moment) -> Scrubbing {
        let due_at = interval.map(|interval| now + interval.min(SCRUB_PAUSE_MAX));
        Scrubbing { interval, pass: None, status: ScrubStatus::default(), is_asked_for: false, due_at }
    }

    pub fn due_at(&self) -> Option<Moment> {
        self.due_at
    }

    /// A pass from the beginning, at once.
    pub fn begin_now(&mut self, now: Moment) {
        if !self.pass.as_ref().is_some_and(|pass| pass.is_asked_for) {
            self.pass = None;
            self.is_asked_for = true;
            self.due_at = Some(now);
        }
    }

    pub fn step(
        &mut self,
        now: Moment,
        reader: &LogReader,
        repairer: &mut Repairer,
        exits: &mut impl Exits,
    ) -> Result<(), End> {
        let is_asked_for = std::mem::take(&mut self.is_asked_for);
        let pass = self.pass.get_or_insert_with(|| Pass { scrub: reader.scrub(), begun: now, is_asked_for, found: 0 });
        let step = pass.scrub.step(repairer, SCRUB_STEP_BYTES);
        let step = step.map_err(|error| End::Damaged(format!("the log was scrubbed: {error}")))?;
        pass.found += step.damaged.len();
        self.status.passes += u64::from(step.is_finished);
        self.status.damaged += step.damaged.len() as u64;
        (self.status.bytes_done, self.status.bytes_total) = (step.bytes_done, step.bytes_total);
        exits.to_consensus(ConsensusEvent::Scrubbed(self.status));
        self.due_at = self.next(now, &step);
        for damaged in &step.damaged {
            log::warn!("{damaged}");
        }
        if !step.damaged.is_empty() {
            exits.to_consensus(ConsensusEvent::Damaged { missing: step.missing });
        }
        if step.slots_are_damaged {
            log::warn!("a slot of the term file is damaged; it is written anew");
            exits.to_wal(WalEvent::RewriteSlots);
        }
        Ok(())
    }

    /// Ends the pass if that was the last step. When the next one is due: a pass begins as long after the one before as
    /// it may take, and its steps are spread evenly.
    fn next(&mut self, now: Moment, step: &ScrubStep) -> Option<Moment> {
        let pass = self.pass.as_ref()?;
        let (begun, is_asked_for) = (pass.begun, pass.is_asked_for);
        if step.is_finished {
            let (bytes, found) = (step.bytes_total, pass.found);
            log::info!("the log was scrubbed: {bytes} bytes, damage in {found} places");
            self.pass = None;
            return self.interval.map(|interval| now.max(begun + interval));
        }
        let steps = u32::try_from(step.bytes_total / SCRUB_STEP_BYTES + 1).unwrap_or(u32::MAX);
        let pause = self.interval.filter(|_| !is_asked_for).map_or(Duration::ZERO, |interval| interval / steps);
        Some(now + pause.min(SCRUB_PAUSE_MAX))
    }
}
