//! The annotations by which a person asks for something: a look, a replay, a discard, collecting again. Pure: no I/O, no clock.
//!
//! A verb counts only beside a `requestedAt` of the very same value, as Flux's `forceAt`: what is left of an earlier request does nothing when a
//! later one asks for a look. Whoever asks for the same once more adds `@` and a word of his own to both.

use jiff::Timestamp;

use super::grammar::Excerpt;
use super::{Error, LONGEST_REQUEST, plainly_wrong, wrong};
use crate::api::{self, MailboxCollector};
use crate::collect::{NamedSink, Verb, Which};

/// The `requestedAt` annotation, and what is asked for with it.
pub(super) fn asked(object: &MailboxCollector, sinks: &[NamedSink]) -> Result<(Option<String>, Option<Verb>), Error> {
    let annotation = |name: &str| object.metadata.annotations.as_ref().and_then(|all| all.get(name));
    let requested_at = match annotation(api::REQUESTED_AT) {
        Some(value) if value.len() > LONGEST_REQUEST => {
            return Err(wrong(
                &field(api::REQUESTED_AT),
                Excerpt(value),
                "is longer than 256 bytes",
                "write a short token, for example the time of day",
            ));
        }
        other => other,
    };
    let mut verb = None;
    for name in [api::REPLAY, api::DISCARD, api::RESYNC_FROM] {
        let Some(value) = annotation(name) else { continue };
        if requested_at.is_none() {
            const EQUAL: &str = "set mailbox-collector.io/requestedAt to the very same value, or remove the annotation";
            return Err(plainly_wrong(&field(name), "stands without mailbox-collector.io/requestedAt", EQUAL));
        }
        // Of an earlier request.
        if requested_at != Some(value) {
            continue;
        }
        let parsed = match name {
            api::REPLAY => Verb::Replay(which(name, value)?),
            api::DISCARD => Verb::Discard(which(name, value)?),
            _ => Verb::Resync(from(value)?),
        };
        if verb.replace(parsed).is_some() {
            return Err(plainly_wrong(&field(name), "asks for something else than another annotation does", "keep one of the two"));
        }
    }
    if let (Some(Verb::Resync(Some(_))), Some(api::PROTOCOL_POP3)) = (&verb, object.spec.protocol.as_deref()) {
        const BEGINNING: &str = "write Beginning as its value and as that of mailbox-collector.io/requestedAt";
        return Err(plainly_wrong(&field(api::RESYNC_FROM), "is a time, and POP3 tells of no message when it came", BEGINNING));
    }
    if let Some(Verb::Resync(_)) = verb
        && let Some(sink) = sinks.iter().find(|sink| !sink.config.idempotent())
        && annotation(api::RESYNC_CONFIRM) != requested_at
    {
        const CONFIRM: &str = "set mailbox-collector.io/resyncConfirm to the very same value if they are welcome, or remove the annotation";
        let problem = format!("would send copies to the sink {:?}, which does not know again what it has", sink.name);
        return Err(plainly_wrong(&field(api::RESYNC_FROM), &problem, CONFIRM));
    }
    Ok((requested_at.cloned(), verb))
}

fn field(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// What stands before the last `@`, by which equal requests are told apart.
fn without_word(value: &str) -> &str {
    value.rsplit_once('@').map_or(value, |(before, _)| before).trim()
}

fn which(name: &'static str, value: &str) -> Result<Which, Error> {
    const WAY_OUT: &str = "write folder/uid, several with commas, for example INBOX/17,INBOX/23, or * for all";
    let text = without_word(value);
    if text == "*" {
        return Ok(Which::All);
    }
    let mut these = Vec::new();
    // A folder's name may hold commas.
    let mut pending = String::new();
    for part in text.split(',') {
        pending.push_str(part);
        match pending.rsplit_once('/').and_then(|(folder, uid)| Some((folder.trim(), uid.trim().parse().ok()?))) {
            Some((folder, uid)) if uid > 0 && !folder.is_empty() => {
                these.push((folder.to_owned(), uid));
                pending.clear();
            }
            _ => pending.push(','),
        }
    }
    if these.is_empty() || !pending.is_empty() {
        return Err(wrong(&field(name), Excerpt(value), "does not name quarantined messages", WAY_OUT));
    }
    Ok(Which::These(these))
}

fn from(value: &str) -> Result<Option<Timestamp>, Error> {
    const WAY_OUT: &str = "write Beginning, or a time such as 2026-11-25T00:00:00Z";
    match without_word(value) {
        "Beginning" => Ok(None),
        text => match text.parse::<Timestamp>() {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(wrong(&field(api::RESYNC_FROM), Excerpt(value), "is neither Beginning nor a time", WAY_OUT)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarantined_messages_are_named_by_folder_and_uid() {
        let these = |list: &[(&str, u32)]| Some(Which::These(list.iter().map(|(folder, uid)| ((*folder).to_owned(), *uid)).collect()));
        for (value, expected) in [
            ("*", Some(Which::All)),
            ("*@monday", Some(Which::All)),
            ("INBOX/17", these(&[("INBOX", 17)])),
            ("INBOX/17@2026-11-25T08:00", these(&[("INBOX", 17)])),
            (" INBOX/17, Factures/\u{c0} traiter/4294967295 ", these(&[("INBOX", 17), ("Factures/\u{c0} traiter", u32::MAX)])),
            ("A, B/3", these(&[("A, B", 3)])),
            ("", None),
            ("INBOX", None),
            ("INBOX/0", None),
            ("INBOX/17,", None),
            ("INBOX/4294967296", None),
            ("/5", None),
            ("**", None),
        ] {
            assert_eq!(which(api::REPLAY, value).ok(), expected, "{value}");
        }
    }

    #[test]
    fn collecting_again_begins_at_a_time_or_at_the_beginning() {
        for (value, expected) in [
            ("Beginning", Some(None)),
            ("Beginning@2", Some(None)),
            ("2026-11-25T00:00:00Z", Some(Some("2026-11-25T00:00:00Z"))),
            ("2026-11-25T01:00:00+01:00@again", Some(Some("2026-11-25T00:00:00Z"))),
            ("yesterday", None),
            ("2026-11-25", None),
            ("", None),
        ] {
            assert_eq!(from(value).ok(), expected.map(|time| time.map(|time| time.parse().unwrap())), "{value}");
        }
    }
}
