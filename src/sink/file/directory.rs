//! Directories below the file sink's root: opened component by component without following links, created when missing, and what their
//! filesystem can do. It keeps nothing open between batches, so a directory that was replaced meanwhile is noticed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use super::disk::Disk;
use crate::sink::Error;

const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o750);
const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Filesystems where one syncfs makes many new files durable (ext2/3/4, XFS, Btrfs; linux/magic.h).
const SYNCED_AS_A_WHOLE: [u32; 3] = [0xEF53, 0x5846_5342, 0x9123_683E];

/// Beginning of the names of files under way, where files without a name are not to be had.
const TEMPORARY_PREFIX: &str = ".mailbox-collector.tmp-";
/// A temporary of another process that was not written for so long was left by one that died.
const STALE_AFTER: Duration = Duration::from_secs(60 * 60);

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    /// Below the root; empty for the root itself.
    pub(super) path: Arc<Path>,
    pub(super) descriptor: OwnedFd,
    /// Tells filesystems apart.
    pub(super) device: u64,
    /// One syncfs serves for many files.
    pub(super) synced_as_a_whole: bool,
    /// Files without a name were refused here.
    named: AtomicBool,
}

/// Whether a missing directory is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    Create,
    Refuse,
}

impl Directory {
    /// Opens `path` below `root` in one call; `None` where that is not possible (it is missing, or the kernel lacks openat2).
    pub(super) fn open_known(root: BorrowedFd<'_>, path: &Arc<Path>) -> Result<Option<Directory>, Error> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match fs::openat2(root, &**path, DIRECTORY_FLAGS, Mode::empty(), resolve) {
            Ok(descriptor) => Directory::from_descriptor(path.clone(), descriptor).map(Some),
            // A container's seccomp filter may answer EPERM to a call it does not know.
            Err(Errno::NOENT | Errno::NOSYS | Errno::PERM) => Ok(None),
            Err(error) => Err(open_error(path, error)),
        }
    }

    /// Opens `path` below `root` and returns with it the directories on the way, the root first: their entries must be durable too.
    pub(super) fn walk(root: BorrowedFd<'_>, path: &Arc<Path>, missing: Missing) -> Result<(Directory, Vec<Directory>), Error> {
        let descriptor = fs::openat(root, c".", DIRECTORY_FLAGS, Mode::empty()).map_err(|error| open_error(path, error))?;
        let mut here = Directory::from_descriptor(Arc::from(Path::new("")), descriptor)?;
        let mut above = Vec::new();
        for component in path.components() {
            let Component::Normal(component) = component else { return Err(not_a_directory(path)) };
            let below: Arc<Path> = here.path.join(component).into();
            let open = || fs::openat(&here.descriptor, component, DIRECTORY_FLAGS, Mode::empty());
            let opened = match open() {
                Err(Errno::NOENT) if missing == Missing::Create => match fs::mkdirat(&here.descriptor, component, DIRECTORY_MODE) {
                    Ok(()) | Err(Errno::EXIST) => open(),
                    Err(error) => return Err(io_error("create", &below, error)),
                },
                other => other,
            };
            let next = Directory::from_descriptor(below.clone(), opened.map_err(|error| open_error(&below, error))?)?;
            above.push(std::mem::replace(&mut here, next));
        }
        Ok((here, above))
    }

    fn from_descriptor(path: Arc<Path>, descriptor: OwnedFd) -> Result<Directory, Error> {
        let device = fs::fstat(&descriptor).map_err(|error| io_error("examine", &path, error))?.st_dev;
        let filesystem = fs::fstatfs(&descriptor).map_err(|error| io_error("examine", &path, error))?;
        // The magic's type and sign differ between architectures; its bits do not.
        let synced_as_a_whole = SYNCED_AS_A_WHOLE.contains(&(filesystem.f_type as u32));
        Ok(Directory { path, descriptor, device, synced_as_a_whole, named: AtomicBool::new(false) })
    }

    /// A new file that nobody sees.
    pub(super) fn hide(self: &Arc<Directory>, disk: &dyn Disk) -> Result<Hidden, Error> {
        if !self.named.load(Ordering::Relaxed) {
            match disk.open_unnamed(self.descriptor.as_fd()) {
                Ok(file) => return Ok(Hidden { file, temporary: None }),
                // open(2): EISDIR and ENOENT from kernels, EINVAL from network filesystems that do not know the flag.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
                    self.named.store(true, Ordering::Relaxed);
                    self.sweep();
                }
                Err(error) => return Err(io_error("create a file in", &self.path, error)),
            }
        }
        let name = temporary_name();
        let file = disk.open_named(self.descriptor.as_fd(), &name).map_err(|error| io_error("create a file in", &self.path, error))?;
        Ok(Hidden { file, temporary: Some(Box::new(Temporary { directory: self.clone(), name })) })
    }

    /// Whether there is room for anything. Filesystems without a fixed number of files say 0 of 0.
    pub(super) fn check_space(&self) -> Result<(), Error> {
        let space = fs::fstatvfs(&self.descriptor).map_err(|error| io_error("examine", &self.path, error))?;
        if space.f_blocks > 0 && space.f_bavail == 0 || space.f_files > 0 && space.f_favail == 0 {
            return Err(io_error("find room in", &self.path, Errno::NOSPC));
        }
        Ok(())
    }

    /// Calls `see` with each entry's name.
    pub(super) fn for_each_name(&self, mut see: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut buffer = [MaybeUninit::uninit(); 32 << 10];
        let mut entries = RawDir::new(&self.descriptor, &mut buffer);
        while let Some(entry) = entries.next() {
            see(entry.map_err(|error| io_error("list", &self.path, error))?.file_name().to_bytes())?;
        }
        Ok(())
    }

    /// Removes temporaries that a process left when it died. What cannot be removed does no harm but its space.
    fn sweep(&self) {
        let own = process_prefix();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut stale = Vec::new();
        let listed = self.for_each_name(|name| {
            if name.starts_with(TEMPORARY_PREFIX.as_bytes()) && !name.starts_with(own.as_bytes()) && stale.len() < 10_000 {
                stale.push(name.to_vec());
            }
            Ok(())
        });
        if let Err(error) = listed {
            tracing::debug!(%error, "stale temporary files not listed");
        }
        for name in stale {
            let written =
                fs::statat(&self.descriptor, &name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Duration::from_secs(stat.st_mtime.max(0) as u64));
            if written.is_ok_and(|written| now.saturating_sub(written) > STALE_AFTER)
                && let Err(error) = fs::unlinkat(&self.descriptor, &name, AtFlags::empty())
            {
                tracing::debug!(%error, "stale temporary file not removed");
            }
        }
    }
}

/// A file that nobody sees yet. Dropping it leaves nothing.
#[derive(Debug)]
pub(super) struct Hidden {
    pub(super) file: OwnedFd,
    temporary: Option<Box<Temporary>>,
}

impl Hidden {
    /// Gives the file its name. `Errno::EXIST` when something has it.
    pub(super) fn link(&self, disk: &dyn Disk, directory: &Directory, name: &str) -> rustix::io::Result<()> {
        match &self.temporary {
            None => disk.link_unnamed(self.file.as_fd(), directory.descriptor.as_fd(), name),
            Some(temporary) => disk.link_named(temporary.directory.descriptor.as_fd(), &temporary.name, directory.descriptor.as_fd(), name),
        }
    }
}

#[derive(Debug)]
struct Temporary {
    directory: Arc<Directory>,
    name: String,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs::unlinkat(&self.directory.descriptor, self.name.as_str(), AtFlags::empty()) {
            // Renamed, where there are no hard links.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::debug!(%error, "temporary file not removed"),
        }
    }
}

fn process_prefix() -> &'static str {
    static PREFIX: LazyLock<String> =
        LazyLock::new(|| format!("{TEMPORARY_PREFIX}{:016x}-", RandomState::new().hash_one(std::process::id())));
    &PREFIX
}

fn temporary_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{}{:x}", process_prefix(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Whether `path` is relative and has plain components only, as a sink's directory must.
pub(super) fn check_relative(path: &Path) -> Result<(), Error> {
    let plain = path.components().all(|component| matches!(component, Component::Normal(_)));
    // `components` passes over `a/./b`, `a//b` and a slash at the end, which are harmless.
    if plain && path.components().next().is_some() { Ok(()) } else { Err(not_a_directory(path)) }
}

pub(super) fn not_a_directory(path: &Path) -> Error {
    Error::NotADirectory { path: path.to_string_lossy().into_owned() }
}

pub(super) fn io_error(operation: &'static str, path: &Path, error: Errno) -> Error {
    Error::Io { operation, path: path.to_string_lossy().into_owned(), source: error.into() }
}

fn open_error(path: &Path, error: Errno) -> Error {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => not_a_directory(path),
        other => io_error("open", path, other),
    }
}
