//! The stages of a request inside a node: what is measured between its steps ([`super::Step`]).
//!
//! ```text
//! 1 bytes in | 2 decoded            | 3 admitted, 4 appended | 5 persisted   6 committed | 7 applied, 8 built | 9 bytes out
//!    DECODE  |  INBOX WAIT (handed  |    APPEND TO DURABLE, of it FSYNC      COMMIT      |     APPLY TO REPLY           |
//!            |  on by net, taken by |    SEND TO ACK, each follower, meanwhile TO APPLY  |                              |
//!            |  consensus)          |                                                    |                              |
//! ```
//!
//! A write of one client is about the sum of them, with the shortest majority of APPEND TO DURABLE and the SEND TO ACK
//! of the followers in the middle.

/// Where the time of a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// From the wake of net that found the bytes to the request in the inbox of consensus, for each request that goes
    /// there.
    Decode = 1,
    /// From there to the turn of consensus that takes it, for each request.
    InboxWait,
    /// From the turn that appends to the turn that learns that its own disk holds it, for each batch that goes to the
    /// wal together.
    AppendToDurable,
    /// Within that, the fsync alone, for each of them.
    Fsync,
    /// From the turn that sends an append to the turn that takes its acknowledgement, for each append, by follower.
    SendToAck,
    /// From the turn that finds it committed to the end of applying it, for each entry.
    CommitToApply,
    /// From there to the socket, for each answer, those to reads as well.
    ApplyToReply,
}

impl Stage {
    pub const ALL: [Stage; 7] = [
        Stage::Decode,
        Stage::InboxWait,
        Stage::AppendToDurable,
        Stage::Fsync,
        Stage::SendToAck,
        Stage::CommitToApply,
        Stage::ApplyToReply,
    ];

    /// As an operator reads it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::InboxWait => "inbox wait",
            Stage::AppendToDurable => "append to durable",
            Stage::Fsync => "fsync",
            Stage::SendToAck => "send to ack",
            Stage::CommitToApply => "commit to apply",
            Stage::ApplyToReply => "apply to reply",
        }
    }
}
