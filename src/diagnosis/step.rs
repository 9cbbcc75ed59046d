//! The steps of the set-up, in the order in which an administrator performs them, and what each is called in both languages. Pure: no I/O,
//! no clock.
#![deny(clippy::wildcard_enum_match_arm)]

use super::Language;

/// A step of the set-up. `Ord` is the order in which the steps are performed and proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetupStep {
    /// The MailboxCollector says what it may say.
    Resource,
    /// The Secret is there and holds the three values.
    Secret,
    /// Nothing stands between the cluster and Microsoft Entra.
    EntraReachable,
    /// The tenant id and the cloud.
    Tenant,
    /// The app registration and its application (client) id.
    Application,
    /// The client secret's value (or the certificate, or the federated credential).
    Credential,
    /// The enterprise application: there, enabled, not blocked.
    EnterpriseApplication,
    /// An application permission of Office 365 Exchange Online.
    Permission,
    /// Admin consent.
    Consent,
    /// The permission is the one that the protocol needs.
    Role,
    /// Nothing stands between the cluster and Exchange Online.
    ExchangeReachable,
    /// `New-ServicePrincipal`, with the enterprise application's object id.
    ServicePrincipal,
    /// The mailbox's address.
    MailboxAddress,
    /// `Add-MailboxPermission` and `Set-CASMailbox`: Exchange says the same when either was missed.
    MailboxAccess,
    /// The folders.
    Folder,
    /// The sinks.
    Sink,
}

impl SetupStep {
    /// All of them, in order.
    pub const ALL: [Self; 16] = [
        Self::Resource,
        Self::Secret,
        Self::EntraReachable,
        Self::Tenant,
        Self::Application,
        Self::Credential,
        Self::EnterpriseApplication,
        Self::Permission,
        Self::Consent,
        Self::Role,
        Self::ExchangeReachable,
        Self::ServicePrincipal,
        Self::MailboxAddress,
        Self::MailboxAccess,
        Self::Folder,
        Self::Sink,
    ];

    /// For programs: stable, one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "Resource",
            Self::Secret => "Secret",
            Self::EntraReachable => "EntraReachable",
            Self::Tenant => "Tenant",
            Self::Application => "Application",
            Self::Credential => "Credential",
            Self::EnterpriseApplication => "EnterpriseApplication",
            Self::Permission => "Permission",
            Self::Consent => "Consent",
            Self::Role => "Role",
            Self::ExchangeReachable => "ExchangeReachable",
            Self::ServicePrincipal => "ServicePrincipal",
            Self::MailboxAddress => "MailboxAddress",
            Self::MailboxAccess => "MailboxAccess",
            Self::Folder => "Folder",
            Self::Sink => "Sink",
        }
    }

    /// For a person.
    pub fn title(self, language: Language) -> &'static str {
        let (english, french) = match self {
            Self::Resource => ("MailboxCollector is valid", "MailboxCollector valide"),
            Self::Secret => ("Secret holds the three values", "Secret contenant les trois valeurs"),
            Self::EntraReachable => ("Microsoft Entra can be reached", "Microsoft Entra joignable"),
            Self::Tenant => ("Tenant ID and cloud", "ID de l'annuaire (locataire) et cloud"),
            Self::Application => ("App registration, application ID", "Inscription de l'application, ID d'application"),
            Self::Credential => ("Client secret, its value", "Secret client, sa valeur"),
            Self::EnterpriseApplication => ("Enterprise application, enabled", "Application d'entreprise, activée"),
            Self::Permission => ("Application permission of Exchange Online", "Autorisation d'application d'Exchange Online"),
            Self::Consent => ("Admin consent", "Consentement d'administrateur"),
            Self::Role => ("Permission for this protocol", "Autorisation pour ce protocole"),
            Self::ExchangeReachable => ("Exchange Online can be reached", "Exchange Online joignable"),
            Self::ServicePrincipal => ("Service principal registered in Exchange", "Principal de service inscrit dans Exchange"),
            Self::MailboxAddress => ("Address of the mailbox", "Adresse de la boîte aux lettres"),
            Self::MailboxAccess => ("FullAccess, and protocol enabled", "FullAccess, et protocole activé"),
            Self::Folder => ("Folder exists", "Dossier existant"),
            Self::Sink => ("Sink takes mail", "Destination prête"),
        };
        language.choose(english, french)
    }
}
