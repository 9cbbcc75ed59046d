//! IDLE and deadlines.

use super::*;

const IDLING: &str = "+ IDLE accepted, awaiting DONE command.\r\n";
const IDLED: &str = "{tag} OK IDLE completed.\r\n";
const HOUR: Duration = Duration::from_secs(3600);

async fn woken(script: Vec<Exchange>, then: Then) -> (Result<Wake, Error>, Duration, Vec<String>) {
    let (mut session, peer) = logged_in_through(4096, script, then).await;
    let began = Instant::now();
    let wake = session.wait(HOUR, std::future::pending()).await;
    drop(session);
    (wake, began.elapsed(), peer.await.unwrap().split_off(2))
}

#[tokio::test(start_paused = true)]
async fn mail_announced_at_any_moment_of_idle_wakes() {
    let pushed = format!("{IDLING}* 1521 EXISTS\r\n");
    let before = format!("* 1521 EXISTS\r\n{IDLING}");
    for script in [vec![("IDLE", pushed.into_bytes()), ("DONE", IDLED.into())], vec![("IDLE", before.into_bytes()), ("DONE", IDLED.into())]]
    {
        let (wake, took, commands) = woken(script, Then::Close).await;
        assert_eq!(wake, Ok(Wake::NewMail));
        assert_eq!(took, Duration::ZERO);
        assert_eq!(commands, ["A0003 IDLE", "DONE"]);
    }
    // While we are leaving.
    let script = vec![("IDLE", IDLING.into()), ("DONE", format!("* 5 EXISTS\r\n{IDLED}").into_bytes())];
    assert_eq!(woken(script, Then::Close).await.0, Ok(Wake::NewMail));
}

#[tokio::test(start_paused = true)]
async fn idle_is_left_within_nine_minutes() {
    let (wake, took, commands) = woken(vec![("IDLE", IDLING.into()), ("DONE", IDLED.into())], Then::Close).await;
    assert_eq!(wake, Ok(Wake::Elapsed));
    assert!(took >= Duration::from_secs(540) && took < Duration::from_secs(541), "{took:?}");
    assert_eq!(commands, ["A0003 IDLE", "DONE"]);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_idle_leaves_a_session_in_step_and_keeps_the_news() {
    let script = vec![
        ("IDLE", IDLING.into()),
        ("DONE", format!("* 5 EXISTS\r\n{IDLED}").into_bytes()),
        ("UID SEARCH", "* SEARCH 7\r\n{tag} OK done\r\n".into()),
        ("UID SEARCH", "* SEARCH 7 10\r\n{tag} OK done\r\n".into()),
        ("IDLE", IDLING.into()),
        ("DONE", IDLED.into()),
    ];
    let (mut session, _peer) = logged_in_through(4096, script, Then::Close).await;
    let interrupt = tokio::time::sleep(Duration::from_secs(5));
    assert_eq!(session.wait(HOUR, interrupt).await, Ok(Wake::Interrupted));
    assert_eq!(session.wait(HOUR, std::future::pending()).await, Ok(Wake::NewMail), "announced while leaving");
    assert_eq!(session.list(1, 9).await, Ok(set("7")));
    assert_eq!(session.wait(HOUR, std::future::pending()).await, Ok(Wake::NewMail), "not looked for up there yet");
    assert_eq!(session.list(1, u32::MAX).await, Ok(set("7,10")));
    assert_eq!(session.wait(Duration::from_secs(30), std::future::pending()).await, Ok(Wake::Elapsed));
}

#[tokio::test(start_paused = true)]
async fn each_way_in_which_idle_fails_is_told() {
    let protocol = |what| Err(Error::Protocol { step: Step::Wait, what });
    let expired = "Session invalidated - AccessTokenExpired";
    for (script, then, expected) in [
        (
            vec![("IDLE", "{tag} BAD Command Error. 12\r\n".into())],
            Then::Close,
            Err(refused(Step::Wait, Refusal::Bad, None, "Command Error. 12")),
        ),
        (vec![("IDLE", "{tag} NO not now\r\n".into())], Then::Close, Err(refused(Step::Wait, Refusal::No, None, "not now"))),
        (vec![("IDLE", IDLED.into())], Then::Close, protocol("the server ended IDLE unasked")),
        (vec![("IDLE", format!("{IDLING}{IDLED}").into_bytes())], Then::Close, protocol("the server ended IDLE unasked")),
        (vec![("IDLE", format!("{IDLING}{IDLING}").into_bytes())], Then::Close, protocol("a continuation that was not asked for")),
        (vec![("IDLE", IDLING.into())], Then::Close, Err(Error::Closed(Step::Wait))),
        (
            vec![("IDLE", format!("{IDLING}* BYE Connection is closed. 13\r\n").into_bytes())],
            Then::Close,
            Err(refused(Step::Wait, Refusal::Bye, None, "Connection is closed. 13")),
        ),
        (
            vec![("IDLE", IDLING.into()), ("DONE", format!("* BYE {expired}\r\n").into_bytes())],
            Then::Close,
            Err(refused(Step::Wait, Refusal::Bye, None, expired)),
        ),
        (
            vec![("IDLE", format!("{IDLING}Server Unavailable. 15\r\n").into_bytes())],
            Then::Close,
            Err(refused(Step::Wait, Refusal::Bad, None, "Server Unavailable. 15")),
        ),
        (vec![("IDLE", Vec::new())], Then::Hold, Err(Error::Timeout(Step::Wait))),
        (vec![("IDLE", IDLING.into()), ("DONE", Vec::new())], Then::Hold, Err(Error::Timeout(Step::Wait))),
    ] {
        let (wake, took, _) = woken(script, then).await;
        assert_eq!(wake, expected);
        assert!(took <= Duration::from_secs(9 * 60 + 15), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_a_minute() {
    let (stream, _peer) = connected(4096, vec![("", Vec::new())], Then::Hold);
    let began = Instant::now();
    assert_eq!(start(stream).await.unwrap_err(), Error::Timeout(Step::Greeting));
    assert_eq!(began.elapsed().as_secs(), 60);

    let reply = format!("* 1 FETCH (UID 1 BODY[] {{{}}}\r\nhalf", super::super::DIVERT_FROM + 1);
    let (mut session, _peer) = logged_in_through(4096, vec![("UID FETCH", reply.into_bytes())], Then::Hold).await;
    let began = Instant::now();
    assert_eq!(session.fetch(&set("1"), &mut Taken::default()).await, Err(Error::Timeout(Step::Fetch)));
    assert_eq!(began.elapsed().as_secs(), 60);

    let (session, _peer) = logged_in_through(4096, vec![("LOGOUT", Vec::new())], Then::Hold).await;
    let began = Instant::now();
    session.close().await;
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_chatters_is_given_up() {
    let (ours, theirs) = duplex(4096);
    let chatter = tokio::spawn(async move {
        let mut peer = Peer { stream: theirs, commands: Vec::new() };
        peer.stream.write_all(GREETING.as_bytes()).await.unwrap();
        peer.line().await;
        while peer.stream.write_all(b"* 1 RECENT\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    });
    let began = Instant::now();
    assert_eq!(start(ours).await.unwrap_err(), Error::Timeout(Step::Authenticate));
    assert!(began.elapsed() < Duration::from_secs(700));
    chatter.await.unwrap();
}

/// Sends one body a byte at a time, `pause` apart.
async fn dripped(length: usize, pause: Duration) -> (Result<(), Error>, Duration) {
    let (ours, theirs) = duplex(4096);
    let mut peer = Peer { stream: theirs, commands: Vec::new() };
    let drip = tokio::spawn(async move {
        peer.stream.write_all(GREETING.as_bytes()).await.unwrap();
        peer.line().await;
        peer.stream.write_all(b"A0001 OK\r\n").await.unwrap();
        peer.line().await;
        peer.stream.write_all(b"A0002 OK\r\n").await.unwrap();
        peer.line().await;
        for byte in [message(1, &body(length)), b"A0003 OK done\r\n".to_vec()].concat() {
            tokio::time::sleep(pause).await;
            if peer.stream.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    });
    let mut session = start(ours).await.unwrap();
    let began = Instant::now();
    let outcome = session.fetch(&set("1"), &mut Taken::default()).await;
    drop(session);
    drip.abort();
    (outcome, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_is_waited_for_and_a_dripping_one_is_not() {
    let (outcome, took) = dripped(20, Duration::from_secs(4)).await;
    assert_eq!(outcome, Ok(()));
    assert!(took > Duration::from_secs(120), "longer than the allowed silence: {took:?}");
    let (outcome, took) = dripped(2_000, Duration::from_secs(40)).await;
    assert_eq!(outcome, Err(Error::Timeout(Step::Fetch)));
    assert!(took < Duration::from_secs(1_000), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_in_no_log_at_any_level() {
    use std::sync::{Arc, Mutex};
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    /// Keeps what this test's thread says: other tests have servers that repeat tokens.
    struct Logger(Lines, std::thread::ThreadId);
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            use std::io::Write as _;
            if std::thread::current().id() == self.1 {
                writeln!(self.0.clone(), "{} {}", record.target(), record.args()).unwrap();
            }
        }
        fn flush(&self) {}
    }
    let lines = Lines::default();
    let ours = log::set_boxed_logger(Box::new(Logger(lines.clone(), std::thread::current().id()))).is_ok();
    assert!(ours, "no other test may install a logger");
    log::set_max_level(log::LevelFilter::Trace);
    let mut session = logged_in(vec![("EXAMINE", "* 1 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n{tag} OK done\r\n".into())]).await;
    session.open("canary-folder", Access::Examine).await.unwrap();
    log::set_max_level(log::LevelFilter::Off);
    let logged = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    assert!(logged.contains("UIDVALIDITY"), "the parser's TRACE was on");
    for canary in [TOKEN, MAILBOX, "dXNlcj1", "canary-folder"] {
        assert!(!logged.contains(canary), "{canary}");
    }
}
