//! What a read is answered with, from the state at one revision. Pure; by consensus and by whoever reads beside it.

use crate::api::{Error, ErrorCode, Found, Leader, Outcome, Reply, Request};
use crate::base::Record;
use crate::base::limits::{FRAME_BYTES_MAX, RESULT_KEYS_MAX, SHORT_READ_KEYS_MAX};
use crate::kv;

/// Room in a frame for what stands beside the keys of a listing.
const FRAME_SLACK_BYTES: usize = 4 * 1024;

/// Whether it is a read that holds the state for no longer than consensus may be kept waiting.
pub fn is_short(request: &Request) -> bool {
    match request {
        Request::Get { .. } => true,
        Request::List { limit, .. } => (1..=SHORT_READ_KEYS_MAX).contains(limit),
        Request::Write(_) | Request::Status | Request::Scrub | Request::Latency => false,
    }
}

pub fn answer(view: kv::View<'_>, request: &Request, leader: Option<Leader>) -> Reply {
    let result = match request {
        Request::Get { key, revision } => view.get_at(key, *revision).map(|found| Outcome::Value {
            revision: revision.unwrap_or(view.revision()),
            found: found.map(self::found),
        }),
        Request::List { prefix, after, limit, revision } => {
            let bytes_max = FRAME_BYTES_MAX - FRAME_SLACK_BYTES;
            let keys_max = if *limit == 0 { RESULT_KEYS_MAX } else { (*limit).min(RESULT_KEYS_MAX) };
            match view.list_at(prefix, after.as_deref(), keys_max, bytes_max, *revision) {
                Ok(page) if page.more && *limit == 0 => return too_large(leader),
                Ok(page) => Ok(Outcome::Keys { revision: page.revision, keys: page.keys, more: page.more }),
                Err(error) => Err(error),
            }
        }
        Request::Write(_) | Request::Status | Request::Scrub | Request::Latency => {
            unreachable!("writes go through the log, and these are answered at once")
        }
    };
    Reply { result: result.map_err(revision_error), leader }
}

pub fn found(record: &Record) -> Found {
    Found {
        value: record.clone().into(),
        create_revision: record.create_revision(),
        mod_revision: record.mod_revision(),
        version: record.version(),
    }
}

fn too_large(leader: Option<Leader>) -> Reply {
    let message = format!("the listing passes the frame limit of {FRAME_BYTES_MAX} bytes; ask for pages with a limit");
    Reply::refused(ErrorCode::ResultTooLarge, message, leader)
}

fn revision_error(error: kv::RevisionError) -> Error {
    let code = match error {
        kv::RevisionError::Compacted { .. } => ErrorCode::RevisionCompacted,
        kv::RevisionError::Future { .. } => ErrorCode::RevisionFuture,
    };
    Error::new(code, error.to_string())
}
