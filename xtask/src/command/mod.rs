//! What `cargo xtask` can do, one file each.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

pub(crate) mod bench;
pub(crate) mod crds;
pub(crate) mod demo;
pub(crate) mod docs;
pub(crate) mod fuzz;
pub(crate) mod rehearse;
pub(crate) mod test;

/// Cargo in the repository's root; the same cargo that started us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(xtask::root());
    command
}

/// Runs a command with its output on our terminal.
pub(crate) fn must(command: &mut Command) -> anyhow::Result<()> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let status = command.status().with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    if !status.success() {
        let program = PathBuf::from(command.get_program());
        let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        bail!("`{program} {}` failed ({status})", words.join(" "));
    }
    Ok(())
}
