//! `cargo xtask bench`: how fast mail comes from a real Dovecot to durable files on this machine, beside other programs and beside the least that
//! must be done (the limit), all in one interleaved run. A table on the terminal; the table as Markdown and a plot as SVG in target/bench.

mod contender;
mod limit;
mod measure;
mod relay;
mod report;
mod workload;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use simulator::{Options, Simulator, World};
use xtask::dovecot::Dovecot;
use xtask::{root, say};

pub(crate) use limit::{LimitArguments, limit};

use super::{cargo, must};
use contender::{Contender, Place};
use measure::Measured;
use workload::Workload;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// W1: 10,000 small messages; W2: 2,000 office mails, 0.5 GB; W3: 20 messages of 40 MiB; W5: 200 mailboxes with 10 small messages each
    #[arg(long, value_delimiter = ',', default_value = "W1,W2,W3,W5")]
    workloads: Vec<String>,
    /// Runs of each program on each workload, interleaved; the median counts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Of limit, mailbox-collector, mbsync, fetchmail; those that are not installed are left out
    #[arg(long, value_delimiter = ',', default_value = "limit,mailbox-collector,mbsync")]
    tools: Vec<String>,
    /// A round trip to the server takes so long (half of it each way, and half at the set-up of a connection), such as 40ms
    #[arg(long, value_parser = milliseconds)]
    round_trip: Option<Duration>,
    /// A twentieth of the messages: to see that it works
    #[arg(long)]
    small: bool,
    /// The binary to measure; without it the release build is made and taken
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix("ms").and_then(|number| number.parse().ok());
    number
        .filter(|number| (1..=10_000).contains(number))
        .map(Duration::from_millis)
        .ok_or_else(|| "write it as 40ms (1ms to 10000ms)".to_owned())
}

pub(crate) fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.runs == 0 {
        bail!("--runs 0 measures nothing");
    }
    let contenders = contender::chosen(&arguments.tools)?;
    let workloads = arguments.workloads.iter().map(|name| Workload::named(name, arguments.small)).collect::<anyhow::Result<Vec<_>>>()?;
    let program = match &arguments.program {
        Some(program) => program.canonicalize().with_context(|| format!("--program {}", program.display()))?,
        None => release()?,
    };
    let folder = xtask::children::temporary_folder("mbc-bench-")?;
    let mut results: BTreeMap<(String, String), Vec<Measured>> = BTreeMap::new();
    let mut texts = Vec::new();
    for workload in &workloads {
        // One server for each workload, so that what is not measured is gone from memory.
        let dovecot = Dovecot::start()?;
        let expected = workload.load(&dovecot)?;
        let mailboxes = workload.mailboxes();
        let simulator = Simulator::start_blocking(Options { world: World::ready(&mailboxes), ..Options::default() })?;
        let (relay, imap) = match arguments.round_trip {
            None => (None, dovecot.imap_endpoint()),
            Some(round_trip) => {
                let relay = relay::Relay::start(&dovecot.imap_endpoint(), round_trip)?;
                let endpoint = relay.endpoint();
                (Some(relay), endpoint)
            }
        };
        let ca = folder.path().join(format!("{}-ca.pem", workload.name));
        fs::write(&ca, format!("{}{}", simulator.ca_pem(), dovecot.ca_pem()))?;
        for run in 1..=arguments.runs {
            for contender in &contenders {
                // A fresh folder each time, and nothing deleted in between: ext4 takes long to reuse inodes that were just deleted.
                let place = Place {
                    folder: folder.path().join(format!("{}-{run}-{}", workload.name, contender.name())),
                    program: program.clone(),
                    imap: imap.clone(),
                    authority: simulator.authority(),
                    ca: ca.clone(),
                    mailboxes: mailboxes.clone(),
                };
                let measured = once(*contender, &place, &expected)?;
                say(format_args!("{} {run}/{} {:<18} {measured}", workload.name, arguments.runs, contender.name()));
                results.entry((workload.name.to_owned(), contender.name().to_owned())).or_default().push(measured);
                if workload.is_large() {
                    fs::remove_dir_all(place.folder.join("out"))?;
                }
            }
        }
        drop(relay);
        texts.push((workload.name.to_owned(), expected.len(), expected.values().map(|(length, _)| *length as u64).sum::<u64>()));
    }
    report::write(&texts, &results, arguments.round_trip, &root().join("target/bench"))
}

/// One run, and whether all mail is there, byte for byte.
fn once(contender: Contender, place: &Place, expected: &workload::Expected) -> anyhow::Result<Measured> {
    fs::create_dir_all(place.out())?;
    let mut command = contender.prepare(place)?;
    let measured = measure::run(&mut command, &place.folder.join("log")).with_context(|| format!("{} failed", contender.name()))?;
    workload::verify(&place.out(), expected).with_context(|| format!("{} did not deliver what the server holds", contender.name()))?;
    Ok(measured)
}

fn release() -> anyhow::Result<PathBuf> {
    say("── building mailbox-collector (release)");
    must(cargo().args(["build", "--release", "--quiet", "--package", "mailbox-collector"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/mailbox-collector"))
}
