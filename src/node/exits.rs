//! Where a turn of a thread puts what is for the others.
//!
//! What a thread does in a turn ([`super::consensus::Consensus`], [`super::wal::WalWork`],
//! [`super::background::Background`]) knows no channel, thread or clock: it is handed events and the time, and puts
//! what follows from them into its exits. In a node those are channels; in the simulator they are queues whose delays
//! are drawn, so that it runs the same turns in every order of completion.

use std::sync::Arc;

use crate::net::{NetEvent, Outbox};

use super::background::BackgroundEvent;
use super::consensus::ConsensusEvent;
use super::inbox::Entrance;
use super::wal::WalEvent;

/// One for each thread. What goes the same way arrives in order; nothing here blocks.
pub trait Exits {
    fn to_consensus(&mut self, event: ConsensusEvent);
    fn to_wal(&mut self, event: WalEvent);
    fn to_background(&mut self, event: BackgroundEvent);
    /// Takes all of `events`, in order.
    fn to_net(&mut self, events: &mut Vec<NetEvent>);
    /// This node's role, or its leader, is another one.
    fn role_changed(&mut self) {}
}

/// The exits of a thread of a running node. A receiver that is gone has told the ender why, and this thread is told to
/// end by it: what can't be sent concerns nobody any more.
pub struct Channels {
    pub to_consensus: Entrance<ConsensusEvent>,
    pub to_wal: Entrance<WalEvent>,
    pub to_background: Entrance<BackgroundEvent>,
    pub to_net: Arc<dyn Outbox>,
    /// Called after each change of role, on the consensus thread; it must not block.
    pub on_role_change: Box<dyn Fn() + Send>,
}

impl Exits for Channels {
    fn to_consensus(&mut self, event: ConsensusEvent) {
        self.to_consensus.send(event);
    }

    fn to_wal(&mut self, event: WalEvent) {
        self.to_wal.send(event);
    }

    fn to_background(&mut self, event: BackgroundEvent) {
        self.to_background.send(event);
    }

    fn to_net(&mut self, events: &mut Vec<NetEvent>) {
        self.to_net.send(events);
    }

    fn role_changed(&mut self) {
        (self.on_role_change)();
    }
}
