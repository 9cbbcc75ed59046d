//! One folder's part of a cursor: what each UID of the present numbering is, and what follows from a listing. Pure: no I/O, no clock.
//! Bounds over the whole cursor are its parent's.

mod attempts;
mod named;
mod numbering;
mod record;
mod verbs;

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

pub use self::attempts::Ended;
pub use self::named::{ABSENCE_LASTS, NamedListing};
pub use self::numbering::{Epoch, Numbering, Recognised, Sighting};
use self::record::Stored;
use super::stored::{Claims, hex8};
use super::{Names, UidSet};

/// Most old copies that may stand for messages of the present numbering.
pub const MAX_CLAIMS: usize = 8_000;
/// Anchors kept.
pub const MAX_ANCHORS: usize = 32;
/// Gaps among so many of the newest UIDs are not believed at once: a server may show UID 101 before UID 100.
pub const YOUNG: u32 = 200;
/// How long a young gap must last before a second listing closes it.
pub const GAP_LASTS: SignedDuration = SignedDuration::from_mins(10);
/// Longest pause between two tries of an owed message.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// Within this time a session that fails in mid-message may be the server's or the network's fault.
const INCIDENT_LASTS: SignedDuration = SignedDuration::from_hours(1);
/// How long an attachment scanner's placeholder may stand before the message is quarantined.
const SCAN_LASTS: SignedDuration = SignedDuration::from_hours(24);

/// Why a message that was listed is not delivered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OwedReason {
    /// The server answered OK without the message, or with `NIL`.
    NotReceived,
    /// A body of no bytes.
    Empty,
    /// Exchange sent a text of its own instead ("Retrieval using the IMAP4 protocol failed").
    Substitute,
    /// An attachment is a "Safe Attachments Scan In Progress" placeholder.
    ScanPlaceholder,
    /// Longer than the work order allows.
    TooLarge,
    /// Fetched alone, it ended the session.
    SessionFailed,
    /// Fetched alone, it ended the process: an attempt was recorded, and nothing came of it.
    ProcessEnded,
    /// A sink refuses this message.
    Rejected,
    /// Some sinks have it and another takes nothing for now. Nobody's fault, so that it is tried as often as it takes.
    Deferred,
    /// Several messages bear the same unique-id (POP3).
    SharedName,
}

impl OwedReason {
    /// Whether the message is quarantined after `attempts`, the first of which was at `since`.
    fn exhausted(self, attempts: u32, since: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::TooLarge | Self::SharedName => true,
            // What ends sessions may be an incident of the server's as well, and those last: several tries over at least an hour.
            // A process that ends takes other mailboxes with it.
            Self::ProcessEnded => attempts >= 3,
            Self::SessionFailed => attempts >= 3 && now.duration_since(since) >= INCIDENT_LASTS,
            Self::ScanPlaceholder => now.duration_since(since) >= SCAN_LASTS,
            Self::Deferred => false,
            Self::NotReceived | Self::Empty | Self::Substitute | Self::Rejected => attempts >= 5,
        }
    }
}

/// A message listed and not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owed {
    /// Its UID.
    pub uid: u32,
    /// Why, the last time.
    pub reason: OwedReason,
    /// Tries so far; counted before a suspect is fetched.
    pub attempts: u32,
    /// The first failure.
    pub since: Timestamp,
    /// The next try, not before.
    pub next: Timestamp,
    /// An attempt was counted and is under way; whoever reads this from a record knows that its process ended in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trying: bool,
    /// The sinks that have it already, by bit: see [`super::Cursor::serve`].
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub has: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none_of_them(has: &u8) -> bool {
    *has == 0
}

/// A message given up until a person replays or discards it. It is decided, and stays untouched on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    /// Its UID.
    pub uid: u32,
    /// Why, the last time.
    pub reason: OwedReason,
    /// Tries before it was given up.
    pub attempts: u32,
    /// When it was given up.
    pub time: Timestamp,
    /// The sinks that have it nevertheless, by bit: see [`super::Cursor::serve`].
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub has: u8,
}

/// What came of [`Folder::owe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a quarantined message is to be told of"]
pub enum Owe {
    /// To be tried again.
    Again {
        /// Not before.
        next: Timestamp,
    },
    /// Given up.
    Quarantined {
        /// Tries in all.
        attempts: u32,
    },
}

/// One of the last decided messages, by which a numbering can be recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Anchor {
    /// Its UID.
    pub uid: u32,
    /// First 8 bytes of its fingerprint.
    #[serde(with = "hex8")]
    pub fingerprint: [u8; 8],
}

/// Where a numbering was first met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// UIDNEXT then; messages below it may lie in the sink under another name. `None`: the server did not say, so any may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid_next: Option<u32>,
    /// When the folder was first met, in whatever numbering.
    pub time: Timestamp,
}

/// What is remembered of one folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "Stored")]
pub struct Folder {
    name: String,
    key: String,
    uid_validity: u32,
    /// `None`: that of `uid_validity`, in its first turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    /// Covers the owed UIDs as well: they are its exceptions, so that scattered ones do not break it into ranges.
    decided: UidSet,
    #[serde(serialize_with = "owed_as_list", skip_serializing_if = "BTreeMap::is_empty")]
    owed: BTreeMap<u32, Owed>,
    #[serde(skip_serializing_if = "UidSet::is_empty")]
    unsettled: UidSet,
    /// The fetch under way, while one of its messages may be what ended the process before.
    #[serde(skip_serializing_if = "UidSet::is_empty")]
    trying: UidSet,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quarantined: Vec<Quarantined>,
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    anchors: VecDeque<Anchor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Baseline>,
    #[serde(rename = "claimed", skip_serializing_if = "Claims::is_empty")]
    claims: Claims,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Names>,
    #[serde(skip)]
    seen: Seen,
}

impl Folder {
    pub(super) fn new(name: &str, key: String) -> Self {
        Self {
            name: name.to_owned(),
            key,
            uid_validity: 0,
            epoch: None,
            decided: UidSet::new(),
            owed: BTreeMap::new(),
            unsettled: UidSet::new(),
            trying: UidSet::new(),
            quarantined: Vec::new(),
            anchors: VecDeque::new(),
            baseline: None,
            claims: Claims::default(),
            names: None,
            seen: Seen::default(),
        }
    }

    /// The folder's name, UTF-8.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that goes into placements: the first one that the folder had, unless another folder had it before.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// The validity of the numbering remembered; 0 before the first.
    pub fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    /// Decided UIDs, and the owed ones among them: what is never to be listed as new work.
    pub fn decided(&self) -> &UidSet {
        &self.decided
    }

    /// Owed messages by UID.
    pub fn owed(&self) -> &BTreeMap<u32, Owed> {
        &self.owed
    }

    /// Messages delivered and recorded, and not yet seen to be moved, marked or deleted.
    pub fn unsettled(&self) -> &UidSet {
        &self.unsettled
    }

    /// Quarantined messages, in the order in which they were given up.
    pub fn quarantined(&self) -> &[Quarantined] {
        &self.quarantined
    }

    /// The last decided messages, oldest first.
    pub fn anchors(&self) -> impl Iterator<Item = &Anchor> {
        self.anchors.iter()
    }

    /// Where the present numbering was first met.
    pub fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_ref()
    }

    /// Whether the sink may hold this message under the name of another numbering: it was there when the present one was first met.
    pub fn must_reconcile(&self, uid: u32) -> bool {
        self.baseline.as_ref().and_then(|baseline| baseline.uid_next).is_none_or(|next| uid < next)
    }

    /// The UIDs of `1..=top` that are neither decided nor owed: where a listing must look.
    pub fn undecided(&self, top: u32) -> UidSet {
        UidSet::from_range(1, top).difference(&self.decided).difference(&self.seen.closed)
    }

    /// Takes note of a COMPLETE listing of `low..=high`, and returns the work in it: what is listed, not decided and not owed.
    ///
    /// What the window lacks up to the highest UID ever listed is decided, for it will never come; but a gap among the newest [`YOUNG`] UIDs
    /// only if a second listing, [`GAP_LASTS`] after the first, lacks it still. Owed UIDs that are gone are decided at once.
    ///
    /// A gap is stored once it touches a decided message: the gaps between thousands of messages that are still to be taken would be as many
    /// ranges. Until then it is kept in memory, and listed again after a restart.
    pub fn listed(&mut self, low: u32, high: u32, listed: &UidSet, now: Timestamp) -> UidSet {
        let window = UidSet::from_range(low, high);
        let listed = listed.intersection(&window);
        let top = self.highest().max(listed.last().unwrap_or(0));
        self.seen.highest = top;

        self.owed.retain(|uid, _| !window.contains(*uid) || listed.contains(*uid));
        // Moved or removed, by us or by somebody else.
        self.unsettled = self.unsettled.difference(&window.difference(&listed));

        // What is there after all was no gap.
        self.seen.closed = self.seen.closed.difference(&listed);
        let lacking = window.intersection(&UidSet::from_range(1, top)).difference(&listed).difference(&self.decided);
        let first_young = top.saturating_sub(YOUNG) + 1;
        self.seen.gaps.retain(|uid, _| *uid >= first_young && !listed.contains(*uid));
        let mut closed = lacking.intersection(&UidSet::from_range(1, first_young - 1));
        for uid in lacking.intersection(&UidSet::from_range(first_young, top)).iter() {
            let since = *self.seen.gaps.entry(uid).or_insert(now);
            if now.duration_since(since) >= GAP_LASTS {
                closed.insert(uid);
            }
        }
        self.seen.gaps.retain(|uid, _| !closed.contains(*uid));
        self.seen.closed = self.seen.closed.union(&closed);
        self.cover(&UidSet::new());
        self.drop_claims_when_done();
        listed.difference(&self.decided)
    }

    /// The part of `work` that lies below the highest decided UID: taking it never adds a range.
    pub fn between(&self, work: &UidSet) -> UidSet {
        work.intersection(&UidSet::from_range(1, self.decided.last().unwrap_or(0)))
    }

    /// Decides `uids`: every sink durably accepted them, or they are none of our business. Owed ones are owed no more.
    pub fn decide(&mut self, uids: &UidSet) {
        if !self.owed.is_empty() {
            self.owed.retain(|uid, _| !uids.contains(*uid));
        }
        self.cover(uids);
        self.drop_claims_when_done();
    }

    /// As [`Folder::decide`], for messages that are still to be moved, marked or deleted. One record holds both, and only who wrote it may
    /// settle (law 3).
    pub fn delivered(&mut self, uids: &UidSet) {
        self.decide(uids);
        self.unsettled = self.unsettled.union(uids);
    }

    /// Forgets unsettled messages: a listing made after they were settled shows them so, or nobody wants them settled any more.
    pub fn settled(&mut self, uids: &UidSet) {
        self.unsettled = self.unsettled.difference(uids);
    }

    /// Whether nothing more is to be done for this UID.
    pub fn is_decided(&self, uid: u32) -> bool {
        self.decided.contains(uid) && !self.owed.contains_key(&uid)
    }

    /// Notes that this message was tried once more and is not delivered. Never bounded here: ask [`super::Cursor::room`] before taking work.
    ///
    /// The next try comes after 1 min · 2^(attempts − 1), at most 1 h. It is quarantined instead after 5 attempts, after at least 3 over an
    /// hour where it ends sessions, at once where it is too large, and for the scan placeholder after 24 h whatever the attempts.
    pub fn owe(&mut self, uid: u32, reason: OwedReason, now: Timestamp) -> Owe {
        let now = whole_seconds(now);
        let before = self.owed.remove(&uid);
        let has = before.as_ref().map_or(0, |owed| owed.has);
        let since = before.as_ref().filter(|owed| owed.reason != OwedReason::Deferred).map_or(now, |owed| owed.since);
        let attempts = match before {
            Some(Owed { trying: true, attempts, .. }) => attempts,
            // Tries that met the placeholder say nothing about another fault.
            Some(Owed { reason: OwedReason::ScanPlaceholder, .. }) if reason != OwedReason::ScanPlaceholder => 1,
            Some(owed) => owed.attempts.saturating_add(1),
            None => 1,
        };
        self.cover(&UidSet::from_range(uid, uid));
        self.unsettled.remove(uid);
        if reason.exhausted(attempts, since, now) {
            self.quarantined.retain(|quarantined| quarantined.uid != uid);
            self.quarantined.push(Quarantined { uid, reason, attempts, time: now, has });
            self.drop_claims_when_done();
            return Owe::Quarantined { attempts };
        }
        let next = after_pause(attempts, now);
        self.owed.insert(uid, Owed { uid, reason, attempts, since, next, trying: false, has });
        Owe::Again { next }
    }

    /// Notes that the sinks in `has` have an owed or quarantined message, whatever the others said of it.
    pub fn delivered_to(&mut self, uid: u32, has: u8) {
        if let Some(owed) = self.owed.get_mut(&uid) {
            owed.has |= has;
        } else if let Some(quarantined) = self.quarantined.iter_mut().find(|quarantined| quarantined.uid == uid) {
            quarantined.has |= has;
        }
    }

    /// Some sinks have the message and another took nothing: owed, due at once, and no try of it counts.
    pub fn defer(&mut self, uid: u32, has: u8, now: Timestamp) {
        // Not rounded up: it is due now.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        self.cover(&UidSet::from_range(uid, uid));
        let fresh = Owed { uid, reason: OwedReason::Deferred, attempts: 0, since: now, next: now, trying: false, has: 0 };
        self.owed.entry(uid).or_insert(fresh).has |= has;
    }

    /// The owed messages that some sinks have and others took nothing of: to be delivered before anything else is begun.
    pub fn deferred(&self) -> UidSet {
        self.owed.values().filter(|owed| owed.reason == OwedReason::Deferred).map(|owed| owed.uid).collect()
    }

    /// Turns each set of sinks into that of the present order; `to` gives a bit's new one.
    pub(super) fn renumber_sinks(&mut self, to: &[u8]) {
        let renumber = |has: u8| to.iter().enumerate().filter(|(bit, _)| has & (1 << bit) != 0).fold(0, |new, (_, to)| new | to);
        self.owed.values_mut().for_each(|owed| owed.has = renumber(owed.has));
        self.quarantined.iter_mut().for_each(|quarantined| quarantined.has = renumber(quarantined.has));
    }

    /// Whether anything is remembered of single sinks.
    pub(super) fn speaks_of_sinks(&self) -> bool {
        self.owed.values().any(|owed| owed.has != 0) || self.quarantined.iter().any(|quarantined| quarantined.has != 0)
    }

    /// Owed messages whose next try has come. One set further ahead than any pause is due as well: the clock was wrong when it was written.
    pub fn due(&self, now: Timestamp) -> UidSet {
        let latest = now.checked_add(LONGEST_PAUSE).unwrap_or(Timestamp::MAX);
        self.owed.values().filter(|owed| owed.next <= now || owed.next > latest).map(|owed| owed.uid).collect()
    }

    /// When the next owed message becomes due; `None` where none is owed.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.owed.values().map(|owed| owed.next).min()
    }

    /// Remembers a decided message as one by which the numbering can be recognised; the last [`MAX_ANCHORS`] are kept.
    pub fn anchor(&mut self, uid: u32, fingerprint: [u8; 8]) {
        self.anchors.retain(|anchor| anchor.uid != uid);
        self.anchors.push_back(Anchor { uid, fingerprint });
        named::thin(&mut self.anchors, self.names.is_some());
    }

    /// Lets the old copy `placement` stand for one message of this numbering. False where it stands for another already, or [`MAX_CLAIMS`] are
    /// reached: then the message is to be delivered, for an extra copy is no loss.
    ///
    /// Kept in the cursor because two UIDs of one numbering are two messages always, also across a crash: without this, one old copy could
    /// stand for two. Forgotten once every UID below the baseline is decided.
    pub fn claim(&mut self, placement: [u8; 8]) -> bool {
        self.claims.0.len() < MAX_CLAIMS && self.claims.0.insert(placement)
    }

    /// The old copies that stand for a message already.
    pub fn claims(&self) -> impl Iterator<Item = [u8; 8]> + '_ {
        self.claims.0.iter().copied()
    }

    /// The highest UID known to have been given out.
    fn highest(&self) -> u32 {
        self.seen.highest.max(self.decided.last().unwrap_or(0))
    }

    fn cover(&mut self, uids: &UidSet) {
        match uids.ranges() {
            [] => {}
            [(low, high)] => self.decided.insert_range(*low, *high),
            [_, _, ..] => self.decided = self.decided.union(uids),
        }
        if !self.seen.closed.is_empty() {
            let together = self.decided.union(&self.seen.closed);
            self.decided = together.ranges_meeting(&self.decided);
            self.seen.closed = self.seen.closed.difference(&self.decided);
        }
        if !self.seen.gaps.is_empty() {
            self.seen.gaps.retain(|uid, _| !uids.contains(*uid));
        }
    }

    fn drop_claims_when_done(&mut self) {
        // Where messages have names, nothing tells when the last one has come.
        if self.claims.is_empty() || self.names.is_some() {
            return;
        }
        let Some(next) = self.baseline.as_ref().and_then(|baseline| baseline.uid_next) else { return };
        if self.undecided(next.saturating_sub(1)).is_empty() && self.owed.range(..next).next().is_none() {
            self.claims = Claims::default();
        }
    }
}

/// What listings showed since the process began. Lost with it, which only delays the closing of gaps; so it is no part of what a folder *is*.
#[derive(Clone, Debug, Default)]
struct Seen {
    highest: u32,
    /// Closed gaps that touch no decided message yet.
    closed: UidSet,
    /// Young gaps, and when a listing first lacked them; at most [`YOUNG`].
    gaps: BTreeMap<u32, Timestamp>,
}

impl PartialEq for Seen {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// 1 min · 2^(attempts − 1), at most an hour.
fn after_pause(attempts: u32, now: Timestamp) -> Timestamp {
    let pause = SignedDuration::from_mins(1 << attempts.saturating_sub(1).min(6)).min(LONGEST_PAUSE);
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

fn owed_as_list<S: Serializer>(owed: &BTreeMap<u32, Owed>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(owed.values())
}

/// Fractions of a second make the stored form longer and help nobody. Rounds up, so that nothing happens earlier than it should.
fn whole_seconds(time: Timestamp) -> Timestamp {
    let seconds = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
    Timestamp::from_second(seconds).unwrap_or(time)
}
