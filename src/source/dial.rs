//! TCP and TLS to a mail server. Plain text and STARTTLS do not exist here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::text;
use super::{Error, Step};
use crate::proxy::Proxy;

/// For the name and all its addresses together.
const CONNECT: Duration = Duration::from_secs(15);
/// For one address, so that one that swallows packets does not hide the next.
const ONE_ADDRESS: Duration = Duration::from_secs(5);
/// For the TLS handshake.
const TLS: Duration = Duration::from_secs(15);

/// Connects to `host`, which is also what the certificate must name, through the proxy that serves it.
pub(super) async fn dial(
    host: &str,
    port: u16,
    tls: &Arc<rustls::ClientConfig>,
    proxy: Option<&Proxy>,
) -> Result<TlsStream<TcpStream>, Error> {
    secure(reach(host, port, proxy).await?, host, tls).await
}

/// The host itself, or a tunnel to it.
async fn reach(host: &str, port: u16, proxy: Option<&Proxy>) -> Result<TcpStream, Error> {
    let Some((proxy, (proxy_host, proxy_port))) = proxy.and_then(|proxy| Some((proxy, proxy.serves(host)?))) else {
        return connect(host, port).await;
    };
    let mut stream = connect(proxy_host, proxy_port).await?;
    let tunnel = proxy.tunnel(&mut stream, host, port);
    let opened = timeout(CONNECT, tunnel).await.map_err(|_| Error::Timeout(Step::Connect))?;
    opened.map_err(|error| Error::Connection { step: Step::Connect, text: text::clean(&error.to_string()) })?;
    Ok(stream)
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

async fn secure(stream: TcpStream, host: &str, tls: &Arc<rustls::ClientConfig>) -> Result<TlsStream<TcpStream>, Error> {
    const STEP: Step = Step::Tls;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::Connection { step: STEP, text: "the host's name is not one a certificate can hold".to_owned() })?;
    match timeout(TLS, TlsConnector::from(Arc::clone(tls)).connect(name, stream)).await {
        Err(_) => Err(Error::Timeout(STEP)),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Error::Closed(STEP)),
        Ok(Err(error)) => Err(Error::Connection { step: STEP, text: text::clean(&error.to_string()) }),
    }
}
