//! The real parts that tests share: one API server a test process, started by the first test that asks, and a namespace for each test.
//! It ends with the process, also after a panic or a kill (see `xtask::children`).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use simulator::Simulator;
use xtask::cluster::{Cluster, Request};
use xtask::operator::{Operator, Options};

/// The cluster of this test process, with the CRDs installed.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let start = || Cluster::start().and_then(|cluster| cluster.install_crds().map(|()| cluster)).map_err(|error| format!("{error:#}"));
    match CLUSTER.get_or_init(start) {
        Ok(cluster) => cluster,
        Err(error) => panic!("no API server to test with: {error}"),
    }
}

/// A new namespace whose name begins with `prefix`.
pub(crate) fn namespace(prefix: &str) -> String {
    let name = format!("{prefix}-{}", xtask::random_hex(4).unwrap());
    cluster().kubectl(&["create", "namespace", &name]).unwrap();
    name
}

/// The servers that an operator under test collects from.
pub(crate) struct Servers {
    /// Base URL in place of Entra's.
    pub(crate) authority: String,
    /// HOST:PORT, implicit TLS.
    pub(crate) imap: String,
    /// Certificates to trust, PEM, one after the other.
    pub(crate) ca: String,
}

/// The stand-in as an operator needs to know it.
pub(crate) fn servers(simulator: &Simulator) -> Servers {
    Servers { authority: simulator.authority(), imap: simulator.imap_endpoint(), ca: simulator.ca_pem().to_owned() }
}

/// The Secret of an app.
pub(crate) fn secret(namespace: &str, name: &str, tenant: &str, client: &str, value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         stringData: {{tenantId: \"{tenant}\", clientId: \"{client}\", clientSecret: \"{value}\"}}\n"
    )
}

/// A collector that writes into the folder of its own name; `further` are more lines of its spec.
pub(crate) fn collector(namespace: &str, name: &str, mailbox: &str, secret: &str, further: &str) -> String {
    let further: String = further.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: mailbox-collector.io/v1alpha1\nkind: MailboxCollector\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  mailbox: {mailbox}\n  credentials: {{secretRef: {{name: {secret}}}}}\n  sinks: [{{name: drop, file: {{path: {name}}}}}]\n{further}"
    )
}

/// The messages in a folder of a file sink.
pub(crate) fn mail(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|extension| extension == "eml")).collect()
}

/// Each file is, byte for byte, a rendering that the stand-in gave; their serials, sorted.
pub(crate) fn serials(simulator: &Simulator, folder: &Path) -> Vec<u64> {
    let serial = |file: PathBuf| {
        let rendering = simulator.rendering_of_bytes(&std::fs::read(&file).unwrap());
        rendering.unwrap_or_else(|| panic!("{} is no rendering", file.display())).serial.unwrap()
    };
    let mut serials: Vec<u64> = mail(folder).into_iter().map(serial).collect();
    serials.sort_unstable();
    serials
}

/// A number that the environment may set.
pub(crate) fn number_from_environment(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}")))
}

/// An operator that watches one namespace, with the rights of a chart installed for that namespace alone. Dropped = stopped.
pub(crate) struct Installed {
    /// The process.
    pub(crate) operator: Operator,
    /// Its --file-sink-root; mail lies in `<files>/<namespace>/<path>`.
    pub(crate) files: PathBuf,
    user: String,
    _folder: tempfile::TempDir,
}

impl Installed {
    /// The folder of a collector made by [`collector`].
    pub(crate) fn folder(&self, namespace: &str, name: &str) -> PathBuf {
        self.files.join(namespace).join(name)
    }

    /// A figure of /metrics; a sample that is not there yet counts as 0.
    pub(crate) fn figure(&self, sample: &str) -> u64 {
        let (status, text) = self.operator.get("/metrics").unwrap();
        assert_eq!(status, 200);
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Complete looks of this process so far, over all mailboxes.
    pub(crate) fn looks(&self) -> u64 {
        self.figure("mailcollector_looks_total{result=\"complete\"}")
    }

    /// What the API server refused it for want of rights; must be empty at the end of a test.
    pub(crate) fn refused(&self) -> Vec<Request> {
        cluster().audit(&self.user).unwrap().into_iter().filter(|request| request.code == 403).collect()
    }

    /// What it asked the API server to change, oldest first.
    pub(crate) fn writes(&self) -> Vec<Request> {
        cluster().audit(&self.user).unwrap().into_iter().filter(Request::is_write).collect()
    }
}

/// Installs the chart for `namespace` alone, into it, and starts the operator with that ServiceAccount's token.
pub(crate) fn operator(namespace: &str, servers: &Servers, further: &[&str]) -> Installed {
    operator_as(env!("CARGO_BIN_EXE_mailbox-collector").into(), namespace, servers, further)
}

/// The same with another program in place of the built one, which must start that in its turn.
pub(crate) fn operator_as(program: PathBuf, namespace: &str, servers: &Servers, further: &[&str]) -> Installed {
    let name = format!("mailbox-collector-{namespace}");
    cluster().install_chart(&name, namespace, &[&format!("watchNamespaces={{{namespace}}}")]).unwrap();
    let folder = xtask::children::temporary_folder("mailbox-collector-test-").unwrap();
    let (files, spool, ca) = (folder.path().join("files"), folder.path().join("spool"), folder.path().join("ca.pem"));
    std::fs::create_dir(&files).unwrap();
    std::fs::create_dir(&spool).unwrap();
    std::fs::write(&ca, &servers.ca).unwrap();
    let mut arguments = vec![
        format!("--watch-namespaces={namespace}"),
        format!("--install-name={name}"),
        format!("--entra-authority={}", servers.authority),
        format!("--imap-endpoint={}", servers.imap),
        format!("--ca-file={}", ca.display()),
        format!("--file-sink-root={}", files.display()),
        format!("--spool-dir={}", spool.display()),
    ];
    arguments.extend(further.iter().map(|&flag| flag.to_owned()));
    let operator = Operator::start(Options {
        program,
        kubeconfig: cluster().service_account_kubeconfig(namespace, &name).unwrap(),
        arguments,
        environment: Vec::new(),
        log: folder.path().join("operator.log"),
    });
    let user = format!("system:serviceaccount:{namespace}:{name}");
    Installed { operator: operator.unwrap_or_else(|error| panic!("{error:#}")), files, user, _folder: folder }
}

/// Calls `probe` until it gives something, at most for `limit`. For what has neither a watch nor a signal; else use `kubectl wait`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
