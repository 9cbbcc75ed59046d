//! The MailboxCollectors of a namespace as the API server shows them to whoever watches: every state that was ever written, in order.
//! At the end each of them must keep the rules by which Flux and kstatus read an object.

#![expect(clippy::indexing_slicing, reason = "indexing JSON by name gives null")]

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::children::Running;
use xtask::cluster::Cluster;

/// One state of one object.
#[derive(Debug, Clone)]
pub(crate) struct State(pub(crate) Value);

/// A watch. Dropped = stopped.
pub(crate) struct Watched {
    states: Vec<State>,
    log: PathBuf,
    file: File,
    unread: Vec<u8>,
    kubectl: Running,
    _folder: tempfile::TempDir,
}

impl State {
    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    /// `status/reason` of a condition; empty where it is not there.
    pub(crate) fn condition(&self, kind: &str) -> String {
        let Some(found) = self.find(kind) else { return String::new() };
        format!("{}/{}", found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
    }

    /// The message of a condition; empty where it is not there.
    pub(crate) fn message(&self, kind: &str) -> &str {
        self.find(kind).and_then(|found| found["message"].as_str()).unwrap_or_default()
    }

    /// The status.
    pub(crate) fn status(&self) -> &Value {
        &self.0["status"]
    }

    fn find(&self, kind: &str) -> Option<&Value> {
        self.status()["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
    }

    /// Which of the rules it breaks. A state that no operator has written yet breaks none.
    fn broken_rules(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut rule = |kept: bool, what: &str| {
            if !kept {
                broken.push(what.to_owned());
            }
        };
        let (observed, generation) = (self.status()["observedGeneration"].as_i64(), self.0["metadata"]["generation"].as_i64());
        if observed == Some(-1) {
            return broken;
        }
        let is = |kind: &str, status: &str| self.condition(kind).starts_with(&format!("{status}/"));
        rule(self.find("Ready").is_some(), "Ready is always there");
        rule(!is("Reconciling", "True") || !is("Ready", "True"), "while Reconciling, Ready is not True");
        rule(!is("Stalled", "True") || is("Ready", "False"), "when Stalled, Ready is False");
        rule(!(is("Stalled", "True") && is("Reconciling", "True")), "never both Stalled and Reconciling");
        for kind in ["Reconciling", "Stalled", "QuarantineNotEmpty", "CredentialExpiring"] {
            rule(self.find(kind).is_none() || is(kind, "True"), "conditions of negative polarity are there only when True");
        }
        rule(observed.is_some() && observed <= generation, "status.observedGeneration is at most metadata.generation");
        for condition in self.status()["conditions"].as_array().into_iter().flatten() {
            rule(condition["observedGeneration"].as_i64() == observed, "each condition is of the generation that the status is of");
        }
        for kind in ["Accepted", "TokenHealthy", "MailboxAccessible", "SinkReady"] {
            rule(self.find(kind).is_some(), "every stage is always there");
            rule(!is("Ready", "True") || !is(kind, "False"), "Ready is not True while a stage is False");
        }
        rule(self.status().to_string().len() < 8 * 1024, "a status is shorter than 8 KiB");
        broken
    }
}

impl Watched {
    /// Watches the MailboxCollectors of a namespace from now on.
    pub(crate) fn start(cluster: &Cluster, namespace: &str) -> Self {
        let folder = xtask::children::temporary_folder("mailbox-collector-watch-").unwrap();
        let log = folder.path().join("watch.json");
        let mut command = cluster.kubectl_command();
        command.args(["get", "mailboxcollectors", "--namespace", namespace, "--watch", "--output-watch-events", "-o", "json"]);
        let kubectl = Running::start("kubectl get --watch", &mut command, &log).unwrap();
        let file = File::open(&log).unwrap();
        Self { states: Vec::new(), log, file, unread: Vec::new(), kubectl, _folder: folder }
    }

    /// Waits until the newest state of an object gives something; says how long that took.
    pub(crate) fn until<T>(&mut self, name: &str, what: &str, limit: Duration, probe: impl Fn(&State) -> Option<T>) -> (T, Duration) {
        let began = Instant::now();
        loop {
            self.read();
            let newest = self.states.iter().rev().find(|state| state.name() == name);
            if let Some(found) = newest.and_then(&probe) {
                return (found, began.elapsed());
            }
            assert!(
                began.elapsed() < limit,
                "not within {limit:?}: {what} of {name}; its status is {:#}",
                newest.map_or(&Value::Null, State::status)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a condition is `status/reason`; gives that state and the time it took.
    pub(crate) fn condition(&mut self, name: &str, kind: &str, wanted: &str) -> (State, Duration) {
        let probe = |state: &State| (state.condition(kind) == wanted).then(|| state.clone());
        self.until(name, &format!("{kind}={wanted}"), Duration::from_secs(90), probe)
    }

    /// The states of an object so far, oldest first.
    pub(crate) fn states(&mut self, name: &str) -> Vec<State> {
        self.read();
        self.states.iter().filter(|state| state.name() == name).cloned().collect()
    }

    /// Every state seen keeps the rules.
    pub(crate) fn check(&mut self) {
        self.read();
        let seen = self.states.iter().filter(|state| state.find("Ready").is_some()).count();
        assert!(seen > 0, "no status was seen, so none was checked");
        for state in &self.states {
            let broken = state.broken_rules();
            assert!(broken.is_empty(), "{broken:?} by {}: {:#}", state.name(), state.0["status"]);
        }
    }

    fn read(&mut self) {
        self.kubectl.must_run().unwrap();
        self.file.read_to_end(&mut self.unread).unwrap();
        let mut stream = serde_json::Deserializer::from_slice(&self.unread).into_iter::<Value>();
        let mut whole = 0;
        while let Some(event) = stream.next() {
            match event {
                Ok(mut event) if event["object"]["kind"] == "MailboxCollector" => {
                    whole = stream.byte_offset();
                    self.states.push(State(event["object"].take()));
                }
                Err(error) if error.is_eof() => break,
                other => panic!("{other:?} in {}", self.log.display()),
            }
        }
        self.unread.drain(..whole);
    }
}

#[test]
fn a_state_that_breaks_a_rule_is_found_out() {
    let state = |ready: &str, further: Value, observed: i64| {
        let condition =
            |kind: &str, status: &str| serde_json::json!({"type": kind, "status": status, "reason": "R", "observedGeneration": 3});
        let mut conditions: Vec<Value> =
            ["Accepted", "TokenHealthy", "MailboxAccessible", "SinkReady"].iter().map(|kind| condition(kind, "True")).collect();
        if !ready.is_empty() {
            conditions.push(condition("Ready", ready));
        }
        conditions.extend(further.as_object().unwrap().iter().map(|(kind, status)| condition(kind, status.as_str().unwrap())));
        State(serde_json::json!({
            "metadata": {"name": "a", "generation": 3}, "status": {"observedGeneration": observed, "conditions": conditions}
        }))
    };
    let rows = [
        ("True", serde_json::json!({}), 3, 0),
        ("False", serde_json::json!({"Stalled": "True"}), 3, 0),
        ("", serde_json::json!({}), 3, 1),
        ("True", serde_json::json!({"Reconciling": "True"}), 3, 1),
        ("Unknown", serde_json::json!({"Stalled": "True"}), 3, 1),
        ("False", serde_json::json!({"Stalled": "True", "Reconciling": "True"}), 3, 1),
        ("True", serde_json::json!({"Stalled": "False"}), 3, 1),
        ("True", serde_json::json!({}), 4, 6),
    ];
    for (ready, further, observed, broken) in rows {
        let found = state(ready, further.clone(), observed).broken_rules();
        assert_eq!(found.len(), broken, "Ready={ready} {further} {observed}: {found:?}");
    }
}
