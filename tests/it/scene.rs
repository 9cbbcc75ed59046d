//! A scene for tests of `collect`: the stand-in, the built binary, and folders that nobody else uses. What a test asserts is its own business;
//! here is only what all of them do: write the YAML, run the program, read what it left behind.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use simulator::{Message, Options, Simulator, World};

use crate::support::wait_for;

/// Everything of one test. Each mailbox `name@contoso.example` has a collector `name`, whose files lie in `root/office/name`.
pub(crate) struct Scene {
    pub(crate) simulator: Simulator,
    folder: tempfile::TempDir,
}

/// What one run of `collect -o json` said.
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    outcomes: BTreeMap<String, Value>,
}

/// One file that a sink holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Scene {
    /// A ready tenant with these empty mailboxes (the part before `@`).
    pub(crate) fn new(mailboxes: &[&str]) -> Self {
        let addresses: Vec<String> = mailboxes.iter().map(|name| address(name)).collect();
        let simulator = Simulator::start_blocking(Options { world: World::ready(&addresses), ..Options::default() }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let scene = Self { simulator, folder };
        scene.write("ca.pem", scene.simulator.ca_pem());
        let documents: Vec<String> = mailboxes.iter().map(|name| collector(name, "")).collect();
        scene.write("mail.yaml", &format!("{}---\n{}", secret(simulator::CLIENT_SECRET), documents.join("---\n")));
        scene
    }

    /// Delivers office mails with these serials.
    pub(crate) fn deliver(&self, name: &str, serials: impl IntoIterator<Item = u64>) {
        for serial in serials {
            self.put(name, Message::sized(serial, 3_000));
        }
    }

    /// Delivers one message; gives its UID.
    pub(crate) fn put(&self, name: &str, message: Message) -> u32 {
        self.simulator.world().deliver(&address(name), "INBOX", message).unwrap()
    }

    /// Changes something in a mailbox of the stand-in.
    pub(crate) fn mailbox<T>(&self, name: &str, change: impl FnOnce(&mut simulator::Mailbox) -> T) -> T {
        change(self.simulator.world().mailbox(&address(name)).unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// `collect` on `mail.yaml`, without `--once`.
    pub(crate) fn command(&self) -> Command {
        self.command_for(&self.simulator.imap_endpoint(), "json")
    }

    /// The same with another IMAP server, or another form of outcome.
    pub(crate) fn command_for(&self, imap_endpoint: &str, output: &str) -> Command {
        let mut command = bare_command();
        command.args(["collect", "--output", output, "--entra-authority", &self.simulator.authority(), "--imap-endpoint", imap_endpoint]);
        for (flag, name) in [("--ca-file", "ca.pem"), ("--file-sink-root", "root"), ("--state", "state"), ("--file", "mail.yaml")] {
            command.arg(flag).arg(self.path(name));
        }
        command
    }

    /// Runs `collect --once`.
    pub(crate) fn collect(&self) -> Said {
        run(self.command().arg("--once"))
    }

    /// The files of a mailbox's sink, by name. Whatever else lies there fails the test.
    pub(crate) fn files(&self, name: &str) -> Vec<Delivered> {
        let found = file_names(&self.path("root").join("office").join(name));
        let mut files: Vec<_> = found.into_iter().map(|(name, path)| Delivered { name, bytes: std::fs::read(path).unwrap() }).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    /// The serials in a mailbox's sink, sorted, each file being the bytes of one rendering that the stand-in logged for it.
    pub(crate) fn serials(&self, name: &str) -> Vec<u64> {
        let mailbox = address(name);
        let log = self.simulator.renderings();
        let given: HashMap<_, _> = log
            .iter()
            .filter(|rendering| *rendering.mailbox == *mailbox)
            .map(|rendering| (&rendering.sha256[..], rendering.serial))
            .collect();
        let mut serials = Vec::new();
        for file in self.files(name) {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &file.bytes);
            let serial = given.get(digest.as_ref()).unwrap_or_else(|| panic!("{name}/{}: not the bytes of one rendering", file.name));
            assert_eq!(simulator::serial_in(&file.bytes), *serial, "{name}/{}", file.name);
            serials.push(serial.unwrap_or_else(|| panic!("{name}/{}: no serial", file.name)));
        }
        serials.sort_unstable();
        serials
    }

    /// The folder INBOX of a mailbox's stored cursor.
    pub(crate) fn cursor(&self, name: &str) -> Value {
        self.stored(name)["cursor"]["folders"][0].clone()
    }

    /// Makes everything owed due: what waiting would do, without waiting.
    pub(crate) fn let_time_pass(&self, name: &str) {
        let mut stored = self.stored(name);
        for owed in stored["cursor"]["folders"][0].get_mut("owed").and_then(Value::as_array_mut).into_iter().flatten() {
            owed["next"] = Value::from("2020-01-01T00:00:00Z");
            owed["since"] = Value::from((jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2)).to_string());
        }
        std::fs::write(self.state_file(name), serde_json::to_vec(&stored).unwrap()).unwrap();
    }

    fn stored(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.state_file(name)).unwrap()).unwrap()
    }

    fn state_file(&self, name: &str) -> PathBuf {
        self.path("state").join(format!("office.{name}.json"))
    }
}

impl Said {
    /// What was said of the collector `name`.
    pub(crate) fn of(&self, name: &str) -> &Value {
        self.outcomes.get(name).unwrap_or_else(|| panic!("nothing said of {name}: {}\n{}", self.stdout, self.stderr))
    }

    /// The reason why `name` failed; empty where it did not.
    pub(crate) fn reason(&self, name: &str) -> &str {
        self.of(name)["reason"].as_str().unwrap_or_default()
    }

    /// (collected, pending, quarantined) of `name`.
    pub(crate) fn counts(&self, name: &str) -> (u64, u64, u64) {
        let number = |key: &str| self.of(name)[key].as_u64().unwrap();
        (number("collected"), number("pending"), number("quarantined"))
    }

    /// What the log says of troubles of `name`: reason and message of each failed attempt, in order.
    pub(crate) fn troubles(&self, name: &str) -> Vec<String> {
        let mailbox = format!("mailbox=\"{}\"", address(name));
        let lines = self.stderr.lines().filter(|line| line.contains(&mailbox));
        lines
            .filter_map(|line| line.split_once("not collecting ").or(line.split_once("connecting again ")))
            .map(|(_, facts)| facts.to_owned())
            .collect()
    }

    /// Exit code 0, and every mailbox in order.
    #[track_caller]
    pub(crate) fn must_be_ok(&self) {
        assert!(self.status.success() && self.outcomes.values().all(|outcome| outcome["ok"] == true), "{}\n{}", self.stdout, self.stderr);
    }
}

/// A running `collect`, killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone then.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The program, with nothing of this environment that could steer it.
pub(crate) fn bare_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailbox-collector"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MAILBOX_COLLECTOR_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    let outcomes: Vec<Value> = serde_json::from_str(&stdout).unwrap_or_default();
    let outcomes = outcomes.into_iter().map(|outcome| (outcome["name"].as_str().unwrap_or_default().to_owned(), outcome)).collect();
    Said { status, stdout, stderr, outcomes }
}

pub(crate) fn address(name: &str) -> String {
    format!("{name}@contoso.example")
}

/// The Secret of the ready tenant, with this value.
pub(crate) fn secret(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: azure-app, namespace: office}}\nstringData:\n  tenantId: {}\n  clientId: {}\n  clientSecret: {value}\n",
        simulator::TENANT_ID,
        simulator::CLIENT_ID
    )
}

/// A collector, with more lines of `spec`.
pub(crate) fn collector(name: &str, more: &str) -> String {
    let more: String = more.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: mailbox-collector.io/v1alpha1\nkind: MailboxCollector\nmetadata: {{name: {name}, namespace: office}}\nspec:\n  mailbox: {}\n  credentials: {{secretRef: {{name: azure-app}}}}\n  sinks: [{{name: drop, file: {{path: {name}, format: EML}}}}]\n{more}",
        address(name)
    )
}

/// Names and paths of the `.eml` files in a folder; nothing while the folder is not there.
pub(crate) fn file_names(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.ends_with(".eml"), "{} does not belong there", path.display());
        found.push((name, path));
    }
    found
}

/// Plays rows of a table at the same time: most of each is waiting for a second try.
pub(crate) fn all_at_once<T: Sync>(rows: &[T], play: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| rows.iter().for_each(|row| drop(scope.spawn(|| play(row)))));
}

/// Waits until the sink of `name` holds this many files.
pub(crate) fn wait_for_files(scene: &Scene, name: &str, count: usize, limit: Duration) {
    let folder = scene.path("root").join("office").join(name);
    wait_for(&format!("{count} files of {name}"), limit, || (file_names(&folder).len() >= count).then_some(()));
}
