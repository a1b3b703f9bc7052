//! The one thread that drives all connections: connects, issues, reads answers, keeps time. It costs little, since
//! it shares its machine with the nodes: work follows events, and a sweep over all connections comes only each 10 ms.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use raftkv::api::{Applied, ReadBy};

use crate::history::{Asked, End, Recorder};
use crate::link::{Answered, Link, Protocol, Sent, Verdict};
use crate::plan::Mixer;
use crate::report::{Report, Second};
use crate::timer::Timer;

/// Between two looks at all connections: those to be dialed again, those that pause, those that hang.
const SWEEP: Duration = Duration::from_millis(10);
/// A connection pauses for this long behind a refusal, and a failed address is dialed again after it.
const PAUSE: Duration = Duration::from_millis(20);
/// A leader's address that could not be dialed is left alone for this long.
const AVOID: Duration = Duration::from_secs(1);
/// What is under way at the end may still be answered within this time.
const DRAIN: Duration = Duration::from_secs(10);
const TIMER: Token = Token(usize::MAX);

#[derive(Clone, Debug)]
pub struct Settings {
    /// All nodes; connection n begins at number n, and goes on to the next when one fails.
    pub addresses: Vec<String>,
    /// Where all connections begin and, as far as the protocol names it, return to.
    pub leader: Option<String>,
    pub connections: usize,
    /// Requests under way on one connection.
    pub depth: usize,
    /// Operations per second, over all connections; `None`: closed loop.
    pub rate: Option<f64>,
    pub protocol: Protocol,
    /// A request that waits for longer closes its connection.
    pub timeout: Duration,
}

/// When to stop issuing.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After both; what was to be sent during the warm-up is not measured.
    Time {
        warmup: Duration,
        measured: Duration,
    },
    Count(u64),
}

struct Slot {
    link: Option<Link>,
    address: String,
    /// Into `addresses`, the next to dial.
    next: usize,
    dial_at: Instant,
    /// Nothing is issued before, behind a refusal.
    resume_at: Instant,
    /// Issues nothing more and goes there once all is answered.
    moves_to: Option<String>,
    /// More may be readable, though no event says so (the poll is edge-triggered).
    unread: bool,
}

pub struct Driver<'a> {
    settings: Settings,
    read_by: ReadBy,
    mixer: &'a mut Mixer,
    report: &'a mut Report,
    recorder: Option<&'a mut Recorder>,
    poll: Poll,
    timer: Timer,
    slots: Vec<Slot>,
    resolved: BTreeMap<String, SocketAddr>,
    avoided: BTreeMap<String, Instant>,
    answers: Vec<Answered>,
    buffer: Vec<u8>,
    start: Instant,
    until: Until,
    issued: u64,
    /// Where the search for a connection with room goes on, in the open loop.
    cursor: usize,
    draining: Option<Instant>,
}

impl<'a> Driver<'a> {
    pub fn new(
        settings: Settings,
        mixer: &'a mut Mixer,
        report: &'a mut Report,
        until: Until,
    ) -> io::Result<Driver<'a>> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let start = Instant::now();
        let slot = |at: usize| Slot {
            link: None,
            address: settings
                .leader
                .clone()
                .unwrap_or_else(|| settings.addresses[at % settings.addresses.len()].clone()),
            next: at,
            dial_at: start,
            resume_at: start,
            moves_to: None,
            unread: false,
        };
        let slots = (0..settings.connections).map(slot).collect();
        Ok(Driver {
            settings,
            read_by: ReadBy::Leader,
            mixer,
            report,
            recorder: None,
            poll,
            timer,
            slots,
            resolved: BTreeMap::new(),
            avoided: BTreeMap::new(),
            answers: Vec::new(),
            buffer: Vec::new(),
            start,
            until,
            issued: 0,
            cursor: 0,
            draining: None,
        })
    }

    /// Every operation goes to the recorder, those of the warm-up too.
    pub fn recorded(mut self, recorder: Option<&'a mut Recorder>) -> Driver<'a> {
        self.recorder = recorder;
        self
    }

    /// Who may answer the reads.
    pub fn reading_by(mut self, read_by: ReadBy) -> Driver<'a> {
        self.read_by = read_by;
        self
    }

    /// Runs to the end; `each_second` gets what each measured second brought. Gives how long was measured.
    pub fn run(&mut self, mut each_second: impl FnMut(Second)) -> io::Result<Duration> {
        let mut events = Events::with_capacity(1024);
        let mut touched: Vec<usize> = (0..self.slots.len()).collect();
        let (mut sweep_at, mut second_from) = (self.start, self.measured_from());
        loop {
            let now = Instant::now();
            if now >= sweep_at {
                self.sweep(now);
                touched = (0..self.slots.len()).collect();
                sweep_at = now + SWEEP;
            }
            if now >= second_from + Duration::from_secs(1) && self.draining.is_none() {
                each_second(self.report.second(Duration::from_secs(1)));
                second_from += Duration::from_secs(1);
            }
            if self.is_over(now) {
                break;
            }
            let due = self.issue(&mut touched, now);
            let unread = self.slots.iter().any(|slot| slot.unread);
            let wake_at = if unread { now } else { due.unwrap_or(sweep_at).min(sweep_at) };
            let timeout = self.timer.set(wake_at)?;
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in events.iter().filter(|event| event.token() != TIMER) {
                let at = event.token().0;
                let ended = event.is_read_closed() || event.is_error();
                self.on_event(at, event.is_writable(), event.is_readable() || ended, ended);
                touched.push(at);
            }
            if unread {
                self.read_on(&mut touched);
            }
        }
        let ended = self.draining.unwrap_or_else(Instant::now);
        Ok(ended.saturating_duration_since(self.measured_from()).max(Duration::from_millis(1)))
    }

    fn measured_from(&self) -> Instant {
        match self.until {
            Until::Time { warmup, .. } => self.start + warmup,
            Until::Count(_) => self.start,
        }
    }

    fn is_issuing(&self, now: Instant) -> bool {
        match self.until {
            Until::Time { warmup, measured } => now < self.start + warmup + measured,
            Until::Count(count) => self.issued < count,
        }
    }

    /// Whether nothing more will come. What is still under way when the patience ends counts as failed.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.is_issuing(now) {
            return false;
        }
        let since = *self.draining.get_or_insert(now);
        let waiting = self.slots.iter().any(|slot| slot.link.as_ref().is_some_and(|link| link.waiting() > 0));
        if waiting && now < since + DRAIN {
            return false;
        }
        for at in 0..self.slots.len() {
            self.give_up(at, "unanswered", now);
        }
        true
    }

    /// Issues what may be; in the open loop, gives when the next operation is due if there is room for it.
    fn issue(&mut self, touched: &mut Vec<usize>, now: Instant) -> Option<Instant> {
        let due = match self.settings.rate {
            Some(rate) => self.issue_due(rate, now, touched),
            None => {
                for at in &*touched {
                    self.fill(*at, now);
                }
                None
            }
        };
        for at in touched.drain(..) {
            self.maybe_move(at, now);
            let flushed = self.slots[at].link.as_mut().map_or(Ok(()), Link::flush);
            if let Err(error) = flushed {
                self.on_broken(at, &error, now);
            }
        }
        due
    }

    fn has_room(&self, at: usize, now: Instant) -> bool {
        let slot = &self.slots[at];
        let room = slot.link.as_ref().is_some_and(|link| link.waiting() < self.settings.depth);
        room && slot.moves_to.is_none() && now >= slot.resume_at
    }

    fn fill(&mut self, at: usize, now: Instant) {
        while self.has_room(at, now) && self.is_issuing(now) {
            self.send(at, now);
        }
    }

    fn send(&mut self, at: usize, since: Instant) {
        let request = self.mixer.draw();
        let asked = self.recorder.as_ref().and_then(|_| Asked::now(&request));
        if let Some(link) = &mut self.slots[at].link {
            link.queue(&request, self.read_by, since, asked);
            self.issued += 1;
        }
    }

    /// Operation n is due at start + n / rate, whatever became of those before: a server that is late finds them
    /// waiting, and their latency counts from when they were due. `None`: no connection has room.
    fn issue_due(&mut self, rate: f64, now: Instant, touched: &mut Vec<usize>) -> Option<Instant> {
        while self.is_issuing(now) {
            let due = self.start + Duration::from_secs_f64(self.issued as f64 / rate);
            if due > now {
                return Some(due);
            }
            let count = self.slots.len();
            let at = (0..count).map(|step| (self.cursor + step) % count).find(|at| self.has_room(*at, now))?;
            self.cursor = (at + 1) % count;
            self.send(at, due);
            touched.push(at);
        }
        None
    }

    fn on_event(&mut self, at: usize, writable: bool, readable: bool, ended: bool) {
        let Some(link) = &mut self.slots[at].link else { return };
        if ended {
            link.note_end();
        }
        if writable && let Err(error) = link.on_writable() {
            return self.on_broken(at, &error, Instant::now());
        }
        if readable {
            self.read(at);
        }
    }

    fn read_on(&mut self, touched: &mut Vec<usize>) {
        for at in 0..self.slots.len() {
            if self.slots[at].unread {
                self.read(at);
                touched.push(at);
            }
        }
    }

    fn read(&mut self, at: usize) {
        let Some(link) = &mut self.slots[at].link else { return };
        let read = link.on_readable(&mut self.buffer, &mut self.answers);
        let now = Instant::now();
        let answers = std::mem::take(&mut self.answers);
        for answered in &answers {
            self.on_answer(at, answered, now);
        }
        self.answers = answers;
        self.answers.clear();
        match read {
            Ok(more) => self.slots[at].unread = more,
            Err(error) => self.on_broken(at, &error, now),
        }
    }

    fn on_answer(&mut self, at: usize, answered: &Answered, now: Instant) {
        let end = match (&answered.verdict, &answered.found) {
            (Verdict::Done, Some(found)) => End::Answered(found.clone()),
            (Verdict::Refused { applied: Applied::No, .. }, _) => End::Failed,
            _ => End::Unknown,
        };
        self.record(at, &answered.sent, end, now);
        match &answered.verdict {
            Verdict::Done if answered.sent.since >= self.measured_from() => {
                self.report.on_done(answered.sent.is_write, now - answered.sent.since);
            }
            Verdict::Done => {}
            Verdict::Refused { code, applied } => {
                self.report.on_failed(code, *applied);
                self.slots[at].resume_at = now + PAUSE;
            }
        }
        let Some(leader) = &answered.leader else { return };
        let follows = self.settings.leader.is_some() && **leader != *self.slots[at].address;
        if follows && self.avoided.get(&**leader).is_none_or(|until| now >= *until) {
            self.slots[at].moves_to = Some(leader.to_string());
        }
    }

    fn record(&mut self, at: usize, sent: &Sent, end: End, now: Instant) {
        if let (Some(recorder), Some(asked)) = (&mut self.recorder, &sent.asked) {
            recorder.record(at, asked, end, now);
        }
    }

    fn maybe_move(&mut self, at: usize, now: Instant) {
        let slot = &mut self.slots[at];
        if slot.moves_to.is_some() && slot.link.as_ref().is_none_or(|link| link.waiting() == 0) {
            slot.address = slot.moves_to.take().expect("it was just seen to be there");
            slot.link = None;
            self.dial(at, now);
        }
    }

    fn on_broken(&mut self, at: usize, error: &io::Error, now: Instant) {
        let cause = match error.kind() {
            io::ErrorKind::InvalidData => "bad_answer",
            io::ErrorKind::ConnectionRefused => "connection_refused",
            _ => "connection_broke",
        };
        self.give_up(at, cause, now);
    }

    /// Counts what was under way, and dials another address after a pause. A link on which nothing was under way
    /// counts once, since a connection was asked for and is not there.
    fn give_up(&mut self, at: usize, cause: &str, now: Instant) {
        let Some(link) = self.slots[at].link.take() else { return };
        if self.draining.is_none() && link.waiting() == 0 {
            self.report.on_failed(cause, Applied::No);
        }
        let has_connected = link.has_connected();
        for sent in link.abandon() {
            let applied = if sent.is_write && has_connected { Applied::Maybe } else { Applied::No };
            self.report.on_failed(cause, applied);
            let end = if has_connected { End::Unknown } else { End::Failed };
            self.record(at, &sent, end, now);
        }
        let slot = &mut self.slots[at];
        self.avoided.insert(slot.address.clone(), now + AVOID);
        slot.moves_to = None;
        slot.unread = false;
        slot.address = self.settings.addresses[slot.next % self.settings.addresses.len()].clone();
        slot.next += 1;
        slot.dial_at = now + PAUSE;
    }

    fn sweep(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            if slot.link.is_none() && now >= slot.dial_at && self.draining.is_none() {
                self.dial(at, now);
            }
            let oldest = self.slots[at].link.as_ref().and_then(Link::oldest);
            if oldest.is_some_and(|since| now.saturating_duration_since(since) > self.settings.timeout) {
                self.give_up(at, "no_answer", now);
            }
        }
    }

    fn dial(&mut self, at: usize, now: Instant) {
        let address = self.slots[at].address.clone();
        let link = self.resolve(&address).and_then(|resolved| Link::connect(resolved, self.settings.protocol));
        let registered = link.and_then(|mut link| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut link.stream, Token(at), interest).map(|()| link)
        });
        match registered {
            Ok(link) => self.slots[at].link = Some(link),
            Err(_) => {
                self.report.on_failed("cannot_connect", Applied::No);
                let slot = &mut self.slots[at];
                slot.address = self.settings.addresses[slot.next % self.settings.addresses.len()].clone();
                slot.next += 1;
                slot.dial_at = now + PAUSE;
            }
        }
    }

    fn resolve(&mut self, address: &str) -> io::Result<SocketAddr> {
        if let Some(resolved) = self.resolved.get(address) {
            return Ok(*resolved);
        }
        let resolved = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        self.resolved.insert(address.to_string(), resolved);
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use bytes::BytesMut;
    use raftkv::api::{Outcome, Reply};
    use raftkv::base::limits::FRAME_BYTES_MAX;
    use raftkv::base::{NodeId, Revision};
    use raftkv::wire;

    use super::*;
    use crate::plan::{Distribution, Plan};

    /// Answers every write on every connection, and hangs up once, before answer number `hang_up_at`.
    fn server(hang_up_at: u64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mut left, mut revision) = (hang_up_at, Revision(0));
        std::thread::spawn(move || {
            // One connection at a time is enough for one that reconnects.
            for stream in listener.incoming() {
                let (mut stream, mut incoming, mut buffer) = (stream.unwrap(), BytesMut::new(), [0; 4096]);
                'connection: while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    incoming.extend_from_slice(&buffer[..read]);
                    while let Some(frame) = wire::take_frame(&mut incoming, FRAME_BYTES_MAX).unwrap() {
                        let asked = wire::decode_request(frame).unwrap();
                        left = left.wrapping_sub(1);
                        if left == 0 {
                            break 'connection;
                        }
                        revision = revision.next();
                        let reply = Reply { result: Ok(Outcome::Put { revision }), leader: None };
                        let mut out = BytesMut::new();
                        wire::encode_reply(asked.id, asked.style, &reply, NodeId::new(1).unwrap(), &mut out);
                        stream.write_all(&out).unwrap();
                    }
                }
            }
        });
        address
    }

    fn settings(addresses: Vec<String>, rate: Option<f64>) -> Settings {
        Settings {
            addresses,
            leader: None,
            connections: 1,
            depth: 8,
            rate,
            protocol: Protocol::Frames,
            timeout: Duration::from_secs(60),
        }
    }

    fn plan() -> Plan {
        Plan { keys: 10, value_bytes: 10, distribution: Distribution::Uniform, read_share: 0.0, seed: 1, run: None }
    }

    fn drive(address: String, rate: Option<f64>, count: u64) -> serde_json::Value {
        drive_all(vec![address], rate, count)
    }

    fn drive_all(addresses: Vec<String>, rate: Option<f64>, count: u64) -> serde_json::Value {
        let (mut mixer, mut report) = (Mixer::new(plan()), Report::default());
        let mut driver = Driver::new(settings(addresses, rate), &mut mixer, &mut report, Until::Count(count)).unwrap();
        let elapsed = driver.run(|_| ()).unwrap();
        report.json(serde_json::json!({}), elapsed)
    }

    #[test]
    fn a_closed_loop_asks_exactly_what_it_should() {
        let report = drive(server(0), None, 5000);
        assert_eq!(report["writes"]["count"], 5000);
        assert_eq!(report["errors"], serde_json::json!({}));
    }

    #[test]
    fn an_open_loop_keeps_its_rate() {
        let report = drive(server(0), Some(2000.0), 400);
        assert_eq!(report["writes"]["count"], 400);
        let rate = report["writes"]["per_second"].as_f64().unwrap();
        assert!(rate < 2100.0, "it can't be faster than asked, and is {rate}");
    }

    #[test]
    fn what_was_under_way_when_the_connection_broke_is_unknown_and_the_load_goes_on() {
        let report = drive(server(100), None, 1000);
        let unknown = report["unknown"]["connection_broke"].as_u64().unwrap();
        assert!((1..=8).contains(&unknown), "{report}");
        assert_eq!(report["writes"]["count"].as_u64().unwrap() + unknown, 1000);
    }

    #[test]
    fn what_was_queued_for_a_connection_that_was_refused_was_not_sent() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let report = drive_all(vec![nobody, server(0)], None, 1000);
        let refused = report["errors"]["connection_refused"].as_u64().unwrap();
        assert!(refused > 0, "{report}");
        assert_eq!(report["unknown"], serde_json::json!({}), "{report}");
        assert_eq!(report["writes"]["count"].as_u64().unwrap() + refused, 1000);
    }

    #[test]
    fn what_was_under_way_when_the_connection_broke_is_open_in_the_history() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let plan = Plan { run: Some("run".to_string()), ..plan() };
        let (mut mixer, mut report) = (Mixer::new(plan), Report::default());
        let mut recorder = Recorder::create(file.path().to_str().unwrap()).unwrap();
        let driver =
            Driver::new(settings(vec![server(100)], None), &mut mixer, &mut report, Until::Count(1000)).unwrap();
        driver.recorded(Some(&mut recorder)).run(|_| ()).unwrap();
        recorder.finish().unwrap();
        let history = linearizability::read(std::io::BufReader::new(file.reopen().unwrap())).unwrap();
        let open = history.records().iter().filter(|record| record.completed_ns.is_none()).count();
        assert_eq!(history.records().len(), 1000);
        assert_eq!(open as u64, report.json(serde_json::json!({}), SWEEP)["unknown"]["connection_broke"]);
        assert!(linearizability::check(&history, linearizability::Limits::default()).is_ok());
    }
}
