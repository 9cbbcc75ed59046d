//! `mailbox-collector collect`: the same tasks as in a cluster, from YAML files, with cursors in a local folder. Shows progress on a terminal
//! and the outcome of each mailbox at the end.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kube::ResourceExt;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::assertions::TokenFile;
use super::documents::{self, Documents};
use super::settings::{self, Settings};
use super::state::StateFolder;
use super::{fail, say};
use crate::admin::metrics::Metrics;
use crate::api::MailboxCollector;
use crate::collect::{Collector, End, Environment, Progress, Task, Wanted};
use crate::controller::validate;
use crate::diagnosis::{Diagnosis, Reason};

/// Connections at a time; Exchange counts them per mailbox, a small machine by its cores.
const AT_ONCE: usize = 8;
/// Told to end, a task has this long to finish the batch in hand.
const STOP_DEADLINE: Duration = Duration::from_secs(45);
/// Passing troubles of one mailbox that `--once` sits out.
const RETRIES: u32 = 3;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// YAML with MailboxCollector, AppRegistration and Secret documents; repeat for more files, '-' reads standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true, env = "MAILBOX_COLLECTOR_FILE", value_delimiter = ',')]
    files: Vec<PathBuf>,
    /// Folder for what is remembered of each mailbox; locked while in use. Without it everything would be collected again
    #[arg(long, value_name = "DIR", env = "MAILBOX_COLLECTOR_STATE")]
    state: PathBuf,
    /// Collect everything there is, then end; otherwise stay and collect new mail until interrupted
    #[arg(long, env = "MAILBOX_COLLECTOR_ONCE")]
    once: bool,
    /// How the outcome is printed at the end
    #[arg(short = 'o', long, value_enum, default_value = "text", env = "MAILBOX_COLLECTOR_OUTPUT")]
    output: Output,
    /// Log-ins a second, at most
    #[arg(long, value_name = "N", env = "MAILBOX_COLLECTOR_LOGIN_RATE")]
    login_rate: Option<u32>,
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

/// How one mailbox came out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    namespace: String,
    name: String,
    mailbox: String,
    collected: u64,
    pending: u64,
    quarantined: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fetch_time: Option<String>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

pub(super) fn execute(arguments: Arguments) -> ExitCode {
    if let Err(error) = arguments.settings.start_logs() {
        return fail(&error.to_string());
    }
    settings::harden();
    let documents = match documents::read(&arguments.files) {
        Ok(documents) => documents,
        Err(error) => return fail(&error.to_string()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads to run on: {error}")),
    };
    let outcomes = runtime.block_on(collect(&arguments, documents));
    // A thread that hangs on a disk must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(5));
    match outcomes {
        Ok(outcomes) => report(&outcomes, arguments.output),
        Err(error) => fail(&error),
    }
}

async fn collect(arguments: &Arguments, documents: Documents) -> Result<Vec<Outcome>, String> {
    let state = StateFolder::open(&arguments.state).map_err(|error| error.to_string())?;
    if let Some(root) = &arguments.settings.file_sink_root {
        std::fs::create_dir_all(root).map_err(|error| format!("--file-sink-root {}: {error}", root.display()))?;
    }
    let metrics = Metrics::new();
    let environment = arguments.settings.environment(Arc::new(state), metrics, arguments.login_rate, AT_ONCE);
    let mut environment = environment.map_err(|error| error.to_string())?;
    environment.tokens = environment.tokens.with_assertions(arguments.token_file.source());
    let environment = Arc::new(environment);
    let cancel = CancellationToken::new();
    let wanted = if arguments.once { Wanted::OnePass { retries: RETRIES } } else { Wanted::Forever };
    let options =
        // Without a token file the token request says what is missing.
        validate::Options { file_sink: environment.file_root.is_some(), workload_identity: true };
    let mut outcomes = Vec::new();
    let mut running = JoinSet::new();
    let mut orders = HashMap::new();
    let mut watched = Vec::new();
    for object in &documents.collectors {
        match order(object, &documents, options) {
            Ok(order) => {
                let order = Arc::new(order);
                let progress = watch::Sender::new(Progress::default());
                watched.push(progress.subscribe());
                let task = running.spawn(run(Arc::clone(&order), Arc::clone(&environment), wanted, progress, cancel.clone()));
                orders.insert(task.id(), order);
            }
            Err((reason, message)) => outcomes.push(not_accepted(object, reason, message)),
        }
    }
    let bar = bar(arguments.output, watched.len());
    let mut interrupted = Box::pin(super::interrupted());
    let mut overdue = std::pin::pin!(async {
        cancel.cancelled().await;
        tokio::time::sleep(STOP_DEADLINE).await;
    });
    let mut given_up = false;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            done = running.join_next_with_id() => match done {
                None => break,
                Some(Ok((_, outcome))) => outcomes.push(outcome),
                Some(Err(error)) => {
                    let why = if error.is_panic() { "ended by a fault of the program" } else { "did not end in time when told to" };
                    outcomes.extend(orders.get(&error.id()).map(|order| outcome(order, &Progress::default(), Some((None, why.to_owned())))));
                }
            },
            () = &mut interrupted => {
                // The first asks the tasks to finish the batch in hand, the second does not wait for it.
                if cancel.is_cancelled() {
                    running.abort_all();
                }
                cancel.cancel();
                interrupted = Box::pin(super::interrupted());
            },
            () = &mut overdue, if !given_up => {
                given_up = true;
                running.abort_all();
            },
            _ = tick.tick() => show(&bar, &watched),
        }
    }
    bar.finish_and_clear();
    outcomes.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(outcomes)
}

fn order(object: &MailboxCollector, documents: &Documents, options: validate::Options) -> Result<Collector, (String, String)> {
    let namespace = object.namespace().unwrap_or_default();
    let secret = |name: &str| documents.secrets.get(&(namespace.clone(), name.to_owned()));
    let app = |name: &str| documents.apps.get(&(namespace.clone(), name.to_owned()));
    validate::from_files(object, secret, app, &options).map_err(|error| (error.reason().as_str().to_owned(), error.to_string()))
}

async fn run(
    order: Arc<Collector>,
    environment: Arc<Environment>,
    wanted: Wanted,
    progress: watch::Sender<Progress>,
    cancel: CancellationToken,
) -> Outcome {
    let receiver = progress.subscribe();
    // Nobody pokes from outside; the sender lives as long as the task.
    let (_poke, poked) = watch::channel(None);
    let end = Task::new(Arc::clone(&order), environment, wanted, progress, poked, cancel).run().await;
    let progress = receiver.borrow().clone();
    let trouble = match end {
        End::Done => None,
        End::Cancelled if progress.trouble.is_some() => Some((None, "interrupted while it was in trouble; the log says which".to_owned())),
        End::Cancelled => (wanted != Wanted::Forever).then(|| (None, "interrupted before everything was collected".to_owned())),
        End::Failed(diagnosis) => {
            let Diagnosis { reason, message, .. } = *diagnosis;
            Some((Some(reason), message))
        }
        End::Lost => Some((None, "another process wrote this mailbox's state".to_owned())),
        End::Store(error) => Some((None, error.to_string())),
    };
    outcome(&order, &progress, trouble)
}

fn outcome(order: &Collector, progress: &Progress, trouble: Option<(Option<Reason>, String)>) -> Outcome {
    let ok = trouble.is_none();
    let (reason, message) = trouble.map_or((None, None), |(reason, message)| (reason, Some(message)));
    Outcome {
        namespace: order.id.namespace.clone(),
        name: order.id.name.clone(),
        mailbox: order.mailbox.clone(),
        collected: progress.collected,
        pending: progress.pending,
        quarantined: progress.quarantined,
        last_fetch_time: progress.last_fetch.map(|time| time.to_string()),
        ok,
        reason: reason.map(|reason| reason.as_str().to_owned()),
        message,
    }
}

fn not_accepted(object: &MailboxCollector, reason: String, message: String) -> Outcome {
    Outcome {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        mailbox: object.spec.mailbox.chars().take(320).collect(),
        collected: 0,
        pending: 0,
        quarantined: 0,
        last_fetch_time: None,
        ok: false,
        reason: Some(reason),
        message: Some(message),
    }
}

fn bar(output: Output, mailboxes: usize) -> ProgressBar {
    let bar = ProgressBar::no_length().with_style(style("{spinner} {msg}"));
    bar.set_message(format!("{mailboxes} mailboxes: logging in"));
    let shown = output == Output::Text && std::io::stderr().is_terminal();
    bar.set_draw_target(if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn show(bar: &ProgressBar, watched: &[watch::Receiver<Progress>]) {
    let (mut collected, mut pending, mut looked, mut trouble) = (0, 0, 0, 0);
    for progress in watched {
        let progress = progress.borrow();
        collected += progress.collected;
        pending += progress.pending;
        looked += usize::from(progress.last_fetch.is_some());
        trouble += usize::from(progress.trouble.is_some());
    }
    if collected + pending > 0 {
        bar.set_style(style("{spinner} {bar:32} {pos}/{len} messages, {per_sec}  {msg}"));
        bar.set_length(collected + pending);
        bar.set_position(collected);
    }
    let trouble = if trouble > 0 { format!(", {trouble} in trouble") } else { String::new() };
    bar.set_message(format!("{looked}/{} mailboxes looked at{trouble}", watched.len()));
}

fn report(outcomes: &[Outcome], output: Output) -> ExitCode {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(outcomes).map(|json| json + "\n"),
        Output::Text => Ok(outcomes.iter().map(line).collect()),
    };
    match text {
        Ok(text) => say(&text),
        Err(error) => return fail(&format!("the outcome cannot be written as JSON: {error}")),
    };
    if outcomes.iter().all(|outcome| outcome.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(outcome: &Outcome) -> String {
    let Outcome { namespace, name, mailbox, collected, pending, quarantined, ok, reason, message, .. } = outcome;
    let counts = format!("{collected} collected, {pending} pending, {quarantined} quarantined");
    let state = if *ok { "ok".to_owned() } else { reason.clone().unwrap_or_else(|| "failed".to_owned()) };
    let message = message.as_ref().map(|message| format!("\n    {message}")).unwrap_or_default();
    format!("{namespace}/{name} {mailbox}: {state}; {counts}{message}\n")
}
