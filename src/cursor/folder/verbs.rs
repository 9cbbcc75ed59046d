//! What a person may ask for: replay and discard of quarantined messages, and collecting again. Pure: no I/O, no clock.

use jiff::Timestamp;

use super::{Baseline, Claims, Folder, Owed, Quarantined, Seen, UidSet, whole_seconds};

impl Folder {
    /// Makes quarantined messages (`None`: all of them) owed and due at once, as if they had never been tried; how many there were.
    pub fn replay(&mut self, uid: Option<u32>, now: Timestamp) -> usize {
        let now = whole_seconds(now);
        let chosen = self.take_quarantined(uid);
        for Quarantined { uid, reason, has, .. } in &chosen {
            let owed = Owed { uid: *uid, reason: *reason, attempts: 0, since: now, next: now, trying: false, has: *has };
            self.owed.insert(*uid, owed);
        }
        chosen.len()
    }

    /// Takes messages off the quarantine (`None`: all of them) for good: they stay decided, and untouched on the server. How many there were.
    pub fn discard(&mut self, uid: Option<u32>) -> usize {
        self.take_quarantined(uid).len()
    }

    fn take_quarantined(&mut self, uid: Option<u32>) -> Vec<Quarantined> {
        self.quarantined.extract_if(.., |quarantined| uid.is_none_or(|uid| uid == quarantined.uid)).collect()
    }

    /// Forgets what was decided from `from` on, so that it is listed and taken once more, and compared with what the sink holds. What is owed
    /// stays owed, what is quarantined is tried anew. `uid_next` is the server's now, where known.
    pub fn resync(&mut self, from: u32, uid_next: Option<u32>, now: Timestamp) {
        self.decided = self.decided.intersection(&UidSet::from_range(1, from.saturating_sub(1)));
        self.unsettled = self.unsettled.intersection(&self.decided);
        self.quarantined.retain(|quarantined| quarantined.uid < from);
        self.seen = Seen { highest: self.seen.highest, ..Seen::default() };
        self.cover(&self.owed.keys().copied().collect());
        self.baseline = Some(Baseline { uid_next, time: whole_seconds(now) });
        self.claims = Claims::default();
    }
}
