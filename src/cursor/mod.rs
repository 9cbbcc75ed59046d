//! What is decided, owed, unsettled and quarantined in a mailbox, and what follows from a listing. Pure: no I/O, no clock.
//! It neither fetches nor stores: `collect` asks it what to do and tells it what came of it, a `CursorStore` keeps its JSON form.
//!
//! Why a set and not a highest UID: messages are taken newest first, sinks refuse single ones, and a FETCH answers OK without giving what was
//! asked for. Only a set can say of each UID whether it may be forgotten (law 1).

mod folder;
mod stored;
mod uid_set;

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod tests;

pub use folder::{Anchor, Baseline, Folder, GAP_LASTS, MAX_ANCHORS, MAX_CLAIMS, Numbering, Owe, Owed, OwedReason, Quarantined, YOUNG};
pub use uid_set::{MAX_TEXT, ParseError, UidSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Longest stored form of a cursor, in bytes of JSON (law 9).
pub const MAX_BYTES: usize = 256 * 1024;
/// Most ranges in one folder's decided set (law 9).
pub const MAX_RANGES: usize = 256;
/// Most ranges in one folder's unsettled set (law 9).
pub const MAX_UNSETTLED_RANGES: usize = 256;
/// Most owed messages in one cursor (law 9).
pub const MAX_OWED: usize = 2_000;
/// Most quarantined messages in one cursor (law 9).
pub const MAX_QUARANTINED: usize = 1_000;

/// Longest JSON form of one owed or quarantined message, in bytes; a test holds it against the longest values.
const ENTRY_BYTES: usize = 192;

/// Who holds a cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The installation.
    pub install: String,
    /// The pod or host.
    pub pod: String,
    /// Counts ownerships of this cursor.
    pub epoch: i64,
}

/// Everything remembered of one mailbox. Its JSON form is `MailboxCursor.spec`; what is kept in memory only (gaps seen once) neither stands
/// in it nor counts when two cursors are compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cursor {
    /// Last owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Client id of the last successful look: the worked-before rule of `diagnosis`; another client id resets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked_with: Option<String>,
    /// The request (`requestedAt`) whose replay, discard or resync is in this record already: each is acted upon once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
    /// Its process fetches, or ended without saying so: what it fetched may have done it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The sinks that `has` of a message speaks of; stands there only while there are several, or one is spoken of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sinks: Vec<String>,
    #[serde(default)]
    folders: Vec<Folder>,
}

/// Which bound stops the taking of new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// [`MAX_BYTES`]: one more owed message might not fit.
    #[error("the cursor has reached {MAX_BYTES} bytes")]
    Bytes,
    /// [`MAX_RANGES`] in a folder. Listings and the work of [`Folder::between`] lower the number.
    #[error("a folder's decided messages lie in more than {MAX_RANGES} ranges")]
    Ranges,
    /// [`MAX_UNSETTLED_RANGES`]: settling goes on.
    #[error("the messages delivered and still to be moved, marked or deleted lie in more than {MAX_UNSETTLED_RANGES} ranges")]
    Unsettled,
    /// [`MAX_OWED`]: retrying what is due goes on.
    #[error("{MAX_OWED} messages were listed and could not be fetched or delivered")]
    Owed,
    /// [`MAX_QUARANTINED`]: a person must replay or discard.
    #[error("{MAX_QUARANTINED} messages are quarantined")]
    Quarantined,
}

impl Cursor {
    /// Takes note of the sinks of the present order, at most 8: from now on, bit n of a `has` is the n-th of them. What was remembered of one
    /// that is no more is forgotten, so that a renamed or removed sink keeps nothing waiting; one that is new has nothing yet.
    pub fn serve(&mut self, sinks: &[&str]) {
        if self.sinks != sinks {
            let bit = |at: usize| 1_u8.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0);
            let to: Vec<u8> = self.sinks.iter().map(|old| sinks.iter().position(|new| new == old).map_or(0, bit)).collect();
            self.folders.iter_mut().for_each(|folder| folder.renumber_sinks(&to));
            self.sinks = sinks.iter().map(|&name| name.to_owned()).collect();
        }
        if sinks.len() <= 1 && !self.folders.iter().any(Folder::speaks_of_sinks) {
            self.sinks.clear();
        }
    }

    /// What is remembered of the folder `name`.
    pub fn folder(&self, name: &str) -> Option<&Folder> {
        self.folders.iter().find(|folder| folder.name() == name)
    }

    /// What is remembered of the folder `name`, nothing at first.
    pub fn folder_mut(&mut self, name: &str) -> &mut Folder {
        let at = self.folders.iter().position(|folder| folder.name() == name).unwrap_or_else(|| {
            self.folders.push(Folder::new(name));
            self.folders.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the position was found or made just above")]
        &mut self.folders[at]
    }

    /// Every folder remembered, to be changed.
    pub fn folders_mut(&mut self) -> impl Iterator<Item = &mut Folder> {
        self.folders.iter_mut()
    }

    /// Every folder remembered, in the order of their first use.
    pub fn folders(&self) -> impl Iterator<Item = &Folder> {
        self.folders.iter()
    }

    /// Which bound of law 9 is reached, if any. While one is, take no new work: nothing may be listed as fetched that the record could not
    /// hold if it failed. Listings, and retries of what is owed and due, go on, for they make the cursor smaller.
    pub fn full(&self) -> Option<Full> {
        if self.quarantined() >= MAX_QUARANTINED {
            Some(Full::Quarantined)
        } else if self.owed() >= MAX_OWED {
            Some(Full::Owed)
        } else if self.folders.iter().any(|folder| folder.unsettled().range_count() >= MAX_UNSETTLED_RANGES) {
            Some(Full::Unsettled)
        } else if self.folders.iter().any(|folder| folder.decided().range_count() >= MAX_RANGES) {
            Some(Full::Ranges)
        } else if self.stored_bytes().saturating_add(ENTRY_BYTES) > MAX_BYTES {
            Some(Full::Bytes)
        } else {
            None
        }
    }

    /// How many new messages may be taken at most, so that the bounds hold even if every one of them fails. 0 exactly when
    /// [`Cursor::full`] names a bound.
    pub fn room(&self) -> usize {
        match self.full() {
            Some(_) => 0,
            None => (MAX_BYTES.saturating_sub(self.stored_bytes()) / ENTRY_BYTES)
                .min(MAX_OWED.saturating_sub(self.owed()))
                .min(MAX_QUARANTINED.saturating_sub(self.quarantined())),
        }
    }

    /// Messages quarantined, in all folders.
    pub fn quarantined(&self) -> usize {
        self.folders.iter().map(|folder| folder.quarantined().len()).sum()
    }

    /// Messages that a sink refused and that are owed still, or were given up within the last day.
    pub fn refused_of_late(&self, now: Timestamp) -> usize {
        let day = SignedDuration::from_hours(24);
        let recent = |time: Timestamp| now.duration_since(time) < day;
        let owed = self.folders.iter().flat_map(|folder| folder.owed().values()).filter(|owed| owed.reason == OwedReason::Rejected);
        let given_up = self.folders.iter().flat_map(Folder::quarantined);
        owed.count() + given_up.filter(|one| one.reason == OwedReason::Rejected && recent(one.time)).count()
    }

    /// Messages owed, in all folders.
    pub fn owed(&self) -> usize {
        self.folders.iter().map(|folder| folder.owed().len()).sum()
    }

    /// The length of the stored form, in bytes of JSON.
    pub fn stored_bytes(&self) -> usize {
        let mut counted = Counted(0);
        match serde_json::to_writer(&mut counted, self) {
            Ok(()) => counted.0,
            // Nothing here can fail to be written; if it ever did, nothing more must be taken.
            Err(_) => usize::MAX,
        }
    }
}

/// Counts what is written instead of keeping it.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
