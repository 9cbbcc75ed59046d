//! The single writer of status: computes what it should say, compares, and writes by server-side apply within the bounds of law 5. Events follow
//! what was written. What a status says is `status`'s, whether it is worth a write is `difference`'s.
//!
//! Nothing waits here for a permit while it holds a worker: a write that must wait goes to a lane, and comes back with a permit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::difference::{self, Difference};
use super::events::{self, Events};
use super::pace::{Bucket, Pace};
use super::queue::Queue;
use super::status::{self, Acceptance};
use super::validate::Credentials;
use super::watch::Objects;
use super::{FIELD_MANAGER, Key};
use crate::admin::metrics::Metrics;
use crate::api::{MailboxCollector, MailboxCollectorStatus};
use crate::collect::CollectorId;
use crate::fleet::Fleet;

/// Workers that compute and write.
pub(crate) const WORKERS: usize = 8;
/// Transitions a second, at most; ten may come at once.
const TRANSITIONS_PER_SECOND: u32 = 5;
const TRANSITIONS_AT_ONCE: u32 = 10;
/// Transitions of one object that may come at once; then one a minute. What a person does to the object fills it again.
const OWN_TRANSITIONS: u32 = 4;
const OWN_TRANSITION_EVERY: Duration = Duration::from_secs(60);
/// Several changes of one moment make one write.
const GATHER: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(15);
const LONGEST_RETRY: Duration = Duration::from_secs(5 * 60);

/// What is known of an object besides the object itself.
#[derive(Clone, Debug)]
struct Record {
    id: CollectorId,
    acceptance: Acceptance,
    credentials: Option<Credentials>,
    /// Messages collected before this process's present count, and that count.
    counted: (u64, Option<u64>),
    /// What was written last, until the watch shows it.
    written: Option<(u64, MailboxCollectorStatus)>,
    since_write: Instant,
    own: Bucket,
    permit: bool,
    failures: u32,
}

/// Publishes statuses.
#[derive(Debug)]
pub(crate) struct Publisher {
    client: Kube,
    fleet: Arc<Fleet>,
    objects: Arc<Objects<MailboxCollector>>,
    events: Events,
    metrics: Metrics,
    records: Mutex<HashMap<Key, Record>>,
    due: Queue<Key>,
    transitions: Lane,
    heartbeats: Lane,
}

/// Keys that wait for a permit.
#[derive(Debug)]
struct Lane {
    waiting: Queue<Key>,
    pace: Pace,
}

/// What becomes of a write that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Write,
    /// Nothing to write, or it waits in a lane.
    Leave,
    At(Instant),
}

impl Lane {
    fn verdict(&self, key: &Key) -> Verdict {
        if self.pace.take().is_ok() {
            return Verdict::Write;
        }
        self.waiting.now(key.clone());
        Verdict::Leave
    }
}

/// `kube::Client` without a `Debug` of its own.
struct Kube(Client);

impl std::fmt::Debug for Kube {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Publisher {
    /// Nothing is published yet.
    pub(crate) fn new(
        client: Client,
        fleet: Arc<Fleet>,
        objects: Arc<Objects<MailboxCollector>>,
        pod: Option<String>,
        metrics: Metrics,
    ) -> Self {
        let lane = |per_second, at_once| Lane { waiting: Queue::new(), pace: Pace::per_second(per_second, at_once) };
        Self {
            events: Events::new(client.clone(), pod, metrics.clone()),
            metrics,
            client: Kube(client),
            fleet,
            objects,
            records: Mutex::default(),
            due: Queue::new(),
            transitions: lane(TRANSITIONS_PER_SECOND, TRANSITIONS_AT_ONCE),
            heartbeats: lane(difference::HEARTBEATS_PER_SECOND, difference::HEARTBEATS_PER_SECOND),
        }
    }

    /// Notes what a reconciliation found, and publishes it.
    pub(crate) fn accept(&self, key: Key, id: CollectorId, acceptance: Acceptance, credentials: Option<Credentials>) {
        let now = Instant::now();
        {
            let mut records = self.lock();
            match records.get_mut(&key).filter(|record| record.id == id) {
                Some(record) => {
                    record.acceptance = acceptance;
                    record.credentials = credentials;
                }
                None => {
                    let own = Bucket::new(OWN_TRANSITIONS, OWN_TRANSITION_EVERY, now);
                    let fresh = Record {
                        id,
                        acceptance,
                        credentials,
                        counted: (0, None),
                        written: None,
                        since_write: now,
                        own,
                        permit: false,
                        failures: 0,
                    };
                    records.insert(key.clone(), fresh);
                }
            }
        }
        self.due.at(key, now + GATHER);
    }

    /// Waits for a permit to write a transition of something else than a collector.
    pub(crate) async fn turn(&self) {
        self.transitions.pace.wait().await;
    }

    /// Tells what happened to an AppRegistration.
    pub(crate) async fn tell_of_app(&self, key: &Key, uid: &str, notices: Vec<events::Notice>) {
        self.events.publish_of_app(key, uid, notices).await;
    }

    /// Something may have changed.
    pub(crate) fn poke(&self, key: Key, after: Duration) {
        self.due.at(key, Instant::now() + GATHER + after);
    }

    /// The object is gone; where its credential was.
    pub(crate) fn forget(&self, key: &Key) -> Option<Credentials> {
        self.lock().remove(key)?.credentials
    }

    /// Works off what is due, for ever.
    pub(crate) async fn work(&self) {
        loop {
            let key = self.due.next().await;
            if let Some(again) = self.publish(&key).await {
                self.due.at(key.clone(), again);
            }
            self.due.done(&key);
        }
    }

    /// Gives permits to transitions, for ever.
    pub(crate) async fn permit_transitions(&self) {
        self.permit(&self.transitions).await;
    }

    /// Gives permits to heartbeats, for ever.
    pub(crate) async fn permit_heartbeats(&self) {
        self.permit(&self.heartbeats).await;
    }

    async fn permit(&self, lane: &Lane) {
        loop {
            let key = lane.waiting.next().await;
            lane.pace.wait().await;
            if let Some(record) = self.lock().get_mut(&key) {
                record.permit = true;
            }
            self.due.now(key.clone());
            lane.waiting.done(&key);
        }
    }

    /// Computes, compares and perhaps writes one status. Returns when to come again.
    async fn publish(&self, key: &Key) -> Option<Instant> {
        let object = self.objects.find(key)?;
        let record = self.lock().get(key).cloned()?;
        if object.meta().uid.as_deref() != Some(record.id.uid.as_str()) || object.meta().deletion_timestamp.is_some() {
            return None;
        }
        let current = match self.current(&object.0, &record).await {
            Ok(current) => current,
            Err(error) => return Some(self.failed(key, &record, &error)),
        };
        let progress = self.fleet.progress(&record.id);
        let collected = self.count(key, current.messages.as_ref().map_or(0, |m| m.collected), progress.as_ref().map(|p| p.collected));
        let now = Timestamp::now();
        let desired = status::desired(&record.acceptance, progress.as_ref(), collected, &current, now);
        let again = desired.next_change.map(|at| Instant::now() + Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let difference = difference::difference(&current, &desired.status, self.objects.count(), record.since_write.elapsed());
        match self.verdict(key, difference) {
            Verdict::Write => {}
            Verdict::Leave => return again,
            Verdict::At(free_at) => return Some(again.map_or(free_at, |again| again.min(free_at))),
        }
        match self.write(&record.id, &desired.status, object.0.is_ok()).await {
            Ok(version) => {
                self.wrote(key, &record.id, version, &desired.status);
                debug!(namespace = key.namespace, name = key.name, ?difference, "status written");
                self.events.publish(&record.id, record.credentials.as_ref(), events::notices(&current, &desired.status)).await;
                again
            }
            Err(error) => {
                let again = self.failed(key, &record, &error);
                if object.0.is_err() {
                    // Rules on the field may make the API server refuse any write of the object; an Event can still tell.
                    self.events.publish(&record.id, None, events::notices(&current, &desired.status)).await;
                }
                Some(again)
            }
        }
    }

    /// What the object says now: as the watch shows it, or as written a moment ago.
    async fn current(
        &self,
        object: &Result<MailboxCollector, kube::core::error_boundary::InvalidObject>,
        record: &Record,
    ) -> Result<MailboxCollectorStatus, Error> {
        match (object, &record.written) {
            (Ok(object), Some((version, written))) if version_of(object.meta().resource_version.as_deref()) < *version => {
                Ok(written.clone())
            }
            (Ok(object), _) => Ok(object.status.clone().unwrap_or_default()),
            (Err(_), Some((_, written))) => Ok(written.clone()),
            // Its status could not be read along with it; a restart must not write it again.
            (Err(_), None) => {
                let key = Key { namespace: record.id.namespace.clone(), name: record.id.name.clone() };
                let status = self.raw(&key).await?.and_then(|found| found.data.get("status").cloned());
                Ok(status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default())
            }
        }
    }

    /// The object as it is, whatever is in it.
    pub(crate) async fn raw(&self, key: &Key) -> Result<Option<DynamicObject>, Error> {
        Ok(timeout(DEADLINE, self.dynamic(&key.namespace).get_opt(&key.name)).await.map_err(|_| Error::Timeout)??)
    }

    fn count(&self, key: &Key, told: i64, counted: Option<u64>) -> u64 {
        let mut records = self.lock();
        let Some(record) = records.get_mut(key) else { return 0 };
        total(&mut record.counted, u64::try_from(told).unwrap_or(0), counted)
    }

    /// Whether the write may be made now; if not, it comes again by itself or through its lane.
    fn verdict(&self, key: &Key, difference: Difference) -> Verdict {
        let now = Instant::now();
        let mut records = self.lock();
        let Some(record) = records.get_mut(key) else { return Verdict::Leave };
        let permitted = std::mem::take(&mut record.permit);
        match difference {
            Difference::Nothing => Verdict::Leave,
            Difference::Heartbeat | Difference::Transition | Difference::Answer if permitted => Verdict::Write,
            Difference::Heartbeat => self.heartbeats.verdict(key),
            Difference::Transition => match record.own.take(now) {
                Ok(()) => self.transitions.verdict(key),
                Err(free_at) => Verdict::At(free_at),
            },
            Difference::Answer => {
                record.own = Bucket::new(OWN_TRANSITIONS, OWN_TRANSITION_EVERY, now);
                self.transitions.verdict(key)
            }
        }
    }

    fn wrote(&self, key: &Key, id: &CollectorId, version: u64, status: &MailboxCollectorStatus) {
        if let Some(record) = self.lock().get_mut(key).filter(|record| record.id == *id) {
            record.written = Some((version, status.clone()));
            record.since_write = Instant::now();
            record.failures = 0;
        }
    }

    fn failed(&self, key: &Key, record: &Record, error: &Error) -> Instant {
        let failures = record.failures.saturating_add(1);
        if let Some(record) = self.lock().get_mut(key) {
            record.failures = failures;
        }
        let pause = LONGEST_RETRY.min(Duration::from_secs(1) * 2_u32.saturating_pow(failures.min(10)));
        warn!(namespace = key.namespace, name = key.name, %error, failures, retry_seconds = pause.as_secs(), "status not written");
        Instant::now() + pause
    }

    async fn write(&self, id: &CollectorId, status: &MailboxCollectorStatus, readable: bool) -> Result<u64, Error> {
        let patch = json!({
            "apiVersion": MailboxCollector::api_version(&()),
            "kind": MailboxCollector::kind(&()),
            // With the uid, an object made anew under the same name is not given its predecessor's status.
            "metadata": {"name": id.name, "namespace": id.namespace, "uid": id.uid},
            "status": status,
        });
        let api = self.dynamic(&id.namespace);
        self.metrics.wrote("status");
        let apply = PatchParams::apply(FIELD_MANAGER).force();
        let merge = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let (apply_patch, merge_patch) = (Patch::Apply(&patch), Patch::Merge(&patch));
        // Server-side apply refuses an object whose spec has another type than the schema (seen: kube-apiserver 1.37, "failed to create typed live
        // object"), and that is what makes an object unreadable.
        let written =
            if readable { api.patch_status(&id.name, &apply, &apply_patch) } else { api.patch_status(&id.name, &merge, &merge_patch) };
        let written = timeout(DEADLINE, written).await.map_err(|_| Error::Timeout)??;
        Ok(version_of(written.metadata.resource_version.as_deref()))
    }

    /// Untyped: the answer of the API server may hold a spec that cannot be read.
    fn dynamic(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.0.clone(), namespace, &ApiResource::erase::<MailboxCollector>(&()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages in all: what the object said when this process first saw it (`told`), and what this process collected since. `state` is that base and
/// the task's last count.
fn total(state: &mut (u64, Option<u64>), told: u64, counted: Option<u64>) -> u64 {
    let (mut base, before) = *state;
    match (before, counted) {
        (None, _) => base = told,
        // Another task counts from the beginning.
        (Some(before), Some(now)) if now < before => base = base.saturating_add(before),
        (_, _) => {}
    }
    let now = counted.or(before);
    *state = (base, now);
    base.saturating_add(now.unwrap_or(0))
}

/// Resource versions of one kind may be compared as numbers (KEP-5504). One that is no number counts as old, so that what the watch shows wins.
pub(crate) fn version_of(version: Option<&str>) -> u64 {
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Why a status could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server failed or refused.
    #[error("{}", super::answer(.0))]
    Api(#[from] kube::Error),
    /// It did not answer within 15 s.
    #[error("no answer from the API server in time")]
    Timeout,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_goes_on_where_the_object_stood_whatever_task_counts() {
        let mut state = (0, None);
        assert_eq!(total(&mut state, 100, None), 100, "no task yet");
        assert_eq!(total(&mut state, 100, Some(0)), 100);
        assert_eq!(total(&mut state, 100, Some(7)), 107);
        assert_eq!(total(&mut state, 107, Some(9)), 109, "what was written is not counted twice");
        assert_eq!(total(&mut state, 109, None), 109, "suspended");
        assert_eq!(total(&mut state, 109, Some(2)), 111, "a new task counts from the beginning");
    }
}
