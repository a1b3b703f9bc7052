//! `put`, `get`, `delete` and `list`: one command, for scripts.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use clap::Args;

use super::Exit;
use super::common::{ReadArgs, ServerArgs};
use super::output::{self, Format, complain, emit};
use crate::api::{self, ErrorCode, Outcome, Request};
use crate::base::Operation;
use crate::base::limits::VALUE_BYTES_MAX;
use crate::client::{Client, Error, Page};

/// Stores a value under a key
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  raftkv put greeting 'hello world'
  raftkv put picture - < picture.png          the value from standard input, to its end, as it is
  raftkv put --server a:5001,b:5001 -- -k -v  behind -- nothing is an option")]
pub struct PutArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Any bytes, at most 4 KiB
    key: OsString,
    /// Any bytes, at most 1 MiB; `-` reads them from standard input
    value: OsString,
}

/// Prints the value of a key, or (nil)
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  raftkv get greeting
  raftkv get --raw picture > picture.png
  raftkv get --json greeting | jq -r .value
  raftkv get --server b:5001 --read any greeting      node b answers, and need not lead")]
pub struct GetArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    read: ReadArgs,
    /// Print the value's bytes and nothing else: no quotes, no line end, nothing for an absent key
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Any bytes, at most 4 KiB
    key: OsString,
}

/// Removes a key; prints OK, or (nil) if it was absent
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  raftkv delete greeting")]
pub struct DeleteArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Any bytes, at most 4 KiB
    key: OsString,
}

/// Prints keys in order, one a line, or (empty)
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  raftkv list user/ --limit 10
  raftkv list --json | jq -r '.keys[]'        an object for each page of up to 1,000 keys")]
pub struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    read: ReadArgs,
    /// Print the keys' bytes without quotes
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Only keys that start with this [default: all]
    #[arg(default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// Only keys behind this one, itself not [default: from the first]
    #[arg(long, value_name = "KEY")]
    after: Option<OsString>,
    /// At most this many keys [default: all]
    #[arg(long, value_name = "COUNT", value_parser = key_count)]
    limit: Option<usize>,
}

/// 0 is refused, as in the line protocol: within the program it stands for no limit.
fn key_count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a number of keys, 1 or more".to_string())
}

pub fn put(args: PutArgs) -> Exit {
    let value = match read_value(args.value) {
        Ok(value) => value,
        Err(error) => return failed(&error, format(&args.server)),
    };
    run(args.server.client(), format(&args.server), Request::Write(Operation::Put { key: bytes(args.key), value }))
}

pub fn delete(args: DeleteArgs) -> Exit {
    run(args.server.client(), format(&args.server), Request::Write(Operation::Delete { key: bytes(args.key) }))
}

pub fn get(args: GetArgs) -> Exit {
    let request = Request::Get { key: bytes(args.key), revision: None };
    let mut client = args.server.reader(args.read);
    if !args.raw {
        return run(client, format(&args.server), request);
    }
    match client.call(&request) {
        Ok(Outcome::Value { found, .. }) => emit(&found.map_or_else(Bytes::new, |found| found.value.into())),
        Ok(other) => emit(&output::outcome(other, Format::Raw)),
        Err(error) => failed(&error, Format::Raw),
    }
}

pub fn list(args: ListArgs) -> Exit {
    let format = if args.raw { Format::Raw } else { format(&args.server) };
    let mut client = args.server.reader(args.read);
    let mut first = true;
    for page in client.list_all(bytes(args.prefix), args.after.map(bytes), args.limit) {
        match page {
            Ok(Page { keys, .. }) if keys.is_empty() && !first => {}
            Ok(Page { revision, keys, more }) => {
                let exit = emit(&output::outcome(Outcome::Keys { revision, keys, more }, format));
                if exit != Exit::Done {
                    return exit;
                }
            }
            Err(error) => return failed(&error, format),
        }
        first = false;
    }
    Exit::Done
}

fn run(mut client: Client, format: Format, request: Request) -> Exit {
    match client.call(&request) {
        Ok(outcome) => emit(&output::outcome(outcome, format)),
        Err(error) => failed(&error, format),
    }
}

/// JSON answers are all on standard output; otherwise what failed is for the person.
fn failed(error: &Error, format: Format) -> Exit {
    match format {
        Format::Json => {
            emit(&output::failure(error, format));
        }
        Format::Text | Format::Raw => complain(&format!("{}: {}", error.code(), error.message())),
    }
    Exit::from(error)
}

fn format(server: &ServerArgs) -> Format {
    if server.answers.json { Format::Json } else { Format::Text }
}

fn bytes(argument: OsString) -> Bytes {
    argument.into_vec().into()
}

/// The value itself, or standard input for `-`: read one byte past the limit, so that what is too large is
/// refused without being held.
fn read_value(argument: OsString) -> Result<Bytes, Error> {
    if argument != "-" {
        return Ok(bytes(argument));
    }
    let refused = |code, message| Error::Refused(api::Error::new(code, message));
    let mut value = Vec::new();
    let mut bounded = std::io::stdin().lock().take(VALUE_BYTES_MAX as u64 + 1);
    bounded
        .read_to_end(&mut value)
        .map_err(|error| refused(ErrorCode::BadArguments, format!("standard input can't be read: {error}")))?;
    if value.len() > VALUE_BYTES_MAX {
        let message =
            format!("standard input has more than {VALUE_BYTES_MAX} bytes, the limit of a value; store it in parts");
        return Err(refused(ErrorCode::ValueTooLarge, message));
    }
    Ok(value.into())
}
