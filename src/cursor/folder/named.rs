//! A folder whose messages have names instead of ascending numbers (POP3). Pure: no I/O, no clock.
//!
//! Nothing follows here from what a listing lacks: names do not ascend, so a message may come later under any of them, and a listing may have
//! been cut. Decided is what was decided, and a name is forgotten only when two listings lack it that lie [`ABSENCE_LASTS`] apart; should it
//! come back after that, its message is fetched again and the sink tells that it has it.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::super::names::{Name, Names, Numbered, TooManyShared};
use super::super::{OwedReason, Quarantined, UidSet};
use super::{Anchor, Baseline, Claims, Folder, LONGEST_PAUSE, Numbering, whole_seconds};

/// A name must lack in two complete listings so far apart before it is forgotten.
pub const ABSENCE_LASTS: SignedDuration = SignedDuration::from_hours(24);
/// Of the anchors so many stay for good, so that somebody who files the newest messages away does not take all of them.
pub(super) const STANDING_ANCHORS: usize = 8;

/// What follows from a complete listing of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedListing {
    /// Listed, neither decided nor owed: the work.
    pub todo: UidSet,
    /// Something was noted that is worth a write.
    pub changed: bool,
}

impl Folder {
    /// What is kept of the messages' names; `None` where they have numbers (IMAP).
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// Takes note that messages have names here; what was remembered of numbers is forgotten. An epoch is what UIDVALIDITY is elsewhere: [`Folder::uid_validity`] counts them from 1.
    pub fn opened_named(&mut self, now: Timestamp) -> Numbering {
        if self.names.is_some() && self.baseline.is_some() {
            return Numbering::Same;
        }
        self.begin_epoch(1, now);
        Numbering::First
    }

    /// The names mean other messages now: everything remembered is forgotten, so that each message is taken anew (the sink tells which it
    /// already holds).
    pub fn new_epoch(&mut self, now: Timestamp) {
        self.begin_epoch(self.uid_validity.saturating_add(1), now);
    }

    fn begin_epoch(&mut self, epoch: u32, now: Timestamp) {
        let (name, key) = (std::mem::take(&mut self.name), std::mem::take(&mut self.key));
        let baseline = Some(Baseline { uid_next: None, time: whole_seconds(now) });
        *self = Self { uid_validity: epoch, baseline, names: Some(Names::default()), ..Self::new(&name, key) };
    }

    /// Numbers a COMPLETE listing. What was known under a name that several messages bear now holds no longer; such messages are quarantined
    /// together, for none of them can be told from the others the next time.
    pub fn number(&mut self, listing: &[Name], now: Timestamp) -> Result<Numbered, TooManyShared> {
        let mut numbered = self.names.get_or_insert_default().number(listing)?;
        numbered.changed = !self.decided.intersection(&numbered.ambiguous).is_empty();
        self.drop_known(&numbered.ambiguous);
        let reason = OwedReason::SharedName;
        let over: UidSet = self.quarantined.iter().filter(|entry| entry.reason == reason).map(|entry| entry.uid).collect();
        numbered.changed |= over != numbered.shared;
        self.forget(&over.difference(&numbered.shared));
        for uid in numbered.shared.difference(&over).iter() {
            self.quarantined.push(Quarantined { uid, reason, attempts: 1, time: whole_seconds(now), has: 0 });
        }
        self.cover(&numbered.shared);
        Ok(numbered)
    }

    /// What follows from a complete listing of which [`Folder::number`] gave the numbers.
    pub fn listed_named(&mut self, numbered: &Numbered, now: Timestamp) -> NamedListing {
        let messages: UidSet = numbered.numbers.iter().copied().collect();
        let todo = messages.difference(&self.decided);
        let listed = messages.union(&numbered.shared);
        let mut changed = self.note_absent(&listed, now) | numbered.changed;
        // An owed message that is not there now is not tried, and not given up for it either.
        let later = whole_seconds(now.checked_add(LONGEST_PAUSE).unwrap_or(Timestamp::MAX));
        self.owed.values_mut().filter(|owed| !listed.contains(owed.uid) && owed.next < later).for_each(|owed| owed.next = later);
        let Some(baseline) = &mut self.baseline else { return NamedListing { todo, changed } };
        match baseline.uid_next {
            None => baseline.uid_next = Some(messages.last().unwrap_or(0).saturating_add(1)),
            Some(next) if next > 1 && now.duration_since(baseline.time) >= ABSENCE_LASTS => {
                let below = UidSet::from_range(1, next - 1);
                if todo.intersection(&below).is_empty() && self.owed.range(..next).next().is_none() {
                    // Everything from before has been compared with what the sink held.
                    baseline.uid_next = Some(1);
                    self.claims = Claims::default();
                    changed = true;
                }
            }
            Some(_) => {}
        }
        NamedListing { todo, changed }
    }

    fn note_absent(&mut self, listed: &UidSet, now: Timestamp) -> bool {
        let Some(names) = &mut self.names else { return false };
        let gone = self.decided.union(&names.given_numbers()).difference(listed);
        let lasting = names.absent.intersection(&gone);
        let since = names.since.filter(|since| *since <= now);
        match since {
            Some(since) if now.duration_since(since) < ABSENCE_LASTS && !lasting.is_empty() => {
                let changed = lasting != names.absent;
                names.absent = lasting;
                changed
            }
            Some(since) if now.duration_since(since) >= ABSENCE_LASTS => {
                names.absent = gone.difference(&lasting);
                names.since = (!names.absent.is_empty()).then_some(whole_seconds(now));
                self.forget(&lasting);
                true
            }
            _ => {
                let changed = !gone.is_empty() || !names.absent.is_empty();
                names.since = (!gone.is_empty()).then_some(whole_seconds(now));
                names.absent = gone;
                changed
            }
        }
    }

    /// The anchors among `listed`, newest first.
    pub fn anchors_in(&self, listed: &UidSet) -> Vec<Anchor> {
        self.anchors.iter().rev().filter(|anchor| listed.contains(anchor.uid)).cloned().collect()
    }

    /// Messages that were delivered, as far as is remembered.
    pub fn taken(&self) -> UidSet {
        let not: UidSet = self.owed.keys().copied().chain(self.quarantined.iter().map(|entry| entry.uid)).collect();
        self.decided.difference(&not)
    }

    /// As [`Folder::anchor`], for a message that was decided longer ago than those that are anchors already.
    pub fn anchor_older(&mut self, uid: u32, fingerprint: [u8; 8]) {
        if self.anchors.iter().all(|anchor| anchor.uid != uid) && self.anchors.len() < super::MAX_ANCHORS {
            self.anchors.push_front(Anchor { uid, fingerprint });
        }
    }

    /// Forgets these names and all that was known under them.
    fn forget(&mut self, numbers: &UidSet) {
        if numbers.is_empty() {
            return;
        }
        self.drop_known(numbers);
        if let Some(names) = &mut self.names {
            names.forget(numbers);
        }
    }

    fn drop_known(&mut self, numbers: &UidSet) {
        if numbers.is_empty() {
            return;
        }
        self.decided = self.decided.difference(numbers);
        self.unsettled = self.unsettled.difference(numbers);
        self.trying = self.trying.difference(numbers);
        self.owed.retain(|uid, _| !numbers.contains(*uid));
        self.quarantined.retain(|entry| !numbers.contains(entry.uid));
        self.anchors.retain(|anchor| !numbers.contains(anchor.uid));
    }
}

/// Takes an anchor away where there are too many.
pub(super) fn thin(anchors: &mut VecDeque<Anchor>, named: bool) {
    while anchors.len() > super::MAX_ANCHORS {
        anchors.remove(if named { STANDING_ANCHORS } else { 0 });
    }
}

#[cfg(test)]
mod tests;
