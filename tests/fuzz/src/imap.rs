//! A whole session above the tap, against a server whose answers are the input: parser, tagged answers, FETCH, IDLE, deadlines (on a paused clock).

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::source::imap::Session;
use crate::source::{Absent, Access, Head, Intake, Settle, Source as _, Stop};

/// Bodies longer than this count as too large.
const MAX: u64 = 1 << 20;
/// Stands between two answers of the server; `{tag}` in one becomes the tag of the command that is answered.
const NEXT: &[u8] = b"\n--\n";

/// Greeting, then one answer for each line of the client; when they are used up, silence or (first byte odd) the end. Two more bits of the first
/// byte say what becomes of the messages.
pub fn session(data: &[u8]) {
    let Some((first, script)) = data.split_first() else { return };
    let closes = first % 2 == 1;
    let settle = [None, Some(Settle::MarkSeen), Some(Settle::Move("Trait\u{e9}".to_owned())), Some(Settle::Delete)][usize::from(first / 2 % 4)].clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(usize::from(*first) * 16 + 64);
        let server = tokio::spawn(serve(theirs, script.to_vec(), closes));
        drop(tokio::time::timeout(Duration::from_secs(7_200), converse(ours, script.len(), settle)).await.expect("every wait has a deadline"));
        server.abort();
    });
}

async fn serve(stream: tokio::io::DuplexStream, script: Vec<u8>, closes: bool) {
    let (reading, mut writing) = tokio::io::split(stream);
    let mut lines = BufReader::new(reading).split(b'\n');
    let mut tag = Vec::new();
    for answer in Pieces(Some(&script)) {
        let mut rest = answer;
        while let Some(at) = rest.windows(5).position(|window| window == b"{tag}") {
            let (before, after) = rest.split_at(at);
            if writing.write_all(before).await.is_err() || writing.write_all(&tag).await.is_err() {
                return;
            }
            rest = &after[5..];
        }
        if writing.write_all(rest).await.is_err() {
            return;
        }
        let Ok(Some(line)) = lines.next_segment().await else { return };
        if line.starts_with(b"A") {
            tag = line.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
        }
    }
    if !closes {
        while let Ok(Some(_)) = lines.next_segment().await {}
    }
}

async fn converse(stream: tokio::io::DuplexStream, length: usize, settle: Option<Settle>) -> Result<(), crate::source::Error> {
    let mut session = Session::start(stream, "a@contoso.fr", &SecretString::from("token"), MAX).await?;
    let opened = session.open("Factures/\u{c0} traiter", if settle.is_some() { Access::Select } else { Access::Examine }).await?;
    assert!(opened.uid_validity > 0);
    let listed = session.list(1, 400).await?;
    assert!(listed.iter().all(|uid| (1..=400).contains(&uid)), "{listed}");
    let asked = "1:9".parse().expect("a set");
    let mut taken = Taken { most: length as u64 + 64, ..Taken::default() };
    session.fetch(&asked, &mut taken).await?;
    if let Some(settle) = settle {
        session.settle(&asked, &settle).await?;
        let left = session.unsettled(&asked, &settle).await?;
        assert!(left.difference(&asked).is_empty(), "{left}");
    }
    session.wait(Duration::from_secs(60), tokio::time::sleep(Duration::from_secs(30))).await?;
    session.close().await;
    Ok(())
}

/// Believes nothing: whatever is given was asked for, once, and is as long as it was said to be.
#[derive(Default)]
struct Taken {
    given: HashSet<u32>,
    bytes: u64,
    most: u64,
}

impl Taken {
    fn take(&mut self, uid: u32, bytes: u64) {
        assert!((1..=9).contains(&uid) && self.given.insert(uid), "UID {uid} was not asked for, or came twice");
        self.bytes += bytes;
        // Tags that the script asks for are longer than their place.
        assert!(self.bytes <= self.most * 2, "{} bytes from a script of {}", self.bytes, self.most);
    }
}

impl Intake for Taken {
    type Part = u64;

    async fn whole(&mut self, head: Head, body: Bytes) -> Result<(), Stop> {
        assert_eq!(head.size, body.len() as u64);
        self.take(head.uid, head.size);
        Ok(())
    }

    async fn begin(&mut self, length: u64) -> Result<u64, Stop> {
        assert!(length <= MAX);
        Ok(0)
    }

    async fn chunk(&mut self, part: &mut u64, bytes: Bytes) -> Result<(), Stop> {
        *part += bytes.len() as u64;
        Ok(())
    }

    async fn end(&mut self, head: Head, part: u64) -> Result<(), Stop> {
        assert_eq!(head.size, part);
        self.take(head.uid, part);
        Ok(())
    }

    fn absent(&mut self, uid: u32, _: Absent) {
        self.take(uid, 0);
    }
}

/// The parts of the script.
struct Pieces<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        match rest.windows(NEXT.len()).position(|window| window == NEXT) {
            None => self.0.take(),
            Some(at) => {
                self.0 = rest.get(at + NEXT.len()..);
                rest.get(..at)
            }
        }
    }
}
