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
    fn text(self) -> String {
        let (low, median, high) = (number(self.low), number(self.median), number(self.high));
        if low == high { median } else { format!("{median} ({low}-{high})") }
    }
}

fn number(value: f64) -> String {
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

/// Rate, latencies and the ratios to the others, a section for each load that was run.
pub fn markdown(rounds: &Rounds) -> String {
    let mut out = String::new();
    for (at, workload) in WORKLOADS.iter().enumerate() {
        let of = |system: System| rounds.get(&(at, system)).map(|rounds| (part(workload), rounds));
        if !System::ALL.iter().any(|system| of(*system).is_some()) {
            continue;
        }
        let _ = writeln!(out, "\n### {}\n", workload.name);
        out.push_str(
            "| | rate/s | p50 us | p99 us | p99.9 us | max us | raftkv's rate | raftkv's p50 | raftkv's p99 |\n",
        );
        out.push_str("|---|---|---|---|---|---|---|---|---|\n");
        let figure = |system: System, key: &str| of(system).and_then(|(part, rounds)| spread(rounds, part, key));
        for system in System::ALL.into_iter().filter(|system| of(*system).is_some()) {
            let cell = |key| figure(system, key).map_or("-".to_string(), Spread::text);
            let ratio = |key| {
                let (ours, theirs) = (figure(System::Raftkv, key)?.median, figure(system, key)?.median);
                (system != System::Raftkv).then(|| format!("{:.2} x", ours / theirs))
            };
            let ratios = ["per_second", "p50_us", "p99_us"].map(|key| ratio(key).unwrap_or_default());
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} |",
                system.name(),
                cell("per_second"),
                cell("p50_us"),
                cell("p99_us"),
                cell("p99_9_us"),
                cell("max_us"),
                ratios.join(" | ")
            );
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
