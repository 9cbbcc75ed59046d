//! `cargo xtask rehearse --missing STEP`: a tenant in a box in which a step of the set-up was missed, and what `mailbox-collector check` says of
//! it. For administrators and support desks; nothing of Microsoft's is touched.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use simulator::{CLIENT_SECRET, CLIENT_SECRET_ID, Message, Options, Simulator, Step, TENANT_ID, World};
use xtask::{root, say};

use super::demo::{MAILBOX, examples};
use super::{cargo, must};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A step that was missed or done wrongly; may be repeated. Without it, all is right
    #[arg(long = "missing", value_name = "STEP", value_parser = mistake, long_help = long_help())]
    missing: Vec<Mistake>,
    /// Language of the checklist
    #[arg(long, value_parser = ["en", "fr"], default_value = "en")]
    lang: String,
    /// Ends after the check, instead of waiting for more by hand; fails if a step was missed and the check did not notice
    #[arg(long)]
    once: bool,
}

/// What goes wrong in the tenant, or in what the administrator wrote down.
#[derive(Clone, Debug)]
enum Mistake {
    Tenant(Step),
    /// A text of the YAML, and what stands there instead.
    Written(&'static str, &'static str),
}

const WRITTEN: [(&str, Mistake); 5] = [
    ("secret-id", Mistake::Written(CLIENT_SECRET, CLIENT_SECRET_ID)),
    ("secret-empty", Mistake::Written(CLIENT_SECRET, "''")),
    ("tenant-malformed", Mistake::Written(TENANT_ID, "7e1a5c00-0000-4000-8000-00000000000")),
    ("cloud", Mistake::Written("stringData:\n", "stringData:\n  cloud: China\n")),
    ("mailbox-address", Mistake::Written("mailbox: factures@", "mailbox: facture@")),
];

fn names() -> String {
    let tenant = Step::ALL.into_iter().map(|(name, _)| name);
    tenant.chain(WRITTEN.iter().map(|(name, _)| *name)).collect::<Vec<_>>().join(", ")
}

fn long_help() -> String {
    format!("A step that was missed or done wrongly; may be repeated. Without it, all is right.\n\nSteps: {}", names())
}

fn mistake(name: &str) -> Result<Mistake, String> {
    let tenant = Step::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, step)| Mistake::Tenant(step));
    let written = || WRITTEN.iter().find(|(known, _)| *known == name).map(|(_, mistake)| mistake.clone());
    tenant.or_else(written).ok_or_else(|| format!("no such step; there are {}", names()))
}

pub(crate) fn rehearse(arguments: &Arguments) -> anyhow::Result<()> {
    must(cargo().args(["build", "--quiet", "--package", "mailbox-collector"]))?;
    let program = std::env::current_exe()?.with_file_name("mailbox-collector");
    let mut world = World::ready(&[MAILBOX]);
    for serial in 1..=3 {
        world.deliver(MAILBOX, "INBOX", Message::office(serial))?;
    }
    let mut yaml = examples()?;
    for mistake in &arguments.missing {
        match mistake {
            Mistake::Tenant(step) => world.miss(*step),
            Mistake::Written(text, instead) if yaml.contains(text) => yaml = yaml.replace(text, instead),
            Mistake::Written(text, _) => bail!("docs/examples no longer has {text:?}"),
        }
    }
    let simulator = Simulator::start_blocking(Options { world, ..Options::default() }).context("start the stand-in for Microsoft 365")?;
    let folder = root().join("out").join(format!("rehearsal-{}", std::process::id()));
    fs::create_dir_all(folder.join("files")).with_context(|| format!("make {}", folder.display()))?;
    let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let words = [
        "check".to_owned(),
        format!("--file={}", file("mailbox.yaml", &yaml)?.display()),
        format!("--entra-authority={}", simulator.authority()),
        format!("--imap-endpoint={}", simulator.imap_endpoint()),
        format!("--ca-file={}", file("ca.pem", simulator.ca_pem())?.display()),
        format!("--file-sink-root={}", folder.join("files").display()),
        format!("--lang={}", arguments.lang),
    ];
    let status = Command::new(&program).args(&words).stdin(Stdio::null()).status().context("start mailbox-collector")?;
    if arguments.once {
        return match (status.code(), arguments.missing.is_empty()) {
            (Some(0), true) | (Some(1), false) => Ok(()),
            (code, _) => bail!("`mailbox-collector check` ended with {code:?}"),
        };
    }
    say(format_args!("\nBy hand, while this runs:\n\n  {} {}\n\nCtrl-C ends it.", program.display(), words.join(" ")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::signal::ctrl_c())?;
    Ok(())
}
