//! What becomes of delivered mail in the mailbox: moved, marked or deleted once it is recorded, never before, never something else; and what a
//! server or another client can do meanwhile. The built program against the stand-in.

use std::time::Duration;

use simulator::{Action, FetchFault, Message, Trigger};

use crate::scene::{Running, Said, Scene, address, collector, secret, wait_for_files};
use crate::support::wait_for;

const MANY: Duration = Duration::from_secs(40);
const ARCHIVE: &str = "Factures/Traité";
const MOVE: &str = "afterDelivery: {action: Move, folder: Factures/Traité}";
const DELETE: &str = "afterDelivery: {action: Delete}";
const SEEN: &str = "afterDelivery: {action: MarkSeen}";

/// A scene whose collectors have these lines in their spec; the archive is there.
fn scene(rows: &[(&str, &str)]) -> Scene {
    let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
    let scene = Scene::new(&names);
    orders(&scene, rows);
    names.iter().for_each(|name| scene.mailbox(name, |mailbox| drop(mailbox.folder(ARCHIVE).uids())));
    scene
}

fn orders(scene: &Scene, rows: &[(&str, &str)]) {
    let documents: Vec<String> = rows.iter().map(|(name, more)| collector(name, more)).collect();
    scene.write("mail.yaml", &format!("{}---\n{}", secret(simulator::CLIENT_SECRET), documents.join("---\n")));
}

/// Serials in a folder, sorted.
fn lying_in(scene: &Scene, name: &str, folder: &str) -> Vec<u64> {
    let mut serials: Vec<u64> = scene.mailbox(name, |mailbox| mailbox.folder(folder).serials().into_iter().flatten().collect());
    serials.sort_unstable();
    serials
}

fn unread(scene: &Scene, name: &str) -> Vec<u32> {
    scene.mailbox(name, |mailbox| mailbox.folder("INBOX").uids().into_iter().filter(|uid| !mailbox.folder("INBOX").is_seen(*uid)).collect())
}

fn on(name: &'static str) -> Trigger {
    Trigger::Command { name, nth: 1 }
}

/// Everything of `name` is delivered once, settled, and forgotten by the cursor.
#[track_caller]
fn is_settled(scene: &Scene, said: &Said, name: &str, serials: &[u64]) {
    assert_eq!(scene.serials(name), serials, "{name}: {} {}", said.of(name), said.stderr);
    assert!(scene.cursor(name)["unsettled"].is_null(), "{name}: {}", scene.cursor(name));
    let (inbox, archive) = (lying_in(scene, name, "INBOX"), lying_in(scene, name, ARCHIVE));
    match name.split('-').next().unwrap() {
        "move" => assert_eq!((inbox, archive), (vec![], serials.to_vec()), "{name}"),
        "delete" => assert_eq!((inbox, archive), (vec![], vec![]), "{name}"),
        "seen" => assert_eq!((inbox, unread(scene, name)), (serials.to_vec(), vec![]), "{name}"),
        _ => assert_eq!((inbox, unread(scene, name).len()), (serials.to_vec(), serials.len()), "{name}"),
    }
}

#[test]
fn delivered_mail_is_moved_marked_deleted_or_kept_as_the_spec_says_and_nothing_else_is_touched() {
    let rows = [("move", MOVE), ("delete", DELETE), ("seen", SEEN), ("keep", "afterDelivery: {action: Keep}")];
    let scene = scene(&rows);
    for (name, _) in rows {
        scene.deliver(name, 1..=60);
        scene.put(name, Message::sized(61, 400_000));
    }
    // What somebody else has marked as deleted is somebody else's.
    scene.mailbox("delete", |mailbox| mailbox.folder("Brouillons").append(Message::office(900)));
    let said = scene.collect();
    said.must_be_ok();
    let all: Vec<u64> = (1..=61).collect();
    rows.iter().for_each(|(name, _)| is_settled(&scene, &said, name, &all));
    let commands = scene.simulator.commands();
    assert_eq!(["EXPUNGE", "CLOSE", "STORE", "MOVE", "COPY"].map(|name| commands.get(name).copied().unwrap_or_default()), [0; 5]);
    assert_eq!(["UID MOVE", "UID EXPUNGE", "UID STORE"].map(|name| commands[name]), [1, 1, 2]);
    assert_eq!((commands["EXAMINE"], commands["SELECT"], commands["CAPABILITY"]), (1, 3, 2), "only who settles opens for writing");

    let renderings = scene.simulator.renderings().len();
    rows.iter().for_each(|(name, _)| scene.deliver(name, [62]));
    let said = scene.collect();
    said.must_be_ok();
    let all: Vec<u64> = (1..=62).collect();
    rows.iter().for_each(|(name, _)| is_settled(&scene, &said, name, &all));
    assert_eq!(scene.simulator.renderings().len() - renderings, rows.len());
}

#[test]
fn only_mail_delivered_under_an_action_is_settled_by_it_and_keep_forgets_what_was_left() {
    let scene = scene(&[("delete", "")]);
    scene.deliver("delete", 1..=5);
    scene.collect().must_be_ok();
    orders(&scene, &[("delete", DELETE)]);
    scene.deliver("delete", 6..=8);
    scene.collect().must_be_ok();
    assert_eq!(lying_in(&scene, "delete", "INBOX"), [1, 2, 3, 4, 5]);

    // A server that does not do what it says, then a person who changes his mind.
    scene.mailbox("delete", |mailbox| mailbox.faults.times(u32::MAX, on("EXPUNGE"), Action::Replace(b"{tag} OK done\r\n"[..].into())));
    scene.deliver("delete", 9..=10);
    scene.collect().must_be_ok();
    assert_eq!(scene.cursor("delete")["unsettled"], "9:10");
    scene.mailbox("delete", |mailbox| mailbox.faults.clear());
    orders(&scene, &[("delete", "")]);
    scene.deliver("delete", [11]);
    scene.collect().must_be_ok();
    assert!(scene.cursor("delete")["unsettled"].is_null());
    orders(&scene, &[("delete", DELETE)]);
    scene.collect().must_be_ok();
    assert_eq!(lying_in(&scene, "delete", "INBOX"), [1, 2, 3, 4, 5, 9, 10, 11]);
    assert_eq!(scene.serials("delete"), (1..=11).collect::<Vec<_>>());
}

/// Faults 24, 25, 26 and others between a MOVE and its answer: (name, line of spec, what goes wrong, whether the first run is in order).
#[test]
fn whatever_goes_wrong_while_settling_nothing_is_lost_nothing_comes_twice_and_it_is_settled_in_the_end() {
    fn moved_in(name: &'static str, uids: std::ops::RangeInclusive<u32>) -> Action {
        Action::run(move |world| {
            world.mailbox(&address(name)).unwrap().move_messages("INBOX", ARCHIVE, |uid| uids.contains(&uid));
        })
    }
    let ok = || Action::Replace(b"{tag} OK done\r\n"[..].into());
    let throttled = || Action::Throttle { milliseconds: 1_000, bad: false, bye: false };
    type Row = (&'static str, &'static str, &'static str, Vec<Action>, bool);
    let rows: Vec<Row> = vec![
        ("move-24-ok-nothing-moved", MOVE, "MOVE", vec![ok()], true),
        ("move-25-partial-no", MOVE, "MOVE", vec![moved_in("move-25-partial-no", 1..=4), Action::No("Server Busy. 20".into())], true),
        ("move-26-cut-before-reply", MOVE, "MOVE", vec![moved_in("move-26-cut-before-reply", 1..=12), Action::Close], true),
        ("move-cut-before-command", MOVE, "MOVE", vec![Action::Close], true),
        ("move-partial-ok", MOVE, "MOVE", vec![moved_in("move-partial-ok", 2..=3), ok()], true),
        ("move-throttled", MOVE, "MOVE", vec![throttled()], true),
        ("move-bad", MOVE, "MOVE", vec![Action::Bad("Command Error. 12".into())], true),
        ("move-gone", MOVE, "MOVE", vec![Action::No("[EXPUNGEISSUED] Some of the requested messages no longer exist.".into())], true),
        ("move-listing-cut", MOVE, "CAPABILITY", vec![Action::Bye("Connection is closed. 13".into())], true),
        ("delete-store-cut", DELETE, "STORE", vec![Action::Close], true),
        ("delete-store-ok", DELETE, "STORE", vec![ok()], true),
        ("delete-expunge-cut", DELETE, "EXPUNGE", vec![Action::Close], true),
        ("delete-throttled", DELETE, "EXPUNGE", vec![throttled()], true),
        ("seen-store-cut", SEEN, "STORE", vec![Action::Close], true),
        ("seen-store-ok", SEEN, "STORE", vec![ok()], true),
        ("seen-expired", SEEN, "STORE", vec![Action::Bye("Session invalidated - AccessTokenExpired".into())], true),
    ];
    let specs: Vec<(&str, &str)> = rows.iter().map(|(name, spec, ..)| (*name, *spec)).collect();
    let scene = scene(&specs);
    for (name, _, command, actions, _) in &rows {
        scene.deliver(name, 1..=12);
        scene.mailbox(name, |mailbox| actions.iter().for_each(|action| mailbox.faults.once(on(command), action.clone())));
    }
    let first = scene.collect();
    for (name, ..) in &rows {
        scene.mailbox(name, |mailbox| assert!(mailbox.faults.is_empty(), "{name}: never struck"));
        assert_eq!((first.of(name)["ok"].as_bool(), first.counts(name)), (Some(true), (12, 0, 0)), "{name}: {}", first.of(name));
        assert_eq!(scene.serials(name), (1..=12).collect::<Vec<_>>(), "{name}");
    }
    let renderings = scene.simulator.renderings().len();
    let second = scene.collect();
    second.must_be_ok();
    rows.iter().for_each(|(name, ..)| is_settled(&scene, &second, name, &(1..=12).collect::<Vec<_>>()));
    assert_eq!(scene.simulator.renderings().len(), renderings, "settling fetches nothing");
}

#[test]
fn a_missing_archive_a_read_only_folder_and_a_server_without_uidplus_are_told_and_mail_is_delivered_all_the_same() {
    let rows = [("move", MOVE), ("delete-ro", DELETE), ("delete-old", DELETE)];
    let scene = scene(&rows);
    scene.mailbox("move", |mailbox| mailbox.remove_folder(ARCHIVE));
    scene.mailbox("delete-ro", |mailbox| mailbox.read_only = true);
    let bare = Action::Replace(b"* CAPABILITY IMAP4rev1 IDLE\r\n{tag} OK CAPABILITY completed.\r\n"[..].into());
    scene.mailbox("delete-old", |mailbox| mailbox.faults.times(u32::MAX, on("CAPABILITY"), bare));
    rows.iter().for_each(|(name, _)| scene.deliver(name, 1..=5));
    let said = scene.collect();
    let expected = [
        ("move", "FolderNotFound", "has no folder 'Factures/Traité', into which spec.afterDelivery moves mail. Make the folder"),
        ("delete-ro", "FolderReadOnly", "Add-MailboxPermission"),
        ("delete-old", "SettlingNotSupported", "does not offer UIDPLUS"),
    ];
    for (name, reason, words) in expected {
        assert_eq!(said.reason(name), reason, "{name}");
        assert!(said.of(name)["message"].as_str().unwrap().contains(words), "{}", said.of(name));
        assert_eq!((scene.serials(name), lying_in(&scene, name, "INBOX")), ((1..=5).collect(), (1..=5).collect()), "{name}");
        assert_eq!(scene.cursor(name)["unsettled"], "1:5", "{name}");
    }
    // Once it is mended, what waited is settled; nothing is fetched again.
    let renderings = scene.simulator.renderings().len();
    scene.mailbox("move", |mailbox| drop(mailbox.folder(ARCHIVE).uids()));
    scene.mailbox("delete-ro", |mailbox| mailbox.read_only = false);
    scene.mailbox("delete-old", |mailbox| mailbox.faults.clear());
    let said = scene.collect();
    said.must_be_ok();
    rows.iter().for_each(|(name, _)| is_settled(&scene, &said, name, &[1, 2, 3, 4, 5]));
    assert_eq!(scene.simulator.renderings().len(), renderings);
}

#[test]
fn what_is_owed_or_quarantined_is_never_touched() {
    let scene = scene(&[("delete", DELETE)]);
    scene.deliver("delete", 1..=4);
    scene.put("delete", Message::sized(5, 160_000_000));
    scene.mailbox("delete", |mailbox| mailbox.folder("INBOX").poison(2, Some(FetchFault::Substitute)));
    assert_eq!(scene.collect().counts("delete"), (3, 1, 1));
    assert_eq!(lying_in(&scene, "delete", "INBOX"), [2, 5]);
    for _ in 0..4 {
        scene.let_time_pass("delete");
        scene.collect().must_be_ok();
    }
    assert_eq!(scene.collect().counts("delete"), (0, 0, 2));
    assert_eq!(lying_in(&scene, "delete", "INBOX"), [2, 5]);
}

#[test]
fn after_a_renumbering_what_was_left_unsettled_is_recognised_and_settled_then() {
    let scene = scene(&[("delete", DELETE)]);
    scene.mailbox("delete", |mailbox| {
        mailbox.stable_rendering = true;
        mailbox.faults.times(u32::MAX, on("EXPUNGE"), Action::Replace(b"{tag} OK done\r\n"[..].into()));
    });
    scene.deliver("delete", 1..=20);
    scene.collect().must_be_ok();
    assert_eq!(scene.cursor("delete")["unsettled"], "1:20");
    scene.mailbox("delete", |mailbox| {
        mailbox.faults.clear();
        mailbox.folder("INBOX").renumber(500);
    });
    let said = scene.collect();
    said.must_be_ok();
    is_settled(&scene, &said, "delete", &(1..=20).collect::<Vec<_>>());
}

#[test]
fn new_mail_that_is_pushed_is_delivered_and_settled_at_once() {
    let scene = scene(&[("move", MOVE)]);
    scene.deliver("move", 1..=3);
    let _running = Running::start(&mut scene.command());
    for serial in 4..=8 {
        wait_for("what is there is moved", MANY, || (lying_in(&scene, "move", ARCHIVE).len() as u64 == serial - 1).then_some(()));
        scene.deliver("move", [serial]);
        wait_for_files(&scene, "move", serial as usize, MANY);
    }
    wait_for("all moved", MANY, || (lying_in(&scene, "move", ARCHIVE) == (1..=8).collect::<Vec<_>>()).then_some(()));
    assert_eq!(lying_in(&scene, "move", "INBOX"), Vec::<u64>::new());
}

/// A message after which the process is killed, each time.
#[test]
fn a_message_that_ends_the_process_is_quarantined_after_three_attempts_and_all_others_are_delivered() {
    let scene = scene(&[("keep", "")]);
    scene.deliver("keep", 1..=40);
    scene.mailbox("keep", |mailbox| mailbox.folder("INBOX").poison(17, Some(FetchFault::HugeLiteral(100_000_000))));
    let (mut deaths, mut runs) = (0, 0);
    let others: Vec<u64> = (1..=40).filter(|serial| *serial != 17).collect();
    loop {
        runs += 1;
        assert!(runs < 20, "{}", scene.cursor("keep"));
        let stalls = scene.simulator.stalls();
        let mut child = Running::start(scene.command().arg("--once"));
        let ended = wait_for("an end, or the message that ends it", MANY, || {
            if scene.simulator.stalls() > stalls {
                child.0.kill().unwrap();
                return Some(None);
            }
            child.0.try_wait().unwrap().map(Some)
        });
        let Some(status) = ended else {
            deaths += 1;
            continue;
        };
        assert!(status.success(), "{}", scene.cursor("keep"));
        if !scene.cursor("keep")["quarantined"].is_null() {
            break;
        }
        assert_eq!(scene.serials("keep"), others, "no other message waits for it");
        scene.let_time_pass("keep");
    }
    let given_up = &scene.cursor("keep")["quarantined"][0];
    assert_eq!(
        (given_up["uid"].as_u64(), given_up["reason"].as_str(), given_up["attempts"].as_u64()),
        (Some(17), Some("ProcessEnded"), Some(3))
    );
    assert_eq!(scene.serials("keep"), others);
    assert!(deaths <= 10, "{deaths} ends of the process");
}
