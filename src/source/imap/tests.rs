//! Sessions against a scripted server over an in-memory stream, on tokio's paused clock.

use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Session;
use crate::cursor::UidSet;
use crate::source::{Absent, Access, Error, Head, Intake, Opened, Refusal, Source as _, Step, Stop, Wake};

mod bad_input;
mod settling;
mod waiting;

const MAILBOX: &str = "factures@contoso.fr";
const TOKEN: &str = "canary-token-EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA";
const MAX: u64 = 2 << 20;
const GREETING: &str = "* OK The Microsoft Exchange IMAP4 service is ready. [RgBSADMAUAAyADgAMQBDAEEA]\r\n";
const LIST: &str = "* LIST (\\Noselect) \"/\" \"\"\r\n{tag} OK LIST completed.\r\n";

/// What the server does on a command that holds the words; without words, at once; `\n` stands for an empty line.
type Exchange = (&'static str, Vec<u8>);

/// How a script ends.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Hold,
}

struct Peer {
    stream: DuplexStream,
    commands: Vec<String>,
}

impl Peer {
    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            if byte == b'\n' {
                let line = String::from_utf8(line).unwrap().trim_end().to_owned();
                self.commands.push(line.clone());
                return Some(line);
            }
            line.push(byte);
        }
    }

    async fn play(mut self, script: Vec<Exchange>, then: Then) -> Vec<String> {
        let mut tag = String::new();
        for (expected, reply) in script {
            if !expected.is_empty() {
                let Some(line) = self.line().await else { return self.commands };
                assert!(line.contains(expected.trim_end()) && (line.is_empty() == (expected == "\n")), "expected {expected}, got {line}");
                if line.starts_with('A') {
                    line.split(' ').next().unwrap().clone_into(&mut tag);
                }
            }
            if self.stream.write_all(&with_tag(&reply, &tag)).await.is_err() {
                return self.commands;
            }
        }
        if then == Then::Hold {
            while self.line().await.is_some() {}
        }
        self.commands
    }
}

fn with_tag(reply: &[u8], tag: &str) -> Vec<u8> {
    let mut whole = Vec::new();
    let mut rest = reply;
    while let Some(at) = rest.windows(5).position(|w| w == b"{tag}") {
        whole.extend_from_slice(&rest[..at]);
        whole.extend_from_slice(tag.as_bytes());
        rest = &rest[at + 5..];
    }
    whole.extend_from_slice(rest);
    whole
}

fn connected(buffer: usize, script: Vec<Exchange>, then: Then) -> (DuplexStream, JoinHandle<Vec<String>>) {
    let (ours, theirs) = duplex(buffer);
    (ours, tokio::spawn(Peer { stream: theirs, commands: Vec::new() }.play(script, then)))
}

async fn start(stream: DuplexStream) -> Result<Session<DuplexStream>, Error> {
    Session::start(stream, MAILBOX, &SecretString::from(TOKEN), MAX).await
}

/// A session that is logged in, whose server goes on with `script`.
async fn logged_in_through(buffer: usize, script: Vec<Exchange>, then: Then) -> (Session<DuplexStream>, JoinHandle<Vec<String>>) {
    let mut whole: Vec<Exchange> = vec![
        ("", GREETING.into()),
        ("AUTHENTICATE XOAUTH2 ", "{tag} OK AUTHENTICATE completed.\r\n".into()),
        ("LIST \"\" \"\"", LIST.into()),
    ];
    whole.extend(script);
    let (stream, peer) = connected(buffer, whole, then);
    (start(stream).await.unwrap(), peer)
}

async fn logged_in(script: Vec<Exchange>) -> Session<DuplexStream> {
    logged_in_through(64 * 1024, script, Then::Close).await.0
}

/// What was fetched.
#[derive(Debug, Default, PartialEq)]
struct Taken {
    whole: Vec<(u32, Option<String>, Vec<u8>)>,
    long: Vec<(u32, Vec<u8>)>,
    absent: Vec<(u32, Absent)>,
    stop_at: Option<usize>,
    begun: usize,
}

impl Taken {
    fn check(&self) -> Result<(), Stop> {
        if self.stop_at == Some(self.whole.len() + self.long.len()) { Err(Stop) } else { Ok(()) }
    }
}

impl Intake for Taken {
    type Part = Vec<u8>;
    async fn whole(&mut self, head: Head, body: Bytes) -> Result<(), Stop> {
        self.check()?;
        assert_eq!(head.size, body.len() as u64);
        self.whole.push((head.uid, head.internal_date.map(|t| t.to_string()), body.to_vec()));
        Ok(())
    }
    async fn begin(&mut self, length: u64) -> Result<Vec<u8>, Stop> {
        self.check()?;
        self.begun += 1;
        Ok(Vec::with_capacity(length as usize))
    }
    async fn chunk(&mut self, part: &mut Vec<u8>, bytes: Bytes) -> Result<(), Stop> {
        assert!(bytes.len() <= 64 * 1024);
        part.extend_from_slice(&bytes);
        Ok(())
    }
    async fn end(&mut self, head: Head, part: Vec<u8>) -> Result<(), Stop> {
        assert_eq!(head.size, part.len() as u64);
        self.long.push((head.uid, part));
        Ok(())
    }
    fn absent(&mut self, uid: u32, what: Absent) {
        self.absent.push((uid, what));
    }
}

fn set(text: &str) -> UidSet {
    text.parse().unwrap()
}

fn body(length: usize) -> Vec<u8> {
    // Bytes that look like protocol, in a period that no buffer size divides.
    b"* 1 FETCH (BODY[] {9}\r\n)\r\nA0004 OK\r\n\0\xff{tag".iter().copied().cycle().take(length).collect()
}

fn message(uid: u32, body: &[u8]) -> Vec<u8> {
    let mut reply =
        format!("* {uid} FETCH (UID {uid} INTERNALDATE \"17-Jul-2026 02:44:25 +0200\" BODY[] {{{}}}\r\n", body.len()).into_bytes();
    reply.extend_from_slice(body);
    reply.extend_from_slice(b")\r\n");
    reply
}

fn refused(step: Step, refusal: Refusal, code: Option<&str>, text: &str) -> Error {
    Error::Refused { step, refusal, code: code.map(str::to_owned), text: text.to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_is_opened_listed_fetched_and_left() {
    let fetched =
        [message(1, b"one"), b"* 9 EXISTS\r\n".to_vec(), message(3, b"three"), b"{tag} OK FETCH completed.\r\n".to_vec()].concat();
    let (mut session, peer) = logged_in_through(
        4096,
        vec![
            (
                "EXAMINE \"Factures/&AMA- traiter\"",
                "* 8 EXISTS\r\n* 0 RECENT\r\n* FLAGS (\\Seen $MDNSent)\r\n* OK [PERMANENTFLAGS ()] Permanent flags\r\n* OK [UNSEEN 1] Is the first\r\n\
                 * OK [UIDVALIDITY 14] UIDVALIDITY value\r\n* OK [UIDNEXT 345] The next\r\n{tag} OK [READ-ONLY] EXAMINE completed.\r\n"
                    .into(),
            ),
            ("UID SEARCH UID 1:400", "* SEARCH 1 3\r\n* SEARCH 2 401 344\r\n{tag} OK SEARCH completed.\r\n".into()),
            ("UID FETCH 1:3 (UID INTERNALDATE BODY.PEEK[])", fetched),
            ("LOGOUT", "* BYE Microsoft Exchange Server IMAP4 server signing off.\r\n{tag} OK LOGOUT completed.\r\n".into()),
        ],
        Then::Close,
    )
    .await;
    let opened = session.open("Factures/À traiter", Access::Examine).await.unwrap();
    assert_eq!(opened, Opened { uid_validity: 14, uid_next: Some(345), exists: 8, read_only: true });
    assert_eq!(session.list(0, 400).await.unwrap(), set("1:3,344"));
    let mut taken = Taken::default();
    session.fetch(&set("1:3"), &mut taken).await.unwrap();
    let date = Some("2026-07-17T00:44:25Z".to_owned());
    assert_eq!(taken.whole, [(1, date.clone(), b"one".to_vec()), (3, date, b"three".to_vec())]);
    // EXISTS came inside the FETCH: waiting must not wait.
    assert_eq!(session.wait(Duration::from_secs(60), std::future::pending()).await, Ok(Wake::NewMail));
    session.close().await;
    assert_eq!(peer.await.unwrap().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn the_sasl_response_is_the_documented_one() {
    let script: Vec<Exchange> = vec![("", GREETING.into()), ("AUTHENTICATE", "{tag} NO AUTHENTICATE failed.\r\n".into())];
    let (stream, peer) = connected(4096, script, Then::Close);
    let token = SecretString::from("EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA");
    let error = Session::start(stream, "test@contoso.onmicrosoft.com", &token, MAX).await.unwrap_err();
    assert_eq!(error, refused(Step::Authenticate, Refusal::No, None, "AUTHENTICATE failed."));
    // The vector in Microsoft's "Authenticate an IMAP, POP or SMTP connection using OAuth".
    assert_eq!(
        peer.await.unwrap(),
        [
            "A0001 AUTHENTICATE XOAUTH2 dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJDM0VvQUEBAQ=="
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_of_the_log_in_are_told_with_step_kind_code_and_text() {
    let base64 =
        "dXNlcj1mYWN0dXJlc0Bjb250b3NvLmZyAWF1dGg9QmVhcmVyIGNhbmFyeS10b2tlbi1Fd0JBQWwzQkFBVUZGcFVBbzdKM1ZlMGJqTEJXWldDY2xSQzNFb0FBAQE=";
    let auth = |reply: &str| -> Vec<Exchange> { vec![("", GREETING.into()), ("AUTHENTICATE XOAUTH2 ", reply.into())] };
    let two_steps = |greeting: &str| -> Vec<Exchange> {
        vec![("", greeting.into()), ("AUTHENTICATE XOAUTH2", "+ \r\n".into()), (base64, "{tag} NO [AUTHENTICATIONFAILED] no\r\n".into())]
    };
    let probe = |reply: &str| -> Vec<Exchange> {
        vec![("", GREETING.into()), ("AUTHENTICATE", "{tag} OK AUTHENTICATE completed.\r\n".into()), ("LIST \"\" \"\"", reply.into())]
    };
    let mut bad_then_two_steps = auth("{tag} BAD Command Argument Error. 11\r\n");
    bad_then_two_steps.extend(two_steps("").into_iter().skip(1));
    let mut challenge = auth("+ eyJzdGF0dXMiOiI0MDEifQ==\r\n");
    challenge.push(("\n", "{tag} NO AUTHENTICATE failed.\r\n".into()));
    let unable = "User is authenticated but not connected.";
    let cases: Vec<(Vec<Exchange>, Error)> = vec![
        (vec![("", "* BYE Connection is closed. 13\r\n".into())], refused(Step::Greeting, Refusal::Bye, None, "Connection is closed. 13")),
        (vec![("", "Server Unavailable. 15\r\n".into())], refused(Step::Greeting, Refusal::Bad, None, "Server Unavailable. 15")),
        (vec![("", "* PREAUTH hi\r\n".into())], Error::Protocol { step: Step::Greeting, what: "the server takes us for someone already" }),
        (vec![("", "".into())], Error::Closed(Step::Greeting)),
        (auth(""), Error::Closed(Step::Authenticate)),
        (auth("{tag} NO AUTHENTICATE failed.\r\n"), refused(Step::Authenticate, Refusal::No, None, "AUTHENTICATE failed.")),
        (auth("{tag} NO [UNAVAILABLE] later\r\n"), refused(Step::Authenticate, Refusal::No, Some("UNAVAILABLE"), "later")),
        (auth("* BYE Connection closed. 14\r\n"), refused(Step::Authenticate, Refusal::Bye, None, "Connection closed. 14")),
        (auth("Server Unavailable. 15\r\n"), refused(Step::Authenticate, Refusal::Bad, None, "Server Unavailable. 15")),
        (challenge, refused(Step::Authenticate, Refusal::No, None, "AUTHENTICATE failed. {\"status\":\"401\"}")),
        (bad_then_two_steps, refused(Step::Authenticate, Refusal::No, Some("AUTHENTICATIONFAILED"), "no")),
        (
            two_steps("* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2] ready\r\n"),
            refused(Step::Authenticate, Refusal::No, Some("AUTHENTICATIONFAILED"), "no"),
        ),
        (auth(&format!("{{tag}} NO bad {base64} and {TOKEN}\r\n")), refused(Step::Authenticate, Refusal::No, None, "bad … and …")),
        (probe(&format!("{{tag}} BAD {unable}\r\n* BYE Connection closed. 14\r\n")), refused(Step::Probe, Refusal::Bad, None, unable)),
        (
            probe("* BYE Session invalidated - AccessTokenExpired\r\n"),
            refused(Step::Probe, Refusal::Bye, None, "Session invalidated - AccessTokenExpired"),
        ),
        (probe("A9999 OK LIST completed.\r\n"), Error::Protocol { step: Step::Probe, what: "an answer to a command that was not sent" }),
    ];
    for (script, expected) in cases {
        let (stream, _peer) = connected(4096, script, Then::Close);
        assert_eq!(start(stream).await.unwrap_err(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_token_goes_on_a_line_of_its_own() {
    let script: Vec<Exchange> = vec![
        ("", GREETING.into()),
        ("AUTHENTICATE XOAUTH2", "+ \r\n".into()),
        ("dXNlcj1", "{tag} OK AUTHENTICATE completed.\r\n".into()),
        ("LIST", LIST.into()),
    ];
    let (stream, peer) = connected(64 * 1024, script, Then::Close);
    Session::start(stream, MAILBOX, &SecretString::from("x".repeat(9_000)), MAX).await.unwrap();
    assert_eq!(peer.await.unwrap()[0], "A0001 AUTHENTICATE XOAUTH2");
}

#[tokio::test(start_paused = true)]
async fn bodies_arrive_exactly_whatever_their_size_and_the_pieces_they_come_in() {
    let sizes = [1, 2, 4095, 4096, 65_536, super::DIVERT_FROM, super::DIVERT_FROM + 1, 3 * 65_536 + 7, 1_000_003];
    for buffer in [7, 1021, 16 * 1024, 1 << 21] {
        // A byte at a time is enough for the shorter ones.
        let sizes = &sizes[..if buffer == 7 { 5 } else { sizes.len() }];
        let mut reply: Vec<u8> = sizes.iter().enumerate().flat_map(|(n, size)| message(n as u32 + 1, &body(*size))).collect();
        reply.extend_from_slice(b"{tag} OK FETCH completed.\r\n");
        let (mut session, _peer) = logged_in_through(buffer, vec![("UID FETCH", reply)], Then::Close).await;
        let mut taken = Taken::default();
        session.fetch(&UidSet::from_range(1, sizes.len() as u32), &mut taken).await.unwrap();
        let mut all: Vec<(u32, Vec<u8>)> = taken.whole.into_iter().map(|(uid, _, body)| (uid, body)).chain(taken.long).collect();
        all.sort();
        assert!(all.iter().map(|(_, bytes)| bytes).eq(&sizes.iter().map(|size| body(*size)).collect::<Vec<_>>()), "pieces of {buffer}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_was_asked_for_counts_and_only_once() {
    let long = body(super::DIVERT_FROM + 10);
    let header = format!("BODY[] {{{}}}\r\n", long.len());
    let reply = [
        b"* 1 FETCH (FLAGS (\\Seen))\r\n* 1 FETCH (UID 1 FLAGS (\\Seen $MDNSent))\r\n* 1 FETCH ()\r\n".to_vec(),
        message(1, b"first"),
        message(1, b"second rendering"),
        message(99, b"nobody's"),
        // UID after the body; other attributes around, with a literal that looks like a body's.
        b"* 2 FETCH (X-NEW ((\"a)\\\"\" {6}\r\n){tag)x) 3) ENVELOPE NIL BODY[HEADER.FIELDS (TO)] {3}\r\nTo: BODY[] {3}\r\ntwo UID 2 MODSEQ (12))\r\n".to_vec(),
        b"* 3 FETCH (UID 3 INTERNALDATE NIL BODY[] NIL)\r\n* 4 FETCH (UID 4 BODY[] {0}\r\n)\r\n* 5 FETCH (UID 5 BODY[] \"\")\r\n".to_vec(),
        b"* 6 FETCH (UID 6 BODY[] \"a \\\"quoted\\\" \\\\ body\" INTERNALDATE \"nonsense\")\r\n* 7 FETCH (BODY[] {4}\r\nlost)\r\n".to_vec(),
        [format!("* 8 FETCH (UID 8 {header}").into_bytes(), long.clone(), b")\r\n".to_vec()].concat(),
        [format!("* 8 FETCH (UID 8 {header}").into_bytes(), long.clone(), b")\r\n".to_vec()].concat(),
        [format!("* 8 FETCH ({header}").into_bytes(), long.clone(), b" UID 98)\r\n".to_vec()].concat(),
        [format!("* 9 FETCH (UID 9 BODY[] {{{}}}\r\n", MAX + 1).into_bytes(), body(MAX as usize + 1), b")\r\n".to_vec()].concat(),
        b"* 4 EXPUNGE\r\n* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n* XYZ {5}\r\n* 1 F more\r\n* 10 FETCH (UID 10 BODY[] ~{3}\r\nten)\r\n".to_vec(),
        b"{tag} OK FETCH completed.\r\n".to_vec(),
    ]
    .concat();
    for buffer in [1 << 22, 4096] {
        let (mut session, _peer) = logged_in_through(buffer, vec![("UID FETCH 1:10 ", reply.clone())], Then::Close).await;
        let mut taken = Taken::default();
        session.fetch(&set("1:10"), &mut taken).await.unwrap();
        let whole: Vec<(u32, &[u8])> = taken.whole.iter().map(|(uid, _, body)| (*uid, body.as_slice())).collect();
        assert_eq!(whole, [(1, &b"first"[..]), (2, b"two"), (6, b"a \"quoted\" \\ body"), (10, b"ten")]);
        assert_eq!(taken.absent, [(3, Absent::Nil), (4, Absent::Empty), (5, Absent::Empty), (9, Absent::TooLarge(MAX + 1))]);
        assert!(taken.long == [(8, long.clone())]);
        assert_eq!(taken.begun, 2, "one that was wanted, one whose UID came too late to tell");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_used_up_by_a_refusal_a_stop_and_a_dropped_call() {
    let no = "{tag} NO Request is throttled. Suggested Backoff Time: 92415 milliseconds\r\n";
    let text = "Request is throttled. Suggested Backoff Time: 92415 milliseconds";
    let mut session = logged_in(vec![("UID FETCH", [message(1, b"one"), no.into()].concat())]).await;
    let mut taken = Taken::default();
    assert_eq!(session.fetch(&set("1:2"), &mut taken).await, Err(refused(Step::Fetch, Refusal::No, None, text)));
    assert_eq!(taken.whole.len(), 1);
    assert_eq!(session.list(1, 2).await, Err(Error::HalfUsed));

    let mut session = logged_in(vec![("EXAMINE", "{tag} NO [NONEXISTENT] no folder\r\n".into())]).await;
    assert_eq!(session.open("x", Access::Examine).await, Err(refused(Step::Open, Refusal::No, Some("NONEXISTENT"), "no folder")));
    assert_eq!(session.open("INBOX", Access::Examine).await, Err(Error::HalfUsed));

    let mut session = logged_in(vec![("UID FETCH", [message(1, b"one"), message(2, b"two")].concat())]).await;
    let mut taken = Taken { stop_at: Some(1), ..Taken::default() };
    assert_eq!(session.fetch(&set("1:2"), &mut taken).await, Err(Error::Stopped));
    assert_eq!(session.fetch(&set("1:2"), &mut taken).await, Err(Error::HalfUsed));

    let (mut session, _peer) = logged_in_through(4096, vec![("UID SEARCH", "* SEARCH 1\r\n".into())], Then::Hold).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), session.list(1, 9)).await.is_err());
    assert_eq!(session.list(1, 9).await, Err(Error::HalfUsed));
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_complete_or_an_error() {
    let many: String = (1..=100_000).map(|n| format!(" {}", n * 2)).collect();
    for (reply, expected) in [
        ("* SEARCH\r\n{tag} OK done\r\n".to_owned(), Ok(UidSet::new())),
        ("{tag} OK done\r\n".to_owned(), Ok(UidSet::new())),
        ("* SEARCH 5 4 \r\n* SEARCH 9\r\n* 3 EXISTS\r\n{tag} OK done\r\n".to_owned(), Ok(set("4:5,9"))),
        ("* SEARCH 5 (MODSEQ 917162500)\r\n{tag} OK done\r\n".to_owned(), Ok(set("5"))),
        ("* ESEARCH (TAG \"A0003\") UID ALL 2:4,9,4294967295\r\n{tag} OK done\r\n".to_owned(), Ok(set("2:4,9"))),
        ("* ESEARCH (TAG \"A0003\") UID MIN 2 COUNT 3 ALL 10:8\r\n{tag} OK done\r\n".to_owned(), Ok(set("8:10"))),
        ("* ESEARCH (TAG \"A0003\") UID\r\n{tag} OK done\r\n".to_owned(), Ok(UidSet::new())),
        (format!("* SEARCH{many}\r\n{{tag}} OK done\r\n"), Ok((1..=100_000).map(|n| n * 2).collect())),
        (
            "* SEARCH 5 x\r\n{tag} OK done\r\n".to_owned(),
            Err(Error::Protocol { step: Step::List, what: "a search result that is not a number" }),
        ),
        ("* SEARCH 4\r\n{tag} NO later\r\n".to_owned(), Err(refused(Step::List, Refusal::No, None, "later"))),
        ("* SEARCH 4\r\n{tag} BAD what\r\n".to_owned(), Err(refused(Step::List, Refusal::Bad, None, "what"))),
        ("* SEARCH 4\r\n".to_owned(), Err(Error::Closed(Step::List))),
        (
            "* SEARCH 4\r\n* BYE Connection is closed. 13\r\n".to_owned(),
            Err(refused(Step::List, Refusal::Bye, None, "Connection is closed. 13")),
        ),
    ] {
        let mut session = logged_in(vec![("UID SEARCH UID 1:1000000", reply.into_bytes())]).await;
        assert_eq!(session.list(1, 1_000_000).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_into_a_closed_connection_is_told_with_the_servers_last_words() {
    let expired = "Session invalidated - AccessTokenExpired";
    for (last, expected) in [
        (format!("* BYE {expired}\r\n"), refused(Step::List, Refusal::Bye, None, expired)),
        ("* 3 EXISTS\r\nServer Unavailable. 15\r\n".to_owned(), refused(Step::List, Refusal::Bad, None, "Server Unavailable. 15")),
        ("* 3 EXISTS\r\n".to_owned(), Error::Closed(Step::List)),
    ] {
        let (mut session, peer) = logged_in_through(4096, vec![("", last.into_bytes())], Then::Close).await;
        peer.await.unwrap();
        assert_eq!(session.list(1, 9).await, Err(expected));
    }
}
