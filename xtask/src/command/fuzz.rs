//! `cargo xtask fuzz`: runs the fuzz targets of tests/fuzz with libFuzzer, one after the other, on the stable compiler.
//!
//! No sanitizer: the product has no unsafe code for one to watch. What is found breaks a promise that the target states.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use xtask::{root, say};

use super::{cargo, must};

/// What cargo-fuzz asks of the compiler, less the sanitizer.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Longest input, in bytes; beyond, runs become slow without reaching more.
const LONGEST: u32 = 8_192;
/// An input that takes longer than this many seconds is a finding.
const TOO_LONG: u32 = 20;
const MEGABYTES: u32 = 1_024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each target
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Only these targets; repeat for more
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// Adds to tests/fuzz/corpus what was found to reach further, as few and short inputs as possible
    #[arg(long)]
    keep: bool,
}

pub(crate) fn fuzz(arguments: &Arguments) -> anyhow::Result<()> {
    let package = root().join("tests/fuzz");
    let known = known(&package)?;
    if let Some(unknown) = arguments.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are {}", known.join(", "));
    }
    let folder = target_folder();
    let programs = build(&package, &folder)?;
    for name in known.iter().filter(|name| arguments.targets.is_empty() || arguments.targets.contains(name)) {
        run(&programs.join(name), name, &package, &folder, arguments)?;
    }
    Ok(())
}

/// Each target has a file.
fn known(package: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(package.join("fuzz_targets"))? {
        names.extend(entry?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("fuzz")
}

/// Gives the folder of the programs. An explicit `--target` keeps the instrumentation out of build scripts.
fn build(package: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let version = Command::new("rustc").arg("-vV").output().context("start rustc")?.stdout;
    let version = String::from_utf8(version)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not name its host")?;
    say("── building the fuzz targets");
    let mut command = cargo();
    command.args(["build", "--quiet", "--release", "--features", "libfuzzer", "--bins", "--target", host]);
    must(command.arg("--manifest-path").arg(package.join("Cargo.toml")).env("CARGO_TARGET_DIR", folder).env("RUSTFLAGS", INSTRUMENTATION))?;
    Ok(folder.join(host).join("release"))
}

fn run(program: &Path, name: &str, package: &Path, folder: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let (found, kept) = (folder.join("found").join(name), package.join("corpus").join(name));
    let artifacts = folder.join("artifacts").join(name);
    for folder in [&found, &artifacts] {
        fs::create_dir_all(folder)?;
    }
    let started = Instant::now();
    let log = folder.join(format!("{name}.log"));
    let output = fs::File::create(&log)?;
    let status = Command::new(program)
        .arg(format!("-max_total_time={}", arguments.seconds))
        .args([format!("-max_len={LONGEST}"), format!("-timeout={TOO_LONG}"), format!("-rss_limit_mb={MEGABYTES}")])
        .args(["-print_final_stats=1".to_owned(), format!("-artifact_prefix={}/", artifacts.display())])
        .args([&found, &kept])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("start {}", program.display()))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
        bail!("{name} broke a promise ({status}); the input lies in {}\n{end}", artifacts.display());
    }
    let statistic = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        value.trim_start_matches(':').trim().to_owned()
    };
    let executions = statistic("stat::number_of_executed_units");
    let covered = text.lines().rev().find_map(|line| line.split_once("cov: ")).and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("?");
    say(format_args!("{name}: {executions} executions in {} s, {covered} edges reached, nothing found", started.elapsed().as_secs()));
    if arguments.keep {
        let merge = Command::new(program)
            .args(["-merge=1", &format!("-max_len={LONGEST}")])
            .args([&kept, &found])
            .stderr(Stdio::null())
            .status()?;
        if !merge.success() {
            bail!("{name}: the corpora could not be merged ({merge})");
        }
    }
    Ok(())
}
