//! AppRegistrations on the real API server, with the rights of the chart's ServiceAccount: what they say of themselves, who follows them, and how
//! soon each kind of credential heals after it was replaced.

use std::time::{Duration, Instant};

use serde_json::Value;
use simulator::{AppCertificate, CLIENT_SECRET, ClientSecret, FederatedCredential, Message, Options, Simulator, World};

use crate::credentials::{app_registration, certificate};
use crate::support::{Installed, cluster, namespace, operator, serials, servers, wait_for};

const MAILBOX: &str = "factures@contoso.example";
const PATIENCE: Duration = Duration::from_secs(90);
const BY_SECRET: &str = "{clientSecret: {secretKeyRef: {name: app}}}";

struct Place {
    namespace: String,
    simulator: Simulator,
    installed: Installed,
}

impl Place {
    fn new(prefix: &str, values: &[&str], flags: &[&str]) -> Self {
        let namespace = namespace(prefix);
        let simulator = Simulator::start_blocking(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).unwrap();
        let installed = operator(&namespace, &servers(&simulator), flags);
        if !values.is_empty() {
            let mut all = vec![format!("watchNamespaces={{{namespace}}}")];
            all.extend(values.iter().map(|&value| value.to_owned()));
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            cluster().install_chart(&format!("mailbox-collector-{namespace}"), &namespace, &all).unwrap();
        }
        Self { namespace, simulator, installed }
    }

    fn apply(&self, yaml: &str) {
        cluster().apply(yaml).unwrap();
    }

    fn collector(&self, name: &str, mailbox: &str) -> String {
        crate::support::collector(&self.namespace, name, mailbox, "x", "")
            .replace("{secretRef: {name: x}}", "{appRegistrationRef: {name: mail}}")
    }

    fn secret(&self, value: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: app, namespace: {}}}\nstringData: {{clientSecret: \"{value}\"}}\n",
            self.namespace
        )
    }

    fn tls(&self, (certificate, key): &(String, String)) -> String {
        let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: app, namespace: {}}}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
            self.namespace,
            indented(certificate),
            indented(key)
        )
    }

    fn app(&self, credential: &str, more: &str) -> String {
        app_registration(&self.namespace, "mail", credential, more)
    }

    fn get(&self, what: &str) -> Value {
        serde_json::from_str(&cluster().kubectl(&["get", what, "--namespace", &self.namespace, "-o", "json"]).unwrap()).unwrap()
    }

    /// Waits until a condition of an object is `status/reason`; its message, and how long that took.
    fn until(&self, what: &str, condition: &str, expected: &str) -> (String, Duration) {
        let began = Instant::now();
        loop {
            let object = self.get(what);
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|found| found["type"] == condition);
            let text = |name: &str| found.and_then(|found| found[name].as_str()).unwrap_or_default().to_owned();
            if format!("{}/{}", text("status"), text("reason")) == expected {
                return (text("message"), began.elapsed());
            }
            let asked: Vec<_> = self.simulator.token_requests().iter().map(|request| request.code).collect();
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: {condition}={expected} not within {PATIENCE:?}; Entra's answers {asked:?}; {conditions:#?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn events(&self, kind: &str, reason: &str) -> Vec<Value> {
        let all = self.get("events.events.k8s.io");
        let all = all["items"].as_array().unwrap().clone();
        all.into_iter().filter(|event| event["regarding"]["kind"] == kind && event["reason"] == reason).collect()
    }

    /// None of these, and no token of any kind, in what the operator shows: status, Events, figures, log.
    fn shows_nothing_of(&self, secrets: &[&str]) {
        let objects = ["appreg", "mbc", "mailboxcursors", "events.events.k8s.io"].map(|what| (what, self.get(what).to_string()));
        let log = std::fs::read_to_string(self.installed.operator.log()).unwrap();
        let (_, figures) = self.installed.operator.get("/metrics").unwrap();
        assert!(log.contains("TRACE"), "the log is on");
        for (place, text) in objects.into_iter().chain([("log", log), ("figures", figures)]) {
            for secret in secrets.iter().chain(&["eyJ", "Bearer ", "BEGIN PRIVATE"]) {
                if let Some(at) = text.find(secret) {
                    let before: String = text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                    panic!("{secret:?} in {place}, behind: {before}");
                }
            }
        }
    }

    fn deliver(&self, serial: u64) {
        self.simulator.world().deliver(MAILBOX, "INBOX", Message::sized(serial, 3_000)).unwrap();
    }

    fn arrived(&self, count: u64) {
        let folder = self.installed.folder(&self.namespace, "factures");
        wait_for("all mail", PATIENCE, || (crate::support::mail(&folder).len() as u64 >= count).then_some(()));
        assert_eq!(serials(&self.simulator, &folder), (1..=count).collect::<Vec<_>>());
    }

    /// Nobody touches the collector: a request only makes it ask for a token now rather than within the hour.
    fn ask(&self, token: &str) {
        let annotation = format!("mailbox-collector.io/requestedAt={token}");
        cluster().kubectl(&["annotate", "--overwrite", "mbc/factures", "--namespace", &self.namespace, &annotation]).unwrap();
    }
}

#[test]
fn collectors_share_an_app_registration_whose_own_status_and_events_tell_of_its_token() {
    let place = Place::new("apps", &[], &["--log=trace"]);
    place.deliver(1);
    place.apply(&place.collector("factures", MAILBOX));
    place.until("mbc/factures", "Accepted", "False/AppRegistrationNotFound");
    // Its coming wakes the collector, although nobody touches that.
    place.apply(&format!("{}{}", place.secret(CLIENT_SECRET), place.app(BY_SECRET, "allowedMailboxes: [\"*@contoso.example\"]")));
    let (_, took) = place.until("mbc/factures", "Ready", "True/Collecting");
    println!("from the AppRegistration to a collector that was waiting for it: {:.1} s", took.as_secs_f64());
    place.until("appreg/mail", "Ready", "True/TokenIssued");
    let status = place.get("appreg/mail")["status"].clone();
    assert_eq!((&status["token"]["roles"][0], &status["observedGeneration"]), (&"IMAP.AccessAsApp".into(), &1.into()));
    assert!(status["token"]["servicePrincipalObjectId"].is_string());
    place.arrived(1);
    assert_eq!(place.simulator.token_requests().len(), 1, "one token for the app and its collectors");

    place.apply(&place.collector("foreign", "a@other.example"));
    place.until("mbc/foreign", "Accepted", "False/MailboxNotAllowed");
    // A change of the AppRegistration reaches those who refer to it.
    place.apply(&place.app(BY_SECRET, "allowedMailboxes: [\"other@contoso.example\"]"));
    place.until("mbc/factures", "Accepted", "False/MailboxNotAllowed");
    place.apply(&place.app(BY_SECRET, ""));
    place.until("mbc/factures", "Ready", "True/Collecting");

    // A wrong secret is told once, of the AppRegistration, whatever number of collectors it fails.
    for name in ["second", "third", "fourth"] {
        place.simulator.world().tenants[0].add_mailbox(&format!("{name}@contoso.example"));
        place.apply(&place.collector(name, &format!("{name}@contoso.example")));
        place.until(&format!("mbc/{name}"), "Ready", "True/Collecting");
    }
    let requests = place.simulator.token_requests().len();
    place.simulator.world().tenants[0].applications[0].secrets[0].value = "rotated".to_owned();
    place.apply(&place.secret("wrong"));
    cluster().kubectl(&["annotate", "appreg/mail", "--namespace", &place.namespace, "mailbox-collector.io/requestedAt=1"]).unwrap();
    let (remedy, _) = place.until("appreg/mail", "TokenHealthy", "False/SecretInvalid");
    assert!(remedy.contains("Secret app") && remedy.contains(simulator::CLIENT_ID), "{remedy}");
    place.until("appreg/mail", "Stalled", "True/SecretInvalid");
    for name in ["factures", "second", "third", "fourth"] {
        place.until(&format!("mbc/{name}"), "Ready", "False/SecretInvalid");
    }
    assert_eq!(place.simulator.token_requests().len(), requests + 1, "one request for all of them");
    wait_for("the Event", PATIENCE, || (!place.events("AppRegistration", "SecretInvalid").is_empty()).then_some(()));
    assert_eq!(place.events("AppRegistration", "SecretInvalid").len(), 1);
    assert!(place.events("MailboxCollector", "SecretInvalid").is_empty() && place.events("Secret", "SecretInvalid").is_empty());

    place.apply(&place.secret("rotated"));
    // Not "factures", whose status changed more often than it may be written at once.
    let (_, took) = place.until("mbc/second", "Ready", "True/Collecting");
    println!("from the right secret in the AppRegistration's Secret to Ready: {:.1} s", took.as_secs_f64());
    assert!(took <= Duration::from_secs(20), "healing took {took:?}");
    place.until("appreg/mail", "Ready", "True/TokenIssued");
    place.until("mbc/factures", "Ready", "True/Collecting");
    assert_eq!(place.installed.refused(), []);
    place.shows_nothing_of(&[CLIENT_SECRET, "\"wrong\"", "\"rotated\""]);
}

#[test]
fn an_app_that_fails_many_collectors_is_one_event_one_request_and_few_writes_a_second() {
    let many = crate::support::number_from_environment("MAILBOX_COLLECTOR_OF_ONE_APP", 40);
    let place = Place::new("many", &[], &["--login-rate=200"]);
    place.simulator.world().entra.token_lifetime = Some(Duration::from_secs(30));
    let mut yaml = format!("{}{}", place.secret(CLIENT_SECRET), place.app(BY_SECRET, ""));
    for number in 0..many {
        let mailbox = format!("m{number}@contoso.example");
        place.simulator.world().tenants[0].add_mailbox(&mailbox);
        yaml.push_str(&place.collector(&format!("m{number}"), &mailbox));
    }
    place.apply(&yaml);
    let in_state = |reason: &str| {
        let all = place.get("mbc");
        let ready = |object: &&Value| {
            object["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|found| found["type"] == "Ready" && found["reason"] == reason)
        };
        all["items"].as_array().unwrap().iter().filter(ready).count() as u64
    };
    let paced = Duration::from_secs(60 + many / 2);
    wait_for("all collect", paced, || (in_state("Collecting") == many).then_some(()));
    let (requests, writes) = (place.simulator.token_requests().len(), place.installed.writes().len());
    // The secret ends; within half a minute the last token ends, too.
    place.simulator.world().miss(simulator::Step::SecretExpired);
    let began = Instant::now();
    wait_for("all say it", paced, || (in_state("SecretExpired") == many).then_some(()));
    let took = began.elapsed();
    assert_eq!(place.events("AppRegistration", "SecretExpired").len(), 1);
    assert!(place.events("MailboxCollector", "SecretExpired").is_empty() && place.events("Secret", "SecretExpired").is_empty());
    let asked = place.simulator.token_requests().len() - requests;
    let written = place.installed.writes().split_off(writes);
    let seconds = |request: &xtask::cluster::Request| request.received.parse::<jiff::Timestamp>().unwrap().as_second();
    let busiest =
        written.iter().map(|first| written.iter().filter(|other| (0..10).contains(&(seconds(other) - seconds(first)))).count()).max();
    println!(
        "{many} collectors of one app whose secret expired: {asked} token requests, {} API writes in {:.0} s, at most {busiest:?} within 10 s",
        written.len(),
        took.as_secs_f64()
    );
    assert!(asked <= 2, "{asked} token requests");
    // Five a second, and ten that may come at once.
    assert!(busiest <= Some(62), "{busiest:?} writes within ten seconds");
    assert_eq!(place.installed.refused(), []);
}

#[test]
fn a_secret_replaced_while_both_are_good_loses_nothing_and_needs_no_restart() {
    let place = Place::new("rotate", &[], &[]);
    place.simulator.world().entra.token_lifetime = Some(Duration::from_secs(20));
    place.deliver(1);
    place.apply(&format!("{}{}{}", place.secret(CLIENT_SECRET), place.app(BY_SECRET, ""), place.collector("factures", MAILBOX)));
    place.until("mbc/factures", "Ready", "True/Collecting");
    let second = ClientSecret { id: "second".to_owned(), value: "second-value".to_owned(), expired: false };
    place.simulator.world().tenants[0].applications[0].secrets.push(second);
    place.apply(&place.secret("second-value"));
    // The administrator removes the first once the second is in the Secret.
    place.simulator.world().tenants[0].applications[0].secrets.remove(0);
    let began = Instant::now();
    let requests = place.simulator.token_requests().len();
    let granted = |place: &Place| place.simulator.token_requests().iter().skip(requests).any(|request| request.status == 200);
    wait_for("a token by the second secret", PATIENCE, || granted(&place).then_some(()));
    println!(
        "overlapping secrets: a token by the second {:.1} s after the first was removed (tokens live 20 s)",
        began.elapsed().as_secs_f64()
    );
    place.deliver(2);
    place.arrived(2);
    place.until("mbc/factures", "Ready", "True/Collecting");
    assert_eq!(place.installed.refused(), []);
}

#[test]
fn a_certificate_opens_the_mailbox_warns_of_its_end_and_heals_when_it_is_replaced() {
    let place = Place::new("cert", &[], &["--log=trace"]);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 10);
    let soon = soon.to_zoned(jiff::tz::TimeZone::UTC).date();
    let (first, second) =
        (certificate((i32::from(soon.year()), soon.month().unsigned_abs(), soon.day().unsigned_abs())), certificate((2035, 1, 1)));
    let upload = |pem: &str| place.simulator.world().tenants[0].applications[0].certificates = vec![AppCertificate::from_pem(pem).unwrap()];
    upload(&first.0);
    place.deliver(1);
    let app = place.app("{certificate: {secretRef: {name: app}}}", "");
    place.apply(&format!("{}{app}{}", place.tls(&first), place.collector("factures", MAILBOX)));
    place.until("mbc/factures", "Ready", "True/Collecting");
    place.arrived(1);
    let (warning, _) = place.until("appreg/mail", "CredentialExpiring", "True/ExpiresIn14Days");
    assert!(warning.contains("certificate") && warning.contains("tls.crt"), "{warning}");
    wait_for("the Event", PATIENCE, || (place.events("AppRegistration", "ExpiresIn14Days").len() == 1).then_some(()));
    let label = format!(
        "mailcollector_credential_expiration_timestamp_seconds{{kind=\"AppRegistration\",namespace=\"{}\",name=\"mail\"}}",
        place.namespace
    );
    assert!(place.installed.figure(&label) > 0);

    // The other one is uploaded, the first removed, and the Secret forgotten.
    upload(&second.0);
    cluster()
        .kubectl(&["annotate", "--overwrite", "mbc/factures", "--namespace", &place.namespace, "mailbox-collector.io/requestedAt=1"])
        .unwrap();
    place.simulator.expire_tokens();
    place.simulator.world().entra.token_lifetime = Some(Duration::from_secs(3_600));
    place.apply(&place.tls(&second));
    place.ask("2");
    let began = Instant::now();
    wait_for("the warning to go", PATIENCE, || {
        let object = place.get("appreg/mail");
        let conditions = object["status"]["conditions"].as_array()?.clone();
        conditions.iter().all(|found| found["type"] != "CredentialExpiring").then_some(())
    });
    println!("from the new certificate to an AppRegistration without warning: {:.1} s", began.elapsed().as_secs_f64());
    place.deliver(2);
    place.arrived(2);
    assert_eq!(place.installed.refused(), []);
    // The PEM's lines are those of the Secret, too.
    place.shows_nothing_of(&[first.1.lines().nth(5).unwrap(), second.1.lines().nth(5).unwrap()]);
}

#[test]
fn workload_identity_needs_no_stored_secret_and_is_refused_where_it_was_not_enabled() {
    const AUDIENCE: &str = "api://AzureADTokenExchange";
    let off = Place::new("wi-off", &[], &[]);
    off.apply(&format!("{}{}", off.app("{workloadIdentity: {serviceAccountName: post}}", ""), off.collector("factures", MAILBOX)));
    for what in ["appreg/mail", "mbc/factures"] {
        let (message, _) = off.until(what, "Accepted", "False/WorkloadIdentityNotEnabled");
        assert!(message.contains("workloadIdentity.enabled=true"), "{message}");
    }
    assert_eq!(off.installed.refused(), []);
    drop(off);

    let place = Place::new("wi", &["workloadIdentity.enabled=true"], &["--workload-identity", "--log=trace"]);
    place.deliver(1);
    let view: Value = serde_json::from_str(&cluster().kubectl(&["config", "view", "--raw", "--flatten", "-o", "json"]).unwrap()).unwrap();
    let ca = view["clusters"][0]["cluster"]["certificate-authority-data"].as_str().unwrap();
    let ca = String::from_utf8(base64::Engine::decode(&base64::prelude::BASE64_STANDARD, ca).unwrap()).unwrap();
    let issuer = view["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned();
    // As a cluster that federates lets everybody read its issuer's documents.
    let binding = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: issuer-for-everybody}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: \"system:service-account-issuer-discovery\"}\nsubjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: \"system:unauthenticated\"}]\n";
    place.apply(binding);
    place.simulator.world().entra.issuer_authorities.push(ca);
    place.apply(&format!("{}{}", place.app("{workloadIdentity: {serviceAccountName: post}}", ""), place.collector("factures", MAILBOX)));
    let (message, _) = place.until("appreg/mail", "TokenHealthy", "False/FederatedCredentialMismatch");
    assert!(message.contains("kubectl create serviceaccount post"), "{message}");
    cluster().kubectl(&["create", "serviceaccount", "post", "--namespace", &place.namespace]).unwrap();
    cluster().kubectl(&["annotate", "appreg/mail", "--namespace", &place.namespace, "mailbox-collector.io/requestedAt=1"]).unwrap();
    let subject = format!("system:serviceaccount:{}:post", place.namespace);
    let message = wait_for("the three values", PATIENCE, || {
        let (message, _) = place.until("appreg/mail", "TokenHealthy", "False/FederatedCredentialMismatch");
        message.contains(&subject).then_some(message)
    });
    for value in [issuer.as_str(), subject.as_str(), AUDIENCE] {
        assert!(message.contains(&format!("'{value}'")), "{message}");
    }
    place.simulator.world().tenants[0].applications[0].federated_credentials =
        vec![FederatedCredential { issuer, subject, audience: AUDIENCE.to_owned() }];
    cluster()
        .kubectl(&["annotate", "--overwrite", "appreg/mail", "--namespace", &place.namespace, "mailbox-collector.io/requestedAt=2"])
        .unwrap();
    place.until("appreg/mail", "Ready", "True/TokenIssued");
    place.ask("1");
    place.until("mbc/factures", "Ready", "True/Collecting");
    place.arrived(1);
    assert_eq!(place.installed.refused(), []);
    place.shows_nothing_of(&[]);
}
