//! What an AppRegistration's status should say: the same rules as a collector's, of the one stage that it has. Pure: no I/O, no clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Acceptance, desired};
use crate::api::{AppRegistrationStatus, MailboxCollectorStatus};
use crate::collect::{Progress, Stage};
use crate::diagnosis::{Condition as Kind, Reason};

/// The reason of a healthy app's conditions.
const ISSUED: &str = "TokenIssued";

/// How the last test of an app came out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Test {
    /// The token's stage.
    pub token: Stage,
    /// When the present trouble began, and how many tests in a row failed.
    pub trouble: Option<(Timestamp, u32)>,
    /// When the token ends, its roles, its `oid`.
    pub facts: Option<(Timestamp, Vec<String>, Option<String>)>,
}

/// The status at `now` and when it would say something else although nothing happens.
pub(crate) fn desired_of_app(
    acceptance: &Acceptance,
    test: Option<&Test>,
    current: &AppRegistrationStatus,
    now: Timestamp,
) -> (AppRegistrationStatus, Option<Timestamp>) {
    let progress = test.map(|test| {
        let (expiration, roles, object_id) = test.facts.clone().map_or((None, Vec::new(), None), |(at, roles, id)| (Some(at), roles, id));
        Progress {
            generation: acceptance.generation,
            token: test.token.clone(),
            // What an app has none of is in order.
            mailbox: Stage::Good,
            sink: Stage::Good,
            trouble: test.trouble,
            token_expiration: expiration,
            roles,
            service_principal: object_id,
            ..Progress::default()
        }
    });
    let wide = desired(acceptance, progress.as_ref(), 0, &widened(current), now);
    let conditions = wide.status.conditions.into_iter().filter(belongs).map(reworded).collect();
    let status = AppRegistrationStatus { observed_generation: wide.status.observed_generation, conditions, token: wide.status.token };
    (status, wide.next_change)
}

/// As the status of a collector, for whoever compares two.
pub(crate) fn widened(status: &AppRegistrationStatus) -> MailboxCollectorStatus {
    MailboxCollectorStatus {
        observed_generation: status.observed_generation,
        conditions: status.conditions.clone(),
        token: status.token.clone(),
        ..MailboxCollectorStatus::default()
    }
}

fn belongs(condition: &Condition) -> bool {
    condition.type_ != Kind::MailboxAccessible.as_str() && condition.type_ != Kind::SinkReady.as_str()
}

/// Ready says of an app what it says of a collector in other words.
fn reworded(condition: Condition) -> Condition {
    let message = match condition.reason.as_str() {
        reason if reason == Reason::Collecting.as_str() || reason == ISSUED => "Entra issued a token with a permission for mail",
        reason if reason == Reason::Progressing.as_str() => "no token was asked for yet",
        _ => return condition,
    };
    let reason = if condition.reason == Reason::Collecting.as_str() { ISSUED.to_owned() } else { condition.reason };
    Condition { reason, message: message.to_owned(), ..condition }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{Diagnosis, Retry};

    fn acceptance() -> Acceptance {
        Acceptance { generation: 2, outcome: Ok(()), suspended: false, requested_at: None, secret_expiration: None, warns: None }
    }

    fn shown(status: &AppRegistrationStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
    }

    #[test]
    fn an_app_has_its_own_conditions_and_a_second_look_changes_nothing() {
        let now: Timestamp = "2026-11-25T08:00:00Z".parse().unwrap();
        let fresh = AppRegistrationStatus::default();
        let (untested, _) = desired_of_app(&acceptance(), None, &fresh, now);
        let untried =
            ["Ready=Unknown/Progressing", "Accepted=True/Accepted", "TokenHealthy=Unknown/NotYetTried", "Reconciling=True/Progressing"];
        assert_eq!(shown(&untested), untried);

        let good = Test { token: Stage::Good, trouble: None, facts: Some((now, vec!["IMAP.AccessAsApp".into()], Some("oid".into()))) };
        let (healthy, _) = desired_of_app(&acceptance(), Some(&good), &untested, now);
        assert_eq!(shown(&healthy), ["Ready=True/TokenIssued", "Accepted=True/Accepted", "TokenHealthy=True/TokenIssued"]);
        assert_eq!(healthy.token.as_ref().and_then(|token| token.service_principal_object_id.as_deref()), Some("oid"));
        assert_eq!(desired_of_app(&acceptance(), Some(&good), &healthy, now).0, healthy);
        // A restarted process that has not tested yet leaves it as it was.
        assert_eq!(desired_of_app(&acceptance(), None, &healthy, now).0, healthy);

        let diagnosis = Diagnosis {
            condition: Kind::TokenHealthy,
            reason: Reason::SecretExpired,
            message: "ended".into(),
            retry: Retry::BackOff { at_least: None },
        };
        let bad = Test { token: Stage::Bad(Box::new(diagnosis)), trouble: Some((now, 1)), facts: None };
        let (refused, _) = desired_of_app(&acceptance(), Some(&bad), &healthy, now);
        assert_eq!(
            shown(&refused),
            ["Ready=False/SecretExpired", "Accepted=True/Accepted", "TokenHealthy=False/SecretExpired", "Stalled=True/SecretExpired"]
        );
    }
}
