//! What becomes of delivered messages: `UID MOVE`, `UID STORE`, `UID EXPUNGE`, always of UIDs named one by one or in ranges that were delivered
//! whole; and what a search still shows of them. Never a bare EXPUNGE or CLOSE, which would remove what others have marked. Decides nothing
//! about which messages are to be settled.

use super::session::found;
use super::text::quoted_folder;
use super::wire::{Reply, Transport, Wire};
use crate::cursor::UidSet;
use crate::source::{Error, Extension, Refusal, Settle, Step};

const STEP: Step = Step::Settle;
/// Longest set of UIDs, as text (RFC 7162 section 4 advises 8,192 bytes a command line).
const LONGEST_SET: usize = 8_000;
/// A server that hides a long search result behind a limit gives none; so many UIDs are asked for at a time.
const SEARCHED: u64 = 20_000;

/// What a session knows about settling.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The folder at hand was opened for reading only.
    pub(super) read_only: bool,
    /// Extensions, once they were asked for.
    offered: Option<Offered>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Offered {
    moves: bool,
    uid_plus: bool,
}

/// See [`crate::source::Source::settle`].
pub(super) async fn settle<S: Transport>(wire: &mut Wire<S>, state: &mut State, uids: &UidSet, how: &Settle) -> Result<(), Error> {
    if state.read_only {
        return Err(Error::ReadOnly);
    }
    if uids.is_empty() {
        return Ok(());
    }
    match how {
        Settle::MarkSeen => {}
        Settle::Move(_) if offered(wire, state).await?.moves => {}
        Settle::Move(_) => return Err(Error::Unsupported(Extension::Move)),
        Settle::Delete if offered(wire, state).await?.uid_plus => {}
        Settle::Delete => return Err(Error::Unsupported(Extension::UidPlus)),
    }
    for set in pieces(uids, u64::MAX) {
        match how {
            Settle::MarkSeen => done(wire, &format!(r"UID STORE {set} +FLAGS.SILENT (\Seen)")).await?,
            Settle::Move(folder) => done(wire, &format!("UID MOVE {set} {}", quoted_folder(folder))).await?,
            Settle::Delete => {
                done(wire, &format!(r"UID STORE {set} +FLAGS.SILENT (\Deleted)")).await?;
                done(wire, &format!("UID EXPUNGE {set}")).await?;
            }
        }
    }
    Ok(())
}

/// See [`crate::source::Source::unsettled`].
pub(super) async fn unsettled<S: Transport>(wire: &mut Wire<S>, uids: &UidSet, how: &Settle) -> Result<UidSet, Error> {
    let unread = match how {
        Settle::MarkSeen => " UNSEEN",
        Settle::Move(_) | Settle::Delete => "",
    };
    let mut still = UidSet::new();
    for set in pieces(uids, SEARCHED) {
        let (Some(low), Some(high)) = (set.first(), set.last()) else { continue };
        let shown = found(wire, &format!("UID SEARCH UID {set}{unread}"), low, high).await?;
        // Not what the server may find besides.
        still = still.union(&shown.intersection(&set));
    }
    Ok(still)
}

/// Sends a command and reads its answer. That messages went meanwhile (RFC 5530: EXPUNGEISSUED) is no refusal: a listing will tell.
async fn done<S: Transport>(wire: &mut Wire<S>, command: &str) -> Result<(), Error> {
    wire.command(STEP, command).await?;
    let answer = wire.answer(STEP, |_| {}).await?;
    if answer.refusal() == Some(Refusal::No) && answer.code.as_deref() == Some("EXPUNGEISSUED") {
        return Ok(());
    }
    answer.accepted(STEP).map(drop)
}

/// The extensions that matter here; asked for once a session, and only where they matter.
async fn offered<S: Transport>(wire: &mut Wire<S>, state: &mut State) -> Result<Offered, Error> {
    if let Some(offered) = state.offered {
        return Ok(offered);
    }
    let mut offered = Offered::default();
    wire.command(STEP, "CAPABILITY").await?;
    let answer = wire
        .answer(STEP, |reply| {
            if let Reply::Capabilities(names) = reply {
                offered.moves |= names.iter().any(|name| name == "MOVE");
                offered.uid_plus |= names.iter().any(|name| name == "UIDPLUS");
            }
        })
        .await?;
    answer.accepted(STEP)?;
    state.offered = Some(offered);
    Ok(offered)
}

/// `uids` in sets that a command line takes, of at most `most` members each.
fn pieces(uids: &UidSet, most: u64) -> Vec<UidSet> {
    let mut pieces = Vec::new();
    let mut piece = UidSet::new();
    let (mut text, mut members) = (0, 0);
    for &(low, high) in uids.ranges() {
        let mut low = low;
        loop {
            let width = (u64::from(high - low) + 1).min(most);
            let last = low + u32::try_from(width - 1).unwrap_or(u32::MAX);
            let length = UidSet::from_range(low, last).to_string().len() + 1;
            if !piece.is_empty() && (text + length > LONGEST_SET || members + width > most) {
                pieces.push(std::mem::take(&mut piece));
                (text, members) = (0, 0);
            }
            piece.insert_range(low, last);
            (text, members) = (text + length, members + width);
            if last == high {
                break;
            }
            low = last + 1;
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_cut_into_command_lines_and_nothing_is_left_out() {
        let odd: UidSet = (0..5_000).map(|n| u32::MAX - 2 * n).collect();
        let wide = UidSet::from_range(1, 50_001);
        for (uids, most, expected) in
            [(&odd, u64::MAX, 7), (&odd, 500, 10), (&wide, u64::MAX, 1), (&wide, 20_000, 3), (&UidSet::new(), 1, 0)]
        {
            let pieces = pieces(uids, most);
            assert!(pieces.iter().all(|piece| piece.to_string().len() <= LONGEST_SET && piece.len() <= most));
            assert_eq!(pieces.len(), expected);
            assert_eq!(pieces.iter().fold(UidSet::new(), |all, piece| all.union(piece)), *uids);
        }
    }
}
