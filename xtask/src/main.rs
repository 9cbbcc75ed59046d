//! `cargo xtask …`: the project's chores. Parses and hands on.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod command;

/// The project's chores
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the operator at work on this machine: stand-in for Microsoft 365, API server, operator, mail on disk
    Demo(command::demo::Arguments),
    /// Installs what is missing and passes the whole test-suite
    Test(command::test::Arguments),
    /// Measures collecting from a real Dovecot, beside other programs and the least that must be done
    Bench(command::bench::Arguments),
    #[command(hide = true)]
    BenchLimit(command::bench::LimitArguments),
    /// Runs the fuzz targets, each for some seconds
    Fuzz(command::fuzz::Arguments),
    /// Writes the CRDs of the code to crds/ and into the chart
    Crds,
    /// Writes the pages of docs/ that are made from the code
    Docs,
    /// A tenant in a box in which a step of the set-up was missed, and what `check` says of it
    Rehearse(command::rehearse::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo(arguments) => command::demo::demo(&arguments),
        Command::Test(arguments) => command::test::test(&arguments),
        Command::Bench(arguments) => command::bench::bench(&arguments),
        Command::BenchLimit(arguments) => command::bench::limit(&arguments),
        Command::Fuzz(arguments) => command::fuzz::fuzz(&arguments),
        Command::Crds => command::crds::crds(),
        Command::Docs => command::docs::docs(),
        Command::Rehearse(arguments) => command::rehearse::rehearse(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // `{:#}` and not `{:?}`: a backtrace helps nobody who reads this.
        Err(error) => {
            xtask::say(format_args!("\nerror: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
