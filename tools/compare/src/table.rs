//! Rounds become medians and ranges, and these a table in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::systems::System;
use crate::workload::{WORKLOADS, Workload};

/// What each round gave, by the load's place in the list and the system.
pub type Rounds = BTreeMap<(usize, System), Vec<Value>>;

/// One figure over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Spread { low, median, high })
    }

    /// Thousands are set apart, and microseconds have no fractions that nobody reads.
    pub fn text(self) -> String {
        let (low, median, high) = (number(self.low), number(self.median), number(self.high));
        if low == high { median } else { format!("{median} ({low}-{high})") }
    }
}

pub fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// `key` of a load's reads or writes, over the rounds.
pub fn spread(rounds: &[Value], part: &str, key: &str) -> Option<Spread> {
    Spread::of(rounds.iter().filter_map(|round| round[part][key].as_f64()).filter(|value| value.is_finite()).collect())
}

/// Of a load that has both, its row is about the reads.
pub fn part(workload: &Workload) -> &'static str {
    if workload.read_share > 0.0 { "reads" } else { "writes" }
}

/// What [`figures`] stand under.
pub const FIGURES: &str = "rate/s | p50 us | p99 us | p99.9 us | max us";

/// The cells of one row: rate and latencies.
pub fn figures(part: &str, rounds: &[Value]) -> String {
    let cell = |key| spread(rounds, part, key).map_or("-".to_string(), Spread::text);
    ["per_second", "p50_us", "p99_us", "p99_9_us", "max_us"].map(cell).join(" | ")
}

/// The median of `ours` as a multiple of that of `theirs`.
pub fn ratio(part: &str, key: &str, ours: &[Value], theirs: &[Value]) -> Option<f64> {
    Some(spread(ours, part, key)?.median / spread(theirs, part, key)?.median)
}

/// The cells of rate, p50 and p99 of `ours` as multiples of those of `theirs`; empty ones if one is missing.
pub fn ratios(part: &str, ours: Option<&Vec<Value>>, theirs: Option<&Vec<Value>>) -> String {
    let cell = |key| {
        let ratio = ratio(part, key, ours?, theirs?)?;
        Some(format!("{ratio:.2} x"))
    };
    ["per_second", "p50_us", "p99_us"].map(|key| cell(key).unwrap_or_default()).join(" | ")
}

/// Rate, latencies and the ratios to the others, a section for each load that was run.
pub fn markdown(rounds: &Rounds) -> String {
    let mut out = String::new();
    for (at, workload) in WORKLOADS.iter().enumerate() {
        let of = |system: System| rounds.get(&(at, system)).map(|rounds| (part(workload), rounds));
        if !System::ALL.iter().any(|system| of(*system).is_some()) {
            continue;
        }
        let _ = writeln!(out, "\n### {}\n", workload.name);
        let _ = writeln!(out, "| | {FIGURES} | raftkv's rate | raftkv's p50 | raftkv's p99 |");
        out.push_str("|---|---|---|---|---|---|---|---|---|\n");
        for system in System::ALL {
            let Some((part, rounds)) = of(system) else { continue };
            let raftkv = of(System::Raftkv).filter(|_| system != System::Raftkv);
            let ratios = ratios(part, raftkv.map(|(_, raftkv)| raftkv), Some(rounds));
            let _ = writeln!(out, "| {} | {} | {ratios} |", system.name(), figures(part, rounds));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0, 2.0]), Some(Spread { low: 1.0, median: 2.5, high: 4.0 }));
        assert_eq!(Spread::of(vec![7.0]), Some(Spread { low: 7.0, median: 7.0, high: 7.0 }));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0.4, 999.6, 1_234_567.0].map(number), ["0", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_row_has_its_ratios_to_raftkv() {
        let at = |rate: f64| {
            vec![
                json!({"writes": {"per_second": rate, "p50_us": 10.0, "p99_us": 20.0, "p99_9_us": 30.0, "max_us": 40.0}}),
            ]
        };
        let rounds = Rounds::from([((0, System::Relay), at(1000.0)), ((0, System::Raftkv), at(800.0))]);
        let table = markdown(&rounds);
        assert!(table.contains("### write, 1 client\n"), "{table}");
        assert!(table.contains("| bare relay | 1,000 | 10 | 20 | 30 | 40 | 0.80 x | 1.00 x | 1.00 x |"), "{table}");
        assert!(table.contains("| raftkv | 800 | 10 | 20 | 30 | 40 |  |  |  |"), "{table}");
        assert!(!table.contains("read, 1 client"), "{table}");
    }
}
