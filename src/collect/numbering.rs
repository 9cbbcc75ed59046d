//! Whether the UIDs of a folder still mean what the cursor remembers of them: told from the headers of the anchors, where the server has
//! changed its numbering, and where a folder has another name. It lists and fetches nothing else.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tracing::{info, warn};

use super::held::Held;
use super::{Collector, Start};
use crate::cursor::{Folder, Numbering, Recognised, Sighting, UidSet};
use crate::sink::identity;
use crate::source::{self, Fields, Opened, Source};

/// Tells the cursor of the numbering of a folder that was just opened.
pub(super) async fn settle<S: Source>(
    session: &mut S,
    name: &str,
    opened: &Opened,
    held: &mut Held,
    order: &Collector,
    now: Timestamp,
) -> Result<(), source::Error> {
    let &Opened { uid_validity, uid_next, .. } = opened;
    if held.cursor.folder(name).is_none_or(|folder| folder.baseline().is_none()) {
        adopt(session, name, opened, held, order).await?;
        held.cursor.forget_unwanted(&order.folders);
    }
    match held.cursor.folder_mut(name).opened(uid_validity, uid_next, now) {
        Numbering::Same => return Ok(()),
        Numbering::First => {
            if order.selection.start == Start::FirstSeen {
                // When that was must not be forgotten.
                held.must_save();
            }
            return Ok(());
        }
        Numbering::Doubtful => {}
    }
    let seen = sightings(session, &order.mailbox, held.cursor.folder_mut(name)).await?;
    match held.cursor.folder_mut(name).recognised(uid_validity, uid_next, &seen, now) {
        Recognised::Kept => info!(folder = name, uid_validity, "another numbering announced, and every known message is where it was"),
        Recognised::KeptBelow(next) => {
            warn!(folder = name, uid_validity, next, "the server gives out UIDs anew: what was known above is forgotten");
        }
        Recognised::Renumbered => {
            warn!(folder = name, uid_validity, "the server has renumbered the folder: comparing with what was delivered");
        }
    }
    // Before anything is delivered: once the server has gone on giving out UIDs, it could no longer be told.
    held.must_save();
    Ok(())
}

/// A folder that is new to the cursor may be one under another name. What is remembered stays with it, key and placements too.
async fn adopt<S: Source>(session: &mut S, name: &str, opened: &Opened, held: &mut Held, order: &Collector) -> Result<(), source::Error> {
    let may_be = |folder: &&Folder| {
        folder.uid_validity() == opened.uid_validity
            && folder.anchors().next().is_some()
            && !order.folders.iter().any(|wanted| wanted == folder.name())
    };
    let candidates: Vec<String> = held.cursor.folders().filter(may_be).map(|folder| folder.name().to_owned()).collect();
    for former in candidates {
        let Some(folder) = held.cursor.folder(&former) else { continue };
        let seen = sightings(session, &order.mailbox, folder).await?;
        if folder.is_recognised_by(&seen) {
            info!(folder = name, former, "the folder has another name than before");
            held.cursor.rename(&former, name);
            held.must_save();
            return Ok(());
        }
    }
    Ok(())
}

/// What the UIDs of the anchors name now.
async fn sightings<S: Source>(session: &mut S, mailbox: &str, folder: &Folder) -> Result<BTreeMap<u32, Sighting>, source::Error> {
    let numbering = identity::Numbering::new(mailbox, folder.key(), folder.uid_validity());
    let anchors: UidSet = folder.anchors().map(|anchor| anchor.uid).collect();
    let found = session.headings(&anchors, Fields::MessageId).await?;
    let sightings = found.into_iter().filter_map(|heading| {
        let header = heading.header?;
        let fingerprint = numbering.fingerprint(&header, heading.internal_date);
        Some((heading.uid, Sighting { fingerprint, by_message_id: identity::message_id(&header).is_some() }))
    });
    Ok(sightings.collect())
}
