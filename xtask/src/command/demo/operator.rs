//! The demo with Kubernetes: API server, chart, operator, `kubectl apply`, mail on disk.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use xtask::cluster::Cluster;
use xtask::operator::{Operator, Options};
use xtask::programs::Programs;
use xtask::{root, say};

use super::stand_in::{MAILBOX, StandIn};
use super::{Stage, examples, wait_for_mail};

const RELEASE: &str = "mailbox-collector";
const SYSTEM: &str = "mailbox-collector-system";

pub(super) fn show(stage: &Stage, once: bool, namespace: &str) -> anyhow::Result<()> {
    Programs::ensure()?;
    let mut stand_in = StandIn::start()?;
    stage.step(format_args!(
        "A stand-in for Microsoft 365 runs: Entra at {}, IMAP at {}; {} messages wait in {MAILBOX}",
        stand_in.authority(),
        stand_in.imap_endpoint(),
        stand_in.sent()
    ));
    stage.step("Starting etcd, the API server and the controller manager (no nodes, so no pods) …");
    let cluster = Cluster::start()?;
    for name in [SYSTEM, namespace] {
        cluster.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"))?;
    }
    stage.step(format_args!(
        "Installing the chart into the namespace {SYSTEM}: CRDs, ServiceAccount, RBAC (its Deployment would need a node)"
    ));
    cluster.install_chart(RELEASE, SYSTEM, &[])?;
    let kubeconfig = cluster.service_account_kubeconfig(SYSTEM, RELEASE)?;
    let mut operator = Operator::start(Options {
        program: stage.program.clone(),
        kubeconfig,
        arguments: stage.flags(&stand_in)?,
        environment: Vec::new(),
        log: stage.folder.join("operator.log"),
    })?;
    stage.step("The operator runs, with the rights of the chart's ServiceAccount and no others");

    cluster.kubectl(&["config", "set-context", "--current", "--namespace", namespace])?;
    cluster.apply(&examples()?)?;
    stage.step("Applied docs/examples: the Secret azure-app and the MailboxCollector factures");
    let ready = cluster.kubectl(&["wait", "mailboxcollector/factures", "--for=condition=Ready", "--timeout=60s"]);
    if let Err(error) = ready {
        let seen = cluster.kubectl(&["get", "mailboxcollector", "factures", "--output", "yaml"]).unwrap_or_default();
        return Err(error)
            .with_context(|| format!("it does not become Ready; its state:\n{seen}\nthe operator's log: {}", operator.log().display()));
    }
    stage.step("It is Ready");
    let delivered = wait_for_mail(&stand_in, &stage.files(), || operator.must_run())?;
    let bytes = delivered.verify(&stand_in)?;
    stage.step(format_args!(
        "All {} messages ({:.1} MB) are files, byte for byte as the server gave them",
        delivered.count(),
        bytes as f64 / 1e6
    ));
    for _ in 0..3 {
        send_one(stage, &mut stand_in, &mut operator)?;
    }
    say(format_args!("\n$ kubectl get mailboxcollectors\n{}", cluster.kubectl(&["get", "mailboxcollectors"])?.trim_end()));
    say(format_args!("\n$ kubectl get events\n{}\n", cluster.kubectl(&["get", "events"])?.trim_end()));
    if once {
        let bytes = wait_for_mail(&stand_in, &stage.files(), || operator.must_run())?.verify(&stand_in)?;
        operator.stop()?;
        let user = format!("system:serviceaccount:{SYSTEM}:{RELEASE}");
        let refused: Vec<_> = cluster.audit(&user)?.into_iter().filter(|request| request.code == 403).collect();
        anyhow::ensure!(refused.is_empty(), "the chart gives the operator too few rights: {refused:?}");
        stage.step(format_args!(
            "{} messages sent, {} files ({:.1} MB), none missing, none twice, none different; the API server refused the operator nothing",
            stand_in.sent(),
            stand_in.sent(),
            bytes as f64 / 1e6
        ));
        say(format_args!("The files are left in {}", stage.folder.display()));
        return Ok(());
    }

    let here =
        |path: &std::path::Path| path.strip_prefix(root()).map_or_else(|_| path.display().to_string(), |path| path.display().to_string());
    say(format_args!("files       {}", here(&stage.files())));
    if let Some(example) = delivered.example() {
        say(format_args!("            for example {}", here(example)));
    }
    say(format_args!("log         {}", here(operator.log())));
    say(format_args!("metrics     http://{}/metrics", operator.admin_address()));
    say(format_args!(
        "kubectl     export KUBECONFIG={}\n            alias kubectl={}",
        cluster.kubeconfig_admin().display(),
        cluster.programs().path("kubectl").display()
    ));
    say("\nNew mail comes every 20 s. Ctrl-C ends everything; the files stay.\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    loop {
        let interrupted = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), tokio::signal::ctrl_c()).await });
        if interrupted.is_ok() {
            say("\nStopping …");
            operator.stop()?;
            return Ok(());
        }
        send_one(stage, &mut stand_in, &mut operator)?;
    }
}

/// Sends one message and says how long it took to be a file. Every tenth is large.
fn send_one(stage: &Stage, stand_in: &mut StandIn, operator: &mut Operator) -> anyhow::Result<()> {
    let large = (stand_in.sent() % 10 == 9).then_some(5 << 20);
    let started = Instant::now();
    let serial = stand_in.send(large)?;
    wait_for_mail(stand_in, &stage.files(), || operator.must_run())?;
    stage.step(format_args!("New mail, number {serial}: on disk after {} ms", started.elapsed().as_millis()));
    Ok(())
}
