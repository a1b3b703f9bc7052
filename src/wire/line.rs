//! The line protocol, as one types it: commands in, answers out. Net thread, and the REPL.
//!
//! One command a line, verbs in any case. Words are separated by spaces; `quote.rs` says how a key or value with
//! spaces or other bytes is written. Every answer is one line, but that of LIST, STATUS and HELP, which end in `END`
//! or are known in length.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::quote::{Word, bad_arguments, read_value, take_word, write_key, write_value};
use crate::api::{Error, ErrorCode, Outcome, Reply, Request, Status};
use crate::base::Operation;

/// The answer to HELP.
pub const HELP: &str = "\
PUT key value       stores the value; the rest of the line is the value. Answers OK
GET key             answers the value, or (nil)
DELETE key          answers OK, or (nil) when the key was absent
LIST [prefix] [LIMIT n] [AFTER key]
                    answers a key a line, in order, then END
STATUS              answers what this node knows of itself as name: value lines, then END
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
    /// Checked.
    Request(Request),
    /// All keys, in pages that the node chooses; with a limit, at most that many. Checked.
    ListAll {
        prefix: Bytes,
        after: Option<Bytes>,
        limit: Option<usize>,
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
        b"STATUS" => alone("STATUS", rest, LineCommand::Request(Request::Status)),
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
    request.check().map(|()| LineCommand::Request(request))
}

fn alone(verb: &str, rest: &[u8], command: LineCommand) -> Result<LineCommand, Error> {
    match rest.iter().all(|byte| *byte == b' ') {
        true => Ok(command),
        false => Err(bad_arguments(format!("{verb} takes nothing behind it, and there is {}", shown(rest)))),
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
    Ok(LineCommand::ListAll { prefix, after, limit })
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
        ("commit", status.commit.to_string()),
        ("applied", status.applied.to_string()),
        ("last", status.last.to_string()),
        ("revision", status.revision.to_string()),
        ("keys", status.keys.to_string()),
        ("peers", peers_line(status)),
        ("version", status.version.clone()),
        ("uptime", format!("{} s", status.uptime.as_secs())),
    ] {
        write_line(out, name, &format!(": {value}"));
    }
    out.put_slice(b"END\n");
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
