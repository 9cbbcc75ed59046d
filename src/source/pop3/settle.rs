//! DELE of a set. It marks; messages go when QUIT is answered (RFC 1939 section 6), which only a later listing proves.

use std::fmt::Write as _;

use super::session::Listing;
use super::wire::{Answer, Wire};
use crate::cursor::UidSet;
use crate::source::imap::Transport;
use crate::source::{Error, Refusal, Step};

const STEP: Step = Step::Settle;
/// Commands sent and not yet answered, at most.
const AHEAD: usize = 64;

/// Marks those of `uids` that are in the listing and not `marked` yet.
pub(super) async fn delete<S: Transport>(
    wire: &mut Wire<S>,
    listing: &Listing,
    pipelining: bool,
    uids: &UidSet,
    marked: &mut UidSet,
) -> Result<(), Error> {
    let wanted = uids.difference(marked);
    let messages: Vec<(u32, u32)> = wanted.iter().filter_map(|uid| listing.message(uid).map(|message| (uid, message))).collect();
    let (mut done, mut refusal) = (false, None);
    for some in messages.chunks(if pipelining { AHEAD } else { 1 }) {
        let mut commands = String::new();
        for (_, message) in some {
            // Writing to a String cannot fail.
            let _written = write!(commands, "DELE {message}\r\n");
        }
        wire.send(STEP, &commands).await?;
        for (uid, _) in some {
            match wire.answer(STEP).await? {
                Answer::Ok(_) => {
                    done = true;
                    marked.insert(*uid);
                }
                // It stays, which the next listing shows; the others must not stay for it.
                Answer::Refused { code, text } => refusal = Some(Error::Refused { step: STEP, refusal: Refusal::No, code, text }),
                Answer::Continue(_) => return Err(Error::Protocol { step: STEP, what: "a continuation that was not asked for" }),
            }
        }
    }
    refusal.filter(|_| !done).map_or(Ok(()), Err)
}
