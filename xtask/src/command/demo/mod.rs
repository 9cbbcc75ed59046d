//! `cargo xtask demo`: the operator at work on this machine, in plain lines. A stand-in plays Microsoft 365; the API server, the chart's
//! ServiceAccount and the operator's binary are the real ones.
//!
//! With `--once` it ends by itself and fails unless every message sent lies on disk exactly once, byte for byte as the stand-in rendered it.

mod delivered;
mod operator;
mod stand_in;
mod standalone;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use xtask::{root, say};

use self::delivered::Delivered;
pub(super) use self::stand_in::MAILBOX;
use self::stand_in::StandIn;
use super::{cargo, must};

/// The first mail takes the log-in and the building of a connection; a loaded machine takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Ends by itself; fails if any mail is missing, twice there, or differs
    #[arg(long)]
    once: bool,
    /// Without Kubernetes: `mailbox-collector collect` with the same YAML; mail on disk in a minute
    #[arg(long)]
    no_cluster: bool,
    /// The namespace for the examples
    #[arg(long, default_value = "demo")]
    namespace: String,
}

pub(crate) fn demo(arguments: &Arguments) -> anyhow::Result<()> {
    let stage = Stage::prepare()?;
    if arguments.no_cluster {
        standalone::show(&stage, arguments.once)
    } else {
        operator::show(&stage, arguments.once, &arguments.namespace)
    }
}

/// The binary, the folder of this run, and what to say at the end.
struct Stage {
    program: PathBuf,
    folder: PathBuf,
    started: Instant,
}

impl Stage {
    fn prepare() -> anyhow::Result<Self> {
        let started = Instant::now();
        say("Building mailbox-collector (unoptimised: quicker to build than to wait for; the first time some minutes) …");
        must(cargo().args(["build", "--quiet", "--package", "mailbox-collector"]))?;
        // Cargo puts it beside this program, whatever the target folder is.
        let program = std::env::current_exe()?.with_file_name("mailbox-collector");
        if !program.is_file() {
            bail!("cargo built no {}", program.display());
        }
        let folder = root().join("out").join(format!("demo-{}", std::process::id()));
        fs::create_dir_all(folder.join("files")).with_context(|| format!("make {}", folder.display()))?;
        fs::create_dir_all(folder.join("spool"))?;
        Ok(Self { program, folder, started })
    }

    fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// The flags that point the collector at the stand-in and at this run's folders.
    fn flags(&self, stand_in: &StandIn) -> anyhow::Result<Vec<String>> {
        let ca = self.folder.join("stand-in-ca.pem");
        fs::write(&ca, stand_in.ca_pem())?;
        Ok(vec![
            format!("--entra-authority={}", stand_in.authority()),
            format!("--imap-endpoint={}", stand_in.imap_endpoint()),
            format!("--ca-file={}", ca.display()),
            format!("--file-sink-root={}", self.files().display()),
            format!("--spool-dir={}", self.folder.join("spool").display()),
        ])
    }

    fn elapsed(&self) -> String {
        format!("{:5.1} s", self.started.elapsed().as_secs_f32())
    }

    fn step(&self, text: impl std::fmt::Display) {
        say(format_args!("[{}] {text}", self.elapsed()));
    }
}

/// The examples of the documentation, with the stand-in's app in place of the placeholders.
pub(super) fn examples() -> anyhow::Result<String> {
    let mut yaml = String::new();
    for name in ["secret.yaml", "mailbox-collector.yaml"] {
        let file = root().join("docs/examples").join(name);
        yaml += "---\n";
        yaml += &fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    }
    for (placeholder, value) in stand_in::PLACEHOLDERS {
        if !yaml.contains(placeholder) {
            bail!("docs/examples no longer has the placeholder {placeholder}");
        }
        yaml = yaml.replace(placeholder, value);
    }
    Ok(yaml)
}

/// Waits until everything sent is on disk; says how far it is every ten seconds.
fn wait_for_mail(stand_in: &StandIn, files: &Path, mut alive: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Delivered> {
    let started = Instant::now();
    let mut next = Duration::from_secs(10);
    loop {
        let delivered = Delivered::read(files)?;
        if delivered.count() >= stand_in.sent() {
            return Ok(delivered);
        }
        alive()?;
        if started.elapsed() > PATIENCE {
            bail!("only {} of {} messages are on disk after {} s", delivered.count(), stand_in.sent(), PATIENCE.as_secs());
        }
        if started.elapsed() > next {
            next += Duration::from_secs(10);
            say(format_args!("        … {} of {} messages so far", delivered.count(), stand_in.sent()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
