//! How an app may prove who it is, and what each wrong proof is answered.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::*;

/// An uploaded certificate and what signs with its key.
struct App {
    certificate: String,
    key: RsaKeyPair,
    numbers: u32,
}

impl App {
    fn with_certificate(simulator: &Simulator) -> Self {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&pair).unwrap().pem();
        simulator.world().tenants[0].applications[0].certificates.push(AppCertificate::from_pem(&certificate).unwrap());
        Self { certificate, key: RsaKeyPair::from_pkcs8(&pair.serialize_der()).unwrap(), numbers: 0 }
    }

    fn thumbprint(&self, algorithm: &'static aws_lc_rs::digest::Algorithm) -> String {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        BASE64_URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(algorithm, &der))
    }

    /// An assertion in the present form, but for what is changed in its header and claims.
    fn assertion(&mut self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        self.numbers += 1;
        let now = now();
        let mut header = json!({"typ": "JWT", "alg": "PS256", "x5t#S256": self.thumbprint(&aws_lc_rs::digest::SHA256)});
        let mut claims = json!({
            "aud": format!("https://login.microsoftonline.com/{TENANT_ID}/oauth2/v2.0/token"), "iss": CLIENT_ID, "sub": CLIENT_ID,
            "jti": format!("id-{}", self.numbers), "nbf": now - 10, "exp": now + 600,
        });
        change(&mut header, &mut claims);
        let algorithm: &'static dyn RsaEncoding = if header["alg"] == "RS256" { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA256 };
        let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()), BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(algorithm, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn former(&mut self) -> String {
        let thumbprint = self.thumbprint(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
        self.assertion(|header, _| *header = json!({"typ": "JWT", "alg": "RS256", "x5t": thumbprint}))
    }
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// The code of the refusal; 0 and the token's `appidacr` where there is none.
async fn shown(simulator: &Simulator, assertion: &str) -> (u64, String) {
    let form = format!(
        "client_id={CLIENT_ID}&scope=https%3A%2F%2Foutlook.office365.com%2F.default&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={assertion}&grant_type=client_credentials"
    );
    let (_, _, body) = post(simulator, &format!("/{TENANT_ID}/oauth2/v2.0/token"), &form).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    match body["access_token"].as_str() {
        Some(token) => (0, claims(token)["appidacr"].as_str().unwrap().to_owned()),
        None => (body["error_codes"][0].as_u64().unwrap(), body["error_description"].as_str().unwrap().to_owned()),
    }
}

#[tokio::test]
async fn an_assertion_is_taken_in_both_forms_and_for_both_audiences() {
    let simulator = started().await;
    let mut app = App::with_certificate(&simulator);
    // As the client below names the host.
    let here = "https://localhost/contoso.example/v2.0";
    for assertion in [app.assertion(|_, _| ()), app.former(), app.assertion(|_, claims| claims["aud"] = json!(here))] {
        assert_eq!(shown(&simulator, &assertion).await, (0, "2".to_owned()));
    }
    simulator.world().entra.former_thumbprints_only = true;
    let refused = shown(&simulator, &app.assertion(|_, _| ())).await;
    assert!(refused.0 == 700_027 && refused.1.contains("The key was not found"), "{refused:?}");
    assert_eq!(shown(&simulator, &app.former()).await.0, 0);
    let proofs: Vec<_> = simulator.token_requests().into_iter().map(|request| request.proof).collect();
    let (current, former) = (Proof::Assertion("PS256"), Proof::Assertion("RS256"));
    assert_eq!(proofs, [current, former, current, current, former]);
}

#[tokio::test]
async fn each_wrong_assertion_has_its_error() {
    let simulator = started().await;
    let mut app = App::with_certificate(&simulator);
    let later = now() + 4_000;
    let rows: [(&str, u64, String); 8] = [
        ("no token", 50_027, "not-a-token".to_owned()),
        ("another audience", 700_023, app.assertion(|_, claims| claims["aud"] = json!("https://login.microsoftonline.com/other/v2.0"))),
        ("another subject", 700_021, app.assertion(|_, claims| claims["sub"] = json!(TENANT_ID))),
        ("past", 700_024, app.assertion(|_, claims| claims["exp"] = json!(now() - 301))),
        ("future", 700_024, app.assertion(|_, claims| claims["nbf"] = json!(later))),
        ("no id", 50_027, app.assertion(|_, claims| drop(claims.as_object_mut().unwrap().remove("jti")))),
        ("no thumbprint", 700_027, app.assertion(|header, _| *header = json!({"alg": "PS256"}))),
        ("another algorithm's name", 5_002_738, app.assertion(|header, _| header["alg"] = json!("HS256"))),
    ];
    for (what, code, assertion) in rows {
        assert_eq!(shown(&simulator, &assertion).await.0, code, "{what}");
    }
    let good = app.assertion(|_, _| ());
    let forged = format!("{}.{}", good.rsplit_once('.').unwrap().0, BASE64_URL_SAFE_NO_PAD.encode([1; 256]));
    let refused = shown(&simulator, &forged).await;
    assert!(refused.0 == 700_027 && refused.1.contains("invalid signature"), "{refused:?}");
    assert_eq!(shown(&simulator, &good).await.0, 0);
    assert_eq!(shown(&simulator, &good).await.0, 50_027, "used twice");
    simulator.world().tenants[0].applications[0].certificates[0].expired = true;
    let refused = shown(&simulator, &app.assertion(|_, _| ())).await;
    assert!(refused.0 == 700_027 && refused.1.contains("is expired"), "{refused:?}");
    simulator.world().tenants[0].applications[0].certificates.clear();
    assert_eq!(shown(&simulator, &app.assertion(|_, _| ())).await.0, 700_027);
}

const SUBJECT: &str = "system:serviceaccount:office:mail";
const AUDIENCE: &str = "api://AzureADTokenExchange";

#[tokio::test]
async fn a_federated_token_is_taken_where_issuer_subject_and_audience_match_letter_by_letter() {
    let simulator = started().await;
    let issuer = simulator.service_account_issuer();
    let assertion = simulator.service_account_token(SUBJECT, AUDIENCE).unwrap();
    let refused = shown(&simulator, &assertion).await;
    assert!(refused.0 == 70_021, "{refused:?}");
    for value in [issuer.as_str(), SUBJECT, AUDIENCE] {
        assert!(refused.1.contains(&format!("'{value}'")), "{refused:?}");
    }
    for (issuer, subject, audience, code) in [
        (format!("{issuer}/"), SUBJECT, AUDIENCE, 700_211),
        (issuer.clone(), "system:serviceaccount:office:post", AUDIENCE, 700_213),
        (issuer.clone(), SUBJECT, "api://other", 700_212),
        (issuer.clone(), "system:serviceaccount:Office:mail", AUDIENCE, 7_002_138),
        (issuer.clone(), SUBJECT, AUDIENCE, 0),
    ] {
        let credential = FederatedCredential { issuer, subject: subject.to_owned(), audience: audience.to_owned() };
        simulator.world().tenants[0].applications[0].federated_credentials = vec![credential];
        assert_eq!(shown(&simulator, &assertion).await.0, code, "{subject} {audience}");
    }
    let forged = format!("{}.{}", assertion.rsplit_once('.').unwrap().0, BASE64_URL_SAFE_NO_PAD.encode([1; 256]));
    assert_eq!(shown(&simulator, &forged).await.0, 50_013);
    simulator.world().entra.federation_pending = 2;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(shown(&simulator, &assertion).await.0);
    }
    assert_eq!(codes, [70_021, 70_021, 0], "a new credential takes a while to spread");
}

#[tokio::test]
async fn an_issuer_that_cannot_be_read_vouches_for_nobody() {
    let simulator = started().await;
    let elsewhere = Simulator::start(Options::default()).await.unwrap();
    let assertion = elsewhere.service_account_token(SUBJECT, AUDIENCE).unwrap();
    let credential =
        FederatedCredential { issuer: elsewhere.service_account_issuer(), subject: SUBJECT.to_owned(), audience: AUDIENCE.to_owned() };
    simulator.world().tenants[0].applications[0].federated_credentials.push(credential);
    assert_eq!(shown(&simulator, &assertion).await.0, 50_027, "its CA is not known");
    simulator.world().entra.issuer_authorities.push(elsewhere.ca_pem().to_owned());
    assert_eq!(shown(&simulator, &assertion).await.0, 0);
    drop(elsewhere);
    assert_eq!(shown(&simulator, &assertion).await.0, 50_027, "it is gone");
}

#[tokio::test]
async fn two_secrets_of_an_app_both_open_it_until_one_is_removed() {
    let simulator = started().await;
    let second = "second-secret";
    let with =
        |value: &str| form().replace(&form().split("client_secret=").nth(1).unwrap().replace("&grant_type=client_credentials", ""), value);
    let path = format!("/{TENANT_ID}/oauth2/v2.0/token");
    assert_eq!(post(&simulator, &path, &with(second)).await.0, 401);
    let added = ClientSecret { id: "x".to_owned(), value: second.to_owned(), expired: false };
    simulator.world().tenants[0].applications[0].secrets.push(added);
    assert_eq!((post(&simulator, &path, &form()).await.0, post(&simulator, &path, &with(second)).await.0), (200, 200));
    simulator.world().tenants[0].applications[0].secrets.remove(0);
    assert_eq!((post(&simulator, &path, &form()).await.0, post(&simulator, &path, &with(second)).await.0), (401, 200));
}

#[tokio::test]
async fn china_knows_exchange_at_the_v1_endpoint_and_under_its_own_name() {
    let simulator = started().await;
    simulator.world().tenants[0].cloud = Cloud::China;
    let china = form().replace("outlook.office365.com", "partner.outlook.cn");
    let v1 = china.replace("scope=", "resource=").replace("%2F.default", "");
    let code = |body: &str| serde_json::from_str::<Value>(body).unwrap()["error_codes"][0].as_u64();
    assert_eq!(code(&post(&simulator, &format!("/{TENANT_ID}/oauth2/v2.0/token"), &china).await.2), Some(500_011));
    let (status, _, body) = post(&simulator, &format!("/{TENANT_ID}/oauth2/token"), &v1).await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let token = body["access_token"].as_str().unwrap();
    assert_eq!((claims(token)["aud"].as_str(), body["expires_in"].is_string()), (Some("https://partner.outlook.cn"), true));
    assert_eq!(Client::connect(&simulator).await.log_in(token).await, "OK AUTHENTICATE completed.");
}

#[tokio::test]
async fn consent_shows_only_in_tokens_issued_after_it_was_granted() {
    let simulator = started().await;
    simulator.world().miss(Step::AdminConsent);
    let before = token(&simulator).await;
    simulator.world().tenants[0].put_right();
    assert_eq!(Client::connect(&simulator).await.log_in(&before).await, "NO AUTHENTICATE failed.");
    assert_eq!(Client::connect(&simulator).await.log_in(&token(&simulator).await).await, "OK AUTHENTICATE completed.");
}

#[tokio::test]
async fn the_tenants_discovery_document_leads_to_the_keys_that_sign_its_tokens() {
    let simulator = started().await;
    let get = async |path: &str| -> Value {
        let mut stream = connected(&simulator, simulator.entra_address()).await;
        let host = simulator.authority().replace("https://", "");
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let discovery = get("/contoso.example/v2.0/.well-known/openid-configuration").await;
    let keys = discovery["jwks_uri"].as_str().unwrap().replace(&simulator.authority(), "");
    let header = token(&simulator).await.split('.').next().unwrap().to_owned();
    let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(get(&keys).await["keys"][0]["kid"], header["kid"]);
}
