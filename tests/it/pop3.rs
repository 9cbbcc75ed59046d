//! Mail by POP3: collected whole, kept or deleted, and what a server can do wrong meanwhile (the faults are numbered 33 to 40, after those of
//! IMAP). The built program against the stand-in.

use simulator::{Action, FetchFault, Message, Step, Trigger};

use crate::scene::{Said, Scene, address, all_at_once, collector, run, secret};

const MESSAGES: u64 = 12;
const DELETE: &str = "protocol: POP3\nafterDelivery: {action: Delete}";

fn on(name: &'static str) -> Trigger {
    Trigger::Command { name, nth: 1 }
}

fn arm(scene: &Scene, name: &str, trigger: Trigger, action: Action) {
    scene.mailbox(name, |mailbox| mailbox.faults.once(trigger, action));
}

#[track_caller]
fn struck(scene: &Scene, name: &str) {
    scene.mailbox(name, |mailbox| assert!(mailbox.faults.is_empty(), "{name}: never struck"));
}

fn all(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

fn without(last: u64, lacking: &[u64]) -> Vec<u64> {
    (1..=last).filter(|serial| !lacking.contains(serial)).collect()
}

fn deleting(names: &[&str]) -> Scene {
    let scene = Scene::with(names, DELETE);
    scene.simulator.world().permit_pop3();
    scene
}

fn uids(scene: &Scene, name: &str) -> Vec<u32> {
    scene.mailbox(name, |mailbox| mailbox.folder("INBOX").uids())
}

/// Reasons of what is owed or quarantined.
fn reasons(scene: &Scene, name: &str, what: &str) -> Vec<String> {
    let cursor = scene.cursor(name);
    cursor[what].as_array().into_iter().flatten().map(|entry| entry["reason"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn everything_is_collected_once_and_then_only_what_is_new() {
    for pipelining in [false, true] {
        let scene = Scene::pop3(&["factures"]);
        scene.simulator.world().exchange.pop3_pipelining = pipelining;
        scene.deliver("factures", 1..=80);
        scene.put("factures", Message::sized(81, 900_000));
        let said = scene.collect();
        said.must_be_ok();
        assert_eq!(said.counts("factures"), (81, 0, 0));
        assert_eq!(scene.cursor("factures")["decided"], "1:81", "Exchange's unique-ids are ranges");
        let renderings = scene.simulator.renderings().len();
        scene.deliver("factures", [82]);
        let said = scene.collect();
        said.must_be_ok();
        assert_eq!(said.counts("factures"), (1, 0, 0));
        assert_eq!(scene.serials("factures"), all(82));
        assert_eq!(scene.simulator.renderings().len(), renderings + 1);
        let commands = scene.simulator.commands();
        assert_eq!((commands["AUTH"], commands["RETR"], commands["TOP"]), (2, 82, 1));
        assert!(!commands.contains_key("DELE"));
    }
}

#[test]
fn names_that_are_no_numbers_are_remembered_as_well() {
    let scene = Scene::pop3(&["factures"]);
    scene.mailbox("factures", |mailbox| mailbox.unique_ids = (1..=30).map(|uid| (uid, format!("{uid:08x}5f3c1234"))).collect());
    scene.deliver("factures", 1..=20);
    scene.collect().must_be_ok();
    // One of them is removed, so that the others have other numbers in the session.
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").expunge(|uid| uid == 3));
    scene.deliver("factures", 21..=22);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), scene.serials("factures")), ((2, 0, 0), all(22)));
}

#[test]
fn each_missed_step_is_told_as_far_as_pop3_lets_us_know() {
    let rows = [
        (Some(Step::ServicePrincipal), "AuthenticationRefused"),
        (Some(Step::FullAccess), "AuthenticationRefused"),
        (Some(Step::AdminConsent), "PermissionOrConsentMissing"),
        // Only IMAP.AccessAsApp.
        (None, "WrongPermission"),
    ];
    all_at_once(&rows, |(step, reason)| {
        let scene = if step.is_some() { Scene::pop3(&["factures"]) } else { Scene::with(&["factures"], "protocol: POP3") };
        scene.deliver("factures", [1]);
        step.iter().for_each(|step| scene.simulator.world().miss(*step));
        let said = scene.collect();
        assert_eq!(said.reason("factures"), *reason, "{}", said.stdout);
        assert!(!said.status.success());
        if *reason == "AuthenticationRefused" {
            assert!(said.stdout.contains("Set-CASMailbox") && said.stdout.contains("PopEnabled"), "{}", said.stdout);
        }
        scene.simulator.world().tenants[0].put_right();
        scene.simulator.world().permit_pop3();
        scene.collect().must_be_ok();
    });
}

#[test]
fn fault_33_a_mailbox_in_use_is_a_passing_trouble_that_says_so() {
    let scene = Scene::pop3(&["factures", "for-a-moment"]);
    ["factures", "for-a-moment"].iter().for_each(|name| scene.deliver(name, 1..=3));
    arm(&scene, "for-a-moment", on("AUTH"), Action::No("[IN-USE] The mailbox is locked.".to_owned()));
    scene.mailbox("factures", |mailbox| mailbox.pop3_locked = true);
    let said = scene.collect();
    assert_eq!(said.reason("factures"), "ConnectionFailed");
    assert!(said.of("factures")["message"].as_str().unwrap().contains("in use"), "{}", said.of("factures"));
    assert!(scene.serials("factures").is_empty());
    assert_eq!((scene.serials("for-a-moment"), said.counts("for-a-moment")), (all(3), (3, 0, 0)));
    scene.mailbox("factures", |mailbox| mailbox.pop3_locked = false);
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), all(3));
}

#[test]
fn fault_34_a_listing_that_is_cut_or_empty_decides_nothing() {
    let cut = ["+OK\r\n.\r\n", "+OK\r\n1 1\r\n.\r\n", "+OK\r\n1 1\r\n3 3\r\n.\r\n"];
    let names = ["empty", "short", "gap", "torn", "all-gone"];
    let scene = Scene::pop3(&names);
    names.iter().for_each(|name| scene.deliver(name, all(MESSAGES)));
    for (name, listing) in names.iter().zip(cut) {
        arm(&scene, name, on("UIDL"), Action::Replace(listing.into()));
    }
    arm(&scene, "torn", on("UIDL"), Action::ReplaceAndClose("+OK\r\n1 1\r\n2 2\r\n".into()));
    let said = scene.collect();
    said.must_be_ok();
    for name in names {
        struck(&scene, name);
        assert_eq!((scene.serials(name), said.counts(name)), (all(MESSAGES), (MESSAGES, 0, 0)), "{name}");
    }
    // The whole mailbox seems to be gone, and is back the next time.
    let renderings = scene.simulator.renderings().len();
    arm(&scene, "all-gone", on("STAT"), Action::Replace("+OK 0 0\r\n".into()));
    arm(&scene, "all-gone", on("UIDL"), Action::Replace("+OK\r\n.\r\n".into()));
    let said = scene.collect();
    said.must_be_ok();
    struck(&scene, "all-gone");
    assert_eq!((said.counts("all-gone"), &scene.cursor("all-gone")["decided"]), ((0, 0, 0), &"1:12".into()));
    scene.deliver("all-gone", [13]);
    assert_eq!(scene.collect().counts("all-gone"), (1, 0, 0));
    assert_eq!(scene.simulator.renderings().len(), renderings + 1, "nothing is fetched again");
}

#[test]
fn fault_35_messages_of_one_name_are_left_alone_and_told_until_the_name_is_one_s_again() {
    let scene = Scene::pop3(&["new", "old"]);
    for name in ["new", "old"] {
        scene.deliver(name, all(MESSAGES));
    }
    // Two of them from the beginning; one more later.
    scene.mailbox("new", |mailbox| mailbox.unique_ids = [(2, "same".to_owned()), (3, "same".to_owned())].into());
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((scene.serials("new"), said.counts("new")), (without(MESSAGES, &[2, 3]), (10, 0, 1)));
    assert_eq!(reasons(&scene, "new", "quarantined"), ["SharedName"]);
    scene.mailbox("old", |mailbox| mailbox.unique_ids = [(13, "4".to_owned())].into());
    scene.deliver("old", [13]);
    let said = scene.collect();
    assert_eq!((scene.serials("old"), said.counts("old")), (all(MESSAGES), (0, 0, 1)));
    // The other one goes: what is left is taken, though a message of that name was delivered before.
    scene.mailbox("new", |mailbox| mailbox.folder("INBOX").expunge(|uid| uid == 2));
    scene.mailbox("old", |mailbox| mailbox.folder("INBOX").expunge(|uid| uid == 4));
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((scene.serials("new"), said.counts("new")), (without(MESSAGES, &[2]), (1, 0, 0)));
    assert_eq!((scene.serials("old"), said.counts("old")), (all(13), (1, 0, 0)));
}

#[test]
fn fault_36_one_refused_message_is_owed_and_the_others_come() {
    let scene = Scene::pop3(&["refused", "incident", "substitute", "scan", "empty"]);
    let rows = [
        ("refused", FetchFault::RefusesFetch("The message could not be retrieved.".to_owned()), "NotReceived"),
        ("substitute", FetchFault::Substitute, "Substitute"),
        ("scan", FetchFault::ScanInProgress, "ScanPlaceholder"),
        ("empty", FetchFault::Empty, "Empty"),
        // It is the server's trouble then, and not the message's.
        ("incident", FetchFault::RefusesFetch("Server Unavailable. 21".to_owned()), ""),
    ];
    for (name, fault, _) in &rows {
        scene.deliver(name, all(MESSAGES));
        arm(&scene, name, Trigger::Command { name: "RETR", nth: 3 }, Action::Fetch { uid: Some(3), what: fault.clone() });
    }
    let said = scene.collect();
    for (name, _, reason) in &rows {
        struck(&scene, name);
        if reason.is_empty() {
            assert_eq!((scene.serials(name), said.counts(name)), (all(MESSAGES), (MESSAGES, 0, 0)), "{name}");
            continue;
        }
        assert_eq!((scene.serials(name), said.counts(name)), (without(MESSAGES, &[3]), (MESSAGES - 1, 1, 0)), "{name}");
        assert_eq!(reasons(&scene, name, "owed"), [*reason], "{name}");
        scene.let_time_pass(name);
    }
    scene.collect().must_be_ok();
    for (name, ..) in &rows {
        assert_eq!(scene.serials(name), all(MESSAGES), "{name}");
        assert!(reasons(&scene, name, "owed").is_empty());
    }
}

#[test]
fn fault_37_a_message_without_its_closing_dot_is_none_and_comes_with_the_next_session() {
    let scene = Scene::pop3(&["mid-body", "before", "long"]);
    for name in ["mid-body", "before"] {
        scene.deliver(name, all(MESSAGES));
    }
    for serial in 1..=3 {
        scene.put("long", Message::sized(serial, 700_000));
    }
    let struck_by = |what: &FetchFault| Action::Fetch { uid: Some(3), what: what.clone() };
    arm(&scene, "mid-body", Trigger::Command { name: "RETR", nth: 3 }, struck_by(&FetchFault::EndMidBody));
    arm(&scene, "before", Trigger::Command { name: "RETR", nth: 3 }, struck_by(&FetchFault::EndsConnection));
    arm(&scene, "long", Trigger::Command { name: "RETR", nth: 3 }, struck_by(&FetchFault::EndMidBody));
    let said = scene.collect();
    said.must_be_ok();
    for (name, messages) in [("mid-body", MESSAGES), ("before", MESSAGES), ("long", 3)] {
        struck(&scene, name);
        assert_eq!((scene.serials(name), said.counts(name)), (all(messages), (messages, 0, 0)), "{name}");
    }
}

#[test]
fn fault_38_dots_and_line_ends_arrive_as_they_were_wherever_they_are_cut() {
    let raw = b"Subject: x\r\nMessage-ID: <raw@contoso.example>\r\n\r\n.\r\n..\r\na\n.\nb\r\n.c\n.\r\n\r.\r\n\r\n.\r\n";
    let sizes = [1, 2, 3, 4, 5, 7, 64];
    let names: Vec<String> = sizes.iter().map(|size| format!("by-{size}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::pop3(&names);
    for (name, size) in names.iter().zip(sizes) {
        scene.deliver(name, 1..=3);
        scene.put(name, Message::raw(&raw[..]));
        scene.mailbox(name, |mailbox| mailbox.faults.times(4, on("RETR"), Action::SplitLiterals(size)));
    }
    scene.collect().must_be_ok();
    for name in names {
        struck(&scene, name);
        let files = scene.files(name);
        assert_eq!(files.len(), 4);
        assert!(files.iter().any(|file| file.bytes == raw), "{name}");
        let whole = files.iter().filter(|file| file.bytes != raw);
        assert_eq!(whole.filter(|file| scene.simulator.rendering_of_bytes(&file.bytes).is_some()).count(), 3, "{name}");
    }
}

#[test]
fn delivered_mail_is_deleted_when_it_is_recorded_and_that_is_believed_when_a_listing_lacks_it() {
    let scene = deleting(&["factures"]);
    scene.deliver("factures", all(MESSAGES));
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((scene.serials("factures"), said.counts("factures")), (all(MESSAGES), (MESSAGES, 0, 0)));
    assert!(uids(&scene, "factures").is_empty());
    assert_eq!(scene.cursor("factures")["unsettled"], "1:12", "no proof yet");
    scene.deliver("factures", [13]);
    scene.collect().must_be_ok();
    assert_eq!((uids(&scene, "factures"), &scene.cursor("factures")["unsettled"]), (vec![], &"13".into()));
    scene.collect().must_be_ok();
    assert!(scene.cursor("factures")["unsettled"].is_null());
    assert_eq!(scene.serials("factures"), all(13));
}

#[test]
fn fault_39_a_link_cut_between_dele_and_quit_s_answer_loses_and_doubles_nothing() {
    let scene = deleting(&["undone", "done"]);
    for name in ["undone", "done"] {
        scene.deliver(name, all(MESSAGES));
    }
    // Before the server has removed anything, and after it has.
    arm(&scene, "undone", on("QUIT"), Action::Close);
    let removed = Action::run(|world| {
        world.mailbox(&address("done")).unwrap().folder("INBOX").expunge(|_| true);
    });
    arm(&scene, "done", on("QUIT"), removed);
    arm(&scene, "done", on("QUIT"), Action::Close);
    let said = scene.collect();
    said.must_be_ok();
    for name in ["undone", "done"] {
        struck(&scene, name);
        assert_eq!((scene.serials(name), said.counts(name)), (all(MESSAGES), (MESSAGES, 0, 0)), "{name}");
        assert_eq!(scene.cursor(name)["unsettled"], "1:12", "{name}");
    }
    assert_eq!(uids(&scene, "undone").len(), 12);
    settles_in_the_end(&scene, &["undone", "done"]);
}

#[test]
fn fault_40_a_quit_that_removes_some_leaves_the_others_to_the_next() {
    let scene = deleting(&["factures"]);
    scene.deliver("factures", all(MESSAGES));
    let some = Action::run(|world| {
        world.mailbox(&address("factures")).unwrap().folder("INBOX").expunge(|uid| uid <= 5);
    });
    arm(&scene, "factures", on("QUIT"), some);
    arm(&scene, "factures", on("QUIT"), Action::No("some deleted messages not removed".to_owned()));
    let said = scene.collect();
    said.must_be_ok();
    struck(&scene, "factures");
    assert_eq!((uids(&scene, "factures").len(), &scene.cursor("factures")["unsettled"]), (7, &"1:12".into()));
    settles_in_the_end(&scene, &["factures"]);
}

/// Two more runs: one that deletes what is left, one that sees it gone. Nothing is fetched again.
#[track_caller]
fn settles_in_the_end(scene: &Scene, names: &[&str]) {
    let renderings = scene.simulator.renderings().len();
    scene.collect().must_be_ok();
    names.iter().for_each(|name| assert!(uids(scene, name).is_empty(), "{name}"));
    scene.collect().must_be_ok();
    for name in names {
        assert!(scene.cursor(name)["unsettled"].is_null(), "{name}: {}", scene.cursor(name));
        assert_eq!(scene.serials(name), all(MESSAGES), "{name}");
    }
    assert_eq!(scene.simulator.renderings().len(), renderings);
}

#[test]
fn names_that_mean_other_messages_now_are_noticed_and_nothing_is_lost_for_it() {
    let scene = Scene::pop3(&["factures"]);
    scene.mailbox("factures", |mailbox| mailbox.stable_rendering = true);
    scene.deliver("factures", all(MESSAGES));
    scene.collect().must_be_ok();
    // The mailbox was moved: its messages are named from 1 again, and the first ones are not there any more.
    scene.mailbox("factures", |mailbox| {
        mailbox.folder("INBOX").expunge(|uid| uid <= 4);
        mailbox.folder("INBOX").renumber(1);
    });
    scene.deliver("factures", 13..=14);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(scene.serials("factures"), all(14), "what lies in the sink stands for what it is: {}", said.stderr);
    assert_eq!((&scene.cursor("factures")["uidValidity"], &scene.cursor("factures")["decided"]), (&2.into(), &"1:10".into()));
    let renderings = scene.simulator.renderings().len();
    assert_eq!(scene.collect().counts("factures"), (0, 0, 0));
    assert_eq!(scene.simulator.renderings().len(), renderings, "once");
}

#[test]
fn the_connection_may_end_at_any_byte() {
    let lengths: Vec<u64> = (0..25).map(|row| 40 + row * row * 60).collect();
    let names: Vec<String> = lengths.iter().map(|length| format!("at-{length}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::pop3(&names);
    for (name, length) in names.iter().zip(&lengths) {
        scene.deliver(name, all(MESSAGES));
        arm(&scene, name, Trigger::AfterBytes(*length), Action::Close);
    }
    let said = scene.collect();
    said.must_be_ok();
    for name in &names {
        struck(&scene, name);
        assert_eq!((scene.serials(name), said.counts(name)), (all(MESSAGES), (MESSAGES, 0, 0)), "{name}");
    }
}

#[test]
fn a_server_s_moods_only_delay() {
    let rows: [(&'static str, Action); 7] = [
        ("GREETING", Action::Bye("Server Unavailable. 21".to_owned())),
        ("AUTH", Action::No("Server Unavailable. 21".to_owned())),
        ("CAPA", Action::Close),
        ("STAT", Action::No("[SYS/TEMP] busy".to_owned())),
        ("UIDL", Action::Bye("Server Unavailable. 21".to_owned())),
        ("RETR", Action::Throttle { milliseconds: 1_000, bad: false, bye: true }),
        ("RETR", Action::Replace("garbage\r\n".into())),
    ];
    all_at_once(&rows, |(name, action)| {
        let scene = Scene::pop3(&["factures"]);
        scene.deliver("factures", 1..=3);
        scene.simulator.world().exchange.faults.once(Trigger::Command { name, nth: 1 }, action.clone());
        let said: Said = scene.collect();
        said.must_be_ok();
        assert!(scene.simulator.world().exchange.faults.is_empty(), "{name}: never struck");
        assert_eq!(scene.serials("factures"), [1, 2, 3], "{name}");
    });
}

#[test]
fn what_pop3_cannot_do_is_refused_by_field() {
    let scene = Scene::pop3(&["factures"]);
    for (more, field) in [
        ("folders: [{name: INBOX}]", "spec.folders"),
        ("push: true", "spec.push"),
        ("afterDelivery: {action: Move, folder: Done}", "spec.afterDelivery.action"),
        ("afterDelivery: {action: MarkSeen}", "spec.afterDelivery.action"),
    ] {
        let document = collector("factures", &format!("protocol: POP3\n{more}"));
        scene.write("mail.yaml", &format!("{}---\n{document}", secret(simulator::CLIENT_SECRET)));
        let said = run(scene.command().arg("--once"));
        assert_eq!(said.reason("factures"), "InvalidSpec", "{more}: {}", said.stdout);
        assert!(said.of("factures")["message"].as_str().unwrap().contains(field), "{more}: {}", said.stdout);
    }
}
