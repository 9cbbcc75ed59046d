//! The real parts that the tests and the demo start: Kubernetes programs, an API server, Dovecot, the operator's own binary.
//!
//! Everything listens on free ports of 127.0.0.1, lives in temporary folders and ends with whoever started it, also after a panic or a
//! kill -9. Nothing here knows the operator's code: it is driven by its command line, as a user would.

pub mod authority;
pub mod children;
pub mod cluster;
pub mod dovecot;
pub mod operator;
pub mod programs;

use std::io::Write as _;
use std::path::PathBuf;

/// The repository's root folder.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// Prints one line for a person. A closed standard output is no reason to fail.
pub fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// `count` random bytes in hexadecimal, from the kernel.
///
/// # Errors
/// When /dev/urandom cannot be read.
pub fn random_hex(count: usize) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut bytes = vec![0; count];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
