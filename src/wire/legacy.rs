//! The text commands of the original program, which its clients send in frames, and its exact answers. Net thread.
//!
//! | command | answer |
//! |---|---|
//! | `PUT key value...` | `OK` |
//! | `GET key` | the value, or `(nil)` |
//! | `DELETE key` | `OK`, or `(nil)` when the key was absent |
//! | `LIST` | the keys, joined by newlines, or `(empty)` |
//! | anything else | `ERR ...`, as a success |
//!
//! The original reads words as C++ streams do: white space of any kind and number separates them, verbs are upper
//! case, words that it does not need are ignored, and a value is what follows up to the end of its line. Nothing is
//! ever quoted or unquoted. Where it would not have failed, failures say so in `error`.

use bytes::Bytes;

use super::generated::ClientResponse;
use crate::api::{Error, ErrorCode, Outcome, Reply, Request};
use crate::base::Operation;
use crate::base::limits::FRAME_BYTES_MAX;

/// Bytes of an unknown verb that its answer repeats.
const VERB_SHOWN_BYTES_MAX: usize = 1024;

/// What a text command asks; not yet checked. The errors are those that [`answer`] shows as the original does.
pub fn parse(command: &Bytes) -> Result<Request, Error> {
    let mut rest = &command[..];
    match take_word(&mut rest) {
        b"PUT" => {
            let key = take_word(&mut rest);
            if key.is_empty() {
                return Err(refused("PUT requires key and value"));
            }
            let value = take_line(&mut rest);
            if value.is_empty() {
                return Err(refused("PUT requires a value"));
            }
            Ok(Request::Write(Operation::Put { key: command.slice_ref(key), value: command.slice_ref(value) }))
        }
        b"GET" => take_key("GET", command, rest).map(|key| Request::Get { key, revision: None }),
        b"DELETE" => take_key("DELETE", command, rest).map(|key| Request::Write(Operation::Delete { key })),
        b"LIST" => Ok(Request::List { prefix: Bytes::new(), after: None, limit: 0, revision: None }),
        verb => {
            let shown = String::from_utf8_lossy(&verb[..verb.len().min(VERB_SHOWN_BYTES_MAX)]);
            Err(Error::new(ErrorCode::UnknownCommand, format!("unknown command '{shown}'")))
        }
    }
}

fn refused(message: &str) -> Error {
    Error::new(ErrorCode::BadArguments, message)
}

fn take_key(verb: &str, command: &Bytes, mut rest: &[u8]) -> Result<Bytes, Error> {
    match take_word(&mut rest) {
        [] => Err(refused(&format!("{verb} requires a key"))),
        key => Ok(command.slice_ref(key)),
    }
}

/// C's isspace, which counts the vertical tab that Rust's `is_ascii_whitespace` leaves out.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn skip_spaces(rest: &mut &[u8]) {
    let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
    *rest = &rest[spaces..];
}

/// Empty when nothing is left.
fn take_word<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    skip_spaces(rest);
    let length = rest.iter().position(|byte| is_space(*byte)).unwrap_or(rest.len());
    let (word, behind) = rest.split_at(length);
    *rest = behind;
    word
}

fn take_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    skip_spaces(rest);
    let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    &rest[..length]
}

/// The original's answer. `None` if it is certainly too large for a frame.
pub fn answer(reply: &Reply) -> Option<ClientResponse> {
    let leader_hint = reply.leader.as_ref().map_or(0, |leader| leader.id.get());
    let done = |value: Bytes| ClientResponse { success: true, value, ..ClientResponse::default() };
    let failed = |error: String| ClientResponse { error: error.into(), leader_hint, ..ClientResponse::default() };
    Some(match &reply.result {
        Ok(outcome) => done(text(outcome)?),
        Err(error) => match error.code {
            ErrorCode::UnknownCommand | ErrorCode::BadArguments => done(format!("ERR {}", error.message).into()),
            ErrorCode::NotLeader | ErrorCode::NoLeader => failed("Not leader".to_string()),
            _ => failed(error.to_string()),
        },
    })
}

fn text(outcome: &Outcome) -> Option<Bytes> {
    const NIL: Bytes = Bytes::from_static(b"(nil)");
    const OK: Bytes = Bytes::from_static(b"OK");
    Some(match outcome {
        Outcome::Put { .. } | Outcome::Deleted { existed: true, .. } => OK,
        Outcome::Deleted { existed: false, .. } => NIL,
        Outcome::Value { found, .. } => found.as_ref().map_or(NIL, |found| found.value.clone().into()),
        Outcome::Keys { keys, .. } if keys.is_empty() => Bytes::from_static(b"(empty)"),
        Outcome::Keys { keys, .. } => joined(keys)?,
        // No text command asks for it.
        Outcome::Status(status) => status.role.as_str().into(),
        Outcome::Latency(_) => NIL,
    })
}

fn joined(keys: &[Bytes]) -> Option<Bytes> {
    let length = keys.iter().map(|key| key.len() + 1).sum::<usize>() - 1;
    (length <= FRAME_BYTES_MAX).then(|| keys.join(&b'\n').into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Found, Leader};
    use crate::base::{NodeId, Revision};

    const REVISION: Revision = Revision(7);

    fn parse_text(command: &'static str) -> Result<Request, Error> {
        parse(&Bytes::from_static(command.as_bytes()))
    }

    fn put(key: &'static str, value: &'static str) -> Request {
        Request::Write(Operation::Put { key: key.into(), value: value.into() })
    }

    fn reply(result: Result<Outcome, Error>) -> Reply {
        let leader = Leader { id: NodeId::new(3).unwrap(), address: "host:1".into() };
        Reply { result, leader: Some(leader) }
    }

    /// success, value, error, leader_hint
    fn shown(result: Result<Outcome, Error>) -> (bool, String, String, u32) {
        let response = answer(&reply(result)).unwrap();
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!((response.request_id, response.outcome), (0, None), "the original knows no such fields");
        (response.success, text(&response.value), text(&response.error), response.leader_hint)
    }

    fn value(text: &str) -> (bool, String, String, u32) {
        (true, text.to_string(), String::new(), 0)
    }

    #[test]
    fn commands_are_read_as_the_original_reads_them() {
        assert_eq!(parse_text("PUT k v with spaces"), Ok(put("k", "v with spaces")));
        assert_eq!(parse_text(" PUT\tk   v  "), Ok(put("k", "v  ")));
        assert_eq!(parse_text("PUT k \"quoted\""), Ok(put("k", "\"quoted\"")));
        assert_eq!(parse_text("PUT k one\ntwo"), Ok(put("k", "one")));
        assert_eq!(parse_text("GET k ignored"), Ok(Request::Get { key: "k".into(), revision: None }));
        assert_eq!(parse_text("DELETE \u{b}k\r\n"), Ok(Request::Write(Operation::Delete { key: "k".into() })));
        let list = Request::List { prefix: Bytes::new(), after: None, limit: 0, revision: None };
        assert_eq!(parse_text("LIST ignored"), Ok(list));
    }

    #[test]
    fn wrong_commands_get_the_originals_words_as_a_success() {
        for (command, answer) in [
            ("PUT", "ERR PUT requires key and value"),
            ("PUT ", "ERR PUT requires key and value"),
            ("PUT k", "ERR PUT requires a value"),
            ("PUT k ", "ERR PUT requires a value"),
            ("GET", "ERR GET requires a key"),
            ("DELETE", "ERR DELETE requires a key"),
            ("X", "ERR unknown command 'X'"),
            ("put k v", "ERR unknown command 'put'"),
            ("", "ERR unknown command ''"),
        ] {
            assert_eq!(shown(parse_text(command).map(|_| unreachable!())), value(answer), "{command:?}");
        }
    }

    #[test]
    fn outcomes_are_told_in_the_originals_words() {
        let found = |value: &'static str| Found {
            value: value.into(),
            create_revision: REVISION,
            mod_revision: REVISION,
            version: 1,
        };
        let keys = |keys: &[&'static str]| Outcome::Keys {
            revision: REVISION,
            keys: keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect(),
            more: false,
        };
        for (outcome, expected) in [
            (Outcome::Put { revision: REVISION }, "OK"),
            (Outcome::Deleted { revision: REVISION, existed: true }, "OK"),
            (Outcome::Deleted { revision: REVISION, existed: false }, "(nil)"),
            (Outcome::Value { revision: REVISION, found: None }, "(nil)"),
            (Outcome::Value { revision: REVISION, found: Some(found("v w")) }, "v w"),
            (Outcome::Value { revision: REVISION, found: Some(found("")) }, ""),
            (keys(&[]), "(empty)"),
            (keys(&["a"]), "a"),
            (keys(&["a", "b c"]), "a\nb c"),
        ] {
            assert_eq!(shown(Ok(outcome)), value(expected));
        }
    }

    #[test]
    fn a_node_that_does_not_lead_names_the_leader_or_nobody() {
        let refused = Error::new(ErrorCode::NotLeader, "node 3 leads");
        assert_eq!(shown(Err(refused)), (false, String::new(), "Not leader".to_string(), 3));
        let nobody = answer(&Reply::refused(ErrorCode::NoLeader, "nobody leads", None)).unwrap();
        assert_eq!((nobody.success, &nobody.error[..], nobody.leader_hint), (false, &b"Not leader"[..], 0));
        let busy = Error::new(ErrorCode::Busy, "too much at once");
        assert_eq!(shown(Err(busy)), (false, String::new(), "busy too much at once".to_string(), 3));
    }
}
