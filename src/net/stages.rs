//! What the threads of a node measure of the stages of requests, for whoever asks where their time goes.
//!
//! It stands here because net is the lowest that measures. Each histogram has one writer; net reads them all when it is
//! asked. The clock is handed in. Nothing of it is in the way of anybody: no lock, no system call, and one look at the
//! clock for a turn that has something to measure rather than for each request; where a turn's own `now` is exact
//! enough there is none.
//!
//! | stage | written by | looks at the clock |
//! |---|---|---|
//! | decode | net | the turn that hands requests on: when it begins to read clients, and when it is done |
//! | inbox wait | consensus | none: the turn's `now` |
//! | append to durable | consensus | none: both ends are turns' `now`, so the rest of the first turn is in it |
//! | fsync | wal | before each batch's write, and after its fsync |
//! | send to ack | consensus | none: both ends are turns' `now`, as above, and net's turns are in it |
//! | commit to apply | consensus | the turn that applied something, behind it: a turn's `now` would make it zero |
//! | apply to reply | net | the turn that wrote answers, behind it; it begins at the look before |
//!
//! A read that net answers itself, while the leader holds its lease, passes none of them and is not counted.
//!
//! Requests of one turn share their ends, so what is short beside a turn of 64 clients is said to be as long as that
//! turn: at most too long, by the reading of the other clients in it.

use std::sync::OnceLock;
use std::time::Duration;

use super::histogram::Histogram;
use crate::api::{Latency, StageLatency};
use crate::base::limits::CLUSTER_MEMBERS_MAX;
use crate::base::{Moment, NodeId, Stage};

#[derive(Debug)]
pub struct Stages {
    clock: fn() -> Moment,
    /// By stage; that of [`Stage::SendToAck`] stays empty.
    own: [Histogram; Stage::ALL.len()],
    /// One for each follower that has acknowledged anything since the start.
    acks: [OnceLock<(NodeId, Histogram)>; CLUSTER_MEMBERS_MAX],
}

impl Stages {
    /// `clock` never goes back, and is the same in all threads.
    pub fn new(clock: fn() -> Moment) -> Stages {
        Stages { clock, own: Default::default(), acks: Default::default() }
    }

    pub fn now(&self) -> Moment {
        (self.clock)()
    }

    /// The clock alone, for who can't be given more.
    pub fn clock(&self) -> fn() -> Moment {
        self.clock
    }

    /// That `times` requests (or what the stage counts) took so long. Only the stage's own thread.
    pub fn record(&self, stage: Stage, now: Moment, took: Duration, times: u64) {
        self.own[place(stage)].record(now, took, times);
    }

    /// That `peer` took so long to acknowledge an append. The consensus thread only. Of members beyond the bound, which
    /// there are not while members don't change, nothing is kept.
    pub fn record_ack(&self, peer: NodeId, now: Moment, took: Duration) {
        let mut places = self.acks.iter().map(|place| place.get_or_init(|| (peer, Histogram::default())));
        if let Some((_, histogram)) = places.find(|(id, _)| *id == peer) {
            histogram.record(now, took, 1);
        }
    }

    /// What node `id`, whose they are, says of them.
    pub fn latency(&self, id: NodeId) -> Latency {
        let now = self.now();
        let said = |stage, peer, histogram: &Histogram| StageLatency {
            stage,
            peer,
            lately: histogram.lately(now),
            total: histogram.total(),
        };
        let mut stages = Vec::with_capacity(Stage::ALL.len() + self.acks.len());
        for stage in Stage::ALL {
            if stage != Stage::SendToAck {
                stages.push(said(stage, None, &self.own[place(stage)]));
                continue;
            }
            let acks = self.acks.iter().filter_map(OnceLock::get);
            let first = stages.len();
            stages.extend(acks.map(|(peer, histogram)| said(stage, Some(*peer), histogram)));
            stages[first..].sort_by_key(|ack| ack.peer);
        }
        Latency { id, stages }
    }
}

fn place(stage: Stage) -> usize {
    stage as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::LATENCY_PERIOD;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn each_stage_and_each_follower_has_figures_of_its_own() {
        let now = Moment(LATENCY_PERIOD.as_nanos() as u64 * 9);
        let stages = Stages::new(|| Moment(LATENCY_PERIOD.as_nanos() as u64 * 9));
        for (times, stage) in (1..).zip(Stage::ALL).filter(|(_, stage)| *stage != Stage::SendToAck) {
            stages.record(stage, now, Duration::from_micros(times), times);
        }
        for (peer, millis) in [(3, 30), (2, 20), (3, 31)] {
            stages.record_ack(node(peer), now, Duration::from_millis(millis));
        }
        let Latency { id, stages } = stages.latency(node(1));
        let said: Vec<_> = stages.iter().map(|said| (said.stage, said.peer, said.total.count)).collect();
        assert_eq!(id, node(1));
        assert_eq!(
            said,
            [
                (Stage::Decode, None, 1),
                (Stage::InboxWait, None, 2),
                (Stage::AppendToDurable, None, 3),
                (Stage::Fsync, None, 4),
                (Stage::SendToAck, Some(node(2)), 1),
                (Stage::SendToAck, Some(node(3)), 2),
                (Stage::CommitToApply, None, 6),
                (Stage::ApplyToReply, None, 7),
            ]
        );
        assert_eq!(stages[5].total.max, Duration::from_millis(31));
        assert!(stages.iter().all(|said| said.lately == said.total));
    }

    #[test]
    fn followers_beyond_the_bound_are_left_out() {
        let stages = Stages::new(|| Moment(1));
        let most = CLUSTER_MEMBERS_MAX as u32;
        (1..=most + 3).for_each(|peer| stages.record_ack(node(peer), Moment(1), Duration::from_millis(1)));
        let acks = stages.latency(node(1)).stages.into_iter().filter_map(|said| said.peer);
        assert_eq!(acks.collect::<Vec<_>>(), (1..=most).map(node).collect::<Vec<_>>());
    }
}
