//! `mailbox-collector onboard`: prints the guide, the script or the manifests for a tenant. Asks nobody anything; writes to standard output only.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::language::{self, Lang};
use super::{fail, say};
use crate::doctor::onboard::{Onboarding, Protocol};

/// Print the guide for setting up mailboxes of a tenant: portal, consent, PowerShell script, manifests
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 printed; 2 wrong use.

Examples:
  mailbox-collector onboard --tenant contoso.onmicrosoft.com --client-id 11111111-2222-3333-4444-555555555555 --mailbox invoices@contoso.com
  mailbox-collector onboard … -o script > register.ps1
  mailbox-collector onboard … -o manifests > mailboxes.yaml")]
pub(super) struct Arguments {
    /// Directory (tenant) ID, or a domain of the tenant
    #[arg(long, value_name = "ID|DOMAIN")]
    tenant: String,
    /// Application (client) ID of the app registration
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// Object ID of the *enterprise application* (not of the app registration); without it, the script asks for it
    #[arg(long, value_name = "ID")]
    object_id: Option<String>,
    /// A mailbox to collect; repeat for more
    #[arg(long = "mailbox", value_name = "ADDRESS", required = true, value_delimiter = ',')]
    mailboxes: Vec<String>,
    /// Namespace of Secret and MailboxCollectors
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Name of the Secret
    #[arg(long, value_name = "NAME", default_value = "azure-app")]
    secret: String,
    /// Language; without it, that of LC_ALL, LC_MESSAGES or LANG
    #[arg(long, value_enum, value_name = "LANGUAGE", env = "MAILBOX_COLLECTOR_LANG")]
    lang: Option<Lang>,
    /// What to print: the guide with all of it, or one part alone
    #[arg(short = 'o', long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Script,
    Manifests,
}

pub(super) fn execute(arguments: Arguments) -> ExitCode {
    let Arguments { tenant, client_id, object_id, mailboxes, namespace, secret, lang, output } = arguments;
    let onboarding = Onboarding { tenant, client_id, object_id, mailboxes, protocol: Protocol::Imap, namespace, secret };
    if let Err(error) = onboarding.check() {
        fail(&error.to_string());
        return ExitCode::from(2);
    }
    let language = language::language(lang);
    say(&match output {
        Output::Text => onboarding.guide(language),
        Output::Script => onboarding.script(language),
        Output::Manifests => onboarding.manifests(language),
    })
}
