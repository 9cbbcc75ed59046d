//! What the stand-in did, for tests to compare: counters, the renderings it gave, the pushes it sent. No I/O; the clock only to stamp.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// One rendering of a message that was given to a client whole (or all but its last piece, if the connection broke there).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// The mailbox's address.
    pub mailbox: Arc<str>,
    /// The folder's UTF-8 name.
    pub folder: Arc<str>,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UID.
    pub uid: u32,
    /// The message's serial, where it was composed here.
    pub serial: Option<u64>,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// Bytes.
    pub length: u64,
}

impl Rendering {
    /// The digest as 64 hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// An EXISTS that was pushed into an IDLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The mailbox's address.
    pub mailbox: Arc<str>,
    /// The folder's UTF-8 name.
    pub folder: Arc<str>,
    /// The number announced.
    pub exists: u32,
    /// The folder's UIDNEXT at that time: every UID below it is announced.
    pub uid_next: u32,
    /// Wall clock just before the write, in nanoseconds since 1970.
    pub unix_nanoseconds: u64,
}

/// What a token request showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A client secret, or nothing.
    Secret,
    /// An assertion with this algorithm.
    Assertion(&'static str),
}

impl Proof {
    pub(crate) fn of(form: &HashMap<String, String>) -> Self {
        use base64::Engine as _;
        let Some(assertion) = form.get("client_assertion") else { return Self::Secret };
        let header = assertion.split('.').next().unwrap_or_default();
        let header = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap_or_default();
        Self::Assertion(match header.get("alg").and_then(serde_json::Value::as_str) {
            Some("PS256") => "PS256",
            Some("RS256") => "RS256",
            _ => "other",
        })
    }
}

/// A token request and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The tenant as named in the path.
    pub tenant: String,
    /// The client id sent.
    pub client_id: String,
    /// HTTP status.
    pub status: u16,
    /// AADSTS number of a refusal.
    pub code: Option<u32>,
    /// By the v1 endpoint.
    pub v1: bool,
    /// What was shown.
    pub proof: Proof,
    /// Wall clock, in nanoseconds since 1970.
    pub unix_nanoseconds: u64,
}

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct Record {
    pub(crate) connections_open: AtomicUsize,
    pub(crate) connections: AtomicU64,
    pub(crate) log_ins: AtomicU64,
    pub(crate) fetched_bytes: AtomicU64,
    token_requests: Mutex<Vec<TokenRequest>>,
    commands: Mutex<HashMap<String, u64>>,
    renderings: Mutex<Renderings>,
    announcements: Mutex<Vec<Announcement>>,
    callbacks: Mutex<Vec<(u64, Callback)>>,
}

#[derive(Default)]
struct Renderings {
    log: Vec<Rendering>,
    by_digest: HashMap<[u8; 32], usize>,
}

impl Record {
    pub(crate) fn token_request(&self, request: TokenRequest) {
        locked(&self.token_requests).push(request);
    }

    pub(crate) fn token_requests(&self) -> Vec<TokenRequest> {
        locked(&self.token_requests).clone()
    }

    pub(crate) fn command(&self, name: &str) {
        let mut commands = locked(&self.commands);
        match commands.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                commands.insert(name.to_owned(), 1);
            }
        }
    }

    pub(crate) fn commands(&self) -> HashMap<String, u64> {
        locked(&self.commands).clone()
    }

    pub(crate) fn rendering(&self, rendering: Rendering) {
        let mut renderings = locked(&self.renderings);
        let index = renderings.log.len();
        renderings.by_digest.insert(rendering.sha256, index);
        renderings.log.push(rendering);
    }

    pub(crate) fn renderings(&self) -> Vec<Rendering> {
        locked(&self.renderings).log.clone()
    }

    pub(crate) fn rendering_of(&self, sha256: &[u8; 32]) -> Option<Rendering> {
        let renderings = locked(&self.renderings);
        renderings.by_digest.get(sha256).and_then(|index| renderings.log.get(*index)).cloned()
    }

    pub(crate) fn forget_renderings(&self) {
        *locked(&self.renderings) = Renderings::default();
    }

    pub(crate) fn announcement(&self, announcement: Announcement) {
        locked(&self.announcements).push(announcement);
    }

    pub(crate) fn announcements(&self) -> Vec<Announcement> {
        locked(&self.announcements).clone()
    }

    pub(crate) fn on_bytes(&self, bytes: u64, callback: Callback) {
        locked(&self.callbacks).push((bytes, callback));
    }

    pub(crate) fn bytes_left(&self) -> Option<u64> {
        locked(&self.callbacks).iter().map(|(left, _)| *left).min()
    }

    /// So many more bytes of FETCH data were written; gives the callbacks that are due now.
    pub(crate) fn spend(&self, bytes: u64) -> Vec<Callback> {
        let mut callbacks = locked(&self.callbacks);
        if callbacks.is_empty() {
            return Vec::new();
        }
        let (due, waiting) = callbacks
            .drain(..)
            .map(|(left, callback)| (left.saturating_sub(bytes), callback))
            .partition::<Vec<_>, _>(|(left, _)| *left == 0);
        *callbacks = waiting;
        due.into_iter().map(|(_, callback)| callback).collect()
    }
}

pub(crate) fn unix_nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// A test that panicked while it held the world must not make every later assertion fail too.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
