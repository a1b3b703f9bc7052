//! What a durable write costs on this disk: one small write and an fdatasync, again and again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftkv::disk::{Disk, DiskFile, RealDisk};

use crate::figures::Latencies;

/// As a log segment: written with zeros and synced before its first use, so that a sync changes no metadata.
const PREALLOCATED_BYTES: u64 = 64 * 1024 * 1024;
/// What raftkv's smallest batch takes.
const WRITE_BYTES: usize = 4096;

/// A file of full length that is written from front to back, over and over again.
pub struct Preallocated {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Preallocated {
    pub fn create(path: &Path) -> io::Result<Preallocated> {
        let file = create(path)?;
        let zeros = vec![0; 1024 * 1024];
        for at in (0..PREALLOCATED_BYTES).step_by(zeros.len()) {
            file.write_at(at, &zeros)?;
        }
        file.sync_data()?;
        Ok(Preallocated { file, at: 0 })
    }

    /// Durable when it returns.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at + bytes.len() as u64 > PREALLOCATED_BYTES {
            self.at = 0;
        }
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        self.file.sync_data()
    }
}

fn create(path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{}: no file's path", path.display())));
    };
    RealDisk::open(directory)?.create(name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Preallocated,
    /// The same as raftkv's log writes it: around the page cache, where the system lets it.
    AroundCache,
    /// Each write makes the file longer, which the file system's journal has to record.
    Growing,
}

/// So many files at once, each with a thread of its own.
pub fn measure(directory: &Path, files: usize, layout: Layout, duration: Duration) -> io::Result<Latencies> {
    let logs: Vec<Arc<dyn DiskFile>> = (0..files)
        .map(|file| {
            let path = directory.join(format!("sync-{file}"));
            match layout {
                Layout::Preallocated | Layout::AroundCache => Preallocated::create(&path).map(|log| log.file),
                Layout::Growing => create(&path),
            }
        })
        .collect::<io::Result<_>>()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            logs.iter().map(|file| scope.spawn(move || write_and_sync(&**file, layout, duration))).collect();
        let mut all = Latencies::default();
        for thread in threads {
            all.add(&thread.join().expect("it does not panic")?);
        }
        all.took(duration);
        Ok(all)
    })
}

fn write_and_sync(file: &dyn DiskFile, layout: Layout, duration: Duration) -> io::Result<Latencies> {
    let (mut latencies, block) = (Latencies::default(), vec![b'x'; WRITE_BYTES]);
    let (begun, mut at) = (Instant::now(), 0);
    while begun.elapsed() < duration {
        if layout != Layout::Growing && at + WRITE_BYTES as u64 > PREALLOCATED_BYTES {
            at = 0;
        }
        let since = Instant::now();
        match layout {
            Layout::AroundCache => file.write_blocks(at, &block)?,
            Layout::Preallocated | Layout::Growing => file.write_at(at, &block)?,
        }
        file.sync_data()?;
        latencies.record(since.elapsed());
        at += WRITE_BYTES as u64;
    }
    Ok(latencies)
}
