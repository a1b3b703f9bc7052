//! A session without a socket: order, paging, ends, what is refused.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::super::limits::Memory;
use super::super::{Admission, Asked, CloseReason, NetLimits, Session, Turn};
use super::{Store, node_id, put_done, value};
use crate::api::{IfNotLeading, Outcome, Reply, Request};
use crate::base::limits::{LINE_BYTES_MAX, SMALL_CLIENT_BYTES};
use crate::base::{Operation, Random, Revision};
use crate::wire;

struct Talk {
    session: Session,
    admission: Admission,
    /// Asked and not answered yet.
    asked: Vec<Asked>,
    closed: Option<CloseReason>,
}

fn talk_within(limits: NetLimits) -> Talk {
    let admission = Admission::new(limits.requests_max);
    Talk { session: Session::new(node_id(1), Arc::new(limits)), admission, asked: Vec::new(), closed: None }
}

fn talk() -> Talk {
    talk_within(NetLimits::default())
}

impl Talk {
    fn advance(&mut self) {
        match self.session.advance(&mut self.admission, &mut self.asked) {
            Ok(Turn::Client) => {}
            Ok(Turn::Hello(hello)) => panic!("{hello:?} from a client"),
            Err(reason) => self.closed = Some(reason),
        }
    }

    fn says(&mut self, bytes: impl AsRef<[u8]>) -> &mut Talk {
        self.session.on_bytes(bytes.as_ref());
        self.advance();
        self
    }

    fn ends(&mut self) {
        self.session.on_end();
        self.advance();
    }

    /// What is asked and not answered, as `verb key`.
    fn asks(&self) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let name = |asked: &Asked| match &asked.request {
            Request::Write(Operation::Put { key, .. }) => format!("put {}", text(key)),
            Request::Write(Operation::Delete { key }) => format!("delete {}", text(key)),
            Request::Get { key, .. } => format!("get {}", text(key)),
            Request::List { after, limit, .. } => {
                format!("list {limit} after {}", after.as_ref().map_or("-".into(), text))
            }
            Request::Status => "status".into(),
            Request::Scrub => "scrub".into(),
            Request::Latency => "latency".into(),
        };
        self.asked.iter().map(name).collect()
    }

    fn answer(&mut self, place: usize, reply: Reply) {
        let asked = self.asked.remove(place);
        self.admission.give_back(1);
        self.session.on_reply(asked.sequence, reply, &self.admission);
        self.advance();
    }

    /// What it has said so far.
    fn hears(&mut self) -> String {
        let output = self.session.pipeline().output();
        let all = String::from_utf8(output.to_vec()).unwrap();
        output.advance(all.len());
        self.session.release_drained();
        self.advance();
        all
    }
}

fn keys(keys: &[&str], more: bool) -> Reply {
    let keys = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
    Reply { result: Ok(Outcome::Keys { revision: Revision(1), keys, more }), leader: None }
}

#[test]
fn a_read_waits_for_earlier_writes_and_a_write_for_earlier_reads() {
    let mut talk = talk();
    talk.says("PUT a 1\nPUT b 2\nGET a\nGET b\nDELETE a\nSTATUS\n");
    assert_eq!(talk.asks(), ["put a", "put b"], "writes go together");
    talk.answer(1, put_done());
    assert_eq!(talk.asks(), ["put a"], "one write is not answered yet");
    talk.answer(0, put_done());
    assert_eq!(talk.asks(), ["get a", "get b"], "reads go together");
    talk.answer(0, value(&"1".into()));
    assert_eq!(talk.asks(), ["get b"], "one read is not answered yet");
    talk.answer(0, value(&"2".into()));
    assert_eq!(talk.asks(), ["delete a"]);
    let deleted = Outcome::Deleted { revision: Revision(2), existed: false };
    talk.answer(0, Reply { result: Ok(deleted), leader: None });
    assert_eq!(talk.asks(), ["status"], "a status is a read");
    assert_eq!(talk.hears(), "OK\nOK\n1\n2\n(nil)\n");
}

fn large() -> Reply {
    value(&"x".repeat(SMALL_CLIENT_BYTES).into())
}

#[test]
fn where_memory_is_scarce_one_large_answer_is_held_at_a_time() {
    let mut talk = talk();
    talk.admission.set_memory(Memory::Scarce);
    talk.says("GET a\nGET b\nGET c\n");
    assert_eq!(talk.asks(), ["get a"], "it may be as large as any");
    talk.answer(0, large());
    assert_eq!(talk.asks(), [""; 0], "the first is not read yet");
    assert!(talk.hears().starts_with("xxx"));
    assert_eq!(talk.asks(), ["get b"]);
    talk.admission.set_memory(Memory::Free);
    talk.advance();
    assert_eq!(talk.asks(), ["get b", "get c"]);
}

#[test]
fn where_memory_is_short_what_would_be_more_than_a_little_is_refused_and_no_write() {
    let mut talk = talk();
    talk.says("GET a\nGET b\nGET c\n");
    talk.admission.set_memory(Memory::Short);
    let half = value(&"x".repeat(SMALL_CLIENT_BYTES / 2).into());
    talk.answer(2, half.clone());
    talk.answer(1, half);
    talk.answer(0, large());
    let heard = talk.hears();
    let lines: Vec<&str> = heard.lines().map(|line| &line[..9]).collect();
    assert_eq!(lines, ["ERR busy ", "ERR busy ", "xxxxxxxxx"], "the last of them came first, and fitted");
    talk.says("PUT a 1\nSTATUS\n");
    talk.answer(0, put_done());
    assert_eq!(talk.hears(), "OK\n");
}

#[test]
fn where_memory_is_short_a_listing_goes_on_in_small_pages() {
    let mut talk = talk();
    talk.admission.set_memory(Memory::Short);
    talk.says("LIST\n");
    assert_eq!(talk.asks(), ["list 64 after -"]);
    let long: Vec<String> = (10..74).map(|number| format!("{number}{}", "k".repeat(4094))).collect();
    talk.answer(0, keys(&long.iter().map(|key| &**key).collect::<Vec<_>>(), true));
    assert_eq!(talk.hears(), long.join("\n") + "\n");
    assert!(talk.asks()[0].starts_with("list 64 after 73k"), "{:?}", talk.asks());
    talk.admission.set_memory(Memory::Free);
    talk.answer(0, keys(&["z"], true));
    assert_eq!(talk.asks(), ["list 1000 after z"]);
}

/// Each is linearizable by itself. Together, one of the leader's state as it was later could be answered first.
#[test]
fn reads_by_any_node_and_reads_by_the_leader_wait_for_each_other() {
    let mut talk = talk();
    talk.says("PUT a 1\nANY GET a\nANY LIST LIMIT 1\nGET b\nGET c\nANY GET d\n");
    assert_eq!(talk.asks(), ["put a"], "its own writes come first");
    talk.answer(0, put_done());
    assert_eq!(talk.asks(), ["get a", "list 1 after -"]);
    assert!(talk.asked.iter().all(|asked| asked.if_not_leading == IfNotLeading::Read));
    talk.answer(1, keys(&["a"], true));
    assert_eq!(talk.asks(), ["get a"]);
    talk.answer(0, value(&"1".into()));
    assert_eq!(talk.asks(), ["get b", "get c"]);
    assert!(talk.asked.iter().all(|asked| asked.if_not_leading == IfNotLeading::Forward));
    talk.answer(0, value(&"2".into()));
    assert_eq!(talk.asks(), ["get c"]);
    talk.answer(0, value(&"3".into()));
    assert_eq!(talk.asks(), ["get d"]);
}

#[test]
fn answers_leave_in_the_order_of_the_requests_whatever_order_they_come_in() {
    let mut talk = talk();
    talk.says("GET a\nPING\nGET b\nFLY\nGET c\n");
    talk.answer(2, value(&"3".into()));
    talk.answer(1, value(&"2".into()));
    assert_eq!(talk.hears(), "", "the first is not answered yet");
    talk.answer(0, value(&"1".into()));
    let heard = talk.hears();
    let lines: Vec<&str> = heard.lines().collect();
    assert_eq!((lines[0], lines[1], lines[2], lines[4]), ("1", "PONG", "2", "3"));
    assert!(lines[3].starts_with("ERR unknown_command"), "{}", lines[3]);
}

#[test]
fn what_is_quoted_reaches_the_store_as_bytes_and_comes_back_quoted() {
    let mut talk = talk();
    talk.says("PUT \"a b\" \"\\x00\\n\"\r\n");
    let Request::Write(Operation::Put { key, value: stored }) = talk.asked[0].request.clone() else { panic!() };
    assert_eq!((&key[..], &stored[..]), (&b"a b"[..], &b"\x00\n"[..]));
    talk.answer(0, put_done());
    talk.says("GET \"a b\"\n");
    talk.answer(0, value(&stored));
    let heard = talk.hears();
    assert!(heard.starts_with("OK\n\"") && heard.ends_with("\"\n"), "{heard:?}");
}

#[test]
fn frames_are_answered_in_order_under_their_own_ids() {
    let mut talk = talk();
    let mut bytes = BytesMut::new();
    for id in [7, 3, 9] {
        let request = Request::Get { key: format!("k{id}").into(), revision: None };
        wire::encode_request(id, &request, IfNotLeading::Forward, &mut bytes);
    }
    for chunk in bytes.chunks(3) {
        talk.says(chunk);
    }
    assert_eq!(talk.asks(), ["get k7", "get k3", "get k9"]);
    for place in [2, 0, 0] {
        let Request::Get { key, .. } = &talk.asked[place].request else { panic!() };
        let reply = value(&key.clone());
        talk.answer(place, reply);
    }
    let output = talk.session.pipeline().output();
    let mut ids = Vec::new();
    while let Some(frame) = wire::take_frame(output, 1 << 20).unwrap() {
        let (id, reply) = wire::decode_reply(frame).unwrap();
        assert_eq!(reply.result, value(&format!("k{id}").into()).result);
        ids.push(id);
    }
    assert_eq!(ids, [7, 3, 9]);
}

#[test]
fn a_listing_goes_page_by_page_and_no_write_passes_between_its_pages() {
    let mut talk = talk_within(NetLimits { page_keys: 2, ..NetLimits::default() });
    talk.says("LIST\nPUT z 1\nLIST LIMIT 3\n");
    assert_eq!(talk.asks(), ["list 2 after -"]);
    talk.answer(0, keys(&["a", "b"], true));
    assert_eq!(talk.asks(), ["list 2 after b"]);
    talk.answer(0, keys(&["c"], false));
    assert_eq!(talk.asks(), ["put z"]);
    talk.answer(0, put_done());
    assert_eq!(talk.asks(), ["list 2 after -"]);
    talk.answer(0, keys(&["a", "b"], true));
    assert_eq!(talk.asks(), ["list 1 after b"], "the limit is over all pages");
    talk.answer(0, keys(&["c"], true));
    assert_eq!(talk.hears(), "a\nb\nc\nEND\nOK\na\nb\nc\nEND\n");
    assert_eq!(talk.admission.requests(), 0);
}

#[test]
fn a_page_is_asked_for_only_when_the_pages_before_it_were_taken() {
    let mut talk = talk_within(NetLimits { page_keys: 2, encoded_bytes_target: 4, ..NetLimits::default() });
    talk.says("LIST\nPING\n");
    talk.answer(0, keys(&["aa", "bb"], true));
    assert!(talk.asks().is_empty(), "nobody has read the first page");
    assert_eq!(talk.hears(), "aa\nbb\n");
    assert_eq!(talk.asks(), ["list 2 after bb"]);
    let refused = Reply::refused(crate::api::ErrorCode::NoLeader, "nobody leads", None);
    talk.answer(0, refused);
    assert_eq!(talk.hears(), "ERR no_leader nobody leads\n", "in the place of END");
    assert_eq!(talk.hears(), "PONG\n");
}

#[test]
fn a_page_without_keys_that_promises_more_ends_the_listing() {
    let mut talk = talk();
    talk.says("LIST\n");
    talk.answer(0, keys(&[], true));
    assert_eq!(talk.hears(), "END\n");
}

#[test]
fn after_the_end_of_input_everything_asked_is_answered_also_a_last_line_without_its_end() {
    let mut talk = talk();
    talk.says("\r\n\nPUT a 1\nGET a");
    talk.ends();
    assert_eq!(talk.asks(), ["put a"]);
    assert_eq!(talk.session.finished(), None);
    talk.answer(0, put_done());
    assert_eq!(talk.asks(), ["get a"]);
    talk.answer(0, value(&"1".into()));
    assert_eq!(talk.session.finished(), None, "the answers are not written yet");
    assert_eq!(talk.hears(), "OK\n1\n");
    assert_eq!(talk.session.finished(), Some(CloseReason::Finished));
}

/// A client that died while it wrote looks the same as one that ended: `DELETE user12` cut short deletes another key.
#[test]
fn a_write_without_its_line_end_is_refused() {
    for cut in ["PUT doc BBB", "delete user1", "PUT a \"b\"\r"] {
        let mut talk = talk();
        talk.says(format!("GET a\n{cut}"));
        talk.ends();
        assert_eq!(talk.asks(), ["get a"], "{cut}");
        talk.answer(0, value(&"1".into()));
        assert!(talk.hears().starts_with("1\nERR bad_arguments the connection ended within this line"), "{cut}");
        assert_eq!(talk.session.finished(), Some(CloseReason::Finished));
    }
}

#[test]
fn quit_answers_what_came_before_it_and_nothing_behind() {
    let mut talk = talk();
    talk.says("GET a\nQUIT\nPUT a 1\n").says("PUT a 2\n");
    assert_eq!(talk.asks(), ["get a"]);
    talk.answer(0, value(&"1".into()));
    assert_eq!(talk.hears(), "1\n");
    assert_eq!(talk.session.finished(), Some(CloseReason::Finished));
}

#[test]
fn nothing_of_an_http_request_runs_not_even_what_came_with_it() {
    let attacks = [
        "POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nPUT a 1\r\n",
        "PUT /a HTTP/1.1\r\nPUT a 1\r\n",
        "GET /?a HTTP/1.0\nPUT a 1\n",
        "POST \nPUT a 1\n",
        "Host: x\nPUT a 1\n",
        "OPTIONS * HTTP/1.1",
    ];
    for attack in attacks {
        for step in [1, 7, attack.len()] {
            let mut talk = talk();
            for chunk in attack.as_bytes().chunks(step) {
                if talk.closed.is_none() {
                    talk.says(chunk);
                }
            }
            if talk.closed.is_none() {
                talk.ends();
            }
            assert_eq!(talk.closed, Some(CloseReason::Http), "{attack:?}");
            assert!(talk.asks().is_empty(), "{attack:?} ran {:?}", talk.asks());
        }
    }
}

#[test]
fn a_line_that_never_ends_is_answered_and_ends_the_conversation() {
    let mut talk = talk();
    talk.says("PING\nPUT a ");
    let chunk = [b'x'; 64 * 1024];
    let mut sent = 0;
    while talk.session.wants_input() {
        talk.says(chunk);
        sent += chunk.len();
        assert!(sent <= LINE_BYTES_MAX + 2 * chunk.len());
        assert!(talk.session.buffered_bytes() <= 3 * LINE_BYTES_MAX);
    }
    let heard = talk.hears();
    assert!(heard.starts_with("PONG\nERR line_too_long "), "{heard}");
    assert_eq!(talk.session.finished(), Some(CloseReason::LineTooLong));
}

#[test]
fn the_longest_line_is_taken_and_one_byte_more_is_not() {
    for (bytes, taken) in [(LINE_BYTES_MAX, true), (LINE_BYTES_MAX + 1, false)] {
        let mut talk = talk();
        let line = [&b"FLY "[..], &vec![b'x'; bytes - 4], b"\r\nPING\n"].concat();
        talk.says(line);
        let heard = talk.hears();
        assert_eq!(heard.starts_with("ERR unknown_command"), taken, "{}", &heard[..60]);
        assert_eq!(heard.ends_with("PONG\n"), taken);
    }
}

#[test]
fn above_the_bound_of_all_a_request_is_refused_in_its_order() {
    let mut talk = talk_within(NetLimits { requests_max: 1, ..NetLimits::default() });
    talk.says("GET a\nGET b\nLIST\nPUT c 1\n");
    assert_eq!(talk.asks(), ["get a"]);
    assert_eq!(talk.hears(), "");
    talk.answer(0, value(&"1".into()));
    let heard = talk.hears();
    let lines: Vec<&str> = heard.lines().collect();
    assert_eq!(lines[0], "1");
    assert!(lines[1..].iter().all(|line| line.starts_with("ERR busy ")), "{heard}");
    assert_eq!(lines.len(), 4);
    talk.says("PUT c 1\n");
    assert_eq!(talk.asks(), ["put c"], "a refused listing was never in flight");
}

#[test]
fn a_full_connection_is_not_read_and_goes_on_when_it_is_answered() {
    let mut talk = talk_within(NetLimits { connection_requests_max: 2, ..NetLimits::default() });
    talk.says("GET a\nGET b\nGET c\nGET d\n");
    assert_eq!(talk.asks(), ["get a", "get b"]);
    assert!(!talk.session.wants_input());
    assert_eq!(talk.session.unit_begun(), None, "what waits here is not the client's fault");
    talk.answer(1, value(&"2".into()));
    assert!(!talk.session.wants_input(), "the first still holds its place");
    talk.answer(0, value(&"1".into()));
    assert_eq!(talk.asks(), ["get c", "get d"]);
    talk.answer(0, value(&"3".into()));
    talk.answer(0, value(&"4".into()));
    assert!(talk.session.wants_input());
    assert_eq!(talk.hears(), "1\n2\n3\n4\n");
}

#[test]
fn large_answers_slow_down_the_reads_that_ask_for_them() {
    let bound = 1_000_000;
    let mut talk = talk_within(NetLimits { connection_buffered_bytes_max: bound, ..NetLimits::default() });
    for _ in 0..500 {
        talk.says("GET a\n");
    }
    let large = Bytes::from(vec![b'x'; 100_000]);
    let mut answered = 0;
    while !talk.asked.is_empty() {
        assert!(talk.asked.len() * large.len() <= bound + large.len(), "{} reads in flight", talk.asked.len());
        talk.answer(0, value(&large));
        answered += 1;
        talk.hears();
    }
    assert_eq!(answered, 500);
    for _ in 0..500 {
        talk.says("GET a\n");
    }
    while talk.asked.len() < 400 {
        talk.answer(0, value(&"small".into()));
        talk.hears();
    }
}

#[test]
fn a_read_that_waits_for_room_goes_when_the_answers_before_it_were_taken() {
    let mut talk = talk_within(NetLimits { connection_buffered_bytes_max: 1000, ..NetLimits::default() });
    talk.says("GET a\nGET b\n");
    assert_eq!(talk.asks(), ["get a"], "the size of the answers is not known yet");
    talk.answer(0, value(&Bytes::from(vec![b'x'; 900])));
    assert!(talk.asks().is_empty(), "the first answer was not taken");
    let output = talk.session.pipeline().output();
    output.advance(output.len());
    assert!(talk.session.pipeline().has_work(&talk.admission));
    talk.advance();
    assert_eq!(talk.asks(), ["get b"]);
}

#[test]
fn buffers_of_an_idle_connection_are_given_back() {
    let mut talk = talk();
    let line = format!("PUT a {}\n", "x".repeat(900_000));
    talk.says(line);
    talk.answer(0, put_done());
    talk.says("GET a\n");
    talk.answer(0, value(&Bytes::from(vec![b'x'; 900_000])));
    talk.hears();
    assert!(talk.session.buffered_bytes() <= 16 * 1024, "{} bytes", talk.session.buffered_bytes());
    // Nor does it keep them without counting them.
    assert!(!talk.session.pipeline().output().try_reclaim(16 * 1024));
}

#[test]
fn an_idle_connection_keeps_no_room_for_as_many_requests_as_it_once_had() {
    let mut talk = talk();
    talk.says("PUT a x\n".repeat(1000));
    assert!(talk.session.buffered_bytes() > 100 * 1024, "the room is counted: {}", talk.session.buffered_bytes());
    while !talk.asked.is_empty() {
        talk.answer(0, put_done());
    }
    talk.hears();
    assert!(talk.session.buffered_bytes() <= 16 * 1024, "{} bytes", talk.session.buffered_bytes());
}

/// Whatever is pipelined, cut into whatever pieces and answered in whatever order that the rule allows, the client
/// hears what it would hear if it waited for each answer.
#[test]
fn pipelining_changes_nothing_that_a_client_can_see() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let line = |random: &mut Random| match random.below(6) {
            0 | 1 => format!("PUT k{} {}\n", random.below(4), random.below(100)),
            2 => format!("DELETE k{}\n", random.below(4)),
            3 => "LIST\n".to_string(),
            4 => "PING\n".to_string(),
            _ => format!("GET k{}\n", random.below(4)),
        };
        let script: Vec<String> = (0..40).map(|_| line(&mut random)).collect();
        let limits = NetLimits {
            connection_requests_max: 1 + random.below(20) as usize,
            page_keys: 1 + random.below(3) as usize,
            encoded_bytes_target: 1 + random.below(30) as usize,
            ..NetLimits::default()
        };

        let (mut one_by_one, mut store, mut expected) = (talk_within(limits.clone()), Store::default(), String::new());
        for line in &script {
            one_by_one.says(line);
            while !one_by_one.asked.is_empty() || one_by_one.session.has_output() {
                if !one_by_one.asked.is_empty() {
                    let reply = store.answer(one_by_one.asked[0].request.clone());
                    one_by_one.answer(0, reply);
                }
                expected += &one_by_one.hears();
            }
        }

        let (mut piped, mut store, mut heard) = (talk_within(limits), Store::default(), String::new());
        let mut input = script.concat().into_bytes();
        // Takes effect in the order asked, answered in any.
        let mut replies: Vec<(u64, Reply)> = Vec::new();
        loop {
            for asked in piped.asked.drain(..) {
                replies.push((asked.sequence, store.answer(asked.request)));
            }
            match random.below(3) {
                0 if !input.is_empty() && piped.session.wants_input() => {
                    let length = 1 + random.below(30.min(input.len() as u64)) as usize;
                    let chunk: Vec<u8> = input.drain(..length).collect();
                    piped.says(chunk);
                }
                1 if !replies.is_empty() => {
                    let (sequence, reply) = replies.remove(random.below(replies.len() as u64) as usize);
                    piped.admission.give_back(1);
                    piped.session.on_reply(sequence, reply, &piped.admission);
                    piped.advance();
                }
                _ => heard += &piped.hears(),
            }
            let quiet = !piped.session.has_output() && piped.asked.is_empty() && replies.is_empty();
            if input.is_empty() && quiet && !piped.session.pipeline().has_work(&piped.admission) {
                break;
            }
        }
        assert_eq!(heard, expected, "seed {seed}");
        assert_eq!(piped.admission.requests(), 0, "seed {seed}");
    }
}
