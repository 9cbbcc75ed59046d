//! `mailbox-collector check`: the set-up doctor's checklist, for YAML files or for an object of a cluster. Reads; changes nothing in a mailbox, a
//! cluster or a cursor.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use super::assertions::TokenFile;
use super::documents::{self, Documents};
use super::language::{self, Lang};
use super::settings::{self, Settings};
use super::{fail, say};
use crate::admin::metrics::Metrics;
use crate::api::{AppRegistration, MailboxCollector};
use crate::collect::{Collector, CollectorId, CursorStore, StoreError, Version};
use crate::controller::validate::{self, Credentials, SecretData};
use crate::cursor::{Cursor, Holder};
use crate::diagnosis::{Language, Reason, SetupStep};
use crate::doctor::{self, Checklist, Sinks, Verdict};

/// Mailboxes looked at at a time.
const AT_ONCE: usize = 8;
/// Deadline of one GET at the API server.
const DEADLINE: Duration = Duration::from_secs(15);
/// Wrong use; what clap ends with, too.
const WRONG_USE: u8 = 2;
/// No step was found missing, but not all could be reached.
const INCOMPLETE: u8 = 3;

/// Go through every step of a mailbox's set-up and say which one was missed
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every step is done; 1 a step was missed; 2 wrong use, or the files cannot be used; 3 no step was found \
missing, but not all could be reached (a server out of reach or busy, no right to read the Secret).

Nothing is changed: the mailbox is opened read-only, nothing that is remembered of it is touched, and a sink is only asked whether it would take \
mail.

Examples:
  mailbox-collector check -f secret.yaml -f mailbox-collector.yaml
  mailbox-collector check --lang fr office/factures"
)]
pub(super) struct Arguments {
    /// A MailboxCollector of the cluster that KUBECONFIG names; its Secret is read with your own rights
    #[arg(value_name = "NAMESPACE/NAME", required_unless_present = "files", conflicts_with = "files")]
    object: Option<String>,
    /// YAML with MailboxCollector, AppRegistration and Secret documents, as for `collect`; '-' reads standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", id = "files", env = "MAILBOX_COLLECTOR_FILE", value_delimiter = ',')]
    files: Vec<PathBuf>,
    /// Language of the checklist; without it, that of LC_ALL, LC_MESSAGES or LANG
    #[arg(long, value_enum, value_name = "LANGUAGE", env = "MAILBOX_COLLECTOR_LANG")]
    lang: Option<Lang>,
    /// How the checklist is printed
    #[arg(short = 'o', long, value_enum, default_value = "text", env = "MAILBOX_COLLECTOR_OUTPUT")]
    output: Output,
    #[command(flatten)]
    token_file: TokenFile,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub(super) fn execute(arguments: Arguments) -> ExitCode {
    if let Err(error) = arguments.settings.start_logs() {
        return fail(&error.to_string());
    }
    settings::harden();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads to run on: {error}")),
    };
    let language = language::language(arguments.lang);
    let checked = runtime.block_on(check(&arguments, language));
    // A thread that hangs on a disk must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(5));
    match checked {
        Ok(lists) => report(&lists, arguments.output, language),
        Err(error) => {
            fail(&error);
            ExitCode::from(WRONG_USE)
        }
    }
}

/// A work order, or the checklist of an object that gives none.
type Judged = Result<Collector, Box<Checklist>>;

async fn check(arguments: &Arguments, language: Language) -> Result<Vec<Checklist>, String> {
    let environment = arguments.settings.environment(Arc::new(NoCursors), Metrics::new(), None, AT_ONCE);
    let mut environment = environment.map_err(|error| error.to_string())?;
    environment.tokens = environment.tokens.with_assertions(arguments.token_file.source());
    let (judged, sinks) = match &arguments.object {
        Some(object) => (vec![from_cluster(object, language).await?], Sinks::Elsewhere),
        None => (from_files(&documents::read(&arguments.files).map_err(|error| error.to_string())?, language), Sinks::Here),
    };
    // A file sink's root that was given is on this machine, whatever the object comes from.
    let sinks = if environment.file_root.is_some() { Sinks::Here } else { sinks };
    let environment = &environment;
    let examine = |judged: Judged| async move {
        match judged {
            Ok(order) => {
                let list = doctor::examine(&order, environment, sinks, language).await;
                (Some(order), list)
            }
            Err(list) => (None, *list),
        }
    };
    let mut lists: Vec<(Option<Collector>, Checklist)> = futures::stream::iter(judged).map(examine).buffered(AT_ONCE).collect().await;
    // Once another mailbox of the app is known to open, the same refusal says more.
    let opened = lists.iter().any(|(_, list)| list.verdict() == Verdict::Ok);
    for (order, list) in lists.iter_mut().filter(|(_, list)| opened && list.reason() == Some(Reason::ServicePrincipalNotRegistered)) {
        if let Some(order) = order {
            *list = doctor::examine(order, environment, sinks, language).await;
        }
    }
    Ok(lists.into_iter().map(|(_, list)| list).collect())
}

/// Files are allowed sinks of any kind: where they are not on this machine, that is said beside the sink.
fn options() -> validate::Options {
    validate::Options { file_sink: true, workload_identity: true }
}

fn from_files(documents: &Documents, language: Language) -> Vec<Judged> {
    let judge = |object: &MailboxCollector| {
        let namespace = object.namespace().unwrap_or_default();
        let secret = |name: &str| documents.secrets.get(&(namespace.clone(), name.to_owned()));
        let app = |name: &str| documents.apps.get(&(namespace.clone(), name.to_owned()));
        validate::from_files(object, secret, app, &options()).map_err(|error| refused(object, &error, language))
    };
    documents.collectors.iter().map(judge).collect()
}

async fn from_cluster(object: &str, language: Language) -> Result<Judged, String> {
    let (namespace, name) = object
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| format!("{object:?} is not NAMESPACE/NAME, such as office/factures; a file is given by -f"))?;
    let config = kube::Config::infer().await.map_err(|error| format!("no cluster: {error}; set KUBECONFIG, or give files by -f"))?;
    let client = kube::Client::try_from(config).map_err(|error| format!("no cluster: {error}"))?;
    let collectors: Api<MailboxCollector> = Api::namespaced(client.clone(), namespace);
    let found = get(&collectors, name).await.map_err(|error| format!("get MailboxCollector {object}: {error}"))?;
    let found = found.ok_or_else(|| format!("there is no MailboxCollector {object}; kubectl get mailboxcollectors -A lists them"))?;
    let spec = match validate::spec(&found, &options()) {
        Ok(spec) => spec,
        Err(error) => return Ok(Err(refused(&found, &error, language))),
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = async |name: &str| {
        get(&secrets, name).await.map_err(|error| format!("get Secret {namespace}/{name}: {error}; it is read with your own rights"))
    };
    let order = match spec.credentials {
        Credentials::Secret(name) => match secret(&name).await? {
            Some(secret) => validate::validate(&found, &SecretData::from(secret), &options()),
            None => Err(validate::Error::SecretNotFound { secret: name }),
        },
        Credentials::AppRegistration(name) => {
            let apps: Api<AppRegistration> = Api::namespaced(client, namespace);
            let app = get(&apps, &name).await.map_err(|error| format!("get AppRegistration {namespace}/{name}: {error}"))?;
            let registered = match &app {
                Some(app) => validate::registration(app, &options())
                    .map_err(|cause| validate::Error::Registration { name: name.clone(), cause: Box::new(cause) }),
                None => Err(validate::Error::AppRegistrationNotFound { name: name.clone() }),
            };
            match registered {
                Ok(registered) => {
                    let data = match registered.secret() {
                        Some((name, key)) => secret(name).await?.map(|secret| SecretData::of(secret, key)),
                        None => None,
                    };
                    validate::registered_order(&found, &registered, data.as_ref(), &options())
                }
                Err(error) => Err(error),
            }
        }
    };
    Ok(order.map_err(|error| refused(&found, &error, language)))
}

async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<K>, String>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match tokio::time::timeout(DEADLINE, api.get_opt(name)).await {
        Ok(got) => got.map_err(|error| error.to_string()),
        Err(_) => Err("no answer from the API server in time".to_owned()),
    }
}

/// The checklist of an object that is not accepted.
fn refused(object: &MailboxCollector, error: &validate::Error, language: Language) -> Box<Checklist> {
    let reason = error.reason();
    let secret = matches!(reason, Reason::SecretNotFound | Reason::SecretKeyMissing | Reason::SecretNotOptedIn);
    let step = if secret { SetupStep::Secret } else { SetupStep::Resource };
    let mailbox: String = object.spec.mailbox.chars().take(320).collect();
    let namespace = object.namespace().unwrap_or_default();
    Box::new(doctor::refused(&namespace, &object.name_any(), &mailbox, step, reason, &error.to_string(), language))
}

fn report(lists: &[Checklist], output: Output, language: Language) -> ExitCode {
    let text = match output {
        Output::Json => {
            let lists: Vec<_> = lists.iter().map(|list| list.json(language)).collect();
            serde_json::to_string_pretty(&lists).map(|json| json + "\n")
        }
        Output::Text => Ok(lists.iter().map(|list| list.text(language)).collect::<Vec<_>>().join("\n")),
    };
    match text {
        Ok(text) => say(&text),
        Err(error) => return fail(&format!("the checklist cannot be written as JSON: {error}")),
    };
    match lists.iter().map(Checklist::verdict).max() {
        None | Some(Verdict::Ok) => ExitCode::SUCCESS,
        Some(Verdict::Incomplete) => ExitCode::from(INCOMPLETE),
        Some(Verdict::Failed) => ExitCode::FAILURE,
    }
}

/// Nothing is remembered, and nothing is written.
#[derive(Debug)]
struct NoCursors;

impl CursorStore for NoCursors {
    fn load<'a>(&'a self, _: &'a CollectorId) -> BoxFuture<'a, Result<Option<(Cursor, Version)>, StoreError>> {
        async { Ok(None) }.boxed()
    }

    fn save<'a>(&'a self, _: &'a CollectorId, _: &'a Cursor, _: Option<&'a Version>) -> BoxFuture<'a, Result<Version, StoreError>> {
        async { Err(StoreError::Unavailable("a check writes no cursor".to_owned())) }.boxed()
    }

    fn pace(&self) -> Duration {
        Duration::MAX
    }

    fn holder(&self) -> Option<Holder> {
        None
    }
}
