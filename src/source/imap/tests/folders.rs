//! Folders without opening them, days, and headers without bodies.

use super::*;
use crate::source::{Day, Fields, Heading, LONGEST_HEADING, Marks};

const DONE: &str = "{tag} OK completed.\r\n";

async fn with_delimiter(delimiter: &str, script: Vec<Exchange>) -> Session<DuplexStream> {
    let mut whole: Vec<Exchange> = vec![
        ("", GREETING.into()),
        ("AUTHENTICATE XOAUTH2 ", DONE.into()),
        ("LIST \"\" \"\"", format!("* LIST (\\Noselect) {delimiter} \"\"\r\n{DONE}").into()),
    ];
    whole.extend(script);
    start(connected(64 * 1024, whole, Then::Close).0).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn folder_names_are_listed_as_people_write_them() {
    let list = "* LIST (\\Marked \\HasNoChildren) \"/\" INBOX\r\n* LIST (\\HasNoChildren) \"/\" \"Factures/&AMA- traiter\"\r\n\
                * LIST (\\Noselect \\HasChildren) \"/\" Public\r\n* LIST (\\NonExistent) \"/\" Gone\r\n* LIST () \"/\" \"&broken\"\r\n\
                * LIST () \"/\" {6}\r\nstrange\r\n* LIST () \"/\" \"R &- D\"\r\n{tag} OK LIST completed.\r\n";
    let mut session = logged_in(vec![("LIST \"\" \"*\"", list.into())]).await;
    assert_eq!(session.folders().await.unwrap(), ["INBOX", "Factures/À traiter", "R & D"]);
}

#[tokio::test(start_paused = true)]
async fn levels_are_separated_as_the_server_does() {
    for (delimiter, wire) in
        [("\".\"", "A.&AMk-t&AOk-"), ("\"/\"", "A/&AMk-t&AOk-"), ("NIL", "A/&AMk-t&AOk-"), ("\"\\\\\"", "A\\\\&AMk-t&AOk-")]
    {
        let command: &'static str = format!("STATUS \"{wire}\" (UIDVALIDITY UIDNEXT MESSAGES)").leak();
        let answer = format!("* STATUS \"{wire}\" (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 14)\r\n{DONE}");
        let mut session = with_delimiter(delimiter, vec![(command, answer.into())]).await;
        let expected = Marks { uid_validity: Some(14), uid_next: Some(9), messages: Some(3) };
        assert_eq!(session.marks("A/Été").await, Ok(Some(expected)), "{delimiter}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_is_not_there_leaves_the_session_usable() {
    let mut session = logged_in(vec![
        ("EXAMINE \"Weg\"", "{tag} NO Weg doesn't exist.\r\n".into()),
        ("STATUS \"Weg\"", "{tag} NO [NONEXISTENT] no such folder\r\n".into()),
        ("STATUS \"INBOX\"", DONE.into()),
        ("EXAMINE \"INBOX\"", "{tag} BAD Command Error. 12\r\n".into()),
    ])
    .await;
    assert_eq!(session.open("Weg", Access::Examine).await, Err(refused(Step::Open, Refusal::No, None, "Weg doesn't exist.")));
    assert_eq!(session.marks("Weg").await, Ok(None));
    assert_eq!(session.marks("INBOX").await, Ok(Some(Marks::default())), "an OK that tells nothing");
    assert!(session.open("INBOX", Access::Examine).await.is_err());
    assert_eq!(session.folders().await, Err(Error::HalfUsed), "a BAD is no answer");
}

#[tokio::test(start_paused = true)]
async fn days_are_searched_and_mail_announced_meanwhile_is_not_overlooked() {
    let (before, since) = (Day::Before(jiff::civil::date(2026, 11, 1)), Day::Since(jiff::civil::date(2026, 11, 3)));
    let mut session = logged_in(vec![
        ("UID SEARCH UID 1:4294967295 BEFORE 1-Nov-2026", "* SEARCH 2 3\r\n* 7 EXISTS\r\n{tag} OK SEARCH completed.\r\n".into()),
        ("UID SEARCH UID 4:9 SINCE 3-Nov-2026", "* SEARCH 9 10\r\n{tag} OK SEARCH completed.\r\n".into()),
    ])
    .await;
    assert_eq!(session.list_day(1, u32::MAX, before).await, Ok(set("2:3")));
    assert_eq!(session.list_day(4, 9, since).await, Ok(set("9")));
    assert_eq!(session.wait(Duration::from_secs(60), std::future::pending()).await, Ok(Wake::NewMail));
}

#[tokio::test(start_paused = true)]
async fn headings_are_what_was_asked_for_and_bounded() {
    let header = "From: a@x.fr\r\nSubject: Re: {9}\r\n\r\n";
    let long = "x".repeat(usize::try_from(LONGEST_HEADING).unwrap() + 1);
    let date = "INTERNALDATE \"17-Jul-2026 02:44:25 +0200\"";
    let reply = format!(
        "* 1 FETCH (UID 1 {date} BODY[HEADER.FIELDS (FROM TO CC SUBJECT)] {{{}}}\r\n{header})\r\n\
         * 2 FETCH (BODY[HEADER.FIELDS (\"FROM\" \"TO\" \"CC\" \"SUBJECT\")] \"\" UID 2 {date})\r\n\
         * 3 FETCH (UID 3 {date} BODY[HEADER.FIELDS (FROM TO CC SUBJECT)] {{{}}}\r\n{long})\r\n\
         * 4 FETCH (UID 4 FLAGS (\\Seen))\r\n* 4 FETCH (UID 4 INTERNALDATE NIL BODY[HEADER.FIELDS (FROM TO CC SUBJECT)] NIL)\r\n\
         * 9 FETCH (UID 9 {date} BODY[HEADER.FIELDS (FROM TO CC SUBJECT)] \"not asked for\")\r\n\
         * 1 FETCH (UID 1 {date} BODY[HEADER.FIELDS (FROM TO CC SUBJECT)] \"a second time\")\r\n{DONE}",
        header.len(),
        long.len(),
    );
    let script: Vec<Exchange> = vec![
        ("UID FETCH 1:5 (UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (FROM TO CC SUBJECT)])", reply.into()),
        ("UID FETCH 1:2 (UID INTERNALDATE)", format!("* 1 FETCH (UID 1 {date})\r\n{DONE}").into()),
        ("UID FETCH 1 (UID INTERNALDATE BODY.PEEK[])", [message(1, b"whole"), DONE.into()].concat()),
    ];
    let mut session = logged_in(script).await;
    let internal_date = Some("2026-07-17T00:44:25Z".parse().unwrap());
    let heading = |uid, internal_date, header: Option<&'static str>| Heading { uid, internal_date, header: header.map(Bytes::from) };
    let found = session.headings(&set("1:5"), Fields::Addressing).await.unwrap();
    let expected = [
        heading(1, internal_date, Some(header)),
        heading(2, internal_date, Some("")),
        heading(3, internal_date, None),
        heading(4, None, None),
    ];
    assert_eq!(found, expected);
    assert_eq!(session.headings(&set("1:2"), Fields::Date).await.unwrap(), [heading(1, internal_date, None)]);
    let mut taken = Taken::default();
    session.fetch(&set("1"), &mut taken).await.unwrap();
    assert_eq!(taken.whole.len(), 1, "bodies are bodies again");
}
