//! Runs the stand-in by itself, for trying things by hand: prints what it serves and how to reach it, and delivers mail now and then.

use std::io::{Write as _, stdout};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use simulator::{CLIENT_ID, CLIENT_SECRET, Message, Options, Simulator, Step, TENANT_ID, World};

/// A stand-in for Entra and Exchange Online (IMAP, POP3) on this machine, with a tenant in which everything is set up rightly,
/// except for the steps named by --missing.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A mailbox to have; may be repeated
    #[arg(long = "mailbox", value_name = "ADDRESS", default_value = "factures@contoso.example")]
    mailboxes: Vec<String>,
    /// Messages in the INBOX of each mailbox at the start
    #[arg(long, value_name = "N", default_value_t = 10)]
    messages: u64,
    /// Size of each message in bytes; without it, a mixture as in an office
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Deliver a new message to each mailbox so often (10s, 2m, 500ms)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    new_every: Option<Duration>,
    /// A set-up step that the administrator missed or did wrongly; may be repeated
    #[arg(long = "missing", value_name = "STEP", value_parser = step)]
    missing: Vec<Step>,
    /// Seconds that tokens live (default: 60 to 90 minutes, as with Microsoft)
    #[arg(long, value_name = "SECONDS")]
    token_lifetime: Option<u64>,
    /// Give the same bytes at every FETCH of a message (Exchange does not)
    #[arg(long)]
    stable_rendering: bool,
    /// Address to listen on
    #[arg(long, value_name = "IPV4", default_value = "127.0.0.1")]
    address: Ipv4Addr,
    /// Another host name for the server certificate; may be repeated
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// Port of the token endpoint (0: a free one)
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    entra_port: u16,
    /// Port of IMAP (0: a free one)
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    imap_port: u16,
    /// Port of POP3 (0: a free one)
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pop3_port: u16,
    /// Offer PIPELINING in POP3 (Exchange Online does not)
    #[arg(long)]
    pop3_pipelining: bool,
    /// Write the CA certificate to this file
    #[arg(long, value_name = "FILE", default_value = "simulator-ca.pem")]
    ca_out: PathBuf,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "simulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let message = |serial| arguments.size.map_or_else(|| Message::office(serial), |size| Message::sized(serial, size));
    let mut world = World::ready(&arguments.mailboxes);
    world.entra.token_lifetime = arguments.token_lifetime.map(Duration::from_secs);
    world.exchange.pop3_pipelining = arguments.pop3_pipelining;
    world.permit_pop3();
    let mut serial = 0;
    for address in &arguments.mailboxes {
        world.mailbox(address)?.stable_rendering = arguments.stable_rendering;
        for _ in 0..arguments.messages {
            serial += 1;
            world.deliver(address, "INBOX", message(serial))?;
        }
    }
    for step in &arguments.missing {
        world.miss(*step);
    }
    let simulator = Simulator::start_blocking(Options {
        world,
        address: arguments.address,
        entra_port: arguments.entra_port,
        imap_port: arguments.imap_port,
        pop3_port: arguments.pop3_port,
        names: arguments.names.clone(),
        ..Options::default()
    })?;
    std::fs::write(&arguments.ca_out, simulator.ca_pem())?;

    let mut out = stdout();
    writeln!(out, "Entra:    {}  (token endpoint /{TENANT_ID}/oauth2/v2.0/token)", simulator.authority())?;
    writeln!(out, "IMAP:     {}  (TLS, XOAUTH2)", simulator.imap_endpoint())?;
    writeln!(out, "POP3:     {}  (TLS, XOAUTH2)", simulator.pop3_endpoint())?;
    writeln!(out, "CA:       {}", arguments.ca_out.display())?;
    writeln!(out, "Tenant:   {TENANT_ID}\nClient:   {CLIENT_ID}\nSecret:   {CLIENT_SECRET}")?;
    for address in &arguments.mailboxes {
        writeln!(out, "Mailbox:  {address}, {} messages in INBOX", arguments.messages)?;
    }
    for (name, step) in Step::ALL {
        if arguments.missing.contains(&step) {
            writeln!(out, "Missing:  {name}")?;
        }
    }
    writeln!(out, "Ctrl-C ends it.")?;
    out.flush()?;
    loop {
        std::thread::sleep(arguments.new_every.unwrap_or(Duration::from_secs(3600)));
        if arguments.new_every.is_some() {
            for address in &arguments.mailboxes {
                serial += 1;
                let uid = simulator.world().deliver(address, "INBOX", message(serial))?;
                writeln!(
                    out,
                    "Delivered: serial {serial} to {address} as UID {uid}; {} IMAP connections open",
                    simulator.connections_open()
                )?;
            }
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text} is no time such as 10s, 2m or 500ms"))?;
    match text.strip_prefix(digits) {
        Some("ms") if number > 0 => Ok(Duration::from_millis(number)),
        Some("s" | "") if number > 0 => Ok(Duration::from_secs(number)),
        Some("m") if number > 0 => Ok(Duration::from_secs(number * 60)),
        _ => Err(format!("{text} is no time such as 10s, 2m or 500ms")),
    }
}

fn step(name: &str) -> Result<Step, String> {
    Step::ALL
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, step)| step)
        .ok_or_else(|| format!("no such step; there are {}", Step::ALL.map(|(known, _)| known).join(", ")))
}
