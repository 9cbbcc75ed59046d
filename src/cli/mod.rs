//! The command line: one binary, every flag also as an environment variable. Parses, wires the rooms together and turns results into exit
//! codes; does none of the work.

mod assertions;
mod check;
mod collect;
mod docs;
mod documents;
mod language;
mod onboard;
mod run;
mod settings;
mod state;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Collects mail from Exchange Online mailboxes (Office 365) into files, as a Kubernetes operator or from the command line.
#[derive(Debug, Parser)]
#[command(name = "mailbox-collector", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  mailbox-collector crds | kubectl apply --server-side -f -
  mailbox-collector run --file-sink-root /mail
  mailbox-collector collect --once -f mailbox.yaml --state ./state --file-sink-root ./mail
  mailbox-collector check office/factures
  mailbox-collector onboard --tenant contoso.onmicrosoft.com --client-id … --mailbox invoices@contoso.com

Exit codes: 0 all well; 1 a mailbox failed or the operator ended by an error; 2 wrong use. `check` has one more, see its help.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator: watch MailboxCollector resources and collect
    Run(Box<run::Arguments>),
    /// Collect without a cluster: the same YAML, Secrets from files, cursors in a local folder
    Collect(Box<collect::Arguments>),
    Check(Box<check::Arguments>),
    Onboard(Box<onboard::Arguments>),
    /// Print the CustomResourceDefinitions as YAML
    Crds,
    /// Print a page of the documentation that is made from the code
    #[command(hide = true)]
    Docs(docs::Arguments),
}

impl Cli {
    /// Does what was asked for.
    pub fn execute(self) -> ExitCode {
        match self.command {
            Command::Run(arguments) => run::execute(*arguments),
            Command::Collect(arguments) => collect::execute(*arguments),
            Command::Check(arguments) => check::execute(*arguments),
            Command::Onboard(arguments) => onboard::execute(*arguments),
            Command::Docs(arguments) => docs::execute(&arguments),
            Command::Crds => say(&crate::api::crds_yaml()),
        }
    }
}

/// The command's product, on standard output.
#[expect(clippy::print_stdout, reason = "it is what the command is for")]
fn say(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

/// Why the command failed, on standard error.
#[expect(clippy::print_stderr, reason = "it is what a person reads")]
fn fail(text: &str) -> ExitCode {
    eprintln!("mailbox-collector: {text}");
    ExitCode::FAILURE
}

/// Resolves at SIGINT or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        tracing::warn!("signals cannot be caught; the process ends at once when told to");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
