//! Cursors in a local folder, for collecting without a cluster: one JSON file a collector, replaced atomically and durably. The folder is locked
//! while a process uses it, so that two never deliver for the same mailbox.
//!
//! One thread writes: what comes while it syncs is written and synced together afterwards, so that hundreds of mailboxes cost few syncs.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::collect::{CollectorId, CursorStore, StoreError, Version};
use crate::cursor::{Cursor, Holder};

/// A disk that does not answer in this time is one that hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// Writes that share their syncs, at most.
const TOGETHER: usize = 256;
/// Up to so many files are synced each by itself: syncfs would wait for whatever else the filesystem has to write.
const SYNCED_EACH: usize = 4;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("--state {path:?}: {source}")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("--state {path:?} is in use by another mailbox-collector; stop it, or give another folder")]
    Locked { path: PathBuf },
}

/// A locked folder of cursors.
#[derive(Debug)]
pub(super) struct StateFolder {
    shared: Arc<Shared>,
    /// Both are there until the value is dropped.
    writes: Option<Sender<Write>>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // The thread writes what was handed over, then ends; with it the last hold on the lock goes.
        self.writes = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes the state folder panicked");
        }
    }
}

/// One write, and where its result is awaited.
struct Write {
    id: CollectorId,
    cursor: Cursor,
    version: Option<Version>,
    reply: oneshot::Sender<Result<Version, StoreError>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    folder: File,
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    /// Whose cursor it is: a cursor of another mailbox must not be used for this one.
    uid: String,
    version: u64,
    cursor: Cursor,
}

impl StateFolder {
    /// Makes the folder if it is missing, and locks it for the life of the value.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let folder_error = |source: io::Error| Error::Folder { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(folder_error)?;
        let lock = File::create(path.join(".lock")).map_err(folder_error)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Locked { path: path.to_owned() }),
            Err(error) => return Err(folder_error(error.into())),
        }
        let folder = File::open(path).map_err(folder_error)?;
        let shared = Arc::new(Shared { path: path.to_owned(), folder, _lock: lock });
        let (writes, received) = channel();
        let writing = Arc::clone(&shared);
        let writer =
            std::thread::Builder::new().name("state".to_owned()).spawn(move || writing.write_all(&received)).map_err(folder_error)?;
        Ok(Self { shared, writes: Some(writes), writer: Some(writer) })
    }
}

impl Shared {
    fn file(&self, id: &CollectorId) -> PathBuf {
        self.path.join(format!("{}.{}.json", id.namespace, id.name))
    }

    fn read(&self, id: &CollectorId) -> Result<Option<Stored>, StoreError> {
        let path = self.file(id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::Unavailable(format!("{}: {error}", path.display()))),
        };
        let stored: Stored =
            serde_json::from_slice(&bytes).map_err(|error| StoreError::Unreadable(format!("{}: {error}", path.display())))?;
        if stored.uid != id.uid {
            let text = format!("{} is the state of another mailbox; rename the collector or remove the file", path.display());
            return Err(StoreError::Unreadable(text));
        }
        Ok(Some(stored))
    }

    /// Writes what comes until nobody can send any more.
    fn write_all(&self, received: &Receiver<Write>) {
        while let Ok(first) = received.recv() {
            let mut pending = vec![first];
            while pending.len() < TOGETHER
                && let Ok(next) = received.try_recv()
            {
                pending.push(next);
            }
            self.write_together(pending);
        }
    }

    fn write_together(&self, pending: Vec<Write>) {
        let mut written: Vec<(Temporary, u64, oneshot::Sender<_>)> = Vec::with_capacity(pending.len());
        let mut later = Vec::new();
        for Write { id, cursor, version, reply } in pending {
            let path = self.file(&id);
            if written.iter().any(|(temporary, ..)| temporary.path == path) {
                // Its version is that of the write before it, which must have its name first.
                later.push(Write { id, cursor, version, reply });
                continue;
            }
            match self.write_temporary(&id, cursor, version.as_ref()) {
                Ok((temporary, number)) => written.push((temporary, number, reply)),
                // Whoever asked may have gone.
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        let failed = |path: &Path, error: &io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
        let whole = if written.len() > SYNCED_EACH { Some(rustix::fs::syncfs(&self.folder)) } else { None };
        let named: Vec<_> = written
            .into_iter()
            .map(|(Temporary { file, temporary, path }, number, reply)| {
                let synced = match whole {
                    Some(whole) => whole.map_err(io::Error::from),
                    None => file.sync_data(),
                };
                let named = synced.and_then(|()| fs::rename(&temporary, &path));
                (named.map(|()| number).map_err(|error| failed(&path, &error)), reply)
            })
            .collect();
        let folder = self.folder.sync_all();
        for (result, reply) in named {
            let result = result.and_then(|number| match &folder {
                Ok(()) => Ok(Version(number.to_string())),
                Err(error) => Err(failed(&self.path, error)),
            });
            drop(reply.send(result));
        }
        if !later.is_empty() {
            self.write_together(later);
        }
    }

    fn write_temporary(&self, id: &CollectorId, cursor: Cursor, version: Option<&Version>) -> Result<(Temporary, u64), StoreError> {
        let before = self.read(id)?.map(|stored| stored.version);
        if before.map(|number| number.to_string()).as_deref() != version.map(|version| version.0.as_str()) {
            return Err(StoreError::Conflict);
        }
        let number = before.unwrap_or(0) + 1;
        let stored = Stored { uid: id.uid.clone(), version: number, cursor };
        let bytes = serde_json::to_vec(&stored).map_err(|error| StoreError::Unreadable(error.to_string()))?;
        let path = self.file(id);
        let temporary = path.with_extension("json.new");
        let written = File::create(&temporary).and_then(|mut file| file.write_all(&bytes).map(|()| file));
        let file = written.map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
        Ok((Temporary { file, temporary, path }, number))
    }
}

/// A cursor's file before it has its name.
struct Temporary {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl CursorStore for StateFolder {
    fn load<'a>(&'a self, id: &'a CollectorId) -> BoxFuture<'a, Result<Option<(Cursor, Version)>, StoreError>> {
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        blocking(move || Ok(shared.read(&id)?.map(|stored| (stored.cursor, Version(stored.version.to_string())))))
    }

    fn save<'a>(
        &'a self,
        id: &'a CollectorId,
        cursor: &'a Cursor,
        version: Option<&'a Version>,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        async move {
            let gone = || StoreError::Unavailable("the state folder's writer has ended".to_owned());
            let (reply, answer) = oneshot::channel();
            let write = Write { id: id.clone(), cursor: cursor.clone(), version: version.cloned(), reply };
            self.writes.as_ref().and_then(|writes| writes.send(write).ok()).ok_or_else(gone)?;
            timeout(DEADLINE, answer)
                .await
                .map_err(|_| StoreError::Unavailable("the disk of --state does not answer".to_owned()))?
                .map_err(|_| gone())?
        }
        .boxed()
    }

    fn pace(&self) -> Duration {
        // A local write costs two syncs; one a second keeps them few while a backlog drains.
        Duration::from_secs(1)
    }

    fn holder(&self) -> Option<Holder> {
        // The lock is the claim.
        None
    }
}

fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> BoxFuture<'static, Result<T, StoreError>> {
    async move {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(StoreError::Unavailable("the writing thread panicked".to_owned())))
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(uid: &str) -> CollectorId {
        CollectorId { namespace: "office".into(), name: "factures".into(), uid: uid.into() }
    }

    #[tokio::test]
    async fn what_was_saved_is_loaded_and_an_old_version_conflicts() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        assert!(state.load(&id("u")).await.unwrap().is_none());
        let mut cursor = Cursor::default();
        cursor.worked_with = Some("app".into());
        let first = state.save(&id("u"), &cursor, None).await.unwrap();
        cursor.worked_with = Some("other".into());
        state.save(&id("u"), &cursor, Some(&first)).await.unwrap();
        assert_eq!(state.save(&id("u"), &cursor, Some(&first)).await, Err(StoreError::Conflict));
        assert_eq!(state.save(&id("u"), &cursor, None).await, Err(StoreError::Conflict));
        let (loaded, _) = state.load(&id("u")).await.unwrap().unwrap();
        assert_eq!(loaded.worked_with.as_deref(), Some("other"));
    }

    #[tokio::test]
    async fn writes_that_come_together_are_each_compared_and_each_answered() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let ids: Vec<_> = (0..40).map(|number| CollectorId { name: format!("factures-{number}"), ..id("u") }).collect();
        let cursor = Cursor::default();
        // Two for each collector, the second of which knows nothing of the first.
        let saves = ids.iter().chain(&ids).map(|id| state.save(id, &cursor, None));
        let results = futures::future::join_all(saves).await;
        let (first, second) = results.split_at(ids.len());
        assert!(first.iter().all(Result::is_ok), "{first:?}");
        assert!(second.iter().all(|result| *result == Err(StoreError::Conflict)), "{second:?}");
        drop(state);
        let state = StateFolder::open(folder.path()).unwrap();
        for id in &ids {
            assert_eq!(state.load(id).await.unwrap().map(|(_, version)| version), Some(Version("1".to_owned())));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), ids.len() + 1, "files besides the cursors and the lock");
    }

    #[tokio::test]
    async fn the_state_of_another_mailbox_is_never_used() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        state.save(&id("u"), &Cursor::default(), None).await.unwrap();
        assert!(matches!(state.load(&id("v")).await, Err(StoreError::Unreadable(_))));
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        assert!(matches!(StateFolder::open(folder.path()), Err(Error::Locked { .. })));
        drop(state);
        assert!(StateFolder::open(folder.path()).is_ok());
    }

    #[tokio::test]
    async fn a_torn_file_is_unreadable_rather_than_empty() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        state.save(&id("u"), &Cursor::default(), None).await.unwrap();
        fs::write(folder.path().join("office.factures.json"), b"{\"uid\":").unwrap();
        assert!(matches!(state.load(&id("u")).await, Err(StoreError::Unreadable(_))));
    }
}
