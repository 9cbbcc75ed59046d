//! Which messages to fetch next: new mail in order, then what is owed and due, then the backlog, newest first. It fetches no body.

use jiff::Timestamp;

use super::drain::{Failure, Held, Pass};
use super::screen;
use super::view::View;
use crate::cursor::{self, Folder, UidSet};
use crate::source::Source;

/// Longest text of a fetch set (RFC 7162 section 4 advises 8,192 bytes a command line).
const SET_TEXT: usize = 8_000;

impl Pass<'_> {
    /// The set after `set`, to be asked for ahead: from the same work, where nothing needs to be asked of the server before.
    pub(super) fn next(&self, view: &View, held: &Held, set: &UidSet) -> Option<UidSet> {
        if !self.size.goes_ahead() || self.order.selection.asks_for_headers() || held.cursor.full().is_some() {
            return None;
        }
        let rest = view.todo.difference(set);
        let room = (held.cursor.room() as u64).saturating_sub(set.len());
        let folder = held.cursor.folder(&view.name)?;
        if room == 0 || !folder.due(Timestamp::now()).is_empty() {
            return None;
        }
        let size = self.size.next().min(room);
        let mut fresh = rest.clone();
        fresh.remove_range(0, baseline(folder).saturating_sub(1));
        let next = if fresh.is_empty() { rest.take_highest(size) } else { fresh.take_lowest(size) };
        (!next.is_empty()).then(|| fit(next))
    }

    /// Of the next fetch set, what its headers select, at most as many as a set may hold; what they do not is decided. `None`: nothing of it.
    pub(super) async fn select<S: Source>(
        &mut self,
        session: &mut S,
        set: UidSet,
        view: &mut View,
        held: &mut Held,
    ) -> Result<Option<UidSet>, Failure> {
        if !self.order.selection.asks_for_headers() {
            return Ok(Some(set));
        }
        // Owed ones were selected when they were first fetched.
        let unknown = set.intersection(&view.todo).difference(&view.chosen);
        let others = screen::not_selected(session, &unknown, &self.order.selection).await?;
        held.decide(&view.name, &others);
        view.todo = view.todo.difference(&others);
        view.chosen = view.chosen.intersection(&view.todo).union(&unknown.difference(&others));
        let set = set.difference(&others);
        let size = self.size.next();
        let fresh = set.first() >= held.cursor.folder(&view.name).map(baseline);
        Ok((!set.is_empty()).then(|| match set.len() > size {
            true if fresh => set.take_lowest(size),
            true => set.take_highest(size),
            false => set,
        }))
    }

    /// The next fetch set: new mail in order, then what is owed and due (each alone), then the backlog, newest first.
    pub(super) async fn pick<S: Source>(
        &mut self,
        session: &mut S,
        view: &mut View,
        held: &mut Held,
        tried: &UidSet,
    ) -> Result<Option<UidSet>, Failure> {
        let now = Timestamp::now();
        let (full, room) = (held.cursor.full(), held.cursor.room() as u64);
        let mut size = self.size.next().min(room);
        if self.order.selection.asks_for_headers() {
            // Most of them may not be selected.
            size = size.max(screen::AT_ONCE.min(room));
        }
        let folder = held.cursor.folder_mut(&view.name);
        let mut fresh = view.todo.clone();
        fresh.remove_range(0, baseline(folder).saturating_sub(1));
        if !fresh.is_empty() && full.is_none() {
            return Ok(Some(fit(fresh.take_lowest(size))));
        }
        while let Some(uid) = folder.due(now).difference(tried).first() {
            let listed = session.list(uid, uid).await?;
            if listed.is_empty() {
                folder.decide(&UidSet::from_range(uid, uid));
                held.dirty = true;
                continue;
            }
            return Ok(Some(listed));
        }
        let backlog = match full {
            None => view.todo.take_highest(size),
            // What lies between closes gaps, so that the ranges become fewer.
            Some(cursor::Full::Ranges) => folder.between(&view.todo).take_highest(self.size.next()),
            Some(_) => UidSet::new(),
        };
        match full {
            Some(full) if backlog.is_empty() && !view.todo.is_empty() => Err(Failure::Full(full)),
            _ => Ok(if backlog.is_empty() { None } else { Some(fit(backlog)) }),
        }
    }
}

/// UIDs from there on came after the folder was first met.
fn baseline(folder: &Folder) -> u32 {
    folder.baseline().and_then(|baseline| baseline.uid_next).unwrap_or(1)
}

/// As many of the set as a command line takes.
fn fit(mut set: UidSet) -> UidSet {
    while set.to_string().len() > SET_TEXT {
        set = set.take_lowest(set.len() / 2);
    }
    set
}
