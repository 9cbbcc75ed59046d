//! Settling: what was delivered and recorded is moved, marked or deleted on the server, and forgotten once a listing shows it so.
//! Law 3: nothing is touched before this task has won the write that says it is delivered. It fetches nothing and delivers nothing.
//!
//! A message that stays although the server said OK is tried again, less and less often; it is never fetched again for that. With Keep, what an
//! earlier order left unsettled is forgotten: nobody wants it touched any more.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::drain::Failure;
use super::held::Held;
use super::{Collector, CursorStore};
use crate::cursor::UidSet;
use crate::source::Source;

/// One command settles at most so many: a server takes its time for each.
const COMMAND: u64 = 200;
/// One pass settles at most so many; then new mail has its turn.
const PASS: u64 = 1_000;
/// What a server left undone is tried again after this time …
const AGAIN_FIRST: Duration = Duration::from_secs(60);
/// … doubling to this.
const AGAIN_LONGEST: Duration = Duration::from_secs(60 * 60);

/// What servers left undone, by folder; kept from session to session of a task, not across its end.
#[derive(Debug, Default)]
pub(super) struct Settling {
    left: HashMap<String, Left>,
}

#[derive(Debug)]
struct Left {
    uids: UidSet,
    tries: u32,
    again: Instant,
}

/// What one pass settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Seen to be settled by a listing.
    pub settled: u64,
    /// Asked for, and still there.
    pub left: u64,
    /// More waits that may be settled now.
    pub more: bool,
}

/// Whose messages, and where that is recorded.
pub(super) struct Work<'a> {
    pub order: &'a Collector,
    pub store: &'a dyn CursorStore,
    pub cancel: &'a CancellationToken,
    /// Wait for the store's pace where something is not recorded yet; otherwise it is left for the next pass.
    pub wait: bool,
}

impl Settling {
    /// When something left undone is to be tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.left.values().map(|left| left.again).min()
    }

    /// Settles what is recorded as delivered in `folder`, which is open in `session`, with no fetch under way.
    pub(super) async fn settle<S: Source>(
        &mut self,
        work: &Work<'_>,
        session: &mut S,
        folder: &str,
        held: &mut Held,
    ) -> Result<Outcome, Failure> {
        let unsettled = held.cursor.folder(folder).map(|folder| folder.unsettled().clone()).unwrap_or_default();
        let Some(how) = &work.order.after_delivery else {
            self.left.remove(folder);
            forget(held, folder, &unsettled);
            return Ok(Outcome::default());
        };
        // Told at once, not when the first message has come: a folder that may only be read, say.
        session.settle(&UidSet::new(), how).await?;
        let now = Instant::now();
        let due = match self.left.get(folder).filter(|left| left.again > now) {
            Some(left) => unsettled.difference(&left.uids),
            None => unsettled,
        };
        let todo = due.take_lowest(PASS);
        if todo.is_empty() || !self.recorded(work, held).await? {
            return Ok(Outcome::default());
        }
        let mut still = todo.clone();
        loop {
            let before = still.len();
            while !still.is_empty() {
                let some = still.take_lowest(COMMAND);
                session.settle(&some, how).await?;
                still = still.difference(&some);
            }
            still = session.unsettled(&todo, how).await?;
            // A server that did a part of it is asked for the rest at once.
            if still.is_empty() || still.len() == before || work.cancel.is_cancelled() {
                break;
            }
        }
        let done = todo.difference(&still);
        forget(held, folder, &done);
        debug!(folder, settled = done.len(), left = still.len(), "settled");
        self.note(folder, &todo, &still, session.names().is_some());
        Ok(Outcome { settled: done.len(), left: still.len(), more: due.len() > todo.len() })
    }

    /// Whether everything delivered is recorded, by this task; nothing may be touched before.
    async fn recorded(&self, work: &Work<'_>, held: &mut Held) -> Result<bool, Failure> {
        held.hold(work.store, &work.order.id).await?;
        if held.unsaved() {
            let pause = held.due_in(work.store);
            if !pause.is_zero() {
                if !work.wait {
                    return Ok(false);
                }
                tokio::select! {
                    () = sleep(pause) => {}
                    () = work.cancel.cancelled() => return Ok(false),
                }
            }
            held.save(work.store, &work.order.id).await?;
        }
        Ok(!work.cancel.is_cancelled())
    }

    fn note(&mut self, folder: &str, tried: &UidSet, still: &UidSet, at_the_end: bool) {
        let before = self.left.remove(folder);
        let waiting = before.as_ref().map(|left| left.uids.difference(tried)).unwrap_or_default();
        let uids = waiting.union(still);
        if uids.is_empty() {
            return;
        }
        let (tries, again) = match before {
            // What was tried now is new; the others keep their time.
            Some(left) if !waiting.is_empty() => (left.tries, left.again),
            Some(left) => (left.tries.saturating_add(1), Instant::now() + pause(left.tries)),
            None => (1, Instant::now() + pause(0)),
        };
        // POP3 settles at the end of its session.
        if !still.is_empty() && !at_the_end {
            info!(folder, messages = still.len(), "the server said OK and did not settle; tried again later, nothing is fetched again");
        }
        self.left.insert(folder.to_owned(), Left { uids, tries, again });
    }
}

fn pause(tries: u32) -> Duration {
    AGAIN_FIRST.saturating_mul(1 << tries.min(10)).min(AGAIN_LONGEST)
}

fn forget(held: &mut Held, folder: &str, uids: &UidSet) {
    if !uids.is_empty() {
        held.cursor.folder_mut(folder).settled(uids);
        held.touch();
    }
}
