//! A real Dovecot (Debian's packages) on loopback: TLS by a CA of its own, XOAUTH2 in which any token opens the mailbox that it is shown for.
//!
//! Each instance has its own folder, configuration and ports; the system's Dovecot is never touched. What is stored is read back over plain IMAP
//! by a reader that shares no code with the product.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use rustix::process::{getegid, geteuid};

use crate::authority::Authority;
use crate::children::{Running, free_ports, temporary_folder};
use crate::cluster::run;

const PROGRAM: &str = "/usr/sbin/dovecot";
/// Everybody's, for clients that log in without a token.
pub const PASSWORD: &str = "plain-reader";

/// A running Dovecot. Dropped = stopped, its mail removed.
#[derive(Debug)]
pub struct Dovecot {
    server: Running,
    ca: String,
    imaps: u16,
    imap: u16,
    pop3s: u16,
    folder: tempfile::TempDir,
}

/// A message as Dovecot returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its UID in INBOX.
    pub uid: u32,
    /// Its bytes, CRLF line ends as sent.
    pub bytes: Vec<u8>,
}

impl Dovecot {
    /// Starts one and waits until it greets: under a second.
    ///
    /// # Errors
    /// When Dovecot is not installed (the message names the command that installs it) or does not come up.
    pub fn start() -> anyhow::Result<Self> {
        if !Path::new(PROGRAM).is_file() {
            bail!(
                "{PROGRAM} is not installed: run `cargo xtask test` once (it installs Debian's packages), or `apt-get install dovecot-imapd dovecot-pop3d`"
            );
        }
        let version = run(Command::new(PROGRAM).arg("--version").stdin(Stdio::null()))?;
        if !version.starts_with("2.3.") {
            bail!("the tests know how to configure Dovecot 2.3 (Debian 12), this is {}", version.trim());
        }
        let mut outcome = Self::start_once();
        for _ in 0..3 {
            match &outcome {
                Err(error) if format!("{error:#}").contains("Address already in use") => outcome = Self::start_once(),
                _ => break,
            }
        }
        outcome
    }

    /// `localhost:PORT`, implicit TLS.
    pub fn imap_endpoint(&self) -> String {
        format!("localhost:{}", self.imaps)
    }

    /// `localhost:PORT`, implicit TLS; it offers PIPELINING, and its unique-ids are no plain numbers.
    pub fn pop3_endpoint(&self) -> String {
        format!("localhost:{}", self.pop3s)
    }

    /// The certificate to trust, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// Adds many messages to a mailbox's INBOX in one step, received one second after the other from 14 November 2023 on. A later [`Dovecot::deliver`] is seen by IDLE at once, this may take Dovecot a moment.
    ///
    /// # Errors
    /// When doveadm fails.
    pub fn load(&self, mailbox: &str, messages: &[Vec<u8>]) -> anyhow::Result<()> {
        let maildir = tempfile::Builder::new().prefix("load-").tempdir_in(self.folder.path())?;
        for sub in ["cur", "new", "tmp"] {
            fs::create_dir(maildir.path().join(sub))?;
        }
        for (number, message) in messages.iter().enumerate() {
            let received = 1_700_000_000 + number;
            let path = maildir.path().join("cur").join(format!("{received}.M{number:09}.test:2,"));
            fs::write(&path, message)?;
            // Where a Maildir keeps INTERNALDATE.
            fs::File::options().write(true).open(&path)?.set_modified(UNIX_EPOCH + Duration::from_secs(u64::try_from(received)?))?;
        }
        if geteuid().is_root() {
            let (user, group) = mail_ids();
            run(Command::new("chown").args(["-R", &format!("{user}:{group}")]).arg(maildir.path()))?;
        }
        let source = format!("maildir:{}", maildir.path().display());
        run(self.doveadm().args(["import", "-u", mailbox, &source, "", "ALL"]).stdin(Stdio::null())).map(drop)
    }

    /// Delivers one message to a mailbox's INBOX.
    ///
    /// # Errors
    /// When doveadm fails.
    pub fn deliver(&self, mailbox: &str, message: &[u8]) -> anyhow::Result<()> {
        self.deliver_to(mailbox, "INBOX", message)
    }

    /// Makes a folder, its name in UTF-8 with `/` between levels.
    ///
    /// # Errors
    /// When doveadm fails.
    pub fn create(&self, mailbox: &str, folder: &str) -> anyhow::Result<()> {
        run(self.doveadm().args(["mailbox", "create", "-u", mailbox, folder]).stdin(Stdio::null())).map(drop)
    }

    /// Gives a folder another name.
    ///
    /// # Errors
    /// When doveadm fails.
    pub fn rename(&self, mailbox: &str, from: &str, to: &str) -> anyhow::Result<()> {
        run(self.doveadm().args(["mailbox", "rename", "-u", mailbox, from, to]).stdin(Stdio::null())).map(drop)
    }

    /// Delivers one message to a folder that exists.
    ///
    /// # Errors
    /// When doveadm fails.
    pub fn deliver_to(&self, mailbox: &str, folder: &str, message: &[u8]) -> anyhow::Result<()> {
        let mut command = self.doveadm();
        command.args(["save", "-u", mailbox, "-m", folder]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start doveadm")?;
        child.stdin.take().context("doveadm has no standard input")?.write_all(message)?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("doveadm save: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Everything in a mailbox's INBOX, read without marking it seen.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub fn read(&self, mailbox: &str) -> anyhow::Result<Vec<Stored>> {
        let stream = TcpStream::connect(("127.0.0.1", self.imap)).context("connect to Dovecot")?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        let mut stored = Vec::new();
        read_line(&mut reader)?;
        for (tag, command) in [
            ("a", format!("LOGIN \"{mailbox}\" \"{PASSWORD}\"")),
            ("b", "EXAMINE INBOX".to_owned()),
            ("c", "UID FETCH 1:* (UID BODY.PEEK[])".to_owned()),
        ] {
            write!(writer, "{tag} {command}\r\n")?;
            loop {
                let line = read_line(&mut reader)?;
                if let Some(answer) = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                    if !answer.starts_with("OK") {
                        bail!("Dovecot answered {} with {answer}", command.split(' ').next().unwrap_or_default());
                    }
                    break;
                }
                let length = line.strip_suffix('}').and_then(|line| line.rsplit_once('{')).and_then(|(_, length)| length.parse().ok());
                if let Some(length) = length {
                    let uid = line.split_once("UID ").and_then(|(_, rest)| rest.split(' ').next()).and_then(|uid| uid.parse().ok());
                    let mut bytes = vec![0; length];
                    reader.read_exact(&mut bytes)?;
                    stored.push(Stored { uid: uid.with_context(|| format!("no UID in {line}"))?, bytes });
                }
            }
        }
        Ok(stored)
    }

    /// Makes a folder; its name is UTF-8, with `/` between levels.
    ///
    /// # Errors
    /// When doveadm fails.
    pub fn make_folder(&self, mailbox: &str, folder: &str) -> anyhow::Result<()> {
        run(self.doveadm().args(["mailbox", "create", "-u", mailbox, folder]).stdin(Stdio::null())).map(drop)
    }

    /// How many messages a folder holds, in all or of one kind (`UNSEEN`, say: search keys of doveadm).
    ///
    /// # Errors
    /// When doveadm fails.
    pub fn count(&self, mailbox: &str, folder: &str, kind: &[&str]) -> anyhow::Result<usize> {
        let found = run(self.doveadm().args(["search", "-u", mailbox, "mailbox", folder]).args(kind).stdin(Stdio::null()))?;
        Ok(found.lines().count())
    }

    fn doveadm(&self) -> Command {
        let mut command = Command::new("doveadm");
        command.arg("-c").arg(self.folder.path().join("dovecot.conf"));
        command
    }

    fn start_once() -> anyhow::Result<Self> {
        let folder = temporary_folder("mbc-dovecot-")?;
        let at = folder.path();
        let authority = Authority::new("mailbox-collector test Dovecot")?;
        let (certificate, key) = authority.issue(&["localhost", "127.0.0.1"])?;
        fs::write(at.join("server.crt"), certificate)?;
        fs::write(at.join("server.key"), key)?;
        fs::create_dir_all(at.join("keys"))?;
        fs::create_dir_all(at.join("mail"))?;
        let (user, group) = mail_ids();
        if geteuid().is_root() {
            // Its mail processes run as another user, who must reach the mail.
            fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            std::os::unix::fs::chown(at.join("mail"), Some(user), Some(group))?;
        }
        let ports = free_ports(3)?;
        let [imap, imaps, pop3s] = ports.as_slice() else { bail!("three ports were asked for") };
        fs::write(at.join("oauth2.conf.ext"), oauth2_configuration(at))?;
        fs::write(at.join("dovecot.conf"), configuration(at, *imap, *imaps, *pop3s, (user, group))?)?;
        let server = Running::start("dovecot", Command::new(PROGRAM).arg("-F").arg("-c").arg(at.join("dovecot.conf")), &at.join("output"))?;
        let mut dovecot = Self { server, ca: authority.pem().to_owned(), imaps: *imaps, imap: *imap, pop3s: *pop3s, folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while dovecot.greeting().is_err() {
            dovecot.server.must_run()?;
            if Instant::now() > deadline {
                let log = crate::children::tail(&dovecot.folder.path().join("log"));
                bail!("Dovecot does not greet after 20 s; the end of its log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(dovecot)
    }

    fn greeting(&self) -> anyhow::Result<()> {
        let stream = TcpStream::connect(("127.0.0.1", self.imap))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let line = read_line(&mut BufReader::new(stream))?;
        if line.starts_with("* OK") { Ok(()) } else { bail!("greeted with {line}") }
    }
}

fn read_line(reader: &mut impl std::io::BufRead) -> anyhow::Result<String> {
    let mut line = Vec::new();
    reader.take(1 << 20).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        bail!("Dovecot closed the connection");
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Who owns the mail: Debian's `mail` (8) where we are root, else ourselves.
fn mail_ids() -> (u32, u32) {
    if geteuid().is_root() { (8, 8) } else { (geteuid().as_raw(), getegid().as_raw()) }
}

/// XOAUTH2 is offered only with an oauth2 passdb. This one knows no key, so every token falls through to the next one.
fn oauth2_configuration(at: &Path) -> String {
    format!(
        "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={}/keys/\nusername_attribute = email\nusername_format = %u\nissuers = test\n",
        at.display()
    )
}

fn configuration(at: &Path, imap: u16, imaps: u16, pop3s: u16, (user, group): (u32, u32)) -> anyhow::Result<String> {
    let at = at.display();
    // Without root it cannot change to users of its own, nor enter a chroot.
    let rootless = if geteuid().is_root() {
        String::new()
    } else {
        let name = |flag| run(Command::new("id").arg(flag)).map(|name| name.trim().to_owned());
        let (me, my_group) = (name("-un")?, name("-gn")?);
        format!(
            "default_internal_user = {me}\ndefault_internal_group = {my_group}\ndefault_login_user = {me}\n\
             service anvil {{\n  chroot =\n}}\nservice imap-login {{\n  chroot =\n}}\nservice pop3-login {{\n  chroot =\n}}\n"
        )
    };
    Ok(format!(
        "instance_name = test-{imap}
base_dir = {at}/run
state_dir = {at}/state
log_path = {at}/log
listen = 127.0.0.1
protocols = imap pop3
ssl = yes
ssl_cert = <{at}/server.crt
ssl_key = <{at}/server.key
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = no
auth_mechanisms = plain login xoauth2
auth_username_format = %Lu
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {at}/oauth2.conf.ext
}}
# An app-only token names no user: any token opens the mailbox that XOAUTH2 names.
passdb {{
  driver = static
  mechanisms = xoauth2
  args = nopassword=y
}}
passdb {{
  driver = static
  mechanisms = plain login
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={at}/mail/%u allow_all_users=yes
}}
first_valid_uid = 1
first_valid_gid = 1
mail_location = mdbox:~/mdbox
mail_save_crlf = yes
mail_fsync = never
mail_max_userip_connections = 2000
service imap-login {{
  service_count = 0
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = 0
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service auth {{
  unix_listener auth-userdb {{
    mode = 0666
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
namespace inbox {{
  inbox = yes
}}
{rootless}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_at_once_keep_every_byte_and_know_nothing_of_each_other() {
        let (first, second) = (Dovecot::start().unwrap(), Dovecot::start().unwrap());
        let mail = |text: &str| format!("Subject: {text}\r\nMessage-ID: <{text}@example.org>\r\n\r\n{text} \u{e9}\r\n.\r\n").into_bytes();
        first.load("a@example.org", &[mail("one"), mail("two")]).unwrap();
        first.deliver("a@example.org", &mail("three")).unwrap();
        let stored = first.read("A@example.org").unwrap();
        assert_eq!(stored.iter().map(|stored| stored.uid).collect::<Vec<_>>(), [1, 2, 3]);
        let bytes = stored.into_iter().map(|stored| stored.bytes).collect::<Vec<_>>();
        assert_eq!(bytes, [mail("one"), mail("two"), mail("three")]);
        assert_eq!(second.read("a@example.org").unwrap(), []);
    }
}
