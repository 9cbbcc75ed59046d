//! Attempts that are recorded before they are made, so that a message that ends its process is found out: by halves, then alone.
//! Pure: no I/O, no clock.

use jiff::Timestamp;

use super::{Folder, Owed, OwedReason, Quarantined, UidSet, after_pause, whole_seconds};

impl Folder {
    /// Counts an attempt before it is made: to be recorded before the message is fetched, so that one that ends the process is found out.
    /// What comes of it is told by [`Folder::decide`] or [`Folder::owe`], which then counts nothing more, or [`Folder::uncount`].
    pub fn count(&mut self, uid: u32, now: Timestamp) {
        let now = whole_seconds(now);
        let mut owed = self.owed.remove(&uid).unwrap_or(Owed {
            uid,
            reason: OwedReason::ProcessEnded,
            attempts: 0,
            since: now,
            next: now,
            trying: false,
            has: 0,
        });
        owed.attempts = owed.attempts.saturating_add(1);
        owed.next = after_pause(owed.attempts, now);
        owed.trying = true;
        self.cover(&UidSet::from_range(uid, uid));
        self.owed.insert(uid, owed);
    }

    /// The attempt counted last came to nothing by no fault of the message.
    pub fn uncount(&mut self, uid: u32) {
        if let Some(owed) = self.owed.get_mut(&uid).filter(|owed| owed.trying) {
            owed.attempts = owed.attempts.saturating_sub(1);
            owed.trying = false;
        }
    }

    /// Notes the set that is about to be fetched (the empty one: none), for whoever reads the record after the process has ended in it.
    pub fn try_set(&mut self, uids: UidSet) {
        self.trying = uids;
    }

    /// For a record that was just read: what was under way when its process ended. Attempts at single messages become failures of theirs; a
    /// set is returned, for one of its messages may have done it.
    pub fn ended(&mut self, now: Timestamp) -> Ended {
        let now = whole_seconds(now);
        let mut ended = Ended { set: std::mem::take(&mut self.trying), ..Ended::default() };
        for owed in self.owed.values_mut().filter(|owed| owed.trying) {
            (owed.trying, owed.reason) = (false, OwedReason::ProcessEnded);
            ended.alone.push(owed.uid);
            if owed.reason.exhausted(owed.attempts, owed.since, now) {
                ended.given_up.push(owed.uid);
                self.quarantined.push(Quarantined {
                    uid: owed.uid,
                    reason: owed.reason,
                    attempts: owed.attempts,
                    time: now,
                    has: owed.has,
                });
            }
        }
        self.owed.retain(|uid, _| !ended.given_up.contains(uid));
        ended
    }
}

/// What a process was at when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Messages fetched alone.
    pub alone: Vec<u32>,
    /// Those of them that are quarantined by now.
    pub given_up: Vec<u32>,
    /// A set of several.
    pub set: UidSet,
}
