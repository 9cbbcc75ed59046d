//! The story of the operator, on the real API server with the rights of the chart's ServiceAccount: a collector's life from `kubectl apply` to
//! `kubectl delete`, the steps of the set-up that people miss, and kill -9 in the middle of a drain.

#![expect(clippy::indexing_slicing, reason = "indexing JSON by name gives null")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use simulator::{CLIENT_ID, CLIENT_SECRET, Message, Options, Simulator, Step, TENANT_ID, Tenant, World};

use crate::support::{
    Installed, cluster, collector, mail, namespace, number_from_environment, operator, secret, serials, servers, wait_for,
};
use crate::watched::{State, Watched};

const MAILBOX: &str = "factures@contoso.example";
const PATIENCE: Duration = Duration::from_secs(60);
const REQUESTED_AT: &str = "mailbox-collector.io/requestedAt";
/// So often the operator is killed in one drain.
const KILLS: &str = "MAILBOX_COLLECTOR_RUN_KILLS";

#[test]
fn a_collectors_life_from_apply_to_delete() {
    let mut life = Life::begin();
    life.becomes_ready_and_its_mail_lies_on_disk();
    life.gets_new_mail_by_push();
    life.fetches_when_asked();
    life.takes_nothing_twice_after_a_renumbering();
    life.names_a_wrong_secret_and_heals_with_the_right_one();
    life.rests_while_suspended();
    life.ends();
}

struct Life {
    namespace: String,
    simulator: Simulator,
    installed: Installed,
    watched: Watched,
    sent: u64,
    requests: u32,
}

impl Life {
    fn begin() -> Self {
        let namespace = namespace("life");
        let simulator = Simulator::start_blocking(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).unwrap();
        simulator.world().mailbox(MAILBOX).unwrap().stable_rendering = true;
        let installed = operator(&namespace, &servers(&simulator), &[]);
        let watched = Watched::start(cluster(), &namespace);
        let mut life = Self { namespace, simulator, installed, watched, sent: 0, requests: 0 };
        for _ in 0..12 {
            life.send();
        }
        life
    }

    /// One more message.
    fn send(&mut self) {
        self.sent += 1;
        self.simulator.world().deliver(MAILBOX, "INBOX", Message::office(self.sent)).unwrap();
    }

    /// One more message of the usual size, so that what is measured is the way and not the load; its UID.
    fn send_small(&mut self) -> u32 {
        self.sent += 1;
        self.simulator.world().deliver(MAILBOX, "INBOX", Message::sized(self.sent, 3_700)).unwrap()
    }

    fn files(&self) -> usize {
        mail(&self.installed.folder(&self.namespace, "factures")).len()
    }

    /// Every message that was sent is a file, once, and each file is what the server gave, byte for byte.
    fn all_is_there(&self) {
        let sent = usize::try_from(self.sent).unwrap();
        wait_for("all files", PATIENCE, || (self.files() >= sent).then_some(()));
        let found = serials(&self.simulator, &self.installed.folder(&self.namespace, "factures"));
        assert_eq!(found, (1..=self.sent).collect::<Vec<_>>());
    }

    /// Annotates `requestedAt` and waits until status echoes it.
    fn request(&mut self) -> State {
        self.requests += 1;
        let token = format!("request-{}", self.requests);
        let annotation = format!("{REQUESTED_AT}={token}");
        cluster().kubectl(&["annotate", "--overwrite", "mbc/factures", "--namespace", &self.namespace, &annotation]).unwrap();
        let echoed = |state: &State| (state.status()["lastHandledReconcileAt"] == token).then(|| state.clone());
        self.watched.until("factures", "the echo of requestedAt", PATIENCE, echoed).0
    }

    fn set_secret(&self, value: &str) {
        cluster().apply(&secret(&self.namespace, "azure-app", TENANT_ID, CLIENT_ID, value)).unwrap();
    }

    fn suspend(&self, suspended: bool) {
        let patch = format!("{{\"spec\":{{\"suspend\":{suspended}}}}}");
        cluster().kubectl(&["patch", "mbc/factures", "--namespace", &self.namespace, "--type=merge", "--patch", &patch]).unwrap();
    }

    /// What the operator has written of this kind so far.
    fn writes(&self, resource: &str) -> usize {
        self.installed.writes().iter().filter(|request| request.resource == resource).count()
    }

    fn becomes_ready_and_its_mail_lies_on_disk(&mut self) {
        self.set_secret(CLIENT_SECRET);
        cluster().apply(&collector(&self.namespace, "factures", MAILBOX, "azure-app", "")).unwrap();
        cluster().kubectl(&["wait", "mbc/factures", "--namespace", &self.namespace, "--for=condition=Ready", "--timeout=60s"]).unwrap();
        self.all_is_there();
        let counted =
            |state: &State| (state.status()["messages"]["collected"] == 12 && state.status()["lastFetchTime"].is_string()).then_some(());
        self.watched.until("factures", "the count of messages", PATIENCE, counted);

        let shown = cluster().kubectl(&["get", "mbc", "--namespace", &self.namespace]).unwrap();
        let mut lines = shown.lines();
        let columns = lines.next().unwrap().split("  ").map(str::trim).filter(|column| !column.is_empty()).collect::<Vec<_>>();
        assert_eq!(columns, ["NAME", "MAILBOX", "READY", "REASON", "LAST FETCH", "MESSAGES", "AGE"], "{shown}");
        let row: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!((&row[..4], row[5]), (&["factures", MAILBOX, "True", "Collecting"][..], "12"), "{shown}");
        let wide = cluster().kubectl(&["get", "mbc", "--namespace", &self.namespace, "-o", "wide"]).unwrap();
        assert!(["PROTOCOL", "TOKEN EXPIRY", "PENDING", "QUARANTINED"].iter().all(|column| wide.contains(column)), "{wide}");
    }

    fn gets_new_mail_by_push(&mut self) {
        let statuses = self.writes("mailboxcollectors/status");
        wait_for("IDLE", PATIENCE, || {
            (self.simulator.connections_open() == 1 && self.simulator.commands().contains_key("IDLE")).then_some(())
        });
        let uid = self.send_small();
        self.all_is_there();
        assert!(self.simulator.announcements().iter().any(|told| told.uid_next > uid), "it came by push");
        assert_eq!(self.writes("mailboxcollectors/status"), statuses, "new mail alone is no reason to write a status");
    }

    fn fetches_when_asked(&mut self) {
        let (looks, log_ins) = (self.installed.looks(), self.simulator.log_ins());
        let before = self.watched.states("factures").pop().unwrap();
        let after = self.request();
        assert!(self.installed.looks() > looks, "it was echoed, but nobody looked");
        assert_eq!(self.simulator.log_ins(), log_ins, "the open session serves a request too");
        assert!(after.status()["lastFetchTime"].as_str() > before.status()["lastFetchTime"].as_str());
        // What counts alone do not bring into the status rides on this write.
        assert_eq!(after.status()["messages"]["collected"], self.sent);
        assert_eq!(after.condition("Ready"), "True/Collecting");
    }

    fn takes_nothing_twice_after_a_renumbering(&mut self) {
        let cursor = |life: &Self| {
            let path = "jsonpath={.spec.folders[0].uidValidity}";
            cluster().kubectl(&["get", "mailboxcursor/factures", "--namespace", &life.namespace, "-o", path]).unwrap()
        };
        let (before, states) = (cursor(self), self.watched.states("factures").len());
        self.simulator.world().mailbox(MAILBOX).unwrap().folder("INBOX").renumber(7);
        self.send();
        self.all_is_there();
        wait_for("the cursor of the new numbering", PATIENCE, || (cursor(self) != before).then_some(()));
        self.request();
        self.all_is_there();
        let since = self.watched.states("factures").split_off(states);
        assert!(since.iter().all(|state| state.condition("Ready") == "True/Collecting"), "a moved mailbox is no trouble: {since:#?}");
    }

    fn names_a_wrong_secret_and_heals_with_the_right_one(&mut self) {
        self.set_secret("not-the-value");
        // An open session goes on with its token; a request makes the operator read the Secret.
        self.request();
        let (refused, _) = self.watched.condition("factures", "TokenHealthy", "False/SecretInvalid");
        let remedy = refused.message("TokenHealthy");
        assert!(remedy.contains("Secret azure-app") && remedy.contains(CLIENT_ID) && remedy.contains("Certificates & secrets"), "{remedy}");
        assert_eq!((refused.condition("Ready"), refused.condition("Stalled")), ("False/SecretInvalid".into(), "True/SecretInvalid".into()));
        assert_eq!(refused.message("Ready"), remedy);
        assert!(!refused.0.to_string().contains("not-the-value"));

        // From here on nobody touches the collector or the operator.
        self.set_secret(CLIENT_SECRET);
        let (_, took) = self.watched.condition("factures", "Ready", "True/Collecting");
        println!("from the right secret to Ready: {:.1} s", took.as_secs_f64());
        assert!(took <= Duration::from_secs(20), "healing took {took:?}");
        self.send();
        self.all_is_there();
    }

    fn rests_while_suspended(&mut self) {
        self.suspend(true);
        let (suspended, _) = self.watched.condition("factures", "Ready", "True/Suspended");
        assert_eq!((suspended.condition("Reconciling"), suspended.condition("Stalled")), (String::new(), String::new()));
        wait_for("the end of the session", PATIENCE, || (self.simulator.connections_open() == 0).then_some(()));
        assert!(self.simulator.commands().get("LOGOUT").is_some_and(|count| *count > 0), "it left without a word");
        let (connections, files) = (self.simulator.connections(), self.files());
        self.send();
        self.request();
        assert_eq!((self.simulator.connections(), self.files()), (connections, files), "it was asked, and is suspended all the same");
        self.suspend(false);
        self.watched.condition("factures", "Ready", "True/Collecting");
        self.all_is_there();
    }

    fn ends(mut self) {
        let cursors = || cluster().kubectl(&["get", "mailboxcursors", "--namespace", &self.namespace, "-o", "name"]).unwrap();
        assert_ne!(cursors(), "");
        cluster().kubectl(&["delete", "mbc/factures", "--namespace", &self.namespace, "--wait", "--timeout=30s"]).unwrap();
        wait_for("the end of the session", PATIENCE, || (self.simulator.connections_open() == 0).then_some(()));
        wait_for("the cursor's end", PATIENCE, || cursors().is_empty().then_some(()));
        assert_eq!(self.files(), usize::try_from(self.sent).unwrap(), "mail stays");
        self.watched.check();
        self.installed.operator.stop().unwrap();

        // Each transition once, nothing for each message; a repeated one adds to its Event's series.
        let mut told = BTreeMap::new();
        let events = cluster().kubectl(&["get", "events.events.k8s.io", "--namespace", &self.namespace, "-o", "json"]).unwrap();
        assert!(!events.contains("not-the-value"), "{events}");
        let events: Value = serde_json::from_str(&events).unwrap();
        for event in events["items"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            *told.entry((text(&event["regarding"]["kind"]), text(&event["reason"]), text(&event["type"]))).or_insert(0) += 1;
        }
        let row = |kind: &str, reason: &str, type_: &str| ((kind.to_owned(), reason.to_owned(), type_.to_owned()), 1);
        let expected = [
            row("MailboxCollector", "Collecting", "Normal"),
            row("MailboxCollector", "Suspended", "Normal"),
            row("Secret", "SecretInvalid", "Warning"),
        ];
        assert_eq!(told, BTreeMap::from(expected));
        assert_eq!(self.installed.refused(), []);
    }
}

#[test]
fn each_missed_step_is_named_with_what_to_do_and_heals_when_it_is_done() {
    // Step, the condition that names it, what its message must hold of {tenant}, {client}, {object} (of the enterprise application), {mailbox}.
    let rows: [(Step, &str, &str, &[&str]); 8] = [
        (Step::Tenant, "TokenHealthy", "False/TenantNotFound", &["{tenant}", "tenantId of Secret {secret}"]),
        (Step::ClientId, "TokenHealthy", "False/ApplicationNotFound", &["app {client} in tenant {tenant}", "clientId of Secret {secret}"]),
        (Step::Secret, "TokenHealthy", "False/SecretInvalid", &["clientSecret of Secret {secret}", "app {client}"]),
        (Step::EnterpriseApp, "TokenHealthy", "False/EnterpriseApplicationMissing", &["az ad sp create --id {client}", "{tenant}"]),
        (Step::AdminConsent, "TokenHealthy", "False/PermissionOrConsentMissing", &["{client}", "IMAP.AccessAsApp", "Grant admin consent"]),
        (
            Step::ServicePrincipal,
            "MailboxAccessible",
            "False/ServicePrincipalNotRegistered",
            &["New-ServicePrincipal -AppId {client} -ObjectId {object}", "{mailbox}"],
        ),
        (
            Step::FullAccess,
            "MailboxAccessible",
            "False/AccessMissingOrProtocolDisabled",
            &["Get-ServicePrincipal -Identity {client}", "Add-MailboxPermission -Identity {mailbox} ", "-AccessRights FullAccess"],
        ),
        (
            Step::ImapEnabled,
            "MailboxAccessible",
            "False/AccessMissingOrProtocolDisabled",
            &["Set-CASMailbox -Identity {mailbox} -ImapEnabled $true"],
        ),
    ];
    let namespace = namespace("steps");
    let mailbox = |number: usize| format!("factures@contoso{number}.example");
    let name = |number: usize| format!("mailbox-{number}");
    let (mut tenants, mut documents, mut facts) = (Vec::new(), String::new(), Vec::new());
    // Number 0 misses nothing.
    for number in 0..=rows.len() {
        let mut tenant = Tenant::ready(u64::try_from(number).unwrap(), &[mailbox(number)]);
        let object = tenant.enterprise_applications[0].object_id.clone();
        documents += &secret(&namespace, &format!("azure-{number}"), &tenant.id, &tenant.client_id(), &tenant.secret());
        documents += &collector(&namespace, &name(number), &mailbox(number), &format!("azure-{number}"), "");
        facts.push([
            ("{tenant}", tenant.id.clone()),
            ("{client}", tenant.client_id()),
            ("{object}", object),
            ("{mailbox}", mailbox(number)),
            ("{secret}", format!("azure-{number}")),
        ]);
        if let Some((step, ..)) = number.checked_sub(1).map(|row| &rows[row]) {
            tenant.miss(*step);
        }
        tenants.push(tenant);
    }
    let simulator =
        Simulator::start_blocking(Options { world: World { tenants, ..World::ready::<&str>(&[]) }, ..Options::default() }).unwrap();
    let mut installed = operator(&namespace, &servers(&simulator), &[]);
    let mut watched = Watched::start(cluster(), &namespace);
    cluster().apply(&documents).unwrap();

    for (number, (step, kind, expected, parts)) in (1..).zip(&rows) {
        let (state, _) = watched.condition(&name(number), kind, expected);
        let message = state.message(kind);
        for part in *parts {
            let part = facts[number].iter().fold((*part).to_owned(), |part, (place, value)| part.replace(place, value));
            assert!(message.contains(&part), "{step:?}: {part:?} is not in {message:?}");
        }
        let (ready, _) = watched.condition(&name(number), "Ready", expected);
        assert_eq!(ready.message("Ready"), message, "{step:?}");
        assert_eq!(ready.condition("Accepted"), "True/Accepted", "{step:?}");
    }
    watched.condition(&name(0), "Ready", "True/Collecting");

    for tenant in &mut simulator.world().tenants {
        tenant.put_right();
    }
    for number in 1..=rows.len() {
        simulator.world().deliver(&mailbox(number), "INBOX", Message::office(1)).unwrap();
    }
    cluster().kubectl(&["annotate", "mbc", "--all", "--namespace", &namespace, &format!("{REQUESTED_AT}=it-is-done")]).unwrap();
    for number in 1..=rows.len() {
        watched.condition(&name(number), "Ready", "True/Collecting");
        wait_for("its mail", PATIENCE, || (serials(&simulator, &installed.folder(&namespace, &name(number))) == [1]).then_some(()));
    }
    let neighbour: Vec<_> = watched.states(&name(0)).iter().map(|state| state.condition("Ready")).collect();
    assert!(neighbour.iter().skip_while(|ready| *ready != "True/Collecting").all(|ready| ready == "True/Collecting"), "{neighbour:?}");
    watched.check();
    installed.operator.stop().unwrap();
    assert_eq!(installed.refused(), []);
}

#[test]
fn killed_again_and_again_in_a_drain_it_loses_nothing_and_takes_nothing_twice() {
    const MESSAGES: u64 = 2_000;
    const SIZE: usize = 3_700;
    let kills = number_from_environment(KILLS, 5);
    let namespace = namespace("killed");
    // The server renders each message anew at every fetch.
    let simulator = Simulator::start_blocking(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).unwrap();
    for serial in 1..=MESSAGES {
        simulator.world().deliver(MAILBOX, "INBOX", Message::sized(serial, SIZE)).unwrap();
    }
    let mut installed = operator(&namespace, &servers(&simulator), &[]);
    let folder = installed.folder(&namespace, "factures");
    let mut watched = Watched::start(cluster(), &namespace);
    let mut documents = secret(&namespace, "azure-app", TENANT_ID, CLIENT_ID, CLIENT_SECRET);
    documents += &collector(&namespace, "factures", MAILBOX, "azure-app", "");

    // Each kill falls into a part of the drain of its own, at a random place in it. (The server is no measure of how far a drain has come: on
    // loopback the sockets hold megabytes.)
    let part = MESSAGES * 19 / 20 / kills.max(1);
    let mut left = Vec::new();
    cluster().apply(&documents).unwrap();
    for kill in 0..kills {
        let random = u64::from_str_radix(&xtask::random_hex(4).unwrap(), 16).unwrap();
        let at = usize::try_from(kill * part + random % part).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while mail(&folder).len() <= at {
            assert!(Instant::now() < deadline, "{left:?} files when killed, and then never {at}");
            std::thread::sleep(Duration::from_micros(500));
        }
        installed.operator.kill().unwrap();
        left.push(mail(&folder).len());
        installed.operator.restart().unwrap();
    }
    let all = usize::try_from(MESSAGES).unwrap();
    wait_for("every message", PATIENCE, || (mail(&folder).len() >= all).then_some(()));
    let idle = |state: &State| {
        let status = state.status();
        (state.condition("Ready") == "True/Collecting" && status["messages"]["pending"] == 0 && status["lastFetchTime"].is_string())
            .then_some(())
    };
    watched.until("factures", "a complete look", PATIENCE, idle);
    let found = serials(&simulator, &folder);
    let lost = (1..=MESSAGES).filter(|serial| found.binary_search(serial).is_err()).count();
    let doubled = found.len() - (all - lost);
    println!("{kills} kills, with {left:?} files on disk then: {lost} lost, {doubled} twice");
    assert_eq!((lost, doubled), (0, 0));

    a_restart_over_a_settled_object_writes_no_status(&namespace, &simulator, &mut installed, &mut watched);
    assert_eq!(serials(&simulator, &folder).len(), all);
    watched.check();
    installed.operator.stop().unwrap();
    assert_eq!(installed.refused(), []);
}

/// The one status write after it is the answer to a request that was made when the new process had looked.
fn a_restart_over_a_settled_object_writes_no_status(
    namespace: &str,
    simulator: &Simulator,
    installed: &mut Installed,
    watched: &mut Watched,
) {
    installed.operator.stop().unwrap();
    let (before, rendered) = (installed.writes().len(), simulator.renderings().len());
    installed.operator.restart().unwrap();
    wait_for("a look of the new process", PATIENCE, || (installed.looks() > 0).then_some(()));
    cluster().kubectl(&["annotate", "mbc/factures", "--namespace", namespace, &format!("{REQUESTED_AT}=after-restart")]).unwrap();
    let echoed = |state: &State| (state.status()["lastHandledReconcileAt"] == "after-restart").then_some(());
    watched.until("factures", "the echo", PATIENCE, echoed);
    // The audit log is written after the answer that the watch has shown already.
    let writes = wait_for("the write in the audit log", PATIENCE, || {
        let writes: Vec<_> = installed.writes().into_iter().skip(before).map(|request| (request.verb, request.resource)).collect();
        (!writes.is_empty()).then_some(writes)
    });
    assert_eq!(writes, [("patch".to_owned(), "mailboxcollectors/status".to_owned())]);
    assert_eq!(simulator.renderings().len(), rendered, "nothing is fetched again");
}
