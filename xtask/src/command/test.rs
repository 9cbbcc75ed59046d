//! `cargo xtask test`: installs what is missing, then the whole test-suite. Two at once work: they wait for each other only while something is built.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use xtask::programs::{Programs, ensure_debian_packages};
use xtask::{root, say};

use super::{cargo, must};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only the tests: no formatting, no clippy, no chart
    #[arg(long)]
    fast: bool,
}

pub(crate) fn test(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    ensure_debian_packages()?;
    // Go and cargo both use all cores, but neither does so all the time.
    let programs = std::thread::spawn(Programs::ensure);
    if !arguments.fast {
        step("formatting");
        must(cargo().args(["fmt", "--all", "--check"]))?;
        step("clippy");
        must(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    }
    step("building the tests");
    must(cargo().args(["test", "--quiet", "--workspace", "--no-run"]))?;
    let programs = programs.join().map_err(|_| anyhow::anyhow!("the build of Kubernetes' programs panicked"))??;
    if !arguments.fast {
        step("the chart");
        must(Command::new(programs.path("helm")).current_dir(root()).args(["lint", "--quiet", "--strict", "charts/mailbox-collector"]))?;
    }
    step("tests");
    must(cargo().args(["test", "--workspace"]))?;
    step("what the fuzzers kept");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("fuzz");
    must(cargo().args(["test", "--quiet", "--manifest-path", "tests/fuzz/Cargo.toml"]).env("CARGO_TARGET_DIR", target))?;
    say(format_args!("\nAll passed, {} s in all.", started.elapsed().as_secs()));
    Ok(())
}

fn step(name: &str) {
    say(format_args!("── {name}"));
}
