//! SELECT, and what becomes of delivered messages.

use super::*;
use crate::source::{Extension, Settle};

const OPENED: &str =
    "* 3 EXISTS\r\n* OK [UIDVALIDITY 14] UIDVALIDITY value\r\n* OK [UIDNEXT 9] The next unique identifier value\r\n{tag} OK";
const CAPABLE: &str = "* CAPABILITY IMAP4 IMAP4rev1 AUTH=XOAUTH2 UIDPLUS MOVE ID\r\n{tag} OK CAPABILITY completed.\r\n";
const DONE: &str = "{tag} OK completed.\r\n";

async fn selected(code: &str, script: Vec<Exchange>) -> (Session<DuplexStream>, JoinHandle<Vec<String>>) {
    let mut whole: Vec<Exchange> = vec![("SELECT \"INBOX\"", format!("{OPENED} {code} SELECT completed.\r\n").into_bytes())];
    whole.extend(script);
    let (mut session, peer) = logged_in_through(64 * 1024, whole, Then::Close).await;
    let opened = session.open("INBOX", Access::Select).await.unwrap();
    assert_eq!(opened.read_only, code == "[READ-ONLY]");
    (session, peer)
}

#[tokio::test(start_paused = true)]
async fn only_the_messages_named_are_moved_marked_or_removed() {
    let rows: [(Settle, &[&str]); 3] = [
        (Settle::MarkSeen, &[r"UID STORE 2:4,9 +FLAGS.SILENT (\Seen)"]),
        (Settle::Move("Traités/À garder".into()), &["CAPABILITY", r#"UID MOVE 2:4,9 "Trait&AOk-s/&AMA- garder""#]),
        (Settle::Delete, &["CAPABILITY", r"UID STORE 2:4,9 +FLAGS.SILENT (\Deleted)", "UID EXPUNGE 2:4,9"]),
    ];
    for (how, expected) in rows {
        for code in ["[READ-WRITE]", ""] {
            let script = expected.iter().map(|command| (*command, if *command == "CAPABILITY" { CAPABLE } else { DONE }.into()));
            let (mut session, peer) = selected(code, script.collect()).await;
            session.settle(&set("2:4,9"), &how).await.unwrap();
            session.settle(&UidSet::new(), &how).await.unwrap();
            drop(session);
            let said: Vec<String> = peer.await.unwrap().split_off(3);
            let said: Vec<&str> = said.iter().map(|line| line.split_once(' ').unwrap().1).collect();
            assert_eq!(said, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn capabilities_are_asked_for_once_a_session() {
    let script = vec![("CAPABILITY", CAPABLE.into()), ("UID MOVE 1 ", DONE.into()), ("UID MOVE 2 ", DONE.into())];
    let (mut session, _peer) = selected("[READ-WRITE]", script).await;
    let how = Settle::Move("Archive".into());
    session.settle(&set("1"), &how).await.unwrap();
    session.settle(&set("2"), &how).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_set_longer_than_a_command_line_is_settled_in_several() {
    let uids: UidSet = (1..=3_000).map(|n| 4_000_000_000 + 2 * n).collect();
    let script =
        ["UID STORE 4000000002,", "UID STORE ", "UID STORE ", "UID STORE ", "UID STORE "].map(|command| (command, DONE.into())).to_vec();
    let (mut session, peer) = selected("[READ-WRITE]", script).await;
    session.settle(&uids, &Settle::MarkSeen).await.unwrap();
    drop(session);
    let said = peer.await.unwrap();
    assert_eq!(said.iter().filter(|line| line.contains("UID STORE") && line.len() < 8_192).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_settled_is_told_before_anything_is_changed() {
    let bare = "* CAPABILITY IMAP4rev1 IDLE\r\n{tag} OK CAPABILITY completed.\r\n";
    let rows = [
        ("[READ-ONLY]", Settle::MarkSeen, vec![], Error::ReadOnly),
        ("[READ-ONLY]", Settle::Delete, vec![], Error::ReadOnly),
        ("[READ-WRITE]", Settle::Delete, vec![("CAPABILITY", bare.into())], Error::Unsupported(Extension::UidPlus)),
        ("[READ-WRITE]", Settle::Move("x".into()), vec![("CAPABILITY", bare.into())], Error::Unsupported(Extension::Move)),
        (
            "[READ-WRITE]",
            Settle::Move("x".into()),
            vec![("CAPABILITY", CAPABLE.into()), ("UID MOVE", "{tag} NO [TRYCREATE] x doesn't exist.\r\n".into())],
            refused(Step::Settle, Refusal::No, Some("TRYCREATE"), "x doesn't exist."),
        ),
        (
            "[READ-WRITE]",
            Settle::Delete,
            vec![("CAPABILITY", CAPABLE.into()), ("UID STORE", "{tag} NO Server Busy. 20\r\n".into())],
            refused(Step::Settle, Refusal::No, None, "Server Busy. 20"),
        ),
        ("[READ-WRITE]", Settle::MarkSeen, vec![("UID STORE", "".into())], Error::Closed(Step::Settle)),
    ];
    for (code, how, script, expected) in rows {
        let (mut session, _peer) = selected(code, script).await;
        assert_eq!(session.settle(&set("1:3"), &how).await, Err(expected));
        assert_eq!(session.settle(&set("1:3"), &how).await, Err(Error::HalfUsed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_opened_by_examine_is_never_settled() {
    let script: Vec<Exchange> = vec![("EXAMINE", format!("{OPENED} [READ-WRITE] EXAMINE completed.\r\n").into_bytes())];
    let (mut session, _peer) = logged_in_through(4096, script, Then::Close).await;
    assert!(session.open("INBOX", Access::Examine).await.unwrap().read_only);
    assert_eq!(session.settle(&set("1"), &Settle::Delete).await, Err(Error::ReadOnly));
}

#[tokio::test(start_paused = true)]
async fn messages_that_went_meanwhile_are_no_refusal_and_moved_mail_makes_no_noise() {
    let moved =
        "* OK [COPYUID 55 31 6] done\r\n* 3 EXPUNGE\r\n* VANISHED 4\r\n* 2 FETCH (FLAGS (\\Seen) UID 7)\r\n{tag} OK MOVE completed.\r\n";
    let gone = "* OK [COPYUID 55 31 6]\r\n{tag} NO [EXPUNGEISSUED] Some of the requested messages no longer exist.\r\n";
    let script = vec![("CAPABILITY", CAPABLE.into()), ("UID MOVE", moved.into()), ("UID MOVE", gone.into())];
    let (mut session, _peer) = selected("[READ-WRITE]", script).await;
    session.settle(&set("3:5"), &Settle::Move("Archive".into())).await.unwrap();
    session.settle(&set("3:5"), &Settle::Move("Archive".into())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_listing_tells_what_is_not_settled_and_only_of_what_was_asked() {
    let rows = [
        (Settle::Delete, "UID SEARCH UID 2:4,9", "* SEARCH 3 5 9 100\r\n", Ok(set("3,9"))),
        (Settle::Move("x".into()), "UID SEARCH UID 2:4,9", "* SEARCH\r\n", Ok(UidSet::new())),
        (Settle::MarkSeen, "UID SEARCH UID 2:4,9 UNSEEN", "* SEARCH 2\r\n* SEARCH 4\r\n", Ok(set("2,4"))),
    ];
    for (how, command, reply, expected) in rows {
        let script = vec![(command, [reply, DONE].concat().into_bytes())];
        let (mut session, _peer) = selected("[READ-WRITE]", script).await;
        assert_eq!(session.unsettled(&set("2:4,9"), &how).await, expected);
    }
    let (mut session, _peer) = selected("[READ-WRITE]", vec![("UID SEARCH", "{tag} NO later\r\n".into())]).await;
    assert_eq!(session.unsettled(&set("2:4,9"), &Settle::Delete).await, Err(refused(Step::List, Refusal::No, None, "later")));
    let (mut session, _peer) = selected("[READ-WRITE]", vec![]).await;
    assert_eq!(session.unsettled(&UidSet::new(), &Settle::Delete).await, Ok(UidSet::new()));
}
