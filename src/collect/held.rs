//! The cursor as a task holds it: the claim, what is not yet written, and when the next write may be. What stands in it is the cursor's.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::careful::Careful;
use super::{CollectorId, CursorStore, StoreError, Version};
use crate::cursor::{Cursor, UidSet};

/// The cursor as this task holds it: the claim, and what is not yet written.
#[derive(Debug)]
pub(super) struct Held {
    pub cursor: Cursor,
    version: Option<Version>,
    pub dirty: bool,
    urgent: bool,
    saved_at: Option<Instant>,
    holding: bool,
    /// The record's last process ended without saying so.
    pub careful: Option<Careful>,
}

impl Held {
    /// Reads the cursor; takes no claim yet, an idle mailbox costs no write.
    pub(super) async fn load(store: &dyn CursorStore, id: &CollectorId) -> Result<Self, StoreError> {
        let (mut cursor, version) = match store.load(id).await? {
            Some((cursor, version)) => (cursor, Some(version)),
            None => (Cursor::default(), None),
        };
        let careful = Careful::after(&mut cursor, store.ended_badly(), Timestamp::now());
        let dirty = careful.as_ref().is_some_and(Careful::changed);
        Ok(Self { cursor, version, dirty, urgent: false, saved_at: None, holding: false, careful })
    }

    /// Makes the claim by compare-and-swap, once, before the first delivery.
    pub(super) async fn hold(&mut self, store: &dyn CursorStore, id: &CollectorId) -> Result<(), StoreError> {
        if self.holding {
            return Ok(());
        }
        if let Some(mut holder) = store.holder() {
            holder.epoch = self.cursor.holder.as_ref().map_or(0, |before| before.epoch).saturating_add(1);
            self.cursor.holder = Some(holder);
        }
        self.cursor.draining = true;
        self.dirty = true;
        self.save(store, id).await?;
        self.holding = true;
        Ok(())
    }

    /// Writes what is not yet written.
    pub(super) async fn save(&mut self, store: &dyn CursorStore, id: &CollectorId) -> Result<(), StoreError> {
        if !self.dirty {
            return Ok(());
        }
        self.version = Some(store.save(id, &self.cursor, self.version.as_ref()).await?);
        self.dirty = false;
        self.urgent = false;
        self.saved_at = Some(Instant::now());
        Ok(())
    }

    /// As `save`, unless the last write is more recent than the store's pace.
    pub(super) async fn save_if_due(&mut self, store: &dyn CursorStore, id: &CollectorId) -> Result<(), StoreError> {
        if self.due_in(store).is_zero() { self.save(store, id).await } else { Ok(()) }
    }

    /// As `save`, once the store's pace allows it.
    pub(super) async fn save_in_pace(&mut self, store: &dyn CursorStore, id: &CollectorId) -> Result<(), StoreError> {
        sleep(self.due_in(store)).await;
        self.save(store, id).await
    }

    /// The cursor was changed.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Nothing is under way any more: the record that follows says so.
    pub(super) fn at_rest(&mut self) {
        self.dirty |= std::mem::take(&mut self.cursor.draining);
    }

    /// How long until the pace allows the next write.
    pub(super) fn due_in(&self, store: &dyn CursorStore) -> Duration {
        self.saved_at.map_or(Duration::ZERO, |at| store.pace().saturating_sub(at.elapsed()))
    }

    /// Something was learnt that must be written before anything is delivered.
    pub(super) fn must_save(&mut self) {
        self.dirty = true;
        self.urgent = true;
    }

    /// See [`Held::must_save`].
    pub(super) fn urgent(&self) -> bool {
        self.urgent
    }

    /// When the collector was first seen: now, where it is new. What was recorded was rounded up to a whole second.
    pub(super) fn first_seen(&self, now: Timestamp) -> Timestamp {
        self.cursor.first_seen().map_or(now, |time| time.checked_sub(Duration::from_secs(1)).unwrap_or(time))
    }

    /// These are none of our business.
    pub(super) fn decide(&mut self, folder: &str, uids: &UidSet) {
        if !uids.is_empty() {
            self.cursor.folder_mut(folder).decide(uids);
            self.dirty = true;
        }
    }

    pub(super) fn unsaved(&self) -> bool {
        self.dirty
    }

    /// The mailbox was reached with this app: remembered once, for the worked-before rule.
    pub(super) fn worked_with(&mut self, client_id: &str) {
        if self.cursor.worked_with.as_deref() != Some(client_id) {
            self.cursor.worked_with = Some(client_id.to_owned());
            self.dirty = true;
        }
    }
}
