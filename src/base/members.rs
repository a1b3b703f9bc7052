//! Who is in the cluster, as a log entry says it.
//!
//! ```text
//! data of a Members entry, big-endian:
//!   u8 version (1) | u128 cluster id | set voters | set outgoing | set learners
//!   set:    u16 count, then count members ordered by id
//!   member: u32 node id | u8 known (0 or 1) | u128 instance id | u16 length | address (UTF-8)
//! ```
//!
//! It stays hand-written, 30 lines, since consensus reads it and may import nothing above this layer.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::{ClusterId, InstanceId, NodeId};

const VERSION: u8 = 1;

/// A member: where it is, and which data directory it started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    /// The directory whose acknowledgements and votes count. `None` while the cluster has not formed.
    pub instance: Option<InstanceId>,
    /// `HOST:PORT`, as given by the operator; resolved at every dial.
    pub address: Arc<str>,
}

/// A configuration (Raft dissertation, section 4.3). While `outgoing` is not empty the change is joint: a quorum
/// needs a majority of both sets. Learners receive the log and count nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    pub cluster: ClusterId,
    pub voters: Vec<Member>,
    pub outgoing: Vec<Member>,
    pub learners: Vec<Member>,
}

impl Members {
    /// Everyone, of all kinds.
    pub fn all(&self) -> impl Iterator<Item = &Member> {
        [&self.voters, &self.outgoing, &self.learners].into_iter().flatten()
    }

    pub fn get(&self, id: NodeId) -> Option<&Member> {
        self.all().find(|member| member.id == id)
    }

    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put_u128(self.cluster.0);
        for set in [&self.voters, &self.outgoing, &self.learners] {
            out.put_u16(u16::try_from(set.len()).expect("a cluster has a few members"));
            for member in set {
                out.put_u32(member.id.get());
                out.put_u8(u8::from(member.instance.is_some()));
                out.put_u128(member.instance.map_or(0, |instance| instance.0));
                out.put_u16(u16::try_from(member.address.len()).expect("addresses are checked when they are parsed"));
                out.put_slice(member.address.as_bytes());
            }
        }
        out.into()
    }

    /// The reverse of [`Members::encode`]; an error names what is wrong with the bytes.
    pub fn decode(mut data: &[u8]) -> Result<Members, String> {
        let short = |_| "the membership entry ends early".to_string();
        let version = data.try_get_u8().map_err(short)?;
        if version != VERSION {
            return Err(format!("the membership entry has version {version}, and this program knows {VERSION}"));
        }
        let cluster = ClusterId(data.try_get_u128().map_err(short)?);
        let mut sets = [Vec::new(), Vec::new(), Vec::new()];
        for set in &mut sets {
            for _ in 0..data.try_get_u16().map_err(short)? {
                let id = data.try_get_u32().map_err(short)?;
                let id = NodeId::new(id).ok_or("the membership entry names a node 0")?;
                let known = data.try_get_u8().map_err(short)?;
                let instance = InstanceId(data.try_get_u128().map_err(short)?);
                let length = usize::from(data.try_get_u16().map_err(short)?);
                let address = data.split_off(..length).ok_or("the membership entry ends early")?;
                let address =
                    str::from_utf8(address).map_err(|_| "the membership entry has an address that is not UTF-8")?;
                set.push(Member { id, instance: (known == 1).then_some(instance), address: address.into() });
            }
        }
        if !data.is_empty() {
            return Err(format!("the membership entry has {} bytes too many", data.len()));
        }
        let [voters, outgoing, learners] = sets;
        Ok(Members { cluster, voters, outgoing, learners })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let member = |id| Member {
            id: NodeId::new(id).unwrap(),
            instance: (id != 3).then_some(InstanceId(u128::from(id) << 100)),
            address: format!("host{id}:500{id}").into(),
        };
        Members {
            cluster: ClusterId(42),
            voters: vec![member(1), member(2), member(3)],
            outgoing: vec![],
            learners: vec![member(9)],
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        assert_eq!(Members::decode(&members().encode()), Ok(members()));
    }

    #[test]
    fn every_prefix_and_every_extension_is_refused() {
        let data = members().encode();
        for length in 0..data.len() {
            assert!(Members::decode(&data[..length]).is_err(), "a prefix of {length} bytes was accepted");
        }
        assert!(Members::decode(&[&data[..], b"x"].concat()).is_err());
    }
}
