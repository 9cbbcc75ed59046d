//! What is accepted, and what a refusal says.

use super::*;
use crate::collect::{Glob, SinkConfig, Start};
use crate::diagnosis::Reason;
use crate::entra::{Cloud, Proof};
use secrecy::ExposeSecret;

const ENABLED: Options = Options { file_sink: true, workload_identity: false };

fn object(change: impl FnOnce(&mut Value)) -> MailboxCollector {
    let mut value = json!({
        "apiVersion": "mailbox-collector.io/v1alpha1", "kind": "MailboxCollector",
        "metadata": {"namespace": "tenant", "name": "invoices", "uid": "u-1", "generation": 7},
        "spec": {
            "mailbox": "Invoices@Contoso.com",
            "credentials": {"secretRef": {"name": "azure-app"}},
            "sinks": [{"name": "drop", "file": {"path": "in/voices"}}],
        },
    });
    change(&mut value);
    serde_json::from_value(value).expect("the object itself must deserialise, whatever its values")
}

fn secret(change: &[(&str, Option<&[u8]>)]) -> SecretData {
    let mut data: std::collections::BTreeMap<String, Vec<u8>> =
        [("tenantId", "contoso.com"), ("clientId", "1111-2222"), ("clientSecret", "s3cr3t")]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
            .collect();
    for (key, value) in change {
        match value {
            Some(value) => data.insert((*key).to_owned(), value.to_vec()),
            None => data.remove(*key),
        };
    }
    SecretData::new("Opaque", data)
}

#[test]
fn a_minimal_object_gets_the_documented_defaults() {
    let order = validate(&object(|_| {}), &secret(&[]), &ENABLED).unwrap();
    assert_eq!(order.id, CollectorId { namespace: "tenant".into(), name: "invoices".into(), uid: "u-1".into() });
    assert_eq!((order.generation, order.mailbox.as_str()), (7, "invoices@contoso.com"));
    assert_eq!(order.folders, ["INBOX"]);
    assert_eq!((order.interval, order.push), (Duration::from_secs(300), true));
    assert_eq!(order.max_message_bytes, 150 * 1024 * 1024);
    assert_eq!(order.sinks, [NamedSink { name: "drop".into(), config: SinkConfig::File { directory: "tenant/in/voices".into() } }]);
    assert_eq!(order.requested_at, None);
    assert_eq!((order.credential.tenant_id.as_str(), order.credential.client_id.as_str()), ("contoso.com", "1111-2222"));
}

#[test]
fn folders_are_taken_as_they_are_written_but_for_the_case_of_inbox() {
    let order = |folders: Value| validate(&object(|o| o["spec"]["folders"] = folders), &secret(&[]), &ENABLED).unwrap().folders;
    assert_eq!(order(json!([{"name": "Factures/À traiter"}, {"name": "inbox"}])), ["Factures/À traiter", "INBOX"]);
    assert_eq!(order(json!([{"name": "Inbox/Sub"}, {"name": "Archive"}])), ["INBOX/Sub", "Archive"]);
    assert_eq!(order(json!([])), ["INBOX"]);
}

#[test]
fn a_schedule_takes_the_place_of_interval_and_push() {
    let order = |spec: Value| {
        let changed = object(|o| o["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone()));
        validate(&changed, &secret(&[]), &ENABLED).map_err(|error| error.to_string())
    };
    let paris = json!({"schedule": "0 6 * * *", "timeZone": "Europe/Paris"});
    let scheduled = order(paris).unwrap();
    assert_eq!(scheduled.schedule, Some(Calendar::parse("0 6 * * *", Some("Europe/Paris")).unwrap()));
    assert!(!scheduled.push && order(json!({"schedule": "0 6 * * *", "push": true})).unwrap().push);
    assert!(!order(json!({"schedule": "0 6 * * *"})).unwrap().same_work(&scheduled), "UTC is not Paris");
    let both = order(json!({"schedule": "0 6 * * *", "interval": "5m"})).unwrap_err();
    assert!(both.contains("spec.interval: stands beside schedule"), "{both}");
    let zone = order(json!({"schedule": "0 6 * * *", "timeZone": "Paris"})).unwrap_err();
    assert!(zone.contains("spec.timeZone: \"Paris\" is not a time zone"), "{zone}");
}

#[test]
fn what_is_selected_is_taken_from_the_spec() {
    let order = |created: Option<&str>| {
        let changed = object(|o| {
            o["metadata"]["creationTimestamp"] = json!(created);
            o["spec"]["startFrom"] = json!("Now");
            o["spec"]["select"] = json!({"from": ["*@x.fr"], "receivedAfter": "2026-01-31T08:00:00+01:00", "maxAge": "720h"});
            o["spec"]["limits"] = json!({"maxMessageBytes": 1_000});
        });
        validate(&changed, &secret(&[]), &ENABLED).unwrap()
    };
    let created = "2026-11-25T10:00:00Z";
    let expected = Selection {
        start: Start::At(created.parse().unwrap()),
        from: vec![Glob::new("*@x.fr")],
        received_after: Some("2026-01-31T07:00:00Z".parse().unwrap()),
        max_age: Some(Duration::from_secs(720 * 3_600)),
        ..Selection::default()
    };
    let taken = order(Some(created));
    assert_eq!((&taken.selection, taken.max_message_bytes), (&expected, 1_000));
    assert_eq!(order(None).selection.start, Start::FirstSeen, "a file has no creation");
    assert!(!order(None).same_work(&taken));
}

#[test]
fn values_that_say_the_default_are_accepted() {
    let full = object(|o| {
        o["metadata"]["annotations"] = json!({"mailbox-collector.io/requestedAt": "now", "mailbox-collector.io/resyncConfirm": "true"});
        let spec = &mut o["spec"];
        spec["protocol"] = json!("IMAP");
        spec["folders"] = json!([{"name": "Inbox"}]);
        spec["interval"] = json!("1h30m");
        spec["push"] = json!(false);
        spec["startFrom"] = json!("Beginning");
        spec["select"] = json!({});
        spec["limits"] = json!({"maxMessageBytes": 157_286_400});
        spec["afterDelivery"] = json!({"action": "Keep"});
        spec["sinks"][0]["file"]["format"] = json!("EML");
        spec["suspend"] = json!(false);
    });
    let order = validate(&full, &secret(&[]), &ENABLED).unwrap();
    assert_eq!((order.interval, order.push, order.requested_at.as_deref()), (Duration::from_secs(5_400), false, Some("now")));
}

#[test]
fn pop3_is_accepted_and_what_it_cannot_do_is_refused_by_field() {
    let order = validate(&object(|o| o["spec"]["protocol"] = json!("POP3")), &secret(&[]), &ENABLED).unwrap();
    assert_eq!((order.protocol, order.protocol.role(), order.push), (Protocol::Pop3, "POP.AccessAsApp", false));
    assert_eq!(order.folders, ["INBOX"]);
    let polled = object(|o| {
        o["spec"]["protocol"] = json!("POP3");
        o["spec"]["push"] = json!(false);
        o["spec"]["afterDelivery"] = json!({"action": "Keep"});
    });
    assert!(validate(&polled, &secret(&[]), &ENABLED).is_ok());
    let rows = [
        ("folders", json!([{"name": "INBOX"}]), ["spec.folders:", "only the inbox", "protocol: IMAP"]),
        ("push", json!(true), ["spec.push:", "POP3", "protocol: IMAP"]),
        ("afterDelivery", json!({"action": "Move", "folder": "Done"}), ["spec.afterDelivery.action:", "\"Move\"", "Delete"]),
        ("afterDelivery", json!({"action": "MarkSeen"}), ["spec.afterDelivery.action:", "\"MarkSeen\"", "Delete"]),
    ];
    for (field, value, words) in rows {
        let wrong = object(|o| {
            o["spec"]["protocol"] = json!("POP3");
            o["spec"][field] = value.clone();
        });
        let error = validate(&wrong, &secret(&[]), &ENABLED).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidSpec);
        words.iter().for_each(|word| assert!(error.to_string().contains(word), "{error}"));
    }
}

#[test]
fn each_bad_field_is_named_with_its_problem_and_the_way_out() {
    let long = "x".repeat(1_000_000);
    type Row<'a> = (&'a str, Value, Reason, &'a [&'a str]);
    let rows: Vec<Row<'_>> = vec![
        ("/spec/mailbox", json!("nobody"), Reason::InvalidSpec, &["spec.mailbox:", "\"nobody\"", "user@domain"]),
        ("/spec/mailbox", json!(long), Reason::InvalidSpec, &["spec.mailbox:", "…"]),
        ("/spec/protocol", json!("JMAP"), Reason::InvalidSpec, &["spec.protocol:", "\"JMAP\"", "write IMAP or POP3"]),
        ("/spec/credentials", json!({}), Reason::InvalidSpec, &["spec.credentials:", "neither", "secretRef"]),
        (
            "/spec/credentials",
            json!({"secretRef": {"name": "a"}, "appRegistrationRef": {"name": "b"}}),
            Reason::InvalidSpec,
            &["spec.credentials:", "both", "exactly one"],
        ),
        (
            "/spec/credentials",
            json!({"appRegistrationRef": {"name": "B"}}),
            Reason::InvalidSpec,
            &["spec.credentials.appRegistrationRef.name:"],
        ),
        ("/spec/credentials", json!({"secretRef": {"name": "../other"}}), Reason::InvalidSpec, &["spec.credentials.secretRef.name:"]),
        (
            "/spec/folders",
            json!([{"name": "INBOX"}, {"name": "inbox"}]),
            Reason::InvalidSpec,
            &["spec.folders[1].name:", "\"INBOX\"", "twice"],
        ),
        ("/spec/folders", json!([{"name": "inbox/A"}, {"name": "InBox/a"}]), Reason::InvalidSpec, &["spec.folders[1].name:", "twice"]),
        (
            "/spec/folders",
            json!([{"name": "Été"}, {"name": "été"}]),
            Reason::InvalidSpec,
            &["spec.folders[1].name:", "twice", "upper case"],
        ),
        ("/spec/folders", json!([{"name": "Sent/"}]), Reason::InvalidSpec, &["spec.folders[0].name:", "empty level", "INBOX/Invoices"]),
        ("/spec/folders", json!([{"name": "a//b"}]), Reason::InvalidSpec, &["empty level"]),
        ("/spec/folders", json!([{"name": ""}]), Reason::InvalidSpec, &["is empty"]),
        ("/spec/folders", json!([{"name": "a\r\nb"}]), Reason::InvalidSpec, &["control character"]),
        ("/spec/folders", json!([{"name": "x".repeat(513)}]), Reason::InvalidSpec, &["too long"]),
        ("/spec/folders", json!((0..65).map(|n| json!({"name": n.to_string()})).collect::<Vec<_>>()), Reason::InvalidSpec, &["64"]),
        ("/spec/interval", json!("5 minutes"), Reason::InvalidSpec, &["spec.interval:", "\"5 minutes\"", "1m to 24h"]),
        ("/spec/interval", json!("5s"), Reason::InvalidSpec, &["spec.interval:", "bounds", "1m to 24h"]),
        ("/spec/interval", json!("25h"), Reason::InvalidSpec, &["spec.interval:"]),
        ("/spec/interval", json!("1e400h"), Reason::InvalidSpec, &["spec.interval:"]),
        ("/spec/interval", json!("9".repeat(1_000_000)), Reason::InvalidSpec, &["spec.interval:"]),
        ("/spec/schedule", json!("0 6 * *"), Reason::InvalidSpec, &["spec.schedule:", "five fields", "MON-FRI"]),
        ("/spec/schedule", json!("0 0 30 2 *"), Reason::InvalidSpec, &["spec.schedule:", "never comes"]),
        ("/spec/timeZone", json!("Europe/Paris"), Reason::InvalidSpec, &["spec.timeZone"]),
        ("/spec/startFrom", json!("Yesterday"), Reason::InvalidSpec, &["spec.startFrom:", "\"Yesterday\""]),
        ("/spec/select", json!({"from": ["*@x.fr", ""]}), Reason::InvalidSpec, &["spec.select.from[1]:", "is empty", "*@supplier.com"]),
        ("/spec/select", json!({"to": ["x".repeat(513)]}), Reason::InvalidSpec, &["spec.select.to[0]:", "512"]),
        ("/spec/select", json!({"subject": vec!["x"; 65]}), Reason::InvalidSpec, &["spec.select.subject:", "64"]),
        (
            "/spec/select",
            json!({"receivedAfter": "yesterday"}),
            Reason::InvalidSpec,
            &["spec.select.receivedAfter:", "2026-01-31T08:00:00Z"],
        ),
        ("/spec/select", json!({"maxAge": "30 days"}), Reason::InvalidSpec, &["spec.select.maxAge:", "720h"]),
        ("/spec/limits", json!({"maxMessageBytes": 0}), Reason::InvalidSpec, &["spec.limits.maxMessageBytes:", "1073741824"]),
        ("/spec/limits", json!({"maxMessageBytes": 1_073_741_825}), Reason::InvalidSpec, &["spec.limits.maxMessageBytes:"]),
        ("/spec/limits", json!({"maxMessageBytes": i64::MIN}), Reason::InvalidSpec, &["spec.limits.maxMessageBytes"]),
        ("/spec/afterDelivery", json!({"action": "Move"}), Reason::InvalidSpec, &["spec.afterDelivery.folder: is missing", "Archive"]),
        ("/spec/afterDelivery", json!({"action": "Delete", "folder": "x"}), Reason::InvalidSpec, &["spec.afterDelivery.folder:", "Move"]),
        ("/spec/afterDelivery", json!({"action": "Move", "folder": "inbox"}), Reason::InvalidSpec, &["\"inbox\" is collected itself"]),
        ("/spec/afterDelivery", json!({"action": "Move", "folder": "a//b"}), Reason::InvalidSpec, &["\"a//b\" is not a folder's name"]),
        ("/spec/afterDelivery", json!({"action": "Move", "folder": "a\r\nb"}), Reason::InvalidSpec, &["is not a folder's name"]),
        ("/spec/afterDelivery", json!({"action": "Move", "folder": "x".repeat(513)}), Reason::InvalidSpec, &["is not a folder's name"]),
        ("/spec/afterDelivery", json!({"action": "Shred"}), Reason::InvalidSpec, &["spec.afterDelivery.action:", "\"Shred\""]),
        ("/spec/afterDelivery", json!({"folder": "Done"}), Reason::InvalidSpec, &["spec.afterDelivery.folder:", "Move"]),
        ("/spec/sinks", json!([]), Reason::InvalidSpec, &["spec.sinks:", "is empty"]),
        (
            "/spec/sinks",
            json!([{"name": "a", "file": {"path": "a"}}, {"name": "b", "file": {"path": "b"}}]),
            Reason::InvalidSpec,
            &["spec.sinks", "more than one"],
        ),
        ("/spec/sinks", json!([{"name": "a"}]), Reason::InvalidSpec, &["spec.sinks[0]:", "no member"]),
        ("/spec/sinks", json!([{"name": "a", "carrierPigeon": {}}]), Reason::InvalidSpec, &["spec.sinks[0]:", "no member"]),
        ("/spec/sinks", json!([{"name": "a/b", "file": {"path": "a"}}]), Reason::InvalidSpec, &["spec.sinks[0].name:"]),
        (
            "/spec/sinks",
            json!([{"name": "a", "file": {"path": "a"}, "webhook": {"url": "https://x"}}]),
            Reason::InvalidSpec,
            &["spec.sinks[0]:", "more than one member"],
        ),
        (
            "/spec/sinks",
            json!([{"name": "a", "webhook": {"url": "https://x"}}]),
            Reason::InvalidSpec,
            &["spec.sinks[0].webhook", "not built yet"],
        ),
        ("/spec/sinks/0/file/format", json!("Maildir"), Reason::InvalidSpec, &["file.format: Maildir", "EML"]),
        ("/spec/sinks/0/file/format", json!("mbox"), Reason::InvalidSpec, &["file.format:", "\"mbox\""]),
        ("/spec/sinks/0/file/path", json!("../other-tenant"), Reason::InvalidSpec, &["spec.sinks[0].file.path:", "..", "for example"]),
        ("/spec/sinks/0/file/path", json!("/etc"), Reason::InvalidSpec, &["spec.sinks[0].file.path:", "begins with"]),
        ("/spec/sinks/0/file/path", json!("{mailbox}"), Reason::InvalidSpec, &["spec.sinks[0].file.path:", "templates"]),
        ("/spec/sinks/0/file/path", json!(long), Reason::InvalidSpec, &["spec.sinks[0].file.path:", "too long"]),
        ("/metadata/namespace", json!("../etc"), Reason::InvalidSpec, &["metadata.namespace:"]),
        (
            "/metadata/annotations",
            json!({"mailbox-collector.io/resyncFrom": "Beginning"}),
            Reason::InvalidSpec,
            &["resyncFrom]: stands without", "requestedAt to the very same value"],
        ),
        (
            "/metadata/annotations",
            json!({"mailbox-collector.io/resyncFrom": "x", "mailbox-collector.io/requestedAt": "x"}),
            Reason::InvalidSpec,
            &["resyncFrom]: \"x\" is neither", "2026-11-25T00:00:00Z"],
        ),
        (
            "/metadata/annotations",
            json!({"mailbox-collector.io/discard": "INBOX", "mailbox-collector.io/requestedAt": "INBOX"}),
            Reason::InvalidSpec,
            &["discard]: \"INBOX\"", "INBOX/17"],
        ),
        (
            "/metadata/annotations",
            json!({"mailbox-collector.io/discard": "*", "mailbox-collector.io/replay": "*", "mailbox-collector.io/requestedAt": "*"}),
            Reason::InvalidSpec,
            &["discard]: asks for something else"],
        ),
        ("/metadata/annotations", json!({"mailbox-collector.io/replay": "x"}), Reason::InvalidSpec, &["replay"]),
        ("/metadata/annotations", json!({"mailbox-collector.io/discard": "x"}), Reason::InvalidSpec, &["discard"]),
        ("/metadata/annotations", json!({"mailbox-collector.io/requestedAt": long}), Reason::InvalidSpec, &["requestedAt", "256 bytes"]),
    ];
    for (pointer, value, reason, says) in rows {
        let shown: String = value.to_string().chars().take(80).collect();
        let bad = object(|o| set(o, pointer, value));
        let error = validate(&bad, &secret(&[]), &ENABLED).expect_err(&format!("{pointer} {shown} was accepted"));
        let message = error.to_string();
        assert_eq!(error.reason(), reason, "{pointer} {shown}");
        assert!(says.iter().all(|part| message.contains(part)), "{pointer} {shown}: {message}");
        assert!(message.len() < 600, "{pointer} {shown}: the message has {} bytes", message.len());
    }
}

fn set(value: &mut Value, pointer: &str, new: Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[last] = new;
}

#[test]
fn a_file_sink_without_a_root_says_which_flag_is_missing() {
    let error = validate(&object(|_| {}), &secret(&[]), &Options::default()).unwrap_err();
    assert_eq!(error.reason(), Reason::SinkNotEnabled);
    assert!(error.to_string().contains("--file-sink-root"), "{error}");
}

#[test]
fn a_credential_is_trimmed_and_its_optional_keys_are_read() {
    let data = secret(&[
        ("clientSecret", Some(b"  s3cr3t\r\n")),
        ("tenantId", Some(b"0b5c3a1e-0000-4000-8000-000000000000\n")),
        ("cloud", Some(b"USGovernmentDoD")),
        ("secretExpirationTime", Some(b"2027-05-01T00:00:00Z\n")),
    ]);
    let credential = validate(&object(|_| {}), &data, &ENABLED).unwrap().credential;
    let Proof::Secret(value) = &credential.proof else { panic!("{credential:?}") };
    assert_eq!(value.expose_secret(), "s3cr3t");
    assert_eq!(credential.tenant_id, "0b5c3a1e-0000-4000-8000-000000000000");
    assert_eq!(credential.cloud, Cloud::UsGovernmentDod);
    assert_eq!(credential.secret_expiration, Some("2027-05-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn each_bad_key_of_a_secret_is_named_and_its_value_never_shown() {
    const CANARY: &str = "c4n4ry";
    let huge = CANARY.repeat(200_000);
    let huge = [("clientSecret", Some(huge.as_bytes()))];
    let not_text = [CANARY.as_bytes(), &[0xff, 0xfe]].concat();
    let not_text = [("clientSecret", Some(not_text.as_slice()))];
    type Row<'a> = (&'a [(&'a str, Option<&'a [u8]>)], &'a [&'a str]);
    let rows: Vec<Row<'_>> = vec![
        (&[("tenantId", None)], &["key tenantId is missing"]),
        (&[("clientId", None)], &["key clientId is missing"]),
        (&[("clientSecret", None)], &["key clientSecret is missing", "kubectl create secret generic azure-app"]),
        (&[("clientSecret", None), ("client_secret", Some(b"c4n4ry"))], &["there is a key \"client_secret\""]),
        (&[("clientSecret", None), ("AZURE_CLIENT_SECRET", Some(b"c4n4ry"))], &["there is a key \"AZURE_CLIENT_SECRET\""]),
        (&[("clientSecret", None), ("tls.crt", Some(b"c4n4ry"))], &["key tls.key is missing", "--from-file=tls.key"]),
        (&[("clientSecret", None), ("tls.key", Some(b"c4n4ry"))], &["key tls.crt is missing", "--from-file=tls.crt"]),
        (&[("clientSecret", None), ("tls.crt", Some(b"c4n4ry")), ("tls.key", Some(b"c4n4ry"))], &["key tls.crt holds no certificate"]),
        (&[("tls.crt", Some(b"c4n4ry"))], &["key tls.crt stands beside clientSecret", "remove one"]),
        (&[("clientSecret", Some(b" \n"))], &["key clientSecret is empty"]),
        (&not_text, &["key clientSecret is not UTF-8"]),
        (&huge, &["key clientSecret is longer than 1024 bytes"]),
        (&[("clientSecret", Some(b"c4n4ry\nc4n4ry"))], &["key clientSecret has a line break"]),
        (&[("tenantId", Some(b"c4n4ry/../x"))], &["key tenantId is not a directory"]),
        (&[("tenantId", Some(b"c4n4ry?x=y"))], &["key tenantId is not a directory"]),
        (&[("clientId", Some(b"c4n4ry&x"))], &["key clientId is not an application"]),
        (&[("cloud", Some(b"c4n4ry"))], &["key cloud is not one of Public"]),
        (&[("secretExpirationTime", Some(b"c4n4ry"))], &["key secretExpirationTime is not an RFC 3339 time"]),
    ];
    for (change, says) in rows {
        let data = secret(change);
        let error = validate(&object(|_| {}), &data, &ENABLED).expect_err(says[0]);
        let message = error.to_string();
        assert_eq!(error.reason(), Reason::SecretKeyMissing, "{message}");
        assert!(says.iter().all(|part| message.contains(part)), "{message}");
        assert!(message.len() < 600 && !message.contains(CANARY), "{message}");
        assert!(!format!("{data:?} {error:?}").contains(CANARY), "Debug shows a value");
    }
}

#[test]
fn secrets_of_other_programs_are_refused_by_type() {
    for type_ in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"] {
        let data = SecretData::new(type_, [("token".to_owned(), b"c4n4ry".to_vec())]);
        let error = validate(&object(|_| {}), &data, &ENABLED).unwrap_err();
        assert_eq!(error.reason(), Reason::SecretNotOptedIn);
        assert!(error.to_string().contains(type_) && error.to_string().contains("kubectl create secret generic azure-app"), "{error}");
    }
}

#[test]
fn the_field_that_cannot_be_read_is_named() {
    for (spec, says) in [
        (json!({"mailbox": "a@b.fr", "interval": 300}), "spec.interval: invalid type: integer `300`, expected a string"),
        (json!({"mailbox": ["a@b.fr"]}), "spec.mailbox: invalid type: sequence"),
        (json!({"sinks": {"name": "drop"}}), "spec.sinks: invalid type: map"),
        (json!({"mailbox": "a@b.fr", "credentials": {}}), "spec: missing field `sinks`"),
        (json!({"sinks": [{"file": {"path": "x"}}]}), "spec.sinks: missing field `name`"),
        (json!("no"), "spec: is missing"),
    ] {
        let message = unreadable_field(&json!({"spec": spec})).expect(says).to_string();
        assert!(message.starts_with(says) && message.contains("apply the object again"), "{message}");
    }
    let long = json!({"spec": {"suspend": "x".repeat(1_000_000)}});
    assert!(unreadable_field(&long).unwrap().to_string().len() < 500);
}

#[test]
fn an_object_from_a_file_without_uid_is_the_same_collector_each_time() {
    let bare = object(|o| {
        o["metadata"].as_object_mut().unwrap().remove("uid");
    });
    let data = ["tenantId", "clientId", "clientSecret"].map(|key| (key.to_owned(), k8s_openapi::ByteString(b"x".to_vec())));
    let azure = Secret { data: Some(data.into()), ..Secret::default() };
    let order = from_files(&bare, |name| (name == "azure-app").then_some(&azure), |_| None, &ENABLED).unwrap();
    assert_eq!(order.id.uid, "tenant/invoices/invoices@contoso.com", "edited to another mailbox it is another");
    let error = from_files(&bare, |_| None, |_| None, &ENABLED).unwrap_err();
    assert_eq!(error.reason(), Reason::SecretNotFound);
    assert!(error.to_string().contains("\"azure-app\"") && error.to_string().contains("kubectl create secret"), "{error}");
}

fn app(change: impl FnOnce(&mut Value)) -> AppRegistration {
    let mut value = json!({
        "apiVersion": "mailbox-collector.io/v1alpha1", "kind": "AppRegistration",
        "metadata": {"namespace": "tenant", "name": "mail"},
        "spec": {
            "tenantId": "contoso.com", "clientId": "11111111-2222-3333-4444-555555555555",
            "credential": {"clientSecret": {"secretKeyRef": {"name": "azure-app"}}},
        },
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

#[test]
fn an_app_registration_gives_the_credential_that_its_one_member_names() {
    let options = Options { workload_identity: true, ..ENABLED };
    let plain = registration(&app(|_| {}), &options).unwrap();
    assert_eq!(plain.secret(), Some(("azure-app", None)));
    let data = SecretData::new("", [("clientSecret".to_owned(), b"s3cr3t\n".to_vec())]);
    let credential = plain.credential(Some(&data)).unwrap();
    let Proof::Secret(value) = &credential.proof else { panic!("{credential:?}") };
    assert_eq!((value.expose_secret(), credential.name.as_str(), credential.tenant_id.as_str()), ("s3cr3t", "azure-app", "contoso.com"));

    let other_key = registration(
        &app(|o| {
            o["spec"]["credential"]["clientSecret"]["secretKeyRef"]["key"] = json!("value");
            o["spec"]["secretExpirationTime"] = json!("2027-05-01T00:00:00Z");
            o["spec"]["cloud"] = json!("China");
        }),
        &options,
    )
    .unwrap();
    assert_eq!(other_key.secret(), Some(("azure-app", Some("value"))));
    let data = SecretData::with_key("", [("value".to_owned(), b"s3cr3t".to_vec())], Some("value"));
    let credential = other_key.credential(Some(&data)).unwrap();
    assert_eq!((credential.cloud, credential.secret_expiration), (Cloud::China, Some("2027-05-01T00:00:00Z".parse().unwrap())));

    let federated = app(|o| o["spec"]["credential"] = json!({"workloadIdentity": {"serviceAccountName": "post"}}));
    let credential = registration(&federated, &options).unwrap().credential(None).unwrap();
    let Proof::Federated(account) = &credential.proof else { panic!("{credential:?}") };
    assert_eq!(account.subject(), "system:serviceaccount:tenant:post");
    let error = registration(&federated, &ENABLED).unwrap_err();
    assert_eq!(error.reason(), Reason::WorkloadIdentityNotEnabled);
    assert!(error.to_string().contains("workloadIdentity.enabled=true"), "{error}");
}

#[test]
fn an_app_registration_is_for_the_mailboxes_it_allows() {
    let limited = app(|o| o["spec"]["allowedMailboxes"] = json!(["*@contoso.com", "shared@other.example"]));
    let limited = registration(&limited, &ENABLED).unwrap();
    let data = SecretData::new("", [("clientSecret".to_owned(), b"s3cr3t".to_vec())]);
    let by_app = |mailbox: &str| {
        object(|o| {
            o["spec"]["mailbox"] = json!(mailbox);
            o["spec"]["credentials"] = json!({"appRegistrationRef": {"name": "mail"}});
        })
    };
    for (mailbox, allowed) in [("A@Contoso.com", true), ("shared@other.example", true), ("a@other.example", false)] {
        let order = registered_order(&by_app(mailbox), &limited, Some(&data), &ENABLED);
        assert_eq!(order.as_ref().map(|_| ()).map_err(Error::reason), if allowed { Ok(()) } else { Err(Reason::MailboxNotAllowed) });
    }
    let error = registered_order(&by_app("a@contoso.com"), &limited, None, &ENABLED).unwrap_err();
    assert_eq!(error.reason(), Reason::SecretNotFound);
    let message = error.to_string();
    assert!(message.contains("AppRegistration \"mail\"") && message.contains("kubectl create secret generic azure-app"), "{message}");
}

#[test]
fn each_bad_field_of_an_app_registration_is_named_with_the_way_out() {
    type Row<'a> = (&'a str, Value, &'a [&'a str]);
    let rows: [Row<'_>; 11] = [
        ("/spec/tenantId", json!("a/../b"), &["spec.tenantId:", "Directory (tenant) ID"]),
        ("/spec/clientId", json!("mail"), &["spec.clientId:", "Application (client) ID"]),
        ("/spec/cloud", json!("Mars"), &["spec.cloud:", "Public, USGovernment"]),
        ("/spec/secretExpirationTime", json!("soon"), &["spec.secretExpirationTime:", "RFC 3339"]),
        ("/spec/credential", json!({}), &["spec.credential", "exactly one"]),
        (
            "/spec/credential",
            json!({"clientSecret": {"secretKeyRef": {"name": "a"}}, "certificate": {"secretRef": {"name": "a"}}}),
            &["spec.credential", "more than one"],
        ),
        ("/spec/credential/clientSecret/secretKeyRef/name", json!("../x"), &["spec.credential.clientSecret.secretKeyRef.name:"]),
        ("/spec/credential", json!({"clientSecret": {"secretKeyRef": {"name": "a", "key": "a b"}}}), &["secretKeyRef.key:"]),
        ("/spec/credential", json!({"workloadIdentity": {"serviceAccountName": "A"}}), &["serviceAccountName:"]),
        ("/spec/allowedMailboxes", json!(["a b"]), &["spec.allowedMailboxes:", "\"a b\"", "*@contoso.com"]),
        ("/spec/allowedMailboxes", json!(vec!["*"; 257]), &["spec.allowedMailboxes:", "256"]),
    ];
    for (pointer, value, says) in rows {
        let error = registration(&app(|o| set(o, pointer, value)), &ENABLED).expect_err(pointer);
        let message = error.to_string();
        assert_eq!(error.reason(), Reason::InvalidSpec, "{message}");
        assert!(says.iter().all(|part| message.contains(part)), "{pointer}: {message}");
    }
    let data = SecretData::new("kubernetes.io/service-account-token", [("clientSecret".to_owned(), b"c4n4ry".to_vec())]);
    let error = registration(&app(|_| {}), &ENABLED).unwrap().credential(Some(&data)).unwrap_err();
    assert_eq!(error.reason(), Reason::SecretNotOptedIn);
    let data = SecretData::new("", [("clientsecret".to_owned(), b"c4n4ry".to_vec())]);
    let message = registration(&app(|_| {}), &ENABLED).unwrap().credential(Some(&data)).unwrap_err().to_string();
    assert!(message.contains("key clientSecret is missing (there is a key \"clientsecret\"") && !message.contains("c4n4ry"), "{message}");
}

proptest::proptest! {
    #[test]
    fn no_string_makes_validation_panic_or_talk_at_length(text in "\\PC{0,400}", which in 0_usize..7) {
        let pointer = ["/spec/mailbox", "/spec/protocol", "/spec/interval", "/spec/startFrom", "/spec/sinks/0/name", "/spec/sinks/0/file/path",
            "/spec/sinks/0/file/format"][which];
        if let Err(error) = validate(&object(|o| set(o, pointer, serde_json::json!(text))), &secret(&[]), &ENABLED) {
            proptest::prop_assert!(error.to_string().len() < 800);
        }
    }
}
