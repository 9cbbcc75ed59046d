//! The spool's promises: exact bytes to several readers, a quota that holds, and nothing left behind.

use std::time::Duration;

use futures::future::join_all;

use super::*;
use crate::sink::conformance::pattern;

fn spool(quota: u64) -> (tempfile::TempDir, Spool) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), quota).unwrap();
    (folder, spool)
}

async fn put(spool: &Spool, bytes: &[u8], chunk: usize) -> Spooled {
    let mut draft = spool.begin(bytes.len() as u64).await.unwrap();
    for part in bytes.chunks(chunk) {
        draft.append(Bytes::copy_from_slice(part)).await.unwrap();
    }
    draft.finish().await.unwrap()
}

async fn get(spooled: &Spooled) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = spooled.read(all.len() as u64).await.unwrap();
        if bytes.is_empty() {
            return all;
        }
        all.extend_from_slice(&bytes);
    }
}

#[tokio::test]
async fn several_readers_at_once_get_the_exact_bytes() {
    let (_folder, spool) = spool(64 << 20);
    for length in [0, 1, READ - 1, READ, READ + 1, 3_000_001] {
        let bytes = pattern(length);
        let spooled = put(&spool, &bytes, 100_003).await;
        assert_eq!(spooled.length(), length as u64);
        let readers = (0..4).map(|_| {
            let spooled = spooled.clone();
            async move { get(&spooled).await }
        });
        assert!(join_all(readers).await.iter().all(|read| *read == bytes), "{length} bytes");
    }
}

#[tokio::test]
async fn a_message_waits_for_room_and_gets_it_when_another_leaves() {
    let (_folder, spool) = spool(1 << 20);
    let first = put(&spool, &pattern(900_000), 64 << 10).await;
    let second = tokio::spawn({
        let spool = spool.clone();
        async move { spool.begin(500_000).await }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(first);
    second.await.unwrap().unwrap();
    // An abandoned draft gives its room back as well.
    put(&spool, &pattern(1 << 20), 64 << 10).await;
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_in_time_is_told_how_much_there_is() {
    let (_folder, spool) = spool(1 << 20);
    let _kept = spool.begin(1 << 20).await.unwrap();
    let began = tokio::time::Instant::now();
    let Err(Error::SpoolFull { wanted: 8_192, quota: 1_048_576 }) = spool.begin(8_192).await else { panic!() };
    assert_eq!(began.elapsed(), ROOM_DEADLINE);
    // What never fits does not wait.
    assert!(matches!(spool.begin((1 << 20) + 1).await, Err(Error::SpoolFull { .. })));
    assert_eq!(began.elapsed(), ROOM_DEADLINE);
    assert!(ROOM_DEADLINE < Duration::from_secs(120), "within the deadline of a drain");
}

#[tokio::test]
async fn bytes_that_do_not_match_the_announced_length_are_an_error() {
    let (_folder, spool) = spool(1 << 20);
    let mut draft = spool.begin(10).await.unwrap();
    draft.append(Bytes::from_static(b"12345")).await.unwrap();
    assert!(draft.finish().await.is_err(), "too few");
    let mut draft = spool.begin(3).await.unwrap();
    assert!(draft.append(Bytes::from_static(b"12345")).await.is_err(), "too many");
}

#[tokio::test]
async fn the_directory_never_shows_a_file() {
    let (folder, spool) = spool(1 << 20);
    let spooled = put(&spool, &pattern(700_000), 1_000).await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(get(&spooled).await, pattern(700_000));
    let Err(Error::Io { .. }) = Spool::open(&folder.path().join("missing"), 1) else { panic!() };
}
