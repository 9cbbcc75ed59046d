//! What lies in a sink's directory, for reconciling: names by fingerprint, and comparing bytes. It changes nothing. Blocking; callers keep
//! it off the async threads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::directory::{Directory, Missing, io_error};
use super::writer::PartFile;
use super::{EXTENSION, file_name};
use crate::sink::{Error, Identity, Spooled};

/// Names kept: 16 bytes each. Beyond, the survey is refused.
const SURVEY_LIMIT: usize = 1_000_000;
const COMPARE_BYTES: usize = 64 << 10;

/// The names in a directory at one time, sorted.
#[derive(Debug, Default)]
pub(super) struct Survey {
    names: Vec<Identity>,
}

impl Survey {
    /// Lists the directory; one that is missing is empty.
    pub(super) fn take(root: BorrowedFd<'_>, path: &Arc<Path>) -> Result<Survey, Error> {
        let Some(directory) = open(root, path)? else { return Ok(Survey::default()) };
        let mut names = Vec::new();
        directory.for_each_name(|name| {
            if let Some(identity) = name.strip_suffix(EXTENSION.as_bytes()).and_then(Identity::parse) {
                if names.len() == SURVEY_LIMIT {
                    return Err(Error::SurveyTooLarge { path: path.to_string_lossy().into_owned(), limit: SURVEY_LIMIT });
                }
                names.push(identity);
            }
            Ok(())
        })?;
        names.sort_unstable();
        Ok(Survey { names })
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The names with this fingerprint.
    pub(super) fn candidates(&self, fingerprint: [u8; 8]) -> &[Identity] {
        let from = self.names.partition_point(|name| name.fingerprint < fingerprint);
        let rest = self.names.get(from..).unwrap_or_default();
        rest.get(..rest.partition_point(|name| name.fingerprint == fingerprint)).unwrap_or_default()
    }
}

/// The bytes that candidates are compared with.
pub(super) enum Original {
    Memory(Bytes),
    Part(Arc<PartFile>),
    Spooled(Spooled),
}

/// The placement halves of those `candidates` in `path` whose bytes are those of `original`.
pub(super) fn identical(
    root: BorrowedFd<'_>,
    path: &Arc<Path>,
    candidates: &[Identity],
    original: &Original,
) -> Result<Vec<[u8; 8]>, Error> {
    let Some(directory) = open(root, path)? else { return Ok(Vec::new()) };
    let fault = |error| io_error("compare files in", path, error);
    let mut same = Vec::new();
    for candidate in candidates {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match fs::openat(&directory.descriptor, file_name(candidate).as_str(), flags, Mode::empty()) {
            Ok(file) => {
                if compare(&file, original).map_err(fault)? {
                    same.push(candidate.placement);
                }
            }
            // Taken away since, or a link that is none of ours.
            Err(Errno::NOENT | Errno::LOOP) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(same)
}

fn open(root: BorrowedFd<'_>, path: &Arc<Path>) -> Result<Option<Directory>, Error> {
    match Directory::walk(root, path, Missing::Refuse) {
        Ok((directory, _)) => Ok(Some(directory)),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn compare(file: &OwnedFd, original: &Original) -> rustix::io::Result<bool> {
    let stat = fs::fstat(file)?;
    let length = match original {
        Original::Memory(bytes) => bytes.len() as u64,
        Original::Part(part) => fs::fstat(&part.hidden.file)?.st_size as u64,
        Original::Spooled(spooled) => spooled.length(),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size as u64 != length {
        return Ok(false);
    }
    let mut theirs = vec![0; COMPARE_BYTES];
    let mut ours = Vec::new();
    let mut at = 0;
    loop {
        let read = read_at(file.as_fd(), &mut theirs, at)?;
        let theirs = theirs.get(..read).unwrap_or_default();
        let same = match original {
            Original::Memory(bytes) => bytes.get(at as usize..at as usize + read) == Some(theirs),
            Original::Part(part) => {
                ours.resize(COMPARE_BYTES, 0);
                let read = read_at(part.hidden.file.as_fd(), &mut ours, at)?;
                ours.get(..read) == Some(theirs)
            }
            Original::Spooled(spooled) => {
                ours.resize(COMPARE_BYTES, 0);
                let read = spooled.read_blocking(at, &mut ours).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
                ours.get(..read) == Some(theirs)
            }
        };
        if !same {
            return Ok(false);
        }
        at += read as u64;
        if read == 0 {
            // A file that shrank meanwhile is not the same.
            return Ok(at == length);
        }
    }
}

/// Fills `buffer` from `offset` on, as far as the file goes.
fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
