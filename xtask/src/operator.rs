//! The operator's own binary as a child process: `mailbox-collector run` with a log file and an admin port.
//!
//! It is driven as a user would drive it, by flags, a kubeconfig and signals.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::children::{Running, free_ports, tail};

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary `mailbox-collector`.
    pub program: PathBuf,
    /// The kubeconfig it gets, and nothing else of the environment but PATH, HOME and [`Options::environment`].
    pub kubeconfig: PathBuf,
    /// Flags of `run`; `--admin-address` is added.
    pub arguments: Vec<String>,
    /// Further variables, such as `RUST_LOG`.
    pub environment: Vec<(String, String)>,
    /// The log file; appended to over restarts.
    pub log: PathBuf,
}

/// A running operator. Dropped = stopped.
#[derive(Debug)]
pub struct Operator {
    options: Options,
    running: Running,
    admin: u16,
}

impl Operator {
    /// Starts it and waits until `/readyz` says 200.
    ///
    /// # Errors
    /// When it ends by itself or is not ready within a minute; the message has the end of its log.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        let admin = free_ports(1)?.first().copied().context("no free port")?;
        let running = spawn(&options, admin)?;
        let mut operator = Self { options, running, admin };
        operator.wait_until_ready()?;
        Ok(operator)
    }

    /// `127.0.0.1:PORT` of `/livez`, `/readyz` and `/metrics`.
    pub fn admin_address(&self) -> String {
        format!("127.0.0.1:{}", self.admin)
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.options.log
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The status and body of a GET of the admin port.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        http_get(&self.admin_address(), path)
    }

    /// Fails, with the end of its log, if it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        self.running.must_run()
    }

    /// SIGTERM, at most half a minute of waiting, then SIGKILL.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.running.stop(Duration::from_secs(30))
    }

    /// SIGKILL, as a node's power failure would.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.running.kill()
    }

    /// Starts it again after [`Operator::stop`] or [`Operator::kill`] (ends it first if it runs), and waits until it is ready.
    ///
    /// # Errors
    /// As [`Operator::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.running.ended()?.is_none() {
            self.stop()?;
        }
        self.running = spawn(&self.options, self.admin)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.running.must_run()?;
            let answer = self.get("/readyz");
            if matches!(answer, Ok((200, _))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the operator is not ready after 60 s ({answer:?}); the end of its log:\n{}", tail(&self.options.log));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A plain HTTP/1.1 GET.
///
/// # Errors
/// When nobody answers within five seconds, or not in HTTP.
pub fn http_get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let address: std::net::SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head of the answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status in the answer")?;
    Ok((status, body.to_owned()))
}

fn spawn(options: &Options, admin: u16) -> anyhow::Result<Running> {
    let mut command = Command::new(&options.program);
    command.env_clear();
    for kept in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.env("KUBECONFIG", &options.kubeconfig).envs(options.environment.iter().map(|(name, value)| (name, value)));
    command.arg("run").arg(format!("--admin-address=127.0.0.1:{admin}")).args(&options.arguments);
    Running::start("mailbox-collector run", &mut command, &options.log)
}
