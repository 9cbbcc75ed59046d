//! Tokens of service accounts from the API server (TokenRequest), to be shown to Entra. None is kept: each is used once, within seconds.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use secrecy::SecretString;
use tokio::time::timeout;

use crate::entra::{self, AUDIENCE, AssertionError, AssertionSource};

/// The shortest life that the API server gives, in seconds.
const LIFE: i64 = 600;
const DEADLINE: Duration = Duration::from_secs(15);

/// The API server as the source of service accounts' tokens.
pub struct KubeAssertions(Client);

impl KubeAssertions {
    /// Through `client`, whose user must be allowed to create `serviceaccounts/token`.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    async fn request(&self, account: &entra::ServiceAccount) -> Result<SecretString, AssertionError> {
        let api: Api<ServiceAccount> = Api::namespaced(self.0.clone(), &account.namespace);
        let spec = TokenRequestSpec { audiences: vec![AUDIENCE.to_owned()], bound_object_ref: None, expiration_seconds: Some(LIFE) };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let parameters = PostParams::default();
        match timeout(DEADLINE, api.create_token_request(&account.name, &parameters, &request)).await {
            Ok(Ok(made)) => {
                let token = made.status.map(|status| status.token).filter(|token| !token.is_empty());
                token.map(SecretString::from).ok_or_else(|| AssertionError::Unavailable("the API server's answer has no token".to_owned()))
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                Err(AssertionError::NotFound { namespace: account.namespace.clone(), name: account.name.clone() })
            }
            Ok(Err(error @ kube::Error::Api(_))) if matches!(&error, kube::Error::Api(status) if status.code == 403) => {
                Err(AssertionError::Forbidden { name: account.name.clone(), text: super::answer(&error) })
            }
            Ok(Err(error)) => Err(AssertionError::Unavailable(super::answer(&error))),
            Err(_) => Err(AssertionError::Unavailable("no answer from the API server in time".to_owned())),
        }
    }
}

impl AssertionSource for KubeAssertions {
    fn assertion<'a>(&'a self, account: &'a entra::ServiceAccount) -> BoxFuture<'a, Result<SecretString, AssertionError>> {
        self.request(account).boxed()
    }
}

impl std::fmt::Debug for KubeAssertions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubeAssertions")
    }
}
