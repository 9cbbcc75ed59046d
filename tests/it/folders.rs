//! Several folders of one mailbox, and what becomes of what is remembered when a server renames or renumbers one. The built program against the
//! stand-in; names with accents also against Dovecot (`dovecot`).

use std::time::Duration;

use simulator::{CLIENT_SECRET, Message};

use crate::scene::{Running, Scene, address, collector, secret, wait_for_files};
use crate::support::wait_for;

const TRAITER: &str = "Factures/À traiter";
const MANY: Duration = Duration::from_secs(60);

fn scene(names: &[&str]) -> Scene {
    let scene = Scene::new(&["factures"]);
    order(&scene, &format!("folders: [{}]", names.iter().map(|name| format!("{{name: \"{name}\"}}")).collect::<Vec<_>>().join(", ")));
    scene
}

fn order(scene: &Scene, more: &str) {
    scene.write("mail.yaml", &format!("{}---\n{}", secret(CLIENT_SECRET), collector("factures", more)));
}

fn put(scene: &Scene, folder: &str, serials: impl IntoIterator<Item = u64>) {
    for serial in serials {
        scene.simulator.world().deliver(&address("factures"), folder, Message::sized(serial, 3_000)).unwrap();
    }
}

#[test]
fn several_folders_are_collected_each_with_a_memory_of_its_own() {
    let scene = scene(&["INBOX", TRAITER, "Éléments envoyés"]);
    put(&scene, "INBOX", 1..=30);
    put(&scene, TRAITER, 101..=160);
    put(&scene, "Brouillons", [900]);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (90, 0, 0));
    assert_eq!(scene.serials("factures"), (1..=30).chain(101..=160).collect::<Vec<_>>(), "nothing of a folder that nobody named");

    put(&scene, TRAITER, [161]);
    put(&scene, "Éléments envoyés", [201, 202]);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (3, 0, 0));
    assert_eq!(scene.collect().counts("factures"), (0, 0, 0));
}

#[test]
fn a_missing_folder_is_named_with_what_is_like_it_and_the_others_are_collected() {
    let scene = scene(&["Factures/A traiter", "INBOX", TRAITER]);
    put(&scene, "INBOX", 1..=3);
    put(&scene, TRAITER, 4..=6);
    let said = scene.collect();
    assert_eq!((said.status.code(), said.reason("factures")), (Some(1), "FolderNotFound"), "{}", said.stdout);
    let message = said.of("factures")["message"].as_str().unwrap();
    assert!(message.contains("no folder 'Factures/A traiter'") && message.contains("Nearest to it: 'Factures/À traiter'"), "{message}");
    assert_eq!(said.counts("factures"), (6, 0, 0));
    assert!(said.of("factures")["lastFetchTime"].is_null(), "not every folder was listed");
    assert_eq!(scene.serials("factures"), [1, 2, 3, 4, 5, 6]);

    scene.mailbox("factures", |mailbox| mailbox.folder("Factures/A traiter").append(Message::sized(7, 3_000)));
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (1, 0, 0));
    assert!(said.of("factures")["lastFetchTime"].is_string());
}

#[test]
fn where_no_folder_is_there_it_says_so() {
    let scene = scene(&["Nowhere", "Nirgends"]);
    let said = scene.collect();
    assert_eq!(said.reason("factures"), "FolderNotFound", "{}", said.stdout);
    let message = said.of("factures")["message"].as_str().unwrap();
    assert!(message.contains("'Nowhere'") && message.contains("Nor has it 'Nirgends'"), "{message}");
}

#[test]
fn a_renamed_folder_goes_on_where_it_was_and_a_new_one_of_the_old_name_is_another() {
    let scene = scene(&["INBOX", "Brouillons"]);
    put(&scene, "Brouillons", 1..=40);
    scene.collect().must_be_ok();
    let before = scene.files("factures");
    // Renamed, and a folder made anew under the old name, with the same numbering and the same Message-IDs.
    let validity = scene.mailbox("factures", |mailbox| {
        mailbox.folder("Brouillons").name = "Archives".into();
        mailbox.folder("Archives").uid_validity
    });
    put(&scene, "Archives", [41]);
    order(&scene, "folders: [{name: INBOX}, {name: Archives}]");
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (1, 0, 0));
    assert!(before.iter().all(|file| scene.files("factures").contains(file)));

    scene.mailbox("factures", |mailbox| mailbox.folder("Brouillons").uid_validity = validity);
    put(&scene, "Brouillons", 1..=40);
    order(&scene, "folders: [{name: INBOX}, {name: Archives}, {name: Brouillons}]");
    let said = scene.collect();
    said.must_be_ok();
    let mut twice: Vec<u64> = (1..=40).chain(1..=41).collect();
    twice.sort_unstable();
    assert_eq!(scene.serials("factures"), twice, "messages of another folder are other messages");
}

#[test]
fn new_mail_comes_by_push_in_the_first_folder_and_by_asking_in_the_others() {
    let scene = scene(&["INBOX", TRAITER]);
    put(&scene, "INBOX", [1]);
    put(&scene, TRAITER, [2]);
    let _running = Running::start(&mut scene.command());
    wait_for_files(&scene, "factures", 2, MANY);
    let idles = || scene.simulator.commands().get("IDLE").copied().unwrap_or_default();
    wait_for("waiting", MANY, || (idles() > 0).then_some(()));
    assert_eq!(scene.simulator.commands()["EXAMINE"], 3, "each once, and the first again to wait on it");
    put(&scene, "INBOX", [3]);
    wait_for_files(&scene, "factures", 3, Duration::from_secs(5));
    // Default interval: asked after 75 s.
    put(&scene, TRAITER, [4]);
    wait_for_files(&scene, "factures", 4, Duration::from_secs(100));
    wait_for("waiting on the first again", MANY, || (scene.simulator.commands()["EXAMINE"] == 5).then_some(()));
    assert_eq!(scene.simulator.commands()["STATUS"], 1, "asked once, opened because it had changed");
    assert_eq!(scene.simulator.log_ins(), 1);
}
