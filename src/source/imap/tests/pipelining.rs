//! The next FETCH sent ahead: the server need not wait for us, and nothing is taken for another's.

use super::*;

const OK: &str = "{tag} OK FETCH completed.\r\n";

/// Whole answers by the tags that a session gives: log-in is A0001, the probe A0002, the first FETCH A0003.
fn answer(tag: u32, uids: &[u32]) -> Vec<u8> {
    let mut whole: Vec<u8> = uids.iter().flat_map(|uid| message(*uid, format!("body {uid}").as_bytes())).collect();
    whole.extend(format!("A{tag:04} OK FETCH completed.\r\n").bytes());
    whole
}

fn uids(taken: &Taken) -> Vec<u32> {
    taken.whole.iter().map(|(uid, ..)| *uid).collect()
}

#[tokio::test(start_paused = true)]
async fn the_next_fetch_is_sent_before_the_answer_to_the_last_is_read() {
    // The server says nothing to the first before it has the second.
    let script: Vec<Exchange> = vec![
        ("UID FETCH 1:2 ", vec![]),
        ("UID FETCH 3:4 ", answer(3, &[1, 2])),
        ("UID FETCH 5 ", [answer(4, &[3, 4]), answer(5, &[5])].concat()),
        ("UID SEARCH", "* SEARCH 6\r\n{tag} OK SEARCH completed.\r\n".into()),
    ];
    let (mut session, peer) = logged_in_through(64 * 1024, script, Then::Close).await;
    let mut taken = Taken::default();
    session.ask_ahead(set("3:4"));
    session.fetch(&set("1:2"), &mut taken).await.unwrap();
    assert_eq!(uids(&taken), [1, 2]);
    session.ask_ahead(set("5"));
    session.fetch(&set("3:4"), &mut taken).await.unwrap();
    session.fetch(&set("5"), &mut taken).await.unwrap();
    assert_eq!(uids(&taken), [1, 2, 3, 4, 5]);
    assert_eq!(session.list(6, 6).await, Ok(set("6")), "with nothing under way everything may follow");
    drop(session);
    assert_eq!(peer.await.unwrap().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_works_on_both_at_a_time_loses_nothing() {
    let mixed = [message(3, b"early"), message(1, b"one"), b"A0003 OK done\r\n".to_vec(), message(3, b"again"), answer(4, &[4])].concat();
    let mut session = logged_in(vec![("UID FETCH 1 ", vec![]), ("UID FETCH 3:4 ", mixed)]).await;
    let mut taken = Taken::default();
    session.ask_ahead(set("3:4"));
    session.fetch(&set("1"), &mut taken).await.unwrap();
    session.fetch(&set("3:4"), &mut taken).await.unwrap();
    assert_eq!(uids(&taken), [3, 1, 4], "each once");
}

#[tokio::test(start_paused = true)]
async fn fault_2_a_bad_to_the_second_pipelined_fetch_is_asked_again_alone() {
    let script: Vec<Exchange> = vec![
        ("UID FETCH 1:2 ", vec![]),
        ("UID FETCH 3:4 ", answer(3, &[1, 2])),
        ("UID FETCH 5 ", b"A0004 BAD Command Error. 12\r\nA0005 BAD Command Error. 12\r\n".to_vec()),
        ("UID FETCH 3:4 ", answer(6, &[3, 4])),
        ("UID FETCH 5 ", answer(7, &[5])),
    ];
    let (mut session, peer) = logged_in_through(64 * 1024, script, Then::Close).await;
    let mut taken = Taken::default();
    session.ask_ahead(set("3:4"));
    session.fetch(&set("1:2"), &mut taken).await.unwrap();
    session.ask_ahead(set("5"));
    session.fetch(&set("3:4"), &mut taken).await.unwrap();
    // From now on one at a time, whatever is asked.
    session.ask_ahead(set("6"));
    session.fetch(&set("5"), &mut taken).await.unwrap();
    assert_eq!(uids(&taken), [1, 2, 3, 4, 5]);
    drop(session);
    assert_eq!(peer.await.unwrap().len(), 2 + 5);
}

#[tokio::test(start_paused = true)]
async fn a_bad_to_a_fetch_that_stands_alone_is_a_refusal() {
    let mut session = logged_in(vec![("UID FETCH 1 ", "{tag} BAD Command Error. 12\r\n".into())]).await;
    let refusal = session.fetch(&set("1"), &mut Taken::default()).await;
    assert_eq!(refusal, Err(refused(Step::Fetch, Refusal::Bad, None, "Command Error. 12")));
}

#[tokio::test(start_paused = true)]
async fn nothing_but_its_fetch_follows_what_was_asked_ahead() {
    for what in 0..3 {
        let mut session = logged_in(vec![("UID FETCH 1 ", vec![]), ("UID FETCH 2 ", answer(3, &[1])), ("", OK.into())]).await;
        let mut taken = Taken::default();
        session.ask_ahead(set("2"));
        session.fetch(&set("1"), &mut taken).await.unwrap();
        let outcome = match what {
            0 => session.list(1, 9).await.map(drop),
            1 => session.open("INBOX", Access::Examine).await.map(drop),
            _ => session.fetch(&set("9"), &mut taken).await,
        };
        assert_eq!(outcome, Err(Error::HalfUsed), "{what}");
        assert_eq!(session.list(1, 9).await, Err(Error::HalfUsed), "used up for good");
    }
}
