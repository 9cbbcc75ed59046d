//! Every way in, without a cluster: `collect` with each kind of credential against the stand-in's Entra, and what each wrong one is called.

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use simulator::{AppCertificate, Proof};

use crate::scene::{Scene, collector};

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
