//! The numbered list of what goes wrong on the wire of IMAP, each fault played once by the stand-in over real sockets: what is delivered then,
//! what is owed, what the log and the outcome say. A row is a mailbox of its own; one run of the program meets them all.
//!
//! Elsewhere: 16 and 31 take a minute and stand in `hangs`, as 27 does; 24 to 26 are faults of MOVE; 33 to 40 are POP3's.

use bytes::Bytes;
use simulator::{Action, FetchFault, IdleFault, Message, Trigger};

use crate::scene::{Running, Scene, address, all_at_once, wait_for_files};
use crate::support::wait_for;

use std::time::Duration;

const MANY: Duration = Duration::from_secs(40);
/// Messages in each mailbox; the third of them is the one that a message's fault strikes.
const MESSAGES: u64 = 12;
const STRUCK: u32 = 3;

/// What a fault leads to.
#[derive(Clone, Copy)]
enum Then {
    /// Everything is delivered in the first run, in one session, and nothing is said.
    Delivered,
    /// Everything is delivered in the first run, after a new session; the reason and words of the log in between.
    SessionLost(&'static str, &'static str),
    /// The message is owed, for this reason, and delivered when it is tried again; the mailbox is in order meanwhile.
    Owed(&'static str),
    /// The message is owed until a listing lacks it, and never delivered: it is no more.
    Gone,
}

struct Row {
    name: &'static str,
    /// On the first of these commands …
    command: (&'static str, u32),
    /// … this is played.
    actions: Vec<Action>,
    then: Then,
}

const CLOSED: Then = Then::SessionLost("ConnectionFailed", "closed the connection");

fn rows() -> Vec<Row> {
    use FetchFault::*;
    let not_understood = |what| Then::SessionLost("ConnectionFailed", what);
    let message = |name, what, then| Row { name, command: ("FETCH", 1), actions: vec![Action::Fetch { uid: Some(STRUCK), what }], then };
    let flags = Bytes::from_static(b"* 3 FETCH (FLAGS (\\Seen) UID 3)\r\n* 3 FETCH (FLAGS (\\Answered))\r\n");
    vec![
        message(
            "01-no-after-half-the-data",
            RefusesFetch("Server error. 10".to_owned()),
            Then::SessionLost("ConnectionFailed", "Server error. 10"),
        ),
        Row {
            name: "02-bad-to-the-second-fetch",
            command: ("FETCH", 2),
            actions: vec![Action::Bad("Command Error. 12".to_owned())],
            // What was asked for ahead is asked for once more, and nothing more ahead.
            then: Then::Delivered,
        },
        message("03-ok-without-one-uid", Skip, Then::Owed("NotReceived")),
        message("04-nil", Nil, Then::Owed("Empty")),
        message("05-empty-literal", Empty, Then::Owed("Empty")),
        message("05-empty-quoted", EmptyQuoted, Then::Owed("Empty")),
        message("06-substitute", Substitute, Then::Owed("Substitute")),
        message("07-scan-placeholder", ScanInProgress, Then::Owed("ScanPlaceholder")),
        message("08-uid-after-body", UidAfterBody, Then::Delivered),
        message("08-no-uid-at-all", WithoutUid, Then::Owed("NotReceived")),
        message("09-in-two-replies", InTwoReplies, Then::Delivered),
        message("10-flags-in-flight", Before(flags), Then::Delivered),
        message("10-flags-only", FlagsOnly, Then::Owed("NotReceived")),
        message("11-body-not-asked-for", ForeignBefore(999), Then::Delivered),
        message("11-body-under-another-uid", OtherUid(999), Then::Owed("NotReceived")),
        message("12-twice", Twice, Then::Delivered),
        message("13-expunge-in-mid-fetch", Vanishes, Then::Gone),
        message("14-end-mid-literal", EndMidBody, CLOSED),
        message("14-end-before-a-message", EndsConnection, CLOSED),
        message("17-longer-than-the-literal", WrongLength(-10), not_understood("")),
        message("17-shorter-than-the-literal", WrongLength(10), not_understood("")),
        message("18-four-gigabytes", HugeLiteral(u64::from(u32::MAX)), not_understood("a literal longer than allowed")),
        Row { name: "19-split-at-every-byte", command: ("FETCH", 1), actions: vec![Action::SplitLiterals(1)], then: Then::Delivered },
        message("28-garbage-line", Garbage, Then::Delivered),
        message("28-garbage-without-end", LongLine(10_000_000), not_understood("a line longer than allowed")),
        message("28-parentheses", DeepParentheses(10_000), not_understood("parentheses nested too deep")),
        message("internaldate-nil", InternalDateNil, Then::Delivered),
    ]
}

#[test]
fn whatever_is_wrong_with_one_message_it_is_not_lost_and_the_others_come() {
    let rows = rows();
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    let scene = Scene::new(&names);
    for row in &rows {
        // A first set holds 50: there is a second where one is needed.
        let messages = if row.command.1 > 1 { 60 } else { MESSAGES };
        scene.deliver(row.name, 1..=messages);
        scene.mailbox(row.name, |mailbox| {
            let (name, nth) = row.command;
            row.actions.iter().for_each(|action| mailbox.faults.once(Trigger::Command { name, nth }, action.clone()));
        });
    }
    let first = scene.collect();
    let mut wrong = Vec::new();
    for Row { name, command, then, .. } in &rows {
        scene.mailbox(name, |mailbox| assert!(mailbox.faults.is_empty(), "{name}: never struck"));
        let all = if command.1 > 1 { 60 } else { MESSAGES };
        let owed: Vec<(u64, String)> = owed(&scene, name);
        let but_one = || (1..=all).filter(|serial| *serial != 3).collect::<Vec<u64>>();
        let (counts, reasons, serials, troubles) = match then {
            Then::Owed(reason) => ((all - 1, 1, 0), vec![(3, (*reason).to_owned())], but_one(), vec![]),
            Then::Gone => ((all - 1, 1, 0), vec![(3, "NotReceived".to_owned())], but_one(), vec![]),
            Then::Delivered => ((all, 0, 0), vec![], (1..=all).collect(), vec![]),
            Then::SessionLost(reason, words) => ((all, 0, 0), vec![], (1..=all).collect(), vec![(reason, words)]),
        };
        let told = first.troubles(name);
        let as_told = told.len() == troubles.len()
            && told
                .iter()
                .zip(&troubles)
                .all(|(told, (reason, words))| told.contains(&format!("reason=\"{reason}\"")) && told.contains(*words));
        if first.counts(name) != counts || owed != reasons || scene.serials(name) != serials || first.of(name)["ok"] != true || !as_told {
            wrong.push(format!("{name}: {} {owed:?} {:?} {told:?}", first.of(name), scene.serials(name)));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n{}", wrong.join("\n"), first.stderr);
    let lost = rows.iter().filter(|row| matches!(row.then, Then::SessionLost(..))).count();
    assert_eq!(scene.simulator.log_ins(), (rows.len() + lost) as u64, "a new session where one was lost, and only there");

    names.iter().for_each(|name| scene.let_time_pass(name));
    let second = scene.collect();
    second.must_be_ok();
    for Row { name, command, then, .. } in &rows {
        let all = if command.1 > 1 { 60 } else { MESSAGES };
        assert_eq!(second.counts(name), (u64::from(matches!(then, Then::Owed(_))), 0, 0), "{name}");
        let expected: Vec<u64> = (1..=all).filter(|serial| *serial != 3 || !matches!(then, Then::Gone)).collect();
        assert_eq!(scene.serials(name), expected, "{name}");
        assert_eq!(owed(&scene, name), [], "{name}");
    }
}

fn owed(scene: &Scene, name: &str) -> Vec<(u64, String)> {
    let owed = scene.cursor(name)["owed"].clone();
    let one = |owed: &serde_json::Value| (owed["uid"].as_u64().unwrap(), owed["reason"].as_str().unwrap().to_owned());
    owed.as_array().into_iter().flatten().map(one).collect()
}

#[test]
fn fault_15_a_token_that_expires_in_mid_literal_costs_a_session_and_nothing_else() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=3);
    scene.put("factures", Message::sized(4, 2_000_000));
    let bye = Action::Bye("Session invalidated - AccessTokenExpired".to_owned());
    // The newest message comes first or last: this byte lies in it either way, for the others have some 9 KB.
    scene.mailbox("factures", |mailbox| mailbox.faults.once(Trigger::AfterBytes(900_000), bye));
    let said = scene.collect();
    said.must_be_ok();
    // The words lie inside the literal, so that only the end of the connection is seen.
    let troubles = said.troubles("factures");
    assert!(troubles.len() == 1 && troubles[0].contains("reason=\"ConnectionFailed\""), "{troubles:?}");
    assert_eq!((scene.serials("factures"), said.counts("factures")), (vec![1, 2, 3, 4], (4, 0, 0)));
}

#[test]
fn fault_17_sizes_that_are_wrong_by_half_change_nothing() {
    let scene = Scene::new(&["factures"]);
    scene.mailbox("factures", |mailbox| mailbox.size_error_percent = 50);
    scene.deliver("factures", 1..=20);
    scene.put("factures", Message::sized(21, 400_000));
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((scene.serials("factures"), said.troubles("factures")), ((1..=21).collect(), vec![]));
}

#[test]
fn fault_20_another_rendering_of_what_is_fetched_again_neither_replaces_nor_doubles_the_first() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=10);
    scene.collect().must_be_ok();
    let state = scene.path("state/office.factures.json");
    let older = std::fs::read(&state).unwrap();
    scene.deliver("factures", 11..=30);
    scene.collect().must_be_ok();
    let before = scene.files("factures");
    // The record is behind the sink, as after a crash: twenty messages are fetched again, each with other bytes.
    std::fs::write(&state, older).unwrap();
    let rendered = scene.simulator.renderings().len();
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), scene.simulator.renderings().len() - rendered), ((20, 0, 0), 20));
    assert!(scene.files("factures") == before);
}

#[test]
fn fault_21_another_uidvalidity_reconciles_by_the_bytes() {
    // Between two sessions, and under an open one (`faults` has the same in the middle of a backlog).
    for under_a_session in [false, true] {
        let scene = Scene::new(&["factures"]);
        scene.mailbox("factures", |mailbox| mailbox.stable_rendering = true);
        scene.deliver("factures", 1..=20);
        scene.collect().must_be_ok();
        let before = scene.cursor("factures")["uidValidity"].clone();
        if under_a_session {
            scene.deliver("factures", [21]);
            let moved = Action::run(|world| world.mailbox(&address("factures")).unwrap().folder("INBOX").renumber(100));
            scene.mailbox("factures", |mailbox| mailbox.faults.once(Trigger::Command { name: "FETCH", nth: 1 }, moved));
        } else {
            scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").renumber(100));
            scene.deliver("factures", [21]);
        }
        let said = scene.collect();
        said.must_be_ok();
        assert_eq!(said.troubles("factures").len(), usize::from(under_a_session), "{}", said.stderr);
        assert_eq!(scene.serials("factures"), (1..=21).collect::<Vec<_>>(), "under a session: {under_a_session}");
        assert_ne!(scene.cursor("factures")["uidValidity"], before);
        assert_eq!(owed(&scene, "factures"), []);
    }
}

#[test]
fn fault_22_a_uidnext_that_goes_back_reconciles_and_says_nothing() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=20);
    scene.collect().must_be_ok();
    for (reported, serial) in [(Some(11), 21), (Some(1), 22), (None, 23)] {
        scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").reported_uid_next = reported);
        scene.deliver("factures", [serial]);
        let said = scene.collect();
        said.must_be_ok();
        assert_eq!(said.troubles("factures"), [""; 0]);
        assert_eq!(scene.serials("factures"), (1..=serial).collect::<Vec<_>>(), "UIDNEXT {reported:?}");
    }
}

#[test]
fn fault_23_a_revised_message_under_a_new_uid_is_a_message_of_its_own() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=5);
    let revise = |uid: u32, serial: u64| {
        scene.mailbox("factures", |mailbox| assert_eq!(mailbox.folder("INBOX").expunge(|other| other == uid), 1));
        scene.deliver("factures", [serial]);
    };
    // Before it was fetched: once. Afterwards: what lies under the new UID is another item, and a second file.
    revise(2, 2);
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [1, 2, 3, 4, 5]);
    revise(4, 4);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), scene.serials("factures")), ((1, 0, 0), vec![1, 2, 3, 4, 4, 5]));
    assert_eq!(owed(&scene, "factures"), []);
}

#[test]
fn faults_29_and_30_an_idle_that_begins_or_ends_oddly_only_delays_new_mail() {
    let names = ["29-exists-before-plus", "30-ends-unasked", "bye"];
    let scene = Scene::new(&names);
    let idle = Trigger::Command { name: "IDLE", nth: 1 };
    scene.mailbox(names[0], |mailbox| mailbox.faults.once(idle.clone(), Action::Idle(IdleFault::ExistsBeforePlus)));
    scene.mailbox(names[1], |mailbox| mailbox.faults.once(idle.clone(), Action::Idle(IdleFault::EndsUnasked)));
    scene.mailbox(names[2], |mailbox| mailbox.faults.once(idle, Action::Bye("Connection is closed. 13".to_owned())));
    names.iter().for_each(|name| scene.deliver(name, [1]));
    let _running = Running::start(&mut scene.command());
    names.iter().for_each(|name| wait_for_files(&scene, name, 1, MANY));
    wait_for("all faults", MANY, || names.iter().all(|name| scene.mailbox(name, |mailbox| mailbox.faults.is_empty())).then_some(()));
    names.iter().for_each(|name| scene.deliver(name, [2]));
    for name in names {
        wait_for_files(&scene, name, 2, MANY);
        assert_eq!(scene.serials(name), [1, 2], "{name}");
    }
    // The first needed no second session: 29 is a push like any other.
    assert!(scene.simulator.log_ins() <= 5, "{}", scene.simulator.log_ins());
}

#[test]
fn fault_32_a_folder_that_opens_read_only_is_collected_all_the_same() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=3);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(scene.serials("factures"), [1, 2, 3]);
    // Keep needs no right to change anything and asks for none.
    let commands = scene.simulator.commands();
    assert!(commands["EXAMINE"] == 1 && !commands.contains_key("SELECT"), "{commands:?}");
}

#[test]
fn a_token_that_expires_at_any_command_is_replaced_and_nothing_is_lost() {
    // The command that finds it expired; for FETCH that is the second, in the middle of a drain.
    all_at_once(&[("LIST", 1), ("EXAMINE", 1), ("SEARCH", 1), ("FETCH", 2)], |&(name, nth)| {
        let scene = Scene::new(&["factures"]);
        scene.deliver("factures", [1]);
        scene.collect().must_be_ok();
        scene.deliver("factures", 2..=120);
        let (told, heard) = std::sync::mpsc::channel();
        scene.mailbox("factures", |mailbox| {
            let trigger = Trigger::Command { name, nth };
            mailbox.faults.once(trigger.clone(), Action::run(move |_| told.send(()).unwrap()));
            mailbox.faults.once(trigger, Action::Delay(Duration::from_millis(300)));
        });
        let said = std::thread::scope(|scope| {
            let scene = &scene;
            scope.spawn(move || {
                heard.recv_timeout(MANY).unwrap();
                scene.simulator.expire_tokens();
            });
            scene.collect()
        });
        said.must_be_ok();
        assert_eq!(scene.serials("factures"), (1..=120).collect::<Vec<_>>(), "{name}");
        assert_eq!(said.counts("factures"), (119, 0, 0), "{name}");
        let granted = scene.simulator.token_requests().iter().filter(|request| request.status == 200).count();
        assert_eq!((granted, scene.simulator.log_ins()), (3, 3), "{name}: one new token, one new session");
        // A token as young as this one is tried once more before another is asked for. Whatever the answer to that, the set-up is never blamed.
        let troubles = said.troubles("factures");
        let (first, later) = troubles.split_first().unwrap();
        assert!(first.contains("reason=\"ConnectionFailed\""), "{name}: {troubles:?}");
        assert!(later.iter().all(|trouble| trouble.contains("reason=\"RefusedAfterSuccess\"")), "{name}: {troubles:?}");
    });
}
