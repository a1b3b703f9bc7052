//! The consensus thread: takes events from its inbox, hands them to the replica, passes the effects on.
//!
//! What comes first in a turn: completions and peers, then a bounded number of clients' requests. The channel is
//! emptied into two queues at each turn, so a backlog of clients never stands before a heartbeat. It blocks on its
//! inbox only, until the next tick; sends never block.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::base::limits::{DRAIN_DEADLINE, TURN_INBOX_EVENTS_MAX, TURN_REQUESTS_MAX};
use crate::base::{Entry, LogIndex, Moment, PersistSeq};
use crate::net::{FromNet, NetEvent, Outbox, PeerCredit};

use super::background::BackgroundEvent;
use super::clock;
use super::end::{End, Ender};
use super::journal::Journal;
use super::replica::{Effects, Replica, ReplicaEvent};
use super::wal::WalEvent;

/// The inbox of the consensus thread.
#[derive(Debug)]
pub enum ConsensusEvent {
    FromNet(FromNet),
    /// From the wal: `seq`, and all before it, is durable.
    Persisted {
        seq: PersistSeq,
    },
    /// From the background thread: entries from `lo`; none if they can't be read now.
    Fetched {
        lo: LogIndex,
        entries: Vec<Entry>,
    },
    /// Answer what is under way, take nothing new, then end.
    Stop,
    /// End at once, as if killed.
    Abandon,
}

/// Everything the thread holds.
pub struct ConsensusLoop {
    pub replica: Replica,
    pub inbox: Receiver<ConsensusEvent>,
    pub to_net: Arc<dyn Outbox>,
    pub to_wal: Sender<WalEvent>,
    pub to_background: Sender<BackgroundEvent>,
    pub peer_credit: PeerCredit,
    pub tick: Duration,
    pub journal: Journal,
    /// Called after each change of role, on this thread; it must not block.
    pub on_role_change: Box<dyn Fn() + Send>,
    pub ender: Ender,
}

impl ConsensusLoop {
    pub fn run(mut self) {
        let mut requests = VecDeque::new();
        let mut effects = Effects::default();
        let mut tick_at = clock::now() + self.tick;
        let mut stop_at: Option<Moment> = None;
        loop {
            let first = if requests.is_empty() { self.receive_until(tick_at) } else { None };
            let now = clock::now();
            // A copy of the receiver, so that the handlers may borrow the rest.
            let inbox = self.inbox.clone();
            for event in first.into_iter().chain(inbox.try_iter()).take(TURN_INBOX_EVENTS_MAX) {
                match event {
                    ConsensusEvent::FromNet(request @ FromNet::Request { .. }) => requests.push_back(request),
                    ConsensusEvent::FromNet(event) => self.on_peer(now, event, &mut effects),
                    ConsensusEvent::Persisted { seq } => {
                        self.replica.on_event(now, ReplicaEvent::Persisted { seq }, &mut effects);
                    }
                    ConsensusEvent::Fetched { lo, entries } => {
                        self.replica.on_event(now, ReplicaEvent::Fetched { lo, entries }, &mut effects);
                    }
                    ConsensusEvent::Stop => {
                        self.replica.on_event(now, ReplicaEvent::Drain, &mut effects);
                        stop_at = Some(now + DRAIN_DEADLINE);
                    }
                    ConsensusEvent::Abandon => return,
                }
            }
            if now >= tick_at {
                self.replica.on_event(now, ReplicaEvent::Tick, &mut effects);
                tick_at = now + self.tick;
            }
            let taken = requests.len().min(TURN_REQUESTS_MAX);
            for request in requests.drain(..taken) {
                self.replica.on_event(now, ReplicaEvent::FromNet(request), &mut effects);
            }
            self.replica.end_turn(now, &mut effects);
            if self.replica.has_more_to_apply() {
                tick_at = now;
            }
            self.journal.on_turn(now, &self.replica, &effects);
            if let Some(error) = effects.fatal.take() {
                return self.ender.end(End::Damaged(error.to_string()));
            }
            if stop_at.is_some_and(|at| now >= at || (self.replica.is_idle() && requests.is_empty())) {
                self.replica.give_up(&mut effects);
                self.pass_on(&mut effects);
                return self.ender.end(End::Stopped);
            }
            self.pass_on(&mut effects);
        }
    }

    fn receive_until(&self, tick_at: Moment) -> Option<ConsensusEvent> {
        match self.inbox.recv_timeout(tick_at.since(clock::now())) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            // Whoever could still send is gone: the node is being dropped.
            Err(RecvTimeoutError::Disconnected) => Some(ConsensusEvent::Abandon),
        }
    }

    fn on_peer(&mut self, now: Moment, event: FromNet, effects: &mut Effects) {
        self.journal.on_net(&event, &self.replica);
        self.peer_credit.give_back(event.credit_bytes());
        self.replica.on_event(now, ReplicaEvent::FromNet(event), effects);
    }

    /// Disk first, since it takes longest; then the network, in parallel with it.
    fn pass_on(&mut self, effects: &mut Effects) {
        if !effects.persists.is_empty() {
            let persists = std::mem::take(&mut effects.persists);
            self.wal(WalEvent::Persist { persists });
        }
        if let Some(members) = effects.members.take() {
            let own = self.journal.id();
            let peers =
                members.all().filter(|member| member.id != own).map(|member| (member.id, member.address.clone()));
            effects.net.push(NetEvent::SetPeers { peers: peers.collect() });
            effects.net.push(NetEvent::SetClusterId { cluster: members.cluster });
        }
        if let Some(cluster) = effects.record_cluster.take() {
            self.background(BackgroundEvent::RecordCluster { cluster });
        }
        if !effects.net.is_empty() {
            self.to_net.send(&mut effects.net);
        }
        for fetch in effects.fetches.drain(..) {
            self.background(BackgroundEvent::Fetch(fetch));
        }
        if !effects.role_changes.is_empty() {
            effects.role_changes.clear();
            (self.on_role_change)();
        }
    }

    fn wal(&self, event: WalEvent) {
        // A wal that is gone has said why to the ender already; this thread is told to end by it.
        let _ = self.to_wal.send(event);
    }

    fn background(&self, event: BackgroundEvent) {
        let _ = self.to_background.send(event);
    }
}
