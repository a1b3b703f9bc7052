//! The bounds that the net thread keeps. Their defaults, and what each does when it is reached, stand in
//! [`crate::base::limits`]; tests make them small.

use std::time::Duration;

use crate::base::limits;

#[derive(Clone, Debug)]
pub struct NetLimits {
    pub connections_max: usize,
    pub connection_buffered_bytes_max: usize,
    pub buffered_bytes_max: usize,
    pub jam_deadline: Duration,
    pub connection_requests_max: usize,
    pub requests_max: usize,
    pub hello_deadline: Duration,
    pub reserve_hello_deadline: Duration,
    pub frame_deadline: Duration,
    pub write_deadline: Duration,
    pub linger_deadline: Duration,
    pub page_keys: usize,
    pub encoded_bytes_target: usize,
    pub read_chunk_bytes: usize,
    pub turn_reads_max: usize,
    pub turn_connections_max: usize,
    pub turn_client_bytes_max: usize,
    pub turn_connection_bytes_max: usize,
    pub turn_peer_bytes_max: usize,
    pub turn_accepts_max: usize,
    pub turn_events_max: usize,
    pub accept_retry: Duration,
    pub peer_credit_bytes_max: usize,
    pub link_queue_bytes_max: usize,
    pub link_write_deadline: Duration,
    pub dial_deadline: Duration,
    pub dial_backoff_min: Duration,
    pub dial_backoff_max: Duration,
}

/// How much of what all connections may hold together they hold: who holds little is served for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Free,
    /// From three quarters on: who holds more than a little is not read, and gets no answer to hold beside another.
    Scarce,
    /// From seven eighths on: and no large answer is kept for anybody.
    Short,
}

impl NetLimits {
    pub fn memory(&self, buffered_bytes: usize) -> Memory {
        match buffered_bytes {
            bytes if bytes < self.scarce_from_bytes() => Memory::Free,
            bytes if bytes < self.short_from_bytes() => Memory::Scarce,
            _ => Memory::Short,
        }
    }

    pub fn scarce_from_bytes(&self) -> usize {
        self.buffered_bytes_max / 4 * 3
    }

    fn short_from_bytes(&self) -> usize {
        self.buffered_bytes_max / 8 * 7
    }

    /// From how many bytes of all connections on one is not read that holds `bytes` of them.
    pub fn not_read_from_bytes(&self, bytes: usize) -> usize {
        if bytes <= limits::SMALL_CLIENT_BYTES { self.buffered_bytes_max } else { self.scarce_from_bytes() }
    }
}

impl Default for NetLimits {
    fn default() -> NetLimits {
        NetLimits {
            connections_max: limits::CONNECTIONS_MAX,
            connection_buffered_bytes_max: limits::CONNECTION_BUFFERED_BYTES_MAX,
            buffered_bytes_max: limits::BUFFERED_BYTES_MAX,
            jam_deadline: limits::JAM_DEADLINE,
            connection_requests_max: limits::CONNECTION_REQUESTS_MAX,
            requests_max: limits::REQUESTS_MAX,
            hello_deadline: limits::HELLO_DEADLINE,
            reserve_hello_deadline: limits::RESERVE_HELLO_DEADLINE,
            frame_deadline: limits::FRAME_DEADLINE,
            write_deadline: limits::WRITE_DEADLINE,
            linger_deadline: limits::LINGER_DEADLINE,
            page_keys: limits::PAGE_KEYS_DEFAULT,
            encoded_bytes_target: limits::ENCODED_BYTES_TARGET,
            read_chunk_bytes: limits::READ_CHUNK_BYTES,
            turn_reads_max: limits::TURN_READS_MAX,
            turn_connections_max: limits::TURN_CONNECTIONS_MAX,
            turn_client_bytes_max: limits::TURN_CLIENT_BYTES_MAX,
            turn_connection_bytes_max: limits::TURN_CONNECTION_BYTES_MAX,
            turn_peer_bytes_max: limits::TURN_PEER_BYTES_MAX,
            turn_accepts_max: limits::TURN_ACCEPTS_MAX,
            turn_events_max: limits::TURN_EVENTS_MAX,
            accept_retry: limits::ACCEPT_RETRY,
            peer_credit_bytes_max: limits::PEER_CREDIT_BYTES_MAX,
            link_queue_bytes_max: limits::LINK_QUEUE_BYTES_MAX,
            link_write_deadline: limits::LINK_WRITE_DEADLINE,
            dial_deadline: limits::DIAL_DEADLINE,
            dial_backoff_min: limits::DIAL_BACKOFF_MIN,
            dial_backoff_max: limits::DIAL_BACKOFF_MAX,
        }
    }
}
