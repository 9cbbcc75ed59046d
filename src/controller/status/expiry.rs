//! How soon a client secret ends, in steps: the condition changes five times in two months, not daily. Pure: no I/O, no clock.

use jiff::{SignedDuration, Timestamp};

use super::Ending;
use crate::diagnosis::Reason;

/// Days before the end, and what is said from then on.
const STEPS: [(i64, Reason); 5] = [
    (1, Reason::ExpiresIn1Day),
    (7, Reason::ExpiresIn7Days),
    (14, Reason::ExpiresIn14Days),
    (30, Reason::ExpiresIn30Days),
    (60, Reason::ExpiresIn60Days),
];

/// What is to be said of an expiration, and when that changes.
pub(super) struct Expiry {
    /// Reason and message of `CredentialExpiring`; `None` while the end is far away.
    pub told: Option<(Reason, String)>,
    /// When something else is to be said.
    pub next_change: Option<Timestamp>,
}

/// Of a secret or certificate that ends at `end`; `refused`: Entra takes it no longer.
pub(super) fn of(end: Timestamp, ending: Ending, now: Timestamp, refused: bool) -> Expiry {
    if end <= now && ending == Ending::Secret {
        // A refused one is told by TokenHealthy.
        let message = || {
            format!(
                "secretExpirationTime {end} has passed and Entra still issues tokens: write the present secret's date into the Secret's key secretExpirationTime"
            )
        };
        return Expiry { told: (!refused).then(|| (Reason::ExpirationTimeStale, message())), next_change: None };
    }
    let left = end.duration_since(now);
    let days = |days: i64| SignedDuration::from_hours(24 * days);
    let step = STEPS.iter().find(|(within, _)| left <= days(*within));
    let below = STEPS.iter().rev().find(|(within, _)| left > days(*within)).map_or(SignedDuration::ZERO, |(within, _)| days(*within));
    Expiry {
        told: step.map(|(_, reason)| {
            let message = match ending {
                Ending::Secret => {
                    format!("the client secret ends at {end}: add a new one to the app registration and write it, with its date, into the Secret")
                }
                Ending::Certificate => format!(
                    "the certificate ends at {end}: upload a new one to the app registration and write it, with its key, into the Secret (tls.crt, tls.key)"
                ),
            };
            (*reason, message)
        }),
        next_change: end.checked_sub(below).ok().filter(|at| *at > now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_sharpens_in_steps_and_says_when_the_next_one_comes() {
        let end: Timestamp = "2027-05-01T00:00:00Z".parse().unwrap();
        for (hours_before, told, next_hours_before) in [
            (24 * 90, None, Some(24 * 60)),
            (24 * 60, Some("ExpiresIn60Days"), Some(24 * 30)),
            (24 * 31, Some("ExpiresIn60Days"), Some(24 * 30)),
            (24 * 30, Some("ExpiresIn30Days"), Some(24 * 14)),
            (24 * 10, Some("ExpiresIn14Days"), Some(24 * 7)),
            (24 * 5, Some("ExpiresIn7Days"), Some(24)),
            (1, Some("ExpiresIn1Day"), Some(0)),
            (0, Some("ExpirationTimeStale"), None),
            (-24, Some("ExpirationTimeStale"), None),
        ] {
            let before = |hours: i64| end - SignedDuration::from_hours(hours);
            let expiry = of(end, Ending::Secret, before(hours_before), false);
            assert_eq!(expiry.told.map(|(reason, _)| reason.as_str()), told, "{hours_before} h before");
            assert_eq!(expiry.next_change, next_hours_before.map(before), "{hours_before} h before");
        }
        assert!(of(end, Ending::Secret, end, true).told.is_none(), "TokenHealthy tells a secret that has ended");
        let certificate = of(end, Ending::Certificate, end + SignedDuration::from_hours(1), true);
        assert_eq!(certificate.told.map(|(reason, _)| reason.as_str()), Some("ExpiresIn1Day"), "its date is no mere declaration");
        assert_eq!(certificate.next_change, None);
    }
}
