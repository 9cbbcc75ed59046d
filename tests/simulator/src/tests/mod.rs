//! The stand-in seen by a client that knows nothing but lines: over real sockets and TLS, from the token request on.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::*;

mod credentials;
mod faults;
mod mail;
mod set_up;

const MAILBOX: &str = "factures@contoso.example";

async fn started() -> Simulator {
    Simulator::start(Options { world: World::ready(&[MAILBOX]), ..Options::default() }).await.unwrap()
}

async fn connected(simulator: &Simulator, address: SocketAddr) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(simulator.ca_pem().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
}

/// Status, head and body of a POST to the token endpoint.
async fn post(simulator: &Simulator, path: &str, form: &str) -> (u16, String, String) {
    let mut stream = connected(simulator, simulator.entra_address()).await;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}

fn form() -> String {
    let secret = CLIENT_SECRET.replace('+', "%2B").replace('/', "%2F").replace('~', "%7E");
    format!(
        "client_id={CLIENT_ID}&scope=https%3A%2F%2Foutlook.office365.com%2F.default&client_secret={secret}&grant_type=client_credentials"
    )
}

async fn asked(simulator: &Simulator) -> (u16, Value) {
    let (status, _, body) = post(simulator, &format!("/{TENANT_ID}/oauth2/v2.0/token"), &form()).await;
    (status, serde_json::from_str(&body).unwrap())
}

async fn token(simulator: &Simulator) -> String {
    asked(simulator).await.1["access_token"].as_str().unwrap().to_owned()
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

struct Client {
    stream: TlsStream<TcpStream>,
    pending: Vec<u8>,
    tags: u32,
}

impl Client {
    async fn connect(simulator: &Simulator) -> Self {
        let stream = connected(simulator, simulator.imap_address()).await;
        let mut client = Self { stream, pending: Vec::new(), tags: 0 };
        assert!(client.line().await.unwrap().starts_with("* OK The Microsoft Exchange IMAP4 service is ready. ["));
        client
    }

    async fn ready(simulator: &Simulator) -> Self {
        let mut client = Self::connect(simulator).await;
        assert_eq!(client.log_in(&token(simulator).await).await, "OK AUTHENTICATE completed.");
        client
    }

    /// The tagged answer without its tag.
    async fn log_in(&mut self, token: &str) -> String {
        let initial = BASE64_STANDARD.encode(format!("user={MAILBOX}\u{1}auth=Bearer {token}\u{1}\u{1}"));
        self.run(&format!("AUTHENTICATE XOAUTH2 {initial}")).await.1
    }

    async fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// `None` at the end of the connection.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let read =
                tokio::time::timeout(Duration::from_secs(20), self.stream.read_buf(&mut self.pending)).await.expect("an answer in time");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.pending.len() < length {
            assert_ne!(self.stream.read_buf(&mut self.pending).await.unwrap(), 0);
        }
        self.pending.drain(..length).collect()
    }

    /// Untagged lines and the tagged answer; an ended connection answers with nothing.
    async fn run(&mut self, command: &str) -> (Vec<String>, String) {
        self.tags += 1;
        let tag = format!("A{:03} ", self.tags);
        self.send(&format!("{tag}{command}")).await;
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            match line.strip_prefix(&tag) {
                Some(answer) => return (lines, answer.to_owned()),
                None => lines.push(line),
            }
        }
        (lines, String::new())
    }

    /// The bodies of a `UID FETCH set (UID BODY.PEEK[])` as (UID, bytes).
    async fn bodies(&mut self, set: &str) -> Vec<(u32, Vec<u8>)> {
        self.tags += 1;
        let tag = format!("A{:03} ", self.tags);
        self.send(&format!("{tag}UID FETCH {set} (UID BODY.PEEK[])")).await;
        let mut bodies = Vec::new();
        loop {
            let line = self.line().await.unwrap();
            if let Some(answer) = line.strip_prefix(&tag) {
                assert_eq!(answer, "OK FETCH completed.");
                return bodies;
            }
            if let Some((before, length)) = line.strip_suffix('}').and_then(|line| line.rsplit_once('{')) {
                let uid = before.split("UID ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
                bodies.push((uid, self.bytes(length.parse().unwrap()).await));
                assert_eq!(self.line().await.unwrap(), ")");
            }
        }
    }
}

fn deliver(simulator: &Simulator, serials: std::ops::RangeInclusive<u64>) {
    for serial in serials {
        simulator.world().deliver(MAILBOX, "INBOX", Message::sized(serial, 4_000)).unwrap();
    }
}

fn arm(simulator: &Simulator, name: &'static str, action: Action) {
    simulator.world().mailbox(MAILBOX).unwrap().faults.once(Trigger::Command { name, nth: 1 }, action);
}
