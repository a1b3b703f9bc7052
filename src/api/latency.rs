//! Where the time of requests goes inside a node, as it tells whoever asks.

use std::time::Duration;

use crate::base::{NodeId, Stage};

/// What a node has measured of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    pub id: NodeId,
    /// In the order of [`Stage::ALL`], those of the followers by id; none if the node does not measure.
    pub stages: Vec<StageLatency>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageLatency {
    pub stage: Stage,
    /// Whose acknowledgement, of [`Stage::SendToAck`].
    pub peer: Option<NodeId>,
    /// In the last half minute to a minute.
    pub lately: Percentiles,
    /// Since the node started.
    pub total: Percentiles,
}

/// Of a number of lengths; all are zero when nothing was counted. What `p99` says is at most a sixteenth more than the
/// length that 99 % did not pass, and never less; `max` is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    pub count: u64,
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub p999: Duration,
    pub max: Duration,
}
