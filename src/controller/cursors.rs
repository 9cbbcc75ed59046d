//! Keeps cursors in `MailboxCursor` objects: one for each collector, of its name, written by compare-and-swap on `resourceVersion`.
//! It never reads and tries again on its own: a lost comparison is the caller's (law 3). What a cursor means is `cursor`'s.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client, Resource};
use tokio::time::timeout;

use super::pace::Pace;
use super::status::bounded;
use crate::admin::metrics::Metrics;
use crate::api::{self, MailboxCollector, MailboxCursor, MailboxCursorSpec};
use crate::collect::{CollectorId, CursorStore, StoreError, Version};
use crate::cursor::{Cursor, Holder};

/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(30);
/// Shortest time between two writes of one cursor (law 5).
const PACE: Duration = Duration::from_secs(2);
/// Writes a second of this replica, at most (law 5).
const WRITES_PER_SECOND: u32 = 50;
/// Longest error text passed on, in bytes.
const LONGEST_TEXT: usize = 300;

/// The cursors of a cluster.
pub struct KubeCursors {
    client: Client,
    holder: Holder,
    metrics: Metrics,
    writes: Pace,
}

impl KubeCursors {
    /// `holder` names this installation and pod; its epoch counts for nothing.
    pub fn new(client: Client, holder: Holder, metrics: Metrics) -> Self {
        Self { client, holder, metrics, writes: Pace::per_second(WRITES_PER_SECOND, WRITES_PER_SECOND) }
    }

    fn api(&self, id: &CollectorId) -> Api<MailboxCursor> {
        Api::namespaced(self.client.clone(), &id.namespace)
    }

    async fn read(&self, id: &CollectorId) -> Result<Option<(Cursor, Version)>, StoreError> {
        let api: Api<kube::core::DynamicObject> =
            Api::namespaced_with(self.client.clone(), &id.namespace, &kube::core::ApiResource::erase::<MailboxCursor>(&()));
        // Untyped, so that a spec which is not ours to read is told apart from a server that fails.
        let found = timeout(DEADLINE, api.get_opt(&id.name)).await.map_err(|_| no_answer())?.map_err(|error| unavailable(&error))?;
        let Some(object) = found else { return Ok(None) };
        if let Some(text) = not_ours(&object.metadata, id) {
            return Err(StoreError::Unavailable(text));
        }
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let cursor = serde_json::from_value(spec).map_err(unreadable)?;
        Ok(Some((cursor, version(&object.metadata)?)))
    }

    async fn write(&self, id: &CollectorId, cursor: &Cursor, before: Option<&Version>) -> Result<Version, StoreError> {
        let object = object(id, cursor, before)?;
        self.writes.wait().await;
        self.metrics.wrote("cursor");
        let api = self.api(id);
        let parameters = PostParams { field_manager: Some(super::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let written = timeout(DEADLINE, async {
            match before {
                None => api.create(&parameters, &object).await,
                Some(_) => api.replace(&id.name, &parameters, &object).await,
            }
        });
        match written.await {
            Ok(Ok(written)) => version(&written.metadata),
            Ok(Err(error)) => Err(refused(&error, before)),
            Err(_) => Err(no_answer()),
        }
    }
}

impl CursorStore for KubeCursors {
    fn load<'a>(&'a self, id: &'a CollectorId) -> BoxFuture<'a, Result<Option<(Cursor, Version)>, StoreError>> {
        self.read(id).boxed()
    }

    fn save<'a>(
        &'a self,
        id: &'a CollectorId,
        cursor: &'a Cursor,
        version: Option<&'a Version>,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        self.write(id, cursor, version).boxed()
    }

    fn pace(&self) -> Duration {
        PACE
    }

    fn holder(&self) -> Option<Holder> {
        Some(self.holder.clone())
    }
}

impl std::fmt::Debug for KubeCursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeCursors").field("holder", &self.holder).finish_non_exhaustive()
    }
}

/// The whole object: a replace leaves nothing of what others wrote, and only our labels on it.
fn object(id: &CollectorId, cursor: &Cursor, before: Option<&Version>) -> Result<MailboxCursor, StoreError> {
    let spec: MailboxCursorSpec = serde_json::to_value(cursor).and_then(serde_json::from_value).map_err(unreadable)?;
    let owner = OwnerReference {
        api_version: MailboxCollector::api_version(&()).into_owned(),
        kind: MailboxCollector::kind(&()).into_owned(),
        name: id.name.clone(),
        uid: id.uid.clone(),
        controller: Some(true),
        // Nothing waits for a cursor: it must not hold back the deletion of its collector.
        block_owner_deletion: None,
    };
    let metadata = ObjectMeta {
        name: Some(id.name.clone()),
        namespace: Some(id.namespace.clone()),
        labels: Some([(api::MANAGED_BY.to_owned(), api::MANAGED_BY_VALUE.to_owned())].into()),
        owner_references: Some(vec![owner]),
        resource_version: before.map(|version| version.0.clone()),
        ..ObjectMeta::default()
    };
    Ok(MailboxCursor { metadata, spec })
}

/// Why a cursor is not ours to use (law 4): that of an object deleted and made anew under the same name is not adopted. The garbage collector
/// is about to remove it, unless somebody kept it alive (`kubectl delete --cascade=orphan`): hence the way out.
fn not_ours(metadata: &ObjectMeta, id: &CollectorId) -> Option<String> {
    let CollectorId { namespace, name, uid } = id;
    if metadata.deletion_timestamp.is_some() {
        return Some(format!("MailboxCursor {name} of an earlier object is being deleted; this one waits until it is gone"));
    }
    let ours = metadata.owner_references.iter().flatten().any(|owner| owner.uid == *uid);
    (!ours).then(|| {
        format!("MailboxCursor {name} belongs to an earlier object of this name; if it stays: kubectl -n {namespace} delete mailboxcursor {name}")
    })
}

fn version(metadata: &ObjectMeta) -> Result<Version, StoreError> {
    metadata.resource_version.clone().map(Version).ok_or_else(|| StoreError::Unreadable("the object has no resourceVersion".to_owned()))
}

fn refused(error: &kube::Error, before: Option<&Version>) -> StoreError {
    match error {
        kube::Error::Api(status) if status.code == 409 => StoreError::Conflict,
        // Gone since it was read. (A create that finds no namespace or kind is trouble of the cluster.)
        kube::Error::Api(status) if status.code == 404 && before.is_some() => StoreError::Conflict,
        other => unavailable(other),
    }
}

fn unavailable(error: &kube::Error) -> StoreError {
    StoreError::Unavailable(super::answer(error))
}

fn no_answer() -> StoreError {
    StoreError::Unavailable("no answer from the API server in time".to_owned())
}

fn unreadable(error: serde_json::Error) -> StoreError {
    StoreError::Unreadable(bounded(&error.to_string(), LONGEST_TEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(uid: &str) -> CollectorId {
        CollectorId { namespace: "tenant".into(), name: "invoices".into(), uid: uid.into() }
    }

    #[test]
    fn a_cursor_object_is_owned_by_its_collector_and_carries_the_version_it_replaces() {
        let mut cursor = Cursor::default();
        cursor.holder = Some(Holder { install: "i".into(), pod: "p".into(), epoch: 3 });
        cursor.worked_with = Some("app".into());
        let made = object(&id("u-1"), &cursor, Some(&Version("17".into()))).unwrap();
        assert_eq!((made.metadata.name.as_deref(), made.metadata.namespace.as_deref()), (Some("invoices"), Some("tenant")));
        assert_eq!(made.metadata.resource_version.as_deref(), Some("17"));
        let owner = &made.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str(), owner.controller, owner.block_owner_deletion),
            ("MailboxCollector", "u-1", Some(true), None)
        );
        assert_eq!(not_ours(&made.metadata, &id("u-1")), None);
        let foreign = not_ours(&made.metadata, &id("u-2")).expect("a cursor of another object was adopted");
        assert!(foreign.ends_with("kubectl -n tenant delete mailboxcursor invoices"), "{foreign}");
        let back: Cursor = serde_json::from_value(serde_json::to_value(&made.spec).unwrap()).unwrap();
        assert_eq!(back, cursor);
    }

    #[test]
    fn only_a_lost_comparison_is_a_conflict() {
        let api =
            |code: u16| kube::Error::Api(kube::core::Status { code, message: "x".repeat(10_000), ..kube::core::Status::default() }.boxed());
        let held = Version("17".into());
        assert_eq!(refused(&api(409), None), StoreError::Conflict);
        assert_eq!(refused(&api(409), Some(&held)), StoreError::Conflict);
        assert_eq!(refused(&api(404), Some(&held)), StoreError::Conflict);
        for (code, before) in [(404, None), (403, Some(&held)), (500, None), (429, Some(&held))] {
            let StoreError::Unavailable(text) = refused(&api(code), before) else { panic!("{code} is no conflict") };
            assert!(text.len() <= LONGEST_TEXT);
        }
    }
}
