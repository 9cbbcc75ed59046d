//! The programs that are measured, each with the configuration that makes it do the same: every mailbox once, from the beginning, files synced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use xtask::dovecot::PASSWORD;
use xtask::say;

/// Where one run takes place.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    /// mailbox-collector.
    pub(super) program: PathBuf,
    pub(super) imap: String,
    pub(super) authority: String,
    pub(super) ca: PathBuf,
    pub(super) mailboxes: Vec<String>,
}

impl Place {
    /// The mail, and nothing else but what begins with a dot.
    pub(super) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    fn host_and_port(&self) -> anyhow::Result<(&str, &str)> {
        self.imap.rsplit_once(':').context("the server has no HOST:PORT")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Limit,
    MailboxCollector,
    Mbsync,
    Fetchmail,
}

const ALL: [Contender; 4] = [Contender::Limit, Contender::MailboxCollector, Contender::Mbsync, Contender::Fetchmail];

/// Those of the names that are installed.
pub(super) fn chosen(names: &[String]) -> anyhow::Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for name in names {
        let Some(contender) = ALL.into_iter().find(|contender| contender.name() == name) else {
            bail!("there is no tool {name}; there are {}", ALL.map(Contender::name).join(", "));
        };
        if let Some(program) = contender.installed_as().filter(|program| !Path::new(program).is_file()) {
            say(format_args!("{name} is not measured: {program} is not installed"));
        } else {
            contenders.push(contender);
        }
    }
    if contenders.is_empty() { bail!("nothing to measure") } else { Ok(contenders) }
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::MailboxCollector => "mailbox-collector",
            Self::Mbsync => "mbsync",
            Self::Fetchmail => "fetchmail",
        }
    }

    fn installed_as(self) -> Option<&'static str> {
        match self {
            Self::Limit | Self::MailboxCollector => None,
            Self::Mbsync => Some("/usr/bin/mbsync"),
            Self::Fetchmail => Some("/usr/bin/fetchmail"),
        }
    }

    /// Writes what it needs, and gives the command to measure.
    pub(super) fn prepare(self, place: &Place) -> anyhow::Result<Command> {
        match self {
            Self::Limit => limit(place),
            Self::MailboxCollector => mailbox_collector(place),
            Self::Mbsync => mbsync(place),
            Self::Fetchmail => fetchmail(place),
        }
    }
}

fn limit(place: &Place) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench-limit", "--imap", &place.imap, "--password", PASSWORD]);
    command.arg("--ca").arg(&place.ca).arg("--out").arg(place.out()).args(&place.mailboxes);
    Ok(command)
}

fn mailbox_collector(place: &Place) -> anyhow::Result<Command> {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: app, namespace: bench}}\nstringData: {{tenantId: {}, clientId: {}, clientSecret: {}}}\n",
        simulator::TENANT_ID,
        simulator::CLIENT_ID,
        simulator::CLIENT_SECRET
    );
    for mailbox in &place.mailboxes {
        let name = mailbox.split('@').next().unwrap_or_default();
        yaml.push_str(&format!(
            "---\napiVersion: mailbox-collector.io/v1alpha1\nkind: MailboxCollector\nmetadata: {{name: {name}, namespace: bench}}\nspec:\n  \
             mailbox: {mailbox}\n  credentials: {{secretRef: {{name: app}}}}\n  sinks: [{{name: files, file: {{path: {name}, format: EML}}}}]\n"
        ));
    }
    let file = place.folder.join("collectors.yaml");
    fs::write(&file, yaml)?;
    let mut command = Command::new(&place.program);
    command.args(["collect", "--once", "--entra-authority", &place.authority, "--imap-endpoint", &place.imap]);
    command.arg("--ca-file").arg(&place.ca).arg("-f").arg(file).arg("--file-sink-root").arg(place.out());
    command.arg("--state").arg(place.folder.join("state"));
    Ok(command)
}

fn mbsync(place: &Place) -> anyhow::Result<Command> {
    let (host, port) = place.host_and_port()?;
    let (out, ca, state) = (place.out(), place.ca.display(), place.folder.join("state"));
    fs::create_dir_all(&state)?;
    let mut file = "FSync yes\n\n".to_owned();
    for mailbox in &place.mailboxes {
        let near = out.join(mailbox);
        fs::create_dir_all(&near)?;
        let (near, state) = (near.display(), state.display());
        // Without SystemCertificates it would read the system's whole bundle for each mailbox.
        file.push_str(&format!(
            "IMAPAccount {mailbox}\nHost {host}\nPort {port}\nUser {mailbox}\nPass {PASSWORD}\nSSLType IMAPS\nCertificateFile {ca}\nSystemCertificates no\n\n\
             IMAPStore {mailbox}-far\nAccount {mailbox}\n\nMaildirStore {mailbox}-near\nPath {near}/\nInbox {near}/INBOX\n\n\
             Channel {mailbox}\nFar :{mailbox}-far:\nNear :{mailbox}-near:\nSync Pull New\nCreate Near\nSyncState {state}/{mailbox}-\n\n"
        ));
    }
    let path = place.folder.join("mbsyncrc");
    fs::write(&path, file)?;
    let mut command = Command::new("/usr/bin/mbsync");
    command.arg("-q").arg("-c").arg(path).arg("-a");
    Ok(command)
}

fn fetchmail(place: &Place) -> anyhow::Result<Command> {
    let (host, port) = place.host_and_port()?;
    let ca = place.ca.display();
    let mut file = "set no bouncemail\nset no syslog\n".to_owned();
    for mailbox in &place.mailboxes {
        let folder = place.out().join(mailbox);
        fs::create_dir_all(&folder)?;
        // It hands each message to a program; this one syncs the file and gives it its name, as a delivery agent must.
        let agent = place.folder.join(format!("deliver-{mailbox}"));
        let out = folder.display();
        fs::write(
            &agent,
            format!("#!/bin/sh\nf=$(mktemp '{out}/.XXXXXXXXXXXX') && cat >\"$f\" && sync -d \"$f\" && mv \"$f\" \"{out}/$$-${{f##*.}}\"\n"),
        )?;
        fs::set_permissions(&agent, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        file.push_str(&format!(
            "poll {mailbox} via {host} protocol IMAP service {port} username \"{mailbox}\" password \"{PASSWORD}\" ssl sslcertck sslcertfile {ca} \
             keep fetchall no rewrite no mimedecode mda \"{}\"\n",
            agent.display()
        ));
    }
    let path = place.folder.join("fetchmailrc");
    fs::write(&path, file)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let mut command = Command::new("/usr/bin/fetchmail");
    command.env("FETCHMAILHOME", &place.folder).arg("-s").arg("-f").arg(path).arg("--pidfile").arg(place.folder.join("pid"));
    Ok(command)
}
