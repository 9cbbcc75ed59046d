//! The syncer thread of a file-sink root: makes a written batch durable, gives its files their names, makes the names durable, answers.
//!
//! A failed sync is never repeated: the kernel reports a write-back error once and may then call lost pages clean, so a second sync proves
//! nothing. The batch's files are dropped instead and the messages fetched again.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::{Errno, Result as IoResult};

use super::directory::{Directory, Hidden, io_error};
use super::disk::Disk;
use super::writer::{Batch, Command, State};
use super::{EXTENSION, file_name};
use crate::sink::{Error, Outcome};

/// Up to so many files are synced each by itself: syncfs would wait for whatever else the filesystem has to write.
const FILES_SYNCED_EACH: usize = 16;
/// Up to so many directories are synced each by itself.
const DIRECTORIES_SYNCED_EACH: usize = 8;
/// Threads that sync files each by itself; filesystems gather such syncs into one commit.
const THREADS: usize = 8;

pub(super) struct Syncer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) batches: Receiver<Batch>,
    pub(super) synced: Sender<Vec<Arc<Path>>>,
    pub(super) commands: Sender<Command>,
}

impl Syncer {
    /// Runs until the writer ends.
    pub(super) fn run(self) {
        // The outcomes so far of a delivery whose rest is in the next batch.
        let mut carried = Vec::new();
        while let Ok(mut batch) = self.batches.recv() {
            let durable = match settle(&*self.disk, &mut batch) {
                Ok(()) => batch.directories.iter().map(|directory| directory.path.clone()).collect(),
                Err(error) => {
                    tracing::warn!(%error, messages = batch.messages.len(), "file sink: batch failed");
                    fail(&mut batch, &Arc::new(error));
                    Vec::new()
                }
            };
            // Both fail only when the writer has ended, and then the next `recv` says so. Before the answer, so that the writer knows
            // of it when it gets what the answer brings about.
            let _ = self.synced.send(durable);
            let _ = self.commands.send(Command::Synced);
            answer(&mut batch, &mut carried);
        }
    }
}

fn settle(disk: &dyn Disk, batch: &mut Batch) -> Result<(), Error> {
    sync_files(disk, batch)?;
    link_files(disk, batch);
    let synced = sync_directories(disk, batch);
    if synced.is_err() {
        unlink_files(batch);
    }
    synced
}

fn sync_files(disk: &dyn Disk, batch: &Batch) -> Result<(), Error> {
    let on = |message: &super::writer::Message| batch.directories.get(message.directory);
    let mut each: Vec<(BorrowedFd<'_>, &Path)> = Vec::new();
    let mut seen = Vec::new();
    for directory in &batch.directories {
        if seen.contains(&directory.device) {
            continue;
        }
        seen.push(directory.device);
        let here = batch.messages.iter().filter(|message| on(message).is_some_and(|other| other.device == directory.device));
        let mut whole: Vec<(BorrowedFd<'_>, &Path)> = Vec::new();
        for message in here {
            match &message.state {
                State::Written(hidden) => whole.push((hidden.file.as_fd(), &directory.path)),
                // Parts of it were perhaps written back before this batch's descriptor was opened; only its own knows of errors then.
                State::Part(part) => each.push((part.hidden.file.as_fd(), &directory.path)),
                State::Linked { .. } | State::Failed(_) => {}
            }
        }
        if whole.len() > FILES_SYNCED_EACH && directory.synced_as_a_whole {
            // The first descriptor of this batch on this filesystem: opened before the first write.
            disk.sync_filesystem(directory.descriptor.as_fd())
                .map_err(|error| io_error("sync the filesystem of", &directory.path, error))?;
        } else {
            each.append(&mut whole);
        }
    }
    sync_each(disk, &each)
}

fn sync_each(disk: &dyn Disk, files: &[(BorrowedFd<'_>, &Path)]) -> Result<(), Error> {
    let sync = |files: &[(BorrowedFd<'_>, &Path)]| {
        // All are synced even after an error, so that each file's error is consumed by the one that wrote it.
        files
            .iter()
            .map(|(file, path)| disk.sync_file(*file).map_err(|error| io_error("sync a file in", path, error)))
            .fold(Ok(()), Result::and)
    };
    if files.len() < 3 {
        return sync(files);
    }
    let chunk = files.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut result = Ok(());
        for files in files.chunks(chunk) {
            match std::thread::Builder::new().spawn_scoped(scope, move || sync(files)) {
                Ok(thread) => threads.push(thread),
                // No more threads to be had: do it here.
                Err(_) => result = result.and(sync(files)),
            }
        }
        threads.into_iter().fold(result, |result, thread| result.and(thread.join().unwrap_or(Err(Error::Gone))))
    })
}

fn link_files(disk: &dyn Disk, batch: &mut Batch) {
    for message in &mut batch.messages {
        let hidden: &Hidden = match &message.state {
            State::Written(hidden) => hidden,
            State::Part(part) => &part.hidden,
            State::Linked { .. } | State::Failed(_) => continue,
        };
        let Some(directory) = batch.directories.get(message.directory) else { continue };
        message.state = match hidden.link(disk, directory, &file_name(&message.identity)) {
            Ok(()) => State::Linked { created: true },
            Err(Errno::EXIST) => State::Linked { created: false },
            Err(error) => State::Failed(Outcome::Deferred(Arc::new(io_error("name a file in", &directory.path, error)))),
        };
    }
}

/// Makes durable the names in every touched directory, also where something had the name already: whoever gave it may have died before this.
fn sync_directories(disk: &dyn Disk, batch: &Batch) -> Result<(), Error> {
    let mut touched = vec![false; batch.directories.len()];
    for message in &batch.messages {
        if let (State::Linked { .. }, Some(touched)) = (&message.state, touched.get_mut(message.directory)) {
            *touched = true;
        }
    }
    let named = batch.directories.iter().zip(&touched).filter(|(_, touched)| **touched).map(|(directory, _)| &**directory);
    let directories: Vec<&Directory> = named.chain(batch.above.values()).collect();
    let mut done = Vec::new();
    for directory in &directories {
        if done.contains(&directory.device) {
            continue;
        }
        let here = directories.iter().filter(|other| other.device == directory.device);
        if directory.synced_as_a_whole && here.clone().count() > DIRECTORIES_SYNCED_EACH {
            done.push(directory.device);
            sync_one(directory, |descriptor| disk.sync_filesystem(descriptor))?;
        } else {
            sync_one(directory, |descriptor| disk.sync_directory(descriptor))?;
        }
    }
    Ok(())
}

fn sync_one(directory: &Directory, sync: impl Fn(BorrowedFd<'_>) -> IoResult<()>) -> Result<(), Error> {
    sync(directory.descriptor.as_fd()).map_err(|error| io_error("sync the names in", &directory.path, error))
}

/// Takes back the names whose durability is unknown: found there at the next attempt, they would count as accepted.
fn unlink_files(batch: &Batch) {
    for message in &batch.messages {
        if let (State::Linked { created: true }, Some(directory)) = (&message.state, batch.directories.get(message.directory))
            && let Err(error) = unlinkat(&directory.descriptor, file_name(&message.identity).as_str(), AtFlags::empty())
        {
            tracing::error!(%error, extension = EXTENSION, "file sink: a file whose name may not be durable could not be removed");
        }
    }
}

fn fail(batch: &mut Batch, error: &Arc<Error>) {
    for message in &mut batch.messages {
        if !matches!(message.state, State::Failed(_)) {
            message.state = State::Failed(Outcome::Deferred(error.clone()));
        }
    }
}

fn answer(batch: &mut Batch, carried: &mut Vec<Outcome>) {
    let mut outcomes = batch.messages.drain(..).map(|message| match message.state {
        State::Failed(outcome) => outcome,
        State::Linked { .. } => Outcome::Accepted,
        // Not reached: linking leaves neither. Should it be, the message is not accepted.
        State::Written(_) | State::Part(_) => Outcome::Deferred(Arc::new(Error::Gone)),
    });
    for share in batch.shares.drain(..) {
        carried.extend(outcomes.by_ref().take(share.messages));
        if let Some(reply) = share.reply {
            // The one who asked may have gone; the delivery stands.
            let _ = reply.send(std::mem::take(carried));
        }
    }
}
