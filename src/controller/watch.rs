//! Watches the objects of one kind in one namespace, or in all, and says which of them changed in a way that matters: generation, our annotations,
//! deletion; never our own writes of status. Keeps what it sees in [`Objects`]. Decides nothing about them.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use kube::api::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_stream};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::Key;
use crate::api;

/// An object as the API server gave it; one that cannot be read blinds nobody for the others.
pub(crate) type Object<K> = DeserializeGuard<K>;

/// A list, or a watch after a failure, that says nothing for so long is begun anew.
const PATIENCE: Duration = Duration::from_secs(120);
/// A watch that has failed for so long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(10 * 60);

/// The objects seen, by name.
#[derive(Debug)]
pub(crate) struct Objects<K>(RwLock<HashMap<Key, Arc<Object<K>>>>);

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

/// What can be watched here.
pub(crate) trait Watched: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static {}

impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static> Watched for K {}

impl<K: Watched> Objects<K> {
    /// The object of this name, as last seen.
    pub(crate) fn find(&self, key: &Key) -> Option<Arc<Object<K>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The names of those that can be read and of which `chosen` is true.
    pub(crate) fn choose(&self, chosen: impl Fn(&Key, &K) -> bool) -> Vec<Key> {
        let objects = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |(key, object): (&Key, &Arc<Object<K>>)| object.0.as_ref().is_ok_and(|object| chosen(key, object)).then(|| key.clone());
        objects.iter().filter_map(fits).collect()
    }

    /// Keeps `object`; whether the change matters.
    fn keep(&self, key: Key, mut object: Object<K>) -> bool {
        slim(object.meta_mut());
        let mut objects = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let matters = objects.get(&key).is_none_or(|before| matters(before, &object));
        objects.insert(key, Arc::new(object));
        matters
    }

    fn drop(&self, key: &Key) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The parts of metadata that nobody here reads are most of an object's memory.
fn slim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.labels = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| api::ANNOTATIONS.contains(&name.as_str()));
    }
}

fn matters<K: Watched>(before: &Object<K>, after: &Object<K>) -> bool {
    let meta = |object: &Object<K>| {
        let m = object.meta();
        (m.uid.clone(), m.generation, m.deletion_timestamp.clone(), m.annotations.clone().filter(|a| !a.is_empty()))
    };
    meta(before) != meta(after) || before.0.as_ref().err().map(|e| &e.error) != after.0.as_ref().err().map(|e| &e.error)
}

/// What a watch tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// The first list is complete.
    Listed,
    /// Works.
    Alive,
    /// Has failed for ten minutes.
    Dead,
}

/// Watches for ever. `changed` is told each key whose object changed in a way that matters, came or went.
pub(crate) async fn watch<K: Watched>(
    api: Api<Object<K>>,
    config: watcher::Config,
    objects: &Objects<K>,
    changed: impl Fn(Key) + Sync,
    health: impl Fn(Health) + Sync,
) {
    let mut watch = Watch { objects, known: HashSet::new(), fresh: HashSet::new(), listing: true, failing_since: None };
    loop {
        let mut stream = std::pin::pin!(watch_stream(api.clone(), config.clone()).default_backoff());
        watch.listing = true;
        loop {
            // A watch on which nothing happens is silent, and kube renews it; a list is not, nor must a failed watch be believed cured.
            let doubtful = watch.listing || watch.failing_since.is_some();
            let next = if doubtful { timeout(PATIENCE, stream.next()).await } else { Ok(stream.next().await) };
            match next {
                Ok(Some(Ok(event))) => {
                    watch.failing_since = None;
                    health(if matches!(event, Event::InitDone) { Health::Listed } else { Health::Alive });
                    watch.see(event, &changed);
                }
                Ok(Some(Err(error))) => {
                    warn!(%error, kind = %K::kind(&()), "watch failed; trying again");
                    watch.fail(&health);
                }
                Ok(None) => break,
                Err(_) => {
                    watch.fail(&health);
                    break;
                }
            }
        }
        info!(kind = %K::kind(&()), "watch begins anew");
    }
}

struct Watch<'a, K> {
    objects: &'a Objects<K>,
    /// What this watch has shown: another namespace's watch must not lose its objects by our list.
    known: HashSet<Key>,
    fresh: HashSet<Key>,
    listing: bool,
    failing_since: Option<Instant>,
}

impl<K: Watched> Watch<'_, K> {
    fn see(&mut self, event: Event<Object<K>>, changed: &impl Fn(Key)) {
        match event {
            Event::Init => {
                self.listing = true;
                self.fresh.clear();
            }
            Event::InitApply(object) => {
                let key = key(&object);
                self.fresh.insert(key.clone());
                self.keep(key, object, changed);
            }
            Event::InitDone => {
                self.listing = false;
                let fresh = std::mem::take(&mut self.fresh);
                for gone in self.known.difference(&fresh) {
                    self.objects.drop(gone);
                    changed(gone.clone());
                }
                self.known = fresh;
            }
            Event::Apply(object) => {
                let key = key(&object);
                self.known.insert(key.clone());
                self.keep(key, object, changed);
            }
            Event::Delete(object) => {
                let key = key(&object);
                self.known.remove(&key);
                self.objects.drop(&key);
                changed(key);
            }
        }
    }

    fn keep(&self, key: Key, object: Object<K>, changed: &impl Fn(Key)) {
        if self.objects.keep(key.clone(), object) {
            changed(key);
        }
    }

    fn fail(&mut self, health: &impl Fn(Health)) {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= DEAD_AFTER {
            health(Health::Dead);
        }
    }
}

fn key<K: Watched>(object: &Object<K>) -> Key {
    Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::MailboxCollector;

    type Object = super::Object<MailboxCollector>;
    type Objects = super::Objects<MailboxCollector>;

    fn object(name: &str, change: impl FnOnce(&mut Value)) -> Object {
        let mut value = json!({
            "apiVersion": "mailbox-collector.io/v1alpha1", "kind": "MailboxCollector",
            "metadata": {"namespace": "tenant", "name": name, "uid": name, "generation": 1, "resourceVersion": "5",
                "managedFields": [{"manager": "kubectl"}], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "spec": {"mailbox": "a@contoso.fr", "credentials": {"secretRef": {"name": "app"}}, "sinks": []},
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    /// Runs the events through a watch; what it said changed, after each.
    fn check(events: Vec<Event<Object>>) -> (Objects, Vec<Vec<String>>) {
        let objects = Objects::default();
        let mut watch = Watch { objects: &objects, known: HashSet::new(), fresh: HashSet::new(), listing: true, failing_since: None };
        let mut told = Vec::new();
        for event in events {
            let changed = RefCell::new(Vec::new());
            watch.see(event, &|key: Key| changed.borrow_mut().push(key.name));
            told.push(changed.into_inner());
        }
        (objects, told)
    }

    #[test]
    fn only_changes_that_matter_are_told() {
        let annotated = |token: &str| object("a", |o| o["metadata"]["annotations"] = json!({"mailbox-collector.io/requestedAt": token}));
        let (objects, told) = check(vec![
            Event::Apply(object("a", |_| {})),
            Event::Apply(object("a", |o| {
                o["metadata"]["resourceVersion"] = json!("6");
                o["status"] = json!({"observedGeneration": 1});
            })),
            Event::Apply(object("a", |o| o["metadata"]["labels"] = json!({"x": "y"}))),
            Event::Apply(annotated("1")),
            Event::Apply(annotated("1")),
            Event::Apply(annotated("2")),
            Event::Apply(object("a", |o| o["metadata"]["generation"] = json!(2))),
            Event::Apply(object("a", |o| {
                o["metadata"]["generation"] = json!(2);
                o["metadata"]["deletionTimestamp"] = json!("2026-11-25T08:00:00Z");
            })),
            Event::Delete(object("a", |_| {})),
        ]);
        let mattered: Vec<bool> = told.iter().map(|names| !names.is_empty()).collect();
        assert_eq!(mattered, [true, false, false, true, false, true, true, true, true]);
        assert_eq!(objects.count(), 0);
    }

    #[test]
    fn an_object_that_is_missing_from_a_new_list_is_gone() {
        let (objects, told) = check(vec![
            Event::Init,
            Event::InitApply(object("a", |_| {})),
            Event::InitApply(object("b", |_| {})),
            Event::InitDone,
            Event::Init,
            Event::InitApply(object("b", |_| {})),
            Event::InitDone,
        ]);
        assert_eq!(told.last().unwrap(), &["a".to_owned()]);
        assert!(told[5].is_empty(), "a restart of the watch told an object that did not change");
        assert_eq!(objects.count(), 1);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_kept_by_name_and_slim() {
        let broken = object("a", |o| o["spec"]["mailbox"] = json!(5));
        assert!(broken.0.is_err());
        let (objects, _) = check(vec![Event::Apply(broken), Event::Apply(object("b", |_| {}))]);
        let find = |name: &str| objects.find(&Key { namespace: "tenant".into(), name: name.into() }).unwrap();
        assert!(find("a").0.is_err());
        assert!(find("b").0.is_ok());
        assert_eq!((find("b").meta().managed_fields.clone(), find("b").annotations().len()), (None, 0));
    }
}
