//! What to collect, when, and what becomes of it in the mailbox: the fields of `spec` between the credential and the sinks.
//! Pure: no I/O, no clock.

use std::time::Duration;

use super::grammar::{self, DurationProblem, Excerpt};
use super::{
    DEFAULT_INTERVAL, DEFAULT_MAX_MESSAGE_BYTES, Error, INBOX, LONGEST_INTERVAL, SHORTEST_INTERVAL, not_built, plainly_wrong, wrong,
};
use crate::api::{self, MailboxCollectorSpec};
use crate::cursor::MAX_FOLDERS;

pub(super) fn protocol(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    match spec.protocol.as_deref() {
        None | Some(api::PROTOCOL_IMAP) => Ok(()),
        Some(api::PROTOCOL_POP3) => Err(not_built("spec.protocol: POP3", "write protocol: IMAP in a new MailboxCollector")),
        Some(other) => Err(wrong("spec.protocol", Excerpt(other), "is not a protocol", "write IMAP, or remove the field")),
    }
}

pub(super) fn folders(spec: &MailboxCollectorSpec) -> Result<Vec<String>, Error> {
    const PLAIN: &str = "write the name as the mailbox shows it, with one / between levels, for example {name: INBOX/Invoices}";
    const ONCE: &str = "write each folder once; Exchange does not tell upper case from lower case";
    let Some(given) = spec.folders.as_deref().filter(|given| !given.is_empty()) else { return Ok(vec![INBOX.to_owned()]) };
    if given.len() > MAX_FOLDERS {
        return Err(plainly_wrong(
            "spec.folders",
            "has more than 64 folders",
            "name at most 64; a second MailboxCollector can take the others",
        ));
    }
    let mut names: Vec<String> = Vec::with_capacity(given.len());
    for (index, api::FolderSelection { name }) in given.iter().enumerate() {
        let field = format!("spec.folders[{index}].name");
        let name = grammar::folder(name).map_err(|problem| wrong(&field, Excerpt(name), problem, PLAIN))?;
        if names.iter().any(|other| other.to_lowercase() == name.to_lowercase()) {
            return Err(wrong(&field, Excerpt(&name), "names a folder twice", ONCE));
        }
        names.push(name);
    }
    Ok(names)
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

pub(super) fn after_delivery(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    const WAY_OUT: &str = "write afterDelivery: {action: Keep}, or remove the field";
    let Some(after) = &spec.after_delivery else { return Ok(()) };
    match (after.action.as_deref(), &after.folder) {
        (None | Some("Keep"), None) => Ok(()),
        (None | Some("Keep"), Some(_)) => Err(plainly_wrong("spec.afterDelivery.folder", "belongs to Move alone", WAY_OUT)),
        (Some(action @ ("MarkSeen" | "Move" | "Delete")), _) => Err(not_built(format!("spec.afterDelivery.action: {action}"), WAY_OUT)),
        (Some(other), _) => Err(wrong("spec.afterDelivery.action", Excerpt(other), "is not an action", WAY_OUT)),
    }
}
