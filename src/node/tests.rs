//! Who is answered what, and when, by one replica.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::replica::{Effects, FromDisk, ReplicaEvent};
use super::testing::{CLIENT, Rig, entry, get, instance, members, node, noop, put};
use crate::api::{ErrorCode, IfNotLeading, Outcome, Reply, Request};
use crate::base::limits;
use crate::base::{ClusterId, EntryKind, HardState, LogIndex, Moment, Operation, Shortage, Space, Term};
use crate::net::{FromNet, NetEvent, Origin};
use crate::raft::{
    Absence, Acked, Body, Check, Damage, EntryId, LogTail, Message, MissingEntry, Recovered, StateDigest,
};

fn replies(effects: &Effects) -> Vec<(u64, &Reply)> {
    let reply = |event| match event {
        &NetEvent::Reply { origin, ref reply, .. } => Some((origin.sequence, reply)),
        _ => None,
    };
    effects.net.iter().filter_map(reply).collect()
}

fn forwarded(effects: &Effects) -> u64 {
    let id = |event: &NetEvent| if let NetEvent::Forward { id, .. } = event { Some(*id) } else { None };
    effects.net.iter().find_map(id).expect("it is passed on")
}

fn code(reply: &Reply) -> Option<ErrorCode> {
    reply.result.as_ref().err().map(|error| error.code)
}

#[test]
fn a_write_whose_entry_was_replaced_is_refused_only_once_the_replacement_is_committed() {
    let mut rig = Rig::start(0);
    rig.lead();
    assert!(replies(&rig.ask(put())).is_empty());
    // Node 2 holds entry 3 of term 2, say: nodes 4 and 5, which hold neither, can elect it when node 3 is gone.
    let truncated = rig.append(3, 3, (2, 2), vec![noop(3, 3)], 2);
    assert!(replies(&truncated).is_empty(), "nothing is certain yet: {:?}", truncated.net);
    let committed = rig.append(3, 3, (3, 3), Vec::new(), 3);
    let replies = replies(&committed);
    assert_eq!(replies.len(), 1);
    assert_eq!((replies[0].0, code(replies[0].1)), (1, Some(ErrorCode::NoLeader)));
}

/// What one acknowledgement covers was sent at two times, and is measured from both.
#[test]
fn each_append_is_measured_to_the_acknowledgement_that_covers_it() {
    let mut rig = Rig::start(0);
    rig.lead();
    let acked = |rig: &mut Rig, from, matched| {
        let body = Body::AppendAccepted { matched: LogIndex(matched), round: 0 };
        rig.receive(from, 2, body).acked
    };
    rig.ask(put());
    rig.now = rig.now + Duration::from_millis(3);
    rig.ask(put());
    rig.now = rig.now + Duration::from_millis(4);
    let after = |peer, millis| Acked { peer: node(peer), after: Duration::from_millis(millis) };
    assert_eq!(acked(&mut rig, 2, 4), [after(2, 7), after(2, 4)]);
    assert_eq!(acked(&mut rig, 2, 4), [], "it says it again");
    assert_eq!(acked(&mut rig, 3, 3), [after(3, 7)]);
}

/// Its net thread tells them; here nothing is known of them.
#[test]
fn a_request_for_latencies_that_comes_to_consensus_is_refused() {
    let mut rig = Rig::start(0);
    rig.lead();
    let effects = rig.ask(Request::Latency);
    assert_eq!(code(replies(&effects)[0].1), Some(ErrorCode::BadArguments));
    let passed_on = FromNet::Forwarded { from: node(2), id: 7, term: Term(2), request: Request::Latency };
    let effects = rig.turn(ReplicaEvent::FromNet(passed_on));
    let [NetEvent::ForwardReply { id: 7, reply, .. }] = &effects.net[..] else { panic!("{effects:?}") };
    assert_eq!(code(reply), Some(ErrorCode::BadArguments));
}

#[test]
fn a_write_that_was_replaced_here_and_committed_from_another_log_is_acknowledged() {
    let mut rig = Rig::start(0);
    rig.lead();
    let asked = rig.ask(put());
    let own = asked.persists[0].entries[0].clone();
    assert_eq!((own.index, own.term), (LogIndex(3), Term(2)));
    rig.append(3, 3, (2, 2), vec![noop(3, 3)], 2);
    let back = rig.append(2, 4, (2, 2), vec![own, noop(4, 4)], 4);
    let replies = replies(&back);
    assert!(matches!(replies[..], [(1, Reply { result: Ok(Outcome::Put { .. }), .. })]), "{replies:?}");
}

#[test]
fn a_write_that_was_replaced_and_never_settled_is_of_unknown_outcome() {
    let mut rig = Rig::start(0);
    rig.lead();
    rig.ask(put());
    rig.append(3, 3, (2, 2), vec![noop(3, 3)], 2);
    rig.now = rig.now + Duration::from_secs(6);
    let late = rig.turn(ReplicaEvent::Tick);
    let replies = replies(&late);
    assert_eq!(replies.len(), 1);
    assert_eq!((replies[0].0, code(replies[0].1)), (1, Some(ErrorCode::OutcomeUnknown)));
}

#[test]
fn an_answer_to_what_was_passed_on_before_a_restart_reaches_no_client_after_it() {
    let mut before = Rig::start(1000);
    before.follow();
    let old = forwarded(&before.ask(put()));
    let mut after = Rig::start(2000);
    after.follow();
    let new = forwarded(&after.ask(get()));
    let answer = |id| {
        let reply = Reply { result: Ok(Outcome::Put { revision: crate::base::Revision(1) }), leader: None };
        ReplicaEvent::FromNet(FromNet::ForwardReply { from: node(2), id, reply })
    };
    assert!(replies(&after.turn(answer(old))).is_empty());
    assert_eq!(replies(&after.turn(answer(new))).len(), 1);
}

/// Node 2 leads term 2, and entry 2 is committed.
fn following() -> Rig {
    let mut rig = Rig::start(0);
    rig.follow();
    rig.append(2, 2, (1, 1), vec![noop(2, 2)], 2);
    rig
}

/// A read that node 1 is to answer whether it leads or not.
fn read_here(rig: &mut Rig, sequence: u64) -> Effects {
    let (origin, if_not_leading) = (Origin { connection: CLIENT, sequence }, IfNotLeading::Read);
    let request = FromNet::Request { origin, request: get(), if_not_leading, handed_on: Moment::ZERO };
    rig.turn(ReplicaEvent::FromNet(request))
}

fn question(effects: &Effects) -> Option<u64> {
    effects.net.iter().find_map(|event| match event {
        NetEvent::Send { message: Message { body: Body::ReadIndex { token }, .. } } => Some(*token),
        _ => None,
    })
}

#[test]
fn a_node_that_does_not_lead_answers_a_read_once_it_has_applied_what_its_leader_names() {
    let mut rig = following();
    let asked = read_here(&mut rig, 1);
    let token = question(&asked).expect("it asks node 2");
    assert!(replies(&asked).is_empty());
    let told = rig.receive(2, 2, Body::ReadIndexReply { token, index: LogIndex(3) });
    assert!(replies(&told).is_empty(), "entry 3 is not here yet");
    let applied = rig.append(2, 2, (2, 2), vec![noop(3, 2)], 3);
    let [(1, Reply { result: Ok(Outcome::Value { .. }), leader })] = &replies(&applied)[..] else {
        panic!("{applied:?}")
    };
    assert_eq!(leader.as_ref().map(|leader| leader.id), Some(node(2)));
}

#[test]
fn reads_of_one_turn_share_a_question_and_those_behind_it_wait_for_the_next() {
    let mut rig = following();
    let first = question(&read_here(&mut rig, 1)).unwrap();
    assert_eq!(question(&read_here(&mut rig, 2)), None, "one question at a time");
    assert_eq!(question(&read_here(&mut rig, 3)), None);
    let told = rig.receive(2, 2, Body::ReadIndexReply { token: first, index: LogIndex(2) });
    assert_eq!(replies(&told).iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [1]);
    let second = question(&told).expect("two reads wait");
    assert_ne!(first, second);
    let again = rig.receive(2, 2, Body::ReadIndexReply { token: first, index: LogIndex(2) });
    assert!(replies(&again).is_empty(), "it says the same again");
    let told = rig.receive(2, 2, Body::ReadIndexReply { token: second, index: LogIndex(2) });
    assert_eq!(replies(&told).iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_read_that_no_leader_confirms_is_refused() {
    let mut rig = following();
    read_here(&mut rig, 1);
    let lost = rig.receive(3, 3, Body::Vote { last_index: LogIndex(9), last_term: Term(2), transfer: false });
    assert!(replies(&lost).is_empty(), "it still hears its leader");
    rig.now = rig.now + Duration::from_secs(2);
    let lost = rig.receive(3, 3, Body::Vote { last_index: LogIndex(9), last_term: Term(2), transfer: false });
    let [(1, reply)] = replies(&lost)[..] else { panic!("{lost:?}") };
    assert_eq!(code(reply), Some(ErrorCode::NoLeader));
    let unled = read_here(&mut rig, 2);
    assert_eq!(code(replies(&unled)[0].1), Some(ErrorCode::NoLeader));
}

#[test]
fn a_node_whose_state_differs_passes_reads_on_and_answers_none_that_it_has_begun() {
    let mut rig = following();
    let token = question(&read_here(&mut rig, 1)).unwrap();
    rig.receive(2, 2, Body::ReadIndexReply { token, index: LogIndex(3) });
    let agreed = Some(StateDigest { index: LogIndex(2), digest: !rig.replica.store().view().digest() });
    let check = Check { asked: LogIndex::ZERO, agreed };
    rig.receive(2, 2, Body::Heartbeat { commit: LogIndex(2), round: 1, check, promise_ms: 0 });
    let applied = rig.append(2, 2, (2, 2), vec![noop(3, 2)], 3);
    let [(1, reply)] = replies(&applied)[..] else { panic!("{applied:?}") };
    assert_eq!(code(reply), Some(ErrorCode::NoLeader));
    forwarded(&read_here(&mut rig, 2));
}

#[test]
fn a_committed_entry_that_cant_be_applied_is_fatal_and_nothing_behind_it_is_applied() {
    let mut rig = Rig::start(0);
    let garbage = entry(2, 2, EntryKind::Commands, Bytes::from_static(b"\xff\xff\xff"));
    let effects = rig.append(2, 2, (1, 1), vec![garbage, noop(3, 2)], 3);
    let fatal = effects.fatal.expect("no node may skip it");
    assert_eq!(fatal.index, LogIndex(2));
}

#[test]
fn a_peer_that_passes_on_a_status_gets_one() {
    let mut rig = Rig::start(0);
    rig.lead();
    let request = Request::Status;
    let forwarded = FromNet::Forwarded { from: node(2), id: 7, term: Term(2), request };
    let effects = rig.turn(ReplicaEvent::FromNet(forwarded));
    let status = |event: &NetEvent| {
        matches!(event, NetEvent::ForwardReply { id: 7, reply: Reply { result: Ok(Outcome::Status(_)), .. }, .. })
    };
    assert!(effects.net.iter().any(status), "{:?}", effects.net);
}

/// So the README says: a program can go there itself.
#[test]
fn a_refusal_names_the_leader_also_what_the_link_to_it_refused() {
    let mut rig = Rig::start(0);
    rig.follow();
    let origin = Origin { connection: CLIENT, sequence: 9 };
    let not_forwarded = rig.turn(ReplicaEvent::FromNet(FromNet::Request {
        origin,
        request: get(),
        if_not_leading: IfNotLeading::Refuse,
        handed_on: Moment::ZERO,
    }));
    let id = forwarded(&rig.ask(get()));
    let reply = Reply::refused(ErrorCode::Busy, "the link is full", None);
    let not_sent = rig.turn(ReplicaEvent::FromNet(FromNet::ForwardReply { from: node(2), id, reply }));
    for (effects, expected) in [(not_forwarded, ErrorCode::NotLeader), (not_sent, ErrorCode::Busy)] {
        let [(_, reply)] = replies(&effects)[..] else { panic!("{effects:?}") };
        let leader = reply.leader.as_ref().map(|leader| leader.id);
        assert_eq!((code(reply), leader), (Some(expected), Some(node(2))));
    }
}

#[test]
fn what_is_passed_on_to_a_node_that_does_not_lead_is_refused_for_certain() {
    for request in [put(), get()] {
        let mut rig = Rig::start(0);
        let forwarded = FromNet::Forwarded { from: node(2), id: 7, term: Term(1), request };
        let effects = rig.turn(ReplicaEvent::FromNet(forwarded));
        let [NetEvent::ForwardReply { to, id: 7, reply }] = &effects.net[..] else { panic!("{effects:?}") };
        let error = reply.result.as_ref().unwrap_err();
        assert_eq!((*to, error.code), (node(2), ErrorCode::NoLeader));
        assert!(error.message.contains("nothing was done"), "{}", error.message);
    }
}

/// It may have waited on its way while others led, and its client has gone on since.
#[test]
fn a_write_that_was_passed_on_in_another_term_is_refused_and_never_proposed() {
    let mut rig = Rig::start(0);
    rig.lead();
    for (term, is_taken) in [(1, false), (3, false), (2, true)] {
        let forwarded = FromNet::Forwarded { from: node(2), id: term, term: Term(term), request: put() };
        let effects = rig.turn(ReplicaEvent::FromNet(forwarded));
        let refused = |event: &NetEvent| match event {
            NetEvent::ForwardReply { reply, .. } => code(reply) == Some(ErrorCode::NoLeader),
            _ => false,
        };
        assert_eq!(effects.net.iter().any(refused), !is_taken, "term {term}: {:?}", effects.net);
        assert_eq!(!effects.persists.is_empty(), is_taken, "term {term}");
    }
}

#[test]
fn the_directory_learns_its_cluster_only_once_the_entry_that_names_it_is_durable_here() {
    let mut rig = Rig::recovered(Recovered::default(), 0);
    let entries = vec![entry(1, 1, EntryKind::Members, members().encode())];
    let append = Body::Append {
        prev_index: LogIndex::ZERO,
        prev_term: Term::ZERO,
        entries,
        commit: LogIndex(1), // a majority holds it, and this node is not among them yet
        round: 0,
    };
    let message = Message { from: node(2), to: node(1), instance: instance(2), term: Term(1), body: append };
    let mut effects = Effects::default();
    rig.replica.on_event(rig.now, ReplicaEvent::FromNet(FromNet::Raft { message }), &mut effects);
    rig.replica.end_turn(rig.now, &mut effects);
    assert!(effects.members.is_some(), "it is applied");
    assert_eq!(effects.record_cluster, None);
    let seq = effects.persists.last().expect("it is persisted").seq;
    rig.replica.on_event(rig.now, ReplicaEvent::FromDisk(FromDisk::Persisted { seq }), &mut effects);
    rig.replica.end_turn(rig.now, &mut effects);
    assert_eq!(effects.record_cluster, Some(ClusterId(1)));
}

#[test]
fn writes_of_a_turn_in_which_leadership_is_lost_are_refused_and_reads_too() {
    let mut rig = Rig::start(0);
    rig.lead();
    let mut effects = Effects::default();
    for (sequence, request) in [(1, put()), (2, get())] {
        let origin = Origin { connection: CLIENT, sequence };
        let request =
            FromNet::Request { origin, request, if_not_leading: IfNotLeading::Forward, handed_on: Moment::ZERO };
        rig.replica.on_event(rig.now, ReplicaEvent::FromNet(request), &mut effects);
    }
    let body = Body::Heartbeat { commit: LogIndex::ZERO, round: 0, check: Check::default(), promise_ms: 0 };
    let message = Message { from: node(3), to: node(1), instance: instance(3), term: Term(5), body };
    rig.replica.on_event(rig.now, ReplicaEvent::FromNet(FromNet::Raft { message }), &mut effects);
    rig.replica.end_turn(rig.now, &mut effects);
    let mut answered: Vec<_> = replies(&effects).iter().map(|(sequence, reply)| (*sequence, code(reply))).collect();
    answered.sort_unstable_by_key(|(sequence, _)| *sequence);
    assert_eq!(answered, [(1, Some(ErrorCode::NoLeader)), (2, Some(ErrorCode::NoLeader))]);
    assert!(rig.replica.is_idle());
}

/// What became of a write: taken, or refused with this sentence.
fn refusal(effects: &Effects) -> Option<String> {
    let reply = effects.net.iter().find_map(|event| match event {
        NetEvent::Reply { reply, .. } | NetEvent::ForwardReply { reply, .. } => Some(reply),
        _ => None,
    });
    assert_eq!(reply.is_none(), !effects.persists.is_empty(), "{effects:?}");
    let error = reply?.result.as_ref().unwrap_err();
    assert_eq!(error.code, ErrorCode::NoSpace, "{error}");
    Some(error.message.clone())
}

#[test]
fn a_leader_without_room_refuses_what_grows_and_at_last_everything_and_says_whose_disk_it_is() {
    let mut rig = Rig::start(0);
    rig.lead();
    let delete = || Request::Write(Operation::Delete { key: "k".into() });
    let forward = |request| ReplicaEvent::FromNet(FromNet::Forwarded { from: node(2), id: 7, term: Term(2), request });
    rig.turn(ReplicaEvent::FromDisk(FromDisk::Space(Space::Low)));
    let own = "the disk of node 1 is nearly full, and nothing that makes the data grow is taken; deletes are; nothing \
               was done, make room there and send it again";
    assert_eq!(refusal(&rig.ask(put())).as_deref(), Some(own));
    assert_eq!(refusal(&rig.turn(forward(put()))).as_deref(), Some(own));
    assert_eq!(refusal(&rig.ask(delete())), None);
    assert_eq!(refusal(&rig.turn(forward(delete()))), None);
    assert!(!rig.replica.is_sound() && rig.replica.problems(rig.now)[0].contains("nearly full"));
    rig.turn(ReplicaEvent::FromDisk(FromDisk::Space(Space::Exhausted)));
    let full = "the disk of node 1 is full, and no write is taken; nothing was done, make room there and send it again";
    assert_eq!(refusal(&rig.ask(delete())).as_deref(), Some(full));
    rig.turn(ReplicaEvent::FromDisk(FromDisk::Space(Space::Plenty)));
    assert_eq!(refusal(&rig.ask(put())), None);
    assert!(rig.replica.is_sound() && rig.replica.problems(rig.now).is_empty());

    // It says itself how much it needs, or what else is wrong with its disk.
    let shortage = |is_full, what: &str| {
        ReplicaEvent::FromDisk(FromDisk::Shortage(Some(Shortage { is_full, what: what.to_string() })))
    };
    rig.turn(ReplicaEvent::FromDisk(FromDisk::Space(Space::Low)));
    rig.turn(shortage(true, "3 MiB free, and 48 MiB are needed"));
    let why = refusal(&rig.ask(put())).unwrap();
    assert!(why.starts_with("the disk of node 1 is nearly full (3 MiB free, and 48 MiB are needed), and no"), "{why}");
    assert!(rig.replica.problems(rig.now)[0].contains("(3 MiB free, and 48 MiB are needed)"));
    rig.turn(shortage(false, "permission denied"));
    for said in [refusal(&rig.ask(put())).unwrap(), rig.replica.problems(rig.now).remove(0)] {
        assert!(said.contains("(permission denied)") && said.contains("mend that"), "{said}");
        assert!(!said.contains("full") && !said.contains("room"), "{said}");
    }
    rig.turn(ReplicaEvent::FromDisk(FromDisk::Shortage(None)));
    rig.turn(ReplicaEvent::FromDisk(FromDisk::Space(Space::Plenty)));

    // Two full followers of four leave a majority; three do not.
    for (follower, refused) in [(3, false), (5, false), (4, true)] {
        rig.receive(follower, 2, Body::HeartbeatReply { round: 0, digest: None, space: Space::Low, promise_ms: 0 });
        let refusal = refusal(&rig.ask(put()));
        assert_eq!(refusal.is_some(), refused, "node {follower}: {refusal:?}");
        assert!(refusal.is_none_or(|why| why.starts_with("the disks of nodes 3, 4, 5 are nearly full")));
    }
    rig.receive(5, 2, Body::HeartbeatReply { round: 0, digest: None, space: Space::Plenty, promise_ms: 0 });
    assert_eq!(refusal(&rig.ask(put())), None);
}

#[test]
fn a_peer_that_is_gone_was_short_of_room_and_one_that_is_there_is() {
    let mut rig = Rig::start(0);
    rig.lead();
    rig.turn(ReplicaEvent::FromNet(FromNet::LinkUp { peer: node(3) }));
    rig.receive(3, 2, Body::HeartbeatReply { round: 0, digest: None, space: Space::Low, promise_ms: 0 });
    assert_eq!(rig.replica.problems(rig.now), ["the disk of node 3 is nearly full (its own status says why)"]);
    rig.turn(ReplicaEvent::FromNet(FromNet::LinkDown { peer: node(3), why: "refused".to_string() }));
    assert_eq!(rig.replica.problems(rig.now), ["the disk of node 3 was nearly full when it was heard last"]);
}

/// What a node that knows no leader answers.
fn no_leader(rig: &mut Rig) -> String {
    let effects = rig.ask(put());
    let [NetEvent::Reply { reply, .. }] = &effects.net[..] else { panic!("{effects:?}") };
    let error = reply.result.as_ref().unwrap_err();
    assert_eq!(error.code, ErrorCode::NoLeader, "{error}");
    error.message.clone()
}

#[test]
fn a_node_whose_disk_is_full_is_named_where_nobody_leads_and_waiting_is_not_advised() {
    let mut rig = Rig::start(0);
    (2..=5).for_each(|peer| drop(rig.turn(ReplicaEvent::FromNet(FromNet::LinkUp { peer: node(peer) }))));
    let what = "data directory d1: 3 MiB free, and 48 MiB are needed".to_string();
    rig.turn(ReplicaEvent::FromDisk(FromDisk::Shortage(Some(Shortage { is_full: true, what }))));
    rig.turn(ReplicaEvent::FromDisk(FromDisk::Space(Space::Exhausted)));
    let cause = "node 1 does not stand, since its disk is full (data directory d1: 3 MiB free, and 48 MiB are needed); \
                 make room in the file system of its data directory";
    let why = no_leader(&mut rig);
    assert!(why.starts_with("no leader is known to node 1: ") && why.contains(cause), "{why}");
    assert!(why.ends_with("nobody leads before there is room") && !why.contains("try again"), "{why}");
    assert!(rig.replica.why_no_leader().ends_with(cause), "the log says it too");

    let what = "permission denied".to_string();
    rig.turn(ReplicaEvent::FromDisk(FromDisk::Shortage(Some(Shortage { is_full: false, what }))));
    let why = no_leader(&mut rig);
    assert!(why.contains("needs next (permission denied); mend that") && !why.contains("make room"), "{why}");
}

#[test]
fn without_a_leader_for_longer_than_an_election_takes_nobody_is_told_to_try_again() {
    let mut rig = Rig::start(0);
    (2..=5).for_each(|peer| drop(rig.turn(ReplicaEvent::FromNet(FromNet::LinkUp { peer: node(peer) }))));
    rig.turn(ReplicaEvent::Tick);
    assert!(no_leader(&mut rig).ends_with("; an election takes part of a second, try again"));
    rig.now = rig.now + Duration::from_secs(7);
    rig.turn(ReplicaEvent::Tick);
    let why = no_leader(&mut rig);
    assert!(why.contains("; there has been none for 7 s, which is longer") && !why.contains("try again"), "{why}");
}

/// A follower that is full acknowledges nothing new, so its leader's first entry is committed only once there is room.
#[test]
fn reads_that_wait_for_room_for_the_first_entry_of_a_term_say_so() {
    let mut rig = Rig::start(0);
    rig.win([(2, false), (3, false)]);
    assert!(replies(&rig.ask(get())).is_empty(), "nobody has said yet that its disk is full");
    for peer in 2..=4 {
        rig.receive(peer, 2, Body::HeartbeatReply { round: 1, digest: None, space: Space::Exhausted, promise_ms: 0 });
    }
    let cause = "the first log entry of node 1's term 2 is on no majority's disks for want of room on nodes 2, 3 and 4";
    assert!(rig.replica.problems(rig.now).iter().any(|problem| problem.starts_with(cause)));
    let refused = rig.ask(get());
    rig.now = rig.now + Duration::from_secs(5);
    (2..=4).for_each(|peer| {
        let _ = rig.receive(
            peer,
            2,
            Body::HeartbeatReply { round: 1, digest: None, space: Space::Exhausted, promise_ms: 0 },
        );
    });
    let expired = rig.turn(ReplicaEvent::Tick);
    for (effects, expected) in [(refused, ErrorCode::NoSpace), (expired, ErrorCode::Timeout)] {
        let [(_, reply)] = replies(&effects)[..] else { panic!("{effects:?}") };
        let message = &reply.result.as_ref().unwrap_err().message;
        assert_eq!(code(reply), Some(expected), "{message}");
        assert!(message.contains(cause) && message.ends_with("make room there, and send it again"), "{message}");
    }
    rig.receive(2, 2, Body::AppendAccepted { matched: LogIndex(2), round: 1 });
    rig.receive(3, 2, Body::AppendAccepted { matched: LogIndex(2), round: 1 });
    assert!(!rig.replica.problems(rig.now).iter().any(|problem| problem.starts_with(cause)));
}

#[test]
fn a_leader_that_was_elected_past_a_loss_says_so_for_as_long_as_it_leads() {
    let mut rig = Rig::start(0);
    rig.win([(2, true), (3, true), (4, true), (5, false)]);
    let problem = rig.replica.problems(rig.now).remove(0);
    assert!(problem.contains("only nodes 2, 3 and 4 held, may be lost") && !rig.replica.is_sound(), "{problem}");
    rig.append(3, 3, (1, 1), vec![noop(2, 3)], 1);
    assert!(rig.replica.problems(rig.now).is_empty() && rig.replica.is_sound());
    rig = Rig::start(0);
    rig.win([(2, true), (3, false), (5, false)]);
    assert!(rig.replica.problems(rig.now).is_empty() && rig.replica.is_sound());
}

/// It has the members' entry; the entry behind it is lost.
fn with_a_lost_entry() -> Rig {
    let log = LogTail { term_runs: vec![(LogIndex(1), Term(1))], last_index: LogIndex(2), entries: Vec::new() };
    let missing = vec![MissingEntry { index: LogIndex(2), term: Term(1), checksum: None }];
    let damage = Damage { suspect: true, end_uncertain: false, missing };
    let hard_state = HardState { term: Term(1), vote: None };
    let members = vec![(LogIndex(1), Arc::new(members()))];
    Rig::recovered(Recovered { hard_state, log, members, damage }, 0)
}

#[test]
fn an_answer_without_a_leader_says_who_is_missing_and_whether_it_helps_to_try_again() {
    let mut forming = Rig::recovered(Recovered::default(), 0);
    let up = |peer| ReplicaEvent::FromNet(FromNet::LinkUp { peer: node(peer) });
    let down = |peer| ReplicaEvent::FromNet(FromNet::LinkDown { peer: node(peer), why: "refused".to_string() });
    (2..=4).for_each(|peer| drop(forming.turn(up(peer))));
    forming.turn(down(5));
    let why = no_leader(&mut forming);
    assert!(why.contains("a new cluster forms once all its members have answered; node 5 at h:5: refused"), "{why}");
    assert!(why.ends_with("; start what is missing, and try again"), "{why}");
    forming.turn(up(5));
    assert!(
        no_leader(&mut forming).ends_with("all peers are connected; an election takes part of a second, try again")
    );

    // Of a formed cluster a majority is enough.
    let mut formed = Rig::start(0);
    formed.turn(up(2));
    assert!(no_leader(&mut formed).ends_with("; start what is missing, and try again"));
    formed.turn(up(3));
    assert!(no_leader(&mut formed).ends_with("; an election takes part of a second, try again"));
}

#[test]
fn an_entry_that_is_bad_everywhere_is_named_and_nobody_is_told_to_try_again() {
    let mut rig = with_a_lost_entry();
    let why = no_leader(&mut rig);
    assert!(why.contains("whose disk has lost 1 log entry, has no vote"), "{why}");
    assert!(!rig.replica.is_stuck() && rig.replica.problems(rig.now)[0].contains("is fetched from the other nodes"));
    // A majority is connected, but this node's vote is not to be counted on.
    (2..=4).for_each(|peer| drop(rig.turn(ReplicaEvent::FromNet(FromNet::LinkUp { peer: node(peer) }))));
    assert!(no_leader(&mut rig).ends_with("; start what is missing, and try again"));
    let id = EntryId { index: LogIndex(2), term: Term(1) };
    for peer in 2..=5 {
        let (entries, absent) = (Vec::new(), vec![(id, Absence::Lost)]);
        rig.receive(peer, 1, Body::Refilled { entries, absent, barrier: None });
    }
    let why = no_leader(&mut rig);
    assert!(why.contains("every copy of log entry 2 of term 1 is bad") && !why.contains("try again"), "{why}");
    let problems = rig.replica.problems(rig.now).join("; ");
    assert!(rig.replica.is_stuck() && !problems.contains("fetched"), "{problems}");
}

fn status(rig: &mut Rig) -> crate::api::Status {
    let effects = rig.ask(Request::Status);
    match effects.net.into_iter().next() {
        Some(NetEvent::Reply { reply: Reply { result: Ok(Outcome::Status(status)), .. }, .. }) => *status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_answers_nothing_is_silent_to_its_leader_though_the_link_is_up() {
    let mut rig = Rig::start(0);
    rig.lead();
    (2..=5).for_each(|peer| drop(rig.turn(ReplicaEvent::FromNet(FromNet::LinkUp { peer: node(peer) }))));
    rig.now = rig.now + Duration::from_secs(4);
    rig.receive(2, 2, Body::HeartbeatReply { round: 0, digest: None, space: Space::Plenty, promise_ms: 0 });
    let peers = status(&mut rig).peers;
    let silent: Vec<&str> = peers.iter().map(|peer| peer.down_because.as_str()).collect();
    assert_eq!(silent, ["", "silent for 4.0 s", "silent for 4.0 s", "silent for 4.0 s"]);
    let problems = status(&mut rig).problems;
    assert!(problems.len() == 3 && problems[0].starts_with("node 3 at h:3 answers nothing"), "{problems:?}");

    // One that comes back was away, and has not been silent since it did.
    rig.turn(ReplicaEvent::FromNet(FromNet::LinkDown { peer: node(3), why: "refused".to_string() }));
    rig.turn(ReplicaEvent::FromNet(FromNet::LinkUp { peer: node(3) }));
    assert_eq!(status(&mut rig).peers[1].down_because, "");
}

#[test]
fn a_status_names_the_cluster_that_the_log_or_the_directory_knows() {
    let id = ClusterId(1);
    assert_eq!(status(&mut Rig::start(0)).cluster, format!("test {id}"), "the log knows");
    let mut new = Rig::recovered(Recovered::default(), 0);
    assert_eq!(status(&mut new).cluster, "test (not formed yet)");
    new.replica = new.replica.in_cluster(Some(id));
    assert_eq!(status(&mut new).cluster, format!("test {id}"), "the directory knows");
}

#[test]
fn a_node_that_counts_in_no_quorum_says_so_among_its_problems() {
    let mut others = members();
    others.voters[0].instance = Some(instance(9));
    let log = LogTail {
        term_runs: vec![(LogIndex(1), Term(1))],
        last_index: LogIndex(1),
        entries: vec![entry(1, 1, EntryKind::Members, others.encode())],
    };
    let hard_state = HardState { term: Term(1), vote: None };
    let members = vec![(LogIndex(1), Arc::new(others))];
    let mut rig = Rig::recovered(Recovered { hard_state, log, members, ..Recovered::default() }, 0);
    assert!(status(&mut rig).problems.iter().any(|problem| problem.contains("counts in no quorum")));
    assert!(no_leader(&mut rig).ends_with("; ask another node"));
}

/// Node 1 leads, and nodes 2 and 3 have promised it something with the heartbeat that was due.
fn leader_with_lease() -> Rig {
    let mut rig = Rig::start(1);
    rig.lead();
    rig.now = rig.now + limits::HEARTBEAT_INTERVAL;
    rig.turn(ReplicaEvent::Tick);
    for from in [2, 3] {
        rig.receive(from, 2, Body::HeartbeatReply { round: 1, digest: None, space: Space::Plenty, promise_ms: 100 });
    }
    rig
}

#[test]
fn a_leader_publishes_its_lease_and_takes_it_back_in_the_turn_in_which_it_leads_no_more() {
    let mut rig = leader_with_lease();
    assert_eq!(rig.served.until(), rig.now + Duration::from_millis(90));
    rig.receive(4, 3, Body::AppendAccepted { matched: LogIndex(2), round: 0 });
    assert_eq!(rig.served.until(), Moment::ZERO);
}

#[test]
fn a_node_that_is_about_to_stop_has_no_lease() {
    let mut rig = leader_with_lease();
    rig.turn(ReplicaEvent::Drain);
    assert_eq!(rig.served.until(), Moment::ZERO);
}

#[test]
fn a_leader_that_has_not_applied_all_that_is_committed_has_no_lease() {
    let mut rig = leader_with_lease();
    let value = Bytes::from(vec![0; 64 * 1024]);
    for _ in 0..100 {
        rig.ask(Request::Write(Operation::Put { key: "k".into(), value: value.clone() }));
    }
    let last = rig.replica.view().last;
    for from in [2, 3] {
        rig.receive(from, 2, Body::AppendAccepted { matched: last, round: 1 });
    }
    assert!(rig.replica.applied() < last, "a turn applies no more than some megabytes");
    assert_eq!((rig.replica.view().commit, rig.served.until()), (last, Moment::ZERO), "a follower may know of it");
    rig.turn(ReplicaEvent::Tick);
    assert_eq!(rig.replica.applied(), last);
    assert_eq!(rig.served.until(), rig.now + Duration::from_millis(90));
}
