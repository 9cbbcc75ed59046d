//! What people get wrong in their YAML: it is refused at the door, or told in a condition, by field, problem and way out; and the collector
//! beside it goes on as if nothing were. Objects that an older schema let in have a cluster of their own, the schema being one for all of it.

#![expect(clippy::indexing_slicing, reason = "indexing JSON by name gives null")]

use std::time::Duration;

use serde_json::{Value, json};
use simulator::{CLIENT_ID, CLIENT_SECRET, Message, Options, Simulator, TENANT_ID, World};
use xtask::cluster::Cluster;
use xtask::operator::Operator;

use crate::support::{cluster, collector, mail, namespace, operator, secret, serials, servers, wait_for};
use crate::watched::Watched;

const MAILBOX: &str = "factures@contoso.example";
const CRD: &str = "mailboxcollectors.mailbox-collector.io";
const PATIENCE: Duration = Duration::from_secs(60);
const MEGABYTE: usize = 1 << 20;

/// A collector as JSON (which is YAML) with `further` in its spec.
fn object(namespace: &str, name: &str, further: Value) -> Value {
    let mut object = json!({
        "apiVersion": "mailbox-collector.io/v1alpha1", "kind": "MailboxCollector", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "mailbox": MAILBOX, "credentials": {"secretRef": {"name": "azure-app"}}, "sinks": [{"name": "drop", "file": {"path": name}}],
        },
    });
    for (field, value) in further.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

fn file(path: &str) -> Value {
    json!({"sinks": [{"name": "drop", "file": {"path": path}}]})
}

#[test]
fn what_no_schema_can_mean_is_refused_at_the_door() {
    const PLAIN: &str = "write a relative path of plain names";
    let namespace = namespace("door");
    let long = "x".repeat(MEGABYTE);
    let folders: Vec<_> = (0..65).map(|number| json!({"name": format!("F{number}")})).collect();
    let rows: [(Value, &[&str]); 14] = [
        (json!({"interval": "soon"}), &["spec.interval", "write a duration from 1m to 24h"]),
        (json!({"interval": "999999999999999999h"}), &["spec.interval"]),
        (json!({"sinks": [{"name": "drop", "ftp": {"host": "h"}}]}), &[".spec.sinks[name=\"drop\"].ftp: field not declared in schema"]),
        (
            json!({"credentials": {"secretRef": {"name": "a"}, "appRegistrationRef": {"name": "b"}}}),
            &["spec.credentials", "write exactly one of secretRef and appRegistrationRef"],
        ),
        (file("../../etc"), &["spec.sinks[0].file.path", PLAIN]),
        (file("in/../../etc"), &["spec.sinks[0].file.path", PLAIN]),
        (file("/etc"), &["spec.sinks[0].file.path", PLAIN]),
        (file("in\u{0}"), &["spec.sinks[0].file.path", PLAIN]),
        (file(&long), &["spec.sinks[0].file.path", "512"]),
        (json!({"mailbox": format!("{long}@contoso.example")}), &["spec.mailbox", "320"]),
        (json!({"credentials": {"secretRef": {"name": long}}}), &["spec.credentials.secretRef.name", "253"]),
        (json!({"limits": {"maxMessageBytes": 1_000_000_000_000_000_000_u64}}), &["spec.limits.maxMessageBytes", "1073741824"]),
        (json!({"limits": {"maxMessageBytes": -1}}), &["spec.limits.maxMessageBytes", "greater than or equal to 1"]),
        (json!({"folders": folders}), &["spec.folders", "64"]),
    ];
    for (row, (further, parts)) in rows.into_iter().enumerate() {
        let error = cluster().apply(&object(&namespace, &format!("row-{row}"), further).to_string()).expect_err(parts[0]).to_string();
        let shown: String = error.chars().take(600).collect();
        assert!(parts.iter().all(|part| error.contains(part)), "row {row}: not all of {parts:?} in {shown}");
    }
    // Who lets unknown fields pass unseen hears of the rule.
    let unknown = tempfile::NamedTempFile::new().unwrap();
    let sink = json!({"sinks": [{"name": "drop", "ftp": {"host": "h"}}]});
    std::fs::write(unknown.path(), object(&namespace, "unknown", sink).to_string()).unwrap();
    let create = ["create", "--validate=ignore", "--filename", unknown.path().to_str().unwrap()];
    let error = cluster().kubectl(&create).expect_err("an unknown sink").to_string();
    assert!(error.contains("spec.sinks[0]") && error.contains("write exactly one of file, objectStore"), "{error}");
    assert_eq!(cluster().kubectl(&["get", "mbc", "--namespace", &namespace, "-o", "name"]).unwrap(), "");
}

#[test]
fn what_is_wrong_is_told_by_field_and_the_neighbour_notices_nothing() {
    const REFUSED: &str = "False/InvalidSpec";
    let namespace = namespace("wrong");
    let simulator = Simulator::start_blocking(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).unwrap();
    let mut installed = operator(&namespace, &servers(&simulator), &[]);
    let mut watched = Watched::start(cluster(), &namespace);
    let mut documents = secret(&namespace, "azure-app", TENANT_ID, CLIENT_ID, CLIENT_SECRET);
    documents += &collector(&namespace, "healthy", MAILBOX, "azure-app", "");
    cluster().apply(&documents).unwrap();
    watched.condition("healthy", "Ready", "True/Collecting");
    watched.until("healthy", "its first look", PATIENCE, |state| state.status()["lastFetchTime"].is_string().then_some(()));
    let states = watched.states("healthy").len();

    let with_secret = |data: Value, type_: &str, annotations: Value| (data, type_.to_owned(), annotations);
    let opaque = |data: Value| with_secret(data, "Opaque", json!({}));
    let ids = |further: Value| {
        let mut data = json!({"tenantId": TENANT_ID, "clientId": CLIENT_ID});
        data.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        data
    };
    // Base64 of 0xff 0xfe 0xfd: no UTF-8.
    let not_text = json!({"base64": "//79"});
    let secrets = [
        ("key-missing", opaque(ids(json!({}))), "False/SecretKeyMissing", vec!["key clientSecret is missing"]),
        (
            "key-misspelt",
            opaque(ids(json!({"client-secret": "x"}))),
            "False/SecretKeyMissing",
            vec!["key clientSecret is missing", "\"client-secret\": rename it"],
        ),
        ("key-empty", opaque(ids(json!({"clientSecret": " \n"}))), "False/SecretKeyMissing", vec!["key clientSecret is empty"]),
        ("not-utf-8", opaque(ids(json!({"clientSecret": not_text}))), "False/SecretKeyMissing", vec!["key clientSecret is not UTF-8 text"]),
        (
            "megabyte",
            opaque(ids(json!({"clientSecret": "s".repeat(1_000_000)}))),
            "False/SecretKeyMissing",
            vec!["key clientSecret is longer than 1024 bytes"],
        ),
        (
            "no-tenant",
            opaque(json!({"clientId": CLIENT_ID, "clientSecret": "x"})),
            "False/SecretKeyMissing",
            vec!["key tenantId is missing"],
        ),
        (
            "token",
            with_secret(
                ids(json!({"clientSecret": "x"})),
                "kubernetes.io/service-account-token",
                json!({"kubernetes.io/service-account.name": "default"}),
            ),
            "False/SecretNotOptedIn",
            vec!["kubernetes.io/service-account-token", "never read"],
        ),
    ];
    let (mut documents, mut rows) = (Vec::new(), Vec::new());
    for (name, (data, type_, annotations), reason, mut parts) in secrets {
        let (mut string_data, mut binary) = (json!({}), json!({}));
        for (key, value) in data.as_object().unwrap() {
            match value.get("base64") {
                Some(base64) => binary[key] = base64.clone(),
                None => string_data[key] = value.clone(),
            }
        }
        documents.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
            "type": type_, "stringData": string_data, "data": binary,
        }));
        documents.push(object(&namespace, name, json!({"credentials": {"secretRef": {"name": name}}})));
        parts.extend(["kubectl create secret generic", "clientSecret"]);
        rows.push((name, reason, parts));
    }
    documents.push(object(&namespace, "nowhere", json!({"credentials": {"secretRef": {"name": "nowhere"}}})));
    rows.push(("nowhere", "False/SecretNotFound", vec!["there is no Secret \"nowhere\"", "kubectl create secret generic nowhere"]));

    documents.push(object(&namespace, "app", json!({"credentials": {"appRegistrationRef": {"name": "app"}}})));
    rows.push(("app", "False/AppRegistrationNotFound", vec!["spec.credentials.appRegistrationRef", "no AppRegistration \"app\""]));

    let specs: [(&str, Value, &[&str]); 9] = [
        ("pop3", json!({"protocol": "POP3", "startFrom": "Now"}), &["spec.startFrom", "POP3", "protocol: IMAP"]),
        ("folders", json!({"folders": [{"name": "INBOX"}, {"name": "inbox"}]}), &["spec.folders[1].name", "write each folder once"]),
        ("schedule", json!({"schedule": "61 6 * * *"}), &["spec.schedule", "\"61 6 * * *\""]),
        ("move", json!({"afterDelivery": {"action": "Move", "folder": "a//b"}}), &["spec.afterDelivery.folder", "write a folder's name"]),
        (
            "webhook",
            json!({"sinks": [{"name": "ged", "webhook": {"url": "https://ged.example/in"}}]}),
            &["spec.sinks[0].webhook", "write a file sink"],
        ),
        (
            "bucket",
            json!({"sinks": [{"name": "s3", "objectStore": {"url": "s3://b/p"}}]}),
            &["spec.sinks[0].objectStore", "write a file sink"],
        ),
        (
            "maildir",
            json!({"sinks": [{"name": "drop", "file": {"path": "in", "format": "Maildir"}}]}),
            &["spec.sinks[0].file.format", "EML"],
        ),
        (
            "two-sinks",
            json!({"sinks": [{"name": "a", "file": {"path": "a"}}, {"name": "b", "file": {"path": "b"}}]}),
            &["spec.sinks", "write one sink"],
        ),
        (
            "replay",
            json!({}),
            &["metadata.annotations[mailbox-collector.io/replay]", "mailbox-collector.io/requestedAt to the very same value"],
        ),
    ];
    for (name, further, parts) in specs {
        let mut wrong = object(&namespace, name, further);
        if name == "replay" {
            wrong["metadata"]["annotations"] = json!({"mailbox-collector.io/replay": "INBOX/1"});
        }
        documents.push(wrong);
        rows.push((name, REFUSED, parts.to_vec()));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": documents});
    cluster().apply(&list.to_string()).unwrap();
    for (name, expected, parts) in &rows {
        let (state, _) = watched.condition(name, "Accepted", expected);
        let message = state.message("Accepted");
        assert!(parts.iter().all(|part| message.contains(part)), "{name}: not all of {parts:?} in {message:?}");
        let (ready, _) = watched.condition(name, "Ready", expected);
        assert_eq!(ready.message("Ready"), message, "{name}");
        // For a moment a Secret that is missing may only be late.
        assert_eq!(ready.condition("Stalled").is_empty(), *expected != REFUSED, "{name}");
    }

    simulator.world().deliver(MAILBOX, "INBOX", Message::office(1)).unwrap();
    wait_for("the neighbour's mail", PATIENCE, || (serials(&simulator, &installed.folder(&namespace, "healthy")) == [1]).then_some(()));
    assert_eq!(simulator.connections(), 1, "nobody but the neighbour has connected, and once");
    assert_eq!(watched.states("healthy").len(), states, "the neighbour's status was written again");

    // What is put right is taken up without a restart.
    cluster().apply(&secret(&namespace, "nowhere", TENANT_ID, CLIENT_ID, CLIENT_SECRET)).unwrap();
    cluster().apply(&object(&namespace, "now", json!({"startFrom": "Beginning"})).to_string()).unwrap();
    for name in ["now", "nowhere"] {
        watched.condition(name, "Ready", "True/Collecting");
        wait_for("its mail", PATIENCE, || (mail(&installed.folder(&namespace, name)).len() == 1).then_some(()));
    }
    watched.check();
    installed.operator.stop().unwrap();
    assert_eq!(installed.refused(), []);
}

#[test]
fn objects_of_an_older_schema_are_told_and_nobody_else_notices() {
    const EVENT_ALONE: &str = "number";
    let cluster = Cluster::start().unwrap();
    cluster.kubectl(&["create", "namespace", "old"]).unwrap();
    cluster.install_chart("mailbox-collector", "old", &["watchNamespaces={old}"]).unwrap();
    let mut newer: Value = serde_json::from_str(&cluster.kubectl(&["get", "crd", CRD, "-o", "json"]).unwrap()).unwrap();
    newer["metadata"] = json!({"name": CRD});
    let mut older = newer.clone();
    let version = &mut older["spec"]["versions"][0];
    version["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    version["schema"]["openAPIV3Schema"]["required"] = json!([]);
    version.as_object_mut().unwrap().remove("selectableFields");
    cluster.kubectl(&["delete", "crd", CRD]).unwrap();
    cluster.apply(&older.to_string()).unwrap();
    cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", &format!("crd/{CRD}")]).unwrap();

    let long = "x".repeat(MEGABYTE);
    let rows: [(&str, Value, &[&str]); 13] = [
        ("duration", json!({"interval": "soon"}), &["spec.interval", "\"soon\"", "write a duration from 1m to 24h"]),
        (
            EVENT_ALONE,
            json!({"interval": 300}),
            &["spec.interval: invalid type: integer `300`, expected a string", "apply the object again"],
        ),
        ("absurd", json!({"interval": "1000h"}), &["spec.interval", "write a duration from 1m to 24h"]),
        ("ftp", json!({"sinks": [{"name": "drop", "ftp": {"host": "h"}}]}), &["spec.sinks[0]", "write exactly one member"]),
        (
            "both",
            json!({"credentials": {"secretRef": {"name": "a"}, "appRegistrationRef": {"name": "b"}}}),
            &["spec.credentials", "write exactly one member"],
        ),
        ("up", file("../../etc"), &["spec.sinks[0].file.path", "\"../../etc\"", "write folder names"]),
        ("root", file("/etc"), &["spec.sinks[0].file.path", "write folder names"]),
        ("long-path", file(&long), &["spec.sinks[0].file.path", "write folder names"]),
        ("long-mailbox", json!({"mailbox": format!("{long}@contoso.example")}), &["spec.mailbox", "write user@domain"]),
        ("long-secret", json!({"credentials": {"secretRef": {"name": long}}}), &["spec.credentials.secretRef.name", "write the name"]),
        ("huge", json!({"limits": {"maxMessageBytes": i64::MAX}}), &["spec.limits.maxMessageBytes", "remove it"]),
        ("text", json!({"folders": "INBOX"}), &["spec.folders: invalid type: string", "apply the object again"]),
        ("null", json!({"sinks": null}), &["sinks", "apply the object again"]),
    ];
    let first = object("old", rows[0].0, rows[0].1.clone()).to_string();
    wait_for("the first object", PATIENCE, || cluster.apply(&first).ok());
    for (name, further, _) in &rows[1..] {
        cluster.apply(&object("old", name, further.clone()).to_string()).unwrap();
    }
    cluster.apply(&newer.to_string()).unwrap();
    let simulator = Simulator::start_blocking(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).unwrap();
    simulator.world().deliver(MAILBOX, "INBOX", Message::office(1)).unwrap();
    let good = secret("old", "azure-app", TENANT_ID, CLIENT_ID, CLIENT_SECRET) + &collector("old", "good", MAILBOX, "azure-app", "");
    wait_for("the newer schema", PATIENCE, || cluster.apply(&object("old", "probe", json!({"interval": "soon"})).to_string()).err());
    cluster.apply(&good).unwrap();

    let folder = xtask::children::temporary_folder("mailbox-collector-test-").unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, simulator.ca_pem()).unwrap();
    let mut operator = Operator::start(xtask::operator::Options {
        program: env!("CARGO_BIN_EXE_mailbox-collector").into(),
        kubeconfig: cluster.service_account_kubeconfig("old", "mailbox-collector").unwrap(),
        arguments: vec![
            "--watch-namespaces=old".to_owned(),
            format!("--file-sink-root={}", folder.path().display()),
            format!("--entra-authority={}", simulator.authority()),
            format!("--imap-endpoint={}", simulator.imap_endpoint()),
            format!("--ca-file={}", ca.display()),
        ],
        environment: Vec::new(),
        log: folder.path().join("operator.log"),
    })
    .unwrap();
    wait_for("the good one's mail", PATIENCE, || (mail(&folder.path().join("old/good")).len() == 1).then_some(()));
    let mut watched = Watched::start(&cluster, "old");
    for (name, _, parts) in rows.iter().filter(|(name, ..)| *name != EVENT_ALONE) {
        let told = |message: &str| parts.iter().all(|part| message.contains(part));
        watched.until(name, &format!("Accepted with {parts:?}"), PATIENCE, |state| told(state.message("Accepted")).then_some(()));
    }
    // The API server evaluates the rules on a field of another type, fails, and refuses every write of such an object: an Event is what is left.
    wait_for("the Event of the one with a number", PATIENCE, || {
        let of = format!("regarding.name={EVENT_ALONE}");
        let note = "jsonpath={.items[*].note}";
        let arguments = ["get", "events.events.k8s.io", "--namespace", "old", "--field-selector", &of, "-o", note];
        let told = cluster.kubectl(&arguments).unwrap();
        rows.iter().find(|(name, ..)| *name == EVENT_ALONE).unwrap().2.iter().all(|part| told.contains(part)).then_some(())
    });
    watched.check();
    let log = std::fs::read_to_string(operator.log()).unwrap();
    assert!(!log.is_empty() && log.lines().all(|line| line.len() < 4_096), "a long text is in the log");
    operator.stop().unwrap();
    let requests = cluster.audit("system:serviceaccount:old:mailbox-collector").unwrap();
    assert!(!requests.is_empty() && requests.iter().all(|request| request.code != 403), "it was refused something for want of rights");
}
