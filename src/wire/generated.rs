//! The messages of `proto/raftkv.proto`, as prost makes them. Not written by hand: after a change of that file run
//! `RAFTKV_REGENERATE=1 cargo test --test generated_code`.

/// A frame from or to a client. Field numbers below 16 are those of the original program, whose clients go on
/// working. They say text in `command` and get text in `value`. Everything above 16 is typed.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RaftMessage {
    #[prost(enumeration = "raft_message::Type", tag = "1")]
    pub r#type: i32,
    /// The answering node's id; clients leave it 0.
    #[prost(uint32, tag = "2")]
    pub sender_id: u32,
    #[prost(message, optional, tag = "14")]
    pub client_req: ::core::option::Option<ClientRequest>,
    #[prost(message, optional, tag = "15")]
    pub client_resp: ::core::option::Option<ClientResponse>,
}
/// Nested message and enum types in `RaftMessage`.
pub mod raft_message {
    #[derive(
        Clone,
        Copy,
        Debug,
        PartialEq,
        Eq,
        Hash,
        PartialOrd,
        Ord,
        ::prost::Enumeration
    )]
    #[repr(i32)]
    pub enum Type {
        Unspecified = 0,
        ClientRequest = 4,
        ClientResponse = 5,
    }
    impl Type {
        /// String value of the enum field names used in the ProtoBuf definition.
        ///
        /// The values are not transformed in any way and thus are considered stable
        /// (if the ProtoBuf definition does not change) and safe for programmatic use.
        pub fn as_str_name(&self) -> &'static str {
            match self {
                Self::Unspecified => "UNSPECIFIED",
                Self::ClientRequest => "CLIENT_REQUEST",
                Self::ClientResponse => "CLIENT_RESPONSE",
            }
        }
        /// Creates an enum from field names used in the ProtoBuf definition.
        pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
            match value {
                "UNSPECIFIED" => Some(Self::Unspecified),
                "CLIENT_REQUEST" => Some(Self::ClientRequest),
                "CLIENT_RESPONSE" => Some(Self::ClientResponse),
                _ => None,
            }
        }
    }
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ClientRequest {
    /// A text command of the original: `PUT key value`, `GET key`, `DELETE key`, `LIST`. Never quoted.
    #[prost(bytes = "bytes", tag = "1")]
    pub command: ::prost::bytes::Bytes,
    /// Chosen by the client, echoed in the answer to a typed request.
    #[prost(uint64, tag = "2")]
    pub request_id: u64,
    /// Answer `not_leader` rather than pass the request on to the leader.
    #[prost(bool, tag = "21")]
    pub no_forward: bool,
    #[prost(oneof = "client_request::Operation", tags = "16, 17, 18, 19, 20, 22, 23")]
    pub operation: ::core::option::Option<client_request::Operation>,
}
/// Nested message and enum types in `ClientRequest`.
pub mod client_request {
    #[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum Operation {
        #[prost(message, tag = "16")]
        Put(super::Put),
        #[prost(message, tag = "17")]
        Delete(super::Delete),
        #[prost(message, tag = "18")]
        Get(super::Get),
        #[prost(message, tag = "19")]
        List(super::List),
        #[prost(message, tag = "20")]
        Status(super::AskStatus),
        /// Read the whole log once, for damage; answered like AskStatus.
        #[prost(message, tag = "22")]
        Scrub(super::AskScrub),
        /// What the asked node has measured; answered by Latency. A node that does not know it refuses it as a bad frame.
        #[prost(message, tag = "23")]
        Latency(super::AskLatency),
    }
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Put {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: ::prost::bytes::Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: ::prost::bytes::Bytes,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Delete {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: ::prost::bytes::Bytes,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Get {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: ::prost::bytes::Bytes,
    /// As of this revision; absent: now.
    #[prost(uint64, optional, tag = "2")]
    pub revision: ::core::option::Option<u64>,
    #[prost(enumeration = "ReadBy", tag = "3")]
    pub by: i32,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct List {
    /// Keys that start with this; empty: all.
    #[prost(bytes = "bytes", tag = "1")]
    pub prefix: ::prost::bytes::Bytes,
    /// Keys behind this one; absent: from the first.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub after: ::core::option::Option<::prost::bytes::Bytes>,
    /// At most this many; 0: all.
    #[prost(uint64, tag = "3")]
    pub limit: u64,
    #[prost(uint64, optional, tag = "4")]
    pub revision: ::core::option::Option<u64>,
    #[prost(enumeration = "ReadBy", tag = "5")]
    pub by: i32,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AskStatus {}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AskScrub {}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AskLatency {}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ClientResponse {
    #[prost(bool, tag = "1")]
    pub success: bool,
    /// Only in answers to text commands.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: ::prost::bytes::Bytes,
    /// Why not, in words.
    #[prost(bytes = "bytes", tag = "3")]
    pub error: ::prost::bytes::Bytes,
    /// The leader's id, 0 if none is known.
    #[prost(uint32, tag = "4")]
    pub leader_hint: u32,
    /// From here on only in answers to typed requests.
    /// 0 with the error bad_frame: of a frame that could not be read; the connection is closed behind this answer.
    #[prost(uint64, tag = "16")]
    pub request_id: u64,
    /// The revision of the state that the answer speaks of.
    #[prost(uint64, tag = "17")]
    pub revision: u64,
    /// The stable number of the error; 0: none.
    #[prost(uint32, tag = "18")]
    pub error_code: u32,
    /// HOST:PORT of the leader, empty if it is not known.
    #[prost(string, tag = "19")]
    pub leader_address: ::prost::alloc::string::String,
    #[prost(oneof = "client_response::Outcome", tags = "20, 21, 22, 23, 24, 25")]
    pub outcome: ::core::option::Option<client_response::Outcome>,
}
/// Nested message and enum types in `ClientResponse`.
pub mod client_response {
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Outcome {
        #[prost(message, tag = "20")]
        Put(super::PutDone),
        #[prost(message, tag = "21")]
        Deleted(super::DeleteDone),
        #[prost(message, tag = "22")]
        Got(super::GetDone),
        #[prost(message, tag = "23")]
        Listed(super::ListDone),
        #[prost(message, tag = "24")]
        Status(::prost::alloc::boxed::Box<super::Status>),
        #[prost(message, tag = "25")]
        Latency(super::Latency),
    }
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PutDone {}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct DeleteDone {
    /// Whether the key was there.
    #[prost(bool, tag = "1")]
    pub existed: bool,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct GetDone {
    /// Absent: the key is. An empty value is a `Found` without bytes.
    #[prost(message, optional, tag = "1")]
    pub found: ::core::option::Option<Found>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Found {
    #[prost(bytes = "bytes", tag = "1")]
    pub value: ::prost::bytes::Bytes,
    #[prost(uint64, tag = "2")]
    pub create_revision: u64,
    #[prost(uint64, tag = "3")]
    pub mod_revision: u64,
    #[prost(uint64, tag = "4")]
    pub version: u64,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ListDone {
    /// Ascending.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub keys: ::prost::alloc::vec::Vec<::prost::bytes::Bytes>,
    /// Whether keys lie behind the last one.
    #[prost(bool, tag = "2")]
    pub more: bool,
}
/// What the answering node knows of itself.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Status {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(string, tag = "2")]
    pub cluster: ::prost::alloc::string::String,
    #[prost(enumeration = "Role", tag = "3")]
    pub role: i32,
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// 0: none.
    #[prost(uint32, tag = "5")]
    pub leader: u32,
    #[prost(string, tag = "6")]
    pub leader_address: ::prost::alloc::string::String,
    #[prost(uint64, tag = "7")]
    pub commit: u64,
    #[prost(uint64, tag = "8")]
    pub applied: u64,
    #[prost(uint64, tag = "9")]
    pub last: u64,
    #[prost(uint64, tag = "10")]
    pub revision: u64,
    #[prost(uint64, tag = "11")]
    pub keys: u64,
    #[prost(message, repeated, tag = "12")]
    pub peers: ::prost::alloc::vec::Vec<PeerStatus>,
    #[prost(string, tag = "13")]
    pub version: ::prost::alloc::string::String,
    #[prost(uint64, tag = "14")]
    pub uptime_ms: u64,
    /// What is wrong with this node, a sentence each.
    #[prost(string, repeated, tag = "15")]
    pub problems: ::prost::alloc::vec::Vec<::prost::alloc::string::String>,
    #[prost(message, optional, tag = "16")]
    pub scrub: ::core::option::Option<ScrubStatus>,
    /// Of the state at `applied`; nodes that applied the same have the same.
    #[prost(fixed64, tag = "17")]
    pub digest: u64,
    /// It leads, and answers reads without asking the others.
    #[prost(bool, tag = "18")]
    pub holds_lease: bool,
}
/// How the reading of the log for damage goes on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ScrubStatus {
    /// Full passes since the node started.
    #[prost(uint64, tag = "1")]
    pub passes: u64,
    /// Of the pass under way; equal when there is none.
    #[prost(uint64, tag = "2")]
    pub bytes_done: u64,
    #[prost(uint64, tag = "3")]
    pub bytes_total: u64,
    /// Places found damaged since the node started.
    #[prost(uint64, tag = "4")]
    pub damaged: u64,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PeerStatus {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(string, tag = "2")]
    pub address: ::prost::alloc::string::String,
    /// Empty when the link is up.
    #[prost(string, tag = "3")]
    pub down_because: ::prost::alloc::string::String,
    /// Only at the leader: the last log index known to be durable there.
    #[prost(uint64, optional, tag = "4")]
    pub matched: ::core::option::Option<u64>,
    #[prost(bool, tag = "5")]
    pub counted: bool,
}
/// Where the time of requests goes in the answering node.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Latency {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// None: it does not measure.
    #[prost(message, repeated, tag = "2")]
    pub stages: ::prost::alloc::vec::Vec<StageLatency>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct StageLatency {
    #[prost(enumeration = "Stage", tag = "1")]
    pub stage: i32,
    /// Whose acknowledgement; 0: of no other node.
    #[prost(uint32, tag = "2")]
    pub peer: u32,
    /// In the last half minute to a minute.
    #[prost(message, optional, tag = "3")]
    pub lately: ::core::option::Option<Percentiles>,
    /// Since the node started.
    #[prost(message, optional, tag = "4")]
    pub total: ::core::option::Option<Percentiles>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Percentiles {
    #[prost(uint64, tag = "1")]
    pub count: u64,
    #[prost(uint64, tag = "2")]
    pub p50_ns: u64,
    #[prost(uint64, tag = "3")]
    pub p90_ns: u64,
    #[prost(uint64, tag = "4")]
    pub p99_ns: u64,
    /// 99.9 %.
    #[prost(uint64, tag = "5")]
    pub p999_ns: u64,
    #[prost(uint64, tag = "6")]
    pub max_ns: u64,
}
/// A node, as it introduces itself.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PeerIdentity {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// The feature levels it speaks, from level_min to level.
    #[prost(uint32, tag = "2")]
    pub level: u32,
    #[prost(uint32, tag = "3")]
    pub level_min: u32,
    #[prost(string, tag = "4")]
    pub cluster_name: ::prost::alloc::string::String,
    /// 16 bytes, big-endian; absent while its log has none.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub cluster_id: ::core::option::Option<::prost::bytes::Bytes>,
    /// 16 bytes, big-endian: its data directory.
    #[prost(bytes = "bytes", tag = "6")]
    pub instance: ::prost::bytes::Bytes,
    /// HOST:PORT where it can be reached.
    #[prost(string, tag = "7")]
    pub address: ::prost::alloc::string::String,
}
/// The first frame of the node that dials. The magic number stands first, byte for byte, so that no client's frame
/// passes for a hello.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PeerHello {
    #[prost(fixed64, tag = "1")]
    pub magic: u64,
    #[prost(message, optional, tag = "2")]
    pub from: ::core::option::Option<PeerIdentity>,
    /// The node that it means to reach.
    #[prost(uint32, tag = "3")]
    pub to: u32,
}
/// The answer, and the only one if it refuses.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PeerHelloReply {
    #[prost(fixed64, tag = "1")]
    pub magic: u64,
    #[prost(message, optional, tag = "2")]
    pub from: ::core::option::Option<PeerIdentity>,
    /// Why not, as one sentence; absent: welcome.
    #[prost(string, optional, tag = "3")]
    pub refusal: ::core::option::Option<::prost::alloc::string::String>,
}
/// Every later frame, both ways.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PeerFrame {
    #[prost(oneof = "peer_frame::Frame", tags = "1, 2, 3")]
    pub frame: ::core::option::Option<peer_frame::Frame>,
}
/// Nested message and enum types in `PeerFrame`.
pub mod peer_frame {
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Frame {
        #[prost(message, tag = "1")]
        Consensus(super::Consensus),
        #[prost(message, tag = "2")]
        Forward(super::Forward),
        #[prost(message, tag = "3")]
        ForwardReply(super::ForwardReply),
    }
}
/// A client's request, passed on to the leader of `term`; refused in any other.
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Forward {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(uint64, tag = "2")]
    pub term: u64,
    #[prost(message, optional, tag = "3")]
    pub request: ::core::option::Option<ClientRequest>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ForwardReply {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(message, optional, tag = "2")]
    pub reply: ::core::option::Option<ClientResponse>,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Consensus {
    #[prost(uint32, tag = "1")]
    pub from: u32,
    #[prost(uint32, tag = "2")]
    pub to: u32,
    /// The sender's current term, in every message.
    #[prost(uint64, tag = "3")]
    pub term: u64,
    #[prost(
        oneof = "consensus::Body",
        tags = "4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16"
    )]
    pub body: ::core::option::Option<consensus::Body>,
}
/// Nested message and enum types in `Consensus`.
pub mod consensus {
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Body {
        #[prost(message, tag = "4")]
        PreVote(super::PreVote),
        #[prost(message, tag = "5")]
        PreVoteReply(super::PreVoteReply),
        #[prost(message, tag = "6")]
        Vote(super::Vote),
        #[prost(message, tag = "7")]
        VoteReply(super::VoteReply),
        #[prost(message, tag = "8")]
        Append(super::Append),
        #[prost(message, tag = "9")]
        AppendAccepted(super::AppendAccepted),
        #[prost(message, tag = "10")]
        AppendRejected(super::AppendRejected),
        #[prost(message, tag = "11")]
        Heartbeat(super::Heartbeat),
        #[prost(message, tag = "12")]
        HeartbeatReply(super::HeartbeatReply),
        #[prost(message, tag = "13")]
        Refill(super::Refill),
        #[prost(message, tag = "14")]
        Refilled(super::Refilled),
        #[prost(message, tag = "15")]
        ReadIndex(super::ReadIndex),
        #[prost(message, tag = "16")]
        ReadIndexReply(super::ReadIndexReply),
    }
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PreVote {
    #[prost(uint64, tag = "1")]
    pub proposed: u64,
    #[prost(uint64, tag = "2")]
    pub last_index: u64,
    #[prost(uint64, tag = "3")]
    pub last_term: u64,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct PreVoteReply {
    #[prost(uint64, tag = "1")]
    pub proposed: u64,
    #[prost(bool, tag = "2")]
    pub granted: bool,
    #[prost(bool, tag = "3")]
    pub log_is_empty: bool,
    /// The voter's disk has lost something.
    #[prost(bool, tag = "4")]
    pub suspect: bool,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Vote {
    #[prost(uint64, tag = "1")]
    pub last_index: u64,
    #[prost(uint64, tag = "2")]
    pub last_term: u64,
    #[prost(bool, tag = "3")]
    pub transfer: bool,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct VoteReply {
    #[prost(bool, tag = "1")]
    pub granted: bool,
    #[prost(bool, tag = "2")]
    pub log_is_empty: bool,
    /// The voter's disk has lost something.
    #[prost(bool, tag = "3")]
    pub suspect: bool,
}
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Append {
    #[prost(uint64, tag = "1")]
    pub prev_index: u64,
    #[prost(uint64, tag = "2")]
    pub prev_term: u64,
    /// Consecutive, the first right behind prev_index.
    #[prost(message, repeated, tag = "3")]
    pub entries: ::prost::alloc::vec::Vec<Entry>,
    #[prost(uint64, tag = "4")]
    pub commit: u64,
    #[prost(uint64, tag = "5")]
    pub round: u64,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Entry {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// 1 no-op, 2 members, 3 commands.
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: ::prost::bytes::Bytes,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AppendAccepted {
    #[prost(uint64, tag = "1")]
    pub matched: u64,
    #[prost(uint64, tag = "2")]
    pub round: u64,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct AppendRejected {
    #[prost(uint64, tag = "1")]
    pub prev_index: u64,
    #[prost(uint64, tag = "2")]
    pub hint_index: u64,
    #[prost(uint64, tag = "3")]
    pub hint_term: u64,
    #[prost(uint64, tag = "4")]
    pub round: u64,
    /// The sender's disk has lost something, perhaps what it acknowledged before.
    #[prost(bool, tag = "5")]
    pub suspect: bool,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Heartbeat {
    #[prost(uint64, tag = "1")]
    pub commit: u64,
    #[prost(uint64, tag = "2")]
    pub round: u64,
    /// The entry behind which the state's digest is asked for; 0: none.
    #[prost(uint64, tag = "3")]
    pub asked_index: u64,
    /// What a majority agrees on.
    #[prost(message, optional, tag = "4")]
    pub agreed: ::core::option::Option<StateDigest>,
    /// For so long nobody else is to be helped to lead; 0: nothing is asked.
    #[prost(uint32, tag = "5")]
    pub promise_ms: u32,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct HeartbeatReply {
    #[prost(uint64, tag = "1")]
    pub round: u64,
    /// Behind the entry that was asked about, if it is known.
    #[prost(message, optional, tag = "2")]
    pub digest: ::core::option::Option<StateDigest>,
    /// The room on the sender's disk: 0: plenty; 1: low, only a reserve is left; 2: none.
    #[prost(uint32, tag = "3")]
    pub space: u32,
    /// What is granted of the promise that the heartbeat of this round asked for; 0: nothing.
    #[prost(uint32, tag = "4")]
    pub promise_ms: u32,
}
/// Of the key-value state behind an entry; equal on all nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct StateDigest {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    #[prost(fixed64, tag = "2")]
    pub digest: u64,
}
/// From a node that takes the receiver for the leader: how far must it have applied, to answer what it was asked before?
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ReadIndex {
    /// Echoed in the answer.
    #[prost(fixed64, tag = "1")]
    pub token: u64,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct ReadIndexReply {
    #[prost(fixed64, tag = "1")]
    pub token: u64,
    /// It is committed.
    #[prost(uint64, tag = "2")]
    pub index: u64,
}
/// Entries that the sender's disk has lost, each named by index and term.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Refill {
    #[prost(message, repeated, tag = "1")]
    pub wanted: ::prost::alloc::vec::Vec<EntryId>,
    /// Echoed in the answer, which may come late.
    #[prost(fixed64, tag = "2")]
    pub nonce: u64,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct EntryId {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    #[prost(uint64, tag = "2")]
    pub term: u64,
}
/// As many of them as fit, and those that the sender can't give.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Refilled {
    #[prost(message, repeated, tag = "1")]
    pub entries: ::prost::alloc::vec::Vec<Entry>,
    #[prost(message, repeated, tag = "2")]
    pub absent: ::prost::alloc::vec::Vec<Absent>,
    /// From a leader only: the end of its log.
    #[prost(message, optional, tag = "3")]
    pub barrier: ::core::option::Option<Barrier>,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Barrier {
    #[prost(fixed64, tag = "1")]
    pub nonce: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Absent {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// 1: it certainly does not hold it; 2: another entry is committed in its place; 3: it may have held it.
    #[prost(uint32, tag = "3")]
    pub absence: u32,
}
/// The data of a log entry of kind 3. A reader that does not know the version, or meets an operation that it does
/// not know, stops: it never skips.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Envelope {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Cluster time: never back, never wall clock.
    #[prost(uint64, tag = "2")]
    pub cluster_time_ms: u64,
    #[prost(message, repeated, tag = "3")]
    pub commands: ::prost::alloc::vec::Vec<Command>,
}
/// One client's atomic list of operations. All fields but the last are empty today.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Command {
    #[prost(uint64, tag = "1")]
    pub group: u64,
    #[prost(uint64, tag = "2")]
    pub session: u64,
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub principal: ::prost::bytes::Bytes,
    #[prost(uint64, tag = "5")]
    pub auth_revision: u64,
    #[prost(message, repeated, tag = "6")]
    pub operations: ::prost::alloc::vec::Vec<Operation>,
}
#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Operation {
    #[prost(oneof = "operation::Operation", tags = "1, 2")]
    pub operation: ::core::option::Option<operation::Operation>,
}
/// Nested message and enum types in `Operation`.
pub mod operation {
    #[derive(Clone, PartialEq, Eq, Hash, ::prost::Oneof)]
    pub enum Operation {
        #[prost(message, tag = "1")]
        Put(super::Put),
        #[prost(message, tag = "2")]
        Delete(super::Delete),
    }
}
/// Who may answer a read. It is linearizable either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum ReadBy {
    /// The leader, to whom others pass it on.
    Leader = 0,
    /// Whichever node is asked: one that does not lead asks the leader only how far it must have applied.
    Any = 1,
}
impl ReadBy {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Leader => "READ_BY_LEADER",
            Self::Any => "READ_BY_ANY",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "READ_BY_LEADER" => Some(Self::Leader),
            "READ_BY_ANY" => Some(Self::Any),
            _ => None,
        }
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum Role {
    Unspecified = 0,
    Follower = 1,
    PreCandidate = 2,
    Candidate = 3,
    Leader = 4,
    Uncounted = 5,
}
impl Role {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "ROLE_UNSPECIFIED",
            Self::Follower => "FOLLOWER",
            Self::PreCandidate => "PRE_CANDIDATE",
            Self::Candidate => "CANDIDATE",
            Self::Leader => "LEADER",
            Self::Uncounted => "UNCOUNTED",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "ROLE_UNSPECIFIED" => Some(Self::Unspecified),
            "FOLLOWER" => Some(Self::Follower),
            "PRE_CANDIDATE" => Some(Self::PreCandidate),
            "CANDIDATE" => Some(Self::Candidate),
            "LEADER" => Some(Self::Leader),
            "UNCOUNTED" => Some(Self::Uncounted),
            _ => None,
        }
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum Stage {
    Unspecified = 0,
    Decode = 1,
    InboxWait = 2,
    AppendToDurable = 3,
    Fsync = 4,
    SendToAck = 5,
    CommitToApply = 6,
    ApplyToReply = 7,
}
impl Stage {
    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn as_str_name(&self) -> &'static str {
        match self {
            Self::Unspecified => "STAGE_UNSPECIFIED",
            Self::Decode => "DECODE",
            Self::InboxWait => "INBOX_WAIT",
            Self::AppendToDurable => "APPEND_TO_DURABLE",
            Self::Fsync => "FSYNC",
            Self::SendToAck => "SEND_TO_ACK",
            Self::CommitToApply => "COMMIT_TO_APPLY",
            Self::ApplyToReply => "APPLY_TO_REPLY",
        }
    }
    /// Creates an enum from field names used in the ProtoBuf definition.
    pub fn from_str_name(value: &str) -> ::core::option::Option<Self> {
        match value {
            "STAGE_UNSPECIFIED" => Some(Self::Unspecified),
            "DECODE" => Some(Self::Decode),
            "INBOX_WAIT" => Some(Self::InboxWait),
            "APPEND_TO_DURABLE" => Some(Self::AppendToDurable),
            "FSYNC" => Some(Self::Fsync),
            "SEND_TO_ACK" => Some(Self::SendToAck),
            "COMMIT_TO_APPLY" => Some(Self::CommitToApply),
            "APPLY_TO_REPLY" => Some(Self::ApplyToReply),
            _ => None,
        }
    }
}
