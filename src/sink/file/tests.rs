//! The conformance suite on the file sink, and what only a file sink can get wrong: the order of its system calls, errors of the disk,
//! hostile directories, filesystems without unnamed files.

mod stage;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::SystemTime;

use futures::FutureExt;
use rustix::io::Errno;

use self::stage::{Script, Stage};
use super::*;
use crate::sink::conformance::{self as suite, Observe, deliver, delivery, letters};

fn source_of(outcome: &Outcome) -> i32 {
    let (Outcome::Deferred(error) | Outcome::Rejected(error)) = outcome else { panic!("{outcome:?}") };
    let Error::Io { source, .. } = &**error else { panic!("{error:?}") };
    source.raw_os_error().unwrap()
}

/// Runs a row of the suite on the real disk, on one that writes down its calls, and on one without unnamed files.
macro_rules! conforms {
    ($($row:ident)*) => { $(
        #[tokio::test]
        async fn $row() {
            let real = Stage::new();
            let kernel = FileRoot::open(real.folder.path()).unwrap();
            let sink = FileSink::new(&kernel, Path::new("team/invoices")).unwrap();
            let observe: Observe<'_> = &|| real.seen();
            suite::$row(&sink, observe).await;
            for only_named in [false, true] {
                let stage = Stage::with(Script::named(only_named));
                let observe: Observe<'_> = &|| stage.seen();
                suite::$row(&stage.sink, observe).await;
                assert_eq!(stage.disk.count("open named") > 0, only_named && stage.disk.count("open") > 0);
            }
        }
    )* };
}

conforms! {
    accepted_means_visible_with_exact_bytes
    a_long_message_arrives_whole_by_parts
    a_long_message_arrives_whole_from_the_spool
    the_same_identity_has_one_effect
    equal_bytes_at_two_placements_are_two_messages
    what_is_dropped_half_way_leaves_nothing
    a_dropped_receipt_does_not_undo_the_delivery
    an_empty_batch_is_answered
    copies_are_found_by_their_bytes
    a_good_sink_passes_the_probe
}

#[tokio::test]
async fn a_receipt_comes_after_the_files_are_synced_then_named_and_the_names_synced() {
    for count in [1, 3, 16, 17, 400] {
        let stage = Stage::new();
        let batch = (0..count).map(|at| delivery(1, at, b"x")).collect();
        let outcomes = deliver(&stage.sink, batch).await;
        let calls = stage.disk.calls().clone();
        assert_eq!(letters(&outcomes), "A".repeat(count as usize));
        // Filesystems that are not known to do it as a whole sync each file.
        let whole = calls.contains(&"sync filesystem");
        assert!(!(whole && count <= 16));
        let mut expected = ["open", "write"].repeat(count as usize);
        expected.extend(if whole { vec!["sync filesystem"] } else { vec!["sync file"; count as usize] });
        expected.extend(vec!["link"; count as usize]);
        // The directory, and, since they are new, those above it.
        expected.extend(["sync directory"; 3]);
        assert_eq!(calls, expected, "{count} messages");
    }
}

#[tokio::test]
async fn a_name_given_before_is_synced_again_and_known_parents_are_not() {
    let stage = Stage::new();
    assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x")]).await), "A");
    stage.disk.calls().clear();
    assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x")]).await), "A");
    assert_eq!(*stage.disk.calls(), ["open", "write", "sync file", "link", "sync directory"]);
}

#[tokio::test]
async fn parents_whose_sync_failed_are_synced_with_the_next_batch() {
    let stage = Stage::new();
    stage.disk.fail("sync directory", 1, Errno::IO);
    assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x")]).await), "D");
    stage.disk.calls().clear();
    assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x")]).await), "A");
    assert_eq!(stage.disk.count("sync directory"), 3);
}

#[tokio::test]
async fn a_part_is_synced_by_itself_even_where_the_batch_is_synced_as_a_whole() {
    let stage = Stage::new();
    let mut part = stage.sink.part(1).await.unwrap();
    stage.sink.append(&mut part, Bytes::from_static(b"x")).await.unwrap();
    let mut batch: Vec<_> = (0..20).map(|at| delivery(1, at, b"x")).collect();
    batch.push(Delivery { body: Body::Part(part), ..delivery(1, 99, b"") });
    assert_eq!(letters(&deliver(&stage.sink, batch).await), "A".repeat(21));
    assert_eq!(stage.disk.count("sync file"), if stage.disk.count("sync filesystem") > 0 { 1 } else { 21 });
}

#[tokio::test]
async fn a_failed_sync_fails_the_whole_batch_and_is_not_repeated() {
    for (call, count) in [("sync file", 3), ("sync filesystem", 20), ("sync directory", 3), ("sync directory", 20)] {
        for only_named in [false, true] {
            let stage = Stage::with(Script::named(only_named));
            stage.disk.fail(call, 0, Errno::IO);
            let batch = || (0..count).map(|at| delivery(1, at, b"x")).collect();
            let outcomes = deliver(&stage.sink, batch()).await;
            if stage.disk.count(call) == 0 {
                // This filesystem is not known to be synced as a whole.
                continue;
            }
            assert_eq!(letters(&outcomes), "D".repeat(count as usize), "{call}");
            assert!(outcomes.iter().all(|outcome| source_of(outcome) == Errno::IO.raw_os_error()));
            assert_eq!(stage.disk.count(call), if call == "sync file" { 3 } else { 1 }, "each file once");
            assert!(stage.seen().is_empty(), "{call}: nothing of it counts as accepted at the next attempt");
            assert!(stage.hidden().is_empty());
            assert_eq!(letters(&deliver(&stage.sink, batch()).await), "A".repeat(count as usize), "fetched again, it is a new batch");
            assert_eq!(stage.seen().len(), count as usize);
        }
    }
}

#[tokio::test]
async fn a_name_that_was_there_before_is_not_taken_back() {
    let stage = Stage::new();
    assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x")]).await), "A");
    stage.disk.fail("sync directory", 0, Errno::IO);
    assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x"), delivery(1, 2, b"y")]).await), "DD");
    assert_eq!(stage.seen().into_values().collect::<Vec<_>>(), [b"x"]);
}

#[tokio::test]
async fn an_error_about_the_sink_defers_and_one_about_the_message_rejects() {
    let cases = [
        ("open", Errno::NOSPC, "ADDD"),
        ("open", Errno::DQUOT, "ADDD"),
        ("open", Errno::ROFS, "ADDD"),
        ("open", Errno::ACCESS, "ADDD"),
        ("open", Errno::MFILE, "ADDD"),
        ("write", Errno::NOSPC, "ADDD"),
        ("write", Errno::IO, "ADDD"),
        ("write", Errno::FBIG, "ARAA"),
        ("link", Errno::NOSPC, "ADAA"),
        ("link", Errno::ACCESS, "ADAA"),
    ];
    for (call, error, expected) in cases {
        let stage = Stage::new();
        stage.disk.fail(call, 1, error);
        let outcomes = deliver(&stage.sink, (0..4).map(|at| delivery(1, at, b"x")).collect()).await;
        assert_eq!(letters(&outcomes), expected, "{call} {error}");
        assert_eq!(source_of(&outcomes[1]), error.raw_os_error());
        assert_eq!(stage.seen().len(), expected.matches('A').count(), "{call} {error}");
    }
}

#[tokio::test]
async fn a_part_that_could_not_be_written_says_so_and_is_not_delivered() {
    let stage = Stage::new();
    stage.disk.fail("write", 1, Errno::NOSPC);
    let mut part = stage.sink.part(3).await.unwrap();
    for _ in 0..3 {
        stage.sink.append(&mut part, Bytes::from_static(b"x")).await.ok();
    }
    // Whatever comes next finds the earlier writes done.
    stage.sink.probe().await.unwrap();
    let Err(Error::Io { source, .. }) = stage.sink.append(&mut part, Bytes::from_static(b"x")).await else { panic!("no error") };
    assert_eq!(source.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    let outcomes = deliver(&stage.sink, vec![Delivery { body: Body::Part(part), ..delivery(1, 1, b"") }]).await;
    assert_eq!(letters(&outcomes), "D");
    assert_eq!(stage.disk.count("write"), 2, "nothing is written after the failure");
    assert!(stage.seen().is_empty());
}

#[tokio::test]
async fn one_delivery_longer_than_a_batch_is_answered_in_order() {
    let stage = Stage::new();
    stage.disk.fail("write", 1_234, Errno::FBIG);
    let outcomes = deliver(&stage.sink, (0..2_500).map(|at| delivery(1, at, b"x")).collect()).await;
    assert_eq!(letters(&outcomes), format!("{}R{}", "A".repeat(1_234), "A".repeat(1_265)));
    assert_eq!(stage.seen().len(), 2_499);
}

#[tokio::test]
async fn a_flush_of_one_collector_closes_the_batch_for_all() {
    let stage = Stage::new();
    let other = FileSink::new(&stage.root, Path::new("team/other")).unwrap();
    // All is in the queue before the first message is written, so that the batch cannot close for its age.
    stage.disk.hold("write");
    let receipts = [stage.sink.deliver(vec![delivery(1, 1, b"x")]).await, other.deliver(vec![delivery(1, 1, b"x")]).await];
    other.flush().await;
    stage.disk.release();
    for receipt in receipts {
        assert_eq!(letters(&receipt.outcomes(DEADLINE).await.unwrap()), "A");
    }
    let calls = stage.disk.calls();
    let last_write = calls.iter().rposition(|call| *call == "write");
    assert!(calls.iter().position(|call| *call == "sync file") > last_write, "one batch: {calls:?}");
}

#[tokio::test]
async fn a_batch_that_nobody_flushes_becomes_durable_by_itself() {
    let stage = Stage::new();
    let receipt = stage.sink.deliver(vec![delivery(1, 1, b"x")]).await;
    assert_eq!(letters(&receipt.outcomes(DEADLINE).await.unwrap()), "A");
}

#[tokio::test]
async fn one_batch_is_written_while_another_syncs() {
    let stage = Stage::new();
    stage.disk.hold("sync file");
    let first = stage.sink.deliver(vec![delivery(1, 1, b"x")]).await;
    stage.sink.flush().await;
    let second = stage.sink.deliver(vec![delivery(1, 2, b"x")]).await;
    stage.sink.flush().await;
    // Answered only after the second message is written, while the first still waits for its sync.
    stage.sink.ask(Command::Barrier).await.unwrap();
    assert_eq!(*stage.disk.calls(), ["open", "write", "open", "write"]);
    stage.disk.release();
    assert_eq!(letters(&first.outcomes(DEADLINE).await.unwrap()), "A");
    assert_eq!(letters(&second.outcomes(DEADLINE).await.unwrap()), "A");
}

#[tokio::test]
async fn the_queue_is_bounded_and_its_waiters_are_served_when_the_disk_goes_on() {
    let stage = Stage::new();
    let mut part = stage.sink.part(0).await.unwrap();
    stage.disk.hold("write");
    let chunk = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..QUEUE_BYTES >> 20 {
        stage.sink.append(&mut part, chunk.clone()).now_or_never().expect("room").unwrap();
    }
    assert!(stage.sink.append(&mut part, chunk.clone()).now_or_never().is_none(), "no room");
    assert!(stage.sink.deliver(vec![delivery(1, 1, b"")]).now_or_never().is_none(), "no room even for a small one");
    stage.disk.release();
    stage.sink.append(&mut part, chunk).await.unwrap();
    assert_eq!(part.length(), (QUEUE_BYTES as u64) + (1 << 20), "an append that was dropped while it waited did not happen");
    let outcomes = deliver(&stage.sink, vec![Delivery { body: Body::Part(part), ..delivery(1, 1, b"") }]).await;
    assert_eq!(letters(&outcomes), "A");
    assert_eq!(stage.seen().values().next().unwrap().len(), QUEUE_BYTES + (1 << 20));
}

#[tokio::test]
async fn when_the_writer_has_died_everybody_is_told() {
    let stage = Stage::new();
    let mut part = stage.sink.part(1).await.unwrap();
    let receipt = stage.sink.deliver(vec![delivery(1, 1, b"panic")]).await;
    assert!(matches!(receipt.outcomes(DEADLINE).await, Err(Error::Gone)));
    // The writer closes the queue as its last act.
    while !stage.sink.shared.room.is_closed() {
        tokio::task::yield_now().await;
    }
    let outcomes = deliver(&stage.sink, vec![delivery(1, 2, b"x"), delivery(1, 3, b"x")]).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deferred(error) if matches!(**error, Error::Gone))));
    assert_eq!(outcomes.len(), 2);
    assert!(matches!(stage.sink.append(&mut part, Bytes::from_static(b"x")).await, Err(Error::Gone)));
    assert!(matches!(stage.sink.part(1).await, Err(Error::Gone)));
    assert!(matches!(stage.sink.probe().await, Err(Error::Gone)));
}

#[test]
fn a_directory_that_is_not_plainly_below_the_root_is_refused() {
    let stage = Stage::new();
    for hostile in ["", ".", "/", "/etc", "..", "../x", "team/../../x", "team/.."] {
        let made = FileSink::new(&stage.root, Path::new(hostile));
        assert!(matches!(made, Err(Error::NotADirectory { .. })), "{hostile:?}");
    }
}

#[tokio::test]
async fn links_and_files_in_the_path_are_never_followed() {
    type Plant = fn(&Path, &Path);
    let plant: [(&str, Plant); 5] = [
        ("a link instead of the directory", |team, outside| symlink(outside, team.join("invoices")).unwrap()),
        ("a link instead of the one above", |team, outside| {
            fs::remove_dir(team).unwrap();
            symlink(outside, team).unwrap();
        }),
        ("a link to another team instead of the one above", |team, _| {
            fs::remove_dir(team).unwrap();
            fs::create_dir_all(team.with_file_name("rival/invoices")).unwrap();
            symlink("rival", team).unwrap();
        }),
        ("a link to a sibling", |team, _| {
            fs::create_dir(team.join("sibling")).unwrap();
            symlink("sibling", team.join("invoices")).unwrap();
        }),
        ("a file", |team, _| fs::write(team.join("invoices"), b"").unwrap()),
    ];
    for (what, plant) in plant {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("invoices")).unwrap();
        for delivered_before in [false, true] {
            let stage = Stage::new();
            let team = stage.folder.path().join("team");
            if delivered_before {
                assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x")]).await), "A");
                fs::rename(team.join("invoices"), stage.folder.path().join("elsewhere")).unwrap();
            } else {
                fs::create_dir(&team).unwrap();
            }
            plant(&team, outside.path());
            let outcomes = deliver(&stage.sink, vec![delivery(1, 2, b"x")]).await;
            assert!(
                matches!(&outcomes[0], Outcome::Deferred(error) if matches!(**error, Error::NotADirectory { .. })),
                "{what}: {outcomes:?}"
            );
            assert!(matches!(stage.sink.probe().await, Err(Error::NotADirectory { .. })), "{what}");
            assert!(matches!(stage.sink.part(1).await, Err(Error::NotADirectory { .. })), "{what}");
            assert!(matches!(stage.sink.survey().await, Err(Error::NotADirectory { .. })), "{what}");
            let there = fs::read_dir(stage.directory()).into_iter().flatten().map(|entry| entry.unwrap().path());
            assert_eq!(there.filter(|path| path.is_file()).count(), 0, "{what}");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{what}");
            assert_eq!(fs::read_dir(outside.path().join("invoices")).unwrap().count(), 0, "{what}");
        }
    }
}

#[tokio::test]
async fn a_planted_link_under_a_message_name_is_neither_followed_nor_compared() {
    let stage = Stage::new();
    stage.sink.probe().await.unwrap();
    let outside = stage.folder.path().join("secret");
    fs::write(&outside, b"same").unwrap();
    let name = file_name(&delivery(1, 1, b"").identity);
    symlink(&outside, stage.directory().join(name)).unwrap();
    stage.sink.survey().await.unwrap();
    assert!(stage.sink.identical(&delivery(1, 2, b"same")).await.unwrap().is_empty());
    deliver(&stage.sink, vec![delivery(1, 1, b"other")]).await;
    assert_eq!(fs::read(&outside).unwrap(), b"same");
}

#[tokio::test]
async fn a_directory_that_vanished_is_made_again() {
    let stage = Stage::new();
    assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x")]).await), "A");
    fs::remove_dir_all(stage.folder.path().join("team")).unwrap();
    assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x")]).await), "A");
    assert_eq!(stage.seen().len(), 1);
}

#[tokio::test]
async fn only_what_looks_like_a_message_is_surveyed() {
    let stage = Stage::new();
    assert_eq!(letters(&deliver(&stage.sink, vec![delivery(1, 1, b"x"), delivery(2, 2, b"y")]).await), "AA");
    for name in ["readme.txt", "0000000000000001-0000000000000003.txt", "0000000000000001-00000000000003.eml", ".x.eml"] {
        fs::write(stage.directory().join(name), b"x").unwrap();
    }
    assert_eq!(stage.sink.survey().await.unwrap(), 2);
}

#[tokio::test]
async fn temporaries_of_the_dead_are_swept_and_those_of_the_living_are_not() {
    let stage = Stage::with(Script::named(true));
    fs::create_dir_all(stage.directory()).unwrap();
    let make = |name: &str, age: u64| {
        let file = fs::File::create(stage.directory().join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    make(".mailbox-collector.tmp-0123456789abcdef-0", 7_200);
    make(".mailbox-collector.tmp-0123456789abcdef-1", 60);
    make(".somebody-else", 7_200);
    let part = stage.sink.part(1).await.unwrap();
    let mut hidden = stage.hidden();
    hidden.sort();
    assert_eq!(hidden.len(), 3, "{hidden:?}");
    assert!(hidden.contains(&".mailbox-collector.tmp-0123456789abcdef-1".to_owned()) && hidden.contains(&".somebody-else".to_owned()));
    drop(part);
    stage.sink.ask(Command::Barrier).await.unwrap();
    assert_eq!(stage.hidden().len(), 2, "the part's own is gone");
}

#[tokio::test]
async fn the_probe_tells_what_a_delivery_would_meet() {
    for error in [Errno::NOSPC, Errno::ROFS, Errno::ACCESS] {
        let stage = Stage::new();
        stage.disk.fail("open", 0, error);
        let Err(Error::Io { source, path, .. }) = stage.sink.probe().await else { panic!("no error") };
        assert_eq!((source.raw_os_error(), path.as_str()), (Some(error.raw_os_error()), "team/invoices"));
        stage.sink.probe().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_handed_over_before_the_end_is_still_delivered() {
    let Stage { folder, disk, root, sink } = Stage::new();
    let receipt = sink.deliver(vec![delivery(1, 1, b"x")]).await;
    drop((root, sink, disk));
    assert_eq!(letters(&receipt.outcomes(DEADLINE).await.unwrap()), "A");
    assert_eq!(fs::read_dir(folder.path().join("team/invoices")).unwrap().count(), 1);
}
