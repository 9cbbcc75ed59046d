//! The operator as installed: from `kubectl apply` to a file, with the rights of the chart's ServiceAccount.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use simulator::{CLIENT_ID, CLIENT_SECRET, Message, Options, Simulator, TENANT_ID, World};
use xtask::dovecot::Dovecot;

use crate::support::{Servers, cluster, namespace, operator, wait_for};

const MAILBOX: &str = "factures@contoso.example";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_applied_collector_becomes_ready_and_its_mail_becomes_files_byte_for_byte() {
    let namespace = namespace("installed");
    let simulator = Simulator::start_blocking(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).unwrap();
    for serial in 1..=5 {
        simulator.world().deliver(MAILBOX, "INBOX", Message::office(serial)).unwrap();
    }
    let servers = Servers { authority: simulator.authority(), imap: simulator.imap_endpoint(), ca: simulator.ca_pem().to_owned() };
    let mut installed = operator(&namespace, &servers, &[]);
    apply(&namespace);
    cluster().kubectl(&["wait", "mbc/factures", "--namespace", &namespace, "--for=condition=Ready", "--timeout=60s"]).unwrap();
    let folder = installed.files.join(&namespace).join("factures");
    wait_for("five files", PATIENCE, || (files(&folder).len() == 5).then_some(()));
    simulator.world().deliver(MAILBOX, "INBOX", Message::office(6)).unwrap();
    let delivered = wait_for("the sixth by push", PATIENCE, || Some(files(&folder)).filter(|files| files.len() == 6));
    let mut serials: Vec<_> = delivered
        .iter()
        .map(|file| simulator.rendering_of_bytes(&fs::read(file).unwrap()).unwrap_or_else(|| panic!("{} is no rendering", file.display())))
        .map(|rendering| rendering.serial.unwrap())
        .collect();
    serials.sort_unstable();
    assert_eq!(serials, [1, 2, 3, 4, 5, 6]);
    installed.operator.stop().unwrap();
    assert_eq!(installed.refused(), []);
    assert!(installed.writes().iter().any(|request| request.resource == "mailboxcollectors/status"));
}

#[test]
fn from_dovecot_every_byte_comes_as_it_is_stored() {
    let namespace = namespace("dovecot");
    let dovecot = Dovecot::start().unwrap();
    let messages: Vec<Vec<u8>> = ["one", "deux", "\u{e9}t\u{e9}"]
        .iter()
        .enumerate()
        .map(|(number, text)| {
            format!(
                "From: a@example.org\r\nMessage-ID: <{number}@example.org>\r\nSubject: {text}\r\n\r\n.{text}\r\n..\r\n\ttab, no end of line"
            )
            .into_bytes()
        })
        .collect();
    dovecot.load(MAILBOX, &messages).unwrap();
    // Entra is played by the stand-in, the mail comes from Dovecot, which opens the mailbox for any token.
    let simulator = Simulator::start_blocking(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).unwrap();
    let ca = format!("{}\n{}", simulator.ca_pem(), dovecot.ca_pem());
    let servers = Servers { authority: simulator.authority(), imap: dovecot.imap_endpoint(), ca };
    let mut installed = operator(&namespace, &servers, &[]);
    apply(&namespace);
    let folder = installed.files.join(&namespace).join("factures");
    let delivered = wait_for("three files", PATIENCE, || Some(files(&folder)).filter(|files| files.len() == 3));
    let mut bytes: Vec<_> = delivered.iter().map(|file| fs::read(file).unwrap()).collect();
    let mut stored: Vec<_> = dovecot.read(MAILBOX).unwrap().into_iter().map(|stored| stored.bytes).collect();
    bytes.sort();
    stored.sort();
    assert_eq!(bytes, stored);
    installed.operator.stop().unwrap();
    assert_eq!(installed.refused(), []);
}

#[test]
fn a_cursor_left_behind_by_an_earlier_object_is_told_and_nothing_is_collected_beside_it() {
    let namespace = namespace("orphan");
    let simulator = Simulator::start_blocking(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).unwrap();
    simulator.world().deliver(MAILBOX, "INBOX", Message::office(1)).unwrap();
    let servers = Servers { authority: simulator.authority(), imap: simulator.imap_endpoint(), ca: simulator.ca_pem().to_owned() };
    let mut installed = operator(&namespace, &servers, &[]);
    let kubectl = |line: &str| {
        let words: Vec<&str> = line.split(' ').chain(["--namespace", &namespace]).collect();
        cluster().kubectl(&words).unwrap()
    };
    let folder = installed.files.join(&namespace).join("factures");
    // As `kubectl delete --cascade=orphan` leaves one.
    cluster()
        .apply(&format!(
            "{{apiVersion: mailbox-collector.io/v1alpha1, kind: MailboxCursor, metadata: {{name: factures, namespace: {namespace}}}, spec: {{}}}}"
        ))
        .unwrap();
    apply(&namespace);
    let reason = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}";
    wait_for("the reason", PATIENCE, || (kubectl(&format!("get mbc/factures -o {reason}")) == "CursorUnreadable").then_some(()));
    let message = kubectl("get mbc/factures -o jsonpath={.status.conditions[?(@.type=='Ready')].message}");
    assert!(message.contains(&format!("kubectl -n {namespace} delete mailboxcursor factures")), "{message}");
    assert!(files(&folder).is_empty());

    kubectl("delete mailboxcursor factures");
    wait_for("the file", PATIENCE, || (files(&folder).len() == 1).then_some(()));
    kubectl("wait mbc/factures --for=condition=Ready --timeout=60s");
    installed.operator.stop().unwrap();
    assert_eq!(installed.refused(), []);
}

fn apply(namespace: &str) {
    cluster()
        .apply(&format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: azure-app, namespace: {namespace}}}
stringData: {{tenantId: \"{TENANT_ID}\", clientId: \"{CLIENT_ID}\", clientSecret: \"{CLIENT_SECRET}\"}}
---
apiVersion: mailbox-collector.io/v1alpha1
kind: MailboxCollector
metadata: {{name: factures, namespace: {namespace}}}
spec:
  mailbox: {MAILBOX}
  credentials: {{secretRef: {{name: azure-app}}}}
  sinks: [{{name: drop, file: {{path: factures}}}}]
"
        ))
        .unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|extension| extension == "eml")).collect()
}
