//! The loop over one mailbox: token → log-in → look and drain → wait, and after a failure: diagnose, tell, pause, again.
//! It ends only when cancelled, when its claim on the cursor is lost, or (for one pass) when the mailbox is done. Any failure consumes the session.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span};

use super::drain::{Drained, Failure, Held, Pass, SINK_DEADLINE, SetSize};
use super::settle::Settling;
use super::view::View;
use super::{Collector, Environment, Progress, Protocol, SinkConfig, StoreError};
use crate::diagnosis::{self, Diagnosis};
use crate::schedule;
use crate::sink::Sink;
use crate::sink::file::FileSink;
use crate::source::{Access, Session, Source};

/// A session is renewed this long before its token ends, or after half the token's life where that is later.
const TOKEN_MARGIN: Duration = Duration::from_secs(300);
/// An IDLE is renewed within this time: Exchange drops quiet connections after about ten minutes (angus-mail#176).
const IDLE_RENEWAL: Duration = Duration::from_secs(9 * 60);

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
        let (renewal, sink, mut held, mut session) = tokio::select! {
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
        let gauge = environment.metrics.session();
        let result = self.serve(&mut session, &mut held, &*sink, renewal, permit).await;
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
    async fn set_out(&self, asked: Option<Instant>) -> Result<(Instant, Box<dyn Sink>, Held, Session), Failure> {
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
        let sink = self.sink()?;
        self.probe(&*sink).await?;
        let held = Held::load(&*environment.cursors, &order.id).await?;
        self.tell_cursor(&held);
        environment.logins.turn().await;
        self.token_bytes.store(token.secret.expose_secret().len(), Ordering::Relaxed);
        let session = environment.open(order, &token.secret).await?;
        Ok((renewal(token.expiration, Timestamp::now()), sink, held, session))
    }

    /// Looks, drains and waits on one session.
    async fn serve(
        &mut self,
        session: &mut Session,
        held: &mut Held,
        sink: &dyn Sink,
        renewal: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Result<Next, Failure> {
        let environment = Arc::clone(&self.environment);
        let order = Arc::clone(&self.order);
        let store = &*environment.cursors;
        let mut permit = Some(permit);
        let folder = order.folders.first().map_or("INBOX", String::as_str);
        self.acting_on = self.poke.borrow_and_update().clone();
        let access = if order.after_delivery.is_some() { Access::Select } else { Access::Examine };
        let mut view = View::open(session, folder, access, held, &order.mailbox, Timestamp::now()).await?;
        held.worked_with(&order.credential.client_id);
        environment.lately.lock().unwrap_or_else(PoisonError::into_inner).opened(&order, Timestamp::now());
        let mut in_vain = 0;
        let began = Instant::now();
        loop {
            self.good(|progress| &mut progress.mailbox);
            let mut collected = 0;
            loop {
                let drained = self.pass(session, &mut view, held, sink).await?;
                collected += drained.collected;
                if self.cancel.is_cancelled() {
                    return Ok(Next::End(End::Cancelled));
                }
                if !drained.more {
                    break;
                }
                // To the back of the queue, behind the mailboxes that wait for a turn.
                drop(permit.take());
                permit = self.turn().await;
                if permit.is_none() {
                    return Ok(Next::End(End::Cancelled));
                }
                if order.protocol == Protocol::Pop3 && began.elapsed() > LONGEST_POP3 {
                    return Ok(Next::Reconnect(Duration::ZERO));
                }
                view.look(session, held, Timestamp::now()).await?;
            }
            self.looked(view.pending(held), held);
            if let Wanted::OnePass { .. } = self.wanted {
                return Ok(Next::End(End::Done));
            }
            held.save_if_due(store, &order.id).await?;
            drop(permit.take());
            if let Some(pause) = self.wait(session, &view, held, renewal).await? {
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
            self.probe(sink).await?;
            // Read before the look that answers it.
            self.acting_on = self.poke.borrow_and_update().clone();
            view.look(session, held, Timestamp::now()).await?;
        }
    }

    /// Waits until this task may connect or drain; `None` when it is cancelled first.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            permit = Arc::clone(&self.environment.work).acquire_owned() => permit.ok(),
            () = self.cancel.cancelled() => None,
        }
    }

    async fn probe(&self, sink: &dyn Sink) -> Result<(), Failure> {
        match timeout(SINK_DEADLINE, sink.probe()).await {
            Ok(Ok(())) => self.good(|progress| &mut progress.sink),
            Ok(Err(error)) => return Err(Failure::Sink(Arc::new(error))),
            Err(_) => return Err(Failure::Sink(Arc::new(crate::sink::Error::Timeout))),
        }
        Ok(())
    }

    async fn pass(&mut self, session: &mut Session, view: &mut View, held: &mut Held, sink: &dyn Sink) -> Result<Drained, Failure> {
        let progress = &self.progress;
        let metrics = &self.environment.metrics;
        let mut before = Drained::default();
        let mut tell = |done: &Drained, pending: u64| {
            let (collected, bytes) = (done.collected - before.collected, done.bytes - before.bytes);
            before = Drained { collected: done.collected, bytes: done.bytes, ..Drained::default() };
            metrics.collected(collected, bytes);
            progress.send_modify(|progress| {
                progress.collected += collected;
                progress.pending = pending;
                if collected > 0 {
                    progress.last_message = Some(Timestamp::now());
                }
            });
        };
        let order = Arc::clone(&self.order);
        let environment = Arc::clone(&self.environment);
        let mut pass = Pass {
            order: &order,
            sink,
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
            info!(
                folder = order.folders.first().map(String::as_str),
                messages = drained.collected,
                bytes = drained.bytes,
                more = drained.more,
                "delivered"
            );
            self.good(|progress| &mut progress.sink);
        }
        Ok(drained)
    }

    /// Waits for the next reason to look on this session. `Some(pause)`: close it, and come back with a new one after the pause.
    async fn wait(&mut self, session: &mut Session, view: &View, held: &Held, renewal: Instant) -> Result<Option<Duration>, Failure> {
        let now = Timestamp::now();
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
        let mut longest = schedule::next_look(self.order.interval, schedule::phase(&self.order.id.uid), now);
        if let Some(due) = view.next_due(held) {
            longest = longest.min(until(due).max(Duration::from_secs(1)));
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

    fn sink(&self) -> Result<Box<dyn Sink>, Failure> {
        let named = self.order.sinks.first();
        match (named.map(|named| &named.config), &self.environment.file_root) {
            (Some(SinkConfig::File { directory }), Some(root)) => {
                let sink = FileSink::new(root, directory).map_err(|error| Failure::Sink(Arc::new(error)))?;
                Ok(Box::new(sink))
            }
            // `validate` lets no order through without a root.
            _ => Err(Failure::Sink(Arc::new(crate::sink::Error::Gone))),
        }
    }
}

/// When a session is to be renewed, so that the server does not end it in the middle of a message.
fn renewal(expiration: Timestamp, now: Timestamp) -> Instant {
    let left = Duration::try_from(expiration.duration_since(now)).unwrap_or(Duration::ZERO);
    Instant::now() + left.saturating_sub(TOKEN_MARGIN).max(left / 2).max(Duration::from_secs(1))
}
