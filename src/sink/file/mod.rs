//! The file sink: one `.eml` file per message in a directory, durable before it is accepted.
//!
//! Each `--file-sink-root` has one writer thread and one syncer thread ([`FileRoot`]) that batches of all its collectors share: what costs is
//! creating files and syncing them, not bytes. Files are written without a name, synced, linked to their names, and the directory is synced;
//! so there is never half a file under a name, and nothing to clean up after a crash. What an outcome means is not decided here.

mod directory;
mod disk;
mod survey;
mod syncer;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use rustix::fs::{Mode, OFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::disk::{Disk, Kernel};
use self::survey::{Original, Survey};
use self::syncer::Syncer;
use self::writer::{Batch, Command, PartFile, Writer};
use super::{Body, Copies, Delivery, Error, Identity, Outcome, OwnParts, Promise, Receipt, Sink};

/// What a file's name ends with.
pub const EXTENSION: &str = ".eml";

/// Bytes that may wait for a root's writer thread.
const QUEUE_BYTES: usize = 8 << 20;
/// What a message takes in the queue at least, so that many small ones are bounded too.
const QUEUE_MINIMUM: usize = 512;
/// A disk that does not answer in this time is one that hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// A directory below which file sinks write, with its threads. They end when it and all its sinks are dropped, after what was handed over.
#[derive(Clone, Debug)]
pub struct FileRoot {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: OwnedFd,
    commands: Sender<Command>,
    room: Arc<Semaphore>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Fails only when the writer has ended.
        let _ = self.commands.send(Command::End);
    }
}

impl FileRoot {
    /// Opens an existing directory as a root (`--file-sink-root`; links in this path are the operator's own) and starts its threads.
    pub fn open(path: &Path) -> Result<FileRoot, Error> {
        FileRoot::open_on(path, Arc::new(Kernel))
    }

    fn open_on(path: &Path, disk: Arc<dyn Disk>) -> Result<FileRoot, Error> {
        let fault = |operation| move |source: std::io::Error| Error::Io { operation, path: ".".to_owned(), source };
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| fault("open the root")(error.into()))?;
        let (commands, receive_commands) = std::sync::mpsc::channel();
        let (batches, receive_batches) = std::sync::mpsc::channel();
        let (synced, receive_synced) = std::sync::mpsc::channel();
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        let writer = Writer {
            root: root.try_clone().map_err(fault("open the root"))?,
            disk: disk.clone(),
            commands: receive_commands,
            batches,
            synced: receive_synced,
            room: room.clone(),
            batch: Batch::default(),
            batch_messages: writer::batch_messages(),
            known: HashSet::new(),
            syncer_busy: false,
            wanted: false,
            last_delivery: Instant::now(),
        };
        let syncer = Syncer { disk, batches: receive_batches, synced, commands: commands.clone() };
        let start = |name: &str| std::thread::Builder::new().name(name.to_owned());
        start("file-sink-sync").spawn(move || syncer.run()).map_err(fault("start a thread for"))?;
        start("file-sink-write").spawn(move || writer.run()).map_err(fault("start a thread for"))?;
        Ok(FileRoot { shared: Arc::new(Shared { root, commands, room }) })
    }
}

/// A sink that writes into one directory.
#[derive(Debug)]
pub struct FileSink {
    shared: Arc<Shared>,
    directory: Arc<Path>,
    survey: Mutex<Option<Arc<Survey>>>,
}

/// An unnamed file in the target directory (O_TMPFILE), growing. Dropped without being delivered, it leaves nothing.
#[derive(Debug)]
pub struct Part {
    file: Arc<PartFile>,
    /// Bytes appended.
    length: u64,
    commands: Sender<Command>,
}

impl Part {
    /// Bytes appended so far.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // When the writer has ended, the file is closed here.
        let _ = self.commands.send(Command::Discard(self.file.clone()));
    }
}

impl FileSink {
    /// A sink into `directory` below `root`, which is created when the first message comes. It must be relative and have plain components
    /// only (no `..`); anything else is [`Error::NotADirectory`]. No link in it is ever followed.
    pub fn new(root: &FileRoot, directory: &Path) -> Result<FileSink, Error> {
        directory::check_relative(directory)?;
        Ok(FileSink { shared: root.shared.clone(), directory: directory.into(), survey: Mutex::new(None) })
    }

    /// Room for `bytes` in the queue; more than all of it counts as all of it.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let bytes = u32::try_from(bytes.min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        match tokio::time::timeout(DEADLINE, self.shared.room.clone().acquire_many_owned(bytes)).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(Error::Gone),
            Err(_) => Err(Error::Timeout),
        }
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        self.shared.commands.send(command).map_err(|_| Error::Gone)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        tokio::time::timeout(DEADLINE, answer).await.map_err(|_| Error::Timeout)?.map_err(|_| Error::Gone)
    }

    async fn hand_over(&self, deliveries: Vec<Delivery>, reply: oneshot::Sender<Vec<Outcome>>) {
        let count = deliveries.len();
        let bytes = deliveries.iter().map(|delivery| match &delivery.body {
            Body::Memory(bytes) => bytes.len().max(QUEUE_MINIMUM),
            Body::Part(_) | Body::Spooled(_) => QUEUE_MINIMUM,
        });
        match self.room(bytes.fold(0, usize::saturating_add)).await {
            // When the writer has ended, the reply goes with the command and the receipt says `Gone`.
            Ok(room) => drop(self.send(Command::Deliver { directory: self.directory.clone(), deliveries, reply, room })),
            Err(error) => drop(reply.send(vec![Outcome::Deferred(Arc::new(error)); count])),
        }
    }

    async fn survey_now(&self) -> Result<Arc<Survey>, Error> {
        let (shared, directory) = (self.shared.clone(), self.directory.clone());
        let survey = Arc::new(off_thread(move || Survey::take(shared.root.as_fd(), &directory)).await?);
        *self.survey.lock().unwrap_or_else(PoisonError::into_inner) = Some(survey.clone());
        Ok(survey)
    }
}

impl Sink for FileSink {
    fn promise(&self) -> Promise {
        Promise::OneEffect
    }

    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Receipt> {
        Box::pin(async move {
            let (reply, receipt) = oneshot::channel();
            if batch.is_empty() {
                let _ = reply.send(Vec::new());
            } else {
                self.hand_over(batch, reply).await;
            }
            Receipt(receipt)
        })
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        // When the writer has ended, the receipts say so.
        let _ = self.send(Command::Flush);
        Box::pin(std::future::ready(()))
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.ask(|reply| Command::Probe { directory: self.directory.clone(), reply }).await? })
    }

    fn own_parts(&self) -> Option<&dyn OwnParts> {
        Some(self)
    }

    fn copies(&self) -> Option<&dyn Copies> {
        Some(self)
    }
}

impl OwnParts for FileSink {
    fn part(&self, _length: u64) -> BoxFuture<'_, Result<Part, Error>> {
        Box::pin(async move {
            let file = self.ask(|reply| Command::OpenPart { directory: self.directory.clone(), reply }).await??;
            Ok(Part { file, length: 0, commands: self.shared.commands.clone() })
        })
    }

    fn append<'a>(&'a self, part: &'a mut Part, bytes: Bytes) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            part.file.check()?;
            let room = self.room(bytes.len()).await?;
            part.length += bytes.len() as u64;
            self.send(Command::Append { part: part.file.clone(), bytes, room })
        })
    }
}

impl Copies for FileSink {
    fn survey(&self) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move { Ok(self.survey_now().await?.len() as u64) })
    }

    fn identical<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Result<Vec<[u8; 8]>, Error>> {
        Box::pin(async move {
            let kept = self.survey.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let survey = match kept {
                Some(survey) => survey,
                None => self.survey_now().await?,
            };
            let candidates: Vec<Identity> = survey.candidates(delivery.identity.fingerprint).to_vec();
            if candidates.is_empty() {
                return Ok(Vec::new());
            }
            let original = match &delivery.body {
                Body::Memory(bytes) => Original::Memory(bytes.clone()),
                Body::Spooled(spooled) => Original::Spooled(spooled.clone()),
                Body::Part(part) => {
                    self.ask(Command::Barrier).await?;
                    part.file.check()?;
                    Original::Part(part.file.clone())
                }
            };
            let (shared, directory) = (self.shared.clone(), self.directory.clone());
            off_thread(move || survey::identical(shared.root.as_fd(), &directory, &candidates, &original)).await
        })
    }
}

/// Runs blocking work beside the async threads, up to the deadline.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(work)).await.map_err(|_| Error::Timeout)?.map_err(|_| Error::Gone)?
}

fn file_name(identity: &Identity) -> String {
    let mut name = identity.name();
    name.push_str(EXTENSION);
    name
}
