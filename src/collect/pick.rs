//! Which messages to fetch next: new mail in order, then what is owed and due, then the backlog, newest first. It fetches no body.

use jiff::Timestamp;

use super::drain::{Failure, Pass};
use super::held::Held;
use super::screen;
use super::view::View;
use crate::cursor::{self, Folder, UidSet};
use crate::source::Source;

/// Longest text of a fetch set (RFC 7162 section 4 advises 8,192 bytes a command line).
const SET_TEXT: usize = 8_000;
/// Widest window in which deferred messages are looked for together.
const DEFERRED_WINDOW: u32 = 20_000;
/// Fewer deferred messages than this may all be such as a sink refuses for what they are.
const DEFERRED_FEW: u64 = 128;

impl Pass<'_> {
    /// The set after `set`, to be asked for ahead: from the same work, where nothing needs to be asked of the server before.
    pub(super) fn next(&self, view: &View, held: &Held, set: &UidSet, unanswered: u64) -> Option<UidSet> {
        if !self.size.goes_ahead() || self.fan.refuses() || self.order.selection.asks_for_headers() || held.cursor.full().is_some() {
            return None;
        }
        let rest = view.todo.difference(set);
        let room = (held.cursor.room() as u64).saturating_sub(unanswered.saturating_add(set.len()));
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

    /// The next fetch set: what some sinks have and others do not yet, then new mail in order, then what is owed and due (each alone), then the
    /// backlog, newest first. `unanswered` messages may come back owed.
    pub(super) async fn pick<S: Source>(
        &mut self,
        session: &mut S,
        view: &mut View,
        held: &mut Held,
        tried: &UidSet,
        unanswered: u64,
    ) -> Result<Option<UidSet>, Failure> {
        let now = Timestamp::now();
        let (full, room) = (held.cursor.full(), (held.cursor.room() as u64).saturating_sub(unanswered));
        // 1 where the room is taken by messages that may yet be accepted: their answers come first, for a drain has few in flight.
        let mut size = self.size.next();
        if self.order.selection.asks_for_headers() {
            // Most of them may not be selected.
            size = size.max(screen::AT_ONCE);
        }
        let size = size.min(room.max(u64::from(full.is_none())));
        let refuses = self.fan.refuses();
        let folder = held.cursor.folder_mut(&view.name);
        if refuses && let Some(suspect) = due(session, folder, view.named, tried, now, &mut held.dirty).await? {
            return Ok(Some(suspect));
        }
        let waiting = folder.deferred().len();
        if let Some(set) = deferred(session, folder, view.named, tried, self.size.next(), &mut held.dirty).await? {
            // Where a sink refuses message after message, another one shows whether these few are to blame.
            let probe = if refuses && tried.is_empty() && waiting < DEFERRED_FEW && room > 0 { 1 } else { 0 };
            return Ok(Some(fit(set.union(&view.todo.take_highest(probe)))));
        }
        let mut fresh = view.todo.clone();
        fresh.remove_range(0, baseline(folder).saturating_sub(1));
        if !fresh.is_empty() && full.is_none() {
            return Ok(Some(fit(if refuses { fresh.take_highest(size) } else { fresh.take_lowest(size) })));
        }
        if let Some(owed) = due(session, folder, view.named, tried, now, &mut held.dirty).await? {
            return Ok(Some(owed));
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

/// The next owed message that is due, alone; what is there no more is decided.
async fn due<S: Source>(
    session: &mut S,
    folder: &mut Folder,
    named: bool,
    tried: &UidSet,
    now: Timestamp,
    dirty: &mut bool,
) -> Result<Option<UidSet>, Failure> {
    while let Some(uid) = folder.due(now).difference(&folder.deferred()).difference(tried).first() {
        let listed = session.list(uid, uid).await?;
        if !listed.is_empty() {
            return Ok(Some(listed));
        }
        if named {
            // A name that is lacking decides nothing.
            break;
        }
        folder.decide(&UidSet::from_range(uid, uid));
        *dirty = true;
    }
    Ok(None)
}

/// The next set of what some sinks have and others do not yet; what is there no more is decided.
async fn deferred<S: Source>(
    session: &mut S,
    folder: &mut Folder,
    named: bool,
    tried: &UidSet,
    size: u64,
    dirty: &mut bool,
) -> Result<Option<UidSet>, Failure> {
    loop {
        let mut set = folder.deferred().difference(tried).take_lowest(size);
        let Some(first) = set.first() else { return Ok(None) };
        // One listing shows whether they exist still, so that they must not lie far apart.
        set.remove_range(first.saturating_add(DEFERRED_WINDOW), u32::MAX);
        let listed = session.list(first, set.last().unwrap_or(first)).await?;
        let gone = set.difference(&listed);
        if !gone.is_empty() && !named {
            folder.decide(&gone);
            *dirty = true;
        }
        let set = set.intersection(&listed);
        if !set.is_empty() {
            return Ok(Some(set));
        }
        if named {
            return Ok(None);
        }
    }
}

/// As many of the set as a command line takes.
fn fit(mut set: UidSet) -> UidSet {
    while set.to_string().len() > SET_TEXT {
        set = set.take_lowest(set.len() / 2);
    }
    set
}
