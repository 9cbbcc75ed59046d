//! The words of each diagnosis, in English, with the exact commands filled in. It decides nothing. Pure: no I/O, no clock.
//!
//! Names of pages and buttons are those of the Entra admin centre; commands are those of Microsoft's page "Authenticate an IMAP, POP or SMTP
//! connection using OAuth".
#![deny(clippy::wildcard_enum_match_arm)]

use super::Context;
use super::saying::Saying;
use super::words::{quoted, shell};
use crate::entra::{AssertionError, Shown};
use crate::source::Extension;

const LATE: &str = "A change takes effect within minutes, at times an hour.";

pub(super) fn text(saying: &Saying<'_>, context: &Context<'_>) -> String {
    let Context { mailbox, role, tenant_id, client_id, credential_name, folder, authority, imap_host, .. } = *context;
    let protocol = if role.starts_with("POP.") { "POP3" } else { "IMAP" };
    match saying {
        Saying::EntraUnreachable { text } => {
            format!("Cannot reach {authority}: {}. Allow egress to it (TCP 443, for Microsoft's).", quoted(text))
        }
        Saying::EntraBusy { status, wait: _ } => format!("Entra is busy (HTTP {status}); it is tried again by itself."),
        Saying::EntraOdd { what } => {
            format!("The answer of {authority} holds no token: {what}. Does something between answer in Entra's place?")
        }
        Saying::EntraUnknownRefusal { status, error, text } => {
            format!("Entra refuses the token (HTTP {status} {}): {}", quoted(error), quoted(text))
        }
        Saying::TenantUnknown => format!(
            "Tenant {tenant_id} is unknown. Copy 'Directory (tenant) ID' from the app registration's Overview page into key tenantId of Secret \
             {credential_name}; check the cloud."
        ),
        Saying::AppUnknown => format!(
            "There is no app {client_id} in tenant {tenant_id}. Copy 'Application (client) ID', not an object id or a secret's id, from the app \
             registration's Overview page into key clientId of Secret {credential_name}; check tenantId, which stands on the same page."
        ),
        Saying::EnterpriseApplicationMissing => format!(
            "App {client_id} has no enterprise application in tenant {tenant_id}. Grant admin consent under API permissions, which makes it, or \
             run: az ad sp create --id {}",
            shell(client_id)
        ),
        Saying::SecretIdStored => format!(
            "Secret {credential_name} holds the client secret's ID, not its Value. The Value is shown only once: make a new client secret of app \
             {client_id} under 'Certificates & secrets' and store its Value in key clientSecret."
        ),
        Saying::SecretWrong => format!(
            "Key clientSecret of Secret {credential_name} is not a valid secret of app {client_id}: a wrong value, cut off, or deleted. Make a new \
             client secret under 'Certificates & secrets' and store its Value."
        ),
        Saying::SecretExpired => format!(
            "The client secret of app {client_id} has expired. Make a new one under 'Certificates & secrets' (24 months at most) and store its \
             Value in key clientSecret of Secret {credential_name}."
        ),
        Saying::SecretEmpty => {
            format!("Entra received no credential. Key clientSecret of Secret {credential_name} is empty: store the client secret's Value.")
        }
        Saying::PublicClient => format!(
            "App {client_id} is a public client, which has no secret. Under Authentication set 'Allow public client flows' to No, or register an \
             app of type Web."
        ),
        Saying::CertificateUnknown { shown } => {
            let which = match shown {
                Some(Shown::Certificate { sha1, sha256 }) => format!(" (thumbprint {sha1}, SHA-256 {sha256})"),
                Some(Shown::Federated { .. }) | None => String::new(),
            };
            format!(
                "The certificate in Secret {credential_name}{which} is not registered on app {client_id}. Upload its public part, tls.crt, under \
                 'Certificates & secrets' → Certificates; the thumbprint shown there must be this one."
            )
        }
        Saying::CertificateExpired { not_after } => format!(
            "The certificate of app {client_id} ended at {not_after}. Make a new one, upload its public part under 'Certificates & secrets' → \
             Certificates, and store it with its key in tls.crt and tls.key of Secret {credential_name}."
        ),
        Saying::AssertionOutOfTime => "The assertion is out of its time range: check the node's clock.".to_owned(),
        Saying::FederatedMismatch { shown } => {
            let values = match shown {
                Some(Shown::Federated { issuer, subject, audience }) => {
                    format!("issuer '{}', subject '{}', audience '{}'", quoted(issuer), quoted(subject), quoted(audience))
                }
                Some(Shown::Certificate { .. }) | None => "the issuer, subject and audience of the service account's token".to_owned(),
            };
            format!(
                "No federated credential of app {client_id} matches. Add one under 'Certificates & secrets' → Federated credentials → 'Other \
                 issuer', with exactly: {values}. Letters, case and a final slash count. {LATE}"
            )
        }
        Saying::NoAssertion { error } => no_assertion(error),
        Saying::ScopeRefused => format!(
            "Entra does not accept the scope of Exchange Online for app {client_id}. Check that the cloud in Secret {credential_name} is the \
             tenant's."
        ),
        Saying::ExchangeUnknownInTenant => format!(
            "Exchange Online is not known in tenant {tenant_id}: the wrong cloud in Secret {credential_name}, or a tenant without a subscription of \
             Exchange Online."
        ),
        Saying::AppDisabled => format!(
            "App {client_id} is disabled in tenant {tenant_id}. Enterprise applications → the app → Properties → 'Enabled for users to sign in' = \
             Yes, or run: az ad sp update --id {} --set accountEnabled=true",
            shell(client_id)
        ),
        Saying::ConditionalAccess => format!(
            "A Conditional Access policy for workload identities blocks app {client_id}. Allow the cluster's egress addresses in it, or exclude the \
             app."
        ),
        Saying::TokenForAnotherApi { audience } => format!(
            "The token is for {}, not for Exchange Online. Check that the cloud in Secret {credential_name} is the tenant's.",
            quoted(audience)
        ),
        Saying::DelegatedToken => format!(
            "The token is a delegated one. API permissions → Add → APIs my organization uses → Office 365 Exchange Online → Application permissions \
             (not Delegated) → {role}; then 'Grant admin consent'."
        ),
        Saying::NoRoles => format!(
            "The token of app {client_id} carries no roles. API permissions → Add → APIs my organization uses → Office 365 Exchange Online (not \
             Microsoft Graph) → Application permissions → {role}; then 'Grant admin consent'. {LATE}"
        ),
        Saying::OtherRoles { roles } => format!(
            "The token of app {client_id} has {}, but {protocol} needs {role}. Add it (API permissions → Office 365 Exchange Online → Application \
             permissions) and grant admin consent again.",
            quoted(&roles.join(", "))
        ),
        Saying::AppUnknownToExchange => app_unknown_to_exchange(context),
        Saying::MailboxOfAnotherTenant { token, mailbox: home } => format!(
            "{mailbox} lies in tenant {}, the app's token is for tenant {}. Register the app in the mailbox's tenant and put that tenant's id into \
             key tenantId of Secret {credential_name}, or correct the mailbox's address.",
            quoted(home),
            quoted(token)
        ),
        Saying::OnlyThisMailboxRefused { works } => format!(
            "Exchange refuses {mailbox}, while the app opens {}: its registration is right. Check the mailbox's address, whether it exists and has \
             a licence. {LATE}",
            works.map_or_else(|| "another mailbox".to_owned(), quoted)
        ),
        Saying::PopRefused => pop_refused(context),
        Saying::PopOff => format!(
            "POP3 refuses {mailbox}, which IMAP opens with the same token: POP3 is off for it. Run in Exchange Online PowerShell: Set-CASMailbox \
             -Identity {} -PopEnabled $true. {LATE}",
            shell(mailbox)
        ),
        Saying::PopTokenRefused { bytes } => format!(
            "Exchange's POP3 refuses tokens of more than 4096 characters{}. Register an app that has POP.AccessAsApp alone, or collect by IMAP.",
            bytes.map(|bytes| format!(" (this one has {bytes})")).unwrap_or_default()
        ),
        Saying::AccessMissing => access_missing(context, protocol),
        Saying::RefusedAfterSuccess => format!(
            "Exchange refuses {mailbox} for now; it worked before. If this lasts over 30 minutes, look for a service incident, and check the app's \
             FullAccess and whether {protocol} is enabled for the mailbox."
        ),
        Saying::AllRefused => format!(
            "Exchange refuses all mailboxes of app {client_id} at once, which worked before: probably an incident of Exchange Online. It is tried \
             again by itself; see the service health of Microsoft 365."
        ),
        Saying::Throttled { wait: Some(wait) } => {
            let minutes = wait.as_secs().div_ceil(60).max(1);
            format!("Exchange throttles {mailbox} and asks to wait up to {minutes} min; it is tried again by itself.")
        }
        Saying::Throttled { wait: None } => format!("Exchange throttles {mailbox}; it is tried again by itself."),
        Saying::TokenRanOut => "The token ran out in the session; connecting again with a new one.".to_owned(),
        Saying::FolderMissing => format!(
            "{mailbox} has no folder '{}'. Folder names are those of the mailbox's language, with '/' between levels; correct spec.folders or make \
             the folder.",
            quoted(folder)
        ),
        Saying::TargetMissing => format!(
            "{mailbox} has no folder '{}', into which spec.afterDelivery moves mail. Make the folder in the mailbox (Outlook: New folder), or correct \
             spec.afterDelivery.folder: names are those of the mailbox's language, with '/' between levels. What is delivered stays where it is \
             until then and is not collected again.",
            quoted(folder)
        ),
        Saying::FolderReadOnly => {
            let (app, mailbox) = (shell(client_id), shell(mailbox));
            format!(
                "The app may read this mailbox but not change it, so spec.afterDelivery cannot be done; mail is collected all the same. Grant FullAccess \
                 in Exchange Online PowerShell: $sp = Get-ServicePrincipal -Identity {app}; Add-MailboxPermission -Identity {mailbox} -User \
                 $sp.Identity -AccessRights FullAccess. Or write afterDelivery: {{action: Keep}}. {LATE}"
            )
        }
        Saying::SettlingUnsupported { extension } => format!(
            "{imap_host} does not offer {extension}, which spec.afterDelivery needs; mail is collected and stays in the mailbox. Write \
             afterDelivery: {{action: {}}}, or {{action: Keep}}.",
            match extension {
                Extension::Move => "Delete",
                Extension::UidPlus => "MarkSeen",
            }
        ),
        Saying::MailboxUnreachable { text } => format!("Cannot reach {imap_host}: {}. Allow egress to it.", quoted(text)),
        Saying::TlsFailed { text } => format!(
            "TLS with {imap_host} failed: {}. Is it the right host, and does nothing between intercept TLS? (A private CA is added by --ca-file.)",
            quoted(text)
        ),
        Saying::ConnectionBroke { text } => format!("The connection with {imap_host} broke: {}.", quoted(text)),
        Saying::NoAnswerInTime => format!("{imap_host} did not answer in time."),
        Saying::ServerClosed => format!("{imap_host} closed the connection."),
        Saying::ServerRefused { text } => format!("{imap_host} answered: {}", quoted(text)),
        Saying::CommandRefused { text } => format!(
            "{imap_host} did not take a command: {}. This is a fault of the program, not of your set-up; please report it.",
            quoted(text)
        ),
        Saying::NotUnderstood { what } => format!("{imap_host} sent something that cannot be used: {what}."),
        Saying::SessionGivenUp => format!("The session with {imap_host} was given up after a failure."),
        Saying::SinksTakeNoMore => "The sinks take no more for now; nothing is lost.".to_owned(),
        Saying::SinkFull { path } => format!("The file system of '{}' is full, or its quota is used up. Free or add space.", quoted(path)),
        Saying::SinkReadOnly { path } => format!("The file system of '{}' is mounted read-only.", quoted(path)),
        Saying::SinkForbidden { path } => format!(
            "The operator may not write '{}'. Give its user the right (in a pod: securityContext.fsGroup of the volume).",
            quoted(path)
        ),
        Saying::SinkNotADirectory { path } => format!(
            "'{}' is not a plain directory: a file or a symbolic link stands in the path, and none is followed. Remove it, or change the sink's path.",
            quoted(path)
        ),
        Saying::SinkFailed { operation, path, text } => format!("Writing '{}' failed ({operation}): {}.", quoted(path), quoted(text)),
        Saying::SinkCrowded { path, limit } => format!(
            "{path} holds more than {limit} messages, too many to look for copies among them. Let the document system take them away, or give \
             another path."
        ),
        Saying::CursorFull { full } => format!(
            "Collecting is stopped so that nothing is lost: {full}. Look at what keeps these messages from being collected; they are untouched \
             on the server."
        ),
        Saying::CursorUnreadable { text } => format!(
            "What is remembered of this mailbox cannot be read, so nothing is collected: {}. Restore it; or delete it, and everything is compared \
             with what the sinks hold.",
            quoted(text)
        ),
        Saying::SinkGone => "The sink's writer has ended; the process is stopping or must be restarted.".to_owned(),
        Saying::SinkSlow => "The sink did not answer in time.".to_owned(),
        Saying::SpoolFull { quota } => format!(
            "The spool ({quota} bytes for the whole operator) has no room for a long message; it is tried again by itself. If this lasts, raise \
             --spool-bytes and the space of its volume (Helm: spool.sizeLimit)."
        ),
        Saying::SinkAddressNotAllowed { host, address, port } => format!(
            "The operator may not connect to {} ({address}) port {port}: private, local and reserved addresses, and unusual ports, need leave of \
             whoever installed it. Helm: --set 'sinks.allowCIDRs={{{address}/{}}}' --set 'sinks.allowPorts={{{port}}}'",
            quoted(host),
            if address.is_ipv4() { 32 } else { 128 }
        ),
        Saying::SinkAuthenticationRefused { code } => format!(
            "The sink refuses the credentials (code {code}). Correct what the sink's secretRef holds, or the rights of that user at the sink."
        ),
        Saying::SinkRefuses { code } => {
            format!("The sink refuses (code {code}). Look into its log, and check the sink's address in the spec.")
        }
        Saying::SinkRefusesAll { code: Some(code) } => format!(
            "The sink refuses message after message (code {code}), so it is about the sink; nothing more is given up meanwhile. Look into its log: \
             its address, the rights of the credentials, its limits."
        ),
        Saying::SinkRefusesAll { code: None } => {
            "The sink refuses message after message, so it is about the sink; nothing more is given up \
             meanwhile. Look into its log."
                .to_owned()
        }
        Saying::SinkUnfit { what } => format!("The sink cannot take it: {what}."),
        Saying::SinkUnavailable { step, code: Some(code), .. } => {
            format!("The sink takes nothing for now ({step}: code {code}); it is tried again by itself, and nothing is lost.")
        }
        Saying::SinkUnavailable { step, code: None, text, .. } => {
            format!("The sink cannot be used ({step}): {}. It is tried again by itself.", quoted(text))
        }
    }
}

fn no_assertion(error: &AssertionError) -> String {
    match error {
        AssertionError::NotFound { namespace, name } => format!(
            "There is no ServiceAccount {name} in namespace {namespace}, whose token the app trusts. Make it: kubectl create serviceaccount {} \
             --namespace {}",
            shell(name),
            shell(namespace)
        ),
        AssertionError::Forbidden { name, text } => format!(
            "The operator may not make tokens of ServiceAccount {name}: {}. Whoever installed it must set the Helm value \
             workloadIdentity.enabled=true.",
            quoted(text)
        ),
        AssertionError::File { path, text } => {
            format!("The token file '{}' cannot be used: {}. Give a file with a service account's token.", quoted(path), quoted(text))
        }
        AssertionError::Unavailable(text) => {
            format!("No token of the service account for now: {}; it is tried again by itself.", quoted(text))
        }
        AssertionError::NoSource => {
            "There is no token of a service account to show: give one by --federated-token-file (or AZURE_FEDERATED_TOKEN_FILE).".to_owned()
        }
    }
}

fn app_unknown_to_exchange(context: &Context<'_>) -> String {
    let app = shell(context.client_id);
    let (object, must_be) = object_id(context);
    format!(
        "Exchange does not accept app {} for {}. Run in Exchange Online PowerShell: New-ServicePrincipal -AppId {app} -ObjectId {object} \
         -DisplayName 'mailbox-collector'. If one exists: Get-ServicePrincipal -Identity {app} | fl AppId,ObjectId; ObjectId must be {must_be}, \
         else run Remove-ServicePrincipal -Identity {app} and create it again. Check the address of the mailbox. {LATE}",
        context.client_id, context.mailbox
    )
}

fn access_missing(context: &Context<'_>, protocol: &str) -> String {
    let switch = if protocol == "POP3" { "PopEnabled" } else { "ImapEnabled" };
    let (app, mailbox) = (shell(context.client_id), shell(context.mailbox));
    format!(
        "The app may not open {}: FullAccess is missing, or {protocol} is off for the mailbox. Run both in Exchange Online PowerShell: \
         $sp = Get-ServicePrincipal -Identity {app}; Add-MailboxPermission -Identity {mailbox} -User $sp.Identity -AccessRights FullAccess; \
         Set-CASMailbox -Identity {mailbox} -{switch} $true. {LATE}",
        context.mailbox
    )
}

/// All causes in one message: it must stay within its bound, or the last command would be cut.
fn pop_refused(context: &Context<'_>) -> String {
    let (app, mailbox) = (shell(context.client_id), shell(context.mailbox));
    let (object, _) = object_id(context);
    format!(
        "POP3 does not say why it refuses. Run in Exchange Online PowerShell, in this order: New-ServicePrincipal -AppId {app} -ObjectId {object} (if \
         one exists, its ObjectId must be this one); $sp = Get-ServicePrincipal -Identity {app}; Add-MailboxPermission -Identity {mailbox} -User \
         $sp.Identity -AccessRights FullAccess; Set-CASMailbox -Identity {mailbox} -PopEnabled $true. Check the address of the mailbox. {LATE}"
    )
}

/// For a command, and for a sentence. The object id of the app *registration* is what people take most often by mistake.
fn object_id(context: &Context<'_>) -> (String, String) {
    match context.object_id {
        Some(id) => (shell(id), id.to_owned()),
        None => (
            "<Object ID>".to_owned(),
            "the one shown under Enterprise applications → the app → Overview (not under App registrations)".to_owned(),
        ),
    }
}
