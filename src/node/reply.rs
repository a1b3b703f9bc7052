//! Step 8: what is answered.
//!
//! Consensus thread; pure. Every request that was taken is answered exactly once.

use crate::api::{ErrorCode, Leader, Reply};
use crate::base::{Moment, NodeId, Shortage, Space, Step};
use crate::guard::{Guard, removed};
use crate::net::NetEvent;

use super::waiting::{ConfirmedBy, Waiter};

/// Sends `reply` to whoever waits for it.
pub fn answer(waiter: Waiter, reply: Reply, net: &mut Vec<NetEvent>) {
    Step::ReplyBuilt.pass(format_args!("{waiter:?}"));
    net.push(match waiter {
        // Who measures says when, at the turn's end.
        Waiter::Client(origin) => NetEvent::Reply { origin, reply, ready: Moment::ZERO },
        Waiter::Peer { from, id } => NetEvent::ForwardReply { to: from, id, reply },
    });
}

/// A write that was not answered in time.
pub fn write_expired(leader: Option<Leader>) -> Reply {
    if removed(Guard::ExpiredIsFailed) {
        return read_expired(None, leader);
    }
    let message = "the write was not confirmed in time and may still take effect; read the key to find out";
    Reply::refused(ErrorCode::OutcomeUnknown, message, leader)
}

/// A write whose entry another leader replaced for good, or that was never proposed.
pub fn write_replaced(id: NodeId, leader: Option<Leader>) -> Reply {
    let message = format!("node {id} lost its leadership and the write was certainly not applied; send it again");
    Reply::refused(ErrorCode::NoLeader, message, leader)
}

/// A read that was not answered in time; `why`, if that is known.
pub fn read_expired(why: Option<&str>, leader: Option<Leader>) -> Reply {
    let message = match why {
        Some(why) => format!("the read was not answered in time, {why}, and send it again"),
        None => "no majority confirmed the read in time; try again".to_string(),
    };
    Reply::refused(ErrorCode::Timeout, message, leader)
}

/// A read at a leader that can't open its term for want of room: it would wait in vain.
pub fn read_without_room(why: &str, leader: Option<Leader>) -> Reply {
    Reply::refused(ErrorCode::NoSpace, format!("{why}, and send it again"), leader)
}

/// A request that another node passed on to this one, which does not lead in the term that it was meant for.
pub fn forwarded_too_late(leader: Option<Leader>) -> Reply {
    let message = "the node that was taken for the leader does not lead any more; nothing was done, try again";
    Reply::refused(ErrorCode::NoLeader, message, leader)
}

/// A read that waited in vain for who would have confirmed it.
pub fn read_failed(id: NodeId, confirmed_by: ConfirmedBy, leader: Option<Leader>) -> Reply {
    let message = match confirmed_by {
        ConfirmedBy::Majority => format!("node {id} lost its leadership before the read; try again"),
        ConfirmedBy::Leader => format!("no leader has told node {id} how far it must read; try again"),
    };
    Reply::refused(ErrorCode::NoLeader, message, leader)
}

/// A read at a node whose state is not that of the others.
pub fn read_of_wrong_state(id: NodeId, leader: Option<Leader>) -> Reply {
    let message = format!("the state of node {id} differs from the majority's; ask another node");
    Reply::refused(ErrorCode::NoLeader, message, leader)
}

/// A forwarded request whose way was cut.
pub fn forward_failed(is_write: bool, why: &str, leader: Option<Leader>) -> Reply {
    if is_write {
        let message = format!("the write was passed on to the leader and {why}; it may have been applied");
        Reply::refused(ErrorCode::OutcomeUnknown, message, leader)
    } else {
        Reply::refused(
            ErrorCode::NoLeader,
            format!("the read was passed on to the leader and {why}; try again"),
            leader,
        )
    }
}

pub fn shutting_down(id: NodeId, leader: Option<Leader>) -> Reply {
    Reply::refused(ErrorCode::ShuttingDown, format!("node {id} is stopping; ask another one"), leader)
}

/// A request while nobody is known to lead.
pub fn no_leader(id: NodeId, why: &str) -> Reply {
    Reply::refused(ErrorCode::NoLeader, format!("no leader is known to node {id}: {why}"), None)
}

/// A write for which the disks of `short`, the leader's or a majority's, have no room. `own`: why this node has none.
pub fn no_space(room: Space, short: Vec<NodeId>, own: Option<&Shortage>, leader: Option<Leader>) -> Reply {
    let ids: Vec<String> = short.iter().map(NodeId::to_string).collect();
    let (how, what) = match room {
        Space::Exhausted => ("full", "no write is taken"),
        _ => ("nearly full", "nothing that makes the data grow is taken; deletes are"),
    };
    let why = own.map_or(String::new(), |own| format!(" ({})", own.what));
    let is_full = own.is_none_or(|own| own.is_full);
    let whose = match &ids[..] {
        [id] if is_full => format!("the disk of node {id} is {how}{why}"),
        [id] => format!("node {id} can't make what its log needs next{why}"),
        ids => format!("the disks of nodes {} are {how}{why}", ids.join(", ")),
    };
    let way_out = if is_full { "make room there" } else { "mend that" };
    let message = format!("{whose}, and {what}; nothing was done, {way_out} and send it again");
    Reply::refused(ErrorCode::NoSpace, message, leader)
}

/// Latencies are net's to tell: a request for them comes here only if another node passes it on, or without a network.
pub fn not_measured_here(leader: Option<Leader>) -> Reply {
    let message = "a node tells its latencies only to who asks it at its own port; ask it there";
    Reply::refused(ErrorCode::BadArguments, message, leader)
}

pub fn busy(what: &str, leader: Option<Leader>) -> Reply {
    Reply::refused(ErrorCode::Busy, format!("{what}; nothing was done, try again in a moment"), leader)
}
