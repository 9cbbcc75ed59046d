//! Mail by POP3 (RFC 1939, RFC 2449, RFC 5034) from Exchange Online, app-only by XOAUTH2 in two lines: STAT, UIDL, LIST, TOP, RETR,
//! DELE.
//!
//! How bytes come in: TLS → `codec` (pure: framing, bounds, dots) → `wire` (deadlines, answers, what ends a session) → `session` (log-in,
//! listing), `fetch`, `settle`.
//!
//! A mailbox is locked while a session lasts and shows only what was there when it began, so each look is a session of its own. Messages have
//! names here (unique-ids) and no numbers; the numbers that the rest of the program works with are given by `cursor`, see
//! [`super::Source::names`].
//!
//! It leaves alone: what a refusal means (`diagnosis`), which messages to ask for (`cursor`), where bytes go ([`super::Intake`]).

mod codec;
mod connect;
mod fetch;
mod session;
mod settle;
mod wire;

#[cfg(test)]
mod tests;

pub use connect::Connector;
pub use session::Session;

/// A session with Exchange Online, as [`Connector::open`] makes it.
pub type Exchange = Session<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;
