//! The spool: unnamed files for messages too long for memory, on one directory, with a quota for the whole process. A file is written once and
//! then read by position, by as many sinks at once as there are. Nothing stays after the process: no file ever has a name.
//!
//! It decides nothing about messages. Blocking calls run beside the async threads.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::Error;

/// `--spool-bytes` where it is not given: several of the longest messages that Exchange Online lets through (150 MB) at the same time.
pub const DEFAULT_BYTES: u64 = 1 << 30;
/// Least quota: one of the longest messages that Exchange Online lets through, and some.
pub const LEAST_BYTES: u64 = 256 << 20;
/// The quota is counted in blocks, as a filesystem does.
const BLOCK: u64 = 4 << 10;
/// How long a message waits for others to leave the spool.
const ROOM_DEADLINE: Duration = Duration::from_secs(60);
/// A disk that does not answer in this time is one that hangs.
const DISK_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes gathered before they are written; as many may be on their way to the disk besides.
const GATHERED: usize = 512 << 10;
/// Bytes of one read.
pub const READ: usize = 256 << 10;

/// A directory for messages on their way. Clones share the quota.
#[derive(Clone, Debug)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: OwnedFd,
    quota: u64,
    room: Arc<Semaphore>,
}

impl Spool {
    /// Opens an existing directory (`--spool-dir`), makes and drops a file in it, so that one that cannot be used is known at the start.
    /// `quota`: bytes that all files in it may take together.
    pub fn open(directory: &Path, quota: u64) -> Result<Spool, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty()).map_err(|error| fault("open", error.into()))?;
        create(&directory)?;
        // A semaphore takes fewer permits than there are numbers; no disk is as large.
        let blocks = usize::try_from(quota / BLOCK).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Ok(Spool { shared: Arc::new(Shared { directory, quota, room: Arc::new(Semaphore::new(blocks)) }) })
    }

    /// Whether a message of `length` bytes fits in at all.
    pub fn takes(&self, length: u64) -> bool {
        length <= self.shared.quota
    }

    /// A file for a message of `length` bytes. Waits for room, up to a minute; then [`Error::SpoolFull`].
    pub async fn begin(&self, length: u64) -> Result<Draft, Error> {
        let full = || Error::SpoolFull { wanted: length, quota: self.shared.quota };
        let blocks = u32::try_from(length.div_ceil(BLOCK)).map_err(|_| full())?;
        if !self.takes(length) {
            return Err(full());
        }
        let waiting = tokio::time::timeout(ROOM_DEADLINE, Arc::clone(&self.shared.room).acquire_many_owned(blocks));
        let room = waiting.await.map_err(|_| full())?.map_err(|_| Error::Gone)?;
        let shared = Arc::clone(&self.shared);
        let file = within(tokio::task::spawn_blocking(move || create(&shared.directory))).await?;
        Ok(Draft {
            held: Arc::new(Held { kept: Some((file, room)) }),
            announced: length,
            length: 0,
            gathered: Vec::new(),
            bytes: 0,
            writing: None,
        })
    }
}

/// Opens a file that has no name, or takes its name away at once where the filesystem knows no such files.
fn create(directory: &OwnedFd) -> Result<File, Error> {
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(directory, c".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(file) => return Ok(file.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
        Err(error) => return Err(fault("create a file in", error.into())),
    }
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = format!(".spool-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, &name, flags, mode).map_err(|error| fault("create a file in", error.into()))?;
    rustix::fs::unlinkat(directory.as_fd(), &name, AtFlags::empty()).map_err(|error| fault("unlink a file in", error.into()))?;
    Ok(file.into())
}

fn fault(operation: &'static str, source: io::Error) -> Error {
    Error::Io { operation, path: "the spool".to_owned(), source }
}

async fn within<T>(work: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(DISK_DEADLINE, work).await.map_err(|_| Error::Timeout)?.map_err(|_| Error::Gone)?
}

/// The file and its share of the quota; gives both back together.
#[derive(Debug)]
struct Held {
    /// `None` only while dropping.
    kept: Option<(File, OwnedSemaphorePermit)>,
}

impl Held {
    fn file(&self) -> io::Result<&File> {
        self.kept.as_ref().map(|(file, _)| file).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing the last descriptor of a long file takes its time.
        if let (Some(kept), Ok(runtime)) = (self.kept.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(kept));
        }
    }
}

/// A file being written. Dropped before [`Draft::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    held: Arc<Held>,
    announced: u64,
    length: u64,
    gathered: Vec<Bytes>,
    bytes: usize,
    writing: Option<JoinHandle<Result<(), Error>>>,
}

impl Draft {
    /// Appends. Waits only while the write before is under way; bytes beyond the announced length are an error.
    pub async fn append(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.length += bytes.len() as u64;
        if self.length > self.announced {
            return Err(fault("write more than announced in", io::ErrorKind::InvalidInput.into()));
        }
        self.bytes += bytes.len();
        self.gathered.push(bytes);
        if self.bytes >= GATHERED { self.write().await } else { Ok(()) }
    }

    /// Waits for the write before and starts the next.
    async fn write(&mut self) -> Result<(), Error> {
        self.written().await?;
        let gathered = std::mem::take(&mut self.gathered);
        self.bytes = 0;
        let held = Arc::clone(&self.held);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let mut file = held.file().map_err(|error| fault("write in", error))?;
            gathered.iter().try_for_each(|bytes| file.write_all(bytes)).map_err(|error| fault("write in", error))
        }));
        Ok(())
    }

    async fn written(&mut self) -> Result<(), Error> {
        match self.writing.take() {
            Some(writing) => within(writing).await,
            None => Ok(()),
        }
    }

    /// The file, complete. An error where fewer bytes came than announced.
    pub async fn finish(mut self) -> Result<Spooled, Error> {
        self.write().await?;
        self.written().await?;
        if self.length != self.announced {
            return Err(fault("find all bytes in", io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Spooled { held: self.held, length: self.length })
    }
}

/// A message in the spool. Clones are the same file; it goes with the last of them.
#[derive(Clone, Debug)]
pub struct Spooled {
    held: Arc<Held>,
    length: u64,
}

impl Spooled {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Up to [`READ`] bytes from `offset` on; empty only at the end.
    pub async fn read(&self, offset: u64) -> Result<Bytes, Error> {
        let this = self.clone();
        let read = move || {
            let mut buffer = vec![0; READ.min(usize::try_from(this.length.saturating_sub(offset)).unwrap_or(READ))];
            let length = this.read_blocking(offset, &mut buffer).map_err(|error| fault("read in", error))?;
            if length < buffer.len() {
                return Err(fault("read in", io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(Bytes::from(buffer))
        };
        within(tokio::task::spawn_blocking(read)).await
    }

    /// Fills `buffer` from `offset` on, as far as the file goes. Blocking.
    pub fn read_blocking(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.held.file()?;
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
