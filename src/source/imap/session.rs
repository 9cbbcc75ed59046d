//! A logged-in session: greeting, log-in and probe, then the calls of [`Source`].

use std::fmt;
use std::future::Future;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::timeout;

use super::wire::{Reply, Transport, Wire};
use super::{fetch, idle, sasl, settle, text};
use crate::cursor::UidSet;
use crate::source::{Access, Error, Intake, Opened, Refusal, Settle, Source, Step, Wake};

/// How long a good-bye may take.
const GOOD_BYE: Duration = Duration::from_secs(2);

/// A session with one mailbox, generic over its stream so that tests can script the other side.
pub struct Session<S: Transport> {
    wire: Wire<S>,
    /// A call began and has not ended well: whatever the server sends next may belong to it.
    half_used: bool,
    settling: settle::State,
}

impl<S: Transport> Session<S> {
    /// Takes a fresh connection through greeting, XOAUTH2 and the first command, which Exchange refuses where the log-in was only
    /// pretended ("User is authenticated but not connected.").
    pub async fn start(stream: S, mailbox: &str, token: &SecretString, max_message_bytes: u64) -> Result<Self, Error> {
        let mut wire = Wire::new(stream, max_message_bytes);
        // Without a list in the greeting SASL-IR is assumed: asking would cost a round trip, and Exchange has it.
        let mut initial_response = true;
        match wire.next(Step::Greeting).await? {
            Reply::Ok => {}
            Reply::Capabilities(names) => initial_response = names.iter().any(|name| name == "SASL-IR"),
            Reply::PreAuth => return Err(Error::Protocol { step: Step::Greeting, what: "the server takes us for someone already" }),
            _ => {
                return Err(match wire.take_grumble() {
                    Some(text) => Error::Refused { step: Step::Greeting, refusal: Refusal::Bad, code: None, text },
                    None => Error::Protocol { step: Step::Greeting, what: "not an IMAP greeting" },
                });
            }
        }
        sasl::authenticate(&mut wire, mailbox, token, initial_response).await?;
        wire.command(Step::Probe, r#"LIST "" """#).await?;
        wire.answer(Step::Probe, |_| {}).await?.accepted(Step::Probe)?;
        Ok(Self { wire, half_used: false, settling: settle::State::default() })
    }

    fn begin(&mut self) -> Result<&mut Wire<S>, Error> {
        if std::mem::replace(&mut self.half_used, true) {
            return Err(Error::HalfUsed);
        }
        Ok(&mut self.wire)
    }

    fn ended<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        self.half_used = outcome.is_err();
        outcome
    }
}

impl<S: Transport> Source for Session<S> {
    async fn open(&mut self, folder: &str, access: Access) -> Result<Opened, Error> {
        let wire = self.begin()?;
        let outcome = open(wire, folder, access).await;
        self.settling.read_only = outcome.as_ref().map_or(true, |opened| opened.read_only);
        self.ended(outcome)
    }

    async fn list(&mut self, low: u32, high: u32) -> Result<UidSet, Error> {
        let wire = self.begin()?;
        let outcome = search(wire, low.max(1), high).await;
        self.ended(outcome)
    }

    async fn fetch<I: Intake>(&mut self, uids: &UidSet, intake: &mut I) -> Result<(), Error> {
        let wire = self.begin()?;
        let outcome = fetch::fetch(wire, uids, intake).await;
        self.ended(outcome)
    }

    async fn settle(&mut self, uids: &UidSet, how: &Settle) -> Result<(), Error> {
        self.begin()?;
        let outcome = settle::settle(&mut self.wire, &mut self.settling, uids, how).await;
        self.ended(outcome)
    }

    async fn unsettled(&mut self, uids: &UidSet, how: &Settle) -> Result<UidSet, Error> {
        let wire = self.begin()?;
        let outcome = settle::unsettled(wire, uids, how).await;
        self.ended(outcome)
    }

    async fn wait(&mut self, max: Duration, interrupt: impl Future<Output = ()> + Send) -> Result<Wake, Error> {
        let wire = self.begin()?;
        let outcome = idle::wait(wire, max, interrupt).await;
        self.ended(outcome)
    }

    async fn close(mut self) {
        let Ok(wire) = self.begin() else { return };
        let good_bye = async {
            if wire.command(Step::Wait, "LOGOUT").await.is_ok() {
                // BYE ends it as an error, a tagged OK as an answer: both are what was asked for.
                let _gone = wire.answer(Step::Wait, |_| {}).await;
                wire.shut_down().await;
            }
        };
        // A server that does not answer is left all the same.
        let _in_time = timeout(GOOD_BYE, good_bye).await;
    }
}

async fn open<S: Transport>(wire: &mut Wire<S>, folder: &str, access: Access) -> Result<Opened, Error> {
    const STEP: Step = Step::Open;
    let verb = match access {
        Access::Examine => "EXAMINE",
        Access::Select => "SELECT",
    };
    wire.command(STEP, &format!("{verb} {}", text::quoted_folder(folder))).await?;
    let (mut exists, mut uid_validity, mut uid_next) = (None, None, None);
    let answer = wire
        .answer(STEP, |reply| match reply {
            Reply::Exists(number) => exists = Some(number),
            Reply::UidValidity(number) => uid_validity = Some(number),
            Reply::UidNext(number) => uid_next = Some(number),
            _ => {}
        })
        .await?;
    let code = answer.accepted(STEP)?;
    wire.news = false;
    let missing = |what| Error::Protocol { step: STEP, what };
    Ok(Opened {
        uid_validity: uid_validity.filter(|number| *number > 0).ok_or(missing("a folder without UIDVALIDITY"))?,
        uid_next: uid_next.filter(|number| *number > 0),
        exists: exists.ok_or(missing("a folder without EXISTS"))?,
        // A server that says neither has opened it as it was asked to (RFC 9051 section 6.3.2: SHOULD).
        read_only: access == Access::Examine || code.as_deref() == Some("READ-ONLY"),
    })
}

async fn search<S: Transport>(wire: &mut Wire<S>, low: u32, high: u32) -> Result<UidSet, Error> {
    if low > high {
        return Ok(UidSet::new());
    }
    // Whatever is announced from here on may have come too late for this search; what was announced before is found only by one that
    // reaches to the end.
    wire.news &= high < u32::MAX;
    found(wire, &format!("UID SEARCH UID {low}:{high}"), low, high).await
}

/// What this search finds in `low..=high`.
pub(super) async fn found<S: Transport>(wire: &mut Wire<S>, search: &str, low: u32, high: u32) -> Result<UidSet, Error> {
    const STEP: Step = Step::List;
    wire.tap().splitter.search(low, high);
    wire.command(STEP, search).await?;
    let answer = wire.answer(STEP, |_| {}).await;
    let mut found = wire.tap().splitter.take_found();
    answer?.accepted(STEP)?;
    found.sort_unstable();
    let mut uids = UidSet::new();
    for (low, high) in found {
        uids.insert_range(low, high);
    }
    Ok(uids)
}

impl<S: Transport> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("half_used", &self.half_used).finish_non_exhaustive()
    }
}
