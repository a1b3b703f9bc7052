//! What the net thread counts. It writes; anybody reads, without a lock and without order between the numbers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why a connection was closed by this side, or ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CloseReason {
            $($(#[$doc])* $name,)*
        }

        impl CloseReason {
            pub const ALL: &[CloseReason] = &[$(CloseReason::$name),*];

            /// As the rest of a sentence: "closed: ...".
            pub fn as_str(self) -> &'static str {
                match self { $(CloseReason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// End of input or QUIT, and everything asked was answered.
    Finished = "the other side was done";
    /// Reset, or another error of the socket.
    Broken = "the socket failed";
    /// The first byte begins no protocol of ours.
    UnknownProtocol = "the first byte is neither a frame's nor a line's";
    /// The first byte begins one that is reserved: TLS or RESP.
    ReservedProtocol = "the first byte begins TLS or RESP, which are not spoken yet";
    /// A line of an HTTP request: nothing of it runs.
    Http = "it speaks HTTP";
    /// A length beyond the limits, or content that is no message of ours.
    BadFrame = "a frame was malformed";
    LineTooLong = "a line passed its limit";
    /// A frame, line or hello that began was not complete in time.
    TooSlow = "a frame, line or hello was not complete in time";
    /// The answers were left unread for too long.
    Unread = "its answers were left unread for too long";
    /// The unread answers passed twice the bound of a connection.
    TooMuchUnread = "its unread answers passed the bound";
    Jam = "it held the most of the memory that all connections wait for";
    /// The clients' connections are all taken.
    TooManyConnections = "all connections for clients are taken";
    /// The hello was not from a peer of ours, or not for us.
    HelloRefused = "its hello was refused";
    /// The same peer dialed again.
    Superseded = "the peer has dialed again";
    /// The peer is no longer one, or is of another cluster.
    NotAPeer = "it is no peer of this node";
    /// What is queued for the peer passed its bound.
    QueueFull = "what is queued for it passed the bound";
    /// The node stops.
    Stopping = "the node stops";
}

/// All numbers start at 0 and none is ever reset.
#[derive(Debug, Default)]
pub struct NetCounters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections open now: accepted and dialed.
    pub open: AtomicUsize,
    /// Times that accepting paused: the limit was reached, or a descriptor was missing.
    pub accept_pauses: AtomicU64,
    /// Bytes buffered by all connections now, as the global bound counts them.
    pub buffered_bytes: AtomicUsize,
    /// The most that `buffered_bytes` ever was.
    pub buffered_bytes_peak: AtomicUsize,
    /// Turns of the loop.
    pub turns: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

impl NetCounters {
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count_closed(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_buffered(&self, bytes: usize) {
        self.buffered_bytes.store(bytes, Ordering::Relaxed);
        self.buffered_bytes_peak.fetch_max(bytes, Ordering::Relaxed);
    }
}
