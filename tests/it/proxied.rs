//! `collect` where nothing but an HTTP proxy leads out: token requests and mail go through it by CONNECT, but for what NO_PROXY names.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::scene::{Scene, run};

/// A small HTTP proxy that knows CONNECT alone and wants `user:pa@ss`.
struct Proxy {
    port: u16,
    /// What each request asked for, and whether it was let through.
    seen: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || drop(serve(client.unwrap(), &log)));
            }
        });
        Self { port, seen }
    }

    fn url(&self, user: &str) -> String {
        format!("http://{user}127.0.0.1:{}", self.port)
    }

    /// Host and port of those let through, each once, sorted.
    fn opened(&self) -> Vec<String> {
        let mut opened: Vec<_> =
            self.seen.lock().unwrap().iter().filter(|(_, let_through)| *let_through).map(|(to, _)| to.clone()).collect();
        opened.sort();
        opened.dedup();
        opened
    }
}

fn serve(mut client: TcpStream, log: &Mutex<Vec<(String, bool)>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned();
    let authorized = head.lines().any(|line| line.eq_ignore_ascii_case("proxy-authorization: Basic dXNlcjpwYUBzcw=="));
    log.lock().unwrap().push((target.clone(), authorized));
    if !authorized {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    }
    let mut server = TcpStream::connect(&target)?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut back, mut to_client) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _bytes = std::io::copy(&mut back, &mut to_client);
        let _closed = to_client.shutdown(Shutdown::Both);
    });
    std::io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Both)
}

#[test]
fn token_requests_and_mail_go_through_the_proxy_but_for_what_no_proxy_names() {
    let (scene, proxy) = (Scene::new(&["factures"]), Proxy::start());
    scene.deliver("factures", 1..=3);
    let url = proxy.url("user:pa%40ss@");
    let (entra, imap) = (scene.simulator.authority().replace("https://", ""), scene.simulator.imap_endpoint());
    let mut both = vec![entra.clone(), imap.clone()];
    both.sort();

    run(scene.command().args(["--once", "--https-proxy", &url]).env_remove("NO_PROXY").env_remove("no_proxy")).must_be_ok();
    assert_eq!(scene.serials("factures"), [1, 2, 3]);
    assert_eq!(proxy.opened(), both, "both by CONNECT");

    let before = proxy.seen.lock().unwrap().len();
    run(scene.command().arg("--once").env("HTTPS_PROXY", &url).env("NO_PROXY", "elsewhere.example, localhost")).must_be_ok();
    assert_eq!(proxy.seen.lock().unwrap().len(), before, "NO_PROXY names both");
    run(scene.command().arg("--once").env("HTTPS_PROXY", &url).env("NO_PROXY", "elsewhere.example")).must_be_ok();
    assert!(proxy.seen.lock().unwrap().len() >= before + 2, "the variable serves as well as the flag");
}

#[test]
fn a_proxy_that_refuses_or_cannot_be_used_is_told_without_its_password() {
    let (scene, proxy) = (Scene::new(&["factures"]), Proxy::start());
    let said = run(scene.command().args(["--once", "--https-proxy", &proxy.url("user:c4n4ry@"), "--log", "trace"]).env_remove("NO_PROXY"));
    assert_eq!((said.status.code(), said.reason("factures")), (Some(1), "EntraUnavailable"), "{}", said.stdout);
    assert!(!said.stdout.contains("c4n4ry") && !said.stderr.contains("c4n4ry"), "{}", said.stderr);
    assert!(proxy.opened().is_empty() && scene.simulator.token_requests().is_empty());

    let said = run(scene.command().args(["--once", "--https-proxy", "socks5://user:c4n4ry@proxy:1080"]));
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stderr.contains("--https-proxy") && said.stderr.contains("http://HOST:PORT"), "{}", said.stderr);
    assert!(!said.stderr.contains("c4n4ry"), "{}", said.stderr);
}
