//! One look at a folder and one bounded pass over what it holds: list → fetch → deliver → record. Works on any [`Source`] and any [`Sink`];
//! knows nothing of connecting, waiting or retrying.
//!
//! Recording overlaps with the next fetch: a cursor may be behind what the sink holds, never ahead of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::careful::Careful;
use super::delivery::{Delivering, Settled, Tried};
use super::fan::{Fan, SinkFault};
use super::held::Held;
use super::named;
use super::settle::{Outcome, Settling, Work};
use super::view::View;
use super::{Collector, CursorStore, StoreError};
use crate::cursor::{Owe, OwedReason, UidSet};
use crate::source::{self, Refusal, Source};
use crate::{cursor, diagnosis, entra};

/// Longest wait for a sink's answer, in any operation.
pub(super) const SINK_DEADLINE: Duration = Duration::from_secs(120);
/// One pass takes at most this many messages …
const DRAIN_MESSAGES: u64 = 1_000;
/// … this many bytes …
const DRAIN_BYTES: u64 = 64 << 20;
/// … and this long; then the others have their turn.
const DRAIN_TIME: Duration = Duration::from_secs(60);
/// A fetch under way when the task is cancelled has this long: the whole must end before the pod is killed.
const LAST_FETCH: Duration = Duration::from_secs(20);
/// A fetch set starts at this many messages …
const SET_START: u64 = 50;
/// … and grows to this many …
const SET_MESSAGES: u64 = 1_000;
/// … or this many bytes, going by the mean so far.
const SET_BYTES: u64 = 8 << 20;
/// How long after a throttle no set is asked for ahead.
const THROTTLED_LASTS: Duration = Duration::from_secs(3_600);

/// Why collecting stopped: a fact, which `diagnosis` gives a meaning.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Token(#[from] entra::Error),
    #[error("the token lacks the role")]
    Claims(Box<entra::Claims>),
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error(transparent)]
    Sink(#[from] SinkFault),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the cursor is full: {0:?}")]
    Full(cursor::Full),
    #[error("no folder of the order exists")]
    Missing(Vec<diagnosis::MissingFolder>),
}

/// How large the next fetch set may be; kept from drain to drain of a task.
#[derive(Debug)]
pub(super) struct SetSize {
    messages: u64,
    mean_bytes: u64,
    /// Until then no set is asked for ahead.
    alone_until: Option<Instant>,
}

impl Default for SetSize {
    fn default() -> Self {
        Self { messages: SET_START, mean_bytes: 1, alone_until: None }
    }
}

impl SetSize {
    /// Whether the next set may be asked for before this one has come: not while a message that breaks sessions is looked for.
    pub(super) fn goes_ahead(&self) -> bool {
        self.messages >= SET_START && self.alone_until.is_none_or(|until| until <= Instant::now())
    }

    /// A server that asks for restraint is spared two commands at a time.
    fn one_at_a_time(&mut self) {
        self.alone_until = Some(Instant::now() + THROTTLED_LASTS);
    }

    pub(super) fn next(&self) -> u64 {
        self.messages.min(SET_BYTES / self.mean_bytes.max(1)).max(1)
    }

    fn went_well(&mut self, messages: u64, bytes: u64) {
        if let Some(mean) = bytes.checked_div(messages) {
            self.mean_bytes = mean.max(1);
        }
        self.messages = (self.messages * 2).min(SET_MESSAGES);
    }

    /// After the process ended: half of the `suspects`, or the first size.
    pub(super) fn careful(&mut self, suspects: u64) {
        self.messages = if suspects == 0 { SET_START } else { (suspects / 2).max(1) };
    }

    /// A set that the session did not survive is halved next time: a message that breaks sessions is found by bisection.
    fn went_wrong(&mut self, messages: u64) {
        self.messages = (self.messages.min(messages) / 2).max(1);
    }
}

/// What a pass did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    pub collected: u64,
    pub bytes: u64,
    /// What was settled.
    pub settling: Outcome,
    /// The bounds were reached before the work was done.
    pub more: bool,
}

/// What a pass needs besides session, folder and cursor.
pub(super) struct Pass<'a> {
    pub order: &'a Collector,
    pub fan: &'a Arc<Fan>,
    pub store: &'a dyn CursorStore,
    pub size: &'a mut SetSize,
    pub settling: &'a mut Settling,
    pub cancel: &'a CancellationToken,
    /// Told after each set.
    pub tell: &'a mut (dyn FnMut(&Drained, u64) + Send + Sync),
}

impl Pass<'_> {
    /// Works through what the folder holds, within the bounds, and settles what is delivered and recorded.
    pub(super) async fn run<S: Source>(&mut self, session: &mut S, view: &mut View, held: &mut Held) -> Result<Drained, Failure> {
        let worked = self.work(session, view, held).await;
        Careful::uncount(held, &view.name);
        let (mut done, full) = match worked {
            Ok(done) => (done, None),
            // Settling is what makes room.
            Err(failure @ Failure::Full(cursor::Full::Unsettled | cursor::Full::Names)) => (Drained::default(), Some(failure)),
            Err(failure) => return Err(failure),
        };
        held.careful = None;
        if self.cancel.is_cancelled() {
            return Ok(done);
        }
        let work = Work { order: self.order, store: self.store, cancel: self.cancel, wait: !done.more };
        done.settling = self.settling.settle(&work, session, &view.name, held).await?;
        done.more |= done.settling.more;
        match full {
            Some(full) if done.settling.settled == 0 => Err(full),
            full => {
                done.more |= full.is_some();
                Ok(done)
            }
        }
    }

    async fn work<S: Source>(&mut self, session: &mut S, view: &mut View, held: &mut Held) -> Result<Drained, Failure> {
        let began = Instant::now();
        let mut done = Drained::default();
        if view.todo.is_empty()
            && view.unlisted.is_empty()
            && view.left_out == 0
            && held.cursor.folder_mut(&view.name).due(Timestamp::now()).is_empty()
        {
            return Ok(done);
        }
        let reconcile = self.reconcile(view, held).await?;
        let numbering = named::numbering(&self.order.mailbox, held.cursor.folder_mut(&view.name));
        let mut delivering = Delivering::new(self.fan, numbering, reconcile, tried(view, held), self.cancel);
        let ended = self.sets(session, view, held, &mut delivering, &mut done, began).await;
        // Whatever ended the pass: what the sinks have taken is recorded, each answer as it comes.
        delivering.finish().await;
        let mut deferred = None;
        while let Some(settled) = delivering.next().await {
            deferred = self.apply(settled, view, held, &mut done).or(deferred);
            held.save_if_due(self.store, &self.order.id).await?;
        }
        view.flying = UidSet::new();
        held.save_if_due(self.store, &self.order.id).await?;
        (self.tell)(&done, view.pending(held));
        match (ended, deferred) {
            (_, Some(fault)) => Err(Failure::Sink(fault)),
            (Err(failure), None) => Err(failure),
            (Ok(()), None) => Ok(done),
        }
    }

    async fn sets<S: Source>(
        &mut self,
        session: &mut S,
        view: &mut View,
        held: &mut Held,
        delivering: &mut Delivering,
        done: &mut Drained,
        began: Instant,
    ) -> Result<(), Failure> {
        let (mut asked, mut bytes) = (0, 0);
        // Owed ones fetched in this pass: the sink's answer may be on its way, so that they still seem to be owed.
        let mut tried = UidSet::new();
        let mut ahead: Option<UidSet> = None;
        let mut early = UidSet::new();
        loop {
            let set = match ahead.take() {
                // Asked for already: the session takes nothing else before it.
                Some(set) => set,
                None => {
                    if self.cancel.is_cancelled() || asked >= DRAIN_MESSAGES || bytes >= DRAIN_BYTES || began.elapsed() >= DRAIN_TIME {
                        done.more = true;
                        return Ok(());
                    }
                    if session.announced() {
                        // What arrives while a backlog drains goes before the rest of it.
                        view.look(session, held, self.order, Timestamp::now()).await?;
                    }
                    let set = match self.pick(session, view, held, &tried, delivering.unanswered()).await {
                        // What was fetched in this pass may free room once it is recorded.
                        Err(Failure::Full(_)) if asked > 0 => {
                            done.more = true;
                            return Ok(());
                        }
                        picked => picked?,
                    };
                    let set = match set {
                        Some(set) => set,
                        None if view.left_out > 0 => return Err(Failure::Full(cursor::Full::Names)),
                        None if view.unlisted.is_empty() => return Ok(()),
                        None => {
                            view.list_next(session, held, self.order, Timestamp::now()).await?;
                            continue;
                        }
                    };
                    let Some(set) = self.select(session, set, view, held).await? else { continue };
                    held.hold(self.store, &self.order.id).await?;
                    set
                }
            };
            let within = asked + set.len() < DRAIN_MESSAGES && bytes < DRAIN_BYTES / 2 && began.elapsed() < DRAIN_TIME;
            if within && held.careful.is_none() && !session.announced() && !self.cancel.is_cancelled() {
                ahead = self.next(view, held, &set, delivering.unanswered());
                if let Some(next) = &ahead {
                    session.ask_ahead(next.clone());
                }
            }
            Careful::before(held, &view.name, &set, self.store, &self.order.id).await?;
            debug!(folder = view.name, messages = set.len(), ahead = ahead.as_ref().map(UidSet::len), "fetching");
            let fetching = async {
                tokio::select! {
                    fetched = session.fetch(&set, delivering) => fetched,
                    // What has come by then is recorded; the session is dropped in mid-answer.
                    () = overdue(self.cancel) => Err(source::Error::Stopped),
                }
            };
            let (fetched, saved) = tokio::join!(fetching, held.save_if_due(self.store, &self.order.id));
            Careful::behind(held, &view.name, &set);
            saved?;
            // A trouble of the server's, told of single messages.
            let fetched = fetched.and_then(|()| delivering.take_refusal().map_or(Ok(()), Err));
            let (given, given_bytes) = delivering.take_given();
            asked += set.len();
            bytes += given_bytes;
            tried = tried.union(&set);
            view.flying = tried.clone();
            view.todo = view.todo.difference(&given);
            let settled = delivering.take();
            let mut deferred = self.apply(settled, view, held, done);
            if held.careful.is_some() || set.len() == 1 {
                // The next record must tell of this set what came of it: an attempt left open would count against a message.
                delivering.finish().await;
                while let Some(settled) = delivering.next().await {
                    deferred = self.apply(settled, view, held, done).or(deferred);
                }
            }
            if let Some(fault) = deferred {
                return Err(Failure::Sink(fault));
            }
            match fetched {
                Ok(()) => {
                    if !held.careful.as_ref().is_some_and(Careful::searching) {
                        self.size.went_well(given.len(), given_bytes);
                    }
                    let missing = set.difference(&given).difference(&early);
                    early = given.difference(&set);
                    for uid in missing.iter() {
                        self.owe(view, held, uid, OwedReason::NotReceived);
                    }
                }
                Err(error) => {
                    self.size.went_wrong(set.len());
                    if is_throttle(&error) {
                        self.size.one_at_a_time();
                    }
                    if set.len() == 1 && given.is_empty() && blames_the_message(&error) {
                        self.owe(view, held, set.first().unwrap_or_default(), OwedReason::SessionFailed);
                    }
                    return Err(error.into());
                }
            }
            (self.tell)(done, view.pending(held));
        }
    }

    fn apply(&self, settled: Settled, view: &mut View, held: &mut Held, done: &mut Drained) -> Option<SinkFault> {
        let Settled { accepted, claimed, owed, partly, has, again, deferred, bytes } = settled;
        let folder = held.cursor.folder_mut(&view.name);
        let mut decided = UidSet::new();
        for (uid, fingerprint) in &accepted {
            decided.insert(*uid);
            folder.anchor(*uid, *fingerprint);
        }
        for (uid, old, fingerprint) in &claimed {
            if folder.claim(*old) {
                decided.insert(*uid);
                folder.anchor(*uid, *fingerprint);
            } else {
                warn!(folder = view.name, uid, "an old copy stands for two messages; this one is delivered anew");
                view.todo.insert(*uid);
            }
        }
        if !decided.is_empty() {
            if self.order.after_delivery.is_some() {
                folder.delivered(&decided);
            } else {
                folder.decide(&decided);
            }
            held.dirty = true;
        }
        done.collected += (accepted.len() + claimed.len()) as u64;
        done.bytes += bytes;
        for (uid, reason) in owed {
            self.owe(view, held, uid, reason);
        }
        let folder = held.cursor.folder_mut(&view.name);
        for (uid, has) in has {
            folder.delivered_to(uid, has);
        }
        for (uid, has) in partly {
            folder.defer(uid, has, Timestamp::now());
            view.todo.remove(uid);
            held.dirty = true;
        }
        for uid in again.into_iter().filter(|uid| !folder.owed().contains_key(uid)) {
            view.todo.insert(uid);
        }
        deferred
    }

    fn owe(&self, view: &mut View, held: &mut Held, uid: u32, reason: OwedReason) {
        view.todo.remove(uid);
        held.dirty = true;
        match held.cursor.folder_mut(&view.name).owe(uid, reason, Timestamp::now()) {
            Owe::Again { .. } => info!(folder = view.name, uid, ?reason, "owed: listed, but no message received; tried again later"),
            Owe::Quarantined { .. } => warn!(folder = view.name, uid, ?reason, "quarantined: left untouched on the server"),
        }
    }
}

fn is_throttle(error: &source::Error) -> bool {
    matches!(error, source::Error::Refused { text, .. } if diagnosis::throttle(text).is_some())
}

/// What the cursor knows of messages that were tried before.
fn tried(view: &View, held: &Held) -> Tried {
    let Some(folder) = held.cursor.folder(&view.name) else { return Tried::default() };
    let owed = folder.owed().values();
    Tried {
        has: owed.clone().filter(|owed| owed.has != 0).map(|owed| (owed.uid, owed.has)).collect(),
        refused: owed.filter(|owed| owed.reason == OwedReason::Rejected).map(|owed| owed.uid).collect(),
    }
}

/// Whether the session may have died of the message rather than of the network or the server's mood.
fn blames_the_message(error: &source::Error) -> bool {
    match error {
        source::Error::Closed(_) | source::Error::Protocol { .. } | source::Error::Timeout(_) => true,
        source::Error::Refused { refusal: Refusal::No | Refusal::Bad, code, text, .. } => !diagnosis::is_incident(code.as_deref(), text),
        source::Error::Refused { refusal: Refusal::Bye, .. } => false,
        source::Error::Connection { .. }
        | source::Error::ReadOnly
        | source::Error::Unsupported(_)
        | source::Error::HalfUsed
        | source::Error::Stopped => false,
    }
}

/// Resolves when a cancelled task may fetch no longer.
async fn overdue(cancel: &CancellationToken) {
    cancel.cancelled().await;
    sleep(LAST_FETCH).await;
}
