//! The loop over one mailbox: token → log-in → look and drain → wait, and after a failure: diagnose, tell, pause, again.
//! It ends only when cancelled, when its claim on the cursor is lost, or (for one pass) when the mailbox is done. Any failure consumes the session.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span};

use super::drain::{Drained, Failure, Pass, SetSize};
use super::due::{Due, IDLE_RENEWAL, renewal};
use super::fan::{Branch, Fan, SinkFault};
use super::folders::Folders;
use super::held::Held;
use super::settle::Settling;
use super::verbs;
use super::view::View;
use super::{Collector, Environment, Progress, Protocol, SinkConfig, StoreError};
use crate::diagnosis::{self, Diagnosis};
use crate::sink::Sink;
use crate::sink::file::FileSink;
use crate::source::{Session, Source};

/// A POP3 session shows nothing that came after it began, and settles only when it ends: a backlog is worked off in several.
const LONGEST_POP3: Duration = Duration::from_secs(5 * 60);
/// Looks in a row that found nothing, after which a server that keeps announcing mail …
const LOOKS_IN_VAIN: u32 = 3;
/// … is looked at no more often than this.
const PAUSE_IN_VAIN: Duration = Duration::from_millis(20);

/// How far a task goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Until cancelled.
    Forever,
    /// Until everything there is has been collected once; passing troubles are retried this many times.
    OnePass {
        /// Retries.
        retries: u32,
    },
}

/// What comes after a session that ended in order.
enum Next {
    End(End),
    /// A new session, after this pause.
    Reconnect(Duration),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It was cancelled.
    Cancelled,
    /// One pass is complete.
    Done,
    /// One pass was given up.
    Failed(Box<Diagnosis>),
    /// Somebody else wrote the cursor: this claim is lost.
    Lost,
    /// The cursor's store failed for good, or (one pass) too often.
    Store(StoreError),
}

/// One mailbox being collected.
#[derive(Debug)]
pub struct Task {
    pub(super) order: Arc<Collector>,
    pub(super) environment: Arc<Environment>,
    pub(super) wanted: Wanted,
    pub(super) progress: watch::Sender<Progress>,
    poke: watch::Receiver<Option<String>>,
    cancel: CancellationToken,
    size: SetSize,
    settling: Settling,
    /// What the order asks for beyond a look is done.
    pub(super) verb_done: bool,
    /// The sinks, made once: what they answered of late is remembered with them.
    fan: OnceLock<Arc<Fan>>,
    /// A pass has ended in order: this process survives what it fetches.
    proven: bool,
    /// Failures in a row: a session that brought a message, or a complete look, ends the row.
    pub(super) failures: u32,
    /// Length of the token last used, for diagnosis.
    pub(super) token_bytes: AtomicUsize,
    /// The request that the present attempt or look acts upon.
    pub(super) acting_on: Option<String>,
}

impl Task {
    /// `poke` carries the `requestedAt` to act upon; each change makes the mailbox looked at, at once.
    pub fn new(
        order: Arc<Collector>,
        environment: Arc<Environment>,
        wanted: Wanted,
        progress: watch::Sender<Progress>,
        poke: watch::Receiver<Option<String>>,
        cancel: CancellationToken,
    ) -> Self {
        let acting_on = poke.borrow().clone();
        Self {
            order,
            environment,
            wanted,
            progress,
            poke,
            cancel,
            size: SetSize::default(),
            settling: Settling::default(),
            verb_done: false,
            fan: OnceLock::new(),
            proven: false,
            failures: 0,
            token_bytes: AtomicUsize::new(0),
            acting_on,
        }
    }

    /// Collects. Cancelling ends it within seconds: the batch in hand is finished and recorded first.
    pub async fn run(mut self) -> End {
        let span = info_span!("collector", namespace = self.order.id.namespace, name = self.order.id.name, mailbox = self.order.mailbox);
        async move {
            let end = self.attempts().await;
            debug!(?end, "task ended");
            end
        }
        .instrument(span)
        .await
    }

    async fn attempts(&mut self) -> End {
        loop {
            let pause = match self.attend().await {
                Ok(Next::End(end)) => return end,
                Ok(Next::Reconnect(pause)) => pause,
                Err(_) if self.cancel.is_cancelled() => return End::Cancelled,
                Err(failure) => {
                    self.failures += 1;
                    match self.tell_failure(&failure, self.failures).await {
                        Ok(pause) => pause,
                        Err(end) => return end,
                    }
                }
            };
            if !self.rest(pause).await {
                return End::Cancelled;
            }
        }
    }

    /// One session from token to trouble.
    async fn attend(&mut self) -> Result<Next, Failure> {
        let environment = Arc::clone(&self.environment);
        let order = Arc::clone(&self.order);
        let Some(permit) = self.turn().await else { return Ok(Next::End(End::Cancelled)) };
        let request = self.poke.borrow_and_update().clone();
        let asked = (request != self.acting_on).then(Instant::now);
        self.acting_on = request;
        let (renewal, fan, mut held, mut session) = tokio::select! {
            // Boxed: the set-up is large, and its memory is not needed while thousands of sessions idle.
            opened = Box::pin(self.set_out(asked)) => opened?,
            () = self.cancel.cancelled() => return Ok(Next::End(End::Cancelled)),
        };
        if self.proven {
            held.careful = None;
        }
        if let Some(careful) = &held.careful {
            careful.begin(&mut self.size);
        }
        let acted = verbs::act(&order, &mut session, &mut held, &*environment.cursors).await;
        self.verb_done |= acted.is_ok();
        acted?;
        let gauge = environment.metrics.session();
        let result = self.serve(&mut session, &mut held, &fan, renewal, permit).await;
        drop(gauge);
        match result {
            Ok(next) => {
                held.at_rest();
                let saved = held.save(&*environment.cursors, &order.id).await;
                session.close().await;
                saved?;
                Ok(next)
            }
            Err(failure) => {
                if matches!(failure, Failure::Full(_)) {
                    // Nothing is wrong with the session, and by POP3 what it has settled takes effect with its end.
                    session.close().await;
                }
                held.at_rest();
                if held.unsaved() && !matches!(failure, Failure::Store(_)) {
                    held.save(&*environment.cursors, &order.id).await?;
                }
                Err(failure)
            }
        }
    }

    /// Token, sink, cursor, log-in: all that a session needs. `asked`: a person wants a fresh answer since then.
    async fn set_out(&self, asked: Option<Instant>) -> Result<(Instant, Arc<Fan>, Held, Session), Failure> {
        let (environment, order) = (&self.environment, &self.order);
        let token = environment.tokens.token(&order.credential, asked).await?;
        self.progress.send_modify(|progress| {
            progress.token_expiration = Some(token.expiration);
            progress.roles = token.claims.roles.clone().unwrap_or_default();
            progress.service_principal = token.claims.object_id.clone();
        });
        if !diagnosis::check_claims(&token.claims, order.protocol.role()) {
            // The next try must not be answered from the cache: consent may have come meanwhile.
            environment.tokens.forget(&order.credential).await;
            return Err(Failure::Claims(Box::new(token.claims.clone())));
        }
        self.good(|progress| &mut progress.token);
        let fan = self.fan()?;
        self.probe(&fan).await?;
        let mut held = Held::load(&*environment.cursors, &order.id).await?;
        held.cursor.serve(&fan.names());
        fan.remember(held.cursor.refused_of_late(Timestamp::now()));
        self.tell_cursor(&held);
        environment.logins.turn().await;
        self.token_bytes.store(token.secret.expose_secret().len(), Ordering::Relaxed);
        let session = environment.open(order, &token.secret).await?;
        Ok((renewal(token.expiration, Timestamp::now()), fan, held, session))
    }

    /// Looks, drains and waits on one session.
    async fn serve(
        &mut self,
        session: &mut Session,
        held: &mut Held,
        fan: &Arc<Fan>,
        renewal: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Result<Next, Failure> {
        let environment = Arc::clone(&self.environment);
        let order = Arc::clone(&self.order);
        let store = &*environment.cursors;
        let mut permit = Some(permit);
        let mut folders = Folders::new(&order.folders, self.failures);
        self.acting_on = self.poke.borrow_and_update().clone();
        let mut rest = order.push && self.wanted == Wanted::Forever;
        // Whether this look goes through every folder, and whether those that it leaves out were asked for.
        let (mut all, mut asked) = (true, false);
        let mut due = Due::new(&order);
        let mut in_vain = 0;
        let began = Instant::now();
        loop {
            if all {
                folders.look_at_all();
                due = Due::new(&order);
            }
            let mut collected = 0;
            while let Some(index) = folders.next(rest) {
                let there = folders.visit(index, session, held, &order).await?;
                self.tell_folders(&mut folders).await;
                let others = folders.pending(held, Some(index));
                let Some(view) = folders.view_mut(index).filter(|_| there) else { continue };
                held.worked_with(&order.credential.client_id);
                environment.lately.lock().unwrap_or_else(PoisonError::into_inner).opened(&order, Timestamp::now());
                if held.urgent() {
                    held.save(store, &order.id).await?;
                }
                let drained = self.pass(session, view, held, fan, others).await?;
                collected += drained.collected;
                if self.cancel.is_cancelled() {
                    return Ok(Next::End(End::Cancelled));
                }
                if drained.more {
                    // Behind the other folders, and to the back of the queue, behind the mailboxes that wait for a turn.
                    folders.ask(session).await?;
                    folders.again(index);
                    drop(permit.take());
                    permit = self.turn().await;
                    if permit.is_none() {
                        return Ok(Next::End(End::Cancelled));
                    }
                    if order.protocol == Protocol::Pop3 && began.elapsed() > LONGEST_POP3 {
                        return Ok(Next::Reconnect(Duration::ZERO));
                    }
                }
            }
            let missing = folders.missing();
            if folders.none_there() {
                return Err(Failure::Missing(missing));
            }
            environment.metrics.looked(missing.is_empty());
            let complete = missing.is_empty() && (all || asked || folders.is_single());
            self.looked(folders.pending(held, None), held, complete);
            if let Wanted::OnePass { .. } = self.wanted {
                if missing.is_empty() {
                    return Ok(Next::End(End::Done));
                }
                let diagnosis = self.diagnose(&diagnosis::Failure::Folders(&missing)).await;
                return Ok(Next::End(End::Failed(Box::new(diagnosis))));
            }
            held.save_if_due(store, &order.id).await?;
            drop(permit.take());
            if let Some(pause) = self.wait(session, &folders, held, renewal, &due).await? {
                return Ok(if self.cancel.is_cancelled() { Next::End(End::Cancelled) } else { Next::Reconnect(pause) });
            }
            in_vain = if collected == 0 { in_vain + 1 } else { 0 };
            if in_vain > LOOKS_IN_VAIN && !self.rest(PAUSE_IN_VAIN).await {
                return Ok(Next::End(End::Cancelled));
            }
            permit = self.turn().await;
            if permit.is_none() {
                return Ok(Next::End(End::Cancelled));
            }
            self.probe(fan).await?;
            let settling_due = self.settling.next_due().is_some_and(|at| at <= Instant::now());
            all = settling_due || due.look.is_some_and(|at| at <= Instant::now()) || self.poke.has_changed().unwrap_or(false);
            // Read before the look that answers it.
            self.acting_on = self.poke.borrow_and_update().clone();
            asked = !all && due.ask <= Instant::now();
            if !all {
                folders.look_at_due(held, Timestamp::now());
            }
            if asked {
                folders.ask(session).await?;
                due.ask = Instant::now() + due.every;
            }
            rest = order.push;
        }
    }

    /// Waits until this task may connect or drain; `None` when it is cancelled first.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            permit = Arc::clone(&self.environment.work).acquire_owned() => permit.ok(),
            () = self.cancel.cancelled() => None,
        }
    }

    async fn probe(&self, fan: &Fan) -> Result<(), Failure> {
        fan.probe().await?;
        self.good(|progress| &mut progress.sink);
        Ok(())
    }

    /// One bounded pass over a folder, while so many messages are `pending` in others.
    async fn pass(
        &mut self,
        session: &mut Session,
        view: &mut View,
        held: &mut Held,
        fan: &Arc<Fan>,
        others: u64,
    ) -> Result<Drained, Failure> {
        let progress = &self.progress;
        let metrics = &self.environment.metrics;
        let mut before = Drained::default();
        let mut tell = |done: &Drained, pending: u64| {
            let (collected, bytes) = (done.collected - before.collected, done.bytes - before.bytes);
            before = Drained { collected: done.collected, bytes: done.bytes, ..Drained::default() };
            metrics.collected(collected, bytes);
            progress.send_modify(|progress| {
                progress.collected += collected;
                progress.pending = pending + others;
                if collected > 0 {
                    progress.last_message = Some(Timestamp::now());
                }
            });
        };
        let order = Arc::clone(&self.order);
        let environment = Arc::clone(&self.environment);
        let mut pass = Pass {
            order: &order,
            fan,
            store: &*environment.cursors,
            size: &mut self.size,
            settling: &mut self.settling,
            cancel: &self.cancel,
            tell: &mut tell,
        };
        let before = self.progress.borrow().collected;
        let drained = pass.run(session, view, held).await;
        if self.progress.borrow().collected > before {
            // Not in a row, then: the search for a message that ends sessions takes several.
            self.failures = 0;
        }
        let drained = drained?;
        self.proven = true;
        metrics.settled(drained.settling.settled, drained.settling.left);
        self.out_of_trouble();
        if drained.collected > 0 {
            info!(folder = view.name, messages = drained.collected, bytes = drained.bytes, more = drained.more, "delivered");
            self.good(|progress| &mut progress.sink);
        }
        Ok(drained)
    }

    /// Waits for the next reason to look on this session. `Some(pause)`: close it, and come back with a new one after the pause.
    async fn wait(
        &mut self,
        session: &mut Session,
        folders: &Folders,
        held: &Held,
        renewal: Instant,
        due: &Due,
    ) -> Result<Option<Duration>, Failure> {
        let now = Timestamp::now();
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
        let mut longest = due.look.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        if let Some(owed) = folders.next_due(held) {
            longest = longest.min(until(owed).max(Duration::from_secs(1)));
        }
        if !self.order.push {
            // Without push a connection kept open would only be one fewer for others.
            return Ok(Some(longest));
        }
        if let Some(due) = self.settling.next_due() {
            longest = longest.min(due.saturating_duration_since(Instant::now()).max(Duration::from_secs(1)));
        }
        if held.unsaved() {
            longest = longest.min(held.due_in(&*self.environment.cursors));
        }
        let left = renewal.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Some(Duration::ZERO));
        }
        if !folders.is_single() {
            longest = longest.min(due.ask.saturating_duration_since(Instant::now()));
        }
        let longest = longest.min(left).min(IDLE_RENEWAL);
        let interrupt = pin!(async {
            tokio::select! {
                () = self.cancel.cancelled() => {}
                _ = self.poke.changed() => {}
            }
        });
        session.wait(longest, interrupt).await?;
        Ok(self.cancel.is_cancelled().then_some(Duration::ZERO))
    }

    /// Pauses; a request ends it early, also one that came during the attempt before. `false`: the task is cancelled.
    async fn rest(&mut self, pause: Duration) -> bool {
        let acting_on = &self.acting_on;
        tokio::select! {
            () = sleep(pause) => true,
            () = self.cancel.cancelled() => false,
            newer = self.poke.wait_for(|request| request != acting_on) => newer.is_ok(),
        }
    }

    fn fan(&self) -> Result<Arc<Fan>, SinkFault> {
        if let Some(fan) = self.fan.get() {
            return Ok(Arc::clone(fan));
        }
        let environment = &self.environment;
        let branches = self.order.sinks.iter().map(|named| {
            let fault = |error| SinkFault { name: named.name.as_str().into(), error: Arc::new(error) };
            let sink: Arc<dyn Sink> = match (&named.config, &environment.file_root) {
                (SinkConfig::File { directory }, Some(root)) => Arc::new(FileSink::new(root, directory).map_err(fault)?),
                // `validate` lets no order through without a root.
                (SinkConfig::File { .. }, None) => return Err(fault(crate::sink::Error::Gone)),
            };
            Ok(Branch::new(&named.name, sink))
        });
        let fan = Fan::new(branches.collect::<Result<_, _>>()?, environment.spool.clone());
        Ok(Arc::clone(self.fan.get_or_init(|| Arc::new(fan))))
    }
}
