//! Tokens of Kubernetes service accounts, shown to Entra as client assertions (Microsoft, "Workload identity federation"). Where they come from
//! is the caller's: from the API server in `controller`, from a file in `cli`. Pure otherwise: no I/O, no clock.

use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};

use super::{Shown, claims};

/// The audience that Entra wants in a token that is exchanged; the same in every cloud but 21Vianet's and the US governments', where the
/// administrator of the federated credential may choose another.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

/// A service account of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccount {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ServiceAccount {
    /// What stands in `sub` of its tokens (Kubernetes, "Managing Service Accounts").
    pub fn subject(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// Why there is no token of a service account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// There is no such service account.
    #[error("there is no ServiceAccount {name:?} in namespace {namespace:?}")]
    NotFound {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// The API server does not allow it.
    #[error("no token of ServiceAccount {name:?} may be made: {text}")]
    Forbidden {
        /// Name.
        name: String,
        /// The API server's words, bounded.
        text: String,
    },
    /// The file cannot be used.
    #[error("the token file {path}: {text}")]
    File {
        /// Its path.
        path: String,
        /// What is wrong.
        text: String,
    },
    /// It failed, and may work next time.
    #[error("no token of the service account for now: {0}")]
    Unavailable(String),
    /// This process has no source of such tokens.
    #[error("no token of a service account can be had here")]
    NoSource,
}

/// Where tokens of service accounts come from. Asked afresh for each token request, about once an hour for an app: nothing becomes stale.
pub trait AssertionSource: Send + Sync + std::fmt::Debug {
    /// A token of `account` for the audience [`AUDIENCE`], good for at least some minutes. Has a deadline of its own.
    fn assertion<'a>(&'a self, account: &'a ServiceAccount) -> BoxFuture<'a, Result<SecretString, AssertionError>>;
}

/// What a federated credential must say for this token to be taken, letter by letter.
pub(super) fn shown(token: &SecretString) -> Shown {
    let claim = |name| claims::one(token.expose_secret(), name).unwrap_or_else(|| "(unreadable)".to_owned());
    Shown::Federated { issuer: claim("iss"), subject: claim("sub"), audience: claim("aud") }
}
