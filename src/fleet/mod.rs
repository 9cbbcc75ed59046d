//! The task table: one collecting task per work order, started, replaced (cancel, join, start) and stopped here. A task that panics or loses
//! its claim is started again after a pause; no other notices. Knows nothing of Kubernetes and nothing of mail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use crate::collect::{Collector, CollectorId, End, Environment, Progress, Task, Wanted};

/// A task that is cancelled has this long to finish the batch in hand, record and log out.
const STOP_DEADLINE: Duration = Duration::from_secs(45);
/// Pause before a task that panicked or lost its claim starts anew.
const RESTART_PAUSE: Duration = Duration::from_secs(30);

/// All collecting tasks of this process.
#[derive(Debug)]
pub struct Fleet {
    environment: Arc<Environment>,
    tasks: Mutex<HashMap<CollectorId, Entry>>,
    latest: std::sync::RwLock<HashMap<CollectorId, watch::Receiver<Progress>>>,
    changes: mpsc::UnboundedSender<CollectorId>,
}

#[derive(Debug)]
struct Entry {
    order: Arc<Collector>,
    progress: watch::Sender<Progress>,
    poke: watch::Sender<Option<String>>,
    cancel: CancellationToken,
    join: JoinHandle<()>,
}

impl Fleet {
    /// The table, and the notices "this collector's progress has changed". Each collector has at most one notice waiting, so the channel is
    /// bounded by the number of tasks.
    pub fn new(environment: Arc<Environment>) -> (Self, mpsc::UnboundedReceiver<CollectorId>) {
        let (changes, notices) = mpsc::unbounded_channel();
        (Self { environment, tasks: Mutex::default(), latest: std::sync::RwLock::default(), changes }, notices)
    }

    /// Starts collecting by this order. The same order again is a no-op, a changed one replaces the task, a new `requested_at` alone wakes it.
    /// Calls for one collector must not overlap (a reconciler's don't); a task that is slow to end keeps no other collector waiting.
    pub async fn assign(&self, order: Arc<Collector>) {
        let replaced = {
            let mut tasks = self.tasks.lock().await;
            if let Some(entry) = tasks.get_mut(&order.id).filter(|entry| entry.order.same_work(&order) && !entry.join.is_finished()) {
                if entry.order.requested_at != order.requested_at {
                    entry.poke.send_replace(order.requested_at.clone());
                }
                if entry.order.generation != order.generation {
                    entry.progress.send_modify(|progress| progress.generation = order.generation);
                }
                entry.order = order;
                return;
            }
            tasks.remove(&order.id)
        };
        if let Some(entry) = replaced {
            stop(&order.id, entry).await;
        }
        let entry = self.start(Arc::clone(&order));
        let mut tasks = self.tasks.lock().await;
        tasks.insert(order.id.clone(), entry);
        self.environment.metrics.collectors(tasks.len());
    }

    fn start(&self, order: Arc<Collector>) -> Entry {
        let kept = self.progress(&order.id).unwrap_or_default();
        // A replaced task's facts stay until the new one knows better; its troubles were about the old order.
        let (progress, receiver) = watch::channel(kept.for_new_order(order.generation));
        if let Ok(mut latest) = self.latest.write() {
            latest.insert(order.id.clone(), receiver.clone());
        }
        let (poke, poked) = watch::channel(order.requested_at.clone());
        let cancel = CancellationToken::new();
        let notices = tell_changes(order.id.clone(), receiver, self.changes.clone());
        let supervised = supervise(Arc::clone(&order), Arc::clone(&self.environment), progress.clone(), poked, cancel.clone());
        let join = tokio::spawn(async move {
            tokio::select! {
                () = supervised => {}
                () = notices => {}
            }
        });
        Entry { order, progress, poke, cancel, join }
    }

    /// Ends the task, if there is one, and waits until it has ended.
    pub async fn remove(&self, id: &CollectorId) {
        let removed = self.tasks.lock().await.remove(id);
        if let Some(entry) = removed {
            stop(id, entry).await;
        }
        if let Ok(mut latest) = self.latest.write() {
            latest.remove(id);
        }
        self.environment.metrics.collectors(self.tasks.lock().await.len());
    }

    /// What all tasks share.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The latest value, or `None` without a task.
    pub fn progress(&self, id: &CollectorId) -> Option<Progress> {
        self.latest.read().ok()?.get(id).map(|progress| progress.borrow().clone())
    }

    /// Ends all tasks at once: each finishes the batch in hand, records and logs out.
    pub async fn stop(&self) {
        let entries: Vec<_> = self.tasks.lock().await.drain().collect();
        for (_, entry) in &entries {
            entry.cancel.cancel();
        }
        futures::future::join_all(entries.into_iter().map(|(id, entry)| async move { stop(&id, entry).await })).await;
    }
}

async fn stop(id: &CollectorId, mut entry: Entry) {
    entry.cancel.cancel();
    if timeout(STOP_DEADLINE, &mut entry.join).await.is_err() {
        error!(namespace = id.namespace, name = id.name, "task did not end in time; aborted");
        entry.join.abort();
    }
}

/// Runs the task until it is cancelled; whatever else ends it is followed by a new start.
async fn supervise(
    order: Arc<Collector>,
    environment: Arc<Environment>,
    progress: watch::Sender<Progress>,
    poked: watch::Receiver<Option<String>>,
    cancel: CancellationToken,
) {
    loop {
        let task =
            Task::new(Arc::clone(&order), Arc::clone(&environment), Wanted::Forever, progress.clone(), poked.clone(), cancel.clone());
        // Its own tokio task, so that a panic (a parser's, say) ends this collector's session and nothing else.
        match AbortOnDropHandle::new(tokio::spawn(task.run())).await {
            Ok(End::Cancelled) => return,
            Ok(end) => warn!(namespace = order.id.namespace, name = order.id.name, ?end, "task ended; it starts again"),
            Err(_panic) => error!(namespace = order.id.namespace, name = order.id.name, "task panicked; it starts again"),
        }
        tokio::select! {
            () = sleep(RESTART_PAUSE) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// One notice per change; changes that come while a notice waits are in the value that is then read.
async fn tell_changes(id: CollectorId, mut progress: watch::Receiver<Progress>, changes: mpsc::UnboundedSender<CollectorId>) {
    while progress.changed().await.is_ok() {
        progress.mark_unchanged();
        if changes.send(id.clone()).is_err() {
            // Nobody listens any more: the process is ending, and the task is to finish the batch in hand.
            return std::future::pending().await;
        }
        // A drain tells after each set; ten notices a second are plenty for whoever writes status.
        sleep(Duration::from_millis(100)).await;
    }
}
