//! Who a data directory belongs to: the file `identity`, a few lines that an operator can read.
//!
//! ```text
//! raftkv data directory
//! format: 2
//! node: 2
//! instance: 4f0c...   (32 hex digits: minted at random when the directory is made)
//! cluster name: demo
//! cluster: 91ab...    (32 hex digits: what the first leader minted; - while it is not known)
//! checksum: 5d1e9a07  (crc32 of all before)
//! ```
//!
//! It is replaced whole (`replace_small`), so that at any moment the old or the new one is there. What does not read
//! back to exactly the same bytes is damaged.

use std::fmt::Write;

use super::disk::{Disk, read_small, replace_small};
use super::error::{Damage, OpenError};
use super::segment::WAL_DIR;
use super::slots::TERM_FILE;
use crate::base::limits::{CLUSTER_NAME_BYTES_MAX, DATA_FORMAT_VERSION, IDENTITY_BYTES_MAX};
use crate::base::{ClusterId, InstanceId, NodeId};

pub(super) const IDENTITY_FILE: &str = "identity";

/// Who the node is told to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub node: NodeId,
    /// At most 64 bytes, no control characters.
    pub cluster_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub node: NodeId,
    pub instance: InstanceId,
    pub cluster_name: String,
    pub cluster: Option<ClusterId>,
}

impl Identity {
    /// Reads the identity and compares it to `wanted`, or writes a new one into a directory that never held a log.
    /// `fresh` is the instance id for the latter case.
    pub fn open(disk: &dyn Disk, wanted: &Wanted, fresh: InstanceId) -> Result<Identity, OpenError> {
        check_name(&wanted.cluster_name)?;
        let names = disk.list("")?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has(IDENTITY_FILE) {
            let identity = Identity::read(disk)?;
            identity.check(wanted)?;
            // Its name may be in the cache alone; its bytes were synced before they got the name.
            disk.sync_dir("")?;
            return Ok(identity);
        }
        if let Some(name) = [WAL_DIR, TERM_FILE].into_iter().find(|name| has(name)) {
            let what = format!("it is missing although there is {name}, so it is not known whose data these are");
            return Err(Damage::new(IDENTITY_FILE, what).into());
        }
        let Wanted { node, cluster_name } = wanted.clone();
        let identity = Identity { node, instance: fresh, cluster_name, cluster: None };
        identity.write(disk)?;
        Ok(identity)
    }

    pub fn write(&self, disk: &dyn Disk) -> Result<(), OpenError> {
        Ok(replace_small(disk, IDENTITY_FILE, self.encode(DATA_FORMAT_VERSION).as_bytes())?)
    }

    fn read(disk: &dyn Disk) -> Result<Identity, OpenError> {
        let damaged = |what: &str| Damage::new(IDENTITY_FILE, what);
        let bytes = match read_small(disk, IDENTITY_FILE, IDENTITY_BYTES_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(damaged(&error.to_string()).into());
            }
            other => other?,
        };
        let text = str::from_utf8(&bytes).map_err(|_| damaged("it is not text"))?;
        // The checksum stands before everything: a version is believed only if it is sound.
        let body = text.rfind("checksum: ").map(|at| &text[..at]).ok_or_else(|| damaged("it has no checksum"))?;
        if text != sealed(body) {
            return Err(damaged("it fails its checksum").into());
        }
        let version = field(body, "format").ok_or_else(|| damaged("it names no format version"))?;
        if version != DATA_FORMAT_VERSION.to_string() {
            return Err(OpenError::Configuration(format!(
                "the data directory has format version {version}, and this program knows {DATA_FORMAT_VERSION}; start \
                 the version of raftkv that made it"
            )));
        }
        let identity = Identity::decode(body).ok_or_else(|| damaged("a line is not as raftkv writes it"))?;
        if identity.encode(DATA_FORMAT_VERSION) != text {
            return Err(damaged("its lines are not as raftkv writes them").into());
        }
        Ok(identity)
    }

    fn check(&self, wanted: &Wanted) -> Result<(), OpenError> {
        if self.node != wanted.node {
            return Err(OpenError::Configuration(format!(
                "the data directory belongs to node {}, and this node is told to be node {}; give node {} a directory \
                 of its own, or start it as node {}",
                self.node, wanted.node, wanted.node, self.node
            )));
        }
        if self.cluster_name != wanted.cluster_name {
            return Err(OpenError::Configuration(format!(
                "the data directory belongs to cluster '{}', and this node is told to join '{}'; give it another \
                 directory, or the name '{}'",
                self.cluster_name, wanted.cluster_name, self.cluster_name
            )));
        }
        Ok(())
    }

    fn encode(&self, version: u32) -> String {
        let mut body = String::from("raftkv data directory\n");
        let cluster = self.cluster.map_or("-".to_string(), |cluster| cluster.to_string());
        let lines = [
            ("format", version.to_string()),
            ("node", self.node.to_string()),
            ("instance", self.instance.to_string()),
            ("cluster name", self.cluster_name.clone()),
            ("cluster", cluster),
        ];
        for (name, value) in lines {
            writeln!(body, "{name}: {value}").expect("a String takes everything");
        }
        sealed(&body)
    }

    fn decode(body: &str) -> Option<Identity> {
        let hex = |name| u128::from_str_radix(field(body, name)?, 16).ok();
        Some(Identity {
            node: NodeId::new(field(body, "node")?.parse().ok()?)?,
            instance: InstanceId(hex("instance")?),
            cluster_name: field(body, "cluster name")?.to_string(),
            cluster: if field(body, "cluster")? == "-" { None } else { Some(ClusterId(hex("cluster")?)) },
        })
    }
}

/// The body and a line with its checksum.
pub(super) fn sealed(body: &str) -> String {
    format!("{body}checksum: {:08x}\n", crc32fast::hash(body.as_bytes()))
}

/// The value of the first line `name: value`.
pub(super) fn field<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn check_name(name: &str) -> Result<(), OpenError> {
    if name.is_empty() || name.len() > CLUSTER_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(OpenError::Configuration(format!(
            "the cluster name {name:?} has {} bytes; it must have 1 to {CLUSTER_NAME_BYTES_MAX}, and no control \
             characters",
            name.len()
        )));
    }
    Ok(())
}
