//! The watches of one process taken together: ready when each has listed, dead when one is.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use kube::{Api, Client};
use tokio::sync::watch;

use super::watch::{Health, Object, Watched};
use crate::admin::Readiness;

/// All watches of a process.
#[derive(Debug)]
pub(crate) struct Scopes {
    unlisted: Mutex<HashSet<usize>>,
    dead: Mutex<HashSet<usize>>,
    count: Mutex<usize>,
    readiness: Arc<Readiness>,
}

/// One watch's part in it.
#[derive(Debug)]
pub(crate) struct Scope {
    index: usize,
    scopes: Arc<Scopes>,
    listed: watch::Sender<bool>,
}

impl Scopes {
    /// No watch yet.
    pub(crate) fn new(readiness: Arc<Readiness>) -> Arc<Self> {
        Arc::new(Self { unlisted: Mutex::default(), dead: Mutex::default(), count: Mutex::default(), readiness })
    }

    /// One more; take all before the first of them tells anything. The receiver is true once it has listed.
    pub(crate) fn one(self: &Arc<Self>) -> (Scope, watch::Receiver<bool>) {
        let mut count = lock(&self.count);
        let index = *count;
        *count += 1;
        lock(&self.unlisted).insert(index);
        let (listed, receiver) = watch::channel(false);
        (Scope { index, scopes: Arc::clone(self), listed }, receiver)
    }
}

impl Scope {
    /// What its watch tells.
    pub(crate) fn tell(&self, health: Health) {
        let Scopes { unlisted, dead, readiness, .. } = &*self.scopes;
        let alive = {
            let mut dead = lock(dead);
            if health == Health::Dead {
                dead.insert(self.index);
            } else {
                dead.remove(&self.index);
            }
            dead.is_empty()
        };
        readiness.watch_dead(!alive);
        if health == Health::Listed {
            self.listed.send_replace(true);
            let mut unlisted = lock(unlisted);
            unlisted.remove(&self.index);
            if unlisted.is_empty() {
                readiness.listed();
            }
        }
    }
}

/// What to watch of one kind: everything, or each of these namespaces.
pub(crate) fn apis<K>(client: &Client, namespaces: &[String]) -> Vec<Api<Object<K>>>
where
    K: Watched + kube::Resource<Scope = kube::core::NamespaceResourceScope>,
{
    if namespaces.is_empty() {
        vec![Api::all(client.clone())]
    } else {
        let distinct: HashSet<&String> = namespaces.iter().collect();
        distinct.into_iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
