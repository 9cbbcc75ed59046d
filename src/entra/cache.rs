//! The cache behind `Tokens`: single flight, early renewal, failures kept for a while. It knows keys and outcomes, not how a token is asked for.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::request::Answer;
use super::{Error, Token};

/// A keyed hash of everything a token depends on.
pub(super) type Key = [u8; 32];

/// Most apps remembered; the one unused for longest gives way.
const MOST_ENTRIES: usize = 2_048;
/// A token with less left is renewed (or with less than half its lifetime).
const RENEW_BELOW: Duration = Duration::from_secs(5 * 60);
/// The old token is served meanwhile, if it has at least this left.
const SERVE_ABOVE: Duration = Duration::from_secs(60);
/// How young a token must be to withstand doubt.
const BELIEVED: Duration = Duration::from_secs(15);
/// How long a refusal is believed: a little less than its app's collectors wait before they try again, so that ten thousand of them make one
/// request. A changed credential has a key of its own, and a person who asks is answered afresh.
const REFUSAL_BELIEVED: Duration = Duration::from_secs(4 * 60);
/// Somebody who asks for a fresh answer gets one, this long after the last at the earliest.
const ASKED_APART: Duration = Duration::from_secs(1);
/// A broken network is tried more often: asking costs Entra nothing.
const UNREACHABLE_FOR: Duration = Duration::from_secs(5);
/// MSAL's default for this endpoint where a busy answer has no Retry-After (msal/throttled_http_client.py).
const BUSY_FOR: Duration = Duration::from_secs(60);
/// AADSTS50196, "client request loop": Entra wants minutes.
const LOOP_FOR: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: Mutex<HashMap<Key, Arc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    state: Mutex<State>,
    /// Held by the one who asks Entra. A caller that is dropped frees it, and the next in the queue asks.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    used: Instant,
    kept: Option<Kept>,
    failed: Option<Failed>,
}

#[derive(Clone, Debug)]
struct Failed {
    error: Error,
    asked_at: Instant,
    until: Instant,
}

#[derive(Clone, Debug)]
struct Kept {
    token: Arc<Token>,
    asked_at: Instant,
    since: Instant,
    renew_at: Instant,
    ends_at: Instant,
    doubted: bool,
}

/// What the cache knows at a moment.
enum Look {
    Fresh(Arc<Token>),
    /// To be renewed, and good enough until that is done.
    Renew(Arc<Token>),
    Failed(Error),
    Nothing,
}

impl Cache {
    /// The token of `key`; `fetch` is called where there is none or it is to be renewed, by one caller at a time for each key.
    /// `asked`: a person wants a new answer since then; a refusal and a doubted token from before it count for nothing.
    pub(super) async fn token<F, A>(&self, key: Key, asked: Option<Instant>, fetch: F) -> Result<Arc<Token>, Error>
    where
        F: FnOnce() -> A,
        A: Future<Output = Result<Answer, Error>>,
    {
        let entry = self.entry(key);
        let (flight, old) = match entry.look(asked) {
            Look::Fresh(token) => return Ok(token),
            Look::Failed(error) => return Err(error),
            Look::Renew(old) => match entry.flight.try_lock() {
                Ok(flight) => (flight, Some(old)),
                Err(_renewing) => return Ok(old),
            },
            Look::Nothing => (entry.flight.lock().await, None),
        };
        // Whoever held the flight before may have brought the answer.
        let old = match entry.look(asked) {
            Look::Fresh(token) => return Ok(token),
            Look::Failed(error) => return Err(error),
            Look::Renew(token) => Some(token),
            Look::Nothing => old,
        };
        if asked.is_some() {
            sleep_until(entry.may_ask_at()).await;
        }
        let began = Instant::now();
        let fetched = fetch().await;
        let outcome = entry.keep(began, fetched);
        drop(flight);
        outcome.or_else(|error| old.ok_or(error))
    }

    pub(super) fn doubt(&self, key: &Key) {
        if let Some(entry) = lock(&self.entries).get(key)
            && let Some(kept) = &mut lock(&entry.state).kept
        {
            kept.doubted = true;
        }
    }

    fn entry(&self, key: Key) -> Arc<Entry> {
        let now = Instant::now();
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.get(&key) {
            lock(&entry.state).used = now;
            return Arc::clone(entry);
        }
        if entries.len() >= MOST_ENTRIES
            && let Some(oldest) = entries.iter().min_by_key(|(_, entry)| lock(&entry.state).used).map(|(key, _)| *key)
        {
            entries.remove(&oldest);
        }
        let state = State { used: now, kept: None, failed: None };
        let entry = Arc::new(Entry { state: Mutex::new(state), flight: tokio::sync::Mutex::new(()) });
        entries.insert(key, Arc::clone(&entry));
        entry
    }
}

impl Entry {
    fn look(&self, asked: Option<Instant>) -> Look {
        let now = Instant::now();
        let before_asked = |asked_at: Instant| asked.is_some_and(|asked| asked_at < asked);
        let state = lock(&self.state);
        // Nobody's wish is above Entra's to be left alone.
        let stands =
            |failed: &&Failed| failed.until > now && (!before_asked(failed.asked_at) || matches!(failed.error, Error::Busy { .. }));
        let failed = state.failed.as_ref().filter(stands);
        let kept = state.kept.as_ref().filter(|kept| kept.ends_at > now);
        match (kept, failed) {
            (Some(kept), _) if now < kept.renew_at && !(kept.doubted && (now >= kept.since + BELIEVED || before_asked(kept.asked_at))) => {
                Look::Fresh(Arc::clone(&kept.token))
            }
            // Entra has just refused or is out of order: the old token is all there is.
            (Some(kept), Some(_)) if kept.ends_at - now >= SERVE_ABOVE => Look::Fresh(Arc::clone(&kept.token)),
            (_, Some(failed)) => Look::Failed(remaining(&failed.error, failed.until - now)),
            (Some(kept), None) if kept.ends_at - now >= SERVE_ABOVE => Look::Renew(Arc::clone(&kept.token)),
            (Some(_) | None, None) => Look::Nothing,
        }
    }

    fn may_ask_at(&self) -> Instant {
        let state = lock(&self.state);
        let last = state.kept.as_ref().map(|kept| kept.asked_at).max(state.failed.as_ref().map(|failed| failed.asked_at));
        last.map_or_else(Instant::now, |last| last + ASKED_APART)
    }

    fn keep(&self, began: Instant, fetched: Result<Answer, Error>) -> Result<Arc<Token>, Error> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        match fetched {
            Ok(Answer { token, lifetime }) => {
                let token = Arc::new(token);
                let renew_at = now + (lifetime - RENEW_BELOW.min(lifetime / 2));
                state.kept = Some(Kept {
                    token: Arc::clone(&token),
                    asked_at: began,
                    since: now,
                    renew_at,
                    ends_at: now + lifetime,
                    doubted: false,
                });
                state.failed = None;
                Ok(token)
            }
            Err(error) => {
                state.failed = Some(Failed { error: error.clone(), asked_at: began, until: now + believed_for(&error) });
                Err(error)
            }
        }
    }
}

fn believed_for(error: &Error) -> Duration {
    match error {
        Error::Unreachable { .. } | Error::NoAssertion(_) => UNREACHABLE_FOR,
        Error::Refused { .. } => REFUSAL_BELIEVED,
        Error::CertificateExpired { .. } => BELIEVED,
        Error::Busy { retry_after: Some(hint), .. } => *hint,
        Error::Busy { code: Some(50196), retry_after: None, .. } => LOOP_FOR,
        Error::Busy { retry_after: None, .. } | Error::Malformed(_) => BUSY_FOR,
    }
}

/// The kept failure as one who comes later must see it: the time to wait has become shorter.
fn remaining(error: &Error, left: Duration) -> Error {
    match error {
        Error::Busy { status, code, retry_after: _ } => Error::Busy { status: *status, code: *code, retry_after: Some(left) },
        Error::Unreachable { .. }
        | Error::Refused { .. }
        | Error::CertificateExpired { .. }
        | Error::NoAssertion(_)
        | Error::Malformed(_) => error.clone(),
    }
}

/// A panic while the lock is held cannot leave anything half-done here: each critical section is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use jiff::Timestamp;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::entra::Claims;

    const APP: Key = [1; 32];

    /// Answers from a script, after a second each; every answer's token is its number.
    #[derive(Default)]
    struct Entra {
        asked: AtomicU32,
        cache: Cache,
    }

    impl Entra {
        async fn token(&self, answer: Result<u64, Error>) -> Result<String, Error> {
            self.token_of(APP, answer).await
        }

        async fn token_of(&self, key: Key, answer: Result<u64, Error>) -> Result<String, Error> {
            self.token_asked(key, None, answer).await
        }

        async fn token_asked(&self, key: Key, asked: Option<Instant>, answer: Result<u64, Error>) -> Result<String, Error> {
            let fetch = || async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
                answer.map(|seconds| Answer {
                    token: Token { secret: number.to_string().into(), expiration: Timestamp::UNIX_EPOCH, claims: Claims::default() },
                    lifetime: Duration::from_secs(seconds),
                })
            };
            self.cache.token(key, asked, fetch).await.map(|token| token.secret.expose_secret().to_owned())
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }
    }

    fn refused() -> Error {
        Error::Refused {
            status: 401,
            error: "invalid_client".into(),
            code: Some(7_000_215),
            text: String::new(),
            trace_id: None,
            correlation_id: None,
            shown: None,
        }
    }

    fn busy(retry_after: Option<u64>) -> Error {
        Error::Busy { status: 429, code: None, retry_after: retry_after.map(Duration::from_secs) }
    }

    fn ok(token: &str) -> Result<String, Error> {
        Ok(token.to_owned())
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_collectors_of_one_app_ask_once() {
        for answer in [Ok(3_600), Err(refused()), Err(busy(None))] {
            let entra = Entra::default();
            let outcomes = futures::future::join_all((0..10_000).map(|_| entra.token(answer.clone()))).await;
            assert_eq!(entra.asked(), 1, "{answer:?}");
            assert!(outcomes.iter().all(|outcome| outcome.is_ok() == answer.is_ok()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_gets_an_answer_from_after_the_asking_and_many_who_ask_get_one() {
        let entra = Entra::default();
        assert_eq!(entra.token(Err(refused())).await, Err(refused()));
        assert_eq!(entra.token(Ok(3_600)).await, Err(refused()), "believed for a while");
        let asked = Some(Instant::now());
        assert_eq!(entra.token_asked(APP, asked, Err(refused())).await, Err(refused()));
        assert_eq!(entra.asked(), 2);
        assert_eq!(entra.token_asked(APP, asked, Ok(3_600)).await, Err(refused()), "that was the answer to this asking");
        pass(2).await;
        let now = Some(Instant::now());
        let outcomes = futures::future::join_all((0..1_000).map(|_| entra.token_asked(APP, now, Ok(3_600)))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == ok("3")), "{:?}", outcomes.first());
        assert_eq!(entra.token_asked(APP, Some(Instant::now()), Ok(3_600)).await, ok("3"), "a good token is as good as a new one");
        entra.cache.doubt(&APP);
        assert_eq!(entra.token(Ok(3_600)).await, ok("3"), "too young to be doubted");
        assert_eq!(entra.token_asked(APP, Some(Instant::now()), Ok(3_600)).await, ok("4"));
    }

    #[tokio::test(start_paused = true)]
    async fn asking_again_and_again_asks_entra_once_a_second_and_not_at_all_while_it_is_busy() {
        let entra = Entra::default();
        let start = Instant::now();
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(1)).await;
            let fetch = || async { Err(refused()) };
            assert!(entra.cache.token(APP, Some(Instant::now()), fetch).await.is_err());
        }
        assert_eq!(start.elapsed(), Duration::from_millis(1) + 9 * ASKED_APART);
        pass(240).await;
        assert_eq!(entra.token(Err(busy(Some(60)))).await, Err(busy(Some(60))));
        pass(20).await;
        assert_eq!(entra.token_asked(APP, Some(Instant::now()), Ok(3_600)).await, Err(busy(Some(40))));
        assert_eq!(entra.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn apps_do_not_wait_for_each_other() {
        let entra = Entra::default();
        let began = Instant::now();
        futures::future::join_all((0..100).map(|app| entra.token_of([app; 32], Ok(3_600)))).await;
        assert_eq!((entra.asked(), began.elapsed()), (100, Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_early_and_served_meanwhile() {
        let entra = Entra::default();
        assert_eq!(entra.token(Ok(3_600)).await, ok("1"));
        pass(3_299).await;
        assert_eq!(entra.token(Ok(3_600)).await, ok("1"));
        assert_eq!(entra.asked(), 1);
        pass(1).await;
        let (renewing, meanwhile) = tokio::join!(entra.token(Ok(3_600)), entra.token(Ok(3_600)));
        assert_eq!((renewing, meanwhile, entra.asked()), (ok("2"), ok("1"), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_serves_the_old_token_while_it_lasts() {
        let entra = Entra::default();
        assert_eq!(entra.token(Ok(3_600)).await, ok("1"));
        pass(3_400).await;
        assert_eq!(entra.token(Err(busy(Some(150)))).await, ok("1"));
        assert_eq!(entra.token(Ok(3_600)).await, ok("1"), "Entra is not asked again before the hint");
        pass(139).await;
        assert_eq!(entra.token(Ok(3_600)).await, ok("1"), "a minute is left");
        pass(1).await;
        assert_eq!(entra.token(Ok(3_600)).await, Err(busy(Some(10))));
        pass(10).await;
        assert_eq!(entra.token(Ok(3_600)).await, ok("3"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_token_is_renewed_at_half_its_life() {
        let entra = Entra::default();
        assert_eq!(entra.token(Ok(8)).await, ok("1"));
        pass(3).await;
        assert_eq!(entra.token(Ok(8)).await, ok("1"));
        pass(1).await;
        assert_eq!(entra.token(Ok(8)).await, ok("2"));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_believed_for_their_time_and_no_longer() {
        let unreachable = Error::Unreachable { authority: "login".into(), text: String::new() };
        let looping = Error::Busy { status: 400, code: Some(50196), retry_after: None };
        for (failure, seconds) in
            [(refused(), 240), (busy(None), 60), (busy(Some(7)), 7), (looping, 300), (unreachable, 5), (Error::Malformed("x"), 60)]
        {
            let entra = Entra::default();
            assert_eq!(entra.token(Err(failure.clone())).await, Err(failure.clone()));
            pass(seconds - 1).await;
            assert!(entra.token(Ok(3_600)).await.is_err(), "{failure:?}");
            pass(1).await;
            assert_eq!(entra.token(Ok(3_600)).await, ok("2"), "{failure:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubted_token_is_asked_for_anew_but_not_more_than_every_fifteen_seconds() {
        let entra = Entra::default();
        assert_eq!(entra.token(Ok(3_600)).await, ok("1"));
        entra.cache.doubt(&APP);
        pass(14).await;
        assert_eq!(entra.token(Ok(3_600)).await, ok("1"));
        pass(1).await;
        assert_eq!(entra.token(Ok(3_600)).await, ok("2"));
        pass(60).await;
        assert_eq!(entra.token(Ok(3_600)).await, ok("2"), "the new one is not doubted");
        entra.cache.doubt(&APP);
        assert_eq!(entra.token(Err(busy(None))).await, ok("2"), "one mailbox's doubt costs the others nothing while Entra is down");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_caller_leaves_the_flight_to_the_next() {
        let entra = Entra::default();
        let dropped = tokio::time::timeout(Duration::from_millis(500), entra.token(Ok(3_600)));
        let (dropped, next) = tokio::join!(dropped, entra.token(Ok(3_600)));
        assert!(dropped.is_err());
        assert_eq!((next, entra.asked()), (ok("1"), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_entries_is_bounded_and_the_least_used_gives_way() {
        let entra = Entra::default();
        let key = |app: usize| -> Key {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&app.to_be_bytes());
            key
        };
        for app in 0..=MOST_ENTRIES {
            assert!(entra.token_of(key(app), Ok(100_000)).await.is_ok());
            assert!(entra.token_of(key(0), Ok(100_000)).await.is_ok());
        }
        assert_eq!(entra.cache.entries.lock().unwrap().len(), MOST_ENTRIES);
        assert_eq!(entra.token_of(key(0), Ok(1)).await, ok("1"));
        assert_eq!(entra.token_of(key(1), Ok(1)).await, ok(&(MOST_ENTRIES + 2).to_string()));
    }
}
