//! What a task tells of itself: stages that work, failures with their diagnosis and the pause that follows. It decides nothing about messages.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use super::drain::Failure;
use super::folders::Folders;
use super::held::Held;
use super::task::{End, Task, Wanted};
use super::{Progress, Stage, StoreError};
use crate::diagnosis::{self, Condition, Context, Diagnosis, Known, Retry};
use crate::schedule;
use crate::source::{self, Settle, Step};

/// Failures of the cursor's store in a row before it is told.
const STORE_FAILURES: u32 = 3;

impl Task {
    /// A stage works; told only if that is news.
    pub(super) fn good(&self, stage: fn(&mut Progress) -> &mut Stage) {
        self.progress.send_if_modified(|progress| {
            let stage = stage(progress);
            *stage != Stage::Good && {
                *stage = Stage::Good;
                true
            }
        });
    }

    pub(super) fn tell_cursor(&self, held: &Held) {
        let quarantined = held.cursor.quarantined() as u64;
        self.progress.send_modify(|progress| progress.quarantined = quarantined);
    }

    /// Tells a failure and says how long to pause, or that the task ends.
    pub(super) async fn tell_failure(&mut self, failure: &Failure, failures: u32) -> Result<Duration, End> {
        self.environment.metrics.looked(false);
        let request = self.acting_on.clone();
        let diagnosis = match failure {
            Failure::Store(StoreError::Conflict) => return Err(End::Lost),
            // A store that answers no more, or refuses (missing rights, say), is told once it lasts.
            Failure::Store(StoreError::Unavailable(text)) if failures >= STORE_FAILURES => {
                // Unlike a record that cannot be read, this may pass by itself.
                Diagnosis { retry: Retry::BackOff { at_least: None }, ..self.diagnose(&diagnosis::Failure::Unreadable(text)).await }
            }
            Failure::Store(error @ StoreError::Unavailable(_)) => {
                warn!(%error, failures, "the cursor's store failed; nothing is decided");
                if self.gives_up(failures, false) {
                    return Err(End::Store(error.clone()));
                }
                return Ok(self.pause(&Retry::BackOff { at_least: None }, failures));
            }
            Failure::Store(StoreError::Unreadable(text)) => self.diagnose(&diagnosis::Failure::Unreadable(text)).await,
            Failure::Full(full) => self.diagnose(&diagnosis::Failure::Full(*full)).await,
            Failure::Token(error) => self.diagnose(&diagnosis::Failure::Token(error)).await,
            Failure::Claims(claims) => self.diagnose(&diagnosis::Failure::Claims(claims)).await,
            Failure::Missing(missing) => self.diagnose(&diagnosis::Failure::Folders(missing)).await,
            Failure::Source(error) => self.diagnose(&diagnosis::Failure::Source(error)).await,
            Failure::Sink(fault) => self.diagnose(&diagnosis::Failure::Sink { name: &fault.name, error: &fault.error }).await,
        };
        if diagnosis.retry == Retry::AtOnce || matches!(failure, Failure::Source(source::Error::Refused { step: Step::Authenticate, .. })) {
            // The token may be what is wrong, although it has not run out by the clock: revoked, or older than a permission.
            self.environment.tokens.forget(&self.order.credential).await;
        }
        if diagnosis.retry == Retry::AtOnce && failures <= 1 {
            info!(reason = diagnosis.reason.as_str(), "session ended, connecting again");
            return Ok(Duration::ZERO);
        }
        self.environment.metrics.failed(diagnosis.reason);
        let pause = self.pause(&diagnosis.retry, failures);
        warn!(
            reason = diagnosis.reason.as_str(),
            failures,
            next_attempt_seconds = pause.as_secs(),
            message = diagnosis.message,
            "not collecting"
        );
        let done = self.order.verb.is_none() || self.verb_done;
        let person = matches!(diagnosis.retry, Retry::Slow { .. });
        let now = Timestamp::now();
        self.progress.send_modify(|progress| {
            let bad = Stage::Bad(Box::new(diagnosis.clone()));
            match diagnosis.condition {
                Condition::TokenHealthy => progress.token = bad,
                Condition::MailboxAccessible => progress.mailbox = bad,
                Condition::SinkReady => progress.sink = bad,
                _ => progress.stopped = Some(Box::new(diagnosis.clone())),
            }
            let (since, _) = progress.trouble.unwrap_or((now, 0));
            progress.trouble = Some((since, failures));
            progress.next_attempt = now.checked_add(pause).ok();
            // A look was tried, whatever came of it; what is asked for beyond one is not done yet.
            if done {
                progress.handled_request = request.or(progress.handled_request.take());
            }
        });
        if self.gives_up(failures, person) { Err(End::Failed(Box::new(diagnosis))) } else { Ok(pause) }
    }

    fn gives_up(&self, failures: u32, person: bool) -> bool {
        match self.wanted {
            Wanted::Forever => false,
            Wanted::OnePass { retries } => person || failures > retries,
        }
    }

    fn pause(&self, retry: &Retry, failures: u32) -> Duration {
        schedule::next_attempt(retry, failures, schedule::phase(&self.order.id.uid))
    }

    pub(super) async fn diagnose(&self, failure: &diagnosis::Failure<'_>) -> Diagnosis {
        let credential = &self.order.credential;
        let object_id = self.progress.borrow().service_principal.clone();
        // Read afresh: another mailbox of the app, or an earlier session of this one, may have worked since.
        let cursor = self.environment.cursors.load(&self.order.id).await.ok().flatten();
        let worked_before = cursor.is_some_and(|(cursor, _)| cursor.worked_with.as_deref() == Some(credential.client_id.as_str()));
        let mut lately = self.environment.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = matches!(failure, diagnosis::Failure::Source(source::Error::Refused { step: Step::Authenticate | Step::Probe, .. }));
        if refused && worked_before {
            lately.refused(&self.order, Timestamp::now());
        }
        // What is missing may be where messages are moved to.
        let target = match (failure, &self.order.after_delivery) {
            (diagnosis::Failure::Source(source::Error::Refused { step: Step::Settle, .. }), Some(Settle::Move(target))) => Some(target),
            _ => None,
        };
        let token_bytes = Some(self.token_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0);
        let context = Context {
            mailbox: &self.order.mailbox,
            role: self.order.protocol.role(),
            tenant_id: &credential.tenant_id,
            client_id: &credential.client_id,
            object_id: object_id.as_deref(),
            credential_name: &credential.name,
            secret_looks_like_guid: credential.looks_like_guid(),
            worked_before,
            folder: target.or(self.order.folders.first()).map_or("INBOX", String::as_str),
            authority: self.environment.tokens.authority(credential),
            imap_host: self.environment.host(&self.order),
            known: Known { others: lately.others(&self.order, Timestamp::now()), token_bytes, ..Known::default() },
        };
        diagnosis::diagnose(failure, &context)
    }

    /// How the folders of the order stand, once each was visited: all there, or which are not. The others are collected all the same.
    pub(super) async fn tell_folders(&self, folders: &mut Folders) {
        let Some(missing) = folders.news() else { return };
        if missing.is_empty() {
            return self.good(|progress| &mut progress.mailbox);
        }
        let diagnosis = self.diagnose(&diagnosis::Failure::Folders(&missing)).await;
        self.progress.send_modify(|progress| progress.mailbox = Stage::Bad(Box::new(diagnosis)));
    }

    /// A look has ended; `complete`: at every folder of the order.
    pub(super) fn looked(&mut self, pending: u64, held: &Held, complete: bool) {
        let request = self.acting_on.clone();
        let quarantined = held.cursor.quarantined() as u64;
        self.progress.send_modify(|progress| {
            if complete {
                progress.last_fetch = Some(Timestamp::now());
            }
            progress.pending = pending;
            progress.quarantined = quarantined;
            progress.handled_request = request.or(progress.handled_request.take());
        });
        self.failures = 0;
    }

    /// A pass ended well: whatever was in the way is no more, although a backlog may be left.
    pub(super) fn out_of_trouble(&self) {
        self.progress.send_if_modified(|progress| {
            let was = progress.trouble.take().is_some() | progress.stopped.take().is_some();
            progress.next_attempt = None;
            was
        });
    }
}
