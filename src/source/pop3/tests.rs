//! Sessions against a scripted server over an in-memory stream, on tokio's paused clock.

use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::Session;
use crate::cursor::{Name, UidSet};
use crate::source::{Absent, Access, Error, Head, Intake, Opened, Refusal, Source as _, Step, Stop};

const MAILBOX: &str = "factures@contoso.fr";
const TOKEN: &str = "canary-token-EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA";
const MAX: u64 = 2 << 20;
const GREETING: &str = "+OK The Microsoft Exchange POP3 service is ready. [RgBSADMAUAAyADgAMQBDAEEA]\r\n";

/// What the server says on the command; without one, at once.
type Said = (&'static str, Vec<u8>);

/// Says its part and goes, or stays without a word; gives the commands it got.
fn peer(script: Vec<Said>, stays: bool) -> (DuplexStream, JoinHandle<Vec<String>>) {
    let (ours, mut theirs) = duplex(16 * 1024);
    let play = async move {
        let mut commands = Vec::new();
        for (expected, reply) in script {
            if !expected.is_empty() {
                let mut line = Vec::new();
                while !line.ends_with(b"\n") {
                    match theirs.read_u8().await {
                        Ok(byte) => line.push(byte),
                        Err(_) => return commands,
                    }
                }
                let line = String::from_utf8(line).unwrap().trim_end().to_owned();
                assert!(line.starts_with(expected), "expected {expected}, got {line}");
                commands.push(line);
            }
            if theirs.write_all(&reply).await.is_err() {
                return commands;
            }
        }
        if stays {
            let mut ignored = [0; 64];
            while theirs.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
        }
        commands
    };
    (ours, tokio::spawn(play))
}

async fn start(stream: DuplexStream) -> Result<Session<DuplexStream>, Error> {
    Session::start(stream, MAILBOX, &SecretString::from(TOKEN), MAX).await
}

fn log_in(capabilities: &str) -> Vec<Said> {
    vec![
        ("", GREETING.into()),
        ("AUTH XOAUTH2", b"+ \r\n".to_vec()),
        ("dXNlcj1mYWN0dXJlc0Bjb250b3NvLmZyAWF1dGg9QmVhcmVyIGNhbmFyeS10b2tlbi", b"+OK User successfully authenticated.\r\n".to_vec()),
        ("CAPA", format!("+OK\r\nTOP\r\nUIDL\r\nSASL PLAIN XOAUTH2\r\n{capabilities}.\r\n").into()),
    ]
}

/// A session with messages named by their numbers, whose server goes on with `script`.
async fn opened(messages: u32, pipelining: bool, script: Vec<Said>) -> (Session<DuplexStream>, JoinHandle<Vec<String>>) {
    let mut whole = log_in(if pipelining { "PIPELINING\r\n" } else { "" });
    let names: String = (1..=messages).map(|number| format!("{number} {number}\r\n")).collect();
    whole.push(("STAT", format!("+OK {messages} 9000\r\n").into()));
    whole.push(("UIDL", format!("+OK\r\n{names}.\r\n").into()));
    whole.extend(script);
    let (stream, peer) = peer(whole, false);
    let mut session = start(stream).await.unwrap();
    assert_eq!(
        session.open("INBOX", Access::Examine).await.unwrap(),
        Opened { uid_validity: 1, uid_next: None, exists: messages, read_only: true }
    );
    let numbers: Vec<u32> = (1..=messages).collect();
    session.number(&numbers);
    (session, peer)
}

#[derive(Debug, Default, PartialEq)]
struct Taken {
    whole: Vec<(u32, String)>,
    long: Vec<(u32, usize)>,
    absent: Vec<(u32, Absent)>,
    stop: bool,
}

impl Intake for Taken {
    type Part = Vec<u8>;
    async fn whole(&mut self, head: Head, body: Bytes) -> Result<(), Stop> {
        assert_eq!((head.size, head.internal_date), (body.len() as u64, None));
        self.whole.push((head.uid, String::from_utf8_lossy(&body).into_owned()));
        if self.stop { Err(Stop) } else { Ok(()) }
    }
    async fn begin(&mut self, _length: u64) -> Result<Vec<u8>, Stop> {
        Ok(Vec::new())
    }
    async fn chunk(&mut self, part: &mut Vec<u8>, bytes: Bytes) -> Result<(), Stop> {
        part.extend_from_slice(&bytes);
        Ok(())
    }
    async fn end(&mut self, head: Head, part: Vec<u8>) -> Result<(), Stop> {
        assert_eq!(head.size, part.len() as u64);
        self.long.push((head.uid, part.len()));
        Ok(())
    }
    fn absent(&mut self, uid: u32, what: Absent) {
        self.absent.push((uid, what));
    }
}

fn set(text: &str) -> UidSet {
    text.parse().unwrap()
}

fn refused(step: Step, code: Option<&str>, text: &str) -> Error {
    Error::Refused { step, refusal: Refusal::No, code: code.map(str::to_owned), text: text.to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_is_opened_listed_fetched_and_left() {
    let script = vec![
        ("TOP 2 0", b"+OK\r\nMessage-ID: <a@b>\r\n\r\n.\r\n".to_vec()),
        ("RETR 1", b"+OK 9 octets\r\none\r\n.\r\n".to_vec()),
        ("RETR 3", b"+OK\r\n..\r\nthree\n.\n\r\n.\r\n".to_vec()),
        ("QUIT", b"+OK bye\r\n".to_vec()),
    ];
    let (mut session, peer) = opened(3, false, script).await;
    assert_eq!(session.names().unwrap(), [Name::Number(1), Name::Number(2), Name::Number(3)]);
    assert_eq!(session.header(2).await.unwrap().unwrap(), "Message-ID: <a@b>\r\n\r\n".as_bytes());
    assert_eq!(session.list(2, u32::MAX).await.unwrap(), set("2:3"));
    let mut taken = Taken::default();
    session.fetch(&set("1,3,9"), &mut taken).await.unwrap();
    assert_eq!(taken.whole, [(1, "one\r\n".to_owned()), (3, ".\r\nthree\n.\n\r\n".to_owned())]);
    session.close().await;
    // The token never stands in the line of the command, which Exchange would not take.
    assert_eq!(peer.await.unwrap()[0], "AUTH XOAUTH2");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_with_step_code_and_text_and_never_with_the_token() {
    let until = |count: usize, last: Said| {
        let mut script = log_in("");
        script.truncate(count);
        script.push(last);
        script
    };
    let secret =
        "dXNlcj1mYWN0dXJlc0Bjb250b3NvLmZyAWF1dGg9QmVhcmVyIGNhbmFyeS10b2tlbi1Fd0JBQWwzQkFBVUZGcFVBbzdKM1ZlMGJqTEJXWldDY2xSQzNFb0FBAQE=";
    let mut challenged = until(2, ("dXNlcj", b"+ eyJzdGF0dXMiOiI0MDEifQ==\r\n".to_vec()));
    challenged.push(("", b"-ERR [AUTH] no\r\n".to_vec()));
    let bad_password = "Authentication failure: unknown user name or bad password.";
    let rows: Vec<(Vec<Said>, Error)> = vec![
        (vec![("", b"-ERR Server Unavailable. 21\r\n".to_vec())], refused(Step::Greeting, None, "Server Unavailable. 21")),
        (vec![("", b"* OK IMAP4 ready\r\n".to_vec())], Error::Protocol { step: Step::Greeting, what: "not a POP3 answer" }),
        (vec![("", b"+OKAY\r\n".to_vec())], Error::Protocol { step: Step::Greeting, what: "not a POP3 answer" }),
        (vec![], Error::Closed(Step::Greeting)),
        (
            until(1, ("AUTH", b"-ERR Command is not valid in this state.\r\n".to_vec())),
            refused(Step::Authenticate, None, "Command is not valid in this state."),
        ),
        (until(2, ("dXNlcj", format!("-ERR {bad_password}\r\n").into())), refused(Step::Authenticate, None, bad_password)),
        (
            until(2, ("dXNlcj", b"-ERR Protocol error. Connection is closed. 10\r\n".to_vec())),
            refused(Step::Authenticate, None, "Protocol error. Connection is closed. 10"),
        ),
        (until(2, ("dXNlcj", b"-ERR [IN-USE] locked\r\n".to_vec())), refused(Step::Authenticate, Some("IN-USE"), "locked")),
        (until(2, ("dXNlcj", format!("-ERR what is {secret}? {TOKEN}?\r\n").into())), refused(Step::Authenticate, None, "what is …? …?")),
        (challenged, refused(Step::Authenticate, Some("AUTH"), "no")),
    ];
    for (script, expected) in rows {
        let (stream, _peer) = peer(script, false);
        let error = start(stream).await.unwrap_err();
        assert_eq!(error, expected);
        assert!(!format!("{error:?} {error}").contains("canary"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_is_cut_or_does_not_agree_is_an_error_and_never_an_empty_mailbox() {
    let disagree = "UIDL lists other messages than STAT counts";
    for (stat, uidl, what) in [
        ("+OK 3 100\r\n", "+OK\r\n1 a\r\n2 b\r\n.\r\n", disagree),
        ("+OK 3 100\r\n", "+OK\r\n.\r\n", disagree),
        ("+OK 1 100\r\n", "+OK\r\n1 a\r\n2 b\r\n.\r\n", disagree),
        ("+OK 2 100\r\n", "+OK\r\n1 a\r\n3 b\r\n.\r\n", disagree),
        ("+OK 2 100\r\n", "+OK\r\n1 a\r\n1 a\r\n.\r\n", disagree),
        ("+OK 1 100\r\n", "+OK\r\n1\r\n.\r\n", "a line of UIDL that is none"),
        ("+OK 1 100\r\n", "+OK\r\nx a\r\n.\r\n", "a line of UIDL that is none"),
        ("+OK 1 100\r\n", "+OK\r\n1 a b\r\n.\r\n", "a unique-id that is none"),
        ("+OK many\r\n", "+OK\r\n.\r\n", "an answer to STAT without two numbers"),
        ("+OK 4000000000 9\r\n", "+OK\r\n.\r\n", "more messages than are collected by POP3"),
    ] {
        for pipelining in [false, true] {
            let mut script = log_in(if pipelining { "PIPELINING\r\n" } else { "" });
            script.push(("STAT", stat.into()));
            script.push(("UIDL", uidl.into()));
            let (stream, _peer) = peer(script, false);
            let mut session = start(stream).await.unwrap();
            assert_eq!(session.open("INBOX", Access::Examine).await, Err(Error::Protocol { step: Step::List, what }), "{stat}{uidl}");
            assert_eq!(session.list(1, 9).await, Err(Error::HalfUsed));
        }
    }
    let mut script = log_in("");
    script.push(("STAT", b"+OK 3 100\r\n".to_vec()));
    script.push(("UIDL", b"+OK\r\n1 a\r\n2 b\r\n".to_vec()));
    let (stream, _peer) = peer(script, false);
    assert_eq!(start(stream).await.unwrap().open("INBOX", Access::Examine).await, Err(Error::Closed(Step::List)));
}

#[tokio::test(start_paused = true)]
async fn commands_are_sent_ahead_only_where_the_server_offers_it() {
    let script = |answers: usize| -> Vec<Said> { (0..answers).map(|_| ("RETR", b"+OK\r\nx\r\n.\r\n".to_vec())).collect() };
    for pipelining in [true, false] {
        let (mut session, peer) = opened(200, pipelining, script(200)).await;
        let mut taken = Taken::default();
        session.fetch(&set("1:200"), &mut taken).await.unwrap();
        assert_eq!(taken.whole.len(), 200);
        assert!(taken.whole.iter().zip(1..).all(|((uid, _), expected)| *uid == expected));
        drop(session);
        assert_eq!(peer.await.unwrap()[5..].len(), 200);
    }
    let silent = vec![("RETR 1", vec![]), ("RETR 2", vec![])];
    let (mut session, _peer) = opened(3, false, silent).await;
    assert_eq!(session.fetch(&set("1:3"), &mut Taken::default()).await, Err(Error::Timeout(Step::Fetch)), "no second command");
    // A server that answers nothing before it has three commands.
    let (mut session, _peer) = opened(
        3,
        true,
        vec![("RETR 1", vec![]), ("RETR 2", vec![]), ("RETR 3", b"+OK\r\n1\r\n.\r\n+OK\r\n2\r\n.\r\n+OK\r\n3\r\n.\r\n".to_vec())],
    )
    .await;
    let mut taken = Taken::default();
    session.fetch(&set("1:3"), &mut taken).await.unwrap();
    assert_eq!(taken.whole.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn one_refused_message_is_told_and_the_others_come() {
    let script = vec![
        ("RETR 1", b"+OK\r\n1\r\n.\r\n".to_vec()),
        ("RETR 2", b"-ERR [SYS/PERM] broken\r\n".to_vec()),
        ("RETR 3", b"+OK\r\n.\r\n".to_vec()),
        ("RETR 4", b"+OK\r\n4\r\n.\r\n".to_vec()),
        ("RETR 2", b"-ERR gone\r\n".to_vec()),
    ];
    let (mut session, _peer) = opened(4, false, script).await;
    let mut taken = Taken::default();
    session.fetch(&set("1:4"), &mut taken).await.unwrap();
    assert_eq!(taken.whole.len(), 2);
    let broken = Absent::Refused { code: Some("SYS/PERM".into()), text: "broken".into() };
    assert_eq!(taken.absent, [(3, Absent::Empty), (2, broken)]);
    let mut alone = Taken::default();
    session.fetch(&set("2"), &mut alone).await.unwrap();
    assert_eq!(alone.absent, [(2, Absent::Refused { code: None, text: "gone".into() })]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_all_of_several_has_a_trouble_of_its_own() {
    let script = (0..3).map(|_| ("RETR", b"-ERR Server Unavailable. 21\r\n".to_vec())).collect();
    let (mut session, _peer) = opened(3, true, script).await;
    let mut taken = Taken::default();
    assert_eq!(session.fetch(&set("1:3"), &mut taken).await, Err(refused(Step::Fetch, None, "Server Unavailable. 21")));
    assert_eq!(taken, Taken::default());
    assert_eq!(session.fetch(&set("1"), &mut taken).await, Err(Error::HalfUsed));
}

#[tokio::test(start_paused = true)]
async fn a_message_without_its_closing_dot_is_no_message() {
    for cut in ["+OK\r\nSubject: x\r\n\r\nbody\r\n", "+OK\r\nbody\r\n.", "+OK\r\nbody\r\n.\r", "+OK\r\n"] {
        let (mut session, _peer) = opened(2, false, vec![("RETR 1", b"+OK\r\n1\r\n.\r\n".to_vec()), ("RETR 2", cut.into())]).await;
        let mut taken = Taken::default();
        assert_eq!(session.fetch(&set("1:2"), &mut taken).await, Err(Error::Closed(Step::Fetch)), "{cut}");
        assert_eq!(taken.whole.len(), 1);
        assert!(taken.absent.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn long_messages_are_streamed_and_too_long_ones_passed_over() {
    let body = |length: usize| {
        let mut reply = b"+OK\r\n".to_vec();
        reply.extend(b"0123456789abcdef\r\n".iter().copied().cycle().take(length / 18 * 18));
        reply.extend_from_slice(b".\r\n");
        reply
    };
    let (mut session, _peer) =
        opened(3, true, vec![("RETR 1", body(900_000)), ("RETR 2", body(MAX as usize + 500_000)), ("RETR 3", body(18))]).await;
    let mut taken = Taken::default();
    session.fetch(&set("1:3"), &mut taken).await.unwrap();
    assert_eq!(taken.long, [(1, 900_000)]);
    assert!(matches!(taken.absent[..], [(2, Absent::TooLarge(length))] if length > MAX), "{:?}", taken.absent);
    assert_eq!(taken.whole.len(), 1);
    // Without an end.
    let (mut session, _peer) = opened(1, true, vec![("RETR 1", body(5 * MAX as usize))]).await;
    let endless = session.fetch(&set("1"), &mut Taken::default()).await;
    assert_eq!(endless, Err(Error::Protocol { step: Step::Fetch, what: "a message without an end" }));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_server_says_is_far_too_large_is_not_asked_for() {
    let mut script = log_in("");
    script.push(("STAT", b"+OK 2 9000000\r\n".to_vec()));
    script.push(("UIDL", b"+OK\r\n1 1\r\n2 2\r\n.\r\n".to_vec()));
    script.push(("LIST", b"+OK\r\n1 8000000\r\n2 2500000\r\n.\r\n".to_vec()));
    script.push(("RETR 2", b"+OK\r\nsmall after all\r\n.\r\n".to_vec()));
    let (stream, _peer) = peer(script, false);
    let mut session = start(stream).await.unwrap();
    session.open("inbox", Access::Select).await.unwrap();
    session.number(&[1, 2]);
    let mut taken = Taken::default();
    session.fetch(&set("1:2"), &mut taken).await.unwrap();
    assert_eq!((taken.absent, taken.whole.len()), (vec![(1, Absent::TooLarge(8_000_000))], 1));
}

#[tokio::test(start_paused = true)]
async fn every_wait_has_a_deadline() {
    let mut scripts = vec![vec![]];
    for count in 1..=4 {
        scripts.push(log_in("").into_iter().take(count).collect());
    }
    for (script, step) in scripts.into_iter().zip([Step::Greeting, Step::Authenticate, Step::Authenticate, Step::Probe, Step::List]) {
        let (stream, _peer) = peer(script, true);
        let error = match start(stream).await {
            Err(error) => error,
            Ok(mut session) => session.open("INBOX", Access::Examine).await.unwrap_err(),
        };
        assert_eq!(error, Error::Timeout(step));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drips_is_given_up() {
    let mut script = log_in("");
    script.push(("STAT", b"+OK 1 1\r\n".to_vec()));
    script.push(("UIDL", b"+OK\r\n1 1\r\n.\r\n".to_vec()));
    let (ours, mut theirs) = duplex(64);
    tokio::spawn(async move {
        for (expected, reply) in script {
            let mut line = Vec::new();
            while !expected.is_empty() && !line.ends_with(b"\n") {
                line.push(theirs.read_u8().await.unwrap());
            }
            theirs.write_all(&reply).await.unwrap();
        }
        theirs.write_all(b"+OK\r\n").await.unwrap();
        while theirs.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(50)).await;
        }
    });
    let mut session = start(ours).await.unwrap();
    session.open("INBOX", Access::Examine).await.unwrap();
    session.number(&[1]);
    assert_eq!(session.fetch(&set("1"), &mut Taken::default()).await, Err(Error::Timeout(Step::Fetch)));
}

#[tokio::test(start_paused = true)]
async fn an_intake_that_takes_no_more_ends_the_session() {
    let (mut session, _peer) = opened(2, true, vec![("RETR 1", b"+OK\r\n1\r\n.\r\n".to_vec())]).await;
    let mut taken = Taken { stop: true, ..Taken::default() };
    assert_eq!(session.fetch(&set("1:2"), &mut taken).await, Err(Error::Stopped));
    assert_eq!(session.header(1).await, Err(Error::HalfUsed));
}
