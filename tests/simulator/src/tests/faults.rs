//! Faults strike where and as often as they were armed.

use super::*;

#[tokio::test]
async fn a_silent_idle_says_nothing_and_a_mail_shows_afterwards() {
    let simulator = started().await;
    arm(&simulator, "IDLE", Action::Idle(IdleFault::Silent));
    let mut client = Client::ready(&simulator).await;
    client.run("EXAMINE INBOX").await;
    client.send("A9 IDLE").await;
    client.line().await;
    deliver(&simulator, 1..=1);
    client.send("DONE").await;
    assert_eq!(client.line().await.as_deref(), Some("A9 OK IDLE completed."));
    assert_eq!(client.run("NOOP").await.0, ["* 1 EXISTS"]);
}

#[tokio::test]
async fn ten_bad_commands_end_the_session() {
    let simulator = started().await;
    let mut client = Client::ready(&simulator).await;
    for _ in 0..10 {
        assert_eq!(client.run("UID FETCH 1 (UID)").await.1, "BAD Command received in Invalid state.");
    }
    assert_eq!(client.line().await.as_deref(), Some("* BYE Connection closed. 14"));
    assert_eq!(client.line().await, None);
}

#[tokio::test]
async fn faults_of_a_command_come_once_and_leave_the_rest_alone() {
    let simulator = started().await;
    deliver(&simulator, 1..=2);
    let mut client = Client::ready(&simulator).await;
    client.run("EXAMINE INBOX").await;
    arm(&simulator, "FETCH", Action::Throttle { milliseconds: 92_415, bad: true, bye: false });
    assert_eq!(client.run("UID FETCH 1:2 (UID)").await.1, "BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds");
    arm(&simulator, "FETCH", Action::Fetch { uid: Some(2), what: FetchFault::Skip });
    assert_eq!(client.bodies("1:2").await.len(), 1);
    assert_eq!(client.bodies("1:2").await.len(), 2);
    for (fault, expected) in [
        (FetchFault::Nil, "* 1 FETCH (UID 1 BODY[] NIL)"),
        (FetchFault::EmptyQuoted, "* 1 FETCH (UID 1 BODY[] \"\")"),
        (FetchFault::Empty, "* 1 FETCH (UID 1 BODY[] {0}"),
        (FetchFault::FlagsOnly, "* 1 FETCH (FLAGS () UID 1)"),
    ] {
        arm(&simulator, "FETCH", Action::Fetch { uid: None, what: fault });
        assert_eq!(client.run("UID FETCH 1 (UID BODY.PEEK[])").await.0[0], expected);
    }
    arm(&simulator, "FETCH", Action::Fetch { uid: None, what: FetchFault::Twice });
    let twice = client.bodies("1").await;
    assert!(twice.len() == 2 && twice[0] != twice[1]);
    arm(&simulator, "SEARCH", Action::server_unavailable());
    assert_eq!(client.run("UID SEARCH ALL").await, (vec!["Server Unavailable. 15".to_owned()], String::new()));
    assert!(simulator.world().mailbox(MAILBOX).unwrap().faults.is_empty());
}

#[tokio::test]
async fn a_poisoned_message_stays_poisoned_until_it_is_cured() {
    let simulator = started().await;
    deliver(&simulator, 1..=2);
    simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").poison(1, Some(FetchFault::Skip));
    let mut client = Client::ready(&simulator).await;
    client.run("EXAMINE INBOX").await;
    assert_eq!(client.bodies("1:2").await.len(), 1);
    assert!(client.run("UID FETCH 1 BODY[]").await.0.iter().any(|line| line.contains("Retrieval using the IMAP4 protocol failed")));
    simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").poison(1, None);
    assert_eq!(client.bodies("1:2").await.len(), 2);
}

#[tokio::test]
async fn the_connection_ends_and_callbacks_come_at_exactly_the_byte() {
    let simulator = started().await;
    simulator.world().deliver(MAILBOX, "INBOX", Message::sized(1, 300_000)).unwrap();
    let mut client = Client::ready(&simulator).await;
    client.run("EXAMINE INBOX").await;
    let before = simulator.fetched_bytes();
    let (told, heard) = std::sync::mpsc::channel();
    let inside = Arc::clone(&simulator.shared);
    simulator.on_bytes(1_000, move || told.send(inside.record.fetched_bytes.load(Ordering::Relaxed)).unwrap());
    simulator.world().mailbox(MAILBOX).unwrap().faults.once(Trigger::AfterBytes(100_001), Action::Close);
    client.send("A9 UID FETCH 1 (UID BODY.PEEK[])").await;
    let mut received = 0;
    while let Ok(read @ 1..) = client.stream.read_buf(&mut client.pending).await {
        received += read;
    }
    assert_eq!(received, 100_001);
    assert_eq!(heard.recv().unwrap() - before, 1_000);
    assert!(simulator.renderings().is_empty());
}

#[tokio::test]
async fn a_moved_mailbox_ends_the_session_and_has_another_validity() {
    let simulator = started().await;
    deliver(&simulator, 1..=2);
    let mut client = Client::ready(&simulator).await;
    let before = client.run("EXAMINE INBOX").await.0;
    arm(&simulator, "FETCH", Action::run(|world| world.mailbox(MAILBOX).unwrap().folder("INBOX").renumber(1)));
    assert_eq!(client.run("UID FETCH 1 (UID)").await.0, ["* BYE Connection is closed. 13"]);
    let mut again = Client::ready(&simulator).await;
    assert_ne!(again.run("EXAMINE INBOX").await.0, before);
}

#[tokio::test]
async fn broken_answers_look_as_broken_as_they_should() {
    let simulator = started().await;
    deliver(&simulator, 1..=1);
    let fetch = "A9 UID FETCH 1 (INTERNALDATE BODY.PEEK[])";
    for (fault, expected) in [
        (FetchFault::HugeLiteral(4_294_967_296), "* 1 FETCH (UID 1 INTERNALDATE \" 5-Jan-2026 08:01:37 +0000\" BODY[] {4294967296}"),
        (FetchFault::InternalDateNil, "* 1 FETCH (UID 1 INTERNALDATE NIL BODY[] {"),
        (FetchFault::OtherUid(77), "* 1 FETCH (UID 77 INTERNALDATE "),
        (FetchFault::ForeignBefore(88), "* 1 FETCH (UID 88 INTERNALDATE "),
        (FetchFault::WithoutUid, "* 1 FETCH (INTERNALDATE "),
        (FetchFault::UidAfterBody, "* 1 FETCH (INTERNALDATE "),
        (FetchFault::DeepParentheses(50), "* 1 FETCH (UID 1 BODYSTRUCTURE (((((((((((((((((((((((((((((((((((((((((((((((((("),
        (FetchFault::LongLine(10_000_000), "* OK xxxx"),
        (FetchFault::RefusesFetch("Server busy".to_owned()), "A9 NO Server busy"),
    ] {
        let mut client = Client::ready(&simulator).await;
        client.run("EXAMINE INBOX").await;
        arm(&simulator, "FETCH", Action::Fetch { uid: Some(1), what: fault.clone() });
        client.send(fetch).await;
        let line = client.line().await.unwrap();
        assert!(line.starts_with(expected), "{fault:?}: {}", line.chars().take(200).collect::<String>());
        if let FetchFault::LongLine(length) = fault {
            assert_eq!(line.len(), length + 5);
        }
    }
}

#[tokio::test]
async fn a_body_can_end_in_its_middle_or_come_in_tiny_records() {
    let simulator = started().await;
    deliver(&simulator, 1..=1);
    let mut client = Client::ready(&simulator).await;
    client.run("EXAMINE INBOX").await;
    arm(&simulator, "FETCH", Action::SplitLiterals(7));
    let (_, body) = client.bodies("1").await.pop().unwrap();
    assert!(simulator.rendering_of_bytes(&body).is_some());
    arm(&simulator, "FETCH", Action::Fetch { uid: None, what: FetchFault::EndMidBody });
    let (lines, answer) = client.run("UID FETCH 1 (UID BODY.PEEK[])").await;
    assert!(answer.is_empty() && lines[0].contains("BODY[] {"));
    assert!(lines.iter().map(|line| line.len() + 2).sum::<usize>() < body.len());
}

#[tokio::test]
async fn a_stalled_server_answers_nothing_and_does_not_hold_the_others_up() {
    let simulator = started().await;
    let mut stalled = Client::ready(&simulator).await;
    let (told, heard) = std::sync::mpsc::channel();
    arm(&simulator, "NOOP", Action::run(move |_| told.send(()).unwrap()));
    arm(&simulator, "NOOP", Action::Stall);
    stalled.send("A9 NOOP").await;
    heard.recv().unwrap();
    let mut other = Client::ready(&simulator).await;
    assert_eq!(other.run("NOOP").await.1, "OK NOOP completed.");
    assert!(futures::poll!(std::pin::pin!(stalled.line())).is_pending());
}
