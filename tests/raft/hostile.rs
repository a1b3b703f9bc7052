//! Messages that no honest node sends, or that arrive when nobody expects them: they change nothing and break nothing.

use bytes::Bytes;
use raftkv::base::limits::{REFILL_ENTRIES_MAX, REFILL_WAITING_MAX};
use raftkv::base::{Entry, EntryKind, InstanceId, LogIndex, NodeId, Random, Role, Space, Term};
use raftkv::raft::{Absence, Barrier, Body, Check, EntryId, Input, Message, StateDigest};

use crate::cluster::{Cluster, ELECTION_TIMEOUT_MAX, Settings, id};

fn formed(size: u32) -> Cluster {
    let mut cluster = Cluster::new(size, Settings::default());
    cluster.pass_awake(&[id(1)], ELECTION_TIMEOUT_MAX);
    cluster.settle(&Default::default());
    assert_eq!(cluster.leaders(), [id(1)]);
    cluster
}

fn message(from: u32, to: u32, term: u64, body: Body) -> Message {
    Message { from: id(from), to: id(to), instance: InstanceId(u128::from(from)), term: Term(term), body }
}

fn give(cluster: &mut Cluster, message: Message) {
    cluster.step(message.to, Input::Message(message));
}

fn entry(index: u64, term: u64, kind: EntryKind) -> Entry {
    Entry { index: LogIndex(index), term: Term(term), kind, data: Bytes::from_static(b"x") }
}

fn append(prev: (u64, u64), entries: Vec<Entry>, commit: u64) -> Body {
    let (prev_index, prev_term) = (LogIndex(prev.0), Term(prev.1));
    Body::Append { prev_index, prev_term, entries, commit: LogIndex(commit), round: 0 }
}

fn state(cluster: &Cluster, node: NodeId) -> (Term, LogIndex, LogIndex) {
    let view = cluster.raft(node).unwrap().view();
    (view.term, view.last, view.commit)
}

#[test]
fn appends_that_no_leader_could_have_sent_are_dropped() {
    let commands = EntryKind::Commands;
    let bodies = [
        append((1, 1), vec![entry(3, 1, commands)], 0),
        append((1, 1), vec![entry(2, 1, commands), entry(4, 1, commands)], 0),
        append((1, 1), vec![entry(2, 1, commands), entry(2, 1, commands)], 0),
        append((1, 1), vec![entry(2, 0, commands)], 0),
        append((1, 1), vec![entry(2, 9, commands)], 0),
        append((1, 1), vec![entry(2, 1, EntryKind::Members)], 0),
        append((u64::MAX, 1), vec![], 0),
        append((u64::MAX, 1), vec![entry(0, 1, commands)], 0),
        append((u64::MAX - 1, 1), vec![entry(u64::MAX, 1, commands)], 0),
    ];
    for body in bodies {
        let mut cluster = formed(3);
        let before = state(&cluster, id(2));
        give(&mut cluster, message(1, 2, 1, body.clone()));
        assert_eq!(state(&cluster, id(2)), before, "{body:?}");
        assert!(cluster.network.is_empty() && cluster.nodes[&id(2)].wal.is_empty(), "{body:?} was answered");
    }
}

#[test]
fn the_highest_term_is_not_taken_and_nothing_overflows() {
    for term in [u64::MAX, u64::MAX - 1, u64::MAX / 2 + 1] {
        let mut cluster = formed(3);
        let vote = Body::Vote { last_index: LogIndex(u64::MAX), last_term: Term(u64::MAX), transfer: true };
        give(&mut cluster, message(3, 1, term, vote));
        give(
            &mut cluster,
            message(
                3,
                1,
                term,
                Body::HeartbeatReply { round: u64::MAX, digest: None, space: Space::Plenty, promise_ms: 0 },
            ),
        );
        give(&mut cluster, message(3, 2, term, append((0, 0), vec![], u64::MAX)));
        assert_eq!(state(&cluster, id(1)).0, Term(1));
        assert_eq!(state(&cluster, id(2)).0, Term(1));
    }
}

#[test]
fn a_commit_index_counts_only_as_far_as_this_leader_has_verified_the_log() {
    // The leader of term 2 believes that the directory it heard before holds entries 2 and 3; this one has others.
    let mut cluster = Cluster::new(3, Settings::default());
    for (node, log) in [(1, &[1][..]), (2, &[1]), (3, &[1, 1, 1])] {
        cluster.crash(id(node));
        cluster.write_disk(id(node), Default::default(), log);
        cluster.start(id(node));
    }
    give(
        &mut cluster,
        message(2, 3, 2, Body::Heartbeat { commit: LogIndex(3), round: 0, check: Check::default(), promise_ms: 0 }),
    );
    assert_eq!(state(&cluster, id(3)), (Term(2), LogIndex(3), LogIndex(0)));
    give(&mut cluster, message(2, 3, 2, append((1, 1), vec![], u64::MAX)));
    assert_eq!(state(&cluster, id(3)), (Term(2), LogIndex(3), LogIndex(1)));
    give(
        &mut cluster,
        message(2, 3, 2, Body::Heartbeat { commit: LogIndex(3), round: 0, check: Check::default(), promise_ms: 0 }),
    );
    assert_eq!(state(&cluster, id(3)), (Term(2), LogIndex(3), LogIndex(1)));
}

/// No honest leader does. Going on would make two histories out of one.
#[test]
#[should_panic(expected = "two histories exist")]
fn a_leader_that_contradicts_what_is_committed_stops_the_node() {
    let mut cluster = formed(3);
    cluster.run(std::time::Duration::from_millis(100), &Default::default());
    assert_eq!(state(&cluster, id(2)), (Term(1), LogIndex(1), LogIndex(1)));
    give(&mut cluster, message(3, 2, 2, append((0, 0), vec![entry(1, 2, EntryKind::Commands)], 0)));
}

#[test]
fn a_vote_is_not_granted_to_a_shorter_log_even_after_a_pre_vote() {
    let mut cluster = formed(3);
    cluster.propose(id(1), "a");
    cluster.settle(&Default::default());
    for (last_index, last_term, granted) in [(1, 1, false), (1, 9, true), (2, 1, true), (9, 0, false)] {
        // Node 3 asked when node 2's log was shorter still; `transfer`, since node 2 hears its leader.
        let (last_index, last_term) = (LogIndex(last_index), Term(last_term));
        let term = state(&cluster, id(2)).0.0 + 1;
        give(&mut cluster, message(3, 2, term, Body::Vote { last_index, last_term, transfer: true }));
        cluster.persist(id(2));
        let reply = cluster.network.drain(..).next_back().map(|reply| reply.body);
        assert_eq!(
            reply,
            Some(Body::VoteReply { granted, log_is_empty: false, suspect: false }),
            "{last_index}@{last_term}"
        );
    }
}

#[test]
fn what_was_fetched_is_believed_only_as_far_as_its_terms_are_the_logs() {
    let mut cluster = Cluster::new(1, Settings { log_memory_bytes_max: 0, ..Settings::default() });
    cluster.run(std::time::Duration::from_millis(10), &Default::default());
    cluster.crash(id(1));
    cluster.start(id(1));
    cluster.tick(id(1));
    while cluster.persist(id(1)) {}
    assert_eq!(cluster.nodes[&id(1)].fetches.len(), 1, "{}", cluster.events);
    // The segment still held what a truncation has replaced since.
    cluster.step(id(1), Input::Fetched { lo: LogIndex(1), entries: vec![entry(1, 9, EntryKind::Commands)] });
    assert_eq!(cluster.nodes[&id(1)].applied, []);
    cluster.settle(&Default::default());
    cluster.tick(id(1));
    cluster.settle(&Default::default());
    assert_eq!(cluster.nodes[&id(1)].applied.len(), 2);
}

#[test]
fn a_node_whose_directory_was_replaced_grants_no_votes() {
    let mut cluster = formed(3);
    cluster.wipe(id(3));
    cluster.start(id(3));
    cluster.run(std::time::Duration::from_millis(400), &Default::default());
    assert_eq!(cluster.raft(id(3)).unwrap().view().role, Role::Uncounted);
    let vote = Body::Vote { last_index: LogIndex(9), last_term: Term(9), transfer: true };
    give(&mut cluster, message(2, 3, 9, vote));
    cluster.persist(id(3));
    let reply = cluster.network.pop().map(|reply| reply.body);
    assert_eq!(reply, Some(Body::VoteReply { granted: false, log_is_empty: false, suspect: false }));
}

#[test]
fn members_that_are_truncated_no_longer_count() {
    let mut cluster = formed(3);
    cluster.crash(id(2));
    cluster.write_disk(id(2), Default::default(), &[1]);
    cluster.start(id(2));
    let before = cluster.raft(id(2)).unwrap().view();
    assert_eq!(before.members.voters[1].instance, Some(InstanceId(2)));
    let replacement = entry(1, 2, EntryKind::Noop);
    give(&mut cluster, message(3, 2, 2, append((0, 0), vec![replacement], 0)));
    let after = cluster.raft(id(2)).unwrap().view();
    assert_eq!((after.last, after.members.voters[1].instance), (LogIndex(1), None), "it goes by the flags again");
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_commits_nothing() {
    let mut cluster = formed(3);
    cluster.propose(id(1), "a");
    cluster.persist(id(1));
    for matched in [3, 4, u64::MAX] {
        give(&mut cluster, message(2, 1, 1, Body::AppendAccepted { matched: LogIndex(matched), round: u64::MAX }));
    }
    assert_eq!(state(&cluster, id(1)), (Term(1), LogIndex(2), LogIndex(1)));
}

#[test]
fn a_stranger_neither_votes_nor_counts() {
    let mut cluster = formed(3);
    let stranger = |body, term| Message { instance: InstanceId(999), ..message(2, 1, term, body) };
    cluster.propose(id(1), "a");
    cluster.persist(id(1));
    give(&mut cluster, stranger(Body::AppendAccepted { matched: LogIndex(2), round: 0 }, 1));
    assert_eq!(state(&cluster, id(1)).2, LogIndex(1), "an acknowledgement from another directory counted");
    cluster.read(id(1), 1);
    give(
        &mut cluster,
        stranger(Body::HeartbeatReply { round: 1, digest: None, space: Space::Plenty, promise_ms: 0 }, 1),
    );
    assert!(!cluster.events.contains("read 1 at"), "an echo from another directory counted");
    let vote = Body::Vote { last_index: LogIndex(9), last_term: Term(9), transfer: true };
    give(&mut cluster, stranger(vote, 9));
    assert_eq!(state(&cluster, id(1)).0, Term(1), "a vote request from another directory raised the term");
}

#[test]
fn noise_of_every_kind_neither_panics_nor_moves_what_is_committed() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let mut cluster = formed(3);
        cluster.propose(id(1), "a");
        for _ in 0..30 {
            let noise = noise(&mut random);
            // Only a leader of the term can append; that it contradicts what is committed is checked elsewhere.
            give(&mut cluster, noise);
        }
        for node in [1, 2, 3].map(id) {
            let view = cluster.raft(node).unwrap().view();
            assert!(view.role != Role::Uncounted && view.commit <= view.last, "seed {seed}");
        }
    }
}

fn noise(random: &mut Random) -> Message {
    let mut number = || [0, 1, 2, 3, 7, u64::MAX / 2, u64::MAX - 1, u64::MAX][random.below(8) as usize];
    let (a, b, c, round, term) = (LogIndex(number()), Term(number()), LogIndex(number()), number(), number());
    let yes = round % 2 == 0;
    let body = match random.below(12) {
        0 => Body::PreVote { proposed: b, last_index: a, last_term: b },
        1 => Body::PreVoteReply { proposed: b, granted: yes, log_is_empty: yes, suspect: !yes },
        2 => Body::Vote { last_index: a, last_term: b, transfer: yes },
        3 => Body::VoteReply { granted: false, log_is_empty: yes, suspect: !yes },
        4 => Body::AppendRejected { prev_index: a, hint_index: c, hint_term: b, round, suspect: yes },
        5 => Body::Heartbeat { commit: a, round, check: Check { asked: c, agreed: None }, promise_ms: round as u32 },
        6 => {
            let space = if yes { Space::Plenty } else { Space::Exhausted };
            let digest = Some(StateDigest { index: a, digest: round });
            Body::HeartbeatReply { round, digest, space, promise_ms: round as u32 }
        }
        7 => Body::Refill { wanted: vec![EntryId { index: a, term: b }; 3], nonce: round },
        8 => Body::Refilled {
            entries: Vec::new(),
            absent: vec![(EntryId { index: c, term: b }, Absence::Never)],
            barrier: Some(Barrier { nonce: round, index: a }),
        },
        9 => Body::ReadIndex { token: round },
        10 => Body::ReadIndexReply { token: round, index: a },
        _ => Body::Append { prev_index: a, prev_term: b, entries: Vec::new(), commit: LogIndex(1), round },
    };
    let from = 1 + random.below(4) as u32;
    message(from, 1 + random.below(3) as u32, term, body)
}

/// Peers that ask for what can't be read for now, again before the next tick, and then get it elsewhere.
#[test]
fn who_asked_for_what_could_not_be_read_is_not_waited_for() {
    let settings = Settings { log_memory_bytes_max: 0, ..Settings::default() };
    let mut cluster = Cluster::new(3, settings);
    cluster.pass_awake(&[id(1)], ELECTION_TIMEOUT_MAX);
    cluster.settle(&Default::default());
    let last = 2 * REFILL_WAITING_MAX as u64;
    while state(&cluster, id(1)).1.0 < last {
        cluster.step(id(1), Input::Propose { data: Bytes::from_static(b"x") });
        cluster.settle(&Default::default());
    }
    let refill = |indexes: std::ops::Range<u64>| {
        let wanted = indexes.map(|index| EntryId { index: LogIndex(index), term: Term(1) }).collect();
        message(2, 1, 1, Body::Refill { wanted, nonce: 1 })
    };
    let step = REFILL_ENTRIES_MAX as u64;
    for first in (1..last - step).step_by(REFILL_ENTRIES_MAX) {
        give(&mut cluster, refill(first..first + step));
        while cluster.fetch(id(1), 0) {}
        give(&mut cluster, refill(first..first + step));
        cluster.tick(id(1));
    }
    cluster.settle(&Default::default());
    give(&mut cluster, refill(last - 1..last));
    assert!(cluster.fetch(id(1), 1), "what is asked for is not even read");
}
