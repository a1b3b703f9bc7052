//! `raftkv status --latency`: where the time of requests goes in each node.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::Exit;
use super::output::{self, complain, emit};
use crate::api::{ErrorCode, Latency, Percentiles, StageLatency};
use crate::base::{Role, brief};
use crate::client::{Census, Client, Error, Seen};

/// A node that was asked.
struct Asked {
    seen: Seen,
    answer: Result<Latency, Error>,
}

/// Asks the nodes of `census` that answered before, and shows the leader first. The exit status is the worst of theirs.
pub fn run(client: &Client, census: Census, as_json: bool) -> Exit {
    let (leads, follow): (Vec<Seen>, Vec<Seen>) = census.nodes.into_iter().partition(is_leader);
    let ask = |seen: Seen| {
        let answer = seen.status.clone().and_then(|_| client.latency(&seen.address));
        Asked { seen, answer }
    };
    let asked: Vec<Asked> = leads.into_iter().chain(follow).map(ask).collect();
    let mut out = BytesMut::new();
    match as_json {
        true => output::line(&mut out, &json!({ "nodes": asked.iter().map(asked_json).collect::<Vec<_>>() })),
        false => out.extend_from_slice(tables(&asked).as_bytes()),
    }
    let said = emit(&out);
    asked.iter().map(|asked| verdict(asked, as_json)).fold(said, Exit::max)
}

fn is_leader(seen: &Seen) -> bool {
    seen.status.as_ref().is_ok_and(|status| status.role == Role::Leader)
}

fn name(seen: &Seen) -> String {
    match seen.id {
        Some(id) => format!("node {id} at {}", seen.address),
        None => format!("the node at {}", seen.address),
    }
}

/// Why a node says nothing; `None`: it says something.
fn why_silent(Asked { seen, answer }: &Asked) -> Option<(Exit, String)> {
    let name = name(seen);
    let version = seen.status.as_ref().map_or("unknown", |status| &status.version);
    match answer {
        Ok(latency) if latency.stages.is_empty() => Some((Exit::Refused, format!("{name} was started not to measure"))),
        Ok(_) => None,
        // What it says to every request that it does not know.
        Err(Error::Refused(error)) if error.code == ErrorCode::BadFrame => Some((
            Exit::Refused,
            format!("{name} runs a version ({version}) that does not measure the stages of requests; a newer one does"),
        )),
        Err(error) => Some((Exit::from(error), format!("{name} tells nothing: {}", error.message()))),
    }
}

fn verdict(asked: &Asked, as_json: bool) -> Exit {
    let Some((exit, why)) = why_silent(asked) else { return Exit::Done };
    if !as_json {
        complain(&why);
    }
    exit
}

fn asked_json(asked: &Asked) -> Value {
    let mut node = match &asked.answer {
        Ok(latency) => json!({ "stages": output::stages_json(latency) }),
        Err(error) => output::error_json(error),
    };
    node["address"] = json!(asked.seen.address);
    node["id"] = json!(asked.seen.id.map(|id| id.get()));
    node["role"] = json!(asked.seen.status.as_ref().ok().map(|status| status.role.as_str()));
    node["why_silent"] = json!(why_silent(asked).map(|(_, why)| why));
    node
}

const HEADINGS: [&str; 7] = ["STAGE", "COUNT", "P50", "P90", "P99", "P99.9", "MAX"];

/// For each node that tells something what it was lately, and what it was since its start.
fn tables(asked: &[Asked]) -> String {
    let mut out = String::new();
    for asked in asked.iter().filter(|asked| why_silent(asked).is_none()) {
        let (Ok(latency), Ok(status)) = (&asked.answer, &asked.seen.status) else { continue };
        for when in [When::Lately, When::SinceTheStart] {
            let separator = if out.is_empty() { "" } else { "\n" };
            let name = name(&asked.seen);
            out.push_str(&format!("{separator}{name}, {}, {}:\n", status.role.as_str(), when.as_str()));
            out.push_str(&table(latency, when));
        }
    }
    out
}

#[derive(Clone, Copy)]
enum When {
    Lately,
    SinceTheStart,
}

impl When {
    fn as_str(self) -> &'static str {
        match self {
            When::Lately => "in the last minute",
            When::SinceTheStart => "since its start",
        }
    }

    fn of(self, said: &StageLatency) -> &Percentiles {
        match self {
            When::Lately => &said.lately,
            When::SinceTheStart => &said.total,
        }
    }
}

/// The first column to the left, the figures to the right; columns as wide as they need to be.
fn table(latency: &Latency, when: When) -> String {
    let mut rows = vec![HEADINGS.map(String::from)];
    for said in &latency.stages {
        let stage = match said.peer {
            Some(peer) => format!("{} of node {peer}", said.stage.name()),
            None => said.stage.name().to_string(),
        };
        rows.push(row(stage, when.of(said)));
    }
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut out = String::new();
    for [stage, figures @ ..] in rows {
        out.push_str(&format!("{stage:<width$}", width = widths[0]));
        for (figure, width) in figures.iter().zip(&widths[1..]) {
            out.push_str(&format!("  {figure:>width$}"));
        }
        out.push('\n');
    }
    out
}

fn row(stage: String, Percentiles { count, p50, p90, p99, p999, max }: &Percentiles) -> [String; 7] {
    if *count == 0 {
        let none = || "-".to_string();
        return [stage, "0".to_string(), none(), none(), none(), none(), none()];
    }
    let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(|length| brief(*length));
    [stage, count.to_string(), p50, p90, p99, p999, max]
}
