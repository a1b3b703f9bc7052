//! What answers look like on standard output: as text by the line protocol's printing rule, as bytes, or as JSON.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use bytes::BytesMut;
use serde_json::{Value, json};

use super::Exit;
use crate::api::{Applied, Found, Latency, Outcome, Percentiles, Reply, StageLatency, Status};
use crate::base::NodeId;
use crate::client::{Census, Error, Seen};
use crate::wire;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line each; what a terminal must not see is quoted.
    Text,
    /// Values and keys as they are.
    Raw,
    /// An object a line.
    Json,
}

/// Writes to standard output. A reader that left (`| head`) ends the program as if all was done; any other
/// failure is reported and counts as refused.
pub fn emit(bytes: &[u8]) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            complain(&format!("standard output: {error}"));
            Exit::Refused
        }
    }
}

/// Says something to the person, on standard error. There is nobody left to tell if that fails.
pub fn complain(sentence: &str) {
    let _ = writeln!(io::stderr().lock(), "raftkv: {sentence}");
}

/// An answer, each line of it ended.
pub fn outcome(outcome: Outcome, format: Format) -> BytesMut {
    let mut out = BytesMut::new();
    match (format, outcome) {
        (Format::Json, outcome) => line(&mut out, &outcome_json(&outcome)),
        (_, Outcome::Keys { keys, .. }) if keys.is_empty() => out.extend_from_slice(b"(empty)\n"),
        (Format::Raw, Outcome::Value { found: Some(found), .. }) => {
            out.extend_from_slice(&found.value);
            out.extend_from_slice(b"\n");
        }
        (Format::Raw, Outcome::Keys { keys, .. }) => {
            for key in keys {
                out.extend_from_slice(&key);
                out.extend_from_slice(b"\n");
            }
        }
        (_, outcome) => wire::write_reply(&Reply { result: Ok(outcome), leader: None }, &mut out),
    }
    out
}

/// A failed command's answer: `ERR code sentence`, or an object.
pub fn failure(error: &Error, format: Format) -> BytesMut {
    let mut out = BytesMut::new();
    match format {
        Format::Json => line(&mut out, &error_json(error)),
        Format::Text | Format::Raw => {
            out.extend_from_slice(format!("ERR {} {}\n", error.code(), error.message()).as_bytes());
        }
    }
    out
}

pub fn line(out: &mut BytesMut, value: &Value) {
    out.extend_from_slice(value.to_string().as_bytes());
    out.extend_from_slice(b"\n");
}

pub fn error_json(error: &Error) -> Value {
    let applied = match error.applied() {
        Applied::No => "no",
        Applied::Maybe => "maybe",
    };
    json!({ "error": { "code": error.code(), "message": error.message(), "applied": applied } })
}

pub fn outcome_json(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Put { revision } => json!({ "ok": true, "revision": revision.0 }),
        Outcome::Deleted { revision, existed } => json!({ "ok": true, "existed": existed, "revision": revision.0 }),
        Outcome::Value { revision, found: None } => json!({ "found": false, "revision": revision.0 }),
        Outcome::Value { revision, found: Some(found) } => found_json(revision.0, found),
        Outcome::Keys { revision, keys, more } => {
            let keys: Vec<Value> = keys.iter().map(|key| bytes_json(key)).collect();
            json!({ "keys": keys, "more": more, "revision": revision.0 })
        }
        Outcome::Status(status) => status_json(status),
        Outcome::Latency(latency) => json!({ "id": latency.id.get(), "stages": stages_json(latency) }),
    }
}

fn found_json(revision: u64, found: &Found) -> Value {
    json!({
        "found": true,
        "value": bytes_json(&found.value),
        "create_revision": found.create_revision.0,
        "mod_revision": found.mod_revision.0,
        "version": found.version,
        "revision": revision,
    })
}

/// A string if it is one, else `{"hex": "..."}`: a string never stands for other bytes than its own.
pub fn bytes_json(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

pub fn census_json(census: &Census) -> Value {
    let leader = census.leader().map(|seen| json!({ "id": seen.id.map(|id| id.get()), "address": seen.address }));
    json!({ "leader": leader, "nodes": census.nodes.iter().map(seen_json).collect::<Vec<_>>() })
}

fn seen_json(seen: &Seen) -> Value {
    let mut node = match &seen.status {
        Ok(status) => status_json(status),
        Err(error) => error_json(error),
    };
    node["address"] = json!(seen.address);
    node["id"] = json!(seen.id.map(|id| id.get()));
    node["reached"] = json!(seen.status.is_ok());
    node
}

fn status_json(status: &Status) -> Value {
    let peers: Vec<Value> = status
        .peers
        .iter()
        .map(|peer| {
            json!({
                "id": peer.id.get(),
                "address": &*peer.address,
                "up": peer.down_because.is_empty(),
                "down_because": peer.down_because,
                "matched": peer.matched.map(|index| index.0),
                "counted": peer.counted,
            })
        })
        .collect();
    json!({
        "id": status.id.get(),
        "cluster": status.cluster,
        "role": status.role.as_str(),
        "term": status.term.0,
        "leader": status.leader.as_ref().map(|leader| json!({ "id": leader.id.get(), "address": &*leader.address })),
        "commit": status.commit.0,
        "applied": status.applied.0,
        "last": status.last.0,
        "revision": status.revision.0,
        "keys": status.keys,
        "digest": format!("{:016x}", status.digest),
        "peers": peers,
        "version": status.version,
        "problems": status.problems,
        "scrub": json!({
            "passes": status.scrub.passes,
            "bytes_done": status.scrub.bytes_done,
            "bytes_total": status.scrub.bytes_total,
            "damaged": status.scrub.damaged,
        }),
        "holds_lease": status.holds_lease,
        "uptime_ms": u64::try_from(status.uptime.as_millis()).unwrap_or(u64::MAX),
    })
}

pub fn stages_json(latency: &Latency) -> Value {
    let stage = |said: &StageLatency| {
        json!({
            "stage": said.stage.name().replace(' ', "_"),
            "peer": said.peer.map(NodeId::get),
            "lately": percentiles_json(&said.lately),
            "total": percentiles_json(&said.total),
        })
    };
    latency.stages.iter().map(stage).collect()
}

fn percentiles_json(Percentiles { count, p50, p90, p99, p999, max }: &Percentiles) -> Value {
    let nanos = |length: &Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "count": count,
        "p50_ns": nanos(p50),
        "p90_ns": nanos(p90),
        "p99_ns": nanos(p99),
        "p999_ns": nanos(p999),
        "max_ns": nanos(max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;
    use crate::base::Revision;

    fn value(bytes: &'static [u8]) -> Outcome {
        let found = Found { value: bytes.into(), create_revision: Revision(2), mod_revision: Revision(4), version: 3 };
        Outcome::Value { revision: Revision(7), found: Some(found) }
    }

    #[test]
    fn json_tells_text_from_other_bytes() {
        let text = outcome(value(b"a \"b\""), Format::Json);
        let expected: &[u8] = b"{\"create_revision\":2,\"found\":true,\"mod_revision\":4,\"revision\":7,\
                               \"value\":\"a \\\"b\\\"\",\"version\":3}\n";
        assert_eq!(&text[..], expected);
        assert_eq!(bytes_json(b"\xff\x00"), json!({ "hex": "ff00" }));
    }

    #[test]
    fn raw_prints_the_bytes_and_text_does_not() {
        assert_eq!(&outcome(value(b"\x1b[31m"), Format::Raw)[..], b"\x1b[31m\n");
        assert!(!outcome(value(b"\x1b[31m"), Format::Text).contains(&0x1b));
    }

    #[test]
    fn an_empty_listing_and_an_absent_key_have_their_words() {
        let none = Outcome::Keys { revision: Revision(0), keys: vec![], more: false };
        assert_eq!(&outcome(none, Format::Text)[..], b"(empty)\n");
        assert_eq!(&outcome(Outcome::Value { revision: Revision(0), found: None }, Format::Text)[..], b"(nil)\n");
    }

    #[test]
    fn an_unknown_outcome_is_marked_in_json() {
        let unknown = Error::OutcomeUnknown { address: "a:1".into(), why: "gone".into() };
        assert_eq!(error_json(&unknown)["error"]["applied"], "maybe");
        let busy = Error::Refused(api::Error::new(api::ErrorCode::Busy, "full"));
        assert_eq!(error_json(&busy), json!({"error": {"code": "busy", "message": "full", "applied": "no"}}));
        assert_eq!(&failure(&busy, Format::Text)[..], b"ERR busy full\n");
    }
}
