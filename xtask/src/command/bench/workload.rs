//! The mail of the benchmark: the same bytes every time, from a seed. What it is like follows real mailboxes: multipart notices of some KB,
//! office mail with base64 attachments (log-normal, median 75 KB), a few very long messages.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use xtask::dovecot::Dovecot;
use xtask::say;

/// What must be delivered: length and SHA-256 of the body (line ends as LF, none at the end) by Message-ID.
pub(super) type Expected = HashMap<String, (usize, [u8; 32])>;

const WORDS: [&str; 24] = [
    "facture",
    "livraison",
    "rappel",
    "réunion",
    "contrat",
    "pièce",
    "jointe",
    "merci",
    "bonjour",
    "avant",
    "semaine",
    "commande",
    "référence",
    "client",
    "paiement",
    "numéro",
    "signé",
    "copie",
    "dossier",
    "objet",
    "trimestre",
    "budget",
    "projet",
    "cordialement",
];

/// A workload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    mailboxes: usize,
    messages: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Small,
    Office,
    Huge,
}

impl Workload {
    pub(super) fn named(name: &str, small: bool) -> anyhow::Result<Self> {
        let (name, mailboxes, messages, kind) = match name {
            "W1" => ("W1", 1, 10_000, Kind::Small),
            "W2" => ("W2", 1, 2_000, Kind::Office),
            "W3" => ("W3", 1, 20, Kind::Huge),
            "W5" => ("W5", 200, 10, Kind::Small),
            other => bail!("there is no workload {other}; there are W1, W2, W3 and W5"),
        };
        let part = |count: usize| if small { count.div_ceil(20) } else { count };
        Ok(if mailboxes > 1 {
            Self { name, mailboxes: part(mailboxes), messages, kind }
        } else {
            Self { name, mailboxes, messages: part(messages), kind }
        })
    }

    pub(super) fn mailboxes(&self) -> Vec<String> {
        (0..self.mailboxes).map(|number| format!("{}-{number:03}@bench.example", self.name.to_lowercase())).collect()
    }

    /// Outputs are not kept until the end.
    pub(super) fn is_large(&self) -> bool {
        self.kind == Kind::Huge
    }

    /// Puts the mail into the server.
    pub(super) fn load(&self, server: &Dovecot) -> anyhow::Result<Expected> {
        say(format_args!("── {}: {} mailboxes with {} messages each", self.name, self.mailboxes, self.messages));
        let mut expected = Expected::new();
        for (place, mailbox) in self.mailboxes().iter().enumerate() {
            let mut messages = Vec::with_capacity(self.messages);
            for number in 0..self.messages {
                let id = format!("{}.{place:03}.{number:06}@bench.example", self.name.to_lowercase());
                let message = self.message(&id, (place * self.messages + number) as u64);
                expected.insert(id, (message.len(), body_digest(&message)));
                messages.push(message);
            }
            server.load(mailbox, &messages)?;
        }
        Ok(expected)
    }

    fn message(&self, id: &str, number: u64) -> Vec<u8> {
        let mut random = Random(number.wrapping_mul(0x9e37_79b9).wrapping_add(self.name.bytes().map(u64::from).sum()));
        let size = match self.kind {
            // About normal: the mean of four.
            Kind::Small => 1_400 + (0..4).map(|_| random.below(1_150)).sum::<u64>(),
            Kind::Office => {
                let normal = (0..12).map(|_| random.fraction()).sum::<f64>() - 6.0;
                (76_800.0 * (1.6 * normal).exp()).clamp(6_000.0, 10_485_760.0) as u64
            }
            Kind::Huge => 40 << 20,
        };
        let mut text = header(id, &mut random);
        let boundary = format!("b{:016x}", random.next());
        let attached = self.kind != Kind::Small;
        let kind = if attached { "mixed" } else { "alternative" };
        text.push_str(&format!("Content-Type: multipart/{kind}; boundary=\"{boundary}\"\r\n\r\n"));
        // Headers count; those of the two parts take about 300 bytes more.
        let prose = if attached { 2_300 } else { size.saturating_sub(text.len() as u64 + 300) };
        for part in ["plain", "html"] {
            text.push_str(&format!("--{boundary}\r\nContent-Type: text/{part}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"));
            write_prose(&mut text, prose / 2, &mut random);
        }
        if attached {
            text.push_str(&format!(
                "--{boundary}\r\nContent-Type: application/pdf; name=\"piece.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\
                 Content-Disposition: attachment; filename=\"piece.pdf\"\r\n\r\n"
            ));
            let left = size.saturating_sub(text.len() as u64);
            for _ in 0..left / 78 {
                let mut raw = [0; 57];
                raw.chunks_mut(8)
                    .for_each(|chunk| chunk.copy_from_slice(random.next().to_le_bytes().get(..chunk.len()).unwrap_or_default()));
                BASE64_STANDARD.encode_string(raw, &mut text);
                text.push_str("\r\n");
            }
        }
        text.push_str(&format!("--{boundary}--\r\n"));
        text.into_bytes()
    }
}

fn header(id: &str, random: &mut Random) -> String {
    let mut text = String::new();
    for hop in 0..3 {
        text.push_str(&format!(
            "Received: from mx{hop}.example.net (mx{hop}.example.net [192.0.2.{}])\r\n\tby relay{hop}.example.org with ESMTPS id {:012X};\r\n\tMon, 5 Jan 2026 08:01:37 +0000\r\n",
            random.below(255),
            random.below(1 << 48)
        ));
    }
    let mut signature = [0; 192];
    signature.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
    let signature = BASE64_STANDARD.encode(signature);
    text.push_str(
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=s1;\r\n\th=from:to:subject:date:message-id;\r\n\tb=",
    );
    for (place, letter) in signature.chars().enumerate() {
        if place % 70 == 69 {
            text.push_str("\r\n\t ");
        }
        text.push(letter);
    }
    text.push_str(&format!(
        "\r\nFrom: =?utf-8?Q?Ren=C3=A9e_Dubois?= <renee@example.net>\r\nTo: <inbox@bench.example>\r\nSubject: {} {} {:06}\r\n\
         Date: Mon, 5 Jan 2026 08:01:37 +0000\r\nMessage-ID: <{id}>\r\nMIME-Version: 1.0\r\n",
        WORDS.iter().filter(|word| word.is_ascii()).nth(random.below(12) as usize).unwrap_or(&"objet"),
        random.below(1_000_000),
        random.below(1_000_000)
    ));
    text
}

fn write_prose(text: &mut String, bytes: u64, random: &mut Random) {
    let (end, mut line) = (text.len() + bytes as usize, 0);
    while text.len() < end {
        let word = WORDS.get(random.below(WORDS.len() as u64) as usize).unwrap_or(&"mot");
        line += word.len() + 1;
        text.push_str(word);
        text.push_str(if line > 70 { "\r\n" } else { " " });
        line = if line > 70 { 0 } else { line };
    }
    text.push_str("\r\n");
}

/// Every message is there once, with its body.
pub(super) fn verify(out: &Path, expected: &Expected) -> anyhow::Result<()> {
    let mut missing: HashMap<&str, &(usize, [u8; 32])> = expected.iter().map(|(id, facts)| (id.as_str(), facts)).collect();
    let mut folders = vec![out.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Programs keep notes of their own beside the mail.
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            let message = fs::read(&path)?;
            let head = String::from_utf8_lossy(message.get(..message.len().min(4_096)).unwrap_or_default()).into_owned();
            let id = head.split_once("Message-ID: <").and_then(|(_, rest)| rest.split_once('>')).map(|(id, _)| id);
            let id = id.with_context(|| format!("{} is no message", path.display()))?;
            let Some((_, wanted)) = missing.remove(id) else { bail!("{id} is there twice, or was never sent ({})", path.display()) };
            if body_digest(&message) != *wanted {
                bail!("{} has another body than was sent", path.display());
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { bail!("{} of {} messages are missing", missing.len(), expected.len()) }
}

/// Of the body with LF line ends and none at its end: what all programs keep.
fn body_digest(message: &[u8]) -> [u8; 32] {
    let bytes: Vec<u8> = message.iter().copied().filter(|byte| *byte != b'\r').collect();
    let start = bytes.windows(2).position(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
    let body = bytes.get(start..).unwrap_or_default().trim_ascii_end();
    let mut digest_bytes = [0; 32];
    digest_bytes.copy_from_slice(digest(&SHA256, body).as_ref());
    digest_bytes
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mail_is_the_same_every_time_and_of_the_sizes_that_it_should_have() {
        for (name, low, high) in [("W1", 3_200, 4_200), ("W2", 60_000, 95_000)] {
            let workload = Workload::named(name, false).unwrap();
            let mut lengths: Vec<usize> = (0..301).map(|number| workload.message("a@b", number).len()).collect();
            lengths.sort_unstable();
            assert!((low..high).contains(&lengths[150]), "{name}: median {}", lengths[150]);
            assert_eq!(workload.message("a@b", 7), workload.message("a@b", 7));
            assert_ne!(workload.message("a@b", 7), workload.message("a@b", 8));
        }
    }

    #[test]
    fn what_is_missing_doubled_or_changed_is_found() {
        let workload = Workload::named("W1", false).unwrap();
        let (one, two) = (workload.message("one@b", 1), workload.message("two@b", 2));
        let mut expected = Expected::new();
        for (id, message) in [("one@b", &one), ("two@b", &two)] {
            expected.insert(id.to_owned(), (message.len(), body_digest(message)));
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("1"), &one).unwrap();
        assert!(verify(folder.path(), &expected).unwrap_err().to_string().contains("1 of 2"));
        let unix: Vec<u8> = two.iter().copied().filter(|byte| *byte != b'\r').collect();
        fs::write(folder.path().join("2"), &unix).unwrap();
        verify(folder.path(), &expected).unwrap();
        fs::write(folder.path().join("3"), &one).unwrap();
        assert!(verify(folder.path(), &expected).unwrap_err().to_string().contains("twice"));
        fs::remove_file(folder.path().join("3")).unwrap();
        fs::write(folder.path().join("2"), [&unix[..], b"more"].concat()).unwrap();
        assert!(verify(folder.path(), &expected).unwrap_err().to_string().contains("another body"));
    }
}
