//! From the token request to the first command: what works when everything is right, and where each missed step shows.

use super::*;

#[tokio::test]
async fn everything_right_leads_from_the_token_to_a_logged_rendering() {
    let simulator = started().await;
    deliver(&simulator, 1..=3);
    let mut client = Client::ready(&simulator).await;
    let (list, _) = client.run("LIST \"\" \"*\"").await;
    assert!(list.contains(&"* LIST (\\Marked \\HasNoChildren) \"/\" INBOX".to_owned()));
    assert!(list.iter().any(|line| line.ends_with("\"&AMk-l&AOk-ments envoy&AOk-s\"")), "{list:?}");
    let (lines, answer) = client.run("EXAMINE INBOX").await;
    assert_eq!(answer, "OK [READ-ONLY] EXAMINE completed.");
    assert!(lines.contains(&"* 3 EXISTS".to_owned()));
    assert!(lines.contains(&"* OK [UIDNEXT 4] The next unique identifier value".to_owned()));
    assert_eq!(client.run("UID SEARCH UID 2:9").await.0, ["* SEARCH 2 3"]);
    let bodies = client.bodies("1:3").await;
    assert_eq!(bodies.iter().map(|(uid, body)| (*uid, serial_in(body))).collect::<Vec<_>>(), [(1, Some(1)), (2, Some(2)), (3, Some(3))]);
    for (uid, body) in &bodies {
        let rendering = simulator.rendering_of_bytes(body).unwrap();
        assert_eq!((rendering.uid, rendering.length, &*rendering.mailbox), (*uid, body.len() as u64, MAILBOX));
    }
    assert_eq!((simulator.log_ins(), simulator.connections_open(), simulator.commands()["UID FETCH"]), (1, 1, 1));
    assert!(simulator.fetched_bytes() > 11_000);
    assert_eq!(client.run("LOGOUT").await.0, ["* BYE Microsoft Exchange Server IMAP4 server signing off."]);
}

#[tokio::test]
async fn each_missed_step_shows_where_it_does_in_reality() {
    let simulator = started().await;
    for (step, status, code, error) in [
        (Step::Tenant, 400, 90_002, "invalid_request"),
        (Step::ClientId, 400, 700_016, "unauthorized_client"),
        (Step::Secret, 401, 7_000_215, "invalid_client"),
        (Step::SecretExpired, 401, 7_000_222, "invalid_client"),
        (Step::EnterpriseApp, 401, 7_000_229, "invalid_client"),
        (Step::EnterpriseAppEnabled, 400, 7_000_112, "unauthorized_client"),
        (Step::ConditionalAccess, 400, 53_003, "invalid_grant"),
        (Step::ExchangeOnline, 400, 500_011, "invalid_resource"),
    ] {
        simulator.world().miss(step);
        let (got, body) = asked(&simulator).await;
        assert_eq!((got, &body["error_codes"][0], &body["error"]), (status, &code.into(), &error.into()), "{step:?}");
        let description = body["error_description"].as_str().unwrap();
        assert!(description.starts_with(&format!("AADSTS{code}: ")) && description.contains("\r\nTrace ID: "), "{description}");
        simulator.world().tenants[0].put_right();
    }
    for step in [
        Step::Permission,
        Step::PermissionKind,
        Step::PermissionApi,
        Step::AdminConsent,
        Step::Role,
        Step::ServicePrincipal,
        Step::ObjectId,
    ] {
        simulator.world().miss(step);
        let token = token(&simulator).await;
        let roles = claims(&token)["roles"].clone();
        let expected = match step {
            Step::Role => serde_json::json!(["POP.AccessAsApp"]),
            Step::ServicePrincipal | Step::ObjectId => serde_json::json!(["IMAP.AccessAsApp"]),
            _ => Value::Null,
        };
        assert_eq!(roles, expected, "{step:?}");
        assert_eq!(Client::connect(&simulator).await.log_in(&token).await, "NO AUTHENTICATE failed.", "{step:?}");
        simulator.world().tenants[0].put_right();
    }
    for step in [Step::FullAccess, Step::ImapEnabled] {
        simulator.world().miss(step);
        let mut client = Client::ready(&simulator).await;
        assert_eq!(client.run("CAPABILITY").await.1, "OK CAPABILITY completed.");
        assert_eq!(client.run("LIST \"\" \"\"").await.1, "BAD User is authenticated but not connected.", "{step:?}");
        assert_eq!(client.line().await.as_deref(), Some("* BYE Connection closed. 14"));
        assert_eq!(client.line().await, None);
        simulator.world().tenants[0].put_right();
    }
    Client::ready(&simulator).await;
    assert_eq!(simulator.token_requests().iter().filter(|request| request.code.is_some()).count(), 8);
}

#[tokio::test]
async fn the_object_id_in_the_token_is_the_enterprise_applications() {
    let simulator = started().await;
    let claims = claims(&token(&simulator).await);
    assert_eq!(claims["oid"], simulator.world().tenants[0].enterprise_applications[0].object_id.as_str());
    assert_eq!((&claims["appid"], &claims["aud"]), (&CLIENT_ID.into(), &"https://outlook.office365.com".into()));
}

#[tokio::test]
async fn wrong_requests_get_the_errors_that_entra_gives() {
    let simulator = started().await;
    let path = format!("/{TENANT_ID}/oauth2/v2.0/token");
    let scope = "https%3A%2F%2Foutlook.office365.com%2F.default";
    for (path, form, code) in [
        ("/7e1a5c00-0000-4000-8000-00000000000/oauth2/v2.0/token", form(), 900_023),
        (&path, form().replace("grant_type", "grant"), 900_144),
        (&path, form().replace("client_secret=", "other="), 7_000_216),
        (&path, format!("client_id={CLIENT_ID}&scope={scope}&client_secret={CLIENT_SECRET_ID}&grant_type=client_credentials"), 7_000_215),
        (&path, form().replace(scope, "https%3A%2F%2Foutlook.office.com%2FIMAP.AccessAsUser.All"), 1_002_012),
        (&path, form().replace(scope, "IMAP"), 70_011),
        (&path, form().replace("outlook.office365.com", "outlook.office365.us"), 500_011),
    ] {
        let (_, _, body) = post(&simulator, path, &form).await;
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["error_codes"][0], code, "{form}");
    }
    let graph = form().replace("outlook.office365.com", "graph.microsoft.com");
    let body: Value = serde_json::from_str(&post(&simulator, &path, &graph).await.2).unwrap();
    assert_eq!(claims(body["access_token"].as_str().unwrap())["aud"], "https://graph.microsoft.com");
    let answer = Client::connect(&simulator).await.log_in(body["access_token"].as_str().unwrap()).await;
    assert_eq!(answer, "NO AUTHENTICATE failed.");
    let v1 = form().replace("scope=", "resource=").replace("%2F.default", "");
    let body: Value = serde_json::from_str(&post(&simulator, "/contoso.example/oauth2/token", &v1).await.2).unwrap();
    assert!(body["expires_in"].is_string() && body["expires_on"].is_string());
    assert_eq!(Client::connect(&simulator).await.log_in(body["access_token"].as_str().unwrap()).await, "OK AUTHENTICATE completed.");
}

#[tokio::test]
async fn entras_passing_troubles_are_played_one_a_request() {
    let simulator = started().await;
    simulator.world().entra.faults.extend([
        TokenFault::TooManyRequests { retry_after: Some(60) },
        TokenFault::ServiceUnavailable,
        TokenFault::DirectoryUnavailable,
        TokenFault::OpaqueToken,
    ]);
    let path = format!("/{TENANT_ID}/oauth2/v2.0/token");
    let (status, head, body) = post(&simulator, &path, &form()).await;
    assert_eq!((status, body.as_str()), (429, "Too Many Requests"));
    assert!(head.contains("Retry-After: 60"));
    assert_eq!(post(&simulator, &path, &form()).await.0, 503);
    assert_eq!(asked(&simulator).await.1["error_codes"][0], 90_033);
    let opaque = token(&simulator).await;
    assert!(!opaque.contains('.'));
    assert_eq!(Client::connect(&simulator).await.log_in(&opaque).await, "OK AUTHENTICATE completed.");
}

#[tokio::test]
async fn a_forged_or_expired_token_is_refused_and_a_session_ends_when_its_token_does() {
    let simulator = started().await;
    let token = token(&simulator).await;
    let forged = format!("{}.AAAA", token.rsplit_once('.').unwrap().0);
    assert_eq!(Client::connect(&simulator).await.log_in(&forged).await, "NO AUTHENTICATE failed.");
    let mut client = Client::connect(&simulator).await;
    client.log_in(&token).await;
    simulator.expire_tokens();
    assert_eq!(client.run("NOOP").await.0, ["* BYE Session invalidated - AccessTokenExpired"]);
    assert_eq!(Client::connect(&simulator).await.log_in(&token).await, "NO AUTHENTICATE failed.");
}

#[tokio::test]
async fn log_in_works_in_two_steps_too() {
    let simulator = started().await;
    let token = token(&simulator).await;
    let mut client = Client::connect(&simulator).await;
    client.send("A1 AUTHENTICATE XOAUTH2").await;
    assert_eq!(client.line().await.as_deref(), Some("+"));
    client.send(&BASE64_STANDARD.encode(format!("user={MAILBOX}\u{1}auth=Bearer {token}\u{1}\u{1}"))).await;
    assert_eq!(client.line().await.as_deref(), Some("A1 OK AUTHENTICATE completed."));
}

#[tokio::test]
async fn connections_over_the_cap_are_not_connected() {
    let simulator = started().await;
    simulator.world().exchange.connections_per_mailbox = 1;
    let first = Client::ready(&simulator).await;
    let mut second = Client::ready(&simulator).await;
    assert_eq!(second.run("LIST \"\" \"\"").await.1, "BAD User is authenticated but not connected.");
    drop(first);
}
