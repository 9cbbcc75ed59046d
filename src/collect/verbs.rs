//! What a person asked for by annotation: replay, discard, collect again. Done in the cursor, in one write with the note that it is done, so that
//! each request is acted upon exactly once. Delivers nothing itself.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use tracing::info;

use super::drain::Failure;
use super::held::Held;
use super::{Collector, CursorStore, Verb, Which};
use crate::cursor::{Cursor, Folder};
use crate::source::{Access, Day, Source};

/// Does what the order asks for, unless the record says that it was done. Opens folders of `session` where it must look into them.
pub(super) async fn act<S: Source>(order: &Collector, session: &mut S, held: &mut Held, store: &dyn CursorStore) -> Result<(), Failure> {
    let (Some(verb), Some(request)) = (&order.verb, &order.requested_at) else { return Ok(()) };
    if held.cursor.handled_request.as_ref() == Some(request) {
        return Ok(());
    }
    let now = Timestamp::now();
    match verb {
        Verb::Replay(which) => {
            let messages = each(&mut held.cursor, which, |folder, uid| folder.replay(uid, now));
            info!(messages, "quarantined messages are tried again, as asked for");
        }
        Verb::Discard(which) => {
            let messages = each(&mut held.cursor, which, Folder::discard);
            info!(messages, "quarantined messages are given up, as asked for; they stay untouched on the server");
        }
        Verb::Resync(from) => {
            for name in &order.folders {
                let first = match from {
                    None => Some(1),
                    Some(time) => first_since(session, name, *time).await?,
                };
                let folder = held.cursor.folder_mut(name);
                // Nothing is remembered of a folder that was never opened.
                if let (Some(first), Some(_)) = (first, folder.baseline()) {
                    let next = folder.decided().last().and_then(|last| last.checked_add(1));
                    folder.resync(first, next, now);
                    info!(folder = name, uid = first, "collecting again from this message on, as asked for");
                }
            }
        }
    }
    held.cursor.handled_request = Some(request.clone());
    held.touch();
    held.hold(store, &order.id).await?;
    held.save_in_pace(store, &order.id).await?;
    Ok(())
}

fn each(cursor: &mut Cursor, which: &Which, mut act: impl FnMut(&mut Folder, Option<u32>) -> usize) -> usize {
    let mut messages = 0;
    for folder in cursor.folders_mut() {
        match which {
            Which::All => messages += act(folder, None),
            Which::These(these) => {
                for (name, uid) in these {
                    if same_folder(name, folder.name()) {
                        messages += act(folder, Some(*uid));
                    }
                }
            }
        }
    }
    messages
}

/// INBOX is the one folder name without case (RFC 9051 section 5.1).
fn same_folder(one: &str, other: &str) -> bool {
    one == other || one.eq_ignore_ascii_case("INBOX") && other.eq_ignore_ascii_case("INBOX")
}

/// The lowest UID received at `time` or later. Servers search by whole days of a zone of their own, so it begins a day before.
async fn first_since<S: Source>(session: &mut S, folder: &str, time: Timestamp) -> Result<Option<u32>, Failure> {
    let early = time.checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
    let day = early.to_zoned(TimeZone::UTC).date();
    session.open(folder, Access::Examine).await?;
    Ok(session.list_day(1, u32::MAX, Day::Since(day)).await?.first())
}
