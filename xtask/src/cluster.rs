//! A real API server with etcd and the controller manager on 127.0.0.1: no nodes, so no pods; everything else is the real thing.
//!
//! The operator under test gets a token of the ServiceAccount that the chart renders and nothing more; the audit log says what it asked for.
//! `MAILBOX_COLLECTOR_TEST_KUBECONFIG` names an existing cluster to use instead (its audit log is then out of reach).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::authority::Authority;
use crate::children::{Running, free_ports, temporary_folder};
use crate::programs::Programs;
use crate::{random_hex, root};

/// A running cluster. Dropped = stopped, its folder removed.
#[derive(Debug)]
pub struct Cluster {
    programs: Programs,
    kubeconfig: PathBuf,
    audit: Option<PathBuf>,
    // In the order in which they must end: a kube-apiserver whose etcd is gone takes a minute to end.
    servers: Vec<Running>,
    folder: tempfile::TempDir,
}

/// One finished request to the API server, as its audit log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// `mailboxcollectors`, or `mailboxcollectors/status`; the path for what is not a resource.
    pub resource: String,
    /// Empty where there is none.
    pub namespace: String,
    /// Empty where there is none.
    pub name: String,
    /// The HTTP status.
    pub code: u64,
    /// When the server received it, RFC 3339 with microseconds.
    pub received: String,
}

impl Request {
    /// Whether it asked the server to change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

impl Cluster {
    /// Starts a cluster and waits until it is ready: about five seconds.
    ///
    /// # Errors
    /// When a program is missing (the message names the command that builds it) or a server does not come up.
    pub fn start() -> anyhow::Result<Self> {
        let programs = Programs::require()?;
        if let Some(kubeconfig) = std::env::var_os("MAILBOX_COLLECTOR_TEST_KUBECONFIG").filter(|value| !value.is_empty()) {
            let folder = temporary_folder("mailbox-collector-cluster-")?;
            // A copy: nothing here may change what a person works with.
            let mut view = Command::new(programs.path("kubectl"));
            view.env("KUBECONFIG", kubeconfig).args(["config", "view", "--raw", "--minify", "--flatten"]).stdin(Stdio::null());
            let copy = folder.path().join("kubeconfig");
            fs::write(&copy, run(&mut view)?)?;
            return Ok(Self { programs, kubeconfig: copy, audit: None, servers: Vec::new(), folder });
        }
        // Another process may take a port between our finding it free and the server's listening.
        let mut outcome = Self::start_own(&programs);
        for _ in 0..3 {
            match &outcome {
                Err(error) if format!("{error:#}").contains("address already in use") => outcome = Self::start_own(&programs),
                _ => break,
            }
        }
        outcome
    }

    /// The kubeconfig of an administrator (group system:masters).
    pub fn kubeconfig_admin(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder of this cluster, for the files of whoever uses it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the programs are.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// kubectl as administrator.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.programs.path("kubectl"));
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs kubectl as administrator and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the message has its standard error.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(self.kubectl_command().args(arguments))
    }

    /// `kubectl apply --server-side -f -` as administrator.
    ///
    /// # Errors
    /// When the server refuses; the message has its words.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        let file = tempfile::NamedTempFile::new_in(self.folder.path())?;
        fs::write(file.path(), yaml)?;
        run(self.kubectl_command().args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(file.path()))
    }

    /// Installs the chart as Helm renders it, without what needs a node (Deployment, Pod), and waits until the CRDs are served.
    /// `values` are `key=value` as for `helm --set`. The release must have its own name where several live in one cluster.
    ///
    /// # Errors
    /// When Helm cannot render it or the server refuses something.
    pub fn install_chart(&self, release: &str, namespace: &str, values: &[&str]) -> anyhow::Result<()> {
        let mut helm = Command::new(self.programs.path("helm"));
        helm.env("HOME", self.folder.path()).stdin(Stdio::null());
        helm.args(["template", release, "--namespace", namespace, "--kube-version", "1.37.2"]).arg(root().join("charts/mailbox-collector"));
        for value in values {
            helm.args(["--set", value]);
        }
        let rendered = run(&mut helm)?;
        let wanted: Vec<&str> = documents(&rendered).filter(|text| !matches!(kind(text), Some("Deployment" | "Pod"))).collect();
        // Each document names its namespace: a chart for several namespaces cannot be applied into one.
        let file = self.folder.path().join(format!("chart-{namespace}-{release}.yaml"));
        fs::write(&file, wanted.join("\n---\n"))?;
        run(self.kubectl_command().args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(&file))?;
        self.wait_for_crds()
    }

    /// Installs the three CRDs from `crds/` and waits until they are served.
    ///
    /// # Errors
    /// When the server refuses one.
    pub fn install_crds(&self) -> anyhow::Result<()> {
        run(self.kubectl_command().args(["apply", "--server-side", "--force-conflicts", "-f"]).arg(root().join("crds")))?;
        self.wait_for_crds()
    }

    /// A kubeconfig that knows only a token of this ServiceAccount (TokenRequest, one day).
    ///
    /// # Errors
    /// When the ServiceAccount does not exist.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> anyhow::Result<PathBuf> {
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace, "--duration", "24h"])?;
        let view = self.kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"])?;
        let mut config: Value = serde_json::from_str(&view).context("parse kubectl's view of the kubeconfig")?;
        let user = config.pointer("/users/0/user").is_some();
        if !user {
            bail!("the kubeconfig {} names no user", self.kubeconfig.display());
        }
        if let Some(user) = config.pointer_mut("/users/0/user") {
            *user = json!({ "token": token.trim() });
        }
        let file = self.folder.path().join(format!("kubeconfig-{namespace}-{name}"));
        fs::write(&file, config.to_string())?;
        Ok(file)
    }

    /// Every finished request of a user (`system:serviceaccount:NAMESPACE:NAME`), oldest first. A watch counts when it begins.
    ///
    /// # Errors
    /// When the cluster is not ours or its log cannot be read.
    pub fn audit(&self, user: &str) -> anyhow::Result<Vec<Request>> {
        let file = self.audit.as_ref().context("the audit log of a given cluster is out of reach")?;
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let mut requests = Vec::new();
        for line in whole.lines() {
            let event: Value = serde_json::from_str(line).context("parse a line of the audit log")?;
            let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let counted = if text("/verb") == "watch" { "ResponseStarted" } else { "ResponseComplete" };
            let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or(0);
            // A refused watch never starts.
            let refused = text("/stage") == "ResponseComplete" && code >= 400;
            if text("/user/username") != user || !(text("/stage") == counted || refused) {
                continue;
            }
            let mut resource = text("/objectRef/resource");
            if resource.is_empty() {
                resource = text("/requestURI");
            } else if !text("/objectRef/subresource").is_empty() {
                resource = format!("{resource}/{}", text("/objectRef/subresource"));
            }
            let (namespace, name) = (text("/objectRef/namespace"), text("/objectRef/name"));
            requests.push(Request { verb: text("/verb"), resource, namespace, name, code, received: text("/requestReceivedTimestamp") });
        }
        Ok(requests)
    }

    /// (verb, resource, HTTP status) of every write of a user.
    ///
    /// # Errors
    /// As [`Cluster::audit`].
    pub fn audit_writes(&self, user: &str) -> anyhow::Result<Vec<(String, String, u64)>> {
        let requests = self.audit(user)?;
        Ok(requests.into_iter().filter(Request::is_write).map(|request| (request.verb, request.resource, request.code)).collect())
    }

    fn wait_for_crds(&self) -> anyhow::Result<()> {
        let mut arguments = vec!["wait", "--for=condition=Established", "--timeout=30s"];
        arguments.extend(CRDS);
        self.kubectl(&arguments).map(drop)
    }

    fn start_own(programs: &Programs) -> anyhow::Result<Self> {
        let folder = temporary_folder("mailbox-collector-cluster-")?;
        let at = folder.path();
        let token = random_hex(16)?;
        let manager_token = random_hex(16)?;
        write_keys(at)?;
        fs::write(
            at.join("tokens.csv"),
            format!("{token},admin,admin,\"system:masters\"\n{manager_token},system:kube-controller-manager,manager\n"),
        )?;
        fs::write(at.join("audit-policy.yaml"), AUDIT_POLICY)?;
        let ports = free_ports(4)?;
        let [client, peer, secure, manager] = ports.as_slice() else { bail!("four ports were asked for") };
        let ca = fs::read_to_string(at.join("ca.crt"))?;
        let kubeconfig = at.join("kubeconfig");
        fs::write(&kubeconfig, kubeconfig_text(*secure, &ca, &token))?;
        fs::write(at.join("kubeconfig-manager"), kubeconfig_text(*secure, &ca, &manager_token))?;

        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let etcd = Running::start(
            "etcd",
            Command::new(programs.path("etcd"))
                .current_dir(at)
                .args(["--data-dir", "etcd", "--unsafe-no-fsync", "--log-level", "warn"])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .arg(format!("--initial-cluster=default={peer}")),
            &at.join("etcd.log"),
        )?;
        let server = Running::start(
            "kube-apiserver",
            Command::new(programs.path("kube-apiserver"))
                .current_dir(at)
                .arg(format!("--etcd-servers={client}"))
                .arg(format!("--secure-port={secure}"))
                .args(["--bind-address=127.0.0.1", "--tls-cert-file=server.crt", "--tls-private-key-file=server.key", "--cert-dir=certs"])
                // Reachable, so that whoever federates with this cluster can read its keys.
                .arg(format!("--service-account-issuer=https://127.0.0.1:{secure}"))
                .arg(format!("--service-account-jwks-uri=https://127.0.0.1:{secure}/openid/v1/jwks"))
                .arg("--service-account-key-file=sa.pub")
                .args(["--service-account-signing-key-file=sa.key", "--service-cluster-ip-range=10.0.0.0/24"])
                .args(["--token-auth-file=tokens.csv", "--authorization-mode=RBAC", "--endpoint-reconciler-type=none"])
                .args(["--audit-policy-file=audit-policy.yaml", "--audit-log-path=audit.log", "--audit-log-mode=blocking"])
                .args(["--enable-priority-and-fairness=false"]),
            &at.join("kube-apiserver.log"),
        )?;
        let mut cluster =
            Self { programs: programs.clone(), kubeconfig, audit: Some(at.join("audit.log")), servers: vec![server, etcd], folder };
        cluster.wait_until_ready()?;
        let at = cluster.folder.path();
        let manager = Running::start(
            "kube-controller-manager",
            Command::new(programs.path("kube-controller-manager"))
                .current_dir(at)
                .args(["--kubeconfig=kubeconfig-manager", "--service-account-private-key-file=sa.key", "--root-ca-file=ca.crt"])
                .args(["--use-service-account-credentials", "--leader-elect=false", "--bind-address=127.0.0.1", "--cert-dir=certs-manager"])
                .arg(format!("--secure-port={manager}"))
                // What namespaces, ownerReferences and the aggregated roles need; the rest would only use the processor.
                .arg(concat!(
                    "--controllers=garbage-collector-controller,namespace-controller,serviceaccount-controller,",
                    "root-ca-certificate-publisher-controller,clusterrole-aggregation-controller"
                )),
            &at.join("kube-controller-manager.log"),
        )?;
        cluster.servers.insert(0, manager);
        cluster.wait_for_service_accounts()?;
        Ok(cluster)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            for server in &mut self.servers {
                server.must_run()?;
            }
            let answer = self.kubectl(&["get", "--raw", "/readyz", "--request-timeout=5s"]);
            match answer {
                Ok(text) if text.trim() == "ok" => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("the API server is not ready after 90 s");
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn wait_for_service_accounts(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            for server in &mut self.servers {
                server.must_run()?;
            }
            match self.kubectl(&["get", "serviceaccount", "default", "--namespace", "default", "--request-timeout=5s"]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error).context("the controller manager does not work after 60 s"),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.stop(Duration::from_secs(3));
        }
    }
}

const CRDS: [&str; 3] =
    ["crd/mailboxcollectors.mailbox-collector.io", "crd/appregistrations.mailbox-collector.io", "crd/mailboxcursors.mailbox-collector.io"];

/// Everybody but the cluster's own parts, at the level that says who, what and the answer's code, never a body.
const AUDIT_POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver", "system:kube-controller-manager"]
- level: None
  userGroups: ["system:serviceaccounts:kube-system"]
- level: Metadata
"#;

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; the message has its standard error.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = Path::new(command.get_program()).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let output = command.output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        bail!("{name} {}: {}\n{}", words.join(" "), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is not UTF-8"))
}

/// The documents of a YAML stream, as text.
pub fn documents(yaml: &str) -> impl Iterator<Item = &str> {
    yaml.split("\n---").map(|text| text.trim_start_matches("---").trim()).filter(|text| {
        // Helm leaves documents of comments only.
        text.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#'))
    })
}

/// The kind of a YAML document.
pub fn kind(document: &str) -> Option<&str> {
    document.lines().find_map(|line| line.strip_prefix("kind:")).map(str::trim)
}

fn kubeconfig_text(port: u16, ca: &str, token: &str) -> String {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca);
    // JSON is YAML.
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": ca}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
    .to_string()
}

/// A CA, the API server's certificate, and the pair of keys for ServiceAccount tokens (RSA, the only one that Entra takes of a federated issuer).
fn write_keys(folder: &Path) -> anyhow::Result<()> {
    let authority = Authority::new("mailbox-collector test cluster")?;
    let (certificate, key) = authority.issue(&["127.0.0.1", "localhost", "kubernetes.default.svc"])?;
    fs::write(folder.join("ca.crt"), authority.pem())?;
    fs::write(folder.join("server.crt"), certificate)?;
    fs::write(folder.join("server.key"), key)?;
    let account = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
    fs::write(folder.join("sa.key"), account.serialize_pem())?;
    fs::write(folder.join("sa.pub"), account.public_key_pem())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_chart_falls_into_its_documents() {
        let yaml = "---\n# Source: a\nkind: ServiceAccount\n---\n# nothing\n---\n# Source: b\nkind: Deployment\nspec:\n  kind: x\n";
        let kinds: Vec<_> = documents(yaml).map(kind).collect();
        assert_eq!(kinds, [Some("ServiceAccount"), Some("Deployment")]);
    }
}
