//! Which numbering a folder's UIDs belong to, how it is recognised after the server has changed it, and which epoch its placements bear.
//! Pure: no I/O, no clock.
//!
//! UIDs name messages only within one UIDVALIDITY, and a mailbox that was restored may give out the same UIDs again under the same one. What is
//! remembered may be kept only where the anchors prove that UIDs still mean what they meant; and a placement, which names one item for good,
//! must never come twice for different messages.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Anchor, Baseline, Folder, Seen, whole_seconds};

/// So many anchors prove a numbering …
const CONFIRMED: usize = 20;
/// … or this share of them, in percent.
const CONFIRMED_SHARE: usize = 80;
/// Turns kept one by one; then they are counted together.
const TURNS: usize = 32;

/// What opening a folder said about its numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// Nothing was remembered: reconcile what is below the baseline.
    First,
    /// The numbering goes on.
    Same,
    /// UIDs may mean other messages now: look at the anchors, then say what was seen to [`Folder::recognised`].
    Doubtful,
}

/// What became of a doubtful numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// UIDs mean what they meant: everything remembered stays.
    Kept,
    /// So they do below UIDNEXT; what was above is forgotten, for those UIDs will be given out again.
    KeptBelow(u32),
    /// UIDs mean other messages now; everything remembered is forgotten: reconcile what is below the baseline.
    Renumbered,
}

/// The message that a UID names now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its fingerprint, first 8 bytes.
    pub fingerprint: [u8; 8],
    /// It has a Message-ID: a fingerprint by the date alone denies, but proves nothing.
    pub by_message_id: bool,
}

/// What stands for the numbering in placements. It outlives a change of UIDVALIDITY under which UIDs kept their meaning, and changes where
/// UIDs are given out anew under the same one. No two messages of a folder ever have UID and epoch in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Epoch {
    /// UIDVALIDITY when the numbering began.
    pub uid_validity: u32,
    /// How often before numberings began for which a UIDVALIDITY alone would not have been new.
    #[serde(skip_serializing_if = "is_zero")]
    pub turn: u32,
    /// UIDs from which on UIDs were given out anew, each time once more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub again_from: Vec<u32>,
}

impl Epoch {
    fn turns(&self) -> u32 {
        self.turn.saturating_add(u32::try_from(self.again_from.len()).unwrap_or(u32::MAX))
    }

    /// The epoch of a numbering that has nothing in common with this one.
    fn after(&self, uid_validity: u32) -> Self {
        // Without any turn so far the validities only rose, so that a higher one is new.
        let turn = if self.turns() == 0 && uid_validity > self.uid_validity { 0 } else { self.turns().saturating_add(1) };
        Self { uid_validity, turn, again_from: Vec::new() }
    }

    fn again(&mut self, from: u32) {
        self.again_from.push(from);
        if self.again_from.len() > TURNS {
            self.turn = self.turns();
            self.again_from.clear();
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_another(anchor: &Anchor, seen: &BTreeMap<u32, Sighting>) -> bool {
    seen.get(&anchor.uid).is_some_and(|sighting| sighting.fingerprint != anchor.fingerprint)
}

impl Folder {
    /// Takes note of the numbering that the server announced when the folder was opened (RFC 9051 section 2.3.1.1).
    ///
    /// Another UIDVALIDITY, or a UIDNEXT at or below a UID that was given out before, is doubtful: nothing is changed then.
    pub fn opened(&mut self, uid_validity: u32, uid_next: Option<u32>, now: Timestamp) -> Numbering {
        if self.baseline.is_none() {
            self.begin(uid_validity, None, uid_next, now);
            Numbering::First
        } else if self.names.is_some() || uid_validity != self.uid_validity || uid_next.is_some_and(|next| self.highest() >= next) {
            Numbering::Doubtful
        } else {
            Numbering::Same
        }
    }

    /// Decides what a doubtful numbering is, from what the UIDs of [`Folder::anchors`] name now; an anchor that is not in `seen` is gone.
    ///
    /// Under another UIDVALIDITY it is kept where the folder [is recognised](Folder::is_recognised_by). Under the same one UIDNEXT went back:
    /// a slip of the tongue where a known message bears a UID above it; else a restored mailbox, in which UIDs below the first that names
    /// another message mean what they meant, if as many anchors prove it. From there on UIDs are of another turn.
    pub fn recognised(&mut self, uid_validity: u32, uid_next: Option<u32>, seen: &BTreeMap<u32, Sighting>, now: Timestamp) -> Recognised {
        let differing = self.anchors.iter().filter(|anchor| is_another(anchor, seen)).map(|anchor| anchor.uid).min();
        let kept = match differing {
            Some(first) if self.names.is_none() && uid_validity == self.uid_validity => {
                self.is_enough(self.confirmed(seen).filter(|anchor| anchor.uid < first).count())
            }
            Some(_) => false,
            // What was known by names (POP3) has no UIDs that could mean anything.
            None => self.names.is_none() && self.is_recognised_by(seen),
        };
        if !kept {
            let epoch = self.epoch().after(uid_validity);
            let epoch = (epoch != Epoch { uid_validity, ..Epoch::default() }).then_some(epoch);
            self.begin(uid_validity, epoch, uid_next, now);
            return Recognised::Renumbered;
        }
        let known = self.confirmed(seen).map(|anchor| anchor.uid).max();
        let back = uid_next.filter(|next| self.highest() >= *next && known.is_none_or(|known| known < *next));
        if uid_validity != self.uid_validity {
            self.epoch = Some(self.epoch());
            self.uid_validity = uid_validity;
        }
        match differing.into_iter().chain(back).min() {
            None => Recognised::Kept,
            Some(next) => {
                self.forget_from(next);
                Recognised::KeptBelow(next)
            }
        }
    }

    /// Whether these are the messages of this folder: no anchor names another one, and 20 or four in five of them were seen by their
    /// Message-ID.
    pub fn is_recognised_by(&self, seen: &BTreeMap<u32, Sighting>) -> bool {
        self.is_enough(self.confirmed(seen).count()) && !self.anchors.iter().any(|anchor| is_another(anchor, seen))
    }

    fn is_enough(&self, confirmed: usize) -> bool {
        confirmed >= CONFIRMED || (confirmed > 0 && confirmed * 100 >= self.anchors.len() * CONFIRMED_SHARE)
    }

    fn confirmed(&self, seen: &BTreeMap<u32, Sighting>) -> impl Iterator<Item = &Anchor> {
        self.anchors.iter().filter(|anchor| {
            seen.get(&anchor.uid).is_some_and(|sighting| sighting.by_message_id && sighting.fingerprint == anchor.fingerprint)
        })
    }

    /// What stands for the numbering in placements.
    pub fn epoch(&self) -> Epoch {
        self.epoch.clone().unwrap_or(Epoch { uid_validity: self.uid_validity, ..Epoch::default() })
    }

    fn begin(&mut self, uid_validity: u32, epoch: Option<Epoch>, uid_next: Option<u32>, now: Timestamp) {
        let (name, key) = (std::mem::take(&mut self.name), std::mem::take(&mut self.key));
        let time = self.baseline.take().map_or_else(|| whole_seconds(now), |before| before.time);
        let baseline = Baseline { uid_next, time };
        *self = Self { uid_validity, epoch, baseline: Some(baseline), ..Self::new(&name, key) };
    }

    fn forget_from(&mut self, next: u32) {
        let mut epoch = self.epoch();
        epoch.again(next);
        self.epoch = Some(epoch);
        self.decided.remove_range(next, u32::MAX);
        self.unsettled.remove_range(next, u32::MAX);
        self.owed.retain(|uid, _| *uid < next);
        self.quarantined.retain(|quarantined| quarantined.uid < next);
        self.anchors.retain(|anchor| anchor.uid < next);
        self.seen = Seen::default();
    }
}
