//! The programs of Kubernetes and of Debian that the tests start: where they are, and how they get there.
//!
//! Kubernetes' programs are built once from `tests/control-plane` (the Go module proxy has the sources, sums are checked) into the user's cache
//! folder. `KUBEBUILDER_ASSETS` comes first where it has the program. Nothing is skipped when something is missing: it fails and says which command helps.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::{root, say};

/// Without these the server calls itself v0.0.0-master, and a chart's `kubeVersion` refuses it. The same version stands in go.mod.
const KUBERNETES: &str = "1.37.2";
const CALLED_BY_NAME: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];
/// Debian's packages for the tests, and the program by which each is known.
const DEBIAN: [(&str, &str); 6] = [
    ("dovecot-core", "/usr/sbin/dovecot"),
    ("dovecot-imapd", "/usr/lib/dovecot/imap"),
    ("e2fsprogs", "/usr/sbin/mkfs.ext4"),
    ("strace", "/usr/bin/strace"),
    ("hunspell", "/usr/bin/hunspell"),
    ("hunspell-fr", "/usr/share/hunspell/fr.dic"),
];

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    assets: Option<PathBuf>,
    cache: PathBuf,
}

impl Programs {
    /// Finds the programs, or fails naming the command that builds them.
    ///
    /// # Errors
    /// When one is missing.
    pub fn require() -> anyhow::Result<Self> {
        let programs = Self::look()?;
        match programs.missing() {
            None => Ok(programs),
            Some(name) => {
                bail!(
                    "{name} is not built yet: run `cargo xtask test` once (it builds Kubernetes' programs into {})",
                    programs.cache.display()
                )
            }
        }
    }

    /// Finds the programs and builds them when one is missing. Takes 12 to 15 minutes the first time on two cores. Two processes at once: the second waits.
    ///
    /// # Errors
    /// When Go is missing or the build fails.
    pub fn ensure() -> anyhow::Result<Self> {
        let programs = Self::look()?;
        if programs.missing().is_none() {
            return Ok(programs);
        }
        let parent = programs.cache.parent().context("the cache folder has no parent")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        let lock = File::create(parent.join("build.lock"))?;
        if lock.try_lock().is_err() {
            say("Another run is building Kubernetes' programs; waiting for it.");
            lock.lock()?;
        }
        if programs.missing().is_some() {
            programs.build()?;
        }
        match programs.missing() {
            None => Ok(programs),
            Some(name) => bail!("the build left no {name} in {}", programs.cache.display()),
        }
    }

    /// The path of `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl` or `helm`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.assets.as_ref().map(|folder| folder.join(name)).filter(|path| path.is_file()).unwrap_or_else(|| self.cache.join(name))
    }

    fn look() -> anyhow::Result<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()).map(PathBuf::from);
        let user = std::env::var_os("XDG_CACHE_HOME")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
            .context("neither XDG_CACHE_HOME nor a home folder")?;
        let module = root().join("tests/control-plane");
        let mut hash = Fnv::new();
        hash.add(KUBERNETES.as_bytes());
        for file in ["go.mod", "go.sum", "main.go"] {
            hash.add(&fs::read(module.join(file)).with_context(|| format!("read tests/control-plane/{file}"))?);
        }
        Ok(Self { assets, cache: user.join("mailbox-collector").join(format!("kubernetes-{:016x}", hash.0)) })
    }

    fn missing(&self) -> Option<&'static str> {
        CALLED_BY_NAME.into_iter().chain(["helm"]).find(|name| !self.path(name).is_file())
    }

    fn build(&self) -> anyhow::Result<()> {
        let fresh = self.cache.with_extension(format!("new-{}", std::process::id()));
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh)?;
        let version = "k8s.io/component-base/version";
        let flags = format!(
            "-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor={}",
            KUBERNETES.split('.').nth(1).unwrap_or_default()
        );
        go_build("Kubernetes and etcd (once, about 12 min on 2 cores)", &flags, &fresh.join("control-plane"), ".")?;
        go_build("Helm (once, about 1 min)", "-s -w", &fresh.join("helm"), "helm.sh/helm/v4/cmd/helm")?;
        for name in CALLED_BY_NAME {
            std::os::unix::fs::symlink("control-plane", fresh.join(name))?;
        }
        let _ = fs::remove_dir_all(&self.cache);
        fs::rename(&fresh, &self.cache).with_context(|| format!("move the programs to {}", self.cache.display()))
    }
}

fn go_build(what: &str, ldflags: &str, output: &Path, package: &str) -> anyhow::Result<()> {
    say(format_args!("Building {what} …"));
    let mut child = Command::new("go")
        .current_dir(root().join("tests/control-plane"))
        .args(["build", "-v", "-buildvcs=false", "-ldflags", ldflags, "-o"])
        .arg(output)
        .arg(package)
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start `go` (Go 1.26 or later is needed, https://go.dev/dl)")?;
    let errors = child.stderr.take().context("go has no standard error")?;
    let compiled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&compiled);
    // -v prints one line a package; everything else is worth keeping for the error message.
    let reader = std::thread::spawn(move || {
        let mut last = std::collections::VecDeque::new();
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            counter.fetch_add(1, Ordering::Relaxed);
            last.push_back(line);
            if last.len() > 20 {
                last.pop_front();
            }
        }
        last
    });
    let started = Instant::now();
    let mut next = Duration::from_secs(30);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > next {
            next += Duration::from_secs(30);
            say(format_args!(
                "  … {} so far, {} steps of download and compilation done",
                minutes(started.elapsed()),
                compiled.load(Ordering::Relaxed)
            ));
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let last = reader.join().unwrap_or_default();
    if !status.success() {
        bail!("go build {package} failed ({status}):\n{}", last.into_iter().collect::<Vec<_>>().join("\n"));
    }
    say(format_args!("  done after {}", minutes(started.elapsed())));
    Ok(())
}

/// Installs Debian's packages that the tests start, with apt-get as root or by sudo. Nothing of it is started as a service of the system.
///
/// # Errors
/// When a package is missing and cannot be installed; the message names the packages.
pub fn ensure_debian_packages() -> anyhow::Result<()> {
    let missing: Vec<&str> = DEBIAN.into_iter().filter(|(_, program)| !Path::new(program).is_file()).map(|(package, _)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !Path::new("/usr/bin/apt-get").is_file() {
        bail!(
            "the tests start a real Dovecot, strace and hunspell: install them (on Debian 12 the packages {names}), with their programs where \
             Debian puts them"
        );
    }
    let root = rustix::process::getuid().is_root();
    if !root && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        bail!("the tests need more programs: run `sudo apt-get install {names}`, or run this as root or with a sudo that asks no password");
    }
    say(format_args!("Installing Debian's packages {names} …"));
    let mut shell = if root { Command::new("sh") } else { Command::new("sudo") };
    if !root {
        shell.args(["-n", "sh"]);
    }
    let status = shell.args(["-c", INSTALL, "install"]).args(&missing).stdin(Stdio::null()).status().context("start apt-get")?;
    if !status.success() {
        bail!("apt-get install {names} failed ({status})");
    }
    Ok(())
}

/// Debian starts a freshly installed server unless policy-rc.d forbids it; the file is put back as it was. Two runs at once wait for each other.
const INSTALL: &str = r#"
mkdir -p /run/lock && exec 9>/run/lock/mailbox-collector-apt.lock && flock 9
p=/usr/sbin/policy-rc.d; kept=
if [ -e $p ]; then kept=$(mktemp) && cp -a $p "$kept" || exit 1; fi
printf '#!/bin/sh\nexit 101\n' >$p && chmod 755 $p || exit 1
put_back() { if [ -n "$kept" ]; then mv -f "$kept" $p; else rm -f $p; fi; }
trap put_back EXIT
export DEBIAN_FRONTEND=noninteractive
q='-qq -o DPkg::Lock::Timeout=600'
apt-get $q -y --no-install-recommends install "$@" >/dev/null 2>&1 || { apt-get $q update && apt-get $q -y --no-install-recommends install "$@" >/dev/null; }
"#;

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn minutes(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

/// FNV-1a, 64 bits: names a cache folder, protects nothing.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_told_to_the_linker_is_the_one_of_the_module() {
        let module = fs::read_to_string(root().join("tests/control-plane/go.mod")).unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes v{KUBERNETES}\n")));
    }

    #[test]
    fn given_assets_come_first_and_the_cache_fills_in() {
        let assets = tempfile::tempdir().unwrap();
        fs::write(assets.path().join("kubectl"), "").unwrap();
        let programs = Programs { assets: Some(assets.path().to_owned()), cache: PathBuf::from("/cache") };
        assert_eq!(programs.path("kubectl"), assets.path().join("kubectl"));
        assert_eq!(programs.path("helm"), Path::new("/cache/helm"));
    }
}
