//! `collect` from a mailbox to files: what is delivered, what is not delivered again, and what is said when a step of the set-up is missing.
//! The built program against the stand-in; faults of the wire are in `faults`.

use simulator::{Action, Message, Step, Trigger};

use crate::scene::{Running, Scene, address, bare_command, collector, run, secret, wait_for_files};
use crate::support::wait_for;

use std::time::Duration;

const MANY: Duration = Duration::from_secs(30);

#[test]
fn a_fresh_mailbox_is_collected_byte_for_byte_and_a_second_run_takes_only_what_is_new() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=120);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (120, 0, 0));
    assert!(said.of("factures")["lastFetchTime"].is_string());
    assert_eq!(scene.serials("factures"), (1..=120).collect::<Vec<_>>());

    scene.deliver("factures", 121..=123);
    let before = scene.simulator.renderings().len();
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (3, 0, 0));
    assert_eq!(scene.simulator.renderings().len() - before, 3, "nothing but the new messages was fetched");
    assert_eq!(scene.serials("factures"), (1..=123).collect::<Vec<_>>());
    scene.mailbox("factures", |mailbox| assert!(mailbox.folder("INBOX").uids().len() == 123 && !mailbox.folder("INBOX").is_seen(1)));
}

#[test]
fn messages_of_every_size_arrive_whole_and_an_empty_mailbox_is_in_order() {
    let scene = Scene::new(&["factures", "vide"]);
    let mut expected = Vec::new();
    for bytes in [
        &b"\r\n"[..],
        b"a",
        b"Subject: no body\r\n\r\n",
        b"bare\nline\rends\0 and \xff bytes",
        &[b'x'; 70_000],
        &[b'\n'; 262_144],
        &[b'y'; 262_145],
    ] {
        scene.put("factures", Message::raw(bytes));
        expected.push(bytes.to_vec());
    }
    let (streamed, huge) = (Message::sized(1, 300_000), Message::sized(2, 40_000_000));
    scene.put("factures", streamed);
    scene.put("factures", huge);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (9, 0, 0));
    assert_eq!(said.counts("vide"), (0, 0, 0));
    assert!(said.of("vide")["lastFetchTime"].is_string());
    let mut found = Vec::new();
    for file in scene.files("factures") {
        assert!(scene.simulator.rendering_of_bytes(&file.bytes).is_some(), "{}", file.name);
        match simulator::serial_in(&file.bytes) {
            Some(serial) => assert!(file.bytes.len() > if serial == 2 { 39_900_000 } else { 299_000 }),
            None => found.push(file.bytes),
        }
    }
    found.sort();
    expected.sort();
    assert!(found == expected, "lengths {:?}", found.iter().map(Vec::len).collect::<Vec<_>>());
}

#[test]
fn a_lost_state_folder_brings_nothing_twice_although_every_fetch_has_other_bytes() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=60);
    scene.collect().must_be_ok();
    let before = scene.files("factures");
    std::fs::remove_dir_all(scene.path("state")).unwrap();
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (60, 0, 0));
    assert!(scene.files("factures") == before, "the first accepted rendering stands");
}

#[test]
fn after_a_renumbering_equal_renderings_are_recognised_and_only_new_mail_is_added() {
    let scene = Scene::new(&["factures"]);
    scene.mailbox("factures", |mailbox| mailbox.stable_rendering = true);
    scene.deliver("factures", 1..=60);
    scene.put("factures", Message::sized(61, 400_000));
    scene.collect().must_be_ok();
    let before = scene.files("factures");
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").renumber(1_000));
    scene.deliver("factures", 62..=63);
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), (1..=63).collect::<Vec<_>>());
    let after = scene.files("factures");
    assert!(before.iter().all(|file| after.contains(file)));
    assert_eq!(scene.collect().counts("factures"), (0, 0, 0));
}

#[test]
fn after_a_renumbering_with_other_bytes_there_is_a_second_copy_and_nothing_is_lost() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=40);
    scene.collect().must_be_ok();
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").renumber(1_000));
    scene.collect().must_be_ok();
    let mut serials = scene.serials("factures");
    assert_eq!(serials.len(), 80);
    serials.dedup();
    assert_eq!(serials, (1..=40).collect::<Vec<_>>());
}

#[test]
fn two_messages_of_the_same_bytes_are_two_files_also_after_renumberings_and_a_lost_state() {
    let scene = Scene::new(&["factures"]);
    scene.mailbox("factures", |mailbox| mailbox.stable_rendering = true);
    let twin = || Message::sized(7, 3_000);
    scene.put("factures", twin());
    scene.put("factures", twin());
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [7, 7]);
    // A third one arrives while the mailbox is moved: the two old copies stand for two of the three.
    scene.put("factures", twin());
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").renumber(500));
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [7, 7, 7]);
    std::fs::remove_dir_all(scene.path("state")).unwrap();
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [7, 7, 7]);
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").renumber(3));
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [7, 7, 7]);
}

#[test]
fn a_kill_in_mid_reconcile_neither_loses_nor_doubles_equal_messages() {
    let scene = Scene::new(&["factures"]);
    scene.mailbox("factures", |mailbox| mailbox.stable_rendering = true);
    // Every serial three times, so that copies could be taken for one another.
    let expected: Vec<u64> = (1..=200).flat_map(|serial| [serial; 3]).collect();
    for turn in 0..3 {
        scene.deliver("factures", (1..=200).map(|serial| (serial + turn * 67) % 200 + 1));
    }
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), expected);
    for (turn, bytes) in [250_000, 700_000, 1_200_000, 1_700_000].into_iter().enumerate() {
        scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").renumber(10_000 * (turn as u32 + 1)));
        let mut child = Running::start(scene.command().arg("--once"));
        let pid = rustix::process::Pid::from_child(&child.0);
        let (told, killed) = std::sync::mpsc::channel();
        scene.simulator.on_bytes(bytes, move || {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            told.send(()).unwrap();
        });
        killed.recv_timeout(MANY).unwrap();
        child.0.wait().unwrap();
        scene.collect().must_be_ok();
        assert_eq!(scene.serials("factures"), expected, "after the kill at {bytes} bytes");
    }
}

#[test]
fn a_second_collector_on_the_same_state_folder_is_turned_away_and_takes_nothing() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=3);
    let _first = Running::start(&mut scene.command());
    wait_for_files(&scene, "factures", 3, MANY);
    let log_ins = scene.simulator.log_ins();
    let said = scene.collect();
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stderr.contains("in use by another mailbox-collector"), "{}", said.stderr);
    assert_eq!(scene.simulator.log_ins(), log_ins);
}

#[test]
fn without_once_new_mail_is_pushed_and_on_disk_within_milliseconds() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=5);
    let _running = Running::start(&mut scene.command());
    wait_for_files(&scene, "factures", 5, MANY);
    let idling = |count: u64| {
        wait_for("IDLE", MANY, || (scene.simulator.commands().get("IDLE").copied().unwrap_or_default() >= count).then_some(()));
    };
    let mut delays = Vec::new();
    for serial in 6..=15 {
        idling(serial - 5);
        scene.deliver("factures", [serial]);
        wait_for_files(&scene, "factures", serial as usize, Duration::from_secs(10));
        let announced = wait_for("announcement", MANY, || scene.simulator.announcements().last().cloned());
        let newest = scene.files("factures").into_iter().find(|file| simulator::serial_in(&file.bytes) == Some(serial)).unwrap();
        let path = scene.path("root").join("office/factures").join(newest.name);
        let written = std::fs::metadata(path).unwrap().modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        delays.push(written.as_nanos() as i128 - i128::from(announced.unix_nanoseconds));
    }
    delays.sort_unstable();
    // Generous, for a busy machine; the figure itself is measured by the benchmark.
    assert!(delays[delays.len() / 2] < 500_000_000, "{delays:?} ns from the server's EXISTS to the file");
    assert_eq!(scene.serials("factures"), (1..=15).collect::<Vec<_>>());
    assert_eq!(scene.simulator.connections(), 1, "all on one session");
}

#[test]
fn mail_announced_while_an_owed_message_is_tried_again_does_not_wait_for_the_next_look() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=3);
    scene.mailbox("factures", |mailbox| {
        mailbox.faults.once(Trigger::Command { name: "FETCH", nth: 1 }, Action::Fetch { uid: Some(2), what: simulator::FetchFault::Skip });
    });
    let said = scene.collect();
    assert_eq!(said.counts("factures"), (2, 1, 0));
    scene.let_time_pass("factures");
    // One new message is fetched first; another arrives during that, announced in the answer to FETCH.
    scene.deliver("factures", [4]);
    scene.mailbox("factures", |mailbox| {
        let arrives = Action::run(|world| drop(world.deliver(&address("factures"), "INBOX", Message::sized(5, 3_000))));
        mailbox.faults.once(Trigger::Command { name: "FETCH", nth: 1 }, arrives);
    });
    let _running = Running::start(&mut scene.command());
    wait_for_files(&scene, "factures", 5, Duration::from_secs(15));
    assert_eq!(scene.serials("factures"), [1, 2, 3, 4, 5]);
}

/// A missed step, the reason for it, and what the message must name: the ids and commands with which a person can act.
const STEPS: [(Step, &str, &[&str]); 17] = [
    (Step::Tenant, "TenantNotFound", &[simulator::TENANT_ID, "tenantId", "azure-app"]),
    (Step::ClientId, "ApplicationNotFound", &[simulator::CLIENT_ID, "clientId", "azure-app"]),
    (Step::Secret, "SecretInvalid", &[simulator::CLIENT_ID, "clientSecret", "azure-app"]),
    (Step::SecretExpired, "SecretExpired", &[simulator::CLIENT_ID, "azure-app"]),
    (Step::EnterpriseApp, "EnterpriseApplicationMissing", &["az ad sp create --id", simulator::CLIENT_ID]),
    (Step::EnterpriseAppEnabled, "ApplicationDisabled", &["az ad sp update --id", simulator::CLIENT_ID]),
    (Step::ConditionalAccess, "ConditionalAccessBlocked", &[simulator::CLIENT_ID]),
    (Step::ExchangeOnline, "PermissionOrConsentMissing", &[simulator::TENANT_ID, "Exchange Online"]),
    (Step::Permission, "PermissionOrConsentMissing", &["IMAP.AccessAsApp", "Grant admin consent"]),
    (Step::PermissionKind, "PermissionOrConsentMissing", &["IMAP.AccessAsApp", "Application permissions"]),
    (Step::PermissionApi, "PermissionOrConsentMissing", &["IMAP.AccessAsApp", "not Microsoft Graph"]),
    (Step::Role, "WrongPermission", &["POP.AccessAsApp", "IMAP.AccessAsApp"]),
    (Step::AdminConsent, "PermissionOrConsentMissing", &["Grant admin consent"]),
    (Step::ServicePrincipal, "ServicePrincipalNotRegistered", &["New-ServicePrincipal", simulator::CLIENT_ID, OBJECT_ID]),
    (Step::ObjectId, "ServicePrincipalNotRegistered", &["Get-ServicePrincipal", OBJECT_ID]),
    (Step::FullAccess, "AccessMissingOrProtocolDisabled", &["Add-MailboxPermission", "factures@contoso.example", simulator::CLIENT_ID]),
    (Step::ImapEnabled, "AccessMissingOrProtocolDisabled", &["Set-CASMailbox", "-ImapEnabled $true", "factures@contoso.example"]),
];
/// The enterprise application's object id in a ready tenant.
const OBJECT_ID: &str = "7e1a5c00-0000-4000-8003-000000000000";

#[test]
fn each_missed_step_is_named_with_what_to_do_about_it_and_the_exit_code_is_1() {
    assert_eq!(STEPS.len(), Step::ALL.len());
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=2);
    for (step, reason, words) in STEPS {
        {
            let mut world = scene.simulator.world();
            world.tenants[0].put_right();
            world.miss(step);
        }
        let said = scene.collect();
        assert_eq!(said.status.code(), Some(1), "{step:?}: {}", said.stderr);
        assert_eq!((said.of("factures")["ok"].as_bool(), said.reason("factures")), (Some(false), reason), "{step:?}");
        let message = said.of("factures")["message"].as_str().unwrap();
        for word in words {
            assert!(message.contains(word), "{step:?}: {word:?} is missing in {message}");
        }
        assert!(scene.files("factures").is_empty(), "{step:?}");
    }
    scene.simulator.world().tenants[0].put_right();
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [1, 2]);
}

#[test]
fn a_secrets_id_in_place_of_its_value_is_recognised() {
    let scene = Scene::new(&["factures"]);
    scene.write("mail.yaml", &format!("{}---\n{}", secret(simulator::CLIENT_SECRET_ID), collector("factures", "")));
    let said = scene.collect();
    assert_eq!((said.status.code(), said.reason("factures")), (Some(1), "SecretIdInsteadOfValue"));
}

#[test]
fn one_mailbox_in_trouble_fails_the_run_and_keeps_no_other_waiting() {
    let scene = Scene::new(&["factures", "perdu", "rh"]);
    scene.deliver("factures", 1..=5);
    scene.deliver("rh", 6..=9);
    scene.mailbox("perdu", |mailbox| mailbox.full_access.clear());
    let said = scene.collect();
    assert_eq!(said.status.code(), Some(1));
    assert_eq!(said.reason("perdu"), "AccessMissingOrProtocolDisabled");
    assert_eq!((said.counts("factures"), said.counts("rh")), ((5, 0, 0), (4, 0, 0)));
    assert_eq!((scene.serials("factures"), scene.serials("rh")), ((1..=5).collect(), (6..=9).collect()));
}

#[test]
fn a_wrong_field_is_named_and_the_other_collectors_are_not_touched_by_it() {
    let rows = [
        ("interval: soon", "InvalidSpec", "spec.interval"),
        ("interval: 1s", "InvalidSpec", "spec.interval"),
        ("protocol: POP3\nfolders: [{name: Factures}]", "InvalidSpec", "spec.folders"),
        ("folders: [{name: Autre/}]", "InvalidSpec", "spec.folders"),
        ("afterDelivery: {action: Move, folder: inbox}", "InvalidSpec", "spec.afterDelivery.folder"),
        ("schedule: \"0 6 * *\"", "InvalidSpec", "spec.schedule"),
        ("schedule: \"0 6 * * *\"\ninterval: 5m", "InvalidSpec", "spec.interval"),
        ("schedule: \"0 6 * * *\"\ntimeZone: Paris", "InvalidSpec", "spec.timeZone"),
        ("startFrom: Then", "InvalidSpec", "spec.startFrom"),
        ("select: {from: [\"\"]}", "InvalidSpec", "spec.select.from[0]"),
    ];
    let bad = collector("bad", "");
    let mut documents: Vec<(String, &str, &str)> =
        rows.iter().map(|(line, reason, word)| (collector("bad", line), *reason, *word)).collect();
    documents.push((bad.replace("azure-app", "other-app"), "SecretNotFound", "other-app"));
    documents.push((bad.replace("path: bad", "path: ../up"), "InvalidSpec", "path"));
    documents.push((bad.replace("path: bad", "path: /etc"), "InvalidSpec", "path"));
    documents.push((bad.replace("file: {path: bad, format: EML}", "webhook: {url: \"https://ged.example\"}"), "InvalidSpec", "webhook"));
    documents.push((bad.replace("bad@contoso.example", "not-an-address"), "InvalidSpec", "spec.mailbox"));
    documents.push((bad.replace("bad@contoso.example", &"x".repeat(1 << 20)), "InvalidSpec", "spec.mailbox"));
    documents.push((bad.replace("{secretRef: {name: azure-app}}", "{}"), "InvalidSpec", "spec.credentials"));
    // All at once: each under a name of its own.
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=2);
    let mut yaml = format!("{}---\n{}", secret(simulator::CLIENT_SECRET), collector("factures", ""));
    for (row, (document, ..)) in documents.iter().enumerate() {
        yaml.push_str(&format!("---\n{}", document.replace("{name: bad,", &format!("{{name: bad-{row},"))));
    }
    scene.write("mail.yaml", &yaml);
    let said = scene.collect();
    assert_eq!(said.status.code(), Some(1));
    assert_eq!(scene.serials("factures"), [1, 2]);
    for (row, (document, reason, word)) in documents.iter().enumerate() {
        let name = format!("bad-{row}");
        let message = said.of(&name)["message"].as_str().unwrap_or_default();
        assert!(said.reason(&name) == *reason && message.contains(word), "{}: {message:.300} for {document:.600}", said.reason(&name));
        assert!(message.len() < 1_024, "{} bytes", message.len());
    }
}

#[test]
fn what_cannot_be_run_at_all_says_why_on_standard_error() {
    let scene = Scene::new(&["factures"]);
    let rows = [
        ("kind: [unclosed\n", 1, "mail.yaml"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", 1, "ConfigMap"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n", 1, "no MailboxCollector"),
        ("", 1, "no MailboxCollector"),
        ("apiVersion: mailbox-collector.io/v1alpha1\nkind: MailboxCollector\nmetadata: {name: a}\nspec: {mailbox: [1]}\n", 1, "document 1"),
    ];
    for (yaml, code, word) in rows {
        scene.write("mail.yaml", yaml);
        let said = scene.collect();
        assert!(said.status.code() == Some(code) && said.stderr.contains(word), "{:?}: {}", said.status.code(), said.stderr);
        assert_eq!(said.stdout, "");
    }
    let usage = run(bare_command().args(["collect", "--once"]));
    assert!(usage.status.code() == Some(2) && usage.stderr.contains("--file"), "{:?}: {}", usage.status.code(), usage.stderr);
}
