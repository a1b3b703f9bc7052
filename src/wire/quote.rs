//! How a key or a value is written on a line, so that every byte string survives and stays on its line.
//!
//! Bare, when nobody could misread it; else in double quotes:
//!
//! ```text
//! quoted:  '"' { \n | \r | \t | \" | \\ | \xHH | any other byte } '"'
//! ```
//!
//! What is printed can be typed back, and nothing stored can pass for an answer of another kind.

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::{Error, ErrorCode};

/// Writes a key: bare only if it is one word and not `END`, which closes a listing.
pub fn write_key(key: &[u8], out: &mut BytesMut) {
    match bare(key) {
        Some(text) if !text.contains(' ') && text != "END" => out.put_slice(key),
        _ => write_quoted(key, out),
    }
}

/// Writes a value.
pub fn write_value(value: &[u8], out: &mut BytesMut) {
    match bare(value) {
        Some(_) => out.put_slice(value),
        None => write_quoted(value, out),
    }
}

/// `Some` if the bytes may stand for themselves.
fn bare(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let taken_for_something_else = text.is_empty()
        || text.starts_with(' ')
        || text.ends_with(' ')
        || ["\"", "(", "ERR"].iter().any(|start| text.starts_with(start))
        || text.contains(char::is_control);
    (!taken_for_something_else).then_some(text)
}

/// Text goes as it is; what a terminal would act on, and what is no UTF-8, as `\xHH`.
fn write_quoted(bytes: &[u8], out: &mut BytesMut) {
    out.reserve(bytes.len() + 2);
    out.put_u8(b'"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            write_escaped(character, out);
        }
        write_hex(chunk.invalid(), out);
    }
    out.put_u8(b'"');
}

fn write_escaped(character: char, out: &mut BytesMut) {
    let mut buffer = [0; 4];
    let bytes = character.encode_utf8(&mut buffer).as_bytes();
    match character {
        '\n' => out.put_slice(b"\\n"),
        '\r' => out.put_slice(b"\\r"),
        '\t' => out.put_slice(b"\\t"),
        '"' => out.put_slice(b"\\\""),
        '\\' => out.put_slice(b"\\\\"),
        _ if character.is_control() => write_hex(bytes, out),
        _ => out.put_slice(bytes),
    }
}

fn write_hex(bytes: &[u8], out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.put_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// A word of a line. Whether it was quoted matters where a bare word would be a keyword.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    pub bytes: Bytes,
    pub quoted: bool,
}

/// Takes the next word off `rest`, spaces before it skipped; the space behind it stays. `None`: nothing is left.
pub fn take_word(rest: &mut &[u8]) -> Result<Option<Word>, Error> {
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    *rest = &rest[spaces..];
    match rest.first() {
        None => Ok(None),
        Some(b'"') => {
            let bytes = unquote(rest)?;
            if !matches!(rest.first(), None | Some(b' ')) {
                return Err(bad_arguments("a closing quote must end its word; write \\\" for a quote inside"));
            }
            Ok(Some(Word { bytes, quoted: true }))
        }
        Some(_) => {
            let length = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
            let (word, behind) = rest.split_at(length);
            *rest = behind;
            Ok(Some(Word { bytes: Bytes::copy_from_slice(word), quoted: false }))
        }
    }
}

/// A value: all that is left of a line, as it is unless it begins with a quote.
pub fn read_value(mut rest: &[u8]) -> Result<Bytes, Error> {
    if rest.first() != Some(&b'"') {
        return Ok(Bytes::copy_from_slice(rest));
    }
    let value = unquote(&mut rest)?;
    if !rest.is_empty() {
        return Err(bad_arguments("a closing quote must end the line; write \\\" for a quote inside"));
    }
    Ok(value)
}

/// Takes a quoted string, which must begin at `rest`, and leaves what is behind its closing quote.
fn unquote(rest: &mut &[u8]) -> Result<Bytes, Error> {
    let mut bytes = rest.iter().copied().enumerate().skip(1);
    let mut value = Vec::new();
    while let Some((position, byte)) = bytes.next() {
        match byte {
            b'"' => {
                *rest = &rest[position + 1..];
                return Ok(value.into());
            }
            b'\\' => value.push(unescape(bytes.by_ref().map(|(_, byte)| byte))?),
            byte => value.push(byte),
        }
    }
    Err(bad_arguments("a quote is opened and never closed; write \\\" for a quote inside"))
}

/// What follows a backslash.
fn unescape(mut bytes: impl Iterator<Item = u8>) -> Result<u8, Error> {
    let hex_digit = |bytes: &mut dyn Iterator<Item = u8>| bytes.next().and_then(|b| char::from(b).to_digit(16));
    match bytes.next() {
        Some(b'n') => Ok(b'\n'),
        Some(b'r') => Ok(b'\r'),
        Some(b't') => Ok(b'\t'),
        Some(byte @ (b'"' | b'\\')) => Ok(byte),
        Some(b'x') => match (hex_digit(&mut bytes), hex_digit(&mut bytes)) {
            (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
            _ => Err(bad_arguments("\\x in quotes wants two hexadecimal digits, as in \\x00")),
        },
        _ => Err(bad_arguments("a backslash in quotes is followed by n, r, t, \", \\ or xHH")),
    }
}

pub fn bad_arguments(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::BadArguments, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use crate::wire::testing;

    fn key(bytes: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        write_key(bytes, &mut out);
        out.to_vec()
    }

    fn value(bytes: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        write_value(bytes, &mut out);
        out.to_vec()
    }

    fn read_key(mut line: &[u8]) -> Result<Option<Word>, Error> {
        take_word(&mut line)
    }

    #[test]
    fn what_is_plain_is_bare() {
        for plain in ["a", "user:17", "naïve", "a\\b", "it's", "a\"b", "(", "OK", "PONG", "END1", "Error", "日本"] {
            let expected = if plain == "(" { "\"(\"" } else { plain };
            assert_eq!(key(plain.as_bytes()), expected.as_bytes());
            assert_eq!(value(plain.as_bytes()), expected.as_bytes());
        }
        assert_eq!(value(b"two words"), b"two words");
        assert_eq!(value(b"END"), b"END");
    }

    #[test]
    fn what_could_be_misread_is_quoted() {
        for (bytes, quoted) in [
            (&b""[..], &b"\"\""[..]),
            (b" a", b"\" a\""),
            (b"a ", b"\"a \""),
            (b"\"a", b"\"\\\"a\""),
            (b"(nil)", b"\"(nil)\""),
            (b"ERR no_leader", b"\"ERR no_leader\""),
            (b"ERROR", b"\"ERROR\""),
            (b"a\nb\r\t", b"\"a\\nb\\r\\t\""),
            (b"a\n\\", b"\"a\\n\\\\\""),
            (b"\0\x1b[2J\x7f", b"\"\\x00\\x1b[2J\\x7f\""),
            (b"caf\xe9", b"\"caf\\xe9\""),
            ("\u{85}".as_bytes(), b"\"\\xc2\\x85\""),
            ("é\n".as_bytes(), "\"é\\n\"".as_bytes()),
        ] {
            assert_eq!(value(bytes), quoted, "{bytes:?}");
            assert_eq!(key(bytes), quoted, "{bytes:?}");
        }
        assert_eq!(key(b"two words"), b"\"two words\"");
        assert_eq!(key(b"END"), b"\"END\"");
    }

    /// The rule as it is promised to users, written down again.
    fn is_no_other_answer(printed: &[u8], is_key: bool) {
        let text = std::str::from_utf8(printed).expect("what is printed is UTF-8");
        assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?} is one line that a terminal may see");
        if !text.starts_with('"') {
            assert!(!text.starts_with('(') && !text.starts_with("ERR"), "{text:?} could be another answer");
            assert_eq!(text.trim_matches(' '), text, "the ends of {text:?} can be seen");
            assert!(!is_key || (text != "END" && !text.contains(' ')), "{text:?} is one word and ends no listing");
        }
    }

    #[test]
    fn every_byte_string_survives_as_key_and_as_value() {
        let every_byte = (0..=255).map(|byte| Bytes::from(vec![byte]));
        let random = (0..20_000).map(|seed| testing::bytes(&mut Random::new(seed), 0));
        for bytes in every_byte.chain(random) {
            let (key, value) = (key(&bytes), value(&bytes));
            is_no_other_answer(&key, true);
            is_no_other_answer(&value, false);
            assert_eq!(read_value(&value), Ok(bytes.clone()), "{bytes:?}");
            assert_eq!(read_key(&key).unwrap().unwrap().bytes, bytes, "{bytes:?}");
            let line = [b"  ", &key[..], b" rest"].concat();
            let mut rest = &line[..];
            assert_eq!(take_word(&mut rest).unwrap().unwrap().bytes, bytes, "{bytes:?}");
            assert_eq!(rest, b" rest");
        }
    }

    #[test]
    fn a_quote_must_close_where_its_word_or_line_ends() {
        for wrong in ["\"", "\"a", "\"a\\\"", "\"a\"b", "\"a\\q\"", "\"\\x1\"", "\"\\xzz\"", "\"a\\"] {
            assert_eq!(read_value(wrong.as_bytes()).unwrap_err().code, ErrorCode::BadArguments, "{wrong}");
            assert_eq!(read_key(wrong.as_bytes()).unwrap_err().code, ErrorCode::BadArguments, "{wrong}");
        }
        assert!(read_value(b"\"a\" ").is_err());
        assert!(read_key(b"\"a\" ").is_ok());
        assert_eq!(read_value(b"\"\\x00\\xFf\""), Ok(Bytes::from_static(b"\0\xff")));
    }
}
