//! The objects that an administrator sets up, as they really are: tenant, app registration, enterprise application, permissions and
//! consent, Exchange service principal, mailboxes. Each can be missing or wrong alone. What follows from that is in `entra/` and `imap/`.
//! Pure: no I/O, no clock.

use std::collections::HashMap;
use std::time::Duration;

use crate::entra::TokenFault;
use crate::entra::credential::{AppCertificate, FederatedCredential};
use crate::fault::Faults;
use crate::mailbox::Mailbox;
use crate::message::{Message, mix};

/// The directory (tenant) id of the first ready tenant.
pub const TENANT_ID: &str = "7e1a5c00-0000-4000-8000-000000000000";
/// The application (client) id of the first ready tenant's app.
pub const CLIENT_ID: &str = "7e1a5c00-0000-4000-8001-000000000000";
/// The value of that app's client secret.
pub const CLIENT_SECRET: &str = "Zk8Q~000.stand-in_secret+value/0123456789";
/// The identifier of that secret, which people paste in place of the value.
pub const CLIENT_SECRET_ID: &str = "7e1a5c00-0000-4000-8004-000000000000";
/// The API whose permission is needed, Office 365 Exchange Online.
pub const EXCHANGE_RESOURCE: &str = "00000002-0000-0ff1-ce00-000000000000";
/// Microsoft Graph.
pub const GRAPH_RESOURCE: &str = "00000003-0000-0000-c000-000000000000";

/// Everything that the stand-in knows. Every field may be changed while it runs.
pub struct World {
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// Entra as a whole.
    pub entra: Entra,
    /// Exchange Online as a whole.
    pub exchange: Exchange,
}

/// Entra's behaviour that belongs to no tenant.
#[derive(Default)]
pub struct Entra {
    /// How long tokens live; `None` is a random 3,600 to 5,399 s, as Microsoft documents.
    pub token_lifetime: Option<Duration>,
    /// Error descriptions on one line with spaces in place of CRLF, as seen at times.
    pub one_line_descriptions: bool,
    /// Leaves `error_uri` out of error bodies.
    pub without_error_uri: bool,
    /// Played one a token request, the first first.
    pub faults: std::collections::VecDeque<TokenFault>,
    /// Certificates are known by `x5t` alone, not by `x5t#S256` (entra-docs pull request 1301).
    pub former_thumbprints_only: bool,
    /// So many requests with an assertion find no federated credential yet: a new one takes minutes to spread.
    pub federation_pending: u32,
    /// CAs (PEM) of the issuers of federated credentials, besides our own.
    pub issuer_authorities: Vec<String>,
    /// Ids of assertions that were taken, with the second in which they end.
    pub(crate) assertions_seen: HashMap<String, u64>,
    /// Tokens numbered below this are expired, whatever they say.
    pub(crate) tokens_valid_from: u64,
}

/// Exchange Online's behaviour that belongs to no mailbox.
pub struct Exchange {
    /// Which front end answers.
    pub front_end: FrontEnd,
    /// `ENABLE IMAP4rev2` is advertised after log-in, and LSUB is refused.
    pub imap4rev2: bool,
    /// Appended to `AUTHENTICATE failed.` (some servers add ` Error="AuthFailed:…"`).
    pub authentication_failure_detail: Option<String>,
    /// A failed XOAUTH2 gets a `+ <base64 of JSON>` first, as Gmail does and Exchange does not.
    pub authentication_challenge: bool,
    /// Connections of one mailbox at a time; surplus ones are "authenticated but not connected".
    pub connections_per_mailbox: usize,
    /// The longest command line in bytes, literals not counted.
    pub longest_line: usize,
    /// Faults that strike whatever mailbox.
    pub faults: Faults,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            front_end: FrontEnd::Classic,
            imap4rev2: false,
            authentication_failure_detail: None,
            authentication_challenge: false,
            connections_per_mailbox: 20,
            longest_line: 10_240,
            faults: Faults::default(),
        }
    }
}

/// The two IMAP front ends seen in 2026 (exchange-online.md 3.1, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontEnd {
    /// "The Microsoft Exchange IMAP4 service is ready."
    Classic,
    /// "tcpproxy/…"; it advertises LOGINDISABLED and MOVE before log-in.
    TcpProxy,
}

/// The clouds, by the names of Exchange in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// The public one.
    Public,
    /// GCC High.
    UsGovernment,
    /// 21Vianet's.
    China,
}

impl Cloud {
    /// Whether this is one of Exchange's names as a resource.
    pub(crate) fn is_exchange(self, name: &str) -> bool {
        name == EXCHANGE_RESOURCE
            || match self {
                Self::Public => matches!(name, "https://outlook.office365.com" | "https://ps.outlook.com" | "https://outlook.office.com"),
                Self::UsGovernment => name == "https://outlook.office365.us",
                Self::China => name == "https://partner.outlook.cn",
            }
    }
}

/// The tenant with this id or domain.
pub(crate) fn find<'a>(tenants: &'a mut [Tenant], name: &str) -> Option<&'a mut Tenant> {
    tenants
        .iter_mut()
        .find(|tenant| tenant.id.eq_ignore_ascii_case(name) || tenant.domains.iter().any(|domain| domain.eq_ignore_ascii_case(name)))
}

/// A directory.
pub struct Tenant {
    /// Directory (tenant) id.
    pub id: String,
    /// Verified domain names; they work in place of the id.
    pub domains: Vec<String>,
    /// App registrations.
    pub applications: Vec<AppRegistration>,
    /// Enterprise applications.
    pub enterprise_applications: Vec<EnterpriseApplication>,
    /// The cloud it is in; 21Vianet's knows Exchange by the v1 endpoint only here (email-oauth2-proxy issue 255).
    pub cloud: Cloud,
    /// The tenant subscribes to Exchange Online; otherwise its resource is unknown (AADSTS500011).
    pub exchange_online: bool,
    /// What `Get-ServicePrincipal` shows in Exchange.
    pub exchange_service_principals: Vec<ExchangeServicePrincipal>,
    /// By lower-case address.
    pub(crate) mailboxes: HashMap<String, Mailbox>,
    number: u64,
}

/// An app registration.
#[derive(Clone, Debug)]
pub struct AppRegistration {
    /// Its own object id, the one that is *not* wanted by New-ServicePrincipal.
    pub object_id: String,
    /// Application (client) id.
    pub client_id: String,
    /// Display name.
    pub display_name: String,
    /// Client secrets.
    pub secrets: Vec<ClientSecret>,
    /// Certificates.
    pub certificates: Vec<AppCertificate>,
    /// Federated credentials.
    pub federated_credentials: Vec<FederatedCredential>,
    /// API permissions.
    pub permissions: Vec<Permission>,
}

/// A client secret.
#[derive(Clone, Debug)]
pub struct ClientSecret {
    /// Secret ID: looks like a GUID, and opens nothing.
    pub id: String,
    /// Value.
    pub value: String,
    /// Its end has passed.
    pub expired: bool,
}

/// An API permission of an app registration.
#[derive(Clone, Debug)]
pub struct Permission {
    /// The API's application id ([`EXCHANGE_RESOURCE`], [`GRAPH_RESOURCE`]).
    pub resource: String,
    /// `IMAP.AccessAsApp`, `POP.AccessAsApp`, …
    pub role: String,
    /// Application or delegated.
    pub kind: PermissionKind,
    /// Admin consent was granted after it was added.
    pub consented: bool,
}

/// The two kinds of API permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionKind {
    /// What a daemon needs: becomes a role in the token.
    Application,
    /// For signed-in users: gives an app-only token nothing.
    Delegated,
}

/// An enterprise application: the app's service principal in the tenant.
#[derive(Clone, Debug)]
pub struct EnterpriseApplication {
    /// Its object id, `oid` in tokens, the one that New-ServicePrincipal wants.
    pub object_id: String,
    /// The app's client id.
    pub client_id: String,
    /// "Enabled for users to sign in".
    pub enabled: bool,
    /// A Conditional Access policy for workload identities blocks it.
    pub blocked_by_conditional_access: bool,
}

/// A service principal as registered in Exchange by `New-ServicePrincipal -AppId -ObjectId`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeServicePrincipal {
    /// AppId.
    pub app_id: String,
    /// ObjectId, rightly the enterprise application's.
    pub object_id: String,
}

/// A set-up step that can be missed or done wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Another tenant id than the one in use: AADSTS90002.
    Tenant,
    /// Another client id: AADSTS700016.
    ClientId,
    /// The secret's value is another: AADSTS7000215.
    Secret,
    /// The secret has expired: AADSTS7000222.
    SecretExpired,
    /// No enterprise application: AADSTS7000229.
    EnterpriseApp,
    /// The enterprise application is disabled: AADSTS7000112.
    EnterpriseAppEnabled,
    /// A Conditional Access policy blocks the app: AADSTS53003.
    ConditionalAccess,
    /// The tenant has no Exchange Online: AADSTS500011.
    ExchangeOnline,
    /// The API permission was not added: a token without `roles`.
    Permission,
    /// It was added as delegated: a token without `roles`.
    PermissionKind,
    /// It was added on Microsoft Graph: a token without `roles`.
    PermissionApi,
    /// Only `POP.AccessAsApp` was added: a token with that role alone.
    Role,
    /// Consent was not granted: a token without `roles`.
    AdminConsent,
    /// New-ServicePrincipal was not run: `NO AUTHENTICATE failed.`
    ServicePrincipal,
    /// New-ServicePrincipal was run with the app registration's object id: `NO AUTHENTICATE failed.`
    ObjectId,
    /// No FullAccess on any mailbox: "authenticated but not connected".
    FullAccess,
    /// IMAP is disabled on every mailbox: "authenticated but not connected".
    ImapEnabled,
}

impl Step {
    /// Every step with its name on the command line.
    pub const ALL: [(&'static str, Self); 17] = [
        ("tenant", Self::Tenant),
        ("client-id", Self::ClientId),
        ("secret", Self::Secret),
        ("secret-expired", Self::SecretExpired),
        ("enterprise-app", Self::EnterpriseApp),
        ("enterprise-app-enabled", Self::EnterpriseAppEnabled),
        ("conditional-access", Self::ConditionalAccess),
        ("exchange-online", Self::ExchangeOnline),
        ("permission", Self::Permission),
        ("permission-kind", Self::PermissionKind),
        ("permission-api", Self::PermissionApi),
        ("role", Self::Role),
        ("admin-consent", Self::AdminConsent),
        ("service-principal", Self::ServicePrincipal),
        ("object-id", Self::ObjectId),
        ("full-access", Self::FullAccess),
        ("imap-enabled", Self::ImapEnabled),
    ];
}

/// No mailbox of that address in any tenant.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownMailbox(pub String);

impl std::fmt::Display for UnknownMailbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "no mailbox {}", self.0)
    }
}

impl std::error::Error for UnknownMailbox {}

impl World {
    /// One tenant ([`TENANT_ID`], [`CLIENT_ID`], [`CLIENT_SECRET`]) in which everything is right, with these empty mailboxes.
    pub fn ready<S: AsRef<str>>(mailboxes: &[S]) -> Self {
        Self { tenants: vec![Tenant::ready(0, mailboxes)], entra: Entra::default(), exchange: Exchange::default() }
    }

    /// The mailbox of that address, in whatever tenant.
    pub fn mailbox(&mut self, address: &str) -> Result<&mut Mailbox, UnknownMailbox> {
        let key = address.to_lowercase();
        self.tenants.iter_mut().find_map(|tenant| tenant.mailboxes.get_mut(&key)).ok_or_else(|| UnknownMailbox(address.to_owned()))
    }

    /// Puts a message into a folder (made if it is not there) and announces it to idling clients; gives its UID.
    pub fn deliver(&mut self, address: &str, folder: &str, message: Message) -> Result<u32, UnknownMailbox> {
        Ok(self.mailbox(address)?.folder(folder).append(message))
    }

    /// Misses a step in the first tenant.
    pub fn miss(&mut self, step: Step) {
        if let Some(tenant) = self.tenants.first_mut() {
            tenant.miss(step);
        }
    }

    pub(crate) fn tenant(&mut self, name: &str) -> Option<&mut Tenant> {
        find(&mut self.tenants, name)
    }
}

impl Tenant {
    /// A tenant in which everything is right; its ids end in `number`, so that several can live side by side (0 is [`TENANT_ID`]'s).
    pub fn ready<S: AsRef<str>>(number: u64, mailboxes: &[S]) -> Self {
        let mut tenant = Self {
            id: String::new(),
            domains: Vec::new(),
            applications: Vec::new(),
            enterprise_applications: Vec::new(),
            cloud: Cloud::Public,
            exchange_online: true,
            exchange_service_principals: Vec::new(),
            mailboxes: HashMap::new(),
            number,
        };
        for address in mailboxes {
            tenant.add_mailbox(address.as_ref());
        }
        tenant.put_right();
        tenant
    }

    /// Adds an empty mailbox with everything right.
    pub fn add_mailbox(&mut self, address: &str) -> &mut Mailbox {
        let object_id = guid(3, self.number);
        let validity = 1 + u32::try_from(mix(self.mailboxes.len() as u64) % 1_000_000).unwrap_or(0);
        self.mailboxes.entry(address.to_lowercase()).or_insert_with(|| Mailbox::new(address, &object_id, validity))
    }

    /// Makes every set-up object right again, also on the mailboxes; mail and faults stay.
    pub fn put_right(&mut self) {
        let number = self.number;
        self.id = guid(0, number);
        self.domains = vec![if number == 0 { "contoso.example".to_owned() } else { format!("contoso{number}.example") }];
        self.exchange_online = true;
        self.applications = vec![AppRegistration {
            object_id: guid(2, number),
            client_id: guid(1, number),
            display_name: "Mail collector".to_owned(),
            secrets: vec![ClientSecret { id: guid(4, number), value: self.secret(), expired: false }],
            certificates: Vec::new(),
            federated_credentials: Vec::new(),
            permissions: vec![Permission {
                resource: EXCHANGE_RESOURCE.to_owned(),
                role: "IMAP.AccessAsApp".to_owned(),
                kind: PermissionKind::Application,
                consented: true,
            }],
        }];
        self.enterprise_applications = vec![EnterpriseApplication {
            object_id: guid(3, number),
            client_id: guid(1, number),
            enabled: true,
            blocked_by_conditional_access: false,
        }];
        self.exchange_service_principals = vec![ExchangeServicePrincipal { app_id: guid(1, number), object_id: guid(3, number) }];
        for mailbox in self.mailboxes.values_mut() {
            mailbox.imap_enabled = true;
            mailbox.full_access = vec![guid(3, number)];
        }
    }

    /// The client id of a ready tenant's app.
    pub fn client_id(&self) -> String {
        guid(1, self.number)
    }

    /// The secret's value of a ready tenant's app.
    pub fn secret(&self) -> String {
        CLIENT_SECRET.replace("000", &format!("{:03}", self.number))
    }

    /// Misses a step, in every object that it concerns.
    pub fn miss(&mut self, step: Step) {
        let other = guid(9, self.number);
        for application in &mut self.applications {
            match step {
                Step::ClientId => application.client_id.clone_from(&other),
                Step::Secret => application.secrets.iter_mut().for_each(|secret| secret.value.push_str("-replaced")),
                Step::SecretExpired => application.secrets.iter_mut().for_each(|secret| secret.expired = true),
                Step::Permission => application.permissions.clear(),
                Step::PermissionKind => {
                    application.permissions.iter_mut().for_each(|permission| permission.kind = PermissionKind::Delegated)
                }
                Step::PermissionApi => {
                    application.permissions.iter_mut().for_each(|permission| permission.resource = GRAPH_RESOURCE.to_owned())
                }
                Step::Role => application.permissions.iter_mut().for_each(|permission| permission.role = "POP.AccessAsApp".to_owned()),
                Step::AdminConsent => application.permissions.iter_mut().for_each(|permission| permission.consented = false),
                _ => {}
            }
        }
        let registration = self.applications.first().map(|application| application.object_id.clone()).unwrap_or_default();
        match step {
            Step::Tenant => {
                self.id = other;
                self.domains.clear();
            }
            Step::EnterpriseApp => self.enterprise_applications.clear(),
            Step::EnterpriseAppEnabled => self.enterprise_applications.iter_mut().for_each(|app| app.enabled = false),
            Step::ConditionalAccess => self.enterprise_applications.iter_mut().for_each(|app| app.blocked_by_conditional_access = true),
            Step::ExchangeOnline => self.exchange_online = false,
            Step::ServicePrincipal => self.exchange_service_principals.clear(),
            Step::ObjectId => {
                self.exchange_service_principals.iter_mut().for_each(|principal| principal.object_id.clone_from(&registration))
            }
            Step::FullAccess => self.mailboxes.values_mut().for_each(|mailbox| mailbox.full_access.clear()),
            Step::ImapEnabled => self.mailboxes.values_mut().for_each(|mailbox| mailbox.imap_enabled = false),
            _ => {}
        }
    }
}

fn guid(kind: u64, number: u64) -> String {
    format!("7e1a5c00-0000-4000-800{kind}-{number:012x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_world_has_the_ids_that_the_constants_say() {
        let world = World::ready(&["a@contoso.example"]);
        let tenant = &world.tenants[0];
        assert_eq!(tenant.id, TENANT_ID);
        assert_eq!(tenant.client_id(), CLIENT_ID);
        assert_eq!(tenant.secret(), CLIENT_SECRET);
        assert_eq!(tenant.applications[0].secrets[0].id, CLIENT_SECRET_ID);
        assert_ne!(tenant.applications[0].object_id, tenant.enterprise_applications[0].object_id);
    }

    #[test]
    fn a_delivered_message_gets_the_next_uid() {
        let mut world = World::ready(&["A@contoso.example"]);
        assert_eq!(world.deliver("a@Contoso.example", "INBOX", Message::office(1)), Ok(1));
        assert_eq!(world.deliver("a@contoso.example", "INBOX", Message::office(2)), Ok(2));
        assert_eq!(world.deliver("b@contoso.example", "INBOX", Message::office(3)), Err(UnknownMailbox("b@contoso.example".to_owned())));
    }
}
