//! What a node says of itself when it is asked.

use super::Replica;
use crate::api::{PeerStatus, Status};
use crate::base::Moment;

impl Replica {
    pub(super) fn status(&self, now: Moment) -> Status {
        let view = self.raft.view();
        let progress = self.raft.progress();
        let peers = self.peers.iter().map(|(id, peer)| {
            let progress = progress.get(id);
            let silent = self.silence_of(*id, now).map(|silence| format!("silent for {:.1} s", silence.as_secs_f64()));
            PeerStatus {
                id: *id,
                address: peer.address.clone(),
                down_because: silent.unwrap_or_else(|| peer.down_because.clone()),
                matched: progress.map(|progress| progress.matched),
                counted: progress.is_none_or(|progress| progress.counted),
            }
        });
        let store = self.served.store();
        Status {
            id: self.id,
            cluster: match self.cluster {
                Some(cluster) => format!("{} {cluster}", self.cluster_name),
                None => format!("{} (not formed yet)", self.cluster_name),
            },
            role: view.role,
            term: view.term,
            leader: self.leader(),
            commit: view.commit,
            applied: self.applied,
            last: view.last,
            revision: store.view().revision(),
            keys: store.view().len() as u64,
            digest: store.view().digest(),
            peers: peers.collect(),
            problems: self.problems(now).into_iter().chain(self.silences(now)).collect(),
            scrub: self.scrub,
            version: crate::VERSION.to_string(),
            uptime: now.since(self.started),
            holds_lease: now < self.served.until(),
        }
    }
}
