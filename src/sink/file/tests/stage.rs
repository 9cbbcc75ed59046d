//! A file sink in a folder of its own, on a disk that does what a test says.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Condvar, MutexGuard};

use rustix::io::{Errno, Result as IoResult};

use super::*;

/// A disk that writes down what it is asked, and fails or waits where a test says so.
#[derive(Default)]
pub(super) struct Script {
    calls: Mutex<Vec<&'static str>>,
    /// (call, how many of it pass before, error).
    failures: Mutex<Vec<(&'static str, usize, Errno)>>,
    held: Mutex<Option<&'static str>>,
    released: Condvar,
    only_named: bool,
}

impl Script {
    /// Without unnamed files, or with.
    pub(super) fn named(only_named: bool) -> Script {
        Script { only_named, ..Script::default() }
    }

    fn enter(&self, call: &'static str) -> IoResult<()> {
        let mut held = self.held.lock().unwrap();
        while *held == Some(call) {
            held = self.released.wait(held).unwrap();
        }
        self.calls.lock().unwrap().push(call);
        let mut failures = self.failures.lock().unwrap();
        let Some(at) = failures.iter().position(|(name, _, _)| *name == call) else { return Ok(()) };
        if failures[at].1 > 0 {
            failures[at].1 -= 1;
            return Ok(());
        }
        Err(failures.remove(at).2)
    }

    pub(super) fn fail(&self, call: &'static str, after: usize, error: Errno) {
        self.failures.lock().unwrap().push((call, after, error));
    }

    pub(super) fn hold(&self, call: &'static str) {
        *self.held.lock().unwrap() = Some(call);
    }

    pub(super) fn release(&self) {
        *self.held.lock().unwrap() = None;
        self.released.notify_all();
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.calls.lock().unwrap()
    }

    pub(super) fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|name| **name == call).count()
    }
}

impl Disk for Script {
    fn open_unnamed(&self, directory: BorrowedFd<'_>) -> IoResult<OwnedFd> {
        self.enter("open")?;
        if self.only_named { Err(Errno::OPNOTSUPP) } else { Kernel.open_unnamed(directory) }
    }
    fn open_named(&self, directory: BorrowedFd<'_>, name: &str) -> IoResult<OwnedFd> {
        self.enter("open named")?;
        Kernel.open_named(directory, name)
    }
    fn write(&self, file: BorrowedFd<'_>, bytes: &[u8]) -> IoResult<()> {
        assert_ne!(bytes, b"panic", "a test asked for it");
        self.enter("write")?;
        Kernel.write(file, bytes)
    }
    fn sync_file(&self, file: BorrowedFd<'_>) -> IoResult<()> {
        self.enter("sync file")?;
        Kernel.sync_file(file)
    }
    fn sync_filesystem(&self, descriptor: BorrowedFd<'_>) -> IoResult<()> {
        self.enter("sync filesystem")?;
        // A whole syncfs would wait for what other tests write.
        rustix::fs::fsync(descriptor)
    }
    fn link_unnamed(&self, file: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &str) -> IoResult<()> {
        self.enter("link")?;
        Kernel.link_unnamed(file, directory, name)
    }
    fn link_named(&self, from: BorrowedFd<'_>, temporary: &str, directory: BorrowedFd<'_>, name: &str) -> IoResult<()> {
        self.enter("link")?;
        Kernel.link_named(from, temporary, directory, name)
    }
    fn sync_directory(&self, directory: BorrowedFd<'_>) -> IoResult<()> {
        self.enter("sync directory")?;
        Kernel.sync_directory(directory)
    }
}

pub(super) struct Stage {
    pub(super) folder: tempfile::TempDir,
    pub(super) disk: Arc<Script>,
    pub(super) root: FileRoot,
    pub(super) sink: FileSink,
}

impl Stage {
    pub(super) fn new() -> Stage {
        Stage::with(Script::default())
    }

    pub(super) fn with(script: Script) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(script);
        let root = FileRoot::open_on(folder.path(), disk.clone()).unwrap();
        let sink = FileSink::new(&root, Path::new("team/invoices")).unwrap();
        Stage { folder, disk, root, sink }
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.folder.path().join("team/invoices")
    }

    /// Everything in the directory, by name without the extension.
    pub(super) fn seen(&self) -> BTreeMap<String, Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.directory()) else { return BTreeMap::new() };
        let entries = entries.map(|entry| entry.unwrap());
        entries
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| (entry.file_name().to_string_lossy().trim_end_matches(".eml").to_owned(), fs::read(entry.path()).unwrap()))
            .collect()
    }

    pub(super) fn hidden(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with('.')).collect()
    }
}
