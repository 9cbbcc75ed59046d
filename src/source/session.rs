//! A session by either protocol.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::{Access, Day, Error, Fields, Heading, Intake, Marks, Opened, Settle, Source, Wake, imap, pop3};
use crate::cursor::{Name, UidSet};

/// A session with Exchange Online. See [`Source`].
#[derive(Debug)]
pub enum Session {
    /// By IMAP.
    Imap(imap::Exchange),
    /// By POP3.
    Pop3(Box<pop3::Exchange>),
}

impl Source for Session {
    async fn open(&mut self, folder: &str, access: Access) -> Result<Opened, Error> {
        match self {
            Self::Imap(session) => session.open(folder, access).await,
            Self::Pop3(session) => session.open(folder, access).await,
        }
    }

    fn names(&self) -> Option<&[Name]> {
        match self {
            Self::Imap(session) => session.names(),
            Self::Pop3(session) => session.names(),
        }
    }

    fn number(&mut self, numbers: &[u32]) {
        match self {
            Self::Imap(session) => session.number(numbers),
            Self::Pop3(session) => session.number(numbers),
        }
    }

    async fn header(&mut self, uid: u32) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Imap(session) => session.header(uid).await,
            Self::Pop3(session) => session.header(uid).await,
        }
    }

    async fn list(&mut self, low: u32, high: u32) -> Result<UidSet, Error> {
        match self {
            Self::Imap(session) => session.list(low, high).await,
            Self::Pop3(session) => session.list(low, high).await,
        }
    }

    async fn fetch<I: Intake>(&mut self, uids: &UidSet, intake: &mut I) -> Result<(), Error> {
        match self {
            Self::Imap(session) => session.fetch(uids, intake).await,
            Self::Pop3(session) => session.fetch(uids, intake).await,
        }
    }

    async fn list_day(&mut self, low: u32, high: u32, day: Day) -> Result<UidSet, Error> {
        match self {
            Self::Imap(session) => session.list_day(low, high, day).await,
            Self::Pop3(session) => session.list_day(low, high, day).await,
        }
    }

    async fn marks(&mut self, folder: &str) -> Result<Option<Marks>, Error> {
        match self {
            Self::Imap(session) => session.marks(folder).await,
            Self::Pop3(session) => session.marks(folder).await,
        }
    }

    async fn folders(&mut self) -> Result<Vec<String>, Error> {
        match self {
            Self::Imap(session) => session.folders().await,
            Self::Pop3(session) => session.folders().await,
        }
    }

    async fn headings(&mut self, uids: &UidSet, fields: Fields) -> Result<Vec<Heading>, Error> {
        match self {
            Self::Imap(session) => session.headings(uids, fields).await,
            Self::Pop3(session) => session.headings(uids, fields).await,
        }
    }

    fn ask_ahead(&mut self, uids: UidSet) {
        match self {
            Self::Imap(session) => session.ask_ahead(uids),
            Self::Pop3(session) => session.ask_ahead(uids),
        }
    }

    fn announced(&self) -> bool {
        match self {
            Self::Imap(session) => session.announced(),
            Self::Pop3(session) => session.announced(),
        }
    }

    async fn settle(&mut self, uids: &UidSet, how: &Settle) -> Result<(), Error> {
        match self {
            Self::Imap(session) => session.settle(uids, how).await,
            Self::Pop3(session) => session.settle(uids, how).await,
        }
    }

    async fn unsettled(&mut self, uids: &UidSet, how: &Settle) -> Result<UidSet, Error> {
        match self {
            Self::Imap(session) => session.unsettled(uids, how).await,
            Self::Pop3(session) => session.unsettled(uids, how).await,
        }
    }

    async fn wait(&mut self, max: Duration, interrupt: impl Future<Output = ()> + Send) -> Result<Wake, Error> {
        match self {
            Self::Imap(session) => session.wait(max, interrupt).await,
            Self::Pop3(session) => session.wait(max, interrupt).await,
        }
    }

    async fn close(self) {
        match self {
            Self::Imap(session) => session.close().await,
            Self::Pop3(session) => session.close().await,
        }
    }
}
