//! From FETCH responses to the sinks' batches: the [`Intake`] of a drain. It names each message, holds back what is no message, hands batches
//! of 64 messages or 256 KiB to the sinks and keeps count of what is not answered yet. It never touches the cursor: the drain takes what is
//! settled with `take` and `next`.
//!
//! Memory: at most [`RECEIPTS`] batches to a lone sink that queues no more bytes than its own bound, or [`UNANSWERED`] messages and
//! [`UNANSWERED_BYTES`] to several; with the bound on tasks at work that is the pod's byte budget.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::drain::SINK_DEADLINE;
use super::fan::{Fan, Parcel, Round, Said, SinkFault, Verdict, Verdicts};
use crate::cursor::{MAX_CLAIMS, OwedReason, UidSet};
use crate::sink::identity::{Identity, Numbering};
use crate::sink::spool::Draft;
use crate::sink::substitute::{self, Examination, Suspicion};
use crate::sink::{self, Body, Delivery, Receipt, file};
use crate::source::{Absent, Head, Intake, Stop};

/// A batch is handed over at this many messages …
const BATCH_MESSAGES: usize = 64;
/// … or this many bytes.
const BATCH_BYTES: u64 = 256 * 1024;
/// Batches handed to a lone sink and not yet answered; beyond, the source waits for the sink.
const RECEIPTS: usize = 64;
/// Messages handed to several sinks, or to one that may do things twice, and not yet answered: so many may have to be remembered one by one.
const UNANSWERED: u64 = 256;
/// Bytes in memory of those.
const UNANSWERED_BYTES: u64 = 2 << 20;

/// What came of the messages since the last `take`.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Durable in every sink, with the fingerprint for the anchors.
    pub accepted: Vec<(u32, [u8; 8])>,
    /// Stood for by a copy that lay in the sinks under an older numbering.
    pub claimed: Vec<(u32, [u8; 8])>,
    /// Asked for and no message, or refused by a sink.
    pub owed: Vec<(u32, OwedReason)>,
    /// Taken by some sinks and deferred by another: which have it.
    pub partly: Vec<(u32, u8)>,
    /// The sinks that have a message which is owed.
    pub has: Vec<(u32, u8)>,
    /// Deferred, and no sink has it: as if it had not been fetched.
    pub again: Vec<u32>,
    /// A sink takes nothing for now.
    pub deferred: Option<SinkFault>,
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

/// What is remembered of messages that were tried before.
#[derive(Debug, Default)]
pub(super) struct Tried {
    /// The sinks that have an owed message.
    pub has: BTreeMap<u32, u8>,
    /// Owed because a sink refused them.
    pub refused: UidSet,
}

/// A message too long for memory, under way.
pub(super) struct Long {
    place: Place,
    examination: Examination,
}

enum Place {
    /// The only sink's own file.
    Own(file::Part),
    Spool(Draft),
    /// Longer than the whole spool.
    Nowhere,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    uid: u32,
    fingerprint: [u8; 8],
    size: u64,
    in_memory: u64,
    /// The old copy whose name it goes by.
    claimed: Option<[u8; 8]>,
}

/// Where batches go.
enum Line {
    /// One sink of one effect.
    Lone(VecDeque<(Vec<(Note, bool)>, Receipt)>),
    Several {
        rounds: mpsc::UnboundedSender<Round<Note>>,
        verdicts: mpsc::UnboundedReceiver<Verdicts<Note>>,
    },
}

/// The intake of one drain of one folder.
pub(super) struct Delivering {
    fan: Arc<Fan>,
    numbering: Numbering,
    reconcile: Option<Reconcile>,
    tried: Tried,
    batch: Vec<Parcel<Note>>,
    batch_bytes: u64,
    line: Line,
    unanswered: u64,
    unanswered_bytes: u64,
    settled: Settled,
    /// UIDs that the source gave, in whatever form, since the last `take_given`.
    given: UidSet,
    given_bytes: u64,
}

impl Delivering {
    /// `cancel`: when it is cancelled, sinks that may do things twice begin no further message.
    pub(super) fn new(
        fan: &Arc<Fan>,
        numbering: Numbering,
        reconcile: Option<Reconcile>,
        tried: Tried,
        cancel: &CancellationToken,
    ) -> Self {
        let line = if fan.lone().is_some() {
            Line::Lone(VecDeque::new())
        } else {
            let (rounds, received) = mpsc::unbounded_channel();
            let (answer, verdicts) = mpsc::unbounded_channel();
            // Ends when this intake is dropped, after the message in hand.
            tokio::spawn(Arc::clone(fan).work(received, answer, cancel.clone()));
            Line::Several { rounds, verdicts }
        };
        Self {
            fan: Arc::clone(fan),
            numbering,
            reconcile,
            tried,
            batch: Vec::with_capacity(BATCH_MESSAGES),
            batch_bytes: 0,
            line,
            unanswered: 0,
            unanswered_bytes: 0,
            settled: Settled::default(),
            given: UidSet::new(),
            given_bytes: 0,
        }
    }

    /// The UIDs given since the last call, and their bytes.
    pub(super) fn take_given(&mut self) -> (UidSet, u64) {
        (std::mem::take(&mut self.given), std::mem::take(&mut self.given_bytes))
    }

    /// Messages that may yet have to be remembered one by one, because some sinks have them and others do not.
    pub(super) fn unanswered(&self) -> u64 {
        match self.line {
            Line::Lone(_) => 0,
            Line::Several { .. } => self.unanswered + self.batch.len() as u64,
        }
    }

    /// What is settled by now, without waiting.
    pub(super) fn take(&mut self) -> Settled {
        loop {
            let verdicts = match &mut self.line {
                Line::Several { verdicts, .. } => verdicts.try_recv().ok(),
                Line::Lone(receipts) => match receipts.front_mut().and_then(|(_, Receipt(answer))| answer.now_or_never()) {
                    None => None,
                    Some(answer) => receipts.pop_front().map(|(notes, _)| self.fan.answered(notes, answer.map_err(|_| sink::Error::Gone))),
                },
            };
            let Some(verdicts) = verdicts else { break };
            self.note(verdicts);
        }
        std::mem::take(&mut self.settled)
    }

    /// Hands over what is left and asks for it to be made durable; `next` gives the answers then.
    pub(super) async fn finish(&mut self) {
        // A sink that has ended answers through the receipts, so its word here adds nothing.
        let _stopped = self.hand_over().await;
        if self.unanswered > 0 {
            self.fan.flush().await;
        }
    }

    /// After `finish`: what is settled next; `None` when everything is answered.
    pub(super) async fn next(&mut self) -> Option<Settled> {
        let known = self.take();
        if !known.is_empty() {
            return Some(known);
        }
        if self.unanswered == 0 {
            return None;
        }
        self.await_oldest().await;
        Some(self.take())
    }

    async fn hand_over(&mut self) -> Result<(), Stop> {
        if self.batch.is_empty() {
            return Ok(());
        }
        while self.is_full() {
            self.await_oldest().await;
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_MESSAGES));
        self.batch_bytes = 0;
        let (messages, bytes) = (batch.len() as u64, batch.iter().map(|parcel| parcel.note.in_memory).sum::<u64>());
        match &mut self.line {
            Line::Lone(receipts) => match self.fan.deliver_alone(batch).await {
                Ok(handed) => {
                    receipts.push_back(handed);
                    self.unanswered += messages;
                    self.unanswered_bytes += bytes;
                }
                Err(fault) => self.settled.deferred = Some(fault),
            },
            Line::Several { rounds, .. } => {
                let round = self.fan.begin(batch).await;
                if rounds.send(round).is_ok() {
                    self.unanswered += messages;
                    self.unanswered_bytes += bytes;
                } else {
                    self.settled.deferred = Some(self.fan.fault(sink::Error::Gone));
                }
            }
        }
        if self.settled.deferred.is_some() { Err(Stop) } else { Ok(()) }
    }

    fn is_full(&self) -> bool {
        match &self.line {
            Line::Lone(receipts) => receipts.len() >= RECEIPTS,
            Line::Several { .. } => self.unanswered >= UNANSWERED || self.unanswered_bytes >= UNANSWERED_BYTES,
        }
    }

    async fn await_oldest(&mut self) {
        let verdicts = match &mut self.line {
            // Each sink is waited for no longer than its patience, so that an answer comes.
            Line::Several { verdicts, .. } => verdicts.recv().await,
            Line::Lone(receipts) => {
                let Some((notes, Receipt(answer))) = receipts.pop_front() else { return };
                let answer = timeout(SINK_DEADLINE, answer).await;
                if answer.is_err() {
                    // The others hang on the same disk; each would be waited for as long.
                    receipts.clear();
                    self.unanswered = 0;
                    self.unanswered_bytes = 0;
                }
                let answer = answer.map_err(|_| sink::Error::Timeout).and_then(|answer| answer.map_err(|_| sink::Error::Gone));
                Some(self.fan.answered(notes, answer))
            }
        };
        match verdicts {
            Some(verdicts) => self.note(verdicts),
            None => {
                self.settled.deferred = Some(self.fan.fault(sink::Error::Gone));
                self.unanswered = 0;
                self.unanswered_bytes = 0;
            }
        }
    }

    fn note(&mut self, Verdicts { verdicts, stop }: Verdicts<Note>) {
        for Verdict { note, has, said } in verdicts {
            self.unanswered = self.unanswered.saturating_sub(1);
            self.unanswered_bytes = self.unanswered_bytes.saturating_sub(note.in_memory);
            let settled = &mut self.settled;
            match (said, note.claimed) {
                (Said::Nothing, None) => {
                    settled.accepted.push((note.uid, note.fingerprint));
                    settled.bytes += note.size;
                }
                (Said::Nothing, Some(old)) => settled.claimed.push((note.uid, old)),
                (Said::Deferred, _) if has == 0 => settled.again.push(note.uid),
                (Said::Deferred, _) => settled.partly.push((note.uid, has)),
                (Said::Rejected, _) => {
                    settled.owed.push((note.uid, OwedReason::Rejected));
                    settled.has.push((note.uid, has));
                }
            }
        }
        if stop.is_some() {
            self.settled.deferred = stop;
        }
    }

    async fn add(&mut self, head: Head, fingerprint: [u8; 8], body: Body) -> Result<(), Stop> {
        let has = self.tried.has.get(&head.uid).copied().unwrap_or(0);
        let suspect = self.tried.refused.contains(head.uid);
        let in_memory = if let Body::Memory(bytes) = &body { bytes.len() as u64 } else { 0 };
        let mut note = Note { uid: head.uid, fingerprint, size: head.size, in_memory, claimed: None };
        let placement = self.numbering.placement(head.uid);
        let mut delivery = Delivery { identity: Identity { fingerprint, placement }, internal_date: head.internal_date, body };
        let mut found = 0;
        if let Some((old, whose)) = self.stands_already(head.uid, &delivery).await? {
            // Also where copies are not looked up: one that knows the old name makes nothing new of it.
            (note.claimed, found, delivery.identity.placement) = (Some(old), whose, old);
        }
        if has | found == self.fan.all() {
            self.note(Verdicts { verdicts: vec![Verdict { note, has: has | found, said: Said::Nothing }], stop: None });
            return Ok(());
        }
        self.batch.push(Parcel { delivery, note, has: has | found, suspect });
        self.batch_bytes += head.size;
        if self.batch.len() >= BATCH_MESSAGES || self.batch_bytes >= BATCH_BYTES { self.hand_over().await } else { Ok(()) }
    }

    /// An older copy of this very message that no other message stands on, and the sinks that hold it.
    async fn stands_already(&mut self, uid: u32, delivery: &Delivery) -> Result<Option<([u8; 8], u8)>, Stop> {
        // At the bound of claims nothing more is claimed: a claim that is not recorded would be free again after a restart, for another message.
        if self.reconcile.as_ref().is_none_or(|reconcile| uid >= reconcile.below || reconcile.taken.len() >= MAX_CLAIMS) {
            return Ok(None);
        }
        let copies = self.fan.identical(delivery).await;
        let copies = self.sunk(copies)?;
        let Some(reconcile) = self.reconcile.as_mut() else { return Ok(None) };
        let free = |copy: &[u8; 8]| !reconcile.own.contains(copy) && !reconcile.taken.contains(copy);
        let found = copies.iter().flat_map(|(_, copies)| copies).copied().find(free);
        Ok(found.map(|copy| {
            reconcile.taken.insert(copy);
            (copy, copies.iter().filter(|(_, copies)| copies.contains(&copy)).fold(0, |all, (bit, _)| all | bit))
        }))
    }

    /// A sink that fails or hangs in mid-message defers everything that follows.
    fn sunk<T>(&mut self, answer: Result<T, SinkFault>) -> Result<T, Stop> {
        answer.map_err(|fault| {
            self.settled.deferred = Some(fault);
            Stop
        })
    }

    fn hold_back(&mut self, uid: u32, suspicion: Suspicion) {
        let reason = match suspicion {
            Suspicion::RetrievalFailed => OwedReason::Substitute,
            Suspicion::ScanInProgress => OwedReason::ScanPlaceholder,
        };
        self.settled.owed.push((uid, reason));
    }
}

impl Settled {
    fn is_empty(&self) -> bool {
        let Self { accepted, claimed, owed, partly, has, again, deferred, bytes: _ } = self;
        accepted.is_empty()
            && claimed.is_empty()
            && owed.is_empty()
            && partly.is_empty()
            && has.is_empty()
            && again.is_empty()
            && deferred.is_none()
    }
}

impl Intake for Delivering {
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
        let fan = Arc::clone(&self.fan);
        let place = if let Some((branch, parts)) = fan.own_parts() {
            let part = branch.bounded(SINK_DEADLINE, parts.part(length)).await;
            Place::Own(self.sunk(part)?)
        } else {
            match &fan.spool {
                Some(spool) if !spool.takes(length) => Place::Nowhere,
                Some(spool) => {
                    let draft = spool.begin(length).await.map_err(|error| fan.fault(error));
                    Place::Spool(self.sunk(draft)?)
                }
                // `validate` lets no such order through.
                None => Place::Nowhere,
            }
        };
        Ok(Long { place, examination: Examination::new() })
    }

    async fn chunk(&mut self, long: &mut Long, bytes: Bytes) -> Result<(), Stop> {
        long.examination.feed(&bytes);
        let fan = Arc::clone(&self.fan);
        let appended = match &mut long.place {
            Place::Own(part) => match fan.own_parts() {
                Some((branch, parts)) => branch.bounded(SINK_DEADLINE, parts.append(part, bytes)).await,
                None => Err(fan.fault(sink::Error::Gone)),
            },
            Place::Spool(draft) => draft.append(bytes).await.map_err(|error| fan.fault(error)),
            Place::Nowhere => Ok(()),
        };
        self.sunk(appended)
    }

    async fn end(&mut self, head: Head, long: Long) -> Result<(), Stop> {
        self.given.insert(head.uid);
        self.given_bytes += head.size;
        if let Some(suspicion) = long.examination.suspicion() {
            self.hold_back(head.uid, suspicion);
            return Ok(());
        }
        let body = match long.place {
            Place::Own(part) => Body::Part(part),
            Place::Spool(draft) => {
                let spooled = draft.finish().await.map_err(|error| self.fan.fault(error));
                Body::Spooled(self.sunk(spooled)?)
            }
            Place::Nowhere => {
                self.settled.owed.push((head.uid, OwedReason::TooLarge));
                return Ok(());
            }
        };
        let fingerprint = self.numbering.fingerprint(long.examination.header(), head.internal_date);
        self.add(head, fingerprint, body).await
    }

    fn absent(&mut self, uid: u32, what: Absent) {
        self.given.insert(uid);
        let reason = match what {
            Absent::Nil | Absent::Empty => OwedReason::Empty,
            Absent::TooLarge(_) => OwedReason::TooLarge,
        };
        self.settled.owed.push((uid, reason));
    }
}
