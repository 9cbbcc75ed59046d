//! Every way in, without a cluster: `collect` with each kind of credential against the stand-in's Entra, and what each wrong one is called.

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use simulator::{AppCertificate, Cloud, FederatedCredential, Proof};

use crate::scene::{Scene, collector, run};

/// A self-signed certificate and its key, PEM.
pub(crate) fn certificate(not_after: (i32, u8, u8)) -> (String, String) {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A Secret with these two PEM texts.
pub(crate) fn certificate_secret(namespace: &str, name: &str, (certificate, key): &(String, String)) -> String {
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData:\n  tenantId: {}\n  clientId: {}\n  tls.crt: |\n{}  tls.key: |\n{}",
        simulator::TENANT_ID,
        simulator::CLIENT_ID,
        indented(certificate),
        indented(key)
    )
}

fn upload(scene: &Scene, certificate: &str) {
    scene.simulator.world().tenants[0].applications[0].certificates.push(AppCertificate::from_pem(certificate).unwrap());
}

fn with_certificate(scene: &Scene, pair: &(String, String)) {
    scene.write("mail.yaml", &format!("{}---\n{}", certificate_secret("office", "azure-app", pair), collector("factures", "")));
}

#[test]
fn a_certificate_opens_the_mailbox_in_the_present_form_and_where_needed_in_the_former() {
    let scene = Scene::new(&["factures"]);
    scene.simulator.world().tenants[0].applications[0].secrets.clear();
    let pair = certificate((2030, 1, 1));
    upload(&scene, &pair.0);
    with_certificate(&scene, &pair);
    scene.deliver("factures", 1..=3);
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [1, 2, 3]);

    scene.simulator.world().entra.former_thumbprints_only = true;
    let said = scene.collect();
    said.must_be_ok();
    assert!(said.stderr.contains("taken=\"RS256 with x5t\""), "the form that worked is logged: {}", said.stderr);
    let shown: Vec<_> = scene.simulator.token_requests().into_iter().map(|request| (request.proof, request.code)).collect();
    let (current, former) = (Proof::Assertion("PS256"), Proof::Assertion("RS256"));
    assert_eq!(shown, [(current, None), (current, Some(700_027)), (former, None)]);
}

#[test]
fn each_wrong_certificate_is_named_with_the_way_out() {
    let scene = Scene::new(&["factures"]);
    let (good, other) = (certificate((2030, 1, 1)), certificate((2030, 1, 1)));
    let ended = certificate((2020, 1, 1));
    #[expect(clippy::type_complexity, reason = "a table")]
    let rows: [(&str, (String, String), &str, &[&str]); 4] = [
        ("not uploaded", good.clone(), "CertificateNotRegistered", &["thumbprint", "tls.crt", "azure-app", simulator::CLIENT_ID]),
        ("ended", ended, "SecretExpired", &["ended at 2020-01-01", "tls.crt", "azure-app"]),
        ("another key", (good.0.clone(), other.1), "SecretKeyMissing", &["key tls.key does not belong to the certificate", "azure-app"]),
        ("garbage", ("garbage".to_owned(), good.1.clone()), "SecretKeyMissing", &["key tls.crt holds no certificate"]),
    ];
    for (what, pair, reason, words) in rows {
        with_certificate(&scene, &pair);
        let said = scene.collect();
        assert_eq!((said.status.code(), said.reason("factures")), (Some(1), reason), "{what}: {}", said.stdout);
        let message = said.of("factures")["message"].as_str().unwrap();
        for word in words {
            assert!(message.contains(word), "{what}: {word:?} is missing in {message}");
        }
        if what == "not uploaded" {
            let thumbprint = AppCertificate::from_pem(&pair.0).unwrap().thumbprint();
            assert!(message.contains(&thumbprint), "{message}");
        }
    }
    assert_eq!(scene.simulator.token_requests().len(), 2, "one in each form; what is wrong in itself is not shown to Entra");
}

/// A collector that refers to the AppRegistration `mail`, and that; `credential` is its member in YAML's flow form.
fn by_app(scene: &Scene, credential: &str, more: &str, secret: &str) {
    let refers = collector("factures", "").replace("{secretRef: {name: azure-app}}", "{appRegistrationRef: {name: mail}}");
    scene.write("mail.yaml", &format!("{}{refers}---\n{secret}", app_registration("office", "mail", credential, more)));
}

/// An AppRegistration of the ready tenant's app.
pub(crate) fn app_registration(namespace: &str, name: &str, credential: &str, more: &str) -> String {
    let more: String = more.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: mailbox-collector.io/v1alpha1\nkind: AppRegistration\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  tenantId: {}\n  clientId: {}\n  credential: {credential}\n{more}---\n",
        simulator::TENANT_ID,
        simulator::CLIENT_ID
    )
}

#[test]
fn an_app_registration_in_the_files_is_read_and_used() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=2);
    let value = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: value, namespace: office}}\nstringData: {{value: {}}}\n",
        simulator::CLIENT_SECRET
    );
    let by_key = "{clientSecret: {secretKeyRef: {name: value, key: value}}}";
    by_app(&scene, by_key, "", &value);
    scene.collect().must_be_ok();
    assert_eq!(scene.serials("factures"), [1, 2]);

    for (what, credential, more, reason, word) in [
        ("not allowed", by_key, "allowedMailboxes: [\"*@other.example\"]", "MailboxNotAllowed", "spec.allowedMailboxes"),
        ("no Secret", "{certificate: {secretRef: {name: gone}}}", "", "SecretNotFound", "kubectl create secret tls gone"),
        ("no token file", "{workloadIdentity: {serviceAccountName: post}}", "", "FederatedCredentialMismatch", "--federated-token-file"),
    ] {
        by_app(&scene, credential, more, &value);
        let said = scene.collect();
        assert_eq!(said.reason("factures"), reason, "{what}: {}", said.stdout);
        let message = said.of("factures")["message"].as_str().unwrap();
        assert!(message.contains(word), "{what}: {message}");
    }
    let alone = collector("factures", "").replace("{secretRef: {name: azure-app}}", "{appRegistrationRef: {name: mail}}");
    scene.write("mail.yaml", &alone);
    assert_eq!(scene.collect().reason("factures"), "AppRegistrationNotFound");
}

#[test]
fn a_service_accounts_token_from_a_file_opens_the_mailbox_and_a_mismatch_names_the_three_values() {
    const SUBJECT: &str = "system:serviceaccount:office:post";
    const AUDIENCE: &str = "api://AzureADTokenExchange";
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=2);
    by_app(&scene, "{workloadIdentity: {serviceAccountName: post}}", "", "");
    scene.write("token", &scene.simulator.service_account_token(SUBJECT, AUDIENCE).unwrap());
    let said = run(scene.command().arg("--once").env("AZURE_FEDERATED_TOKEN_FILE", scene.path("token")));
    assert_eq!(said.reason("factures"), "FederatedCredentialMismatch", "{}", said.stdout);
    let message = said.of("factures")["message"].as_str().unwrap();
    let issuer = scene.simulator.service_account_issuer();
    for value in [issuer.as_str(), SUBJECT, AUDIENCE] {
        assert!(message.contains(&format!("'{value}'")), "{message}");
    }
    scene.simulator.world().tenants[0].applications[0].federated_credentials =
        vec![FederatedCredential { issuer, subject: SUBJECT.to_owned(), audience: AUDIENCE.to_owned() }];
    run(scene.command().arg("--once").arg("--federated-token-file").arg(scene.path("token"))).must_be_ok();
    assert_eq!(scene.serials("factures"), [1, 2]);
    assert_eq!(scene.simulator.token_requests().last().unwrap().proof, Proof::Assertion("RS256"));
}

#[test]
fn a_tenant_of_china_is_asked_at_the_v1_endpoint_for_its_own_exchange() {
    let scene = Scene::new(&["factures"]);
    scene.deliver("factures", 1..=2);
    scene.simulator.world().tenants[0].cloud = Cloud::China;
    let secret = crate::scene::secret(simulator::CLIENT_SECRET);
    scene.write("mail.yaml", &format!("{secret}  cloud: China\n---\n{}", collector("factures", "")));
    scene.collect().must_be_ok();
    assert!(scene.simulator.token_requests().iter().all(|request| request.v1), "{:?}", scene.simulator.token_requests());
}

#[test]
fn with_every_log_line_on_neither_a_key_nor_an_assertion_shows() {
    let pair = certificate((2030, 1, 1));
    let line = pair.1.lines().nth(5).unwrap().to_owned();
    for uploaded in [true, false] {
        let scene = Scene::new(&["factures"]);
        scene.deliver("factures", [1]);
        if uploaded {
            upload(&scene, &pair.0);
        }
        with_certificate(&scene, &pair);
        let certified = run(scene.command().args(["--once", "--log", "trace"]));
        assert_eq!(certified.status.success(), uploaded, "{}", certified.stdout);
        by_app(&scene, "{workloadIdentity: {serviceAccountName: post}}", "", "");
        scene.write("token", &scene.simulator.service_account_token("canary-subject", "api://other").unwrap());
        let federated = run(scene.command().args(["--once", "--log", "trace", "--federated-token-file"]).arg(scene.path("token")));
        assert_eq!(federated.reason("factures"), "FederatedCredentialMismatch");
        for said in [certified, federated] {
            assert!(said.stderr.contains("TRACE"));
            for canary in [line.as_str(), "eyJ", "BEGIN PRIVATE"] {
                assert!(!said.stderr.contains(canary) && !said.stdout.contains(canary), "{canary} is shown: {}", said.stderr);
            }
        }
    }
}
