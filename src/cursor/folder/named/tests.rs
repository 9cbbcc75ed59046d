//! Folders whose messages have names: nothing is decided, and nothing forgotten, for what a listing lacks.

use std::collections::BTreeMap;

use super::super::{Owe, Recognised};
use super::*;
use crate::cursor::{Cursor, FIRST_GIVEN, MAX_ANCHORS};

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + hours * 3_600).unwrap()
}

fn names(written: &[&str]) -> Vec<Name> {
    written.iter().map(|name| Name::new(name.as_bytes())).collect()
}

fn set(uids: &[u32]) -> UidSet {
    uids.iter().copied().collect()
}

fn opened() -> Folder {
    let mut folder = Folder::new("INBOX", "INBOX".into());
    assert_eq!(folder.opened_named(at(0)), Numbering::First);
    folder
}

fn look(folder: &mut Folder, written: &[&str], hours: i64) -> NamedListing {
    let numbered = folder.number(&names(written), at(hours)).unwrap();
    folder.listed_named(&numbered, at(hours))
}

#[test]
fn what_a_listing_lacks_is_neither_decided_nor_forgotten() {
    let mut folder = opened();
    assert_eq!(look(&mut folder, &["3", "7", "abc"], 0).todo, set(&[3, 7, FIRST_GIVEN]));
    folder.decide(&set(&[3, 7, FIRST_GIVEN]));
    for (hours, listing) in [(1, &[][..]), (2, &["7"]), (23, &[])] {
        assert!(look(&mut folder, listing, hours).todo.is_empty());
        assert_eq!(folder.decided(), &set(&[3, 7, FIRST_GIVEN]));
    }
    assert!(look(&mut folder, &["3", "7", "abc"], 30).todo.is_empty());
    // Numbers that lie between decided ones are as good as any.
    assert_eq!(look(&mut folder, &["3", "5", "7", "abc"], 31).todo, set(&[5]));
}

#[test]
fn a_name_is_forgotten_when_two_listings_a_day_apart_lack_it_and_then_it_is_new() {
    let mut folder = opened();
    look(&mut folder, &["1", "2", "x"], 0);
    folder.decide(&set(&[1, 2, FIRST_GIVEN]));
    assert_eq!(folder.owe(2, OwedReason::NotReceived, at(0)), Owe::Again { next: folder.next_due().unwrap() });
    assert!(look(&mut folder, &["1"], 10).changed, "absence is worth remembering");
    assert!(!look(&mut folder, &["1"], 20).changed);
    assert_eq!(folder.decided().len(), 3);
    assert!(look(&mut folder, &["1"], 34).changed);
    assert_eq!((folder.decided(), folder.owed().len(), folder.names().unwrap().given().len()), (&set(&[1]), 0, 0));
    assert_eq!(look(&mut folder, &["1", "2", "x"], 35).todo, set(&[2, FIRST_GIVEN]));
}

#[test]
fn what_came_back_starts_its_absence_anew() {
    let mut folder = opened();
    look(&mut folder, &["1", "2"], 0);
    folder.decide(&set(&[1, 2]));
    look(&mut folder, &[], 1);
    look(&mut folder, &["1", "2"], 2);
    look(&mut folder, &["2"], 20);
    look(&mut folder, &["2"], 30);
    assert!(folder.is_decided(1));
    look(&mut folder, &["2"], 44);
    assert!(!folder.is_decided(1) && folder.is_decided(2));
}

#[test]
fn an_owed_message_that_is_not_listed_stays_owed_and_is_not_tried() {
    let mut folder = opened();
    look(&mut folder, &["1"], 0);
    let _told = folder.owe(1, OwedReason::NotReceived, at(0));
    look(&mut folder, &[], 5);
    assert!(folder.due(at(5)).is_empty());
    assert_eq!(folder.owed()[&1].attempts, 1);
    look(&mut folder, &["1"], 7);
    assert_eq!(folder.due(at(7)), set(&[1]));
}

#[test]
fn messages_that_share_a_name_are_quarantined_until_they_do_not_and_none_stands_for_another() {
    let mut folder = opened();
    look(&mut folder, &["5", "x"], 0);
    folder.decide(&set(&[5, FIRST_GIVEN]));
    folder.anchor(5, [1; 8]);
    // One more message under each of the names.
    let listing = look(&mut folder, &["5", "x", "5", "x", "6"], 1);
    assert_eq!(listing, NamedListing { todo: set(&[6]), changed: true });
    let reasons: Vec<_> = folder.quarantined().iter().map(|entry| entry.reason).collect();
    assert_eq!(reasons, [OwedReason::SharedName; 2]);
    assert!(!folder.is_decided(5) && !folder.is_decided(FIRST_GIVEN));
    let before = folder.clone();
    assert_eq!(look(&mut folder, &["5", "x", "5", "x", "6"], 2), NamedListing { todo: set(&[6]), changed: false });
    assert_eq!(folder.quarantined(), before.quarantined());
    // One of each was removed; which one nobody knows, so the other is taken (again).
    assert_eq!(look(&mut folder, &["5", "x", "6"], 3), NamedListing { todo: set(&[5, 6, FIRST_GIVEN]), changed: true });
    assert!(folder.quarantined().is_empty());
}

#[test]
fn another_epoch_forgets_everything_and_counts_on() {
    let mut folder = opened();
    look(&mut folder, &["1", "x"], 0);
    folder.decide(&set(&[1, FIRST_GIVEN]));
    folder.anchor(1, [1; 8]);
    folder.new_epoch(at(1));
    assert_eq!((folder.uid_validity(), folder.name(), folder.key()), (2, "INBOX", "INBOX"));
    assert_eq!(look(&mut folder, &["1", "x"], 1).todo, set(&[1, FIRST_GIVEN]));
    assert!(folder.must_reconcile(1) && folder.must_reconcile(FIRST_GIVEN));
    assert!(!folder.must_reconcile(FIRST_GIVEN + 1), "what came since cannot lie in the sink");
}

#[test]
fn reconciling_ends_a_day_later_when_all_from_before_is_decided() {
    let mut folder = opened();
    look(&mut folder, &["1", "2"], 0);
    folder.decide(&set(&[1]));
    folder.claim([1; 8]);
    look(&mut folder, &["1", "2"], 30);
    assert_eq!(folder.claims().count(), 1);
    folder.decide(&set(&[2]));
    look(&mut folder, &["1", "2"], 31);
    assert_eq!(folder.claims().count(), 0);
    assert!(!folder.must_reconcile(1));
}

#[test]
fn a_folder_is_of_one_protocol_and_another_one_begins_anew() {
    let mut folder = Folder::new("INBOX", "INBOX".into());
    folder.opened(7, Some(10), at(0));
    folder.decide(&UidSet::from_range(1, 9));
    assert_eq!(folder.opened_named(at(1)), Numbering::First);
    assert_eq!(look(&mut folder, &["3"], 1).todo, set(&[3]));
    assert_eq!(folder.opened_named(at(1)), Numbering::Same);
    assert_eq!(folder.opened(1, Some(10), at(2)), Numbering::Doubtful);
    assert_eq!(folder.recognised(1, Some(10), &BTreeMap::new(), at(2)), Recognised::Renumbered);
    assert!(folder.names().is_none());
}

#[test]
fn the_first_anchors_stay_and_the_newest_come_and_go() {
    let mut folder = opened();
    for uid in 1..=100 {
        folder.anchor(uid, [uid as u8; 8]);
    }
    let kept: Vec<u32> = folder.anchors().map(|anchor| anchor.uid).collect();
    assert_eq!(kept.len(), MAX_ANCHORS);
    assert_eq!(kept[..STANDING_ANCHORS], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(kept[STANDING_ANCHORS..], (77..=100).collect::<Vec<_>>());
    assert_eq!(folder.anchors_in(&set(&[2, 90, 50])).iter().map(|anchor| anchor.uid).collect::<Vec<_>>(), [90, 2]);
}

#[test]
fn names_survive_storing_and_a_cursor_without_them_still_loads() {
    let mut cursor = Cursor::default();
    let folder = cursor.folder_mut("INBOX");
    folder.opened_named(at(0));
    look(folder, &["1", "x", "y"], 0);
    folder.decide(&set(&[1, FIRST_GIVEN]));
    look(folder, &["1", "y"], 1);
    let text = serde_json::to_string(&cursor).unwrap();
    assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor, "{text}");
    let old = r#"{"folders":[{"name":"INBOX","key":"INBOX","uidValidity":7,"decided":"1:9","baseline":{"uidNext":10,"time":"2026-01-01T00:00:00Z"}}]}"#;
    let old: Cursor = serde_json::from_str(old).unwrap();
    assert!(old.folder("INBOX").unwrap().names().is_none());
}

#[test]
fn scattered_numbers_are_bounded_by_bytes_and_full_says_what_to_do() {
    let mut cursor = Cursor::default();
    let folder = cursor.folder_mut("INBOX");
    folder.opened_named(at(0));
    folder.decide(&(1..=10_000).map(|n| n * 2).collect());
    assert_eq!(cursor.full(), None);
    cursor.folder_mut("INBOX").decide(&(10_000..=60_000).map(|n| n * 2).collect());
    assert_eq!(cursor.full(), Some(crate::cursor::Full::Names));
}
