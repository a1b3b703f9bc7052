//! Histories as text. The format is described at the top of the crate.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::str::FromStr;

use bytes::Bytes;

use crate::history::{History, Operation, Outcome, Record};

/// The longest line: what fits a frame of raftkv, all of it as `\xHH`, and the words around.
pub const LINE_BYTES_MAX: usize = 65 * 1024 * 1024;

/// Why a file is no history.
#[derive(Debug)]
pub enum FormatError {
    Read(io::Error),
    Line { number: u64, why: String },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Read(error) => write!(f, "it can't be read: {error}"),
            FormatError::Line { number, why } => write!(f, "line {number}: {why}"),
        }
    }
}

impl std::error::Error for FormatError {}

/// Reads a whole file.
pub fn read(mut lines: impl BufRead) -> Result<History, FormatError> {
    let (mut history, mut line) = (History::new(), Vec::new());
    for number in 1.. {
        line.clear();
        let mut bounded = (&mut lines).take(LINE_BYTES_MAX as u64 + 1);
        if bounded.read_until(b'\n', &mut line).map_err(FormatError::Read)? == 0 {
            break;
        }
        if let Some(record) = parse_line(&line).map_err(|why| FormatError::Line { number, why })? {
            history.push(record);
        }
    }
    Ok(history)
}

fn parse_line(line: &[u8]) -> Result<Option<Record>, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("it is longer than {LINE_BYTES_MAX} bytes"));
    }
    let line = std::str::from_utf8(line).map_err(|_| "it is no text; bytes are written as \\xHH".to_string())?;
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    line.parse().map(Some)
}

impl FromStr for Record {
    type Err = String;

    fn from_str(line: &str) -> Result<Record, String> {
        let mut words = Words(line);
        let client = words.number("the client")?;
        let invoked_ns = words.number("the time of the invocation")?;
        let completed_ns = match words.plain("the time of the answer, or -")? {
            "-" => None,
            word => Some(number(word, "the time of the answer")?),
        };
        if completed_ns.is_some_and(|completed_ns| completed_ns < invoked_ns) {
            return Err("it is answered before it is invoked".to_string());
        }
        let operation = words.operation()?;
        words.expect("->")?;
        let outcome = words.outcome(completed_ns.is_some())?;
        let revision = words.revision()?;
        Ok(Record { client, invoked_ns, completed_ns, operation, outcome, revision })
    }
}

fn number<N: FromStr>(word: &str, what: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("{what} is a number, and not {word:?}"))
}

/// What is left of a line.
struct Words<'a>(&'a str);

enum Word<'a> {
    Plain(&'a str),
    Quoted(Bytes),
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<Option<Word<'a>>, String> {
        self.0 = self.0.trim_start();
        if let Some(quoted) = self.0.strip_prefix('"') {
            let (bytes, rest) = unquote(quoted)?;
            self.0 = rest;
            return Ok(Some(Word::Quoted(bytes)));
        }
        let end = self.0.find(char::is_whitespace).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        Ok((!word.is_empty()).then_some(Word::Plain(word)))
    }

    fn plain(&mut self, what: &str) -> Result<&'a str, String> {
        match self.next()? {
            Some(Word::Plain(word)) => Ok(word),
            Some(Word::Quoted(_)) => Err(format!("there is a string where {what} should be")),
            None => Err(format!("it ends where {what} should be")),
        }
    }

    fn number<N: FromStr>(&mut self, what: &str) -> Result<N, String> {
        number(self.plain(what)?, what)
    }

    fn expect(&mut self, expected: &str) -> Result<(), String> {
        match self.plain(expected)? {
            word if word == expected => Ok(()),
            word => Err(format!("there is {word:?} where {expected} should be")),
        }
    }

    fn bytes(&mut self, what: &str) -> Result<Bytes, String> {
        match self.next()? {
            Some(Word::Quoted(bytes)) => Ok(bytes),
            Some(Word::Plain(word)) => Err(format!("{what} is in double quotes, and {word:?} is not")),
            None => Err(format!("it ends where {what} should be")),
        }
    }

    fn operation(&mut self) -> Result<Operation, String> {
        match self.plain("put, delete, get or list")? {
            "put" => Ok(Operation::Put { key: self.bytes("the key")?, value: self.bytes("the value")? }),
            "delete" => Ok(Operation::Delete { key: self.bytes("the key")? }),
            "get" => Ok(Operation::Get { key: self.bytes("the key")? }),
            "list" => {
                let prefix = self.bytes("the prefix")?;
                let after = match self.next()? {
                    Some(Word::Quoted(after)) => Some(after),
                    Some(Word::Plain("-")) => None,
                    _ => return Err("AFTER is a string, or -".to_string()),
                };
                Ok(Operation::List { prefix, after, limit: self.number("the limit")? })
            }
            word => Err(format!("{word:?} is none of put, delete, get and list")),
        }
    }

    /// `None`: open, or failed.
    fn outcome(&mut self, completed: bool) -> Result<Option<Outcome>, String> {
        let outcome = match self.next()? {
            Some(Word::Quoted(value)) => Outcome::Value(Some(value)),
            Some(Word::Plain("nil")) => Outcome::Value(None),
            Some(Word::Plain("ok")) => Outcome::Put,
            Some(Word::Plain("existed")) => Outcome::Deleted { existed: true },
            Some(Word::Plain("absent")) => Outcome::Deleted { existed: false },
            Some(Word::Plain("keys")) => self.page()?,
            Some(Word::Plain("failed")) if completed => return Ok(None),
            Some(Word::Plain("unknown")) if !completed => return Ok(None),
            Some(Word::Plain("failed")) => return Err("what failed has a time at which that was known".to_string()),
            Some(Word::Plain("unknown")) => return Err("what is unknown has no time of an answer".to_string()),
            Some(Word::Plain(word)) => return Err(format!("{word:?} is no outcome")),
            None => return Err("it ends where the outcome should be".to_string()),
        };
        match completed {
            true => Ok(Some(outcome)),
            false => Err("what has no time of an answer is unknown".to_string()),
        }
    }

    fn page(&mut self) -> Result<Outcome, String> {
        let mut keys = Vec::new();
        loop {
            match self.next()? {
                Some(Word::Quoted(key)) => keys.push(key),
                Some(Word::Plain("end")) => return Ok(Outcome::Keys { keys, more: false }),
                Some(Word::Plain("more")) => return Ok(Outcome::Keys { keys, more: true }),
                Some(Word::Plain(word)) => return Err(format!("there is {word:?} among the keys of a page")),
                None => return Err("a page ends with end or more".to_string()),
            }
        }
    }

    fn revision(&mut self) -> Result<Option<u64>, String> {
        let Some(word) = self.next()? else { return Ok(None) };
        let digits = match word {
            Word::Plain(word) => word.strip_prefix('@').ok_or_else(|| format!("{word:?} is no revision, as @12 is"))?,
            Word::Quoted(_) => return Err("there is a string behind the outcome".to_string()),
        };
        match self.next()? {
            None => number(digits, "the revision").map(Some),
            Some(_) => Err("there is something behind the revision".to_string()),
        }
    }
}

/// Takes the rest of a quoted string, and gives what is behind it.
fn unquote(text: &str) -> Result<(Bytes, &str), String> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    loop {
        let end = rest.find(['"', '\\']).ok_or("a string has no closing quote")?;
        bytes.extend_from_slice(&rest.as_bytes()[..end]);
        if let Some(behind) = rest[end..].strip_prefix('"') {
            return match behind.chars().next() {
                Some(next) if !next.is_whitespace() => Err(format!("there is {next:?} right behind a string")),
                _ => Ok((bytes.into(), behind)),
            };
        }
        let escape = &rest[end + 1..];
        let (byte, length) = escaped(escape.as_bytes()).ok_or("a backslash stands before \", \\ or xHH")?;
        bytes.push(byte);
        rest = &escape[length..];
    }
}

/// The byte that stands behind a backslash, and in how many signs.
fn escaped(escape: &[u8]) -> Option<(u8, usize)> {
    match escape {
        [sign @ (b'"' | b'\\'), ..] => Some((*sign, 1)),
        [b'x', high, low, ..] => Some((hex(*high)? << 4 | hex(*low)?, 3)),
        _ => None,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Bytes as they stand in a file.
pub(crate) struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        let (mut rest, is_plain) = (self.0, |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
        while !rest.is_empty() {
            let plain = rest.iter().take_while(|byte| is_plain(byte)).count();
            f.write_str(&String::from_utf8_lossy(&rest[..plain]))?;
            match rest.get(plain) {
                Some(sign @ (b'"' | b'\\')) => write!(f, "\\{}", char::from(*sign))?,
                Some(byte) => write!(f, "\\x{byte:02x}")?,
                None => break,
            }
            rest = &rest[plain + 1..];
        }
        f.write_str("\"")
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.client, self.invoked_ns)?;
        match self.completed_ns {
            Some(completed_ns) => write!(f, "{completed_ns} ")?,
            None => f.write_str("- ")?,
        }
        write!(f, "{} -> ", self.operation)?;
        match (&self.outcome, self.completed_ns) {
            (Some(outcome), _) => write!(f, "{outcome}")?,
            (None, Some(_)) => f.write_str("failed")?,
            (None, None) => f.write_str("unknown")?,
        }
        self.revision.map_or(Ok(()), |revision| write!(f, " @{revision}"))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Put { key, value } => write!(f, "put {} {}", Quoted(key), Quoted(value)),
            Operation::Delete { key } => write!(f, "delete {}", Quoted(key)),
            Operation::Get { key } => write!(f, "get {}", Quoted(key)),
            Operation::List { prefix, after, limit } => {
                write!(f, "list {} ", Quoted(prefix))?;
                match after {
                    Some(after) => write!(f, "{} {limit}", Quoted(after)),
                    None => write!(f, "- {limit}"),
                }
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Put => f.write_str("ok"),
            Outcome::Deleted { existed: true } => f.write_str("existed"),
            Outcome::Deleted { existed: false } => f.write_str("absent"),
            Outcome::Value(Some(value)) => write!(f, "{}", Quoted(value)),
            Outcome::Value(None) => f.write_str("nil"),
            Outcome::Keys { keys, more } => {
                f.write_str("keys")?;
                keys.iter().try_for_each(|key| write!(f, " {}", Quoted(key)))?;
                f.write_str(if *more { " more" } else { " end" })
            }
        }
    }
}
