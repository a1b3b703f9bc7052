//! Every bound and format constant, in one place.
//!
//! *Format constants* are what decode, recovery and apply consult: every node must have the same, so changing one
//! needs a new format version. *Bounds* guard admission and memory; those that an operator may want to move are
//! settings whose defaults stand here. What happens when each is reached is said beside it.

use std::time::Duration;

// ---- format constants --------------------------------------------------------------------------------------

/// Version of everything in a data directory. A directory of another version is refused at start.
pub const DATA_FORMAT_VERSION: u32 = 2;
/// Version of the envelope in a log entry. A node that applies an unknown version stops; it never skips.
pub const ENVELOPE_VERSION: u32 = 1;
/// Feature level of the peers' protocol; two nodes speak the lower of theirs.
pub const PEER_PROTOCOL_LEVEL: u32 = 2;
/// From here on a node knows the questions how far to read. To one below it they are not sent: what it does not know
/// would break the link.
pub const READ_QUESTIONS_LEVEL: u32 = 2;
/// The oldest level this version still speaks. A peer below it is refused in the hello.
pub const PEER_PROTOCOL_LEVEL_MIN: u32 = 1;
/// Longest key, in bytes; also what recovery and apply accept. Reached: `key_too_large`.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Longest value, in bytes. Reached: `value_too_large`.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Most operations in one atomic command. Reached: `bad_arguments`.
pub const COMMAND_OPERATIONS_MAX: usize = 1024;
/// Most operations in one log entry, the commands of all its clients together; a command has at least one.
/// Reached: the leader begins another entry.
pub const ENVELOPE_OPERATIONS_MAX: usize = 16 * 1024;
/// Longest data of one log entry: a command with the largest key and value, and room for the envelope.
pub const ENTRY_DATA_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + 4 * 1024;

/// The longest promise that a node gives: to help nobody but its leader to lead. A node that has started keeps one of
/// this length, since it may have given one before: so long it neither votes nor stands. Half a second: a few
/// heartbeats' worth, and about what an election takes anyway.
pub const PROMISE_MAX: Duration = Duration::from_millis(500);
/// Most members of a cluster: what the scenarios and quorums are tested with. Reached: the start is refused.
pub const CLUSTER_MEMBERS_MAX: usize = 7;

// ---- wire --------------------------------------------------------------------------------------------------

/// Longest frame, in bytes, without its 4 bytes of length. Reached: the connection is closed and counted; an
/// answer that would pass it becomes `result_too_large`.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest line, in bytes: verb, key and value with every byte written as `\xHH`, quotes and spaces.
/// Reached: `line_too_long`, then the connection is closed.
pub const LINE_BYTES_MAX: usize = 4 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + 64;
/// Longest first frame of a peer (its hello). Reached: closed and counted.
pub const HELLO_BYTES_MAX: usize = 4 * 1024;
/// What an entry costs in memory and on the wire beside its data, in bytes, at most: what every budget reckons with.
pub const ENTRY_OVERHEAD_BYTES: usize = 32;
/// Entries in one append message are cut at this many bytes; one larger entry goes alone.
pub const APPEND_BYTES_MAX: usize = 256 * 1024;
/// Most entries in one append message, whatever their size. Reached: the link is closed and counted.
pub const APPEND_ENTRIES_MAX: usize = 64 * 1024;
/// Client commands in one log entry are cut at this many bytes of keys and values; one larger command goes alone.
pub const BATCH_BYTES_MAX: usize = 128 * 1024;
/// Most keys in one answer. Reached: `result_too_large`.
pub const RESULT_KEYS_MAX: usize = 1024 * 1024;
/// Most peers, and most problems, that a status may name. Reached: whoever decodes the answer closes the connection.
pub const STATUS_PEERS_MAX: usize = 1024;
/// Most stages that an answer may say latencies of. Reached: whoever decodes it closes the connection.
pub const LATENCY_STAGES_MAX: usize = 256;
/// Most entries that one message asks a peer for, after damage. Reached when sending: the rest is asked for later; when
/// receiving: the link is closed and counted.
pub const REFILL_ENTRIES_MAX: usize = 64;
/// Most entries that peers may wait for while they are read from the segments. Reached: they ask again.
pub const REFILL_WAITING_MAX: usize = 1024;
/// Most keys of a listing that is read beside consensus, which can't apply anything meanwhile. Reached: it is read by
/// consensus itself.
pub const SHORT_READ_KEYS_MAX: usize = 1024;
/// Keys in one page of a listing that is not asked for a smaller one, when it is paged for a line client.
pub const PAGE_KEYS_DEFAULT: usize = 1000;

// ---- connections (defaults of settings) --------------------------------------------------------------------

/// Connections of clients. Reached: two more for each peer are accepted, in which a client is answered `busy` and
/// closed; then accepting pauses until one closes. The descriptor limit may bound it lower.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Bytes that one connection may have buffered, in and out together, before it is no longer read; a connection
/// whose unread answers pass twice this is dropped.
pub const CONNECTION_BUFFERED_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Bytes buffered by all connections together. From three quarters on, connections that hold more than
/// [`SMALL_CLIENT_BYTES`] are neither read nor given more answers to hold than one; from seven eighths on, answers to
/// reads with which they would are refused as `busy`. Reached: no client is read.
pub const BUFFERED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What a client may hold to be served while others hold so much that they are not: a read or two, and room to grow.
pub const SMALL_CLIENT_BYTES: usize = 256 * 1024;
/// An answer of this size counts among what all hold as soon as it comes, since there may be many in one turn; of a
/// smaller one it is enough when the connection is looked at next.
pub const COUNTED_AT_ONCE_BYTES: usize = 4 * 1024;
/// How long all connections together may hold so much that not all are read. Reached: the clients that hold the most are
/// dropped, until a quarter of it is free.
pub const JAM_DEADLINE: Duration = Duration::from_millis(500);
/// Requests of one connection that wait for their answer. Reached: it is not read until one is answered.
pub const CONNECTION_REQUESTS_MAX: usize = 1024;
/// Requests of all connections that wait for their answer. Reached: `busy`.
pub const REQUESTS_MAX: usize = 65_536;
/// A peer's hello must be complete within this time of its first byte. Reached: closed.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// The same where all connections for clients are taken, and it has one of the few places that are for peers: within
/// this time of the connection. A peer says its hello as soon as it is connected; who says nothing must not keep it out,
/// nor who was refused and does not go.
pub const RESERVE_HELLO_DEADLINE: Duration = Duration::from_millis(200);
/// A frame or line that has begun must be complete within this time. Reached: closed.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(30);
/// A client that leaves its answers unread for this long is dropped.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(30);

// ---- the net thread's own work and its peers (not settings) ------------------------------------------------

/// Bytes that one read of a socket takes at most. One such buffer serves all connections.
pub const READ_CHUNK_BYTES: usize = 64 * 1024;
/// Reads of one client's connection in one turn of the loop. Reached: it is served again next turn, behind the others.
pub const TURN_READS_MAX: usize = 4;
/// Clients' connections read, and as many written, in one turn of the loop. Reached: the rest come next turn, before
/// anything new.
pub const TURN_CONNECTIONS_MAX: usize = 256;
/// Bytes of all clients together that one turn of the loop reads, and as many that it encodes and writes: what a
/// heartbeat may have to wait for, about a millisecond. Reached: the rest come next turn, behind the peers, in
/// their order. The answer that passes it is still encoded whole.
pub const TURN_CLIENT_BYTES_MAX: usize = 1024 * 1024;
/// What a read that is answered on the net thread itself counts of a turn's bytes: some 2,000 of them are a turn.
pub const TURN_READ_COST_BYTES: usize = 512;
/// Bytes written to one client in one turn. Reached: it goes on next turn, behind the others.
pub const TURN_CONNECTION_BYTES_MAX: usize = 64 * 1024;
/// Bytes read from one peer, and as many written to it, in one turn, before any client. Reached: it goes on next turn.
pub const TURN_PEER_BYTES_MAX: usize = 1024 * 1024;
/// Connections accepted, and events taken from the mailbox, in one turn. Reached: the rest come next turn.
pub const TURN_ACCEPTS_MAX: usize = 64;
pub const TURN_EVENTS_MAX: usize = 4096;
/// Answers are encoded for a connection while its socket has less than this left to take; later ones wait as
/// values, which for a read share the store's memory.
pub const ENCODED_BYTES_TARGET: usize = 256 * 1024;
/// After its last answer a connection is read, and what comes is thrown away, for this long: a close with unread
/// input would be a reset, and could take the answer with it.
pub const LINGER_DEADLINE: Duration = Duration::from_secs(1);
/// Accepting tries again after this long without descriptors, even if no connection closed here.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Bytes of peers' messages that wait for consensus. Reached: no peer is read until it falls.
pub const PEER_CREDIT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often that is looked at while peers are not read, since consensus gives credit back without a wake.
pub const PEER_CREDIT_RETRY: Duration = Duration::from_millis(2);
/// Bytes queued for one peer. Reached: the link is closed, and consensus told. Forwarded requests get half of it
/// and are refused as `busy` beyond, so that clients can't bring down a link.
pub const LINK_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A peer that takes nothing of what is queued for it for this long has lost the link.
pub const LINK_WRITE_DEADLINE: Duration = Duration::from_secs(3);
/// One address of a peer must accept a connection within this time.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(1);
/// Pause before a peer is dialed again: the first, and the longest it doubles to; both with 50 % of jitter.
pub const DIAL_BACKOFF_MIN: Duration = Duration::from_millis(50);
pub const DIAL_BACKOFF_MAX: Duration = Duration::from_secs(1);

// ---- consensus (defaults of settings) ----------------------------------------------------------------------

pub const ELECTION_TIMEOUT_MIN: Duration = Duration::from_millis(150);
pub const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(300);
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(50);
/// What clocks of a cluster may differ in rate, in percent: the slowest counts at most this much less than the
/// fastest. Crystals differ by a thousandth of that; but a clock that is being set right in small steps may be made to
/// run 8 % faster or slower.
pub const LEASE_DRIFT_PERCENT: u32 = 10;
/// The promise that a leader asks for is this part of the shortest election timeout, in percent, and never longer than
/// [`PROMISE_MAX`]: it has run out when the first follower misses the leader.
pub const LEASE_PROMISE_PERCENT: u32 = 80;
/// Rounds of heartbeats whose time of sending a leader remembers. Reached: an answer to an older one makes no lease.
pub const LEASE_ROUNDS_MAX: usize = 32;
/// How often a node asks its leader how far it must apply, a heartbeat interval apart, for the same reads. Reached:
/// they are refused with `no_leader`.
pub const READ_QUESTION_ASKS_MAX: u32 = 64;
/// Bytes of entries in flight to one follower. Reached: nothing more is sent to it until it acknowledges.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Append messages in flight to one follower.
pub const WINDOW_MESSAGES_MAX: usize = 256;
/// Bytes of entries kept in memory for followers and for applying; older ones are fetched from the segments.
pub const LOG_MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of entries that may be appended but not committed. Reached: writes answer `busy`.
pub const UNCOMMITTED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A leader whose disk has not answered for this long steps down (SAFETY: its heartbeats would hide it).
pub const PERSIST_STALL: Duration = Duration::from_secs(2);
/// A request that is not answered after this long answers `timeout` or `outcome_unknown`.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of entries read from the segments at once.
pub const FETCH_BYTES_MAX: usize = 1024 * 1024;

// ---- the node's own work (not settings) --------------------------------------------------------------------

/// Clients' requests that one turn of the consensus thread takes. Reached: the rest come next turn, behind peers and
/// completions.
pub const TURN_REQUESTS_MAX: usize = 4096;
/// Events of all kinds taken from the consensus inbox in one turn. Reached: the turn ends, so that what it found is
/// persisted, sent and answered; the rest is next.
pub const TURN_INBOX_EVENTS_MAX: usize = 16 * 1024;
/// Bytes of entries that are applied before those who read beside consensus get their turn.
pub const APPLY_SLICE_BYTES: usize = 256 * 1024;
/// Threads look for the next event for so many times as long as a wake costs, where that is dear; at most so long.
pub const SPIN_WAKES: u32 = 5;
pub const SPIN_MAX: Duration = Duration::from_micros(200);
/// The net thread does so only while so few requests are under way, and so little comes from peers: with more, what
/// gathers while it sleeps is done at once then.
pub const SPIN_EVENTS_MAX: usize = 4;
pub const SPIN_PEER_BYTES_MAX: usize = 2 * 1024;
/// A clean stop waits for answers that are under way. Reached: they are answered as they stand.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
/// How often an operator is told that there is still no leader, and who is missing.
pub const NO_LEADER_REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Without a leader for so long, with a majority connected, it is not that an election is still under way.
pub const ELECTION_TAKES_MAX: Duration = Duration::from_secs(2);

/// Between two warnings of what others can cause as often as they like: two processes under one id, all connections
/// taken, all memory held.
pub const SAID_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A peer whose link is up and that has answered its leader nothing for so long is reported.
pub const SILENCE_REPORT_AFTER: Duration = Duration::from_secs(2);

/// What is lately, of latencies: the period that runs and the one before it, each as long as this.
pub const LATENCY_PERIOD: Duration = Duration::from_secs(30);
/// A pass of the scrub over the log, that nobody asked for, is spread over this time.
pub const SCRUB_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// What a step of the scrub reads; other work of the background thread comes between two.
pub const SCRUB_STEP_BYTES: u64 = 256 * 1024;
/// The longest pause between two steps, so that a small log is scrubbed soon after a start.
pub const SCRUB_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Damage was found that a full disk has no room to mark: the pass begins again after so long at the earliest.
pub const SCRUB_ROOM_RETRY: Duration = Duration::from_secs(5);
/// A log that can't be read in some place is scrubbed at once, and again if it still can't: after so many times what
/// the pass before took.
pub const SUSPICION_REST_FACTOR: u32 = 9;
/// Applied entries whose state's digest is remembered, to be compared with the other nodes'. Reached: the oldest go,
/// and a node that applies so far behind is not compared.
pub const DIGESTS_REMEMBERED: usize = 4096;
/// How often the log says how the repair of a damaged disk goes on.
pub const PROBLEMS_REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Connections that the system may have accepted before the net thread does. Reached: it lets them try again.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Descriptors that are not clients' connections: files, peers, the poll, standard streams. Fewer than this and one
/// more: the node does not start.
pub const DESCRIPTORS_RESERVED: u64 = 64;

// ---- disk --------------------------------------------------------------------------------------------------

/// Size of a log segment, in bytes: the default of a setting; a segment's own header says its size.
pub const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;
/// Smallest segment: two of the largest entries and room for the headers of their batches, with a margin. Below:
/// the start is refused.
pub const SEGMENT_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Payload of one batch of log records, with its header: what one write and one fsync make durable. Also bounds
/// how far a torn write can reach. Reached: the rest goes into a further batch.
pub const WAL_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest segment that recovery accepts, in bytes. A header that says more is damaged.
pub const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Segments kept ready behind the one in use: one to go on in, and one that is the reserve (see `disk::Space`).
pub const SEGMENTS_READY: usize = 2;
/// Free bytes that segments made ahead leave on the file system, for small files: identity, suspect mark. Below: none
/// is made ahead, and what is ready is all there is.
pub const DISK_LOW_WATER_BYTES: u64 = 16 * 1024 * 1024;
/// Damaged places that the suspect mark names. Reached: it says that there are more, and the next start takes the
/// whole log for one.
pub const MARK_PLACES_MAX: usize = 256;
/// Longest suspect mark, in bytes. A longer one is damaged.
pub const SUSPECT_BYTES_MAX: u64 = 32 * 1024;
/// Longest cluster name, in bytes. Reached: the node does not start.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// Longest identity file, in bytes. A longer one is damaged.
pub const IDENTITY_BYTES_MAX: u64 = 4 * 1024;
