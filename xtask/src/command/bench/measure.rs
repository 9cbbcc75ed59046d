//! What a run costs: wall clock, CPU time of the program and its children, its largest size. Read from /proc, so that nothing is between.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// So long a program may take.
const LONGEST: Duration = Duration::from_secs(1_800);

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Seconds.
    pub(super) wall: f64,
    /// User and system time, seconds.
    pub(super) cpu: f64,
    /// Peak resident size, MiB; of the program itself.
    pub(super) mebibytes: f64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.3} s  CPU {:7.2} s  {:6.0} MiB", self.wall, self.cpu, self.mebibytes)
    }
}

/// Runs to the end; the output goes to `log`.
pub(super) fn run(command: &mut Command, log: &Path) -> anyhow::Result<Measured> {
    // What earlier runs left unwritten is theirs.
    rustix::fs::sync();
    let output = File::create(log)?;
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn().context("start it")?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id beyond i32")?;
    let process = format!("/proc/{}", child.id());
    let mut peak = 0;
    let wall = loop {
        // It stays a zombie, so that its times can still be read.
        let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG)?;
        if ended.is_some() {
            break started.elapsed();
        }
        peak = peak.max(kibibytes(&process).unwrap_or(0));
        if started.elapsed() > LONGEST {
            child.kill()?;
            bail!("not done after {LONGEST:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let cpu = cpu_seconds(&process).context("the times in /proc cannot be read")?;
    let status = child.wait()?;
    if !status.success() {
        bail!("{status}\n{}", xtask::children::tail(log));
    }
    Ok(Measured { wall: wall.as_secs_f64(), cpu, mebibytes: peak as f64 / 1_024.0 })
}

fn kibibytes(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// utime, stime, cutime and cstime (proc(5)), in hundredths of a second.
fn cpu_seconds(process: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(4).map(|field| field.parse().unwrap_or(0)).sum();
    Some(ticks as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_measured_and_a_failed_one_is_told_with_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let measured = run(Command::new("sh").args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]), &log).unwrap();
        assert!(measured.wall > 0.0 && measured.cpu > 0.0 && measured.mebibytes > 0.1, "{measured}");
        let failed = run(Command::new("sh").args(["-c", "echo why; exit 3"]), &log).unwrap_err().to_string();
        assert!(failed.contains("why") && failed.contains('3'), "{failed}");
    }
}
