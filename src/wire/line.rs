//! The line protocol, as one types it: commands in, answers out. Net thread, and the REPL.
//!
//! One command a line, verbs in any case. Words are separated by spaces; `quote.rs` says how a key or value with
//! spaces or other bytes is written. Every answer is one line, but that of LIST, STATUS and HELP, which end in `END`
//! or are known in length.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::quote::{Word, bad_arguments, read_value, take_word, write_key, write_value};
use crate::api::{Error, ErrorCode, Latency, Outcome, Percentiles, ReadBy, Reply, Request, ScrubStatus, Status};
use crate::base::{Operation, brief, counted};

/// The answer to HELP.
pub const HELP: &str = "\
PUT key value       stores the value; the rest of the line is the value. Answers OK
GET key             answers the value, or (nil)
DELETE key          answers OK, or (nil) when the key was absent
LIST [prefix] [LIMIT n] [AFTER key]
                    answers a key a line, in order, then END
ANY GET ..., ANY LIST ...
                    the same, answered by this node whether it leads or not
STATUS              answers what this node knows of itself as name: value lines, then END
STATUS LATENCY      answers where the time of requests goes in this node, likewise
PING                answers PONG
HELP                answers this, then END
QUIT                closes the connection
A key or value may be written in double quotes with \\n \\r \\t \\\" \\\\ \\xHH: PUT \"my key\" \"\" stores the empty value.
Errors are answered as: ERR code sentence. Only outcome_unknown may have taken effect.
END
";

/// What one line asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineCommand {
    /// Checked. `read_by`: said of a read alone, by ANY.
    Request {
        request: Request,
        read_by: ReadBy,
    },
    /// All keys, in pages that the node chooses; with a limit, at most that many. Checked.
    ListAll {
        prefix: Bytes,
        after: Option<Bytes>,
        limit: Option<usize>,
        read_by: ReadBy,
    },
    Ping,
    Help,
    Quit,
    /// Nothing but spaces: no answer.
    Empty,
}

/// Whether a web browser is at the other end; its connection is closed, so that no page runs commands on a node
/// that listens on loopback. `line` is without its LF or CRLF.
pub fn looks_like_http(line: &[u8]) -> bool {
    let version = line.len().checked_sub(b" HTTP/1.1".len()).map(|start| &line[start..]);
    let ends_in_version = version.is_some_and(|v| v.starts_with(b" HTTP/1.") && v[v.len() - 1].is_ascii_digit());
    let names_host = line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"Host:"));
    ends_in_version || names_host || line.starts_with(b"POST ")
}

/// Reads a line, which comes without its LF or CRLF.
pub fn parse_line(line: &[u8]) -> Result<LineCommand, Error> {
    let mut rest = line;
    let Some(verb) = take_verb(&mut rest) else {
        return Ok(LineCommand::Empty);
    };
    match verb.to_ascii_uppercase().as_slice() {
        b"PUT" => parse_put(rest),
        b"GET" => {
            let key = only_key("GET", rest)?;
            checked(Request::Get { key, revision: None })
        }
        b"DELETE" => {
            let key = only_key("DELETE", rest)?;
            checked(Request::Write(Operation::Delete { key }))
        }
        b"LIST" => parse_list(rest),
        b"ANY" => parse_any(rest),
        b"STATUS" => parse_status(rest),
        b"PING" => alone("PING", rest, LineCommand::Ping),
        b"HELP" => alone("HELP", rest, LineCommand::Help),
        b"QUIT" => alone("QUIT", rest, LineCommand::Quit),
        _ => {
            let message = format!("{} is not a command; HELP lists them", shown(verb));
            Err(Error::new(ErrorCode::UnknownCommand, message))
        }
    }
}

/// The first word, as it is; quotes mean nothing in a verb.
fn take_verb<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = rest.iter().position(|byte| *byte != b' ')?;
    let length = rest[start..].iter().position(|byte| *byte == b' ').unwrap_or(rest.len() - start);
    let verb = &rest[start..start + length];
    *rest = &rest[start + length..];
    Some(verb)
}

/// What somebody wrote, for an error's sentence: its beginning, on one line.
fn shown(word: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 40;
    let mut out = BytesMut::new();
    write_key(&word[..word.len().min(SHOWN_BYTES_MAX)], &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn checked(request: Request) -> Result<LineCommand, Error> {
    request.check().map(|()| by_leader(request))
}

/// As it is without an ANY before it.
fn by_leader(request: Request) -> LineCommand {
    LineCommand::Request { request, read_by: ReadBy::Leader }
}

fn alone(verb: &str, rest: &[u8], command: LineCommand) -> Result<LineCommand, Error> {
    match rest.iter().all(|byte| *byte == b' ') {
        true => Ok(command),
        false => Err(bad_arguments(format!("{verb} takes nothing behind it, and there is {}", shown(rest)))),
    }
}

fn parse_status(mut rest: &[u8]) -> Result<LineCommand, Error> {
    let behind = rest;
    match take_verb(&mut rest) {
        Some(what) if what.eq_ignore_ascii_case(b"LATENCY") => {
            alone("STATUS LATENCY", rest, by_leader(Request::Latency))
        }
        _ => alone("STATUS", behind, by_leader(Request::Status)),
    }
}

fn parse_put(mut rest: &[u8]) -> Result<LineCommand, Error> {
    let Some(key) = take_word(&mut rest)? else {
        return Err(bad_arguments("PUT requires a key and a value: PUT key value"));
    };
    // One space ends the key; the others, if there are more, are the value's.
    match rest.split_first() {
        Some((_, value)) if !value.is_empty() => {
            checked(Request::Write(Operation::Put { key: key.bytes, value: read_value(value)? }))
        }
        _ => Err(bad_arguments("PUT requires a value: PUT key value; write \"\" for the empty value")),
    }
}

fn only_key(verb: &str, mut rest: &[u8]) -> Result<Bytes, Error> {
    let Some(key) = take_word(&mut rest)? else {
        return Err(bad_arguments(format!("{verb} requires a key: {verb} key")));
    };
    match take_word(&mut rest)? {
        None => Ok(key.bytes),
        Some(_) => Err(bad_arguments(format!("{verb} takes one key; write a key with spaces in double quotes"))),
    }
}

fn parse_list(mut rest: &[u8]) -> Result<LineCommand, Error> {
    let (mut prefix, mut after, mut limit) = (None, None, None);
    let is = |word: &Word, keyword: &str| !word.quoted && word.bytes.eq_ignore_ascii_case(keyword.as_bytes());
    let mut first = true;
    while let Some(word) = take_word(&mut rest)? {
        let again = if is(&word, "LIMIT") {
            limit.replace(parse_limit(take_word(&mut rest)?)?).is_some()
        } else if is(&word, "AFTER") {
            let Some(key) = take_word(&mut rest)? else {
                return Err(bad_arguments("AFTER wants the key behind which the listing begins"));
            };
            after.replace(key.bytes).is_some()
        } else {
            prefix.replace(word.bytes).is_some() || !first
        };
        if again {
            return Err(bad_arguments(
                "LIST takes these once each, in this order: LIST [prefix] [LIMIT n] [AFTER key]",
            ));
        }
        first = false;
    }
    let prefix = prefix.unwrap_or_default();
    Request::List { prefix: prefix.clone(), after: after.clone(), limit: 0, revision: None }.check()?;
    Ok(LineCommand::ListAll { prefix, after, limit, read_by: ReadBy::Leader })
}

/// It stands before the verb, where no key can.
fn parse_any(rest: &[u8]) -> Result<LineCommand, Error> {
    let mut behind = rest;
    let verb = take_verb(&mut behind).unwrap_or_default();
    if !verb.eq_ignore_ascii_case(b"GET") && !verb.eq_ignore_ascii_case(b"LIST") {
        return Err(bad_arguments("ANY stands before a read: ANY GET key, or ANY LIST"));
    }
    let mut read = parse_line(rest)?;
    if let LineCommand::Request { read_by, .. } | LineCommand::ListAll { read_by, .. } = &mut read {
        *read_by = ReadBy::Any;
    }
    Ok(read)
}

fn parse_limit(word: Option<Word>) -> Result<usize, Error> {
    let word = word.map(|word| word.bytes).unwrap_or_default();
    let number = std::str::from_utf8(&word).ok().and_then(|text| text.parse().ok());
    number.filter(|number| *number > 0).ok_or_else(|| {
        let wrong = shown(&word);
        bad_arguments(format!("LIMIT wants a number of keys, 1 or more, not {wrong}; a prefix LIMIT goes in quotes"))
    })
}

/// Appends an answer: a line, or for keys a line each. The caller ends a listing with `END`, or with the error at
/// which it stopped.
pub fn write_reply(reply: &Reply, out: &mut BytesMut) {
    match &reply.result {
        Ok(Outcome::Put { .. } | Outcome::Deleted { existed: true, .. }) => out.put_slice(b"OK\n"),
        Ok(Outcome::Deleted { existed: false, .. } | Outcome::Value { found: None, .. }) => out.put_slice(b"(nil)\n"),
        Ok(Outcome::Value { found: Some(found), .. }) => {
            write_value(&found.value, out);
            out.put_u8(b'\n');
        }
        Ok(Outcome::Keys { keys, .. }) => {
            for key in keys {
                write_key(key, out);
                out.put_u8(b'\n');
            }
        }
        Ok(Outcome::Status(status)) => write_status(status, out),
        Ok(Outcome::Latency(latency)) => write_latency(latency, out),
        Err(error) => {
            write_line(out, "ERR ", &error.to_string());
        }
    }
}

/// A line of text that may come from elsewhere: whatever would end the line, or act on a terminal, becomes a space.
fn write_line(out: &mut BytesMut, start: &str, text: &str) {
    out.put_slice(start.as_bytes());
    out.put_slice(text.replace(char::is_control, " ").as_bytes());
    out.put_u8(b'\n');
}

fn write_status(status: &Status, out: &mut BytesMut) {
    let leader = match &status.leader {
        Some(leader) => format!("{} {}", leader.id, leader.address),
        None => "none".to_string(),
    };
    for (name, value) in [
        ("id", status.id.to_string()),
        ("cluster", status.cluster.clone()),
        ("role", status.role.as_str().to_string()),
        ("term", status.term.to_string()),
        ("leader", leader),
        ("lease", if status.holds_lease { "held".to_string() } else { "none".to_string() }),
        ("commit", status.commit.to_string()),
        ("applied", status.applied.to_string()),
        ("last", status.last.to_string()),
        ("revision", status.revision.to_string()),
        ("keys", status.keys.to_string()),
        ("digest", format!("{:016x}", status.digest)),
        ("peers", peers_line(status)),
        ("health", if status.problems.is_empty() { "good".to_string() } else { status.problems.join("; ") }),
        ("scrub", scrub_line(&status.scrub)),
        ("version", status.version.clone()),
        ("uptime", format!("{} s", status.uptime.as_secs())),
    ] {
        write_line(out, name, &format!(": {value}"));
    }
    out.put_slice(b"END\n");
}

/// Of each stage what it was lately, then what it was since the start.
fn write_latency(latency: &Latency, out: &mut BytesMut) {
    write_line(out, "id", &format!(": {}", latency.id));
    for said in &latency.stages {
        let of = said.peer.map_or(String::new(), |peer| format!(" of node {peer}"));
        for (when, Percentiles { count, p50, p90, p99, p999, max }) in
            [("lately", &said.lately), ("total", &said.total)]
        {
            let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(|length| brief(*length));
            let figures = format!("count {count}, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}");
            write_line(out, said.stage.name(), &format!("{of}, {when}: {figures}"));
        }
    }
    out.put_slice(b"END\n");
}

/// `2 passes, 0 places damaged`, and where the pass under way is.
fn scrub_line(ScrubStatus { passes, bytes_done, bytes_total, damaged }: &ScrubStatus) -> String {
    let under_way = match bytes_done == bytes_total {
        true => String::new(),
        false => format!(", reading byte {bytes_done} of {bytes_total}"),
    };
    let (passes, places) = (counted(*passes, "pass", "passes"), counted(*damaged, "place", "places"));
    format!("{passes}, {places} damaged{under_way}")
}

/// `2 host:port up matched 17, 3 host:port down (connection refused)`, or `none`.
fn peers_line(status: &Status) -> String {
    let mut line = String::new();
    for peer in &status.peers {
        let separator = if line.is_empty() { "" } else { ", " };
        let mut add = |text: std::fmt::Arguments<'_>| line.write_fmt(text).expect("a String takes all");
        add(format_args!("{separator}{} {}", peer.id, peer.address));
        match peer.down_because.as_str() {
            "" => add(format_args!(" up")),
            why => add(format_args!(" down ({why})")),
        }
        if let Some(matched) = peer.matched {
            add(format_args!(" matched {matched}"));
        }
        if !peer.counted {
            add(format_args!(" uncounted"));
        }
    }
    if line.is_empty() { "none".to_string() } else { line }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::{Found, Leader, PeerStatus, StageLatency};
    use crate::base::limits::{KEY_BYTES_MAX, LINE_BYTES_MAX, VALUE_BYTES_MAX};
    use crate::base::{LogIndex, Random, Revision, Role, Stage, Term};
    use crate::wire::testing::{self, node};

    const REVISION: Revision = Revision(1);

    fn put(key: &'static [u8], value: &'static [u8]) -> LineCommand {
        let (key, value) = (Bytes::from_static(key), Bytes::from_static(value));
        by_leader(Request::Write(Operation::Put { key, value }))
    }

    fn list(prefix: &'static str, after: Option<&'static str>, limit: Option<usize>) -> LineCommand {
        LineCommand::ListAll { prefix: prefix.into(), after: after.map(Bytes::from), limit, read_by: ReadBy::Leader }
    }

    fn code(line: &str) -> &'static str {
        parse_line(line.as_bytes()).unwrap_err().code.as_str()
    }

    fn written(result: Result<Outcome, Error>) -> String {
        let mut out = BytesMut::new();
        write_reply(&Reply { result, leader: None }, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn one_space_ends_the_key_and_the_rest_is_the_value() {
        for (line, command) in [
            ("PUT k v", put(b"k", b"v")),
            ("put k v with  spaces ", put(b"k", b"v with  spaces ")),
            ("PUT k  v", put(b"k", b" v")),
            ("  Put   k v", put(b"k", b"v")),
            ("PUT k \"\"", put(b"k", b"")),
            ("PUT \"a b\" \"c\\n\"", put(b"a b", b"c\n")),
            ("PUT k  \"v\"", put(b"k", b" \"v\"")),
            ("PUT a\\nb c\"d", put(b"a\\nb", b"c\"d")),
        ] {
            assert_eq!(parse_line(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn verbs_are_known_in_any_case_and_take_what_they_take() {
        let get = |key: &'static str| Request::Get { key: key.into(), revision: None };
        let (prefix, after, limit) = ("u/".into(), None, Some(2));
        let delete = by_leader(Request::Write(Operation::Delete { key: "a b".into() }));
        for (line, command) in [
            ("gEt k", by_leader(get("k"))),
            ("DELETE \"a b\" ", delete),
            ("status", by_leader(Request::Status)),
            ("status  Latency ", by_leader(Request::Latency)),
            ("any GET k", LineCommand::Request { request: get("k"), read_by: ReadBy::Any }),
            ("ANY list u/ LIMIT 2", LineCommand::ListAll { prefix, after, limit, read_by: ReadBy::Any }),
            ("GET ANY", by_leader(get("ANY"))),
            ("LIST ANY", list("ANY", None, None)),
            ("PING ", LineCommand::Ping),
            (" help", LineCommand::Help),
            ("quit", LineCommand::Quit),
            ("", LineCommand::Empty),
            ("   ", LineCommand::Empty),
        ] {
            assert_eq!(parse_line(line.as_bytes()), Ok(command), "{line}");
        }
        for line in [
            "STATUS NOW",
            "STATUS LATENCY NOW",
            "STATUS LATENCYX",
            "STATUS \"LATENCY\"",
            "PUT",
            "PUT k",
            "PUT k ",
            "GET",
            "GET a b",
            "DELETE",
            "PING 1",
            "ANY",
            "ANY PUT k v",
            "ANY ANY GET k",
            "ANY GET",
            "PUT \"k v",
            "GET \"\"",
            "GET \"a\"b",
        ] {
            assert_eq!(code(line), "bad_arguments", "{line}");
        }
        for line in ["X", "PUTT k v", "\"PUT\" k v", "PUT\tk v", "\0"] {
            assert_eq!(code(line), "unknown_command", "{line}");
        }
        let error = parse_line(b"\x1b[2J\xff").unwrap_err().to_string();
        assert_eq!(error, "unknown_command \"\\x1b[2J\\xff\" is not a command; HELP lists them");
    }

    #[test]
    fn a_listing_names_prefix_limit_and_after_in_that_order() {
        for (line, command) in [
            ("LIST", list("", None, None)),
            ("list a", list("a", None, None)),
            ("LIST a LIMIT 5", list("a", None, Some(5))),
            ("LIST limit 5 after b", list("", Some("b"), Some(5))),
            ("LIST a AFTER \"a b\"", list("a", Some("a b"), None)),
            ("LIST \"LIMIT\"", list("LIMIT", None, None)),
            ("LIST AFTER after", list("", Some("after"), None)),
            ("LIST \"\" AFTER \"\"", list("", Some(""), None)),
        ] {
            assert_eq!(parse_line(line.as_bytes()), Ok(command), "{line}");
        }
        for line in [
            "LIST a b",
            "LIST LIMIT",
            "LIST LIMIT 0",
            "LIST LIMIT x",
            "LIST LIMIT -1",
            "LIST LIMIT 1 LIMIT 2",
            "LIST AFTER",
            "LIST AFTER a AFTER b",
            "LIST LIMIT 1 a",
            "LIST LIMIT 99999999999999999999",
        ] {
            assert_eq!(code(line), "bad_arguments", "{line}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_goes_further() {
        let long_key = "k".repeat(KEY_BYTES_MAX + 1);
        for line in ["GET ", "DELETE ", "LIST ", "LIST AFTER "].map(|verb| verb.to_string() + &long_key) {
            assert_eq!(code(&line), "key_too_large");
        }
        assert_eq!(code(&format!("PUT {long_key} v")), "key_too_large");
        assert_eq!(code(&format!("PUT k {}", "v".repeat(VALUE_BYTES_MAX + 1))), "value_too_large");
    }

    #[test]
    fn the_longest_line_holds_the_largest_key_and_value_in_hexadecimal() {
        let hex = |bytes: usize| format!("\"{}\"", "\\xFF".repeat(bytes));
        let line = format!("PUT {} {}", hex(KEY_BYTES_MAX), hex(VALUE_BYTES_MAX));
        assert!(line.len() <= LINE_BYTES_MAX);
        let (key, value) = (vec![0xff; KEY_BYTES_MAX].into(), vec![0xff; VALUE_BYTES_MAX].into());
        assert_eq!(parse_line(line.as_bytes()), Ok(by_leader(Request::Write(Operation::Put { key, value }))));
    }

    #[test]
    fn answers_take_a_line_each() {
        let found = |value: &'static str| {
            let found = Found { value: value.into(), create_revision: REVISION, mod_revision: REVISION, version: 1 };
            Ok(Outcome::Value { revision: REVISION, found: Some(found) })
        };
        let keys = ["a", "END", "b c"].map(Bytes::from).to_vec();
        for (result, expected) in [
            (Ok(Outcome::Put { revision: REVISION }), "OK\n"),
            (Ok(Outcome::Deleted { revision: REVISION, existed: true }), "OK\n"),
            (Ok(Outcome::Deleted { revision: REVISION, existed: false }), "(nil)\n"),
            (Ok(Outcome::Value { revision: REVISION, found: None }), "(nil)\n"),
            (found("v w"), "v w\n"),
            (found(""), "\"\"\n"),
            (found("(nil)"), "\"(nil)\"\n"),
            (found("two\nlines"), "\"two\\nlines\"\n"),
            (Ok(Outcome::Keys { revision: REVISION, keys, more: false }), "a\n\"END\"\n\"b c\"\n"),
            (Ok(Outcome::Keys { revision: REVISION, keys: vec![], more: false }), ""),
            (Err(Error::new(ErrorCode::Busy, "wait\na bit")), "ERR busy wait a bit\n"),
        ] {
            assert_eq!(written(result), expected);
        }
    }

    #[test]
    fn a_status_is_names_and_values_and_an_end() {
        let peer = |id, down_because: &str, matched| PeerStatus {
            id: node(id),
            address: format!("host:{id}").into(),
            down_because: down_because.to_string(),
            matched,
            counted: id != 3,
        };
        let status = Status {
            id: node(1),
            cluster: "test\nOK".to_string(),
            role: Role::Leader,
            term: Term(4),
            leader: Some(Leader { id: node(1), address: "host:1".into() }),
            commit: LogIndex(9),
            applied: LogIndex(8),
            last: LogIndex(10),
            revision: Revision(7),
            keys: 2,
            digest: 0xab,
            peers: vec![peer(2, "", Some(LogIndex(9))), peer(3, "connection refused", None)],
            problems: vec!["this is wrong".to_string(), "and that".to_string()],
            scrub: ScrubStatus { passes: 2, bytes_done: 3, bytes_total: 9, damaged: 1 },
            version: "0.1.0".to_string(),
            uptime: Duration::from_millis(61_500),
            holds_lease: true,
        };
        let expected = "id: 1\ncluster: test OK\nrole: leader\nterm: 4\nleader: 1 host:1\nlease: held\ncommit: 9\napplied: 8\n\
            last: 10\nrevision: 7\nkeys: 2\ndigest: 00000000000000ab\npeers: 2 host:2 up matched 9, 3 host:3 down (connection refused) uncounted\n\
            health: this is wrong; and that\n\
            scrub: 2 passes, 1 place damaged, reading byte 3 of 9\nversion: 0.1.0\nuptime: 61 s\nEND\n";
        assert_eq!(written(Ok(Outcome::Status(Box::new(status)))), expected);
    }

    #[test]
    fn latencies_are_two_lines_a_stage_and_an_end() {
        let micros = Duration::from_micros;
        let lately =
            Percentiles { count: 2, p50: micros(5), p90: micros(6), p99: micros(7), p999: micros(8), max: micros(9) };
        let total = Percentiles { count: 3, max: Duration::from_millis(1500), ..lately };
        let said = |stage, peer| StageLatency { stage, peer, lately, total };
        let stages = vec![said(Stage::AppendToDurable, None), said(Stage::SendToAck, Some(node(2)))];
        let figures =
            |count, max| format!("count {count}, p50 5.0 us, p90 6.0 us, p99 7.0 us, p99.9 8.0 us, max {max}\n");
        let (lately, total) = (figures(2, "9.0 us"), figures(3, "1.5 s"));
        let expected = format!(
            "id: 1\nappend to durable, lately: {lately}append to durable, total: {total}\
             send to ack of node 2, lately: {lately}send to ack of node 2, total: {total}END\n"
        );
        assert_eq!(written(Ok(Outcome::Latency(Box::new(Latency { id: node(1), stages })))), expected);
    }

    #[test]
    fn every_answer_ends_its_line_and_only_its_lines() {
        for seed in 0..5000 {
            let reply = testing::reply(&mut Random::new(seed));
            let lines = match &reply.result {
                Ok(Outcome::Keys { keys, .. }) => keys.len(),
                Ok(Outcome::Status(_)) => 18,
                Ok(Outcome::Latency(latency)) => 2 + 2 * latency.stages.len(),
                _ => 1,
            };
            let text = written(reply.result);
            assert!(text.is_empty() || text.ends_with('\n'), "seed {seed}");
            assert_eq!(text.lines().count(), lines, "seed {seed}: {text:?}");
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "seed {seed}: {text:?}");
        }
    }

    #[test]
    fn browsers_are_known_by_their_lines() {
        for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "POST anything", "Host: localhost", "host:x", "x HTTP/1.9"] {
            assert!(looks_like_http(line.as_bytes()), "{line}");
        }
        for line in
            ["", "GET k", "PUT k HTTP/1.1 is old", "HTTP/1.1", "POSTS", "PUT Host: x", " HTTP/1.x", "GET HTTP/2.0"]
        {
            assert!(!looks_like_http(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn help_names_every_verb_and_ends() {
        for verb in ["PUT", "GET", "DELETE", "LIST", "STATUS", "PING", "HELP", "QUIT", "ERR code"] {
            assert!(HELP.contains(verb), "{verb}");
        }
        assert!(HELP.ends_with("\nEND\n"));
    }
}
