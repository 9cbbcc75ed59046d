//! The reconciler: watches MailboxCollectors and takes each through resolve → validate → assign → publish, one file and one error type each.
//! It touches no mail socket, and it fails only when the API server does; every other trouble ends in status.
//!
//! | file | what |
//! |---|---|
//! | [`watch`], [`scopes`] | what there is, and what of it changed |
//! | [`resolve`] | what an object refers to: its Secret |
//! | [`registrations`] | `AppRegistration`s: tested, their status, who refers to them |
//! | [`assertions`] | tokens of service accounts |
//! | [`validate`] | the work order, or why there is none (also for the command line) |
//! | [`assign`] | the order goes to the fleet, or is taken back |
//! | [`publish`] | the single writer of status: [`status`] says what, [`difference`] whether, [`events`] tells transitions |
//! | [`cursors`] | keeps cursors in `MailboxCursor` objects for the tasks |
//! | [`queue`], [`pace`] | each object with one worker at a time; writes within bounds |

pub mod assertions;
mod assign;
pub mod cursors;
mod difference;
mod events;
mod mailboxes;
mod pace;
mod publish;
mod queue;
mod registrations;
mod resolve;
mod scopes;
mod status;
pub mod validate;
mod verdict;
mod watch;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::watcher;
use kube::{Client, Resource};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::assign::Assignments;
use self::mailboxes::Mailboxes;
use self::publish::Publisher;
use self::queue::Queue;
use self::registrations::Registrations;
use self::resolve::Secrets;
use self::scopes::Scopes;
use self::status::{Acceptance, Refusal, bounded};
use self::validate::Credentials;
use self::verdict::{acceptance, credential_refused, refusal, unreadable, warns_soon};
use self::watch::Objects;
pub(crate) use self::words::answer;
use self::words::chain;
use crate::admin::Readiness;
use crate::admin::metrics::Metrics;
use crate::api::{AppRegistration, MailboxCollector};
use crate::collect::{Collector, CollectorId};
use crate::fleet::Fleet;

/// The field manager of everything that is written, and the reporting controller of Events.
pub(crate) const FIELD_MANAGER: &str = "mailbox-collector";

/// Reconciliations at a time.
const CONCURRENCY: usize = 32;
/// How often a refused credential's Secret is read again (law 5).
const CREDENTIAL_AGAIN: Duration = Duration::from_secs(15);
/// How often the Secret of a credential that ends soon is read again.
const EXPIRING_AGAIN: Duration = Duration::from_secs(60 * 60);
/// How often an object that is not accepted is looked at again besides its changes.
const REFUSED_AGAIN: Duration = Duration::from_secs(5 * 60);
/// How soon what settles is looked at again before the first list is complete.
const UNTIL_LISTED: Duration = Duration::from_millis(100);
/// What an object refers to and is missing, and failures of the API server: first and longest pause.
const MISSING_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
const FAILURE_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A refused credential is read again before the refusal is published: the Secret may have changed since.
const REFUSAL_WAITS: Duration = Duration::from_secs(1);
/// AppRegistrations are listed first; the collectors are not kept waiting for longer.
const REGISTRATIONS_LISTED: Duration = Duration::from_secs(20);
/// Workers have this long to finish what they have in hand.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// What to watch, and who we are.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Namespaces to watch; none: all of them.
    pub namespaces: Vec<String>,
    /// Label selector of the objects to watch.
    pub label_selector: Option<String>,
    /// Name of this pod, in Events.
    pub pod: Option<String>,
    /// What this process can do.
    pub validate: validate::Options,
}

/// A client of the API server that starts at most `per_second` requests a second; more wait for their turn.
///
/// # Errors
/// If the configuration cannot be used (certificates, proxies).
pub fn client(config: kube::Config, per_second: u32) -> Result<Client, kube::Error> {
    let limit = tower::limit::RateLimitLayer::new(u64::from(per_second.max(1)), Duration::from_secs(1));
    Ok(kube::client::ClientBuilder::try_from(config)?.with_layer(&limit).build())
}

/// Why the controller ended although it was not told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part of it panicked: a fault of the program. The process must start anew.
    #[error("a part of the controller ended by a fault of the program")]
    Panicked(#[source] tokio::task::JoinError),
    /// A part of it returned although it works for ever.
    #[error("a part of the controller ended too early")]
    Ended,
}

/// Name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Reconciles until `stop`. `notices` are the fleet's "progress has changed"; `readiness` is told of the first list and of dead watches.
/// The fleet's tasks are left running; whoever made the fleet stops it.
pub async fn run(
    client: Client,
    options: Options,
    fleet: Arc<Fleet>,
    notices: UnboundedReceiver<CollectorId>,
    metrics: Metrics,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let objects = Arc::new(Objects::default());
    let secrets = Arc::new(Secrets::new(client.clone()));
    let publisher =
        Arc::new(Publisher::new(client.clone(), Arc::clone(&fleet), Arc::clone(&objects), options.pod.clone(), metrics.clone()));
    let registrations = Registrations::new(
        client.clone(),
        Arc::clone(&fleet),
        Arc::clone(&secrets),
        Arc::clone(&publisher),
        metrics.clone(),
        options.validate,
    );
    let reconciler = Arc::new(Reconciler {
        publisher,
        secrets,
        registrations: Arc::new(registrations),
        metrics,
        assignments: Assignments::new(Arc::clone(&fleet)),
        queue: Queue::new(),
        attempts: Mutex::default(),
        validate: options.validate,
        readiness: Arc::clone(&readiness),
        mailboxes: Mailboxes::default(),
        objects,
        fleet,
    });
    let mut parts = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let reconciler = Arc::clone(&reconciler);
        let stop = stop.clone();
        parts.spawn(async move { reconciler.work(&stop).await });
    }
    for _ in 0..publish::WORKERS {
        let reconciler = Arc::clone(&reconciler);
        spawn(&mut parts, &stop, async move { reconciler.publisher.work().await });
    }
    {
        let reconciler = Arc::clone(&reconciler);
        spawn(&mut parts, &stop, async move { reconciler.publisher.permit_transitions().await });
    }
    {
        let reconciler = Arc::clone(&reconciler);
        spawn(&mut parts, &stop, async move { reconciler.publisher.permit_heartbeats().await });
    }
    {
        let reconciler = Arc::clone(&reconciler);
        spawn(&mut parts, &stop, async move { reconciler.listen(notices).await });
    }
    let scopes = Scopes::new(readiness);
    let mut listed = Vec::new();
    for api in scopes::apis::<AppRegistration>(&client, &options.namespaces) {
        let (scope, first_list) = scopes.one();
        listed.push(first_list);
        let reconciler = Arc::clone(&reconciler);
        spawn(&mut parts, &stop, async move {
            let changed = |key| reconciler.registration_changed(&key);
            let objects = &reconciler.registrations.objects;
            watch::watch(api, watcher::Config::default(), objects, changed, |health| scope.tell(health)).await;
        });
    }
    for _ in 0..registrations::WORKERS {
        let reconciler = Arc::clone(&reconciler);
        spawn(&mut parts, &stop, async move { reconciler.registrations.work(|key| reconciler.registration_changed(key)).await });
    }
    let watched: Vec<_> =
        scopes::apis::<MailboxCollector>(&client, &options.namespaces).into_iter().map(|api| (scopes.one().0, api)).collect();
    for (scope, api) in watched {
        let reconciler = Arc::clone(&reconciler);
        let config =
            options.label_selector.as_deref().map_or_else(watcher::Config::default, |labels| watcher::Config::default().labels(labels));
        let listed = listed.clone();
        spawn(&mut parts, &stop, async move {
            // A collector must not be told that its AppRegistration is not there before all of them are known.
            let all = futures::future::join_all(
                listed.into_iter().map(|mut listed| async move { listed.wait_for(|listed| *listed).await.is_ok() }),
            );
            if tokio::time::timeout(REGISTRATIONS_LISTED, all).await.is_err() {
                warn!("AppRegistrations cannot be listed; collectors that refer to one must wait");
            }
            let changed = |key: Key| {
                let object = reconciler.objects.find(&key);
                let mailbox = object.as_ref().and_then(|object| object.0.as_ref().ok()).map(|object| object.spec.mailbox.as_str());
                // Whether one of them may collect may hang on this one.
                reconciler.mailboxes.changed(&key, mailbox).into_iter().for_each(|neighbour| reconciler.queue.now(neighbour));
                reconciler.queue.now(key);
            };
            watch::watch(api, config, &reconciler.objects, changed, |health| scope.tell(health)).await;
        });
    }
    info!(namespaces = ?options.namespaces, selector = options.label_selector, "watching MailboxCollectors");
    let result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = parts.join_next() => if stop.is_cancelled() { Ok(()) } else { ended.map_err(Error::Panicked).and(Err(Error::Ended)) },
    };
    stop.cancel();
    let finish = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_DEADLINE, finish).await.is_err() {
        warn!("reconciliations did not end in time; aborted");
    }
    result
}

fn spawn(parts: &mut JoinSet<()>, stop: &CancellationToken, part: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    parts.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = part => {}
        }
    });
}

struct Reconciler {
    objects: Arc<Objects<MailboxCollector>>,
    fleet: Arc<Fleet>,
    secrets: Arc<Secrets>,
    registrations: Arc<Registrations>,
    assignments: Assignments,
    publisher: Arc<Publisher>,
    metrics: Metrics,
    queue: Queue<Key>,
    /// Tries in a row that ended in a missing reference or a failure of the API server.
    attempts: Mutex<HashMap<Key, u32>>,
    validate: validate::Options,
    readiness: Arc<Readiness>,
    mailboxes: Mailboxes,
}

/// When a reconciled object is looked at again besides its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Never,
    After(Duration),
    BackOff((Duration, Duration)),
}

impl Reconciler {
    async fn work(&self, stop: &CancellationToken) {
        loop {
            let key = tokio::select! {
                () = stop.cancelled() => return,
                key = self.queue.next() => key,
            };
            let again = match self.reconcile(&key).await {
                Ok(again) => again,
                Err(error) => {
                    warn!(namespace = key.namespace, name = key.name, error = %chain(&error), "reconciliation failed");
                    Again::BackOff(FAILURE_AGAIN)
                }
            };
            if let Some(pause) = self.pause(&key, again) {
                self.queue.at(key.clone(), Instant::now() + pause);
            }
            self.queue.done(&key);
        }
    }

    fn pause(&self, key: &Key, again: Again) -> Option<Duration> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match again {
            Again::BackOff((first, longest)) => {
                let tries = attempts.entry(key.clone()).or_insert(0);
                let pause = longest.min(first * 2_u32.saturating_pow(*tries));
                *tries = (*tries + 1).min(16);
                Some(pause)
            }
            Again::After(pause) => {
                attempts.remove(key);
                Some(pause)
            }
            Again::Never => {
                attempts.remove(key);
                None
            }
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Again, resolve::Error> {
        let Some(object) = self.objects.find(key) else {
            debug!(namespace = key.namespace, name = key.name, "gone");
            self.assignments.withdraw(key).await;
            if let Some(Credentials::Secret(secret)) = self.publisher.forget(key) {
                self.secret_unused(&key.namespace, &secret);
            }
            return Ok(Again::Never);
        };
        if object.meta().deletion_timestamp.is_some() {
            self.assignments.withdraw(key).await;
            return Ok(Again::Never);
        }
        match &object.0 {
            Ok(object) => self.reconcile_readable(key, object).await,
            Err(invalid) => {
                self.assignments.withdraw(key).await;
                let raw = self.publisher.raw(key).await.map_err(|source| resolve::Error::Object { source: Arc::new(source) })?;
                self.refuse(key, object.meta(), unreadable(invalid, raw.as_ref()), None);
                Ok(Again::After(REFUSED_AGAIN))
            }
        }
    }

    async fn reconcile_readable(&self, key: &Key, object: &MailboxCollector) -> Result<Again, resolve::Error> {
        let spec = match validate::spec(object, &self.validate) {
            Ok(spec) => spec,
            Err(error) => {
                self.assignments.withdraw(key).await;
                self.refuse(key, &object.metadata, refusal(&error), None);
                return Ok(Again::After(REFUSED_AGAIN));
            }
        };
        // Before everything is seen nobody knows whether an older one collects here: what settles waits for that.
        if spec.after_delivery.is_some() && !self.readiness.is_ready() {
            return Ok(Again::After(UNTIL_LISTED));
        }
        if let Some(error) = self.conflict(object, &spec.mailbox) {
            self.assignments.withdraw(key).await;
            self.refuse(key, &object.metadata, refusal(&error), None);
            return Ok(Again::After(REFUSED_AGAIN));
        }
        let credentials = spec.credentials.clone();
        if object.spec.suspend == Some(true) {
            self.assignments.withdraw(key).await;
            let acceptance = Acceptance { suspended: true, ..acceptance(&object.metadata, Ok(())) };
            self.publisher.accept(key.clone(), spec.id, acceptance, Some(credentials));
            return Ok(Again::Never);
        }
        let asked = self.is_newly_requested(object, &spec).then(Instant::now);
        match self.order(key, object, &credentials, asked).await? {
            Ok(order) => {
                let id = order.id.clone();
                let credential = Arc::clone(&order.credential);
                self.assignments.give(key, order).await;
                let acceptance = Acceptance {
                    secret_expiration: credential.secret_expiration,
                    // Of an AppRegistration its own status warns, once for all.
                    warns: matches!(credentials, Credentials::Secret(_)).then(|| status::Ending::of(&credential.proof)).flatten(),
                    ..acceptance(&object.metadata, Ok(()))
                };
                if let Credentials::Secret(secret) = &credentials {
                    self.metrics.credential_ends("Secret", &key.namespace, secret, credential.secret_expiration);
                }
                self.publisher.accept(key.clone(), id.clone(), acceptance, Some(credentials));
                let refused = self.fleet.progress(&id).is_some_and(|progress| credential_refused(&progress));
                Ok(if refused {
                    Again::After(CREDENTIAL_AGAIN)
                } else if warns_soon(&credential, Timestamp::now()) {
                    // The warning must go once the Secret is replaced, which nobody tells us.
                    Again::After(EXPIRING_AGAIN)
                } else {
                    Again::Never
                })
            }
            Err(error) => {
                self.assignments.withdraw(key).await;
                self.refuse(key, &object.metadata, refusal(&error), Some(credentials));
                Ok(Again::BackOff(MISSING_AGAIN))
            }
        }
    }

    /// Why this object must not be collected beside the others of its mailbox. The watch tells it when one of them changes or goes.
    fn conflict(&self, object: &MailboxCollector, mailbox: &str) -> Option<validate::Error> {
        let others: Vec<_> = self.mailboxes.of(mailbox).iter().filter_map(|key| self.objects.find(key)).collect();
        if others.len() < 2 {
            return None;
        }
        validate::conflict(object, others.iter().filter_map(|other| other.0.as_ref().ok()), &self.validate)
    }

    /// The work order, or why there is none; an error only if the API server fails.
    async fn order(
        &self,
        key: &Key,
        object: &MailboxCollector,
        credentials: &Credentials,
        asked: Option<Instant>,
    ) -> Result<Result<Collector, validate::Error>, resolve::Error> {
        match credentials {
            Credentials::Secret(name) => match self.secrets.read(&key.namespace, name, asked).await {
                Ok(data) => Ok(validate::validate(object, &data, &self.validate)),
                Err(resolve::Error::SecretNotFound { .. }) => Ok(Err(validate::Error::SecretNotFound { secret: name.clone() })),
                Err(error) => Err(error),
            },
            Credentials::AppRegistration(name) => {
                let registration = Key { namespace: key.namespace.clone(), name: name.clone() };
                let found = self.registrations.resolve(&registration, asked).await?;
                if asked.is_some() {
                    // Whoever asks may have changed the Secret, of which its status speaks too.
                    self.registrations.poke(&registration);
                }
                Ok(found.and_then(|found| validate::registered_order(object, &found.registration, found.data.as_deref(), &self.validate)))
            }
        }
    }

    /// A collector that used this Secret is gone: with the last of them its figure goes too.
    fn secret_unused(&self, namespace: &str, secret: &str) {
        let uses = |key: &Key, object: &MailboxCollector| {
            key.namespace == namespace && object.spec.credentials.secret_ref.as_ref().is_some_and(|named| named.name == secret)
        };
        if self.objects.choose(uses).is_empty() {
            self.metrics.credential_ends("Secret", namespace, secret, None);
        }
    }

    /// An AppRegistration, or the Secret that it refers to, has changed: those who refer to it follow.
    fn registration_changed(&self, registration: &Key) {
        self.registrations.poke(registration);
        let refers = |key: &Key, object: &MailboxCollector| registrations::named_by(key, object).as_ref() == Some(registration);
        for key in self.objects.choose(refers) {
            self.queue.now(key);
        }
    }

    /// Whether a `requestedAt` is there that nobody has acted upon: who sets one may just have changed the Secret.
    fn is_newly_requested(&self, object: &MailboxCollector, spec: &validate::Spec) -> bool {
        let echoed = object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_ref());
        let request = spec.requested_at.as_ref().filter(|request| Some(*request) != echoed);
        request.is_some_and(|request| self.fleet.progress(&spec.id).and_then(|progress| progress.handled_request).as_ref() != Some(request))
    }

    fn refuse(&self, key: &Key, metadata: &kube::api::ObjectMeta, refusal: Refusal, credentials: Option<Credentials>) {
        let id = CollectorId { namespace: key.namespace.clone(), name: key.name.clone(), uid: metadata.uid.clone().unwrap_or_default() };
        self.publisher.accept(key.clone(), id, acceptance(metadata, Err(refusal)), credentials);
    }

    /// Hears the fleet, for ever. A refused credential is first read again: a changed one gives another order, and the refusal is history.
    async fn listen(&self, mut notices: UnboundedReceiver<CollectorId>) {
        while let Some(id) = notices.recv().await {
            let refused = self.fleet.progress(&id).is_some_and(|progress| credential_refused(&progress));
            let key = Key { namespace: id.namespace, name: id.name };
            if refused {
                let registration = self.objects.find(&key).and_then(|object| registrations::named_by(&key, object.0.as_ref().ok()?));
                registration.iter().for_each(|registration| self.registrations.doubt(registration));
                self.queue.now(key.clone());
                self.publisher.poke(key, REFUSAL_WAITS);
            } else {
                self.publisher.poke(key, Duration::ZERO);
            }
        }
    }
}
