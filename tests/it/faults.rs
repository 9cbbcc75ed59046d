//! What a server can do wrong while mail is collected, besides the numbered list in `wire_faults`: nothing may be lost, nothing come twice, what was
//! not received is owed and comes later, and no other message waits for it. Each row of a table is a mailbox of its own; one run meets them all.

use std::time::Duration;

use simulator::{Action, FetchFault, IdleFault, Message, Trigger};

use crate::scene::{Running, Scene, address, all_at_once, wait_for_files};
use crate::support::wait_for;

const MANY: Duration = Duration::from_secs(40);
/// Messages in each mailbox; the third of them is the one that a message's fault strikes.
const MESSAGES: u64 = 12;
const STRUCK: u32 = 3;

#[test]
fn long_messages_are_as_safe_as_short_ones() {
    let rows = [
        ("skip", FetchFault::Skip, true),
        ("twice", FetchFault::Twice, false),
        ("uid-after-body", FetchFault::UidAfterBody, false),
        ("other-uid", FetchFault::OtherUid(999), true),
        ("end-mid-body", FetchFault::EndMidBody, false),
        ("too-short", FetchFault::WrongLength(-10), false),
        ("too-long", FetchFault::WrongLength(10), false),
    ];
    let names: Vec<&str> = rows.iter().map(|(name, ..)| *name).collect();
    let scene = Scene::new(&names);
    for (name, fault, _) in &rows {
        (1..=4).for_each(|serial| assert!(scene.put(name, Message::sized(serial, 400_000)) > 0));
        scene.mailbox(name, |mailbox| {
            let faults = &mut mailbox.faults;
            faults.once(Trigger::Command { name: "FETCH", nth: 1 }, Action::Fetch { uid: Some(STRUCK), what: fault.clone() });
            faults.once(Trigger::Command { name: "FETCH", nth: 1 }, Action::SplitLiterals(1_000));
        });
    }
    let first = scene.collect();
    for (name, _, owed) in &rows {
        let expected = if *owed { vec![1, 2, 4] } else { vec![1, 2, 3, 4] };
        assert_eq!(scene.serials(name), expected, "{name}: {} {}", first.of(name), first.stderr);
    }
    names.iter().for_each(|name| scene.let_time_pass(name));
    scene.collect().must_be_ok();
    names.iter().for_each(|name| assert_eq!(scene.serials(name), [1, 2, 3, 4], "{name}"));
}

#[test]
fn whatever_command_is_refused_or_cut_off_the_next_session_collects_everything() {
    let actions: [(&str, Action); 9] = [
        ("no", Action::No("Server Busy. 20".to_owned())),
        ("bad", Action::Bad("Command Error. 12".to_owned())),
        ("bye", Action::Bye("Connection is closed. 13".to_owned())),
        ("close", Action::Close),
        ("unavailable", Action::server_unavailable()),
        ("throttled-no", Action::Throttle { milliseconds: 1_000, bad: false, bye: false }),
        ("throttled-bad", Action::Throttle { milliseconds: 1_000, bad: true, bye: true }),
        ("expired", Action::Bye("Session invalidated - AccessTokenExpired".to_owned())),
        ("garbage", Action::ReplaceAndClose(b"* FETCH FETCH ((((\r\n{tag} MAYBE so\r\n\xff\xfe\r\n"[..].into())),
    ];
    let mut rows = Vec::new();
    for command in ["AUTHENTICATE", "LIST", "EXAMINE", "SEARCH", "FETCH"] {
        for (name, action) in &actions {
            // A refused log-in means a missed step (`collect` has those); a NO is its usual word.
            if (command, *name) != ("AUTHENTICATE", "no") {
                rows.push((format!("{}-{name}", command.to_lowercase()), command, action.clone()));
            }
        }
    }
    let names: Vec<&str> = rows.iter().map(|(name, ..)| name.as_str()).collect();
    let scene = Scene::new(&names);
    for (name, command, action) in &rows {
        // A single message: what a server says of itself must not be held against it.
        scene.deliver(name, 1..=if name.contains("throttled") { 1 } else { 3 });
        scene.mailbox(name, |mailbox| mailbox.faults.once(Trigger::Command { name: command, nth: 1 }, action.clone()));
    }
    let said = scene.collect();
    let mut wrong = Vec::new();
    for (name, ..) in &rows {
        scene.mailbox(name, |mailbox| assert!(mailbox.faults.is_empty(), "{name}: never struck"));
        let expected: Vec<u64> = (1..=if name.contains("throttled") { 1 } else { 3 }).collect();
        let serials = scene.serials(name);
        if said.of(name)["ok"] != true || said.counts(name) != (expected.len() as u64, 0, 0) || serials != expected {
            wrong.push(format!("{name}: {} {serials:?}", said.of(name)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_server_that_greets_badly_or_not_at_all_is_tried_again() {
    let rows = [
        ("CONNECT", Action::Close),
        ("GREETING", Action::Bye("Connection is closed. 13".to_owned())),
        ("GREETING", Action::server_unavailable()),
        ("GREETING", Action::Replace(b"220 smtp.example ESMTP\r\n"[..].into())),
    ];
    all_at_once(&rows, |(name, action)| {
        let scene = Scene::new(&["factures"]);
        scene.deliver("factures", 1..=3);
        scene.simulator.world().exchange.faults.once(Trigger::Command { name, nth: 1 }, action.clone());
        scene.collect().must_be_ok();
        assert!(scene.simulator.world().exchange.faults.is_empty(), "{name}: never struck");
        assert_eq!(scene.serials("factures"), [1, 2, 3], "{name}");
    });
}

#[test]
fn the_connection_may_end_at_any_byte() {
    let lengths: Vec<u64> = (0..40).map(|row| 40 + row * row * 23).collect();
    let names: Vec<String> = lengths.iter().map(|length| format!("at-{length}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scene = Scene::new(&names);
    for (name, length) in names.iter().zip(&lengths) {
        scene.deliver(name, 1..=MESSAGES);
        scene.mailbox(name, |mailbox| mailbox.faults.once(Trigger::AfterBytes(*length), Action::Close));
    }
    let said = scene.collect();
    said.must_be_ok();
    for name in &names {
        assert_eq!(scene.serials(name), (1..=MESSAGES).collect::<Vec<_>>(), "{name}");
        assert_eq!(said.counts(name), (MESSAGES, 0, 0), "{name}");
        scene.mailbox(name, |mailbox| assert!(mailbox.faults.is_empty(), "{name}: never struck"));
    }
}

#[test]
fn a_message_that_ends_every_session_is_found_out_and_quarantined_and_no_other_waits_for_it() {
    const ROWS: [(&str, u64); 3] = [("first", 1), ("middle", 4), ("last", 8)];
    let scene = Scene::new(&["first", "middle", "last"]);
    for (name, poison) in ROWS {
        scene.deliver(name, 1..=8);
        scene.mailbox(name, |mailbox| mailbox.folder("INBOX").poison(poison as u32, Some(FetchFault::EndsConnection)));
    }
    let mut said = scene.collect();
    for (name, poison) in ROWS {
        let others: Vec<u64> = (1..=8).filter(|serial| *serial != poison).collect();
        assert_eq!(scene.serials(name), others, "{name}: {} {}", said.of(name), said.stderr);
        assert_eq!(said.counts(name), (7, 1, 0), "{name}");
    }
    // Each time that it is tried alone it ends the session; the third time it is given up.
    for _ in 0..2 {
        ROWS.iter().for_each(|(name, _)| scene.let_time_pass(name));
        said = scene.collect();
    }
    said.must_be_ok();
    for (name, _) in ROWS {
        assert_eq!(said.counts(name), (0, 0, 1), "{name}");
        assert_eq!(scene.cursor(name)["quarantined"][0]["reason"], "SessionFailed", "{name}");
    }
}

#[test]
fn what_is_never_received_is_quarantined_after_five_tries_and_one_too_large_at_once() {
    let scene = Scene::new(&["poison"]);
    scene.deliver("poison", 1..=3);
    scene.put("poison", Message::sized(4, 160_000_000));
    scene.mailbox("poison", |mailbox| mailbox.folder("INBOX").poison(2, Some(FetchFault::Substitute)));
    let mut said = scene.collect();
    assert_eq!(said.counts("poison"), (2, 1, 1));
    for _ in 0..4 {
        scene.let_time_pass("poison");
        said = scene.collect();
        said.must_be_ok();
    }
    assert_eq!(said.counts("poison"), (0, 0, 2));
    let cursor = scene.cursor("poison");
    let given_up: Vec<_> =
        cursor["quarantined"].as_array().unwrap().iter().map(|entry| (&entry["uid"], &entry["reason"], &entry["attempts"])).collect();
    assert_eq!(format!("{given_up:?}"), r#"[(Number(4), String("TooLarge"), Number(1)), (Number(2), String("Substitute"), Number(5))]"#);
    assert_eq!(scene.serials("poison"), [1, 3]);
    // Untouched on the server, and not fetched again.
    let renderings = scene.simulator.renderings().len();
    assert_eq!(scene.collect().counts("poison"), (0, 0, 2));
    assert_eq!(scene.simulator.renderings().len(), renderings);
    scene.mailbox("poison", |mailbox| assert_eq!(mailbox.folder("INBOX").uids(), [1, 2, 3, 4]));
}

#[test]
fn a_message_removed_between_listing_and_fetching_is_owed_until_a_listing_lacks_it() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=5);
    scene.mailbox("factures", |mailbox| {
        let remove = Action::run(|world| {
            world.mailbox(&address("factures")).unwrap().folder("INBOX").expunge(|uid| uid == 4);
        });
        mailbox.faults.once(Trigger::Command { name: "FETCH", nth: 1 }, remove);
    });
    assert_eq!(scene.collect().counts("factures"), (4, 1, 0));
    scene.let_time_pass("factures");
    assert_eq!(scene.collect().counts("factures"), (0, 0, 0));
    assert_eq!(scene.serials("factures"), [1, 2, 3, 5]);
    assert_eq!(scene.cursor("factures")["decided"], "1:5");
}

#[test]
fn a_renumbering_under_an_open_session_loses_nothing() {
    let scene = Scene::new(&["factures"]);
    scene.mailbox("factures", |mailbox| mailbox.stable_rendering = true);
    scene.deliver("factures", 1..=120);
    scene.mailbox("factures", |mailbox| {
        let moved = Action::run(|world| world.mailbox(&address("factures")).unwrap().folder("INBOX").renumber(7));
        mailbox.faults.once(Trigger::Command { name: "FETCH", nth: 2 }, moved);
    });
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), (1..=120).collect::<Vec<_>>());
}

#[test]
fn a_uidnext_that_goes_back_loses_nothing_and_doubles_nothing() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=20);
    scene.collect().must_be_ok();
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").reported_uid_next = Some(11));
    scene.deliver("factures", 21..=22);
    scene.collect().must_be_ok();
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").reported_uid_next = None);
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), (1..=22).collect::<Vec<_>>());
}

#[test]
fn an_idle_that_goes_wrong_and_a_token_that_is_revoked_only_delay_new_mail() {
    let names = ["exists-early", "ends-unasked", "bye", "revoked"];
    let scene = Scene::new(&names);
    let idle = |nth| Trigger::Command { name: "IDLE", nth };
    scene.mailbox("exists-early", |mailbox| mailbox.faults.once(idle(1), Action::Idle(IdleFault::ExistsBeforePlus)));
    scene.mailbox("ends-unasked", |mailbox| mailbox.faults.once(idle(1), Action::Idle(IdleFault::EndsUnasked)));
    scene.mailbox("bye", |mailbox| mailbox.faults.once(idle(1), Action::Bye("Session invalidated - AccessTokenExpired".to_owned())));
    names.iter().for_each(|name| scene.deliver(name, [1]));
    let _running = Running::start(&mut scene.command());
    names.iter().for_each(|name| wait_for_files(&scene, name, 1, MANY));
    wait_for("all idle", MANY, || (scene.simulator.commands().get("IDLE").copied().unwrap_or_default() >= 4).then_some(()));
    // The token is told to be expired only when an IDLE ends.
    scene.simulator.expire_tokens();
    names.iter().for_each(|name| scene.deliver(name, [2]));
    for name in names {
        wait_for_files(&scene, name, 2, MANY);
        assert_eq!(scene.serials(name), [1, 2], "{name}");
    }
}

#[test]
fn entra_may_be_busy_or_broken_for_a_while() {
    use simulator::TokenFault;
    let rows = [
        TokenFault::TooManyRequests { retry_after: Some(1) },
        TokenFault::TruncatedBody,
        TokenFault::Close,
        TokenFault::OpaqueToken,
        TokenFault::LongToken(20_000),
    ];
    all_at_once(&rows, |fault| {
        let scene = Scene::new(&["factures"]);
        scene.deliver("factures", 1..=2);
        scene.simulator.world().entra.faults.push_back(fault.clone());
        scene.collect().must_be_ok();
        assert_eq!(scene.serials("factures"), [1, 2]);
    });
}
