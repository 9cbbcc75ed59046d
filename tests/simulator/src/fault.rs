//! What goes wrong on the wire, when, and how often: data that tests put on a mailbox or on the whole server while it runs.
//! How a fault is played lies in `imap/`; Entra's faults are in `entra/`. Pure: no I/O, no clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::tenant::World;

/// When a fault strikes. Each armed fault counts for itself, from the moment it was armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// On the `nth` command of that name, 1 being the next. `FETCH` means `UID FETCH` too, and so on. `CONNECT` is the accepted TCP
    /// connection, `GREETING` the first line (both only among the server's faults, no mailbox being known yet); `DONE` ends an IDLE.
    Command {
        /// The command's name in upper case.
        name: &'static str,
        /// 1 is the next one.
        nth: u32,
    },
    /// When so many more bytes (plain, before TLS) have been sent, at exactly that byte. Of the actions only `Close`, `Stall`, `Bye`,
    /// `Inject` and `Run` make sense here; the others close the connection.
    AfterBytes(u64),
}

/// What the server does in place of, or besides, the right thing.
#[derive(Clone)]
pub enum Action {
    /// Tagged `NO` with this text; the command is not carried out.
    No(String),
    /// Tagged `BAD` with this text; the command is not carried out.
    Bad(String),
    /// `* BYE` with this text, then the end of the connection.
    Bye(String),
    /// The end of the connection without a word (no TLS close_notify).
    Close,
    /// No answer any more, until the client goes.
    Stall,
    /// No answer for so long, then the right one.
    Delay(Duration),
    /// These bytes before the right answer.
    Inject(Bytes),
    /// These bytes between the right answer's data and its tagged line.
    InjectBeforeTagged(Bytes),
    /// These bytes in place of the answer; `{tag}` in them is replaced by the command's tag. The command is not carried out.
    Replace(Bytes),
    /// These bytes, then the end of the connection.
    ReplaceAndClose(Bytes),
    /// `Request is throttled. Suggested Backoff Time: N milliseconds`.
    Throttle {
        /// N.
        milliseconds: u64,
        /// As `BAD`; otherwise as `NO`. Both are seen.
        bad: bool,
        /// `* BYE Connection closed. 14` follows.
        bye: bool,
    },
    /// Something wrong with one message of the FETCH.
    Fetch {
        /// Which message; `None` is the first of the answer.
        uid: Option<u32>,
        /// What.
        what: FetchFault,
    },
    /// Literals of this answer leave in writes (and TLS records) of so many bytes, at least 1.
    SplitLiterals(usize),
    /// Something wrong with an IDLE.
    Idle(IdleFault),
    /// Changes the world (a UIDVALIDITY, a permission, a message) just before the command is carried out.
    Run(Arc<dyn Fn(&mut World) + Send + Sync>),
}

impl Action {
    /// A raw line without tag or star that Exchange sends when its backend is away, then the end of the connection.
    pub fn server_unavailable() -> Self {
        Self::ReplaceAndClose(Bytes::from_static(b"Server Unavailable. 15\r\n"))
    }

    /// [`Action::Run`] from a closure.
    pub fn run(change: impl Fn(&mut World) + Send + Sync + 'static) -> Self {
        Self::Run(Arc::new(change))
    }
}

/// What can be wrong with one message of a FETCH answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchFault {
    /// No data for it, and yet `OK` (Exchange's poison message under `BODY.PEEK[]`).
    Skip,
    /// `BODY[] NIL`.
    Nil,
    /// `BODY[] {0}`.
    Empty,
    /// `BODY[] ""`.
    EmptyQuoted,
    /// Exchange's substitute, `Retrieval using the IMAP4 protocol failed for the following message: N`.
    Substitute,
    /// The message with the placeholder of a pending Safe Attachments scan.
    ScanInProgress,
    /// UID behind the body.
    UidAfterBody,
    /// No UID at all.
    WithoutUid,
    /// Only FLAGS.
    FlagsOnly,
    /// The whole message under this other UID.
    OtherUid(u32),
    /// The right answer, and before it one with a body for a UID that was not asked for.
    ForeignBefore(u32),
    /// The right answer twice, each a rendering of its own.
    Twice,
    /// One message in two FETCH replies: INTERNALDATE in the first, the body in the second.
    InTwoReplies,
    /// These bytes before the right answer, in the middle of the FETCH.
    Before(Bytes),
    /// When its turn comes, it is gone: EXPUNGE in its place.
    Vanishes,
    /// The connection ends in the middle of the body.
    EndMidBody,
    /// A literal of so many bytes is announced (4 GB, say), some come, then silence.
    HugeLiteral(u64),
    /// The announced length is off by so many bytes (the literal is longer or shorter than it says).
    WrongLength(i64),
    /// A line that is no IMAP, before the right answer.
    Garbage,
    /// A line of so many bytes without an end in sight, before the right answer.
    LongLine(usize),
    /// An answer with so many open parentheses, then the right answer.
    DeepParentheses(usize),
    /// `INTERNALDATE NIL`.
    InternalDateNil,
    /// The whole FETCH is refused with tagged `NO` after the messages before this one.
    RefusesFetch(String),
    /// The connection ends when this message's turn comes: the message that kills its server.
    EndsConnection,
}

/// What can be wrong with an IDLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleFault {
    /// `* n EXISTS` before the `+` line.
    ExistsBeforePlus,
    /// The tagged `OK` comes unasked, right behind the `+`.
    EndsUnasked,
    /// The `+` comes, then no push, whatever arrives.
    Silent,
    /// `DONE` gets no answer.
    DoneUnanswered,
}

/// Faults armed on one mailbox, or on the whole server.
#[derive(Clone, Default)]
pub struct Faults {
    armed: Vec<Armed>,
}

#[derive(Clone)]
struct Armed {
    trigger: Trigger,
    action: Action,
    times: u32,
}

impl Faults {
    /// Arms a fault for one occurrence.
    pub fn once(&mut self, trigger: Trigger, action: Action) {
        self.times(1, trigger, action);
    }

    /// Arms a fault for the `nth` command of its trigger and the `times - 1` after it (`u32::MAX`: always). A byte trigger strikes once.
    pub fn times(&mut self, times: u32, trigger: Trigger, action: Action) {
        self.armed.push(Armed { trigger, action, times });
    }

    /// Disarms everything.
    pub fn clear(&mut self) {
        self.armed.clear();
    }

    /// Nothing is armed (any more): what was planned has happened.
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    pub(crate) fn on_command(&mut self, command: &str) -> Vec<Action> {
        let mut actions = Vec::new();
        for armed in &mut self.armed {
            let Trigger::Command { name, nth } = &mut armed.trigger else { continue };
            if command != *name && command.strip_prefix("UID ") != Some(*name) {
                continue;
            }
            if *nth > 1 {
                *nth -= 1;
            } else if armed.times > 0 {
                armed.times = if armed.times == u32::MAX { u32::MAX } else { armed.times - 1 };
                actions.push(armed.action.clone());
            }
        }
        self.armed.retain(|armed| armed.times > 0);
        actions
    }

    /// Bytes until the next byte trigger.
    pub(crate) fn bytes_left(&self) -> Option<u64> {
        self.armed
            .iter()
            .filter_map(|armed| match armed.trigger {
                Trigger::AfterBytes(left) => Some(left),
                Trigger::Command { .. } => None,
            })
            .min()
    }

    /// Counts sent bytes; at most [`Self::bytes_left`] at a time. Gives the actions that are due now.
    pub(crate) fn spend(&mut self, bytes: u64) -> Vec<Action> {
        let mut due = Vec::new();
        for armed in &mut self.armed {
            if let Trigger::AfterBytes(left) = &mut armed.trigger {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    armed.times = 0;
                    due.push(armed.action.clone());
                }
            }
        }
        self.armed.retain(|armed| armed.times > 0);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_at_its_count_and_only_as_often_as_said() {
        let mut faults = Faults::default();
        faults.times(2, Trigger::Command { name: "FETCH", nth: 2 }, Action::Close);
        let struck: Vec<usize> = (0..5).map(|_| faults.on_command("UID FETCH").len()).collect();
        assert_eq!(struck, [0, 1, 1, 0, 0]);
        assert!(faults.is_empty());
    }

    #[test]
    fn another_command_is_not_counted() {
        let mut faults = Faults::default();
        faults.once(Trigger::Command { name: "FETCH", nth: 1 }, Action::Close);
        assert!(faults.on_command("UID SEARCH").is_empty());
        assert_eq!(faults.on_command("FETCH").len(), 1);
    }

    #[test]
    fn a_byte_trigger_says_how_far_it_is() {
        let mut faults = Faults::default();
        faults.once(Trigger::AfterBytes(10), Action::Close);
        assert_eq!(faults.bytes_left(), Some(10));
        assert!(faults.spend(7).is_empty());
        assert_eq!(faults.bytes_left(), Some(3));
        assert_eq!(faults.spend(3).len(), 1);
        assert_eq!(faults.bytes_left(), None);
    }
}
