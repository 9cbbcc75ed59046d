//! What every sink must do, as rows that each sink's tests run against a sink of their own and a way to see what lies in it.
//! What only one kind of sink can get wrong is in that sink's tests.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;

use super::*;

/// What lies in a sink: bytes by name.
pub(crate) type Observe<'a> = &'a (dyn Fn() -> BTreeMap<String, Vec<u8>> + Sync);

/// Far beyond what any of this takes; a sink that hangs fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn delivery(fingerprint: u64, placement: u64, bytes: &[u8]) -> Delivery {
    let identity = Identity { fingerprint: fingerprint.to_be_bytes(), placement: placement.to_be_bytes() };
    Delivery { identity, internal_date: None, body: Body::Memory(Bytes::copy_from_slice(bytes)) }
}

fn parts(sink: &dyn Sink) -> &dyn OwnParts {
    sink.own_parts().unwrap()
}

fn copies(sink: &dyn Sink) -> &dyn Copies {
    sink.copies().unwrap()
}

/// Delivers, asks for durability, and waits for the outcomes.
pub(crate) async fn deliver(sink: &dyn Sink, batch: Vec<Delivery>) -> Vec<Outcome> {
    let receipt = sink.deliver(batch).await;
    sink.flush().await;
    receipt.outcomes(PATIENCE).await.unwrap()
}

/// `A`ccepted, `D`eferred, `R`ejected.
pub(crate) fn letters(outcomes: &[Outcome]) -> String {
    let letter = |outcome: &Outcome| match outcome {
        Outcome::Accepted => 'A',
        Outcome::Deferred(_) => 'D',
        Outcome::Rejected(_) => 'R',
    };
    outcomes.iter().map(letter).collect()
}

/// Bytes that differ at every length and place, with every byte value.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16) ^ length) as u8).collect()
}

pub(crate) async fn accepted_means_visible_with_exact_bytes(sink: &dyn Sink, observe: Observe<'_>) {
    let lengths = [0, 1, 2, 4_095, 4_096, 4_097, 262_144, 3 << 20];
    let batch = lengths.iter().enumerate().map(|(at, length)| delivery(1, at as u64, &pattern(*length))).collect();
    assert_eq!(letters(&deliver(sink, batch).await), "AAAAAAAA");
    let seen = observe();
    assert_eq!(seen.len(), lengths.len());
    for (at, length) in lengths.iter().enumerate() {
        assert!(seen[&delivery(1, at as u64, b"").identity.name()] == pattern(*length), "{length} bytes");
    }
}

pub(crate) async fn a_long_message_arrives_whole_by_parts(sink: &dyn Sink, observe: Observe<'_>) {
    let whole = pattern(64 << 20);
    let mut part = parts(sink).part(whole.len() as u64).await.unwrap();
    for chunk in whole.chunks(100_003) {
        parts(sink).append(&mut part, Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    assert!(observe().is_empty(), "a part is not visible");
    let long = Delivery { body: Body::Part(part), ..delivery(1, 1, b"") };
    let empty = Delivery { body: Body::Part(parts(sink).part(0).await.unwrap()), ..delivery(1, 2, b"") };
    let batch = vec![delivery(1, 0, b"before"), long, empty, delivery(1, 3, b"after")];
    assert_eq!(letters(&deliver(sink, batch).await), "AAAA");
    let seen = observe();
    let expected: [&[u8]; 4] = [b"before", &whole, b"", b"after"];
    for (at, expected) in expected.into_iter().enumerate() {
        assert!(seen[&delivery(1, at as u64, b"").identity.name()] == expected, "message {at}");
    }
}

pub(crate) async fn a_long_message_arrives_whole_from_the_spool(sink: &dyn Sink, observe: Observe<'_>) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), 64 << 20).unwrap();
    let lengths = [0, 262_145, (20 << 20) + 7];
    let mut batch = Vec::new();
    for (at, length) in lengths.into_iter().enumerate() {
        let mut draft = spool.begin(length as u64).await.unwrap();
        for chunk in pattern(length).chunks(100_003) {
            draft.append(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        batch.push(Delivery { body: Body::Spooled(draft.finish().await.unwrap()), ..delivery(1, at as u64, b"") });
    }
    assert_eq!(letters(&deliver(sink, batch).await), "AAA");
    let seen = observe();
    for (at, length) in lengths.into_iter().enumerate() {
        assert!(seen[&delivery(1, at as u64, b"").identity.name()] == pattern(length), "{length} bytes");
    }
}

pub(crate) async fn the_same_identity_has_one_effect(sink: &dyn Sink, observe: Observe<'_>) {
    assert_eq!(letters(&deliver(sink, vec![delivery(1, 1, b"first"), delivery(1, 1, b"rendered anew")]).await), "AA");
    assert_eq!(letters(&deliver(sink, vec![delivery(1, 1, b"once more"), delivery(1, 2, b"another")]).await), "AA");
    let seen = observe();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[&delivery(1, 1, b"").identity.name()], b"first", "the first accepted rendering stands");
}

pub(crate) async fn equal_bytes_at_two_placements_are_two_messages(sink: &dyn Sink, observe: Observe<'_>) {
    assert_eq!(letters(&deliver(sink, vec![delivery(1, 1, b"same"), delivery(1, 2, b"same")]).await), "AA");
    assert_eq!(observe().len(), 2);
}

pub(crate) async fn what_is_dropped_half_way_leaves_nothing(sink: &dyn Sink, observe: Observe<'_>) {
    let mut part = parts(sink).part(10).await.unwrap();
    parts(sink).append(&mut part, Bytes::from_static(b"12345")).await.unwrap();
    drop(part);
    drop(parts(sink).part(10));
    drop(sink.deliver(vec![delivery(1, 1, b"never polled")]));
    // Another delivery comes after all of it in the sink's queue.
    assert_eq!(letters(&deliver(sink, vec![delivery(1, 2, b"polled")]).await), "A");
    assert_eq!(observe().into_keys().collect::<Vec<_>>(), [delivery(1, 2, b"").identity.name()]);
}

pub(crate) async fn a_dropped_receipt_does_not_undo_the_delivery(sink: &dyn Sink, observe: Observe<'_>) {
    drop(sink.deliver(vec![delivery(1, 1, b"nobody waits")]).await);
    assert_eq!(letters(&deliver(sink, vec![delivery(1, 2, b"somebody waits")]).await), "A");
    assert_eq!(observe().len(), 2);
}

pub(crate) async fn an_empty_batch_is_answered(sink: &dyn Sink, observe: Observe<'_>) {
    let receipt = sink.deliver(Vec::new()).await;
    assert!(receipt.outcomes(PATIENCE).now_or_never().unwrap().unwrap().is_empty());
    assert!(observe().is_empty());
}

pub(crate) async fn copies_are_found_by_their_bytes(sink: &dyn Sink, _observe: Observe<'_>) {
    assert_eq!(copies(sink).survey().await.unwrap(), 0);
    let long = pattern(200_000);
    let mut other = long.clone();
    other[150_000] ^= 1;
    let batch = vec![delivery(1, 10, &long), delivery(1, 11, &long), delivery(1, 12, &other), delivery(2, 13, &long), delivery(1, 14, b"")];
    assert_eq!(letters(&deliver(sink, batch).await), "AAAAA");
    assert!(copies(sink).identical(&delivery(1, 99, &long)).await.unwrap().is_empty(), "as of the last survey");
    assert_eq!(copies(sink).survey().await.unwrap(), 5);
    let names = |placements: &[u64]| placements.iter().map(|placement| placement.to_be_bytes()).collect::<Vec<_>>();
    let cases: [(u64, &[u8], &[u64]); 5] = [(1, &long, &[10, 11]), (1, &other, &[12]), (2, &other, &[]), (3, &long, &[]), (1, b"", &[14])];
    for (fingerprint, bytes, expected) in cases {
        assert_eq!(copies(sink).identical(&delivery(fingerprint, 99, bytes)).await.unwrap(), names(expected));
        let mut part = parts(sink).part(bytes.len() as u64).await.unwrap();
        for chunk in bytes.chunks(70_000) {
            parts(sink).append(&mut part, Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        let by_part = Delivery { body: Body::Part(part), ..delivery(fingerprint, 99, b"") };
        assert_eq!(copies(sink).identical(&by_part).await.unwrap(), names(expected));
    }
}

pub(crate) async fn a_good_sink_passes_the_probe(sink: &dyn Sink, observe: Observe<'_>) {
    sink.probe().await.unwrap();
    assert!(observe().is_empty());
}
