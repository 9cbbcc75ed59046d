//! `AppRegistration`: one Azure app registration that many collectors share. Pure: no I/O, no clock.

#![expect(clippy::duplicated_attributes, reason = "printer columns share the attribute names of #[kube]")]
#![expect(unreachable_pub, reason = "KubeSchema copies each type into a function, visibility included")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Conditions, LocalReference, NEVER_OBSERVED, SecretKeyReference, TokenStatus, conditions_schema};

/// An app registered in Microsoft Entra, with its credential and the mailboxes it may be used for.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mailbox-collector.io",
    version = "v1alpha1",
    kind = "AppRegistration",
    plural = "appregistrations",
    singular = "appregistration",
    shortname = "appreg",
    namespaced,
    status = "AppRegistrationStatus",
    derive = "PartialEq",
    doc = "An Azure app registration that many MailboxCollectors of the namespace share.",
    selectable = ".spec.clientId",
    selectable = ".spec.tenantId",
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenantId"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Secret Expiry", type_ = "string", json_path = ".status.token.secretExpirationTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Client", type_ = "string", json_path = ".spec.clientId", priority = 1),
    printcolumn(name = "Cloud", type_ = "string", json_path = ".spec.cloud", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct AppRegistrationSpec {
    /// Directory (tenant) id, or a verified domain of the tenant.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"))]
    pub tenant_id: String,
    /// Application (client) id, as the app's overview page shows it.
    #[schemars(length(min = 36, max = 36), regex(pattern = r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"))]
    pub client_id: String,
    /// Public, USGovernment, USGovernmentDoD or China. Default: Public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("enum" = ["Public", "USGovernment", "USGovernmentDoD", "China"]))]
    pub cloud: Option<String>,
    /// How the app proves who it is.
    pub credential: AppCredential,
    /// When the client secret ends (RFC 3339), as Entra showed it on creation: Entra tells it nowhere else, and a warning needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub secret_expiration_time: Option<String>,
    /// Mailboxes for which collectors may use this app, as globs, for example *@contoso.com. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 320)), extend("x-kubernetes-list-type" = "set"))]
    pub allowed_mailboxes: Option<Vec<String>>,
}

/// How the app proves who it is; exactly one member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.clientSecret), has(self.certificate), has(self.workloadIdentity)].filter(given, given).size() == 1")
    .message("write exactly one of clientSecret, certificate and workloadIdentity, for example credential: {clientSecret: {secretKeyRef: {name: azure-app, key: clientSecret}}}"))]
pub struct AppCredential {
    /// A client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<ClientSecretCredential>,
    /// A certificate with its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateCredential>,
    /// A token of a ServiceAccount of this namespace, which the app trusts as a federated credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentityCredential>,
}

/// A client secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientSecretCredential {
    /// Where the secret's value is (the value, not the secret's id).
    pub secret_key_ref: SecretKeyReference,
}

/// A certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateCredential {
    /// A Secret with the keys tls.crt and tls.key.
    pub secret_ref: LocalReference,
}

/// A federated credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentityCredential {
    /// ServiceAccount of this namespace, whose token for the audience api://AzureADTokenExchange is shown to Entra.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"))]
    pub service_account_name: String,
}

/// What the operator has seen. Written by the operator alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AppRegistrationStatus {
    /// The metadata.generation that this status speaks of; -1 as long as nobody has looked.
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// Ready, Accepted and TokenHealthy always; the others only while they are True.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Conditions,
    /// What the last access token said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
}

impl Default for AppRegistrationStatus {
    fn default() -> Self {
        Self { observed_generation: NEVER_OBSERVED, conditions: Vec::new(), token: None }
    }
}
