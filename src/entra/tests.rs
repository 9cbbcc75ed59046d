//! Token requests against a small HTTP server on loopback: what goes out, and what each answer becomes.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const SECRET: &str = "Ab8Q~canary+/=secret";

fn credential() -> Credential {
    Credential {
        name: "azure-app".into(),
        tenant_id: "contoso.onmicrosoft.com".into(),
        client_id: "11111111-2222-3333-4444-555555555555".into(),
        proof: Proof::Secret(SECRET.into()),
        cloud: Cloud::Public,
        secret_expiration: None,
    }
}

fn tokens(authority: &str) -> Tokens {
    crate::tls::install_provider();
    Tokens::new(http_client(&crate::tls::client_config(None).unwrap(), None).unwrap(), Some(authority.to_owned()))
}

/// Answers every request with the next of its answers (the last one again and again), and remembers the requests.
struct Server {
    authority: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            let mut answer = answers.next().unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                seen.lock().unwrap().push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
                answer = answers.next().unwrap_or(answer);
            }
        });
        Self { authority, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)).unwrap();
        if body.len() >= length.parse().unwrap() {
            return request;
        }
    }
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
}

fn refusal(code: u32, text: &str) -> String {
    let body = serde_json::json!({
        "error": "invalid_client", "error_description": text, "error_codes": [code], "timestamp": "2026-01-02 10:11:12Z",
        "trace_id": "0f01", "correlation_id": "3b02",
    });
    http("401 Unauthorized", "Content-Type: application/json; charset=utf-8\r\n", &body.to_string())
}

async fn answered(answer: String) -> Result<Arc<Token>, Error> {
    let server = Server::start(vec![answer]).await;
    tokens(&server.authority).token(&credential(), None).await
}

#[tokio::test]
async fn the_request_is_the_documented_form_and_the_token_is_kept() {
    let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"aaa.e30.bbb"}"#;
    let server = Server::start(vec![http("200 OK", "", body)]).await;
    // A trailing slash in a flag must not make an empty segment.
    let tokens = tokens(&format!("{}/", server.authority));
    let before = Timestamp::now();
    let token = tokens.token(&credential(), None).await.unwrap();
    assert_eq!(token.secret.expose_secret(), "aaa.e30.bbb");
    let left = token.expiration.duration_since(before).as_secs();
    assert!((3599..3640).contains(&left), "{left}");
    assert!(token.claims.readable);
    assert!(Arc::ptr_eq(&token, &tokens.token(&credential(), None).await.unwrap()));

    let requests = server.requests();
    let [request] = requests.as_slice() else { panic!("one request: {requests:?}") };
    let (head, form) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /contoso.onmicrosoft.com/oauth2/v2.0/token HTTP/1.1\r\n"), "{head}");
    let header = |name: &str| head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned));
    assert_eq!(header("content-type: ").as_deref(), Some("application/x-www-form-urlencoded"));
    let id = header("client-request-id: ").unwrap();
    let parts: Vec<&str> = id.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
    assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
    assert_eq!(
        form,
        "client_id=11111111-2222-3333-4444-555555555555&scope=https%3A%2F%2Foutlook.office365.com%2F.default\
         &client_secret=Ab8Q%7Ecanary%2B%2F%3Dsecret&grant_type=client_credentials"
    );
}

#[tokio::test]
async fn another_secret_is_asked_for_at_once() {
    let body = r#"{"expires_in":"3599","access_token":"new"}"#;
    let server = Server::start(vec![refusal(7_000_222, "AADSTS7000222: expired"), http("200 OK", "", body)]).await;
    let tokens = tokens(&server.authority);
    assert!(tokens.token(&credential(), None).await.is_err());
    assert!(tokens.token(&credential(), None).await.is_err(), "the refusal is believed for a while");
    assert_eq!(server.requests().len(), 1);
    let rotated = Credential { proof: Proof::Secret("another".into()), ..credential() };
    assert_eq!(tokens.token(&rotated, None).await.unwrap().secret.expose_secret(), "new");
}

#[tokio::test]
async fn a_refusal_becomes_its_facts() {
    // Shapes: Microsoft's error code page; the one-line form and the missing error_codes are tolerated.
    let facts = |code, text: &str| Error::Refused {
        status: 401,
        error: "invalid_client".into(),
        code,
        text: text.into(),
        trace_id: Some("0f01".into()),
        correlation_id: Some("3b02".into()),
        shown: None,
    };
    let crlf = "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 0f01\r\nCorrelation ID: 3b02";
    let one_line = "AADSTS7000215: Invalid client secret provided. Trace ID: 0f01 Correlation ID: 3b02";
    for description in [crlf, one_line] {
        let expected = facts(Some(7_000_215), "AADSTS7000215: Invalid client secret provided.");
        assert_eq!(answered(refusal(7_000_215, description)).await.unwrap_err(), expected);
        let without_codes = refusal(7_000_215, description).replace(r#""error_codes":[7000215]"#, r#""error_codes":null     "#);
        assert_eq!(answered(without_codes).await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn a_refusal_shows_neither_the_secret_nor_more_than_is_good() {
    let text = format!("AADSTS7000215: '{SECRET}' \u{7}is wrong. {}", "é".repeat(1_000));
    let error = answered(refusal(7_000_215, &text)).await.unwrap_err();
    let Error::Refused { text, .. } = &error else { panic!("{error:?}") };
    assert!(text.starts_with("AADSTS7000215: '***' is wrong. éé") && text.len() <= 300, "{text}");
    assert!(!format!("{error} {error:?} {:?}", credential()).contains("canary"));
}

#[tokio::test]
async fn what_passes_by_itself_is_busy() {
    let plain = http("429 Too Many Requests", "Retry-After: 60\r\n", "Too Many Requests");
    let html = http("503 Service Unavailable", "Content-Type: text/html\r\n", "<html>down</html>");
    let far = http("429 Too Many Requests", "Retry-After: 100000\r\n", "");
    let date = http("503 Service Unavailable", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", "");
    let odd = http("500 Internal Server Error", "Retry-After: soon\r\n", "");
    let named = http("400 Bad Request", "", r#"{"error":"temporarily_unavailable"}"#);
    let store = refusal(90033, "AADSTS90033: A transient error has occurred. Please try again.");
    for (answer, status, code, retry_after) in [
        (plain, 429, None, Some(60)),
        (html, 503, None, None),
        (far, 429, None, Some(3_600)),
        (date, 503, None, Some(0)),
        (odd, 500, None, None),
        (named, 400, None, None),
        (store, 401, Some(90033), None),
    ] {
        let retry_after = retry_after.map(Duration::from_secs);
        assert_eq!(answered(answer.clone()).await.unwrap_err(), Error::Busy { status, code, retry_after }, "{answer}");
    }
}

#[tokio::test]
async fn an_answer_without_a_token_is_malformed() {
    let long = format!(r#"{{"expires_in":1,"access_token":"{}"}}"#, "a".repeat(100_000));
    for body in [
        "",
        "<html>captive portal</html>",
        "{}",
        r#"{"access_token":"a"}"#,
        r#"{"access_token":"","expires_in":3599}"#,
        r#"{"access_token":"a\u0001b","expires_in":3599}"#,
        r#"{"access_token":"a","expires_in":0}"#,
        r#"{"access_token":"a","expires_in":"soon"}"#,
        r#"{"access_token":"a","expires_in":-1}"#,
        &long,
    ] {
        let error = answered(http("200 OK", "", body)).await.unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error:?} for {:.60}", body);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let body = r#"{"expires_in":3599,"access_token":"stolen"}"#;
    let elsewhere = Server::start(vec![http("200 OK", "", body)]).await;
    let location = format!("Location: {}/steal\r\n", elsewhere.authority);
    for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let error = answered(http(status, &location, "")).await.unwrap_err();
        assert!(matches!(error, Error::Refused { code: None, .. }), "{error:?}");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn an_authority_that_cannot_be_reached_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = tokens(&format!("http://{address}")).token(&credential(), None).await.unwrap_err();
    let Error::Unreachable { authority, text } = error else { panic!("{error:?}") };
    assert_eq!(authority, address.to_string());
    assert!(text.to_lowercase().contains("refused"), "{text}");

    let cut_off = answered("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"access".into()).await;
    assert!(matches!(cut_off, Err(Error::Unreachable { .. })), "{cut_off:?}");
    let no_url = tokens("login.microsoftonline.com").token(&credential(), None).await;
    assert!(matches!(no_url, Err(Error::Unreachable { .. })), "{no_url:?}");
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let began = tokio::time::Instant::now();
    let error = tokens(&format!("http://{}", listener.local_addr().unwrap())).token(&credential(), None).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(began.elapsed() <= Duration::from_secs(31), "{:?}", began.elapsed());
}

#[test]
fn each_cloud_has_its_hosts() {
    for (cloud, authority, scope) in [
        (Cloud::Public, "https://login.microsoftonline.com", "https://outlook.office365.com/.default"),
        (Cloud::UsGovernment, "https://login.microsoftonline.us", "https://outlook.office365.us/.default"),
        (Cloud::UsGovernmentDod, "https://login.microsoftonline.us", "https://outlook.office365.us/.default"),
        (Cloud::China, "https://login.partner.microsoftonline.cn", "https://partner.outlook.cn/.default"),
    ] {
        assert_eq!((cloud.authority(), cloud.scope().as_str()), (authority, scope));
    }
}
