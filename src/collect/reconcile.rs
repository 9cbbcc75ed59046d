//! How messages of a folder's present numbering are named, and which copies may lie in a sink under an older one. It delivers nothing.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::warn;

use super::delivery::Reconcile;
use super::drain::{Failure, Held, Pass};
use super::view::View;
use crate::cursor::Epoch;
use crate::sink::{self, identity};

/// Highest UID up to which old copies are matched with messages after a renumbering; the check holds 8 bytes a UID.
const RECONCILED: u32 = 2_000_000;

impl Pass<'_> {
    /// Names messages of the folder's present numbering.
    pub(super) fn numbering(&self, view: &View, held: &Held) -> identity::Numbering {
        let folder = held.cursor.folder(&view.name);
        let (key, epoch) = folder.map_or((view.name.as_str(), Epoch::default()), |folder| (folder.key(), folder.epoch()));
        identity::Numbering::new(&self.order.mailbox, key, epoch.uid_validity).in_turn(epoch.turn, epoch.again_from)
    }

    /// For messages that may lie in the sink under an older numbering: what is there, once a session.
    pub(super) async fn reconcile(&self, view: &mut View, held: &Held) -> Result<Option<Reconcile>, Failure> {
        let Some(folder) = held.cursor.folder(&view.name) else { return Ok(None) };
        let owed = folder.owed().keys().next().copied();
        let lowest = view.todo.first().into_iter().chain(view.unlisted.first()).chain(owed).min();
        if !lowest.is_some_and(|uid| folder.must_reconcile(uid)) {
            return Ok(None);
        }
        if view.surveyed.is_none() {
            view.surveyed = Some(match self.fan.survey().await {
                Ok(any) => any,
                Err(fault) => match *fault.error {
                    // Old copies are not looked for among so many: extra copies then, never a loss.
                    sink::Error::SurveyTooLarge { limit, .. } => {
                        warn!(folder = view.name, limit, "the sink holds too many messages to look for earlier copies among them");
                        false
                    }
                    _ => return Err(Failure::Sink(fault)),
                },
            });
        }
        // Above the bound old copies cannot be told from this numbering's own: extra copies then, never a loss.
        if view.surveyed != Some(true) || view.top > RECONCILED {
            return Ok(None);
        }
        let below = folder.baseline().and_then(|baseline| baseline.uid_next).unwrap_or(u32::MAX);
        let own = match &view.own {
            Some(own) => Arc::clone(own),
            None => {
                let numbering = self.numbering(view, held);
                let top = view.top;
                // Up to millions of hashes: off the threads that serve other mailboxes.
                let own = tokio::task::spawn_blocking(move || (1..=top).map(|uid| numbering.placement(uid)).collect::<HashSet<_>>());
                Arc::clone(view.own.insert(Arc::new(own.await.map_err(|_| self.fan.fault(sink::Error::Gone))?)))
            }
        };
        Ok(Some(Reconcile { below, taken: folder.claims().collect(), own }))
    }
}
