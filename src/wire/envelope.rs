//! The data of a log entry of commands. Encoded once, by the leader; opened at apply, on the consensus thread.
//!
//! Whether bytes are accepted depends on format constants alone, so that all nodes accept the same. What this
//! version does not know is an error, never skipped: a node that went on without it would differ from the others.

use bytes::Bytes;
use prost::Message;

use super::generated as proto;
use super::walk;
use crate::base::limits::{
    COMMAND_OPERATIONS_MAX, ENVELOPE_OPERATIONS_MAX, ENVELOPE_VERSION, KEY_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::base::{Command, Envelope, Operation};

pub fn encode_envelope(envelope: &Envelope) -> Bytes {
    let message = proto::Envelope {
        version: envelope.version,
        cluster_time_ms: envelope.cluster_time_ms,
        commands: envelope.commands.iter().map(command_to_proto).collect(),
    };
    message.encode_to_vec().into()
}

fn command_to_proto(command: &Command) -> proto::Command {
    proto::Command {
        group: command.group,
        session: command.session,
        sequence: command.sequence,
        principal: command.principal.clone(),
        auth_revision: command.auth_revision,
        operations: command.operations.iter().map(operation_to_proto).collect(),
    }
}

fn operation_to_proto(operation: &Operation) -> proto::Operation {
    use proto::operation::Operation as Op;
    let operation = match operation {
        Operation::Put { key, value } => Op::Put(proto::Put { key: key.clone(), value: value.clone() }),
        Operation::Delete { key } => Op::Delete(proto::Delete { key: key.clone() }),
    };
    proto::Operation { operation: Some(operation) }
}

/// Keys and values share the memory of `data`. An error is one sentence; whoever applies must stop at it.
pub fn decode_envelope(data: Bytes) -> Result<Envelope, String> {
    check_counts(&data)?;
    let message = proto::Envelope::decode(data).map_err(|error| format!("the envelope is damaged: {error}"))?;
    if message.version != ENVELOPE_VERSION {
        let version = message.version;
        return Err(format!(
            "the envelope has version {version}, and this program knows {ENVELOPE_VERSION}; run a newer one"
        ));
    }
    Ok(Envelope {
        version: message.version,
        cluster_time_ms: message.cluster_time_ms,
        commands: message.commands.into_iter().map(command_from_proto).collect::<Result<_, _>>()?,
    })
}

fn check_counts(data: &[u8]) -> Result<(), String> {
    const COMMANDS: &[u32] = &[3];
    const OPERATIONS: &[u32] = &[3, 6];
    for (what, path) in [("commands", COMMANDS), ("operations", OPERATIONS)] {
        let count = walk::count(data, path);
        if count > ENVELOPE_OPERATIONS_MAX {
            return Err(format!("the envelope holds {count} {what}, the limit is {ENVELOPE_OPERATIONS_MAX}"));
        }
    }
    Ok(())
}

fn command_from_proto(command: proto::Command) -> Result<Command, String> {
    let count = command.operations.len();
    if count == 0 || count > COMMAND_OPERATIONS_MAX {
        return Err(format!("a command of {count} operations; there are 1 to {COMMAND_OPERATIONS_MAX}"));
    }
    Ok(Command {
        group: command.group,
        session: command.session,
        sequence: command.sequence,
        principal: command.principal,
        auth_revision: command.auth_revision,
        operations: command.operations.into_iter().map(operation_from_proto).collect::<Result<_, _>>()?,
    })
}

fn operation_from_proto(operation: proto::Operation) -> Result<Operation, String> {
    use proto::operation::Operation as Op;
    match operation.operation {
        Some(Op::Put(proto::Put { key, value })) => {
            check_key(&key)?;
            if value.len() > VALUE_BYTES_MAX {
                return Err(format!("a value of {} bytes, the limit is {VALUE_BYTES_MAX}", value.len()));
            }
            Ok(Operation::Put { key, value })
        }
        Some(Op::Delete(proto::Delete { key })) => {
            check_key(&key)?;
            Ok(Operation::Delete { key })
        }
        None => Err("an operation that this program does not know; run a newer one".to_string()),
    }
}

fn check_key(key: &Bytes) -> Result<(), String> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(format!("a key of {} bytes; there are 1 to {KEY_BYTES_MAX}", key.len()));
    }
    Ok(())
}
