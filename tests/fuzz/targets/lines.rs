//! The line protocol.

use bytes::{BufMut, BytesMut};
use raftkv::api::{ReadBy, Reply, Request};
use raftkv::base::Operation;
use raftkv::wire::{self, LineCommand};

use super::within_memory;

pub fn line(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    wire::looks_like_http(line);
    match within_memory(line, || wire::parse_line(line)) {
        Ok(command) => {
            if let LineCommand::Request { request, .. } = &command {
                assert_eq!(request.check(), Ok(()), "what is passed on was checked");
            }
            if let Some(again) = written(&command) {
                assert_eq!(wire::parse_line(&again), Ok(command), "it changed when it was written and read again");
            }
            true
        }
        Err(error) => {
            let mut out = BytesMut::new();
            wire::write_reply(&Reply { result: Err(error), leader: None }, &mut out);
            assert!(out.starts_with(b"ERR ") && out.ends_with(b"\n"));
            let text = str::from_utf8(&out[..out.len() - 1]).expect("an answer is text");
            assert!(!text.contains(char::is_control), "an error takes one line that a terminal may see: {text:?}");
            false
        }
    }
}

/// As somebody would type it; `None` for what has no words.
fn written(command: &LineCommand) -> Option<BytesMut> {
    let mut out = BytesMut::new();
    let (LineCommand::Request { read_by, .. } | LineCommand::ListAll { read_by, .. }) = command else { return None };
    if *read_by == ReadBy::Any {
        out.put_slice(b"ANY ");
    }
    match command {
        LineCommand::Request { request: Request::Write(Operation::Put { key, value }), .. } => {
            out.put_slice(b"PUT ");
            wire::write_key(key, &mut out);
            out.put_u8(b' ');
            wire::write_value(value, &mut out);
        }
        LineCommand::Request { request: Request::Write(Operation::Delete { key }), .. } => {
            out.put_slice(b"DELETE ");
            wire::write_key(key, &mut out);
        }
        LineCommand::Request { request: Request::Get { key, revision: None }, .. } => {
            out.put_slice(b"GET ");
            wire::write_key(key, &mut out);
        }
        LineCommand::ListAll { prefix, after, limit, .. } => {
            out.put_slice(b"LIST ");
            write_prefix(prefix, &mut out);
            if let Some(limit) = limit {
                out.put_slice(format!(" LIMIT {limit}").as_bytes());
            }
            if let Some(after) = after {
                out.put_slice(b" AFTER ");
                wire::write_key(after, &mut out);
            }
        }
        _ => return None,
    }
    Some(out)
}

/// A prefix that reads like a keyword is quoted.
fn write_prefix(prefix: &[u8], out: &mut BytesMut) {
    match [b"LIMIT", b"AFTER"].iter().any(|keyword| prefix.eq_ignore_ascii_case(*keyword)) {
        true => out.put_slice(&[b"\"", prefix, b"\""].concat()),
        false => wire::write_key(prefix, out),
    }
}
