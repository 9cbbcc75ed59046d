//! Single rules of the cursor, by example.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::*;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_mins(minutes)
}

fn set(text: &str) -> UidSet {
    text.parse().unwrap()
}

fn opened() -> Cursor {
    let mut cursor = Cursor::default();
    assert_eq!(cursor.folder_mut("INBOX").opened(7, Some(1_001), at(0)), Numbering::First);
    cursor
}

#[test]
fn the_stored_form_is_the_one_of_the_design() {
    let mut cursor = opened();
    cursor.holder = Some(Holder { install: "a".into(), pod: "b".into(), epoch: 3 });
    cursor.worked_with = Some("11111111".into());
    let inbox = cursor.folder_mut("INBOX");
    inbox.decide(&set("1:5,7"));
    let _again = inbox.owe(6, OwedReason::NotReceived, at(1));
    let _given_up = inbox.owe(9, OwedReason::TooLarge, at(1));
    inbox.anchor(7, [0, 1, 2, 3, 4, 5, 6, 255]);
    assert!(inbox.claim([0, 0, 0, 0, 0, 0, 0, 255]));
    assert_eq!(
        serde_json::to_value(&cursor).unwrap(),
        serde_json::json!({
            "holder": {"install": "a", "pod": "b", "epoch": 3},
            "workedWith": "11111111",
            "folders": [{
                "name": "INBOX", "key": "INBOX", "uidValidity": 7, "decided": "1:7,9",
                "owed": [{"uid": 6, "reason": "NotReceived", "attempts": 1, "since": "2027-01-15T08:01:00Z", "next": "2027-01-15T08:02:00Z"}],
                "quarantined": [{"uid": 9, "reason": "TooLarge", "attempts": 1, "time": "2027-01-15T08:01:00Z"}],
                "anchors": [{"uid": 7, "fingerprint": "00010203040506ff"}],
                "baseline": {"uidNext": 1001, "time": "2027-01-15T08:00:00Z"},
                "claimed": "AAAAAAAAAP8=",
            }],
        })
    );
    let read: Cursor = serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap();
    assert_eq!(read, cursor);
}

#[test]
fn a_record_edited_by_hand_is_read_without_loss_or_refused() {
    let read = |folder: &str| serde_json::from_str::<Cursor>(&format!(r#"{{"folders":[{folder}]}}"#));
    let bare = read(r#"{"name":"INBOX","colour":"blue"}"#).unwrap();
    assert_eq!(bare.folder("INBOX").map(Folder::key), Some("INBOX"));
    let owed = r#"{"name":"INBOX","uidValidity":1,"decided":"1:3","owed":[{"uid":9,"reason":"Empty","attempts":1,"since":"2027-01-15T08:01:00Z","next":"2027-01-15T08:02:00Z"}]}"#;
    let owed = read(owed).unwrap();
    let inbox = owed.folder("INBOX").unwrap();
    assert!(!inbox.is_decided(9) && !inbox.undecided(9).contains(9));
    for wrong in [
        r#"{"name":"INBOX","decided":"1:*"}"#,
        r#"{"name":"INBOX","decided":7}"#,
        r#"{"name":"INBOX","claimed":"AAAA"}"#,
        r#"{"name":"INBOX","anchors":[{"uid":1,"fingerprint":"+001020304050607"}]}"#,
        r#"{"decided":"1"}"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

fn renumbered(folder: &mut Folder, uid_validity: u32, uid_next: Option<u32>, minutes: i64) {
    assert_eq!(folder.opened(uid_validity, uid_next, at(minutes)), Numbering::Doubtful);
    assert_eq!(folder.recognised(uid_validity, uid_next, &BTreeMap::new(), at(minutes)), Recognised::Renumbered);
}

#[test]
fn a_changed_numbering_that_no_anchor_confirms_forgets_everything_and_keeps_the_key() {
    for (uid_validity, uid_next, expected) in [
        (7, Some(1_001), Numbering::Same),
        (7, None, Numbering::Same),
        (8, Some(1_001), Numbering::Doubtful),
        (8, None, Numbering::Doubtful),
        (7, Some(900), Numbering::Doubtful),
        (7, Some(901), Numbering::Same),
    ] {
        let mut cursor = opened();
        let inbox = cursor.folder_mut("INBOX");
        inbox.decide(&set("1:899"));
        let _again = inbox.owe(900, OwedReason::Empty, at(0));
        let _given_up = inbox.owe(3, OwedReason::TooLarge, at(0));
        inbox.anchor(5, [1; 8]);
        assert!(inbox.claim([1; 8]));
        assert_eq!(inbox.opened(uid_validity, uid_next, at(5)), expected, "{uid_validity} {uid_next:?}");
        assert_eq!(inbox.decided(), &set("1:900"), "a doubt changes nothing");
        if expected == Numbering::Doubtful {
            renumbered(inbox, uid_validity, uid_next, 5);
            assert_eq!((inbox.name(), inbox.key(), inbox.uid_validity()), ("INBOX", "INBOX", uid_validity));
            assert!(inbox.decided().is_empty() && inbox.owed().is_empty() && inbox.quarantined().is_empty());
            assert!(inbox.anchors().next().is_none() && inbox.claims().next().is_none());
            assert_eq!(inbox.baseline(), Some(&Baseline { uid_next, time: at(0) }));
        }
    }
}

/// A folder that has decided 1 to 100 and remembers the last 32 of them.
fn anchored(cursor: &mut Cursor) -> &mut Folder {
    let inbox = cursor.folder_mut("INBOX");
    inbox.decide(&set("1:100"));
    (69..=100).for_each(|uid| inbox.anchor(uid, [uid as u8; 8]));
    inbox
}

fn seen(uids: impl IntoIterator<Item = u32>) -> BTreeMap<u32, Sighting> {
    uids.into_iter().map(|uid| (uid, Sighting { fingerprint: [uid as u8; 8], by_message_id: true })).collect()
}

#[test]
fn a_numbering_is_kept_where_enough_anchors_are_what_they_were_and_none_is_another() {
    let another = |uid| (uid, Sighting { fingerprint: [0; 8], by_message_id: true });
    let by_date = |uid| (uid, Sighting { fingerprint: [uid as u8; 8], by_message_id: false });
    let mut rows = vec![
        (seen(69..=100), true),
        (seen(69..=88), true),
        (seen(69..=87), false),
        (seen([]), false),
        ((69..=100).map(by_date).collect(), false),
    ];
    let mut one_differs = seen(69..=100);
    one_differs.extend([another(100)]);
    rows.push((one_differs, false));
    for (seen, kept) in rows {
        let mut cursor = opened();
        let inbox = anchored(&mut cursor);
        assert_eq!(inbox.opened(9, Some(1_001), at(5)), Numbering::Doubtful);
        let expected = if kept { Recognised::Kept } else { Recognised::Renumbered };
        assert_eq!(inbox.recognised(9, Some(1_001), &seen, at(5)), expected, "{seen:?}");
        assert_eq!((inbox.uid_validity(), inbox.decided().is_empty()), (9, !kept));
        // Placements go on as they were; a numbering with nothing in common has its own.
        assert_eq!(inbox.epoch().uid_validity, if kept { 7 } else { 9 });
        assert_eq!(inbox.opened(9, Some(1_001), at(6)), Numbering::Same);
    }
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    inbox.decide(&set("1:5"));
    (1..=5).for_each(|uid| inbox.anchor(uid, [uid as u8; 8]));
    assert!(inbox.is_recognised_by(&seen(1..=4)) && !inbox.is_recognised_by(&seen(1..=3)), "four in five of the few there are");
}

#[test]
fn uids_that_will_be_given_out_again_are_forgotten_and_get_another_turn() {
    let mut cursor = opened();
    let inbox = anchored(&mut cursor);
    let _again = inbox.owe(97, OwedReason::Empty, at(0));
    let _given_up = inbox.owe(98, OwedReason::TooLarge, at(0));
    // Of 69 to 100 the server has lost what was above 95.
    assert_eq!(inbox.opened(7, Some(96), at(5)), Numbering::Doubtful);
    assert_eq!(inbox.recognised(7, Some(96), &seen(69..=95), at(5)), Recognised::KeptBelow(96));
    assert_eq!((inbox.decided(), inbox.owed().len(), inbox.quarantined().len()), (&set("1:95"), 0, 0));
    assert_eq!(inbox.epoch(), Epoch { uid_validity: 7, turn: 0, again_from: vec![96] });
    assert_eq!(inbox.opened(7, Some(96), at(6)), Numbering::Same);
    let read: Cursor = serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap();
    assert_eq!(read, cursor);
}

#[test]
fn in_a_restored_mailbox_only_what_came_after_the_backup_is_forgotten() {
    let another = |uid| (uid, Sighting { fingerprint: [0; 8], by_message_id: true });
    // Restored to 95, and three messages have come since.
    let mut restored = seen(69..=95);
    restored.extend((96..=98).map(another));
    let mut cursor = opened();
    let inbox = anchored(&mut cursor);
    assert_eq!(inbox.recognised(7, Some(99), &restored, at(5)), Recognised::KeptBelow(96));
    assert_eq!((inbox.decided(), &inbox.epoch().again_from[..]), (&set("1:95"), &[96][..]));
    // Restored to 80: too few prove it.
    let mut restored = seen(69..=80);
    restored.extend((81..=98).map(another));
    let mut cursor = opened();
    assert_eq!(anchored(&mut cursor).recognised(7, Some(99), &restored, at(5)), Recognised::Renumbered);
}

#[test]
fn a_uidnext_below_a_message_that_is_there_is_a_slip_of_the_tongue() {
    let mut cursor = opened();
    let inbox = anchored(&mut cursor);
    assert_eq!(inbox.recognised(7, Some(50), &seen(69..=100), at(5)), Recognised::Kept);
    assert_eq!((inbox.decided(), inbox.epoch()), (&set("1:100"), Epoch { uid_validity: 7, ..Epoch::default() }));
}

#[test]
fn no_epoch_comes_twice_whatever_validities_a_server_announces() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    let mut epochs = vec![inbox.epoch()];
    for (turn, validity) in [7, 7, 9, 7, 9, 12, 12, 5, 12, 13].into_iter().enumerate() {
        inbox.decide(&set("1:100"));
        assert_eq!(inbox.recognised(validity, Some(1), &BTreeMap::new(), at(turn as i64)), Recognised::Renumbered);
        assert!(!epochs.contains(&inbox.epoch()), "{:?} again", inbox.epoch());
        epochs.push(inbox.epoch());
    }
    // Many partial ones are counted together, and still each UID's turn is new.
    let mut cursor = opened();
    let inbox = anchored(&mut cursor);
    let turn = |epoch: &Epoch| epoch.turn + epoch.again_from.iter().filter(|from| **from <= 100).count() as u32;
    let mut last = turn(&inbox.epoch());
    for minutes in 0..100 {
        assert_eq!(inbox.recognised(7, Some(100), &seen(69..=99), at(minutes)), Recognised::KeptBelow(100));
        assert!(turn(&inbox.epoch()) > last && inbox.epoch().again_from.len() <= 32);
        last = turn(&inbox.epoch());
        inbox.decide(&set("100"));
        inbox.anchor(100, [100; 8]);
    }
}

#[test]
fn a_renamed_folder_keeps_its_key_and_another_of_the_old_name_gets_one_of_its_own() {
    let mut cursor = opened();
    cursor.rename("INBOX", "Old");
    assert_eq!((cursor.folder("Old").map(Folder::key), cursor.folder("INBOX")), (Some("INBOX"), None));
    assert_eq!(cursor.folder_mut("INBOX").key(), "INBOX//2");
    assert_eq!(cursor.folder_mut("INBOX//2").key(), "INBOX//2//2");
    cursor.rename("nowhere", "Old");
    assert_eq!(cursor.folder("Old").map(Folder::uid_validity), Some(7));
}

#[test]
fn folders_that_nobody_wants_are_forgotten_only_where_there_are_too_many() {
    let mut cursor = Cursor::default();
    let names: Vec<String> = (0..70).map(|number| format!("folder {number}")).collect();
    for name in names.iter().take(60) {
        cursor.folder_mut(name);
    }
    cursor.forget_unwanted(&[]);
    assert_eq!(cursor.folders().count(), 60);
    for name in &names {
        cursor.folder_mut(name);
    }
    cursor.forget_unwanted(&names[..3]);
    let left: Vec<&str> = cursor.folders().map(Folder::name).collect();
    assert_eq!((left.len(), &left[..4]), (64, &["folder 0", "folder 1", "folder 2", "folder 9"][..]));
}

#[test]
fn below_the_baseline_a_message_may_lie_in_the_sink_already() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    assert!(inbox.must_reconcile(1) && inbox.must_reconcile(1_000) && !inbox.must_reconcile(1_001));
    renumbered(inbox, 8, None, 1);
    assert!(inbox.must_reconcile(u32::MAX), "without UIDNEXT nobody knows");
}

/// What a listing need not look at again.
fn passed(folder: &Folder) -> UidSet {
    UidSet::from_range(1, 1_000).difference(&folder.undecided(1_000))
}

#[test]
fn the_gaps_between_thousands_of_messages_are_stored_as_they_are_taken() {
    let mut cursor = Cursor::default();
    let inbox = cursor.folder_mut("INBOX");
    inbox.opened(7, Some(100_001), at(0));
    let scattered: UidSet = (1..=4_000).map(|message| message * 25).collect();
    assert_eq!(inbox.listed(1, u32::MAX, &scattered, at(0)), scattered);
    assert_eq!((inbox.decided().range_count(), inbox.undecided(99_000).len()), (0, 3_960), "only the messages are left to do");
    let newest_first: Vec<u32> = scattered.iter().rev().skip(8).collect();
    for set in newest_first.chunks(100) {
        inbox.decide(&set.iter().copied().collect());
        assert_eq!(inbox.decided().range_count(), 1);
    }
    assert_eq!(inbox.decided(), &set("1:99800"));
    let _work = inbox.listed(1, u32::MAX, &set("99801,100000"), at(1));
    assert!(inbox.undecided(100_000).contains(99_801), "what is there after all was no gap");
}

#[test]
fn a_complete_listing_decides_what_its_window_lacks_and_returns_the_work() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    inbox.decide(&set("10"));
    let _again = inbox.owe(20, OwedReason::Empty, at(0));
    let _again = inbox.owe(21, OwedReason::Empty, at(0));
    assert_eq!(inbox.listed(1, 500, &set("5,10,20,400,501"), at(0)), set("5,400"), "outside the window a listing says nothing");
    // 400 is the highest listed; 201 to 400 are young.
    assert_eq!(passed(inbox), set("1:4,6:200"));
    assert_eq!(inbox.owed().keys().copied().collect::<Vec<_>>(), [20], "an owed message that is gone is owed no more");
    assert!(inbox.is_decided(21) && !inbox.is_decided(20));
    assert_eq!(inbox.listed(501, 1_000, &set("1000"), at(0)), set("1000"));
    assert_eq!(inbox.listed(1, 500, &set("5,400"), at(0)), set("5,400"));
    assert_eq!(passed(inbox), set("1:4,6:399,401:800"), "with 1000 known, nothing up to 800 is young");
}

#[test]
fn a_young_gap_closes_only_after_a_second_listing_ten_minutes_later() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    inbox.decide(&set("1:800"));
    assert_eq!(inbox.listed(801, 1_000, &set("1000"), at(0)), set("1000"));
    for minutes in [0, 9] {
        let _work = inbox.listed(801, 1_000, &set("1000"), at(minutes));
        assert_eq!(passed(inbox), set("1:800"), "after {minutes} min");
    }
    assert_eq!(inbox.listed(801, 1_000, &set("900,1000"), at(9)), set("900,1000"), "it was late, not gone");
    let _work = inbox.listed(801, 1_000, &set("1000"), at(10));
    assert_eq!(passed(inbox), set("1:899,901:999"), "900 was seen a minute ago");
    let _work = inbox.listed(801, 1_000, &set("1000"), at(20));
    assert_eq!(passed(inbox), set("1:999"));
}

#[test]
fn nothing_above_the_highest_uid_ever_listed_is_decided_by_a_listing() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    for minutes in [0, 30] {
        assert!(inbox.listed(1, 1_000, &UidSet::new(), at(minutes)).is_empty());
        assert!(passed(inbox).is_empty(), "an empty listing proves nothing");
    }
    for minutes in [40, 70] {
        let _work = inbox.listed(501, 1_000, &set("600"), at(minutes));
    }
    assert_eq!(passed(inbox), set("501:599"));
}

#[test]
fn owed_messages_back_off_and_are_quarantined() {
    for (reason, tries) in [
        (OwedReason::NotReceived, 5),
        (OwedReason::Empty, 5),
        (OwedReason::Substitute, 5),
        (OwedReason::Rejected, 5),
        // By then an hour has passed: an incident of the server's is told from a message that breaks sessions.
        (OwedReason::SessionFailed, 7),
        (OwedReason::TooLarge, 1),
    ] {
        let mut cursor = opened();
        let inbox = cursor.folder_mut("INBOX");
        let mut now = at(0);
        for attempt in 1..tries {
            let next = now + SignedDuration::from_mins(1 << (attempt - 1));
            assert_eq!(inbox.owe(4, reason, now), Owe::Again { next });
            assert_eq!(inbox.next_due(), Some(next));
            assert!(inbox.due(next - SignedDuration::from_secs(1)).is_empty());
            assert_eq!(inbox.due(next), set("4"));
            assert!(!inbox.is_decided(4) && !inbox.undecided(10).contains(4));
            now = next;
        }
        assert_eq!(inbox.owe(4, reason, now), Owe::Quarantined { attempts: tries }, "{reason:?}");
        assert!(inbox.is_decided(4) && inbox.next_due().is_none());
        assert_eq!(inbox.quarantined(), [Quarantined { uid: 4, reason, attempts: tries, time: now, has: 0 }]);
        assert_eq!(cursor.quarantined(), 1);
    }
}

#[test]
fn a_scan_placeholder_is_waited_for_a_day_whatever_the_attempts() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    for hour in 0..24 {
        let outcome = inbox.owe(4, OwedReason::ScanPlaceholder, at(hour * 60));
        assert!(matches!(outcome, Owe::Again { next } if next <= at(hour * 60 + 60)), "{hour}: {outcome:?}");
    }
    assert_eq!(inbox.owe(4, OwedReason::NotReceived, at(23 * 60)), Owe::Again { next: at(23 * 60 + 1) }, "another fault has its own tries");
    assert!(matches!(inbox.owe(4, OwedReason::ScanPlaceholder, at(24 * 60)), Owe::Quarantined { .. }));
}

#[test]
fn a_clock_that_was_wrong_once_does_not_park_a_message() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    let _again = inbox.owe(4, OwedReason::Empty, at(100_000));
    assert_eq!(inbox.due(at(0)), set("4"));
}

#[test]
fn an_old_copy_stands_for_one_message_until_all_old_ones_are_decided() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    assert!(inbox.claim([0xab; 8]));
    assert!(inbox.claims().eq([[0xab; 8]]) && !inbox.claim([0xab; 8]));
    inbox.decide(&set("1:999"));
    let _again = inbox.owe(1_000, OwedReason::Rejected, at(0));
    assert!(inbox.claims().eq([[0xab; 8]]), "1000 is still owed");
    inbox.decide(&set("1000"));
    assert!(inbox.claims().next().is_none());
}

#[test]
fn at_their_bound_claims_are_refused_and_fit_into_the_cursor() {
    let mut cursor = opened();
    for at in 0..MAX_CLAIMS {
        assert!(cursor.folder_mut("INBOX").claim((at as u64).to_be_bytes()));
    }
    assert!(!cursor.folder_mut("INBOX").claim([255; 8]));
    assert!(cursor.stored_bytes() < MAX_BYTES / 2);
    assert_eq!(cursor.full(), None);
}

#[test]
fn only_the_last_anchors_are_kept() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    for uid in 1..=40 {
        inbox.anchor(uid, [uid as u8; 8]);
    }
    inbox.anchor(20, [0; 8]);
    let kept: Vec<u32> = inbox.anchors().map(|anchor| anchor.uid).collect();
    assert_eq!(kept, (9..=19).chain(21..=40).chain([20]).collect::<Vec<_>>());
}

#[test]
fn scattered_owed_messages_do_not_break_decided_into_ranges() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    for uid in (2..=600).step_by(2) {
        let _again = inbox.owe(uid, OwedReason::NotReceived, at(0));
    }
    inbox.decide(&(1..=600).step_by(2).collect());
    assert_eq!(inbox.decided(), &set("1:600"));
    assert_eq!(inbox.owed().len(), 300);
}

#[test]
fn at_each_bound_no_new_work_is_taken() {
    let mut cursor = opened();
    assert_eq!((cursor.full(), cursor.room()), (None, MAX_QUARANTINED));
    for uid in 1..=MAX_QUARANTINED as u32 {
        assert_eq!(cursor.room(), MAX_QUARANTINED + 1 - uid as usize);
        let _given_up = cursor.folder_mut("INBOX").owe(uid, OwedReason::TooLarge, at(0));
    }
    assert_eq!((cursor.full(), cursor.room()), (Some(Full::Quarantined), 0));

    let mut cursor = opened();
    for uid in 1..=MAX_RANGES as u32 {
        assert_eq!(cursor.full(), None);
        cursor.folder_mut("INBOX").decide(&UidSet::from_range(uid * 2, uid * 2));
    }
    assert_eq!((cursor.full(), cursor.room()), (Some(Full::Ranges), 0));
    let work = set("1:3,511:600");
    assert_eq!(cursor.folder_mut("INBOX").between(&work), set("1:3,511:512"));
    cursor.folder_mut("INBOX").decide(&set("1"));
    assert_eq!(cursor.full(), Some(Full::Ranges), "1 joins 2, it bridges nothing");
    cursor.folder_mut("INBOX").decide(&set("3"));
    assert_eq!(cursor.full(), None);
}

#[test]
fn whatever_fails_of_the_work_there_was_room_for_fits() {
    let mut cursor = opened();
    let mut uid = 0;
    while cursor.full().is_none() {
        for _ in 0..cursor.room() {
            // The longest entry, and each with a range of its own in the decided set.
            uid += 2;
            let _again = cursor.folder_mut("INBOX").owe(u32::MAX - uid, OwedReason::ScanPlaceholder, at(0));
        }
    }
    assert!(cursor.stored_bytes() <= MAX_BYTES, "{}", cursor.stored_bytes());
    assert!(cursor.owed() <= MAX_OWED);
}

#[test]
fn delivered_messages_are_unsettled_until_a_listing_or_a_search_shows_them_gone() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    inbox.delivered(&set("1:9,12"));
    assert_eq!((inbox.decided(), inbox.unsettled()), (&set("1:9,12"), &set("1:9,12")));
    // A complete listing of a window that lacks some of them.
    let _work = inbox.listed(1, 5, &set("2,4"), at(1));
    assert_eq!(inbox.unsettled(), &set("2,4,6:9,12"));
    inbox.settled(&set("4:8"));
    assert_eq!((inbox.decided(), inbox.unsettled()), (&set("1:9,12"), &set("2,9,12")));
    let stored = serde_json::to_value(&cursor).unwrap();
    assert_eq!(stored["folders"][0]["unsettled"], "2,9,12");
    assert_eq!(serde_json::from_value::<Cursor>(stored).unwrap(), cursor);
    let inbox = cursor.folder_mut("INBOX");
    assert_eq!(inbox.opened(8, None, at(2)), Numbering::Doubtful);
    assert_eq!(inbox.recognised(8, None, &BTreeMap::new(), at(2)), Recognised::Renumbered);
    assert!(cursor.folder_mut("INBOX").unsettled().is_empty(), "the old numbers mean other messages now");
}

#[test]
fn a_record_that_would_settle_what_is_not_delivered_is_read_without_that() {
    let folder = r#"{"name":"INBOX","uidValidity":1,"decided":"1:3","unsettled":"2:9",
        "owed":[{"uid":2,"reason":"Empty","attempts":1,"since":"2027-01-15T08:01:00Z","next":"2027-01-15T08:02:00Z"}]}"#;
    let cursor: Cursor = serde_json::from_str(&format!(r#"{{"folders":[{folder}]}}"#)).unwrap();
    assert_eq!(cursor.folder("INBOX").unwrap().unsettled(), &set("3"));
}

#[test]
fn too_many_ranges_of_unsettled_messages_stop_new_work_and_settling_makes_room() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    inbox.decide(&set("1:2000"));
    inbox.delivered(&(1..=1_000).map(|n| n * 2).collect());
    assert_eq!((cursor.full(), cursor.room()), (Some(Full::Unsettled), 0));
    cursor.folder_mut("INBOX").settled(&set("1:1500"));
    assert_eq!(cursor.full(), None);
}

#[test]
fn an_attempt_is_counted_before_it_is_made_and_once() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    // It comes well.
    inbox.count(5, at(0));
    assert!(inbox.owed()[&5].trying && !inbox.is_decided(5));
    inbox.decide(&set("5"));
    assert!(inbox.owed().is_empty());
    // It fails in a way that is told.
    inbox.count(6, at(0));
    assert!(matches!(inbox.owe(6, OwedReason::Empty, at(0)), Owe::Again { .. }));
    assert_eq!((inbox.owed()[&6].attempts, inbox.owed()[&6].trying), (1, false));
    // It came to nothing.
    inbox.count(6, at(2));
    inbox.uncount(6);
    inbox.uncount(6);
    assert_eq!(inbox.owed()[&6].attempts, 1);
    // The process ends, three times.
    for attempt in 1..=3 {
        cursor.folder_mut("INBOX").count(7, at(attempt));
        let mut read: Cursor = serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap();
        let ended = read.folder_mut("INBOX").ended(at(attempt));
        assert_eq!((ended.alone, ended.given_up), (vec![7], if attempt == 3 { vec![7] } else { vec![] }));
        assert_eq!(read.folder_mut("INBOX").ended(at(attempt)), Ended::default(), "told once");
        cursor = read;
    }
    let given_up = &cursor.folder("INBOX").unwrap().quarantined()[0];
    assert_eq!((given_up.uid, given_up.reason, given_up.attempts), (7, OwedReason::ProcessEnded, 3));
    assert!(cursor.folder("INBOX").unwrap().is_decided(7));
    // A set under way is told to whoever reads the record.
    cursor.folder_mut("INBOX").try_set(set("8:20"));
    let mut read: Cursor = serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap();
    assert_eq!(read.folder_mut("INBOX").ended(at(9)).set, set("8:20"));
}

#[test]
fn a_person_replays_discards_or_collects_again() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    inbox.decide(&set("1:10"));
    for uid in [3, 5, 7] {
        let _given_up = inbox.owe(uid, OwedReason::TooLarge, at(0));
    }
    assert_eq!((inbox.replay(Some(4), at(1)), inbox.replay(Some(5), at(1))), (0, 1));
    assert_eq!((inbox.owed()[&5].attempts, inbox.due(at(1))), (0, set("5")));
    assert_eq!((inbox.discard(Some(5)), inbox.discard(Some(3))), (0, 1));
    assert!(inbox.is_decided(3) && inbox.quarantined().len() == 1);
    assert_eq!((inbox.discard(None), inbox.discard(None)), (1, 0));
    let _given_up = inbox.owe(9, OwedReason::TooLarge, at(0));
    assert_eq!((inbox.replay(None, at(2)), inbox.quarantined().len()), (1, 0));

    inbox.delivered(&set("11:20"));
    let _given_up = inbox.owe(15, OwedReason::TooLarge, at(2));
    let _again = inbox.owe(18, OwedReason::Empty, at(2));
    assert!(inbox.claim([1; 8]));
    inbox.resync(13, Some(21), at(3));
    assert_eq!((inbox.undecided(20), inbox.unsettled()), (set("13:17,19:20"), &set("11:12")));
    assert!(inbox.must_reconcile(20) && !inbox.must_reconcile(21) && inbox.claims().next().is_none());
    assert_eq!(inbox.listed(1, u32::MAX, &set("11:20"), at(3)), set("13:17,19:20"));
    assert!(inbox.owed().contains_key(&18) && inbox.quarantined().is_empty());
    inbox.resync(1, Some(21), at(3));
    assert_eq!(inbox.listed(1, u32::MAX, &set("11:20"), at(3)), set("11:17,19:20"));
}
