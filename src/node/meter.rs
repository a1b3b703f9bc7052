//! What the consensus thread measures of the stages of requests ([`Stages`]).
//!
//! It runs beside the replica, which knows no clock: at the ends of a turn, by the turn's `now` and at most one look at
//! the clock behind it. Without stages (the simulator, a node that was started not to measure) it does nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{LogIndex, Moment, PersistSeq, Stage};
use crate::net::{NetEvent, Stages};
use crate::raft::{Acked, Persist};

#[derive(Default)]
pub struct Meter {
    stages: Option<Arc<Stages>>,
    /// The last persist of each batch with entries that is with the wal, and since when.
    with_wal: VecDeque<(PersistSeq, Moment)>,
    /// The last entry that was applied before this turn.
    applied: LogIndex,
}

impl Meter {
    pub fn new(stages: Arc<Stages>) -> Meter {
        Meter { stages: Some(stages), ..Meter::default() }
    }

    /// A request is taken.
    pub fn on_request(&self, now: Moment, handed_on: Moment) {
        if let Some(stages) = &self.stages
            && handed_on > Moment::ZERO
        {
            stages.record(Stage::InboxWait, now, now.since(handed_on), 1);
        }
    }

    pub fn on_persisted(&mut self, now: Moment, seq: PersistSeq) {
        let Some(stages) = &self.stages else { return };
        while let Some((_, since)) = self.with_wal.front().filter(|(last, _)| *last <= seq) {
            stages.record(Stage::AppendToDurable, now, now.since(*since), 1);
            self.with_wal.pop_front();
        }
    }

    /// What a turn hands to the wal.
    pub fn on_persist(&mut self, now: Moment, persists: &[Persist]) {
        if self.stages.is_some()
            && let Some(last) = persists.iter().rev().find(|persist| !persist.entries.is_empty())
        {
            self.with_wal.push_back((last.seq, now));
        }
    }

    /// The turn that began at `now` is done but for passing on what it comes to.
    pub fn end_turn(&mut self, now: Moment, applied: LogIndex, acked: &mut Vec<Acked>, net: &mut [NetEvent]) {
        let before = std::mem::replace(&mut self.applied, applied);
        let Some(stages) = &self.stages else { return acked.clear() };
        for Acked { peer, after } in acked.drain(..) {
            stages.record_ack(peer, now, after);
        }
        let is_reply = |event: &&mut NetEvent| matches!(event, NetEvent::Reply { .. });
        let mut replies = net.iter_mut().filter(is_reply).peekable();
        if applied == before && replies.peek().is_none() {
            return;
        }
        let done = stages.now();
        if applied > before {
            stages.record(Stage::CommitToApply, done, done.since(now), applied.0 - before.0);
        }
        for reply in replies {
            if let NetEvent::Reply { ready, .. } = reply {
                *ready = done;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::api::{Outcome, Reply};
    use crate::base::{Entry, EntryKind, NodeId, Revision, Term};
    use crate::net::{ConnectionId, Origin};

    /// Behind a turn that began at 1 s it is 3 ms later.
    const TURN: Moment = Moment(1_000_000_000);
    const BEHIND: Moment = Moment(1_003_000_000);

    fn meter() -> (Meter, Arc<Stages>) {
        let stages = Arc::new(Stages::new(|| BEHIND));
        (Meter::new(stages.clone()), stages)
    }

    /// How often, and the longest.
    fn said(stages: &Stages, stage: Stage) -> (u64, Duration) {
        let latency = stages.latency(NodeId::new(1).unwrap());
        let said = latency.stages.iter().find(|said| said.stage == stage);
        said.map_or((0, Duration::ZERO), |said| (said.total.count, said.total.max))
    }

    fn reply() -> NetEvent {
        let origin = Origin { connection: ConnectionId { slot: 0, generation: 0 }, sequence: 1 };
        let reply = Reply { result: Ok(Outcome::Put { revision: Revision(1) }), leader: None };
        NetEvent::Reply { origin, reply, ready: Moment::ZERO }
    }

    fn persist(seq: u64, entries: u64) -> Persist {
        let entry = |index| Entry { index: LogIndex(index), term: Term(1), kind: EntryKind::Noop, data: Bytes::new() };
        let entries = (1..=entries).map(entry).collect();
        Persist { seq: PersistSeq(seq), cut_from: None, hard_state: None, entries, messages: Vec::new() }
    }

    #[test]
    fn a_batch_is_durable_when_its_last_persist_with_entries_is() {
        let (mut meter, stages) = meter();
        meter.on_persist(TURN, &[persist(1, 0)]);
        meter.on_persist(TURN, &[persist(2, 1), persist(3, 2), persist(4, 0)]);
        meter.on_persist(TURN, &[persist(5, 1)]);
        let at = |millis| TURN + Duration::from_millis(millis);
        meter.on_persisted(at(1), PersistSeq(2));
        assert_eq!(said(&stages, Stage::AppendToDurable).0, 0, "not all of it yet");
        meter.on_persisted(at(7), PersistSeq(4));
        assert_eq!(said(&stages, Stage::AppendToDurable), (1, Duration::from_millis(7)));
        meter.on_persisted(at(9), PersistSeq(5));
        assert_eq!(said(&stages, Stage::AppendToDurable), (2, Duration::from_millis(9)));
    }

    #[test]
    fn what_a_turn_has_applied_and_answered_is_told_by_the_clock_behind_it() {
        let (mut meter, stages) = meter();
        let mut net = [NetEvent::Stop, reply(), reply()];
        let mut acked = vec![Acked { peer: NodeId::new(2).unwrap(), after: Duration::from_millis(5) }];
        meter.end_turn(TURN, LogIndex(4), &mut acked, &mut net);
        assert!(acked.is_empty());
        let [NetEvent::Stop, NetEvent::Reply { ready: first, .. }, NetEvent::Reply { ready: second, .. }] = net else {
            panic!("{net:?}");
        };
        assert_eq!((first, second), (BEHIND, BEHIND));
        assert_eq!(said(&stages, Stage::CommitToApply), (4, Duration::from_millis(3)));
        assert_eq!(said(&stages, Stage::SendToAck), (1, Duration::from_millis(5)));
        meter.end_turn(TURN, LogIndex(4), &mut acked, &mut []);
        assert_eq!(said(&stages, Stage::CommitToApply).0, 4, "nothing was applied");
    }

    #[test]
    fn a_request_that_net_did_not_mark_is_not_measured() {
        let (meter, stages) = meter();
        meter.on_request(TURN, Moment::ZERO);
        meter.on_request(TURN, TURN - Duration::from_millis(2));
        // Handed on while the turn already ran.
        meter.on_request(TURN, BEHIND);
        assert_eq!(said(&stages, Stage::InboxWait), (2, Duration::from_millis(2)));
    }

    #[test]
    fn without_stages_nothing_is_kept() {
        let (mut meter, mut net) = (Meter::default(), [reply()]);
        meter.on_persist(TURN, &[persist(1, 1)]);
        let mut acked = vec![Acked { peer: NodeId::new(2).unwrap(), after: Duration::ZERO }];
        meter.end_turn(TURN, LogIndex(1), &mut acked, &mut net);
        assert!(matches!(net, [NetEvent::Reply { ready: Moment::ZERO, .. }]) && acked.is_empty());
        assert!(meter.with_wal.is_empty());
    }
}
