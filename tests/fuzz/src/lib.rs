//! The fuzz targets: what reads bytes that others wrote. Each takes any input, and panics when a promise is broken.
//!
//! The product's own sources are compiled in, not the product: a fuzzer needs neither a cluster's client nor TLS, and builds in a minute.
#![expect(dead_code, reason = "of the sources only a part is called")]

#[path = "../../../src/cursor/mod.rs"]
pub mod cursor;
#[path = "../../../src/controller/validate/grammar.rs"]
mod grammar_of_specs;
#[path = "../../../src/sink/header.rs"]
mod header;
#[path = "../../../src/sink/identity.rs"]
mod identity;
mod imap;
#[path = "../../../src/proxy.rs"]
mod proxy;
#[path = "../../../src/source/mod.rs"]
pub mod source;
#[path = "../../../src/sink/substitute.rs"]
mod substitute;
#[path = "../../../src/diagnosis/throttle.rs"]
mod throttle_text;

use std::time::Duration;

pub use imap::session;

/// Every target by name; each has a folder of that name in `corpus`.
pub const TARGETS: [(&str, fn(&[u8])); 6] =
    [("splitter", splitter), ("session", session), ("throttle", throttle), ("cursor", cursor), ("grammar", grammar), ("message", message)];

/// The tap's splitter: the same whatever the chunks, and bounded.
pub fn splitter(data: &[u8]) {
    source::imap::fuzzing::splitter(data);
}

/// The text of a refusal: a hint is between a second and an hour.
pub fn throttle(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let wait = throttle_text::throttle(&text).and_then(|throttle| throttle.wait);
    assert!(wait.is_none_or(|wait| (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&wait)), "{wait:?}");
}

/// A stored cursor: whatever can be read can be worked with and written, and reads back as the same.
pub fn cursor(data: &[u8]) {
    let Ok(mut read) = serde_json::from_slice::<cursor::Cursor>(data) else { return };
    let text = serde_json::to_vec(&read).expect("what was read can be written");
    let again: cursor::Cursor = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(again, read);
    let now = jiff::Timestamp::from_second(1_780_000_000).expect("a time of our century");
    let names: Vec<String> = read.folders().map(|folder| folder.name().to_owned()).collect();
    for name in names {
        let folder = read.folder_mut(&name);
        folder.opened(7, Some(500), now);
        let listed: cursor::UidSet = "1:3,9,400".parse().expect("a set");
        let work = folder.listed(1, u32::MAX, &listed, now);
        // Law 1: what is listed is either work, or decided or owed by now.
        for uid in listed.iter() {
            assert!(work.contains(uid) || !folder.undecided(400).contains(uid) || folder.owed().contains_key(&uid), "{uid} is forgotten");
        }
        folder.decide(&work);
        folder.due(now);
        folder.next_due();
    }
    read.full();
    read.room();
    read.stored_bytes();
}

/// What users write into specs: a path stays below the folder that it is joined to; a duration is within its bounds.
pub fn grammar(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(path) = grammar_of_specs::relative_path(text) {
        assert!(path.is_relative() && path.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{path:?}");
        assert!(path.as_os_str().len() <= 1_024);
    }
    let (least, most) = (Duration::from_secs(60), Duration::from_secs(86_400));
    if let Ok(duration) = grammar_of_specs::duration(text, least, most) {
        assert!((least..=most).contains(&duration), "{duration:?}");
    }
    if let Some(mailbox) = grammar_of_specs::mailbox(text) {
        assert!(mailbox.contains('@') && !mailbox.chars().any(|letter| letter.is_control() || letter.is_whitespace()), "{mailbox:?}");
    }
    grammar_of_specs::is_object_name(text);
    let shown = grammar_of_specs::Excerpt(text).to_string();
    assert!(shown.chars().count() <= 64 && !shown.chars().any(char::is_control), "{shown:?}");
    if let Ok(set) = text.parse::<cursor::UidSet>() {
        let again: cursor::UidSet = set.to_string().parse().expect("what was written can be read");
        assert_eq!(again, set);
    }
}

/// A message: its header fields, its Message-ID, whether it is a substitute. The verdict is the same whatever the chunks.
pub fn message(data: &[u8]) {
    let Some((size, message)) = data.split_first() else { return };
    for (name, value) in header::fields(message) {
        assert!(name.len() + value.len() <= message.len());
    }
    let token = identity::message_id(message);
    assert!(token.is_none_or(|token| !token.is_empty() && token.len() <= message.len()));
    let numbering = identity::Numbering::new("a@contoso.fr", "INBOX", 7);
    let name = identity::Identity { fingerprint: numbering.fingerprint(message, None), placement: numbering.placement(1) };
    assert_eq!(identity::Identity::parse(name.name().as_bytes()), Some(name));
    let parsed = identity::Identity::parse(message);
    assert!(parsed.is_none_or(|parsed| parsed.name().as_bytes() == message));
    let mut examination = substitute::Examination::new();
    for piece in message.chunks(usize::from(*size).max(1)) {
        examination.feed(piece);
    }
    assert_eq!(examination.suspicion(), substitute::suspicion(message), "cut into pieces of {size}");
}
