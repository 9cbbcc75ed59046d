//! What a person asks for beyond a look: quarantined messages again or never, everything again; and two collectors of one folder.
//! The built program against the stand-in, and the operator against an API server.

use std::time::Duration;

use simulator::{FetchFault, Message, Options, Simulator, World};

use crate::scene::{Said, Scene, address, collector, run, secret};
use crate::support;

const LONG: Duration = Duration::from_secs(60);

/// The collector with these annotations, and more lines of `spec`.
fn annotated(scene: &Scene, annotations: &[(&str, &str)], more: &str) {
    let lines: String = annotations.iter().map(|(name, value)| format!(", \"mailbox-collector.io/{name}\": \"{value}\"")).collect();
    let annotations = format!("namespace: office, annotations: {{{}}}", lines.trim_start_matches(", "));
    let document = collector("factures", more).replace("namespace: office", &annotations);
    scene.write("mail.yaml", &format!("{}---\n{document}", secret(simulator::CLIENT_SECRET)));
}

/// A mailbox of eight messages, the third and the fifth of which are quarantined.
fn quarantined() -> Scene {
    let scene = Scene::new(&["factures"]);
    for serial in 1..=8 {
        scene.put("factures", if serial == 3 || serial == 5 { Message::sized(serial, 160_000_000) } else { Message::sized(serial, 3_000) });
    }
    assert_eq!(scene.collect().counts("factures"), (6, 0, 2));
    scene
}

fn uids(scene: &Scene, list: &str) -> Vec<u64> {
    scene.cursor("factures")[list].as_array().into_iter().flatten().map(|entry| entry["uid"].as_u64().unwrap()).collect()
}

fn fetched(scene: &Scene, act: impl FnOnce() -> Said) -> (Said, usize) {
    let before = scene.simulator.renderings().len();
    let said = act();
    (said, scene.simulator.renderings().len() - before)
}

#[test]
fn a_replay_is_tried_once_for_each_request_and_a_discard_is_for_good() {
    let scene = quarantined();
    // What was wrong with one of them is mended on the server.
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").expunge(|uid| uid == 5));
    let replay = [("replay", "INBOX/3@1"), ("requestedAt", "INBOX/3@1")];
    annotated(&scene, &replay, "");
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (0, 0, 2), "too large still, and at once");
    assert_eq!(scene.cursor("factures")["quarantined"][1]["uid"], 3, "given up anew");
    let commands = scene.simulator.commands()["UID FETCH"];
    scene.collect().must_be_ok();
    assert_eq!(scene.simulator.commands()["UID FETCH"], commands, "the same request is not acted upon twice");

    // Of an earlier request: it does nothing beside a later one.
    annotated(&scene, &[("replay", "*"), ("requestedAt", "10:15")], "");
    scene.collect().must_be_ok();
    assert_eq!(scene.simulator.commands()["UID FETCH"], commands);

    annotated(&scene, &[("replay", "*"), ("requestedAt", "*")], "");
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(uids(&scene, "quarantined"), [3], "the one that is gone is decided");

    let said = run(scene.command().args(["--once", "--discard", "INBOX/3"]));
    said.must_be_ok();
    assert_eq!((said.counts("factures"), uids(&scene, "quarantined")), ((0, 0, 0), vec![]));
    let commands = scene.simulator.commands()["UID FETCH"];
    let said = run(scene.command().args(["--once", "--replay", "*"]));
    said.must_be_ok();
    assert_eq!(scene.simulator.commands()["UID FETCH"], commands, "given up for good");
    scene.mailbox("factures", |mailbox| assert!(mailbox.folder("INBOX").uids().contains(&3), "untouched on the server"));
}

#[test]
fn a_message_that_was_mended_on_the_server_is_replayed_delivered_and_settled() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=4);
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").poison(2, Some(FetchFault::Substitute)));
    const DELETE: &str = "afterDelivery: {action: Delete}";
    annotated(&scene, &[], DELETE);
    for _ in 0..5 {
        scene.collect();
        scene.let_time_pass("factures");
    }
    assert_eq!(uids(&scene, "quarantined"), [2]);
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").poison(2, None));
    let said = run(scene.command().args(["--once", "--replay", "INBOX/2"]));
    said.must_be_ok();
    assert_eq!((said.counts("factures"), scene.serials("factures")), ((1, 0, 0), vec![1, 2, 3, 4]));
    scene.mailbox("factures", |mailbox| assert!(mailbox.folder("INBOX").uids().is_empty()));
}

#[test]
fn collecting_again_brings_what_was_taken_away_and_doubles_nothing() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=30);
    scene.collect().must_be_ok();
    // The document system takes ten of them.
    let files = scene.files("factures");
    for file in files.iter().take(10) {
        std::fs::remove_file(scene.path("root").join("office/factures").join(&file.name)).unwrap();
    }
    annotated(&scene, &[("resyncFrom", "Beginning"), ("requestedAt", "Beginning")], "");
    let (said, renderings) = fetched(&scene, || scene.collect());
    said.must_be_ok();
    assert_eq!(renderings, 30);
    assert_eq!(scene.serials("factures"), (1..=30).collect::<Vec<_>>());
    let (said, renderings) = fetched(&scene, || scene.collect());
    said.must_be_ok();
    assert_eq!((renderings, said.counts("factures")), (0, (0, 0, 0)), "once for each request");

    // Serials are 97 s apart, from 5 January 2026, 08:00 UTC on: all lie within the day, so a later day brings none of them.
    for (from, expected) in [("2026-01-08T00:00:00Z", 0), ("2026-01-05T09:00:00Z", 30), ("2020-01-01T00:00:00+02:00", 30)] {
        annotated(&scene, &[("resyncFrom", from), ("requestedAt", from)], "");
        let (said, renderings) = fetched(&scene, || scene.collect());
        said.must_be_ok();
        assert_eq!(renderings, expected, "{from}");
        assert_eq!(scene.serials("factures"), (1..=30).collect::<Vec<_>>());
    }
}

#[test]
fn of_two_collectors_of_one_folder_where_one_settles_only_one_is_taken() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=5);
    let other = collector("copie", "").replace(&address("copie"), &address("factures"));
    let settling = collector("factures", "afterDelivery: {action: Delete}");
    let file =
        |first: &str, second: &str| scene.write("mail.yaml", &format!("{}---\n{first}---\n{second}", secret(simulator::CLIENT_SECRET)));
    file(&settling, &other);
    let said = scene.collect();
    assert_eq!((said.reason("factures"), said.reason("copie")), ("MailboxConflict", ""));
    let message = said.of("factures")["message"].as_str().unwrap();
    assert!(
        message.contains("the older MailboxCollector \"copie\"") && message.contains("afterDelivery: {action: Keep} in both"),
        "{message}"
    );
    assert_eq!((scene.files("copie").len(), scene.files("factures").len()), (5, 0));
    scene.mailbox("factures", |mailbox| assert_eq!(mailbox.folder("INBOX").uids().len(), 5));

    file(&collector("factures", ""), &other);
    scene.collect().must_be_ok();
    assert_eq!((scene.files("copie").len(), scene.files("factures").len()), (5, 5));
}

#[test]
fn the_operator_refuses_the_younger_takes_it_up_again_and_replays_when_asked() {
    let namespace = support::namespace("verbs");
    let mailbox = address("factures");
    let simulator = Simulator::start_blocking(Options { world: World::ready(&[&mailbox]), ..Options::default() }).unwrap();
    for serial in 1..=4 {
        simulator.world().deliver(&mailbox, "INBOX", Message::sized(serial, 3_000)).unwrap();
    }
    let app = support::secret(&namespace, "app", simulator::TENANT_ID, simulator::CLIENT_ID, simulator::CLIENT_SECRET);
    let delete = "afterDelivery: {action: Delete}";
    let older = support::collector(&namespace, "older", &mailbox, "app", "");
    let younger = support::collector(&namespace, "younger", &mailbox, "app", delete);
    let cluster = support::cluster();
    cluster.apply(&format!("{app}{older}")).unwrap();
    // Ages are told in whole seconds.
    std::thread::sleep(Duration::from_millis(1_100));
    cluster.apply(&younger).unwrap();
    let installed = support::operator(&namespace, &support::servers(&simulator), &[]);
    let wait = |name: &str, what: &str| {
        let condition = format!("--for={what}");
        cluster.kubectl(&["wait", &condition, "--timeout=60s", "-n", &namespace, &format!("mbc/{name}")]).unwrap();
    };
    wait("younger", "jsonpath={.status.conditions[?(@.type==\"Accepted\")].reason}=MailboxConflict");
    support::wait_for("the older delivers", LONG, || {
        (support::serials(&simulator, &installed.folder(&namespace, "older")) == [1, 2, 3, 4]).then_some(())
    });
    assert_eq!(simulator.world().mailbox(&mailbox).unwrap().folder("INBOX").uids().len(), 4);
    cluster.kubectl(&["delete", "mbc", "older", "-n", &namespace, "--wait=true"]).unwrap();
    support::wait_for("the younger delivers and deletes", LONG, || {
        let emptied = simulator.world().mailbox(&mailbox).unwrap().folder("INBOX").uids().is_empty();
        (emptied && support::serials(&simulator, &installed.folder(&namespace, "younger")) == [1, 2, 3, 4]).then_some(())
    });
    wait("younger", "condition=Ready");

    // One too large is quarantined at once; a person discards it.
    simulator.world().deliver(&mailbox, "INBOX", Message::sized(5, 160_000_000)).unwrap();
    wait("younger", "condition=QuarantineNotEmpty");
    let message = cluster
        .kubectl(&[
            "get",
            "mbc/younger",
            "-n",
            &namespace,
            "-o",
            "jsonpath={.status.conditions[?(@.type==\"QuarantineNotEmpty\")].message}",
        ])
        .unwrap();
    assert!(message.contains(&format!("kubectl annotate mbc younger -n {namespace} --overwrite")), "{message}");
    cluster
        .kubectl(&[
            "annotate",
            "mbc/younger",
            "-n",
            &namespace,
            "--overwrite",
            "mailbox-collector.io/requestedAt=INBOX/5@1",
            "mailbox-collector.io/discard=INBOX/5@1",
        ])
        .unwrap();
    wait("younger", "jsonpath={.status.lastHandledReconcileAt}=INBOX/5@1");
    wait("younger", "jsonpath={.status.messages.quarantined}=0");
    assert_eq!(simulator.world().mailbox(&mailbox).unwrap().folder("INBOX").uids(), [5], "untouched on the server");
    assert!(installed.refused().is_empty(), "{:?}", installed.refused());
}
