//! Reading, waiting for, marking and moving mail.

use super::*;

#[tokio::test]
async fn each_fetch_renders_anew_unless_told_not_to() {
    let simulator = started().await;
    deliver(&simulator, 1..=1);
    let mut client = Client::ready(&simulator).await;
    client.run("EXAMINE INBOX").await;
    assert_ne!(client.bodies("1").await, client.bodies("1").await);
    simulator.world().mailbox(MAILBOX).unwrap().stable_rendering = true;
    assert_eq!(client.bodies("1").await, client.bodies("1").await);
    assert_eq!(simulator.renderings().len(), 4);
}

#[tokio::test]
async fn new_mail_is_pushed_into_an_idle_and_logged() {
    let simulator = started().await;
    deliver(&simulator, 1..=1);
    let mut client = Client::ready(&simulator).await;
    client.run("EXAMINE INBOX").await;
    client.send("A9 IDLE").await;
    assert_eq!(client.line().await.as_deref(), Some("+ IDLE accepted, awaiting DONE command."));
    deliver(&simulator, 2..=2);
    assert_eq!(client.line().await.as_deref(), Some("* 2 EXISTS"));
    let announcements = simulator.announcements();
    assert_eq!(announcements.iter().map(|one| (one.exists, one.uid_next)).collect::<Vec<_>>(), [(2, 3)]);
    simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").expunge(|uid| uid == 1);
    assert_eq!(client.line().await.as_deref(), Some("* 1 EXPUNGE"));
    assert_eq!(client.line().await.as_deref(), Some("* 1 EXISTS"));
    client.send("DONE").await;
    assert_eq!(client.line().await.as_deref(), Some("A9 OK IDLE completed."));
}

#[tokio::test]
async fn marking_moving_and_expunging_do_what_they_say() {
    let simulator = started().await;
    deliver(&simulator, 1..=4);
    let mut client = Client::ready(&simulator).await;
    client.run("SELECT INBOX").await;
    assert_eq!(client.run("UID STORE 1 +FLAGS.SILENT (\\Seen)").await, (vec![], "OK STORE completed.".to_owned()));
    assert_eq!(client.run("UID SEARCH UNSEEN").await.0, ["* SEARCH 2 3 4"]);
    let (moved, answer) = client.run("UID MOVE 2,3 \"Factures/&AMA- traiter\"").await;
    assert!(moved[0].starts_with("* OK [COPYUID ") && moved[0].ends_with(" 2,3 1,2]"), "{moved:?}");
    assert_eq!(
        (&moved[1..], answer.as_str()),
        (&["* 3 EXPUNGE".to_owned(), "* 2 EXPUNGE".to_owned(), "* 2 EXISTS".to_owned()][..], "OK MOVE completed.")
    );
    client.run("UID STORE 1,4 +FLAGS (\\Deleted)").await;
    client.run("UID EXPUNGE 4").await;
    let mut world = simulator.world();
    let mailbox = world.mailbox(MAILBOX).unwrap();
    assert_eq!(mailbox.folder("INBOX").uids(), [1]);
    assert_eq!(mailbox.folder("Factures/À traiter").serials(), [Some(2), Some(3)]);
    assert!(mailbox.folder("INBOX").is_seen(1));
}

#[tokio::test]
async fn headers_flags_and_searches_answer_and_peeking_leaves_no_trace() {
    let simulator = started().await;
    deliver(&simulator, 1..=2);
    let mut client = Client::ready(&simulator).await;
    client.run("SELECT INBOX").await;
    let (lines, _) = client.run("UID FETCH 1 (BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)] FLAGS)").await;
    assert!(lines[0].starts_with("* 1 FETCH (UID 1 BODY[HEADER.FIELDS (MESSAGE-ID)] {"), "{lines:?}");
    let id = lines[1].strip_prefix("Message-ID: ").unwrap().to_owned();
    assert_eq!(lines[3], " FLAGS ())");
    assert_eq!(client.run(&format!("UID SEARCH HEADER Message-ID \"{id}\"")).await.0, ["* SEARCH 1"]);
    client.bodies("1").await;
    assert!(!simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").is_seen(1));
    assert!(client.run("UID FETCH 2 BODY[]").await.0.last().unwrap().ends_with(" FLAGS (\\Seen))"));
    assert!(simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").is_seen(2));
    let charset = client.run("UID SEARCH CHARSET UTF-8 ALL").await.1;
    assert_eq!(charset, "NO [BADCHARSET (US-ASCII)] The specified charset is not supported.");
    assert_eq!(client.run("UID SEARCH KEYWORD x").await.1, "BAD Command Argument Error. 11");
}

#[tokio::test]
async fn an_appended_message_arrives_by_either_kind_of_literal() {
    let simulator = started().await;
    let mut client = Client::ready(&simulator).await;
    client.send("A8 APPEND INBOX (\\Seen) {14+}\r\nSubject: x\r\n\r\n").await;
    assert!(client.line().await.unwrap().starts_with("A8 OK [APPENDUID "));
    client.send("A9 APPEND INBOX {14}").await;
    assert_eq!(client.line().await.as_deref(), Some("+ Ready for additional command text."));
    client.send("Subject: x\r\n\r\n").await;
    assert!(client.line().await.unwrap().starts_with("A9 OK [APPENDUID "));
    assert_eq!(simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").uids(), [1, 2]);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the comfortable calls are the widest test of the parser, and nothing is refused here")]
async fn async_imap_understands_every_answer() {
    use futures::TryStreamExt as _;

    struct Xoauth2(String);
    impl async_imap::Authenticator for Xoauth2 {
        type Response = String;
        fn process(&mut self, _: &[u8]) -> String {
            std::mem::take(&mut self.0)
        }
    }

    let simulator = started().await;
    deliver(&simulator, 1..=20);
    for front_end in [FrontEnd::Classic, FrontEnd::TcpProxy] {
        simulator.world().exchange.front_end = front_end;
        let token = token(&simulator).await;
        let mut client = async_imap::Client::new(connected(&simulator, simulator.imap_address()).await);
        client.read_response().await.unwrap().unwrap();
        let sasl = Xoauth2(format!("user={MAILBOX}\u{1}auth=Bearer {token}\u{1}\u{1}"));
        let mut session = client.authenticate("XOAUTH2", sasl).await.map_err(|(error, _)| error).unwrap();
        assert!(session.capabilities().await.unwrap().has_str("MOVE"));
        let names: Vec<_> = session.list(Some(""), Some("*")).await.unwrap().try_collect().await.unwrap();
        assert_eq!(names.len(), 6);
        assert_eq!(session.list(Some(""), None).await.unwrap().try_collect::<Vec<_>>().await.unwrap().len(), 1);
        let status = session.status("INBOX", "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)").await.unwrap();
        let opened = session.select("INBOX").await.unwrap();
        assert_eq!((opened.exists, opened.uid_next, opened.uid_validity), (20, Some(21), status.uid_validity));
        assert_eq!(session.uid_search("UID 1:7").await.unwrap().len(), 7);
        let query = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])";
        let fetched: Vec<_> = session.uid_fetch("1:20", query).await.unwrap().try_collect().await.unwrap();
        for (fetch, uid) in fetched.iter().zip(1..) {
            let rendering = simulator.rendering_of_bytes(fetch.body().unwrap()).unwrap();
            assert_eq!((fetch.uid, rendering.uid, rendering.serial), (Some(uid), uid, Some(uid.into())));
            assert!(fetch.internal_date().is_some() && fetch.size.is_some());
        }
        assert_eq!(fetched.len(), 20);
        session.uid_store("2", "+FLAGS (\\Seen)").await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        session.uid_copy("2", "Brouillons").await.unwrap();
        session.uid_mv("2", "Brouillons").await.unwrap();
        session.noop().await.unwrap();
        session.logout().await.unwrap();
        simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").expunge(|_| true);
        simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").renumber(1);
        deliver(&simulator, 1..=20);
    }
}
