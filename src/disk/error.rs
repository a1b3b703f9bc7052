//! Why storage does not open, and why it stops. Damage is never mended silently; what can't be lived with is named and
//! refused.

use std::fmt;
use std::io;
use std::path::Path;

use crate::base::LogIndex;

/// Why a data directory or its log does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operator's to mend: wrong id, cluster or version, locked, no permission (exit status 10).
    #[error("{0}")]
    Configuration(String),
    /// What was once durable is wrong or gone. Nothing was changed on disk (exit status 11).
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The operating system failed (exit status 12).
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OpenError {
    /// The same, and it names the data directory, which what lies on a [`Disk`](super::Disk) does not know.
    pub fn in_directory(self, directory: &Path) -> OpenError {
        let directory = directory.display();
        match self {
            OpenError::Configuration(sentence) => OpenError::Configuration(format!("{directory}: {sentence}")),
            OpenError::Damaged(damage) => {
                OpenError::Damaged(Damage { file: format!("{directory}/{}", damage.file), ..damage })
            }
            OpenError::Io(error) => {
                OpenError::Io(io::Error::new(error.kind(), format!("data directory {directory}: {error}")))
            }
        }
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> io::Error {
        match error {
            OpenError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// What was found wrong, where, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Damage {
    /// Relative to the data directory, until [`OpenError::in_directory`].
    pub file: String,
    /// Byte offset in the file, where it is known.
    pub offset: Option<u64>,
    /// The first log entry that is affected, where it is known.
    pub index: Option<LogIndex>,
    /// What is wrong, as a sentence without its full stop.
    pub what: String,
}

/// The same for every damage that is refused, since it is not known what the directory once held. It advises neither of
/// the two things that come to mind: an older copy has the same instance id and would vote again having forgotten what
/// it acknowledged, and an empty directory is another instance, which never counts.
const WAY_OUT: &str = "nothing was changed; leave this node down, the others go on as long as they are a majority; \
                       never put back an older copy of the directory, since it has forgotten what it acknowledged \
                       (members can't be replaced in this version)";

impl Damage {
    pub(super) fn new(file: impl Into<String>, what: impl Into<String>) -> Damage {
        Damage { file: file.into(), offset: None, index: None, what: what.into() }
    }

    pub(super) fn at(file: impl Into<String>, offset: u64, what: impl Into<String>) -> Damage {
        Damage { offset: Some(offset), ..Damage::new(file, what) }
    }

    /// Without the way out of a node that does not start.
    pub(super) fn place_and_what(&self) -> String {
        let offset = self.offset.map_or(String::new(), |offset| format!(", byte {offset}"));
        let index = self.index.map_or(String::new(), |index| format!(", log index {index}"));
        format!("{}{offset}{index}: {}", self.file, self.what)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged data: {}; {WAY_OUT}", self.place_and_what())
    }
}

/// Why the write-ahead log stopped. It stays stopped; the process ends, and the next start recovers.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// What was to be persisted may or may not be on disk.
    #[error("the write-ahead log failed: {0}")]
    Failed(#[source] io::Error),
    /// An fsync that failed once proves nothing when it succeeds later, so nothing is tried again.
    #[error("the write-ahead log stopped at an earlier error: {0}")]
    Stopped(String),
}
