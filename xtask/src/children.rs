//! Child processes and temporary folders that do not outlive us, however we end.
//!
//! A watchdog (one small shell per process of ours) holds the other end of a pipe. When the pipe closes, because we returned, panicked or were
//! killed, it ends what is still listed and removes the listed folders. PDEATHSIG is not used: it fires when the *thread* that spawned the
//! child ends, and a test's thread ends early; it would also need unsafe code.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

const WATCHDOG: &str = r#"
trap '' INT TERM HUP
pids=" "; rm_list=
while read -r what value; do
  case $what in
    pid) pids="$pids$value ";;
    gone) pids="${pids%% "$value" *} ${pids#* "$value" }";;
    dir) rm_list="$rm_list
$value";;
  esac
done
for p in $pids; do kill -TERM "$p" 2>/dev/null; done
n=0
for p in $pids; do while kill -0 "$p" 2>/dev/null && [ $n -lt 20 ]; do n=$((n+1)); sleep 0.1; done; done
for p in $pids; do kill -KILL "$p" 2>/dev/null; done
printf '%s\n' "$rm_list" | while IFS= read -r d; do case $d in /*/*) rm -rf "$d";; esac; done
"#;

/// A process of ours with its log file. Dropped = stopped (SIGTERM, after five seconds SIGKILL).
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    ended: bool,
}

impl Running {
    /// Starts `command` in its own process group (so that Ctrl-C reaches only us), with both outputs appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        tell_watchdog("pid", child.id())?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), ended: false })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The exit status, if it has ended.
    ///
    /// # Errors
    /// When the system refuses to say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() && !self.ended {
            self.ended = true;
            tell_watchdog("gone", self.child.id())?;
        }
        Ok(status)
    }

    /// Fails, with the end of its log, if it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself ({status}); the end of {}:\n{}", self.name, self.log.display(), tail(&self.log)),
        }
    }

    /// Sends a signal, unless it has ended.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.ended()?.is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id beyond i32")?;
            kill_process(pid, signal).with_context(|| format!("signal {}", self.name))?;
        }
        Ok(())
    }

    /// Waits at most `limit`.
    ///
    /// # Errors
    /// When it has not ended by then.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} has not ended within {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, then at most `limit` of waiting, then SIGKILL.
    ///
    /// # Errors
    /// When even SIGKILL does not end it.
    pub fn stop(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit).or_else(|_| self.kill())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop(Duration::from_secs(5));
    }
}

/// A temporary folder that is removed on drop, and by the watchdog where nothing is dropped (a static, a kill -9).
///
/// # Errors
/// When the folder cannot be made.
pub fn temporary_folder(prefix: &str) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().context("make a temporary folder")?;
    tell_watchdog("dir", folder.path().display())?;
    Ok(folder)
}

/// The last 30 lines of a file, for an error message.
pub fn tail(file: &Path) -> String {
    let text = std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(30)).copied().collect::<Vec<_>>().join("\n")
}

/// `count` different ports of 127.0.0.1 that are free now. Somebody may take one before its server starts: whoever starts servers tries again.
///
/// # Errors
/// When no port is free.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(listeners.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect::<Result<Vec<_>, _>>()?)
}

fn tell_watchdog(what: &str, value: impl std::fmt::Display) -> anyhow::Result<()> {
    static PIPE: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();
    let mut pipe = PIPE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if pipe.is_none() {
        let child = Command::new("/bin/sh")
            .args(["-c", WATCHDOG])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the watchdog")?;
        *pipe = child.stdin;
    }
    let pipe = pipe.as_mut().context("the watchdog has no standard input")?;
    writeln!(pipe, "{what} {value}").context("the watchdog is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = temporary_folder("xtask-test-").unwrap();
        let running = Running::start("sleep", Command::new("sleep").arg("600"), &folder.path().join("log")).unwrap();
        let process = format!("/proc/{}", running.pid());
        assert!(Path::new(&process).exists());
        drop(running);
        assert!(!Path::new(&process).exists());
    }

    #[test]
    fn the_watchdog_ends_what_is_listed_and_only_that() {
        let mut doomed = Command::new("sleep").arg("600").spawn().unwrap();
        let mut spared = Command::new("sleep").arg("600").spawn().unwrap();
        let folder = tempfile::tempdir().unwrap().keep();
        let mut watchdog = Command::new("/bin/sh").args(["-c", WATCHDOG]).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = watchdog.stdin.take().unwrap();
        write!(pipe, "pid {0}\npid {1}\ngone {0}\ndir {2}\n", spared.id(), doomed.id(), folder.display()).unwrap();
        drop(pipe);
        doomed.wait().unwrap();
        watchdog.wait().unwrap();
        assert!(!folder.exists());
        assert_eq!(spared.try_wait().unwrap(), None);
        spared.kill().unwrap();
        spared.wait().unwrap();
    }

    #[test]
    fn a_program_that_ends_early_is_reported_with_its_log() {
        let folder = temporary_folder("xtask-test-").unwrap();
        let mut running =
            Running::start("sh", Command::new("sh").args(["-c", "echo why it ended; exit 3"]), &folder.path().join("log")).unwrap();
        running.wait(Duration::from_secs(10)).unwrap();
        let message = running.must_run().unwrap_err().to_string();
        assert!(message.contains("why it ended") && message.contains("exit status: 3"), "{message}");
    }
}
