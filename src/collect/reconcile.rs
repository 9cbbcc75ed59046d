//! Which copies of messages may lie in a sink under an older numbering. It delivers nothing.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::warn;

use super::delivery::Reconcile;
use super::drain::{Failure, Pass};
use super::held::Held;
use super::named;
use super::view::View;
use crate::sink;

/// Highest UID up to which old copies are matched with messages after a renumbering; the check holds 8 bytes a UID.
const RECONCILED: u32 = 2_000_000;

impl Pass<'_> {
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
        let numbers = named::numbers(folder, view.top);
        if view.surveyed != Some(true) || numbers.len() > u64::from(RECONCILED) {
            return Ok(None);
        }
        let below = folder.baseline().and_then(|baseline| baseline.uid_next).unwrap_or(u32::MAX);
        let own = match &view.own {
            Some(own) => Arc::clone(own),
            None => {
                let numbering = named::numbering(&self.order.mailbox, folder);
                // Up to millions of hashes: off the threads that serve other mailboxes.
                let own = tokio::task::spawn_blocking(move || numbers.iter().map(|uid| numbering.placement(uid)).collect::<HashSet<_>>());
                Arc::clone(view.own.insert(Arc::new(own.await.map_err(|_| self.fan.fault(sink::Error::Gone))?)))
            }
        };
        Ok(Some(Reconcile { below, taken: folder.claims().collect(), own }))
    }
}
