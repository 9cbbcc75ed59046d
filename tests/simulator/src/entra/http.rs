//! As much of HTTP/1.1 over TLS as a token endpoint needs: one request after the other on a kept connection, bodies with a length.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{TokenFault, answer};
use crate::shared::Shared;

const LONGEST_HEAD: usize = 32 * 1024;
const LONGEST_BODY: usize = 256 * 1024;

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) host: String,
    pub(crate) body: Vec<u8>,
    close: bool,
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: String,
    body: String,
}

impl Reply {
    pub(crate) fn text(status: u16, content_type: &str, body: &str) -> Self {
        Self { status, headers: format!("Content-Type: {content_type}\r\n"), body: body.to_owned() }
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            404 => "Not Found",
            429 => "Too Many Requests",
            503 => "Service Unavailable",
            _ => "Answer",
        };
        format!(
            "HTTP/1.1 {} {reason}\r\nCache-Control: no-store, no-cache\r\n{}Content-Length: {}\r\n\r\n{}",
            self.status,
            self.headers,
            self.body.len(),
            self.body
        )
        .into_bytes()
    }
}

/// Serves one connection to its end. What goes wrong with it is the client's affair.
pub(crate) async fn serve(shared: Arc<Shared>, tcp: TcpStream, tls: TlsAcceptor) {
    let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(30), tls.accept(tcp)).await else { return };
    let _ = converse(&shared, &mut stream).await;
    let _ = stream.shutdown().await;
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(shared: &Shared, stream: &mut S) -> std::io::Result<()> {
    let mut pending = Vec::new();
    while let Some(request) = read_request(stream, &mut pending).await? {
        let (reply, fault) = answer(shared, &request).await;
        let bytes = reply.bytes();
        match fault {
            Some(TokenFault::Hang) => {
                let mut ignored = [0; 512];
                while stream.read(&mut ignored).await? > 0 {}
                return Ok(());
            }
            Some(TokenFault::Close) => return Ok(()),
            Some(TokenFault::TruncatedBody) => {
                let cut = bytes.len() - reply.body.len() / 2;
                stream.write_all(bytes.get(..cut).unwrap_or_default()).await?;
                return stream.flush().await;
            }
            Some(TokenFault::Delay(time)) => tokio::time::sleep(time).await,
            _ => {}
        }
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        if request.close {
            break;
        }
    }
    Ok(())
}

/// `None` at the end of the connection, or for something that is no request we understand.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, pending: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
    let head_end = loop {
        if let Some(end) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if pending.len() > LONGEST_HEAD || stream.read_buf(pending).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(pending.get(..head_end).unwrap_or_default()).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut length, mut close, mut authorization, mut host) = (0, words.next() == Some("HTTP/1.0"), String::new(), String::new());
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(LONGEST_BODY + 1),
            "connection" => close = value.trim().eq_ignore_ascii_case("close"),
            "host" => value.trim().clone_into(&mut host),
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    if length > LONGEST_BODY {
        return Ok(None);
    }
    let end = head_end + 4 + length;
    while pending.len() < end {
        if stream.read_buf(pending).await? == 0 {
            return Ok(None);
        }
    }
    let body = pending.get(head_end + 4..end).unwrap_or_default().to_vec();
    pending.drain(..end);
    Ok(Some(Request { method, path, authorization, host, body, close }))
}
