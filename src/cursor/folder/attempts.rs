//! Attempts that are recorded before they are made, so that a message that ends its process is found out: by halves, then alone.
//! Pure: no I/O, no clock.

use jiff::Timestamp;

use super::{Folder, Owe, Owed, OwedReason, UidSet, after_pause, whole_seconds};

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

    /// For a record that was just read: what was under way when its process ended. Attempts at single messages become failures of theirs
    /// (the UIDs given up are returned); a set is returned, one of its messages may have done it.
    pub fn ended(&mut self, now: Timestamp) -> (Vec<u32>, UidSet) {
        let tried: Vec<u32> = self.owed.values().filter(|owed| owed.trying).map(|owed| owed.uid).collect();
        let given_up = tried.into_iter().filter(|uid| matches!(self.owe(*uid, OwedReason::ProcessEnded, now), Owe::Quarantined { .. }));
        let given_up = given_up.collect();
        (given_up, std::mem::take(&mut self.trying))
    }
}
