//! When the log is scrubbed, and what becomes of what that finds. Background thread; knows no clock.
//!
//! A pass reads everything that is durable once, in steps that are spread over the time that a pass may take, so that
//! it costs a node next to nothing. One that is urgent, because somebody asked for it or something could not be read,
//! begins at once and goes on step after step, other work between them.

use std::io::ErrorKind;
use std::time::Duration;

use crate::api::ScrubStatus;
use crate::base::limits::{SCRUB_PAUSE_MAX, SCRUB_ROOM_RETRY, SCRUB_STEP_BYTES, SUSPICION_REST_FACTOR};
use crate::base::{Moment, counted, mebibytes};
use crate::disk::{LogReader, Repairer, Scrub, ScrubStep};

use super::consensus::ConsensusEvent;
use super::end::End;
use super::exits::Exits;
use super::replica::FromDisk;
use super::wal::WalEvent;

pub struct Scrubbing {
    /// How long a pass takes; `None`: only what is urgent.
    interval: Option<Duration>,
    pass: Option<Pass>,
    status: ScrubStatus,
    /// What the last pass came to that no other node's copy helps against.
    beyond_repair: Option<String>,
    /// The next pass is urgent.
    is_urgent: bool,
    due_at: Option<Moment>,
    /// Until then nothing that can't be read is a reason for another pass.
    rests_until: Moment,
}

struct Pass {
    scrub: Scrub,
    begun: Moment,
    is_urgent: bool,
    found: usize,
}

impl Scrubbing {
    /// `interval`: a pass that is not urgent is spread over so long.
    pub fn new(interval: Option<Duration>, now: Moment) -> Scrubbing {
        let due_at = interval.map(|interval| now + interval.min(SCRUB_PAUSE_MAX));
        Scrubbing {
            interval,
            pass: None,
            status: ScrubStatus::default(),
            beyond_repair: None,
            is_urgent: false,
            due_at,
            rests_until: now,
        }
    }

    /// The start itself has found damage in so many places.
    pub fn after(mut self, damaged: usize) -> Scrubbing {
        self.status.damaged = damaged as u64;
        self
    }

    pub fn status(&self) -> ScrubStatus {
        self.status
    }

    pub fn due_at(&self) -> Option<Moment> {
        self.due_at
    }

    /// An urgent pass from the beginning, unless one is under way.
    pub fn begin_now(&mut self, now: Moment) {
        if !self.pass.as_ref().is_some_and(|pass| pass.is_urgent) {
            self.pass = None;
            self.is_urgent = true;
            self.due_at = Some(now);
        }
    }

    /// A part of the log could not be read though it was sound at the start: a pass finds out what is lost. It rests
    /// after that, so that what is read over and over again does not keep the disk busy.
    pub fn on_unreadable(&mut self, now: Moment) {
        if now >= self.rests_until {
            self.begin_now(now);
        }
    }

    /// An urgent pass, begun at `begun`, is over.
    fn rest(&mut self, begun: Moment, now: Moment) {
        self.rests_until = now + now.since(begun) * SUSPICION_REST_FACTOR;
    }

    pub fn step(
        &mut self,
        now: Moment,
        reader: &LogReader,
        repairer: &mut Repairer,
        exits: &mut impl Exits,
    ) -> Result<(), End> {
        let is_urgent = std::mem::take(&mut self.is_urgent);
        let pass = self.pass.get_or_insert_with(|| Pass { scrub: reader.scrub(), begun: now, is_urgent, found: 0 });
        let step = pass.scrub.step(repairer, SCRUB_STEP_BYTES);
        let step = step.map_err(|error| match error.kind() {
            ErrorKind::InvalidData => End::Damaged(format!("the log was scrubbed: {error}")),
            _ => End::Io(format!("the log was scrubbed: {error}")),
        })?;
        if step.slots_are_damaged {
            log::warn!("a slot of the term file is damaged; it is written anew");
            exits.to_wal(WalEvent::RewriteSlots);
        }
        if let Some(why) = step.no_room {
            self.postpone(now, &why);
            return Ok(());
        }
        let places = places_damaged(&step);
        pass.found += places;
        self.status.passes += u64::from(step.is_finished);
        self.status.damaged += places as u64;
        (self.status.bytes_done, self.status.bytes_total) = (step.bytes_done, step.bytes_total);
        if let Some(what) = &step.beyond_repair {
            log::error!("the log is damaged beyond repair, and this node will not start again: {what}");
        }
        if step.is_finished {
            self.beyond_repair = step.beyond_repair.clone();
        }
        let scrubbed = FromDisk::Scrubbed { status: self.status, beyond_repair: self.beyond_repair.clone() };
        exits.to_consensus(ConsensusEvent::FromDisk(scrubbed));
        self.due_at = self.next(now, &step);
        for damaged in &step.damaged {
            log::warn!("{damaged}");
        }
        if !step.damaged.is_empty() {
            exits.to_consensus(ConsensusEvent::FromDisk(FromDisk::Damaged { missing: step.missing }));
        }
        Ok(())
    }

    /// Damage was found that a full disk has no room to mark. The disk is as it was: an urgent pass begins, soon. What
    /// is damaged can't be read before it is marked, and others may wait for what stands beside it: once there is room,
    /// nothing else keeps them waiting.
    fn postpone(&mut self, now: Moment, why: &str) {
        log::warn!("the log is damaged, and nothing is done about it before there is room: {why}; make room");
        let urgent = self.pass.take().filter(|pass| pass.is_urgent);
        let took = urgent.map_or(Duration::ZERO, |pass| now.since(pass.begun));
        self.is_urgent = true;
        self.rests_until = now + rest_without_room(took);
        self.due_at = Some(self.rests_until);
    }

    /// Ends the pass if that was the last step. When the next one is due: a pass begins as long after the one before as
    /// it may take, and its steps are spread evenly.
    fn next(&mut self, now: Moment, step: &ScrubStep) -> Option<Moment> {
        let pass = self.pass.as_ref()?;
        let (begun, is_urgent) = (pass.begun, pass.is_urgent);
        if step.is_finished {
            let found = counted(pass.found as u64, "place", "places");
            log::info!("the log was scrubbed: {}, damage in {found}", mebibytes(step.bytes_total));
            if is_urgent {
                self.rest(begun, now);
            }
            self.pass = None;
            return self.interval.map(|interval| now.max(begun + interval));
        }
        let steps = u32::try_from(step.bytes_total / SCRUB_STEP_BYTES + 1).unwrap_or(u32::MAX);
        let pause = self.interval.filter(|_| !is_urgent).map_or(Duration::ZERO, |interval| interval / steps);
        Some(now + pause.min(SCRUB_PAUSE_MAX))
    }
}

/// Until the next pass, after an urgent one that took so long: a disk that stays full is not kept busy by them.
fn rest_without_room(took: Duration) -> Duration {
    (took * SUSPICION_REST_FACTOR).max(SCRUB_ROOM_RETRY)
}

/// What is beyond repair is damage as well, once for each pass that finds it.
fn places_damaged(step: &ScrubStep) -> usize {
    step.damaged.len() + usize::from(step.beyond_repair.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_beyond_repair_is_a_place_that_is_damaged() {
        let damaged = vec!["a batch".to_string(), "another".to_string()];
        let step = ScrubStep { damaged, ..ScrubStep::default() };
        assert_eq!(places_damaged(&step), 2);
        let beyond_repair = Some("two batches in a row".to_string());
        assert_eq!(places_damaged(&ScrubStep { beyond_repair, ..step }), 3);
    }

    #[test]
    fn what_the_start_has_found_is_counted() {
        let scrubbing = Scrubbing::new(None, Moment::ZERO).after(3);
        assert_eq!(scrubbing.status().damaged, 3);
    }

    #[test]
    fn what_stays_unreadable_is_no_reason_for_one_pass_after_the_other() {
        let ms = |ms| Moment::ZERO + Duration::from_millis(ms);
        let mut scrubbing = Scrubbing::new(None, ms(0));
        scrubbing.on_unreadable(ms(10));
        assert_eq!(scrubbing.due_at(), Some(ms(10)));
        scrubbing.rest(ms(10), ms(110));
        scrubbing.on_unreadable(ms(1009));
        assert_eq!(scrubbing.due_at(), Some(ms(10)), "a pass took 100 ms, and 900 are to be left to others");
        scrubbing.on_unreadable(ms(1010));
        assert_eq!(scrubbing.due_at(), Some(ms(1010)));
    }

    #[test]
    fn what_can_not_be_marked_for_want_of_room_is_no_reason_for_one_pass_after_the_other() {
        let now = Moment::ZERO + Duration::from_secs(1);
        let mut scrubbing = Scrubbing::new(None, Moment::ZERO);
        scrubbing.on_unreadable(now);
        scrubbing.postpone(now, "the disk is full");
        scrubbing.on_unreadable(now + Duration::from_millis(10));
        assert_eq!(scrubbing.due_at(), Some(now + SCRUB_ROOM_RETRY));
    }

    #[test]
    fn what_can_not_be_marked_for_want_of_room_is_tried_again_soon_but_not_all_the_time() {
        let seconds = Duration::from_secs;
        assert_eq!(rest_without_room(seconds(0)), SCRUB_ROOM_RETRY);
        assert_eq!(rest_without_room(seconds(10)), seconds(90));
        let mut scrubbing = Scrubbing::new(Some(seconds(3600)), Moment::ZERO);
        scrubbing.postpone(Moment::ZERO, "the disk is full");
        assert!(scrubbing.is_urgent, "what is known to be damaged is not looked for at leisure");
    }
}
