//! What to collect, when, and what becomes of it in the mailbox: the fields of `spec` between the credential and the sinks.
//! Pure: no I/O, no clock.

use std::time::Duration;

use super::grammar::{self, DurationProblem, Excerpt};
use super::{
    DEFAULT_INTERVAL, DEFAULT_MAX_MESSAGE_BYTES, Error, INBOX, LONGEST_INTERVAL, SHORTEST_INTERVAL, not_built, plainly_wrong, wrong,
};
use crate::api::{self, MailboxCollectorSpec};
use crate::source::Settle;

/// Longest name of a folder, in bytes, as in the schema.
const LONGEST_FOLDER: usize = 512;

pub(super) fn protocol(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    match spec.protocol.as_deref() {
        None | Some(api::PROTOCOL_IMAP) => Ok(()),
        Some(api::PROTOCOL_POP3) => Err(not_built("spec.protocol: POP3", "write protocol: IMAP in a new MailboxCollector")),
        Some(other) => Err(wrong("spec.protocol", Excerpt(other), "is not a protocol", "write IMAP, or remove the field")),
    }
}

pub(super) fn folders(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    // INBOX is the one folder name without case (RFC 9051 section 5.1).
    match spec.folders.as_deref() {
        None | Some([]) => Ok(()),
        Some([only]) if only.name.eq_ignore_ascii_case(INBOX) => Ok(()),
        Some(_) => Err(not_built("spec.folders other than INBOX alone", "write folders: [{name: INBOX}], or remove the field")),
    }
}

pub(super) fn interval(spec: &MailboxCollectorSpec) -> Result<Duration, Error> {
    const WAY_OUT: &str = "write a duration from 1m to 24h, for example 5m or 1h30m";
    if spec.schedule.is_some() {
        return Err(not_built("spec.schedule", "remove it and write interval, for example interval: 5m"));
    }
    if spec.time_zone.is_some() {
        return Err(not_built("spec.timeZone", "remove it"));
    }
    let Some(text) = &spec.interval else { return Ok(DEFAULT_INTERVAL) };
    grammar::duration(text, SHORTEST_INTERVAL, LONGEST_INTERVAL)
        .map_err(|problem: DurationProblem| wrong("spec.interval", Excerpt(text), problem, WAY_OUT))
}

pub(super) fn beginning(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    match spec.start_from.as_deref() {
        None | Some("Beginning") => Ok(()),
        Some("Now") => Err(not_built("spec.startFrom: Now", "write startFrom: Beginning, or remove the field")),
        Some(other) => Err(wrong("spec.startFrom", Excerpt(other), "is not a beginning", "write Beginning, or remove the field")),
    }
}

pub(super) fn selection(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    if spec.select.as_ref().is_some_and(|select| *select != api::MessageSelection::default()) {
        return Err(not_built("spec.select", "remove it; every message is taken"));
    }
    let most = spec.limits.as_ref().and_then(|limits| limits.max_message_bytes);
    if most.is_some_and(|most| u64::try_from(most) != Ok(DEFAULT_MAX_MESSAGE_BYTES)) {
        return Err(not_built("spec.limits.maxMessageBytes", "remove it; messages up to 157286400 bytes are taken"));
    }
    Ok(())
}

/// What becomes of delivered messages; `None`: they are kept.
pub(super) fn after_delivery(spec: &MailboxCollectorSpec) -> Result<Option<Settle>, Error> {
    const WAY_OUT: &str = "write afterDelivery: {action: Keep}, MarkSeen, Delete, or {action: Move, folder: Archive}";
    const FOLDER: &str = "spec.afterDelivery.folder";
    let Some(after) = &spec.after_delivery else { return Ok(None) };
    let settle = match after.action.as_deref() {
        None | Some("Keep") => None,
        Some("MarkSeen") => Some(Settle::MarkSeen),
        Some("Delete") => Some(Settle::Delete),
        Some("Move") => {
            let Some(target) = &after.folder else { return Err(plainly_wrong(FOLDER, "is missing, and Move needs it", WAY_OUT)) };
            return target_folder(spec, target).map(|()| Some(Settle::Move(target.clone())));
        }
        Some(other) => return Err(wrong("spec.afterDelivery.action", Excerpt(other), "is not an action", WAY_OUT)),
    };
    if after.folder.is_some() {
        return Err(plainly_wrong(FOLDER, "belongs to Move alone", WAY_OUT));
    }
    Ok(settle)
}

/// Mail that is moved into a collected folder would be collected again there, for ever.
fn target_folder(spec: &MailboxCollectorSpec, target: &str) -> Result<(), Error> {
    const FIELD: &str = "spec.afterDelivery.folder";
    let levels_are_named = target.split('/').all(|level| !level.trim().is_empty());
    if target.len() > LONGEST_FOLDER || !levels_are_named || target.chars().any(char::is_control) {
        const NAME: &str = "write a folder's name as the mailbox shows it, with / between levels, for example Archive or Invoices/Done";
        return Err(wrong(FIELD, Excerpt(target), "is not a folder's name", NAME));
    }
    let named = spec.folders.as_deref().unwrap_or_default();
    let collected =
        if named.is_empty() { same_folder(target, INBOX) } else { named.iter().any(|folder| same_folder(target, &folder.name)) };
    if collected {
        return Err(wrong(
            FIELD,
            Excerpt(target),
            "is collected itself: what is moved there would be collected again",
            "name another folder",
        ));
    }
    Ok(())
}

/// INBOX is the one folder name without case (RFC 9051 section 5.1).
pub(super) fn same_folder(one: &str, other: &str) -> bool {
    one == other || one.eq_ignore_ascii_case(INBOX) && other.eq_ignore_ascii_case(INBOX)
}
