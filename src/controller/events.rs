//! Which Events a written transition is worth, and the one recorder that publishes them. One app that fails for 10,000 collectors is one Event,
//! regarding its Secret or its AppRegistration (law 5). Texts are those of the conditions: bounded, without secrets.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::Key;
use super::pace::Pace;
use super::status::bounded;
use super::validate::Credentials;
use crate::admin::metrics::Metrics;
use crate::api::{AppRegistration, MailboxCollector, MailboxCollectorStatus};
use crate::collect::CollectorId;
use crate::diagnosis::Condition as Kind;

/// The same Event about the same object again, at the earliest.
const REPEATED_AFTER: Duration = Duration::from_secs(5 * 60);
/// About the same Secret: ten thousand collectors that share it are written one after the other, for more than half an hour.
const REPEATED_OF_SECRET_AFTER: Duration = Duration::from_secs(60 * 60);
/// Remembered Events, at most; beyond it those past their time go first, then all.
const REMEMBERED: usize = 8_192;
/// `note` may have 1 KiB.
const LONGEST_NOTE: usize = 1_000;
const DEADLINE: Duration = Duration::from_secs(10);

/// What an Event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Regarding {
    /// The collector.
    Collector,
    /// The Secret with its credential, which other collectors share.
    Secret,
}

/// An Event to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// About what.
    pub regarding: Regarding,
    /// Something a person should look at.
    pub warning: bool,
    /// The condition that changed.
    pub action: &'static str,
    /// The condition's reason.
    pub reason: String,
    /// The condition's message.
    pub note: String,
}

/// The Events of a change from one status to another. Pure.
pub(crate) fn notices(before: &MailboxCollectorStatus, after: &MailboxCollectorStatus) -> Vec<Notice> {
    let find = |status: &'_ MailboxCollectorStatus, kind: Kind| status.conditions.iter().find(|c| c.type_ == kind.as_str()).cloned();
    let changed = |kind: Kind| {
        let (old, new) = (find(before, kind), find(after, kind)?);
        let same = old.as_ref().is_some_and(|old| (&old.status, &old.reason) == (&new.status, &new.reason));
        (!same).then_some((old, new))
    };
    let notice = |kind: Kind, warning: bool, new: Condition| Notice {
        regarding: if matches!(kind, Kind::TokenHealthy | Kind::CredentialExpiring) { Regarding::Secret } else { Regarding::Collector },
        warning,
        action: kind.as_str(),
        reason: new.reason,
        note: bounded(&new.message, LONGEST_NOTE),
    };
    let mut notices = Vec::new();
    for kind in [Kind::Accepted, Kind::TokenHealthy, Kind::MailboxAccessible, Kind::SinkReady] {
        if let Some((_, new)) = changed(kind).filter(|(_, new)| new.status == "False") {
            notices.push(notice(kind, true, new));
        }
    }
    if let Some((old, new)) = changed(Kind::Ready) {
        // Ready=False copies a stage: told above, or (a trouble that lasts) only here. A token's trouble is the Secret's, told once for all.
        let of_the_token = find(after, Kind::TokenHealthy).is_some_and(|token| token.status != "True" && token.reason == new.reason);
        let told = of_the_token || notices.iter().any(|notice| notice.reason == new.reason);
        match new.status.as_str() {
            "True" if old.is_none_or(|old| old.status != "True" || old.reason != new.reason) => {
                notices.push(notice(Kind::Ready, false, new))
            }
            "False" if !told => notices.push(notice(Kind::Ready, true, new)),
            _ => {}
        }
    }
    for kind in [Kind::CredentialExpiring, Kind::QuarantineNotEmpty] {
        if let Some((_, new)) = changed(kind) {
            notices.push(notice(kind, true, new));
        }
    }
    notices
}

/// Publishes Events, at most so many. Losing one is no error: status says the same.
pub(crate) struct Events {
    recorder: Recorder,
    pace: Pace,
    metrics: Metrics,
    /// By namespace, name, kind and reason.
    told: Mutex<HashMap<(String, String, String, String), Instant>>,
}

impl Events {
    /// One per process: the recorder remembers what it has published.
    pub(crate) fn new(client: Client, pod: Option<String>, metrics: Metrics) -> Self {
        let reporter = Reporter { controller: super::FIELD_MANAGER.to_owned(), instance: pod };
        Self { recorder: Recorder::new(client, reporter), pace: Pace::per_second(5, 25), told: Mutex::default(), metrics }
    }

    /// Publishes what was not told within the last five minutes (about a Secret: within the last hour).
    pub(crate) async fn publish(&self, id: &CollectorId, credentials: Option<&Credentials>, notices: Vec<Notice>) {
        for notice in notices {
            let collector = reference::<MailboxCollector>(&id.namespace, &id.name, &id.uid);
            let (regarding, related) = match (notice.regarding, credentials) {
                // The AppRegistration's own status tells it, once for all who share it.
                (Regarding::Secret, Some(Credentials::AppRegistration(_))) => continue,
                (Regarding::Secret, Some(Credentials::Secret(secret))) => (secret_reference(&id.namespace, secret), Some(collector)),
                (_, _) => (collector, None),
            };
            self.record(notice, regarding, related).await;
        }
    }

    /// The same of an AppRegistration; whatever is said of its credential regards itself.
    pub(crate) async fn publish_of_app(&self, key: &Key, uid: &str, notices: Vec<Notice>) {
        for notice in notices {
            self.record(notice, reference::<AppRegistration>(&key.namespace, &key.name, uid), None).await;
        }
    }

    async fn record(&self, notice: Notice, regarding: ObjectReference, related: Option<ObjectReference>) {
        let (namespace, name) = (regarding.namespace.clone().unwrap_or_default(), regarding.name.clone().unwrap_or_default());
        let kind = regarding.kind.clone().unwrap_or_default();
        if !self.is_new((namespace.clone(), name.clone(), kind, notice.reason.clone())) || self.pace.take().is_err() {
            return;
        }
        let event = Event {
            type_: if notice.warning { EventType::Warning } else { EventType::Normal },
            reason: bounded(&notice.reason, 128),
            note: Some(notice.note),
            action: notice.action.to_owned(),
            secondary: related,
        };
        self.metrics.wrote("event");
        match timeout(DEADLINE, self.recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(namespace, name, reason = event.reason, %error, "Event not published"),
            Err(_) => debug!(namespace, name, reason = event.reason, "Event not published in time"),
        }
    }

    fn is_new(&self, what: (String, String, String, String)) -> bool {
        let now = Instant::now();
        let again = |kind: &str| if kind == SECRET { REPEATED_OF_SECRET_AFTER } else { REPEATED_AFTER };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED {
            told.retain(|(_, _, kind, _), at| now.duration_since(*at) < again(kind));
            if told.len() >= REMEMBERED {
                told.clear();
            }
        }
        let before = told.get(&what).copied();
        let new = before.is_none_or(|at| now.duration_since(at) >= again(&what.2));
        if new {
            told.insert(what, now);
        }
        new
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

const SECRET: &str = "Secret";

fn reference<K: Resource<DynamicType = ()>>(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn secret_reference(namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(SECRET.to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> MailboxCollectorStatus {
        let conditions = conditions
            .iter()
            .map(|(type_, status, reason)| Condition {
                type_: (*type_).into(),
                status: (*status).into(),
                reason: (*reason).into(),
                message: "m".into(),
                observed_generation: Some(1),
                last_transition_time: Time("2026-11-25T08:00:00Z".parse().unwrap()),
            })
            .collect();
        MailboxCollectorStatus { conditions, ..MailboxCollectorStatus::default() }
    }

    #[test]
    fn each_transition_is_told_once_and_nothing_else_is() {
        let progressing =
            [("Ready", "Unknown", "Progressing"), ("Accepted", "True", "Accepted"), ("TokenHealthy", "Unknown", "NotYetTried")];
        let good = [("Ready", "True", "Collecting"), ("Accepted", "True", "Accepted"), ("TokenHealthy", "True", "TokenIssued")];
        let refused = [("Ready", "False", "SecretInvalid"), ("Accepted", "True", "Accepted"), ("TokenHealthy", "False", "SecretInvalid")];
        let missing = [("Ready", "False", "SecretNotFound"), ("Accepted", "False", "SecretNotFound")];
        let cut_off = [
            ("Ready", "False", "ConnectionFailed"),
            ("Accepted", "True", "Accepted"),
            ("MailboxAccessible", "Unknown", "ConnectionFailed"),
        ];
        let busy =
            [("Ready", "False", "EntraUnavailable"), ("Accepted", "True", "Accepted"), ("TokenHealthy", "Unknown", "EntraUnavailable")];
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str, &'a str)], &'a [(&'a str, &'a str, &'a str)], &'a [(Regarding, bool, &'a str)]);
        let rows: [Row<'_>; 9] = [
            ("first seen", &[], &progressing, &[]),
            ("first success", &progressing, &good, &[(Regarding::Collector, false, "Collecting")]),
            ("nothing new", &good, &good, &[]),
            ("a token's trouble is its Secret's", &good, &refused, &[(Regarding::Secret, true, "SecretInvalid")]),
            ("healed", &refused, &good, &[(Regarding::Collector, false, "Collecting")]),
            ("refused", &[], &missing, &[(Regarding::Collector, true, "SecretNotFound")]),
            ("still refused", &missing, &missing, &[]),
            ("lasting trouble", &good, &cut_off, &[(Regarding::Collector, true, "ConnectionFailed")]),
            ("Entra's trouble is not told by each collector", &good, &busy, &[]),
        ];
        for (what, before, after, expected) in rows {
            let told = notices(&status(before), &status(after));
            let told: Vec<_> = told.iter().map(|n| (n.regarding, n.warning, n.reason.as_str())).collect();
            assert_eq!(told, expected, "{what}");
        }
    }
}
