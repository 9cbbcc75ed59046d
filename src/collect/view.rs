//! A folder as one session knows it: what was listed, what was not yet, and what is to be done. Lists, and tells the cursor what a listing
//! means; fetches nothing.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::held::Held;
use super::{Collector, named, numbering, screen};
use crate::cursor::{Folder, Numbering, UidSet};
use crate::source::{self, Opened, Source};

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
    /// Fetched in this pass: the sinks' answers may be on their way, so that a listing must not take them for work.
    pub flying: UidSet,
    /// Of the work, the ones that their header is known to select.
    pub chosen: UidSet,
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
    /// Messages have names (POP3).
    pub named: bool,
    /// Messages listed that the cursor has no room to number.
    pub left_out: u64,
}

impl View {
    fn new(name: &str, uid_validity: u32, unlisted: UidSet, top: u32, window: u32) -> Self {
        Self {
            name: name.to_owned(),
            uid_validity,
            todo: UidSet::new(),
            flying: UidSet::new(),
            chosen: UidSet::new(),
            unlisted,
            top,
            window,
            own: None,
            surveyed: None,
            named: false,
            left_out: 0,
        }
    }

    /// The folder that was just opened: tells the cursor of its numbering, and lists.
    pub(super) async fn opened<S: Source>(
        session: &mut S,
        name: &str,
        opened: &Opened,
        held: &mut Held,
        order: &Collector,
        now: Timestamp,
    ) -> Result<Self, source::Error> {
        if session.names().is_some() {
            let mut view = Self::new(name, opened.uid_validity, UidSet::new(), 0, u32::MAX);
            named::open(session, &mut view, held, &order.mailbox, now).await?;
            return Ok(view);
        }
        numbering::settle(session, name, opened, held, order, now).await?;
        let folder = held.cursor.folder_mut(name);
        let top = opened.uid_next.map_or(0, |next| next.saturating_sub(1));
        let unlisted = folder.undecided(top);
        let window = if opened.exists <= WINDOW { u32::MAX } else { WINDOW };
        let mut view = Self::new(name, opened.uid_validity, unlisted, top, window);
        // Opening tells what is new, so that the first listing may go to what was there before; together they are a look. Each message has a
        // UID below UIDNEXT: one that leaves too few for those that exist is no more believed than none.
        if opened.uid_next.is_none_or(|next| next <= opened.exists) {
            view.list_new(session, held, order, now).await?;
        } else {
            view.list_next(session, held, order, now).await?;
        }
        Ok(view)
    }

    /// The folder was opened again: goes on where it was, or anew where the server has renumbered it.
    pub(super) async fn reopened<S: Source>(
        &mut self,
        session: &mut S,
        opened: &Opened,
        held: &mut Held,
        order: &Collector,
        now: Timestamp,
    ) -> Result<(), source::Error> {
        let doubtful = opened.uid_validity != self.uid_validity
            || held.cursor.folder_mut(&self.name).opened(opened.uid_validity, opened.uid_next, now) != Numbering::Same;
        if doubtful {
            *self = Self::opened(session, &self.name, opened, held, order, now).await?;
            return Ok(());
        }
        self.list_new(session, held, order, now).await
    }

    /// Lists what the server has got since the last look, and the young gaps again. Where messages have names, a session shows what was there
    /// when it began and no more.
    pub(super) async fn look<S: Source>(
        &mut self,
        session: &mut S,
        held: &mut Held,
        order: &Collector,
        now: Timestamp,
    ) -> Result<(), source::Error> {
        if self.named { Ok(()) } else { self.list_new(session, held, order, now).await }
    }

    async fn list_new<S: Source>(
        &mut self,
        session: &mut S,
        held: &mut Held,
        order: &Collector,
        now: Timestamp,
    ) -> Result<(), source::Error> {
        let folder = held.cursor.folder_mut(&self.name);
        let gaps = folder.undecided(self.top).difference(&self.todo).difference(&self.unlisted).difference(&self.flying);
        let low = gaps.first().unwrap_or(self.top.saturating_add(1)).max(1);
        let listed = session.list(low, u32::MAX).await?;
        self.top = self.top.max(listed.last().unwrap_or(0));
        let found = folder.listed(low, u32::MAX, &listed, now);
        self.take(session, found, held, order, now).await
    }

    /// Lists the next window of what was there before, newest first.
    pub(super) async fn list_next<S: Source>(
        &mut self,
        session: &mut S,
        held: &mut Held,
        order: &Collector,
        now: Timestamp,
    ) -> Result<(), source::Error> {
        let (Some(lowest), Some(high)) = (self.unlisted.first(), self.unlisted.last()) else { return Ok(()) };
        let low = lowest.max(high.saturating_sub(self.window - 1));
        // The first window reaches up to what arrived since the folder was opened.
        let high = if high == self.top { u32::MAX } else { high };
        let listed = session.list(low, high).await?;
        self.top = self.top.max(listed.last().unwrap_or(0));
        let folder = held.cursor.folder_mut(&self.name);
        let found = folder.listed(low, high, &listed, now);
        self.take(session, found, held, order, now).await?;
        self.unlisted.remove_range(low, high);
        // Sparse numbers are crossed in longer strides; one result stays within what a search may bring.
        if self.window < u32::MAX {
            let sparse = listed.len() < u64::from(WINDOW) / 4;
            self.window = if sparse { self.window.saturating_mul(2).min(WIDEST) } else { WINDOW };
        }
        Ok(())
    }

    /// Puts what was found to the work, but for what is too old for the order: that is decided.
    async fn take<S: Source>(
        &mut self,
        session: &mut S,
        found: UidSet,
        held: &mut Held,
        order: &Collector,
        now: Timestamp,
    ) -> Result<(), source::Error> {
        let mut found = found.difference(&self.todo).difference(&self.flying);
        if !found.is_empty()
            && let Some(since) = order.selection.since(held.first_seen(now), now)
        {
            let old = screen::too_old(session, &found, since).await?;
            held.decide(&self.name, &old);
            found = found.difference(&old);
        }
        self.todo = self.todo.union(&found);
        Ok(())
    }

    /// What is listed and not yet decided, and what is owed.
    pub(super) fn pending(&self, held: &Held) -> u64 {
        self.todo.len() + self.left_out + held.cursor.folder(&self.name).map_or(0, |folder| folder.owed().len() as u64)
    }

    /// When an owed message or a young gap wants another try.
    pub(super) fn next_due(&self, held: &Held) -> Option<Timestamp> {
        held.cursor.folder(&self.name).and_then(Folder::next_due)
    }
}
