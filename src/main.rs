//! The one binary: parse the command line, then do what it says.

use std::process::ExitCode;

use clap::Parser;
use mailbox_collector::cli::Cli;

/// It gives memory back after a large message and is fast with many threads; glibc's does one of the two.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    Cli::parse().execute()
}
