//! `mailbox-collector run`: the operator. Wires client, fleet, controller and admin server together, and stops them in order on SIGTERM.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::fail;
use super::settings::{self, Settings};
use crate::admin::metrics::Metrics;
use crate::admin::{self, Readiness};
use crate::controller::assertions::KubeAssertions;
use crate::controller::cursors::KubeCursors;
use crate::controller::{self, validate};
use crate::cursor::Holder;
use crate::fleet::Fleet;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Namespaces to watch, comma-separated; without it, all
    #[arg(long, env = "MAILBOX_COLLECTOR_WATCH_NAMESPACES", value_name = "NS,…", value_delimiter = ',', help_heading = "Kubernetes")]
    watch_namespaces: Vec<String>,
    /// Only MailboxCollectors with these labels
    #[arg(long, env = "MAILBOX_COLLECTOR_WATCH_LABEL_SELECTOR", value_name = "SELECTOR", help_heading = "Kubernetes")]
    watch_label_selector: Option<String>,
    /// Name of this installation, in cursors' holders and Events; two installations must not watch the same objects
    #[arg(
        long,
        env = "MAILBOX_COLLECTOR_INSTALL_NAME",
        value_name = "NAME",
        default_value = "mailbox-collector",
        help_heading = "Kubernetes"
    )]
    install_name: String,
    /// Name of this pod, in cursors' holders; the chart sets it
    #[arg(long, env = "MAILBOX_COLLECTOR_POD_NAME", value_name = "NAME", help_heading = "Kubernetes")]
    pod_name: Option<String>,
    /// Requests a second to the API server, at most
    #[arg(long, env = "MAILBOX_COLLECTOR_KUBE_API_QPS", value_name = "N", default_value_t = 50, help_heading = "Kubernetes")]
    kube_api_qps: u32,
    /// Let AppRegistrations use tokens of service accounts of their namespace; needs the right to create serviceaccounts/token
    #[arg(long, env = "MAILBOX_COLLECTOR_WORKLOAD_IDENTITY", help_heading = "Kubernetes")]
    workload_identity: bool,
    /// Shards; only 1 is built yet
    #[arg(long, env = "MAILBOX_COLLECTOR_SHARDS", value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1), help_heading = "Kubernetes")]
    shards: u32,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "MAILBOX_COLLECTOR_ADMIN_ADDRESS", value_name = "IP:PORT", default_value = "0.0.0.0:8080")]
    admin_address: SocketAddr,
    /// Log-ins a second, at most
    #[arg(long, env = "MAILBOX_COLLECTOR_LOGIN_RATE", value_name = "N", default_value_t = 20)]
    login_rate: u32,
    /// Mailboxes that may connect or collect at the same time; all others idle
    #[arg(long, env = "MAILBOX_COLLECTOR_AT_ONCE", value_name = "N", default_value_t = 16)]
    at_once: u32,
    #[command(flatten)]
    settings: Settings,
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
    let ended = runtime.block_on(operate(arguments));
    // A thread that hangs on a disk must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(5));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Settings(#[from] settings::Error),
    #[error("no cluster: {0}; run inside a pod, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("--admin-address {address}: {source}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("admin server: {0}")]
    Admin(std::io::Error),
    #[error(transparent)]
    Controller(#[from] controller::Error),
}

async fn operate(arguments: Arguments) -> Result<(), Error> {
    let Arguments {
        watch_namespaces,
        watch_label_selector,
        install_name,
        pod_name,
        kube_api_qps,
        workload_identity,
        admin_address,
        login_rate,
        at_once,
        settings,
        ..
    } = arguments;
    let config = kube::Config::infer().await?;
    let client = controller::client(config, kube_api_qps)?;
    let metrics = Metrics::new();
    let holder = Holder { install: install_name, pod: pod_name.clone().unwrap_or_default(), epoch: 0 };
    let cursors = Arc::new(KubeCursors::new(client.clone(), holder, metrics.clone()));
    let mut environment = settings.environment(cursors, metrics.clone(), Some(login_rate), at_once as usize)?;
    if workload_identity {
        environment.tokens = environment.tokens.with_assertions(Arc::new(KubeAssertions::new(client.clone())));
    }
    let file_sink = environment.file_root.is_some();
    let (fleet, notices) = Fleet::new(Arc::new(environment));
    let fleet = Arc::new(fleet);

    let readiness = Arc::new(Readiness::default());
    let listen = |source| Error::Listen { address: admin_address, source };
    let listener = TcpListener::bind(admin_address).await.map_err(listen)?;
    info!(address = %listener.local_addr().map_err(listen)?, version = env!("CARGO_PKG_VERSION"), "probes and figures are served");

    let stop = CancellationToken::new();
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(admin::serve(listener, metrics.clone(), Arc::clone(&readiness), admin_stop.clone()));
    let stopping = stop.clone();
    tokio::spawn(async move {
        super::interrupted().await;
        info!("told to stop: finishing the batches in hand");
        stopping.cancel();
    });
    let options = controller::Options {
        namespaces: watch_namespaces,
        label_selector: watch_label_selector,
        pod: pod_name,
        validate: validate::Options { file_sink, workload_identity },
    };
    let ended = controller::run(client, options, Arc::clone(&fleet), notices, metrics, readiness, stop).await;
    // The probes answer until the last cursor is recorded, so that the kubelet does not end it sooner.
    fleet.stop().await;
    admin_stop.cancel();
    admin.await.map_err(std::io::Error::other).and_then(|served| served).map_err(Error::Admin)?;
    Ok(ended?)
}
