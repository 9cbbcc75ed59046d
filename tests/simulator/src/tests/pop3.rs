//! POP3: log-in as Exchange wants it, one session at a time, deletions at QUIT.

use super::*;

struct Pop {
    stream: TlsStream<TcpStream>,
    pending: Vec<u8>,
}

impl Pop {
    async fn connect(simulator: &Simulator) -> Self {
        let mut client = Self { stream: connected(simulator, simulator.pop3_address()).await, pending: Vec::new() };
        assert!(client.line().await.starts_with("+OK The Microsoft Exchange POP3 service is ready. ["));
        client
    }

    async fn ready(simulator: &Simulator) -> Self {
        let mut client = Self::connect(simulator).await;
        assert_eq!(client.log_in(&token(simulator).await).await, "+OK User successfully authenticated.");
        client
    }

    async fn log_in(&mut self, token: &str) -> String {
        assert_eq!(self.say("AUTH XOAUTH2").await, "+");
        self.say(&BASE64_STANDARD.encode(format!("user={MAILBOX}\u{1}auth=Bearer {token}\u{1}\u{1}"))).await
    }

    /// Empty at the end of the connection.
    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read_buf(&mut self.pending)).await;
            if read.expect("an answer in time").unwrap_or(0) == 0 {
                return String::new();
            }
        }
    }

    async fn say(&mut self, command: &str) -> String {
        self.stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
        self.line().await
    }

    /// The lines of an answer of several.
    async fn lines(&mut self, command: &str) -> Vec<String> {
        assert!(self.say(command).await.starts_with("+OK"));
        let mut lines = Vec::new();
        loop {
            match self.line().await {
                dot if dot == "." => return lines,
                line => lines.push(line),
            }
        }
    }
}

async fn started_for_pop3() -> Simulator {
    let simulator = started().await;
    simulator.world().permit_pop3();
    simulator
}

#[tokio::test]
async fn a_token_goes_on_a_line_of_its_own_and_must_not_be_long() {
    let simulator = started_for_pop3().await;
    let refusal = "-ERR Protocol error. Connection is closed. 10";
    let mut client = Pop::connect(&simulator).await;
    let one_line = format!("AUTH XOAUTH2 {}", BASE64_STANDARD.encode(format!("user={MAILBOX}\u{1}auth=Bearer x\u{1}\u{1}")));
    assert_eq!((client.say(&one_line).await.as_str(), client.line().await.as_str()), (refusal, ""));
    let mut client = Pop::connect(&simulator).await;
    assert_eq!((client.log_in(&"x".repeat(5_000)).await.as_str(), client.line().await.as_str()), (refusal, ""));
    let mut client = Pop::connect(&simulator).await;
    assert_eq!(client.say("STAT").await, "-ERR Command is not valid in this state.");
    assert_eq!(client.say("USER a").await, "+OK");
    assert_eq!(client.say("PASS b").await, "-ERR Logon failure: unknown user name or bad password.");
    assert_eq!(client.log_in("x").await, "-ERR Authentication failure: unknown user name or bad password.");
    assert_eq!(client.log_in(&token(&simulator).await).await, "+OK User successfully authenticated.");
}

#[tokio::test]
async fn whatever_is_wrong_with_the_set_up_the_answer_is_the_same() {
    let simulator = started_for_pop3().await;
    simulator.world().mailbox(MAILBOX).unwrap().pop_enabled = false;
    let switched_off = Pop::connect(&simulator).await.log_in(&token(&simulator).await).await;
    assert_eq!(switched_off, "-ERR Authentication failure: unknown user name or bad password.");
    simulator.world().mailbox(MAILBOX).unwrap().pop_enabled = true;
    for step in [Step::ServicePrincipal, Step::ObjectId, Step::FullAccess] {
        simulator.world().miss(step);
        let refused = Pop::connect(&simulator).await.log_in(&token(&simulator).await).await;
        assert_eq!(refused, "-ERR Authentication failure: unknown user name or bad password.", "{step:?}");
        simulator.world().tenants[0].put_right();
        simulator.world().permit_pop3();
    }
    simulator.world().tenants[0].put_right();
    let without_the_role = Pop::connect(&simulator).await.log_in(&token(&simulator).await).await;
    assert_eq!(without_the_role, "-ERR Authentication failure: unknown user name or bad password.");
}

#[tokio::test]
async fn deletions_take_effect_at_quit_and_one_session_has_the_mailbox() {
    let simulator = started_for_pop3().await;
    deliver(&simulator, 1..=3);
    let left = |simulator: &Simulator| simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").uids();
    let mut client = Pop::ready(&simulator).await;
    assert_eq!(client.lines("UIDL").await, ["1 1", "2 2", "3 3"]);
    assert_eq!(client.say("DELE 2").await, "+OK");
    assert_eq!(client.lines("UIDL").await, ["1 1", "3 3"]);
    assert!(Pop::connect(&simulator).await.log_in(&token(&simulator).await).await.starts_with("-ERR [IN-USE] "));
    // New mail is not seen, and a session that breaks off deletes nothing.
    deliver(&simulator, 4..=4);
    assert!(client.say("STAT").await.starts_with("+OK 2 "));
    drop(client);
    while simulator.connections_open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(left(&simulator), [1, 2, 3, 4]);
    let mut client = Pop::ready(&simulator).await;
    assert_eq!(client.say("DELE 1").await, "+OK");
    assert_eq!(client.say("RSET").await, "+OK");
    assert_eq!(client.say("DELE 4").await, "+OK");
    assert_eq!(client.say("RETR 4").await, "-ERR The specified message is out of range.");
    assert!(client.say("QUIT").await.starts_with("+OK"));
    assert_eq!(left(&simulator), [1, 2, 3]);
}

#[tokio::test]
async fn dots_are_stuffed_and_each_rendering_is_logged() {
    let simulator = started_for_pop3().await;
    let raw = &b"Subject: x\r\n\r\n.\r\n..a\r\nb.\r\nno end"[..];
    simulator.world().deliver(MAILBOX, "INBOX", Message::raw(raw)).unwrap();
    deliver(&simulator, 2..=2);
    let mut client = Pop::ready(&simulator).await;
    assert_eq!(client.lines("RETR 1").await, ["Subject: x", "", "..", "...a", "b.", "no end"]);
    assert!(simulator.rendering_of_bytes(&[raw, b"\r\n"].concat()).is_some());
    let (first, second) = (client.lines("RETR 2").await, client.lines("RETR 2").await);
    assert_ne!(first, second);
    let unstuffed =
        |lines: &[String]| lines.iter().map(|line| format!("{}\r\n", line.strip_prefix('.').unwrap_or(line))).collect::<String>();
    assert_eq!(simulator.rendering_of_bytes(unstuffed(&second).as_bytes()).unwrap().serial, Some(2));
    let top = client.lines("TOP 2 0").await;
    assert!(top.iter().any(|line| line.starts_with("Message-ID: ")) && top.last().unwrap().is_empty());
}
