//! Every step of the set-up, missed alone: what `check` says of it, and that the operator's status has the same reason. In one process: the
//! library is driven as `check` and the task do, against the stand-in. The outcome is a page of the documentation (`docs/*/missed-steps.md`).

use std::fmt::Write as _;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use mailbox_collector::admin::metrics::Metrics;
use mailbox_collector::api::MailboxCollector;
use mailbox_collector::collect::{
    Collector, CollectorId, CursorStore, End, Environment, Pacer, Progress, StoreError, Task, Version, Wanted,
};
use mailbox_collector::controller::validate;
use mailbox_collector::cursor::{Cursor, Holder};
use mailbox_collector::diagnosis::{Language, Reason, SetupStep};
use mailbox_collector::doctor::{self, Checklist, Refused, Sinks, State, Verdict};
use mailbox_collector::sink::file::FileRoot;
use mailbox_collector::source::Settle;
use mailbox_collector::source::imap::Connector;
use mailbox_collector::source::pop3;
use mailbox_collector::{entra, tls};
use serde_json::Value;
use simulator::{CLIENT_SECRET, Message, Options, Simulator, Step, World};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::scene::{Scene, bare_command, run};

mod rows;

use rows::rows;

const MAILBOX: &str = "factures@contoso.example";
fn documents() -> String {
    format!("{}---\n{}", crate::scene::secret(CLIENT_SECRET), crate::scene::collector("factures", ""))
}

/// The work order of the documents, or what `check` says of them.
fn judged(yaml: &str, language: Language) -> Result<Collector, (Reason, Checklist)> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let mut secret = documents[0].clone();
    let texts = secret["stringData"].take();
    let mut secret: Secret = serde_json::from_value(secret).unwrap();
    for (key, text) in texts.as_object().unwrap() {
        secret.data.get_or_insert_default().insert(key.clone(), k8s_openapi::ByteString(text.as_str().unwrap().as_bytes().to_vec()));
    }
    let object: MailboxCollector = serde_json::from_value(documents[1].clone()).unwrap();
    let found = |name: &str| (secret.metadata.name.as_deref() == Some(name)).then_some(&secret);
    validate::from_files(&object, found, |_| None, &validate::Options { file_sink: true, ..Default::default() }).map_err(|error| {
        let (reason, words) = (error.reason(), error.to_string());
        let secret = object.spec.credentials.secret_ref.as_ref().map(|secret| secret.name.as_str());
        let refused = Refused { namespace: "office", name: "factures", mailbox: MAILBOX, secret, reason, words: &words };
        (reason, doctor::refused(&refused, language))
    })
}

/// What tasks share, new for each row: no token and no memory of another one is left.
fn environment(simulator: &Simulator, folder: &tempfile::TempDir) -> Environment {
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, simulator.ca_pem()).unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(&root).unwrap();
    let tls = tls::client_config(Some(&ca)).unwrap();
    let (host, port) = ("localhost".to_owned(), simulator.imap_address().port());
    Environment {
        tokens: entra::Tokens::new(entra::http_client(&tls, None).unwrap(), Some(simulator.authority())),
        imap: Connector { host: host.clone(), port, tls: Arc::clone(&tls), proxy: None },
        pop3: pop3::Connector { host, port: simulator.pop3_address().port(), tls, proxy: None },
        file_root: Some(Arc::new(FileRoot::open(&root).unwrap())),
        spool: None,
        cursors: Arc::new(Untouched),
        logins: Pacer::new(None),
        work: Arc::new(Semaphore::new(8)),
        metrics: Metrics::new(),
        lately: std::sync::Mutex::default(),
    }
}

/// No check and no failing task writes a cursor.
#[derive(Debug)]
struct Untouched;

impl CursorStore for Untouched {
    fn load<'a>(&'a self, _: &'a CollectorId) -> BoxFuture<'a, Result<Option<(Cursor, Version)>, StoreError>> {
        async { Ok(None) }.boxed()
    }

    fn save<'a>(&'a self, _: &'a CollectorId, _: &'a Cursor, _: Option<&'a Version>) -> BoxFuture<'a, Result<Version, StoreError>> {
        panic!("a cursor was written")
    }

    fn pace(&self) -> std::time::Duration {
        std::time::Duration::MAX
    }

    fn holder(&self) -> Option<Holder> {
        None
    }
}

/// The reason that the operator's status would have: that of the task's failure.
async fn reason_of_task(order: Collector, environment: Environment) -> Reason {
    let (_poke, poked) = watch::channel(None);
    let progress = watch::Sender::new(Progress::default());
    let wanted = Wanted::OnePass { retries: 0 };
    let task = Task::new(Arc::new(order), Arc::new(environment), wanted, progress, poked, CancellationToken::new());
    match task.run().await {
        End::Failed(diagnosis) => diagnosis.reason,
        other => panic!("the task ended with {other:?}"),
    }
}

fn started(mailboxes: &[&str]) -> Simulator {
    let simulator = Simulator::start_blocking(Options { world: World::ready(mailboxes), ..Options::default() }).unwrap();
    simulator.world().deliver(MAILBOX, "INBOX", Message::office(1)).unwrap();
    simulator
}

#[tokio::test]
async fn each_missed_step_is_named_by_check_and_by_the_operator_alike() {
    let simulator = started(&[MAILBOX]);
    let folder = tempfile::tempdir().unwrap();
    let mut pages = [Language::En, Language::Fr].map(|language| (language, heading(language)));
    for row in rows() {
        let name = row.missed[0];
        simulator.world().tenants[0].put_right();
        if let Some(step) = row.step {
            simulator.world().miss(step);
        }
        let mut yaml = documents();
        if let Some((text, replacement)) = row.written {
            assert!(yaml.contains(text), "{name}");
            yaml = yaml.replace(text, replacement);
        }
        for (language, page) in &mut pages {
            let (list, operator) = match judged(&yaml, *language) {
                Ok(order) => {
                    let list = doctor::examine(&order, &environment(&simulator, &folder), Sinks::Here, *language).await;
                    (list, reason_of_task(order, environment(&simulator, &folder)).await)
                }
                Err((reason, list)) => (list, reason),
            };
            let text = list.text(*language);
            assert_eq!((list.verdict(), list.reason(), operator), (Verdict::Failed, Some(row.reason), row.reason), "{name}\n{text}");
            let failed: Vec<_> = list.lines.iter().filter(|line| line.state == State::Failed).collect();
            assert_eq!(failed.iter().map(|line| line.step).collect::<Vec<_>>(), [row.fails], "{name}\n{text}");
            for line in &list.lines {
                let expected = match line.step {
                    step if step == row.fails => State::Failed,
                    step if Some(step) == row.unknown => State::CannotBeKnown,
                    step if step < row.fails => State::Ok,
                    // Sinks do not wait for Microsoft.
                    SetupStep::Sink if row.fails > SetupStep::Secret => State::Ok,
                    _ => State::NotReached,
                };
                assert_eq!(line.state, expected, "{name}: {}\n{text}", line.step.as_str());
            }
            let line = failed.first().unwrap();
            let remedy = line.remedy.as_deref().unwrap();
            for word in row.remedy {
                assert!(remedy.contains(word), "{name}: {word} is not in {remedy}");
            }
            let confidence = line.confidence.unwrap().title(*language);
            let missed = language.choose(row.missed[0], row.missed[1]);
            let shown = remedy.replace('|', "\\|").replace('<', "\\<");
            writeln!(page, "| {missed} | {} | `{}` | {confidence} | {shown} |", row.fails.title(*language), row.reason.as_str()).unwrap();
        }
    }
    assert!(rows().iter().filter_map(|row| row.step).count() == Step::ALL.len(), "a step of the stand-in is not played");
    // Looking only: nothing but these was said to the mailbox, and nothing came to lie in a sink.
    let harmless = ["CAPABILITY", "AUTHENTICATE", "LIST", "EXAMINE", "LOGOUT"];
    for (command, _) in simulator.commands() {
        assert!(harmless.contains(&command.as_str()), "{command}");
    }
    assert_eq!(crate::support::mail(&folder.path().join("root/office/factures")), Vec::<std::path::PathBuf>::new());
    for (language, page) in pages {
        let file = xtask::root().join(language.choose("docs/en/missed-steps.md", "docs/fr/missed-steps.md"));
        compare(&file, &page);
    }
}

fn heading(language: Language) -> String {
    language
        .choose(
            "# What each missed step looks like\n\n<!-- Made by a test (tests/it/doctor.rs, `cargo xtask docs`); do not edit. -->\n\nEach row was played \
             through the stand-in for Microsoft 365, over IMAP: one step missed, all others right. The reason is that of `status` and of \
             `mailbox-collector check`.\nTo see one: `cargo xtask rehearse --missing STEP`.\n\n| missed | step that fails | reason | how sure | \
             what is said |\n|---|---|---|---|---|\n",
            "# À quoi ressemble chaque étape manquée\n\n<!-- Made by a test (tests/it/doctor.rs, `cargo xtask docs`); do not edit. -->\n\nChaque ligne a été \
             jouée avec le simulateur de Microsoft 365, par IMAP : une étape manquée, toutes les autres bonnes. La raison est celle de `status` et \
             de `mailbox-collector check`.\nPour en voir une : `cargo xtask rehearse --missing STEP --lang fr`.\n\n| manqué | étape en échec | raison \
             | certitude | ce qui est dit |\n|---|---|---|---|---|\n",
        )
        .to_owned()
}

/// A generated page is as committed; `MAILBOX_COLLECTOR_WRITE_DOCS` (set by `cargo xtask docs`) writes it instead.
pub(crate) fn compare(file: &std::path::Path, page: &str) {
    if std::env::var_os("MAILBOX_COLLECTOR_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, page).unwrap();
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    assert!(committed == page, "{} is out of date: run `cargo xtask docs`", file.display());
}

#[tokio::test]
async fn when_everything_is_right_every_step_is_ok_and_missing_folders_and_sinks_are_told_alone() {
    let simulator = started(&[MAILBOX]);
    let folder = tempfile::tempdir().unwrap();
    let order = judged(&documents(), Language::En).unwrap();
    let list = doctor::examine(&order, &environment(&simulator, &folder), Sinks::Here, Language::En).await;
    assert_eq!(list.verdict(), Verdict::Ok, "{}", list.text(Language::En));
    assert!(list.lines.iter().all(|line| line.state == State::Ok), "{}", list.text(Language::En));

    let folders = ["INBOX", "Factures", "Archives"].map(String::from).to_vec();
    simulator.world().deliver(MAILBOX, "Archives", Message::office(2)).unwrap();
    std::fs::remove_dir_all(folder.path().join("root/office/factures")).unwrap();
    std::fs::write(folder.path().join("root/office/factures"), b"a file").unwrap();
    // Where delivered mail is moved to must be there as well.
    let order = Collector { folders, after_delivery: Some(Settle::Move("Traités".into())), ..order };
    let list = doctor::examine(&order, &environment(&simulator, &folder), Sinks::Here, Language::Fr).await;
    let states: Vec<_> = list.lines.iter().filter(|line| line.step >= SetupStep::Folder).map(|line| (line.state, line.reason)).collect();
    let expected = [
        (State::Ok, None),
        (State::Failed, Some(Reason::FolderNotFound)),
        (State::Ok, None),
        (State::Failed, Some(Reason::FolderNotFound)),
        (State::Failed, Some(Reason::SinkRejects)),
    ];
    assert_eq!(states, expected, "{}", list.text(Language::Fr));
    assert!(list.text(Language::Fr).contains("où spec.afterDelivery range le courrier"), "{}", list.text(Language::Fr));
    let elsewhere = Environment { file_root: None, ..environment(&simulator, &folder) };
    let order = judged(&documents(), Language::En).unwrap();
    let list = doctor::examine(&order, &elsewhere, Sinks::Elsewhere, Language::En).await;
    assert_eq!((list.lines.last().unwrap().state, list.verdict()), (State::CannotBeKnown, Verdict::Ok));
}

#[tokio::test]
async fn a_server_out_of_reach_or_busy_is_no_missed_step() {
    let simulator = started(&[MAILBOX]);
    let folder = tempfile::tempdir().unwrap();
    let order = judged(&documents(), Language::En).unwrap();
    let check = async |environment: Environment| doctor::examine(&order, &environment, Sinks::Here, Language::En).await;
    let state = |list: &Checklist, step| list.lines.iter().find(|line| line.step == step).unwrap().state;

    simulator.world().entra.faults.push_back(simulator::TokenFault::TooManyRequests { retry_after: Some(60) });
    let list = check(environment(&simulator, &folder)).await;
    assert_eq!((list.verdict(), state(&list, SetupStep::EntraReachable)), (Verdict::Incomplete, State::CannotBeKnown));
    let tokens = |authority: &str| {
        let tls = tls::client_config(None).unwrap();
        entra::Tokens::new(entra::http_client(&tls, None).unwrap(), Some(authority.to_owned()))
    };
    let list = check(Environment { tokens: tokens("https://127.0.0.1:1"), ..environment(&simulator, &folder) }).await;
    assert_eq!((list.reason(), state(&list, SetupStep::EntraReachable)), (Some(Reason::EntraUnavailable), State::Failed));
    let mut unreachable = environment(&simulator, &folder);
    unreachable.imap.port = 1;
    let list = check(unreachable).await;
    assert_eq!((list.reason(), state(&list, SetupStep::ExchangeReachable)), (Some(Reason::ConnectionFailed), State::Failed));
    assert_eq!(state(&list, SetupStep::ServicePrincipal), State::NotReached);
    // An opaque token says nothing; the log-in does.
    simulator.world().entra.faults.push_back(simulator::TokenFault::OpaqueToken);
    let list = check(environment(&simulator, &folder)).await;
    assert_eq!((list.verdict(), state(&list, SetupStep::Role)), (Verdict::Ok, State::Ok));
    simulator.world().entra.faults.push_back(simulator::TokenFault::OpaqueToken);
    simulator.world().miss(Step::ServicePrincipal);
    let list = check(environment(&simulator, &folder)).await;
    assert_eq!((list.verdict(), state(&list, SetupStep::Consent)), (Verdict::Failed, State::CannotBeKnown));
}

#[tokio::test]
async fn a_task_whose_app_opens_another_mailbox_is_told_to_look_at_the_address() {
    let simulator = started(&[MAILBOX]);
    let folder = tempfile::tempdir().unwrap();
    let environment = environment(&simulator, &folder);
    let order = judged(&documents(), Language::En).unwrap();
    let mut wrong = order.clone();
    wrong.id.name = "wrong".into();
    wrong.mailbox = "wrong@contoso.example".into();
    environment.lately.lock().unwrap().opened(&order, jiff::Timestamp::now());
    assert_eq!(reason_of_task(wrong, environment).await, Reason::AuthenticationRefused);
}

#[test]
fn the_command_says_the_same_with_exit_codes_and_accents_and_leaves_everything_alone() {
    let scene = Scene::new(&["factures", "ventes"]);
    scene.deliver("factures", 1..=2);
    let check = |more: &[&str]| {
        let mut command = bare_command();
        command.args(["check", "--entra-authority", &scene.simulator.authority(), "--imap-endpoint", &scene.simulator.imap_endpoint()]);
        command.arg("--ca-file").arg(scene.path("ca.pem")).arg("--file").arg(scene.path("mail.yaml"));
        command.env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", "fr_FR.UTF-8").args(more);
        run(&mut command)
    };
    let fine = check(&["--lang", "en"]);
    assert_eq!(fine.status.code(), Some(0), "{}\n{}", fine.stdout, fine.stderr);
    assert!(fine.stdout.contains("office/factures factures@contoso.example") && fine.stdout.contains("Everything is in order."));
    // A collector whose address is wrong, beside one that works.
    let yaml = std::fs::read_to_string(scene.path("mail.yaml")).unwrap();
    scene.write("mail.yaml", &yaml.replace("ventes@contoso.example", "vente@contoso.example"));
    let json = check(&["-o", "json"]);
    assert_eq!(json.status.code(), Some(1), "{}", json.stderr);
    assert_eq!((json.of("factures")["ok"].as_bool(), json.reason("ventes")), (Some(true), "AuthenticationRefused"));
    let remedy = json.of("ventes")["steps"].as_array().unwrap().iter().find(|step| step["state"] == "failed").unwrap()["remedy"].clone();
    assert!(remedy.as_str().unwrap().contains("l'application ouvre factures@contoso.example : son inscription"), "{remedy}");
    let text = check(&[]);
    assert!(text.stdout.contains("échec") && text.stdout.contains("Vérifiez l'adresse de la boîte"), "{}", text.stdout);
    scene.write("mail.yaml", &yaml);
    scene.simulator.world().entra.faults.extend((0..9).map(|_| simulator::TokenFault::ServiceUnavailable));
    let busy = check(&["--lang", "fr"]);
    assert_eq!(busy.status.code(), Some(3), "{}", busy.stdout);
    assert_eq!(check(&["office/factures"]).status.code(), Some(2));
    scene.write("mail.yaml", "kind: [");
    assert_eq!(check(&[]).status.code(), Some(2));
    scene.write("mail.yaml", &yaml);
    scene.simulator.world().entra.faults.clear();
    let traced = check(&["--log", "trace"]);
    assert_eq!(traced.status.code(), Some(0), "{}", traced.stdout);
    for said in [&fine, &json, &text, &busy, &traced] {
        // Tokens of the stand-in are JWTs, which begin so.
        for canary in [CLIENT_SECRET, "eyJ"] {
            assert!(!said.stdout.contains(canary) && !said.stderr.contains(canary), "{canary}");
        }
    }
    let commands = scene.simulator.commands();
    assert!(!commands.contains_key("SELECT") && !commands.contains_key("UID FETCH"), "{commands:?}");
    assert!(!scene.path("state").exists() && !scene.path("root").exists());
}

#[test]
fn an_object_of_a_cluster_is_checked_with_the_rights_of_whoever_asks() {
    let (cluster, namespace) = (crate::support::cluster(), crate::support::namespace("check"));
    let scene = Scene::new(&["factures"]);
    let check = |object: &str| {
        let mut command = bare_command();
        command.args(["check", "--lang", "en", "-o", "json", object, "--entra-authority", &scene.simulator.authority()]);
        command.args(["--imap-endpoint", &scene.simulator.imap_endpoint()]).arg("--ca-file").arg(scene.path("ca.pem"));
        run(command.env("KUBECONFIG", cluster.kubeconfig_admin()))
    };
    let object = format!("{namespace}/factures");
    assert_eq!(check(&object).status.code(), Some(2));
    cluster.apply(&crate::support::collector(&namespace, "factures", MAILBOX, "azure-app", "")).unwrap();
    let said = check(&object);
    assert_eq!((said.status.code(), said.reason("factures")), (Some(1), "SecretNotFound"), "{}", said.stderr);
    cluster.apply(&crate::support::secret(&namespace, "azure-app", simulator::TENANT_ID, simulator::CLIENT_ID, CLIENT_SECRET)).unwrap();
    scene.simulator.world().miss(Step::FullAccess);
    let said = check(&object);
    assert_eq!((said.status.code(), said.reason("factures")), (Some(1), "AccessMissingOrProtocolDisabled"), "{}", said.stderr);
    scene.simulator.world().tenants[0].put_right();
    let said = check(&object);
    assert_eq!(said.status.code(), Some(0), "{}{}", said.stdout, said.stderr);
    let steps = said.of("factures")["steps"].as_array().unwrap().clone();
    // The operator's volume is not on this machine.
    assert_eq!(steps.last().unwrap()["state"], "cannotBeKnown");
    let cursors = cluster.kubectl(&["get", "mailboxcursors", "--namespace", &namespace, "--output", "name"]).unwrap();
    assert_eq!(cursors, "");
}

#[test]
fn the_guide_is_printed_in_the_language_of_the_environment_and_a_misplaced_secret_is_never_repeated() {
    let onboard = |client: &str, more: &[&str]| {
        let mut command = bare_command();
        command.args(["onboard", "--tenant", "contoso.example", "--client-id", client, "--mailbox", MAILBOX]);
        run(command.env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", "fr_FR.UTF-8").args(more))
    };
    let guide = onboard(simulator::CLIENT_ID, &[]);
    assert_eq!(guide.status.code(), Some(0), "{}", guide.stderr);
    assert!(guide.stdout.starts_with("# Configurer une boîte aux lettres de Microsoft 365\n"), "{}", guide.stdout);
    let script = onboard(simulator::CLIENT_ID, &["-o", "script", "--lang", "en"]);
    assert!(script.stdout.contains("Read-Host -Prompt 'Object ID shown under Enterprise applications"), "{}", script.stdout);
    let manifests = onboard(simulator::CLIENT_ID, &["-o", "manifests"]);
    assert!(manifests.stdout.lines().last().unwrap().starts_with("# kubectl create secret generic"), "{}", manifests.stdout);
    let misplaced = onboard(CLIENT_SECRET, &[]);
    assert_eq!(misplaced.status.code(), Some(2));
    assert!(misplaced.stderr.contains("--client-id") && !misplaced.stderr.contains(CLIENT_SECRET), "{}", misplaced.stderr);
}
