//! Care after a process that ended without saying so: one of the messages it fetched may have done it. Each set is then recorded before it is
//! fetched, smaller each time, and a single message has its attempt counted before; so it is quarantined after three, and no other waits for it.
//! While nothing of the kind happens it costs one write at a session's end.

use jiff::Timestamp;
use tracing::warn;

use super::drain::{Failure, SetSize};
use super::held::Held;
use super::{CollectorId, CursorStore};
use crate::cursor::{Cursor, Ended, OwedReason, UidSet};

/// What is suspected, in which folder.
#[derive(Debug, Default)]
pub(super) struct Careful {
    folder: String,
    suspects: UidSet,
    /// The record was changed by what was found in it.
    changed: bool,
}

impl Careful {
    /// Reads from a record whether the process that wrote it ended in a fetch. What it was at is settled in the record.
    /// `badly`: the store knows it anyway.
    pub(super) fn after(cursor: &mut Cursor, badly: bool, now: Timestamp) -> Option<Self> {
        let mut careful = (std::mem::take(&mut cursor.draining) || badly).then(Self::default);
        for folder in cursor.folders_mut() {
            let ended = folder.ended(now);
            if ended == Ended::default() {
                continue;
            }
            for uid in ended.given_up {
                warn!(
                    folder = folder.name(),
                    uid, "quarantined: the process ended each time that it fetched this message; left untouched on the server"
                );
            }
            if !ended.set.is_empty() {
                warn!(
                    folder = folder.name(),
                    messages = ended.set.len(),
                    "the process ended while it fetched these messages; looking for the one that did it"
                );
            }
            careful = Some(Self { folder: folder.name().to_owned(), suspects: ended.set, changed: true });
        }
        careful
    }

    /// Before `set` is fetched from `folder`: what is recorded of it.
    pub(super) async fn before(
        held: &mut Held,
        folder: &str,
        set: &UidSet,
        store: &dyn CursorStore,
        id: &CollectorId,
    ) -> Result<(), Failure> {
        let alone = set.first().filter(|_| set.len() == 1);
        let state = held.cursor.folder_mut(folder);
        let suspected =
            |uid| state.owed().get(&uid).is_some_and(|owed| matches!(owed.reason, OwedReason::SessionFailed | OwedReason::ProcessEnded));
        match alone {
            Some(uid) if held.careful.is_some() || suspected(uid) => state.count(uid, Timestamp::now()),
            _ if held.careful.is_some() => state.try_set(set.clone()),
            _ => return Ok(()),
        }
        held.touch();
        held.save_in_pace(store, id).await?;
        Ok(())
    }

    /// After `set` was fetched, in whatever way that ended: the process lives.
    pub(super) fn behind(held: &mut Held, folder: &str, set: &UidSet) {
        let Some(careful) = &mut held.careful else { return };
        if careful.folder == folder {
            careful.suspects = careful.suspects.difference(set);
        }
        held.cursor.folder_mut(folder).try_set(UidSet::new());
        held.touch();
    }

    /// Attempts of which nothing came by no fault of the message: the sink deferred, the network broke.
    pub(super) fn uncount(held: &mut Held, folder: &str) {
        let folder = held.cursor.folder_mut(folder);
        let trying: Vec<u32> = folder.owed().values().filter(|owed| owed.trying).map(|owed| owed.uid).collect();
        if !trying.is_empty() {
            trying.into_iter().for_each(|uid| folder.uncount(uid));
            held.touch();
        }
    }

    /// Whether the set that ended the process is not yet fetched again: sets do not grow before.
    pub(super) fn searching(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Whether there is something to record at once.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// The size to begin with.
    pub(super) fn begin(&self, size: &mut SetSize) {
        size.careful(self.suspects.len());
    }
}
