//! What becomes of what is remembered when a server numbers its messages anew: kept where the messages prove it, else compared with what was
//! delivered; and never is a message taken for another. The built program against the stand-in, which renders each message anew at each fetch.

use simulator::Message;

use crate::scene::Scene;

fn delivered(first: u64, last: u64) -> Scene {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", first..=last);
    scene.collect().must_be_ok();
    scene
}

fn validity(scene: &Scene) -> (u64, u64) {
    let cursor = scene.cursor("factures");
    (cursor["uidValidity"].as_u64().unwrap(), cursor["epoch"]["uidValidity"].as_u64().unwrap_or_default())
}

#[test]
fn fault_21_another_uidvalidity_over_the_same_messages_brings_nothing_twice() {
    let scene = delivered(1, 60);
    let (before, was) = (scene.files("factures"), validity(&scene).0);
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").renumber(1));
    scene.deliver("factures", 61..=63);
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!(said.counts("factures"), (3, 0, 0), "nothing but what is new");
    assert_eq!(validity(&scene), (was + 1, was), "names go on under the first validity");
    assert!(before.iter().all(|file| scene.files("factures").contains(file)));
    assert_eq!(scene.serials("factures"), (1..=63).collect::<Vec<_>>());
    assert_eq!(scene.collect().counts("factures"), (0, 0, 0));
}

#[test]
fn fault_21_another_uidvalidity_over_other_messages_loses_none_of_them() {
    let scene = delivered(1, 10);
    // Emptied and filled again; the first bears the Message-ID of one that was delivered under the same UID.
    scene.mailbox("factures", |mailbox| {
        let folder = mailbox.folder("INBOX");
        folder.expunge(|_| true);
        folder.renumber(1);
    });
    scene.deliver("factures", 11..=15);
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), (1..=15).collect::<Vec<_>>());
}

#[test]
fn fault_22_uids_given_out_again_under_the_same_uidvalidity_are_other_messages() {
    let scene = Scene::new(&["factures"]);
    let same = |serial| Message::sized(serial, 3_000).with_message_id("<same@fournisseur.example>");
    scene.put("factures", same(1));
    scene.deliver("factures", 2..=5);
    scene.collect().must_be_ok();
    scene.mailbox("factures", |mailbox| {
        let folder = mailbox.folder("INBOX");
        folder.expunge(|_| true);
        folder.uid_next = 1;
    });
    // UID, UIDVALIDITY and Message-ID of a message that was delivered.
    assert_eq!(scene.put("factures", same(11)), 1);
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [1, 2, 3, 4, 5, 11]);
    assert_eq!(scene.collect().counts("factures"), (0, 0, 0));
}

#[test]
fn fault_22_a_mailbox_restored_from_a_backup_brings_what_came_after_it_and_nothing_twice() {
    // Whether the backup is seen before or after new mail has come.
    for seen_at_once in [true, false] {
        let scene = delivered(1, 40);
        scene.mailbox("factures", |mailbox| {
            let folder = mailbox.folder("INBOX");
            assert_eq!(folder.expunge(|uid| uid > 35), 5);
            folder.uid_next = 36;
        });
        if seen_at_once {
            assert_eq!(scene.collect().counts("factures"), (0, 0, 0));
        }
        scene.deliver("factures", 41..=43);
        let said = scene.collect();
        said.must_be_ok();
        assert_eq!(said.counts("factures"), (3, 0, 0), "seen at once: {seen_at_once}");
        assert_eq!(scene.serials("factures"), (1..=43).collect::<Vec<_>>(), "seen at once: {seen_at_once}");
        scene.deliver("factures", 44..=50);
        assert_eq!(scene.collect().counts("factures"), (7, 0, 0));
    }
}

#[test]
fn fault_23_a_revised_message_under_a_new_uid_is_another_message() {
    let scene = Scene::new(&["factures"]);
    let same = |serial| Message::sized(serial, 3_000).with_message_id("<revised@fournisseur.example>");
    scene.put("factures", same(1));
    scene.collect().must_be_ok();
    scene.mailbox("factures", |mailbox| mailbox.folder("INBOX").expunge(|_| true));
    scene.put("factures", same(2));
    let said = scene.collect();
    said.must_be_ok();
    assert_eq!((said.counts("factures"), scene.serials("factures")), ((1, 0, 0), vec![1, 2]));
}
