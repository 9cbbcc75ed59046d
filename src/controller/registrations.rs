//! AppRegistrations: validates each, asks for a token now and then, writes its status and tells its Events, which no collector does for it.
//! What a collector that refers to one needs is resolved here too. Tokens are shared with the collectors through the one cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::Resource as _;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::difference::{self, Difference};
use super::events;
use super::pace::Bucket;
use super::publish::Publisher;
use super::queue::Queue;
use super::resolve::{self, Secrets};
use super::status::app::{Test, desired_of_app, widened};
use super::status::{Acceptance, Ending};
use super::validate::{self, Registration, SecretData};
use super::watch::Objects;
use super::words::chain;
use super::{FIELD_MANAGER, Key};
use crate::admin::metrics::Metrics;
use crate::api::{self, AppRegistration, AppRegistrationStatus, MailboxCollector};
use crate::collect::Stage;
use crate::diagnosis::{self, Context, Failure, Known, Retry, Status};
use crate::entra::{Credential, Error as Refusal, Token};
use crate::fleet::Fleet;
use crate::schedule;

/// AppRegistrations at work at a time.
pub(crate) const WORKERS: usize = 4;
/// A healthy app is looked at so often; mostly that is a look into the cache.
const AGAIN: Duration = Duration::from_secs(5 * 60);
/// What it refers to and is missing, or its credential is refused: the Secret is read again (law 5).
const SECRET_AGAIN: Duration = Duration::from_secs(15);
/// First and longest pause after a failure of the API server.
const FAILURE_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Transitions of one AppRegistration that may be written at once; then one a minute.
const OWN_TRANSITIONS: u32 = 4;
const OWN_TRANSITION_EVERY: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(15);
/// The permissions of which an app for mail has at least one.
const ROLES: [&str; 2] = ["IMAP.AccessAsApp", "POP.AccessAsApp"];

/// What a collector needs of the AppRegistration that it names.
#[derive(Debug)]
pub(crate) struct Found {
    /// What it says.
    pub registration: Registration,
    /// The Secret that it names, where it names one that is there.
    pub data: Option<Arc<SecretData>>,
}

/// All AppRegistrations of the watched namespaces.
pub(crate) struct Registrations {
    /// As the watch shows them.
    pub objects: Objects<AppRegistration>,
    client: Client,
    fleet: Arc<Fleet>,
    secrets: Arc<Secrets>,
    publisher: Arc<Publisher>,
    metrics: Metrics,
    options: validate::Options,
    queue: Queue<Key>,
    states: Mutex<HashMap<Key, State>>,
}

/// What is known of one besides the object.
#[derive(Clone, Debug)]
struct State {
    uid: String,
    tested: Option<Tested>,
    requested: Option<String>,
    doubted: bool,
    /// It gave no credential when it was last looked at.
    broken: bool,
    /// What was written last, until the watch shows it.
    written: Option<(u64, AppRegistrationStatus)>,
    since_write: Instant,
    own: Bucket,
    failures: u32,
}

#[derive(Clone, Debug)]
struct Tested {
    credential: Arc<Credential>,
    test: Test,
    next: Instant,
}

impl Registrations {
    /// Nothing is known yet.
    pub(crate) fn new(
        client: Client,
        fleet: Arc<Fleet>,
        secrets: Arc<Secrets>,
        publisher: Arc<Publisher>,
        metrics: Metrics,
        options: validate::Options,
    ) -> Self {
        let objects = Objects::default();
        Self { objects, client, fleet, secrets, publisher, metrics, options, queue: Queue::new(), states: Mutex::default() }
    }

    /// It has changed, or may have.
    pub(crate) fn poke(&self, key: &Key) {
        self.queue.now(key.clone());
    }

    /// A collector was refused a token: looks again at once, which costs Entra nothing while that answer is fresh.
    pub(crate) fn doubt(&self, key: &Key) {
        if let Some(state) = self.lock().get_mut(key)
            && state.tested.as_ref().is_some_and(|tested| tested.test.token == Stage::Good)
        {
            state.doubted = true;
            self.queue.now(key.clone());
        }
    }

    /// The AppRegistration `key` and its Secret, for a collector that names it.
    pub(crate) async fn resolve(&self, key: &Key, asked: Option<Instant>) -> Result<Result<Found, validate::Error>, resolve::Error> {
        let not_found = || validate::Error::AppRegistrationNotFound { name: key.name.clone() };
        let failed = |cause| validate::Error::Registration { name: key.name.clone(), cause: Box::new(cause) };
        let Some(object) = self.objects.find(key) else { return Ok(Err(not_found())) };
        let registration = match &object.0 {
            Ok(object) => validate::registration(object, &self.options),
            Err(invalid) => Err(unreadable(&invalid.error)),
        };
        let registration = match registration {
            Ok(registration) => registration,
            Err(error) => return Ok(Err(failed(error))),
        };
        let data = self.data(key, &registration, asked).await?;
        Ok(Ok(Found { registration, data }))
    }

    /// The data of the Secret it names; `None` where it names none, or one that is not there.
    async fn data(
        &self,
        key: &Key,
        registration: &Registration,
        asked: Option<Instant>,
    ) -> Result<Option<Arc<SecretData>>, resolve::Error> {
        let Some((secret, extra)) = registration.secret() else { return Ok(None) };
        match self.secrets.read_with(&key.namespace, secret, extra, asked).await {
            Ok(data) => Ok(Some(data)),
            Err(resolve::Error::SecretNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Works off what is due, for ever. `changed` is told each whose credential is another one than before.
    pub(crate) async fn work(&self, changed: impl Fn(&Key)) {
        loop {
            let key = self.queue.next().await;
            let again = match self.reconcile(&key, &changed).await {
                Ok(again) => again,
                Err(error) => Some(Instant::now() + self.failed(&key, &chain(&error))),
            };
            if let Some(again) = again {
                self.queue.at(key.clone(), again);
            }
            self.queue.done(&key);
        }
    }

    async fn reconcile(&self, key: &Key, changed: &impl Fn(&Key)) -> Result<Option<Instant>, resolve::Error> {
        let Some(object) = self.objects.find(key) else {
            self.lock().remove(key);
            self.metrics.credential_ends("AppRegistration", &key.namespace, &key.name, None);
            return Ok(None);
        };
        let meta = kube::Resource::meta(&*object);
        if meta.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let now = Instant::now();
        let state = self.state(key, meta.uid.as_deref().unwrap_or_default(), now);
        let requested = meta.annotations.as_ref().and_then(|all| all.get(api::REQUESTED_AT)).cloned();
        let asked = (requested.is_some() && requested != state.requested).then_some(now);
        let judged = match self.resolve(key, asked).await? {
            Ok(found) => found.registration.credential(found.data.as_deref()),
            Err(validate::Error::Registration { cause, .. }) => Err(*cause),
            Err(error) => Err(error),
        };
        let mut acceptance = super::acceptance(meta, Ok(()));
        let (test, mut again) = match judged {
            Ok(credential) => {
                acceptance.secret_expiration = credential.secret_expiration;
                acceptance.warns = Ending::of(&credential.proof);
                let before = state.tested.as_ref().filter(|tested| tested.credential.same(&credential));
                // Those who refer to it need not wait for their own next look.
                if state.broken || (state.tested.is_some() && before.is_none()) {
                    changed(key);
                }
                let tested = match before.filter(|tested| now < tested.next && asked.is_none() && !state.doubted) {
                    Some(tested) => tested.clone(),
                    None => self.test(Arc::new(credential), before.map(|tested| &tested.test), meta.uid.as_deref(), asked).await,
                };
                let refused = matches!(&tested.test.token, Stage::Bad(diagnosis) if diagnosis.reason.status() == Status::False);
                let again = if refused { tested.next.min(now + SECRET_AGAIN) } else { tested.next };
                let test = tested.test.clone();
                self.note(key, requested, Some(tested));
                (Some(test), again)
            }
            Err(error) => {
                acceptance.outcome = Err(super::refusal(&error));
                self.note(key, requested, None);
                (None, now + SECRET_AGAIN)
            }
        };
        self.metrics.credential_ends("AppRegistration", &key.namespace, &key.name, acceptance.secret_expiration);
        if let Some(sooner) = self.publish(key, &object, &acceptance, test.as_ref(), asked.is_some()).await {
            again = again.min(sooner);
        }
        Ok(Some(again))
    }

    /// Asks for a token.
    async fn test(&self, credential: Arc<Credential>, before: Option<&Test>, uid: Option<&str>, asked: Option<Instant>) -> Tested {
        let tokens = &self.fleet.environment().tokens;
        let authority = tokens.authority(&credential).to_owned();
        let answer = tokens.token(&credential, asked).await;
        let facts = |token: &Token| {
            let roles = token.claims.roles.clone().unwrap_or_default();
            Some((token.expiration, roles, token.claims.object_id.clone()))
        };
        let (diagnosis, facts) = match &answer {
            Ok(token) if ROLES.iter().any(|role| diagnosis::check_claims(&token.claims, role)) => (None, facts(token)),
            Ok(token) => {
                // The next test must not be answered from the cache: consent may have come meanwhile.
                tokens.forget(&credential).await;
                (Some(diagnosed(&Failure::Claims(&token.claims), &credential, &authority)), facts(token))
            }
            Err(error) => (Some(diagnosed(&Failure::Token(error), &credential, &authority)), None),
        };
        let Some(diagnosis) = diagnosis else {
            return Tested { credential, test: Test { token: Stage::Good, trouble: None, facts }, next: Instant::now() + AGAIN };
        };
        let (since, failures) = before.and_then(|test| test.trouble).unwrap_or((Timestamp::now(), 0));
        let failures = failures.saturating_add(1);
        let passing = matches!(answer, Err(Refusal::Busy { .. } | Refusal::Unreachable { .. }));
        let retry = if diagnosis.retry == Retry::AtOnce { Retry::BackOff { at_least: None } } else { diagnosis.retry };
        let pause = schedule::next_attempt(&retry, failures, schedule::phase(uid.unwrap_or_default()));
        debug!(client_id = credential.client_id, reason = diagnosis.reason.as_str(), passing, "no token");
        let test = Test { token: Stage::Bad(Box::new(diagnosis)), trouble: Some((since, failures)), facts };
        Tested { credential, test, next: Instant::now() + pause }
    }

    /// Computes, compares and perhaps writes the status; when to come again for it.
    async fn publish(
        &self,
        key: &Key,
        object: &super::watch::Object<AppRegistration>,
        acceptance: &Acceptance,
        test: Option<&Test>,
        asked: bool,
    ) -> Option<Instant> {
        let state = self.lock().get(key).cloned()?;
        let meta = kube::Resource::meta(object);
        let current = match (&state.written, &object.0) {
            (Some((version, written)), _) if super::publish::version_of(meta.resource_version.as_deref()) < *version => written.clone(),
            (_, Ok(object)) => object.status.clone().unwrap_or_default(),
            (Some((_, written)), Err(_)) => written.clone(),
            (None, Err(_)) => AppRegistrationStatus::default(),
        };
        let now = Timestamp::now();
        let (status, next_change) = desired_of_app(acceptance, test, &current, now);
        let again = next_change.map(|at| Instant::now() + Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let (before, after) = (widened(&current), widened(&status));
        match difference::difference(&before, &after, 1, state.since_write.elapsed()) {
            // Who asks wants to read the present words, not only the present reason.
            Difference::Nothing if !(asked && before.conditions != after.conditions) => return again,
            Difference::Nothing | Difference::Answer => {}
            Difference::Heartbeat | Difference::Transition => {
                let mut states = self.lock();
                if let Some(Err(free_at)) = states.get_mut(key).map(|state| state.own.take(Instant::now())) {
                    return Some(again.map_or(free_at, |again| again.min(free_at)));
                }
            }
        }
        // All transitions of the process share one pace.
        self.publisher.turn().await;
        match self.write(key, &state.uid, &status, object.0.is_ok()).await {
            Ok(version) => {
                if let Some(state) = self.lock().get_mut(key) {
                    (state.written, state.since_write, state.failures) = (Some((version, status.clone())), Instant::now(), 0);
                }
                self.publisher.tell_of_app(key, &state.uid, events::notices(&before, &after)).await;
                again
            }
            Err(error) => Some(Instant::now() + self.failed(key, &error.to_string())),
        }
    }

    async fn write(&self, key: &Key, uid: &str, status: &AppRegistrationStatus, readable: bool) -> Result<u64, super::publish::Error> {
        let patch = json!({
            "apiVersion": AppRegistration::api_version(&()),
            "kind": AppRegistration::kind(&()),
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": status,
        });
        let resource = ApiResource::erase::<AppRegistration>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        self.metrics.wrote("status");
        let apply = PatchParams::apply(FIELD_MANAGER).force();
        let merge = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let (apply_patch, merge_patch) = (Patch::Apply(&patch), Patch::Merge(&patch));
        let written =
            if readable { api.patch_status(&key.name, &apply, &apply_patch) } else { api.patch_status(&key.name, &merge, &merge_patch) };
        let written = timeout(DEADLINE, written).await.map_err(|_| super::publish::Error::Timeout)??;
        Ok(super::publish::version_of(written.metadata.resource_version.as_deref()))
    }

    fn state(&self, key: &Key, uid: &str, now: Instant) -> State {
        let fresh = || State {
            uid: uid.to_owned(),
            tested: None,
            requested: None,
            doubted: false,
            broken: false,
            written: None,
            since_write: now,
            own: Bucket::new(OWN_TRANSITIONS, OWN_TRANSITION_EVERY, now),
            failures: 0,
        };
        let mut states = self.lock();
        let state = states.entry(key.clone()).or_insert_with(fresh);
        if state.uid != uid {
            *state = fresh();
        }
        state.clone()
    }

    fn note(&self, key: &Key, requested: Option<String>, tested: Option<Tested>) {
        if let Some(state) = self.lock().get_mut(key) {
            state.broken = tested.is_none();
            (state.requested, state.tested, state.doubted) = (requested, tested, false);
        }
    }

    fn failed(&self, key: &Key, error: &str) -> Duration {
        let mut states = self.lock();
        let failures = states.get_mut(key).map_or(1, |state| {
            state.failures = state.failures.saturating_add(1);
            state.failures
        });
        drop(states);
        let pause = FAILURE_AGAIN.1.min(FAILURE_AGAIN.0 * 2_u32.saturating_pow(failures.min(10)));
        warn!(
            namespace = key.namespace,
            name = key.name,
            error,
            failures,
            retry_seconds = pause.as_secs(),
            "AppRegistration not dealt with"
        );
        pause
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The AppRegistration to which the collector `key` refers.
pub(crate) fn named_by(key: &Key, object: &MailboxCollector) -> Option<Key> {
    let named = object.spec.credentials.app_registration_ref.as_ref()?;
    Some(Key { namespace: key.namespace.clone(), name: named.name.clone() })
}

/// An app by itself has neither mailbox nor folder, and no diagnosis of its token speaks of them.
fn diagnosed(failure: &Failure<'_>, credential: &Credential, authority: &str) -> diagnosis::Diagnosis {
    let context = Context {
        mailbox: "",
        role: ROLES[0],
        tenant_id: &credential.tenant_id,
        client_id: &credential.client_id,
        object_id: None,
        credential_name: &credential.name,
        secret_looks_like_guid: credential.looks_like_guid(),
        worked_before: false,
        folder: "",
        authority,
        imap_host: credential.cloud.exchange_host(),
        known: Known::default(),
    };
    diagnosis::diagnose(failure, &context)
}

fn unreadable(error: &str) -> validate::Error {
    validate::Error::Field {
        field: "spec".to_owned(),
        problem: super::bounded(error, 300),
        way_out: "an older schema let it in; correct it (kubectl explain appregistration.spec) and apply the object again",
    }
}

impl std::fmt::Debug for Registrations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registrations").finish_non_exhaustive()
    }
}
