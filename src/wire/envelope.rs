//! The data of a log entry of commands. Encoded once, by the leader; opened at apply, on the consensus thread.
//!
//! Whether bytes are accepted depends on format constants alone, so that all nodes accept the same. What this
//! version does not know is an error, never skipped: a node that went on without it would differ from the others.

use bytes::Bytes;
use prost::Message;

use super::direct;
use super::generated as proto;
use super::walk;
use crate::base::limits::{
    COMMAND_OPERATIONS_MAX, ENVELOPE_OPERATIONS_MAX, ENVELOPE_VERSION, KEY_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::base::{Command, Envelope, Operation};
use crate::guard::{Guard, removed};

pub fn encode_envelope(envelope: &Envelope) -> Bytes {
    direct::envelope_bytes(envelope)
}

/// Keys and values share the memory of `data`. An error is one sentence; whoever applies must stop at it.
pub fn decode_envelope(data: Bytes) -> Result<Envelope, String> {
    check_counts(&data)?;
    let Some(envelope) = direct::read_envelope(&data) else { return general(data) };
    check_version(envelope.version)?;
    envelope.commands.iter().try_for_each(|command| check_count(command.operations.len()))?;
    check_operations(envelope)
}

/// As [`decode_envelope`], without the short way: tests compare the two.
#[doc(hidden)]
pub fn decode_envelope_in_general(data: Bytes) -> Result<Envelope, String> {
    check_counts(&data)?;
    general(data)
}

/// Of data whose elements were counted.
fn general(data: Bytes) -> Result<Envelope, String> {
    let message = proto::Envelope::decode(data).map_err(|error| format!("the envelope is damaged: {error}"))?;
    // Before what only another version knows is met.
    check_version(message.version)?;
    check_operations(Envelope {
        version: message.version,
        cluster_time_ms: message.cluster_time_ms,
        commands: message.commands.into_iter().map(command_from_proto).collect::<Result<_, _>>()?,
    })
}

fn check_operations(envelope: Envelope) -> Result<Envelope, String> {
    envelope.commands.iter().flat_map(|command| &command.operations).try_for_each(check_operation)?;
    Ok(envelope)
}

fn check_version(version: u32) -> Result<(), String> {
    if version != ENVELOPE_VERSION {
        return Err(format!(
            "the envelope has version {version}, and this program knows {ENVELOPE_VERSION}; run a newer one"
        ));
    }
    Ok(())
}

fn check_counts(data: &[u8]) -> Result<(), String> {
    if !walk::may_hold_more(data, ENVELOPE_OPERATIONS_MAX) {
        return Ok(());
    }
    const COMMANDS: &[u32] = &[3];
    const OPERATIONS: &[u32] = &[3, 6];
    let [commands, operations] = walk::counts(data, &[], [COMMANDS, OPERATIONS]);
    for (what, count) in [("commands", commands), ("operations", operations)] {
        if count > ENVELOPE_OPERATIONS_MAX {
            return Err(format!("the envelope holds {count} {what}, the limit is {ENVELOPE_OPERATIONS_MAX}"));
        }
    }
    Ok(())
}

fn command_from_proto(command: proto::Command) -> Result<Command, String> {
    check_count(command.operations.len())?;
    Ok(Command {
        group: command.group,
        session: command.session,
        sequence: command.sequence,
        principal: command.principal,
        auth_revision: command.auth_revision,
        operations: command
            .operations
            .into_iter()
            .map(operation_from_proto)
            .filter(|operation| operation.is_ok() || !removed(Guard::UnknownSkipped))
            .collect::<Result<_, _>>()?,
    })
}

fn operation_from_proto(operation: proto::Operation) -> Result<Operation, String> {
    use proto::operation::Operation as Op;
    match operation.operation {
        Some(Op::Put(proto::Put { key, value })) => Ok(Operation::Put { key, value }),
        Some(Op::Delete(proto::Delete { key })) => Ok(Operation::Delete { key }),
        None => Err("an operation that this program does not know; run a newer one".to_string()),
    }
}

fn check_count(operations: usize) -> Result<(), String> {
    if operations == 0 || operations > COMMAND_OPERATIONS_MAX {
        return Err(format!("a command of {operations} operations; there are 1 to {COMMAND_OPERATIONS_MAX}"));
    }
    Ok(())
}

fn check_operation(operation: &Operation) -> Result<(), String> {
    match operation {
        Operation::Put { key, value } => {
            check_key(key)?;
            if value.len() > VALUE_BYTES_MAX {
                return Err(format!("a value of {} bytes, the limit is {VALUE_BYTES_MAX}", value.len()));
            }
            Ok(())
        }
        Operation::Delete { key } => check_key(key),
    }
}

fn check_key(key: &Bytes) -> Result<(), String> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(format!("a key of {} bytes; there are 1 to {KEY_BYTES_MAX}", key.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use crate::base::limits::{BATCH_BYTES_MAX, ENTRY_DATA_BYTES_MAX};
    use crate::wire::testing;

    fn envelope(operations: Vec<Operation>) -> Envelope {
        let command = Command { operations: operations.into(), ..Command::default() };
        Envelope { version: ENVELOPE_VERSION, cluster_time_ms: 1, commands: vec![command] }
    }

    fn delete(key_bytes: usize) -> Operation {
        Operation::Delete { key: vec![b'k'; key_bytes].into() }
    }

    fn put(key_bytes: usize, value_bytes: usize) -> Operation {
        Operation::Put { key: vec![b'k'; key_bytes].into(), value: vec![b'v'; value_bytes].into() }
    }

    #[test]
    fn envelopes_are_read_as_they_were_written() {
        for seed in 0..2000 {
            let envelope = testing::envelope(&mut Random::new(seed));
            assert_eq!(decode_envelope(encode_envelope(&envelope)), Ok(envelope), "seed {seed}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_error_and_never_skipped() {
        let mut later = envelope(vec![delete(1)]);
        later.version += 1;
        assert!(decode_envelope(encode_envelope(&later)).unwrap_err().contains("version 2"));
        assert!(decode_envelope(Bytes::new()).unwrap_err().contains("version 0"));
        // Version 1, one command, whose one operation is number 3.
        let unknown = Bytes::from_static(b"\x08\x01\x1a\x04\x32\x02\x1a\x00");
        assert!(decode_envelope(unknown).unwrap_err().contains("an operation that this program does not know"));
    }

    #[test]
    fn only_what_a_client_could_have_asked_is_accepted() {
        let decode = |operations| decode_envelope(encode_envelope(&envelope(operations)));
        assert!(decode(vec![put(KEY_BYTES_MAX, VALUE_BYTES_MAX), delete(KEY_BYTES_MAX)]).is_ok());
        assert!(decode(vec![delete(1); COMMAND_OPERATIONS_MAX]).is_ok());
        for wrong in [
            vec![],
            vec![delete(0)],
            vec![delete(KEY_BYTES_MAX + 1)],
            vec![put(0, 1)],
            vec![put(KEY_BYTES_MAX + 1, 1)],
            vec![put(1, VALUE_BYTES_MAX + 1)],
            vec![delete(1); COMMAND_OPERATIONS_MAX + 1],
        ] {
            assert!(decode(wrong.clone()).is_err(), "{} operations", wrong.len());
        }
    }

    #[test]
    fn more_operations_than_an_entry_may_hold_are_refused() {
        let one = envelope(vec![delete(1)]).commands.remove(0);
        let commands = vec![one; ENVELOPE_OPERATIONS_MAX + 1];
        let mut envelope = Envelope { version: ENVELOPE_VERSION, cluster_time_ms: 1, commands };
        assert!(decode_envelope(encode_envelope(&envelope)).unwrap_err().contains("16385 commands"));
        envelope.commands.pop();
        assert!(decode_envelope(encode_envelope(&envelope)).is_ok());
    }

    #[test]
    fn the_largest_command_and_the_largest_batch_fit_an_entry() {
        let full = |operations: Vec<Operation>| Command {
            group: u64::MAX,
            session: u64::MAX,
            sequence: u64::MAX,
            auth_revision: u64::MAX,
            operations: operations.into(),
            ..Command::default()
        };
        let largest = vec![full(vec![put(KEY_BYTES_MAX, VALUE_BYTES_MAX)])];
        let key_bytes = BATCH_BYTES_MAX / ENVELOPE_OPERATIONS_MAX;
        let batch = vec![full(vec![delete(key_bytes)]); ENVELOPE_OPERATIONS_MAX];
        for commands in [largest, batch] {
            let envelope = Envelope { version: ENVELOPE_VERSION, cluster_time_ms: u64::MAX, commands };
            assert!(encode_envelope(&envelope).len() <= ENTRY_DATA_BYTES_MAX);
        }
    }
}
