//! What the API server itself admits and refuses: the rules of the CRDs, each with the message that says what to write instead.
//! Every rule that looks at an optional field is tried with the field absent, added and removed.

use crate::support::{cluster, namespace};

const MINIMAL: &str = "mailbox: a@contoso.example
credentials: {secretRef: {name: azure-app}}
sinks: [{name: drop, file: {path: in}}]";

#[test]
fn the_minimal_collector_and_the_whole_of_the_design_are_admitted() {
    let namespace = namespace("admitted");
    let rows = [
        MINIMAL.to_owned(),
        with("protocol: POP3"),
        with("protocol: IMAP\nfolders: [{name: INBOX}, {name: \"Factures/À traiter\"}]\npush: true"),
        with("schedule: \"0 6 * * *\"\ntimeZone: Europe/Paris"),
        with("interval: 1h30m\nstartFrom: Now\nlimits: {maxMessageBytes: 1048576}"),
        with("select: {from: [\"*@contoso.example\"], subject: [\"Facture*\"], maxAge: 720h}"),
        with("afterDelivery: {action: Move, folder: Archive}"),
        with("afterDelivery: {action: Delete}"),
        MINIMAL.replace("secretRef", "appRegistrationRef"),
        MINIMAL.replace("[{name: drop", "[{name: ged, webhook: {url: \"https://ged.example/in\"}}, {name: drop"),
    ];
    let objects: Vec<_> = rows.iter().enumerate().map(|(row, spec)| collector(&namespace, &format!("row-{row}"), spec)).collect();
    cluster().apply(&objects.join("---\n")).unwrap();
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_write_instead() {
    let namespace = namespace("refused");
    let rows = [
        (MINIMAL.replace("{secretRef: {name: azure-app}}", "{}"), "write exactly one of secretRef and appRegistrationRef"),
        (
            MINIMAL.replace("{secretRef: {name: azure-app}}", "{secretRef: {name: a}, appRegistrationRef: {name: b}}"),
            "write exactly one of secretRef and appRegistrationRef",
        ),
        (MINIMAL.replace("[{name: drop, file: {path: in}}]", "[{name: drop}]"), "write exactly one of file"),
        (
            MINIMAL.replace("file: {path: in}", "file: {path: in}, webhook: {url: \"https://ged.example\"}"),
            "write exactly one of file",
        ),
        (MINIMAL.replace("[{name: drop, file: {path: in}}]", "[]"), "spec.sinks"),
        (
            MINIMAL.replace(
                "[{name: drop, file: {path: in}}]",
                "[{name: a, file: {path: a}}, {name: b, file: {path: b}}, {name: c, file: {path: c}}, {name: d, file: {path: d}}, {name: e, file: {path: e}}]",
            ),
            "spec.sinks",
        ),
        (MINIMAL.replace("]", ", {name: drop, file: {path: other}}]"), "duplicate entries for key"),
        (MINIMAL.replace("a@contoso.example", "not-an-address"), "spec.mailbox"),
        (MINIMAL.replace("a@contoso.example", &format!("{}@contoso.example", "a".repeat(1 << 20))), "spec.mailbox"),
        (with("interval: soon"), "spec.interval"),
        (with("interval: 1s"), "write a duration from 1m to 24h"),
        (with("interval: 25h"), "write a duration from 1m to 24h"),
        (with("interval: 5m\nschedule: \"0 6 * * *\""), "interval"),
        (with("timeZone: Europe/Paris"), "timeZone belongs to schedule"),
        (with("protocol: SMTP"), "spec.protocol"),
        (with("protocol: POP3\nfolders: [{name: INBOX}]"), "POP3 knows only the inbox"),
        (with("protocol: POP3\npush: true"), "POP3 has no push"),
        (with("protocol: POP3\nafterDelivery: {action: MarkSeen}"), "POP3 can neither mark nor move"),
        (with("afterDelivery: {action: Move}"), "folder belongs to Move alone"),
        (with("afterDelivery: {action: Keep, folder: Archive}"), "folder belongs to Move alone"),
        (with("afterDelivery: {folder: Archive}"), "folder belongs to Move alone"),
        (with("afterDelivery: {action: Move, folder: INBOX}"), "afterDelivery.folder is itself collected"),
    ];
    for (row, (spec, expected)) in rows.iter().enumerate() {
        let error = cluster().apply(&collector(&namespace, &format!("row-{row}"), spec)).expect_err(expected).to_string();
        let shown: String = error.chars().take(600).collect();
        assert!(error.contains(expected), "row {row}: expected {expected:?} in {shown}");
    }
    assert_eq!(cluster().kubectl(&["get", "mailboxcollectors", "--namespace", &namespace, "--output", "name"]).unwrap(), "");
}

#[test]
fn mailbox_and_protocol_stay_also_when_the_field_is_added_or_removed() {
    let namespace = namespace("immutable");
    let apply = |name: &str, spec: &str| cluster().apply(&collector(&namespace, name, spec)).map_err(|error| error.to_string());
    let (imap, pop3) = (with("protocol: IMAP"), with("protocol: POP3"));

    apply("implicit", MINIMAL).unwrap();
    let error = apply("implicit", &pop3).expect_err("IMAP by default → POP3");
    assert!(error.contains("protocol cannot change"), "{error}");
    apply("implicit", &imap).expect("adding the default changes nothing");
    apply("implicit", MINIMAL).expect("removing the default changes nothing");
    let error = apply("implicit", &MINIMAL.replace("a@", "b@")).expect_err("another mailbox");
    assert!(error.contains("mailbox cannot change"), "{error}");

    apply("pop3", &pop3).unwrap();
    let error = apply("pop3", MINIMAL).expect_err("POP3 → absent, which means IMAP");
    assert!(error.contains("protocol cannot change"), "{error}");
    let error = apply("pop3", &imap).expect_err("POP3 → IMAP");
    assert!(error.contains("protocol cannot change"), "{error}");

    apply("implicit", &with("interval: 10m")).expect("an optional field is added");
    apply("implicit", &with("schedule: \"0 6 * * *\"\ntimeZone: Europe/Paris")).expect("interval gives way to schedule");
    apply("implicit", MINIMAL).expect("both are removed");
    apply("implicit", &with("afterDelivery: {action: Move, folder: Archive}")).expect("a nested optional field is added");
    apply("implicit", &with("afterDelivery: {action: Keep}")).expect("and removed");
}

#[test]
fn the_examples_of_the_documentation_are_admitted() {
    let namespace = namespace("examples");
    let folder = xtask::root().join("docs/examples");
    let arguments = ["apply", "--server-side", "--namespace", &namespace, "--kustomize", folder.to_str().unwrap()];
    let answer = cluster().kubectl(&arguments).unwrap();
    assert!(answer.contains("secret/azure-app") && answer.contains("/factures"), "{answer}");
    let app = folder.join("app-registration.yaml");
    let answer = cluster().kubectl(&["apply", "--server-side", "--namespace", &namespace, "-f", app.to_str().unwrap()]).unwrap();
    assert!(answer.contains("/mail serverside-applied"), "{answer}");
}

#[test]
fn a_new_collector_says_that_nobody_has_looked_at_it_yet() {
    let namespace = namespace("fresh");
    cluster().apply(&collector(&namespace, "fresh", MINIMAL)).unwrap();
    let path = "jsonpath={.status.observedGeneration}";
    assert_eq!(cluster().kubectl(&["get", "mbc", "fresh", "--namespace", &namespace, "--output", path]).unwrap(), "-1");
}

fn with(lines: &str) -> String {
    format!("{MINIMAL}\n{lines}")
}

fn collector(namespace: &str, name: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: mailbox-collector.io/v1alpha1\nkind: MailboxCollector\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}"
    )
}
