//! A folder as one session knows it: what was listed, what was not yet, and what is to be done. Lists, and tells the cursor what a listing
//! means; fetches nothing.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use tracing::warn;

use super::drain::Held;
use crate::cursor::{Folder, Numbering, UidSet};
use crate::source::{self, Access, Source};

/// Widest window: as many numbers as one search result may hold.
const WIDEST: u32 = 320_000;
/// Width of a listing window in UIDs at first; a folder with no more messages than this is listed at once.
const WINDOW: u32 = 20_000;
/// A folder as one session knows it.
#[derive(Debug)]
pub(super) struct View {
    pub name: String,
    pub uid_validity: u32,
    /// Listed, neither decided nor owed: the work.
    pub todo: UidSet,
    /// Not yet listed in this session.
    pub unlisted: UidSet,
    /// The highest UID known of.
    pub top: u32,
    /// Width of the next listing window.
    window: u32,
    /// Placements of this numbering, see [`Reconcile::own`]; made once a session.
    pub own: Option<Arc<HashSet<[u8; 8]>>>,
    /// Whether the sink holds messages of an older numbering; looked up once a session.
    pub surveyed: Option<bool>,
}

impl View {
    /// Opens the folder and tells the cursor of its numbering.
    pub(super) async fn open<S: Source>(
        session: &mut S,
        name: &str,
        access: Access,
        held: &mut Held,
        now: Timestamp,
    ) -> Result<Self, source::Error> {
        let opened = session.open(name, access).await?;
        let folder = held.cursor.folder_mut(name);
        if folder.opened(opened.uid_validity, opened.uid_next, now) == Numbering::Renumbered {
            warn!(
                folder = name,
                uid_validity = opened.uid_validity,
                "the server has renumbered the folder: comparing with what was delivered"
            );
        }
        let top = opened.uid_next.map_or(0, |next| next.saturating_sub(1));
        let unlisted = folder.undecided(top);
        let window = if opened.exists <= WINDOW { u32::MAX } else { WINDOW };
        let (name, uid_validity) = (name.to_owned(), opened.uid_validity);
        let mut view = Self { name, uid_validity, todo: UidSet::new(), unlisted, top, window, own: None, surveyed: None };
        // Opening tells what is new, so that the first listing may go to what was there before; together they are a look. Each message has a
        // UID below UIDNEXT: one that leaves too few for those that exist is no more believed than none.
        if opened.uid_next.is_none_or(|next| next <= opened.exists) {
            view.list_new(session, held, now).await?;
        } else {
            view.list_next(session, held, now).await?;
        }
        Ok(view)
    }

    /// Lists what the server has got since the last look, and the young gaps again.
    pub(super) async fn look<S: Source>(&mut self, session: &mut S, held: &mut Held, now: Timestamp) -> Result<(), source::Error> {
        self.list_new(session, held, now).await
    }

    async fn list_new<S: Source>(&mut self, session: &mut S, held: &mut Held, now: Timestamp) -> Result<(), source::Error> {
        let folder = held.cursor.folder_mut(&self.name);
        let gaps = folder.undecided(self.top).difference(&self.todo).difference(&self.unlisted);
        let low = gaps.first().unwrap_or(self.top.saturating_add(1)).max(1);
        let listed = session.list(low, u32::MAX).await?;
        self.top = self.top.max(listed.last().unwrap_or(0));
        self.todo = self.todo.union(&folder.listed(low, u32::MAX, &listed, now));
        Ok(())
    }

    /// Lists the next window of what was there before, newest first.
    pub(super) async fn list_next<S: Source>(&mut self, session: &mut S, held: &mut Held, now: Timestamp) -> Result<(), source::Error> {
        let (Some(lowest), Some(high)) = (self.unlisted.first(), self.unlisted.last()) else { return Ok(()) };
        let low = lowest.max(high.saturating_sub(self.window - 1));
        // The first window reaches up to what arrived since the folder was opened.
        let high = if high == self.top { u32::MAX } else { high };
        let listed = session.list(low, high).await?;
        self.top = self.top.max(listed.last().unwrap_or(0));
        let folder = held.cursor.folder_mut(&self.name);
        self.todo = self.todo.union(&folder.listed(low, high, &listed, now));
        self.unlisted.remove_range(low, high);
        // Sparse numbers are crossed in longer strides; one result stays within what a search may bring.
        if self.window < u32::MAX {
            let sparse = listed.len() < u64::from(WINDOW) / 4;
            self.window = if sparse { self.window.saturating_mul(2).min(WIDEST) } else { WINDOW };
        }
        Ok(())
    }

    /// What is listed and not yet decided, and what is owed.
    pub(super) fn pending(&self, held: &Held) -> u64 {
        self.todo.len() + held.cursor.folder(&self.name).map_or(0, |folder| folder.owed().len() as u64)
    }

    /// When an owed message or a young gap wants another try.
    pub(super) fn next_due(&self, held: &Held) -> Option<Timestamp> {
        held.cursor.folder(&self.name).and_then(Folder::next_due)
    }
}
