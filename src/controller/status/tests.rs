//! Conditions by example, and what holds of every status that can be written.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::diagnosis::Retry;

const START: &str = "2026-11-25T08:00:00Z";

fn at(seconds: i64) -> Timestamp {
    START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn accepted(generation: i64) -> Acceptance {
    Acceptance { generation, outcome: Ok(()), suspended: false, requested_at: None, secret_expiration: None, warns: None }
}

fn refused(reason: Reason) -> Acceptance {
    Acceptance { outcome: Err(Refusal { reason, message: "field: problem; way out".into() }), ..accepted(1) }
}

fn bad(reason: Reason) -> Stage {
    let condition = reason.conditions()[0];
    Stage::Bad(Box::new(Diagnosis { condition, reason, message: format!("remedy for {}", reason.as_str()), retry: Retry::AtOnce }))
}

fn good() -> Progress {
    Progress { generation: 1, token: Stage::Good, mailbox: Stage::Good, sink: Stage::Good, last_fetch: Some(at(0)), ..Progress::default() }
}

/// `type=status/reason` of every condition, in order.
fn shown(status: &MailboxCollectorStatus) -> Vec<String> {
    status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
}

/// One object through time.
struct Object(MailboxCollectorStatus);

impl Object {
    fn new() -> Self {
        Self(MailboxCollectorStatus::default())
    }

    fn after(&mut self, seconds: i64, acceptance: &Acceptance, progress: Option<&Progress>) -> Vec<String> {
        self.0 = desired(acceptance, progress, 0, &self.0, at(seconds)).status;
        shown(&self.0)
    }

    fn condition(&self, kind: Kind) -> &Condition {
        self.0.conditions.iter().find(|c| c.type_ == kind.as_str()).unwrap()
    }
}

const HEALTHY: [&str; 5] = [
    "Ready=True/Collecting",
    "Accepted=True/Accepted",
    "TokenHealthy=True/TokenIssued",
    "MailboxAccessible=True/MailboxOpened",
    "SinkReady=True/SinkAnswered",
];

#[test]
fn a_new_object_progresses_and_becomes_ready_with_the_first_look() {
    let mut object = Object::new();
    let first = object.after(0, &accepted(1), None);
    assert_eq!(
        first,
        [
            "Ready=Unknown/Progressing",
            "Accepted=True/Accepted",
            "TokenHealthy=Unknown/NotYetTried",
            "MailboxAccessible=Unknown/NotYetTried",
            "SinkReady=Unknown/NotYetTried",
            "Reconciling=True/Progressing"
        ]
    );
    assert_eq!(object.after(3, &accepted(1), Some(&good())), HEALTHY);
    assert_eq!(object.condition(Kind::Ready).last_transition_time.0, at(3));
    assert_eq!(object.condition(Kind::Accepted).last_transition_time.0, at(0));
}

#[test]
fn a_restart_over_a_settled_object_changes_nothing() {
    let failing = Progress { token: bad(Reason::SecretInvalid), mailbox: Stage::NotYetTried, ..good() };
    let quarantined = Progress { quarantined: 3, last_message: Some(at(1)), token_expiration: Some(at(3_600)), ..good() };
    let lasting = Progress { mailbox: bad(Reason::ConnectionFailed), trouble: Some((at(0), 9)), ..good() };
    let ends = Acceptance { secret_expiration: Some(at(86_400 * 10)), warns: Some(Ending::Secret), ..accepted(1) };
    for (acceptance, progress) in
        [(accepted(1), good()), (accepted(1), failing), (accepted(1), quarantined), (accepted(1), lasting), (ends, good())]
    {
        let mut object = Object::new();
        object.after(0, &accepted(1), None);
        object.after(500, &acceptance, Some(&progress));
        let before = object.0.clone();
        for fresh in [None, Some(Progress { generation: 1, ..Progress::default() })] {
            object.after(900, &acceptance, fresh.as_ref());
            assert_eq!(object.0, before, "a new process without knowledge of its own");
        }
        let again = Progress { trouble: progress.trouble.map(|_| (at(901), 1)), ..progress.clone() };
        object.after(902, &acceptance, Some(&again));
        assert_eq!(shown(&object.0), shown(&before), "a new process that finds the same");
        assert_eq!(object.condition(Kind::Ready).last_transition_time.0, before.conditions[0].last_transition_time.0);
    }
}

#[test]
fn a_new_generation_is_tried_anew() {
    let mut object = Object::new();
    object.after(0, &accepted(1), Some(&good()));
    let stale = object.after(10, &accepted(2), Some(&good()));
    assert_eq!(stale[0], "Ready=Unknown/Progressing", "progress of another generation counts for nothing");
    assert_eq!(stale[2], "TokenHealthy=Unknown/NotYetTried");
    assert_eq!(object.after(11, &accepted(2), Some(&Progress { generation: 2, ..good() })), HEALTHY);
    assert!(object.0.conditions.iter().all(|c| c.observed_generation == Some(2)));
}

#[test]
fn ready_false_copies_the_first_failing_stage_and_stalls_when_its_reason_says() {
    // (what fails, reason, seconds until Stalled)
    let stage = |reason: Reason| {
        let mut progress = good();
        match reason.conditions()[0] {
            Kind::TokenHealthy => progress.token = bad(reason),
            Kind::MailboxAccessible => progress.mailbox = bad(reason),
            _ => progress.sink = bad(reason),
        }
        (accepted(1), Some(progress))
    };
    for (reason, stalls_after) in [
        (Reason::InvalidSpec, Some(0)),
        (Reason::SinkNotEnabled, Some(0)),
        (Reason::SecretNotFound, Some(120)),
        (Reason::SecretKeyMissing, Some(120)),
        (Reason::SecretInvalid, Some(0)),
        (Reason::PermissionOrConsentMissing, Some(3_600)),
        (Reason::ServicePrincipalNotRegistered, Some(3_600)),
        (Reason::FolderNotFound, Some(0)),
        (Reason::SinkRejects, Some(120)),
        (Reason::SinkUnavailable, None),
    ] {
        let (acceptance, progress) = if reason.conditions()[0] == Kind::Accepted { (refused(reason), None) } else { stage(reason) };
        let mut object = Object::new();
        object.after(0, &accepted(1), None);
        for seconds in [0, 119, 120, 3_599, 3_600, 100_000] {
            let shown = object.after(seconds, &acceptance, progress.as_ref());
            let ready = object.condition(Kind::Ready);
            assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", reason.as_str()));
            let stalled = stalls_after.is_some_and(|after| seconds >= after);
            let expected =
                if stalled { format!("Stalled=True/{}", reason.as_str()) } else { "Reconciling=True/ProgressingWithRetry".to_owned() };
            assert!(shown.contains(&expected), "{} after {seconds} s: {shown:?}", reason.as_str());
        }
        let first = desired(&acceptance, progress.as_ref(), 0, &MailboxCollectorStatus::default(), at(0));
        let expected = stalls_after.filter(|after| *after > 0).map(at);
        assert_eq!(first.next_change, expected, "{}", reason.as_str());
    }
}

#[test]
fn the_first_of_two_failing_stages_is_named() {
    let progress = Progress { token: bad(Reason::SecretExpired), sink: bad(Reason::SinkRejects), ..good() };
    let mut object = Object::new();
    assert_eq!(object.after(0, &accepted(1), Some(&progress))[0], "Ready=False/SecretExpired");
    assert_eq!(object.condition(Kind::Ready).message, "remedy for SecretExpired");
}

#[test]
fn passing_trouble_shows_after_five_minutes_and_three_failures_and_never_stalls() {
    for reason in [Reason::Throttled, Reason::ConnectionFailed, Reason::RefusedAfterSuccess, Reason::EntraUnavailable] {
        let mut object = Object::new();
        object.after(0, &accepted(1), Some(&good()));
        let trouble = |failures| {
            let (token, mailbox) = if reason == Reason::EntraUnavailable { (bad(reason), Stage::Good) } else { (Stage::Good, bad(reason)) };
            Progress { token, mailbox, trouble: Some((at(100), failures)), ..good() }
        };
        assert_eq!(object.after(100, &accepted(1), Some(&trouble(1))), HEALTHY, "{}", reason.as_str());
        assert_eq!(object.after(399, &accepted(1), Some(&trouble(9))), HEALTHY, "five minutes are not over");
        assert_eq!(object.after(900, &accepted(1), Some(&trouble(2))), HEALTHY, "two failures are not three");
        let told = desired(&accepted(1), Some(&trouble(3)), 0, &object.0, at(200));
        assert_eq!(told.next_change, Some(at(400)), "it shows by itself");
        let shown = object.after(100_000, &accepted(1), Some(&trouble(3)));
        assert_eq!(shown[0], format!("Ready=False/{}", reason.as_str()));
        assert!(shown.iter().any(|c| c.ends_with(&format!("=Unknown/{}", reason.as_str()))), "{shown:?}");
        assert_eq!(shown.last().unwrap(), "Reconciling=True/ProgressingWithRetry");
        assert_eq!(object.after(100_100, &accepted(1), Some(&good())), HEALTHY);
    }
}

#[test]
fn first_trouble_is_told_at_once_but_is_no_failure_yet() {
    let progress = Progress { mailbox: bad(Reason::ConnectionFailed), trouble: Some((at(0), 1)), ..good() };
    let mut object = Object::new();
    object.after(0, &accepted(1), None);
    let shown = object.after(1, &accepted(1), Some(&progress));
    assert_eq!((shown[0].as_str(), shown[3].as_str()), ("Ready=Unknown/Progressing", "MailboxAccessible=Unknown/ConnectionFailed"));
}

#[test]
fn a_healed_credential_is_ready_again_with_the_next_look() {
    let mut object = Object::new();
    let wrong = Progress { token: bad(Reason::SecretInvalid), mailbox: Stage::NotYetTried, sink: Stage::NotYetTried, ..good() };
    object.after(0, &accepted(1), Some(&wrong));
    let replaced = wrong.for_new_order(1);
    assert_eq!(object.after(20, &accepted(1), Some(&replaced))[0], "Ready=False/SecretInvalid", "not known to be better yet");
    let token = Progress { token: Stage::Good, ..replaced };
    let half = object.after(21, &accepted(1), Some(&token));
    assert_eq!(
        (half[0].as_str(), half[2].as_str(), half[5].as_str()),
        ("Ready=False/SecretInvalid", "TokenHealthy=True/TokenIssued", "Reconciling=True/ProgressingWithRetry")
    );
    assert_eq!(object.after(22, &accepted(1), Some(&good())), HEALTHY);
}

#[test]
fn a_suspended_object_is_ready_and_says_so() {
    let mut object = Object::new();
    object.after(0, &accepted(1), Some(&Progress { token: bad(Reason::SecretInvalid), ..good() }));
    let suspended = Acceptance { suspended: true, requested_at: Some("x".into()), ..accepted(2) };
    let shown = object.after(5, &suspended, None);
    assert_eq!((shown[0].as_str(), shown.len()), ("Ready=True/Suspended", 5));
    assert_eq!(object.0.last_handled_reconcile_at.as_deref(), Some("x"));
    assert!(object.condition(Kind::TokenHealthy).message.contains("spec.suspend"));
}

#[test]
fn a_full_quarantine_stops_an_otherwise_healthy_collector() {
    let stopped =
        Diagnosis { condition: Kind::Ready, reason: Reason::QuarantineFull, message: "replay or discard".into(), retry: Retry::AtOnce };
    let progress = Progress { stopped: Some(Box::new(stopped)), quarantined: 1_000, trouble: Some((at(0), 1)), ..good() };
    let mut object = Object::new();
    let shown = object.after(0, &accepted(1), Some(&progress));
    assert_eq!((shown[0].as_str(), shown[5].as_str()), ("Ready=False/QuarantineFull", "Stalled=True/QuarantineFull"));
    assert_eq!(shown[6], "QuarantineNotEmpty=True/MessagesQuarantined");
}

#[test]
fn a_request_is_echoed_when_it_was_acted_upon() {
    let asked = Acceptance { requested_at: Some("2".into()), ..accepted(1) };
    let mut object = Object::new();
    let handled = |token: &str| Progress { handled_request: Some(token.into()), ..good() };
    object.after(0, &asked, Some(&handled("1")));
    assert_eq!(object.0.last_handled_reconcile_at.as_deref(), Some("1"));
    object.after(1, &asked, Some(&handled("2")));
    assert_eq!(object.0.last_handled_reconcile_at.as_deref(), Some("2"));
    object.after(2, &asked, None);
    assert_eq!(object.0.last_handled_reconcile_at.as_deref(), Some("2"));
    object.after(3, &Acceptance { requested_at: Some("3".into()), ..refused(Reason::InvalidSpec) }, None);
    assert_eq!(object.0.last_handled_reconcile_at.as_deref(), Some("3"));
}

#[test]
fn long_text_is_cut_at_a_character_and_control_characters_are_gone() {
    assert_eq!(bounded("short", 10), "short");
    assert_eq!(bounded("exactly te", 10), "exactly te");
    assert_eq!(bounded("more than ten", 10), "more th…");
    assert_eq!(bounded("ééééééééé", 10), "ééé…");
    assert_eq!(bounded("a\u{0}b\u{1b}[31m\nc", 20), "a b [31m\nc");
}

fn stages() -> impl Strategy<Value = Progress> {
    let of = |kind: Kind| {
        let reasons: Vec<Stage> = Reason::ALL
            .iter()
            .filter(|r| r.conditions().contains(&kind) && **r != Reason::NotYetTried)
            .map(|r| {
                let message = "m".repeat(20_000);
                Stage::Bad(Box::new(Diagnosis { condition: kind, reason: *r, message, retry: Retry::AtOnce }))
            })
            .chain([Stage::Good, Stage::Good, Stage::NotYetTried])
            .collect();
        prop::sample::select(reasons)
    };
    let full = Diagnosis { condition: Kind::Ready, reason: Reason::QuarantineFull, message: "m".repeat(5_000), retry: Retry::AtOnce };
    let stopped = prop::option::weighted(0.1, Just(Box::new(full)));
    let trouble = prop::option::of((0_i64..4_000, 1_u32..6));
    (of(Kind::TokenHealthy), of(Kind::MailboxAccessible), of(Kind::SinkReady), stopped, trouble, 0_u64..3).prop_map(
        |(token, mailbox, sink, stopped, trouble, quarantined)| Progress {
            token,
            mailbox,
            sink,
            stopped,
            trouble: trouble.map(|(since, failures)| (at(since), failures)),
            quarantined,
            last_fetch: Some(at(0)),
            token_expiration: Some(at(9_999)),
            roles: vec!["r".repeat(5_000); 100],
            service_principal: Some("s".repeat(5_000)),
            handled_request: Some("h".repeat(256)),
            ..Progress::default()
        },
    )
}

#[derive(Clone, Debug)]
struct Step {
    wait: i64,
    acceptance: Acceptance,
    progress: Option<Progress>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let refusals: Vec<Reason> = Reason::ALL.iter().copied().filter(|r| r.conditions().contains(&Kind::Accepted)).collect();
    let outcome = prop_oneof![3 => Just(Ok(())), 1 => prop::sample::select(refusals).prop_map(|reason| Err(Refusal { reason, message: "m".repeat(20_000) }))];
    let expiration = prop::option::of((-10_i64..100).prop_map(|days| at(days * 86_400)));
    let step = (
        0_i64..4_000,
        outcome,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.3),
        prop::option::of(stages()),
        expiration,
        prop::bool::ANY,
    );
    prop::collection::vec(step, 1..12).prop_map(|steps| {
        let mut generation = 1;
        let each =
            |(wait, outcome, suspended, edited, progress, secret_expiration, lagging): (_, _, _, bool, Option<Progress>, _, bool)| {
                generation += i64::from(edited);
                let of = if lagging { generation - 1 } else { generation };
                let progress = progress.map(|progress| Progress { generation: of, ..progress });
                Step {
                    wait,
                    acceptance: Acceptance {
                        generation,
                        outcome,
                        suspended,
                        requested_at: Some("t".into()),
                        secret_expiration,
                        warns: Some(Ending::Secret),
                    },
                    progress,
                }
            };
        steps.into_iter().map(each).collect()
    })
}

proptest! {
    /// The rules that Flux's own controllers test their conditions by (kstatus reads objects the same way), our own of which conditions are
    /// there, and the bounds.
    #[test]
    fn every_status_keeps_the_rules(steps in steps()) {
        let mut current = MailboxCollectorStatus::default();
        let mut now = 0;
        for Step { wait, acceptance, progress } in steps {
            now += wait;
            let before = current.clone();
            let desired = desired(&acceptance, progress.as_ref(), u64::MAX, &current, at(now));
            let status = &desired.status;
            let find = |kind: Kind| status.conditions.iter().find(|c| c.type_ == kind.as_str());
            let is = |kind: Kind, wanted: &str| find(kind).is_some_and(|c| c.status == wanted);

            for kind in [Kind::Ready, Kind::Accepted, Kind::TokenHealthy, Kind::MailboxAccessible, Kind::SinkReady] {
                prop_assert!(find(kind).is_some(), "{} is missing", kind.as_str());
            }
            for kind in [Kind::Reconciling, Kind::Stalled, Kind::QuarantineNotEmpty, Kind::CredentialExpiring] {
                prop_assert!(find(kind).is_none() || is(kind, "True"), "{} is there and not True", kind.as_str());
            }
            prop_assert!(!(is(Kind::Ready, "True") && (find(Kind::Reconciling).is_some() || find(Kind::Stalled).is_some())));
            prop_assert!(find(Kind::Stalled).is_none() || is(Kind::Ready, "False"));
            prop_assert!(find(Kind::Reconciling).is_none() || find(Kind::Stalled).is_none());
            prop_assert!(is(Kind::Ready, "True") || find(Kind::Reconciling).is_some() || find(Kind::Stalled).is_some(), "not ready, and nothing goes on");
            prop_assert_eq!(status.observed_generation, acceptance.generation);
            for c in &status.conditions {
                prop_assert_eq!(c.observed_generation, Some(acceptance.generation));
                let old = before.conditions.iter().find(|b| b.type_ == c.type_);
                let flipped = old.is_none_or(|old| old.status != c.status);
                let kept = old.is_some_and(|old| old.last_transition_time == c.last_transition_time);
                prop_assert!(flipped || kept, "{} moved its time without a flip", c.type_);
                prop_assert!(!c.reason.is_empty() && c.message.len() <= LONGEST_MESSAGE);
            }
            if is(Kind::Ready, "True") && !acceptance.suspended {
                prop_assert!([Kind::Accepted, Kind::TokenHealthy, Kind::MailboxAccessible, Kind::SinkReady].into_iter().all(|kind| !is(kind, "False")));
            }
            let unique: std::collections::HashSet<_> = status.conditions.iter().map(|c| &c.type_).collect();
            prop_assert_eq!(unique.len(), status.conditions.len());
            let bytes = serde_json::to_vec(status).unwrap().len();
            prop_assert!(bytes < 8 * 1024, "{} bytes", bytes);
            let again = super::desired(&acceptance, progress.as_ref(), u64::MAX, status, at(now));
            prop_assert_eq!(&again.status, status, "computed again from what was written, it differs");
            prop_assert!(desired.next_change.is_none_or(|next| next > at(now)), "the next change lies in the past");
            current = desired.status;
        }
    }
}
