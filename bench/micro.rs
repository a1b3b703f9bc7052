//! What single steps of a request cost, each alone and without threads: codecs, consensus, write-ahead log, store.
//!
//! `cargo bench --bench micro` runs all, `-- WORDS` those whose name holds the words. Values have 128 bytes. Disks are
//! named in the row: `memory` is a disk in memory, `directory` a real one below `target/tmp`, where an append costs
//! an fdatasync.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use raftkv::api::{IfNotLeading, Outcome, Reply, Request};
use raftkv::base::limits::{self, ENVELOPE_VERSION, FRAME_BYTES_MAX};
use raftkv::base::{
    ClusterId, Command, Entry, EntryKind, Envelope, HardState, InstanceId, LogIndex, Member, Members, Moment, NodeId,
    Operation, PersistSeq, Random, Revision, Role, Term,
};
use raftkv::disk::{Disk, MemoryDisk, RealDisk, Wal, WalSettings};
use raftkv::kv::Store;
use raftkv::raft::{Body, Config, Input, Message, Outputs, Persist, Raft, Recovered};
use raftkv::wire::{self, PeerFrame, Style};
use smallvec::smallvec;

const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 128;
const TERM: Term = Term(1);
/// Commands in the larger of two entries, entries in the larger of two messages and batches, puts applied at once.
const MANY: usize = 64;

criterion_group! {
    name = micro;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = client_frames, envelopes, append_messages, consensus, wal_appends, recovery, store
}
criterion_main!(micro);

fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("no node is 0")
}

fn instance(id: NodeId) -> InstanceId {
    InstanceId(u128::from(id.get()))
}

fn key(number: u64) -> Bytes {
    format!("key{number:012}").into()
}

fn put(number: u64) -> Operation {
    Operation::Put { key: key(number), value: vec![b'v'; VALUE_BYTES].into() }
}

fn envelope(commands: usize) -> Envelope {
    let command = |number| Command { operations: smallvec![put(number)], ..Command::default() };
    let commands = (0..commands as u64).map(command).collect();
    Envelope { version: ENVELOPE_VERSION, cluster_time_ms: 1, commands }
}

/// Consecutive entries of one command each.
fn entries(first: u64, count: usize) -> Vec<Entry> {
    let data = wire::encode_envelope(&envelope(1));
    let entry = |index| Entry { index: LogIndex(index), term: TERM, kind: EntryKind::Commands, data: data.clone() };
    (first..first + count as u64).map(entry).collect()
}

fn only_frame(mut buffer: BytesMut) -> Bytes {
    wire::take_frame(&mut buffer, FRAME_BYTES_MAX).expect("it is a frame").expect("it is whole")
}

fn client_frames(criterion: &mut Criterion) {
    let mut buffer = BytesMut::new();
    wire::encode_request(7, &Request::Write(put(1)), IfNotLeading::Forward, &mut buffer);
    let arrived = buffer.split();
    criterion.bench_function("typed PUT, decode", |bencher| {
        let again = || arrived.clone();
        let decode = |mut buffer| wire::take_short_request(black_box(&mut buffer)).expect("it is short");
        bencher.iter_batched(again, decode, BatchSize::SmallInput);
    });
    let frame = only_frame(arrived.clone());
    criterion.bench_function("typed PUT, decode in general", |bencher| {
        bencher.iter(|| wire::decode_request(black_box(frame.clone())).expect("it is a request"));
    });
    let reply = Reply { result: Ok(Outcome::Put { revision: Revision(9) }), leader: None };
    criterion.bench_function("typed reply, encode", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            wire::encode_reply(7, Style::Typed, black_box(&reply), node(1), &mut buffer);
        });
    });
}

fn envelopes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for commands in [1, MANY] {
        group.throughput(Throughput::Elements(commands as u64));
        let envelope = envelope(commands);
        group.bench_function(format!("encode, {commands} commands"), |bencher| {
            bencher.iter(|| wire::encode_envelope(black_box(&envelope)));
        });
        let data = wire::encode_envelope(&envelope);
        group.bench_function(format!("decode, {commands} commands"), |bencher| {
            bencher.iter(|| wire::decode_envelope(black_box(data.clone())).expect("it is an envelope"));
        });
    }
}

fn append_messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append message");
    let (from, to) = (node(1), node(2));
    for count in [1, MANY] {
        group.throughput(Throughput::Elements(count as u64));
        let body = Body::Append {
            prev_index: LogIndex(1),
            prev_term: TERM,
            entries: entries(2, count),
            commit: LogIndex(1),
            round: 1,
        };
        let message = PeerFrame::Raft(Message { from, to, instance: instance(from), term: TERM, body });
        let mut buffer = BytesMut::new();
        group.bench_function(format!("encode, {count} entries"), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                wire::encode_peer(black_box(&message), &mut buffer);
            });
        });
        buffer.clear();
        wire::encode_peer(&message, &mut buffer);
        let frame = only_frame(buffer);
        group.bench_function(format!("decode, {count} entries"), |bencher| {
            bencher.iter(|| {
                wire::decode_peer(black_box(frame.clone()), from, to, instance(from)).expect("it is a message")
            });
        });
    }
}

/// The leader's part of a write, from the proposal to the commit: both followers and its own disk answer at once.
fn consensus(criterion: &mut Criterion) {
    let mut leader = elected_leader();
    let data = wire::encode_envelope(&envelope(1));
    let mut out = Outputs::default();
    criterion.bench_function("raft, propose to commit, leader of 3", |bencher| {
        bencher.iter(|| {
            leader.raft.step(leader.now, Input::Propose { data: data.clone() }, &mut out);
            for message in std::mem::take(&mut out.send) {
                let Body::Append { entries, round, .. } = message.body else { continue };
                let matched = entries.last().expect("it carries the proposal").index;
                let (from, to) = (message.to, message.from);
                let body = Body::AppendAccepted { matched, round };
                let accepted = Message { from, to, instance: instance(from), term: message.term, body };
                leader.raft.step(leader.now, Input::Message(accepted), &mut out);
            }
            for persist in std::mem::take(&mut out.persists) {
                leader.raft.step(leader.now, Input::Persisted { seq: persist.seq }, &mut out);
            }
            assert_eq!(out.committed.len(), 1, "a write is committed once a majority has it");
            out = Outputs::default();
        });
    });
}

struct Leader {
    raft: Raft,
    now: Moment,
}

/// Lets three nodes form a cluster, every message and disk at once; the leader's first entries are committed.
fn elected_leader() -> Leader {
    let ids = [node(1), node(2), node(3)];
    let member = |id: NodeId| Member { id, instance: None, address: format!("node{id}").into() };
    let voters = ids.map(member).to_vec();
    let bootstrap = Members { cluster: ClusterId(1), voters, outgoing: Vec::new(), learners: Vec::new() };
    let mut now = Moment(1_000_000_000);
    let config = |id: NodeId| Config {
        id,
        instance: instance(id),
        bootstrap: bootstrap.clone(),
        election_timeout_min: limits::ELECTION_TIMEOUT_MIN,
        election_timeout_max: limits::ELECTION_TIMEOUT_MAX,
        heartbeat: limits::HEARTBEAT_INTERVAL,
        lease: None,
        promise_max: limits::PROMISE_MAX,
        persist_stall: limits::PERSIST_STALL,
        append_bytes_max: limits::APPEND_BYTES_MAX,
        window_bytes_max: limits::WINDOW_BYTES_MAX,
        window_messages_max: limits::WINDOW_MESSAGES_MAX,
        log_memory_bytes_max: 1024 * 1024,
        uncommitted_bytes_max: limits::UNCOMMITTED_BYTES_MAX,
        seed: u64::from(id.get()),
    };
    let mut rafts = ids.map(|id| Raft::new(config(id), Recovered::default(), now));
    for _ in 0..1000 {
        now = now + Duration::from_millis(10);
        let mut inputs: Vec<(NodeId, Input)> = ids.map(|id| (id, Input::Tick)).to_vec();
        while !inputs.is_empty() {
            let mut next = Vec::new();
            for (id, input) in inputs {
                let mut out = Outputs::default();
                rafts[id.get() as usize - 1].step(now, input, &mut out);
                next.extend(out.send.into_iter().map(|message| (message.to, Input::Message(message))));
                for Persist { seq, messages, .. } in out.persists {
                    next.extend(messages.into_iter().map(|message| (message.to, Input::Message(message))));
                    next.push((id, Input::Persisted { seq }));
                }
            }
            inputs = next;
        }
        let settled = |view: raftkv::raft::View| view.role == Role::Leader && view.commit == view.last;
        if let Some(at) = rafts.iter().position(|raft| settled(raft.view())) {
            let raft = rafts.into_iter().nth(at).expect("it was just found");
            return Leader { raft, now };
        }
    }
    panic!("no leader within 10 s");
}

fn persist(entries: Vec<Entry>) -> Persist {
    Persist { seq: PersistSeq::ZERO, cut_from: None, hard_state: None, entries, messages: Vec::new() }
}

fn new_wal(disk: Arc<dyn Disk>, settings: WalSettings) -> Wal {
    let mut wal = Wal::open(disk, settings, None).expect("an empty directory makes a new log").wal;
    let hard_state = Some(HardState { term: TERM, vote: None });
    wal.persist(&[Persist { hard_state, ..persist(Vec::new()) }]).expect("the disk works");
    wal
}

/// One batch, as a group commit writes it, on a log that is made anew before its first segment is full.
fn wal_appends(criterion: &mut Criterion) {
    const BATCHES: u64 = 1024;
    let mut group = criterion.benchmark_group("wal append");
    let directory = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    for count in [1, MANY] {
        group.throughput(Throughput::Elements(count as u64));
        let append = |mut wal: Wal, batches: u64| {
            let batches: Vec<[Persist; 1]> =
                (0..batches).map(|batch| [persist(entries(1 + batch * count as u64, count))]).collect();
            let began = Instant::now();
            for batch in &batches {
                wal.persist(batch).expect("the disk works");
            }
            began.elapsed()
        };
        let chunks = |batches: u64| (0..batches).step_by(BATCHES as usize).map(move |at| BATCHES.min(batches - at));
        group.bench_function(format!("memory, {count} entries"), |bencher| {
            bencher.iter_custom(|batches| {
                let fresh = || new_wal(MemoryDisk::new().attach(), WalSettings::default());
                chunks(batches).map(|batches| append(fresh(), batches)).sum()
            });
        });
        group.bench_function(format!("directory, {count} entries"), |bencher| {
            bencher.iter_custom(|batches| {
                let in_fresh_directory = |batches| {
                    let directory = directory();
                    let disk = RealDisk::open(directory.path()).expect("the directory was just made");
                    append(new_wal(Arc::new(disk), WalSettings::default()), batches)
                };
                chunks(batches).map(in_fresh_directory).sum()
            });
        });
    }
}

fn recovery(criterion: &mut Criterion) {
    const BATCHES: usize = 256;
    let settings = WalSettings { segment_bytes: limits::SEGMENT_BYTES_MIN, ..WalSettings::default() };
    let disk = MemoryDisk::new();
    let mut wal = new_wal(disk.attach(), settings.clone());
    for batch in 0..BATCHES {
        let entries = entries(1 + (batch * MANY) as u64, MANY);
        wal.persist(&[persist(entries)]).expect("the disk works");
    }
    drop(wal);
    let mut group = criterion.benchmark_group("recovery");
    group.throughput(Throughput::Elements((BATCHES * MANY) as u64)).sample_size(20);
    group.bench_function(format!("memory, {} entries", BATCHES * MANY), |bencher| {
        // A start changes what it found, so that each gets a copy.
        let start = |copy: MemoryDisk| {
            let opened = Wal::open(copy.attach(), settings.clone(), None).expect("the log is sound");
            assert_eq!(opened.recovered.log.last_index, LogIndex((BATCHES * MANY) as u64));
            opened
        };
        bencher.iter_batched(|| disk.fork(), start, BatchSize::PerIteration);
    });
}

/// Of few keys, which the processor's caches hold, and of many.
fn store(criterion: &mut Criterion) {
    for (count, name) in [(KEYS, "10,000"), (100 * KEYS, "1,000,000")] {
        let command = |number| Command { operations: smallvec![put(number)], ..Command::default() };
        let mut store = Store::new();
        for number in 0..count {
            store.apply(&command(number));
        }
        // Asked for in the order of their making, so that what waits for memory is the store; too many for the caches.
        let mut random = Random::new(1);
        let some: Vec<u64> = (0..20 * KEYS).map(|_| random.below(count)).collect();
        let commands: Vec<Command> = some.iter().copied().map(command).collect();
        let mut group = criterion.benchmark_group(format!("store, {name} keys"));
        for puts in [1, MANY] {
            let mut batches = commands.chunks_exact(puts).cycle();
            group.throughput(Throughput::Elements(puts as u64));
            group.bench_function(format!("apply, {puts} PUTs of values as long as the old"), |bencher| {
                let mut batch = || batches.next().expect("it has no end");
                bencher.iter(|| store.apply_all(black_box(batch()), |applied| drop(black_box(applied))));
            });
        }
        let keys: Vec<Bytes> = some.iter().copied().map(key).collect();
        let mut keys = keys.iter().cycle();
        group.throughput(Throughput::Elements(1));
        group.bench_function("get", |bencher| {
            let mut get =
                || store.view().get(black_box(keys.next().expect("it has no end"))).map(|found| found.version());
            bencher.iter(|| get().expect("every key was put"));
        });
    }
}
