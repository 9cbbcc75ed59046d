//! A work queue with due times: each key stands in it at most once, and is with one worker at a time.
//! Knows neither what the keys mean nor what is done with them. Its size follows the number of objects, since a key that comes again joins the one waiting.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Keys and when they are due. The earlier of two requests for a key wins; a key that is with a worker is given out again only after [`Queue::done`].
#[derive(Debug)]
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    order: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    running: HashSet<K>,
    held: HashMap<K, Instant>,
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        let state = State { order: BTreeSet::new(), due: HashMap::new(), running: HashSet::new(), held: HashMap::new() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Asks for `key` at `when`, or earlier if that was asked for before.
    pub(crate) fn at(&self, key: K, when: Instant) {
        let mut state = self.lock();
        if state.running.contains(&key) {
            let held = state.held.entry(key).or_insert(when);
            *held = when.min(*held);
            return;
        }
        state.schedule(key, when);
        drop(state);
        self.changed.notify_one();
    }

    /// Asks for `key` as soon as a worker is free.
    pub(crate) fn now(&self, key: K) {
        self.at(key, Instant::now());
    }

    /// The next key that is due; waits until there is one. The caller owes a [`Queue::done`] for it.
    pub(crate) async fn next(&self) -> K {
        loop {
            let changed = self.changed.notified();
            let wake = {
                let mut state = self.lock();
                match state.order.first().cloned() {
                    Some((when, key)) if when <= Instant::now() => {
                        state.order.remove(&(when, key.clone()));
                        state.due.remove(&key);
                        state.running.insert(key.clone());
                        let more = !state.order.is_empty();
                        drop(state);
                        if more {
                            // One permit is kept at most: the next worker must look for itself.
                            self.changed.notify_one();
                        }
                        return key;
                    }
                    Some((when, _)) => Some(when),
                    None => None,
                }
            };
            match wake {
                Some(when) => {
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(when) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// The work on `key` has ended; what was asked for meanwhile is scheduled now.
    pub(crate) fn done(&self, key: &K) {
        let mut state = self.lock();
        state.running.remove(key);
        if let Some(when) = state.held.remove(key) {
            state.schedule(key.clone(), when);
            drop(state);
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Nothing below panics while it holds the lock, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord + Hash> State<K> {
    fn schedule(&mut self, key: K, when: Instant) {
        if let Some(before) = self.due.get(&key) {
            if *before <= when {
                return;
            }
            self.order.remove(&(*before, key.clone()));
        }
        self.order.insert((when, key.clone()));
        self.due.insert(key, when);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_requests_wins_and_the_key_comes_once() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.at("a", start + Duration::from_secs(60));
        queue.at("a", start + Duration::from_secs(5));
        queue.at("a", start + Duration::from_secs(30));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&"a");
        assert!(timeout(Duration::from_secs(600), queue.next()).await.is_err(), "one request remained");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_being_worked_on_comes_again_only_after_it_is_done() {
        let queue = Queue::new();
        queue.now("a");
        assert_eq!(queue.next().await, "a");
        queue.now("a");
        queue.now("b");
        assert_eq!(queue.next().await, "b");
        assert!(timeout(Duration::from_secs(60), queue.next()).await.is_err(), "the key was with two workers at once");
        queue.done(&"a");
        assert_eq!(timeout(Duration::from_secs(1), queue.next()).await, Ok("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn many_workers_share_what_comes_at_one_instant() {
        let queue = Arc::new(Queue::new());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { timeout(Duration::from_secs(10), queue.next()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        for key in 0..4 {
            queue.now(key);
        }
        let mut seen = Vec::new();
        for worker in workers {
            seen.push(worker.await.unwrap().expect("a worker slept while work was due"));
        }
        seen.sort_unstable();
        assert_eq!(seen, vec![0, 1, 2, 3]);
    }
}
