//! French: every word of the French texts passes a French spelling dictionary, plus the product's glossary. The pages under docs/fr hold them
//! all: each message of the diagnosis, the guide, the matrix of missed steps; the checklist is added.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use mailbox_collector::diagnosis::{Confidence, Language, SetupStep, reference};
use mailbox_collector::doctor::{Evidence, onboard};

/// Words that no dictionary has: names of products, commands, fields. One a line, with `#` for remarks.
const GLOSSARY: &str = include_str!("french-glossary.txt");

#[test]
fn every_french_word_is_in_the_dictionary_or_in_the_glossary() {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(xtask::root().join("docs/fr")).unwrap() {
        let path = entry.unwrap().path();
        texts.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
    }
    assert!(texts.len() >= 4, "docs/fr is not what it was");
    texts.push(("reasons".into(), reference::page(Language::Fr)));
    texts.push(("guide".into(), onboard::page(Language::Fr)));
    let titles: Vec<&str> = SetupStep::ALL.iter().map(|step| step.title(Language::Fr)).collect();
    texts.push(("checklist".into(), titles.join("\n")));
    texts.push(("evidence".into(), evidence().map(|evidence| evidence.text(Language::Fr)).join("\n")));
    let glossary: BTreeSet<&str> = GLOSSARY.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    for (name, text) in texts {
        let unknown: BTreeSet<String> = misspelt(&prose(&text)).into_iter().filter(|word| !glossary.contains(word.as_str())).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
    // A dictionary that takes everything would prove nothing.
    assert_eq!(misspelt("le locataire est inconu"), ["inconu"]);
}

#[test]
fn no_french_text_is_the_english_one() {
    for evidence in evidence() {
        assert_ne!(evidence.text(Language::En), evidence.text(Language::Fr), "{evidence:?}");
    }
    assert_ne!(Confidence::High.as_str(), Confidence::Low.as_str());
}

/// What the checklist says of what was seen, in words of its own.
fn evidence() -> [Evidence; 16] {
    [
        Evidence::SpecAccepted,
        Evidence::SecretRead("azure-app".into()),
        Evidence::EntraAnswered,
        Evidence::EntraWentOn,
        Evidence::OrderUnknown,
        Evidence::TokenIssued,
        Evidence::Roles(vec!["IMAP.AccessAsApp".into()]),
        Evidence::PermissionOrConsent,
        Evidence::TokenOpaque,
        Evidence::ExchangeAnswered,
        Evidence::LoggedIn,
        Evidence::AddressOrAccess,
        Evidence::MailboxOpened,
        Evidence::FolderOpened(7),
        Evidence::SinkReady,
        Evidence::SinkElsewhere,
    ]
}

/// Without what is no prose: blocks and spans of code, remarks, links' targets, addresses, words with a dot, a dash in front, or digits.
fn prose(markdown: &str) -> String {
    let mut text = String::new();
    let mut code = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code && !line.starts_with("<!--") {
            for (index, span) in line.split('`').enumerate() {
                text += if index % 2 == 0 { span } else { "" };
            }
            text.push('\n');
        }
    }
    let plain = |word: &&str| {
        let inner = word.trim_matches(|character: char| !character.is_alphanumeric());
        let odd = |character: char| character.is_ascii_digit() || "@/.$=_{}".contains(character);
        !inner.contains(odd) && !word.starts_with('-')
    };
    text.split_whitespace().filter(plain).collect::<Vec<_>>().join(" ")
}

fn misspelt(text: &str) -> Vec<String> {
    let mut hunspell = Command::new("/usr/bin/hunspell")
        .args(["-d", "fr", "-i", "UTF-8", "-l"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("hunspell with its French dictionary is needed: `cargo xtask test` installs both");
    hunspell.stdin.take().unwrap().write_all(text.replace(['«', '»', '’'], "'").as_bytes()).unwrap();
    let output = hunspell.wait_with_output().unwrap();
    assert!(output.status.success(), "hunspell failed: are its French dictionaries installed? `cargo xtask test` does");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
