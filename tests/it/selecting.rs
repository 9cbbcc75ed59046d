//! What is taken and what is not: a beginning, an age, addresses and subjects, a largest size. The built program against the stand-in.

use jiff::{SignedDuration, Timestamp};
use simulator::{Action, CLIENT_SECRET, Message, Trigger};

use crate::scene::{Running, Scene, address, collector, secret, wait_for_files};
use crate::support::wait_for;

use std::time::Duration;

const MANY: Duration = Duration::from_secs(60);

fn scene(more: &str) -> Scene {
    let scene = Scene::new(&["factures"]);
    order(&scene, more);
    scene
}

fn order(scene: &Scene, more: &str) {
    scene.write("mail.yaml", &format!("{}---\n{}", secret(CLIENT_SECRET), collector("factures", more)));
}

fn received(scene: &Scene, serial: u64, ago: SignedDuration) {
    let at = Timestamp::now() - ago;
    scene.put("factures", Message::sized(serial, 3_000).received_at(at.as_second()));
}

fn whole_fetches(scene: &Scene) -> usize {
    scene.simulator.renderings().len()
}

#[test]
fn start_from_now_leaves_what_was_there_before_the_collector_was_first_seen() {
    let scene = scene("startFrom: Now");
    // Enough for a search by day, and some on the days that a search cannot tell.
    (1..=300).for_each(|serial| received(&scene, serial, SignedDuration::from_hours(24 * 30)));
    (301..=310).for_each(|serial| received(&scene, serial, SignedDuration::from_mins(i64::try_from(serial).unwrap())));
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), whole_fetches(&scene)), ((0, 0, 0), 0), "nothing was fetched");
    assert!(scene.simulator.commands()["UID FETCH"] <= 2, "{:?}", scene.simulator.commands());
    assert_eq!(scene.cursor("factures")["decided"], "1:310");

    received(&scene, 311, SignedDuration::ZERO);
    // Moved into the folder afterwards, received before.
    received(&scene, 312, SignedDuration::from_hours(5));
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), scene.serials("factures")), ((1, 0, 0), vec![311]));
    // Also when everything is listed anew.
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").renumber(1_000));
    received(&scene, 313, SignedDuration::ZERO);
    scene.collect().must_be_ok();
    let mut serials = scene.serials("factures");
    serials.dedup();
    assert_eq!(serials, [311, 313]);
}

#[test]
fn a_message_without_a_date_lies_before_no_beginning() {
    let scene = scene("startFrom: Now");
    received(&scene, 1, SignedDuration::from_hours(48));
    received(&scene, 2, SignedDuration::from_hours(48));
    scene.mailbox("factures", |mailbox| {
        let no_date = Action::Fetch { uid: Some(2), what: simulator::FetchFault::InternalDateNil };
        mailbox.faults.once(Trigger::Command { name: "FETCH", nth: 1 }, no_date);
    });
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [2]);
}

#[test]
fn an_age_and_a_time_bound_what_is_taken() {
    for (select, expected) in [
        ("{maxAge: 48h}", vec![3, 4]),
        (&format!("{{receivedAfter: \"{}\"}}", Timestamp::now() - SignedDuration::from_hours(72)), vec![2, 3, 4]),
        ("{maxAge: 24h}", vec![4]),
    ] {
        let scene = scene(&format!("select: {select}"));
        for (serial, hours) in [(1, 100), (2, 60), (3, 30), (4, 1)] {
            received(&scene, serial, SignedDuration::from_hours(hours));
        }
        scene.collect().must_be_ok();
        assert_eq!((scene.serials("factures"), whole_fetches(&scene)), (expected.clone(), expected.len()), "{select}");
        assert_eq!(scene.cursor("factures")["decided"], "1:4", "{select}");
    }
}

#[test]
fn addresses_and_subjects_select_and_only_those_are_fetched() {
    // The stand-in's senders and subjects go by the serial: four and eight of them in turn.
    let scene = scene("select: {from: [\"*@PARTENAIRE.example\", \"clients@*\"], subject: [\"*RÉCLAMATION*\", \"*pièces jointes*\"]}");
    scene.deliver("factures", 1..=400);
    let said = scene.collect();
    said.must_be_ok();
    let serials = scene.serials("factures");
    assert!(!serials.is_empty() && serials.len() < 200, "{}", serials.len());
    assert_eq!(said.counts("factures"), (serials.len() as u64, 0, 0));
    assert_eq!(whole_fetches(&scene), serials.len());
    for rendering in scene.files("factures") {
        let text = String::from_utf8_lossy(&rendering.bytes).into_owned();
        assert!(text.contains("partenaire.example>") || text.contains("boutique.example>"), "{}", rendering.name);
        assert!(text.contains("Réclamation") || text.contains("Pièces jointes"), "{}", rendering.name);
    }
    assert_eq!(scene.cursor("factures")["decided"], "1:400", "the others are passed over for good");
    order(&scene, "");
    let said = scene.collect();
    assert_eq!(said.counts("factures"), (0, 0, 0), "not looked at again");
}

#[test]
fn a_message_larger_than_the_limit_is_quarantined_and_the_others_come() {
    let scene = scene("limits: {maxMessageBytes: 5000}");
    // The stand-in's RFC822.SIZE is off by some percent: only the literal's length counts.
    scene.deliver("factures", 1..=3);
    scene.put("factures", Message::sized(4, 20_000));
    scene.put("factures", Message::raw(vec![b'x'; 5_000]));
    scene.put("factures", Message::raw(vec![b'y'; 5_001]));
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (4, 0, 2), "{}", said.stdout);
    let cursor = scene.cursor("factures");
    let quarantined: Vec<_> =
        cursor["quarantined"].as_array().unwrap().iter().map(|entry| (entry["uid"].as_u64(), entry["reason"].as_str())).collect();
    assert_eq!(quarantined, [(Some(4), Some("TooLarge")), (Some(6), Some("TooLarge"))]);
}

#[test]
fn mail_that_arrives_while_a_backlog_drains_comes_within_a_set() {
    let scene = scene("");
    scene.deliver("factures", 1..=1_200);
    scene.collect().must_be_ok();
    let scene = self::scene("");
    scene.deliver("factures", 1..=1_200);
    // New mail comes with the second FETCH, when most of the backlog is still there.
    scene.mailbox("factures", |mailbox| {
        let arrive = Action::run(|world| drop(world.deliver(&address("factures"), "INBOX", Message::sized(5_000, 3_000))));
        mailbox.faults.once(Trigger::Command { name: "FETCH", nth: 2 }, arrive);
    });
    scene.collect().must_be_ok();
    let order: Vec<u64> = scene.simulator.renderings().iter().filter_map(|rendering| rendering.serial).collect();
    let place = order.iter().position(|serial| *serial == 5_000).unwrap();
    assert!(place <= 50 + 100 + 200, "place {place} of {}", order.len());
    assert_eq!(order.len(), 1_201);
}

#[test]
fn a_schedule_looks_once_at_the_start_and_then_waits_for_its_time() {
    let scene = scene("schedule: \"0 0 1 1 *\"\ntimeZone: Europe/Paris");
    scene.deliver("factures", 1..=2);
    let output = scene.path("log");
    let log = std::fs::File::create(&output).unwrap();
    let mut command = scene.command();
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(log);
    let _running = Running(command.spawn().unwrap());
    wait_for_files(&scene, "factures", 2, MANY);
    wait_for("the session's end", MANY, || (scene.simulator.connections_open() == 0).then_some(()));
    scene.deliver("factures", [3]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((scene.serials("factures"), scene.simulator.log_ins()), (vec![1, 2], 1), "no push, no look before its time");
    let said = std::fs::read_to_string(&output).unwrap();
    assert!(said.contains("next_look") && said.contains("-12-31T23:00:00Z"), "{said}");
}
