//! Mail by IMAP (RFC 3501, RFC 9051) from Exchange Online, app-only by XOAUTH2: LIST, STATUS, EXAMINE or SELECT, UID SEARCH, UID FETCH, IDLE,
//! and to settle UID MOVE, UID STORE, UID EXPUNGE.
//!
//! How bytes come in: TLS → `tap` (with `splitter`, `line` and `reply`, all pure: bounds, rewrites, long bodies out of the way)
//! → async-imap (framing and parsing) → `wire` (deadlines, tagged answers, what ends a session) → `session`, `folders`, `fetch`, `settle`, `idle`.
//!
//! It leaves alone: what a refusal means (`diagnosis`), which UIDs to ask for (`cursor`), where bytes go ([`super::Intake`]).

mod connect;
mod fetch;
mod folders;
#[cfg(fuzzing)]
pub mod fuzzing;
mod idle;
mod line;
mod reply;
mod sasl;
mod session;
mod settle;
mod splitter;
mod tap;
mod text;
mod wire;

#[cfg(test)]
mod tests;

pub use connect::Connector;
pub use session::Session;
pub use wire::Transport;

/// A session with Exchange Online, as [`Connector::open`] makes it.
pub type Exchange = Session<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

/// Bodies longer than this many bytes are streamed.
pub const DIVERT_FROM: usize = 256 * 1024;
