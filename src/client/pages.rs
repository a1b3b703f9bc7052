//! A listing of any length, page by page.

use bytes::Bytes;

use super::{Client, Error};
use crate::base::Revision;
use crate::base::limits::PAGE_KEYS_DEFAULT;

/// Some of the keys, ascending, as they were at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub revision: Revision,
    pub keys: Vec<Bytes>,
    /// Keys lie behind the last one.
    pub more: bool,
}

/// Asks for a page at each `next`. Ends behind the last page or behind an error; there is always a first item.
#[derive(Debug)]
pub struct Pages<'a> {
    client: &'a mut Client,
    prefix: Bytes,
    after: Option<Bytes>,
    /// Keys that may still be given; `None`: all there are.
    left: Option<usize>,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(client: &'a mut Client, prefix: Bytes, after: Option<Bytes>, limit: Option<usize>) -> Pages<'a> {
        Pages { client, prefix, after, left: limit, ended: false }
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Page, Error>;

    fn next(&mut self) -> Option<Result<Page, Error>> {
        if self.ended {
            return None;
        }
        let limit = self.left.map_or(PAGE_KEYS_DEFAULT, |left| left.min(PAGE_KEYS_DEFAULT));
        let page = match self.client.list(self.prefix.clone(), self.after.clone(), limit) {
            Ok(page) => page,
            Err(error) => {
                self.ended = true;
                return Some(Err(error));
            }
        };
        self.left = self.left.map(|left| left.saturating_sub(page.keys.len()));
        // A page that is empty although there is more would be asked for ever.
        self.ended = !page.more || page.keys.is_empty() || self.left == Some(0);
        self.after = page.keys.last().cloned().or(self.after.take());
        Some(Ok(page))
    }
}
