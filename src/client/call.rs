//! The client: one call at a time, over one connection at a time, with retries where they are safe.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::addresses::Addresses;
use super::{Connection, Error, Page, Pages, Patience, Tried};
use crate::api::{Applied, ErrorCode, Found, IfNotLeading, Latency, Leader, Outcome, ReadBy, Reply, Request, Status};
use crate::base::{NodeId, Operation, Random, Revision};
use crate::guard::{Guard, removed};

/// Between two rounds of attempts; doubles, and each is shortened by chance to between half and all of it.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// For one call in all: connecting, retries and the answer.
    pub timeout: Duration,
    /// For connecting to one address, and again for its greeting.
    pub dial_timeout: Duration,
    /// `Any`: it stays with the node that it has reached, which answers reads itself, whether it leads or not.
    pub read_by: ReadBy,
    /// Spreads the back-off of many clients.
    pub seed: u64,
    /// Raised by another thread or a signal handler, it ends the call that waits. The caller lowers it.
    pub interrupt: Option<Arc<AtomicBool>>,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            timeout: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(1),
            read_by: ReadBy::Leader,
            seed: 0,
            interrupt: None,
        }
    }
}

/// A client of one cluster. See the module for what is retried and what is not.
#[derive(Debug)]
pub struct Client {
    settings: ClientSettings,
    addresses: Addresses,
    link: Option<Link>,
    random: Random,
}

/// The node that is being asked.
#[derive(Debug)]
struct Link {
    address: String,
    /// Who answered the greeting.
    node: Option<NodeId>,
    connection: Connection,
}

/// How one attempt failed.
enum Attempt {
    /// Nothing may be sent again.
    Final(Error),
    /// Certainly not applied: another attempt is safe. The error is the call's if there is no time for one.
    Again(Error),
}

impl Client {
    /// Nothing is dialed before the first call. `addresses` are `HOST:PORT`.
    pub fn new(addresses: Vec<String>, settings: ClientSettings) -> Client {
        let random = Random::new(settings.seed);
        Client { settings, addresses: Addresses::new(addresses), link: None, random }
    }

    /// Gives the revision at which the key took the value.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Revision, Error> {
        let request = Request::Write(Operation::Put { key: key.into(), value: value.into() });
        match self.call(&request)? {
            Outcome::Put { revision } => Ok(revision),
            other => Err(self.unexpected(&request, &other)),
        }
    }

    /// `None`: the key is absent.
    pub fn get(&mut self, key: impl Into<Bytes>) -> Result<Option<Found>, Error> {
        let request = Request::Get { key: key.into(), revision: None };
        match self.call(&request)? {
            Outcome::Value { found, .. } => Ok(found),
            other => Err(self.unexpected(&request, &other)),
        }
    }

    /// Whether the key was there.
    pub fn delete(&mut self, key: impl Into<Bytes>) -> Result<bool, Error> {
        let request = Request::Write(Operation::Delete { key: key.into() });
        match self.call(&request)? {
            Outcome::Deleted { existed, .. } => Ok(existed),
            other => Err(self.unexpected(&request, &other)),
        }
    }

    /// One page of the keys that start with `prefix` and lie behind `after`: at most `limit`, 0 for all of them
    /// (`result_too_large` if they don't fit a frame).
    pub fn list(&mut self, prefix: impl Into<Bytes>, after: Option<Bytes>, limit: usize) -> Result<Page, Error> {
        let request = Request::List { prefix: prefix.into(), after, limit, revision: None };
        match self.call(&request)? {
            Outcome::Keys { revision, keys, more } => Ok(Page { revision, keys, more }),
            other => Err(self.unexpected(&request, &other)),
        }
    }

    /// All of them, page by page. Each page is atomic at its own revision; the whole is not.
    pub fn list_all(&mut self, prefix: impl Into<Bytes>, after: Option<Bytes>, limit: Option<usize>) -> Pages<'_> {
        Pages::new(self, prefix.into(), after, limit)
    }

    /// What the node at `address` says of itself; asked on a connection of its own, and of nobody else.
    pub fn status(&self, address: &str) -> Result<Status, Error> {
        self.ask_for_status(address, &Request::Status)
    }

    /// Has the node at `address` read its whole log once, for damage. Returns at once; [`Client::status`] tells how it
    /// goes on: `passes` is one more when it is done.
    pub fn scrub(&self, address: &str) -> Result<Status, Error> {
        self.ask_for_status(address, &Request::Scrub)
    }

    /// Where the time of requests goes in the node at `address`. One of a version that measures nothing refuses it,
    /// with [`ErrorCode::BadFrame`].
    pub fn latency(&self, address: &str) -> Result<Latency, Error> {
        match self.ask_one(address, &Request::Latency)? {
            Outcome::Latency(latency) => Ok(*latency),
            other => Err(another_answer(address, &other)),
        }
    }

    fn ask_for_status(&self, address: &str, request: &Request) -> Result<Status, Error> {
        match self.ask_one(address, request)? {
            Outcome::Status(status) => Ok(*status),
            other => Err(another_answer(address, &other)),
        }
    }

    /// On a connection of its own. `request` is one that the node answers itself, at once.
    fn ask_one(&self, address: &str, request: &Request) -> Result<Outcome, Error> {
        let interrupt = self.settings.interrupt.clone();
        let patience = Patience { until: Instant::now() + self.settings.timeout, interrupt: interrupt.as_deref() };
        let (_, answer) = self.greet(address, request, patience).map_err(|error| match error.kind() {
            _ if patience.is_interrupted() => Error::Interrupted,
            ErrorKind::InvalidData => Error::BadAnswer { address: address.to_string(), why: error.to_string() },
            _ => unreachable_at(address, &error),
        })?;
        answer.map_err(Error::Refused)
    }

    /// Connects if it is not connected, so that [`Client::server`] and [`Client::leader`] can be told.
    pub fn connect(&mut self) -> Result<(), Error> {
        self.with_retries(Client::connected)
    }

    /// The address and id of the node that is being asked.
    pub fn server(&self) -> Option<(&str, Option<NodeId>)> {
        self.link.as_ref().map(|link| (link.address.as_str(), link.node))
    }

    /// The leader as the last answer named it.
    pub fn leader(&self) -> Option<&Leader> {
        self.addresses.leader()
    }

    /// The addresses that are known, those given first.
    pub fn addresses(&self) -> &[String] {
        self.addresses.known()
    }

    /// Who may answer reads from now on.
    pub fn set_read_by(&mut self, read_by: ReadBy) {
        self.settings.read_by = read_by;
    }

    pub fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    pub(super) fn learn(&mut self, status: &Status) {
        self.addresses.on_status(status);
    }

    /// Any request, with the retries that are safe for it.
    pub fn call(&mut self, request: &Request) -> Result<Outcome, Error> {
        request.check().map_err(Error::Refused)?;
        self.with_retries(|client, patience| client.attempt(request, patience))
    }

    fn with_retries<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Client, Patience<'_>) -> Result<T, Attempt>,
    ) -> Result<T, Error> {
        let interrupt = self.settings.interrupt.clone();
        let patience = Patience { until: Instant::now() + self.settings.timeout, interrupt: interrupt.as_deref() };
        let mut backoff = BACKOFF_MIN;
        loop {
            let error = match attempt(self, patience) {
                Ok(done) => return Ok(done),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error)) => error,
            };
            let pause = self.random.between(backoff / 2, backoff);
            if patience.is_interrupted() {
                return Err(Error::Interrupted);
            }
            if Instant::now() + pause >= patience.until {
                return Err(error);
            }
            patience.pause(pause);
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn attempt(&mut self, request: &Request, patience: Patience<'_>) -> Result<Outcome, Attempt> {
        self.connected(patience)?;
        let mut link = self.link.take().expect("connected() leaves a link or an error");
        let patience = self.share(request, patience);
        let if_not_leading = self.settings.read_by.if_not_leading(request);
        match ask(&mut link.connection, request, if_not_leading, patience) {
            Ok(reply) => {
                self.link = Some(link);
                self.on_reply(request, reply)
            }
            Err(error) => Err(self.on_broken(request, &link, &error, patience)),
        }
    }

    /// A read waits at one node for half of the time that is left, while there are others to ask: a node that
    /// hangs must not cost the whole call. A write waits for all of it, since it is asked only once.
    fn share<'a>(&self, request: &Request, patience: Patience<'a>) -> Patience<'a> {
        let left = patience.until.saturating_duration_since(Instant::now());
        let alone = self.addresses.known().len() < 2 || left < self.settings.dial_timeout;
        if request.is_write() || alone {
            return patience;
        }
        Patience { until: patience.until - left / 2, ..patience }
    }

    fn on_reply(&mut self, request: &Request, reply: Reply) -> Result<Outcome, Attempt> {
        self.addresses.on_leader(reply.leader.as_ref());
        let error = match reply.result {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if error.code.applied() == Applied::Maybe && request.is_write() {
            let address = self.link.as_ref().map_or_else(String::new, |link| link.address.clone());
            return Err(Attempt::Final(Error::OutcomeUnknown { address, why: error.message }));
        }
        if !error.code.worth_a_retry() {
            return Err(Attempt::Final(Error::Refused(error)));
        }
        // A node that can't find the leader, or stops, is no help; one that is busy would be so elsewhere too.
        let elsewhere = matches!(
            error.code,
            ErrorCode::NoLeader | ErrorCode::ShuttingDown | ErrorCode::Timeout | ErrorCode::NotLeader
        );
        if elsewhere && self.addresses.known().len() > 1 {
            self.leave();
        }
        Err(Attempt::Again(Error::Refused(error)))
    }

    fn on_broken(&mut self, request: &Request, link: &Link, error: &io::Error, patience: Patience<'_>) -> Attempt {
        self.addresses.on_failure(&link.address);
        let address = link.address.clone();
        if request.is_write() && link.connection.sent_any() && !removed(Guard::UnknownResent) {
            let why = match error.kind() {
                ErrorKind::Interrupted => "interrupted before its answer came".to_string(),
                ErrorKind::TimedOut => {
                    format!("no answer within {} ms", self.settings.timeout.as_millis())
                }
                _ => format!("the connection broke: {error}"),
            };
            return Attempt::Final(Error::OutcomeUnknown { address, why });
        }
        match error.kind() {
            _ if patience.is_interrupted() => Attempt::Final(Error::Interrupted),
            ErrorKind::InvalidData => Attempt::Final(Error::BadAnswer { address, why: error.to_string() }),
            ErrorKind::TimedOut => Attempt::Again(Error::Timeout { address, after: self.settings.timeout }),
            _ => Attempt::Again(unreachable_at(&address, error)),
        }
    }

    fn leave(&mut self) {
        if let Some(link) = self.link.take() {
            self.addresses.on_failure(&link.address);
        }
    }

    /// Sees to it that there is a live connection, to the leader if that can be had and is wanted.
    fn connected(&mut self, patience: Patience<'_>) -> Result<(), Attempt> {
        self.link.take_if(|link| !link.connection.is_quiet());
        self.maybe_move_to_leader(patience);
        if self.link.is_some() {
            return Ok(());
        }
        let mut tried = Vec::new();
        for address in self.addresses.candidates(self.settings.read_by) {
            match self.dial(&address, patience) {
                Ok(()) => return Ok(()),
                Err(_) if patience.is_interrupted() => return Err(Attempt::Final(Error::Interrupted)),
                Err(error) => tried.push(Tried { address, why: why(&error) }),
            }
        }
        let nowhere_to_go = tried.is_empty();
        let error = Error::Unreachable { tried };
        Err(if nowhere_to_go { Attempt::Final(error) } else { Attempt::Again(error) })
    }

    fn maybe_move_to_leader(&mut self, patience: Patience<'_>) {
        let Some(link) = self.link.as_ref().filter(|_| self.settings.read_by == ReadBy::Leader) else { return };
        let Some(address) = self.addresses.better_than(&link.address, link.node, Instant::now()) else { return };
        if self.dial(&address, patience).is_err() {
            self.addresses.avoid(&address, Instant::now());
        }
    }

    /// Replaces the link by one to `address`; leaves it when that fails.
    fn dial(&mut self, address: &str, patience: Patience<'_>) -> io::Result<()> {
        let (connection, answer) = self.greet(address, &Request::Status, patience)?;
        let node = match answer {
            Ok(Outcome::Status(status)) => {
                self.addresses.on_status(&status);
                Some(status.id)
            }
            Ok(other) => {
                return Err(io::Error::new(ErrorKind::InvalidData, another_answer(address, &other).to_string()));
            }
            // A node that refuses the greeting (it is stopping) still answers: what is asked next will show.
            Err(_) => None,
        };
        self.link = Some(Link { address: address.to_string(), node, connection });
        Ok(())
    }

    /// Connects and asks for the status, or what else the node answers at once, each within `dial_timeout`: what
    /// accepts but does not answer (a process that was stopped) is found out before anything is entrusted to it.
    fn greet(
        &self,
        address: &str,
        request: &Request,
        patience: Patience<'_>,
    ) -> io::Result<(Connection, Result<Outcome, crate::api::Error>)> {
        let within = || Patience { until: patience.until.min(Instant::now() + self.settings.dial_timeout), ..patience };
        let mut connection = Connection::dial(address, within())?;
        let reply = ask(&mut connection, request, IfNotLeading::Forward, within())?;
        Ok((connection, reply.result))
    }

    fn unexpected(&mut self, request: &Request, outcome: &Outcome) -> Error {
        let address = self.link.take().map_or_else(String::new, |link| link.address);
        match another_answer(&address, outcome) {
            Error::BadAnswer { address, why } if request.is_write() => Error::OutcomeUnknown { address, why },
            error => error,
        }
    }
}

fn another_answer(address: &str, outcome: &Outcome) -> Error {
    let why = format!("it gave the answer to another question: {outcome:?}");
    Error::BadAnswer { address: address.to_string(), why }
}

fn ask(
    connection: &mut Connection,
    request: &Request,
    if_not_leading: IfNotLeading,
    patience: Patience<'_>,
) -> io::Result<Reply> {
    connection.queue(request, if_not_leading);
    connection.flush(patience)?;
    connection.receive(patience).map(|(_, reply)| reply)
}

fn unreachable_at(address: &str, error: &io::Error) -> Error {
    Error::Unreachable { tried: vec![Tried { address: address.to_string(), why: why(error) }] }
}

/// The system's sentence without its number.
fn why(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((sentence, _)) => sentence.to_lowercase(),
        None => text,
    }
}
