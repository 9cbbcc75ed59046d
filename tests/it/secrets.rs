//! Nothing secret and no mail in what the program writes besides the sink's files, even with every log line on, whether all goes well or not.
//! Canaries lie in the secret, the tokens, the mail and another mailbox's address; whoever prints one of them is found.

use std::path::Path;
use std::time::Duration;

use simulator::{Action, FetchFault, Message, Step, TokenFault, Trigger};

use crate::scene::{Running, Scene, all_at_once, collector, run, secret};
use crate::support::wait_for;

const SUBJECT: &str = "canary-subject-5f1c";
const BODY: &str = "canary-body-77aa";
const SENDER: &str = "canary-sender-31be";
const FOREIGN: &str = "canary-foreign-90d2";
const WRONG_SECRET: &str = "canary-wrong-secret-c4e8";

struct Row {
    name: &'static str,
    arm: fn(&Scene),
}

#[test]
fn with_every_log_line_on_no_canary_shows_whether_all_goes_well_or_not() {
    let rows = [
        Row { name: "all goes well", arm: |_| {} },
        Row { name: "wrong secret", arm: |scene| yaml(scene, WRONG_SECRET) },
        Row { name: "secret's id", arm: |scene| yaml(scene, simulator::CLIENT_SECRET_ID) },
        Row { name: "no role", arm: |scene| scene.simulator.world().miss(Step::Role) },
        Row { name: "unknown to Exchange", arm: |scene| scene.simulator.world().miss(Step::ServicePrincipal) },
        Row {
            name: "a challenge and details",
            arm: |scene| {
                let mut world = scene.simulator.world();
                world.miss(Step::ServicePrincipal);
                world.exchange.authentication_challenge = true;
                world.exchange.authentication_failure_detail = Some(format!(" Error=\"AuthFailed:{FOREIGN}\""));
            },
        },
        Row { name: "no access", arm: |scene| scene.simulator.world().miss(Step::FullAccess) },
        Row {
            name: "opaque token refused",
            arm: |scene| {
                let mut world = scene.simulator.world();
                world.entra.faults.push_back(TokenFault::OpaqueToken);
                world.miss(Step::ServicePrincipal);
            },
        },
        Row { name: "token answer cut off", arm: |scene| entra(scene, TokenFault::TruncatedBody) },
        Row { name: "log-in refused", arm: |scene| fault(scene, "AUTHENTICATE", Action::Bad("Command Error. 12".to_owned())) },
        Row { name: "body of wrong length", arm: |scene| fetch(scene, FetchFault::WrongLength(-20)) },
        Row { name: "body too long", arm: |scene| fetch(scene, FetchFault::WrongLength(20)) },
        Row { name: "body cut off", arm: |scene| fetch(scene, FetchFault::EndMidBody) },
        Row { name: "foreign message", arm: |scene| fetch(scene, FetchFault::ForeignBefore(99)) },
        Row { name: "substitute", arm: |scene| fetch(scene, FetchFault::Substitute) },
        Row {
            name: "mail where a line should be",
            arm: |scene| {
                let line = format!("* 1 FETCH (UID 1 ENVELOPE (\"{SUBJECT}\" {BODY}\r\nSubject: {SUBJECT}\r\n\r\n{BODY}\r\n");
                fault(scene, "FETCH", Action::Inject(line.into()));
            },
        },
    ];
    let runs: Vec<_> = rows.iter().flat_map(|row| [(row, "json", "text"), (row, "text", "json")]).collect();
    all_at_once(&runs, |(row, output, log_format)| {
        let scene = with_canaries();
        (row.arm)(&scene);
        let mut command = scene.command_for(&scene.simulator.imap_endpoint(), output);
        let said = run(command.args(["--once", "--log", "trace", "--log-format", log_format]));
        assert!(said.stderr.contains("TRACE") || said.stderr.contains("DEBUG"), "{}: the log is on\n{}", row.name, said.stderr);
        nothing_leaks(row.name, &scene, &said.stdout, &said.stderr);
    });
}

#[test]
fn trouble_that_lasts_is_told_without_what_it_is_about() {
    let rows = [
        Row {
            name: "a sink that cannot be written",
            arm: |scene| {
                std::fs::create_dir_all(scene.path("root")).unwrap();
                scene.write("root/office", "a file where a folder should be");
            },
        },
        Row {
            name: "token answer that is none",
            arm: |scene| entra(scene, TokenFault::Body(format!("{{\"access_token\": [\"{FOREIGN}\"]}}"))),
        },
    ];
    all_at_once(&rows, |row| {
        let scene = with_canaries();
        (row.arm)(&scene);
        let log = std::fs::File::create(scene.path("log")).unwrap();
        let _running = Running(scene.command().args(["--log", "trace"]).stderr(log).spawn().unwrap());
        let stderr = wait_for("a failure in the log", Duration::from_secs(30), || {
            let text = std::fs::read_to_string(scene.path("log")).unwrap();
            text.lines().any(|line| line.contains("not collecting")).then_some(text)
        });
        nothing_leaks(row.name, &scene, "", &stderr);
    });
}

#[test]
fn what_is_wrong_with_a_file_is_told_without_quoting_it() {
    let scene = Scene::new(&["factures"]);
    let good = collector("factures", "");
    let rows = [
        format!("apiVersion: v1\nkind: Secret\nstringData: {{clientSecret: '{WRONG_SECRET}\n  x: [\n"),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: azure-app, namespace: office}}\nstringData: [{WRONG_SECRET}]\n---\n{good}"
        ),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: azure-app, namespace: office}}\ndata: {{clientSecret: {WRONG_SECRET}}}\n---\n{good}"
        ),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: azure-app, namespace: office}}\nstringData: {{tenantId: {WRONG_SECRET}!, clientId: x, clientSecret: y}}\n---\n{good}"
        ),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: azure-app, namespace: office}}\ntype: {{a: {WRONG_SECRET}}}\n---\n{good}"),
    ];
    for yaml in rows {
        scene.write("mail.yaml", &yaml);
        let said = run(scene.command().args(["--once", "--log", "trace"]));
        assert_eq!(said.status.code(), Some(1), "{yaml}");
        assert!(!said.stderr.contains(WRONG_SECRET) && !said.stdout.contains(WRONG_SECRET), "{yaml}\n{}\n{}", said.stdout, said.stderr);
    }
}

/// Four messages, one of them too long for memory.
fn with_canaries() -> Scene {
    let scene = Scene::new(&["factures", FOREIGN]);
    let mail = format!(
        "From: {SENDER}@fournisseur.example\r\nSubject: {SUBJECT}\r\nMessage-ID: <{SUBJECT}@fournisseur.example>\r\n\r\n{BODY}\r\n"
    );
    for length in [1, 1, 1, 20_000] {
        scene.put("factures", Message::raw_rerendered(format!("{mail}{}", format!("{BODY}\r\n").repeat(length))));
    }
    yaml(&scene, simulator::CLIENT_SECRET);
    scene
}

fn yaml(scene: &Scene, value: &str) {
    scene.write("mail.yaml", &format!("{}---\n{}", secret(value), collector("factures", "")));
}

fn entra(scene: &Scene, fault: TokenFault) {
    scene.simulator.world().entra.faults.push_back(fault);
}

fn fault(scene: &Scene, command: &'static str, action: Action) {
    scene.mailbox("factures", |mailbox| mailbox.faults.once(Trigger::Command { name: command, nth: 1 }, action));
}

fn fetch(scene: &Scene, what: FetchFault) {
    fault(scene, "FETCH", Action::Fetch { uid: Some(2), what });
}

fn nothing_leaks(row: &str, scene: &Scene, stdout: &str, stderr: &str) {
    let mut written = vec![("standard output".to_owned(), stdout.into()), ("standard error".to_owned(), stderr.into())];
    read_all(&scene.path("state"), &mut written);
    assert!(written.len() > 2, "{row}: nothing in the state folder");
    let secret = simulator::CLIENT_SECRET;
    let form_encoded = secret.replace('+', "%2B").replace('/', "%2F");
    // The stand-in's tokens are JWTs, all with one beginning, its opaque ones with another; XOAUTH2 is base64 of "user=".
    let canaries = [SUBJECT, BODY, SENDER, FOREIGN, WRONG_SECRET, secret, &form_encoded, "eyJ", "EwB", "dXNlcj", "Bearer "];
    for (place, bytes) in written {
        let text = String::from_utf8_lossy(&bytes);
        for canary in canaries {
            if let Some(at) = text.find(canary) {
                let shown: String = text[..at].chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
                panic!("{row}: {canary:?} in {place}, behind: {shown}");
            }
        }
    }
}

fn read_all(folder: &Path, written: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        written.push((path.display().to_string(), std::fs::read(&path).unwrap()));
    }
}
