//! Every way to miss a step of the set-up, and what must be said of it.

use mailbox_collector::diagnosis::{Reason, SetupStep};
use simulator::{CLIENT_ID, CLIENT_SECRET, CLIENT_SECRET_ID, Step, TENANT_ID};

use super::MAILBOX;

/// The enterprise application's object id in the stand-in.
const OBJECT_ID: &str = "7e1a5c00-0000-4000-8003-000000000000";

/// One way to go wrong.
pub(super) struct Row {
    /// What was missed, in both languages.
    pub(super) missed: [&'static str; 2],
    /// In the tenant …
    pub(super) step: Option<Step>,
    /// … or in what was written: (text, replacement) in the documents.
    pub(super) written: Option<(&'static str, &'static str)>,
    pub(super) reason: Reason,
    /// The step that fails.
    pub(super) fails: SetupStep,
    /// A step that must be called unknown, for the same answer would come if it was the one.
    pub(super) unknown: Option<SetupStep>,
    /// What the remedy must hold.
    pub(super) remedy: &'static [&'static str],
}

fn tenant(missed: [&'static str; 2], step: Step, reason: Reason, fails: SetupStep, remedy: &'static [&'static str]) -> Row {
    Row { missed, step: Some(step), written: None, reason, fails, unknown: None, remedy }
}

fn written(
    missed: [&'static str; 2],
    change: (&'static str, &'static str),
    reason: Reason,
    fails: SetupStep,
    remedy: &'static [&'static str],
) -> Row {
    Row { missed, step: None, written: Some(change), reason, fails, unknown: None, remedy }
}

pub(super) fn rows() -> Vec<Row> {
    use SetupStep as S;
    let unknown = |step, row| Row { unknown: Some(step), ..row };
    let register = &["New-ServicePrincipal -AppId 7e1a5c00-0000-4000-8001-000000000000 -ObjectId 7e1a5c00-0000-4000-8003-000000000000"];
    let allow = &[
        "Add-MailboxPermission -Identity factures@contoso.example",
        "Set-CASMailbox -Identity factures@contoso.example -ImapEnabled $true",
        "Get-ServicePrincipal -Identity 7e1a5c00-0000-4000-8001-000000000000",
    ];
    vec![
        written(
            ["The Secret was not made", "Le Secret n'a pas été créé"],
            ("name: azure-app}}", "name: other-app}}"),
            Reason::SecretNotFound,
            S::Secret,
            &["kubectl create secret generic other-app"],
        ),
        written(
            ["The secret's value was left empty", "La valeur du secret est restée vide"],
            (CLIENT_SECRET, "''"),
            Reason::SecretKeyMissing,
            S::Secret,
            &["kubectl create secret generic azure-app"],
        ),
        tenant(
            ["Tenant ID of another tenant", "ID d'un autre locataire"],
            Step::Tenant,
            Reason::TenantNotFound,
            S::Tenant,
            &[TENANT_ID, "tenantId", "azure-app"],
        ),
        written(
            ["Tenant ID with a character missing", "ID du locataire auquel il manque un caractère"],
            (TENANT_ID, "7e1a5c00-0000-4000-8000-00000000000"),
            Reason::TenantNotFound,
            S::Tenant,
            &["tenantId", "azure-app"],
        ),
        tenant(
            ["Application ID of something else", "ID d'application d'un autre objet"],
            Step::ClientId,
            Reason::ApplicationNotFound,
            S::Application,
            &[CLIENT_ID, TENANT_ID, "clientId"],
        ),
        written(
            ["The secret's ID in place of its value", "L'ID de secret à la place de sa valeur"],
            (CLIENT_SECRET, CLIENT_SECRET_ID),
            Reason::SecretIdInsteadOfValue,
            S::Credential,
            &["clientSecret", "azure-app"],
        ),
        tenant(
            ["Another secret's value", "La valeur d'un autre secret"],
            Step::Secret,
            Reason::SecretInvalid,
            S::Credential,
            &[CLIENT_ID, "clientSecret"],
        ),
        tenant(["The secret has expired", "Le secret a expiré"], Step::SecretExpired, Reason::SecretExpired, S::Credential, &[CLIENT_ID]),
        unknown(
            S::Credential,
            tenant(
                ["No enterprise application", "Pas d'application d'entreprise"],
                Step::EnterpriseApp,
                Reason::EnterpriseApplicationMissing,
                S::EnterpriseApplication,
                &["az ad sp create --id 7e1a5c00-0000-4000-8001-000000000000"],
            ),
        ),
        unknown(
            S::Credential,
            tenant(
                ["The enterprise application is disabled", "L'application d'entreprise est désactivée"],
                Step::EnterpriseAppEnabled,
                Reason::ApplicationDisabled,
                S::EnterpriseApplication,
                &["az ad sp update --id 7e1a5c00-0000-4000-8001-000000000000 --set accountEnabled=true"],
            ),
        ),
        tenant(
            ["A Conditional Access policy blocks the app", "Une stratégie d'accès conditionnel bloque l'application"],
            Step::ConditionalAccess,
            Reason::ConditionalAccessBlocked,
            S::EnterpriseApplication,
            &[CLIENT_ID],
        ),
        tenant(
            ["No Exchange Online in the tenant", "Pas d'Exchange Online dans le locataire"],
            Step::ExchangeOnline,
            Reason::PermissionOrConsentMissing,
            S::Permission,
            &[TENANT_ID],
        ),
        written(
            ["The wrong cloud", "Un autre cloud"],
            ("  clientSecret:", "  cloud: China\n  clientSecret:"),
            Reason::PermissionOrConsentMissing,
            S::Permission,
            &["cloud"],
        ),
        unknown(
            S::Permission,
            tenant(
                ["The permission was not added", "L'autorisation n'a pas été ajoutée"],
                Step::Permission,
                Reason::PermissionOrConsentMissing,
                S::Consent,
                &["IMAP.AccessAsApp", CLIENT_ID],
            ),
        ),
        unknown(
            S::Permission,
            tenant(
                ["The permission was added as delegated", "L'autorisation a été ajoutée comme déléguée"],
                Step::PermissionKind,
                Reason::PermissionOrConsentMissing,
                S::Consent,
                &["IMAP.AccessAsApp"],
            ),
        ),
        unknown(
            S::Permission,
            tenant(
                ["The permission was added on Microsoft Graph", "L'autorisation a été ajoutée sur Microsoft Graph"],
                Step::PermissionApi,
                Reason::PermissionOrConsentMissing,
                S::Consent,
                &["Microsoft Graph", "Office 365 Exchange Online"],
            ),
        ),
        unknown(
            S::Permission,
            tenant(
                ["Consent was not granted", "Le consentement n'a pas été accordé"],
                Step::AdminConsent,
                Reason::PermissionOrConsentMissing,
                S::Consent,
                &["onsent"],
            ),
        ),
        tenant(
            ["Only POP.AccessAsApp was added", "Seule POP.AccessAsApp a été ajoutée"],
            Step::Role,
            Reason::WrongPermission,
            S::Role,
            &["POP.AccessAsApp", "IMAP.AccessAsApp"],
        ),
        unknown(
            S::MailboxAddress,
            tenant(
                ["New-ServicePrincipal was not run", "New-ServicePrincipal n'a pas été exécuté"],
                Step::ServicePrincipal,
                Reason::ServicePrincipalNotRegistered,
                S::ServicePrincipal,
                register,
            ),
        ),
        unknown(
            S::MailboxAddress,
            tenant(
                [
                    "New-ServicePrincipal was run with the app registration's object ID",
                    "New-ServicePrincipal a été exécuté avec l'ID d'objet de l'inscription d'application",
                ],
                Step::ObjectId,
                Reason::ServicePrincipalNotRegistered,
                S::ServicePrincipal,
                register,
            ),
        ),
        unknown(
            S::MailboxAddress,
            written(
                ["The mailbox's address is wrong", "L'adresse de la boîte est erronée"],
                (MAILBOX, "facture@contoso.example"),
                Reason::ServicePrincipalNotRegistered,
                S::ServicePrincipal,
                &["facture@contoso.example", OBJECT_ID],
            ),
        ),
        unknown(
            S::MailboxAddress,
            tenant(
                ["Add-MailboxPermission was not run", "Add-MailboxPermission n'a pas été exécuté"],
                Step::FullAccess,
                Reason::AccessMissingOrProtocolDisabled,
                S::MailboxAccess,
                allow,
            ),
        ),
        unknown(
            S::MailboxAddress,
            tenant(
                ["IMAP is disabled for the mailbox", "IMAP est désactivé pour la boîte"],
                Step::ImapEnabled,
                Reason::AccessMissingOrProtocolDisabled,
                S::MailboxAccess,
                allow,
            ),
        ),
    ]
}
