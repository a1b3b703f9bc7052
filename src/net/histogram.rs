//! How long something took, counted by length: one thread writes, any thread reads, nobody waits.
//!
//! A counter for each range of lengths. Ranges are log-linear: up to 128 ns each is 8 ns wide, and from there on each
//! doubling is cut into 16, so that a range is at most 1/16 of the lengths in it.
//!
//! ```text
//! ns        0    8   16       120  128  136  144       248  256  272  288       496  512  544     ...    2^36 (69 s)
//! range     | 0  | 1  | 2  ...  15 | 16 | 17 |  18 ...  31 | 32 | 33 |  34 ...   47 | 48 |        ...  479 |
//! ```
//!
//! What is said of a length is the end of its range: never less than it was, and at most 1/16 (or 8 ns) more. What is
//! longer than the last range counts in it; the longest of all is kept as it is.
//!
//! Everything since the start counts, and lately counts on its own: two periods take turns, and one that begins anew is
//! poured into the sum of those before. So a length is counted in one place, with a load and a store: a single writer
//! needs no atomic addition. The memory is fixed, some 12 KB. A reader that comes while a period is poured sees a part
//! of it twice or not at all; the next look is right.
//!
//! The histograms of the tools (crate `hdrhistogram`) don't fit here: theirs is read by whoever owns it, or written
//! through a channel that a reader empties under a lock, and it knows no lately.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::api::Percentiles;
use crate::base::Moment;
use crate::base::limits::LATENCY_PERIOD;

/// Lengths are counted in units of `1 << UNIT_BITS` nanoseconds.
const UNIT_BITS: u32 = 3;
/// A doubling is cut into `1 << CUT_BITS` ranges.
const CUT_BITS: u32 = 4;
/// Nanoseconds below `1 << TOP_BITS` have a range of their own.
const TOP_BITS: u32 = 36;
const RANGES: usize = ((TOP_BITS - UNIT_BITS - CUT_BITS + 1) << CUT_BITS) as usize;

#[derive(Debug, Default)]
pub struct Histogram {
    before: Counts,
    /// By whether the number of the period is even.
    periods: [Period; 2],
}

#[derive(Debug, Default)]
struct Period {
    /// Which one it is; 0: none yet.
    number: AtomicU64,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    ranges: [AtomicU64; RANGES],
    max_ns: AtomicU64,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { ranges: [const { AtomicU64::new(0) }; RANGES], max_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts `took` as often as `times` says. One thread only; `now` never goes back.
    pub fn record(&self, now: Moment, took: Duration, times: u64) {
        let number = period_of(now);
        let period = &self.periods[(number & 1) as usize];
        if period.number.load(Ordering::Relaxed) != number {
            self.before.take_all(&period.counts);
            period.number.store(number, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&period.counts.ranges[range_of(nanos)], times);
        raise(&period.counts.max_ns, nanos);
    }

    /// Since the start.
    pub fn total(&self) -> Percentiles {
        let [even, odd] = &self.periods;
        percentiles([&self.before, &even.counts, &odd.counts].into_iter())
    }

    /// In the period that runs and the one before.
    pub fn lately(&self, now: Moment) -> Percentiles {
        let newest = period_of(now);
        let is_late = |period: &&Period| (newest - 1..=newest).contains(&period.number.load(Ordering::Relaxed));
        percentiles(self.periods.iter().filter(is_late).map(|period| &period.counts))
    }
}

impl Counts {
    fn take_all(&self, other: &Counts) {
        for (mine, theirs) in self.ranges.iter().zip(&other.ranges) {
            add(mine, theirs.load(Ordering::Relaxed));
            theirs.store(0, Ordering::Relaxed);
        }
        raise(&self.max_ns, other.max_ns.load(Ordering::Relaxed));
        other.max_ns.store(0, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, times: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(times), Ordering::Relaxed);
}

fn raise(max: &AtomicU64, nanos: u64) {
    if nanos > max.load(Ordering::Relaxed) {
        max.store(nanos, Ordering::Relaxed);
    }
}

/// From 1 on.
fn period_of(now: Moment) -> u64 {
    now.0 / LATENCY_PERIOD.as_nanos() as u64 + 1
}

fn range_of(nanos: u64) -> usize {
    let units = nanos.min((1 << TOP_BITS) - 1) >> UNIT_BITS;
    match units.checked_ilog2() {
        Some(bits) if bits >= CUT_BITS => {
            let doubling = bits - CUT_BITS;
            // Its highest bit, which is set, is the first of the doubling's ranges.
            ((u64::from(doubling) << CUT_BITS) + (units >> doubling)) as usize
        }
        _ => units as usize,
    }
}

/// The first length behind it.
fn end_of(range: usize) -> u64 {
    let (doubling, place) = (range >> CUT_BITS, range as u64 & ((1 << CUT_BITS) - 1));
    let units = match doubling.checked_sub(1) {
        None => place + 1,
        Some(shift) => ((1 << CUT_BITS) + place + 1) << shift,
    };
    units << UNIT_BITS
}

fn percentiles<'a>(counts: impl Iterator<Item = &'a Counts>) -> Percentiles {
    let (mut sums, mut max_ns) = ([0_u64; RANGES], 0);
    for Counts { ranges, max_ns: max } in counts {
        for (sum, range) in sums.iter_mut().zip(ranges) {
            *sum = sum.wrapping_add(range.load(Ordering::Relaxed));
        }
        max_ns = max.load(Ordering::Relaxed).max(max_ns);
    }
    let count = sums.iter().sum();
    // The length that `per_mille` of a thousand don't pass.
    let at = |per_mille: u128| {
        let rank = (u128::from(count) * per_mille).div_ceil(1000);
        let mut seen = 0;
        let range = sums.iter().position(|sum| {
            seen += u128::from(*sum);
            *sum > 0 && seen >= rank
        });
        Duration::from_nanos(range.map_or(0, |range| end_of(range).min(max_ns)))
    };
    Percentiles { count, p50: at(500), p90: at(900), p99: at(990), p999: at(999), max: Duration::from_nanos(max_ns) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;

    const START: Moment = Moment(1_000_000_000_000);

    #[test]
    fn a_length_is_in_its_range_and_what_is_said_is_at_most_a_sixteenth_more() {
        let mut random = Random::new(16);
        let edges = (0..TOP_BITS).flat_map(|bits| [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        let anywhere = (0..100_000).map(|_| random.next() >> (64 - TOP_BITS + random.below(36) as u32));
        for nanos in edges.chain(anywhere.collect::<Vec<_>>()).filter(|nanos| *nanos < 1 << TOP_BITS) {
            let range = range_of(nanos);
            let (begin, end) = (range.checked_sub(1).map_or(0, end_of), end_of(range));
            assert!((begin..end).contains(&nanos), "{nanos} ns in range {range}, from {begin} to {end}");
            assert!(end - nanos <= (nanos / 16).max(8), "{nanos} ns are said to be {end}");
        }
        assert_eq!(end_of(RANGES - 1), 1 << TOP_BITS);
        assert_eq!(range_of(u64::MAX), RANGES - 1);
    }

    #[test]
    fn the_percentiles_are_those_of_the_lengths_and_the_longest_is_exact() {
        let histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(START, Duration::from_micros(micros), 1);
        }
        histogram.record(START, Duration::from_secs(100), 1);
        let Percentiles { count, p50, p90, p99, p999, max } = histogram.total();
        assert_eq!((count, max), (1001, Duration::from_secs(100)));
        for (said, micros) in [(p50, 501), (p90, 901), (p99, 991), (p999, 1000)] {
            let exact = Duration::from_micros(micros);
            assert!((exact..=exact + exact / 16).contains(&said), "{said:?} where it was {exact:?}");
        }
    }

    #[test]
    fn nothing_is_said_beyond_what_the_longest_was() {
        let histogram = Histogram::default();
        assert_eq!(histogram.total(), Percentiles::default());
        histogram.record(START, Duration::from_nanos(1_000_001), 5);
        let exact = Duration::from_nanos(1_000_001);
        assert_eq!(
            histogram.total(),
            Percentiles { count: 5, p50: exact, p90: exact, p99: exact, p999: exact, max: exact }
        );
    }

    #[test]
    fn lately_forgets_and_the_total_does_not() {
        let histogram = Histogram::default();
        let at = |periods: u32| START + LATENCY_PERIOD * periods;
        let record = |periods, millis| histogram.record(at(periods), Duration::from_millis(millis), 1);
        record(0, 900);
        record(1, 5);
        assert_eq!((histogram.lately(at(1)).count, histogram.lately(at(1)).max), (2, Duration::from_millis(900)));
        record(2, 6);
        assert_eq!((histogram.lately(at(2)).count, histogram.lately(at(2)).max), (2, Duration::from_millis(6)));
        // Nobody writes any more.
        assert_eq!(histogram.lately(at(3)).count, 1);
        assert_eq!(histogram.lately(at(4)), Percentiles::default());
        // The same place, two periods on: what it held is not lately, but was.
        record(40, 7);
        assert_eq!((histogram.lately(at(40)).count, histogram.lately(at(40)).max), (1, Duration::from_millis(7)));
        assert_eq!((histogram.total().count, histogram.total().max), (4, Duration::from_millis(900)));
    }
}
