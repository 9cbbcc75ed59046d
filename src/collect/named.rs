//! Opening a mailbox whose messages have names instead of numbers (POP3): numbers them, and makes sure that the names still mean the messages
//! that they meant. The rest of a look is as elsewhere.

use jiff::Timestamp;
use tracing::{info, warn};

use super::held::Held;
use super::view::View;
use crate::cursor::{FIRST_GIVEN, Folder, Numbered, Numbering, UidSet};
use crate::sink::identity;
use crate::source::{self, Source, Step};

/// Anchors that are asked for, newest first, until one gives a clear answer.
const ASKED: usize = 4;
/// Where fewer anchors than this are left in the mailbox, others are made …
const FEW: usize = 4;
/// … of at most so many messages.
const MADE: usize = 4;

/// What the server shows of the anchors.
enum Recognised {
    /// The messages that we know, or there is none that could be asked for.
    Yes,
    /// Other messages.
    No,
}

/// Takes note of the names listed when `view`'s folder was opened, if messages have names there, and gives the work among them.
pub(super) async fn open<S: Source>(
    session: &mut S,
    view: &mut View,
    held: &mut Held,
    mailbox: &str,
    now: Timestamp,
) -> Result<(), source::Error> {
    let folder = held.cursor.folder_mut(&view.name);
    let mut changed = folder.opened_named(now) != Numbering::Same;
    let mut numbered = number(session, folder, now)?;
    if let Recognised::No = recognise(session, folder, &numbered, mailbox, &mut changed).await? {
        folder.new_epoch(now);
        warn!(
            folder = view.name,
            epoch = folder.uid_validity(),
            "the unique-ids mean other messages now: comparing with what was delivered"
        );
        changed = true;
        numbered = number(session, folder, now)?;
    }
    let listing = folder.listed_named(&numbered, now);
    changed |= listing.changed;
    view.uid_validity = folder.uid_validity();
    view.top = numbered.numbers.iter().copied().filter(|number| *number < FIRST_GIVEN).max().unwrap_or(0);
    view.todo = listing.todo;
    view.left_out = numbered.left_out;
    view.named = true;
    if changed {
        held.touch();
    }
    Ok(())
}

/// The numbering of a folder, of either kind.
pub(super) fn numbering(mailbox: &str, folder: &Folder) -> identity::Numbering {
    match folder.names() {
        None => {
            let epoch = folder.epoch();
            identity::Numbering::new(mailbox, folder.key(), epoch.uid_validity).in_turn(epoch.turn, epoch.again_from)
        }
        Some(names) => identity::Numbering::named(mailbox, folder.key(), folder.uid_validity(), names.given().clone()),
    }
}

/// Every number that a message of this numbering may have been delivered under; `top` is the highest listed, of those that were not given.
pub(super) fn numbers(folder: &Folder, top: u32) -> UidSet {
    let Some(names) = folder.names() else { return UidSet::from_range(1, top) };
    let given: UidSet = names.given().keys().copied().collect();
    let decided = folder.decided().intersection(&UidSet::from_range(1, FIRST_GIVEN - 1)).last().unwrap_or(0);
    UidSet::from_range(1, top.max(decided)).union(&given)
}

fn number<S: Source>(session: &mut S, folder: &mut Folder, now: Timestamp) -> Result<Numbered, source::Error> {
    let names = session.names().unwrap_or_default();
    let numbered = folder.number(names, now).map_err(|_| source::Error::Protocol {
        step: Step::List,
        what: "a listing in which many unique-ids are borne by several messages each",
    })?;
    session.number(&numbered.numbers);
    Ok(numbered)
}

/// Compares the newest message that was delivered, and is still there, with what is known of it.
async fn recognise<S: Source>(
    session: &mut S,
    folder: &mut Folder,
    numbered: &Numbered,
    mailbox: &str,
    changed: &mut bool,
) -> Result<Recognised, source::Error> {
    let listed: UidSet = numbered.numbers.iter().copied().collect();
    let delivered = folder.taken().intersection(&listed);
    if delivered.is_empty() {
        return Ok(Recognised::Yes);
    }
    let numbering = numbering(mailbox, folder);
    // What a message without a Message-ID is known by is no mark of it; such ones are asked for last.
    let markless = numbering.fingerprint(b"", None);
    let mut anchors = folder.anchors_in(&listed);
    anchors.sort_by_key(|anchor| anchor.fingerprint == markless);
    if anchors.is_empty() {
        // All that could tell is gone; taking other messages for those that were delivered would lose them.
        return Ok(Recognised::No);
    }
    let mut clear = false;
    for anchor in anchors.iter().take(ASKED) {
        let Some(header) = session.header(anchor.uid).await? else { continue };
        let fingerprint = numbering.fingerprint(&header, None);
        if fingerprint == anchor.fingerprint {
            clear = true;
            break;
        }
        if fingerprint != markless {
            return Ok(Recognised::No);
        }
    }
    if !clear {
        return Err(source::Error::Protocol { step: Step::Open, what: "no header of a message by which the mailbox could be recognised" });
    }
    if anchors.len() < FEW {
        let known: UidSet = anchors.iter().map(|anchor| anchor.uid).collect();
        let others = delivered.difference(&known);
        for uid in others.take_lowest(MADE as u64).iter() {
            let Some(header) = session.header(uid).await? else { continue };
            let fingerprint = numbering.fingerprint(&header, None);
            if fingerprint != markless {
                info!(folder = folder.name(), uid, "one more message by which the mailbox is recognised");
                folder.anchor_older(uid, fingerprint);
                *changed = true;
            }
        }
    }
    Ok(Recognised::Yes)
}
