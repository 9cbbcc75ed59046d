//! Servers that send garbage: a typed failure, bounded memory, nothing believed that was not whole.

use super::*;

async fn fetched(reply: Vec<u8>) -> (Result<(), Error>, Taken) {
    let (mut session, _peer) = logged_in_through(64 * 1024, vec![("UID FETCH", reply)], Then::Close).await;
    let mut taken = Taken::default();
    let outcome = session.fetch(&set("1:9"), &mut taken).await;
    (outcome, taken)
}

#[tokio::test(start_paused = true)]
async fn garbage_is_a_typed_failure() {
    let deep = "(".repeat(1_000);
    for (reply, what) in [
        (format!("* 1 FETCH (UID 1 BODYSTRUCTURE {deep}\r\n"), "parentheses nested too deep"),
        ("* 1 FETCH (UID 1 BODY[] {4294967296}\r\n".to_owned(), "a literal longer than allowed"),
        ("* 1 FETCH (UID 1 BODY[] {99999999999999999999999}\r\n".to_owned(), "a literal longer than allowed"),
        ("* 1 FETCH (UID 1 X {4294967296}\r\n".to_owned(), "a literal longer than allowed"),
        ("* LIST () \"/\" {4294967296}\r\n".to_owned(), "a literal longer than allowed"),
        (format!("* OK {}\r\n", "x".repeat(10_000_000)), "a line longer than allowed"),
        ("x".repeat(10_000_000), "a line longer than allowed"),
        (format!("* SEARCH{}\r\n", " 1".repeat(5_000_000)), "a line longer than allowed"),
        (format!("* 1 FETCH (FLAGS ({}\r\n", "x ".repeat(50_000)), "a line longer than allowed"),
        ("junk\r\n".repeat(101), "too many lines that are not IMAP"),
        ("* 1 FETCH (UID 1 BODY[] {3}\r\nabc\r\n".to_owned(), "a FETCH reply ends before its parenthesis"),
        ("* 1 FETCH (UID 1 BODY[] {3}\r\nabc) x\r\n".to_owned(), "something follows a FETCH reply on its line"),
        ("* 1 FETCH (UID 1 BODY[] {3}\r\nabc BODY[] {3}\r\nabc)\r\n".to_owned(), "two bodies in one FETCH reply"),
        ("* 1 FETCH (UID 1 BODY[] NIL BODY[] \"x\")\r\n".to_owned(), "two bodies in one FETCH reply"),
        ("* 1 FETCH (UID 1 UID 2)\r\n".to_owned(), "two UIDs in one FETCH reply"),
        ("* 1 FETCH (UID 0)\r\n".to_owned(), "a UID that is not a number"),
        ("* 1 FETCH (UID 1 BODY[] atom)\r\n".to_owned(), "a body that is neither a string nor NIL"),
        ("* 1 FETCH (UID 1 BODY[] \"open)\r\n".to_owned(), "a quoted string that does not end on its line"),
        ("* 1 FETCH (UID)\r\n".to_owned(), "a FETCH attribute without a value"),
        ("* 1 FETCH (FLAGS (\\Seen)\r\n".to_owned(), "a FETCH reply ends before its parenthesis"),
        ("+ go ahead\r\n".to_owned(), "a continuation that was not asked for"),
        ("A0001 OK AUTHENTICATE completed.\r\n".to_owned(), "an answer to a command that was not sent"),
    ] {
        let (outcome, taken) = fetched(reply.clone().into_bytes()).await;
        assert_eq!(outcome, Err(Error::Protocol { step: Step::Fetch, what }), "{}", reply.chars().take(80).collect::<String>());
        assert_eq!(taken, Taken::default());
    }
}

#[tokio::test(start_paused = true)]
async fn oddities_that_servers_send_are_survived() {
    let odd = "* 1 FETCH (UID 1 INTERNALDATE NIL BODY[] {3}\r\none)\r\n[COPYUID 55 31 6]\r\n* 1 FETCH\r\n* OK [ALERT]été\r\n* OK [ALERT]\u{fffd}\r\n\
               * NO [X\r\n* BAD\r\n\r\n* METADATA \"\" (/\u{e9} NIL)\r\n* CAPABILITY  IMAP4rev1\r\n* 2 FETCH (uid 2 body[] {3}\r\ntwo )\r\n{tag} OK [X]é\r\n";
    let mut reply = odd.as_bytes().to_vec();
    let at = reply.windows(3).position(|w| w == "\u{fffd}".as_bytes()).unwrap();
    reply[at] = 0xe9; // not UTF-8 any more
    let (outcome, taken) = fetched(reply).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(taken.whole, [(1, None, b"one".to_vec()), (2, None, b"two".to_vec())]);
}

#[tokio::test(start_paused = true)]
async fn an_end_at_any_byte_is_an_error_and_leaves_only_whole_messages() {
    let long = body(super::super::DIVERT_FROM + 1);
    let whole = [
        message(1, b"one"),
        b"* 3 EXISTS\r\n* SEARCH 4\r\n".to_vec(),
        message(2, b"two\r\n"),
        message(3, &long),
        b"{tag} OK done\r\n".to_vec(),
    ]
    .concat();
    let tail = whole.len() - 120;
    for end in (0..200).chain(tail..whole.len()) {
        let (outcome, taken) = fetched(whole[..end].to_vec()).await;
        assert_eq!(outcome, Err(Error::Closed(Step::Fetch)), "at {end}");
        for (uid, _, bytes) in &taken.whole {
            assert_eq!(bytes.as_slice(), if *uid == 1 { &b"one"[..] } else { b"two\r\n" });
        }
        assert!(taken.long.is_empty() || end > tail && taken.long[0].1 == long);
        assert_eq!(taken.absent, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_nobody_asked_for_ends_other_commands_only_where_it_is_long() {
    let long = message(1, &body(super::super::DIVERT_FROM + 1));
    for (reply, expected) in
        [(message(1, b"short"), Ok(set("4"))), (long, Err(Error::Protocol { step: Step::List, what: "a message that was not asked for" }))]
    {
        let mut session = logged_in(vec![("UID SEARCH", [reply, b"* SEARCH 4\r\n{tag} OK done\r\n".to_vec()].concat())]).await;
        assert_eq!(session.list(1, 9).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_without_its_numbers_is_an_error() {
    for (reply, what) in [
        ("* 8 EXISTS\r\n{tag} OK done\r\n", "a folder without UIDVALIDITY"),
        ("* 8 EXISTS\r\n* OK [UIDVALIDITY 0] x\r\n{tag} OK done\r\n", "a folder without UIDVALIDITY"),
        ("* OK [UIDVALIDITY 3] x\r\n{tag} OK done\r\n", "a folder without EXISTS"),
    ] {
        let mut session = logged_in(vec![("EXAMINE \"INBOX\"", reply.into())]).await;
        assert_eq!(session.open("INBOX", Access::Examine).await, Err(Error::Protocol { step: Step::Open, what }));
    }
}

#[tokio::test(start_paused = true)]
async fn more_uids_than_a_command_line_holds_are_refused_before_anything_is_sent() {
    let (mut session, peer) = logged_in_through(4096, Vec::new(), Then::Hold).await;
    let scattered: UidSet = (1..2_000).map(|n| n * 2_000).collect();
    let what = "more UIDs than one command may hold";
    assert_eq!(session.fetch(&scattered, &mut Taken::default()).await, Err(Error::Protocol { step: Step::Fetch, what }));
    drop(session);
    assert_eq!(peer.await.unwrap().len(), 2);
}
