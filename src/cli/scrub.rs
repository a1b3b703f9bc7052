//! `raftkv scrub`: has nodes read their whole logs once, for damage, and waits for it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Args;
use serde_json::{Value, json};

use super::Exit;
use super::common::{ServerList, addresses};
use super::node_args::{number_within, process_seed};
use super::output::{self, complain, emit};
use crate::api::Status;
use crate::base::{counted, mebibytes};
use crate::client::{Client, ClientSettings, Error, Seen};

/// Between two looks at how far a node is.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Has all nodes, found from any one of them, read their whole logs once, for damage, and waits until they have
#[derive(Args, Debug)]
#[command(after_help = "\
Every node does so by itself once a day (see --scrub-hours of raftkv node). What is damaged is fetched from the other
nodes while the node runs; raftkv status tells how that goes on.

Examples:
  raftkv scrub
  raftkv scrub --server 10.0.0.1:5001 --json

Exit status: 0 all is well, 1 damage was found or a node has problems, 3 a node can't be reached or is not done in time.")]
pub struct ScrubArgs {
    #[command(flatten)]
    list: ServerList,

    /// How long to wait in all, in milliseconds; the nodes go on by themselves [default: until they are done]
    #[arg(long, value_name = "MS", value_parser = number_within(1..=1_000_000_000))]
    timeout_ms: Option<u64>,

    /// Print an object a line for each node
    #[arg(long)]
    json: bool,
}

/// A node that was asked, and what it said of itself then.
struct Asked {
    address: String,
    answer: Result<Status, Error>,
}

pub fn run(args: ScrubArgs) -> Exit {
    let until = args.timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    let mut settings = ClientSettings { seed: process_seed(), ..ClientSettings::default() };
    // Of each question; the time in all is for the nodes' disks.
    settings.timeout = args.timeout_ms.map_or(settings.timeout, |ms| settings.timeout.min(Duration::from_millis(ms)));
    let mut client = Client::new(addresses(&args.list.servers), settings);
    pass(&mut client, until, args.json)
}

/// A pass of all nodes that `client` finds, and what came of it, on standard output.
pub fn pass(client: &mut Client, until: Option<Instant>, json: bool) -> Exit {
    let census = client.census();
    // All at once: each node has a disk of its own.
    let ask = |Seen { address, status, .. }: Seen| {
        let answer = status.and_then(|_| client.scrub(&address));
        Asked { address, answer }
    };
    let asked: Vec<Asked> = census.nodes.into_iter().map(ask).collect();
    let client = &*client;
    let report = |asked: &Asked| match finish(client, asked, until) {
        Ok((status, damaged)) => say(json, asked, &status, damaged),
        Err(why) => fail(json, asked, &why),
    };
    asked.iter().map(report).max().unwrap_or(Exit::Usage)
}

/// Waits for the pass that was asked for: the node's status then, and in how many places it found damage.
fn finish(client: &Client, asked: &Asked, until: Option<Instant>) -> Result<(Status, u64), String> {
    let before = asked.answer.as_ref().map_err(Error::why)?;
    loop {
        let status = client.status(&asked.address).map_err(|error| error.why())?;
        if status.uptime < before.uptime {
            return Err(format!("node {} was started anew while it read its log; ask again", status.id));
        }
        if status.scrub.passes > before.scrub.passes {
            let damaged = status.scrub.damaged.saturating_sub(before.scrub.damaged);
            return Ok((status, damaged));
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            let (done, total) = (mebibytes(status.scrub.bytes_done), mebibytes(status.scrub.bytes_total));
            return Err(format!("node {} has read {done} of {total}, and goes on by itself", status.id));
        }
        let interrupt = client.settings().interrupt.as_ref();
        if interrupt.is_some_and(|interrupt| interrupt.load(Ordering::Relaxed)) {
            return Err(format!("interrupted; node {} goes on by itself", status.id));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn say(json: bool, asked: &Asked, status: &Status, damaged: u64) -> Exit {
    let said = match json {
        true => emit_json(&json!({
            "id": status.id.get(),
            "address": asked.address,
            "bytes_read": status.scrub.bytes_total,
            "damaged": damaged,
            "problems": status.problems,
        })),
        false => {
            status.problems.iter().for_each(|problem| complain(&format!("node {}: {problem}", status.id)));
            emit(line(status, damaged).as_bytes())
        }
    };
    said.max(verdict(status, damaged))
}

fn line(status: &Status, damaged: u64) -> String {
    let damage = match (damaged, status.problems.len()) {
        (0, 0) => "no damage".to_string(),
        (0, problems) => format!("no new damage, but {}", counted(problems as u64, "problem", "problems")),
        (damaged, _) => format!("damage in {}", counted(damaged, "place", "places")),
    };
    format!("node {}: {} bytes read, {damage}\n", status.id, status.scrub.bytes_total)
}

/// An entry whose every copy is bad is not found anew by any pass: what a node says of itself counts as well.
fn verdict(status: &Status, damaged: u64) -> Exit {
    if damaged == 0 && status.problems.is_empty() { Exit::Done } else { Exit::Refused }
}

fn fail(json: bool, asked: &Asked, why: &str) -> Exit {
    match (json, &asked.answer) {
        (false, _) => complain(&format!("{}: {why}", asked.address)),
        (true, Err(error)) => {
            let mut object = output::error_json(error);
            object["address"] = json!(asked.address);
            emit_json(&object);
        }
        (true, Ok(status)) => {
            let error = json!({ "code": "timeout", "message": why });
            emit_json(&json!({ "id": status.id.get(), "address": asked.address, "error": error }));
        }
    }
    Exit::Unreachable
}

fn emit_json(value: &Value) -> Exit {
    let mut out = BytesMut::new();
    output::line(&mut out, value);
    emit(&out)
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::status;
    use super::*;

    #[test]
    fn a_pass_that_finds_nothing_new_on_a_node_with_problems_is_no_success() {
        let mut status = status(1);
        status.scrub.bytes_total = 4096;
        assert_eq!(
            (line(&status, 0).as_str(), verdict(&status, 0)),
            ("node 1: 4096 bytes read, no damage\n", Exit::Done)
        );
        assert_eq!(verdict(&status, 1), Exit::Refused);
        assert!(line(&status, 1).ends_with("damage in 1 place\n"));
        status.problems.push("every copy of log entry 7 is bad".to_string());
        assert_eq!(verdict(&status, 0), Exit::Refused);
        assert!(line(&status, 0).ends_with("no new damage, but 1 problem\n"));
    }
}
