//! Gives a work order to the fleet, or takes it back. Remembers which object (by uid) each name was last assigned for, so that an object
//! deleted and made anew under its old name gets a task of its own. Decides nothing about orders.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Key;
use crate::collect::{Collector, CollectorId};
use crate::fleet::Fleet;

/// What the fleet works on by our order. Calls for one key must not overlap; the work queue sees to that.
#[derive(Debug)]
pub(crate) struct Assignments {
    fleet: Arc<Fleet>,
    by_key: Mutex<HashMap<Key, CollectorId>>,
}

impl Assignments {
    /// Nothing is assigned yet.
    pub(crate) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, by_key: Mutex::default() }
    }

    /// The fleet works by this order from now on.
    pub(crate) async fn give(&self, key: &Key, order: Collector) {
        let id = order.id.clone();
        let before = self.lock().insert(key.clone(), id.clone());
        if let Some(before) = before.filter(|before| *before != id) {
            self.fleet.remove(&before).await;
        }
        self.fleet.assign(Arc::new(order)).await;
    }

    /// The fleet works for this name no longer; returns when the task has ended.
    pub(crate) async fn withdraw(&self, key: &Key) {
        let before = self.lock().remove(key);
        if let Some(before) = before {
            self.fleet.remove(&before).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, CollectorId>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
