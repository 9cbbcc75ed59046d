//! Collecting from one mailbox: the work order, the loop, one bounded drain, and what is told of it.
//! Knows sources and sinks by their traits, never Kubernetes: cursors come through [`CursorStore`].
//!
//! Reading order: `task` (the loop: open, drain, wait, and what happens after a failure) → `tell` (what is told of it) → `folders` (which of
//! them next) → `view` (listing; `named`: POP3's unique-ids; `numbering`: whether UIDs mean what they meant; `screen` and `select`: which are taken) → `drain` (one bounded
//! pass over a session; `pick`: what to fetch next, `held`: the cursor meanwhile, `reconcile`: what a
//! sink may hold already) → `delivery` (from FETCH responses to batches) → `fan` (from batches to the sinks) →
//! `streak` (what a sink's refusals are about) → `settle` (what becomes of delivered messages on the server), `careful` (after a process that
//! ended in mid-fetch).

mod careful;
mod delivery;
mod drain;
mod due;
mod fan;
mod folders;
mod held;
mod lately;
mod named;
mod nearest;
mod numbering;
mod pace;
mod pick;
mod reconcile;
mod screen;
mod select;
mod settle;
mod streak;
mod task;
mod tell;
#[cfg(test)]
mod tests;
mod verbs;
mod view;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::Semaphore;

pub use lately::Lately;
pub use pace::Pacer;
pub use select::{Glob, Selection, Start};
pub use task::{End, Task, Wanted};

use crate::admin::metrics::Metrics;
use crate::cursor::Cursor;
use crate::diagnosis::Diagnosis;
use crate::entra;
use crate::schedule::Calendar;
use crate::sink::Spool;
use crate::sink::file::FileRoot;
use crate::source::{self, Session, Settle, imap, pop3};

/// What every task of a process shares.
#[derive(Debug)]
pub struct Environment {
    /// Tokens, cached across tasks.
    pub tokens: entra::Tokens,
    /// How to reach Exchange's IMAP.
    pub imap: imap::Connector,
    /// How to reach Exchange's POP3.
    pub pop3: pop3::Connector,
    /// The file sink's root, where one was given.
    pub file_root: Option<Arc<FileRoot>>,
    /// The spool, where one was given.
    pub spool: Option<Spool>,
    /// Where cursors are kept.
    pub cursors: Arc<dyn CursorStore>,
    /// Paces log-ins.
    pub logins: Pacer,
    /// How many tasks may connect or drain at once; first come, first served.
    pub work: Arc<Semaphore>,
    /// Figures.
    pub metrics: Metrics,
    /// How the mailboxes of each app fared, for diagnosis.
    pub lately: Mutex<Lately>,
}

impl Environment {
    /// Connects and logs in, by the protocol of the order.
    pub async fn open(&self, order: &Collector, token: &SecretString) -> Result<Session, source::Error> {
        let (mailbox, most) = (&order.mailbox, order.max_message_bytes);
        let host = self.host(order).to_owned();
        Ok(match order.protocol {
            Protocol::Imap => Session::Imap(imap::Connector { host, ..self.imap.clone() }.open(mailbox, token, most).await?),
            Protocol::Pop3 => Session::Pop3(Box::new(pop3::Connector { host, ..self.pop3.clone() }.open(mailbox, token, most).await?)),
        })
    }

    /// The server that a mailbox is opened on.
    pub fn host(&self, order: &Collector) -> &str {
        let given = match order.protocol {
            Protocol::Imap => &self.imap.host,
            Protocol::Pop3 => &self.pop3.host,
        };
        host(given, order.credential.cloud)
    }
}

/// Each cloud has its own host, unless another than the public cloud's is given.
fn host(given: &str, cloud: entra::Cloud) -> &str {
    if given == entra::Cloud::Public.exchange_host() { cloud.exchange_host() } else { given }
}

/// Which resource a work order comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectorId {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the resource; for the command line, derived from namespace and name.
    pub uid: String,
}

/// How a mailbox is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// IMAP.
    #[default]
    Imap,
    /// POP3.
    Pop3,
}

impl Protocol {
    /// The application permission that it needs.
    pub fn role(self) -> &'static str {
        match self {
            Self::Imap => "IMAP.AccessAsApp",
            Self::Pop3 => "POP.AccessAsApp",
        }
    }
}

/// A validated work order. Nobody downstream sees the resource itself.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Which resource.
    pub id: CollectorId,
    /// `metadata.generation` it was made from.
    pub generation: i64,
    /// The mailbox, lower case.
    pub mailbox: String,
    /// How it is read.
    pub protocol: Protocol,
    /// Folders, UTF-8 names, at least one; the first is the one with push.
    pub folders: Vec<String>,
    /// The app's credential.
    pub credential: Arc<entra::Credential>,
    /// Longest time between two looks, 1 min to 24 h.
    pub interval: Duration,
    /// Looks at these times instead of by `interval`; and once when the task starts.
    pub schedule: Option<Calendar>,
    /// IDLE between looks.
    pub push: bool,
    /// Which messages are taken.
    pub selection: Selection,
    /// Longest message taken, in bytes.
    pub max_message_bytes: u64,
    /// What becomes of a message in the mailbox once it is delivered and recorded; `None`: it is kept as it is. Only mail delivered under such
    /// an order is settled, never what was delivered before.
    pub after_delivery: Option<Settle>,
    /// Where mail goes: `<namespace>/<path>` below the file sink's root, validated, relative, no `..`.
    pub sinks: Vec<NamedSink>,
    /// Value of the `requestedAt` annotation.
    pub requested_at: Option<String>,
    /// What is asked for together with it, beyond a look; acted upon once for each value of `requested_at`.
    pub verb: Option<Verb>,
}

/// What a person asks for by annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Quarantined messages are tried again, as if they never had been.
    Replay(Which),
    /// Quarantined messages are given up for good; they stay untouched on the server.
    Discard(Which),
    /// Everything is collected again and compared with what the sinks hold; with a time, what was received on that day or later (the server's
    /// days; what is older may come with it).
    Resync(Option<Timestamp>),
}

/// Which quarantined messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// By folder and UID.
    These(Vec<(String, u32)>),
}

impl SinkConfig {
    /// Whether the sink knows again what it has taken already; where one does not, collecting again brings copies and must be confirmed.
    pub fn idempotent(&self) -> bool {
        match self {
            Self::File { .. } => true,
        }
    }
}

impl Collector {
    /// Whether `other`, a later order, asks for the same work: all but `requested_at` and `generation`. A verb that is no more asked for is no
    /// other work.
    pub fn same_work(&self, other: &Self) -> bool {
        let Self {
            id,
            generation: _,
            mailbox,
            protocol,
            folders,
            credential,
            interval,
            schedule,
            push,
            selection,
            max_message_bytes,
            after_delivery,
            sinks,
            requested_at: _,
            verb,
        } = self;
        *id == other.id
            && *mailbox == other.mailbox
            && *protocol == other.protocol
            && *folders == other.folders
            && credential.same(&other.credential)
            && *interval == other.interval
            && *schedule == other.schedule
            && *push == other.push
            && *selection == other.selection
            && *max_message_bytes == other.max_message_bytes
            && *after_delivery == other.after_delivery
            && *sinks == other.sinks
            && (other.verb.is_none() || *verb == other.verb)
    }
}

/// A sink of a work order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSink {
    /// Its name in the spec.
    pub name: String,
    /// What it is.
    pub config: SinkConfig,
}

/// Each sink's plain configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkConfig {
    /// EML files in `directory`, relative to the file sink's root.
    File {
        /// Relative path, plain components only.
        directory: std::path::PathBuf,
    },
}

/// How one stage of collecting stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Stage {
    /// Not tried since the task began.
    #[default]
    NotYetTried,
    /// Works.
    Good,
    /// Failed; the diagnosis says whether it is the fault of something (False) or passing (Unknown).
    Bad(Box<Diagnosis>),
}

/// What is known of a collector's work, as a latest value. The task writes it, the controller and the command line read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Generation of the work order it speaks of.
    pub generation: i64,
    /// Token.
    pub token: Stage,
    /// Log-in and folders.
    pub mailbox: Stage,
    /// Sinks.
    pub sink: Stage,
    /// Collecting is stopped for a reason of our own (a full cursor).
    pub stopped: Option<Box<Diagnosis>>,
    /// When the present trouble began, and how many failures in a row.
    pub trouble: Option<(Timestamp, u32)>,
    /// Last complete look.
    pub last_fetch: Option<Timestamp>,
    /// Last message accepted by every sink.
    pub last_message: Option<Timestamp>,
    /// Messages accepted since the task began.
    pub collected: u64,
    /// Messages listed and not yet decided.
    pub pending: u64,
    /// Messages quarantined.
    pub quarantined: u64,
    /// Token facts for status.
    pub token_expiration: Option<Timestamp>,
    /// The token's roles.
    pub roles: Vec<String>,
    /// The token's `oid`.
    pub service_principal: Option<String>,
    /// The `requestedAt` last acted upon.
    pub handled_request: Option<String>,
    /// When the next attempt is due, while in trouble.
    pub next_attempt: Option<Timestamp>,
}

impl Progress {
    /// What is still true when the task is replaced by one with another order: counters and times, no stage and no trouble.
    pub fn for_new_order(self, generation: i64) -> Self {
        Self {
            generation,
            token: Stage::NotYetTried,
            mailbox: Stage::NotYetTried,
            sink: Stage::NotYetTried,
            stopped: None,
            trouble: None,
            next_attempt: None,
            ..self
        }
    }
}

/// What a cursor was when it was read or written; opaque to the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// Why a cursor could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote it, or it belongs to another object: the claim is lost and the task ends.
    #[error("the cursor was written by somebody else")]
    Conflict,
    /// The store could not be reached or refused; the write may or may not have happened.
    #[error("the cursor's store failed: {0}")]
    Unavailable(String),
    /// The stored cursor cannot be read; nothing is collected until a person looks.
    #[error("the stored cursor is unreadable: {0}")]
    Unreadable(String),
}

/// Where cursors are kept: compare-and-swap on one record per collector. `controller` keeps them in `MailboxCursor` objects, `cli` in a locked folder.
pub trait CursorStore: Send + Sync + std::fmt::Debug {
    /// The cursor and its version; `None` where there is none yet.
    fn load<'a>(&'a self, id: &'a CollectorId) -> BoxFuture<'a, Result<Option<(Cursor, Version)>, StoreError>>;
    /// Writes `cursor` if the stored version is still `version` (`None`: if there is none yet). Never reads and tries again.
    fn save<'a>(
        &'a self,
        id: &'a CollectorId,
        cursor: &'a Cursor,
        version: Option<&'a Version>,
    ) -> BoxFuture<'a, Result<Version, StoreError>>;
    /// Shortest time between two writes of one cursor (law 5).
    fn pace(&self) -> Duration;
    /// The process that used this store before ended without saying so. Where that stands in each cursor (`draining`), the store need not know.
    fn ended_badly(&self) -> bool {
        false
    }
    /// Who this process is, for `holder`; `None` where the store shuts others out by itself (a locked folder), so that no claim is written.
    fn holder(&self) -> Option<crate::cursor::Holder>;
}

#[cfg(test)]
mod host_tests {
    use super::*;
    use crate::entra::Cloud;

    #[test]
    fn a_mailbox_is_opened_on_its_cloud_s_host_unless_another_is_given() {
        assert_eq!(host("outlook.office365.com", Cloud::Public), "outlook.office365.com");
        assert_eq!(host("outlook.office365.com", Cloud::China), "partner.outlook.cn");
        assert_eq!(host("outlook.office365.com", Cloud::UsGovernment), "outlook.office365.us");
        assert_eq!(host("localhost", Cloud::China), "localhost");
    }
}
