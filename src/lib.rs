//! A Kubernetes operator that collects mail from Exchange Online mailboxes into document systems, loses nothing, and says in plain words
//! what an administrator forgot. This page is the map; each room's first lines say what it is for and what it leaves alone.
//!
//! ```text
//!  kubectl / Helm / Flux / Argo CD
//!         │ MailboxCollector, AppRegistration, Secret
//!         ▼
//!    API server ──watch──► controller: resolve → validate → assign → publish ──► status, Events
//!                                               │  Collector (a work order)   ▲ Progress (latest value)
//!                                               ▼                             │
//!                                     fleet: one task per collector
//!                                               │ collect: open → drain (list → fetch → deliver → record) → wait
//!                                               ▼
//!                entra (token)      source (IMAP)      sink (file)
//! ```
//!
//! Values go down, [`collect::Progress`] comes up; nothing calls back into its caller. The reconciler never touches a mail socket, the collecting
//! task never touches `kube`: what it needs of a cluster, or of a folder, comes through [`collect::CursorStore`].
//!
//! # Rooms, in reading order
//!
//! | room | what |
//! |---|---|
//! | [`cli`] | the command line: `run`, `collect`, `check`, `onboard`, `crds`; wires the rooms together |
//! | [`api`] | the three kinds as Rust types, their schema and CEL rules; nothing else |
//! | [`controller`] | the only room that knows `kube`: resolve → validate → assign → publish; keeps cursors in `MailboxCursor` objects |
//! | [`doctor`] | the set-up doctor: every step of a mailbox's set-up examined in order; the guide for somebody who begins |
//! | [`fleet`] | the task table: start, replace (cancel, join, start), stop |
//! | [`collect`] | the work order, the loop over one mailbox, one bounded drain, Progress |
//! | [`source`] | where mail comes from; `imap`: session, SASL, the literal tap, IDLE |
//! | [`sink`] | where mail goes; `file`: durable batches; identity of a message; the conformance suite |
//! | [`entra`] | tokens: request, cache with single flight, claims (for diagnosis only) |
//! | [`cursor`] | pure: decided, owed, quarantined, anchors; sets of UIDs |
//! | [`schedule`] | pure: when next (interval, back-off, server hints, jitter) |
//! | [`diagnosis`] | pure: facts → reason, set-up step, remedy, retry, in English and French; the only place where a server's text gets a meaning |
//! | [`admin`] | `/livez`, `/readyz`, `/metrics` |
//! | [`proxy`] | the way out through an HTTP proxy |
//! | [`tls`] | one trust set for everything that leaves the process |
//!
//! # Words
//!
//! *Mailbox*: `user@domain`. *Folder*: what RFC 9051 calls a mailbox. *Collector*: a validated work order. *Look*: every folder listed and every
//! sink probed. *Drain*: one bounded pass. *Decided*: nothing more is to be done for this UID. *Owed*: listed and not received. *Quarantined*: given
//! up after several tries, left untouched on the server, told. *Accepted / Deferred / Rejected*: a sink's answer; durable, about the sink, about the
//! message. *Placement*: one item on the server; *fingerprint*: finds candidates for the same mail. *Failure*: a fact; *diagnosis*: its meaning.
//!
//! # Laws that the tests hold
//!
//! 1. A UID is decided only when every sink durably accepted it, it is quarantined, or a complete listing of its window lacks it.
//! 2. The sink is the ledger: creating under the placement's name is idempotent; the cursor may lag behind it and never runs ahead.
//! 3. Deliver → record: one compare-and-swap; whoever loses it ends.
//! 4. A mailbox's trouble is data in its status, never an error of the reconciler.
//! 5. A half-used connection is never used again.
//! 6. One delivery attempt is one fetch; a message is never put together from several.
//! 7. Everything is bounded, and every wait on the network has a deadline.
//! 8. No secret, token or content of a message in logs, Events, status, metrics or error texts.

pub mod admin;
pub mod api;
pub mod cli;
pub mod collect;
pub mod controller;
pub mod cursor;
pub mod diagnosis;
pub mod doctor;
pub mod entra;
pub mod fleet;
pub mod proxy;
pub mod schedule;
pub mod sink;
pub mod source;
pub mod tls;
