//! Single rules of the cursor, by example.

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

#[test]
fn a_changed_numbering_forgets_everything_and_keeps_the_key() {
    for (uid_validity, uid_next, expected) in [
        (7, Some(1_001), Numbering::Same),
        (7, None, Numbering::Same),
        (8, Some(1_001), Numbering::Renumbered),
        (8, None, Numbering::Renumbered),
        (7, Some(900), Numbering::Renumbered),
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
        if expected == Numbering::Renumbered {
            assert_eq!((inbox.name(), inbox.key(), inbox.uid_validity()), ("INBOX", "INBOX", uid_validity));
            assert!(inbox.decided().is_empty() && inbox.owed().is_empty() && inbox.quarantined().is_empty());
            assert!(inbox.anchors().next().is_none() && inbox.claims().next().is_none());
            assert_eq!(inbox.baseline(), Some(&Baseline { uid_next, time: at(5) }));
        } else {
            assert_eq!(inbox.decided(), &set("1:900"));
        }
    }
}

#[test]
fn below_the_baseline_a_message_may_lie_in_the_sink_already() {
    let mut cursor = opened();
    let inbox = cursor.folder_mut("INBOX");
    assert!(inbox.must_reconcile(1) && inbox.must_reconcile(1_000) && !inbox.must_reconcile(1_001));
    inbox.opened(8, None, at(1));
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
