//! Cursors in a local folder, for collecting without a cluster: one JSON file a collector, replaced atomically and durably. The folder is locked
//! while a process uses it, so that two never deliver for the same mailbox.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::collect::{CollectorId, CursorStore, StoreError, Version};
use crate::cursor::{Cursor, Holder};

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
        Ok(Self { shared: Arc::new(Shared { path: path.to_owned(), folder, _lock: lock }) })
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

    fn write(&self, id: &CollectorId, cursor: Cursor, version: Option<&Version>) -> Result<Version, StoreError> {
        let before = self.read(id)?.map(|stored| stored.version);
        if before.map(|number| number.to_string()).as_deref() != version.map(|version| version.0.as_str()) {
            return Err(StoreError::Conflict);
        }
        let number = before.unwrap_or(0) + 1;
        let stored = Stored { uid: id.uid.clone(), version: number, cursor };
        let bytes = serde_json::to_vec(&stored).map_err(|error| StoreError::Unreadable(error.to_string()))?;
        let path = self.file(id);
        self.replace(&path, &bytes).map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
        Ok(Version(number.to_string()))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&temporary, path)?;
        self.folder.sync_all()
    }
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
        let (shared, id, cursor, version) = (Arc::clone(&self.shared), id.clone(), cursor.clone(), version.cloned());
        blocking(move || shared.write(&id, cursor, version.as_ref()))
    }

    fn pace(&self) -> Duration {
        // A local write costs two syncs; one a second keeps them few while a backlog drains.
        Duration::from_secs(1)
    }

    fn holder(&self) -> Holder {
        let pod = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Holder { install: "command-line".to_owned(), pod, epoch: 0 }
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
