//! Goes through the log batch by batch, and says of each what it held and what is left of it. Recovery walks the whole
//! log before anything of it is believed; the scrub walks what is durable while the node runs. Changes nothing.
//!
//! A batch that is not whole is *identified* by the batch behind it, whose header says what it held, where it ends and
//! who wrote it, or by its own first sector if that is sound. So a single damaged batch is always identified if a
//! sound one follows, and a row of damaged ones as long as their first sectors are. From there on it is known which
//! entries were in it: those in sound sectors are kept, the others are lost by name. What is done when batch *b* is
//! not whole:
//!
//! | the next sound batch | *b*'s first sector | then |
//! |---|---|---|
//! | *b* + 1 | any | *b* is what *b* + 1 says |
//! | a later one | sound | *b* is what its own header says |
//! | a later one | not sound | refused: at least one batch is not known at all |
//! | none, and the table of `scan` says nothing or torn | any | the log ends before *b* |
//! | none, and it says damage | sound | *b* is what its own header says |
//! | none, and it says damage | not sound | the log ends before *b*, and may have gone on: its end is uncertain |

use std::io;
use std::sync::Arc;

use super::disk::Disk;
use super::error::{Damage, OpenError};
use super::map::BatchPlace;
use super::record::Written;
use super::salvage::Salvaged;
use super::scan::{
    Batch, Claims, Dirt, Head, Survey, Torn, Verdict, read_batch, read_head, read_payload, rest_is_zero,
};
use super::sector::{Place, Stamp};
use super::segment::{FIRST_SEQUENCE, SEGMENT_HEADER_BYTES, Segment, Window, read_around_damage, segment_name};
use crate::guard::{Guard, removed};

/// A batch, whole or not.
pub(super) struct WalkedBatch {
    pub place: BatchPlace,
    pub written: Written,
    pub previous: Option<Written>,
    /// One for each record, in order.
    pub records: Vec<Salvaged>,
    pub is_whole: bool,
}

pub(super) enum Step {
    Batch(WalkedBatch),
    End(LogEnd),
}

/// How a log ends.
#[derive(Debug)]
pub(super) enum LogEnd {
    /// In zeros.
    Clean,
    /// In a write that never finished.
    Torn { place: Place, torn: Torn },
    /// In damage to what may have been more of it.
    Uncertain(Dirt),
}

pub(super) struct Walk {
    disk: Arc<dyn Disk>,
    /// Of the last segment there is.
    last: u64,
    /// The segment that is read, once there is one.
    window: Option<Window>,
    /// Where the next batch is expected.
    at: Place,
    /// Its number.
    pub batch: u64,
    pub previous: Option<Written>,
    /// The highest so far.
    pub incarnation: u32,
    pub claims: Claims,
    /// Segments whose header is damaged.
    pub headers: Vec<Segment>,
    /// Where something lies behind a segment's last batch, with the log going on in the next one: from there to the
    /// segment's end.
    pub litter: Vec<(Segment, Dirt)>,
    /// The last batch to look at, which is known: nothing behind it is read.
    limit: Option<(BatchPlace, Written)>,
}

impl Walk {
    /// `last`: the sequence number of the last segment. `limit`: the batch to stop behind; without one the log's end is
    /// looked for.
    pub fn new(disk: Arc<dyn Disk>, last: u64, limit: Option<(BatchPlace, Written)>) -> Walk {
        Walk {
            disk,
            last: limit.map_or(last, |(place, _)| place.segment),
            window: None,
            at: segment_start(FIRST_SEQUENCE),
            batch: 1,
            previous: None,
            incarnation: 0,
            claims: Claims::default(),
            headers: Vec::new(),
            litter: Vec::new(),
            limit,
        }
    }

    /// Where the next batch is expected.
    pub fn at(&self) -> Place {
        self.at
    }

    pub fn next(&mut self) -> Result<Step, OpenError> {
        if self.limit.is_some_and(|(place, _)| self.batch > place.batch) {
            return Ok(Step::End(LogEnd::Clean));
        }
        let (expected, offset) = (self.batch, self.at.offset);
        if let Some(batch) = read_batch(self.window()?, offset, expected)? {
            return self.whole(batch);
        }
        let mut origin = self.at;
        if self.at.segment < self.last && rest_is_zero(self.window()?, offset)? {
            // Where the log goes on, unless this batch is gone without a trace.
            origin = segment_start(self.at.segment + 1);
            let mut window = self.open(origin.segment)?;
            if let Some(batch) = read_batch(&mut window, origin.offset, expected)? {
                self.move_to(window)?;
                return self.whole(batch);
            }
        }
        self.not_whole(origin)
    }

    /// Decides by the table above. `origin` is where the batch would be if the log ended with it.
    fn not_whole(&mut self, origin: Place) -> Result<Step, OpenError> {
        let own = self.own_head(origin)?;
        let mut survey = Survey::new(origin, self.batch, self.incarnation, own);
        let next = match self.look_ahead(&mut survey, origin)? {
            Some(head) => Some(Next { place: head.place, batch: head.stamp.batch, previous: head.header.previous }),
            None => self.limit.map(|(place, written)| Next {
                place: Place { segment: place.segment, offset: place.offset + place.extent },
                batch: place.batch + 1,
                previous: Some(written),
            }),
        };
        let own = own.map(|head| (head.place, Written { run: head.header.run, incarnation: head.stamp.incarnation }));
        match (next, own) {
            (Some(next), _) if next.batch == self.batch => self.skip_litter(&next, survey.verdict()),
            (Some(next), own) if next.batch == self.batch + 1 => self.identified_by(&next, own),
            (Some(_), Some((place, written))) => self.damaged(place, written),
            (Some(next), None) => Err(self.unidentified(&next)),
            (None, own) => match (survey.verdict(), own) {
                (Verdict::Nothing, _) => Ok(Step::End(LogEnd::Clean)),
                (Verdict::Torn(_), _) if removed(Guard::TornTailRefused) => {
                    Err(Damage::at(segment_name(origin.segment), origin.offset, "a write did not finish").into())
                }
                (Verdict::Torn(torn), _) => Ok(Step::End(LogEnd::Torn { place: origin, torn })),
                (Verdict::Damaged(_), Some((place, written))) => self.damaged(place, written),
                (Verdict::Damaged(dirt), None) => Ok(Step::End(LogEnd::Uncertain(dirt))),
            },
        }
    }

    /// The expected batch's first sector at `place`, if it is sound and fits what is known.
    fn own_head(&mut self, place: Place) -> Result<Option<Head>, OpenError> {
        let mut window = self.open(place.segment)?;
        let head = read_head(&mut window, place.offset)?;
        Ok(head.filter(|head| {
            head.stamp.batch == self.batch
                && head.stamp.incarnation >= self.incarnation
                && head.header.previous == self.previous
        }))
    }

    fn look_ahead(&mut self, survey: &mut Survey, origin: Place) -> Result<Option<Head>, OpenError> {
        for sequence in origin.segment..=self.last {
            let mut window = self.open(sequence)?;
            let offset = if sequence == origin.segment { origin.offset } else { SEGMENT_HEADER_BYTES };
            if let Some(head) = survey.go_on(&mut window, offset, &mut self.claims)? {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// The expected batch begins the next segment, and what is here is nobody's.
    fn skip_litter(&mut self, next: &Next, verdict: Verdict) -> Result<Step, OpenError> {
        if next.place != segment_start(self.at.segment + 1) {
            let what = format!("batch {} is here, and should begin where the one before it ends", next.batch);
            return Err(Damage::at(segment_name(next.place.segment), next.place.offset, what).into());
        }
        let dirt = match verdict {
            Verdict::Damaged(dirt) => dirt,
            _ => Dirt { place: self.at, what: "a part of a batch lies behind the segment's last one".into() },
        };
        let segment = self.window()?.segment.clone();
        self.litter.push((segment, dirt));
        let window = self.open(next.place.segment)?;
        self.move_to(window)?;
        self.next()
    }

    /// The batch behind says what this one held. Where it was, its own first sector says if that is sound and agrees;
    /// else it follows: in the segment that had room for it.
    fn identified_by(&mut self, next: &Next, own: Option<(Place, Written)>) -> Result<Step, OpenError> {
        let contradiction = |what: &str| {
            let what = format!("batch {} {what}", next.batch);
            Err(Damage::at(segment_name(next.place.segment), next.place.offset, what).into())
        };
        let Some(written) = next.previous.filter(|written| written.incarnation >= self.incarnation) else {
            return contradiction("says of the one before it what can't be");
        };
        let room = self.window()?.segment.bytes - self.at.offset;
        let extent = written.run.extent();
        let place = match own {
            Some((place, own)) if own == written => place,
            _ if extent <= room => self.at,
            _ => segment_start(self.at.segment + 1),
        };
        let behind = Place { offset: place.offset + extent, ..place };
        if next.place != behind && next.place != segment_start(place.segment + 1) {
            return contradiction("does not begin where the one before it ends");
        }
        self.damaged(place, written)
    }

    fn unidentified(&self, next: &Next) -> OpenError {
        let Place { segment, offset } = next.place;
        let (first, last) = (self.batch, next.batch - 1);
        let what = format!(
            "batches {first} to {last} are damaged so that it is not known which entries they held; the next sound \
             batch, {}, is in {} at byte {offset}",
            next.batch,
            segment_name(segment)
        );
        Damage::at(segment_name(self.at.segment), self.at.offset, what).into()
    }

    // ---- going on --------------------------------------------------------------------------------------------

    fn whole(&mut self, batch: Batch) -> Result<Step, OpenError> {
        let Batch { stamp, header, records } = batch;
        let refused = |what: String| Err(Damage::at(segment_name(self.at.segment), self.at.offset, what).into());
        if stamp.incarnation < self.incarnation {
            return refused(format!("incarnation {} follows on {}", stamp.incarnation, self.incarnation));
        }
        if header.previous != self.previous {
            return refused(format!("batch {} does not follow on the one before it", stamp.batch));
        }
        let written = Written { run: header.run, incarnation: stamp.incarnation };
        let records = records.into_iter().map(Salvaged::Sound).collect();
        Ok(Step::Batch(self.go_on(written, records, true)))
    }

    /// Takes what is left of the expected batch, whose identity and place are known.
    fn damaged(&mut self, place: Place, written: Written) -> Result<Step, OpenError> {
        if place != self.at {
            let window = self.open(place.segment)?;
            self.move_to(window)?;
        }
        let stamp = Stamp { incarnation: written.incarnation, batch: self.batch };
        let Some((payload, _)) = read_payload(self.window()?, place.offset, &written.run, stamp)? else {
            let what = format!("batch {} would pass the segment's end", self.batch);
            return Err(Damage::at(segment_name(place.segment), place.offset, what).into());
        };
        let records = payload.salvage(&written.run);
        Ok(Step::Batch(self.go_on(written, records, false)))
    }

    fn go_on(&mut self, written: Written, records: Vec<Salvaged>, is_whole: bool) -> WalkedBatch {
        let extent = written.run.extent();
        let place = BatchPlace { segment: self.at.segment, offset: self.at.offset, batch: self.batch, extent };
        let previous = self.previous.replace(written);
        self.at.offset += extent;
        self.batch += 1;
        self.incarnation = written.incarnation;
        WalkedBatch { place, written, previous, records, is_whole }
    }

    fn move_to(&mut self, window: Window) -> io::Result<()> {
        self.at = segment_start(window.segment.sequence);
        self.note_header(&window.segment)?;
        self.window = Some(window);
        Ok(())
    }

    fn window(&mut self) -> Result<&mut Window, OpenError> {
        if self.window.is_none() {
            let window = self.open(self.at.segment)?;
            self.note_header(&window.segment)?;
            self.window = Some(window);
        }
        Ok(self.window.as_mut().expect("opened just above"))
    }

    fn open(&self, sequence: u64) -> Result<Window, OpenError> {
        let segment = Segment::open(&*self.disk, sequence)?;
        let end = match self.limit {
            Some((place, _)) if place.segment == sequence => place.offset + place.extent,
            _ => segment.bytes,
        };
        Ok(Window::new(segment, end))
    }

    /// Also of segments behind the log's end: each is to be shown once.
    pub fn note_header(&mut self, segment: &Segment) -> io::Result<()> {
        if segment.header_damage.is_some() {
            let mut header = vec![0; SEGMENT_HEADER_BYTES as usize];
            read_around_damage(&*segment.file, 0, &mut header)?;
            self.claims.note_all(&header, Place { segment: segment.sequence, offset: 0 });
            self.headers.push(segment.clone());
        }
        Ok(())
    }
}

/// The next sound batch, as far as it matters.
struct Next {
    place: Place,
    batch: u64,
    previous: Option<Written>,
}

fn segment_start(sequence: u64) -> Place {
    Place { segment: sequence, offset: SEGMENT_HEADER_BYTES }
}
