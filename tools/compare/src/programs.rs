//! Where the programs are that are compared, and how those of this repository come to be there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Programs {
    pub raftkv: PathBuf,
    pub limit: PathBuf,
    pub compare_etcd: PathBuf,
    /// `None`: not installed.
    pub etcd: Option<PathBuf>,
    pub redis: Option<PathBuf>,
    /// Further arguments of each node of raftkv.
    pub raftkv_arguments: Vec<String>,
}

impl Programs {
    /// Builds what belongs to this repository, and looks for the rest; without etcd.
    pub fn find(raftkv_arguments: Vec<String>) -> io::Result<Programs> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        cargo(&root, &["build", "--release", "--locked", "-p", "raftkv", "-p", "limit"])?;
        let own = std::env::current_exe()?;
        let beside = |name: &str| own.with_file_name(name);
        Ok(Programs {
            raftkv: beside("raftkv"),
            limit: beside("limit"),
            compare_etcd: root.join("tools/compare-etcd/target/release/compare-etcd"),
            etcd: None,
            redis: installed("redis-server"),
            raftkv_arguments,
        })
    }

    /// With etcd, if it is installed, and what drives it.
    pub fn with_etcd(self) -> io::Result<Programs> {
        let etcd = installed("etcd");
        if etcd.is_some() {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            cargo(&root.join("tools/compare-etcd"), &["build", "--release", "--locked"])?;
        }
        Ok(Programs { etcd, ..self })
    }
}

fn cargo(directory: &Path, arguments: &[&str]) -> io::Result<()> {
    let status = Command::new("cargo").args(arguments).current_dir(directory).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cargo {} failed", arguments.join(" ")))) }
}

/// In the search path.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
