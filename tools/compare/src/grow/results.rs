//! What was measured becomes tables in Markdown, and JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Growth, restart};
use crate::table::{self, Spread};

/// What a figure stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub growth: Growth,
    pub load: &'static str,
    /// Number 0 is what the others are held against.
    pub variant: usize,
    pub name: String,
    /// Reads or writes, as loadgen's report has them.
    pub part: &'static str,
}

/// A figure that Redis has too, or could have; smaller is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    pub what: String,
    /// A value for each round.
    pub raftkv: Vec<f64>,
    pub redis: Vec<f64>,
    /// The goal, as a multiple of Redis's.
    pub at_most: Option<f64>,
}

#[derive(Debug, Default)]
pub struct Results {
    /// In the order in which they came first, with their rounds.
    rows: Vec<(Row, Vec<Value>)>,
    compared: Vec<Compared>,
}

/// What may grow by how much, of what is put to a variant that has grown.
struct Goal {
    growth: Growth,
    variant: usize,
    part: &'static str,
    key: &'static str,
    name: &'static str,
    at_most: f64,
}

/// 1.1 x is no change: what rounds differ by.
const GOALS: [Goal; 4] = [
    Goal { growth: Growth::Keys, variant: 1, part: "writes", key: "p50_us", name: "p50", at_most: 1.2 },
    Goal { growth: Growth::Connections, variant: 1, part: "writes", key: "p99_us", name: "p99", at_most: 1.1 },
    Goal { growth: Growth::Connections, variant: 1, part: "reads", key: "p99_us", name: "p99", at_most: 1.1 },
    Goal { growth: Growth::Nodes, variant: 1, part: "writes", key: "p50_us", name: "p50", at_most: 1.2 },
];

impl Results {
    /// The figures of one round.
    pub fn add(&mut self, row: Row, figures: Value) {
        let place = self.rows.iter().position(|(known, _)| *known == row).unwrap_or_else(|| {
            self.rows.push((row, Vec::new()));
            self.rows.len() - 1
        });
        self.rows[place].1.push(figures);
    }

    pub fn compare(&mut self, round: Compared) {
        match self.compared.iter_mut().find(|known| known.what == round.what) {
            Some(known) => {
                known.raftkv.extend(round.raftkv);
                known.redis.extend(round.redis);
            }
            None => self.compared.push(round),
        }
    }

    pub fn json(&self) -> Value {
        let row = |(row, rounds): &(Row, Vec<Value>)| json!({"growth": row.growth.name(), "load": row.load, "variant": row.name, "rounds": rounds});
        let compared = |it: &Compared| json!({"what": it.what, "raftkv": it.raftkv, "redis": it.redis});
        json!({
            "growth": self.rows.iter().map(row).collect::<Vec<_>>(),
            "beside Redis": self.compared.iter().map(compared).collect::<Vec<_>>(),
        })
    }

    /// A section for each load on each thing that grew.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        for (at, (first, _)) in self.rows.iter().enumerate() {
            let is_same = |row: &Row| (row.growth, row.load) == (first.growth, first.load);
            if self.rows[..at].iter().any(|(row, _)| is_same(row)) {
                continue;
            }
            let mut section: Vec<&(Row, Vec<Value>)> = self.rows.iter().filter(|(row, _)| is_same(row)).collect();
            section.sort_by_key(|(row, _)| row.variant);
            write_section(&section, &mut out);
        }
        self.write_compared(&mut out);
        out
    }

    fn write_compared(&self, out: &mut String) {
        if self.compared.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n### {}\n", restart::NAME);
        out.push_str("| | raftkv | Redis | ratio | goal |\n|---|---|---|---|---|\n");
        for Compared { what, raftkv, redis, at_most } in &self.compared {
            let (raftkv, redis) = (Spread::of(raftkv.clone()), Spread::of(redis.clone()));
            let text = |spread: Option<Spread>| spread.map_or("-".to_string(), Spread::text);
            let ratio = raftkv.zip(redis).map(|(raftkv, redis)| raftkv.median / redis.median);
            let goal = at_most.map_or(String::new(), |at_most| verdict("", at_most, ratio));
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2} x"));
            let _ = writeln!(out, "| {what} | {} | {} | {ratio} | {goal} |", text(raftkv), text(redis));
        }
    }
}

/// `section`: the variants under one load.
fn write_section(section: &[&(Row, Vec<Value>)], out: &mut String) {
    let Some((first, base)) = section.first() else { return };
    let _ = writeln!(out, "\n### {}: {}\n", first.growth.name(), first.load);
    let _ = writeln!(out, "| | {} | its rate | its p50 | its p99 | goal |", table::FIGURES);
    out.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for (row, rounds) in section {
        let grown = (row.variant > 0).then_some(rounds);
        let ratios = table::ratios(row.part, grown, Some(base));
        let goal =
            GOALS.iter().find(|goal| (goal.growth, goal.variant, goal.part) == (row.growth, row.variant, row.part));
        let goal = goal.map_or(String::new(), |goal| {
            verdict(goal.name, goal.at_most, table::ratio(row.part, goal.key, rounds, base))
        });
        let _ = writeln!(out, "| {} | {} | {ratios} | {goal} |", row.name, table::figures(row.part, rounds));
    }
    out.push('\n');
    for (row, rounds) in section {
        let also: Vec<String> = also(rounds).iter().map(|(what, spread)| format!("{} {what}", spread.text())).collect();
        if !also.is_empty() {
            let _ = writeln!(out, "- {}: {}", row.name, also.join("; "));
        }
    }
}

fn verdict(what: &str, at_most: f64, ratio: Option<f64>) -> String {
    let is_met = ratio.map_or("not measured", |ratio| if ratio <= at_most { "met" } else { "missed" });
    format!("{what} at most {at_most} x: {is_met}").trim_start().to_string()
}

/// What else the rounds say, by name.
fn also(rounds: &[Value]) -> Vec<(&str, Spread)> {
    let mut names: Vec<&str> =
        rounds.iter().filter_map(|round| round["also"].as_object()).flatten().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter_map(|name| Some((name, table::spread(rounds, "also", name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p50_us: f64, also: Value) -> Value {
        json!({
            "writes": {"per_second": 100.0, "p50_us": p50_us, "p99_us": 20.0, "p99_9_us": 30.0, "max_us": 40.0},
            "also": also,
        })
    }

    fn results(grown_p50_us: f64) -> Results {
        let mut results = Results::default();
        let row = |variant, name: &str| {
            let (growth, name) = (Growth::Keys, name.to_string());
            Row { growth, load: "write, 1 client", variant, name, part: "writes" }
        };
        // The second variant may come first: rounds begin with another one each.
        results.add(row(1, "many"), figures(grown_p50_us, json!({"MB": 7.0, "failed": null})));
        results.add(row(0, "few"), figures(10.0, json!({})));
        results.add(row(1, "many"), figures(grown_p50_us, json!({"MB": 9.0})));
        results
    }

    #[test]
    fn what_grew_is_held_against_what_did_not_and_against_its_goal() {
        let table = results(12.0).markdown();
        let few = table.find("| few | 100 | 10 | 20 | 30 | 40 |  |  |  |  |").expect("the first variant");
        let many = table.find("| many | 100 | 12 | 20 | 30 | 40 | 1.00 x | 1.20 x | 1.00 x | p50 at most 1.2 x: met |");
        assert!(few < many.expect("the second variant"), "{table}");
        assert!(results(13.0).markdown().contains("1.30 x | 1.00 x | p50 at most 1.2 x: missed |"));
    }

    #[test]
    fn what_else_was_found_stands_below_the_table() {
        let table = results(10.0).markdown();
        assert!(table.contains("\n- many: 8 (7-9) MB\n"), "{table}");
        assert!(!table.contains("- few"), "{table}");
    }

    #[test]
    fn without_redis_a_goal_is_not_called_met() {
        let mut results = Results::default();
        let round = |raftkv, redis: &[f64]| Compared {
            what: "memory".to_string(),
            raftkv: vec![raftkv],
            redis: redis.to_vec(),
            at_most: Some(1.0),
        };
        results.compare(round(200.0, &[]));
        assert!(results.markdown().contains("| memory | 200 | - |  | at most 1 x: not measured |"));
        results.compare(round(300.0, &[500.0]));
        let table = results.markdown();
        assert!(table.contains("| memory | 250 (200-300) | 500 | 0.50 x | at most 1 x: met |"), "{table}");
    }
}
