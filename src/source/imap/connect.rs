//! TCP and TLS to an IMAP server. Plain text and STARTTLS do not exist here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use secrecy::SecretString;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::session::Session;
use super::text;
use crate::proxy::Proxy;
use crate::source::{Error, Step};

/// For the name and all its addresses together.
const CONNECT: Duration = Duration::from_secs(15);
/// For one address, so that one that swallows packets does not hide the next.
const ONE_ADDRESS: Duration = Duration::from_secs(5);
/// For the TLS handshake.
const TLS: Duration = Duration::from_secs(15);

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
            let stream = self.reach().await?;
            let stream = self.secure(stream).await?;
            Session::start(stream, mailbox, token, max_message_bytes).await
        })
        .await
    }

    /// The host itself, or a tunnel to it.
    async fn reach(&self) -> Result<TcpStream, Error> {
        let Some((proxy, (host, port))) = self.proxy.as_ref().and_then(|proxy| Some((proxy, proxy.serves(&self.host)?))) else {
            return connect(&self.host, self.port).await;
        };
        let mut stream = connect(host, port).await?;
        let tunnel = proxy.tunnel(&mut stream, &self.host, self.port);
        let opened = timeout(CONNECT, tunnel).await.map_err(|_| Error::Timeout(Step::Connect))?;
        opened.map_err(|error| Error::Connection { step: Step::Connect, text: text::clean(&error.to_string()) })?;
        Ok(stream)
    }

    async fn secure(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        const STEP: Step = Step::Tls;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| Error::Connection { step: STEP, text: "the host's name is not one a certificate can hold".to_owned() })?;
        match timeout(TLS, TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream)).await {
            Err(_) => Err(Error::Timeout(STEP)),
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Error::Closed(STEP)),
            Ok(Err(error)) => Err(Error::Connection { step: STEP, text: text::clean(&error.to_string()) }),
        }
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Error> {
    const STEP: Step = Step::Connect;
    let failed = |error: std::io::Error| Error::Connection { step: STEP, text: text::clean(&error.to_string()) };
    let deadline = Instant::now() + CONNECT;
    let addresses: Vec<SocketAddr> =
        timeout_at(deadline, tokio::net::lookup_host((host, port))).await.map_err(|_| Error::Timeout(STEP))?.map_err(failed)?.collect();
    let mut last = Error::Connection { step: STEP, text: "the name has no address".to_owned() };
    for address in addresses {
        let one = deadline.min(Instant::now() + ONE_ADDRESS);
        match timeout_at(one, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(failed)?;
                // Half-open connections must show within minutes, and address translators must not forget an idle one.
                let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));
                SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(failed)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = failed(error),
            Err(_) => last = Error::Timeout(STEP),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

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
