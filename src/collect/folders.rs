//! The folders of one session: which of them to visit next, which are not there, and which have changed while another was open. It opens and
//! lists; what is in them is fetched by `drain`.

use std::collections::VecDeque;

use jiff::Timestamp;
use tracing::warn;

use super::Collector;
use super::drain::Failure;
use super::held::Held;
use super::nearest::nearest;
use super::view::View;
use crate::diagnosis::{self, MissingFolder};
use crate::source::{self, Access, Marks, Refusal, Source, Step};

#[derive(Debug)]
enum State {
    Unseen,
    Present(Box<View>),
    Missing(Vec<String>),
}

#[derive(Debug)]
struct Entry {
    name: String,
    state: State,
    /// What the server said when it was last opened or asked for.
    marks: Marks,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Folders {
    entries: Vec<Entry>,
    /// Which of them the session has open.
    open: Option<usize>,
    queue: VecDeque<usize>,
    /// What was last told of those that are not there.
    told: Option<Vec<MissingFolder>>,
    /// Where a look begins: after a failure another folder goes first, so that one that fails keeps no other waiting.
    first: usize,
}

impl Folders {
    pub(super) fn new(names: &[String], failures: u32) -> Self {
        let entries: Vec<_> =
            names.iter().map(|name| Entry { name: name.clone(), state: State::Unseen, marks: Marks::default() }).collect();
        let first = usize::try_from(failures).unwrap_or(0).checked_rem(entries.len()).unwrap_or(0);
        Self { entries, open: None, queue: VecDeque::new(), told: None, first }
    }

    /// A look at all of them, in the order of the work order.
    pub(super) fn look_at_all(&mut self) {
        let count = self.entries.len();
        self.queue = (self.first..count).chain(0..self.first).collect();
        self.first = 0;
    }

    /// A look at the one that the session waits on, and at those where an owed message is due.
    pub(super) fn look_at_due(&mut self, held: &Held, now: Timestamp) {
        let due = |index: &usize| {
            let view = self.view(*index);
            Some(*index) == self.open || view.is_some_and(|view| view.next_due(held).is_some_and(|due| due <= now))
        };
        self.queue = (0..self.entries.len()).filter(due).collect();
    }

    /// This one is not done: it comes again after the others.
    pub(super) fn again(&mut self, index: usize) {
        self.queue.push_back(index);
    }

    /// Which to visit next. With `rest`, the last one is the one to wait on.
    pub(super) fn next(&mut self, rest: bool) -> Option<usize> {
        self.queue.pop_front().or_else(|| if rest { self.resting().filter(|index| self.open != Some(*index)) } else { None })
    }

    /// Opens the folder where it is not open, and lists what is new in it. False: it is not there.
    pub(super) async fn visit<S: Source>(
        &mut self,
        index: usize,
        session: &mut S,
        held: &mut Held,
        order: &Collector,
    ) -> Result<bool, Failure> {
        let Some(entry) = self.entries.get_mut(index) else { return Ok(false) };
        let now = Timestamp::now();
        if let State::Present(view) = &mut entry.state
            && self.open == Some(index)
        {
            view.look(session, held, order, now).await?;
            return Ok(true);
        }
        self.open = None;
        let access = if order.after_delivery.is_some() { Access::Select } else { Access::Examine };
        let opened = match session.open(&entry.name, access).await {
            Ok(opened) => opened,
            Err(refused) => {
                let near = missing(session, &entry.name, refused).await?;
                if !matches!(entry.state, State::Missing(_)) {
                    warn!(folder = entry.name, "there is no such folder");
                }
                entry.state = State::Missing(near);
                return Ok(false);
            }
        };
        entry.marks = Marks::from(&opened);
        match &mut entry.state {
            State::Present(view) => view.reopened(session, &opened, held, order, now).await?,
            state => *state = State::Present(Box::new(View::opened(session, &entry.name, &opened, held, order, now).await?)),
        }
        self.open = Some(index);
        Ok(true)
    }

    /// Asks for the folders that are not open, and notes those that have changed since they were last opened or asked for.
    pub(super) async fn ask<S: Source>(&mut self, session: &mut S) -> Result<(), source::Error> {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if Some(index) == self.open || !matches!(entry.state, State::Present(_)) || self.queue.contains(&index) {
                continue;
            }
            let marks = session.marks(&entry.name).await?;
            let unchanged = marks.is_some_and(|marks| marks == entry.marks && marks.uid_next.is_some() && marks.messages.is_some());
            if !unchanged {
                self.queue.push_back(index);
            }
        }
        Ok(())
    }

    /// The view of a folder that is there.
    pub(super) fn view_mut(&mut self, index: usize) -> Option<&mut View> {
        match &mut self.entries.get_mut(index)?.state {
            State::Present(view) => Some(view),
            State::Unseen | State::Missing(_) => None,
        }
    }

    fn view(&self, index: usize) -> Option<&View> {
        match &self.entries.get(index)?.state {
            State::Present(view) => Some(view),
            State::Unseen | State::Missing(_) => None,
        }
    }

    fn views(&self) -> impl Iterator<Item = &View> {
        (0..self.entries.len()).filter_map(|index| self.view(index))
    }

    /// The first that is there: the one to wait on.
    fn resting(&self) -> Option<usize> {
        (0..self.entries.len()).find(|index| self.view(*index).is_some())
    }

    /// Whether there is only one, so that looking at it is looking at all.
    pub(super) fn is_single(&self) -> bool {
        self.entries.len() == 1
    }

    /// Those that are not there, once each was visited in this session, and when that has changed since.
    pub(super) fn news(&mut self) -> Option<Vec<MissingFolder>> {
        if self.entries.iter().any(|entry| matches!(entry.state, State::Unseen)) {
            return None;
        }
        let missing = self.missing();
        (self.told.as_ref() != Some(&missing)).then(|| self.told.insert(missing).clone())
    }

    /// Whether none of them is there.
    pub(super) fn none_there(&self) -> bool {
        self.resting().is_none()
    }

    /// Those that are not there, in the order of the work order.
    pub(super) fn missing(&self) -> Vec<MissingFolder> {
        let missing = self.entries.iter().filter_map(|entry| match &entry.state {
            State::Missing(nearest) => Some(MissingFolder { name: entry.name.clone(), nearest: nearest.clone() }),
            State::Unseen | State::Present(_) => None,
        });
        missing.collect()
    }

    /// What is listed and not yet decided, and what is owed, in all of them, or in all but one.
    pub(super) fn pending(&self, held: &Held, but: Option<usize>) -> u64 {
        let counted = (0..self.entries.len()).filter(|index| Some(*index) != but);
        counted.filter_map(|index| self.view(index)).map(|view| view.pending(held)).sum()
    }

    /// When an owed message wants another try.
    pub(super) fn next_due(&self, held: &Held) -> Option<Timestamp> {
        self.views().filter_map(|view| view.next_due(held)).min()
    }
}

/// Whether a refusal to open means that the folder is not there; the names nearest to it then, else the refusal.
async fn missing<S: Source>(session: &mut S, name: &str, refused: source::Error) -> Result<Vec<String>, source::Error> {
    let source::Error::Refused { step: Step::Open, refusal: Refusal::No, code, text } = &refused else { return Err(refused) };
    // Every mailbox has an INBOX: that it cannot be opened is the server's trouble.
    if name == "INBOX" || diagnosis::is_incident(code.as_deref(), text) {
        return Err(refused);
    }
    let names = session.folders().await?;
    if names.iter().any(|existing| existing == name) && !diagnosis::is_missing(code.as_deref(), text) {
        return Err(refused);
    }
    Ok(nearest(name, &names))
}
