//! UID FETCH of a set into an [`Intake`]. Believes a message only when its reply has closed with a UID that was asked for and a body of
//! the length announced.

use super::splitter::{Body, Diverted};
use super::wire::{Answer, Reply, Transport, Wire};
use crate::cursor::UidSet;
use crate::source::{Absent, Error, Fields, Head, Heading, Intake, Refusal, Step};

const STEP: Step = Step::Fetch;
/// Longest set of UIDs, as text: Exchange refuses longer command lines.
const LONGEST_SET: usize = 8_000;

/// A long body under way.
struct Part<P> {
    /// `None`: nobody wants it.
    part: Option<P>,
    received: u64,
}

/// At most the next FETCH is sent before the answer to the last one is read.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    /// To be sent with the next fetch.
    planned: Option<UidSet>,
    /// Sent; its answer is to be read.
    asked: Option<UidSet>,
    /// Of those, what came before its time.
    early: UidSet,
    /// The server took a FETCH sent ahead for an error.
    off: bool,
}

impl Pipeline {
    /// See [`crate::source::Source::ask_ahead`].
    pub(super) fn plan(&mut self, uids: UidSet) {
        self.planned = Some(uids).filter(|uids| !self.off && !uids.is_empty());
    }

    /// An answer is still to be read: nothing but its fetch may follow.
    pub(super) fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }
}

fn command(uids: &UidSet) -> Result<String, Error> {
    let set = uids.to_string();
    if set.len() > LONGEST_SET {
        return Err(Error::Protocol { step: STEP, what: "more UIDs than one command may hold" });
    }
    // RFC822.SIZE is not asked for: Exchange estimates it.
    Ok(format!("UID FETCH {set} (UID INTERNALDATE BODY.PEEK[])"))
}

/// Fetches `uids`; see [`crate::source::Source::fetch`].
pub(super) async fn fetch<S: Transport, I: Intake>(
    wire: &mut Wire<S>,
    pipeline: &mut Pipeline,
    uids: &UidSet,
    intake: &mut I,
) -> Result<(), Error> {
    let asked = pipeline.asked.take();
    if uids.is_empty() && asked.is_none() {
        return Ok(());
    }
    wire.tap().splitter.expect_headers(false);
    match &asked {
        Some(asked) if asked == uids => wire.turn_to_next(),
        Some(_) => return Err(Error::HalfUsed),
        None => wire.command(STEP, &command(uids)?).await?,
    }
    let ahead = pipeline.planned.take();
    if let Some(ahead) = &ahead {
        wire.command_ahead(STEP, &command(ahead)?).await?;
    }
    // A server may work on both at a time.
    let wanted = ahead.as_ref().map_or_else(|| uids.clone(), |ahead| uids.union(ahead));
    let mut given = std::mem::take(&mut pipeline.early);
    let answer = read(wire, &wanted, &mut given, intake).await?;
    if asked.is_some() && answer.refusal() == Some(Refusal::Bad) && given.intersection(uids).is_empty() {
        // A server that takes one command at a time: the same again, alone, and none ahead in this session.
        pipeline.off = true;
        return match again(wire, ahead.is_some(), uids, &mut given, intake).await {
            // It was no error of order then: what the server said first tells more than how the session ended.
            Err(error) if error != Error::Stopped => answer.accepted(STEP).map(drop),
            outcome => outcome?.accepted(STEP).map(drop),
        };
    }
    if let Some(ahead) = ahead {
        pipeline.early = given.intersection(&ahead);
        pipeline.asked = Some(ahead);
    }
    answer.accepted(STEP).map(drop)
}

/// Asks for `uids` once more, after the answer to what was sent ahead.
async fn again<S: Transport, I: Intake>(
    wire: &mut Wire<S>,
    ahead: bool,
    uids: &UidSet,
    given: &mut UidSet,
    intake: &mut I,
) -> Result<Answer, Error> {
    if ahead {
        wire.turn_to_next();
        // Refused or not: what it asks for is asked for again.
        let _answer = read(wire, &UidSet::new(), given, intake).await?;
    }
    wire.command(STEP, &command(uids)?).await?;
    read(wire, uids, given, intake).await
}

/// Reads to the tagged answer, giving each message of `wanted` once.
async fn read<S: Transport, I: Intake>(wire: &mut Wire<S>, wanted: &UidSet, given: &mut UidSet, intake: &mut I) -> Result<Answer, Error> {
    let mut long: Option<Part<I::Part>> = None;
    loop {
        match wire.next(STEP).await? {
            Reply::Diverted(Diverted::Begin(length, uid)) => {
                let unwanted = uid.is_some_and(|uid| !wanted.contains(uid) || given.contains(uid));
                let part = if unwanted { None } else { Some(intake.begin(length).await.map_err(|_| Error::Stopped)?) };
                long = Some(Part { part, received: 0 });
            }
            Reply::Diverted(Diverted::Chunk(bytes)) => {
                let Some(long) = &mut long else { return Err(Error::Protocol { step: STEP, what: "bytes of no message" }) };
                long.received += bytes.len() as u64;
                if let Some(part) = &mut long.part {
                    intake.chunk(part, bytes).await.map_err(|_| Error::Stopped)?;
                }
            }
            Reply::Fetch { uid, date, body } => {
                let long = long.take();
                // Only what was asked for, once: FLAGS may change at any time, and a UID that we did not name is none of our business.
                let Some(uid) = uid.filter(|uid| wanted.contains(*uid) && !given.contains(*uid)) else { continue };
                let Some((body, bytes)) = body else { continue };
                given.insert(uid);
                let head = |size| Head { uid, internal_date: date, size };
                match body {
                    Body::Nil => intake.absent(uid, Absent::Nil),
                    Body::Inline(0) => intake.absent(uid, Absent::Empty),
                    Body::TooLarge(length) => intake.absent(uid, Absent::TooLarge(length)),
                    Body::Inline(length) => intake.whole(head(length), bytes).await.map_err(|_| Error::Stopped)?,
                    Body::Diverted(length) => {
                        let Some(Part { part: Some(part), .. }) = long.filter(|long| long.received == length) else {
                            return Err(Error::Protocol { step: STEP, what: "a body of another length than announced" });
                        };
                        intake.end(head(length), part).await.map_err(|_| Error::Stopped)?;
                    }
                }
            }
            Reply::Done(answer) => return Ok(answer),
            Reply::Continue(_) => return Err(Error::Protocol { step: STEP, what: "a continuation that was not asked for" }),
            _ => {}
        }
    }
}

/// Dates and header fields of `uids`; see [`crate::source::Source::headings`].
pub(super) async fn headings<S: Transport>(wire: &mut Wire<S>, uids: &UidSet, fields: Fields) -> Result<Vec<Heading>, Error> {
    if uids.is_empty() {
        return Ok(Vec::new());
    }
    let set = uids.to_string();
    if set.len() > LONGEST_SET {
        return Err(Error::Protocol { step: STEP, what: "more UIDs than one command may hold" });
    }
    let items = match fields {
        Fields::Date => "UID INTERNALDATE",
        Fields::MessageId => "UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]",
        Fields::Addressing => "UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (FROM TO CC SUBJECT)]",
    };
    wire.tap().splitter.expect_headers(true);
    wire.command(STEP, &format!("UID FETCH {set} ({items})")).await?;
    let mut found: Vec<Heading> = Vec::new();
    let mut given = UidSet::new();
    let answer = wire.answer(STEP, |reply| {
        let Reply::Fetch { uid: Some(uid), date, body } = reply else { return };
        // FLAGS may change at any time: a reply with nothing that was asked for is another one's.
        if !uids.contains(uid) || given.contains(uid) || (date.is_none() && body.is_none()) {
            return;
        }
        given.insert(uid);
        let header = match body {
            Some((Body::Inline(_), bytes)) => Some(bytes),
            _ => None,
        };
        found.push(Heading { uid, internal_date: date, header });
    });
    answer.await?.accepted(STEP)?;
    Ok(found)
}
