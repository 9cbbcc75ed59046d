//! The writer thread of a file-sink root: takes commands of all collectors from one queue, writes messages into files that nobody sees and
//! hands closed batches to the syncer. One batch is written while the one before it syncs; a batch that is wanted while the syncer is busy
//! goes on growing. It makes nothing durable and answers nobody about a message; `syncer` does.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::directory::{Directory, Hidden, Missing, io_error};
use super::disk::Disk;
use crate::sink::{Body, Delivery, Error, Identity, Outcome, Spooled, spool};

/// Messages of a batch.
pub(super) const BATCH_MESSAGES: usize = 1_000;
/// Bytes of a batch; one message may go beyond.
const BATCH_BYTES: u64 = 32 << 20;
/// Directories of a batch: each is an open descriptor.
const BATCH_DIRECTORIES: usize = 256;
/// A batch closes so long after the last delivery although nobody asked for it.
const BATCH_PATIENCE: Duration = Duration::from_millis(100);
/// Directories known to be durable together with those above them; beyond, all are forgotten and found out again.
const KNOWN_DIRECTORIES: usize = 20_000;

/// Messages of a batch in this process: two batches, each with a descriptor per message, may take half of what it may open.
pub(super) fn batch_messages() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    descriptors.and_then(|descriptors| usize::try_from(descriptors / 4).ok()).unwrap_or(BATCH_MESSAGES).clamp(1, BATCH_MESSAGES)
}

/// What the writer is asked. Whoever sends one with bytes holds room for them in the queue.
pub(super) enum Command {
    Deliver {
        directory: Arc<Path>,
        deliveries: Vec<Delivery>,
        reply: oneshot::Sender<Vec<Outcome>>,
        room: OwnedSemaphorePermit,
    },
    Flush,
    OpenPart {
        directory: Arc<Path>,
        reply: oneshot::Sender<Result<Arc<PartFile>, Error>>,
    },
    Append {
        part: Arc<PartFile>,
        bytes: Bytes,
        room: OwnedSemaphorePermit,
    },
    /// Nobody wants the part any more; it is closed here, since closing a long file takes its time.
    Discard(Arc<PartFile>),
    Probe {
        directory: Arc<Path>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Answers when all before it is written.
    Barrier(oneshot::Sender<()>),
    /// The syncer can take another batch.
    Synced,
    End,
}

/// The file of a [`super::Part`].
#[derive(Debug)]
pub(super) struct PartFile {
    pub(super) hidden: Hidden,
    path: Arc<Path>,
    /// The first write that failed; none is tried after it.
    pub(super) failure: OnceLock<(Errno, Arc<Error>)>,
}

impl PartFile {
    /// The failure once more, as a value of its own.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.failure.get().map_or(Ok(()), |(error, _)| Err(io_error("write in", &self.path, *error)))
    }
}

/// What is written and must become durable together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) directories: Vec<Arc<Directory>>,
    by_path: HashMap<Arc<Path>, usize>,
    /// Directories above those used for the first time.
    pub(super) above: HashMap<Arc<Path>, Directory>,
    pub(super) messages: Vec<Message>,
    pub(super) shares: Vec<Share>,
    bytes: u64,
}

pub(super) struct Message {
    pub(super) identity: Identity,
    /// Index into [`Batch::directories`].
    pub(super) directory: usize,
    pub(super) state: State,
}

pub(super) enum State {
    Written(Hidden),
    Part(Arc<PartFile>),
    /// Has its name; `created` is false when something had it before.
    Linked {
        created: bool,
    },
    Failed(Outcome),
}

/// So many of the batch's messages, in order, belong to one delivery; without `reply` its rest is in the next batch.
pub(super) struct Share {
    pub(super) messages: usize,
    pub(super) reply: Option<oneshot::Sender<Vec<Outcome>>>,
}

pub(super) struct Writer {
    pub(super) root: OwnedFd,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) commands: Receiver<Command>,
    pub(super) batches: Sender<Batch>,
    /// One answer a batch: the directories that are durable now, with those above them.
    pub(super) synced: Receiver<Vec<Arc<Path>>>,
    pub(super) room: Arc<Semaphore>,
    pub(super) batch: Batch,
    /// At most [`BATCH_MESSAGES`]; fewer where the process may not open so many files.
    pub(super) batch_messages: usize,
    pub(super) known: HashSet<Arc<Path>>,
    pub(super) syncer_busy: bool,
    /// Somebody asked for durability now.
    pub(super) wanted: bool,
    pub(super) last_delivery: Instant,
}

/// The syncer is gone, so nothing can become durable any more.
struct SyncerGone;

/// Whoever waits for room in the queue learns that nobody will make any, however the writer ends.
struct CloseWhenDone(Arc<Semaphore>);

impl Drop for CloseWhenDone {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Writer {
    /// Runs until [`Command::End`], or until the syncer is gone.
    pub(super) fn run(mut self) {
        let _close = CloseWhenDone(self.room.clone());
        while let Some(command) = self.next_command() {
            if self.obey(command).is_err() || self.hand_over_if_wanted().is_err() {
                return;
            }
        }
        // What was handed over before the end is still made durable; whether somebody waits for it or not.
        if !self.batch.messages.is_empty() {
            let _ = self.hand_over();
        }
    }

    /// Waits for a command; `None` at the end. Closing a batch for its age counts as a flush.
    fn next_command(&mut self) -> Option<Command> {
        let command = if self.batch.messages.is_empty() || self.syncer_busy {
            self.commands.recv().ok()?
        } else {
            match self.commands.recv_timeout(BATCH_PATIENCE.saturating_sub(self.last_delivery.elapsed())) {
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => Command::Flush,
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        };
        (!matches!(command, Command::End)).then_some(command)
    }

    fn obey(&mut self, command: Command) -> Result<(), SyncerGone> {
        match command {
            Command::Deliver { directory, deliveries, reply, room } => {
                self.write(&directory, deliveries, reply)?;
                drop(room);
                self.last_delivery = Instant::now();
            }
            Command::Flush => self.wanted = true,
            Command::OpenPart { directory, reply } => {
                // The one who asked may have gone meanwhile; the part goes with the answer.
                let _ = reply.send(self.open_part(&directory));
            }
            Command::Append { part, bytes, room } => {
                if part.failure.get().is_none()
                    && let Err(error) = self.disk.write(part.hidden.file.as_fd(), &bytes)
                {
                    let _ = part.failure.set((error, Arc::new(io_error("write in", &part.path, error))));
                }
                drop(bytes);
                drop(room);
            }
            Command::Discard(part) => drop(part),
            Command::Probe { directory, reply } => {
                let _ = reply.send(self.probe(&directory));
            }
            Command::Barrier(reply) => {
                let _ = reply.send(());
            }
            Command::Synced => {
                while let Ok(durable) = self.synced.try_recv() {
                    self.note_synced(durable);
                }
            }
            Command::End => {}
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.batch.messages.len() >= self.batch_messages
            || self.batch.bytes >= BATCH_BYTES
            || self.batch.directories.len() >= BATCH_DIRECTORIES
    }

    fn hand_over_if_wanted(&mut self) -> Result<(), SyncerGone> {
        if self.batch.messages.is_empty() {
            self.wanted = false;
        }
        if self.is_full() || self.wanted && !self.syncer_busy { self.hand_over() } else { Ok(()) }
    }

    /// Gives the batch to the syncer, waiting for it to finish the one before.
    fn hand_over(&mut self) -> Result<(), SyncerGone> {
        while self.syncer_busy {
            let durable = self.synced.recv().map_err(|_| SyncerGone)?;
            self.note_synced(durable);
        }
        self.wanted = false;
        self.syncer_busy = true;
        let next = Batch { messages: Vec::with_capacity(self.batch.messages.len().min(BATCH_MESSAGES)), ..Batch::default() };
        self.batches.send(std::mem::replace(&mut self.batch, next)).map_err(|_| SyncerGone)
    }

    fn note_synced(&mut self, durable: Vec<Arc<Path>>) {
        self.syncer_busy = false;
        if self.known.len() + durable.len() > KNOWN_DIRECTORIES {
            self.known.clear();
        }
        self.known.extend(durable);
    }

    fn write(&mut self, path: &Arc<Path>, deliveries: Vec<Delivery>, reply: oneshot::Sender<Vec<Outcome>>) -> Result<(), SyncerGone> {
        let mut directory = self.directory(path);
        let mut share = 0;
        for delivery in deliveries {
            if self.is_full() && !self.batch.messages.is_empty() {
                self.batch.shares.push(Share { messages: share, reply: None });
                share = 0;
                self.hand_over()?;
                directory = directory.and_then(|_| self.directory(path));
            }
            let Delivery { identity, body, .. } = delivery;
            let length = body.length();
            let state = match &directory {
                Err(error) => State::Failed(Outcome::Deferred(error.clone())),
                Ok(index) => self.write_one(*index, body).unwrap_or_else(State::Failed),
            };
            // What hinders one message for the sink's sake hinders the rest; nobody need wait for that.
            if let State::Failed(Outcome::Deferred(error)) = &state {
                directory = Err(error.clone());
                self.wanted = true;
            } else {
                self.batch.bytes += length;
            }
            self.batch.messages.push(Message { identity, directory: directory.as_ref().copied().unwrap_or_default(), state });
            share += 1;
        }
        self.batch.shares.push(Share { messages: share, reply: Some(reply) });
        Ok(())
    }

    fn write_one(&mut self, index: usize, body: Body) -> Result<State, Outcome> {
        let deferred = |error| Outcome::Deferred(Arc::new(error));
        match body {
            Body::Part(part) => match part.file.failure.get() {
                Some((error, fact)) => Err(outcome(*error, fact.clone())),
                None => Ok(State::Part(part.file.clone())),
            },
            Body::Memory(bytes) => {
                let directory = self.batch.directories.get(index).ok_or_else(|| deferred(Error::Gone))?;
                let hidden = directory.hide(&*self.disk).map_err(deferred)?;
                match self.disk.write(hidden.file.as_fd(), &bytes) {
                    Ok(()) => Ok(State::Written(hidden)),
                    Err(error) => Err(outcome(error, Arc::new(io_error("write in", &directory.path, error)))),
                }
            }
            Body::Spooled(spooled) => {
                let directory = self.batch.directories.get(index).ok_or_else(|| deferred(Error::Gone))?;
                let hidden = directory.hide(&*self.disk).map_err(deferred)?;
                match self.copy(&hidden, &spooled) {
                    Ok(()) => Ok(State::Written(hidden)),
                    Err(error) => Err(outcome(error, Arc::new(io_error("write in", &directory.path, error)))),
                }
            }
        }
    }

    fn copy(&self, hidden: &Hidden, spooled: &Spooled) -> rustix::io::Result<()> {
        let mut buffer = vec![0; spool::READ];
        let mut at = 0;
        while at < spooled.length() {
            let read = spooled.read_blocking(at, &mut buffer).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            if read == 0 {
                return Err(Errno::IO);
            }
            self.disk.write(hidden.file.as_fd(), buffer.get(..read).unwrap_or_default())?;
            at += read as u64;
        }
        Ok(())
    }

    /// The batch's index of the directory at `path`, opened before the first write into it.
    fn directory(&mut self, path: &Arc<Path>) -> Result<usize, Arc<Error>> {
        if let Some(index) = self.batch.by_path.get(path) {
            return Ok(*index);
        }
        let directory = match self.open_known(path)? {
            Some(directory) => directory,
            None => {
                let (directory, above) = Directory::walk(self.root.as_fd(), path, Missing::Create)?;
                self.batch.above.extend(above.into_iter().map(|directory| (directory.path.clone(), directory)));
                directory
            }
        };
        let index = self.batch.directories.len();
        self.batch.directories.push(Arc::new(directory));
        self.batch.by_path.insert(path.clone(), index);
        Ok(index)
    }

    fn open_known(&self, path: &Arc<Path>) -> Result<Option<Directory>, Error> {
        if self.known.contains(path) { Directory::open_known(self.root.as_fd(), path) } else { Ok(None) }
    }

    fn open_part(&self, path: &Arc<Path>) -> Result<Arc<PartFile>, Error> {
        let (directory, _) = Directory::walk(self.root.as_fd(), path, Missing::Create)?;
        let hidden = Arc::new(directory).hide(&*self.disk)?;
        Ok(Arc::new(PartFile { hidden, path: path.clone(), failure: OnceLock::new() }))
    }

    fn probe(&self, path: &Arc<Path>) -> Result<(), Error> {
        let (directory, _) = Directory::walk(self.root.as_fd(), path, Missing::Create)?;
        directory.check_space()?;
        Arc::new(directory).hide(&*self.disk).map(drop)
    }
}

/// EFBIG speaks of the message (it is longer than a file may be here), all else of the sink.
fn outcome(error: Errno, fact: Arc<Error>) -> Outcome {
    if error == Errno::FBIG { Outcome::Rejected(fact) } else { Outcome::Deferred(fact) }
}
