//! What happened, as a hash that two runs of one seed must share, and as lines that a person can read.
//!
//! Every event of a run is noted with its time, its node, what it was, and one number; the hash goes over these. The
//! text is made only when somebody will read it: a seed that fails is run again with the text on.

use std::collections::VecDeque;
use std::fmt;

use super::world::Time;

/// Lines that are kept for a failure.
const LINES_KEPT: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Start,
    Refuse,
    End,
    Kill,
    Power,
    Pause,
    Turn,
    Persist,
    Lead,
    Commit,
    LinkUp,
    LinkDown,
    Lose,
    Receive,
    Ask,
    Answer,
    GiveUp,
    Connect,
    Nemesis,
    Phase,
}

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    None,
    /// Only the last ones are kept.
    OfAFailure,
    /// Every line is printed at once.
    Console,
}

pub struct Trace {
    hash: u64,
    events: u64,
    readers: Readers,
    lines: VecDeque<String>,
}

impl Trace {
    pub fn new(readers: Readers) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, readers, lines: VecDeque::new() }
    }

    pub fn note(&mut self, now: Time, node: usize, kind: Kind, number: u64, text: fmt::Arguments<'_>) {
        self.events += 1;
        self.mix(now ^ (node as u64) << 56 ^ (kind as u64) << 48);
        self.mix(number);
        if self.readers != Readers::None {
            self.write(now, node, kind, text);
        }
    }

    /// Takes a number into the hash that is no event: a final state.
    pub fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    #[cold]
    fn write(&mut self, now: Time, node: usize, kind: Kind, text: fmt::Arguments<'_>) {
        let (seconds, micros) = (now / 1_000_000_000, now / 1000 % 1_000_000);
        let who = if node == 0 { "  ".to_string() } else { format!("n{node}") };
        let line = format!("{seconds:3}.{micros:06} {who} {:<8} {text}", format!("{kind:?}"));
        if self.readers == Readers::Console {
            println!("{line}");
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
