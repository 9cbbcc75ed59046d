//! The system calls that the file sink's promise rests on, one method each, so that tests can record their order and make one fail.
//! It decides nothing: no retry, no fallback beyond two ways of asking the kernel for the same thing.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, Result};

/// What only owner and group may read: mail.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);

/// The calls. The default bodies are the real ones.
pub(super) trait Disk: Send + Sync + 'static {
    /// A file without a name in `directory` (O_TMPFILE).
    fn open_unnamed(&self, directory: BorrowedFd<'_>) -> Result<OwnedFd> {
        fs::openat(directory, c".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, FILE_MODE)
    }

    /// A new file with a name.
    fn open_named(&self, directory: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        fs::openat(directory, name, flags, FILE_MODE)
    }

    /// Appends all of `bytes`.
    fn write(&self, file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(file, bytes) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// fdatasync: the bytes and what is needed to read them.
    fn sync_file(&self, file: BorrowedFd<'_>) -> Result<()> {
        fs::fdatasync(file)
    }

    /// syncfs: everything on the filesystem; reports write-back errors since `descriptor` was opened (Linux 5.8).
    fn sync_filesystem(&self, descriptor: BorrowedFd<'_>) -> Result<()> {
        fs::syncfs(descriptor)
    }

    /// Gives a file without a name its name. `Errno::EXIST` when something has it.
    fn link_unnamed(&self, file: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &str) -> Result<()> {
        // Linux 6.10 lets the opener do this without CAP_DAC_READ_SEARCH; before, it answers ENOENT and /proc is the way (open(2), O_TMPFILE).
        match fs::linkat(file, c"", directory, name, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT) => {
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                fs::linkat(fs::CWD, path.as_str(), directory, name, AtFlags::SYMLINK_FOLLOW)
            }
            other => other,
        }
    }

    /// Gives a file with a temporary name its second name, or, where the filesystem has no hard links, its new one.
    fn link_named(&self, from: BorrowedFd<'_>, temporary: &str, directory: BorrowedFd<'_>, name: &str) -> Result<()> {
        match fs::linkat(from, temporary, directory, name, AtFlags::empty()) {
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                fs::renameat_with(from, temporary, directory, name, RenameFlags::NOREPLACE)
            }
            other => other,
        }
    }

    /// fsync of a directory: its entries.
    fn sync_directory(&self, directory: BorrowedFd<'_>) -> Result<()> {
        fs::fsync(directory)
    }
}

/// The machine's own.
#[derive(Debug)]
pub(super) struct Kernel;

impl Disk for Kernel {}
