//! The schema as published: files, limits, shape.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::*;

#[test]
fn the_files_in_crds_and_in_the_chart_are_what_the_types_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in [root.join("crds"), root.join("charts/mailbox-collector/files/crds")] {
        for (name, content) in crd_files() {
            let path = directory.join(name);
            if std::env::var_os("UPDATE").is_some() {
                std::fs::create_dir_all(&directory).unwrap();
                std::fs::write(&path, &content).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(written == content, "{} is not what src/api says: run `cargo xtask crds`", path.display());
        }
        let files = std::fs::read_dir(&directory).unwrap().count();
        assert_eq!(files, crd_files().len(), "a file in {} belongs to no kind", directory.display());
    }
}

/// `visit` gets the path and the schema of every field of every kind, `metadata`, `apiVersion` and `kind` excepted.
fn every_field(mut visit: impl FnMut(&str, &Value)) {
    fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
        visit(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, visit);
        }
        if schema["items"].is_object() {
            walk(&format!("{path}[]"), &schema["items"], visit);
        }
    }
    for crd in crds() {
        let schema = schema_of(&crd);
        for part in ["spec", "status"] {
            if schema["properties"][part].is_object() {
                walk(&format!("{}.{part}", crd.spec.names.kind), &schema["properties"][part], &mut visit);
            }
        }
    }
}

fn schema_of(crd: &CustomResourceDefinition) -> Value {
    serde_json::to_value(crd).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn every_string_and_list_is_bounded_and_every_field_described() {
    let mut fields = 0;
    every_field(|path, schema| {
        fields += 1;
        let bound = match schema["type"].as_str() {
            // An enumeration bounds itself, and the server caps a time's length when it estimates a rule's cost.
            Some("string") => schema["maxLength"].is_u64() || schema["enum"].is_array() || schema["format"] == "date-time",
            Some("array") => schema["maxItems"].is_u64() && schema["x-kubernetes-list-type"].is_string(),
            Some("object" | "boolean" | "integer") => true,
            other => panic!("{path}: type {other:?}"),
        };
        assert!(bound, "{path} is not bounded: {schema}");
        assert!(path.ends_with("[]") || schema["description"].is_string(), "{path} has no description");
    });
    assert!(fields > 100, "{fields}");
}

#[test]
fn no_default_is_written_into_a_users_object_and_a_new_status_is_not_finished() {
    every_field(|path, schema| {
        let expected =
            if path.split_once('.').is_some_and(|(_, field)| field == "status") { json!({"observedGeneration": -1}) } else { Value::Null };
        assert_eq!(schema["default"], expected, "{path}");
        assert_eq!(schema["nullable"], Value::Null, "{path}");
        assert_eq!(schema["x-kubernetes-preserve-unknown-fields"], Value::Null, "{path}");
    });
    assert_eq!(serde_json::to_value(MailboxCollectorStatus::default()).unwrap(), json!({"observedGeneration": -1}));
    assert_eq!(serde_json::to_value(AppRegistrationStatus::default()).unwrap(), json!({"observedGeneration": -1}));
}

#[test]
fn every_rule_between_fields_says_what_to_write() {
    let mut rules = 0;
    every_field(|path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let message = rule["message"].as_str().unwrap_or_default();
            let instead = ["write ", "create ", "remove ", "name ", "add "].iter().any(|word| message.contains(word));
            assert!(instead, "{path}: {rule}");
        }
    });
    assert!(rules >= 14, "{rules}");
}

#[test]
fn an_object_that_an_older_schema_admitted_still_deserialises() {
    let strange = json!({
        "apiVersion": "mailbox-collector.io/v1alpha1", "kind": "MailboxCollector", "metadata": {"name": "old"},
        "spec": {
            "mailbox": "", "protocol": "SMTP", "credentials": {}, "interval": "soon", "schedule": "never", "startFrom": "x".repeat(1 << 20),
            "afterDelivery": {"action": "Burn"}, "limits": {"maxMessageBytes": -1}, "removedField": [1, 2],
            "sinks": [{"name": "UPPER", "file": {"path": "../..", "format": "mbox"}, "fax": {"number": 1}}, {"name": "none"}],
        },
        "status": {"conditions": [], "observedGeneration": 3, "gone": true},
    });
    let collector: MailboxCollector = serde_json::from_value(strange).unwrap();
    assert_eq!(collector.spec.interval.as_deref(), Some("soon"));
    assert_eq!(collector.spec.sinks.len(), 2);
}

#[test]
fn no_field_of_a_resource_is_lost_between_yaml_and_yaml() {
    let spec = json!({
        "mailbox": "factures@contoso.fr", "protocol": "IMAP", "credentials": {"secretRef": {"name": "azure-app"}},
        "folders": [{"name": "INBOX"}, {"name": "Factures/À traiter"}], "interval": "5m", "schedule": "0 6 * * *", "timeZone": "Europe/Paris",
        "push": true, "startFrom": "Beginning", "limits": {"maxMessageBytes": 157_286_400}, "suspend": false,
        "select": {"from": ["*@x.fr"], "to": [], "subject": ["*"], "receivedAfter": "2026-01-01T00:00:00Z", "maxAge": "720h"},
        "afterDelivery": {"action": "Move", "folder": "Done"},
        "sinks": [
            {"name": "drop", "file": {"path": "factures", "format": "EML"}},
            {"name": "s3", "objectStore": {"url": "s3://b/p", "endpoint": "https://e", "region": "r", "secretRef": {"name": "s3"}}},
            {"name": "ged", "webhook": {"url": "https://h", "secretRef": {"name": "hook"}, "timeout": "30s"}},
            {"name": "relay", "smtp": {"host": "h", "port": 587, "recipients": ["a@b"], "secretRef": {"name": "r"}}},
            {"name": "store", "lmtp": {"host": "h", "port": 24, "recipients": ["a@b"], "secretRef": {"name": "r"}}},
            {"name": "bridge", "imapAppend": {"host": "h", "port": 993, "folder": "INBOX", "secretRef": {"name": "i"}}},
        ],
    });
    let parsed: MailboxCollectorSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), spec);
    must_not_be_pruned::<MailboxCollector>(&spec);
}

#[test]
fn a_stored_cursor_loses_nothing_and_fits() {
    let full = json!({
        "holder": {"install": "i", "pod": "p", "epoch": 3}, "workedWith": "11111111-1111-1111-1111-111111111111",
        "folders": [{
            "name": "INBOX", "key": "INBOX", "uidValidity": u32::MAX, "decided": "1:90211",
            "owed": [{"uid": 5, "reason": "NotReceived", "attempts": 2, "since": "2026-11-25T00:00:00Z", "next": "2026-11-25T00:01:00Z"}],
            "unsettled": "7,9",
            "quarantined": [{"uid": 6, "reason": "TooLarge", "attempts": 1, "time": "2026-11-25T00:00:00Z"}],
            "anchors": [{"uid": 4, "fingerprint": "0123456789abcdef"}],
            "baseline": {"uidNext": u32::MAX, "time": "2026-11-25T00:00:00Z"}, "claimed": "AAAAAAAAAAA=",
        }],
    });
    let cursor: crate::cursor::Cursor = serde_json::from_value(full.clone()).unwrap();
    let stored = serde_json::to_value(&cursor).unwrap();
    assert_eq!(stored, full, "this test no longer shows every field of a cursor");
    let spec: MailboxCursorSpec = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(serde_json::to_value(spec).unwrap(), stored);
    must_not_be_pruned::<MailboxCursor>(&stored);

    let schema = schema_of(&MailboxCursor::crd());
    let folder = &schema["properties"]["spec"]["properties"]["folders"]["items"]["properties"];
    let most = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    // A range of a sequence-set is at most 22 characters with its comma; while a bound is reached what is in hand may still come to it.
    assert!(most(&folder["decided"]["maxLength"]) >= 2 * 22 * crate::cursor::MAX_RANGES);
    assert!(most(&folder["owed"]["maxItems"]) >= 2 * crate::cursor::MAX_OWED);
    assert!(most(&folder["quarantined"]["maxItems"]) >= 2 * crate::cursor::MAX_QUARANTINED);
    assert!(most(&folder["anchors"]["maxItems"]) >= crate::cursor::MAX_ANCHORS);
    assert!(most(&folder["claimed"]["maxLength"]) >= crate::cursor::MAX_CLAIMS * 8 * 4 / 3 + 4);
}

/// The server drops, without a word, what the schema does not know.
fn must_not_be_pruned<K: CustomResourceExt>(spec: &Value) {
    fn walk(path: &str, value: &Value, schema: &Value) {
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(name, value)| walk(&format!("{path}.{name}"), value, &schema["properties"][name]));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(&format!("{path}[]"), item, &schema["items"])),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                assert!(schema["type"].is_string(), "{path} would be pruned");
            }
        }
    }
    walk("spec", spec, &schema_of(&K::crd())["properties"]["spec"]);
}
