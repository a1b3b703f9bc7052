//! The consensus thread: takes events from its inbox, hands them to the replica, passes the effects on.
//!
//! What comes first in a turn: completions and peers, then a bounded number of clients' requests. The channel is
//! emptied into two queues at each turn, so a backlog of clients never stands before a heartbeat. It blocks on its
//! inbox only, until the next tick; sends never block.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Moment;
use crate::base::limits::{DRAIN_DEADLINE, TURN_INBOX_EVENTS_MAX, TURN_REQUESTS_MAX};
use crate::guard::{Guard, removed};
use crate::net::{FromNet, NetEvent, PeerCredit, Stages};

use super::background::BackgroundEvent;
use super::clock;
use super::end::{End, Ender};
use super::exits::{Channels, Exits};
use super::inbox::Inbox;
use super::journal::Journal;
use super::meter::Meter;
use super::replica::{Effects, FromDisk, Replica, ReplicaEvent};
use super::wal::WalEvent;

/// The inbox of the consensus thread.
#[derive(Debug)]
pub enum ConsensusEvent {
    FromNet(FromNet),
    FromDisk(FromDisk),
    /// Answer what is under way, take nothing new, then end.
    Stop,
    /// End at once, as if killed.
    Abandon,
}

/// What the thread does in a turn: the replica, the events that wait for it, and when it must run again. It knows no
/// channel and no clock.
pub struct Consensus {
    replica: Replica,
    peer_credit: PeerCredit,
    journal: Journal,
    tick: Duration,
    tick_at: Moment,
    stop_at: Option<Moment>,
    requests: VecDeque<FromNet>,
    /// Taken from the inbox in this turn.
    taken: Vec<ConsensusEvent>,
    effects: Effects,
    meter: Meter,
    keeps_nothing: bool,
}

/// What comes after a turn.
#[derive(Debug, PartialEq, Eq)]
pub enum AfterTurn {
    Another,
    /// The thread ends at once, as if killed, and says nothing.
    Abandoned,
    /// The node ends.
    End(End),
}

impl Consensus {
    /// `tick`: the replica is told at least this often that time has passed.
    pub fn new(replica: Replica, peer_credit: PeerCredit, tick: Duration, now: Moment) -> Consensus {
        Consensus {
            journal: Journal::new(replica.id()),
            replica,
            peer_credit,
            tick,
            tick_at: now + tick,
            stop_at: None,
            requests: VecDeque::new(),
            taken: Vec::new(),
            effects: Effects::default(),
            meter: Meter::default(),
            keeps_nothing: false,
        }
    }

    /// If it keeps nothing, there is no wal behind it: what would be made durable is as durable at once as it will ever
    /// be.
    pub fn keeping_nothing(self, keeps_nothing: bool) -> Consensus {
        Consensus { keeps_nothing, ..self }
    }

    /// The stages of requests are measured.
    pub fn measured(self, stages: Option<Arc<Stages>>) -> Consensus {
        Consensus { meter: stages.map(Meter::new).unwrap_or_default(), ..self }
    }

    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// When the next turn must begin though nothing has come; `None`: at once.
    pub fn sleeps_until(&self) -> Option<Moment> {
        self.requests.is_empty().then_some(self.tick_at)
    }

    /// Takes a bounded number of `events`, does what they ask, and passes it on. The clock is sampled behind the last
    /// of them: what is promised for a heartbeat must not count from before it was sent.
    pub fn turn(
        &mut self,
        clock: impl Fn() -> Moment,
        events: impl Iterator<Item = ConsensusEvent>,
        exits: &mut impl Exits,
    ) -> AfterTurn {
        let mut taken = std::mem::take(&mut self.taken);
        let early = removed(Guard::ClockBeforeEvents).then(&clock);
        taken.extend(events.take(TURN_INBOX_EVENTS_MAX));
        let now = early.unwrap_or_else(&clock);
        let after = self.turn_at(now, taken.drain(..), exits);
        self.taken = taken;
        after
    }

    fn turn_at(
        &mut self,
        now: Moment,
        events: impl Iterator<Item = ConsensusEvent>,
        exits: &mut impl Exits,
    ) -> AfterTurn {
        for event in events {
            match event {
                ConsensusEvent::FromNet(request @ FromNet::Request { .. }) => self.requests.push_back(request),
                ConsensusEvent::FromNet(event) => self.on_peer(now, event),
                ConsensusEvent::FromDisk(event) => {
                    if let FromDisk::Persisted { seq } = event {
                        self.meter.on_persisted(now, seq);
                    }
                    self.on_event(now, ReplicaEvent::FromDisk(event));
                }
                ConsensusEvent::Stop => {
                    self.on_event(now, ReplicaEvent::Drain);
                    self.stop_at = Some(now + DRAIN_DEADLINE);
                }
                ConsensusEvent::Abandon => return AfterTurn::Abandoned,
            }
        }
        if now >= self.tick_at {
            self.on_event(now, ReplicaEvent::Tick);
            self.tick_at = now + self.tick;
        }
        for _ in 0..self.requests.len().min(TURN_REQUESTS_MAX) {
            let request = self.requests.pop_front().expect("so many were counted");
            if let FromNet::Request { handed_on, .. } = request {
                self.meter.on_request(now, handed_on);
            }
            self.on_event(now, ReplicaEvent::FromNet(request));
        }
        self.replica.end_turn(now, &mut self.effects);
        while self.keeps_nothing && self.stood_in_for_the_wal(now) {
            self.replica.end_turn(now, &mut self.effects);
        }
        let Effects { persists, acked, net, .. } = &mut self.effects;
        self.meter.on_persist(now, persists);
        self.meter.end_turn(now, self.replica.applied(), acked, net);
        if self.replica.has_more_to_apply() {
            self.tick_at = now;
        }
        self.journal.on_turn(now, &self.replica, &self.effects);
        if let Some(error) = self.effects.fatal.take() {
            return AfterTurn::End(End::Damaged(error.to_string()));
        }
        let is_drained = self.replica.is_idle() && self.requests.is_empty();
        if self.stop_at.is_some_and(|at| now >= at || is_drained) {
            self.replica.give_up(now, &mut self.effects);
            self.pass_on(exits);
            return AfterTurn::End(End::Stopped);
        }
        self.pass_on(exits);
        AfterTurn::Another
    }

    fn on_event(&mut self, now: Moment, event: ReplicaEvent) {
        self.replica.on_event(now, event, &mut self.effects);
    }

    fn on_peer(&mut self, now: Moment, event: FromNet) {
        self.journal.on_net(&event, &self.replica);
        self.peer_credit.give_back(event.credit_bytes());
        self.on_event(now, ReplicaEvent::FromNet(event));
    }

    /// What waited to be made durable leaves at once. False: nothing did.
    fn stood_in_for_the_wal(&mut self, now: Moment) -> bool {
        let persists = std::mem::take(&mut self.effects.persists);
        let Some(seq) = persists.last().map(|persist| persist.seq) else { return false };
        let messages = persists.into_iter().flat_map(|persist| persist.messages);
        self.effects.net.extend(messages.map(|message| NetEvent::Send { message }));
        self.on_event(now, ReplicaEvent::FromDisk(FromDisk::Persisted { seq }));
        true
    }

    /// Disk first, since it takes longest; then the network, in parallel with it.
    fn pass_on(&mut self, exits: &mut impl Exits) {
        let effects = &mut self.effects;
        if !effects.persists.is_empty() {
            let persists = std::mem::take(&mut effects.persists);
            exits.to_wal(WalEvent::Persist { persists });
        }
        if let Some(members) = effects.members.take() {
            let own = self.journal.id();
            let peers =
                members.all().filter(|member| member.id != own).map(|member| (member.id, member.address.clone()));
            effects.net.push(NetEvent::SetPeers { peers: peers.collect() });
            effects.net.push(NetEvent::SetClusterId { cluster: members.cluster });
        }
        if let Some(cluster) = effects.record_cluster.take() {
            exits.to_background(BackgroundEvent::RecordCluster { cluster });
        }
        if !effects.net.is_empty() {
            exits.to_net(&mut effects.net);
        }
        for fetch in effects.fetches.drain(..) {
            exits.to_background(BackgroundEvent::Fetch(fetch));
        }
        if !effects.refilled.is_empty() {
            exits.to_background(BackgroundEvent::Repair { entries: std::mem::take(&mut effects.refilled) });
        }
        if std::mem::take(&mut effects.scrub) {
            exits.to_background(BackgroundEvent::Scrub);
        }
        if std::mem::take(&mut effects.cleared) {
            exits.to_background(BackgroundEvent::ClearMark);
        }
        if !effects.role_changes.is_empty() {
            effects.role_changes.clear();
            exits.role_changed();
        }
    }
}

/// Everything the thread holds.
pub struct ConsensusLoop {
    pub consensus: Consensus,
    pub inbox: Inbox<ConsensusEvent>,
    pub exits: Channels,
    pub ender: Ender,
}

impl ConsensusLoop {
    pub fn run(mut self) {
        loop {
            let first = self.consensus.sleeps_until().and_then(|tick_at| self.receive_until(tick_at));
            let events = first.into_iter().chain(self.inbox.drain());
            match self.consensus.turn(clock::now, events, &mut self.exits) {
                AfterTurn::Another => {}
                AfterTurn::Abandoned => return,
                AfterTurn::End(end) => return self.ender.end(end),
            }
        }
    }

    fn receive_until(&mut self, tick_at: Moment) -> Option<ConsensusEvent> {
        // Whoever could still send is gone: the node is being dropped.
        self.inbox.receive(Some(tick_at)).unwrap_or(Some(ConsensusEvent::Abandon))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::testing::{Rig, instance, node};
    use super::*;
    use crate::base::limits::PROMISE_MAX;
    use crate::base::{LogIndex, Term};
    use crate::raft::{Body, Check, Message};

    /// Keeps what is for the network.
    #[derive(Default)]
    struct Sent(Vec<NetEvent>);

    impl Exits for Sent {
        fn to_consensus(&mut self, _: ConsensusEvent) {}
        fn to_wal(&mut self, _: WalEvent) {}
        fn to_background(&mut self, _: BackgroundEvent) {}
        fn to_net(&mut self, events: &mut Vec<NetEvent>) {
            self.0.append(events);
        }
    }

    fn from_peer(from: u32, body: Body) -> ConsensusEvent {
        let message = Message { from: node(from), to: node(1), instance: instance(from), term: Term(1), body };
        ConsensusEvent::FromNet(FromNet::Raft { message })
    }

    /// The thread stands still between two turns, or in one, and the heartbeat that it takes then was sent meanwhile.
    #[test]
    fn what_is_promised_for_a_heartbeat_counts_from_when_it_was_taken() {
        let rig = Rig::start(1);
        let awake = Cell::new(rig.now + 3 * PROMISE_MAX);
        let mut consensus = Consensus::new(rig.replica, PeerCredit::default(), Duration::from_secs(60), rig.now);
        let mut sent = Sent::default();
        let (commit, check, promise_ms) = (LogIndex::ZERO, Check::default(), 100);
        let late = std::iter::once_with(|| {
            awake.set(awake.get() + 2 * PROMISE_MAX);
            from_peer(2, Body::Heartbeat { commit, round: 1, check, promise_ms })
        });
        consensus.peer_credit.take(1 << 20);
        consensus.turn(|| awake.get(), late, &mut sent);
        awake.set(awake.get() + Duration::from_millis(99));
        let (proposed, last_index, last_term) = (Term(2), LogIndex(9), Term(1));
        let asked = std::iter::once(from_peer(3, Body::PreVote { proposed, last_index, last_term }));
        consensus.turn(|| awake.get(), asked, &mut sent);
        let sent_on = sent.0.iter().filter_map(|event| match event {
            NetEvent::Send { message } => Some(&message.body),
            _ => None,
        });
        let answers: Vec<&Body> = sent_on.collect();
        let granted = |body: &&Body| matches!(body, Body::PreVoteReply { granted: true, .. });
        assert!(answers.len() == 2 && !answers.iter().any(granted), "{answers:?}");
    }
}
