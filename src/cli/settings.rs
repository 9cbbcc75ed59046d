//! Flags that `run` and `collect` share, and the environment made of them. Reads no resource and no Secret.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::{Args, ValueEnum};
use tokio::sync::Semaphore;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::admin::metrics::Metrics;
use crate::collect::{CursorStore, Environment, Pacer};
use crate::entra::{self, Tokens};
use crate::proxy::Proxy;
use crate::sink::file::FileRoot;
use crate::sink::{Spool, spool};
use crate::source::{imap, pop3};
use crate::tls;

/// Where Microsoft's servers are, where files go, and how the program speaks.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// Base URL of Microsoft Entra, instead of the cloud's own (https://login.microsoftonline.com)
    #[arg(long, env = "MAILBOX_COLLECTOR_ENTRA_AUTHORITY", value_name = "URL", help_heading = "Microsoft")]
    entra_authority: Option<String>,
    /// Entra's token endpoint, v1 or v2, instead of the cloud's own (v1 for China, v2 for the others)
    #[arg(long, env = "MAILBOX_COLLECTOR_ENTRA_ENDPOINT", value_enum, help_heading = "Microsoft")]
    entra_endpoint: Option<TokenEndpoint>,
    /// IMAP server with implicit TLS; the default stands for the one of each app's own cloud
    #[arg(long, env = "MAILBOX_COLLECTOR_IMAP_ENDPOINT", value_name = "HOST:PORT", default_value = "outlook.office365.com:993", value_parser = endpoint, help_heading = "Microsoft")]
    imap_endpoint: Endpoint,
    /// HTTP proxy for token requests and, by CONNECT, for mail: http://[USER:PASSWORD@]HOST:PORT; NO_PROXY is honoured [default: the
    /// variable HTTPS_PROXY]
    #[arg(long, env = "MAILBOX_COLLECTOR_HTTPS_PROXY", hide_env_values = true, value_name = "URL", help_heading = "Microsoft")]
    https_proxy: Option<String>,
    /// POP3 server with implicit TLS; the default stands for the one of each app's own cloud
    #[arg(long, env = "MAILBOX_COLLECTOR_POP3_ENDPOINT", value_name = "HOST:PORT", default_value = "outlook.office365.com:995", value_parser = endpoint, help_heading = "Microsoft")]
    pop3_endpoint: Endpoint,
    /// PEM file of certificates to trust besides the public ones
    #[arg(long, env = "MAILBOX_COLLECTOR_CA_FILE", value_name = "PEM", help_heading = "Microsoft")]
    ca_file: Option<PathBuf>,
    /// Folder below which file sinks write, as <root>/<namespace>/<path>; without it file sinks are refused
    #[arg(long, env = "MAILBOX_COLLECTOR_FILE_SINK_ROOT", value_name = "DIR", help_heading = "Sinks")]
    pub(super) file_sink_root: Option<PathBuf>,
    /// Folder for messages too long for memory, which all sinks but a lone file sink need; holds no file after the program
    #[arg(long, env = "MAILBOX_COLLECTOR_SPOOL_DIR", value_name = "DIR", help_heading = "Sinks")]
    spool_dir: Option<PathBuf>,
    /// Bytes that all messages in the spool may take together; at least 256 MiB
    #[arg(long, env = "MAILBOX_COLLECTOR_SPOOL_BYTES", value_name = "BYTES", default_value_t = spool::DEFAULT_BYTES, value_parser = clap::value_parser!(u64).range(spool::LEAST_BYTES..), help_heading = "Sinks")]
    spool_bytes: u64,
    /// How log lines look
    #[arg(long, env = "MAILBOX_COLLECTOR_LOG_FORMAT", value_enum, default_value = "text", help_heading = "Logs")]
    log_format: LogFormat,
    /// What is logged, as tracing's filter directives (info, debug, mailbox_collector::collect=debug …)
    #[arg(long, env = "MAILBOX_COLLECTOR_LOG", value_name = "FILTER", default_value = "info", help_heading = "Logs")]
    log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TokenEndpoint {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// A server's address as a flag gives it.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let problem = || format!("{text:?} is not HOST:PORT, such as outlook.office365.com:993");
    let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(problem());
    }
    Ok(Endpoint { host: host.to_owned(), port: port.parse().map_err(|_| problem())? })
}

/// Why the environment could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Tls(#[from] tls::Error),
    // The URL may hold a password.
    #[error("--https-proxy (or HTTPS_PROXY) {0}; correct it, or list the hosts to reach without it in NO_PROXY")]
    Proxy(#[from] crate::proxy::BadUrl),
    #[error("HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    #[error("--file-sink-root {path:?}: {source}")]
    FileRoot {
        path: PathBuf,
        #[source]
        source: crate::sink::Error,
    },
    #[error("--spool-dir {path:?}: {source}; give an existing folder that the program may write")]
    SpoolFolder {
        path: PathBuf,
        #[source]
        source: crate::sink::Error,
    },
    #[error("--log {filter:?}: {source}; write info, debug or directives such as mailbox_collector=debug")]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logs are set up already")]
    Logs,
}

impl Settings {
    /// Sends logs to standard error. Lines of the IMAP library stay below TRACE: it would print tokens there.
    pub(super) fn start_logs(&self) -> Result<(), Error> {
        let filter = |filter: &str| EnvFilter::try_new(filter).map_err(|source| Error::Filter { filter: self.log.clone(), source });
        let filter = filter(&format!("{},async_imap=info,imap_proto=info", self.log))?;
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_target(false);
        let registry = tracing_subscriber::registry().with(filter);
        match self.log_format {
            LogFormat::Text => registry.with(lines).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        }
        .map_err(|_| Error::Logs)
    }

    /// The proxy that a flag or the usual variables name.
    fn proxy(&self) -> Result<Option<Proxy>, crate::proxy::BadUrl> {
        let variable = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
        let url = self.https_proxy.clone().or_else(|| variable(["HTTPS_PROXY", "https_proxy"]));
        let direct = variable(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        url.map(|url| Proxy::parse(&url, &direct)).transpose()
    }

    /// What every task shares. `at_once`: how many may connect or drain at the same time.
    pub(super) fn environment(
        &self,
        cursors: Arc<dyn CursorStore>,
        metrics: Metrics,
        logins_per_second: Option<u32>,
        at_once: usize,
    ) -> Result<Environment, Error> {
        let tls = tls::client_config(self.ca_file.as_deref())?;
        let proxy = self.proxy()?.map(Arc::new);
        let http = entra::http_client(&tls, proxy.as_ref())?;
        let file_root = match &self.file_sink_root {
            Some(path) => Some(Arc::new(FileRoot::open(path).map_err(|source| Error::FileRoot { path: path.clone(), source })?)),
            None => None,
        };
        let spool = match &self.spool_dir {
            Some(path) => Some(Spool::open(path, self.spool_bytes).map_err(|source| Error::SpoolFolder { path: path.clone(), source })?),
            None => None,
        };
        Ok(Environment {
            spool,
            tokens: {
                let counted = metrics.clone();
                let endpoint = self.entra_endpoint.map(|endpoint| match endpoint {
                    TokenEndpoint::V1 => entra::Endpoint::V1,
                    TokenEndpoint::V2 => entra::Endpoint::V2,
                });
                Tokens::new(http, self.entra_authority.clone())
                    .with_endpoint(endpoint)
                    .with_observer(move |result| counted.token_requested(result))
            },
            imap: imap::Connector {
                host: self.imap_endpoint.host.clone(),
                port: self.imap_endpoint.port,
                tls: Arc::clone(&tls),
                proxy: proxy.clone(),
            },
            pop3: pop3::Connector { host: self.pop3_endpoint.host.clone(), port: self.pop3_endpoint.port, tls, proxy },
            file_root,
            cursors,
            logins: Pacer::new(logins_per_second),
            work: Arc::new(Semaphore::new(at_once)),
            metrics,
            lately: Mutex::default(),
        })
    }
}

/// No core is ever written and nobody else may read our memory: it holds tokens (law 10). As many open files as the system lets us have.
pub(super) fn harden() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let refused = [
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).err(),
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).err(),
    ];
    for error in refused.into_iter().flatten() {
        tracing::warn!(%error, "the system refused to forbid core files");
    }
    let files = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}
