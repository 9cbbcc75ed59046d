//! The limit: the least that must be done for durable files. Log in, one FETCH of everything, read the socket; O_TMPFILE, one syncfs a batch, linkat,
//! fsync of the folder. It looks at nothing and remembers nothing. It runs as a process of its own, as the others do.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, bail};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, syncfs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 32 << 20;
/// Connections at a time, as many as mailbox-collector has.
const AT_ONCE: usize = 8;

/// For the benchmark's own use: collects mailboxes by the least that must be done
#[derive(Debug, clap::Args)]
pub(crate) struct LimitArguments {
    /// HOST:PORT
    #[arg(long)]
    imap: String,
    /// PEM
    #[arg(long)]
    ca: PathBuf,
    /// Everybody's
    #[arg(long)]
    password: String,
    /// Where the files go
    #[arg(long)]
    out: PathBuf,
    /// Mailboxes
    mailboxes: Vec<String>,
}

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

pub(crate) fn limit(arguments: &LimitArguments) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&arguments.ca)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let queue = Mutex::new(arguments.mailboxes.iter());
    std::thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            loop {
                let next = queue.lock().map_err(|_| anyhow::anyhow!("another thread panicked"))?.next();
                let Some(mailbox) = next else { return Ok(()) };
                collect(arguments, mailbox, &config).with_context(|| mailbox.clone())?;
            }
        };
        let threads: Vec<_> = (0..AT_ONCE.min(arguments.mailboxes.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}

fn collect(arguments: &LimitArguments, mailbox: &str, config: &Arc<ClientConfig>) -> anyhow::Result<()> {
    let folder = arguments.out.join(mailbox);
    fs::create_dir_all(&folder)?;
    let mut batch = Batch { folder: File::open(&folder)?, files: Vec::new(), bytes: 0, number: 0 };
    let (host, _) = arguments.imap.rsplit_once(':').context("--imap is no HOST:PORT")?;
    let tcp = TcpStream::connect(&arguments.imap)?;
    tcp.set_nodelay(true)?;
    let tls = ClientConnection::new(Arc::clone(config), ServerName::try_from(host.to_owned())?)?;
    let mut stream = BufReader::with_capacity(256 << 10, StreamOwned::new(tls, tcp));
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    command(&mut stream, &format!("LOGIN \"{mailbox}\" \"{}\"", arguments.password), &mut batch)?;
    command(&mut stream, "EXAMINE INBOX", &mut batch)?;
    command(&mut stream, "UID FETCH 1:* (UID BODY.PEEK[])", &mut batch)?;
    batch.flush()?;
    command(&mut stream, "LOGOUT", &mut batch)
}

/// Sends a command and reads to its answer; every literal is a message.
fn command(stream: &mut Stream, text: &str, batch: &mut Batch) -> anyhow::Result<()> {
    let sink = stream.get_mut();
    sink.write_all(format!("a {text}\r\n").as_bytes())?;
    sink.flush()?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line)? == 0 {
            bail!("the server closed the connection");
        }
        if line.starts_with(b"a ") {
            return if line.starts_with(b"a OK") { Ok(()) } else { bail!("the server answered {}", String::from_utf8_lossy(&line)) };
        }
        let length = std::str::from_utf8(&line).ok().and_then(|line| line.trim_end().strip_suffix('}')?.rsplit_once('{')?.1.parse().ok());
        if let Some(length) = length {
            batch.take(stream, length)?;
        }
    }
}

struct Batch {
    /// Opened before the first write: syncfs tells of errors since then.
    folder: File,
    files: Vec<File>,
    bytes: usize,
    number: u64,
}

impl Batch {
    fn take(&mut self, stream: &mut Stream, length: u64) -> anyhow::Result<()> {
        let mode = Mode::from_raw_mode(0o640);
        let mut file = File::from(openat(&self.folder, c".", OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode)?);
        let mut left = usize::try_from(length)?;
        while left > 0 {
            let bytes = stream.fill_buf()?;
            let now = bytes.get(..left.min(bytes.len())).unwrap_or_default();
            if now.is_empty() {
                bail!("the server closed the connection in a message");
            }
            file.write_all(now)?;
            let taken = now.len();
            stream.consume(taken);
            left -= taken;
        }
        self.files.push(file);
        self.bytes += usize::try_from(length)?;
        if self.files.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        syncfs(&self.folder)?;
        for file in self.files.drain(..) {
            self.number += 1;
            let from = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(CWD, Path::new(&from), &self.folder, format!("{}.eml", self.number), AtFlags::SYMLINK_FOLLOW)?;
        }
        self.folder.sync_all()?;
        self.bytes = 0;
        Ok(())
    }
}
