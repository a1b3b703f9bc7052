//! As loadgen's report, of the same shape, so that the two can be laid side by side. What came of it: latencies by
//! kind, failures by code; each second and at the end, as text and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
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
    /// By gRPC status; etcd does not tell which of them may have been applied.
    errors: BTreeMap<String, u64>,
    seconds: u64,
}

impl Default for Report {
    fn default() -> Report {
        let (second, writes, reads) = (histogram(), histogram(), histogram());
        Report { second, writes, reads, errors: BTreeMap::new(), seconds: 0 }
    }
}

impl Report {
    pub fn on_done(&mut self, is_write: bool, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.second.saturating_record(nanos);
        if is_write { &mut self.writes } else { &mut self.reads }.saturating_record(nanos);
    }

    pub fn on_failed(&mut self, code: &str) {
        *self.errors.entry(code.to_string()).or_default() += 1;
    }

    /// Whether everything asked was done.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// The line for the second that ends now, which took `elapsed`.
    pub fn second(&mut self, elapsed: Duration) -> String {
        self.seconds += 1;
        let rate = self.second.len() as f64 / elapsed.as_secs_f64();
        let line = format!("{:>5} s  {rate:>9.0} /s  {}{}", self.seconds, percentiles(&self.second), self.failures());
        self.second.reset();
        line
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
        out.push_str(if failures.is_empty() { "no errors" } else { failures.trim_start() });
        out.push('\n');
        out
    }

    fn failures(&self) -> String {
        let counts: Vec<String> = self.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
        if counts.is_empty() { String::new() } else { format!("  errors: {}", counts.join(", ")) }
    }

    /// `plan`: what was asked for, as given.
    pub fn json(&self, plan: Value, elapsed: Duration) -> Value {
        json!({
            "plan": plan,
            "seconds": elapsed.as_secs_f64(),
            "writes": latencies_json(&self.writes, elapsed),
            "reads": latencies_json(&self.reads, elapsed),
            "errors": self.errors,
            "unknown": {},
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
