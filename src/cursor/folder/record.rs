//! A folder as it is read from a record, by whomever it was written. Pure: no I/O, no clock.

use std::collections::VecDeque;

use serde::Deserialize;

use super::{Anchor, Baseline, Claims, Folder, Owed, Quarantined, Seen, UidSet};

/// The stored form as it is read; every field may be missing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    name: String,
    key: Option<String>,
    #[serde(default)]
    uid_validity: u32,
    #[serde(default)]
    decided: UidSet,
    #[serde(default)]
    owed: Vec<Owed>,
    #[serde(default)]
    unsettled: UidSet,
    #[serde(default)]
    trying: UidSet,
    #[serde(default)]
    quarantined: Vec<Quarantined>,
    #[serde(default)]
    anchors: VecDeque<Anchor>,
    baseline: Option<Baseline>,
    #[serde(default)]
    claimed: Claims,
}

impl From<Stored> for Folder {
    fn from(stored: Stored) -> Self {
        let Stored { name, key, uid_validity, decided, owed, unsettled, trying, quarantined, anchors, baseline, claimed } = stored;
        let covered: UidSet = owed.iter().map(|owed| owed.uid).chain(quarantined.iter().map(|quarantined| quarantined.uid)).collect();
        Self {
            key: key.unwrap_or_else(|| name.clone()),
            name,
            uid_validity,
            owed: owed.into_iter().map(|owed| (owed.uid, owed)).collect(),
            // Whoever edited the record by hand may have broken this. What is not delivered is never touched on the server.
            unsettled: unsettled.intersection(&decided).difference(&covered),
            trying,
            decided: decided.union(&covered),
            quarantined,
            anchors,
            baseline,
            claims: claimed,
            seen: Seen::default(),
        }
    }
}
