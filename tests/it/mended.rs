//! Faults that were once found by reading and mended: each test plays the situation in which the fault showed. What belongs to a larger subject
//! stands there (`collect`, `faults`, `secrets`); here is what would otherwise be nobody's.

use std::fs::File;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use simulator::{Action, CLIENT_SECRET, Message, Options, Simulator, Step, Trigger, World};

use crate::scene::{Running, Scene, address, all_at_once, collector, file_names, run, secret, wait_for_files};
use crate::support::{Servers, cluster, namespace, operator, wait_for};

const MANY: Duration = Duration::from_secs(60);

#[test]
fn the_state_of_one_mailbox_is_not_applied_to_another_under_the_same_name() {
    let scene = Scene::new(&["first", "second"]);
    // The same numbering, as two mailboxes created together may have.
    for name in ["first", "second"] {
        scene.mailbox(name, |mailbox| mailbox.folder("INBOX").uid_validity = 14);
    }
    scene.deliver("first", 1..=5);
    scene.deliver("second", 11..=17);
    let of = |name: &str| collector("post", "").replace("post@", &format!("{name}@"));
    scene.write("mail.yaml", &format!("{}---\n{}", secret(CLIENT_SECRET), of("first")));
    scene.collect().must_be_ok();
    let (before, state) = (scene.files("post"), std::fs::read(scene.path("state/office.post.json")).unwrap());
    assert_eq!(before.len(), 5);

    scene.write("mail.yaml", &format!("{}---\n{}", secret(CLIENT_SECRET), of("second")));
    let said = scene.collect();
    assert_eq!((said.status.code(), said.of("post")["ok"].as_bool()), (Some(1), Some(false)), "{}", said.stdout);
    let message = said.of("post")["message"].as_str().unwrap_or_default();
    assert!(message.contains("state of another mailbox"), "{message}");
    assert!(scene.files("post") == before, "nothing was collected beside the record");
    assert!(std::fs::read(scene.path("state/office.post.json")).unwrap() == state, "what is remembered of the first mailbox stays");

    // Under a name of its own the second mailbox comes whole, and the first goes on where it was.
    scene.deliver("first", [6]);
    let both = [of("first"), of("second").replace("{name: post,", "{name: other,").replace("path: post", "path: other")];
    scene.write("mail.yaml", &format!("{}---\n{}", secret(CLIENT_SECRET), both.join("---\n")));
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((said.counts("post"), said.counts("other")), ((1, 0, 0), (7, 0, 0)));
    assert_eq!((scene.files("post").len(), scene.files("other").len()), (6, 7));
}

#[test]
fn two_mailboxes_that_share_a_folder_both_deliver_the_same_bytes() {
    // One run in which the second mailbox is opened when the first is done, or a second run with one more collector.
    all_at_once(&[true, false], |one_run| {
        let scene = Scene::new(&["first", "second"]);
        for name in ["first", "second"] {
            scene.mailbox(name, |mailbox| mailbox.stable_rendering = true);
            scene.deliver(name, 1..=10);
        }
        scene.mailbox("second", |mailbox| {
            mailbox.faults.once(Trigger::Command { name: "EXAMINE", nth: 1 }, Action::Delay(Duration::from_secs(2)));
        });
        let shared = |name: &str| collector(name, "").replace(&format!("path: {name}"), "path: shared");
        let both = format!("{}---\n{}---\n{}", secret(CLIENT_SECRET), shared("first"), shared("second"));
        if !one_run {
            scene.write("mail.yaml", &format!("{}---\n{}", secret(CLIENT_SECRET), shared("first")));
            scene.collect().must_be_ok();
        }
        scene.write("mail.yaml", &both);
        let said = scene.collect();
        said.must_be_ok();
        assert_eq!((said.counts("second"), scene.files("shared").len()), ((10, 0, 0), 20), "one run: {one_run}");
        // Who is who is still known without the record.
        std::fs::remove_dir_all(scene.path("state")).unwrap();
        scene.collect().must_be_ok();
        assert_eq!(scene.files("shared").len(), 20, "one run: {one_run}");
    });
}

#[test]
fn looks_at_an_empty_folder_cost_no_cursor_write_however_many_messages_it_once_held() {
    let scene = Scene::new(&["new", "emptied"]);
    scene.mailbox("emptied", |mailbox| mailbox.folder("INBOX").uid_next = 50_000);
    for look in 1..=4 {
        let before = scene.simulator.commands().get("UID SEARCH").copied().unwrap_or_default();
        scene.collect().must_be_ok();
        // The one write is that the mailbox worked.
        assert_eq!((version(&scene, "new"), version(&scene, "emptied")), (1, 1), "look {look}");
        let searches = scene.simulator.commands()["UID SEARCH"] - before;
        assert!(searches <= 2 * 3, "{searches} searches in two sessions, look {look}");
    }
    scene.deliver("emptied", [1]);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("emptied"), (1, 0, 0));
}

#[test]
fn looks_at_young_gaps_cost_no_cursor_write_and_few_searches() {
    let scene = Scene::new(&["gaps"]);
    scene.deliver("gaps", 1..=200);
    // One by one: twenty gaps, all of them among the newest UIDs.
    scene.mailbox("gaps", |mailbox| assert_eq!(mailbox.folder("INBOX").expunge(|uid| uid % 10 == 5), 20));
    let searches = || scene.simulator.commands().get("UID SEARCH").copied().unwrap_or_default();
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("gaps"), (180, 0, 0));
    let (settled, mut before) = (version(&scene, "gaps"), searches());
    for look in 2..=4 {
        scene.collect().must_be_ok();
        let spent = searches() - before;
        assert!(spent <= 3, "{spent} searches, look {look}");
        assert_eq!(version(&scene, "gaps"), settled, "look {look}");
        before = searches();
    }
    scene.deliver("gaps", [201]);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("gaps"), (1, 0, 0));
}

#[test]
fn without_push_a_look_that_brought_mail_is_recorded_and_followed_by_the_interval() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=5);
    scene.write("mail.yaml", &format!("{}---\n{}", secret(CLIENT_SECRET), collector("factures", "push: false\ninterval: 1m")));
    let _running = Running::start(&mut scene.command());
    wait_for_files(&scene, "factures", 5, MANY);
    wait_for("the end of the session", MANY, || (scene.simulator.connections_open() == 0).then_some(()));
    // Whatever is to happen at once happens in this time; the next look is due after half a minute at the earliest.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!((scene.simulator.connections(), scene.simulator.log_ins()), (1, 1), "{:?} before the end", until - Instant::now());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(scene.cursor("factures")["decided"], "1:5");
}

#[test]
fn an_interrupted_run_is_in_order_only_where_the_mailbox_was() {
    // The token never comes.
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=3);
    scene.simulator.world().miss(Step::Secret);
    let mut running = start(&scene, &mut scene.command());
    wait_for("the refusal", MANY, || scene_text(&scene, "stderr").contains("not collecting").then_some(()));
    signal(&running, Signal::INT);
    let (status, outcome) = ended(&scene, &mut running);
    assert_eq!((status.code(), outcome["ok"].as_bool()), (Some(1), Some(false)), "{outcome}");
    assert_eq!(scene.simulator.log_ins(), 0);

    // It worked, and is idle: nothing is amiss.
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=3);
    let mut running = start(&scene, &mut scene.command());
    wait_for("IDLE", MANY, || scene.simulator.commands().get("IDLE").copied());
    signal(&running, Signal::INT);
    let (status, outcome) = ended(&scene, &mut running);
    assert_eq!((status.code(), outcome["ok"].as_bool(), outcome["collected"].as_u64()), (Some(0), Some(true), Some(3)), "{outcome}");
}

#[test]
fn an_interrupted_once_in_mid_drain_is_not_in_order_and_what_it_delivered_is_recorded() {
    let scene = Scene::new(&["factures"]);
    let mut command = scene.command();
    let (status, outcome) = stop_in_mid_drain(&scene, command.arg("--once"), Signal::INT);
    assert_eq!((status.code(), outcome["ok"].as_bool()), (Some(1), Some(false)), "{outcome}");
}

#[test]
fn told_to_end_in_mid_drain_collect_records_what_it_delivered_and_logs_out() {
    let scene = Scene::new(&["factures"]);
    let (_, outcome) = stop_in_mid_drain(&scene, &mut scene.command(), Signal::TERM);
    assert_eq!(outcome["collected"].as_u64(), Some(scene.files("factures").len() as u64), "{outcome}");
}

#[test]
fn told_to_end_in_mid_drain_the_operator_records_what_it_delivered_and_logs_out() {
    let namespace = namespace("told-to-end");
    let mailbox = address("factures");
    let simulator = Simulator::start_blocking(Options { world: World::ready(&[&mailbox]), ..Options::default() }).unwrap();
    for serial in 1..=BACKLOG {
        // Of a length that makes many sets, each of which is told to the controller.
        simulator.world().deliver(&mailbox, "INBOX", Message::sized(serial, 60_000)).unwrap();
    }
    let servers = Servers { authority: simulator.authority(), imap: simulator.imap_endpoint(), ca: simulator.ca_pem().to_owned() };
    let mut installed = operator(&namespace, &servers, &[]);
    let objects = format!("{}---\n{}", secret(CLIENT_SECRET), collector("factures", ""))
        .replace("namespace: office", &format!("namespace: {namespace}"));
    cluster().apply(&objects).unwrap();
    let folder = installed.files.join(&namespace).join("factures");
    wait_for("the first files", MANY, || (!file_names(&folder).is_empty()).then_some(()));
    installed.operator.stop().unwrap();
    let files = file_names(&folder);
    assert!(!files.is_empty() && files.len() < BACKLOG as usize, "{} of {BACKLOG} messages: not in mid-drain", files.len());
    let cursor = cluster().kubectl(&["get", "mailboxcursors/factures", "--namespace", &namespace, "-o", "json"]).unwrap();
    let cursor: Value = serde_json::from_str(&cursor).unwrap();
    let unrecorded: Vec<u32> = files
        .iter()
        .map(|(_, path)| simulator.rendering_of_bytes(&std::fs::read(path).unwrap()).unwrap().uid)
        .filter(|uid| !covers(&cursor["spec"]["folders"][0]["decided"], *uid))
        .collect();
    assert!(unrecorded.is_empty(), "{} of {} delivered messages are not recorded", unrecorded.len(), files.len());
    assert_eq!(simulator.commands().get("LOGOUT"), Some(&1));
    assert_eq!(installed.refused(), []);
}

#[test]
fn new_mail_does_not_wait_for_a_backlog_spread_over_many_windows() {
    // Twenty blocks of 200 messages, 5,000 UIDs from one to the next.
    new_mail_comes_before_the_backlog(|serial| (serial - 1) / 200 * 5_000 + (serial - 1) % 200 + 1);
}

#[test]
fn new_mail_does_not_wait_for_a_backlog_of_scattered_uids_and_all_of_it_comes() {
    // Each message alone between others that were moved away, as in a mailbox of many years.
    new_mail_comes_before_the_backlog(|serial| serial * 25);
}

/// 4,000 messages under UIDs up to 100,000, and one more that arrives when some hundred are fetched.
fn new_mail_comes_before_the_backlog(uid: impl Fn(u32) -> u32) {
    const OLD: u32 = 4_000;
    const NEW: u64 = 9_999;
    let scene = Scene::new(&["factures"]);
    for serial in 1..=OLD {
        scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").uid_next = uid(serial));
        scene.put("factures", Message::sized(u64::from(serial), 1_500));
    }
    scene.mailbox("factures", |mailbox| {
        let arrives = Action::run(|world| drop(world.deliver(&address("factures"), "INBOX", Message::sized(NEW, 1_500))));
        mailbox.faults.once(Trigger::Command { name: "FETCH", nth: 3 }, arrives);
    });
    let said = scene.collect();
    let place = scene.simulator.renderings().iter().position(|rendering| rendering.serial == Some(NEW));
    let place = place.unwrap_or_else(|| panic!("never fetched: {}", said.stdout));
    // A drain is bounded, and the next one begins with what is new.
    assert!(place < OLD as usize / 2, "{place} of {OLD} older messages came before it");
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (u64::from(OLD) + 1, 0, 0));
    assert_eq!(scene.files("factures").len(), OLD as usize + 1);
}

#[test]
fn a_numbering_near_its_end_is_listed_in_few_searches() {
    const UID_NEXT: u32 = 4_000_000_000;
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=10);
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").uid_next = UID_NEXT);
    let mut searches = 0;
    for (turn, expected) in [(1..=10).collect::<Vec<_>>(), (1..=11).collect()].into_iter().enumerate() {
        let began = Instant::now();
        let mut running = start(&scene, scene.command().arg("--once"));
        let (status, outcome) = ended_within(&scene, &mut running, Duration::from_secs(20));
        assert_eq!((status.code(), outcome["ok"].as_bool()), (Some(0), Some(true)), "{outcome}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(scene.serials("factures"), expected);
        let total = scene.simulator.commands().get("UID SEARCH").copied().unwrap_or_default();
        assert!(total - searches < 50, "{} searches in run {}", total - searches, turn + 1);
        searches = total;
        assert_eq!(scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").append(Message::sized(11, 3_000))), UID_NEXT + turn as u32);
    }
}

#[test]
fn a_secret_of_the_wrong_shape_is_refused_without_quoting_it() {
    let scene = Scene::new(&["factures"]);
    let rows: [(&str, &[&str]); 8] = [
        ("stringData: \"my~canary~secret\"", &["my~", "canary", "~secret"]),
        ("stringData: my~canary~secret", &["my~", "canary", "~secret"]),
        ("data: \"my~canary~secret\"", &["my~", "canary", "~secret"]),
        ("stringData: 86753091234", &["8675", "1234"]),
        ("stringData: {clientSecret: 86753091234}", &["8675", "1234"]),
        ("stringData: {clientSecret: -8675.3091}", &["8675", "3091"]),
        ("stringData: {clientSecret: [my~canary~secret]}", &["my~", "canary", "~secret"]),
        ("stringData: {my~canary~secret: {a: 86753091234}}", &["my~", "canary", "~secret", "8675", "1234"]),
    ];
    for (line, canaries) in rows {
        let bad = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: azure-app, namespace: office}}\n{line}\n");
        scene.write("mail.yaml", &format!("{bad}---\n{}", collector("factures", "")));
        let said = run(scene.command().args(["--once", "--log", "trace"]));
        assert_eq!(said.status.code(), Some(1), "{line}: {}", said.stdout);
        assert!(said.stderr.contains("document 1"), "{line}: the place is told: {}", said.stderr);
        for canary in canaries {
            assert!(!said.stderr.contains(canary) && !said.stdout.contains(canary), "{line}: {canary:?} in {}{}", said.stdout, said.stderr);
        }
    }
}

/// Messages of a drain that is to be stopped in its midst: far more than can come between the signal and the end.
const BACKLOG: u64 = 6_000;
/// Bytes of FETCH answers after which it is stopped: some hundred messages are delivered, the next are on their way.
const MID_DRAIN: u64 = 600_000;

/// Sends `signal` in mid-drain, and holds what lies in the sink against what was recorded.
fn stop_in_mid_drain(scene: &Scene, command: &mut Command, wanted: Signal) -> (ExitStatus, Value) {
    for serial in 1..=BACKLOG {
        scene.put("factures", Message::sized(serial, 1_500));
    }
    let mut running = start(scene, command);
    let pid = Pid::from_child(&running.0);
    scene.simulator.on_bytes(MID_DRAIN, move || kill_process(pid, wanted).unwrap());
    let (status, outcome) = ended(scene, &mut running);
    let files = scene.files("factures");
    assert!(!files.is_empty() && files.len() < BACKLOG as usize, "{} of {BACKLOG} messages: not in mid-drain", files.len());
    let decided = scene.cursor("factures")["decided"].clone();
    let uid = |bytes: &[u8]| scene.simulator.rendering_of_bytes(bytes).unwrap().uid;
    let unrecorded = files.iter().filter(|file| !covers(&decided, uid(&file.bytes))).count();
    assert_eq!(unrecorded, 0, "of {} delivered messages, decided {decided}", files.len());
    assert_eq!(scene.simulator.commands().get("LOGOUT"), Some(&1));
    (status, outcome)
}

/// Starts the program with its outputs in files of the scene.
fn start(scene: &Scene, command: &mut Command) -> Running {
    let file = |name: &str| File::create(scene.path(name)).unwrap();
    Running(command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap())
}

fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_child(&running.0), signal).unwrap();
}

/// Waits for the end; gives what was said of the only mailbox.
fn ended(scene: &Scene, running: &mut Running) -> (ExitStatus, Value) {
    ended_within(scene, running, MANY)
}

fn ended_within(scene: &Scene, running: &mut Running, limit: Duration) -> (ExitStatus, Value) {
    let status = wait_for("the end of the program", limit, || running.0.try_wait().unwrap());
    let outcomes: Value = serde_json::from_str(&scene_text(scene, "stdout")).unwrap_or_default();
    assert_eq!(outcomes.as_array().map(Vec::len), Some(1), "{}", scene_text(scene, "stderr"));
    (status, outcomes[0].clone())
}

fn scene_text(scene: &Scene, name: &str) -> String {
    std::fs::read_to_string(scene.path(name)).unwrap()
}

/// How often the state file of a collector was written.
fn version(scene: &Scene, name: &str) -> u64 {
    let stored: Value = serde_json::from_slice(&std::fs::read(scene.path(&format!("state/office.{name}.json"))).unwrap()).unwrap();
    stored["version"].as_u64().unwrap()
}

/// Whether a stored set such as `1:3,7` holds the UID.
fn covers(set: &Value, uid: u32) -> bool {
    set.as_str().unwrap_or_default().split(',').filter(|range| !range.is_empty()).any(|range| {
        let (low, high) = range.split_once(':').unwrap_or((range, range));
        (low.parse::<u32>().unwrap()..=high.parse().unwrap()).contains(&uid)
    })
}
