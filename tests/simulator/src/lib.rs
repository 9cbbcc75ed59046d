//! A stand-in for what Microsoft runs: Entra's token endpoint and Exchange Online's IMAP, over TLS with a CA of its own, in which any
//! set-up step of an administrator can be missed and any fault of the wire be played. It speaks real sockets and knows nothing of the
//! collector. It is as strict as the real services are known to be, and no more.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use simulator::{Message, Options, Simulator, Step, World};
//! let simulator = Simulator::start(Options { world: World::ready(&["factures@contoso.example"]), ..Options::default() }).await?;
//! simulator.world().deliver("factures@contoso.example", "INBOX", Message::office(1))?;
//! simulator.world().miss(Step::AdminConsent);
//! # Ok(()) }
//! ```

mod authority;
mod civil;
mod entra;
mod error;
mod fault;
mod imap;
mod mailbox;
mod message;
mod record;
mod shared;
mod tenant;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

pub use entra::TokenFault;
pub use entra::credential::{AppCertificate, FederatedCredential};
pub use error::StartError;
pub use fault::{Action, Faults, FetchFault, IdleFault, Trigger};
pub use mailbox::{Folder, Mailbox};
pub use message::{Message, serial_in};
pub use record::{Announcement, Proof, Rendering, TokenRequest};
pub use tenant::{
    AppRegistration, CLIENT_ID, CLIENT_SECRET, CLIENT_SECRET_ID, ClientSecret, Cloud, EXCHANGE_RESOURCE, EnterpriseApplication, Entra,
    Exchange, ExchangeServicePrincipal, FrontEnd, GRAPH_RESOURCE, Permission, PermissionKind, Step, TENANT_ID, Tenant, UnknownMailbox,
    World,
};

use record::locked;
use shared::Shared;

/// How to start.
pub struct Options {
    /// What is there at first.
    pub world: World,
    /// Where to listen. Port 0 of 127.0.0.1 by default; another address than loopback needs its name in `names`.
    pub address: Ipv4Addr,
    /// Entra's port; 0 takes a free one.
    pub entra_port: u16,
    /// IMAP's port; 0 takes a free one.
    pub imap_port: u16,
    /// More names for the server certificate, besides `localhost` and `127.0.0.1`.
    pub names: Vec<String>,
    /// Threads of its own.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { world: World::ready::<&str>(&[]), address: Ipv4Addr::LOCALHOST, entra_port: 0, imap_port: 0, names: Vec::new(), threads: 2 }
    }
}

/// A running stand-in. It has threads of its own, so that it lives beside any test runtime, also one with paused time; it stops when dropped.
pub struct Simulator {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    entra: SocketAddr,
    imap: SocketAddr,
    ca_pem: String,
}

impl Simulator {
    /// Starts listening; everything answers when this returns.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Self::start_blocking(options)
    }

    /// [`Simulator::start`] for a caller without a runtime.
    pub fn start_blocking(options: Options) -> Result<Self, StartError> {
        let authority = authority::create(&options.names)?;
        let shared = Arc::new(Shared {
            world: std::sync::Mutex::new(options.world),
            record: record::Record::default(),
            issuer: entra::token::Issuer::new()?,
            ca_pem: authority.ca_pem.clone(),
        });
        let runtime = Builder::new_multi_thread().worker_threads(options.threads.max(1)).thread_name("simulator").enable_all().build()?;
        let entra = bind(&runtime, options.address, options.entra_port)?;
        let imap = bind(&runtime, options.address, options.imap_port)?;
        let (entra_address, imap_address) = (entra.local_addr()?, imap.local_addr()?);
        runtime.spawn(accept(entra, Arc::clone(&shared), authority.tls.clone(), |shared, tcp, tls| {
            tokio::spawn(entra::http::serve(shared, tcp, tls));
        }));
        runtime.spawn(accept(imap, Arc::clone(&shared), authority.tls, |shared, tcp, tls| {
            tokio::spawn(imap::serve(shared, tcp, tls));
        }));
        Ok(Self { shared, runtime: Some(runtime), entra: entra_address, imap: imap_address, ca_pem: authority.ca_pem })
    }

    /// What stands in place of `https://login.microsoftonline.com`.
    pub fn authority(&self) -> String {
        format!("https://localhost:{}", self.entra.port())
    }

    /// What stands in place of `outlook.office365.com:993`.
    pub fn imap_endpoint(&self) -> String {
        format!("localhost:{}", self.imap.port())
    }

    /// Entra's socket.
    pub fn entra_address(&self) -> SocketAddr {
        self.entra
    }

    /// IMAP's socket.
    pub fn imap_address(&self) -> SocketAddr {
        self.imap
    }

    /// The CA that signed the server's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Everything that can be looked at and changed. The stand-in answers nothing while it is held: do not keep it over an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        locked(&self.shared.world)
    }

    /// Calls back, on a thread of the stand-in, as soon as `bytes` more bytes of FETCH answers have been written, before the next one is.
    pub fn on_bytes(&self, bytes: u64, callback: impl FnOnce() + Send + 'static) {
        self.shared.record.on_bytes(bytes.max(1), Box::new(callback));
    }

    /// The issuer of [`Simulator::service_account_token`], as a federated credential must name it.
    pub fn service_account_issuer(&self) -> String {
        format!("{}/{TENANT_ID}/v2.0", self.authority())
    }

    /// A token as a Kubernetes cluster makes it for a service account, good for ten minutes; `None` only if signing fails.
    pub fn service_account_token(&self, subject: &str, audience: &str) -> Option<String> {
        let now = record::unix_nanoseconds() / 1_000_000_000;
        self.shared.issuer.service_account_token(&self.service_account_issuer(), subject, audience, now)
    }

    /// Every token issued so far is expired from now on.
    pub fn expire_tokens(&self) {
        let next = self.shared.issuer.next_number();
        self.world().entra.tokens_valid_from = next;
    }

    /// Every token request and how it was answered, in order.
    pub fn token_requests(&self) -> Vec<TokenRequest> {
        self.shared.record.token_requests()
    }

    /// Successful AUTHENTICATE commands.
    pub fn log_ins(&self) -> u64 {
        self.shared.record.log_ins.load(Ordering::Relaxed)
    }

    /// IMAP connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.record.connections.load(Ordering::Relaxed)
    }

    /// IMAP connections open now.
    pub fn connections_open(&self) -> usize {
        self.shared.record.connections_open.load(Ordering::Relaxed)
    }

    /// IMAP commands received, by name in upper case (`UID FETCH`); `DONE` counts too.
    pub fn commands(&self) -> HashMap<String, u64> {
        self.shared.record.commands()
    }

    /// Bytes of FETCH answers written, before TLS.
    pub fn fetched_bytes(&self) -> u64 {
        self.shared.record.fetched_bytes.load(Ordering::Relaxed)
    }

    /// Every rendering of a whole message, in order.
    pub fn renderings(&self) -> Vec<Rendering> {
        self.shared.record.renderings()
    }

    /// The rendering whose bytes have this SHA-256 (the last one, where several have).
    pub fn rendering_of(&self, sha256: &[u8; 32]) -> Option<Rendering> {
        self.shared.record.rendering_of(sha256)
    }

    /// The rendering that these bytes are, exactly.
    pub fn rendering_of_bytes(&self, bytes: &[u8]) -> Option<Rendering> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        self.rendering_of(digest.as_ref().try_into().ok()?)
    }

    /// Empties the log of renderings (long benchmarks).
    pub fn forget_renderings(&self) {
        self.shared.record.forget_renderings();
    }

    /// Every EXISTS pushed into an IDLE, in order.
    pub fn announcements(&self) -> Vec<Announcement> {
        self.shared.record.announcements()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind(runtime: &Runtime, address: Ipv4Addr, port: u16) -> Result<TcpListener, StartError> {
    let listener = std::net::TcpListener::bind((address, port))?;
    listener.set_nonblocking(true)?;
    let _inside = runtime.enter();
    Ok(TcpListener::from_std(listener)?)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: TlsAcceptor, serve: fn(Arc<Shared>, TcpStream, TlsAcceptor)) {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => serve(Arc::clone(&shared), tcp, tls.clone()),
            // Out of file descriptors, mostly: wait for some to come back.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}
