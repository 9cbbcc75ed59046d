//! RETR of a set into an [`Intake`], several commands ahead where the server allows it. Believes a message only when its closing dot has come.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::codec::Piece;
use super::session::Listing;
use super::wire::{Answer, Wire};
use crate::cursor::UidSet;
use crate::source::imap::Transport;
use crate::source::{Absent, Error, Head, Intake, Refusal, Step};

const STEP: Step = Step::Fetch;
/// Commands sent and not yet answered, at most: 1 KiB, which fits into any socket's buffers even if the server reads none of it.
const AHEAD: usize = 64;
/// More are sent when so few are left.
const REFILL: usize = 32;
/// The server's size is an estimate: a message is left alone unread only if it says that it is so many times too large.
const SURELY: u64 = 2;
/// A message that goes on for so many times the limit has no end.
const ENDLESS: u64 = 4;

/// Fetches `uids`; see [`crate::source::Source::fetch`]. What is not in the listing is passed over.
pub(super) async fn fetch<S: Transport, I: Intake>(
    wire: &mut Wire<S>,
    listing: &Listing,
    pipelining: bool,
    max_message_bytes: u64,
    uids: &UidSet,
    intake: &mut I,
) -> Result<(), Error> {
    let mut wanted = uids.iter().filter_map(|uid| listing.message(uid).map(|message| (uid, message)));
    let (ahead, refill) = if pipelining { (AHEAD, REFILL) } else { (1, 0) };
    let mut asked: VecDeque<(u32, u32)> = VecDeque::with_capacity(ahead);
    let mut given = false;
    let mut refused = Vec::new();
    let mut commands = String::new();
    loop {
        if asked.len() <= refill {
            while asked.len() < ahead {
                let Some((uid, message)) = wanted.next() else { break };
                match listing.size(message).filter(|size| *size > max_message_bytes.saturating_mul(SURELY)) {
                    Some(size) => {
                        given = true;
                        intake.absent(uid, Absent::TooLarge(size));
                    }
                    None => {
                        // Writing to a String cannot fail.
                        let _written = write!(commands, "RETR {message}\r\n");
                        asked.push_back((uid, message));
                    }
                }
            }
            if !commands.is_empty() {
                wire.send(STEP, &commands).await?;
                commands.clear();
            }
        }
        let Some((uid, message)) = asked.pop_front() else { break };
        match wire.answer(STEP).await? {
            Answer::Ok(_) => {
                receive(wire, uid, listing.size(message).unwrap_or(0), max_message_bytes, intake).await?;
                given = true;
            }
            Answer::Refused { code, text } => refused.push((uid, code, text)),
            Answer::Continue(_) => return Err(Error::Protocol { step: STEP, what: "a continuation that was not asked for" }),
        }
    }
    // One refusal is about its message, but a server that refuses all of several has a trouble of its own.
    if !given
        && refused.len() > 1
        && let Some((_, code, text)) = refused.pop()
    {
        return Err(Error::Refused { step: STEP, refusal: Refusal::No, code, text });
    }
    for (uid, code, text) in refused {
        intake.absent(uid, Absent::Refused { code, text });
    }
    Ok(())
}

/// One message's body.
async fn receive<S: Transport, I: Intake>(wire: &mut Wire<S>, uid: u32, estimate: u64, most: u64, intake: &mut I) -> Result<(), Error> {
    let head = |size| Head { uid, internal_date: None, size };
    let (mut part, mut size) = (None, 0);
    loop {
        let (bytes, last) = match wire.piece(STEP).await? {
            Piece::Whole(bytes) => {
                size = bytes.len() as u64;
                match size {
                    0 => intake.absent(uid, Absent::Empty),
                    _ if size > most => intake.absent(uid, Absent::TooLarge(size)),
                    _ => intake.whole(head(size), bytes).await.map_err(|_| Error::Stopped)?,
                }
                return Ok(());
            }
            Piece::Part(bytes) => (bytes, false),
            Piece::Last(bytes) => (bytes, true),
        };
        let before = size;
        size += bytes.len() as u64;
        if size > most {
            if before <= most {
                // Told at once: what is left of it may not come at all.
                part = None;
                intake.absent(uid, Absent::TooLarge(size.max(estimate)));
            }
            if size > most.saturating_mul(ENDLESS) {
                return Err(Error::Protocol { step: STEP, what: "a message without an end" });
            }
        } else {
            let mut open = match part.take() {
                Some(open) => open,
                None => intake.begin(estimate.max(size)).await.map_err(|_| Error::Stopped)?,
            };
            if !bytes.is_empty() {
                intake.chunk(&mut open, bytes).await.map_err(|_| Error::Stopped)?;
            }
            if last {
                return intake.end(head(size), open).await.map_err(|_| Error::Stopped);
            }
            part = Some(open);
        }
        if last {
            return Ok(());
        }
    }
}
