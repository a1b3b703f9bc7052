//! Latencies and their rate, as a row for people and as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// In nanoseconds, to three digits.
pub struct Latencies {
    histogram: Histogram<u64>,
    elapsed: Duration,
}

impl Default for Latencies {
    fn default() -> Latencies {
        let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3);
        Latencies { histogram: histogram.expect("the bounds are constants and in order"), elapsed: Duration::ZERO }
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        self.histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn add(&mut self, other: &Latencies) {
        self.histogram.add(&other.histogram).expect("they have the same bounds");
    }

    /// How long it was measured.
    pub fn took(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
    }

    fn us(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub fn json(&self) -> Value {
        json!({
            "count": self.histogram.len(),
            "per_second": self.histogram.len() as f64 / self.elapsed.as_secs_f64(),
            "p50_us": self.us(0.5), "p90_us": self.us(0.9), "p99_us": self.us(0.99), "p99_9_us": self.us(0.999),
            "max_us": self.histogram.max() as f64 / 1000.0,
        })
    }
}

/// A row of the table: `latencies` as [`Latencies::json`] and loadgen's report have them.
pub fn row(name: &str, latencies: &Value) -> String {
    let number = |key: &str| latencies[key].as_f64().unwrap_or(f64::NAN);
    format!(
        "{name:<44} {:>9.0} /s   p50 {:>9.1} us   p99 {:>9.1} us   p99.9 {:>9.1} us   max {:>9.1} us",
        number("per_second"),
        number("p50_us"),
        number("p99_us"),
        number("p99_9_us"),
        number("max_us")
    )
}
