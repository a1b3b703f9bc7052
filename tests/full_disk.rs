//! A real node on a real file system that is too small for what is written to it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, Processes, skip};
use raftkv::api::ErrorCode;
use raftkv::client::Error;

/// What the log may take, and what stays free for small files.
const SMALL: &str = "size=48m,mode=700";
const LARGE: &str = "remount,size=256m";
const VALUE_BYTES: usize = 256 * 1024;

/// A file system in memory, until it is dropped; also while something uses it.
struct SmallFileSystem(PathBuf);

impl SmallFileSystem {
    fn mount(at: &Path) -> Result<SmallFileSystem, String> {
        fs::create_dir_all(at).expect("a directory to mount on");
        mount(SMALL, at)?;
        Ok(SmallFileSystem(at.to_path_buf()))
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(options: &str, at: &Path) -> Result<(), String> {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "raftkv-test"]).arg(at).output();
    match mounted {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn no_space(result: Result<(), Error>) -> Option<String> {
    match result {
        Ok(()) => None,
        Err(Error::Refused(error)) if error.code == ErrorCode::NoSpace => Some(error.message),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_node_on_a_full_file_system_refuses_what_grows_restarts_and_goes_on_once_there_is_room() {
    const NAME: &str = "a_node_on_a_full_file_system_refuses_what_grows_restarts_and_goes_on_once_there_is_room";
    let mut cluster = Processes::start(1);
    assert_eq!(cluster.stop(1), Some(0));
    fs::remove_dir_all(cluster.data_dir(1)).unwrap();
    let file_system = match SmallFileSystem::mount(&cluster.data_dir(1)) {
        Ok(file_system) => file_system,
        Err(why) => return skip(NAME, &format!("no file system can be mounted (root can): {why}")),
    };
    cluster.spawn(1);
    cluster.leader();

    let put = |cluster: &Processes, key: usize, patience: Duration| {
        let mut client = cluster.client_of(&[1], patience);
        client.put(format!("k{key}"), vec![key as u8; VALUE_BYTES]).map(|_| ())
    };
    // A client tries again what may succeed later: for this long.
    let (mut keys, short) = (0, Duration::from_secs(3));
    let why = loop {
        assert!(keys * VALUE_BYTES < 48 << 20, "more is acknowledged than the file system holds");
        match no_space(put(&cluster, keys, short)) {
            None => keys += 1,
            Some(why) => break why,
        }
    };
    assert!(why.contains("the disk of node 1 is nearly full"), "{why}");
    assert!(cluster.client().delete("k0").expect("deletes go on"));
    cluster.await_log(1, "a log segment can't be prepared", 1);
    cluster.await_log(1, "make room in the file system of its data directory", 1);

    for again in 0..2 {
        if again == 0 {
            cluster.kill(1)
        } else {
            assert_eq!(cluster.stop(1), Some(0))
        }
        cluster.spawn(1);
        cluster.leader();
        assert!(no_space(put(&cluster, keys, short)).is_some(), "there is no more room than before");
    }

    mount(LARGE, &file_system.0).expect("the file system can grow");
    let deadline = Instant::now() + PATIENCE;
    while let Some(why) = no_space(put(&cluster, keys, PATIENCE)) {
        assert!(Instant::now() < deadline, "there is room, and yet: {why}");
    }
    let mut client = cluster.client();
    assert!(client.get("k0").unwrap().is_none(), "it was deleted");
    for key in 1..=keys {
        let found = client.get(format!("k{key}")).unwrap().expect("it was acknowledged");
        assert!(found.value == vec![key as u8; VALUE_BYTES], "k{key}");
    }
    // It has tried once a second.
    let said = cluster.log(1).matches("a log segment can't be prepared").count();
    assert!(said <= 3, "each of three starts says it once, not {said} times together");
    assert_eq!(cluster.stop(1), Some(0));
}
