//! What a leader knows of one peer: how far its log is known to match, and what is on its way there.
//!
//! | state | sends | goes on |
//! |---|---|---|
//! | Probe | one message, repeated when a heartbeat is answered | accepted: Replicate; rejected: Probe, further back |
//! | Replicate | all there is, pipelined, within the window | rejected, link down or no answer: Probe |
//! | Fetching | nothing: what comes next must be read from the segments | fetched: Replicate |

use std::collections::VecDeque;
use std::time::Duration;

use super::Config;
use crate::base::{Entry, InstanceId, LogIndex, Member, Moment, Space};
use crate::guard::{Guard, removed};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Probe { sent: bool },
    Replicate,
    Fetching,
}

pub(super) struct Progress {
    pub mode: Mode,
    /// The prefix that the peer has said to be durable there, in this term.
    pub matched: LogIndex,
    /// The next entry to send.
    pub next: LogIndex,
    /// The directory that speaks for the peer; `None` until it is heard.
    pub instance: Option<InstanceId>,
    pub heard_at: Option<Moment>,
    /// The latest read round that it has echoed in this term.
    pub round: u64,
    /// Until then, on this node's clock, it helps nobody else to lead; `None`: it has promised nothing in this term.
    pub promised_until: Option<Moment>,
    pub appended_at: Moment,
    /// Of its disk, as it said last.
    pub space: Space,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
}

struct InFlight {
    last: LogIndex,
    bytes: usize,
    sent_at: Moment,
}

impl Progress {
    pub fn new(next: LogIndex, now: Moment) -> Progress {
        Progress {
            mode: Mode::Probe { sent: false },
            matched: LogIndex::ZERO,
            next,
            instance: None,
            heard_at: None,
            round: 0,
            promised_until: None,
            appended_at: now,
            space: Space::Plenty,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        }
    }

    /// Whether what the peer says counts: it speaks from the directory that the log has recorded for it.
    pub fn counts(&self, member: &Member) -> bool {
        self.instance.is_some() && (self.instance == member.instance || removed(Guard::StrangerCounts))
    }

    /// Goes back to finding out where the logs agree, from `next` on; all that was under way is given up.
    pub fn probe_from(&mut self, next: LogIndex) {
        self.mode = Mode::Probe { sent: false };
        self.next = next.max(self.matched.next());
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    pub fn on_sent(&mut self, entries: &[Entry], now: Moment) {
        let last = entries.last().map_or(self.next.prev(), |entry| entry.index);
        let bytes = entries.iter().map(Entry::cost_bytes).sum();
        self.next = last.next();
        self.appended_at = now;
        self.in_flight.push_back(InFlight { last, bytes, sent_at: now });
        self.in_flight_bytes += bytes;
    }

    /// `acked` is told when each of the messages was sent that this acknowledges.
    pub fn on_accepted(&mut self, matched: LogIndex, mut acked: impl FnMut(Moment)) {
        self.matched = self.matched.max(matched);
        if self.matched >= self.next {
            // An answer from before the last probe: nothing is to be fetched for what the peer has.
            self.next = self.matched.next();
            self.mode = Mode::Replicate;
        }
        while self.in_flight.front().is_some_and(|message| message.last <= self.matched) {
            let message = self.in_flight.pop_front().expect("there is a first message");
            self.in_flight_bytes -= message.bytes;
            acked(message.sent_at);
        }
        if let Mode::Probe { .. } = self.mode {
            // From the verified prefix on: whatever the probe itself carried may not have been accepted.
            self.next = self.matched.next();
            self.mode = Mode::Replicate;
        }
    }

    /// A message of any size may go while the window has room at all, so that a large entry gets through.
    pub fn window_is_open(&self, config: &Config) -> bool {
        self.in_flight.len() < config.window_messages_max && self.in_flight_bytes < config.window_bytes_max
    }

    pub fn nothing_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether an append has gone unanswered for `patience`.
    pub fn is_unanswered(&self, now: Moment, patience: Duration) -> bool {
        self.in_flight.front().is_some_and(|message| now.since(message.sent_at) >= patience)
    }
}
