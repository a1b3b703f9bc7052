//! As much of the protocol of Redis (RESP 2) as a load needs: commands as arrays, answers of one part.

use bytes::{Buf, BufMut, BytesMut};
use raftkv::api::{Applied, Request};
use raftkv::base::Operation;

use crate::link::Verdict;

pub fn write(request: &Request, out: &mut BytesMut) {
    let words: &[&[u8]] = match request {
        Request::Write(Operation::Put { key, value }) => &[b"SET", key, value],
        Request::Write(Operation::Delete { key }) => &[b"DEL", key],
        Request::Get { key, .. } => &[b"GET", key],
        Request::List { .. } | Request::Status | Request::Scrub | Request::Latency => &[b"PING"],
    };
    out.put_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.put_slice(format!("${}\r\n", word.len()).as_bytes());
        out.put_slice(word);
        out.put_slice(b"\r\n");
    }
}

/// The next answer, if all of it is there; `Err`: it is none that these commands have.
pub fn take(incoming: &mut BytesMut) -> Result<Option<Verdict>, String> {
    let Some(end) = incoming.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8_lossy(&incoming[..end]).into_owned();
    let (kind, rest) = line.split_at_checked(1).unwrap_or_default();
    let behind = match kind {
        "+" | ":" | "-" => end + 2,
        "$" => match rest.parse::<i64>() {
            Ok(-1) => end + 2,
            Ok(length @ 0..=536_870_912) => end + 2 + length as usize + 2,
            _ => return Err(format!("a length that can't be: {line:?}")),
        },
        _ => return Err(format!("an answer of an unknown kind: {line:?}")),
    };
    if incoming.len() < behind {
        return Ok(None);
    }
    incoming.advance(behind);
    Ok(Some(match kind {
        "-" => {
            let code = rest.split(' ').next().unwrap_or_default().to_string();
            Verdict::Refused { code, applied: Applied::No }
        }
        _ => Verdict::Done,
    }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_put_is_an_array_of_three() {
        let mut out = BytesMut::new();
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v w"));
        write(&Request::Write(Operation::Put { key, value }), &mut out);
        assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nv w\r\n");
    }

    #[test]
    fn answers_are_taken_one_by_one_and_only_whole() {
        let bytes = b"+OK\r\n$3\r\na\r\n\r\n$-1\r\n-BUSY wait\r\n:1\r\n";
        let mut incoming = BytesMut::new();
        let mut verdicts = Vec::new();
        for byte in bytes {
            incoming.put_u8(*byte);
            verdicts.extend(take(&mut incoming).unwrap());
        }
        let busy = Verdict::Refused { code: "BUSY".to_string(), applied: Applied::No };
        assert_eq!(verdicts, [Verdict::Done, Verdict::Done, Verdict::Done, busy, Verdict::Done]);
        assert!(incoming.is_empty());
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for bytes in [&b"hello\r\n"[..], b"$x\r\n", b"$-2\r\n", b"\r\n"] {
            assert!(take(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }
}
