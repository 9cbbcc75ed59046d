//! What to collect, when, and what becomes of it in the mailbox: the fields of `spec` between the credential and the sinks.
//! Pure: no I/O, no clock.

use std::time::Duration;

use jiff::Timestamp;

use super::grammar::{self, DurationProblem, Excerpt};
use super::{
    DEFAULT_INTERVAL, DEFAULT_MAX_MESSAGE_BYTES, Error, INBOX, LARGEST_MAX_MESSAGE_BYTES, LONGEST_INTERVAL, SHORTEST_INTERVAL,
    plainly_wrong, wrong,
};
use crate::api::{self, MailboxCollectorSpec};
use crate::collect::{Glob, Protocol, Selection, Start};
use crate::cursor::MAX_FOLDERS;
use crate::schedule::{Calendar, CalendarProblem};
use crate::source::Settle;

/// Longest name of a folder, in bytes, as in the schema.
const LONGEST_FOLDER: usize = 512;
/// Shortest `spec.select.maxAge`.
const SHORTEST_MAX_AGE: Duration = Duration::from_secs(60);
/// Longest `spec.select.maxAge`: ten years.
const LONGEST_MAX_AGE: Duration = Duration::from_secs(87_600 * 3_600);
/// Most globs of one kind.
const GLOBS: usize = 64;
/// Longest glob, in characters.
const LONGEST_GLOB: usize = 512;

pub(super) fn protocol(spec: &MailboxCollectorSpec) -> Result<Protocol, Error> {
    match spec.protocol.as_deref() {
        None | Some(api::PROTOCOL_IMAP) => Ok(Protocol::Imap),
        Some(api::PROTOCOL_POP3) => only_by_imap(spec).map(|()| Protocol::Pop3),
        Some(other) => Err(wrong("spec.protocol", Excerpt(other), "is not a protocol", "write IMAP or POP3, or remove the field")),
    }
}

/// What a mailbox cannot do by POP3.
fn only_by_imap(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    if spec.folders.is_some() {
        let way_out = "remove it, or write protocol: IMAP in a new MailboxCollector";
        return Err(plainly_wrong("spec.folders", "does not go with POP3, which knows only the inbox", way_out));
    }
    if spec.push == Some(true) {
        let way_out = "remove it, or write protocol: IMAP in a new MailboxCollector";
        return Err(plainly_wrong("spec.push", "does not go with POP3, which announces no mail", way_out));
    }
    let select = spec.select.as_ref();
    let dated = [
        ("spec.startFrom", spec.start_from.as_deref() == Some("Now")),
        ("spec.select.receivedAfter", select.is_some_and(|select| select.received_after.is_some())),
        ("spec.select.maxAge", select.is_some_and(|select| select.max_age.is_some())),
    ];
    if let Some((field, _)) = dated.iter().find(|(_, given)| *given) {
        let way_out = "remove it, or write protocol: IMAP in a new MailboxCollector";
        return Err(plainly_wrong(field, "does not go with POP3, which does not tell when a message was received", way_out));
    }
    match spec.after_delivery.as_ref().and_then(|after| after.action.as_deref()) {
        Some(action @ ("MarkSeen" | "Move")) => {
            let way_out = "write afterDelivery: {action: Keep} or {action: Delete}, or protocol: IMAP in a new MailboxCollector";
            Err(wrong(
                "spec.afterDelivery.action",
                Excerpt(action),
                "does not go with POP3, which can only keep or delete a message",
                way_out,
            ))
        }
        _ => Ok(()),
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
        if names.iter().any(|other| same_folder(other, &name)) {
            return Err(wrong(&field, Excerpt(&name), "names a folder twice", ONCE));
        }
        names.push(name);
    }
    Ok(names)
}

pub(super) fn interval(spec: &MailboxCollectorSpec) -> Result<Duration, Error> {
    const WAY_OUT: &str = "write a duration from 1m to 24h, for example 5m or 1h30m";
    if spec.interval.is_some() && spec.schedule.is_some() {
        return Err(plainly_wrong("spec.interval", "stands beside schedule", "write either interval or schedule, not both"));
    }
    let Some(text) = &spec.interval else { return Ok(DEFAULT_INTERVAL) };
    grammar::duration(text, SHORTEST_INTERVAL, LONGEST_INTERVAL)
        .map_err(|problem: DurationProblem| wrong("spec.interval", Excerpt(text), problem, WAY_OUT))
}

pub(super) fn schedule(spec: &MailboxCollectorSpec) -> Result<Option<Calendar>, Error> {
    const LINE: &str = "write minute, hour, day of the month, month and day of the week, for example schedule: \"0 6 * * MON-FRI\"";
    const ZONE: &str = "write a name such as Europe/Paris, or remove the field for UTC";
    let zone = spec.time_zone.as_deref();
    let Some(line) = &spec.schedule else {
        return match zone {
            None => Ok(None),
            Some(_) => Err(plainly_wrong("spec.timeZone", "stands without schedule", "add schedule, or remove timeZone")),
        };
    };
    Calendar::parse(line, zone).map(Some).map_err(|problem| match problem {
        CalendarProblem::Zone => wrong("spec.timeZone", Excerpt(zone.unwrap_or_default()), problem, ZONE),
        CalendarProblem::Grammar | CalendarProblem::Never => wrong("spec.schedule", Excerpt(line), problem, LINE),
    })
}

/// `created`: when the object was; an object from a file was not.
pub(super) fn selection(spec: &MailboxCollectorSpec, created: Option<Timestamp>) -> Result<Selection, Error> {
    let start = match spec.start_from.as_deref() {
        None | Some("Beginning") => Start::Beginning,
        Some("Now") => created.map_or(Start::FirstSeen, Start::At),
        Some(other) => {
            return Err(wrong("spec.startFrom", Excerpt(other), "is not a beginning", "write Beginning or Now, or remove the field"));
        }
    };
    let api::MessageSelection { from, to, subject, received_after, max_age } = spec.select.clone().unwrap_or_default();
    let received_after = match received_after {
        None => None,
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| {
            let field = "spec.select.receivedAfter";
            wrong(field, Excerpt(&text), "is not a time", "write one with its zone, for example 2026-01-31T08:00:00Z")
        })?),
    };
    let max_age = match max_age {
        None => None,
        Some(text) => Some(grammar::duration(&text, SHORTEST_MAX_AGE, LONGEST_MAX_AGE).map_err(|problem| {
            wrong("spec.select.maxAge", Excerpt(&text), problem, "write a duration from 1m to 87600h, for example 720h")
        })?),
    };
    Ok(Selection { start, from: globs("from", from)?, to: globs("to", to)?, subject: globs("subject", subject)?, received_after, max_age })
}

fn globs(member: &str, texts: Option<Vec<String>>) -> Result<Vec<Glob>, Error> {
    let texts = texts.unwrap_or_default();
    if texts.len() > GLOBS {
        return Err(plainly_wrong(&format!("spec.select.{member}"), "has more than 64 globs", "write at most 64"));
    }
    let glob = |(index, text): (usize, &String)| {
        let problem = if text.is_empty() {
            "is empty"
        } else if text.chars().count() > LONGEST_GLOB {
            "is longer than 512 characters"
        } else {
            return Ok(Glob::new(text));
        };
        let way_out = "write a glob: * for any characters, ? for one, for example *@supplier.com";
        Err(wrong(&format!("spec.select.{member}[{index}]"), Excerpt(text), problem, way_out))
    };
    texts.iter().enumerate().map(glob).collect()
}

pub(super) fn max_message_bytes(spec: &MailboxCollectorSpec) -> Result<u64, Error> {
    let Some(most) = spec.limits.as_ref().and_then(|limits| limits.max_message_bytes) else { return Ok(DEFAULT_MAX_MESSAGE_BYTES) };
    u64::try_from(most).ok().filter(|most| (1..=LARGEST_MAX_MESSAGE_BYTES).contains(most)).ok_or_else(|| {
        let field = "spec.limits.maxMessageBytes";
        wrong(field, Excerpt(&most.to_string()), "is not within the bounds", "write a number of bytes from 1 to 1073741824, or remove it")
    })
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

/// Exchange does not tell upper case from lower case; everywhere else INBOX alone is without (RFC 9051 section 5.1).
pub(super) fn same_folder(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}
