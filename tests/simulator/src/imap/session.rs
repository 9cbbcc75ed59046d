//! One session: commands in, the faults planned for them, answers out. The commands themselves are in the sibling files.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::command::{self, Command};
use super::log_in::User;
use super::wire::{Hangup, Wire};
use crate::fault::{Action, FetchFault, IdleFault};
use crate::mailbox::{Folder, Mailbox};
use crate::record::{locked, unix_nanoseconds};
use crate::shared::Shared;
use crate::tenant::World;

/// "About ten bad commands" end a session (imapsync's FAQ).
const BAD_COMMANDS: u32 = 10;
pub(super) const ARGUMENT_ERROR: &str = "Command Argument Error. 11";
const INVALID_STATE: &str = "Command received in Invalid state.";

pub(super) struct Session {
    pub(super) wire: Wire,
    pub(super) shared: Arc<Shared>,
    pub(super) user: Option<User>,
    pub(super) selected: Option<Selected>,
    pub(super) plan: Plan,
    bad_commands: u32,
}

pub(super) struct Selected {
    pub(super) name: Arc<str>,
    pub(super) uid_validity: u32,
    pub(super) read_only: bool,
    /// The UIDs that the client knows of; a sequence number is a place in it.
    pub(super) view: Vec<u32>,
    pub(super) changes: watch::Receiver<u64>,
}

/// What the faults have in mind for the command at hand.
#[derive(Default)]
pub(super) struct Plan {
    before_tagged: Vec<Bytes>,
    pub(super) fetch: Vec<(Option<u32>, FetchFault)>,
    pub(super) idle: Vec<IdleFault>,
}

#[derive(PartialEq, Eq)]
pub(super) enum Strike {
    /// The command is to be carried out.
    CarryOn,
    /// It has been answered.
    Answered,
}

impl Session {
    pub(super) fn new(wire: Wire, shared: Arc<Shared>) -> Self {
        Self { wire, shared, user: None, selected: None, plan: Plan::default(), bad_commands: 0 }
    }

    pub(super) async fn run(mut self) {
        let _ = self.converse().await;
    }

    async fn converse(&mut self) -> Result<(), Hangup> {
        if self.strike("*", "GREETING").await? == Strike::CarryOn {
            self.greet().await?;
        }
        loop {
            if let Some(command) = self.read_command().await? {
                self.carry_out(command).await?;
            }
        }
    }

    /// `None` when the line was refused.
    async fn read_command(&mut self) -> Result<Option<Command>, Hangup> {
        let longest = locked(&self.shared.world).exchange.longest_line;
        let (mut parts, mut literals, mut length) = (Vec::new(), Vec::new(), 0);
        loop {
            let line = self.wire.line().await?;
            length += line.len();
            let literal = command::announced_literal(&line);
            parts.push(line);
            let Some((size, waits)) = literal else { break };
            if waits {
                self.wire.put_line("+ Ready for additional command text.").await?;
                self.wire.flush().await?;
            }
            literals.push(self.wire.literal(size).await?);
        }
        match command::parse(&parts, literals) {
            Ok(command) if length <= longest => Ok(Some(command)),
            Ok(Command { tag, .. }) | Err(tag) => {
                self.bad(&tag, ARGUMENT_ERROR).await?;
                Ok(None)
            }
        }
    }

    async fn carry_out(&mut self, command: Command) -> Result<(), Hangup> {
        self.shared.record.command(&command.name);
        self.plan = Plan::default();
        self.wire.split = None;
        let tag = command.tag.as_str();
        if self.strike(tag, &command.name).await? == Strike::Answered {
            return Ok(());
        }
        let arguments = command.arguments.as_slice();
        match command.name.as_str() {
            "CAPABILITY" => return self.capability(tag).await,
            "LOGOUT" => {
                self.wire.put_line("* BYE Microsoft Exchange Server IMAP4 server signing off.").await?;
                self.ok(tag, "LOGOUT completed.").await?;
                return Err(self.wire.close().await);
            }
            _ => {}
        }
        let Some(user) = &self.user else {
            return match command.name.as_str() {
                "NOOP" => self.ok(tag, "NOOP completed.").await,
                "ID" => self.id(tag).await,
                "AUTHENTICATE" => self.authenticate(tag, arguments).await,
                "LOGIN" => self.no(tag, "LOGIN failed.").await,
                _ => self.bad(tag, INVALID_STATE).await,
            };
        };
        if self.token_expired(user) {
            return Err(self.wire.bye("Session invalidated - AccessTokenExpired").await);
        }
        if !user.connected {
            self.tagged(tag, "BAD", "User is authenticated but not connected.").await?;
            return Err(self.wire.bye("Connection closed. 14").await);
        }
        match command.name.as_str() {
            "NOOP" | "CHECK" => {
                self.report_changes().await?;
                self.ok(tag, &format!("{} completed.", command.name)).await
            }
            "ID" => self.id(tag).await,
            "NAMESPACE" => {
                self.wire.put_line("* NAMESPACE ((\"\" \"/\")) NIL NIL").await?;
                self.ok(tag, "NAMESPACE completed.").await
            }
            "LIST" | "LSUB" => self.list(tag, &command.name, arguments).await,
            "STATUS" => self.status(tag, arguments).await,
            "SELECT" | "EXAMINE" => self.select(tag, &command.name, arguments).await,
            "CREATE" => self.create(tag, arguments).await,
            "APPEND" => self.append(tag, arguments).await,
            "IDLE" => self.idle(tag).await,
            name if self.selected.is_none() => {
                self.bad(tag, if is_selected_command(name) { INVALID_STATE } else { "Command Error. 12" }).await
            }
            "UNSELECT" | "CLOSE" => self.unselect(tag, &command.name).await,
            "SEARCH" | "UID SEARCH" => self.search(tag, &command.name, arguments).await,
            "FETCH" | "UID FETCH" => self.fetch(tag, &command.name, arguments).await,
            "STORE" | "UID STORE" => self.store(tag, &command.name, arguments).await,
            "COPY" | "UID COPY" | "MOVE" | "UID MOVE" => self.copy(tag, &command.name, arguments).await,
            "EXPUNGE" | "UID EXPUNGE" => self.expunge(tag, &command.name, arguments).await,
            _ => self.bad(tag, "Command Error. 12").await,
        }
    }

    /// Plays the faults armed for a command.
    pub(super) async fn strike(&mut self, tag: &str, name: &str) -> Result<Strike, Hangup> {
        let actions = {
            let mut world = locked(&self.shared.world);
            let mut actions = world.exchange.faults.on_command(name);
            if let Some(mailbox) = self.user.as_ref().and_then(|user| world.mailbox(&user.mailbox).ok()) {
                actions.extend(mailbox.faults.on_command(name));
            }
            actions
        };
        self.play(tag, actions).await
    }

    pub(super) async fn play(&mut self, tag: &str, actions: Vec<Action>) -> Result<Strike, Hangup> {
        for action in actions {
            match action {
                Action::No(text) => {
                    self.tagged(tag, "NO", &text).await?;
                    return Ok(Strike::Answered);
                }
                Action::Bad(text) => {
                    self.tagged(tag, "BAD", &text).await?;
                    return Ok(Strike::Answered);
                }
                Action::Bye(text) => return Err(self.wire.bye(&text).await),
                Action::Close => return Err(Hangup),
                Action::Stall => return Err(self.wire.stall().await),
                Action::Delay(time) => tokio::time::sleep(time).await,
                Action::Inject(bytes) => self.wire.put(&bytes).await?,
                Action::InjectBeforeTagged(bytes) => self.plan.before_tagged.push(bytes),
                Action::Replace(bytes) => {
                    self.put_with_tag(tag, &bytes).await?;
                    return Ok(Strike::Answered);
                }
                Action::ReplaceAndClose(bytes) => {
                    self.put_with_tag(tag, &bytes).await?;
                    return Err(self.wire.close().await);
                }
                Action::Throttle { milliseconds, bad, bye } => {
                    let kind = if bad { "BAD" } else { "NO" };
                    self.tagged(tag, kind, &format!("Request is throttled. Suggested Backoff Time: {milliseconds} milliseconds")).await?;
                    if bye {
                        return Err(self.wire.bye("Connection closed. 14").await);
                    }
                    return Ok(Strike::Answered);
                }
                Action::Fetch { uid, what } => self.plan.fetch.push((uid, what)),
                Action::SplitLiterals(size) => self.wire.split = Some(size),
                Action::Idle(fault) => self.plan.idle.push(fault),
                Action::Run(change) => change(&mut locked(&self.shared.world)),
            }
        }
        Ok(Strike::CarryOn)
    }

    async fn put_with_tag(&mut self, tag: &str, bytes: &[u8]) -> Result<(), Hangup> {
        const PLACE: &[u8] = b"{tag}";
        let mut rest = bytes;
        while let Some(place) = rest.windows(PLACE.len()).position(|window| window == PLACE) {
            let (before, after) = rest.split_at_checked(place).unwrap_or((rest, &[]));
            self.wire.put(before).await?;
            self.wire.put(tag.as_bytes()).await?;
            rest = after.get(PLACE.len()..).unwrap_or_default();
        }
        self.wire.put(rest).await?;
        self.wire.flush().await
    }

    pub(super) async fn ok(&mut self, tag: &str, text: &str) -> Result<(), Hangup> {
        self.tagged(tag, "OK", text).await
    }

    pub(super) async fn no(&mut self, tag: &str, text: &str) -> Result<(), Hangup> {
        self.tagged(tag, "NO", text).await
    }

    /// A `BAD` that counts towards the end of the session.
    pub(super) async fn bad(&mut self, tag: &str, text: &str) -> Result<(), Hangup> {
        self.bad_commands += 1;
        self.tagged(tag, "BAD", text).await?;
        if self.bad_commands >= BAD_COMMANDS { Err(self.wire.bye("Connection closed. 14").await) } else { Ok(()) }
    }

    async fn tagged(&mut self, tag: &str, kind: &str, text: &str) -> Result<(), Hangup> {
        for bytes in std::mem::take(&mut self.plan.before_tagged) {
            self.wire.put(&bytes).await?;
        }
        self.wire.put_line(&format!("{tag} {kind} {text}")).await?;
        self.wire.flush().await
    }

    pub(super) fn token_expired(&self, user: &User) -> bool {
        let valid_from = locked(&self.shared.world).entra.tokens_valid_from;
        user.expires <= unix_nanoseconds() / 1_000_000_000 || user.token_number < valid_from
    }

    /// The session's mailbox in the world, for as long as the closure runs; `None` when it was removed.
    pub(super) fn with_mailbox<T>(&self, read: impl FnOnce(&mut Mailbox) -> T) -> Option<T> {
        let user = self.user.as_ref()?;
        let mut world = locked(&self.shared.world);
        Some(read(mailbox_of(&mut world, user)?))
    }

    /// The selected folder, if it is still there under the same UIDVALIDITY.
    pub(super) fn with_folder<T>(&self, read: impl FnOnce(&mut Folder, &Selected) -> T) -> Option<T> {
        let user = self.user.as_ref()?;
        let selected = self.selected.as_ref()?;
        let mut world = locked(&self.shared.world);
        let folder = mailbox_of(&mut world, user)?.existing_folder(&selected.name)?;
        (folder.uid_validity == selected.uid_validity).then(|| read(folder, selected))
    }

    /// The folder vanished or was renumbered under the session.
    pub(super) async fn moved_away(&mut self) -> Hangup {
        self.wire.bye("Connection is closed. 13").await
    }
}

fn mailbox_of<'a>(world: &'a mut World, user: &User) -> Option<&'a mut Mailbox> {
    world.mailbox(&user.mailbox).ok()
}

fn is_selected_command(name: &str) -> bool {
    matches!(name.strip_prefix("UID ").unwrap_or(name), "UNSELECT" | "CLOSE" | "SEARCH" | "FETCH" | "STORE" | "COPY" | "MOVE" | "EXPUNGE")
}

impl Drop for Session {
    fn drop(&mut self) {
        self.with_mailbox(|mailbox| mailbox.connections = mailbox.connections.saturating_sub(1));
    }
}
