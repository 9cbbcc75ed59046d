//! From a host's name to a logged-in IMAP session.

use std::sync::Arc;

use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::session::Session;
use crate::proxy::Proxy;
use crate::source::Error;
use crate::source::dial::dial;

/// How to reach an IMAP server (implicit TLS, as on port 993).
#[derive(Clone, Debug)]
pub struct Connector {
    /// Host name or address; also what the certificate must name.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The trust set, shared by all sessions.
    pub tls: Arc<rustls::ClientConfig>,
    /// The HTTP proxy to go through, where there is one.
    pub proxy: Option<Arc<Proxy>>,
}

impl Connector {
    /// Connects and logs in to `mailbox` by XOAUTH2. A body longer than `max_message_bytes` is passed over and told as
    /// [`crate::source::Absent::TooLarge`]. Six round trips.
    pub async fn open(&self, mailbox: &str, token: &SecretString, max_message_bytes: u64) -> Result<Session<TlsStream<TcpStream>>, Error> {
        // Boxed: the set-up's state is large, and the caller's task lives on for months without it.
        Box::pin(async {
            let stream = dial(&self.host, self.port, &self.tls, self.proxy.as_deref()).await?;
            Session::start(stream, mailbox, token, max_message_bytes).await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::source::Step;

    async fn opened(port: u16) -> Error {
        let connector = Connector { host: "127.0.0.1".into(), port, tls: crate::tls::client_config(None).unwrap(), proxy: None };
        connector.open("a@contoso.fr", &SecretString::from("token"), 1_000).await.unwrap_err()
    }

    /// A server that hears the client's hello, says `words`, and closes.
    async fn answered(words: &'static [u8]) -> Error {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = vec![0; 4096];
            assert!(stream.read(&mut hello).await.unwrap() > 0);
            stream.write_all(words).await.unwrap();
        });
        let error = opened(port).await;
        server.await.unwrap();
        error
    }

    #[tokio::test]
    async fn a_closed_port_is_a_connection_error_at_connect() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert!(matches!(opened(port).await, Error::Connection { step: Step::Connect, .. }));
    }

    #[tokio::test]
    async fn a_server_without_tls_fails_at_tls() {
        assert!(matches!(answered(b"* OK IMAP4 ready\r\n").await, Error::Connection { step: Step::Tls, .. }));
        assert_eq!(answered(b"").await, Error::Closed(Step::Tls));
    }
}
