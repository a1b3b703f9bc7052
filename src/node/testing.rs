//! A replica without threads, with the other members' messages written by hand. Tests only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::replica::{Effects, FromDisk, Replica, ReplicaConfig, ReplicaEvent};
use super::settings::Tuning;
use crate::api::{IfNotLeading, Request};
use crate::base::limits::PROMISE_MAX;
use crate::base::{
    ClusterId, Entry, EntryKind, HardState, InstanceId, LogIndex, Member, Members, Moment, NodeId, Operation,
    PersistSeq, Role, Term,
};
use crate::net::{ConnectionId, FromNet, Origin, Served};
use crate::raft::{Body, Check, LogTail, Message, Recovered};

pub const CLIENT: ConnectionId = ConnectionId { slot: 0, generation: 0 };

pub fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

pub fn instance(id: u32) -> InstanceId {
    InstanceId(id.into())
}

pub fn entry(index: u64, term: u64, kind: EntryKind, data: Bytes) -> Entry {
    Entry { index: LogIndex(index), term: Term(term), kind, data }
}

pub fn noop(index: u64, term: u64) -> Entry {
    entry(index, term, EntryKind::Noop, Bytes::new())
}

pub fn put() -> Request {
    Request::Write(Operation::Put { key: "k".into(), value: "v".into() })
}

pub fn get() -> Request {
    Request::Get { key: "k".into(), revision: None }
}

pub fn members() -> Members {
    let member = |id| Member { id: node(id), instance: Some(instance(id)), address: format!("h:{id}").into() };
    let voters = (1..=5).map(member).collect();
    Members { cluster: ClusterId(1), voters, outgoing: Vec::new(), learners: Vec::new() }
}

/// Node 1 of five, in a cluster that has formed: its log holds the members and nothing else.
pub struct Rig {
    pub replica: Replica,
    pub served: Arc<Served>,
    pub now: Moment,
    sequence: u64,
}

impl Rig {
    pub fn start(forward_id_first: u64) -> Rig {
        let log = LogTail {
            term_runs: vec![(LogIndex(1), Term(1))],
            last_index: LogIndex(1),
            entries: vec![entry(1, 1, EntryKind::Members, members().encode())],
        };
        let hard_state = HardState { term: Term(1), vote: None };
        let members = vec![(LogIndex(1), Arc::new(members()))];
        Rig::recovered(Recovered { hard_state, log, members, ..Recovered::default() }, forward_id_first)
    }

    pub fn recovered(recovered: Recovered, forward_id_first: u64) -> Rig {
        let raft = Tuning::default().raft_config(node(1), instance(1), members(), 1);
        let now = Moment(1_000_000_000);
        let (request_timeout, served) = (Duration::from_secs(5), Arc::<Served>::default());
        let config = ReplicaConfig {
            raft,
            cluster_name: "test".to_string(),
            request_timeout,
            started: now,
            forward_id_first,
            served: Arc::clone(&served),
        };
        Rig { replica: Replica::new(config, recovered, now), served, now, sequence: 0 }
    }

    /// One turn with one event. Its persists are durable at once, but told only by the next turns.
    pub fn turn(&mut self, event: ReplicaEvent) -> Effects {
        let mut effects = Effects::default();
        self.replica.on_event(self.now, event, &mut effects);
        self.replica.end_turn(self.now, &mut effects);
        if let Some(seq) = effects.persists.last().map(|persist| persist.seq) {
            self.persisted(seq, &mut effects);
        }
        effects
    }

    pub fn persisted(&mut self, seq: PersistSeq, effects: &mut Effects) {
        let later = self.turn(ReplicaEvent::FromDisk(FromDisk::Persisted { seq }));
        effects.persists.extend(later.persists);
        effects.net.extend(later.net);
    }

    pub fn receive(&mut self, from: u32, term: u64, body: Body) -> Effects {
        let message = Message { from: node(from), to: node(1), instance: instance(from), term: Term(term), body };
        self.turn(ReplicaEvent::FromNet(FromNet::Raft { message }))
    }

    pub fn append(&mut self, from: u32, term: u64, prev: (u64, u64), entries: Vec<Entry>, commit: u64) -> Effects {
        let (prev_index, prev_term, commit) = (LogIndex(prev.0), Term(prev.1), LogIndex(commit));
        self.receive(from, term, Body::Append { prev_index, prev_term, entries, commit, round: 0 })
    }

    pub fn ask(&mut self, request: Request) -> Effects {
        self.sequence += 1;
        let origin = Origin { connection: CLIENT, sequence: self.sequence };
        self.turn(ReplicaEvent::FromNet(FromNet::Request {
            origin,
            request,
            if_not_leading: IfNotLeading::Forward,
            handed_on: Moment::ZERO,
        }))
    }

    /// It is elected in term 2 by nodes 2 and 3, and its no-op, entry 2, is committed.
    pub fn lead(&mut self) {
        self.win([(2, false), (3, false)]);
        for voter in [2, 3] {
            self.receive(voter, 2, Body::AppendAccepted { matched: LogIndex(2), round: 0 });
        }
        assert_eq!(self.replica.view().commit, LogIndex(2), "{:?}", self.replica.view());
    }

    /// It is elected in term 2 by `voters`, each suspect or not. The effects of the last vote.
    pub fn win<const N: usize>(&mut self, voters: [(u32, bool); N]) -> Effects {
        // What it may have promised before its start has run out, and its patience too. The second tick is not late: it
        // has read everything that came.
        for time in [PROMISE_MAX + Duration::from_millis(400), Duration::from_millis(25)] {
            self.now = self.now + time;
            self.turn(ReplicaEvent::Tick);
        }
        let (granted, log_is_empty) = (true, false);
        for (voter, suspect) in voters {
            self.receive(voter, 1, Body::PreVoteReply { proposed: Term(2), granted, log_is_empty, suspect });
        }
        let vote = |(voter, suspect)| self.receive(voter, 2, Body::VoteReply { granted, log_is_empty, suspect });
        let effects: Vec<Effects> = voters.map(vote).into();
        assert_eq!(self.replica.view().role, Role::Leader, "{:?}", self.replica.view());
        let elected = |effects: &Effects| effects.role_changes.iter().any(|change| change.role == Role::Leader);
        effects.into_iter().find(elected).expect("one vote makes it leader")
    }

    /// A leader of term 2 that is not this node.
    pub fn follow(&mut self) {
        self.receive(
            2,
            2,
            Body::Heartbeat { commit: LogIndex::ZERO, round: 0, check: Check::default(), promise_ms: 0 },
        );
        assert_eq!(self.replica.view().leader, Some(node(2)));
    }
}
