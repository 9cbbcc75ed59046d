//! What an object's status should say: from what was found when it was accepted or refused, and from the task's Progress (design: conditions and
//! reasons are API). Pure: no I/O, no clock. It never decides whether and when a status is written; `publish` does.
//!
//! The status that the object has is an input: times of transitions are kept in it, and so is what an earlier process saw, so that a restart
//! over settled objects changes nothing.

pub(crate) mod app;
mod expiry;
#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::{MailboxCollectorStatus, MessageCounts, TokenStatus};
use crate::collect::{Progress, Stage};
use crate::diagnosis::{Condition as Kind, Diagnosis, Reason, Status};
use crate::entra::Proof;

/// Longest message of a condition, in bytes.
pub(crate) const LONGEST_MESSAGE: usize = 1_024;
/// A passing trouble shows in Ready after this time …
const PASSING_FOR: SignedDuration = SignedDuration::from_mins(5);
/// … and this many failures in a row.
const PASSING_FAILURES: u32 = 3;
const RETRYING: &str = "tried again by itself; Ready says what is wrong";

/// Why an object is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// One of the reasons of `Accepted`.
    pub reason: Reason,
    /// Field, problem, way out.
    pub message: String,
}

/// What a reconciliation found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Acceptance {
    /// `metadata.generation` that it speaks of.
    pub generation: i64,
    /// Accepted, or why not.
    pub outcome: Result<(), Refusal>,
    /// `spec.suspend`.
    pub suspended: bool,
    /// The `requestedAt` annotation.
    pub requested_at: Option<String>,
    /// When the client secret or certificate ends, as far as that is known.
    pub secret_expiration: Option<Timestamp>,
    /// What ends then, where this object is to warn of it.
    pub warns: Option<Ending>,
}

/// What can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A client secret, whose date a person declared.
    Secret,
    /// A certificate, which says itself when it ends.
    Certificate,
}

impl Ending {
    /// What of a proof ends; a service account's token is made anew each time.
    pub(crate) fn of(proof: &Proof) -> Option<Self> {
        match proof {
            Proof::Secret(_) => Some(Self::Secret),
            Proof::Certificate(_) => Some(Self::Certificate),
            Proof::Federated(_) => None,
        }
    }
}

/// A status, and when it would say something else although nothing happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Desired {
    /// The status.
    pub status: MailboxCollectorStatus,
    /// When to look again.
    pub next_change: Option<Timestamp>,
}

/// What the status of an object should say at `now`. `collected` is the total of messages, `current` what the object has.
pub(crate) fn desired(
    acceptance: &Acceptance,
    progress: Option<&Progress>,
    collected: u64,
    current: &MailboxCollectorStatus,
    now: Timestamp,
) -> Desired {
    let facts = Facts { acceptance, progress: progress.filter(|p| p.generation == acceptance.generation), current, now };
    let mut next_change = None;
    let conditions = facts.conditions(&mut next_change);
    Desired {
        status: MailboxCollectorStatus {
            observed_generation: acceptance.generation,
            conditions,
            last_handled_reconcile_at: facts.handled_request(),
            last_fetch_time: facts.latest(progress.and_then(|p| p.last_fetch), &current.last_fetch_time),
            last_message_time: facts.latest(progress.and_then(|p| p.last_message), &current.last_message_time),
            messages: facts.messages(progress, collected),
            token: facts.token(progress),
        },
        next_change,
    }
}

/// A condition before its times are known.
struct Draft {
    type_: Kind,
    status: Status,
    reason: String,
    message: String,
}

struct Facts<'a> {
    acceptance: &'a Acceptance,
    progress: Option<&'a Progress>,
    current: &'a MailboxCollectorStatus,
    now: Timestamp,
}

/// How a stage came out, for Ready.
enum Standing<'a> {
    /// Works, was not tried yet, or has had passing trouble for too short a time.
    Quiet,
    /// Fails. `stalls` after that time, if ever.
    Failing { reason: &'a str, message: &'a str, since: Timestamp, stalls: Option<SignedDuration> },
}

impl Facts<'_> {
    fn conditions(&self, next_change: &mut Option<Timestamp>) -> Vec<Condition> {
        let stages = [
            self.accepted(),
            self.stage(Kind::TokenHealthy, |p| &p.token, next_change),
            self.stage(Kind::MailboxAccessible, |p| &p.mailbox, next_change),
            self.stage(Kind::SinkReady, |p| &p.sink, next_change),
        ];
        let stages = stages.map(|draft| self.dated(draft));
        let mut summary = self.summary(&stages, next_change);
        let mut conditions = vec![self.dated(summary.remove(0))];
        conditions.extend(stages);
        conditions.extend(summary.into_iter().map(|draft| self.dated(draft)));
        if let Some(draft) = self.quarantine() {
            conditions.push(self.dated(draft));
        }
        if let (Some(at), Some(ending)) = (self.acceptance.secret_expiration, self.acceptance.warns) {
            let refused = conditions.iter().any(|c| c.type_ == Kind::TokenHealthy.as_str() && c.status == "False");
            let expiry = expiry::of(at, ending, self.now, refused);
            sooner(next_change, expiry.next_change);
            conditions.extend(expiry.told.map(|(reason, message)| {
                self.dated(Draft { type_: Kind::CredentialExpiring, status: Status::True, reason: reason.as_str().to_owned(), message })
            }));
        }
        conditions
    }

    fn accepted(&self) -> Draft {
        let (status, reason, message) = match &self.acceptance.outcome {
            Ok(()) => (Status::True, "Accepted".to_owned(), "the spec and what it refers to are in order".to_owned()),
            Err(refusal) => (Status::False, refusal.reason.as_str().to_owned(), refusal.message.clone()),
        };
        Draft { type_: Kind::Accepted, status, reason, message }
    }

    /// A stage of the task. What an earlier process saw of this generation stands until this one has tried; passing trouble after success
    /// shows only when it lasts.
    fn stage(&self, type_: Kind, stage: impl Fn(&Progress) -> &Stage, next_change: &mut Option<Timestamp>) -> Draft {
        let before = self.before(type_).filter(|c| c.observed_generation == Some(self.acceptance.generation));
        let keep = || before.map(|c| kept(type_, c));
        let untried =
            || Draft { type_, status: Status::Unknown, reason: Reason::NotYetTried.as_str().to_owned(), message: self.why_untried() };
        if self.acceptance.suspended || self.acceptance.outcome.is_err() {
            return untried();
        }
        match self.progress.map(&stage) {
            None | Some(Stage::NotYetTried) => keep().unwrap_or_else(untried),
            Some(Stage::Good) => {
                Draft { type_, status: Status::True, reason: good_reason(type_).to_owned(), message: good_message(type_).to_owned() }
            }
            Some(Stage::Bad(diagnosis)) => {
                let draft = Draft {
                    type_,
                    status: diagnosis.reason.status(),
                    reason: diagnosis.reason.as_str().to_owned(),
                    message: diagnosis.message.clone(),
                };
                let passing = draft.status == Status::Unknown && !self.lasts(next_change);
                if passing { keep().filter(|before| before.status == Status::True).unwrap_or(draft) } else { draft }
            }
        }
    }

    fn why_untried(&self) -> String {
        let why = match (&self.acceptance.outcome, self.acceptance.suspended) {
            (_, true) => "not tried while spec.suspend is true",
            (Err(_), false) => "not tried while Accepted is False",
            (Ok(()), false) => "not tried yet",
        };
        why.to_owned()
    }

    /// Ready, and Reconciling or Stalled where they are True.
    fn summary(&self, stages: &[Condition; 4], next_change: &mut Option<Timestamp>) -> Vec<Draft> {
        let ready = |status, reason: &str, message: &str| Draft {
            type_: Kind::Ready,
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let also = |type_, reason: &str, message: &str| Draft {
            type_,
            status: Status::True,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        if self.acceptance.suspended {
            return vec![ready(Status::True, Reason::Suspended.as_str(), "collecting is suspended by spec.suspend")];
        }
        let mut standings: Vec<Standing<'_>> = stages.iter().map(|stage| self.standing(stage)).collect();
        if let Some(stopped) = self.progress.and_then(|p| p.stopped.as_deref()) {
            standings.push(self.stopped(stopped));
        }
        let failing = standings.iter().find_map(|standing| match standing {
            Standing::Failing { reason, message, since, stalls } => Some((*reason, *message, *since, *stalls)),
            Standing::Quiet => None,
        });
        if let Some((reason, message, since, stalls)) = failing {
            let stalls_at = stalls.and_then(|after| since.checked_add(after).ok());
            return if stalls_at.is_some_and(|at| at <= self.now) {
                vec![ready(Status::False, reason, message), also(Kind::Stalled, reason, &bounded(message, 256))]
            } else {
                sooner(next_change, stalls_at);
                vec![ready(Status::False, reason, message), also(Kind::Reconciling, Reason::ProgressingWithRetry.as_str(), RETRYING)]
            };
        }
        let before = self.before(Kind::Ready).filter(|c| c.observed_generation == Some(self.acceptance.generation));
        // The mailbox's stage is good after a complete listing. What is then still to be fetched is a backlog, which does not hold Ready back.
        let looked = self.progress.is_some_and(|p| {
            // While a trouble lasts, stages that work up to it prove nothing.
            p.trouble.is_none() && [&p.token, &p.mailbox, &p.sink].iter().all(|stage| **stage == Stage::Good)
        });
        if looked {
            return vec![ready(Status::True, Reason::Collecting.as_str(), "every folder was listed and every sink answers")];
        }
        match before {
            // Nothing fails: an earlier success stands, and so does an earlier failure until a look is complete.
            Some(before) if before.status == "True" => vec![ready(Status::True, &before.reason, &before.message)],
            Some(before) if before.status == "False" => {
                vec![
                    ready(Status::False, &before.reason, &before.message),
                    also(Kind::Reconciling, Reason::ProgressingWithRetry.as_str(), RETRYING),
                ]
            }
            _ => {
                let message = "not yet looked at the mailbox";
                vec![
                    ready(Status::Unknown, Reason::Progressing.as_str(), message),
                    also(Kind::Reconciling, Reason::Progressing.as_str(), message),
                ]
            }
        }
    }

    fn standing<'c>(&self, stage: &'c Condition) -> Standing<'c> {
        let failing = || Standing::Failing {
            reason: &stage.reason,
            message: &stage.message,
            since: stage.last_transition_time.0,
            stalls: stalls_after(&stage.reason),
        };
        match (stage.status.as_str(), stage.reason.as_str()) {
            ("False", _) => failing(),
            ("Unknown", reason) if reason != Reason::NotYetTried.as_str() && self.trouble_lasts() => failing(),
            (_, _) => Standing::Quiet,
        }
    }

    fn stopped<'d>(&self, stopped: &'d Diagnosis) -> Standing<'d> {
        let since = self.progress.and_then(|p| p.trouble).map_or(self.now, |(since, _)| since);
        Standing::Failing {
            reason: stopped.reason.as_str(),
            message: &stopped.message,
            since,
            stalls: stalls_after(stopped.reason.as_str()),
        }
    }

    /// Whether passing trouble has lasted long enough to be told; if not, notes when it will have.
    fn lasts(&self, next_change: &mut Option<Timestamp>) -> bool {
        let lasts = self.trouble_lasts();
        if !lasts
            && let Some((since, failures)) = self.progress.and_then(|p| p.trouble)
            && failures >= PASSING_FAILURES
        {
            sooner(next_change, since.checked_add(PASSING_FOR).ok());
        }
        lasts
    }

    fn trouble_lasts(&self) -> bool {
        self.progress
            .and_then(|p| p.trouble)
            .is_some_and(|(since, failures)| failures >= PASSING_FAILURES && self.now.duration_since(since) >= PASSING_FOR)
    }

    fn quarantine(&self) -> Option<Draft> {
        let count = match self.progress {
            Some(progress) if progress.mailbox != Stage::NotYetTried => progress.quarantined,
            // Not read yet by this process: what was told stands.
            _ => return self.before(Kind::QuarantineNotEmpty).map(|c| kept(Kind::QuarantineNotEmpty, c)),
        };
        (count > 0).then(|| Draft {
            type_: Kind::QuarantineNotEmpty,
            status: Status::True,
            reason: Reason::MessagesQuarantined.as_str().to_owned(),
            message: "messages that could not be collected after several tries stay untouched in the mailbox; their number is in status.messages.quarantined".to_owned(),
        })
    }

    fn before(&self, type_: Kind) -> Option<&Condition> {
        self.current.conditions.iter().find(|condition| condition.type_ == type_.as_str())
    }

    fn dated(&self, draft: Draft) -> Condition {
        let since = self
            .before(draft.type_)
            .filter(|before| before.status == draft.status.as_str())
            .map(|before| before.last_transition_time.clone());
        Condition {
            type_: draft.type_.as_str().to_owned(),
            status: draft.status.as_str().to_owned(),
            reason: draft.reason.to_owned(),
            message: bounded(&draft.message, LONGEST_MESSAGE),
            observed_generation: Some(self.acceptance.generation),
            last_transition_time: since.unwrap_or(Time(whole_seconds(self.now))),
        }
    }

    fn handled_request(&self) -> Option<String> {
        let wanted = self.acceptance.requested_at.as_ref();
        let handled = match (self.acceptance.outcome.is_err() || self.acceptance.suspended, self.progress) {
            // Nothing will be fetched: reading the annotation was all there was to do.
            (true, _) => wanted,
            (false, progress) => progress.and_then(|p| p.handled_request.as_ref()),
        };
        handled.or(self.current.last_handled_reconcile_at.as_ref()).cloned()
    }

    /// The later of what this process knows and what the object says; whole seconds, as in `metav1.Time`.
    fn latest(&self, known: Option<Timestamp>, current: &Option<String>) -> Option<String> {
        let current = current.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        known.map(whole_seconds).max(current).map(|time| time.to_string())
    }

    fn messages(&self, progress: Option<&Progress>, collected: u64) -> Option<MessageCounts> {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        match (progress, &self.current.messages) {
            (Some(progress), _) if progress.mailbox != Stage::NotYetTried => Some(MessageCounts {
                collected: count(collected),
                pending: count(progress.pending),
                quarantined: count(progress.quarantined),
            }),
            (_, current) => current.clone(),
        }
    }

    fn token(&self, progress: Option<&Progress>) -> Option<TokenStatus> {
        let mut token = self.current.token.clone().unwrap_or_default();
        if let Some(expiration) = progress.and_then(|p| p.token_expiration) {
            token.expiration_time = Some(whole_seconds(expiration).to_string());
        }
        if let Some(progress) = progress.filter(|p| p.token_expiration.is_some()) {
            token.roles = progress.roles.iter().take(8).map(|role| bounded(role, 64)).collect();
            token.service_principal_object_id = progress.service_principal.as_deref().map(|id| bounded(id, 64));
        }
        if self.acceptance.outcome.is_ok() && !self.acceptance.suspended {
            token.secret_expiration_time = self.acceptance.secret_expiration.map(|at| at.to_string());
        }
        (token != TokenStatus::default()).then_some(token)
    }
}

fn kept(type_: Kind, condition: &Condition) -> Draft {
    let status = match condition.status.as_str() {
        "True" => Status::True,
        "False" => Status::False,
        _ => Status::Unknown,
    };
    Draft { type_, status, reason: condition.reason.clone(), message: condition.message.clone() }
}

fn good_reason(type_: Kind) -> &'static str {
    match type_ {
        Kind::TokenHealthy => "TokenIssued",
        Kind::MailboxAccessible => "MailboxOpened",
        _ => "SinkAnswered",
    }
}

fn good_message(type_: Kind) -> &'static str {
    match type_ {
        Kind::TokenHealthy => "Entra issued a token with the permission needed",
        Kind::MailboxAccessible => "Exchange opened the folders",
        _ => "every sink answers",
    }
}

/// How long a stage must have failed for a reason before the object is Stalled. By name, for it may stand in a status that an earlier process
/// wrote; a name that is none of ours never stalls.
fn stalls_after(reason: &str) -> Option<SignedDuration> {
    let known = Reason::ALL.iter().find(|known| known.as_str() == reason)?;
    SignedDuration::try_from(known.stalls_after()?).ok()
}

fn sooner(at: &mut Option<Timestamp>, candidate: Option<Timestamp>) {
    *at = match (*at, candidate) {
        (Some(at), Some(candidate)) => Some(at.min(candidate)),
        (at, candidate) => at.or(candidate),
    };
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// `text`, at most `most` bytes of it, without control characters but line ends.
pub(crate) fn bounded(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for c in text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }) {
        if out.len() + c.len_utf8() > most {
            while out.len() + '…'.len_utf8() > most && out.pop().is_some() {}
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}
