//! What came of it: latencies by kind, failures by code; each second and at the end, as text and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use raftkv::api::Applied;
use serde_json::{Value, json};

/// The longest latency told apart from longer ones.
const LATENCY_NANOS_MAX: u64 = 120_000_000_000;
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9)];

/// Latencies in nanoseconds, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3).expect("the bounds are constants and in order")
}

#[derive(Debug)]
pub struct Report {
    second: Histogram<u64>,
    writes: Histogram<u64>,
    reads: Histogram<u64>,
    /// Refusals by code and broken connections by cause: certainly not applied, or reads.
    errors: BTreeMap<String, u64>,
    /// Writes that may have been applied, by cause.
    unknown: BTreeMap<String, u64>,
    seconds: u64,
}

/// One second of a run, for people and for programs.
#[derive(Debug)]
pub struct Second {
    pub text: String,
    pub json: Value,
}

impl Default for Report {
    fn default() -> Report {
        let (second, writes, reads) = (histogram(), histogram(), histogram());
        Report { second, writes, reads, errors: BTreeMap::new(), unknown: BTreeMap::new(), seconds: 0 }
    }
}

impl Report {
    pub fn on_done(&mut self, is_write: bool, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.second.saturating_record(nanos);
        if is_write { &mut self.writes } else { &mut self.reads }.saturating_record(nanos);
    }

    pub fn on_failed(&mut self, code: &str, applied: Applied) {
        let counts = match applied {
            Applied::No => &mut self.errors,
            Applied::Maybe => &mut self.unknown,
        };
        *counts.entry(code.to_string()).or_default() += 1;
    }

    /// Whether everything asked was done.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.unknown.is_empty()
    }

    /// The second that ends now, which took `elapsed`. Failures are those since the start.
    pub fn second(&mut self, elapsed: Duration) -> Second {
        self.seconds += 1;
        let rate = self.second.len() as f64 / elapsed.as_secs_f64();
        let text = format!("{:>5} s  {rate:>9.0} /s  {}{}", self.seconds, percentiles(&self.second), self.failures());
        let json = json!({
            "second": self.seconds,
            "operations": latencies_json(&self.second, elapsed),
            "errors": self.errors,
            "unknown": self.unknown,
        });
        self.second.reset();
        Second { text, json }
    }

    /// The summary over `elapsed`.
    pub fn summary(&self, elapsed: Duration) -> String {
        let mut out = String::new();
        for (name, latencies) in [("writes", &self.writes), ("reads", &self.reads)] {
            if !latencies.is_empty() {
                let (count, rate) = (latencies.len(), latencies.len() as f64 / elapsed.as_secs_f64());
                out.push_str(&format!("{name:<7}  {rate:>9.0} /s  {}  ({count} in all)\n", percentiles(latencies)));
            }
        }
        let failures = self.failures();
        out.push_str(if failures.is_empty() { "no errors, no unknown outcomes" } else { failures.trim_start() });
        out.push('\n');
        out
    }

    fn failures(&self) -> String {
        let shown = |name: &str, counts: &BTreeMap<String, u64>| {
            let counts: Vec<String> = counts.iter().map(|(code, count)| format!("{code} {count}")).collect();
            if counts.is_empty() { String::new() } else { format!("  {name}: {}", counts.join(", ")) }
        };
        shown("errors", &self.errors) + &shown("unknown", &self.unknown)
    }

    /// `plan`: what was asked for, as given.
    pub fn json(&self, plan: Value, elapsed: Duration) -> Value {
        json!({
            "plan": plan,
            "seconds": elapsed.as_secs_f64(),
            "writes": latencies_json(&self.writes, elapsed),
            "reads": latencies_json(&self.reads, elapsed),
            "errors": self.errors,
            "unknown": self.unknown,
        })
    }
}

fn latencies_json(latencies: &Histogram<u64>, elapsed: Duration) -> Value {
    let mut value = json!({
        "count": latencies.len(),
        "per_second": latencies.len() as f64 / elapsed.as_secs_f64(),
        "mean_us": latencies.mean() / 1000.0,
        "max_us": latencies.max() as f64 / 1000.0,
    });
    for (name, percentile) in PERCENTILES {
        value[format!("{name}_us")] = json!(latencies.value_at_percentile(percentile) as f64 / 1000.0);
    }
    value
}

fn percentiles(latencies: &Histogram<u64>) -> String {
    let shown = |name: &str, nanos: u64| format!("{name} {:>8}", duration(nanos));
    let mut parts: Vec<String> = PERCENTILES
        .iter()
        .map(|(name, percentile)| shown(&name.replace('_', "."), latencies.value_at_percentile(*percentile)))
        .collect();
    parts.push(shown("max", latencies.max()));
    parts.join("  ")
}

/// Three digits and a unit.
fn duration(nanos: u64) -> String {
    match nanos as f64 {
        us if nanos < 1_000_000 => format!("{:.0} us", us / 1e3),
        ms if nanos < 10_000_000 => format!("{:.2} ms", ms / 1e6),
        ms if nanos < 1_000_000_000 => format!("{:.1} ms", ms / 1e6),
        s => format!("{:.2} s", s / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_code_and_make_the_report_unclean() {
        let mut report = Report::default();
        report.on_done(true, Duration::from_millis(2));
        assert!(report.is_clean());
        report.on_failed("busy", Applied::No);
        report.on_failed("busy", Applied::No);
        report.on_failed("connection", Applied::Maybe);
        assert!(!report.is_clean());
        assert!(report.summary(Duration::from_secs(1)).contains("errors: busy 2  unknown: connection 1"));
        let json = report.json(json!({}), Duration::from_secs(2));
        assert_eq!(json["errors"]["busy"], 2);
        assert_eq!(json["writes"]["per_second"], 0.5);
        assert_eq!(json["reads"]["count"], 0);
    }

    #[test]
    fn each_second_stands_for_itself() {
        let mut report = Report::default();
        report.on_done(true, Duration::from_millis(2));
        report.on_done(false, Duration::from_millis(2));
        report.on_failed("busy", Applied::No);
        let second = report.second(Duration::from_secs(1));
        assert_eq!((&second.json["second"], &second.json["operations"]["count"]), (&json!(1), &json!(2)));
        assert_eq!(second.json["errors"]["busy"], 1);
        assert!(second.text.contains("2 /s"), "{}", second.text);
        let second = report.second(Duration::from_secs(1));
        assert_eq!((&second.json["second"], &second.json["operations"]["count"]), (&json!(2), &json!(0)));
    }

    #[test]
    fn latencies_are_read_at_a_glance() {
        assert_eq!(
            [850_000, 2_345_678, 23_456_789, 2_345_678_901].map(duration),
            ["850 us", "2.35 ms", "23.5 ms", "2.35 s"]
        );
    }
}
