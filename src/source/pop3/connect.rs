//! From a host's name to a logged-in POP3 session.

use std::sync::Arc;

use secrecy::SecretString;

use super::{Exchange, Session};
use crate::proxy::Proxy;
use crate::source::Error;
use crate::source::dial::dial;

/// How to reach a POP3 server (implicit TLS, as on port 995).
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
    /// Connects and logs in to `mailbox` by XOAUTH2. A message longer than `max_message_bytes` is passed over and told as
    /// [`crate::source::Absent::TooLarge`].
    pub async fn open(&self, mailbox: &str, token: &SecretString, max_message_bytes: u64) -> Result<Exchange, Error> {
        // Boxed: the set-up's state is large, and the caller's task lives on for months without it.
        Box::pin(async {
            let stream = dial(&self.host, self.port, &self.tls, self.proxy.as_deref()).await?;
            Session::start(stream, mailbox, token, max_message_bytes).await
        })
        .await
    }
}
