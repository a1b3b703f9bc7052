//! A whole connection: the same bytes in one piece and in any others are the same conversation.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use raftkv::api::{Leader, Outcome, Reply, Request};
use raftkv::base::{NodeId, Operation, Random, Revision};
use raftkv::net::{Admission, Asked, CloseReason, NetLimits, Session, Turn};
use raftkv::wire::Hello;

const ANSWERING: NodeId = NodeId::new(3).unwrap();
const REQUESTS_MAX: usize = 64;

/// Small enough that every bound is met.
fn limits() -> NetLimits {
    NetLimits { connection_requests_max: 4, page_keys: 2, encoded_bytes_target: 256, ..NetLimits::default() }
}

/// How a conversation ended.
#[derive(Debug, PartialEq)]
enum End {
    /// Everything was answered.
    Finished(CloseReason),
    /// At once, with whatever was under way.
    Closed(CloseReason),
    /// It is a peer's; these bytes are behind its hello.
    Hello(Box<Hello>, Vec<u8>),
}

struct Heard {
    output: Vec<u8>,
    end: End,
}

/// The first byte says how the rest arrives, and in which order it is answered.
pub fn session(bytes: &[u8]) -> bool {
    let Some((seed, said)) = bytes.split_first() else { return false };
    let mut random = Random::new(u64::from(*seed));
    let whole = converse(said, &mut |choice, left| if let Choice::Bytes = choice { left } else { 0 });
    let longest = 1 + random.below(40);
    let pieces = converse(said, &mut |choice, left| match choice {
        Choice::Bytes => (1 + random.below(longest) as usize).min(left),
        Choice::Answer => random.below(left as u64) as usize,
    });
    if let End::Closed(_) = whole.end {
        // What was under way is lost, and how much that is depends on the pieces.
        assert!(whole.output.starts_with(&pieces.output) || pieces.output.starts_with(&whole.output));
    } else {
        assert_eq!(show(&whole.output), show(&pieces.output), "what is answered depends on the pieces");
    }
    assert_eq!(whole.end, pieces.end, "how it ends depends on the pieces");
    !whole.output.is_empty() || matches!(whole.end, End::Hello(..))
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

enum Choice {
    /// How many of so many bytes arrive.
    Bytes,
    /// Which of so many requests is answered.
    Answer,
}

fn converse(said: &[u8], choose: &mut dyn FnMut(Choice, usize) -> usize) -> Heard {
    let mut session = Session::new(ANSWERING, Arc::new(limits()));
    let mut admission = Admission::new(REQUESTS_MAX);
    let (mut asked, mut output) = (Vec::new(), Vec::new());
    let (mut unsaid, mut has_ended) = (said, false);
    let end = loop {
        match session.advance(&mut admission, &mut asked) {
            Ok(Turn::Client) => {}
            Ok(Turn::Hello(hello)) => {
                let rest = [&session.take_rest()[..], unsaid].concat();
                assert!(said.ends_with(&rest), "bytes behind the hello were lost or invented");
                break End::Hello(hello, rest);
            }
            Err(reason) => {
                check_counts(&session, &admission, &asked);
                break End::Closed(reason);
            }
        }
        check_counts(&session, &admission, &asked);
        check_bounds(&session, said);
        if let Some(reason) = session.finished() {
            break End::Finished(reason);
        }
        if session.has_output() {
            take(session.pipeline().output(), &mut output);
        } else if !asked.is_empty() {
            let Asked { sequence, request, .. } = asked.remove(choose(Choice::Answer, asked.len()));
            assert_eq!(request.check(), Ok(()), "what is passed on was checked");
            admission.give_back(1);
            session.on_reply(sequence, answer(&request), &admission);
        } else if session.wants_input() && !unsaid.is_empty() {
            let (now, later) = unsaid.split_at(choose(Choice::Bytes, unsaid.len()));
            session.on_bytes(now);
            unsaid = later;
        } else {
            assert!(!has_ended, "it ended, nothing is under way, and the conversation does not finish");
            has_ended = true;
            session.on_end();
        }
    };
    Heard { output, end }
}

fn take(from: &mut BytesMut, output: &mut Vec<u8>) {
    output.extend_from_slice(from);
    from.advance(from.len());
}

/// What is counted as under way is what waits here, and what was handed on.
fn check_counts(session: &Session, admission: &Admission, asked: &[Asked]) {
    assert_eq!(admission.requests(), session.undispatched() + asked.len(), "requests are counted wrongly");
}

fn check_bounds(session: &Session, said: &[u8]) {
    let (held, most) = (session.buffered_bytes(), 16 * 1024 + 8 * said.len());
    assert!(held <= most, "{} bytes made the session hold {held}, and {most} is the most", said.len());
}

/// Always the same for the same request, so that the conversation depends on nothing else.
fn answer(request: &Request) -> Reply {
    let revision = Revision(7);
    let outcome = match request {
        Request::Write(Operation::Put { .. }) => Outcome::Put { revision },
        Request::Write(Operation::Delete { key }) => Outcome::Deleted { revision, existed: key.len() % 2 == 0 },
        Request::Get { .. } => Outcome::Value { revision, found: None },
        Request::List { prefix, after, limit, .. } => {
            let keys: [Bytes; 2] = ["a", "b"].map(|end| [&prefix[..], end.as_bytes()].concat().into());
            let most = if *limit == 0 { 2 } else { *limit };
            Outcome::Keys { revision, keys: keys.into_iter().take(most).collect(), more: after.is_none() }
        }
        Request::Status | Request::Scrub | Request::Latency => Outcome::Put { revision },
    };
    Reply { result: Ok(outcome), leader: Some(Leader { id: ANSWERING, address: "here:1".into() }) }
}
