//! Holds the sources to the design: who may import whom, which outside crate belongs to which room, how long a file may be, how it opens.
//! Reads the text of the sources only; a new room or an import across rooms must be entered in the tables below on purpose.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Room → rooms that it may import. Values go down, Progress comes up; pure rooms stand at the bottom.
const ROOMS: [(&str, &[&str]); 15] = [
    (
        "cli",
        &[
            "admin",
            "api",
            "collect",
            "controller",
            "cursor",
            "diagnosis",
            "doctor",
            "entra",
            "fleet",
            "proxy",
            "schedule",
            "sink",
            "source",
            "tls",
        ],
    ),
    // Only validate translates `api` into the plain configuration that source, sink and entra own.
    ("controller", &["admin", "api", "collect", "cursor", "diagnosis", "entra", "fleet", "schedule", "sink", "source"]),
    // It examines a work order with what the tasks use: their tokens, connector and sinks.
    ("doctor", &["collect", "diagnosis", "entra", "sink", "source"]),
    ("fleet", &["collect", "diagnosis"]),
    ("collect", &["admin", "cursor", "diagnosis", "entra", "schedule", "sink", "source"]),
    ("diagnosis", &["cursor", "entra", "sink", "source"]),
    ("source", &["cursor", "proxy", "tls"]),
    ("sink", &[]),
    ("entra", &["proxy", "tls"]),
    ("schedule", &["diagnosis"]),
    ("cursor", &[]),
    ("api", &[]),
    // Failures are counted by reason.
    ("admin", &["diagnosis"]),
    ("proxy", &[]),
    ("tls", &[]),
];

/// Outside crate → rooms that may use it. A crate not listed may be used everywhere.
const CRATES: [(&str, &[&str]); 9] = [
    ("kube", &["api", "controller", "fleet/shard", "cli"]),
    ("k8s_openapi", &["api", "controller", "fleet/shard", "cli"]),
    ("async_imap", &["source/imap"]),
    ("imap_proto", &["source/imap"]),
    ("reqwest", &["entra", "cli"]),
    ("axum", &["admin"]),
    ("prometheus_client", &["admin"]),
    ("clap", &["cli", "main.rs"]),
    ("schemars", &["api"]),
];

/// No I/O, no clock, no randomness: what must not stand in a pure room.
const PURE: [&str; 2] = ["cursor", "schedule"];
const IMPURE: [&str; 8] =
    ["tokio::", "std::fs", "std::net", "std::process", "std::env", "Instant::now", "SystemTime::now", "Timestamp::now"];

/// Files may be longer than this only where they are mostly one table, or tests in a file of their own.
const LONGEST: usize = 500;
const LONGEST_TESTS: usize = 800;
const TABLES: [&str; 1] = ["src/diagnosis/table.rs"];

#[test]
fn every_room_imports_only_what_the_table_allows() {
    let mut faults = String::new();
    for source in sources("src") {
        let room = source.room();
        if room == "lib.rs" || room == "main.rs" {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            writeln!(faults, "{}: the room {room} is not in the table", source.path).unwrap();
            continue;
        };
        for import in imports(&source.product()) {
            if import != room && !allowed.contains(&import.as_str()) && ROOMS.iter().any(|(name, _)| *name == import) {
                writeln!(faults, "{}: {room} must not import {import}", source.path).unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_table_of_rooms_has_no_circle() {
    // Repeatedly takes away the rooms that import nothing which is left.
    let mut left: Vec<_> = ROOMS.iter().collect();
    loop {
        let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
        let before = left.len();
        left.retain(|(_, allowed)| allowed.iter().any(|import| names.contains(import)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_outside_crate_stays_in_its_rooms() {
    let mut faults = String::new();
    for source in sources("src") {
        for (name, rooms) in CRATES {
            let inside = rooms.iter().any(|room| {
                let within = source.path.strip_prefix("src/").unwrap_or_default();
                within == *room || within.strip_prefix(room).is_some_and(|rest| rest.starts_with(['/', '.']))
            });
            if !inside && uses_crate(&source.product(), name) {
                writeln!(faults, "{}: {name} belongs to {}", source.path, rooms.join(", ")).unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn pure_rooms_have_no_clock_and_no_input() {
    let mut faults = String::new();
    for source in sources("src").into_iter().filter(|source| PURE.contains(&source.room().as_str())) {
        for word in IMPURE.into_iter().filter(|word| source.product().contains(word)) {
            writeln!(faults, "{}: {word} in a pure room", source.path).unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let mut faults = String::new();
    for source in all_sources() {
        if !source.text.starts_with("//! ") {
            writeln!(faults, "{}: does not open with `//! `", source.path).unwrap();
        }
        let lines = source.text.lines().count();
        let longest = if source.path.ends_with("tests.rs") { LONGEST_TESTS } else { LONGEST };
        if lines > longest && !TABLES.contains(&source.path.as_str()) {
            writeln!(faults, "{}: {lines} lines, at most {longest}", source.path).unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn nothing_unfinished_or_silenced_is_left_behind() {
    let words = ["TODO", "FIXME", "todo!(", "unimplemented!(", "dbg!(", "#[ignore", "#[allow(", "#![allow("];
    let names = ["manager", "helper", "util", "utils", "common_utils"];
    let mut faults = String::new();
    for source in all_sources().into_iter().filter(|source| !source.path.ends_with("architecture.rs")) {
        for word in words.into_iter().filter(|word| source.text.contains(word)) {
            writeln!(faults, "{}: {word}", source.path).unwrap();
        }
        let stem = Path::new(&source.path).file_stem().unwrap().to_string_lossy().into_owned();
        if names.contains(&stem.as_str()) {
            writeln!(faults, "{}: name a file by what is in it", source.path).unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_scanner_sees_every_way_to_import() {
    let text = "use crate::sink::Sink;\nuse crate::{entra, source::{self, Error}};\nfn f() { crate::tls::roots() } // crate::api\npub(in crate::fleet) fn g() {}\n";
    assert_eq!(imports(&without_comments(text)), ["entra", "fleet", "sink", "source", "tls"]);
    assert!(uses_crate("use kube::Client;", "kube"));
    assert!(uses_crate("fn f() -> kube::Result<()>", "kube"));
    assert!(uses_crate("#[derive(clap::Args)]", "clap"));
    assert!(!uses_crate("use my_kube::Client; struct kubeX;", "kube"));
}

struct Source {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The first part of the path below `src`, without `.rs`.
    fn room(&self) -> String {
        let within = self.path.strip_prefix("src/").unwrap_or(&self.path);
        match within.split_once('/') {
            Some((room, _)) => room.to_owned(),
            None if within == "lib.rs" || within == "main.rs" => within.to_owned(),
            None => within.trim_end_matches(".rs").to_owned(),
        }
    }

    /// The code that ships: no comments, no tests.
    fn product(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        if name.ends_with("tests.rs") || name == "conformance.rs" || self.path.contains("/tests/") {
            return String::new();
        }
        let shipped = self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        without_comments(shipped)
    }
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("// ").next().unwrap_or_default()).filter(|line| !line.trim_start().starts_with("//")).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    )
}

/// The rooms named after `crate::`, sorted.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(is_word) {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut fresh = true;
                for (index, character) in list.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => fresh = true,
                        other if fresh && is_word(other) => {
                            found.push(word(&list[index..]));
                            fresh = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn uses_crate(text: &str, name: &str) -> bool {
    text.match_indices(&format!("{name}::")).any(|(at, _)| !text[..at].ends_with(|before: char| is_word(before) || before == ':'))
        || text.contains(&format!("use {name};"))
}

fn word(text: &str) -> String {
    text.chars().take_while(|character| is_word(*character)).collect()
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn all_sources() -> Vec<Source> {
    ["src", "tests/it", "tests/simulator/src", "tests/fuzz/src", "tests/fuzz/fuzz_targets", "tests/fuzz/tests", "xtask/src"]
        .into_iter()
        .flat_map(sources)
        .collect()
}

fn sources(folder: &str) -> Vec<Source> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty());
    found
}
