//! The words of each diagnosis, in French, with the exact commands filled in. It decides nothing. Pure: no I/O, no clock.
//!
//! Names of pages and buttons are the French ones of the Entra admin centre. What a server or the system said stays in its own words.
#![deny(clippy::wildcard_enum_match_arm)]

use super::Context;
use super::saying::Saying;
use super::words::{quoted, shell};
use crate::cursor::Full;
use crate::entra::{AssertionError, Shown};
use crate::source::Extension;

const LATE: &str = "Un changement prend effet en quelques minutes, parfois en une heure.";

pub(super) fn text(saying: &Saying<'_>, context: &Context<'_>) -> String {
    let Context { mailbox, role, tenant_id, client_id, credential_name, folder, authority, imap_host, .. } = *context;
    let protocol = if role.starts_with("POP.") { "POP3" } else { "IMAP" };
    match saying {
        Saying::EntraUnreachable { text } => {
            format!("{authority} est injoignable : {}. Autorisez la sortie vers cette adresse (TCP 443 pour Microsoft).", quoted(text))
        }
        Saying::EntraBusy { status, wait: _ } => {
            format!("Entra est surchargé (HTTP {status}) ; un nouvel essai suit de lui-même.")
        }
        Saying::EntraOdd { what } => {
            format!("La réponse de {authority} ne contient pas de jeton : {what}. Un intermédiaire répond-il à la place d'Entra ?")
        }
        Saying::EntraUnknownRefusal { status, error, text } => {
            format!("Entra refuse le jeton (HTTP {status} {}) : {}", quoted(error), quoted(text))
        }
        Saying::TenantUnknown => format!(
            "Le locataire {tenant_id} est inconnu. Copiez « ID de l'annuaire (locataire) » depuis la Vue d'ensemble de l'inscription \
             d'application dans la clé tenantId du Secret {credential_name} ; vérifiez le cloud."
        ),
        Saying::AppUnknown => format!(
            "Il n'y a pas d'application {client_id} dans le locataire {tenant_id}. Copiez « ID d'application (client) », et non un ID d'objet ou \
             un ID de secret, depuis la Vue d'ensemble de l'inscription d'application dans la clé clientId du Secret {credential_name} ; vérifiez \
             tenantId, qui se trouve sur la même page."
        ),
        Saying::EnterpriseApplicationMissing => format!(
            "L'application {client_id} n'a pas d'application d'entreprise dans le locataire {tenant_id}. Choisissez « Accorder un consentement \
             d'administrateur » sous Autorisations de l'API, ce qui la crée, ou exécutez : az ad sp create --id {}",
            shell(client_id)
        ),
        Saying::SecretIdStored => format!(
            "Le Secret {credential_name} contient l'ID de secret et non sa Valeur. La Valeur n'est affichée qu'une fois : créez un nouveau secret \
             client de l'application {client_id} sous « Certificats & secrets » et mettez sa Valeur dans la clé clientSecret."
        ),
        Saying::SecretWrong => format!(
            "La clé clientSecret du Secret {credential_name} n'est pas un secret valide de l'application {client_id} : valeur erronée, tronquée ou \
             supprimée. Créez un nouveau secret client sous « Certificats & secrets » et mettez-y sa Valeur."
        ),
        Saying::SecretExpired => format!(
            "Le secret client de l'application {client_id} a expiré. Créez-en un nouveau sous « Certificats & secrets » (24 mois au plus) et mettez \
             sa Valeur dans la clé clientSecret du Secret {credential_name}."
        ),
        Saying::SecretEmpty => format!(
            "Entra n'a pas reçu de secret. La clé clientSecret du Secret {credential_name} est vide : mettez-y la Valeur du secret client."
        ),
        Saying::PublicClient => format!(
            "L'application {client_id} est un client public, qui n'a pas de secret. Sous Authentification, réglez « Autoriser les flux clients \
             publics » sur Non, ou inscrivez une application de type Web."
        ),
        Saying::CertificateUnknown { shown } => {
            let which = match shown {
                Some(Shown::Certificate { sha1, sha256 }) => format!(" (empreinte {sha1}, SHA-256 {sha256})"),
                Some(Shown::Federated { .. }) | None => String::new(),
            };
            format!(
                "Le certificat du Secret {credential_name}{which} n'est pas inscrit pour l'application {client_id}. Chargez sa partie publique, \
                 tls.crt, sous « Certificats & secrets » → Certificats ; l'empreinte affichée doit être celle-ci."
            )
        }
        Saying::CertificateExpired { not_after } => format!(
            "Le certificat de l'application {client_id} a expiré le {not_after}. Créez-en un nouveau, chargez sa partie publique sous \
             « Certificats & secrets » → Certificats, et mettez-le avec sa clé dans tls.crt et tls.key du Secret {credential_name}."
        ),
        Saying::AssertionOutOfTime => "L'assertion est hors de sa durée de validité : vérifiez l'horloge du nœud.".to_owned(),
        Saying::FederatedMismatch { shown } => {
            let values = match shown {
                Some(Shown::Federated { issuer, subject, audience }) => {
                    format!("émetteur « {} », objet « {} », audience « {} »", quoted(issuer), quoted(subject), quoted(audience))
                }
                Some(Shown::Certificate { .. }) | None => "l'émetteur, l'objet et l'audience du jeton du compte de service".to_owned(),
            };
            format!(
                "Aucune information d'identification fédérée de l'application {client_id} ne correspond. Ajoutez-en une sous « Certificats & \
                 secrets » → Informations d'identification fédérées → « Autre émetteur », avec exactement : {values}. Les lettres, la casse et \
                 une barre finale comptent. {LATE}"
            )
        }
        Saying::NoAssertion { error } => no_assertion(error),
        Saying::ScopeRefused => format!(
            "Entra n'accepte pas l'étendue d'Exchange Online pour l'application {client_id}. Vérifiez que le cloud du Secret {credential_name} est \
             celui du locataire."
        ),
        Saying::ExchangeUnknownInTenant => format!(
            "Exchange Online est inconnu dans le locataire {tenant_id} : le cloud du Secret {credential_name} est erroné, ou le locataire n'a pas \
             d'abonnement à Exchange Online."
        ),
        Saying::AppDisabled => format!(
            "L'application {client_id} est désactivée dans le locataire {tenant_id}. Applications d'entreprise → l'application → Propriétés → \
             « Activé pour que les utilisateurs se connectent » = Oui, ou exécutez : az ad sp update --id {} --set accountEnabled=true",
            shell(client_id)
        ),
        Saying::ConditionalAccess => format!(
            "Une stratégie d'accès conditionnel pour les identités de charge de travail bloque l'application {client_id}. Autorisez-y les adresses \
             de sortie du cluster, ou excluez l'application."
        ),
        Saying::TokenForAnotherApi { audience } => format!(
            "Le jeton est destiné à {} et non à Exchange Online. Vérifiez que le cloud du Secret {credential_name} est celui du locataire.",
            quoted(audience)
        ),
        Saying::DelegatedToken => format!(
            "Le jeton est délégué. Autorisations de l'API → Ajouter une autorisation → API utilisées par mon organisation → Office 365 Exchange \
             Online → Autorisations d'application (et non déléguées) → {role} ; puis « Accorder un consentement d'administrateur »."
        ),
        Saying::NoRoles => format!(
            "Le jeton de l'application {client_id} ne porte aucun rôle. Autorisations de l'API → Ajouter une autorisation → API utilisées par mon \
             organisation → Office 365 Exchange Online (et non Microsoft Graph) → Autorisations d'application → {role} ; puis « Accorder un \
             consentement d'administrateur ». {LATE}"
        ),
        Saying::OtherRoles { roles } => format!(
            "Le jeton de l'application {client_id} porte {}, mais {protocol} exige {role}. Ajoutez cette autorisation (Autorisations de l'API → \
             Office 365 Exchange Online → Autorisations d'application) et accordez de nouveau un consentement d'administrateur.",
            quoted(&roles.join(", "))
        ),
        Saying::AppUnknownToExchange => app_unknown_to_exchange(context),
        Saying::MailboxOfAnotherTenant { token, mailbox: home } => format!(
            "{mailbox} appartient au locataire {}, alors que le jeton est celui du locataire {}. Inscrivez l'application dans le locataire de la \
             boîte et mettez son ID dans la clé tenantId du Secret {credential_name}, ou corrigez l'adresse de la boîte.",
            quoted(home),
            quoted(token)
        ),
        Saying::OnlyThisMailboxRefused { works } => format!(
            "Exchange refuse {mailbox}, alors que l'application ouvre {} : son inscription est bonne. Vérifiez l'adresse de la boîte, son existence \
             et sa licence. {LATE}",
            works.map_or_else(|| "une autre boîte".to_owned(), quoted)
        ),
        Saying::PopRefused => pop_refused(context),
        Saying::PopOff => format!(
            "POP3 refuse {mailbox}, qu'IMAP ouvre avec le même jeton : POP3 y est désactivé. Exécutez dans Exchange Online PowerShell : \
             Set-CASMailbox -Identity {} -PopEnabled $true. {LATE}",
            shell(mailbox)
        ),
        Saying::PopTokenRefused { bytes } => format!(
            "Le POP3 d'Exchange refuse les jetons de plus de 4096 caractères{}. Inscrivez une application qui n'a que POP.AccessAsApp, ou collectez \
             par IMAP.",
            bytes.map(|bytes| format!(" (celui-ci en a {bytes})")).unwrap_or_default()
        ),
        Saying::AccessMissing => access_missing(context, protocol),
        Saying::RefusedAfterSuccess => format!(
            "Exchange refuse {mailbox} pour le moment, alors que la collecte fonctionnait. Si cela dure plus de 30 minutes, cherchez un incident de \
             service et vérifiez le droit FullAccess de l'application ainsi que l'activation de {protocol} pour la boîte."
        ),
        Saying::AllRefused => format!(
            "Exchange refuse à la fois toutes les boîtes de l'application {client_id}, qui fonctionnaient : c'est probablement un incident \
             d'Exchange Online. De nouveaux essais suivent d'eux-mêmes ; consultez l'état d'intégrité des services de Microsoft 365."
        ),
        Saying::Throttled { wait: Some(wait) } => {
            let minutes = wait.as_secs().div_ceil(60).max(1);
            format!("Exchange limite {mailbox} et demande d'attendre jusqu'à {minutes} min ; un nouvel essai suit de lui-même.")
        }
        Saying::Throttled { wait: None } => format!("Exchange limite {mailbox} ; un nouvel essai suit de lui-même."),
        Saying::TokenRanOut => "Le jeton a expiré pendant la session ; reconnexion avec un nouveau jeton.".to_owned(),
        Saying::FolderMissing => format!(
            "{mailbox} n'a pas de dossier « {} ». Les noms de dossiers sont ceux de la langue de la boîte, avec « / » entre les niveaux ; corrigez \
             spec.folders ou créez le dossier.",
            quoted(folder)
        ),
        Saying::TargetMissing => format!(
            "{mailbox} n'a pas de dossier « {} », où spec.afterDelivery range le courrier. Créez ce dossier dans la boîte (Outlook : Nouveau \
             dossier), ou corrigez spec.afterDelivery.folder : les noms sont ceux de la langue de la boîte, avec « / » entre les niveaux. D'ici là \
             ce qui est livré reste à sa place et n'est pas collecté une seconde fois.",
            quoted(folder)
        ),
        Saying::FolderReadOnly => {
            let (app, mailbox) = (shell(client_id), shell(mailbox));
            format!(
                "L'application peut lire cette boîte mais non la modifier : spec.afterDelivery ne peut être exécuté ; le courrier est collecté \
                 malgré tout. Accordez FullAccess dans Exchange Online PowerShell : $sp = Get-ServicePrincipal -Identity {app}; \
                 Add-MailboxPermission -Identity {mailbox} -User $sp.Identity -AccessRights FullAccess. Ou écrivez afterDelivery: {{action: \
                 Keep}}. {LATE}"
            )
        }
        Saying::SettlingUnsupported { extension } => format!(
            "{imap_host} n'offre pas {extension}, dont spec.afterDelivery a besoin ; le courrier est collecté et reste dans la boîte. Écrivez \
             afterDelivery: {{action: {}}} ou {{action: Keep}}.",
            match extension {
                Extension::Move => "Delete",
                Extension::UidPlus => "MarkSeen",
            }
        ),
        Saying::MailboxUnreachable { text } => {
            format!("{imap_host} est injoignable : {}. Autorisez la sortie vers cette adresse.", quoted(text))
        }
        Saying::TlsFailed { text } => format!(
            "La connexion TLS avec {imap_host} a échoué : {}. Est-ce le bon serveur, et rien n'intercepte-t-il TLS ? (Une autorité de certification \
             privée s'ajoute par --ca-file.)",
            quoted(text)
        ),
        Saying::ConnectionBroke { text } => format!("La connexion avec {imap_host} a été coupée : {}.", quoted(text)),
        Saying::NoAnswerInTime => format!("{imap_host} n'a pas répondu à temps."),
        Saying::ServerClosed => format!("{imap_host} a fermé la connexion."),
        Saying::ServerRefused { text } => format!("{imap_host} a répondu : {}", quoted(text)),
        Saying::CommandRefused { text } => format!(
            "{imap_host} n'a pas accepté une commande : {}. C'est une faute du programme et non de votre configuration ; merci de la signaler.",
            quoted(text)
        ),
        Saying::NotUnderstood { what } => format!("{imap_host} a envoyé quelque chose d'inutilisable : {what}."),
        Saying::SessionGivenUp => format!("La session avec {imap_host} a été abandonnée après un échec."),
        Saying::SinksTakeNoMore => "Les destinations n'acceptent plus rien pour le moment ; rien n'est perdu.".to_owned(),
        Saying::SinkFull { path } => {
            format!("Le système de fichiers de « {} » est plein, ou son quota est épuisé. Libérez ou ajoutez de l'espace.", quoted(path))
        }
        Saying::SinkReadOnly { path } => format!("Le système de fichiers de « {} » est monté en lecture seule.", quoted(path)),
        Saying::SinkForbidden { path } => format!(
            "L'opérateur ne peut pas écrire dans « {} ». Donnez-en le droit à son utilisateur (dans un pod : securityContext.fsGroup du volume).",
            quoted(path)
        ),
        Saying::SinkNotADirectory { path } => format!(
            "« {} » n'est pas un simple répertoire : un fichier ou un lien symbolique se trouve dans le chemin, et aucun n'est suivi. Supprimez-le, \
             ou changez le chemin de la destination.",
            quoted(path)
        ),
        Saying::SinkFailed { operation, path, text } => {
            format!("L'écriture de « {} » a échoué ({operation}) : {}.", quoted(path), quoted(text))
        }
        Saying::SinkCrowded { path, limit } => format!(
            "{path} contient plus de {limit} messages, trop pour y chercher des copies. Laissez le système documentaire les retirer, ou indiquez un \
             autre chemin."
        ),
        Saying::CursorFull { full } => format!(
            "La collecte est arrêtée pour que rien ne se perde : {}. Cherchez ce qui empêche de collecter ces messages ; ils sont intacts sur le \
             serveur.",
            bound(*full)
        ),
        Saying::CursorUnreadable { text } => format!(
            "Ce qui est mémorisé de cette boîte est illisible, donc rien n'est collecté : {}. Restaurez-le ; ou supprimez-le, et tout sera comparé \
             à ce que contiennent les destinations.",
            quoted(text)
        ),
        Saying::SpoolFull { quota } => format!(
            "L'espace tampon ({quota} octets pour tout l'opérateur) n'a pas de place pour un long message ; un nouvel essai suit de lui-même. Si \
             cela dure, augmentez --spool-bytes et l'espace de son volume (Helm : spool.sizeLimit)."
        ),
        Saying::SinkAddressNotAllowed { host, address, port } => format!(
            "L'opérateur n'a pas le droit de se connecter à {} ({address}), port {port} : les adresses privées, locales et réservées ainsi que les \
             ports inhabituels demandent l'accord de qui l'a installé. Helm : --set 'sinks.allowCIDRs={{{address}/{}}}' --set \
             'sinks.allowPorts={{{port}}}'",
            quoted(host),
            if address.is_ipv4() { 32 } else { 128 }
        ),
        Saying::SinkAuthenticationRefused { code } => format!(
            "La destination refuse les identifiants (code {code}). Corrigez ce que contient le secretRef de la destination, ou les droits de cet \
             utilisateur."
        ),
        Saying::SinkRefuses { code } => {
            format!("La destination refuse (code {code}). Consultez son journal, et vérifiez son adresse dans le spec.")
        }
        Saying::SinkRefusesAll { code: Some(code) } => format!(
            "La destination refuse message après message (code {code}) : elle est donc en cause ; rien d'autre n'est abandonné d'ici là. Consultez \
             son journal : son adresse, les droits des identifiants, ses limites."
        ),
        Saying::SinkRefusesAll { code: None } => {
            "La destination refuse message après message : elle est donc en cause ; rien d'autre n'est abandonné d'ici là. Consultez son journal."
                .to_owned()
        }
        Saying::SinkUnfit { what } => format!("La destination ne peut pas prendre ce message : {what}."),
        Saying::SinkUnavailable { step, code: Some(code), .. } => {
            format!("La destination ne prend rien pour le moment ({step} : code {code}) ; un nouvel essai suit de lui-même et rien ne se perd.")
        }
        Saying::SinkUnavailable { step, code: None, text, .. } => {
            format!("La destination est inutilisable ({step} : {}). Un nouvel essai suit de lui-même.", quoted(text))
        }
        Saying::SinkGone => "L'écriture de la destination s'est terminée ; le processus s'arrête ou doit être redémarré.".to_owned(),
        Saying::SinkSlow => "La destination n'a pas répondu à temps.".to_owned(),
    }
}

fn bound(full: Full) -> &'static str {
    match full {
        Full::Bytes => "l'état mémorisé a atteint sa taille maximale",
        Full::Ranges => "les messages traités d'un dossier forment trop de plages",
        Full::Owed => "trop de messages n'ont pu être lus ou remis",
        Full::Quarantined => "trop de messages sont en quarantaine",
        Full::Unsettled => "trop de messages remis attendent d'être déplacés, supprimés ou marqués",
    }
}

fn no_assertion(error: &AssertionError) -> String {
    match error {
        AssertionError::NotFound { namespace, name } => format!(
            "Il n'y a pas de compte de service {name} dans l'espace de noms {namespace}, dont le jeton est reconnu par l'application. Créez-le : \
             kubectl create serviceaccount {} --namespace {}",
            shell(name),
            shell(namespace)
        ),
        AssertionError::Forbidden { name, text } => format!(
            "L'opérateur ne peut pas créer de jeton du compte de service {name} : {}. Qui l'a installé doit régler la valeur Helm \
             workloadIdentity.enabled=true.",
            quoted(text)
        ),
        AssertionError::File { path, text } => format!(
            "Le fichier de jeton « {} » est inutilisable : {}. Donnez un fichier contenant le jeton d'un compte de service.",
            quoted(path),
            quoted(text)
        ),
        AssertionError::Unavailable(text) => {
            format!("Pas de jeton du compte de service pour l'instant : {} ; un nouvel essai suit de lui-même.", quoted(text))
        }
        AssertionError::NoSource => {
            "Il n'y a pas de jeton d'un compte de service à présenter : donnez-en un par --federated-token-file (ou \
                                     AZURE_FEDERATED_TOKEN_FILE)."
                .to_owned()
        }
    }
}

fn app_unknown_to_exchange(context: &Context<'_>) -> String {
    let app = shell(context.client_id);
    let (object, must_be) = object_id(context);
    format!(
        "Exchange n'accepte pas l'application {} pour {}. Exécutez dans Exchange Online PowerShell : New-ServicePrincipal -AppId {app} -ObjectId \
         {object} -DisplayName 'mailbox-collector'. S'il existe déjà : Get-ServicePrincipal -Identity {app} | fl AppId,ObjectId ; ObjectId doit \
         être {must_be}, sinon exécutez Remove-ServicePrincipal -Identity {app} et créez-le de nouveau. Vérifiez l'adresse de la boîte. {LATE}",
        context.client_id, context.mailbox
    )
}

fn access_missing(context: &Context<'_>, protocol: &str) -> String {
    let switch = if protocol == "POP3" { "PopEnabled" } else { "ImapEnabled" };
    let (app, mailbox) = (shell(context.client_id), shell(context.mailbox));
    format!(
        "L'application ne peut pas ouvrir {} : le droit FullAccess manque, ou {protocol} est désactivé pour la boîte. Exécutez les deux dans Exchange \
         Online PowerShell : $sp = Get-ServicePrincipal -Identity {app}; Add-MailboxPermission -Identity {mailbox} -User $sp.Identity -AccessRights \
         FullAccess; Set-CASMailbox -Identity {mailbox} -{switch} $true. {LATE}",
        context.mailbox
    )
}

/// All causes in one message: it must stay within its bound, or the last command would be cut.
fn pop_refused(context: &Context<'_>) -> String {
    let (app, mailbox) = (shell(context.client_id), shell(context.mailbox));
    let (object, _) = object_id(context);
    format!(
        "POP3 ne dit pas pourquoi il refuse. Exécutez dans Exchange Online PowerShell, dans cet ordre : New-ServicePrincipal -AppId {app} -ObjectId \
         {object} (s'il existe déjà, son ObjectId doit être celui-ci) ; $sp = Get-ServicePrincipal -Identity {app}; Add-MailboxPermission -Identity \
         {mailbox} -User $sp.Identity -AccessRights FullAccess; Set-CASMailbox -Identity {mailbox} -PopEnabled $true. Vérifiez l'adresse de la boîte. \
         {LATE}"
    )
}

/// For a command, and for a sentence. The object id of the app *registration* is what people take most often by mistake.
fn object_id(context: &Context<'_>) -> (String, String) {
    match context.object_id {
        Some(id) => (shell(id), id.to_owned()),
        None => (
            "<ID d'objet>".to_owned(),
            "celui affiché sous Applications d'entreprise → l'application → Vue d'ensemble (et non sous Inscriptions d'applications)"
                .to_owned(),
        ),
    }
}
