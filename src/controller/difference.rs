//! Whether a status is worth writing (law 5): transitions are, a newer time or another count alone is only now and then. Pure: no I/O, no clock.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::MailboxCollectorStatus;

/// Shortest age of `lastFetchTime` that is worth a write.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(5 * 60);
/// Heartbeats a second of an installation, at most.
pub(crate) const HEARTBEATS_PER_SECOND: u32 = 2;

/// How a desired status differs from the one that the object has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// Nothing worth a write.
    Nothing,
    /// A fresher time, or another wording of the same reasons.
    Heartbeat,
    /// A condition's status or reason.
    Transition,
    /// The answer to what a person did: a new generation, a new `requestedAt`.
    Answer,
}

/// Compares. `collectors`: how many objects share the heartbeats; `since_write`: how long this process has not written this object.
pub(crate) fn difference(
    current: &MailboxCollectorStatus,
    desired: &MailboxCollectorStatus,
    collectors: usize,
    since_write: Duration,
) -> Difference {
    if current.observed_generation != desired.observed_generation || current.last_handled_reconcile_at != desired.last_handled_reconcile_at
    {
        return Difference::Answer;
    }
    if !current.conditions.iter().map(meaning).eq(desired.conditions.iter().map(meaning)) {
        return Difference::Transition;
    }
    let heartbeat = heartbeat_period(collectors);
    let worded_otherwise = !current.conditions.iter().map(|c| &c.message).eq(desired.conditions.iter().map(|c| &c.message));
    if (worded_otherwise && since_write >= heartbeat) || fetch_is_old(current, desired, heartbeat) {
        Difference::Heartbeat
    } else {
        Difference::Nothing
    }
}

fn meaning(condition: &Condition) -> (&str, &str, &str, Option<i64>) {
    (&condition.type_, &condition.status, &condition.reason, condition.observed_generation)
}

fn heartbeat_period(collectors: usize) -> Duration {
    let shared = Duration::from_secs(1) * u32::try_from(collectors).unwrap_or(u32::MAX) / HEARTBEATS_PER_SECOND;
    SHORTEST_HEARTBEAT.max(shared)
}

fn fetch_is_old(current: &MailboxCollectorStatus, desired: &MailboxCollectorStatus, heartbeat: Duration) -> bool {
    let time = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    match (time(&current.last_fetch_time), time(&desired.last_fetch_time)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(told), Some(known)) => Duration::try_from(known.duration_since(told)).is_ok_and(|age| age > heartbeat),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::MessageCounts;

    fn status(change: impl FnOnce(&mut MailboxCollectorStatus)) -> MailboxCollectorStatus {
        let condition = Condition {
            type_: "Ready".into(),
            status: "True".into(),
            reason: "Collecting".into(),
            message: "fine".into(),
            observed_generation: Some(3),
            last_transition_time: Time("2026-11-25T08:00:00Z".parse().unwrap()),
        };
        let mut status = MailboxCollectorStatus {
            observed_generation: 3,
            conditions: vec![condition],
            last_fetch_time: Some("2026-11-25T08:00:00Z".into()),
            ..MailboxCollectorStatus::default()
        };
        change(&mut status);
        status
    }

    #[test]
    fn counts_and_times_alone_cause_no_write() {
        let current = status(|_| {});
        let long = Duration::from_secs(100_000);
        let rows: [(&str, MailboxCollectorStatus, Difference); 8] = [
            ("the same", status(|_| {}), Difference::Nothing),
            ("counts", status(|s| s.messages = Some(MessageCounts { collected: 5, pending: 1, quarantined: 0 })), Difference::Nothing),
            ("a message's time", status(|s| s.last_message_time = Some("2026-11-25T09:00:00Z".into())), Difference::Nothing),
            ("a fetch 5 min later", status(|s| s.last_fetch_time = Some("2026-11-25T08:05:00Z".into())), Difference::Nothing),
            ("a fetch 301 s later", status(|s| s.last_fetch_time = Some("2026-11-25T08:05:01Z".into())), Difference::Heartbeat),
            ("another wording", status(|s| s.conditions[0].message = "well".into()), Difference::Heartbeat),
            ("another reason", status(|s| s.conditions[0].reason = "Suspended".into()), Difference::Transition),
            ("another generation", status(|s| s.observed_generation = 4), Difference::Answer),
        ];
        for (what, desired, expected) in rows {
            assert_eq!(difference(&current, &desired, 10, long), expected, "{what}");
        }
        let reworded = status(|s| s.conditions[0].message = "well".into());
        assert_eq!(difference(&current, &reworded, 10, Duration::from_secs(60)), Difference::Nothing, "just written");
    }

    #[test]
    fn ten_thousand_collectors_share_two_heartbeats_a_second() {
        let current = status(|_| {});
        for (later, expected) in [("2026-11-25T09:23:20Z", Difference::Nothing), ("2026-11-25T09:23:21Z", Difference::Heartbeat)] {
            let desired = status(|s| s.last_fetch_time = Some(later.into()));
            assert_eq!(difference(&current, &desired, 10_000, Duration::ZERO), expected, "{later}");
        }
    }
}
