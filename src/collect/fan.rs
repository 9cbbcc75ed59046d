//! All sinks of a work order as one place to deliver to. Sinks that promise one effect come first, side by side; then the others one after the
//! other, each only with messages that no sink before it deferred. Each sink's answer is kept apart, so that a retry goes to those still owed.
//!
//! It tells what each sink said; what follows for the message is the drain's and the cursor's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::drain::SINK_DEADLINE;
use super::streak::{About, Streak};
use crate::sink::{self, Delivery, Outcome, OwnParts, Promise, Receipt, Sink, Spool};

/// A sink's failure, with the sink's name in the spec.
#[derive(Clone, Debug, thiserror::Error)]
#[error("sink {name}: {error}")]
pub(super) struct SinkFault {
    pub name: Arc<str>,
    pub error: Arc<sink::Error>,
}

/// One sink of the order.
pub(super) struct Branch {
    name: Arc<str>,
    pub sink: Arc<dyn Sink>,
    streak: Mutex<Streak>,
}

impl Branch {
    pub(super) fn new(name: &str, sink: Arc<dyn Sink>) -> Self {
        Self { name: name.into(), sink, streak: Mutex::default() }
    }

    pub(super) fn fault(&self, error: sink::Error) -> SinkFault {
        self.fault_of(Arc::new(error))
    }

    fn fault_of(&self, error: Arc<sink::Error>) -> SinkFault {
        SinkFault { name: Arc::clone(&self.name), error }
    }

    fn streak(&self) -> MutexGuard<'_, Streak> {
        self.streak.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sink's answer, or the lack of one, up to `within`.
    pub(super) async fn bounded<T>(&self, within: Duration, asked: impl Future<Output = Result<T, sink::Error>>) -> Result<T, SinkFault> {
        timeout(within, asked).await.unwrap_or(Err(sink::Error::Timeout)).map_err(|error| self.fault(error))
    }
}

/// What came of one message at all sinks.
#[derive(Debug)]
pub(super) struct Verdict<N> {
    pub note: N,
    /// The sinks that have it, by bit, earlier ones included.
    pub has: u8,
    pub said: Said,
}

/// Of those sinks that do not have it.
#[derive(Clone, Debug, Default)]
pub(super) enum Said {
    /// There are none.
    #[default]
    Nothing,
    /// One refuses the message, and none deferred it.
    Rejected,
    /// One takes nothing for now.
    Deferred,
}

/// Verdicts of one or more messages, and the sink's failure for which nothing more should come for now.
#[derive(Debug)]
pub(super) struct Verdicts<N> {
    pub verdicts: Vec<Verdict<N>>,
    pub stop: Option<SinkFault>,
}

/// A message on its way: what the caller notes of it, which sinks have it, whether it was refused before.
#[derive(Debug)]
pub(super) struct Parcel<N> {
    pub delivery: Delivery,
    pub note: N,
    pub has: u8,
    pub suspect: bool,
}

/// The sinks of an order.
pub(super) struct Fan {
    branches: Vec<Branch>,
    pub spool: Option<Spool>,
}

impl std::fmt::Debug for Fan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fan").field("sinks", &self.names()).finish_non_exhaustive()
    }
}

impl Fan {
    /// At most 8 sinks.
    pub(super) fn new(branches: Vec<Branch>, spool: Option<Spool>) -> Self {
        Self { branches, spool }
    }

    /// Bits of all sinks.
    pub(super) fn all(&self) -> u8 {
        self.branches.iter().enumerate().fold(0, |all, (at, _)| all | bit(at))
    }

    /// Names of the sinks, in the order of their bits.
    pub(super) fn names(&self) -> Vec<&str> {
        self.branches.iter().map(|branch| &*branch.name).collect()
    }

    pub(super) fn branches(&self) -> impl Iterator<Item = (u8, &Branch)> {
        self.branches.iter().enumerate().map(|(at, branch)| (bit(at), branch))
    }

    /// The only sink there is, where it promises one effect: batches go to it directly.
    pub(super) fn lone(&self) -> Option<&Branch> {
        match self.branches.as_slice() {
            [only] if only.sink.promise() == Promise::OneEffect => Some(only),
            _ => None,
        }
    }

    /// The only sink's own files.
    pub(super) fn own_parts(&self) -> Option<(&Branch, &dyn OwnParts)> {
        let lone = self.lone()?;
        Some((lone, lone.sink.own_parts()?))
    }

    /// A fault that is no single sink's, told as the first one's.
    pub(super) fn fault(&self, error: sink::Error) -> SinkFault {
        let name = self.branches.first().map_or_else(|| Arc::from("none"), |branch| Arc::clone(&branch.name));
        SinkFault { name, error: Arc::new(error) }
    }

    /// How many messages were refused before this process.
    pub(super) fn remember(&self, refusals: usize) {
        self.branches.iter().for_each(|branch| branch.streak().remember(refusals));
    }

    /// Asks every sink whether it would take mail now. The first fault counts.
    pub(super) async fn probe(&self) -> Result<(), SinkFault> {
        let probes = self.branches.iter().map(|branch| branch.bounded(SINK_DEADLINE, branch.sink.probe()));
        join_all(probes).await.into_iter().collect()
    }

    /// Whether a sink refuses message after message.
    pub(super) fn refuses(&self) -> bool {
        self.branches.iter().any(|branch| branch.streak().is_about_the_sink())
    }

    /// Nothing more is coming for now.
    pub(super) async fn flush(&self) {
        join_all(self.branches.iter().map(|branch| branch.sink.flush())).await;
    }

    /// Hands `parcels` to the only sink; [`Fan::answered`] reads what the receipt brings.
    pub(super) async fn deliver_alone<N>(&self, parcels: Vec<Parcel<N>>) -> Result<(Vec<(N, bool)>, Receipt), SinkFault> {
        let mut notes = Vec::with_capacity(parcels.len());
        let mut batch = Vec::with_capacity(parcels.len());
        for Parcel { delivery, note, suspect, .. } in parcels {
            notes.push((note, suspect));
            batch.push(delivery);
        }
        let Some(lone) = self.branches.first() else { return Err(self.fault(sink::Error::Gone)) };
        let handed = timeout(SINK_DEADLINE, lone.sink.deliver(batch)).await;
        handed.map(|receipt| (notes, receipt)).map_err(|_| lone.fault(sink::Error::Timeout))
    }

    /// What the only sink's outcomes come to.
    pub(super) fn answered<N>(&self, notes: Vec<(N, bool)>, outcomes: Result<Vec<Outcome>, sink::Error>) -> Verdicts<N> {
        let mut answers = Answers::new(self, notes.iter().map(|(_, suspect)| (0, *suspect)));
        if let Some(lone) = self.branches.first() {
            let whose: Vec<usize> = (0..notes.len()).collect();
            answers.hear(lone, bit(0), &whose, outcomes);
        }
        answers.stop_if_refused(self);
        answers.slice(0, notes.into_iter().map(|(note, _)| note))
    }

    /// Looks at what lies in the sinks that can tell, for the [`Fan::identical`] calls that follow. Whether anything does.
    pub(super) async fn survey(&self) -> Result<bool, SinkFault> {
        let mut any = false;
        for branch in &self.branches {
            if let Some(copies) = branch.sink.copies() {
                any |= branch.bounded(SINK_DEADLINE, copies.survey()).await? > 0;
            }
        }
        Ok(any)
    }

    /// The old copies of this message, by sink.
    pub(super) async fn identical(&self, delivery: &Delivery) -> Result<Vec<(u8, Vec<[u8; 8]>)>, SinkFault> {
        let mut found = Vec::new();
        for (bit, branch) in self.branches() {
            if let Some(copies) = branch.sink.copies() {
                found.push((bit, branch.bounded(SINK_DEADLINE, copies.identical(delivery)).await?));
            }
        }
        Ok(found)
    }

    /// Works through what comes from `parcels` until its sender is gone; every parcel gets its verdict. When `cancel` is cancelled, what no
    /// sink has begun is deferred.
    pub(super) async fn work<N: Send>(
        self: Arc<Self>,
        mut rounds: mpsc::UnboundedReceiver<Round<N>>,
        verdicts: mpsc::UnboundedSender<Verdicts<N>>,
        cancel: CancellationToken,
    ) {
        let at_once = self.branches.iter().filter_map(|branch| match branch.sink.promise() {
            Promise::OneEffect => None,
            Promise::AtLeastOnce { at_once } => Some(at_once.max(1)),
        });
        let slice = at_once.max().unwrap_or(usize::MAX);
        // Sinks that have deferred: offered nothing more by this drain.
        let mut closed: HashMap<u8, SinkFault> = HashMap::new();
        while let Some(Round { parcels, receipts }) = rounds.recv().await {
            let mut answers = Answers::new(&self, parcels.iter().map(|parcel| (parcel.has, parcel.suspect)));
            for (bit, whose, receipt) in receipts {
                let Some((_, branch)) = self.branches().find(|(this, _)| *this == bit) else { continue };
                let outcomes = receipt.outcomes(branch.sink.patience()).await;
                answers.hear(branch, bit, &whose, outcomes);
            }
            if parcels.is_empty() {
                continue;
            }
            let mut parcels = parcels;
            let mut from = 0;
            while !parcels.is_empty() {
                let rest = parcels.split_off(slice.min(parcels.len()));
                let here = std::mem::replace(&mut parcels, rest);
                for (bit, branch) in self.branches() {
                    let Promise::AtLeastOnce { at_once } = branch.sink.promise() else { continue };
                    let owed: Vec<usize> = (0..here.len()).filter(|at| answers.wants(from + at, bit)).collect();
                    for few in owed.chunks(at_once.max(1)) {
                        let whose: Vec<usize> = few.iter().map(|at| from + at).collect();
                        let outcomes = if let Some(fault) = closed.get(&bit) {
                            Ok(vec![Outcome::Deferred(Arc::clone(&fault.error)); few.len()])
                        } else if cancel.is_cancelled() {
                            Ok(vec![Outcome::Deferred(Arc::new(sink::Error::Gone)); few.len()])
                        } else {
                            let batch = few.iter().filter_map(|at| here.get(*at)?.delivery.share()).collect();
                            deliver(branch, batch).await
                        };
                        if let Some(fault) = answers.hear(branch, bit, &whose, outcomes) {
                            closed.entry(bit).or_insert(fault);
                        }
                    }
                }
                let length = here.len();
                if parcels.is_empty() {
                    closed.extend(answers.stop_if_refused(&self));
                }
                let done = answers.slice(from, here.into_iter().map(|parcel| parcel.note));
                from += length;
                if verdicts.send(done).is_err() {
                    return;
                }
            }
        }
    }

    /// Hands `parcels` to the sinks of the first row; the rest is [`Fan::work`]'s.
    pub(super) async fn begin<N>(&self, parcels: Vec<Parcel<N>>) -> Round<N> {
        let firsts = self.branches().filter(|(_, branch)| branch.sink.promise() == Promise::OneEffect);
        let handed = firsts.map(|(bit, branch)| {
            let whose: Vec<usize> = parcels.iter().enumerate().filter(|(_, parcel)| parcel.has & bit == 0).map(|(at, _)| at).collect();
            let batch = whose.iter().filter_map(|at| parcels.get(*at)?.delivery.share()).collect();
            async move {
                let receipt = match timeout(SINK_DEADLINE, branch.sink.deliver(batch)).await {
                    Ok(receipt) => receipt,
                    Err(_) => Receipt::of(vec![Outcome::Deferred(Arc::new(sink::Error::Timeout)); whose.len()]),
                };
                (bit, whose, receipt)
            }
        });
        let receipts = join_all(handed).await;
        Round { parcels, receipts }
    }
}

/// Parcels that the first row's sinks are working on.
pub(super) struct Round<N> {
    parcels: Vec<Parcel<N>>,
    /// By sink: for which parcels, and the answer to come.
    receipts: Vec<(u8, Vec<usize>, Receipt)>,
}

fn bit(at: usize) -> u8 {
    1_u8.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0)
}

async fn deliver(branch: &Branch, batch: Vec<Delivery>) -> Result<Vec<Outcome>, sink::Error> {
    let receipt = timeout(SINK_DEADLINE, branch.sink.deliver(batch)).await.map_err(|_| sink::Error::Timeout)?;
    receipt.outcomes(branch.sink.patience()).await
}

/// What the sinks have said so far of a batch.
struct Answers {
    all: u8,
    messages: Vec<Answer>,
    /// A sink deferred.
    stop: Option<SinkFault>,
    /// Sinks whose refusals were no more about the message, at least for a while.
    refusing: HashMap<u8, SinkFault>,
}

#[derive(Clone, Debug, Default)]
struct Answer {
    has: u8,
    suspect: bool,
    said: Said,
}

impl Answers {
    fn new(fan: &Fan, messages: impl Iterator<Item = (u8, bool)>) -> Self {
        let messages = messages.map(|(has, suspect)| Answer { has, suspect, said: Said::Nothing }).collect();
        Self { all: fan.all(), messages, stop: None, refusing: HashMap::new() }
    }

    /// Whether this message is still to be offered to the sink.
    fn wants(&self, at: usize, bit: u8) -> bool {
        self.messages.get(at).is_some_and(|answer| answer.has & bit == 0 && !matches!(answer.said, Said::Deferred))
    }

    /// Takes note of a sink's outcomes for the messages `whose`; one that is missing counts as deferred. The fault of a sink that deferred: it is
    /// offered nothing more for now.
    fn hear(&mut self, branch: &Branch, bit: u8, whose: &[usize], outcomes: Result<Vec<Outcome>, sink::Error>) -> Option<SinkFault> {
        let (outcomes, missing) = match outcomes {
            Ok(outcomes) => (outcomes, sink::Error::Gone),
            Err(error) => (Vec::new(), error),
        };
        let missing = Outcome::Deferred(Arc::new(missing));
        let mut outcomes = outcomes.into_iter();
        let mut closes = None;
        for at in whose {
            let outcome = outcomes.next().unwrap_or_else(|| missing.clone());
            let Some(answer) = self.messages.get_mut(*at) else { continue };
            match outcome {
                Outcome::Accepted => {
                    branch.streak().accepted();
                    answer.has |= bit;
                }
                Outcome::Deferred(error) => {
                    answer.said = Said::Deferred;
                    closes = Some(branch.fault_of(error));
                }
                Outcome::Rejected(error) => {
                    let about = branch.streak().refused(answer.suspect);
                    if about == About::Sink {
                        answer.said = Said::Deferred;
                    } else if !matches!(answer.said, Said::Deferred) {
                        answer.said = Said::Rejected;
                    }
                    if about != About::Message {
                        self.refusing.insert(bit, branch.fault(sink::Error::RefusesAll { last: error }));
                    }
                }
            }
        }
        if let Some(fault) = &closes {
            self.stop.get_or_insert_with(|| fault.clone());
        }
        closes
    }

    /// At the end of a batch: the sinks that refuse message after message still. A batch is offered to its end, for the one message that is
    /// accepted shows that the others were to blame.
    fn stop_if_refused(&mut self, fan: &Fan) -> HashMap<u8, SinkFault> {
        let mut refusing = std::mem::take(&mut self.refusing);
        refusing.retain(|bit, _| fan.branches().any(|(this, branch)| this == *bit && branch.streak().is_about_the_sink()));
        if let Some(fault) = refusing.values().next() {
            self.stop.get_or_insert_with(|| fault.clone());
        }
        refusing
    }

    /// The verdicts of the messages from `from` on, one a note.
    fn slice<N>(&self, from: usize, notes: impl Iterator<Item = N>) -> Verdicts<N> {
        let answers = self.messages.iter().skip(from);
        let verdict = |(answer, note): (&Answer, N)| {
            let said = if answer.has == self.all { Said::Nothing } else { answer.said.clone() };
            Verdict { note, has: answer.has, said }
        };
        let verdicts = answers.zip(notes).map(verdict).collect();
        Verdicts { verdicts, stop: self.stop.clone() }
    }
}
