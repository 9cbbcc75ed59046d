//! From a resource to what it refers to: today the data of one Secret. A short cache with single flight, so that 10,000 collectors of one app
//! read its Secret once. Judges nothing in the Secret; `validate` does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::{Instant, sleep_until, timeout};

use super::validate::{self, SecretData};

/// How long an answer is believed. Shorter than the pause between two tries of a refused credential, so that each of them reads afresh.
const BELIEVED: Duration = Duration::from_secs(10);
/// How long a failure of the API server is believed: the others that wait for the same Secret don't ask again at once.
const FAILURE_BELIEVED: Duration = Duration::from_secs(1);
/// Somebody who asks for a fresh answer gets one, this long after the last GET at the earliest; meanwhile others may come for the same.
const ASKED_APART: Duration = Duration::from_millis(100);
/// Deadline of one GET.
const DEADLINE: Duration = Duration::from_secs(15);
/// Secrets remembered at most.
const REMEMBERED: usize = 4_096;

/// Why what a resource refers to is not at hand.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such Secret.
    #[error("spec.credentials.secretRef: {}", validate::missing_secret(secret))]
    SecretNotFound {
        /// Its name.
        secret: String,
    },
    /// The API server failed or refused.
    #[error("get Secret \"{secret}\": {}", super::answer(cause))]
    Api {
        /// The Secret's name.
        secret: String,
        /// What happened; told above, so no source for a chain to repeat.
        cause: Arc<kube::Error>,
    },
    /// The API server failed to give the object itself, which could not be read from the watch.
    #[error("get the object")]
    Object {
        /// What happened.
        #[source]
        source: Arc<super::publish::Error>,
    },
    /// The API server did not answer within 15 s.
    #[error("get Secret \"{secret}\": no answer from the API server in time")]
    Timeout {
        /// The Secret's name.
        secret: String,
    },
}

/// Reads Secrets by name; never lists or watches them.
pub(crate) struct Secrets {
    client: Client,
    slots: Mutex<HashMap<Which, Arc<Slot>>>,
}

/// Namespace, name, and the key that is read besides the usual ones.
type Which = (String, String, Option<String>);
type Slot = tokio::sync::Mutex<Option<Answer>>;

struct Answer {
    /// When the GET began.
    since: Instant,
    until: Instant,
    known: Result<Arc<SecretData>, Error>,
}

impl Secrets {
    /// Nothing is read yet.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, slots: Mutex::default() }
    }

    /// The data of the Secret `name` in `namespace`, at most ten seconds old, and not older than `asked` where a person asked for it then.
    pub(crate) async fn read(&self, namespace: &str, name: &str, asked: Option<Instant>) -> Result<Arc<SecretData>, Error> {
        self.read_with(namespace, name, None, asked).await
    }

    /// The same, with one key read besides the usual ones.
    pub(crate) async fn read_with(
        &self,
        namespace: &str,
        name: &str,
        key: Option<&str>,
        asked: Option<Instant>,
    ) -> Result<Arc<SecretData>, Error> {
        let slot = self.slot((namespace.to_owned(), name.to_owned(), key.map(str::to_owned)));
        // Whoever comes while a GET is under way waits here for its answer.
        let mut answer = slot.lock().await;
        if let Some(Answer { since, until, known }) = &*answer {
            let outdated = asked.is_some_and(|asked| *since < asked);
            if Instant::now() < *until && !outdated {
                return known.clone();
            }
            if outdated {
                sleep_until(*since + ASKED_APART).await;
            }
        }
        let since = Instant::now();
        let fresh = self.get(namespace, name, key).await;
        let believed = if matches!(fresh, Err(Error::Api { .. } | Error::Timeout { .. })) { FAILURE_BELIEVED } else { BELIEVED };
        *answer = Some(Answer { since, until: Instant::now() + believed, known: fresh.clone() });
        fresh
    }

    async fn get(&self, namespace: &str, name: &str, key: Option<&str>) -> Result<Arc<SecretData>, Error> {
        let secret = || name.to_owned();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match timeout(DEADLINE, api.get_opt(name)).await {
            Ok(Ok(Some(found))) => Ok(Arc::new(SecretData::of(found, key))),
            Ok(Ok(None)) => Err(Error::SecretNotFound { secret: secret() }),
            Ok(Err(cause)) => Err(Error::Api { secret: secret(), cause: Arc::new(cause) }),
            Err(_) => Err(Error::Timeout { secret: secret() }),
        }
    }

    fn slot(&self, which: Which) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= REMEMBERED {
            let now = Instant::now();
            // A slot whose lock is taken is in use; the others are worth keeping only while they are believed.
            slots.retain(|_, slot| slot.try_lock().map_or(true, |answer| answer.as_ref().is_some_and(|answer| now < answer.until)));
        }
        Arc::clone(slots.entry(which).or_default())
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}
