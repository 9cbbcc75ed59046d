//! The demo without Kubernetes: `mailbox-collector collect` with the same YAML.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use xtask::children::Running;
use xtask::say;

use super::stand_in::{MAILBOX, StandIn};
use super::{Stage, examples, wait_for_mail};
use crate::command::must;

pub(super) fn show(stage: &Stage, once: bool) -> anyhow::Result<()> {
    let mut stand_in = StandIn::start()?;
    stage.step(format_args!(
        "A stand-in for Microsoft 365 runs: Entra at {}, IMAP at {}; {} messages wait in {MAILBOX}",
        stand_in.authority(),
        stand_in.imap_endpoint(),
        stand_in.sent()
    ));
    if once {
        stage.step("mailbox-collector collect --once -f examples.yaml --state … --file-sink-root …");
        must(collect(stage, &stand_in)?.arg("--once").stdin(Stdio::null()))?;
        let first = wait_for_mail(&stand_in, &stage.files(), || Ok(()))?.verify(&stand_in)?;
        stage.step(format_args!(
            "{} messages, {:.1} MB: each a file, byte for byte as the server gave it",
            stand_in.sent(),
            first as f64 / 1e6
        ));
        for _ in 0..3 {
            stand_in.send(None)?;
        }
        stage.step("Three more messages have come; the same command again, which must fetch these alone");
        must(collect(stage, &stand_in)?.arg("--once").stdin(Stdio::null()))?;
        let bytes = wait_for_mail(&stand_in, &stage.files(), || Ok(()))?.verify(&stand_in)?;
        stage.step(format_args!(
            "{} messages sent, {} files ({:.1} MB), none missing, none twice, none different",
            stand_in.sent(),
            stand_in.sent(),
            bytes as f64 / 1e6
        ));
        say(format_args!("The files are left in {}", stage.folder.display()));
        return Ok(());
    }
    let log = stage.folder.join("collect.log");
    let mut running = Running::start("mailbox-collector collect", &mut collect(stage, &stand_in)?, &log)?;
    stage.step("mailbox-collector collect -f examples.yaml --state … --file-sink-root … runs");
    let delivered = wait_for_mail(&stand_in, &stage.files(), || running.must_run())?;
    let bytes = delivered.verify(&stand_in)?;
    stage.step(format_args!(
        "All {} messages ({:.1} MB) are files, byte for byte as the server gave them",
        delivered.count(),
        bytes as f64 / 1e6
    ));
    say(format_args!("\nfiles       {}\nlog         {}", stage.files().display(), log.display()));
    say("\nNew mail comes every 20 s. Ctrl-C ends everything; the files stay.\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    loop {
        let interrupted = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), tokio::signal::ctrl_c()).await });
        if interrupted.is_ok() {
            say("\nStopping …");
            running.stop(Duration::from_secs(30))?;
            say(fs::read_to_string(&log).unwrap_or_default().trim_end());
            return Ok(());
        }
        let started = Instant::now();
        let serial = stand_in.send(None)?;
        wait_for_mail(&stand_in, &stage.files(), || running.must_run())?;
        stage.step(format_args!("New mail, number {serial}: on disk after {} ms", started.elapsed().as_millis()));
    }
}

fn collect(stage: &Stage, stand_in: &StandIn) -> anyhow::Result<Command> {
    let yaml = stage.folder.join("examples.yaml");
    fs::write(&yaml, examples()?)?;
    let mut command = Command::new(&stage.program);
    command.arg("collect").arg("-f").arg(yaml).arg("--state").arg(stage.folder.join("state")).args(stage.flags(stand_in)?);
    Ok(command)
}
