//! One session: commands in, the faults planned for them, answers out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use crate::fault::{Action, FetchFault};
use crate::imap::log_in::{User, address_in, connect, verify};
use crate::imap::wire::{Hangup, Wire};
use crate::mailbox::Mailbox;
use crate::message::{SharedMessage, mix, scan_in_progress, substitute};
use crate::record::{Rendering, locked};
use crate::shared::Shared;
use crate::tenant::FrontEnd;

/// base64 of `SIMULATOR.STANDIN.PROD.OUTLOOK.COM` in UTF-16LE: Exchange shows its host so.
const HOST: &str = "UwBJAE0AVQBMAEEAVABPAFIALgBTAFQAQQBOAEQASQBOAC4AUABSAE8ARAAuAE8AVQBUAEwATwBPAEsALgBDAE8ATQA=";
/// Of tokens longer than this the front end makes a protocol error (MailKit #1948).
const LONGEST_TOKEN: usize = 4_096;
const PROTOCOL_ERROR: &str = "-ERR Protocol error. Connection is closed. 10";
const WRONG_STATE: &str = "-ERR Command is not valid in this state.";

pub(super) struct Session {
    wire: Wire,
    shared: Arc<Shared>,
    user: Option<User>,
    messages: Vec<Listed>,
    fetch: Vec<(Option<u32>, FetchFault)>,
}

/// A message as this session knows it.
struct Listed {
    uid: u32,
    name: String,
    message: SharedMessage,
    deleted: bool,
}

#[derive(PartialEq, Eq)]
enum Strike {
    CarryOn,
    Answered,
}

impl Session {
    pub(super) fn new(wire: Wire, shared: Arc<Shared>) -> Self {
        Self { wire, shared, user: None, messages: Vec::new(), fetch: Vec::new() }
    }

    pub(super) async fn run(mut self) {
        let _ = self.converse().await;
    }

    async fn converse(&mut self) -> Result<(), Hangup> {
        if self.strike("GREETING").await? == Strike::CarryOn {
            let greeting = match locked(&self.shared.world).exchange.front_end {
                FrontEnd::Classic => format!("+OK The Microsoft Exchange POP3 service is ready. [{HOST}]"),
                FrontEnd::TcpProxy => format!("+OK Microsoft Exchange POP3 server ready (tcpproxy/15.20.9137.005). [{HOST}]"),
            };
            self.say(&greeting).await?;
        }
        loop {
            let line = self.wire.line().await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let (name, arguments) = line.split_once(' ').unwrap_or((line.as_str(), ""));
            self.carry_out(&name.to_ascii_uppercase(), arguments.trim()).await?;
        }
    }

    async fn carry_out(&mut self, name: &str, arguments: &str) -> Result<(), Hangup> {
        self.shared.record.command(name);
        self.fetch.clear();
        self.wire.split = None;
        if self.strike(name).await? == Strike::Answered {
            return Ok(());
        }
        match name {
            "CAPA" => {
                let pipelining = locked(&self.shared.world).exchange.pop3_pipelining;
                let pipelining = if pipelining { "PIPELINING\r\n" } else { "" };
                self.say(&format!("+OK\r\nTOP\r\nUIDL\r\nSASL PLAIN XOAUTH2\r\nUSER\r\n{pipelining}.")).await
            }
            "QUIT" => {
                self.commit();
                self.wire.put_line("+OK Microsoft Exchange Server POP3 server signing off.").await?;
                Err(self.wire.close().await)
            }
            _ if self.user.is_none() => self.before_log_in(name, arguments).await,
            "STAT" => {
                let (messages, octets) = (self.kept().count(), self.kept().map(|(_, listed)| self.estimate(listed)).sum::<u64>());
                self.say(&format!("+OK {messages} {octets}")).await
            }
            "LIST" | "UIDL" => self.list(name, arguments).await,
            "TOP" => self.top(arguments).await,
            "RETR" => self.retrieve(arguments).await,
            "DELE" => {
                let Some(index) = self.index(arguments) else { return self.say("-ERR The specified message is out of range.").await };
                if let Some(listed) = self.messages.get_mut(index) {
                    listed.deleted = true;
                }
                self.say("+OK").await
            }
            "RSET" => {
                self.messages.iter_mut().for_each(|listed| listed.deleted = false);
                self.say("+OK").await
            }
            "NOOP" => self.say("+OK").await,
            "AUTH" | "USER" | "PASS" | "STLS" => self.say(WRONG_STATE).await,
            _ => self.say(PROTOCOL_ERROR.trim_end_matches(" Connection is closed. 10")).await,
        }
    }

    async fn before_log_in(&mut self, name: &str, arguments: &str) -> Result<(), Hangup> {
        match name {
            "AUTH" if arguments.eq_ignore_ascii_case("XOAUTH2") => self.authenticate().await,
            // The token in the same line: what most clients do, and what Exchange does not take.
            "AUTH" if arguments.to_ascii_uppercase().starts_with("XOAUTH2 ") => {
                self.wire.put_line(PROTOCOL_ERROR).await?;
                Err(self.wire.close().await)
            }
            "USER" => self.say("+OK").await,
            "PASS" => self.say("-ERR Logon failure: unknown user name or bad password.").await,
            "AUTH" => self.say("-ERR Authentication failure: unknown user name or bad password.").await,
            _ => self.say(WRONG_STATE).await,
        }
    }

    async fn authenticate(&mut self) -> Result<(), Hangup> {
        self.wire.put_line("+ ").await?;
        self.wire.flush().await?;
        let encoded = String::from_utf8_lossy(&self.wire.line().await?).into_owned();
        let actions = {
            let mut world = locked(&self.shared.world);
            address_in(&encoded).and_then(|address| world.mailbox(&address).map(|mailbox| mailbox.faults.on_command("AUTH")).ok())
        };
        if self.play(actions.unwrap_or_default()).await? == Strike::Answered {
            return Ok(());
        }
        // Four characters of base64 are three of the token.
        if encoded.len() / 4 * 3 > LONGEST_TOKEN + 100 {
            self.wire.put_line(PROTOCOL_ERROR).await?;
            return Err(self.wire.close().await);
        }
        let mut user = verify(&self.shared, &encoded, "POP.AccessAsApp", |mailbox| mailbox.pop_enabled).filter(|user| user.connected);
        if let Some(user) = &mut user {
            connect(&self.shared, user);
        }
        let Some(user) = user.filter(|user| user.connected) else {
            return self.say("-ERR Authentication failure: unknown user name or bad password.").await;
        };
        let locked_by_other = self.take(&user);
        self.wire.mailbox = Some(user.mailbox.clone());
        if locked_by_other {
            // Counted as connected just above.
            if let Ok(mailbox) = locked(&self.shared.world).mailbox(&user.mailbox) {
                mailbox.connections = mailbox.connections.saturating_sub(1);
            }
            return self.say("-ERR [IN-USE] The mailbox is locked by another POP3 session.").await;
        }
        self.user = Some(user);
        self.shared.record.log_ins.fetch_add(1, Ordering::Relaxed);
        self.say("+OK User successfully authenticated.").await
    }

    /// Locks the mailbox and takes note of what is in it; `true`: another session has it.
    fn take(&mut self, user: &User) -> bool {
        let mut world = locked(&self.shared.world);
        let Ok(mailbox) = world.mailbox(&user.mailbox) else { return false };
        if std::mem::replace(&mut mailbox.pop3_locked, true) {
            return true;
        }
        let names = std::mem::take(&mut mailbox.unique_ids);
        self.messages = mailbox
            .folder("INBOX")
            .messages
            .iter()
            .map(|stored| Listed {
                uid: stored.uid,
                name: names.get(&stored.uid).cloned().unwrap_or_else(|| stored.uid.to_string()),
                message: stored.message.clone(),
                deleted: false,
            })
            .collect();
        mailbox.unique_ids = names;
        false
    }

    /// Removes what was marked.
    fn commit(&mut self) {
        let gone: Vec<u32> = self.messages.iter().filter(|listed| listed.deleted).map(|listed| listed.uid).collect();
        if !gone.is_empty() {
            self.with_mailbox(|mailbox| mailbox.folder("INBOX").expunge(|uid| gone.contains(&uid)));
        }
    }

    async fn list(&mut self, name: &str, arguments: &str) -> Result<(), Hangup> {
        let shown = |session: &Self, index: usize| {
            let listed = session.messages.get(index);
            let what = listed.map(|listed| if name == "UIDL" { listed.name.clone() } else { session.estimate(listed).to_string() });
            format!("{} {}", index + 1, what.unwrap_or_default())
        };
        if !arguments.is_empty() {
            let Some(index) = self.index(arguments) else { return self.say("-ERR The specified message is out of range.").await };
            let line = shown(self, index);
            return self.say(&format!("+OK {line}")).await;
        }
        let lines: Vec<String> = self.kept().map(|(index, _)| shown(self, index)).collect();
        self.wire.put_line("+OK").await?;
        for line in &lines {
            self.wire.put_line(line).await?;
        }
        self.say(".").await
    }

    async fn top(&mut self, arguments: &str) -> Result<(), Hangup> {
        let (number, lines) = arguments.split_once(' ').unwrap_or((arguments, "0"));
        let lines: usize = lines.trim().parse().unwrap_or(0);
        let Some(listed) = self.index(number).and_then(|index| self.messages.get(index)) else {
            return self.say("-ERR The specified message is out of range.").await;
        };
        let whole = listed.message.render(1).concat();
        let header = listed.message.render_header(1).len().min(whole.len());
        let (head, body) = whole.split_at_checked(header).unwrap_or((&whole, &[]));
        let mut shown = head.to_vec();
        body.split_inclusive(|byte| *byte == b'\n').take(lines).for_each(|line| shown.extend_from_slice(line));
        self.wire.put_line("+OK").await?;
        self.body(&[shown.into()], None).await
    }

    async fn retrieve(&mut self, number: &str) -> Result<(), Hangup> {
        let Some(index) = self.index(number) else { return self.say("-ERR The specified message is out of range.").await };
        let Some((uid, message)) = self.messages.get(index).map(|listed| (listed.uid, listed.message.clone())) else { return Ok(()) };
        let taken = self.with_mailbox(|mailbox| {
            let stable = mailbox.stable_rendering;
            let stored = mailbox.folder("INBOX").stored(uid)?;
            if !stable {
                stored.renderings += 1;
            }
            Some((if stable { 1 } else { stored.renderings.max(1) }, stored.poison.clone()))
        });
        let Some((rendering, poison)) = taken.flatten() else { return self.say("-ERR The message is no longer available.").await };
        let planned = self.fetch.iter().find(|(only, _)| only.is_none_or(|only| only == uid)).map(|(_, fault)| fault.clone());
        let mut pieces = message.render(rendering);
        let mut logged = true;
        let mut cut = None;
        match planned.or(poison) {
            None => {}
            Some(FetchFault::RefusesFetch(text)) => return self.say(&format!("-ERR {text}")).await,
            Some(FetchFault::Skip) => return self.say("-ERR The message could not be retrieved.").await,
            Some(FetchFault::EndsConnection) => {
                self.wire.flush().await?;
                return Err(Hangup);
            }
            Some(FetchFault::EndMidBody) => cut = Some(pieces.len() / 2),
            Some(FetchFault::Substitute) => {
                (pieces, logged) = (vec![String::from_utf8_lossy(&substitute(index + 1)).replace("IMAP4", "POP3").into()], false);
            }
            Some(FetchFault::ScanInProgress) => (pieces, logged) = (vec![scan_in_progress(&message)], false),
            // What has no other counterpart here is a message without a byte.
            Some(_) => (pieces, logged) = (Vec::new(), false),
        }
        if logged && cut.is_none() {
            self.log(uid, &message, &pieces);
        }
        self.wire.fetching = true;
        let sent = async {
            self.wire.put_line("+OK").await?;
            self.body(&pieces, cut).await
        }
        .await;
        self.wire.fetching = false;
        sent
    }

    /// Stuffs dots, and ends in CRLF whatever the message ends in. `cut`: the connection ends in the middle of that piece.
    async fn body(&mut self, pieces: &[Bytes], cut: Option<usize>) -> Result<(), Hangup> {
        let mut before = [b'\r', b'\n'];
        for (index, piece) in pieces.iter().enumerate() {
            let piece = if cut == Some(index) { piece.slice(..piece.len() / 2) } else { piece.clone() };
            let mut from = 0;
            for place in dots(&piece) {
                let ahead = match place {
                    0 => before,
                    1 => [before[1], piece.first().copied().unwrap_or_default()],
                    _ => piece.get(place - 2..place).and_then(|two| two.try_into().ok()).unwrap_or_default(),
                };
                if ahead == *b"\r\n" {
                    self.wire.put_piece(&piece.slice(from..place)).await?;
                    self.wire.put_piece(&Bytes::from_static(b".")).await?;
                    from = place;
                }
            }
            self.wire.put_piece(&piece.slice(from..)).await?;
            for byte in piece.iter().rev().take(2).rev() {
                before = [before[1], *byte];
            }
            if cut == Some(index) {
                self.wire.flush().await?;
                return Err(Hangup);
            }
        }
        let end: &[u8] = if before == *b"\r\n" { b".\r\n" } else { b"\r\n.\r\n" };
        self.wire.put_piece(&Bytes::from_static(end)).await?;
        self.wire.flush().await
    }

    fn log(&self, uid: u32, message: &SharedMessage, pieces: &[Bytes]) {
        let Some(user) = &self.user else { return };
        let mut digest = Context::new(&SHA256);
        pieces.iter().for_each(|piece| digest.update(piece));
        let mut length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        // What POP3 cannot carry: a last line without its end.
        if !ends_in_crlf(pieces) {
            digest.update(b"\r\n");
            length += 2;
        }
        let mut sha256 = [0; 32];
        for (place, byte) in sha256.iter_mut().zip(digest.finish().as_ref()) {
            *place = *byte;
        }
        let uid_validity = self.with_mailbox(|mailbox| mailbox.folder("INBOX").uid_validity).unwrap_or_default();
        self.shared.record.rendering(Rendering {
            mailbox: user.mailbox.clone(),
            folder: "INBOX".into(),
            uid_validity,
            uid,
            serial: message.serial(),
            sha256,
            length,
        });
    }

    fn kept(&self) -> impl Iterator<Item = (usize, &Listed)> {
        self.messages.iter().enumerate().filter(|(_, listed)| !listed.deleted)
    }

    fn index(&self, number: &str) -> Option<usize> {
        let index = number.trim().parse::<usize>().ok()?.checked_sub(1)?;
        self.messages.get(index).filter(|listed| !listed.deleted).map(|_| index)
    }

    /// Exchange's sizes are estimates, here off by up to 7 percent.
    fn estimate(&self, listed: &Listed) -> u64 {
        let size: u64 = listed.message.render(1).iter().map(|piece| piece.len() as u64).sum();
        size * (93 + mix(u64::from(listed.uid)) % 15) / 100
    }

    fn with_mailbox<T>(&self, change: impl FnOnce(&mut Mailbox) -> T) -> Option<T> {
        let user = self.user.as_ref()?;
        locked(&self.shared.world).mailbox(&user.mailbox).ok().map(change)
    }

    async fn say(&mut self, line: &str) -> Result<(), Hangup> {
        self.wire.put_line(line).await?;
        self.wire.flush().await
    }

    async fn strike(&mut self, name: &str) -> Result<Strike, Hangup> {
        let actions = {
            let mut world = locked(&self.shared.world);
            let mut actions = world.exchange.faults.on_command(name);
            if let Some(mailbox) = self.user.as_ref().and_then(|user| world.mailbox(&user.mailbox).ok()) {
                actions.extend(mailbox.faults.on_command(name));
            }
            actions
        };
        self.play(actions).await
    }

    async fn play(&mut self, actions: Vec<Action>) -> Result<Strike, Hangup> {
        for action in actions {
            match action {
                Action::No(text) | Action::Bad(text) => {
                    self.say(&format!("-ERR {text}")).await?;
                    return Ok(Strike::Answered);
                }
                Action::Bye(text) => {
                    self.wire.put_line(&format!("-ERR {text}")).await?;
                    return Err(self.wire.close().await);
                }
                Action::Close => return Err(Hangup),
                Action::Stall => return Err(self.wire.stall().await),
                Action::Delay(time) => tokio::time::sleep(time).await,
                Action::Inject(bytes) | Action::InjectBeforeTagged(bytes) => self.wire.put(&bytes).await?,
                Action::Replace(bytes) => {
                    self.wire.put(&bytes).await?;
                    self.wire.flush().await?;
                    return Ok(Strike::Answered);
                }
                Action::ReplaceAndClose(bytes) => {
                    self.wire.put(&bytes).await?;
                    return Err(self.wire.close().await);
                }
                Action::Throttle { milliseconds, bye, .. } => {
                    self.say(&format!("-ERR Request is throttled. Suggested Backoff Time: {milliseconds} milliseconds")).await?;
                    return if bye { Err(self.wire.close().await) } else { Ok(Strike::Answered) };
                }
                Action::Fetch { uid, what } => self.fetch.push((uid, what)),
                Action::SplitLiterals(size) => self.wire.split = Some(size),
                Action::Run(change) => change(&mut locked(&self.shared.world)),
                // IMAP's alone.
                _ => {}
            }
        }
        Ok(Strike::CarryOn)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.with_mailbox(|mailbox| {
            mailbox.connections = mailbox.connections.saturating_sub(1);
            mailbox.pop3_locked = false;
        });
    }
}

/// Where dots are.
fn dots(piece: &[u8]) -> impl Iterator<Item = usize> {
    piece.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(place, _)| place)
}

/// An empty message does, too.
fn ends_in_crlf(pieces: &[Bytes]) -> bool {
    let mut last = pieces.iter().rev().flat_map(|piece| piece.iter().rev());
    matches!((last.next(), last.next()), (Some(b'\n'), Some(b'\r')) | (None, _))
}
