//! From FETCH responses to a sink's batches: the [`Intake`] of a drain. It names each message, holds back what is no message, hands batches
//! of 64 messages or 256 KiB to the sink and keeps the receipts. It never touches the cursor: the drain takes what is settled with `take`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::drain::SINK_DEADLINE;
use crate::cursor::{MAX_CLAIMS, OwedReason, UidSet};
use crate::diagnosis;
use crate::sink::identity::{Identity, Numbering};
use crate::sink::substitute::{self, Examination, Suspicion};
use crate::sink::{self, Body, Delivery, Outcome, Receipt, Sink, file};
use crate::source::{self, Absent, Head, Intake, Refusal, Step, Stop};

/// A batch is handed over at this many messages …
const BATCH_MESSAGES: usize = 64;
/// … or this many bytes.
const BATCH_BYTES: u64 = 256 * 1024;
/// Batches handed over and not yet answered; beyond, the source waits for the sink.
const RECEIPTS: usize = 64;

/// What came of the messages since the last `take`.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Durable in the sink, with the fingerprint for the anchors.
    pub accepted: Vec<(u32, [u8; 8])>,
    /// Stood for by a copy that lay in the sink under an older numbering: that copy's placement, and the fingerprint.
    pub claimed: Vec<(u32, [u8; 8], [u8; 8])>,
    /// Asked for and no message, or refused by the sink.
    pub owed: Vec<(u32, OwedReason)>,
    /// The sink takes nothing for now.
    pub deferred: Option<Arc<sink::Error>>,
    /// Bytes of the accepted messages.
    pub bytes: u64,
}

/// Which older copies may stand for a message of this numbering.
pub(super) struct Reconcile {
    /// UIDs below this one may lie in the sink under an older numbering.
    pub below: u32,
    /// Old copies that already stand for a message.
    pub taken: HashSet<[u8; 8]>,
    /// Placements of this very numbering: two UIDs of one epoch are two messages, always.
    pub own: Arc<HashSet<[u8; 8]>>,
}

/// A message too long for memory, under way.
pub(super) struct Long {
    part: file::Part,
    examination: Examination,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    uid: u32,
    fingerprint: [u8; 8],
    size: u64,
}

/// The intake of one drain of one folder.
pub(super) struct Delivering<'a> {
    sink: &'a dyn Sink,
    numbering: Numbering,
    reconcile: Option<Reconcile>,
    batch: Vec<Delivery>,
    notes: Vec<Note>,
    batch_bytes: u64,
    receipts: VecDeque<(Vec<Note>, Receipt)>,
    settled: Settled,
    /// UIDs that the source gave, in whatever form, since the last `take_given`.
    given: UidSet,
    given_bytes: u64,
    /// A refusal that tells of the server's own trouble rather than of a message.
    refusal: Option<source::Error>,
}

impl<'a> Delivering<'a> {
    pub(super) fn new(sink: &'a dyn Sink, numbering: Numbering, reconcile: Option<Reconcile>) -> Self {
        Self {
            sink,
            numbering,
            reconcile,
            batch: Vec::with_capacity(BATCH_MESSAGES),
            notes: Vec::with_capacity(BATCH_MESSAGES),
            batch_bytes: 0,
            receipts: VecDeque::new(),
            settled: Settled::default(),
            given: UidSet::new(),
            given_bytes: 0,
            refusal: None,
        }
    }

    /// The UIDs given since the last call, and their bytes.
    pub(super) fn take_given(&mut self) -> (UidSet, u64) {
        (std::mem::take(&mut self.given), std::mem::take(&mut self.given_bytes))
    }

    /// The server's own trouble, where it refused single messages for it.
    pub(super) fn take_refusal(&mut self) -> Option<source::Error> {
        self.refusal.take()
    }

    /// What is settled by now, without waiting.
    pub(super) fn take(&mut self) -> Settled {
        while let Some((_, Receipt(answer))) = self.receipts.front_mut() {
            let Some(answer) = answer.now_or_never() else { break };
            if let Some((notes, _)) = self.receipts.pop_front() {
                self.note(&notes, answer.ok());
            }
        }
        std::mem::take(&mut self.settled)
    }

    /// Hands over what is left and waits until everything is answered.
    pub(super) async fn finish(&mut self) -> Settled {
        // A sink that has ended answers through the receipts, so its word here adds nothing.
        let _stopped = self.hand_over().await;
        if !self.receipts.is_empty() {
            self.sink.flush().await;
        }
        while !self.receipts.is_empty() {
            self.await_oldest().await;
        }
        std::mem::take(&mut self.settled)
    }

    async fn hand_over(&mut self) -> Result<(), Stop> {
        if self.batch.is_empty() {
            return Ok(());
        }
        while self.receipts.len() >= RECEIPTS {
            self.await_oldest().await;
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_MESSAGES));
        let notes = std::mem::replace(&mut self.notes, Vec::with_capacity(BATCH_MESSAGES));
        self.batch_bytes = 0;
        match timeout(SINK_DEADLINE, self.sink.deliver(batch)).await {
            Ok(receipt) => self.receipts.push_back((notes, receipt)),
            Err(_) => self.settled.deferred = Some(Arc::new(sink::Error::Timeout)),
        }
        if self.settled.deferred.is_some() { Err(Stop) } else { Ok(()) }
    }

    async fn await_oldest(&mut self) {
        let Some((notes, Receipt(answer))) = self.receipts.pop_front() else { return };
        match timeout(SINK_DEADLINE, answer).await {
            Ok(answer) => self.note(&notes, answer.ok()),
            Err(_) => {
                self.settled.deferred = Some(Arc::new(sink::Error::Timeout));
                // The others hang on the same disk; each would be waited for as long.
                self.receipts.clear();
            }
        }
    }

    fn note(&mut self, notes: &[Note], answer: Option<Vec<Outcome>>) {
        let Some(outcomes) = answer else {
            self.settled.deferred = Some(Arc::new(sink::Error::Gone));
            return;
        };
        for (note, outcome) in notes.iter().zip(outcomes) {
            match outcome {
                Outcome::Accepted => {
                    self.settled.accepted.push((note.uid, note.fingerprint));
                    self.settled.bytes += note.size;
                }
                Outcome::Deferred(error) => self.settled.deferred = Some(error),
                Outcome::Rejected(_) => self.settled.owed.push((note.uid, OwedReason::Rejected)),
            }
        }
    }

    async fn add(&mut self, head: Head, fingerprint: [u8; 8], body: Body) -> Result<(), Stop> {
        let placement = self.numbering.placement(head.uid);
        let delivery = Delivery { identity: Identity { fingerprint, placement }, internal_date: head.internal_date, body };
        if let Some(old) = self.stands_already(head.uid, &delivery).await? {
            self.settled.claimed.push((head.uid, old, fingerprint));
            return Ok(());
        }
        self.batch.push(delivery);
        self.notes.push(Note { uid: head.uid, fingerprint, size: head.size });
        self.batch_bytes += head.size;
        if self.batch.len() >= BATCH_MESSAGES || self.batch_bytes >= BATCH_BYTES { self.hand_over().await } else { Ok(()) }
    }

    /// An older copy of this very message that no other message stands on.
    async fn stands_already(&mut self, uid: u32, delivery: &Delivery) -> Result<Option<[u8; 8]>, Stop> {
        // At the bound of claims nothing more is claimed: a claim that is not recorded would be free again after a restart, for another message.
        if self.reconcile.as_ref().is_none_or(|reconcile| uid >= reconcile.below || reconcile.taken.len() >= MAX_CLAIMS) {
            return Ok(None);
        }
        let copies = timeout(SINK_DEADLINE, self.sink.identical(delivery)).await;
        let copies = self.sunk(copies)?;
        let Some(reconcile) = self.reconcile.as_mut() else { return Ok(None) };
        let free = copies.into_iter().find(|copy| !reconcile.own.contains(copy) && !reconcile.taken.contains(copy));
        if let Some(copy) = &free {
            reconcile.taken.insert(*copy);
        }
        Ok(free)
    }

    /// A sink that fails or hangs in mid-message defers everything that follows.
    fn sunk<T>(&mut self, answer: Result<Result<T, sink::Error>, Elapsed>) -> Result<T, Stop> {
        let error = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => sink::Error::Timeout,
        };
        self.settled.deferred = Some(Arc::new(error));
        Err(Stop)
    }

    fn hold_back(&mut self, uid: u32, suspicion: Suspicion) {
        let reason = match suspicion {
            Suspicion::RetrievalFailed => OwedReason::Substitute,
            Suspicion::ScanInProgress => OwedReason::ScanPlaceholder,
        };
        self.settled.owed.push((uid, reason));
    }
}

impl Intake for Delivering<'_> {
    type Part = Long;

    async fn whole(&mut self, head: Head, body: Bytes) -> Result<(), Stop> {
        self.given.insert(head.uid);
        self.given_bytes += head.size;
        if let Some(suspicion) = substitute::suspicion(&body) {
            self.hold_back(head.uid, suspicion);
            return Ok(());
        }
        let fingerprint = self.numbering.fingerprint(&body, head.internal_date);
        self.add(head, fingerprint, Body::Memory(body)).await
    }

    async fn begin(&mut self, length: u64) -> Result<Long, Stop> {
        let part = timeout(SINK_DEADLINE, self.sink.part(length)).await;
        Ok(Long { part: self.sunk(part)?, examination: Examination::new() })
    }

    async fn chunk(&mut self, long: &mut Long, bytes: Bytes) -> Result<(), Stop> {
        long.examination.feed(&bytes);
        let appended = timeout(SINK_DEADLINE, self.sink.append(&mut long.part, bytes)).await;
        self.sunk(appended)
    }

    async fn end(&mut self, head: Head, long: Long) -> Result<(), Stop> {
        self.given.insert(head.uid);
        self.given_bytes += head.size;
        if let Some(suspicion) = long.examination.suspicion() {
            self.hold_back(head.uid, suspicion);
            return Ok(());
        }
        let fingerprint = self.numbering.fingerprint(long.examination.header(), head.internal_date);
        self.add(head, fingerprint, Body::Part(long.part)).await
    }

    fn absent(&mut self, uid: u32, what: Absent) {
        let reason = match what {
            Absent::Nil | Absent::Empty => OwedReason::Empty,
            Absent::TooLarge(_) => OwedReason::TooLarge,
            Absent::Refused { code, text } if diagnosis::is_incident(code.as_deref(), &text) => {
                self.refusal = Some(source::Error::Refused { step: Step::Fetch, refusal: Refusal::No, code, text });
                return;
            }
            Absent::Refused { .. } => OwedReason::NotReceived,
        };
        self.given.insert(uid);
        self.settled.owed.push((uid, reason));
    }
}
