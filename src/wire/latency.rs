//! What a node has measured of the stages of requests, as the generated messages say it.

use std::time::Duration;

use super::convert::node_id;
use super::frame::BadFrame;
use super::generated as proto;
use crate::api::{Latency, Percentiles, StageLatency};
use crate::base::{NodeId, Stage};

pub fn to_proto(latency: &Latency) -> proto::Latency {
    let stages = latency.stages.iter().map(|StageLatency { stage, peer, lately, total }| proto::StageLatency {
        stage: stage_to_proto(*stage).into(),
        peer: peer.map_or(0, NodeId::get),
        lately: Some(percentiles_to_proto(lately)),
        total: Some(percentiles_to_proto(total)),
    });
    proto::Latency { id: latency.id.get(), stages: stages.collect() }
}

/// A stage that this version does not know is left out: a newer node may measure more.
pub fn from_proto(latency: proto::Latency) -> Result<Latency, BadFrame> {
    let stages = latency.stages.into_iter().filter_map(|said| {
        let stage = stage_from_proto(said.stage)?;
        let percentiles = |said: Option<proto::Percentiles>| said.map(percentiles_from_proto).unwrap_or_default();
        let (lately, total) = (percentiles(said.lately), percentiles(said.total));
        Some(StageLatency { stage, peer: NodeId::new(said.peer), lately, total })
    });
    Ok(Latency { id: node_id("the id in a node's latencies", latency.id)?, stages: stages.collect() })
}

fn percentiles_to_proto(Percentiles { count, p50, p90, p99, p999, max }: &Percentiles) -> proto::Percentiles {
    let nanos = |length: &Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    proto::Percentiles {
        count: *count,
        p50_ns: nanos(p50),
        p90_ns: nanos(p90),
        p99_ns: nanos(p99),
        p999_ns: nanos(p999),
        max_ns: nanos(max),
    }
}

fn percentiles_from_proto(said: proto::Percentiles) -> Percentiles {
    Percentiles {
        count: said.count,
        p50: Duration::from_nanos(said.p50_ns),
        p90: Duration::from_nanos(said.p90_ns),
        p99: Duration::from_nanos(said.p99_ns),
        p999: Duration::from_nanos(said.p999_ns),
        max: Duration::from_nanos(said.max_ns),
    }
}

fn stage_to_proto(stage: Stage) -> proto::Stage {
    match stage {
        Stage::Decode => proto::Stage::Decode,
        Stage::InboxWait => proto::Stage::InboxWait,
        Stage::AppendToDurable => proto::Stage::AppendToDurable,
        Stage::Fsync => proto::Stage::Fsync,
        Stage::SendToAck => proto::Stage::SendToAck,
        Stage::CommitToApply => proto::Stage::CommitToApply,
        Stage::ApplyToReply => proto::Stage::ApplyToReply,
    }
}

fn stage_from_proto(number: i32) -> Option<Stage> {
    Stage::ALL.into_iter().find(|stage| i32::from(stage_to_proto(*stage)) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_this_version_does_not_know_is_left_out() {
        let known = proto::StageLatency { stage: proto::Stage::Fsync.into(), ..proto::StageLatency::default() };
        let unknown = [0, -1, 8, i32::MAX].map(|stage| proto::StageLatency { stage, ..known });
        let said = proto::Latency { id: 7, stages: unknown.into_iter().chain([known]).collect() };
        let latency = from_proto(said).unwrap();
        let (peer, lately, total) = (None, Percentiles::default(), Percentiles::default());
        assert_eq!(latency.stages, [StageLatency { stage: Stage::Fsync, peer, lately, total }]);
        assert!(from_proto(proto::Latency::default()).is_err(), "no node has the id 0");
    }
}
